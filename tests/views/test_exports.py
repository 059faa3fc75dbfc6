"""Executed notebooks where there are no widgets and no script: what nbconvert makes of them, and what GitHub shows."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bleach  # type: ignore[import-untyped]
import nbconvert
import nbformat
import pytest

from lash_nb.machine.activity import ApprovalAsked, ApprovalDecided
from lash_nb.machine.approvals import Approval, Decision, EffectKind, Verdict, Wish
from lash_nb.machine.events import ErrorEvent, MessageEvent
from lash_nb.machine.outcomes import Stopped, TurnStopReason
from lash_nb.machine.picture import TurnPicture
from lash_nb.runner import run_notebook
from lash_nb.views.text import static_bundle

from .turns import answered, asked, ended, picture, stdout, step

v4: Any = nbformat.v4
read: Any = nbformat.read
exporters: Any = nbconvert

LOOKING = """I look at the **sales** first.

<lash-cell>
import pandas as pd
sales = pd.DataFrame({"region": ["north", "south"], "sold": [10, 20]})
print("rows:", len(sales))
sales
</lash-cell>"""
DRAWING = """Now I draw them.

<lash-cell>
import matplotlib.pyplot as plt
sales.plot.bar(x="region")
plt.show()
</lash-cell>"""
FAILING = "Its margin, too.\n\n<lash-cell>\nsales['margin']\n</lash-cell>"
ANSWER = "The **north** sells least:\n\n| place | sold |\n|---|---|\n| northern | 1010 |"

# fmt: off
GITHUB_TAGS = {
    "a", "abbr", "b", "blockquote", "br", "caption", "cite", "code", "dd", "del", "details", "dfn", "div", "dl", "dt",
    "em", "figcaption", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "ins", "kbd", "li", "mark",
    "ol", "p", "picture", "pre", "q", "s", "samp", "small", "span", "strike", "strong", "sub", "summary", "sup",
    "table", "tbody", "td", "tfoot", "th", "thead", "time", "tr", "tt", "ul", "var", "wbr",
}
# fmt: on
GITHUB_ATTRIBUTES = {"a": ["href"], "img": ["alt", "src"], "*": ["align", "colspan", "open", "rowspan", "start"]}
GITHUB_ORDER = ("text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/latex", "text/plain")


def on_github(notebook: Any) -> str:
    """Cells as they stand; of each output the first form in GitHub's order, HTML without style, script and classes."""
    parts = []
    for cell in notebook.cells:
        parts.append(f"<pre>{html.escape(cell.source)}</pre>")
        for output in cell.get("outputs", ()):
            data = output.get("data", {"text/plain": output.get("text", "")})
            kind = next((kind for kind in GITHUB_ORDER if kind in data), None)
            if kind == "text/html":
                parts.append(bleach.clean(data[kind], tags=GITHUB_TAGS, attributes=GITHUB_ATTRIBUTES, strip=True))
            elif kind is not None:
                parts.append(f"[{kind}]" if kind.startswith("image/") else f"<pre>{html.escape(data[kind])}</pre>")
    return "\n".join(parts)


def as_html(notebook: Any) -> str:
    return str(exporters.HTMLExporter().from_notebook_node(notebook)[0])


def as_markdown(notebook: Any) -> str:
    return str(exporters.MarkdownExporter().from_notebook_node(notebook)[0])


EXPORTS = pytest.mark.parametrize("export", [as_html, as_markdown, on_github])
Export = Callable[[Any], str]


def readable(page: str) -> str:
    """The text of a page, its blanks made one."""
    body = re.sub(r"(?s)<head>.*?</head>|<script.*?</script>|<style.*?</style>", "", page)
    return " ".join(html.unescape(re.sub(r"<[^<>]*>", "", body)).split())


def in_order(text: str, *wanted: str) -> None:
    position = 0
    for one in wanted:
        found = text.find(one, position)
        assert found >= 0, f"{one!r} is not behind {text[max(0, position - 300) : position]!r} in {text!r}"
        position = found + len(one)


