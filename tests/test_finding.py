"""Journal and notebook of one session, on one machine or on two: which goes on, and what is told of the other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lash_nb import ScriptedModel, Session
from lash_nb.errors import CorruptCheckpointError, InputError, JournalError, NotebookError
from lash_nb.finding import find_carried, find_session
from lash_nb.stores.carried import Trouble, carried
from lash_nb.stores.notebook import METADATA_KEY, folded
from lash_nb.stores.session_files import sessions_in

from .carried_files import REPLIES, File, begun, gone_on, options, texts
from .left_sessions import CUT, Left, another_kernel, cut_after, nth


async def test_the_same_in_both_is_gone_on_with_from_the_journal(tmp_path: Path) -> None:
    file = File(tmp_path / "a.ipynb")
    await begun(file, tmp_path / "here", "1?", "2?")
    session = await gone_on(file, tmp_path / "here", "3?")
    assert (session.id, texts(session), session.notes) == ("one", ["One.", "Two.", "Three."], ())
    assert file.turns == [1, 2, 3]


async def test_a_notebook_that_is_behind_its_journal_loses_nothing(tmp_path: Path) -> None:
    """It was not saved after the second turn."""
    file = File(tmp_path / "a.ipynb")
    await begun(file, tmp_path / "here", "1?")
    saved = file.path.read_bytes()
    await gone_on(file, tmp_path / "here", "2?")
    file.path.write_bytes(saved)
    session = await gone_on(file, tmp_path / "here")
    assert (session.id, texts(session), session.notes) == ("one", ["One.", "Two."], ())


async def test_what_another_machine_added_is_taken_into_the_journal(tmp_path: Path) -> None:
    file = File(tmp_path / "a.ipynb")
    await begun(file, tmp_path / "here", "1?")
    there = await gone_on(file, tmp_path / "there", "2?", "3?")
    assert (there.id, texts(there)) == ("one", ["One.", "Two.", "Three."])
    back = await gone_on(file, tmp_path / "here", "4?")
    assert (back.id, texts(back)) == ("one", ["One.", "Two.", "Three.", "Four."])
    assert back.notes == ("turn 2 to turn 3 came with the notebook, not from here; taken in when you go on",)
    assert file.turns == [1, 2, 3, 4]
    async with Session.resume("one", **options(file, tmp_path / "here")) as session:  # from the journal alone
        assert texts(session) == ["One.", "Two.", "Three.", "Four."]


async def test_a_turn_that_was_interrupted_elsewhere_is_gone_on_with_here(tmp_path: Path) -> None:
    file = File(tmp_path / "a.ipynb")
    await begun(file, tmp_path / "here", "1?")
    there = {**options(file, tmp_path / "there"), "on_block": file.take_head}
    async with Session.resume(file.path, **there) as session:
        session.past.record()
    with cut_after(6), pytest.raises(JournalError, match=CUT):
        async with Session.resume(file.path, **there) as session:
            await session.run("2?")
    assert file.block is not None
    assert file.block["head"]["turn"] == 2
    async with Session.resume(file.path, **options(file, tmp_path / "here")) as back:
        assert (back.id, back.interrupted, texts(back)) == ("one", True, ["One."])
        assert (await back.resume_turn()).text == "Two."


@pytest.mark.parametrize(("here", "there"), [(["2 here?"], ["2 there?", "3 there?"]), (["2?", "3?"], ["2 there?"])])
async def test_of_two_ways_the_one_that_came_further_is_gone_on_with(
    here: list[str], there: list[str], tmp_path: Path
) -> None:
    file = File(tmp_path / "a.ipynb")
    await begun(file, tmp_path / "here", "1?")
    theirs = file.copied(tmp_path / "mailed" / "a.ipynb")
    file.path.unlink()  # one notebook that was worked on in two places, not two of them
    await gone_on(theirs, tmp_path / "there", *there)
    async with Session.resume("one", **options(file, tmp_path / "here")) as session:
        for request in here:
            await session.run(request)
    file.path.unlink()
    further = theirs if len(there) > len(here) else file
    session = await gone_on(theirs, tmp_path / "here")
    assert [turn.request for turn in session.turns] == ["1?", *max(here, there, key=len)]
    [note] = session.notes
    assert "fork" in note
    assert "turn 2" in note
    assert (session.id == "one") is (further is file)
    async with Session.resume("one", **options(file, tmp_path / "here")) as ours:
        assert [turn.request for turn in ours.turns] == ["1?", *here]


async def test_a_copied_notebook_goes_its_own_way(tmp_path: Path) -> None:
    file = File(tmp_path / "a.ipynb")
    await begun(file, tmp_path / "here", "1?", "2?")
    copy = file.copied(tmp_path / "b.ipynb")
    original = file.path.read_bytes()
    session = await gone_on(copy, tmp_path / "here", "3?")
    assert session.id != "one"
    assert [turn.request for turn in session.turns] == ["1?", "2?", "3?"]
    [note] = session.notes
    assert note.startswith(f"this notebook is a copy of {file.path}")
    assert copy.turns == [1, 2, 3]
    assert copy.block is not None
    last = json.loads(original)["metadata"][METADATA_KEY]["turns"][1]["sha256"]
    assert copy.block["forked_from"] == {"session": "one", "turn": 2, "sha256": last}
    assert copy.block.get("earlier", []) == []
    assert file.path.read_bytes() == original
    ours = await gone_on(file, tmp_path / "here", "another?")
    assert (ours.id, [turn.request for turn in ours.turns]) == ("one", ["1?", "2?", "another?"])
    again = await gone_on(copy, tmp_path / "here", "4?")
    assert again.id == session.id
    assert (copy.turns, copy.block["forked_from"]["session"]) == ([1, 2, 3, 4], "one")


async def test_the_kernel_of_the_original_is_not_the_copys(tmp_path: Path) -> None:
    """Its interrupted turn is gone on with in both, and the cell is not run again in the copy."""
    file = File(tmp_path / "a.ipynb")
    left = Left(tmp_path / "here")
    await left.after(nth("effect ExecCode", 2), notebook=file.path, on_block=file.take_head)
    copy = file.copied(tmp_path / "b.ipynb")
    ran = list(left.kernel.ran)
    kernel = await another_kernel()
    async with Session.resume(
        copy.path, model=ScriptedModel(left.replies), kernel=kernel, state_dir=tmp_path / "here", on_block=copy.take
    ) as session:
        outstanding = await session.outstanding()
        assert outstanding is not None
        assert "its kernel is gone" in outstanding.sentence
        await session.resume_turn()
    assert (kernel.ran, left.kernel.ran) == ([], ran)
    assert copy.block is not None
    assert copy.block.get("earlier", []) == []
    async with left.resumed() as ours:
        assert ours.interrupted
        assert (await ours.resume_turn()).text == "It is 42."
    assert left.kernel.ran == ran  # it had run, and its kernel says so


async def test_a_renamed_notebook_keeps_its_session(tmp_path: Path) -> None:
    file = File(tmp_path / "a.ipynb")
    await begun(file, tmp_path / "here", "1?")
    file.path = file.path.rename(tmp_path / "b.ipynb")
    session = await gone_on(file, tmp_path / "here", "2?")
    assert (session.id, texts(session), session.notes) == ("one", ["One.", "Two."], ())


async def test_another_notebook_in_the_place_of_the_original_is_none(tmp_path: Path) -> None:
    file = File(tmp_path / "a.ipynb")
    await begun(file, tmp_path / "here", "1?")
    file.path = file.path.rename(tmp_path / "b.ipynb")
    (tmp_path / "a.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    assert find_session(file.path, state_dir=tmp_path / "here").session == "one"


async def test_folded_turns_are_referred_to_and_the_conversation_is_whole(tmp_path: Path) -> None:
    file = File(tmp_path / "a.ipynb")
    await begun(file, tmp_path / "there", "1?", "2?", "3?")
    assert file.block is not None
    file.block = folded(file.block, most_bytes=1)
    assert ["ref" in envelope for envelope in file.block["turns"]] == [True, True, False]
    file.take(file.block, True)
    model = ScriptedModel(REPLIES)
    for _ in range(2):  # from the notebook, then from the journal that was made of it
        async with Session.resume(file.path, **{**options(file, tmp_path / "here"), "model": model}) as session:
            assert [turn.number for turn in session.turns] == [3]
            assert (session.turns[0].request, session.next_number) == ("3?", 4)
    async with Session.resume(file.path, **{**options(file, tmp_path / "here"), "model": model}) as session:
        await session.run("4?")
    assert file.turns == [1, 2, 3, 4]
    asked = str(model.requests[-1].messages)
    assert [text for text in ("1?", "One.", "2?", "Two.", "3?", "Three.", "4?") if text not in asked] == []


async def test_a_journal_that_is_behind_folded_turns_keeps_their_place(tmp_path: Path) -> None:
    file = File(tmp_path / "a.ipynb")
    await begun(file, tmp_path / "here", "1?")
    await gone_on(file, tmp_path / "there", "2?", "3?")
    assert file.block is not None
    whole = file.block
    file.block = folded(whole, most_bytes=1)
    file.take(file.block, True)
    for number in (4, 5):
        back = await gone_on(file, tmp_path / "here", f"{number}?")
        assert back.id == "one"
    assert [turn.number for turn in back.turns] == [1, 3, 4, 5]
    assert file.turns == [1, 2, 3, 4, 5]
    assert [envelope["sha256"] for envelope in file.block["turns"][:3]] == [one["sha256"] for one in whole["turns"]]
    assert ["ref" in envelope for envelope in file.block["turns"]] == [False, True, False, False, False]


async def test_to_look_leaves_no_trace(tmp_path: Path) -> None:
    """A mailed notebook, or a copy, is resumed and closed again: journals and sessions are as they were."""
    file = File(tmp_path / "a.ipynb")
    await begun(file, tmp_path / "here", "1?")
    before = file.path.read_bytes()
    await gone_on(file, tmp_path / "there", "2, not mine?")
    for _ in range(3):
        session = await gone_on(file, tmp_path / "here")
        assert [turn.request for turn in session.turns] == ["1?", "2, not mine?"]
    file.path.write_bytes(before)
    assert file.block is not None
    file.block = json.loads(before)["metadata"][METADATA_KEY]
    mine = await gone_on(file, tmp_path / "here", "2, mine?")
    assert [turn.request for turn in mine.turns] == ["1?", "2, mine?"]
    copy = file.copied(tmp_path / "b.ipynb")
    for _ in range(3):
        await gone_on(copy, tmp_path / "here")
    assert sessions_in(tmp_path / "here") == ["one"]


async def test_what_loses_a_fork_stays_in_the_notebook(tmp_path: Path) -> None:
    file = File(tmp_path / "a.ipynb")
    await begun(file, tmp_path / "here", "1?")
    theirs = file.copied(tmp_path / "mailed" / "a.ipynb")
    await gone_on(theirs, tmp_path / "there", "2, theirs?")
    assert theirs.block is not None
    lost = theirs.block["turns"][1]["sha256"]
    await gone_on(file, tmp_path / "here", "2, ours?", "3, ours?")
    file.path.write_bytes(theirs.path.read_bytes())
    file.block = theirs.block
    session = await gone_on(file, tmp_path / "here", "4, ours?")
    assert [turn.request for turn in session.turns] == ["1?", "2, ours?", "3, ours?", "4, ours?"]
    assert [envelope["sha256"] for envelope in file.block["earlier"]] == [lost]
    [fork] = [problem for problem in carried({"metadata": {METADATA_KEY: file.block}}).problems if problem.fatal]
    assert fork.trouble is Trouble.FORKED


async def test_a_turn_that_was_finished_elsewhere_is_not_offered_again(tmp_path: Path) -> None:
    """The browser was told of few envelopes, and the journal counts every effect: what counts is what has ended."""
    file = File(tmp_path / "a.ipynb")
    await begun(file, tmp_path / "here", "1?")
    theirs = file.copied(tmp_path / "mailed" / "a.ipynb")
    with cut_after(4), pytest.raises(JournalError, match=CUT):
        async with Session.resume(file.path, **{**options(file, tmp_path / "here"), "on_block": None}) as session:
            await session.run("2?")
    file.path.unlink()
    seldom = {**options(theirs, tmp_path / "there"), "on_head": lambda publish: None}
    async with Session.resume(theirs.path, **seldom) as session:
        await session.run("2?")
    back = await gone_on(theirs, tmp_path / "here")
    assert (back.interrupted, texts(back)) == (False, ["One.", "Two."])
    assert "went on elsewhere" in back.notes[0]


async def test_a_copy_of_a_renamed_notebook_is_one(tmp_path: Path) -> None:
    """Its journal still names the notebook as it was called when its kernel was started."""
    file = File(tmp_path / "Untitled.ipynb")
    await begun(file, tmp_path / "here", "1?")
    file.path = file.path.rename(tmp_path / "a.ipynb")
    copy = file.copied(tmp_path / "b.ipynb")
    session = await gone_on(copy, tmp_path / "here", "2?")
    assert session.id != "one"
    ours = await gone_on(file, tmp_path / "here", "2?")
    assert (ours.id, ours.notes) == ("one", ())


async def test_outputs_have_what_the_metadata_lacks(tmp_path: Path) -> None:
    """A frontend without the extension: only outputs carry turns; one of them was cleared."""
    file = File(tmp_path / "a.ipynb")
    await begun(file, tmp_path / "there", "1?", "2?", "3?")
    assert file.block is not None
    first, _, third = file.block["turns"]
    outputs = [
        {"output_type": "display_data", "data": {"text/plain": "x"}, "metadata": {METADATA_KEY: envelope}}
        for envelope in (first, third)
    ]
    cell = {"cell_type": "code", "execution_count": 1, "metadata": {}, "source": "%%lash", "outputs": outputs}
    document = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 4}
    file.path.write_text(json.dumps(document))
    async with Session.resume(file.path, **options(file, tmp_path / "here")) as session:
        assert session.turns[-1].text == "Three."
        told = "\n".join(session.notes)
        assert "before turn 3 (cell 1, output 2) are not here" in told
        assert "turn 1 (cell 1, output 1) is not connected" in told


async def test_a_damaged_turn_is_told_and_the_one_before_it_gone_on_with(tmp_path: Path) -> None:
    file = File(tmp_path / "a.ipynb")
    await begun(file, tmp_path / "there", "1?", "2?")
    assert file.block is not None
    file.block["turns"][1]["checkpoint"] = ["{}"]
    file.take(file.block, True)
    async with Session.resume(file.path, **options(file, tmp_path / "here")) as session:
        assert texts(session) == ["One."]
        assert any("turns[1]" in note for note in session.notes)
    file.block["turns"][0]["checkpoint"] = ["{}"]
    file.take(file.block, True)
    with pytest.raises(CorruptCheckpointError, match=r"turns\[0\]"):
        find_session(file.path, state_dir=tmp_path / "elsewhere")


def test_what_carries_no_session_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="carries no session"):
        find_carried({"cells": [], "metadata": {}}, path=None, state_dir=tmp_path)
    newer = {"cells": [], "metadata": {METADATA_KEY: {"version": 2}}}
    with pytest.raises(NotebookError, match="newer"):
        find_carried(newer, path=None, state_dir=tmp_path)
