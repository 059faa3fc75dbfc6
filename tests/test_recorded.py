"""What a journal says of a session: record by record, compacted, and when it is not what it should be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.asked import Asked
from lash_nb.compacting import compacted
from lash_nb.errors import CorruptJournalError, DecodeError, JournalError
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.execution import FinishValue
from lash_nb.machine.state import TurnCheckpoint
from lash_nb.machine.tool_calls import PendingToolCall
from lash_nb.recorded import RecordedSession, RecordedTurn, SessionFold, protocol_of
from lash_nb.stores.journal import read_records

from .conversations import cell
from .left_sessions import TURN, kinds, records, script

ASKED: dict[str, Any] = {"text": "Q?", "model": "m", "protocol": "code"}


def folded(told: Iterable[Any]) -> RecordedSession:
    fold = SessionFold("one")
    for record in told:
        fold.take(record)
    return fold.session


async def recorded_session(state_dir: Path) -> list[dict[str, Any]]:
    """Of three turns: one that ends with words, one of another protocol with a value, one with a tool call that is
    spoken to and fails."""
    paying = PendingToolCall(call_id="", tool_name="pay", args={})
    cells = {**script(), "finish(7)": ScriptedCell(finish=FinishValue(value=7)), "pay": ScriptedCell(calls=(paying,))}
    sessions: list[Session] = []

    def speak(request: Any) -> str:
        sessions[0].say("Go on.")
        return cell("pay")

    model = ScriptedModel({1: TURN, 2: [cell("finish(7)")], 3: [speak, "Paid."], 4: [cell("x + 1")]})
    options: dict[str, Any] = {"tools": {"pay": lambda: "paid"}, "kernel": ScriptedKernel(cells)}
    async with Session(model, state_dir=state_dir, session_id="one", **options) as session:
        sessions.append(session)
        await session.run("In words?")
        await session.run("A value?", schema={"type": "integer"})
        session.protocol = None
        await session.run("Pay.")
        session.say("Still there?")
        await session.run("And this?", raise_on_failure=False)
    assert {"said", "call", "called", "kernel", "closed"} <= set(kinds(session))
    return records(session)


# -- folds -------------------------------------------------------------------------------------------------------------


async def test_the_fold_of_a_session_is_what_there_was(tmp_path: Path) -> None:
    session = folded(await recorded_session(tmp_path))
    assert (session.label, session.closed, session.running) == ("1", True, None)
    assert [turn.number for turn in session.turns] == [1, 2, 3, 4]
    assert [turn.asked.text for turn in session.turns] == ["In words?", "A value?", "Pay.", "And this?"]
    assert [turn.asked.typed for turn in session.turns] == [False, True, False, False]
    assert [turn.picture().sentence for turn in session.turns[:3]] == ["done", "done", "done"]
    assert [turn.steps for turn in session.turns] == [3, 1, 2, 2]  # the last one's second call failed
    assert (session.turns[2].said, session.last_said) == (1, 2)
    assert [variable.name for variable in session.known.variables] == ["x"]
    assert session.kernels["python"].epoch == "scripted-1"
    assert all(turn.done is not None for turn in session.turns)


def without_answers(session: RecordedSession) -> RecordedSession:
    """What compaction keeps: where a running turn stands, not what came of it, nor who wrote when."""

    def kept(turn: RecordedTurn) -> RecordedTurn:
        if turn.ended:
            turn = replace(turn, effect=None, steps=0, said=0)
        return replace(turn, answer=None, calls={})

    running = session.running
    if running is not None and running.answer is not None:
        running = None  # never compacted in the midst of a turn that has an answer
    return replace(
        session,
        turns=[kept(turn) for turn in session.turns],
        running=None if running is None else kept(running),
        facts={},
        seq=0,
        last_at="",
        closed=False,
    )


async def test_a_compacted_session_says_the_same_after_every_record(tmp_path: Path) -> None:
    told = await recorded_session(tmp_path)
    fold = SessionFold("one")
    for record in told:
        fold.take(record)
        if fold.session.running is None or fold.session.running.answer is None:
            assert without_answers(folded(compacted(fold.session))) == without_answers(fold.session)


async def test_a_session_goes_on_behind_its_compaction(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compacted at the end of every turn it is the same as never compacted, in what is left and in the whole."""
    for module in ("recording", "turn_recorder"):
        monkeypatch.setattr(f"lash_nb.{module}.now_text", lambda: "2026-01-01T00:00:00.000+00:00")
    whole = folded(await recorded_session(tmp_path / "whole"))
    # It is due when the journal has grown by the larger of two sizes; here by the smaller, which is none.
    monkeypatch.setattr("lash_nb.recording.COMPACT_BYTES", 0)
    monkeypatch.setattr("lash_nb.recording.max", min, raising=False)
    await recorded_session(tmp_path / "compacted")
    directory = tmp_path / "compacted" / "sessions" / "one"
    assert [path.name for path in sorted(directory.glob("*.gz"))] == [f"00000{n}.journal.gz" for n in (1, 2, 3, 4)]
    for everything in (False, True):
        again = folded(read_records(directory, everything=everything))
        assert [_text(turn) for turn in again.turns] == [_text(turn) for turn in whole.turns]
        assert [_types(turn) for turn in again.turns] == [_types(turn) for turn in whole.turns]
        assert (again.said, again.last_said, again.known) == (whole.said, whole.last_said, whole.known)


