"""What Anthropic's server says: https://docs.anthropic.com/en/api/messages-streaming."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lash_nb.machine.llm import LlmResponse, ReasoningOutput, TextOutput, ToolCallOutputPart

from .http_server import Answer, refused, sse
from .wires import pieces_of

__all__ = ["TYPES", "AnthropicWire", "block", "ending", "event", "opening", "stopped"]

TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}
"""The words of its refusals."""


def event(kind: str, **fields: Any) -> bytes:
    """One event of a stream."""
    return sse({"type": kind, **fields}, event=kind)


def opening() -> list[bytes]:
    """The first events: the message, and what is known of its cost."""
    usage = {
        "input_tokens": 70,
        "cache_read_input_tokens": 40,
        "cache_creation_input_tokens": 0,
        "output_tokens": 1,
    }
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": usage,
    }
    return [event("message_start", message=message), event("ping")]


def block(index: int, start: Mapping[str, Any], deltas: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """One block of content, without its end."""
    return [
        event("content_block_start", index=index, content_block=dict(start)),
        *(event("content_block_delta", index=index, delta=dict(delta)) for delta in deltas),
    ]


def stopped(index: int) -> bytes:
    """The end of a block."""
    return event("content_block_stop", index=index)


def ending(reason: str = "end_turn", **delta: Any) -> list[bytes]:
    """The last events: why it ended, and what it cost."""
    usage = {"output_tokens": 70, "output_tokens_details": {"thinking_tokens": 30}}
    said = {"stop_reason": reason, "stop_sequence": None, **delta}
    return [event("message_delta", delta=said, usage=usage), event("message_stop")]


def _text(index: int, text: str) -> list[bytes]:
    deltas = [{"type": "text_delta", "text": piece} for piece in pieces_of(text)]
    return block(index, {"type": "text", "text": ""}, deltas)


def _call(index: int, call_id: str, name: str, pieces: Sequence[str]) -> list[bytes]:
    deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
    return block(index, {"type": "tool_use", "id": call_id, "name": name, "input": {}}, deltas)


class AnthropicWire:
    """Messages."""

    word = "anthropic"

    def address(self, root: str) -> str:
        return root

    def key(self, headers: Mapping[str, str]) -> str:
        return headers.get("x-api-key") or headers["authorization"].removeprefix("Bearer ")

    def answer(self, response: LlmResponse) -> Answer:
        pieces = opening()
        for index, part in enumerate(response.parts):
            match part:
                case TextOutput(text=text):
                    pieces += _text(index, text)
                case ReasoningOutput(text=text):
                    deltas = [{"type": "thinking_delta", "thinking": piece} for piece in pieces_of(text)]
                    pieces += block(index, {"type": "thinking", "thinking": "", "signature": ""}, deltas)
                case ToolCallOutputPart(call_id=call_id, tool_name=name):
                    pieces += _call(index, call_id, name, pieces_of(part.input_json))
            pieces.append(stopped(index))
        reason = {"stop": "end_turn", "tool_use": "tool_use"}[response.terminal_reason]
        return Answer(pieces=[*pieces, *ending(reason)])

    def half(self, text: str = "half") -> list[bytes]:
        return [*opening(), *block(0, {"type": "text", "text": ""}, [{"type": "text_delta", "text": text}])]

    def ended(self, text: str, reason: str) -> Answer:
        return Answer(pieces=[*self.half(text), stopped(0), *ending(reason)])

    def refusal(
        self, status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        kind = code or TYPES.get(status, "api_error")
        body = {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}
        return refused(status, body, headers)

    def broken(self, message: str, *, code: str) -> bytes:
        return event("error", error={"type": code, "message": message})

    def two_calls(self) -> Answer:
        first = _call(0, "t1", "read", ['{"a"', ": 1}"])
        second = _call(1, "t2", "write", ['{"b": ', "2}"])
        return Answer(pieces=[*opening(), *first, stopped(0), *second, stopped(1), *ending("tool_use")])

    def texts(self, body: Mapping[str, Any]) -> list[str]:
        system = [item["text"] for item in body.get("system", [])]
        return system + [item["text"] for message in body["messages"] for item in message["content"]]
