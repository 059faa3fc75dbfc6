"""The code protocol: the model writes prose and one cell, the cell is run, its outputs come back, until it answers.

Decided here: what follows from each reply and each result (`reference/protocols.md`, "Code protocol"). Two differences
to the reference, both on purpose: the answer is appended to the history *before* the before_completion checkpoint, so
that a turn which goes on (the user said something meanwhile) knows what it already answered; and messages carry the
history, events only what they do not. A driver keeps nothing between callbacks: the budget of attempts without
progress is counted from the events, so it survives a restore.

`ExecResponse.terminal_finish` is `{"value": …}` when the cell called `finish(value)` and None otherwise
(`observations.finish_marker`): a bare null could not be told from `finish(None)`. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain

from ..machine.checkpoints import CheckpointKind, FinishWith
from ..machine.config import TurnProtocol
from ..machine.driver import (
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
    ProtocolRecord,
    SessionEventRecord,
)
from ..machine.execution import ExecResponse, NamespaceSummary
from ..machine.llm import (
    LlmResponse,
    LlmToolSpec,
)
from ..machine.messages import Message
from ..machine.outcomes import AssistantMessage, FinalValue, Finished, TurnStopReason
from ..machine.tool_calls import CompletedToolCall, ToolCallRecord
from ..machine.wire import Json
from . import SamplingHint, ValidateValue
from .grammar import CellStream, Grammar
from .history import CodeProjector
from .namespace import namespace_block
from .observations import ObservationBudget
from .prompt import (
    finish_reminder,
    invalid_value_error,
    invalid_value_note,
    no_progress_message,
    retry_note,
    system_prompt,
    turn_limit_text,
)
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
from .replies import LANGUAGE, Decision, Said, decide, read_response, reply_events, step_with_result
from .steps import (
    attempt_records,
    complete,
    failure,
    go_on_or_stop,
    options_problem,
    provider_error,
    refusal,
    stop,
    trajectory,
)
from .termination import CODE_TERMINATION, CodeTermination, FinishRequired, Natural
from .tool_events import terminal_outcome, tool_call_events, value_of
from .whole_numbers import value_read

__all__ = ["CODE_TURN_PROTOCOL", "CodeDriver", "CodeProtocol"]

EXTRACTION = "llm_extraction"
"""Phase of the diagnostic that is written for each reply."""

CODE_TURN_PROTOCOL: TurnProtocol[CodeEvent, CodeTermination, CodeDriverState] = TurnProtocol(
    name="code", event=CODE_EVENT, termination=CODE_TERMINATION, driver_state=CODE_DRIVER_STATE
)


class CodeProtocol:
    """The code protocol for one turn: what the host puts into `TurnMachineConfig`, and what it uses beside it.

    `turn_id` makes the ids of messages and events; it must be unique in the session. `run_offset` is the one that the
    machine is made with. `validate` is asked about every final value. Everything else is to be the same in all turns
    of a session, or the model's prompt prefix changes.
    """

    name = "code"
    turn_protocol = CODE_TURN_PROTOCOL
    calls_tools = False

    def __init__(
        self,
        *,
        turn_id: str,
        run_offset: int = 0,
        termination: CodeTermination | None = None,
        validate: ValidateValue | None = None,
        grammar: Grammar = "tags",
        vision: bool = True,
        budget: ObservationBudget | None = None,
        no_progress_limit: int = 12,
        instructions: str = "",
    ) -> None:
        self.termination: CodeTermination = termination or Natural()
        self.budget = budget or ObservationBudget()
        """What `observations.exec_response` is to be called with, so that the prompt names the real limits."""
        self.vision = vision
        self.driver = CodeDriver(
            turn_id=turn_id,
            run_offset=run_offset,
            validate=validate,
            grammar=grammar,
            no_progress_limit=no_progress_limit,
        )
        self.projector = CodeProjector(grammar=grammar, vision=vision, run_offset=run_offset)
        self.system_prompt = system_prompt(grammar, budget=self.budget, vision=vision, instructions=instructions)
        self._grammar: Grammar = grammar

    def tool_specs(self, specs: Sequence[LlmToolSpec]) -> tuple[LlmToolSpec, ...]:
        """None: code calls the tools."""
        return ()

    def turn_limit_message(self, message_id: str, max_turns: int) -> Message:
        """The note that grants one last reply."""
        return note_message(message_id, turn_limit_text(max_turns))

    def set_volatile(self, blocks: Sequence[str], *, namespace: NamespaceSummary | None = None) -> None:
        """The host's blocks of the last message and the kernel's variables, until they are replaced."""
        self.projector.set_volatile(blocks if namespace is None else [*blocks, namespace_block(namespace)])

    def open_stream(self) -> CellStream:
        """A reader for one model call: masks the cell, says when to stop."""
        return CellStream(self._grammar)

    def sampling(self, *, protocol_iteration: int, attempt: int = 1) -> SamplingHint:
        """The provider's defaults: the stream is stopped by its reader, so no stop sequence has to be supported."""
        return SamplingHint()


