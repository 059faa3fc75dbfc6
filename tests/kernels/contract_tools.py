"""The contract's tools: calls out of a running cell, answered by the host."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest

from lash_nb.kernels import CellTools, Kernel, ToolOffer
from lash_nb.machine.execution import CellOutcome
from lash_nb.machine.tool_calls import (
    PendingToolCall,
    RetryNever,
    ToolCallOutput,
    ToolCancelled,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
    ToolSucceeded,
)

from .suite import KernelSuite, fresh, texts

CALL = "print(tools.add(a=1, b=2))"
CALL_BY_POSITION = "print(tools.add(1, 2))"
CALL_ASYNC = "print(await tools.add(a=1, b=2))"
CALL_TWENTY = """
import asyncio
print(sum(await asyncio.gather(*(tools.add.aio(a=n, b=0) for n in range(20)))))
"""
CALL_REFUSED = """
try:
    tools.refuse(why='full')
except ToolError as error:
    print(error.kind, error.code, error.message, str(error))
"""
CALL_BROKEN = """
try:
    tools.broken()
except ToolError as error:
    print(error.kind)
"""
CALL_UNCAUGHT = "tools.refuse(why='full')"
CALL_HANGS = "tools.hang()"


@dataclass
class Answering:
    """The host's side of the tools that the codes above call."""

    seen: list[PendingToolCall] = field(default_factory=list)
    hangs: asyncio.Event = field(default_factory=asyncio.Event)
    cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def tools(self) -> CellTools:
        offers = (
            ToolOffer(name="add", parameters=("a", "b"), doc="The sum."),
            ToolOffer(name="refuse"),
            ToolOffer(name="broken", parameters=()),
            ToolOffer(name="hang", parameters=()),
        )
        return CellTools(offers=offers, on_call=self.answer)

    async def answer(self, call: PendingToolCall) -> ToolCallOutput:
        self.seen.append(call)
        assert isinstance(call.args, dict)
        match call.tool_name:
            case "add":
                return ToolCallOutput(outcome=ToolSucceeded(payload=call.args["a"] + call.args["b"]))
            case "refuse":
                failure = ToolFailure(
                    class_=ToolFailureClass.RESOURCE_LIMIT,
                    code="quota",
                    message="no room is left",
                    source=ToolFailureSource.TOOL,
                    retry=RetryNever(),
                )
                return ToolCallOutput(outcome=ToolFailed(payload=failure))
            case "hang":
                self.hangs.set()
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    self.cancelled.set()
                    raise
        raise ValueError("a tool with a bug")


class ToolContract(KernelSuite):
    @pytest.mark.parametrize("code", [CALL, CALL_BY_POSITION, CALL_ASYNC])
    async def test_a_cell_calls_a_tool(self, live: Kernel, code: str) -> None:
        host = Answering()
        result = await live.run(fresh(), code, tools=host.tools)
        assert result.outcome is CellOutcome.OK
        assert texts(result) == ["3\n"]
        assert host.seen == [PendingToolCall(call_id="c1", tool_name="add", args={"a": 1, "b": 2})]
        (record,) = result.tool_calls
        assert (record.call_id, record.tool, record.args) == ("c1", "add", {"a": 1, "b": 2})
        assert record.output == ToolCallOutput(outcome=ToolSucceeded(payload=3))

    async def test_many_calls_of_a_cell_are_told_apart(self, live: Kernel) -> None:
        host = Answering()
        result = await live.run(fresh(), CALL_TWENTY, tools=host.tools)
        assert texts(result) == ["190\n"]
        assert [record.call_id for record in result.tool_calls] == [f"c{n}" for n in range(1, 21)]
        assert {str(record.args) for record in result.tool_calls} == {f"{{'a': {n}, 'b': 0}}" for n in range(20)}

    async def test_a_failed_call_is_an_error_where_it_was_made(self, live: Kernel) -> None:
        result = await live.run(fresh(), CALL_REFUSED, tools=Answering().tools)
        assert result.outcome is CellOutcome.OK
        assert texts(result) == ["resource_limit quota no room is left no room is left\n"]
        outcome = result.tool_calls[0].output.outcome
        assert isinstance(outcome, ToolFailed)
        assert outcome.payload.code == "quota"

    async def test_a_callback_that_raises_is_a_failed_call(self, live: Kernel) -> None:
        result = await live.run(fresh(), CALL_BROKEN, tools=Answering().tools)
        assert texts(result) == ["execution\n"]
        outcome = result.tool_calls[0].output.outcome
        assert isinstance(outcome, ToolFailed)
        assert outcome.payload.class_ is ToolFailureClass.EXECUTION
        await self.check_usable(live)

    async def test_a_failure_that_is_not_caught_fails_the_cell(self, live: Kernel) -> None:
        result = await live.run(fresh(), CALL_UNCAUGHT, tools=Answering().tools)
        assert result.outcome is CellOutcome.ERROR
        assert result.error is not None
        assert (result.error.ename, result.error.evalue) == ("ToolError", "no room is left")
        assert len(result.tool_calls) == 1

    async def test_an_interrupt_cancels_the_call_that_is_waited_for(self, live: Kernel) -> None:
        host = Answering()
        task = asyncio.ensure_future(live.run(fresh(), CALL_HANGS, tools=host.tools))
        await asyncio.wait_for(host.hangs.wait(), 20)
        assert await live.interrupt()
        result = await task
        assert result.outcome is CellOutcome.INTERRUPTED
        await asyncio.wait_for(host.cancelled.wait(), 20)
        assert isinstance(result.tool_calls[0].output.outcome, ToolCancelled)
        await self.check_usable(live)

    async def test_the_record_holds_the_calls(self, live: Kernel) -> None:
        host, key = Answering(), fresh()
        first = await live.run(key, CALL, tools=host.tools)
        again = await live.run(key, CALL, tools=host.tools)
        assert again.recovered
        assert again.tool_calls == first.tool_calls
        assert len(host.seen) == 1
