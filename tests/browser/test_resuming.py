"""The notebook's kernel is killed in mid-turn: the turn goes on in the next one, on the page."""

from __future__ import annotations

from .frontend import IN_LAB, Frontend, OpenNotebook, wait_until
from .provider import Provider

pytestmark = IN_LAB

SETUP = """import os, pathlib
pathlib.Path('pid').write_text(str(os.getpid()))
%load_ext lash_nb
%lash model {model}"""
SLOW = """It takes a while.

<lash-cell>
import pathlib, time
with open("ran", "a") as file:
    file.write("once ")
while not pathlib.Path("go").exists():
    time.sleep(0.05)
print("awake", "again")
</lash-cell>"""
ANSWER = "It is **over**."


def test_a_turn_goes_on_after_its_kernel_was_killed(frontend: Frontend, provider: Provider) -> None:
    provider.answers += [[SLOW], [ANSWER]]
    setup = SETUP.format(model=provider.model)
    with frontend.opened([setup, "%%lash\nTake your time.", "turn = %lash resume", "turn.text", "%lash"]) as notebook:
        place = notebook.path.parent
        notebook.run(0)
        notebook.start(1)
        wait_until((place / "ran").exists, "the agent's cell")
        notebook.kernel_dies(int((place / "pid").read_text()))

        notebook.run(0)
        notebook.sees(0, "earlier session of this notebook: turn 1 was interrupted")
        notebook.start(2)
        look_at_what_is_asked(notebook)
        (place / "go").touch()
        notebook.answer(2, "y")
        notebook.ended(2)
        look_at_the_end(notebook)
        assert (place / "ran").read_text() == "once "

        notebook.run(3)
        notebook.sees(3, ANSWER)
        notebook.run(4)
        notebook.sees(4, "kernel: python, alive")
        notebook.page.screenshot(path=place / "resumed.png")
        copies = [output.metadata for output in notebook.saved().cells[2].outputs if output.get("metadata")]
        assert [copy["lash_nb"]["turn"] for copy in copies] == [1]


def look_at_what_is_asked(notebook: OpenNotebook) -> None:
    """In full, before anything runs."""
    for text in ("Turn 1 was interrupted. It was asked:", "Take your time.", 'open("ran", "a")'):
        notebook.sees(2, text)
    notebook.cell(2).locator(".jp-Stdin").get_by_text("Go on with it? [y/N]").wait_for()


def look_at_the_end(notebook: OpenNotebook) -> None:
    """The whole turn, once, with what was done before the crash and after it."""
    for text in ("Take your time.", "It takes a while.", "awake again", "It is over."):
        notebook.sees(2, text)
    assert notebook.outputs(2).get_by_role("heading", name="Step 1").count() == 1
    assert notebook.cell(2).locator(".jupyter-widgets").count() == 0
    assert notebook.stop_button(2).count() == 0
