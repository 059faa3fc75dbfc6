"""How a cell that did not end well is told to the model: one label that says whose move it is, then the evidence.

Decided here: the labels. `error` means that the program is wrong and is to be fixed;
`policy` that the runtime refused and the same program must not be sent again; the others (`interrupted`, `timeout`,
`kernel`, `aborted`, `lost`) that the program may be right and what became of the kernel's state. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..machine.execution import CellOutcome, CellResult, ErrorOutput
from ..machine.tool_calls import (
    ToolCallRecord,
    ToolCancelled,
    ToolFailed,
    ToolFailureClass,
    ToolFailureSource,
    ToolSucceeded,
)
from ..machine.tracebacks import traceback_text
from ..machine.wire import dumps

__all__ = ["failure_text", "policy_text"]

_MAX_LEDGER_CALLS = 50
_MAX_ARGS_CHARS = 200
_NOT_MADE = ("bad_arguments", "unknown_tool")
"""Codes of calls that nothing was done for."""

_NEXT_MOVE = {
    CellOutcome.ERROR: "error: your program raised {name}. Fix the cause; what ran before the failing line stands.",
    CellOutcome.INTERRUPTED: "interrupted: the cell was stopped before it ended. What ran before that stands.",
    CellOutcome.TIMEOUT: "timeout: the cell ran too long and was stopped. What ran before stands; do less at once.",
    CellOutcome.DEAD: "kernel: the kernel's process ended while this cell ran. All variables and imports are gone.",
    CellOutcome.ABORTED: "aborted: the cell was not run.",
    CellOutcome.LOST: (
        "lost: it is not known whether, or how far, this cell ran, and the kernel that it was sent to is gone. "
        "Check its effects before you repeat them."
    ),
}


def failure_text(result: CellResult, *, tool_calls: Sequence[ToolCallRecord] = ()) -> str | None:
    """What the model is told when a cell did not end well; None when it did (`finish(value)` included)."""
    if result.outcome is CellOutcome.OK or result.finish is not None:
        return None
    error = result.error or next((item for item in reversed(result.outputs) if isinstance(item, ErrorOutput)), None)
    lines = [_NEXT_MOVE[result.outcome].format(name=error.ename if error else "an exception")]
    if result.detail:
        lines.append(result.detail)
    if error is not None:
        lines.append(traceback_text(error))
    made = [call for call in tool_calls if _was_made(call)]
    if made:
        lines.append(_ledger(made))
    return "\n".join(lines)


def policy_text(reason: str) -> str:
    """What the model is told when the runtime refuses a cell or a call; `reason` is one sentence."""
    return (
        f"policy: the runtime refused this. {reason} "
        "Your program may be right, but do not send it again: choose another way, or say what you would need."
    )


def _was_made(call: ToolCallRecord) -> bool:
    """Whether a call did anything; what does not fit, and what may not be, does not."""
    outcome = call.output.outcome
    if not isinstance(outcome, ToolFailed):
        return True
    failure = outcome.payload
    if failure.class_ is ToolFailureClass.PERMISSION_DENIED:
        return failure.source is not ToolFailureSource.POLICY
    return not (failure.class_ is ToolFailureClass.INVALID_REQUEST and failure.code in _NOT_MADE)


def _ledger(calls: Sequence[ToolCallRecord]) -> str:
    """The calls that a failed cell did make: their effects stand, whatever became of the cell."""
    lines = ["These calls of the cell did run, and their effects stand; do not repeat them:"]
    for call in calls[:_MAX_LEDGER_CALLS]:
        args = dumps(call.args)
        args = args if len(args) <= _MAX_ARGS_CHARS else args[:_MAX_ARGS_CHARS] + "…"
        match call.output.outcome:
            case ToolSucceeded():
                end = "ok"
            case ToolFailed(payload=failure):
                end = f"failed ({failure.code})"
            case ToolCancelled():
                end = "cancelled"
        lines.append(f"- {call.tool} {args}: {end}")
    if len(calls) > _MAX_LEDGER_CALLS:
        lines.append(f"- … and {len(calls) - _MAX_LEDGER_CALLS} more")
    return "\n".join(lines)
