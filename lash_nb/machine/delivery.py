"""What a checkpoint delivery becomes: which messages are taken, and in which form (`reference/turn-machine.md` 1.9)."""

from __future__ import annotations

from dataclasses import replace

from .messages import (
    Message,
    MessageRole,
    Part,
    PartAttachment,
    PartKind,
    PluginMessage,
    PluginOrigin,
    TurnCause,
)

__all__ = ["cause_message", "delivered_message", "wanted"]


def wanted(message: PluginMessage) -> bool:
    """Only User and System messages may be delivered; others are dropped."""
    return message.role in (MessageRole.USER, MessageRole.SYSTEM)


def delivered_message(message: PluginMessage, message_id: str, *, transient: bool) -> Message:
    """The message under the machine's id: its parts or its content, then its attachments, all renumbered."""
    parts = list(message.parts)
    if not parts and message.content:
        parts.append(Part(id="", kind=PartKind.TEXT, content=message.content))
    parts.extend(
        Part(id="", kind=PartKind.ATTACHMENT, content="", attachment=PartAttachment(source=source))
        for source in message.attachments
    )
    return Message(
        id=message_id,
        role=message.role,
        parts=tuple(replace(part, id=f"{message_id}.p{index}") for index, part in enumerate(parts)),
        origin=message.origin or PluginOrigin(plugin_id="plugin", transient=transient),
    )


def cause_message(cause: TurnCause) -> Message:
    """The Event message that stands for a cause in the conversation."""
    return Message(
        id=cause.id,
        role=MessageRole.EVENT,
        parts=(Part(id=f"{cause.id}.p0", kind=PartKind.TEXT, content=cause.text),),
        origin=cause.origin,
    )
