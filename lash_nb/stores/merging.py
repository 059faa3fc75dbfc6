"""A notebook's newest block beside what stands in the notebook already, as several pages may have it.

Decided here: each turn once, a whole envelope before what only refers to one. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..machine.wire import Json
from .envelopes import is_reference
from .notebook import MODEL_KEY, following

__all__ = ["is_behind", "merged"]


def merged(block: Mapping[str, Any], states: Iterable[Json]) -> dict[str, Any]:
    """The block with what several states of its notebook, the last one the newest, carry of other sessions.

    Each envelope once, a whole one before a reference.
    """
    earlier: dict[tuple[Any, ...], Any] = {}
    model: dict[str, Any] = {}
    for before in states:
        if not isinstance(before, Mapping):
            continue
        model = {MODEL_KEY: before[MODEL_KEY]} if MODEL_KEY in before else {}
        head: Any = before.get("head")
        for envelope in following(before, block).get("earlier", ()):
            if envelope is head and _has_ended(envelope, earlier.values()):
                continue
            known = earlier.setdefault(_key(envelope), envelope)
            if is_reference(known) and not is_reference(envelope):
                earlier[_key(envelope)] = envelope
    return {**model, **block, **({"earlier": list(earlier.values())} if earlier else {})}


def is_behind(value: Json, written: Mapping[str, Any] | None) -> bool:
    """Whether something is missing of what was written: the page was opened, or loaded anew, before that was saved."""
    held = set(_keys(value)) if isinstance(value, Mapping) else set()
    return written is not None and any(key not in held for key in _keys(written))


def _has_ended(head: Mapping[str, Any], envelopes: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the turn that was in progress is among them in a later state."""
    return any(
        (one["session"], one["turn"]) == (head["session"], head["turn"]) and one["seq"] > head["seq"]
        for one in envelopes
    )


def _key(envelope: Mapping[str, Any]) -> tuple[Any, ...]:
    return envelope["session"], envelope["turn"], envelope["sha256"]


def _keys(block: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    head = block.get("head")
    return [
        _key(envelope)
        for envelope in (*block.get("turns", ()), *block.get("earlier", ()), *([head] if head is not None else []))
    ]