class CodeDriver:
    """The four callbacks."""

    def __init__(
        self,
        *,
        turn_id: str,
        run_offset: int = 0,
        validate: ValidateValue | None = None,
        grammar: Grammar = "tags",
        no_progress_limit: int = 12,
    ) -> None:
        self._turn_id = turn_id
        self._run_offset = run_offset
        self._validate = validate
        self._grammar: Grammar = grammar
        self._no_progress_limit = no_progress_limit

    # -- callbacks -----------------------------------------------------------------------------------------------------

    def prepare_protocol_iteration(self, ctx: DriverContext) -> Sequence[DriverAction]:
        """Call the model; a config that cannot work ends the turn before any call."""
        problem = options_problem(ctx, protocol="code", run_offset=self._run_offset)
        if problem is not None:
            return [failure("runtime", "bad_protocol_options", problem), stop(TurnStopReason.RUNTIME_ERROR)]
        return [StartLlm(request=ctx.project_llm_request(False), driver_state=CodeDriverState())]

    def handle_llm_success(
        self, ctx: DriverContext, waiting: WaitingLlmView, response: LlmResponse, text_streamed: bool
    ) -> Sequence[DriverAction]:
        """A cell is run, an answer ends the turn, anything else is told to the model."""
        said = read_response(response, self._grammar)
        decision = decide(said, value_required=isinstance(ctx.termination, FinishRequired))
        records = self._attempt(ctx, decision, said)
        emits = reply_events(said, protocol_iteration=ctx.protocol_iteration, text_streamed=text_streamed)
        match decision:
            case Decision.EXECUTE:
                return [*emits, AppendEvents(records=records), _exec(said)]
            case Decision.ANSWER:
                finish = FinishWith(outcome=Finished(finish=AssistantMessage(text=said.reply.prose)))
                return [
                    *emits,
                    AppendEvents(records=(*records, *self._prose_message(ctx, said))),
                    StartCheckpoint(checkpoint=CheckpointKind.BEFORE_COMPLETION, on_empty=finish),
                ]
            case Decision.REMIND:
                note = finish_reminder()
            case Decision.RETRY:
                problem = said.reply.problem
                assert problem is not None
                note = retry_note(problem, self._grammar, draft=said.reply.draft)
            case Decision.EMPTY:
                message = "The model gave an empty reply."
                return [*emits, AppendEvents(records=records), *provider_error("empty_response", message)]
            case Decision.NATIVE_TOOL_CALL:
                message = f"The model called {said.native_calls[0]!r} as a tool; in this protocol there are none."
                return [*emits, AppendEvents(records=records), *provider_error("native_tool_call", message)]
        return [*emits, *self._continue_or_stop(ctx, (*records, *self._prose_message(ctx, said)), note)]

    def handle_tool_results(
        self, ctx: DriverContext, completed: tuple[CompletedToolCall, ...]
    ) -> Sequence[DriverAction]:
        """Cannot happen: this protocol starts no tool batch."""
        message = "Tool results came in a turn of the code protocol, which asks for none."
        return [failure("runtime", "unexpected_tool_results", message), stop(TurnStopReason.RUNTIME_ERROR)]

    def handle_exec_result(
        self, ctx: DriverContext, waiting: WaitingExecView, result: ExecResponse | str
    ) -> Sequence[DriverAction]:
        """A final value or a tool that ends the turn; else the model sees what came of its cell."""
        step = step_with_result(waiting, result)
        calls: tuple[ToolCallRecord, ...] = () if isinstance(result, str) else result.tool_calls
        emits: list[DriverAction] = [Emit(event=event) for event in tool_call_events(calls)]
        outcome = terminal_outcome(calls)
        given = value_of(outcome, ctx.termination)
        if given is not None:
            step = replace(step, finish=given)
        elif outcome is not None:
            return [*emits, *complete(self._trajectory(ctx, step), outcome)]
        if step.finish is not None:
            problem = None if self._validate is None else self._validate(step.finish.value)
            if problem is None:
                value = FinalValue(value=value_read(step.finish.value, ctx.termination))
                return [*emits, *complete(self._trajectory(ctx, step), Finished(finish=value))]
            failed = replace(step, finish=None, exec_error=invalid_value_error())
            records = self._trajectory(ctx, failed, refused=problem)
            return [*emits, refusal(problem), *self._continue_or_stop(ctx, records, invalid_value_note(problem))]
        note = None if step.problem is None else retry_note(step.problem, self._grammar)
        return [*emits, *self._continue_or_stop(ctx, self._trajectory(ctx, step), note)]

    # -- what follows --------------------------------------------------------------------------------------------------

    def _continue_or_stop(
        self, ctx: DriverContext, records: Sequence[SessionEventRecord], note: str | None
    ) -> list[DriverAction]:
        stuck = None
        if self._attempts_without_progress(ctx, records) >= self._no_progress_limit:
            stuck = failure("code_protocol", "no_progress", no_progress_message(self._no_progress_limit))
        return go_on_or_stop(ctx, records, turn_id=self._turn_id, note=note, stuck=stuck)

    def _attempts_without_progress(self, ctx: DriverContext, records: Sequence[SessionEventRecord]) -> int:
        """How many replies of this turn came since the last cell that ran free of errors, or the last answer."""
        count = 0
        for record in chain(reversed(records), reversed(ctx.events)):
            if not isinstance(record, ProtocolRecord):
                continue
            match record.event:
                case CodeTrajectoryEntry(id=found, protocol_iteration=iteration, error=error):
                    if error is None or found != self._id(iteration, "step"):
                        break
                case CodeDiagnostic(id=found, protocol_iteration=iteration, phase=phase, payload=payload):
                    if found != self._id(iteration, "attempt") or phase != EXTRACTION:
                        break
                    if isinstance(payload, Mapping) and payload.get("decision") == "answer":
                        break
                    count += 1
        return count

    # -- records -------------------------------------------------------------------------------------------------------

    def _id(self, iteration: int, purpose: str) -> str:
        return record_id(self._turn_id, iteration, purpose)

    def _attempt(self, ctx: DriverContext, decision: Decision, said: Said) -> tuple[SessionEventRecord, ...]:
        """The diagnostic of one reply, and what was said in it."""
        iteration, reply = ctx.protocol_iteration, said.reply
        payload: dict[str, Json] = {
            "decision": decision.value,
            "termination": "finish_required" if isinstance(ctx.termination, FinishRequired) else "natural",
            "reply_chars": len(said.text),
            "prose_chars": len(reply.prose),
            "code_chars": len(reply.code or reply.draft),
            "reasoning_chars": sum(len(item.text) for item in said.reasoning),
        }
        if reply.problem is not None:
            payload["problem"] = reply.problem.value
        return attempt_records(
            self._turn_id, iteration, payload, phase=EXTRACTION, reasoning=said.reasoning, prose=reply.prose
        )

    def _prose_message(self, ctx: DriverContext, said: Said) -> tuple[SessionEventRecord, ...]:
        """A reply of which no cell was run, as a message; nothing when it held no prose."""
        prose = said.reply.prose
        if not prose:
            return ()
        message_id = self._id(ctx.protocol_iteration, "reply")
        return (Conversation(message=assistant_message(message_id, reasoning=said.reasoning, prose=prose)),)

    def _trajectory(
        self, ctx: DriverContext, step: CodeDriverState, *, refused: str | None = None
    ) -> tuple[SessionEventRecord, ...]:
        return trajectory(self._turn_id, ctx.protocol_iteration, step, refused=refused)


def _exec(said: Said) -> StartExec:
    code = said.reply.code or ""
    state = CodeDriverState(
        reasoning=said.reasoning, prose=said.reply.prose, executed_code=code, problem=said.reply.problem
    )
    return StartExec(language=LANGUAGE, code=code, driver_state=state)
