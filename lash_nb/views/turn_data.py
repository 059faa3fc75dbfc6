"""What a page needs to know of a finished turn to offer something: the data beside the static bundle.

Decided here: its form, and its size. The labextension makes buttons of it; whoever does not know the MIME type shows
the bundle. Deterministic, like the bundle: no ids, no times. Code stands in it as it ran, so that it can be run again.
"""

from __future__ import annotations

import json

from ..machine.execution import CellOutcome
from ..machine.picture import TurnPicture
from ..machine.wire import Json
from .pieces import clean

__all__ = ["TURN_MIME", "turn_data", "writable"]

TURN_MIME = "application/vnd.lash-nb.turn+json"
_MAX_BYTES = 64 * 1024
_RAN = (CellOutcome.OK, CellOutcome.ERROR)
"""To its end: what was not run, or was cut short, is not to be run again by a click."""


def turn_data(picture: TurnPicture) -> dict[str, Json]:
    """`{version, turn, cells, answer, variables}`: cells that ran to their end, the answer, what was made or changed.

    What is large is left out whole, never cut: all of it together is at most 64 KB of JSON, the largest goes first.
    """
    cells: list[Json] = [
        {"language": step.language, "code": writable(step.code), "outcome": str(step.outcome)}
        for step in picture.steps
        if step.code is not None and step.outcome in _RAN
    ]
    variables: list[Json] = [
        {"name": one.name, "type": clean(one.type), "detail": clean(one.detail), "new": one.new}
        for one in picture.variables
    ]
    parts: dict[str, Json] = {"cells": cells, "variables": variables}
    if picture.answer is not None:
        parts["answer"] = clean(picture.answer).strip()
    while sum(map(_size, parts.values())) > _MAX_BYTES:
        del parts[max(parts, key=lambda name: _size(parts[name]))]
    return {"version": 1, "turn": picture.turn, **parts}


def writable(code: str) -> str:
    """Code as it is, without what no file can hold."""
    return code.encode("utf-8", "replace").decode("utf-8")


def _size(part: Json) -> int:
    return len(json.dumps(part))
