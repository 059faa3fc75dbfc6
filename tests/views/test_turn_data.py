"""What a page is told of a finished turn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lash_nb.machine.activity import VariableSeen, VariablesSeen
from lash_nb.machine.execution import CellOutcome
from lash_nb.machine.picture import TurnPicture
from lash_nb.views.turn_data import turn_data

from .turns import BEGIN, answered, step


def turn(code: str = "x = 1\n", answer: str = "One.") -> TurnPicture:
    seen = VariablesSeen(variables=(VariableSeen(name="x", type="int", detail="1", new=False),))
    activity = [BEGIN, *step(1, code=code), *step(2, code="1/0", outcome=CellOutcome.ERROR), seen, *answered(answer)]
    picture = TurnPicture()
    for one in activity:
        picture = picture.apply(one)
    return picture


CELLS = [
    {"language": "python", "code": "x = 1\n", "outcome": "ok"},
    {"language": "python", "code": "1/0", "outcome": "error"},
]
VARIABLES = [{"name": "x", "type": "int", "detail": "1", "new": False}]


def test_it_has_what_ran_and_what_came_of_it() -> None:
    assert turn_data(turn()) == {
        "version": 1,
        "turn": 1,
        "cells": CELLS,
        "variables": VARIABLES,
        "answer": "One.",
    }


@pytest.mark.parametrize("outcome", [one for one in CellOutcome if one not in (CellOutcome.OK, CellOutcome.ERROR)])
def test_what_did_not_run_to_its_end_is_no_cell(outcome: CellOutcome) -> None:
    picture = TurnPicture()
    for one in [BEGIN, *step(1, code="rm()", outcome=outcome), *step(2, code="x = 1\n"), *answered("One.")]:
        picture = picture.apply(one)
    assert turn_data(picture)["cells"] == CELLS[:1]


def test_a_turn_without_an_answer_has_none() -> None:
    assert "answer" not in turn_data(replace(turn(), answer=None))


def test_what_is_large_is_left_out_whole() -> None:
    assert sorted(turn_data(turn(code="#" * 70_000))) == ["answer", "turn", "variables", "version"]
    assert sorted(turn_data(turn(answer="a" * 70_000))) == ["cells", "turn", "variables", "version"]


def test_what_no_file_can_hold_is_replaced() -> None:
    data = turn_data(turn(code="'\ud800'"))
    assert str(data).encode("utf-8")
