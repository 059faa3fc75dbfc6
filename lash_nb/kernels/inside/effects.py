"""Which effects an audit event of Python stands for: on files, other programs, hosts. Used in the kernel, and tested.

Decided here: what counts as an effect beyond computing, where files are free, and how an effect is written for a person
to decide on. A courtesy, not a sandbox: what C code opens by itself (pyarrow, HDF5, curl) is not heard of here.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import stat
import sys
import tempfile
import urllib.parse
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

__all__ = ["FILES", "PROGRAMS", "WRITING", "Effect", "Places", "command_line", "on_files", "places_for_all", "refusal"]

WRITE, DELETE, PROCESS, CONNECT = "write", "delete", "start", "connect to"
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
SHELLS = frozenset({"sh", "bash", "dash", "ksh", "zsh"})
MAX_CHARS = 2_000
HEAD_CHARS, TAIL_CHARS = 1_500, 400
BYTECODE = re.compile(r"/__pycache__(/|$)|\.py[co](\.\d+)?$")
MAC_GETPATH = 50


class Effect(NamedTuple):
    """One effect; with `tree` whoever allows it allows the same below, for the rest of the cell."""

    kind: str
    target: str
    tree: bool = False


class Touched(NamedTuple):
    """A path that an event names, as it was given."""

    kind: str
    path: Any
    dir_fd: Any = None
    follow: bool = False
    """The effect is on what a link there leads to, and not on the link."""
    tree: bool = False


def refusal(kind: str, target: str, *, why: str = "", by_policy: bool = False) -> str:
    """What the code is told of an effect that was refused."""
    who = "this code may not" if by_policy else "the user did not allow this code to"
    return f"{who} {kind} {target}{f': {why}' if why else ''}"


# -- files -------------------------------------------------------------------------------------------------------------


def _of_open(path: Any, mode: Any, flags: Any, dir_fd: Any = None) -> list[Touched]:
    """The event has no `dir_fd`: whoever hears it adds it."""
    return [Touched(WRITE, path, dir_fd, follow=True)]


def _of_mkdir(path: Any, mode: Any, dir_fd: Any = None) -> list[Touched]:
    return [] if _there(path, dir_fd) else [Touched(WRITE, path, dir_fd, tree=True)]


def _of_special(path: Any, dir_fd: Any = None) -> list[Touched]:
    return [] if _there(path, dir_fd) else [Touched(WRITE, path, dir_fd)]


def _of_rename(source: Any, target: Any, source_fd: Any = None, target_fd: Any = None) -> list[Touched]:
    return [Touched(WRITE, source, source_fd), Touched(WRITE, target, target_fd)]


def _of_symlink(source: Any, target: Any, dir_fd: Any = None) -> list[Touched]:
    return [Touched(WRITE, target, dir_fd)]


def _of_change(path: Any, *rest: Any) -> list[Touched]:
    """Of something that is there; a directory's descriptor comes last."""
    return [Touched(WRITE, path, rest[-1] if rest and isinstance(rest[-1], int) else None, follow=True)]


def _of_content(path: Any, *rest: Any) -> list[Touched]:
    return [Touched(WRITE, path, follow=True)]


def _of_remove(path: Any, dir_fd: Any = None) -> list[Touched]:
    return [Touched(DELETE, path, dir_fd)] if _there(path, dir_fd) else []


def _of_rmtree(path: Any, dir_fd: Any = None) -> list[Touched]:
    return [one._replace(tree=True) for one in _of_remove(path, dir_fd)]


def _of_copytree(source: Any, target: Any, *rest: Any) -> list[Touched]:
    return [Touched(WRITE, target, tree=True)]


def _of_sqlite(database: Any, *rest: Any) -> list[Touched]:
    text = os.fsdecode(database)
    if text.startswith("file:"):
        name, _, query = text[5:].partition("?")
        options = urllib.parse.parse_qs(query)
        if options.get("mode", [""])[0] in ("ro", "memory"):
            return []
        text = urllib.parse.unquote(name.partition("#")[0])
        text = "/" + text.lstrip("/") if text.startswith("//") else text
    return [] if text in ("", ":memory:") else [Touched(WRITE, text, follow=True)]


FILES: Mapping[str, Callable[..., list[Touched]]] = {
    "open": _of_open,
    "os.chflags": _of_content,
    "os.chmod": _of_change,
    "os.chown": _of_change,
    "os.link": _of_rename,
    "os.mkdir": _of_mkdir,
    "os.mkfifo": _of_special,
    "os.mknod": _of_special,
    "os.remove": _of_remove,
    "os.removexattr": _of_content,
    "os.rename": _of_rename,
    "os.rmdir": _of_remove,
    "os.setxattr": _of_content,
    "os.symlink": _of_symlink,
    "os.truncate": _of_content,
    "os.utime": _of_change,
    "shutil.copytree": _of_copytree,
    "shutil.rmtree": _of_rmtree,
    "shutil.unpack_archive": _of_copytree,
    "sqlite3.connect": _of_sqlite,
}


