"""What the reference was seen to do (reference/turn-machine.md 1.16), step by step."""

from __future__ import annotations

import json
from collections.abc import Sequence

from lash_nb.machine.checkpoints import CheckpointKind, FinishWith
from lash_nb.machine.driver import (
    AdvanceProtocolIteration,
    AppendEvents,
    DriverAction,
    DriverContext,
    Finish,
    StartCheckpoint,
    StartLlm,
    WaitingLlmView,
)
from lash_nb.machine.effects import (
    Done,
    Effect,
    EffectId,
    Emit,
    ExecutionEnvironmentSync,
    ExecutionEnvironmentSynced,
    LlmCall,
    LlmComplete,
)
from lash_nb.machine.events import Conversation, ErrorEvent, TurnOutcomeEvent
from lash_nb.machine.llm import LlmCallError, LlmResponse, LlmTerminalReason, TextBlock
from lash_nb.machine.messages import MessageRole, PluginMessage, PluginOrigin, ProcessOrigin, TurnCause
from lash_nb.machine.outcomes import Stopped, TurnStopReason
from lash_nb.machine.state import PrepareIteration, WaitingCheckpoint
from lash_nb.machine.turn import TurnMachine

from .worlds import OUTCOME, READ, REQUEST, Told, answered, config, delivered, drain, message, names, through_json


class Setups(Told):
    """The driver of setups A and B: call, append the answer, pause before completion."""

    def prepare_protocol_iteration(self, ctx: DriverContext) -> Sequence[DriverAction]:
        return [StartLlm(request=ctx.project_llm_request(use_tools=True))]

    def handle_llm_success(
        self, ctx: DriverContext, waiting: WaitingLlmView, response: LlmResponse, text_streamed: bool
    ) -> Sequence[DriverAction]:
        answer = message("a1", response.full_text, MessageRole.ASSISTANT)
        return [
            AppendEvents(records=(Conversation(message=answer),)),
            StartCheckpoint(checkpoint=CheckpointKind.BEFORE_COMPLETION, on_empty=FinishWith(outcome=OUTCOME)),
        ]


def setup(*, sync: bool = False) -> TurnMachine:
    settings = config(Setups(), system_prompt="sys", tool_specs=(READ,), max_turns=1, sync_execution_environment=sync)
    return TurnMachine(settings, [message("m0")])


def restored(machine: TurnMachine) -> TurnMachine:
    return TurnMachine.restore(machine.config, through_json(machine.checkpoint()))


def stops(effects: list[Effect]) -> list[object]:
    events = [effect.event for effect in effects if isinstance(effect, Emit)]
    return [event.outcome for event in events if isinstance(event, TurnOutcomeEvent)]


FRESH = {
    "state": "PreparingProtocol",
    "pending_effects": [],
    "next_effect_id": 1,
    "next_synthetic_message_id": 1,
    "messages": [
        {
            "id": "m0",
            "role": "User",
            "parts": [{"id": "m0.p0", "kind": "Text", "content": "hi", "prune_state": "Intact"}],
        }
    ],
    "events": [],
    "turn_causes": [],
    "progress_event_cursor": 0,
    "protocol_iteration": 0,
    "protocol_run_offset": 0,
    "cumulative_usage": {
        "input_tokens": 0,
        "output_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_write_input_tokens": 0,
        "reasoning_output_tokens": 0,
    },
    "termination": {"turn_limit_final_scheduled": False},
    "synced_protocol_iteration": None,
}


def test_a_fresh_checkpoint() -> None:
    assert setup().checkpoint().to_text() == json.dumps(FRESH, separators=(",", ":"))


def paused() -> TurnMachine:
    machine = setup()
    assert names(drain(machine)) == ["Emit LlmRequestEvent", "LlmCall 1"]
    machine.handle_response(answered(1))
    return machine


def test_a_the_pause_comes_before_progress_and_after_it_when_restored() -> None:
    machine = paused()
    checkpoint = machine.checkpoint()
    assert isinstance(checkpoint.state, WaitingCheckpoint)
    assert checkpoint.outstanding_effect_id == 2
    assert names(checkpoint.pending_effects) == ["Emit TokenUsageEvent", "Progress"]
    assert checkpoint.progress_event_cursor == 1
    again = restored(machine)
    assert names(drain(machine)) == ["Emit TokenUsageEvent", "Checkpoint 2", "Progress"]
    assert names(drain(again)) == ["Emit TokenUsageEvent", "Progress", "Checkpoint 2"]
    assert drain(again) == []


def test_a_an_empty_delivery_finishes() -> None:
    machine = paused()
    drain(machine)
    machine.handle_response(delivered(2))
    effects = drain(machine)
    assert names(effects) == ["Emit TurnOutcomeEvent", "Emit DoneEvent", "Done"]
    done = effects[-1]
    assert isinstance(done, Done)
    assert [entry.id for entry in done.messages] == ["m0", "a1"]
    assert machine.is_done()
    assert len(machine.messages) == 0


def woken() -> tuple[TurnMachine, list[Effect]]:
    machine = paused()
    drain(machine)
    cause = TurnCause(
        id="w1", event_type="wake", origin=ProcessOrigin(process_id="p", event_type="e", sequence=3), text=" go \n"
    )
    machine.handle_response(
        delivered(
            2,
            messages=(
                PluginMessage(id="mine", role=MessageRole.USER, content="more"),
                PluginMessage(role=MessageRole.ASSISTANT, content="dropped"),
            ),
            turn_causes=(cause,),
        )
    )
    return machine, drain(machine)


