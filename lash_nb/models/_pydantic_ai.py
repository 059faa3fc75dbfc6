"""Our requests and answers in pydantic-ai's types, and back: the half of `providers` that only translates.

What is decided here: one text per message where texts stand side by side (many servers take no list); system
messages stay system messages, and where a provider has them at the beginning only, later ones are marked texts in
their place (the beginning is what is cached); what cannot be sent (a file that is no image, an image to a model that
does not see, missing bytes) is a note in its place; cache breakpoints go where they mean something. What a provider
wants back (signatures, redacted reasoning) is kept with the origin it came from and goes to that origin alone: the
origin stands before the `#` of a reasoning's `item_id`, is the `item_id` of a tool call's replay and the
`origin_provider` of a text. Reasoning that a server sends as plain text goes back only beside tool calls, where
servers demand it. Input tokens count what was not read from a cache, as the machine counts. Imports `machine` and the
contract; pydantic_ai only inside functions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import DecodeError, LashError
from ..machine.attachments import AttachmentSource, ExternalUrl, InlineAttachment, ProviderFile, StoredAttachment
from ..machine.llm import (
    LLM_RESPONSE,
    AttachmentBlock,
    JsonSchemaSpec,
    LlmMessage,
    LlmOutputPart,
    LlmRequest,
    LlmResponse,
    LlmRole,
    LlmTerminalReason,
    LlmUsage,
    ReasoningBlock,
    ReasoningOutput,
    TextBlock,
    TextOutput,
    ToolCallBlock,
    ToolCallOutputPart,
    ToolResultBlock,
)
from ..machine.messages import ProviderReasoningReplay, ProviderReplayMeta, ResponseTextMeta
from ..trust import whole_text
from . import CallContext

if TYPE_CHECKING:
    from pydantic_ai import messages as foreign
    from pydantic_ai.models import ModelRequestParameters

__all__ = ["Target", "from_response", "to_messages", "to_parameters"]

_IMAGES = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})
"""What every provider that sees takes."""
_REDACTED = "redacted_thinking"
_SIGNATURE = "thought_signature"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the translation has to know of the model that is asked."""

    system: str
    """What pydantic-ai calls its provider."""
    origin: str
    """Whose reasoning this model takes back: the provider, and the host when it is not the provider's own."""
    vision: bool = False
    cache_points: bool = False
    fetches_urls: bool = True
    late_notes: bool = True
    """System messages may stand anywhere."""


# -- there -----------------------------------------------------------------------------------------------------------


def to_messages(request: LlmRequest, context: CallContext, target: Target) -> list[foreign.ModelMessage]:
    """The conversation. Neighbouring messages that are not the model's own go into one foreign request."""
    from pydantic_ai import messages as foreign

    messages: list[foreign.ModelMessage] = []
    tool_names: dict[str, str] = {}
    pending = False  # a breakpoint in the model's own text stands at the beginning of what follows it
    opening = True  # nobody has spoken yet
    for message in request.messages:
        opening = opening and message.role is LlmRole.SYSTEM
        marked = target.cache_points and any(b.cache_breakpoint for b in message.blocks if isinstance(b, TextBlock))
        if message.role is LlmRole.ASSISTANT:
            tool_names |= {b.call_id: b.tool_name for b in message.blocks if isinstance(b, ToolCallBlock)}
            if said := _said(message, target):
                messages.append(foreign.ModelResponse(parts=said, provider_name=target.system))
            pending = marked
            continue
        parts: list[foreign.ModelRequestPart]
        if message.role is LlmRole.SYSTEM and (target.late_notes or opening):
            parts = [foreign.SystemPromptPart(content=_text(message))]
        elif message.role is LlmRole.SYSTEM:
            parts = [foreign.UserPromptPart(content=f"<system>\n{_text(message)}\n</system>")]
        else:
            parts = _asked(message, request, context, target, tool_names)
        if pending and messages:
            parts.insert(0, foreign.UserPromptPart(content=[foreign.CachePoint()]))
            pending = False
        if messages and isinstance(messages[-1], foreign.ModelRequest):
            messages[-1] = foreign.ModelRequest(parts=[*messages[-1].parts, *parts])
        else:
            messages.append(foreign.ModelRequest(parts=parts))
    return messages


def _text(message: LlmMessage) -> str:
    return "\n\n".join(block.text for block in message.blocks if isinstance(block, TextBlock))


