"""`lash-nb embed`: a session's turns go from its journal into its notebook, and nothing is lost or invented by it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.embedding import embedded
from lash_nb.errors import InputError, JournalError, JournalInUseError, LashError, NotebookError, UnknownNameError
from lash_nb.stores.closed import ClosedNotebook
from lash_nb.stores.notebook import read_block, verify_chain

from .conversations import Blocks, cell
from .left_sessions import Left, nth
from .plain_notebooks import answered, asked, command, read, v4, write

REPLIES = {1: [cell("a = 1", "First."), "One."], 2: ["Two."], 3: ["Three."]}


@pytest.fixture(autouse=True)
def _no_other_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASH_NB_STATE_DIR", str(tmp_path / "elsewhere"))


def embed(path: Path, which: str | None = None, *, state: str = "state") -> tuple[str, ...]:
    """Into the file; what was said."""
    file = ClosedNotebook(path)
    made = embedded(file, which=which, state_dir=path.parent / state)
    file.replace(made.text)
    return made.sentences


def block_in(path: Path) -> Any:
    notebook = read(path, as_version=4)
    block = read_block(notebook.metadata)
    assert block is not None
    verify_chain(block)
    return json.loads(path.read_text(encoding="utf-8"))["metadata"]["lash_nb"]


def with_asked_alone(block: dict[str, Any]) -> dict[str, Any]:
    """A live session's block as a journal gives it: of turns before the last one it knows no more than the request."""
    *turns, last = block["turns"]
    return {**block, "turns": [{**turn, "resume": {"asked": turn["resume"]["asked"]}} for turn in turns] + [last]}


def in_progress(blocks: Blocks) -> dict[str, Any]:
    return next(block for block in reversed(blocks.blocks) if block["head"] is not None)


def named(session: str, turn: int) -> dict[str, Any]:
    return {"session": session, "turn": turn, "sha256": "0" * 64}


# ------------------------------------------------------------------------------------------------------ which session


async def test_what_is_put_in_is_what_the_session_would_have(tmp_path: Path) -> None:
    block = with_asked_alone(await answered(tmp_path / "state", REPLIES, requests=["one", "two"]))
    path = write(tmp_path / "n.ipynb", asked("one", *block["turns"][:1]), "x = 1", metadata={"mine": [1]})
    before = json.loads(path.read_text())
    assert embed(path) == ("session one: 2 of 2 turns put in",)
    assert block_in(path) == block
    after = json.loads(path.read_text())
    assert after["metadata"].pop("lash_nb") == block
    assert after == before
    text = path.read_bytes()
    assert text == (v4.writes(read(path, as_version=4)) + "\n").encode()
    assert embed(path) == ("session one: all of it was there already",)
    assert path.read_bytes() == text


async def test_the_sessions_that_outputs_name(tmp_path: Path) -> None:
    one = await answered(tmp_path / "state", REPLIES, requests=["one"], session="one")
    two = await answered(tmp_path / "state", REPLIES, requests=["first", "second"], session="two")
    one, two = with_asked_alone(one), with_asked_alone(two)
    path = write(tmp_path / "n.ipynb", asked("x", named("two", 2)), asked("y", named("one", 1), named("gone", 1)))
    # Those of the tests end within one second, so that which is the later one is not known here.
    embed(path)
    block = block_in(path)
    first, last = (one, two) if block["session"] == "two" else (two, one)
    assert block["turns"] == last["turns"]
    assert block["earlier"] == first["turns"]
    text = path.read_bytes()
    assert embed(path) == (f"session {last['session']}: all of it was there already",)
    assert embed(path, first["session"]) == (f"session {first['session']}: all of it was there already",)
    swapped = block_in(path)
    assert (swapped["turns"], swapped["earlier"]) == (first["turns"], last["turns"])
    embed(path, last["session"])
    assert path.read_bytes() == text


async def test_the_newest_that_names_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "n.ipynb", "x = 1")
    block = await answered(tmp_path / "state", REPLIES, requests=["one"], notebook=path)
    assert embed(path) == ("session one: 1 of 1 turn put in",)
    assert block_in(path) == block


