"""What a run of a notebook says: how its cells and the whole of it ended. Records only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from .machine.approvals import Wish
from .machine.llm import LlmUsage
from .stores.summaries import TurnSummary

__all__ = ["CellReport", "CellState", "RefusedEffect", "RunResult", "RunStatus"]


class RunStatus(StrEnum):
    """How a run ended."""

    DONE = "done"
    FAILED = "failed"
    BAD_INPUT = "bad input"
    BOUND = "bound hit"
    WAITING = "waiting for approval"
    STOPPED = "stopped"

    @property
    def exit_code(self) -> int:
        """The exit code of the command line."""
        return list(RunStatus).index(self)


class CellState(StrEnum):
    """What became of a cell."""

    RUNNING = "running"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    FAILED_AS_TAGGED = "failed, as its tag allows"
    STOPPED = "stopped"
    WAITING = "waiting for approval"


@dataclass(frozen=True, slots=True, kw_only=True)
class CellReport:
    """One code cell, told twice: when it starts and when it has ended."""

    number: int
    """From 1, code cells alone."""
    total: int
    label: str
    """Its first line; for a cell magic also the first line of what it is given."""
    state: CellState
    steps: int = 0
    """Model calls of the turns that ended in it."""
    kept: str = ""
    """What became of kept code in it: `ran`, `repaired` or `failed`; empty: there was none."""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedEffect:
    """Something that the agent's code was not allowed to do, because nobody was there to decide on it."""

    turn: str
    """The id of the turn."""
    wish: Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class RunResult:
    """What came of a run; the executed notebook is in `out`."""

    status: RunStatus
    out: Path
    cells: tuple[CellReport, ...]
    turns: tuple[TurnSummary, ...]
    usage: LlmUsage
    error: str = ""
    """One sentence, when the status is not `done`."""
    interrupted: int | None = None
    """The number of a turn that has not ended, because its process did: `lash-nb resume OUT` goes on with it."""
    refused: tuple[RefusedEffect, ...] = ()
    """In the order in which they were tried, each once a turn."""

    @property
    def exit_code(self) -> int:
        """0 done, 1 failed, 2 bad input, 3 a bound was hit, 4 waiting for approval, 5 stopped."""
        return self.status.exit_code
