"""Tool calls: recorded before they begin and when they have ended, and never made twice."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from lash_nb.batches import Batches
from lash_nb.cell_runs import CellRuns
from lash_nb.errors import JournalError
from lash_nb.machine.effects import EffectId, ToolCalls
from lash_nb.machine.events import PluginEvent, TurnActivity
from lash_nb.machine.execution import NamespaceSummary
from lash_nb.machine.tool_calls import (
    CompletedToolCall,
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
from lash_nb.ports import Resumed, Unrecorded
from lash_nb.tool_runs import ToolRuns
from lash_nb.toolkits import Tool, ToolPolicy, ToolSurroundings
from lash_nb.toolkits.functions import ToolFunction

from .told_turns import SECRET, Run, Told, call

SAFE = ToolPolicy(safe=True)
UNKNOWN = (
    "The host ended while this call was being made: whether it took effect is not known, and it was not made again."
)


class Log(Unrecorded):
    """Notes the calls, beside what the tools themselves note; refuses what is named `full`."""

    def __init__(self, notes: list[str], *, full: str = "") -> None:
        self.notes = notes
        self.full = full

    def _take(self, what: str, note: str) -> None:
        if what == self.full:
            raise JournalError("the disk is full")
        self.notes.append(f"{what} {note}")

    async def calling(self, effect_id: EffectId, call: PendingToolCall) -> None:
        self._take("calling", f"{effect_id} {call.call_id} {call.args}")

    async def called(self, effect_id: EffectId, call_id: str, output: ToolCallOutput) -> None:
        assert isinstance(output.outcome, ToolSucceeded)
        self._take("called", f"{effect_id} {call_id} {output.outcome.payload}")


class Shop:
    """A tool that must not be called twice."""

    def __init__(self, *, full: str = "", known: Mapping[str, ToolCallOutput | None] | None = None) -> None:
        self.notes: list[str] = []
        resumed = None if known is None else Resumed(effect_id=EffectId(7), calls=known)
        tools: dict[str, ToolFunction | Tool] = {
            "pay": self.pay,
            "wait": self.wait,
            "look": Tool(name="look", policy=SAFE, invoke=self.look),
        }
        ports = replace(
            Run(Told(), tools=tools).host.ports,
            log=Log(self.notes, full=full),
            resumed=resumed,
        )
        self.runs = ToolRuns(ports)
        self.told: list[TurnActivity] = []
        self.runs.ports = replace(ports, on_activity=self.told.append)
        cells = CellRuns(self.runs.ports, tools=self.runs, tell=lambda sentence: None)
        self.batches = Batches(self.runs.ports, tools=self.runs, cells=cells, finished=self._finished)

    async def _finished(self) -> None: ...

    async def look(self, call: PendingToolCall, around: ToolSurroundings) -> ToolCallOutput:
        self.notes.append("looked")
        return outcome("seen")

    async def pay(self, to: str) -> str:
        self.notes.append(f"paid {to}")
        return f"thanks from {to}"

    async def wait(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.01)
            self.notes.append("stopped")

    async def batch(self, *calls: PendingToolCall, effect: int = 7) -> tuple[CompletedToolCall, ...]:
        return await self.batches.run(ToolCalls(id=EffectId(effect), calls=calls), known=NamespaceSummary())


def outcome(value: Any) -> ToolCallOutput:
    return ToolCallOutput(outcome=ToolSucceeded(payload=value))


def text(done: CompletedToolCall) -> str:
    (part,) = done.model_return.parts
    assert isinstance(part, TextReturn)
    return part.text


async def test_a_call_is_recorded_before_it_begins_and_when_it_has_ended() -> None:
    shop = Shop()
    (done,) = await shop.batch(call("pay", "a", to="x"))
    assert shop.notes == ["calling 7 a {'to': 'x'}", "paid x", "called 7 a thanks from x"]
    assert done.output == outcome("thanks from x")


async def test_neither_record_holds_a_secret() -> None:
    shop = Shop()
    (done,) = await shop.batch(call("pay", "a", to=SECRET))
    assert shop.notes[1] == f"paid {SECRET}"  # the tool itself gets what the code gave
    assert [note for note in shop.notes if SECRET in note] == [f"paid {SECRET}"]
    assert (text(done), done.args) == ("thanks from [redacted]", {"to": "[redacted]"})


async def test_a_call_that_cannot_be_recorded_is_not_made() -> None:
    shop = Shop(full="calling")
    with pytest.raises(JournalError):
        await shop.batch(call("pay", "a", to="x"))
    assert shop.notes == []


async def test_a_result_that_cannot_be_recorded_is_not_passed_on() -> None:
    shop = Shop(full="called")
    with pytest.raises(JournalError):
        await shop.batch(call("pay", "a", to="x"))
    assert shop.notes == ["calling 7 a {'to': 'x'}", "paid x"]


async def test_when_a_result_cannot_be_recorded_the_other_calls_are_stopped_and_waited_for() -> None:
    shop = Shop(full="called")
    with pytest.raises(JournalError):
        await shop.batch(call("wait", "b"), call("pay", "a", to="x"))
    assert shop.notes[-1] == "stopped"


@pytest.mark.parametrize("full", ["calling", "called"])
async def test_after_a_call_that_could_not_be_recorded_none_is_made(full: str) -> None:
    shop = Shop(full=full)
    with shop.runs.caller(EffectId(7), on_activity=lambda activity: None, most_at_once=4) as caller:
        with pytest.raises(JournalError) as first:
            await caller.call(call("pay", "a", to="x"))
        made = list(shop.notes)
        with pytest.raises(JournalError) as second:
            await caller.call(call("wait", "b"))
    assert second.value is first.value is shop.runs.unrecorded
    assert shop.notes == made


@pytest.mark.parametrize(
    ("recorded", "told"),
    [
        (ToolSucceeded(payload={"rows": 2}), '{"rows":2}'),
        (
            ToolFailed(
                payload=ToolFailure(
                    class_=ToolFailureClass.EXECUTION,
                    code="ValueError",
                    message="ValueError: no",
                    source=ToolFailureSource.TOOL,
                    retry=RetryNever(),
                )
            ),
            "[Tool execution failed]\nValueError: no\n(execution, code ValueError; do not repeat the same call)",
        ),
    ],
    ids=["succeeded", "failed"],
)
async def test_of_a_call_that_ended_before_the_recorded_result_is_given(recorded: ToolOutcome, told: str) -> None:
    shop = Shop(known={"a": ToolCallOutput(outcome=recorded)})
    done, other = await shop.batch(call("pay", "a", to="x"), call("pay", "b", to="y"))
    assert (done.output.outcome, text(done)) == (recorded, told)
    assert other.output == outcome("thanks from y")
    assert shop.notes == ["calling 7 b {'to': 'y'}", "paid y", "called 7 b thanks from y"]


async def test_a_call_of_which_only_the_beginning_is_recorded_is_not_made_again_and_that_is_said() -> None:
    shop = Shop(known={"a": None})
    (done,) = await shop.batch(call("pay", "a", to="x"))
    assert shop.notes == []
    assert isinstance(done.output.outcome, ToolFailed)
    assert (done.output.outcome.payload.code, done.output.outcome.payload.message) == ("outcome_unknown", UNKNOWN)
    assert UNKNOWN in text(done)


async def test_one_that_is_safe_to_repeat_is_made_again_and_that_is_said() -> None:
    shop = Shop(known={"a": None})
    (done,) = await shop.batch(call("look", "a"))
    assert shop.notes == ["calling 7 a {}", "looked", "called 7 a seen"]
    assert done.output == outcome("seen")
    said = [one.event.label for one in shop.told if isinstance(one, PluginEvent)]  # type: ignore[union-attr]
    assert said == ["look: this call had begun when the host ended; it is safe to repeat, and is made again."]


async def test_what_is_known_of_one_effect_says_nothing_of_another() -> None:
    shop = Shop(known={"a": outcome("of before")})
    (done,) = await shop.batch(call("pay", "a", to="x"), effect=8)
    assert done.output == outcome("thanks from x")


async def test_calls_of_a_cell_are_recorded_alike() -> None:
    shop = Shop(known={"c1": None, "c2": outcome("thanks from y")})
    with shop.runs.caller(EffectId(7), on_activity=lambda activity: None, most_at_once=4) as caller:
        calls = [call("pay", name, to=to) for name, to in (("c1", "x"), ("c2", "y"), ("c3", "z"))]
        done = [(await caller.call(one)).output.outcome for one in calls]
    assert isinstance(done[0], ToolFailed)
    assert done[1:] == [ToolSucceeded(payload="thanks from y"), ToolSucceeded(payload="thanks from z")]
    assert shop.notes == ["calling 7 c3 {'to': 'z'}", "paid z", "called 7 c3 thanks from z"]
