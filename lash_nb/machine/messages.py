"""What a conversation is made of: messages, their parts, where they come from, and the sequence that shares them.

Wire layout: `reference/turn-machine.md` 1.15.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from .attachments import (
    ATTACHMENT_SOURCE,
    AttachmentRef,
    AttachmentSource,
    AttachmentStore,
    AttachmentWriter,
    ExternalUrl,
    InlineAttachment,
    ProviderFile,
    StoredAttachment,
)
from .causes import (
    CAUSAL_REF,
    CausalRef,
    EffectRef,
    ProcessEventRef,
    ProcessRef,
    SessionNodeRef,
    ToolCallRef,
    TriggerOccurrenceRef,
    TurnRef,
)
from .sequences import AppendOnly
from .wire import (
    BOOLEAN,
    STRING,
    U64,
    Codec,
    Field,
    array,
    enum,
    externally_tagged,
    internally_tagged,
    omit_empty,
    omit_none,
    struct,
)

__all__ = [
    "CAUSAL_REF",
    "MESSAGE",
    "MESSAGES",
    "PLUGIN_MESSAGE",
    "REASONING_REPLAY",
    "REPLAY_META",
    "RESPONSE_TEXT_META",
    "TURN_CAUSE",
    "AppendOnly",
    "AttachmentRef",
    "AttachmentSource",
    "AttachmentStore",
    "AttachmentWriter",
    "CausalRef",
    "Deleted",
    "EffectRef",
    "ExternalUrl",
    "InlineAttachment",
    "Message",
    "MessageOrigin",
    "MessageRole",
    "MessageSequence",
    "Part",
    "PartAttachment",
    "PartKind",
    "PluginMessage",
    "PluginOrigin",
    "ProcessEventRef",
    "ProcessOrigin",
    "ProcessRef",
    "ProviderFile",
    "ProviderReasoningReplay",
    "ProviderReplayMeta",
    "PruneMark",
    "PruneState",
    "ResponseTextMeta",
    "SessionNodeRef",
    "StoredAttachment",
    "Summarized",
    "ToolCallRef",
    "TriggerOccurrenceRef",
    "TurnCause",
    "TurnRef",
]


class MessageRole(StrEnum):
    """Whose message it is; `Event` is something that happened outside the conversation."""

    USER = "User"
    ASSISTANT = "Assistant"
    SYSTEM = "System"
    EVENT = "Event"


class PartKind(StrEnum):
    """What a part is; the projector decides how each kind reaches the model."""

    TEXT = "Text"
    ATTACHMENT = "Attachment"
    CODE = "Code"
    OUTPUT = "Output"
    ERROR = "Error"
    PROSE = "Prose"
    TOOL_CALL = "ToolCall"
    TOOL_RESULT = "ToolResult"
    REASONING = "Reasoning"


class PruneMark(StrEnum):
    """Whether a part's content still stands: the two states without data."""

    INTACT = "Intact"
    CLEARED = "Cleared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deleted:
    """The part's content was archived; only a breadcrumb reaches the model."""

    breadcrumb: str
    archive_hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Summarized:
    """The part's content was replaced by a summary."""

    summary: str
    archive_hash: str


PruneState: TypeAlias = PruneMark | Deleted | Summarized


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderReplayMeta:
    """What a provider wants to see again beside a tool call."""

    item_id: str | None = None
    opaque: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderReasoningReplay:
    """What a provider wants to see again of its own reasoning."""

    item_id: str | None = None
    encrypted_content: str | None = None
    signature: str | None = None
    redacted: bool = False
    summary: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ResponseTextMeta:
    """What a provider said of a text part (its id, its phase)."""

    id: str | None = None
    status: str | None = None
    phase: str | None = None
    provider_payload: str | None = None
    """The provider's own; nothing here reads it."""
    origin_provider: str | None = None
    origin_model: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartAttachment:
    """An attachment as a part of a message."""

    source: AttachmentSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One piece of a message."""

    id: str
    """`{message_id}.p{index}`."""
    kind: PartKind
    content: str
    attachment: PartAttachment | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None
    tool_replay: ProviderReplayMeta | None = None
    prune_state: PruneState = PruneMark.INTACT
    reasoning_meta: ProviderReasoningReplay | None = None
    response_meta: ResponseTextMeta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginOrigin:
    """The message was put in by a plugin (or by the host at a checkpoint)."""

    plugin_id: str
    transient: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessOrigin:
    """The message reports an event of a process."""

    process_id: str
    event_type: str
    sequence: int
    wake_id: str | None = None
    caused_by: CausalRef | None = None


MessageOrigin: TypeAlias = PluginOrigin | ProcessOrigin


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of the conversation."""

    id: str
    role: MessageRole
    parts: tuple[Part, ...]
    origin: MessageOrigin | None = None


