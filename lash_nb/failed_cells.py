"""The cell of the notebook that is to be fixed: the last one that failed, the last one that ran, or one that is named.

Decided here: texts are kept, and no exception, since that would keep all that its frames hold. Cells of `%lash` are
not the notebook's own, and what is run without a place in its history is no cell. A cell that ran well after it failed
is no failed one any more. What failed before lash_nb was loaded is known as far as IPython has kept it. One that was
interrupted did not fail. Light to import: each cell that runs is looked at.
"""

from __future__ import annotations

import ast
import difflib
import re
from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from .errors import InputError

__all__ = ["SeenCell", "SeenCells"]

_OUR_CELL = re.compile(r"^[ \t]*%%lash\b", re.MULTILINE)
_OURS = re.compile(
    r"[ \t]*(?:(?:[^\W\d]\w*[ \t]*=[ \t]*)?%lash\b|%(?:(?:re|un)?load_ext[ \t]+lash_nb\b|config[ \t]+Lash\b))"
)
_BLANK = re.compile(r"[ \t]*(?:#.*)?")
_UNREAD = ("IndentationError", "SyntaxError", "TabError")
_MOST_SINCE = 5
"""Cells that ran behind a failed one which is still meant."""
_MOST_NAMED = 50
"""Cells that can be meant by their number."""
_RUNS_CELL = re.compile(r"\A\s*%%[^\n]*\n")
_RUNS_LINE = re.compile(r"^([ \t]*)%(?:time|prun|memit)[ \t]+", re.MULTILINE)
"""Magics that run the code behind them."""
_LIKE, _LOOKED_AT_CHARS = 0.7, 4_000
_WORD = re.compile(r"\w+")
_MOST_EARLIER = 200
"""Cells that ran before lash_nb was loaded."""
_MOST_LINES, _MOST_CHARS = 400, 20_000
"""From each end of a traceback, and of a message, what is looked at at all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SeenCell:
    """One cell as it was run."""

    number: int
    """Its execution count."""
    raw: str
    """As it stands in the notebook."""
    source: str
    """Without lines of ours above it."""
    head: str = ""
    """Those."""
    cell_id: str | None = None
    """Of the page, where that is known."""
    error: str = ""
    """The name of the error's type; empty: it did not fail."""
    message: str = ""
    traceback: str = ""
    """Cut to what is the user's own; it ends with the error."""
    begun: bool = True
    """Whether any of it has run: not, where it could not be read."""

    @property
    def failed(self) -> bool:
        return bool(self.error)

    @property
    def problem(self) -> str:
        """The error in one line; empty: it did not fail."""
        said = self.message.strip().partition("\n")[0]
        return f"{self.error}: {said}" if self.error and said else self.error

    def with_head(self, source: str) -> str:
        """Another source with the lines that stand above this one's."""
        return f"{self.head}\n{source}" if self.head else source


