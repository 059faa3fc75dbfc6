"""The host's rules (`reference/turn-machine.md` 1.14), with a protocol that does what a test tells it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from lash_nb.machine.checkpoints import CheckpointKind, FinishWith
from lash_nb.machine.driver import (
    DriverAction,
    DriverContext,
    Finish,
    StartCheckpoint,
    StartExec,
    StartLlm,
    StartTools,
)
from lash_nb.machine.effects import Emit
from lash_nb.machine.events import TextDelta
from lash_nb.machine.outcomes import Stopped, TurnStopReason
from lash_nb.machine.tool_calls import ToolFailed, ToolSucceeded

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
