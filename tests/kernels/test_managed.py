"""The real kernel: the contract, and what only a real process can show."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lash_nb.errors import KernelBusyError, KernelDiedError, KernelStartError
from lash_nb.kernels import Kernel, resolve
from lash_nb.kernels.channels import open_wire
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.process import KernelProcess
from lash_nb.machine.execution import (
    CellOutcome,
    CellResult,
    DisplayOutput,
    FinishValue,
    ResultOutput,
    StreamOutput,
)
from lash_nb.stores.blobs import MemoryBlobStore

from . import contract
from .suite import fresh


@pytest.fixture(scope="module")
def kernel() -> Iterator[ManagedKernel]:
    kernel = ManagedKernel()
    asyncio.run(kernel.start())
    yield kernel
    asyncio.run(kernel.shutdown())


@pytest.fixture
async def live(kernel: ManagedKernel) -> ManagedKernel:
    if not kernel.alive:
        await kernel.restart()
    return kernel


async def gone(kernel: ManagedKernel) -> None:
    """The kernel's process has ended: a signal takes a moment."""
    for _ in range(10_000):
        if not kernel.alive:
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it lives on")


class TestManagedKernel(contract.KernelContract):
    async def kill(self, kernel: Kernel) -> None:
        assert isinstance(kernel, ManagedKernel)
        assert kernel.pid is not None
        os.kill(kernel.pid, signal.SIGKILL)
        await gone(kernel)


def text(result: CellResult) -> str:
    return "".join(output.head for output in result.outputs if isinstance(output, StreamOutput))


async def ok(kernel: ManagedKernel, code: str) -> CellResult:
    result = await kernel.run(fresh(), code)
    assert result.outcome is CellOutcome.OK, result
    return result


def test_it_is_registered(kernel: ManagedKernel) -> None:
    assert resolve("managed") is ManagedKernel
    assert isinstance(kernel, Kernel)
    assert kernel.missing_features == ()


# ------------------------------------------------------------------------------------------------ outputs


async def test_nothing_is_lost_while_the_event_loop_is_blocked(live: ManagedKernel) -> None:
    store = MemoryBlobStore()
    kernel = ManagedKernel(store=store)
    await kernel.start()
    try:
        task = asyncio.ensure_future(kernel.run(fresh(), "for i in range(20_000): print(i, flush=True)"))
        await asyncio.sleep(0.1)
        signal.sigtimedwait([], 4)  # blocks the loop, as a synchronous cell of the user's would
        (stream,) = (await task).outputs
    finally:
        await kernel.shutdown()
    assert isinstance(stream, StreamOutput)
    assert stream.spilled is not None
    assert store.get(stream.spilled) == "".join(f"{i}\n" for i in range(20_000)).encode()
    assert len(stream.head) == len(stream.tail) == 32 * 1024
    assert stream.omitted_chars == sum(len(f"{i}\n") for i in range(20_000)) - 64 * 1024


async def test_displays_update_in_place_and_clear(live: ManagedKernel) -> None:
    result = await ok(
        live,
        "from IPython.display import clear_output, display\n"
        "print('gone'); clear_output()\n"
        "handle = display('first', display_id=True); print('between'); handle.update('second')",
    )
    shown, between = result.outputs
    assert isinstance(shown, DisplayOutput)
    assert shown.data == {"text/plain": "'second'"}
    assert between == StreamOutput(name="stdout", head="between\n")


async def test_what_child_processes_write_is_the_cells(live: ManagedKernel) -> None:
    for _ in range(5):
        assert text(await ok(live, "import subprocess\nsubprocess.run(['echo', 'from a child']);")) == "from a child\n"


async def test_figures_are_images(live: ManagedKernel) -> None:
    result = await ok(live, "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()")
    images = [o for o in result.outputs if isinstance(o, DisplayOutput) and "image/png" in o.data]
    assert len(images) == 1
    assert str(images[0].data["image/png"]).startswith("iVBOR")


async def test_late_output_goes_to_the_background(live: ManagedKernel) -> None:
    live.take_background()
    await ok(
        live,
        "import threading, time\n"
        "def late():\n    time.sleep(0.3); print('late', flush=True)\n"
        "thread = threading.Thread(target=late); thread.start()",
    )
    heard = ""
    while "late" not in heard:
        heard += "".join(o.head for o in live.take_background() if isinstance(o, StreamOutput))
        await asyncio.sleep(0.02)
    assert live.take_background() == ()


# ---------------------------------------------------------------------------------------------- interrupts

