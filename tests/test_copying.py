"""How an open notebook comes to carry its turns: a real kernel, and pages that hold the notebook as JupyterLab does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lash_nb.stores.notebook import read_block, verify_chain
from tests.notebook_kernel import Cell, NotebookKernel, Page, notebook_kernel
from tests.stores.envelopes import chain

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


def other_block() -> dict[str, Any]:
    """What another notebook carries, of another session."""
    return {"version": 1, "session": "other", "head": None, "turns": chain(2, session="other")}


def fields(cell: Cell) -> list[list[str]]:
    """Of what the displays carry: those of a whole envelope, or of what finds it."""
    return [sorted(bundle["metadata"]["lash_nb"]) for bundle in cell.bundles]


WHOLE = ["checkpoint", "engine", "parent", "resume", "saved_at", "seq", "session", "sha256", "turn", "version"]
FOUND = ["session", "sha256", "turn"]
COPYING = "get_ipython().magics_manager.registry['Lash'].sessions.copying"


def test_of_two_notebooks_on_one_kernel_each_carries_what_is_asked_in_it(kernel: NotebookKernel) -> None:
    one, other = Page(), Page(name="page 2", path="b.ipynb", value=other_block())
    kernel.opened(one)
    kernel.opened(other)
    loaded(kernel)
    assert fields(kernel.run(ASK.format("one"))) == [FOUND]
    assert turns(one.value) == [1]
    assert "earlier" not in one.value
    assert other.value == other_block()
    assert "notebook metadata ✓" in kernel.run("%lash").text
    assert "notebook metadata ✗ (not acknowledged yet)" in kernel.run("%lash", client=other.client).text
    show = f"print({COPYING}.notebook.path)"
    assert [kernel.run(show, client=page.client).text for page in (one, other)] == ["notebook.ipynb\n", "b.ipynb\n"]

    assert fields(kernel.run(ASK.format("two"), client=other.client)) == [FOUND]
    assert turns(one.value) == [1]
    assert turns(other.value) == [1, 2]
    assert [envelope["session"] for envelope in other.value["earlier"]] == ["other", "other"]
    kernel.run(ASK.format("takes a while"))
    assert turns(one.value) == [1, 2, 3]
    assert "earlier" not in one.value


def test_what_only_another_notebook_acknowledges_is_not_written(kernel: NotebookKernel) -> None:
    """Cells from a frontend that does not hold the notebook, beside a page that does."""
    page = Page(value=other_block())
    kernel.opened(page)
    loaded(kernel)
    first = kernel.run(ASK.format("one"), client="another frontend")
    assert fields(first) == [WHOLE]
    assert page.value == other_block()
    assert page.of("set") == []
    assert "nobody here writes it" in kernel.run("%lash", client="another frontend").text
    assert kernel.run(f"print({COPYING}.notebook)", client="another frontend").text == "None\n"
    assert fields(kernel.run(ASK.format("two"))) == [FOUND]
    assert turns(page.value) == [1, 2]


def test_the_page_that_takes_the_place_of_another_in_mid_turn_has_the_turn(
    kernel: NotebookKernel, tmp_path: Path
) -> None:
    page, other = Page(), Page(name="page 2", path="b.ipynb")
    kernel.opened(page)
    kernel.opened(other)
    loaded(kernel)
    kernel.run(ASK.format("one"))
    kernel.run(ASK.format("two"))
    cell = kernel.start(ASK.format("takes a while"))
    kernel.until(cell, (tmp_path / "began").exists)
    kernel.pages.remove(page)
    again = Page(name="page 3")
    kernel.joined(again)
    assert fields(kernel.finish(cell)) == [FOUND]
    assert turns(again.value) == [1, 2, 3]
    assert other.value is None


def test_whoever_answers_without_having_said_anything_is_asked_who_it_is(kernel: NotebookKernel) -> None:
    """A page that was loaded anew in mid-turn may do what it hears before it has found the comm."""
    page = Page()
    kernel.opened(page)
    loaded(kernel)
    kernel.run(ASK.format("one"))
    before = len(page.of("who"))
    for _ in range(3):
        kernel.say(Page(name="page 2", client="client of page 2"), {"id": page.of("set")[-1]["id"], "ok": True})
    kernel.run("pass")
    assert len(page.of("who")) == before + 1


def test_a_page_that_has_nothing_of_it_is_given_it_at_once(kernel: NotebookKernel) -> None:
    """It was loaded anew before the notebook was saved; what sessions before this one left comes back, too."""
    kernel.opened(Page())
    loaded(kernel)
    kernel.run(ASK.format("one"))
    kernel.run("%lash new")
    kernel.run(ASK.format("two"))
    [first] = kernel.pages[0].value["earlier"]
    kernel.pages.clear()
    again = Page(name="page 2", there=False)
    kernel.opened(again)
    assert "notebook metadata ✗ (not acknowledged yet)" in kernel.run("%lash").text
    again.there = True
    kernel.run(ASK.format("takes a while"))
    assert turns(again.value) == [1, 2]
    assert again.value["earlier"] == [first]

    third = Page(name="page 3")
    kernel.pages.clear()
    kernel.opened(third)
    kernel.run("pass")
    assert turns(third.value) == [1, 2]
    assert third.value["earlier"] == [first]
    assert not any(data.get("save") for data in third.of("set"))
    assert "notebook metadata ✓" in kernel.run("%lash").text


def test_what_one_page_cannot_be_read_of_stops_no_other(kernel: NotebookKernel) -> None:
    page = Page()
    kernel.opened(page)
    loaded(kernel)
    kernel.run(ASK.format("one"))
    for number, path in enumerate(("notebook.ipynb", "b.ipynb")):
        kernel.opened(Page(name=f"bad {number}", path=path, value={"version": 99}))
    assert fields(kernel.run(ASK.format("two"))) == [FOUND]
    assert turns(page.value) == [1, 2]
    assert [bad.value for bad in kernel.pages[1:]] == [{"version": 99}] * 2
    assert "notebook metadata ✓" in kernel.run("%lash").text
    for bad in kernel.pages[1:]:
        assert "was written by a newer lash_nb" in kernel.run("%lash", client=bad.client).text


@dataclass
class Denying(Page):
    """Says after each copy that it has it not."""

    def take(self, data: dict[str, Any], asked: bool = True) -> dict[str, Any] | None:
        answer = super().take(data, asked)
        self.value = None
        return self.here() if data["op"] == "set" else answer


def test_a_page_that_denies_what_it_was_given_is_not_given_it_without_end(kernel: NotebookKernel) -> None:
    page = Denying()
    kernel.opened(page)
    loaded(kernel)
    assert fields(kernel.run(ASK.format("one"))) == [WHOLE]
    kernel.run("import time; time.sleep(0.5)")
    blocks = len({json.dumps(data["value"]) for data in page.of("set")})
    assert 1 <= len(page.of("set")) <= 2 * blocks
    assert "not acknowledged yet" in kernel.run("%lash").text


HEADS = f"""
import asyncio, time
import lash_nb.copying
copying = {COPYING}
async def heads(quick_s, took_s):
    lash_nb.copying._QUICK_S = quick_s
    made = []
    def publish(number):
        made.append(number)
        time.sleep(took_s)
    for number in range(8):
        copying.head(lambda number=number: publish(number))
        await asyncio.sleep(0.01)
    at_once = len(made)
    await asyncio.sleep(4 * took_s + 0.2)
    return at_once, made[-1]
