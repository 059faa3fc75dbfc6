"""Whole turns of the code protocol, on canned replies and results: what runs, what the model is told, how it ends."""

from __future__ import annotations

import pytest

from lash_nb.errors import ProtocolViolation
from lash_nb.machine.checkpoints import CheckpointKind
from lash_nb.machine.events import (
    LlmResponseEvent,
    MessageEvent,
    PluginEvent,
    ProtocolRecord,
    ReasoningDelta,
    StatusRuntimeEvent,
    TextDelta,
    ToolCallEvent,
)
from lash_nb.machine.execution import ExecResponse
from lash_nb.machine.llm import (
    LlmCallError,
    LlmTerminalReason,
    ReasoningOutput,
    TextOutput,
    ToolCallOutputPart,
)
from lash_nb.machine.messages import MessageRole, PartKind, ProviderReasoningReplay
from lash_nb.machine.outcomes import (
    FinalValue,
    Finished,
    ToolValueFinish,
    TurnStopReason,
)
from lash_nb.machine.tool_calls import FinishControl, ToolCallOutput, ToolCallRecord, ToolSucceeded
from lash_nb.machine.wire import Json
from lash_nb.protocols.code import CodeProtocol
from lash_nb.protocols.observations import finish_marker
from lash_nb.protocols.records import CodeTrajectoryEntry, FinalOutput
from lash_nb.protocols.termination import FinishRequired

from .canned import answered, cell, decisions, errors, failed, finished, last_note, required, shown, stopped
from .loop import play, reply, text_of

# -- ends --------------------------------------------------------------------------------------------------------------


def test_prose_alone_is_the_answer() -> None:
    played = play(["  The north line loses money.\n"])
    assert played.outcome == answered("The north line loses money.")
    assert played.executed == []
    assert played.checkpoints == [CheckpointKind.BEFORE_COMPLETION]
    assert decisions(played) == ["answer"]
    # The answer is in the conversation before the turn ends, once.
    last = played.messages[-1]
    assert (last.id, last.role, last.origin) == ("m_code_t1_0_reply", MessageRole.ASSISTANT, None)
    assert [(part.id, part.kind, part.content) for part in last.parts] == [
        ("m_code_t1_0_reply.p0", PartKind.PROSE, "The north line loses money.")
    ]
    assert len(played.messages) == 2


def test_a_cell_is_run_and_its_output_leads_to_the_answer() -> None:
    played = play([cell("df.shape", "I look."), "Three rows."], [shown("(3, 2)")])
    assert played.outcome == answered("Three rows.")
    assert played.executed == ["df.shape"]
    assert played.checkpoints == [CheckpointKind.AFTER_WORK, CheckpointKind.BEFORE_COMPLETION]
    assert [message.id for message in played.messages] == [
        "u0",
        "m_code_t1_0_reply",
        "m_code_t1_0_observation",
        "m_code_t1_1_reply",
    ]
    assert text_of(played.requests[1], -3) == "I look.\n\n<lash-cell>\ndf.shape\n</lash-cell>"
    assert text_of(played.requests[1], -2) == "history[0].output[0] (6 chars, 1 line)\n~~~\n(3, 2)\n~~~"


def test_views_hear_of_prose_reasoning_and_code() -> None:
    said = reply(
        cell("x = 1", "I look."), parts=(ReasoningOutput(text="hm"), TextOutput(text=cell("x = 1", "I look.")))
    )
    played = play([said, "Done."], [shown()])
    assert [event for event in played.emitted if isinstance(event, (ReasoningDelta, TextDelta, MessageEvent))] == [
        ReasoningDelta(content="hm"),
        TextDelta(content="I look."),
        MessageEvent(text="x = 1", kind="python_code"),
        TextDelta(content="Done."),
    ]
    ended = [event for event in played.emitted if isinstance(event, LlmResponseEvent)]
    assert [(event.protocol_iteration, event.duration_ms) for event in ended] == [(0, 0), (1, 0)]


def test_text_that_was_streamed_is_not_emitted_again() -> None:
    played = play([cell("x = 1", "I look."), "Done."], [shown()], streamed=True)
    assert not [event for event in played.emitted if isinstance(event, (ReasoningDelta, TextDelta))]


def test_an_error_is_told_and_the_model_recovers() -> None:
    played = play([cell("df['x']"), cell("df['y']"), "It is 3."], [failed(), shown("3")])
    assert played.outcome == answered("It is 3.")
    assert last_note(played, 1) == "Error:\nerror: your program raised KeyError.\n~~~\nKeyError: 'x'\n~~~"
    steps = [
        record.event
        for record in played.events
        if isinstance(record, ProtocolRecord) and isinstance(record.event, CodeTrajectoryEntry)
    ]
    assert [(step.id, step.code, step.output_chars, step.error) for step in steps] == [
        ("m_code_t1_0_step", "df['x']", (), "error: your program raised KeyError."),
        ("m_code_t1_1_step", "df['y']", (1,), None),
    ]


