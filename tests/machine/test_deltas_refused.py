"""Differences that cannot be read or written: refused by name, and what comes next is not touched by them."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lash_nb.errors import DecodeError
from lash_nb.machine.config import JsonTurnProtocol
from lash_nb.machine.deltas import DeltaReader, DeltaWriter
from lash_nb.machine.effects import EffectId, Progress
from lash_nb.machine.events import Conversation, ProtocolRecord
from lash_nb.machine.messages import AppendOnly, PluginOrigin, TurnCause
from lash_nb.machine.state import PreparingProtocol, TurnCheckpoint, WaitingLlm
from lash_nb.machine.wire import dumps, loads

from .test_codec import places
from .worlds import REQUEST, Journal, at, message, said


def example_run() -> list[TurnCheckpoint]:
    """A few checkpoints in which everything grows."""
    cause = TurnCause(id="c", event_type="e", origin=PluginOrigin(plugin_id="p"), text="t")
    found = [at(PreparingProtocol(), messages=AppendOnly([message("m0")]))]
    for number in range(1, 4):
        last = found[-1]
        record = Conversation(message=message(f"m{number}"))
        messages, events = last.messages.appended([record.message]), last.events.appended([record])
        request = replace(REQUEST, messages=tuple(said(one.id) for one in messages), model=f"model {number}")
        found.append(
            replace(
                last,
                state=WaitingLlm(effect_id=EffectId(number), request=request),
                messages=messages,
                events=events,
                turn_causes=last.turn_causes.appended([replace(cause, id=f"c{number}")]),
                pending_effects=(Progress(messages=messages, event_delta=(record,), protocol_iteration=number),),
                progress_event_cursor=number,
            )
        )
    return found


RUN = example_run()
DAMAGES = ["drop", None, -1, 10**6, 1.0, True, "?", [], {}, {"?": None}, [["?"]]]


@settings(max_examples=300, deadline=None)
@given(at_step=st.integers(0, len(RUN) - 1), data=st.data())
def test_a_damaged_difference_is_refused_and_the_right_one_read_after_it(at_step: int, data: st.DataObject) -> None:
    writer, reader = DeltaWriter(), DeltaReader()
    for checkpoint in RUN[:at_step]:
        reader.read(loads(dumps(writer.write(checkpoint, JsonTurnProtocol))), JsonTurnProtocol)
    right = loads(dumps(writer.write(RUN[at_step], JsonTurnProtocol)))
    _, (*keys, last) = data.draw(st.sampled_from(places(right)))
    damaged = copy.deepcopy(right)
    box = damaged
    for key in keys:
        box = box[key]
    other = data.draw(st.sampled_from(DAMAGES))
    if other == "drop":
        del box[last]
    else:
        box[last] = other
    try:
        read = reader.read(damaged, JsonTurnProtocol)
    except DecodeError:
        for checkpoint in [RUN[at_step], *RUN[at_step + 1 :]]:
            delta = right if checkpoint is RUN[at_step] else loads(dumps(writer.write(checkpoint, JsonTurnProtocol)))
            assert reader.read(delta, JsonTurnProtocol).to_text() == checkpoint.to_text()
    else:
        read.to_text()  # something else was said, and it can be written again


REFUSED: dict[str, tuple[Any, str]] = {
    "no object": ([], ""),
    "nothing": ({}, "checkpoint"),
    "keeps too many": ({"messages": {"kept": 2, "new": []}}, "messages.kept"),
    "keeps less than none": ({"events": {"kept": -1, "new": []}}, "events.kept"),
    "a boolean": ({"events": {"kept": True, "new": []}}, "events.kept"),
    "no new ones": ({"turn_causes": {"kept": 0}}, "turn_causes.new"),
    "a message is none": ({"messages": {"kept": 1, "new": [{}]}}, "messages.new[0].id"),
    "more than there are": ({"checkpoint": {"messages": 2}}, "checkpoint.messages"),
    "no request yet": (
        {"checkpoint": {"state": {"WaitingLlm": {"effect_id": 1, "request": {}}}}},
        "checkpoint.state.WaitingLlm.request.model",
    ),
    "a span beyond the end": (
        {"checkpoint": {"pending_effects": [{"Progress": {"messages": 1, "event_delta": {"start": 0, "count": 1}}}]}},
        "checkpoint.pending_effects[0].Progress.event_delta",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_field(name: str) -> None:
    reader = DeltaReader()
    first: Any = DeltaWriter().write(RUN[0], JsonTurnProtocol)
    reader.read(first, JsonTurnProtocol)
    given_, path = REFUSED[name]
    damaged = given_
    if isinstance(given_, dict) and "checkpoint" in given_:
        damaged = {"checkpoint": {**first["checkpoint"], **given_["checkpoint"]}}
    with pytest.raises(DecodeError) as refusal:
        reader.read(damaged, JsonTurnProtocol)
    assert refusal.value.path == path


def test_what_could_not_be_written_changes_nothing() -> None:
    journal = Journal()
    journal.add(RUN[1])
    wrong = replace(RUN[2], events=RUN[2].events.appended([ProtocolRecord(event=float("nan"))]))
    with pytest.raises(DecodeError):
        journal.writer.write(wrong, JsonTurnProtocol)
    wrong = replace(RUN[2], state=WaitingLlm(effect_id=EffectId(1), request=REQUEST, driver_state=object()))
    with pytest.raises(DecodeError):
        journal.writer.write(wrong, JsonTurnProtocol)
    for checkpoint in RUN[2:]:
        journal.add(checkpoint)