class SeenCells:
    """Remembers them for one shell; `after_cell` is for `post_run_cell`."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self.failed: SeenCell | None = None
        """The last one that failed, and did not run since."""
        self.last: SeenCell | None = None
        """The last one that ran, however it ended."""
        self._inner: tuple[str, tuple[str, str, str]] | None = None
        """Code that failed within a cell that has not ended, as below `%%capture`, and how: that cell ends well."""
        self._since = 0
        """How many cells ran well behind the failed one."""
        self._again = False
        """Whether one of those was much like it."""
        self._recent: deque[SeenCell] = deque(maxlen=_MOST_NAMED)
        self._look_back()

    def after_cell(self, result: object) -> None:
        """Take note of a cell that has ended; it is given the `ExecutionResult`."""
        info, number = getattr(result, "info", None), getattr(result, "execution_count", None)
        raw = getattr(info, "raw_cell", None)
        before, during = (getattr(result, name, None) for name in ("error_before_exec", "error_in_exec"))
        raised = during if before is None else before
        if not isinstance(raw, str) or getattr(info, "silent", False):
            return
        if not getattr(info, "store_history", False):
            self._inner = (raw.strip(), self._error(None, raised)) if raised is not None else None
            return
        if not isinstance(number, int):  # so it is where an error could not be shown
            number = self._last_number(raw)
        if number is None:
            return
        inner, self._inner = self._inner, None
        cell = _own(raw, number)
        if cell is None:
            return
        cell_id = getattr(info, "cell_id", None)
        cell = replace(cell, cell_id=cell_id if isinstance(cell_id, str) else None)
        if isinstance(raised, KeyboardInterrupt):
            pass  # that was wanted
        elif raised is not None:
            name, message, traceback = self._error(number, raised)
            cell = replace(cell, error=name, message=message, traceback=traceback, begun=before is None)
        elif inner is not None and inner[0] in raw:
            name, message, traceback = inner[1]
            cell = replace(cell, error=name, message=message, traceback=traceback)
        self._take(cell)

    def to_fix(self, text: str, *, number: int | None = None) -> SeenCell:
        """The cell that somebody means who says `text` of it, or nothing: then it has to have failed.

        Words are about the last one. Where that one only looks at something, they are about one that failed a few cells
        before, unless one like it has run since. One can also be named, by the `number` that it ran under.

        Raises InputError: there is none.
        """
        if number is not None:
            return self._named(number, text)
        found = self.failed
        if text and self.last is not None and (self._since > _MOST_SINCE or self._again or not _only_looks(self.last)):
            found = self.last
        found = found or (self.last if text else None)
        if found is None and text:
            raise InputError("no cell of the notebook has run since it was started: there is nothing to fix")
        if found is None:
            raise InputError(
                "no cell of the notebook has failed (or it ran since); if what the last one gives is wrong, "
                "say so: `%lash fix TEXT`"
            )
        return found

    def _named(self, number: int, text: str) -> SeenCell:
        found = next((cell for cell in reversed(self._recent) if cell.number == number), None)
        if found is None:
            there = _numbers(cell.number for cell in self._recent)
            raise InputError(
                f"[{number}] is none of the last {_MOST_NAMED} cells of the notebook that ran: "
                f"{f'there are {there}' if there else 'there is none yet'}; cells of lash are not counted"
            )
        if not (found.failed or text):
            raise InputError(f"cell [{number}] did not fail: say what is wrong with it, `%lash fix [{number}] TEXT`")
        return found

    def _last_number(self, raw: str) -> int | None:
        """Of the cell that has run just now, as the history has it."""
        sources = _sources(self._shell)
        return len(sources) - 1 if sources and str(sources[-1]).strip() == raw.strip() else None

    def _take(self, cell: SeenCell) -> None:
        self.last = cell
        self._recent.append(cell)
        if cell.failed:
            self.failed, self._since, self._again = cell, 0, False
        elif self.failed is not None and _same(cell, self.failed):
            self.failed = None
        elif self.failed is not None:
            self._since += 1
            self._again = self._again or _like(cell, self.failed)

    def _error(self, number: int | None, raised: BaseException) -> tuple[str, str, str]:
        """Type, message and traceback, as IPython has shown them already."""
        name = str(_TYPE_NAME.__get__(type(raised)))
        found = _kept(self._shell, number) if number is not None else None
        kept = dict(found or {})
        if found is None:
            kept = {"ename": name, "evalue": "", "traceback": getattr(self._shell, "_last_traceback", None)}
            with suppress(Exception):
                kept["evalue"] = str(raised)
        return name, *_texts(kept)

    def _look_back(self) -> None:
        sources = _sources(self._shell)
        for number in range(max(1, len(sources) - _MOST_EARLIER), len(sources)):
            cell = _own(sources[number], number) if isinstance(sources[number], str) else None
            if cell is None:
                continue
            kept = _kept(self._shell, number)
            name = kept.get("ename") if kept is not None else None
            if kept is not None and isinstance(name, str) and name and name != "KeyboardInterrupt":
                message, traceback = _texts(kept)
                begun = name not in _UNREAD
                cell = replace(cell, error=name, message=message, traceback=traceback, begun=begun)
            self._take(cell)


def _own(raw: str, number: int) -> SeenCell | None:
    """A cell without the lines of ours at its top; None: it has others, or nothing else."""
    if _OUR_CELL.search(raw):
        return None
    lines = raw.split("\n")
    at = next((at for at, line in enumerate(lines) if not _OURS.match(line) and not _BLANK.fullmatch(line)), None)
    if at is None or any(map(_OURS.match, lines[at:])):
        return None
    ours = [number for number, line in enumerate(lines[:at]) if _OURS.match(line)]
    begin = ours[-1] + 1 if ours else 0
    source = "\n".join(lines[begin:])
    return SeenCell(number=number, raw=raw, source=source.strip("\n"), head="\n".join(lines[:begin]))


def _sources(shell: Any) -> list[Any]:
    """What ran, by number, as far as there is a history."""
    found = getattr(getattr(shell, "history_manager", None), "input_hist_raw", None)
    return found if isinstance(found, list) else []


def _numbers(numbers: Iterable[int]) -> str:
    """As people read them: `[2] to [5], [7]`."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][-1] == number - 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"[{run[0]}] to [{run[-1]}]" if len(run) > 1 else f"[{run[0]}]" for run in runs)


