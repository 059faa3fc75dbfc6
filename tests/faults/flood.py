"""Cells that print without end: `python -m tests.faults.flood --json`.

Each flood runs in a fresh kernel, with a blob store on disk. Measured are the peak of the kernel's memory and of
this process's (the client's), both over what they had before the cell; whether the text that was cut can be had back
byte for byte; and how long an interrupt in the middle of the same flood, run without end, takes to be answered.
The string of `one_write` is the user's own: it is there before the measurement begins, and told apart.

Linux only (it reads and resets the peaks in /proc). The last line is one JSON object that holds only what was
measured: the worst of all floods, and `floods` one by one. MB are millions of bytes.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import os
import resource
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome, CellOutput, StreamOutput
from lash_nb.stores.blobs import BlobStore
from tests.bench.ours import fresh_kernel, next_key

__all__ = ["FLOODS", "Flood", "Measured"]

_LONGEST_S = 900.0
_INTO_IT_S = 0.5
_READ = 1 << 20
_ROOM_BYTES = 10_000_000_000
"""No process may take more address space: one that fails here does not take the machine with it."""
_LINE = "0123456789" * 7 + "abcdefghi"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flood:
    """A cell, for a size in MB."""

    prepare: str = "import subprocess, sys"
    code: str
    text: Callable[[int], Iterator[bytes]] | None = None
    """What it prints, in pieces; None where it is displays, not text."""


def _lines(size: int) -> Iterator[bytes]:
    for start in range(0, size * 10_000, 10_000):
        yield "".join(f"{number:099d}\n" for number in range(start, start + 10_000)).encode()


def _chunks(size: int) -> Iterator[bytes]:
    for number in range(size):
        yield f"{number:09d}".encode() + b"x" * 999_990 + b"\n"


def _one_write(size: int) -> Iterator[bytes]:
    yield from itertools.repeat(b"0123456789abcde\n" * 62_500, size)


def _child(size: int) -> Iterator[bytes]:
    yield from itertools.repeat(f"{_LINE}\n".encode() * 12_500, size)


FLOODS: dict[str, Flood] = {
    "lines": Flood(code="for i in range(SIZE * 10_000): print(f'{i:099d}')", text=_lines),
    "chunks": Flood(
        code="for i in range(SIZE): sys.stdout.write(f'{i:09d}' + 'x' * 999_990 + '\\n'); sys.stdout.flush()",
        text=_chunks,
    ),
    "one_write": Flood(
        prepare="import sys\ntext = '0123456789abcde\\n' * (62_500 * SIZE)",
        code="sys.stdout.write(text)",
        text=_one_write,
    ),
    "child": Flood(code=f"subprocess.run('yes {_LINE} | head -c SIZE000000', shell=True)", text=_child),
    "displays": Flood(code="for i in range(SIZE * 300): display(i)"),
    "updates": Flood(
        prepare="shown = display('first', display_id=True)", code="for i in range(SIZE * 300): shown.update(i)"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What one flood did."""

    kernel_peak_mb: float
    client_peak_mb: float
    prepared_mb: float
    """What the kernel held when the flood began: for `one_write` the string is most of it."""
    seconds: float
    interrupt_s: float
    spilled_ok: bool | None


