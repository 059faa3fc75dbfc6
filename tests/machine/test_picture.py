"""The fold from activity to what is shown."""

from __future__ import annotations

from functools import reduce
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.machine.checkpoints import CheckpointKind
from lash_nb.machine.events import (
    CellOutputs,
    ChildTokenUsageEvent,
    CodeBlockStarted,
    DoneEvent,
    ErrorEnvelope,
    ErrorEvent,
    InjectedInput,
    InjectedMessagesCommitted,
    InjectedTurnInputAccepted,
    LlmRequestEvent,
    LlmResponseEvent,
    MessageEvent,
    PluginEvent,
    ReasoningDelta,
    RetryStatus,
    StatusRuntimeEvent,
    TextDelta,
    TokenUsageEvent,
    ToolCallEvent,
    ToolCallStart,
    TurnActivity,
    TurnOutcomeEvent,
    TurnStarted,
)
from lash_nb.machine.execution import CellOutcome, FinishValue, StreamOutput
from lash_nb.machine.llm import LlmTerminalReason, LlmUsage
from lash_nb.machine.messages import MessageRole, PluginMessage
from lash_nb.machine.outcomes import (
    AgentFrameSwitch,
    AssistantMessage,
    FinalValue,
    Finished,
    Stopped,
    SubmittedError,
    ToolError,
    ToolValueFinish,
    TurnStopReason,
)
from lash_nb.machine.picture import (
    GrowingText,
    Note,
    NoteKind,
    Phase,
    PictureState,
    StepPicture,
    ToolCallPicture,
    TurnPicture,
)
from lash_nb.machine.tool_calls import (
    RetryNever,
    ToolCallOutput,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
    ToolSucceeded,
)

from ..views.turns import answered, asked, ended, picture, stdout, step, whole_turn


def said(text: str) -> TextDelta:
    return TextDelta(content=text)


# -- steps and the answer ----------------------------------------------------------------------------------------------


def test_a_whole_turn() -> None:
    turn = whole_turn()
    assert (turn.turn, turn.request, turn.model) == (1, "How many rows?", "scripted")
    assert [one.prose for one in turn.steps] == ["I look at it.", "So it is called margin."]
    assert [one.code for one in turn.steps] == ["df['profit']", "len(df)"]
    assert [one.outcome for one in turn.steps] == [CellOutcome.ERROR, CellOutcome.OK]
    assert turn.steps[1].outputs == (stdout("3\n"),)
    assert turn.steps[1].duration_ms == 5
    assert turn.answer == "There are **3** rows."
    assert (turn.state, turn.sentence) == (PictureState.DONE, "done")


def test_the_answer_is_not_a_step_too() -> None:
    assert picture(answered("42\n")).steps == ()


def test_a_note_behind_the_answer_moves_up() -> None:
    notice = MessageEvent(text="saved", kind="notice")
    turn = picture(step(1, code="1"), asked(), said("42"), notice, ended(Finished(finish=AssistantMessage(text="42"))))
    assert [note.after for note in turn.notes] == [1]


def test_thoughts_behind_the_answer_stay() -> None:
    turn = picture(
        asked(), ReasoningDelta(content="hm"), said("42"), ended(Finished(finish=AssistantMessage(text="42")))
    )
    assert [(one.reasoning, one.prose) for one in turn.steps] == [("hm", "")]


def test_other_words_than_the_answer_stay() -> None:
    turn = picture(asked(), said("almost"), ended(Finished(finish=AssistantMessage(text="42"))))
    assert [one.prose for one in turn.steps] == ["almost"]
    assert turn.answer == "42"


def test_an_answer_after_which_the_turn_went_on_is_a_step() -> None:
    more = InjectedMessagesCommitted(
        messages=(PluginMessage(role=MessageRole.USER, content="And columns?"),),
        checkpoint=CheckpointKind.BEFORE_COMPLETION,
    )
    turn = picture(asked(), said("3 rows."), more, answered("2 columns."))
    assert [one.prose for one in turn.steps] == ["3 rows."]
    assert turn.notes == (Note(kind=NoteKind.SAID, text="And columns?", after=1),)
    assert turn.answer == "2 columns."


