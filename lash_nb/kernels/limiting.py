"""Puts a kernel's limits in force from outside, before the first cell, and says which could not be.

Decided here: which means serve which limit. Memory: a control group for all processes together, and for each process a
bound of what it may allocate (RLIMIT_DATA), so that code gets a MemoryError where it can and the kernel lives on; the
group is for what comes together otherwise. Processes: a group, else RLIMIT_NPROC (root is not bound by it). Processors:
a group, else some of them and no others. Whatever it is, the kernel is what the system ends first when it runs out of
memory, not the notebook beside it. Bounds are only ever made stricter, in the groups that are there: a process that is
moved to another group leaves what bounds it.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from ..errors import InputError
from .cgroups import Group, KillCount, found_groups, make_group, removed
from .resources import NO_LIMITS, ResourceLimits

if sys.platform != "win32":
    import resource

__all__ = ["Limiting", "spare_the_host"]

_OOM_SCORE = 500
_FEW_PROCESSORS = 4
_SLACK_BYTES = 48 << 20
"""For each further processor: what numeric libraries map for a thread there and hardly use."""
_HEADROOM_BYTES = 64 << 20
"""What the kernel itself may allocate when a cell has used up the rest (`inside/headroom.py`)."""
_RELIEF_BYTES, _AT_IT_BYTES = 8 << 20, 1 << 20
_MARGIN_BYTES = 2 * _HEADROOM_BYTES
"""By how much the group's bound is over a process's, so that code gets its MemoryError before anything is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limiting:
    """What is in force for one kernel."""

    groups: tuple[Group, ...] = ()
    unmet: tuple[str, ...] = ()
    """What is not, in sentences."""
    bounds: ResourceLimits = NO_LIMITS
    """What was asked for."""
    kills: KillCount = field(default_factory=KillCount)

    @classmethod
    def of(cls, limits: ResourceLimits, pids: Iterable[int], *, within: tuple[Group, ...] = ()) -> Limiting:
        """Put limits in force for processes and what they will start, by the groups `within` which they are already,
        and new ones. Blocks for a millisecond or two.
        """
        pids, unmet = list(pids), []
        wanted = {"memory": limits.memory_bytes, "pids": limits.processes, "cpu": limits.cpus}
        asked = [name for name, bound in wanted.items() if bound is not None]
        made, missing = _further([name for name in asked if not any(group.has(name) for group in within)], within)
        for group in within:
            missing += _fill(group, limits, ())
        for group in made:
            missing += _fill(group, limits, pids)
        for name in sorted(set(missing)):
            unmet += _instead(name, limits, pids)
        if limits.memory_bytes is not None:
            size = limits.memory_bytes + _SLACK_BYTES * max(0, (os.cpu_count() or 1) - _FEW_PROCESSORS)
            if not _rlimit(pids, "RLIMIT_DATA", size, more=_HEADROOM_BYTES) and "memory" in missing:
                unmet.append("There is no means here to bound its memory.")
        if limits.open_files is not None and not _rlimit(pids, "RLIMIT_NOFILE", limits.open_files):
            unmet.append("There is no means here to bound its open files.")
        groups = (*within, *made)
        return cls(groups=groups, unmet=tuple(unmet), bounds=limits, kills=KillCount(groups))

    @classmethod
    def found(cls, record: Mapping[str, object]) -> Limiting:
        """What `kernel.json` says is in force."""
        groups = found_groups(_texts(record.get("limits")))
        bounds = _bounds(record.get("bounds"))
        return cls(groups=groups, unmet=_texts(record.get("unmet")), bounds=bounds, kills=KillCount(groups))

    def record(self) -> dict[str, object]:
        """What `kernel.json` is to say."""
        bounds = {name: bound for name, bound in asdict(self.bounds).items() if bound is not None}
        return {"limits": [str(group.path) for group in self.groups], "unmet": list(self.unmet), "bounds": bounds}

    def tightened(self, limits: ResourceLimits, pids: Iterable[int]) -> Limiting:
        """Put in force what of `limits` is stricter; the same object when nothing of it is. Blocks as `of` does."""
        bounds, too_much = _stricter(self.bounds, limits), False
        if bounds.memory_bytes is not None and bounds.memory_bytes != self.bounds.memory_bytes:
            used = max((group.memory_used() for group in self.groups if group.has("memory")), default=0)
            if used > bounds.memory_bytes + _MARGIN_BYTES:  # the system would end the kernel, with its variables
                bounds, too_much = replace(bounds, memory_bytes=self.bounds.memory_bytes), True
        put = Limiting.of(bounds, pids, within=self.groups) if bounds != self.bounds else self
        if not too_much:
            return put
        return replace(
            put, unmet=(*put.unmet, "It uses more of the memory already than it is to have: that is as it was.")
        )

    def why_killed(self) -> str:
        """Why SIGKILL may have come to the kernel since the last look at `kills`: an addition to a sentence, or ""."""
        return " because what it may use of the memory was used up" if self.kills.new() else ""

    def relieve(self, pid: int) -> None:
        """Raise the bound of memory of a process that is at it, by a little, up to what it could raise it to itself.

        It may have nothing left to handle its MemoryError with: CPython (3.11) then goes round for ever.
        """
        if self.bounds.memory_bytes is None:
            return
        with contextlib.suppress(OSError, ValueError, IndexError):
            soft, hard = resource.prlimit(pid, resource.RLIMIT_DATA)
            if soft != hard and soft - _data_bytes(pid) < _AT_IT_BYTES:
                resource.prlimit(pid, resource.RLIMIT_DATA, (min(soft + _RELIEF_BYTES, hard), hard))

    def end(self) -> None:
        """Kill what is left in the groups and remove them; a second call does nothing."""
        removed(str(group.path) for group in self.groups)


