"""Calls of functions: what they raise becomes an outcome, and in which thread they run."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from lash_nb.errors import ToolError
from lash_nb.machine.tool_calls import RetryNever, RetrySafe, ToolCancelled, ToolFailureClass
from lash_nb.toolkits import ToolSurroundings
from lash_nb.toolkits.functions import function_tool

from .calls import failed, make, pending, value

# -- what they raise ---------------------------------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[[], None]:
    def raises() -> None:
        raise error

    return raises


def async_raising(error: BaseException) -> Callable[[], Any]:
    async def raises() -> None:
        raise error

    return raises


class Unshown(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


LINE = raising.__code__.co_firstlineno + 2
ASYNC_LINE = async_raising.__code__.co_firstlineno + 2


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (lambda: ValueError("no"), "ValueError", "ValueError: no"),
        (KeyError, "KeyError", "KeyError"),
        (lambda: SystemExit(2), "SystemExit", "SystemExit: 2"),
        (Unshown, "Unshown", "Unshown: (it cannot be shown)"),
    ],
)
@pytest.mark.parametrize(("make_function", "line"), [(raising, LINE), (async_raising, ASYNC_LINE)])
async def test_what_a_function_raises_is_a_failed_call(
    error: Callable[[], BaseException], code: str, message: str, make_function: Any, line: int
) -> None:
    failure = failed(await make(function_tool("it", make_function(error())), {}))
    assert (failure.class_, failure.code, failure.retry) == (ToolFailureClass.EXECUTION, code, RetryNever())
    assert failure.message == f"{message} (line {line}, in raises)"


@pytest.mark.parametrize("kind", [TimeoutError, ConnectionResetError])
async def test_what_may_be_over_the_next_time_is_a_failure_that_passes(kind: type[Exception]) -> None:
    failure = failed(await make(function_tool("it", raising(kind("slow"))), {}))
    assert (failure.class_, failure.code, failure.retry) == (ToolFailureClass.EXECUTION, kind.__name__, RetrySafe())


async def test_a_stop_iteration_is_a_failed_call() -> None:
    failure = failed(await make(function_tool("it", raising(StopIteration(3))), {}))
    assert failure.message == f"StopIteration: 3 (line {LINE}, in raises)"


async def test_the_line_is_the_last_one_of_the_functions_own_file() -> None:
    def parses(text: str) -> Any:
        return json.loads(text)

    line = parses.__code__.co_firstlineno + 1
    message = failed(await make(function_tool(None, parses), {"text": "{"})).message
    assert message.endswith(f" (line {line}, in parses)")


async def test_a_long_message_is_bounded() -> None:
    message = failed(await make(function_tool("it", raising(ValueError("x" * 1_000_000))), {})).message
    assert len(message) < 2_100


@pytest.mark.parametrize("make_function", [raising, async_raising])
@pytest.mark.parametrize(
    ("error", "kind", "code", "retry"),
    [
        (ToolError("no room", kind="resource_limit", code="quota"), "resource_limit", "quota", RetryNever()),
        (ToolError("later", kind="unavailable", passing=True), "unavailable", "unavailable", RetrySafe()),
        (ToolError("odd", kind="of_its_own"), "execution", "of_its_own", RetryNever()),
    ],
)
async def test_a_tool_error_says_what_kind_it_is(
    error: ToolError, kind: str, code: str, retry: Any, make_function: Any
) -> None:
    failure = failed(await make(function_tool("it", make_function(error)), {}))
    assert (failure.class_.value, failure.code, failure.retry) == (kind, code, retry)
    assert failure.message == error.message


@pytest.mark.parametrize(
    "function",
    [
        raising(asyncio.CancelledError()),
        async_raising(asyncio.CancelledError()),
        raising(KeyboardInterrupt()),
    ],
)
async def test_a_function_that_cancels_its_own_call(function: Callable[..., Any]) -> None:
    done = await make(function_tool("it", function), {})
    assert isinstance(done.output.outcome, ToolCancelled)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


# -- where they run ----------------------------------------------------------------------------------------------------

WHO: contextvars.ContextVar[str] = contextvars.ContextVar("WHO", default="nobody")


async def test_a_synchronous_function_runs_in_a_thread_with_the_callers_context() -> None:
    def where() -> list[Any]:
        return [threading.current_thread() is threading.main_thread(), threading.current_thread().daemon, WHO.get()]

    WHO.set("me")
    assert await value(function_tool(None, where)) == [False, True, "me"]


@dataclass
class ScriptedMain:
    """A main thread that runs what it is given at once."""

    serving: bool = True
    ran: list[Any] = field(default_factory=list)

    async def run(self, function: Any, arguments: Mapping[str, Any]) -> Any:
        self.ran.append(inspect.iscoroutinefunction(function))
        given = function(**arguments)
        return await given if inspect.iscoroutinefunction(function) else given


async def test_functions_of_the_notebook_run_on_its_main_thread() -> None:
    main = ScriptedMain()

    def where(n: int, /) -> list[Any]:
        return [threading.current_thread() is threading.main_thread(), n]

    async def awaited(n: int) -> int:
        return n + 1

    assert await value(function_tool(None, where, on_main=True), {"n": 1}, main=main) == [True, 1]
    assert await value(function_tool(None, awaited, on_main=True), {"n": 1}, main=main) == 2
    assert await value(function_tool("later", lambda: awaited(2), on_main=True), main=main) == 3
    assert main.ran == [False, True, False]
    failure = failed(await make(function_tool("it", raising(ValueError("no")), on_main=True), {}, main=main))
    assert failure.message == f"ValueError: no (line {LINE}, in raises)"


def test_an_interrupt_on_the_main_thread_passes_through() -> None:
    made = function_tool("it", raising(KeyboardInterrupt()), on_main=True)
    call: Any = made.invoke(pending("it", {}), ToolSurroundings(main=ScriptedMain()))
    with pytest.raises(KeyboardInterrupt):
        call.send(None)


async def test_without_a_main_thread_that_serves_they_run_in_threads() -> None:
    def where() -> bool:
        return threading.current_thread() is threading.main_thread()

    main = ScriptedMain(serving=False)
    assert await value(function_tool(None, where, on_main=True), main=main) is False
    assert await value(function_tool(None, where, on_main=True)) is False
    assert await value(function_tool(None, where), main=ScriptedMain()) is False
    assert main.ran == []
