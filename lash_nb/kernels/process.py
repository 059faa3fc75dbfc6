"""One life of a kernel's process that this one started: its launch, its signals, its exit.

Decided here: how a kernel is launched and how nothing of it is left. The process is started with `subprocess` directly
rather than through `jupyter_client.KernelManager`: that one picks relative socket paths that collide, polls for death
once a second, and hides the process group that an interrupt must reach.

- Sockets and records live in a fresh private directory (`rundir`).
- The kernel leads its own session, so one signal reaches its children too, and so they die with it.
- It outlives a crash of its host for a while: a Python kernel has a watchdog inside, another one, and one in a sandbox,
  a `guardian`. One that is left is as after a crash, and is reaped here when it ends before this process does.
- A sandboxed one sees of the runtime directory what it needs, and a part that it shares with its host. SIGINT goes to
  its own process group: bubblewrap, which runs it, would end by it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from ..errors import InputError, KernelStartError
from . import guardian
from .children import Children, descendants
from .groups import Leader, end_strays, leader_in, signal_leader
from .guardian import start_time
from .limiting import Limiting, spare_the_host
from .resources import NO_LIMITS, ResourceLimits
from .rundir import PORTS, Endpoints, RuntimeDirectory, claim, disclaim, write_record
from .sandbox import Confinement, filter_file, sandboxed_environment

__all__ = ["COMPILED", "KernelProcess", "RunningProcess", "spill_place"]

COMPILED = "inside.code"
"""The file of the runtime directory in which a Python kernel finds our code."""

_REAP_S = 5.0


class RunningProcess(Protocol):
    """A kernel's process as those see it who talk to it, whoever started it. Any thread may call its methods."""

    owner_pid: int
    """The process that may use it: this one, but not what is forked off it."""
    endpoints: Endpoints
    pid: int
    pidfd: int | None
    """Readable when the process has ended; None where there is no such thing: ask `exited` then."""
    epoch: str
    language: str
    display_name: str
    has_inside: bool
    """Whether it takes our own code inside (a Python kernel)."""
    directory: Path
    shared: Path
    """The part of it in which host and kernel may both write."""
    sandboxed: bool
    connection_file: Path

    def record(self) -> None:
        """Let it live on when this process crashes, for who takes it over."""
        ...

    def settle(self) -> tuple[str, ...]:
        """Put its limits in force, now that it is up and no cell has run; what could not be, in sentences."""
        ...

    def exited(self) -> bool:
        """Whether the process ended."""
        ...

    def interrupt(self) -> None:
        """SIGINT to the kernel and its children."""
        ...

    def kill(self) -> None:
        """SIGKILL to the kernel and its children."""
        ...

    def ending(self) -> str:
        """How it ended, as the predicate of a sentence; its children are killed. Call only once it has exited."""
        ...

    def log_tail(self) -> str:
        """The last 8 KiB of what the process wrote outside of its channels."""
        ...

    def trim_log(self) -> None:
        """Keep the log bounded; cheap, to be called now and then."""
        ...

    def look(self) -> None:
        """Take what was killed up to now for want of memory as known; cheap, to be called before each cell."""
        ...

    def let_go(self) -> None:
        """Leave it running, with its files, to whoever takes it over. A second call does nothing."""
        ...

    def close(self) -> None:
        """Kill what is left, reap it, remove its files. A second call does nothing; nor does one in a forked child."""
        ...


def spill_place(staging: str | None, epoch: str, shared: Path) -> Path:
    """Where a kernel writes what it does not keep inline: beside the store that takes it, if that has a place."""
    return Path(staging).absolute() / f"spill-{epoch}" if staging else shared / "spill"


def _connection(directory: Path, key: str) -> tuple[dict[str, object], Endpoints]:
    """What the kernel is told of its channels, and what we make of it."""
    address = str(directory / "k")
    info: dict[str, object] = {f"{channel}_port": port for channel, port in PORTS.items()}
    info |= {"transport": "ipc", "ip": address, "key": key, "signature_scheme": "hmac-sha256", "kernel_name": ""}
    urls = {channel: f"ipc://{address}-{PORTS[channel]}" for channel in ("shell", "control", "stdin", "iopub")}
    return info, Endpoints(**urls, key=key.encode())


