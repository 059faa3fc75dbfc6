"""Canned tools, what they give, and readers of turns in which tools were called."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lash_nb.machine.events import ProtocolRecord, ToolCallEvent
from lash_nb.machine.llm import LlmMessage, LlmRequest, LlmRole, ToolCallBlock, ToolResultBlock
from lash_nb.machine.messages import Message, MessageRole, PartKind
from lash_nb.machine.tool_calls import (
    RetryNever,
    ToolCallOutput,
    ToolCancellation,
    ToolCancelled,
    ToolControl,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
    ToolSucceeded,
)
from lash_nb.machine.tool_specs import LlmToolSpec, ToolSchema
from lash_nb.machine.wire import Json
from lash_nb.protocols.records import CodeTrajectoryEntry
from lash_nb.protocols.termination import FinishRequired
from lash_nb.protocols.tools import ToolsProtocol

from .loop import Answer, Played, play


def spec(name: str) -> LlmToolSpec:
    schema = ToolSchema(canonical={"type": "object"})
    return LlmToolSpec(name=name, description=f"{name}.", input_schema=schema, output_schema=schema)


SPECS = (spec("search"), spec("weather"), spec("stop"))


def talk(replies: Sequence[Any], results: Sequence[Any] = (), **options: Any) -> Played:
    """A turn of the tool protocol in which `search`, `weather` and `stop` can be called."""
    return play(replies, results, **{"protocol": lambda: ToolsProtocol(turn_id="t1"), "specs": SPECS, **options})


def value_required() -> ToolsProtocol:
    def validate(value: Json) -> str | None:
        return None if isinstance(value, int) else f"{value!r} is not of type 'integer'"

    return ToolsProtocol(turn_id="t1", termination=FinishRequired(schema={"type": "integer"}), validate=validate)


def gives(payload: Json = None, control: ToolControl | None = None) -> ToolCallOutput:
    return ToolCallOutput(outcome=ToolSucceeded(payload=payload), control=control)


def failure_of(message: str) -> ToolFailure:
    return ToolFailure(
        class_=ToolFailureClass.EXECUTION,
        code="boom",
        message=message,
        source=ToolFailureSource.TOOL,
        retry=RetryNever(),
    )


def fails(message: str = "boom", control: ToolControl | None = None) -> ToolCallOutput:
    return ToolCallOutput(outcome=ToolFailed(payload=failure_of(message)), control=control)


def cancelled(message: str = "the user stopped it") -> ToolCallOutput:
    cancellation = ToolCancellation(message=message, source=ToolFailureSource.CANCELLATION)
    return ToolCallOutput(outcome=ToolCancelled(payload=cancellation))


def by_id(outputs: dict[str, ToolCallOutput]) -> Answer:
    return lambda call: outputs[call.call_id]


def said_calls(request: LlmRequest) -> list[tuple[str, str, str]]:
    """Id, tool and arguments of all calls in a request."""
    return [
        (block.call_id, block.tool_name, block.input_json)
        for message in request.messages
        for block in message.blocks
        if isinstance(block, ToolCallBlock)
    ]


def said_results(request: LlmRequest) -> dict[str, str]:
    """The results in a request, by call id."""
    return {
        block.call_id: block.content
        for message in request.messages
        for block in message.blocks
        if isinstance(block, ToolResultBlock)
    }


def tool_events(played: Played) -> list[ToolCallEvent]:
    return [event for event in played.emitted if isinstance(event, ToolCallEvent)]


def cells(played: Played) -> list[CodeTrajectoryEntry]:
    return [
        record.event
        for record in played.events
        if isinstance(record, ProtocolRecord) and isinstance(record.event, CodeTrajectoryEntry)
    ]


def resume_problems(messages: Iterable[Message]) -> list[str]:
    """Why a history is not safe to go on from (`reference/turn-machine.md` 1.11)."""
    problems, open_calls, seen = [], set[str](), set[str]()
    for message in messages:
        for part in message.parts:
            call_id = part.tool_call_id or ""
            if part.kind is PartKind.TOOL_CALL:
                if message.role is not MessageRole.ASSISTANT or not call_id.strip() or call_id in seen:
                    problems.append(f"{part.id}: call {call_id!r}")
                seen.add(call_id)
                open_calls.add(call_id)
            elif part.kind is PartKind.TOOL_RESULT:
                if message.role is not MessageRole.USER or call_id not in open_calls:
                    problems.append(f"{part.id}: result of {call_id!r}")
                open_calls.discard(call_id)
    return [*problems, *(f"no result of {call_id!r}" for call_id in sorted(open_calls))]


def provider_problems(request: LlmRequest) -> list[str]:
    """What providers refuse: results that do not follow their calls directly and in full, ids that are not unique."""
    problems: list[str] = []
    seen: set[str] = set()
    waits: set[str] = set()
    for number, message in enumerate(request.messages):
        calls, results = _ids(message, ToolCallBlock), _ids(message, ToolResultBlock)
        if set(results) != waits or len(results) != len(waits):
            problems.append(f"message {number} answers {results}, not {sorted(waits)}")
        if len(set(calls)) != len(calls) or seen & set(calls) or not all(map(str.strip, calls)):
            problems.append(f"message {number} calls {calls}")
        if calls and message.role is not LlmRole.ASSISTANT:
            problems.append(f"message {number} is {message.role}, and calls")
        blocks = [isinstance(block, ToolResultBlock) for block in message.blocks]
        if blocks != sorted(blocks, reverse=True):
            problems.append(f"message {number} has results behind other things")
        waits = set(calls)
        seen |= waits
    return problems


def _ids(message: LlmMessage, kind: type[ToolCallBlock] | type[ToolResultBlock]) -> list[str]:
    return [block.call_id for block in message.blocks if isinstance(block, kind)]
