"""A kernel of another language, which has none of our code inside: bash."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lash_nb.errors import UnknownNameError
from lash_nb.kernels import CellTools, ToolOffer
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome, NamespaceSummary, StreamOutput
from lash_nb.machine.tool_calls import PendingToolCall, ToolCallOutput, ToolSucceeded
from lash_nb.stores.blobs import MemoryBlobStore

from .suite import fresh, texts

HOST = """
import asyncio, sys
from lash_nb.kernels.managed import ManagedKernel

async def main():
    kernel = ManagedKernel(kernelspec="bash", cwd=sys.argv[1], orphan_ttl_s=50.0)
    await kernel.start()
    await kernel.run("first", "x=3")
    print(kernel.connection_file, kernel.epoch, kernel.pid, flush=True)
    begun = lambda outputs: print("begun", flush=True)
    await kernel.run("running", "echo ran >> runs; echo begun; sleep 1", on_output=begun)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def bash_spec(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An installed kernelspec of the language, wherever the tests run."""
    path = tmp_path_factory.mktemp("jupyter")
    directory = path / "kernels" / "bash"
    directory.mkdir(parents=True)
    argv = [sys.executable, "-m", "bash_kernel", "-f", "{connection_file}"]
    (directory / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Bash", "language": "bash"}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JUPYTER_PATH", str(path))
        yield


@pytest.fixture(scope="module")
def kernel(bash_spec: None) -> Iterator[ManagedKernel]:
    kernel = ManagedKernel(kernelspec="bash", store=MemoryBlobStore())
    asyncio.run(kernel.start())
    yield kernel
    asyncio.run(kernel.shutdown())


async def test_it_runs_cells_and_keeps_variables(kernel: ManagedKernel) -> None:
    assert kernel.language == "bash"
    await kernel.run(fresh(), "x=3")
    result = await kernel.run(fresh(), "echo $x; echo more")
    assert (result.outcome, texts(result)) == (CellOutcome.OK, ["3\nmore\n"])
    assert (await kernel.run(fresh(), "false")).outcome is CellOutcome.ERROR
    assert await kernel.namespace() == NamespaceSummary()


async def test_a_key_runs_once_as_far_as_this_host_knows(kernel: ManagedKernel) -> None:
    key = fresh()
    await kernel.run(fresh(), "n=0")
    first = await kernel.run(key, "n=$((n+1)); echo $n")
    again = await kernel.run(key, "n=$((n+1)); echo $n")
    assert (texts(first), texts(again), again.recovered) == (["1\n"], ["1\n"], True)
    assert texts(await kernel.run(fresh(), "echo $n")) == ["1\n"]


async def test_what_may_have_run_is_lost_and_not_run_again(kernel: ManagedKernel, tmp_path: Path) -> None:
    result = await kernel.run(fresh(), f"touch {tmp_path}/ran", started=True)
    assert result.outcome is CellOutcome.LOST
    assert "not run again" in result.detail
    assert not os.listdir(tmp_path)


async def test_outputs_are_capped_on_arrival(kernel: ManagedKernel) -> None:
    (stream,) = (await kernel.run(fresh(), "seq 1 20000")).outputs
    assert isinstance(stream, StreamOutput)
    assert len(stream.head) == len(stream.tail) == 32 * 1024
    assert isinstance(kernel._store, MemoryBlobStore)
    assert stream.spilled is not None
    # Under load bash_kernel itself loses lines or says them twice; what came from it is kept whole.
    whole = kernel._store.get(stream.spilled).decode()
    assert whole.startswith(stream.head)
    assert whole.endswith(stream.tail)
    assert whole.endswith("\n19999\n20000\n")
    assert len(whole) == len(stream.head) + len(stream.tail) + stream.omitted_chars > 100_000


async def test_interrupt_death_and_restart(kernel: ManagedKernel) -> None:
    begun = asyncio.Event()
    code = "echo begun; sleep 60"
    task = asyncio.ensure_future(kernel.run(fresh(), code, on_output=lambda outputs: begun.set()))
    await begun.wait()
    assert await kernel.interrupt()
    assert (await task).outcome is CellOutcome.INTERRUPTED
    assert texts(await kernel.run(fresh(), "echo on")) == ["on\n"]
    begun.clear()
    task = asyncio.ensure_future(kernel.run(fresh(), code, on_output=lambda outputs: begun.set()))
    await begun.wait()
    assert kernel.pid is not None
    os.kill(kernel.pid, signal.SIGKILL)
    assert (await task).outcome is CellOutcome.DEAD
    await kernel.restart()
    assert texts(await kernel.run(fresh(), "echo [$x]")) == ["[]\n"]


async def test_tools_cannot_be_called_from_it(kernel: ManagedKernel) -> None:
    async def answer(call: PendingToolCall) -> ToolCallOutput:
        return ToolCallOutput(outcome=ToolSucceeded(payload=None))

    tools = CellTools(offers=(ToolOffer(name="t"),), on_call=answer)
    assert texts(await kernel.run(fresh(), "echo fine", tools=tools)) == ["fine\n"]


async def test_it_outlives_a_crash_and_what_ran_then_is_lost(bash_spec: None, tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOST, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:  # noqa: ASYNC220
        assert host.stdout is not None
        try:
            connection_file, epoch, pid = host.stdout.readline().split()
            assert host.stdout.readline() == "begun\n"
        finally:
            host.kill()
    kernel = await ManagedKernel.attach(connection_file, epoch=epoch)
    try:
        assert (kernel.language, str(kernel.pid)) == ("bash", pid)
        lost = await kernel.run("running", "echo ran >> runs; echo begun; sleep 1", started=True)
        assert lost.outcome is CellOutcome.LOST
        assert texts(await kernel.run(fresh(), "echo $x; cat runs")) == ["3\nran\n"]
    finally:
        await kernel.shutdown()


async def test_it_can_be_left_and_taken_over(bash_spec: None) -> None:
    kernel = ManagedKernel(kernelspec="bash")
    await kernel.start()
    await kernel.run(fresh(), "x=41")
    file, epoch = kernel.connection_file, kernel.epoch
    assert file is not None
    await kernel.leave()
    await asyncio.sleep(1.0)  # by then its guardian has looked
    again = await ManagedKernel.attach(file, epoch=epoch)
    assert texts(await again.run(fresh(), "echo $((x + 1))")) == ["42\n"]
    await again.restart()
    assert texts(await again.run(fresh(), "echo $((1 + 1))")) == ["2\n"]  # and not as Python
    directory, again_file = file.parent, again.connection_file
    await again.shutdown()
    assert again_file is not None
    assert not again_file.parent.exists()
    assert not directory.exists()


def test_a_language_that_is_not_installed_is_said(bash_spec: None) -> None:
    with pytest.raises(UnknownNameError, match="bash"):
        ManagedKernel(kernelspec="cobol")
