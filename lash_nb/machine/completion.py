"""What a model's answer means for the turn: terminal reasons, the overflow refinement, error events, trace records.

`reference/turn-machine.md` 1.8.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .effects import LlmDebug, LlmError
from .events import ErrorEnvelope, ErrorEvent, LlmResponseEvent, SessionStreamEvent, TextDelta
from .llm import (
    LlmCallError,
    LlmOutputPart,
    LlmResponse,
    LlmTerminalReason,
    ProviderFailureKind,
    ReasoningOutput,
    TextOutput,
)
from .outcomes import Stopped, TurnOutcome, TurnStopReason
from .wire import trimmed

__all__ = [
    "llm_debug",
    "llm_error_log",
    "llm_failed",
    "outcome_of_reason",
    "refined",
    "reported_reason",
    "sync_failed",
]

_OVERFLOW = "Model produced no output because the prompt reached the configured context window."
_RAW_LIMIT = 4000
_USIZE_MAX = 2**64 - 1

_STOPS = {
    LlmTerminalReason.OUTPUT_LIMIT: TurnStopReason.INCOMPLETE,
    LlmTerminalReason.CONTEXT_OVERFLOW: TurnStopReason.PROVIDER_ERROR,
    LlmTerminalReason.CONTENT_FILTER: TurnStopReason.PROVIDER_ERROR,
    LlmTerminalReason.PROVIDER_ERROR: TurnStopReason.PROVIDER_ERROR,
    LlmTerminalReason.CANCELLED: TurnStopReason.CANCELLED,
}
"""The terminal reasons that end the turn without asking the driver."""


def refined(response: LlmResponse, max_context_tokens: int | None) -> LlmResponse:
    """An output limit with no output and a prompt at 95 % of the window or more is a context overflow."""
    usage = response.usage
    prompt = usage.input_tokens + usage.cache_read_input_tokens + usage.cache_write_input_tokens
    if (
        response.terminal_reason is LlmTerminalReason.OUTPUT_LIMIT
        and usage.output_tokens == 0
        and max_context_tokens is not None
        and max_context_tokens > 0
        and max(prompt, 0) >= min(max_context_tokens * 95, _USIZE_MAX) // 100
    ):
        return replace(response, terminal_reason=LlmTerminalReason.CONTEXT_OVERFLOW, terminal_diagnostic=_OVERFLOW)
    return response


def outcome_of_reason(reason: LlmTerminalReason) -> TurnOutcome | None:
    """How the turn ends for a terminal reason; None when the driver decides (stop, tool_use, unknown)."""
    stop = _STOPS.get(reason)
    return None if stop is None else Stopped(stop=stop)


def reported_reason(
    response: LlmResponse, protocol_iteration: int, text_streamed: bool
) -> tuple[SessionStreamEvent, ...]:
    """The events for an answer that ends the turn: its text if views lack it, the response, the error."""
    reason = response.terminal_reason
    name = "".join(word.capitalize() for word in reason.value.split("_"))
    message = response.terminal_diagnostic
    if message is None:
        message = f"Model call ended with terminal reason {name}."
    envelope = ErrorEnvelope(
        kind="llm_provider",
        code=reason.value,
        terminal_reason=reason,
        user_message=message,
        retryable=False,
    )
    text = response.full_text
    delta = (TextDelta(content=text),) if text and not text_streamed else ()
    shown = LlmResponseEvent(protocol_iteration=protocol_iteration, content=text, duration_ms=0)
    return (*delta, shown, ErrorEvent(message=message, envelope=envelope))


def llm_failed(error: LlmCallError) -> ErrorEvent:
    """The event for a failed model call."""
    message = f"LLM error: {error.message}"
    known = error.kind is not ProviderFailureKind.UNKNOWN
    return ErrorEvent(
        message=message,
        envelope=ErrorEnvelope(
            kind="llm_provider",
            code=error.code,
            terminal_reason=error.terminal_reason,
            user_message=message,
            raw=_shortened(error.raw),
            retryable=error.retryable,
            provider_failure_kind=error.kind if known else None,
        ),
    )


def sync_failed(problem: str) -> ErrorEvent:
    """The event for a failed sync of the execution environment."""
    message = f"Failed to refresh execution environment: {problem}"
    return ErrorEvent(
        message=message,
        envelope=ErrorEnvelope(
            kind="execution_environment",
            code="reconfigure_failed",
            user_message=message,
            raw=_shortened(problem),
        ),
    )


def _shortened(raw: str | None) -> str | None:
    """Trimmed, and cut to its first and last 2,000 characters; blank text stays, as nothing."""
    if raw is None:
        return None
    text = trimmed(raw)
    if len(text) <= _RAW_LIMIT:
        return text
    half = _RAW_LIMIT // 2
    return f"{text[:half]}\n\n... ({len(text) - _RAW_LIMIT} chars omitted) ...\n\n{text[-half:]}"


def llm_error_log(session_id: str, protocol_iteration: int, error: LlmCallError) -> LlmError:
    """The trace record of a failed call."""
    return LlmError(
        session_id=session_id,
        protocol_iteration=protocol_iteration,
        request_body=error.request_body,
        message=error.message,
        retryable=error.retryable,
        raw=error.raw,
        code=error.code,
        terminal_reason=error.terminal_reason,
    )


def llm_debug(session_id: str, protocol_iteration: int, response: LlmResponse) -> LlmDebug:
    """The trace record of a call that succeeded."""
    parts = [part for part in map(_debug_part, response.parts) if part is not None]
    return LlmDebug(
        session_id=session_id,
        protocol_iteration=protocol_iteration,
        usage=response.usage,
        provider_usage=response.provider_usage,
        request_body=response.request_body,
        response_text=response.full_text,
        response_parts=parts or None,
    )


def _debug_part(part: LlmOutputPart) -> dict[str, Any] | None:
    """One part as the reference traces it: secrets of the provider only as "there is one"."""
    if isinstance(part, TextOutput):
        return {"text": part.text, "type": "text"} if part.text else None
    if isinstance(part, ReasoningOutput):
        replay = part.replay
        return {
            "has_encrypted": replay is not None and not (replay.encrypted_content is replay.signature is None),
            "id": None if replay is None else replay.item_id,
            "redacted": replay is not None and replay.redacted,
            "summary": None if replay is None else list(replay.summary),
            "text": part.text,
            "type": "reasoning",
        }
    return {
        "call_id": part.call_id,
        "has_opaque": part.replay is not None and part.replay.opaque is not None,
        "id": None if part.replay is None else part.replay.item_id,
        "input_json": part.input_json,
        "tool_name": part.tool_name,
        "type": "tool_call",
    }
