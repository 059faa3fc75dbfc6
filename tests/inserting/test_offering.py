"""Whole turns, inserted: the offered cells run in a plain kernel with the notebook's variables, and give the same."""

from __future__ import annotations

import ast
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from lash_nb import ScriptedModel, Session
from lash_nb.inserting.offering import DIFFERS, Offer, offered
from lash_nb.machine.approvals import ApprovalMode
from lash_nb.sharing import Sharing

from ..conversations import cell
from .insert_cases import CASES, Case

_nbformat: Any = nbformat


def session(place: Path, model: ScriptedModel, variables: str, **options: Any) -> Session:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(variables, namespace)
    place.mkdir(exist_ok=True)
    options = {"approve": "all", **options}
    return Session(model, base_dir=place, state_dir=place / "state", sharing=Sharing(namespace), **options)


def scripted(turns: Sequence[Sequence[str]]) -> ScriptedModel:
    # What is not asked for, because a cell ended the turn before, is passed over.
    return ScriptedModel({n: [*(cell(code) for code in codes), "Done."] for n, codes in enumerate(turns, start=1)})


def names(one: Session) -> frozenset[str]:
    assert one.sharing is not None
    return frozenset(name for name in one.sharing.names() if one.sharing.is_ours(name))


async def offer(place: Path, case: Case) -> Offer:
    async with session(place, scripted(case.turns), case.variables) as one:
        for number in range(1, len(case.turns) + 1):
            turn = await one.run(f"Turn {number}")
            assert turn.ok, turn.text
        assert (turn.value is not None) is case.value
        return await one._loop.wait(offered(one, turn, names=names(one)))


async def shown(place: Path, cells: Sequence[str]) -> str:
    """What the last of these cells shows in a plain kernel; each of them must run."""
    notebook = _nbformat.v4.new_notebook(cells=[_nbformat.v4.new_code_cell(one) for one in cells])
    client = NotebookClient(notebook, kernel_name="python3", resources={"metadata": {"path": str(place)}})
    # The tests' own backend of matplotlib is not that of a notebook.
    await client.async_execute(env={name: value for name, value in os.environ.items() if name != "MPLBACKEND"})
    texts = []
    for output in notebook.cells[-1].outputs:
        if output.output_type == "stream" and output.name == "stdout":
            texts.append(output.text)
        elif "data" in output:
            texts.append(output.data["text/plain"])
    return "".join(texts).strip()


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
async def test_what_is_offered_runs_and_gives_the_same(case: Case, tmp_path: Path) -> None:
    made = await offer(tmp_path / "session", case)
    assert made.problem == ""
    assert made.verified
    assert made.note == "", made.cells
    code = "\n".join(made.cells)
    assert [text for text in case.has if text not in code] == []
    assert [text for text in case.lacks if text in code] == []
    assert case.count in (None, len(made.cells)), made.cells
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert await shown(elsewhere, [case.variables, *made.cells]) == case.shows


async def test_twenty_turns_one_after_the_other_in_one_kernel(tmp_path: Path) -> None:
    """Each turn goes on from the one before; inserted one below the other they give what each gave."""
    turns: list[tuple[str, ...]] = [("step = 0\ntrail = [step]", "finish(trail)")]
    turns += [(f"step = step + {n}\ntrail.nope()", "trail.append(step)", "finish(trail)") for n in range(1, 20)]
    async with session(tmp_path, scripted(turns), "") as one:
        values = [(await one.run(f"Turn {n}")).value for n in range(1, 21)]
        last = await one._loop.wait(offered(one, one.turns[-1], names=names(one)))
    assert values[-1] == [0, 1, 3, 6, 10, 15, 21, 28, 36, 45, 55, 66, 78, 91, 105, 120, 136, 153, 171, 190]
    assert last.verified
    assert last.note == ""
    assert ast.literal_eval(await shown(tmp_path, last.cells)) == values[-1]


async def test_the_state_of_session_and_notebook_is_untouched(tmp_path: Path) -> None:
    case = Case(turns=(("rows.append(9)", "print(rows)"),), shows="[1, 9]", variables="rows = [1]")
    async with session(tmp_path, scripted(case.turns), case.variables) as one:
        turn = await one.run("x")
        kernel = one.kernel
        assert kernel is not None
        epoch = kernel.epoch
        made = await one._loop.wait(offered(one, turn, names=names(one)))
        assert made.cells == ("rows.append(9)", "print(rows)")
        assert one.sharing is not None
        assert one.sharing.value("rows") == [1]
        assert kernel.epoch == epoch
        assert await kernel.value("rows") == [1, 9]  # type: ignore[attr-defined]
        assert len(one.turns) == 1


async def test_what_has_changed_since_is_offered_and_said(tmp_path: Path) -> None:
    async with session(tmp_path, scripted([("finish(sum(rows))",)]), "rows = [1, 2]") as one:
        turn = await one.run("x")
        assert one.sharing is not None
        one.sharing.value("rows").append(3)
        made = await one._loop.wait(offered(one, turn, names=names(one)))
    assert made == Offer(cells=("sum(rows)",), verified=True, note=DIFFERS)


WRITES = "with open('ledger', 'a') as f:\n    f.write('paid;')"


