"""A cell that is offered in the place of another one (`%lash fix`): what is shown of it, and data for a page's buttons.

Decided here: what is shown is cleaned and cut, what the buttons use is exactly the code, and both are without ids and
times but for the cell's own id. The labextension makes the buttons; whoever does not know the MIME type shows the rest.
"""

from __future__ import annotations

import difflib
import html
import json
import re

from ..machine.wire import Json
from .pieces import clean, cut
from .prose import fenced, inert_markdown, literal_markdown, prose_html
from .turn_data import writable

__all__ = ["OFFER_MIME", "offer_bundle"]

OFFER_MIME = "application/vnd.lash_nb.offer+json"
_MAX_BYTES = 256 * 1024
"""Of the data: what is larger has no buttons."""
_MAX_LINES = 1000
"""Of a cell whose difference is shown: to find it takes the square of that."""
_TITLE_CHARS = 300
_BLANK_LINE = re.compile(r"\n(?=[ \t]*\n)")
"""It would end HTML that stands in Markdown."""


def offer_bundle(*, title: str, source: str, before: str, cell_id: str | None, note: str = "") -> dict[str, Json]:
    """The offer as text/plain, text/markdown and text/html, and under OFFER_MIME what a page's buttons need of it.

    `before` is the code of the cell of that id, which `source` may replace; `cell_id` None: there is none to replace.
    `note` is a model's words, in Markdown. The data are `{version, source, before, cell_id}`, left out when too large.
    """
    shown = clean(source).strip("\n")
    heading = " ".join(cut(clean(title), head_chars=_TITLE_CHARS, tail_chars=0).split())
    changes = _changes(clean(before).strip("\n"), shown) if before and before != source else ""
    bundle: dict[str, Json] = {
        "text/html": _html(heading, cut(shown), cut(changes), note),
        "text/markdown": _markdown(heading, cut(shown), cut(changes), note),
        "text/plain": _text(heading, cut(shown), cut(changes), note),
    }
    data: dict[str, Json] = {
        "version": 1,
        "source": writable(source),
        "before": writable(before),
        "cell_id": cell_id,
    }
    if len(json.dumps(data)) <= _MAX_BYTES:
        bundle[OFFER_MIME] = data
    return bundle


def _changes(before: str, after: str) -> str:
    """A unified difference of two cells; a sentence where there is none to show."""
    old, new = before.split("\n"), after.split("\n")
    if max(len(old), len(new)) > _MAX_LINES:
        return f"[of cells with more than {_MAX_LINES:,} lines the difference is not shown]"
    found = "\n".join(difflib.unified_diff(old, new, "before", "after", lineterm=""))
    return found or "[only what cannot be seen is different]"


def _text(title: str, code: str, changes: str, note: str) -> str:
    parts = [f"── {title} ──", *([clean(note).strip()] if note.strip() else []), code]
    if changes:
        parts.extend(["── What changes ──", changes])
    return "\n\n".join(parts)


def _markdown(title: str, code: str, changes: str, note: str) -> str:
    parts = [f"#### {literal_markdown(title)}", *([inert_markdown(note)] if note.strip() else [])]
    parts.append(fenced(code, language="python"))
    if changes:
        parts.extend(["What changes:", fenced(changes, language="diff")])
    return "\n\n".join(parts)


def _html(title: str, code: str, changes: str, note: str) -> str:
    parts = [f"<h4>{html.escape(title)}</h4>", prose_html(note) if note.strip() else "", _code(code)]
    if changes:
        inset = f'<div style="margin-left: 1.2em">{_code(changes)}</div>'
        parts.append(f"<details open><summary>What changes</summary>{inset}</details>")
    page = '<div style="overflow-wrap: break-word">\n' + "\n".join(part for part in parts if part) + "\n</div>"
    return _BLANK_LINE.sub("&#10;", page)


def _code(code: str) -> str:
    """What is too wide scrolls by itself, also with the keyboard."""
    return f'<div style="overflow-x: auto" tabindex="0"><pre><code>{html.escape(code)}</code></pre></div>'
