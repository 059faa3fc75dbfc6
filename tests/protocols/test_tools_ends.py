"""How turns of the tool protocol end: by a tool, in silence, with a value that is required."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from lash_nb.machine.checkpoints import CheckpointKind
from lash_nb.machine.config import TurnMachineConfig
from lash_nb.machine.driver import (
    DriverAction,
    DriverContext,
    Emit,
    Finish,
    StartCheckpoint,
    WaitingExecView,
)
from lash_nb.machine.events import ErrorEvent
from lash_nb.machine.llm import (
    TextOutput,
)
from lash_nb.machine.messages import AppendOnly, Message, MessageRole, Part, PartKind
from lash_nb.machine.outcomes import (
    AgentFrameSwitch,
    FinalValue,
    Finished,
    Stopped,
    ToolError,
    ToolValueFinish,
    TurnOutcome,
    TurnStopReason,
)
from lash_nb.machine.tool_calls import (
    FailControl,
    FinishControl,
    PendingToolCall,
    SwitchAgentFrameControl,
    ToolCallOutput,
    ToolControl,
)
from lash_nb.models.scripted import calling
from lash_nb.protocols.tools import ToolsProtocol

from .canned import answered, decisions, errors, last_note, stopped
from .loop import completed, delivery, reply, text_of, user_message
from .tool_talk import (
    by_id,
    fails,
    failure_of,
    gives,
    resume_problems,
    talk,
    value_required,
)

# -- control -----------------------------------------------------------------------------------------------------------

FINISH = FinishControl(value={"n": 1})
FAIL = FailControl(failure=failure_of("no budget"))
FINISHED = Finished(finish=ToolValueFinish(tool_name="stop", value={"n": 1}))
FAILED = Stopped(
    stop=ToolError(
        tool_name="stop",
        value={
            "class": "execution",
            "code": "boom",
            "message": "no budget",
            "source": "tool",
            "retry": {"type": "never"},
        },
    )
)


@pytest.mark.parametrize(
    ("first", "second", "outcome"),
    [
        (gives(1, FINISH), gives(2, FAIL), FINISHED),
        (gives(1, FAIL), gives(2, FINISH), FAILED),
        (fails("x", FAIL), gives(2, FINISH), FINISHED),
        (fails("x", FINISH), gives(2, FAIL), FAILED),
        (gives(1), gives(2, FINISH), FINISHED),
    ],
)
def test_the_first_successful_control_ends_the_turn(
    first: ToolCallOutput, second: ToolCallOutput, outcome: TurnOutcome
) -> None:
    played = talk([calling(("stop", {}, "a"), ("stop", {}, "b"))], tools=by_id({"a": first, "b": second}))
    assert played.outcome == outcome
    assert played.checkpoints == [CheckpointKind.BEFORE_COMPLETION]
    assert resume_problems(played.messages) == []


@pytest.mark.parametrize("control", [FINISH, FAIL])
def test_a_control_of_a_failed_call_ends_nothing(control: ToolControl) -> None:
    played = talk([calling(("stop", {})), "Done."], tools=lambda call: fails("boom", control))
    assert played.outcome == answered("Done.")


def test_a_switch_of_frames_needs_a_task() -> None:
    switch = SwitchAgentFrameControl(frame_id="f1", task="Find it.")
    played = talk([calling(("stop", {}))], tools=lambda call: gives("on", switch))
    assert played.outcome == AgentFrameSwitch(frame_id="f1", task="Find it.")
    bare = talk(
        [calling(("stop", {})), "Done."], tools=lambda call: gives("on", SwitchAgentFrameControl(frame_id="f1"))
    )
    assert bare.outcome == answered("Done.")


def test_what_the_user_says_meanwhile_outlives_a_control() -> None:
    steer = delivery(user_message("u1", "And the south?"))
    played = talk([calling(("stop", {})), "The south wins."], deliveries=[steer], tools=lambda call: gives(1, FINISH))
    assert played.outcome == answered("The south wins.")


# -- empty replies -----------------------------------------------------------------------------------------------------


def test_silence_after_a_result_is_the_end() -> None:
    played = talk([calling(("search", {})), reply(" \n")])
    assert played.outcome == answered("")
    assert played.messages[-1].id == "m_code_t1_0_observation"
    assert errors(played) == []


@pytest.mark.parametrize("replies", [[reply("")], [reply("", parts=(TextOutput(text=" "),))]])
def test_an_empty_reply_is_a_failure_of_the_provider(replies: list[object]) -> None:
    played = talk(replies)
    assert played.outcome == stopped(TurnStopReason.PROVIDER_ERROR)
    assert errors(played) == ["empty_response"]


def test_silence_after_what_the_user_said_is_a_failure_too() -> None:
    steer = delivery(user_message("u1", "Only 2024."))
    played = talk([calling(("search", {})), reply("")], deliveries=[steer])
    assert played.outcome == stopped(TurnStopReason.PROVIDER_ERROR)


# -- a value is required -----------------------------------------------------------------------------------------------


def test_prose_does_not_end_a_turn_that_needs_a_value() -> None:
    ends = FinishControl(value=3)
    played = talk(["It is 3.", calling(("stop", {}))], protocol=value_required, tools=lambda call: gives(1, ends))
    assert played.outcome == Finished(finish=FinalValue(value=3))
    assert decisions(played) == ["remind", "call"]
    assert last_note(played, 1) == (
        "Runtime note (not from the user):\n"
        "Your last reply was prose without a tool call. This turn ends only with a value: do what is left to do and, "
        "when the value is known, call run_code with code that calls finish(value)."
    )
    assert text_of(played.requests[0], -1).endswith(
        "To go on: tool calls. To finish: a call of run_code whose code calls finish(value). Prose alone does not end "
        'this turn.\nThe value must fit this JSON Schema:\n{"type":"integer"}'
    )


def test_silence_does_not_end_a_turn_that_needs_a_value() -> None:
    played = talk(
        [calling(("search", {}, "a")), reply(""), calling(("stop", {}, "b"))],
        protocol=value_required,
        tools=by_id({"a": gives(1), "b": gives(1, FinishControl(value=3))}),
    )
    assert decisions(played) == ["call", "remind", "call"]
    assert played.outcome == Finished(finish=FinalValue(value=3))


def test_a_value_by_which_a_tool_ends_a_turn_is_judged_like_any_other() -> None:
    played = talk(
        [calling(("stop", {}, "a")), calling(("stop", {}, "b"))],
        protocol=value_required,
        tools=by_id({"a": gives(1, FINISH), "b": gives(1, FinishControl(value=3))}),
    )
    assert played.outcome == Finished(finish=FinalValue(value=3))
    assert decisions(played) == ["call", "call"]


# -- answers that nobody asked for -------------------------------------------------------------------------------------


def _context(*messages: Message) -> DriverContext:
    protocol = ToolsProtocol(turn_id="t1")
    config: TurnMachineConfig[Any, Any, Any] = TurnMachineConfig(
        driver=protocol.driver,
        projector=protocol.projector,
        protocol=protocol.turn_protocol,
        model="m",
        termination=protocol.termination,
    )
    return DriverContext(
        config=config,
        messages=AppendOnly(messages),
        events=AppendOnly(),
        turn_causes=AppendOnly(),
        protocol_iteration=0,
        protocol_run_offset=0,
        turn_limit_final_scheduled=False,
    )


def _codes(actions: Sequence[DriverAction]) -> list[object]:
    """Codes of the errors, and how the turn ends."""
    errors = [action.event for action in actions if isinstance(action, Emit) and isinstance(action.event, ErrorEvent)]
    return [
        *(error.envelope and error.envelope.code for error in errors),
        *(action.outcome for action in actions if isinstance(action, Finish)),
    ]


def test_results_and_cells_that_nobody_asked_for_end_the_turn() -> None:
    driver, failed = ToolsProtocol(turn_id="t1").driver, stopped(TurnStopReason.RUNTIME_ERROR)
    assert _codes(driver.handle_tool_results(_context(), ())) == ["unexpected_tool_results", failed]
    view = WaitingExecView(language="python", code="x", driver_state=None)
    assert _codes(driver.handle_exec_result(_context(), view, "x")) == ["unexpected_exec_result", failed]


def test_results_are_taken_although_the_record_of_the_reply_is_gone() -> None:
    call = Part(id="p0", kind=PartKind.TOOL_CALL, content="{}", tool_call_id="a", tool_name="search")
    said = Message(id="m_code_t1_0_reply", role=MessageRole.ASSISTANT, parts=(call,))
    done = completed(PendingToolCall(call_id="a", tool_name="search", args={}), gives("x"))
    actions = ToolsProtocol(turn_id="t1").driver.handle_tool_results(_context(said), (done,))
    assert isinstance(actions[-1], StartCheckpoint)