async def test_by_its_name_and_how_that_begins(tmp_path: Path) -> None:
    block = await answered(tmp_path / "n.lash", REPLIES, requests=["one"], session="0123abcd")
    path = write(tmp_path / "n.ipynb", "x = 1", metadata={"lash_nb": {"model": "local"}})
    made = embedded(ClosedNotebook(path), which="0123abcd")
    assert json.loads(made.text)["metadata"]["lash_nb"] == {**block, "model": "local"}
    assert embedded(ClosedNotebook(path), which="0123", state_dir=tmp_path / "n.lash").text == made.text
    assert embedded(ClosedNotebook(path), which="0123").text == made.text
    assert embedded(ClosedNotebook(path), which=str(tmp_path / "n.lash")).text == made.text


async def test_the_beginning_of_a_name_is_looked_for_everywhere(tmp_path: Path) -> None:
    path, elsewhere = write(tmp_path / "n.ipynb", "x = 1"), tmp_path / "elsewhere"
    for place, session in ((tmp_path / "n.lash", "12ab"), (elsewhere, "12ab"), (elsewhere, "12cd"), (elsewhere, "34")):
        await answered(place, REPLIES, requests=["one"], session=session)
    places = f"{tmp_path / 'n.lash'} or {elsewhere}"
    assert embedded(ClosedNotebook(path), which="3").sentences == ("session 34: 1 of 1 turn put in",)
    assert embedded(ClosedNotebook(path), which="12a").sentences == ("session 12ab: 1 of 1 turn put in",)
    for which, problem in (
        ("12", "2 sessions begin with it: say more of its id"),
        ("5", "`--state-dir` says where else it is"),
        ("", "`--state-dir` says where else it is"),
    ):
        with pytest.raises(UnknownNameError) as caught:
            embedded(ClosedNotebook(path), which=which)
        assert str(caught.value) == f"there is no session {which!r} in {places}: {problem}"


