"""Many cells over many kernels for a while: `python -m tests.faults.soak --cells 2000 --kernels 20 --json`.

At most four kernels are busy at once. A quarter of the cells are interrupted (or whoever waits for them is cancelled)
at a random moment, some kernels are killed or restarted in mid-cell, some cells have a time limit (`soak_cells`). After
each the outcome, all that was printed, the kernel's life and its variables are held against what was done.

`wrong` counts the cells where these do not fit; the first are told on stderr. The `…_growth` figures compare this
process after the warm-up (300 cells, or a third) with the end, when all kernels are idle both times; MB are millions of
bytes. `orphans` and `left_files` count what is there after all kernels were shut down: processes that descend from this
one or inherited its mark, and runtime directories and spilled files. Linux only (it reads /proc). The last line is one
JSON object that holds only what was measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import os
import signal
import statistics
import sys
import time
from collections import Counter
from pathlib import Path

from lash_nb.errors import KernelBusyError, KernelDiedError, LashError
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome, CellResult
from lash_nb.stores.blobs import BlobStore
from tests.bench.ours import next_key, text_of
from tests.bench.peers import WrongAnswerError
from tests.own_places import own_place

from .soak_cells import Act, Plan, misfit, plan

__all__ = ["Soak"]

_MARK = "LASH_NB_SOAK"
"""Every process that this one starts inherits it, whatever becomes of its parent."""
_BUSY_AT_ONCE = 4
_WARM_UP = 300
_ENDS_S = 60.0
_NOTICED_S = 2.0
_GONE_S = 5.0
_TELL = 20
_TELL_EVERY_S = 5.0


class Misfit(Exception):
    """What happened is not what may come of what was done."""


class Life:
    """One of the kernels, and what must hold of the life that it has now."""

    def __init__(self, number: int, store: BlobStore) -> None:
        self.kernel = ManagedKernel(store=store)
        self._number = number
        self._lives = 0
        self._token = ""
        self._epoch = ""
        self._store = store
        self.interrupts_s: list[float] = []
        self.outcomes: Counter[str] = Counter()

    async def begin(self) -> None:
        """Start it, or start it again where it lives no more, and leave a token in its namespace."""
        await (self.kernel.restart() if self._lives else self.kernel.start())
        await self.mark()

    async def mark(self) -> None:
        """Raises: Misfit: this is not a new life, or it does not run a cell."""
        self._lives += 1
        self._token = f"k{self._number}-{self._lives}"
        before, self._epoch = self._epoch, self.kernel.epoch
        if before == self._epoch:
            raise Misfit("a new life has the id of the one before")
        fresh = await self.kernel.run(next_key(), f"assert 'token' not in globals()\ntoken = '{self._token}'")
        if fresh.outcome is not CellOutcome.OK:
            raise Misfit(f"the first cell of a life: {fresh.outcome} {fresh.detail or fresh.error}")

    async def step(self, plan: Plan) -> None:
        """Run one cell as planned; the kernel is alive, idle and in order afterwards.

        Raises:
            Misfit: with what does not fit; the kernel may be in any state.
        """
        running = asyncio.create_task(self.kernel.run(next_key(), plan.code, timeout_s=plan.limit_s))
        if plan.act is not Act.NOTHING:
            await asyncio.sleep(plan.delay_s or 0.001)  # a cell has to be there to be interrupted
            await self._act(plan, running)
        done, _ = await asyncio.wait({running}, timeout=_ENDS_S)
        if not done:
            await self.kernel.restart()  # which ends it
            result = await running
            raise Misfit(f"did not end within {_ENDS_S:g} s, only with its kernel: {result.outcome}")
        if plan.act is not Act.CANCEL or not running.cancelled():  # it may have ended before
            self._judge(plan, running.result())
        await self._go_on(plan)

    async def _act(self, plan: Plan, running: asyncio.Task[CellResult]) -> None:
        match plan.act:
            case Act.INTERRUPT:
                begun, ended = time.perf_counter(), running.done()
                if not await self.kernel.interrupt():
                    raise Misfit("was not interrupted")
                await asyncio.wait({running}, timeout=_ENDS_S)
                if not ended:
                    self.interrupts_s.append(time.perf_counter() - begun)
            case Act.CANCEL:
                running.cancel()
            case Act.KILL:
                assert self.kernel.pid is not None
                os.kill(self.kernel.pid, signal.SIGKILL)
            case Act.RESTART if plan.delay_s:
                await self.kernel.restart()
            case Act.RESTART:
                await self.kernel.shutdown()
                await self.kernel.start()
            case Act.NOTHING:
                pass

    def _judge(self, plan: Plan, result: CellResult) -> None:
        self.outcomes[result.outcome.value] += 1
        try:
            why = misfit(plan, self._token, result, lambda one: text_of(one.outputs, self._store))
        except WrongAnswerError as error:
            why = str(error)
        if why:
            raise Misfit(f"{why}; {result.outcome} {result.detail or result.error}")

    async def _go_on(self, plan: Plan) -> None:
        """What a session does after such a cell; then the kernel is asked for its token."""
        self.kernel.take_background()
        match plan.act:
            case Act.KILL:
                await self._was_killed()
                await self.begin()
            case Act.RESTART:
                await self.mark()
            case _ if self.kernel.epoch != self._epoch or not self.kernel.alive:
                raise Misfit("the kernel has another life, or none")
            case _:
                pass
        try:
            asked = await asyncio.wait_for(self.kernel.run(next_key(), "print(token)"), _ENDS_S)
        except KernelBusyError as error:
            if not plan.shape.stubborn:
                raise Misfit(f"the kernel is busy after the cell: {error}") from error
            await self.begin()
            return
        told = text_of(asked.outputs, self._store)
        if asked.outcome is not CellOutcome.OK or told != f"{self._token}\n":
            raise Misfit(f"the next cell: {asked.outcome} {told!r} {asked.detail or asked.error}")

    async def _was_killed(self) -> None:
        begun = time.monotonic()
        while self.kernel.alive:
            if time.monotonic() > begun + _NOTICED_S:
                raise Misfit(f"its death was not noticed within {_NOTICED_S:g} s")
            await asyncio.sleep(0.005)
        with contextlib.suppress(KernelDiedError):
            await self.kernel.run(next_key(), "1")
            raise Misfit("a dead kernel takes cells")


class Soak:
    """All of it, with what was found."""

    def __init__(self, *, kernels: int, seed: int, store: BlobStore) -> None:
        self.lives = [Life(number, store) for number in range(kernels)]
        self.wrong: list[str] = []
        self.done = 0
        self._seed = seed
        self._busy = asyncio.Semaphore(_BUSY_AT_ONCE)
        self._begun = self._told_at = time.monotonic()

    async def start(self) -> None:
        await asyncio.gather(*(self._alone(life) for life in self.lives))

    async def _alone(self, life: Life) -> None:
        async with self._busy:
            await life.begin()

    async def run(self, first: int, end: int) -> None:
        """The cells of these numbers, dealt out to the kernels in turn."""
        await asyncio.gather(
            *(self._of_one(life, range(first + place, end, len(self.lives))) for place, life in enumerate(self.lives))
        )

    async def _of_one(self, life: Life, numbers: range) -> None:
        for number in numbers:
            async with self._busy:
                one = plan(self._seed, number)
                try:
                    await life.step(one)
                except (Misfit, LashError) as error:
                    self._note(one, error)
                    await life.begin()  # whatever state it is in
            self.done += 1
            self._progress()

    def _note(self, one: Plan, error: Exception) -> None:
        asked = f"limit {one.limit_s}, {one.act} after {one.delay_s:.3f} s"
        self.wrong.append(f"{one.tag} ({one.name}; {asked}): {type(error).__name__}: {error}")
        if len(self.wrong) <= _TELL:
            print(f"wrong: {self.wrong[-1]}", file=sys.stderr, flush=True)

    def _progress(self) -> None:
        now = time.monotonic()
        if now > self._told_at + _TELL_EVERY_S:
            self._told_at = now
            print(f"{self.done} cells, {len(self.wrong)} wrong, {now - self._begun:.0f} s", file=sys.stderr, flush=True)

    async def end(self) -> None:
        await asyncio.gather(*(life.kernel.shutdown() for life in self.lives))

    def interrupt_p95_s(self) -> float | None:
        seconds = [one for life in self.lives for one in life.interrupts_s]
        return round(statistics.quantiles(seconds, n=20, method="inclusive")[-1], 3) if len(seconds) > 1 else None

    def outcomes(self) -> dict[str, int]:
        return dict(sorted(sum((life.outcomes for life in self.lives), Counter[str]()).items()))


def _held() -> tuple[float, int, int]:
    """Resident MB, descriptors and threads of this process."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    fds = len(os.listdir("/proc/self/fd")) - 1  # the one that lists them
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6, fds, len(os.listdir("/proc/self/task"))


