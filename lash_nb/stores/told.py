"""What was to be seen of a turn, made from its checkpoint alone: for turns that came without a record of it.

Decided here: prose, cells and the texts of their results are shown as the model saw them; times, images and tool calls
are not in a checkpoint. Reads the machine's records only.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..machine.activities import TURN_ACTIVITY
from ..machine.activity import CodeBlockCompleted, CodeBlockStarted, TurnStarted
from ..machine.events import LlmRequestEvent, TextDelta, TurnActivity
from ..machine.execution import CellOutcome, CellOutput, StreamOutput
from ..machine.messages import Message, MessageRole, PartKind
from ..machine.state import TurnCheckpoint
from ..machine.wire import Json
from .summaries import own_messages

__all__ = ["CELL_LABELS", "told_of"]

CELL_LABELS: Mapping[str, CellOutcome] = {
    "interrupted": CellOutcome.INTERRUPTED,
    "timeout": CellOutcome.TIMEOUT,
    "kernel": CellOutcome.DEAD,
    "aborted": CellOutcome.ABORTED,
    "lost": CellOutcome.LOST,
    "policy": CellOutcome.ABORTED,
}
"""The label with which an observation says how its cell ended; any other one is an error's."""


def told_of(
    checkpoint: TurnCheckpoint, before: TurnCheckpoint | None, *, turn: int, request: str, model: str, protocol: str
) -> list[Json]:
    """The activities (`TURN_ACTIVITY`) of a turn; `before` is the last checkpoint of the turn before it."""
    told: list[TurnActivity] = [TurnStarted(turn=turn, request=request, model=model, protocol=protocol)]
    own = own_messages(checkpoint, before, turn=turn)
    for number, message in enumerate(own):
        if message.role is MessageRole.ASSISTANT:
            following = own[number + 1] if number + 1 < len(own) else None
            told += _step(message, following, number)
    return [TURN_ACTIVITY.encode(activity) for activity in told]


def _step(message: Message, following: Message | None, number: int) -> list[TurnActivity]:
    step: list[TurnActivity] = [LlmRequestEvent(protocol_iteration=number, message_count=0, tool_list="")]
    for part in message.parts:
        if part.kind in (PartKind.PROSE, PartKind.TEXT):
            step.append(TextDelta(content=part.content))
        elif part.kind is PartKind.CODE:
            seen = following is not None and following.role is MessageRole.USER
            outputs = _outputs(following) if following is not None and seen else ()
            failed = following is not None and any(part.kind is PartKind.ERROR for part in following.parts)
            step += [
                CodeBlockStarted(effect_id=number, language="python", code=part.content),
                CodeBlockCompleted(
                    effect_id=number,
                    outcome=CellOutcome.ERROR if failed else CellOutcome.OK,
                    outputs=outputs,
                    duration_ms=0,
                ),
            ]
    return step


def _outputs(message: Message) -> tuple[CellOutput, ...]:
    outputs: list[CellOutput] = []
    for part in message.parts:
        if part.kind in (PartKind.OUTPUT, PartKind.ERROR, PartKind.TEXT) and part.content.strip():
            text = part.content.rstrip("\n") + "\n"
            outputs.append(StreamOutput(name="stderr" if part.kind is PartKind.ERROR else "stdout", head=text))
    return tuple(outputs)
