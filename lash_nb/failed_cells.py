"""The cell of the notebook that is to be fixed: the last one that failed, or the last one that ran.

Decided here: texts are kept, and no exception, since that would keep all that its frames hold. Cells of `%lash` are
not the notebook's own, and what is run without a place in its history is no cell. A cell that ran well after it failed
is no failed one any more. What failed before lash_nb was loaded is known as far as IPython has kept it. One that was
interrupted did not fail. Light to import: each cell that runs is looked at.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
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
        self._look_back()

    def after_cell(self, result: object) -> None:
        """Take note of a cell that has ended; it is given the `ExecutionResult`."""
        info, number = getattr(result, "info", None), getattr(result, "execution_count", None)
        raw = getattr(info, "raw_cell", None)
        before, during = (getattr(result, name, None) for name in ("error_before_exec", "error_in_exec"))
        raised = during if before is None else before
        if not isinstance(raw, str) or getattr(info, "silent", False):
            return
        if not getattr(info, "store_history", False) or not isinstance(number, int):
            self._inner = (raw.strip(), self._error(None, raised)) if raised is not None else None
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

    def to_fix(self, text: str) -> SeenCell:
        """The cell that somebody means who says `text` of it, or nothing: then it has to have failed.

        Words are about one that failed a few cells before, unless one like it has run since; else about the last one.

        Raises InputError: there is none.
        """
        found = self.failed
        if text and (found is None or self._since > _MOST_SINCE or self._again):
            found = self.last
        if found is None and text:
            raise InputError("no cell of the notebook has run since it was started: there is nothing to fix")
        if found is None:
            raise InputError(
                "no cell of the notebook has failed (or it ran since); if what the last one gives is wrong, "
                "say so: `%lash fix TEXT`"
            )
        return found

    def _take(self, cell: SeenCell) -> None:
        self.last = cell
        if cell.failed:
            self.failed, self._since, self._again = cell, 0, False
        elif self.failed is not None and _same(cell, self.failed):
            self.failed = None
        elif self.failed is not None:
            self._since += 1
            self._again = self._again or _like(cell, self.failed)

    def _error(self, number: int | None, raised: BaseException) -> tuple[str, str, str]:
        """Type, message and traceback, as IPython has shown them already."""
        kept = _kept(self._shell, number) if number is not None else None
        if kept is None:
            with suppress(Exception):
                kept = {"evalue": str(raised), "traceback": getattr(self._shell, "_last_traceback", None)}
        return str(_TYPE_NAME.__get__(type(raised))), *_texts(kept or {})

    def _look_back(self) -> None:
        history = getattr(self._shell, "history_manager", None)
        sources = getattr(history, "input_hist_raw", None)
        if not isinstance(sources, list):
            return
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
