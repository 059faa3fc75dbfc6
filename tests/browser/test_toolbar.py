"""What the notebook's toolbar shows of lash_nb: session, model, what runs, what can be resumed; in plain text."""

from __future__ import annotations

from typing import Any

import pytest

from .contrast import unreadable
from .frontend import Frontend, OpenNotebook, wait_until
from .line import asks, carries, shows, sources, tells
from .shots import shot

INTERRUPTED = {"version": 1, "session": "0123456789abcdef", "head": {"turn": 3}, "turns": [{"turn": 1}, {"turn": 2}]}
BUTTON = "lash: turn 3 can be resumed"


def model(notebook: OpenNotebook, code: str) -> Any:
    return notebook.page.evaluate(f"window.jupyterapp.shell.currentWidget.context.model.{code}")


def test_what_the_kernel_says_is_shown(talking: OpenNotebook) -> None:
    item = talking.page.locator(".lash-nb-label")
    tells(talking, session=None)
    shows(talking, "lash · openai:gpt-5")
    tells(talking)
    shows(talking, "lash · session 1 · openai:gpt-5")
    assert item.get_attribute("title") == "Session 5e55\nModel openai:gpt-5"
    assert item.get_attribute("aria-label") == "lash, session 1, openai:gpt-5"
    tells(talking, running=3)
    shows(talking, "lash · session 1 · turn 3 runs")
    carries(talking, INTERRUPTED | {"session": "5e55"})
    shows(talking, "lash · session 1 · turn 3 runs")
    assert item.get_attribute("title") == "Session 5e55\nModel openai:gpt-5\nThe notebook carries 2 finished turns"
    tells(talking)
    shows(talking, "lash · session 1 · openai:gpt-5")
    carries(talking, None)
    tells(talking, session=None, label=None, model=None)
    shows(talking, "")
    # What is not of the form is passed over.
    tells(talking, session=1, label=["2"], model={}, running=True, interrupted=-1)
    tells(talking, session="", label="", model="", running=1.5, interrupted="3")
    shows(talking, "")


def test_a_turn_that_the_kernel_knows_is_resumed_by_a_cell(talking: OpenNotebook) -> None:
    tells(talking, interrupted=3)
    shows(talking, BUTTON)
    talking.cell(0).locator(".jp-InputArea-editor").click()
    button = talking.page.get_by_role("button", name=BUTTON)
    button.click()
    assert sources(talking) == ["'first'", "%lash resume", "'second'", "'third'"]
    assert talking.prompt(1) == "[ ]:"
    assert talking.cell(1).locator(".jp-OutputArea-output").count() == 0
    active = talking.page.locator(".jp-Notebook .jp-mod-active")
    assert active.locator(".jp-InputArea-editor").inner_text().strip() == "%lash resume"
    # Once more: it is there already.
    talking.cell(3).locator(".jp-InputArea-editor").click()
    button.click()
    assert len(sources(talking)) == 4
    assert active.locator(".jp-InputArea-editor").inner_text().strip() == "%lash resume"
    talking.page.keyboard.press("z")
    assert sources(talking) == ["'first'", "'second'", "'third'"]
    tells(talking)
    shows(talking, "lash · session 1 · openai:gpt-5")


def test_a_turn_that_the_notebook_carries_is_resumed_by_a_cell(frontend: Frontend) -> None:
    with frontend.opened(["1", "2"], lash_nb=INTERRUPTED) as notebook:
        shows(notebook, BUTTON)
        notebook.page.set_viewport_size({"width": 1600, "height": 800})
        button = notebook.page.get_by_role("button", name=BUTTON)
        title = str(button.get_attribute("title"))
        for said in (
            "Turn 3 was interrupted",
            "Session 0123456789abcdef",
            "2 finished turns",
            "Nothing runs before you",
        ):
            assert said in title
        item = notebook.page.locator(".lash-nb-item")
        assert unreadable(item) == []
        notebook.change_theme("JupyterLab Dark")
        assert unreadable(item) == []
        notebook.page.screenshot(path=notebook.path.parent / "dark.png")
        button.focus()
        notebook.page.keyboard.press("Enter")
        assert sources(notebook) == ["1", "%load_ext lash_nb\n%lash resume", "2"]

        for mode, text in (("true", "lash · session 01234567"), ("false", BUTTON)):
            model(notebook, f"readOnly = {mode}")
            carries(notebook, INTERRUPTED | {"why": mode})
            shows(notebook, text)
        assert unreadable(item) == []
        carries(notebook, INTERRUPTED | {"head": None})
        shows(notebook, "lash · session 01234567")
        assert unreadable(item) == []
        notebook.change_theme("JupyterLab Light")
        carries(notebook, None)
        shows(notebook, "")
        notebook.page.evaluate("window.jupyterapp.shell.currentWidget.context.revert()")
        shows(notebook, BUTTON)
        notebook.page.screenshot(path=notebook.path.parent / "light.png")
        assert ["comm_info_request" in message for message in notebook.sent if "lash_nb.notebook" in message] == [True]
        assert notebook.errors == []


