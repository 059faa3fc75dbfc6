"""What is kept of a turn, in whose place it comes, and which code a request finds: expectations are written by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lash_nb.keeping import Found, Keeping, diff_text
from lash_nb.machine.activity import CodeKept
from lash_nb.machine.events import PluginEvent, StatusRuntimeEvent, TurnActivity
from lash_nb.machine.execution import CellOutcome, CellOutput, ErrorOutput, FinishValue
from lash_nb.machine.picture import StepPicture, TurnPicture
from lash_nb.machine.sequences import GrowingText
from lash_nb.stores.kept import KeptCode, KeptStore
from tests.conversations import stdout

HERE, ELSEWHERE = "/a.ipynb", "/b.ipynb"
OLD = KeptCode(request="Sum?", cells=("x = 1\nx",), answer="It is 1.", cell="c1", at="2026-01-02T03:04:05")


class Notebook:
    """One that carries code, and the user's store."""

    def __init__(self, state: Path, *carried: KeptCode) -> None:
        self.store = KeptStore(state)
        self.carried = list(carried)
        self.keeping = Keeping(
            self.store, place=lambda: HERE, carried=lambda: self.carried, carry=lambda code: self.taken.append(code)
        )
        self.taken: list[KeptCode] = []
        """What it was told to carry."""

    def find(self, cell: str | None = "c1", request: str = "Sum?") -> Found:
        return self.keeping.find(request, cell=cell)

    async def concluded(self, *steps: StepPicture, **options: Any) -> Sequence[TurnActivity]:
        """Of a turn of these steps, whose last words are its end where nothing else is said."""
        value = options.pop("value", None)
        picture = TurnPicture(turn=3, request="Sum?", steps=steps, value=value)
        given = {"session": "s", "cell": "c1", "before": None, **options}
        return await self.keeping.concluding(**given)(picture)


@pytest.fixture
def notebook(tmp_path: Path) -> Notebook:
    return Notebook(tmp_path)


# -- which code a request finds ----------------------------------------------------------------------------------------


def test_what_this_user_kept_is_known(notebook: Notebook) -> None:
    assert notebook.find() == Found()
    notebook.store.keep(OLD, place=HERE)
    assert notebook.find() == Found(known=OLD)
    assert notebook.find("c2") == Found()
    assert notebook.find(request="Sum") == Found()


def test_what_a_notebook_brings_along_is_foreign(notebook: Notebook) -> None:
    notebook.carried = [OLD]
    assert notebook.find() == Found(foreign=OLD)
    assert notebook.find("c2") == Found()
    assert notebook.find(request="Sum") == Found()
    assert notebook.taken == []


def test_what_a_notebook_brings_along_is_known_where_this_user_kept_just_that(notebook: Notebook) -> None:
    """Also for another cell of another notebook: the same code was seen then; this cell's it is all the same."""
    notebook.store.keep(replace(OLD, cell="c9"), place=ELSEWHERE)
    assert notebook.find() == Found()
    notebook.carried = [OLD]
    assert notebook.find() == Found(known=OLD)
    notebook.carried = [replace(OLD, cells=("x = 2\nx",))]
    assert notebook.find() == Found(foreign=notebook.carried[0])


def test_code_that_was_agreed_to_is_known_from_then_on(notebook: Notebook) -> None:
    notebook.carried = [OLD]
    notebook.keeping.agree(OLD)
    (known,) = {notebook.find().known}
    assert known is not None
    assert replace(known, at=OLD.at) == OLD
    assert known.at > OLD.at  # the user wants it from now on, whatever the notebook says of its age
    notebook.carried = []
    assert notebook.find() == Found(known=known)


@pytest.mark.parametrize(("at", "counts"), [("2026-01-01", False), (OLD.at, False), ("2026-01-03", True)])
def test_foreign_code_counts_where_it_is_newer(at: str, counts: bool, notebook: Notebook) -> None:
    notebook.store.keep(OLD, place=HERE)
    foreign = replace(OLD, cells=("x = 2\nx",), at=at)
    notebook.carried = [foreign]
    assert notebook.find() == Found(known=OLD, foreign=foreign if counts else None)