def test_a_cell_that_the_user_changed_is_on_record_with_what_ran() -> None:
    changed = ExecResponse(observations=("The user changed it: y = 2", "2"), ran="y = 2")
    played = play([cell("x = 1"), cell("z = 3"), "Done."], [changed, shown("3")])
    steps = [
        record.event
        for record in played.events
        if isinstance(record, ProtocolRecord) and isinstance(record.event, CodeTrajectoryEntry)
    ]
    assert [(step.code, step.ran) for step in steps] == [("x = 1", "y = 2"), ("z = 3", None)]
    # The model goes on seeing its own words, and behind them what became of them.
    assert [part.content for part in played.messages[1].parts] == ["x = 1"]
    assert [part.content for part in played.messages[2].parts] == ["The user changed it: y = 2", "2"]


def test_a_host_failure_of_a_cell_is_told_to_the_model_too() -> None:
    played = play([cell("x"), "I give up."], ["policy: the runtime refused this."])
    assert played.outcome == answered("I give up.")
    assert last_note(played, 1) == "Error:\npolicy: the runtime refused this."


@pytest.mark.parametrize("value", [None, 0, "", [], {"value": 1}, {"a": [1, None]}])
def test_finish_ends_a_natural_turn_with_its_value(value: Json) -> None:
    played = play([cell("finish(v)")], [finished(value)])
    assert played.outcome == Finished(finish=FinalValue(value=value))
    assert played.checkpoints == [CheckpointKind.BEFORE_COMPLETION]
    [step] = [
        record.event
        for record in played.events
        if isinstance(record, ProtocolRecord) and isinstance(record.event, CodeTrajectoryEntry)
    ]
    assert step.final_output == FinalOutput(value=value)
    assert [part.kind for part in played.messages[-1].parts] == [PartKind.TEXT]


def test_a_bare_value_in_place_of_the_finish_marker_is_a_bug_of_the_host() -> None:
    with pytest.raises(ProtocolViolation):
        play([cell("finish(3)")], [ExecResponse(terminal_finish=3)])


def test_a_tool_called_in_the_cell_can_end_the_turn() -> None:
    record = ToolCallRecord(
        call_id="c1",
        tool="submit",
        args={"x": 1},
        output=ToolCallOutput(outcome=ToolSucceeded(payload="ok"), control=FinishControl(value=[1])),
        duration_ms=5,
    )
    played = play([cell("submit(x=1)")], [ExecResponse(tool_calls=(record,), terminal_finish=finish_marker("other"))])
    assert played.outcome == Finished(finish=ToolValueFinish(tool_name="submit", value=[1]))
    assert [(event.call_id, event.name) for event in played.emitted if isinstance(event, ToolCallEvent)] == [
        ("c1", "submit")
    ]


# -- a value is required -----------------------------------------------------------------------------------------------


def test_a_value_that_does_not_fit_goes_back_and_one_that_fits_ends_the_turn() -> None:
    played = play([cell("finish('a')"), cell("finish(3)")], [finished("a"), finished(3)], protocol=required)
    assert played.outcome == Finished(finish=FinalValue(value=3))
    assert text_of(played.requests[1], -3) == (
        "Error:\nerror: the value given to finish(…) does not fit what is required."
    )
    assert last_note(played, 1).startswith("Runtime note (not from the user):\nYour value was refused")
    assert "~~~\n'a' is not of type 'integer'\n~~~" in last_note(played, 1)


def test_whoever_reads_it_sees_that_a_value_was_refused() -> None:
    problem = "value[3].offset: 'x' is no number\n" + "\n".join(f"value[{row}]: no" for row in range(4, 90))

    def validate(value: Json) -> str | None:
        return None if isinstance(value, float) else problem

    def protocol() -> CodeProtocol:
        return CodeProtocol(turn_id="t1", termination=FinishRequired(schema={"type": "integer"}), validate=validate)

    played = play([cell("finish('a')"), cell("finish(3)")], [finished("a"), finished(3.0)], protocol=protocol)
    (note,) = [event.event for event in played.emitted if isinstance(event, PluginEvent)]
    assert isinstance(note, StatusRuntimeEvent)
    assert note.label == "the value was refused"
    assert note.detail is not None
    assert note.detail.startswith("value[3].offset: 'x' is no number; value[4]: no; value[5]: no;")
    assert note.detail.endswith(" …")
    assert len(note.detail) <= 602
    steps = [record.event for record in played.events if isinstance(record, ProtocolRecord)]
    refused = [event.refused for event in steps if isinstance(event, CodeTrajectoryEntry)]
    assert refused == [note.detail, None]
    assert repr(played.outcome) == repr(Finished(finish=FinalValue(value=3)))  # as it is read: no 3.0


