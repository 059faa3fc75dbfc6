"""Calls as models really write them: broken arguments, unknown tools, too many at once, ids that are none."""

from __future__ import annotations

import pytest

from lash_nb.machine.llm import ToolCallOutputPart
from lash_nb.machine.messages import PartKind
from lash_nb.machine.outcomes import Finished, ToolValueFinish
from lash_nb.machine.tool_calls import FinishControl, ToolFailed
from lash_nb.models.scripted import ScriptedCall, calling
from lash_nb.protocols.tool_prompt import NO_RESULT
from lash_nb.protocols.tools import ToolsProtocol

from .canned import answered, shown
from .loop import reply, user_message
from .tool_talk import (
    fails,
    gives,
    provider_problems,
    resume_problems,
    said_calls,
    said_results,
    talk,
    tool_events,
)

DEEP = "[" * 100_000 + "]" * 100_000
READABLE = "They are to be one JSON object."


@pytest.mark.parametrize(
    ("sent", "told"),
    [
        (
            '{"q": 1',
            f"""this is not JSON (Expecting ',' delimiter: line 1 column 8 (char 7)). {READABLE}\n\
What was sent to search:\n~~~\n{{"q": 1\n~~~""",
        ),
        ('["q"]', f'this is an array. {READABLE}\nWhat was sent to search:\n~~~\n["q"]\n~~~'),
        ('"q"', f'this is a string. {READABLE}\nWhat was sent to search:\n~~~\n"q"\n~~~'),
        ("null", f"this is null. {READABLE}\nWhat was sent to search:\n~~~\nnull\n~~~"),
        ("1.5", f"this is a number. {READABLE}\nWhat was sent to search:\n~~~\n1.5\n~~~"),
        ("", f"there is nothing (a call without arguments has {{}}). {READABLE}"),
        ('{"q": NaN}', f'NaN is not JSON. {READABLE}\nWhat was sent to search:\n~~~\n{{"q": NaN}}\n~~~'),
        (
            '{"q": 1e999}',
            f'NaN and infinities are not JSON. {READABLE}\nWhat was sent to search:\n~~~\n{{"q": 1e999}}\n~~~',
        ),
        (
            '{"q": ' + "[" * 100 + "]" * 100 + "}",
            f"they are nested more than 100 levels deep. {READABLE}\nWhat was sent to search:\n~~~\n"
            '{"q": ' + "[" * 100 + "]" * 100 + "}\n~~~",
        ),
        (
            DEEP,
            f"this JSON is nested too deeply. {READABLE}\nWhat was sent to search:\n~~~\n"
            + "[" * 4_000
            + "\n[… 200,000 characters in all]\n~~~",
        ),
    ],
    ids=["broken", "list", "string", "null", "number", "nothing", "nan", "infinity", "deep", "very deep"],
)
def test_a_call_with_arguments_that_are_no_object_is_not_made(sent: str, told: str) -> None:
    played = talk([calling(("search", sent)), "Done."])
    assert played.batches == []
    assert said_calls(played.requests[1]) == [("call_1", "search", "{}")]
    head = "error: this call was not made. Its arguments cannot be read: "
    assert said_results(played.requests[1]) == {"call_1": head + told}
    [event] = tool_events(played)
    assert isinstance(event.output.outcome, ToolFailed)
    assert (event.name, event.args, event.output.outcome.payload.code) == ("search", {}, "bad_arguments")
    assert played.outcome == answered("Done.")


def test_arguments_nested_as_deep_as_may_be_are_sent_on() -> None:
    deep = '{"q": ' + "[" * 99 + "]" * 99 + "}"
    played = talk([calling(("search", deep)), "Done."], through_json=True)
    assert said_calls(played.requests[1]) == [("call_1", "search", deep)]
    assert len(played.batches) == 1


def test_the_other_calls_of_the_reply_are_made() -> None:
    replies = [
        calling(("search", "{", "a"), ("search", {"q": 1}, "b"), ("find_all", {}, "c"), ("weather", {}, "d")),
        "Done.",
    ]
    played = talk(replies)
    assert [call.call_id for call in played.batches[0]] == ["b", "d"]
    results = said_results(played.requests[1])
    assert list(results) == ["a", "b", "c", "d"]
    assert results["b"] == '~~~\nsearch {"q":1}\n~~~'
    assert results["c"] == (
        "error: this call was not made. No tool is called 'find_all'. There are: run_code, search, weather, stop."
    )
    assert [event.call_id for event in tool_events(played)] == ["a", "c", "b", "d"]


