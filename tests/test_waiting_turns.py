"""Turns that wait for a decision: left so, decided later, gone on with in this process or another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedModel, Session
from lash_nb.errors import ApprovalNeeded, InputError
from lash_nb.following import read_session
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.approvals import Approval, Decision, Verdict
from lash_nb.machine.execution import CellOutcome
from lash_nb.stores.journal import session_directory

from .approvers import YES, Person, Ran, model
from .conversations import cell, history
from .left_sessions import CUT, Left, nth


async def left_waiting(session: Session, **options: Any) -> Approval:
    with pytest.raises(ApprovalNeeded) as raised:
        await session.run("One?", **options)
    assert session.pending == raised.value.approval
    assert session.interrupted
    assert not session.running
    return raised.value.approval


def written(place: Path) -> bytes:
    return b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())


def cut_behind(state_dir: Path, kind: str) -> None:
    """Cut a session's journal behind its last record of a kind."""
    (segment,) = session_directory(state_dir, "s").glob("*.journal")
    lines = segment.read_bytes().splitlines(keepends=True)
    last = max(number for number, line in enumerate(lines) if f'"k":"{kind}"'.encode() in line)
    segment.write_bytes(b"".join(lines[: last + 1]))


async def test_a_cell_that_nobody_can_decide_on_leaves_its_turn_waiting(tmp_path: Path) -> None:
    ran, scripted = Ran(), model()
    async with Session(scripted, kernel=ran.kernel, state_dir=tmp_path, approve="every") as session:
        approval = await left_waiting(session)
        assert approval.code == "x = 1"
        recorded = read_session(tmp_path, session.id).running
        assert recorded is not None
        assert recorded.asking == approval
        assert recorded.picture().pending == approval
        outstanding = await session.outstanding()
        assert outstanding is not None
        assert "waits for your approval" in outstanding.sentence
        assert outstanding.detail == "x = 1"
        assert ran.codes == []
        assert session.decide(YES)
        turn = await session.resume_turn()
        assert (turn.number, turn.text, ran.codes) == (1, "It is one.", ["x = 1"])
        assert (session.pending, session.interrupted, session.turns) == (None, False, [turn])
    assert len(scripted.requests) == 2


@pytest.mark.parametrize(
    ("decision", "ran_codes", "told"),
    [
        (YES, ["x = 1"], "ran 1"),
        (Decision(verdict=Verdict.EDITED, code="x = 3"), ["x = 3"], "What ran instead:\nx = 3"),
        (Decision(verdict=Verdict.REJECTED, why="no ones"), [], "no ones"),
    ],
)
async def test_what_waits_is_decided_in_a_later_process(
    decision: Decision, ran_codes: list[str], told: str, tmp_path: Path
) -> None:
    ran = Ran()
    async with Session(model(), kernel=ran.kernel, state_dir=tmp_path, approve="every", session_id="s") as session:
        await left_waiting(session)
    rest = ScriptedModel({1: [cell("never"), "It is one."]})
    async with Session.resume("s", model=rest, kernel=ran.kernel, state_dir=tmp_path) as later:
        assert later.pending is not None
        # From a thread without a loop of its own, as a word of `%lash` does.
        assert later.decide(decision)
        assert [later.pending] == [None]
        # Somebody else may look at it now, or this process may end here: it stays decided.
        recorded = read_session(tmp_path, "s").running
        assert recorded is not None
        assert list(recorded.decisions.values()) == [decision]
        turn = await later.resume_turn()
    assert (turn.text, ran.codes) == ("It is one.", ran_codes)
    assert told in history(rest, 0)[-1]


async def test_a_new_request_leaves_what_waits(tmp_path: Path) -> None:
    ran = Ran()
    script = ScriptedModel({1: [cell("x = 1")], 2: ["Two."]})
    async with Session(script, kernel=ran.kernel, state_dir=tmp_path, approve="every") as session:
        await left_waiting(session)
        turn = await session.run("Two?")
        assert (turn.number, turn.text, ran.codes) == (2, "Two.", [])
        assert [one.status for one in session.turns] == ["stopped", "done"]


async def test_every_holds_when_the_turn_is_gone_on_with(tmp_path: Path) -> None:
    ran, person = Ran(), Person(YES, YES)
    script = ScriptedModel({1: [cell("x = 1"), cell("y = 1"), "Done."]})
    async with Session(script, kernel=ran.kernel, state_dir=tmp_path, session_id="s") as session:
        await left_waiting(session, approve="every")
        with pytest.raises(ApprovalNeeded):  # to go on is not to decide
            await session.resume_turn()
        assert ran.codes == []
    async with Session.resume("s", model=script, kernel=ran.kernel, state_dir=tmp_path, on_approval=person) as later:
        assert (await later.resume_turn()).ok
    assert [approval.code for approval in person.asked] == ["x = 1", "y = 1"]


async def test_all_does_not(tmp_path: Path) -> None:
    """What let everything pass is not taken over by a later process."""
    left = await Left(tmp_path).after(nth("effect ExecCode", 1), approve="all")
    assert left.failed == CUT
    person = Person(YES)
    async with left.resumed(on_approval=person) as later:
        assert read_session(tmp_path, "one").running is not None
        assert (await later.resume_turn(approve="every")).ok
    assert [approval.code for approval in person.asked] == ["x + 1"], "the first was agreed to by going on"


