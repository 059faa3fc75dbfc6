"""What outputs show as the answers of turns, beside what the turns' own records have.

Decided here: only what leaves no doubt is compared: an output of ours that has the turn as HTML and as text, and names
by its hash a turn that is here, whole, and ended with words. What is one line only (`%%lash -q`), a value, a turn that
stopped or failed has no such answer; where a secret was taken out, record and output may differ in that. Nothing here
raises, whatever the outputs hold.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..machine.effects import Emit
from ..machine.events import TurnOutcomeEvent
from ..machine.outcomes import AssistantMessage, Finished
from ..machine.state import TurnCheckpoint
from ..trust import REDACTED
from .carried_turns import Carried
from .envelopes import open_text
from .notebook import METADATA_KEY

__all__ = ["ShownAnswer", "shown_answers"]

_FORMS = ("text/html", "text/plain")


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownAnswer:
    """An output that shows how a turn ended."""

    place: str
    turn: int
    answer: str
    """The answer as the turn's record has it."""
    text: str
    """The output as text."""


def shown_answers(document: object, found: Carried) -> Iterator[ShownAnswer]:
    """The outputs of a notebook (the whole document) that can be compared; one checkpoint is open at a time."""
    outputs: dict[tuple[int, str], list[tuple[str, str]]] = {}
    for place, key, text in _outputs(document):
        outputs.setdefault(key, []).append((place, text))
    for session in found.sessions:
        for turn in (*session.turns, *session.forks, *session.apart):
            shown = outputs.pop((turn.number, turn.sha256), ()) if turn.text is not None else ()
            answer = _answer(open_text(turn.text, place=turn.place)) if shown and turn.text is not None else ""
            if answer.strip() and REDACTED not in answer:
                yield from (
                    ShownAnswer(place=place, turn=turn.number, answer=answer, text=text) for place, text in shown
                )


def _answer(checkpoint: TurnCheckpoint) -> str:
    for effect in reversed(checkpoint.pending_effects):
        if isinstance(effect, Emit) and isinstance(effect.event, TurnOutcomeEvent):
            outcome = effect.event.outcome
            said = outcome.finish if isinstance(outcome, Finished) else None
            return said.text if isinstance(said, AssistantMessage) else ""
    return ""


def _outputs(document: object) -> Iterator[tuple[str, tuple[int, str], str]]:
    """Place, turn and hash, and text of each output that shows a turn; cells and outputs are counted from 1."""
    for number, cell in enumerate(_list(document, "cells"), 1):
        for count, output in enumerate(_list(cell, "outputs"), 1):
            ours = _object(_object(output, "metadata"), METADATA_KEY)
            data = _object(output, "data")
            turn, digest = ours.get("turn"), ours.get("sha256")
            if type(turn) is int and isinstance(digest, str) and all(form in data for form in _FORMS):
                text = _text(data["text/plain"])
                if text is not None:
                    yield f"cell {number}, output {count}", (turn, digest), text


def _text(value: object) -> str | None:
    """A text in the forms that a notebook has for it."""
    if isinstance(value, list) and all(isinstance(line, str) for line in value):
        return "".join(value)
    return value if isinstance(value, str) else None


def _list(value: object, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, list) else []


def _object(value: object, name: str) -> Mapping[str, Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, Mapping) else {}
