"""A host is killed before and after everything that it does: `python -m tests.faults.kill --json`.

A scripted session (`kill_plan`) uses every kind of effect. Its host kills itself (SIGKILL) at one point; the points
(`kill_points`) are all writes of the journal (also half of each), syncs, effects, responses, cells, tool and model
calls. The next host resumes the session and finishes the plan; `kill_judge` compares. Random sessions are killed from
outside, and their second host, too.

The variants: `journal`; `notebook`: the state directory is deleted, and the session goes on from the .ipynb alone;
`kernel`: the managed kernel is killed with the host.

The last line is one JSON object: `points`, `lost` (what is missing or differs; without its kernel: what nobody was
told), `doubled` (cells and tool calls that ran more than once), `unknown_said` (tool calls that had begun and whose end
was not recorded: the model was told so), all of them by variant, too, with `killed` (in how many sessions a host was:
a point that did not come again kills nobody).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lash_nb.kernels.managed  # noqa: F401 - hosts are forked from a process that has it
from tests.faults.kill_host import STATE, drive
from tests.faults.kill_judge import Death, Verdict, death_of, judge, judge_without_kernel
from tests.faults.kill_plan import register
from tests.faults.kill_points import kill_kernels

__all__ = ["VARIANTS", "Kill", "Point", "run"]

VARIANTS = ("journal", "notebook", "kernel")
_KIND = {"journal": "journal", "notebook": "notebook", "kernel": "journal"}
"""What is recorded."""
_LONGEST_S = 60.0
"""For one host; it takes about one second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kill:
    """How one host ends: at the point of a name, at the `nth`, after some time."""

    at: str = ""
    nth: int = 0
    after_s: float = _LONGEST_S

    def __str__(self) -> str:
        return self.at or (f"point {self.nth}" if self.nth else f"after {self.after_s:.3f} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One session: which of its hosts are killed, one after the other."""

    variant: str
    kills: tuple[Kill, ...]

    def __str__(self) -> str:
        return f"{self.variant}, {', then '.join(str(kill) for kill in self.kills) or 'undisturbed'}"


@dataclass(slots=True)
class Tally:
    """What was seen over all points of a variant."""

    points: int = 0
    killed: int = 0
    lost: int = 0
    doubled: int = 0
    unknown_said: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, point: Point, seen: dict[str, Any]) -> None:
        self.points += 1
        self.killed += bool(seen["deaths"])
        self.lost += seen["lost"]
        self.doubled += seen["doubled"]
        self.unknown_said += seen["unknown_said"]
        self.problems += [f"{point}: {problem}" for problem in seen["problems"]]

    def figures(self) -> dict[str, int]:
        return {name: value for name, value in asdict(self).items() if isinstance(value, int)}


# ------------------------------------------------------------------------------------------------------- one session


