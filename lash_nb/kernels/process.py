"""One life of a kernel's process: its directory, its connection file, its exit.

Decided here: how a Python kernel is launched and how nothing of it is left. The process is started with `subprocess`
directly rather than through `jupyter_client.KernelManager`: that one picks relative socket paths that collide, polls
for death once a second, and hides the process group that an interrupt must reach.

- Sockets and the connection file (0600) live in a fresh 0700 directory with a path short enough for `sun_path`.
- The kernel leads its own session, so one signal reaches its children too, and so they die with it.
- A lock held on the directory says that its owner lives; directories of crashed hosts are removed at the next start.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import KernelStartError

if sys.platform != "win32":
    import fcntl

__all__ = ["Endpoints", "KernelProcess"]

_PREFIX = "lash-nb-kernel-"
_LONGEST_DIRECTORY = 80
"""Leaves room for `/k-5` and a margin under the 108 bytes of `sun_path` (104 on macOS)."""
_YOUNG_S = 60.0
_PORTS = {"shell": 1, "iopub": 2, "stdin": 3, "control": 4, "hb": 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoints:
    """Where a kernel listens, and the key that signs every message."""

    shell: str
    control: str
    stdin: str
    iopub: str
    key: bytes


def _roots() -> list[Path]:
    """Directories for sockets, best first; each short enough."""
    candidates = [os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp"]
    found = [Path(root) for root in candidates if root and len(os.fsencode(root)) + 30 <= _LONGEST_DIRECTORY]
    return [root for root in found if os.access(root, os.W_OK | os.X_OK)]


class RuntimeDirectory:
    """A private directory, locked for as long as its owner lives."""

    def __init__(self) -> None:
        roots = _roots()
        if not roots:
            raise KernelStartError("no directory for the kernel's sockets: set TMPDIR to a short writable path")
        self._lock: int | None = None
        try:
            self.path = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=roots[0]))
            self._lock = os.open(self.path / "lock", os.O_CREAT | os.O_RDWR, 0o600)
            if sys.platform != "win32":
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if hasattr(self, "path"):
                self.remove()
            raise KernelStartError(f"no directory for the kernel's sockets in {roots[0]}: {error.strerror}") from error

    def write(self, name: str, text: str) -> Path:
        path = self.path / name
        with os.fdopen(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        return path

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)

    @staticmethod
    def sweep() -> None:
        """Remove what hosts that crashed left behind: directories of ours that nobody has locked."""
        if sys.platform == "win32":
            return
        for root in _roots():
            for path in root.glob(_PREFIX + "*"):
                with contextlib.suppress(OSError):
                    _sweep_one(path)


def _sweep_one(path: Path) -> None:
    if path.stat().st_uid != os.getuid() or time.time() - path.stat().st_mtime < _YOUNG_S:
        return
    lock = os.open(path / "lock", os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(lock)


class KernelProcess:
    """A running kernel process. Its methods may be called from any thread."""

    def __init__(self, *, argv: Sequence[str], cwd: str | None, env: Mapping[str, str]) -> None:
        """Launch `argv`, with the connection file in the place of `{connection_file}`.

        Raises:
            KernelStartError: it could not be launched; nothing is left.
        """
        if sys.platform == "win32":
            raise KernelStartError("the managed kernel needs Linux or macOS (ipc sockets, process groups)")
        self.owner_pid = os.getpid()
        self._guard = threading.Lock()
        self._closed = False
        RuntimeDirectory.sweep()
        self._directory = RuntimeDirectory()
        address, key = str(self._directory.path / "k"), secrets.token_hex(32)
        info: dict[str, object] = {f"{channel}_port": port for channel, port in _PORTS.items()}
        info |= {"transport": "ipc", "ip": address, "key": key, "signature_scheme": "hmac-sha256"}
        info |= {"kernel_name": "python3"}
        urls = {channel: f"ipc://{address}-{port}" for channel, port in _PORTS.items()}
        self.endpoints = Endpoints(
            shell=urls["shell"],
            control=urls["control"],
            stdin=urls["stdin"],
            iopub=urls["iopub"],
            key=key.encode(),
        )
        pipe: tuple[int, ...] = ()
        try:
            connection_file = self._directory.write("connection.json", json.dumps(info))
            pipe = os.pipe()
            os.set_blocking(pipe[0], False)
            self._popen = subprocess.Popen(
                [part.replace("{connection_file}", str(connection_file)) for part in argv],
                cwd=cwd,
                env={**env, "LASH_NB_RUNTIME_DIR": str(self._directory.path)},
                stdin=subprocess.DEVNULL,
                stdout=pipe[1],
                stderr=pipe[1],
                start_new_session=True,
            )
        except OSError as error:
            for end in pipe:
                os.close(end)
            self._directory.remove()
            raise KernelStartError(f"the kernel could not be launched ({argv[0]}): {error.strerror}") from error
        self.log_fd, write_end = pipe
        os.close(write_end)
        self.pid = self._popen.pid
        self.pidfd: int | None = None
        with contextlib.suppress(OSError, AttributeError):  # no pidfd on macOS and old kernels: polled instead
            self.pidfd = os.pidfd_open(self.pid)

    @property
    def directory(self) -> Path:
        return self._directory.path

    def exited(self) -> bool:
        """Whether the process ended, without reaping it: its id stays ours until `close`."""
        with self._guard:
            return self._exited()

    def _exited(self) -> bool:
        if self._closed or self._popen.returncode is not None:
            return True
        if not hasattr(os, "waitid"):
            return self._popen.poll() is not None
        try:
            return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:  # someone else's SIGCHLD handler reaped it
            return True

    def interrupt(self) -> None:
        """SIGINT to the kernel and its children."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """SIGKILL to the kernel and its children."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # A process that is not reaped keeps its id and its group's, so this never hits a stranger.
        with self._guard, contextlib.suppress(ProcessLookupError, PermissionError):
            if not self._closed and self._popen.returncode is None and os.getpid() == self.owner_pid:
                os.killpg(self.pid, number)

    def ending(self) -> str:
        """How it ended, as the predicate of a sentence; reaps it. Call only once it has exited."""
        self.kill()
        with self._guard:
            code = self._popen.wait()
        if code >= 0:
            return f"ended with exit status {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        return f"was killed by signal {-code} ({name})"

    def close(self) -> None:
        """Kill what is left, reap it, remove its files. A second call does nothing; nor does one in a forked child."""
        if os.getpid() != self.owner_pid:
            return
        self.kill()
        with self._guard:
            if self._closed:
                return
            self._closed = True
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout=5.0)
            if self.pidfd is not None:
                os.close(self.pidfd)
            os.close(self.log_fd)
            self._directory.remove()
