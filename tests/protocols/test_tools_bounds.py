"""Turns of the tool protocol at their bounds, interrupted by the user, and restored at every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lash_nb.machine.checkpoints import CheckpointDelivery, CheckpointKind
from lash_nb.machine.events import Conversation
from lash_nb.machine.execution import ExecResponse
from lash_nb.machine.llm import (
    LlmResponse,
    LlmToolChoice,
    ReasoningOutput,
    TextOutput,
    ToolCallOutputPart,
)
from lash_nb.machine.messages import MessageRole, PartKind, ProviderReasoningReplay, ResponseTextMeta
from lash_nb.machine.outcomes import FinalValue, Finished, ToolValueFinish, TurnStopReason
from lash_nb.machine.tool_calls import FinishControl, PendingToolCall, SwitchAgentFrameControl, ToolCallOutput
from lash_nb.models.scripted import calling
from lash_nb.protocols.tools import ToolsProtocol

from .canned import answered, decisions, errors, failed, finished, last_note, shown, stopped
from .loop import Played, delivery, prefix_problems, reply, text_of, user_message
from .tool_talk import (
    cancelled,
    fails,
    gives,
    provider_problems,
    resume_problems,
    said_results,
    talk,
    tool_events,
    value_required,
)

SEARCH = calling(("search", {"q": "x"}))
REFUSED_AT_THE_END = "policy: this call was not made. The steps of this turn are used up."

# -- the turn limit ----------------------------------------------------------------------------------------------------


def test_at_the_turn_limit_one_last_reply_is_granted() -> None:
    played = talk([SEARCH, SEARCH, "Half done."], max_turns=2)
    assert played.outcome == answered("Half done.")
    assert [message.id for message in played.messages][-2:] == ["m_code_t1_2_turn_limit", "m_code_t1_2_reply"]
    limit = played.messages[-2]
    assert (limit.role, [part.kind for part in limit.parts]) == (MessageRole.SYSTEM, [PartKind.ERROR])
    assert last_note(played, 2) == (
        "Runtime note (not from the user):\n"
        "Turn limit reached (2). No further call will be made: answer now, in prose without a tool call. "
        "Say what was done, what was found, and what remains to be done next."
    )
    assert text_of(played.requests[1], -1).endswith(
        "this is step 2 of 2; 0 left after it.\n\n"
        "To go on: tool calls. To finish: answer the user in prose, without a tool call."
    )
    assert text_of(played.requests[2], -1).endswith(
        "Steps: none left. This is your last reply of the turn.\n\n"
        "To finish: answer the user in prose, without a tool call."
    )


def test_in_the_last_reply_no_call_may_be_made_and_the_tools_are_still_told() -> None:
    played = talk([SEARCH, "Half done."], max_turns=1)
    assert [request.tool_choice for request in played.requests] == [LlmToolChoice.AUTO, LlmToolChoice.NONE]
    assert played.requests[1].tools == played.requests[0].tools


def test_calls_of_the_last_reply_are_not_made_and_the_turn_ends_with_a_whole_history() -> None:
    replies = [SEARCH, calling(("search", {}, "a"), ("run_code", {"code": "x"}, "b"), text="Just one more.")]
    played = talk(replies, max_turns=1)
    assert played.outcome == stopped(TurnStopReason.MAX_TURNS)
    assert len(played.batches) == 1
    assert [(part.tool_call_id, part.content) for part in played.messages[-1].parts] == [
        ("a", REFUSED_AT_THE_END),
        ("b", REFUSED_AT_THE_END),
    ]
    assert [event.call_id for event in tool_events(played)] == ["call_1", "a", "b"]
    assert resume_problems(played.messages) == []


def test_a_limit_in_mid_batch_lets_the_batch_end() -> None:
    """All its results are there before the last reply; one of them may end the turn."""
    batch = calling(("search", {}, "a"), ("weather", {}, "b"), ("stop", {}, "c"))
    played = talk([batch, "Half done."], max_turns=1)
    assert list(said_results(played.requests[1])) == ["a", "b", "c"]
    assert played.outcome == answered("Half done.")
    ended = talk([batch], max_turns=1, tools=lambda call: gives(1, FinishControl(value=call.tool_name)))
    assert ended.outcome == Finished(finish=ToolValueFinish(tool_name="search", value="search"))


def test_a_turn_that_needs_a_value_ends_at_the_limit() -> None:
    played = talk([SEARCH], max_turns=1, protocol=value_required)
    assert played.outcome == stopped(TurnStopReason.MAX_TURNS)
    assert played.messages[-1].id == "m_code_t1_0_observation"


def test_the_reminder_is_dropped_at_the_limit() -> None:
    played = talk(["It is 3."], max_turns=1, protocol=value_required)
    assert played.outcome == stopped(TurnStopReason.MAX_TURNS)
    assert not [message for message in played.messages if message.id.endswith("_note")]


def test_what_the_user_says_at_the_last_step_is_answered_once_more() -> None:
    """The reference's own way to the last reply: something was said before the end."""
    steer = delivery(user_message("u1", "And the south?"))
    twice = [steer, delivery(user_message("u2", "And the west?"))]
    played = talk(["The north.", "The south."], max_turns=1, deliveries=twice)
    assert played.outcome == stopped(TurnStopReason.MAX_TURNS)
    played = talk(["The north.", "The south."], max_turns=1, deliveries=[steer])
    assert played.outcome == answered("The south.")
    assert last_note(played, 1).startswith("Runtime note (not from the user):\nTurn limit reached (1).")
    assert played.requests[1].tool_choice is LlmToolChoice.NONE


