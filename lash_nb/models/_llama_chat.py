"""Between our records and the JSON of llama.cpp's endpoints: a request as a body, chunks as deltas, failures typed.

Decided here: a request whose only message is the model's own is text to be continued, raw; any other is a chat. What
a chunk holds is looked at with care: it is text of a model. Pure; imports `machine`, `errors` and the contract.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..machine.llm import (
    AttachmentBlock,
    LlmCallError,
    LlmContentBlock,
    LlmMessage,
    LlmOutputPart,
    LlmRequest,
    LlmRole,
    LlmTerminalReason,
    LlmUsage,
    ProviderFailureKind,
    ReasoningOutput,
    TextBlock,
    TextOutput,
    ToolCallBlock,
    ToolCallOutputPart,
    ToolResultBlock,
)
from . import Delta, ReasoningChunk, Sampling, TextChunk, ToolCallChunk

__all__ = ["FINISH", "Written", "failure_of", "raw_prompt", "to_body", "whole_text"]

FINISH = {
    "stop": LlmTerminalReason.STOP,
    "length": LlmTerminalReason.OUTPUT_LIMIT,
    "tool_calls": LlmTerminalReason.TOOL_USE,
}
_ROLES = {LlmRole.SYSTEM: "system", LlmRole.USER: "user", LlmRole.ASSISTANT: "assistant"}
_NOT_SHOWN = "[an attachment: not shown, this model reads text only]"
_OVERFLOW = "exceed_context_size_error"


def raw_prompt(request: LlmRequest) -> str | None:
    """The text that is to be continued, when the request is one message of the model's own; else None."""
    if len(request.messages) != 1 or request.messages[0].role is not LlmRole.ASSISTANT:
        return None
    return _text(request.messages[0].blocks)


def to_body(request: LlmRequest, sampling: Sampling, *, max_tokens: int) -> dict[str, Any]:
    """The body of a request, with `prompt` or with `messages`."""
    cap = request.generation.output_token_cap
    body: dict[str, Any] = {
        "max_tokens": max_tokens if cap is None else min(cap, max_tokens),
        "cache_prompt": True,
        "return_progress": True,
        "timings_per_token": True,
        "stream_options": {"include_usage": True},
    }
    if sampling.temperature is not None:
        body["temperature"] = sampling.temperature
    if sampling.seed is not None:
        body["seed"] = sampling.seed % 2**32
    if sampling.stop:
        body["stop"] = list(sampling.stop)
    prompt = raw_prompt(request)
    if prompt is not None:
        return body | {"prompt": prompt}
    body["messages"] = [item for message in request.messages for item in _messages(message)]
    if request.tools:
        body["tools"] = [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": tool.input_schema.canonical,
                },
            }
            for tool in request.tools
        ]
    return body


def _text(blocks: Sequence[LlmContentBlock]) -> str:
    texts = [
        block.text if isinstance(block, TextBlock) else _NOT_SHOWN
        for block in blocks
        if isinstance(block, (TextBlock, AttachmentBlock))
    ]
    return "\n\n".join(texts)


def _messages(message: LlmMessage) -> Iterator[dict[str, Any]]:
    """One message of ours as one, or as several: each result of a tool is one of its own."""
    results = [block for block in message.blocks if isinstance(block, ToolResultBlock)]
    for result in results:
        yield {"role": "tool", "tool_call_id": result.call_id, "content": result.content}
    calls = [block for block in message.blocks if isinstance(block, ToolCallBlock)]
    text = _text(message.blocks)
    if not text and not calls:
        return
    out: dict[str, Any] = {"role": _ROLES[message.role], "content": text}
    if calls:
        out["tool_calls"] = [
            {
                "id": call.call_id,
                "type": "function",
                "function": {"name": call.tool_name, "arguments": call.input_json},
            }
            for call in calls
        ]
    yield out


def whole_text(text: str) -> str:
    """The text without half characters: a token may end within one."""
    return text.encode("utf-8", "replace").decode("utf-8")


@dataclass(slots=True)
class _Call:
    """A tool call, as far as it came."""

    call_id: str
    tool_name: str
    input_json: str = ""


