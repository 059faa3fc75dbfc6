"""Replies taken apart, whole and in pieces: what is a cell, what is a mistake, and that chunks do not matter."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.protocols import CellEnded, CellStarted, CodeDelta, ProseDelta, StreamEvent
from lash_nb.protocols.grammar import CellStream, Grammar, Reply, ReplyProblem, parse_reply, render_cell

CELL = "<lash-cell>\nx = 1\n</lash-cell>"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Just an answer.", Reply(prose="Just an answer.")),
        (CELL, Reply(prose="", code="x = 1")),
        (f"I look.\n\n{CELL}\n", Reply(prose="I look.", code="x = 1")),
        (
            "\r\nI look.\r\n<lash-cell>\r\nx = 1\r\ny = 2\r\n</lash-cell>\r\n",
            Reply(prose="I look.", code="x = 1\ny = 2"),
        ),
        ("  <lash-cell>\t\nif x:\n    y\n \t</lash-cell> ", Reply(prose="", code="if x:\n    y")),
        ("<lash-cell>\n\n    \n    x\n\n</lash-cell>", Reply(prose="", code="    x")),
        # Line separators of Unicode are inside a line, so these are no tag lines.
        (
            "<lash-cell>\nx = 'a\u2028</lash-cell>\u2028b'\n</lash-cell>",
            Reply(prose="", code="x = 'a\u2028</lash-cell>\u2028b'"),
        ),
        ("<lash-cell>\nx = 'a\x0cb\x85c\rd'\n</lash-cell>", Reply(prose="", code="x = 'a\x0cb\x85c\rd'")),
        # A tag in the middle of a line is text, in prose and in code.
        ("I use <lash-cell> and such.", Reply(prose="I use <lash-cell> and such.")),
        ("<lash-cell>\nx = '</lash-cell>'\n</lash-cell>", Reply(prose="", code="x = '</lash-cell>'")),
        # A fence in an answer stays an answer.
        ("So:\n```python\nx\n```", Reply(prose="So:\n```python\nx\n```")),
        # A fence inside the tags is a habit, not code.
        ("<lash-cell>\n```python\nx = 1\n```\n</lash-cell>", Reply(prose="", code="x = 1")),
    ],
)
def test_a_reply_is_prose_and_at_most_one_cell(text: str, expected: Reply) -> None:
    assert parse_reply(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"a\n{CELL}\nb\n{CELL}", Reply(prose="a", code="x = 1", problem=ReplyProblem.SEVERAL_CELLS)),
        (f"a\n{CELL}\nThe output is 1.", Reply(prose="a", code="x = 1", problem=ReplyProblem.TEXT_AFTER_CELL)),
        ("a\n<lash-cell>\nx = 1\n", Reply(prose="a", problem=ReplyProblem.UNCLOSED_CELL, draft="x = 1")),
        (
            "a\n<lash-cell>\nx = 1</lash-cell>",
            Reply(prose="a", problem=ReplyProblem.UNCLOSED_CELL, draft="x = 1</lash-cell>"),
        ),
        ("a\n<lash-cell>", Reply(prose="a", problem=ReplyProblem.UNCLOSED_CELL)),
        ("a\n</lash-cell>\nb", Reply(prose="a\nb", problem=ReplyProblem.MISPLACED_TAG)),
        (
            "a\n<lash-cell>x = 1</lash-cell>\n",
            Reply(prose="a", problem=ReplyProblem.MISPLACED_TAG, draft="<lash-cell>x = 1</lash-cell>"),
        ),
        (
            "a: <lash-cell>\nx = 1\n</lash-cell>\n",
            Reply(prose="", problem=ReplyProblem.MISPLACED_TAG, draft="a: <lash-cell>\nx = 1"),
        ),
        (
            "<lash-cell>\nx\n<lash-cell>\ny\n</lash-cell>",
            Reply(prose="", problem=ReplyProblem.MISPLACED_TAG, draft="x\n<lash-cell>\ny"),
        ),
        ("a\n<lash-cell>\n \n</lash-cell>", Reply(prose="a", problem=ReplyProblem.EMPTY_CELL)),
        # A stray closing line before a good cell does not cost the cell.
        (f"</lash-cell>\n{CELL}", Reply(prose="", code="x = 1")),
    ],
)
def test_each_mistake_has_its_name(text: str, expected: Reply) -> None:
    assert parse_reply(text) == expected


def test_a_reply_cut_off_by_the_output_limit_is_truncated_unless_its_cell_is_complete() -> None:
    assert parse_reply("Half an ans", truncated=True).problem is ReplyProblem.TRUNCATED
    assert parse_reply("<lash-cell>\nx = ", truncated=True) == Reply(
        prose="", problem=ReplyProblem.TRUNCATED, draft="x = "
    )
    assert parse_reply(CELL, truncated=True) == Reply(prose="", code="x = 1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Look:\n```python\nx = 1\n```", Reply(prose="Look:", code="x = 1")),
        ("```PY\nx = 1\n```\n", Reply(prose="", code="x = 1")),
        ("```{python}\nx = 1\n```\n", Reply(prose="", code="x = 1")),
        ("```tool_code\nx = 1\n```\n", Reply(prose="", code="x = 1")),
        ("````python\ns = '''\n```\n'''\n````", Reply(prose="", code="s = '''\n```\n'''")),
        ("```text\n```python\n```", Reply(prose="```text\n```python\n```")),
        ("```\nx\n```", Reply(prose="```\nx\n```")),
        ("```sql\nselect 1\n```\n```python\nx\n```", Reply(prose="```sql\nselect 1\n```", code="x")),
        ("```python\nx\n```\n```python\ny\n```", Reply(prose="", code="x", problem=ReplyProblem.SEVERAL_CELLS)),
        ("```python\nx\n```\ndone", Reply(prose="", code="x", problem=ReplyProblem.TEXT_AFTER_CELL)),
        ("```python\nx", Reply(prose="", problem=ReplyProblem.UNCLOSED_CELL, draft="x")),
        (
            "a\n```python x = 1\n```",
            Reply(prose="a", problem=ReplyProblem.MISPLACED_TAG, draft="```python x = 1\n```"),
        ),
        ("```python\n\n```", Reply(prose="", problem=ReplyProblem.EMPTY_CELL)),
        ("Inline ```python``` is text.", Reply(prose="Inline ```python``` is text.")),
    ],
)
def test_the_fence_grammar(text: str, expected: Reply) -> None:
    assert parse_reply(text, "fence") == expected


def test_the_stream_hides_the_cell_and_says_when_to_stop() -> None:
    stream = CellStream()
    assert stream.feed("I look.\n<lash") == (ProseDelta("I look.\n"),)
    assert stream.feed("-cell>") == ()
    assert stream.feed("\nimport os\nx = ") == (CellStarted(), CodeDelta("import os\n"), CodeDelta("x = "))
    assert stream.feed("1\n</lash-cell") == (CodeDelta("1\n"),)
    before = stream.stop
    assert stream.feed(">\nI see that") == (CellEnded(),)
    assert (before, stream.stop) == (False, True)
    assert stream.close() == ()


def test_a_line_that_only_begins_like_a_tag_is_shown_as_soon_as_that_is_clear() -> None:
    stream = CellStream()
    assert stream.feed("  <lash") == ()
    assert stream.feed("-u") == (ProseDelta("  <lash-u"),)
    assert stream.feed("p>") == (ProseDelta("p>"),)


def test_a_closing_line_needs_no_line_end_at_the_end_of_the_stream() -> None:
    stream = CellStream()
    stream.feed("<lash-cell>\nx\n</lash-cell>\r")
    before = stream.stop
    assert stream.close() == (CellEnded(),)
    assert (before, stream.stop) == (False, True)


def test_what_is_held_back_comes_at_the_end() -> None:
    stream = CellStream()
    assert stream.feed("<lash-") == ()
    assert stream.close() == (ProseDelta("<lash-"),)
    assert stream.close() == ()


@pytest.mark.parametrize("grammar", ["tags", "fence"])
def test_a_reset_stream_is_as_new(grammar: Grammar) -> None:
    stream = CellStream(grammar)
    stream.feed(f"a\n{render_cell('x', grammar)}\n```text\r")
    stream.reset()
    assert not stream.stop
    assert stream.feed("b\n") == (ProseDelta("b\n"),)
    assert [*stream.feed(f"{render_cell('y', grammar)}\n")] == [CellStarted(), CodeDelta("y\n"), CellEnded()]


_TAGS = ("<lash-cell>", "</lash-cell>", " <lash-cell>\t", "<lash-cell>x")
_FENCES = ("```python", "```", "````python", "````", "```text", "  ```  ", "`")
_LONG = (" " * 199, " " * 201, "```" + "x" * 250, "<lash-cell>" + " " * 190)
_TEXTS = (*_LONG, "x = 1", "", "\u2028", "\x85", "é <", "</lash", "\ud83d", "a\rb")
LINES = st.sampled_from((*_TAGS, *_FENCES, *_TEXTS))
TEXTS = st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r\n", "\r\r\n", "\u2028", "", "\r"])), max_size=12).map(
    lambda pairs: "".join(line + end for line, end in pairs)
)


def _merged(events: list[StreamEvent]) -> list[StreamEvent]:
    """Neighbouring deltas of one kind as one: what is the same however the text was split."""
    out: list[StreamEvent] = []
    for event in events:
        last = out[-1] if out else None
        if isinstance(event, ProseDelta) and isinstance(last, ProseDelta):
            out[-1] = ProseDelta(last.text + event.text)
        elif isinstance(event, CodeDelta) and isinstance(last, CodeDelta):
            out[-1] = CodeDelta(last.text + event.text)
        else:
            out.append(event)
    return out


@given(TEXTS | st.text(), st.lists(st.integers(0, 200)), st.sampled_from(["tags", "fence"]))
def test_chunks_do_not_matter(text: str, cuts: list[int], grammar: Grammar) -> None:
    whole, pieces = CellStream(grammar), CellStream(grammar)
    expected = _merged([*whole.feed(text), *whole.close()])
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    events: list[StreamEvent] = []
    for start, end in pairwise(places):
        events.extend(pieces.feed(text[start:end]))
    events.extend(pieces.close())
    assert _merged(events) == expected
    assert (pieces.stop, pieces.later_cells, pieces.later_text, pieces.misplaced) == (
        whole.stop,
        whole.later_cells,
        whole.later_text,
        whole.misplaced,
    )


@given(TEXTS, st.sampled_from(["tags", "fence"]))
def test_stopping_at_the_cell_changes_neither_prose_nor_code(text: str, grammar: Grammar) -> None:
    stream, received = CellStream(grammar), ""
    for character in text:
        received += character
        stream.feed(character)
        if stream.stop:
            break
    full, stopped = parse_reply(text, grammar), parse_reply(received, grammar)
    assert (stopped.prose, stopped.code) == (full.prose, full.code)


@given(st.text(), st.sampled_from(["tags", "fence"]))
def test_a_rendered_cell_reads_back(code: str, grammar: Grammar) -> None:
    """History is in the form in which the model must write; only blank lines around a program are not kept."""
    lines = code.replace("\r\n", "\n").split("\n")
    if any(line.strip(" \t\r") in ("<lash-cell>", "</lash-cell>") for line in lines) or "`" in code:
        return
    once = parse_reply(render_cell(code, grammar), grammar).code
    if once is None:
        assert not code.strip()
        return
    assert parse_reply(render_cell(once, grammar), grammar) == Reply(prose="", code=once)
    assert once.strip("\n").strip() == "\n".join(lines).strip()
