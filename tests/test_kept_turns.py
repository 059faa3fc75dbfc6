"""Turns whose code is kept, in a session with a real kernel: what answers, what is asked, what comes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ManagedKernel, ScriptedModel, Session
from lash_nb.bridge import shared_loop
from lash_nb.errors import ApprovalNeeded, TurnFailed
from lash_nb.keeping import Keeping
from lash_nb.kept_answers import KeptModel
from lash_nb.machine.approvals import Decision
from lash_nb.machine.events import CodeBlockStarted, TurnActivity
from lash_nb.machine.llm import LlmResponse, LlmTerminalReason, LlmUsage, TextOutput
from lash_nb.machine.outcomes import Stopped, TurnStopReason
from lash_nb.machine.picture import NoteKind
from lash_nb.models import KEPT, ModelTraits
from lash_nb.sharing import Sharing
from lash_nb.stores.kept import KeptCode, KeptStore
from lash_nb.turns import Turn

from .approvers import YES, Person
from .conversations import cell, history, last_message

SUM = "Sum?"


@pytest.fixture(scope="module")
def kernel() -> Iterator[ManagedKernel]:
    kernel = ManagedKernel()
    yield kernel
    shared_loop().run(kernel.shutdown())


class Cell:
    """A `%%lash --keep` cell of a notebook, run again and again."""

    def __init__(self, session: Session, state: Path, request: str = SUM) -> None:
        self.session, self.request, self.store = session, request, KeptStore(state)
        self.keeping = Keeping(self.store, place=lambda: "/a.ipynb", carried=lambda: (), carry=lambda code: None)

    def has(self, *codes: KeptCode) -> None:
        """The user kept these some time ago."""
        for code in codes:
            self.store.keep(code, place="/a.ipynb")

    @property
    def kept(self) -> KeptCode | None:
        return self.keeping.find(self.request, cell="c1").known

    async def ask(self, model: ScriptedModel, **options: Any) -> Turn:
        """Its turn, with that model behind what is kept."""
        before, needed = self.kept, options.get("results", ())
        conclude = self.keeping.concluding(
            session="s", cell="c1", before=before, needed=needed, checked=bool(options.get("check"))
        )
        kept = None if before is None else KeptModel(before, behind=lambda: model, grammar=self.session.grammar)
        return await self.session.run(self.request, model=kept or model, conclude=conclude, **options)


@pytest.fixture
def there(kernel: ManagedKernel, tmp_path: Path) -> Any:
    """Makes a session in that kernel."""

    def made(**options: Any) -> Session:
        return Session(ScriptedModel([]), kernel=kernel, state_dir=tmp_path / "state", **options)

    return made


def nobody() -> ScriptedModel:
    """A model whose every call fails."""
    return ScriptedModel([])


def kept_notes(turn: Turn) -> list[str]:
    return [note.text for note in turn.picture.notes if note.kind in (NoteKind.KEPT, NoteKind.STATUS)]


def codes(turn: Turn) -> list[str | None]:
    return [step.code for step in turn.picture.steps if step.code is not None]


# -- what answers ------------------------------------------------------------------------------------------------------


async def test_it_runs_again_on_what_there_is_now(there: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "n.txt"
    data.write_text("1 2 3")
    code = f"total = sum(map(int, open({str(data)!r}).read().split()))\ntotal"
    async with there() as session:
        asked = Cell(session, tmp_path)
        first = await asked.ask(ScriptedModel([cell(code, "I add."), "It is 6."]))
        again = await asked.ask(nobody())
        data.write_text("1 2 4")
        other = await asked.ask(nobody())
        value = await session.kernel.value("total")
    assert (first.text, again.text) == ("It is 6.", "It is 6.")
    assert "not said again" in other.text
    assert value == 7
    assert (first.model, again.model, codes(again)) == ("scripted", KEPT, [code])
    assert "I add." not in str(again.bundle()["text/plain"])


async def test_nothing_is_counted_when_nobody_is_asked(there: Any, tmp_path: Path) -> None:
    def said(text: str) -> LlmResponse:
        return LlmResponse(
            full_text=text,
            parts=(TextOutput(text=text),),
            terminal_reason=LlmTerminalReason.STOP,
            usage=LlmUsage(input_tokens=1_000, output_tokens=100),
        )

    def model(*texts: str) -> ScriptedModel:
        return ScriptedModel(list(map(said, texts)), traits=ModelTraits(priced_as="anthropic/claude-haiku-4-5"))

    async with there() as session:
        asked = Cell(session, tmp_path)
        first = await asked.ask(model(cell("limit = 0; assert limit < 1"), "Done."))
        again = await asked.ask(model())
        asked.has(KeptCode(request=SUM, cells=("limit = 9", "assert limit < 1"), cell="c1", at="2099-01-01"))
        repaired = await asked.ask(model(cell("limit = 0"), "Done now."))
    assert (again.usage, again.picture.usage, again.picture.calls) == (LlmUsage(), LlmUsage(), ())
    assert again.picture.dollars is None
    assert first.picture.dollars is not None
    assert len(repaired.picture.calls) == 2
    assert repaired.usage == LlmUsage(input_tokens=2_000, output_tokens=200)
    assert repaired.picture.dollars == first.picture.dollars


async def test_what_fails_is_repaired_and_the_repair_is_kept(there: Any, tmp_path: Path) -> None:
    async with there() as session:
        asked = Cell(session, tmp_path)
        old = ("rows = [{'b': 5}]", "total = rows[0]['a']\ntotal")
        asked.has(KeptCode(request=SUM, cells=old, answer="It is 1.", cell="c1", at="2026-01-01"))
        model = ScriptedModel([cell("total = rows[0]['b']\ntotal", "It is called b now."), "It is 5."])
        turn = await asked.ask(model)
        again = await asked.ask(nobody())
    assert (turn.text, turn.model) == ("It is 5.", f"{KEPT}, then scripted")
    assert "scripted repairs the kept code" in kept_notes(turn)[0]
    assert "-total = rows[0]['a']\n+total = rows[0]['b']\n total" in kept_notes(turn)[-1]
    # It sees the kept cells and their failure as its own work so far.
    seen = "\n".join([*history(model, 0), last_message(model, 0)])
    assert "rows = [{'b': 5}]" in seen
    assert "KeyError" in seen
    assert (again.text, codes(again)) == ("It is 5.", ["rows = [{'b': 5}]", "total = rows[0]['b']\ntotal"])


async def test_a_check_that_does_not_hold_any_more_is_repaired(there: Any, tmp_path: Path) -> None:
    async with there() as session:
        asked = Cell(session, tmp_path)
        code = "total = globals().get('given', 1)"
        await asked.ask(ScriptedModel([cell(code), "Done."]), check="total > 0")
        await session.kernel.run("set", "given = -1")
        turn = await asked.ask(ScriptedModel([cell("total = abs(given)"), "Put right."]), check="total > 0")
        again = await asked.ask(nobody(), check="total > 0")
    assert turn.text == "Put right."
    told = [note.text for note in turn.picture.notes if note.text.startswith("check")]
    assert told == ["check does not hold: `total > 0`", "check held: total > 0"]
    assert again.model == KEPT
    assert codes(again)[-1] == "total = abs(given)"


async def test_nobody_to_repair_it_is_said(there: Any, tmp_path: Path) -> None:
    async with there() as session:
        asked = Cell(session, tmp_path)
        asked.has(KeptCode(request=SUM, cells=("1 / 0",), cell="c1", at="2026-01-01"))
        with pytest.raises(TurnFailed):
            await asked.ask(nobody())
        assert asked.kept is not None
        assert asked.kept.cells == ("1 / 0",)


async def test_several_turns_of_a_session(there: Any, tmp_path: Path) -> None:
    """What follows sees what kept code did, as if a model had."""
    model = ScriptedModel({3: ["It was 3."]})
    async with there() as session:
        one, two = Cell(session, tmp_path, "One?"), Cell(session, tmp_path, "Two?")
        one.has(KeptCode(request="One?", cells=("a = 1",), answer="A.", cell="c1", at="2026-01-01"))
        one.has(KeptCode(request="Two?", cells=("b = a + 2\nfinish(b)",), cell="c1", at="2026-01-01"))
        await one.ask(nobody())
        second = await two.ask(nobody(), output_type=int)
        third = await session.run("What was it?", model=model)
    assert (second.value, third.text) == (3, "It was 3.")
    told = "\n".join(history(model, 0))
    assert "b = a + 2" in told
    assert [turn.model for turn in session.turns] == [KEPT, KEPT, "scripted"]


# -- cells -------------------------------------------------------------------------------------------------------------


async def test_the_fence_is_a_grammar_of_kept_cells_too(there: Any, tmp_path: Path) -> None:
    async with there(grammar="fence") as session:
        asked = Cell(session, tmp_path)
        first = await asked.ask(ScriptedModel(["I add.\n```python\nfenced = '```'\nfenced\n```", "Done."]))
        again = await asked.ask(nobody())
    assert codes(first) == codes(again) == ["fenced = '```'\nfenced"]
    assert (again.text, again.model) == ("Done.", KEPT)


async def test_a_value_that_was_refused_does_not_end_the_turn_again(there: Any, tmp_path: Path) -> None:
    replies = [cell("total = 'x'\nfinish(total)"), cell("finish(len(total))")]
    async with there() as session:
        asked = Cell(session, tmp_path)
        first = await asked.ask(ScriptedModel(replies), output_type=int)
        again = await asked.ask(nobody(), output_type=int)
    assert (first.value, again.value, again.model) == (1, 1, KEPT)


async def test_a_value_that_does_not_fit_any_more_is_repaired(there: Any, tmp_path: Path) -> None:
    async with there() as session:
        asked = Cell(session, tmp_path)
        asked.has(KeptCode(request=SUM, cells=("total = '5'\nfinish(total)",), cell="c1", at="2026-01-01"))
        turn = await asked.ask(ScriptedModel([cell("finish(int(total))")]), output_type=int)
        again = await asked.ask(nobody(), output_type=int)
    assert (turn.value, turn.model) == (5, f"{KEPT}, then scripted")
    assert (again.value, again.model) == (5, KEPT)


SNIPPET = ModelTraits(protocol="snippet")


async def test_a_model_that_answers_with_one_cell(there: Any, tmp_path: Path) -> None:
    async with there() as session:
        asked = Cell(session, tmp_path)
        first = await asked.ask(ScriptedModel(["small = 2 + 3\nsmall"], traits=SNIPPET))
        again = await asked.ask(ScriptedModel([], traits=SNIPPET))
        await session.kernel.run("break", "small = None")
        asked.has(KeptCode(request=SUM, cells=("small + 1",), cell="c1", at="2099-01-01"))
        repaired = await asked.ask(ScriptedModel(["(small or 6) + 1"], traits=SNIPPET))
    assert (first.text, again.text, again.model) == ("5", "5", KEPT)
    assert codes(again) == codes(first)
    assert (repaired.text, repaired.model) == ("7", f"{KEPT}, then scripted")


async def test_several_cells_in_front_of_such_a_model(there: Any, tmp_path: Path) -> None:
    """They are no answer in its protocol; the turn has another one."""
    async with there() as session:
        asked = Cell(session, tmp_path)
        asked.has(KeptCode(request=SUM, cells=("p = 1", "p + 1"), answer="2", cell="c1", at="2026-01-01"))
        turn = await asked.ask(ScriptedModel([], traits=SNIPPET))
    assert (codes(turn), turn.model, turn.picture.protocol) == (["p = 1", "p + 1"], KEPT, "code")


# -- who is there ------------------------------------------------------------------------------------------------------


TWO = KeptCode(request=SUM, cells=("said = 1", "said += 1"), answer="It is 2.", cell="c1", at="2026-01-01")


async def test_what_the_user_says_meanwhile_is_answered_by_the_model(there: Any, tmp_path: Path) -> None:
    def speaks(activity: TurnActivity) -> None:
        if isinstance(activity, CodeBlockStarted) and not spoken:
            spoken.append(activity)
            session.say("In words, please.")

    spoken: list[TurnActivity] = []
    model = ScriptedModel(["It is two."])
    async with there() as session:
        asked = Cell(session, tmp_path)
        asked.has(TWO)
        turn = await asked.ask(model, on_activity=speaks)
    assert (turn.text, turn.model) == ("It is two.", f"{KEPT}, then scripted")
    assert "In words, please." in "\n".join([*history(model, 0), last_message(model, 0)])
    assert "repairs" not in "\n".join(kept_notes(turn))


async def test_it_is_stopped_like_any_other(there: Any, tmp_path: Path) -> None:
    """And nothing of it is kept, or lost."""

    def stops(activity: TurnActivity) -> None:
        if isinstance(activity, CodeBlockStarted):
            session.request_stop()

    model = nobody()
    async with there() as session:
        asked = Cell(session, tmp_path)
        slow = KeptCode(request=SUM, cells=("import time\ntime.sleep(60)", "x = 1"), cell="c1", at="2026-01-01")
        asked.has(slow)
        turn = await asked.ask(model, on_activity=stops, raise_on_failure=False)
        assert asked.kept == slow
    assert turn.outcome == Stopped(stop=TurnStopReason.CANCELLED)
    assert model.requests == []


async def test_each_of_its_cells_is_asked_about(there: Any, tmp_path: Path) -> None:
    person = Person(YES, YES)
    async with there() as session:
        asked = Cell(session, tmp_path)
        asked.has(TWO)
        turn = await asked.ask(nobody(), approve="every", on_approval=person)
    assert [approval.code for approval in person.asked] == list(TWO.cells)
    assert turn.model == KEPT


async def test_a_cell_that_is_refused_is_the_models_to_answer(there: Any, tmp_path: Path) -> None:
    person, model = Person(YES, Decision.reject("leave it at 1")), ScriptedModel(["Left."])
    async with there() as session:
        asked = Cell(session, tmp_path)
        asked.has(TWO)
        turn = await asked.ask(model, approve="every", on_approval=person)
        assert asked.kept == TWO
    assert turn.text == "Left."
    assert "leave it at 1" in "\n".join([*history(model, 0), last_message(model, 0)])


async def test_an_edited_cell_is_kept_as_it_ran(there: Any, tmp_path: Path) -> None:
    person = Person(YES, Decision.edit("said += 5"))
    async with there() as session:
        asked = Cell(session, tmp_path)
        asked.has(TWO)
        await asked.ask(ScriptedModel(["It is 6."]), approve="every", on_approval=person)
        assert asked.kept is not None
        assert asked.kept.cells == ("said = 1", "said += 5")


async def test_where_no_code_runs_the_model_is_asked(there: Any, tmp_path: Path) -> None:
    model = ScriptedModel(["I would add them."])
    async with there() as session:
        asked = Cell(session, tmp_path)
        asked.has(TWO)
        turn = await asked.ask(model, approve="plan")
        assert asked.kept == TWO
    assert turn.text == "I would add them."


async def test_effects_are_asked_about(there: Any, tmp_path: Path) -> None:
    outside = KeptCode(
        request=SUM,
        cells=(f"import subprocess\nsubprocess.run(['touch', {str(tmp_path / 'made')!r}])",),
        answer="Made.",
    )
    async with there() as session:
        asked = Cell(session, tmp_path)
        asked.has(outside)
        refused = await asked.ask(ScriptedModel(["I may not."]), approve="effects")
        assert not (tmp_path / "made").exists()
        allowed = await asked.ask(nobody(), approve="effects", on_approval=Person(YES))
    assert (refused.text, refused.model) == ("I may not.", f"{KEPT}, then scripted")
    assert allowed.model == KEPT
    assert (tmp_path / "made").exists()


async def test_it_waits_for_a_decision_that_nobody_is_there_to_make(there: Any, tmp_path: Path) -> None:
    model = ScriptedModel(["It is one."])
    async with there() as session:
        asked = Cell(session, tmp_path)
        asked.has(TWO)
        with pytest.raises(ApprovalNeeded):
            await asked.ask(nobody(), approve="every")
        assert session.decide(Decision.reject("not today"))
        turn = await session.resume_turn(model=model)
    assert (turn.text, turn.model) == ("It is one.", f"{KEPT}, then scripted")


async def test_the_users_variables_are_in_a_check(there: Any, tmp_path: Path) -> None:
    mine = {"most": 5}
    async with there(sharing=Sharing(mine)) as session:
        asked = Cell(session, tmp_path)
        await asked.ask(ScriptedModel([cell("mine_total = 4"), "Done."]), check="mine_total < most")
        mine["most"] = 3
        turn = await asked.ask(ScriptedModel([cell("mine_total = 2"), "Less."]), check="mine_total < most")
    assert turn.text == "Less."
