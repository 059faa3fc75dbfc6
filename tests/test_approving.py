"""What is asked about before it happens: modes, decisions, and turns that wait for one. Scripted kernel and model."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.errors import InputError
from lash_nb.machine.approvals import Approval, ApprovalMode, Decision, EffectKind, Verdict, Wish
from lash_nb.machine.picture import PictureState
from lash_nb.machine.picture_parts import NoteKind
from lash_nb.requested import Limits

from .approvers import YES, Person, Ran, Watch, model
from .conversations import cell, history, last_message

# -- the modes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["effects", "all"])
async def test_computing_is_not_asked_about(mode: str, tmp_path: Path) -> None:
    ran, person = Ran(), Person()
    async with Session(model(), kernel=ran.kernel, state_dir=tmp_path, approve=mode, on_approval=person) as session:
        assert (await session.run("One?")).text == "It is one."
    assert (ran.codes, person.asked) == (["x = 1"], [])


async def test_every_cell_is_asked_about_before_it_runs(tmp_path: Path) -> None:
    ran, watch = Ran(), Watch()

    async def agree(approval: Approval) -> Decision:
        assert ran.codes == []
        assert watch.picture.state is PictureState.WAITING
        assert watch.picture.sentence == "waiting for you"
        assert watch.picture.pending == approval
        assert watch.picture.steps[-1].source == "x = 1"
        assert approval == Approval(id=approval.id, effect_id=approval.effect_id, code="x = 1")
        return YES

    async with Session(model(), kernel=ran.kernel, state_dir=tmp_path) as session:
        turn = await session.run("One?", approve="every", on_approval=agree, on_activity=watch)
    assert turn.ok
    assert ran.codes == ["x = 1"]
    assert watch.states == [PictureState.RUNNING, PictureState.WAITING, PictureState.RUNNING, PictureState.DONE]
    assert watch.picture.pending is None


async def test_a_rejected_cell_does_not_run_and_the_model_learns_why(tmp_path: Path) -> None:
    ran, scripted = Ran(), model()
    person = Person(Decision(verdict=Verdict.REJECTED, why="use y instead"))
    async with Session(scripted, kernel=ran.kernel, state_dir=tmp_path) as session:
        turn = await session.run("One?", approve="every", on_approval=person)
    assert (turn.ok, ran.codes) == (True, [])
    assert "use y instead" in history(scripted, 1)[-1]
    assert "was not run" in history(scripted, 1)[-1]
    assert [note.text for note in turn.picture.notes] == ["You rejected this cell: use y instead"]
    assert "You rejected this cell: use y instead" in turn.bundle()["text/plain"]


async def test_an_edited_cell_runs_as_it_was_edited_and_the_model_learns_of_it(tmp_path: Path) -> None:
    ran, scripted = Ran(), model()
    person = Person(Decision(verdict=Verdict.EDITED, code="x = 2"))
    async with Session(scripted, kernel=ran.kernel, state_dir=tmp_path) as session:
        turn = await session.run("One?", approve="every", on_approval=person)
    assert ran.codes == ["x = 2"]
    assert turn.code == ("x = 2",)
    told = history(scripted, 1)[-1]
    assert "The user changed this cell before it ran. What ran instead:\nx = 2\n" in told
    assert "ran 1" in told
    assert [(note.kind, note.text) for note in turn.picture.notes] == [
        (NoteKind.DECISION, "You edited this cell before it ran.")
    ]


async def test_plan_runs_nothing_and_says_so_to_the_model_from_the_first_step(tmp_path: Path) -> None:
    ran, scripted, person = Ran(), model(), Person()
    async with Session(scripted, kernel=ran.kernel, state_dir=tmp_path, approve="plan", on_approval=person) as session:
        turn = await session.run("One?")
    assert (turn.text, ran.codes, person.asked) == ("It is one.", [], [])
    assert "no code is run" in last_message(scripted, 0)
    assert "no code is run" in history(scripted, 1)[-1]


def test_the_environment_allows_nothing_looser(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LASH_NB_APPROVE", "every")
    assert Session(model(), kernel=ScriptedKernel(), state_dir=tmp_path, approve="all").approve is ApprovalMode.EVERY
    assert Session(model(), kernel=ScriptedKernel(), state_dir=tmp_path, approve="plan").approve is ApprovalMode.PLAN


@pytest.mark.parametrize("mode", ["", "never", "EVERY"])
def test_a_mode_that_is_none_is_refused(mode: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="effects, every"):
        Session(model(), kernel=ScriptedKernel(), state_dir=tmp_path, approve=mode)


# -- effects -----------------------------------------------------------------------------------------------------------

WRITE = Wish(kind=EffectKind.WRITE, target="/data/out/a.csv")


async def test_an_effect_is_asked_about_and_what_was_allowed_is_not_asked_again(tmp_path: Path) -> None:
    ran, person, watch = Ran(WRITE, WRITE), Person(YES), Watch()
    async with Session(model(), kernel=ran.kernel, state_dir=tmp_path, on_approval=person) as session:
        turn = await session.run("One?", on_activity=watch)
    assert turn.ok
    assert [approval.wish for approval in person.asked] == [WRITE]
    assert person.asked[0].question == "The agent's code wants to write /data/out/a.csv."
    assert person.asked[0].code == "x = 1"
    assert PictureState.WAITING in watch.states
    assert [note.text for note in turn.picture.notes] == ["You allowed: write /data/out/a.csv"]


async def test_a_refused_effect_is_an_error_to_the_code_and_the_turn_goes_on(tmp_path: Path) -> None:
    ran, scripted = Ran(WRITE), model()
    person = Person(Decision(verdict=Verdict.REJECTED, why="not there"))
    async with Session(scripted, kernel=ran.kernel, state_dir=tmp_path, on_approval=person) as session:
        turn = await session.run("One?")
    assert turn.ok
    assert "PermissionError" in history(scripted, 1)[-1]
    assert "not there" in history(scripted, 1)[-1]


@pytest.mark.parametrize("answer", [True, "yes", Decision.edit("y")], ids=str)
async def test_an_answer_that_is_none_ends_the_turn_and_the_code_learns_nothing(answer: Any, tmp_path: Path) -> None:
    async def wrong(approval: Approval) -> Any:
        return answer

    scripted = model()
    async with Session(scripted, kernel=Ran(WRITE).kernel, state_dir=tmp_path) as session:
        with pytest.raises(InputError):
            await session.run("One?", on_approval=wrong)
        assert session.turns[-1].status == "failed"
    assert len(scripted.requests) == 1


async def test_where_nobody_is_effects_are_refused_and_nothing_waits(tmp_path: Path) -> None:
    ran, scripted = Ran(WRITE), model()
    async with Session(scripted, kernel=ran.kernel, state_dir=tmp_path) as session:
        turn = await session.run("One?")
    assert turn.ok
    assert "PermissionError" in history(scripted, 1)[-1]
    assert [note.text for note in turn.picture.notes] == [
        "Not allowed: write /data/out/a.csv: nobody is here to decide on it (`--approve all` allows everything)"
    ]


def wish(kind: EffectKind, target: str) -> Wish:
    return Wish(kind=kind, target=target)


W, D, P, C = EffectKind.WRITE, EffectKind.DELETE, EffectKind.PROCESS, EffectKind.CONNECT


@pytest.mark.parametrize(
    ("first", "then", "alike", "asked"),
    [
        (wish(W, "/data/a"), wish(W, "/data/b"), False, 2),
        (wish(W, "/data/a"), wish(W, "/data/b"), True, 1),
        (wish(W, "/data/a"), wish(W, "/data/a/b"), True, 2),  # not in the same directory
        (wish(W, "/data/a"), wish(W, "/data/ab"), False, 2),
        (wish(W, "/data/a"), wish(W, "/data2/a"), True, 2),
        (wish(W, "/data/a"), wish(D, "/data/a"), True, 2),
        (wish(D, "/data/a"), wish(D, "/data/a/file"), False, 1),  # a tree that is deleted
        (wish(P, "pip install x"), wish(P, "pip install y"), False, 2),
        (wish(P, "pip install x"), wish(P, "pip install y"), True, 1),
        (wish(P, "pip install x"), wish(P, "rm -r /"), True, 2),
        (wish(P, "pip 'install"), wish(P, "pip 'install"), False, 1),
        (wish(P, "ls -l"), wish(P, "ls && rm -r /"), True, 2),  # for a shell
        (wish(P, "ls && true"), wish(P, "ls && rm -r /"), True, 2),
        (wish(C, "example.com:443"), wish(C, "example.com:80"), False, 1),
        (wish(C, "example.com:443"), wish(C, "example.org:443"), True, 2),
        (wish(C, "[::1]:443"), wish(C, "[::1]:80"), False, 1),
        (wish(C, "[::1]:443"), wish(C, "[::2]:443"), True, 2),
    ],
)
async def test_what_a_decision_covers(first: Wish, then: Wish, alike: bool, asked: int, tmp_path: Path) -> None:
    ran, answer = Ran(first, then), Decision(verdict=Verdict.APPROVED, alike=alike)
    person = Person(answer, answer)
    async with Session(model(), kernel=ran.kernel, state_dir=tmp_path, on_approval=person) as session:
        assert (await session.run("One?")).ok
    assert len(person.asked) == asked


async def test_a_host_is_allowed_for_the_session_a_path_for_the_turn(tmp_path: Path) -> None:
    ran, person = Ran(wish(C, "example.com:443"), WRITE), Person(YES, YES, YES)
    script = ScriptedModel([cell("x = 1"), "One.", cell("y = 1"), "Two."])
    async with Session(script, kernel=ran.kernel, state_dir=tmp_path, on_approval=person) as session:
        await session.run("One?")
        await session.run("Two?")
    assert [approval.wish for approval in person.asked] == [wish(C, "example.com:443"), WRITE, WRITE]


# -- decisions from elsewhere ------------------------------------------------------------------------------------------


async def never(approval: Approval) -> Decision | None:
    await asyncio.Event().wait()
    return None


async def pending(session: Session) -> Approval:
    for _ in range(1000):
        if session.pending is not None:
            return session.pending
        await asyncio.sleep(0.01)
    raise AssertionError("nothing waits")


async def test_whoever_decides_first_decides(tmp_path: Path) -> None:
    ran = Ran()
    async with Session(model(), kernel=ran.kernel, state_dir=tmp_path, approve="every") as session:
        running = asyncio.ensure_future(session.run("One?", on_approval=never))
        approval = await pending(session)
        assert not session.decide(YES, approval_id="another")
        assert ran.codes == []
        assert await asyncio.to_thread(session.decide, YES, approval_id=approval.id)
        assert not session.decide(YES), "nothing waits any more"
        assert (await running).ok
    assert ran.codes == ["x = 1"]


@pytest.mark.parametrize(
    ("decision", "message"),
    [
        (Decision(verdict=Verdict.EDITED, code="  "), "empty"),
        (Decision(verdict=Verdict.EDITED), "empty"),
    ],
)
async def test_what_does_not_answer_it_leaves_it_waiting(decision: Decision, message: str, tmp_path: Path) -> None:
    async with Session(model(), kernel=Ran().kernel, state_dir=tmp_path, approve="every") as session:
        running = asyncio.ensure_future(session.run("One?", on_approval=never))
        await pending(session)
        with pytest.raises(InputError, match=message):
            session.decide(decision)
        assert session.decide(YES)
        assert (await running).ok


async def test_stop_ends_the_waiting(tmp_path: Path) -> None:
    ran = Ran()
    async with Session(model(), kernel=ran.kernel, state_dir=tmp_path, approve="every") as session:
        running = asyncio.ensure_future(session.run("One?", on_approval=never, raise_on_failure=False))
        await pending(session)
        session.request_stop()
        turn = await running
        assert (turn.status, ran.codes, session.pending) == ("stopped", [], None)


async def test_the_time_of_a_turn_does_not_run_on_while_somebody_thinks(tmp_path: Path) -> None:
    async def slow(approval: Approval) -> Decision:
        await asyncio.sleep(1.5)
        return YES

    limits = Limits(max_minutes=1.0 / 60)
    async with Session(
        model(), kernel=Ran().kernel, state_dir=tmp_path, approve="every", limits=limits, on_approval=slow
    ) as session:
        assert (await session.run("One?")).ok
