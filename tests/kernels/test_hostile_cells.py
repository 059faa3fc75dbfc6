"""Cells that end badly (the quick ones of `tests.faults.hostile_cells`): told as what they are, and one goes on."""

from __future__ import annotations

import pytest

from tests.faults.hostile_cells import judge
from tests.faults.hostile_cells_cases import CASES, FAST
from tests.faults.hostile_cells_parts import HostileCell


def test_the_cases_have_names_of_their_own() -> None:
    assert len({given.name for given in CASES}) == len(CASES) >= 45


@pytest.mark.parametrize("given", FAST, ids=[given.name for given in FAST])
async def test_a_hostile_cell_is_told_in_time_and_the_session_goes_on(given: HostileCell) -> None:
    verdict = await judge(given)
    assert (verdict.untyped, verdict.late, verdict.stuck) == ("", "", ""), verdict.said
