"""A model's reply under the tool protocol, taken apart, and as the history, the records and the views have it.

Decided here: in the history texts come before calls, and everything else stands in the order in which it was said: a
provider that wants its reasoning back wants it before what followed from it. Which calls are made, `said_calls.py`
decides. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from ..machine.effects import Emit
from ..machine.events import LlmResponseEvent, ReasoningDelta, TextDelta, ToolCallEvent
from ..machine.llm import LlmOutputPart, LlmResponse, LlmToolSpec, ReasoningOutput, TextOutput, ToolCallOutputPart
from ..machine.messages import Message, MessageRole, Part, PartKind
from ..machine.tool_calls import (
    RetryNever,
    ToolCallOutput,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
)
from ..machine.wire import Json
from . import ProseDelta
from .said_calls import Refusal, SaidCall, judged_calls

__all__ = [
    "ProseStream",
    "ToolReply",
    "read_refusals",
    "read_tool_reply",
    "refusal_events",
    "told_refusals",
    "tool_reply_events",
    "tool_reply_message",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolReply:
    """A model's response, taken apart."""

    parts: tuple[TextOutput | ReasoningOutput | SaidCall, ...]
    """In the order in which the history keeps them."""
    text: str
    """The prose, joined with blank lines."""

    @property
    def calls(self) -> tuple[SaidCall, ...]:
        """All calls, in call order."""
        return tuple(part for part in self.parts if isinstance(part, SaidCall))

    @property
    def reasoning(self) -> tuple[ReasoningOutput, ...]:
        """What was shown of the reasoning, or is wanted back."""
        return tuple(part for part in self.parts if isinstance(part, ReasoningOutput))

    @property
    def empty(self) -> bool:
        """Whether nothing was said."""
        return not self.parts

    @property
    def refusals(self) -> dict[str, str]:
        """For each call that is not made, what the model is told."""
        return {call.call_id: call.refusal.text for call in self.calls if call.refusal is not None}

    def refusing(self, refusal: Refusal) -> ToolReply:
        """The reply with none of its calls made."""
        parts = [replace(part, refusal=refusal) if isinstance(part, SaidCall) else part for part in self.parts]
        return replace(self, parts=tuple(parts))


class ProseStream:
    """Reads a reply that is prose and calls; the calls do not come as text."""

    stop = False

    def feed(self, text: str) -> tuple[ProseDelta, ...]:
        """The text, as it came."""
        return (ProseDelta(text=text),) if text else ()

    def close(self) -> tuple[ProseDelta, ...]:
        """Nothing was held back."""
        return ()

    def reset(self) -> None:
        """There is nothing to forget."""


def read_tool_reply(
    response: LlmResponse, *, offered: Sequence[LlmToolSpec], known: Iterable[str], label: str
) -> ToolReply:
    """Take a response apart. `offered` are the tools that it was asked with, `known` the conversation's call ids.

    `label` is the turn and the iteration: new ids begin with it.
    """
    said = _normal(response)
    first = next((place for place, part in enumerate(said) if isinstance(part, ToolCallOutputPart)), len(said))
    late = [part for part in said[first:] if isinstance(part, TextOutput)]
    asked = [part for part in said[first:] if isinstance(part, ToolCallOutputPart)]
    calls = iter(judged_calls(asked, tools=[spec.name for spec in offered], known=known, label=label))
    out: list[TextOutput | ReasoningOutput | SaidCall] = [
        part for part in (*said[:first], *late) if not isinstance(part, ToolCallOutputPart)
    ]
    for part in said[first:]:
        if isinstance(part, ToolCallOutputPart):
            out += islice(calls, 1)
        elif isinstance(part, ReasoningOutput):
            out.append(part)
    return ToolReply(parts=tuple(out), text="\n\n".join(part.text for part in out if isinstance(part, TextOutput)))


