"""A host is killed in mid-cell, another takes its kernel over: `python -m tests.faults.attach --json`.

A host process runs the cells of `PLAN` one after the other and says each one's start before it; it is killed (SIGKILL)
at a random moment. A second host attaches to the kernel and runs the whole plan again under the same keys. Each cell
appends a line to a file when it runs: the file is the judge of how often it did. What each cell must give is written
down here.

The last line is one JSON object: `points`, `doubled` (cells that ran more than once), `lost_unsaid` (cells that did not
run, or whose outcome, value, text or whole spilled text is not what it must be, without being told as lost), and how
many cells were recovered, followed while they ran, and run for the first time by the second host.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome, CellResult, DisplayOutput, FinishValue, ResultOutput, StreamOutput
from lash_nb.stores.blobs import BlobStore

LINES = 20_000
RUNS = """
import os, time
f = os.open('runs', os.O_APPEND | os.O_CREAT | os.O_WRONLY)
os.write(f, b'{n}\\n'); os.close(f)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A cell and what it must give."""

    code: str
    outcome: CellOutcome = CellOutcome.OK
    shows: str = ""
    """All text that it leaves: streams, displays, values."""
    prints: bytes = b""
    """All that it prints, when that is too much to be kept inline."""
    finish: FinishValue | None = None


BIG = b"".join(b"%d\n" % number for number in range(LINES))
NUMBERS = "".join(f"{number}\n" for number in range(3000))
PLAN = (
    Planned(code="time.sleep(0.2); 'first'", shows="'first'"),
    Planned(code="print('a', flush=True); time.sleep(0.3); print('b')", shows="a\nb\n"),
    Planned(code="time.sleep(0.1)\nfor n in range({lines}): print(n)\ntime.sleep(0.2)", prints=BIG),
    Planned(code="print('x'); time.sleep(0.2); 1 / 0", outcome=CellOutcome.ERROR, shows="x\n"),
    Planned(code="import asyncio; await asyncio.sleep(0.3); print('awaited')", shows="awaited\n"),
    Planned(code="d = display('old', display_id='d'); time.sleep(0.2); d.update('new');", shows="'new'"),
    Planned(code="time.sleep(0.2); finish({{'n': 1}})", finish=FinishValue(value={"n": 1})),
    Planned(code="for n in range(3000): print(n, flush=True)\ntime.sleep(0.2)", shows=NUMBERS),
    Planned(code="time.sleep(0.1); 'last'", shows="'last'"),
)  # fmt: skip


def code_of(number: int) -> str:
    return RUNS.format(n=number) + PLAN[number].code.format(lines=LINES)


async def host(directory: Path) -> None:
    """The host that will be killed."""
    kernel = ManagedKernel(cwd=directory, store=BlobStore(directory / "blobs"), orphan_ttl_s=60.0)
    await kernel.start()
    print(kernel.connection_file, kernel.epoch, flush=True)
    for number in range(len(PLAN)):
        print(number, flush=True)
        await kernel.run(f"effect {number}", code_of(number))
    print("end", flush=True)
    await asyncio.sleep(60)


@dataclass(slots=True)
class Tally:
    """What was seen over all points."""

    points: int = 0
    doubled: int = 0
    lost_unsaid: int = 0
    recovered: int = 0
    fresh: int = 0
    running_at_attach: int = 0
    problems: list[str] = field(default_factory=list)


def shown(result: CellResult) -> str:
    parts = []
    for output in result.outputs:
        match output:
            case StreamOutput():
                parts.append(output.head + output.tail)
            case DisplayOutput() | ResultOutput():
                parts.append(str(output.data["text/plain"]))
            case _:
                continue
    return "".join(parts)


def problem_of(planned: Planned, result: CellResult, store: BlobStore) -> str:
    """Empty when the result is what it must be."""
    if result.outcome is not planned.outcome or result.finish != planned.finish:
        return f"{result.outcome} {result.finish} {result.detail}"
    if planned.prints:
        (stream,) = result.outputs
        assert isinstance(stream, StreamOutput)
        if stream.spilled is None or store.get(stream.spilled) != planned.prints:
            return "the whole text was not kept"
        cut = len(planned.prints) - len(stream.head) - len(stream.tail)
        return "" if cut == stream.omitted_chars else f"{stream.omitted_chars} characters counted, {cut} are cut"
    return "" if shown(result) == planned.shows else f"shows {shown(result)[:80]!r}"


async def take_over(connection_file: str, epoch: str, directory: Path, started: set[int], tally: Tally) -> None:
    store = BlobStore(directory / "blobs")
    kernel = await ManagedKernel.attach(connection_file, epoch=epoch, cwd=directory, store=store)
    try:
        running = kernel.following
        tally.running_at_attach += running is not None
        order = sorted(range(len(PLAN)), key=lambda number: f"effect {number}" != running)
        for number in order:
            result = await kernel.run(f"effect {number}", code_of(number), started=number in started)
            tally.recovered += result.recovered
            tally.fresh += not result.recovered
            if result.outcome is CellOutcome.LOST:
                continue  # that was said
            problem = problem_of(PLAN[number], result, store)
            if problem:
                tally.lost_unsaid += 1
                tally.problems.append(f"cell {number}: {problem}")
    finally:
        await kernel.shutdown()


def point(delay_s: float, tally: Tally) -> None:
    """One host, killed `delay_s` after its kernel was ready."""
    with tempfile.TemporaryDirectory(prefix="lash-nb-attach-") as name:
        directory = Path(name)
        command = [sys.executable, "-m", "tests.faults.attach", "--host", name]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            connection_file, epoch = process.stdout.readline().split()
            time.sleep(delay_s)
            process.send_signal(signal.SIGKILL)
            started = {int(line) for line in process.stdout.read().split() if line.isdecimal()}
        asyncio.run(take_over(connection_file, epoch, directory, started, tally))
        ran = Counter((directory / "runs").read_text().split()) if (directory / "runs").exists() else Counter()
        tally.points += 1
        tally.doubled += sum(count > 1 for count in ran.values())
        missing = [number for number in range(len(PLAN)) if not ran[str(number)]]
        tally.lost_unsaid += len(missing)
        tally.problems += [f"killed after {delay_s:.3f} s: cell {number} never ran" for number in missing]
        tally.problems += [f"killed after {delay_s:.3f} s: cell {n} ran {c} times" for n, c in ran.items() if c > 1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--host", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.host:
        asyncio.run(host(Path(options.host)))
        return
    moments, tally = random.Random(options.seed), Tally()
    for _ in range(options.points):
        point(moments.uniform(0.0, 1.8), tally)
    for problem in tally.problems:
        print(problem, file=sys.stderr)
    figures = {
        "points": tally.points,
        "doubled": tally.doubled,
        "lost_unsaid": tally.lost_unsaid,
        "running_at_attach": tally.running_at_attach,
        "recovered": tally.recovered,
        "fresh": tally.fresh,
    }
    if not options.json:
        print(f"{tally.points} hosts killed; {tally.running_at_attach} of them while a cell ran")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
