"""Whole turns of the code protocol, against canned replies and results: what runs, what the model is told, how it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lash_nb.errors import ProtocolViolation
from lash_nb.machine.checkpoints import CheckpointDelivery, CheckpointKind
from lash_nb.machine.events import (
    Conversation,
    ErrorEvent,
    LlmResponseEvent,
    MessageEvent,
    ProtocolRecord,
    ReasoningDelta,
    TextDelta,
    ToolCallEvent,
)
from lash_nb.machine.execution import ExecResponse
from lash_nb.machine.llm import (
    LlmCallError,
    LlmResponse,
    LlmTerminalReason,
    ReasoningOutput,
    TextOutput,
    ToolCallOutputPart,
)
from lash_nb.machine.messages import MessageRole, PartKind, ProviderReasoningReplay
from lash_nb.machine.outcomes import (
    AssistantMessage,
    FinalValue,
    Finished,
    Stopped,
    ToolValueFinish,
    TurnStopReason,
)
from lash_nb.machine.tool_calls import FinishControl, ToolCallOutput, ToolCallRecord, ToolSucceeded
from lash_nb.machine.wire import Json
from lash_nb.protocols.code import CodeProtocol
from lash_nb.protocols.observations import finish_marker
from lash_nb.protocols.records import CodeDiagnostic, CodeTrajectoryEntry, FinalOutput
from lash_nb.protocols.termination import FinishRequired

from .loop import Played, delivery, play, reply, text_of, user_message


def cell(code: str, prose: str = "") -> str:
    return f"{prose}\n\n<lash-cell>\n{code}\n</lash-cell>\n".lstrip()


def shown(*texts: str) -> ExecResponse:
    return ExecResponse(observations=texts)


def failed(text: str = "error: your program raised KeyError.\nKeyError: 'x'") -> ExecResponse:
    return ExecResponse(error=text)


def finished(value: Json) -> ExecResponse:
    return ExecResponse(terminal_finish=finish_marker(value))


def answered(text: str) -> Finished:
    return Finished(finish=AssistantMessage(text=text))


def stopped(reason: TurnStopReason) -> Stopped:
    return Stopped(stop=reason)


def decisions(played: Played) -> list[object]:
    """What was made of each reply, from the diagnostics."""
    return [
        record.event.payload["decision"]
        for record in played.events
        if isinstance(record, ProtocolRecord) and isinstance(record.event, CodeDiagnostic)
    ]


def errors(played: Played) -> list[str | None]:
    """Codes of the errors that were emitted."""
    return [event.envelope.code for event in played.emitted if isinstance(event, ErrorEvent) and event.envelope]


def last_note(played: Played, request: int) -> str:
    """The last text before the status message of a request."""
    return text_of(played.requests[request], -2)


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


def _required() -> CodeProtocol:
    def validate(value: Json) -> str | None:
        return None if isinstance(value, int) else f"{value!r} is not of type 'integer'"

    return CodeProtocol(turn_id="t1", termination=FinishRequired(schema={"type": "integer"}), validate=validate)


def test_a_value_that_does_not_fit_goes_back_and_one_that_fits_ends_the_turn() -> None:
    played = play([cell("finish('a')"), cell("finish(3)")], [finished("a"), finished(3)], protocol=_required)
    assert played.outcome == Finished(finish=FinalValue(value=3))
    assert text_of(played.requests[1], -3) == (
        "Error:\nerror: the value given to finish(…) does not fit the required schema.\n~~~\n'a' is not of type 'integer'\n~~~"
    )
    assert last_note(played, 1).startswith("Runtime note (not from the user):\nYour value was refused")


def test_prose_alone_is_reminded_that_a_value_is_required() -> None:
    played = play(["It is 3.", cell("finish(3)")], [finished(3)], protocol=_required)
    assert played.outcome == Finished(finish=FinalValue(value=3))
    assert decisions(played) == ["remind", "execute"]
    assert text_of(played.requests[1], -3) == "It is 3."
    assert "This turn ends only with a value" in last_note(played, 1)
    status = text_of(played.requests[0], -1)
    assert '{"type":"integer"}' in status
    assert "Prose alone does not end this turn." in status


def test_without_a_value_the_turn_limit_ends_the_turn_with_no_last_reply() -> None:
    played = play(["It is 3.", cell("x")], [shown("1")], protocol=_required, max_turns=2)
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


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_at_the_turn_limit_one_last_reply_is_granted() -> None:
    played = play([cell("a"), cell("b"), "Half done."], [shown("1"), shown("2")], max_turns=2)
    assert played.outcome == answered("Half done.")
    assert [message.id for message in played.messages][-2:] == ["m_code_t1_2_turn_limit", "m_code_t1_2_reply"]
    assert "Turn limit reached (2)." in last_note(played, 2)
    assert "none left" in text_of(played.requests[2], -1)
    assert "this is step 2 of 2; 0 left" in text_of(played.requests[1], -1)


def test_a_cell_in_the_last_reply_ends_the_turn_with_its_record_kept() -> None:
    played = play([cell("a"), cell("b")], [shown("1"), shown("2")], max_turns=1)
    assert played.outcome == stopped(TurnStopReason.MAX_TURNS)
    assert played.executed == ["a", "b"]
    assert played.messages[-1].id == "m_code_t1_1_observation"


def test_a_value_in_the_last_reply_is_a_result() -> None:
    played = play([cell("a"), cell("finish(1)")], [shown("1"), finished(1)], max_turns=1)
    assert played.outcome == Finished(finish=FinalValue(value=1))


def test_at_the_turn_limit_the_words_about_a_bad_reply_are_dropped() -> None:
    played = play(["<lash-cell>\nx", "Nothing."], max_turns=1)
    assert played.outcome == answered("Nothing.")
    assert "Turn limit reached (1)." in last_note(played, 1)
    assert not [message for message in played.messages if message.id.endswith("_note")]


def test_the_limit_counts_from_the_run_offset() -> None:
    def made() -> CodeProtocol:
        return CodeProtocol(turn_id="t2", run_offset=5)

    played = play([cell("a"), "Half."], [shown("1")], protocol=made, run_offset=5, max_turns=1)
    assert played.outcome == answered("Half.")
    assert "this is step 1 of 1; 0 left" in text_of(played.requests[0], -1)
    assert played.messages[1].id == "m_code_t2_5_reply"


@pytest.mark.parametrize("through_json", [False, True])
def test_twelve_attempts_without_progress_stop_the_turn(through_json: bool) -> None:
    replies = [cell("x"), "<lash-cell>\nx"] * 6
    played = play(replies, [failed()] * 6, through_json=through_json)
    assert played.outcome == stopped(TurnStopReason.INCOMPLETE)
    assert errors(played) == ["no_progress"]
    assert (len(played.requests), played.replies_left, played.results_left) == (12, 0, 0)


def test_a_cell_that_runs_free_of_errors_starts_the_count_anew() -> None:
    replies = [*[cell("x")] * 11, cell("y"), *[cell("x")] * 11, "Done."]
    results = [*[failed()] * 11, shown("1"), *[failed()] * 11]
    assert play(replies, results).outcome == answered("Done.")


def test_failures_of_an_earlier_turn_do_not_count() -> None:
    first = play([*[cell("x")] * 11, "I give up."], [failed()] * 11)
    second = play(
        [*[cell("x")] * 11, "No."],
        [failed()] * 11,
        protocol=lambda: CodeProtocol(turn_id="t2"),
        messages=(*first.messages, user_message("u1", "Again.")),
        events=first.events,
    )
    assert second.outcome == answered("No.")


def test_refused_values_and_reminders_are_no_progress() -> None:
    replies = [*["prose"] * 6, *[cell("finish('a')")] * 6]
    played = play(replies, [finished("a")] * 6, protocol=_required)
    assert played.outcome == stopped(TurnStopReason.INCOMPLETE)


# -- the user speaks meanwhile -----------------------------------------------------------------------------------------


def test_what_the_user_says_after_a_step_is_read_before_the_next() -> None:
    steer = delivery(user_message("u1", "Only 2024."))
    played = play([cell("a"), "Done."], [shown("1")], deliveries=[steer])
    assert played.outcome == answered("Done.")
    assert text_of(played.requests[1], -2) == "Only 2024."
    assert text_of(played.requests[1], -3).startswith("history[0].output[0]")


def test_what_the_user_says_before_the_end_is_answered_and_the_first_answer_is_remembered() -> None:
    steer = delivery(user_message("u1", "And the south?"))
    played = play(["The north loses.", "The south wins."], deliveries=[steer])
    assert played.outcome == answered("The south wins.")
    assert [text_of(played.requests[1], index) for index in (-3, -2)] == ["The north loses.", "And the south?"]
    assert [message.id for message in played.messages] == ["u0", "m_code_t1_0_reply", "u1", "m_code_t1_1_reply"]


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


# -- restore anywhere --------------------------------------------------------------------------------------------------

SCRIPTS: list[tuple[Sequence[LlmResponse | str], Sequence[ExecResponse | str], dict[str, Any]]] = [
    (["Just prose."], [], {}),
    ([cell("a", "I look."), cell("b"), "Done."], [shown("1", "2"), failed()], {}),
    ([cell("a") + "more", "<lash-cell>\nx", cell("finish(None)")], [shown(), finished(None)], {}),
    ([cell("a"), cell("b")], [shown("1"), shown("2")], {"max_turns": 1}),
    (["It is 3.", cell("finish('a')"), cell("finish(3)")], [finished("a"), finished(3)], {"protocol": _required}),
    (["One.", "Two."], [], {"deliveries": [delivery(user_message("u1", "More."))]}),
    ([reply("")], [], {}),
]


@pytest.mark.parametrize(("replies", "results", "options"), SCRIPTS)
def test_a_turn_restored_at_every_step_is_the_same_turn(
    replies: Sequence[LlmResponse | str], results: Sequence[ExecResponse | str], options: dict[str, Any]
) -> None:
    whole = play(replies, results, **options)
    pieces = play(replies, results, **options, through_json=True)
    assert pieces == whole


REPLIES = st.sampled_from(
    ["Done.", cell("a", "I look."), cell("a") + "more", "<lash-cell>\nx", "<lash-cell>x</lash-cell>"]
)
RESULTS = st.sampled_from([shown("1"), shown(), failed(), finished(3), finished(None), finished("a"), "policy: no."])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(REPLIES, min_size=6, max_size=6),
    st.lists(RESULTS, min_size=6, max_size=6),
    st.integers(1, 5),
    st.sampled_from(
        [_required, lambda: CodeProtocol(turn_id="t1"), lambda: CodeProtocol(turn_id="t1", no_progress_limit=3)]
    ),
    st.lists(st.sampled_from([delivery(), delivery(user_message("u1", "More."))]), max_size=3),
)
def test_any_turn_restored_at_every_step_is_the_same_turn_and_keeps_its_prefix(
    replies: list[str],
    results: list[ExecResponse | str],
    max_turns: int,
    protocol: Callable[[], CodeProtocol],
    deliveries: list[CheckpointDelivery],
) -> None:
    options: dict[str, Any] = {"max_turns": max_turns, "protocol": protocol, "deliveries": deliveries}
    whole = play(replies, results, **options)
    assert play(replies, results, **options, through_json=True) == whole
    assert whole.outcome is not None
    assert len({message.id for message in whole.messages if message.id != "u1"}) == len(
        [message for message in whole.messages if message.id != "u1"]
    )
    # Conversation records of the events are, in order, the protocol's own messages.
    own = [record.message.id for record in whole.events if isinstance(record, Conversation)]
    assert [message.id for message in whole.messages if message.id in own] == own
