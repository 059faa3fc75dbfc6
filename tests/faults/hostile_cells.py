"""Cells that end badly are told as what they are, in time, and the session goes on.

`python -m tests.faults.hostile_cells --json`. Each case (`hostile_cells_cases`) is one cell in a kernel of its own, run
as a turn runs it; a cell that would never end has a time limit. Then comes the next cell, with one restart where a turn
restarts: when the kernel is not alive, or is busy with a cell that was given up. At the end the kernel is shut down:
that is bounded too, and leaves no process.

The last line is one JSON object: `cases`, `typed` (the outcome, the error's name and the detail are right), `in_bound`,
`went_on` (the next cell answers, with the variables where they must be kept), `failed`, `left_out` (no limit to run it
under).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lash_nb.errors import KernelBusyError, LashError
from lash_nb.kernels.children import descendants, marked
from lash_nb.kernels.guardian import lives
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome, CellResult, ResultOutput
from tests.faults.hostile_cells_cases import CASES
from tests.faults.hostile_cells_parts import INTERRUPT_S, HostileCell

__all__ = ["Verdict", "judge", "main"]

_NEXT_S = 10.0
_END_S = 10.0
_LATER_S = 1.5
_BEFORE_S = 0.3
_MEMORY_BYTES = 1024**3
_PROCESSES = 100


@dataclass(slots=True)
class Verdict:
    """What came of a case."""

    name: str
    seconds: float = 0.0
    said: str = ""
    untyped: str = ""
    late: str = ""
    stuck: str = ""
    left_out: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        """Whether nothing is wrong."""
        return not (self.untyped or self.late or self.stuck)


def _options(given: HostileCell, *, sandbox: bool) -> dict[str, Any] | None:
    """What the kernel is made with; None: there is no limit to run it under."""
    options: dict[str, Any] = {"interrupt_timeout_s": INTERRUPT_S}
    if given.need:
        try:
            from lash_nb.kernels.resources import ResourceLimits

            limits = {"memory": {"memory_bytes": _MEMORY_BYTES}, "processes": {"processes": _PROCESSES}}
            options["resources"] = ResourceLimits(**limits[given.need])
            ManagedKernel(**options)
        except (ImportError, TypeError):
            return None
    return {**options, "sandbox": True} if sandbox else options


async def judge(given: HostileCell, *, sandbox: bool = False) -> Verdict:
    """Run a case in a kernel of its own."""
    verdict = Verdict(name=given.name)
    options = _options(given, sandbox=sandbox)
    if options is None or (sandbox and given.only_outside):
        verdict.left_out = "no limit" if options is None else "makes no sense in a sandbox"
        return verdict
    with tempfile.TemporaryDirectory(prefix="lash_nb_hostile_cell_") as directory:
        kernel = ManagedKernel(cwd=directory, **options)
        await kernel.start()
        try:
            await _judge(given, kernel, verdict)
        finally:
            runtime = str(kernel.connection_file.parent) if kernel.connection_file else ""
            began = time.monotonic()
            await kernel.shutdown()
            if time.monotonic() - began > _END_S:
                verdict.stuck = verdict.stuck or f"shutdown took {time.monotonic() - began:.1f} s"
            if runtime and (left := marked(runtime)):
                verdict.stuck = verdict.stuck or f"{len(left)} processes are left"
                for pid in left:
                    os.kill(pid, 9)
    return verdict


async def _judge(given: HostileCell, kernel: ManagedKernel, verdict: Verdict) -> None:
    if given.before:
        ready = await kernel.run("before", given.before)
        assert ready.outcome is CellOutcome.OK, ready
        await asyncio.sleep(_BEFORE_S)
    pid, epoch, others = kernel.pid, kernel.epoch, descendants(kernel.pid or 0).items()
    began = time.monotonic()
    bound_s = given.bound_s + (given.timeout_s or 0.0)
    try:
        async with asyncio.timeout(bound_s + 5.0):
            result = await kernel.run("hostile", given.code, timeout_s=given.timeout_s)
    except TimeoutError:
        verdict.untyped = verdict.late = "no result"
        return
    except LashError as error:
        verdict.untyped = f"it was not run: {error}"
        return
    verdict.seconds = time.monotonic() - began
    verdict.said = f"{result.outcome}: {result.error.ename if result.error else ''} {result.detail}"
    verdict.untyped = _untyped(given, result)
    if verdict.seconds > bound_s:
        verdict.late = f"{verdict.seconds:.1f} s, not {bound_s:.1f}"
    await asyncio.sleep(given.pause_s)
    if given.no_child:
        await asyncio.sleep(max(0.0, _LATER_S - given.pause_s))
        left = [child for child, started in descendants(pid or 0).items() - others if lives(child, started)]
        if kernel.pid == pid and left:
            verdict.stuck = f"{len(left)} children live"
    verdict.stuck = verdict.stuck or await _go_on(given, kernel, epoch)


def _untyped(given: HostileCell, result: CellResult) -> str:
    if result.outcome not in given.outcomes:
        return f"not {' or '.join(given.outcomes)}"
    if given.tells.casefold() not in result.detail.casefold():
        return f"the detail does not tell {given.tells!r}"
    if given.ename and (result.error is None or result.error.ename != given.ename):
        return f"the error is not {given.ename}"
    return ""


async def _go_on(given: HostileCell, kernel: ManagedKernel, epoch: str) -> str:
    """Why the session does not go on; empty when it does."""
    try:
        if not kernel.alive:
            await kernel.restart()
        try:
            result = await kernel.run("next", "40 + 2", timeout_s=_NEXT_S)
        except KernelBusyError:
            await kernel.restart()
            result = await kernel.run("next", "40 + 2", timeout_s=_NEXT_S)
        if _value(result) != "42":
            return f"the next cell: {result}"
        if given.keeps and kernel.epoch != epoch:
            return "its variables are gone"
        if given.check and _value(result := await kernel.run("check", given.check, timeout_s=_NEXT_S)) != "True":
            return f"the check: {result}"
        return ""
    except LashError as error:
        return f"{type(error).__name__}: {error}"


def _value(result: CellResult) -> str:
    values = [output for output in result.outputs if isinstance(output, ResultOutput)]
    return str(values[-1].data.get("text/plain")) if values else ""


async def _run(chosen: Sequence[HostileCell], *, sandbox: bool, quiet: bool) -> list[Verdict]:
    verdicts = []
    for given in chosen:
        verdict = await judge(given, sandbox=sandbox)
        verdicts.append(verdict)
        if not quiet or not verdict.right:
            mark = "left out" if verdict.left_out else "right" if verdict.right else "WRONG"
            wrong = "; ".join(part for part in (verdict.untyped, verdict.late, verdict.stuck) if part)
            line = f"{mark:8} {verdict.name:36} {verdict.seconds:5.1f} s  {verdict.said[:160]}"
            print(ascii(f"{line}{'  <- ' + wrong[:400] if wrong else ''}")[1:-1], file=sys.stderr, flush=True)
    return verdicts


def main(argv: Sequence[str] | None = None) -> int:
    """Run the cases; 1 when any is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="names, with commas between them")
    parser.add_argument("--sandbox", action="store_true", help="in sandboxed kernels")
    parser.add_argument("--json", action="store_true", help="print what is wrong, and the last line")
    options = parser.parse_args(argv)
    names = set(filter(None, options.only.split(",")))
    if unknown := names - {given.name for given in CASES}:
        parser.error(f"no case is called {', '.join(sorted(unknown))}")
    chosen = [given for given in CASES if not names or given.name in names]
    began = time.monotonic()
    verdicts = asyncio.run(_run(chosen, sandbox=options.sandbox, quiet=options.json))
    ran = [verdict for verdict in verdicts if not verdict.left_out]
    told = {
        "cases": len(ran),
        "typed": sum(not verdict.untyped for verdict in ran),
        "in_bound": sum(not verdict.late for verdict in ran),
        "went_on": sum(not verdict.stuck for verdict in ran),
        "failed": [verdict.name for verdict in ran if not verdict.right],
        "left_out": [verdict.name for verdict in verdicts if verdict.left_out],
        "seconds": round(time.monotonic() - began, 1),
    }
    print(json.dumps(told))
    return 1 if told["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
