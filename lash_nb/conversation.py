"""What a session remembers from turn to turn: history, the kernel's last known variables, and the chain of envelopes.

The chain: each finished turn's envelope names the one before as its parent; heads (the turn in progress) replace each
other and are nobody's parent. `seq` counts every envelope that was made. Those of turns that an earlier process
finished are made anew when somebody wants to read them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from .errors import NotebookError
from .host import TurnResult
from .machine.attachments import AttachmentStore
from .machine.config import TurnProtocol
from .machine.effects import Done, Emit
from .machine.events import SessionEventRecord, TurnOutcomeEvent
from .machine.execution import CellOutcome, NamespaceSummary
from .machine.messages import AppendOnly, Message, MessageRole, Part, PartKind
from .machine.outcomes import FinalValue, Finished, Stopped, TurnOutcome, TurnStopReason
from .machine.picture import TurnPicture
from .machine.state import TurnCheckpoint
from .machine.wire import Json
from .recorded import RecordedSession, RecordedTurn, protocol_of
from .stores.envelopes import FORMAT_VERSION, is_reference, make_envelope
from .stores.notebook import make_block
from .stores.references import MOST_REQUEST
from .turns import Turn

__all__ = ["Conversation", "OnBlock", "OnHead"]

_log = logging.getLogger("lash_nb")


OnBlock = Callable[[dict[str, Any], bool], None]
"""Told the value of `metadata.lash_nb`, and whether no turn is in progress."""
OnHead = Callable[[Callable[[], None]], None]
"""Given what makes the block with the turn in progress and hands it on: to be called at once, a little later, or never.
Of several the newest alone counts; all are called on the session's loop, and what comes too late does nothing."""


@dataclass(slots=True)
class _Link:
    """A turn in the chain: its envelope, or what that is made of."""

    sha256: str
    envelope: dict[str, Any] | None
    recorded: RecordedTurn | None = None


class Conversation:
    """The turns of one session, so far."""

    def __init__(
        self, session_id: str, *, engine: str, on_block: OnBlock | None = None, on_head: OnHead | None = None
    ) -> None:
        self.session_id = session_id
        self.turns: list[Turn] = []
        self.messages: AppendOnly[Message] = AppendOnly()
        self.events: AppendOnly[SessionEventRecord] = AppendOnly()
        self.run_offset = 0
        """Iterations of all turns so far; the next turn's machine counts from here."""
        self.known_variables = NamespaceSummary()
        self.known_epoch = ""
        """The life of the main kernel in which those were seen."""
        self._engine = engine
        self._on_block = on_block
        self._on_head: OnHead = on_head or (lambda publish: publish())
        self.forked_from: Mapping[str, Json] | None = None
        """Of which session, after which turn (`session`, `turn`, `sha256`) this one went its own way."""
        self._seq = 0
        self._chain: list[_Link] = []

    @property
    def next_number(self) -> int:
        """Of the turn that is asked for next; a notebook need not carry the first ones."""
        if self.turns:
            return self.turns[-1].number + 1
        last = self._chain[-1].envelope if self._chain else None
        return 1 if last is None else int(last["turn"]) + 1

    def asked(self, number: int, text: str, *, context: str = "") -> AppendOnly[Message]:
        """The history with a new request at its end; the conversation itself changes only with `adopt`.

        `context` is told with it, as a note that is not the user's.
        """
        messages = [_message(f"m_user_{number}", MessageRole.USER, text)]
        if context:
            messages.append(_message(f"m_context_{number}", MessageRole.SYSTEM, context))
        return self.messages.appended(messages)

    def envelope(
        self,
        number: int,
        checkpoint: TurnCheckpoint,
        protocol: TurnProtocol[Any, Any, Any],
        *,
        dollars: float | None = None,
        kept_steps: int = 0,
        resume: Mapping[str, Json] | None = None,
    ) -> dict[str, Any] | None:
        """The next envelope of the chain; None (and a warning in the log) for a turn too large for any notebook.

        `dollars` is what the turn has cost so far, where that is known, `kept_steps` how many of its steps no model
        gave; `resume` what going on with it needs.
        """
        self._seq += 1
        try:
            return make_envelope(
                checkpoint.to_json(protocol),
                session=self.session_id,
                turn=number,
                seq=self._seq,
                parent=self._chain[-1].sha256 if self._chain else None,
                saved_at=datetime.now(UTC).isoformat(timespec="seconds"),
                engine=self._engine,
                dollars=dollars,
                kept_steps=kept_steps,
                resume=resume,
            )
        except NotebookError as error:
            _log.warning("turn %d: %s", number, error)
            return None

    def adopt(self, turn: Turn, result: TurnResult) -> None:
        """Take a finished turn in: its messages and records become history, its envelope a link of the chain."""
        self._take(turn, result.done, result.checkpoint)
        self.known_variables, self.known_epoch = result.known_variables, result.known_epoch
        if turn.envelope is not None:
            self._chain.append(_Link(turn.envelope["sha256"], turn.envelope))
        self.publish(None)

    def restore(
        self, session: RecordedSession, *, store: AttachmentStore, carried: Iterable[Mapping[str, Any]] = ()
    ) -> None:
        """Take in the turns that earlier processes finished; `carried` are envelopes of theirs that a notebook has.

        Raises DecodeError.
        """
        self.forked_from = session.forked_from
        had = {envelope["sha256"]: dict(envelope) for envelope in carried if not is_reference(envelope)}
        links = {int(one["turn"]): _Link(str(one["sha256"]), dict(one)) for one in session.folded}
        for recorded in session.turns:
            assert recorded.checkpoint is not None
            assert recorded.done is not None
            self._take(_restored(recorded, session.id, store), recorded.done, recorded.checkpoint)
            if recorded.chain is not None:
                digest = str(recorded.chain["sha256"])
                links[recorded.number] = _Link(digest, had.get(digest), replace(recorded, told=[]))
        self._chain += [links[number] for number in sorted(links)]
        self.known_variables = session.known
        self._seq = session.seq

    def _take(self, turn: Turn, done: Done, checkpoint: TurnCheckpoint) -> None:
        self.messages, self.events = done.messages, checkpoint.events
        self.run_offset = done.protocol_iteration + 1
        if not turn.ok:
            note = _message(f"m_note_{turn.number}", MessageRole.SYSTEM, _without_answer(turn.picture))
            self.messages = self.messages.appended((note,))
        self.turns.append(turn)

    def _envelopes(self) -> list[dict[str, Any]]:
        """Those of all turns, each of this session; a reference where one cannot be made as it was."""
        for link in self._chain:
            if link.envelope is None and link.recorded is not None:
                link.envelope = self._made_again(link.recorded) or _referred(link.recorded)
        return [{**link.envelope, "session": self.session_id} for link in self._chain if link.envelope is not None]

    def _made_again(self, recorded: RecordedTurn) -> dict[str, Any] | None:
        """The envelope of an earlier turn: the same hash, or none."""
        if recorded.chain is None or recorded.checkpoint is None:
            return None
        try:
            envelope = make_envelope(
                recorded.checkpoint.to_json(protocol_of(recorded.asked.protocol)),
                session=self.session_id,
                turn=recorded.number,
                dollars=recorded.dollars,
                resume={"asked": recorded.asked.to_json()},
                before=str(recorded.chain["sha256"]),
                **{name: recorded.chain[name] for name in ("seq", "parent", "saved_at", "engine")},
            )
        except (NotebookError, KeyError) as error:
            _log.warning("turn %d: %s", recorded.number, error)
            return None
        return envelope if envelope["sha256"] == recorded.chain["sha256"] else None

    def progress(self, publish: Callable[[], None]) -> None:
        """A turn is in progress: `publish` makes its envelope and hands it on, when and if somebody wants that."""
        if self._on_block is not None:
            try:
                self._on_head(publish)
            except Exception:
                _log.exception("a copy of the turn in progress could not be handed on")

    def publish(self, head: dict[str, Any] | None) -> None:
        """Hand on the block. Copies are copies: when one cannot be made, the turn goes on."""
        if self._on_block is None:
            return
        try:
            linked = _linked([*self._envelopes(), *([head] if head is not None else [])])
            turns, head = (linked[:-1], linked[-1]) if head is not None else (linked, None)
            block = make_block(session=self.session_id, head=head, turns=turns, forked_from=self.forked_from)
            self._on_block(block, head is None)
        except Exception:
            _log.exception("a copy of the turn could not be handed on")


