"""Two ways in which outputs get lost on their way out of the kernel, closed. Runs in the kernel.

The mark at which the kernel drops outputs for a subscriber that is behind is raised.

The default is 1000 messages, and a loop of flushed prints outruns a busy machine by more than that. libzmq applies a
new mark to the connections there are. It stays finite, so that a stopped host cannot fill the kernel's memory.

A message with half of a surrogate pair in it (a file name that is not UTF-8) cannot be packed, and takes whatever was
printed around it along: the half is written as its escape instead.
"""

from __future__ import annotations

from typing import Any

MESSAGES = 1_000_000


def whole(value: Any) -> Any:
    """JSON's kinds of value with `\\udc80` spelled out for each half of a surrogate pair."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {whole(key): whole(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [whole(item) for item in value]
    return value


def install(shell: Any) -> None:
    """Set the mark on the thread that owns the socket; the feature test is that there is one."""
    import zmq

    session = shell.kernel.session
    original = session.pack

    def pack(message: Any) -> bytes:
        try:
            return bytes(original(message))
        except UnicodeEncodeError:
            return bytes(original(whole(message)))

    session.pack = pack

    thread = shell.kernel.iopub_thread
    thread.socket.getsockopt(zmq.SNDHWM)
    thread.schedule(lambda: thread.socket.setsockopt(zmq.SNDHWM, MESSAGES))
