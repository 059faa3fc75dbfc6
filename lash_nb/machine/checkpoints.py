"""The machine's pauses: when it stops for the host, what the host may deliver, what follows when it delivers nothing.

"Checkpoint" alone is this effect; the serialised turn is a `TurnCheckpoint` (`state.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from .messages import MESSAGE, PLUGIN_MESSAGE, TURN_CAUSE, Message, PluginMessage, TurnCause
from .outcomes import TURN_OUTCOME, TurnOutcome
from .wire import Codec, array, defaulted, enum, externally_tagged, struct, wrapper

__all__ = [
    "CHECKPOINT_DELIVERY",
    "CHECKPOINT_KIND",
    "RESUME_ACTION",
    "CheckpointDelivery",
    "CheckpointKind",
    "CheckpointResumeAction",
    "FinishWith",
    "ResumeAction",
]


class CheckpointKind(StrEnum):
    """When the machine pauses."""

    AFTER_WORK = "after_work"
    """After tool or cell work, before the next model call."""
    BEFORE_COMPLETION = "before_completion"
    """Before the turn finishes."""


class ResumeAction(StrEnum):
    """What follows an empty delivery: the one without data."""

    PREPARE_ITERATION = "PrepareIteration"


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishWith:
    """After an empty delivery the turn finishes with this outcome."""

    outcome: TurnOutcome


CheckpointResumeAction: TypeAlias = ResumeAction | FinishWith


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointDelivery:
    """What the host puts into the conversation at a checkpoint; empty = go on."""

    committed_user_messages: tuple[Message, ...] = ()
    messages: tuple[PluginMessage, ...] = ()
    transient_messages: tuple[PluginMessage, ...] = ()
    turn_causes: tuple[TurnCause, ...] = ()

    def __bool__(self) -> bool:
        """True when any of the four lists holds something, also if all of it will be filtered out (Q4)."""
        return bool(self.committed_user_messages or self.messages or self.transient_messages or self.turn_causes)


CHECKPOINT_KIND: Codec[CheckpointKind] = enum(CheckpointKind)
RESUME_ACTION: Codec[CheckpointResumeAction] = externally_tagged(
    "resume action",
    {
        "PrepareIteration": (ResumeAction.PREPARE_ITERATION, None),
        "Finish": (FinishWith, wrapper(FinishWith, "outcome", TURN_OUTCOME)),
    },
)
CHECKPOINT_DELIVERY: Codec[CheckpointDelivery] = struct(
    CheckpointDelivery,
    committed_user_messages=defaulted(array(MESSAGE)),
    messages=array(PLUGIN_MESSAGE),
    transient_messages=array(PLUGIN_MESSAGE),
    turn_causes=array(TURN_CAUSE),
)
