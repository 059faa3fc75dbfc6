"""One life of a kernel's process that another host started, taken over after that host crashed.

Decided here: how a process that is not our child is watched, signalled, bounded and ended. What is checked in its files
is `records`' matter.

- The lock is taken first and the process looked at under it: a kernel that ends its orphaned self takes it too.
- A process id is never trusted alone: its start time goes with it, and a pidfd holds on to it where there are pidfds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from ..errors import KernelAttachError
from .children import Children, descendants
from .groups import end_strays, signal_leader
from .guardian import lives, start_time
from .records import FRESH, Identity, open_private, read_endpoints, read_identity, read_private
from .resources import NO_LIMITS, ResourceLimits
from .rundir import Endpoints, RuntimeDirectory, claim, flocked, write_record

__all__ = ["AttachedProcess"]

_END_S = 5.0
_POLL_S = 0.02
_WHOLE_GROUP = 4
"""PIDFD_SIGNAL_PROCESS_GROUP (Linux 6.9): the group by its identity, not by a number that may be another's by now."""


class AttachedProcess:
    """A kernel process that was started by a host that is gone (see `process.RunningProcess`)."""

    def __init__(
        self,
        directory: RuntimeDirectory,
        identity: Identity,
        *,
        endpoints: Endpoints,
        pidfd: int | None,
        before: Mapping[str, object],
    ) -> None:
        self.owner_pid = os.getpid()
        self.endpoints = endpoints
        self.pid = identity.pid
        self.pidfd = pidfd
        self.epoch = identity.epoch
        self.language = identity.language
        self.display_name = identity.display_name
        self.has_inside = identity.managed
        self.sandboxed = identity.sandboxed
        self.directory = directory.path
        self.shared = self.directory / "shared" if self.sandboxed else self.directory
        self.connection_file = directory.path / "connection.json"
        self._group, self._limiting, self._record = identity.group, identity.limiting, identity.record
        self._started = identity.started
        self._directory = directory
        self._before = before
        self._guard = threading.Lock()
        self._closed = False
        self._family: Children = {}
        """What descended from it when it was killed."""

    @classmethod
    def take_over(cls, connection_file: Path, *, epoch: str | None) -> AttachedProcess:
        """Become the host of the running kernel that `connection_file` leads to; `epoch` None takes any life of it.

        Raises:
            KernelAttachError: it cannot be taken over, for the reason given; nothing was changed.
        """
        if sys.platform == "win32":
            raise KernelAttachError("the managed kernel needs Linux or macOS (ipc sockets, process groups)")
        path = Path(os.path.abspath(connection_file))
        with contextlib.ExitStack() as held:
            folder = open_private(path.parent, None, os.O_RDONLY | os.O_DIRECTORY)
            held.callback(os.close, folder)
            identity = read_identity(path.parent / "kernel.json", folder)
            endpoints = read_endpoints(path, read_private(path, folder), folder, identity)
            if epoch is not None and identity.epoch != epoch:
                raise KernelAttachError(
                    f"{path} belongs to another kernel (epoch {identity.epoch}, wanted {epoch}): "
                    f"the variables of the wanted one are gone; {FRESH}"
                )
            lock = _take_lock(path.parent, folder)
            held.callback(os.close, lock)
            before = read_private(path.parent / "host.json", folder)
            pidfd = _hold_process(path, identity, folder)
            if pidfd is not None:
                held.callback(os.close, pidfd)
            log: int | None = None
            with contextlib.suppress(KernelAttachError):  # one can do without
                log = open_private(path.parent / "log", folder, os.O_RDWR | os.O_APPEND)
                held.callback(os.close, log)
            try:
                claim(path.parent)
            except OSError as error:
                raise KernelAttachError(f"{path.parent} cannot be written: {error.strerror}") from error
            held.pop_all()
        os.close(folder)
        directory = RuntimeDirectory(path.parent, lock=lock, log=log)
        return cls(directory, identity, endpoints=endpoints, pidfd=pidfd, before=before)

    def record(self) -> None:
        """Nothing: it is recorded since it was started."""

    def settle(self, limits: ResourceLimits = NO_LIMITS) -> tuple[str, ...]:
        """Put in force what of `limits` is stricter than what is since it was started; what is not, in sentences.

        A cell may run meanwhile. What is already in use is not taken away.
        """
        with self._guard:
            if self._exited() or os.getpid() != self.owner_pid:
                return self._limiting.unmet
            family = [*([] if self.sandboxed else [self.pid]), *descendants(self.pid)]
            before, self._limiting = self._limiting, self._limiting.tightened(limits, family)
            if self._limiting is not before:
                with contextlib.suppress(OSError):  # then yet another host knows of the old ones alone
                    self._record = {**self._record, **self._limiting.record()}
                    write_record(self.directory / "kernel.json", self._record)
            return self._limiting.unmet

    def exited(self) -> bool:
        """Whether the process ended."""
        with self._guard:
            return self._exited()

    def _exited(self) -> bool:
        if self._closed:
            return True
        if self.pidfd is None:
            return not lives(self.pid, self._started)
        ended = select.poll()
        ended.register(self.pidfd, select.POLLIN)
        return bool(ended.poll(0))

    def interrupt(self) -> None:
        """SIGINT to the kernel and its children."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to the kernel and its children, also to children that it left behind."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        with self._guard, contextlib.suppress(ProcessLookupError, PermissionError):
            if self._closed or os.getpid() != self.owner_pid:
                return
            if number != signal.SIGKILL and self._exited():
                return
            if number == signal.SIGKILL and not self._exited():
                self._family |= descendants(self.pid)
            if number == signal.SIGINT and self._group is not None:
                signal_leader(self._group, number)
                return
            if self.pidfd is not None and _signal_group(self.pidfd, number):
                return
            if number == signal.SIGKILL and self.pidfd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self.pidfd, number)
            if self._group_is_ours():
                os.killpg(self.pid, number)

    def _group_is_ours(self) -> bool:
        """Whether the id is still the kernel's: no other process can have it while one of its group lives."""
        now = start_time(self.pid)
        if now is None:  # it was reaped; its group may live on, and keeps the id. Without /proc nobody knows.
            return not self._exited() or os.path.exists("/proc/self/stat")
        return self._started in (None, now)

    def ending(self) -> str:
        """How it ended, as the predicate of a sentence. Call only once it has exited."""
        self.kill()
        why = self._limiting.why_killed()
        if why:
            return f"ended, it seems{why} (this process did not start it)"
        return "ended (how is not known: this process did not start it)"

    def log_tail(self) -> str:
        """The last 8 KiB of what the process wrote outside of its channels."""
        return self._directory.log_tail()

    def trim_log(self) -> None:
        """Keep the log bounded; cheap, to be called now and then."""
        self._directory.trim_log()
        self.look()
        self._limiting.relieve(self.pid)

    def look(self) -> None:
        """Take what was killed up to now for want of memory as known: when the kernel ends later, that is not why."""
        if not self.exited():
            self._limiting.kills.look()

    def let_go(self) -> None:
        """Leave it running and give it back as it was: it could not be taken over after all."""
        with self._guard:
            if not self._closed and os.getpid() == self.owner_pid:
                self._closed = True
                with contextlib.suppress(OSError):  # else its watch would take us, who live on, for its host
                    write_record(self.directory / "host.json", self._before)
                if self.pidfd is not None:
                    os.close(self.pidfd)
                self._directory.leave()

    def close(self) -> None:
        """Kill what is left, wait for its end, remove its files. A second call does nothing; nor in a forked child."""
        if os.getpid() != self.owner_pid:
            return
        self.kill()
        with self._guard:
            if self._closed:
                return
            end = time.monotonic() + _END_S
            while not self._exited() and time.monotonic() < end:
                time.sleep(_POLL_S)
            self._closed = True
            self._limiting.end()
            end_strays(self.directory, self._family)
            if self.pidfd is not None:
                os.close(self.pidfd)
            self._directory.remove()


