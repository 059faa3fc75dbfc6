"""Stop means stop: by our button and by the frontend's own interrupt, while code runs and while the model is quiet."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .frontend import Frontend, OpenNotebook
from .provider import Hold, Provider

SLEEPING = (
    "I take my time.\n\n<lash-cell>\nimport time\nkept = 41\nprint('fast', 'asleep')\ntime.sleep(600)\n</lash-cell>"
)
THINKING = "Let me think about"
WORKING = "<lash-cell>\nkept + 1\n</lash-cell>"

Stopping = Callable[[OpenNotebook, int], None]

WAYS: dict[str, Stopping] = {
    "button": lambda notebook, number: notebook.stop_button(number).click(),
    "shortcut": lambda notebook, number: notebook.interrupt_by_shortcut(),
    "menu": lambda notebook, number: notebook.interrupt_by_menu(),
}


def is_kept(notebook: OpenNotebook, number: int, *texts: str) -> None:
    """The partial turn stands there, once, with its end in words; nothing is left to click."""
    for text in texts:
        notebook.sees(number, text)
    assert notebook.outputs(number).get_by_role("heading", name="Step 1").count() == 1
    assert notebook.page.locator(".jupyter-widgets").count() == 0


@pytest.mark.parametrize(
    ("way", "above"),
    [
        pytest.param("button", "", id="button, awaited"),
        pytest.param("shortcut", "", id="shortcut, awaited"),
        pytest.param("button", "%%time\n", id="button, blocking"),
        pytest.param("menu", "%%time\n", id="menu, blocking"),
    ],
)
def test_a_turn_is_stopped(frontend: Frontend, provider: Provider, way: str, above: str) -> None:
    stop = WAYS[way]
    provider.answers += [[SLEEPING], [THINKING, Hold()], [WORKING], ["It is 42."]]
    setup = f"%load_ext lash_nb\n%lash model {provider.model}"
    cells = [setup, f"{above}%%lash\nsleep", "%lash", f"{above}%%lash\nthink", "%lash", f"{above}%%lash\nwork"]
    with frontend.opened(cells) as notebook:
        notebook.run(0)

        notebook.start(1)
        notebook.sees(1, "fast asleep")
        stop(notebook, 1)
        notebook.ended(1)
        is_kept(notebook, 1, "I take my time.", "Output: interrupted", "stopped by you: a cell was running ·")
        notebook.run(2)
        notebook.sees(2, "kernel: python, alive")

        notebook.start(3)
        notebook.sees(3, THINKING)
        stop(notebook, 3)
        notebook.ended(3)
        is_kept(notebook, 3, THINKING, "stopped by you: the model was answering ·")
        notebook.run(4)
        notebook.sees(4, "2 turns")

        notebook.run(5)
        notebook.sees(5, "It is 42.")

        saved = notebook.saved()
        copies = [output.metadata for cell in saved.cells for output in cell.outputs if output.get("metadata")]
        assert [copy["lash_nb"]["turn"] for copy in copies] == [1, 2, 3]
        assert notebook.errors == []


def test_run_all_ends_at_a_stopped_turn(frontend: Frontend, provider: Provider) -> None:
    provider.answers += [[SLEEPING], ["It went on."]]
    setup = f"%load_ext lash_nb\n%lash model {provider.model}"
    with frontend.opened([setup, "%%lash\nsleep", "%%lash\ngo on"]) as notebook:
        notebook.run_all()
        notebook.sees(1, "fast asleep")
        notebook.stop_button(1).click()
        notebook.ended(1)
        notebook.is_idle()
        assert notebook.prompt(2) == "[ ]:"
        assert notebook.outputs(2).count() == 0