class KernelProcess:
    """A kernel process of our own (see `RunningProcess`)."""

    _bounded: tuple[int, ...] = ()
    """Whose memory is bounded."""

    def __init__(
        self,
        *,
        argv: Sequence[str],
        cwd: str | None,
        env: Mapping[str, str],
        language: str = "python",
        display_name: str = "",
        has_inside: bool = True,
        orphan_ttl_s: float = 1800.0,
        limits: ResourceLimits = NO_LIMITS,
        confinement: Confinement | None = None,
        recorded: bool = True,
    ) -> None:
        """Launch `argv`, with the connection file in the place of `{connection_file}`.

        `orphan_ttl_s` is how long a kernel with a guardian waits for another host when this one crashes; one with our
        inside is told by its bootstrap. One that is not `recorded` ends with its host until it is.

        Raises:
            KernelStartError: it could not be launched; nothing is left. InputError: not in this directory.
        """
        if sys.platform == "win32":
            raise KernelStartError("the managed kernel needs Linux or macOS (ipc sockets, process groups)")
        self.owner_pid = os.getpid()
        self.epoch = uuid.uuid4().hex
        self.language, self.display_name, self.has_inside = language, display_name, has_inside
        self._guard, self._closed = threading.Lock(), False
        RuntimeDirectory.sweep()
        self.sandboxed = confinement is not None
        self._limits, self._limiting, self._recorded = limits, Limiting(), recorded
        self._family: Children = {}  # what descended from it when it was killed
        self._inner: Leader | None = None
        """The leader of the group that SIGINT goes to, with its start, where that is not the process itself."""
        self._directory = RuntimeDirectory.create(in_memory=self.sandboxed)
        self.directory = self._directory.path
        self.shared = self.directory / "shared" if self.sandboxed else self.directory
        self.connection_file = self.directory / "connection.json"
        info, self.endpoints = _connection(self.shared, secrets.token_hex(32))
        self._popen = self._launch(argv, info, cwd, env, orphan_ttl_s, confinement)
        self.pid = self._popen.pid
        spare_the_host(self.pid)
        self.pidfd: int | None = None
        with contextlib.suppress(OSError, AttributeError):  # no pidfd on macOS and old kernels: polled instead
            self.pidfd = os.pidfd_open(self.pid)
        try:
            self._write_record()
        except OSError as error:
            self.close()
            raise KernelStartError(f"the kernel's record could not be written: {_reason(error)}") from error

    def _launch(
        self,
        argv: Sequence[str],
        info: Mapping[str, object],
        cwd: str | None,
        env: Mapping[str, str],
        orphan_ttl_s: float,
        confinement: Confinement | None,
    ) -> subprocess.Popen[bytes]:
        try:
            self.shared.mkdir(0o700, exist_ok=True)
            write_record(self.connection_file, info)
            claim(self.directory)
            command = [part.replace("{connection_file}", str(self.connection_file)) for part in argv]
            return self._spawn(command, cwd, env, orphan_ttl_s, confinement)
        except (OSError, ValueError) as error:  # ValueError: a NUL in an argument or a variable
            self._directory.remove()
            raise KernelStartError(f"the kernel could not be launched ({argv[0]}): {_reason(error)}") from error
        except (KernelStartError, InputError):
            self._directory.remove()
            raise

    def record(self) -> None:
        """Let it live on when this process crashes, for who takes it over."""
        self._recorded = True
        with contextlib.suppress(OSError):  # then it ends with this process
            self._write_record()

    def _write_record(self) -> None:
        if self._recorded:
            write_record(self.directory / "kernel.json", self._identity())

    def _spawn(
        self,
        command: list[str],
        cwd: str | None,
        env: Mapping[str, str],
        orphan_ttl_s: float,
        confinement: Confinement | None,
    ) -> subprocess.Popen[bytes]:
        inherited = [self._directory.alive_lock()]
        alive = inherited[0]
        try:
            if not self.has_inside or confinement is not None:
                if shutil.which(command[0], path=env.get("PATH")) is None:  # the guardian could only log it
                    raise FileNotFoundError(2, "no such program", command[0])
                if confinement is not None:
                    command = self._confined(command, cwd, env, confinement, inherited)
                    env = sandboxed_environment(env)
                watch = [guardian.__file__, str(self.directory), repr(float(orphan_ttl_s)), str(alive)]
                command = [sys.executable, "-I", "-S", *watch, *command]
            return subprocess.Popen(
                command,
                cwd=cwd,
                env={**env, "LASH_NB_RUNTIME_DIR": str(self.directory)},
                stdin=subprocess.DEVNULL,
                stdout=self._directory.log,
                stderr=self._directory.log,
                start_new_session=True,
                pass_fds=inherited,
            )
        finally:
            for fd in inherited:  # the kernel's copy of the lock holds it, for as long as it lives
                os.close(fd)

    def _confined(
        self,
        command: list[str],
        cwd: str | None,
        env: Mapping[str, str],
        confinement: Confinement,
        inherited: list[int],
    ) -> list[str]:
        """The command in its sandbox; what that inherits is added to `inherited`."""
        compiled, spill = self.directory / COMPILED, spill_place(confinement.staging, self.epoch, self.shared)
        compiled.touch(0o600)  # it is bound as a file, so it must be there, and is filled later
        spill.mkdir(0o700, parents=True, exist_ok=True)
        own = {str(self.shared): True, str(spill): True, str(self.connection_file): False, str(compiled): False}
        seccomp_fd = filter_file()
        if seccomp_fd is not None:
            inherited.append(seccomp_fd)
        return confinement.around(command, cwd=cwd or os.getcwd(), env=env, own=own, seccomp_fd=seccomp_fd)

    def settle(self) -> tuple[str, ...]:
        """Put its limits in force, now that it is up and no cell has run; what could not be, in sentences."""
        with self._guard:  # else it may be closed meanwhile, and its id another process's
            if self._closed:
                return ()
            family = list(descendants(self.pid))
            if self.sandboxed:
                self._inner = leader_in(self.pid)
            else:
                family.insert(0, self.pid)
            if self._limits:
                self._limiting, self._bounded = Limiting.of(self._limits, family), tuple(family)
            with contextlib.suppress(OSError):  # then another host takes it over without that
                self._write_record()
            return self._limiting.unmet

    def _identity(self) -> dict[str, object]:
        return {
            "sandboxed": self.sandboxed,
            "group": self._inner,
            "outer": os.environ.get("LASH_NB_RUNTIME_DIR"),  # the kernel that this host runs in: it ends with that
            **self._limiting.record(),
            "epoch": self.epoch,
            "pid": self.pid,
            "started": start_time(self.pid),
            "language": self.language,
            "display_name": self.display_name,
            "managed": self.has_inside,
        }

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
                if number == signal.SIGKILL:
                    self._family |= descendants(self.pid)
                if number == signal.SIGINT and self._inner is not None:
                    signal_leader(self._inner, number)
                else:
                    os.killpg(self.pid, number)

    def ending(self) -> str:
        """How it ended, as the predicate of a sentence; reaps it. Call only once it has exited."""
        self.kill()
        with self._guard:
            code = self._popen.wait()
        if self.sandboxed and code > 128:  # as bubblewrap says it
            code = 128 - code
        if code >= 0:
            return f"ended with exit status {code}"
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = "unknown"
        why = self._limiting.why_killed() if code == -signal.SIGKILL else ""
        return f"was killed by signal {-code} ({name}){why}"

    def log_tail(self) -> str:
        """The last 8 KiB of what the process wrote outside of its channels."""
        return self._directory.log_tail()

    def trim_log(self) -> None:
        """Keep the log bounded, and a kernel at its bound of memory able to say so; cheap, for now and then."""
        self._directory.trim_log()
        self.look()
        for pid in self._bounded:
            self._limiting.relieve(pid)

    def look(self) -> None:
        """Take what was killed up to now for want of memory as known: when the kernel ends later, that is not why."""
        if not self.exited():
            self._limiting.kills.look()

    def let_go(self) -> None:
        """Leave it running, with its files, to whoever takes it over. A second call does nothing."""
        with self._guard:
            if self._closed or os.getpid() != self.owner_pid:
                return
            self._closed = True
            with contextlib.suppress(OSError):  # else its watch would take us, who live on, for its host
                disclaim(self.directory)
            with contextlib.suppress(RuntimeError):  # the interpreter is ending: whoever inherits the child reaps it
                threading.Thread(target=self._popen.wait, name="lash_nb left kernel", daemon=True).start()
            if self.pidfd is not None:
                os.close(self.pidfd)
            self._directory.leave()

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
                self._popen.wait(timeout=_REAP_S)
            self._limiting.end()
            end_strays(self.directory, self._family)
            if self.pidfd is not None:
                os.close(self.pidfd)
            self._directory.remove()


def _reason(error: OSError | ValueError) -> str:
    if not isinstance(error, OSError):
        return str(error)
    return f"{error.strerror}{f': {error.filename}' if error.filename else ''}"