@pytest.mark.parametrize("finish", [FinalValue(value=None), ToolValueFinish(tool_name="t", value=None)])
def test_a_value_of_null_is_a_value(finish: FinalValue | ToolValueFinish) -> None:
    turn = picture(step(1, code="finish(None)"), ended(Finished(finish=finish)))
    assert turn.value == FinishValue(value=None)
    assert turn.answer is None


def test_outputs_replace_each_other_while_a_cell_runs() -> None:
    start = picture(asked(), CodeBlockStarted(effect_id=7, language="python", code="x"))
    assert start.steps[0].running
    for text in ("a", "ab"):
        start = start.apply(CellOutputs(effect_id=7, outputs=(stdout(text),)))
    assert start.steps[0].outputs == (stdout("ab"),)


def test_outputs_of_a_cell_that_is_not_shown_are_ignored() -> None:
    start = picture(asked(), CodeBlockStarted(effect_id=7, language="python", code="x"))
    assert start.apply(CellOutputs(effect_id=8, outputs=(stdout("a"),))) == start


def test_a_second_cell_without_a_model_call_is_a_step_of_its_own() -> None:
    turn = picture(step(1, code="a")).apply(CodeBlockStarted(effect_id=2, language="r", code="b"))
    assert [(one.code, one.language) for one in turn.steps] == [("a", "python"), ("b", "r")]


def test_a_request_that_is_announced_twice_is_one_step() -> None:
    assert len(picture(asked(), asked()).steps) == 1


def test_a_new_turn_begins_anew() -> None:
    again = whole_turn().apply(TurnStarted(turn=2, request="b", model="m"))
    assert again == TurnPicture(turn=2, request="b", model="m")


# -- text that grows ---------------------------------------------------------------------------------------------------


def chunks(text: str, cuts: list[int]) -> list[str]:
    places = sorted({cut % (len(text) + 1) for cut in cuts})
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


@given(st.text(), st.text(), st.lists(st.integers(min_value=0)), st.lists(st.integers(min_value=0)))
def test_the_split_of_a_stream_does_not_matter(prose: str, thought: str, cuts: list[int], others: list[int]) -> None:
    whole = picture(asked(), ReasoningDelta(content=thought), said(prose))
    parts: list[TurnActivity] = [ReasoningDelta(content=chunk) for chunk in chunks(thought, others)]
    parts += [said(chunk) for chunk in chunks(prose, cuts)]
    split = picture(asked(), parts)
    assert split == whole
    assert hash(split.steps) == hash(whole.steps)
    if split.steps:
        assert (split.steps[0].prose, split.steps[0].reasoning) == (prose, thought)


@given(st.lists(st.text(max_size=20)))
def test_pieces_halve(parts: list[str]) -> None:
    text = reduce(GrowingText.appended, parts, GrowingText())
    assert str(text) == "".join(parts)
    assert len(text) == len(str(text))
    sizes = [len(piece) for piece in text.pieces]
    assert all(a >= 2 * b for a, b in pairwise(sizes))


def test_a_long_stream_stays_in_few_pieces() -> None:
    text = reduce(GrowingText.appended, ["word "] * 20_000, GrowingText())
    assert len(text.pieces) <= 18
    assert text != "word "


def test_earlier_pictures_keep_their_text() -> None:
    first = picture(asked(), said("a"))
    first.apply(said("b"))
    assert first.apply(said("c")).steps[0].prose == "ac"


# -- the state in words ------------------------------------------------------------------------------------------------


def test_a_running_turn_says_what_it_does() -> None:
    now = TurnPicture()
    sentences = [now.sentence]
    for one in (
        TurnStarted(turn=1, request="a", model="m"),
        asked(),
        said("Let me see."),
        LlmResponseEvent(protocol_iteration=0, content="", duration_ms=0),
        MessageEvent(text="1", kind="python_code"),
        CodeBlockStarted(effect_id=1, language="python", code="1"),
        ToolCallStart(call_id="c", name="find", args={}),
    ):
        now = now.apply(one)
        sentences.append(now.sentence)
    assert sentences == [
        "starting",
        "starting",
        "waiting for the model",
        "the model is answering",
        "preparing the next step",
        "preparing the next step",
        "running a cell",
        "running tools",
    ]


