"""Every state × every kind of response × right and wrong id × every move of a driver, each step also through JSON.

What is legal, and what follows, is written down here by hand (reference/turn-machine.md 1.2 to 1.10).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import pytest

from lash_nb.machine.checkpoints import CheckpointKind, FinishWith, ResumeAction
from lash_nb.machine.driver import (
    AdvanceProtocolIteration,
    DriverAction,
    Emit,
    Finish,
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
    LlmComplete,
    ToolResults,
)
from lash_nb.machine.events import TextDelta
from lash_nb.machine.execution import ExecResponse
from lash_nb.machine.llm import LlmCallError, LlmTerminalReason
from lash_nb.machine.messages import MessageRole, PluginMessage
from lash_nb.machine.state import (
    Finished,
    MachineState,
    PrepareIteration,
    PreparingProtocol,
    TurnTerminationPolicyState,
    WaitingExec,
    WaitingExecutionEnvironment,
    WaitingLlm,
    WaitingTools,
)
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

RIGHT = 7
AFTER, BEFORE = CheckpointKind.AFTER_WORK, CheckpointKind.BEFORE_COMPLETION
PREPARE, FINISH = ResumeAction.PREPARE_ITERATION, FinishWith(outcome=OUTCOME)

STATES: dict[str, MachineState] = {
    "preparing protocol": PreparingProtocol(),
    "syncing": WaitingExecutionEnvironment(effect_id=EffectId(RIGHT), update_machine_config=False),
    "syncing with update": WaitingExecutionEnvironment(effect_id=EffectId(RIGHT), update_machine_config=True),
    "prepare iteration": PrepareIteration(),
    "llm": WaitingLlm(effect_id=EffectId(RIGHT), request=REQUEST, driver_state={"a": 1}),
    "tools": WaitingTools(effect_id=EffectId(RIGHT), calls=()),
    "exec": WaitingExec(effect_id=EffectId(RIGHT), language="python", code="1", driver_state=None),
    "after work, prepare": pausing(AFTER, PREPARE),
    "after work, finish": pausing(AFTER, FINISH),
    "before completion, prepare": pausing(BEFORE, PREPARE),
    "before completion, finish": pausing(BEFORE, FINISH),
    "finished": Finished(),
}


def responses(effect_id: int) -> dict[str, Any]:
    number = EffectId(effect_id)
    error = LlmCallError(message="x", retryable=False, terminal_reason=LlmTerminalReason.CANCELLED)
    update = ExecutionEnvironmentSync(system_prompt="new", tool_specs=())
    ignored = PluginMessage(role=MessageRole.ASSISTANT, content="x")
    found: dict[str, Any] = {
        "synced": ExecutionEnvironmentSynced(id=number, result=None),
        "synced with update": ExecutionEnvironmentSynced(id=number, result=update),
        "sync failed": ExecutionEnvironmentSynced(id=number, result="x"),
        "llm error": LlmComplete(id=number, result=error, text_streamed=False),
        "tool results": ToolResults(id=number, results=()),
        "exec": ExecResult(id=number, result=ExecResponse()),
        "exec failed": ExecResult(id=number, result="x"),
        "nothing delivered": delivered(effect_id),
        "delivered": delivered(effect_id, committed_user_messages=(message("u"),)),
        "delivered what is dropped": delivered(effect_id, messages=(ignored,)),
    }
    return found | {f"llm {reason.value}": answered(effect_id, reason=reason) for reason in LlmTerminalReason}


MOVES: dict[str, tuple[DriverAction, ...]] = {
    "StartLlm": (StartLlm(request=REQUEST),),
    "StartTools": (StartTools(calls=()),),
    "StartExec": (StartExec(language="python", code="2"),),
    "StartCheckpoint": (StartCheckpoint(checkpoint=AFTER, on_empty=PREPARE),),
    "Finish": (Finish(outcome=OUTCOME), Emit(event=TextDelta(content="dropped"))),
    "nothing": (),
    "Emit": (Emit(event=TextDelta(content="x")),),
    "Advance": (AdvanceProtocolIteration(),),
}
FOLLOWS: dict[str, tuple[str, list[str]]] = {
    "StartLlm": ("WaitingLlm", ["Emit LlmRequestEvent", "LlmCall 8"]),
    "StartTools": ("WaitingTools", ["ToolCalls 8"]),
    "StartExec": ("WaitingExec", ["ExecCode 8"]),
    "StartCheckpoint": ("WaitingCheckpoint", ["Checkpoint 8"]),
    "Finish": ("Finished", ["Emit TurnOutcomeEvent", "Emit DoneEvent", "Done"]),
    # Q2: after a response the machine is in Finished when the driver does not move on.
    "nothing": ("Finished", []),
    "Emit": ("Finished", ["Emit TextDelta"]),
    "Advance": ("Finished", ["Progress"]),
}
"""Move of the driver after a response → the state that follows, and the effects in order."""


@dataclass(frozen=True)
class Follows:
    """What a legal response leads to."""

    state: str | None
    """None: the driver's move decides, through this callback."""
    effects: tuple[str, ...] = ()
    callback: str | None = None


