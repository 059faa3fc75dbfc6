"""How an open notebook comes to carry its turns: a real kernel, and pages that hold the notebook as JupyterLab does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lash_nb.stores.notebook import read_block, verify_chain
from tests.notebook_kernel import NotebookKernel, Page, notebook_kernel

CELL = "I look.\n<lash-cell>\n{code}\n</lash-cell>"
REPLIES = [
    *(CELL.format(code="print(6 * 7)"), "It is 42."),
    "The second.",
    *(CELL.format(code="import time\nopen('began', 'w').close()\ntime.sleep(3)"), "The third."),
    *(CELL.format(code=f"print({number})") for number in range(8)),
    "The fourth.",
]
ASK = "%%lash\n{}"


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[NotebookKernel]:
    (tmp_path / "model.json").write_text(json.dumps(REPLIES))
    env = {"LASH_NB_STATE_DIR": str(tmp_path / "state"), "JPY_SESSION_NAME": str(tmp_path / "notebook.ipynb")}
    with notebook_kernel(tmp_path, **env) as kernel:
        yield kernel


def loaded(kernel: NotebookKernel) -> None:
    cell = kernel.run("%load_ext lash_nb\n%lash model scripted:model.json")
    assert cell.error == ""


def turns(value: Any) -> list[int]:
    """The finished turns of a block that verifies."""
    block = read_block({"lash_nb": value})
    assert block is not None
    verify_chain(block)
    return [envelope["turn"] for envelope in block.turns]


def test_where_nobody_holds_the_notebook_its_outputs_have_the_turns(kernel: NotebookKernel) -> None:
    """And nothing is opened, which an unknown frontend would complain of."""
    nobody = Page(there=False)
    kernel.pages.append(nobody)
    loaded(kernel)
    first = kernel.run(ASK.format("six times seven"))
    assert [len(bundle["metadata"]["lash_nb"]["checkpoint"]) > 10 for bundle in first.bundles] == [True]
    assert {data["op"] for data in nobody.heard} == {"who"}
    assert "notebook metadata ✗ (nobody here writes it" in kernel.run("%lash").text


def test_a_page_is_given_each_turn_and_what_it_held_stays(kernel: NotebookKernel) -> None:
    page = Page(value={"model": "local"})
    kernel.opened(page)
    loaded(kernel)
    first = kernel.run(ASK.format("six times seven"))
    assert page.value["model"] == "local"
    assert turns(page.value) == [1]
    assert page.value["head"] is None
    assert [sorted(bundle["metadata"]["lash_nb"]) for bundle in first.bundles] == [["session", "sha256", "turn"]]
    assert not any(data.get("save") for data in page.of("set"))

    kernel.run("%config Lash.save_notebook = True")
    kernel.run(ASK.format("more"))
    assert turns(page.value) == [1, 2]
    assert [data for data in page.of("set") if data.get("save")] == page.of("set")[-1:]
    assert "outputs ✓ · notebook metadata ✓" in kernel.run("%lash").text

    states = [(data["model"], data["running"], data["interrupted"]) for data in page.of("status")]
    name = "scripted:model.json"
    seen = [state for number, state in enumerate(states) if state[0] == name and state != states[number - 1]]
    assert seen[-4:] == [(name, 1, None), (name, None, None), (name, 2, None), (name, None, None)]


def test_the_turn_in_progress_is_there_within_a_second_and_not_more_often(
    kernel: NotebookKernel, tmp_path: Path
) -> None:
    page = Page()
    kernel.opened(page)
    loaded(kernel)
    kernel.run(ASK.format("one"))
    kernel.run(ASK.format("two"))
    cell = kernel.start(ASK.format("takes a while"))
    kernel.until(cell, (tmp_path / "began").exists)
    kernel.until(cell, lambda: "time.sleep(3)" in "".join((page.value["head"] or {}).get("checkpoint", ())))
    assert cell.reply is None
    assert page.value["head"]["turn"] == 3
    kernel.finish(cell)
    assert turns(page.value) == [1, 2, 3]

    before = len(page.heard)
    kernel.run(ASK.format("many steps"))
    heads = [data for data in page.heard[before:] if data["op"] == "set" and data["value"]["head"] is not None]
    took = page.heard_at[-1] - page.heard_at[before]
    assert len(heads) <= 2 + took
    assert turns(page.value) == [1, 2, 3, 4]


def test_what_nobody_acknowledged_is_offered_again(kernel: NotebookKernel) -> None:
    page = Page()
    kernel.opened(page)
    loaded(kernel)
    page.there = False
    first = kernel.run(ASK.format("one"))
    assert page.value is None
    assert "checkpoint" in first.bundles[0]["metadata"]["lash_nb"]
    assert "not acknowledged yet" in kernel.run("%lash").text
    page.there = True
    kernel.run(ASK.format("two"))
    assert turns(page.value) == [1, 2]


def test_a_page_that_comes_later_is_given_what_it_lacks(kernel: NotebookKernel) -> None:
    """A second tab, opened from a file that was saved before the last turn."""
    loaded(kernel)
    kernel.opened(Page())
    kernel.run(ASK.format("one"))
    saved = kernel.pages[0].value
    kernel.run(ASK.format("two"))
    second = Page(name="page 2", value=saved)
    kernel.opened(second)
    kernel.run("pass")
    assert turns(second.value) == [1, 2]


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ({"version": 99, "session": "s", "head": None, "turns": []}, "was written by a newer lash_nb"),
        ({"version": 1, "session": "s", "head": None, "turns": "none"}, "metadata.lash_nb.turns is 'none', not a list"),
    ],
)
def test_what_cannot_be_read_is_left_as_it_is(kernel: NotebookKernel, value: dict[str, Any], why: str) -> None:
    page = Page(value=value)
    kernel.opened(page)
    loaded(kernel)
    first = kernel.run(ASK.format("one"))
    assert page.value == value
    assert "checkpoint" in first.bundles[0]["metadata"]["lash_nb"]
    told = kernel.run("%lash").text
    assert why in told
    assert "it is left as it is" in told


def test_a_session_of_before_stays_in_the_notebook(kernel: NotebookKernel) -> None:
    page = Page()
    kernel.opened(page)
    loaded(kernel)
    kernel.run(ASK.format("one"))
    first = page.value["session"]
    kernel.run("%lash new")
    kernel.run(ASK.format("two"))
    assert page.value["session"] != first
    assert [envelope["session"] for envelope in page.value["earlier"]] == [first]
