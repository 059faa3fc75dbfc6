"""Turns with checks, or of kept code, whose process ended before they did: what still has to hold, what runs again."""

from __future__ import annotations

from pathlib import Path

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.errors import JournalError
from lash_nb.kept_answers import KeptModel, results_digest
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.execution import FinishValue
from lash_nb.models import KEPT
from lash_nb.stores.kept import KeptCode

from .conversations import cell, history, last_message, stdout
from .left_sessions import RECORDS, Left, cut_after, kinds, nth

CHECKED = {1: [cell("x = 41"), "It is 41.", cell("x = 42"), "It is 42."]}
CHECK = "x > 41"


class Kernel:
    """One in which the check holds once `x = 42` has run."""

    def __init__(self) -> None:
        self.cells: list[str] = []
        self.scripted = ScriptedKernel(self._play)

    def _play(self, code: str) -> ScriptedCell:
        if CHECK not in code:
            self.cells.append(code)
            return ScriptedCell()
        self.cells.append("check")
        return ScriptedCell(finish=FinishValue(value="x = 42" in self.cells))


async def left_at(count: int, place: Path) -> tuple[Left, Kernel]:
    """A session whose checked turn had so many records when its process ended."""
    left, kernel = Left(place, turns=CHECKED), Kernel()
    left.kernel = kernel.scripted
    with cut_after(count):
        async with Session(left.model, kernel=left.kernel, state_dir=place, session_id="one") as session:
            with pytest.raises(JournalError):
                await session.run("Above 41?", check=CHECK)
    return left, kernel


COUNTS = {
    "before it began": nth("effect SyncExecutionEnvironment", 1),
    "a model was asked": nth("effect LlmCall", 1),
    "a cell ran": nth("kernel", 1),
    "the model wants to end": nth("answer", 6),
    "its end is looked at": nth("answer", 6) + 1,
    "its end was refused": nth("answer", 6) + 2,
    "it was put right": nth("answer", 6) + 8,
}


@pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS)
async def test_a_turn_that_goes_on_still_has_its_checks(count: int, tmp_path: Path) -> None:
    left, kernel = await left_at(count, tmp_path)
    async with left.resumed() as session:
        turn = await session.resume_turn()
    assert turn.text == "It is 42."
    assert kernel.cells == ["x = 41", "check", "x = 42", "check"]
    held = [note.text for note in turn.picture.notes if note.text.startswith("check")]
    assert held == ["check does not hold: `x > 41`", "check held: x > 41"]


async def test_what_must_hold_is_told_to_the_model_that_goes_on(tmp_path: Path) -> None:
    left, _ = await left_at(nth("effect LlmCall", 1), tmp_path)
    async with left.resumed() as session:
        await session.resume_turn()
    assert f"- {CHECK}" in "\n".join([*history(left.model, 0), last_message(left.model, 0)])


# -- kept code ---------------------------------------------------------------------------------------------------------


CELLS = ("x = 41", "x + 1")
KEPT_CODE = KeptCode(
    request="Six times seven?", cells=CELLS, answer="It is 42.", results=results_digest([(), (stdout("42\n"),)])
)


@pytest.mark.parametrize("count", range(3, RECORDS.index("end") + 1))
async def test_a_kept_turn_that_goes_on_runs_nothing_twice(count: int, tmp_path: Path) -> None:
    """What is left of it a model answers, and not the code again."""
    left = Left(tmp_path)
    kept = KeptModel(KEPT_CODE, behind=lambda: ScriptedModel([]), grammar="tags")
    left.model = kept  # type: ignore[assignment]
    await left.after(count)
    answered = RECORDS[:count].count("effect LlmCall")
    assert kept.answered == answered
    async with left.resumed() as session:
        turn = await session.resume_turn()
        recorded = kinds(session)
    assert turn.text == "It is 42."
    assert left.ran == list(CELLS)
    assert recorded.count("end") == 1
    known = sum(RECORDS[at - 1] == "effect LlmCall" and record == "answer" for at, record in enumerate(RECORDS[:count]))
    assert len(left.model.requests) == 3 - known
    assert turn.model == f"{KEPT}, then scripted"