def retry(attempt: int) -> RetryStatus:
    return RetryStatus(wait_seconds=3, attempt=attempt, max_attempts=5, reason="rate limited")


def test_what_an_attempt_said_that_failed_does_not_count() -> None:
    waiting = picture(asked(), ReasoningDelta(content="x"), said("Half a sent"), retry(2))
    assert waiting.steps == (StepPicture(),)
    assert waiting.sentence == "waiting for the model: attempt 2 of 5 in 3 s (rate limited)"
    assert waiting.apply(said("A sentence.")).steps[0].prose == "A sentence."
    assert waiting.apply(said("A sentence.")).sentence == "the model is answering"


RUNNING = CodeBlockStarted(effect_id=1, language="python", code="1")
NO_ANSWER = ErrorEvent(message="Twelve attempts without progress.")
REFUSED = ErrorEvent(message="LLM error: no such key")


@pytest.mark.parametrize(
    ("before", "stop", "state", "sentence"),
    [
        ([asked(), RUNNING], TurnStopReason.CANCELLED, "stopped", "stopped by you: a cell was running"),
        (
            step(1, code="1", outcome=CellOutcome.INTERRUPTED),
            TurnStopReason.CANCELLED,
            "stopped",
            "stopped by you: a cell was running",
        ),
        ([asked(), said("So")], TurnStopReason.CANCELLED, "stopped", "stopped by you: the model was answering"),
        ([], TurnStopReason.CANCELLED, "stopped", "stopped by you: the model was answering"),
        (step(1, code="1"), TurnStopReason.CANCELLED, "stopped", "stopped by you: between two steps"),
        ([], TurnStopReason.MAX_TURNS, "stopped", "stopped: the limit of steps was reached"),
        ([NO_ANSWER], TurnStopReason.INCOMPLETE, "stopped", "stopped: Twelve attempts without progress."),
        ([], TurnStopReason.INCOMPLETE, "stopped", "stopped: there was no answer"),
        ([REFUSED], TurnStopReason.PROVIDER_ERROR, "failed", "failed: LLM error: no such key"),
        ([], TurnStopReason.RUNTIME_ERROR, "failed", "failed: runtime error"),
        ([], SubmittedError(value="no data"), "failed", "failed: the agent gave up: no data"),
        ([], ToolError(tool_name="t", value={"a": 1}), "failed", 'failed: the tool t ended the turn: {"a":1}'),
    ],
)
def test_an_end_says_why(before: list[TurnActivity], stop: object, state: str, sentence: str) -> None:
    turn = picture(before, ended(Stopped(stop=stop)))  # type: ignore[arg-type]
    assert (turn.state.value, turn.sentence) == (state, sentence)


def test_a_stopped_turn_keeps_what_there_is() -> None:
    turn = picture(step(1, code="1"), asked(), said("Half"), ended(Stopped(stop=TurnStopReason.CANCELLED)))
    assert [(one.code, one.prose) for one in turn.steps] == [("1", ""), (None, "Half")]


def test_a_step_in_which_nothing_came_is_dropped_at_the_end() -> None:
    assert picture(asked(), ended(Stopped(stop=TurnStopReason.CANCELLED))).steps == ()


def test_the_first_end_counts() -> None:
    done = picture(answered("1"))
    assert done.apply(ended(Stopped(stop=TurnStopReason.RUNTIME_ERROR))) == done


def test_a_late_event_does_not_make_it_run_again() -> None:
    late = picture(answered("1")).apply(LlmResponseEvent(protocol_iteration=0, content="", duration_ms=0))
    assert late.sentence == "done"


def test_a_handover_is_an_end_with_a_note() -> None:
    turn = picture(ended(AgentFrameSwitch(frame_id="f", task="count")))
    assert (turn.state, turn.notes) == (
        PictureState.DONE,
        (Note(kind=NoteKind.NOTICE, text="handed over: count", after=0),),
    )


# -- beside the steps --------------------------------------------------------------------------------------------------


