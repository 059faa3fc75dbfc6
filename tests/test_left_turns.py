"""Turns that an earlier process began: left for another request, or kept by a resume that could do nothing."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from lash_nb import ManagedKernel, ScriptedKernel, ScriptedModel, Session
from lash_nb.errors import InputError, KernelStartError
from lash_nb.machine.events import CodeBlockStarted, TurnActivity, TurnOutcomeEvent, TurnStarted
from lash_nb.machine.execution import CellOutcome
from lash_nb.models import ModelTraits

from .conversations import cell, history
from .left_sessions import Left, another_kernel, cut_after, nth


class OfAnotherWorld(ScriptedModel):
    """Cannot be asked before it is put right: as a cassette of another session."""

    broken = True

    def traits(self, *, session: str, turn: int) -> ModelTraits:
        if self.broken:
            raise InputError("the cassette holds no such session")
        return super().traits(session=session, turn=turn)


class DoesNotStart(ScriptedKernel):
    async def start(self) -> None:
        raise KernelStartError("no memory")


async def test_a_resume_whose_model_is_not_the_right_one_loses_nothing(tmp_path: Path) -> None:
    left = await Left(tmp_path).after(nth("effect ExecCode", 2))
    model = OfAnotherWorld(left.replies)
    async with left.resumed(model=model) as session:
        with pytest.raises(InputError, match="no such session"):
            await session.resume_turn()
        assert session.interrupted
        with pytest.raises(InputError):
            await session.run("Another?")  # nor does it begin a turn over the one that has not ended
        assert session.interrupted
        model.broken = False
        assert (await session.resume_turn()).text == "It is 42."
    async with left.resumed() as session:
        assert [turn.text for turn in session.turns] == ["It is 42."]
    assert left.ran == ["x = 41", "x + 1"]


async def test_a_resume_whose_kernel_does_not_start_loses_nothing(tmp_path: Path) -> None:
    left = await Left(tmp_path).after(nth("answer", 6))  # of the model: it was paid for
    async with left.resumed(kernel=DoesNotStart()) as session:
        with pytest.raises(KernelStartError, match="no memory"):
            await session.resume_turn()
        assert session.interrupted
    async with left.resumed() as session:
        assert (await session.resume_turn()).text == "It is 42."


@pytest.mark.parametrize("count", [nth("effect ExecCode", 2), nth("answer", 7)])
@pytest.mark.parametrize("kernel_lives", [True, False])
async def test_the_model_knows_the_cell_of_a_turn_that_was_left(count: int, kernel_lives: bool, tmp_path: Path) -> None:
    """Whether nobody knows what came of it, or its result is recorded."""
    left = await Left(tmp_path).after(count)
    seen: list[TurnActivity] = []
    kernel = left.kernel if kernel_lives else await another_kernel()
    async with left.resumed(kernel=kernel) as session:
        turn = await session.run("Something else.", on_activity=seen.append)
        assert [one.status for one in session.turns] == ["stopped", "done"]
        assert turn.number == 2
    assert "x + 1" in "\n".join(history(left.model, -1))
    assert left.ran.count("x + 1") <= 1
    # Who watches a turn is told of that turn alone.
    assert [type(one) for one in seen if isinstance(one, TurnStarted | TurnOutcomeEvent)] == [
        TurnStarted,
        TurnOutcomeEvent,
    ]


async def test_a_cell_that_nobody_knows_the_end_of_is_marked_in_the_turn_that_was_left(tmp_path: Path) -> None:
    left = await Left(tmp_path).after(nth("effect ExecCode", 2))
    async with left.resumed() as session:
        await session.run("Something else.")
        step = session.turns[0].picture.steps[-1]
    assert (step.code, step.outcome) == ("x + 1", CellOutcome.INTERRUPTED)
    assert "it may have run" in step.detail


async def test_what_was_delivered_stays_said_when_its_turn_is_left(tmp_path: Path) -> None:
    left = Left(tmp_path)

    def hint(activity: TurnActivity) -> None:
        if isinstance(activity, CodeBlockStarted) and activity.code == "x = 41":
            session.say("Mind the sign.")

    with cut_after(nth("answer", 4) + 1):  # the pause behind the first cell; one record more for what was said
        async with Session(left.model, kernel=left.kernel, state_dir=tmp_path, session_id="one") as session:
            with pytest.raises(Exception, match="the process has ended"):
                await session.run("Six times seven?", on_activity=hint)
    async with left.resumed() as session:
        await session.run("Something else.")
    assert "Mind the sign." in "\n".join(history(left.model, -1))


async def test_a_stop_while_an_answer_is_recorded_keeps_what_it_delivers(tmp_path: Path) -> None:
    """At every moment: what the journal calls delivered is in the conversation, or waits still."""
    replies = {turn: [cell("1"), "Done."] for turn in range(1, 40)}
    model = ScriptedModel(replies)
    async with Session(model, kernel=ScriptedKernel(), state_dir=tmp_path, session_id="s") as session:
        for turn in range(1, 40):
            running = asyncio.ensure_future(session.run("Go.", raise_on_failure=False))
            session.say(f"word {turn}")
            await asyncio.sleep(0.0003 * turn)
            session.request_stop()
            await asyncio.wait({running})
            running.exception()
    model = ScriptedModel({**replies, 40: ["Yes."], **{turn: ["Yes."] for turn in range(1, 41)}})
    async with Session.resume("s", model=model, kernel=ScriptedKernel(), state_dir=tmp_path) as session:
        if session.interrupted:
            await session.resume_turn(raise_on_failure=False)
        for _ in range(2):  # what still waits comes with the next pause
            await session.run("And?", raise_on_failure=False, model=ScriptedModel([cell("1"), "Yes."]))
        said = "\n".join(part.content for message in session._conversation.messages for part in message.parts)
    assert [turn for turn in range(1, 40) if f"word {turn}" not in said.split("\n")] == []


SLEEPS = "import time; time.sleep(50)"


@pytest.mark.parametrize(
    ("protocol", "reply"),
    [("code", repr(cell(SLEEPS))), ("tools", f"calling(('run_code', {{'code': {SLEEPS!r}}}))")],
)
async def test_a_cell_of_a_living_kernel_is_interrupted_when_its_turn_is_left(
    protocol: str, reply: str, tmp_path: Path
) -> None:
    host = f"""