MessageSequence: TypeAlias = AppendOnly[Message]


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginMessage:
    """A message that the host or a plugin delivers at a checkpoint; the machine gives it its id."""

    id: str | None = None
    role: MessageRole
    content: str
    origin: MessageOrigin | None = None
    parts: tuple[Part, ...] = ()
    attachments: tuple[AttachmentSource, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCause:
    """Something that happened and that this turn is to react to."""

    id: str
    event_type: str
    origin: MessageOrigin
    text: str


# -- tables ------------------------------------------------------------------------------------------------------------


def _optional_strings(*names: str) -> dict[str, Field]:
    return {name: omit_none(STRING) for name in names}


REPLAY_META: Codec[ProviderReplayMeta] = struct(ProviderReplayMeta, **_optional_strings("item_id", "opaque"))
REASONING_REPLAY: Codec[ProviderReasoningReplay] = struct(
    ProviderReasoningReplay,
    **_optional_strings("item_id", "encrypted_content", "signature"),
    redacted=omit_empty(BOOLEAN, False),
    summary=omit_empty(array(STRING)),
)
RESPONSE_TEXT_META: Codec[ResponseTextMeta] = struct(
    ResponseTextMeta,
    **_optional_strings("id", "status", "phase", "provider_payload", "origin_provider", "origin_model"),
)
_PRUNE_STATE: Codec[PruneState] = externally_tagged(
    "prune state",
    {
        "Intact": (PruneMark.INTACT, None),
        "Cleared": (PruneMark.CLEARED, None),
        "Deleted": (Deleted, struct(Deleted, breadcrumb=STRING, archive_hash=STRING)),
        "Summarized": (Summarized, struct(Summarized, summary=STRING, archive_hash=STRING)),
    },
)
_PART: Codec[Part] = struct(
    Part,
    id=STRING,
    kind=enum(PartKind),
    content=STRING,
    attachment=omit_none(struct(PartAttachment, source=ATTACHMENT_SOURCE)),
    tool_call_id=omit_none(STRING),
    tool_name=omit_none(STRING),
    tool_replay=omit_none(REPLAY_META),
    prune_state=_PRUNE_STATE,
    reasoning_meta=omit_none(REASONING_REPLAY),
    response_meta=omit_none(RESPONSE_TEXT_META),
)
_ORIGIN: Codec[MessageOrigin] = internally_tagged(
    "message origin",
    "kind",
    {
        "plugin": (
            PluginOrigin,
            struct(PluginOrigin, plugin_id=STRING, transient=omit_empty(BOOLEAN, False)),
        ),
        "process": (
            ProcessOrigin,
            struct(
                ProcessOrigin,
                process_id=STRING,
                event_type=STRING,
                sequence=U64,
                wake_id=omit_none(STRING),
                caused_by=omit_none(CAUSAL_REF),
            ),
        ),
    },
)
MESSAGE: Codec[Message] = struct(
    Message, id=STRING, role=enum(MessageRole), parts=array(_PART), origin=omit_none(_ORIGIN)
)
MESSAGES: Codec[Any] = array(MESSAGE, AppendOnly)
PLUGIN_MESSAGE: Codec[PluginMessage] = struct(
    PluginMessage,
    id=omit_none(STRING),
    role=enum(MessageRole),
    content=STRING,
    origin=omit_none(_ORIGIN),
    parts=omit_empty(array(_PART)),
    attachments=omit_empty(array(ATTACHMENT_SOURCE)),
)
TURN_CAUSE: Codec[TurnCause] = struct(TurnCause, id=STRING, event_type=STRING, origin=_ORIGIN, text=STRING)
