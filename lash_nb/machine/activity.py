"""What only the host can see of a turn: it began, a cell started, gave outputs, ended. Ours, not the reference's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .approvals import Approval, Decision
from .execution import CellOutcome, CellOutput

__all__ = [
    "ApprovalAsked",
    "ApprovalDecided",
    "CallPrice",
    "CellOutputs",
    "ChangesSeen",
    "CodeBlockCompleted",
    "CodeBlockStarted",
    "CodeDelta",
    "HostActivity",
    "RefusedVariable",
    "SharedVariable",
    "TurnStarted",
    "VariableSeen",
    "VariablesSeen",
    "VariablesShared",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnStarted:
    """A turn began: what was asked, of which model. In its midst: it is gone on with, and this model answers now."""

    turn: int
    request: str
    model: str
    protocol: str = "code"
    """How the model conducts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeDelta:
    """Code of a cell, as the model writes it; what is run comes whole with `CodeBlockStarted`."""

    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeBlockStarted:
    """A cell began to run in the managed kernel."""

    effect_id: int
    call_id: str = ""
    """Of a cell that the model runs by a tool call; its effect may have several."""
    language: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CellOutputs:
    """All outputs of the running cell so far, in order."""

    effect_id: int
    call_id: str = ""
    outputs: tuple[CellOutput, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeBlockCompleted:
    """A cell ended."""

    effect_id: int
    call_id: str = ""
    outcome: CellOutcome
    outputs: tuple[CellOutput, ...]
    duration_ms: int
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPrice:
    """What the model call whose tokens were just counted cost."""

    dollars: float
    """US dollars."""
    as_of: str
    """The day of the price list, ISO 8601."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalAsked:
    """Somebody is to decide; the turn waits."""

    approval: Approval


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalDecided:
    """It was decided: by a person, or by the mode or the place (then nobody need have been asked)."""

    approval: Approval
    decision: Decision


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableSeen:
    """A variable of the managed kernel that the turn made or changed."""

    name: str
    type: str
    detail: str = ""
    """Shape, length, columns: what the type calls for."""
    new: bool = True
    """It was not there when the turn began."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariablesSeen:
    """All variables that the turn has made or changed so far, sorted by name; in place of what was seen before."""

    variables: tuple[VariableSeen, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedVariable:
    """A variable of the notebook of which the managed kernel got a copy."""

    name: str
    bytes: int
    """How much went over."""
    sha256: str = ""
    """Of its pickled form, hexadecimal."""
    module: bool = False
    """It was an import, which went over as one."""
    before: str = ""
    """What the agent's variable of that name is called now; both had changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedVariable:
    """A variable of the notebook that could not go over."""

    name: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VariablesShared:
    """Copies of the notebook's variables went over into the managed kernel, for the cell that is about to run."""

    shared: tuple[SharedVariable, ...] = ()
    refused: tuple[RefusedVariable, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangesSeen:
    """What cells have changed so far outside of variables, in one line; in place of what was seen before."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeKept:
    """The turn's code is kept, and runs without a model when its cell is run again; how it differs from before."""

    sha256: str
    cells: int
    diff: str = ""
    """As a unified diff; empty when nothing was kept before, or nothing of it was changed."""


HostActivity: TypeAlias = (
    TurnStarted
    | CodeDelta
    | CodeBlockStarted
    | CellOutputs
    | CodeBlockCompleted
    | CallPrice
    | CodeKept
    | ApprovalAsked
    | ApprovalDecided
    | VariablesSeen
    | VariablesShared
    | ChangesSeen
)