async def test_what_earlier_turns_did_outside_is_not_done_again(tmp_path: Path) -> None:
    turns = [(WRITES,), ("import time\nprint(time.time())",)]
    async with session(tmp_path, scripted(turns), "") as one:
        for number in range(2):
            turn = await one.run(f"Turn {number}")
        made = await one._loop.wait(offered(one, turn, names=names(one)))
    assert made == Offer(cells=("import time\n\nprint(time.time())",), verified=True, note=DIFFERS)
    assert (tmp_path / "ledger").read_text() == "paid;"


async def test_what_the_turn_did_outside_is_done_once(tmp_path: Path) -> None:
    turns = [("import time\nx = 1",), (f"import time\n{WRITES}\nprint(time.time(), x)",)]
    async with session(tmp_path, scripted(turns), "x = 0") as one:
        for number in range(2):
            turn = await one.run(f"Turn {number}")
        made = await one._loop.wait(offered(one, turn, names=names(one)))
    assert made.verified
    assert made.note.startswith(DIFFERS)
    assert (tmp_path / "ledger").read_text() == "paid;paid;", "by the turn, and when it was tried out"


async def test_a_way_that_failed_behind_a_deed_is_the_last(tmp_path: Path) -> None:
    turns = [(WRITES,), (WRITES, "print(len(rows))")]
    async with session(tmp_path, scripted(turns), "rows = [1]") as one:
        for number in range(2):
            turn = await one.run(f"Turn {number}")
        assert one.sharing is not None
        del one.sharing._namespace["rows"]
        made = await one._loop.wait(offered(one, turn, names=names(one)))
    assert not made.verified
    assert made.problem.startswith("cell 2 of 2 fails in a fresh kernel: NameError")
    assert made.problem.endswith("since that would do again what it did outside")
    assert (tmp_path / "ledger").read_text() == "paid;paid;paid;", "by two turns, and when it was tried out"


OVER: dict[str, tuple[str, str, str]] = {
    "one": ("rows = [1, None]", "rows = [r for r in rows if r]\ntotal = 1", "it writes over your `rows`"),
    "two": ("a = b = 1", "a = 2\nb = 2\nc = 3", "it writes over your `a` and `b`"),
    "many": (
        "a = b = c = d = e = f = g = 1",
        "a = b = c = d = e = f = g = 2",
        "it writes over your `a`, `b`, `c`, `d`, `e` and 2 more",
    ),
    "what it had imported": ("import json\nfrom math import pi", "import json\nfrom math import pi\nx = json, pi", ""),
    "another import": (
        "import json\nmean = 3",
        "import json\nfrom statistics import mean",
        "it writes over your `mean`",
    ),
    "what it changes": ("rows = [1]", "rows.append(2)", ""),
}


@pytest.mark.parametrize(("variables", "code", "note"), OVER.values(), ids=OVER)
async def test_what_is_written_over_is_said(variables: str, code: str, note: str, tmp_path: Path) -> None:
    async with session(tmp_path, scripted([(code,)]), variables) as one:
        turn = await one.run("x")
        made = await one._loop.wait(offered(one, turn, names=names(one)))
    assert (made.verified, made.note) == (True, note)


PROBLEMS: dict[str, tuple[str, str, str]] = {
    "a tool": ("print(tools.search(q='x'))", "", "`tools`, which the agent's kernel alone has"),
    "a variable that is gone": (
        "print(len(rows))",
        "rows",
        "fails in a fresh kernel: NameError: name 'rows' is not defined",
    ),
    "a variable that cannot be copied now": ("print(len(rows))", "now", "the notebook's rows could not be copied"),
}


@pytest.mark.parametrize(("code", "gone", "words"), PROBLEMS.values(), ids=PROBLEMS)
async def test_what_does_not_run_is_not_verified(code: str, gone: str, words: str, tmp_path: Path) -> None:
    tools = {"search": lambda q: q}
    async with session(tmp_path, scripted([(code,)]), "rows = [1]", tools=tools) as one:
        turn = await one.run("x")
        assert one.sharing is not None
        namespace = one.sharing._namespace
        if gone:
            del namespace["rows"]
        if gone == "now":
            namespace["rows"] = (n for n in range(3))
        made = await one._loop.wait(offered(one, turn, names=names(one)))
    assert not made.verified
    assert words in made.problem


async def test_an_effect_that_needs_leave_is_not_tried_out(tmp_path: Path) -> None:
    code = "import subprocess\nprint(subprocess.run(['echo']).returncode)"
    async with session(tmp_path, scripted([(code,)]), "") as one:
        turn = await one.run("x")
        one.approve = ApprovalMode.EFFECTS
        made = await one._loop.wait(offered(one, turn, names=names(one)))
    assert not made.verified
    assert "PermissionError" in made.problem
    assert "`%lash approve all`" in made.problem


async def test_a_turn_without_code_has_none_to_offer(tmp_path: Path) -> None:
    async with session(tmp_path, ScriptedModel({1: ["Only words."], 2: [cell("1 / 0"), "No."]}), "") as one:
        for number in (1, 2):
            turn = await one.run("x")
            made = await one._loop.wait(offered(one, turn))
            assert made == Offer(problem=f"turn {number} ran no Python code to its end")
