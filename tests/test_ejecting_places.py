"""`lash-nb eject`: a turn stands where it was asked, also when another cell shows it, and no request is called
unanswered that is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedKernel
from lash_nb.ejecting import ejected
from lash_nb.ejecting.shim import Shim
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.execution import FinishValue
from lash_nb.stores.closed import ClosedNotebook

from .conversations import cell
from .plain_notebooks import answered, asked, command, last_text, read, run_without_us, sources, texts, v4, write

REPLIES = {1: [cell("a = 1"), "One."], 2: [cell("b = 2"), "Two."], 3: [cell("c = a + b"), "Three."]}
ONE, TWO, THREE = ["> one", "a = 1", "One."], ["> two", "b = 2", "Two."], ["> three", "c = a + b", "Three."]
RESUMED = "# %lash resume --yes (lash_nb is not here)"
Cells = tuple[tuple[str, list[int]] | str, ...]
"""Their sources, and which turns each shows."""
TAKEN = "1 line of `%lash` words was taken out, in cell"


@pytest.fixture(autouse=True)
def _no_other_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASH_NB_STATE_DIR", str(tmp_path / "elsewhere"))


async def ejection(
    place: Path, *cells: tuple[str, list[int]] | str, requests: tuple[str, ...] = ("one", "two", "three"), **more: Any
) -> tuple[tuple[str, ...], tuple[str, ...], Any]:
    """What is left out, the notes, and the plain notebook; of each cell, its source and which turns it shows."""
    block = await answered(place / "n.lash", more.pop("replies", REPLIES), requests=list(requests), **more)
    made = []
    for one in cells:
        source, turns = (one, []) if isinstance(one, str) else one
        shows = asked("", *(block["turns"][number - 1] for number in turns))
        shows.source = source
        made.append(shows)
    result = ejected(ClosedNotebook(write(place / "n.ipynb", *made, metadata={"lash_nb": block})))
    (place / "plain.ipynb").write_text(result.text, encoding="utf-8")
    return result.left_out, result.notes, read(place / "plain.ipynb", as_version=4)


async def test_a_turn_that_was_resumed_above_the_first_one_stands_where_it_was_asked(tmp_path: Path) -> None:
    cells: Cells = ("%lash resume --yes", [3]), ("%%lash\none", [1]), ("%%lash\ntwo", [2]), ("%%lash\nthree", [])
    left_out, notes, made = await ejection(tmp_path, *cells)
    assert (left_out, notes) == ((), (f"{TAKEN} 1",))
    assert sources(made)[1:] == [RESUMED, *ONE, *TWO, *THREE]
    code = [one.source for one in run_without_us(tmp_path / "plain.ipynb").cells if one.cell_type == "code"]
    assert code == [RESUMED, "a = 1", "b = 2", "c = a + b"]


async def test_also_when_both_cells_show_it(tmp_path: Path) -> None:
    cells: Cells = ("%lash resume --yes", [2]), ("%%lash\none", [1]), ("# mine\n%%lash -m x\ntwo\n", [2])
    left_out, _, made = await ejection(tmp_path, *cells, requests=("one", "two"))
    assert (left_out, sources(made)[1:]) == ((), [RESUMED, *ONE, *TWO])


async def test_also_one_of_several_lines(tmp_path: Path) -> None:
    lines = "t = %lash ask one\nu = %lash ask two\nprint(t.text, u.text)"
    left_out, _, made = await ejection(tmp_path, ("%lash resume --yes", [2]), (lines, [1]), requests=("one", "two"))
    assert left_out == ()
    assert [one for one in sources(made)[1:] if one in (RESUMED, *ONE, *TWO)] == [RESUMED, *ONE, *TWO]
    assert last_text(run_without_us(tmp_path / "plain.ipynb"), "# t =") == "One. Two.\n"


async def test_two_cells_that_asked_the_same(tmp_path: Path) -> None:
    """Of these one shows another turn, so that the resumed one is the other's."""
    cells: Cells = ("%lash resume --yes", [2]), ("%%lash\none", [1]), ("%%lash\none", [])
    left_out, _, made = await ejection(tmp_path, *cells, requests=("one", "one"))
    assert (left_out, sources(made)[1:]) == ((), [RESUMED, *ONE, "> one", "b = 2", "Two."])


ASKED: tuple[str, list[int]] = ("%%lash\none", [])


