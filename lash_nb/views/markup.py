"""HTML of cell outputs (tables of pandas and the like), made safe: a strict list of what is allowed, rewritten anew.

Outputs are untrusted data. What comes out holds only the tags and attributes below, every tag closed, every character
of text escaped; there is no URL, style or id in it. Nothing of the input is copied but text and checked numbers, so a
browser that reads the input differently cannot be led to another result. Standard library only.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from html.parser import HTMLParser

__all__ = ["SafeMarkup", "safe_markup"]

# fmt: off
_BLOCK = frozenset({
    "blockquote", "caption", "col", "colgroup", "dd", "div", "dl", "dt", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "li",
    "ol", "p", "pre", "table", "tbody", "td", "tfoot", "th", "thead", "tr", "ul",
})
_INLINE = frozenset({
    "b", "br", "code", "em", "i", "kbd", "mark", "s", "samp", "small", "span", "strong", "sub", "sup", "u", "var",
    "wbr",
})
# fmt: on
_ALLOWED = _BLOCK | _INLINE
_VOID = frozenset({"br", "col", "hr", "wbr"})
_HIDDEN = frozenset({"head", "noscript", "script", "style", "template", "title"})
"""Dropped with all they hold."""
_HARMLESS = frozenset({"body", "html", "style"})
"""Dropped without a loss: what is left still shows what was meant."""

_NUMBERED = frozenset({"border", "colspan", "rowspan"})
_NUMBER = re.compile(r"[0-9]{1,3}")
_SCOPES = frozenset({"col", "colgroup", "row", "rowgroup"})
_CLASSES = frozenset({"dataframe"})
"""Others could borrow the frontend's own styles, its full-screen dialogs for one."""

_MAX_DEPTH = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeMarkup:
    """What is left of some HTML; `whole` is False when something that matters was dropped."""

    markup: str
    text: str
    whole: bool


def safe_markup(source: str) -> SafeMarkup:
    """The HTML with only what is allowed, balanced and escaped."""
    rewriter = _Rewriter()
    rewriter.feed(source)
    rewriter.close()
    return rewriter.result()


class _Rewriter(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._out: list[str] = []
        self._text: list[str] = []
        self._open: list[str] = []
        self._hidden: list[str] = []
        self._whole = True

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _HIDDEN:
            self._whole &= tag in _HARMLESS
            self._hidden.append(tag)
        elif self._hidden or tag in _HARMLESS:
            return
        elif tag not in _ALLOWED or len(self._open) >= _MAX_DEPTH:
            self._whole = False
        else:
            self._out.append(f"<{tag}{''.join(map(_attribute, attrs))}>")
            if tag not in _VOID:
                self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # `<script/>` opens a script for a browser, so the slash is not believed.
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            if tag in self._hidden:
                while self._hidden.pop() != tag:
                    continue
        elif tag in self._open:
            while (closed := self._open.pop()) != tag:
                self._out.append(f"</{closed}>")
            self._out.append(f"</{tag}>")
            if tag in _BLOCK:
                self._text.append("\t" if tag in {"td", "th"} else "\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self._out.append(html.escape(data))
            self._text.append(data)

    def result(self) -> SafeMarkup:
        closing = (f"</{tag}>" for tag in reversed(self._open))
        lines = (line.strip() for line in "".join(self._text).splitlines())
        text = "\n".join(line for line in lines if line)
        markup = "".join((*self._out, *closing)) if text else ""
        return SafeMarkup(markup=markup, text=text, whole=self._whole and bool(text))


def _attribute(attribute: tuple[str, str | None]) -> str:
    name, value = attribute[0], (attribute[1] or "").strip()
    if name in _NUMBERED and _NUMBER.fullmatch(value):
        return f' {name}="{value}"'
    if name == "scope" and value in _SCOPES:
        return f' scope="{value}"'
    if name == "class":
        kept = " ".join(word for word in value.split() if word in _CLASSES)
        return f' class="{kept}"' if kept else ""
    return ""