def _signal_group(pidfd: int, number: signal.Signals) -> bool:
    """Signal the whole group of a process by its pidfd; False where the system cannot."""
    try:
        signal.pidfd_send_signal(pidfd, number, None, _WHOLE_GROUP)
    except ProcessLookupError:  # nobody is left in it
        return True
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def _take_lock(place: Path, folder: int) -> int:
    lock = open_private(place / "lock", folder, os.O_RDWR)
    try:
        if not flocked(lock):
            raise KernelAttachError(_held_by(place, folder))
        if not os.path.samestat(os.fstat(lock), os.stat("lock", dir_fd=folder, follow_symlinks=False)):
            raise FileNotFoundError
    except BaseException as error:
        os.close(lock)
        if isinstance(error, FileNotFoundError):  # the kernel ended itself in this moment
            raise KernelAttachError(f"the kernel of {place} has just ended; {FRESH}") from None
        raise
    return lock


def _held_by(place: Path, folder: int) -> str:
    host: object = None
    with contextlib.suppress(KernelAttachError):
        host = read_private(place / "host.json", folder).get("pid")
    who = f"process {host}" if isinstance(host, int) else "another process"
    if host == os.getpid():
        who += " (this one)"
    return f"the kernel of {place} is in use by {who}: a kernel has one host; end that one, or {FRESH}"


def _hold_process(path: Path, identity: Identity, folder: int) -> int | None:
    """A pidfd of the kernel's process, or None where there is none; the process is the one that was started."""
    gone = KernelAttachError(
        f"the kernel of {path} (process {identity.pid}) has ended; its variables are gone: {FRESH}"
    )
    if not lives(identity.pid, identity.started):
        raise gone
    pidfd: int | None = None
    with contextlib.suppress(OSError, AttributeError):
        pidfd = os.pidfd_open(identity.pid)
    if lives(identity.pid, identity.started) and (identity.started is not None or _says_alive(path.parent, folder)):
        return pidfd
    if pidfd is not None:
        os.close(pidfd)
    raise gone


def _says_alive(place: Path, folder: int) -> bool:
    """Where start times are not known: whether the kernel's own lock is held."""
    alive = open_private(place / "alive", folder, os.O_RDWR)
    try:
        return not flocked(alive)
    finally:
        os.close(alive)