@pytest.mark.parametrize(
    ("cells", "way"),
    [
        ([ASKED, ASKED, ("%lash resume --yes", [1])], "below"),
        ([("%lash resume --yes", [1]), ASKED, ASKED], "above"),
        ([("%lash resume --yes", [1]), ASKED, ASKED, ("%lash resume --yes", [2])], "above and below"),
    ],
)
async def test_who_asked_is_not_known(tmp_path: Path, cells: list[tuple[str, list[int]]], way: str) -> None:
    """Two cells could have asked it: it stands where it is shown, and these say where that is."""
    left_out, notes, made = await ejection(tmp_path, *cells, requests=("one",) * (len(cells) - 2))
    assert (left_out, notes) == ((), ())
    assert [one for one in sources(made)[1:] if "nswered" in one] == [f"> one\n\n*Answered {way}.*"] * 2


async def test_a_figure_goes_with_its_turn_where_there_is_no_journal(tmp_path: Path) -> None:
    block = await answered(tmp_path / "state", REPLIES, requests=["one"])
    resumed = asked("", *block["turns"])
    resumed.source = "%lash resume --yes"
    resumed.outputs.append(v4.new_output("display_data", data={"image/png": "AAAA", "text/plain": "a figure"}))
    path = write(tmp_path / "n.ipynb", resumed, asked("one"), metadata={"lash_nb": block})
    (tmp_path / "plain.ipynb").write_text(ejected(ClosedNotebook(path)).text, encoding="utf-8")
    made = read(tmp_path / "plain.ipynb", as_version=4)
    assert sources(made)[1:] == [RESUMED, *ONE]
    assert [texts(one) for one in made.cells if one.cell_type == "code"] == [[], ["a figure"]]


async def test_a_request_within_other_code_is_no_place_for_a_turn(tmp_path: Path) -> None:
    cells: Cells = ("def f():\n    return %lash ask one", []), ("%lash resume --yes", [1])
    _, _, made = await ejection(tmp_path, *cells, requests=("one",))
    assert sources(made)[-3:] == ONE


async def test_an_order_that_cannot_be_kept_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells: Cells = ("%%lash\nthree", [3]), ("%%lash\none", [1]), ("%%lash\ntwo", [2])
    left_out, notes, made = await ejection(tmp_path, *cells)
    said = "turns were asked in another order than their cells stand in (3, 1, 2): results may be others"
    assert (left_out, notes) == ((said,), ())
    assert f"- {said}" in sources(made)[0]
    assert command("eject", tmp_path / "n.ipynb") == 1
    assert capsys.readouterr().err == f"lash-nb: {said}\n"


# ------------------------------------------------------------------------------------------- what the cells below have


async def test_the_value_of_a_resumed_turn(tmp_path: Path) -> None:
    """`_`, and a name, below the cell that resumed it: as they were there."""
    kernel = ScriptedKernel(
        lambda code: ScriptedCell(finish=FinishValue(value=[7])) if "finish" in code else ScriptedCell()
    )
    replies = {1: [cell("a = 1"), "One."], 2: [cell("finish([a + 6])")]}
    cells: Cells = (
        ("%lash resume --yes", [2]),
        "print(_.value, _.text, _.ok, _.code)",
        ("%%lash\none", [1]),
        ("%%lash\ntwo", []),
        ("t = %lash resume --yes", [2]),
        "print(t.value)",
    )
    left_out, notes, made = await ejection(tmp_path, *cells, requests=("one", "two"), replies=replies, kernel=kernel)
    assert left_out == ()
    assert notes == ("2 lines of `%lash` words were taken out, in cells 1 and 5",)
    stand_in = "Turn(text='[7]', code=(\n    'finish([a + 6])',\n), value=[7], ok=True)"
    first, second = [one for one in sources(made) if one.startswith("# the Turn")]
    assert first == f"# the Turn, for the cells below\n{stand_in}"
    assert second == f"# the Turn, for the cells below\nt = {stand_in}"
    assert "# t = %lash resume --yes (lash_nb is not here)" in sources(made)
    done = run_without_us(tmp_path / "plain.ipynb")
    assert last_text(done, "print(_.value") == "[7] [7] True ('finish([a + 6])',)\n"
    assert last_text(done, "print(t.value") == "[7]\n"


@pytest.mark.parametrize("words", ["text", "code", "value", "ok"])
async def test_every_stand_in_has_the_same(tmp_path: Path, words: str) -> None:
    """Whatever the cells below name: they may ask for it in a way that cannot be seen."""
    cells: Cells = ("%%lash\none", [1]), "print(_.status)", f"t = _\n{words} = 1"
    _, _, made = await ejection(tmp_path, *cells, requests=("one",))
    (stand_in,) = [one for one in sources(made) if one.startswith("# the Turn")]
    given = "text='One.', code=(\n    'a = 1',\n), value=None, ok=True, status='done'"
    assert stand_in == f"# the Turn, for the cells below\nTurn({given})"


