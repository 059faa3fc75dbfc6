"""The picture of a turn that a notebook carries, made from its checkpoint alone.

Decided here: a turn that had not ended is shown as far as it came, with the cell that was outstanding, and says that it
has no end. Reads the machine's records only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from ..machine.activities import TURN_ACTIVITY
from ..machine.activity import CodeBlockCompleted, CodeBlockStarted
from ..machine.effects import Emit, ExecCode
from ..machine.events import TurnActivity
from ..machine.picture import PictureState, TurnPicture
from ..machine.state import TurnCheckpoint
from .carried_turns import CarriedTurn
from .told import told_of

__all__ = ["picture_of"]


def picture_of(turn: CarriedTurn, checkpoint: TurnCheckpoint, before: TurnCheckpoint | None) -> TurnPicture:
    """What there was to be seen of a turn; `checkpoint` is its own, `before` that of the turn before it, if any."""
    resume = turn.envelope.get("resume", {})
    asked = resume.get("asked") if isinstance(resume, Mapping) else None
    request, model, protocol = (_text(asked, name) for name in ("text", "model", "protocol"))
    told = told_of(
        checkpoint,
        before,
        turn=turn.number,
        request=request or turn.ref["request"],
        model=model,
        protocol=protocol,
    )
    activities = [TURN_ACTIVITY.decode(activity) for activity in told]
    picture = TurnPicture()
    for activity in activities if turn.ended else _without_end(activities, checkpoint):
        picture = picture.apply(activity)
    if not turn.ended:
        return replace(picture, state=PictureState.STOPPED, why="the notebook was saved before it ended")
    for effect in checkpoint.pending_effects:
        picture = picture.apply(effect.event) if isinstance(effect, Emit) else picture
    return picture


def _text(asked: object, name: str) -> str:
    value = asked.get(name) if isinstance(asked, Mapping) else None
    return value if isinstance(value, str) else ""


def _without_end(activities: list[TurnActivity], checkpoint: TurnCheckpoint) -> list[TurnActivity]:
    """With the cell that was outstanding, if one was, and nothing that says that it ended."""
    effect = checkpoint.outstanding_effect
    if not isinstance(effect, ExecCode):
        return activities
    last = activities[-2:]
    if (
        isinstance(last[-1], CodeBlockCompleted)
        and isinstance(last[0], CodeBlockStarted)
        and last[0].code == effect.code
    ):
        return activities[:-1]
    return [*activities, CodeBlockStarted(effect_id=-1, language=effect.language, code=effect.code)]