def _only_looks(cell: SeenCell) -> bool:
    """Whether it ran, and binds and changes no name."""
    from .ejecting.sources import plain_python

    if cell.failed:
        return False
    code = _RUNS_LINE.sub(r"\1", _RUNS_CELL.sub("", cell.source, count=1))
    try:
        tree = ast.parse(plain_python(code))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    binds = any(isinstance(node, ast.NamedExpr) for node in ast.walk(tree))
    return not binds and all(isinstance(statement, ast.Expr) for statement in tree.body)


def _same(cell: SeenCell, other: SeenCell) -> bool:
    return cell.source == other.source or (cell.cell_id is not None and cell.cell_id == other.cell_id)


def _like(cell: SeenCell, other: SeenCell) -> bool:
    words: list[list[str]] = [_WORD.findall(one.source[:_LOOKED_AT_CHARS]) for one in (cell, other)]
    return difflib.SequenceMatcher(a=words[0], b=words[1], autojunk=False).ratio() >= _LIKE


def _kept(shell: Any, number: int) -> Mapping[str, object] | None:
    """What IPython has kept of the error of a cell, where it keeps that."""
    errors = getattr(getattr(shell, "history_manager", None), "exceptions", None)
    found = errors.get(number) if isinstance(errors, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _texts(kept: Mapping[str, object]) -> tuple[str, str]:
    """Message and traceback, for reading."""
    from .machine.execution import ErrorOutput
    from .machine.tracebacks import traceback_text
    from .views.pieces import clean, cut

    name, message, frames = (kept.get(part) for part in ("ename", "evalue", "traceback"))
    said = clean(cut(message, head_chars=_MOST_CHARS, tail_chars=0)) if isinstance(message, str) else ""
    texts = [text for text in frames if isinstance(text, str)] if isinstance(frames, (list, tuple)) else []
    if len(texts) > 2 * _MOST_LINES:
        texts = [*texts[:_MOST_LINES], *texts[-_MOST_LINES:]]
    texts = [clean(cut(text, head_chars=_MOST_CHARS, tail_chars=_MOST_CHARS)) for text in texts]
    error = ErrorOutput(ename=name if isinstance(name, str) else "", evalue=said, traceback=tuple(texts))
    return said, traceback_text(error)


_TYPE_NAME: Any = type.__dict__["__name__"]
"""A metaclass may have a `__name__` of its own."""
