"""Kept code in the place of a model: what it says, when it hands over, and when there is nobody."""

from __future__ import annotations

import pytest

from lash_nb.errors import KeptCodeError, MissingKeyError, UnknownModelError
from lash_nb.kept_answers import KeptModel, results_digest
from lash_nb.machine.events import CodeBlockCompleted
from lash_nb.machine.execution import CellOutcome, CellOutput, DisplayOutput
from lash_nb.models import Model, ModelTraits
from lash_nb.models.scripted import ScriptedModel
from lash_nb.stores.kept import KeptCode
from tests.conversations import stdout
from tests.models.cases import context, request

GIVEN = (stdout("6\n"),)


def kept(*cells: str, answer: str | None = "It is 6.") -> KeptCode:
    return KeptCode(request="Sum?", cells=cells or ("x = 6\nx",), answer=answer, results=results_digest([GIVEN]))


def ended(outcome: CellOutcome = CellOutcome.OK, outputs: tuple[CellOutput, ...] = GIVEN) -> CodeBlockCompleted:
    return CodeBlockCompleted(effect_id=1, outcome=outcome, outputs=outputs, duration_ms=1)


async def said(model: KeptModel) -> str:
    return (await model.complete(request(), context=context())).full_text


async def test_the_cells_then_the_answer() -> None:
    model = KeptModel(kept(), behind=lambda: ScriptedModel([]), grammar="tags")
    assert "x = 6\nx" in await said(model)
    model.saw(ended())
    assert await said(model) == "It is 6."
    assert (model.answered, model.handed_over) == (2, False)


async def test_of_other_results_nothing_is_said_again() -> None:
    model = KeptModel(kept(), behind=lambda: ScriptedModel([]), grammar="tags")
    await said(model)
    model.saw(ended(outputs=(stdout("7\n"),)))
    assert "not said again" in await said(model)


@pytest.mark.parametrize("outcome", [outcome for outcome in CellOutcome if outcome is not CellOutcome.OK])
async def test_it_hands_over_when_a_cell_does_not_end_well(outcome: CellOutcome) -> None:
    model = KeptModel(kept("a", "b"), behind=lambda: ScriptedModel(["I repair.", "Done."]), grammar="tags")
    await said(model)
    model.saw(ended(outcome))
    assert await said(model) == "I repair."
    model.saw(ended())
    assert await said(model) == "Done."
    assert (model.answered, model.handed_over) == (1, True)


async def test_it_hands_over_when_its_end_is_refused() -> None:
    for code, calls in ((kept(), 2), (kept(answer=None), 1)):
        model = KeptModel(code, behind=lambda: ScriptedModel(["I repair."]), grammar="tags")
        for call in range(calls):
            await said(model)
            if call == 0:
                model.saw(ended())
        assert await said(model) == "I repair."


def nobody() -> Model:
    raise UnknownModelError("none is chosen")


def without_key() -> Model:
    raise MissingKeyError("there is no key")


async def test_nobody_behind_is_missed_only_when_needed() -> None:
    for behind in (nobody, without_key):
        model = KeptModel(kept(), behind=behind, grammar="tags")
        assert model.traits(session="1", turn=1).protocol == ModelTraits().protocol
        assert "x = 6" in await said(model)
        model.saw(ended(CellOutcome.ERROR))
        with pytest.raises(KeptCodeError, match="and nobody repairs it"):
            await said(model)


def test_addresses_are_no_part_of_a_result() -> None:
    def shown(text: str) -> str:
        return results_digest([(DisplayOutput(data={"text/plain": text}, metadata={}),)])

    assert shown("<a at 0x7f00aa11>") == shown("<a at 0x7f00bb22>")
    assert shown("0x1") != shown("0x2")
    assert results_digest([GIVEN, ()]) != results_digest([(), GIVEN])
