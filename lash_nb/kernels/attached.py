"""One life of a kernel's process that another host started, taken over after that host crashed.

Decided here: what is checked before anything of a running kernel is used, and how a process that is not our child is
watched, signalled and ended.

- Its files hold the key to run code as this user: they must be this user's, private, and of our form.
- The lock is taken first and the process looked at under it: a kernel that ends its orphaned self takes it too.
- A process id is never trusted alone: its start time goes with it, and a pidfd holds on to it where there are pidfds.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import select
import signal
import stat
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import KernelAttachError
from .cgroups import removed
from .groups import Leader, end_strays, signal_leader
from .guardian import lives, start_time
from .rundir import PORTS, Endpoints, RuntimeDirectory, claim, flocked, write_record

__all__ = ["AttachedProcess"]

_KEY = re.compile(r"[0-9a-f]{64}")
_MAX_RECORD_BYTES = 64 * 1024
_END_S = 5.0
_POLL_S = 0.02
_WHOLE_GROUP = 4
"""PIDFD_SIGNAL_PROCESS_GROUP (Linux 6.9): the group by its identity, not by a number that may be another's by now."""
_FRESH = "start a new kernel"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Identity:
    """What `kernel.json` says."""

    epoch: str
    pid: int
    started: int | None
    language: str
    display_name: str
    managed: bool
    sandboxed: bool
    group: Leader | None
    """The leader of the group that SIGINT goes to, where that is not the process itself."""
    limits: tuple[str, ...]


