"""What a model's answer means: refinement, error records, traces; by hand (reference 1.8)."""

from __future__ import annotations

from typing import Any

import pytest

from lash_nb.machine.completion import llm_debug, llm_failed, refined, reported_reason, sync_failed
from lash_nb.machine.driver import StartLlm
from lash_nb.machine.effects import Log
from lash_nb.machine.events import ErrorEvent, LlmResponseEvent, TextDelta
from lash_nb.machine.llm import (
    LlmCallError,
    LlmOutputPart,
    LlmResponse,
    LlmTerminalReason,
    LlmUsage,
    ProviderFailureKind,
    ReasoningOutput,
    TextOutput,
)
from lash_nb.machine.messages import ProviderReasoningReplay
from lash_nb.machine.turn import TurnMachine

from .worlds import REQUEST, Told, answered, config, drain, names

LIMIT, OVERFLOW = LlmTerminalReason.OUTPUT_LIMIT, LlmTerminalReason.CONTEXT_OVERFLOW


@pytest.mark.parametrize(
    ("window", "reason", "usage", "expected"),
    [
        (100, LIMIT, {"input_tokens": 95}, OVERFLOW),
        (100, LIMIT, {"input_tokens": 94}, LIMIT),
        (101, LIMIT, {"input_tokens": 95}, OVERFLOW),
        (100, LIMIT, {"input_tokens": 40, "cache_read_input_tokens": 30, "cache_write_input_tokens": 25}, OVERFLOW),
        (100, LIMIT, {"input_tokens": 200, "output_tokens": 1}, LIMIT),
        (1, LIMIT, {"input_tokens": -5}, OVERFLOW),
        (0, LIMIT, {"input_tokens": 95}, LIMIT),
        (None, LIMIT, {"input_tokens": 95}, LIMIT),
        (100, LlmTerminalReason.STOP, {"input_tokens": 95}, LlmTerminalReason.STOP),
        (2**64 - 1, LIMIT, {"input_tokens": (2**64 - 1) // 100}, OVERFLOW),
    ],
)
def test_an_output_limit_without_output_in_a_full_window(
    window: int | None, reason: LlmTerminalReason, usage: dict[str, int], expected: LlmTerminalReason
) -> None:
    found = refined(LlmResponse(full_text="", usage=LlmUsage(**usage), terminal_reason=reason), window)
    assert found.terminal_reason is expected
    assert (found.terminal_diagnostic is not None) is (expected is OVERFLOW)


def failure(**fields: Any) -> ErrorEvent:
    given: dict[str, Any] = {"message": "no", "retryable": True, "terminal_reason": LlmTerminalReason.CANCELLED}
    return llm_failed(LlmCallError(**(given | fields)))


@pytest.mark.parametrize(
    ("raw", "kept"),
    [
        (None, None),
        ("", ""),
        ("  \n", ""),
        (" x ", "x"),
        ("\x1cx", "\x1cx"),
        ("a" * 4000, "a" * 4000),
        ("a" * 2001 + "b" * 2002, "a" * 2000 + "\n\n... (3 chars omitted) ...\n\n" + "b" * 2000),
    ],
)
def test_raw_text_is_trimmed(raw: str | None, kept: str | None) -> None:
    envelope = failure(raw=raw).envelope
    assert envelope is not None
    assert envelope.raw == kept
    sync = sync_failed(raw or "").envelope
    assert sync is not None
    assert sync.raw == (kept or "")


def test_a_failed_call() -> None:
    event = failure(code="429", kind=ProviderFailureKind.QUOTA)
    assert event.message == "LLM error: no"
    assert event.envelope is not None
    assert (event.envelope.code, event.envelope.provider_failure_kind) == ("429", ProviderFailureKind.QUOTA)
    unknown = failure().envelope
    assert unknown is not None
    assert unknown.provider_failure_kind is None
    assert unknown.retryable is True


@pytest.mark.parametrize(("text", "streamed", "delta"), [("t", False, True), ("t", True, False), ("", False, False)])
def test_an_ending_without_the_driver(text: str, streamed: bool, delta: bool) -> None:
    *before, shown, error = reported_reason(
        LlmResponse(full_text=text, terminal_reason=LlmTerminalReason.CONTENT_FILTER), 3, streamed
    )
    assert before == ([TextDelta(content=text)] if delta else [])
    assert shown == LlmResponseEvent(protocol_iteration=3, content=text, duration_ms=0)
    assert isinstance(error, ErrorEvent)
    assert error.message == "Model call ended with terminal reason ContentFilter."


def test_a_trace_tells_of_secrets_only_that_there_are_some() -> None:
    hidden = ProviderReasoningReplay(encrypted_content="")
    signed = ProviderReasoningReplay(signature="s", redacted=True)
    reasoning = [ReasoningOutput(text="r", replay=replay) for replay in (None, hidden, signed)]
    parts: tuple[LlmOutputPart, ...] = (TextOutput(text=""), *reasoning)
    record = llm_debug("s", 0, LlmResponse(full_text="", parts=parts, terminal_reason=LlmTerminalReason.STOP))
    assert isinstance(record.response_parts, list)
    assert [part["has_encrypted"] for part in record.response_parts] == [False, True, True]
    assert [part["redacted"] for part in record.response_parts] == [False, False, True]
    assert [part["summary"] for part in record.response_parts] == [None, [], []]


def test_usage_adds_up_and_traces_come_when_asked_for() -> None:
    start = [StartLlm(request=REQUEST)]
    machine = TurnMachine(config(Told(start, start), emit_llm_trace=True))
    drain(machine)
    machine.handle_response(answered(1))
    assert names(drain(machine)) == ["Emit TokenUsageEvent", "Log", "Emit LlmRequestEvent", "LlmCall 2"]
    machine.handle_response(answered(2))
    assert machine.cumulative_usage == LlmUsage(input_tokens=10, output_tokens=4)
    assert [effect for effect in drain(machine) if isinstance(effect, Log)]
