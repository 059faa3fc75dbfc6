"""A sandbox around a kernel, made by bubblewrap (`bwrap`, Linux): what it sees, what it may write.

Decided here: namespaces of its own for users, processes, network, IPC, host name and control groups, no capabilities, a
filter of system calls (`seccomp`). Of the files it sees the system's, read-only; home directories, temporary ones,
`/run` and `/var` are hidden with all sockets in them, and what root alone may read (`host_places`); it may write in its
working directory and in what it shares with its host. Inside of the working directory, Git's own files, virtual
environments and the Python that runs are read-only: what is written there is run outside, later. For the same reason
nothing that starts outside of it is looked for in the working directory, neither programs nor their libraries.

Not kept from it: a socket that a program of the host makes in a visible place while it runs. What it leaves in its
working directory is as little to be trusted as itself. Source: the manual bwrap(1).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..errors import InputError, KernelStartError
from .host_places import SHOWN, SYSTEM, entries, hidden, homes, mode, outermost, real, secrets, sockets, within
from .seccomp import filter_program

__all__ = ["Confinement", "Sandbox", "check_sandbox", "filter_file", "sandbox_problem", "sandboxed_environment"]

_SPACES = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-net",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
)
_GUARDED = (".git", ".hg", ".svn")
_TMP_BYTES = 2 << 30
_SMALL_BYTES = 64 << 20
_LOADER = ("GCONV_PATH", "LD_", "LOCPATH")
"""Variables that say where a program's libraries are."""
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
    return _problem(_bwrap())


def _bwrap(cwd: str = "") -> str | None:
    """Where it is: not in the working directory, or what is put there would run outside of the sandbox."""
    for place in os.get_exec_path():
        found = os.path.join(place, "bwrap")
        if os.path.isabs(place) and os.access(found, os.X_OK) and not (cwd and within(os.path.realpath(found), [cwd])):
            return found
    return None


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
        cwd = os.path.realpath(cwd)
        masks = hidden(env)
        if sys.platform.startswith("linux"):
            _check_directory(cwd, [*masks, *homes(env)])
        program = _bwrap(cwd)
        problem = _problem(program)
        if problem or program is None:
            raise KernelStartError(problem)
        command = [program, *_SPACES, *_options(program), "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
        for path in _settings():
            command += ["--ro-bind", path, path]
        for path in (*masks, "/dev/shm"):
            command += _emptied(path, program, env)
        command += ["--perms", "1777", "--dir", "/var/tmp", "--symlink", "/run", "/var/run"]
        closed = [path for path in secrets(env) if not within(path, masks)]
        for path in closed:
            command += _covered(path)
        command += self._opened(cwd, env, [*masks, *closed])
        around = outermost(os.path.dirname(path) for path in own if within(path, ["/dev/shm"]))
        for path in around:  # its own, and not to be moved away
            command += _emptied(path, program, env)
        for path, writable in own.items():
            command += ["--bind" if writable else "--ro-bind", path, path]
        for path in around:
            command += ["--remount-ro", path]
        command += ["--remount-ro", "/dev"]
        for name, value in env.items():  # what runs outside of it goes without
            if name.startswith(_LOADER):
                command += ["--setenv", name, value]
        if seccomp_fd is not None:
            command += ["--seccomp", str(seccomp_fd)]
        return [*command, "--chdir", cwd, "--", *argv]

    def _opened(self, cwd: str, env: Mapping[str, str], masks: list[str]) -> list[str]:
        """The options for what it sees in hidden places, and for its working directory."""
        command, shown = [], [cwd]
        runs, imports = _python_places(self.python, tuple(sorted(env.items()))) if self.python else ((), ())
        wanted = [*runs, *imports, *self.sandbox.read, *SHOWN]
        for path in outermost(real(wanted)):
            if within(path, masks) and not any(within(place, [path]) for place in masks):
                command += ["--ro-bind", path, path]
                shown.append(path)
        command += ["--bind", cwd, cwd]
        environments = [entry.path for entry in entries(cwd) if os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))]
        kept = [*runs, *_OWN, *environments, *(os.path.join(cwd, name) for name in _GUARDED)]
        guarded = outermost(path for path in real(kept) if path != cwd and within(path, [cwd]))
        places = [path for path in _made(self.sandbox.hide, cwd) if not within(cwd, [path])]
        _check_links([sys.executable, self.python or "", *self.sandbox.hide], cwd, guarded)
        for path in _parents([*guarded, *places], cwd):  # else it could be moved away, and another one made
            command += ["--bind", path, path]
        for path in guarded:
            command += ["--ro-bind", path, path]
        for path in [*places, *sockets(masks, shown)]:
            command += _covered(path)
        return command


