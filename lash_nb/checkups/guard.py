"""Running the parts of a checkup, so that none that fails hides another.

Decided here: this is the one place where whatever a part raises becomes a finding; what looks into an installation that
may be broken cannot know what it will raise. Imports the records alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from . import Finding, State

__all__ = ["Part", "found_by", "printable"]

Part: TypeAlias = tuple[str, Callable[[], Iterable[Finding]]]
"""What it looks at, and how."""

_MOST_CHARACTERS = 300


def found_by(parts: Iterable[Part]) -> Iterator[Finding]:
    """The findings of all parts, in order; one that fails is a finding that names the exception."""
    for what, look in parts:
        try:
            findings = tuple(look())
        except Exception as error:
            said = printable(f"{type(error).__name__}: {error}")[:_MOST_CHARACTERS]
            findings = (Finding(state=State.BAD, what=what, said=f"this could not be looked into ({said})"),)
        yield from findings


def printable(text: str) -> str:
    """The text on one line, without what draws over a terminal or hides a part of itself."""
    return "".join(sign for sign in " ".join(text.split()) if sign.isprintable())
