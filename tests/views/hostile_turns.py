"""A turn with the same text in all its places, waiting for a decision; the pictures of `hostile_strings`."""

from __future__ import annotations

from dataclasses import replace

from lash_nb.machine.activity import VariableSeen
from lash_nb.machine.approvals import Approval, EffectKind, Wish
from lash_nb.machine.execution import (
    CellOutcome,
    CellOutput,
    DisplayOutput,
    ErrorOutput,
    FinishValue,
    ResultOutput,
    StreamOutput,
)
from lash_nb.machine.picture import GrowingText, Note, NoteKind, PictureState, StepPicture, ToolCallPicture, TurnPicture

__all__ = ["everywhere"]


def _outputs(text: str) -> tuple[CellOutput, ...]:
    kinds = ("text/plain", "text/html", "text/markdown", "text/latex", "image/svg+xml", "image/png", f"x/{text}")
    return (
        StreamOutput(name="stdout", head=text),
        StreamOutput(name="stderr", head=text, tail=text, omitted_chars=7, omitted_lines=1),
        ErrorOutput(ename=text, evalue=text),
        ErrorOutput(ename=text, evalue=text, traceback=(text, text)),
        *(DisplayOutput(data={kind: text}, metadata={}) for kind in kinds),
        ResultOutput(data={"text/html": text, "text/plain": text}, metadata={"lash_nb": text}),
        DisplayOutput(data={"application/json": {text: [text]}}, metadata={}),
        DisplayOutput(data={"text/html": f"<table class='{text}'><tr><td>{text}</td></tr></table>"}, metadata={}),
    )


def _step(text: str, number: int, *, outcome: CellOutcome = CellOutcome.OK) -> StepPicture:
    said = GrowingText().appended(text)
    calls = (
        ToolCallPicture(call_id=text, name=text, args={text: text, "more": [text]}, succeeded=True),
        ToolCallPicture(call_id=text, name=text, args=text, succeeded=False, problem=text),
    )
    return StepPicture(
        said=said,
        thought=said,
        code=text,
        language=text,
        effect_id=number,
        outputs=_outputs(text),
        outcome=outcome,
        detail=text,
        tool_calls=calls,
    )


def everywhere(text: str) -> TurnPicture:
    """The turn: two steps and one that waits, notes of all kinds, errors, an answer and a value."""
    waiting = Approval(
        id=text, effect_id=3, code=text + " ", language=text, wish=Wish(kind=EffectKind.DELETE, target=text)
    )
    last = replace(_step(text, 3), outcome=None)
    return TurnPicture(
        turn=1,
        request=text,
        model=text,
        steps=(_step(text, 1), _step(text, 2, outcome=CellOutcome.ERROR), last),
        state=PictureState.WAITING,
        why=text,
        answer=text,
        value=FinishValue(value={text: text}),
        errors=(text, text + "!"),
        notes=tuple(Note(kind=kind, text=text, after=after) for kind in NoteKind for after in (0, 1)),
        pending=waiting,
        variables=(VariableSeen(name=text, type=text, detail=text),),
    )
