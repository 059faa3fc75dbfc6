"""The tool protocol: the model calls tools natively, all calls of a reply at once, until it answers in prose.

Decided here: what follows from each reply and each batch (`reference/protocols.md`, "Tool protocol"). Differences to
the reference, all on purpose: the answer is appended to the history *before* the before_completion checkpoint, with its
reasoning; a call with broken arguments is not made; at the turn limit one last reply is granted, in which no call is
made; replies of which no call succeeded are bounded. Whatever is refused has a result in the history like any other
call, so each call has exactly one. The refusals of a batch are kept in the event of its reply: a driver keeps nothing
between callbacks, and a restored one finds them there. Events are the code protocol's, as sessions change between the
two. Pure.
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
    StartCheckpoint,
    StartLlm,
    StartTools,
    WaitingExecView,
    WaitingLlmView,
)
from ..machine.events import Conversation, ProtocolRecord, SessionEventRecord
from ..machine.execution import ExecResponse, NamespaceSummary
from ..machine.llm import LlmResponse, LlmToolChoice, LlmToolSpec
from ..machine.messages import Message, MessageRole, PartKind
from ..machine.outcomes import AssistantMessage, Finished, TurnStopReason
from ..machine.tool_calls import (
    CompletedToolCall,
    PendingToolCall,
)
from ..machine.tool_specs import RUN_CODE
from ..machine.wire import UNIT, Json
from . import SamplingHint, ValidateValue
from .grammar import Grammar
from .namespace import namespace_block
from .observations import ObservationBudget
from .records import CODE_EVENT, CodeDiagnostic, CodeEvent, record_id, runtime_message
from .said_calls import Refusal, call_ids
from .steps import (
    attempt_records,
    complete,
    failure,
    go_on_or_stop,
    options_problem,
    provider_error,
    refusal,
    stop,
)
from .termination import CODE_TERMINATION, CodeTermination, FinishRequired, Natural
from .tool_history import ToolsProjector
from .tool_prompt import (
    call_reminder,
    no_success_message,
    run_code_spec,
    steps_used_up_note,
    steps_used_up_text,
    tools_prompt,
)
from .tool_replies import (
    ProseStream,
    ToolReply,
    read_refusals,
    read_tool_reply,
    refusal_events,
    told_refusals,
    tool_reply_events,
    tool_reply_message,
)
from .tool_results import Batch, read_batch

__all__ = ["TOOLS_TURN_PROTOCOL", "ToolsDriver", "ToolsProtocol"]

REPLY = "tool_reply"
"""Phase of the diagnostic that is written for each reply."""
RESULTS = "tool_results"
"""Phase of the diagnostic that is written for each batch."""

TOOLS_TURN_PROTOCOL: TurnProtocol[CodeEvent, CodeTermination, None] = TurnProtocol(
    name="tools", event=CODE_EVENT, termination=CODE_TERMINATION, driver_state=UNIT
)


class ToolsProtocol:
    """The tool protocol for one turn; takes what `CodeProtocol` takes, so that the host need not know which it has.

    `grammar` has no meaning here.
    """

    name = "tools"
    turn_protocol = TOOLS_TURN_PROTOCOL
    calls_tools = True

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
        self.vision = vision
        self.driver = ToolsDriver(
            turn_id=turn_id, run_offset=run_offset, validate=validate, no_progress_limit=no_progress_limit
        )
        self.projector = ToolsProjector(vision=vision, run_offset=run_offset)
        self.system_prompt = tools_prompt(budget=self.budget, vision=vision, instructions=instructions)

    def tool_specs(self, specs: Sequence[LlmToolSpec]) -> tuple[LlmToolSpec, ...]:
        """The one that runs cells, then those there are; no other is called like it."""
        own = run_code_spec(budget=self.budget, vision=self.vision)
        return (own, *(spec for spec in specs if spec.name != RUN_CODE))

    def turn_limit_message(self, message_id: str, max_turns: int) -> Message:
        """The note that grants one last reply."""
        return runtime_message(message_id, PartKind.ERROR, steps_used_up_note(max_turns))

    def set_volatile(self, blocks: Sequence[str], *, namespace: NamespaceSummary | None = None) -> None:
        """The host's blocks of the last message and the kernel's variables, until they are replaced."""
        self.projector.set_volatile(blocks if namespace is None else [*blocks, namespace_block(namespace)])

    def open_stream(self) -> ProseStream:
        """A reader for one model call: all text is prose, and only its end ends it."""
        return ProseStream()

    def sampling(self, *, protocol_iteration: int, attempt: int = 1) -> SamplingHint:
        """The provider's defaults."""
        return SamplingHint()


