"""What a reference says of the turn whose content was folded away: its size, its request, how it ended.

Decided here: the words for that, and where the request is found: in the conversation, when it is plain which of its
messages it is, else where the envelope says what was asked. An envelope that says something else than the conversation
is not believed: the hash is not over what it says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..machine.effects import Done, Emit
from ..machine.events import TurnOutcomeEvent
from ..machine.messages import MessageRole, PartKind
from ..machine.outcomes import Stopped, TurnOutcome, TurnStopReason
from ..machine.state import TurnCheckpoint
from ..trust import whole_text
from .summaries import own_messages

__all__ = ["MOST_REQUEST", "OUTCOMES", "asked_text", "belied", "reference_to"]

OUTCOMES = ("done", "stopped", "bound", "failed", "")
"""Of a reference; nothing for a turn that had not ended."""

MOST_REQUEST = 200
"""Characters of a request that a reference repeats."""

_ENDINGS: Mapping[TurnStopReason, str] = {
    TurnStopReason.CANCELLED: "stopped",
    TurnStopReason.MAX_TURNS: "bound",
    TurnStopReason.INCOMPLETE: "bound",
}


def asked_text(envelope: Mapping[str, Any]) -> str:
    """What was asked, as the envelope says; empty when it does not."""
    asked = envelope.get("resume", {}).get("asked")
    said = asked.get("text") if isinstance(asked, Mapping) else None
    return said if isinstance(said, str) else ""


def reference_to(envelope: Mapping[str, Any], text: str, checkpoint: TurnCheckpoint) -> dict[str, Any]:
    """The `ref` of a whole envelope, given its text and what that holds."""
    request = _request(checkpoint, envelope["turn"]) or asked_text(envelope)
    return {
        "bytes": len(text.encode()),
        "request": whole_text(request[:MOST_REQUEST]),
        "outcome": _outcome(checkpoint),
    }


def _outcome(checkpoint: TurnCheckpoint) -> str:
    told = [effect.event for effect in checkpoint.pending_effects if isinstance(effect, Emit)]
    outcomes = [event.outcome for event in told if isinstance(event, TurnOutcomeEvent)]
    if outcomes:
        return _ending(outcomes[-1])
    return "failed" if any(isinstance(effect, Done) for effect in checkpoint.pending_effects) else ""


def _ending(outcome: TurnOutcome) -> str:
    if not isinstance(outcome, Stopped):
        return "done"
    return _ENDINGS.get(outcome.stop, "failed") if isinstance(outcome.stop, TurnStopReason) else "failed"


def belied(envelope: Mapping[str, Any], checkpoint: TurnCheckpoint) -> str:
    """What of an envelope its own checkpoint contradicts, in words; empty when nothing does."""
    said = asked_text(envelope)
    if said and said != (_request(checkpoint, envelope["turn"]) or said):
        return "resume says that something else was asked than its checkpoint holds"
    return ""


def _request(checkpoint: TurnCheckpoint, turn: int) -> str:
    """The request as the conversation has it; nothing where that is not plain."""
    own = own_messages(checkpoint, None, turn=turn)
    said = [message for message in own if message.role is MessageRole.USER]
    if not said or (turn != 1 and said[0].id != f"m_user_{turn}"):
        return ""
    parts = [part.content for part in said[0].parts if part.kind in (PartKind.TEXT, PartKind.PROSE)]
    return "\n\n".join(parts)
