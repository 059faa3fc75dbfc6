"""A cell of the user's that is to be fixed: what the model is told of it, and whether its correction can be offered.

Decided here: the last cell that the model has run is the correction. Before the turn may end it is run alone, in a
fresh kernel with copies of the user's variables, so that nothing is offered that leans on what was tried before. That
it looks like another cell, or is the user's unchanged, is held against it once: whoever insists may be right. The
user's own kernel runs none of it.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .checks import check_cell, check_failure
from .ejecting.sources import asks_person, names_of
from .failed_cells import SeenCell
from .kernels import CellGuard
from .languages import is_sandboxed
from .machine.approvals import Decision, Wish
from .machine.execution import CellOutcome, CellOutput, CellResult, ErrorOutput
from .machine.picture import TurnPicture
from .machine.picture_parts import StepPicture
from .machine.tracebacks import traceback_text
from .protocols.prompt import fenced
from .scratch import Scratch
from .used_names import used_names
from .views.pieces import cut

if TYPE_CHECKING:
    from .machine.wire import Json
    from .session import Session

__all__ = ["Fixing", "fix_context", "fix_request"]

_PROBLEM_CHARS = 120
_LIKE = 0.3
"""From which likeness on a cell may be a correction of another one; and by how much another has to be liker to it."""
_LOOKED_AT_CHARS = 4_000
_TOKEN = re.compile(r"\w+|[^\w\s]")
_OF_OURS = frozenset({"finish", "read_output", "tools"})
"""What only the agent's kernel has."""
_RULES = """\
- The last cell that you run has to be the corrected cell, whole, as the user will run it. You may look around in cells
  before it.
- Every cell of yours gets new copies of the user's variables as they are now; what your other cells did to them is
  gone. What those imported or defined has to be in the corrected cell, too, where it needs it.
- Before the correction is offered, it is run alone in a fresh kernel with copies of the user's variables.
- Change as little as possible: names, style and comments stay as they are. Do not hide an error: no `try` around it.
- No `finish(…)`. When the corrected cell has run, answer in one or two sentences what was wrong."""


def fix_request(cell: SeenCell, said: str, *, values: bool = True) -> str:
    """The request in a line, as the turn shows it; without `values` nothing that an error's message holds."""
    problem = cell.problem if values else cell.error
    about = cut(problem, head_chars=_PROBLEM_CHARS, tail_chars=0).partition("\n")[0]
    if about and said:
        return f"Fix cell [{cell.number}] ({about}): {said}"
    return f"Fix cell [{cell.number}]{f': {about or said}' if about or said else ''}"


def fix_context(
    cell: SeenCell, *, lacks: Sequence[str] = (), output: str = "", checks: Sequence[str] = (), values: bool = True
) -> str:
    """What the model is told with that request: the cell, what came of it, the rules.

    `lacks`: names that the cell uses and nothing has; `output`: what it showed, where it ran to its end.
    """
    parts = [f"The cell of the user's notebook that is to be fixed, In [{cell.number}]:\n{fenced(cell.source)}"]
    if cell.failed:
        how = "It failed" if cell.begun else "It cannot be read, and nothing of it has run"
        parts.append(f"{how}:\n{fenced(cell.traceback if values and cell.traceback else cell.error)}")
        if cell.begun:
            parts.append("What it did before it failed has happened: the user's variables are as it left them.")
    elif output:
        parts.append(f"It ran to its end, and gave:\n{fenced(output)}")
    else:
        parts.append("It ran to its end; what the user says of it is the request.")
    if lacks:
        parts.append(f"Names in it that nothing has: {', '.join(lacks)}.")
    parts.append(_RULES)
    if checks:
        lines = "\n".join(f"- {check}" for check in checks)
        parts.append(f"These expressions have to hold once the corrected cell has run alone:\n{lines}")
    return "\n\n".join(parts)


class Fixing:
    """One cell on its way to its correction."""

    def __init__(self, cell: SeenCell, *, session: Session, checks: Sequence[str] = ()) -> None:
        self._cell, self._session, self._checks = cell, session, tuple(checks)
        self._objected: set[str] = set()
        self._note = ""
        self.corrected = ""
        """The correction; empty as long as there is none that has run alone."""

    async def verify(self, picture: TurnPicture) -> str | None:
        """For `Session.run`: what keeps the turn from its end; None: the correction can be offered."""
        self.corrected = ""
        *before, code = [*_cells(picture)] or [""]
        problem = _not_run(picture) or self._objection(code, before) or await self._alone(code)
        if problem:
            return problem
        self.corrected = code
        return None

    def offer(self) -> dict[str, Json]:
        """The display that offers the correction."""
        from .views.offer_data import offer_bundle

        cell = self._cell
        return offer_bundle(
            title=f"Cell [{cell.number}], corrected",
            source=self.source,
            before=cell.raw,
            cell_id=cell.cell_id,
            note=self._note,
        )

    @property
    def source(self) -> str:
        """The cell as it is to stand in the notebook."""
        return self._cell.with_head(self.corrected)

    # -- what speaks against it ----------------------------------------------------------------------------------------

    def _objection(self, code: str, before: Sequence[str]) -> str:
        """What can be seen of it without running it, and of the cells `before` it; empty: nothing."""
        sharing = self._session.sharing
        theirs = sharing.names() if sharing is not None else frozenset()
        ours = sorted(used_names(code) & _OF_OURS - theirs)
        if ours:
            return (
                f"The last cell uses {', '.join(ours)}, which the user's notebook does not have. Run the corrected "
                "cell without that, then answer."
            )
        unlike = _is_another(code, before, self._cell.source)
        same = not self._cell.failed and _bare(code) == _bare(self._cell.source)
        for kind, found in (("unlike", unlike), ("same", same)):
            if found and kind not in self._objected:
                self._objected.add(kind)
                return _OBJECTIONS[kind].format(number=self._cell.number)
        return ""

    async def _alone(self, code: str) -> str:
        """What went wrong with it in a fresh kernel; empty: nothing."""
        if asks_person(code):
            self._note = f"It asks you something, so {_NOT_ALONE}."
            return ""
        async with Scratch(self._session) as scratch:
            await scratch.prepare()
            # What the checks use has to be there before: what the cell makes of it is looked at.
            await scratch.share("\n".join([code, *(f"({check}\n)" for check in self._checks)]))
            trial = _Trial(scratch, limit_s=self._session.limits.cell_seconds)
            result = await trial.run(code)
            if trial.refused is not None:
                self._note = f"It does more than compute ({trial.refused}), so {_NOT_ALONE}."
                return ""
            if result.outcome is not CellOutcome.OK or _error(result.outputs) is not None:
                return _failed_alone(result)
            for check in self._checks:
                failure = check_failure(check, await trial.run(check_cell(check)))
                if failure is not None:
                    return f"The corrected cell ran alone, but then this does not hold: {failure}. {_AGAIN}"
        self._note = f"It ran on copies of your variables in a fresh kernel{_held(self._checks)}."
        return ""


