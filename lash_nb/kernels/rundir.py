"""A kernel's runtime directory: its place, its locks, its records, its log, and the removal of what was left behind.

Decided here: where a kernel's files are and who may touch them. The directory is 0700 and fresh, its path short enough
for `sun_path`. Two locks say who lives: `lock` is the host's, `alive` the kernel's own (it inherits it). A crashed host
leaves a kernel with its directory; one that nobody holds is removed at the next start.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import KernelStartError
from .guardian import LOG_TAIL_BYTES, start_time, trim

if sys.platform != "win32":
    import fcntl

__all__ = [
    "PORTS",
    "Endpoints",
    "RuntimeDirectory",
    "claim",
    "disclaim",
    "find_kernel",
    "flocked",
    "own",
    "recorded_as_sandboxed",
    "write_record",
]

_PREFIX = "lash-nb-kernel-"
_LONGEST_DIRECTORY = 80
"""Leaves room for `/k-5` and a margin under the 108 bytes of `sun_path` (104 on macOS)."""
_YOUNG_S = 60.0
_IN_MEMORY = "/dev/shm"
_NOBODY = {"pid": 2**31 - 1, "started": None}
"""An id that no process can have."""

PORTS = {"shell": 1, "iopub": 2, "stdin": 3, "control": 4, "hb": 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where a kernel listens, and the key that signs every message."""

    shell: str
    control: str
    stdin: str
    iopub: str
    key: bytes


