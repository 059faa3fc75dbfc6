"""How a turn's tool calls are made: each is recorded before it begins and when it has ended, and none is made twice.

Decided here: of a call that an earlier host had begun, the recorded result is given. Where there is none, nobody knows
whether it took effect: it is made again only where its tool says that this is safe, and that is said; else whoever made
it is told that nobody knows. This holds for calls of the model and for those of a cell alike. Once one could not be
recorded, no other call of the turn is made. Names and numbers of a cell's calls are the kernel's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from .errors import JournalError
from .machine.effects import EffectId
from .machine.events import PluginEvent, StatusRuntimeEvent, TurnActivity
from .machine.tool_calls import (
    CompletedToolCall,
    PendingToolCall,
    ToolCallOutput,
    ToolFailureClass,
    ToolFailureSource,
)
from .ports import TurnPorts
from .stores.redacting import RedactingStore
from .toolkits import Tool, ToolPolicy, ToolSurroundings
from .toolkits.calling import ToolCaller, completed_call
from .toolkits.outcomes import MOST_CHARS, MOST_CHARS_IN_CELLS, cancelled, failure
from .toolkits.showing import bounded

__all__ = ["RecordedCaller", "ToolRuns", "refused_call", "stopped_call", "tool_notice"]

_UNKNOWN = (
    "The host ended while this call was being made: whether it took effect is not known, and it was not made again."
)
_STOPPED = "The turn was stopped before this call had ended: it may have taken effect, in part or in whole, or not."
_NOT_BEGUN = "The turn was stopped before this call was made."


class ToolRuns:
    """Makes the tool calls of one turn."""

    def __init__(self, ports: TurnPorts) -> None:
        self.ports = ports
        self.unrecorded: JournalError | None = None
        """Why a call or its result could not be recorded; the turn cannot go on then."""

    def known(self, effect_id: EffectId) -> Mapping[str, ToolCallOutput | None]:
        """The calls of an effect that an earlier host had begun, and what they gave; None: nobody knows."""
        resumed = self.ports.resumed
        return resumed.calls if resumed is not None and resumed.effect_id == effect_id else {}

    @contextmanager
    def caller(
        self,
        effect_id: EffectId,
        *,
        on_activity: Callable[[TurnActivity], None],
        most_at_once: int,
        native: bool = False,
        within: str = "",
    ) -> Iterator[RecordedCaller]:
        """Who makes the calls of one effect; all of them share one bound.

        `native`: the model makes them itself, and what it is shown of a result is bounded. `within`: of a cell that it
        runs by the call of that id.
        """
        ports = self.ports
        around = ToolSurroundings(
            store=None if ports.store is None else RedactingStore(ports.store, ports.redactor), main=ports.tools.main
        )
        making = ToolCaller(
            ports.callable_tools,
            around,
            on_activity=on_activity,
            most_at_once=most_at_once,
            most_chars=MOST_CHARS if native else MOST_CHARS_IN_CELLS,
        )
        with making as caller:
            yield RecordedCaller(caller, self, effect_id, around=around, native=native, within=within)

    def repeats(self, call: PendingToolCall) -> None:
        """Say that a call is made again of which nobody knows whether it took effect."""
        ports = self.ports
        ports.on_activity(
            tool_notice(
                f"{call.tool_name}: this call had begun when the host ended; it is safe to repeat, and is made again."
            )
        )


class RecordedCaller:
    """Makes calls of one effect."""

    def __init__(
        self,
        caller: ToolCaller,
        runs: ToolRuns,
        effect_id: EffectId,
        *,
        around: ToolSurroundings,
        native: bool,
        within: str,
    ) -> None:
        self._caller, self._runs, self._around = caller, runs, around
        self._effect_id, self._native, self._within = effect_id, native, within
        self._known = runs.known(effect_id)
        self._tools = runs.ports.callable_tools

    def begun(self, call: PendingToolCall) -> bool:
        """Whether an earlier host had begun it."""
        name, resumed = self._recorded_as(call), self._runs.ports.resumed
        if not self._native or resumed is None:
            return name in self._known
        return resumed.may_have_begun(self._effect_id, name)

    async def call(self, call: PendingToolCall) -> CompletedToolCall:
        """Make one call, or give what is recorded of it.

        Raises:
            JournalError: it was not made, or what it gave is not passed on; nor is any call of the turn made after it.
        """
        if self.begun(call):
            output = self._known.get(self._recorded_as(call))
            if output is None and not self._policy(call).safe:
                output = unknown_outcome()
            if output is not None:
                return completed_call(call, output, 0)
            self._runs.repeats(call)
        return await self._caller.call(call, around=self._recorded)

    def repeated(self, call: PendingToolCall) -> bool:
        """Whether it had begun, and would be made again: nobody knows its end, and its tool says that this is safe."""
        known = self._known.get(self._recorded_as(call))
        return self.begun(call) and known is None and self._policy(call).safe

    def judged(self, call: PendingToolCall) -> ToolCallOutput | None:
        """What is wrong with its arguments: then nobody need be asked, and it is not made."""
        tool = self._tools.get(call.tool_name)
        return None if tool is None else tool.judge(call, self._around)

    def _recorded_as(self, call: PendingToolCall) -> str:
        return f"{self._within}/{call.call_id}" if self._within else call.call_id

    def _policy(self, call: PendingToolCall) -> ToolPolicy:
        tool: Tool | None = self._tools.get(call.tool_name)
        return tool.policy if tool is not None else ToolPolicy()

    async def _recorded(
        self, call: PendingToolCall, make: Callable[[], Awaitable[CompletedToolCall]]
    ) -> CompletedToolCall:
        if self._runs.unrecorded is not None:
            raise self._runs.unrecorded
        log, redactor, name = self._runs.ports.log, self._runs.ports.redactor, self._recorded_as(call)
        try:
            await log.calling(self._effect_id, redactor.call(replace(call, call_id=name)))
            completed = await make()
            if self._native:
                # Redacted first: of a secret at the cut neither piece would be known.
                whole = redactor.output(completed.output)
                output = bounded(whole, policy=self._policy(call), store=self._around.store)
                completed = completed_call(call, output, completed.duration_ms)
            await log.called(self._effect_id, name, redactor.output(completed.output))
        except JournalError as error:
            self._runs.unrecorded = error
            raise
        return completed


def tool_notice(text: str) -> PluginEvent:
    """What the reader is told of tools."""
    return PluginEvent(plugin_id="tools", event=StatusRuntimeEvent(key="tools", label=text))


def unknown_outcome() -> ToolCallOutput:
    """Of a call that an earlier host had begun, and that must not be made again."""
    kind, source = ToolFailureClass.INTERNAL, ToolFailureSource.RUNTIME
    return ToolCallOutput(outcome=failure(kind, "outcome_unknown", _UNKNOWN, source=source))


def stopped_call(*, begun: bool) -> ToolCallOutput:
    """Of a call that had not ended when its turn was stopped."""
    message = _STOPPED if begun else _NOT_BEGUN
    return ToolCallOutput(outcome=cancelled(message, source=ToolFailureSource.CANCELLATION))


def refused_call(message: str) -> ToolCallOutput:
    """Of a call that may not be made."""
    kind, source = ToolFailureClass.PERMISSION_DENIED, ToolFailureSource.POLICY
    return ToolCallOutput(outcome=failure(kind, "refused", message, source=source))
