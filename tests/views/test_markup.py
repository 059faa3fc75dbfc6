"""HTML of outputs, made safe."""

from __future__ import annotations

from html.parser import HTMLParser

import pandas
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.views.markup import safe_markup


@pytest.mark.parametrize(
    ("source", "markup"),
    [
        ("<p>a &amp; b</p>", "<p>a &amp; b</p>"),
        (
            '<table border="1" class="dataframe x"><tr><td colspan=2>1</td></tr></table>',
            '<table border="1" class="dataframe"><tr><td colspan="2">1</td></tr></table>',
        ),
        ('<th scope="row" id="a" style="color:red" onclick="x()">1</th>', '<th scope="row">1</th>'),
        ('<td rowspan="2000" colspan="1e5" class="jp-Dialog">1</td>', "<td>1</td>"),
        ("<style>p { color: red }</style><p>a</p>", "<p>a</p>"),
        ("<div><p>a", "<div><p>a</p></div>"),
        ("</div></details><b>a</b></b></p>", "<b>a</b>"),
        ("<b><i>a</b></i>", "<b><i>a</i></b>"),
        ("a<br/>b<hr>", "a<br>b<hr>"),
        ("<!-- <script>x</script> --><p>a</p>", "<p>a</p>"),
        ("a &lt;script&gt; b", "a &lt;script&gt; b"),
        ("1 < 2", "1 &lt; 2"),
        ("<!-->a<!--->b<!-- c --!>e", "abe"),
        ("<?php 1 ?>a<![CDATA[b]]>c</ d>e", "ace"),
        ("<td title='>' COLSPAN = \"2\" rowspan=&#51;>a", '<td colspan="2" rowspan="3">a</td>'),
        ("<style>a </styles> </STYLE >b", "b"),
    ],
)
def test_what_is_allowed_stays(source: str, markup: str) -> None:
    safe = safe_markup(source)
    assert (safe.markup, safe.whole) == (markup, True)


@pytest.mark.parametrize(
    ("source", "markup"),
    [
        ("<script>alert(1)</script><p>a</p>", "<p>a</p>"),
        ("<script/>alert(1)</script>a", "a"),
        # A browser, too, reads `scr<script` as the name of an unknown tag.
        ("<scr<script>ipt>alert(1)</script>a", "ipt&gt;alert(1)a"),
        ("<p>a</p><script>alert(1)", "<p>a</p>"),
        ('<img src=x onerror="alert(1)">a', "a"),
        ('<a href="javascript:alert(1)">a</a>', "a"),
        ("<iframe src=//e.org>a</iframe>", "a"),
        ("<svg><style><p>a</p></style></svg><b>c</b>", "<b>c</b>"),
        ("<math><mtext></form><form><mglyph>a", "a"),
        ("<details open ontoggle=alert(1)>a", "a"),
        ("<textarea>a</textarea>", "a"),
        ("<template><p>x</p></template>a", "a"),
        # What nothing closes takes the rest with it, as in browsers.
        ("<p>a</p><!-- b <b>c</b>", "<p>a</p>"),
        ("<p>a</p><b title='c><b>d</b>", "<p>a</p>"),
        ("<p>a</p><style>b", "<p>a</p>"),
    ],
)
def test_what_is_not_allowed_goes_and_is_noticed(source: str, markup: str) -> None:
    safe = safe_markup(source)
    assert (safe.markup, safe.whole) == (markup, False)


@pytest.mark.parametrize("source", ["", "<div></div>", "<style>a</style>", "<script>a</script>", " \n "])
def test_nothing_to_see(source: str) -> None:
    safe = safe_markup(source)
    assert (safe.markup, safe.text, safe.whole) == ("", "", False)


def test_depth_is_bounded() -> None:
    safe = safe_markup("<div>" * 10_000 + "a")
    assert safe.markup == "<div>" * 40 + "a" + "</div>" * 40
    assert not safe.whole


def test_a_data_frame_stays_whole() -> None:
    frame = pandas.DataFrame({"name": ["<b>x</b>", "y"], "n": [1, 2]})
    safe = safe_markup(frame.to_html())
    assert safe.whole
    assert '<table border="1" class="dataframe">' in safe.markup
    assert "<td>&lt;b&gt;x&lt;/b&gt;</td>" in safe.markup
    assert "style" not in safe.markup
    assert safe.text.splitlines()[0] == "name"


class Seen(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.depth = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes.update(name for name, _ in attrs)
        self.depth += tag not in {"br", "col", "hr", "wbr"}

    def handle_endtag(self, tag: str) -> None:
        self.depth -= 1
        assert self.depth >= 0


PARTS = st.sampled_from(
    [
        "<",
        ">",
        "/",
        '"',
        "'",
        "=",
        " ",
        "&",
        "&lt;",
        "<!--",
        "-->",
        "<![CDATA[",
        "]]>",
        "<?",
        "script",
        "style",
        "table",
        "<td>",
        "</td>",
        "<b>",
        "</b>",
        "<script>",
        "</script>",
        "<style>",
        "</style>",
        "<img src=x>",
        "onx=1",
        "a",
        "\x00",
    ]
)


@given(st.lists(PARTS, max_size=30).map("".join))
def test_whatever_comes_in_only_what_is_allowed_comes_out_balanced(source: str) -> None:
    seen = Seen()
    seen.feed(safe_markup(source).markup)
    seen.close()
    assert seen.tags <= {"b", "table", "td"}
    assert seen.attributes == set()
    assert seen.depth == 0
