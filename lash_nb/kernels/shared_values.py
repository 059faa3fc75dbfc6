"""What came of sending values to a kernel, and of fetching some; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Fetched", "Held", "Pushed", "PushedValue"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PushedValue:
    """One value that went over."""

    bytes: int
    """Of its stream and its buffers; of what several values share, each has all."""
    digest: str
    """SHA-256 over them: that of the same object is the same in this process as long as it is unchanged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What became of the values, by their names."""

    sent: Mapping[str, PushedValue] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    """Why one could not go; of these nothing is bound."""
    kept: Mapping[str, str] = field(default_factory=dict)
    """The new names of what stood under the names that were to be kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """Copies of a kernel's variables in this process, by their names."""

    values: Mapping[str, Any] = field(default_factory=dict)
    failed: Mapping[str, str] = field(default_factory=dict)
    """Why one could not come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a kernel holds under a name."""

    sha256: str = ""
    """The digest of what went over under it last; empty: it is the kernel's own."""
    fetched: bool = False
    """It still is what was fetched last, and nothing of it was changed."""
    needs: frozenset[str] = frozenset()
    """Of a function or a class of its cells: the variables that it reads there."""
    same: bool = False
    """It still is that object, and nothing of it was changed. What cannot be told for sure is told as changed."""

    @property
    def untouched(self) -> bool:
        """Nothing in it is the kernel's alone: it came from here, or a copy of it went here, as it is."""
        return self.same or self.fetched
