"""`%lash insert` and a page's Insert: where the cells go, and what is said."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lash_nb.errors import InputError
from lash_nb.insert_words import _as_one, insert_soon, insert_word
from lash_nb.run_settings import RunSettings
from lash_nb.stores.clicks import Spot

from .conversations import cell
from .notebook_shell import Notebook, notebook_shell

SECOND = ("import json\nrows.append(json.loads('3'))", "finish(rows)")


class Page:
    """Stands for whoever puts cells into the notebook."""

    def __init__(self, *, takes: bool = True, says: str = "They are the cells below.") -> None:
        self.takes, self.says = takes, says
        self.given: list[tuple[Sequence[str], Spot | None]] = []

    def insert_cells(self, cells: Sequence[str], done: Callable[[str], None], *, spot: Spot | None = None) -> bool:
        self.given.append((tuple(cells), spot))
        if self.takes:
            done(self.says)
        return self.takes


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Notebook]:
    """A notebook with a variable and three turns, two of them with code."""
    with pytest.MonkeyPatch.context() as patch, notebook_shell() as notebook:
        patch.chdir(tmp_path_factory.mktemp("notebook"))
        notebook.load()
        notebook.magics.sessions.make_kernel = None  # a real one
        notebook.run("rows = [1, 2]")
        turns = [cell("print(rows)"), "One.", cell(SECOND[0]), cell(SECOND[1]), "Only words."]
        notebook.answers(*turns, cell("print(tools.nope())"), "No.")
        for number in range(1, 4):
            notebook.run(f"%lash ask {number}")
        yield notebook


@pytest.fixture
def page(asked: Notebook, monkeypatch: pytest.MonkeyPatch) -> Page:
    one = Page()
    monkeypatch.setattr(asked.magics.sessions.copying, "insert_cells", one.insert_cells)
    return one


def insert(notebook: Notebook, line: str = "") -> list[str]:
    """Insert; the next input that was set."""
    inputs: list[str] = []
    shell = SimpleNamespace(set_next_input=inputs.append)
    insert_word(line, notebook.magics.sessions, shell=shell)
    return inputs


def test_the_last_turn_with_code_is_inserted_below(
    asked: Notebook, page: Page, capsys: pytest.CaptureFixture[str]
) -> None:
    assert insert(asked) == []
    assert page.given == [(("import json", "rows.append(json.loads('3'))", "rows"), None)]
    said = capsys.readouterr().out
    assert said == "3 cells below: the code of turn 2; in a fresh kernel it ran from top to bottom.\n"
    assert asked.value("rows") == [1, 2], "the notebook's own is as it was"


def test_one_turn_by_its_number(asked: Notebook, page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    insert(asked, " 1 ")
    assert page.given == [(("print(rows)",), None)]
    assert capsys.readouterr().out == "1 cell below: the code of turn 1; in a fresh kernel it ran from top to bottom.\n"


def test_what_a_page_refuses_is_said(asked: Notebook, page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    page.says = "Nothing was inserted: the notebook is read-only."
    insert(asked, "1")
    assert capsys.readouterr().out.startswith("Nothing was inserted: the notebook is read-only.\n")


def test_where_nobody_can_it_is_the_next_input(asked: Notebook, page: Page, capsys: pytest.CaptureFixture[str]) -> None:
    page.takes = False
    assert insert(asked, "2") == ["import json\n\nrows.append(json.loads('3'))\n\nrows"]
    assert capsys.readouterr().out.startswith("The next cell has the code of turn 2; in a fresh kernel it ran")


def test_a_magic_of_a_whole_cell_stands_in_one_with_others() -> None:
    assert _as_one(["%%time\na = 1"]) == "%%time\na = 1"
    whole = "b = 2\n\nget_ipython().run_cell_magic('time', '', 'a = 1\\n')"
    assert _as_one(["b = 2", "%%time\na = 1"]) == whole


def test_unattended_it_is_printed(
    asked: Notebook, page: Page, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked.magics.sessions, "run", RunSettings())
    assert insert(asked, "1") == []
    said = "# the code of turn 1; in a fresh kernel it ran from top to bottom.\nprint(rows)\n"
    assert capsys.readouterr().out == said
    assert page.given == []


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("x", "takes the number of a turn"),
        ("1 2", "takes the number of a turn"),
        ("9", "no turn 9 in this session: it has turns 1 to 3"),
        ("3", "turn 3 ran no code"),
    ],
)
def test_what_cannot_be_inserted(asked: Notebook, page: Page, line: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        insert(asked, line)
    assert page.given == []


def test_what_does_not_run_is_not_inserted(asked: Notebook, page: Page) -> None:
    asked.run("kept = rows\ndel rows")
    try:
        with pytest.raises(InputError, match="NameError: name 'rows' is not defined; `%lash history 1` shows the code"):
            insert(asked, "1")
    finally:
        asked.run("rows = kept")
    assert page.given == []


def clicked(notebook: Notebook, turn: int, spot: Spot | None = None, session: str = "") -> str | None:
    """What was said of an insertion from a page; None: it is not this kernel's turn."""
    told: list[str] = []
    there = threading.Event()

    def done(said: str) -> None:
        told.append(said)
        there.set()

    sessions = notebook.magics.sessions
    assert sessions.current is not None
    if not insert_soon(turn, session or sessions.current.id, sessions, done, spot=spot):
        return None
    assert there.wait(60)
    return told[0]


def test_a_click_inserts_below_where_it_was(asked: Notebook, page: Page) -> None:
    spot = Spot(cell="c7")
    assert clicked(asked, 2, spot) == "They are the cells below."
    assert page.given == [(("import json", "rows.append(json.loads('3'))", "rows"), spot)]


def test_a_click_that_cannot_is_told_why(asked: Notebook, page: Page) -> None:
    assert clicked(asked, 7) is None
    assert clicked(asked, 1, session="another") is None
    assert clicked(asked, 3) == (
        "Nothing was inserted: turn 3 ran no Python code to its end; `%lash history 3` shows the code."
    )
    page.takes = False
    assert clicked(asked, 1) == "Nothing was inserted: nobody here can; `%lash insert 1` in a cell gives the code."


def test_without_a_turn_there_is_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sessions: Any = SimpleNamespace(current=None)
    with pytest.raises(InputError, match="there is no turn yet"):
        insert_word("", sessions, shell=None)
    assert not insert_soon(1, "s", sessions, print)
