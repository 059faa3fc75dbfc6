"""`lash-nb eject` of typed turns, of turns that worked on copies, and of what a value is without lash_nb."""

from __future__ import annotations

import datetime
import enum
import json
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
import pytest

from lash_nb.ejecting import ejected
from lash_nb.ejecting.shim import Shim
from lash_nb.ejecting.sources import read_cell
from lash_nb.ejecting.values import value_source
from lash_nb.runner import run_notebook
from lash_nb.stores.closed import ClosedNotebook

from .conversations import cell
from .plain_notebooks import last_text, run_without_us, sources, texts, write

read: Any = nbformat.read
ROOT = Path(__file__).resolve().parent.parent
TABLE: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "day": {"type": "string", "format": "date"},
            "n": {"type": "integer"},
            "share": {"type": "number"},
            "ok": {"type": ["boolean", "null"]},
        },
        "required": ["n"],
    },
}
CLASS = "from pydantic import BaseModel\n\nclass Band(BaseModel):\n    zones: int"


@pytest.fixture(autouse=True)
def _no_other_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASH_NB_STATE_DIR", str(tmp_path / "elsewhere"))


def without_us(path: Path) -> tuple[Any, Any, Any]:
    """What was made plain, and the notebook before and after a run."""
    made = ejected(ClosedNotebook(path))
    out = path.parent / "plain.ipynb"
    out.write_text(made.text, encoding="utf-8")
    return made, read(out, as_version=4), run_without_us(out)


# ---------------------------------------------------------------------------------------------------------- end to end


@pytest.mark.timeout(120)
@pytest.mark.parametrize("journal", [True, False], ids=["journal", "notebook alone"])
def test_the_tutorial_of_typed_results(tmp_path: Path, journal: bool) -> None:
    shutil.copytree(ROOT / "notebooks", tmp_path / "n")
    result = run_notebook(tmp_path / "n" / "05_typed_results.ipynb")
    assert result.error == ""
    if not journal:
        shutil.rmtree(tmp_path / "elsewhere")
    made, _, done = without_us(result.out)
    assert (made.left_out, made.turns) == ((), 4)
    bound = ["still = int(finish.value)", "regions = finish.value", "tropics = Band.model_validate(finish.value)"]
    assert [one for one in sources(done) if one.endswith("(finish.value)") or one.endswith("= finish.value")] == bound
    assert (
        "import pandas as pd\n\ngave_up = pd.DataFrame(finish.value, columns=['zone', 'changes', 'ended'])\n"
        "gave_up['ended'] = pd.to_datetime(gave_up['ended'], format=\"ISO8601\")"
    ) in sources(done)
    assert last_text(done, 'print(f"{still}') == "107 of 312 zones: 34%\n"
    assert last_text(done, 'zones["region"].isin(regions)') == "np.int64(57)"
    assert last_text(done, 'print(f"{tropics.still}') == "Band(zones=99, still=3, share=0.030303030303030304)"
    assert last_text(done, "turn.value[0]") == "{'zone': 'America/Asuncion', 'changes': 101, 'ended': '2024-10-06'}"
    # Each cell of the user's gives what it gave.
    given = {one.id: texts(one) for one in read(result.out, as_version=4).cells if one.cell_type == "code"}
    own = [one for one in done.cells if one.cell_type == "code" and given.get(one.id)]
    assert len(own) == 8
    assert {one.id: texts(one) for one in own if one.id != "typed-02"} == {
        one.id: given[one.id] for one in own if one.id != "typed-02"
    }


@pytest.mark.timeout(120)
def test_what_was_tried_on_copies_is_shown_and_not_run(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "notebooks", tmp_path / "n")
    result = run_notebook(tmp_path / "n" / "04_fix_a_cell.ipynb")
    assert result.error == ""
    made, before, done = without_us(result.out)
    assert (made.left_out, made.turns) == ((), 0)
    assert made.notes == (
        "turn 1 (`%lash fix`) worked on copies: its code is shown, and not run",
        "turn 2 (`%lash fix`) worked on copies: its code is shown, and not run",
        "1 line of `%lash` words was taken out, in cell 2",
    )
    (first,) = [one for one in sources(before) if one.startswith("> Fix cell [3]")]
    assert "\n\n*What was tried worked on copies; it is not run here.*\n\nThe dates are text. I convert them" in first
    assert first.count("```python\n# Which share") == 2
    assert [one for one in sources(before) if "%lash fix" in one and "lash_nb is not here" in one] == []
    assert last_text(done, '"share" in globals()').startswith("(False, ")


def test_the_value_is_bound_also_when_its_cell_went_on(tmp_path: Path) -> None:
    code = "for n in range(9):\n    if n == 5:\n        finish(n)\nprint('never')"
    kinds = "Kinds = dict[str, list[int]]"
    (tmp_path / "m.json").write_text(json.dumps({"turns": {"1": [cell(code)], "2": [cell("finish({'a': [1]})")]}}))
    path = write(
        tmp_path / "in.ipynb",
        "%load_ext lash_nb\n%lash model scripted:m.json",
        "%%lash -t int -o five\nFive?",
        kinds,
        "%%lash -o kinds -t Kinds\nWhich?",
        "print(five + 1, kinds)",
    )
    result = run_notebook(path, tmp_path / "n.ipynb")
    assert result.error == ""
    made, _, done = without_us(result.out)
    assert made.left_out == ()
    assert "five = int(finish.value)" in sources(done)
    assert last_text(done, "print(five") == "6 {'a': [1]}\n"
    assert "`kinds` is made by pydantic, which has to be there" in made.notes


# ---------------------------------------------------------------------------------------------------------- its source


