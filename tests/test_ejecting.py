"""`lash-nb eject`: the plain notebook gives the same results where there is no lash_nb."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lash_nb import ScriptedKernel
from lash_nb.ejecting import Ejected, ejected
from lash_nb.ejecting.cells import TurnCells
from lash_nb.ejecting.shim import Shim
from lash_nb.ejecting.sources import Names, names_of, read_cell
from lash_nb.ejecting.turns import EjectedTurn
from lash_nb.errors import NotebookError
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.execution import CellOutcome, ErrorOutput, FinishValue
from lash_nb.machine.picture import StepPicture, TurnPicture
from lash_nb.runner import run_notebook
from lash_nb.stores.closed import ClosedNotebook

from .conversations import cell, stdout
from .plain_notebooks import answered, asked, command, last_text, ran, run_without_us, sources, texts, write

ROOT = Path(__file__).resolve().parent.parent
validate: Any = nbformat.validate


@pytest.fixture(autouse=True)
def _no_other_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASH_NB_STATE_DIR", str(tmp_path / "elsewhere"))


def plain(made: Ejected) -> Any:
    notebook = nbformat.reads(made.text, as_version=4)  # type: ignore[no-untyped-call]
    validate(notebook)
    return notebook


def eject(path: Path, state_dir: Path | None = None) -> tuple[Ejected, Any]:
    made = ejected(ClosedNotebook(path), state_dir=state_dir)
    return made, plain(made)


# ---------------------------------------------------------------------------------------------------------- end to end


@pytest.mark.parametrize("journal", [True, False], ids=["journal", "notebook alone"])
def test_two_sessions_give_the_same_without_us(tmp_path: Path, journal: bool) -> None:
    path = ran(tmp_path)
    if not journal:
        shutil.rmtree(tmp_path / "elsewhere")
    made, recorded = eject(path)
    assert made.left_out == ()
    assert made.turns == 4
    assert "the notebook has 2 sessions, each with a kernel of its own; here they share one" in made.notes
    assert [note for note in made.notes if "without a journal" in note] == ([] if journal else [made.notes[0]])
    out = tmp_path / "plain.ipynb"
    out.write_text(made.text, encoding="utf-8")
    done = run_without_us(out)
    assert last_text(done, "total = sum") == "ZeroDivisionError"
    assert last_text(done, "print('still'") == "10"
    assert last_text(done, "%%bash") == "from-bash\n"
    assert last_text(done, "if total:") == "{'twice': 20, '3': [1, 2]}"
    assert last_text(done, "value = _") == "20 [1, 2]\n"
    assert last_text(done, "total = 7") == "7"
    assert last_text(done, "# %lash usage") == "Seven. 10\n"
    if journal:
        # What is on record is what the run gives: but for the order in which a value's keys are shown.
        for before, after in zip(recorded.cells, done.cells, strict=True):
            if before.cell_type == "code" and not before.source.startswith(("if total", "# %lash")):
                assert texts(before) == texts(after), before.source
    assert [one for one in sources(recorded) if "%load_ext" in one or "%%lash" in one] == []
    assert "lash_nb" not in json.dumps([one.metadata for one in recorded.cells] + [dict(recorded.metadata)])


def test_the_quickstart(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "notebooks", tmp_path / "nb")
    result = run_notebook(tmp_path / "nb" / "01_quickstart.ipynb")
    made, _ = eject(result.out)
    (taken, both), left_out = made.notes, made.left_out
    assert (taken, left_out) == ("3 lines of `%lash` words were taken out, in cells 2, 20 and 21", ())
    assert both == "`zones` is one variable here, the agent's and yours; in the notebook the agent has its own"
    out = tmp_path / "nb" / "plain.ipynb"
    out.write_text(made.text, encoding="utf-8")
    done = run_without_us(out)
    years = {"2016": 14, "2014": 13, "2022": 9, "2011": 6, "2024": 4}
    assert result.turns[2].value == years
    assert last_text(done, "gone = zones") == last_text(done, "given_up") == repr(years)
    assert last_text(done, "turn = _").startswith("3 cells were run; the last one:\n")
    pictures = [
        one for one in done.cells if any("image/png" in output.get("data", {}) for output in one.get("outputs", []))
    ]
    assert [one.source.partition("\n")[0] for one in pictures] == ["import matplotlib.pyplot as plt"]


def test_the_same_notebook_gives_the_same_bytes(tmp_path: Path) -> None:
    path = ran(tmp_path)
    assert eject(path)[0].text == eject(path)[0].text


# -------------------------------------------------------------------------------------------------------- where it goes


async def test_a_turn_that_no_cell_shows_any_more_comes_before_the_next(tmp_path: Path) -> None:
    replies = {1: [cell("a = 1"), "One."], 2: [cell("a = 2"), "Two."], 3: [cell("a = 3"), "Three."]}
    block = await answered(tmp_path / "state", replies, requests=["first", "again", "again"])
    one, _, three = block["turns"]
    path = write(tmp_path / "n.ipynb", asked("first", one), "x = 1", asked("again", three), metadata={"lash_nb": block})
    made, notebook = eject(path, tmp_path / "state")
    code = [source for one, source in zip(notebook.cells, sources(notebook), strict=True) if one.cell_type == "code"]
    assert code == ["a = 1", "x = 1", "a = 2", "a = 3"]
    assert "> again\n\n*Asked before what its cell shows now.*" in sources(notebook)
    assert made.notes == ()


async def test_without_outputs_the_request_decides(tmp_path: Path) -> None:
    replies = {1: [cell("a = 1"), "One."], 2: [cell("a = 2"), "Two."]}
    block = await answered(tmp_path / "state", replies, requests=["second", "first"])
    path = write(tmp_path / "n.ipynb", asked("first"), asked("second"), metadata={"lash_nb": block})
    made, notebook = eject(path, tmp_path / "state")
    assert [one for one in sources(notebook) if one.startswith("a =")] == ["a = 2", "a = 1"]
    said = "turns were asked in another order than their cells stand in (2, 1): results may be others"
    assert (made.left_out, made.notes) == ((said,), ())


async def test_a_notebook_that_mentions_nothing_is_found_by_its_name(tmp_path: Path) -> None:
    path = write(tmp_path / "n.ipynb", asked("first"))
    replies = {1: [cell("a = 1"), "One."]}
    await answered(tmp_path / "state", replies, requests=["first"], notebook=path)
    _, notebook = eject(path, tmp_path / "state")
    assert "a = 1" in sources(notebook)


def test_a_request_that_was_never_answered_is_kept_as_words(tmp_path: Path) -> None:
    made, notebook = eject(write(tmp_path / "n.ipynb", asked("Why?\n<b>"), "x = 1"))
    assert sources(notebook)[1:] == ["> Why?\n> &lt;b>\n\n*This was not answered.*", "x = 1"]
    assert made.notes == ("cell 1 asks something that no turn answers; the request alone is kept",)
    assert made.left_out == ()


# ---------------------------------------------------------------------------------------------------------------- cells


async def test_cells_that_did_not_end_are_shown_and_not_run(tmp_path: Path) -> None:
    script = {"boom()": ScriptedCell(dies=True), "fine": ScriptedCell(outputs=(stdout("ok\n"),))}
    replies = {1: [cell("boom()", "First."), cell("fine"), "Done."]}
    block = await answered(tmp_path / "state", replies, requests=["go"], kernel=ScriptedKernel(script))
    path = write(tmp_path / "n.ipynb", asked("go", *block["turns"]), metadata={"lash_nb": block})
    for state_dir in (tmp_path / "state", tmp_path / "none"):
        made, notebook = eject(path, state_dir)
        code = [one.source for one in notebook.cells if one.cell_type == "code"]
        assert code == ["fine"]
        assert "```python\nboom()\n```\n\n*This cell ended its kernel's process" in sources(notebook)[1]
        assert any(note.startswith("step 1 of turn 1 ended its kernel's process") for note in made.notes)


async def test_a_turn_in_progress_is_shown_as_far_as_it_came(tmp_path: Path) -> None:
    from .left_sessions import Left, nth

    await Left(tmp_path / "state").after(nth("effect ExecCode", 2))
    path = write(tmp_path / "n.ipynb", asked("Six times seven?", {"session": "one", "turn": 1, "sha256": ""}))
    made, notebook = eject(path, tmp_path / "state")
    assert [one.source for one in notebook.cells if one.cell_type == "code"] == ["x = 41"]
    assert "```python\nx + 1\n```\n\n*This cell had not ended when this was recorded.*" in sources(notebook)[-1]
    assert sources(notebook)[-1].endswith("*The turn had not ended.*")
    assert made.left_out == ()


async def test_what_only_lash_nb_has_is_said(tmp_path: Path) -> None:
    replies = {1: [cell("n = tools.count(x=1)\nread_output('sha256:1')"), cell("finish(n)")]}
    script = {"finish(n)": ScriptedCell(finish=FinishValue(value=2))}
    kernel = ScriptedKernel(lambda code: script.get(code, ScriptedCell()))
    block = await answered(tmp_path / "state", replies, requests=["go"], kernel=kernel)
    path = write(tmp_path / "n.ipynb", asked("go", *block["turns"]), metadata={"lash_nb": block})
    made, notebook = eject(path, tmp_path / "state")
    said = "step 1 of turn 1 uses `tools` and `read_output`, which lash_nb alone has: it fails here"
    assert made.notes == (said,)
    assert f"- {said}" in sources(notebook)[0]
    tags = {one.source: one.metadata.get("tags") for one in notebook.cells if one.cell_type == "code"}
    assert tags["n = tools.count(x=1)\nread_output('sha256:1')"] == ["raises-exception"]
    assert tags["finish(n)"] is None, "as its last statement it ends nothing"
    assert texts(next(one for one in notebook.cells if one.source == "finish(n)")) == ["2"]


async def test_names_of_both_sides_are_said(tmp_path: Path) -> None:
    replies = {1: [cell("import math\ndf = 1\nmine = df\nsaid = print(math.pi)"), "One."]}
    block = await answered(tmp_path / "state", replies, requests=["go"])
    path = write(
        tmp_path / "n.ipynb",
        "import math\ndf = [math.tau]\nprint(len(df))",
        asked("go", *block["turns"]),
        metadata={"lash_nb": block},
    )
    made, _ = eject(path, tmp_path / "state")
    assert made.notes == ("`df` is one variable here, the agent's and yours; in the notebook the agent has its own",)


async def test_other_languages(tmp_path: Path) -> None:
    steps = tuple(
        StepPicture(code=code, language=language, outcome=CellOutcome.OK, outputs=(stdout("out\n"),))
        for language, code in (("bash", "ls"), ("R", "x <- 1"))
    )
    turns = TurnCells(shim=Shim())
    turn = EjectedTurn(session="s", number=1, picture=TurnPicture(request="go", steps=steps), exact=True)
    cells = list(turns.of(turn))
    assert [(one.cell_type, one.source) for one in cells] == [
        ("markdown", "> go"),
        ("code", "%%bash\nls"),
        ("markdown", "```R\nx <- 1\n```\n\n*The turn had not ended.*"),
    ]
    assert list(turns.notes) == [
        "cells in bash know nothing of earlier ones: `%%bash` runs each by itself",
        "step 2 of turn 1 is in R, which this notebook's kernel does not run; it is shown only",
    ]


async def test_an_error_keeps_its_place(tmp_path: Path) -> None:
    failed = ScriptedCell(outputs=(stdout("before\n"), ErrorOutput(ename="KeyError", evalue="'x'", traceback=("t",))))
    replies = {1: [cell("d['x']"), "No."]}
    kernel = ScriptedKernel({"d['x']": failed})
    block = await answered(tmp_path / "state", replies, requests=["go"], kernel=kernel)
    path = write(tmp_path / "n.ipynb", asked("go", *block["turns"]), metadata={"lash_nb": block})
    _, notebook = eject(path, tmp_path / "state")
    (made,) = [one for one in notebook.cells if one.cell_type == "code"]
    assert (texts(made), made.metadata) == (["before\n", "KeyError"], {"tags": ["raises-exception"]})


# ------------------------------------------------------------------------------------------------------------- damage


async def test_what_is_damaged_is_left_out_and_said(tmp_path: Path) -> None:
    replies = {1: [cell("a = 1"), "One."], 2: [cell("b = 2"), "Two."]}
    block = await answered(tmp_path / "state", replies, requests=["first", "second"])
    one, two = block["turns"]
    cells = [asked("first", one), asked("second", two)]
    broken = {**two, "checkpoint": [line.replace("b = 2", "b = 9") for line in two["checkpoint"]]}
    path = write(tmp_path / "n.ipynb", *cells, metadata={"lash_nb": {**block, "turns": [one, broken]}})
    whole, notebook = eject(path, tmp_path / "state")
    assert whole.left_out == (), "the journal has it"
    assert "b = 2" in sources(notebook)
    made, notebook = eject(path, tmp_path / "none")
    assert [source for source in sources(notebook) if source in ("a = 1", "b = 2", "b = 9")] == ["a = 1"]
    assert any(sentence.startswith("cell 2 shows turn 2 of session one") for sentence in made.left_out)
    assert any("metadata.lash_nb.turns[1]" in sentence for sentence in made.left_out)
    said = "*The turn could not be read. What the notebook showed of it:*"
    assert sources(notebook)[-1] == f"> second\n\n{said}\n\n```\nthe turn\n```"
    assert made.left_out[0].replace("*", "") in sources(notebook)[0]


async def test_folded_turns_are_in_the_conversation_of_a_later_one(tmp_path: Path) -> None:
    from lash_nb.stores.notebook import folded

    failing = ErrorOutput(ename="E", evalue="", traceback=())
    script = {"c": ScriptedCell(finish=FinishValue(value=[1])), "bad": ScriptedCell(outputs=(failing,))}
    kernel = ScriptedKernel(lambda code: script.get(code, ScriptedCell(outputs=(stdout(f"ran {code}\n"),))))
    replies = {1: [cell("bad"), cell("a", "Words."), "One."], 2: [cell("c")], 3: [cell("b"), "Three."]}
    block = await answered(tmp_path / "state", replies, requests=["first", "second", "third"], kernel=kernel)
    small = folded(block, most_bytes=1)
    assert ["ref" in turn for turn in small["turns"]] == [True, True, False]
    cells = [asked(text, turn) for text, turn in zip(("first", "second", "third"), block["turns"], strict=True)]
    path = write(tmp_path / "n.ipynb", *cells, metadata={"lash_nb": small})
    made, notebook = eject(path, tmp_path / "none")
    assert made.left_out == ()
    code = [(one.source, texts(one)) for one in notebook.cells if one.cell_type == "code"]
    assert code == [
        ("bad", ["error: your program raised E. Fix the cause; what ran before the failing line stands.\nE\n"]),
        ("a", ["ran a\n"]),
        ("c", []),
        ("b", ["ran b\n"]),
    ]
    words = [one.source for one in notebook.cells if one.cell_type == "markdown"]
    assert words[1:] == [
        "> first",
        "Words.",
        "One.",
        "> second",
        "The value:\n\n```\n[\n  1\n]\n```",
        "> third",
        "Three.",
    ]


def test_no_notebook(tmp_path: Path) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text("{}")
    with pytest.raises(NotebookError, match="is not a notebook"):
        ejected(ClosedNotebook(path))


# -------------------------------------------------------------------------------------------------------------- command


async def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block = await answered(tmp_path / "n.lash", {1: [cell("a = 1"), "One."]}, requests=["first"])
    path = write(tmp_path / "n.ipynb", asked("first", *block["turns"]), "a = 2")
    before, out = path.read_bytes(), tmp_path / "n.plain.ipynb"
    assert command("eject", path) == 0
    printed, told = capsys.readouterr()
    assert printed == f"{out}: 1 turn as plain cells\n"
    assert told == "lash-nb: `a` is one variable here, the agent's and yours; in the notebook the agent has its own\n"
    first = out.read_bytes()
    out.write_bytes(b"mine")
    assert command("eject", path) == 2
    assert out.read_bytes() == b"mine"
    assert "is there already, and is not overwritten (`--force` does that)" in capsys.readouterr().err
    assert command("eject", path, "--force") == 0
    assert out.read_bytes() == first
    assert command("eject", path, path, "--force") == 2
    assert path.read_bytes() == before
    shutil.rmtree(tmp_path / "n.lash")
    assert command("eject", path, tmp_path / "other.ipynb") == 1, "something was left out"
    assert "cell 1 shows turn 1 of session one" in capsys.readouterr().err


async def test_an_old_notebook_without_ids(tmp_path: Path) -> None:
    block = await answered(tmp_path / "state", {1: [cell("a = 1"), "One."]}, requests=["first"])
    path = write(tmp_path / "n.ipynb", asked("first", *block["turns"]), "x = 1")
    old = json.loads(path.read_text())
    for one in old["cells"]:
        del one["id"]
    path.write_text(json.dumps({**old, "nbformat_minor": 2}))
    _, notebook = eject(path, tmp_path / "state")
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert [one.id for one in notebook.cells] == ["ejected", "turn-1-1-1", "turn-1-1-2", "turn-1-1-3", "cell-1"]


async def test_a_copied_cell_is_answered_once(tmp_path: Path) -> None:
    block = await answered(tmp_path / "state", {1: [cell("a = 1"), "One."]}, requests=["first"])
    cells = [asked("first", *block["turns"]), asked("first", *block["turns"])]
    _, notebook = eject(write(tmp_path / "n.ipynb", *cells), tmp_path / "state")
    assert sources(notebook)[1:] == ["> first", "a = 1", "One.", "> first\n\n*Answered above.*"]


async def test_what_came_after_all_that_is_shown_is_not_taken(tmp_path: Path) -> None:
    replies = {1: [cell("a = 1"), "One."], 2: [cell("a = 2"), "Two."]}
    block = await answered(tmp_path / "state", replies, requests=["first", "second"])
    path = write(tmp_path / "n.ipynb", asked("first", block["turns"][0]))
    made, notebook = eject(path, tmp_path / "state")
    assert [one.source for one in notebook.cells if one.cell_type == "code"] == ["a = 1"]
    assert made.notes == ("turn 2 of session one is shown by no cell any more: it was not taken",)


async def test_the_last_value_is_the_turns_also_when_the_agent_took_its_name(tmp_path: Path) -> None:
    block = await answered(tmp_path / "state", {1: [cell("for _ in range(3): pass"), "One."]}, requests=["first"])
    path = write(tmp_path / "n.ipynb", asked("first", *block["turns"]), "print(_.text)")
    made, notebook = eject(path, tmp_path / "state")
    assert any(one.startswith("# the Turn, for the cells below\n_ = Turn(text='One.'") for one in sources(notebook))
    assert made.notes == ("`_` is one variable here, the agent's and yours; in the notebook the agent has its own",)


# -------------------------------------------------------------------------------------------------------------- sources

WHY = "(lash_nb is not here)"
CELLS = [
    # A cell, what it asks, and what is left of it.
    ("%%lash -t int\n\nHow many?\n", ("How many?",), ""),
    ("# a word\n%%time\n%%lash\nA\nB", ("A\nB",), ""),
    ("%load_ext lash_nb\n%config Lash.max_steps = 3\n# that is all", (), ""),
    ("%reload_ext lash_nb\nx = 1", (), f"# %reload_ext lash_nb {WHY}\nx = 1"),
    ("if x:\n    %lash new\ny = 2", (), f"if x:\n    pass  # %lash new {WHY}\ny = 2"),
    ("t = %lash ask Why?  \nprint(t)", ("Why?",), f"# t = %lash ask Why? {WHY}\nprint(t)"),
    ("u = %lash usage\nu", (), f"u = None  # u = %lash usage {WHY}\nu"),
    ('s = """\n%lash new\n"""', (), 's = """\n%lash new\n"""'),
    ("%lashing = 3", (), "%lashing = 3"),
    ("%%bash\n%lash new", (), "%%bash\n%lash new"),
    ("%%time\n%lash new\nx", (), f"%%time\n# %lash new {WHY}\nx"),
]


@pytest.mark.parametrize(("source", "requests", "rest"), CELLS)
def test_the_users_cells(source: str, requests: tuple[str, ...], rest: str) -> None:
    found = read_cell(source)
    assert (found.requests, found.rest) == (requests, rest)


def test_names() -> None:
    names = names_of(
        "import a.b as c\ndef f(x):\n    global g\n    g = x + h\n    return [y for y in z]\n!ls\nk = await m.n"
    )
    assert names.assigned == {"c", "f", "g", "k"}
    assert names.used >= {"h", "z", "m"}
    assert not names.used & {"x", "y"}
    assert names.attributes >= {"n"}
    assert names.imported == {("c", "a.b")}
    assert names_of("def (:") == Names()


def test_fields_that_nobody_knows_do_not_make_it_invalid(tmp_path: Path) -> None:
    path = write(tmp_path / "n.ipynb", "x = 1", asked("?", {"session": "s", "turn": 1, "sha256": ""}))
    odd = json.loads(path.read_text())
    odd["cells"][0] |= {"extra": 1, "outputs": [{"output_type": "stream", "name": "stdout", "text": "1", "more": 2}]}
    path.write_text(json.dumps(odd))
    made, notebook = eject(path)
    assert notebook.cells[1].outputs == [{"output_type": "stream", "name": "stdout", "text": "1"}]
    assert [sentence.partition(",")[0] for sentence in made.left_out] == ["cell 2 shows turn 1 of session s"]