_OWN = (sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""What this process runs, and starts outside of the sandbox."""


def check_sandbox(directory: str | os.PathLike[str]) -> None:
    """Raise InputError where a kernel that works in `directory` cannot be put into a sandbox."""
    problem = sandbox_problem()
    if problem:
        raise InputError(problem)
    _check_directory(os.path.realpath(directory), [*hidden(os.environ), *homes(os.environ)])


def sandboxed_environment(env: Mapping[str, str]) -> dict[str, str]:
    """The environment without what leads out of the sandbox. The temporary directory is its own.

    Where libraries are is told it by `Confinement.around`: the programs that run outside, in the same working
    directory, are not to look for theirs there.
    """
    inside = {name: value for name, value in env.items() if not name.startswith((*_OUTSIDE, *_LOADER))}
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


def _made(places: Iterable[str], cwd: str) -> list[str]:
    """Those places; one that is missing and would come into the working directory later is made."""
    for path in places:
        if within(os.path.realpath(path), [cwd]):
            with contextlib.suppress(OSError):
                os.makedirs(path, 0o700, exist_ok=True)
    return real(places)


def _parents(paths: Iterable[str], cwd: str) -> list[str]:
    """The directories between the working directory and those in it, outermost first."""
    found = set()
    for path in paths:
        while within(path := os.path.dirname(path), [cwd]) and path != cwd:
            found.add(path)
    return sorted(found)


def _check_links(paths: Iterable[str], cwd: str, guarded: Sequence[str]) -> None:
    """Nothing that is used outside may be found by a link in the working directory, which could be made another one.

    Raises:
        InputError: it is.
    """
    for path in paths:
        place = os.path.abspath(path) if path else "/"
        while place != "/":
            at = os.path.join(os.path.realpath(os.path.dirname(place)), os.path.basename(place))
            if at != cwd and within(at, [cwd]) and not within(at, guarded) and os.path.islink(at):
                raise InputError(
                    f"a sandbox cannot be opened in {cwd}: {path} is found by the symbolic link {at}, which could be "
                    "changed there; put the directory itself in its place, or take another one"
                )
            place = os.path.dirname(place)


def _check_directory(cwd: str, masks: Iterable[str]) -> None:
    """The working directory is opened as a whole, so it must not hold what is hidden.

    Raises:
        InputError: it does.
    """
    running = [os.path.join(prefix, name) for prefix in _OWN[:3] for name in ("bin", "lib", "lib64")]
    if cwd in (*SYSTEM, *_OWN) or within(cwd, [*running, _OWN[3]]) or any(within(place, [cwd]) for place in masks):
        raise InputError(
            f"a sandbox cannot be opened in {cwd}: all of it could be written there, with what it holds of yours and "
            "of the system; put the notebook into a directory of its own"
        )


def _settings() -> Iterator[str]:
    """What of /proc sets something for the whole machine: bubblewrap leaves that open to root (`core_pattern`)."""
    for entry in entries("/proc"):
        bits = mode(entry.path)
        if not entry.name.isdecimal() and (stat.S_ISDIR(bits) or (stat.S_ISREG(bits) and bits & 0o222)):
            yield entry.path


def _emptied(path: str, program: str, env: Mapping[str, str]) -> list[str]:
    """The options for a hidden directory: empty, writable, not to be filled without end."""
    mine = [os.path.realpath(home) for home in (env.get("HOME", ""), os.path.expanduser("~")) if home]
    own, free = any(within(home, [path]) for home in mine), path == "/dev/shm" or "tmp" in path
    size = ["--size", str(_TMP_BYTES if own or free else _SMALL_BYTES)] if "--size" in _help(program) else []
    return [*size, "--perms", "0700" if own or not free else "1777", "--tmpfs", path]


def _covered(path: str) -> list[str]:
    """The options that put something empty over a path; none when there is nothing."""
    try:
        kind = os.lstat(path).st_mode
    except OSError:
        return []
    if stat.S_ISLNK(kind):
        return []
    return ["--perms", "0700", "--tmpfs", path] if stat.S_ISDIR(kind) else ["--ro-bind", "/dev/null", path]


@functools.lru_cache(maxsize=8)
def _python_places(python: str, env: tuple[tuple[str, str], ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The directories of an interpreter, and those that it imports from."""
    code = (
        "import sys; sys.path.pop(0); import json; "
        "print(json.dumps([sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path]))"
    )
    command = [shutil.which(python) or python, "-c", code]
    try:  # not in the working directory: it runs outside
        done = subprocess.run(command, capture_output=True, timeout=_TRIAL_S, env=dict(env), cwd="/", check=True)
        told = json.loads(done.stdout.splitlines()[-1])
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        told = []  # it will not start, and says why
    program = shutil.which(python) or python
    return (*told[:3], os.path.dirname(os.path.realpath(program))), tuple(
        path for path in told[3:] if os.path.isabs(path)
    )
