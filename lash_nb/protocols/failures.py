"""How a cell that did not end well is told to the model: one label that says whose move it is, then the evidence.

Decided here: the labels, and what of a traceback is shown. `error` means that the program is wrong and is to be fixed;
`policy` that the runtime refused and the same program must not be sent again; the others (`interrupted`, `timeout`,
`kernel`, `aborted`, `lost`) that the program may be right and what became of the kernel's state. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..machine.execution import CellOutcome, CellResult, ErrorOutput
from ..machine.tool_calls import ToolCallRecord, ToolCancelled, ToolFailed, ToolSucceeded
from ..machine.wire import dumps

__all__ = ["failure_text", "policy_text", "traceback_text"]

_MAX_TRACEBACK_CHARS = 8_000
_MAX_EXCEPTION_CHARS = 4_000
_MAX_LEDGER_CALLS = 50
_MAX_ARGS_CHARS = 200

_LIBRARY_FRAME = re.compile(
    r"\s*File (?:[^\n]*(?:site-packages|dist-packages|lib[\\/]python3[^\\/]*)[\\/]"
    r"|<frozen "
    r"|[^/\\~<:\n][^:\n]*\.p(?:yx|xi|xd):)"
)
"""A frame of an installed library, of the standard library, or of compiled code (that has no absolute path)."""
_LIBRARY_PATH = re.compile(r"^(\s*File )[^\n]*(?:site-packages|dist-packages|lib[\\/]python3[^\\/]*)[\\/]")
_RULE = re.compile(r"-{20,}\s*")

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
    if tool_calls:
        lines.append(_ledger(tool_calls))
    return "\n".join(lines)


def policy_text(reason: str) -> str:
    """What the model is told when the runtime refuses a cell or a call; `reason` is one sentence."""
    return (
        f"policy: the runtime refused this. {reason} "
        "Your program may be right, but do not send it again: choose another way, or say what you would need."
    )


def traceback_text(error: ErrorOutput) -> str:
    """A traceback cut down to the user's own frames; of each run of library frames one line and a count stay.

    Bounded; when it must be cut, the tail stays, since that is where the exception is.
    """
    entries = [entry.strip("\n") for entry in error.traceback if not _RULE.fullmatch(entry)]
    kept: list[str] = []
    library: list[str] = []
    for entry in entries:
        if _LIBRARY_FRAME.match(entry):
            library.append(_LIBRARY_PATH.sub(r"\1", entry.split("\n", 1)[0]))
            continue
        kept.extend(_folded(library))
        library = []
        kept.append(entry)
    kept.extend(_folded(library))
    last = f"{error.ename}: {error.evalue}" if error.evalue else error.ename
    if not kept:
        return _tail(last, _MAX_EXCEPTION_CHARS)
    if kept[-1].startswith(error.ename):
        kept[-1] = _middle(kept[-1], _MAX_EXCEPTION_CHARS)
    return _tail("\n".join(kept), _MAX_TRACEBACK_CHARS)


def _folded(frames: Sequence[str]) -> list[str]:
    """A run of library frames: a count, and where the exception left the last of them."""
    if len(frames) <= 1:
        return list(frames)
    return [f"[… {len(frames) - 1} frames of libraries]", frames[-1]]


def _tail(text: str, max_chars: int) -> str:
    if len(text) <= max_chars:
        return text
    back = text[-max_chars:]
    back = back[back.find("\n") + 1 :] if "\n" in back[: max_chars // 2] else back
    return f"[… {len(text) - len(back):,} of {len(text):,} characters of the traceback cut here]\n{back}"


def _middle(text: str, max_chars: int) -> str:
    """An exception's message, which may hold a whole document: its beginning names the problem, its end the place."""
    if len(text) <= max_chars:
        return text
    half = max_chars // 2
    return f"{text[:half]}\n[… {len(text) - 2 * half:,} characters of the message cut here]\n{text[-half:]}"


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
