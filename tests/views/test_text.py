"""The static bundle, to the character."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace

import pytest

from lash_nb.errors import LashError
from lash_nb.machine.attachments import AttachmentRef, AttachmentWriter
from lash_nb.machine.events import (
    CodeDelta,
    ErrorEvent,
    MessageEvent,
    ReasoningDelta,
    TextDelta,
    TokenUsageEvent,
    TurnStarted,
)
from lash_nb.machine.execution import CellOutcome, CellOutput, DisplayOutput, ErrorOutput, ResultOutput, StreamOutput
from lash_nb.machine.llm import LlmUsage
from lash_nb.machine.outcomes import FinalValue, Finished, Stopped, TurnStopReason
from lash_nb.machine.wire import Json
from lash_nb.views.text import figures, picture_markdown, picture_text, static_bundle

from .turns import PNG, answered, asked, ended, picture, stdout, step, whole_turn

TABLE = "<style>x</style><table><tr><td>1</td></tr></table>"
IMAGE = DisplayOutput(data={"image/png": PNG, "text/plain": "<Figure>"}, metadata={})


def display(data: Mapping[str, Json]) -> DisplayOutput:
    return DisplayOutput(data=data, metadata={})


def test_plain_text_is_complete() -> None:
    assert picture_text(whole_turn()) == (
        "── Step 1 ──\n\n"
        "I look at it.\n\n"
        "Code:\n    df['profit']\n\n"
        "Output (an error):\n    Traceback\n    KeyError: 'profit'\n\n"
        "── Step 2 ──\n\n"
        "So it is called margin.\n\n"
        "Code:\n    len(df)\n\n"
        "Output:\n    3\n\n"
        "── Answer ──\n\n"
        "There are **3** rows.\n\n"
        "[done · 2 cells · scripted]"
    )


def test_markdown() -> None:
    assert picture_markdown(whole_turn()) == (
        "#### Step 1\n\n"
        "I look at it.\n\n"
        "```python\ndf['profit']\n```\n\n"
        "Output (an error):\n\n```\nTraceback\nKeyError: 'profit'\n```\n\n"
        "#### Step 2\n\n"
        "So it is called margin.\n\n"
        "```python\nlen(df)\n```\n\n"
        "Output:\n\n```\n3\n```\n\n"
        "#### Answer\n\n"
        "There are **3** rows.\n\n"
        "*done · 2 cells · scripted*"
    )


INSET = '<div style="margin-left: 1.2em; overflow-x: auto" tabindex="0">'


def test_html() -> None:
    assert static_bundle(whole_turn())["text/html"] == (
        '<div style="overflow-wrap: break-word">\n'
        '<section aria-label="Step 1"><h4>Step 1</h4>\n'
        "<p>I look at it.</p>\n"
        f"<details><summary>Code (python, 1 line)</summary>{INSET}"
        "<pre><code>df[&#x27;profit&#x27;]</code></pre></div></details>\n"
        f"<details><summary>Output: an error</summary>{INSET}"
        '<pre style="white-space: pre-wrap">Traceback\nKeyError: &#x27;profit&#x27;</pre></div></details></section>\n'
        '<section aria-label="Step 2"><h4>Step 2</h4>\n'
        "<p>So it is called margin.</p>\n"
        f"<details><summary>Code (python, 1 line)</summary>{INSET}<pre><code>len(df)</code></pre></div></details>\n"
        f"<details open><summary>Output</summary>{INSET}"
        '<pre style="white-space: pre-wrap">3</pre></div></details></section>\n'
        '<section aria-label="Answer"><h4>Answer</h4><p>There are <strong>3</strong> rows.</p></section>\n'
        "<p><small>done · 2 cells · scripted</small></p>\n"
        "</div>"
    )


def test_the_bundle_has_three_forms() -> None:
    assert sorted(static_bundle(whole_turn())) == ["text/html", "text/markdown", "text/plain"]


def test_a_mere_answer_has_no_headings() -> None:
    bundle = static_bundle(picture(answered("Hello.")))
    assert bundle["text/plain"] == "Hello.\n\n[done · scripted]"
    assert bundle["text/markdown"] == "Hello.\n\n*done · scripted*"
    assert "<h4>" not in str(bundle["text/html"])


def test_durations_are_not_in_it() -> None:
    slow = picture(step(1, code="1", duration_ms=5000), answered("1"))
    assert static_bundle(slow) == static_bundle(picture(step(1, code="1", duration_ms=1), answered("1")))


def test_the_request_is_in_it_when_asked_for() -> None:
    bundle = static_bundle(whole_turn(), with_request=True)
    assert str(bundle["text/plain"]).startswith("Request:\n    How many rows?\n\n── Step 1 ──")
    assert str(bundle["text/markdown"]).startswith("#### Request\n\n```\nHow many rows?\n```\n\n#### Step 1")
    assert "<h4>Request</h4>" in str(bundle["text/html"])
    assert "How many rows?" not in str(static_bundle(whole_turn()))


def test_tokens_are_in_the_last_line() -> None:
    usage = LlmUsage(input_tokens=1000, output_tokens=20, cache_read_input_tokens=200)
    turn = picture(TokenUsageEvent(protocol_iteration=0, usage=usage, cumulative=usage), answered("1"))
    assert picture_text(turn).endswith("[done · 1,200 tokens in, 20 out · scripted]")


def test_a_value_is_shown() -> None:
    turn = picture(step(1, code="finish()"), ended(Finished(finish=FinalValue(value={"a": [1, "<b>"]}))))
    bundle = static_bundle(turn)
    value = '{\n  "a": [\n    1,\n    "<b>"\n  ]\n}'
    assert f"── Result ──\n\n{value}" in str(bundle["text/plain"])
    assert f"#### Result\n\n```\n{value}\n```" in str(bundle["text/markdown"])
    assert "&lt;b&gt;" in str(bundle["text/html"])


@pytest.mark.parametrize(
    ("outcome", "words"),
    [
        (CellOutcome.DEAD, "the kernel died"),
        (CellOutcome.INTERRUPTED, "interrupted"),
        (CellOutcome.TIMEOUT, "out of time"),
        (CellOutcome.LOST, "lost"),
        (CellOutcome.ABORTED, "not run"),
    ],
)
def test_how_a_cell_ended_is_said(outcome: CellOutcome, words: str) -> None:
    bundle = static_bundle(picture(step(1, code="1", outcome=outcome, detail="Killed by <9>."), answered("1")))
    assert f"Output: {words}\n\nKilled by <9>." in str(bundle["text/plain"])
    assert f"Output ({words}):\n\nKilled by &lt;9&gt;." in str(bundle["text/markdown"])
    assert f"<p><em>Output: {words}</em></p><p>Killed by &lt;9&gt;.</p>" in str(bundle["text/html"])


def test_a_stopped_turn() -> None:
    started = step(1, prose="Now.", code="while True: pass")[:-1]
    turn = picture(started, ended(Stopped(stop=TurnStopReason.CANCELLED)))
    assert picture_text(turn) == (
        "── Step 1 ──\n\nNow.\n\nCode:\n    while True: pass\n\nOutput: not ended\n\n"
        "[stopped by you: a cell was running · 1 cell · scripted]"
    )


def test_an_error_is_told_once() -> None:
    first, last = ErrorEvent(message="Some <b>trouble</b>."), ErrorEvent(message="No key.")
    turn = picture(first, last, ended(Stopped(stop=TurnStopReason.PROVIDER_ERROR)))
    bundle = static_bundle(turn)
    assert bundle["text/plain"] == "Error: Some <b>trouble</b>.\n\n[failed: No key. · scripted]"
    assert bundle["text/markdown"] == ("**Error:** Some &lt;b&gt;trouble&lt;/b&gt;.\n\n*failed: No key. · scripted*")
    assert "<p><strong>Error:</strong> Some &lt;b&gt;trouble&lt;/b&gt;.</p>" in str(bundle["text/html"])


def test_notes_stand_in_their_places() -> None:
    def note(text: str) -> MessageEvent:
        return MessageEvent(text=text, kind="notice")

    turn = picture(note("before *it*"), step(1, code="1"), note("between"), answered("2"))
    text, markdown, page = picture_text(turn), picture_markdown(turn), str(static_bundle(turn)["text/html"])
    assert text.index("before") < text.index("Step 1") < text.index("between") < text.index("Answer")
    assert "*before \\*it\\**" in markdown
    assert page.index("<em>before") < page.index("Step 1") < page.index("<em>between") < page.index("Answer")


def test_reasoning_is_folded_away_in_html() -> None:
    turn = picture(
        asked(), ReasoningDelta(content="hm <i>"), TextDelta(content="x"), ended(Stopped(stop=TurnStopReason.MAX_TURNS))
    )
    bundle = static_bundle(turn)
    assert "<details><summary>Reasoning</summary><p>hm &lt;i&gt;</p></details>" in str(bundle["text/html"])
    assert "hm" not in str(bundle["text/plain"])


# -- outputs -----------------------------------------------------------------------------------------------------------


def of_outputs(*outputs: CellOutput) -> dict[str, str]:
    bundle = static_bundle(picture(step(1, code="1", outputs=outputs), answered("1")))
    return {mime: str(value) for mime, value in bundle.items()}


def test_an_image_is_shown_and_named() -> None:
    bundle = of_outputs(IMAGE)
    size = len(base64.b64decode(PNG))
    assert f"Output:\n    [image/png {size} bytes]" in bundle["text/plain"]
    assert f"`[image/png {size} bytes]`" in bundle["text/markdown"]
    assert PNG not in bundle["text/markdown"]
    assert (
        f'<details open><summary>Output</summary>{INSET}<p><img src="data:image/png;base64,{PNG}" '
        f'alt="Image of step 1 (image/png {size} bytes)" style="max-width: 100%"></p></div></details>'
    ) in bundle["text/html"]


def test_images_can_stand_beside_the_bundle() -> None:
    turn = picture(step(1, code="1", outputs=(IMAGE, stdout("x"))), step(2, code="2", outputs=(IMAGE,)), answered("1"))
    bundle = static_bundle(turn, images=False)
    assert "<p>[image/png 70 bytes, below]</p>" in str(bundle["text/html"])
    assert "data:" not in str(bundle["text/html"])
    assert figures(turn) == (
        {"image/png": PNG, "text/plain": "Image of step 1 (image/png 70 bytes)"},
        {"image/png": PNG, "text/plain": "Image of step 2 (image/png 70 bytes)"},
    )


def test_svg_is_an_image_in_which_no_script_runs() -> None:
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    page = of_outputs(display({"image/svg+xml": svg}))["text/html"]
    assert f'<img src="data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"' in page
    assert "<script" not in page
    turn = picture(step(1, code="1", outputs=(display({"image/svg+xml": svg}),)), answered("1"))
    assert figures(turn) == ()
    assert "<img" in str(static_bundle(turn, images=False)["text/html"])


def test_the_html_can_stand_in_markdown() -> None:
    """A blank line would end it there, and the rest would be read as Markdown."""
    text = "a\n\n  \n<b>\n\n\nc"
    turn = picture(step(1, prose=text, code=text, outputs=(stdout(text), display({"text/html": "<p>a\n\nb</p>"}))))
    page = str(static_bundle(turn)["text/html"])
    assert all(line.strip() for line in page.split("\n"))
    assert "<code>a&#10;&#10;  \n&lt;b&gt;&#10;&#10;\nc</code>" in page


@pytest.mark.parametrize("data", ['"><script>alert(1)</script>', "not base64!", 7])
def test_a_broken_image_is_not_shown(data: Json) -> None:
    page = of_outputs(display({"image/png": data, "text/plain": "<Figure>"}))["text/html"]
    assert "<img" not in page
    assert "&lt;Figure&gt;" in page


def test_a_table_is_shown_without_its_style() -> None:
    bundle = of_outputs(ResultOutput(data={"text/html": TABLE, "text/plain": "  1"}, metadata={}))
    assert "<div><table><tr><td>1</td></tr></table></div>" in bundle["text/html"]
    assert "Output:\n      1" in bundle["text/plain"]
    assert "```\n  1\n```" in bundle["text/markdown"]


def test_html_that_loses_something_is_shown_as_text() -> None:
    page = of_outputs(display({"text/html": "<p>a</p><script>alert(1)</script>", "text/plain": "Figure()"}))[
        "text/html"
    ]
    assert '<pre style="white-space: pre-wrap">Figure()</pre>' in page


def test_html_without_a_twin_is_shown_as_far_as_it_is_safe() -> None:
    bundle = of_outputs(display({"text/html": "<p>a</p><script>alert(1)</script>"}))
    assert "<div><p>a</p></div>" in bundle["text/html"]
    assert "Output:\n    a" in bundle["text/plain"]


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ({"text/latex": "$x<1$"}, "$x&lt;1$"),
        ({"text/markdown": "<b>"}, "&lt;b&gt;"),
        ({"application/json": {"a": 1}}, "{\n  &quot;a&quot;: 1\n}"),
        ({"text/plain": ["a\n", "b"]}, "a\nb"),
        ({"application/pdf": "AAAA", "x/<y>": "a" * 2048}, "[application/pdf 4 bytes, x/&lt;y&gt; 2 KB]"),
    ],
)
def test_anything_else_is_text(data: Mapping[str, Json], shown: str) -> None:
    assert f'<pre style="white-space: pre-wrap">{shown}</pre>' in of_outputs(display(data))["text/html"]


@pytest.mark.parametrize("data", [{}, {"text/plain": ""}])
def test_an_empty_bundle_shows_nothing(data: Mapping[str, Json]) -> None:
    assert "Output" not in of_outputs(display(data))["text/plain"]


def test_terminal_codes_and_control_characters_are_gone() -> None:
    red = "\x1b[31mred\x1b[0m\x07 \x1b]8;;http://e.org\x07link\x1b]8;;\x07 \u202e"
    bundle = of_outputs(stdout(red), ErrorOutput(ename="E", evalue="\x1b[1mv", traceback=()))
    for text in bundle.values():
        assert "\x1b" not in text
        assert "red link \\u202e" in text
        assert "E: v" in text


def test_what_was_cut_is_counted() -> None:
    cut = StreamOutput(name="stdout", head="a", tail="b", omitted_chars=12345, omitted_lines=67)
    assert "    a\n    [… 12,345 characters (67 lines) left out …]\n    b" in of_outputs(cut)["text/plain"]
    long = of_outputs(stdout("a" * 7_000 + "\n" * 50 + "b" * 3_000))["text/plain"]
    assert "aa\n    [… 50 characters (50 lines) left out …]\n    bb" in long


def test_many_lines_are_closed_at_first() -> None:
    assert "<details><summary>Output</summary>" in of_outputs(stdout("a\n" * 30))["text/html"]
    assert "<details open><summary>Output</summary>" in of_outputs(stdout("a\n" * 20))["text/html"]


HOSTILE = [
    "</pre></code></details></section><script>alert(1)</script>",
    "```\n<script>alert(1)</script>\n````\n# Title",
    "<img src=x onerror=alert(1)>",
    "![x](http://e.org/?q)",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_executes_wherever_it_stands(text: str) -> None:
    turn = picture(
        MessageEvent(text=text, kind="notice"),
        step(1, prose=text, code=text, outputs=(stdout(text), display({"text/html": text})), detail=text),
        ErrorEvent(message=text),
        asked(),
        TextDelta(content=text),
        ended(Stopped(stop=TurnStopReason.MAX_TURNS)),
    )
    bundle = static_bundle(replace(turn, request=text, model=text, answer=text), with_request=True)
    page = str(bundle["text/html"])
    assert "<script" not in page
    assert "<img" not in page
    assert page.count("<section") == page.count("</section>") == 4
    assert page.count("<details") == page.count("</details>")
    # In the Markdown, code stands as it is, in a fence that is longer than any run in it.
    assert str(bundle["text/markdown"]).count("#### ") == 4


# -- nbformat and the store --------------------------------------------------------------------------------------------


class OneImage:
    """A store that holds one image, or has lost it."""

    def __init__(self, data: bytes | None) -> None:
        self._data = data

    def put(self, data: bytes, *, media_type: str, label: str | None = None) -> AttachmentRef:
        raise LashError("read only")

    def get(self, ref: AttachmentRef) -> bytes:
        if self._data is None or ref.id != "sha256:1":
            raise LashError("lost")
        return self._data

    def writer(self, *, media_type: str, label: str | None = None) -> AttachmentWriter:
        raise LashError("read only")


@pytest.mark.parametrize(
    ("store", "size", "shown"),
    [(OneImage(b"abc"), 3, True), (OneImage(None), 3, False), (None, 3, False), (OneImage(b"abc"), 2**30, False)],
)
def test_large_images_come_back_from_the_store(store: OneImage | None, size: int, shown: bool) -> None:
    note: Json = {"spilled": {"image/png": {"id": "sha256:1", "media_type": "image/png", "byte_len": size}}}
    output = DisplayOutput(data={"text/plain": "[image/png: kept]"}, metadata={"lash_nb": note})
    turn = picture(step(1, code="1", outputs=(output,)), answered("1"))
    page = str(static_bundle(turn, store=store)["text/html"])
    assert ('src="data:image/png;base64,YWJj"' in page) == shown
    assert ("[image/png: kept]" in page) != shown


def test_code_that_was_being_written_when_the_turn_was_stopped_is_kept() -> None:
    written = (asked(), TextDelta(content="Now."), CodeDelta(content="for row in"), CodeDelta(content=" rows:"))
    turn = picture(*written, ended(Stopped(stop=TurnStopReason.CANCELLED)))
    assert picture_text(turn) == (
        "── Step 1 ──\n\nNow.\n\nCode:\n    for row in rows:\n\nOutput: not run\n\n"
        "[stopped by you: the model was answering · scripted]"
    )
    assert "<pre><code>for row in rows:</code></pre>" in str(static_bundle(turn)["text/html"])
    assert turn.steps[0].code is None


def test_what_is_run_takes_the_place_of_what_was_written() -> None:
    turn = picture(asked(), CodeDelta(content="1 +"), *step(1, code="1 + 1")[1:], answered("2"))
    assert "Code:\n    1 + 1\n" in picture_text(turn)
    assert "1 +\n" not in picture_text(turn)


def test_the_code_of_a_small_model_stands_open() -> None:
    """It may be wrong without noticing: what it ran is to be seen without a click."""
    cell = step(1, code="df.size")
    by_code = picture(TurnStarted(turn=2, request="rows?", model="m"), *cell, answered("28"))
    by_snippet = picture(TurnStarted(turn=2, request="rows?", model="m", protocol="snippet"), *cell, answered("28"))
    assert "<details><summary>Code" in static_bundle(by_code)["text/html"]  # type: ignore[operator]
    assert "<details open><summary>Code" in static_bundle(by_snippet)["text/html"]  # type: ignore[operator]