def _said(message: LlmMessage, target: Target) -> list[foreign.ModelResponsePart]:
    from pydantic_ai import messages as foreign

    calls_tools = any(isinstance(block, ToolCallBlock) for block in message.blocks)
    parts: list[foreign.ModelResponsePart] = []
    for block in message.blocks:
        match block:
            case ReasoningBlock():
                if (thought := _thought(block, target, calls_tools=calls_tools)) is not None:
                    parts.append(thought)
            case TextBlock(text=text, response_meta=meta) if text:
                signature = meta.provider_payload if meta and meta.origin_provider == target.origin else None
                last = parts[-1] if parts else None
                if isinstance(last, foreign.TextPart) and not signature and not last.provider_details:
                    parts[-1] = foreign.TextPart(content=f"{last.content}\n\n{text}")
                else:
                    parts.append(foreign.TextPart(content=text, **_signed(signature, target)))
            case ToolCallBlock(replay=replay):
                signature = replay.opaque if replay and replay.item_id == target.origin else None
                parts.append(
                    foreign.ToolCallPart(
                        tool_name=block.tool_name,
                        args=block.input_json or "{}",
                        tool_call_id=block.call_id,
                        **_signed(signature, target),
                    )
                )
    return parts


def _signed(signature: str | None, target: Target) -> dict[str, Any]:
    if not signature:
        return {}
    return {"provider_name": target.system, "provider_details": {_SIGNATURE: signature}}


def _thought(block: ReasoningBlock, target: Target, *, calls_tools: bool) -> foreign.ThinkingPart | None:
    """Earlier reasoning for the provider it came from; None when it is another's, or not wanted back."""
    from pydantic_ai import messages as foreign

    replay = block.replay
    origin, _, part_id = ((replay and replay.item_id) or "").partition("#")
    if replay is None or origin != target.origin:
        return None
    if replay.redacted:
        return foreign.ThinkingPart(
            content="", id=_REDACTED, signature=replay.encrypted_content, provider_name=target.system
        )
    if target.system == "google":
        return foreign.ThinkingPart(content=block.text, **_signed(replay.signature, target))
    if replay.signature is None and not calls_tools:
        return None
    return foreign.ThinkingPart(
        content=block.text, id=part_id or None, signature=replay.signature, provider_name=target.system
    )


def _asked(
    message: LlmMessage, request: LlmRequest, context: CallContext, target: Target, tool_names: dict[str, str]
) -> list[foreign.ModelRequestPart]:
    from pydantic_ai import messages as foreign

    parts: list[foreign.ModelRequestPart] = []
    content: list[foreign.UserContent] = []
    for block in message.blocks:
        match block:
            case TextBlock(text=text):
                content.append(text)
                if block.cache_breakpoint and target.cache_points and text:
                    content.append(foreign.CachePoint())
            case AttachmentBlock(attachment_idx=index):
                content.append(_attached(request.attachments[index], context, target))
            case ToolResultBlock(call_id=call_id, content=result, tool_name=tool_name):
                name = tool_name or tool_names.get(call_id, "tool")
                parts.append(foreign.ToolReturnPart(tool_name=name, content=result, tool_call_id=call_id))
    if content:
        texts = [item for item in content if isinstance(item, str)]
        together = "\n\n".join(texts) if len(texts) == len(content) else content
        parts.append(foreign.UserPromptPart(content=together))
    return parts


def _attached(source: AttachmentSource, context: CallContext, target: Target) -> foreign.UserContent:
    from pydantic_ai import messages as foreign

    data: bytes | None = None
    match source:
        case InlineAttachment(media_type=media_type, bytes=data):
            name = "an attachment"
        case StoredAttachment(attachment_ref=ref):
            media_type, name = ref.media_type, ref.label or ref.id
        case ExternalUrl(media_type=media_type, url=name):
            if target.vision and target.fetches_urls and media_type in _IMAGES:
                return foreign.ImageUrl(url=name)
            return f"[{name}: {media_type}, not shown]"
        case ProviderFile(id=name):
            return f"[{name}: a file of another provider]"
    if media_type in _IMAGES and not target.vision:
        return f"[{name}: {media_type}, not shown: this model takes no images]"
    if isinstance(source, StoredAttachment):
        if context.attachments is None:
            return f"[{name}: {media_type}, not at hand]"
        try:
            data = context.attachments.get(source.attachment_ref)
        except LashError:
            return f"[{name}: {media_type}, its bytes are missing]"
    if data is None or media_type not in _IMAGES:
        return f"[{name}: {media_type}, {len(data or b'')} bytes, not shown]"
    return foreign.BinaryContent(data=data, media_type=media_type)


