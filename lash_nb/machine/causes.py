"""What can be named as the cause of a message or a node: a turn, an effect, a call, a process, a trigger, a node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from .wire import STRING, U64, Codec, internally_tagged, omit_none, struct

__all__ = [
    "CAUSAL_REF",
    "CausalRef",
    "EffectRef",
    "ProcessEventRef",
    "ProcessRef",
    "SessionNodeRef",
    "ToolCallRef",
    "TriggerOccurrenceRef",
    "TurnRef",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRef:
    """A turn, as a cause."""

    session_id: str
    turn_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectRef:
    """An effect, as a cause."""

    session_id: str
    turn_id: str | None = None
    effect_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallRef:
    """A tool call, as a cause."""

    session_id: str
    call_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRef:
    """A process, as a cause."""

    process_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessEventRef:
    """One event of a process, as a cause."""

    process_id: str
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerOccurrenceRef:
    """One firing of a trigger, as a cause."""

    occurrence_id: str
    subscription_id: str | None = None
    subscription_incarnation: str | None = None
    subscription_revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionNodeRef:
    """A node of a session's graph, as a cause."""

    session_id: str
    node_id: str


CausalRef: TypeAlias = (
    TurnRef | EffectRef | ToolCallRef | ProcessRef | ProcessEventRef | TriggerOccurrenceRef | SessionNodeRef
)


CAUSAL_REF: Codec[CausalRef] = internally_tagged(
    "causal reference",
    "type",
    {
        "turn": (TurnRef, struct(TurnRef, session_id=STRING, turn_id=STRING)),
        "effect": (
            EffectRef,
            struct(EffectRef, session_id=STRING, turn_id=omit_none(STRING), effect_id=STRING),
        ),
        "tool_call": (ToolCallRef, struct(ToolCallRef, session_id=STRING, call_id=STRING)),
        "process": (ProcessRef, struct(ProcessRef, process_id=STRING)),
        "process_event": (ProcessEventRef, struct(ProcessEventRef, process_id=STRING, sequence=U64)),
        "trigger_occurrence": (
            TriggerOccurrenceRef,
            struct(
                TriggerOccurrenceRef,
                occurrence_id=STRING,
                subscription_id=omit_none(STRING),
                subscription_incarnation=omit_none(STRING),
                subscription_revision=omit_none(U64),
            ),
        ),
        "session_node": (SessionNodeRef, struct(SessionNodeRef, session_id=STRING, node_id=STRING)),
    },
)
