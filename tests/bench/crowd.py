"""Many kernels at once in one process: `python -m tests.bench.crowd --json`.

Every cell writes to stdout, to stderr and to stdout again, and has a value; each of these names its kernel and its
cell, and the number of cells that this kernel ran before. A cell is `right` when exactly its own four outputs came
back, in that order. All cells of a kernel are handed over at once: the queue is the kernel's.

`left_behind` counts the processes, runtime directories and file descriptors that are there afterwards and were not
before. Linux only (it reads /proc). The last line is one JSON object that holds only what was measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import time
from pathlib import Path

from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome, CellResult, ResultOutput, StreamOutput
from tests.own_places import own_place

from .ours import next_key

__all__ = ["crowd"]

_MARK = "LASH_NB_CROWD"
"""Every process that this one starts inherits it, whatever becomes of its parent."""


def _code(kernel: int, cell: int) -> str:
    return (
        "import sys\n"
        "ran = globals().get('ran', -1) + 1\n"
        f"print('kernel {kernel} cell {cell} first', ran)\n"
        f"print('kernel {kernel} cell {cell} second', file=sys.stderr)\n"
        f"print('kernel {kernel} cell {cell} third')\n"
        f"'kernel {kernel} cell {cell}'"
    )


def _right(result: CellResult, kernel: int, cell: int) -> bool:
    """Whether the outputs are exactly those of this cell, and the cells before it ran before it."""
    got: list[tuple[str, str]] = []
    for output in result.outputs:
        match output:
            case StreamOutput():
                got.append((output.name, output.head))
            case ResultOutput():
                got.append(("value", str(output.data.get("text/plain"))))
            case _:
                got.append(("", repr(output)))
    return result.outcome is CellOutcome.OK and got == [
        ("stdout", f"kernel {kernel} cell {cell} first {cell}\n"),
        ("stderr", f"kernel {kernel} cell {cell} second\n"),
        ("stdout", f"kernel {kernel} cell {cell} third\n"),
        ("value", f"'kernel {kernel} cell {cell}'"),
    ]


async def crowd(*, kernels: int, cells: int) -> tuple[list[CellResult], float]:
    """The cells that were not right, and the seconds of starting, running and ending it all."""
    begun = time.perf_counter()
    managed = [ManagedKernel() for _ in range(kernels)]
    try:
        await asyncio.gather(*(kernel.start() for kernel in managed))
        places = [(number, cell) for number in range(kernels) for cell in range(cells)]
        results = await asyncio.gather(
            *(managed[number].run(next_key(), _code(number, cell)) for number, cell in places)
        )
    finally:
        await asyncio.gather(*(kernel.shutdown() for kernel in managed))
    wrong = [result for result, place in zip(results, places, strict=True) if not _right(result, *place)]
    return wrong, time.perf_counter() - begun


def _present(place: Path) -> set[str]:
    """The marked processes, everything in `place`, and what our descriptors are of."""
    found = {f"file {path.name}" for path in place.iterdir()}
    for fd in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found.add(f"descriptor {fd.name} of {os.readlink(fd)}")
    mark = f"{_MARK}={place}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # gone, or someone else's
            if mark in (process / "environ").read_bytes():
                found.add(f"process {process.name}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--kernels", type=int, default=20)
    parser.add_argument("--cells", type=int, default=50)
    options = parser.parse_args()
    with own_place("crowd", _MARK) as place:
        asyncio.run(crowd(kernels=1, cells=1))  # what is opened once in a process' life is open now
        before = _present(place)
        wrong, seconds = asyncio.run(crowd(kernels=options.kernels, cells=options.cells))
        left = _present(place) - before
    cells = options.kernels * options.cells
    figures = {
        "right": cells - len(wrong),
        "cells": cells,
        "left_behind": len(left),
        "seconds": round(seconds, 1),
    }
    if not options.json:
        for result in wrong[:5]:
            print(f"not right: {result}")
        print(f"{cells - len(wrong)} of {cells} right; left behind: {', '.join(sorted(left)) or 'nothing'}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
