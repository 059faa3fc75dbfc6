"""What a protocol wrote down of its cells and calls, beside what the conversation holds, read out of a checkpoint.

Decided here: whoever wrote it, only what has its form counts, and the rest is passed over; nothing here raises. A cell
is known by the message with what the model saw of it, and by the call that ran it, since a batch of calls has one such
message. A call of the tool that runs cells is a cell, unless it was refused or holds no code. Reads the machine's
records only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..errors import DecodeError
from ..machine.events import ProtocolRecord
from ..machine.execution import CellOutcome
from ..machine.messages import Message, MessageRole, Part, PartKind
from ..machine.state import TurnCheckpoint
from ..machine.tool_calls import PendingToolCall
from ..machine.tool_specs import RUN_CODE
from ..machine.wire import canonical_json, loads

__all__ = [
    "CELL_LABELS",
    "CellRecord",
    "TurnRecords",
    "arguments_of",
    "called_code",
    "code_of_call",
    "records_of",
    "results_of",
]

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

    def ended(self, *, failed: bool) -> CellOutcome:
        """How the cell ended; `failed` is what the conversation tells of it."""
        if self.refused:  # the cell itself ran well; what stands as its error was for the model
            return CellOutcome.OK
        return CELL_LABELS.get(self.label, CellOutcome.ERROR if failed else CellOutcome.OK)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnRecords:
    """Of all turns of a conversation."""

    cells: Mapping[tuple[str, str], CellRecord] = field(default_factory=dict)
    """By the message with what the model saw of each, and the call that ran it (empty: none did)."""
    failed: frozenset[str] = frozenset()
    """The ids of the calls that did not succeed, or were not made."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """What the model was told of those that were not made, by their ids."""

    def code_of(self, part: Part) -> str | None:
        """The code of a call that ran a cell; None: it is another call, or was not made."""
        return None if part.tool_call_id in self.refused else code_of_call(part)


def records_of(checkpoint: TurnCheckpoint) -> TurnRecords:
    """What a checkpoint holds of its turns beside their messages."""
    cells: dict[tuple[str, str], CellRecord] = {}
    failed: set[str] = set()
    refused: dict[str, str] = {}
    for record in checkpoint.events:
        event = record.event if isinstance(record, ProtocolRecord) else None
        entry, diagnostic = _read(event, "CodeTrajectoryEntry"), _read(event, "CodeDiagnostic")
        seen, call_id = _field(entry, "observation"), _field(entry, "call_id")
        if isinstance(seen, str):
            cells[seen, call_id if isinstance(call_id, str) else ""] = _cell(entry)
        payload = _field(diagnostic, "payload")
        failed.update(one for one in _list(payload, "failed") if isinstance(one, str))
        for one in _list(payload, "refused"):
            call_id, text = _field(one, "call_id"), _field(one, "text")
            if isinstance(call_id, str):
                refused[call_id] = text if isinstance(text, str) else ""
    return TurnRecords(cells=cells, failed=frozenset(failed), refused=refused)


def results_of(messages: Sequence[Message]) -> dict[str, tuple[Message, Part]]:
    """The results of the calls among these messages, by the call's id, and the message with each."""
    found: dict[str, tuple[Message, Part]] = {}
    for message in messages:
        for part in message.parts if message.role is MessageRole.USER else ():
            if part.kind is PartKind.TOOL_RESULT and part.tool_call_id:
                found.setdefault(part.tool_call_id, (message, part))
    return found


def code_of_call(part: Part) -> str | None:
    """The code that a call was to run as a cell; None: it is another call, or holds none."""
    if part.kind is not PartKind.TOOL_CALL or part.tool_name != RUN_CODE:
        return None
    return _code(arguments_of(part))


def called_code(call: PendingToolCall) -> str | None:
    """The code that an outstanding call runs as a cell; None: it is another call."""
    return _code(call.args) if call.tool_name == RUN_CODE else None


def _code(args: object) -> str | None:
    code = args.get("code") if isinstance(args, Mapping) else None
    return code if isinstance(code, str) else None


def arguments_of(part: Part) -> Any:
    """The arguments of a call; the text itself where it is no JSON."""
    try:
        return canonical_json(loads(part.content))
    except DecodeError:
        return part.content


def _cell(entry: object) -> CellRecord:
    error, ran, final, refused = (_field(entry, name) for name in ("error", "ran", "final_output", "refused"))
    ended = "value" in final if isinstance(final, Mapping) else hasattr(final, "value")
    return CellRecord(
        label=error.partition(":")[0] if isinstance(error, str) else "",
        ran=ran if isinstance(ran, str) else None,
        final=(_field(final, "value"),) if ended else (),
        refused=refused if isinstance(refused, str) else "",
    )


def _read(event: object, name: str) -> object:
    """A record of that name, as its protocol reads it, or as it came where no protocol was asked."""
    if isinstance(event, Mapping):
        payload = event.get("payload")
        return payload.get(name) if isinstance(payload, Mapping) else None
    return event if type(event).__name__ == name else None


def _field(entry: object, name: str) -> Any:
    return entry.get(name) if isinstance(entry, Mapping) else getattr(entry, name, None)


def _list(payload: object, name: str) -> Iterator[object]:
    found = _field(payload, name)
    yield from found if isinstance(found, (list, tuple)) else ()