def test_the_newest_of_each_kind_counts(notebook: Notebook) -> None:
    """A notebook that was merged may carry several."""
    ours = [replace(OLD, cells=(f"x = {n}",), at=f"2026-02-0{n}") for n in (2, 3, 1)]
    theirs = [replace(OLD, cells=(f"y = {n}",), at=f"2026-03-0{n}") for n in (2, 3, 1)]
    for code in ours:
        notebook.store.keep(code, place=ELSEWHERE)
    notebook.carried = [*ours, *theirs]
    assert notebook.find() == Found(known=ours[1], foreign=theirs[1])
    notebook.store.keep(replace(OLD, at="2026-02-09"), place=HERE)
    assert notebook.find() == Found(known=replace(OLD, at="2026-02-09"), foreign=theirs[1])


def test_cells_that_cannot_be_told_apart(notebook: Notebook) -> None:
    """A notebook without cell ids, or code that was kept in one."""
    notebook.store.keep(replace(OLD, cell=None), place=HERE)
    assert notebook.find("c1").known == replace(OLD, cell=None)
    assert notebook.find(None).known == replace(OLD, cell=None)
    notebook.carried = [replace(OLD, cells=("y",), at="2026-05-01")]
    assert notebook.find(None).foreign == notebook.carried[0]


# -- what is kept of a turn --------------------------------------------------------------------------------------------


def ran(
    code: str, outcome: CellOutcome = CellOutcome.OK, *outputs: CellOutput, language: str = "python"
) -> StepPicture:
    return StepPicture(code=code, language=language, outcome=outcome, outputs=outputs)


def words(text: str) -> StepPicture:
    return StepPicture(said=GrowingText().appended(text))


FAILED = ErrorOutput(ename="KeyError", evalue="'x'", traceback=("KeyError: 'x'",))
SAID = words("It is 1.\n")


async def test_the_code_and_what_was_said_of_it(notebook: Notebook) -> None:
    told = await notebook.concluded(ran("x = 1"), ran("x", CellOutcome.OK, stdout("1\n")), SAID)
    (kept,) = notebook.taken
    assert told == [CodeKept(sha256=kept.sha256, cells=2, diff="")]
    assert (kept.request, kept.cells, kept.answer) == ("Sum?", ("x = 1", "x"), "It is 1.")
    assert (kept.cell, kept.turn, kept.parent) == ("c1", "s.3", "")
    assert notebook.find() == Found(known=kept)


async def test_dead_attempts_are_not_kept(notebook: Notebook) -> None:
    dead = ran("import json\ny['x']", CellOutcome.ERROR, FAILED)
    await notebook.concluded(dead, ran("x = 1"), SAID)
    assert notebook.taken[0].cells == ("x = 1",)


async def test_the_digest_is_of_what_the_kept_cells_gave(notebook: Notebook) -> None:
    """Else an answer would not be said again for a failure that is not run again; of what that printed it may speak."""
    dead, good = ran("y['x']", CellOutcome.ERROR, FAILED), ran("x", CellOutcome.OK, stdout("1\n"))
    await notebook.concluded(dead, good, SAID)
    await notebook.concluded(good, SAID)
    await notebook.concluded(ran("x", CellOutcome.OK, stdout("2\n")), SAID)
    await notebook.concluded(replace(dead, outputs=(stdout("dead"), FAILED)), good, SAID)
    first, second, third, spoken_of = (code.results for code in notebook.taken)
    assert first == second != third
    assert spoken_of == ""


async def test_a_turn_that_ends_with_a_value_says_nothing(notebook: Notebook) -> None:
    await notebook.concluded(ran("x = 1"), ran("finish(x)"), value=FinishValue(value=1))
    (kept,) = notebook.taken
    assert (kept.cells, kept.answer) == (("x = 1", "finish(x)"), None)


REFUSED = {
    "finish(-1)": (),
    "x = 1\nfinish(x)": ("x = 1",),
    "x = 1\nif x < 0:\n    finish(x)": ("x = 1",),
}


