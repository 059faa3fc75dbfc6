"""Turns of the code protocol at their bounds, interrupted by the user, and restored at every step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lash_nb.machine.checkpoints import CheckpointDelivery
from lash_nb.machine.events import (
    Conversation,
)
from lash_nb.machine.execution import ExecResponse
from lash_nb.machine.llm import (
    LlmResponse,
)
from lash_nb.machine.outcomes import (
    FinalValue,
    Finished,
    TurnStopReason,
)
from lash_nb.protocols.code import CodeProtocol

from .canned import answered, cell, errors, failed, finished, last_note, required, shown, stopped
from .loop import delivery, play, prefix_problems, reply, text_of, user_message

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
    played = play(replies, [finished("a")] * 6, protocol=required)
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


# -- restore anywhere --------------------------------------------------------------------------------------------------

SCRIPTS: list[tuple[Sequence[LlmResponse | str], Sequence[ExecResponse | str], dict[str, Any]]] = [
    (["Just prose."], [], {}),
    ([cell("a", "I look."), cell("b"), "Done."], [shown("1", "2"), failed()], {}),
    ([cell("a") + "more", "<lash-cell>\nx", cell("finish(None)")], [shown(), finished(None)], {}),
    ([cell("a"), cell("b")], [shown("1"), shown("2")], {"max_turns": 1}),
    (["It is 3.", cell("finish('a')"), cell("finish(3)")], [finished("a"), finished(3)], {"protocol": required}),
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
        [required, lambda: CodeProtocol(turn_id="t1"), lambda: CodeProtocol(turn_id="t1", no_progress_limit=3)]
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
    assert prefix_problems(whole.requests) == []
    assert len({message.id for message in whole.messages if message.id != "u1"}) == len(
        [message for message in whole.messages if message.id != "u1"]
    )
    # Conversation records of the events are, in order, the protocol's own messages.
    own = [record.message.id for record in whole.events if isinstance(record, Conversation)]
    assert [message.id for message in whole.messages if message.id in own] == own
