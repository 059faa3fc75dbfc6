"""A sandbox around a kernel, made by bubblewrap (`bwrap`, Linux): what it sees, what it may write.

Decided here: namespaces of its own for users, processes, network, IPC, host name and control groups, no capabilities, a
filter of system calls (`seccomp`). Of the files it sees the system's, read-only; home directories, temporary ones and
`/run` are hidden with all sockets in them; it may write in its working directory and in what it shares with its host.
Inside of the working directory, Git's own files and the Python that runs are read-only: what is written there is run
outside, later. Source: the manual bwrap(1).
"""

from __future__ import annotations

import functools
import json
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, KernelStartError
from .seccomp import filter_program

__all__ = ["Confinement", "Sandbox", "filter_file", "sandbox_problem", "sandboxed_environment"]

_SPACES = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-net",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
)
_HIDDEN = ("/home", "/root", "/run", "/tmp", "/var/log", "/var/run", "/var/spool", "/var/tmp")
"""Directories that are empty in it, and of its own."""
_SECRETS = (
    "/etc/gshadow",
    "/etc/gshadow-",
    "/etc/krb5.keytab",
    "/etc/shadow",
    "/etc/shadow-",
    "/etc/ssh",
    "/etc/ssl/private",
    "/etc/sudoers",
    "/etc/sudoers.d",
)
"""What root could read, if root is who runs the notebook."""
_SYSTEM = ("/", "/bin", "/boot", "/dev", "/etc", "/lib", "/opt", "/proc", "/sbin", "/sys", "/usr", "/var")
_GUARDED = (".git", ".hg", ".svn")
_TMP_BYTES = 2 << 30
_TRIAL_S = 10.0
_OUTSIDE = ("DBUS_", "DISPLAY", "GPG_AGENT_INFO", "SSH_", "WAYLAND_DISPLAY", "XAUTHORITY", "XDG_RUNTIME_DIR")
"""Variables that lead to sockets and sessions of the host."""
_INSTALL = "install it (Debian, Ubuntu: apt install bubblewrap; Fedora: dnf install bubblewrap)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """What a sandboxed kernel has beside its working directory."""

    read: tuple[str, ...] = ()
    """Further directories or files that it may read, though they are in a hidden place."""
    hide: tuple[str, ...] = ()
    """Directories that it must not see, though they are in its working directory."""


def sandbox_problem() -> str:
    """Why there can be no sandbox here and what to do about it; "" when there can. Tries it: some 20 ms, once."""
    return _problem(shutil.which("bwrap"))


@functools.lru_cache(maxsize=4)
def _problem(program: str | None) -> str:
    if not sys.platform.startswith("linux"):
        return "the sandbox needs Linux (it is made by bubblewrap): run in a container or a virtual machine instead"
    if program is None:
        return f"the sandbox needs bubblewrap, and there is no bwrap on the PATH: {_INSTALL}"
    trial = [program, *_SPACES, *_options(program), "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "true"]
    try:
        done = subprocess.run(trial, capture_output=True, text=True, timeout=_TRIAL_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the sandbox needs bubblewrap, and {program} cannot be run ({error})"
    if done.returncode == 0:
        return ""
    said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    return (
        f"bubblewrap cannot make a sandbox here ({said}): this system forbids it, as containers without the right to "
        "make namespaces do (Docker: --security-opt seccomp=unconfined --security-opt apparmor=unconfined) and Ubuntu "
        "since 23.10 without an AppArmor profile for bwrap; the container itself may be sandbox enough"
    )


@functools.lru_cache(maxsize=4)
def _help(program: str) -> str:
    return subprocess.run([program, "--help"], capture_output=True, text=True, timeout=_TRIAL_S, check=False).stdout


def _options(program: str) -> tuple[str, ...]:
    """What takes no path; not every version of bubblewrap has all of it."""
    further = ("--disable-userns",) if "--disable-userns" in _help(program) else ()
    return ("--cap-drop", "ALL", "--die-with-parent", "--new-session", *further)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confinement:
    """A sandbox for one kind of kernel."""

    sandbox: Sandbox
    python: str | None
    """The interpreter whose environment it needs to see."""
    staging: str | None
    """Where it may put files for its host's store."""

    def around(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str],
        own: Mapping[str, bool],
        seccomp_fd: int | None,
    ) -> list[str]:
        """The command that runs `argv` in it.

        `own` are the kernel's files outside of its working directory: whether it may write them, by path. The filter
        of system calls is read from `seccomp_fd`.

        Raises:
            KernelStartError: there can be none here. InputError: the working directory cannot be opened to it.
        """
        problem = sandbox_problem()
        if problem:
            raise KernelStartError(problem)
        program = shutil.which("bwrap")
        assert program is not None
        cwd, hidden = os.path.realpath(cwd), _hidden(env)
        _check_directory(cwd, hidden)
        command = [program, *_SPACES, *_options(program), "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
        size = ["--size", str(_TMP_BYTES)] if "--size" in _help(program) else []
        for path in hidden:
            command += [*size, "--perms", "1777" if "tmp" in path else "0700", "--tmpfs", path]
        for path in [*_SECRETS, *_sockets(hidden)]:
            command += _covered(path)
        command += self._opened(cwd, env, hidden)
        for path, writable in own.items():
            command += ["--bind" if writable else "--ro-bind", path, path]
        if seccomp_fd is not None:
            command += ["--seccomp", str(seccomp_fd)]
        return [*command, "--chdir", cwd, "--", *argv]

    def _opened(self, cwd: str, env: Mapping[str, str], hidden: list[str]) -> list[str]:
        """The options for what it sees in hidden places, and for its working directory."""
        command = []
        runs, imports = _python_places(self.python, tuple(sorted(env.items()))) if self.python else ((), ())
        for path in _outermost(_real([*runs, *imports, *self.sandbox.read])):
            if _within(path, hidden) and not any(_within(place, [path]) for place in hidden):
                command += ["--ro-bind", path, path]
        command += ["--bind", cwd, cwd]
        for path in _real([*runs, *(os.path.join(cwd, name) for name in _GUARDED)]):
            if path != cwd and _within(path, [cwd]):
                command += ["--ro-bind", path, path]
        for path in _real(self.sandbox.hide):
            if not _within(cwd, [path]):
                command += _covered(path)
        return command


def sandboxed_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment without what leads out of the sandbox. The temporary directory is its own."""
    inside = {name: value for name, value in env.items() if not name.startswith(_OUTSIDE)}
    inside.pop("JPY_PARENT_PID", None)  # of another namespace: its process is not to be seen
    for name in ("TMPDIR", "TEMP", "TMP"):
        if name in inside:
            inside[name] = "/tmp"
    return inside


def filter_file() -> int | None:
    """A descriptor from which bubblewrap reads the filter of system calls; None: there is none for this processor."""
    program = filter_program()
    if program is None:
        return None
    with tempfile.TemporaryFile() as file:
        file.write(program)
        file.flush()
        file.seek(0)
        return os.dup(file.fileno())


def _hidden(env: Mapping[str, str]) -> list[str]:
    """The directories that are hidden, those of which others are parts alone."""
    homes = [env.get("HOME", ""), os.path.expanduser("~"), tempfile.gettempdir()]
    try:
        homes.append(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a user without a name, as in containers
        pass
    found = [os.path.realpath(path) for path in (*_HIDDEN, *homes) if path]
    return _outermost(path for path in found if os.path.isdir(path) and path not in _SYSTEM)


def _check_directory(cwd: str, hidden: Iterable[str]) -> None:
    """The working directory is opened as a whole, so it must not hold what is hidden.

    Raises:
        InputError: it does.
    """
    if cwd in _SYSTEM or any(_within(place, [cwd]) for place in hidden):
        raise InputError(
            f"a sandbox cannot be opened in {cwd}: all of it could be written there, with what it holds of yours and "
            "of the system; put the notebook into a directory of its own"
        )


def _covered(path: str) -> list[str]:
    """The options that put something empty over a path; none when there is nothing."""
    try:
        kind = os.lstat(path).st_mode
    except OSError:
        return []
    if stat.S_ISLNK(kind):
        return []
    return ["--perms", "0700", "--tmpfs", path] if stat.S_ISDIR(kind) else ["--ro-bind", "/dev/null", path]


def _sockets(hidden: Sequence[str]) -> Iterator[str]:
    """The sockets of the host's programs that lie elsewhere: a read-only file system does not keep anyone from them."""
    try:
        lines = Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]
    except OSError:
        return
    for path in sorted({os.path.realpath(line.split(None, 7)[7]) for line in lines if len(line.split(None, 7)) > 7}):
        if path.startswith("/") and not _within(path, [*hidden, "/dev"]) and stat.S_ISSOCK(_mode(path)):
            yield path


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except (OSError, ValueError):
        return 0


@functools.lru_cache(maxsize=8)
def _python_places(python: str, env: tuple[tuple[str, str], ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The directories of an interpreter, and those that it imports from."""
    if python == sys.executable:
        told = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path]
    else:
        code = "import json, sys; print(json.dumps([sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path]))"
        try:
            done = subprocess.run(
                [python, "-c", code], capture_output=True, timeout=_TRIAL_S, env=dict(env), check=True
            )
            told = json.loads(done.stdout.splitlines()[-1])
        except (OSError, subprocess.SubprocessError, ValueError, IndexError):
            told = []  # it will not start, and says why
    program = shutil.which(python) or python
    return (*told[:3], os.path.dirname(os.path.realpath(program))), tuple(path for path in told[3:] if path)


def _real(paths: Iterable[str]) -> list[str]:
    """Those that exist, without symbolic links."""
    return [os.path.realpath(path) for path in paths if os.path.exists(path)]


def _within(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(place.rstrip("/") + "/") for place in places)


def _outermost(paths: Iterable[str]) -> list[str]:
    """Without those that lie in another one."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not _within(path, kept):
            kept.append(path)
    return kept
