"""The hazards of the reference (reference/turn-machine.md 1.14): what the machine itself does, as documented there.

Who keeps them out of reach is tested where that is done: `CheckedDriver` here below, the host in tests of the host.
"""

from __future__ import annotations

import pytest

from lash_nb.errors import DriverContractError, ProtocolViolation
from lash_nb.machine.checkpoints import CheckpointKind, ResumeAction
from lash_nb.machine.driver import (
    AdvanceProtocolIteration,
    AppendEvents,
    CheckedDriver,
    DriverAction,
    Emit,
    Finish,
    ScheduleTurnLimitFinal,
    StartCheckpoint,
    StartExec,
    StartLlm,
    StartTools,
)
from lash_nb.machine.effects import (
    EffectId,
    ExecResult,
    ExecutionEnvironmentSync,
    ExecutionEnvironmentSynced,
    LlmCall,
    Progress,
    Response,
    ToolResults,
)
from lash_nb.machine.events import Conversation, ErrorEvent, ProtocolRecord, TextDelta
from lash_nb.machine.execution import ExecResponse
from lash_nb.machine.messages import AppendOnly, MessageRole, PluginMessage, PluginOrigin, TurnCause
from lash_nb.machine.state import Finished, MachineState, WaitingExec, WaitingLlm, WaitingTools
from lash_nb.machine.turn import TurnMachine

from .worlds import (
    OUTCOME,
    REQUEST,
    Told,
    answered,
    at,
    config,
    delivered,
    drain,
    message,
    names,
    pausing,
    through_json,
)

CALL = StartLlm(request=REQUEST)
PAUSE = StartCheckpoint(checkpoint=CheckpointKind.AFTER_WORK, on_empty=ResumeAction.PREPARE_ITERATION)
CALLING = WaitingLlm(effect_id=EffectId(7), request=REQUEST)


def test_q1_any_response_ends_a_redelivery() -> None:
    machine = TurnMachine.restore(config(Told()), at(CALLING))
    machine.handle_response(answered(3))
    assert drain(machine) == []
    assert machine.outstanding_effect_id == 7


def test_q1_a_redelivered_effect_comes_once() -> None:
    machine = TurnMachine.restore(config(Told()), at(CALLING))
    assert names(drain(machine)) == ["LlmCall 7"]
    assert drain(machine) == []
    assert names(drain(TurnMachine.restore(machine.config, machine.checkpoint()))) == ["LlmCall 7"]


def test_q1_a_queued_effect_with_the_outstanding_id_is_not_redelivered() -> None:
    checkpoint = at(CALLING, pending_effects=(LlmCall(id=EffectId(7), request=REQUEST),))
    machine = TurnMachine.restore(config(Told()), through_json(checkpoint))
    assert names(drain(machine)) == ["LlmCall 7"]


def test_q2_a_driver_that_does_not_move_on_leaves_a_machine_that_is_done_without_done() -> None:
    machine = TurnMachine(config(Told([CALL])))
    drain(machine)
    machine.handle_response(answered(1))
    assert names(drain(machine)) == ["Emit TokenUsageEvent"]
    assert machine.is_done()
    assert drain(machine) == []


def test_q3_a_second_finish_emits_a_second_done_without_messages() -> None:
    machine = TurnMachine(config(Told()), [message("m0")])
    machine.finish_with_outcome(OUTCOME)
    machine.finish_with_outcome(OUTCOME)
    effects = drain(machine)
    assert names(effects) == ["Emit TurnOutcomeEvent", "Emit DoneEvent", "Done"] * 2
    assert [len(effect.messages) for effect in effects if hasattr(effect, "messages")] == [1, 0]


def test_q3_two_starts_in_one_list_leave_an_orphan_that_a_checkpoint_keeps() -> None:
    machine = TurnMachine(config(Told([CALL, StartTools(calls=())])))
    machine.poll_effect()
    assert machine.outstanding_effect_id == 2
    again = TurnMachine.restore(machine.config, through_json(machine.checkpoint()))
    assert names(drain(machine)) == ["LlmCall 1", "ToolCalls 2"]
    assert names(drain(again)) == ["LlmCall 1", "ToolCalls 2"]


