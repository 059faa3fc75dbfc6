"""`lash-nb verify` and `lash-nb show`: what a notebook carries is told and drawn, and what is wrong stands first."""

from __future__ import annotations

import argparse
import copy
import json
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session, carried_words
from lash_nb.errors import InputError, NotebookError, UnknownNameError
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.execution import FinishValue
from lash_nb.stores.envelopes import fold_envelope
from lash_nb.stores.notebook import folded

from .conversations import Blocks, cell, stdout
from .faults.hostile import unsafe_page
from .faults.hostile_parts import EVIL_TEXTS, sealed
from .stores.envelopes import block, chain, finished, notebook, running

V1 = Path(__file__).parent / "stores" / "v1" / "prices.ipynb"


def words(*arguments: str | Path) -> int:
    """Run a command; its exit code."""
    parser = argparse.ArgumentParser()
    carried_words.add(parser.add_subparsers())
    options = parser.parse_args([str(argument) for argument in arguments])
    code: int = options.run(options)
    return code


@pytest.fixture
def saved(tmp_path: Path) -> Any:
    """Writes a notebook."""

    def save(document: Any, name: str = "n.ipynb") -> Path:
        path = tmp_path / name
        path.write_text(json.dumps(document), encoding="utf-8")
        return path

    return save


# ------------------------------------------------------------------------------------------------------------- verify


def test_a_line_for_each_session_and_turn(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    turns = chain(2)
    value = folded({**block(), "earlier": chain(1, session="before")}, most_bytes=10)
    path = saved(notebook({**value, "forked_from": {"session": "before", "turn": 1, "sha256": "0" * 64}}))
    assert words("verify", path) == 0
    size, head = (len("".join(one["checkpoint"]).encode()) for one in (turns[0], value["head"]))
    gone = f"{size:,} bytes; folded, its content is in the session's journal alone"
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: valid; it carries 4 turns (their records; what cells show is not checked against them)",
        "  Session before",
        f"    turn 1  metadata.lash_nb.earlier[0]  {gone}  [done]  1",
        "  Session s (the notebook's own), branched off session before after turn 1",
        f"    turn 1  metadata.lash_nb.turns[0]  {gone}  [done]  1",
        f"    turn 2  metadata.lash_nb.turns[1]  {size:,} bytes  [done]  2",
        f"    turn 3  metadata.lash_nb.head  {head:,} bytes  [in progress]",
    ]