@pytest.mark.parametrize(
    ("wanted", "value", "expression"),
    [
        ("", 5, "given"),
        ("int", 5, "int(given)"),
        ("float", 0.5, "given"),
        ("float", 5, "float(given)"),
        ("list[str]", ["a"], "given"),
        ("dict[str, int]", {"a": 1}, "given"),
        ("str | None", None, "given"),
        ("tuple[int, int]", [1, 2], "TypeAdapter(tuple[int, int]).validate_json(json.dumps(given))"),
        ("Band", {"zones": 1}, "Band.model_validate(given)"),
        ("list[Band]", [{"zones": 1}], "TypeAdapter(list[Band]).validate_json(json.dumps(given))"),
        ("Literal['a']", "a", "TypeAdapter(Literal['a']).validate_json(json.dumps(given))"),
        ("columns", [], "given"),
        ('{"type": "integer"}', 5, "given"),
        ("Band.model_json_schema()", {"zones": 1}, "given"),
        ("int[", 5, "given"),
    ],
)
def test_how_a_value_comes_to_be_what_it_was(wanted: str, value: Any, expression: str) -> None:
    cells = ["%matplotlib inline", CLASS, "columns = {'type': 'array'}"]
    made = value_source(wanted, given="given", value=value, schema=None, cells=cells)
    assert made.expression == expression
    assert bool(made.imports) == expression.startswith("TypeAdapter")


def test_a_table_is_the_frame_that_it_was() -> None:
    rows: Any = [{"day": "2026-01-31", "n": 1, "share": 1, "ok": True}, {"day": None, "n": 2, "share": 2, "ok": None}]
    source = value_source("columns", given="rows", value=rows, schema=TABLE, cells=[f"columns = {TABLE!r}"])
    space: dict[str, Any] = {"rows": rows}
    exec(source.bound("t", rows), space)
    kinds = {name: str(kind).partition("[")[0] for name, kind in space["t"].dtypes.items()}
    assert kinds == {"day": "datetime64", "n": "int64", "share": "float64", "ok": "boolean"}
    assert space["t"]["day"].tolist() == [pd.Timestamp("2026-01-31"), pd.NaT]
    empty: list[Any] = []
    source = value_source("columns", given="[]", value=empty, schema=TABLE, cells=[f"columns = {TABLE!r}"])
    exec(source.bound("t", empty), space)
    assert (list(space["t"].columns), len(space["t"])) == (["day", "n", "share", "ok"], 0)


@pytest.mark.parametrize(
    ("line", "wanted", "names"),
    [
        ("%%lash -t int -o still", "int", ("still",)),
        ("%%lash -o a,b -t 'dict[str, int]' --check \"x > 1\"", "dict[str, int]", ("a", "b")),
        ("%%lash --type=list[str] --outputs=a", "list[str]", ("a",)),
        ("%%lash -tint -oa --keep", "int", ("a",)),
        ("%%lash --keep", "", ()),
    ],
)
def test_what_a_cell_wants(line: str, wanted: str, names: tuple[str, ...]) -> None:
    asking = read_cell(f"{line}\nWhat?")
    assert (asking.requests, asking.wanted, asking.names) == (("What?",), wanted, names)


@pytest.mark.parametrize(("line", "target"), [("%lash fix", None), ("t = %lash fix it is wrong", "t")])
def test_a_fix_shows_a_turn(line: str, target: str | None) -> None:
    asking = read_cell(line)
    assert (asking.requests, asking.resumes, asking.fixes, asking.resume_target) == ((), 1, True, target)


# ------------------------------------------------------------------------------------------------ a value without us


class Colour(enum.Enum):
    RED = "red"


FRAME = pd.DataFrame({"n": [1, 2], "x": [0.5, None]})


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (FRAME, [{"n": 1, "x": 0.5}, {"n": 2, "x": None}]),
        (FRAME[FRAME["n"] > 1], [{"n": 2, "x": None}]),
        (FRAME.set_index("n"), [{"n": 1, "x": 0.5}, {"n": 2, "x": None}]),
        (FRAME.set_axis(["a", "b"]), [{"index": "a", "n": 1, "x": 0.5}, {"index": "b", "n": 2, "x": None}]),
        (pd.DataFrame({3: [1]}), [{"3": 1}]),
        (pd.DataFrame({"a": []}), []),
        (FRAME["x"], [0.5, None]),
        (FRAME.set_axis(["a", "b"])["x"], {"a": 0.5, "b": None}),
        (FRAME.set_index(["n", "x"]).assign(y=1)["y"], [{"n": 1, "x": 0.5, "y": 1}, {"n": 2, "x": None, "y": 1}]),
        (FRAME["n"].index, [0, 1]),
        (pd.Series(pd.to_datetime(["2026-01-31", None])), ["2026-01-31T00:00:00", None]),
        (pd.Series(["a", None], dtype="category"), ["a", None]),
        (pd.Series([1, None], dtype="Int64"), [1, None]),
        (pd.array([1, None], dtype="Int64"), [1, None]),
        (pd.Period("2026-01"), "2026-01"),
        (datetime.timedelta(days=1, milliseconds=1500), "P1DT1.5S"),
        (pd.Timedelta("-1h"), "-P0DT3600S"),
        (Colour.RED, "red"),
        ({"t": FRAME.head(1)}, {"t": [{"n": 1, "x": 0.5}]}),
    ],
)
def test_tables_and_the_like(value: Any, plain: Any) -> None:
    space: dict[str, Any] = {}
    exec(Shim(finish=True).source, space)
    assert repr(space["finish"](value)) == repr(plain)
    # As the agent's own kernel has it.
    from lash_nb.kernels.inside.json_values import to_json

    assert to_json(value, "value") == plain
