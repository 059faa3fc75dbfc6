"""Making calls: how many at once, how long, how often; and that whatever a tool does is an outcome."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from lash_nb.errors import ToolError
from lash_nb.machine.events import ToolCallStart, TurnActivity
from lash_nb.machine.tool_calls import (
    CompletedToolCall,
    FinishControl,
    PendingToolCall,
    RetryExhausted,
    RetryNever,
    RetrySafe,
    ToolCallOutput,
    ToolCancelled,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
    ToolSucceeded,
)
from lash_nb.toolkits import Tool, ToolPolicy, ToolSurroundings, calling
from lash_nb.toolkits.calling import MOST_AT_ONCE, MakeCall, ToolCaller, completed_call
from lash_nb.toolkits.functions import function_tool, tool
from lash_nb.toolkits.outcomes import MOST_CHARS_IN_CELLS
from lash_nb.toolkits.threads import MOST_LEFT, in_thread

from .calls import failed, make, pending, result, text, value


def passing(*, after_ms: int | None = None) -> ToolCallOutput:
    failure = ToolFailure(
        class_=ToolFailureClass.UNAVAILABLE,
        code="busy",
        message="busy",
        source=ToolFailureSource.TOOL,
        retry=RetrySafe(after_ms=after_ms),
    )
    return ToolCallOutput(outcome=ToolFailed(payload=failure))


@dataclass
class Scripted:
    """A tool that gives one output after the other; what can be raised is raised."""

    script: list[Any]
    made: int = 0
    begun: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, call: PendingToolCall, around: ToolSurroundings) -> ToolCallOutput:
        step = self.script[self.made]
        self.made += 1
        self.begun.set()
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, asyncio.Event):
            await step.wait()
        return step if isinstance(step, ToolCallOutput) else ToolCallOutput(outcome=ToolSucceeded(payload=step))


def scripted(*script: Any, **policy: Any) -> tuple[Scripted, Tool]:
    made = Scripted(list(script))
    return made, Tool(name="it", policy=ToolPolicy(**policy), invoke=made)


# -- what cannot be called ---------------------------------------------------------------------------------------------


async def test_an_unknown_tool() -> None:
    _, one = scripted(1)
    with ToolCaller({"it": one}, ToolSurroundings()) as caller:
        failure = failed(await caller.call(pending("other", {})))
    assert (failure.class_, failure.code) == (ToolFailureClass.INVALID_REQUEST, "unknown_tool")
    assert (failure.message, failure.source) == ("no such tool; there are: it", ToolFailureSource.RUNTIME)


@pytest.mark.parametrize("args", [None, [], "x", 3])
async def test_arguments_that_are_no_object(args: Any) -> None:
    made, one = scripted(1)
    assert failed(await make(one, args)).code == "bad_arguments"
    assert made.made == 0


# -- again and again ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "first", [passing(), passing(after_ms=1), ToolError("later", kind="unavailable", passing=True)]
)
async def test_a_safe_call_is_made_again_after_a_passing_failure(first: Any) -> None:
    made, one = scripted(first, "done", safe=True, retries=2)
    assert await value(one) == "done"
    assert made.made == 2


async def test_it_is_made_so_often_and_then_that_is_said() -> None:
    made, one = scripted(*[passing()] * 3, safe=True, retries=2)
    done = await make(one, {})
    assert (failed(done).retry, made.made) == (RetryExhausted(attempts=3), 3)
    assert "it was tried 3 times" in text(done)


@pytest.mark.parametrize(
    ("first", "policy"),
    [
        (passing(), {"safe": False, "retries": 2}),
        (passing(), {"safe": True, "retries": 0}),
        (ToolError("no"), {"safe": True, "retries": 2}),
        (ValueError("no"), {"safe": True, "retries": 2}),
    ],
)
async def test_no_other_call_is_made_again(first: Any, policy: dict[str, Any]) -> None:
    made, one = scripted(first, "done", **policy)
    failure = failed(await make(one, {}))
    assert made.made == 1
    assert failure.retry == (RetrySafe() if isinstance(first, ToolCallOutput) else RetryNever())


async def test_a_cancelled_call_is_not_made_again() -> None:
    made, one = scripted(*[passing(after_ms=600_000)] * 2, safe=True, retries=1)
    call = asyncio.ensure_future(make(one, {}))
    await made.begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert made.made == 1


# -- in time -----------------------------------------------------------------------------------------------------------


async def test_a_call_that_takes_too_long_is_given_up() -> None:
    _, one = scripted(asyncio.Event(), timeout_s=0.02)
    failure = failed(await make(one, {}))
    assert (failure.class_, failure.source) == (ToolFailureClass.TIMEOUT, ToolFailureSource.RUNTIME)
    assert (failure.message, failure.retry) == ("the call was given up: it took longer than 0.02 s.", RetryNever())


async def test_each_attempt_has_its_time() -> None:
    made, one = scripted(asyncio.Event(), asyncio.Event(), "done", timeout_s=0.02, safe=True, retries=2)
    assert await value(one) == "done"
    assert made.made == 3


async def test_a_function_in_a_thread_is_let_go_of_and_that_is_said() -> None:
    go_on, ended = threading.Event(), threading.Event()

    @tool(timeout_s=0.02)
    def slow() -> None:
        go_on.wait(30)
        ended.set()

    failure = failed(await make(function_tool(None, slow), {}))
    assert "it may still be running" in failure.message
    assert not ended.is_set()
    go_on.set()
    assert await asyncio.to_thread(ended.wait, 30)


async def test_a_time_out_of_the_tools_own_is_not_ours() -> None:
    _, one = scripted(TimeoutError("its own"), timeout_s=30)
    failure = failed(await make(one, {}))
    assert (failure.class_, failure.message) == (ToolFailureClass.EXECUTION, "TimeoutError: its own")


class Stubborn(Scripted):
    """Raises something else when it is given up."""

    async def __call__(self, call: PendingToolCall, around: ToolSurroundings) -> ToolCallOutput:
        try:
            return await super().__call__(call, around)
        except asyncio.CancelledError:
            raise RuntimeError("half of it is done") from None


async def test_what_a_call_raises_when_it_is_given_up_is_the_time_out() -> None:
    one = Tool(name="it", policy=ToolPolicy(timeout_s=0.02), invoke=Stubborn([asyncio.Event()]))
    assert failed(await make(one, {})).class_ is ToolFailureClass.TIMEOUT


# -- cancellation ------------------------------------------------------------------------------------------------------


async def test_a_cancelled_call_raises_to_whoever_made_it() -> None:
    made, one = scripted(asyncio.Event())
    call = asyncio.ensure_future(make(one, {}))
    await made.begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_call_that_its_tool_cancels_is_an_outcome() -> None:
    _, one = scripted(asyncio.CancelledError())
    done = await make(one, {})
    assert isinstance(done.output.outcome, ToolCancelled)
    assert text(done) == "[Tool call cancelled]\nthe tool cancelled its own call"


async def test_a_call_that_waits_for_its_place_can_be_cancelled() -> None:
    free = asyncio.Event()
    made, one = scripted(free, "two")
    with ToolCaller({"it": one}, ToolSurroundings(), most_at_once=1) as caller:
        first = asyncio.ensure_future(caller.call(pending("it", {}, "a")))
        second = asyncio.ensure_future(caller.call(pending("it", {}, "b")))
        await made.begun.wait()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        free.set()
        assert isinstance((await first).output.outcome, ToolFailed)  # an event is no JSON
    assert made.made == 1


async def test_when_it_is_over_no_call_is_made() -> None:
    made, one = scripted("x")
    with ToolCaller({"it": one}, ToolSurroundings()) as caller:
        pass
    done = await caller.call(pending("it", {}))
    assert isinstance(done.output.outcome, ToolCancelled)
    assert made.made == 0


# -- many at once ------------------------------------------------------------------------------------------------------


@dataclass
class Crowd:
    """Notes how many are in it at once."""

    guard: threading.Lock = field(default_factory=threading.Lock)
    here: int = 0
    most: int = 0
    names: set[str] = field(default_factory=set)

    def enter(self, n: int) -> int:
        with self.guard:
            self.here += 1
            self.most = max(self.most, self.here)
            self.names.add(threading.current_thread().name)
        time.sleep(0.01)
        with self.guard:
            self.here -= 1
        return n

    async def enter_async(self, n: int) -> int:
        self.here += 1
        self.most = max(self.most, self.here)
        await asyncio.sleep(0.01)
        self.here -= 1
        return n


@pytest.mark.parametrize("most", [MOST_AT_ONCE, 20])
@pytest.mark.parametrize("method", [Crowd.enter, Crowd.enter_async])
async def test_twenty_calls_at_once_keep_to_their_bound(most: int, method: Callable[..., Any]) -> None:
    crowd = Crowd()
    it = function_tool("it", method.__get__(crowd))
    with ToolCaller({"it": it}, ToolSurroundings(), most_at_once=most) as caller:
        calls = [caller.call(pending("it", {"n": number}, str(number))) for number in range(20)]
        done = await asyncio.gather(*calls)
    assert [result(one.output) for one in done] == list(range(20))
    assert [one.call_id for one in done] == [str(number) for number in range(20)]
    assert 1 < crowd.most <= most


# -- around ------------------------------------------------------------------------------------------------------------


async def test_what_is_around_a_call_is_entered_once_it_has_its_place_and_told_first() -> None:
    notes: list[str] = []
    free = asyncio.Event()
    made, one = scripted(free, "two")

    async def around(call: PendingToolCall, make_it: MakeCall) -> CompletedToolCall:
        notes.append(f"before {call.call_id}")
        done = await make_it()
        notes.append(f"after {call.call_id}")
        return done

    def on_activity(activity: TurnActivity) -> None:
        assert isinstance(activity, ToolCallStart)
        notes.append(f"begins {activity.call_id}")

    with ToolCaller({"it": one}, ToolSurroundings(), on_activity=on_activity, most_at_once=1) as caller:
        calls = [asyncio.ensure_future(caller.call(pending("it", {}, name), around=around)) for name in "ab"]
        await made.begun.wait()
        assert notes == ["before a", "begins a"]
        free.set()
        await asyncio.gather(*calls)
    assert notes == ["before a", "begins a", "after a", "before b", "begins b", "after b"]


async def test_retries_are_one_call() -> None:
    seen: list[TurnActivity] = []
    _, one = scripted(passing(), "x", safe=True, retries=1)
    with ToolCaller({"it": one}, ToolSurroundings(), on_activity=seen.append) as caller:
        await caller.call(pending("it", {}))
    assert len(seen) == 1


# -- values ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [object(), float("nan"), {"$lash_tool_value": "attachment"}])
async def test_a_value_that_is_not_json_is_a_failure(given: Any) -> None:
    _, one = scripted(given)
    failure = failed(await make(one, {}))
    assert (failure.class_, failure.code) == (ToolFailureClass.INTERNAL, "not_json")


@pytest.mark.parametrize("given", ["x" * (MOST_CHARS_IN_CELLS + 1), ["x" * MOST_CHARS_IN_CELLS]])
async def test_a_value_that_is_too_long_is_a_failure(given: Any) -> None:
    _, one = scripted(given)
    with ToolCaller({"it": one}, ToolSurroundings(), most_chars=MOST_CHARS_IN_CELLS) as caller:
        failure = failed(await caller.call(pending("it", {})))
    assert (failure.class_, failure.code) == (ToolFailureClass.RESOURCE_LIMIT, "value_too_long")


async def test_a_control_is_passed_on() -> None:
    output = ToolCallOutput(outcome=ToolSucceeded(payload=[1]), control=FinishControl(value=[1]))
    _, one = scripted(output)
    assert (await make(one, {})).output == output


def test_a_completed_call_is_made_of_an_outcome_or_an_output() -> None:
    outcome = ToolSucceeded(payload="x")
    call = pending("it", {"a": 1})
    done = completed_call(call, outcome, 5)
    assert done == completed_call(call, ToolCallOutput(outcome=outcome), 5)
    assert (done.args, done.duration_ms, done.output, text(done)) == ({"a": 1}, 5, ToolCallOutput(outcome=outcome), "x")


# -- threads -----------------------------------------------------------------------------------------------------------


async def test_so_many_threads_may_be_left_and_then_none_is_begun() -> None:
    go_on = threading.Event()

    @tool(timeout_s=0.01)
    def hangs() -> None:
        go_on.wait(60)

    it = function_tool(None, hangs)
    with ToolCaller({"hangs": it}, ToolSurroundings(), most_at_once=MOST_LEFT + 1) as caller:
        calls = [caller.call(pending("hangs", {}, str(number))) for number in range(MOST_LEFT)]
        await asyncio.gather(*calls)
        failure = failed(await caller.call(pending("hangs", {})))
    assert (failure.class_, failure.code) == (ToolFailureClass.RESOURCE_LIMIT, "threads")
    go_on.set()
    left = [thread for thread in threading.enumerate() if thread.name == "lash_nb-tool"]
    await asyncio.gather(*(asyncio.to_thread(thread.join, 30) for thread in left))
    assert await in_thread(lambda: 3) == 3


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
async def test_whatever_a_tool_raises_ends_its_call_alone(kind: type[BaseException]) -> None:
    """asyncio lets some of these through to the loop, which all sessions share."""

    async def invoke(call: PendingToolCall, around: ToolSurroundings) -> ToolCallOutput:
        raise kind

    tools = {"odd": Tool(name="odd", invoke=invoke)}
    with ToolCaller(tools, ToolSurroundings()) as caller:
        done = await caller.call(PendingToolCall(call_id="a", tool_name="odd", args={}))
    assert not isinstance(done.output.outcome, ToolSucceeded)


async def test_a_tool_that_does_not_let_itself_be_cancelled_is_let_go_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calling, "_CLEAN_UP_S", 0.05)
    ends = asyncio.Event()

    async def invoke(call: PendingToolCall, around: ToolSurroundings) -> ToolCallOutput:
        while not ends.is_set():
            try:
                await ends.wait()
            except asyncio.CancelledError:
                continue
        return ToolCallOutput(outcome=ToolSucceeded(payload="late"))

    tools = {"deaf": Tool(name="deaf", policy=ToolPolicy(timeout_s=0.05), invoke=invoke)}
    with ToolCaller(tools, ToolSurroundings()) as caller:
        done = await caller.call(PendingToolCall(call_id="a", tool_name="deaf", args={}))
    assert isinstance(done.output.outcome, ToolFailed)
    assert done.output.outcome.payload.class_ is ToolFailureClass.TIMEOUT
    ends.set()