def test_the_limit_counts_from_the_run_offset() -> None:
    def made() -> ToolsProtocol:
        return ToolsProtocol(turn_id="t2", run_offset=5)

    played = talk([SEARCH, "Half."], protocol=made, run_offset=5, max_turns=1)
    assert played.outcome == answered("Half.")
    assert "this is step 1 of 1; 0 left" in text_of(played.requests[0], -1)
    assert played.messages[1].id == "m_code_t2_5_reply"


# -- no progress -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("through_json", [False, True])
def test_twelve_replies_of_which_no_call_succeeded_stop_the_turn(through_json: bool) -> None:
    replies = [SEARCH, calling(("search", "{")), calling(("run_code", {"code": "x"}), ("find_all", {}))] * 4
    played = talk(replies, [failed()] * 4, tools=lambda call: fails(), through_json=through_json)
    assert played.outcome == stopped(TurnStopReason.INCOMPLETE)
    assert errors(played) == ["no_progress"]
    assert (len(played.requests), played.replies_left, played.results_left) == (12, 0, 0)
    assert resume_problems(played.messages) == []


def test_one_call_that_succeeds_starts_the_count_anew() -> None:
    bad, mixed = calling(("search", {})), calling(("search", {}), ("weather", {}, "w"))

    def tools(call: PendingToolCall) -> ToolCallOutput:
        return gives("sun") if call.tool_name == "weather" else fails()

    assert talk([*[bad] * 11, mixed, *[bad] * 11, "Done."], tools=tools).outcome == answered("Done.")


def test_cancelled_calls_and_reminders_and_refused_values_are_no_progress() -> None:
    replies = [*["prose"] * 4, *[SEARCH] * 4, *[calling(("run_code", {"code": "finish('a')"}))] * 4]
    played = talk(replies, [finished("a")] * 4, tools=lambda call: cancelled(), protocol=value_required)
    assert played.outcome == stopped(TurnStopReason.INCOMPLETE)


def test_an_answer_starts_the_count_anew_and_so_does_a_turn() -> None:
    steer = [delivery()] * 11 + [delivery(user_message("u1", "Go on."))]
    first = talk([*[SEARCH] * 11, "I give up.", *[SEARCH] * 11, "Still."], tools=lambda call: fails(), deliveries=steer)
    assert first.outcome == answered("Still.")
    second = talk(
        [*[SEARCH] * 11, "No."],
        tools=lambda call: fails(),
        protocol=lambda: ToolsProtocol(turn_id="t2"),
        messages=(*first.messages, user_message("u2", "Again.")),
        events=first.events,
    )
    assert second.outcome == answered("No.")


# -- restore anywhere --------------------------------------------------------------------------------------------------

