"""Handlers of signals that outlive their cell, and processes that a cell forks off itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome, CellOutput, CellResult, StreamOutput

from .suite import fresh, texts


@pytest.fixture(scope="module")
def kernel() -> Iterator[ManagedKernel]:
    kernel = ManagedKernel()
    asyncio.run(kernel.start())
    yield kernel
    asyncio.run(kernel.shutdown())


async def ok(kernel: ManagedKernel, code: str) -> CellResult:
    result = await kernel.run(fresh(), code)
    assert result.outcome is CellOutcome.OK, result
    return result


def stderr(outputs: tuple[CellOutput, ...]) -> str:
    return "".join(one.head for one in outputs if isinstance(one, StreamOutput) and one.name == "stderr")


def handled(name: str) -> str:
    """A cell with a handler that raises; a child of the kernel's sends the signal after the cell's end."""
    return f"""
import signal, subprocess
def late(signum, frame): raise TimeoutError('too late')
signal.signal(signal.{name}, late)
child = subprocess.Popen(['sh', '-c', 'sleep .2; kill -{name[3:]} $PPID'])
"""


ALARM = """
import asyncio, signal, time
def late(signum, frame): raise TimeoutError('too late')
signal.signal(signal.SIGALRM, late)
"""
RESET = "child.wait(); signal.signal(signal.{name}, signal.SIG_DFL)"


@pytest.mark.parametrize(
    "name",
    ["SIGALRM", "SIGCHLD", "SIGTERM", "SIGHUP", "SIGWINCH", "SIGCONT", "SIGIO", "SIGPIPE", "SIGQUIT", "SIGRTMIN"],
)
async def test_a_handler_that_raises_after_its_cell_does_not_end_the_kernel(kernel: ManagedKernel, name: str) -> None:
    before = kernel.epoch
    kernel.take_background()
    await ok(kernel, handled(name).replace("-RTMIN", "-34"))
    await asyncio.sleep(0.5)
    said = stderr(kernel.take_background())
    assert texts(await ok(kernel, f"signal.getsignal(signal.{name}) is late")) == ["True"]
    assert "too late" in said
    await ok(kernel, RESET.format(name=name) + "; None")
    assert kernel.epoch == before


async def test_other_messages_do_not_wake_the_handlers(kernel: ManagedKernel) -> None:
    before = kernel.epoch
    await ok(kernel, handled("SIGALRM"))
    assert kernel._life is not None
    request = kernel._life.wire.request("shell", "kernel_info_request", {})
    await request.done.wait(5)
    await asyncio.sleep(0.5)
    assert texts(await ok(kernel, "child.wait(); 'alive'")) == ["'alive'"]
    assert kernel.epoch == before


async def test_in_a_cell_a_handler_raises_what_it_raises(kernel: ManagedKernel) -> None:
    await ok(kernel, ALARM)
    result = await kernel.run(fresh(), "signal.setitimer(signal.ITIMER_REAL, .1); time.sleep(10)")
    assert result.outcome is CellOutcome.ERROR
    assert result.error is not None
    assert result.error.ename == "TimeoutError"


async def test_an_await_does_not_outlast_what_a_handler_raises(kernel: ManagedKernel) -> None:
    before = kernel.epoch
    await ok(kernel, ALARM)
    code = "signal.setitimer(signal.ITIMER_REAL, .1); await asyncio.sleep(30)"
    result = await kernel.run(fresh(), code, timeout_s=5)
    assert result.outcome is CellOutcome.ERROR
    assert result.error is not None
    assert "TimeoutError" in result.error.evalue
    assert texts(await ok(kernel, "'alive'")) == ["'alive'"]
    assert kernel.epoch == before


async def test_handlers_that_c_code_has_set_stay(kernel: ManagedKernel) -> None:
    before = kernel.epoch
    register = """
import faulthandler, os, signal, tempfile
def late(signum, frame): raise TimeoutError('too late')
signal.signal(signal.SIGUSR2, late)
file = tempfile.TemporaryFile('w+')
faulthandler.register(signal.SIGUSR2, file=file, chain=True)
"""
    await ok(kernel, register)
    await ok(kernel, "import subprocess; child = subprocess.Popen(['sh', '-c', 'sleep .2; kill -USR2 $PPID'])")
    await asyncio.sleep(0.5)
    assert texts(await ok(kernel, "file.seek(0); 'most recent call first' in file.read()")) == ["True"]
    await ok(kernel, "faulthandler.unregister(signal.SIGUSR2); signal.signal(signal.SIGUSR2, signal.SIG_DFL); None")
    assert kernel.epoch == before


async def test_asyncio_keeps_its_handlers(kernel: ManagedKernel) -> None:
    code = """
import asyncio, os, signal
hits = []
loop = asyncio.get_event_loop(); loop.add_signal_handler(signal.SIGUSR1, hits.append, 1)
"""
    await ok(kernel, code)
    assert texts(await ok(kernel, "os.kill(os.getpid(), signal.SIGUSR1); await asyncio.sleep(.1); hits")) == ["[1]"]
    await ok(kernel, "loop.remove_signal_handler(signal.SIGUSR1)")


async def test_a_cell_stops_the_loop_that_it_runs_itself() -> None:
    async with ManagedKernel() as kernel:
        before = kernel.epoch
        await ok(kernel, "import asyncio, nest_asyncio2; nest_asyncio2.apply(); loop = asyncio.get_event_loop()")
        code = "loop.call_later(.1, loop.stop); loop.run_forever(); 'stopped'"
        assert texts(await kernel.run(fresh(), code, timeout_s=5)) == ["'stopped'"]
        code = "loop.call_later(.1, loop.stop); loop.run_until_complete(asyncio.sleep(30))"  # leaves it stopping
        assert (await kernel.run(fresh(), code, timeout_s=5)).outcome is CellOutcome.ERROR
        result = await kernel.run(fresh(), "loop.stop()")
        assert result.error is not None
        assert result.error.ename == "RuntimeError"
        assert texts(await ok(kernel, "await asyncio.sleep(.05); 'alive'")) == ["'alive'"]
        assert kernel.epoch == before


@pytest.mark.parametrize(
    ("end", "status", "said"),
    [
        ("pass", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("sys.exit()", 0, ""),
        ("sys.exit(-1)", 255, ""),
        ("sys.exit('why')", 1, "why\n"),
        ("raise ValueError('of the child')", 1, "ValueError: of the child\n"),
    ],
)
@pytest.mark.parametrize("first", ["", "import asyncio; await asyncio.sleep(0)\n"])
async def test_a_forked_child_ends_as_python_would(
    kernel: ManagedKernel, first: str, end: str, status: int, said: str
) -> None:
    code = f"""{first}import os, sys
pid = os.fork()
if pid == 0:
    {end}
else:
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    result = await ok(kernel, code)
    assert [one.head for one in result.outputs if isinstance(one, StreamOutput) and one.name == "stdout"] == [
        f"{status}\n"
    ]
    assert stderr(result.outputs).endswith(said)
    assert ("Traceback (most recent call last):\n" in stderr(result.outputs)) is end.startswith("raise")
    assert "ipykernel/" not in stderr(result.outputs)
    assert texts(await ok(kernel, "'alive'")) == ["'alive'"]
