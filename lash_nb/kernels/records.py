"""The files of a kernel that another host started, as whoever takes it over may use them.

Decided here: what is checked before anything of them is used. They hold the key to run code as this user: they must be
this user's, private, of our form, and lead to sockets in the kernel's own directory.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import KernelAttachError
from .groups import Leader
from .limiting import Limiting
from .rundir import PORTS, Endpoints

__all__ = ["FRESH", "Identity", "open_private", "read_endpoints", "read_identity", "read_private"]

FRESH = "start a new kernel"
_KEY = re.compile(r"[0-9a-f]{64}")
_MAX_RECORD_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """What `kernel.json` says."""

    epoch: str
    pid: int
    started: int | None
    language: str
    display_name: str
    managed: bool
    sandboxed: bool
    group: Leader | None
    """The leader of the group that SIGINT goes to, where that is not the process itself."""
    limiting: Limiting
    record: Mapping[str, object]
    """All of it."""


def open_private(path: Path, folder: int | None, flags: int) -> int:
    """Open what must be this user's alone: no link, no one else's, closed to others. `folder` is where `path` is."""
    name = path if folder is None else path.name
    try:
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError:
        raise KernelAttachError(f"there is no {path}: the kernel has ended; {FRESH}") from None
    except OSError as error:
        kind = "is a symbolic link or no directory" if error.errno in (errno.ELOOP, errno.ENOTDIR) else "is not usable"
        raise KernelAttachError(f"{path} {kind} ({error.strerror}); {FRESH}") from error
    found, problem = os.fstat(fd), ""
    if not (stat.S_ISDIR(found.st_mode) if flags & os.O_DIRECTORY else stat.S_ISREG(found.st_mode)):
        problem = f"is no regular file; {FRESH}"
    elif found.st_uid != os.getuid():
        problem = f"belongs to another user (uid {found.st_uid}), who could have made the kernel up; {FRESH}"
    elif found.st_mode & 0o077:
        problem = (
            f"is open to other users (mode {stat.S_IMODE(found.st_mode):04o}): who reads the kernel's key can run code "
            f"as you; {FRESH}, or run chmod go= on it if you know that nobody did"
        )
    if problem:
        os.close(fd)
        raise KernelAttachError(f"{path} {problem}")
    return fd


def read_private(path: Path, folder: int) -> Mapping[str, object]:
    """A private JSON record."""
    fd = open_private(path, folder, os.O_RDONLY)
    with os.fdopen(fd, "rb") as file:
        data = file.read(_MAX_RECORD_BYTES + 1)
    try:
        record = json.loads(data) if len(data) <= _MAX_RECORD_BYTES else None
    except (ValueError, RecursionError):
        record = None
    if not isinstance(record, dict):
        raise _not_ours(path)
    return record


def _not_ours(path: Path) -> KernelAttachError:
    return KernelAttachError(f"{path} is not of the form that lash_nb writes; give one of its own, or {FRESH}")


def read_endpoints(path: Path, info: Mapping[str, object], folder: int, identity: Identity) -> Endpoints:
    """The channels, if they are sockets in the kernel's own directory."""
    address, key = info.get("ip"), info.get("key")
    if info.get("transport") != "ipc":
        raise KernelAttachError(f"{path} is of a kernel that is not on ipc, so not one of lash_nb; {FRESH}")
    if path.name != "connection.json" or info.get("signature_scheme") != "hmac-sha256":
        raise _not_ours(path)
    if not (isinstance(address, str) and isinstance(key, str) and _KEY.fullmatch(key)):
        raise _not_ours(path)
    ports = {channel: info.get(f"{channel}_port") for channel in PORTS}
    if not all(type(port) is int and port > 0 for port in ports.values()) or os.path.basename(address) in ("", ".."):
        raise _not_ours(path)
    try:
        home, below = os.path.dirname(address), os.path.basename(os.path.dirname(address))
        if identity.sandboxed and below == "shared" and not os.path.islink(home):
            home = os.path.dirname(home)
        inside = os.path.isabs(address) and os.path.samestat(os.lstat(home), os.fstat(folder))
    except (OSError, ValueError):
        inside = False
    if not inside:
        raise KernelAttachError(f"{path} points to sockets outside of its directory ({address}); {FRESH}")
    urls = {channel: f"ipc://{address}-{ports[channel]}" for channel in ("shell", "control", "stdin", "iopub")}
    return Endpoints(**urls, key=key.encode())


def read_identity(path: Path, folder: int) -> Identity:
    record = read_private(path, folder)
    match record:
        case {
            "epoch": str(epoch),
            "pid": int(pid),
            "started": int() | None as started,
            "language": str(language),
            "display_name": str(display_name),
            "managed": bool(managed),
        } if pid > 1:
            return Identity(
                epoch=epoch,
                pid=pid,
                started=started,
                language=language,
                display_name=display_name,
                managed=managed,
                sandboxed=record.get("sandboxed") is True,
                group=_group(record.get("group")),
                limiting=Limiting.found(record),
                record=record,
            )
        case _:
            raise _not_ours(path)


def _group(found: object) -> Leader | None:
    match found:
        case [int(pid), int() | None as started] if pid > 1:
            return pid, started
        case _:
            return None
