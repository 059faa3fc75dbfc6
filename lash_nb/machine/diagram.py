"""The picture of the turn machine: which state follows which, found by playing the machine itself.

`transitions()` puts a machine into every state, gives it every trigger that the state takes and every move that a
driver can make, and notes where it ends up. `python -m lash_nb.machine.diagram` prints the result for Mermaid;
CONTRIBUTING.md shows it, and a test holds it to a table written by hand. Pure: other modules of the machine only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .checkpoints import CheckpointDelivery, CheckpointKind, FinishWith, ResumeAction
from .config import TurnMachineConfig
from .driver import (
    DriverAction,
    DriverContext,
    Finish,
    StartCheckpoint,
    StartExec,
    StartLlm,
    StartTools,
    WaitingExecView,
    WaitingLlmView,
)
from .effects import (
    CheckpointResponse,
    EffectId,
    ExecResult,
    ExecutionEnvironmentSynced,
    LlmComplete,
    Response,
    ToolResults,
)
from .execution import ExecResponse
from .llm import LlmCallError, LlmRequest, LlmRequestScope, LlmResponse, LlmTerminalReason, TokenUsage
from .messages import AppendOnly, Message, MessageRole
from .outcomes import AssistantMessage, Stopped, TurnOutcome, TurnStopReason
from .outcomes import Finished as FinishedOutcome
from .projector import ChatProjector
from .state import (
    Finished,
    MachineState,
    PrepareIteration,
    PreparingProtocol,
    TurnCheckpoint,
    TurnTerminationPolicyState,
    WaitingCheckpoint,
    WaitingExec,
    WaitingExecutionEnvironment,
    WaitingLlm,
    WaitingTools,
)
from .tool_calls import CompletedToolCall
from .turn import TurnMachine

__all__ = ["Transition", "state_diagram", "transitions"]

_ID = EffectId(7)
_REQUEST = LlmRequest(model="", messages=(), scope=LlmRequestScope(session_id="", agent_frame_id="", request_id=""))
_OUTCOME: TurnOutcome = FinishedOutcome(finish=AssistantMessage(text=""))
_AFTER_WORK = StartCheckpoint(checkpoint=CheckpointKind.AFTER_WORK, on_empty=ResumeAction.PREPARE_ITERATION)
_MOVES: tuple[DriverAction, ...] = (
    StartLlm(request=_REQUEST),
    StartTools(calls=()),
    StartExec(language="python", code=""),
    _AFTER_WORK,
    Finish(outcome=_OUTCOME),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Transition:
    """One arrow: names of the states, and what leads from one to the other."""

    source: str
    trigger: str
    target: str


@dataclass(frozen=True, slots=True)
class _OneMove:
    """A driver that always makes the same move."""

    move: DriverAction

    def prepare_protocol_iteration(self, ctx: DriverContext) -> Sequence[DriverAction]:
        return (self.move,)

    def handle_llm_success(
        self, ctx: DriverContext, waiting: WaitingLlmView, response: LlmResponse, text_streamed: bool
    ) -> Sequence[DriverAction]:
        return (self.move,)

    def handle_tool_results(
        self, ctx: DriverContext, completed: tuple[CompletedToolCall, ...]
    ) -> Sequence[DriverAction]:
        return (self.move,)

    def handle_exec_result(
        self, ctx: DriverContext, waiting: WaitingExecView, result: ExecResponse | str
    ) -> Sequence[DriverAction]:
        return (self.move,)


def _checkpoint(state: MachineState, *, grace: bool = False) -> TurnCheckpoint:
    return TurnCheckpoint(
        state=state,
        next_effect_id=_ID + 1,
        messages=AppendOnly(),
        events=AppendOnly(),
        turn_causes=AppendOnly(),
        cumulative_usage=TokenUsage(),
        termination=TurnTerminationPolicyState(turn_limit_final_scheduled=grace),
    )


def _machine(state: MachineState, move: DriverAction, *, sync: bool = False, grace: bool = False) -> TurnMachine:
    config: TurnMachineConfig[None, None, Any] = TurnMachineConfig(
        driver=_OneMove(move), projector=ChatProjector(), model="", sync_execution_environment=sync
    )
    return TurnMachine.restore(config, _checkpoint(state, grace=grace))


def _answer(reason: LlmTerminalReason) -> LlmComplete:
    return LlmComplete(id=_ID, result=LlmResponse(full_text="", terminal_reason=reason), text_streamed=True)


def _answers() -> Iterator[tuple[MachineState, str, Response, bool]]:
    """(state, trigger, response, whether the driver decides what follows)."""
    syncing = WaitingExecutionEnvironment(effect_id=_ID, update_machine_config=False)
    yield syncing, "ExecutionEnvironmentSynced Ok", ExecutionEnvironmentSynced(id=_ID, result=None), False
    yield syncing, "ExecutionEnvironmentSynced Err", ExecutionEnvironmentSynced(id=_ID, result=""), False
    calling = WaitingLlm(effect_id=_ID, request=_REQUEST)
    for reason in LlmTerminalReason:
        decides = reason in (LlmTerminalReason.STOP, LlmTerminalReason.TOOL_USE, LlmTerminalReason.UNKNOWN)
        yield calling, "LlmComplete" if decides else f"LlmComplete {reason.value}", _answer(reason), decides
    error = LlmCallError(message="", retryable=False, terminal_reason=LlmTerminalReason.PROVIDER_ERROR)
    yield calling, "LlmComplete Err", LlmComplete(id=_ID, result=error, text_streamed=False), False
    yield WaitingTools(effect_id=_ID, calls=()), "ToolResults", ToolResults(id=_ID, results=()), True
    running = WaitingExec(effect_id=_ID, language="python", code="", driver_state=None)
    yield running, "ExecResult", ExecResult(id=_ID, result=ExecResponse()), True
    empty = CheckpointResponse(id=_ID, delivery=CheckpointDelivery())
    for kind in CheckpointKind:
        for on_empty in (ResumeAction.PREPARE_ITERATION, FinishWith(outcome=_OUTCOME)):
            pausing = WaitingCheckpoint(effect_id=_ID, checkpoint=kind, on_empty=on_empty)
            yield pausing, "Checkpoint, nothing delivered", empty, False


def _found() -> Iterator[Transition]:
    preparing: tuple[MachineState, ...] = (PreparingProtocol(), PrepareIteration())
    for state in preparing:
        for move in _MOVES:
            machine = _machine(state, move)
            machine.poll_effect()
            yield _arrow(state, f"poll, {type(move).__name__}", machine)
        machine = _machine(state, _MOVES[0], sync=True)
        machine.poll_effect()
        yield _arrow(state, "poll, environment to be synced", machine)
    for state, trigger, response, driver_decides in _answers():
        for move in _MOVES if driver_decides else _MOVES[:1]:
            machine = _machine(state, move)
            machine.handle_response(response)
            yield _arrow(state, f"{trigger}, {type(move).__name__}" if driver_decides else trigger, machine)
    message = Message(id="m", role=MessageRole.USER, parts=())
    delivery = CheckpointResponse(id=_ID, delivery=CheckpointDelivery(committed_user_messages=(message,)))
    for kind in CheckpointKind:
        pausing = WaitingCheckpoint(effect_id=_ID, checkpoint=kind, on_empty=ResumeAction.PREPARE_ITERATION)
        for grace in (False, True):
            machine = _machine(pausing, _MOVES[0], grace=grace)
            machine.handle_response(delivery)
            last = grace and kind is CheckpointKind.BEFORE_COMPLETION
            yield _arrow(pausing, f"Checkpoint, messages delivered{' after the last call' if last else ''}", machine)
    for state in (*preparing, *{type(s): s for s, *_ in _answers()}.values()):
        machine = _machine(state, _MOVES[0])
        machine.finish_with_outcome(Stopped(stop=TurnStopReason.RUNTIME_ERROR))
        yield _arrow(state, "fail_turn", machine)


def _arrow(source: MachineState, trigger: str, machine: TurnMachine) -> Transition:
    return Transition(source=type(source).__name__, trigger=trigger, target=type(machine.state).__name__)


def transitions() -> tuple[Transition, ...]:
    """Every arrow once, in the order in which they were found."""
    return tuple(dict.fromkeys(_found()))


def state_diagram() -> str:
    """The machine as Mermaid text (`stateDiagram-v2`), one arrow for each pair of states."""
    labels: dict[tuple[str, str], list[str]] = {}
    for arrow in transitions():
        if arrow.trigger != "fail_turn":  # leads from everywhere to Finished: said once, below
            labels.setdefault((arrow.source, arrow.target), []).append(arrow.trigger)
    lines = ["stateDiagram-v2", f"    [*] --> {PreparingProtocol.__name__}"]
    for (source, target), triggers in labels.items():
        lines.append(f"    {source} --> {target}: {_label(triggers)}")
    lines += [
        f"    {Finished.__name__} --> [*]",
        f"    note right of {Finished.__name__}: fail_turn leads here from every state",
    ]
    return "\n".join(lines) + "\n"


def _label(triggers: Sequence[str]) -> str:
    """Triggers that differ only in what follows their first word are put together."""
    together: dict[str, list[str]] = {}
    for trigger in triggers:
        first, _, rest = trigger.partition(" ")
        together.setdefault(first, []).append(rest)
    return " or ".join(f"{first} {' / '.join(filter(None, rests))}".strip() for first, rests in together.items())


if __name__ == "__main__":
    print(state_diagram(), end="")
