"""The words and options of `%lash` that are about variables, in IPython."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from lash_nb.errors import InputError
from lash_nb.machine.llm import TextBlock

from .notebook_shell import CELL, Notebook, notebook_shell


@pytest.fixture
def notebook(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    monkeypatch.chdir(tmp_path)
    with notebook_shell() as shell:
        yield shell


@pytest.fixture
def loaded(notebook: Notebook) -> Notebook:
    notebook.shell.history_manager.outputs.clear()
    notebook.load()
    notebook.run("word = 'abracadabra'\nnumbers = [1, 2]")
    return notebook


def asked(notebook: Notebook, request: int = -1) -> str:
    """All that the model was sent with a request."""
    model: Any = notebook.magics.sessions.open("scripted:s.json")
    messages = model.requests[request].messages
    return "\n".join(block.text for one in messages for block in one.blocks if isinstance(block, TextBlock))


def test_the_notebooks_variables_and_cells_are_told(loaded: Notebook) -> None:
    loaded.run("len(word)")
    loaded.answers("One.")
    loaded.run("%lash ask 1")
    told = asked(loaded)
    assert "word: str length 11 = 'abracadabra'" in told
    assert "numbers: list of 2 int = [1, 2]" in told
    assert "len(word)" in told, "the cell"
    assert "\n11\n" in told, "what it gave"
    assert "%lash model" not in told
    assert "%load_ext" not in told


def test_cells_are_told_once(loaded: Notebook) -> None:
    loaded.answers("One.", "Two.")
    loaded.run("%lash ask 1")
    loaded.run("newer = 3")
    loaded.run("%lash ask 2")
    told = asked(loaded)
    assert told.count("numbers = [1, 2]") == 1
    assert "newer = 3" in told
    assert "newer: int = 3" in told


def test_context_says_of_how_many_cells(loaded: Notebook) -> None:
    for number in range(4):
        loaded.run(f"marker_{number} = {number}")
    loaded.answers("One.", "Two.")
    loaded.run("%%lash --context 2\n1")
    told = asked(loaded).partition("Runtime status")[0]
    assert [number for number in range(4) if f"marker_{number} = {number}" in told] == [2, 3]
    loaded.run("later = 1")
    loaded.run("%%lash --context 0\n2")
    assert "later = 1" not in asked(loaded).partition("Runtime status")[0]
    with pytest.raises(InputError, match="--context -1"):
        loaded.run("%%lash --context -1\n3")


def test_without_sharing_neither_variables_nor_copies(loaded: Notebook) -> None:
    loaded.answers("One.")
    loaded.run("%%lash --no-share --context 0\n1")
    assert "abracadabra" not in asked(loaded)


def test_under_schema_no_value_is_told(loaded: Notebook) -> None:
    loaded.run("%config Lash.previews = 'schema'")
    loaded.run("numbers + [77]")
    loaded.answers("One.")
    loaded.run("%lash ask 1")
    told = asked(loaded)
    assert "word: str length 11" in told
    assert "[1, 2, 77]" not in told


def test_inputs_and_results_are_named(loaded: Notebook) -> None:
    loaded.answers(CELL, "Done.")
    loaded.run("%%lash -i word -o made\nMake `other`, not `word`.")
    turn: Any = loaded.value()
    assert (turn.results, turn.maybe) == (("made",), ("other",))
    told = asked(loaded, 0)
    assert "under just these names: made." in told
    assert "under just that name, and it is copied into the user's notebook: other." in told
    assert turn.picture.notes[0].text == "shared: word"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("-i nothing", "there is no variable 'nothing' in the notebook"),
        ("-i 1x", "-i: '1x' is not the name of a variable"),
        ("-o a-b", "-o: 'a-b' is not the name of a variable"),
    ],
)
def test_names_that_cannot_be_had_are_errors_before_anything_is_asked(loaded: Notebook, line: str, said: str) -> None:
    loaded.answers("never")
    with pytest.raises(InputError) as raised:
        loaded.run(f"%%lash {line}\n1")
    assert str(raised.value) == said
    assert loaded.magics.sessions.session().turns == []


def test_what_was_not_made_is_said(loaded: Notebook) -> None:
    loaded.answers("I did not.")
    printed = loaded.run("%%lash -o made\n1").stdout
    assert "made was not brought over" in printed
    assert "made" not in loaded.shell.user_ns


def test_push_gives_copies_now(loaded: Notebook) -> None:
    loaded.answers("One.")
    assert loaded.run("%lash push word numbers").stdout == "shared: numbers, word\n"
    kernel: Any = loaded.magics.sessions.session().kernel
    assert asyncio.run(kernel.value("numbers")) == [1, 2]
    with pytest.raises(InputError, match="which variable"):
        loaded.run("%lash push")
    with pytest.raises(InputError, match="no variable 'nothing'"):
        loaded.run("%lash push nothing")


def test_vars_lists_both_and_hides_what_is_to_be_hidden(loaded: Notebook) -> None:
    said = loaded.run("%lash vars").stdout
    assert said.startswith("yours (a copy goes over when the agent's code uses one):\n  numbers: list length 2")
    assert "\n  word: str length 11 = 'abracadabra'\n" in said
    assert loaded.run("%lash vars nothing").stdout.startswith(
        "yours (a copy goes over when the agent's code uses one): "
    )
    assert "hidden from the agent: wo*" in loaded.run("%lash vars --hide wo*").stdout
    assert "word" not in loaded.run("%lash vars").stdout
    loaded.answers("One.")
    loaded.run("%lash ask 1")
    assert "word:" not in asked(loaded)
    loaded.run("word + '!'")
    loaded.answers("Two.")
    loaded.run("%lash ask 2")
    assert "word + '!'" not in asked(loaded), "a cell that names it is not told, either"
    with pytest.raises(InputError, match="no variable 'word'"):
        loaded.run("%lash push word")


def test_what_was_hidden_can_be_shown_again(loaded: Notebook) -> None:
    assert loaded.run("%lash vars --hide wo* nu*").stdout.startswith("hidden from the agent: wo*, nu*;")
    assert loaded.run("%lash vars --show nu*").stdout.startswith("hidden from the agent: wo*;")
    assert loaded.run("%lash vars --hide").stdout.startswith("hidden from the agent: wo*;")
    assert loaded.run("%lash vars --show wo*").stdout.startswith("hidden from the agent: nothing;")


def test_secrets_are_not_printed(loaded: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-" + "Zx81" * 8
    monkeypatch.setenv("MY_API_KEY", secret)
    loaded.run(f"key = {secret!r}\nprint(key)")
    assert secret not in loaded.run("%lash vars").stdout
    loaded.answers("One.")
    loaded.run("%lash ask 1")
    assert secret not in asked(loaded)


def test_a_secret_at_the_cut_of_a_long_cell_is_gone_whole(loaded: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "correct-horse-battery"
    monkeypatch.setenv("DB_PASSWORD", secret)
    for before in range(2_000, 3_400, 7):  # somewhere there it is cut
        loaded.run(f"x = '{'-' * before}{secret}{'-' * 9_000}'")
        loaded.answers("One.")
        loaded.run("%lash ask 1")
        assert "correct-horse" not in asked(loaded).partition("Runtime status")[0]
        loaded.magics.sessions.told_cells = 0
        loaded.shell.history_manager.input_hist_raw[1:] = [""] * (len(loaded.shell.history_manager.input_hist_raw) - 1)
        if before > 2_050:
            break


def test_the_cell_right_after_a_turn_is_told(loaded: Notebook) -> None:
    loaded.answers("One.", "Two.")
    loaded.run("%%lash\n1")
    loaded.run("right_after = 1")
    loaded.run("%%lash\n2")
    assert "right_after = 1" in asked(loaded).partition("Runtime status")[0]


def test_columns_in_backticks_are_no_results(loaded: Notebook) -> None:
    loaded.run("import pandas as pd\ndf = pd.DataFrame({'price': [1.0], 'region': ['n']})")
    loaded.answers("3.")
    printed = loaded.run("%%lash\nMean of `price` by `region` with `groupby`").stdout
    turn: Any = loaded.value()
    assert turn.maybe == ("groupby",)
    assert "brought over" not in printed


@pytest.mark.parametrize("name", ["In", "_", "__name__"])
def test_ipythons_own_names_are_no_results(loaded: Notebook, name: str) -> None:
    loaded.answers("never")
    with pytest.raises(InputError, match="IPython's own"):
        loaded.run(f"%%lash -o {name}\n1")


def test_a_result_that_the_agent_did_not_touch_leaves_what_is_there(loaded: Notebook) -> None:
    loaded.answers("It is fine as it is.", CELL, "Looked.")
    assert "numbers stays as it is: the agent did not change it" in loaded.run("%%lash -o numbers\n1").stdout
    assert loaded.value("numbers") == [1, 2]


def test_what_was_pulled_and_edited_is_yours(loaded: Notebook) -> None:
    loaded.run("%lash push numbers")
    kernel: Any = loaded.magics.sessions.session().kernel
    loaded.run("del numbers")
    assert loaded.run("%lash pull numbers").stdout == "numbers: a copy of the agent's numbers\n"
    loaded.run("numbers.append(3)")
    said = loaded.run("%lash pull numbers").stdout
    assert said == "numbers_agent: a copy of the agent's numbers (numbers is yours and stays as it is)\n"
    assert (loaded.value("numbers"), loaded.value("numbers_agent")) == ([1, 2, 3], [1, 2])
    assert asyncio.run(kernel.value("numbers")) == [1, 2]
