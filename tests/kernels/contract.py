"""What every kernel does, whoever implements it: one suite, run on the real one and on the double.

A subclass gives the `kernel` fixture (shared by its tests) and `kill`. The double maps the codes of `suite`,
`contract_tools` and `contract_guard` to behaviours.
"""

from __future__ import annotations

import asyncio
import threading

import pytest

from lash_nb.errors import KernelDiedError
from lash_nb.kernels import Kernel
from lash_nb.machine.execution import CellOutcome, CellOutput, ErrorOutput, FinishValue, ResultOutput, StreamOutput

from .contract_guard import GuardContract
from .contract_ledger import LedgerContract
from .contract_tools import ToolContract
from .suite import (
    ADD,
    BIND,
    CHANGE,
    FAIL,
    FINISH,
    FINISH_NONE,
    RAISE_INTERRUPT,
    SLOW,
    SPEAK,
    UNBIND,
    fresh,
    until_begun,
)

__all__ = ["KernelContract", "until_begun"]


class KernelContract(GuardContract, LedgerContract, ToolContract):
    async def test_the_value_of_the_last_expression(self, live: Kernel) -> None:
        await self.check_usable(live)

    async def test_outputs_are_in_order(self, live: Kernel) -> None:
        result = await live.run(fresh(), SPEAK)
        *streams, value = result.outputs
        assert result.outcome is CellOutcome.OK
        assert [(o.name, o.head) for o in streams if isinstance(o, StreamOutput)] == [
            ("stdout", "out\n"),
            ("stderr", "err\n"),
            ("stdout", "more\n"),
        ]
        assert isinstance(value, ResultOutput)
        assert value.data["text/plain"] == "'value'"

    async def test_an_error_is_an_outcome(self, live: Kernel) -> None:
        result = await live.run(fresh(), FAIL)
        assert result.outcome is CellOutcome.ERROR
        stream, error = result.outputs
        assert isinstance(stream, StreamOutput)
        assert stream.head == "before\n"
        assert isinstance(error, ErrorOutput)
        assert error == result.error
        assert (error.ename, error.evalue) == ("ZeroDivisionError", "division by zero")
        assert not any("\x1b" in line for line in error.traceback)
        await self.check_usable(live)

    async def test_a_keyboard_interrupt_of_the_cells_own_is_an_error(self, live: Kernel) -> None:
        result = await live.run(fresh(), RAISE_INTERRUPT)
        assert result.outcome is CellOutcome.ERROR
        assert result.error is not None
        assert result.error.ename == "KeyboardInterrupt"

    async def test_finish_gives_its_value_and_no_error(self, live: Kernel) -> None:
        result = await live.run(fresh(), FINISH)
        assert result.outcome is CellOutcome.OK
        assert result.finish == FinishValue(value={"answer": 42})
        assert result.error is None
        (stream,) = result.outputs
        assert isinstance(stream, StreamOutput)
        assert stream.head == "done\n"

    async def test_finish_with_nothing_is_a_finish_too(self, live: Kernel) -> None:
        assert (await live.run(fresh(), FINISH_NONE)).finish == FinishValue(value=None)
        assert (await live.run(fresh(), ADD)).finish is None

    async def test_cells_are_queued(self, live: Kernel) -> None:
        results = await asyncio.gather(*(live.run(fresh(), ADD) for _ in range(5)), live.run(fresh(), FAIL))
        assert [r.outcome for r in results] == [CellOutcome.OK] * 5 + [CellOutcome.ERROR]
        counts = [r.execution_count for r in results]
        assert counts == list(range(counts[0] or 0, (counts[0] or 0) + 6))

    async def test_a_time_limit_interrupts(self, live: Kernel) -> None:
        result = await live.run(fresh(), SLOW, timeout_s=0.3)
        assert result.outcome is CellOutcome.TIMEOUT
        assert "0.3 s" in result.detail
        assert isinstance(result.outputs[0], StreamOutput)
        assert result.outputs[0].head == "begun\n"
        await self.check_usable(live)

    async def test_a_time_limit_that_is_not_reached_changes_nothing(self, live: Kernel) -> None:
        assert (await live.run(fresh(), ADD, timeout_s=30)).outcome is CellOutcome.OK

    async def test_interrupt(self, live: Kernel) -> None:
        task = await until_begun(live)
        assert await live.interrupt()
        result = await task
        assert result.outcome is CellOutcome.INTERRUPTED
        assert result.detail
        assert isinstance(result.outputs[0], StreamOutput)
        await self.check_usable(live)

    async def test_interrupting_an_idle_kernel_does_nothing(self, live: Kernel) -> None:
        assert await live.interrupt()
        await self.check_usable(live)

    async def test_cancelling_interrupts_and_goes_on(self, live: Kernel) -> None:
        task = await until_begun(live)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await self.check_usable(live)

    async def test_a_queued_cell_that_is_cancelled_never_runs(self, live: Kernel) -> None:
        task = await until_begun(live)
        queued = asyncio.ensure_future(live.run(fresh(), BIND.replace("x", "never")))
        await asyncio.sleep(0.05)
        queued.cancel()
        with pytest.raises(asyncio.CancelledError):
            await queued
        assert not task.done()
        await live.interrupt()
        assert (await task).outcome is CellOutcome.INTERRUPTED
        assert "never" not in [v.name for v in (await live.namespace()).variables]

    async def test_outputs_are_told_while_the_cell_runs_and_at_its_end(self, live: Kernel) -> None:
        seen: list[tuple[CellOutput, ...]] = []
        told = asyncio.Event()

        def sink(outputs: tuple[CellOutput, ...]) -> None:
            seen.append(outputs)
            told.set()

        task = asyncio.ensure_future(live.run(fresh(), SLOW, on_output=sink))
        await told.wait()
        assert not task.done()
        await live.interrupt()
        result = await task
        assert seen[-1] == result.outputs

    async def test_the_namespace_marks_what_changed(self, live: Kernel) -> None:
        await live.restart()
        await live.run(fresh(), BIND)
        first = await live.namespace()
        assert [(v.name, v.type, v.changed) for v in first.variables] == [("x", "list", True), ("y", "str", True)]
        await live.run(fresh(), CHANGE)
        second = await live.namespace()
        assert [(v.name, v.changed) for v in second.variables] == [("x", True), ("y", False)]
        assert "3" in second.variables[0].preview
        await live.run(fresh(), UNBIND)
        third = await live.namespace()
        assert third.removed == ("x",)
        assert [(v.name, v.changed) for v in third.variables] == [("y", False)]
        assert (await live.namespace()).removed == ()

    async def test_the_namespace_is_capped(self, live: Kernel) -> None:
        await live.restart()
        await live.run(fresh(), BIND)
        summary = await live.namespace(limit=1)
        assert (len(summary.variables), summary.omitted) == (1, 1)

    async def test_the_namespace_says_no_values_where_only_the_schema_may_leave(self, live: Kernel) -> None:
        await live.restart()
        await live.run(fresh(), BIND)
        told = await live.namespace(previews="schema")
        assert [(v.name, v.type, v.detail, v.preview) for v in told.variables] == [
            ("x", "list", "length 2 of int", ""),
            ("y", "str", "length 4", ""),
        ]
        assert not any(v.changed for v in (await live.namespace(previews="sample")).variables)
        assert all(v.preview for v in (await live.namespace(previews="full")).variables)

    async def test_the_namespace_can_be_read_while_a_cell_runs(self, live: Kernel) -> None:
        await live.run(fresh(), BIND)
        task = await until_begun(live)
        assert "y" in [v.name for v in (await live.namespace()).variables]
        assert not task.done()
        await live.interrupt()
        await task

    def test_other_event_loops_can_use_it(self, kernel: Kernel) -> None:
        async def use() -> None:
            if not kernel.alive:
                await kernel.restart()
            await self.check_usable(kernel)

        problems: list[BaseException] = []

        def elsewhere() -> None:
            try:
                asyncio.run(use())
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=elsewhere) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems

    async def test_a_restart_is_a_new_life(self, live: Kernel) -> None:
        await live.run(fresh(), BIND)
        before = live.epoch
        await live.restart()
        assert live.alive
        assert live.epoch
        assert live.epoch != before
        assert (await live.namespace()).variables == ()
        await self.check_usable(live)

    async def test_starting_a_live_kernel_changes_nothing(self, live: Kernel) -> None:
        before = live.epoch
        await live.start()
        assert live.epoch == before

    async def test_death_in_mid_cell_is_an_outcome(self, live: Kernel) -> None:
        task = await until_begun(live)
        queued = asyncio.ensure_future(live.run(fresh(), ADD))
        await asyncio.sleep(0.05)
        await self.kill(live)
        result = await task
        assert result.outcome is CellOutcome.DEAD
        assert "SIGKILL" in result.detail
        assert isinstance(result.outputs[0], StreamOutput)
        with pytest.raises(KernelDiedError):
            await queued
        assert not live.alive
        with pytest.raises(KernelDiedError):
            await live.run(fresh(), ADD)
        with pytest.raises(KernelDiedError):
            await live.namespace()
        assert await live.interrupt()
        await live.restart()
        await self.check_usable(live)

    async def test_death_while_idle(self, live: Kernel) -> None:
        await self.kill(live)
        assert not live.alive
        with pytest.raises(KernelDiedError):
            await live.run(fresh(), ADD)

    async def test_a_restart_ends_the_running_cell(self, live: Kernel) -> None:
        task = await until_begun(live)
        await live.restart()
        result = await task
        assert result.outcome is CellOutcome.DEAD
        assert "restarted" in result.detail
        await self.check_usable(live)

    async def test_shutdown_is_final_until_it_is_started_again(self, live: Kernel) -> None:
        await live.shutdown()
        await live.shutdown()
        assert not live.alive
        with pytest.raises(KernelDiedError):
            await live.run(fresh(), ADD)
        await live.start()
        await self.check_usable(live)
