"""Words of the model as Markdown and as HTML."""

from __future__ import annotations

import re

import mistune
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.views.prose import fenced, inert_markdown, prose_html


@pytest.mark.parametrize(
    ("text", "language", "block"),
    [
        ("x = 1", "python", "```python\nx = 1\n```"),
        ("x\n", "", "```\nx\n```"),
        ("", "", "```\n```"),
        ("a ``` b", "", "````\na ``` b\n````"),
        ("`````", "py", "``````py\n`````\n``````"),
        ("x", "py\n</code>", "```\nx\n```"),
    ],
)
def test_a_fence_is_longer_than_any_run_inside(text: str, language: str, block: str) -> None:
    assert fenced(text, language=language) == block


@pytest.mark.parametrize(
    ("text", "markdown"),
    [
        ("**Bold** and `x < 1`", "**Bold** and `x < 1`"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("![x](https://e.org/?secret)", "!\\[x](https://e.org/?secret)"),
        ("[x](https://e.org)", "[x](https://e.org)"),
        ("[x](MAILTO:a@e.org) and [y]\n\n[y]: http://e.org", "[x](MAILTO:a@e.org) and [y]\n\n[y]: http://e.org"),
        # A reader need not know what leads to code.
        ("[x](javascript:a) [`y`](\n&#106;avascript:b)", "[x]\\(javascript:a) [`y`]\\(\n&#106;avascript:b)"),
        ("[x]:\ndata:text/html,a", "[x]\\:\ndata:text/html,a"),
        ("| a | b |\n|---|---|\n| 1 | 2 |", "| a | b |\n|---|---|\n| 1 | 2 |"),
        # One run is left open on its line: everything up to the next blank line is in doubt.
        ("`a\n`<b>`\n\n`<c>`", "`a\n`&lt;b>`\n\n`<c>`"),
        ("``<a>` <b>``", "``<a>` <b>``"),
        ("\\`<b>`", "\\`&lt;b>`"),
        # A cell's border ends inline code.
        ("| ` | <b> ` |", "| ` | &lt;b> ` |"),
        ("```html\n<b>\n```", "```html\n<b>\n```"),
        ("a\n~~~ x`y\n<b> ```\n~~~~\n<c>", "a\n\n````\n<b> ```\n````\n\n&lt;c>"),
        ("1. a\n   ```py\n   x\n     y\n   ```\n2. b", "1. a\n\n```py\nx\n  y\n```\n\n2. b"),
        ("```\nnever closed <b>", "```\nnever closed <b>\n```"),
        ("- ```\n<b>\n```\n<c>", "- ```\n&lt;b>\n\n```\n<c>\n```"),
        ("    ```\n<b>", "    ```\n&lt;b>"),
        ("\x1b[31mred\x1b[0m \u202eevil", "red \\u202eevil"),
        ("", ""),
    ],
)
def test_inert_markdown(text: str, markdown: str) -> None:
    assert inert_markdown(text) == markdown


HOSTILE = st.lists(
    st.sampled_from(
        [
            "<img src=x onerror=a>",
            "![a](http://e.org/x)",
            "`",
            "``",
            "```",
            "~~~",
            "\n",
            "\n\n",
            "    ",
            "- ",
            "1. ",
            "> ",
            "|",
            "\\",
            "*",
            "**",
            "[a](javascript:b)",
            "<!--",
            "-->",
            "a",
            "&",
            "&lt;",
            "#",
            "\t",
            "$$",
            "[x]: http://e.org",
        ]
    ),
    max_size=25,
).map("".join)

render = mistune.create_markdown(escape=False, plugins=["table", "strikethrough"])


@given(HOSTILE)
def test_a_markdown_reader_finds_no_html_and_no_image(text: str) -> None:
    page = render(inert_markdown(text))
    assert isinstance(page, str)
    assert "<img" not in page
    assert "<!--" not in page


@given(HOSTILE)
def test_what_follows_is_not_swallowed(text: str) -> None:
    page = render(f"{inert_markdown(text)}\n\n#### Answer\n")
    assert isinstance(page, str)
    assert "<h4>Answer</h4>" in page


SCROLLS = 'style="overflow-x: auto" tabindex="0"'


@pytest.mark.parametrize(
    ("text", "page"),
    [
        ("# #", "<p># #</p>"),
        ("One.\n\nTwo\nlines.", "<p>One.</p>\n<p>Two\nlines.</p>"),
        ("# Title #\ntext", "<h5>Title</h5>\n<p>text</p>"),
        (
            "- a\n- b\n  more\n3. c\n4. d",
            '<ul><li>a</li><li>b\nmore</li></ul>\n<ol start="3"><li>c</li><li>d</li></ol>',
        ),
        ("> said\n> so", "<blockquote><p>said\nso</p></blockquote>"),
        ("a\n\n---\n\nb", "<p>a</p>\n<hr>\n<p>b</p>"),
        ("```py\na < b\n```", f"<pre {SCROLLS}><code>a &lt; b</code></pre>"),
        ("**`x`** and *y* and 2*3*4", "<p><strong><code>x</code></strong> and <em>y</em> and 2*3*4</p>"),
        ("\\*not\\* <b>", "<p>*not* &lt;b&gt;</p>"),
        (
            "[a *b*](https://e.org/?x=1&y=2)",
            '<p><a href="https://e.org/?x=1&amp;y=2" rel="nofollow noopener noreferrer">a <em>b</em></a></p>',
        ),
        ("[a](javascript:alert(1))", "<p>[a](javascript:alert(1))</p>"),
        ('[a](https://e.org/"onclick=x)', '<p>[a](https://e.org/"onclick=x)</p>'),
        ("![a](https://e.org/x.png)", '<p>!<a href="https://e.org/x.png" rel="nofollow noopener noreferrer">a</a></p>'),
        (
            "| a | b |\n|:--|--:|\n| `1` | **2** |",
            f"<div {SCROLLS}><table><thead><tr><th>a</th><th>b</th></tr></thead>"
            "<tbody><tr><td><code>1</code></td><td><strong>2</strong></td></tr></tbody></table></div>",
        ),
        # Rows have as many cells as the head.
        (
            "|a|\n|-|\n|1|2|3|",
            f"<div {SCROLLS}><table><thead><tr><th>a</th></tr></thead><tbody><tr><td>1</td></tr></tbody></table></div>",
        ),
        ("C:\\temp", "<p>C:\\temp</p>"),
    ],
)
def test_prose_html(text: str, page: str) -> None:
    assert prose_html(text) == page


OURS = {
    "div",
    "p",
    "h5",
    "ul",
    "ol",
    "li",
    "blockquote",
    "hr",
    "pre",
    "code",
    "strong",
    "em",
    "a",
    "table",
    "thead",
    "tbody",
}
OURS |= {"tr", "th", "td"}
TAG = re.compile(r"<(/?)([a-z0-9]+)([^<>]*)>")


@given(HOSTILE)
def test_our_html_has_our_tags_only_and_is_balanced(text: str) -> None:
    page = prose_html(text)
    open_tags: list[str] = []
    for closing, tag, attributes in TAG.findall(page):
        assert tag in OURS
        assert not attributes or re.fullmatch(rf' start="\d+"| {SCROLLS}| href="http[^"]*" rel="[a-z ]*"', attributes)
        if closing:
            assert open_tags.pop() == tag
        elif tag != "hr":
            open_tags.append(tag)
    assert open_tags == []
    assert "<" not in TAG.sub("", page)
    assert "\x00" not in page


@pytest.mark.parametrize("part", ["*", "**a ", "`", "[", "[a](", "# ", "- ", "|", "|-", "~~~ ", " ", "\\", "<b>", "_"])
def test_long_hostile_lines_are_no_trouble(part: str) -> None:
    """They are: with one slow pattern this takes minutes, and the test's own limit ends it."""
    text = part * (200_000 // len(part))
    assert prose_html(text) or not text.strip()
    inert_markdown(text)
