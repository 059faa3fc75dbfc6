"""Turns whose code is kept (`%%lash --keep`): whether a request has such code, and what is kept of a turn.

Decided here: code that this user kept on this machine runs; what a notebook brings along and is not known here runs
when somebody agrees to it, and is this user's from then on. What a turn ran to its result is kept, without dead
attempts; of a turn that ran no code, or code of another language than Python, nothing is. A turn whose kept code did
keeps it as it is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from .accepted import accepted_cells
from .accepted.lasting import Turned
from .accepted.statements import joined, statements
from .ejecting.sources import names_of
from .errors import JournalError
from .inserting.finishes import ended
from .kept_answers import results_digest
from .machine.activity import CodeKept
from .machine.events import PluginEvent, StatusRuntimeEvent, TurnActivity
from .machine.execution import CellOutcome, ErrorOutput
from .machine.picture import StepPicture, TurnPicture
from .stores.kept import KeptCode, KeptStore

__all__ = ["Found", "Keeping", "diff_text"]

_CALLS = "the model called tools itself, and what they gave is in no code"
_NO_CODE = "the turn ran no Python code that could run again"
_NO_REPAIR = "this turn did not come to what that gives (`--check` says what has to hold)"
_ALIKE = 0.4
"""Of the words of code that names nothing, how many have to be in what is to replace it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is for a request."""

    known: KeptCode | None = None
    """What this user kept."""
    foreign: KeptCode | None = None
    """What the notebook brings along and nobody here has kept, where it is newer or the only one."""


class Keeping:
    """What is kept for one notebook.

    Args:
        store: what this user has kept.
        place: the notebook, as it is known on this machine.
        carried: what the notebook carries; untrusted.
        carry: has the notebook carry that, too.
    """

    def __init__(
        self,
        store: KeptStore,
        *,
        place: Callable[[], str],
        carried: Callable[[], Iterable[KeptCode]],
        carry: Callable[[KeptCode], None],
    ) -> None:
        self._store, self._place, self._carried, self._carry = store, place, carried, carry

    def find(self, request: str, *, cell: str | None) -> Found:
        """The code to run for a request in that cell of the notebook."""
        here = self._store.newest(request, place=self._place(), cell=cell)
        carried = [code for code in self._carried() if code.is_for(request, cell)]
        known = [replace(one, cell=code.cell) for code in carried if (one := self._store.known(code)) is not None]
        ours = max([*known, *([here] if here is not None else [])], key=_age, default=None)
        digests = {code.sha256 for code in known}
        foreign = max((code for code in carried if code.sha256 not in digests), key=_age, default=None)
        if ours is not None and foreign is not None and foreign.at <= ours.at:
            foreign = None
        return Found(known=ours, foreign=foreign)

    def agree(self, code: KeptCode) -> None:
        """The user has seen that code and wants it run. Raises JournalError: that cannot be recorded."""
        self._store.keep(replace(code, at=_now()), place=self._place())

    def concluding(
        self,
        *,
        session: str,
        cell: str | None,
        before: KeptCode | None,
        request: str = "",
        needed: Collection[str] = (),
        results: Collection[str] = (),
        checked: bool = False,
        asked: Callable[[], bool] = lambda: True,
        refresh: bool = False,
    ) -> Callable[[TurnPicture], Awaitable[Sequence[TurnActivity]]]:
        """What a turn is to be concluded with: its code is kept, in the place of `before`.

        Args:
            request: what the code is found by; empty: the turn's request.
            needed: names that it is to leave, or may; of those that it must, `results`, none may be missing.
            checked: something had to hold before it could end.
            asked: whether a model was asked; without one nothing is changed.
            refresh: the user wanted other code: it need not do what that of `before` did.
        """

        async def conclude(picture: TurnPicture) -> Sequence[TurnActivity]:
            if before is not None and not asked():
                return self._stays(before)
            code = _kept_of(picture, session=session, cell=cell, before=before, needed=needed)
            if code is not None and picture.protocol == "tools" and any(step.native_calls for step in picture.steps):
                return [_said(f"nothing was kept: {_CALLS}")] if before is None else self._stays(before, _CALLS)
            lacks = () if code is None else sorted({*results} - _made(code))
            if code is None or lacks:
                why = f"it made no {', '.join(lacks)}" if lacks else _NO_CODE
                return [_said(f"nothing was kept: {why}")] if before is None else self._stays(before, why)
            code = replace(code, request=request or code.request)
            if before is not None and before.cells == code.cells:
                return self._stays(before)
            if before is not None and not (refresh or checked or _does_as_much(code, before)):
                return self._stays(before, _NO_REPAIR)
            try:
                self._store.keep(code, place=self._place())
            except JournalError as error:
                return [_said(str(error))]
            self._carry(code)
            diff = "" if before is None else diff_text(before.cells, code.cells)
            return [CodeKept(sha256=code.sha256, cells=len(code.cells), diff=diff)]

        return conclude

    def _stays(self, code: KeptCode, why: str = "") -> Sequence[TurnActivity]:
        self._carry(code)
        return [_said(f"the kept code stays as it was: {why}")] if why else []


def _age(code: KeptCode) -> str:
    return code.at


def _said(sentence: str) -> PluginEvent:
    return PluginEvent(plugin_id="kept", event=StatusRuntimeEvent(key="kept", label=sentence))


def _kept_of(
    picture: TurnPicture, *, session: str, cell: str | None, before: KeptCode | None, needed: Collection[str]
) -> KeptCode | None:
    cells = accepted_cells(picture, needed=needed)
    if not cells or any(_is_of_another_language(step) for step in picture.steps):
        return None
    last = picture.steps[-1]
    if _ran(picture)[-1].outcome is not CellOutcome.OK:
        return None
    # The value of any other cell was refused, and would end the turn where it is not.
    ends = cells[-1] if last.code is not None else None
    code = {one.step: one.code if one is ends else _without_finish(one.code) for one in cells}
    if not any(code.values()):
        return None
    return KeptCode(
        request=picture.request,
        cells=tuple(filter(None, code.values())),
        answer=last.prose.strip() or None if last.code is None else None,
        results=_results(picture, code),
        cell=cell,
        at=max(_now(), _later(before.at) if before is not None else ""),
        turn=f"{session}.{picture.turn}",
        parent=before.sha256 if before is not None else "",
    )


def _results(picture: TurnPicture, code: Mapping[int, str]) -> str:
    """The digest of what the kept code gave; empty where the model saw other outputs, too, and may speak of those."""
    dropped = [step for at, step in enumerate(picture.steps) if step.code is not None and code.get(at) != step.code]
    if any(not isinstance(output, ErrorOutput) for step in dropped for output in step.outputs):
        return ""
    return results_digest(picture.steps[at].outputs for at, source in code.items() if source)


def _ran(picture: TurnPicture) -> list[StepPicture]:
    return [step for step in picture.steps if step.code is not None and step.outcome is not None]


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")


def _later(at: str) -> str:
    """A moment behind that one: what is kept in the place of something is newer, whatever the clock says."""
    try:
        return (datetime.fromisoformat(at) + timedelta(microseconds=1)).isoformat(timespec="microseconds")
    except (ValueError, OverflowError):
        return ""


def _without_finish(code: str) -> str:
    """A cell that ends no turn; as it is, where that cannot be told from it."""
    parts = statements(code)
    if parts is None or "finish" not in names_of(code).used:
        return code
    made = ended(parts, last=False, turned=Turned.of(node for part in parts for node in part.nodes))
    return code if made.caught else joined(made.parts)


def _does_as_much(code: KeptCode, before: KeptCode) -> bool:
    """Whether the code of a turn can stand in the place of what was kept, where nothing vouches for its result: a turn
    may also end with words, or a value, that say why it did not come to anything."""
    wanted = names_of(before.cells[-1]).assigned
    if wanted and not wanted <= _made(code):
        return False
    return bool(wanted) or difflib.SequenceMatcher(None, _words(before), _words(code)).ratio() >= _ALIKE


def _made(code: KeptCode) -> frozenset[str]:
    return frozenset().union(*(names_of(cell).assigned for cell in code.cells))


def _words(code: KeptCode) -> list[str]:
    return re.findall(r"\w+", "\n".join(code.cells))


def _is_of_another_language(step: StepPicture) -> bool:
    return step.code is not None and step.outcome is not None and not step.language.casefold().startswith("python")


def diff_text(before: Sequence[str], after: Sequence[str]) -> str:
    """How the cells differ, as a unified diff without its heading."""
    lines = list(difflib.unified_diff(_lines(before), _lines(after), n=3, lineterm=""))
    return "\n".join(lines[2:])


def _lines(cells: Sequence[str]) -> list[str]:
    return "\n\n".join(cell.strip("\n") for cell in cells).split("\n")
