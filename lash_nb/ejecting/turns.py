"""The turns that a closed notebook shows, for `lash-nb eject`: from its sessions' journals, else from its own copies.

Decided here: the journal is taken where there is one that agrees with what the notebook carries, because it has outputs
and outcomes exactly; of the copies, what the conversation holds. What cannot be had is named. Nothing is run or
written.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..asked import Asked
from ..earlier import earlier_sessions
from ..errors import DecodeError, JournalError
from ..following import read_session, under_way
from ..machine.attachments import AttachmentStore
from ..machine.effects import Done, ExecCode, ToolCalls
from ..machine.events import CodeBlockStarted
from ..machine.messages import AppendOnly, Message
from ..machine.picture import StepPicture, TurnPicture
from ..machine.state import TurnCheckpoint
from ..recorded import RecordedSession, RecordedTurn, protocol_of
from ..stores.blobs import BlobStore
from ..stores.carried import Carried, CarriedSession, Trouble, carried
from ..stores.mentions import journal_place, journal_places, mentions, session_beside
from ..stores.told import outstanding_told, told_of, with_answer, without_values
from ..stores.told_records import records_of

__all__ = ["EjectedTurn", "Gathered", "gathered"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EjectedTurn:
    """One turn, wherever it is from."""

    session: str
    number: int
    picture: TurnPicture
    exact: bool
    """Whether a journal has it; else outputs are what the model saw of them."""
    store: AttachmentStore | None = None
    """Where what was too large for the record is kept."""
    asked: Asked | None = None
    """As it was asked; None: nobody knows any more than the request."""

    @property
    def key(self) -> tuple[str, int]:
        """Session and number."""
        return self.session, self.number

    @property
    def request(self) -> str:
        """What was asked, as `read_cell` has it."""
        return self.picture.request.strip("\n")


@dataclass(slots=True, kw_only=True)
class Gathered:
    """All turns that were found, a session after the other as they began."""

    sessions: dict[str, list[EjectedTurn]] = field(default_factory=dict)
    current: str | None = None
    """The session that the notebook is at."""
    left_out: list[str] = field(default_factory=list)
    """What could not be had, a sentence each."""
    notes: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[EjectedTurn]:
        return (turn for turns in self.sessions.values() for turn in turns)


def gathered(document: Mapping[str, Any], *, path: Path, state_dir: Path | None) -> Gathered:
    """The turns of a notebook (the whole document, and where it is)."""
    found = carried(document)
    said = list(mentions(document))
    places = journal_places(path, state_dir)
    names = list(dict.fromkeys([*(one.session for one in found.sessions), *(one.session for one in said)]))
    notes: list[str] = []
    if not names:
        names = _by_name(path, places, notes)
    gathered = Gathered(current=found.current or (names[-1] if names else None), notes=notes)
    began: dict[str, str] = {}
    for name in names:
        turns, began[name] = _session(name, found, places, gathered)
        gathered.sessions[name] = turns
    gathered.sessions = dict(sorted(gathered.sessions.items(), key=lambda one: began[one[0]]))
    known = {turn.key for turn in gathered}
    for one in said:
        if (one.session, one.turn) not in known:
            gathered.left_out.append(
                f"cell {one.cell + 1} shows turn {one.turn} of session {one.session}, of which neither a journal nor "
                "the notebook has anything that can be read: it was left out"
            )
    had = not gathered.left_out and all(turn.exact for turn in gathered)
    for problem in found.problems:
        # What is damaged in the notebook and whole in a journal is not left out; of a fork only one side is taken.
        if problem.fatal and not (had and gathered.sessions and problem.trouble is not Trouble.FORKED):
            gathered.left_out.append(f"{problem.sentence}: it was left out")
    return gathered


def _by_name(path: Path, places: list[Path], notes: list[str]) -> list[str]:
    """The session that was used last for a notebook that mentions none; else the only one beside it, which is noted."""
    whole = path.resolve()
    for place in places:
        newest = earlier_sessions(place, notebook=whole, directory=whole.parent, most=1)
        if newest:
            return [newest[0].session]
    alone = session_beside(path, places)
    if alone is None:
        return []
    notes.append(alone.sentence)
    return [alone.session]


def _session(name: str, found: Carried, places: list[Path], gathered: Gathered) -> tuple[list[EjectedTurn], str]:
    """The turns of a session, and when it began."""
    carries = found.session(name)
    place = journal_place(name, places)
    if place is not None:
        try:
            session = read_session(place, name)
            if carries is None or _agree(session, carries):
                store = BlobStore(place / "blobs")
                return list(_recorded(session, store)), session.began_at
            why = "does not have the turns that the notebook carries"
        except (JournalError, DecodeError) as error:
            why = f"cannot be read ({error})"
        gathered.notes.append(f"the journal of session {name} {why}: the notebook's own copies are taken")
    if carries is None:
        return [], ""
    first = next(iter(carries.turns), carries.head)
    return list(_copied(carries, gathered)), "" if first is None else str(first.envelope.get("saved_at", ""))


# ---------------------------------------------------------------------------------------------------- from the journal


def _agree(session: RecordedSession, carries: CarriedSession) -> bool:
    """Whether the journal has the turns that the notebook carries."""
    known = {turn.number: turn.chain["sha256"] for turn in session.turns if turn.chain is not None}
    for one in session.folded:
        reference: Any = one
        known[reference["turn"]] = reference["sha256"]
    return all(known.get(turn.number) == turn.sha256 for turn in carries.turns)


def _recorded(session: RecordedSession, store: AttachmentStore) -> Iterator[EjectedTurn]:
    for turn in (*session.turns, *([session.running] if session.running is not None else ())):
        picture = turn.picture()
        if turn.checkpoint is not None and turn.answer is None and not turn.ended:
            began = isinstance(turn.checkpoint.outstanding_effect, ToolCalls)
            picture = _with_outstanding(under_way(picture, turn) if began else picture, turn.checkpoint)
        yield EjectedTurn(
            session=session.id, number=turn.number, picture=picture, exact=True, store=store, asked=turn.asked
        )


def _with_outstanding(picture: TurnPicture, checkpoint: TurnCheckpoint) -> TurnPicture:
    """With the cell that was to run next, or the calls that were to be made."""
    effect = checkpoint.outstanding_effect
    if isinstance(effect, ToolCalls):
        return _with_calls(picture, checkpoint)
    if not isinstance(effect, ExecCode):
        return picture
    last = picture.steps[-1] if picture.steps else None
    if last is None or last.outcome is not None or last.code not in (None, effect.code):
        return replace(picture, steps=(*picture.steps, StepPicture(code=effect.code, language=effect.language)))
    return replace(picture, steps=(*picture.steps[:-1], replace(last, code=effect.code, language=effect.language)))


def _with_calls(picture: TurnPicture, checkpoint: TurnCheckpoint) -> TurnPicture:
    for activity in outstanding_told(checkpoint):
        seen = {call.call_id for step in picture.steps for call in step.tool_calls}
        seen |= {step.call_id for step in picture.steps if step.call_id}
        last = picture.steps[-1] if picture.steps else StepPicture()
        code = activity.code if isinstance(activity, CodeBlockStarted) else None
        waits = code is not None and last.effect_id is None and last.code == code
        if not waits and getattr(activity, "call_id", None) not in seen:
            picture = picture.apply(activity)
    return picture


# --------------------------------------------------------------------------------------------------- from the notebook


def _copied(carries: CarriedSession, gathered: Gathered) -> Iterator[EjectedTurn]:
    """The turns that a notebook carries; one that was folded is in the conversation of a later one."""
    opened: dict[int, tuple[TurnCheckpoint, Asked]] = {}
    chain = [*carries.turns, *([carries.head] if carries.head is not None else [])]
    for turn in chain:
        if turn.text is None:
            continue
        try:
            asked = _asked(turn.envelope)
            opened[turn.number] = TurnCheckpoint.from_text(turn.text, protocol_of(asked.protocol)), asked
        except (DecodeError, JournalError) as error:
            gathered.left_out.append(f"{turn.place} cannot be read ({error}): it was left out")
    for turn in chain:
        later = min((number for number in opened if number >= turn.number), default=None)
        if later is None:
            gathered.left_out.append(
                f"{turn.place}: of turn {turn.number} of session {turn.session} the notebook has no more than its name"
            )
            continue
        checkpoint, asked = opened[later]
        picture = _picture(checkpoint, asked, number=turn.number, folded=later != turn.number)
        if picture is None:
            gathered.left_out.append(f"{turn.place}: turn {turn.number} is not to be found in turn {later}")
            continue
        about = asked if later == turn.number and asked.text else None
        yield EjectedTurn(session=turn.session, number=turn.number, picture=picture, exact=False, asked=about)


def _asked(envelope: Mapping[str, Any]) -> Asked:
    value = envelope.get("resume", {}).get("asked")
    return Asked(text="", model="", protocol="code") if value is None else Asked.from_json(value)


def _picture(checkpoint: TurnCheckpoint, asked: Asked, *, number: int, folded: bool) -> TurnPicture | None:
    """The picture of turn `number` out of a checkpoint of it, or (`folded`) of a later one."""
    own = _own(checkpoint, number)
    if own is None:
        return None
    request = "\n\n".join(part.content for part in own[0].parts)
    about = replace(asked, text=request) if folded or not asked.text else asked
    alone = replace(checkpoint, messages=AppendOnly(own), pending_effects=())
    records = records_of(checkpoint)
    told = told_of(
        alone, None, turn=number, request=about.text, model=about.model, protocol=about.protocol, records=records
    )
    ended = not folded and any(isinstance(effect, Done) for effect in checkpoint.pending_effects)
    turn = RecordedTurn(number=number, asked=about, told=told, checkpoint=checkpoint, ended=ended)
    picture = without_values(turn.picture(), own, records)
    if folded:
        return with_answer(picture, own, records)
    return _with_outstanding(picture, checkpoint)


def _own(checkpoint: TurnCheckpoint, number: int) -> list[Message] | None:
    """The messages of a turn: from its request up to the next one."""
    done = [effect for effect in checkpoint.pending_effects if isinstance(effect, Done)]
    messages: Sequence[Message] = done[-1].messages if done else checkpoint.messages
    requests = [at for at, message in enumerate(messages) if re.fullmatch(r"m_user_\d+", message.id)]
    start = next((at for at in requests if messages[at].id == f"m_user_{number}"), None)
    if start is None:
        return None
    end = next((at for at in requests if at > start), len(messages))
    return list(messages[start:end])
