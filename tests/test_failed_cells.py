"""Which cell `%lash fix` is about: as a shell tells of its cells, with errors of all kinds, and without ours."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from lash_nb.errors import InputError
from lash_nb.failed_cells import SeenCell, SeenCells

from .notebook_shell import Notebook, notebook_shell


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    monkeypatch.chdir(tmp_path)
    with notebook_shell() as notebook:
        for kept in (notebook.shell.history_manager.outputs, notebook.shell.history_manager.exceptions):
            kept.clear()  # of all shells in one process
        yield notebook


@pytest.fixture
def cells(notebook: Notebook) -> Iterator[SeenCells]:
    cells = SeenCells(notebook.shell)
    notebook.shell.events.register("post_run_cell", cells.after_cell)
    yield cells
    notebook.shell.events.unregister("post_run_cell", cells.after_cell)


def _run(notebook: Notebook, *codes: str) -> None:
    """Cells, whatever comes of them."""
    for code in codes:
        notebook.shell.run_cell(code, store_history=True)


def _failed(cells: SeenCells) -> SeenCell:
    assert cells.failed is not None
    return cells.failed


# ------------------------------------------------------------------------------------------------ what is remembered


def test_source_error_and_traceback_of_the_last_failed_cell(notebook: Notebook, cells: SeenCells) -> None:
    _run(notebook, "rows = {}", "n = 1\nrows['x']", "n = 2")
    cell = _failed(cells)
    assert (cell.number, cell.source, cell.begun) == (2, "n = 1\nrows['x']", True)
    assert (cell.error, cell.problem) == ("KeyError", "KeyError: 'x'")
    assert "----> 2 rows['x']" in cell.traceback
    assert cell.traceback.endswith("KeyError: 'x'")
    assert "\x1b" not in cell.traceback
    assert cells.last is not None
    assert (cells.last.number, cells.last.problem) == (3, "")


@pytest.mark.parametrize(
    ("code", "error", "begun"),
    [
        ("print(1", "SyntaxError", False),
        ("if True:\nprint(1)", "IndentationError", False),
        ("%nothing_like_it", "UsageError", True),
        ("%%nothing_like_it\nx", "UsageError", True),
        ("%%time\nundefined", "NameError", True),
        ("%%capture said\nundefined", "NameError", True),
        ("await undefined()", "NameError", True),
        ("class E(Exception):\n    pass\nraise ExceptionGroup('some', [E()])", "ExceptionGroup", True),
    ],
)
def test_all_kinds_of_errors(notebook: Notebook, cells: SeenCells, code: str, error: str, begun: bool) -> None:
    _run(notebook, code)
    cell = _failed(cells)
    assert (cell.source, cell.error, cell.begun) == (code, error, begun)
    assert cell.traceback


def test_no_exception_is_kept_alive(notebook: Notebook, cells: SeenCells) -> None:
    class Big:
        pass

    big = Big()
    notebook.shell.user_ns["given"] = [big]
    gone = weakref.ref(big)
    _run(notebook, "def f(x):\n    raise ValueError(len(given))\nf(given.pop())")
    assert _failed(cells).problem == "ValueError: 0"
    del big
    _run(notebook, "1 / 0", "x = 1")  # IPython itself keeps the last error
    notebook.shell.last_execution_result = None
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("base", ["Exception", "BaseException"])
def test_one_whose_error_cannot_be_shown_failed_too(notebook: Notebook, cells: SeenCells, base: str) -> None:
    _run(notebook, f"class E({base}):\n    def __str__(self):\n        return 1 / 0", "x = 1\nraise E()\n")
    cell = _failed(cells)
    assert (cell.number, cell.raw, cell.begun) == (2, "x = 1\nraise E()\n", True)
    assert cell.problem == "ZeroDivisionError: division by zero", "the last that is shown of it"
    assert cell.traceback.endswith("ZeroDivisionError: division by zero")
    _run(notebook, "x = 1\nraise E", "x")
    assert _failed(cells).number == 3
    _run(notebook, "x = 1\nraise E", "", "x")
    assert _failed(cells).number == 5


def test_where_ipython_tells_of_one_without_its_number_that_is_found(notebook: Notebook, cells: SeenCells) -> None:
    """As ipykernel does with an error that it cannot show."""
    _run(notebook, "x = 1", "y = 2\n")

    class Info:
        raw_cell, store_history, silent, cell_id = "y = 2\n", True, False, "abc"

    class Result:
        info, execution_count, error_before_exec, error_in_exec = Info, None, None, RuntimeError("no")

    cells.after_cell(Result)
    assert (_failed(cells).number, _failed(cells).problem, _failed(cells).cell_id) == (2, "RuntimeError: no", "abc")
    Info.raw_cell = "z = 3"  # none that the history has
    cells.after_cell(Result)
    assert _failed(cells).number == 2


def test_the_messages_are_bounded(notebook: Notebook, cells: SeenCells) -> None:
    _run(notebook, "raise ValueError('x' * 1_000_000)")
    assert len(_failed(cells).traceback) < 20_000
    assert len(_failed(cells).message) < 21_000


def test_the_id_of_the_page_is_known_where_it_was_told(notebook: Notebook, cells: SeenCells) -> None:
    notebook.shell.run_cell("1 / 0", store_history=True, cell_id="abc")
    assert _failed(cells).cell_id == "abc"
    _run(notebook, "[][0]")
    assert _failed(cells).cell_id is None


# ------------------------------------------------------------------------------------------------------ what is not


def test_a_cell_that_ran_well_since_is_no_failed_one(notebook: Notebook, cells: SeenCells) -> None:
    _run(notebook, "k + 1", "k = 1", "k + 1")
    assert cells.failed is None
    notebook.shell.run_cell("m + 1", store_history=True, cell_id="abc")
    _run(notebook, "m = 1")
    assert _failed(cells).source == "m + 1"
    notebook.shell.run_cell("1 + 1", store_history=True, cell_id="abc")
    assert cells.failed is None


def test_our_cells_are_none_of_the_notebooks(notebook: Notebook) -> None:
    notebook.load()
    cells = SeenCells(notebook.shell)
    notebook.shell.events.register("post_run_cell", cells.after_cell)
    _run(notebook, "x = 1", "%lash no_such_word", "%%lash\nWhat?", "# more\n%%lash\nWhat?", "t = %lash ask What?")
    notebook.shell.events.unregister("post_run_cell", cells.after_cell)
    assert cells.failed is None
    assert cells.last is not None
    assert cells.last.source == "x = 1"


def test_lines_of_ours_above_a_cell_stay_there(notebook: Notebook, cells: SeenCells) -> None:
    code = "# set up\n%load_ext lash_nb\n%config Lash.max_steps = 3\n# sums\nprint(undefined)"
    _run(notebook, code)
    cell = _failed(cells)
    assert cell.raw == code
    assert cell.source == "# sums\nprint(undefined)"
    assert cell.with_head("print(0)") == "# set up\n%load_ext lash_nb\n%config Lash.max_steps = 3\nprint(0)"
    _run(notebook, "print(undefined)\n%load_ext lash_nb")  # within a cell there is no place for them
    assert _failed(cells).number == 1


def test_what_has_no_place_in_the_history_is_no_cell(notebook: Notebook, cells: SeenCells) -> None:
    notebook.shell.run_cell("1 / 0", store_history=False)
    notebook.shell.run_cell("1 / 0", silent=True)
    assert (cells.failed, cells.last) == (None, None)
    _run(notebook, "x = 1")
    assert cells.failed is None


def test_an_interrupted_cell_did_not_fail(notebook: Notebook, cells: SeenCells) -> None:
    _run(notebook, "raise KeyboardInterrupt")
    assert cells.failed is None
    assert cells.last is not None


# ------------------------------------------------------------------------------------------- before lash_nb was there


def test_what_failed_before_is_known(notebook: Notebook) -> None:
    _run(notebook, "x = {}\nx['a']", "y = 1", "%load_ext lash_nb")
    cell = _failed(SeenCells(notebook.shell))
    assert (cell.number, cell.problem, cell.begun) == (1, "KeyError: 'a'", True)
    _run(notebook, "x = {'a': 1}", "x = {}\nx['a']", "print(")
    cells = SeenCells(notebook.shell)
    assert (_failed(cells).source, _failed(cells).begun) == ("print(", False)
    assert cells.last == cells.failed


def test_a_shell_without_a_history_is_none_to_look_back_in() -> None:
    class Bare:
        history_manager = None

    assert SeenCells(Bare()).failed is None


# --------------------------------------------------------------------------------------------------- which one is meant


def test_without_words_the_failed_one_is_meant_and_with_words_the_last(notebook: Notebook, cells: SeenCells) -> None:
    with pytest.raises(InputError, match="nothing to fix"):
        cells.to_fix("it is too low")
    _run(notebook, "prices = [1, 2]")
    with pytest.raises(InputError, match="`%lash fix TEXT`"):
        cells.to_fix("")
    assert cells.to_fix("it is too low").number == 1
    _run(notebook, "old = sum(pric)")
    assert cells.to_fix("").number == 2
    assert cells.to_fix("it is prices").number == 2
    _run(notebook, "half = sum(prices)")
    assert cells.to_fix("").number == 2
    assert cells.to_fix("it should be half of the sum").number == 3


@pytest.mark.parametrize(
    ("code", "meant"),
    [
        ("prices", 2),
        ("list(prices)\nprint(prices)", 2),
        ("# how many?\nlen(prices)", 2),
        ("%who", 2),
        ("prices?", 2),
        ("%time sum(prices)", 2),
        ("%%time\nsum(prices)", 2),
        ("half = sum(prices)", 3),
        ("prices[0] = 2", 3),
        ("prices += [3]", 3),
        ("print(half := 3)", 3),
        ("%time half = sum(prices)", 3),
        ("%%time\nhalf = sum(prices)", 3),
        ("def half():\n    pass", 3),
        ("for price in prices:\n    pass", 3),
        ("await wrong(prices)", 3),
        ("old = sum(prices)\nold", 3),
    ],
)
def test_with_words_a_cell_that_only_looks_is_not_meant_behind_a_failed_one(
    notebook: Notebook, cells: SeenCells, code: str, meant: int
) -> None:
    _run(notebook, "prices = [1, 2]", "old = sum(pric)", code)
    assert cells.to_fix("it is too low").number == meant


def test_without_a_failed_one_a_look_is_meant(notebook: Notebook, cells: SeenCells) -> None:
    _run(notebook, "n = 1", "m + 1", "m = 1", "m + 1", "n * 2")
    assert cells.to_fix("it should be 3").number == 5


def test_one_that_failed_long_ago_is_not_meant_with_words(notebook: Notebook, cells: SeenCells) -> None:
    _run(notebook, "total = summe(n)", *(f"y = {number}" for number in range(4)), "y")
    assert cells.to_fix("it is too low").number == 1
    _run(notebook, "y")
    assert cells.to_fix("it is too low").number == 7
    assert cells.to_fix("").number == 1


def test_with_words_one_that_was_written_anew_below_is_meant(notebook: Notebook, cells: SeenCells) -> None:
    _run(notebook, "rows = [1, 2]", "total = sum(row) / len(rows)", "total = sum(rows) / len(rows)", "total")
    assert cells.to_fix("it is too low").number == 4
    assert cells.to_fix("").number == 2


def test_a_cell_can_be_named_by_its_number(notebook: Notebook, cells: SeenCells) -> None:
    with pytest.raises(InputError, match="there is none yet"):
        cells.to_fix("it is wrong", number=1)
    _run(notebook, "x = 1", "x = undefined", "%lash", "x = 2", "x = 3", "%lash", "x = 4")
    assert cells.to_fix("it should be 5", number=4).source == "x = 2"
    assert cells.to_fix("it is 5", number=2).error == "NameError"
    assert cells.to_fix("", number=2).error == "NameError"
    with pytest.raises(InputError, match=r"cell \[4\] did not fail: .*`%lash fix \[4\] TEXT`"):
        cells.to_fix("", number=4)
    for number in (0, 3, 9):
        with pytest.raises(InputError, match=rf"^\[{number}\] is none of .* \[1\] to \[2\], \[4\] to \[5\], \[7\];"):
            cells.to_fix("it is wrong", number=number)


def test_the_last_fifty_can_be_named(notebook: Notebook) -> None:
    _run(notebook, *(f"x = {number}" for number in range(1, 31)))
    cells = SeenCells(notebook.shell)  # those were before lash_nb was there
    notebook.shell.events.register("post_run_cell", cells.after_cell)
    _run(notebook, *(f"x = {number}" for number in range(31, 53)))
    notebook.shell.events.unregister("post_run_cell", cells.after_cell)
    assert cells.to_fix("it is 5", number=3).source == "x = 3"
    with pytest.raises(InputError, match=r"there are \[3\] to \[52\];"):
        cells.to_fix("it is 5", number=2)
