"""Notebooks with turns of a model that calls tools itself: what they carry, shown, made plain, followed, traced."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lash_nb import ScriptedKernel, Session, tool
from lash_nb.cli import main
from lash_nb.ejecting import ejected
from lash_nb.errors import ApprovalNeeded, ToolError
from lash_nb.following import Following, read_session, under_way
from lash_nb.inserting.offering import offered
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.execution import CellOutcome, ErrorOutput, FinishValue, StreamOutput
from lash_nb.machine.picture import PictureState, TurnPicture
from lash_nb.machine.tool_calls import PendingToolCall
from lash_nb.models import ModelTraits
from lash_nb.models.scripted import ScriptedModel, calling
from lash_nb.stores.carried import carried
from lash_nb.stores.closed import ClosedNotebook
from lash_nb.stores.envelopes import open_text
from lash_nb.stores.notebook import folded
from lash_nb.stores.pictures import FoldedTurns, picture_of
from lash_nb.views.text import static_bundle

from .conversations import Blocks, cell, stdout
from .cut_journals import cut, journal
from .plain_notebooks import asked, last_text, run_without_us, sources, texts, write

BATCH = calling(
    ("run_code", {"code": "a = 1\nprint(a)"}, "x"),
    ("look", {"city": "Bern"}, "n"),
    ("look", {"city": "Atlantis"}, "f"),
    ("run_code", {"code": "1 / 0"}, "y"),
    ("nothing", {}, "u"),
    text="I look.",
)
REPLIES: dict[int, Any] = {
    1: [BATCH, "It is **17.5**."],
    2: [calling(("run_code", {"code": "finish([1, 2])"}, "v"))],
    3: ["Words."],
}
FAILED = ErrorOutput(ename="ZeroDivisionError", evalue="division by zero", traceback=())
CELLS = {
    "a = 1\nprint(a)": ScriptedCell(
        outputs=(stdout("1\n"),), calls=(PendingToolCall(call_id="", tool_name="look", args={"city": "Rome"}),)
    ),
    "1 / 0": ScriptedCell(outputs=(stdout("before\n"), FAILED)),
    "finish([1, 2])": ScriptedCell(finish=FinishValue(value=[1, 2])),
}


@tool(approve="never")
async def look(city: str) -> float:
    """How warm it is."""
    if city == "Atlantis":
        raise ToolError(f"no such city: {city}")
    return 17.5


async def answered(state_dir: Path, *requests: str, **options: Any) -> dict[str, Any]:
    """The block of a session with these turns, whose journal is in `state_dir`."""
    blocks = Blocks()
    model = ScriptedModel(REPLIES, traits=ModelTraits(protocol="tools"))
    options = {"kernel": ScriptedKernel(CELLS), "tools": {"look": look}, **options}
    async with Session(model, state_dir=state_dir, session_id="one", on_block=blocks, **options) as session:
        for request in requests:
            await session.run(request)
    return blocks.blocks[-1]


def notebook(path: Path, block: dict[str, Any], *requests: str) -> Path:
    cells = [asked(text, turn) for text, turn in zip(requests, block["turns"], strict=True)]
    return write(path, *cells, metadata={"lash_nb": block})


def carries(block: dict[str, Any]) -> Any:
    return carried({"cells": [], "metadata": {"lash_nb": block}, "nbformat": 4, "nbformat_minor": 5}).sessions[0]


def seen(picture: TurnPicture) -> list[tuple[str | None, CellOutcome | None, list[tuple[str | None, bool | None]]]]:
    return [
        (step.code, step.outcome, [(one.call_id, one.succeeded) for one in step.tool_calls]) for step in picture.steps
    ]


FIRST = [
    ("a = 1\nprint(a)", CellOutcome.OK, [("n", True), ("f", False), ("u", False)]),
    ("1 / 0", CellOutcome.ERROR, []),
]


# -- the notebook alone ------------------------------------------------------------------------------------------------


async def test_a_turn_is_drawn_from_what_the_notebook_carries(tmp_path: Path) -> None:
    session = carries(await answered(tmp_path, "First?", "Second?"))
    first, second = (picture_of(turn, open_text(turn.text, place="x"), None) for turn in session.turns)
    assert seen(first) == FIRST
    assert (first.steps[0].prose, first.answer) == ("I look.", "It is **17.5**.")
    assert first.steps[0].outputs == (StreamOutput(name="stdout", head="1\n"),)
    assert "no such city: Atlantis" in first.steps[0].tool_calls[1].problem
    assert "No tool is called 'nothing'" in first.steps[0].tool_calls[2].problem
    assert seen(second) == [("finish([1, 2])", CellOutcome.OK, [])]
    assert second.value == FinishValue(value=[1, 2])


async def test_a_turn_that_was_folded_is_drawn_from_a_later_one(tmp_path: Path) -> None:
    block = await answered(tmp_path, "First?", "Second?", "Third?")
    session = carries(folded(block, most_bytes=1))
    first, second = (FoldedTurns(session).picture(turn) for turn in session.turns[:2])
    assert first is not None
    assert second is not None
    assert (seen(first), first.answer) == (FIRST, "It is **17.5**.")
    assert seen(second) == [("finish([1, 2])", CellOutcome.OK, [])]
    assert (second.value, second.steps[0].outputs) == (FinishValue(value=[1, 2]), ())


async def test_the_commands_that_read_a_notebook(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = notebook(tmp_path / "n.ipynb", await answered(tmp_path / "state", "First?"), "First?")
    assert main(["show", str(path)]) == 0
    printed = capsys.readouterr().out
    for text in ("a = 1", 'look({"city": "Bern"}): done', 'look({"city": "Atlantis"}): failed: ', "It is **17.5**."):
        assert text in printed
    assert main(["show", str(path), "--html"]) == 0
    assert "<p>Calls:</p><ul><li>look({&quot;city&quot;: &quot;Bern&quot;}): done, gave " in capsys.readouterr().out
    assert main(["verify", str(path)]) == 0
    assert main(["embed", str(path), "--state-dir", str(tmp_path / "state")]) == 0
    assert "all of it was there already" in capsys.readouterr().out
    assert main(["strip", str(path)]) == 0
    assert json.loads(path.read_text(encoding="utf-8"))["metadata"] == {}


async def test_a_notebook_that_was_stripped_gets_all_of_it_back(tmp_path: Path) -> None:
    block = await answered(tmp_path / "state", "First?", "Second?")
    path = write(tmp_path / "n.ipynb", asked("First?", *block["turns"]))
    assert main(["embed", str(path), "--state-dir", str(tmp_path / "state")]) == 0
    embedded = json.loads(path.read_text(encoding="utf-8"))["metadata"]["lash_nb"]
    assert [turn["sha256"] for turn in embedded["turns"]] == [turn["sha256"] for turn in block["turns"]]


# -- made plain --------------------------------------------------------------------------------------------------------


NOT_AGAIN = (
    "in turn 1 the model called tools itself (look, nothing): they are not called again, so that what they changed is "
    "not changed here; what they gave is in its code only where it wrote that in"
)


@pytest.mark.parametrize("alone", [False, True], ids=["journal", "notebook alone"])
async def test_cells_become_cells_and_calls_are_named(tmp_path: Path, alone: bool) -> None:
    requests = ("First?", "Second?")
    path = notebook(tmp_path / "n.ipynb", await answered(tmp_path / "state", *requests), *requests)
    if alone:
        shutil.rmtree(tmp_path / "state")
    made = ejected(ClosedNotebook(path), state_dir=tmp_path / "state")
    assert made.left_out == ()
    assert NOT_AGAIN in made.notes
    plain: Any = nbformat.reads(made.text, as_version=4)  # type: ignore[no-untyped-call]
    code = [(one.source, one.metadata.get("tags", [])) for one in plain.cells if one.cell_type == "code"]
    assert code[-3:] == [("a = 1\nprint(a)", []), ("1 / 0", ["raises-exception"]), ("finish([1, 2])", [])]
    assert next(texts(one) for one in plain.cells if one.source == "a = 1\nprint(a)") == ["1\n"]
    words = "\n\n".join(one.source for one in plain.cells if one.cell_type == "markdown")
    first = "> First?\n\nI look.\n\n*3 calls of tools were made here, which is not done again: "
    assert first in words
    assert "\n\nIt is **17.5**.\n\n> Second?" in words
    out = tmp_path / "plain.ipynb"
    out.write_text(made.text, encoding="utf-8")
    assert last_text(run_without_us(out), "a = 1") == "1\n"


async def test_a_batch_that_had_not_ended_is_shown_as_far_as_it_came(tmp_path: Path) -> None:
    await answered(tmp_path / "state", "First?")
    cut(journal(tmp_path / "state", "one"), behind=lambda record: record.get("k") == "called" and record["call"] == "x")
    path = write(tmp_path / "n.ipynb", "x = 0")
    assert main(["embed", str(path), "one", "--state-dir", str(tmp_path / "state")]) == 0
    made = ejected(ClosedNotebook(path), state_dir=tmp_path / "state")
    assert '"a = 1\\n",' in made.text
    shutil.rmtree(tmp_path / "state")
    alone = ejected(ClosedNotebook(path), state_dir=tmp_path / "state")
    plain: Any = nbformat.reads(alone.text, as_version=4)  # type: ignore[no-untyped-call]
    shown = sources(plain)[-1]
    assert "```python\na = 1\nprint(a)\n```\n\n*This cell had not ended when this was recorded.*" in shown
    assert "```python\n1 / 0\n```\n\n*This cell had not ended when this was recorded.*" in shown
    assert "*The turn had not ended.*" in shown
    block = json.loads(path.read_text(encoding="utf-8"))["metadata"]["lash_nb"]
    turn = carries(block).head
    picture = picture_of(turn, open_text(turn.text, place="x"), None)
    assert seen(picture) == [("a = 1\nprint(a)", None, [("u", False), ("n", None), ("f", None)]), ("1 / 0", None, [])]


# -- offered as cells --------------------------------------------------------------------------------------------------


async def test_code_beside_calls_is_offered_and_the_calls_are_said(tmp_path: Path) -> None:
    replies: dict[int, Any] = {
        1: [calling(("look", {"city": "Bern"}, "n")), calling(("run_code", {"code": "t = 17.5\nt * 2"}, "x")), "35."],
        2: [calling(("look", {"city": "Bern"}, "m")), "Warm."],
    }
    model = ScriptedModel(replies, traits=ModelTraits(protocol="tools"))
    async with Session(model, tools={"look": look}, state_dir=tmp_path, approve="all") as session:
        first, second = await session.run("Twice?"), await session.run("Warm?")
        offer, none = [await session._loop.wait(offered(session, turn)) for turn in (first, second)]
    assert (offer.cells, offer.verified) == (("t = 17.5\nt * 2",), True)
    assert offer.note == (
        "the model also called tools itself (look): what they did is not done again, and what they gave is in the code "
        "only where the model wrote it in"
    )
    assert (none.cells, none.problem) == ((), "turn 2 ran no Python code to its end")


# -- followed and traced -----------------------------------------------------------------------------------------------


async def test_a_batch_is_followed_call_by_call(tmp_path: Path) -> None:
    await answered(tmp_path, "First?")
    path = journal(tmp_path, "one")
    rest = cut(path, behind=lambda record: record.get("kind") == "ToolCalls")
    pictures = []
    for line in (b"", *rest[:-2]):
        with path.open("ab") as file:
            file.write(line)
        turn = read_session(tmp_path, "one").running
        if turn is None or turn.answer is not None:
            break
        pictures.append(under_way(turn.picture(), turn))
    began = [(call_id, None) for call_id in ("n", "f")]
    assert seen(pictures[0])[-1] == (None, None, [("u", False), *began])
    last = pictures[-1]
    assert [(step.code, step.outcome) for step in last.steps] == [
        ("a = 1\nprint(a)", CellOutcome.OK),
        ("1 / 0", CellOutcome.ERROR),
    ]
    assert last.steps[0].outputs == (StreamOutput(name="stdout", head="1\n"),)
    calls = {one.call_id: one.succeeded for step in last.steps for one in step.tool_calls}
    assert calls == {"u": False, "n": True, "f": False}
    following = Following(tmp_path, "one")
    following.look()
    assert following.abandoned


@pytest.mark.parametrize(
    ("protocol", "replies", "calls"),
    [
        ("tools", [calling(("look", {"city": "Bern"}, "n"), ("run_code", {"code": "a = 1"}, "x"))], [("n", True)]),
        ("code", [cell("a = 1")], []),
    ],
)
async def test_what_waits_for_approval_is_not_drawn_as_running(
    tmp_path: Path, protocol: str, replies: list[Any], calls: list[tuple[str, bool]]
) -> None:
    model = ScriptedModel(replies, traits=ModelTraits(protocol=protocol))
    options: dict[str, Any] = {"state_dir": tmp_path, "session_id": "one", "tools": {"look": look}, "approve": "every"}
    async with Session(model, kernel=ScriptedKernel(), **options) as session:
        with pytest.raises(ApprovalNeeded) as waits:
            await session.run("Count.")
    assert waits.value.approval.code == "a = 1"
    turn = read_session(tmp_path, "one").running
    assert turn is not None
    picture = under_way(turn.picture(), turn)
    assert (picture.state, picture.pending) == (PictureState.WAITING, waits.value.approval)
    assert [step.code for step in picture.steps] == ["a = 1"]
    assert [(one.call_id, one.succeeded) for step in picture.steps for one in step.tool_calls] == calls


async def test_a_trace_draws_the_cells_of_a_batch_as_cells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    await answered(tmp_path, "First?")
    assert main(["trace", "one", "--state-dir", str(tmp_path)]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    (batch,) = [line for line in lines if " ToolCalls " in line]
    assert batch.endswith("cell, look, look, cell")
    at = next(number for number, line in enumerate(lines) if line.startswith("cell a = 1"))
    assert lines[at : at + 2] == ["cell a = 1 print(a) → 1", 'tool look({"city": "Rome"}) → success']
    assert 'tool look({"city": "Atlantis"}) → failure' in lines
    assert any(line.startswith("cell 1 / 0 → error: ") for line in lines)


# -- views -------------------------------------------------------------------------------------------------------------


async def test_calls_stand_in_lines_and_those_of_a_cell_behind_it(tmp_path: Path) -> None:
    long = {"text": "abc\n" * 500}
    batch = calling(("look", {"city": "Bern"}, "n"), ("run_code", {"code": "a = 1\nprint(a)"}, "x"), ("say", long, "l"))

    async def say(text: str) -> str:
        return text.upper()

    model = ScriptedModel({1: [batch, "Done."]}, traits=ModelTraits(protocol="tools"))
    kernel = ScriptedKernel(CELLS)
    async with Session(model, kernel=kernel, tools={"look": look, "say": say}, state_dir=tmp_path) as session:
        turn = await session.run("Look.")
    bundle = static_bundle(turn.picture)
    text = str(bundle["text/plain"])
    head = '── Step 1 ──\n\nCalls:\n    look({"city": "Bern"}): done, gave 17.5\n    say({"text": "abc\\nabc\\n'
    assert text.startswith(head)
    (said,) = [line for line in text.splitlines() if line.startswith("    say(")]
    assert len(said) < 900
    assert 'abc\\n"}): done, gave ABC ABC' in said
    assert '\n\nOutput:\n    1\n\nCalls of the cell:\n    look({"city": "Rome"}): done\n\n── Answer ──' in text
    html = str(bundle["text/html"])
    assert "<p>Calls of the cell:</p><ul><li>look({&quot;city&quot;: &quot;Rome&quot;}): done</li></ul>" in html
    assert html.index("<p>Calls:</p>") < html.index("a = 1") < html.index("<p>Calls of the cell:</p>")
    markdown = str(bundle["text/markdown"])
    assert 'Calls of the cell:\n\n- look({"city": "Rome"}): done' in markdown
