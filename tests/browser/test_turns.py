"""A turn on the page: while it runs, at its end, in the file, after a reload, in the dark."""

from __future__ import annotations

from typing import Any

import nbformat

from lash_nb.views.turn_data import TURN_MIME

from .contrast import unreadable
from .frontend import Frontend, OpenNotebook
from .provider import Hold, Provider

FAILING = "First I load the **table**.\n\n<lash-cell>\nimport pandas as pd\npd.read_csv('no.csv')\n</lash-cell>"
DRAWING = """There is none, so I make one.

<lash-cell>
import pathlib, time
import matplotlib.pyplot as plt
import pandas as pd
sales = pd.DataFrame({"region": ["north", "south"], "sold": [10, 20]})
print("waiting", "for", "you")
while not pathlib.Path("go").exists():
    time.sleep(0.05)
sales.plot.bar(x="region")
plt.show()
sales
</lash-cell>"""
ANSWER = "The **north** sells least:\n\n| region | sold |\n|---|---|\n| north | 10 |\n| south | 20 |"


def cells(provider: Provider, *more: str) -> list[str]:
    return [f"%load_ext lash_nb\n%lash model {provider.model}", *more]


def go_on(notebook: OpenNotebook) -> None:
    """What the cell of DRAWING waits for."""
    (notebook.path.parent / "go").touch()


def turn_outputs(cell: Any) -> list[Any]:
    """What a finished cell holds: the place where the live view was is empty."""
    place, *left = cell.outputs
    assert place.data == {"text/html": "", "text/plain": ""}
    assert not place.metadata
    return list(left)


def test_a_turn_from_its_first_word_to_the_file(frontend: Frontend, provider: Provider) -> None:
    speaking, answering = Hold(), Hold()
    provider.answers += [[FAILING[:16], speaking, FAILING[16:]], [DRAWING], [ANSWER[:20], answering, ANSWER[20:]]]
    with frontend.opened(cells(provider, "%%lash\nWhich region sells least? Draw it.", "_.status")) as notebook:
        notebook.run(0)
        notebook.start(1)
        look_while_it_runs(notebook, speaking, answering)
        notebook.ended(1)
        look_at_the_end(notebook)
        notebook.run(2)
        notebook.sees(2, "'done'")
        look_into_the_file(notebook.saved())
        notebook.load()
        look_at_the_end(notebook)
        assert notebook.errors == []


def look_while_it_runs(notebook: OpenNotebook, speaking: Hold, answering: Hold) -> None:
    notebook.sees(1, "First I load the")
    notebook.sees(1, "the model is answering")
    assert notebook.stop_button(1).is_enabled()
    speaking.release()
    notebook.sees(1, "Output: an error")
    notebook.sees(1, "There is none, so I make one.")
    notebook.sees(1, "while not pathlib.Path")
    notebook.sees(1, "waiting for you")
    notebook.sees(1, "running a cell")
    assert notebook.outputs(1).count() == 1
    go_on(notebook)
    notebook.outputs(1).locator("img").wait_for()
    notebook.outputs(1).locator("table.dataframe").wait_for()
    notebook.sees(1, "The **north** sells")  # its Markdown is drawn once it is whole
    answering.release()


def look_at_the_end(notebook: OpenNotebook) -> None:
    """The same with and without the kernel's memory of it."""
    place, bundle, figure = notebook.outputs(1).all()
    box = place.bounding_box()
    assert box is not None
    assert box["height"] == 0
    assert bundle.get_by_role("heading").all_inner_texts() == ["Step 1", "Step 2", "Answer"]
    assert bundle.get_by_text("The north sells least:").count() == 1
    assert bundle.get_by_role("table").count() == 2
    assert "done · 2 cells" in bundle.inner_text()
    image = figure.get_by_role("img")
    assert image.evaluate("image => image.complete && image.naturalWidth > 100")
    assert notebook.page.locator(".jupyter-widgets").count() == 0
    assert notebook.stop_button(1).count() == 0
    assert bundle.get_by_role("button", name="Copy code").is_visible()


