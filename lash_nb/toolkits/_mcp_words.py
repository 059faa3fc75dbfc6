"""What a server says, made fit to be shown: texts of strangers without what a terminal or a reader could be fooled by.

Decided here: what is taken out of them (terminal escapes, control characters, marks of direction and of zero width,
halves of surrogate pairs), how they are bounded, and how a description is framed as the server's own words.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from ..trust import whole_text

__all__ = ["MAX_DESCRIPTION", "described", "one_line", "shown", "whole", "without_halves"]

MAX_DESCRIPTION = 2_000
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b\]|\x9d)[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[@-Z\\-_]?"
)
_UNUSUAL = re.compile(r"[^\n\t -~]")
_DROPPED = frozenset({"Cc", "Cf", "Cn", "Co", "Cs"})
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")


def shown(text: object, limit: int = MAX_DESCRIPTION) -> str:
    """A stranger's text as it may be shown, at most `limit` characters of it."""
    if not isinstance(text, str):
        return ""
    cut = whole_text(text[: 4 * limit].replace("\r\n", "\n").replace("\r", "\n"))
    kept = _UNUSUAL.sub(_sign, _ESCAPES.sub("", cut)).strip()
    return kept if len(kept) <= limit and len(text) <= 4 * limit else f"{kept[: limit - 1].rstrip()}…"


def _sign(match: re.Match[str]) -> str:
    sign = match[0]
    kind = unicodedata.category(sign)
    if kind in ("Zl", "Zp"):
        return "\n"
    # The selectors of variants are seen by nobody, and any bytes can be written in them.
    unseen = kind in _DROPPED or "\ufe00" <= sign <= "\ufe0f" or "\U000e0100" <= sign <= "\U000e01ef"
    return "" if unseen else sign


def one_line(text: object, limit: int = 300) -> str:
    """The same, on one line."""
    return " ".join(shown(text, limit).split())


def described(server: str, text: object) -> str:
    """A description as a model is told it: whose words they are stands before them."""
    words = shown(text) or "(it says nothing about this tool)"
    return f"[in the words of the MCP server {server!r}, which nobody vouches for]\n{words}"


def whole(value: Any) -> Any:
    """A JSON value without halves of surrogate pairs, which no record could hold."""
    if isinstance(value, str):
        return whole_text(value)
    if isinstance(value, dict):
        return {whole_text(key): whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [whole(item) for item in value]
    return value


def without_halves(data: bytes) -> bytes:
    """JSON text that may hold them, without; as it is where there are none, or where it is no JSON."""
    if not _HALF.search(data):
        return data
    try:
        return json.dumps(whole(json.loads(data)), ensure_ascii=False, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return data
