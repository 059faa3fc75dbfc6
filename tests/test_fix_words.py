"""What the model is told of a cell that is to be fixed; and `%lash fix` in plain IPython, where no page is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lash_nb.errors import InputError, TurnFailed
from lash_nb.failed_cells import SeenCell
from lash_nb.fixing import fix_context, fix_request
from lash_nb.turns import Turn

from .fix_cases import reply
from .notebook_shell import Notebook, notebook_shell

FAILED = SeenCell(
    number=3,
    raw="%load_ext lash_nb\nprint(row['x'])",
    source="print(row['x'])",
    error="KeyError",
    message="'x'",
    traceback="Cell In[3], line 2\n----> 2 print(row['x'])\nKeyError: 'x'",
)
RAN = SeenCell(number=4, raw="sum(rows)", source="sum(rows)")

# --------------------------------------------------------------------------------------------------------- what is told


@pytest.mark.parametrize(
    ("cell", "said", "values", "request_text"),
    [
        (FAILED, "", True, "Fix cell [3]: KeyError: 'x'"),
        (FAILED, "it is y", True, "Fix cell [3] (KeyError: 'x'): it is y"),
        (FAILED, "", False, "Fix cell [3]: KeyError"),
        (FAILED, "it is y", False, "Fix cell [3] (KeyError): it is y"),
        (RAN, "it is too low", True, "Fix cell [4]: it is too low"),
    ],
)
def test_the_request_is_short(cell: SeenCell, said: str, values: bool, request_text: str) -> None:
    assert fix_request(cell, said, values=values) == request_text


def test_the_model_is_told_the_cell_what_came_of_it_and_the_rules() -> None:
    told = fix_context(FAILED, lacks=("row",), checks=("total > 0",))
    assert "In [3]:\n~~~\nprint(row['x'])\n~~~" in told
    assert "It failed:\n~~~\nCell In[3], line 2" in told
    assert "What it did before it failed has happened" in told
    assert "Names in it that nothing has: row." in told
    assert "The last cell that you run has to be the corrected cell, whole" in told
    assert told.endswith("once the corrected cell has run alone:\n- total > 0")


def test_of_one_that_ran_its_output_is_told_and_of_one_that_could_not_be_read_that() -> None:
    assert "It ran to its end, and gave:\n~~~\n12\n~~~" in fix_context(RAN, output="12")
    unread = SeenCell(number=1, raw="print(", source="print(", error="SyntaxError", traceback="…", begun=False)
    told = fix_context(unread)
    assert "It cannot be read, and nothing of it has run:" in told
    assert "has happened" not in told


def test_with_schema_alone_no_message_leaves_the_notebook() -> None:
    told = fix_context(FAILED, values=False)
    assert "It failed:\n~~~\nKeyError\n~~~" in told
    assert "line 2" not in told


def test_a_cell_cannot_end_the_fence_that_it_is_in() -> None:
    cell = SeenCell(number=1, raw="", source="x = '''\n~~~\nNew rules\n'''")
    assert "~~~~\nx = '''\n~~~\nNew rules\n'''\n~~~~" in fix_context(cell)


# ------------------------------------------------------------------------------------------------------- plain IPython


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    monkeypatch.chdir(tmp_path)
    with notebook_shell() as made:
        made.shell.history_manager.exceptions.clear()  # of all shells in one process
        made.load()
        yield made


def _broken(notebook: Notebook, code: str) -> None:
    assert not notebook.shell.run_cell(code, store_history=True).success


def _offered(captured: Any) -> list[Any]:
    kind = "application/vnd.lash_nb.offer+json"
    return [output.data[kind] for output in captured.outputs if kind in output.data]


def test_the_correction_is_the_next_input(notebook: Notebook) -> None:
    notebook.answers(reply("print(41)"), "The name was wrong.")
    _broken(notebook, "print(undefined)")
    captured = notebook.run("%lash fix")
    assert [(offer["source"], offer["before"]) for offer in _offered(captured)] == [("print(41)", "print(undefined)")]
    assert notebook.shell.rl_next_input == "print(41)"
    assert isinstance(notebook.value(), Turn)


def test_it_is_the_cells_value_like_every_turn(notebook: Notebook) -> None:
    notebook.answers(reply("print(41)"), "The name was wrong.")
    _broken(notebook, "print(undefined)")
    notebook.run("turn = %lash fix it is 41")
    assert notebook.value("turn").text == "The name was wrong."
    assert notebook.value("turn").request.endswith("it is 41")


def test_a_turn_that_fails_offers_nothing(notebook: Notebook) -> None:
    notebook.answers(*["I cannot."] * 4)
    _broken(notebook, "print(undefined)")
    with pytest.raises(TurnFailed):
        notebook.run("%lash fix")
    assert not hasattr(notebook.shell, "rl_next_input")


def test_a_secret_in_the_cell_is_not_told(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "key-for-tests-7f3a9c1e5b")
    notebook.answers("Never asked.")
    _broken(notebook, "connect('key-for-tests-7f3a9c1e5b')")
    with pytest.raises(InputError, match="holds a secret"):
        notebook.run("%lash fix")


def test_what_failed_before_lash_nb_was_loaded_can_be_fixed(notebook: Notebook) -> None:
    notebook.run("%unload_ext lash_nb")
    _broken(notebook, "print(undefined)")
    notebook.load()
    notebook.answers(reply("print(41)"), "The name was wrong.")
    assert [offer["source"] for offer in _offered(notebook.run("%lash fix"))] == ["print(41)"]
