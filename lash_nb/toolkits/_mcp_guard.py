"""The guard of a server: its parent, so that it does not outlive the process that uses it, however that ends.

Run as a script (`python -I -S _mcp_guard.py LIFE_FD COMMAND ARG…`), so it imports the standard library alone. LIFE_FD
is one end of a socket whose other end that process alone has. When that is closed, the server has a while to end by
itself (its standard input is closed, too), then its process group is killed, which the guard leads. When the server
ends first, the guard says how over the socket and kills what is left of the group.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys

__all__ = ["main"]

_GRACE_S = 2.0
_PR_SET_PDEATHSIG = 1


def _die_with_parent() -> None:
    """SIGKILL for this process when the guard is gone; nothing where the system has no such thing."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _become(argv: list[str], guard: int) -> None:
    """In the child: turn into the server, with the signals as a new process has them."""
    try:
        _die_with_parent()
        if os.getppid() != guard:  # it went before we could ask
            os._exit(126)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execvp(argv[0], argv)
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(127)


def _end_all() -> None:
    """Kill the group, which is ours: this does not return."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def main(arguments: list[str]) -> None:
    """Start the server and watch over it; ends this process."""
    life = socket.socket(fileno=int(arguments[0]))
    life.set_inheritable(False)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # wakes the select below
    guard = os.getpid()
    server = os.fork()
    if server == 0:
        _become(arguments[1:], guard)
    for pipe in (0, 1):  # the server's alone: it is to see their end, and so are we
        os.close(pipe)
    watched = [life.fileno(), reader]
    patience: float | None = None
    while True:
        ready, _, _ = select.select(watched, [], [], patience)
        ended, status = os.waitpid(server, os.WNOHANG)
        if ended:
            with contextlib.suppress(OSError):
                life.send(b"%d" % os.waitstatus_to_exitcode(status))
            _end_all()
        if patience is not None and not ready:
            _end_all()
        if reader in ready:
            os.read(reader, 4096)
        if life.fileno() in ready:  # nobody writes there: it is closed
            watched, patience = [reader], _GRACE_S


if __name__ == "__main__":
    main(sys.argv[1:])