def test_prose_alone_is_reminded_that_a_value_isrequired() -> None:
    played = play(["It is 3.", cell("finish(3)")], [finished(3)], protocol=required)
    assert played.outcome == Finished(finish=FinalValue(value=3))
    assert decisions(played) == ["remind", "execute"]
    assert text_of(played.requests[1], -3) == "It is 3."
    assert "This turn ends only with a value" in last_note(played, 1)
    status = text_of(played.requests[0], -1)
    assert '{"type":"integer"}' in status
    assert "Prose alone does not end this turn." in status


def test_without_a_value_the_turn_limit_ends_the_turn_with_no_last_reply() -> None:
    played = play(["It is 3.", cell("x")], [shown("1")], protocol=required, max_turns=2)
    assert played.outcome == stopped(TurnStopReason.MAX_TURNS)
    assert len(played.requests) == 2
    # The record of the last step is kept.
    assert played.messages[-1].id == "m_code_t1_1_observation"


# -- replies of the wrong form -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "runs", "words"),
    [
        (cell("x = 1") + "then\n" + cell("y = 2"), ["x = 1"], "held several cells"),
        (cell("x = 1") + "It prints 1.", ["x = 1"], "went on after its cell"),
        ("I look.\n<lash-cell>\nx = 1", [], "did not close it"),
        ("<lash-cell>x = 1</lash-cell>", [], "a cell marker in the wrong place"),
        ("I look.\n<lash-cell>\n</lash-cell>", [], "an empty cell"),
    ],
)
def test_a_reply_of_the_wrong_form_gets_its_own_words(text: str, runs: list[str], words: str) -> None:
    played = play([text, "Done."], [shown("1")])
    assert played.outcome == answered("Done.")
    assert played.executed == runs
    assert words in last_note(played, 1)
    assert last_note(played, 1).startswith("Runtime note (not from the user):\n")
    assert decisions(played) == ["execute" if runs else "retry", "answer"]


def test_a_reply_that_cannot_be_run_is_shown_back_outside_the_form_of_a_cell() -> None:
    played = play(["I look.\n<lash-cell>\nx = 1\n", "Done."])
    assert text_of(played.requests[1], -3) == "I look."
    assert last_note(played, 1).endswith("What was not run:\n~~~\nx = 1\n~~~")


def test_a_reply_cut_off_by_the_output_limit_is_the_machine_s_to_end() -> None:
    played = play([reply("I look.\n<lash-cell>\nx =", terminal_reason=LlmTerminalReason.OUTPUT_LIMIT)])
    assert played.outcome == stopped(TurnStopReason.INCOMPLETE)
    assert played.executed == []


@pytest.mark.parametrize("text", ["", "  \n\t"])
def test_an_empty_reply_is_a_provider_error(text: str) -> None:
    played = play([reply(text, parts=(ReasoningOutput(text="hm"),))])
    assert played.outcome == stopped(TurnStopReason.PROVIDER_ERROR)
    assert errors(played) == ["empty_response"]
    assert decisions(played) == ["empty"]


def test_the_text_of_the_parts_counts_when_the_whole_text_is_missing() -> None:
    assert play([reply("", parts=(TextOutput(text="It is"), TextOutput(text="3.")))]).outcome == answered("It is\n\n3.")


def test_a_native_tool_call_is_a_protocol_error_even_beside_a_cell() -> None:
    call = ToolCallOutputPart(call_id="c", tool_name="python", input_json="{}")
    played = play(
        [reply(cell("x"), parts=(TextOutput(text=cell("x")), call), terminal_reason=LlmTerminalReason.TOOL_USE)]
    )
    assert played.outcome == stopped(TurnStopReason.PROVIDER_ERROR)
    assert errors(played) == ["native_tool_call"]
    assert played.executed == []


def test_a_failed_model_call_ends_the_turn() -> None:
    failure = LlmCallError(message="busy", retryable=True, terminal_reason=LlmTerminalReason.PROVIDER_ERROR)
    assert play([failure]).outcome == stopped(TurnStopReason.PROVIDER_ERROR)


def test_a_config_without_options_ends_the_turn_before_any_call() -> None:
    def wrong() -> CodeProtocol:
        made = CodeProtocol(turn_id="t1")
        made.termination = "natural"  # type: ignore[assignment]
        return made

    for played in (play([], protocol=wrong), play([], run_offset=3)):
        assert played.outcome == stopped(TurnStopReason.RUNTIME_ERROR)
        assert errors(played) == ["bad_protocol_options"]
        assert played.requests == []


# -- reasoning ---------------------------------------------------------------------------------------------------------


def test_reasoning_goes_back_to_the_model_only_if_its_provider_wants_it() -> None:
    wanted = ProviderReasoningReplay(signature="sig")
    said = reply(
        cell("a", "I look."),
        parts=(ReasoningOutput(text="shown only"), ReasoningOutput(text="replayed", replay=wanted)),
    )
    played = play([said, "Done."], [shown("1")])
    kinds = [(part.kind, part.reasoning_meta) for part in played.messages[1].parts]
    assert kinds == [(PartKind.REASONING, wanted), (PartKind.PROSE, None), (PartKind.CODE, None)]
