"""A turn may be written to JSON and restored at any point: what comes out is the same (reference 1.12).

The one difference that the reference documents: queued effects come out first, the redelivered one last.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lash_nb.machine.checkpoints import CheckpointKind, FinishWith, ResumeAction
from lash_nb.machine.config import JsonTurnProtocol
from lash_nb.machine.driver import (
    AdvanceProtocolIteration,
    AppendEvents,
    DriverAction,
    DriverContext,
    Emit,
    Finish,
    ScheduleTurnLimitFinal,
    StartCheckpoint,
    StartExec,
    StartLlm,
    StartTools,
    WaitingExecView,
    WaitingLlmView,
)
from lash_nb.machine.effects import (
    Done,
    Effect,
    EffectId,
    ExecResult,
    ExecutionEnvironmentSync,
    ExecutionEnvironmentSynced,
    LlmComplete,
    Progress,
    Response,
    ToolResults,
    effect_codec,
    effect_id_of,
)
from lash_nb.machine.events import Conversation, ProtocolRecord, SessionEventRecord, TextDelta, event_record_codec
from lash_nb.machine.execution import ExecResponse
from lash_nb.machine.llm import LlmCallError, LlmResponse, LlmTerminalReason, LlmUsage
from lash_nb.machine.messages import MessageRole, PluginMessage, PluginOrigin, TurnCause
from lash_nb.machine.state import (
    WaitingCheckpoint,
    WaitingExec,
    WaitingExecutionEnvironment,
    WaitingLlm,
    WaitingTools,
)
from lash_nb.machine.tool_calls import CompletedToolCall
from lash_nb.machine.turn import TurnMachine

from .worlds import OUTCOME, READ, config, delivered, message, through_json

EFFECT = effect_codec(event_record_codec(JsonTurnProtocol.event))
STEPS = 30
"""After so many responses a run is broken off, done or not."""


@dataclass(frozen=True)
class Scripted:
    """A driver without memory: what it does follows from its script and from how much history there is."""

    script: tuple[int, ...]

    def actions(self, ctx: DriverContext) -> list[DriverAction]:
        position = len(ctx.events)
        number = self.script[position] if position < len(self.script) else 4
        if ctx.should_force_exit_after_grace_turn() and number % 2:
            number = 4
        records: tuple[SessionEventRecord, ...] = (ProtocolRecord(event={"n": position}),)
        if number & 8:
            answer = message(f"a{position}", f"answer {position}", MessageRole.ASSISTANT)
            records = (*records, Conversation(message=answer))
        actions: list[DriverAction] = [AppendEvents(records=records)]
        if number & 16:
            actions += [Emit(event=TextDelta(content=str(position))), AdvanceProtocolIteration()]
        if number & 32:
            actions.append(ScheduleTurnLimitFinal(message=message(f"l{position}", "limit", MessageRole.SYSTEM)))
        kind = CheckpointKind.BEFORE_COMPLETION if number & 64 else CheckpointKind.AFTER_WORK
        on_empty = FinishWith(outcome=OUTCOME) if number & 64 else ResumeAction.PREPARE_ITERATION
        moves: tuple[DriverAction, ...] = (
            StartLlm(request=ctx.project_llm_request(use_tools=bool(number & 8)), driver_state={"position": position}),
            StartTools(calls=()),
            StartExec(language="python", code=str(position), driver_state=position),
            StartCheckpoint(checkpoint=kind, on_empty=on_empty),
            Finish(outcome=OUTCOME),
        )
        actions.append(moves[number % 8 % 5])
        return actions

    def prepare_protocol_iteration(self, ctx: DriverContext) -> Sequence[DriverAction]:
        return self.actions(ctx)

    def handle_llm_success(
        self, ctx: DriverContext, waiting: WaitingLlmView, response: LlmResponse, text_streamed: bool
    ) -> Sequence[DriverAction]:
        state = waiting.take_driver_state()
        return [Emit(event=TextDelta(content=f"state {state['position']}")), *self.actions(ctx)]

    def handle_tool_results(
        self, ctx: DriverContext, completed: tuple[CompletedToolCall, ...]
    ) -> Sequence[DriverAction]:
        return self.actions(ctx)

    def handle_exec_result(
        self, ctx: DriverContext, waiting: WaitingExecView, result: ExecResponse | str
    ) -> Sequence[DriverAction]:
        return [Emit(event=TextDelta(content=f"state {waiting.driver_state} {waiting.code}")), *self.actions(ctx)]


def answer(machine: TurnMachine, choice: int) -> Response:
    """What the host answers: decided by the choice alone."""
    state = machine.state
    match state:
        case WaitingExecutionEnvironment():
            update = ExecutionEnvironmentSync(system_prompt=f"prompt {choice}", tool_specs=(READ,))
            return ExecutionEnvironmentSynced(id=state.effect_id, result=update if choice % 2 else None)
        case WaitingLlm():
            return llm_answer(state.effect_id, choice)
        case WaitingTools():
            return ToolResults(id=state.effect_id, results=())
        case WaitingExec():
            return ExecResult(id=state.effect_id, result=ExecResponse() if choice % 4 else "no kernel")
        case WaitingCheckpoint():
            return delivery(state.effect_id, choice)
    raise AssertionError(state)


def llm_answer(effect_id: EffectId, choice: int) -> LlmComplete:
    result: LlmResponse | LlmCallError
    if choice == 15:
        result = LlmCallError(message="x", retryable=True, terminal_reason=LlmTerminalReason.PROVIDER_ERROR)
    else:
        reason = LlmTerminalReason.OUTPUT_LIMIT if choice == 14 else LlmTerminalReason.STOP
        usage = LlmUsage(input_tokens=choice, output_tokens=1)
        result = LlmResponse(full_text=f"text {choice}", usage=usage, terminal_reason=reason)
    return LlmComplete(id=effect_id, result=result, text_streamed=bool(choice % 2))


def delivery(effect_id: EffectId, choice: int) -> Response:
    origin = PluginOrigin(plugin_id="p")
    return delivered(
        effect_id,
        committed_user_messages=(message(f"u{choice}"),) if choice & 1 else (),
        messages=(PluginMessage(role=MessageRole.USER, content="more"),) if choice & 2 else (),
        turn_causes=(TurnCause(id=f"c{choice % 3}", event_type="e", origin=origin, text="t"),) if choice & 4 else (),
    )


@dataclass
class Run:
    """What came out of a turn."""

    effects: list[Effect] = field(default_factory=list)
    machine: Any = None

    def asked(self) -> list[Any]:
        """Effects with an id; one that was delivered again after a restore counts once."""
        found = {effect_id_of(e): EFFECT.encode(e) for e in self.effects if effect_id_of(e) is not None}
        return list(found.values())

    def told(self) -> list[Any]:
        return [EFFECT.encode(effect) for effect in self.effects if effect_id_of(effect) is None]


def play(machine: TurnMachine, choices: Sequence[int], cuts: Sequence[bool]) -> Run:
    """Play a turn to its end, cutting it (checkpoint, JSON text, restore) before those polls and responses."""
    run, moments = Run(), iter(cuts)

    def cut(machine: TurnMachine) -> TurnMachine:
        if not next(moments, False):
            return machine
        return TurnMachine.restore(machine.config, through_json(machine.checkpoint()))

    for count in range(STEPS):
        machine = cut(machine)
        while (effect := machine.poll_effect()) is not None:
            run.effects.append(effect)
            assert len(run.effects) < 2000, "this never ends"
            machine = cut(machine)
        if machine.is_done():
            break
        machine.handle_response(answer(machine, choices[count % len(choices)]))
    run.machine = machine
    return run


@given(
    script=st.lists(st.integers(0, 127), min_size=1, max_size=12).map(tuple),
    choices=st.lists(st.integers(0, 15), min_size=1, max_size=8),
    cuts=st.lists(st.booleans(), max_size=80),
    sync=st.booleans(),
    limit=st.none() | st.integers(0, 3),
    offset=st.integers(0, 2),
)
def test_restored_anywhere_a_turn_is_the_same(
    script: tuple[int, ...], choices: list[int], cuts: list[bool], sync: bool, limit: int | None, offset: int
) -> None:
    def fresh() -> TurnMachine:
        settings = config(Scripted(script), sync_execution_environment=sync, max_turns=limit, emit_llm_trace=True)
        return TurnMachine(settings, [message("m0")], [ProtocolRecord(event=0)], protocol_run_offset=offset)

    whole, cut = play(fresh(), choices, ()), play(fresh(), choices, cuts)
    assert cut.asked() == whole.asked()
    assert cut.told() == whole.told()
    assert cut.machine.checkpoint() == whole.machine.checkpoint()


@given(
    script=st.lists(st.integers(0, 127), min_size=1, max_size=8).map(tuple),
    choices=st.lists(st.integers(0, 15), min_size=1, max_size=8),
)
def test_what_is_told_adds_up(script: tuple[int, ...], choices: list[int]) -> None:
    """Deltas of Progress and Done are the history, each record once; a later Progress holds all earlier messages."""
    run = play(TurnMachine(config(Scripted(script)), [message("m0")]), choices, ())
    snapshots = [effect for effect in run.effects if isinstance(effect, (Progress, Done))]
    assert [record for effect in snapshots for record in effect.event_delta] == list(run.machine.events)
    for earlier, later in pairwise(snapshots):
        assert list(later.messages[: len(earlier.messages)]) == list(earlier.messages)
        assert later.protocol_iteration >= earlier.protocol_iteration


def test_restoring_twice_is_stable() -> None:
    machine = TurnMachine(config(Scripted((2,))), [message("m0")])
    machine.poll_effect()
    once = TurnMachine.restore(machine.config, through_json(machine.checkpoint())).checkpoint()
    twice = TurnMachine.restore(machine.config, through_json(once)).checkpoint()
    assert once == twice == machine.checkpoint()