async def test_the_only_session_beside_a_notebook_that_mentions_none(tmp_path: Path) -> None:
    await answered(tmp_path / "n.lash", REPLIES, requests=["one"], notebook=tmp_path / "in.ipynb", session="only")
    made = ejected(ClosedNotebook(write(tmp_path / "n.ipynb", "%%lash\none")))
    assert made.turns == 1
    assert made.notes == (f"no journal names this file; session only is taken, the only one in {tmp_path / 'n.lash'}",)


# ------------------------------------------------------------------------------------------------------------- words


WORDS = [
    # A cell, what stands in its place, and what is said.
    ("%lash history", ["# %lash history (lash_nb is not here)"], (f"{TAKEN} 2",)),
    (
        "%load_ext lash_nb\n%lash model local\n\n# mine",
        ["# %lash model local (lash_nb is not here)\n# mine"],
        (f"{TAKEN} 2",),
    ),
    (
        "  %lash usage 2\n  %lash",
        ["# %lash usage 2 (lash_nb is not here)\n# %lash (lash_nb is not here)"],
        ("2 lines of `%lash` words were taken out, in cell 2",),
    ),
    ("%load_ext lash_nb\n%config Lash.max_steps = 3\n# mine", [], ()),
    ("x = %lash usage", ["x = None  # x = %lash usage (lash_nb is not here)"], (f"{TAKEN} 2",)),
    ("if True:\n    %lash new", ["if True:\n    pass  # %lash new (lash_nb is not here)"], (f"{TAKEN} 2",)),
]


@pytest.mark.parametrize(("source", "left", "said"), WORDS)
async def test_words_leave_a_comment_where_they_stood(
    tmp_path: Path, source: str, left: list[str], said: tuple[str, ...]
) -> None:
    left_out, notes, made = await ejection(tmp_path, ("%%lash\none", [1]), source, requests=("one",))
    assert (left_out, notes) == ((), said)
    assert [one.source for one in made.cells if one.cell_type == "code"] == ["a = 1", *left]
    assert [f"- {one}" for one in said] == [one for one in sources(made)[0].split("\n") if one.startswith("- ")]


async def test_where_a_turn_stands_for_its_word_no_comment_does(tmp_path: Path) -> None:
    _, _, made = await ejection(tmp_path, ("%lash resume --yes", [1]), requests=("one",))
    assert sources(made)[1:] == ONE


async def test_the_cell_with_the_stand_ins_is_behind_the_title(tmp_path: Path) -> None:
    kernel = ScriptedKernel({"finish(1)": ScriptedCell(finish=FinishValue(value=1))})
    block = await answered(tmp_path / "n.lash", {1: [cell("finish(1)")]}, requests=["one"], kernel=kernel)
    title, raw = v4.new_markdown_cell("# Title"), v4.new_raw_cell("as it is")
    cells = [title, raw, "x = 1", v4.new_markdown_cell("Text."), asked("one", *block["turns"]), "_.value"]
    made = ejected(ClosedNotebook(write(tmp_path / "n.ipynb", *cells, metadata={"lash_nb": block})))
    (tmp_path / "plain.ipynb").write_text(made.text, encoding="utf-8")
    notebook = read(tmp_path / "plain.ipynb", as_version=4)
    assert sources(notebook)[1:3] == ["# Title", "as it is"]
    helper = notebook.cells[3]
    assert (helper.id, helper.metadata) == ("ejected-setup", {"jupyter": {"source_hidden": True}})
    comments = [line for line in helper.source.split("\n") if line.startswith("#") or '"""' in line]
    assert comments == ["# Stands in for what lash_nb gave to the cells below; made by `lash-nb eject`."]
    assert len(helper.source.split("\n")) < 75
    assert sources(notebook)[4:6] == ["x = 1", "Text."]
    assert last_text(run_without_us(tmp_path / "plain.ipynb"), "_.value") == "1"


def test_finish_gives_what_it_gave() -> None:
    import dataclasses
    import datetime

    import numpy as np
    import pandas as pd

    @dataclasses.dataclass(slots=True)
    class Point:
        x: object

    space: dict[str, Any] = {}
    exec(Shim(finish=True).source, space)
    value = {
        1: (True, None, 2.5),
        np.int64(2): np.arange(2),
        "set": {3, 1},
        "point": [Point(np.float64(0.5))],
        "day": datetime.date(2024, 1, 2),
        "times": [pd.Timestamp("2024-01-02 03:04"), pd.NaT, np.datetime64("2024-01-02"), pd.NA],
        "path": Path("a/b"),
    }
    plain = {
        "1": [True, None, 2.5],
        "2": [0, 1],
        "set": [1, 3],
        "point": [{"x": 0.5}],
        "day": "2024-01-02",
        "times": ["2024-01-02T03:04:00", None, "2024-01-02", None],
        "path": "a/b",
    }
    given = space["finish"](value)
    assert repr(given) == repr(plain)
    assert space["finish"].value is given
