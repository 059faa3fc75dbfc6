"""Plain functions as tools: a batch of calls runs concurrently (bounded), results come back in the order of the calls.

A function takes the call's arguments as keywords and returns JSON; a synchronous one runs in a thread. Whatever it
raises is a failed call, told to the model; cancellation passes through.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ..machine.events import ToolCallStart, TurnActivity
from ..machine.tool_calls import (
    TOOL_VALUE,
    CompletedToolCall,
    ModelToolReturn,
    PendingToolCall,
    RetryNever,
    TextReturn,
    ToolCallOutput,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
    ToolOutcome,
    ToolSucceeded,
)
from ..machine.wire import DecodeError, dumps

__all__ = ["ToolFunction", "call_tools"]

ToolFunction: TypeAlias = Callable[..., Any]

MOST_AT_ONCE = 8


async def call_tools(
    calls: tuple[PendingToolCall, ...],
    tools: Mapping[str, ToolFunction],
    *,
    on_activity: Callable[[TurnActivity], None] = lambda activity: None,
) -> tuple[CompletedToolCall, ...]:
    """Make all calls of a batch; a call that fails does not end the others."""
    gate = asyncio.Semaphore(MOST_AT_ONCE)

    async def one(call: PendingToolCall) -> CompletedToolCall:
        async with gate:
            on_activity(ToolCallStart(call_id=call.call_id, name=call.tool_name, args=call.args))
            started = time.monotonic()
            outcome = await _outcome(call, tools)
            return _completed(call, outcome, round((time.monotonic() - started) * 1000))

    return tuple(await asyncio.gather(*(one(call) for call in calls)))


async def _outcome(call: PendingToolCall, tools: Mapping[str, ToolFunction]) -> ToolOutcome:
    function = tools.get(call.tool_name)
    if function is None:
        known = ", ".join(sorted(tools)) or "none"
        return _failed(ToolFailureClass.INVALID_REQUEST, "unknown_tool", f"no such tool; there are: {known}")
    if not isinstance(call.args, Mapping):
        return _failed(ToolFailureClass.INVALID_REQUEST, "bad_arguments", "the arguments are not a JSON object")
    try:
        if inspect.iscoroutinefunction(function):
            value = await function(**call.args)
        else:
            value = await asyncio.to_thread(function, **call.args)
        return ToolSucceeded(payload=TOOL_VALUE.encode(value))
    except DecodeError as error:
        return _failed(ToolFailureClass.INTERNAL, "not_json", f"the tool's value is not JSON: {error}")
    except Exception as error:
        return _failed(ToolFailureClass.EXECUTION, type(error).__name__, f"{type(error).__name__}: {error}")


def _failed(kind: ToolFailureClass, code: str, message: str) -> ToolFailed:
    return ToolFailed(
        payload=ToolFailure(class_=kind, code=code, message=message, source=ToolFailureSource.TOOL, retry=RetryNever())
    )


def _completed(call: PendingToolCall, outcome: ToolOutcome, duration_ms: int) -> CompletedToolCall:
    if isinstance(outcome, ToolSucceeded):
        payload = outcome.payload
        text = payload if isinstance(payload, str) else dumps(payload)
    else:
        text = f"[Tool execution failed]\n{outcome.payload.message}"
    return CompletedToolCall(
        call_id=call.call_id,
        tool_name=call.tool_name,
        args=call.args,
        output=ToolCallOutput(outcome=outcome),
        model_return=ModelToolReturn(call_id=call.call_id, tool_name=call.tool_name, parts=(TextReturn(text=text),)),
        duration_ms=duration_ms,
        replay=call.replay,
    )