SEALED = ProviderReasoningReplay(signature="s1")
RICH = reply(
    "I look.",
    parts=(
        ReasoningOutput(text="hm", replay=SEALED),
        TextOutput(text="I look.", response_meta=ResponseTextMeta(provider_payload="p")),
        ToolCallOutputPart(call_id="", tool_name="search", input_json='{"q": 1}'),
        ToolCallOutputPart(call_id="", tool_name="search", input_json="{"),
        ReasoningOutput(text="then", replay=SEALED),
        ToolCallOutputPart(call_id="x", tool_name="run_code", input_json='{"code": "y"}'),
    ),
)
REPLIES = st.sampled_from(
    [
        "Done.",
        reply(""),
        RICH,
        SEARCH,
        calling(("search", {}, "same"), ("weather", {}, "same"), ("stop", {}, "same")),
        calling(("search", "["), ("find_all", {})),
        calling(("run_code", {"code": "a"}), ("stop", {}, "s"), ("run_code", {"code": "b"}, "r")),
        calling(*(("search", {"q": number}, f"n{number}") for number in range(27))),
    ]
)
RESULTS = st.sampled_from([shown("1"), shown(), failed(), finished(3), finished(None), finished("a"), "policy: no."])
OUTPUTS = st.sampled_from(
    [
        gives("text"),
        gives({"a": [1]}),
        gives(""),
        fails(),
        fails("no", FinishControl(value=1)),
        cancelled(),
        gives(1, FinishControl(value=None)),
        gives(1, SwitchAgentFrameControl(frame_id="f")),
        gives(1, SwitchAgentFrameControl(frame_id="f", task="Go.")),
    ]
)
PROTOCOLS = st.sampled_from(
    [value_required, lambda: ToolsProtocol(turn_id="t1"), lambda: ToolsProtocol(turn_id="t1", no_progress_limit=3)]
)
MORE = [delivery(), delivery(user_message("u1", "More."))]


def _playing(outputs: Sequence[ToolCallOutput], *replies: Any, through_json: bool, **options: Any) -> Played:
    left = iter(outputs)
    return talk(*replies, **options, through_json=through_json, tools=lambda call: next(left, gives("more")))


@settings(max_examples=60, deadline=None)
@given(
    replies=st.lists(REPLIES, min_size=6, max_size=6),
    results=st.lists(RESULTS, min_size=12, max_size=12),
    outputs=st.lists(OUTPUTS, max_size=12),
    max_turns=st.integers(1, 5),
    protocol=PROTOCOLS,
    deliveries=st.lists(st.sampled_from(MORE), max_size=3),
)
def test_any_turn_is_the_same_when_it_is_restored_at_every_step(
    replies: list[LlmResponse | str],
    results: list[ExecResponse | str],
    outputs: list[ToolCallOutput],
    max_turns: int,
    protocol: Callable[[], ToolsProtocol],
    deliveries: list[CheckpointDelivery],
) -> None:
    options: dict[str, Any] = {"max_turns": max_turns, "protocol": protocol, "deliveries": deliveries}
    whole = _playing(outputs, replies, results, through_json=False, **options)
    assert _playing(outputs, replies, results, through_json=True, **options) == whole
    assert whole.outcome is not None
    # Each call is answered once, and every request is one that providers take and that begins like the one before.
    assert resume_problems(whole.messages) == []
    assert [problem for request in whole.requests for problem in provider_problems(request)] == []
    assert prefix_problems(whole.requests) == []
    ids = [message.id for message in whole.messages if message.id != "u1"]
    assert len(set(ids)) == len(ids)
    own = [record.message.id for record in whole.events if isinstance(record, Conversation)]
    assert [message.id for message in whole.messages if message.id in own] == own
    assert len(whole.batches) <= max_turns


def test_what_was_refused_is_known_after_a_restore() -> None:
    replies = [RICH, calling(("run_code", {"code": "finish(3)"}, "z"))]
    played = talk(replies, [shown("1"), finished(3)], through_json=True, protocol=value_required)
    assert played.outcome == Finished(finish=FinalValue(value=3))
    results = said_results(played.requests[1])
    assert list(results) == ["call_t1_0_0", "call_t1_0_1", "x"]
    assert results["call_t1_0_1"].startswith("error: this call was not made. Its arguments cannot be read: ")
    assert decisions(played) == ["call", "call"]
    assert played.checkpoints == [CheckpointKind.AFTER_WORK, CheckpointKind.BEFORE_COMPLETION]
