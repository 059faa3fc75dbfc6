"""HTML of cell outputs (tables of pandas and the like), made safe: a strict list of what is allowed, rewritten anew.

Outputs are untrusted data. What comes out holds only the tags and attributes below, every tag closed, every character
of text escaped; there is no URL, style or id in it. Nothing of the input is copied but text and checked numbers, so a
browser that reads the input differently cannot be led to another result. It is read in one pass that never looks back:
`html.parser` takes minutes for a hundred thousand comments that nobody closed. Standard library only.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass

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

_TAG = re.compile(r"<(/?)([A-Za-z][^ \t\n\f\r/>]*+)")
_NAME = re.compile(r"[ \t\n\f\r/]*+([^ \t\n\f\r/>][^ \t\n\f\r/>=]*+)")
_VALUE = re.compile(r"[ \t\n\f\r]*+=[ \t\n\f\r]*+(?:([\"'])|([^ \t\n\f\r>]*+))")
_TAG_END = re.compile(r"[ \t\n\f\r/]*+>")
_COMMENT_END = re.compile(r"--!?>")
_RAW_ENDS = {tag: re.compile(rf"</{tag}(?=[ \t\n\f\r/>])", re.IGNORECASE) for tag in ("script", "style")}
"""What ends an element whose content is no markup."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SafeMarkup:
    """What is left of some HTML; `whole` is False when something that matters was dropped."""

    markup: str
    text: str
    whole: bool


def safe_markup(source: str) -> SafeMarkup:
    """The HTML with only what is allowed, balanced and escaped."""
    rewriter = _Rewriter()
    for token in _tokens(source):
        match token:
            case str():
                rewriter.text(token)
            case _Tag(closes=True):
                rewriter.end(token.name)
            case _Tag():
                rewriter.start(token.name, token.attributes)
            case None:
                rewriter.lose()
    return rewriter.result()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tag:
    name: str
    closes: bool
    attributes: tuple[tuple[str, str], ...]


def _tokens(source: str) -> Iterator[str | _Tag | None]:
    """Texts and tags in order, without comments; None at last when something was opened that nothing closes."""
    position = 0
    while position < len(source):
        opened = source.find("<", position)
        if opened != position:
            yield html.unescape(source[position : opened if opened >= 0 else None])
            if opened < 0:
                return
        tag = _TAG.match(source, opened)
        if tag is not None:
            attributes, end = _attributes(source, tag.end())
            if end is not None:
                yield _Tag(name=tag[2].lower(), closes=bool(tag[1]), attributes=attributes)
                end = _raw_end(source, end, tag)
        elif source[opened + 1 : opened + 2] in {"!", "?", "/"}:
            end = _comment_end(source, opened)
        else:
            yield "<"
            end = opened + 1
        if end is None:
            yield None
            return
        position = end


def _attributes(source: str, position: int) -> tuple[tuple[tuple[str, str], ...], int | None]:
    """Those of the tag whose name ends here, and where it ends; None: nowhere."""
    found: list[tuple[str, str]] = []
    while (end := _TAG_END.match(source, position)) is None:
        name = _NAME.match(source, position)
        if name is None:
            return (), None
        position, value = name.end(), ""
        equals = _VALUE.match(source, position)
        if equals is not None:
            position, value = equals.end(), equals[2] or ""
        if equals is not None and equals[1]:
            closed = source.find(equals[1], position)
            if closed < 0:
                return (), None
            value, position = source[position:closed], closed + 1
        found.append((name[1].lower(), html.unescape(value)))
    return tuple(found), end.end()


def _raw_end(source: str, position: int, tag: re.Match[str]) -> int | None:
    """Where markup goes on behind this tag: behind a script's own, only at its end."""
    end = _RAW_ENDS.get("" if tag[1] else tag[2].lower())
    if end is None:
        return position
    found = end.search(source, position)
    return None if found is None else found.start()


def _comment_end(source: str, opened: int) -> int | None:
    """Where a comment ends, or what browsers take for one: a declaration, an instruction, an end tag of nothing."""
    if not source.startswith("<!--", opened):
        closed = source.find(">", opened)
        return None if closed < 0 else closed + 1
    # `<!-->` and `<!--->` are whole.
    found = _COMMENT_END.search(source, opened + 2)
    return None if found is None else found.end()


class _Rewriter:
    def __init__(self) -> None:
        self._out: list[str] = []
        self._text: list[str] = []
        self._open: list[str] = []
        self._hidden: list[str] = []
        self._whole = True

    def lose(self) -> None:
        """Take note of a rest that nothing closes: no part of it is shown."""
        self._whole = False

    def start(self, tag: str, attributes: tuple[tuple[str, str], ...]) -> None:
        """A tag; that it closes itself is not believed: for a browser `<script/>` opens a script."""
        if tag in _HIDDEN:
            self._whole &= tag in _HARMLESS
            self._hidden.append(tag)
        elif self._hidden or tag in _HARMLESS:
            return
        elif tag not in _ALLOWED or len(self._open) >= _MAX_DEPTH:
            self._whole = False
        else:
            self._out.append(f"<{tag}{''.join(map(_attribute, attributes))}>")
            if tag not in _VOID:
                self._open.append(tag)

    def end(self, tag: str) -> None:
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

    def text(self, data: str) -> None:
        if not self._hidden:
            self._out.append(html.escape(data))
            self._text.append(data)

    def result(self) -> SafeMarkup:
        closing = (f"</{tag}>" for tag in reversed(self._open))
        lines = (line.strip() for line in "".join(self._text).splitlines())
        text = "\n".join(line for line in lines if line)
        markup = "".join((*self._out, *closing)) if text else ""
        return SafeMarkup(markup=markup, text=text, whole=self._whole and bool(text))


def _attribute(attribute: tuple[str, str]) -> str:
    name, value = attribute[0], attribute[1].strip()
    if name in _NUMBERED and _NUMBER.fullmatch(value):
        return f' {name}="{value}"'
    if name == "scope" and value in _SCOPES:
        return f' scope="{value}"'
    if name == "class":
        kept = " ".join(word for word in value.split() if word in _CLASSES)
        return f' class="{kept}"' if kept else ""
    return ""
