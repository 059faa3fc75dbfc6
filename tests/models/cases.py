"""Requests, contexts and answers that the tests of models share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lash_nb.errors import LashError
from lash_nb.machine.attachments import AttachmentRef, AttachmentWriter
from lash_nb.machine.llm import (
    LlmMessage,
    LlmRequest,
    LlmRequestScope,
    LlmResponse,
    LlmRole,
    LlmTerminalReason,
    LlmUsage,
    ReasoningOutput,
    TextBlock,
    TextOutput,
    ToolCallOutputPart,
)
from lash_nb.models import CallContext, Delta, ReasoningChunk, TextChunk, ToolCallChunk

__all__ = ["TOOL_ANSWER", "Blobs", "Listener", "context", "conversation", "request", "streamed"]

TOOL_ANSWER = LlmResponse(
    full_text="I look.",
    parts=(
        ReasoningOutput(text="thinking"),
        TextOutput(text="I look."),
        ToolCallOutputPart(call_id="t1", tool_name="read", input_json='{"path": "a.csv"}'),
    ),
    usage=LlmUsage(input_tokens=70, output_tokens=70, cache_read_input_tokens=40, reasoning_output_tokens=30),
    terminal_reason=LlmTerminalReason.TOOL_USE,
)


def request(text: str = "How many rows?", *, system: str = "You are terse.", **fields: Any) -> LlmRequest:
    """A small request; `fields` are those of LlmRequest."""
    messages = (
        LlmMessage(role=LlmRole.SYSTEM, blocks=(TextBlock(text=system),)),
        LlmMessage(role=LlmRole.USER, blocks=(TextBlock(text=text),)),
    )
    scope = LlmRequestScope(session_id="s", agent_frame_id="s:frame:sansio", request_id="s:sansio:llm:0")
    return LlmRequest(**{"model": "m", "messages": messages, "scope": scope, **fields})


def conversation(*messages: tuple[LlmRole, tuple[Any, ...]], **fields: Any) -> LlmRequest:
    """A request of these messages."""
    return request(messages=tuple(LlmMessage(role=role, blocks=blocks) for role, blocks in messages), **fields)


def context(text: str = "How many rows?", *, turn: int = 1, step: int = 1, **fields: Any) -> CallContext:
    """Where a call stands; `fields` are those of CallContext."""
    return CallContext(**{"session": "1", "turn": turn, "step": step, "user_text": text, **fields})


class Listener:
    """An on_delta that remembers, and says enough when `enough` says so of the text that came."""

    def __init__(self, enough: Callable[[str], bool] = lambda text: False) -> None:
        self.deltas: list[Delta] = []
        self._enough = enough

    def __call__(self, delta: Delta) -> bool:
        self.deltas.append(delta)
        return self._enough(streamed(self.deltas)["text"])


def streamed(deltas: list[Delta]) -> dict[str, str]:
    """What deltas add up to: text, reasoning, and the arguments of tool calls."""
    found = {"text": "", "reasoning": "", "tool": ""}
    for delta in deltas:
        match delta:
            case TextChunk(text=text):
                found["text"] += text
            case ReasoningChunk(text=text):
                found["reasoning"] += text
            case ToolCallChunk(input_json_delta=text):
                found["tool"] += text
    return found


class Blobs:
    """A store of one picture."""

    def put(self, data: bytes, *, media_type: str, label: str | None = None) -> AttachmentRef:
        raise NotImplementedError

    def writer(self, *, media_type: str, label: str | None = None) -> AttachmentWriter:
        raise NotImplementedError

    def get(self, ref: AttachmentRef) -> bytes:
        if ref.id != "sha256:1":
            raise LashError("missing")
        return b"stored"
