"""Whether a turn may end: its checks, and what whoever asked wants to look at; what does not hold goes to the model.

Decided here: it is looked at each time the model wants to end the turn, after the value's type; what is wrong is fed
back a bounded number of times, then the turn fails. A check is run like a cell, but what a cell would ask for is
refused to it; what is recorded of it answers it again after a crash, like every other cell.
"""

from __future__ import annotations

import re

from .cell_runs import CellRuns
from .checks import check_cell, check_failure, failures_told, held_text
from .errors import CheckFailedError, KernelError
from .kernels import CellGuard
from .machine.approvals import ApprovalMode, Decision, Wish
from .machine.effects import Checkpoint, ExecCode
from .machine.events import PluginEvent, StatusRuntimeEvent
from .machine.execution import CellOutcome, CellResult
from .machine.messages import MessageRole, PluginMessage, PluginOrigin
from .ports import TurnPorts
from .views.pieces import clean, cut

__all__ = ["MOST_REFUSALS", "Verifying"]

MOST_REFUSALS = 3
"""How often the model is told what does not hold, before the turn ends by it."""
_SENTENCE_END = re.compile(r"(?<=[.!?])\s")
_SAID_CHARS = 300
_NOTHING_ELSE = "a check computes, and does nothing else"


class Verifying:
    """Looks at the end of one turn."""

    def __init__(self, ports: TurnPorts, cells: CellRuns) -> None:
        self._ports, self._cells = ports, cells
        self._refused = 0

    async def problem(self, effect: Checkpoint) -> PluginMessage | None:
        """What the model is told instead of the turn's end; None: it may end.

        Raises:
            CheckFailedError: it was told so often enough.
        """
        ports = self._ports
        told, shown, last = "", "", ""
        times = f"the model was told {MOST_REFUSALS} times"
        if ports.checks:
            told, shown = await self._checked(effect)
            last = f"{shown}; {times}, and did not put it right"
        if not told and ports.verify is not None:
            told = await ports.verify() or ""
            said = f"“{_first_sentence(told)}”"
            if told:
                shown = f"the model is told: {said}" if self._refused < MOST_REFUSALS else ""  # else it ends by it
            last = f"{times} what is wrong, and did not put it right; at last: {said}"
        if shown:
            event = StatusRuntimeEvent(key="check", label=ports.redactor.text(shown))
            ports.on_activity(PluginEvent(plugin_id="check", event=event))
        if not told:
            await self._conclude()
            return None
        self._refused += 1
        if self._refused > MOST_REFUSALS:
            raise CheckFailedError(ports.redactor.text(last))
        return PluginMessage(
            role=MessageRole.SYSTEM, content=ports.redactor.text(told), origin=PluginOrigin(plugin_id="check")
        )

    async def _conclude(self) -> None:
        for activity in await self._ports.conclude() if self._ports.conclude is not None else ():
            self._ports.on_activity(activity)

    async def _checked(self, effect: Checkpoint) -> tuple[str, str]:
        """What the model and the reader are told; the first is empty when all of them hold."""
        failures = []
        for number, expression in enumerate(self._ports.checks):
            failure = check_failure(expression, await self._evaluated(effect, number, check_cell(expression)))
            if failure is not None:
                failures.append(failure)
        if not failures:
            return "", held_text(self._ports.checks)
        shown = "; ".join(map(str, failures))
        return failures_told(failures), f"check{'s do' if len(failures) > 1 else ' does'} not hold: {shown}"

    async def _evaluated(self, effect: Checkpoint, number: int, code: str) -> CellResult:
        ports, kernel = self._ports, self._ports.kernel
        await self._cells.share_used(ExecCode(id=effect.id, language=kernel.language, code=code))
        key = f"{kernel.epoch}:{ports.session_id}:{ports.context.turn}:{effect.id}:check{number}"
        guard = CellGuard(on_effect=_refused) if ports.approve is not ApprovalMode.ALL else None
        try:
            await ports.log.uses(kernel)
            return await kernel.run(key, code, guard=guard, timeout_s=ports.cell_limit_s)
        except KernelError as error:
            return CellResult(outcome=CellOutcome.ABORTED, detail=str(error))


def _first_sentence(told: str) -> str:
    """Of what is written for the model, for reading."""
    line = clean(told).strip().partition("\n")[0]
    sentence = _SENTENCE_END.split(cut(line, head_chars=_SAID_CHARS, tail_chars=0), maxsplit=1)[0]
    return sentence.removesuffix(":")


async def _refused(wish: Wish) -> Decision:
    return Decision.reject(_NOTHING_ELSE)
