"""What a person does on the page while a turn runs: approve, edit, reject, say, insert, pull; reload; two at once."""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Locator

from .axe import violations
from .contrast import unreadable
from .frontend import IN_LAB, Frontend, OpenNotebook, wait_until
from .provider import Hold, Provider
from .shots import shot

pytestmark = IN_LAB

COUNTS = "I count.\n\n<lash-cell>\nlosers = [1, 2]\nprint('ran', len(losers))\n</lash-cell>"
STARTS = "I ask the system.\n\n<lash-cell>\nimport subprocess\nprint(subprocess.run(['true']).returncode)\n</lash-cell>"
LASTS = """I wait.

<lash-cell>
import pathlib, time
print("begun")
while not pathlib.Path("go").exists():
    time.sleep(0.05)
</lash-cell>"""


def setup(provider: Provider, *more: str) -> list[str]:
    return [f"%load_ext lash_nb\n%lash model {provider.model}", *more]


def question(notebook: OpenNotebook, number: int = 1) -> Locator:
    """What waits in a cell, once it does."""
    group = notebook.outputs(number).get_by_role("group").filter(has_text="wants to")
    group.wait_for()
    return group


def press(within: Locator, name: str) -> None:
    within.get_by_role("button", name=name, exact=True).click()


def test_cells_are_approved_edited_and_rejected_while_the_notebooks_cell_is_busy(
    frontend: Frontend, provider: Provider
) -> None:
    provider.answers += [[COUNTS], [COUNTS], [COUNTS], ["Done."]]
    with frontend.opened(setup(provider, "%%lash --approve every\nCount.", "_.code")) as notebook:
        notebook.run(0)
        notebook.start(1)
        asked = question(notebook)
        assert "losers = [1, 2]" in asked.inner_text()
        assert "[*]" in notebook.prompt(1)
        notebook.sees(1, "waiting for you")
        assert violations(notebook.page, ".jp-OutputArea-output") == []
        assert unreadable(notebook.outputs(1)) == []
        shot(notebook.page, f"{frontend.ui}-asked")
        press(asked, "Approve")
        notebook.sees(1, "ran 2")
        asked = question(notebook)
        press(asked, "Edit")
        asked.get_by_role("textbox").fill("losers = [3]\nprint('edited', losers)")
        press(asked, "Run edited")
        notebook.sees(1, "edited [3]")
        asked = question(notebook)
        press(asked, "Reject")
        asked.get_by_role("textbox").fill("enough now")
        asked.get_by_role("textbox").press("Enter")
        notebook.ended(1)
        notebook.sees(1, "You edited this cell before it ran.")
        notebook.sees(1, "You rejected this cell: enough now")
        assert "enough now" in provider.asked[-1]
        assert "losers = [3]" in provider.asked[-2]
        notebook.run(2)
        notebook.sees(2, "edited")
        assert notebook.errors == []


def test_an_effect_is_asked_about_and_by_keyboard_alone_allowed(frontend: Frontend, provider: Provider) -> None:
    provider.answers += [[STARTS], ["It said zero."]]
    with frontend.opened(setup(provider, "%%lash\nAsk it.")) as notebook:
        notebook.run(0)
        notebook.start(1)
        asked = question(notebook)
        assert "start true" in asked.inner_text()
        approve = asked.get_by_role("button", name="Approve", exact=True)
        approve.focus()
        notebook.page.keyboard.press("Enter")
        notebook.ended(1)
        notebook.sees(1, "You allowed: start true")
        notebook.sees(1, "It said zero.")
        assert notebook.errors == []


def test_what_is_said_in_mid_turn_is_delivered(frontend: Frontend, provider: Provider) -> None:
    speaking = Hold()
    provider.answers += [[COUNTS[:4], speaking, COUNTS[4:]], ["As you wish."]]
    with frontend.opened(setup(provider, "%%lash\nCount.")) as notebook:
        notebook.run(0)
        notebook.start(1)
        notebook.sees(1, "the model is answering")
        box = notebook.outputs(1).get_by_role("textbox", name="Say something")
        box.fill("only odd ones, dd")
        box.press("Enter")
        notebook.sees(1, "only odd ones, dd")
        speaking.release()
        notebook.ended(1)
        notebook.sees(1, "You said: only odd ones, dd")
        assert "only odd ones, dd" in provider.asked[-1]
        assert notebook.errors == []


