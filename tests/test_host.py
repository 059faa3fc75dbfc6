"""The host's rules (`reference/turn-machine.md` 1.14), with a protocol that does what a test tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from lash_nb.errors import JournalError
from lash_nb.host import TurnHost
from lash_nb.machine.checkpoints import CheckpointKind, FinishWith
from lash_nb.machine.config import TurnMachineConfig
from lash_nb.machine.driver import (
    DriverAction,
    DriverContext,
    Finish,
    StartCheckpoint,
    StartExec,
    StartLlm,
    StartTools,
)
from lash_nb.machine.effects import EffectId, Emit, ExecResult, Response, WaitingEffect
from lash_nb.machine.events import TextDelta, TurnOutcomeEvent
from lash_nb.machine.execution import ExecResponse
from lash_nb.machine.outcomes import Stopped, TurnOutcome, TurnStopReason
from lash_nb.machine.projector import ChatProjector
from lash_nb.machine.state import TurnCheckpoint
from lash_nb.machine.tool_calls import ToolFailed, ToolSucceeded
from lash_nb.machine.turn import TurnMachine
from lash_nb.ports import Resumed, Unrecorded

from .told_turns import ANSWER, Run, Told, call, finish


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


# -- what is recorded --------------------------------------------------------------------------------------------------


class Disk(Unrecorded):
    """Notes what it is given, and takes no more than `room` of it."""

    def __init__(self, room: int = 100) -> None:
        self.room = room
        self.notes: list[str] = []

    def _take(self, note: str) -> None:
        if len(self.notes) >= self.room:
            raise JournalError("the disk is full")
        self.notes.append(note)

    async def asked(self, effect: WaitingEffect, checkpoint: TurnCheckpoint) -> None:
        assert checkpoint.outstanding_effect == effect
        self._take(f"{type(effect).__name__} {effect.id}")

    async def answered(self, response: Response) -> None:
        self._take(f"answer {response.id}")


def two_cells() -> Told:
    return Told(
        lambda ctx: [StartExec(language="python", code="one")],
        lambda ctx: [StartExec(language="python", code="two")],
        finish,
    )


def with_log(run: Run, log: Disk, **changed: Any) -> Run:
    run.host = TurnHost(run.machine, replace(run.host.ports, log=log, **changed))
    return run


def outcomes(run: Run) -> list[TurnOutcome]:
    return [event.outcome for event in run.activities if isinstance(event, TurnOutcomeEvent)]


async def test_every_effect_is_recorded_before_it_is_performed_and_its_answer_before_it_counts() -> None:
    log = Disk()
    run = with_log(Run(two_cells()), log)
    assert (await run.to_the_end()).outcome == ANSWER
    assert log.notes == ["ExecCode 1", "answer 1", "ExecCode 2", "answer 2"]


@pytest.mark.parametrize(("room", "ran"), [(0, []), (1, ["one"]), (2, ["one"]), (3, ["one", "two"])])
async def test_what_cannot_be_recorded_is_not_begun_and_the_turn_fails_with_the_reason(
    room: int, ran: list[str]
) -> None:
    run = with_log(Run(two_cells()), Disk(room))
    with pytest.raises(JournalError, match="the disk is full"):
        await run.to_the_end()
    assert [code for _, code in run.kernel.ran] == ran
    assert run.protocol.calls == (1 if room < 2 else 2)  # an answer that is not recorded does not reach the driver
    assert run.errors == ["the disk is full"]
    result = run.host.result()
    assert result.outcome == Stopped(stop=TurnStopReason.RUNTIME_ERROR)
    assert outcomes(run) == [result.outcome]
    assert run.records[-1][1]


async def test_a_turn_whose_end_cannot_be_recorded_is_not_shown_as_done() -> None:
    run = Run(two_cells())

    def refuse(checkpoint: TurnCheckpoint, final: bool) -> None:
        if final:
            raise JournalError("the disk is full")

    with_log(run, Disk(), on_record=refuse)
    with pytest.raises(JournalError, match="the disk is full"):
        await run.to_the_end()
    assert run.host.result().outcome == Stopped(stop=TurnStopReason.RUNTIME_ERROR)
    assert outcomes(run) == [Stopped(stop=TurnStopReason.RUNTIME_ERROR)]
    assert run.errors == ["the disk is full"]


async def interrupted_at(effect: int, protocol: Told) -> tuple[Run, TurnCheckpoint]:
    """A turn whose host ended when it had asked for that effect, and the checkpoint that is left of it."""
    run = with_log(Run(protocol), Disk(2 * effect - 1))
    with pytest.raises(JournalError):
        await run.to_the_end()
    return run, next(record for record, _ in run.records if record.outstanding_effect_id == effect)


def going_on(run: Run, checkpoint: TurnCheckpoint, log: Disk, resumed: Resumed, *steps: Any) -> Run:
    again = Run(Told(*steps), kernel=run.kernel)
    again.machine = TurnMachine.restore(
        TurnMachineConfig(
            driver=again.protocol, projector=ChatProjector(), protocol=again.host.machine.config.protocol, model="m"
        ),
        checkpoint,
    )
    return with_log(again, log, resumed=resumed)


async def test_a_recorded_answer_is_taken_instead_of_performing_its_effect() -> None:
    run, checkpoint = await interrupted_at(1, two_cells())
    answer = ExecResult(id=EffectId(1), result=ExecResponse(observations=("as it was",)))
    log = Disk()
    again = going_on(
        run,
        checkpoint,
        log,
        Resumed(effect_id=EffectId(1), answer=answer),
        lambda ctx: [StartExec(language="python", code="two")],
        finish,
    )
    assert (await again.host.run()).outcome == ANSWER
    assert [code for _, code in run.kernel.ran] == ["one", "two"]
    assert again.protocol.results[0] == ExecResponse(observations=("as it was",))
    assert log.notes == ["ExecCode 2", "answer 2"]


async def test_without_a_recorded_answer_the_outstanding_effect_is_asked_again() -> None:
    run, checkpoint = await interrupted_at(1, two_cells())
    log = Disk()
    again = going_on(run, checkpoint, log, Resumed(effect_id=EffectId(1), epochs={"python": "scripted-1"}), finish)
    assert (await again.host.run()).outcome == ANSWER
    assert [code for _, code in run.kernel.ran] == ["one"]  # the kernel's own record answered
    assert log.notes == ["ExecCode 1", "answer 1"]


async def test_a_turn_can_be_left_without_performing_anything() -> None:
    run, checkpoint = await interrupted_at(1, two_cells())
    log = Disk()
    again = going_on(run, checkpoint, log, Resumed(effect_id=EffectId(1)), finish)
    assert (await again.host.leave()).outcome == Stopped(stop=TurnStopReason.CANCELLED)
    assert (log.notes, again.protocol.calls) == ([], 0)
    assert again.records[-1][1]
