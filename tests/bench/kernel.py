"""The managed kernel beside the other ways of running a cell: `python -m tests.bench.kernel --json`.

Round trips, prints, images and deaths are measured side by side: every system is up at the same time, and their
batches are interleaved. `raw` is jupyter_client's blocking client on a stock ipykernel; every `…_ratio` is ours over
that. Further peers come with the extra `bench`; one that is not installed is left out, and said so on stderr.

What a system hands back is compared with what the cell wrote, byte for byte: for ours or raw a difference ends the
bench, a peer loses its place in that table. `--only` takes names of `MEASURES`, `--quick` measures less of everything.

The last line is one JSON object that holds only what was measured: seconds where a name ends in `_s`, milliseconds
in `_ms`. `death_peers` says `null` for who did not notice within `death_bound_s`.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import signal
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from . import alone
from .ours import Ours
from .peers import Peer, Received, WrongAnswerError, installed, private_jupyter

__all__ = ["MEASURES", "Reps"]

SIDE_BY_SIDE = ("round_trip", "prints", "image", "death")
MEASURES = ("client_cpu", *SIDE_BY_SIDE, "flushed", "namespace", "tool_call")

_IMAGE_BYTES = 10_000_000
_MAKE_IMAGE = f"""
import base64, hashlib, os
made = os.urandom({_IMAGE_BYTES})
encoded = base64.b64encode(made).decode()
print(hashlib.sha256(made).hexdigest())
"""
_SHOW_IMAGE = "display({'image/png': encoded}, raw=True)"
_PRINTS = 100_000
_PRINTED = "".join(f"{number}\n" for number in range(_PRINTS))
_DEATH_BOUND_S = 5.0
_KILLED_AFTER_S = 0.5
"""Into the cell: in the middle between two looks of those that look every second, so that theirs is the mean."""

Figures = dict[str, object]
Timings = dict[str, list[float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reps:
    """How much is measured of everything."""

    rounds: int = 40
    batch: int = 10
    prints: int = 5
    images: int = 7
    cpu_cells: int = 500
    block_s: float = 10.0
    deaths: int = 15
    namespaces: int = 100
    tool_calls: int = 200


QUICK = Reps(rounds=8, batch=8, prints=2, images=3, cpu_cells=200, block_s=3.0, deaths=4, namespaces=30, tool_calls=100)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def _systems() -> Iterator[list[Peer]]:
    """Ours, raw and every peer that is installed and comes up; none of them is left at the end."""
    made, missing = installed()
    for name in missing:
        _say(f"{name}: not installed, left out (the extra `bench` has it)")
    with private_jupyter(), contextlib.ExitStack() as ends:
        systems: list[Peer] = []
        for make in (Ours, *made.values()):
            peer = make()
            with contextlib.ExitStack() as end:
                end.callback(_close, peer)
                try:
                    peer.start()
                except Exception as error:
                    if peer.name in ("ours", "raw"):
                        raise
                    _say(f"{peer.name}: did not start, left out ({type(error).__name__}: {error})")
                else:
                    systems.append(peer)
                    ends.push(end.pop_all())
        yield systems


def _close(peer: Peer) -> None:
    try:
        peer.close()
    except Exception as error:  # the others are closed all the same
        _say(f"{peer.name}: not closed cleanly ({type(error).__name__}: {error})")


def _interleaved(
    systems: Sequence[Peer], code: str, check: Callable[[Peer, Received], None], *, rounds: int, batch: int
) -> Timings:
    """Seconds of every run of `code`, system by system; who answers wrongly is out."""
    seconds: Timings = {peer.name: [] for peer in systems}
    for _ in range(rounds):
        for peer in systems:
            if peer.name not in seconds:
                continue
            try:
                for _ in range(batch):
                    begun = time.perf_counter()
                    received = peer.run(code)
                    seconds[peer.name].append(time.perf_counter() - begun)
                    check(peer, received)
            except Exception as error:
                if peer.name in ("ours", "raw"):
                    raise
                _say(f"{peer.name}: left out of `{code[:40]}` ({type(error).__name__}: {str(error)[:120]})")
                del seconds[peer.name]
    return seconds


def _medians(seconds: Timings, *, scale: float = 1.0) -> dict[str, float]:
    return {name: round(statistics.median(values) * scale, 3) for name, values in seconds.items()}


def _ratio(seconds: Timings) -> float:
    return round(statistics.median(seconds["ours"]) / statistics.median(seconds["raw"]), 3)


def round_trip(systems: Sequence[Peer], reps: Reps) -> Figures:
    """`1+1`; execution counts, where a system tells them, go up by one with every cell."""
    counts: dict[str, int] = {}

    def check(peer: Peer, received: Received) -> None:
        if received.text.strip() != "2":
            raise WrongAnswerError(f"1+1 gave {received.text!r}")
        if peer.name in ("ours", "raw") and received.count is None:
            raise WrongAnswerError("no execution count")
        if received.count is not None:
            before = counts.setdefault(peer.name, received.count - 1)
            if received.count != before + 1:
                raise WrongAnswerError(f"the execution count went from {before} to {received.count}")
            counts[peer.name] = received.count

    _interleaved(systems, "1+1", check, rounds=1, batch=10)  # warm
    seconds = _interleaved(systems, "1+1", check, rounds=reps.rounds, batch=reps.batch)
    return {"round_trip_ratio": _ratio(seconds), "round_trip_ms": _medians(seconds, scale=1e3)}


def prints(systems: Sequence[Peer], reps: Reps) -> Figures:
    """Until everything that a hundred thousand prints wrote is here."""

    def check(peer: Peer, received: Received) -> None:
        if received.text != _PRINTED:
            raise WrongAnswerError(f"{len(received.text)} characters of {len(_PRINTED)} came, or others")

    seconds = _interleaved(systems, f"for i in range({_PRINTS}): print(i)", check, rounds=reps.prints, batch=1)
    return {"prints_100k_ratio": _ratio(seconds), "prints_100k_s": _medians(seconds)}


def image(systems: Sequence[Peer], reps: Reps) -> Figures:
    """Until the whole of a display of ten megabytes is here; ours lies in the store by then."""
    able: list[Peer] = []
    hashes: dict[str, str] = {}
    for peer in systems:
        if peer.has_kernel:
            hashes[peer.name] = peer.run(_MAKE_IMAGE).text.strip()
            able.append(peer)

    def check(peer: Peer, received: Received) -> None:
        if hashlib.sha256(received.png_bytes()).hexdigest() != hashes[peer.name]:
            raise WrongAnswerError("the image that came is not the one that was shown")

    seconds = _interleaved(able, _SHOW_IMAGE, check, rounds=reps.images, batch=1)
    medians = _medians(seconds)
    rates = {name: round(_IMAGE_BYTES / 1e6 / median, 1) for name, median in medians.items()}
    return {"image_10mb_ratio": _ratio(seconds), "image_10mb_s": medians, "image_mb_per_s": rates}


def death(systems: Sequence[Peer], reps: Reps) -> Figures:
    """Kernels killed in mid-cell: ours again and again, the peers' once. No peer can be used afterwards."""
    ours = asyncio.run(alone.death_s(times=reps.deaths))
    peers = {peer.name: _notices(peer) for peer in systems if peer.has_kernel and peer.name != "ours"}
    return {
        "death_p95_s": round(statistics.quantiles(ours, n=20, method="inclusive")[-1], 4),
        "death_peers": peers,
        "death_bound_s": _DEATH_BOUND_S,
    }


