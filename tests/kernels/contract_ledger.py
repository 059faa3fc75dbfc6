"""The contract's ledger: a key runs once in a kernel's life, whatever is asked, and whoever asks."""

from __future__ import annotations

import asyncio

import pytest

from lash_nb.errors import KernelError
from lash_nb.kernels import Kernel
from lash_nb.machine.execution import CellOutcome

from .suite import ADD, BIND, CHANGE, FAIL, FINISH, SLOW, SPEAK, KernelSuite, fresh, texts


class LedgerContract(KernelSuite):
    async def test_a_key_that_ran_is_answered_from_the_record(self, live: Kernel) -> None:
        await live.restart()
        await live.run(fresh(), BIND)
        key = fresh()
        first = await live.run(key, CHANGE)
        again = await live.run(key, CHANGE)
        assert (first.outcome, first.recovered) == (CellOutcome.OK, False)
        assert (again.outcome, again.recovered) == (CellOutcome.OK, True)
        assert [v.preview for v in (await live.namespace()).variables if v.name == "x"] == ["[1, 2, 3]"]

    @pytest.mark.parametrize("code", [SPEAK, FAIL, FINISH])
    async def test_the_record_holds_all_of_the_result(self, live: Kernel, code: str) -> None:
        key = fresh()
        first = await live.run(key, code)
        again = await live.run(key, code)
        assert again.recovered
        assert (again.outcome, again.finish, texts(again)) == (first.outcome, first.finish, texts(first))
        assert again.execution_count == first.execution_count
        assert (again.error and again.error.ename) == (first.error and first.error.ename)

    async def test_a_key_that_runs_is_waited_for(self, live: Kernel) -> None:
        begun, key = asyncio.Event(), fresh()
        first = asyncio.ensure_future(live.run(key, SLOW, on_output=lambda outputs: begun.set()))
        await asyncio.wait_for(begun.wait(), 20)
        second = asyncio.ensure_future(live.run(key, SLOW))
        await asyncio.sleep(0.05)
        assert not second.done()
        assert await live.interrupt()
        results = [await first, await second]
        assert [result.outcome for result in results] == [CellOutcome.INTERRUPTED] * 2
        assert [result.recovered for result in results] == [False, True]
        await self.check_usable(live)

    async def test_a_key_with_other_code_is_refused(self, live: Kernel) -> None:
        key = fresh()
        await live.run(key, ADD)
        with pytest.raises(KernelError):
            await live.run(key, BIND)
        assert (await live.run(key, ADD)).recovered

    async def test_no_key_is_no_record(self, live: Kernel) -> None:
        results = [await live.run("", ADD) for _ in range(2)]
        assert [(result.outcome, result.recovered) for result in results] == [(CellOutcome.OK, False)] * 2

    async def test_a_new_life_has_an_empty_ledger(self, live: Kernel) -> None:
        key = fresh()
        await live.run(key, ADD)
        await live.restart()
        result = await live.run(key, FAIL, started=True)  # this life knows that it never ran it
        assert (result.outcome, result.recovered) == (CellOutcome.ERROR, False)

    async def test_a_cancelled_cell_has_a_record_too(self, live: Kernel) -> None:
        begun, key = asyncio.Event(), fresh()
        task = asyncio.ensure_future(live.run(key, SLOW, on_output=lambda outputs: begun.set()))
        await asyncio.wait_for(begun.wait(), 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        result = await live.run(key, SLOW)
        assert (result.outcome, result.recovered) == (CellOutcome.INTERRUPTED, True)
