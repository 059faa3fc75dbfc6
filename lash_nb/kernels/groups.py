"""Who gets a kernel's signals beside its process: its group in a sandbox, what has left its group, kernels inside it.

Decided here: who ends with a kernel that a cell's code could have kept alive. That is what descends from it, what was
started with its mark, and kernels whose hosts are among these, or ran in it and have ended or are ending. A kernel with
another host that lives is not ended: it was taken over.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from .children import Children, descendants, marked, signal_all
from .guardian import is_ending, lives, start_time
from .limiting import Limiting

__all__ = ["Leader", "end_strays", "leader_in", "signal_leader"]

Leader = tuple[int, int | None]
"""The id and the start of a process that leads a group."""

_DIRECTORIES = "lash-nb-kernel-*"
_IN_MEMORY = Path("/dev/shm")
"""Where a sandboxed kernel has its directory (see `rundir`)."""
_END_S = 0.5
_POLL_S = 0.01


def leader_in(guardian: int) -> Leader | None:
    """Who leads the group of a kernel in its sandbox, below its guardian.

    That starts bubblewrap, and that the first process of the namespace, which hears nothing of ours but SIGKILL, lives
    as long as the namespace, and has the kernel in its group.
    """
    pid = guardian
    for _ in range(2):
        below = descendants(pid)
        children = set(below).difference(*(descendants(child) for child in below))
        if not children:
            return None
        pid = min(children, key=lambda child: (below[child], child))
    return pid, start_time(pid)


def signal_leader(leader: Leader, number: signal.Signals) -> None:
    """Signal the group that a process leads which is not ours to reap, if it is still that process.

    Raises:
        ProcessLookupError: nobody is left in it.
    """
    if lives(*leader):
        os.killpg(leader[0], number)


def end_strays(directory: Path, family: Mapping[int, int] | None = None) -> None:
    """SIGKILL to what a kernel has started and what has left its group, and to the kernels that it is the host of.

    `family` is what descended from it before it was killed; who its parents are is not known afterwards. Blocks until
    all have ended, for half a second at most.
    """
    found, bounded = dict(family or {}), list[Limiting]()
    ends = time.monotonic() + _END_S
    while True:
        _add(found, marked(str(directory)))
        for place, record in _kernels_in(directory, found):
            bounded.append(Limiting.found(record))
            _add(found, marked(str(place)))
        for pid in tuple(found):
            found |= descendants(pid)
        if os.getpid() in found:  # this host was started in the kernel that it has taken over
            for pid in (os.getpid(), *descendants(os.getpid())):
                found.pop(pid, None)
        if not signal_all(found, signal.SIGKILL) or time.monotonic() > ends:
            break
        time.sleep(_POLL_S)
    for limiting in bounded:
        limiting.end()


def _add(found: Children, pids: list[int]) -> None:
    for pid in pids:
        started = start_time(pid)
        if started is not None:
            found[pid] = started


def _kernels_in(directory: Path, family: Children) -> Iterator[tuple[Path, Mapping[str, object]]]:
    """Directory and record of kernels that are to end with the one of `directory`; they are added to its family."""
    outer, records = {str(directory)}, list(_records(directory.parent))
    more = True
    while more:
        more = False
        for one in tuple(records):
            place, record, host = one
            gone = not lives(*host) or is_ending(host[0])  # one that is ending does not show its mark any more
            if place != directory and (host in family.items() or (record.get("outer") in outer and gone)):
                records.remove(one)
                outer.add(str(place))
                more = True
                pid, started = record.get("pid"), record.get("started")
                if isinstance(pid, int) and isinstance(started, int) and pid > 1 and lives(pid, started):
                    family[pid] = started
                    family |= descendants(pid)
                    yield place, record


def _records(parent: Path) -> Iterator[tuple[Path, Mapping[str, object], Leader]]:
    """Directory, record and host of this user's kernels."""
    for root in {parent, _IN_MEMORY}:
        for place in root.glob(_DIRECTORIES):
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
                seen = place.lstat()  # another user could name anyone's processes
                if stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.getuid() and not seen.st_mode & 0o077:
                    record = json.loads((place / "kernel.json").read_text())
                    host = json.loads((place / "host.json").read_text())
                    yield place, dict(record), (int(host["pid"]), host["started"])
