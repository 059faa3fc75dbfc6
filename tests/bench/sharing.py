"""What it costs to give a value to a kernel: `python -m tests.bench.sharing --json`.

`share_500mb_ratio`: 500 MB of float64 in a frame, pushed into a real kernel until its name is bound there, over what it
costs at least: pickling it with protocol 5, its buffers out of band, and one copy of those. Both in this process, by
turns, medians. `share_500mb_s` and `copy_500mb_s` are the seconds; `unchanged_500mb_ms` is how long it then takes to
tell that the kernel's is still what went over; `share_small_ms` is a push of three small values.

What the kernel then holds is compared with what was sent. The last line is one JSON object that holds only what was
measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pickle
import statistics
import time
from typing import Any

import numpy as np
import pandas as pd

from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome, ResultOutput

from .ours import next_key
from .peers import WrongAnswerError

__all__ = ["ratio"]

BYTES = 500_000_000
COLUMNS = 10
TIMES = 5


def frame() -> Any:
    """500 MB of it, which no other has."""
    return pd.DataFrame(np.random.default_rng(0).random((BYTES // 8 // COLUMNS, COLUMNS)))


def copied(value: object) -> float:
    """Seconds to pickle a value and to copy its buffers once."""
    begun = time.perf_counter()
    buffers: list[pickle.PickleBuffer] = []
    stream = pickle.dumps(value, 5, buffer_callback=buffers.append)
    copies = [bytes(buffer.raw()) for buffer in buffers]
    seconds = time.perf_counter() - begun
    if len(stream) + sum(map(len, copies)) < BYTES:
        raise WrongAnswerError("the buffers were not out of band")
    return seconds


async def _said(kernel: ManagedKernel, code: str) -> str:
    result = await kernel.run(next_key(), code)
    if result.outcome is not CellOutcome.OK or not isinstance(result.outputs[-1], ResultOutput):
        raise WrongAnswerError(f"{code} ended as {result.outcome}")
    return str(result.outputs[-1].data["text/plain"])


async def _pushed(kernel: ManagedKernel, value: Any) -> float:
    begun = time.perf_counter()
    pushed = await kernel.push({"shared": value})
    seconds = time.perf_counter() - begun
    if pushed.failed or await _said(kernel, "float(shared.iloc[-1, -1])") != str(float(value.iloc[-1, -1])):
        raise WrongAnswerError(f"the kernel holds something else ({pushed.failed})")
    return seconds


async def _asked(kernel: ManagedKernel) -> float:
    begun = time.perf_counter()
    held = await kernel.held(["shared"])
    seconds = time.perf_counter() - begun
    if not held["shared"].same:
        raise WrongAnswerError("the value is told as changed")
    return seconds


async def _measured(times: int) -> dict[str, float]:
    value, small = frame(), {"a": [1, 2, 3], "b": "text", "c": {"key": 1.5}}
    pushes, copies, asks, smalls = [], [], [], []
    async with ManagedKernel() as kernel:
        await kernel.push(small)  # warm: what it imports
        await _said(kernel, "import pandas; 1")
        for _ in range(times):
            copies.append(copied(value))
            pushes.append(await _pushed(kernel, value))
            asks.append(await _asked(kernel))
            await _said(kernel, "del shared; 1")
        for _ in range(times * 4):
            begun = time.perf_counter()
            await kernel.push(small)
            smalls.append(time.perf_counter() - begun)
    push_s, copy_s = statistics.median(pushes), statistics.median(copies)
    return {
        "share_500mb_ratio": round(push_s / copy_s, 3),
        "share_500mb_s": round(push_s, 4),
        "copy_500mb_s": round(copy_s, 4),
        "unchanged_500mb_ms": round(statistics.median(asks) * 1e3, 2),
        "share_small_ms": round(statistics.median(smalls) * 1e3, 2),
    }


def ratio(times: int = TIMES) -> dict[str, float]:
    """`share_500mb_ratio` and what it is made of."""
    return asyncio.run(_measured(times))


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="the last line as JSON")
    parser.add_argument("--times", type=int, default=TIMES)
    given = parser.parse_args()
    figures = ratio(given.times)
    print(json.dumps(figures) if given.json else "\n".join(f"{name}: {value}" for name, value in figures.items()))


if __name__ == "__main__":
    main()