@pytest.mark.parametrize("code", REFUSED)
async def test_a_value_that_was_refused_does_not_end_the_turn(code: str, notebook: Notebook) -> None:
    """Where the cell runs again it would: what it finished with was not what counted."""
    await notebook.concluded(ran(code), ran("y = 2\nfinish(y)"), value=FinishValue(value=2))
    (kept,) = notebook.taken
    assert kept.cells[-1] == "y = 2\nfinish(y)"
    assert tuple(cell for cell in kept.cells[:-1] if "finish" in cell) == ()
    assert tuple(cell.splitlines()[0] for cell in kept.cells[:-1]) == REFUSED[code]


async def test_words_at_the_end_leave_no_cell_that_ends_it(notebook: Notebook) -> None:
    await notebook.concluded(ran("x = 1\nfinish(x)"), SAID)
    assert notebook.taken[0].cells == ("x = 1",)
    assert notebook.taken[0].answer == "It is 1."


@pytest.mark.parametrize("name", ["finished", "df.finish", "'finish'"])
async def test_what_only_looks_like_an_end_is_as_it_was(name: str, notebook: Notebook) -> None:
    await notebook.concluded(ran(f"x  =  {name}  # odd"), SAID)
    assert notebook.taken[0].cells == (f"x  =  {name}  # odd",)


async def test_names_that_are_needed_are_kept(notebook: Notebook) -> None:
    """Of a cell that failed at its end, what `-o` binds."""
    line = ("KeyError  Traceback (most recent call last)", "Cell In[7], line 2", "KeyError: 'x'")
    half = ran("total = 1\ny['x']", CellOutcome.ERROR, replace(FAILED, traceback=("\n".join(line),)))
    await notebook.concluded(half, ran("z = 2"), SAID)
    await notebook.concluded(half, ran("z = 2"), SAID, needed=("total",))
    assert [code.cells for code in notebook.taken] == [("z = 2",), ("total = 1", "z = 2")]


def said(activities: Sequence[TurnActivity]) -> str:
    """The one sentence that the turn tells."""
    (activity,) = activities
    assert isinstance(activity, PluginEvent)
    assert isinstance(activity.event, StatusRuntimeEvent)
    return activity.event.label


async def test_without_code_there_is_nothing_to_keep(notebook: Notebook) -> None:
    dead = ran("y['x']", CellOutcome.ERROR, FAILED)
    for steps in ((), (SAID,), (dead, SAID)):
        assert said(await notebook.concluded(*steps)).startswith("nothing was kept")
    assert notebook.find() == Found()
    assert notebook.taken == []


@pytest.mark.parametrize("outcome", [CellOutcome.OK, CellOutcome.ERROR])
async def test_code_of_another_language_is_not_kept(outcome: CellOutcome, notebook: Notebook) -> None:
    """Nor what is Python of such a turn: it may live on what the other one did."""
    told = await notebook.concluded(ran("x = 1"), ran("ls", outcome, language="bash"), SAID)
    assert said(told).startswith("nothing was kept")
    assert notebook.taken == []


# -- in whose place ----------------------------------------------------------------------------------------------------


async def test_the_same_cells_stay_as_they_are(notebook: Notebook) -> None:
    """Whatever is said of them today: what was said then is said again where the results are the same."""
    told = await notebook.concluded(ran("x = 1\nx", CellOutcome.OK, stdout("2")), words("It is 2."), before=OLD)
    assert list(told) == []
    assert notebook.taken == [OLD]


async def test_a_repair_comes_in_its_place_and_is_shown(notebook: Notebook) -> None:
    notebook.store.keep(OLD, place=HERE)
    told = await notebook.concluded(ran("x = 2\nx"), words("It is 2."), before=OLD)
    (kept,) = notebook.taken
    assert (kept.parent, kept.cells, kept.answer) == (OLD.sha256, ("x = 2\nx",), "It is 2.")
    assert kept.at > OLD.at
    assert told == [CodeKept(sha256=kept.sha256, cells=1, diff="@@ -1,2 +1,2 @@\n-x = 1\n+x = 2\n x")]
    assert notebook.find() == Found(known=kept)