print(await heads(60, 0), await heads(0.05, 0.4))
"""


def test_copies_take_a_share_of_the_time_and_the_newest_comes(kernel: NotebookKernel) -> None:
    """Papermill's holder takes each head, as long as they are quickly made."""
    kernel.opened(Page(kind="papermill"))
    loaded(kernel)
    assert kernel.run(HEADS).text == "(8, 7) (1, 7)\n"


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


def test_a_page_that_was_opened_in_mid_turn_is_said_to_lack_its_answer(kernel: NotebookKernel, tmp_path: Path) -> None:
    """A frontend routes nothing into a cell that it did not run."""
    kernel.opened(Page())
    loaded(kernel)
    kernel.run(ASK.format("one"))
    kernel.run(ASK.format("two"))
    cell = kernel.start(ASK.format("takes a while"))
    kernel.until(cell, (tmp_path / "began").exists)
    page = Page(name="loaded anew", client="another client")
    kernel.pages.append(page)
    kernel.say(page, page.here())
    kernel.finish(cell)
    assert "outputs ✓ (but where the page was opened while turn 3 ran: `%lash history 3`)" in kernel.run("%lash").text


def test_when_it_is_unloaded_nothing_is_shown_beside_the_notebook(kernel: NotebookKernel) -> None:
    page = Page()
    kernel.opened(page)
    loaded(kernel)
    kernel.run("pass")
    assert page.of("status")[-1]["model"] == "scripted:model.json"
    kernel.run("%unload_ext lash_nb")
    kernel.run("pass")
    last = page.of("status")[-1]
    assert {name: last[name] for name in last if name != "op"} == dict.fromkeys(
        ("session", "label", "model", "running", "interrupted")
    )
