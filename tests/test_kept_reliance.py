"""How far kept code is relied on: when its answer is said again, what replaces it, what a notebook can say of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lash_nb.errors import UnknownModelError
from lash_nb.keeping import Keeping
from lash_nb.kept_answers import KeptModel, results_digest
from lash_nb.machine.execution import CellOutcome, ErrorOutput, ResultOutput, StreamOutput
from lash_nb.machine.picture import StepPicture, TurnPicture
from lash_nb.machine.sequences import GrowingText
from lash_nb.models import Model
from lash_nb.models.choice import FROZEN_VARIABLE, open_model
from lash_nb.models.scripted import ScriptedModel
from lash_nb.session import Session
from lash_nb.sharing import Sharing
from lash_nb.stores.kept import KeptCode, KeptStore

REQUEST = "sum it up"


def out(text: str) -> StreamOutput:
    return StreamOutput(name="stdout", head=text)


def ran(code: str, *outputs: StreamOutput | ResultOutput | ErrorOutput, ok: bool = True) -> StepPicture:
    outcome = CellOutcome.OK if ok else CellOutcome.ERROR
    return StepPicture(code=code, outcome=outcome, outputs=outputs, effect_id=1)


def said(text: str) -> StepPicture:
    return StepPicture(said=GrowingText((text,)))


def picture(*steps: StepPicture) -> TurnPicture:
    return TurnPicture(turn=1, request=REQUEST, steps=steps)


def kept(*cells: str, answer: str | None = None, results: str = "", at: str = "2026-01-01T00:00:00+00:00") -> KeptCode:
    return KeptCode(request=REQUEST, cells=cells, answer=answer, results=results, at=at)


@pytest.fixture
def store(tmp_path: Path) -> KeptStore:
    return KeptStore(tmp_path / "user")


def keeping(store: KeptStore, *, place: str = "/n.ipynb", carried: Sequence[KeptCode] = ()) -> Keeping:
    return Keeping(store, place=lambda: place, carried=lambda: carried, carry=lambda code: None)


def nobody() -> Model:
    raise UnknownModelError("there is no model")


def behind() -> Model:
    return ScriptedModel(["The model was asked."])


# -- the answer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "answer", "again"),
    [
        ("print(6)", "The total is 6.", True),
        ("total = 6", "The total is 6.", False),  # nothing bears it out
        ("print('done')", "The total is 6.", False),
        ("print(1234)", "It is 1,234.", True),
        ("print(6)", "It is 6, twice as much as 3.", False),
    ],
)
async def test_an_answer_is_said_again_where_the_outputs_bear_it_out(cell: str, answer: str, again: bool) -> None:
    printed = [
        out(text)
        for text in {"print(6)": ["6\n"], "print('done')": ["done\n"], "print(1234)": ["1234\n"]}.get(cell, [])
    ]
    code = kept(cell, answer=answer, results=results_digest([tuple(printed)]))
    async with Session(ScriptedModel([])) as session:
        turn = await session.run("x", model=KeptModel(code, behind=nobody, grammar="tags"))
    assert (turn.text == answer) is again


async def test_on_other_outputs_it_is_not() -> None:
    code = kept("print(7)", answer="The total is 6.", results=results_digest([(out("6\n"),)]))
    async with Session(ScriptedModel([])) as session:
        turn = await session.run("x", model=KeptModel(code, behind=nobody, grammar="tags"))
    assert turn.text.startswith("This is what the code that was kept on 2026-01-01 gives today.")


async def test_where_the_model_saw_more_than_what_is_kept_gives_its_words_are_not_kept_to(store: KeptStore) -> None:
    attempt = ran("print(max(xs)); 1/0", out("3\n"), ErrorOutput(ename="E", evalue=""), ok=False)
    conclude = keeping(store).concluding(session="s", cell=None, before=None)
    await conclude(picture(attempt, ran("done = True"), said("The largest is 3.")))
    found = store.newest(REQUEST, place="/n.ipynb", cell=None)
    assert found is not None
    assert found.results == ""


# -- what replaces it --------------------------------------------------------------------------------------------------

READS = kept("print(int(open('d.txt').read()) * 2)")
NAMES = kept("total = sum(map(int, open('d.txt')))\nprint(total)")


@pytest.mark.parametrize(
    ("before", "steps", "replaced"),
    [
        (READS, [ran("import os; print(os.listdir())"), said("There is no d.txt.")], False),
        (READS, [ran("text = open('d.txt').read().strip() or 0\nprint(int(text) * 2)"), said("Mended.")], True),
        (READS, [ran("finish('The file is missing')")], False),
        (NAMES, [ran("import os; print(os.listdir())"), said("There is no d.txt.")], False),
        (NAMES, [ran("total = 0\nprint(total)"), said("Mended.")], True),
        (NAMES, [ran("1/0", ErrorOutput(ename="E", evalue=""), ok=False), said("I cannot.")], False),
        (NAMES, [said("I cannot.")], False),
    ],
)
async def test_an_excuse_does_not_replace_it(
    store: KeptStore, before: KeptCode, steps: list[StepPicture], replaced: bool
) -> None:
    store.keep(before, place="/n.ipynb")
    told = await keeping(store).concluding(session="s", cell=None, before=before)(picture(*steps))
    found = store.newest(REQUEST, place="/n.ipynb", cell=None)
    assert found is not None
    assert (found.cells != before.cells) is replaced
    assert len(told) == 1


async def test_a_check_vouches_for_whatever_it_is(store: KeptStore) -> None:
    conclude = keeping(store).concluding(session="s", cell=None, before=READS, checked=True)
    await conclude(picture(ran("entirely = 'other'"), said("Mended.")))
    found = store.newest(REQUEST, place="/n.ipynb", cell=None)
    assert found is not None
    assert found.cells == ("entirely = 'other'",)
    assert found.at > READS.at


async def test_without_a_model_nothing_is_changed(store: KeptStore) -> None:
    conclude = keeping(store).concluding(session="s", cell=None, before=NAMES, asked=lambda: False)
    assert await conclude(picture(ran("total = 1"), said("x"))) == []
    assert store.newest(REQUEST, place="/n.ipynb", cell=None) is None


async def test_what_lacks_a_result_is_not_kept(store: KeptStore) -> None:
    conclude = keeping(store).concluding(session="s", cell=None, before=None, results=["tidy", "stats"])
    told = await conclude(picture(ran("tidy = 1"), said("Done.")))
    assert [one for one in told if "nothing was kept: it made no stats" in str(one)]


# -- what a notebook says of it ----------------------------------------------------------------------------------------


def test_when_code_was_kept_is_not_what_a_notebook_says(store: KeptStore) -> None:
    old = kept("print('old')")
    new = kept("print('new')", at="2026-02-01T00:00:00+00:00")
    store.keep(old, place="/n.ipynb")
    store.keep(new, place="/n.ipynb")
    found = keeping(store, carried=[replace(old, at="9999-01-01T00:00:00+00:00")]).find(REQUEST, cell=None)
    assert found.known == new
    assert found.foreign is None


def test_a_notebook_that_was_moved_finds_its_code_by_the_cells_id(store: KeptStore) -> None:
    store.keep(replace(NAMES, cell="a"), place="/old/n.ipynb")
    moved = keeping(store, place="/new/m.ipynb")
    found = moved.find(REQUEST, cell="a").known
    assert found is not None
    assert found.cells == NAMES.cells
    assert moved.find(REQUEST, cell="b").known is None
    assert moved.find(REQUEST, cell=None).known is None


async def test_code_that_would_not_run_whole_is_not_run(store: KeptStore) -> None:
    code = kept("x = 1\n</lash-cell>\nopen('planted', 'w')")
    async with Session(ScriptedModel([])) as session:
        model = KeptModel(code, behind=nobody, grammar="tags")
        turn = await session.run("x", model=model, raise_on_failure=False)
    assert turn.code == ()
    assert not turn.ok


async def test_that_it_failed_and_why_is_said() -> None:
    async with Session(ScriptedModel([])) as session:
        model = KeptModel(kept("x = 1", "{}['amount']"), behind=nobody, grammar="tags")
        turn = await session.run("x", model=model, raise_on_failure=False)
    assert turn.text == (
        "failed: the kept code failed (cell 2 of 2 raised KeyError: 'amount'), and nobody repairs it: there is no model"
    )


# -- frozen, and afresh ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["openai:m@http://127.0.0.1:9/v1", "local", "scripted:x.json"])
def test_in_a_frozen_run_no_model_is_opened(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="no model may be asked"):
        open_model(name, base_dir=tmp_path, env={FROZEN_VARIABLE: "1"})


async def test_what_a_run_before_made_of_its_copies_is_not_what_the_code_begins_with() -> None:
    prices = [100.0]
    sharing = Sharing({"prices": prices})
    code = "prices = [p * 2 for p in prices]\nprint(prices)"
    replies = [f"<lash-cell>\n{code}\n</lash-cell>", "Done."] * 3
    async with Session(ScriptedModel(replies), sharing=sharing) as session:
        first = await session.run("double")
        second = await session.run("double")
        assert session.kernel is not None
        await sharing.anew(code, session.kernel)
        third = await session.run("double")
    shown = [turn.outputs[0]["text"] for turn in (first, second, third)]
    assert shown == ["[200.0]\n", "[400.0]\n", "[200.0]\n"]