def test_a_a_delivery_grants_one_last_call() -> None:
    machine, effects = woken()
    assert names(effects) == ["Progress", "Emit LlmRequestEvent", "LlmCall 3"]
    ids = [entry.id for entry in machine.messages]
    assert ids == ["m0", "a1", "m_sansio_0_checkpoint_1", "w1", "m_sansio_0_turn_limit_2"]
    assert machine.messages[2].origin == PluginOrigin(plugin_id="plugin")
    assert machine.messages[3].role is MessageRole.EVENT
    checkpoint = machine.checkpoint()
    assert checkpoint.next_synthetic_message_id == 3
    assert checkpoint.protocol_iteration == 1
    assert checkpoint.termination.turn_limit_final_scheduled
    assert len(checkpoint.events) == 1  # Q5: what is injected is not history
    call = effects[-1]
    assert isinstance(call, LlmCall)
    note, told = call.request.messages[-2:]
    assert isinstance(note.blocks[0], TextBlock)
    assert note.blocks[0].text.startswith("Runtime note:\n<error>\nTurn limit reached (1).")
    assert told.blocks == (
        TextBlock(text="=== TURN EVENTS ===\n\n--- event[0] · wake · w1 ---\nOrigin: process p e #3\n\ngo"),
    )
    assert call.request.scope.request_id == ":sansio:llm:1"


def test_a_another_delivery_after_the_last_call_ends_the_turn() -> None:
    machine, _ = woken()
    machine.handle_response(answered(3))
    drain(machine)
    machine.handle_response(delivered(4, committed_user_messages=(message("u"),)))
    effects = drain(machine)
    assert names(effects) == ["Progress", "Emit TurnOutcomeEvent", "Emit DoneEvent", "Done"]
    assert stops(effects) == [Stopped(stop=TurnStopReason.MAX_TURNS)]
    assert machine.protocol_iteration == 2


def test_a_a_failed_call_ends_the_turn() -> None:
    machine = setup()
    drain(machine)
    error = LlmCallError(message="no", retryable=True, terminal_reason=LlmTerminalReason.CANCELLED)
    machine.handle_response(LlmComplete(id=EffectId(1), result=error, text_streamed=False))
    effects = drain(machine)
    assert names(effects) == ["Emit ErrorEvent", "Emit TurnOutcomeEvent", "Emit DoneEvent", "Done"]
    assert stops(effects) == [Stopped(stop=TurnStopReason.PROVIDER_ERROR)]


def test_b_a_sync_comes_first_and_not_again_after_a_restore() -> None:
    machine = setup(sync=True)
    assert names(drain(machine)) == ["SyncExecutionEnvironment 1"]
    machine.handle_response(ExecutionEnvironmentSynced(id=EffectId(1), result=None))
    assert machine.state == PrepareIteration()
    assert machine.checkpoint().synced_protocol_iteration == 0
    again = restored(machine)
    for one in (machine, again):
        assert names(drain(one)) == ["Emit LlmRequestEvent", "LlmCall 2"]


def test_b_the_first_sync_may_bring_an_update_too() -> None:
    machine = setup(sync=True)
    drain(machine)
    update = ExecutionEnvironmentSync(system_prompt="other", tool_specs=())
    machine.handle_response(ExecutionEnvironmentSynced(id=EffectId(1), result=update))
    call = drain(machine)[-1]
    assert isinstance(call, LlmCall)
    assert call.request.messages[0].blocks == (TextBlock(text="other"),)
    assert call.request.tools == ()


def test_b_a_delivery_before_completion_leads_to_another_sync() -> None:
    machine = setup(sync=True)
    drain(machine)
    machine.handle_response(ExecutionEnvironmentSynced(id=EffectId(1), result=None))
    drain(machine)
    machine.handle_response(answered(2))
    drain(machine)
    machine.handle_response(delivered(3, committed_user_messages=(message("u"),)))
    assert names(drain(machine)) == ["Progress", "SyncExecutionEnvironment 4"]
    assert machine.checkpoint().synced_protocol_iteration == 0


def test_c_what_follows_finish_is_dropped() -> None:
    machine = TurnMachine(
        config(Told([StartLlm(request=REQUEST)], [Finish(outcome=OUTCOME), AdvanceProtocolIteration()]))
    )
    drain(machine)
    machine.handle_response(answered(1))
    assert names(drain(machine)) == ["Emit TokenUsageEvent", "Emit TurnOutcomeEvent", "Emit DoneEvent", "Done"]
    assert machine.protocol_iteration == 0


def test_c_a_call_before_finish_becomes_an_orphan() -> None:
    machine = TurnMachine(config(Told([StartLlm(request=REQUEST), Finish(outcome=OUTCOME)])))
    assert names(drain(machine)) == [
        "Emit LlmRequestEvent",
        "LlmCall 1",
        "Emit TurnOutcomeEvent",
        "Emit DoneEvent",
        "Done",
    ]


def test_c_fail_turn_leaves_what_is_queued() -> None:
    machine = TurnMachine(config(Told([StartLlm(request=REQUEST)])))
    assert isinstance(machine.poll_effect(), Emit)
    machine.fail_turn(ErrorEvent(message="x"))
    assert names(drain(machine)) == ["LlmCall 1", "Emit ErrorEvent", "Emit TurnOutcomeEvent", "Emit DoneEvent", "Done"]
