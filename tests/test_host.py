"""The host's rules (`reference/turn-machine.md` 1.14), with a protocol that does what a test tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from lash_nb import ScriptedKernel, ScriptedModel
from lash_nb.fulfil import TurnPorts
from lash_nb.host import TurnHost, TurnResult
from lash_nb.machine.checkpoints import CheckpointKind, FinishWith
from lash_nb.machine.config import JsonTurnProtocol, TurnMachineConfig
from lash_nb.machine.driver import (
    CheckedDriver,
    DriverAction,
    DriverContext,
    Finish,
    StartCheckpoint,
    StartExec,
    StartLlm,
    StartTools,
)
from lash_nb.machine.effects import Emit
from lash_nb.machine.events import ErrorEvent, TextDelta, TurnActivity
from lash_nb.machine.outcomes import AssistantMessage, Finished, Stopped, TurnOutcome, TurnStopReason
from lash_nb.machine.projector import ChatProjector
from lash_nb.machine.state import TurnCheckpoint
from lash_nb.machine.tool_calls import PendingToolCall, ToolFailed, ToolSucceeded
from lash_nb.machine.turn import TurnMachine
from lash_nb.models import CallContext
from lash_nb.protocols.code import CodeProtocol
from lash_nb.toolkits import ToolFunction

ANSWER: TurnOutcome = Finished(finish=AssistantMessage(text="done"))
Step = Callable[[DriverContext], Sequence[DriverAction]]


class Told(CodeProtocol):
    """The code protocol's surroundings around a driver that plays one list of actions for each callback."""

    def __init__(self, *steps: Step) -> None:
        super().__init__(turn_id="t1")
        self.steps = list(steps)
        self.results: list[Any] = []
        self.calls = 0

    def play(self, ctx: DriverContext) -> Sequence[DriverAction]:
        self.calls += 1
        return self.steps.pop(0)(ctx) if self.steps else []

    def prepare_protocol_iteration(self, ctx: DriverContext) -> Sequence[DriverAction]:
        return self.play(ctx)

    def handle_llm_success(self, ctx: DriverContext, *seen: Any) -> Sequence[DriverAction]:
        return self.play(ctx)

    def handle_tool_results(self, ctx: DriverContext, completed: Any) -> Sequence[DriverAction]:
        self.results.append(completed)
        return self.play(ctx)

    def handle_exec_result(self, ctx: DriverContext, waiting: Any, result: Any) -> Sequence[DriverAction]:
        self.results.append(result)
        return self.play(ctx)


class Run:
    """One machine under the host, and everything that was seen of it."""

    def __init__(self, protocol: Told, *, checked: bool = False, tools: dict[str, ToolFunction] | None = None) -> None:
        driver = CheckedDriver(protocol) if checked else protocol
        self.protocol = protocol
        self.activities: list[TurnActivity] = []
        self.records: list[tuple[TurnCheckpoint, bool]] = []
        self.kernel = ScriptedKernel()
        self.machine = TurnMachine(
            TurnMachineConfig(driver=driver, projector=ChatProjector(), protocol=JsonTurnProtocol, model="m")
        )
        self.host = TurnHost(
            self.machine,
            TurnPorts(
                protocol=protocol,
                model=ScriptedModel(["answer"] * 3),
                kernel=self.kernel,
                context=CallContext(session="1", turn=1, step=0, user_text="?"),
                session_id="s",
                tools=tools or {},
                on_activity=self.activities.append,
                on_record=lambda checkpoint, final: self.records.append((checkpoint, final)),
            ),
        )

    async def to_the_end(self) -> TurnResult:
        await self.kernel.start()
        return await self.host.run()

    @property
    def errors(self) -> list[str]:
        return [event.message for event in self.activities if isinstance(event, ErrorEvent)]


def finish(ctx: DriverContext) -> Sequence[DriverAction]:
    return [Finish(outcome=ANSWER)]


def call(name: str, call_id: str = "c", **args: Any) -> PendingToolCall:
    return PendingToolCall(call_id=call_id, tool_name=name, args=args)


async def test_a_driver_that_only_emits_is_asked_again_a_bounded_number_of_times() -> None:
    run = Run(Told(*[lambda ctx: [Emit(event=TextDelta(content="."))]] * 100))
    result = await run.to_the_end()
    assert result.outcome == Stopped(stop=TurnStopReason.RUNTIME_ERROR)
    assert run.protocol.calls == 9
    assert "emitted" in run.errors[0]