def test_q4_a_delivery_that_is_dropped_counts_all_the_same() -> None:
    checkpoint = at(pausing(CheckpointKind.BEFORE_COMPLETION, ResumeAction.PREPARE_ITERATION))
    machine = TurnMachine.restore(config(Told(), max_turns=1), checkpoint)
    machine.handle_response(delivered(7, messages=(PluginMessage(role=MessageRole.EVENT, content="x"),)))
    after = machine.checkpoint()
    assert after.protocol_iteration == 1
    assert after.termination.turn_limit_final_scheduled


def test_q5_what_is_delivered_is_in_messages_and_not_in_events() -> None:
    machine = TurnMachine.restore(config(Told()), at(pausing(CheckpointKind.AFTER_WORK, PAUSE.on_empty)))
    machine.handle_response(delivered(7, committed_user_messages=(message("u"),)))
    assert [entry.id for entry in machine.messages] == ["m0", "u"]
    assert len(machine.events) == 0


def test_q7_a_terminal_finish_of_null_reads_as_none() -> None:
    """Ours is an object, `{"value": …}`, so that `finish(None)` can be told from no finish."""
    from lash_nb.machine.execution import EXEC_RESPONSE

    encoded = EXEC_RESPONSE.encode(ExecResponse(terminal_finish={"value": None}))
    assert EXEC_RESPONSE.decode(encoded).terminal_finish == {"value": None}
    assert EXEC_RESPONSE.decode(encoded | {"terminal_finish": None}).terminal_finish is None


def test_q8_a_checkpoint_has_no_version() -> None:
    assert len(TurnMachine(config(Told())).checkpoint().to_json()) == 13


def test_q9_progress_shares_the_messages_and_does_not_see_later_ones() -> None:
    records = (Conversation(message=message("a")),)
    lists: list[list[DriverAction]] = [[AppendEvents(records=records), CALL], [AppendEvents(records=records), PAUSE]]
    machine = TurnMachine(config(Told(*lists)))
    first = [effect for effect in drain(machine) if isinstance(effect, Progress)]
    machine.handle_response(answered(1))
    drain(machine)
    assert [len(effect.messages) for effect in first] == [1]
    assert len(machine.messages) == 2


def test_q10_a_restore_forgets_what_a_sync_brought() -> None:
    machine = TurnMachine(config(Told(), sync_execution_environment=True, system_prompt="old"))
    given = machine.config
    drain(machine)
    update = ExecutionEnvironmentSync(system_prompt="new", tool_specs=())
    machine.handle_response(ExecutionEnvironmentSynced(id=EffectId(1), result=update))
    assert machine.config.system_prompt == "new"
    assert TurnMachine.restore(given, machine.checkpoint()).config.system_prompt == "old"
    assert given.system_prompt == "old"


def test_an_empty_event_list_is_no_progress_and_a_limit_that_is_not_due_neither() -> None:
    quiet: list[DriverAction] = [AppendEvents(records=()), ScheduleTurnLimitFinal(message=message("l")), CALL]
    machine = TurnMachine(config(Told(quiet), max_turns=5))
    assert names(drain(machine)) == ["Emit LlmRequestEvent", "LlmCall 1"]
    assert len(machine.messages) == 0


def test_a_limit_that_is_due_is_scheduled_once() -> None:
    twice: list[DriverAction] = [
        ScheduleTurnLimitFinal(message=message("l")),
        ScheduleTurnLimitFinal(message=message("l")),
        CALL,
    ]
    machine = TurnMachine(config(Told(twice), max_turns=0))
    assert names(drain(machine)) == ["Emit LlmRequestEvent", "LlmCall 1", "Progress"]
    assert [entry.id for entry in machine.messages] == ["l"]


def test_progress_and_done_tell_each_event_once() -> None:
    records = [ProtocolRecord(event=n) for n in range(4)]
    lists: list[list[DriverAction]] = [
        [AppendEvents(records=(records[1],)), CALL],
        [AppendEvents(records=(records[2],)), PAUSE],
        [AppendEvents(records=(records[3],)), Finish(outcome=OUTCOME)],
    ]
    machine = TurnMachine(config(Told(*lists)), events=[records[0]])
    effects = drain(machine)
    machine.handle_response(answered(1))
    effects += drain(machine)
    machine.handle_response(delivered(2))
    effects += drain(machine)
    deltas = [
        [r.event for r in e.event_delta if isinstance(r, ProtocolRecord)] for e in effects if hasattr(e, "event_delta")
    ]
    assert deltas == [[1], [2], [3], []]