class _Trial:
    """Runs cells in a scratch kernel, and knows what was refused there."""

    def __init__(self, scratch: Scratch, *, limit_s: float | None) -> None:
        self._kernel, self._limit_s = scratch.kernel, limit_s
        self.refused: Wish | None = None
        """The first effect that was."""

    async def run(self, code: str) -> CellResult:
        """As `Scratch.run`, but nobody's approval allows anything: whoever runs the cell decides for himself."""
        guard = None if is_sandboxed(self._kernel) else CellGuard(on_effect=self._refuse)
        return await self._kernel.run("", code, guard=guard, timeout_s=self._limit_s)

    async def _refuse(self, wish: Wish) -> Decision:
        self.refused = self.refused or wish
        return Decision.reject(_NOT_ALONE)


_NOT_ALONE = "it was not tried alone in a fresh kernel"
_AGAIN = "Run the corrected cell again, whole, then answer."
_OBJECTIONS = {
    "unlike": (
        "The last cell that you ran does not look like the user's cell [{number}]. The last one has to be the "
        "corrected cell, whole. Run it as the last one, then answer."
    ),
    "same": (
        "The last cell that you ran is the user's cell [{number}] as it was, and they say that it is wrong. Run it "
        "corrected, whole, then answer."
    ),
}


def _cells(picture: TurnPicture) -> list[str]:
    """The cells that ran to their end, in order."""
    return [step.code.strip("\n") for step in picture.steps if step.code is not None and _ran_well(step)]


def _ran_well(step: StepPicture) -> bool:
    return step.outcome is CellOutcome.OK and _error(step.outputs) is None


def _not_run(picture: TurnPicture) -> str:
    """Why the last cell that was run can be no correction; empty: it can."""
    ran = [step for step in picture.steps if step.code is not None and step.outcome is not None]
    if not ran:
        return "You have not run a cell yet. Run the corrected cell, whole, then answer."
    return "" if _ran_well(ran[-1]) else f"The last cell that you ran did not run to its end. {_AGAIN}"


def _error(outputs: Sequence[CellOutput]) -> ErrorOutput | None:
    """What it failed with; also a cell that ended well can have, as below `%%capture`."""
    return next((output for output in reversed(outputs) if isinstance(output, ErrorOutput)), None)


def _failed_alone(result: CellResult) -> str:
    error = _error(result.outputs)
    told = traceback_text(error) if error is not None else f"{result.outcome}: {result.detail}".strip(": ")
    return (
        "The corrected cell fails where it is run alone, in a fresh kernel with copies of the user's variables:\n"
        f"{fenced(told)}\n"
        f"What your other cells imported or defined is not there: it has to bring what it needs. {_AGAIN}"
    )


def _held(checks: Sequence[str]) -> str:
    return f"; then this held: {', '.join(f'`{check}`' for check in checks)}" if checks else ""


def _is_another(code: str, before: Sequence[str], broken: str) -> bool:
    """Whether a cell is no correction of the broken one: it has nothing of it, or one before it has much more."""
    names = names_of(broken)
    made = names.assigned - {name for name, _ in names.imported}
    binds, likeness = bool(made & names_of(code).assigned), _likeness(code, broken)
    if not binds and likeness < _LIKE:
        return True
    others = [one for one in before if _bare(one) != _bare(broken)]
    if made:
        return not binds and any(made & names_of(one).assigned for one in others)
    return any(_likeness(one, broken) >= likeness + _LIKE for one in others)


def _likeness(code: str, other: str) -> float:
    words: list[list[str]] = [_TOKEN.findall(text[:_LOOKED_AT_CHARS]) for text in (other, code)]
    return difflib.SequenceMatcher(a=words[0], b=words[1], autojunk=False).ratio()


def _bare(code: str) -> str:
    return "\n".join(line.rstrip() for line in code.strip().split("\n"))
