"""`%lash resume` of what an open notebook carries: on another machine, after a rename, in a copy."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lash_nb.stores.notebook import read_block, verify_chain
from tests.notebook_kernel import NotebookKernel, Page, notebook_kernel

LOAD = "%load_ext lash_nb\n%lash model scripted:model.json"
ASK = "%%lash\n{}"
CELL = "I look.\n<lash-cell>\n{code}\n</lash-cell>"
TURNS = {
    "1": [CELL.format(code="kept = 6 * 7"), "It is 42."],
    "2": [CELL.format(code="open('began', 'a').close()\nimport time\ntime.sleep(600)"), "The second."],
    "3": ["The third."],
}


@contextmanager
def machine(place: Path, name: str, *, file: str = "notebook.ipynb") -> Iterator[NotebookKernel]:
    """A kernel of the notebook `file` in `place`, with the state directory of that machine."""
    (place / "model.json").write_text(json.dumps({"turns": TURNS}))
    env = {"LASH_NB_STATE_DIR": str(place / name), "JPY_SESSION_NAME": str(place / file)}
    with notebook_kernel(place, **env) as kernel:
        yield kernel


def saved(page: Page, path: Path, **more: Any) -> None:
    """The page's notebook, on the disk."""
    formats: Any = nbformat
    cells = [formats.v4.new_code_cell(LOAD), formats.v4.new_code_cell(ASK.format("one"))]
    metadata = {**more, **({"lash_nb": page.value} if page.value is not None else {})}
    path.write_text(formats.v4.writes(formats.v4.new_notebook(cells=cells, metadata=metadata)))


def turns(value: Any) -> list[int]:
    block = read_block({"lash_nb": value})
    assert block is not None
    verify_chain(block)
    return [envelope["turn"] for envelope in block.turns]


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """A notebook with one turn, had on the machine `here`."""
    page = Page()
    with machine(tmp_path, "here") as kernel:
        kernel.opened(page)
        kernel.run(LOAD)
        assert kernel.run(ASK.format("one")).error == ""
    assert turns(page.value) == [1]
    return page


def test_on_another_machine_the_notebook_is_enough(page: Page, tmp_path: Path) -> None:
    saved(page, tmp_path / "notebook.ipynb")
    session = page.value["session"]
    with machine(tmp_path, "there") as kernel:
        kernel.opened(page)
        told = kernel.run(LOAD).text
        assert f"this notebook carries session {session[:8]}: 1 turn (`%lash resume` goes on with it)" in told
        told = kernel.run("%lash resume").text
        assert f"session 1 ({session[:8]}): 1 turn; its kernel is gone, and with it: kept" in told
        assert "1. one" in kernel.run("%lash history").text
        cell = kernel.start(ASK.format("two"))
        kernel.until(cell, (tmp_path / "began").exists)
        kernel.until(cell, lambda: "began" in json.dumps((page.value["head"] or {}).get("checkpoint")))
        assert (page.value["session"], page.value["head"]["turn"]) == (session, 2)
        kernel.interrupt()
        kernel.finish(cell)
    assert turns(page.value) == [1, 2]


def test_what_was_interrupted_elsewhere_is_shown_in_full_and_waits_for_a_yes(page: Page, tmp_path: Path) -> None:
    with machine(tmp_path, "here") as kernel:
        kernel.opened(page)
        kernel.run(LOAD)
        kernel.run("%lash resume")
        cell = kernel.start(ASK.format("two"))
        kernel.until(cell, lambda: "time.sleep(600)" in json.dumps((page.value["head"] or {}).get("checkpoint")))
        page.there = False  # nothing of what follows is saved
        kernel.interrupt()
        kernel.finish(cell)
    page.there = True
    assert page.value["head"]["turn"] == 2
    with machine(tmp_path, "there") as kernel:
        kernel.opened(page)
        kernel.run(LOAD)
        told = kernel.run("%lash resume --no").text
        assert "Turn 2 was interrupted. It was asked:\n\n    two" in told
        assert "its kernel is gone" in told
        assert "    open('began', 'a').close()\n    import time\n    time.sleep(600)" in told
        assert "nothing was run" in told
        assert page.of("status")[-1]["interrupted"] == 2
        resumed = kernel.run("turn = %lash resume --yes")
        assert resumed.error == ""
        assert kernel.run("print(turn.text)").text == "The second.\n"
    assert turns(page.value) == [1, 2]


def test_a_renamed_notebook_goes_on_with_its_session(page: Page, tmp_path: Path) -> None:
    saved(page, tmp_path / "renamed.ipynb")
    session = page.value["session"]
    with machine(tmp_path, "here", file="renamed.ipynb") as kernel:
        kernel.opened(page)
        assert session[:8] in kernel.run(LOAD).text
        told = kernel.run("%lash resume").text
        assert f"session 1 ({session[:8]}): 1 turn" in told
        assert "note:" not in told


def test_a_copy_of_a_notebook_goes_its_own_way(page: Page, tmp_path: Path) -> None:
    saved(page, tmp_path / "notebook.ipynb")
    saved(page, tmp_path / "copy.ipynb")
    session = page.value["session"]
    copy = Page(name="page of the copy", path="copy.ipynb", value=page.value)
    with machine(tmp_path, "here", file="copy.ipynb") as kernel:
        kernel.opened(copy)
        kernel.run(LOAD)
        told = kernel.run("%lash resume").text
        assert (
            f"note: this notebook is a copy of {tmp_path / 'notebook.ipynb'}, which has session {session[:8]}" in told
        )
        cell = kernel.start(ASK.format("two"))
        kernel.until(cell, lambda: (copy.value["head"] or {}).get("turn") == 2)
        kernel.interrupt()
        kernel.finish(cell)
    assert copy.value["session"] != session
    assert copy.value["forked_from"]["session"] == session
    assert turns(copy.value) == [1, 2]
    with machine(tmp_path, "here") as kernel:
        kernel.opened(page)
        assert "earlier session of this notebook: 1 turn" in kernel.run(LOAD).text
        assert f"({session[:8]}): 1 turn" in kernel.run("%lash resume").text
