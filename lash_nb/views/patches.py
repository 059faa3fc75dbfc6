"""The difference of two documents, as small operations for the frontend.

Decided here: what an operation is, and that a text that grew, or slid along, is not sent again. Positions in texts are
counted in UTF-16 units, as JavaScript counts them. Pure.

    ["add", ID, AFTER, FIELDS]        a block; AFTER is the one before it in the same holder, or empty
    ["del", ID]                       a block, with all that it holds
    ["set", ID, FIELDS]               these fields; null takes one away
    ["edit", ID, FIELD, START, STOP, TEXT]   these units of a text become TEXT
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias

from ..machine.wire import Json
from .document import Document, Fields

__all__ = ["Operation", "difference"]

Operation: TypeAlias = list[Json]

_SHORT = 64
"""A text up to this long is sent again; also by how much of it a text that slid is found."""


def difference(before: Document, after: Document) -> list[Operation]:
    """What makes `before` into `after`, when it is done in order."""
    anew = _anew(before, after)
    operations: list[Operation] = []
    gone: set[str] = set()
    for key, fields in before.items():
        if key not in after or key in anew:
            gone.add(key)
            if fields["in"] not in gone:  # it goes with its holder
                operations.append(["del", key])
    last: dict[Json, str] = {}
    for key, fields in after.items():
        holder = fields["in"]
        if key in anew or key not in before:
            operations.append(["add", key, last.get(holder, ""), dict(fields)])
        else:
            operations.extend(_changes(key, before[key], fields))
        last[holder] = key
    return operations


def _anew(before: Document, after: Document) -> set[str]:
    """The blocks that stay and are still to be made again: they moved, are of another kind, or their holder is."""
    places = {key: place for place, key in enumerate(before)}
    anew: set[str] = set()
    furthest = -1
    for key, fields in after.items():
        place = places.get(key)
        if place is None:
            continue
        same = fields["kind"] == before[key]["kind"] and fields["in"] == before[key]["in"]
        held = fields["in"] in anew or (fields["in"] != "" and fields["in"] not in before)
        if not same or held or place < furthest:
            anew.add(key)
        else:
            furthest = place
    return anew


def _changes(key: str, before: Fields, after: Fields) -> Iterator[Operation]:
    fields: Fields = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if old == value and name in before:
            continue
        if isinstance(old, str) and isinstance(value, str) and (edits := _edits(old, value)) is not None:
            for edit in edits:
                yield ["edit", key, name, *edit]
        else:
            fields[name] = value
    if fields:
        yield ["set", key, fields]


def _edits(old: str, new: str) -> list[tuple[int, int, str]] | None:
    """Splices that make one text into the other; None: it is as well sent whole."""
    if new.startswith(old):
        end = _units(old)
        return [(end, end, new[len(old) :])] if old else None
    if len(old) <= _SHORT:
        return None
    shift = old.find(new[:_SHORT])
    if shift > 0 and new.startswith(old[shift:]):
        end = _units(old[shift:])
        return [(0, _units(old[:shift]), ""), (end, end, new[len(old) - shift :])]
    same = _shared(old, new)
    if same < _SHORT:
        return None
    return [(_units(old[:same]), _units(old), new[same:])]


def _shared(old: str, new: str) -> int:
    """How many first characters are the same."""
    low, high = 0, min(len(old), len(new))
    while low < high:
        middle = (low + high + 1) // 2
        if old.startswith(new[:middle]):
            low = middle
        else:
            high = middle - 1
    return low


def _units(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "surrogatepass")) // 2
