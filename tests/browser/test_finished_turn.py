"""What a finished turn offers on the page, and turns whose end a page has to put into its cell itself."""

from __future__ import annotations

from typing import Any

import pytest

from tests.line_notebooks import LINE

from .contrast import unreadable
from .frontend import Frontend, OpenNotebook, wait_until
from .line import focus, ours, said, sources

MIME = "application/vnd.lash-nb.turn+json"
CODE = ["import pandas as pd\n", "losers = pd.DataFrame([[1, 2]])  # ünï"]
DATA = {
    "version": 1,
    "turn": 3,
    "cells": [{"language": "python", "code": code, "outcome": "ok"} for code in CODE],
    "answer": "Two of **three**.",
    "variables": [
        {"name": "losers", "type": "DataFrame", "detail": "3 × 4", "new": True},
        {"name": "df", "type": "DataFrame", "detail": "", "new": False},
    ],
}
JOINED = "import pandas as pd\n\nlosers = pd.DataFrame([[1, 2]])  # ünï"
PLAIN = "<h4>Answer</h4><p>Two of <b>three</b>.</p>"
HTML = "<h4>Answer</h4><p onclick='window.hit = 1'>Two of <b>three</b>.<script>window.hit = 1</script></p>"
SHOW = """import json
from IPython.display import publish_display_data
publish_display_data({bundle!r}, {metadata!r})"""
BUTTONS = ["Copy code", "Copy answer", "Insert as cells", "Pull losers", "Pull df"]
AS_IT_RAN = "No kernel has this turn any more: its code is in the cell below as it ran, not run here yet."
MAKES_CELLS = """
def makes_cells(message):
    data = message["content"]["data"]
    line.came.append(data)
    if data.get("op") == "insert":
        told = {"op": "inserted", "id": data["id"], "ok": True}
        cells = [{"cell_type": "code", "source": source} for source in ("import pandas as pd", "losers = 1")]
        line.send(told)
        line.send({"op": "insert", "cells": cells, "after": data["cell"], "active": True, "id": 9})
        line.send({**told, "text": "They are the 2 cells below\u202e."})
line.handle_msg = makes_cells
"""


def bundle(data: Any) -> str:
    """A cell that leaves what a turn leaves."""
    shown = {"text/plain": "Two of three.", "text/html": PLAIN, MIME: data}
    metadata = {"lash_nb": {"session": "s", "turn": 3, "sha256": "0" * 64}}
    return SHOW.format(bundle=shown, metadata=metadata)


def offered(notebook: OpenNotebook, number: int) -> list[str]:
    """The buttons that can be seen in a cell's outputs, by their labels."""
    names: list[str] = (
        notebook.outputs(number)
        .locator("button:visible")
        .evaluate_all("buttons => buttons.map(one => one.getAttribute('aria-label') ?? one.textContent)")
    )
    return names


def click(notebook: OpenNotebook, number: int, name: str) -> None:
    notebook.outputs(number).get_by_role("button", name=name, exact=True).click()


def says(notebook: OpenNotebook, number: int, text: str) -> None:
    """Wait until the row says so, where a screen reader hears it."""
    notebook.outputs(number).get_by_role("status").get_by_text(text, exact=True).wait_for()


def pasted(notebook: OpenNotebook) -> str:
    text: str = notebook.page.evaluate("navigator.clipboard.readText()")
    return text


def test_a_finished_turn_offers_its_code_its_answer_and_its_variables(frontend: Frontend) -> None:
    with frontend.opened([LINE, bundle(DATA), "'last'"]) as notebook:
        notebook.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        notebook.run(1)
        assert offered(notebook, 1) == BUTTONS[:3]  # no lash_nb in the kernel
        assert notebook.outputs(1).get_by_role("heading").all_inner_texts() == ["Answer"]
        notebook.run(0)
        notebook.asked("line.send({'op': 'who'})")
        wait_until(lambda: offered(notebook, 1) == BUTTONS, "Pull once the kernel has lash_nb")
        notebook.sees(1, "New: losers (DataFrame 3 × 4)")
        assert unreadable(notebook.outputs(1)) == []
        copies(notebook)
        pulls(notebook)
        by_keyboard(notebook)
        notebook.page.screenshot(path=notebook.path.parent / "light.png")
        notebook.change_theme("JupyterLab Dark")
        assert unreadable(notebook.outputs(1)) == []
        notebook.page.screenshot(path=notebook.path.parent / "dark.png")
        notebook.change_theme("JupyterLab Light")
        inserts(notebook)
        inserts_what_the_kernel_makes_of_it(notebook)
        notebook.saved()
        assert ours(notebook) == []
        reopened(frontend, notebook)


def copies(notebook: OpenNotebook) -> None:
    click(notebook, 1, "Copy code")
    says(notebook, 1, "The code is on the clipboard.")
    assert pasted(notebook) == JOINED
    click(notebook, 1, "Copy answer")
    says(notebook, 1, "The answer is on the clipboard.")
    assert pasted(notebook) == "Two of **three**."
    # Where the browser knows of no clipboard: over http from elsewhere.
    notebook.page.evaluate("() => void (navigator.clipboard.writeText = () => Promise.reject(new Error('no')))")
    click(notebook, 1, "Copy code")
    says(notebook, 1, "The code is on the clipboard.")
    assert pasted(notebook) == JOINED


