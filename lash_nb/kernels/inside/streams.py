"""Streams: in the order they were written, no round trip for an empty flush, no late output of child processes.

Runs in the kernel. ipykernel buffers stdout and stderr apart, so that what was written in turns arrives sorted by
stream: here the one is flushed when the other is written to. It flushes both twice a cell, each time waiting for
another thread even when nothing was written. And what child processes write to the real file descriptors comes
through a pipe that another thread reads: at a cell's end it is waited for briefly, so that it is that cell's
output. IPython keeps every character printed for its history, which is off here: that copy is not made.
"""

from __future__ import annotations

import array
import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

DRAIN_S = 0.05


def unread(fd: int) -> int:
    """How many bytes wait in a pipe."""
    import fcntl
    import termios

    count = array.array("i", [0])
    try:
        fcntl.ioctl(fd, termios.FIONREAD, count)
    except OSError:
        return 0
    return count[0]


def await_children(fd: int) -> None:
    """Let the thread that reads the pipe catch up, within bounds."""
    end = time.monotonic() + DRAIN_S
    while unread(fd) and time.monotonic() < end:
        time.sleep(0.0005)
    time.sleep(0.0005)  # taken from the pipe, on its way into the buffer


def install(shell: Any) -> None:
    """Wrap two methods of `OutStream`; the feature test is its private parts."""
    import sys

    from ipykernel.iostream import OutStream

    streams: Any = (sys.stdout, sys.stderr)
    parts = ("_buffers", "_fid", "_is_master_process", "_schedule_flush")
    for stream in streams:
        if not isinstance(stream, OutStream) or not all(hasattr(stream, part) for part in parts):
            raise RuntimeError("this ipykernel has other streams")
    others = {id(streams[0]): streams[1], id(streams[1]): streams[0]}
    original_flush: Any = OutStream.flush
    original_schedule: Any = OutStream._schedule_flush

    def flush(self: Any) -> None:
        fd = self._fid
        if fd is not None and threading.current_thread() is threading.main_thread() and unread(fd):
            await_children(fd)
        if self._buffers:
            original_flush(self)

    def schedule_flush(self: Any) -> None:  # after each write
        other = others.get(id(self))
        if other is not None and other._buffers and self._is_master_process():
            original_flush(other)  # waits: unthrottled, the publishing thread's queue to itself fills up, and it stops
        original_schedule(self)

    @contextlib.contextmanager
    def no_copy(channel: str) -> Iterator[None]:
        yield

    OutStream.flush = flush  # type: ignore[method-assign]
    OutStream._schedule_flush = schedule_flush  # type: ignore[method-assign]
    if callable(getattr(shell, "_tee", None)):
        shell._tee = no_copy
