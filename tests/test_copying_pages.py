"""What pages are told of cells that show turns, and what their buttons ask for: a real kernel, pages by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.notebook_kernel import NotebookKernel, Page, notebook_kernel

LOAD = """%load_ext lash_nb
from lash_nb.copying import Copying
sessions = get_ipython().magics_manager.registry["Lash"].sessions
sessions.copying.close()
said, pulled = [], []
def on_pull(name, done):
    pulled.append(name)
    done(f"{name} is here.")
copying = Copying(attended=True, on_pull=on_pull)
copying.load()"""
SHOWN = "copying.begin()\ncopying.turn_shown('c1', {'text/plain': 'it runs', WIDGET: {'model_id': 'm1'}})"
LEFT = "copying.turn_left('c1', [{'output_type': 'display_data', 'data': {'text/plain': 'end'}, 'metadata': {}}])"
WIDGET = "application/vnd.jupyter.widget-view+json"
LIVE = {"text/plain": "it runs", WIDGET: {"model_id": "m1"}}
OUTPUTS = [{"output_type": "display_data", "data": {"text/plain": "end"}, "metadata": {}}]


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[NotebookKernel]:
    env = {"LASH_NB_STATE_DIR": str(tmp_path / "state"), "JPY_SESSION_NAME": str(tmp_path / "notebook.ipynb")}
    with notebook_kernel(tmp_path, **env) as kernel:
        yield kernel


def opened(kernel: NotebookKernel) -> Page:
    page = Page()
    kernel.opened(page)
    assert kernel.run(f"{LOAD}\nWIDGET = {WIDGET!r}").error == ""
    return page


def ran(kernel: NotebookKernel, code: str) -> str:
    cell = kernel.run(code)
    assert cell.error == ""
    kernel.run("pass")  # what was answered meanwhile has come
    return cell.text


def test_the_page_that_sent_the_cell_is_told_nothing_twice(kernel: NotebookKernel) -> None:
    page = opened(kernel)
    ran(kernel, SHOWN)
    ran(kernel, LEFT)
    places = page.of("place")
    assert [(data["cell"], data["view"]) for data in places] == [("c1", "m1")] * 2
    assert not any("live" in data or "outputs" in data for data in places)
    # It has said that it has it: nobody who comes later is told.
    later = Page(name="page 2")
    kernel.opened(later)
    ran(kernel, "pass")
    assert later.of("place") == []


def test_a_page_that_takes_its_place_is_told_of_the_view_and_then_of_the_end(kernel: NotebookKernel) -> None:
    page = opened(kernel)
    ran(kernel, SHOWN)
    kernel.pages.remove(page)
    again = Page(name="page 2")
    kernel.opened(again)
    ran(kernel, "pass")
    assert [(data["live"], data["from"]) for data in again.of("place")] == [(LIVE, page.client)]
    ran(kernel, LEFT)
    [_, end] = again.of("place")
    assert (end["outputs"], end["cell"], end["view"], end["from"]) == (OUTPUTS, "c1", "m1", page.client)
    assert "live" not in end


def test_a_page_that_comes_after_the_end_is_told_once(kernel: NotebookKernel) -> None:
    page = opened(kernel)
    ran(kernel, SHOWN)
    page.there = False
    ran(kernel, LEFT)
    again = Page(name="page 2")
    kernel.pages.clear()
    kernel.opened(again)
    ran(kernel, "pass")
    assert [data["outputs"] for data in again.of("place")] == [OUTPUTS]
    kernel.say(again, again.here())
    ran(kernel, "pass")
    assert len(again.of("place")) == 1


def test_another_notebook_is_told_nothing(kernel: NotebookKernel) -> None:
    opened(kernel)
    other = Page(name="page 2", path="b.ipynb")
    kernel.opened(other)
    ran(kernel, SHOWN)
    ran(kernel, LEFT)
    assert not any("live" in data or "outputs" in data for data in other.of("place"))


def test_a_click_on_pull_is_answered(kernel: NotebookKernel) -> None:
    page = opened(kernel)
    for name in ("losers", "a.b", "", "import", "x" * 257, 5, None, "__import__('os')"):
        kernel.say(page, {"op": "pull", "id": "7", "name": name})
    assert ran(kernel, "print(pulled)") == "['losers']\n"
    first, *others = page.of("pulled")
    assert (first["id"], first["ok"], first["text"]) == ("7", True, "losers is here.")
    assert [(data["ok"], data["text"]) for data in others] == [
        (False, "Nothing was pulled: that is not the name of a variable.")
    ] * 7


def test_code_is_inserted_below_a_cell(kernel: NotebookKernel) -> None:
    page = opened(kernel)
    insert = "copying.begin()\nprint(copying.insert('1 + 1', said.append, cell_id='c1'))"
    assert ran(kernel, insert) == "True\n"
    [asked] = page.of("insert")
    assert (asked["cells"], asked["after"]) == ([{"cell_type": "code", "source": "1 + 1"}], "c1")
    assert ran(kernel, "print(said)") == "['It is the cell below.']\n"
    kernel.say(page, {"id": asked["id"], "ok": False, "error": "no"})
    assert ran(kernel, "print(said)") == "['It is the cell below.']\n"


def test_where_nobody_holds_the_notebook_nothing_is_inserted(kernel: NotebookKernel) -> None:
    assert kernel.run(LOAD).error == ""
    assert ran(kernel, "copying.begin()\nprint(copying.insert('1', said.append), said)") == "False []\n"
