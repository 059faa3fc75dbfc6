"""Turns whose code is kept (`%%lash --keep`): whether a request has such code, and what is kept of a turn.

Decided here: code that this user kept on this machine runs; what a notebook brings along and is not known here runs
when somebody agrees to it, and is this user's from then on. What a turn ran to its result is kept, without dead
attempts; of a turn that ran no code, or code of another language than Python, nothing is. A turn whose kept code did
keeps it as it is.
"""

from __future__ import annotations

import difflib
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from .accepted import accepted_cells
from .accepted.lasting import Turned
from .accepted.statements import joined, statements
from .ejecting.sources import names_of
from .errors import JournalError
from .inserting.finishes import ended
from .kept_answers import results_digest
from .machine.activity import CodeKept
from .machine.events import PluginEvent, StatusRuntimeEvent, TurnActivity
from .machine.execution import CellOutcome
from .machine.picture import StepPicture, TurnPicture
from .stores.kept import KeptCode, KeptStore

__all__ = ["Found", "Keeping", "diff_text"]

_NO_REPAIR = "the kept code stays as it was: this turn did not come to what that gives (a check would say when it does)"
_NOTHING = "nothing was kept: the turn ran no Python code that could run again"


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
        known = [code for code in carried if self._store.has(code)]
        ours = max([*known, *([here] if here is not None else [])], key=_age, default=None)
        foreign = max((code for code in carried if code not in known), key=_age, default=None)
        if ours is not None and foreign is not None and foreign.at <= ours.at:
            foreign = None
        return Found(known=ours, foreign=foreign)

    def agree(self, code: KeptCode) -> None:
        """The user has seen that code and wants it run. Raises JournalError: that cannot be recorded."""
        self._store.keep(code, place=self._place())

    def concluding(
        self,
        *,
        session: str,
        cell: str | None,
        before: KeptCode | None,
        needed: Collection[str] = (),
        checked: bool = False,
    ) -> Callable[[TurnPicture], Awaitable[Sequence[TurnActivity]]]:
        """What a turn is to be concluded with: its code is kept, in the place of `before`.

        `needed` are names that it is to leave; `checked`: something had to hold before it could end.
        """

        async def conclude(picture: TurnPicture) -> Sequence[TurnActivity]:
            code = _kept_of(picture, session=session, cell=cell, before=before, needed=needed)
            if code is None:
                return [_said(_NOTHING)]
            if before is not None and before.cells == code.cells:
                self._carry(before)
                return []
            if before is not None and not _does_as_much(picture, code, before, checked=checked):
                self._carry(before)
                return [_said(_NO_REPAIR)]
            try:
                self._store.keep(code, place=self._place())
            except JournalError as error:
                return [_said(str(error))]
            self._carry(code)
            diff = "" if before is None else diff_text(before.cells, code.cells)
            return [CodeKept(sha256=code.sha256, cells=len(code.cells), diff=diff)]

        return conclude


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
    # The value of any other cell was refused, and would end the turn where it is not.
    ends = cells[-1] if last.code is not None else None
    code = {one.step: one.code if one is ends else _without_finish(one.code) for one in cells}
    if not any(code.values()):
        return None
    return KeptCode(
        request=picture.request,
        cells=tuple(filter(None, code.values())),
        answer=last.prose.strip() or None if last.code is None else None,
        results=results_digest(picture.steps[step].outputs for step, source in code.items() if source),
        cell=cell,
        at=datetime.now(UTC).isoformat(timespec="microseconds"),
        turn=f"{session}.{picture.turn}",
        parent=before.sha256 if before is not None else "",
    )


def _without_finish(code: str) -> str:
    """A cell that ends no turn; as it is, where that cannot be told from it."""
    parts = statements(code)
    if parts is None or "finish" not in names_of(code).used:
        return code
    made = ended(parts, last=False, turned=Turned.of(node for part in parts for node in part.nodes))
    return code if made.caught else joined(made.parts)


def _does_as_much(picture: TurnPicture, code: KeptCode, before: KeptCode, *, checked: bool) -> bool:
    """Whether the code of a turn can stand in the place of what was kept; a turn may also end with words that say why
    it did not come to anything."""
    if checked or picture.steps[-1].code is not None:  # it ended with a value
        return True
    ran = [step for step in picture.steps if step.code is not None and step.outcome is not None]
    made = frozenset().union(*(names_of(cell).assigned for cell in code.cells))
    return ran[-1].outcome is CellOutcome.OK and names_of(before.cells[-1]).assigned <= made


def _is_of_another_language(step: StepPicture) -> bool:
    return step.code is not None and step.outcome is not None and not step.language.casefold().startswith("python")


def diff_text(before: Sequence[str], after: Sequence[str]) -> str:
    """How the cells differ, as a unified diff without its heading."""
    lines = difflib.unified_diff(_lines(before), _lines(after), n=3, lineterm="")
    return "\n".join(line for line in lines if not line.startswith(("--- ", "+++ ", "---\n", "+++\n")))


def _lines(cells: Sequence[str]) -> list[str]:
    return "\n\n".join(cell.strip("\n") for cell in cells).split("\n")
