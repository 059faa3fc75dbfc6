"""What of a conversation reaches the model, and in which form.

`ChatProjector` is the reference's default (`reference/turn-machine.md` 1.13): system prompt, messages in order, and one
last User message for the causes of the turn. Projectors walk messages, never events (Q5).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from .attachments import AttachmentSource
from .config import TurnMachineConfig
from .llm import (
    AttachmentBlock,
    LlmContentBlock,
    LlmMessage,
    LlmRequest,
    LlmRequestScope,
    LlmRole,
    LlmToolChoice,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from .messages import (
    Deleted,
    Message,
    MessageOrigin,
    MessageRole,
    MessageSequence,
    Part,
    PartKind,
    PluginOrigin,
    ProviderReasoningReplay,
    PruneMark,
    Summarized,
    TurnCause,
)
from .wire import trimmed

__all__ = [
    "ChatProjector",
    "ContextProjector",
    "Projection",
    "render_causes",
    "render_message",
    "request_for",
]

_CLEARED = "[Old tool result content cleared]"
_NO_REPLAY = ProviderReasoningReplay()


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """What a projector works from."""

    config: TurnMachineConfig[Any, Any, Any]
    messages: MessageSequence
    turn_causes: Sequence[TurnCause]
    protocol_iteration: int
    use_tools: bool


class ContextProjector(Protocol):
    """Makes one model request of a conversation."""

    def project(self, projection: Projection) -> LlmRequest: ...


class ChatProjector:
    """System prompt, messages, turn events."""

    def project(self, projection: Projection) -> LlmRequest:
        """One request; messages without content are left out, so are Event messages whose cause is active."""
        out: list[LlmMessage] = []
        attachments: list[AttachmentSource] = []
        prompt = projection.config.system_prompt
        if trimmed(prompt):
            out.append(LlmMessage(role=LlmRole.SYSTEM, blocks=(TextBlock(text=prompt),)))
        active = {cause.id for cause in projection.turn_causes}
        for message in projection.messages:
            if message.role is MessageRole.EVENT and message.id in active:
                continue
            rendered = render_message(message, attachments)
            if rendered is not None:
                out.append(rendered)
        if projection.turn_causes:
            text = render_causes(projection.turn_causes)
            out.append(LlmMessage(role=LlmRole.USER, blocks=(TextBlock(text=text),)))
        return request_for(projection, tuple(out), tuple(attachments))


def request_for(
    projection: Projection, messages: tuple[LlmMessage, ...], attachments: tuple[AttachmentSource, ...]
) -> LlmRequest:
    """The request with everything that comes from the config."""
    config, iteration = projection.config, projection.protocol_iteration
    return LlmRequest(
        model=config.model,
        messages=messages,
        attachments=attachments,
        tools=config.tool_specs if projection.use_tools else (),
        tool_choice=LlmToolChoice.AUTO if projection.use_tools else LlmToolChoice.NONE,
        model_variant=config.model_variant,
        model_capability=config.model_capability,
        generation=config.generation,
        scope=LlmRequestScope(
            session_id=config.session_id,
            agent_frame_id=f"{config.session_id}:frame:sansio",
            request_id=f"{config.session_id}:sansio:llm:{iteration}",
        ),
    )


def render_message(message: Message, attachments: list[AttachmentSource]) -> LlmMessage | None:
    """One message for the model, or None when nothing of it is left; User attachments go into `attachments`."""
    blocks: list[LlmContentBlock] = []
    for part in message.parts:
        block = _render_part(message.role, part, attachments)
        if block is not None:
            blocks.append(block)
    if not blocks:
        return None
    role = LlmRole.USER if message.role is MessageRole.EVENT else LlmRole(message.role.value)
    return LlmMessage(role=role, blocks=tuple(blocks))


def _render_part(role: MessageRole, part: Part, attachments: list[AttachmentSource]) -> LlmContentBlock | None:
    match part.kind:
        case PartKind.REASONING:
            replay = part.reasoning_meta
            if replay is None or replay == _NO_REPLAY:
                return None  # text that was only shown never goes back to the model
            return ReasoningBlock(text=part.content, replay=replay)
        case PartKind.TOOL_CALL:
            return ToolCallBlock(
                call_id=part.tool_call_id or "",
                tool_name=part.tool_name or "",
                input_json=part.content,
                replay=part.tool_replay,
            )
        case PartKind.TOOL_RESULT:
            return ToolResultBlock(call_id=part.tool_call_id or "", content=_pruned(part), tool_name=part.tool_name)
        case PartKind.ATTACHMENT if part.attachment is not None and role is MessageRole.USER:
            attachments.append(part.attachment.source)
            return AttachmentBlock(attachment_idx=len(attachments) - 1)
    text = _wrapped(role, part.kind, _attachment_text(part) if part.kind is PartKind.ATTACHMENT else _pruned(part))
    if not trimmed(text):
        return None
    return TextBlock(
        text=_NOTES.get(role, "") + text,
        response_meta=part.response_meta if part.kind in _PROSE_KINDS else None,
    )


_PROSE_KINDS = (PartKind.PROSE, PartKind.TEXT)


_NOTES = {MessageRole.EVENT: "Runtime event:\n", MessageRole.SYSTEM: "Runtime note:\n"}
"""System and Event texts say what they are."""


def _wrapped(role: MessageRole, kind: PartKind, text: str) -> str:
    """Outputs and errors that the runtime tells of are marked, also when there is nothing in them."""
    if role is MessageRole.SYSTEM and kind is PartKind.OUTPUT:
        return f"<output>\n{text}\n</output>"
    if role is MessageRole.SYSTEM and kind is PartKind.ERROR:
        return f"<error>\n{text}\n</error>"
    return text


def _attachment_text(part: Part) -> str:
    """What stands for an attachment that is not sent; its own text only where there is no attachment."""
    return "[Attachment]" if part.attachment is not None or not trimmed(part.content) else part.content


def _pruned(part: Part) -> str:
    match part.prune_state:
        case PruneMark.INTACT:
            return part.content
        case PruneMark.CLEARED:
            return _CLEARED
        case Deleted(breadcrumb=breadcrumb, archive_hash=archive_hash):
            return f"[pruned:{archive_hash} — {breadcrumb}]"
        case Summarized(summary=summary, archive_hash=archive_hash):
            return f"[SUMMARY of original {archive_hash}]\n{summary}"


def render_causes(causes: Sequence[TurnCause]) -> str:
    """The causes of a turn as one text."""
    sections = ["=== TURN EVENTS ==="]
    for index, cause in enumerate(causes):
        head = f"--- event[{index}] · {cause.event_type} · {cause.id} ---"
        sections.append(f"{head}\nOrigin: {_origin(cause.origin)}\n\n{trimmed(cause.text)}")
    return "\n\n".join(sections)


def _origin(origin: MessageOrigin) -> str:
    if isinstance(origin, PluginOrigin):
        return f"plugin {origin.plugin_id}{' (transient)' if origin.transient else ''}"
    wake = "" if origin.wake_id is None else f" ({origin.wake_id})"
    return f"process {origin.process_id} {origin.event_type} #{origin.sequence}{wake}"
