"""Who gets a kernel's signals beside its process: its group in a sandbox, and what has left its group."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

from .children import descendants, marked
from .guardian import lives, start_time

__all__ = ["Leader", "end_strays", "leader_in", "signal_leader"]

Leader = tuple[int, int | None]
"""The id and the start of a process that leads a group."""


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


def end_strays(directory: Path) -> None:
    """SIGKILL to what a kernel has started and what has left its group."""
    for pid in marked(str(directory)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
