"""How much of the machine a managed kernel may use; pure.

Decided here: what can be asked for, and which requests are a mistake. How it is enforced is `limiting`'s matter.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from ..errors import InputError

__all__ = ["NO_LIMITS", "ResourceLimits", "memory_size", "size_text"]

_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?\s*", re.IGNORECASE)
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
LEAST_MEMORY_BYTES = 256 << 20
"""A kernel with pandas in it takes about half of that."""
_WORDS = {
    "memory_bytes": "the limit of memory",
    "cpus": "the limit of processors (cpus)",
    "open_files": "the limit of open files",
    "processes": "the limit of processes",
}
LEAST_OPEN_FILES = 64
LEAST_PROCESSES = 32
"""Threads count, and a kernel has about ten of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLimits:
    """Bounds of one kernel, None for no bound.

    Raises:
        InputError: a kernel could not live with that.
    """

    memory_bytes: int | None = None
    """Of all its processes together where the system can tell, else of each."""
    cpus: float | None = None
    """Processors that it may keep busy."""
    open_files: int | None = None
    """Of each process."""
    processes: int | None = None
    """Processes and threads, all together."""

    def __post_init__(self) -> None:
        for name in ("memory_bytes", "cpus", "open_files", "processes"):
            value = getattr(self, name)
            kinds = (int, float) if name == "cpus" else (int,)
            if value is not None and (not isinstance(value, kinds) or isinstance(value, bool) or value == math.inf):
                raise InputError(f"{_WORDS[name]}: give a number, or none, and not {value!r}")
        least = {"open_files": LEAST_OPEN_FILES, "processes": LEAST_PROCESSES, "memory_bytes": LEAST_MEMORY_BYTES}
        for name, bound in least.items():
            value = getattr(self, name)
            if value is not None and value < bound:
                told = size_text(bound) if name == "memory_bytes" else str(bound)
                raise InputError(f"{_WORDS[name]}: too few for a kernel; give {told} or more, or none")
        if self.cpus is not None and not self.cpus >= 0.1:
            raise InputError(f"{_WORDS['cpus']}: too few for a kernel; give 0.1 or more, or none")

    def __bool__(self) -> bool:
        return any(value is not None for value in (self.memory_bytes, self.cpus, self.open_files, self.processes))

    def told(self) -> tuple[str, ...]:
        """Each bound in words."""
        said = []
        if self.memory_bytes is not None:
            said.append(f"{size_text(self.memory_bytes)} of memory")
        if self.cpus is not None:
            said.append(f"{self.cpus:g} processor{'' if self.cpus == 1 else 's'}")
        if self.open_files is not None:
            said.append(f"{self.open_files} open files in each process")
        if self.processes is not None:
            said.append(f"{self.processes} processes and threads")
        return tuple(said)


NO_LIMITS = ResourceLimits()


def memory_size(text: str | float) -> int:
    """Bytes of "4G", "512 MB", "1.5GiB" (all powers of 1024) or a plain number.

    Raises:
        InputError: it is none of these.
    """
    found = _SIZE.fullmatch(str(text))
    if found is None:
        raise InputError(f"{text!r} is no amount of memory: write it as 512M or 4G")
    return int(float(found[1]) * _UNITS[found[2].lower()])


def size_text(size: int) -> str:
    """A number of bytes as people say it."""
    value, unit = float(size), "bytes"
    for unit in ("bytes", "KB", "MB", "GB", "TB"):
        if value < 1024 or unit == "TB":
            break
        value /= 1024
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"
