"""What a hostile cell is: its code, and what is right for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lash_nb.machine.execution import CellOutcome

__all__ = [
    "DEAD",
    "ERROR",
    "GRACE_S",
    "INTERRUPTED",
    "INTERRUPT_S",
    "LIMIT_S",
    "OK",
    "SECOND",
    "SLACK_S",
    "STILL",
    "TIMEOUT",
    "HostileCell",
    "Need",
    "case",
    "endless",
]

Need = Literal["", "memory", "processes"]

OK, ERROR, DEAD = CellOutcome.OK, CellOutcome.ERROR, CellOutcome.DEAD
INTERRUPTED, TIMEOUT = CellOutcome.INTERRUPTED, CellOutcome.TIMEOUT

LIMIT_S = 0.7
"""The time limit of cells that would never end."""
INTERRUPT_S = 2.0
"""What the ladder may take: a second for each of its two rungs."""
SLACK_S = 1.5
GRACE_S = INTERRUPT_S + SLACK_S


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileCell:
    """A cell and what is right for it."""

    name: str
    code: str
    outcomes: tuple[CellOutcome, ...]
    tells: str = ""
    """What the result's detail must hold, in any case of its letters."""
    ename: str = ""
    """The name of its error."""
    timeout_s: float | None = None
    bound_s: float = SLACK_S
    """From `run` to its result, without the time limit."""
    before: str = ""
    """A cell that runs, and ends well, before it."""
    pause_s: float = 0.0
    """How long nobody does anything after it."""
    keeps: bool | None = None
    """Whether the kernel must live on with its variables; None: it does not matter."""
    check: str = ""
    """Code that is asserted in the kernel that goes on."""
    need: Need = ""
    no_child: bool = False
    """No child process of the kernel lives a moment after it (1.5 s)."""
    only_outside: bool = False
    """It makes no sense in a sandbox, where the group is not its own."""
    fast: bool = False


def case(name: str, code: str, *outcomes: CellOutcome, **rest: object) -> HostileCell:
    return HostileCell(name=name, code=code.strip("\n"), outcomes=outcomes, **rest)  # type: ignore[arg-type]


def endless(name: str, code: str, *, tells: str = "ran longer than", **rest: object) -> HostileCell:
    """One that only its time limit ends."""
    rest = {"timeout_s": LIMIT_S, "bound_s": GRACE_S, **rest}
    return case(name, code, TIMEOUT, tells=tells, **rest)


STILL = "still runs"
SECOND = "second interrupt"
