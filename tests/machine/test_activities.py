"""Activity as it is written down: the types are frozen, and what is written folds to the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lash_nb.errors import DecodeError
from lash_nb.machine.activities import TURN_ACTIVITY, Told
from lash_nb.machine.activity import ApprovalAsked, ApprovalDecided, VariableSeen, VariablesSeen
from lash_nb.machine.approvals import Approval, Decision, EffectKind, Verdict, Wish
from lash_nb.machine.attachments import AttachmentRef
from lash_nb.machine.events import (
    CallPrice,
    CellOutputs,
    CodeBlockCompleted,
    CodeBlockStarted,
    CodeDelta,
    LlmRequestEvent,
    LlmResponseEvent,
    MessageEvent,
    ReasoningDelta,
    RetryStatus,
    TextDelta,
    TurnActivity,
    TurnOutcomeEvent,
    TurnStarted,
)
from lash_nb.machine.execution import (
    NAMESPACE,
    CellOutcome,
    CellOutput,
    DisplayOutput,
    ErrorOutput,
    NamespaceSummary,
    ResultOutput,
    StreamOutput,
    VariableSummary,
)
from lash_nb.machine.outcomes import AssistantMessage, Finished, Stopped, SubmittedError
from lash_nb.machine.picture import TurnPicture
from lash_nb.machine.wire import dumps, loads

from ..views.turns import stdout
from .values import of

# -- the form ----------------------------------------------------------------------------------------------------------

PNG = AttachmentRef(id="sha256:ab", media_type="image/png", byte_len=4)
WRITTEN: list[tuple[TurnActivity, str]] = [
    (TextDelta(content="a"), '{"type":"text_delta","content":"a"}'),
    (
        TurnStarted(turn=1, request="Go.", model="m"),
        '{"type":"turn_started","turn":1,"request":"Go.","model":"m"}',
    ),
    (
        TurnStarted(turn=1, request="Go.", model="m", protocol="snippet"),
        '{"type":"turn_started","turn":1,"request":"Go.","model":"m","protocol":"snippet"}',
    ),
    (CodeDelta(content="x"), '{"type":"code_delta","content":"x"}'),
    (
        CodeBlockStarted(effect_id=2, language="python", code="x"),
        '{"type":"code_block_started","effect_id":2,"language":"python","code":"x"}',
    ),
    (
        CellOutputs(
            effect_id=2,
            outputs=(
                StreamOutput(name="stdout", head="a"),
                StreamOutput(name="stderr", head="a", tail="z", omitted_chars=9, omitted_lines=2, spilled=PNG),
                DisplayOutput(data={"text/plain": "d", "application/json": {"b": 1, "a": None}}, metadata={}),
                DisplayOutput(data={}, metadata={"m": 1.0}, display_id="i"),
            ),
        ),
        '{"type":"cell_outputs","effect_id":2,"outputs":[{"type":"stream","name":"stdout","head":"a"},'
        '{"type":"stream","name":"stderr","head":"a","tail":"z","omitted_chars":9,"omitted_lines":2,'
        '"spilled":{"id":"sha256:ab","media_type":"image/png","byte_len":4}},'
        '{"type":"display_data","data":{"application/json":{"a":null,"b":1},"text/plain":"d"},"metadata":{}},'
        '{"type":"display_data","data":{},"metadata":{"m":1.0},"display_id":"i"}]}',
    ),
    (
        CodeBlockCompleted(
            effect_id=2,
            outcome=CellOutcome.ERROR,
            outputs=(
                ResultOutput(data={"text/plain": "1"}, metadata={}, execution_count=3),
                ErrorOutput(ename="E", evalue="v"),
                ErrorOutput(ename="E", evalue="v", traceback=("a", "b")),
            ),
            duration_ms=5,
            detail="why",
        ),
        '{"type":"code_block_completed","effect_id":2,"outcome":"error","outputs":['
        '{"type":"execute_result","data":{"text/plain":"1"},"metadata":{},"execution_count":3},'
        '{"type":"error","ename":"E","evalue":"v"},{"type":"error","ename":"E","evalue":"v","traceback":["a","b"]}],'
        '"duration_ms":5,"detail":"why"}',
    ),
    (CallPrice(dollars=0.5, as_of="2025-01-01"), '{"type":"call_price","dollars":0.5,"as_of":"2025-01-01"}'),
    (
        ApprovalAsked(approval=Approval(id="cell-3", effect_id=3, code="x", language="r")),
        '{"type":"approval_asked","approval":{"id":"cell-3","effect_id":3,"code":"x","language":"r"}}',
    ),
    (
        ApprovalDecided(
            approval=Approval(id="e", effect_id=3, code="x", wish=Wish(kind=EffectKind.CONNECT, target="h:1")),
            decision=Decision(verdict=Verdict.REJECTED, why="no", by_policy=True),
        ),
        '{"type":"approval_decided","approval":{"id":"e","effect_id":3,"code":"x",'
        '"wish":{"kind":"connect to","target":"h:1"}},"decision":{"verdict":"rejected","why":"no","by_policy":true}}',
    ),
    (
        ApprovalDecided(approval=Approval(id="e", effect_id=3, code="x"), decision=Decision.edit("y")),
        '{"type":"approval_decided","approval":{"id":"e","effect_id":3,"code":"x"},'
        '"decision":{"verdict":"edited","code":"y"}}',
    ),
    (
        VariablesSeen(
            variables=(VariableSeen(name="a", type="int"), VariableSeen(name="b", type="T", detail="d", new=False))
        ),
        '{"type":"variables_seen","variables":[{"name":"a","type":"int"},'
        '{"name":"b","type":"T","detail":"d","new":false}]}',
    ),
]


@pytest.mark.parametrize(("activity", "text"), WRITTEN, ids=lambda value: type(value).__name__)
def test_the_form_is_frozen(activity: TurnActivity, text: str) -> None:
    assert dumps(TURN_ACTIVITY.encode(activity)) == text
    assert TURN_ACTIVITY.decode(loads(text)) == activity


def test_the_form_of_a_namespace_is_frozen() -> None:
    frame = VariableSummary(
        name="df", type="DataFrame", detail="3 rows", preview="a", changed=True, columns=(("a", "i8"), ("b", "f8"))
    )
    summary = NamespaceSummary(variables=(VariableSummary(name="x", type="int"), frame), omitted=4, removed=("y",))
    text = (
        '{"variables":[{"name":"x","type":"int"},{"name":"df","type":"DataFrame","detail":"3 rows","preview":"a",'
        '"changed":true,"columns":[["a","i8"],["b","f8"]]}],"omitted":4,"removed":["y"]}'
    )
    assert dumps(NAMESPACE.encode(summary)) == text
    assert NAMESPACE.decode(loads(text)) == summary
    assert NAMESPACE.decode({"variables": []}) == NamespaceSummary()


def test_unknown_fields_are_ignored_and_a_whole_number_is_a_price() -> None:
    assert TURN_ACTIVITY.decode({"type": "code_delta", "content": "x", "later": [1]}) == CodeDelta(content="x")
    assert TURN_ACTIVITY.decode({"type": "call_price", "dollars": 2, "as_of": "d"}) == CallPrice(dollars=2.0, as_of="d")
    output = {"type": "display_data", "data": {}, "transient": {}}
    assert TURN_ACTIVITY.decode({"type": "cell_outputs", "effect_id": 1, "outputs": [output]}) == CellOutputs(
        effect_id=1, outputs=(DisplayOutput(data={}, metadata={}),)
    )


REFUSED: dict[str, tuple[Any, str]] = {
    "another type": ({"type": "later"}, "type"),
    "a price that is none": ({"type": "call_price", "dollars": "2", "as_of": "d"}, "dollars"),
    "a price that is true": ({"type": "call_price", "dollars": True, "as_of": "d"}, "dollars"),
    "another output": ({"type": "cell_outputs", "effect_id": 1, "outputs": [{"type": "x"}]}, "outputs[0].type"),
    "another stream": (
        {"type": "cell_outputs", "effect_id": 1, "outputs": [{"type": "stream", "name": "stdin", "head": ""}]},
        "outputs[0].name",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    value, path = REFUSED[name]
    with pytest.raises(DecodeError) as refusal:
        TURN_ACTIVITY.decode(value)
    assert refusal.value.path == path


def test_a_column_is_a_name_and_a_dtype() -> None:
    with pytest.raises(DecodeError) as refusal:
        NAMESPACE.decode({"variables": [{"name": "x", "type": "t", "columns": [["a"]]}]})
    assert refusal.value.path == "variables[0].columns[0]"


# -- what is written ---------------------------------------------------------------------------------------------------


def taken(*activities: TurnActivity) -> list[TurnActivity]:
    told = Told()
    for activity in activities:
        told.add(activity)
    return [TURN_ACTIVITY.decode(one) for one in told.take()]


def outputs(effect_id: int, text: str) -> CellOutputs:
    return CellOutputs(effect_id=effect_id, outputs=(stdout(text),))


def started(effect_id: int) -> CodeBlockStarted:
    return CodeBlockStarted(effect_id=effect_id, language="python", code="x")


def ended(effect_id: int) -> CodeBlockCompleted:
    return CodeBlockCompleted(effect_id=effect_id, outcome=CellOutcome.OK, outputs=(stdout("all"),), duration_ms=1)


def test_neighbouring_pieces_of_one_kind_are_written_in_one() -> None:
    text, thought, code = (kind(content="a") for kind in (TextDelta, ReasoningDelta, CodeDelta))
    assert taken(text, text, thought, thought, thought, code, text, code, code) == [
        TextDelta(content="aa"),
        ReasoningDelta(content="aaa"),
        code,
        text,
        CodeDelta(content="aa"),
    ]
    retried = RetryStatus(wait_seconds=1, attempt=2, max_attempts=3, reason="r")
    assert taken(text, retried, text) == [text, retried, text]


def test_outputs_that_were_replaced_are_not_written() -> None:
    said = TextDelta(content="a")
    assert taken(started(1), outputs(1, "a"), said, outputs(1, "ab")) == [started(1), said, outputs(1, "ab")]
    assert taken(outputs(1, "a"), outputs(2, "b"), ended(1)) == [outputs(2, "b"), ended(1)]
    # What stood between two pieces of text is gone: they are neighbours.
    assert taken(outputs(1, "a"), outputs(1, "b"), said) == [outputs(1, "b"), said]
    assert taken(said, outputs(1, "a"), outputs(1, "b"), said) == [said, outputs(1, "b"), said]


def test_outputs_of_another_run_of_a_cell_replace_nothing() -> None:
    """After a restore the same effect is performed again, and another turn counts its effects from 1."""
    again: list[TurnActivity] = [started(1), outputs(1, "a"), started(1), outputs(1, "b")]
    assert taken(*again) == again
    begun = TurnStarted(turn=2, request="r", model="m")
    assert taken(outputs(1, "a"), begun, ended(1)) == [outputs(1, "a"), begun, ended(1)]


def test_what_was_taken_is_gone_and_replaces_nothing_any_more() -> None:
    told = Told()
    assert not told
    told.add(outputs(1, "a"))
    assert told
    assert told.take() == [TURN_ACTIVITY.encode(outputs(1, "a"))]
    assert not told
    assert told.take() == []
    told.add(outputs(1, "ab"))
    assert told.take() == [TURN_ACTIVITY.encode(outputs(1, "ab"))]


def test_what_was_given_back_is_taken_again_before_what_came_since() -> None:
    told = Told()
    told.add(outputs(1, "a"))
    told.add(TextDelta(content="b"))
    told.take()
    told.give_back()
    told.add(TextDelta(content="c"))
    told.add(outputs(1, "ab"))
    assert [TURN_ACTIVITY.decode(one) for one in told.take()] == [TextDelta(content="bc"), outputs(1, "ab")]
    told.add(outputs(2, "later"))
    told.give_back()
    assert [TURN_ACTIVITY.decode(one) for one in told.take()] == [
        TextDelta(content="bc"),
        outputs(1, "ab"),
        outputs(2, "later"),
    ]


def test_what_cannot_be_written_is_still_there() -> None:
    told = Told()
    told.add(TextDelta(content="a"))
    told.add(CellOutputs(effect_id=1, outputs=(DisplayOutput(data={"application/json": float("nan")}, metadata={}),)))
    with pytest.raises(DecodeError):
        told.take()
    told.add(outputs(1, "b"))
    assert [TURN_ACTIVITY.decode(one) for one in told.take()] == [TextDelta(content="a"), outputs(1, "b")]


PIECES = st.sampled_from(["", "a", "b\n"])
SHOWN: list[CellOutput] = [stdout("a"), stdout("b"), ErrorOutput(ename="E", evalue="v")]
OUTPUTS = st.lists(st.sampled_from(SHOWN), max_size=2).map(tuple)
IDS = st.integers(1, 2)
HAPPENED: st.SearchStrategy[TurnActivity] = st.one_of(
    st.builds(TextDelta, content=PIECES),
    st.builds(ReasoningDelta, content=PIECES),
    st.builds(CodeDelta, content=PIECES),
    st.builds(CellOutputs, effect_id=IDS, outputs=OUTPUTS),
    st.builds(CellOutputs, effect_id=IDS, outputs=OUTPUTS),
    st.builds(started, IDS),
    st.builds(ended, IDS),
    st.sampled_from(
        [
            LlmRequestEvent(protocol_iteration=0, message_count=1, tool_list=""),
            LlmResponseEvent(protocol_iteration=0, content="", duration_ms=0),
            MessageEvent(text="x", kind="python_code"),
            RetryStatus(wait_seconds=1, attempt=2, max_attempts=3, reason="r"),
            TurnOutcomeEvent(outcome=Finished(finish=AssistantMessage(text="a"))),
        ]
    ),
    st.builds(TurnStarted, turn=st.integers(1, 3), request=PIECES, model=PIECES),
)


def fold(activities: Sequence[TurnActivity]) -> TurnPicture:
    return reduce(TurnPicture.apply, activities, TurnPicture())


def written(activities: Sequence[TurnActivity], takes: Sequence[bool]) -> list[TurnActivity]:
    told, texts = Told(), []
    for activity, take in zip(activities, [*takes, *[False] * len(activities)], strict=False):
        told.add(activity)
        if take:
            texts += [dumps(one) for one in told.take()]
    texts += [dumps(one) for one in told.take()]
    return [TURN_ACTIVITY.decode(loads(text)) for text in texts]


def lasting(activities: Sequence[TurnActivity]) -> list[TurnActivity]:
    """All but what may become fewer, in order."""
    return [one for one in activities if not isinstance(one, (TextDelta, ReasoningDelta, CodeDelta, CellOutputs))]


@settings(deadline=None, max_examples=300)
@given(activities=st.lists(HAPPENED, max_size=25), takes=st.lists(st.booleans(), max_size=25))
def test_what_is_written_gives_the_same_picture(activities: list[TurnActivity], takes: list[bool]) -> None:
    read = written(activities, takes)
    assert fold(read) == fold(activities)
    assert lasting(read) == lasting(activities)
    # Also of every turn in which a later one begins.
    starts = [index for index, one in enumerate(activities) if isinstance(one, TurnStarted)]
    again = [index for index, one in enumerate(read) if isinstance(one, TurnStarted)]
    assert [fold(read[:index]) for index in again] == [fold(activities[:index]) for index in starts]


@settings(deadline=None, max_examples=40)
@given(activities=st.lists(of(TurnActivity), max_size=6), takes=st.lists(st.booleans(), max_size=6))
def test_so_does_anything_that_can_happen(activities: list[TurnActivity], takes: list[bool]) -> None:
    read = written(activities, takes)
    assert fold(read) == fold(activities)
    assert lasting(read) == lasting(activities)


def test_the_keys_of_a_value_that_ended_a_turn_are_shown_in_one_order() -> None:
    """Whether it came from the model or from a record, which sorts them."""
    ends = [
        TurnOutcomeEvent(outcome=Stopped(stop=SubmittedError(value=value)))
        for value in ({"b": 1, "a": 2}, {"a": 2, "b": 1})
    ]
    assert [fold([end]).why for end in ends] == ['the agent gave up: {"a":2,"b":1}'] * 2
