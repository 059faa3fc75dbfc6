"""How a turn's tool calls are made: each is recorded before it begins and when it has ended, and none is made twice.

Decided here: of a call that an earlier host had begun, the recorded result is given; where there is none, nobody knows
whether it took effect, so it is not made again, and whoever made it is told that. This holds for calls of the model and
for those of a cell alike. Once one could not be recorded, no other call of the turn is made. Names and numbers of a
cell's calls are the kernel's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager

from .errors import JournalError
from .machine.effects import EffectId, ToolCalls
from .machine.events import TurnActivity
from .machine.tool_calls import (
    CompletedToolCall,
    PendingToolCall,
    RetryNever,
    ToolCallOutput,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
)
from .ports import TurnPorts
from .toolkits import MOST_AT_ONCE, ToolCaller, completed_call

__all__ = ["RecordedCaller", "ToolRuns"]

_UNKNOWN = (
    "The host ended while this call was being made: whether it took effect is not known, and it was not made again."
)


class ToolRuns:
    """Makes the tool calls of one turn."""

    def __init__(self, ports: TurnPorts) -> None:
        self.ports = ports
        self.unrecorded: JournalError | None = None
        """Why a call or its result could not be recorded; the turn cannot go on then."""

    async def batch(self, effect: ToolCalls) -> tuple[CompletedToolCall, ...]:
        """The results of all calls of one effect, in their order; one that fails does not end the others."""
        with self.caller(effect.id, on_activity=self.ports.on_activity, most_at_once=MOST_AT_ONCE) as caller:
            calls = [asyncio.ensure_future(caller.call(call)) for call in effect.calls]
            try:
                completed = await asyncio.gather(*calls)
            finally:
                for call in calls:  # when one could not be recorded, the others' results would not be, either
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
        return tuple(self.ports.redactor.completed(one) for one in completed)

    @contextmanager
    def caller(
        self, effect_id: EffectId, *, on_activity: Callable[[TurnActivity], None], most_at_once: int
    ) -> Iterator[RecordedCaller]:
        """Who makes the calls of one effect; all of them share one bound."""
        resumed = self.ports.resumed
        known = resumed.calls if resumed is not None and resumed.effect_id == effect_id else {}
        with ToolCaller(self.ports.tools, on_activity=on_activity, most_at_once=most_at_once) as caller:
            yield RecordedCaller(caller, self, effect_id, known)


class RecordedCaller:
    """Makes calls of one effect; `known` are those that an earlier host had begun."""

    def __init__(
        self,
        caller: ToolCaller,
        runs: ToolRuns,
        effect_id: EffectId,
        known: Mapping[str, ToolCallOutput | None],
    ) -> None:
        self._caller = caller
        self._runs = runs
        self._effect_id = effect_id
        self._known = known

    async def call(self, call: PendingToolCall) -> CompletedToolCall:
        """Make one call, or give what is recorded of it.

        Raises:
            JournalError: it was not made, or what it gave is not passed on; nor is any call of the turn made after it.
        """
        if call.call_id in self._known:
            output = self._known[call.call_id] or ToolCallOutput(outcome=_unknown())
            return completed_call(call, output.outcome, 0)
        return await self._caller.call(call, around=self._recorded)

    async def _recorded(
        self, call: PendingToolCall, make: Callable[[], Awaitable[CompletedToolCall]]
    ) -> CompletedToolCall:
        if self._runs.unrecorded is not None:
            raise self._runs.unrecorded
        log, redactor = self._runs.ports.log, self._runs.ports.redactor
        try:
            await log.calling(self._effect_id, redactor.call(call))
            completed = await make()
            await log.called(self._effect_id, call.call_id, redactor.output(completed.output))
        except JournalError as error:
            self._runs.unrecorded = error
            raise
        return completed


def _unknown() -> ToolFailed:
    return ToolFailed(
        payload=ToolFailure(
            class_=ToolFailureClass.INTERNAL,
            code="outcome_unknown",
            message=_UNKNOWN,
            source=ToolFailureSource.RUNTIME,
            retry=RetryNever(),
        )
    )
