"""A kernel to try code out in: like the session's, with copies, under its approval, and nothing left of it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedModel, Session
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome, CellResult, StreamOutput
from lash_nb.scratch import Scratch
from lash_nb.sharing import Sharing


def session(place: Path, namespace: dict[str, Any] | None = None, **options: Any) -> Session:
    sharing = Sharing(namespace) if namespace is not None else None
    return Session(ScriptedModel({}), base_dir=place, state_dir=place / "state", sharing=sharing, **options)


def printed(result: CellResult) -> str:
    return "".join(one.head for one in result.outputs if isinstance(one, StreamOutput))


async def test_it_runs_cells_where_the_session_does_and_leaves_nothing(tmp_path: Path) -> None:
    async with session(tmp_path) as one:
        async with Scratch(one) as scratch:
            assert (await scratch.run("a = 1")).outcome is CellOutcome.OK
            ran = await scratch.run("import os; print(a, os.getcwd())")
            assert printed(ran) == f"1 {tmp_path}\n"
            kernel = scratch.kernel
            assert isinstance(kernel, ManagedKernel)
            assert kernel is not one.kernel
            failed = await scratch.run("1 / 0")
            assert failed.error is not None
            assert failed.error.ename == "ZeroDivisionError"
            await scratch.renew()
            gone = await scratch.run("a")
            assert gone.error is not None
        assert not kernel.alive
        with pytest.raises(RuntimeError):
            _ = scratch.kernel
    assert one.turns == []


async def test_what_the_notebook_has_goes_over_as_copies_each_time_afresh(tmp_path: Path) -> None:
    namespace: dict[str, Any] = {"rows": [1, 2], "limit": 5, "_i1": "x", "__name__": "__main__"}
    exec("def below(x):\n    return x < limit", namespace)
    async with session(tmp_path, namespace) as one, Scratch(one) as scratch:
        await scratch.prepare()
        shared = await scratch.share("rows.append(3); print(below(6))")
        assert shared is not None
        assert [each.name for each in shared.shared] == ["below", "limit", "rows"]
        assert printed(await scratch.run("rows.append(3); print(rows, below(6))")) == "[1, 2, 3] False\n"
        assert namespace["rows"] == [1, 2]
        namespace["limit"] = 9
        await scratch.share("rows.append(3); print(below(6))")
        assert printed(await scratch.run("print(rows, below(6), 'rows_agent' in globals())")) == "[1, 2] True False\n"
        assert await scratch.share("print(nobody_has_it)") is None


async def test_without_sharing_nothing_goes(tmp_path: Path) -> None:
    async with session(tmp_path) as one, Scratch(one) as scratch:
        assert await scratch.prepare() == ()
        assert await scratch.share("rows") is None


async def test_effects_are_refused_unless_all_is_allowed(tmp_path: Path) -> None:
    code = "import subprocess; print(subprocess.run(['true']).returncode)"
    async with session(tmp_path) as one:
        async with Scratch(one) as scratch:
            refused = await scratch.run(code)
            assert refused.error is not None
            assert refused.error.ename == "PermissionError"
            assert "only tried out" in refused.error.evalue
            assert printed(await scratch.run("open('a.txt', 'w').write('x'); print('in its directory')"))
        one.approve = type(one.approve)("all")
        async with Scratch(one) as scratch:
            assert printed(await scratch.run(code)) == "0\n"


async def test_a_cell_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    async with session(tmp_path) as one, Scratch(one) as scratch:
        ran = await scratch.run("import time; time.sleep(60)", timeout_s=0.5)
        assert ran.outcome is CellOutcome.TIMEOUT


async def test_a_secret_does_not_leave_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-" + "Zx81" * 8
    monkeypatch.setenv("MY_API_KEY", secret)
    async with session(tmp_path) as one, Scratch(one) as scratch:
        assert secret not in printed(await scratch.run(f"print({secret!r})"))


async def test_it_ends_when_it_is_cancelled(tmp_path: Path) -> None:
    begun: list[ManagedKernel] = []
    there = asyncio.Event()

    async def work(one: Session) -> None:
        async with Scratch(one) as scratch:
            assert isinstance(scratch.kernel, ManagedKernel)
            begun.append(scratch.kernel)
            there.set()
            await scratch.run("import time; time.sleep(60)")

    async with session(tmp_path) as one:
        task = asyncio.ensure_future(work(one))
        await there.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not begun[0].alive
        early = asyncio.ensure_future(work(one))
        await asyncio.sleep(0.05)
        early.cancel()
        with pytest.raises(asyncio.CancelledError):
            await early
        assert len(begun) == 1