async def test_the_only_session_beside_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As of a run whose notebook was stripped, and moved with what is beside it."""
    other = write(tmp_path / "in.ipynb", "x = 1")
    block = await answered(tmp_path / "o.lash", REPLIES, requests=["one"], session="only", notebook=other)
    await answered(tmp_path / "elsewhere", REPLIES, requests=["one"], session="another", notebook=other)
    path = write(tmp_path / "o.ipynb", "x = 1")
    before = path.read_bytes()
    said = f"no journal names this file; session only is taken, the only one in {tmp_path / 'o.lash'}"
    for options in ((), ("--state-dir", tmp_path / "o.lash")):
        path.write_bytes(before)
        assert command("embed", path, *options) == 0
        printed, told = capsys.readouterr()
        assert (printed, told) == (f"{path}: session only: 1 of 1 turn put in\n", f"lash-nb: {said}\n")
        assert block_in(path) == block
    path.write_bytes(before)
    assert command("embed", path, "--state-dir", tmp_path / "elsewhere") == 2, "that one is not beside it"
    await answered(tmp_path / "o.lash", REPLIES, requests=["one"], session="second", notebook=other)
    assert command("embed", path) == 2
    assert "and no journal in" in capsys.readouterr().err
    assert path.read_bytes() == before


async def test_a_journal_that_names_the_file_comes_first(tmp_path: Path) -> None:
    path = write(tmp_path / "o.ipynb", "x = 1")
    await answered(tmp_path / "o.lash", REPLIES, requests=["one"], session="beside", notebook=tmp_path / "in.ipynb")
    await answered(tmp_path / "elsewhere", REPLIES, requests=["one"], session="named", notebook=path)
    made = embedded(ClosedNotebook(path))
    assert (made.sentences, made.notes) == (("session named: 1 of 1 turn put in",), ())


def test_nothing_says_which(tmp_path: Path) -> None:
    path = write(tmp_path / "n.ipynb", "x = 1")
    with pytest.raises(InputError, match=r"names no session, and no journal in .* names this file: name the session"):
        embed(path)
    path = write(tmp_path / "n.ipynb", asked("x", named("../../gone", 1)))
    with pytest.raises(JournalError, match="has no journal in"):
        embed(path)
    with pytest.raises(InputError, match="there is no session 'gone'"):
        embed(path, "gone")


# -------------------------------------------------------------------------------------------------------- what goes in


async def test_a_turn_in_progress_can_be_gone_on_with_from_the_file(tmp_path: Path) -> None:
    blocks = Blocks()
    await Left(tmp_path / "state").after(nth("effect ExecCode", 2), on_block=blocks)
    path = write(tmp_path / "n.ipynb", asked("Six times seven?", named("one", 1)))
    assert embed(path) == ("session one: turn 1, which is not finished, put in",)
    text = path.read_bytes()
    head, live = block_in(path)["head"], in_progress(blocks)["head"]
    told = ("version", "session", "turn", "seq", "parent", "sha256", "engine", "checkpoint")
    assert {name: head[name] for name in told} == {name: live[name] for name in told}
    assert head["resume"] == live["resume"]
    embed(path)
    assert path.read_bytes() == text, "the same again, whenever it is done"
    shutil.rmtree(tmp_path / "state")
    model = ScriptedModel({1: ["", "", "It is 42."]})
    async with Session.resume(path, state_dir=tmp_path / "state", model=model, kernel=ScriptedKernel()) as session:
        turn = await session.resume_turn()
    assert turn.text == "It is 42."


async def test_whole_turns_in_outputs_become_references(tmp_path: Path) -> None:
    block = await answered(tmp_path / "state", REPLIES, requests=["one", "two"])
    one, two = block["turns"]
    path = write(tmp_path / "n.ipynb", asked("one", one), asked("two", two))
    notebook = json.loads(path.read_text())
    for index, envelope in enumerate((one, {**two, "session": "other"})):
        notebook["cells"][index]["outputs"][0]["metadata"]["lash_nb"] = envelope
    path.write_text(json.dumps(notebook, indent=1))
    embed(path, "one")
    cells = json.loads(path.read_text())["cells"]
    shown = [one["outputs"][0]["metadata"]["lash_nb"] for one in cells]
    assert shown[0] == {name: one[name] for name in ("session", "turn", "sha256")}
    assert shown[1] == {**two, "session": "other"}, "nothing else has that one"


async def test_a_damaged_copy_makes_way_for_a_whole_one(tmp_path: Path) -> None:
    block = with_asked_alone(await answered(tmp_path / "state", REPLIES, requests=["one", "two"]))
    one, two = block["turns"]
    damaged = {**one, "checkpoint": ["{ damaged\n", *one["checkpoint"][1:]]}
    path = write(tmp_path / "n.ipynb", asked("one", one), metadata={"lash_nb": {**block, "turns": [damaged, two]}})
    notebook = json.loads(path.read_text())
    notebook["cells"][0]["outputs"][0]["metadata"]["lash_nb"] = one
    path.write_text(json.dumps(notebook, indent=1))
    assert embed(path) == ("session one: 1 of 2 turns put in",)
    assert block_in(path) == block
    shown = json.loads(path.read_text())["cells"][0]["outputs"][0]["metadata"]["lash_nb"]
    assert shown == {name: one[name] for name in ("session", "turn", "sha256")}


async def test_a_whole_copy_in_an_output_stays_while_that_of_the_block_is_damaged(tmp_path: Path) -> None:
    """Of a session that is not the one that is put in."""
    block = await answered(tmp_path / "state", REPLIES, requests=["one"])
    other = (await answered(tmp_path / "other", REPLIES, requests=["first", "second"], session="other"))["turns"]
    damaged = {**other[0], "checkpoint": ["{}"]}
    value = {**block, "earlier": [damaged, other[1], other[0]]}
    path = write(tmp_path / "n.ipynb", asked("first", *other), metadata={"lash_nb": {**value, "earlier": [damaged]}})
    notebook = json.loads(path.read_text())
    notebook["cells"][0]["outputs"][0]["metadata"]["lash_nb"] = other[0]
    path.write_text(json.dumps(notebook, indent=1))
    embed(path)
    after = json.loads(path.read_text())
    assert after["cells"][0]["outputs"][0]["metadata"]["lash_nb"] == other[0]
    assert after["metadata"]["lash_nb"]["earlier"] == [damaged], "it is evidence, and nothing has it whole"
    # Of two of the same turn the whole one is kept.
    notebook["metadata"]["lash_nb"] = value
    path.write_text(json.dumps(notebook, indent=1))
    embed(path)
    after = json.loads(path.read_text())
    assert after["metadata"]["lash_nb"]["earlier"] == other
    assert after["cells"][0]["outputs"][0]["metadata"]["lash_nb"] == named("other", 1) | {"sha256": other[0]["sha256"]}


@pytest.mark.parametrize("metadata", [{}, {"a": 1}, {"lash_nb": {"model": "local"}}, {"a": 1, "z": 2}])
async def test_the_files_own_line_ends_are_kept(tmp_path: Path, metadata: dict[str, Any]) -> None:
    block = await answered(tmp_path / "state", REPLIES, requests=["one"])
    path = write(tmp_path / "n.ipynb", asked("one", *block["turns"]), metadata=metadata)
    lines = path.read_bytes()
    path.write_bytes(lines.replace(b"\n", b"\r\n"))
    embed(path)
    made = path.read_bytes()
    assert made.count(b"\r\n") == made.count(b"\n") == made.count(b"\r") > lines.count(b"\n")
    assert json.loads(made)["metadata"] == metadata | {"lash_nb": block | metadata.get("lash_nb", {})}


async def test_a_large_session_is_folded(tmp_path: Path) -> None:
    long = "x" * 60_000
    replies = {number: [f"{number} {long}"] for number in range(1, 7)}
    block = await answered(tmp_path / "state", replies, requests=["?"] * 6)
    path = write(tmp_path / "n.ipynb", asked("?", block["turns"][0]))
    embed(path)
    kept = block_in(path)
    assert [turn["sha256"] for turn in kept["turns"]] == [turn["sha256"] for turn in block["turns"]]
    assert len(json.dumps(kept)) < 300_000
    assert "checkpoint" in kept["turns"][-1]
    text = path.read_bytes()
    embed(path)
    assert path.read_bytes() == text


# ------------------------------------------------------------------------------------------------------ what is refused


async def test_a_fork(tmp_path: Path) -> None:
    mine = await answered(tmp_path / "mine", REPLIES, requests=["one", "two"])
    await answered(tmp_path / "state", {1: ["Else."]}, requests=["one"])
    path = write(tmp_path / "n.ipynb", asked("one"), metadata={"lash_nb": mine})
    before = path.read_bytes()
    with pytest.raises(
        LashError, match=r"carries turn 1 of session one .* went their own ways, and nothing was put in"
    ) as caught:
        embed(path)
    assert not isinstance(caught.value, InputError)
    assert path.read_bytes() == before
    assert command("embed", path, "--state-dir", tmp_path / "state") == 1


async def test_a_journal_that_ends_before_the_notebook(tmp_path: Path) -> None:
    blocks = Blocks()
    left = await Left(tmp_path / "state").after(nth("effect ExecCode", 1), on_block=blocks)
    block = in_progress(blocks)
    block["head"]["seq"] += 5
    path = write(tmp_path / "n.ipynb", asked("?"), metadata={"lash_nb": block})
    with pytest.raises(LashError, match="carries turn 1 of session one"):
        embed(path)
    assert left.ran == []


async def test_a_session_in_use(tmp_path: Path) -> None:
    path = write(tmp_path / "n.ipynb", asked("x", named("one", 1)))
    before = path.read_bytes()
    async with Session(
        ScriptedModel(["One."]), kernel=ScriptedKernel(), state_dir=tmp_path / "state", session_id="one"
    ) as session:
        await session.run("One?")
        with pytest.raises(JournalInUseError, match="session one is in use by process"):
            embed(path)
    assert path.read_bytes() == before
    assert embed(path) == ("session one: 1 of 1 turn put in",)


async def test_a_block_that_cannot_be_read(tmp_path: Path) -> None:
    await answered(tmp_path / "state", REPLIES, requests=["one"])
    path = write(tmp_path / "n.ipynb", asked("x", named("one", 1)), metadata={"lash_nb": {"version": 99}})
    with pytest.raises(NotebookError, match="newer lash_nb"):
        embed(path)


async def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block = await answered(tmp_path / "n.lash", REPLIES, requests=["one"])
    path, out = write(tmp_path / "n.ipynb", asked("one", *block["turns"])), tmp_path / "out.ipynb"
    before = path.read_bytes()
    assert command("embed", path, "-o", out) == 0
    assert (path.read_bytes(), block_in(out)) == (before, block)
    assert command("embed", path) == 0
    assert path.read_bytes() == out.read_bytes()
    assert capsys.readouterr().out == f"{path}: session one: 1 of 1 turn put in\n" * 2
    assert command("embed", tmp_path / "none.ipynb") == 2
