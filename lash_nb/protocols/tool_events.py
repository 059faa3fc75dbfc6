"""The tool calls that a cell made, as events for views and journals: bounded in number and in size.

Decided here: at most 128 events a cell, the rest summed up in one that stays a failure if any of the rest failed and
keeps the attachments; a string of more than 64 KiB is replaced by its length. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ..machine.events import ToolCallEvent
from ..machine.outcomes import (
    AgentFrameSwitch,
    Finished,
    Stopped,
    ToolError,
    ToolValueFinish,
    TurnOutcome,
)
from ..machine.tool_calls import (
    RESERVED_KEY,
    TOOL_CALL_OUTPUT,
    FailControl,
    FinishControl,
    RetryNever,
    SwitchAgentFrameControl,
    ToolCallOutput,
    ToolCallRecord,
    ToolCancelled,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
    ToolOutcome,
    ToolSucceeded,
)
from ..machine.wire import Json
from .records import FinalOutput
from .termination import FinishRequired

__all__ = ["terminal_outcome", "tool_call_events", "value_of"]

_MAX_EVENTS = 128
_MAX_STRING_BYTES = 64 * 1024


def tool_call_events(records: Sequence[ToolCallRecord]) -> tuple[ToolCallEvent, ...]:
    """One event for each call, in order; those beyond the limit are summed up in one more."""
    events = [_event(record) for record in records[:_MAX_EVENTS]]
    left_out = records[_MAX_EVENTS:]
    if left_out:
        events.append(_summary(left_out))
    return tuple(events)


def terminal_outcome(records: Sequence[ToolCallRecord]) -> TurnOutcome | None:
    """How the turn ends by the will of a tool: the first successful call that carries a terminal control."""
    for record in records:
        if not isinstance(record.output.outcome, ToolSucceeded):
            continue
        match record.output.control:
            case FinishControl(value=value):
                return Finished(finish=ToolValueFinish(tool_name=record.tool, value=value))
            case FailControl(failure=failure):
                return Stopped(stop=ToolError(tool_name=record.tool, value=_failure_json(failure)))
            case SwitchAgentFrameControl(frame_id=frame_id, task=task, initial_nodes=nodes) if task is not None:
                return AgentFrameSwitch(frame_id=frame_id, task=task, initial_nodes=nodes)
            case _:
                continue
    return None


def value_of(outcome: TurnOutcome | None, termination: object) -> FinalOutput | None:
    """The value by which a tool ends a turn that must end with one: it is judged like any other."""
    required = isinstance(termination, FinishRequired)
    if required and isinstance(outcome, Finished) and isinstance(outcome.finish, ToolValueFinish):
        return FinalOutput(value=outcome.finish.value)
    return None


def _failure_json(failure: ToolFailure) -> Json:
    encoded = TOOL_CALL_OUTPUT.encode(ToolCallOutput(outcome=ToolFailed(payload=failure)))
    payload: Json = encoded["outcome"]["payload"]
    return payload


def _event(record: ToolCallRecord) -> ToolCallEvent:
    return ToolCallEvent(
        call_id=record.call_id,
        name=record.tool,
        args=_shortened(record.args),
        output=replace(record.output, outcome=_shortened_outcome(record.output.outcome)),
        duration_ms=record.duration_ms,
    )


def _shortened_outcome(outcome: ToolOutcome) -> ToolOutcome:
    match outcome:
        case ToolSucceeded(payload=value):
            return ToolSucceeded(payload=_shortened(value))
        case ToolFailed(payload=failure):
            return ToolFailed(payload=replace(failure, raw=_shortened(failure.raw)))
        case ToolCancelled(payload=cancellation):
            return ToolCancelled(payload=replace(cancellation, raw=_shortened(cancellation.raw)))


def _shortened(value: Json) -> Json:
    """The value without strings that are too long; attachments are references and stay."""
    if isinstance(value, str):
        size = len(value.encode("utf-8", "surrogatepass"))
        return {"omitted_bytes": size} if size > _MAX_STRING_BYTES else value
    if isinstance(value, Mapping):
        return value if _is_attachment(value) else {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shortened(item) for item in value]
    return value


def _is_attachment(value: Mapping[str, Json]) -> bool:
    return value.get(RESERVED_KEY) == "attachment"


def _summary(records: Sequence[ToolCallRecord]) -> ToolCallEvent:
    failed = sum(not isinstance(record.output.outcome, ToolSucceeded) for record in records)
    attachments: list[Json] = [item for record in records for item in _attachments(_raw(record.output.outcome))]
    payload: dict[str, Json] = {"omitted_calls": len(records), "failed": failed}
    if attachments:
        payload["attachments"] = attachments
    outcome: ToolOutcome = ToolSucceeded(payload=payload)
    if failed:
        outcome = ToolFailed(
            payload=ToolFailure(
                class_=ToolFailureClass.EXECUTION,
                code="omitted_calls_failed",
                message=f"{failed} of {len(records)} further calls failed.",
                source=ToolFailureSource.RUNTIME,
                retry=RetryNever(),
                raw=payload,
            )
        )
    return ToolCallEvent(
        name="omitted_tool_calls",
        args={"count": len(records)},
        output=ToolCallOutput(outcome=outcome),
        duration_ms=sum(record.duration_ms for record in records),
    )


def _raw(outcome: ToolOutcome) -> Json:
    return outcome.payload if isinstance(outcome, ToolSucceeded) else outcome.payload.raw


def _attachments(value: Json) -> Iterator[Json]:
    if isinstance(value, Mapping):
        if _is_attachment(value):
            yield value
        else:
            for item in value.values():
                yield from _attachments(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _attachments(item)