def test_a_refused_call_has_no_say_in_how_the_turn_ends() -> None:
    replies = [calling(("stop", "[]", "a"), ("stop", {}, "b"))]
    played = talk(replies, tools=lambda call: gives(1, FinishControl(value=call.call_id)))
    assert played.outcome == Finished(finish=ToolValueFinish(tool_name="stop", value="b"))


def test_the_arguments_stay_as_they_were_written() -> None:
    sent = ' {"b": 1.50, "a": "\\u00e9"} '
    played = talk([calling(("search", sent)), "Done."])
    assert said_calls(played.requests[1]) == [("call_1", "search", sent)]
    assert played.batches[0][0].args == {"a": "é", "b": 1.5}


@pytest.mark.parametrize(
    ("name", "kept"), [("", "unnamed"), ("web.search", "web_search"), ("x" * 200, "x" * 64), ("tools/é", "tools__")]
)
def test_an_unknown_tool_is_kept_under_a_name_that_providers_take_back(name: str, kept: str) -> None:
    played = talk([calling((name, {})), "Done."])
    assert said_calls(played.requests[1]) == [("call_1", kept, "{}")]
    assert f"No tool is called {name[:100]!r}." in said_results(played.requests[1])["call_1"]


def test_a_tool_that_was_not_offered_is_unknown_even_if_it_is_one_of_another_turn() -> None:
    played = talk([calling(("search", {})), "Done."], specs=())
    assert said_results(played.requests[1]) == {
        "call_1": "error: this call was not made. No tool is called 'search'. There are: run_code."
    }


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({}, 'run_code takes one argument, "code", and that is a string.'),
        ({"code": 1}, 'run_code takes one argument, "code", and that is a string.'),
        ({"code": "x", "timeout": 3}, "run_code takes \"code\" and nothing else; it does not know 'timeout'."),
        ({"code": " \n"}, "The code is empty."),
    ],
)
def test_a_cell_has_code_and_nothing_else(args: dict[str, object], told: str) -> None:
    played = talk([calling(("run_code", args)), "Done."])
    assert played.batches == []
    assert said_results(played.requests[1]) == {"call_1": f"error: this call was not made. {told}"}


# -- how many ----------------------------------------------------------------------------------------------------------


def test_of_26_calls_25_are_made() -> None:
    calls = [("search", {"q": number}, f"c{number}") for number in range(26)]
    played = talk([calling(*calls), "Done."])
    assert [call.call_id for call in played.batches[0]] == [f"c{number}" for number in range(25)]
    results = said_results(played.requests[1])
    assert len(results) == 26
    assert results["c25"] == (
        "error: this call was not made. Of one reply 25 calls at most are made, and so many came before it. If it is "
        "still needed, make it in your next reply."
    )
    assert resume_problems(played.messages) == []


def test_calls_that_are_not_made_do_not_count() -> None:
    calls: list[ScriptedCall] = [("find_all", {}, "wrong"), *(("search", {}, f"c{number}") for number in range(25))]
    played = talk([calling(*calls), "Done."])
    assert len(played.batches[0]) == 25


def test_of_a_reply_that_has_lost_its_mind_the_first_100_calls_are_kept() -> None:
    played = talk([calling(*(("search", {"q": number}, f"c{number}") for number in range(3_000))), "Done."])
    assert len(played.batches[0]) == 25
    results = said_results(played.requests[1])
    assert list(results) == [f"c{number}" for number in range(100)]
    assert results["c98"].startswith("error: this call was not made. Of one reply 25 calls at most are made")
    assert results["c99"] == (
        "error: this call was not made. There were far too many calls in one reply, and the 2,900 behind it are not "
        "even kept."
    )
    assert resume_problems(played.messages) == []