def pulls(notebook: OpenNotebook) -> None:
    notebook.asked("line.came.clear()")
    click(notebook, 1, "Pull losers")
    says(notebook, 1, "Pulling losers …")
    [asked] = said(notebook)
    assert (asked["op"], asked["name"]) == ("pull", "losers")
    answer = {"op": "pulled", "id": asked["id"], "ok": True, "text": "losers <b>is</b> here\u202e."}
    notebook.asked(f"line.send({answer | {'id': 'of another page', 'text': 'no'}!r})\nline.send({answer!r})")
    says(notebook, 1, "losers <b>is</b> here\ufffd.")


def by_keyboard(notebook: OpenNotebook) -> None:
    """Keys are for the button on which the focus is, not for the cell."""
    before = sources(notebook)
    notebook.outputs(1).get_by_role("button", name="Copy answer").focus()
    notebook.page.keyboard.press("d")
    notebook.page.keyboard.press("d")
    notebook.page.keyboard.press("Enter")
    says(notebook, 1, "The answer is on the clipboard.")
    notebook.page.keyboard.press("Tab")
    assert notebook.page.evaluate("document.activeElement.textContent") == "Insert as cells"
    assert sources(notebook) == before


def inserts(notebook: OpenNotebook) -> None:
    """A cell below, with the focus, that is not run; it can be taken back. The kernel does not know what to do."""
    before = sources(notebook)
    notebook.asked("line.came.clear()")
    click(notebook, 1, "Insert as cells")
    says(notebook, 1, AS_IT_RAN)
    [asked] = said(notebook)
    assert (asked["op"], asked["turn"], asked["session"]) == ("insert", 3, "s")
    assert sources(notebook) == [*before[:2], JOINED, before[2]]
    assert notebook.prompt(2) == "[ ]:"
    active, selected, mode, *_ = focus(notebook)
    assert notebook.cell(2).evaluate("cell => cell.contains(document.activeElement)")
    assert (selected, mode) == ([active], "command")
    notebook.page.keyboard.press("z")
    wait_until(lambda: sources(notebook) == before, "the notebook without it")


def inserts_what_the_kernel_makes_of_it(notebook: OpenNotebook) -> None:
    """The first of its cells has the focus; all of them are one step to undo."""
    before = sources(notebook)
    notebook.asked(MAKES_CELLS)
    click(notebook, 1, "Insert as cells")
    says(notebook, 1, "They are the 2 cells below\ufffd.")
    assert sources(notebook) == [*before[:2], "import pandas as pd", "losers = 1", before[2]]
    assert notebook.prompt(2) == "[ ]:"
    assert notebook.cell(2).evaluate("cell => cell.contains(document.activeElement)")
    notebook.page.keyboard.press("z")
    wait_until(lambda: sources(notebook) == before, "the notebook without them")


def reopened(frontend: Frontend, notebook: OpenNotebook) -> None:
    """Without a kernel, what needs none is there."""
    place = notebook.path.parent / "again.ipynb"
    place.write_bytes(notebook.path.read_bytes())
    with frontend.on_page(place) as again:
        again.page.evaluate("window.jupyterapp.shell.currentWidget.context.sessionContext.shutdown()")
        wait_until(lambda: offered(again, 1) == BUTTONS[:3], "what needs no kernel")
        click(again, 1, "Copy code")
        says(again, 1, "The code is on the clipboard.")
        click(again, 1, "Insert as cells")
        says(again, 1, AS_IT_RAN)
        assert sources(again)[2] == JOINED
        again.page.evaluate("window.jupyterapp.shell.currentWidget.context.model.readOnly = true")
        again.page.screenshot(path=notebook.path.parent / "no-kernel.png")
        click(again, 1, "Insert as cells")
        says(again, 1, "Nothing was inserted: the notebook is read-only.")
        assert offered(again, 1) == BUTTONS[:2]


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        "x",
        {"version": 2, "turn": 1, "answer": "a"},
        {"version": 1, "turn": "<b>", "cells": {"0": 1}, "answer": ["a"], "variables": "x"},
        {"version": 1, "cells": [None, 1, {"code": 5}, {"language": "python"}], "variables": [None, {"name": {}}]},
    ],
)
def test_where_the_data_are_not_of_the_form_the_bundle_is_there(talking: OpenNotebook, data: Any) -> None:
    shown = {"output_type": "display_data", "data": {"text/html": HTML, MIME: data}, "metadata": {}}
    outputs_are(talking, shown)
    assert talking.outputs(0).get_by_role("heading").all_inner_texts() == ["Answer"]
    assert talking.outputs(0).get_by_role("button").count() == 0
    assert talking.page.evaluate("window.hit") is None
    assert ours(talking) == []


