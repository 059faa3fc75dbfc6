"""Turns that give a value of a type: bound with -o, fed back when refused, written for pipelines. Real kernels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedModel, Session
from lash_nb.cli import main
from lash_nb.errors import InputError, TurnFailed
from lash_nb.machine.llm import TextBlock

from .conversations import cell, history, last_message
from .notebook_kernel import NotebookKernel, scripted_notebook

TABLE: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "city": {"enum": ["Oslo", "Rome"]},
            "people": {"type": "integer", "minimum": 0},
            "day": {"type": "string", "format": "date"},
        },
        "required": ["city", "people", "day"],
        "additionalProperties": False,
    },
}
MADE = "import pandas as pd\ndf = pd.DataFrame({'city': ['Oslo', 'Rom'], 'people': [7, 9]}, index=[5, 8])\nfinish(df)"
MENDED = "df['city'] = ['Oslo', 'Rome']\ndf['day'] = '2026-01-02'\nfinish(df)"

directory, kernel, notebook = scripted_notebook(
    {
        "int": [cell("finish('5')"), cell("finish(5)")],
        "pair": [cell("other = 7\nfinish(['a', 'b'])")],
        "model": [cell("finish({'name': 'Oslo'})"), cell("finish({'name': 'Oslo', 'founded': '1048-01-01'})")],
        "table": [cell(MADE), cell(MENDED)],
        "nothing": [cell("finish(None)")],
        "plain": [cell("n = 3\nfinish(4)")],
        "twice": [cell("n = [1, 2]\nfinish(len(n))"), cell("print(n, n_agent)"), "Both are there."],
        "kept": [cell("finish('x')"), cell("step = 40\nfinish(step + 2)")],
    }
)


def value(notebook: NotebookKernel, expression: str) -> str:
    (result,) = notebook.run(expression).of("execute_result")
    found: str = result["data"]["text/plain"]
    return found


def said(notebook: NotebookKernel, script: str, code: str) -> str:
    """What a cell printed, once its turn had ended well."""
    ran = notebook.finish(notebook.ask(script, code))
    assert not ran.error
    return ran.text


@pytest.mark.parametrize("above", ["", "%%time\n"])
def test_the_value_is_bound_and_what_was_there_makes_way(notebook: NotebookKernel, above: str) -> None:
    notebook.run("n = 'mine'")
    told = said(notebook, "int", f"{above}%%lash -t int -o n\nHow many?")
    assert "n: the turn's value (int) (in place of what n was before)\n" in told
    assert value(notebook, "n") == "5"


def test_the_others_are_variables_as_before(notebook: NotebookKernel) -> None:
    told = said(notebook, "pair", "%%lash -t list[str] -o names,other\nWhich?")
    assert "names: the turn's value (list of 2)" in told
    assert "other: a copy of the agent's other" in told
    assert value(notebook, "names, other") == "(['a', 'b'], 7)"


def test_what_is_changed_in_the_notebook_is_not_changed_in_the_turn(notebook: NotebookKernel) -> None:
    said(notebook, "pair", "%%lash -t list[str] -o names,other\nWhich?")
    notebook.run("asked = get_ipython().magics_manager.registry['Lash'].sessions.session().turns[-1]\nnames.append(1)")
    assert value(notebook, "asked.value") == "['a', 'b']"


def test_a_model_of_the_notebooks_own(notebook: NotebookKernel) -> None:
    notebook.run(
        "import datetime, pydantic\nclass City(pydantic.BaseModel):\n    name: str\n    founded: datetime.date"
    )
    assert "city: the turn's value (City)" in said(notebook, "model", "%%lash -t City -o city\nWhich?")
    assert value(notebook, "city.founded") == "datetime.date(1048, 1, 1)"


def test_a_table_is_bound_as_a_frame_and_the_turn_keeps_its_json(notebook: NotebookKernel) -> None:
    notebook.run(f"columns = {TABLE!r}")
    assert "cities: the turn's value (DataFrame, 2 × 3)" in said(
        notebook, "table", "%%lash -t columns -o cities\nWhich?"
    )
    assert value(notebook, "cities['day'].dt.year.tolist(), cities['people'].tolist()") == "([2026, 2026], [7, 9])"
    notebook.run("asked = get_ipython().magics_manager.registry['Lash'].sessions.session().turns[-1]")
    assert value(notebook, "asked.value[0]") == "{'city': 'Oslo', 'people': 7, 'day': '2026-01-02'}"


def test_a_schema_may_be_written_as_json(notebook: NotebookKernel) -> None:
    code = f"%%lash -t '{json.dumps(TABLE)}' -o cities\nWhich?"
    assert "cities: the turn's value (DataFrame, 2 × 3)" in said(notebook, "table", code)


def test_none_is_a_value(notebook: NotebookKernel) -> None:
    assert "none: the turn's value (NoneType)" in said(notebook, "nothing", "%%lash -t 'int | None' -o none\nAny?")


def test_without_a_type_a_name_is_a_variable(notebook: NotebookKernel) -> None:
    assert "n: a copy of the agent's n" in said(notebook, "plain", "%%lash -o n\nHow many?")
    assert value(notebook, "n") == "3"


def test_what_is_bound_takes_the_name_that_the_agent_had(notebook: NotebookKernel) -> None:
    said(notebook, "twice", "%%lash --new -t int -o n\nHow many?")
    ran = notebook.run("%%lash\nShow them.")
    assert "yours is n now, the agent's n_agent" in ran.bundle_text
    assert "2 [1, 2]" in ran.bundle_text


def test_kept_code_gives_the_value_again(notebook: NotebookKernel) -> None:
    code = "%%lash --keep -t int -o answer\nThe answer?"
    assert "answer: the turn's value (int)" in said(notebook, "kept", code)
    notebook.run("del answer")
    assert "answer: the turn's value (int)" in said(notebook, "nothing", code)
    assert value(notebook, "answer") == "42"


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("nowhere", "-t nowhere: NameError: name 'nowhere' is not defined"),
        ("5", "5 cannot be the type of an answer: give a type"),
        ("None", "-t None: that is what a turn without -t gives"),
        ("{'type':'nonsense'}", "this JSON Schema is not valid"),
        ("{'$ref':'https://example.org/s.json'}", "only references within the schema are followed"),
        ("{'city':str}", "this JSON Schema is no JSON"),
    ],
)
def test_what_is_no_type_is_said_before_anything_happens(notebook: NotebookKernel, given: str, problem: str) -> None:
    said(notebook, "plain", "%%lash\nFirst.")
    ran = notebook.finish(notebook.ask("plain", f"%%lash --new -t {given}\nHow many?"))
    assert ran.error.startswith("InputError: ")
    assert problem in ran.error
    known = "get_ipython().magics_manager.registry['Lash'].sessions.session().turns[-1].request"
    assert value(notebook, known) == "'First.'", "no new session was begun"


# -- the library -------------------------------------------------------------------------------------------------------


async def test_what_the_model_is_told(tmp_path: Path) -> None:
    model = ScriptedModel([cell(MADE), cell(MENDED)])
    async with Session(model, state_dir=tmp_path) as session:
        turn = await session.run("Which?", schema=TABLE, results=["cities", "other"])
    assert turn.value == [
        {"city": "Oslo", "people": 7, "day": "2026-01-02"},
        {"city": "Rome", "people": 9, "day": "2026-01-02"},
    ]
    assert (turn.typed, turn.schema, turn.results) == (True, TABLE, ("cities", "other"))
    assert "becomes the user's variable cities" in history(model, 0)[-1]
    assert "under just these names: other." in history(model, 0)[-1]
    assert "finish(df) gives its rows as objects" in last_message(model, 0)
    note = history(model, 1)[-1]
    assert "\nvalue: the columns are city, people; missing: day\nvalue[0]: 'day' is a required property\n" in note
    assert "\nvalue[1].city: 'Rom' is not one of ['Oslo', 'Rome']\n" in note


async def test_the_system_prompt_is_the_same_with_a_type(tmp_path: Path) -> None:
    model = ScriptedModel({1: ["Words."], 2: [cell("finish(1)")]})
    async with Session(model, state_dir=tmp_path) as session:
        plain = await session.run("One")
        typed = await session.run("Two", output_type=int)
    assert (plain.typed, typed.typed, typed.schema, typed.value) == (False, True, None, 1)
    first, second = (request.messages[0].blocks for request in model.requests)
    assert isinstance(first[0], TextBlock)
    assert first == second
    assert "A DataFrame may be given" not in last_message(model, 1)


async def test_a_bad_schema_is_refused_before_anything_is_recorded(tmp_path: Path) -> None:
    async with Session(ScriptedModel(["never"]), state_dir=tmp_path) as session:
        for schema in ({"type": "nonsense"}, {"$ref": "other.json"}):
            with pytest.raises(InputError):
                await session.run("Which?", schema=schema)
        assert session.turns == []


async def test_a_value_that_never_fits_fails_the_turn(tmp_path: Path) -> None:
    model = ScriptedModel([cell("finish('x')"), cell("finish('y')"), cell("finish('z')")])
    async with Session(model, state_dir=tmp_path) as session:
        with pytest.raises(TurnFailed) as failed:
            await session.run("How many?", output_type=int, max_steps=2)
    turn: Any = failed.value.turn
    assert (turn.value, turn.status) == (None, "bound")


# -- pipelines ---------------------------------------------------------------------------------------------------------


def test_results_of_a_run_say_which_turn_gave_no_value(tmp_path: Path) -> None:
    replies = {
        "1": [cell("finish('x')"), cell("import pandas as pd\nfinish(pd.Series([1.5, None]))")],
        "2": [cell("finish('x')")],
    }
    (tmp_path / "s.json").write_text(json.dumps({"turns": replies}))
    sources = [
        "%load_ext lash_nb",
        "%%lash -t 'list[float | None]' -o numbers --max-steps 2\nWhich?",
        "%%lash -t int --max-steps 1 --no-raise\nHow many?",
    ]
    cells: list[Any] = [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": source, "outputs": [], "execution_count": None}
        for n, source in enumerate(sources)
    ]
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}))
    results = tmp_path / "results.json"
    assert main(["run", str(path), "-m", f"scripted:{tmp_path / 's.json'}", "--results", str(results)]) in (0, 3)
    first, second = json.loads(results.read_text())
    assert (first["value"], "stop" in first) == ([1.5, None], False)
    assert (second["value"], second["stop"]) == (None, "max_turns")


def test_the_tutorial_gives_what_it_says(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[1] / "notebooks", tmp_path / "n")
    path, results = tmp_path / "n" / "05_typed_results.ipynb", tmp_path / "results.json"
    assert main(["run", str(path), "--frozen", "--results", str(results)]) == 0
    number, regions, band, table = (turn["value"] for turn in json.loads(results.read_text()))
    assert (number, regions) == (107, ["Europe", "Atlantic", "Australia"])
    assert (band["zones"], band["still"], round(band["share"], 3)) == (99, 3, 0.03)
    assert table[0] == {"zone": "America/Asuncion", "changes": 101, "ended": "2024-10-06"}
    assert len(table) == 8
    executed = (tmp_path / "n" / "05_typed_results.out.ipynb").read_text()
    assert "gave_up: the turn's value (DataFrame, 8 × 3)" in executed
    assert "107 of 312 zones: 34%" in executed
    assert "3 of 99 zones, 3.0%" in executed
