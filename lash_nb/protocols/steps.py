"""What the protocols that run cells have in common: how a cell becomes history, how a turn ends, what options must be.

Decided here: one form of a step for all of them, so that a session may change between protocols and each model sees the
others' steps in its own emission form. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..machine.checkpoints import CheckpointKind, FinishWith, ResumeAction
from ..machine.driver import (
    AdvanceProtocolIteration,
    AppendEvents,
    DriverAction,
    DriverContext,
    Emit,
    Finish,
    ScheduleTurnLimitFinal,
    StartCheckpoint,
)
from ..machine.events import (
    Conversation,
    ErrorEnvelope,
    ErrorEvent,
    PluginEvent,
    ProtocolRecord,
    SessionEventRecord,
    StatusRuntimeEvent,
)
from ..machine.llm import ReasoningOutput
from ..machine.outcomes import Stopped, TurnOutcome, TurnStopReason
from ..machine.wire import Json, dumps
from .observations import ObservationBudget, cut_text
from .records import (
    CodeAssistantContent,
    CodeDiagnostic,
    CodeDriverState,
    CodeTrajectoryEntry,
    assistant_message,
    note_message,
    observation_message,
    record_id,
)
from .termination import FinishRequired, Natural

__all__ = [
    "attempt_records",
    "complete",
    "failure",
    "final_text",
    "go_on_or_stop",
    "options_problem",
    "provider_error",
    "refusal",
    "stop",
    "trajectory",
    "trajectory_entry",
]

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
    reply_id = record_id(turn_id, iteration, "reply")
    said = assistant_message(reply_id, reasoning=step.reasoning, prose=step.prose, code=step.executed_code or "")
    seen = observation_message(
        record_id(turn_id, iteration, "observation"),
        output=step.output,
        images=step.images,
        error=step.exec_error,
        final=final_text(step),
    )
    entry_id = record_id(turn_id, iteration, "step")
    entry = trajectory_entry(step, entry_id=entry_id, iteration=iteration, observation=seen.id, refused=refused)
    return ProtocolRecord(event=entry), Conversation(message=said), Conversation(message=seen)


def final_text(step: CodeDriverState) -> str | None:
    """The value that a cell gave to `finish`, as the history keeps it."""
    return None if step.finish is None else cut_text(dumps(step.finish.value), budget=_FINAL_BUDGET)[0]


def trajectory_entry(
    step: CodeDriverState,
    *,
    entry_id: str,
    iteration: int,
    observation: str,
    call_id: str | None = None,
    refused: str | None = None,
) -> CodeTrajectoryEntry:
    """The record of one cell; `observation` is the message with its texts."""
    return CodeTrajectoryEntry(
        id=entry_id,
        protocol_iteration=iteration,
        code=step.executed_code or "",
        observation=observation,
        output_chars=tuple(len(text) for text in step.output),
        images=step.images,
        error=None if step.exec_error is None else step.exec_error.split("\n", 1)[0],
        final_output=step.finish,
        ran=step.ran,
        refused=None if refused is None else _for_the_reader(refused),
        call_id=call_id,
    )


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


def go_on_or_stop(
    ctx: DriverContext,
    records: Sequence[SessionEventRecord],
    *,
    turn_id: str,
    note: str | None,
    stuck: Emit | None,
) -> list[DriverAction]:
    """The next iteration, unless a bound is hit; at the turn limit the note about the last reply is dropped.

    `stuck` says that too many replies brought nothing.
    """
    appended: list[DriverAction] = [AppendEvents(records=tuple(records)), AdvanceProtocolIteration()]
    if ctx.should_force_exit_after_grace_turn():
        return [*appended, stop(TurnStopReason.MAX_TURNS)]
    following = ctx.protocol_iteration + 1
    go_on = StartCheckpoint(checkpoint=CheckpointKind.AFTER_WORK, on_empty=ResumeAction.PREPARE_ITERATION)
    limit = ctx.max_turns
    if limit is not None and following >= ctx.protocol_run_offset + limit:
        if isinstance(ctx.termination, FinishRequired):
            return [*appended, stop(TurnStopReason.MAX_TURNS)]
        last = ctx.config.turn_limit_final_message(record_id(turn_id, following, "turn_limit"), limit)
        return [*appended, ScheduleTurnLimitFinal(message=last), go_on]
    if stuck is not None:
        return [*appended, stuck, stop(TurnStopReason.INCOMPLETE)]
    if note is not None:
        told = Conversation(message=note_message(record_id(turn_id, ctx.protocol_iteration, "note"), note))
        appended[0] = AppendEvents(records=(*records, told))
    return [*appended, go_on]


def provider_error(code: str, message: str) -> tuple[DriverAction, DriverAction]:
    """The end of a turn whose model gave nothing that can be used."""
    return failure("llm_provider", code, message), stop(TurnStopReason.PROVIDER_ERROR)


def attempt_records(
    turn_id: str, iteration: int, payload: Json, *, phase: str, reasoning: Sequence[ReasoningOutput], prose: str
) -> tuple[SessionEventRecord, ...]:
    """The diagnostic of one reply, and what was said in it."""
    attempt = CodeDiagnostic(
        id=record_id(turn_id, iteration, "attempt"), protocol_iteration=iteration, phase=phase, payload=payload
    )
    thought = "\n\n".join(item.text for item in reasoning if item.text.strip())
    if not thought and not prose:
        return (ProtocolRecord(event=attempt),)
    content = CodeAssistantContent(
        id=record_id(turn_id, iteration, "content"), reasoning=thought or None, prose=prose or None
    )
    return ProtocolRecord(event=attempt), ProtocolRecord(event=content)


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
