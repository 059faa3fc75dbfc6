"""What requests and answers are made of: the blocks of a prompt, the parts of a model's output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from .messages import (
    REASONING_REPLAY,
    REPLAY_META,
    RESPONSE_TEXT_META,
    ProviderReasoningReplay,
    ProviderReplayMeta,
    ResponseTextMeta,
)
from .wire import BOOLEAN, STRING, U64, Codec, Field, externally_tagged, nullable, struct

__all__ = [
    "CONTENT_BLOCK",
    "OUTPUT_PART",
    "AttachmentBlock",
    "LlmContentBlock",
    "LlmOutputPart",
    "ReasoningBlock",
    "ReasoningOutput",
    "TextBlock",
    "TextOutput",
    "ToolCallBlock",
    "ToolCallOutputPart",
    "ToolResultBlock",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBlock:
    """Text; a cache breakpoint asks the provider to cache the prompt up to here."""

    text: str
    response_meta: ResponseTextMeta | None = None
    cache_breakpoint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentBlock:
    """An attachment, as an index into the request's `attachments`."""

    attachment_idx: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallBlock:
    """A tool call that the model made earlier."""

    call_id: str
    tool_name: str
    input_json: str
    replay: ProviderReplayMeta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResultBlock:
    """The answer to an earlier tool call."""

    call_id: str
    content: str
    tool_name: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningBlock:
    """Earlier reasoning, replayed because the provider needs it."""

    text: str
    replay: ProviderReasoningReplay | None = None


LlmContentBlock: TypeAlias = TextBlock | AttachmentBlock | ToolCallBlock | ToolResultBlock | ReasoningBlock


@dataclass(frozen=True, slots=True, kw_only=True)
class TextOutput:
    """Text that the model wrote."""

    text: str
    response_meta: ResponseTextMeta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReasoningOutput:
    """Reasoning that the model showed, and what its provider wants back."""

    text: str
    replay: ProviderReasoningReplay | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallOutputPart:
    """A tool call that the model makes; `input_json` is text and may be broken."""

    call_id: str
    tool_name: str
    input_json: str
    replay: ProviderReplayMeta | None = None


LlmOutputPart: TypeAlias = TextOutput | ReasoningOutput | ToolCallOutputPart


_TEXT: dict[str, Codec[Any] | Field] = {"text": STRING, "response_meta": nullable(RESPONSE_TEXT_META)}
_TOOL_CALL: dict[str, Codec[Any] | Field] = {
    "call_id": STRING,
    "tool_name": STRING,
    "input_json": STRING,
    "replay": nullable(REPLAY_META),
}
_REASONING: dict[str, Codec[Any] | Field] = {"text": STRING, "replay": nullable(REASONING_REPLAY)}
CONTENT_BLOCK: Codec[LlmContentBlock] = externally_tagged(
    "content block",
    {
        "Text": (TextBlock, struct(TextBlock, **_TEXT, cache_breakpoint=BOOLEAN)),
        "Attachment": (AttachmentBlock, struct(AttachmentBlock, attachment_idx=U64)),
        "ToolCall": (ToolCallBlock, struct(ToolCallBlock, **_TOOL_CALL)),
        "ToolResult": (
            ToolResultBlock,
            struct(ToolResultBlock, call_id=STRING, content=STRING, tool_name=nullable(STRING)),
        ),
        "Reasoning": (ReasoningBlock, struct(ReasoningBlock, **_REASONING)),
    },
)
OUTPUT_PART: Codec[LlmOutputPart] = externally_tagged(
    "output part",
    {
        "Text": (TextOutput, struct(TextOutput, **_TEXT)),
        "Reasoning": (ReasoningOutput, struct(ReasoningOutput, **_REASONING)),
        "ToolCall": (ToolCallOutputPart, struct(ToolCallOutputPart, **_TOOL_CALL)),
    },
)
