"""The picture of a turn that a notebook carries, made from its checkpoint alone, or from a later turn's.

Decided here: a turn that had not ended is shown as far as it came, with the cell that was outstanding, and says that it
has no end. A turn whose content was folded away is looked for in the conversation that the next whole turn of its
session holds; how it ended is what its reference says. Reads the machine's records only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..machine.activities import TURN_ACTIVITY
from ..machine.activity import CodeBlockCompleted, CodeBlockStarted
from ..machine.effects import Done, Emit, ExecCode
from ..machine.events import PluginEvent, StatusRuntimeEvent, TurnActivity
from ..machine.messages import AppendOnly, Message, PartKind
from ..machine.picture import PictureState, TurnPicture
from ..machine.state import TurnCheckpoint
from .carried_turns import CarriedSession, CarriedTurn
from .envelopes import open_text
from .told import outstanding_told, told_of, with_answer, without_values
from .told_records import TurnRecords, records_of

__all__ = ["FoldedTurns", "picture_of"]

_REQUEST = re.compile(r"m_user_[0-9]+")
_ENDS = {
    "stopped": (PictureState.STOPPED, ""),
    "bound": (PictureState.STOPPED, "a limit was reached"),
    "failed": (PictureState.FAILED, ""),
}
"""How a picture says what a reference does."""


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
    checks = asked.get("checks") if isinstance(asked, Mapping) else None
    if picture.state is PictureState.DONE and isinstance(checks, (list, tuple)) and checks:
        picture = picture.apply(_held(checks))
    return picture


def _held(checks: Sequence[object]) -> TurnActivity:
    """That they held, without which the turn would not have ended well."""
    label = f"check{'s' if len(checks) > 1 else ''} held: {'; '.join(map(str, checks))}"
    return PluginEvent(plugin_id="check", event=StatusRuntimeEvent(key="check", label=label))


def _text(asked: object, name: str) -> str:
    value = asked.get(name) if isinstance(asked, Mapping) else None
    return value if isinstance(value, str) else ""


def _without_end(activities: list[TurnActivity], checkpoint: TurnCheckpoint) -> list[TurnActivity]:
    """With what was outstanding, a cell or calls, and nothing that says that it ended."""
    effect = checkpoint.outstanding_effect
    if not isinstance(effect, ExecCode):
        return [*activities, *outstanding_told(checkpoint)]
    last = activities[-2:]
    if (
        isinstance(last[-1], CodeBlockCompleted)
        and isinstance(last[0], CodeBlockStarted)
        and last[0].code == effect.code
    ):
        return activities[:-1]
    return [*activities, *outstanding_told(checkpoint)]


# ------------------------------------------------------------------------------------------------------- folded turns


class FoldedTurns:
    """Where the content of a session's folded turns is, and what it looks like. One checkpoint is open at a time."""

    def __init__(self, session: CarriedSession) -> None:
        self._next: dict[str, CarriedTurn] = {}
        """By the place of a folded turn, the next one that is whole."""
        self._open: tuple[str, _Conversation] | None = None
        later: CarriedTurn | None = None
        for turn in reversed([*session.turns, *([session.head] if session.head is not None else [])]):
            if turn.text is not None:
                later = turn
            elif later is not None:
                self._next[turn.place] = later

    def holder(self, turn: CarriedTurn) -> CarriedTurn | None:
        """The turn whose conversation holds a folded one; None: none that is here does, or it is whole itself."""
        later = self._next.get(turn.place)
        return later if later is not None and self._conversation(later).holds(turn.number) else None

    def picture(self, turn: CarriedTurn) -> TurnPicture | None:
        """What the model saw of a folded turn; None when it has no `holder`."""
        later = self.holder(turn)
        return self._conversation(later).picture(turn) if later is not None else None

    def _conversation(self, turn: CarriedTurn) -> _Conversation:
        if self._open is None or self._open[0] != turn.place:
            assert turn.text is not None
            self._open = None
            self._open = turn.place, _Conversation.of(open_text(turn.text, place=turn.place))
        return self._open[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Conversation:
    """What a checkpoint holds of its own turn and of those before it."""

    checkpoint: TurnCheckpoint
    turns: Mapping[str, Sequence[Message]]
    """By the id of a turn's request: that message, and those up to the next request."""
    records: TurnRecords

    @classmethod
    def of(cls, checkpoint: TurnCheckpoint) -> _Conversation:
        done = [effect for effect in checkpoint.pending_effects if isinstance(effect, Done)]
        turns: dict[str, list[Message]] = {}
        own: list[Message] = []
        for message in done[-1].messages if done else checkpoint.messages:
            if _REQUEST.fullmatch(message.id):
                own = turns[message.id] = []
            own.append(message)
        return cls(checkpoint=checkpoint, turns=turns, records=records_of(checkpoint))

    def holds(self, number: int) -> bool:
        return f"m_user_{number}" in self.turns

    def picture(self, turn: CarriedTurn) -> TurnPicture:
        own = self.turns[f"m_user_{turn.number}"]
        request = "\n\n".join(part.content for part in own[0].parts if part.kind in (PartKind.TEXT, PartKind.PROSE))
        alone = replace(self.checkpoint, messages=AppendOnly(own), pending_effects=())
        picture = TurnPicture()
        told = told_of(alone, None, turn=turn.number, request=request, model="", protocol="", records=self.records)
        for activity in told:
            picture = picture.apply(TURN_ACTIVITY.decode(activity))
        state, why = _ENDS.get(turn.ref["outcome"], (PictureState.DONE, ""))
        picture = replace(without_values(picture, own, self.records), state=state, why=why)
        return with_answer(picture, own, self.records) if state is PictureState.DONE else picture
