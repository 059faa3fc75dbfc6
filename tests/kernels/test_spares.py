"""A spare kernel: taken once, by who wants exactly that; replaced; gone with its process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from lash_nb.kernels import InputRequest, spares
from lash_nb.kernels.children import marked
from lash_nb.kernels.guardian import lives, start_time
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.resources import ResourceLimits
from lash_nb.kernels.spares import drop_spare, spare_ready
from lash_nb.machine.execution import StreamOutput
from lash_nb.stores.blobs import BlobStore

from .hosts import wait_for
from .suite import fresh, texts

pytestmark = pytest.mark.timeout(90)

READY_S = 30.0
HOST_CODE = """
import asyncio, os, sys, time
from lash_nb.kernels import InputRequest, spares
from lash_nb.kernels.managed import ManagedKernel

async def main(directory, then):
    kernel = ManagedKernel(cwd=directory, spare=True)
    await kernel.start()
    assert await spares.spare_ready(30)
    spare = spares._spare.life.process
    print(kernel.pid, spare.pid, spare.directory, flush=True)
    if then == 'wait': time.sleep(100)
    await kernel.shutdown()

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def _none_is_left() -> Iterator[None]:
    drop_spare()
    yield
    drop_spare()


@pytest.fixture
async def first(tmp_path: Path) -> AsyncIterator[ManagedKernel]:
    """One that has made a spare ready."""
    async with ManagedKernel(cwd=tmp_path, spare=True) as kernel:
        assert await spare_ready(READY_S)
        yield kernel


def waiting() -> int:
    """The process of the spare that is ready."""
    assert spares._spare is not None
    assert spares._spare.life is not None
    return spares._spare.life.process.pid


async def started(kernel: ManagedKernel) -> int:
    await kernel.start()
    assert kernel.pid is not None
    return kernel.pid


async def test_it_is_taken_once_and_replaced(first: ManagedKernel, tmp_path: Path) -> None:
    spare = waiting()
    second, third = (ManagedKernel(cwd=tmp_path, spare=True) for _ in range(2))
    try:
        assert await started(second) == spare != first.pid
        assert texts(await second.run(fresh(), "import os; os.getpid()")) == [str(spare)]
        assert await spare_ready(READY_S)
        assert waiting() not in (first.pid, spare)
        assert await started(third) not in (first.pid, second.pid)
    finally:
        await asyncio.gather(second.shutdown(), third.shutdown())


async def test_two_that_start_at_once_take_one_each(first: ManagedKernel, tmp_path: Path) -> None:
    some = [ManagedKernel(cwd=tmp_path, spare=True) for _ in range(2)]
    try:
        pids = await asyncio.gather(*map(started, some))
        assert len({first.pid, *pids}) == 3
    finally:
        await asyncio.gather(*(kernel.shutdown() for kernel in some))


async def test_a_restart_takes_it(first: ManagedKernel) -> None:
    spare = waiting()
    await first.run(fresh(), "x = 1")
    await first.restart()
    assert first.pid == spare
    assert texts(await first.run(fresh(), "'x' in globals()")) == ["False"]


@pytest.mark.parametrize("other", ["cwd", "env", "resources", "debugger"])
async def test_one_of_another_kind_is_not_taken(first: ManagedKernel, tmp_path: Path, other: str) -> None:
    (tmp_path / "other").mkdir()
    options: dict[str, dict[str, Any]] = {
        "cwd": {"cwd": tmp_path / "other"},
        "env": {"env": {**os.environ, "OTHER": "1"}},
        "resources": {"resources": ResourceLimits(open_files=256)},
        "debugger": {"debugger": True},
    }
    spare = waiting()
    kernel = ManagedKernel(**{"cwd": tmp_path, "spare": True, **options[other]})
    try:
        assert await started(kernel) != spare
    finally:
        await kernel.shutdown()


async def test_who_does_not_ask_for_one_gets_none(first: ManagedKernel, tmp_path: Path) -> None:
    spare = waiting()
    async with ManagedKernel(cwd=tmp_path) as kernel:
        assert kernel.pid != spare
    assert waiting() == spare


async def test_by_default_none_is_made(tmp_path: Path) -> None:
    async with ManagedKernel(cwd=tmp_path):
        assert not await spare_ready(0.1)


async def test_a_dead_one_is_not_taken(first: ManagedKernel, tmp_path: Path) -> None:
    spare = waiting()
    os.kill(spare, signal.SIGKILL)
    wait_for(lambda: not lives(spare, None))
    kernel = ManagedKernel(cwd=tmp_path, spare=True)
    try:
        assert await started(kernel) != spare
        assert texts(await kernel.run(fresh(), "1")) == ["1"]
    finally:
        await kernel.shutdown()


async def test_one_that_is_dropped_ends(first: ManagedKernel) -> None:
    spare = waiting()
    since = start_time(spare)
    drop_spare()
    assert not lives(spare, since)
    assert not await spare_ready(0.1)


async def test_one_that_is_dropped_while_it_is_made_ends(tmp_path: Path) -> None:
    async with ManagedKernel(cwd=tmp_path, spare=True):
        making = spares._spare
        assert making is not None
        drop_spare()
        assert await making.ready.wait(READY_S)
        assert making.life is None
        assert making.opened is None or not making.opened.alive


async def test_input_and_long_outputs_work_in_one_that_was_taken(tmp_path: Path) -> None:
    store, asked = BlobStore(tmp_path / "blobs"), []

    def answer(request: InputRequest) -> str:
        asked.append(request.prompt)
        return "blue"

    options: dict[str, Any] = {"cwd": tmp_path, "spare": True, "store": store, "on_input": answer}
    async with ManagedKernel(**options):
        assert await spare_ready(READY_S)
        spare = waiting()
        async with ManagedKernel(**options) as kernel:
            assert kernel.pid == spare
            result = await kernel.run(fresh(), "print(input('colour? '))\nfor n in range(20_000): print(n)")
            (spilled,) = [
                output.spilled for output in result.outputs if isinstance(output, StreamOutput) and output.spilled
            ]
            assert asked == ["colour? "]
            assert store.get(spilled).startswith(b"blue\n0\n1\n")


@pytest.mark.parametrize("then", ["end", "wait"])
def test_it_ends_with_its_process(tmp_path: Path, then: str) -> None:
    command = [sys.executable, "-c", HOST_CODE, str(tmp_path), then]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        try:
            assert host.stdout is not None
            main, spare, directory = host.stdout.readline().split()
            if then == "end":
                assert host.wait(30) == 0
        finally:
            host.kill()
    wait_for(lambda: not lives(int(spare), None) and not marked(directory))
    wait_for(lambda: not Path(directory).exists() or then == "wait")
    if then == "wait":  # the other one waits for somebody to take it over
        os.kill(int(main), signal.SIGKILL)
