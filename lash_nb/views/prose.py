"""Words of the model: Markdown that is safe to hand on, and the part of Markdown that we draw as HTML ourselves.

Decided here: which Markdown is understood. The rule for safety is that nothing of the model's text is ever HTML, and
that nothing is loaded by showing it: `<` is escaped wherever a Markdown reader could see it outside of code, images
become text, links lead to http(s) and mail only. Code blocks are written anew, at the left margin and
closed, so that every reader finds the same ends as we do; where the ends of inline code are in doubt, it is escaped
like text.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

from .pieces import clean

__all__ = ["fenced", "inert_markdown", "literal_markdown", "prose_html"]

_FENCE = re.compile(r"( {0,3})(?:(`{3,})([^`]*)|(~{3,})(.*))")
_TICKS = re.compile(r"`+")
_LANGUAGE = re.compile(r"[A-Za-z0-9_+#.-]{1,30}")
_MARKS = str.maketrans(
    {mark: f"\\{mark}" for mark in "\\`*_[]#|~$!"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " "}
)
_MAX_INLINE = 4_000
"""A paragraph longer than this is shown as it is: no inline Markdown is looked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Code:
    language: str
    text: str


_Block = _Code | list[str]
"""A code block, or lines of anything else."""


def fenced(text: str, *, language: str = "") -> str:
    """A Markdown code block; its fence is longer than any run of backticks inside."""
    longest = max((len(run) for run in _TICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    info = language if _LANGUAGE.fullmatch(language) else ""
    newline = "" if not text or text.endswith("\n") else "\n"
    return f"{fence}{info}\n{text}{newline}{fence}"


def literal_markdown(text: str) -> str:
    """Markdown in which a reader shows the text as it is, in one line."""
    return clean(text).translate(_MARKS)


def inert_markdown(text: str) -> str:
    """The Markdown without HTML, images that would be loaded, and links to anything but pages and mail addresses."""
    parts: list[str] = []
    for block in _blocks(clean(text)):
        if isinstance(block, _Code):
            parts.append(fenced(block.text, language=block.language))
        else:
            lines = "\n".join(_inert_lines(block)).strip("\n")
            if lines.strip():
                parts.append(lines)
    return "\n\n".join(parts)


def _blocks(text: str) -> Iterator[_Block]:
    lines: list[str] = []
    rest = iter(text.split("\n"))
    for line in rest:
        opened = _FENCE.fullmatch(line.rstrip())
        if opened is None:
            lines.append(line)
            continue
        if lines:
            yield lines
            lines = []
        indent, fence = len(opened[1]), opened[2] or opened[4]
        info = (opened[3] or opened[5] or "").split()
        closing = re.compile(rf" {{0,3}}{re.escape(fence[0])}{{{len(fence)},}}[ \t]*")
        code: list[str] = []
        for inner in rest:
            if closing.fullmatch(inner):
                break
            code.append(inner[min(indent, len(inner) - len(inner.lstrip(" "))) :])
        yield _Code(language=info[0] if info else "", text="\n".join(code))
    if lines:
        yield lines


# -- as Markdown -------------------------------------------------------------------------------------------------------


def _inert_lines(lines: list[str]) -> Iterator[str]:
    """Inline code is left alone only while every run of backticks of its paragraph is closed on its own line."""
    certain = True
    for line in lines:
        if not line.strip():
            certain = True
            yield ""
            continue
        parts, certain = _inert_line(line) if certain else ([_inert_text(line)], False)
        yield "".join(parts)


def _inert_line(line: str) -> tuple[list[str], bool]:
    parts: list[str] = []
    for is_code, part, closed in _spans(line):
        # A `|` may be the border of a table's cell, which ends inline code.
        parts.append(part if is_code and "|" not in part else _inert_text(part))
        if not closed:
            return parts, False
    return parts, True


def _spans(line: str) -> Iterator[tuple[bool, str, bool]]:
    """`(is code, text, closed)`; a run of backticks that is not closed on the line ends it with `closed=False`."""
    start = position = 0
    while position < len(line):
        if line[position] == "\\":
            position += 2
        elif line[position] == "`":
            opening = _TICKS.match(line, position)
            assert opening is not None
            end = _closing(line, opening.end(), len(opening[0]))
            if end is None:
                yield False, line[start:], False
                return
            if start < position:
                yield False, line[start:position], True
            yield True, line[position:end], True
            start = position = end
        else:
            position += 1
    if start < len(line):
        yield False, line[start:], True


def _closing(line: str, start: int, length: int) -> int | None:
    for run in _TICKS.finditer(line, start):
        if len(run[0]) == length:
            return run.end()
    return None


_LEADS_ELSEWHERE = re.compile(r"\](?=\((?!(?i:https?://|mailto:))|:(?![ \t]*(?i:https?://|mailto:)))")
"""The end of a link's text, or of a reference's name, before a target that is neither a page nor an address."""


def _inert_text(text: str) -> str:
    return _LEADS_ELSEWHERE.sub(r"]\\", text).replace("<", "&lt;").replace("![", "!\\[")


# -- as HTML -----------------------------------------------------------------------------------------------------------

_SCROLLS = 'style="overflow-x: auto" tabindex="0"'
"""What is too wide scrolls by itself, not the whole turn; also with the keyboard."""

_HEADING = re.compile(r" {0,3}#{1,6}[ \t]+(?=[^\s#])")
_ITEM = re.compile(r"[ \t]*(?:([-*+])|([0-9]{1,4})[.)])[ \t]+(\S.*)")
_QUOTE = re.compile(r" {0,3}>[ \t]?(.*)")
_RULE = re.compile(r" {0,3}(?:-{3,}|\*{3,}|_{3,})[ \t]*")
_TABLE_RULE = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?")
_LINK = re.compile(r"\[([^\[\]\n]{1,300})\]\(((?:https?://|mailto:)[^\s()<>\"\x00]{1,1000})\)")
_STRONG = re.compile(r"\*\*(?=[^\s*])([^*\n]{1,500}?)(?<=\S)\*\*")
_ESCAPED = re.compile(r"\\([!-/:-@\[-`{-~])")
_HELD = re.compile(r"\x00([0-9]+)\x00")
_EMPHASIS = re.compile(r"(?<![\w*])\*(?=[^\s*])([^*\n]{1,500}?)(?<=\S)\*(?![\w*])")


def prose_html(text: str) -> str:
    """The model's words as HTML: paragraphs, headings, lists, quotes, tables and code; anything else is text."""
    parts: list[str] = []
    for block in _blocks(clean(text)):
        if isinstance(block, _Code):
            parts.append(f"<pre {_SCROLLS}><code>{html.escape(block.text)}</code></pre>")
        else:
            parts.extend(_lines_html(block))
    return "\n".join(parts)


def _lines_html(lines: list[str]) -> Iterator[str]:
    for blank, group in groupby(lines, key=lambda line: not line.strip()):
        if not blank:
            yield from _paragraphs_html(list(group))


def _kind(line: str) -> str:
    if _HEADING.match(line):
        return "heading"
    for kind, pattern in (("rule", _RULE), ("item", _ITEM), ("quote", _QUOTE)):
        if pattern.fullmatch(line):
            return kind
    return "text"


def _paragraphs_html(lines: list[str]) -> Iterator[str]:
    """Lines without a blank one between them; a line of text behind an item belongs to the item."""
    is_table = len(lines) > 1 and "|" in lines[0] and "|" in lines[1] and max(map(len, lines[:2])) < _MAX_INLINE
    if is_table and _TABLE_RULE.fullmatch(lines[1].strip()):
        yield _table_html(lines[0], lines[2:])
        return
    groups: list[tuple[str, list[str]]] = []
    for line in lines:
        kind = _kind(line)
        if kind == "text" and groups and groups[-1][0] == "item":
            groups[-1][1][-1] += "\n" + line.strip()
        elif groups and groups[-1][0] == kind:
            groups[-1][1].append(line)
        else:
            groups.append((kind, [line]))
    for kind, group in groups:
        yield from _group_html(kind, group)


def _group_html(kind: str, lines: list[str]) -> Iterator[str]:
    match kind:
        case "rule":
            yield "<hr>"
        case "heading":
            for line in lines:
                # The turn's own headings are h4: the model's stand below them.
                yield f"<h5>{_inline_html(line.strip().strip('#').strip())}</h5>"
        case "quote":
            inner = "\n".join(_QUOTE.sub(r"\1", line) for line in lines)
            yield f"<blockquote><p>{_inline_html(inner)}</p></blockquote>"
        case "item":
            yield from _list_html(lines)
        case _:
            yield f"<p>{_inline_html(chr(10).join(lines))}</p>"


def _list_html(lines: list[str]) -> Iterator[str]:
    """Flat lists: depth is not drawn, a change between bullets and numbers begins another list."""

    def numbered(line: str) -> bool:
        found = _ITEM.match(line)
        return found is not None and found[2] is not None

    for is_numbered, group in groupby(lines, key=numbered):
        items: list[str] = []
        first = 1
        for line in group:
            found = _ITEM.match(line)
            assert found is not None
            if is_numbered and not items:
                first = int(found[2])
            items.append(f"<li>{_inline_html(line[found.start(3) :])}</li>")
        start = f' start="{first}"' if first != 1 else ""
        tag = "ol" if is_numbered else "ul"
        yield f"<{tag}{start}>{''.join(items)}</{tag}>"


def _table_html(head: str, rows: list[str]) -> str:
    """Rows have as many cells as the head, as everywhere in Markdown: a line of borders is no thousand cells."""

    def texts(line: str) -> list[str]:
        return line.strip().removeprefix("|").removesuffix("|").split("|")

    def cells(line: str, tag: str) -> str:
        return "".join(f"<{tag}>{_inline_html(cell.strip())}</{tag}>" for cell in texts(line)[:width])

    width = len(texts(head))
    body = "".join(f"<tr>{cells(row, 'td')}</tr>" for row in rows)
    table = f"<table><thead><tr>{cells(head, 'th')}</tr></thead><tbody>{body}</tbody></table>"
    return f"<div {_SCROLLS}>{table}</div>"


def _inline_html(text: str) -> str:
    """Code, escaped characters and links are held back behind marks while emphasis is looked for, so that no tag can
    begin inside one and end outside. The marks hold a NUL, which `clean` has taken out of the text itself."""
    if len(text) > _MAX_INLINE:
        return html.escape(text).replace("\n", "<br>")
    held: list[str] = []

    def hold(markup: str) -> str:
        held.append(markup)
        return f"\x00{len(held) - 1}\x00"

    def link(found: re.Match[str]) -> str:
        target = html.escape(found[2])
        return hold(f'<a href="{target}" rel="nofollow noopener noreferrer">{_emphasised(found[1])}</a>')

    def restored(marked: str) -> str:
        return _HELD.sub(lambda mark: restored(held[int(mark[1])]), marked)

    parts: list[str] = []
    for is_code, part, _ in _spans(text):
        if is_code:
            ticks = len(part) - len(part.lstrip("`"))
            parts.append(hold(f"<code>{html.escape(part[ticks:-ticks].strip())}</code>"))
        else:
            parts.append(_ESCAPED.sub(lambda found: hold(html.escape(found[1])), part))
    return restored(_emphasised(_LINK.sub(link, "".join(parts))))


def _emphasised(text: str) -> str:
    strong = _STRONG.sub(r"<strong>\1</strong>", html.escape(text, quote=False))
    return _EMPHASIS.sub(r"<em>\1</em>", strong)