END = ("Emit TurnOutcomeEvent", "Emit DoneEvent", "Done")
SYNC = {
    "synced": Follows("PrepareIteration"),
    "synced with update": Follows("PrepareIteration"),
    "sync failed": Follows("Finished", ("Emit ErrorEvent", *END)),
}
TOLD = ("Emit TokenUsageEvent",)
ENDED = Follows("Finished", (*TOLD, "Emit TextDelta", "Emit LlmResponseEvent", "Emit ErrorEvent", *END))
LLM = {
    "llm stop": Follows(None, TOLD, "llm"),
    "llm tool_use": Follows(None, TOLD, "llm"),
    "llm unknown": Follows(None, TOLD, "llm"),
    "llm output_limit": ENDED,
    "llm context_overflow": ENDED,
    "llm content_filter": ENDED,
    "llm provider_error": ENDED,
    "llm cancelled": ENDED,
    "llm error": Follows("Finished", ("Emit ErrorEvent", *END)),
}
EXEC = {"exec": Follows(None, (), "exec"), "exec failed": Follows(None, (), "exec")}
GOT = {
    "delivered": Follows("PrepareIteration", ("Progress",)),
    "delivered what is dropped": Follows("PrepareIteration", ("Progress",)),
}
LEGAL: dict[str, dict[str, Follows]] = {
    "preparing protocol": {},
    "syncing": SYNC,
    "syncing with update": SYNC,
    "prepare iteration": {},
    "llm": LLM,
    "tools": {"tool results": Follows(None, (), "tools")},
    "exec": EXEC,
    "after work, prepare": GOT | {"nothing delivered": Follows("PrepareIteration")},
    "after work, finish": GOT | {"nothing delivered": Follows("Finished", END)},
    "before completion, prepare": GOT | {"nothing delivered": Follows("PrepareIteration")},
    "before completion, finish": GOT | {"nothing delivered": Follows("Finished", END)},
    "finished": {},
}
"""State → the responses that it takes (with the right id) → what follows. Everything else is ignored."""


def restored(state: str, driver: Told, *, json: bool, **changes: Any) -> TurnMachine:
    checkpoint = at(STATES[state], **changes)
    machine = TurnMachine.restore(config(driver), through_json(checkpoint) if json else checkpoint)
    if machine.outstanding_effect is not None:
        machine.poll_effect()  # the redelivered one
    return machine


CASES = [
    (state, response, move)
    for state, response in itertools.product(STATES, responses(RIGHT))
    for move in (MOVES if LEGAL[state].get(response, Follows("")).state is None else ["StartLlm"])
]


@pytest.mark.parametrize("json", [False, True], ids=["", "json"])
@pytest.mark.parametrize(("state", "response", "move"), CASES)
def test_right_id(state: str, response: str, move: str, json: bool) -> None:
    driver = Told(MOVES[move])
    machine = restored(state, driver, json=json)
    before = machine.checkpoint().to_text()
    machine.handle_response(responses(RIGHT)[response])
    if json:
        machine = TurnMachine.restore(machine.config, through_json(machine.checkpoint()))
    expected = LEGAL[state].get(response)
    if expected is None:
        assert machine.checkpoint().to_text() == before
        assert driver.called == []
        return
    target, effects = (expected.state, []) if expected.state is not None else FOLLOWS[move]
    assert type(machine.state).__name__ == target
    assert driver.called == ([expected.callback] if expected.callback else [])
    if target == "PrepareIteration":
        driver.lists.clear()  # the next poll would call the driver
    assert names(drain(machine)) == [*expected.effects, *effects]


@pytest.mark.parametrize("wrong", [0, RIGHT - 1, RIGHT + 1])
@pytest.mark.parametrize(("state", "response"), list(itertools.product(STATES, responses(RIGHT))))
def test_wrong_id(state: str, response: str, wrong: int) -> None:
    driver = Told(MOVES["Finish"])
    machine = restored(state, driver, json=False)
    before = machine.checkpoint()
    machine.handle_response(responses(wrong)[response])
    assert machine.checkpoint() == before
    assert driver.called == []