def _roots() -> list[Path]:
    """Directories for sockets, best first; each short enough. The last one is for kernels that share memory by name."""
    candidates = [os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp", _IN_MEMORY]
    found = [Path(root) for root in candidates if root and len(os.fsencode(root)) + 30 <= _LONGEST_DIRECTORY]
    return [root for root in found if os.access(root, os.W_OK | os.X_OK)]


def flocked(fd: int) -> bool:
    """Take a file's lock until `fd` and its copies are closed; False when another process has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def write_record(path: Path, values: Mapping[str, object]) -> None:
    """Write a JSON file (0600), or replace it as a whole."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_NOFOLLOW, 0o600), "w") as file:
        json.dump(values, file)
    os.replace(draft, path)


def claim(directory: Path) -> None:
    """Say that this process is the host of the kernel there; whoever calls it holds the lock."""
    write_record(directory / "host.json", {"pid": os.getpid(), "started": start_time(os.getpid())})


def disclaim(directory: Path) -> None:
    """Say that the kernel there has no host, though this process lives on; whoever calls it holds the lock."""
    write_record(directory / "host.json", _NOBODY)


def own(connection_file: Path | None, session: str) -> None:
    """Say which session's cells run in the kernel there: no other finds it by its id alone. None: it has no place."""
    if connection_file is not None:
        with contextlib.suppress(OSError):  # then it is found by its connection file, which the journal has
            write_record(connection_file.with_name("owner.json"), {"session": session})


def find_kernel(epoch: str, *, owner: str) -> Path | None:
    """The connection file of this user's kernel with that id, as long as its directory is there.

    The id is no secret: it stands in notebooks, which are passed on. So it must be a kernel of that session, too.
    """
    for root in _roots():
        for path in root.glob(_PREFIX + "*/kernel.json"):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                ours = path.stat().st_uid == os.getuid() and json.loads(path.read_text()).get("epoch") == epoch
                if ours and json.loads(path.with_name("owner.json").read_text()).get("session") == owner:
                    return path.with_name("connection.json")
    return None


def recorded_as_sandboxed(connection_file: Path) -> bool:
    """Whether the kernel there runs in a sandbox, as its record says."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return json.loads(connection_file.with_name("kernel.json").read_text()).get("sandboxed") is True
    return False


class RuntimeDirectory:
    """A private directory whose lock this process holds. Its methods may be called from any thread.

    `lock` and `log` are open descriptors and from now on its own; `log` (None where there is none to read) reads and
    appends.
    """

    def __init__(self, path: Path, *, lock: int, log: int | None) -> None:
        self.path = path
        self._guard = threading.Lock()
        self._lock: int | None = lock
        self._log = log
        self._last_words = ""
        _held.add(self)

    @classmethod
    def create(cls, *, in_memory: bool = False) -> RuntimeDirectory:
        """A fresh one, locked, with an empty log and a `spill` directory; `in_memory` if there is a place for that.

        Raises:
            KernelStartError: it cannot be made; nothing is left.
        """
        roots = _roots()
        if not roots:
            raise KernelStartError("no directory for the kernel's sockets: set TMPDIR to a short writable path")
        root = Path(_IN_MEMORY) if in_memory and Path(_IN_MEMORY) in roots else roots[0]
        made: Path | None = None
        opened: list[int] = []
        try:
            made = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=root))
            opened.append(os.open(made / "lock", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            fcntl.flock(opened[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
            opened.append(os.open(made / "log", os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o600))
            (made / "spill").mkdir(0o700)
        except OSError as error:
            for fd in opened:
                os.close(fd)
            if made is not None:
                shutil.rmtree(made, ignore_errors=True)
            raise KernelStartError(f"no directory for the kernel's sockets in {root}: {error.strerror}") from error
        return cls(made, lock=opened[0], log=opened[1])

    def alive_lock(self) -> int:
        """A descriptor that holds `alive`: whoever inherits it holds the lock on."""
        fd = os.open(self.path / "alive", os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return fd

    @property
    def log(self) -> int:
        """The descriptor that a kernel's stdout and stderr become."""
        assert self._log is not None
        return self._log

    def log_tail(self) -> str:
        """The last 8 KiB of what the process wrote outside of its channels; after `remove`, what there was then."""
        with self._guard:
            return self._read_tail()

    def _read_tail(self) -> str:
        if self._log is None:
            return self._last_words
        with contextlib.suppress(OSError):
            size = os.fstat(self._log).st_size
            data = os.pread(self._log, LOG_TAIL_BYTES, max(0, size - LOG_TAIL_BYTES))
            return data.decode("utf-8", "replace").strip()
        return ""

    def trim_log(self) -> None:
        """Cut the log down to its last 8 KiB when it is over 1 MiB; cheap when it is not."""
        with self._guard, contextlib.suppress(OSError):
            if self._log is not None:
                trim(self._log)

    def remove(self) -> None:
        """Remove the files, then let the lock go. A second call does nothing."""
        with self._guard:
            if self._lock is None:
                return
            self._last_words = self._read_tail()
            shutil.rmtree(self.path, ignore_errors=True)
            self._let_go()

    def leave(self) -> None:
        """Let the lock go and leave the files to the kernel."""
        with self._guard:
            self._let_go()

    def _let_go(self) -> None:
        for fd in (self._lock, self._log):
            if fd is not None:
                os.close(fd)
        self._lock = self._log = None

    @staticmethod
    def sweep() -> None:
        """Remove what neither a host nor a kernel holds: directories of ours that both have left."""
        for root in _roots():
            for path in root.glob(_PREFIX + "*"):
                with contextlib.suppress(OSError):
                    _sweep_one(path)


_held: weakref.WeakSet[RuntimeDirectory] = weakref.WeakSet()


def _let_go_in_child() -> None:
    """A forked child must not hold a lock on, or the kernel of a host that crashed could not be taken over."""
    for directory in list(_held):
        directory._guard = threading.Lock()  # a thread that is not here may have held the old one
        directory._let_go()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go_in_child)


def _sweep_one(path: Path) -> None:
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or time.time() - found.st_mtime < _YOUNG_S:
        return
    locks: list[int] = []
    try:
        for name in ("lock", "alive"):
            with contextlib.suppress(FileNotFoundError):
                locks.append(os.open(path / name, os.O_RDWR | os.O_NOFOLLOW))
        if all(flocked(fd) for fd in locks):
            shutil.rmtree(path, ignore_errors=True)
    finally:
        for fd in locks:
            os.close(fd)