def test_a_step_becomes_a_cell_and_a_variable_comes_over_while_the_turn_runs(
    frontend: Frontend, provider: Provider
) -> None:
    quiet = Hold()
    provider.answers += [[COUNTS], ["And", quiet, " so on."]]
    with frontend.opened(setup(provider, "%%lash\nCount.", "losers")) as notebook:
        notebook.run(0)
        notebook.start(1)
        notebook.sees(1, "And")
        outputs = notebook.outputs(1)
        outputs.get_by_role("button", name="Pull losers").click()
        notebook.sees(1, "a copy of the agent's losers")
        outputs.locator("summary", has_text="Code (").first.click()
        outputs.get_by_role("button", name="Insert as cell").first.click()
        wait_until(lambda: "losers = [1, 2]" in notebook.cell(2).inner_text(), "the cell below")
        quiet.release()
        notebook.ended(1)
        notebook.run(3)
        notebook.sees(3, "[1, 2]")
        # What the finished turn offers does the same.
        outputs.get_by_role("button", name="Pull losers").click()
        notebook.sees(1, "losers: a copy of the agent's losers (in place of the one that was pulled before)")
        assert notebook.errors == []


def test_a_page_that_is_reloaded_in_mid_turn_goes_on_and_has_the_end(frontend: Frontend, provider: Provider) -> None:
    provider.answers += [[LASTS], ["It is over."]]
    with frontend.opened(setup(provider, "%%lash\nWait.")) as notebook:
        notebook.run(0)
        notebook.start(1)
        notebook.sees(1, "begun")
        notebook.saved()
        notebook.page.reload()
        notebook.page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        notebook.sees(1, "begun")
        notebook.sees(1, "running a cell")
        assert notebook.stop_button(1).is_enabled()
        shot(notebook.page, f"{frontend.ui}-reloaded")
        (notebook.path.parent / "go").touch()
        notebook.sees(1, "It is over.")
        notebook.is_idle()
        # Nothing is left of the view, and the end is there once.
        wait_until(lambda: notebook.page.locator(".jupyter-widgets").count() == 0, "the view to go")
        assert notebook.outputs(1).get_by_text("It is over.").count() == 1
        saved: Any = notebook.saved()
        kept = [output for output in saved.cells[1].outputs if "It is over." in output.data.get("text/plain", "")]
        assert len(kept) == 1
        assert kept[0].metadata["lash_nb"]["turn"] == 1


def test_two_turns_at_once_each_in_its_own_place(frontend: Frontend, provider: Provider) -> None:
    first, second = Hold(), Hold()
    provider.answers += [["One ", first, "is first."], ["Two ", second, "is second."], ["Three is third."]]
    with frontend.opened(setup(provider, "%%lash\nOne?", "%%lash\nThree?")) as one:
        one.run(0)
        one.start(1)
        one.sees(1, "One")
        with frontend.opened(setup(provider, "%%lash\nTwo?")) as two:
            two.run(0)
            two.start(1)
            two.sees(1, "Two")
            one.start(2)  # behind the one that runs
            second.release()
            two.ended(1)
            two.sees(1, "Two is second.")
            assert one.outputs(1).get_by_text("the model is answering").count() == 1
            first.release()
            one.ended(2)
            one.sees(1, "One is first.")
            one.sees(2, "Three is third.")
            assert one.outputs(2).get_by_text("One is first.").count() == 0
            assert one.errors == two.errors == []


def test_where_no_button_is_drawn_the_cell_asks(frontend: Frontend, provider: Provider) -> None:
    """Under `%%time` clicks come too late: what waits is asked for in words, and a turn can be left waiting."""
    provider.answers += [[COUNTS], [COUNTS], ["Done."]]
    with frontend.opened(
        setup(provider, "%%time\n%%lash --approve every\nCount.", "%lash answer", "%lash answer no not today")
    ) as notebook:
        notebook.run(0)
        notebook.start(1)
        asked = notebook.cell(1).locator(".jp-Stdin")
        asked.get_by_text("Run it? yes, no [why], edit, later:").wait_for()
        notebook.answer(1, "yes")
        wait_until(lambda: len(provider.asked) == 2, "the next step")
        # JupyterLab keeps the box that was answered for a moment.
        values = "boxes => boxes.map(box => box.value)"
        wait_until(lambda: asked.locator("input").evaluate_all(values) == [""], "the next question")
        notebook.answer(1, "later")
        notebook.ended(1)
        notebook.sees(1, "the turn waits, and nothing is lost")
        notebook.run(2)
        notebook.sees(2, "losers = [1, 2]")
        notebook.run(3)
        notebook.sees(3, "You rejected this cell: not today")
        notebook.sees(3, "Done.")
        assert "not today" in provider.asked[-1]