@pytest.mark.parametrize(
    ("before", "now", "taken"),
    [
        ("all", "effects", "effects"),
        ("effects", "every", "every"),
        ("every", "effects", "every"),
        ("plan", "all", "plan"),
    ],
)
async def test_how_a_turn_is_gone_on_with(before: str, now: str, taken: str, tmp_path: Path) -> None:
    left = await Left(tmp_path).after(nth("effect LlmCall", 1), approve=before)
    person = Person(YES, YES)
    async with left.resumed(approve=now, on_approval=person) as later:
        assert (await later.resume_turn()).ok
    asked = {"effects": [], "every": ["x = 41", "x + 1"], "plan": []}[taken]
    assert [approval.code for approval in person.asked] == asked
    assert left.ran == ([] if taken == "plan" else ["x = 41", "x + 1"])


async def test_what_was_approved_and_may_have_run_is_not_run_again_in_silence(tmp_path: Path) -> None:
    """The decision is recorded before the cell is given to a kernel, so that it counts as begun from then on."""
    ran, then = Ran(), Ran()
    script = ScriptedModel({1: [cell("a = 1"), cell("x = 1"), "Done."]})
    options: dict[str, Any] = {"state_dir": tmp_path, "approve": "every"}
    async with Session(script, kernel=ran.kernel, session_id="s", on_approval=Person(YES, None), **options) as session:
        await left_waiting(session)
    async with Session.resume("s", model=script, kernel=ran.kernel, **options) as later:
        assert later.decide(YES)
        await later.resume_turn()
    cut_behind(tmp_path, "decided")  # as a crash would have left it, with the cell in the kernel
    await then.kernel.start()
    await then.kernel.restart()
    async with Session.resume("s", model=script, kernel=then.kernel, **options) as again:
        turn = await again.resume_turn()
    assert (ran.codes, then.codes) == (["a = 1", "x = 1"], [])
    assert [step.outcome for step in turn.picture.steps if step.code == "x = 1"] == [CellOutcome.LOST]


async def test_a_secret_in_an_edited_cell_is_refused_and_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "sk-" + "a1B2" * 10
    monkeypatch.setenv("OPENAI_API_KEY", secret)
    ran = Ran()
    async with Session(model(), kernel=ran.kernel, state_dir=tmp_path, approve="every") as session:
        await left_waiting(session)
        with pytest.raises(InputError, match="secret"):
            session.decide(Decision.edit(f"key = {secret!r}"))
        assert session.decide(Decision.reject(f"not with {secret}"))
        await session.resume_turn()
    assert secret.encode() not in written(tmp_path)


async def test_a_rejection_is_not_taken_back_by_going_on(tmp_path: Path) -> None:
    ran = Ran()
    async with Session(model(), kernel=ran.kernel, state_dir=tmp_path, approve="every") as session:
        await left_waiting(session)
        assert session.decide(Decision(verdict=Verdict.REJECTED))
        outstanding = await session.outstanding()
        assert outstanding is not None
        assert "rejected" in outstanding.sentence
        await session.resume_turn()
    assert ran.codes == []


async def test_a_turn_that_waits_keeps_its_cell_when_its_kernel_is_gone(tmp_path: Path) -> None:
    """It was never begun: nobody need wonder whether it ran."""
    script = ScriptedModel({1: [cell("a = 1"), cell("x = 1"), "Done."]})
    first, then = Ran(), Ran()
    person = Person(YES, None)
    async with Session(
        script, kernel=first.kernel, state_dir=tmp_path, session_id="s", approve="every", on_approval=person
    ) as session:
        await left_waiting(session)
    await then.kernel.start()
    await then.kernel.restart()  # another life
    async with Session.resume("s", model=script, kernel=then.kernel, state_dir=tmp_path) as later:
        assert later.decide(YES)
        turn = await later.resume_turn()
    assert turn.ok
    assert (first.codes, then.codes) == (["a = 1"], ["x = 1"])


async def test_what_a_person_did_not_answer_waits(tmp_path: Path) -> None:
    person = Person(None)
    async with Session(
        model(), kernel=Ran().kernel, state_dir=tmp_path, approve="every", on_approval=person
    ) as session:
        await left_waiting(session)
        assert len(person.asked) == 1


async def test_a_person_who_fails_fails_the_turn(tmp_path: Path) -> None:
    async def broken(approval: Approval) -> Decision:
        raise OSError("no terminal")

    async with Session(model(), kernel=Ran().kernel, state_dir=tmp_path, approve="every") as session:
        with pytest.raises(OSError, match="no terminal"):
            await session.run("One?", on_approval=broken)
        assert session.turns[-1].status == "failed"


async def test_the_kernel_of_a_turn_whose_first_cell_waits_is_taken_over(tmp_path: Path) -> None:
    scripted = ScriptedModel({1: [cell("import os; os.getpid()"), "It is one."]})
    session = Session(scripted, state_dir=tmp_path, approve="every", session_id="s")
    await left_waiting(session)
    kernel = session.kernel
    assert isinstance(kernel, ManagedKernel)
    pid = kernel.pid
    await session.aclose()
    rest = ScriptedModel({1: [cell("never"), "It is one."]})
    async with Session.resume("s", model=rest, state_dir=tmp_path) as later:
        assert later.decide(YES)
        turn = await later.resume_turn()
        assert [output["data"]["text/plain"] for output in turn.outputs] == [str(pid)]
