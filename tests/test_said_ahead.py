"""What is said to a turn before its first model call goes with that call: once, and recorded with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.errors import JournalError
from lash_nb.following import read_session
from lash_nb.machine.events import LlmRequestEvent, TurnActivity
from lash_nb.machine.picture_parts import NoteKind
from lash_nb.stores.summaries import summarize

from .approvers import Watch
from .conversations import Blocks, cell, history
from .left_sessions import cut_after, nth

SAID = "In words, please."


class SlowKernel(ScriptedKernel):
    """Something happens while it starts."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__()
        self._meanwhile = meanwhile

    async def start(self) -> None:
        self._meanwhile()
        await asyncio.sleep(0.05)
        await super().start()


async def test_what_was_said_before_a_turn_goes_with_its_first_request(tmp_path: Path) -> None:
    model, watch = ScriptedModel([cell("1"), "One."]), Watch()
    async with Session(model, kernel=ScriptedKernel(), state_dir=tmp_path) as session:
        session.say(SAID)
        session.say("And quickly.")
        turn = await session.run("One?", on_activity=watch)
    assert [text for text in history(model, 0) if text in ("One?", SAID, "And quickly.")] == [
        "One?",
        SAID,
        "And quickly.",
    ]
    assert history(model, 1).count(SAID) == 1, "it stays, and comes once"
    assert turn.request == "One?"
    said = [note.text for note in watch.picture.notes if note.kind is NoteKind.SAID]
    assert said == [SAID, "And quickly."]


async def test_what_is_said_while_the_kernel_starts_does_too(tmp_path: Path) -> None:
    sessions: list[Session] = []
    model = ScriptedModel(["One."])
    kernel = SlowKernel(lambda: sessions[0].say(SAID))
    async with Session(model, kernel=kernel, state_dir=tmp_path) as session:
        sessions.append(session)
        assert (await session.run("One?")).text == "One."
    assert history(model, 0)[-1] == SAID
    assert len(model.requests) == 1


async def test_it_is_told_once_over_turns_and_stands_in_the_copy(tmp_path: Path) -> None:
    model, blocks = ScriptedModel({1: ["One."], 2: ["Two."]}), Blocks()
    async with Session(model, kernel=ScriptedKernel(), state_dir=tmp_path, session_id="s", on_block=blocks) as session:
        session.say(SAID)
        await session.run("One?")
        await session.run("Two?")
    assert history(model, 1).count(SAID) == 1
    heads = [block["head"]["resume"] for block in blocks.blocks if block["head"] is not None]
    assert [(head["said"], head["waiting"]) for head in heads[:2]] == [(1, []), (1, [])]
    recorded = read_session(tmp_path, "s")
    assert recorded.said == {}
    assert [turn.said for turn in recorded.turns] == [1, 0]
    checkpoint = recorded.turns[0].checkpoint
    assert checkpoint is not None
    assert summarize(checkpoint, session="s", turn=1, before=None).request == "One?"


@pytest.mark.parametrize("kind", ["SyncExecutionEnvironment", "LlmCall"])
async def test_a_crash_neither_loses_nor_repeats_it(kind: str, tmp_path: Path) -> None:
    model = ScriptedModel(["One.", "Two."])
    with cut_after(nth(f"effect {kind}", 1) + 1):  # one record more: what was said
        async with Session(model, kernel=ScriptedKernel(), state_dir=tmp_path, session_id="s") as session:
            session.say(SAID)
            with pytest.raises(JournalError):
                await session.run("One?")
    model = ScriptedModel({1: ["One."], 2: ["Two."]})
    async with Session.resume("s", model=model, kernel=ScriptedKernel(), state_dir=tmp_path) as session:
        outstanding = await session.outstanding()
        assert outstanding is not None
        assert outstanding.said == ()
        assert (await session.resume_turn()).text == "One."
        await session.run("Two?")
    assert [history(model, number).count(SAID) for number in (0, 1)] == [1, 1]


async def test_a_crash_before_the_first_effect_leaves_it_waiting(tmp_path: Path) -> None:
    model = ScriptedModel({1: ["One."]})
    async with Session(model, kernel=ScriptedKernel(), state_dir=tmp_path, session_id="s") as session:
        session.say(SAID)
    async with Session.resume("s", model=model, kernel=ScriptedKernel(), state_dir=tmp_path) as session:
        await session.run("One?")
    assert history(model, 0).count(SAID) == 1


async def test_a_turn_that_is_stopped_in_its_first_call_has_it(tmp_path: Path) -> None:
    model = ScriptedModel({1: ["One."], 2: ["Two."]}, delay_s=5.0)
    async with Session(model, kernel=ScriptedKernel(), state_dir=tmp_path) as session:
        session.say(SAID)

        def stop(activity: TurnActivity) -> None:
            if isinstance(activity, LlmRequestEvent):
                asyncio.get_running_loop().call_later(0.1, session.request_stop)

        stopped = await session.run("One?", on_activity=stop, raise_on_failure=False)
        assert stopped.status == "stopped"
        model = ScriptedModel({2: ["Two."]})
        await session.run("Two?", model=model)
    assert history(model, 0).count(SAID) == 1
