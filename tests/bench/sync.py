"""What a look at the kernel's variables costs: `python -m tests.bench.sync --json`.

Everything goes through `Kernel.namespace` of a real kernel; each figure is the median of its looks, in milliseconds.
`sync_100_ms` and `sync_1000_ms` (among the thousand some of 100 MB) follow a cell each, so that the variables are
described anew; `unchanged_ms` follows nothing, and the kernel has only to say so; `busy_ms` is told while a Python loop
runs. The last line is one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib
import importlib.util
import json
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome

from .ours import fresh_kernel, next_key, until_it_prints
from .peers import WrongAnswerError

__all__ = ["Figures", "busy_ms", "figures", "sync_ms", "unchanged_ms"]

Figures = dict[str, float]

_WARM_UP = 5
_CAP = 200
_MIXED = """
import numpy as np, pandas as pd
def made(i, scale: float = 1.0) -> float: return i * scale
for i in range(COUNT):
    globals()[f"v{i}"] = (
        i, "x" * i, [i] * i, {"key": i}, float(i), None, (i, i), {i}, made, np.arange(i), [{"a": i}, {"a": i + 1}],
        pd.DataFrame({"day": ["mon", "tue"], "sales": [i, 2]}) if i % 48 == 11 else b"bytes",
    )[i % 12]
del i, np, pd, made
"""
_BIG = """
import numpy as np, pandas as pd
big_array = np.zeros(12_500_000)
big_frame = pd.DataFrame({c: np.arange(2_500_000) for c in "abcde"})
big_text = "x" * 100_000_000
big_list = [0] * 12_500_000
del np, pd
"""
_STEP = "v0 = -1"
_LOOP = "print('on', flush=True)\nwhile True: pass"


@asynccontextmanager
async def _with_variables(count: int, *, more: str = "") -> AsyncIterator[ManagedKernel]:
    async with fresh_kernel() as kernel:
        for code in (_MIXED.replace("COUNT", str(count)), more):
            if code:
                result = await kernel.run(next_key(), code)
                assert result.outcome is CellOutcome.OK, result.error
        for _ in range(_WARM_UP):
            await kernel.namespace()
        yield kernel


async def _look(kernel: ManagedKernel, count: int) -> float:
    begun = time.perf_counter()
    summary = await kernel.namespace()
    took = time.perf_counter() - begun
    told = len(summary.variables)
    if (told, told + summary.omitted) != (min(count, _CAP), count):
        raise WrongAnswerError(f"{told} of {count} variables were told, {summary.omitted} left out")
    return took


def _median_ms(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1e3, 3)


async def sync_ms(*, count: int, looks: int, big: bool = False) -> float:
    """After a cell that changed one of `count` variables; with `big`, four of 100 MB are among them."""
    variables = count - 4 if big else count
    async with _with_variables(variables, more=_BIG if big else "") as kernel:
        seconds: list[float] = []
        for _ in range(looks):
            await kernel.run(next_key(), _STEP)
            seconds.append(await _look(kernel, count))
        return _median_ms(seconds)


async def unchanged_ms(*, count: int, looks: int) -> float:
    """When nothing has happened since the last look."""
    async with _with_variables(count) as kernel:
        return _median_ms([await _look(kernel, count) for _ in range(looks)])


async def busy_ms(*, count: int, looks: int) -> float:
    """While a cell runs that never lets go of the interpreter by itself."""
    async with _with_variables(count) as kernel:
        running = await until_it_prints(kernel, _LOOP)
        seconds = [await _look(kernel, count) for _ in range(looks)]
        assert not running.done(), "the cell ended while its variables were looked at"
        await kernel.interrupt()
        await running
        return _median_ms(seconds)


async def figures(*, looks: int) -> Figures:
    """All of them."""
    return {
        "sync_100_ms": await sync_ms(count=100, looks=looks),
        "sync_1000_ms": await sync_ms(count=1000, looks=looks, big=True),
        "unchanged_ms": await unchanged_ms(count=1000, looks=looks),
        "busy_ms": await busy_ms(count=100, looks=looks),
    }


def _shared() -> dict[str, object]:
    """What the bench of sharing adds, where there is one."""
    if importlib.util.find_spec("tests.bench.sharing") is None:
        return {}
    found: dict[str, object] = importlib.import_module("tests.bench.sharing").ratio()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--quick", action="store_true", help="fewer looks, and no sharing")
    options = parser.parse_args()
    found: dict[str, object] = dict(asyncio.run(figures(looks=20 if options.quick else 60)))
    if not options.quick:
        found |= _shared()
    if not options.json:
        for name, figure in found.items():
            print(f"{name:20} {figure!s:>10}")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
