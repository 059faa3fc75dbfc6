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
clicked = []
def on_insert(turn, session, done, *, spot):
    if session != "ours":
        return False
    clicked.append((turn, spot.cell, spot.client))
    return copying.insert_cells(["a = 1", "a"], done, spot=spot)
copying = Copying(attended=True, on_pull=on_pull, on_insert=on_insert)
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
    assert "active" not in asked
    kernel.say(page, {"id": asked["id"], "ok": False, "error": "no"})
    assert ran(kernel, "print(said)") == "['It is the cell below.']\n"


def test_several_cells_go_below_the_cell_that_runs_and_become_active(kernel: NotebookKernel) -> None:
    """Also where a turn began last in another notebook."""
    page, other = opened(kernel), Page(name="page 2", path="b.ipynb")
    kernel.opened(other)
    ran(kernel, "copying.begin()")
    asks = "print(copying.insert_cells(['a = 1', 'a'], said.append))"
    assert kernel.run(asks, client=other.client).text == "True\n"
    assert ran(kernel, "print(said)") == "['They are the 2 cells below.']\n"
    assert (page.of("insert")[0]["clients"], other.of("insert")[0]["clients"]) == ([other.client],) * 2
    assert other.of("insert")[0]["active"] is True
    cells = [{"cell_type": "code", "source": source} for source in ("a = 1", "a")]
    assert other.of("insert")[0]["cells"] == cells
    ran(kernel, "print(copying.insert_cells(['a'], said.append, cell_id='c7'))")
    assert [data["after"] for data in page.of("insert")] == [None, "c7"]


def test_a_click_on_insert_is_answered_on_its_page_below_its_cell(kernel: NotebookKernel) -> None:
    opened(kernel)
    other = Page(name="page 2", path="b.ipynb")
    kernel.opened(other)
    ran(kernel, "copying.begin()")
    kernel.say(other, {"op": "insert", "id": "8", "turn": 3, "session": "ours", "cell": "c2"})
    assert ran(kernel, "print(clicked)") == f"[(3, 'c2', '{other.client}')]\n"
    [asked] = other.of("insert")
    assert (asked["after"], asked["active"], asked["clients"]) == ("c2", True, [other.client])
    assert other.of("inserted") == [
        {"op": "inserted", "id": "8", "ok": True},
        {"op": "inserted", "id": "8", "ok": True, "text": "They are the 2 cells below."},
    ]


@pytest.mark.parametrize(
    "wish",
    [
        {"turn": 3, "session": "another"},
        {"turn": True, "session": "ours"},
        {"turn": "3", "session": "ours"},
        {"turn": 3},
        {"turn": 3, "session": ["ours"]},
    ],
)
def test_what_this_kernel_cannot_make_cells_of_is_declined(kernel: NotebookKernel, wish: dict[str, object]) -> None:
    page = opened(kernel)
    kernel.say(page, {"op": "insert", "id": "8", "cell": "c2", **wish})
    assert ran(kernel, "print(clicked)") == "[]\n"
    assert page.of("insert") == []
    text = "Nothing was inserted: this kernel does not have that turn."
    assert page.of("inserted") == [{"op": "inserted", "id": "8", "ok": False, "text": text}]


def test_odd_messages_are_passed_over(kernel: NotebookKernel) -> None:
    page = opened(kernel)
    odd: tuple[dict[str, object], ...] = ({"op": ["insert"]}, {"op": {}}, {"op": None, "id": True}, {})
    for message in odd:
        kernel.say(page, message)
    assert ran(kernel, "print(clicked, pulled, said)") == "[] [] []\n"


def test_a_cell_is_replaced_while_it_is_what_it_was(kernel: NotebookKernel) -> None:
    page = opened(kernel)
    replace = "copying.begin()\nprint(copying.replace('1 + 1', said.append, cell_id='c1', was='1 +'))"
    assert ran(kernel, replace) == "True\n"
    [asked] = page.of("replace")
    assert (asked["cell"], asked["source"], asked["was"]) == ("c1", "1 + 1", "1 +")
    assert ran(kernel, "print(said)") == "['The cell has its new source.']\n"
    page.there = False
    ran(kernel, replace)
    again = page.of("replace")[-1]
    page.there = True
    kernel.say(page, {"id": again["id"], "ok": False, "error": "the cell was changed since, and is left as it is"})
    told = "Nothing was replaced: the cell was changed since, and is left as it is."
    assert ran(kernel, "print(said[-1])") == f"{told}\n"


def test_where_nobody_holds_the_notebook_nothing_is_inserted(kernel: NotebookKernel) -> None:
    assert kernel.run(LOAD).error == ""
    assert ran(kernel, "copying.begin()\nprint(copying.insert('1', said.append), said)") == "False []\n"
    assert ran(kernel, "print(copying.insert_cells(['1'], said.append), said)") == "False []\n"
    assert ran(kernel, "print(copying.replace('1', said.append, cell_id='c', was=''), said)") == "False []\n"
    unattended = "alone = Copying(attended=False)\nalone.load()\nprint(alone.insert_cells(['1'], said.append), said)"
    assert ran(kernel, unattended) == "False []\n"