def look_into_the_file(saved: Any) -> None:
    formats: Any = nbformat
    formats.validate(saved)
    assert "widgets" not in saved.metadata
    bundle, figure = turn_outputs(saved.cells[1])
    assert set(bundle.data) == {"text/plain", "text/markdown", "text/html", TURN_MIME}
    assert "The **north** sells least:" in bundle.data["text/markdown"]
    [envelope] = saved.metadata["lash_nb"]["turns"]
    assert (envelope["version"], envelope["turn"]) == (1, 1)
    assert envelope["checkpoint"]
    assert bundle.metadata["lash_nb"] == {name: envelope[name] for name in ("session", "turn", "sha256")}
    assert "image/png" in figure.data
    assert not figure.metadata


def test_it_can_be_read_in_the_dark(frontend: Frontend, provider: Provider) -> None:
    provider.answers += [[FAILING], [DRAWING], [ANSWER]]
    with frontend.opened(cells(provider, "%%lash\nWhich region sells least? Draw it.")) as notebook:
        notebook.run(0)
        notebook.change_theme("JupyterLab Dark")
        notebook.start(1)
        notebook.sees(1, "waiting for you")
        assert unreadable(notebook.outputs(1)) == []
        go_on(notebook)
        notebook.ended(1)
        for summary in notebook.outputs(1).locator("details:not([open]) > summary").all()[::-1]:
            summary.click()
        assert unreadable(notebook.outputs(1)) == []


def test_under_other_magics(frontend: Frontend, provider: Provider) -> None:
    provider.answers += [["One."], [DRAWING], ["Two."]]
    with frontend.opened(
        cells(provider, "%%time\n%%lash\none", "%%capture got\n%%lash\ntwo", "got.show()", "%lash")
    ) as notebook:
        notebook.run(0)
        notebook.run(1)
        assert notebook.outputs(1).get_by_text("One.").count() == 1
        notebook.sees(1, "Wall time")
        go_on(notebook)
        notebook.run(2)
        assert notebook.outputs(2).all_inner_texts() == []
        notebook.run(3)
        assert notebook.outputs(3).get_by_text("Two.").count() == 1
        assert notebook.outputs(3).get_by_role("img").count() == 1
        notebook.run(4)
        notebook.sees(4, "2 turns")
        saved = notebook.saved()
        assert [output.metadata["lash_nb"]["turn"] for output in saved.cells[1].outputs if output.get("metadata")] == [
            1
        ]
        assert notebook.errors == []


def test_what_is_too_wide_scrolls_by_itself(frontend: Frontend, provider: Provider) -> None:
    wide = "print('word ' * 500); pd.DataFrame({f'column number {i}': [i] for i in range(60)})[:]"
    provider.answers += [
        [f"<lash-cell>\nimport pandas as pd\npd.options.display.max_columns = 60\n{wide}\n</lash-cell>"]
    ]
    quiet = Hold()
    provider.answers += [["Wait", quiet]]
    with frontend.opened(cells(provider, "%%lash\nShow it.")) as notebook:
        notebook.run(0)
        notebook.start(1)
        notebook.sees(1, "Wait")
        for moment in ("running", "ended"):
            notebook.outputs(1).get_by_role("table").wait_for()
            too_wide = notebook.outputs(1).evaluate_all(
                "outputs => outputs.filter(one => one.querySelector('section')?.scrollWidth > one.clientWidth).length"
            )
            assert too_wide == 0, moment
            quiet.release()
            notebook.ended(1)


def test_short_forms(frontend: Frontend, provider: Provider) -> None:
    provider.answers += [["It is."], ["It was."]]
    with frontend.opened(cells(provider, "%lash ask Is it?", "_.text", "%%lash -q\nWas it?", "_.text")) as notebook:
        for number in range(5):
            notebook.run(number)
        notebook.sees(2, "'It is.'")
        notebook.sees(4, "'It was.'")
        assert notebook.outputs(3).all_inner_texts() == [f"[done · 110 tokens in, 70 out · {provider.model}]"]
        assert notebook.page.locator(".jupyter-widgets").count() == 0
        assert notebook.errors == []
