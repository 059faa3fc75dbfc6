"""Going on with a session after its process ended: at every record, with the kernel of before and without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.errors import JournalError, LashError
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.execution import FinishValue
from lash_nb.machine.outcomes import Stopped, TurnStopReason
from lash_nb.machine.tool_calls import PendingToolCall
from lash_nb.machine.wire import Json

from .conversations import cell, history, last_message
from .left_sessions import CUT, RECORDS, TURN, Left, another_kernel, cut_after, kinds, nth

UNKNOWN = "Whether this cell ran is not known: the host ended while it was outstanding, and its kernel is gone."


# -- at every record ---------------------------------------------------------------------------------------------------


async def test_a_turn_is_recorded_step_by_step(tmp_path: Path) -> None:
    left = Left(tmp_path)
    async with Session(left.model, kernel=left.kernel, state_dir=tmp_path) as session:
        await session.run("Six times seven?")
    assert kinds(session) == list(RECORDS)


@pytest.mark.parametrize("count", range(2, len(RECORDS) - 1))
async def test_with_its_kernel_a_turn_goes_on_from_every_record_and_runs_no_cell_twice(
    count: int, tmp_path: Path
) -> None:
    left = await Left(tmp_path).after(count)
    assert left.failed == CUT
    before = len(left.model.requests)
    async with left.resumed() as session:
        turn = await session.resume_turn()
        assert not session.interrupted
        assert session.turns == [turn]
        assert (turn.number, turn.request, turn.text, turn.status) == (1, "Six times seven?", "It is 42.", "done")
        assert turn.code == ("x = 41", "x + 1")
        assert [output["text"] for output in turn.outputs] == ["42\n"]
        assert (await session.run("And?")).number == 2
    assert left.ran == ["x = 41", "x + 1"]
    # An answer of a model that was not recorded is asked for once more, everything else once.
    asked_again = RECORDS[count - 1] == "effect LlmCall"
    assert before + len(left.model.requests) == 3 + asked_again + 1
    assert history(left.model, -1)[-2:] == ["It is 42.", "And?"]


@pytest.mark.parametrize("count", [0, 1])
async def test_a_turn_of_which_nothing_is_recorded_was_never_begun(count: int, tmp_path: Path) -> None:
    left = await Left(tmp_path).after(count)
    assert left.failed == CUT
    assert (left.model.requests, left.ran) == ([], [])
    if count:
        async with left.resumed() as session:
            assert not session.interrupted
            assert session.turns == []
            assert await session.outstanding() is None
            with pytest.raises(LashError, match="interrupted"):
                await session.resume_turn()


async def test_a_turn_that_ended_is_there(tmp_path: Path) -> None:
    left = await Left(tmp_path).after(nth("end", 1))
    assert left.failed == ""
    async with left.resumed() as session:
        (turn,) = session.turns
        assert not session.interrupted
        assert (turn.id, turn.text, turn.model) == ("one.1", "It is 42.", "scripted")
        assert turn.code == ("x = 41", "x + 1")
        assert (await session.run("And?")).text == "And on."
    assert history(left.model, 0)[-2:] == ["It is 42.", "And?"]


# -- without its kernel ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "code"), [(nth("kernel", 1), "x = 41"), (nth("effect ExecCode", 2), "x + 1")], ids=["first", "later"]
)
async def test_a_cell_that_was_outstanding_is_lost_with_its_kernel_and_not_run_again(
    count: int, code: str, tmp_path: Path
) -> None:
    left = await Left(tmp_path).after(count)
    kernel = await another_kernel()
    async with left.resumed(kernel=kernel) as session:
        outstanding = await session.outstanding()
        assert outstanding is not None
        assert outstanding.kind == "ExecCode"
        assert "its kernel is gone. It is not run again" in outstanding.sentence
        turn = await session.resume_turn()
    lost = next(step for step in turn.picture.steps if step.code == code)
    assert lost.outcome == "lost"
    assert UNKNOWN in lost.detail
    assert code not in [ran for _, ran in kernel.ran]
    told = "\n".join(history(left.model, 0))
    assert UNKNOWN in told
    assert turn.text == "It is 42."


async def test_the_first_cell_of_a_kernel_that_never_had_one_is_run(tmp_path: Path) -> None:
    left = await Left(tmp_path).after(nth("effect ExecCode", 1))
    assert left.ran == []
    kernel = await another_kernel()
    async with left.resumed(kernel=kernel) as session:
        outstanding = await session.outstanding()
        assert outstanding is not None
        assert outstanding.detail == "x = 41"
        turn = await session.resume_turn()
    assert [code for _, code in kernel.ran] == ["x = 41", "x + 1"]
    assert turn.text == "It is 42."


@pytest.mark.parametrize(
    "count",
    [nth("effect Checkpoint", 1), nth("effect SyncExecutionEnvironment", 3), nth("effect LlmCall", 3)],
    ids=["checkpoint", "sync", "model"],
)
async def test_what_a_lost_kernel_held_is_told_by_name_before_the_model_goes_on(count: int, tmp_path: Path) -> None:
    """The variables were last looked at in the second step."""
    left = await Left(tmp_path).after(count)
    async with left.resumed(kernel=await another_kernel()) as session:
        turn = await session.resume_turn()
    told = last_message(left.model, 0)
    assert "The kernel's process had ended; a new one was started." in told
    # Behind the first cell nobody had looked yet.
    unseen = count == nth("effect Checkpoint", 1)
    assert ("No variable of earlier cells is known" if unseen else "Lost with the old one: x, and all imports.") in told
    assert "Variables in your kernel: none yet." in told
    assert turn.text == "It is 42."


async def test_a_recorded_answer_is_taken_without_a_kernel_too(tmp_path: Path) -> None:
    left = await Left(tmp_path).after(nth("answer", 7))  # of the second cell
    async with left.resumed(kernel=await another_kernel()) as session:
        turn = await session.resume_turn()
    assert turn.picture.steps[1].outcome == "ok"
    assert [output["text"] for output in turn.outputs] == ["42\n"]
    assert "Lost with the old one: x" in last_message(left.model, 0)


# -- what is outstanding -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "kind", "sentence", "detail"),
    [
        (2, "", "It goes on before a step: the kernel's variables are looked at, then its model is asked.", ""),
        (
            nth("effect SyncExecutionEnvironment", 1),
            "SyncExecutionEnvironment",
            "It goes on before a step: the kernel's variables are looked at, then its model is asked.",
            "",
        ),
        (nth("effect LlmCall", 1), "LlmCall", "Its model is asked next (scripted).", ""),
        (nth("answer", 2), "LlmCall", "Its model's answer is recorded, and followed (scripted).", ""),
        (
            nth("kernel", 1),
            "ExecCode",
            "This cell runs next, unless its kernel says that it has run:",
            "x = 41",
        ),
        (
            nth("answer", 3),
            "ExecCode",
            "The cell has run, and its result is recorded; the model is told of it next. The cell:",
            "x = 41",
        ),
        (
            nth("effect Checkpoint", 1),
            "Checkpoint",
            "It goes on between two steps: what was said meanwhile is delivered, then it finishes or asks on.",
            "",
        ),
    ],
)
async def test_what_happens_next_is_said_and_nothing_is_done_by_that(
    count: int, kind: str, sentence: str, detail: str, tmp_path: Path
) -> None:
    left = await Left(tmp_path).after(count)
    ran = left.ran
    async with left.resumed() as session:
        outstanding = await session.outstanding()
        assert outstanding is not None
        assert (outstanding.turn, outstanding.request) == (1, "Six times seven?")
        assert (outstanding.kind, outstanding.sentence, outstanding.detail) == (kind, sentence, detail)
        said = "Turn 1 was interrupted. It was asked:\n\n    Six times seven?\n\n" + sentence
        assert str(outstanding) == said + (f"\n\n    {detail}" if detail else "")
        assert session.interrupted
    assert left.ran == ran
    assert left.model.requests == []
    async with left.resumed() as session:
        assert session.interrupted  # it can be looked at again and again


# -- what was said, and what is asked instead --------------------------------------------------------------------------


async def test_what_was_said_outlives_the_process_and_is_delivered_once(tmp_path: Path) -> None:
    left = Left(tmp_path)

    def speak(request: Any) -> str:
        sessions[0].say("In words, please.")
        return TURN[0]

    sessions: list[Session] = []
    left.model = ScriptedModel({1: [speak]})
    with cut_after(nth("kernel", 1) + 1):  # one more: what was said
        async with Session(left.model, kernel=left.kernel, state_dir=tmp_path, session_id="one") as session:
            sessions.append(session)
            with pytest.raises(JournalError):
                await session.run("Six times seven?")
    assert kinds(session)[-4:] == ["said", "answer", "effect ExecCode", "kernel"]
    async with left.resumed() as session:
        assert (await session.resume_turn()).text == "It is 42."
        assert "In words, please." in history(left.model, 0)
        assert (await session.run("And?")).text == "And on."
        assert history(left.model, -1).count("In words, please.") == 1
    async with left.resumed() as session:
        assert len(session.turns) == 2
    assert [record for record in kinds(session) if record == "said"] == ["said"]


@pytest.mark.parametrize("count", [2, nth("effect LlmCall", 1), nth("effect ExecCode", 2), nth("effect Checkpoint", 2)])
async def test_another_request_leaves_the_interrupted_turn_as_stopped(count: int, tmp_path: Path) -> None:
    left = await Left(tmp_path).after(count)
    ran = left.ran
    async with left.resumed() as session:
        turn = await session.run("Something else.")
        assert not session.interrupted
        before = session.turns[0]
        assert (before.number, before.request, before.status) == (1, "Six times seven?", "stopped")
        assert before.outcome == Stopped(stop=TurnStopReason.CANCELLED)
        assert (turn.number, turn.text) == (2, "And on.")
        with pytest.raises(LashError, match="interrupted"):
            await session.resume_turn()
    assert left.ran == ran
    assert "The turn before did not end with an answer" in "\n".join(history(left.model, 0))
    async with left.resumed() as session:
        assert [one.status for one in session.turns] == ["stopped", "done"]


async def test_a_value_and_bounds_of_the_request_hold_in_the_turn_that_goes_on(tmp_path: Path) -> None:
    schema = {"type": "integer"}
    values: dict[str, Json] = {"finish('no')": "no", "finish(42)": 42}
    left = Left(tmp_path, turns={1: [cell(code) for code in values]})
    left.kernel = ScriptedKernel(
        {code: ScriptedCell(finish=FinishValue(value=value)) for code, value in values.items()}
    )
    with cut_after(nth("answer", 2)):
        async with Session(left.model, kernel=left.kernel, state_dir=tmp_path, session_id="one") as session:
            with pytest.raises(JournalError):
                await session.run("A number.", schema=schema, max_steps=5)
    async with left.resumed() as session:
        turn = await session.resume_turn()
    assert turn.value == 42  # the text was refused, by the schema that the first process was given
    assert "this is step 2 of 5" in last_message(left.model, 0)
    async with left.resumed() as session:
        assert session.turns[0].value == 42


async def test_tool_calls_of_a_cell_are_not_made_twice(tmp_path: Path) -> None:
    made: list[int] = []

    def pay(amount: int) -> int:
        made.append(amount)
        return amount

    paying = PendingToolCall(call_id="", tool_name="pay", args={"amount": 5})
    left = Left(tmp_path, turns={1: [cell("pay"), "Paid."]})
    left.kernel = ScriptedKernel({"pay": ScriptedCell(calls=(paying,))})
    await left.after(nth("kernel", 1) + 1, tools={"pay": pay})  # one more: that the call begins
    assert made == [5]
    async with left.resumed(tools={"pay": pay}) as session:
        turn = await session.resume_turn()
    assert made == [5]
    assert turn.text == "Paid."


async def test_a_turn_that_another_model_goes_on_with_says_so(tmp_path: Path) -> None:
    left = await Left(tmp_path).after(nth("effect LlmCall", 2))
    async with left.resumed(model=ScriptedModel(left.replies, name="other")) as session:
        turn = await session.resume_turn()
    assert turn.model == "scripted, then other"
    assert "scripted, then other" in str(turn.bundle()["text/plain"])
    async with left.resumed() as session:
        assert session.turns[0].model == "scripted, then other"