AWAITS = {
    "sleep": "import asyncio; print(1, flush=True); await asyncio.sleep(60)",
    "gather": "import asyncio; print(1, flush=True); await asyncio.gather(*[asyncio.sleep(60) for _ in range(3)])",
    "busy task": (
        "import asyncio, time\nasync def f():\n    print(1, flush=True)\n    while True: time.sleep(0.01)\n"
        "await asyncio.create_task(f())"
    ),
    "busy coroutine": "import time\nasync def f():\n    print(1, flush=True); time.sleep(60)\nawait f()",
    "child": "import subprocess; print(1, flush=True); subprocess.run(['sleep', '60'])",
}


@pytest.mark.parametrize("name", AWAITS)
async def test_every_cell_can_be_interrupted(live: ManagedKernel, name: str) -> None:
    task = await contract.until_begun(live, AWAITS[name])
    assert await live.interrupt()
    assert (await task).outcome is CellOutcome.INTERRUPTED
    assert (await ok(live, "import asyncio; await asyncio.sleep(0.01); 40 + 2")).outputs


async def test_an_interrupt_right_after_the_start_is_not_lost(live: ManagedKernel) -> None:
    for _ in range(5):
        task = asyncio.ensure_future(live.run(fresh(), "import time; time.sleep(60)"))
        await asyncio.sleep(0)  # it is submitted, and may be anywhere on its way
        assert await live.interrupt()
        assert (await task).outcome is CellOutcome.INTERRUPTED


async def test_a_swallowed_interrupt_is_sent_again(live: ManagedKernel) -> None:
    code = (
        "import time\n"
        "try: print(1, flush=True); time.sleep(60)\nexcept KeyboardInterrupt: print('swallowed', flush=True)\n"
        "time.sleep(60)"
    )
    task = await contract.until_begun(live, code)
    assert await live.interrupt()
    result = await task
    assert result.outcome is CellOutcome.INTERRUPTED
    assert "swallowed" in text(result)


async def test_a_cell_that_cannot_be_interrupted_is_given_up_and_said_so() -> None:
    kernel = ManagedKernel(interrupt_timeout_s=0.4, namespace_timeout_s=0.3)
    await kernel.start()
    try:
        result = await kernel.run(fresh(), "sum(range(10**12))", timeout_s=0.3)
        assert result.outcome is CellOutcome.TIMEOUT
        assert "still runs" in result.detail
        with pytest.raises(KernelBusyError):
            await kernel.run(fresh(), "1")
        with pytest.raises(KernelBusyError):
            await kernel.namespace()
        await kernel.restart()
        await ok(kernel, "1")
    finally:
        await kernel.shutdown()


# -------------------------------------------------------------------------------------------------- finish


async def test_finish_refuses_what_is_not_json(live: ManagedKernel) -> None:
    result = await live.run(fresh(), "finish({'a': [1, object()]})")
    assert result.outcome is CellOutcome.ERROR
    assert result.finish is None
    assert result.error is not None
    assert result.error.ename == "TypeError"
    assert result.error.evalue.startswith("finish(): value['a'][1] is of type object, which is not JSON; ")


async def test_finish_takes_a_table_and_says_when_it_is_too_long(live: ManagedKernel) -> None:
    made = "import pandas as pd\nfinish(pd.DataFrame({'a': [1, None]}, index=pd.Index(['x', 'y'], name='id')))"
    assert (await ok(live, made)).finish == FinishValue(value=[{"id": "x", "a": 1.0}, {"id": "y", "a": None}])
    result = await live.run(fresh(), "finish(pd.DataFrame({'number': range(2_000_000)}))")
    assert result.error is not None
    assert result.error.evalue.startswith(
        "finish(): value has 2,000,000 rows, more than fit into the limit of 8,000,000"
    )


async def test_finish_survives_a_bare_except_and_leaves_functions(live: ManagedKernel) -> None:
    assert (await ok(live, "try: finish(1)\nexcept: print('swallowed')")).finish == FinishValue(value=1)
    assert (await ok(live, "def f(): finish('deep')\nf()\nprint('never')")).finish == FinishValue(value="deep")
    assert (await ok(live, "async def g(): finish('async')\nawait g()")).finish == FinishValue(value="async")


async def test_an_error_after_a_swallowed_finish_is_the_outcome(live: ManagedKernel) -> None:
    result = await live.run(fresh(), "try: finish(1)\nexcept: 1 / 0")
    assert result.outcome is CellOutcome.ERROR
    assert result.finish is None
    assert (await ok(live, "1")).finish is None


# ----------------------------------------------------------------------------------------- what is inside


async def test_a_fresh_kernel_has_no_names(live: ManagedKernel) -> None:
    await live.restart()
    shown = (await ok(live, "[n for n in globals() if not n.startswith('_')]")).outputs[0]
    assert isinstance(shown, ResultOutput)
    assert shown.data["text/plain"] == "['In', 'Out', 'get_ipython', 'exit', 'quit', 'open']"
    assert shown.execution_count == 1


