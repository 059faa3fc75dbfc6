"""Making calls of tools: so many at once, each attempt within its time, again where that is safe.

Decided here: what every tool's call has alike. A call is made again only when its tool says that this is safe, and the
failure is one that passes; waits between attempts grow. A call that is not answered in its time is given up: what it
does may go on, and the outcome says so. Whatever a tool raises is an outcome; a cancelled call raises CancelledError to
whoever made it, and one that a tool cancels by itself is a cancelled outcome.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import TypeAlias

from ..machine.events import ToolCallStart, TurnActivity
from ..machine.tool_calls import (
    CompletedToolCall,
    PendingToolCall,
    RetryExhausted,
    RetryNever,
    RetrySafe,
    ToolCallOutput,
    ToolFailed,
    ToolFailureClass,
    ToolFailureSource,
    ToolOutcome,
)
from . import Tool, ToolSurroundings
from .functions import failure_of
from .outcomes import MOST_CHARS, cancelled, checked_output, failure
from .showing import model_return

__all__ = ["MOST_AT_ONCE", "Around", "MakeCall", "ToolCaller", "completed_call"]

MakeCall: TypeAlias = Callable[[], Awaitable[CompletedToolCall]]
Around: TypeAlias = Callable[[PendingToolCall, MakeCall], Awaitable[CompletedToolCall]]
"""Makes the call by awaiting what it is given, and may do something before and after."""

MOST_AT_ONCE = 8
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 10.0
_CLEAN_UP_S = 3.0
"""How long a call that is cancelled is waited for."""


class ToolCaller:
    """Makes calls of some tools, `most_at_once` of them at a time; `with` it: afterwards it makes no more.

    `on_activity` is told when a call begins. A call that has no place yet waits; it can be cancelled all the while.
    A value of more than `most_chars` characters is a failure.
    """

    def __init__(
        self,
        tools: Mapping[str, Tool],
        around: ToolSurroundings,
        *,
        on_activity: Callable[[TurnActivity], None] = lambda activity: None,
        most_at_once: int = MOST_AT_ONCE,
        most_chars: int = MOST_CHARS,
    ) -> None:
        self._tools = tools
        self._around = around
        self._on_activity = on_activity
        self._gate = asyncio.Semaphore(most_at_once)
        self._most_chars = most_chars
        self._over = False

    def __enter__(self) -> ToolCaller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over = True

    async def call(self, call: PendingToolCall, *, around: Around | None = None) -> CompletedToolCall:
        """Make one call; one that fails is an outcome. `around` is entered once it has its place."""
        async with self._gate:
            if around is not None:
                return await around(call, lambda: self._make(call))
            return await self._make(call)

    async def _make(self, call: PendingToolCall) -> CompletedToolCall:
        if self._over:
            outcome = cancelled("the call was not made: what it belongs to is over", source=ToolFailureSource.RUNTIME)
            return completed_call(call, outcome, 0)
        self._on_activity(ToolCallStart(call_id=call.call_id, name=call.tool_name, args=call.args))
        started = time.monotonic()
        output = await self._output(call)
        return completed_call(call, output, round((time.monotonic() - started) * 1000))

    async def _output(self, call: PendingToolCall) -> ToolCallOutput:
        tool = self._tools.get(call.tool_name)
        if tool is None:
            known = ", ".join(sorted(self._tools)) or "none"
            return _refused("unknown_tool", f"no such tool; there are: {known}")
        if not isinstance(call.args, Mapping):
            return _refused("bad_arguments", "the arguments are not a JSON object")
        retries = tool.policy.retries if tool.policy.safe else 0
        for attempt in range(1, retries + 2):
            output = await self._attempt(tool, call)
            wait_s = _wait_s(output.outcome, attempt)
            if wait_s is None:
                break
            if attempt <= retries:
                await asyncio.sleep(wait_s)
            elif retries:
                output = replace(output, outcome=_exhausted(output.outcome, attempt))
        return checked_output(output, most_chars=self._most_chars)

    async def _attempt(self, tool: Tool, call: PendingToolCall) -> ToolCallOutput:
        """One attempt, as a task of its own: one that does not react to being cancelled is let go of."""
        attempt = asyncio.ensure_future(_made(tool, call, self._around))
        try:
            await asyncio.wait({attempt}, timeout=tool.policy.timeout_s)
            if attempt.done():
                return attempt.result()
            await _cancel(attempt)
            return ToolCallOutput(outcome=_given_up(tool))
        except asyncio.CancelledError:
            await _cancel(attempt)
            raise


async def _made(tool: Tool, call: PendingToolCall, around: ToolSurroundings) -> ToolCallOutput:
    """Whatever a tool raises is an outcome: what asyncio lets through would end the loop of all sessions."""
    try:
        return await tool.invoke(call, around)
    except (asyncio.CancelledError, KeyboardInterrupt, GeneratorExit):
        return ToolCallOutput(outcome=cancelled("the tool cancelled its own call"))
    except (Exception, SystemExit) as error:
        return ToolCallOutput(outcome=failure_of(error))


async def _cancel(attempt: asyncio.Future[ToolCallOutput]) -> None:
    """Cancel an attempt, and wait, bounded, until it has cleaned up."""
    attempt.cancel()
    await asyncio.wait({attempt}, timeout=_CLEAN_UP_S)


def _refused(code: str, message: str) -> ToolCallOutput:
    source = ToolFailureSource.RUNTIME
    return ToolCallOutput(outcome=failure(ToolFailureClass.INVALID_REQUEST, code, message, source=source))


def _given_up(tool: Tool) -> ToolFailed:
    message = f"the call was given up: it took longer than {tool.policy.timeout_s:g} s."
    if not tool.stoppable:
        message += " It runs in a thread, which cannot be stopped: it may still be running, and may still take effect."
    return failure(
        ToolFailureClass.TIMEOUT,
        "timeout",
        message,
        source=ToolFailureSource.RUNTIME,
        retry=RetrySafe() if tool.policy.safe else RetryNever(),
    )


def _wait_s(outcome: ToolOutcome, attempt: int) -> float | None:
    """How long to wait before the call is made again; None when it is not one that passes."""
    match outcome:
        case ToolFailed(payload=failed) if isinstance(failed.retry, RetrySafe):
            wait_s: float = max(_FIRST_WAIT_S * 2.0 ** min(attempt - 1, 16), (failed.retry.after_ms or 0) / 1000)
            return min(wait_s, _LONGEST_WAIT_S)
        case _:
            return None


def _exhausted(outcome: ToolOutcome, attempts: int) -> ToolOutcome:
    assert isinstance(outcome, ToolFailed)
    return replace(outcome, payload=replace(outcome.payload, retry=RetryExhausted(attempts=attempts)))


def completed_call(call: PendingToolCall, outcome: ToolOutcome | ToolCallOutput, duration_ms: int) -> CompletedToolCall:
    """The call with what came of it, as the machine takes it and as the model is told."""
    output = outcome if isinstance(outcome, ToolCallOutput) else ToolCallOutput(outcome=outcome)
    return CompletedToolCall(
        call_id=call.call_id,
        tool_name=call.tool_name,
        args=call.args,
        output=output,
        model_return=model_return(call, output),
        duration_ms=duration_ms,
        replay=call.replay,
    )
