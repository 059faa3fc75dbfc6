"""What version 1 wrote can be read and gone on with: `v1`, which is never edited. Expectations are written by hand."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.cli import main
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.recorded import RecordedSession, SessionFold
from lash_nb.stores.documents import load_notebook
from lash_nb.stores.envelopes import open_checkpoint
from lash_nb.stores.journal import read_header, read_records
from lash_nb.stores.notebook import read_block, verify_chain
from lash_nb.stores.session_files import sessions_in

from ..conversations import Blocks, cell, history, last_message

V1 = Path(__file__).parent / "v1"
ID = "5e551011a1"
EPOCH = "0123456789abcdef0123456789abcdef"
JOURNAL = V1 / "sessions" / ID
REQUESTS = ["What do the prices 3, 5 and 34 make together?", "Which is the highest?", "Add a price of 8."]
HASHES = [
    "2bd06eb83be29f1042ce1239af804e2b3dd0f23897457c615880ed92910a1ee9",
    "a6b870fafa5079b2cb7a92d8ad71195ab0c2c286b6584f1e287c42e6c0661ebc",
]
"""Of the checkpoints at the ends of the first two turns."""


FILES = {
    "prices.ipynb": "815a5d3468970a6657b7c010f3d93239080c9a61b991f99683f1a55c84dbdce7",
    "sessions/5e551011a1/000001.journal.gz": "a4c074821fa76340357972831446c777dd1e68d8df56f50ac3b46413c5f61e60",
    "sessions/5e551011a1/000002.journal": "d880475b42b29379d5bcd6a1237c1d1450e1a37dc83ade4e933e6ef0f11a9f2a",
}


def test_the_files_are_as_they_were_written() -> None:
    """Also where git or an editor would like other ends of lines."""
    assert {name: hashlib.sha256((V1 / name).read_bytes()).hexdigest() for name in FILES} == FILES
    assert [path.name for path in JOURNAL.iterdir() if str(path.relative_to(V1)) not in FILES] == []


def folded(*, everything: bool) -> RecordedSession:
    fold = SessionFold(ID)
    for record in read_records(JOURNAL, everything=everything):
        fold.take(record)
    return fold.session


def test_the_journal_is_found_and_says_what_it_is() -> None:
    assert sessions_in(V1) == [ID]
    header = read_header(JOURNAL)
    assert {name: header[name] for name in ("version", "session", "segment", "compacted", "engine")} == {
        "version": 1,
        "session": ID,
        "segment": 2,
        "compacted": 6,
        "engine": "0.1.0",
    }


@pytest.mark.parametrize("everything", [False, True], ids=["compacted", "with its archive"])
def test_the_journal_says_what_happened(everything: bool) -> None:
    session = folded(everything=everything)
    assert (session.id, session.label, session.closed) == (ID, "2", False)
    assert (session.facts["notebook"], session.facts["directory"]) == ("/home/user/prices.ipynb", "/home/user")
    assert session.facts["engine"] == "lash_nb 0.1.0"
    assert [turn.number for turn in session.turns] == [1, 2]
    assert [turn.asked.text for turn in session.turns] == REQUESTS[:2]
    assert [turn.chain["sha256"] for turn in session.turns if turn.chain] == HASHES
    assert session.turns[1].asked.schema == {
        "type": "object",
        "properties": {"most": {"type": "integer"}},
        "required": ["most"],
    }
    assert (session.turns[1].asked.typed, session.turns[1].asked.max_steps) == (True, 4)
    assert {(turn.asked.model, turn.asked.protocol, turn.asked.grammar) for turn in session.turns} == {
        ("openai:some-model", "code", "tags")
    }
    assert (session.kernels["python"].epoch, session.kernels["python"].file) == (EPOCH, None)
    assert [(known.name, known.type, known.preview) for known in session.known.variables] == [
        ("prices", "list", "[3, 5, 34]")
    ]
    assert (session.said, session.last_said) == ({1: "Then sort them."}, 1)


def test_the_journal_says_where_the_last_turn_stands() -> None:
    running = folded(everything=False).running
    assert running is not None
    assert (running.number, running.asked.text, running.effect, running.answer) == (3, REQUESTS[2], 3, None)
    assert running.checkpoint is not None
    assert type(running.checkpoint.outstanding_effect).__name__ == "ExecCode"
    assert running.checkpoint.outstanding_effect_id == 3
    assert (running.steps, running.calls, running.ended) == (1, {}, False)
    assert [message.id for message in running.checkpoint.messages][-1] == "m_user_3"
    assert running.picture().steps[0].prose.strip() == "I append it."


def test_the_notebook_carries_the_same_turns() -> None:
    block = read_block(load_notebook(V1 / "prices.ipynb").metadata)
    assert block is not None
    verify_chain(block)
    assert [envelope["sha256"] for envelope in block.turns] == HASHES
    assert block.head is not None
    assert (block.session, block.head["turn"]) == (ID, 3)
    assert block.head["parent"] == HASHES[1]
    assert open_checkpoint(block.head).outstanding_effect_id == 3


def test_its_effects_can_be_traced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(V1, tmp_path / "state")
    assert main(["trace", ID, "--state-dir", str(tmp_path / "state"), "--json"]) == 0
    turns = json.loads(capsys.readouterr().out)["turns"]
    step = ["SyncExecutionEnvironment", "LlmCall", "ExecCode", "Checkpoint"]
    assert [[effect["kind"] for effect in turn["effects"]] for turn in turns] == [
        [*step, *step, "SyncExecutionEnvironment", "LlmCall", "Checkpoint"],
        step,
        step[:3],
    ]
    assert turns[0]["effects"][2]["sent"]["code"] == "sum(prices)"
    assert "NameError" in json.dumps(turns[0]["effects"][2]["got"])


# -- going on ----------------------------------------------------------------------------------------------------------


def check_past(session: Session) -> None:
    first, second = session.turns
    assert (first.id, first.request, first.text) == (f"{ID}.1", REQUESTS[0], "Together they are **42**.")
    assert first.code == ("sum(prices)", "prices = [3, 5, 34]\nsum(prices)")
    assert (second.request, second.value, second.status) == (REQUESTS[1], {"most": 34}, "done")
    assert session.label == "2"
    assert session.interrupted


async def goes_on(session: Session, model: ScriptedModel, blocks: Blocks, *, said: bool) -> None:
    """In a kernel that is not the one of before."""
    outstanding = await session.outstanding()
    assert outstanding is not None
    assert (outstanding.turn, outstanding.kind, outstanding.detail) == (3, "ExecCode", "prices.append(8)")
    assert "its kernel is gone. It is not run again" in outstanding.sentence
    turn = await session.resume_turn()
    assert (turn.number, turn.text, turn.request) == (3, "Done.", REQUESTS[2])
    assert turn.picture.steps[0].outcome == "lost"
    told = history(model, 0)
    assert told[0] == REQUESTS[0]
    assert any("NameError: name 'prices' is not defined" in text for text in told)
    assert ("Then sort them." in told) is said
    assert "prices" in last_message(model, 0)
    block = read_block({"lash_nb": blocks.blocks[-1]})
    assert block is not None
    verify_chain(block)
    assert [envelope["sha256"] for envelope in block.turns][:2] == HASHES
    assert [envelope["turn"] for envelope in block.turns] == [1, 2, 3]


async def another_kernel() -> ScriptedKernel:
    kernel = ScriptedKernel({"sorted": ScriptedCell()})
    await kernel.start()
    return kernel


def surroundings(**more: Any) -> tuple[dict[str, Any], ScriptedModel, Blocks]:
    model, blocks = ScriptedModel({3: ["not asked again", cell("sorted"), "Done."]}), Blocks()
    return {"model": model, "on_block": blocks, **more}, model, blocks


async def test_a_session_of_version_1_goes_on_from_its_journal(tmp_path: Path) -> None:
    shutil.copytree(V1, tmp_path / "state")
    kernel = await another_kernel()
    options, model, blocks = surroundings(kernel=kernel, state_dir=tmp_path / "state")
    async with Session.resume(ID, **options) as session:
        assert any("is a copy" in note for note in session.notes)
        check_past(session)
        assert [output.get("text") or output.get("ename") for output in session.turns[0].outputs][:2] == [
            "I add them up.\n",
            "NameError",
        ]
        await goes_on(session, model, blocks, said=True)
    assert [code for _, code in kernel.ran] == ["sorted"]
    async with Session.resume(ID, kernel=kernel, state_dir=tmp_path / "state") as session:
        assert [turn.text for turn in session.turns][2] == "Done."
        assert not session.interrupted


async def test_a_session_of_version_1_goes_on_from_its_notebook_alone(tmp_path: Path) -> None:
    path = tmp_path / "prices.ipynb"
    shutil.copy(V1 / "prices.ipynb", path)
    kernel = await another_kernel()
    options, model, blocks = surroundings(kernel=kernel, state_dir=tmp_path / "state")
    async with Session.resume(path, **options) as session:
        check_past(session)
        await goes_on(session, model, blocks, said=False)


async def test_neither_a_copied_journal_nor_a_notebook_chooses_the_model(tmp_path: Path) -> None:
    shutil.copytree(V1, tmp_path / "state")
    for which, place in ((ID, "state"), (str(V1 / "prices.ipynb"), "elsewhere")):
        session = Session.resume(which, kernel=ScriptedKernel(), state_dir=tmp_path / place)
        assert session.model_name == ""  # the record names openai:some-model
        await session.aclose()
