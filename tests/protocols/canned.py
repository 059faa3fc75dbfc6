"""Canned replies of a model, results of cells, and readers of what was played."""

from __future__ import annotations

from lash_nb.machine.events import (
    ErrorEvent,
    ProtocolRecord,
)
from lash_nb.machine.execution import ExecResponse
from lash_nb.machine.outcomes import (
    AssistantMessage,
    Finished,
    Stopped,
    TurnStopReason,
)
from lash_nb.machine.wire import Json
from lash_nb.protocols.code import CodeProtocol
from lash_nb.protocols.observations import finish_marker
from lash_nb.protocols.records import CodeDiagnostic
from lash_nb.protocols.termination import FinishRequired

from .loop import Played, text_of


def cell(code: str, prose: str = "") -> str:
    return f"{prose}\n\n<lash-cell>\n{code}\n</lash-cell>\n".lstrip()


def shown(*texts: str) -> ExecResponse:
    return ExecResponse(observations=texts)


def failed(text: str = "error: your program raised KeyError.\nKeyError: 'x'") -> ExecResponse:
    return ExecResponse(error=text)


def finished(value: Json) -> ExecResponse:
    return ExecResponse(terminal_finish=finish_marker(value))


def answered(text: str) -> Finished:
    return Finished(finish=AssistantMessage(text=text))


def stopped(reason: TurnStopReason) -> Stopped:
    return Stopped(stop=reason)


def decisions(played: Played) -> list[object]:
    """What was made of each reply, from the diagnostics."""
    payloads = [
        record.event.payload
        for record in played.events
        if isinstance(record, ProtocolRecord) and isinstance(record.event, CodeDiagnostic)
    ]
    return [payload["decision"] for payload in payloads if isinstance(payload, dict) and "decision" in payload]


def errors(played: Played) -> list[str | None]:
    """Codes of the errors that were emitted."""
    return [event.envelope.code for event in played.emitted if isinstance(event, ErrorEvent) and event.envelope]


def last_note(played: Played, request: int) -> str:
    """The last text before the status message of a request."""
    return text_of(played.requests[request], -2)


def required() -> CodeProtocol:
    def validate(value: Json) -> str | None:
        return None if isinstance(value, int) else f"{value!r} is not of type 'integer'"

    return CodeProtocol(turn_id="t1", termination=FinishRequired(schema={"type": "integer"}), validate=validate)
