"""Our requests and answers in pydantic-ai's types, and back: the half of `providers` that only translates.

What is decided here: one text per message where texts stand side by side (many servers take no list); system
messages stay system messages; earlier reasoning is not sent back; what cannot be sent (a file that is no image,
missing bytes) is a note in its place. Input tokens count what was not read from a cache, as the machine counts.
Imports `machine` and the contract; pydantic_ai only inside functions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from ..errors import LashError
from ..machine.attachments import AttachmentSource, ExternalUrl, InlineAttachment, ProviderFile, StoredAttachment
from ..machine.llm import (
    AttachmentBlock,
    Effort,
    JsonSchemaSpec,
    LlmMessage,
    LlmOutputPart,
    LlmRequest,
    LlmResponse,
    LlmRole,
    LlmTerminalReason,
    LlmToolChoice,
    LlmUsage,
    PlainVariant,
    ReasoningOutput,
    TextBlock,
    TextOutput,
    ToolCallBlock,
    ToolCallOutputPart,
    ToolResultBlock,
)
from . import CallContext

if TYPE_CHECKING:
    from pydantic_ai import messages as foreign
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIChatModelSettings

__all__ = ["from_response", "from_usage", "to_messages", "to_parameters", "to_settings"]


# -- there -------------------------------------------------------------------------------------------


def to_messages(request: LlmRequest, context: CallContext) -> list[foreign.ModelMessage]:
    """The conversation. Neighbouring messages that are not the model's own go into one foreign request."""
    from pydantic_ai import messages as foreign

    messages: list[foreign.ModelMessage] = []
    tool_names: dict[str, str] = {}
    for message in request.messages:
        if message.role is LlmRole.ASSISTANT:
            tool_names |= {b.call_id: b.tool_name for b in message.blocks if isinstance(b, ToolCallBlock)}
            messages.append(foreign.ModelResponse(parts=_said(message)))
            continue
        if message.role is LlmRole.SYSTEM:
            parts: list[foreign.ModelRequestPart] = [foreign.SystemPromptPart(content=_text(message))]
        else:
            parts = _asked(message, request, context, tool_names)
        if messages and isinstance(messages[-1], foreign.ModelRequest):
            messages[-1] = foreign.ModelRequest(parts=[*messages[-1].parts, *parts])
        else:
            messages.append(foreign.ModelRequest(parts=parts))
    return messages


def _text(message: LlmMessage) -> str:
    return "\n\n".join(block.text for block in message.blocks if isinstance(block, TextBlock))


def _said(message: LlmMessage) -> list[foreign.ModelResponsePart]:
    from pydantic_ai import messages as foreign

    text = _text(message)
    parts: list[foreign.ModelResponsePart] = [foreign.TextPart(content=text)] if text else []
    for block in message.blocks:
        if isinstance(block, ToolCallBlock):
            parts.append(
                foreign.ToolCallPart(
                    tool_name=block.tool_name, args=block.input_json or "{}", tool_call_id=block.call_id
                )
            )
    return parts


def _asked(
    message: LlmMessage, request: LlmRequest, context: CallContext, tool_names: dict[str, str]
) -> list[foreign.ModelRequestPart]:
    from pydantic_ai import messages as foreign

    parts: list[foreign.ModelRequestPart] = []
    content: list[foreign.UserContent] = []
    for block in message.blocks:
        match block:
            case TextBlock(text=text):
                content.append(text)
            case AttachmentBlock(attachment_idx=index):
                content.append(_attached(request.attachments[index], context))
            case ToolResultBlock(call_id=call_id, content=result, tool_name=tool_name):
                name = tool_name or tool_names.get(call_id, "tool")
                parts.append(foreign.ToolReturnPart(tool_name=name, content=result, tool_call_id=call_id))
    if content:
        texts = [item for item in content if isinstance(item, str)]
        together = "\n\n".join(texts) if len(texts) == len(content) else content
        parts.append(foreign.UserPromptPart(content=together))
    return parts