def _linked(envelopes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each with the one before as its parent; they may have been made when there was another one, or it was let go."""
    before = [None, *(envelope["sha256"] for envelope in envelopes)]
    return [
        envelope if envelope["parent"] == parent else {**envelope, "parent": parent}
        for parent, envelope in zip(before, envelopes, strict=False)
    ]


def _restored(recorded: RecordedTurn, session: str, store: AttachmentStore) -> Turn:
    """A turn of an earlier process. A value that had a Python type is its JSON here."""
    checkpoint = recorded.checkpoint
    assert checkpoint is not None
    told = [effect.event for effect in checkpoint.pending_effects if isinstance(effect, Emit)]
    outcomes = [event.outcome for event in told if isinstance(event, TurnOutcomeEvent)]
    outcome: TurnOutcome = outcomes[-1] if outcomes else Stopped(stop=TurnStopReason.RUNTIME_ERROR)
    finish = outcome.finish if isinstance(outcome, Finished) else None
    return Turn(
        session=session,
        number=recorded.number,
        picture=recorded.picture(),
        outcome=outcome,
        usage=checkpoint.cumulative_usage,
        value=finish.value if isinstance(finish, FinalValue) else None,
        afresh=recorded.asked.afresh,
        store=store,
    )


def _referred(recorded: RecordedTurn) -> dict[str, Any] | None:
    """What is left of an envelope that cannot be made again as it was: its place in the chain."""
    if recorded.chain is None:
        return None
    _log.warning("turn %d: its envelope cannot be made again as it was; the notebook refers to it", recorded.number)
    place = {name: recorded.chain[name] for name in ("seq", "parent", "sha256", "engine", "saved_at")}
    ref = {"bytes": 0, "request": recorded.asked.text[:MOST_REQUEST], "outcome": ""}
    return {"version": FORMAT_VERSION, "session": "", "turn": recorded.number, **place, "ref": ref}


def _without_answer(picture: TurnPicture) -> str:
    """What the next turn is told of one that did not end with an answer."""
    text = f"The turn before did not end with an answer: {picture.sentence}."
    last = picture.steps[-1] if picture.steps else None
    if last is not None and last.code is not None and last.outcome is CellOutcome.INTERRUPTED:
        text += f" This cell was interrupted, so it may have run in part:\n{last.code}"
    return text


def _message(message_id: str, role: MessageRole, text: str) -> Message:
    part = Part(id=f"{message_id}.p0", kind=PartKind.TEXT, content=text)
    return Message(id=message_id, role=role, parts=(part,))