class ToolsDriver:
    """The four callbacks."""

    def __init__(
        self,
        *,
        turn_id: str,
        run_offset: int = 0,
        validate: ValidateValue | None = None,
        no_progress_limit: int = 12,
    ) -> None:
        self._turn_id = turn_id
        self._run_offset = run_offset
        self._validate = validate
        self._no_progress_limit = no_progress_limit

    # -- callbacks -----------------------------------------------------------------------------------------------------

    def prepare_protocol_iteration(self, ctx: DriverContext) -> Sequence[DriverAction]:
        """Call the model; in the last reply it may call nothing. A config that cannot work ends the turn instead."""
        problem = options_problem(ctx, protocol="tools", run_offset=self._run_offset)
        if problem is not None:
            return [failure("runtime", "bad_protocol_options", problem), stop(TurnStopReason.RUNTIME_ERROR)]
        request = ctx.project_llm_request(True)
        if ctx.should_force_exit_after_grace_turn():
            # The tools stay: providers refuse calls in the history without them, and their caches begin with them.
            request = replace(request, tool_choice=LlmToolChoice.NONE)
        return [StartLlm(request=request)]

    def handle_llm_success(
        self, ctx: DriverContext, waiting: WaitingLlmView, response: LlmResponse, text_streamed: bool
    ) -> Sequence[DriverAction]:
        """Calls are made, an answer ends the turn, anything else is told to the model."""
        label = f"{self._turn_id}_{ctx.protocol_iteration}"
        reply = read_tool_reply(response, offered=waiting.request.tools, known=call_ids(ctx.messages), label=label)
        if ctx.should_force_exit_after_grace_turn():
            reply = reply.refusing(Refusal(code="turn_limit", text=steps_used_up_text()))
        emits: list[DriverAction] = [
            *tool_reply_events(reply, protocol_iteration=ctx.protocol_iteration, text_streamed=text_streamed)
        ]
        required = isinstance(ctx.termination, FinishRequired)
        if reply.calls:
            return [*emits, *self._call(ctx, reply)]
        if reply.empty and not _follows_results(ctx.messages):
            records = self._reply_records(ctx, reply, "empty")
            return [
                *emits,
                AppendEvents(records=records),
                *provider_error("empty_response", "The model gave an empty reply."),
            ]
        if required:
            return [*emits, *self._go_on_or_stop(ctx, self._reply_records(ctx, reply, "remind"), call_reminder())]
        finish = FinishWith(outcome=Finished(finish=AssistantMessage(text=reply.text)))
        return [
            *emits,
            AppendEvents(records=self._reply_records(ctx, reply, "answer")),
            StartCheckpoint(checkpoint=CheckpointKind.BEFORE_COMPLETION, on_empty=finish),
        ]

    def handle_tool_results(
        self, ctx: DriverContext, completed: tuple[CompletedToolCall, ...]
    ) -> Sequence[DriverAction]:
        """The first call that ends the turn does; else the model sees the results."""
        said = self._said(ctx)
        if said is None:
            problem = "Tool results came, and the history has no reply that asked for them."
            return [failure("runtime", "unexpected_tool_results", problem), stop(TurnStopReason.RUNTIME_ERROR)]
        message, refused = said
        return self._take(ctx, (), message, refused, completed)

    def handle_exec_result(
        self, ctx: DriverContext, waiting: WaitingExecView, result: ExecResponse | str
    ) -> Sequence[DriverAction]:
        """Cannot happen: cells of this protocol are tool calls."""
        message = "A cell's result came in a turn of the tool protocol, which starts none by itself."
        return [failure("runtime", "unexpected_exec_result", message), stop(TurnStopReason.RUNTIME_ERROR)]

    # -- what follows --------------------------------------------------------------------------------------------------

    def _call(self, ctx: DriverContext, reply: ToolReply) -> list[DriverAction]:
        """Make the calls that can be made; without any the reply is answered at once."""
        records = self._reply_records(ctx, reply, "call")
        emits: list[DriverAction] = [*refusal_events(reply)]
        made = tuple(
            PendingToolCall(call_id=call.call_id, tool_name=call.tool_name, args=call.args, replay=call.replay)
            for call in reply.calls
            if call.refusal is None
        )
        if made:
            return [*emits, AppendEvents(records=records), StartTools(calls=made)]
        [message] = [record.message for record in records if isinstance(record, Conversation)]
        return [*emits, *self._take(ctx, records, message, reply.refusals, ())]

    def _take(
        self,
        ctx: DriverContext,
        records: Sequence[SessionEventRecord],
        message: Message,
        refused: Mapping[str, str],
        completed: Sequence[CompletedToolCall],
    ) -> list[DriverAction]:
        """All results of a reply are there. `records` are those of the reply, where they are not in the history yet."""
        batch = read_batch(
            message,
            refused,
            completed,
            turn_id=self._turn_id,
            iteration=ctx.protocol_iteration,
            validate=self._validate,
            termination=ctx.termination,
        )
        records = (*records, *self._batch_records(ctx, batch))
        if batch.outcome is not None:
            return complete(records, batch.outcome)
        return [*map(refusal, batch.problems), *self._go_on_or_stop(ctx, records, None)]

    def _go_on_or_stop(
        self, ctx: DriverContext, records: Sequence[SessionEventRecord], note: str | None
    ) -> list[DriverAction]:
        stuck = None
        if self._replies_without_progress(ctx, records) >= self._no_progress_limit:
            stuck = failure("tool_protocol", "no_progress", no_success_message(self._no_progress_limit))
        return go_on_or_stop(ctx, records, turn_id=self._turn_id, note=note, stuck=stuck)

    def _replies_without_progress(self, ctx: DriverContext, records: Sequence[SessionEventRecord]) -> int:
        """How many replies of this turn came since the last call that succeeded, or the last answer."""
        count = 0
        for record in chain(reversed(records), reversed(ctx.events)):
            if not isinstance(record, ProtocolRecord) or not isinstance(record.event, CodeDiagnostic):
                continue
            found = record.event
            payload = found.payload if isinstance(found.payload, Mapping) else {}
            if found.id == self._id(found.protocol_iteration, "batch") and found.phase == RESULTS:
                if payload.get("succeeded"):
                    break
            elif found.id != self._id(found.protocol_iteration, "attempt") or payload.get("decision") == "answer":
                break
            else:
                count += 1
        return count

    # -- records -------------------------------------------------------------------------------------------------------

    def _id(self, iteration: int, purpose: str) -> str:
        return record_id(self._turn_id, iteration, purpose)

    def _reply_records(self, ctx: DriverContext, reply: ToolReply, decision: str) -> tuple[SessionEventRecord, ...]:
        """The diagnostic of one reply, what was said in it, and its message."""
        payload: dict[str, Json] = {
            "decision": decision,
            "termination": "finish_required" if isinstance(ctx.termination, FinishRequired) else "natural",
            "prose_chars": len(reply.text),
            "reasoning_chars": sum(len(item.text) for item in reply.reasoning),
            "calls": len(reply.calls),
        }
        if reply.refusals:
            payload["refused"] = told_refusals(reply)
        records = attempt_records(
            self._turn_id,
            ctx.protocol_iteration,
            payload,
            phase=REPLY,
            reasoning=reply.reasoning,
            prose=reply.text,
        )
        message = tool_reply_message(self._id(ctx.protocol_iteration, "reply"), reply)
        return records if message is None else (*records, Conversation(message=message))

    def _batch_records(self, ctx: DriverContext, batch: Batch) -> tuple[SessionEventRecord, ...]:
        """The diagnostic of one batch, the cells of it, and the message with the results."""
        iteration = ctx.protocol_iteration
        payload: dict[str, Json] = {"results": batch.results, "succeeded": batch.succeeded}
        if batch.failed:
            payload["failed"] = list(batch.failed)
        found = CodeDiagnostic(
            id=self._id(iteration, "batch"), protocol_iteration=iteration, phase=RESULTS, payload=payload
        )
        entries = (ProtocolRecord(event=entry) for entry in batch.entries)
        return ProtocolRecord(event=found), *entries, Conversation(message=batch.message)

    def _said(self, ctx: DriverContext) -> tuple[Message, dict[str, str]] | None:
        """The reply of this iteration, and those of its calls that were refused."""
        reply_id, attempt_id = self._id(ctx.protocol_iteration, "reply"), self._id(ctx.protocol_iteration, "attempt")
        message = next((message for message in reversed(ctx.messages) if message.id == reply_id), None)
        if message is None:
            return None
        for record in reversed(ctx.events):
            event = record.event if isinstance(record, ProtocolRecord) else None
            if isinstance(event, CodeDiagnostic) and event.id == attempt_id:
                return message, read_refusals(event.payload)
        return message, {}


def _follows_results(messages: Sequence[Message]) -> bool:
    """Whether nothing was said since the last results: then a model may end in silence."""
    if not messages or messages[-1].role is not MessageRole.USER:
        return False
    return any(part.kind is PartKind.TOOL_RESULT for part in messages[-1].parts)
