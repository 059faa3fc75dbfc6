"""What a session remembers from turn to turn: history, the kernel's last known variables, and the chain of envelopes.

The chain: each finished turn's envelope names the one before as its parent; heads (the turn in progress) replace each
other and are nobody's parent. `seq` counts every envelope that was made.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from .errors import NotebookError
from .host import TurnResult
from .machine.config import TurnProtocol
from .machine.events import SessionEventRecord
from .machine.execution import CellOutcome, NamespaceSummary
from .machine.messages import AppendOnly, Message, MessageRole, Part, PartKind
from .machine.outcomes import Finished
from .machine.picture import TurnPicture
from .machine.state import TurnCheckpoint
from .stores.notebook import make_block, make_envelope
from .turns import Turn

__all__ = ["Conversation", "OnBlock"]

_log = logging.getLogger("lash_nb")


OnBlock = Callable[[dict[str, Any], bool], None]
"""Told the value of `metadata.lash_nb`, and whether no turn is in progress."""


class Conversation:
    """The turns of one session, so far."""

    def __init__(self, session_id: str, *, engine: str, on_block: OnBlock | None = None) -> None:
        self.session_id = session_id
        self.turns: list[Turn] = []
        self.messages: AppendOnly[Message] = AppendOnly()
        self.events: AppendOnly[SessionEventRecord] = AppendOnly()
        self.run_offset = 0
        """Iterations of all turns so far; the next turn's machine counts from here."""
        self.known_variables = NamespaceSummary()
        self._engine = engine
        self._on_block = on_block
        self._seq = 0
        self._envelopes: list[dict[str, Any]] = []

    def asked(self, number: int, text: str) -> AppendOnly[Message]:
        """The history with a new request at its end; the conversation itself changes only with `adopt`."""
        return self.messages.appended((_message(f"m_user_{number}", MessageRole.USER, text),))

    def envelope(
        self,
        number: int,
        checkpoint: TurnCheckpoint,
        protocol: TurnProtocol[Any, Any, Any],
        *,
        dollars: float | None = None,
    ) -> dict[str, Any] | None:
        """The next envelope of the chain; None (and a warning in the log) for a turn too large for any notebook.

        `dollars` is what the turn has cost so far, where that is known.
        """
        self._seq += 1
        try:
            return make_envelope(
                checkpoint.to_json(protocol),
                session=self.session_id,
                turn=number,
                seq=self._seq,
                parent=self._envelopes[-1]["sha256"] if self._envelopes else None,
                saved_at=datetime.now(UTC).isoformat(timespec="seconds"),
                engine=self._engine,
                dollars=dollars,
            )
        except NotebookError as error:
            _log.warning("turn %d: %s", number, error)
            return None

    def adopt(self, turn: Turn, result: TurnResult) -> None:
        """Take a finished turn in: its messages and records become history, its envelope a link of the chain."""
        self.messages, self.events = result.done.messages, result.checkpoint.events
        self.run_offset = result.done.protocol_iteration + 1
        self.known_variables = result.known_variables
        if not isinstance(result.outcome, Finished):
            note = _message(f"m_note_{turn.number}", MessageRole.SYSTEM, _without_answer(turn.picture))
            self.messages = self.messages.appended((note,))
        if turn.envelope is not None:
            self._envelopes.append(turn.envelope)
        self.turns.append(turn)
        self.publish(None)

    @property
    def has_readers(self) -> bool:
        """Whether somebody is told the block: else nobody needs a head."""
        return self._on_block is not None

    def publish(self, head: dict[str, Any] | None) -> None:
        """Hand on the block. Copies are copies: when one cannot be made, the turn goes on."""
        if self._on_block is None:
            return
        try:
            self._on_block(make_block(session=self.session_id, head=head, turns=self._envelopes), head is None)
        except Exception:
            _log.exception("a copy of the turn could not be handed on")


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
