"""The one I/O thread of a process: it owns every kernel's sockets, reads all of them always, and notices every death.

Rules of this file:
- only the I/O thread touches a socket; everyone else posts a command and wakes it;
- every poll is bounded and every wake-up drains every socket until it would block: a zmq socket announces new messages
  by an edge, which a send on the same socket can use up;
- receive marks are 0 and subscriptions are made before connecting, so nothing is lost while someone else blocks;
- nothing here waits for an event loop: outputs are folded on arrival, and results are posted.

`jupyter_client.session.Session` signs and packs; its channels are not used.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Callable

import zmq

from ..errors import KernelDiedError
from . import OnInput
from .flags import Flag
from .process import RunningProcess
from .wires import Wire

__all__ = ["open_wire"]

_log = logging.getLogger(__name__)
_POLL_S = 0.5
_POLL_WITHOUT_PIDFD_S = 0.25


class _Hub:
    """The thread. It is made with the first kernel and ends with the last."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self._wires: list[Wire] = []
        self._commands: deque[Callable[[], None]] = deque()
        self._removed: list[Flag] = []
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        self._post_guard = threading.Lock()
        self._ended = False
        self._stopping = False
        self.count = 0
        self.thread = threading.Thread(target=self._main, name="lash_nb kernel I/O", daemon=True)
        self.thread.start()

    def post(self, command: Callable[[], None]) -> None:
        """Run `command` on the thread; here and now when the thread has ended, so that whoever waits is told."""
        with self._post_guard:
            if not self._ended:
                self._commands.append(command)
                with contextlib.suppress(BlockingIOError):  # full: it is awake already
                    self._wake_writer.send(b"\0")
                return
        command()

    def remove(self, wire: Wire, then: Callable[[], None] | None) -> Flag:
        removed = Flag()
        last = _forget(self)
        self.post(lambda: self._remove(wire, then, removed, last=last))
        return removed

    def add(self, wire: Wire) -> None:
        self.post(lambda: self._add(wire))

    # -- on the thread ---------------------------------------------------------------------------------------------

    def _add(self, wire: Wire) -> None:
        try:
            wire.open(self._context, self._poller)
        except Exception:  # no more file descriptors: the other kernels go on
            self._give_up(wire)
        else:
            self._wires.append(wire)

    def _give_up(self, wire: Wire) -> None:
        _log.exception("the channels of kernel %s failed; it is given up", wire.process.pid)
        wire.release(self._poller)
        wire.process.kill()

    def _remove(self, wire: Wire, then: Callable[[], None] | None, removed: Flag, *, last: bool) -> None:
        if wire in self._wires:
            self._wires.remove(wire)
            wire.release(self._poller)
        if then is not None:
            then()
        self._stopping = last
        if last:
            self._removed.append(removed)
        else:
            removed.set()

    def _main(self) -> None:
        self._context = zmq.Context[zmq.Socket[bytes]]()
        self._poller = zmq.Poller()
        self._poller.register(self._wake_reader, zmq.POLLIN)
        due: float | None = None
        while not self._stopping:
            self._poller.poll(self._timeout_ms(due))
            with contextlib.suppress(BlockingIOError):
                while self._wake_reader.recv(4096):
                    pass
            while self._commands:
                self._commands.popleft()()
            due = self._pump_all(time.monotonic())
        self._context.term()
        with self._post_guard:
            self._ended = True
            self._wake_reader.close()
            self._wake_writer.close()
        while self._commands:
            self._commands.popleft()()
        for removed in self._removed:
            removed.set()

    def _pump_all(self, now: float) -> float | None:
        """One round for every kernel; one that fails here is given up, the others are not touched."""
        dues = []
        for wire in list(self._wires):
            try:
                dues.append(wire.pump(now, self._poller))
            except Exception:
                self._give_up(wire)
                self._wires.remove(wire)
        return min((due for due in dues if due is not None), default=None)

    def _timeout_ms(self, due: float | None) -> int:
        longest = _POLL_S
        if any(wire.process.pidfd is None for wire in self._wires):
            longest = _POLL_WITHOUT_PIDFD_S
        if due is not None:
            longest = min(longest, max(0.0, due - time.monotonic()))
        return int(longest * 1000 + 0.999)


_guard = threading.Lock()
_hub: _Hub | None = None


def _forget(hub: _Hub) -> bool:
    """Count one kernel less; True when it was the hub's last, which then takes no more."""
    global _hub
    with _guard:
        hub.count -= 1
        if hub.count == 0 and _hub is hub:
            _hub = None
        return hub.count == 0


def open_wire(process: RunningProcess, *, on_input: OnInput | None = None) -> Wire:
    """Connect to a kernel; the thread is started when there is none (in this process: it does not survive a fork)."""
    global _hub
    if process.owner_pid != os.getpid():
        raise KernelDiedError("this kernel belongs to the process that was forked")
    with _guard:
        if _hub is None or _hub.pid != os.getpid() or not _hub.thread.is_alive():
            _hub = _Hub()
        hub = _hub
        hub.count += 1
        wire = Wire(process, hub, on_input=on_input)
    hub.add(wire)
    return wire