@pytest.fixture(scope="module")
def executed(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A notebook whose turn drew a table and a plot, and failed once on its way."""
    place = tmp_path_factory.mktemp("executed")
    (place / "script.json").write_text(json.dumps({"turns": {"1": [LOOKING, DRAWING, FAILING, ANSWER]}}))
    cells = ("%load_ext lash_nb\n%lash model scripted:script.json", "%%lash\nWhich region sells least? Draw it.")
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}, "language_info": {"name": "python"}}
    notebook = v4.new_notebook(cells=[v4.new_code_cell(cell) for cell in cells], metadata=kernel)
    (place / "in.ipynb").write_text(v4.writes(notebook), encoding="utf-8")
    result = run_notebook(place / "in.ipynb", place / "out.ipynb")
    assert result.error == ""
    return read(Path(place / "out.ipynb"), as_version=4)


@EXPORTS
def test_a_whole_turn_is_readable(executed: Any, export: Export) -> None:
    page = export(executed)
    in_order(
        readable(page),
        "Which region sells least? Draw it.",
        "Step 1",
        "I look at the sales first.",
        'sales = pd.DataFrame({"region": ["north", "south"], "sold": [10, 20]})',
        "rows: 2",
        "north",
        "20",
        "Step 2",
        "Now I draw them.",
        'sales.plot.bar(x="region")',
        "[image/png",
        "Step 3",
        "Its margin, too.",
        "sales['margin']",
        "an error",
        "KeyError: 'margin'",
        "Answer",
        "The north sells least:",
        "northern",
        "1010",
        "done · 3 cells",
        "scripted",
    )
    # The plot itself, beside what was said of it.
    assert re.search(r"data:image/png;base64|!\[png\]|\[image/png\]", page)


def notebook_of(turn: TurnPicture) -> Any:
    """As a turn's cell is left."""
    output = v4.new_output("display_data", data=static_bundle(turn, with_request=True))
    return v4.new_notebook(cells=[v4.new_code_cell("%%lash\nHow many rows?", outputs=[output])])


CELL = Approval(id="1", effect_id=1, code="import shutil\nshutil.rmtree('data')")
EFFECT = Approval(id="2", effect_id=1, code="save()", wish=Wish(kind=EffectKind.WRITE, target="/srv/table.csv"))
REJECTED = Decision(verdict=Verdict.REJECTED, why="not my <data>!")


def decided(approval: Approval, decision: Decision) -> tuple[ApprovalAsked, ApprovalDecided]:
    return ApprovalAsked(approval=approval), ApprovalDecided(approval=approval, decision=decision)


STOPPED = picture(step(1, prose="Now.", code="loop()")[:-1], ended(Stopped(stop=TurnStopReason.CANCELLED)))
FAILED = picture(
    ErrorEvent(message="It is <busy>."),
    step(1, code="len(df)", outputs=(stdout("3\n"),)),
    ErrorEvent(message="There is no key."),
    ended(Stopped(stop=TurnStopReason.PROVIDER_ERROR)),
)
REFUSED = picture(asked(), *decided(CELL, REJECTED), answered("Then I leave it."))
NOTED = picture(
    MessageEvent(text="The session was resumed.", kind="notice"),
    step(1, code="save()")[:-1],
    *decided(EFFECT, Decision(verdict=Verdict.APPROVED)),
    step(1, code="save()")[-1],
    asked(1),
    *decided(CELL, Decision(verdict=Verdict.EDITED, code="pass")),
    step(2, code="pass")[-2:],
    answered("Saved."),
)
WAITS = picture(step(1, code="len(df)", outputs=(stdout("3\n"),)), asked(1), ApprovalAsked(approval=CELL))
WAITS_WITHIN = picture(step(1, code="save()")[:-1], ApprovalAsked(approval=EFFECT))

TURNS: dict[str, tuple[TurnPicture, tuple[str, ...]]] = {
    "stopped": (STOPPED, ("Step 1", "Now.", "loop()", "not ended", "stopped by you: a cell was running")),
    "failed": (FAILED, ("len(df)", "3", "Error:", "It is <busy>.", "failed: There is no key.")),
    "rejected": (
        REFUSED,
        ("shutil.rmtree('data')", "not run", "You rejected this cell: not my <data>!", "Then I leave it.", "done"),
    ),
    "decided": (
        NOTED,
        (
            *("The session was resumed.", "Step 1", "save()", "You allowed: write /srv/table.csv", "Step 2", "pass"),
            *("You edited this cell before it ran.", "Saved."),
        ),
    ),
    "waiting": (
        WAITS,
        (
            "3",
            "Step 2",
            "shutil.rmtree('data')",
            "Waiting for you: The agent wants to run this cell.",
            "waiting for you",
        ),
    ),
    "waiting within a cell": (
        WAITS_WITHIN,
        ("save()", "Waiting for you: The agent's code wants to write /srv/table.csv.", "waiting for you"),
    ),
}


@EXPORTS
@pytest.mark.parametrize("name", TURNS)
def test_however_it_ended_it_is_readable(name: str, export: Export) -> None:
    turn, wanted = TURNS[name]
    in_order(readable(export(notebook_of(turn))), "How many rows?", "Request", "How many rows?", *wanted)


@pytest.mark.parametrize("name", TURNS)
def test_the_plain_forms_say_the_same(name: str) -> None:
    turn, wanted = TURNS[name]
    bundle = static_bundle(turn, with_request=True)
    in_order(" ".join(str(bundle["text/plain"]).split()), "How many rows?", *wanted)
    in_order(" ".join(html.unescape(str(bundle["text/markdown"])).replace("\\", "").replace("*", "").split()), *wanted)


def test_code_that_no_step_shows_is_shown_with_the_question() -> None:
    other = Approval(id="3", effect_id=1, code="other()", wish=EFFECT.wish)
    bundle = static_bundle(picture(step(1, code="save()")[:-1], ApprovalAsked(approval=other)))
    question = "Waiting for you: The agent's code wants to write /srv/table.csv."
    assert f"{question}\n    other()\n\n[" in str(bundle["text/plain"])
    assert "**Waiting for you: The agent's code wants to write /srv/table.csv.**\n\n```python\nother()\n```" in str(
        bundle["text/markdown"]
    )
    in_order(
        str(bundle["text/html"]), "Waiting for you: The agent&#x27;s code wants", "<pre><code>other()</code></pre>"
    )
