"""The snippet protocol's reader: what is shown while the code is written, and where a cell ends."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.protocols import CellEnded, CellStarted, CodeDelta, StreamEvent
from lash_nb.protocols.snippet_cells import MAX_CODE_CHARS, MAX_CODE_LINES
from lash_nb.protocols.snippet_stream import SnippetStream


def read(*chunks: str) -> tuple[str, bool, list[StreamEvent]]:
    """The code that was shown, whether the reader said stop, and the events with neighbouring code joined."""
    stream = SnippetStream()
    events = [event for chunk in chunks for event in stream.feed(chunk)]
    events += stream.close()
    code = "".join(event.text for event in events if isinstance(event, CodeDelta))
    marks: list[StreamEvent] = [event for event in events if not isinstance(event, CodeDelta)]
    return code, stream.stop, marks


@pytest.mark.parametrize(
    ("text", "code", "stops"),
    [
        ("len(df)", "len(df)", False),
        ("len(df)\n", "len(df)\n", False),
        ("len(df)\n\n", "len(df)\n", True),
        ("len(df)\n\n# request: more\nx", "len(df)\n", True),
        ("len(df)\n# request: more", "len(df)\n", False),
        ("len(df)\n# request: more\n", "len(df)\n", True),
        ("\n\nlen(df)", "len(df)", False),
        ("```python\nlen(df)\n```\nIt counts.", "len(df)\n", True),
        ("```python\na = 1\n\nb = 2\n```\n", "a = 1\n\nb = 2\n", True),
        ("import os\n\nos.getcwd()\n\nmore", "import os\n\nos.getcwd()\n", True),
        ("def f():\n    return 1\n\nf()\n\n", "def f():\n    return 1\n\nf()\n", True),
        ("for x in xs:\n    print(x)\n\n", "for x in xs:\n    print(x)\n", True),
        ("# the rows\nlen(df)\n\n", "# the rows\nlen(df)\n", True),
        ("Here it is:\n\nlen(df)\n\n", "Here it is:\n\nlen(df)\n\n", False),
        ("a = 1\r\nb\r\n\r\n", "a = 1\nb\n", True),
        ("a\rb", "a\rb", False),
        ("`", "`", False),
        ("", "", False),
        ("\n \n", "", False),
    ],
)
def test_where_a_cell_ends(text: str, code: str, stops: bool) -> None:
    shown, stopped, marks = read(text)
    assert (shown.rstrip("\n") if not stops else shown, stopped) == (code.rstrip("\n") if not stops else code, stops)
    assert marks == ([CellStarted()] if code else []) + ([CellEnded()] if stops else [])


def test_code_is_shown_while_it_is_written() -> None:
    stream = SnippetStream()
    assert stream.feed("df") == (CellStarted(), CodeDelta("df"))
    assert stream.feed(".head()") == (CodeDelta(".head()"),)
    assert stream.feed("\n") == (CodeDelta("\n"),)
    assert stream.feed("\n") == (CellEnded(),)
    assert stream.feed("more") == ()


def test_a_reply_without_end_is_stopped() -> None:
    assert read("x" * (2 * MAX_CODE_CHARS))[1]
    assert read("x = 1\n" * MAX_CODE_LINES)[1]


def test_a_call_that_is_made_anew_is_read_anew() -> None:
    stream = SnippetStream()
    stream.feed("```python\nlen(df)\n```\n")
    stream.reset()
    assert not stream.stop
    assert stream.feed("xs") == (CellStarted(), CodeDelta("xs"))


PIECES = st.lists(
    st.sampled_from(
        [
            "len(df)",
            "\n",
            "\n\n",
            "```",
            "```python\n",
            "# request: x",
            "#",
            "`",
            " ",
            "\r\n",
            "\r",
            "import os\n",
            "x = 1",
        ]
    ),
    max_size=12,
)


@given(pieces=PIECES, cuts=st.lists(st.integers(min_value=0, max_value=80), max_size=8))
def test_chunks_make_no_difference(pieces: list[str], cuts: list[int]) -> None:
    text = "".join(pieces)
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    chunks = [text[start:end] for start, end in pairwise(places)]
    assert read(*chunks) == read(text)
    assert read(*text) == read(text)


@pytest.mark.parametrize("endless", ["\n", "# request: more\n", " \n", "```python\n\n", "#\n"])
def test_marks_and_blank_lines_without_end_are_stopped(endless: str) -> None:
    stream = SnippetStream()
    for _ in range(100_000):
        if stream.stop:
            break
        stream.feed(endless)
    assert stream.stop
