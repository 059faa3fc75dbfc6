"""Batches of a model that calls tools itself: who is asked, what runs beside what, cells among the calls."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedKernel, Session
from lash_nb.errors import ApprovalNeeded, InputError
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.approvals import Decision, EffectKind
from lash_nb.machine.events import CodeBlockStarted, ToolCallStart, TurnActivity, TurnOutcomeEvent
from lash_nb.machine.execution import FinishValue
from lash_nb.machine.llm import LlmResponse, ToolResultBlock
from lash_nb.machine.picture import PictureState
from lash_nb.machine.tool_calls import PendingToolCall, ToolCallOutput, ToolSucceeded
from lash_nb.models import ModelTraits
from lash_nb.models.scripted import Script, ScriptedModel, calling
from lash_nb.toolkits import AskedFrom, Tool, ToolPolicy, ToolSurroundings
from lash_nb.toolkits.functions import function_tool, tool

from .approvers import Person
from .conversations import stdout
from .told_turns import SECRET

YES, ALIKE, NO = Decision.approve(), Decision.approve(alike=True), Decision.reject("not now")


class Desk:
    """Tools that note their calls: one for each way to be asked about."""

    def __init__(self) -> None:
        self.made: list[str] = []

    def tool(self, name: str, approve: AskedFrom = "every", **policy: Any) -> Tool:
        async def invoke(call: PendingToolCall, around: ToolSurroundings) -> ToolCallOutput:
            self.made.append(f"{name}{sorted(call.args.items()) if isinstance(call.args, dict) else call.args}")
            return ToolCallOutput(outcome=ToolSucceeded(payload=f"{name} done"))

        return Tool(name=name, policy=ToolPolicy(approve=approve, **policy), invoke=invoke)

    def all(self) -> dict[str, Tool]:
        modes: tuple[AskedFrom, ...] = ("all", "effects", "every", "never")
        return {f"from_{mode}": self.tool(f"from_{mode}", mode) for mode in modes}


def run_code(code: str, call_id: str) -> tuple[str, dict[str, str], str]:
    return "run_code", {"code": code}, call_id


def scripted(*replies: LlmResponse | str) -> ScriptedModel:
    return ScriptedModel(replies, traits=ModelTraits(protocol="tools"))


def told(model: ScriptedModel) -> dict[str, str]:
    """What the model was told of each call, by its id."""
    blocks = [block for message in model.requests[-1].messages for block in message.blocks]
    return {block.call_id: block.content for block in blocks if isinstance(block, ToolResultBlock)}


FOUR: tuple[tuple[str, dict[str, Any], str], ...] = tuple(
    (f"from_{mode}", {}, mode) for mode in ("all", "effects", "every", "never")
)
ALL_FOUR = calling(*FOUR)


async def waiting(replies: Script, kernel: ScriptedKernel, tools: dict[str, Tool], state_dir: Path) -> None:
    """Leave a session `one` whose turn waits for approval, with nobody there."""
    model = ScriptedModel(replies, traits=ModelTraits(protocol="tools"))
    async with Session(model, kernel=kernel, tools=tools, state_dir=state_dir, session_id="one") as session:
        with pytest.raises(ApprovalNeeded):
            await session.run("Pay.")


@pytest.mark.parametrize(
    ("mode", "asked"),
    [("all", ["all"]), ("effects", ["all", "effects"]), ("every", ["all", "effects", "every"])],
)
async def test_a_call_is_asked_about_from_the_mode_that_its_tool_says(
    tmp_path: Path, mode: str, asked: list[str]
) -> None:
    desk, person = Desk(), Person(*[YES] * len(asked))
    session = Session(
        scripted(ALL_FOUR, "Done."),
        kernel=ScriptedKernel(),
        tools=desk.all(),
        state_dir=tmp_path,
        approve=mode,
        on_approval=person,
    )
    async with session:
        await session.run("All four.")
    assert [approval.call_id for approval in person.asked] == asked
    assert {(approval.wish.kind, approval.held) for approval in person.asked if approval.wish} == {
        (EffectKind.CALL, True)
    }
    assert len(desk.made) == 4


async def test_a_turn_that_plans_makes_only_what_is_never_asked_about(tmp_path: Path) -> None:
    desk, model = Desk(), scripted(calling(*FOUR, run_code("1", "cell")), "A plan.")
    kernel = ScriptedKernel()
    session = Session(model, kernel=kernel, tools=desk.all(), state_dir=tmp_path, approve="plan")
    async with session:
        await session.run("What would you do?")
    assert desk.made == ["from_never[]"]
    assert kernel.ran == []
    assert "this turn plans only, and makes no calls" in told(model)["every"]
    assert "plans only" in told(model)["cell"]


async def test_a_rejected_call_is_told_with_the_reason_and_the_others_are_made(tmp_path: Path) -> None:
    desk, model = Desk(), scripted(calling(("pay", {"n": 1}, "a"), ("look", {}, "b")), "Done.")
    tools = {"pay": desk.tool("pay", "effects"), "look": desk.tool("look", "never")}
    session = Session(model, kernel=ScriptedKernel(), tools=tools, state_dir=tmp_path, on_approval=Person(NO))
    async with session:
        await session.run("Pay.")
    assert desk.made == ["look[]"]
    assert "The user rejected this call, so it was not made. They said: not now" in told(model)["a"]
    assert "look done" in told(model)["b"]


async def test_all_like_it_covers_the_tool_for_the_rest_of_the_turn(tmp_path: Path) -> None:
    desk, person = Desk(), Person(ALIKE)
    calls = calling(("pay", {"n": 1}, "a"), ("pay", {"n": 2}, "b"))
    session = Session(
        scripted(calls, calling(("pay", {"n": 3}, "c")), "Done."),
        kernel=ScriptedKernel(),
        tools={"pay": desk.tool("pay", "effects")},
        state_dir=tmp_path,
        on_approval=person,
    )
    async with session:
        await session.run("Pay thrice.")
    assert desk.made == ["pay[('n', 1)]", "pay[('n', 2)]", "pay[('n', 3)]"]
    (asked,) = person.asked
    assert asked.question == 'The agent wants to call pay({"n":1}).'
    assert asked.wish is not None
    assert asked.wish.alike == "pay again, whatever the arguments"


async def test_where_nobody_is_the_turn_waits_before_anything_begins_and_goes_on_once_decided(tmp_path: Path) -> None:
    desk = Desk()
    tools = {"pay": desk.tool("pay", "effects"), "look": desk.tool("look", "never")}
    replies: Script = {1: [calling(("look", {}, "a"), ("pay", {}, "b")), "Paid."]}
    kernel, traits = ScriptedKernel(), ModelTraits(protocol="tools")
    await waiting(replies, kernel, tools, tmp_path)
    assert desk.made == []
    model = ScriptedModel(replies, traits=traits)
    async with Session.resume("one", model=model, kernel=kernel, tools=tools, state_dir=tmp_path) as session:
        outstanding = await session.outstanding()
        assert outstanding is not None
        assert "pay({})  # waits for your approval" in outstanding.detail
        assert session.pending is not None
        assert session.decide(Decision.approve())
        turn = await session.resume_turn()
    assert sorted(desk.made) == ["look[]", "pay[]"]
    assert turn.text == "Paid."


# -- cells -------------------------------------------------------------------------------------------------------------


async def test_cells_of_a_batch_run_one_after_the_other_beside_the_other_calls(tmp_path: Path) -> None:
    seen: list[TurnActivity] = []
    meeting = asyncio.Event()

    async def meet() -> str:
        await meeting.wait()
        return "met"

    def play(code: str) -> ScriptedCell:
        if code == "b = 2":
            meeting.set()  # the call can only end once the second cell runs
        return ScriptedCell(outputs=(stdout(f"{code}\n"),))

    kernel = ScriptedKernel(play)
    model = scripted(calling(run_code("a = 1", "x"), ("meet", {}, "y"), run_code("b = 2", "z")), "Done.")
    async with Session(model, kernel=kernel, tools={"meet": meet}, state_dir=tmp_path, session_id="s") as session:
        turn = await session.run("Meet.", on_activity=seen.append)
    assert [code for _, code in kernel.ran] == ["a = 1", "b = 2"]
    keys = [key for key, _ in kernel.ran]
    assert keys == [f"{kernel.epoch}:s:1:{effect(seen)}:x", f"{kernel.epoch}:s:1:{effect(seen)}:z"]
    steps = turn.picture.steps
    assert [(step.call_id, step.code) for step in steps if step.code] == [("x", "a = 1"), ("z", "b = 2")]
    assert [(one.name, one.succeeded) for step in steps for one in step.tool_calls] == [("meet", True)]
    results = told(model)
    assert list(results) == ["x", "y", "z"]
    assert "a = 1" in results["x"]
    assert results["y"] == "~~~\nmet\n~~~"


def effect(seen: list[TurnActivity]) -> int:
    return next(one.effect_id for one in seen if isinstance(one, CodeBlockStarted))


async def test_calls_that_a_cell_of_a_batch_makes_are_named_within_it(tmp_path: Path) -> None:
    seen: list[TurnActivity] = []
    desk = Desk()
    inner = PendingToolCall(call_id="", tool_name="look", args={"n": 1})
    kernel = ScriptedKernel(lambda code: ScriptedCell(calls=(inner,)))
    model = scripted(calling(run_code("a", "x"), run_code("b", "z"), ("look", {"n": 2}, "y")), "Done.")
    tools = {"look": desk.tool("look")}
    async with Session(model, kernel=kernel, tools=tools, state_dir=tmp_path) as session:
        turn = await session.run("Look.", on_activity=seen.append)
    assert sorted(str(one.call_id) for one in seen if isinstance(one, ToolCallStart)) == ["x/c1", "y", "z/c1"]
    shown = [(one.call_id, one.succeeded) for step in turn.picture.steps for one in step.tool_calls]
    assert sorted(shown) == [("x/c1", True), ("y", True), ("z/c1", True)]
    assert sorted(desk.made) == ["look[('n', 1)]", "look[('n', 1)]", "look[('n', 2)]"]


async def test_where_nobody_is_a_cell_waits_and_what_ran_beside_it_is_not_made_again(tmp_path: Path) -> None:
    desk, traits = Desk(), ModelTraits(protocol="tools")
    tools, kernel = {"look": desk.tool("look", "never")}, ScriptedKernel()
    replies: Script = {1: [calling(("look", {}, "a"), run_code("x = 1", "b")), "Done."]}
    async with Session(
        ScriptedModel(replies, traits=traits),
        kernel=kernel,
        tools=tools,
        state_dir=tmp_path,
        session_id="one",
        approve="every",
    ) as session:
        with pytest.raises(ApprovalNeeded) as waits:
            await session.run("Look.")
    assert (waits.value.approval.code, waits.value.approval.call_id, waits.value.approval.wish) == ("x = 1", "b", None)
    assert (desk.made, kernel.ran) == (["look[]"], [])
    model = ScriptedModel(replies, traits=traits)
    async with Session.resume("one", model=model, kernel=kernel, tools=tools, state_dir=tmp_path) as session:
        session.decide(Decision.edit("x = 2"))
        turn = await session.resume_turn()
    assert (desk.made, [code for _, code in kernel.ran]) == (["look[]"], ["x = 2"])
    assert turn.text == "Done."
    assert "The user changed this cell before it ran" in told(model)["b"]


async def test_a_cell_gives_the_value_of_a_turn(tmp_path: Path) -> None:
    kernel = ScriptedKernel({"finish(42)": ScriptedCell(finish=FinishValue(value=42))})
    async with Session(scripted(calling(run_code("finish(42)", "x"))), kernel=kernel, state_dir=tmp_path) as session:
        turn = await session.run("A number.", output_type=int)
    assert turn.value == 42


async def test_a_stopped_turn_stops_all_calls_of_its_batch(tmp_path: Path) -> None:
    begun, left = asyncio.Event(), []

    async def hang(n: int) -> None:
        if n == 2:
            begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.append(n)

    async with Session(
        scripted(calling(("hang", {"n": 1}, "a"), ("hang", {"n": 2}, "b"))),
        kernel=ScriptedKernel(),
        tools={"hang": hang},
        state_dir=tmp_path,
    ) as session:
        turn = asyncio.ensure_future(session.run("Wait."))
        began = asyncio.ensure_future(begun.wait())
        await asyncio.wait({began, turn}, return_when=asyncio.FIRST_COMPLETED)
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert sorted(left) == [1, 2]
        assert session.turns[-1].picture.state is PictureState.STOPPED


# -- after a stop, and where tools are not -----------------------------------------------------------------------------


async def test_what_ended_before_a_stop_is_known_to_the_next_turn(tmp_path: Path) -> None:
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    desk = Desk()
    model = scripted(calling(("pay", {}, "a"), ("hang", {}, "b"), run_code("1", "c")), "Paid already.")
    tools: dict[str, Any] = {"pay": desk.tool("pay"), "hang": hang}
    async with Session(model, kernel=ScriptedKernel(), tools=tools, state_dir=tmp_path) as session:
        turn = asyncio.ensure_future(session.run("Pay."))
        await asyncio.wait({asyncio.ensure_future(begun.wait()), turn}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.2)  # that the other has ended, and is recorded
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        (step,) = [step for step in session.turns[0].picture.steps if step.tool_calls]
        assert [(one.name, one.succeeded) for one in step.tool_calls] == [("pay", True), ("hang", False)]
        await session.run("And?")
    results = told(model)
    assert "pay done" in results["a"]
    assert "it may have taken effect, in part or in whole, or not" in results["b"]


async def test_one_yes_is_for_one_call_also_of_the_same_arguments(tmp_path: Path) -> None:
    desk, person = Desk(), Person(YES, YES, NO)
    calls = calling(*(("pay", {"n": 1}, call_id) for call_id in "abc"))
    session = Session(
        scripted(calls, "Done."),
        kernel=ScriptedKernel(),
        tools={"pay": desk.tool("pay", "effects")},
        state_dir=tmp_path,
        on_approval=person,
    )
    async with session:
        await session.run("Pay.")
    assert (len(person.asked), len(desk.made)) == (3, 2)


async def test_what_does_not_fit_is_told_before_anybody_is_asked(tmp_path: Path) -> None:
    def pay(n: int) -> int:
        raise AssertionError(n)

    person, model = Person(), scripted(calling(("pay", {"n": "many"}, "a")), "Done.")
    tools = {"pay": function_tool("pay", tool(pay, approve="effects"))}
    async with Session(model, kernel=ScriptedKernel(), tools=tools, state_dir=tmp_path, on_approval=person) as session:
        await session.run("Pay.")
    assert person.asked == []
    assert "n: " in told(model)["a"]


async def test_a_turn_does_not_go_on_where_its_tools_are_not(tmp_path: Path) -> None:
    desk, traits = Desk(), ModelTraits(protocol="tools")
    replies: Script = {1: [calling(("pay", {}, "a")), "Paid."]}
    kernel, tools = ScriptedKernel(), {"pay": desk.tool("pay", "effects")}
    await waiting(replies, kernel, tools, tmp_path)
    model = ScriptedModel(replies, traits=traits)
    async with Session.resume("one", model=model, kernel=kernel, state_dir=tmp_path) as session:
        session.decide(Decision.approve())
        with pytest.raises(InputError, match="calls of pay, and there is no such tool here"):
            await session.resume_turn()
        assert session.interrupted
        session.add_tool(tools["pay"])
        assert (await session.resume_turn()).text == "Paid."
    assert desk.made == ["pay[]"]


async def test_what_was_rejected_needs_no_tool_and_is_not_made(tmp_path: Path) -> None:
    desk, traits = Desk(), ModelTraits(protocol="tools")
    replies: Script = {1: [calling(("pay", {}, "a")), "Not paid."]}
    kernel, tools = ScriptedKernel(), {"pay": desk.tool("pay", "effects")}
    await waiting(replies, kernel, tools, tmp_path)
    model = ScriptedModel(replies, traits=traits)
    async with Session.resume("one", model=model, kernel=kernel, state_dir=tmp_path) as session:
        session.decide(Decision.reject("too dear"))
        assert (await session.resume_turn()).text == "Not paid."
    assert desk.made == []
    assert "They said: too dear." in told(model)["a"]


async def test_neither_model_nor_record_gets_a_secret_that_is_a_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_API_KEY", SECRET)

    def fetch(url: str, key: str = SECRET) -> str:
        return key[:3] + url

    talks: dict[str, Script] = {"tools": [calling(("fetch", {"url": "u"})), "Done."], "code": ["Done."]}
    for protocol, replies in talks.items():
        model = ScriptedModel(replies)
        async with Session(
            model, kernel=ScriptedKernel(), tools={"fetch": fetch}, state_dir=tmp_path, protocol=protocol
        ) as session:
            await session.run("Fetch.")
        assert SECRET not in str(model.requests)
    assert not files_with(SECRET, tmp_path)


def files_with(text: str, directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


async def test_a_stop_in_the_last_step_ends_the_turn_once(tmp_path: Path) -> None:
    begun, seen = asyncio.Event(), list[TurnActivity]()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    model = scripted(calling(("hang", {}, "a")), "Here again.")
    async with Session(model, kernel=ScriptedKernel(), tools={"hang": hang}, state_dir=tmp_path) as session:
        work = session.run("A number.", output_type=int, max_steps=1, on_activity=seen.append)
        turn = asyncio.ensure_future(work)
        await asyncio.wait({asyncio.ensure_future(begun.wait()), turn}, return_when=asyncio.FIRST_COMPLETED)
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn
        assert len([one for one in seen if isinstance(one, TurnOutcomeEvent)]) == 1
        assert len(session.turns) == 1
        assert (await session.run("And?")).text == "Here again."