def _data_bytes(pid: int) -> int:
    """What RLIMIT_DATA bounds."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmData:"):
            return int(line.split()[1]) << 10
    return 0


def spare_the_host(pid: int) -> None:
    """Have the system end this process and its children first when it runs out of memory; nothing where it cannot."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(_OOM_SCORE))


def _further(controllers: list[str], within: tuple[Group, ...]) -> tuple[list[Group], list[str]]:
    """New groups for those controllers, and those that cannot be had."""
    if any(group.version == 2 for group in within):  # whoever is moved to another one there leaves all that bounds it
        return [], controllers
    return make_group(controllers)


def _stricter(one: ResourceLimits, other: ResourceLimits) -> ResourceLimits:
    """The lower one of each two bounds."""

    def lower(name: str) -> float | None:
        return min((bound for limits in (one, other) if (bound := getattr(limits, name)) is not None), default=None)

    memory, files, processes = (lower(name) for name in ("memory_bytes", "open_files", "processes"))
    return ResourceLimits(
        memory_bytes=None if memory is None else int(memory),
        cpus=lower("cpus"),
        open_files=None if files is None else int(files),
        processes=None if processes is None else int(processes),
    )


def _bounds(found: object) -> ResourceLimits:
    """Those of a record; none where it has none or no kernel could live with them."""
    if not isinstance(found, dict):
        return NO_LIMITS
    whole = {name: found.get(name) for name in ("memory_bytes", "open_files", "processes")}
    cpus = found.get("cpus")
    try:
        return ResourceLimits(
            cpus=float(cpus) if isinstance(cpus, int | float) else None,
            **{name: bound for name, bound in whole.items() if isinstance(bound, int)},
        )
    except InputError:
        return NO_LIMITS


def _texts(found: object) -> tuple[str, ...]:
    return tuple(str(one) for one in found) if isinstance(found, list) else ()


def _fill(group: Group, limits: ResourceLimits, pids: Iterable[int]) -> list[str]:
    """Set what the group can, and move the processes there; which of it failed."""
    failed = []
    memory = None if limits.memory_bytes is None else limits.memory_bytes + _MARGIN_BYTES
    bounds: dict[str, Callable[[], None] | None] = {
        "memory": None if memory is None else partial(group.limit_memory, memory),
        "pids": None if limits.processes is None else partial(group.limit_processes, limits.processes),
        "cpu": None if limits.cpus is None else partial(group.limit_cpus, limits.cpus),
    }
    for name, put in bounds.items():
        if put is not None and group.has(name):
            try:
                put()
            except OSError:
                failed.append(name)
    try:
        group.take(pids)
    except OSError:
        return [name for name in ("memory", "pids", "cpu") if group.has(name)]
    return failed


def _instead(controller: str, limits: ResourceLimits, pids: list[int]) -> list[str]:
    """What serves without a group, or what is not in force."""
    match controller:
        case "memory":
            return ["The limit of memory holds for each of its processes alone: no control group can be made here."]
        case "pids":
            assert limits.processes is not None
            if os.getuid() != 0 and _rlimit(pids, "RLIMIT_NPROC", _tasks_of_user() + limits.processes):
                return ["The limit of processes is one of all of this user's: no control group can be made here."]
            return ["There is no means here to bound its processes."]
        case _:
            assert limits.cpus is not None
            if _pin(pids, limits.cpus):
                return [f"It is held to {math.ceil(limits.cpus)} of the processors: no control group can be made here."]
            return ["There is no means here to bound its use of processors."]


def _rlimit(pids: Iterable[int], name: str, value: int, *, more: int = 0) -> bool:
    """Bound a resource of each process, never higher than it is; whether that could be done for all.

    The process can raise it by `more` itself.
    """
    number = getattr(resource, name, None)
    if number is None or not hasattr(resource, "prlimit"):
        return False
    try:
        for pid in pids:
            _, hard = resource.prlimit(pid, number)
            most = value + more if hard == resource.RLIM_INFINITY else min(value + more, hard)
            resource.prlimit(pid, number, (min(value, most), most))
    except ProcessLookupError:  # it has just ended
        return True
    except (OSError, ValueError):
        return False
    return True


def _pin(pids: Iterable[int], cpus: float) -> bool:
    """Hold processes and their threads to a few processors."""
    if not hasattr(os, "sched_setaffinity"):
        return False
    mine = sorted(os.sched_getaffinity(0))
    few = random.sample(mine, min(len(mine), math.ceil(cpus)))
    try:
        for pid in pids:
            for task in os.listdir(f"/proc/{pid}/task"):
                os.sched_setaffinity(int(task), few)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return True


def _tasks_of_user() -> int:
    """How many processes and threads this user has."""
    number, own = 0, os.getuid()
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{name}").st_uid == own:
                    number += len(os.listdir(f"/proc/{name}/task"))
    return number