async def test_input_is_refused(live: ManagedKernel) -> None:
    result = await live.run(fresh(), "input('name? ')")
    assert result.outcome is CellOutcome.ERROR
    assert result.error is not None
    assert result.error.ename == "StdinNotImplementedError"


async def test_environment_directory_and_input_are_the_callers_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    monkeypatch.setenv("MY_TOKEN", "passed")
    monkeypatch.setenv("PLAIN", "plain")
    kernel = ManagedKernel(cwd=tmp_path, pass_env=["MY_TOKEN"], on_input=lambda asked: asked.prompt.upper())
    await kernel.start()
    try:
        code = "import os; [os.environ.get(n) for n in ('OPENAI_API_KEY', 'MY_TOKEN', 'PLAIN')]"
        shown = (await ok(kernel, code)).outputs[0]
        assert isinstance(shown, ResultOutput)
        assert shown.data["text/plain"] == "[None, 'passed', 'plain']"
        assert text(await ok(kernel, "print(os.getcwd())")) == f"{tmp_path}\n"
        assert text(await ok(kernel, "print(input('who? '))")) == "WHO? \n"
    finally:
        await kernel.shutdown()


# ------------------------------------------------------------------------------------------- life and death


async def test_how_it_ended_is_said(live: ManagedKernel) -> None:
    # ZeroMQ sends on a thread of its own, which `_exit` does not wait for: what was flushed needs a moment to leave.
    code = "import os, time; print('last words', flush=True); time.sleep(0.5); os._exit(3)"
    result = await live.run(fresh(), code)
    assert result.outcome is CellOutcome.DEAD
    assert "ended with exit status 3" in result.detail
    assert text(result) == "last words\n"


async def test_three_kernels_start_at_once() -> None:
    kernels = [ManagedKernel() for _ in range(3)]
    try:
        await asyncio.gather(*(kernel.start() for kernel in kernels))
        results = await asyncio.gather(*(kernel.run(fresh(), f"print({n})") for n, kernel in enumerate(kernels)))
        assert [text(result) for result in results] == ["0\n", "1\n", "2\n"]
        assert len({kernel.epoch for kernel in kernels}) == 3
    finally:
        await asyncio.gather(*(kernel.shutdown() for kernel in kernels))


@pytest.mark.parametrize(
    ("python", "said"),
    [("/nowhere/python", "could not be launched"), ("/bin/false", "ended with exit status 1")],
)
async def test_a_kernel_that_does_not_come_up_leaves_nothing(python: str, said: str) -> None:
    kernel = ManagedKernel(python=python)
    with pytest.raises(KernelStartError, match=said):
        await kernel.start()
    assert not kernel.alive
    with pytest.raises(KernelDiedError):
        await kernel.run(fresh(), "1")


async def test_the_last_line_of_a_failed_start_is_told(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho first >&2; echo No module named ipykernel >&2; exit 1\n")
    python.chmod(0o755)
    with pytest.raises(KernelStartError, match="No module named ipykernel"):
        await ManagedKernel(python=str(python)).start()


# -------------------------------------------------------------------------------------------------- narrow places


async def test_half_a_surrogate_pair_does_not_take_the_output_around_it_along(live: ManagedKernel) -> None:
    result = await ok(live, "print('before'); print('a\\ud800b'); print('after'); '\\ud800'")
    assert text(result) == "before\na\\ud800b\nafter\n"


async def test_channels_that_cannot_be_opened_cost_that_kernel_alone(live: ManagedKernel) -> None:
    process = KernelProcess(argv=["sleep", "60"], cwd=None, env=os.environ)
    process.endpoints = replace(process.endpoints, control="nowhere")
    wire = open_wire(process)
    assert await wire.dead.wait(5)
    assert await wire.close(then=process.close).wait(5)
    await ok(live, "1")


def test_a_full_disk_is_one_sentence_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as root:
        monkeypatch.setenv("XDG_RUNTIME_DIR", root)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
        try:
            with pytest.raises(KernelStartError, match="could not be launched"):
                KernelProcess(argv=["sleep", "60"], cwd=None, env=os.environ)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert os.listdir(root) == []


@pytest.mark.parametrize("after_s", [0.0, 0.002, 0.01, 0.05, 0.2])
async def test_it_can_be_ended_at_any_moment_of_its_start(after_s: float) -> None:
    kernel = ManagedKernel()
    starting = asyncio.ensure_future(kernel.start())
    await asyncio.sleep(after_s)
    await asyncio.to_thread(kernel.end_now)
    with pytest.raises(KernelStartError):
        await starting
    assert not kernel.alive
