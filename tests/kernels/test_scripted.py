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

from . import contract


def out(text: str) -> StreamOutput:
    return StreamOutput(name="stdout", head=text)


def value(text: str) -> ResultOutput:
    return ResultOutput(data={"text/plain": text}, metadata={})


X = VariableSummary(name="x", type="list", detail="length 2", preview="[1, 2]")
CHANGED = VariableSummary(name="x", type="list", detail="length 3", preview="[1, 2, 3]")
Y = VariableSummary(name="y", type="str", detail="length 4", preview="'text'")

SCRIPT = {
    contract.ADD: ScriptedCell(outputs=(value("2"),)),
    contract.SPEAK: ScriptedCell(
        outputs=(out("out\n"), StreamOutput(name="stderr", head="err\n"), out("more\n"), value("'value'"))
    ),
    contract.FAIL: ScriptedCell(
        outputs=(out("before\n"), ErrorOutput(ename="ZeroDivisionError", evalue="division by zero"))
    ),
    contract.RAISE_INTERRUPT: ScriptedCell(outputs=(ErrorOutput(ename="KeyboardInterrupt", evalue=""),)),
    contract.FINISH: ScriptedCell(outputs=(out("done\n"),), finish=FinishValue(value={"answer": 42})),
    contract.FINISH_NONE: ScriptedCell(finish=FinishValue(value=None)),
    contract.SLOW: ScriptedCell(outputs=(out("begun\n"),), takes_s=60),
    contract.BIND: ScriptedCell(binds=(X, Y)),
    contract.CHANGE: ScriptedCell(binds=(CHANGED,)),
    contract.UNBIND: ScriptedCell(deletes=("x",)),
}


@pytest.fixture(scope="module")
def kernel() -> Iterator[ScriptedKernel]:
    kernel = ScriptedKernel(SCRIPT)
    asyncio.run(kernel.start())
    yield kernel
    asyncio.run(kernel.shutdown())


class TestScriptedKernel(contract.KernelContract):
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
        await kernel.run("k", "loop")
    await kernel.restart()
    task = asyncio.ensure_future(kernel.run("k", "loop"))
    await asyncio.sleep(0.01)
    assert not await kernel.interrupt()
    assert not task.done()
    await kernel.shutdown()
    assert (await task).outcome is CellOutcome.DEAD
