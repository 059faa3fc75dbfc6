"""What of the host's files a sandbox must not see: directories as a whole, secrets, sockets; and how paths lie.

Decided here: homes, temporary files and what programs keep (`/run`, `/var`) are hidden; so are disks, since one that is
mounted while a sandbox runs would come in writable; and, where root runs it, what nobody else may read. A read-only
file system keeps nobody from a socket, so those that there are have to be covered one by one.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

__all__ = [
    "HIDDEN",
    "SHOWN",
    "SYSTEM",
    "entries",
    "hidden",
    "homes",
    "mode",
    "outermost",
    "real",
    "secrets",
    "sockets",
    "within",
]

HIDDEN = ("/boot", "/home", "/lost+found", "/media", "/mnt", "/root", "/run", "/tmp", "/var")
"""Directories that are empty in it, and of its own. A disk that is mounted later would come in writable."""
SHOWN = ("/var/cache/fontconfig", "/var/lib/ghostscript", "/var/lib/texmf")
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
SYSTEM = ("/", "/bin", "/boot", "/dev", "/etc", "/lib", "/opt", "/proc", "/sbin", "/sys", "/usr", "/var")
_FIRST_USER = 1000
"""The ids below it are the system's own."""


def hidden(env: Mapping[str, str]) -> list[str]:
    """The directories that are hidden, those of which others are parts alone."""
    found = [*HIDDEN, *homes(env), os.path.realpath(tempfile.gettempdir())]
    return outermost(path for path in found if os.path.isdir(path) and (path in HIDDEN or path not in SYSTEM))


def homes(env: Mapping[str, str]) -> list[str]:
    """This user's homes, and those of others."""
    found = [env.get("HOME", ""), os.path.expanduser("~")]
    try:
        found.append(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:  # a user without a name, as in containers
        pass
    return [os.path.realpath(path) for path in (*found, *_homes_of_all()) if path]


def _homes_of_all() -> Iterator[str]:
    """The homes of this machine's people, wherever they are."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/etc/passwd").read_text(errors="surrogateescape").splitlines():
            fields = line.split(":")
            if int(fields[2]) >= _FIRST_USER and not within(fields[5], ["/bin", "/dev", "/proc", "/sys", "/usr"]):
                yield fields[5]


def secrets(env: Mapping[str, str]) -> list[str]:
    """What it would see though nobody else of this machine may."""
    mine = {os.path.realpath(home) for home in (env.get("HOME", ""), os.path.expanduser("~")) if home}
    found = [*_SECRETS, *(os.path.join(home, name) for home in mine if home in SYSTEM for name in _HOME_SECRETS)]
    for place, depth in (("/", 1), ("/etc", 4), ("/opt", 2), ("/srv", 2)):
        found += _closed(place, depth, os.getuid())
    return outermost(path for path in found if os.path.lexists(path))


def _closed(place: str, depth: int, user: int) -> Iterator[str]:
    """What of a directory is closed to others than `user`: files, directories; and pipes, which are open to write."""
    for entry in entries(place):
        bits = mode(entry.path)
        ours = user in (0, _owner(entry.path))
        if stat.S_ISFIFO(bits) or (stat.S_ISREG(bits) and ours and not bits & stat.S_IROTH):
            yield entry.path
        elif stat.S_ISDIR(bits) and entry.path not in SYSTEM:
            if ours and not bits & stat.S_IXOTH:
                yield entry.path
            elif depth > 1:
                yield from _closed(entry.path, depth - 1, user)


def _owner(path: str) -> int:
    try:
        return os.lstat(path).st_uid
    except OSError:
        return -1


def entries(place: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(place) as found:
            return list(found)
    except OSError:
        return []


def sockets(hidden: Sequence[str], shown: Sequence[str]) -> Iterator[str]:
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
        seen = within(path, shown) or not within(path, [*hidden, "/dev"])
        if seen and stat.S_ISSOCK(mode(path)):
            yield path


def _from_where_they_were_made(relative: Mapping[bytes, str]) -> Iterator[str]:
    """Paths of sockets that were bound by a relative one, by their inodes: where the process that has it is."""
    for number in entries("/proc"):
        if number.name.isdecimal():
            for entry in entries(os.path.join(number.path, "fd")):
                try:
                    link = os.readlink(entry.path)
                    if link.startswith("socket:[") and (path := relative.get(os.fsencode(link[8:-1]))) is not None:
                        yield os.path.join(os.readlink(os.path.join(number.path, "cwd")), path)
                except OSError:  # it has just ended
                    continue


def mode(path: str) -> int:
    try:
        return os.lstat(path).st_mode
    except (OSError, ValueError):
        return 0


def real(paths: Iterable[str]) -> list[str]:
    """Those that exist, without symbolic links."""
    return [os.path.realpath(path) for path in paths if os.path.exists(path)]


def within(path: str, places: Iterable[str]) -> bool:
    return any(path == place or path.startswith(place.rstrip("/") + "/") for place in places)


def outermost(paths: Iterable[str]) -> list[str]:
    """Without those that lie in another one."""
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not within(path, kept):
            kept.append(path)
    return kept