import asyncio, os, sys
from lash_nb import ScriptedModel, Session
from lash_nb.machine.events import CodeBlockStarted
from lash_nb.models.scripted import calling

async def main():
    model = ScriptedModel({{1: [{reply}]}})
    async with Session(model, session_id="one", state_dir={str(tmp_path)!r}, protocol={protocol!r}) as session:
        def watch(activity):
            if isinstance(activity, CodeBlockStarted):
                asyncio.get_running_loop().call_later(0.5, os.kill, os.getpid(), 9)
        await session.run("Sleep.", on_activity=watch)

asyncio.run(main())
"""
    process = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", host], timeout=50)
    assert process.returncode == -9
    model = ScriptedModel({2: [cell("6 * 7"), "Awake."]})
    async with Session.resume("one", model=model, state_dir=tmp_path) as session:
        turn = await asyncio.wait_for(session.run("Wake up."), 30)
        assert isinstance(session.kernel, ManagedKernel)
        (step,) = [step for step in session.turns[0].picture.steps if step.code is not None]
        assert (step.code, step.outcome) == (SLEEPS, CellOutcome.INTERRUPTED)
    assert turn.text == "Awake."
    assert [output["data"]["text/plain"] for output in turn.outputs] == ["42"]


async def test_whoever_only_looks_leaves_the_kernel_to_the_next(tmp_path: Path) -> None:
    script = cell("import time; time.sleep(3); print('slept')")
    host = f"""
import asyncio, os
from lash_nb import ScriptedModel, Session
from lash_nb.machine.events import CodeBlockStarted

async def main():
    model = ScriptedModel({{1: [{script!r}]}})
    async with Session(model, session_id="one", state_dir={str(tmp_path)!r}) as session:
        def watch(activity):
            if isinstance(activity, CodeBlockStarted):
                asyncio.get_running_loop().call_later(0.5, os.kill, os.getpid(), 9)
        await session.run("Sleep.", on_activity=watch)

asyncio.run(main())
"""
    process = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", host], timeout=50)
    assert process.returncode == -9
    model = ScriptedModel({1: [script, "Done."]})
    for _ in range(2):
        async with Session.resume("one", model=model, state_dir=tmp_path) as session:
            looked = await session.outstanding()
            assert looked is not None
            assert "runs next" in looked.sentence
    async with Session.resume("one", model=model, state_dir=tmp_path) as session:
        turn = await session.resume_turn()
        kernel = session.kernel
    assert [output["text"] for output in turn.outputs] == ["slept\n"]
    assert kernel is not None
    assert not kernel.alive
