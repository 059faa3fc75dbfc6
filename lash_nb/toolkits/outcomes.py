"""How a call ended, in the words of the records: failures and cancellations; what is too long, or not JSON."""

from __future__ import annotations

from dataclasses import replace

from ..kernels.inside.json_values import MAX_CHARS
from ..machine.tool_calls import (
    TOOL_VALUE,
    RetryDisposition,
    RetryNever,
    ToolCallOutput,
    ToolCancellation,
    ToolCancelled,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
    ToolSucceeded,
)
from ..machine.wire import DecodeError, dumps
from ..trust import whole_text

__all__ = [
    "MOST_CHARS",
    "MOST_CHARS_IN_CELLS",
    "cancelled",
    "checked_output",
    "failure",
    "not_json",
    "too_long",
]

MOST_CHARS = 64 * 1024 * 1024
"""Of the JSON of one result; a longer one is a failure."""
MOST_CHARS_IN_CELLS = MAX_CHARS
"""Of the JSON of a result that goes to a cell, as of any value that enters or leaves one."""
_WHY_CHARS = 1000


def failure(
    kind: ToolFailureClass,
    code: str,
    message: str,
    *,
    source: ToolFailureSource = ToolFailureSource.TOOL,
    retry: RetryDisposition | None = None,
) -> ToolFailed:
    """The outcome of a call that failed; one that must not be made again, unless `retry` says otherwise."""
    retry = retry if retry is not None else RetryNever()
    return ToolFailed(payload=ToolFailure(class_=kind, code=code, message=message, source=source, retry=retry))


def cancelled(message: str, *, source: ToolFailureSource = ToolFailureSource.TOOL) -> ToolCancelled:
    """The outcome of a call that was cancelled."""
    return ToolCancelled(payload=ToolCancellation(message=message, source=source))


def not_json(why: str) -> ToolCallOutput:
    """The failure of a tool whose value cannot be written."""
    message = f"the tool's value is not JSON: {whole_text(why)[:_WHY_CHARS]}"
    return ToolCallOutput(outcome=failure(ToolFailureClass.INTERNAL, "not_json", message))


def too_long(size: int, most_chars: int) -> ToolCallOutput:
    """The failure of a tool whose value has more characters than a call can give."""
    message = (
        f"the tool's value has {size:,} characters, more than the {most_chars:,} that a call can give; ask for less, "
        "or let the tool write it to a file and give its path"
    )
    return ToolCallOutput(outcome=failure(ToolFailureClass.RESOURCE_LIMIT, "value_too_long", message))


def checked_output(output: ToolCallOutput, *, most_chars: int) -> ToolCallOutput:
    """The output, if its value is JSON and no longer than that; else the failure that says so."""
    if not isinstance(output.outcome, ToolSucceeded):
        return output
    try:
        payload = TOOL_VALUE.encode(output.outcome.payload)
        size = len(payload if isinstance(payload, str) else dumps(payload))
    except (DecodeError, RecursionError) as error:
        return not_json(str(error))
    if size > most_chars:
        return too_long(size, most_chars)
    return replace(output, outcome=ToolSucceeded(payload=payload))