class Written:
    """What a model wrote so far, out of the chunks that were taken."""

    def __init__(self) -> None:
        self.finish: str | None = None
        self.error: Mapping[str, Any] | None = None
        self.usage = LlmUsage()
        self._parts: list[TextOutput | ReasoningOutput | _Call] = []
        self._calls: dict[int, _Call] = {}

    def take(self, chunk: Mapping[str, Any]) -> Iterator[Delta]:
        """The deltas in a chunk; usage, end and failure are kept."""
        error = chunk.get("error")
        if isinstance(error, Mapping):
            self.error = error
        self._count(chunk)
        for choice in _mappings(chunk.get("choices")):
            finish = choice.get("finish_reason")
            self.finish = finish if isinstance(finish, str) else self.finish
            delta = choice.get("delta")
            if not isinstance(delta, Mapping):
                delta = {"content": choice.get("text")}
            yield from self._deltas(delta)

    def _deltas(self, delta: Mapping[str, Any]) -> Iterator[Delta]:
        reasoning, content = delta.get("reasoning_content"), delta.get("content")
        if isinstance(reasoning, str) and reasoning:
            self._add(ReasoningOutput, whole_text(reasoning))
            yield ReasoningChunk(text=whole_text(reasoning))
        if isinstance(content, str) and content:
            self._add(TextOutput, whole_text(content))
            yield TextChunk(text=whole_text(content))
        for item in _mappings(delta.get("tool_calls")):
            yield self._called(item)

    def _add(self, kind: type[TextOutput] | type[ReasoningOutput], text: str) -> None:
        last = self._parts[-1] if self._parts else None
        if isinstance(last, kind):
            self._parts[-1] = kind(text=last.text + text)
        else:
            self._parts.append(kind(text=text))

    def _called(self, item: Mapping[str, Any]) -> ToolCallChunk:
        place = item.get("index")
        index = place if isinstance(place, int) else len(self._calls)
        function = item.get("function")
        function = function if isinstance(function, Mapping) else {}
        call = self._calls.get(index)
        if call is None:
            call = _Call(str(item.get("id") or f"call_{index}"), str(function.get("name") or ""))
            self._calls[index] = call
            self._parts.append(call)
        new = whole_text(str(function.get("arguments") or ""))
        call.input_json += new
        return ToolCallChunk(call_id=call.call_id, tool_name=call.tool_name, input_json_delta=new)

    def _count(self, chunk: Mapping[str, Any]) -> None:
        """Usage as it is told at the end; until then as far as the engine got, for a stream that is stopped."""
        usage, timings = chunk.get("usage"), chunk.get("timings")
        if isinstance(usage, Mapping):
            cached = _number(_mapping(usage.get("prompt_tokens_details")).get("cached_tokens"))
            details = _mapping(usage.get("completion_tokens_details"))
            self.usage = LlmUsage(
                input_tokens=max(0, _number(usage.get("prompt_tokens")) - cached),
                output_tokens=_number(usage.get("completion_tokens")),
                cache_read_input_tokens=cached,
                reasoning_output_tokens=_number(details.get("reasoning_tokens")),
            )
        elif isinstance(timings, Mapping):
            self.usage = LlmUsage(
                input_tokens=_number(timings.get("prompt_n")),
                output_tokens=_number(timings.get("predicted_n")),
                cache_read_input_tokens=_number(timings.get("cache_n")),
            )

    def parts(self, *, whole: bool = True) -> tuple[LlmOutputPart, ...]:
        """The parts in their order; half a tool call (`whole` is False) is of no use to anybody."""
        out: list[LlmOutputPart] = []
        for part in self._parts:
            if not isinstance(part, _Call):
                out.append(part)
            elif whole:
                out.append(
                    ToolCallOutputPart(call_id=part.call_id, tool_name=part.tool_name, input_json=part.input_json)
                )
        return tuple(out)


def _mappings(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, (list, tuple)):
        yield from (item for item in value if isinstance(item, Mapping))


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def failure_of(error: Mapping[str, Any], name: str) -> LlmCallError:
    """What the engine refused, by its type."""
    kind = str(error.get("type") or "")
    said = whole_text(str(error.get("message") or "without a reason"))[:500]
    overflow = kind == _OVERFLOW
    if overflow:
        said = f"the request is too long for this model ({said}); ask for less, or use a model with a longer context"
    refused = overflow or kind == "invalid_request_error"
    return LlmCallError(
        message=f"{name}: {said}",
        retryable=False,
        kind=ProviderFailureKind.VALIDATION if refused else ProviderFailureKind.UNKNOWN,
        code=kind or None,
        terminal_reason=LlmTerminalReason.CONTEXT_OVERFLOW if overflow else LlmTerminalReason.PROVIDER_ERROR,
    )
