"""The double: the contract, and what a script can say beyond it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from lash_nb.errors import KernelBusyError
from lash_nb.kernels import Kernel, resolve
from lash_nb.kernels.scripted import ScriptedCell, ScriptedKernel
from lash_nb.machine.execution import (
    CellOutcome,
    ErrorOutput,
    FinishValue,
    ResultOutput,
    StreamOutput,
    VariableSummary,
)
from lash_nb.machine.tool_calls import PendingToolCall, ToolFailed, ToolFailureClass
from lash_nb.machine.wire import Json

from . import contract_guard, contract_tools, suite
from .contract import KernelContract


def out(text: str) -> StreamOutput:
    return StreamOutput(name="stdout", head=text)


def value(text: str) -> ResultOutput:
    return ResultOutput(data={"text/plain": text}, metadata={})


def call(name: str, **args: Json) -> PendingToolCall:
    return PendingToolCall(call_id="", tool_name=name, args=args)


X = VariableSummary(name="x", type="list", detail="length 2 of int", preview="[1, 2]")
CHANGED = VariableSummary(name="x", type="list", detail="length 3 of int", preview="[1, 2, 3]")
Y = VariableSummary(name="y", type="str", detail="length 4", preview="'text'")

SCRIPT = {
    suite.ADD: ScriptedCell(outputs=(value("2"),)),
    suite.SPEAK: ScriptedCell(
        outputs=(out("out\n"), StreamOutput(name="stderr", head="err\n"), out("more\n"), value("'value'"))
    ),
    suite.FAIL: ScriptedCell(
        outputs=(out("before\n"), ErrorOutput(ename="ZeroDivisionError", evalue="division by zero"))
    ),
    suite.RAISE_INTERRUPT: ScriptedCell(outputs=(ErrorOutput(ename="KeyboardInterrupt", evalue=""),)),
    suite.FINISH: ScriptedCell(outputs=(out("done\n"),), finish=FinishValue(value={"answer": 42})),
    suite.FINISH_NONE: ScriptedCell(finish=FinishValue(value=None)),
    suite.SLOW: ScriptedCell(outputs=(out("begun\n"),), takes_s=60),
    suite.BIND: ScriptedCell(binds=(X, Y)),
    suite.CHANGE: ScriptedCell(binds=(CHANGED,)),
    suite.UNBIND: ScriptedCell(deletes=("x",)),
    contract_tools.CALL: ScriptedCell(outputs=(out("3\n"),), calls=(call("add", a=1, b=2),)),
    contract_tools.CALL_BY_POSITION: ScriptedCell(outputs=(out("3\n"),), calls=(call("add", a=1, b=2),)),
    contract_tools.CALL_ASYNC: ScriptedCell(outputs=(out("3\n"),), calls=(call("add", a=1, b=2),)),
    contract_tools.CALL_TWENTY: ScriptedCell(
        outputs=(out("190\n"),), calls=tuple(call("add", a=n, b=0) for n in range(20))
    ),
    contract_tools.CALL_REFUSED: ScriptedCell(
        outputs=(out("resource_limit quota no room is left no room is left\n"),), calls=(call("refuse", why="full"),)
    ),
    contract_tools.CALL_BROKEN: ScriptedCell(outputs=(out("execution\n"),), calls=(call("broken"),)),
    contract_tools.CALL_UNCAUGHT: ScriptedCell(
        outputs=(ErrorOutput(ename="ToolError", evalue="no room is left"),), calls=(call("refuse", why="full"),)
    ),
    contract_tools.CALL_HANGS: ScriptedCell(calls=(call("hang"),)),
    contract_guard.START: ScriptedCell(outputs=(out("started\n"),), wishes=(contract_guard.TRUE,)),
    contract_guard.START_TWICE: ScriptedCell(outputs=(out("twice\n"),), wishes=(contract_guard.TRUE,) * 2),
    contract_guard.START_TWO: ScriptedCell(
        outputs=(out("both\n"),), wishes=(contract_guard.TRUE, contract_guard.FALSE)
    ),
}


@pytest.fixture(scope="module")
def kernel() -> Iterator[ScriptedKernel]:
    kernel = ScriptedKernel(SCRIPT)
    asyncio.run(kernel.start())
    yield kernel
    asyncio.run(kernel.shutdown())


class TestScriptedKernel(KernelContract):
    async def kill(self, kernel: Kernel) -> None:
        assert isinstance(kernel, ScriptedKernel)
        await kernel.kill()


def test_it_is_registered() -> None:
    assert resolve("scripted") is ScriptedKernel
    assert isinstance(ScriptedKernel(), Kernel)


async def test_without_a_script_every_cell_ends_well() -> None:
    kernel = ScriptedKernel()
    await kernel.start()
    assert (await kernel.run("k", "anything")).outcome is CellOutcome.OK
    assert kernel.ran == [("k", "anything")]


async def test_a_sequence_is_played_in_order_and_says_when_it_is_used_up() -> None:
    kernel = ScriptedKernel([ScriptedCell(outputs=(out("one"),)), ScriptedCell(dies=True)])
    await kernel.start()
    assert (await kernel.run("a", "1")).outputs == (out("one"),)
    assert (await kernel.run("b", "2")).outcome is CellOutcome.DEAD
    await kernel.restart()
    used_up = await kernel.run("c", "3")
    assert used_up.error is not None
    assert used_up.error.ename == "Unscripted"


async def test_a_function_sees_the_code() -> None:
    kernel = ScriptedKernel(lambda code: ScriptedCell(outputs=(out(code.upper()),)))
    await kernel.start()
    assert (await kernel.run("a", "shout")).outputs == (out("SHOUT"),)


async def test_a_cell_that_ignores_its_interrupt_keeps_the_kernel_busy_until_a_restart() -> None:
    kernel = ScriptedKernel({"loop": ScriptedCell(takes_s=60, ignores_interrupt=True)}, interrupt_timeout_s=0.05)
    await kernel.start()
    result = await kernel.run("k", "loop", timeout_s=0.05)
    assert result.outcome is CellOutcome.TIMEOUT
    assert "still runs" in result.detail
    assert not await kernel.interrupt()
    with pytest.raises(KernelBusyError):
        await kernel.run("other", "loop")
    await kernel.restart()
    task = asyncio.ensure_future(kernel.run("k", "loop"))
    await asyncio.sleep(0.01)
    assert not await kernel.interrupt()
    assert not task.done()
    await kernel.shutdown()
    assert (await task).outcome is CellOutcome.DEAD


async def test_what_was_recorded_is_not_run() -> None:
    kernel = ScriptedKernel()
    await kernel.start()
    await kernel.run("a", "one")
    await asyncio.gather(kernel.run("a", "one"), kernel.run("b", "two"), kernel.run("b", "two"))
    assert kernel.ran == [("a", "one"), ("b", "two")]


async def test_a_queued_cell_that_never_ran_leaves_its_key_free() -> None:
    kernel = ScriptedKernel({"slow": ScriptedCell(takes_s=60)})
    await kernel.start()
    slow = asyncio.ensure_future(kernel.run("a", "slow"))
    queued = asyncio.ensure_future(kernel.run("b", "other"))
    waiting = asyncio.ensure_future(kernel.run("b", "other"))
    await asyncio.sleep(0.01)
    queued.cancel()
    await kernel.interrupt()
    assert (await slow).outcome is CellOutcome.INTERRUPTED
    assert not (await waiting).recovered
    assert kernel.ran == [("a", "slow"), ("b", "other")]


async def test_without_a_ledger_a_started_key_is_lost() -> None:
    kernel = ScriptedKernel(has_ledger=False)
    await kernel.start()
    lost = await kernel.run("a", "one", started=True)
    assert lost.outcome is CellOutcome.LOST
    assert "no record" in lost.detail
    assert kernel.ran == []
    assert (await kernel.run("a", "one")).outcome is CellOutcome.OK
    assert (await kernel.run("a", "one", started=True)).recovered


@pytest.mark.parametrize("offered", [True, False])
async def test_a_tool_that_is_not_offered_is_an_invalid_request(offered: bool) -> None:
    kernel = ScriptedKernel([ScriptedCell(calls=(call("nothing", x=1),))])
    await kernel.start()
    result = await kernel.run("a", "call", tools=contract_tools.Answering().tools if offered else None)
    (record,) = result.tool_calls
    assert (record.call_id, record.tool, record.args) == ("c1", "nothing", {"x": 1})
    assert isinstance(record.output.outcome, ToolFailed)
    assert record.output.outcome.payload.class_ is ToolFailureClass.INVALID_REQUEST
    assert record.output.outcome.payload.code == "unknown_tool"


async def test_in_another_language_there_are_no_variables_to_see() -> None:
    kernel = ScriptedKernel([ScriptedCell(binds=(X,))], language="bash")
    await kernel.start()
    assert kernel.language == "bash"
    await kernel.run("a", "x=1")
    assert (await kernel.namespace()).variables == ()
