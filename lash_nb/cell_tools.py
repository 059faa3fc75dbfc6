"""What the code of a cell can call, and how such calls are decided on, recorded and shown.

Decided here: all calls of one cell share one bound; the first ones are shown as they begin. A call is asked about as
its tool's policy says. When one cannot be recorded, the cell is stopped before it learns anything. What the model is
told of the tools, too: a line each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from .approving import Approvals, called_by, rejected_call_text
from .errors import JournalError
from .kernels import CellTools, ToolOffer
from .machine.effects import ExecCode
from .machine.events import ToolCallStart, TurnActivity
from .machine.tool_calls import PendingToolCall, ToolCallOutput, ToolCallRecord
from .ports import TurnPorts
from .tool_runs import RecordedCaller, ToolRuns, refused_call
from .toolkits import Tool, ToolPolicy

__all__ = ["CellToolbox", "tools_told", "within"]

_CALLS_AT_ONCE = 32
"""Of one cell; code that gathers hundreds of calls is served in turn."""
_CALLS_SHOWN = 128
"""As many as are told when the cell has ended (`protocols.tool_events`), so that what is shown to begin ends, too."""
_ABOUT_CHARS = 300
"""Of a tool's description, in the prompt; the help has all of it."""
_UNKNOWN_TOOL = ToolPolicy(approve="never")
"""A call that only fails need not be asked about."""


class CellToolbox:
    """Offers the tools of one turn to its cells; `stop` ends the running one and waits for that."""

    def __init__(
        self, ports: TurnPorts, *, runs: ToolRuns, approvals: Approvals, stop: Callable[[], Awaitable[None]]
    ) -> None:
        self._ports, self._runs, self._approvals, self._stop = ports, runs, approvals, stop

    @contextmanager
    def offered(self, effect: ExecCode) -> Iterator[CellTools | None]:
        """What one cell can call; None when there are no tools."""
        tools, shown, ports, call_id = self._ports.callable_tools, 0, self._ports, called_by(effect)
        if not tools:
            yield None
            return

        def on_activity(activity: TurnActivity) -> None:
            nonlocal shown
            shown += 1
            if isinstance(activity, ToolCallStart) and shown <= _CALLS_SHOWN:
                known_as = f"{call_id}/{activity.call_id}" if call_id else activity.call_id
                ports.on_activity(replace(activity, call_id=known_as, args=ports.redactor.value(activity.args)))

        making = self._runs.caller(effect.id, on_activity=on_activity, most_at_once=_CALLS_AT_ONCE, within=call_id)
        with making as caller:

            async def on_call(call: PendingToolCall) -> ToolCallOutput:
                try:
                    return await self._made(effect, call, caller, tools)
                except JournalError:
                    # The code must not see a failure: it would take the call for not made, and make it again.
                    await self._stop()
                    raise

            # Of a call that an earlier host had taken our record says whether it was begun; without one nobody knows.
            recorded = ports.resumed is not None and ports.resumed.calls_known
            offers = tuple(_offer(tool) for tool in tools.values())
            yield CellTools(offers=offers, on_call=on_call, on_taken=on_call if recorded else None)

    async def _made(
        self, effect: ExecCode, call: PendingToolCall, caller: RecordedCaller, tools: Mapping[str, Tool]
    ) -> ToolCallOutput:
        tool = tools.get(call.tool_name)
        if not caller.begun(call) or caller.repeated(call):
            policy = tool.policy if tool is not None else _UNKNOWN_TOOL
            problem = caller.judged(call) if policy.asks(self._ports.approve) else None
            if problem is not None:
                return problem
            source = tool.source if tool is not None else ""
            decision = await self._approvals.inner_call(effect, call, policy, source=source)
            if not decision.allows:
                return refused_call(rejected_call_text(decision))
        return (await caller.call(call)).output


def _offer(tool: Tool) -> ToolOffer:
    return ToolOffer(name=tool.name, parameters=tool.parameters, doc=tool.description, signature=tool.signature)


def within(records: Sequence[ToolCallRecord], call_id: str) -> tuple[ToolCallRecord, ...]:
    """The calls of a cell, named within the call by which the model ran it."""
    return tuple(replace(record, call_id=f"{call_id}/{record.call_id}") for record in records)


def tools_told(tools: Mapping[str, Tool]) -> str:
    """What a model that writes cells is told of the tools. Empty without tools."""
    if not tools:
        return ""
    lines = [
        "The code of a cell can call these tools, which run outside of the kernel: tools.NAME(...), or await",
        "tools.NAME(...). They take and return JSON values; a failed call raises ToolError. To make many calls at",
        "once: await asyncio.gather(tools.NAME.aio(...), ...). help(tools.NAME) says all about one.",
        "",
    ]
    for tool in tools.values():
        about = " ".join(tool.description.partition("\n\n")[0].split())
        about = about if len(about) <= _ABOUT_CHARS else f"{about[: _ABOUT_CHARS - 1]}…"
        lines.append(f"- tools.{tool.name}{tool.signature}{': ' + about if about else ''}")
    return "\n".join(lines)
