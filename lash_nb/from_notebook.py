"""A session as a notebook carries it, made into what is recorded of one.

Decided here: what a notebook says is untrusted. No path of it is followed, no bound of it is above ours, the one model
that it may name is a cassette beside it, and its kernel is looked for by id among this user's own. Of several chains
the one that `stores.carried` chose is taken. Nothing here runs, unpickles or calls anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .approving import call_approval_id, wish_of
from .asked import Asked
from .errors import CorruptCheckpointError, DecodeError, InputError, JournalError, NotebookError
from .machine.activities import TURN_ACTIVITY
from .machine.activity import ApprovalAsked
from .machine.approvals import APPROVAL, Approval
from .machine.effects import ExecCode, ToolCalls
from .machine.execution import NamespaceSummary, VariableSummary
from .machine.state import TurnCheckpoint
from .machine.tool_specs import RUN_CODE
from .recorded import RecordedKernel, RecordedSession, RecordedTurn, protocol_of
from .stores.carried import Carried, CarriedSession, CarriedTurn, Trouble, carried
from .stores.envelopes import Envelope, fold_envelope
from .stores.summaries import conversation_length, summarize
from .stores.told import told_of
from .stores.told_records import called_code

__all__ = ["Bounds", "chosen", "session_of", "session_of_notebook"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The most that a turn of a notebook may take; None: no bound of ours."""

    steps: int | None = None
    seconds: float | None = None
    cell_seconds: float | None = None


def chosen(found: Carried, *, name: str) -> CarriedSession:
    """The session that a notebook is of; `name` is the notebook's, for the message.

    Raises:
        InputError: it carries none.
        NotebookError: that can be read here. CorruptCheckpointError: nothing of it is whole.
    """
    session = found.session(found.current)
    if session is not None and (session.turns or session.head is not None):
        return session
    fatal = [problem for problem in found.problems if problem.fatal]
    if not fatal:
        raise InputError(f"{name} carries no session of lash_nb, and a session is what can be gone on with")
    kind = NotebookError if fatal[0].trouble is Trouble.NEWER else CorruptCheckpointError
    raise kind(fatal[0].sentence)


def session_of_notebook(path: Path, *, bounds: Bounds | None = None) -> RecordedSession:
    """The session that the notebook at `path` carries.

    Raises:
        NotebookError: it carries none that can be read.
        CorruptCheckpointError: what it carries is damaged; names the place.
    """
    from .stores.documents import load_notebook  # nbformat takes long to import

    return session_of(chosen(carried(load_notebook(path)), name=str(path)), bounds=bounds or Bounds())


def session_of(found: CarriedSession, *, bounds: Bounds) -> RecordedSession:
    """A carried session as it is recorded; its bounds are at most those given.

    Raises:
        CorruptCheckpointError: what it carries is no turn; names the place.
    """
    session = RecordedSession(id=found.session, forked_from=_forked_from(found.forked_from))
    turns = list(found.turns)
    kept = next((index for index in range(len(turns), 0, -1) if turns[index - 1].text is None), 0)
    session.folded = [dict(fold_envelope(turn.envelope)) for turn in turns[:kept]]
    session.seq = max((turn.seq for turn in turns[:kept]), default=0)
    before: TurnCheckpoint | None = None
    for turn in (*turns[kept:], *([found.head] if found.head is not None else ())):
        recorded = _recorded(turn, before, bounds)
        if turn is found.head:
            session.running = recorded
        elif recorded.done is None:
            raise CorruptCheckpointError(f"{turn.place}.checkpoint is of a turn that has not ended")
        else:
            session.turns.append(recorded)
        before = recorded.checkpoint
        session.seq = max(session.seq, turn.seq)
        _learn(session, turn.envelope, running=turn is found.head)
    return session


