"""What was to be seen of a turn, made from its checkpoint alone: for turns that came without a record of it.

Decided here: prose, cells and the texts of their results are shown as the model saw them, but for a cell that the user
had changed: of that, the code that ran is shown. How a cell ended is what its record says: the conversation alone only
tells success from failure. Times, images and tool calls are not in a checkpoint. Reads the machine's records only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..machine.activities import TURN_ACTIVITY
from ..machine.activity import CodeBlockCompleted, CodeBlockStarted, TurnStarted
from ..machine.events import (
    LlmRequestEvent,
    PluginEvent,
    ProtocolRecord,
    StatusRuntimeEvent,
    TextDelta,
    TurnActivity,
)
from ..machine.execution import CellOutcome, CellOutput, StreamOutput
from ..machine.messages import Message, MessageRole, PartKind
from ..machine.state import TurnCheckpoint
from ..machine.wire import Json
from .summaries import own_messages

__all__ = ["CELL_LABELS", "CellRecord", "cell_records", "told_of"]

_ENTRY = "CodeTrajectoryEntry"

CELL_LABELS: Mapping[str, CellOutcome] = {
    "interrupted": CellOutcome.INTERRUPTED,
    "timeout": CellOutcome.TIMEOUT,
    "kernel": CellOutcome.DEAD,
    "aborted": CellOutcome.ABORTED,
    "lost": CellOutcome.LOST,
    "policy": CellOutcome.ABORTED,
}
"""The label with which an observation says how its cell ended; any other one is an error's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRecord:
    """What the protocol wrote down of a cell, beside what the conversation holds."""

    label: str = ""
    """With which its error begins; empty when it had none."""
    ran: str | None = None
    """The code that ran, where the user had changed the cell."""
    final: tuple[Any, ...] = ()
    """The value that ended the turn, if one did."""
    refused: str = ""
    """What was wrong with its value, where that was refused."""


def cell_records(checkpoint: TurnCheckpoint) -> dict[str, CellRecord]:
    """The cells of a checkpoint's turns, by the id of the message with what the model saw of each.

    Whoever wrote them, only what has their form counts.
    """
    records: dict[str, CellRecord] = {}
    for record in checkpoint.events:
        entry = _entry(record.event) if isinstance(record, ProtocolRecord) else None
        names = ("observation", "error", "ran", "final_output", "refused")
        seen, error, ran, final, refused = (_field(entry, name) for name in names)
        if isinstance(seen, str):
            ended = "value" in final if isinstance(final, Mapping) else hasattr(final, "value")
            records[seen] = CellRecord(
                label=error.partition(":")[0] if isinstance(error, str) else "",
                ran=ran if isinstance(ran, str) else None,
                final=(_field(final, "value"),) if ended else (),
                refused=refused if isinstance(refused, str) else "",
            )
    return records


def _entry(event: object) -> object:
    """A cell's record, as its protocol reads it, or as it came where no protocol was asked."""
    if isinstance(event, Mapping):
        payload = event.get("payload")
        return payload.get(_ENTRY) if isinstance(payload, Mapping) else None
    return event if type(event).__name__ == _ENTRY else None


def _field(entry: object, name: str) -> Any:
    return entry.get(name) if isinstance(entry, Mapping) else getattr(entry, name, None)


def told_of(
    checkpoint: TurnCheckpoint,
    before: TurnCheckpoint | None,
    *,
    turn: int,
    request: str,
    model: str,
    protocol: str,
    cells: Mapping[str, CellRecord] | None = None,
) -> list[Json]:
    """The activities (`TURN_ACTIVITY`) of a turn; `before` is the last checkpoint of the turn before it.

    `cells` are the checkpoint's `cell_records`, for whoever has them already.
    """
    cells = cell_records(checkpoint) if cells is None else cells
    told: list[TurnActivity] = [TurnStarted(turn=turn, request=request, model=model, protocol=protocol)]
    own = own_messages(checkpoint, before, turn=turn)
    for number, message in enumerate(own):
        if message.role is MessageRole.ASSISTANT:
            following = own[number + 1] if number + 1 < len(own) else None
            told += _step(message, following, number, cells)
    return [TURN_ACTIVITY.encode(activity) for activity in told]


def _step(
    message: Message, following: Message | None, number: int, cells: Mapping[str, CellRecord]
) -> list[TurnActivity]:
    cell = CellRecord() if following is None else cells.get(following.id, CellRecord())
    step: list[TurnActivity] = [LlmRequestEvent(protocol_iteration=number, message_count=0, tool_list="")]
    for part in message.parts:
        if part.kind in (PartKind.PROSE, PartKind.TEXT):
            step.append(TextDelta(content=part.content))
        elif part.kind is PartKind.CODE:
            seen = following is not None and following.role is MessageRole.USER
            outputs = _outputs(following) if following is not None and seen else ()
            outputs = outputs if cell.ran is None else outputs[1:]  # the first says to the model what ran
            failed = following is not None and any(part.kind is PartKind.ERROR for part in following.parts)
            code = part.content if cell.ran is None else cell.ran
            ended = CELL_LABELS.get(cell.label, CellOutcome.ERROR if failed else CellOutcome.OK)
            if cell.refused:  # the cell itself ran well; the text in the place of an error was for the model
                ended, outputs = CellOutcome.OK, outputs[:-1]
            step += [
                CodeBlockStarted(effect_id=number, language="python", code=code),
                CodeBlockCompleted(effect_id=number, outcome=ended, outputs=outputs, duration_ms=0),
            ]
            if cell.refused:
                status = StatusRuntimeEvent(key="value", label="the value was refused", detail=cell.refused)
                step.append(PluginEvent(plugin_id="code", event=status))
    return step


def _outputs(message: Message) -> tuple[CellOutput, ...]:
    outputs: list[CellOutput] = []
    for part in message.parts:
        if part.kind in (PartKind.OUTPUT, PartKind.ERROR, PartKind.TEXT) and part.content.strip():
            text = part.content.rstrip("\n") + "\n"
            outputs.append(StreamOutput(name="stderr" if part.kind is PartKind.ERROR else "stdout", head=text))
    return tuple(outputs)