def tool_reply_events(reply: ToolReply, *, protocol_iteration: int, text_streamed: bool) -> tuple[Emit, ...]:
    """What views are told of a reply's texts, unless they were streamed."""
    emits: list[Emit] = []
    if not text_streamed:
        emits += [Emit(event=ReasoningDelta(content=item.text)) for item in reply.reasoning if item.text]
        texts = [part.text for part in reply.parts if isinstance(part, TextOutput)]
        emits += [Emit(event=TextDelta(content=f"\n\n{text}" if place else text)) for place, text in enumerate(texts)]
    ended = LlmResponseEvent(protocol_iteration=protocol_iteration, content=reply.text, duration_ms=0)
    return (*emits, Emit(event=ended))


def refusal_events(reply: ToolReply) -> tuple[Emit, ...]:
    """The calls that are not made, for views and journals."""
    return tuple(_refused(call, call.refusal) for call in reply.calls if call.refusal is not None)


def _refused(call: SaidCall, refusal: Refusal) -> Emit:
    failed = ToolFailure(
        class_=ToolFailureClass.INVALID_REQUEST,
        code=refusal.code,
        message=refusal.text.partition("\n")[0],
        source=ToolFailureSource.RUNTIME,
        retry=RetryNever(),
    )
    output = ToolCallOutput(outcome=ToolFailed(payload=failed))
    return Emit(
        event=ToolCallEvent(call_id=call.call_id, name=call.tool_name, args=call.args, output=output, duration_ms=0)
    )


def told_refusals(reply: ToolReply) -> list[Json]:
    """The calls that are not made, for the record of the reply."""
    return [
        {"call_id": call.call_id, "code": call.refusal.code, "text": call.refusal.text}
        for call in reply.calls
        if call.refusal is not None
    ]


def read_refusals(payload: Json) -> dict[str, str]:
    """What `told_refusals` told, out of the record: texts by call id."""
    told = payload.get("refused") if isinstance(payload, Mapping) else None
    found = [one for one in told if isinstance(one, Mapping)] if isinstance(told, (list, tuple)) else []
    return {str(one.get("call_id")): str(one.get("text")) for one in found}


def tool_reply_message(message_id: str, reply: ToolReply) -> Message | None:
    """A reply as the history keeps it; None when nothing of it is to be kept."""
    parts = [kept for part in reply.parts if (kept := _kept(part)) is not None]
    if not parts:
        return None
    numbered = tuple(replace(part, id=f"{message_id}.p{index}") for index, part in enumerate(parts))
    return Message(id=message_id, role=MessageRole.ASSISTANT, parts=numbered)


def _kept(part: TextOutput | ReasoningOutput | SaidCall) -> Part | None:
    match part:
        case TextOutput(text=text, response_meta=meta):
            return Part(id="", kind=PartKind.PROSE, content=text, response_meta=meta)
        case ReasoningOutput(replay=None):
            return None  # text that was only shown is in the event
        case ReasoningOutput(text=text, replay=replay):
            return Part(id="", kind=PartKind.REASONING, content=text, reasoning_meta=replay)
        case SaidCall():
            return Part(
                id="",
                kind=PartKind.TOOL_CALL,
                content=part.input_json,
                tool_call_id=part.call_id,
                tool_name=part.tool_name,
                tool_replay=part.replay,
            )


def _normal(response: LlmResponse) -> list[LlmOutputPart]:
    """The parts that say something; of texts with a final answer among them, not the commentary."""
    parts = list(response.parts)
    if response.full_text.strip() and not any(isinstance(part, TextOutput) and part.text.strip() for part in parts):
        parts.insert(0, TextOutput(text=response.full_text))
    final = any(isinstance(part, TextOutput) and part.text.strip() and _phase(part) == "final_answer" for part in parts)
    kept: list[LlmOutputPart] = []
    for part in parts:
        match part:
            case TextOutput(text=text):
                if text.strip() and not (final and _phase(part) == "commentary"):
                    kept.append(replace(part, text=text.strip()))
            case ReasoningOutput(text=text, replay=replay):
                if text.strip() or replay is not None:
                    kept.append(part)
            case ToolCallOutputPart():
                kept.append(part)
    return kept


def _phase(part: TextOutput) -> str | None:
    return None if part.response_meta is None else part.response_meta.phase
