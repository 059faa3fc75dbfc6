"""Ends the kernel, its children and its files when it has been without a host for too long. Runs in the kernel.

The host is the process that `host.json` names, known by its id and start; another one may take over at any time. A
cell that runs is left to end first. ipykernel's own poller, which ends the process alone and at once when its parent
is gone, is in force until this one is. Everything that the thread uses is bound before user code can change it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import threading
import time
from typing import Any

NAME = "lash_nb watchdog"
POLL_S = 0.25
ORPHAN_CELL_S = 12 * 3600.0
"""How long a cell may go on after its host's end."""
LOCK_WAIT_S = 10.0
"""Whoever takes the kernel over holds its lock and then says who it is, within milliseconds."""
LOG_MAX_BYTES = 1024 * 1024
LOG_TAIL_BYTES = 8 * 1024


class Files:
    """What of the system the watchdog needs."""

    def __init__(self, directory: str) -> None:
        import fcntl

        self.directory = directory
        self.proc = os.path.exists("/proc/self/stat")
        self.open, self.read, self.close, self.kill = os.open, os.read, os.close, os.kill
        self.fstat, self.ftruncate, self.pread, self.write = os.fstat, os.ftruncate, os.pread, os.write
        self.exists = os.path.exists
        self.loads, self.flock, self.exclusive = json.loads, fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB

    def content(self, path: str) -> bytes:
        fd = self.open(path, os.O_RDONLY)
        try:
            return self.read(fd, 65536)
        finally:
            self.close(fd)

    def host(self) -> tuple[int, int | None]:
        """The process that `host.json` names."""
        record = self.loads(self.content(self.directory + "/host.json"))
        return record["pid"], record["started"]

    def lives(self, pid: int, started: int | None) -> bool:
        """Whether the process of that id and start runs; a zombie does not."""
        if self.proc:
            try:
                fields = self.content(f"/proc/{pid}/stat").rpartition(b")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                return False
            return fields[0] not in (b"Z", b"X") and started in (None, int(fields[19]))
        try:
            self.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True

    def seize(self) -> bool:
        """Take the directory's lock until we end, so that nobody can take the kernel over; False: someone has it."""
        try:
            lock = self.open(self.directory + "/lock", os.O_RDWR)
        except FileNotFoundError:
            return True
        try:
            self.flock(lock, self.exclusive)
        except OSError:
            self.close(lock)
            return False
        return True

    def trim(self) -> None:
        """Cut a log that is too long down to its end."""
        log = self.open(self.directory + "/log", os.O_RDWR | os.O_APPEND)
        try:
            size = self.fstat(log).st_size
            if size > LOG_MAX_BYTES:
                tail = self.pread(log, LOG_TAIL_BYTES, size - LOG_TAIL_BYTES)
                self.ftruncate(log, 0)
                self.write(log, tail)
        finally:
            self.close(log)


class Watch:
    """Whether the kernel's time is over."""

    def __init__(self, files: Files, ledger: Any, ttl_s: float) -> None:
        self.files = files
        self.ledger = ledger
        self.ttl_s = ttl_s
        self.owner = files.host()
        self.gone_at: float | None = None

    def over(self, now: float) -> bool:
        """Whether it is to end; from then on nobody can take it over any more."""
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            self.owner = self.files.host()
        if self.files.lives(*self.owner):
            self.gone_at = None
            return False
        if self.gone_at is None:
            self.gone_at = now
        if not self.files.exists(self.files.directory + "/kernel.json"):  # nobody can take it over
            return now >= self.gone_at
        if self.ledger is not None and self.ledger.running is not None and self.ttl_s > 0:
            due = self.gone_at + ORPHAN_CELL_S
        else:
            idle_since = 0.0 if self.ledger is None else self.ledger.idle_since
            due = max(self.gone_at, idle_since) + self.ttl_s
        return now >= due and (self.files.seize() or now >= due + LOCK_WAIT_S)


class EveryParent(int):
    """A parent's process id that is never found to have changed."""

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = int.__hash__


def keep_to_ourselves(directory: str) -> None:
    """The lock that says that this kernel lives: what it starts or forks must not hold it on."""
    alive = os.stat(directory + "/alive")

    def is_alive(fd: int) -> bool:
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(fd), alive)
        return False

    def let_go(fd: int) -> None:
        if is_alive(fd):  # and not what user code opened after it had closed it
            os.close(fd)

    for fd in (int(name) for name in os.listdir("/dev/fd")):
        if is_alive(fd):
            os.set_inheritable(fd, False)
            os.register_at_fork(after_in_child=lambda fd=fd: let_go(fd))


def install(shell: Any, inside: Any) -> None:
    """Watch the host from a daemon thread.

    Options: `orphan_ttl_s`, how long without host or cell, in seconds (1800); 0 does not even wait for a cell.
    `guarded`: somebody else watches, because the host is not to be seen from here.
    """
    if inside.options.get("guarded"):
        return
    if any(thread.name == NAME for thread in threading.enumerate()):
        return
    directory = os.environ["LASH_NB_RUNTIME_DIR"]
    files = Files(directory)
    watch = Watch(files, inside.ledger, float(inside.options.get("orphan_ttl_s", 1800.0)))
    pid, getpid, getpgrp, killpg, leave = os.getpid(), os.getpid, os.getpgrp, os.killpg, os._exit
    rmtree, monotonic, sleep, finalizing = shutil.rmtree, time.monotonic, time.sleep, sys.is_finalizing
    killed = signal.SIGKILL
    spill_dir = inside.options.get("spill_dir")

    def end() -> None:
        try:
            rmtree(directory, ignore_errors=True)
            if spill_dir:
                rmtree(spill_dir, ignore_errors=True)
        finally:
            if getpgrp() == pid:
                killpg(pid, killed)
            leave(1)

    def step() -> None:
        sleep(POLL_S)
        if watch.over(monotonic()) and getpid() == pid:
            end()
        files.trim()

    def run() -> None:
        while getpid() == pid and not finalizing():
            try:
                step()
            except Exception:  # a file that cannot be read just now
                continue
            except BaseException:  # thrown into this thread by user code
                if finalizing():
                    raise

    poller = getattr(shell.kernel.parent, "poller", None)
    keep_to_ourselves(directory)
    inside.host_lives = lambda: watch.gone_at is None
    threading.Thread(target=run, name=NAME, daemon=True).start()
    if poller is not None:
        poller.parent_pid = EveryParent(pid)
