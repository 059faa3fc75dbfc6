"""Plain functions as tools: calls run concurrently (bounded), results of a batch come back in the order of its calls.

A function takes the call's arguments as keywords and returns JSON; a synchronous one runs in a thread. Whatever it
raises is a failed call, told to the model or to the code that made it; cancellation passes through.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import keyword
import time
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, TypeAlias

from ..errors import InputError
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

__all__ = ["MOST_AT_ONCE", "Around", "MakeCall", "ToolCaller", "ToolFunction", "checked_tools", "completed_call"]

ToolFunction: TypeAlias = Callable[..., Any]

MakeCall: TypeAlias = Callable[[], Awaitable[CompletedToolCall]]
Around: TypeAlias = Callable[[PendingToolCall, MakeCall], Awaitable[CompletedToolCall]]
"""Makes the call by awaiting what it is given, and may do something before and after."""

MOST_AT_ONCE = 8


def checked_tools(tools: Mapping[str, ToolFunction] | None) -> dict[str, ToolFunction]:
    """The tools as given, if code can call them as `tools.NAME(...)`.

    Raises:
        InputError: they are no mapping, a name is no Python name, or what it names cannot be called.
    """
    if not isinstance(tools or {}, Mapping):
        raise InputError("tools are given by name: tools={'add': add}")
    for name, function in (tools or {}).items():
        if not str(name).isidentifier() or keyword.iskeyword(name):
            raise InputError(f"a tool cannot be called {name!r}: code has to be able to write tools.{name}(...)")
        if not callable(function):
            raise InputError(f"the tool {name!r} is of type {type(function).__name__}, which cannot be called")
    return dict(tools or {})


class ToolCaller:
    """Makes calls of some functions, `most_at_once` of them at a time; `with` it, so that its threads end.

    `on_activity` is told when a call begins. A call that has no place yet waits; it can be cancelled all the while.
    """

    def __init__(
        self,
        tools: Mapping[str, ToolFunction],
        *,
        on_activity: Callable[[TurnActivity], None] = lambda activity: None,
        most_at_once: int = MOST_AT_ONCE,
    ) -> None:
        self._tools = tools
        self._on_activity = on_activity
        self._gate = asyncio.Semaphore(most_at_once)
        # Threads of its own: asyncio's few are also those that look up the addresses of model calls.
        self._threads = ThreadPoolExecutor(max_workers=most_at_once, thread_name_prefix="lash_nb-tool")

    def __enter__(self) -> ToolCaller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def call(self, call: PendingToolCall, *, around: Around | None = None) -> CompletedToolCall:
        """Make one call; one that fails is an outcome. `around` is entered once it has its place."""
        async with self._gate:
            if around is not None:
                return await around(call, lambda: self._make(call))
            return await self._make(call)

    async def _make(self, call: PendingToolCall) -> CompletedToolCall:
        self._on_activity(ToolCallStart(call_id=call.call_id, name=call.tool_name, args=call.args))
        started = time.monotonic()
        outcome = await self._outcome(call)
        return completed_call(call, outcome, round((time.monotonic() - started) * 1000))

    async def _outcome(self, call: PendingToolCall) -> ToolOutcome:
        function = self._tools.get(call.tool_name)
        if function is None:
            known = ", ".join(sorted(self._tools)) or "none"
            return _failed(ToolFailureClass.INVALID_REQUEST, "unknown_tool", f"no such tool; there are: {known}")
        if not isinstance(call.args, Mapping):
            return _failed(ToolFailureClass.INVALID_REQUEST, "bad_arguments", "the arguments are not a JSON object")
        try:
            if inspect.iscoroutinefunction(function):
                value = await function(**call.args)
            else:
                work = functools.partial(contextvars.copy_context().run, function, **call.args)
                value = await asyncio.get_running_loop().run_in_executor(self._threads, work)
            return ToolSucceeded(payload=TOOL_VALUE.encode(value))
        except DecodeError as error:
            return _failed(ToolFailureClass.INTERNAL, "not_json", f"the tool's value is not JSON: {error}")
        except Exception as error:
            return _failed(ToolFailureClass.EXECUTION, type(error).__name__, f"{type(error).__name__}: {error}")


def _failed(kind: ToolFailureClass, code: str, message: str) -> ToolFailed:
    return ToolFailed(
        payload=ToolFailure(class_=kind, code=code, message=message, source=ToolFailureSource.TOOL, retry=RetryNever())
    )


def completed_call(call: PendingToolCall, outcome: ToolOutcome, duration_ms: int) -> CompletedToolCall:
    """The call with what came of it, as the machine takes it and as the model is told."""
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
