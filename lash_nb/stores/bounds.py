"""How much of what a notebook says is taken, and how it is shown: before anything of it is used.

Decided here: the bounds of depth, number and size, and that a text of unknown origin stands in a sentence short, on one
line, with every character that cannot be seen made visible. Nothing here recurses: the values are nested as deep as
whoever made them liked.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = [
    "MAX_BYTES",
    "MAX_DEPTH",
    "MAX_ENVELOPES",
    "MAX_TOTAL_BYTES",
    "Allowance",
    "beyond",
    "deeper_than",
    "more_values_than",
    "shown",
    "visible",
]

MAX_BYTES = 64 * 1024 * 1024
"""Of one checkpoint. No conversation comes near this; what claims to is meant to exhaust memory."""

MAX_TOTAL_BYTES = 256 * 1024 * 1024
"""Of all checkpoints of a notebook, unpacked."""

MAX_ENVELOPES = 10_000
"""Of a notebook."""

MAX_DEPTH = 100
"""Of an envelope's own fields; a checkpoint may be twice as deep, for it holds values that a kernel let through."""

_MOST_VALUES = 100_000
"""Of an envelope without its checkpoint: some names, a request, a schema."""

_LARGEST = 2**63
"""Beyond it, other readers of JSON take a number for another one."""

_MOST_MARKS = 4
"""Combining characters on one letter; a flood of them draws over the lines around."""


@dataclass(slots=True)
class Allowance:
    """How many bytes may still be unpacked, also for what turns out to be damaged."""

    left: int = MAX_TOTAL_BYTES


def beyond(value: object) -> str:
    """What is wrong with a value that is to be plain JSON, in words that follow its name; empty when nothing is.

    It is not nested deeper than `MAX_DEPTH`, has not too many values, whole numbers below 2**63 and finite ones, texts
    without halves of surrogate pairs, and nothing that JSON does not have.
    """
    level: list[object] = [value]
    depth = count = 0
    while level:
        count += len(level)
        if count > _MOST_VALUES:
            return f"holds more than {_MOST_VALUES:,} values"
        if depth > MAX_DEPTH:
            return f"is nested deeper than {MAX_DEPTH} levels"
        below: list[object] = []
        for item in level:
            if isinstance(item, str):
                if not item.isascii() and not _is_whole(item):
                    return "holds half of a surrogate pair"
            elif isinstance(item, Mapping):
                below += item.keys()
                below += item.values()
            elif isinstance(item, (list, tuple)):
                below += item
            elif problem := _wrong_number(item):
                return problem
        level = below
        depth += 1
    return ""


def _wrong_number(value: object) -> str:
    if isinstance(value, float):
        return "" if math.isfinite(value) else "holds a number that JSON does not have"
    if isinstance(value, int):
        return "" if abs(value) < _LARGEST else "holds a number that is too large"
    if value is None:
        return ""
    return f"holds a value of type {type(value).__name__}, which is not JSON"


def _is_whole(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def deeper_than(value: object, most: int) -> bool:
    """Whether a JSON value is nested deeper than that."""
    level = [value]
    for _ in range(most + 1):
        level = [
            entry
            for item in level
            if isinstance(item, (dict, list))
            for entry in (item.values() if isinstance(item, dict) else item)
            if isinstance(entry, (dict, list))
        ]
        if not level:
            return False
    return True


def more_values_than(most: int, text: str) -> bool:
    """Whether there are more `,`, `[` and `{` than that in a JSON text, outside of its strings.

    Of what is no JSON, it may count wrong.
    """
    if _marks(text) <= most:
        return False
    # A backslash stands in strings alone: without the escaped ones, each quote opens or closes a string.
    text = text.replace("\\\\", "").replace('\\"', "")
    found = inside = 0
    for start in range(0, len(text), _PIECE):
        pieces = text[start : start + _PIECE].split('"')
        found += _marks("".join(pieces[inside::2]))
        if found > most:
            return True
        inside = (inside + len(pieces) - 1) % 2
    return False


_PIECE = 1024 * 1024


def _marks(text: str) -> int:
    return sum(map(text.count, ",[{"))


def visible(text: str, *, most: int = 400) -> str:
    """A text for a sentence: at most so many characters on one line, and none that hides or moves others."""
    signs: list[str] = []
    marks = 0
    for sign in text[:most]:
        marks = marks + 1 if unicodedata.combining(sign) else 0
        seen = sign.isprintable() and marks <= _MOST_MARKS
        signs.append(sign if seen else sign.encode("unicode_escape").decode())
    line = "".join(signs)
    return line if len(text) <= most and len(line) <= most else line[: most - 1] + "…"


def shown(value: object) -> str:
    """A value of whatever type, for a sentence: short, on one line, nothing in it that draws over it."""
    if isinstance(value, str):
        quoted = repr(value[:38])
        return visible(quoted, most=60) if len(value) <= 38 else visible(quoted[:35], most=60) + "..."
    if isinstance(value, int) and abs(value) > _LARGEST:
        return "a huge number"
    if isinstance(value, (int, float)) or value is None:
        return repr(value)
    # Neither is written out: it may be nested without end.
    if isinstance(value, Mapping):
        return f"an object of {len(value)} fields" if value else "{}"
    if isinstance(value, Sequence):
        return f"a list of {len(value)} entries" if value else "[]"
    return f"of type {type(value).__name__}"
