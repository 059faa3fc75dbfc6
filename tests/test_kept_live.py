"""Cells whose code is kept, in a notebook that somebody sits at: run again, and code that came with the notebook."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lash_nb.run_settings import RUN_OPTIONS
from lash_nb.stores.kept import KeptCode

from .conversations import cell
from .line_notebooks import write
from .notebook_kernel import NotebookKernel, Page, notebook_kernel

ASKING = "%%lash --keep\nSum?"
THEIRS = KeptCode(
    request="Sum?", cells=("open('made', 'a').close()\ntotal = 7\nfinish(total)",), at="2026-02-03T04:05:06"
)
CARRIED = {"kept": [THEIRS.to_json()]}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "s.json").write_text(json.dumps([cell("total = 6\ntotal"), "It is 6."]))
    (tmp_path / "none.json").write_text("[]")
    return tmp_path


@pytest.fixture
def notebook(directory: Path) -> Iterator[NotebookKernel]:
    """A kernel whose user has kept nothing so far, and no model."""
    with notebook_kernel(directory, LASH_NB_STATE_DIR=str(directory / "state")) as kernel:
        kernel.run("%load_ext lash_nb\n%config Lash.approve = 'all'")
        yield kernel


def carried(page: Page) -> list[Any]:
    return [one["cells"] for one in (page.value or {}).get("kept", ())]


def test_a_cell_that_is_run_again_asks_nobody(notebook: NotebookKernel) -> None:
    notebook.opened(page := Page())
    notebook.model("s")
    first = notebook.run(ASKING)
    assert "It is 6." in first.bundle_text
    assert "kept: 1 cell" in first.bundle_text
    notebook.model("none")
    again = notebook.run(ASKING)
    assert (again.error, again.text) == ("", "")
    assert "It is 6." in again.bundle_text
    assert "kept code" in again.bundle_text
    assert notebook.run("print(_.value, _.model, _.usage.input_tokens)").text == "None kept code 0\n"
    assert carried(page) == [[["total = 6\n", "total"]]]
    # Another request is another one, and one that is asked anew is not kept code.
    for other in ("%%lash --keep\nSum!", "%%lash --keep --refresh\nSum?", "%%lash\nSum?"):
        assert "the script has 0 replies" in notebook.run(other).error


def test_it_runs_again_in_a_new_session(notebook: NotebookKernel) -> None:
    notebook.model("s")
    notebook.run("%%lash --keep -o total\nSum?")
    notebook.model("none")
    again = notebook.run("%%lash --keep --new -o total\nSum?")
    assert not again.error
    assert "It is 6." in again.bundle_text
    assert notebook.run("print(total)").text == "6\n"
    assert "session: 2 " in notebook.run("%lash").text


def test_code_that_came_along_is_shown_and_runs_when_that_is_agreed_to(
    notebook: NotebookKernel, directory: Path
) -> None:
    notebook.opened(Page(value=CARRIED))
    asked = notebook.start(ASKING)
    question = notebook.question()
    assert question["prompt"].startswith("Run it")
    assert not (directory / "made").exists()
    notebook.answer("yes")
    notebook.finish(asked)
    assert asked.error == ""
    assert "kept on 2026-02-03" in asked.text
    assert THEIRS.cells[0] in asked.text
    assert (directory / "made").exists()
    # From now on it is this user's.
    (directory / "made").unlink()
    again = notebook.run(ASKING)
    assert (again.error, again.text) == ("", "")
    assert (directory / "made").exists()


@pytest.mark.parametrize("answer", ["no", "yes please"])
def test_code_that_came_along_does_not_run_when_it_is_not(
    answer: str, notebook: NotebookKernel, directory: Path
) -> None:
    """Anything but a yes is none; then a model is asked, and what it does is kept instead."""
    notebook.opened(page := Page(value=CARRIED))
    asked = notebook.ask("s", ASKING)
    notebook.question()
    notebook.answer(answer)
    notebook.finish(asked)
    assert "It is 6." in asked.bundle_text
    assert not (directory / "made").exists()
    assert carried(page) == [[["total = 6\n", "total"]]]
    assert notebook.run(ASKING).error == ""  # nobody is asked any more
    assert not (directory / "made").exists()


def test_it_does_not_run_when_the_question_is_interrupted(notebook: NotebookKernel, directory: Path) -> None:
    notebook.opened(Page(value=CARRIED))
    asked = notebook.ask("s", ASKING)
    notebook.question()
    notebook.interrupt()
    notebook.finish(asked)
    assert asked.error.startswith("KeyboardInterrupt")
    assert not (directory / "made").exists()


def test_where_nobody_can_be_asked_it_does_not_run(notebook: NotebookKernel, directory: Path) -> None:
    notebook.opened(Page(value=CARRIED))
    asked = notebook.finish(notebook.start(ASKING, allow_stdin=False))
    assert "it is not run (nobody can be asked whether it may run)" in asked.text
    assert "agree to the code" in asked.error
    assert not (directory / "made").exists()


def test_code_in_the_file_is_found_before_who_holds_the_notebook_has_spoken(directory: Path) -> None:
    """What a runner says comes over a line of its own, and may come after the second cell."""
    path = write(directory, ASKING, name="n.ipynb", lash_nb=CARRIED)
    told = {"headless": True, "notebook": str(path), "kept": "frozen", "trust_kept": True, "approve": "all"}
    env = {"LASH_NB_STATE_DIR": str(directory / "state"), RUN_OPTIONS: json.dumps(told)}
    with notebook_kernel(directory, **env) as kernel:
        kernel.run("%load_ext lash_nb")
        asked = kernel.run(ASKING)
    assert asked.error == ""
    assert (directory / "made").exists()
