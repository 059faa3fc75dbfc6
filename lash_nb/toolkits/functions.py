"""Python functions as tools: what `@tool` remembers, and how a call becomes a call of the function.

Decided here: a function stays the function that it was, with what was said of it beside it. Synchronous ones run in
threads of their own, or, when they are the notebook's, on its main thread while that waits for a turn; asynchronous
ones are awaited. Whatever a function raises is a failed call; KeyboardInterrupt and cancellation pass through. A
function never runs with wrong arguments (`schemas.py`).
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import traceback
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar, get_args, overload

from ..errors import InputError, ToolError
from ..machine.attachments import AttachmentStore
from ..machine.tool_calls import (
    PendingToolCall,
    RetryNever,
    RetrySafe,
    ToolCallOutput,
    ToolFailed,
    ToolFailureClass,
    ToolOutcome,
)
from ..trust import whole_text
from . import MAX_CHARS, AskedFrom, MainThread, Tool, ToolPolicy, ToolSurroundings
from .catalogue import checked_name
from .docstrings import described
from .outcomes import cancelled, failure
from .results import output_of
from .schemas import Arguments, return_schema
from .signatures import is_async, plain_function
from .threads import in_thread

__all__ = ["ToolFunction", "failure_of", "function_tool", "said_name", "tool"]

ToolFunction: TypeAlias = Callable[..., Any]

F = TypeVar("F", bound=Callable[..., Any])

_SAID = "__lash_tool__"
"""What was said of a function, as an attribute of it; wrappers made by functools.wraps have it, too."""
_MESSAGE_CHARS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Said:
    """What `@tool(...)` said of a function."""

    name: str | None = None
    description: str | None = None
    policy: ToolPolicy = field(default_factory=ToolPolicy)


@overload
def tool(
    function: F,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    approve: AskedFrom = "every",
    safe: bool = False,
    retries: int = 0,
    timeout_s: float | None = None,
    max_chars: int = MAX_CHARS,
) -> F: ...
@overload
def tool(
    *,
    name: str | None = None,
    description: str | None = None,
    approve: AskedFrom = "every",
    safe: bool = False,
    retries: int = 0,
    timeout_s: float | None = None,
    max_chars: int = MAX_CHARS,
) -> Callable[[F], F]: ...
def tool(
    function: Any = None,
    /,
    *,
    name: str | None = None,
    description: str | None = None,
    approve: AskedFrom = "every",
    safe: bool = False,
    retries: int = 0,
    timeout_s: float | None = None,
    max_chars: int = MAX_CHARS,
) -> Any:
    """Say how a function is used as a tool; it stays the function that it was.

    Args:
        function: given by `@tool` alone; `@tool(...)` takes the others.
        name: as code calls it; its own without.
        description: for the model; its docstring without.
        approve: the loosest way to approve in which a person is asked about a call: "all", "effects", "every", "never".
        safe: a call may be made again.
        retries: how often, after a failure that passes (a ConnectionError, a TimeoutError, `ToolError(passing=True)`);
            only of a safe one.
        timeout_s: how long one attempt may take.
        max_chars: how much of a result a model is shown.
    """
    said = _said(
        name=name,
        description=description,
        approve=approve,
        safe=safe,
        retries=retries,
        timeout_s=timeout_s,
        max_chars=max_chars,
    )
    return _marked(function, said) if function is not None else lambda given: _marked(given, said)


def _said(
    *,
    name: str | None = None,
    description: str | None = None,
    approve: Any = "every",
    safe: bool = False,
    retries: Any = 0,
    timeout_s: Any = None,
    max_chars: Any = MAX_CHARS,
) -> _Said:
    modes: tuple[AskedFrom, ...] = get_args(AskedFrom)
    mode = next((one for one in modes if one == approve), None)
    if mode is None:
        raise InputError(f"approve={approve!r}: it is one of {', '.join(map(repr, modes))}")
    if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
        raise InputError(f"retries={retries!r}: it is a number of times, 0 or more")
    if retries and not safe:
        raise InputError("retries are for tools whose calls may be made again: say safe=True, or leave them out")
    if timeout_s is not None and not (isinstance(timeout_s, (int, float)) and timeout_s > 0):
        raise InputError(f"timeout_s={timeout_s!r}: it is a number of seconds, or None")
    if not isinstance(max_chars, int) or max_chars < 100:
        raise InputError(f"max_chars={max_chars!r}: it is a number of characters, 100 or more")
    if name is not None:
        checked_name(name)
    policy = ToolPolicy(approve=mode, safe=bool(safe), retries=retries, timeout_s=timeout_s, max_chars=max_chars)
    return _Said(name=name, description=description, policy=policy)


def _marked(function: Any, said: _Said) -> Any:
    if isinstance(function, (staticmethod, classmethod)):
        _marked(function.__func__, said)
        return function
    if not callable(function):
        raise InputError(f"a tool is made of a function, not of {type(function).__name__}")
    try:
        setattr(function, _SAID, said)
    except (AttributeError, TypeError):  # a bound method, or one written in C: that has no attributes
        function = functools.partial(function)
        setattr(function, _SAID, said)
    return function


def said_name(function: object) -> str | None:
    """What `@tool(name=...)` calls it; None: that was not said."""
    said = getattr(function, _SAID, None)
    return said.name if isinstance(said, _Said) else None


def function_tool(name: str | None, function: ToolFunction | Any, *, on_main: bool = False) -> Tool:
    """A function as a tool; `on_main`: of the notebook, whose functions run on its main thread.

    Raises:
        InputError: it cannot be called by that name, or not by JSON arguments; says which of its parameters.
    """
    said = getattr(function, _SAID, None)
    said = said if isinstance(said, _Said) else _Said()
    plain = plain_function(function) if callable(function) else None
    name = name or said.name or _own_name(function, plain)
    checked_name(name)
    if not callable(function):
        raise InputError(f"the tool {name!r} is of type {type(function).__name__}, which cannot be called")
    docs = described(_docstring(function, plain))
    arguments = Arguments(name, function, docs)
    calls = _Calls(function, arguments, on_main=on_main)
    return Tool(
        name=name,
        description=docs.text if said.description is None else said.description,
        input_schema=arguments.schema,
        output_schema=return_schema(function),
        signature=arguments.signature,
        parameters=arguments.names,
        policy=said.policy,
        stoppable=is_async(function),
        invoke=calls,
        judge=calls.judge,
    )


def _own_name(function: Any, plain: Any) -> str:
    name = getattr(function, "__name__", None) or getattr(plain, "__name__", None)
    if not isinstance(name, str) or name.startswith("<") or name == "__call__":
        raise InputError("give the tool a name: what it is made of has none")
    return name


def _docstring(function: Any, plain: Any) -> str | None:
    """Its own; not that of the class of a partial, or of an object that has none."""
    own = function.__doc__ if inspect.isroutine(function) or isinstance(function, type) else None
    return own or getattr(plain, "__doc__", None)


class _Calls:
    """Makes the calls of one function."""

    def __init__(self, function: ToolFunction, arguments: Arguments, *, on_main: bool) -> None:
        self._function = function
        self._arguments = arguments
        self._on_main = on_main
        self._async = is_async(function)

    def judge(self, call: PendingToolCall, around: ToolSurroundings) -> ToolCallOutput | None:
        """What is wrong with the arguments."""
        try:
            self._arguments.read(call.args if isinstance(call.args, Mapping) else {}, store=around.store)
        except Exception as error:  # of the user's own validators, too
            return ToolCallOutput(outcome=failure_of(error, self._function))
        return None

    async def __call__(self, call: PendingToolCall, around: ToolSurroundings) -> ToolCallOutput:
        given: Mapping[str, Any] = call.args if isinstance(call.args, Mapping) else {}
        positional, named = self._arguments.read(given, store=around.store)
        work = functools.partial(self._function, *positional, **named)
        main = around.main if self._on_main and around.main is not None and around.main.serving else None
        made = await (self._awaited(work, main) if self._async else self._called(work, main, around.store))
        if isinstance(made, _Raised):
            return ToolCallOutput(outcome=made.outcome)
        if isinstance(made, ToolCallOutput):
            return made
        if made is None or isinstance(made, (str, int, float)):  # nothing that is slow, or has code of its own
            return _unraised(self._told(made, around.store))
        return _unraised(await in_thread(functools.partial(self._told, made, around.store)))

    async def _called(self, work: Callable[[], Any], main: MainThread | None, store: AttachmentStore | None) -> Any:
        """What a synchronous function gives, as an output; not yet one when it has to be awaited here."""

        def made() -> Any:
            try:
                value = work()
                return value if inspect.isawaitable(value) else self._told(value, store)
            except (Exception, SystemExit) as error:  # a tool must not end the notebook
                return _Raised(failure_of(error, self._function))
            except asyncio.CancelledError:
                return _Raised(cancelled("the tool cancelled its own call"))

        if main is not None:
            value = await main.run(made, {})
        else:
            value = await in_thread(functools.partial(_in_no_mans_thread, made))
        return await self._awaited(lambda: value, None) if inspect.isawaitable(value) else value

    async def _awaited(self, work: Callable[[], Awaitable[Any]], main: MainThread | None) -> Any:
        async def made() -> Any:
            try:
                return await work()
            except (Exception, SystemExit) as error:
                return _Raised(failure_of(error, self._function))

        return await (made() if main is None else main.run(made, {}))

    def _told(self, value: Any, store: AttachmentStore | None) -> ToolCallOutput | _Raised:
        """The value as an output; what shows or stores it may be slow, and the value's own code."""
        try:
            return output_of(value, store)
        except (Exception, SystemExit) as error:
            return _Raised(failure_of(error, self._function))