def on_files(event: str, args: tuple[Any, ...], places: Places) -> list[Effect]:
    """The effects of an event of `FILES` outside of the free places.

    Raises:
        OSError, TypeError, ValueError: what the event is about cannot be had; it will fail by itself.
    """
    found = []
    for kind, path, dir_fd, follow, tree in FILES[event](*args):
        if isinstance(path, int) or (event == "open" and _is_device(path, dir_fd)):
            continue
        target = _located(path, dir_fd, follow=follow)
        if not places.free(target):
            found.append(Effect(kind, target, tree))
    return found


def _absolute(path: Any, dir_fd: Any) -> str:
    text = os.fsdecode(path)
    if os.path.isabs(text):
        return text
    return os.path.join(os.getcwd() if dir_fd in (None, -1) else _directory_of(dir_fd), text)


def _directory_of(fd: int) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:  # macOS
        import fcntl

        return os.fsdecode(fcntl.fcntl(fd, MAC_GETPATH, bytes(1024)).rstrip(b"\0"))


def _located(path: Any, dir_fd: Any, *, follow: bool) -> str:
    """The absolute path that is meant, all links resolved; the last one only with `follow`."""
    text = _absolute(path, dir_fd)
    head, name = os.path.split(text.rstrip("/"))
    if follow or name in ("", ".", ".."):
        return os.path.realpath(text)
    return os.path.join(os.path.realpath(head), name)


def _there(path: Any, dir_fd: Any) -> bool:
    return isinstance(path, int) or os.path.lexists(_absolute(path, dir_fd))


def _is_device(path: Any, dir_fd: Any) -> bool:
    """Whether it is a device like `/dev/null`, a pipe or a socket: what is written there is in no file."""
    try:
        mode = os.stat(_absolute(path, dir_fd)).st_mode
    except OSError:
        return False
    return stat.S_ISCHR(mode) or stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


class Places:
    """Where files are free: below these directories, and the bytecode that Python keeps beside its modules."""

    def __init__(self, directories: Iterable[str]) -> None:
        roots = {
            os.path.realpath(os.path.expanduser(directory)).rstrip("/") + "/" for directory in directories if directory
        }
        self.roots = tuple(sorted(roots))

    def free(self, path: str) -> bool:
        """Whether an absolute path without links is."""
        return f"{path}/".startswith(self.roots) or BYTECODE.search(path) is not None


def places_for_all(environ: Mapping[str, str]) -> list[str]:
    """The directories for temporary files, and those that libraries fill by themselves."""
    config = environ.get("XDG_CONFIG_HOME") or "~/.config"
    cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
    matplotlib = environ.get("MPLCONFIGDIR") or os.path.join(config, "matplotlib")
    own = [environ.get("LASH_NB_RUNTIME_DIR", ""), environ.get("XDG_RUNTIME_DIR", ""), sys.pycache_prefix or ""]
    temporary = [tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"]
    kept = [cache, "~/.cache", "~/Library/Caches", matplotlib, environ.get("IPYTHONDIR") or "~/.ipython"]
    return [*temporary, *own, *kept]


# -- other programs ----------------------------------------------------------------------------------------------------


def command_line(argv: Any, executable: Any = None) -> str:
    """A command as a person would write it."""
    if isinstance(argv, (str, bytes, os.PathLike)):
        text = os.fsdecode(argv)
    else:
        words = [os.fsdecode(word) for word in argv]
        if executable is not None:
            program = os.fsdecode(executable)
            if not words or os.path.basename(words[0]) != os.path.basename(program):
                words[:1] = [program]
        shell = len(words) == 3 and os.path.basename(words[0]) in SHELLS and words[1] == "-c"
        text = words[2] if shell else shlex.join(words)
    python = shlex.quote(sys.executable)
    if text == python or text.startswith(python + " "):
        text = "python" + text[len(python) :]
    if len(text) <= MAX_CHARS:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:12]  # two long ones must not be one
    left = len(text) - HEAD_CHARS - TAIL_CHARS
    return f"{text[:HEAD_CHARS]} [… {left:,} characters, sha256 {digest} …] {text[-TAIL_CHARS:]}"


PROGRAMS: Mapping[str, Callable[..., str]] = {
    "os.exec": lambda path, argv, env: command_line(argv, path),
    "os.posix_spawn": lambda path, argv, env: command_line(argv, path),
    "os.spawn": lambda mode, path, argv, env: command_line(argv, path),
    "os.startfile": lambda path, *rest: command_line(path),
    "os.system": lambda command: command_line(command),
    "pty.spawn": lambda argv: command_line(argv),
    "subprocess.Popen": lambda executable, argv, cwd, env: command_line(argv, executable),
}
