"""What a tool call of a cell gives, whatever its answer was: the one way for every kernel.

Decided here: what an answer may be, which errors are which failures, and how much of a value goes into a kernel.
"""

from __future__ import annotations

import json

from ..errors import ToolError
from ..machine.tool_calls import (
    TOOL_VALUE,
    PendingToolCall,
    RetryNever,
    RetrySafe,
    ToolCallOutput,
    ToolCancellation,
    ToolCancelled,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
    ToolSucceeded,
)
from ..machine.wire import DecodeError
from . import OnToolCall
from .inside.json_values import MAX_CHARS

__all__ = ["answered", "cancelled", "failed"]


async def answered(on_call: OnToolCall, call: PendingToolCall) -> ToolCallOutput:
    """The output of a call that is made; whatever goes wrong with it is a failed call."""
    try:
        answer = await on_call(call)
        output = answer if isinstance(answer, ToolCallOutput) else ToolCallOutput(outcome=ToolSucceeded(payload=answer))
        if isinstance(output.outcome, ToolSucceeded):
            return _bounded(output, len(json.dumps(TOOL_VALUE.encode(output.outcome.payload))))
        return output
    except DecodeError as error:
        return failed(f"the tool's value is not JSON: {error}", ToolFailureClass.INTERNAL, "not_json")
    except ToolError as error:
        return _told(error)
    except Exception as error:
        return failed(f"{type(error).__name__}: {error}", ToolFailureClass.EXECUTION, type(error).__name__)


def failed(message: str, kind: ToolFailureClass, code: str, *, passing: bool = False) -> ToolCallOutput:
    """The output of a call that failed."""
    failure = ToolFailure(
        class_=kind,
        code=code,
        message=message,
        source=ToolFailureSource.TOOL,
        retry=RetrySafe() if passing else RetryNever(),
    )
    return ToolCallOutput(outcome=ToolFailed(payload=failure))


def cancelled(message: str) -> ToolCallOutput:
    """The output of a call that nobody waits for any more."""
    cancellation = ToolCancellation(message=message, source=ToolFailureSource.CANCELLATION)
    return ToolCallOutput(outcome=ToolCancelled(payload=cancellation))


def _bounded(output: ToolCallOutput, chars: int) -> ToolCallOutput:
    if chars <= MAX_CHARS:
        return output
    return failed(
        f"the tool's value is {chars:,} characters of JSON, over {MAX_CHARS:,}; ask for less of it",
        ToolFailureClass.RESOURCE_LIMIT,
        "value_too_long",
    )


def _told(error: ToolError) -> ToolCallOutput:
    kinds = {kind.value: kind for kind in ToolFailureClass}
    return failed(
        error.message,
        kinds.get(error.kind, ToolFailureClass.EXECUTION),
        error.code or "tool_error",
        passing=error.passing,
    )
