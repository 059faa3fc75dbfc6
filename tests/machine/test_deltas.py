"""Checkpoints as differences: whatever the sequence, what is read is what was written, byte for byte."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from lash_nb.machine.codec import Codec
from lash_nb.machine.config import JsonTurnProtocol, TurnProtocol
from lash_nb.machine.deltas import DeltaReader, DeltaWriter
from lash_nb.machine.effects import Done, EffectId, LlmCall, Progress
from lash_nb.machine.events import Conversation, ErrorEvent, ProtocolRecord
from lash_nb.machine.llm import LlmToolSpec, ToolSchema
from lash_nb.machine.messages import AppendOnly, Message, MessageSequence
from lash_nb.machine.state import Finished, PrepareIteration, PreparingProtocol, TurnCheckpoint, WaitingLlm
from lash_nb.machine.turn import TurnMachine
from lash_nb.machine.wire import JSON, dumps, loads

from .test_restore import Scripted, answer
from .values import of
from .worlds import REQUEST, Journal, at, config, message, said

RAW = (Path(__file__).parent.parent / "conformance" / "raw_checkpoints.jsonl").read_text(encoding="utf-8").split("\n")
CONFORMANCE = [TurnCheckpoint.from_text(line) for line in RAW if line]
MODEST = settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
SCRIPTS = st.lists(st.integers(0, 127), min_size=1, max_size=8).map(tuple)
CHOICES = st.lists(st.integers(0, 15), min_size=1, max_size=6)
ZEROS = {
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_write_input_tokens": 0,
    "reasoning_output_tokens": 0,
}


# -- any sequence ------------------------------------------------------------------------------------------------------


@MODEST
@given(checkpoints=st.lists(of(TurnCheckpoint), max_size=3), data=st.data())
def test_any_checkpoints_in_any_order(checkpoints: list[TurnCheckpoint], data: st.DataObject) -> None:
    journal = Journal()
    for checkpoint in [*checkpoints, *checkpoints, *reversed(checkpoints)]:
        journal.add(checkpoint)
        if data.draw(st.integers(0, 3)) == 0:
            journal.resumed()


@given(order=st.lists(st.sampled_from(CONFORMANCE), max_size=12))
@example(order=CONFORMANCE)
@example(order=[*reversed(CONFORMANCE), *CONFORMANCE])
def test_the_checkpoints_of_the_reference(order: list[TurnCheckpoint]) -> None:
    journal = Journal()
    for checkpoint in order:
        journal.add(checkpoint)


def steps(machine: TurnMachine, choices: Sequence[int]) -> Generator[TurnMachine, TurnMachine | None, None]:
    """The turn before and after each call of the machine; whoever takes a step may send another machine."""
    for count in range(12):
        sent = yield machine
        machine = machine if sent is None else sent
        while machine.poll_effect() is not None:
            sent = yield machine
            machine = machine if sent is None else sent
        if machine.is_done():
            return
        machine.handle_response(answer(machine, choices[count % len(choices)]))


@settings(deadline=None)
@given(
    turns=st.lists(st.tuples(SCRIPTS, CHOICES, st.integers(0, 9), st.integers(1, 40)), min_size=1, max_size=4),
    cuts=st.lists(st.booleans(), max_size=40),
)
def test_turn_after_turn_with_a_checkpoint_at_every_call(
    turns: list[tuple[tuple[int, ...], list[int], int, int]], cuts: list[bool]
) -> None:
    """Also restored from what was read, failed with effects still queued, and from an earlier point of the session."""
    journal, moments = Journal(), iter(cuts)
    histories: list[tuple[MessageSequence, AppendOnly[Any]]] = [(AppendOnly([message("m0")]), AppendOnly())]
    for number, (script, choices, back, most) in enumerate(turns):
        messages, events = histories[max(0, len(histories) - 1 - (back if back < 3 else 0))]
        settings_ = config(Scripted(script), sync_execution_environment=back % 2 == 0, emit_llm_trace=True)
        machine = TurnMachine(settings_, messages.appended([message(f"u{number}")]), events)
        playing = steps(machine, choices)
        sent = None
        for _ in range(most):
            try:
                machine = playing.send(sent)
            except StopIteration:
                break
            text, read = journal.add(machine.checkpoint())
            assert wholes(text) == []
            sent = None
            if next(moments, False):
                journal.resumed()
                sent = machine = TurnMachine.restore(settings_, read)
        if not machine.is_done():
            machine.fail_turn(ErrorEvent(message="it broke"))
        text, read = journal.add(machine.checkpoint())
        assert wholes(text) == []
        done = [effect for effect in read.pending_effects if isinstance(effect, Done)]
        histories.append((done[-1].messages if done else messages, machine.events))


def wholes(text: str) -> list[Any]:
    """What is written whole and not as a part of a register: in a turn as it is played, nothing is."""
    checkpoint = loads(text)["checkpoint"]
    told = [one[name] for one in checkpoint["pending_effects"] for name in ("Progress", "Done") if name in one]
    counts = [checkpoint[name] for name in ("messages", "events", "turn_causes")]
    counts += [effect[name] for effect in told for name in ("messages", "event_delta")]
    return [count for count in counts if type(count) is list]


# -- the form ----------------------------------------------------------------------------------------------------------


def test_the_first_holds_everything_and_the_next_what_is_new() -> None:
    """Written by hand: the form is kept in journals."""
    first, second = message("m0", "hi"), message("m1", "yes")
    record = ProtocolRecord(event={"n": 1})
    begun = at(PreparingProtocol(), messages=AppendOnly([first]))
    asked = replace(
        begun,
        state=WaitingLlm(effect_id=EffectId(3), request=replace(REQUEST, messages=(said("a"), said("b")))),
        messages=begun.messages.appended([second]),
        events=begun.events.appended([record]),
        pending_effects=(
            Progress(messages=begun.messages.appended([second]), event_delta=(record,), protocol_iteration=0),
        ),
        progress_event_cursor=1,
    )
    again = replace(asked, state=WaitingLlm(effect_id=EffectId(4), request=replace(REQUEST, messages=(said("a"),))))
    writer = DeltaWriter()
    rest = {
        "pending_effects": [],
        "next_effect_id": 8,
        "next_synthetic_message_id": 0,
        "messages": 1,
        "events": 0,
        "turn_causes": 0,
        "progress_event_cursor": 0,
        "protocol_iteration": 0,
        "protocol_run_offset": 0,
        "cumulative_usage": ZEROS,
        "termination": {"turn_limit_final_scheduled": False},
        "synced_protocol_iteration": None,
    }
    assert writer.write(begun, JsonTurnProtocol) == {
        "messages": {"kept": 0, "new": [whole("m0", "hi")]},
        "checkpoint": {"state": "PreparingProtocol", **rest},
    }
    delta: Any = writer.write(asked, JsonTurnProtocol)
    assert {name: delta[name] for name in delta if name != "checkpoint"} == {
        "messages": {"kept": 1, "new": [whole("m1", "yes")]},
        "events": {"kept": 0, "new": [{"Protocol": {"n": 1}}]},
    }
    request = delta["checkpoint"]["state"]["WaitingLlm"]["request"]
    assert request["messages"] == {"kept": 0, "new": [block("a"), block("b")]}
    assert list(request) == list(REQUEST.__slots__)
    progress = {"messages": 2, "event_delta": {"start": 0, "count": 1}, "protocol_iteration": 0}
    assert delta["checkpoint"]["pending_effects"] == [{"Progress": progress}]
    assert {name: delta["checkpoint"][name] for name in ("messages", "events")} == {"messages": 2, "events": 1}
    delta = writer.write(again, JsonTurnProtocol)
    assert list(delta) == ["checkpoint"]
    assert delta["checkpoint"]["state"]["WaitingLlm"]["request"] == {"messages": {"kept": 1, "new": []}}


def block(text: str) -> dict[str, Any]:
    return {
        "role": "User",
        "blocks": [{"Text": {"text": text, "response_meta": None, "cache_breakpoint": False}}],
    }


def whole(name: str, text: str) -> dict[str, Any]:
    part = {"id": f"{name}.p0", "kind": "Text", "content": text, "prune_state": "Intact"}
    return {"id": name, "role": "User", "parts": [part]}


@pytest.mark.parametrize(("one", "other"), [(1, True), (1, 1.0), (0.0, -0.0), ({"a": 0}, {"a": False})])
def test_what_is_equal_and_written_differently_is_written(one: Any, other: Any) -> None:
    assert one == other
    journal = Journal()
    for value in (one, other, one):
        spec = LlmToolSpec(
            name="t", description="", input_schema=ToolSchema(canonical=value), output_schema=ToolSchema(canonical={})
        )
        state = WaitingLlm(effect_id=EffectId(1), request=replace(REQUEST, tools=(spec,)), driver_state=value)
        journal.add(at(state, events=AppendOnly([ProtocolRecord(event=value)])))


def test_records_that_are_not_where_they_should_be_are_written_whole() -> None:
    events: AppendOnly[Any] = AppendOnly(ProtocolRecord(event=value) for value in (1, 2, 3))
    journal = Journal()
    for delta, cursor in (((ProtocolRecord(event=True),), 1), (events[:2], 3), (events[:2], 1), (events[1:], 4)):
        progress = Progress(messages=AppendOnly(), event_delta=delta, protocol_iteration=0)
        text, read = journal.add(
            at(PrepareIteration(), events=events, pending_effects=(progress,), progress_event_cursor=cursor)
        )
        assert read.pending_effects == (progress,)
        assert wholes(text) == [[{"Protocol": record.event} for record in delta]]


def test_an_orphaned_call_holds_its_request_as_a_difference() -> None:
    """Q3: a call may still be queued when the turn is over, and another may have been asked for since."""
    request = replace(REQUEST, messages=tuple(said(str(number)) for number in range(200)))
    longer = replace(request, messages=(*request.messages, said("200")))
    journal = Journal()
    journal.add(at(WaitingLlm(effect_id=EffectId(1), request=request)))
    orphans = (LlmCall(id=EffectId(1), request=request), LlmCall(id=EffectId(2), request=longer))
    text, read = journal.add(at(Finished(), pending_effects=orphans))
    assert read.pending_effects == orphans
    assert len(text) < 1200
    assert '"request":{}' in text


# -- turns of different protocols --------------------------------------------------------------------------------------


def counting(name: str) -> tuple[TurnProtocol[Any, Any, Any], list[Any], list[Any]]:
    """A protocol whose records are its own, and lists of what it encoded and decoded."""
    encoded: list[Any] = []
    decoded: list[Any] = []

    def encode(value: Any) -> Any:
        assert value[0] == name, f"a record of {value[0]} is written by {name}"
        encoded.append(value[1])
        return [*value]

    def decode(value: Any) -> Any:
        assert value[0] == name, f"a record of {value[0]} is read by {name}"
        decoded.append(value[1])
        return (value[0], value[1])

    return (
        TurnProtocol(name=name, event=Codec(encode, decode), termination=JSON, driver_state=JSON),
        encoded,
        decoded,
    )


def test_records_are_encoded_and_decoded_once_by_the_protocol_of_their_turn() -> None:
    one, *by_one = counting("one")
    two, *by_two = counting("two")
    writer, reader = DeltaWriter(), DeltaReader()
    events: AppendOnly[Any] = AppendOnly()
    for number in range(6):
        protocol = one if number < 3 else two
        events = events.appended([ProtocolRecord(event=(protocol.name, number))])
        progress = Progress(messages=AppendOnly(), event_delta=(events[-1],), protocol_iteration=0)
        checkpoint = at(
            PrepareIteration(), events=events, progress_event_cursor=len(events), pending_effects=(progress,)
        )
        read = reader.read(loads(dumps(writer.write(checkpoint, protocol))), protocol)
        assert read == checkpoint
        writer = reader.writer()
        events = read.events
    assert by_one == [[0, 1, 2], [0, 1, 2]]
    assert by_two == [[3, 4, 5], [3, 4, 5]]


# -- what it costs -----------------------------------------------------------------------------------------------------


def cost(count: int) -> tuple[list[int], list[int]]:
    """After so many messages, of one step, of the turn's end and of the next turn: how long each difference is, and how
    many calls writing it makes, those of C's functions aside.
    """
    messages: AppendOnly[Message] = AppendOnly(message(f"m{number:06}") for number in range(count))
    events: AppendOnly[Any] = AppendOnly(ProtocolRecord(event={"n": f"{number:06}"}) for number in range(count))
    history = tuple(said(one.id) for one in messages)
    request = replace(REQUEST, messages=(*history, said("tail")))
    begun = at(WaitingLlm(effect_id=EffectId(1), request=request), messages=messages, events=events)
    begun = replace(begun, progress_event_cursor=count)
    journal, twin = Journal(), DeltaWriter()
    journal.add(begun)
    twin.write(begun, JsonTurnProtocol)
    added = (message("n1"), message("n2"))
    records = tuple(Conversation(message=one) for one in added)
    grown = messages.appended(added)
    stepped = replace(
        begun,
        state=WaitingLlm(
            effect_id=EffectId(2), request=replace(REQUEST, messages=(*history, *map(said, "ab"), said("tail 2")))
        ),
        messages=grown,
        events=events.appended(records),
        pending_effects=(Progress(messages=grown, event_delta=records, protocol_iteration=1),),
        progress_event_cursor=count + 2,
    )
    done = Done(messages=grown, event_delta=(), protocol_iteration=1)
    over = replace(stepped, state=Finished(), messages=AppendOnly(), pending_effects=(done,))
    drained = replace(over, pending_effects=())
    following = replace(begun, state=PreparingProtocol(), messages=grown.appended([message("u")]))
    checkpoints = (stepped, over, drained, following)
    counted = [calls(lambda one=one: twin.write(one, JsonTurnProtocol)) for one in checkpoints]  # type: ignore[misc]
    return [len(journal.add(one)[0]) for one in checkpoints], counted


def calls(action: Callable[[], object]) -> int:
    found = 0

    def seen(frame: object, event: str, argument: object) -> None:
        nonlocal found
        found += event == "call"

    before = sys.getprofile()
    sys.setprofile(seen)
    try:
        action()
    finally:
        sys.setprofile(before)
    return found


def test_a_step_costs_the_same_after_ten_thousand_messages_as_after_ten() -> None:
    (few, few_calls), (many, many_calls) = cost(10), cost(10_000)
    # A count takes three digits more; there are fewer than ten of them.
    assert all(0 <= after - before <= 30 for before, after in zip(few, many, strict=True))
    assert all(size < 2000 for size in few)
    assert few_calls == many_calls