def _attached(source: AttachmentSource, context: CallContext) -> foreign.UserContent:
    from pydantic_ai import messages as foreign

    match source:
        case InlineAttachment(media_type=media_type, bytes=data):
            name = "an attachment"
        case StoredAttachment(attachment_ref=ref):
            media_type, name = ref.media_type, ref.label or ref.id
            if context.attachments is None:
                return f"[{name}: {media_type}, not at hand]"
            try:
                data = context.attachments.get(ref)
            except LashError:
                return f"[{name}: {media_type}, its bytes are missing]"
        case ExternalUrl(media_type=media_type, url=url):
            return foreign.ImageUrl(url=url) if media_type.startswith("image/") else f"[{url}: {media_type}]"
        case ProviderFile(id=name):
            return f"[{name}: a file of another provider]"
    if not media_type.startswith("image/"):
        return f"[{name}: {media_type}, {len(data)} bytes, not shown]"
    return foreign.BinaryContent(data=data, media_type=media_type)


def to_settings(request: LlmRequest, context: CallContext, model: OpenAIChatModel) -> OpenAIChatModelSettings:
    """Sampling, limits and choices. A reasoning model takes no temperature, and is not given one."""
    from pydantic_ai.models.openai import OpenAIChatModelSettings

    sampling = context.sampling
    reasons = bool(model.profile.get("openai_supports_reasoning", False))
    settings = OpenAIChatModelSettings()
    if sampling.temperature is not None and not reasons:
        settings["temperature"] = sampling.temperature
    if sampling.seed is not None:
        settings["seed"] = sampling.seed
    if sampling.stop:
        settings["stop_sequences"] = list(sampling.stop)
    if request.generation.output_token_cap is not None:
        settings["max_tokens"] = request.generation.output_token_cap
    if isinstance(request.model_variant, Effort):
        effort: Any = request.model_variant.effort  # a free string here, a closed set there; the provider judges
        settings["openai_reasoning_effort"] = effort
    elif request.model_variant is PlainVariant.DISABLED and reasons:
        settings["openai_reasoning_effort"] = "none"
    if request.tools and request.tool_choice is not LlmToolChoice.AUTO:
        settings["tool_choice"] = "none" if request.tool_choice is LlmToolChoice.NONE else "required"
    if isinstance(request.output_spec, JsonSchemaSpec):
        spec = request.output_spec
        schema = {"name": spec.name, "schema": spec.schema.canonical, "strict": spec.strict}
        settings["extra_body"] = {"response_format": {"type": "json_schema", "json_schema": schema}}
    elif request.output_spec is not None:
        settings["extra_body"] = {"response_format": {"type": "json_object"}}
    return settings


def to_parameters(request: LlmRequest) -> ModelRequestParameters:
    """The tools, with their schemas as they are."""
    from pydantic_ai.models import ModelRequestParameters
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
    return ModelRequestParameters(function_tools=tools)


# -- and back ----------------------------------------------------------------------------------------


def from_response(
    response: foreign.ModelResponse,
    reason: LlmTerminalReason,
    *,
    diagnostic: str | None = None,
    whole: bool = True,
) -> LlmResponse:
    """What came. Not `whole`: it was stopped, and a tool call that is not complete is left out."""
    parts = tuple(_parts(response.parts, whole=whole))
    return LlmResponse(
        full_text="".join(part.text for part in parts if isinstance(part, TextOutput)),
        parts=parts,
        usage=from_usage(response),
        terminal_reason=reason,
        terminal_diagnostic=diagnostic,
    )


def _parts(parts: Sequence[foreign.ModelResponsePart], *, whole: bool) -> Iterable[LlmOutputPart]:
    from pydantic_ai import messages as foreign

    for part in parts:
        match part:
            case foreign.TextPart(content=text) if text:
                yield TextOutput(text=text)
            case foreign.ThinkingPart(content=text) if text:
                yield ReasoningOutput(text=text)
            case foreign.ToolCallPart(args=args):
                text = args if isinstance(args, str) else json.dumps(args) if args else ""
                if whole or _is_json(text):
                    yield ToolCallOutputPart(
                        call_id=part.tool_call_id, tool_name=part.tool_name, input_json=text or "{}"
                    )


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def from_usage(response: foreign.ModelResponse) -> LlmUsage:
    """Tokens; theirs count cached ones among the input, ours beside it."""
    usage = response.usage
    cached, written = usage.cache_read_tokens, usage.cache_write_tokens
    return LlmUsage(
        input_tokens=max(0, usage.input_tokens - cached - written),
        output_tokens=usage.output_tokens,
        cache_read_input_tokens=cached,
        cache_write_input_tokens=written,
        reasoning_output_tokens=usage.details.get("reasoning_tokens", 0),
    )
