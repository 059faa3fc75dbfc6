"""The tool that runs a cell: what a cell gave as a tool's output, and that output in the model's words.

Decided here: the output holds all that the code protocol would be told of the cell but the calls that it made, so that
everything can be made again from it (it is what a journal keeps). A cell that ended in an error is a failed call; one
in which a tool ended the turn is a successful call that carries that control. Pure.

The payload, of a success or as `raw` of a failure:

    {"observations": ["…"], "images": [attachments], "error": "…", "finish": {"value": …}, "ran": "…",
     "ended_by": "name of a tool"}

with what is absent left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..machine.attachments import ATTACHMENT_SOURCE, AttachmentRef, StoredAttachment
from ..machine.execution import ExecResponse
from ..machine.messages import PartKind
from ..machine.outcomes import TurnOutcome
from ..machine.tool_calls import (
    RESERVED_KEY,
    AttachmentReturn,
    CompletedToolCall,
    ModelReturnPart,
    ModelToolReturn,
    PendingToolCall,
    RetryNever,
    TextReturn,
    ToolCallOutput,
    ToolCallRecord,
    ToolCancelled,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
    ToolOutcome,
    ToolSucceeded,
)
from ..machine.tool_specs import RUN_CODE
from ..machine.wire import Json
from .history_projector import headed
from .observations import ObservationBudget
from .records import CodeDriverState, FinalOutput, observation_message
from .steps import final_text
from .tool_events import terminal_outcome
from .tool_prompt import result_text, run_code_spec

__all__ = ["RUN_CODE_SPEC", "cell_output", "cell_return", "cell_text", "ended_by", "read_cell_output", "run_code_spec"]

RUN_CODE_SPEC = run_code_spec(budget=ObservationBudget())
"""With the limits that hold when nobody says otherwise."""

_CLASSES = {
    "policy": (ToolFailureClass.PERMISSION_DENIED, ToolFailureSource.POLICY),
    "timeout": (ToolFailureClass.TIMEOUT, ToolFailureSource.RUNTIME),
    "error": (ToolFailureClass.EXECUTION, ToolFailureSource.TOOL),
}
"""What kind of failure an error's label says it is; any other one is the runtime's."""


def cell_output(response: ExecResponse | str) -> ToolCallOutput:
    """What a cell gave, as the output of the call that ran it; a text says why it has no result."""
    if isinstance(response, str):
        return ToolCallOutput(outcome=_failed({"observations": [], "error": response}, response))
    payload: dict[str, Json] = {"observations": list(response.observations)}
    if response.printed_images:
        payload["images"] = [_image(ref) for ref in response.printed_images]
    if response.error is not None:
        payload["error"] = response.error
    if isinstance(response.terminal_finish, Mapping):
        payload["finish"] = _escaped(response.terminal_finish)
    if response.ran is not None:
        payload["ran"] = response.ran
    ending = next((record for record in response.tool_calls if terminal_outcome([record]) is not None), None)
    if ending is not None:
        payload["ended_by"] = ending.tool
        return ToolCallOutput(outcome=ToolSucceeded(payload=payload), control=ending.output.control)
    if response.error is not None:
        return ToolCallOutput(outcome=_failed(payload, response.error))
    return ToolCallOutput(outcome=ToolSucceeded(payload=payload))


def cell_return(call: PendingToolCall, output: ToolCallOutput) -> ModelToolReturn:
    """What of a cell's output the model is shown."""
    step = read_cell_output(output)
    parts: list[ModelReturnPart] = [TextReturn(text=_told(output.outcome) if step is None else cell_text(step))]
    images = () if step is None else step.images
    parts += [AttachmentReturn(source=StoredAttachment(attachment_ref=image)) for image in images]
    return ModelToolReturn(call_id=call.call_id, tool_name=call.tool_name, parts=tuple(parts))


