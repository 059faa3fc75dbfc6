"""A kernel whose host was killed, taken over by another: what it remembers, what goes on, what is refused."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from lash_nb.errors import KernelAttachError, KernelError
from lash_nb.kernels import CellTools, ToolOffer
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome, CellOutput, FinishValue, StreamOutput
from lash_nb.machine.tool_calls import PendingToolCall, ToolCallOutput, ToolFailed, ToolSucceeded
from lash_nb.stores.blobs import BlobStore

from .contract_guard import TRUE, Deciding
from .suite import fresh, texts

DONE = "print('early'); x = 1; finish({'a': 1})"
BIG = "for n in range(20_000): print(n)"
RUNNING = """
import os, time
print('begun', flush=True)
while not os.path.exists('go'): time.sleep(0.02)
print('ended'); x + 1
"""
CALLING = """
import asyncio, os
print('begun', flush=True)
taken = asyncio.ensure_future(tools.hang.aio())
while not os.path.exists('go'): await asyncio.sleep(0.02)
found = await asyncio.gather(taken, tools.add.aio(a=1, b=2), return_exceptions=True)
print(type(found[0]).__name__, found[0].code, found[1])
"""
ASKING = """
import subprocess
try: subprocess.run(['true']); print('started')
except PermissionError as error: print(error)
"""
HOLDS = "import time; print('begun', flush=True); time.sleep(1); sum(range(10**12))"
HOST = """
import asyncio, sys
from lash_nb.kernels import CellGuard, CellTools, ToolOffer
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.stores.blobs import BlobStore
from tests.kernels import test_taking_over as cells

async def hang(call):
    print("taken", flush=True)
    await asyncio.sleep(60)

async def decide(wish):
    print("asked", flush=True)
    await asyncio.sleep(60)

async def main(directory, running):
    kernel = ManagedKernel(cwd=directory, store=BlobStore(directory + "/blobs"), orphan_ttl_s=50.0)
    await kernel.start()
    for key, code in (("done", cells.DONE), ("big", cells.BIG)):
        await kernel.run(key, code)
    print(kernel.connection_file, kernel.epoch, kernel.pid, flush=True)
    begun = lambda outputs: print("begun", flush=True)
    offers = (ToolOffer(name="hang"), ToolOffer(name="add"))
    tools, guard = CellTools(offers=offers, on_call=hang), CellGuard(on_effect=decide)
    await kernel.run("running", running, on_output=begun, tools=tools, guard=guard)

