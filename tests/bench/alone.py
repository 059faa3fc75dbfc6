"""What only our kernel is asked: CPU, stalled clients, deaths, the namespace, tool calls. `tests.bench.kernel` runs it.

Every function here starts its own kernel and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator

from lash_nb.kernels import CellTools, ToolOffer
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome
from lash_nb.machine.tool_calls import PendingToolCall, ToolCallOutput, ToolSucceeded
from lash_nb.stores.blobs import MemoryBlobStore

from .ours import fresh_kernel, next_key, text_of, until_it_prints
from .stalled import PRINTING, lost_lines

__all__ = ["client_cpu_ms", "death_s", "flushed_lost", "namespace_ms", "tool_call_ms"]

_WARM_UP = 20
_VARIABLES = """
for i in range(100):
    globals()[f"v{i}"] = (i, "x" * i, [i] * i, {"key": i}, float(i), None, (i, i), {i})[i % 8]
del i
"""
_SLEEP = "print('on', flush=True)\n__import__('time').sleep(60)"
_BUSY = "print('on', flush=True)\nwhile True: pass"
_TOOLS = """
import json, time
took = []
for i in range(CALLS):
    begun = time.perf_counter()
    value = tools.echo(x=i)
    took.append(time.perf_counter() - begun)
    assert value == i, value
print(json.dumps(took))
"""


async def client_cpu_ms(*, cells: int) -> float:
    """CPU of this process for one `1+1`, all of its threads, in milliseconds; nothing else may run in the process."""
    async with fresh_kernel() as kernel:
        for _ in range(_WARM_UP):
            await kernel.run(next_key(), "1+1")
        begun = time.process_time()
        for _ in range(cells):
            await kernel.run(next_key(), "1+1")
        return (time.process_time() - begun) / cells * 1e3


async def flushed_lost(*, block_s: float) -> int:
    """Lines that a client loses: one whose event loop is blocked for `block_s`, and one whose process is stopped."""
    return await _lost_blocked(block_s) + await asyncio.to_thread(_lost_stopped, block_s)


async def _lost_blocked(block_s: float) -> int:
    store = MemoryBlobStore()
    async with asyncio.timeout(block_s + 90), fresh_kernel(store=store) as kernel:
        running = asyncio.create_task(kernel.run(next_key(), PRINTING))
        await asyncio.sleep(0.05)
        time.sleep(block_s)  # noqa: ASYNC251  # the blocked loop is what is measured
        result = await running
        assert result.outcome is CellOutcome.OK, result.detail
        return lost_lines(text_of(result.outputs, store))


def _lost_stopped(block_s: float) -> int:
    with _client() as client:
        assert client.stdout is not None
        assert client.stdout.readline() == "running\n", "the client did not come as far as its cell"
        client.send_signal(signal.SIGSTOP)
        time.sleep(block_s)
        client.send_signal(signal.SIGCONT)
        return int(json.loads(client.stdout.readline()))


@contextlib.contextmanager
def _client() -> Iterator[subprocess.Popen[str]]:
    client = subprocess.Popen([sys.executable, "-m", "tests.bench.stalled"], stdout=subprocess.PIPE, text=True)
    try:
        yield client
        client.wait(30)
    finally:
        if client.poll() is None:  # its kernel notices that it is gone
            client.kill()
        client.wait()
        if client.stdout is not None:
            client.stdout.close()


async def death_s(*, times: int) -> list[float]:
    """Seconds between SIGKILL of the kernel in mid-cell and the end of our `run`, which must say that it died."""
    seconds: list[float] = []
    async with fresh_kernel() as kernel:
        for number in range(times):
            if number:
                await kernel.restart()
            running = await until_it_prints(kernel, _SLEEP)
            assert kernel.pid is not None
            begun = time.perf_counter()
            os.kill(kernel.pid, signal.SIGKILL)
            result = await running
            seconds.append(time.perf_counter() - begun)
            assert result.outcome is CellOutcome.DEAD, result
    return seconds


async def namespace_ms(*, times: int) -> tuple[float, float]:
    """Median of `namespace()` with 100 variables: idle or in `time.sleep`, the worse of the two; in a Python loop."""
    async with fresh_kernel() as kernel:
        result = await kernel.run(next_key(), _VARIABLES)
        assert result.outcome is CellOutcome.OK, result.error
        idle = await _namespace(kernel, times)
        medians = [idle]
        for code in (_SLEEP, _BUSY):
            running = await until_it_prints(kernel, code)
            medians.append(await _namespace(kernel, times))
            assert not running.done(), "the cell ended while its variables were looked at"
            await kernel.interrupt()
            await running
    return max(medians[:2]) * 1e3, medians[2] * 1e3


async def _namespace(kernel: ManagedKernel, times: int) -> float:
    seconds: list[float] = []
    for _ in range(times):
        begun = time.perf_counter()
        summary = await kernel.namespace()
        seconds.append(time.perf_counter() - begun)
        assert len(summary.variables) == 100, [variable.name for variable in summary.variables]
    return statistics.median(seconds)


async def tool_call_ms(*, calls: int) -> float:
    """Median of `tools.echo(x=i)`, by the clock of the cell that makes the calls one after another."""

    async def echo(call: PendingToolCall) -> ToolCallOutput:
        assert isinstance(call.args, dict)
        return ToolCallOutput(outcome=ToolSucceeded(payload=call.args["x"]))

    store = MemoryBlobStore()
    async with fresh_kernel(store=store) as kernel:
        result = await kernel.run(
            next_key(),
            _TOOLS.replace("CALLS", str(calls)),
            tools=CellTools(offers=(ToolOffer(name="echo"),), on_call=echo),
        )
        assert result.outcome is CellOutcome.OK, result.error
        took: list[float] = json.loads(text_of(result.outputs, store))
        assert len(result.tool_calls) == calls, "the record of the calls is not whole"
    return statistics.median(took) * 1e3