def to_parameters(request: LlmRequest, target: Target) -> ModelRequestParameters:
    """The tools, with their schemas as they are; what the answer must look like, where a setting does not say it."""
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.output import OutputObjectDefinition
    from pydantic_ai.tools import ToolDefinition

    tools = []
    for spec in request.tools:
        schema = spec.input_schema.canonical
        tools.append(
            ToolDefinition(
                name=spec.name,
                description=spec.description,
                parameters_json_schema=dict(schema) if isinstance(schema, dict) else {"type": "object"},
                strict=False,
            )
        )
    wanted = request.output_spec
    if isinstance(wanted, JsonSchemaSpec) and target.system != "openai" and isinstance(wanted.schema.canonical, dict):
        shape = OutputObjectDefinition(json_schema=dict(wanted.schema.canonical), name=wanted.name)
        return ModelRequestParameters(function_tools=tools, output_mode="native", output_object=shape)
    return ModelRequestParameters(function_tools=tools)


# -- and back --------------------------------------------------------------------------------------------------------


def from_response(
    response: foreign.ModelResponse,
    reason: LlmTerminalReason,
    *,
    usage: LlmUsage,
    origin: str,
    diagnostic: str | None = None,
    whole: bool = True,
) -> LlmResponse:
    """What came from `origin`. Not `whole`: it was stopped, and a tool call that is not complete is left out.

    Raises: ValueError (and others) when what came is not of our form; the clients check next to nothing.
    """
    parts = tuple(_parts(response.parts, origin, whole=whole))
    answer = LlmResponse(
        full_text="".join(part.text for part in parts if isinstance(part, TextOutput)),
        parts=parts,
        usage=usage,
        terminal_reason=reason,
        terminal_diagnostic=diagnostic,
    )
    try:
        LLM_RESPONSE.decode(LLM_RESPONSE.encode(answer))
    except DecodeError as error:  # an InputError elsewhere; here the provider's fault
        raise ValueError(f"the answer is not of the form that it should be ({error})") from error
    return answer


def _parts(parts: Sequence[foreign.ModelResponsePart], origin: str, *, whole: bool) -> Iterable[LlmOutputPart]:
    from pydantic_ai import messages as foreign

    for part in parts:
        match part:
            case foreign.TextPart(content=text) if text:
                signature = _signature(part.provider_details)
                meta = ResponseTextMeta(origin_provider=origin, provider_payload=signature) if signature else None
                yield TextOutput(text=whole_text(text), response_meta=meta)
            case foreign.ThinkingPart(content=text):
                replay = _reasoning_replay(part, origin)
                if text or replay is not None:
                    yield ReasoningOutput(text=whole_text(text), replay=replay)
            case foreign.ToolCallPart(args=args):
                text = args if isinstance(args, str) else json.dumps(args, ensure_ascii=False) if args else ""
                signature = _signature(part.provider_details)
                if whole or _is_json(text):
                    yield ToolCallOutputPart(
                        call_id=whole_text(str(part.tool_call_id)),
                        tool_name=whole_text(str(part.tool_name)),
                        input_json=whole_text(text) or "{}",
                        replay=ProviderReplayMeta(item_id=origin, opaque=signature) if signature else None,
                    )


def _signature(details: dict[str, Any] | None) -> str | None:
    found = (details or {}).get(_SIGNATURE)
    return whole_text(found) if isinstance(found, str) else None


def _reasoning_replay(part: foreign.ThinkingPart, origin: str) -> ProviderReasoningReplay | None:
    """What the provider wants back with this reasoning; None when it wants nothing."""
    if part.id == _REDACTED:
        content = None if part.signature is None else whole_text(part.signature)
        return ProviderReasoningReplay(item_id=f"{origin}#{_REDACTED}", encrypted_content=content, redacted=True)
    signature = whole_text(part.signature) if part.signature else _signature(part.provider_details)
    # An id is the field that a server sent it in; "content" is reasoning that was cut out of the text itself.
    if signature is None and part.id in (None, "content"):
        return None
    return ProviderReasoningReplay(item_id=whole_text(f"{origin}#{part.id or ''}"), signature=signature)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True
