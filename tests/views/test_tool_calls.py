"""Calls in the views: those that the model makes itself, those of its cells, and one that waits for approval."""

from __future__ import annotations

from typing import Any

import pytest

from lash_nb.machine.activity import ApprovalAsked
from lash_nb.machine.approvals import Approval, EffectKind, Wish
from lash_nb.machine.events import CodeBlockStarted, LlmRequestEvent, ToolCallEvent, ToolCallStart, TurnStarted
from lash_nb.machine.picture import StepPicture, ToolCallPicture, TurnPicture
from lash_nb.machine.tool_calls import ToolCallOutput, ToolSucceeded
from lash_nb.machine.wire import Json
from lash_nb.views.document import document
from lash_nb.views.html import picture_html, step_calls, tool_call_text
from lash_nb.views.text import picture_markdown, picture_text

BEGUN = TurnPicture().apply(TurnStarted(turn=1, request="Pay.", model="m", protocol="tools"))
REQUEST = LlmRequestEvent(protocol_iteration=0, message_count=0, tool_list="")


def asking(target: str) -> TurnPicture:
    wish = Wish(kind=EffectKind.CALL, target=target)
    approval = Approval(id="call-3-c", effect_id=3, code=target, wish=wish, call_id="c")
    return BEGUN.apply(REQUEST).apply(ApprovalAsked(approval=approval))


def test_a_call_that_waits_stands_in_the_question() -> None:
    picture = asking('pay({"n":1})')
    question = 'Waiting for you: The agent wants to call pay({"n":1}).'
    assert picture_text(picture).count("pay(") == 1
    assert question in picture_text(picture)
    assert picture_html(picture).count("pay(") == 1
    ask = document(picture)["ask"]
    assert (ask["question"], ask["target"], ask["of_cell"]) == (
        'The agent wants to call pay({"n":1}).',
        "",
        False,
    )
    assert ask["covers"] == "“Approve all like it” lets this turn also call pay again, whatever the arguments."


def test_of_a_long_call_all_can_be_read() -> None:
    target = f'pay({{"text":"{"abc " * 4_000}END"}})'
    picture = asking(target)
    assert f"    {target}" in picture_text(picture)
    assert target in picture_markdown(picture)
    assert "END&quot;})</code>" in picture_html(picture)
    ask = document(picture)["ask"]
    assert ask["question"] == f"The agent wants to make this call ({len(target):,} characters):"
    assert ask["target"] == target
    assert str(ask["brief"]).startswith('pay({"text":"abc ')


@pytest.mark.parametrize(
    ("args", "line"),
    [
        ({}, "pay({}): done"),
        ({"n": 1, "why": "é\n"}, 'pay({"n": 1, "why": "é\\n"}): done'),
        ("no JSON\n{", "pay(no JSON {): done"),
        (None, "pay(null): done"),
    ],
)
def test_a_call_is_one_line(args: Json, line: str) -> None:
    assert tool_call_text(ToolCallPicture(call_id="c", name="pay", args=args, succeeded=True)) == line


def test_a_problem_of_several_lines_is_one() -> None:
    call = ToolCallPicture(call_id="c", name="pay", args={}, succeeded=False, problem="n: too small\n  why: missing")
    assert tool_call_text(call) == "pay({}): failed: n: too small why: missing"


def made(call_id: str) -> ToolCallPicture:
    return ToolCallPicture(call_id=call_id, name="look", args={}, succeeded=True)


@pytest.mark.parametrize(
    ("step", "own", "of_cell"),
    [
        (StepPicture(tool_calls=(made("a"), made("b"))), ["a", "b"], []),
        (StepPicture(code="1", call_id="x", tool_calls=(made("a"), made("x/c1"))), ["a"], ["x/c1"]),
        (StepPicture(code="1", tool_calls=(made("c1"),)), [], ["c1"]),
    ],
)
def test_whose_a_call_is(step: StepPicture, own: list[str], of_cell: list[str]) -> None:
    assert [[call.call_id for call in calls] for calls in step_calls(step)] == [own, of_cell]


def test_blocks_of_calls_stand_before_and_behind_the_cell() -> None:
    picture = BEGUN.apply(REQUEST)
    picture = picture.apply(ToolCallStart(call_id="a", name="pay", args={"n": 1}))
    picture = picture.apply(CodeBlockStarted(effect_id=3, call_id="x", language="python", code="1"))
    output = ToolCallOutput(outcome=ToolSucceeded(payload=2))
    picture = picture.apply(ToolCallEvent(call_id="x/c1", name="look", args={}, output=output, duration_ms=1))
    blocks = document(picture)
    assert [key for key in blocks if key.startswith("s1.") and "." not in key[3:]] == [
        "s1.m",
        "s1.m0",
        "s1.c",
        "s1.k",
        "s1.k0",
    ]
    assert (blocks["s1.m0"]["state"], blocks["s1.m0"]["head"]) == ("running", 'pay({"n": 1}): not ended')
    assert (blocks["s1.k0"]["state"], blocks["s1.k0"]["in"]) == ("done", "s1.k")


def test_what_a_call_of_the_models_own_gave_is_in_its_line_in_short() -> None:
    output = ToolCallOutput(outcome=ToolSucceeded(payload={"rows": [1, 2], "text": "x" * 1_000}))
    done: dict[str, Any] = {"name": "look", "args": {}, "output": output, "duration_ms": 1}
    picture = BEGUN.apply(REQUEST).apply(ToolCallEvent(call_id="a", **done))
    picture = picture.apply(CodeBlockStarted(effect_id=3, call_id="x", language="python", code="1"))
    picture = picture.apply(ToolCallEvent(call_id="x/c1", **done))
    head, tail = 'look({}): done, gave {"rows":[1,2],"text":"xxx', "x … (1,024 characters)"
    (line,) = [line for line in picture_text(picture).splitlines() if "gave" in line]
    assert line.startswith(f"    {head}")
    assert line.endswith(tail)
    assert picture_html(picture).count("gave") == picture_markdown(picture).count("gave") == 1
    blocks = document(picture)
    assert str(blocks["s1.m0"]["head"]).startswith(head)
    assert blocks["s1.k0"]["head"] == "look({}): done"
