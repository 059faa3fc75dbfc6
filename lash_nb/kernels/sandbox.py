"""A sandbox around a kernel, made by bubblewrap (`bwrap`, Linux): what it sees, what it may write.

Decided here: namespaces of its own for users, processes, network, IPC, host name and control groups, no capabilities, a
filter of system calls (`seccomp`). Of the files it sees the system's, read-only; home directories, temporary ones, `/run`
and `/var` are hidden with all sockets in them, and what this user alone may read, where that is root; it may write in
its working directory and in what it shares with its host. Inside of the working directory, Git's own files, virtual
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

__all__ = ["Confinement", "Sandbox", "check_sandbox", "filter_file", "sandbox_problem", "sandboxed_environment"]

_SPACES = (
    "--unshare-user",
    "--unshare-pid",
    "--unshare-net",
    "--unshare-ipc",
    "--unshare-uts",
    "--unshare-cgroup-try",
)
_HIDDEN = ("/boot", "/home", "/lost+found", "/media", "/mnt", "/root", "/run", "/tmp", "/var")
"""Directories that are empty in it, and of its own. Where disks are mounted later, they would come in writable."""
_SHOWN = ("/var/cache/fontconfig", "/var/lib/ghostscript", "/var/lib/texmf")
"""What of these is not."""
_HOME_SECRETS = (".aws", ".azure", ".config", ".docker", ".git-credentials", ".gnupg", ".kube", ".netrc", ".ssh")
"""What is hidden of a home that cannot be hidden as a whole, as "/" is in some containers."""
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
_SMALL_BYTES = 64 << 20
_FIRST_USER = 1000
"""The ids below it are the system's own."""
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
        if os.path.isabs(place) and os.access(found, os.X_OK) and not (cwd and _within(os.path.realpath(found), [cwd])):
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
        program = _bwrap(cwd)
        problem = _problem(program)
        if problem or program is None:
            raise KernelStartError(problem)
        hidden = _hidden(env)
        _check_directory(cwd, hidden)
        command = [program, *_SPACES, *_options(program), "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc"]
        homes = [place for place in hidden if _within(os.path.realpath(os.path.expanduser("~")), [place])]
        for path in (*hidden, "/dev/shm"):
            large = "tmp" in path or path in homes or path == "/dev/shm"
            size = ["--size", str(_TMP_BYTES if large else _SMALL_BYTES)] if "--size" in _help(program) else []
            command += [*size, "--perms", "1777" if path not in homes and large else "0700", "--tmpfs", path]
        command += ["--perms", "1777", "--dir", "/var/tmp", "--symlink", "/run", "/var/run"]
        masked = [path for path in _secrets(env) if not _within(path, hidden)]
        for path in masked:
            command += _covered(path)
        command += self._opened(cwd, env, [*hidden, *masked])
        for path, writable in own.items():
            command += ["--bind" if writable else "--ro-bind", path, path]
        command += ["--remount-ro", "/dev"]
        for name, value in env.items():  # what runs outside of it goes without
            if name.startswith(_LOADER):
                command += ["--setenv", name, value]
        if seccomp_fd is not None:
            command += ["--seccomp", str(seccomp_fd)]
        return [*command, "--chdir", cwd, "--", *argv]

    def _opened(self, cwd: str, env: Mapping[str, str], hidden: list[str]) -> list[str]:
        """The options for what it sees in hidden places, and for its working directory."""
        command, shown = [], [cwd]
        runs, imports = _python_places(self.python, tuple(sorted(env.items()))) if self.python else ((), ())
        wanted = [*runs, *imports, *self.sandbox.read, *_SHOWN, *(entry.path for entry in _entries("/mnt"))]
        for path in _outermost(_real(wanted)):
            if _within(path, hidden) and not any(_within(place, [path]) for place in hidden):
                command += ["--ro-bind", path, path]
                shown.append(path)
        command += ["--bind", cwd, cwd]
        environments = [entry.path for entry in _entries(cwd) if os.path.exists(os.path.join(entry.path, "pyvenv.cfg"))]
        kept = [*runs, *_OWN, *environments, *(os.path.join(cwd, name) for name in _GUARDED)]
        guarded = _outermost(path for path in _real(kept) if path != cwd and _within(path, [cwd]))
        places = [path for path in _made(self.sandbox.hide, cwd) if not _within(cwd, [path])]
        _check_links([sys.executable, self.python or "", *self.sandbox.hide], cwd, guarded)
        for path in _parents([*guarded, *places], cwd):  # else it could be moved away, and another one made
            command += ["--bind", path, path]
        for path in guarded:
            command += ["--ro-bind", path, path]
        for path in [*places, *_sockets(hidden, shown)]:
            command += _covered(path)
        return command