def _notices(peer: Peer) -> float | None:
    """Seconds until the caller is told that its kernel is gone; None: not within the bound."""
    pid = int(peer.run("import os; print(os.getpid())").text)
    killed: list[float] = []

    def kill() -> None:
        os.kill(pid, signal.SIGKILL)
        killed.append(time.perf_counter())

    timer = threading.Timer(_KILLED_AFTER_S, kill)
    timer.start()
    try:
        peer.run("import time; time.sleep(60)", bound_s=_KILLED_AFTER_S + _DEATH_BOUND_S)
    except Exception:  # each says it in its own way
        pass
    timer.join()
    took = time.perf_counter() - killed[0]
    return round(took, 3) if took < _DEATH_BOUND_S * 0.95 else None


def _alone(name: str, reps: Reps) -> Figures:
    match name:
        case "client_cpu":
            return {"client_cpu_ms": round(asyncio.run(alone.client_cpu_ms(cells=reps.cpu_cells)), 3)}
        case "flushed":
            return {"flushed_lost": asyncio.run(alone.flushed_lost(block_s=reps.block_s))}
        case "namespace":
            quiet, busy = asyncio.run(alone.namespace_ms(times=reps.namespaces))
            return {"namespace_100_ms": round(quiet, 3), "namespace_busy_ms": round(busy, 3)}
        case _:
            return {"tool_call_ms": round(asyncio.run(alone.tool_call_ms(calls=reps.tool_calls)), 3)}


def measure(wanted: Sequence[str], reps: Reps, tell: Callable[[str, Figures], None]) -> Figures:
    """Everything of `wanted`: what asks for a quiet process first, then side by side, then ours alone."""
    figures: Figures = {}

    def take(name: str, found: Figures) -> None:
        figures.update(found)
        tell(name, found)

    if "client_cpu" in wanted:
        take("client_cpu", _alone("client_cpu", reps))
    together = [one for one in (round_trip, prints, image, death) if one.__name__ in wanted]
    if together:
        with _systems() as systems:
            for one in together:
                take(one.__name__, one(systems, reps))
    for name in ("flushed", "namespace", "tool_call"):
        if name in wanted:
            take(name, _alone(name, reps))
    return figures


def _table(name: str, figures: Figures) -> None:
    print(name)
    for key, value in figures.items():
        if isinstance(value, dict):
            print(f"  {key}")
            for system, figure in value.items():
                print(f"    {system:24} {'not noticed' if figure is None else figure:>12}")
        else:
            print(f"  {key:26} {value!s:>12}")
    sys.stdout.flush()


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

    def tell(name: str, figures: Figures) -> None:
        if not options.json:
            _table(name, figures)

    figures = measure(options.only, QUICK if options.quick else Reps(), tell)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