class AttachedProcess:
    """A kernel process that was started by a host that is gone (see `process.RunningProcess`)."""

    def __init__(
        self,
        directory: RuntimeDirectory,
        identity: _Identity,
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
        self._group, self._limits = identity.group, identity.limits
        self._started = identity.started
        self._directory = directory
        self._before = before
        self._guard = threading.Lock()
        self._closed = False

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
            folder = _open_private(path.parent, None, os.O_RDONLY | os.O_DIRECTORY)
            held.callback(os.close, folder)
            identity = _identity(path.parent / "kernel.json", folder)
            endpoints = _endpoints(path, _read(path, folder), folder, identity)
            if epoch is not None and identity.epoch != epoch:
                raise KernelAttachError(
                    f"{path} belongs to another kernel (epoch {identity.epoch}, wanted {epoch}): "
                    f"the variables of the wanted one are gone; {_FRESH}"
                )
            lock = _take_lock(path.parent, folder)
            held.callback(os.close, lock)
            before = _read(path.parent / "host.json", folder)
            pidfd = _hold_process(path, identity, folder)
            if pidfd is not None:
                held.callback(os.close, pidfd)
            log: int | None = None
            with contextlib.suppress(KernelAttachError):  # one can do without
                log = _open_private(path.parent / "log", folder, os.O_RDWR | os.O_APPEND)
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

    def settle(self) -> tuple[str, ...]:
        """Nothing: its limits are in force since it was started."""
        return ()

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
        return "ended (how is not known: this process did not start it)"

    def log_tail(self) -> str:
        """The last 8 KiB of what the process wrote outside of its channels."""
        return self._directory.log_tail()

    def trim_log(self) -> None:
        """Keep the log bounded; cheap, to be called now and then."""
        self._directory.trim_log()

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
            removed(self._limits)
            end_strays(self.directory)
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


# -- what is checked before anything is used ---------------------------------------------------------------------------


def _open_private(path: Path, folder: int | None, flags: int) -> int:
    """Open what must be this user's alone: no link, no one else's, closed to others. `folder` is where `path` is."""
    name = path if folder is None else path.name
    try:
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        raise KernelAttachError(f"there is no {path}: the kernel has ended; {_FRESH}") from None
    except OSError as error:
        kind = "is a symbolic link or no directory" if error.errno in (errno.ELOOP, errno.ENOTDIR) else "is not usable"
        raise KernelAttachError(f"{path} {kind} ({error.strerror}); {_FRESH}") from error
    found, problem = os.fstat(fd), ""
    if not (stat.S_ISDIR(found.st_mode) if flags & os.O_DIRECTORY else stat.S_ISREG(found.st_mode)):
        problem = f"is no regular file; {_FRESH}"
    elif found.st_uid != os.getuid():
        problem = f"belongs to another user (uid {found.st_uid}), who could have made the kernel up; {_FRESH}"
    elif found.st_mode & 0o077:
        problem = (
            f"is open to other users (mode {stat.S_IMODE(found.st_mode):04o}): who reads the kernel's key can run code "
            f"as you; {_FRESH}, or run chmod go= on it if you know that nobody did"
        )
    if problem:
        os.close(fd)
        raise KernelAttachError(f"{path} {problem}")
    return fd


def _read(path: Path, folder: int) -> Mapping[str, object]:
    """A private JSON record."""
    fd = _open_private(path, folder, os.O_RDONLY)
    with os.fdopen(fd, "rb") as file:
        data = file.read(_MAX_RECORD_BYTES + 1)
    try:
        record = json.loads(data) if len(data) <= _MAX_RECORD_BYTES else None
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise _not_ours(path)
    return record


def _not_ours(path: Path) -> KernelAttachError:
    return KernelAttachError(f"{path} is not of the form that lash_nb writes; give one of its own, or {_FRESH}")


def _endpoints(path: Path, info: Mapping[str, object], folder: int, identity: _Identity) -> Endpoints:
    """The channels, if they are sockets in the kernel's own directory."""
    address, key = info.get("ip"), info.get("key")
    if info.get("transport") != "ipc":
        raise KernelAttachError(f"{path} is of a kernel that is not on ipc, so not one of lash_nb; {_FRESH}")
    if path.name != "connection.json" or info.get("signature_scheme") != "hmac-sha256":
        raise _not_ours(path)
    if not (isinstance(address, str) and isinstance(key, str) and _KEY.fullmatch(key)):
        raise _not_ours(path)
    ports = {channel: info.get(f"{channel}_port") for channel in PORTS}
    if not all(type(port) is int and port > 0 for port in ports.values()) or os.path.basename(address) in ("", ".."):
        raise _not_ours(path)
    try:
        home, below = os.path.dirname(address), os.path.basename(os.path.dirname(address))
        if identity.sandboxed and below == "shared" and not os.path.islink(home):
            home = os.path.dirname(home)
        inside = os.path.isabs(address) and os.path.samestat(os.lstat(home), os.fstat(folder))
    except (OSError, ValueError):
        inside = False
    if not inside:
        raise KernelAttachError(f"{path} points to sockets outside of its directory ({address}); {_FRESH}")
    urls = {channel: f"ipc://{address}-{ports[channel]}" for channel in ("shell", "control", "stdin", "iopub")}
    return Endpoints(**urls, key=key.encode())


def _identity(path: Path, folder: int) -> _Identity:
    record = _read(path, folder)
    match record:
        case {
            "epoch": str(epoch),
            "pid": int(pid),
            "started": int() | None as started,
            "language": str(language),
            "display_name": str(display_name),
            "managed": bool(managed),
        } if pid > 1:
            return _Identity(
                epoch=epoch,
                pid=pid,
                started=started,
                language=language,
                display_name=display_name,
                managed=managed,
                sandboxed=record.get("sandboxed") is True,
                group=_group(record.get("group")),
                limits=_texts(record.get("limits")),
            )
        case _:
            raise _not_ours(path)


def _group(found: object) -> Leader | None:
    match found:
        case [int(pid), int() | None as started] if pid > 1:
            return pid, started
        case _:
            return None


def _texts(found: object) -> tuple[str, ...]:
    return tuple(str(one) for one in found) if isinstance(found, list) else ()


def _take_lock(place: Path, folder: int) -> int:
    lock = _open_private(place / "lock", folder, os.O_RDWR)
    try:
        if not flocked(lock):
            raise KernelAttachError(_held_by(place, folder))
        if not os.path.samestat(os.fstat(lock), os.stat("lock", dir_fd=folder, follow_symlinks=False)):
            raise FileNotFoundError
    except BaseException as error:
        os.close(lock)
        if isinstance(error, FileNotFoundError):  # the kernel ended itself in this moment
            raise KernelAttachError(f"the kernel of {place} has just ended; {_FRESH}") from None
        raise
    return lock


def _held_by(place: Path, folder: int) -> str:
    host: object = None
    with contextlib.suppress(KernelAttachError):
        host = _read(place / "host.json", folder).get("pid")
    who = f"process {host}" if isinstance(host, int) else "another process"
    if host == os.getpid():
        who += " (this one)"
    return f"the kernel of {place} is in use by {who}: a kernel has one host; end that one, or {_FRESH}"


def _hold_process(path: Path, identity: _Identity, folder: int) -> int | None:
    """A pidfd of the kernel's process, or None where there is none; the process is the one that was started."""
    gone = KernelAttachError(
        f"the kernel of {path} (process {identity.pid}) has ended; its variables are gone: {_FRESH}"
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
    alive = _open_private(place / "alive", folder, os.O_RDWR)
    try:
        return not flocked(alive)
    finally:
        os.close(alive)