def _parent(pid: str) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]


def _orphans(place: Path) -> dict[int, str]:
    """Processes that live on and inherited the mark or descend from this one: their ids and command lines."""
    marks = (f"{_MARK}={place}".encode(), f"LASH_NB_RUNTIME_DIR={place}".encode())
    ours = {str(os.getpid())}
    found: dict[int, str] = {}
    for path in sorted(Path("/proc").glob("[0-9]*"), key=lambda path: int(path.name)):
        with contextlib.suppress(OSError):  # gone, or someone else's
            environment = (path / "environ").read_bytes()
            if path.name in ours:
                continue
            if any(mark in environment for mark in marks) or _parent(path.name) in ours:
                ours.add(path.name)
                found[int(path.name)] = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    return found


def _gone(place: Path) -> dict[int, str]:
    """The orphans that do not end by themselves within a few seconds."""
    until = time.monotonic() + _GONE_S
    while (left := _orphans(place)) and time.monotonic() < until:
        time.sleep(0.1)
    return left


async def _soak(options: argparse.Namespace, store: BlobStore) -> dict[str, object]:
    soak = Soak(kernels=options.kernels, seed=options.seed, store=store)
    begun = time.monotonic()
    warm_up = min(_WARM_UP, options.cells // 3)
    try:
        await soak.start()
        await soak.run(0, warm_up)
        first = _held()
        await soak.run(warm_up, options.cells)
        rss_mb, fds, threads = (now - before for now, before in zip(_held(), first, strict=True))
    finally:
        await soak.end()
    return {
        "cells": soak.done,
        "wrong": len(soak.wrong),
        "rss_growth_mb": round(rss_mb, 1),
        "rss_mb": round(first[0], 1),
        "fd_growth": fds,
        "threads_growth": threads,
        "interrupt_p95_s": soak.interrupt_p95_s(),
        "outcomes": soak.outcomes(),
        "seconds": round(time.monotonic() - begun, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--cells", type=int, default=2000)
    parser.add_argument("--kernels", type=int, default=20)
    parser.add_argument("--seed", type=int, default=9)
    options = parser.parse_args()
    with own_place("soak", _MARK) as place:
        store = BlobStore(place / "blobs")
        figures = asyncio.run(_soak(options, store))
        orphans = _gone(place)
        left = [path for path in place.rglob("*") if path.name.startswith(("lash-nb-kernel-", "spill-"))]
        figures |= {"orphans": len(orphans), "left_files": len(left)}
        for pid, command in orphans.items():
            print(f"left: process {pid} {command}", file=sys.stderr)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for path in left:
            print(f"left: {path.relative_to(place)}", file=sys.stderr)
    if not options.json:
        for name, figure in figures.items():
            print(f"{name:16} {figure}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
