"""Which process wrote something, and whether it still runs.

Decided here: a process is its id and its start, on a machine, in a boot and in a space of process ids (a container has
its own). Of one in another place nothing is known, but that nothing outlives a boot. `kernels.guardian` asks the same
of processes of this place alone, inside a script that imports nothing of the package.
"""

from __future__ import annotations

import functools
import hashlib
import os
import secrets
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from ..machine.wire import Json

__all__ = ["fate", "this_process"]


def this_process(owner: Mapping[str, Json]) -> dict[str, Json]:
    """What `fate` needs to know of us later, a `nonce` of this description alone, and what `owner` adds for people."""
    return {
        **owner,
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        **_place(),
        "since": datetime.now(UTC).isoformat(timespec="seconds"),
        "nonce": secrets.token_hex(8),
    }


def fate(owner: Mapping[str, Any]) -> Literal["living", "gone", "unknown"]:
    """What became of a process that described itself with `this_process`."""
    here = _place()
    pid, boot = owner.get("pid"), owner.get("boot")
    if not isinstance(pid, int) or not boot or not here["boot"]:
        return "unknown"
    if boot != here["boot"]:
        same_machine = all(owner.get(name) == here[name] for name in ("host", "machine"))
        return "gone" if same_machine else "unknown"
    if owner.get("space") != here["space"]:
        return "unknown"
    return "living" if _lives(pid, owner.get("started")) else "gone"


def _place() -> dict[str, Json]:
    """Where a process id means what it means here."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        space = 0
    return {
        "host": os.uname().nodename,
        "machine": _machine(),
        "boot": _first_line("/proc/sys/kernel/random/boot_id"),
        "space": space,
    }


@functools.cache
def _machine() -> str:
    """This machine, told from others of its name; systemd asks that its id be shown to nobody, so this is a hash."""
    known = _first_line("/etc/machine-id")
    return hashlib.sha256(f"lash_nb {known}".encode()).hexdigest()[:16] if known else ""


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _fields(pid: int) -> list[bytes] | None:
    """The fields of /proc/PID/stat from the third on; None: no such process, or no /proc."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()
    except OSError:
        return None


def _started(pid: int) -> int | None:
    fields = _fields(pid)
    return int(fields[19]) if fields else None


def _lives(pid: int, started: object) -> bool:
    fields = _fields(pid)
    return fields is not None and fields[0] not in (b"Z", b"X") and started in (None, int(fields[19]))
