"""Linux control groups, version 2 or 1, as far as this process may make them: bounds for several processes together.

Decided here: where a group of ours can be made, what is written into it, how it is emptied and removed, with the groups
that were made in it. Sources: the kernel's `admin-guide/cgroup-v2` and `admin-guide/cgroup-v1`. A group is made below
the one this process is in; in version 2 also beside it, because a group that holds processes cannot hand controllers
down.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path

from .children import Children, signal_all
from .guardian import start_time

__all__ = ["Group", "KillCount", "found_groups", "make_group", "removed"]

_PREFIX = "lash-nb-"
_STALE_S = 60.0
_PERIOD_US = 100_000
_FILES = {
    2: {"memory": "memory.max", "pids": "pids.max", "cpu": "cpu.max"},
    1: {"memory": "memory.limit_in_bytes", "pids": "pids.max", "cpu": "cpu.cfs_quota_us"},
}


class Group:
    """One directory of a hierarchy, for one controller in version 1, for several in version 2."""

    def __init__(self, path: Path, *, version: int) -> None:
        self.path, self.version = path, version

    def has(self, controller: str) -> bool:
        return (self.path / _FILES[self.version][controller]).exists()

    def limit_memory(self, size: int) -> None:
        """Raises OSError. What would be swapped counts, where the system can tell."""
        if self.version == 2:
            self._write("memory.max", size)
            with contextlib.suppress(OSError):
                self._write("memory.swap.max", 0)
        else:
            self._write("memory.limit_in_bytes", size)
            with contextlib.suppress(OSError):
                self._write("memory.memsw.limit_in_bytes", size)

    def limit_processes(self, number: int) -> None:
        """Raises OSError."""
        self._write("pids.max", number)

    def limit_cpus(self, number: float) -> None:
        """Raises OSError."""
        quota = max(1000, round(number * _PERIOD_US))
        if self.version == 2:
            self._write("cpu.max", f"{quota} {_PERIOD_US}")
        else:
            self._write("cpu.cfs_period_us", _PERIOD_US)
            self._write("cpu.cfs_quota_us", quota)

    def take(self, pids: Iterable[int]) -> None:
        """Move processes here, with all their threads; what they start stays here. Raises OSError."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                self._write("cgroup.procs", pid)

    def memory_used(self) -> int:
        """Bytes that its processes use now; 0 where it is not told."""
        name = "memory.current" if self.version == 2 else "memory.usage_in_bytes"
        with contextlib.suppress(OSError, ValueError):
            return int((self.path / name).read_text())
        return 0

    def oom_kills(self) -> int:
        """How many of its processes were killed because its memory was used up."""
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        with contextlib.suppress(OSError, ValueError, IndexError):
            for line in (self.path / name).read_text().splitlines():
                if line.split()[0] == "oom_kill":
                    return int(line.split()[1])
        return 0

    def kill(self) -> None:
        """SIGKILL to whatever is in it, and in the groups in it."""
        with contextlib.suppress(OSError):
            self._write("cgroup.kill", 1)
            return
        for place in _inside_out(self.path):
            started: Children = {pid: start for pid in _processes(place) if (start := start_time(pid)) is not None}
            # Whoever is still there when its start is known is not another process that has got the same id.
            still = set(_processes(place))
            signal_all({pid: start for pid, start in started.items() if pid in still}, signal.SIGKILL)

    def _write(self, name: str, value: object) -> None:
        with open(self.path / name, "w") as file:
            file.write(str(value))


class KillCount:
    """How many processes of some groups were killed because their memory was used up, since somebody looked."""

    def __init__(self, groups: Iterable[Group] = ()) -> None:
        self._groups = tuple(group for group in groups if group.has("memory"))
        self._seen = self._now()

    def look(self) -> None:
        """Take those up to now as known."""
        self._seen = self._now()

    def new(self) -> int:
        """Those since then."""
        return self._now() - self._seen

    def _now(self) -> int:
        return sum(group.oom_kills() for group in self._groups)