def test_tokens_are_the_turns_and_its_childrens() -> None:
    one, two = LlmUsage(input_tokens=1), LlmUsage(input_tokens=3, output_tokens=1)
    turn = picture(
        TokenUsageEvent(protocol_iteration=0, usage=one, cumulative=one),
        TokenUsageEvent(protocol_iteration=1, usage=two, cumulative=one + two),
        ChildTokenUsageEvent(session_id="c", source="s", model="m", protocol_iteration=0, usage=two, cumulative=two),
        ChildTokenUsageEvent(session_id="c", source="s", model="m", protocol_iteration=1, usage=one, cumulative=two),
    )
    assert turn.usage == LlmUsage(input_tokens=4, output_tokens=1)
    assert turn.child_usage == LlmUsage(input_tokens=4, output_tokens=1)


def test_errors_are_kept_but_a_stop_is_none() -> None:
    envelope = ErrorEnvelope(kind="llm_provider", user_message="x", terminal_reason=LlmTerminalReason.CANCELLED)
    turn = picture(REFUSED, ErrorEvent(message="Model call ended with terminal reason Cancelled.", envelope=envelope))
    assert turn.errors == ("LLM error: no such key",)


def test_input_that_is_accepted_and_then_committed_is_shown_once() -> None:
    message, kind = PluginMessage(role=MessageRole.USER, content="Use 2024."), CheckpointKind.AFTER_WORK
    turn = picture(
        step(1, code="1"),
        InjectedTurnInputAccepted(inputs=(InjectedInput(id="i", message=message),), checkpoint=kind),
        InjectedMessagesCommitted(messages=(message,), checkpoint=kind),
        asked(),
    )
    assert turn.notes == (Note(kind=NoteKind.SAID, text="Use 2024.", after=1),)


def test_notes_stand_behind_the_steps_that_there_were() -> None:
    turn = picture(
        PluginEvent(plugin_id="k", event=StatusRuntimeEvent(key="k", label="shared", detail="sales")),
        step(1, code="1"),
        MessageEvent(text="The kernel is new.", kind="notice"),
        asked(),
        PluginEvent(plugin_id="k", event=StatusRuntimeEvent(key="k", label="ready")),
    )
    assert turn.notes == (
        Note(kind=NoteKind.STATUS, text="shared: sales", after=0),
        Note(kind=NoteKind.NOTICE, text="The kernel is new.", after=1),
        Note(kind=NoteKind.STATUS, text="ready", after=1),
    )


def test_tool_calls_begin_and_end() -> None:
    failure = ToolFailure(
        class_=ToolFailureClass.EXECUTION,
        code="c",
        message="no such file",
        source=ToolFailureSource.TOOL,
        retry=RetryNever(),
    )
    failed, done = ToolCallOutput(outcome=ToolFailed(payload=failure)), ToolCallOutput(outcome=ToolSucceeded(payload=1))
    turn = picture(
        asked(),
        ToolCallStart(call_id="a", name="read", args={"p": 1}),
        ToolCallStart(call_id="b", name="read", args={"p": 2}),
        ToolCallEvent(call_id="b", name="read", args={"p": 2}, output=failed, duration_ms=1),
        ToolCallEvent(call_id="c", name="list", args={}, output=done, duration_ms=1),
    )
    assert turn.steps[0].tool_calls == (
        ToolCallPicture(call_id="a", name="read", args={"p": 1}),
        ToolCallPicture(call_id="b", name="read", args={"p": 2}, succeeded=False, problem="no such file"),
        ToolCallPicture(call_id="c", name="list", args={}, succeeded=True, result="1"),
    )
    assert turn.phase is Phase.TOOLS


@given(
    st.lists(
        st.sampled_from(
            [
                asked(),
                said("a"),
                said(""),
                RUNNING,
                CellOutputs(effect_id=1, outputs=(StreamOutput(name="stderr", head="e"),)),
                MessageEvent(text="1", kind="python_code"),
                MessageEvent(text="note", kind="notice"),
                retry(1),
                REFUSED,
                DoneEvent(),
                LlmRequestEvent(protocol_iteration=5, message_count=0, tool_list=""),
                TurnOutcomeEvent(outcome=Stopped(stop=TurnStopReason.CANCELLED)),
                TurnOutcomeEvent(outcome=Finished(finish=AssistantMessage(text="a"))),
            ]
        )
    )
)
def test_any_order_gives_a_picture_with_a_sentence(activity: list[TurnActivity]) -> None:
    turn = picture(activity)
    assert turn.sentence
    assert all(note.after <= len(turn.steps) for note in turn.notes)
