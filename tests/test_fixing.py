"""`%lash fix` in a real ipykernel: what it offers runs there, and before that nothing of the user's changes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lash_nb.views.turn_data import TURN_MIME

from .fix_cases import FIX_CASES, FixCase, reply
from .notebook_kernel import Cell, NotebookKernel, Page, notebook_kernel

OFFER = "application/vnd.lash_nb.offer+json"
LOOKS = """\
def look(result):
    import hashlib, cloudpickle
    space, hidden = get_ipython().user_ns, get_ipython().user_ns_hidden
    names = sorted(name for name in space if name not in hidden and not name.startswith("_"))
    told = {}
    for name in set(names) - {"In", "Out", "exit", "quit", "get_ipython", "open"}:
        try:
            pickled = hashlib.sha256(cloudpickle.dumps(space[name], protocol=5)).hexdigest()
        except Exception as error:  # a closed file, say
            pickled = type(error).__name__
        told[name] = [id(space[name]), pickled]
    looks.append({"names": told, "out": {str(number): id(value) for number, value in space["Out"].items()}})
import builtins
builtins.looks = []
get_ipython().events.register("post_run_cell", look)
del look, builtins
"""
"""After each cell: what every variable of the user's is, and its bytes."""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("fixing")
    for number, case in enumerate(FIX_CASES.values()):
        (place / f"case{number}.json").write_text(json.dumps(case.replies))
    return place


@pytest.fixture(scope="module")
def kernel(directory: Path) -> Iterator[NotebookKernel]:
    with notebook_kernel(directory) as started:
        assert not started.run("%load_ext lash_nb").error
        assert not started.run(LOOKS).error
        yield started


@pytest.fixture
def notebook(kernel: NotebookKernel) -> NotebookKernel:
    """Without variables, and with a new session."""
    kernel.run("%lash new")
    kernel.run("%reset_selective -f ^[A-Za-z]")
    return kernel


def given(cell: Cell) -> str:
    """What a cell gave, as text."""
    results = [content["data"]["text/plain"] for content in cell.of("execute_result")]
    return "\n".join([*filter(None, [cell.text.strip("\n")]), *results])


def offers(cell: Cell) -> list[dict[str, Any]]:
    return [content["data"][OFFER] for content in cell.displays if OFFER in content["data"]]


def last_looks(notebook: NotebookKernel, count: int) -> list[Any]:
    """What there was behind the last cells, oldest first."""
    cell = notebook.run(f"import json\nprint(json.dumps(looks[-{count}:]))")
    assert not cell.error, cell.error
    return list(json.loads(cell.text))


def scripted(notebook: NotebookKernel, directory: Path, *replies: str) -> None:
    (directory / "one.json").write_text(json.dumps(replies))
    notebook.model("one")


@pytest.mark.parametrize("name", FIX_CASES, ids=lambda name: name.replace(" ", "-"))
def test_the_offered_cell_runs_and_nothing_changed_before(notebook: NotebookKernel, name: str) -> None:
    case: FixCase = FIX_CASES[name]
    assert not notebook.run(case.set_up).error
    notebook.model(f"case{list(FIX_CASES).index(name)}")
    assert notebook.run(case.broken).error.partition(":")[0] == case.error
    fixed = notebook.run(f"%lash fix {case.said}")
    assert not fixed.error, fixed.error
    before, after = last_looks(notebook, 2)
    assert after["names"] == before["names"]
    assert after["out"].items() >= before["out"].items()
    (offer,) = offers(fixed)
    assert (offer["source"], offer["before"]) == (case.corrected, case.broken)
    assert "I corrected what was wrong." in fixed.bundle_text, "all replies were used"
    assert case.told in fixed.bundle_text
    assert fixed.reply is not None
    (payload,) = fixed.reply["payload"]
    assert (payload["source"], payload["text"]) == ("set_next_input", case.corrected), "no page is there"
    ran = notebook.run(offer["source"])
    assert not ran.error, ran.error
    assert given(ran) == case.gives


# ------------------------------------------------------------------------------------------------- what is not offered


