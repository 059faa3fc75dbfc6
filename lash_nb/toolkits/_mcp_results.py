"""What came of a call of a server's tool: its result as a tool value, its failure as a typed one.

Decided here: structured content is the value; else texts are one text, and where there is more, the parts in their
order. Images, audio and binary resources become attachments in the store; without a store small ones stay inline and
big ones are told of. A link is text: nothing is fetched. Nothing that a server sends can pass for an attachment.
"""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, TypeAlias

from ..errors import DecodeError
from ..machine.attachments import ATTACHMENT_SOURCE, MEDIA_TYPE, AttachmentSource, InlineAttachment, StoredAttachment
from ..machine.tool_calls import (
    RESERVED_KEY,
    TOOL_VALUE,
    RetryDisposition,
    RetryNever,
    RetrySafe,
    ToolCallOutput,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
    ToolSucceeded,
)
from ..machine.wire import Json
from ..trust import whole_text
from . import ToolSurroundings
from ._mcp_words import one_line, shown, whole

if TYPE_CHECKING:
    import mcp_types as foreign

    _Resource: TypeAlias = foreign.TextResourceContents | foreign.BlobResourceContents

__all__ = ["failed", "output_of"]

MAX_INLINE_BYTES = 64 * 1024
MAX_MESSAGE = 10_000
_ANY = "application/octet-stream"


def failed(
    kind: ToolFailureClass,
    code: str,
    message: str,
    *,
    again: bool = False,
    source: ToolFailureSource = ToolFailureSource.TOOL,
    raw: Json = None,
) -> ToolCallOutput:
    """A call that failed; `again`: it may be made once more."""
    retry: RetryDisposition = RetrySafe() if again else RetryNever()
    return ToolCallOutput(
        outcome=ToolFailed(
            payload=ToolFailure(class_=kind, code=code, message=message, source=source, retry=retry, raw=raw)
        )
    )


def output_of(result: foreign.CallToolResult, around: ToolSurroundings) -> ToolCallOutput:
    """The outcome of a call that was answered."""
    if result.is_error:
        words = "\n".join(part for part in map(_words, result.content) if part)
        message = shown(words, MAX_MESSAGE) or "the tool failed, and its server does not say why"
        return failed(ToolFailureClass.EXTERNAL, "tool_error", message)
    try:
        return ToolCallOutput(outcome=ToolSucceeded(payload=TOOL_VALUE.encode(_value(result, around))))
    except DecodeError as error:
        message = f"the server's result cannot be kept: {error}"
        return failed(ToolFailureClass.EXTERNAL, "bad_result", message)


def _value(result: foreign.CallToolResult, around: ToolSurroundings) -> Any:
    parts = [_part(block, around) for block in result.content]
    attached = [part for part in parts if not isinstance(part, str)]
    if result.structured_content is not None:
        structured = _escaped(whole(result.structured_content))
        return [structured, *attached] if attached else structured
    if not attached:
        return "\n".join(str(part) for part in parts) if parts else None
    return parts[0] if len(parts) == 1 else parts


def _escaped(value: Any) -> Any:
    """The server's own objects stay objects, also where they look like an attachment of ours."""
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    if not isinstance(value, dict):
        return value
    entries = {key: _escaped(item) for key, item in value.items()}
    return {RESERVED_KEY: "object", "entries": entries} if RESERVED_KEY in entries else entries


def _part(block: foreign.ContentBlock, around: ToolSurroundings) -> Any:
    """Text, or an attachment as a tool value."""
    match block.type:
        case "image" | "audio":
            return _attachment(block.data, block.mime_type, None, around)
        case "resource":
            return _resource(block.resource, around)
        case _:
            return _words(block)


def _words(block: foreign.ContentBlock) -> str:
    """What there is to read of it."""
    match block.type:
        case "text":
            return whole_text(block.text)
        case "resource_link":
            kind = f", {one_line(block.mime_type, 80)}" if block.mime_type else ""
            return f"[a link to the server's resource {one_line(block.name, 120)}: {one_line(block.uri, 500)}{kind}]"
        case "resource":
            text = getattr(block.resource, "text", None)
            return whole_text(text) if isinstance(text, str) else f"[a resource: {one_line(block.resource.uri, 500)}]"
        case kind:
            return f"[{kind}: {one_line(block.mime_type, 80)}]"


def _resource(resource: _Resource, around: ToolSurroundings) -> Any:
    blob = getattr(resource, "blob", None)
    if isinstance(blob, str):
        return _attachment(blob, resource.mime_type or _ANY, one_line(resource.uri, 200), around)
    return whole_text(getattr(resource, "text", ""))


def _attachment(data: str, media_type: str, label: str | None, around: ToolSurroundings) -> Any:
    try:
        kept = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return f"[{one_line(media_type, 80)}, which the server did not send as base64]"
    try:
        kind = MEDIA_TYPE.decode(media_type.partition(";")[0])
    except DecodeError:
        kind = _ANY
    source: AttachmentSource
    if around.store is not None:
        source = StoredAttachment(attachment_ref=around.store.put(kept, media_type=kind, label=label))
    elif len(kept) <= MAX_INLINE_BYTES:
        source = InlineAttachment(media_type=kind, bytes=kept)
    else:
        return f"[{kind}, {len(kept):,} bytes: there is nowhere to keep them]"
    return {RESERVED_KEY: "attachment", "source": ATTACHMENT_SOURCE.encode(source)}