def cell_text(step: CodeDriverState) -> str:
    """The outputs, the error and the final value of a cell, each under its heading; data in fences."""
    seen = observation_message("", output=step.output, error=step.exec_error, final=final_text(step))
    return "\n\n".join(part.content for part in headed(seen.parts) if part.kind is PartKind.TEXT)


def read_cell_output(output: ToolCallOutput) -> CodeDriverState | None:
    """The step that `cell_output` was told of, without its code; None for an output of another make."""
    match output.outcome:
        case ToolSucceeded(payload=payload):
            pass
        case ToolFailed(payload=failure):
            payload = failure.raw
        case ToolCancelled(payload=cancellation):
            payload = cancellation.raw
    if not isinstance(payload, Mapping):
        return None
    texts, images = payload.get("observations"), payload.get("images", ())
    if not isinstance(texts, (list, tuple)) or not isinstance(images, (list, tuple)):
        return None
    error, ran, marker = payload.get("error"), payload.get("ran"), _plain(payload.get("finish"))
    return CodeDriverState(
        output=tuple(str(text) for text in texts if str(text).strip()),
        images=tuple(_refs(images)),
        exec_error=None if error is None else str(error),
        finish=FinalOutput(value=marker["value"]) if isinstance(marker, Mapping) and "value" in marker else None,
        ran=None if ran is None else str(ran),
    )


def ended_by(completed: CompletedToolCall) -> TurnOutcome | None:
    """How a call ends the turn by the will of a tool: of its own, or of one that its cell called; None: it does not."""
    tool, outcome = completed.tool_name, completed.output.outcome
    payload = outcome.payload if isinstance(outcome, ToolSucceeded) else None
    if tool == RUN_CODE and isinstance(payload, Mapping):
        tool = str(payload.get("ended_by", tool))
    record = ToolCallRecord(tool=tool, args=completed.args, output=completed.output, duration_ms=completed.duration_ms)
    return terminal_outcome([record])


def _failed(payload: Json, error: str) -> ToolFailed:
    label = error.partition("\n")[0]
    code = label.partition(":")[0].strip()
    class_, source = _CLASSES.get(code, (ToolFailureClass.EXECUTION, ToolFailureSource.RUNTIME))
    failure = ToolFailure(class_=class_, code=code, message=label, source=source, retry=RetryNever(), raw=payload)
    return ToolFailed(payload=failure)


def _told(outcome: ToolOutcome) -> str:
    """Of an output that no cell gave: a failure of the runtime, say."""
    if isinstance(outcome, ToolSucceeded):
        return result_text(outcome, outcome.payload if isinstance(outcome.payload, str) else "")
    return result_text(outcome, outcome.payload.message)


# -- values ------------------------------------------------------------------------------------------------------------


def _image(ref: AttachmentRef) -> Json:
    return {RESERVED_KEY: "attachment", "source": ATTACHMENT_SOURCE.encode(StoredAttachment(attachment_ref=ref))}


def _refs(images: Sequence[Json]) -> list[AttachmentRef]:
    sources = [ATTACHMENT_SOURCE.decode(image["source"]) for image in images if isinstance(image, Mapping)]
    return [source.attachment_ref for source in sources if isinstance(source, StoredAttachment)]


def _escaped(value: Json) -> Json:
    """Plain JSON as a tool value: an object that holds the reserved key is no attachment."""
    if isinstance(value, Mapping):
        entries = {key: _escaped(item) for key, item in value.items()}
        return {RESERVED_KEY: "object", "entries": entries} if RESERVED_KEY in entries else entries
    return [_escaped(item) for item in value] if isinstance(value, (list, tuple)) else value


def _plain(value: Json) -> Json:
    """What `_escaped` was given."""
    if isinstance(value, Mapping):
        entries = value["entries"] if value.get(RESERVED_KEY) == "object" else value
        return {key: _plain(item) for key, item in entries.items()} if isinstance(entries, Mapping) else None
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