asyncio.run(main(*sys.argv[1:]))
"""


@dataclass(frozen=True)
class Crashed:
    """A kernel that has lost its host."""

    connection_file: str
    epoch: str
    pid: int
    directory: Path

    @contextlib.asynccontextmanager
    async def taken_over(self) -> AsyncIterator[ManagedKernel]:
        store = BlobStore(self.directory / "blobs")
        kernel = await ManagedKernel.attach(self.connection_file, epoch=self.epoch, store=store)
        try:
            yield kernel
        finally:
            await kernel.shutdown()


@contextlib.contextmanager
def crashed(directory: Path, running: str = RUNNING, *, until: str = "begun") -> Iterator[Crashed]:
    """The host is killed while `running` runs, once it has said `until`."""
    command = [sys.executable, "-c", HOST, str(directory), running]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        try:
            connection_file, epoch, pid = host.stdout.readline().split()
            assert any(line == f"{until}\n" for line in host.stdout)
        finally:
            host.kill()
    try:
        yield Crashed(connection_file, epoch, int(pid), directory)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(pid), signal.SIGKILL)


async def test_what_ended_before_is_recovered_and_what_runs_is_followed(tmp_path: Path) -> None:
    with crashed(tmp_path) as lost:
        async with lost.taken_over() as kernel:
            assert kernel.epoch == lost.epoch
            assert kernel.pid == lost.pid
            assert kernel.following == "running"
            seen: list[tuple[CellOutput, ...]] = []
            told = asyncio.Event()

            def sink(outputs: tuple[CellOutput, ...]) -> None:
                seen.append(outputs)
                told.set()

            task = asyncio.ensure_future(kernel.run("running", RUNNING, on_output=sink, started=True))
            await told.wait()
            assert seen[0] == (StreamOutput(name="stdout", head="begun\n"),)
            (tmp_path / "go").touch()
            result = await task
            assert (result.outcome, result.recovered, texts(result)) == (CellOutcome.OK, True, ["begun\nended\n", "2"])
            assert seen[-1] == result.outputs
            again = await kernel.run("done", DONE, started=True)
            assert (again.outcome, again.recovered, again.finish) == (
                CellOutcome.OK,
                True,
                FinishValue(value={"a": 1}),
            )
            assert texts(again) == ["early\n"]
            (stream,) = (await kernel.run("big", BIG, started=True)).outputs
            assert isinstance(stream, StreamOutput)
            assert stream.spilled is not None
            assert (
                BlobStore(tmp_path / "blobs").get(stream.spilled) == "".join(f"{n}\n" for n in range(20_000)).encode()
            )
            assert texts(await kernel.run("new", "x + 40", started=True)) == ["41"]
        assert not Path(lost.connection_file).parent.exists()


async def test_a_cell_that_is_followed_can_be_interrupted(tmp_path: Path) -> None:
    with crashed(tmp_path) as lost:
        async with lost.taken_over() as kernel:
            task = asyncio.ensure_future(kernel.run("running", RUNNING))
            assert await kernel.interrupt()
            assert (await task).outcome is CellOutcome.INTERRUPTED
            assert texts(await kernel.run(fresh(), "x")) == ["1"]


async def test_a_cell_that_nobody_asks_for_can_be_interrupted_too(tmp_path: Path) -> None:
    with crashed(tmp_path) as lost:
        async with lost.taken_over() as kernel:
            queued = asyncio.ensure_future(kernel.run(fresh(), "x"))
            assert await kernel.interrupt()
            assert texts(await queued) == ["1"]
            assert kernel.following is None
            assert (await kernel.run("running", RUNNING)).outcome is CellOutcome.INTERRUPTED


async def test_a_question_that_nobody_answered_is_asked_again(tmp_path: Path) -> None:
    with crashed(tmp_path, ASKING, until="asked") as lost:
        async with lost.taken_over() as kernel:
            host = Deciding()
            result = await kernel.run("running", ASKING, guard=host.guard(), started=True)
            assert (texts(result), host.wishes) == (["started\n"], [TRUE])


async def test_a_question_is_refused_where_nobody_watches(tmp_path: Path) -> None:
    with crashed(tmp_path, ASKING, until="asked") as lost:
        async with lost.taken_over() as kernel:
            result = await kernel.run("running", ASKING, started=True)
            said = "this code may not start true: nobody who could be asked watches over this cell\n"
            assert texts(result) == [said]


async def test_death_of_a_followed_cell_is_an_outcome(tmp_path: Path) -> None:
    with crashed(tmp_path) as lost:
        async with lost.taken_over() as kernel:
            task = asyncio.ensure_future(kernel.run("running", RUNNING))
            await asyncio.sleep(0.1)
            os.kill(lost.pid, signal.SIGKILL)
            result = await task
            assert result.outcome is CellOutcome.DEAD
            assert not kernel.alive
            await kernel.restart()
            assert texts(await kernel.run(fresh(), "1 + 1")) == ["2"]


async def test_a_call_that_was_taken_is_lost_and_one_that_was_not_is_made(tmp_path: Path) -> None:
    made: list[PendingToolCall] = []

    async def answer(call: PendingToolCall) -> ToolCallOutput:
        made.append(call)
        assert isinstance(call.args, dict)
        return ToolCallOutput(outcome=ToolSucceeded(payload=call.args["a"] + call.args["b"]))

    tools = CellTools(offers=(ToolOffer(name="hang"), ToolOffer(name="add")), on_call=answer)
    with crashed(tmp_path, CALLING, until="taken") as lost:
        async with lost.taken_over() as kernel:
            (tmp_path / "go").touch()
            result = await kernel.run("running", CALLING, tools=tools)
            assert texts(result) == ["begun\nToolError lost 3\n"]
            assert [call.tool_name for call in made] == ["add"]
            hang, add = result.tool_calls
            assert isinstance(hang.output.outcome, ToolFailed)
            assert add.output.outcome == ToolSucceeded(payload=3)


async def test_other_code_under_the_key_of_a_running_cell_is_refused(tmp_path: Path) -> None:
    with crashed(tmp_path) as lost:
        async with lost.taken_over() as kernel:
            with pytest.raises(KernelError, match="other code"):
                await kernel.run("running", RUNNING + " ")
            assert await kernel.interrupt()


async def test_only_one_host_at_a_time_and_only_that_life(tmp_path: Path) -> None:
    with crashed(tmp_path) as lost:
        with pytest.raises(KernelAttachError, match="another kernel"):
            await ManagedKernel.attach(lost.connection_file, epoch="0" * 32)
        async with lost.taken_over() as kernel:
            with pytest.raises(KernelAttachError, match=str(os.getpid())):
                await ManagedKernel.attach(lost.connection_file, epoch=lost.epoch)
            assert await kernel.interrupt()
            assert texts(await kernel.run(fresh(), "x")) == ["1"]


async def test_a_kernel_that_does_not_answer_is_left_as_it_is(tmp_path: Path) -> None:
    with crashed(tmp_path, HOLDS) as lost:
        await asyncio.sleep(2.5)  # what it wrote has left it, and now it holds its interpreter
        with pytest.raises(KernelAttachError, match="did not answer"):
            await ManagedKernel.attach(lost.connection_file, epoch=lost.epoch, start_timeout_s=0.5)
        os.kill(lost.pid, 0)
        os.stat(lost.connection_file)
