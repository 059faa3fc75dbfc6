"""What Google's server says to `streamGenerateContent?alt=sse`: https://ai.google.dev/api/generate-content."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lash_nb.machine.llm import LlmResponse, ReasoningOutput, TextOutput, ToolCallOutputPart

from .http_server import Answer, refused, sse
from .wires import pieces_of

__all__ = ["STATUSES", "GoogleWire", "piece"]

STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
"""The words of its refusals."""
_USAGE = {
    "promptTokenCount": 110,
    "cachedContentTokenCount": 40,
    "candidatesTokenCount": 40,
    "thoughtsTokenCount": 30,
    "totalTokenCount": 180,
}


def piece(parts: Sequence[Mapping[str, Any]], finish: str | None = None) -> bytes:
    """One event of a stream; the last one says why it ended, and what it cost."""
    candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": [dict(part) for part in parts]}}
    body: dict[str, Any] = {"candidates": [candidate], "modelVersion": "m", "responseId": "r1"}
    if finish is not None:
        candidate["finishReason"] = finish
        body["usageMetadata"] = dict(_USAGE)
    return sse(body)


class GoogleWire:
    """Content generation of the Gemini API."""

    word = "google"

    def address(self, root: str) -> str:
        return root

    def key(self, headers: Mapping[str, str]) -> str:
        return headers["x-goog-api-key"]

    def answer(self, response: LlmResponse) -> Answer:
        parts: list[dict[str, Any]] = []
        for part in response.parts:
            match part:
                case TextOutput(text=text):
                    parts += [{"text": item} for item in pieces_of(text)]
                case ReasoningOutput(text=text):
                    parts += [{"text": item, "thought": True} for item in pieces_of(text)]
                case ToolCallOutputPart(call_id=call_id, tool_name=name):  # a call comes whole
                    call = {"id": call_id, "name": name, "args": json.loads(part.input_json)}
                    parts.append({"functionCall": call})
        return Answer(pieces=[*(piece([part]) for part in parts[:-1]), piece(parts[-1:], "STOP")])

    def half(self, text: str = "half") -> list[bytes]:
        return [piece([{"text": text}])]

    def ended(self, text: str, reason: str) -> Answer:
        return Answer(pieces=[piece([{"text": text}]), piece([{"text": ""}], reason)])

    def refusal(
        self, status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        word = code or STATUSES.get(status, "UNKNOWN")
        return refused(status, {"error": {"code": status, "message": message, "status": word}}, headers)

    def broken(self, message: str, *, code: str) -> bytes:
        status = next((number for number, word in STATUSES.items() if word == code), 500)
        return sse({"error": {"code": status, "message": message, "status": code}})

    def two_calls(self) -> Answer:
        first = {"functionCall": {"id": "t1", "name": "read", "args": {"a": 1}}}
        second = {"functionCall": {"id": "t2", "name": "write", "args": {"b": 2}}}
        return Answer(pieces=[piece([first]), piece([second], "STOP")])

    def texts(self, body: Mapping[str, Any]) -> list[str]:
        system = [part["text"] for part in body.get("systemInstruction", {}).get("parts", [])]
        return system + [part["text"] for content in body["contents"] for part in content["parts"]]