def _host(directory: Path, kill: Kill, variant: str) -> bool:
    """Fork a host and wait for its end; whether it was killed as planned. What it has to say is in `errors`."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            fd = os.open(directory / "errors", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
            os.dup2(fd, 1)
            os.dup2(fd, 2)
            notebook, with_kernels = variant == "notebook", variant == "kernel"
            drive(directory, at=kill.at, nth=kill.nth, with_kernels=with_kernels, notebook=notebook)
            status = 0
        except BaseException:
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)
    end = time.monotonic() + kill.after_s
    while time.monotonic() < end:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        time.sleep(0.005)
    if variant == "kernel":
        kill_kernels(directory)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    if kill.after_s >= _LONGEST_S:
        with open(directory / "errors", "a") as file:
            file.write(f"a host did not end within {_LONGEST_S:g} s\n")
        return False
    return True


def _session(directory: Path, point: Point, undisturbed: Path | None) -> dict[str, Any]:
    """Run a session with all its hosts, and judge it (beside an undisturbed one)."""
    directory.mkdir()
    register()
    deaths: list[Death] = []
    try:
        for kill in (*point.kills, Kill()):
            if not _host(directory, kill, point.variant):
                break
            deaths.append(death_of(directory))
            if point.variant == "notebook":
                shutil.rmtree(directory / STATE, ignore_errors=True)
        verdict = Verdict()
        if point.variant == "kernel" and deaths:
            verdict = judge_without_kernel(directory, deaths)
        elif undisturbed is not None:
            verdict = judge(directory, undisturbed, deaths, notebook=point.variant == "notebook")
        errors = directory / "errors"
        if errors.exists() and (said := errors.read_text().strip()):
            verdict.loses(f"a host said: {said[-1500:]}")
    finally:
        kill_kernels(directory)
    return {"deaths": len(deaths), **asdict(verdict)}


def _guarded(directory: Path, point: Point, undisturbed: Path | None) -> dict[str, Any]:
    try:
        return _session(directory, point, undisturbed)
    except Exception:
        return {"deaths": 1, **asdict(Verdict(lost=1, problems=[traceback.format_exc()[-1500:]]))}


# ------------------------------------------------------------------------------------------------------ many of them


def _each(
    root: Path, points: Sequence[Point], undisturbed: dict[str, Path], *, jobs: int, keep: bool
) -> Iterator[tuple[Point, dict[str, Any]]]:
    """Every point in a process of its own, forked from this one, which has no threads."""
    assert threading.active_count() == 1, threading.enumerate()
    waiting = list(enumerate(points))[::-1]
    running: dict[int, tuple[int, Point]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            number, point = waiting.pop()
            pid = os.fork()
            if pid == 0:
                seen = _guarded(root / str(number), point, undisturbed.get(point.variant))
                (root / f"{number}.json").write_text(json.dumps(seen))
                os._exit(0)
            running[pid] = number, point
        pid, _ = os.wait()
        number, point = running.pop(pid)
        answer = root / f"{number}.json"
        seen = json.loads(answer.read_text())
        if not (keep and seen["problems"]):
            shutil.rmtree(root / str(number), ignore_errors=True)
        answer.unlink()
        yield point, seen


def _undisturbed(root: Path, variants: Sequence[str], *, twice: bool) -> dict[str, Path]:
    """For each variant a session that nobody killed; a second one must be equal to it, or nothing can be judged."""
    whole: dict[str, Path] = {}
    for kind in sorted({_KIND[variant] for variant in variants}):
        for name in (f"whole-{kind}", f"again-{kind}")[: 1 + twice]:
            seen = _guarded(root / name, Point(variant=kind, kills=()), whole.get(kind))
            if seen["problems"]:
                raise SystemExit(f"an undisturbed session has problems: {seen['problems']}")
            whole.setdefault(kind, root / name)
    return {variant: whole[_KIND[variant]] for variant in variants}


def _chosen(names: Sequence[str], count: int | None) -> list[str]:
    """A sample that is spread evenly."""
    if count is None or count >= len(names):
        return list(names)
    return [names[index * len(names) // count] for index in range(count)]


def _random(variant: str, count: int, names: Sequence[str], moments: random.Random) -> list[Point]:
    """Hosts that are killed from outside, every second time also the one that follows, and the one after that."""
    points = []
    for number in range(count):
        first = Kill(after_s=moments.uniform(0.0, 1.6))
        more = [Kill(nth=moments.randrange(1, len(names))), Kill(after_s=moments.uniform(0.0, 1.2))]
        points.append(Point(variant=variant, kills=(first, *more[: number % 3])))
    return points


def run(
    variants: Sequence[str],
    *,
    at: Sequence[str] = (),
    count: int | None = None,
    randomly: int = 0,
    jobs: int = 2,
    seed: int = 0,
    keep: bool = False,
    tell: Callable[[Point, dict[str, Any]], None] = lambda point, seen: None,
) -> dict[str, Tally]:
    """Kill at all points, `count` of them or those called `at`, and `randomly` many more; no thread runs here."""
    tallies = {variant: Tally() for variant in variants}
    root = Path(tempfile.mkdtemp(prefix="lnk-"))
    try:
        undisturbed = _undisturbed(root, variants, twice=not at)
        points: list[Point] = []
        for variant in variants:
            names = (undisturbed[variant] / "points").read_text().splitlines()
            chosen = list(at) or _chosen(names, count)
            points += [Point(variant=variant, kills=(Kill(at=name),)) for name in chosen]
            points += _random(variant, randomly, names, random.Random(f"{seed} {variant}"))
        for point, seen in _each(root, points, undisturbed, jobs=jobs, keep=keep):
            tallies[point.variant].add(point, seen)
            tell(point, seen)
    finally:
        if not keep:
            shutil.rmtree(root, ignore_errors=True)
    return tallies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--points", type=int, metavar="N", help="a sample of the points of each variant; default: all")
    parser.add_argument("--random", type=int, default=20, metavar="N", help="random ones more, for each variant")
    parser.add_argument("--variant", choices=("all", *VARIANTS), default="all")
    parser.add_argument("--at", action="append", default=[], metavar="POINT", help="only the point of this name")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", action="store_true", help="keep what sessions with problems have left")
    options = parser.parse_args()
    variants = VARIANTS if options.variant == "all" else (options.variant,)

    def tell(point: Point, seen: dict[str, Any]) -> None:
        for problem in seen["problems"]:
            print(f"{point}: {problem}", file=sys.stderr, flush=True)

    begun = time.monotonic()
    tallies = run(
        variants,
        at=options.at,
        count=options.points,
        randomly=options.random,
        jobs=options.jobs,
        seed=options.seed,
        keep=options.keep,
        tell=tell,
    )
    by_variant = {variant: tally.figures() for variant, tally in tallies.items()}
    names = ("points", "lost", "doubled", "unknown_said")
    figures: dict[str, Any] = {name: sum(found[name] for found in by_variant.values()) for name in names}
    if not options.json:
        print(f"{figures['points']} sessions in {time.monotonic() - begun:.0f} s")
    print(json.dumps({**figures, "variants": by_variant}))


if __name__ == "__main__":
    main()