def test_the_tools_there_are_are_listed_once_a_reply() -> None:
    played = talk([calling(("find_all", {}, "a"), ("find", {}, "b")), "Done."])
    assert said_results(played.requests[1]) == {
        "a": "error: this call was not made. No tool is called 'find_all'. There are: run_code, search, weather, stop.",
        "b": "error: this call was not made. No tool is called 'find'.",
    }


# -- ids ---------------------------------------------------------------------------------------------------------------


def test_the_same_id_twice_in_a_reply_becomes_two() -> None:
    replies = [
        calling(("search", {"q": 1}, "a"), ("search", {"q": 2}, "a"), ("search", {"q": 3}, "call_t1_0_1")),
        "Done.",
    ]
    played = talk(replies)
    assert [call.call_id for call in played.batches[0]] == ["a", "call_t1_0_1_1", "call_t1_0_1"]
    assert said_results(played.requests[1]) == {
        "a": '~~~\nsearch {"q":1}\n~~~',
        "call_t1_0_1_1": '~~~\nsearch {"q":2}\n~~~',
        "call_t1_0_1": '~~~\nsearch {"q":3}\n~~~',
    }


@pytest.mark.parametrize("blank", ["", "  ", "cell_m_code_t1_0_reply", "a/c1", "x" * 200, "a\x1b[2J", "\ud800"])
def test_an_id_that_is_none_or_ours_is_replaced(blank: str) -> None:
    played = talk([calling(("search", {}, blank)), "Done."])
    assert [call.call_id for call in played.batches[0]] == ["call_t1_0_0"]


def test_an_id_that_the_conversation_has_already_is_replaced() -> None:
    first = talk([calling(("search", {})), calling(("search", {})), "Done."])
    assert [call.call_id for batch in first.batches for call in batch] == ["call_1", "call_t1_1_0"]
    second = talk(
        [calling(("search", {})), "Also done."],
        protocol=lambda: ToolsProtocol(turn_id="t2"),
        messages=(*first.messages, user_message("u1", "Again.")),
        events=first.events,
    )
    assert [call.call_id for batch in second.batches for call in batch] == ["call_t2_0_0"]
    assert resume_problems(second.messages) == []
    assert provider_problems(second.requests[-1]) == []


def test_new_ids_are_made_of_letters_that_providers_take() -> None:
    played = talk([calling(("search", {}, "")), "Done."], protocol=lambda: ToolsProtocol(turn_id="turn:1/é"))
    assert [call.call_id for call in played.batches[0]] == ["call_turn_1___0_0"]


# -- a batch that was never answered -----------------------------------------------------------------------------------


def test_a_call_of_a_turn_that_broke_off_is_answered_with_what_is_known() -> None:
    begun = talk([calling(("search", {}), ("weather", {}, "w"), text="I look."), "Done."])
    left = begun.messages[:2]
    assert resume_problems(left) != []
    after = talk(
        ["Sorry."],
        protocol=lambda: ToolsProtocol(turn_id="t2"),
        messages=(*left, user_message("u1", "What happened?")),
    )
    [request] = after.requests
    assert said_results(request) == {"call_1": NO_RESULT, "w": NO_RESULT}
    assert provider_problems(request) == []
    assert request.messages[4].blocks[0].text == "What happened?"  # type: ignore[union-attr]


def test_a_reply_with_calls_is_one_message() -> None:
    call = ToolCallOutputPart(call_id="a", tool_name="search", input_json="{}")
    played = talk([reply("I look.", parts=(call,)), "Done."], tools=lambda call: fails())
    assert [part.kind for part in played.messages[1].parts] == [PartKind.PROSE, PartKind.TOOL_CALL]


def test_cells_and_tools_of_one_reply_are_one_batch() -> None:
    replies = [
        calling(("run_code", {"code": "1"}, "a"), ("search", {}, "b"), ("run_code", {"code": "2"}, "c")),
        "Done.",
    ]
    played = talk(replies, [shown("1"), shown("2")])
    assert [call.tool_name for call in played.batches[0]] == ["run_code", "search", "run_code"]
    assert said_results(played.requests[1]) == {
        "a": "output[0] (1 char, 1 line)\n~~~\n1\n~~~",
        "b": "~~~\nsearch {}\n~~~",
        "c": "output[0] (1 char, 1 line)\n~~~\n2\n~~~",
    }