def _status_mb(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise LookupError(f"no {name} in /proc/{pid}/status")


class _Peak:
    """The most resident memory of a process from now on, over what it has now."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # sets VmHWM to VmRSS
        self.before_mb = _status_mb(pid, "VmRSS")

    def over_mb(self) -> float:
        return max(0.0, _status_mb(self._pid, "VmHWM") - self.before_mb)


async def _drown(kernel: ManagedKernel, flood: Flood, size: int, store: BlobStore) -> Measured:
    assert kernel.pid is not None
    prepared = await kernel.run(next_key(), flood.prepare.replace("SIZE", str(size)))
    assert prepared.outcome is CellOutcome.OK, prepared
    code = flood.code.replace("SIZE", str(size))
    inside, client = _Peak(kernel.pid), _Peak(os.getpid())
    begun = time.perf_counter()
    result = await kernel.run(next_key(), code, on_output=lambda outputs: None, timeout_s=_LONGEST_S)
    seconds = time.perf_counter() - begun
    assert result.outcome is CellOutcome.OK, (result.outcome, result.detail, result.error)
    figures = inside.over_mb(), client.over_mb()
    spilled_ok = None if flood.text is None else _same(result.outputs, store, flood.text(size))
    if spilled_ok is False:
        print(f"  not the text that was printed; late: {_told(kernel.take_background())}", file=sys.stderr)
        print(f"  here: {_told(result.outputs)}", file=sys.stderr)
    return Measured(
        kernel_peak_mb=round(figures[0], 1),
        client_peak_mb=round(figures[1], 1),
        prepared_mb=round(inside.before_mb, 1),
        seconds=round(seconds, 2),
        interrupt_s=round(await _interrupted(kernel, code), 3),
        spilled_ok=spilled_ok,
    )


def _same(outputs: Sequence[CellOutput], store: BlobStore, text: Iterator[bytes]) -> bool:
    """Whether the stream outputs, the stored ones from their files, are exactly `text`; none is read as a whole."""
    got, expected = hashlib.sha256(), hashlib.sha256()
    for piece in text:
        expected.update(piece)
    for output in outputs:
        if not isinstance(output, StreamOutput) or output.name != "stdout":
            continue
        if output.spilled is None:
            if output.omitted_chars:
                return False
            got.update((output.head + output.tail).encode())
        else:
            with store.path(output.spilled.id.removeprefix("sha256:")).open("rb") as file:
                while piece := file.read(_READ):
                    got.update(piece)
    return got.digest() == expected.digest()


def _told(outputs: Sequence[CellOutput]) -> str:
    return "; ".join(
        f"{output.name}: {len(output.head)} + {output.omitted_chars} cut + {len(output.tail)} characters, stored: "
        f"{output.spilled.byte_len if output.spilled else None}"
        if isinstance(output, StreamOutput)
        else type(output).__name__
        for output in outputs[:20]
    )


async def _interrupted(kernel: ManagedKernel, code: str) -> float:
    """Seconds until the same flood, run without end, ends on an interrupt that comes in the middle of it."""
    endless = "while True:\n" + textwrap.indent(code, "    ")
    running = asyncio.create_task(kernel.run(next_key(), endless, on_output=lambda outputs: None))
    await asyncio.sleep(_INTO_IT_S)
    begun = time.perf_counter()
    answered = await kernel.interrupt()
    if not answered:  # it never will: `run` would wait on
        await kernel.restart()
    result = await running
    seconds = time.perf_counter() - begun
    if result.outcome is not CellOutcome.INTERRUPTED:
        print(f"  the interrupted flood ended as {result.outcome}: {result.detail or result.error}", file=sys.stderr)
    return seconds


async def measure(names: Sequence[str], size: int, tell: Callable[[str, Measured], None]) -> dict[str, Measured]:
    """Every flood in a kernel of its own; nothing of it is left."""
    measured: dict[str, Measured] = {}
    for name in names:
        with tempfile.TemporaryDirectory(prefix="lash-flood-") as directory:
            store = BlobStore(directory)
            async with fresh_kernel(store=store) as kernel:
                measured[name] = await _drown(kernel, FLOODS[name], size, store)
        tell(name, measured[name])
    return measured


def _names(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    if unknown := set(names) - FLOODS.keys():
        raise argparse.ArgumentTypeError(f"no such flood: {', '.join(sorted(unknown))} (of {', '.join(FLOODS)})")
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--size", type=int, default=1000, metavar="MB", help="text; 300 displays stand for one MB")
    parser.add_argument("--only", type=_names, default=tuple(FLOODS), metavar="NAME[,NAME]", help=", ".join(FLOODS))
    options = parser.parse_args()

    def tell(name: str, one: Measured) -> None:
        if not options.json:
            print(
                f"{name:10} {one.seconds:8.2f} s   kernel +{one.kernel_peak_mb} MB over {one.prepared_mb} MB   "
                f"client +{one.client_peak_mb} MB   interrupt {one.interrupt_s} s   whole: {one.spilled_ok}",
                flush=True,
            )

    resource.setrlimit(
        resource.RLIMIT_AS, (_ROOM_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1])
    )  # kernels inherit it
    measured = asyncio.run(measure(options.only, options.size, tell))
    floods = measured.values()
    figures: dict[str, object] = {
        "kernel_peak_mb": max(one.kernel_peak_mb for one in floods),
        "client_peak_mb": max(one.client_peak_mb for one in floods),
        "interrupt_s": max(one.interrupt_s for one in floods),
        "spilled_ok": all(one.spilled_ok is not False for one in floods),
        "size_mb": options.size,
        "floods": {
            name: {
                "kernel_peak_mb": one.kernel_peak_mb,
                "prepared_mb": one.prepared_mb,
                "client_peak_mb": one.client_peak_mb,
                "interrupt_s": one.interrupt_s,
                "seconds": one.seconds,
            }
            for name, one in measured.items()
        },
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