async def test_a_driver_that_starts_nothing_ends_the_turn_with_its_name() -> None:
    result = await (run := Run(Told())).to_the_end()
    assert result.outcome == Stopped(stop=TurnStopReason.RUNTIME_ERROR)
    assert "started nothing" in run.errors[0]


@pytest.mark.parametrize("checked", [True, False])
async def test_a_response_without_a_transition_never_passes_for_success(checked: bool) -> None:
    """Q2: the reference's machine would be done with no Done."""
    protocol = Told(lambda ctx: [StartExec(language="python", code="1")], lambda ctx: [])
    result = await (run := Run(protocol, checked=checked)).to_the_end()
    assert result.outcome == Stopped(stop=TurnStopReason.RUNTIME_ERROR)
    assert len(run.errors) == 1
    assert ("Told.handle_exec_result" in run.errors[0]) is checked


async def test_once_the_machine_is_done_nothing_more_is_performed() -> None:
    """Q3: StartExec and then Finish in one list leaves an orphan."""
    protocol = Told(lambda ctx: [StartExec(language="python", code="orphan"), Finish(outcome=ANSWER)])
    result = await (run := Run(protocol)).to_the_end()
    assert result.outcome == ANSWER
    assert run.kernel.ran == []


async def test_the_last_record_is_taken_before_done_and_holds_the_messages() -> None:
    protocol = Told(
        lambda ctx: [StartLlm(request=ctx.project_llm_request(False))],
        lambda ctx: [StartCheckpoint(checkpoint=CheckpointKind.BEFORE_COMPLETION, on_empty=FinishWith(outcome=ANSWER))],
    )
    run = Run(protocol)
    result = await run.to_the_end()
    states = [(type(checkpoint.state).__name__, final) for checkpoint, final in run.records]
    assert states == [("WaitingLlm", False), ("WaitingCheckpoint", False), ("Finished", True)]
    assert result.done in result.checkpoint.pending_effects
    assert all(checkpoint.pending_effects == () for checkpoint, final in run.records if not final)


async def test_tools_run_at_once_and_come_back_in_order() -> None:
    meeting = asyncio.Barrier(2)

    async def slow(n: int) -> int:
        await meeting.wait()  # ends only if both calls run at the same time
        await asyncio.sleep(0.05 if n == 1 else 0.0)
        return n * 10

    def broken() -> None:
        raise ValueError("no such row")

    calls = (call("slow", "a", n=1), call("slow", "b", n=2), call("broken", "c"), call("missing", "d"))
    run = Run(Told(lambda ctx: [StartTools(calls=calls)], finish), tools={"slow": slow, "broken": broken})
    assert (await run.to_the_end()).outcome == ANSWER
    completed = run.protocol.results[0]
    assert [one.call_id for one in completed] == ["a", "b", "c", "d"]
    assert completed[0].output.outcome == ToolSucceeded(payload=10)
    assert completed[1].model_return.parts[0].text == "20"
    assert isinstance(completed[2].output.outcome, ToolFailed)
    assert "ValueError: no such row" in completed[2].model_return.parts[0].text
    assert "broken, slow" in completed[3].model_return.parts[0].text


async def test_a_cell_in_another_language_is_refused() -> None:
    run = Run(Told(lambda ctx: [StartExec(language="r", code="1")], finish))
    await run.to_the_end()
    assert "speaks python, not r" in run.protocol.results[0].error
    assert run.kernel.ran == []


async def test_a_cell_has_a_key_of_epoch_session_turn_and_effect() -> None:
    run = Run(Told(lambda ctx: [StartExec(language="python", code="1")], finish))
    await run.to_the_end()
    assert run.kernel.ran == [(f"{run.kernel.epoch}:s:1:1", "1")]


@pytest.mark.parametrize("kind", [ZeroDivisionError, TimeoutError])
async def test_an_exception_of_ours_ends_the_turn_in_order_and_goes_on(kind: type[Exception]) -> None:
    """Also one that looks like the turn's own time limit."""

    def bug(ctx: DriverContext) -> Sequence[DriverAction]:
        raise kind("a bug")

    run = Run(Told(bug))
    with pytest.raises(kind):
        await run.to_the_end()
    assert run.host.result().outcome == Stopped(stop=TurnStopReason.RUNTIME_ERROR)
    assert run.records[-1][1]
