"""How the calls of one batch are made: at once, within a bound; its cells one after the other; results in call order.

Decided here: who is to be asked about a call is asked before any call of the batch begins, one question at a time. A
cell asks for itself when its turn comes; where nobody is there to answer, what runs comes to its end and is recorded,
then the turn waits. One call that fails does not end the others; when one cannot be recorded, they are stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import replace

from .approving import CalledCell, rejected_call_text
from .cell_runs import CellRuns
from .errors import ApprovalNeeded, InputError, JournalError
from .machine.effects import ToolCalls
from .machine.events import ToolCallEvent, ToolCallStart, TurnActivity
from .machine.execution import NamespaceSummary
from .machine.tool_calls import CompletedToolCall, PendingToolCall, ToolCallOutput
from .machine.tool_specs import RUN_CODE
from .ports import TurnPorts
from .protocols.run_code import cell_output, cell_return
from .tool_runs import RecordedCaller, ToolRuns, refused_call, stopped_call
from .toolkits.calling import MOST_AT_ONCE, completed_call

__all__ = ["Batches"]

_LANGUAGE = "python"


class Batches:
    """Makes the batches of one turn; `finished` is called once a cell has given the turn's value."""

    def __init__(
        self, ports: TurnPorts, *, tools: ToolRuns, cells: CellRuns, finished: Callable[[], Awaitable[None]]
    ) -> None:
        self._ports, self._tools, self._cells, self._finished = ports, tools, cells, finished
        self._told: set[str] = set()
        self._done: dict[str, CompletedToolCall] = {}
        """Of the batch that runs, by the id of the call."""
        self._begun: set[str] = set()

    async def run(self, effect: ToolCalls, *, known: NamespaceSummary) -> tuple[CompletedToolCall, ...]:
        """The results of all calls of one effect, in their order.

        Raises:
            InputError: the turn is gone on with where its tools are not.
            ApprovalNeeded: nobody is there to decide on one; what had begun is recorded.
            JournalError: a call or its result could not be recorded.
        """
        self._check_there(effect)
        done = self._done = {}
        caller = self._tools.caller(effect.id, on_activity=self._saw, most_at_once=MOST_AT_ONCE, native=True)
        with caller as making:
            refused = await self._refused(effect, making)
            for call in effect.calls:  # in their order, whichever begins first
                if call.tool_name != RUN_CODE:
                    begins = ToolCallStart(call_id=call.call_id, name=call.tool_name, args=call.args)
                    self._ports.on_activity(begins)
            work = [self._call(call, making, refused, done) for call in effect.calls if call.tool_name != RUN_CODE]
            cells = [call for call in effect.calls if call.tool_name == RUN_CODE]
            await _all_of((*work, self._run_cells(effect, cells, known, done)))
        return tuple(done[call.call_id] for call in effect.calls)

    def _check_there(self, effect: ToolCalls) -> None:
        """Tools of a turn that an earlier host began may live in a notebook that is not here."""
        resumed, tools = self._ports.resumed, self._ports.callable_tools
        if resumed is None or resumed.effect_id != effect.id:
            return
        known = self._tools.known(effect.id)
        left = []
        for call in effect.calls:
            decision = self._cells.approvals.decided_on_call(effect, call)
            if known.get(call.call_id) is None and (decision is None or decision.allows):
                left.append(call.tool_name)
        missing = sorted({name for name in left if name != RUN_CODE and name not in tools})
        if missing:
            raise InputError(
                f"the turn goes on with calls of {', '.join(missing)}, and there is no such tool here: go on where it "
                "is (in its notebook run the cells that define it and make it a tool, then `%lash resume`)"
            )

    def so_far(self, effect: ToolCalls) -> tuple[CompletedToolCall, ...]:
        """The results of a batch that is stopped: what ended has its own, of the rest nobody knows."""
        known = self._tools.known(effect.id)
        results = []
        for call in effect.calls:
            begun = call.call_id in self._begun or self._may_have_begun(effect, call)
            output = known.get(call.call_id) or stopped_call(begun=begun)
            done = self._done.get(call.call_id)
            results.append(done or self._ports.redactor.completed(_completed(call, output, 0)))
        return tuple(results)

    def _may_have_begun(self, effect: ToolCalls, call: PendingToolCall) -> bool:
        resumed = self._ports.resumed
        return resumed is not None and resumed.may_have_begun(effect.id, call.call_id)

    def _saw(self, activity: TurnActivity) -> None:
        """A call begins; that is shown already."""
        if isinstance(activity, ToolCallStart) and activity.call_id is not None:
            self._begun.add(activity.call_id)

    def begun_cells(self, effect: ToolCalls) -> tuple[CalledCell, ...]:
        """The cells of a batch that an earlier host had begun, and of whose end nothing is recorded."""
        resumed, known = self._ports.resumed, self._tools.known(effect.id)
        if resumed is None:
            return ()
        begun = [call for call in effect.calls if resumed.may_have_begun(effect.id, call.call_id)]
        return tuple(
            _cell(effect, call) for call in begun if call.tool_name == RUN_CODE and known.get(call.call_id) is None
        )

    async def _refused(self, effect: ToolCalls, making: RecordedCaller) -> dict[str, ToolCallOutput]:
        """The calls that may not be made, by id."""
        refused, tools = {}, self._ports.callable_tools
        for call in effect.calls:
            tool = tools.get(call.tool_name)
            before = self._cells.approvals.decided_on_call(effect, call)
            if tool is None and before is not None and not before.allows:
                refused[call.call_id] = refused_call(rejected_call_text(before))
            if tool is None or (making.begun(call) and not making.repeated(call)):
                continue
            problem = making.judged(call) if tool.policy.asks(self._ports.approve) else None
            if problem is not None:
                refused[call.call_id] = problem
                continue
            decision = await self._cells.approvals.call(effect, call, tool.policy, source=tool.source)
            if not decision.allows:
                refused[call.call_id] = refused_call(rejected_call_text(decision))
        return refused

    async def _call(
        self,
        call: PendingToolCall,
        making: RecordedCaller,
        refused: dict[str, ToolCallOutput],
        done: dict[str, CompletedToolCall],
    ) -> None:
        output = refused.get(call.call_id)
        made = await making.call(call) if output is None else completed_call(call, output, 0)
        done[call.call_id] = self._ports.redactor.completed(made)
        told = done[call.call_id]
        self._told.add(told.call_id)  # shown at once; the machine tells of it when the whole batch has ended
        self._ports.on_activity(
            ToolCallEvent(
                call_id=told.call_id,
                name=told.tool_name,
                args=told.args,
                output=told.output,
                duration_ms=told.duration_ms,
            )
        )

    def was_told(self, call_id: str | None) -> bool:
        """Whether it was shown that a call had ended."""
        return call_id in self._told

    async def _run_cells(
        self,
        effect: ToolCalls,
        calls: Iterable[PendingToolCall],
        known: NamespaceSummary,
        done: dict[str, CompletedToolCall],
    ) -> None:
        for call in calls:
            began = time.monotonic()
            output = await self._run_cell(effect, call, known)
            completed = _completed(call, output, round((time.monotonic() - began) * 1000))
            done[call.call_id] = self._ports.redactor.completed(completed)

    async def _run_cell(self, effect: ToolCalls, call: PendingToolCall, known: NamespaceSummary) -> ToolCallOutput:
        """What a cell gave; one that had ended before is not run again, nor is one that its kernel has on record."""
        recorded = self._tools.known(effect.id).get(call.call_id)
        if recorded is not None:
            return recorded
        cell = _cell(effect, call)
        decision = await self._cells.decide(cell)
        log, redactor = self._ports.log, self._ports.redactor
        try:
            if decision.allows:
                await log.calling(effect.id, redactor.call(call))
                self._begun.add(call.call_id)
            response = (await self._cells.run_decided(cell, decision, known=known)).result
            output = cell_output(response)
            if decision.allows:
                await log.called(effect.id, call.call_id, redactor.output(output))
        except JournalError as error:
            self._tools.unrecorded = error
            raise
        if not isinstance(response, str) and response.terminal_finish is not None:
            await self._finished()
        return output


def _cell(effect: ToolCalls, call: PendingToolCall) -> CalledCell:
    code = call.args.get("code") if isinstance(call.args, Mapping) else None
    return CalledCell(
        id=effect.id, language=_LANGUAGE, code=code if isinstance(code, str) else "", call_id=call.call_id
    )


def _completed(call: PendingToolCall, output: ToolCallOutput, duration_ms: int) -> CompletedToolCall:
    """A call with its output, a cell's worded as cells are."""
    done = completed_call(call, output, duration_ms)
    return replace(done, model_return=cell_return(call, output)) if call.tool_name == RUN_CODE else done


async def _all_of(work: Iterable[Awaitable[None]]) -> None:
    """Wait for all; what one raises stops the others, unless it waits for a decision: then it comes behind them."""
    tasks = [asyncio.ensure_future(one) for one in work]
    pending = set(tasks)
    try:
        while pending:
            ended, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_EXCEPTION)
            for task in ended:
                if task.cancelled() or not isinstance(task.exception(), (ApprovalNeeded, type(None))):
                    task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        task.result()
