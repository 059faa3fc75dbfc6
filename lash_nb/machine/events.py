"""What happens in a turn, as records: stream events (the reference's), host activity (ours), and history records.

`SessionStreamEvent` is what the machine emits; `TurnActivity` adds what only the host can see (a cell that starts, its
outputs, its end). Views and journals read `TurnActivity`. `SessionEventRecord` is durable history: a message of the
conversation, or a record of the protocol's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from .activity import CallPrice, CellOutputs, CodeBlockCompleted, CodeBlockStarted, CodeDelta, HostActivity, TurnStarted
from .checkpoints import CHECKPOINT_KIND, CheckpointKind
from .llm import LLM_USAGE, LlmTerminalReason, ProviderFailureKind, TokenUsage
from .messages import MESSAGE, PLUGIN_MESSAGE, Message, PluginMessage
from .outcomes import TURN_OUTCOME, TurnOutcome
from .sums import Variants
from .tool_calls import TOOL_CALL_OUTPUT, ToolCallOutput
from .wire import (
    BOOLEAN,
    JSON,
    STRING,
    U64,
    Codec,
    Field,
    Json,
    array,
    enum,
    externally_tagged,
    internally_tagged,
    omit_none,
    struct,
    wrapper,
)

__all__ = [
    "STREAM_EVENT",
    "STREAM_EVENTS",
    "CallPrice",
    "CellOutputs",
    "ChildTokenUsageEvent",
    "CodeBlockCompleted",
    "CodeBlockStarted",
    "CodeDelta",
    "Conversation",
    "CustomRuntimeEvent",
    "DoneEvent",
    "ErrorEnvelope",
    "ErrorEvent",
    "HostActivity",
    "InjectedInput",
    "InjectedMessagesCommitted",
    "InjectedTurnInputAccepted",
    "LlmRequestEvent",
    "LlmResponseEvent",
    "MessageEvent",
    "PluginEvent",
    "PluginRuntimeEvent",
    "ProtocolRecord",
    "ReasoningDelta",
    "RetryStatus",
    "SessionEventRecord",
    "SessionStreamEvent",
    "StatusRuntimeEvent",
    "TextDelta",
    "TokenUsageEvent",
    "ToolCallEvent",
    "ToolCallStart",
    "TurnActivity",
    "TurnOutcomeEvent",
    "TurnStarted",
    "event_record_codec",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorEnvelope:
    """What is known of an error, beside the sentence for people."""

    kind: str
    code: str | None = None
    terminal_reason: LlmTerminalReason | None = None
    user_message: str
    raw: str | None = None
    retryable: bool | None = None
    provider_failure_kind: ProviderFailureKind | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TextDelta:
    """Prose of the model, as it comes."""

    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningDelta:
    """Reasoning of the model, as it comes."""

    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallEvent:
    """A tool call that ended."""

    call_id: str | None = None
    name: str
    args: Json
    output: ToolCallOutput
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallStart:
    """A tool call that began."""

    call_id: str | None = None
    name: str
    args: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageEvent:
    """A text of a named kind (a protocol's code, for one)."""

    text: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmRequestEvent:
    """A model call is about to be made."""

    protocol_iteration: int
    message_count: int
    tool_list: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmResponseEvent:
    """A model call ended."""

    protocol_iteration: int
    content: str
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenUsageEvent:
    """Tokens of the last call, and of the turn so far."""

    protocol_iteration: int
    usage: TokenUsage
    cumulative: TokenUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildTokenUsageEvent:
    """Tokens that a child session used."""

    session_id: str
    source: str
    model: str
    protocol_iteration: int
    usage: TokenUsage
    cumulative: TokenUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryStatus:
    """A failed call will be made again."""

    wait_seconds: int
    attempt: int
    max_attempts: int
    reason: str
    envelope: ErrorEnvelope | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedInput:
    """One input that was queued for a running turn."""

    id: str | None = None
    message: PluginMessage


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedTurnInputAccepted:
    """Queued input was taken at a checkpoint."""

    inputs: tuple[InjectedInput, ...]
    checkpoint: CheckpointKind


@dataclass(frozen=True, slots=True, kw_only=True)
class InjectedMessagesCommitted:
    """Delivered messages became part of the conversation."""

    messages: tuple[PluginMessage, ...]
    checkpoint: CheckpointKind


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusRuntimeEvent:
    """A plugin's status line."""

    key: str
    label: str
    detail: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomRuntimeEvent:
    """A plugin's own event."""

    name: str
    payload: Json


PluginRuntimeEvent: TypeAlias = StatusRuntimeEvent | CustomRuntimeEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginEvent:
    """Something a plugin says."""

    plugin_id: str
    event: PluginRuntimeEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOutcomeEvent:
    """How the turn ended."""

    outcome: TurnOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class DoneEvent:
    """Nothing more will be emitted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorEvent:
    """An error, for people."""

    message: str
    envelope: ErrorEnvelope | None = None


SessionStreamEvent: TypeAlias = (
    TextDelta
    | ReasoningDelta
    | ToolCallEvent
    | ToolCallStart
    | MessageEvent
    | LlmRequestEvent
    | LlmResponseEvent
    | TokenUsageEvent
    | ChildTokenUsageEvent
    | RetryStatus
    | InjectedTurnInputAccepted
    | InjectedMessagesCommitted
    | PluginEvent
    | TurnOutcomeEvent
    | DoneEvent
    | ErrorEvent
)


TurnActivity: TypeAlias = SessionStreamEvent | HostActivity


# -- history -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A message of the conversation, as durable history."""

    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolRecord:
    """A record of the protocol's own; its type is the protocol's `Event`."""

    event: Any


SessionEventRecord: TypeAlias = Conversation | ProtocolRecord
"""The reference's snapshot calls it `SessionHistoryRecord`; the JSON is the same."""


# -- tables ------------------------------------------------------------------------------------------------------------


def event_record_codec(event: Codec[Any]) -> Codec[SessionEventRecord]:
    """The codec of history records for a protocol whose events are written by `event`."""
    return externally_tagged(
        "history record",
        {
            "Conversation": (Conversation, wrapper(Conversation, "message", MESSAGE)),
            "Protocol": (ProtocolRecord, wrapper(ProtocolRecord, "event", event)),
        },
    )


_ENVELOPE: Codec[ErrorEnvelope] = struct(
    ErrorEnvelope,
    kind=STRING,
    code=omit_none(STRING),
    terminal_reason=omit_none(enum(LlmTerminalReason)),
    user_message=STRING,
    raw=omit_none(STRING),
    retryable=omit_none(BOOLEAN),
    provider_failure_kind=omit_none(enum(ProviderFailureKind, unknown=ProviderFailureKind.UNKNOWN)),
)
_RUNTIME_EVENT: Codec[PluginRuntimeEvent] = internally_tagged(
    "plugin event",
    "kind",
    {
        "status": (
            StatusRuntimeEvent,
            struct(StatusRuntimeEvent, key=STRING, label=STRING, detail=omit_none(STRING)),
        ),
        "custom": (CustomRuntimeEvent, struct(CustomRuntimeEvent, name=STRING, payload=JSON)),
    },
)
_INPUT = struct(InjectedInput, id=omit_none(STRING), message=PLUGIN_MESSAGE)
_USAGE: dict[str, Codec[Any] | Field] = {
    "protocol_iteration": U64,
    "usage": LLM_USAGE,
    "cumulative": LLM_USAGE,
}
_CALL: dict[str, Codec[Any] | Field] = {"call_id": omit_none(STRING), "name": STRING, "args": JSON}
STREAM_EVENTS: Variants = {
    "text_delta": (TextDelta, struct(TextDelta, content=STRING)),
    "reasoning_delta": (ReasoningDelta, struct(ReasoningDelta, content=STRING)),
    "tool_call": (
        ToolCallEvent,
        struct(ToolCallEvent, **_CALL, output=TOOL_CALL_OUTPUT, duration_ms=U64),
    ),
    "tool_call_start": (ToolCallStart, struct(ToolCallStart, **_CALL)),
    "message": (MessageEvent, struct(MessageEvent, text=STRING, kind=STRING)),
    "llm_request": (
        LlmRequestEvent,
        struct(LlmRequestEvent, protocol_iteration=U64, message_count=U64, tool_list=STRING),
    ),
    "llm_response": (
        LlmResponseEvent,
        struct(LlmResponseEvent, protocol_iteration=U64, content=STRING, duration_ms=U64),
    ),
    "token_usage": (TokenUsageEvent, struct(TokenUsageEvent, **_USAGE)),
    "child_token_usage": (
        ChildTokenUsageEvent,
        struct(ChildTokenUsageEvent, session_id=STRING, source=STRING, model=STRING, **_USAGE),
    ),
    "retry_status": (
        RetryStatus,
        struct(
            RetryStatus,
            wait_seconds=U64,
            attempt=U64,
            max_attempts=U64,
            reason=STRING,
            envelope=omit_none(_ENVELOPE),
        ),
    ),
    "injected_turn_input_accepted": (
        InjectedTurnInputAccepted,
        struct(InjectedTurnInputAccepted, inputs=array(_INPUT), checkpoint=CHECKPOINT_KIND),
    ),
    "injected_messages_committed": (
        InjectedMessagesCommitted,
        struct(InjectedMessagesCommitted, messages=array(PLUGIN_MESSAGE), checkpoint=CHECKPOINT_KIND),
    ),
    "plugin_event": (PluginEvent, struct(PluginEvent, plugin_id=STRING, event=_RUNTIME_EVENT)),
    "turn_outcome": (TurnOutcomeEvent, struct(TurnOutcomeEvent, outcome=TURN_OUTCOME)),
    "done": (DoneEvent, None),
    "error": (ErrorEvent, struct(ErrorEvent, message=STRING, envelope=omit_none(_ENVELOPE))),
}
"""By their tags; `STREAM_EVENT` writes them, `activities.py` writes them beside the host's."""
STREAM_EVENT: Codec[SessionStreamEvent] = internally_tagged("stream event", "type", STREAM_EVENTS)
