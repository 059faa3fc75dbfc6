"""Starts, interrupts and restarts of the managed kernel: `python -m tests.bench.limits --json`.

- A start lasts from the call to the reply of the first cell, `1+1`. `plain` is jupyter_client's `KernelManager` with
  its blocking client on a stock ipykernel (start, `wait_for_ready`, execute); `cold` is ours; `spare` is ours where a
  spare kernel is warm. They take turns, one at a time; the first turn of each is not counted.
- An interrupt lasts from the call to the end of the cell's `run`, one kernel at a time; the first of each kernel is not
  counted. Half of the cells are busy loops, half await something that never comes (a sleep and a `gather`, in turn).
  A cell that ends in another way than `interrupted`, or a kernel that does not answer afterwards, ends the bench.
- A restart lasts from the call to the reply of the first cell after it; the first is not counted.

`--only` takes names of `MEASURES`, `--quick` measures less of everything. The last line is one JSON object that holds
only what was measured: seconds where a name ends in `_s`, milliseconds in `_ms` (medians of all).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.spares import spare_ready
from lash_nb.machine.execution import CellOutcome, CellResult, ResultOutput

from .ours import fresh_kernel, next_key, until_it_prints
from .peers import RawClient, WrongAnswerError, private_jupyter

__all__ = ["MEASURES", "Reps"]

MEASURES = ("starts", "interrupts", "restarts")

_SPARE_S = 60.0
_ENDED_S = 30.0
_INTO_IT_S = 0.05
"""How long a cell runs before it is interrupted: past its first output, and parked where it awaits."""
_LOOP = "print('on', flush=True)\nwhile True: pass"
_AWAITS = (
    "import asyncio\nprint('on', flush=True)\nawait asyncio.sleep(10**6)",
    "import asyncio\nprint('on', flush=True)\nawait asyncio.gather(*(asyncio.sleep(10**6) for _ in range(3)))",
)

Figures = dict[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reps:
    """How much is measured of everything."""

    turns: int = 12
    kernels: int = 4
    interrupts: int = 12
    """Of each kind, in each kernel."""
    restarts: int = 8


QUICK = Reps(turns=4, kernels=2, interrupts=4, restarts=3)


def _answered(result: CellResult) -> None:
    """Raises: WrongAnswerError: this is not the result of `1+1`."""
    values = [output.data.get("text/plain") for output in result.outputs if isinstance(output, ResultOutput)]
    if result.outcome is not CellOutcome.OK or values != ["2"]:
        raise WrongAnswerError(f"1+1 gave {values} ({result.outcome}: {result.detail or result.error})")


# -- starts ------------------------------------------------------------------------------------------------------------


def _plain_start() -> float:
    peer = RawClient()
    try:
        begun = time.perf_counter()
        peer.start()
        text = peer.run("1+1").text
        seconds = time.perf_counter() - begun
    finally:
        peer.close()
    if text != "2":
        raise WrongAnswerError(f"1+1 gave {text!r}")
    return seconds


async def _our_start(kernel: ManagedKernel) -> float:
    try:
        begun = time.perf_counter()
        await kernel.start()
        result = await kernel.run(next_key(), "1+1")
        seconds = time.perf_counter() - begun
    finally:
        await kernel.shutdown()
    _answered(result)
    return seconds


async def _spare_is_ready() -> None:
    if not await spare_ready(_SPARE_S):
        raise WrongAnswerError(f"no spare kernel was ready within {_SPARE_S:g} s")


async def _plain_in_turn() -> float:
    return _plain_start()  # blocks the loop, and nothing else runs on it


async def _cold_in_turn() -> float:
    return await _our_start(ManagedKernel())


async def _spare_in_turn() -> float:
    await _spare_is_ready()
    seconds = await _our_start(ManagedKernel(spare=True))
    await _spare_is_ready()  # the next one warms up now, not while somebody else is measured
    return seconds


async def _starts(reps: Reps) -> Figures:
    systems: dict[str, Callable[[], Awaitable[float]]] = {
        "plain": _plain_in_turn,
        "cold": _cold_in_turn,
        "spare": _spare_in_turn,
    }
    seconds: dict[str, list[float]] = {name: [] for name in systems}
    await _our_start(ManagedKernel(spare=True))  # from now on there is one
    await _spare_is_ready()
    with private_jupyter():
        for _ in range(reps.turns):
            for name, start in systems.items():
                seconds[name].append(await start())
    medians = {name: statistics.median(values[1:]) for name, values in seconds.items()}
    return {
        "start_cold_ratio": round(medians["cold"] / medians["plain"], 3),
        "start_spare_ratio": round(medians["spare"] / medians["plain"], 3),
        "start_ms": {name: round(median * 1e3, 1) for name, median in medians.items()},
        "starts": reps.turns - 1,
    }


# -- interrupts --------------------------------------------------------------------------------------------------------


async def _interrupt_s(kernel: ManagedKernel, code: str) -> float:
    running = await until_it_prints(kernel, code)
    await asyncio.sleep(_INTO_IT_S)
    begun = time.perf_counter()
    await kernel.interrupt()
    async with asyncio.timeout(_ENDED_S):
        result = await running
    seconds = time.perf_counter() - begun
    if result.outcome is not CellOutcome.INTERRUPTED:
        raise WrongAnswerError(f"{result.outcome} after an interrupt: {result.detail or result.error}\n{code}")
    _answered(await kernel.run(next_key(), "1+1"))
    return seconds


async def _interrupts(reps: Reps) -> Figures:
    loops: list[float] = []
    awaits: list[float] = []
    for number in range(reps.kernels):
        async with fresh_kernel() as kernel:
            await _interrupt_s(kernel, (_LOOP, _AWAITS[0])[number % 2])  # which of them comes first makes no difference
            for turn in range(reps.interrupts):
                loops.append(await _interrupt_s(kernel, _LOOP))
                awaits.append(await _interrupt_s(kernel, _AWAITS[turn % 2]))
    return {
        "interrupt_loop_p95_s": _p95(loops),
        "interrupt_await_p95_s": _p95(awaits),
        "interrupt_ms": {
            name: round(statistics.median(seconds) * 1e3, 1) for name, seconds in (("loop", loops), ("await", awaits))
        },
        "interrupt_max_ms": {
            name: round(max(seconds) * 1e3, 1) for name, seconds in (("loop", loops), ("await", awaits))
        },
        "interrupts": len(loops) + len(awaits),
    }


def _p95(seconds: Sequence[float]) -> float:
    return round(statistics.quantiles(seconds, n=20, method="inclusive")[-1], 4)


# -- restarts ----------------------------------------------------------------------------------------------------------


async def _restarts(reps: Reps) -> Figures:
    seconds: list[float] = []
    async with fresh_kernel() as kernel:
        for _ in range(reps.restarts):
            begun = time.perf_counter()
            await kernel.restart()
            result = await kernel.run(next_key(), "1+1")
            seconds.append(time.perf_counter() - begun)
            _answered(result)
    return {"restart_s": round(statistics.median(seconds[1:]), 3), "restarts": len(seconds) - 1}


async def measure(wanted: Sequence[str], reps: Reps, tell: Callable[[Figures], None]) -> Figures:
    """Everything of `wanted`, one after the other."""
    measures: dict[str, Callable[[Reps], Awaitable[Figures]]] = {
        "starts": _starts,
        "interrupts": _interrupts,
        "restarts": _restarts,
    }
    figures: Figures = {}
    for name in wanted:
        found = await measures[name](reps)
        tell(found)
        figures |= found
    return figures


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - set(MEASURES):
        raise argparse.ArgumentTypeError(f"no such measure: {', '.join(sorted(unknown))} (of {', '.join(MEASURES)})")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--quick", action="store_true", help="fewer repetitions of everything")
    parser.add_argument("--only", type=_names, default=MEASURES, metavar="NAME[,NAME]", help=", ".join(MEASURES))
    options = parser.parse_args()

    def tell(found: Figures) -> None:
        if not options.json:
            for name, figure in found.items():
                print(f"{name:22} {figure}", flush=True)

    print(json.dumps(asyncio.run(measure(options.only, QUICK if options.quick else Reps(), tell))))


if __name__ == "__main__":
    main()
