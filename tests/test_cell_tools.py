"""What cells can call: what the model is told of it, and when a person is asked about a call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lash_nb import Decision, ScriptedKernel, ScriptedModel, Session
from lash_nb.cell_tools import tools_told
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.events import ToolCallEvent, TurnActivity
from lash_nb.machine.tool_calls import PendingToolCall, ToolCallOutput, ToolFailed, ToolFailureClass, ToolSucceeded
from lash_nb.toolkits import AskedFrom, Tool, ToolPolicy, ToolSurroundings
from lash_nb.toolkits.functions import function_tool
from lash_nb.toolkits.results import ToolResult

from .approvers import Person
from .conversations import cell
from .told_turns import SECRET

YES, ALIKE, NO = Decision.approve(), Decision.approve(alike=True), Decision.reject("not now")


def test_the_model_is_told_of_the_tools() -> None:
    def add(a: int, b: int) -> int:
        """The sum.

        Of two numbers.
        """
        return a + b

    def search(*, query: str) -> list[str]:
        return [query]

    told = tools_told({name: function_tool(name, function) for name, function in (("add", add), ("search", search))})
    assert told.splitlines()[-2:] == [
        "- tools.add(a: int, b: int) -> int: The sum.",
        "- tools.search(*, query: str) -> list[str]",
    ]
    assert tools_told({}) == ""


async def test_what_the_model_is_told_stands_in_the_system_prompt() -> None:
    model = ScriptedModel(["Yes."])
    async with Session(model, kernel=ScriptedKernel(), tools={"size": len}) as session:
        await session.run("Can you?")
    assert "- tools.size" in str(model.requests[0].messages[0])


# -- who is asked ------------------------------------------------------------------------------------------------------


class Desk:
    """A session whose cell makes these calls of one tool, and what came of them."""

    def __init__(self, approve: AskedFrom, *calls: dict[str, Any]) -> None:
        self.made: list[Any] = []
        self.seen: list[TurnActivity] = []
        self.tool = Tool(name="pay", policy=ToolPolicy(approve=approve), invoke=self._invoke)
        pending = tuple(PendingToolCall(call_id="", tool_name="pay", args=args) for args in calls)
        self.kernel = ScriptedKernel(lambda code: ScriptedCell(calls=pending))

    async def _invoke(self, call: PendingToolCall, around: ToolSurroundings) -> ToolCallOutput:
        self.made.append(call.args)
        return ToolCallOutput(outcome=ToolSucceeded(payload="paid"))

    async def run(self, tmp_path: Path, person: Person | None = None, *, approve: str = "effects") -> None:
        async with Session(
            ScriptedModel([cell("pay"), "Done."]),
            kernel=self.kernel,
            tools={"pay": self.tool},
            state_dir=tmp_path,
            approve=approve,
            on_approval=person,
        ) as session:
            await session.run("Pay.", on_activity=self.seen.append)

    @property
    def refused(self) -> list[str]:
        outcomes = [one.output.outcome for one in self.seen if isinstance(one, ToolCallEvent)]
        failures = [outcome.payload for outcome in outcomes if isinstance(outcome, ToolFailed)]
        assert all(failure.class_ is ToolFailureClass.PERMISSION_DENIED for failure in failures)
        return [failure.message for failure in failures]


async def test_a_call_of_a_cell_is_asked_about_as_an_effect_of_it(tmp_path: Path) -> None:
    desk, person = Desk("effects", {"n": 1}, {"n": 2}), Person(YES, NO)
    await desk.run(tmp_path, person)
    assert desk.made == [{"n": 1}]
    assert [approval.question for approval in person.asked] == [
        'The agent\'s code wants to call pay({"n":1}).',
        'The agent\'s code wants to call pay({"n":2}).',
    ]
    assert [(approval.held, approval.code.strip()) for approval in person.asked] == [(False, "pay")] * 2
    (told,) = desk.refused
    assert told.startswith("The user rejected this call, so it was not made. They said: not now")


async def test_all_like_it_holds_for_later_calls(tmp_path: Path) -> None:
    desk, person = Desk("effects", {"n": 1}, {"n": 2}), Person(ALIKE)
    await desk.run(tmp_path, person)
    assert (desk.made, len(person.asked)) == ([{"n": 1}, {"n": 2}], 1)


async def test_where_nobody_is_the_call_of_a_running_cell_is_refused(tmp_path: Path) -> None:
    desk = Desk("effects", {"n": 1})
    await desk.run(tmp_path)
    assert desk.made == []
    assert desk.refused == ["Not made: nobody is here to decide on it (`--approve all` allows everything)."]


@pytest.mark.parametrize(
    ("policy", "mode", "asked"),
    [("every", "effects", 0), ("never", "effects", 0), ("effects", "all", 0), ("all", "all", 1)],
)
async def test_a_policy_says_from_which_mode_on(tmp_path: Path, policy: AskedFrom, mode: str, asked: int) -> None:
    desk, person = Desk(policy, {"n": 1}), Person(*[YES] * asked)
    await desk.run(tmp_path, person, approve=mode)
    assert (desk.made, len(person.asked)) == ([{"n": 1}], asked)


async def test_a_cell_that_was_looked_at_has_shown_its_calls(tmp_path: Path) -> None:
    desk, person = Desk("every", {"n": 1}), Person(YES)
    await desk.run(tmp_path, person, approve="every")
    (asked,) = person.asked
    assert (asked.wish, desk.made) == (None, [{"n": 1}])


async def test_a_value_by_which_a_tool_ends_the_turn_holds_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    ends = function_tool("end", lambda: ToolResult.finish(f"with {SECRET}"))
    calls = (PendingToolCall(call_id="", tool_name="end", args={}),)
    kernel = ScriptedKernel(lambda code: ScriptedCell(calls=calls))
    async with Session(ScriptedModel([cell("end")]), kernel=kernel, tools={"end": ends}, state_dir=tmp_path) as session:
        turn = await session.run("End.")
    assert SECRET not in str(turn.outcome)
    assert "with [redacted]" in str(turn.outcome)
