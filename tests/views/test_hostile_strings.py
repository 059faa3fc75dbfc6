"""Hostile strings in every place of a turn: the bundle holds nothing but what we put there."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from typing import Any
from xml.etree.ElementTree import Element

import pytest
from bleach.html5lib_shim import HTMLParser as BrowsersParser  # type: ignore[import-untyped]
from nbconvert.filters.markdown_mistune import markdown2html_mistune

from lash_nb.machine.picture import Note, NoteKind, TurnPicture
from lash_nb.machine.wire import Json
from lash_nb.views.pieces import value_text
from lash_nb.views.text import static_bundle

from .hostile_strings import FAMILIES, HOSTILE, HUGE
from .hostile_turns import everywhere

SHORT = [pytest.param(text, id=f"{family} {n}") for family, texts in FAMILIES.items() for n, text in enumerate(texts)]
LONG = [pytest.param(text, id=name) for name, text in HUGE.items()]

UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Control characters but tab and line feed, halves of characters, overrides and isolates of reading direction."""

VOID = {"br", "col", "hr", "img", "wbr"}
OURS: Mapping[str, str] = {
    # Tag → what its attributes may be, as one pattern over `name="value"` in the order of their names.
    "a": r'href="(https?://|mailto:)[^"\s]*" rel="nofollow noopener noreferrer"',
    "details": r'(open="")?',
    "div": r'(style="overflow-wrap: break-word"|style="(margin-left: 1.2em; )?overflow-x: auto" tabindex="0")?',
    "img": r'alt="[^"]*" src="data:image/(png|jpeg|gif|webp|svg\+xml);base64,[A-Za-z0-9+/=]*" style="max-width: 100%"',
    "ol": r'(start="\d{1,4}")?',
    "pre": r'(style="white-space: pre-wrap"|style="overflow-x: auto" tabindex="0")?',
    "section": r'(aria-label="[A-Za-z0-9 ]+")?',
    "table": r'(border="\d{1,3}")?\s?(class="dataframe")?',
    "td": r'(colspan="\d{1,3}")?\s?(rowspan="\d{1,3}")?',
    "th": r'(colspan="\d{1,3}")?\s?(rowspan="\d{1,3}")?\s?(scope="(col|row)(group)?")?',
}
# fmt: off
PLAIN = {
    "b", "blockquote", "br", "caption", "code", "col", "colgroup", "dd", "dl", "dt", "em", "h1", "h2", "h3", "h4", "h5",
    "h6", "hr", "i", "kbd", "li", "mark", "p", "s", "samp", "small", "span", "strong", "sub", "summary", "sup", "tbody",
    "tfoot", "thead", "tr", "u", "ul", "var", "wbr",
}
# fmt: on
"""Tags of ours without attributes."""


def problems(tag: str, attributes: Mapping[str, str]) -> Iterator[str]:
    """What is not ours about an element."""
    written = " ".join(f'{name}="{value}"' for name, value in sorted(attributes.items()))
    if tag not in OURS and tag not in PLAIN:
        yield f"<{tag}>"
    elif not re.fullmatch(OURS.get(tag, ""), written):
        yield f"<{tag} {written[:200]}>"


def tree(page: str) -> Element:
    """The page's body as browsers build it, whatever is wrong with it."""
    document: Element = BrowsersParser(namespaceHTMLElements=False).parse(page)
    body = document.find("body")
    assert body is not None
    return body


def check_html(page: str) -> None:
    body = tree(f"<main>{page}</main><aside>behind</aside>")
    assert [child.tag for child in body] == ["main", "aside"]
    main, aside = body
    assert ("".join(aside.itertext()), aside.tail) == ("behind", None)
    assert [problem for one in main.iter() if one is not main for problem in problems(str(one.tag), one.attrib)] == []
    assert [child.attrib.get("aria-label") for child in main.iter("section")] == [
        None,
        *("Step 1", "Step 2", "Step 3", "Answer"),
    ]


class Balance(HTMLParser):
    """The same, as far as one can see without building a tree; for what is large."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.extend(problems(tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.found.append(f"</{tag}>")


def check_balance(page: str) -> None:
    seen = Balance()
    seen.feed(page)
    seen.close()
    assert (seen.open, seen.found) == ([], [])


MARKDOWN_TAGS = PLAIN | {"a", "del", "div", "ol", "pre", "table", "td", "th", "section"}
LEADS = re.compile(r"(https?://|mailto:|#)", re.IGNORECASE)


def check_markdown(markdown: str) -> None:
    """As nbconvert draws it, with HTML let through."""
    for one in tree(str(markdown2html_mistune(markdown))).iter():
        if one.tag == "body":
            continue
        attributes: dict[str, Any] = dict(one.attrib)
        assert one.tag in MARKDOWN_TAGS
        assert LEADS.match(attributes.pop("href", "#"))
        # nbconvert's own: anchors of headings, colours of code, columns of tables.
        assert set(attributes) <= {"class", "id", "start", "style", "title"}
        assert re.fullmatch(r"(text-align: ?(left|right|center);?)?", attributes.get("style", ""))


def bundle(turn: TurnPicture) -> dict[str, str]:
    made: dict[str, Json] = static_bundle(turn, with_request=True)
    return {mime: str(text) for mime, text in made.items()}


@pytest.mark.parametrize("text", SHORT)
def test_nothing_but_ours_is_in_the_bundle(text: str) -> None:
    made = bundle(everywhere(text))
    for form in made.values():
        assert UNSEEN.search(form) is None
        form.encode("utf-8")
    check_html(made["text/html"])
    check_balance(made["text/html"])
    check_markdown(made["text/markdown"])


@pytest.mark.parametrize("text", LONG)
def test_what_is_long_or_deep_is_no_trouble(text: str) -> None:
    """It is: with one slow pattern this takes minutes, and the test's own limit ends it."""
    made = bundle(everywhere(text))
    for form in made.values():
        assert UNSEEN.search(form) is None
    check_balance(made["text/html"])


def test_there_are_enough_of_them() -> None:
    assert len(set(HOSTILE)) == len(HOSTILE) >= 200
    assert max(map(len, HOSTILE)) == 1_000_000
    assert max(text.count("\n") for text in HOSTILE) == 100_000


def test_values_that_nest_too_deeply_are_said_to() -> None:
    deep: Json = []
    for _ in range(100_000):
        deep = [deep]
    assert value_text(deep) == "[a value nested too deeply to be shown]"


def test_floods_of_marks_end() -> None:
    turn = TurnPicture(notes=(Note(kind=NoteKind.NOTICE, text="e" + "\u0301" * 100 + "x", after=0),))
    assert bundle(turn)["text/plain"].startswith("e" + "\u0301" * 8 + "x\n")
