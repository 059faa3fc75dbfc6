"""Raises the mark at which the kernel drops outputs for a subscriber that is behind. Runs in the kernel.

The default is 1000 messages, and a loop of flushed prints outruns a busy machine by more than that. libzmq applies a
new mark to the connections there are. It stays finite, so that a stopped host cannot fill the kernel's memory.
"""

from __future__ import annotations

from typing import Any

MESSAGES = 1_000_000


def install(shell: Any) -> None:
    """Set the mark on the thread that owns the socket; the feature test is that there is one."""
    import zmq

    thread = shell.kernel.iopub_thread
    thread.socket.getsockopt(zmq.SNDHWM)
    thread.schedule(lambda: thread.socket.setsockopt(zmq.SNDHWM, MESSAGES))
