"""What comes back: a model's response taken apart and judged, the events views get of it, and a cell's result. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from ..errors import ProtocolViolation
from ..machine.driver import WaitingExecView
from ..machine.effects import Emit
from ..machine.events import LlmResponseEvent, MessageEvent, ReasoningDelta, TextDelta
from ..machine.execution import ExecResponse
from ..machine.llm import LlmResponse, LlmTerminalReason, ReasoningOutput, TextOutput, ToolCallOutputPart
from ..machine.wire import Json
from .grammar import Grammar, Reply, parse_reply
from .records import CodeDriverState, FinalOutput

__all__ = ["LANGUAGE", "Decision", "Said", "decide", "read_response", "reply_events", "step_with_result"]

LANGUAGE = "python"


class Decision(StrEnum):
    """What is made of a reply."""

    EXECUTE = "execute"
    ANSWER = "answer"
    REMIND = "remind"
    RETRY = "retry"
    EMPTY = "empty"
    NATIVE_TOOL_CALL = "native_tool_call"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """A model's response, taken apart."""

    text: str
    reply: Reply
    reasoning: tuple[ReasoningOutput, ...]
    native_calls: tuple[str, ...]


def read_response(response: LlmResponse, grammar: Grammar) -> Said:
    """Take a response apart; the text of its parts is used when the whole text is missing."""
    text = response.full_text
    if not text.strip():
        text = "\n\n".join(part.text for part in response.parts if isinstance(part, TextOutput))
    return Said(
        text=text,
        reply=parse_reply(text, grammar, truncated=response.terminal_reason is LlmTerminalReason.OUTPUT_LIMIT),
        reasoning=tuple(part for part in response.parts if isinstance(part, ReasoningOutput)),
        native_calls=tuple(part.tool_name for part in response.parts if isinstance(part, ToolCallOutputPart)),
    )


def decide(said: Said, *, value_required: bool) -> Decision:
    """What follows from a reply; a native tool call outweighs everything, a complete cell every other mistake."""
    if said.native_calls:
        return Decision.NATIVE_TOOL_CALL
    if not said.text.strip():
        return Decision.EMPTY
    if said.reply.code is not None:
        return Decision.EXECUTE
    if said.reply.problem is not None:
        return Decision.RETRY
    return Decision.REMIND if value_required else Decision.ANSWER


def reply_events(said: Said, *, protocol_iteration: int, text_streamed: bool) -> tuple[Emit, ...]:
    """What views are told of a reply: the texts, unless they were streamed, and the cell."""
    emits: list[Emit] = []
    if not text_streamed:
        emits += [Emit(event=ReasoningDelta(content=item.text)) for item in said.reasoning if item.text]
        if said.reply.prose:
            emits.append(Emit(event=TextDelta(content=said.reply.prose)))
    ended = LlmResponseEvent(protocol_iteration=protocol_iteration, content=said.text, duration_ms=0)
    emits.append(Emit(event=ended))
    if said.reply.code is not None and not said.native_calls:
        emits.append(Emit(event=MessageEvent(text=said.reply.code, kind=f"{LANGUAGE}_code")))
    return tuple(emits)


def step_with_result(waiting: WaitingExecView, result: ExecResponse | str) -> CodeDriverState:
    """The step with what running its cell gave; the host's own failure is an error like any other."""
    state: CodeDriverState = waiting.driver_state
    if isinstance(result, str):
        return replace(state, executed_code=waiting.code, exec_error=result)
    return replace(
        state,
        executed_code=waiting.code,
        output=tuple(text for text in result.observations if text.strip()),
        images=result.printed_images,
        exec_error=result.error,
        finish=_final_output(result.terminal_finish),
        ran=result.ran,
    )


def _final_output(marker: Json) -> FinalOutput | None:
    """The value of `observations.finish_marker`. Raises ProtocolViolation for what is no such marker."""
    if marker is None:
        return None
    if not isinstance(marker, Mapping) or set(marker) != {"value"}:
        raise ProtocolViolation('ExecResponse.terminal_finish is {"value": …} under the code protocol, or None.')
    return FinalOutput(value=marker["value"])
