"""The processes that a kernel's code started, as /proc tells it; where there is none, nobody is found.

Decided here: which of them belong to a cell (those begun since it was sent), and how they end when it is interrupted:
half a second after it SIGTERM, then SIGKILL, never to a process that has got the same id since. Looking costs a third
of a millisecond, so it is done for interrupted cells alone. What serves the whole kernel whichever cell needed it first
is spared: multiprocessing's resource tracker and its fork server. What a thread of an earlier cell starts while a later
one runs is taken for that one's: /proc does not tell them apart. A child that made itself a daemon is no
descendant any more; what tells it is the variable `LASH_NB_RUNTIME_DIR` in the environment that it was started with.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path

from .guardian import lives, start_time

__all__ = ["CellChildren", "Children", "begun_since", "descendants", "marked", "signal_all", "ticks"]

Children = dict[int, int]
"""When each process started, in ticks since boot, by its id: the two together are never used again."""

_MARK = b"LASH_NB_RUNTIME_DIR="
_SERVERS = (b"resource_tracker import main", b"forkserver import main")
"""In the code that a server of the whole kernel was started with: multiprocessing's, and loky's."""
_GRACE_S = 0.5
"""How long a child of an interrupted cell has for each signal."""


class CellChildren:
    """Those of one kernel's cells, of which one runs at a time; `now` is `time.monotonic()`."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._started = start_time(pid)
        self._since = self._last_end = 0
        self._stopping = False
        """The cell that runs is being interrupted."""
        self._earlier: Children = {}
        self._doomed: Children = {}
        self._due: float | None = None
        self._next = signal.SIGTERM

    def sent(self) -> None:
        """A cell is on its way to the kernel."""
        self._since = ticks()
        # What started in this tick may be the last cell's, when that ended in it.
        self._earlier = descendants(self._pid) if self._since <= self._last_end else {}

    def interrupting(self, now: float) -> None:
        """It is about to be interrupted: who leaves children behind when it ends is asked before."""
        self._look()
        self._stopping = True
        if self._due is None:
            self._due, self._next = now + _GRACE_S, signal.SIGTERM

    def ended(self, now: float) -> None:
        """The cell has ended, and no other was sent."""
        if self._stopping:
            self._look()
            if self._due is None:  # it went on for longer than its children
                self._due, self._next = now + _GRACE_S, signal.SIGTERM
        self._stopping, self._last_end = False, ticks()

    def tick(self, now: float) -> float | None:
        """Do what is due; the time of the next thing that will be, if any."""
        if self._due is None or now < self._due:
            return self._due
        if self._stopping:
            self._look()
        for pid in tuple(self._doomed):  # what they have started meanwhile
            self._doomed |= {child: started for child, started in descendants(pid).items() if not _serves(child)}
        self._doomed = signal_all(self._doomed, self._next)
        if self._doomed and self._next is signal.SIGTERM:
            self._due, self._next = now + _GRACE_S, signal.SIGKILL
        else:
            self._due, self._doomed = None, {}
        return self._due

    def wake(self) -> None:
        """Let the kernel and what descends from it go on, where it was stopped: only then does it take a signal."""
        if self._started is not None:
            signal_all({self._pid: self._started, **descendants(self._pid)}, signal.SIGCONT)

    def _look(self) -> None:
        found = begun_since(self._pid, self._since).items() - self._earlier.items()
        self._doomed |= {pid: started for pid, started in found if not _serves(pid)}


def ticks() -> int:
    """Now, in the unit and from the origin in which /proc tells when a process started."""
    if not hasattr(time, "CLOCK_BOOTTIME"):
        return 0
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def descendants(pid: int) -> Children:
    """Every process that descends from `pid`, without itself."""
    found: Children = {}
    by_parent: dict[int, list[int]] | None = None
    open_ends = [pid]
    while open_ends:
        parent = open_ends.pop()
        children = _children(parent)
        if children is None:
            if by_parent is None:
                by_parent = _by_parent()
            children = by_parent.get(parent, [])
        for child in children:
            started = start_time(child)
            if started is not None and child not in found:
                found[child] = started
                open_ends.append(child)
    return found


def begun_since(pid: int, tick: int) -> Children:
    """The descendants of `pid` that started at `tick` (of `ticks`) or later."""
    return {child: started for child, started in descendants(pid).items() if started >= tick}


def signal_all(children: Children, number: signal.Signals) -> Children:
    """Send a signal to those that still live, which are returned."""
    left = {pid: started for pid, started in children.items() if lives(pid, started)}
    for pid, started in left.items():
        _send(pid, started, number)
    return left


def marked(directory: str) -> list[int]:
    """This user's processes that were started with `LASH_NB_RUNTIME_DIR=directory`, but not this one; sorted.

    The kernel itself is one of them, while it lives. A process that changed its environment since is still found; one
    that was started with another environment is not.
    """
    wanted, found = _MARK + os.fsencode(directory), []
    for pid in _all():
        if pid == os.getpid():
            continue
        with contextlib.suppress(OSError):  # another user's, or it has ended
            if wanted in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") and lives(pid, None):
                found.append(pid)
    return sorted(found)


def _send(pid: int, started: int, number: signal.Signals) -> None:
    """To that very process: the descriptor keeps its id from being used again while we look."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if not hasattr(os, "pidfd_open"):
            os.kill(pid, number)
            return
        fd = os.pidfd_open(pid)
        try:
            if lives(pid, started):
                signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)


def _children(pid: int) -> list[int] | None:
    """Those of all its threads; None where this kernel of Linux does not tell."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:  # it has ended, or there is no /proc
        return []
    found: list[int] = []
    for thread in threads:
        try:
            found += map(int, Path(f"/proc/{pid}/task/{thread}/children").read_bytes().split())
        except FileNotFoundError:
            if os.path.exists(f"/proc/{pid}/task/{thread}"):
                return None
        except OSError:
            continue
    return found


def _by_parent() -> dict[int, list[int]]:
    """Every process by its parent."""
    found: dict[int, list[int]] = {}
    for pid in _all():
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            found.setdefault(int(fields[1]), []).append(pid)
    return found


def _serves(pid: int) -> bool:
    """Whether it is a server of multiprocessing's; what a fork server forks has its command line, and is none."""
    return _is_server(pid) and not _is_server(_parent(pid))


def _is_server(pid: int) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(word.startswith(b"from ") and any(code in word for code in _SERVERS) for word in words)


def _parent(pid: int) -> int:
    """0 when it has ended."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (OSError, ValueError, IndexError):
        return 0


def _all() -> Iterable[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
