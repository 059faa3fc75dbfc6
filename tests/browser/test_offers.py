"""An offered cell on the page, and cells that the kernel has put in or replaced there."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from lash_nb.views.offer_data import OFFER_MIME, offer_bundle
from tests.views.hostile_strings import FAMILIES

from .axe import violations
from .contrast import unreadable
from .frontend import Frontend, OpenNotebook, wait_until
from .line import asks, focus, ours, sources
from .plain_pages import PlainPages
from .provider import Provider
from .shots import shot
from .test_finished_turn import click, offered, outputs_are, pasted, says
from .test_hostile_strings import look, page_of

BROKEN = "# the means, ünï\nmeans = sum(valued) / len(values)\nmeans"
SOURCE = "# the means, ünï\nmeans = sum(values) / len(values)\nmeans"
OFFERS = f"""import pathlib
from IPython.display import publish_display_data
from lash_nb.views.offer_data import offer_bundle
note = "The name was `valued`."
cell_id = pathlib.Path("id").read_text()
publish_display_data(
    offer_bundle(title="Cell [1]: NameError", source={SOURCE!r}, before={BROKEN!r}, cell_id=cell_id, note=note)
)"""
BUTTONS = ["Insert below", "Replace", "Copy"]
CELLS = "window.jupyterapp.shell.currentWidget.content.widgets"
MODEL = "window.jupyterapp.shell.currentWidget.context.model"


def cell_id(notebook: OpenNotebook, number: int) -> str:
    found: str = notebook.page.evaluate(f"{CELLS}[{number}].model.id")
    return found


def source_is(notebook: OpenNotebook, number: int, source: str) -> None:
    """As if it had been typed."""
    notebook.page.evaluate(f"source => {CELLS}[{number}].model.sharedModel.setSource(source)", source)


def active(notebook: OpenNotebook, number: int) -> bool:
    """Whether a cell is the active one, with the focus on it, in command mode."""
    found, selected, mode, *_ = focus(notebook)
    inside = notebook.cell(number).evaluate("cell => cell.contains(document.activeElement)")
    return bool((found, selected, mode, inside) == (cell_id(notebook, number), [found], "command", True))


@pytest.fixture
def notebook(frontend: Frontend) -> Iterator[OpenNotebook]:
    """Its first cell has failed, its second one offers another."""
    with frontend.opened([BROKEN, OFFERS, "'last'"]) as found:
        (found.path.parent / "id").write_text(cell_id(found, 0))
        found.run(0)
        found.run(1)
        wait_until(lambda: offered(found, 1) == BUTTONS, "the buttons")
        found.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        yield found
        assert ours(found) == []


def test_an_offered_cell_is_there_to_be_read(frontend: Frontend, notebook: OpenNotebook) -> None:
    assert notebook.outputs(1).get_by_role("heading").all_inner_texts() == ["Cell [1]: NameError"]
    notebook.sees(1, "The name was valued.")
    notebook.sees(1, "-means = sum(valued) / len(values)")
    assert notebook.outputs(1).get_by_role("group", name="lash: the corrected cell").count() == 1
    assert violations(notebook.page, ".lash-nb-finished") == []
    assert unreadable(notebook.outputs(1)) == []
    shot(notebook.page, f"{frontend.ui}-offer-light")
    try:
        notebook.change_theme("JupyterLab Dark")
        assert unreadable(notebook.outputs(1)) == []
        notebook.page.wait_for_selector("#jupyterlab-splash", state="detached")
        shot(notebook.page, f"{frontend.ui}-offer-dark")
    finally:
        notebook.change_theme("JupyterLab Light")


def test_it_replaces_the_cell_that_failed_until_that_is_changed(frontend: Frontend, notebook: OpenNotebook) -> None:
    failed = notebook.prompt(0)
    click(notebook, 1, "Replace")
    says(notebook, 1, "The cell has its new code, not run yet.")
    assert sources(notebook) == [SOURCE, OFFERS, "'last'"]
    assert notebook.prompt(0) == failed  # its outputs are those of before, too
    assert "NameError" in notebook.outputs(0).last.inner_text()
    assert active(notebook, 0)
    wait_until(lambda: offered(notebook, 1) == ["Insert below", "Copy"], "the row without Replace")
    shot(notebook.page, f"{frontend.ui}-offer-replaced")
    notebook.page.keyboard.press("Enter")
    notebook.page.keyboard.press("Control+z")
    wait_until(lambda: sources(notebook)[0] == BROKEN, "the cell as it was")
    wait_until(lambda: offered(notebook, 1) == BUTTONS, "the row with Replace")
    notebook.page.keyboard.type("x")
    wait_until(lambda: offered(notebook, 1) == ["Insert below", "Copy"], "the row without Replace")


def test_a_cell_that_is_changed_in_the_moment_of_the_click_stays(notebook: OpenNotebook) -> None:
    """The page has not drawn the row since."""
    notebook.page.evaluate(
        """() => {
          window.requestAnimationFrame = () => 1;
          const { content, context } = window.jupyterapp.shell.currentWidget;
          content.widgets[0].model.sharedModel.setSource("mine");
        }"""
    )
    notebook.outputs(1).get_by_role("button", name="Replace").focus()
    notebook.page.keyboard.press("Enter")
    says(notebook, 1, "Nothing was replaced: the cell was changed since, and is left as it is.")
    assert sources(notebook)[0] == "mine"
    assert offered(notebook, 1) == ["Insert below", "Copy"]
    assert notebook.page.evaluate("document.activeElement.textContent") == "Insert below"


def test_it_is_put_below_and_copied(notebook: OpenNotebook) -> None:
    click(notebook, 1, "Copy")
    says(notebook, 1, "The corrected cell is on the clipboard.")
    assert pasted(notebook) == SOURCE
    click(notebook, 1, "Insert below")
    says(notebook, 1, "It is the cell below, not run yet.")
    assert sources(notebook) == [BROKEN, OFFERS, SOURCE, "'last'"]
    assert notebook.prompt(2) == "[ ]:"
    assert active(notebook, 2)
    notebook.page.keyboard.press("z")
    wait_until(lambda: sources(notebook) == [BROKEN, OFFERS, "'last'"], "the notebook without it")


def test_keys_are_for_the_button_not_for_the_cell(notebook: OpenNotebook) -> None:
    notebook.outputs(1).get_by_role("button", name="Insert below").focus()
    for key in ("d", "d", "x", "Tab"):
        notebook.page.keyboard.press(key)
    assert notebook.page.evaluate("document.activeElement.textContent") == "Replace"
    notebook.page.keyboard.press("Tab")
    notebook.page.keyboard.press("Enter")
    says(notebook, 1, "The corrected cell is on the clipboard.")
    assert sources(notebook) == [BROKEN, OFFERS, "'last'"]


def test_keys_with_ctrl_are_for_the_application(notebook: OpenNotebook) -> None:
    """Enter and Space press the button all the while, and D D does nothing."""
    source_is(notebook, 2, "'changed'")
    button = notebook.outputs(1).get_by_role("button", name="Copy", exact=True)
    button.focus()
    assert "'changed'" in [cell.source for cell in notebook.saved().cells]
    assert button.evaluate("button => button === document.activeElement")
    for key in ("Enter", " "):
        notebook.page.evaluate("navigator.clipboard.writeText('')")
        notebook.page.keyboard.press(key)
        wait_until(lambda: pasted(notebook) == SOURCE, "the copy")
    notebook.page.keyboard.press("d")
    notebook.page.keyboard.press("d")
    assert sources(notebook) == [BROKEN, OFFERS, "'changed'"]
    source_is(notebook, 2, "'again'")
    assert "'again'" in [cell.source for cell in notebook.saved().cells]


def test_it_needs_no_kernel_when_the_notebook_is_opened_again(frontend: Frontend, notebook: OpenNotebook) -> None:
    notebook.saved()
    place = notebook.path.parent / "again.ipynb"
    place.write_bytes(notebook.path.read_bytes())
    with frontend.on_page(place) as again:
        again.page.evaluate("window.jupyterapp.shell.currentWidget.context.sessionContext.shutdown()")
        wait_until(lambda: offered(again, 1) == BUTTONS, "the buttons")
        assert violations(again.page, ".lash-nb-finished") == []
        click(again, 1, "Insert below")
        says(again, 1, "It is the cell below, not run yet.")
        click(again, 1, "Replace")
        says(again, 1, "The cell has its new code, not run yet.")
        assert sources(again) == [SOURCE, OFFERS, SOURCE, "'last'"]
        shot(again.page, f"{frontend.ui}-offer-no-kernel")
        again.page.evaluate(f"{MODEL}.readOnly = true")
        click(again, 1, "Insert below")
        says(again, 1, "Nothing was inserted: the notebook is read-only.")
        assert offered(again, 1) == ["Copy"]
        assert ours(again) == []


# ------------------------------------------------------------------------------------------------ what is untrusted

EVIL = "<img src=x onerror=window.hit=1>\u202e"


def display(data: Any, **bundle: str) -> dict[str, Any]:
    shown = {"text/plain": "An offer.", "text/html": "<h4>Offer</h4>", **bundle, OFFER_MIME: data}
    return {"output_type": "display_data", "data": shown, "metadata": {}}


@pytest.mark.parametrize(
    "data",
    [
        None,
        "x",
        {"version": 2, "source": "1"},
        {"version": 1, "source": " "},
        {"version": 1, "source": ["1"], "before": "x", "cell_id": "y"},
        {"version": 1, "source": "1" * 1_000_001},
    ],
)
def test_where_the_data_are_not_of_the_form_the_bundle_is_there(talking: OpenNotebook, data: Any) -> None:
    outputs_are(talking, display(data))
    assert talking.outputs(0).get_by_role("heading").all_inner_texts() == ["Offer"]
    assert talking.outputs(0).get_by_role("button").count() == 0
    outputs_are(talking)
    assert ours(talking) == []


@pytest.mark.parametrize("named", [None, 5, "no such cell", {"a": 1}, EVIL])
def test_without_a_cell_that_is_there_nothing_is_to_be_replaced(talking: OpenNotebook, named: Any) -> None:
    outputs_are(talking, display({"version": 1, "source": EVIL, "before": "'first'", "cell_id": named}))
    wait_until(lambda: offered(talking, 0) == ["Insert below", "Copy"], "the row without Replace")
    outputs_are(talking)
    assert ours(talking) == []


def test_hostile_code_becomes_a_cell_as_it_is_and_nothing_else(talking: OpenNotebook) -> None:
    before = sources(talking)
    bundle = offer_bundle(title=EVIL, source=EVIL, before=before[2], cell_id=cell_id(talking, 2), note=EVIL * 99)
    outputs_are(talking, {"output_type": "display_data", "data": bundle, "metadata": {}})
    assert talking.outputs(0).locator("img, script").count() == 0
    click(talking, 0, "Replace")
    says(talking, 0, "The cell has its new code, not run yet.")
    assert sources(talking) == [*before[:2], EVIL]
    click(talking, 0, "Insert below")
    wait_until(lambda: sources(talking) == [before[0], EVIL, before[1], EVIL], "the cell")
    talking.page.keyboard.press("z")
    source_is(talking, 2, before[2])
    assert (sources(talking), talking.page.evaluate("window.hit")) == (before, None)
    outputs_are(talking)
    assert ours(talking) == []


@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_of_an_offer_runs_or_breaks_the_layout(family: str) -> None:
    texts = FAMILIES[family]

    def offer(text: str) -> str:
        bundle = offer_bundle(title=text, source=f"{text}\n1", before=f"{text}\n2", cell_id=text, note=text)
        return f"<article>{bundle['text/html']}</article>"

    with PlainPages() as pages:
        found, trapped = pages.on(look, content=page_of(texts, lambda turn: offer(turn.request)))
    assert (found, trapped) == ([len(texts), []], [])


# ------------------------------------------------------------------------------------------------ what the kernel asks


def test_cells_of_the_kernel_are_one_step_and_the_first_is_gone_to(talking: OpenNotebook) -> None:
    before, first = sources(talking), cell_id(talking, 0)
    talking.cell(2).locator(".jp-InputArea-editor").click()
    talking.page.keyboard.press("Escape")
    two = [{"cell_type": "code", "source": "x = 1"}, {"cell_type": "code", "source": "x"}]
    answer = asks(talking, op="insert", cells=two, after=first, active=True, id=1)
    assert (answer["ok"], answer["cells"]) == (True, [cell_id(talking, 1), cell_id(talking, 2)])
    assert sources(talking) == [before[0], "x = 1", "x", *before[1:]]
    assert active(talking, 1)
    assert talking.prompt(1) == "[ ]:"
    talking.page.keyboard.press("z")
    wait_until(lambda: sources(talking) == before, "the notebook without them")
    assert ours(talking) == []


def test_whoever_types_goes_on_typing(talking: OpenNotebook) -> None:
    before, first = sources(talking), cell_id(talking, 0)
    talking.cell(2).locator(".jp-InputArea-editor").click()
    here = focus(talking)[:3]
    asks(talking, op="insert", cells=[{"cell_type": "code", "source": "x"}], after=first, active=True, id=1)
    assert focus(talking)[:3] == here
    talking.page.keyboard.type("dd")
    wait_until(lambda: "dd" in sources(talking)[3], "what is typed")
    talking.page.keyboard.press("Control+z")
    talking.page.keyboard.press("Escape")
    talking.page.keyboard.press("z")
    wait_until(lambda: sources(talking) == before, "the notebook as it was")


def test_a_cell_is_replaced_by_the_kernel_while_it_is_what_it_was(talking: OpenNotebook) -> None:
    before, second = sources(talking), cell_id(talking, 1)
    new = {"op": "replace", "cell": second, "source": "'another'", "id": 1}
    assert asks(talking, **new, was="'second' ")["error"] == "the cell was changed since, and is left as it is"
    assert sources(talking) == before
    here = focus(talking)
    assert asks(talking, **new, was="'second'")["ok"] is True
    assert (sources(talking), focus(talking)) == ([before[0], "'another'", before[2]], here)
    assert asks(talking, **{**new, "cell": "c"}, was="")["error"] == "this notebook has no code cell of that id"
    assert asks(talking, **{**new, "source": 5}, was="'another'")["error"] == "source must be text"
    source_is(talking, 1, before[1])
    assert ours(talking) == []


# ------------------------------------------------------------------------------------------------ a kernel with lash_nb

TRIES = "<lash-cell>\nimport statistics\nprint(no_such_name)\n</lash-cell>"
COUNTS = "<lash-cell>\nimport json\nmiddle = statistics.median([3, 1, 2])\nprint(json.dumps(middle))\n</lash-cell>"
FIXES = f"<lash-cell>\n{SOURCE}\n</lash-cell>"


def test_a_turn_becomes_cells_that_run(frontend: Frontend, provider: Provider) -> None:
    """By its button below the turn, and by a line; without what was tried in vain, below the cell that asked."""
    provider.answers += [[TRIES], [COUNTS], ["It is 2."]]
    setup = f"%load_ext lash_nb\n%lash model {provider.model}"
    with frontend.opened([setup, "%%lash\nThe middle?", "%lash insert", "'last'"]) as notebook:
        notebook.run(0)
        notebook.run(1)
        before = sources(notebook)
        click(notebook, 1, "Insert as cells")
        wait_until(lambda: len(sources(notebook)) > 4, "the cells")
        made = sources(notebook)[2:-2]
        assert "no_such_name" not in "".join(made)
        assert "".join(made).count("import statistics") == 1
        assert sources(notebook) == [*before[:2], *made, *before[2:]]
        assert active(notebook, 2)
        notebook.outputs(1).get_by_role("status").get_by_text("below").wait_for()
        shot(notebook.page, f"{frontend.ui}-inserted")
        for number in range(2, 2 + len(made)):
            notebook.run(number)
        notebook.sees(1 + len(made), "2")
        notebook.run(2 + len(made))
        wait_until(lambda: sources(notebook) == [*before[:2], *made, before[2], *made, before[3]], "the cells again")
        assert ours(notebook) == []


def test_a_fixed_cell_replaces_the_one_that_failed_and_runs(frontend: Frontend, provider: Provider) -> None:
    provider.answers += [[FIXES], ["The name was `valued`."]]
    setup = f"%load_ext lash_nb\n%lash model {provider.model}\nvalues = [1, 2, 6]"
    with frontend.opened([setup, BROKEN, "%lash fix"]) as notebook:
        notebook.run(0)
        notebook.run(1)
        notebook.run(2)
        wait_until(lambda: offered(notebook, 2) == BUTTONS, "the offer, and no other buttons")
        shot(notebook.page, f"{frontend.ui}-fixed")
        click(notebook, 2, "Replace")
        wait_until(lambda: sources(notebook)[1] == SOURCE, "the corrected cell")
        assert notebook.asked("print('means' in globals())") == "False\n"
        notebook.run(1)
        notebook.sees(1, "3.0")
        assert ours(notebook) == []