@pytest.mark.parametrize("at", ["2099-01-01", "2098-12-31T23:59:59.999999+00:00", ""])
async def test_a_repair_is_newer_than_what_it_repairs(at: str, notebook: Notebook) -> None:
    """Also when the clock was ahead by then, else that is run again and again, and repaired each time."""
    before = replace(OLD, at=at)
    notebook.store.keep(before, place=HERE)
    await notebook.concluded(ran("x = 2\nx"), SAID, before=before)
    (kept,) = notebook.taken
    assert notebook.find() == Found(known=kept)
    assert kept.cells == ("x = 2\nx",)
    notebook.carried = [before]
    assert notebook.find() == Found(known=kept)


DO_NOT_DO = {
    "an apology": (ran("print(2)"), words("There is no such column, I am sorry.")),
    "another name": (ran("y = 2"), words("It is 2.")),
    "a failure at the end": (ran("x = 2"), ran("z['x']", CellOutcome.ERROR, FAILED), words("Sorry.")),
}


@pytest.mark.parametrize("steps", DO_NOT_DO.values(), ids=DO_NOT_DO)
async def test_what_comes_to_less_does_not_replace_it(steps: tuple[StepPicture, ...], notebook: Notebook) -> None:
    notebook.store.keep(OLD, place=HERE)
    assert said(await notebook.concluded(*steps, before=OLD)).startswith("the kept code stays as it was")
    assert notebook.find() == Found(known=OLD)
    assert notebook.taken == [OLD]


async def test_a_check_or_the_users_own_wish_says_that_it_does(notebook: Notebook) -> None:
    await notebook.concluded(ran("y = 2"), SAID, before=OLD, checked=True)
    await notebook.concluded(ran("z = 2"), SAID, before=OLD, refresh=True)
    await notebook.concluded(ran("finish(2)"), before=OLD, value=FinishValue(value=2))
    assert [code.cells for code in notebook.taken] == [("y = 2",), ("z = 2",), OLD.cells]


async def test_a_name_that_must_be_there_may_not_be_missing(notebook: Notebook) -> None:
    assert said(await notebook.concluded(ran("y = 2"), SAID, results=("x",))).startswith("nothing was kept")
    told = await notebook.concluded(ran("y = 2"), SAID, before=OLD, results=("x",), checked=True)
    assert said(told).startswith("the kept code stays as it was")
    await notebook.concluded(ran("x = 2"), SAID, results=("x",))
    assert notebook.taken[-1].cells == ("x = 2",)


async def test_where_no_model_was_asked_nothing_changes(notebook: Notebook) -> None:
    told = await notebook.concluded(ran("x = 2"), SAID, before=OLD, asked=lambda: False)
    assert (list(told), notebook.taken) == ([], [OLD])


async def test_code_is_found_by_what_was_asked_for(notebook: Notebook) -> None:
    """That is more than the words: what the cell binds, and of which type."""
    await notebook.concluded(ran("x = 2"), SAID, request="Sum?\n[-o x]")
    assert notebook.find() == Found()
    assert notebook.find(request="Sum?\n[-o x]").known == notebook.taken[0]


async def test_a_turn_without_code_leaves_what_was_kept(notebook: Notebook) -> None:
    """The notebook carries it on, too: what a run writes begins with an empty block."""
    notebook.store.keep(OLD, place=HERE)
    assert said(await notebook.concluded(SAID, before=OLD)).startswith("the kept code stays as it was")
    assert notebook.find() == Found(known=OLD)
    assert notebook.taken == [OLD]


async def test_what_cannot_be_written_is_said_and_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("")
    notebook = Notebook(tmp_path)
    assert "cannot be kept" in said(await notebook.concluded(ran("x = 1"), SAID))
    assert notebook.taken == []


# -- how they differ ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "diff"),
    [
        (("a",), ("a",), ""),
        (("a", "b"), ("a\n\nb",), ""),
        (("a\n",), ("\na",), ""),
        (("a",), ("b",), "@@ -1 +1 @@\n-a\n+b"),
        (("a", "b"), ("a", "c"), "@@ -1,3 +1,3 @@\n a\n \n-b\n+c"),
        (("a\n-- b\n--- c",), ("a\n++ b",), "@@ -1,3 +1,2 @@\n a\n--- b\n---- c\n+++ b"),
    ],
)
def test_a_diff(before: tuple[str, ...], after: tuple[str, ...], diff: str) -> None:
    assert diff_text(before, after) == diff