def test_hostile_data_are_shown_harmlessly(talking: OpenNotebook) -> None:
    evil = "<img src=x onerror=window.hit=1>\u202e"
    many = [{"name": f"{evil}{number}" * 99, "type": evil * 999, "detail": evil, "new": evil} for number in range(999)]
    data = {"version": 1, "turn": 10**400, "cells": [{"language": evil, "code": evil}], "answer": evil}
    outputs_are(
        talking,
        {"output_type": "display_data", "data": {"text/html": HTML, MIME: data | {"variables": many}}, "metadata": {}},
    )
    assert offered(talking, 0)[:2] == ["Copy code", "Copy answer"]
    assert talking.outputs(0).get_by_role("listitem").count() == 31
    assert talking.outputs(0).locator("img, script").count() == 0
    assert talking.page.evaluate("window.hit") is None
    box = talking.outputs(0).bounding_box()
    assert box is not None
    assert box["width"] < 1200
    outputs_are(talking)
    assert ours(talking) == []


def outputs_are(notebook: OpenNotebook, *outputs: Any) -> None:
    """Have the first cell show these."""
    notebook.page.evaluate(
        "outputs => window.jupyterapp.shell.currentWidget.content.widgets[0].model.outputs.fromJSON(outputs)",
        list(outputs),
    )
    wait_until(lambda: notebook.outputs(0).count() == len(outputs), "the outputs")


# ------------------------------------------------------------------------------------------- loaded in mid-turn

SETUP = """import asyncio, pathlib
%load_ext lash_nb
import ipywidgets
from IPython.display import publish_display_data
copying = get_ipython().magics_manager.registry["Lash"].sessions.copying"""
TURN = """copying.begin()
cell = get_ipython().get_parent()["metadata"]["cellId"]
print("before the turn")
view = ipywidgets.HTML("it runs")
live = view._repr_mimebundle_()
publish_display_data(live, {}, transient={"display_id": "view"})
copying.turn_shown(cell, live)
while not pathlib.Path("go").exists():
    copying.tell(running=3)
    copying.tell(running=None)
    await asyncio.sleep(0.1)
view.close()
publish_display_data({"text/html": "", "text/plain": ""}, {}, transient={"display_id": "view"}, update=True)
left = [
    ({"text/plain": "the end", "text/html": "<p>the end</p>"}, {"lash_nb": {"session": "s", "turn": 3}}),
    ({"image/png": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
      "text/plain": "Image of step 1"}, {}),
]
for data, metadata in left:
    publish_display_data(data, metadata)
copying.turn_left(cell, [{"output_type": "display_data", "data": d, "metadata": m} for d, m in left])"""
WIDGET = "application/vnd.jupyter.widget-view+json"
EMPTY = ["text/html", "text/plain"]
END = [EMPTY, ["image/png", "text/plain"]]


def shown(notebook: OpenNotebook, number: int = 1) -> list[Any]:
    """The MIME types of the outputs of a cell, and what it printed."""
    outputs: list[Any] = notebook.page.evaluate(
        "number => window.jupyterapp.shell.currentWidget.content.widgets[number]?.model.outputs.toJSON() ?? []", number
    )
    return [sorted(output["data"]) if "data" in output else output["text"] for output in outputs]


def loaded_anew(notebook: OpenNotebook) -> None:
    """The page, while a cell runs."""
    notebook.page.reload()
    notebook.page.wait_for_selector(".jp-Notebook .jp-CodeCell")


@pytest.mark.parametrize("saves", [True, False])
def test_a_page_that_was_loaded_anew_in_mid_turn_has_its_end(frontend: Frontend, saves: bool) -> None:
    with frontend.opened([SETUP, TURN, "'last'"]) as notebook:
        notebook.run(0)
        notebook.start(1)
        notebook.sees(1, "it runs")
        notebook.saved() if saves else None
        loaded_anew(notebook)
        printed = ["before the turn\n"] if saves else []
        wait_until(lambda: len(shown(notebook)) == len(printed) + 1, "the live view")
        assert WIDGET in shown(notebook)[-1]
        notebook.page.screenshot(path=notebook.path.parent / "anew.png")
        (notebook.path.parent / "go").touch()
        wait_until(lambda: shown(notebook) == [*printed, *END], "the end of the turn")
        notebook.is_idle()
        notebook.page.screenshot(path=notebook.path.parent / "ended.png")
        [*_, turn, _] = notebook.saved().cells[1].outputs
        assert (turn.data["text/plain"], turn.metadata) == ("the end", {"lash_nb": {"session": "s", "turn": 3}})
        assert ours(notebook) == []


def test_of_two_pages_each_has_a_turn_once(frontend: Frontend) -> None:
    with frontend.opened([SETUP, TURN, "'last'"]) as notebook:
        notebook.run(0)
        notebook.saved()
        with frontend.on_page(notebook.path) as second:
            notebook.page.bring_to_front()
            notebook.start(1)
            notebook.sees(1, "it runs")
            wait_until(lambda: len(shown(second)) == 1, "the live view on the other page")
            second.sees(1, "it runs")
            (notebook.path.parent / "go").touch()
            notebook.ended(1)
            wait_until(lambda: shown(second) == END, "the end on the other page")
            assert shown(notebook) == ["before the turn\n", EMPTY, *END]
            assert notebook.errors == []
