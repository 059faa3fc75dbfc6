"""Sessions that are stopped, killed, forked or lied to: what was done is kept, and the next turn works."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from lash_nb import ManagedKernel, ScriptedKernel, ScriptedModel, Session
from lash_nb.bridge import shared_loop
from lash_nb.errors import (
    LashError,
    TurnFailed,
)
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.events import CodeBlockStarted, TurnActivity
from lash_nb.machine.execution import NamespaceSummary
from lash_nb.machine.llm import LlmRequest
from lash_nb.machine.outcomes import Stopped, TurnStopReason
from lash_nb.previews import Previews
from lash_nb.session import Limits
from lash_nb.stores.envelopes import open_checkpoint
from lash_nb.stores.notebook import read_block

from .conversations import Blocks, cell, history, last_message


@pytest.fixture(scope="module")
def kernel() -> Iterator[ManagedKernel]:
    kernel = ManagedKernel()
    yield kernel
    shared_loop().run(kernel.shutdown())


async def test_stop_while_a_cell_runs_keeps_the_turn(kernel: ManagedKernel) -> None:
    model = ScriptedModel([cell("print('begun', flush=True)\nimport time; time.sleep(30)"), "Next."])
    blocks = Blocks()
    async with Session(model, kernel=kernel, on_block=blocks) as session:

        def stop(activity: TurnActivity) -> None:
            if isinstance(activity, CodeBlockStarted):
                threading.Timer(0.4, session.request_stop).start()

        with pytest.raises(TurnFailed) as failure:
            await session.run("Wait.", on_activity=stop)
        turn = session.turns[-1]
        assert failure.value.turn is turn
        assert turn.status == "stopped"
        assert turn.outcome == Stopped(stop=TurnStopReason.CANCELLED)
        assert turn.outputs[0]["text"] == "begun\n"
        assert blocks.blocks[-1]["head"] is None
        assert (await session.run("Go on.")).text == "Next."
    assert any("interrupted" in text and "time.sleep(30)" in text for text in history(model, 1))


# -- stopping, parked at each await ------------------------------------------------------------------------------------


class Parked:
    """A kernel that hangs in one method until it is cancelled; everything else is the scripted kernel's."""

    def __init__(self, where: str) -> None:
        self._inner = ScriptedKernel([ScriptedCell(takes_s=60.0)] if where == "run" else None)
        self._where = where
        self.parked = threading.Event()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        if name == "run":
            self.parked.set()
        if name != self._where or name == "run":
            return method

        async def hang(*args: Any, **options: Any) -> Any:
            self.parked.set()
            await asyncio.sleep(60)

        return hang


@pytest.mark.parametrize("where", ["start", "namespace", "model", "run"])
async def test_a_caller_that_is_cancelled_stops_the_turn_wherever_it_is(where: str) -> None:
    kernel = Parked(where)

    def asked(request: LlmRequest) -> str:
        kernel.parked.set()
        return cell("x")

    model = ScriptedModel([asked, "end"], delay_s=30.0 if where == "model" else 0.0)
    async with Session(model, kernel=kernel) as session:
        task = asyncio.create_task(session.run("Hang."))
        assert await asyncio.to_thread(kernel.parked.wait, 20)
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert session.turns[-1].status == "stopped"
        assert not session.running


async def test_run_sync_from_plain_code() -> None:
    def work() -> str:
        with Session(ScriptedModel([cell("1"), "one"]), kernel=ScriptedKernel()) as session:
            return session.run_sync("Count.").text

    assert await asyncio.to_thread(work) == "one"


# -- what its authors did not think of ---------------------------------------------------------------------------------


async def test_a_stop_right_behind_the_request_is_not_lost() -> None:
    async with Session(ScriptedModel(["Long."], delay_s=30.0), kernel=ScriptedKernel()) as session:
        task = asyncio.create_task(session.run("Wait.", raise_on_failure=False))
        await asyncio.sleep(0)  # the request is on its way to the session's loop
        session.request_stop()
        turn = await asyncio.wait_for(task, 20)
        assert turn.status == "stopped"
        assert session.turns == [turn]


class DiesWhenAsked(ScriptedKernel):
    """Its process ends the first time that it is asked for its variables."""

    died = False

    async def namespace(self, *, limit: int = 200, previews: Previews = "sample") -> NamespaceSummary:
        if not self.died:
            self.died = True
            await self.kill()
        return await super().namespace(limit=limit, previews=previews)


async def test_a_kernel_that_dies_while_it_is_described_is_replaced_and_told() -> None:
    model = ScriptedModel(["Fine."])
    async with Session(model, kernel=DiesWhenAsked()) as session:
        turn = await session.run("Go.")
    assert "a new one was started" in last_message(model, 0)
    assert "a new one was started" in turn.bundle()["text/plain"]


async def test_a_kernel_that_is_gone_altogether_is_told() -> None:
    model = ScriptedModel([cell("precious = 1"), "Kept.", "Gone."])
    kernel = ManagedKernel()
    async with Session(model, kernel=kernel) as session:
        await session.run("Keep it.")
        await kernel.shutdown()
        await session.run("Is it there?")
        await kernel.shutdown()
    assert "Lost with the old one: precious" in last_message(model, 2)


async def test_a_cell_that_nothing_interrupts_costs_its_kernel_and_not_the_session() -> None:
    kernel = ScriptedKernel([ScriptedCell(takes_s=60.0, ignores_interrupt=True), ScriptedCell()])
    model = ScriptedModel([cell("stuck"), cell("not run"), cell("x"), "Done."])
    async with Session(model, kernel=kernel, limits=Limits(cell_seconds=0.1)) as session:
        turn = await session.run("Go.")
    assert [step.outcome for step in turn.picture.steps] == ["timeout", "aborted", "ok"]
    assert "A new kernel was started" in history(model, 2)[-1]


async def test_half_a_surrogate_pair_breaks_neither_cell_nor_record(kernel: ManagedKernel) -> None:
    model = ScriptedModel([cell("print('a\ud800')"), cell("finish('\\udc80')", "b\udc80")])
    blocks = Blocks()
    async with Session(model, kernel=kernel, on_block=blocks) as session:
        turn = await session.run("c\ud800")
    assert turn.value == "\ufffd"
    assert turn.outputs[0]["text"] == "a\ufffd\n"
    block = read_block({"lash_nb": blocks.blocks[-1]})
    assert block is not None
    assert open_checkpoint(block.turns[0]).pending_effects


def test_a_forked_child_is_told_and_leaves_the_parents_session_alone() -> None:
    with Session(ScriptedModel(["One.", "Two."]), kernel=ScriptedKernel()) as session:
        assert session.run_sync("?").text == "One."
        pid = os.fork()
        if pid == 0:
            signal.alarm(20)
            code = 1
            try:
                session.close()
                session.run_sync("?")
            except LashError:
                code = 0
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert session.run_sync("?").text == "Two."