def test_each_view_of_a_notebook_shows_it(frontend: Frontend, talking: OpenNotebook) -> None:
    item = talking.page.locator(".lash-nb-item")
    tells(talking)
    if frontend.ui == "lab":  # Notebook shows one alone
        talking.page.evaluate("window.jupyterapp.commands.execute('docmanager:clone')")
        wait_until(lambda: item.count() == 2, "the item in both views")
        tells(talking, interrupted=3)
        wait_until(lambda: item.all_inner_texts() == [BUTTON, BUTTON], "the button in both views")
        talking.asked("line.came.clear()")
        assert (
            len(asks(talking, op="insert", cells=[{"cell_type": "code", "source": "4"}], after=None, id=1)["cells"])
            == 1
        )
        assert sources(talking).count("4") == 1
        talking.page.evaluate("window.jupyterapp.shell.currentWidget.close()")
        wait_until(lambda: item.count() == 1, "the item in the view that is left")
        talking.page.evaluate("window.jupyterapp.commands.execute('notebook:undo')")
    tells(talking)
    shows(talking, "lash · session 1 · openai:gpt-5")


@pytest.mark.parametrize(
    ("block", "text"),
    [
        (None, ""),
        ([], ""),
        ("x", ""),
        ({"version": 1}, ""),
        ({"model": "openai:x"}, ""),
        ({"session": 5, "head": {"turn": 1}}, ""),
        ({"session": ["a"], "head": {"turn": 1}}, ""),
        ({"session": "a", "head": {"turn": "<b>1"}}, "lash · session a"),
        ({"session": "a", "head": {"turn": 10**400}}, "lash · session a"),
        ({"session": "a", "head": [1], "turns": "many"}, "lash · session a"),
        ({"session": "a", "head": {"turn": {"toString": 1}}}, "lash · session a"),
        ({"session": "<img src=x onerror=window.hit=1>"}, "lash · session <img src"),
        ({"session": "x" * 1_000_000, "head": {"turn": 7}}, "lash: turn 7 can be resumed"),
        ({"session": "x" * 1_000_000}, "lash · session xxxxxxxx"),
        ({"session": "\u202eevil\u2066\x00\x07\ud83d"}, "lash · session \ufffdevil\ufffd\ufffd\ufffd"),
        ({"session": "a\n\u2028\u00adb"}, "lash · session a \ufffdb"),
    ],
)
def test_a_hostile_notebook_is_shown_harmlessly(talking: OpenNotebook, block: Any, text: str) -> None:
    tells(talking, session=None, label=None, model=None)
    carries(talking, block)
    shows(talking, text)
    for element in talking.page.locator(".lash-nb-item [title]").all():
        assert len(str(element.get_attribute("title"))) < 600
    assert talking.page.locator(".lash-nb-item").locator("img, script, b").count() == 0
    assert talking.page.evaluate("window.hit") is None
    toolbar = talking.page.locator(".jp-NotebookPanel-toolbar").bounding_box()
    assert toolbar is not None
    assert toolbar["height"] < 50
    carries(talking, None)
    shows(talking, "")


def test_a_hostile_kernel_is_shown_harmlessly(talking: OpenNotebook) -> None:
    tells(talking, label="<img src=x onerror=hit()>" * 9, model="m\u202e\n" * 50_000, session="s" * 100_000)
    model = "m\ufffd " * 9 + "…"
    shows(talking, f"lash · session <img src=x onerror=hit()><i… · {model}")
    assert talking.page.evaluate("window.hit") is None
    talking.page.screenshot(path=talking.path.parent / "hostile.png")
    tells(talking, session=None, label=None, model=None)
    shows(talking, "")


WATCH = """() => {
  const bar = document.querySelector(".jp-NotebookPanel-toolbar");
  const ends = performance.now() + 1500;
  window.overlaps = [];
  const look = () => {
    const items = [...bar.children].filter(one => one.getBoundingClientRect().width > 0);
    const ours = items.find(one => one.matches(".lash-nb-item"));
    const at = ours?.getBoundingClientRect();
    // What is cut off is not there, for a click at least.
    if (at && ours.contains(document.elementFromPoint(at.left + 8, at.top + at.height / 2))) {
      if (at.bottom > bar.getBoundingClientRect().bottom) window.overlaps.push("what is below");
      for (const item of items) {
        const other = item.getBoundingClientRect();
        const apart = other.right <= at.left + 0.5 || other.left >= at.right - 0.5 || other.top >= at.bottom;
        if (item !== ours && !apart) window.overlaps.push(item.dataset.jpItemName ?? item.className);
      }
    }
    if (performance.now() < ends) requestAnimationFrame(look);
    else window.watched = true;
  };
  look();
}"""


@pytest.mark.parametrize("width", [1200, 900, 600])
def test_in_a_narrow_window_it_overlaps_nothing(talking: OpenNotebook, width: int) -> None:
    talking.page.set_viewport_size({"width": width, "height": 800})
    try:
        tells(talking, session=None, label=None, model=None)
        shows(talking, "")
        talking.page.evaluate(WATCH)
        for status in ({"running": 1}, {"model": "w" * 50}, {"label": "w" * 50}, {"interrupted": 3}, {"running": 12}):
            tells(talking, **status)
        talking.page.wait_for_function("window.watched")
        assert talking.page.evaluate("window.overlaps") == []
        shot(talking.page, f"toolbar-{width}")
        # Behind all others, also where there is no room for most of them.
        talking.page.set_viewport_size({"width": 1600, "height": 800})
        row = talking.page.locator(".jp-NotebookPanel-toolbar > .jp-Toolbar-item:visible")
        wait_until(lambda: "lash-nb-item" in str(row.last.get_attribute("class")), "the label at the end of the row")
    finally:
        talking.page.set_viewport_size({"width": 1200, "height": 1400})
        tells(talking, session=None, label=None, model=None)
        shows(talking, "")