_PASSING = (ConnectionError, TimeoutError)
"""What may be over when it is tried again."""


@dataclass(frozen=True, slots=True)
class _Raised:
    """How a call ended that raised; no value of a function is one."""

    outcome: ToolOutcome


def _unraised(made: ToolCallOutput | _Raised) -> ToolCallOutput:
    return ToolCallOutput(outcome=made.outcome) if isinstance(made, _Raised) else made


def _in_no_mans_thread(made: Callable[[], Any]) -> Any:
    """No user interrupts such a thread: a function that raises KeyboardInterrupt by itself ends its own call."""
    try:
        return made()
    except KeyboardInterrupt:
        return _Raised(cancelled("the tool interrupted its own call"))


def failure_of(error: BaseException, function: ToolFunction | None = None) -> ToolFailed:
    """What a tool raised, as the outcome of its call."""
    if isinstance(error, ToolError):
        kind = next((one for one in ToolFailureClass if one.value == error.kind), ToolFailureClass.EXECUTION)
        retry = RetrySafe() if error.passing else RetryNever()
        return failure(kind, error.code or error.kind, _cut(str(error.message)), retry=retry)
    name = type(error).__name__
    retry = RetrySafe() if isinstance(error, _PASSING) else RetryNever()
    try:
        text = str(error)
    except Exception:  # its own code
        text = "(it cannot be shown)"
    place = "" if function is None else _place(error, function)
    told = f"{_cut(f'{name}: {text}' if text else name)}{place}"
    return failure(ToolFailureClass.EXECUTION, name, told, retry=retry)


def _place(error: BaseException, function: ToolFunction) -> str:
    """The last line of the user's own file that it came from."""
    code = getattr(plain_function(function), "__code__", None)
    if code is None:
        return ""
    lines = [
        (number, frame.f_code.co_name)
        for frame, number in traceback.walk_tb(error.__traceback__)
        if frame.f_code.co_filename == code.co_filename
    ]
    return f" (line {lines[-1][0]}, in {lines[-1][1]})" if lines else ""


def _cut(text: str) -> str:
    text = whole_text(text)
    if len(text) <= _MESSAGE_CHARS:
        return text
    return f"{text[: _MESSAGE_CHARS // 2]} … {text[-_MESSAGE_CHARS // 2 :]}"