def test_where_there_is_nothing_that_is_said_and_valid(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(notebook())
    assert words("verify", path) == 0
    assert capsys.readouterr().out == f"{path}: valid; it carries no session of lash_nb\n"


def test_what_is_not_complete_is_said_at_once(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(notebook(None, chain(2)[1]))
    assert words("verify", path) == 0
    assert words("show", path) == 0
    lines = capsys.readouterr().out.splitlines()
    sentence = (
        "  incomplete: the turns before turn 2 (cell 1, output 1) are not here; those that are can be gone on with"
    )
    assert lines[:2] == [
        f"{path}: valid, not complete; it carries 1 turn (its record; what cells show is not checked against them)",
        sentence,
    ]
    assert lines[lines.index("n.ipynb: what it carries is valid, not complete:") + 1] == sentence


def broken() -> dict[str, Any]:
    value = copy.deepcopy(block())
    value["turns"][0]["checkpoint"][0] = "["
    return notebook(value)


def test_what_is_wrong_is_a_sentence_with_its_place(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(broken())
    assert words("verify", path) == 1
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == (
        f"{path}: NOT valid; it carries 2 turns (their records; what cells show is not checked against them)"
    )
    assert second == (
        "  damaged: metadata.lash_nb.turns[0].checkpoint is damaged: its SHA-256 is not the one that was saved with it"
    )


def test_several_files_of_which_one_cannot_be_read(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, none = saved(notebook(block())), saved(broken(), "bad.ipynb"), saved({}, "none.ipynb")
    assert words("verify", good, bad) == 1
    assert words("verify", bad, none, good) == 2
    told = capsys.readouterr()
    assert told.err == f"lash-nb: {none} is not a notebook: it is JSON without `nbformat`\n"
    assert told.out.count("valid; it carries") == 4, "the others are told of"


def test_the_verdict_as_json(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad, none = saved(notebook(block())), saved(broken(), "bad.ipynb"), saved({}, "none.ipynb")
    assert words("verify", good, bad, none, "--json") == 2
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    first, second, third = json.loads(printed)["files"]
    assert (first["file"], first["valid"], first["empty"], first["session"]) == (str(good), True, False, "s")
    (session,) = first["sessions"]
    turns = block()["turns"]
    assert session["turns"][1] == {
        "turn": 2,
        "seq": 2,
        "sha256": turns[1]["sha256"],
        "parent": turns[0]["sha256"],
        "saved_at": "2026-11-22T17:00:00Z",
        "place": "metadata.lash_nb.turns[1]",
        "whole": True,
        "held_by": None,
        "ended": True,
        "bytes": len("".join(turns[1]["checkpoint"]).encode()),
        "request": "2",
        "outcome": "done",
    }
    assert (session["head"]["turn"], session["head"]["ended"]) == (3, False)
    assert second["valid"] is False
    assert [problem["trouble"] for problem in second["problems"]] == ["damaged", "incomplete"]
    assert third["file"] == str(none)
    assert "not a notebook" in third["error"]


# --------------------------------------------------------------------------------------------------------------- show


def test_a_session_is_drawn_as_it_was_seen(capsys: pytest.CaptureFixture[str]) -> None:
    """What version 1 left: two turns, and one that was in the middle of a cell."""
    assert words("show", V1) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("prices.ipynb: all that it carries is valid\n")
    in_order = [
        "══ Session 5e551011a1 (the notebook's own) ══",
        "━━ Turn 1 · saved 2026-01-02T03:00:37+00:00 · metadata.lash_nb.turns[0] ━━",
        "Request:\n    What do the prices 3, 5 and 34 make together?",
        "Code:\n    sum(prices)",
        "Output (an error):",
        "NameError: name 'prices' is not defined",
        "── Answer ──\n\nTogether they are **42**.",
        "━━ Turn 2 · ",
        '── Result ──\n\n{\n  "most": 34\n}',
        "━━ Turn 3 · in progress · ",
        "Code:\n    prices.append(8)\n\nOutput: not ended",
        "[stopped: the notebook was saved before it ended · 1 cell · openai:some-model]",
    ]
    places = [shown.index(part) for part in in_order]
    assert places == sorted(places)


async def test_what_a_session_showed_is_in_its_copy(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = Blocks()
    script = {"print(1)": ScriptedCell(outputs=(stdout("one\n"),))}
    model = ScriptedModel([cell("print(1)", "Look."), "It is **one**."])
    async with Session(model, kernel=ScriptedKernel(script), on_block=blocks) as session:
        await session.run("Which number?")
    path = saved(notebook(blocks.blocks[-1]))
    assert words("verify", path) == 0
    assert words("show", path) == 0
    shown = capsys.readouterr().out
    for part in ("    Which number?", "Look.", "    print(1)", "    one", "It is **one**.", "[done · 1 cell"):
        assert part in shown


async def told(*replies: str, requests: list[str]) -> dict[str, Any]:
    """The block of a session with these turns, all folded but the last one."""
    blocks = Blocks()
    script = {
        "print(1)": ScriptedCell(outputs=(stdout("one\n"),)),
        "finish(3)": ScriptedCell(finish=FinishValue(value={"a": 3})),
    }
    async with Session(ScriptedModel(list(replies)), kernel=ScriptedKernel(script), on_block=blocks) as session:
        for request in requests:
            await session.run(request)
    return dict(folded(blocks.blocks[-1], most_bytes=10))


async def test_a_folded_turn_is_drawn_from_a_later_ones_conversation(
    saved: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    replies = (cell("print(1)", "Look."), "It is **one**.", cell("finish(3)", "Now."), "The third.")
    value = await told(*replies, requests=["Which number?", "Value?", "Third?"])
    path = saved(notebook(value))
    assert words("verify", path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["folded, its content is in turn 3's conversation" in line for line in lines[2:]] == [True, True, False]
    assert words("verify", path, "--json") == 0
    (file,) = json.loads(capsys.readouterr().out)["files"]
    assert [(turn["whole"], turn["held_by"]) for turn in file["sessions"][0]["turns"]] == [
        (False, 3),
        (False, 3),
        (True, None),
    ]
    assert words("show", path) == 0
    shown = capsys.readouterr().out
    in_order = [
        "━━ Turn 1 (from the conversation that turn 3 holds) · ",
        "Request:\n    Which number?\n\n── Step 1 ──\n\nLook.\n\nCode:\n    print(1)\n\nOutput:\n    one\n\n",
        "── Answer ──\n\nIt is **one**.\n\n[done · 1 cell]",
        "━━ Turn 2 (from the conversation that turn 3 holds) · ",
        "Request:\n    Value?\n\n── Step 1 ──\n\nNow.\n\nCode:\n    finish(3)\n\n── Result ──\n\n",
        '{\n  "a": 3\n}\n\n[done',
        "━━ Turn 3 · saved",
        "Request:\n    Third?\n\nThe third.",
    ]
    places = [shown.index(part) for part in in_order]
    assert places == sorted(places)
    assert "journal alone" not in shown
    assert words("show", path, "--turn", "2", "--html") == 0
    page = capsys.readouterr().out
    assert page.count("<article>") == 1
    assert "Turn 2 (from the conversation that turn 3 holds)" in page
    assert unsafe_page(page) == ""


def test_one_page_without_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "page.html"
    assert words("show", V1, "--html", "-o", out) == 0
    assert capsys.readouterr().out == ""
    page = out.read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "default-src 'none'" in page
    assert unsafe_page(page) == ""
    assert page.count("<article>") == 3
    assert "<strong>42</strong>" in page
    assert words("show", V1, "--html") == 0
    assert capsys.readouterr().out == page


def test_a_session_or_a_turn_alone(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(notebook({**block(), "earlier": chain(2, session="before")}))
    assert words("show", path, "--session", "bef", "--turn", "2") == 0
    shown = capsys.readouterr().out
    assert shown.count("━━ Turn") == 1
    assert "metadata.lash_nb.earlier[1]" in shown
    with pytest.raises(UnknownNameError, match="carries no turn 9; `lash-nb verify` lists what there is"):
        words("show", path, "--turn", "9")
    with pytest.raises(UnknownNameError, match="carries no session 'x'; it carries: before, s"):
        words("show", path, "--session", "x")


def test_a_turn_that_is_only_referred_to_is_listed_with_its_request(
    saved: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = finished("What is it?")
    path = saved(notebook(None, fold_envelope(whole)))
    words("show", path)
    words("show", path, "--html")
    size = len("".join(whole["checkpoint"]).encode())
    sentence = (
        f"The notebook only refers to this turn, which ended: done; its content ({size:,} bytes) is in the "
        "session's journal alone. It was asked: What is it?"
    )
    text, _, page = capsys.readouterr().out.partition("<!doctype")
    assert sentence in text
    assert sentence.replace("'", "&#x27;") in page


def test_damage_and_forks_stand_first(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    turns = chain(2)
    other = finished("else", turn=2, seq=9, parent=turns[0]["sha256"])
    path = saved(notebook(None, *turns, other, {**running(turn=3), "sha256": "0" * 64}))
    assert words("show", path) == 0
    assert words("show", path, "--html") == 0
    text, _, page = capsys.readouterr().out.partition("<!doctype")
    first = text.splitlines()
    assert first[0] == "n.ipynb: NOT all that it carries is valid:"
    assert first[1].startswith("  damaged: cell 4, output 1.checkpoint is damaged")
    assert first[2].startswith("  forked: session 's' went two ways: its turn 2 is cell 3, output 1 (seq 9")
    assert "━━ Turn 2 · goes another way · " in text
    assert page.index('<div role="alert">') < page.index("<h2>")


def test_where_there_is_nothing_to_show(saved: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert words("show", saved(notebook())) == 0
    assert capsys.readouterr().out == "n.ipynb carries no session of lash_nb\n"


def test_the_notebook_itself_is_not_written_over(saved: Any, tmp_path: Path) -> None:
    path = saved(notebook(block()))
    with pytest.raises(InputError, match="is the notebook itself"):
        words("show", path, "-o", path)
    with pytest.raises(InputError, match="cannot be written"):
        words("show", path, "-o", tmp_path / "nowhere" / "x.txt")
    with pytest.raises(NotebookError, match="there is no notebook"):
        words("show", tmp_path / "none.ipynb")


@pytest.mark.parametrize("text", EVIL_TEXTS)
def test_what_wants_to_act_does_not(saved: Any, capsys: pytest.CaptureFixture[str], text: str) -> None:
    """In the name of a session, in what was asked, in the answer, and as the file's own name."""
    checkpoint = json.loads("".join(finished()["checkpoint"]))
    checkpoint["pending_effects"][0]["Emit"]["outcome"] = {"finished": {"assistant_message": {"text": text}}}
    asked = {"text": text, "model": text, "protocol": "code"}
    plain = text.encode("utf-8", "replace").decode()
    turn = {**sealed(finished(), checkpoint), "session": plain, "saved_at": plain, "resume": {"asked": asked}}
    path = saved(notebook(None, turn, {**turn, "sha256": "0" * 64}))
    for arguments in (("verify", path), ("verify", path, "--json"), ("show", path), ("show", path, "--html")):
        words(*arguments)
        shown = capsys.readouterr().out
        assert not [sign for sign in shown if ord(sign) < 32 and sign not in "\n\t"]
        assert not [sign for sign in shown if 0x7F <= ord(sign) < 0xA0 or "\u202a" <= sign <= "\u202e"]
        if "--html" in arguments:
            assert unsafe_page(shown) == ""