def _forked_from(value: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if value is None else {name: value[name] for name in ("session", "turn", "sha256") if name in value}


def _recorded(turn: CarriedTurn, before: TurnCheckpoint | None, bounds: Bounds) -> RecordedTurn:
    place = turn.place
    asked = _bounded(
        _asked(turn.envelope, place),
        max_steps=bounds.steps,
        time_limit_s=bounds.seconds,
        cell_limit_s=bounds.cell_seconds,
    )
    assert turn.text is not None
    try:
        checkpoint = TurnCheckpoint.from_text(turn.text, protocol_of(asked.protocol))
    except (DecodeError, JournalError) as error:
        raise CorruptCheckpointError(f"{place}.checkpoint holds no TurnCheckpoint: {error}") from error
    if turn.number > conversation_length(checkpoint):  # the next one counts on from it
        raise CorruptCheckpointError(f"{place}.turn is {turn.number}, and its conversation is shorter than that")
    return _turn(turn.envelope, asked, checkpoint, before)


def _turn(envelope: Envelope, asked: Asked, checkpoint: TurnCheckpoint, before: TurnCheckpoint | None) -> RecordedTurn:
    number = envelope["turn"]
    summary = summarize(checkpoint, session=envelope["session"], turn=number, before=before)
    asked = replace(asked, text=summary.request or asked.text)
    resume = envelope.get("resume", {})
    ended = summary.outcome is not None
    waits = checkpoint.outstanding_effect
    asking = _asking(resume.get("asking"), waits)
    told = told_of(checkpoint, before, turn=number, request=asked.text, model=asked.model, protocol=asked.protocol)
    if asking is not None:
        told.append(TURN_ACTIVITY.encode(ApprovalAsked(approval=asking)))
    return RecordedTurn(
        number=number,
        # The journal that is made of this is believed later.
        asked=replace(asked, model=asked.model if _is_cassette_beside(asked.model) else ""),
        at=envelope["saved_at"],
        told=told,
        checkpoint=checkpoint,
        effect=checkpoint.outstanding_effect_id,
        calls=dict.fromkeys(_may_have_begun(waits, asking)) if isinstance(waits, ToolCalls) else {},
        calls_known=ended or (isinstance(waits, ToolCalls) and asking is not None),
        asking=asking,
        steps=_count(resume.get("steps")),
        said=_count(resume.get("said")),
        ended=ended,
        ended_at=envelope["saved_at"] if ended else "",
        chain={name: envelope[name] for name in ("seq", "parent", "sha256", "engine", "saved_at")},
        dollars=envelope.get("dollars"),
    )


def _may_have_begun(effect: ToolCalls, asking: Approval | None) -> list[str]:
    """The calls of a batch that may have begun: a notebook does not say of any that it was, and none is made again.

    Before a call of the model's own is asked about nothing of its batch begins; a cell waits for those before it, and
    the cells behind it wait with it.
    """
    names = [call.call_id for call in effect.calls]
    if asking is None:
        return names
    if asking.wish is not None:
        return []
    behind = names[names.index(asking.call_id) :]
    return [call.call_id for call in effect.calls if call.tool_name != RUN_CODE or call.call_id not in behind]


def _asking(value: object, effect: object) -> Approval | None:
    """The outstanding cell or call as one that waits, where the notebook says just that.

    What waits was never begun, so that it is run in a new kernel, or made. That is the notebook's word alone; whoever
    agrees to it is shown the cell or the call that the checkpoint has, and no other.
    """
    if not isinstance(value, Mapping):
        return None
    try:
        # nbformat has its own kind of object
        told = APPROVAL.decode({name: dict(one) if isinstance(one, Mapping) else one for name, one in value.items()})
    except DecodeError:
        return None
    waits = _waits(effect, told.call_id)
    if waits is None or (told.wish is None) != (waits.wish is None):
        return None
    # Whose tool it is, is found out where it is made; a secret may have been taken out of what is told.
    wish = None if told.wish is None or waits.wish is None else replace(told.wish, target=waits.wish.target, whose="")
    # A secret may have been taken out of one of the two; another name would not be found when it is decided.
    return waits if replace(told, code=waits.code, wish=wish) == waits else None


def _waits(effect: object, call_id: str) -> Approval | None:
    """What would be asked about the outstanding cell, or about the call of that id in the outstanding batch."""
    if isinstance(effect, ExecCode):
        return Approval(id=f"cell-{effect.id}", effect_id=effect.id, code=effect.code, language=effect.language)
    calls = effect.calls if isinstance(effect, ToolCalls) else ()
    call = next((call for call in calls if call.call_id == call_id), None)
    if not isinstance(effect, ToolCalls) or call is None:
        return None
    if call.tool_name == RUN_CODE:
        name, code = f"cell-{effect.id}-{call_id}", called_code(call) or ""
        return Approval(id=name, effect_id=effect.id, code=code, call_id=call_id)
    wish = wish_of(call)
    return Approval(
        id=call_approval_id(effect, call), effect_id=effect.id, code=wish.target, wish=wish, call_id=call_id
    )


def _is_cassette_beside(model: str) -> bool:
    """Whether it names a cassette, and by no more than the name of a file."""
    word, _, name = model.partition(":")
    return word == "replay" and name not in ("", ".", "..") and not re.search(r"[/\\:\0]", name)


def _asked(envelope: Envelope, place: str) -> Asked:
    """The request as the envelope says; older ones say nothing."""
    value = envelope.get("resume", {}).get("asked")
    if value is None:
        return Asked(text="", model="", protocol="code")
    try:
        return replace(Asked.from_json(value), instructions="")
    except DecodeError as error:
        raise CorruptCheckpointError(f"{place}.resume is damaged: {error}") from error


def _bounded(asked: Asked, **most: float | None) -> Asked:
    """With no bound above those given, which stand where it says none that is a bound (NaN is none)."""
    bounds: dict[str, Any] = {}
    for name, ours in most.items():
        told = getattr(asked, name)
        is_one = told is not None and 0 < told < _MOST and (ours is None or told <= ours)
        bounds[name] = told if is_one else ours
    return replace(asked, **bounds)


_MOST = 2**31


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST else 0


_MOST_WAITING, _LONGEST_WAITING = 20, 10_000


def _learn(session: RecordedSession, envelope: Envelope, *, running: bool) -> None:
    """Label, kernels, variables' names and what waits to be delivered, as far as they are what they should be.

    What waits is shown with a turn that is gone on with, and only then: it would be said in the user's name.
    """
    resume = envelope.get("resume", {})
    label, kernels, known = resume.get("label"), resume.get("kernels"), resume.get("known")
    if isinstance(label, str) and re.fullmatch("[0-9]{1,9}", label):
        session.label = label
    for language, epoch in kernels.items() if isinstance(kernels, Mapping) else ():
        if isinstance(epoch, str) and re.fullmatch("[0-9a-f]{8,64}", epoch):
            session.kernels[str(language)] = RecordedKernel(language=str(language), epoch=epoch)
    waiting = resume.get("waiting") if running else None
    for text in waiting[:_MOST_WAITING] if isinstance(waiting, list) else ():
        if isinstance(text, str) and 0 < len(text.strip()) <= _LONGEST_WAITING:
            session.last_said += 1
            session.said[session.last_said] = text
    if isinstance(known, list):
        names = [name for name in known[:200] if isinstance(name, str) and name.isidentifier()]
        session.known = NamespaceSummary(variables=tuple(VariableSummary(name=name, type="") for name in names))
