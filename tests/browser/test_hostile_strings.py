"""Hostile strings in every place of a turn, in a real browser: none runs, none loads, none breaks the layout."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import pytest
from nbconvert.filters.markdown_mistune import markdown2html_mistune
from playwright.sync_api import Page

from lash_nb.machine.picture import TurnPicture
from lash_nb.views.text import static_bundle
from tests.views.hostile_strings import FAMILIES, HUGE
from tests.views.hostile_turns import everywhere

from .plain_pages import MARKERS, PlainPages

Renderer: TypeAlias = Callable[[TurnPicture], str]
"""Draws a turn as markup, to stand in a page of `page_of`."""

_HEAD = """<!DOCTYPE html><html><head><title>ours</title><style>
body { margin: 8px; font: 14px sans-serif }
article.text { overflow-wrap: break-word }
article.text pre, article.text table { display: block; overflow-x: auto }
</style></head><body>"""

_LOOK = """() => {
  for (const details of document.querySelectorAll("details")) details.open = true;
  const found = [];
  for (const element of document.querySelectorAll("body, body *")) {
    const tag = element.localName;
    for (const { name, value } of element.attributes) {
      const acts = /^on|^(srcdoc|action|formaction|ping|background|srcset|data|poster)$/.test(name);
      const leads = name.endsWith("href") && !/^(https?:|mailto:|#)/i.test(value);
      const loads = name === "src" && !/^data:image\\//.test(value);
      if (acts || leads || loads) found.push(`${tag} ${name}=${value.slice(0, 200)}`);
    }
    if (/^(script|style|iframe|object|embed|svg|math|meta|base|link|form|input|template)$/.test(tag)) found.push(tag);
  }
  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) {
    const wide = [...document.querySelectorAll("article")].filter(one => one.scrollWidth > one.clientWidth);
    found.push(`as wide as ${root.scrollWidth}: ${wide.map(one => one.id)}`);
  }
MARKERS
  if (markers.length !== document.querySelectorAll("article").length) found.push("there are more or fewer turns");
  if (document.title !== "ours" || window.pwned) found.push("pwned");
  return [markers.length, found];
}""".replace("MARKERS\n", MARKERS)


def as_html(turn: TurnPicture) -> str:
    return f"<article>{static_bundle(turn, with_request=True)['text/html']}</article>"


def as_markdown(turn: TurnPicture) -> str:
    """As nbconvert draws it."""
    page = markdown2html_mistune(str(static_bundle(turn, with_request=True)["text/markdown"]))
    return f'<article class="text">{page}</article>'


def as_text(turn: TurnPicture) -> str:
    text = str(static_bundle(turn, with_request=True)["text/plain"])
    return f'<article class="text"><pre>{html.escape(text)}</pre></article>'


def page_of(texts: Sequence[str], render: Renderer) -> str:
    """A page with the turn of each text, and a marker behind each."""
    parts = [
        f'{render(everywhere(text))}<aside id="behind-{number}">behind {number}</aside>'
        for number, text in enumerate(texts)
    ]
    return _HEAD + "\n".join(parts) + "</body></html>"


def look(page: Page) -> Any:
    return page.evaluate(_LOOK)


@pytest.fixture(scope="module")
def pages() -> Iterator[PlainPages]:
    with PlainPages() as found:
        yield found


RENDERERS = pytest.mark.parametrize("render", [as_html, as_markdown, as_text], ids=["html", "markdown", "text"])


@RENDERERS
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_runs_and_nothing_breaks_the_layout(pages: PlainPages, family: str, render: Renderer) -> None:
    texts = FAMILIES[family]
    found, trapped = pages.on(look, content=page_of(texts, render))
    assert (found, trapped) == ([len(texts), []], [])


# The others are hard on our patterns, not on a page.
LARGE = [
    *("one line", "one word", "lines", "a bare path", "quotes in quotes", "items in items", "a table", "borders"),
    *("a wide table", "headings", "marks", "overrides", "right to left", "emoji", "dollars"),
]


@pytest.mark.parametrize("name", LARGE)
def test_what_is_long_or_deep_stays_in_its_place(pages: PlainPages, name: str) -> None:
    found, trapped = pages.on(look, content=page_of([HUGE[name], "after"], as_html))
    assert (found, trapped) == ([2, []], [])


def test_the_trap_closes(pages: PlainPages) -> None:
    """What the pages are looked at with does find what it is to find."""
    texts = [
        "<script>pwned=1;alert(1)</script>",
        "<img src=http://evil.test/x>",
        "</article><div style='direction:rtl'>",
    ]
    content = page_of(texts, lambda turn: f"<article>{turn.request}</article>")
    found, trapped = pages.on(look, content=content)
    assert found == [
        3,
        ["script", "img src=http://evil.test/x", "behind-2 is swallowed", "behind-2 looks otherwise", "pwned"],
    ]
    assert {one.partition(":")[0] for one in trapped} >= {"dialog", "request"}
