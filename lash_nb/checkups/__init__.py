"""What can be looked into before anything goes wrong: each checkup gives findings, a finding says ✓ or what to do.

Decided here: the record and how it is written. The checkups: `doctor` (this installation), `trial` (one model),
`candidates` (which models could be used from here). Imports nothing of the package.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Finding", "State", "findings_text"]


class State(StrEnum):
    """How it stands, as the sign that is shown."""

    GOOD = "✓"
    BAD = "✗"
    """Something has to be done before it works."""
    ABSENT = "–"
    """It is not there, and nobody said that it has to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    state: State
    what: str
    said: str
    """What was found; for what is not good also what to do."""


def findings_text(findings: Iterable[Finding]) -> str:
    """The findings, one a line, in columns."""
    rows = list(findings)
    width = max((len(row.what) for row in rows), default=0)
    return "\n".join(f"{row.state} {row.what:<{width}}  {row.said}".rstrip() for row in rows)
