"""What is found of sessions in a notebook: turns, sessions, and what is wrong with them, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from .bounds import visible
from .envelopes import Envelope

__all__ = ["Carried", "CarriedSession", "CarriedTurn", "Problem", "Slot", "Trouble"]


class Trouble(StrEnum):
    """What is wrong, in a word."""

    DAMAGED = "damaged"
    """Not of the format, or not what was saved: a field, a hash, an encoding, the order."""
    NEWER = "newer"
    """Written by a later lash_nb: it may be whole, and cannot be read here."""
    FORKED = "forked"
    """Two turns claim one place."""
    FOREIGN = "foreign"
    """An envelope of another session stands among a session's own."""
    TOO_LARGE = "too large"
    """Beyond a bound of size or number: it was not looked at any further."""
    INCOMPLETE = "incomplete"
    """A turn is not here; those that are can be gone on with."""
    STALE = "stale"
    """A turn in progress that has ended meanwhile; it is passed over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """Something that is wrong, in a sentence that names its place."""

    trouble: Trouble
    place: str
    sentence: str
    """On one line, and nothing in it hides or moves what stands beside it."""

    @property
    def fatal(self) -> bool:
        """Whether it makes a notebook invalid: else it is only said."""
        return self.trouble not in (Trouble.INCOMPLETE, Trouble.STALE)


class Slot(StrEnum):
    """Where in a notebook an envelope stands."""

    TURNS = "turns"
    HEAD = "head"
    EARLIER = "earlier"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedTurn:
    """A turn that a notebook carries, found to be what was saved."""

    place: str
    """Words that name it: `metadata.lash_nb.turns[0]`, `cell 3, output 1`."""
    slot: Slot
    session: str
    number: int
    seq: int
    parent: str | None
    sha256: str
    envelope: Envelope
    """Whole, or a reference."""
    text: str | None
    """Of the checkpoint, its hash found right; None for a reference."""
    ref: Mapping[str, Any]
    """What a reference to it says: `bytes`, `request` (its beginning), `outcome`."""
    ended: bool
    """Whether the turn had ended."""

    @property
    def saved_at(self) -> str:
        """When, as the envelope says."""
        return str(self.envelope["saved_at"])

    def __str__(self) -> str:
        return f"{self.place} (seq {self.seq}, saved {visible(self.saved_at, most=40) or 'nobody knows when'})"


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriedSession:
    """What a notebook carries of one session."""

    session: str
    turns: tuple[CarriedTurn, ...] = ()
    """The finished ones of the chain that counts, oldest first, references included."""
    head: CarriedTurn | None = None
    """The turn in progress; never a reference."""
    forks: tuple[CarriedTurn, ...] = ()
    """What goes another way than that chain."""
    apart: tuple[CarriedTurn, ...] = ()
    """What is whole by itself, or a reference, and not connected with that chain; and turns in progress that are not
    any more."""
    forked_from: Mapping[str, Any] | None = None
    """The `session`, `turn` and `sha256` of which it began as a branch."""
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What a notebook carries."""

    current: str | None = None
    """The session of the block, else of the newest envelope of an output."""
    sessions: tuple[CarriedSession, ...] = ()
    problems: tuple[Problem, ...] = field(default=())
    """Those of the sessions, and of the notebook as a whole."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing of lash_nb, be it whole or damaged."""
        return not self.sessions and not self.problems

    @property
    def ok(self) -> bool:
        """Whether all that is carried is valid; also when it is nothing."""
        return not any(problem.fatal for problem in self.problems)

    def session(self, name: str | None) -> CarriedSession | None:
        """The session of that id; None when there is none."""
        return next((session for session in self.sessions if session.session == name), None)
