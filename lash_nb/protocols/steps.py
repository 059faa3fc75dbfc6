"""What the protocols that run cells have in common: how a cell becomes history, how a turn ends, what options must be.

Decided here: one form of a step for all of them, so that a session may change between protocols and each model sees the
others' steps in its own emission form. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..machine.checkpoints import CheckpointKind, FinishWith
from ..machine.driver import AppendEvents, DriverAction, DriverContext, Emit, Finish, StartCheckpoint
from ..machine.events import (
    Conversation,
    ErrorEnvelope,
    ErrorEvent,
    PluginEvent,
    ProtocolRecord,
    SessionEventRecord,
    StatusRuntimeEvent,
)
from ..machine.outcomes import Stopped, TurnOutcome, TurnStopReason
from ..machine.wire import dumps
from .observations import ObservationBudget, cut_text
from .records import CodeDriverState, CodeTrajectoryEntry, assistant_message, observation_message, record_id
from .termination import FinishRequired, Natural

__all__ = ["complete", "failure", "options_problem", "refusal", "stop", "trajectory"]

_FINAL_BUDGET = ObservationBudget(max_chars=8 * 1024, max_lines=400)
"""How much of a final value stands in the history; the outcome and the event hold the whole."""
_REFUSAL_CHARS = 600
"""Of what is wrong with a value, for the reader; the model is told more."""


def trajectory(
    turn_id: str, iteration: int, step: CodeDriverState, *, refused: str | None = None
) -> tuple[SessionEventRecord, ...]:
    """A step as history: the event, the reply in emission form, and what came of it.

    `refused` is what was wrong with its final value, where that was refused.
    """
    code = step.executed_code or ""
    reply_id = record_id(turn_id, iteration, "reply")
    said = assistant_message(reply_id, reasoning=step.reasoning, prose=step.prose, code=code)
    final = None if step.finish is None else cut_text(dumps(step.finish.value), budget=_FINAL_BUDGET)[0]
    seen = observation_message(
        record_id(turn_id, iteration, "observation"),
        output=step.output,
        images=step.images,
        error=step.exec_error,
        final=final,
    )
    entry = CodeTrajectoryEntry(
        id=record_id(turn_id, iteration, "step"),
        protocol_iteration=iteration,
        code=code,
        observation=seen.id,
        output_chars=tuple(len(text) for text in step.output),
        images=step.images,
        error=None if step.exec_error is None else step.exec_error.split("\n", 1)[0],
        final_output=step.finish,
        ran=step.ran,
        refused=None if refused is None else _for_the_reader(refused),
    )
    return ProtocolRecord(event=entry), Conversation(message=said), Conversation(message=seen)


def complete(records: Sequence[SessionEventRecord], outcome: TurnOutcome) -> list[DriverAction]:
    """The end of a turn, unless the user has said something meanwhile."""
    return [
        AppendEvents(records=tuple(records)),
        StartCheckpoint(checkpoint=CheckpointKind.BEFORE_COMPLETION, on_empty=FinishWith(outcome=outcome)),
    ]


def refusal(problem: str) -> Emit:
    """A note behind the step whose value was refused: the cell itself ran well, and shows nothing of it."""
    status = StatusRuntimeEvent(key="value", label="the value was refused", detail=_for_the_reader(problem))
    return Emit(event=PluginEvent(plugin_id="code", event=status))


def _for_the_reader(problem: str) -> str:
    """In one line, and not all of what is wrong with a long table."""
    text = "; ".join(line.strip() for line in problem.split("\n") if line.strip())
    return text if len(text) <= _REFUSAL_CHARS else f"{text[:_REFUSAL_CHARS].rstrip()} …"


def failure(kind: str, code: str, message: str) -> Emit:
    """Why a turn ends without an answer, in words."""
    return Emit(event=ErrorEvent(message=message, envelope=ErrorEnvelope(kind=kind, code=code, user_message=message)))


def stop(reason: TurnStopReason) -> Finish:
    """The end of a turn without an answer."""
    return Finish(outcome=Stopped(stop=reason))


def options_problem(ctx: DriverContext, *, protocol: str, run_offset: int) -> str | None:
    """What is wrong with the machine's options for that protocol; None when nothing is."""
    if not isinstance(ctx.termination, (Natural, FinishRequired)):
        return (
            f"The termination options of the {protocol} protocol are Natural or FinishRequired, "
            f"not {ctx.termination!r}."
        )
    if ctx.protocol_run_offset != run_offset:
        made_for = f"{protocol.capitalize()}Protocol was made for run_offset {run_offset}"
        return f"{made_for}, the machine has {ctx.protocol_run_offset}."
    return None
