"""What a stored TurnCheckpoint says about its turn: request, answer, code, value, outcome, steps, tokens.

Decided here: a turn's own messages are those from its request on, because histories only grow; where that cannot be
told, those that the checkpoint of the turn before does not hold. Its outcome is what the machine had still to tell when
the checkpoint was taken (a finished turn is stored before its last effects are drained). Reads the machine's records
only; opens no envelope, runs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..machine.effects import Done, Emit
from ..machine.events import TurnOutcomeEvent
from ..machine.llm import LlmUsage
from ..machine.messages import Message, MessageRole, PartKind
from ..machine.outcomes import (
    AssistantMessage,
    FinalValue,
    Finished,
    Stopped,
    ToolValueFinish,
    TurnFinish,
    TurnOutcome,
    TurnStop,
    TurnStopReason,
)
from ..machine.state import TurnCheckpoint
from ..machine.wire import Json
from .told_records import records_of

__all__ = ["TurnSummary", "conversation_length", "own_messages", "summarize"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSummary:
    """One turn as a reader of the notebook wants it."""

    id: str
    turn: int
    request: str
    text: str
    """The answer (a value's text when it is one); what was said last when there is none."""
    code: tuple[str, ...]
    value: Json
    """What `finish` was given, None when it was not called."""
    outcome: TurnOutcome | None
    """None while the turn is in progress."""
    steps: int
    usage: LlmUsage
    dollars: float | None = None
    """What its model calls cost, where that was known."""
    kept_steps: int = 0
    """How many more steps kept code gave, and no model."""

    @property
    def kept(self) -> str | None:
        """What became of kept code: it `ran`, was `repaired` where it failed, or `failed`; None: there was none."""
        if not self.kept_steps:
            return None
        return "repaired" if self.steps else "ran" if self.stop is None else "failed"

    @property
    def stop(self) -> TurnStop | None:
        """Why the turn stopped without an answer; None when it has one, or is in progress."""
        return self.outcome.stop if isinstance(self.outcome, Stopped) else None


def summarize(checkpoint: TurnCheckpoint, *, session: str, turn: int, before: TurnCheckpoint | None) -> TurnSummary:
    """The summary of a turn; `before` is the checkpoint of the turn before it in the session."""
    messages, records = own_messages(checkpoint, before, turn=turn), records_of(checkpoint)
    told = [effect.event for effect in checkpoint.pending_effects if isinstance(effect, Emit)]
    outcomes = [event.outcome for event in told if isinstance(event, TurnOutcomeEvent)]
    outcome = outcomes[-1] if outcomes else None
    finish = outcome.finish if isinstance(outcome, Finished) else None
    refused = isinstance(outcome, Stopped) and outcome.stop is TurnStopReason.MAX_TURNS  # its last step made no call
    return TurnSummary(
        id=f"{session}.{turn}",
        turn=turn,
        request=_texts(next((m for m in messages if m.role is MessageRole.USER), None)),
        text=_answer(finish) if finish else _last_said(messages),
        code=tuple(
            code
            for message in messages
            if message.role is MessageRole.ASSISTANT
            for part in message.parts
            if (code := part.content if part.kind is PartKind.CODE else records.code_of(part)) is not None
        ),
        value=finish.value if isinstance(finish, FinalValue | ToolValueFinish) else None,
        outcome=outcome,
        steps=checkpoint.protocol_iteration - checkpoint.protocol_run_offset + (0 if refused else 1),
        usage=checkpoint.cumulative_usage,
    )


def own_messages(checkpoint: TurnCheckpoint, before: TurnCheckpoint | None, *, turn: int) -> list[Message]:
    """Those of the turn itself, its request first; `before` is the last checkpoint of the turn before it."""
    messages = _messages(checkpoint)
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].id == f"m_user_{turn}":
            return list(messages[index:])
    known = {message.id for message in _messages(before)} if before is not None else set()
    return [message for message in messages if message.id not in known]


def conversation_length(checkpoint: TurnCheckpoint) -> int:
    """How many messages the conversation has: at least one for each of its turns."""
    return len(_messages(checkpoint))


def _messages(checkpoint: TurnCheckpoint) -> Sequence[Message]:
    """The conversation; that of a finished turn has moved into its Done effect."""
    done = [effect for effect in checkpoint.pending_effects if isinstance(effect, Done)]
    return done[-1].messages if done else checkpoint.messages


def _answer(finish: TurnFinish) -> str:
    return finish.text if isinstance(finish, AssistantMessage) else str(finish.value)


def _texts(message: Message | None) -> str:
    parts = message.parts if message else ()
    return "\n\n".join(part.content for part in parts if part.kind in (PartKind.TEXT, PartKind.PROSE))


def _last_said(messages: Sequence[Message]) -> str:
    said = (_texts(message) for message in reversed(messages) if message.role is MessageRole.ASSISTANT)
    return next((text for text in said if text), "")