def test_where_nothing_failed_and_nothing_is_said_there_is_nothing_to_fix(notebook: NotebookKernel) -> None:
    notebook.run("x_1 = undefined_1")
    notebook.run("undefined_1 = 1")
    notebook.run("x_1 = undefined_1")
    fixed = notebook.run("%lash fix")
    assert fixed.error.startswith("InputError: no cell of the notebook has failed")
    assert "`%lash fix TEXT`" in fixed.error


def test_an_option_that_is_none_is_an_error(notebook: NotebookKernel) -> None:
    notebook.run("undefined_2")
    assert "-m is not known here" in notebook.run("%lash fix -m other").error
    assert "is no Python expression" in notebook.run('%lash fix --check "x =="').error
    for words in ("--check", "--check=", "[2] it is too low --check"):
        assert "behind --check the expression is missing" in notebook.run(f"%lash fix {words}").error


def test_a_cell_is_named_by_its_number(notebook: NotebookKernel, directory: Path) -> None:
    scripted(notebook, directory, reply("half = 3"), "Half of it.")
    cell = notebook.run("half = 6")
    assert cell.reply is not None
    number = cell.reply["execution_count"]
    notebook.run("other = 1")
    notebook.run("undefined_8")
    fixed = notebook.run(f'turn = %lash fix --check "half == 3" [{number}] it should be [half]')
    assert not fixed.error, fixed.error
    assert [(offer["before"], offer["source"]) for offer in offers(fixed)] == [("half = 6", "half = 3")]
    assert notebook.run("print(turn.request)").text == f"Fix cell [{number}]: it should be [half]\n"
    assert f"InputError: cell [{number}] did not fail" in notebook.run(f"%lash fix [{number}]").error
    assert "InputError: [999999] is none of the last 50 cells" in notebook.run("%lash fix [999999] no").error


def test_one_whose_error_cannot_be_shown_is_fixed(notebook: NotebookKernel, directory: Path) -> None:
    notebook.run("class Wrong(Exception):\n    def __str__(self):\n        raise RuntimeError('no text')")
    cell = notebook.run("n = 1\nraise Wrong()")
    assert cell.error == "RuntimeError: no text"
    scripted(notebook, directory, reply("n = 1"), "It need not raise.")
    fixed = notebook.run("%lash fix")
    assert not fixed.error, fixed.error
    assert [(offer["before"], offer["source"]) for offer in offers(fixed)] == [("n = 1\nraise Wrong()", "n = 1")]


def test_what_does_not_run_alone_is_never_offered(notebook: NotebookKernel, directory: Path) -> None:
    leans = (reply("import json\nprint(json.dumps(rows))"), reply("text = json.dumps(rows)"))
    scripted(notebook, directory, *leans, *["It is right."] * 4)
    notebook.run("rows = [1]")
    notebook.run("text = json.dumps(rows)")
    fixed = notebook.run("%lash fix")
    before, after = last_looks(notebook, 2)
    assert fixed.error.endswith(
        "the model was told 3 times what is wrong, and did not put it right; at last: “The corrected cell fails where "
        "it is run alone, in a fresh kernel with copies of the user's variables”"
    )
    assert TURN_MIME in fixed.bundles[0]["data"], "where nothing is offered, it has its own row"
    assert fixed.bundle_text.count("the model is told: “The corrected cell fails where it is run alone, ") == 3
    assert offers(fixed) == []
    assert fixed.reply is not None
    assert fixed.reply["payload"] == []
    assert after["names"] == before["names"]
    # The next request is about its own.
    scripted(notebook, directory, reply("print(len(rows))"), "One.")
    asked = notebook.run("%lash ask How many?")
    assert "both changed" not in asked.bundle_text
    assert "rows_agent" not in asked.bundle_text


def test_a_cell_that_uses_what_only_the_agent_has_is_sent_back(notebook: NotebookKernel, directory: Path) -> None:
    replies = [reply("total = sum([1, 2])\nfinish(total)"), reply("total = sum([1, 2])"), "Done."]
    scripted(notebook, directory, *replies)
    notebook.run("total = sum(1, 2)")
    fixed = notebook.run("%lash fix")
    assert not fixed.error, fixed.error
    assert "uses finish, which the user's notebook does not have" in fixed.bundle_text
    assert [offer["source"] for offer in offers(fixed)] == ["total = sum([1, 2])"]


