"""Puts a kernel's limits in force from outside, before the first cell, and says which could not be.

Decided here: which means serve which limit. Memory: a control group for all processes together, and for each process a
bound of what it may allocate (RLIMIT_DATA), so that code gets a MemoryError where it can and the kernel lives on; the
group is for what comes together otherwise. Processes: a group, else RLIMIT_NPROC (root is not bound by it). Processors:
a group, else some of them and no others. Whatever it is, the kernel is what the system ends first when it runs out of
memory, not the notebook beside it.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from .cgroups import Group, make_group, removed
from .resources import ResourceLimits

if sys.platform != "win32":
    import resource

__all__ = ["Limiting", "spare_the_host"]

_OOM_SCORE = 500
_FEW_PROCESSORS = 4
_SLACK_BYTES = 48 << 20
"""For each further processor: what numeric libraries map for a thread there and hardly use."""
_MARGIN_BYTES = 64 << 20
"""By how much the group's bound is over a process's, so that code gets its MemoryError before anything is killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limiting:
    """What is in force for one kernel."""

    groups: tuple[Group, ...] = ()
    unmet: tuple[str, ...] = ()
    """What is not, in sentences."""
    kills_before: int = field(default_factory=lambda: _oom_kills())
    """Of the whole system, when it was put in force."""

    @classmethod
    def of(cls, limits: ResourceLimits, pids: Iterable[int]) -> Limiting:
        """Put limits in force for processes and what they will start. Blocks for a millisecond or two."""
        pids, unmet = list(pids), []
        wanted = {"memory": limits.memory_bytes, "pids": limits.processes, "cpu": limits.cpus}
        groups, missing = make_group([name for name, bound in wanted.items() if bound is not None])
        for group in groups:
            missing += _fill(group, limits, pids)
        for name in sorted(set(missing)):
            unmet += _instead(name, limits, pids)
        if limits.memory_bytes is not None:
            size = limits.memory_bytes + _SLACK_BYTES * max(0, (os.cpu_count() or 1) - _FEW_PROCESSORS)
            if not _rlimit(pids, "RLIMIT_DATA", size) and "memory" in missing:
                unmet.append("There is no means here to bound its memory.")
        if limits.open_files is not None and not _rlimit(pids, "RLIMIT_NOFILE", limits.open_files):
            unmet.append("There is no means here to bound its open files.")
        return cls(groups=tuple(groups), unmet=tuple(unmet))

    @property
    def memory_kills(self) -> int:
        """How many processes were killed because the memory of all was used up."""
        return sum(group.oom_kills() for group in self.groups if group.has("memory"))

    def why_killed(self) -> str:
        """Why SIGKILL may have come to the kernel: an addition to a sentence, or ""."""
        if self.memory_kills:
            return " because what it may use of the memory was used up"
        if _oom_kills() > self.kills_before:
            return "; the system was running out of memory"
        return ""

    def end(self) -> None:
        """Kill what is left in the groups and remove them; a second call does nothing."""
        removed(str(group.path) for group in self.groups)


def spare_the_host(pid: int) -> None:
    """Have the system end this process and its children first when it runs out of memory; nothing where it cannot."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text(str(_OOM_SCORE))


def _oom_kills() -> int:
    """How many processes Linux has killed since its start because the memory of a group, or all of it, was used up."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


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


def _rlimit(pids: Iterable[int], name: str, value: int) -> bool:
    """Bound a resource of each process, never higher than it is; whether that could be done for all."""
    number = getattr(resource, name, None)
    if number is None or not hasattr(resource, "prlimit"):
        return False
    try:
        for pid in pids:
            _, hard = resource.prlimit(pid, number)
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.prlimit(pid, number, (bound, bound))
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
