"""What a notebook carries, judged: which turns count, what is wrong, and that nothing whole is hidden by that."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lash_nb.stores.carried import Carried, Trouble, carried
from lash_nb.stores.documents import load_notebook
from lash_nb.stores.envelopes import fold_envelope
from lash_nb.stores.notebook import folded, make_block

from .envelopes import block, chain, finished, notebook, pointer, running

V1 = Path(__file__).parent / "v1" / "prices.ipynb"


def places(found: Carried, name: str = "s") -> dict[str, list[str]]:
    """Where the turns of a session stand: on its chain, in progress, as a fork, apart."""
    session = found.session(name)
    assert session is not None
    return {
        "turns": [turn.place for turn in session.turns],
        "head": [session.head.place] if session.head is not None else [],
        "forks": [turn.place for turn in session.forks],
        "apart": [turn.place for turn in session.apart],
    }


def numbers(found: Carried, name: str = "s") -> list[int]:
    session = found.session(name)
    return [] if session is None else [turn.number for turn in session.turns]


def troubles(found: Carried) -> list[tuple[str, str]]:
    return [(problem.trouble.value, problem.place) for problem in found.problems]


IN_BLOCK = ["metadata.lash_nb.turns[0]", "metadata.lash_nb.turns[1]"]
HEAD = "metadata.lash_nb.head"

# ------------------------------------------------------------------------------------------------------ what is valid


def test_a_block_is_taken_as_it_is() -> None:
    found = carried(notebook(block()))
    assert places(found) == {"turns": IN_BLOCK, "head": [HEAD], "forks": [], "apart": []}
    assert (found.current, found.ok, found.empty, found.problems) == ("s", True, False, ())
    session = found.session("s")
    assert session is not None
    assert [turn.ref["request"] for turn in session.turns] == ["1", "2"]
    assert [turn.ref["outcome"] for turn in session.turns] == ["done", "done"]
    assert json.loads(session.turns[0].text or "")["state"] == "Finished"
    assert session.head is not None
    assert (session.head.ended, session.head.ref["outcome"]) == (False, "")


def test_a_notebook_that_was_written_by_version_1() -> None:
    found = carried(load_notebook(V1))
    assert found.ok
    assert numbers(found, "5e551011a1") == [1, 2]
    assert found.problems == ()


@pytest.mark.parametrize(
    "document",
    [notebook(), notebook({"model": "replay:a.jsonl"}), {}, [], None, 7, "x", {"metadata": 1, "cells": {}}],
)
def test_where_there_is_nothing_there_is_nothing(document: object) -> None:
    found = carried(document)
    assert (found.sessions, found.problems, found.current, found.empty, found.ok) == ((), (), None, True, True)


def test_turns_in_outputs_alone_make_a_chain() -> None:
    turns = chain(3)
    found = carried(notebook(None, turns[2], turns[0], turns[1]))
    assert places(found)["turns"] == ["cell 2, output 1", "cell 3, output 1", "cell 1, output 1"]
    assert numbers(found) == [1, 2, 3]
    assert (found.current, found.problems) == ("s", ())


def test_one_turn_in_several_places_is_one_and_the_blocks_word_counts() -> None:
    value = block()
    stale = [{**turn, "parent": "0" * 64, "seq": 90 + turn["seq"]} for turn in value["turns"]]
    found = carried(notebook(value, *stale))
    assert places(found) == {"turns": IN_BLOCK, "head": [HEAD], "forks": [], "apart": []}
    assert found.ok
    session = found.session("s")
    assert session is not None
    assert [(turn.seq, turn.parent) for turn in session.turns] == [(1, None), (2, value["turns"][0]["sha256"])]


def test_the_content_of_a_reference_is_taken_from_an_output() -> None:
    turns = chain(3)
    value = folded(make_block(session="s", head=None, turns=turns), most_bytes=100)
    found = carried(notebook(value, {**turns[0], "seq": 70}))
    assert places(found)["turns"] == ["cell 1, output 1", "metadata.lash_nb.turns[1]", "metadata.lash_nb.turns[2]"]
    session = found.session("s")
    assert session is not None
    assert [turn.text is None for turn in session.turns] == [False, True, False]
    assert [turn.envelope["seq"] for turn in session.turns] == [1, 2, 3]
    assert found.problems == ()


def test_sessions_before_stand_for_themselves() -> None:
    earlier = [*chain(2, session="r"), running(turn=3, session="r", parent=chain(2, session="r")[1]["sha256"])]
    found = carried(notebook({**block(), "earlier": earlier}, pointer(earlier[0])))
    assert found.ok
    assert [session.session for session in found.sessions] == ["r", "s"]
    assert places(found, "r") == {
        "turns": ["metadata.lash_nb.earlier[0]", "metadata.lash_nb.earlier[1]"],
        "head": ["metadata.lash_nb.earlier[2]"],
        "forks": [],
        "apart": [],
    }


def test_an_earlier_session_that_was_folded_is_listed() -> None:
    earlier = [fold_envelope(turn) for turn in chain(2, session="r")]
    head = fold_envelope(running(turn=3, session="r", parent=earlier[1]["sha256"]))
    found = carried(notebook({**block(), "earlier": [*earlier, head]}))
    assert found.problems == ()
    assert numbers(found, "r") == [1, 2]
    assert places(found, "r")["head"] == []
    assert places(found, "r")["apart"] == ["metadata.lash_nb.earlier[2]"]


def test_where_a_session_branched_off_is_told() -> None:
    origin = {"session": "r", "turn": 2, "sha256": "0" * 64}
    found = carried(notebook({**block(), "forked_from": origin, "earlier": chain(1, session="r")}))
    assert [session.forked_from for session in found.sessions] == [None, origin]


def test_without_a_block_the_newest_output_says_which_session_it_is() -> None:
    old = finished(session="old", saved_at="2026-11-20T00:00:00+00:00")
    new = finished(session="new", saved_at="2026-11-21T00:00:00+00:00")
    assert carried(notebook(None, new, old)).current == "new"


def test_a_note_in_an_output_is_none_of_ours() -> None:
    assert carried(notebook(None, {"omitted_metadata": 7}, {"spilled": {}})).empty


# --------------------------------------------------------------------------------------------------- what is not here


def test_cleared_outputs_leave_a_chain_that_begins_later() -> None:
    turns = chain(4)
    found = carried(notebook(None, turns[0], turns[2], turns[3]))
    assert numbers(found) == [3, 4]
    assert places(found)["apart"] == ["cell 1, output 1"]
    assert found.ok
    assert troubles(found) == [("incomplete", "cell 2, output 1"), ("incomplete", "cell 1, output 1")]
    assert found.problems[0].sentence == (
        "the turns before turn 3 (cell 2, output 1) are not here; those that are can be gone on with"
    )


def test_what_outputs_show_and_the_notebook_does_not_hold_is_said_once() -> None:
    turns = chain(3, session="gone")
    turns[0]["sha256"], turns[1]["sha256"] = "0" * 64, "1" * 64
    found = carried(notebook(block(), pointer(turns[0]), pointer(turns[1]), pointer(block()["turns"][0])))
    assert found.ok
    assert [problem.sentence for problem in found.problems] == [
        "cell 1, output 1 shows turn 1 of session 'gone', whose content is not here, and so do 1 more outputs for "
        "theirs"
    ]


def test_what_a_branch_has_of_its_origin_is_here() -> None:
    value = {**block(), "session": "t", "head": None, "turns": chain(2, session="t")}
    assert carried(notebook(value, *[pointer(turn) for turn in chain(2)])).problems == ()


def test_what_is_left_of_an_origin_goes_on_from_what_its_branch_took_over() -> None:
    """Turns that the branch holds are not in the notebook twice."""
    turns = chain(3)
    head = running("left", turn=4, parent=turns[2]["sha256"])
    branch = {**make_block(session="t", head=None, turns=[]), "forked_from": {**pointer(turns[1])}}
    for count, left in ((2, [3]), (3, [])):
        value = {**branch, "turns": chain(count, session="t"), "earlier": [*turns[count:], head]}
        found = carried(notebook(value))
        assert found.problems == ()
        assert numbers(found) == left
        assert places(found)["head"] == [f"metadata.lash_nb.earlier[{3 - count}]"]


def test_a_last_turn_that_is_only_referred_to_is_said() -> None:
    turns = chain(3)
    found = carried(
        notebook(
            {**block(0), "earlier": [fold_envelope(turn) for turn in turns], "session": "t", "head": None}, turns[1]
        )
    )
    assert numbers(found) == [1, 2, 3]
    assert troubles(found) == [("incomplete", "metadata.lash_nb.earlier[2]")]


def test_a_head_that_has_ended_meanwhile_is_passed_over() -> None:
    value = block()
    ended = finished("now", turn=3, seq=9, parent=value["turns"][1]["sha256"])
    found = carried(notebook(value, ended))
    assert numbers(found) == [1, 2, 3]
    assert places(found)["head"] == []
    assert found.ok
    assert troubles(found) == [("stale", HEAD)]


def test_of_two_states_of_a_turn_in_progress_the_later_one_counts() -> None:
    parent = chain(1)[0]["sha256"]
    states = [running("a", turn=2, seq=5, parent=parent), running("b", turn=2, seq=6, parent=parent)]
    found = carried(notebook({**block(0), "session": "t", "head": None, "earlier": [*chain(1), *states]}))
    assert places(found)["head"] == ["metadata.lash_nb.earlier[2]"]
    assert troubles(found) == [("stale", "metadata.lash_nb.earlier[1]")]


# -------------------------------------------------------------------------------------------------------------- forks


def test_two_ways_from_one_turn_are_both_named() -> None:
    turns = chain(3)
    other = [
        finished("else", turn=2, seq=7, parent=turns[0]["sha256"], saved_at="2026-11-23T00:00:00Z"),
        finished("what", turn=3, seq=8, parent="", saved_at="2026-11-24T00:00:00Z"),
    ]
    other[1]["parent"] = other[0]["sha256"]
    found = carried(notebook(make_block(session="s", head=None, turns=turns), *other))
    assert places(found)["turns"] == [IN_BLOCK[0], "cell 1, output 1", "cell 2, output 1"]
    assert places(found)["forks"] == [IN_BLOCK[1], "metadata.lash_nb.turns[2]"]
    assert not found.ok
    assert [problem.sentence for problem in found.problems] == [
        "session 's' went two ways: its turn 2 is cell 1, output 1 (seq 7, saved 2026-11-23T00:00:00Z), and also "
        "metadata.lash_nb.turns[1] (seq 2, saved 2026-11-22T17:00:00Z)",
        "session 's' went two ways: its turn 3 is cell 2, output 1 (seq 8, saved 2026-11-24T00:00:00Z), and also "
        "metadata.lash_nb.turns[2] (seq 3, saved 2026-11-22T17:00:00Z)",
    ]
    assert {problem.trouble for problem in found.problems} == {Trouble.FORKED}


def test_another_way_behind_the_last_turn_of_a_way_is_a_fork() -> None:
    turns = chain(2)
    late = finished("late", turn=5, seq=9, parent=turns[0]["sha256"])
    found = carried(notebook(None, *turns, late))
    assert numbers(found) == [1, 5]
    assert [problem.sentence for problem in found.problems] == [
        "session 's' went two ways after its turn 1 (cell 1, output 1): to turn 5: cell 3, output 1 (seq 9, saved "
        "2026-11-22T17:00:00Z), and also to turn 2: cell 2, output 1 (seq 2, saved 2026-11-22T17:00:00Z)"
    ]


def test_a_head_behind_another_turn_than_the_last_is_a_fork() -> None:
    value = block(3)
    value["head"] = running("now", turn=3, seq=9, parent=value["turns"][1]["sha256"])
    found = carried(notebook(value))
    assert numbers(found) == [1, 2, 3]
    assert places(found)["forks"] == [HEAD]
    assert ("forked", HEAD) in troubles(found)


# ------------------------------------------------------------------------------------------------------------- damage

Change = Callable[[dict[str, Any]], object]


def swap_contents(value: dict[str, Any]) -> None:
    first, second = value["turns"]
    first["checkpoint"], second["checkpoint"] = second["checkpoint"], first["checkpoint"]


@pytest.mark.parametrize(
    ("change", "trouble", "place", "left"),
    [
        (lambda v: v["turns"][0].update(sha256="0" * 64), "damaged", "turns[0]", [2]),
        (lambda v: v["turns"][0].update(turn="1"), "damaged", "turns[0]", [2]),
        (lambda v: v["turns"][1].update(checkpoint=["{}"]), "damaged", "turns[1]", [1]),
        (lambda v: v["turns"][0].update(version=2), "newer", "turns[0]", [2]),
        (lambda v: v["turns"][1].update(session="other"), "foreign", "turns[1]", [1]),
        (lambda v: v["turns"][1].update(parent="0" * 64), "damaged", "turns[1]", [2]),
        (lambda v: v["turns"][1].update(seq=1), "damaged", "turns[1]", [2]),
        (lambda v: v["turns"].reverse(), "damaged", "turns[0]", [1, 2]),
        (lambda v: v["turns"].append(v["turns"][1]), "damaged", "turns[2]", [1, 2]),
        (lambda v: v["turns"].pop(0), "damaged", "turns[0]", [2]),
        (lambda v: v["turns"].append(v["head"]), "damaged", "turns[2]", [1, 2]),
        (lambda v: v.update(head=[]), "damaged", "head", [1, 2]),
        (lambda v: v["head"].update(parent=None), "damaged", "head", [1, 2]),
        (lambda v: v["head"].update(dollars=-1), "damaged", "head", [1, 2]),
        (lambda v: v["head"].update(dollars=float("nan")), "damaged", "head", [1, 2]),
        (lambda v: v["head"].update(seq=2**63), "damaged", "head", [1, 2]),
        (lambda v: v["head"].update(resume={"asked": {"text": "\ud800"}}), "damaged", "head", [1, 2]),
        (lambda v: v.update(turns={"0": 1}), "damaged", "turns", []),
        (lambda v: v.update(session=7), "damaged", "", [1, 2]),
        (lambda v: v.update(version="x"), "damaged", "", [1, 2]),
        (lambda v: v.update(version=2), "newer", "", []),
        (lambda v: v.update(forked_from="s"), "damaged", "forked_from", [1, 2]),
        (swap_contents, "damaged", "turns[0]", []),
    ],
)
def test_what_is_wrong_is_named_and_the_rest_is_there(
    change: Change, trouble: str, place: str, left: list[int]
) -> None:
    value = copy.deepcopy(block())
    change(value)
    found = carried(notebook(value))
    assert not found.ok
    where = f"metadata.lash_nb.{place}".rstrip(".")
    assert (trouble, where) in troubles(found)
    assert numbers(found) == left
    assert all(where_ in told for (_, where_), told in zip(troubles(found), sentences(found), strict=True))


def sentences(found: Carried) -> list[str]:
    return [problem.sentence for problem in found.problems]


def test_a_damaged_copy_does_not_hide_a_whole_one() -> None:
    value = block()
    whole = copy.deepcopy(value["turns"][0])
    value["turns"][0]["checkpoint"][0] = "["
    found = carried(notebook(value, whole))
    assert places(found)["turns"] == ["cell 1, output 1", IN_BLOCK[1]]
    assert troubles(found) == [("damaged", IN_BLOCK[0])]


def test_an_output_of_another_kind_is_named() -> None:
    found = carried(notebook(None, "x", {"session": 7}, {"session": "s", "turn": "1", "sha256": ""}, {"ref": 1}))
    assert troubles(found) == [("damaged", f"cell {number}, output 1") for number in (1, 2, 3, 4)]