def test_an_advance_forgets_the_sync() -> None:
    machine = TurnMachine(config(Told([AdvanceProtocolIteration(), CALL]), sync_execution_environment=True))
    drain(machine)
    machine.handle_response(ExecutionEnvironmentSynced(id=EffectId(1), result=None))
    assert machine.checkpoint().synced_protocol_iteration == 0
    drain(machine)
    assert machine.checkpoint().synced_protocol_iteration is None


def test_a_known_cause_is_not_told_again() -> None:
    causes = [TurnCause(id=name, event_type="e", origin=PluginOrigin(plugin_id="p"), text="t") for name in "aba"]
    pause = pausing(CheckpointKind.AFTER_WORK, ResumeAction.PREPARE_ITERATION)
    machine = TurnMachine.restore(config(Told()), at(pause, turn_causes=AppendOnly(causes[1:2])))
    machine.handle_response(delivered(7, turn_causes=tuple(causes)))
    assert [cause.id for cause in machine.turn_causes] == ["b", "a"]
    assert [entry.id for entry in machine.messages] == ["m0", "a"]


# -- CheckedDriver -----------------------------------------------------------------------------------------------------

ENTRIES: dict[str, tuple[MachineState, Response]] = {
    "handle_llm_success": (CALLING, answered(7)),
    "handle_tool_results": (WaitingTools(effect_id=EffectId(7), calls=()), ToolResults(id=EffectId(7), results=())),
    "handle_exec_result": (
        WaitingExec(effect_id=EffectId(7), language="python", code="", driver_state=None),
        ExecResult(id=EffectId(7), result=ExecResponse()),
    ),
}
BROKEN: dict[str, list[DriverAction]] = {
    "nothing": [],
    "told, not moved": [Emit(event=TextDelta(content="x")), AdvanceProtocolIteration()],
    "two moves": [CALL, StartExec(language="python", code="")],
    "the same move twice": [CALL, CALL],
    "a move and the end": [CALL, Finish(outcome=OUTCOME)],
    "after the end": [Finish(outcome=OUTCOME), Emit(event=TextDelta(content="x"))],
}


@pytest.mark.parametrize("callback", ENTRIES)
@pytest.mark.parametrize("problem", BROKEN)
def test_a_broken_contract_names_driver_and_callback(callback: str, problem: str) -> None:
    state, response = ENTRIES[callback]
    machine = TurnMachine.restore(config(CheckedDriver(Told(BROKEN[problem]))), at(state))
    drain(machine)
    with pytest.raises(DriverContractError) as caught:
        machine.handle_response(response)
    assert isinstance(caught.value, ProtocolViolation)
    assert f"Told.{callback}" in str(caught.value)
    # The host can end the turn.
    assert machine.state == Finished()
    machine.fail_turn(ErrorEvent(message="x"))
    assert names(drain(machine))[-4:] == ["Emit ErrorEvent", "Emit TurnOutcomeEvent", "Emit DoneEvent", "Done"]


@pytest.mark.parametrize("problem", ["two moves", "a move and the end", "after the end"])
def test_a_broken_contract_at_the_beginning_leaves_the_state(problem: str) -> None:
    machine = TurnMachine(config(CheckedDriver(Told(BROKEN[problem]))))
    before = machine.checkpoint()
    with pytest.raises(DriverContractError, match=r"Told\.prepare_protocol_iteration"):
        machine.poll_effect()
    assert machine.checkpoint() == before


@pytest.mark.parametrize("problem", ["nothing", "told, not moved"])
def test_a_beginning_without_a_move_is_allowed(problem: str) -> None:
    machine = TurnMachine(config(CheckedDriver(Told(BROKEN[problem]))))
    drain(machine)
    assert not machine.is_done()


@pytest.mark.parametrize("callback", ENTRIES)
@pytest.mark.parametrize(
    "move", [CALL, StartTools(calls=()), StartExec(language="", code=""), PAUSE, Finish(outcome=OUTCOME)]
)
def test_one_move_is_what_the_contract_asks(callback: str, move: DriverAction) -> None:
    state, response = ENTRIES[callback]
    actions: list[DriverAction] = [Emit(event=TextDelta(content="x")), AdvanceProtocolIteration(), move]
    machines = [
        TurnMachine.restore(config(driver), at(state)) for driver in (Told(actions), CheckedDriver(Told(actions)))
    ]
    for machine in machines:
        drain(machine)
        machine.handle_response(response)
    assert machines[0].checkpoint() == machines[1].checkpoint()