def test_an_answer_without_a_cell_and_one_behind_a_failed_cell_are_sent_back(
    notebook: NotebookKernel, directory: Path
) -> None:
    first = "It is the name."
    scripted(notebook, directory, first, reply("print(undefined_4)"), first, reply("print(4)"), "Done.")
    notebook.run("print(undefined_3)")
    fixed = notebook.run("%lash fix")
    assert not fixed.error, fixed.error
    assert "the model is told: “You have not run a cell yet.”\n" in fixed.bundle_text
    assert "the model is told: “The last cell that you ran did not run to its end.”\n" in fixed.bundle_text
    assert [offer["source"] for offer in offers(fixed)] == ["print(4)"]


def test_what_is_hidden_is_not_told(notebook: NotebookKernel, directory: Path) -> None:
    notebook.run("secret_key = 'abc'")
    notebook.run("%lash vars --hide secret_*")
    notebook.run("secret_key + 1")
    assert "uses what is hidden from the agent" in notebook.run("%lash fix").error
    notebook.run("%lash vars --show secret_*")


# ------------------------------------------------------------------------------------------------ how it is offered


def test_the_turn_shows_a_short_request_and_the_offer_says_that_it_was_tried(
    notebook: NotebookKernel, directory: Path
) -> None:
    scripted(notebook, directory, reply("sum([1, 2])"), "A list is meant.")
    notebook.run("sum(1, 2)")
    fixed = notebook.run('turn = %lash fix --check "1 == 1" a list   is meant')
    assert not fixed.error, fixed.error
    assert TURN_MIME not in fixed.bundles[0]["data"], "there is one row of buttons, the offer's"
    (shown,) = [content["data"]["text/plain"] for content in fixed.displays if OFFER in content["data"]]
    assert "corrected" in shown
    assert "It ran on copies of your variables in a fresh kernel; then this held: `1 == 1`." in shown
    asked = notebook.run("print(turn.request)").text
    assert asked.startswith("Fix cell [")
    assert asked.rstrip().endswith("] (TypeError: 'int' object is not iterable): a list is meant")


def test_lines_of_ours_stay_above_it(notebook: NotebookKernel, directory: Path) -> None:
    scripted(notebook, directory, reply("print(7)"), "Done.")
    notebook.run("%config Lash.max_steps = 30\nprint(undefined_5)")
    (offer,) = offers(notebook.run("%lash fix"))
    assert offer["source"] == "%config Lash.max_steps = 30\nprint(7)"
    assert offer["before"] == "%config Lash.max_steps = 30\nprint(undefined_5)"


@pytest.mark.parametrize(
    ("code", "note"),
    [
        ("print(input('Your name? ') or 'nobody')", "It asks you something"),
        ("import subprocess\nprint(subprocess.run(['true']).returncode)", "It does more than compute"),
    ],
)
def test_what_cannot_be_tried_alone_is_offered_with_a_note(
    notebook: NotebookKernel, directory: Path, code: str, note: str
) -> None:
    scripted(notebook, directory, reply(code), "Done.")
    notebook.run(code.replace("print(", "print(undefined_6, "))
    cell = notebook.start("%lash fix")
    notebook.question()
    notebook.answer("yes")
    notebook.finish(cell)
    assert not cell.error, cell.error
    (shown,) = [content["data"]["text/plain"] for content in cell.displays if OFFER in content["data"]]
    assert note in shown
    assert "it was not tried alone in a fresh kernel" in shown


def test_where_a_page_is_there_nothing_is_put_in_unasked(notebook: NotebookKernel, directory: Path) -> None:
    scripted(notebook, directory, reply("print(8)"), "Done.")
    notebook.opened(Page())
    try:
        notebook.run("print(undefined_7)")
        fixed = notebook.run("%lash fix")
    finally:
        notebook.pages.clear()
    assert len(offers(fixed)) == 1
    assert fixed.reply is not None
    assert fixed.reply["payload"] == []
