"""What an OpenAI-compatible chat server says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from lash_nb.machine.llm import LlmResponse, ReasoningOutput, TextOutput, ToolCallOutputPart

from .http_server import Answer, refused, sse
from .wires import pieces_of

__all__ = ["USAGE", "OpenAIWire", "chunk", "events", "finish", "tool_delta"]

USAGE: Mapping[str, Any] = {
    "prompt_tokens": 110,
    "completion_tokens": 70,
    "total_tokens": 180,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 30},
}


def chunk(delta: Mapping[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    """One event of a stream."""
    choice = {"index": 0, "delta": dict(delta), "finish_reason": finish_reason}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def tool_delta(index: int, arguments: str, *, call_id: str | None = None, name: str | None = None) -> dict[str, Any]:
    """One event with a piece of a tool call."""
    function = {"arguments": arguments, **({"name": name} if name else {})}
    call = {"index": index, "function": function, **({"id": call_id, "type": "function"} if call_id else {})}
    return chunk({"tool_calls": [call]})


def finish(reason: str = "stop") -> list[dict[str, Any]]:
    """The events at the end of a stream: why it ended, and what it cost."""
    return [chunk({}, reason), {**chunk({}), "choices": [], "usage": dict(USAGE)}]


def events(items: Iterable[Mapping[str, Any]], *, done: bool = True) -> list[bytes]:
    """Server-sent events, one piece each."""
    lines = [sse(item) for item in items]
    return [*lines, b"data: [DONE]\n\n"] if done else lines


class OpenAIWire:
    """Chat completions."""

    word = "openai"

    def address(self, root: str) -> str:
        return f"{root}/v1"

    def key(self, headers: Mapping[str, str]) -> str:
        return headers["authorization"].removeprefix("Bearer ")

    def answer(self, response: LlmResponse) -> Answer:
        items: list[dict[str, Any]] = [chunk({"role": "assistant", "content": ""})]
        for index, part in enumerate(response.parts):
            match part:
                case TextOutput(text=text):
                    items += [chunk({"content": piece}) for piece in pieces_of(text)]
                case ReasoningOutput(text=text):
                    items += [chunk({"reasoning_content": piece}) for piece in pieces_of(text)]
                case ToolCallOutputPart(call_id=call_id, tool_name=name):
                    items.append(tool_delta(index, "", call_id=call_id, name=name))
                    items += [tool_delta(index, piece) for piece in pieces_of(part.input_json)]
        reason = {"stop": "stop", "tool_use": "tool_calls"}[response.terminal_reason]
        return Answer(pieces=events([*items, *finish(reason)]))

    def half(self, text: str = "half") -> list[bytes]:
        return events([chunk({"content": text})], done=False)

    def ended(self, text: str, reason: str) -> Answer:
        return Answer(pieces=events([chunk({"content": text}), *finish(reason)]))

    def refusal(
        self, status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        return refused(status, {"error": {"message": message, "type": "test", "code": code}}, headers)

    def broken(self, message: str, *, code: str) -> bytes:
        return sse({"error": {"message": message, "code": code}})

    def two_calls(self) -> Answer:
        items = [
            tool_delta(0, "", call_id="t1", name="read"),
            tool_delta(1, '{"b"', call_id="t2", name="write"),
            tool_delta(0, '{"a": 1'),
            tool_delta(1, ": 2}"),
            tool_delta(0, "}"),
            *finish("tool_calls"),
        ]
        return Answer(pieces=events(items))

    def texts(self, body: Mapping[str, Any]) -> list[str]:
        return [message["content"] for message in body["messages"]]
