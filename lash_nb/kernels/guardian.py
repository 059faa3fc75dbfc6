"""The guardian: the parent of a kernel that has nothing of ours inside, and what it and a host do alike.

Decided here: how long a kernel of another language outlives its host, and when a process counts as living. Run as a
script (`python -I -S guardian.py DIRECTORY ORPHAN_TTL_S ALIVE_FD ARGV…`), so it imports the standard library alone.
A Python kernel needs none: its watchdog runs inside it.

- It leads the kernel's process group, ignores SIGINT (the kernel gets it with the group) and ends as the kernel does.
- It is the only user of its threadless process, so it may fork; where there is `prctl`, the kernel dies with it.
- Before it ends a kernel it takes the directory's lock: from then on nobody can take that kernel over.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import select
import shutil
import signal
import sys
import time

if sys.platform != "win32":
    import fcntl

__all__ = ["LOG_MAX_BYTES", "LOG_TAIL_BYTES", "is_ending", "lives", "main", "start_time", "trim"]

LOG_MAX_BYTES = 1024 * 1024
LOG_TAIL_BYTES = 8 * 1024
_POLL_S = 0.25
_LOCK_WAIT_S = 10.0
"""Whoever takes a kernel over holds its lock and then says who it is, within milliseconds."""
_PR_SET_PDEATHSIG = 1
_PF_EXITING = 4


def _stat(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat from the third on; None: no such process, or no /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return None


def start_time(pid: int) -> int | None:
    """When a process started (in ticks since boot), which tells it from a later one of the same id; None if unknown."""
    fields = _stat(pid)
    return int(fields[19]) if fields else None


def lives(pid: int, started: int | None) -> bool:
    """Whether the process of that id and start runs; a zombie does not."""
    fields = _stat(pid)
    if fields:
        return fields[0] not in (b"Z", b"X") and started in (None, int(fields[19]))
    if os.path.exists("/proc/self/stat"):
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # someone else's
        return True
    return True


def is_ending(pid: int) -> bool:
    """Whether a process that still lives runs no code any more (PF_EXITING, proc(5)); its environment is then gone."""
    fields = _stat(pid)
    return fields is not None and bool(int(fields[6]) & _PF_EXITING)


def trim(log: int) -> None:
    """Cut a log that is too long down to its end; the descriptor must read, and append."""
    size = os.fstat(log).st_size
    if size > LOG_MAX_BYTES:
        tail = os.pread(log, LOG_TAIL_BYTES, size - LOG_TAIL_BYTES)
        os.ftruncate(log, 0)
        os.write(log, tail)


def _owner(directory: str) -> tuple[int, int | None] | None:
    """The process that `host.json` names; None when it cannot be read."""
    try:
        with open(os.path.join(directory, "host.json"), encoding="utf-8") as file:
            record = json.load(file)
        return int(record["pid"]), record["started"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _seize(directory: str) -> bool:
    """Take the directory's lock until we end; False when someone has it."""
    try:
        lock = os.open(os.path.join(directory, "lock"), os.O_RDWR)
    except OSError:  # the directory is gone: there is nothing to take over
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        return False
    return True


class _Watch:
    """What is known of the host."""

    def __init__(self, directory: str, ttl_s: float) -> None:
        self._directory = directory
        self._ttl_s = ttl_s
        self._owner: tuple[int, int | None] | None = None
        self._gone_at: float | None = None

    def hosted(self) -> bool:
        """Whether there is a host: the first, or one that took over."""
        self._owner = _owner(self._directory) or self._owner
        return self._owner is not None and lives(*self._owner)

    def over(self, now: float) -> bool:
        """Whether the kernel has been without a host for too long, and now nobody can take it over any more."""
        if self.hosted():
            self._gone_at = None
            return False
        if self._gone_at is None:
            self._gone_at = now
        # A host that went before it had recorded the kernel leaves nothing to take over.
        ttl_s = self._ttl_s if os.path.exists(os.path.join(self._directory, "kernel.json")) else 0.0
        waited_s = now - self._gone_at - ttl_s
        return waited_s >= 0 and (_seize(self._directory) or waited_s > _LOCK_WAIT_S)


def _die_with_parent() -> None:
    """SIGKILL for this process when the guardian is gone; nothing where the system has no such thing."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _become(argv: list[str], guardian: int) -> None:
    """In the child: turn into the kernel, with the signals as a new process has them."""
    code = 126
    try:
        _die_with_parent()
        if os.getppid() != guardian:  # it went before we could ask
            os._exit(code)
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        if "JPY_PARENT_PID" in os.environ:  # kernels that watch their parent watch us
            os.environ["JPY_PARENT_PID"] = str(guardian)
        os.execvp(argv[0], argv)
    except OSError as error:
        code = 127 if error.errno == errno.ENOENT else 126
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(code)


def _end_all(directory: str) -> None:
    """Remove the directory and kill the group, which is ours: this does not return."""
    shutil.rmtree(directory, ignore_errors=True)
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


def _end_like(status: int) -> None:
    """End as the kernel did."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with contextlib.suppress(ImportError, OSError, ValueError):  # its core is not ours to dump again
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(OSError, ValueError):
            signal.signal(-code, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.kill(os.getpid(), -code)
        code = 128 - code
    os._exit(code)


def main(arguments: list[str]) -> None:
    """Start the kernel and watch over it; ends this process."""
    directory, ttl_s, alive, *argv = arguments
    os.set_inheritable(int(alive), False)  # the lock says that we live; what the kernel starts must not keep it
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)  # wakes the select below
    guardian = os.getpid()
    kernel = os.fork()
    if kernel == 0:
        _become(argv, guardian)
    watch = _Watch(directory, float(ttl_s))
    while True:
        select.select([reader], [], [], _POLL_S)
        with contextlib.suppress(BlockingIOError):
            os.read(reader, 4096)
        ended, status = os.waitpid(kernel, os.WNOHANG)
        if ended:
            if not watch.hosted() and _seize(directory):
                _end_all(directory)
            _end_like(status)
        if watch.over(time.monotonic()):
            _end_all(directory)
        with contextlib.suppress(OSError):
            trim(1)


if __name__ == "__main__":
    main(sys.argv[1:])
