"""The snippet protocol: one request, one short cell, run, its value shown, done. For small models.

Decided here: the kernel is the judge. A reply that is no Python, a cell that ends in an error or a value that does not
fit is dropped, and the same prompt is sampled again, three times at most (repair turns fix nothing with small models:
measured, `reference/stack.md` §1.2); then the turn says what it was not able to do. A text that failed before is not
run again; why a reply was not run stands behind its step. A request that does not fit is refused, never cut. What the
kernel or the user ended (interrupt, timeout, death) is not tried again. Records, messages and driver state are those of
the code protocol, so a session may change between the two. Attempts are counted from the events, so the count survives
a restore. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

from ..machine.checkpoints import CheckpointKind, ResumeAction
from ..machine.config import TurnProtocol
from ..machine.driver import (
    AdvanceProtocolIteration,
    AppendEvents,
    DriverAction,
    DriverContext,
    Emit,
    StartCheckpoint,
    StartExec,
    StartLlm,
    WaitingExecView,
    WaitingLlmView,
)
from ..machine.events import (
    Conversation,
    LlmResponseEvent,
    MessageEvent,
    PluginEvent,
    ProtocolRecord,
    SessionEventRecord,
    StatusRuntimeEvent,
)
from ..machine.execution import ExecResponse, NamespaceSummary
from ..machine.llm import LlmResponse, LlmToolSpec, ReasoningOutput, TextOutput
from ..machine.messages import Message, PartKind
from ..machine.outcomes import AssistantMessage, FinalValue, Finished, TurnStopReason
from ..machine.tool_calls import CompletedToolCall, ToolCallRecord
from ..machine.wire import Json
from . import SamplingHint, ValidateValue
from .grammar import Grammar
from .observations import ObservationBudget
from .prompt import turn_limit_text
from .records import (
    CODE_DRIVER_STATE,
    CODE_EVENT,
    CodeDiagnostic,
    CodeDriverState,
    CodeEvent,
    CodeTrajectoryEntry,
    assistant_message,
    note_message,
    record_id,
)
from .replies import LANGUAGE, step_with_result
from .snippet_cells import finished_cell, finishes, read_cell
from .snippet_projector import SnippetProjector, last_request
from .snippet_prompt import STOPS, SYSTEM, request_room
from .snippet_stream import SnippetStream
from .snippet_words import answer_text, error_line, failed_label, not_managed, request_too_long
from .steps import complete, failure, options_problem, refusal, stop, trajectory
from .termination import CODE_TERMINATION, CodeTermination, FinishRequired, Natural
from .tool_events import terminal_outcome, tool_call_events
from .whole_numbers import value_read

__all__ = ["ATTEMPTS", "SNIPPET_TURN_PROTOCOL", "SnippetDriver", "SnippetProtocol"]

ATTEMPTS = 4
"""Model calls for one request: the likeliest reply, and three samples."""
TEMPERATURE = 0.8

_ATTEMPT = "snippet_attempt"
"""Phase of the diagnostic that is written for each reply."""

SNIPPET_TURN_PROTOCOL: TurnProtocol[CodeEvent, CodeTermination, CodeDriverState] = TurnProtocol(
    name="snippet", event=CODE_EVENT, termination=CODE_TERMINATION, driver_state=CODE_DRIVER_STATE
)


class SnippetProtocol:
    """The snippet protocol for one turn; takes what `CodeProtocol` takes, so that the host need not know which it has.

    `grammar`, `instructions`, `no_progress_limit` and `vision` have no meaning here: a small model is shown worked
    examples, the variables and the request, and nothing else.
    """

    name = "snippet"
    turn_protocol = SNIPPET_TURN_PROTOCOL
    calls_tools = False
    vision = False

    def __init__(
        self,
        *,
        turn_id: str,
        run_offset: int = 0,
        termination: CodeTermination | None = None,
        validate: ValidateValue | None = None,
        grammar: Grammar = "tags",
        vision: bool = False,
        budget: ObservationBudget | None = None,
        no_progress_limit: int = 12,
        instructions: str = "",
    ) -> None:
        self.termination: CodeTermination = termination or Natural()
        self.budget = budget or ObservationBudget()
        self.projector = SnippetProjector()
        self.driver = SnippetDriver(turn_id=turn_id, run_offset=run_offset, validate=validate, projector=self.projector)
        self.system_prompt = SYSTEM
        self._run_offset = run_offset

    def tool_specs(self, specs: Sequence[LlmToolSpec]) -> tuple[LlmToolSpec, ...]:
        """None: a small model is shown code only."""
        return ()

    def turn_limit_message(self, message_id: str, max_turns: int) -> Message:
        """The note that grants one last reply."""
        return note_message(message_id, turn_limit_text(max_turns))

    def set_volatile(self, blocks: Sequence[str], *, namespace: NamespaceSummary | None = None) -> None:
        """The kernel's variables are a part of the prompt and of the judgement; other blocks are not for small
        models."""
        self.projector.namespace = namespace

    def open_stream(self) -> SnippetStream:
        """A reader for one model call: shows the code, says when the cell has ended."""
        return SnippetStream()

    def sampling(self, *, protocol_iteration: int, attempt: int = 1) -> SamplingHint:
        """The likeliest reply first; each further iteration of the turn draws another one."""
        tried = protocol_iteration - self._run_offset
        return SamplingHint(temperature=TEMPERATURE if tried > 0 else 0.0, stop=STOPS, seed=max(0, tried))


class SnippetDriver:
    """The four callbacks."""

    def __init__(
        self,
        *,
        turn_id: str,
        run_offset: int = 0,
        validate: ValidateValue | None = None,
        projector: SnippetProjector | None = None,
    ) -> None:
        self._turn_id = turn_id
        self._run_offset = run_offset
        self._validate = validate
        self._projector = projector or SnippetProjector()

    # -- callbacks -----------------------------------------------------------------------------------------------------

    def prepare_protocol_iteration(self, ctx: DriverContext) -> Sequence[DriverAction]:
        """Call the model; a config that cannot work or a request that is too long ends the turn before any call."""
        problem = options_problem(ctx, protocol="snippet", run_offset=self._run_offset)
        if problem is not None:
            return [failure("runtime", "bad_protocol_options", problem), stop(TurnStopReason.RUNTIME_ERROR)]
        room = request_room(self._request(ctx))
        if not room.fits:
            message = request_too_long(room.size, room.limit, unit=room.unit)
            return [failure("snippet_protocol", "request_too_long", message), stop(TurnStopReason.INCOMPLETE)]
        return [StartLlm(request=ctx.project_llm_request(False), driver_state=CodeDriverState())]

    def handle_llm_success(
        self, ctx: DriverContext, waiting: WaitingLlmView, response: LlmResponse, text_streamed: bool
    ) -> Sequence[DriverAction]:
        """A cell is run, unless it failed before; anything else is a failed attempt."""
        text = response.full_text
        if not text.strip():
            text = "\n\n".join(part.text for part in response.parts if isinstance(part, TextOutput))
        ended = LlmResponseEvent(protocol_iteration=ctx.protocol_iteration, content=text, duration_ms=0)
        emits: list[DriverAction] = [Emit(event=ended)]
        required = isinstance(ctx.termination, FinishRequired)
        schema = ctx.termination.schema if isinstance(ctx.termination, FinishRequired) else None
        read = read_cell(text)
        code = (
            ""
            if read is None
            else finished_cell(read, self._projector.namespace, value_required=required, schema=schema)
        )
        earlier = self._failed_before(ctx, code)
        if not code:
            # What the kernel said of an earlier attempt tells more of the request than this.
            decision, problem = "no_code", self._failed_before(ctx, None) or "the model's reply was no Python"
            reason = "no Python" if text.strip() else "the reply was empty"
        elif earlier is not None:
            decision, problem, reason = "repeated", earlier, "the same code as before"
        elif required and not finishes(code):
            decision, problem, reason = "no_value", "the cell gave no value", "no value to end with"
        else:
            emits.append(Emit(event=MessageEvent(text=code, kind=f"{LANGUAGE}_code")))
            reasoning = tuple(part for part in response.parts if isinstance(part, ReasoningOutput))
            state = CodeDriverState(reasoning=reasoning, executed_code=code)
            records = (self._attempt(ctx, "execute", text, code),)
            return [*emits, AppendEvents(records=records), StartExec(language=LANGUAGE, code=code, driver_state=state)]
        emits.append(_not_run(reason))
        return [*emits, *self._again_or_stop(ctx, (self._attempt(ctx, decision, text, code),), problem)]

    def handle_tool_results(
        self, ctx: DriverContext, completed: tuple[CompletedToolCall, ...]
    ) -> Sequence[DriverAction]:
        """Cannot happen: this protocol starts no tool batch."""
        message = "Tool results came in a turn of the snippet protocol, which asks for none."
        return [failure("runtime", "unexpected_tool_results", message), stop(TurnStopReason.RUNTIME_ERROR)]

    def handle_exec_result(
        self, ctx: DriverContext, waiting: WaitingExecView, result: ExecResponse | str
    ) -> Sequence[DriverAction]:
        """A cell that ran is the answer; one that failed is another attempt, if the model was what failed."""
        step = step_with_result(waiting, result)
        calls: tuple[ToolCallRecord, ...] = () if isinstance(result, str) else result.tool_calls
        emits: list[DriverAction] = [Emit(event=event) for event in tool_call_events(calls)]
        outcome = terminal_outcome(calls)
        if outcome is not None:
            return [*emits, *complete(self._trajectory(ctx, step), outcome)]
        problem: str | None = None
        refused: str | None = None
        if step.finish is not None:
            problem = None if self._validate is None else self._validate(step.finish.value)
            if problem is None:
                value = FinalValue(value=value_read(step.finish.value, ctx.termination))
                return [*emits, *complete(self._trajectory(ctx, step), Finished(finish=value))]
            step, refused = failed_label(step, problem), problem
            emits.append(refusal(problem))
        elif step.exec_error is None and isinstance(ctx.termination, Natural):
            text = answer_text(step, request=self._request(ctx), namespace=self._projector.namespace)
            said = assistant_message(self._id(ctx.protocol_iteration, "answer"), reasoning=(), prose=text)
            records = (*self._trajectory(ctx, step), Conversation(message=said))
            return [*emits, *complete(records, Finished(finish=AssistantMessage(text=text)))]
        elif step.exec_error is None:
            problem = "the cell gave no value"
            step = failed_label(step, problem)
        records = self._trajectory(ctx, step, refused=refused)
        problem = problem or error_line(step.exec_error or "")
        if not (step.exec_error or "").startswith("error:"):
            # Not the model's fault, and what it may have done stands: the user decides what comes next.
            failed = failure("snippet_protocol", "cell_not_completed", not_managed(self._request(ctx), 0, problem))
            return [
                *emits,
                AppendEvents(records=records),
                AdvanceProtocolIteration(),
                failed,
                stop(TurnStopReason.INCOMPLETE),
            ]
        return [*emits, *self._again_or_stop(ctx, records, problem)]

    # -- what follows --------------------------------------------------------------------------------------------------

    def _again_or_stop(
        self, ctx: DriverContext, records: Sequence[SessionEventRecord], problem: str
    ) -> list[DriverAction]:
        """The next attempt, unless a bound is hit; a bound that is hit is said, with what was not done."""
        appended: list[DriverAction] = [AppendEvents(records=tuple(records)), AdvanceProtocolIteration()]
        attempts = self._attempts(ctx, records)
        limit = ctx.max_turns
        at_limit = limit is not None and ctx.protocol_iteration + 1 >= ctx.protocol_run_offset + limit
        if attempts < ATTEMPTS and not at_limit and not ctx.should_force_exit_after_grace_turn():
            go_on = StartCheckpoint(checkpoint=CheckpointKind.AFTER_WORK, on_empty=ResumeAction.PREPARE_ITERATION)
            return [*appended, go_on]
        told = not_managed(self._request(ctx), attempts, problem, namespace=self._projector.namespace)
        failed = failure("snippet_protocol", "not_managed", told)
        reason = TurnStopReason.INCOMPLETE if attempts >= ATTEMPTS else TurnStopReason.MAX_TURNS
        return [*appended, failed, stop(reason)]

    def _request(self, ctx: DriverContext) -> str:
        return last_request(ctx.messages)[1]

    def _mine(self, ctx: DriverContext, records: Sequence[SessionEventRecord]) -> list[CodeEvent]:
        """The protocol's events of this turn and request, the last first."""
        asked = last_request(ctx.messages)[0]
        out: list[CodeEvent] = []
        for record in chain(reversed(records), reversed(ctx.events)):
            if not isinstance(record, ProtocolRecord):
                continue
            event = record.event
            if isinstance(event, CodeDiagnostic) and event.phase == _ATTEMPT:
                same = isinstance(event.payload, Mapping) and event.payload.get("request") == asked
                if not same or event.id != self._id(event.protocol_iteration, "attempt"):
                    break
            out.append(event)
        return out

    def _attempts(self, ctx: DriverContext, records: Sequence[SessionEventRecord]) -> int:
        return sum(isinstance(event, CodeDiagnostic) for event in self._mine(ctx, records))

    def _failed_before(self, ctx: DriverContext, code: str | None) -> str | None:
        """The problem that this very code, or else any, had in an earlier attempt; None when it is new."""
        for event in self._mine(ctx, ()):
            if isinstance(event, CodeTrajectoryEntry) and code in (None, event.code) and event.error is not None:
                texts = [
                    part.content
                    for message in ctx.messages
                    if message.id == event.observation
                    for part in message.parts
                    if part.kind is PartKind.ERROR
                ]
                return error_line(texts[0] if texts else event.error)
        return None

    # -- records -------------------------------------------------------------------------------------------------------

    def _id(self, iteration: int, purpose: str) -> str:
        return record_id(self._turn_id, iteration, purpose)

    def _attempt(self, ctx: DriverContext, decision: str, text: str, code: str) -> SessionEventRecord:
        payload: dict[str, Json] = {
            "decision": decision,
            "termination": "finish_required" if isinstance(ctx.termination, FinishRequired) else "natural",
            "request": last_request(ctx.messages)[0],
            "reply_chars": len(text),
            "code_chars": len(code),
        }
        iteration = ctx.protocol_iteration
        attempt = CodeDiagnostic(
            id=self._id(iteration, "attempt"), protocol_iteration=iteration, phase=_ATTEMPT, payload=payload
        )
        return ProtocolRecord(event=attempt)

    def _trajectory(
        self, ctx: DriverContext, step: CodeDriverState, *, refused: str | None = None
    ) -> tuple[SessionEventRecord, ...]:
        return trajectory(self._turn_id, ctx.protocol_iteration, step, refused=refused)


def _not_run(reason: str) -> Emit:
    """A note behind the step, so that who reads it sees why nothing came of its code."""
    status = StatusRuntimeEvent(key="attempt", label="not run", detail=reason)
    return Emit(event=PluginEvent(plugin_id="snippet", event=status))