_OWN = (sys.prefix, sys.base_prefix, sys.exec_prefix, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
"""What this process runs, and starts outside of the sandbox."""


def check_sandbox(directory: str | os.PathLike[str]) -> None:
    """Raise InputError where a kernel that works in `directory` cannot be put into a sandbox."""
    problem = sandbox_problem()
    if problem:
        raise InputError(problem)
    _check_directory(os.path.realpath(directory), _hidden(os.environ))


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


def _hidden(env: Mapping[str, str]) -> list[str]:
    """The directories that are hidden, those of which others are parts alone."""
    homes = [env.get("HOME", ""), os.path.expanduser("~"), tempfile.gettempdir()]
    try:
        homes.append(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a user without a name, as in containers
        pass
    found = [os.path.realpath(path) for path in (*_HIDDEN, *homes, *_homes_of_all()) if path]
    return _outermost(path for path in found if os.path.isdir(path) and path not in _SYSTEM)


def _homes_of_all() -> Iterator[str]:
    """The homes of this machine's people, wherever they are."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/etc/passwd").read_text(errors="surrogateescape").splitlines():
            fields = line.split(":")
            if int(fields[2]) >= _FIRST_USER and not _within(fields[5], ["/bin", "/dev", "/proc", "/sys", "/usr"]):
                yield fields[5]


def _secrets(env: Mapping[str, str]) -> list[str]:
    """What it would see though nobody else of this machine may."""
    homes = {os.path.realpath(home) for home in (env.get("HOME", ""), os.path.expanduser("~")) if home}
    found = [*_SECRETS, *(os.path.join(home, name) for home in homes if home in _SYSTEM for name in _HOME_SECRETS)]
    if os.getuid() == 0:
        for place, depth in (("/", 1), ("/etc", 4), ("/opt", 2), ("/srv", 2)):
            found += _closed(place, depth)
    return _outermost(path for path in found if os.path.lexists(path))


def _closed(place: str, depth: int) -> Iterator[str]:
    """What of a directory is closed to other users: files that they cannot read, directories that they cannot enter."""
    for entry in _entries(place):
        mode = _mode(entry.path)
        if stat.S_ISREG(mode) and not mode & stat.S_IROTH:
            yield entry.path
        elif stat.S_ISDIR(mode) and entry.path not in _SYSTEM:
            if not mode & stat.S_IXOTH:
                yield entry.path
            elif depth > 1:
                yield from _closed(entry.path, depth - 1)


def _entries(place: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as found:
            return list(found)
    except OSError:
        return []


def _made(places: Iterable[str], cwd: str) -> list[str]:
    """Those places; one that is missing and would come into the working directory later is made."""
    for path in places:
        if _within(os.path.realpath(path), [cwd]):
            with contextlib.suppress(OSError):
                os.makedirs(path, 0o700, exist_ok=True)
    return _real(places)


def _parents(paths: Iterable[str], cwd: str) -> list[str]:
    """The directories between the working directory and those in it, outermost first."""
    found = set()
    for path in paths:
        while _within(path := os.path.dirname(path), [cwd]) and path != cwd:
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
            if at != cwd and _within(at, [cwd]) and not _within(at, guarded) and os.path.islink(at):
                raise InputError(
                    f"a sandbox cannot be opened in {cwd}: {path} is found by the symbolic link {at}, which could be "
                    "changed there; put the directory itself in its place, or take another one"
                )
            place = os.path.dirname(place)


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


def _sockets(hidden: Sequence[str], shown: Sequence[str]) -> Iterator[str]:
    """The sockets of the host's programs that can be seen: a read-only file system does not keep anyone from them."""
    try:
        lines = Path("/proc/net/unix").read_bytes().splitlines()[1:]
    except OSError:
        return
    found = [(fields[6], os.fsdecode(fields[7])) for line in lines if len(fields := line.split(None, 7)) > 7]
    named = [path for _, path in found if path.startswith("/")]
    relative = {inode: path for inode, path in found if not path.startswith(("/", "@"))}
    if relative:
        named += _from_where_they_were_made(relative)
    for path in sorted({os.path.realpath(path) for path in named}):
        seen = _within(path, shown) or not _within(path, [*hidden, "/dev"])
        if seen and stat.S_ISSOCK(_mode(path)):
            yield path


def _from_where_they_were_made(relative: Mapping[bytes, str]) -> Iterator[str]:
    """Paths of sockets that were bound by a relative one, by their inodes: where the process that has it is."""
    for number in _entries("/proc"):
        if number.name.isdecimal():
            for entry in _entries(os.path.join(number.path, "fd")):
                try:
                    link = os.readlink(entry.path)
                    if link.startswith("socket:[") and (path := relative.get(os.fsencode(link[8:-1]))) is not None:
                        yield os.path.join(os.readlink(os.path.join(number.path, "cwd")), path)
                except OSError:  # it has just ended
                    continue


def _mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except (OSError, ValueError):
        return 0


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