async def test_compaction_is_shorter_and_keeps_every_checkpoint(tmp_path: Path) -> None:
    told = await recorded_session(tmp_path)
    session = folded(told)
    again = folded(compacted(session))
    texts = [_text(turn) for turn in session.turns]
    assert [_text(turn) for turn in again.turns] == texts
    assert len(list(compacted(session))) == 1 + 2 * 4 + 1  # the session, its turns and their ends, a kernel
    assert len(told) > 40


def _types(turn: RecordedTurn) -> list[Any]:
    """Of what was told: it holds times, too."""
    return [told["type"] for told in turn.told if isinstance(told, dict)]


def _text(turn: RecordedTurn) -> str:
    assert isinstance(turn.checkpoint, TurnCheckpoint)
    return turn.checkpoint.to_text(protocol_of(turn.asked.protocol))


# -- records that are not what they should be --------------------------------------------------------------------------


def begun() -> list[dict[str, Any]]:
    return [{"k": "session", "label": "1"}, {"k": "turn", "turn": 1, "asked": ASKED}]


@pytest.mark.parametrize("record", [{"k": "of tomorrow", "turn": 1}, {"k": 7}, {"k": ["end"]}, {"k": ""}, {}])
def test_a_kind_that_is_not_known_is_passed_over(record: dict[str, Any]) -> None:
    assert folded([*begun(), record]) == folded(begun())


@pytest.mark.parametrize(
    ("record", "place"),
    [
        ({"k": "turn", "turn": 2, "asked": ASKED}, "turn 1 has not ended"),
        ({"k": "effect", "id": 1, "delta": {}}, "field 'turn'"),
        ({"k": "effect", "turn": 2, "id": 1, "delta": {}}, "turn 2 is not running"),
        ({"k": "effect", "turn": 1, "id": 1, "delta": {}}, "checkpoint"),
        ({"k": "effect", "turn": 1, "id": 1, "delta": 7}, "an object"),
        ({"k": "answer", "turn": 1, "id": 1, "response": {"Nothing": {}}}, "Nothing"),
        (
            {
                "k": "answer",
                "turn": 1,
                "id": 1,
                "response": {"ExecutionEnvironmentSynced": {"id": 1, "result": {"Ok": None}}},
            },
            "effect 1 is not outstanding",
        ),
        ({"k": "kernel", "language": "python"}, "field 'epoch'"),
        ({"k": "said", "n": "one", "text": "?"}, "'one'"),
        ({"k": "end", "turn": 1}, "field 'delta'"),
        ({"k": "turn", "turn": 2}, "turn 1 has not ended"),
    ],
)
def test_a_record_that_is_not_of_its_form_is_named_with_its_field(record: dict[str, Any], place: str) -> None:
    with pytest.raises(CorruptJournalError) as caught:
        folded([*begun(), record])
    said = str(caught.value)
    assert f"session one is damaged: record 3 ({record['k']})" in said
    assert place in said


def test_a_protocol_that_is_not_here_is_said_and_is_no_damage() -> None:
    asked = {**ASKED, "protocol": "of tomorrow"}
    told = [begun()[0], {"k": "turn", "turn": 1, "asked": asked}, {"k": "effect", "turn": 1, "id": 1, "delta": {}}]
    with pytest.raises(JournalError, match="upgrade lash_nb") as caught:
        folded(told)
    assert not isinstance(caught.value, CorruptJournalError)


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        ({"text": 7}, "asked.text"),
        ({"model": None}, "asked.model"),
        ({"max_steps": "5"}, "asked.max_steps"),
        ({"max_steps": True}, "asked.max_steps"),
        ({"time_limit_s": "long"}, "asked.time_limit_s"),
        ({"grammar": "runes"}, "asked.grammar"),
        ({"instructions": None}, "asked.instructions"),
    ],
)
def test_a_request_that_is_not_of_its_form_is_refused(changed: dict[str, Any], place: str) -> None:
    with pytest.raises(DecodeError, match=place.replace(".", r"\.")):
        Asked.from_json({**ASKED, **changed})


def test_a_request_is_read_as_it_was_written() -> None:
    asked = Asked(
        text="Q?",
        model="m",
        protocol="snippet",
        grammar="fence",
        schema=True,
        typed=True,
        max_steps=3,
        time_limit_s=1.5,
        cell_limit_s=2,
        instructions="Be brief.",
    )
    assert Asked.from_json(asked.to_json()) == asked
    assert Asked.from_json({**ASKED, "of_tomorrow": 1}) == Asked(text="Q?", model="m", protocol="code")