PREPARING = {
    "StartLlm": FOLLOWS["StartLlm"],
    "StartTools": FOLLOWS["StartTools"],
    "StartExec": FOLLOWS["StartExec"],
    "StartCheckpoint": FOLLOWS["StartCheckpoint"],
    "Finish": FOLLOWS["Finish"],
    "nothing": (None, []),
    "Emit": (None, ["Emit TextDelta"]),
    "Advance": (None, ["Progress"]),
}
"""Move of the driver at an iteration's beginning → the state that follows (None: it stays), and the effects."""


@pytest.mark.parametrize("json", [False, True], ids=["", "json"])
@pytest.mark.parametrize(("state", "move"), list(itertools.product(["preparing protocol", "prepare iteration"], MOVES)))
def test_poll_begins_an_iteration(state: str, move: str, json: bool) -> None:
    driver = Told(MOVES[move])
    machine = restored(state, driver, json=json)
    effects = drain(machine)
    target, expected = PREPARING[move]
    assert type(machine.state).__name__ == (target or type(STATES[state]).__name__)
    assert names(effects) == expected
    # A driver that does not move on is asked again as soon as the queue is empty.
    polls = {"nothing": 1, "Emit": 2, "Advance": 2}.get(move, 1)
    assert driver.called == ["prepare"] * polls


@pytest.mark.parametrize(
    ("state", "synced", "iteration", "expected"),
    [
        ("preparing protocol", None, 0, ("WaitingExecutionEnvironment", False)),
        ("preparing protocol", 0, 0, ("WaitingExecutionEnvironment", False)),
        ("prepare iteration", None, 0, ("WaitingExecutionEnvironment", True)),
        ("prepare iteration", 0, 1, ("WaitingExecutionEnvironment", True)),
        ("prepare iteration", 1, 1, ("WaitingLlm", None)),
    ],
)
def test_sync(state: str, synced: int | None, iteration: int, expected: tuple[str, bool | None]) -> None:
    checkpoint = at(STATES[state], synced_protocol_iteration=synced, protocol_iteration=iteration)
    settings = config(Told(MOVES["StartLlm"]), sync_execution_environment=True)
    machine = TurnMachine.restore(settings, through_json(checkpoint))
    drain(machine)
    assert (type(machine.state).__name__, getattr(machine.state, "update_machine_config", None)) == expected


@pytest.mark.parametrize("state", [name for name in STATES if "completion" in name or "after work" in name])
@pytest.mark.parametrize("grace", [False, True])
@pytest.mark.parametrize("limit", [None, 1, 2])
def test_delivery_counts_iterations_and_the_turn_limit(state: str, grace: bool, limit: int | None) -> None:
    """Only before completion: one iteration more; then the end if the last call was granted, else the limit if due."""
    checkpoint = at(STATES[state], termination=TurnTerminationPolicyState(turn_limit_final_scheduled=grace))
    machine = TurnMachine.restore(config(Told(), max_turns=limit), checkpoint)
    machine.poll_effect()
    machine.handle_response(responses(RIGHT)["delivered"])
    completes = "completion" in state
    after = machine.checkpoint()
    assert after.protocol_iteration == (1 if completes else 0)
    assert type(machine.state).__name__ == ("Finished" if completes and grace else "PrepareIteration")
    due = completes and limit == 1 and not grace
    assert after.termination.turn_limit_final_scheduled is (grace or due)
    ids = [entry.id for entry in after.messages]
    assert ids == ([] if completes and grace else ["m0", "u", "m_sansio_0_turn_limit_0"] if due else ["m0", "u"])


def test_every_state_and_every_response_is_in_the_table() -> None:
    """No dead row: each row is reached by a case, and each state of the machine has one."""
    rows = {(state, response) for state, row in LEGAL.items() for response in row}
    assert rows <= {(state, response) for state, response, _ in CASES}
    assert {type(state).__name__ for state in STATES.values()} == {
        "PreparingProtocol",
        "WaitingExecutionEnvironment",
        "PrepareIteration",
        "WaitingLlm",
        "WaitingTools",
        "WaitingExec",
        "WaitingCheckpoint",
        "Finished",
    }
    assert {response for row in LEGAL.values() for response in row} == set(responses(RIGHT))
