"""References in the place of old turns, and what of another session stays in a block."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from lash_nb.errors import CorruptCheckpointError, NotebookError
from lash_nb.stores.envelopes import checkpoint_text, fold_envelope, is_reference, read_envelope
from lash_nb.stores.notebook import fitted, folded, following, make_block, read_block, schema, verify_chain

from .envelopes import RUNNING, block, chain, envelope, finished, running


def test_a_reference_keeps_the_place_in_the_chain_and_what_a_reader_wants() -> None:
    whole = finished("ä" * 300, {"finished": {"assistant_message": {"text": "ok"}}}, seq=4, dollars=0.5)
    reference = fold_envelope(whole)
    text = "".join(whole["checkpoint"])
    assert reference == {
        **{
            name: whole[name]
            for name in ("version", "session", "turn", "seq", "parent", "sha256", "engine", "saved_at")
        },
        "dollars": 0.5,
        "ref": {"bytes": len(text.encode()), "request": "ä" * 200, "outcome": "done"},
    }
    assert is_reference(reference)
    assert not is_reference(whole)
    assert read_envelope(reference) == reference
    assert fold_envelope(reference) == reference
    jsonschema.validate(dict(make_block(session="s", head=None, turns=[reference])), schema())
    with pytest.raises(NotebookError, match=r"envelope only refers to turn 1: its content was folded away"):
        checkpoint_text(reference)


@pytest.mark.parametrize(
    ("outcome", "word"),
    [
        ({"stopped": "cancelled"}, "stopped"),
        ({"stopped": "max_turns"}, "bound"),
        ({"stopped": "incomplete"}, "bound"),
        ({"stopped": "provider_error"}, "failed"),
        ({"stopped": {"submitted_error": {"value": {"a": [1]}}}}, "failed"),
        ({"finished": {"final_value": {"value": 3}}}, "done"),
    ],
)
def test_how_a_turn_ended_in_a_word(outcome: dict[str, Any], word: str) -> None:
    assert fold_envelope(finished("r", outcome))["ref"]["outcome"] == word


def test_what_was_folded_before_is_told_again_and_nothing_else() -> None:
    whole = finished("Why?")
    others = [
        whole,
        {**whole, "seq": 9, "dollars": 2.5},
        {**whole, "resume": {"asked": {"text": "How?"}}},
        {**whole, "turn": 2},
        finished("Where?"),
        whole,
    ]
    told = [fold_envelope(one) for one in others]
    assert [one["ref"]["request"] for one in told] == ["Why?", "Why?", "Why?", "", "Where?", "Why?"]
    assert [one.get("dollars") for one in told] == [None, 2.5, None, None, None, None]
    assert told[1]["seq"] == 9
    told[0]["ref"]["request"] = "changed"
    assert fold_envelope(whole)["ref"]["request"] == "Why?"


def test_what_has_not_ended_folds_without_an_outcome_and_says_what_was_asked() -> None:
    whole = envelope(RUNNING, turn=7, resume={"asked": {"text": "Look."}, "known": ["a"]})
    assert fold_envelope(whole)["ref"] == {
        "bytes": len("".join(whole["checkpoint"]).encode()),
        "request": "Look.",
        "outcome": "",
    }


def test_a_block_that_has_grown_large_is_folded_from_its_oldest_turns() -> None:
    value = {
        **make_block(session="s", head=running(turn=6, seq=9), turns=chain(5, size=10_000)),
        "earlier": chain(3, size=10_000, session="r"),
    }
    kinds = [
        (folded(value, most_bytes=limit), limit) for limit in (200_000, 65_000, 55_000, 45_000, 30_000, 20_000, 100)
    ]
    assert [
        (
            [is_reference(turn) for turn in smaller["earlier"]].count(True),
            [is_reference(t) for t in smaller["turns"]].count(True),
        )
        for smaller, _ in kinds
    ] == [(0, 0), (2, 1), (2, 2), (2, 3), (2, 4), (3, 4), (3, 4)]
    for smaller, limit in kinds:
        assert limit == 100 or len(json.dumps(smaller, separators=(",", ":"), ensure_ascii=False).encode()) <= limit
        assert not is_reference(smaller["turns"][-1])
        assert "checkpoint" in smaller["head"]
        assert [is_reference(turn) for turn in smaller["turns"]] == sorted(
            (is_reference(turn) for turn in smaller["turns"]), reverse=True
        )
        jsonschema.validate(smaller, schema())
        assert read_block({"lash_nb": smaller}) is not None
    assert value["earlier"] == chain(3, size=10_000, session="r"), "what was given stays as it was"


def test_the_size_of_a_block_is_that_of_its_json() -> None:
    """Compressed and in lines, with what JSON escapes or writes in several bytes, whole and as references."""
    odd = {**running(turn=9, saved_at='"\\é\n'), "encoding": "zlib+base64"}
    blocks: list[dict[str, Any]] = [
        dict(make_block(session="é", head=None, turns=[])),
        {**make_block(session="s", head=running(turn=6), turns=chain(1)), "earlier": []},
        {**make_block(session="s", head=running("x" * 99_999), turns=chain(4, size=70_000)), "earlier": chain(3)},
        {**make_block(session="s", head={**odd, "checkpoint": '"\\\n\x7fé'}, turns=[]), "model": "local"},
    ]
    for value in blocks:
        for limit in (100, 10_000, 1_000_000):
            smaller, size = fitted(value, most_bytes=limit)
            assert size == len(json.dumps(smaller, separators=(",", ":"), ensure_ascii=False).encode())
            assert smaller == folded(value, most_bytes=limit)


def test_references_take_part_in_the_chain() -> None:
    found = read_block(
        {"lash_nb": folded(make_block(session="s", head=None, turns=chain(4, size=1_000)), most_bytes=100)}
    )
    assert found is not None
    assert [is_reference(turn) for turn in found.turns] == [True, True, True, False]
    verify_chain(found)
    broken = [found.turns[0], found.turns[2], found.turns[3]]
    other = read_block({"lash_nb": make_block(session="s", head=None, turns=broken)})
    assert other is not None
    with pytest.raises(CorruptCheckpointError, match=r"turns\[1\] does not follow"):
        verify_chain(other)


def test_what_is_damaged_is_not_folded_away() -> None:
    turns = chain(3, size=1_000)
    turns[0]["sha256"] = "0" * 64
    value = folded(make_block(session="s", head=None, turns=turns), most_bytes=100)
    assert [is_reference(turn) for turn in value["turns"]] == [False, True, False]


def test_a_session_that_is_gone_on_with_later_is_there_once() -> None:
    first = make_block(session="s", head=None, turns=chain(2))
    second = make_block(session="t", head=None, turns=chain(1, session="t"))
    value = following(following(first, second), make_block(session="s", head=None, turns=chain(3)))
    assert [(turn["session"], turn["turn"]) for turn in value["earlier"]] == [("t", 1)]


def test_a_branch_leaves_of_its_origin_what_it_does_not_hold() -> None:
    turns = chain(3)
    before = make_block(session="s", head=None, turns=turns)
    origin = {"session": "s", "turn": 1, "sha256": turns[0]["sha256"]}
    copied = {**turns[0], "session": "t"}
    value = following(before, make_block(session="t", head=None, turns=[copied], forked_from=origin))
    jsonschema.validate(value, schema())
    found = read_block({"lash_nb": value})
    assert found is not None
    assert found.forked_from == origin
    assert [turn["turn"] for turn in found.earlier] == [2, 3]
    unrelated = following(before, make_block(session="t", head=None, turns=[copied]))
    assert [turn["turn"] for turn in unrelated["earlier"]] == [1, 2, 3]


def test_a_new_session_keeps_what_the_ones_before_it_left() -> None:
    second = dict(make_block(session="t", head=None, turns=[finished(session="t")]))
    third = dict(make_block(session="u", head=None, turns=[]))
    value = following(following(following(None, block()), second), second)
    value = following(value, third)
    jsonschema.validate(value, schema())
    found = read_block({"lash_nb": value})
    assert found is not None
    assert [(kept["session"], kept["turn"]) for kept in found.earlier] == [("s", 1), ("s", 2), ("s", 3), ("t", 1)]
    with pytest.raises(NotebookError, match=r"earlier\[0\] is 1"):
        read_block({"lash_nb": {**third, "earlier": [1]}})