def found_groups(paths: Iterable[str]) -> tuple[Group, ...]:
    """Those groups of ours that are there, by their directories."""
    places = [Path(path) for path in paths if Path(path).name.startswith(_PREFIX)]
    return tuple(Group(place, version=_version(place)) for place in places if place.is_dir())


def make_group(controllers: Iterable[str], *, proc: Path = Path("/proc/self")) -> tuple[list[Group], list[str]]:
    """Groups for as many of `controllers` ("memory", "pids", "cpu") as can be had, and those that cannot.

    `proc` has `cgroup` and `mountinfo` of the process that says where.
    """
    made: list[Group] = []
    missing: list[str] = []
    for controller in controllers:
        if any(group.has(controller) for group in made):
            continue
        group = next(_groups(controller, proc), None)
        if group is None:
            missing.append(controller)
        else:
            made.append(group)
    return made, missing


def removed(paths: Iterable[str], *, within_s: float = 1.0) -> bool:
    """Kill what is in groups of ours and remove them; False when one is left (a later `make_group` tries again)."""
    left = [Path(path) for path in paths if Path(path).name.startswith(_PREFIX)]
    ends = time.monotonic() + within_s
    while True:
        left = [path for path in left if not _remove(path)]
        if not left or time.monotonic() > ends:
            return not left
        for path in left:
            Group(path, version=_version(path)).kill()
        time.sleep(0.01)


def _remove(path: Path) -> bool:
    for place in _inside_out(path):
        try:
            place.rmdir()
        except FileNotFoundError:
            continue
        except OSError:  # a process is in it, or just was
            return False
    return True


def _inside_out(path: Path) -> list[Path]:
    """A group and all groups in it, those first that have none in them."""
    return [Path(place) for place, _, _ in os.walk(path, topdown=False)] or [path]


def _processes(path: Path) -> list[int]:
    with contextlib.suppress(OSError, ValueError):
        return [int(line) for line in (path / "cgroup.procs").read_text().split()]
    return []


def _version(path: Path) -> int:
    return 2 if (path / "cgroup.events").exists() else 1


def _groups(controller: str, proc: Path) -> Iterator[Group]:
    """A new group that has the controller, wherever one can be made."""
    for parent, version in _parents(controller, proc):
        _sweep(parent)
        path = parent / f"{_PREFIX}{uuid.uuid4().hex[:16]}"
        with contextlib.suppress(OSError):
            path.mkdir()
            group = Group(path, version=version)
            if group.has(controller):
                yield group
            _remove(path)


def _parents(controller: str, proc: Path) -> Iterator[tuple[Path, int]]:
    """Where a group for the controller might be made: this process's own group first."""
    for kinds, own in _own_groups(proc):
        for mount, root, names in _mounts(proc):
            if (not kinds and names is None) or (kinds and names is not None and controller in kinds & names):
                inside = os.path.relpath(own, root)
                if not inside.startswith(".."):
                    place = mount / inside
                    yield place, 1 if kinds else 2
                    if not kinds and place != mount:
                        yield place.parent, 2


def _own_groups(proc: Path) -> Iterator[tuple[set[str], str]]:
    """Controllers (none: version 2) and path of each group that this process is in."""
    with contextlib.suppress(OSError):
        for line in (proc / "cgroup").read_text().splitlines():
            _, kinds, path = line.split(":", 2)
            yield {kind for kind in kinds.split(",") if kind}, path


def _mounts(proc: Path) -> Iterator[tuple[Path, str, set[str] | None]]:
    """Place, root and controllers (None: version 2) of each hierarchy that is mounted."""
    with contextlib.suppress(OSError):
        for line in (proc / "mountinfo").read_text().splitlines():
            before, _, after = line.partition(" - ")
            kind, _, options = after.split(" ", 2)
            root, place = before.split()[3:5]
            if kind == "cgroup2":
                yield Path(place), root, None
            elif kind == "cgroup":
                yield Path(place), root, set(options.split(","))


def _sweep(parent: Path) -> None:
    """Remove empty groups that a process left which was killed; one is not empty with a young one in it."""
    before = time.time() - _STALE_S
    for path in parent.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if all(place.stat().st_mtime < before for place in _inside_out(path)):
                _remove(path)  # refused by the system while a process is in it
