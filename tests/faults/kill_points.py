"""The points of a host's life at which `tests.faults.kill` kills it, and how they are laid into our own classes.

Points have names (`turn 2: perform ExecCode 3 before`), the same in every run; a name that comes again is numbered.
`instrument` is for a process that ends soon: what it replaces stays replaced.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lash_nb import recording
from lash_nb.fulfil import Fulfilment
from lash_nb.kernels.guardian import start_time
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.effects import Response, WaitingEffect
from lash_nb.machine.turn import TurnMachine
from lash_nb.stores import journal
from lash_nb.stores.documents import Output
from lash_nb.stores.durable import NewSegment
from lash_nb.stores.journal import Journal

__all__ = ["Points", "instrument", "kill_kernels"]

_COMPACT_BYTES = 100_000
"""So that the journal of the plan is compacted, too."""


def kill_kernels(directory: Path) -> list[int]:
    """Kill the kernels that live below `directory` (it is the XDG_RUNTIME_DIR of their hosts); their ids."""
    killed = []
    for path in directory.glob("lash-nb-kernel-*/kernel.json"):
        with contextlib.suppress(OSError, ValueError):
            identity = json.loads(path.read_text())
            pid = int(identity["pid"])
            if start_time(pid) == identity["started"]:
                os.killpg(pid, signal.SIGKILL)
                killed.append(pid)
    return killed


class Points:
    """Counts what is reached, and kills this process at one point: that of the name `at`, or the `nth` from 1."""

    def __init__(self, directory: Path, *, at: str = "", nth: int = 0, with_kernels: bool = False) -> None:
        self.directory = directory
        self.turn = 0
        self._at, self._nth, self._with_kernels = at, nth, with_kernels
        self._seen: Counter[str] = Counter()
        self._count = 0
        self._lock = threading.Lock()
        self._log = os.open(directory / "points", os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        self._runs = os.open(directory / "runs", os.O_APPEND | os.O_CREAT | os.O_WRONLY)

    def reached(self, what: str) -> None:
        """A point; does not return from the chosen one."""
        if self.chosen(what):
            self.die()

    def chosen(self, what: str) -> bool:
        """As `reached`, but the caller dies."""
        with self._lock:
            self._count += 1
            name = f"turn {self.turn}: {what}"
            self._seen[name] += 1
            if self._seen[name] > 1:
                name += f" ({self._seen[name]})"
            os.write(self._log, f"{name}\n".encode())
            return name == self._at or self._count == self._nth

    def die(self) -> None:
        """SIGKILL, for this process and, if so wished, its kernels."""
        if self._with_kernels:
            kill_kernels(self.directory)
        os.kill(os.getpid(), signal.SIGKILL)

    def ran(self, what: str) -> None:
        """Something that must not run twice."""
        os.write(self._runs, f"{what}\n".encode())


def _wrap(owner: object, name: str, wrapper: Callable[[Any], Any]) -> None:
    setattr(owner, name, wrapper(getattr(owner, name)))


def instrument(points: Points) -> None:
    """Lay the points into this process: writes, effects, responses, cells, copies."""
    recording.COMPACT_BYTES = _COMPACT_BYTES
    last = "nothing"

    def writing(write: Callable[[int, bytes], None]) -> Callable[[int, bytes], None]:
        def wrapped(fd: int, data: bytes) -> None:
            nonlocal last
            last = _named(data)
            points.reached(f"write {last} before")
            if points.chosen(f"write {last} torn"):
                write(fd, data[: len(data) // 2])
                points.die()
            write(fd, data)
            points.reached(f"write {last} after")

        return wrapped

    _wrap(journal, "write_all", writing)
    _around(points, Journal, "_sync", lambda *_: f"sync {last}")
    _around(points, Journal, "rotate", lambda *_: "rotate")
    _around(points, NewSegment, "place", lambda *_: "place segment")
    _around(points, TurnMachine, "handle_response", _response)
    _around(points, Output, "save", lambda *_: "copy")
    _around(points, journal, "archive_all", lambda *_: "archive")
    _wrap(Journal, "open", lambda opened: _opening(points, opened))
    _wrap(Fulfilment, "perform", lambda perform: _performing(points, perform))
    _wrap(ManagedKernel, "run", lambda run: _running(points, run))
    _wrap(ManagedKernel, "start", lambda start: _starting(points, start))


def _around(points: Points, owner: object, name: str, label: Callable[..., str]) -> None:
    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            what = label(*args)
            points.reached(f"{what} before")
            given = original(*args, **options)
            points.reached(f"{what} after")
            return given

        return wrapped

    _wrap(owner, name, wrapper)


def _named(data: bytes) -> str:
    """What the records of a write are."""
    names = []
    for line in data.splitlines():
        record = json.loads(line[line.index(b"{") :])
        about = [record.get("effect"), record.get("call"), record.get("id"), record.get("n")]
        names.append(" ".join([record["k"], *(str(part) for part in about if part is not None)]))
    return ", ".join(names)


def _response(machine: TurnMachine, response: Response) -> str:
    return f"response {type(response).__name__} {response.id}"


def _opening(points: Points, opened: Callable[..., Journal]) -> Any:
    def wrapped(*args: Any, **options: Any) -> Journal:
        points.reached("open before")
        given = opened(*args, **options)
        points.reached("open after")
        return given

    return staticmethod(wrapped)


def _performing(points: Points, perform: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapped(self: Fulfilment, effect: WaitingEffect, **options: Any) -> Response:
        what = f"perform {type(effect).__name__} {effect.id}"
        points.reached(f"{what} before")
        response: Response = await perform(self, effect, **options)
        points.reached(f"{what} after")
        return response

    return wrapped


def _running(points: Points, run: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapped(self: ManagedKernel, key: str, code: str, *, on_output: Any = None, **options: Any) -> Any:
        what = f"cell {key.rpartition(':')[2]}"
        shown = False

        def showing(outputs: Any) -> None:
            nonlocal shown
            if not shown:
                shown = True
                points.reached(f"{what} shows")
            if on_output is not None:
                on_output(outputs)

        points.reached(f"{what} before")
        result = await run(self, key, code, on_output=showing, **options)
        points.reached(f"{what} after")
        return result

    return wrapped


def _starting(points: Points, start: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapped(self: ManagedKernel) -> None:
        points.reached("start kernel before")
        await start(self)
        points.reached("start kernel after")

    return wrapped
