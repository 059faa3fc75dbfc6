"""A small host for tests: plays a TurnMachine under one of the protocols against canned replies and cell results.

It follows the host rules (drain the queue, then answer the outstanding id), and with `through_json` it takes a
TurnCheckpoint at every step, sends it through JSON, and goes on from that with a newly made protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from lash_nb.machine.checkpoints import CheckpointDelivery, CheckpointKind
from lash_nb.machine.driver import CheckedDriver
from lash_nb.machine.effects import (
    Checkpoint,
    CheckpointResponse,
    Done,
    Emit,
    ExecCode,
    ExecResult,
    ExecutionEnvironmentSynced,
    LlmCall,
    LlmComplete,
    Response,
    SyncExecutionEnvironment,
    ToolCalls,
    ToolResults,
)
from lash_nb.machine.events import SessionEventRecord, SessionStreamEvent, TurnOutcomeEvent
from lash_nb.machine.execution import ExecResponse, NamespaceSummary
from lash_nb.machine.llm import LlmCallError, LlmRequest, LlmResponse, LlmTerminalReason, TextBlock
from lash_nb.machine.messages import Message, MessageRole, Part, PartKind
from lash_nb.machine.outcomes import TurnOutcome
from lash_nb.machine.state import TurnCheckpoint
from lash_nb.machine.tool_calls import (
    CompletedToolCall,
    ModelToolReturn,
    PendingToolCall,
    TextReturn,
    ToolCallOutput,
    ToolSucceeded,
)
from lash_nb.machine.tool_specs import RUN_CODE, LlmToolSpec
from lash_nb.machine.turn import TurnMachine, TurnMachineConfig
from lash_nb.machine.wire import dumps
from lash_nb.protocols import ModelProtocol
from lash_nb.protocols.code import CodeProtocol
from lash_nb.protocols.run_code import cell_output, cell_return

__all__ = ["Answer", "Played", "completed", "delivery", "play", "prefix_problems", "reply", "text_of", "user_message"]


def user_message(message_id: str, text: str) -> Message:
    return Message(
        id=message_id, role=MessageRole.USER, parts=(Part(id=f"{message_id}.p0", kind=PartKind.TEXT, content=text),)
    )


def reply(text: str, **fields: Any) -> LlmResponse:
    return LlmResponse(full_text=text, **{"terminal_reason": LlmTerminalReason.STOP, **fields})


def delivery(*messages: Message) -> CheckpointDelivery:
    return CheckpointDelivery(committed_user_messages=messages, messages=(), transient_messages=(), turn_causes=())


def text_of(request: LlmRequest, index: int) -> str:
    """All text of one message of a request."""
    return "\n".join(block.text for block in request.messages[index].blocks if isinstance(block, TextBlock))


Answer = Callable[[PendingToolCall], ToolCallOutput | CompletedToolCall]
"""What a tool gives; a whole record where a test says what the model is told."""


def echo(call: PendingToolCall) -> ToolCallOutput:
    """A tool that gives back its name and arguments."""
    return ToolCallOutput(outcome=ToolSucceeded(payload=f"{call.tool_name} {dumps(call.args)}"))


def completed(call: PendingToolCall, output: ToolCallOutput) -> CompletedToolCall:
    """A call as a host ends it: a string is raw text, anything else JSON, a failure its message."""
    outcome = output.outcome
    told = outcome.payload if isinstance(outcome, ToolSucceeded) else outcome.payload.message
    parts = (TextReturn(text=told if isinstance(told, str) else dumps(told)),)
    model_return = ModelToolReturn(call_id=call.call_id, tool_name=call.tool_name, parts=parts)
    return CompletedToolCall(
        call_id=call.call_id,
        tool_name=call.tool_name,
        args=call.args,
        output=output,
        model_return=model_return,
        duration_ms=0,
        replay=call.replay,
    )


@dataclass(kw_only=True)
class Played:
    """What happened in a turn."""

    requests: list[LlmRequest] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)
    batches: list[tuple[PendingToolCall, ...]] = field(default_factory=list)
    checkpoints: list[CheckpointKind] = field(default_factory=list)
    emitted: list[SessionStreamEvent] = field(default_factory=list)
    outcome: TurnOutcome | None = None
    messages: tuple[Message, ...] = ()
    events: tuple[SessionEventRecord, ...] = ()
    replies_left: int = 0
    results_left: int = 0


def _config(
    protocol: ModelProtocol,
    max_turns: int | None,
    namespace: NamespaceSummary | None,
    specs: Sequence[LlmToolSpec],
) -> TurnMachineConfig[Any, Any, Any]:
    protocol.set_volatile(["Variables: none."], namespace=namespace)
    return TurnMachineConfig(
        driver=CheckedDriver(protocol.driver),
        projector=protocol.projector,
        protocol=protocol.turn_protocol,
        model="canned",
        sync_execution_environment=True,
        max_turns=max_turns,
        tool_specs=protocol.tool_specs(specs),
        system_prompt=protocol.system_prompt,
        session_id="s1",
        termination=protocol.termination,
        turn_limit_final_message=protocol.turn_limit_message,
    )


def play(
    replies: Sequence[LlmResponse | LlmCallError | str],
    results: Sequence[ExecResponse | str] = (),
    *,
    deliveries: Sequence[CheckpointDelivery] = (),
    protocol: Callable[[], ModelProtocol] = lambda: CodeProtocol(turn_id="t1"),
    messages: Sequence[Message] = (user_message("u0", "Which lines lose money?"),),
    events: Sequence[SessionEventRecord] = (),
    max_turns: int | None = 30,
    run_offset: int = 0,
    through_json: bool = False,
    streamed: bool = False,
    namespace: NamespaceSummary | None = None,
    tools: Answer = echo,
    specs: Sequence[LlmToolSpec] = (),
) -> Played:
    """Play one turn to its end; fails when a canned answer is missing. `deliveries[i]` answers the i-th checkpoint.

    `results` are those of cells, also of the ones that are called; `tools` gives those of other calls.
    """
    played, queue, cells = Played(), list(replies), list(results)
    machine = TurnMachine(
        _config(protocol(), max_turns, namespace, specs), messages, events, protocol_run_offset=run_offset
    )
    waiting: Outstanding | None = None
    done = False
    while not done:
        if through_json and waiting is None:
            forms = protocol().turn_protocol
            read = TurnCheckpoint.from_text(machine.checkpoint().to_text(forms), forms)
            assert read == machine.checkpoint()
            machine = TurnMachine.restore(_config(protocol(), max_turns, namespace, specs), read)
        match machine.poll_effect():
            case Emit(event=event):
                played.emitted.append(event)
            case Done(messages=final):
                played.messages, played.events, done = tuple(final), tuple(machine.events), True
            case SyncExecutionEnvironment() | LlmCall() | ToolCalls() | ExecCode() | Checkpoint() as effect:
                waiting = effect
            case None:
                assert waiting is not None, "the machine neither waits nor goes on"
                machine.handle_response(_answer(waiting, played, queue, cells, deliveries, streamed, tools))
                waiting = None
    played.replies_left, played.results_left = len(queue), len(cells)
    [played.outcome] = [event.outcome for event in played.emitted if isinstance(event, TurnOutcomeEvent)]
    return played


Outstanding = SyncExecutionEnvironment | LlmCall | ToolCalls | ExecCode | Checkpoint


def _answer(
    effect: Outstanding,
    played: Played,
    replies: list[LlmResponse | LlmCallError | str],
    results: list[ExecResponse | str],
    deliveries: Sequence[CheckpointDelivery],
    streamed: bool,
    tools: Answer,
) -> Response:
    match effect:
        case SyncExecutionEnvironment():
            return ExecutionEnvironmentSynced(id=effect.id, result=None)
        case LlmCall():
            played.requests.append(effect.request)
            said = replies.pop(0)
            return LlmComplete(
                id=effect.id, result=reply(said) if isinstance(said, str) else said, text_streamed=streamed
            )
        case ToolCalls():
            played.batches.append(effect.calls)
            return ToolResults(id=effect.id, results=tuple(_called(call, results, tools) for call in effect.calls))
        case ExecCode():
            assert effect.language == "python"
            played.executed.append(effect.code)
            return ExecResult(id=effect.id, result=results.pop(0))
        case Checkpoint():
            count = len(played.checkpoints)
            played.checkpoints.append(effect.checkpoint)
            nothing = delivery()
            return CheckpointResponse(id=effect.id, delivery=deliveries[count] if count < len(deliveries) else nothing)


def _called(call: PendingToolCall, results: list[ExecResponse | str], tools: Answer) -> CompletedToolCall:
    if call.tool_name == RUN_CODE:
        output = cell_output(results.pop(0))
        return replace(completed(call, output), model_return=cell_return(call, output))
    given = tools(call)
    return given if isinstance(given, CompletedToolCall) else completed(call, given)


def prefix_problems(requests: Sequence[LlmRequest]) -> list[str]:
    """Where a request does not repeat the one before it (its last message aside), or marks the wrong text."""
    problems: list[str] = []
    for number, request in enumerate(requests):
        texts = [
            (index, place)
            for index, message in enumerate(request.messages[:-1])
            for place, block in enumerate(message.blocks)
            if isinstance(block, TextBlock)
        ]
        marked = [
            (index, place)
            for index, message in enumerate(request.messages)
            for place, block in enumerate(message.blocks)
            if isinstance(block, TextBlock) and block.cache_breakpoint
        ]
        if marked != texts[-1:]:
            problems.append(f"request {number} marks {marked}")
    for number, (before, after) in enumerate(pairwise(requests)):
        old, new = _unmarked(before)[:-1], _unmarked(after)[:-1]
        if new[: len(old)] != old:
            problems.append(f"request {number + 1} changes what request {number} said")
        if after.attachments[: len(before.attachments)] != before.attachments:
            problems.append(f"request {number + 1} changes the attachments of request {number}")
    return problems


def _unmarked(request: LlmRequest) -> list[tuple[object, list[object]]]:
    return [
        (
            message.role,
            [
                replace(block, cache_breakpoint=False) if isinstance(block, TextBlock) else block
                for block in message.blocks
            ],
        )
        for message in request.messages
    ]
