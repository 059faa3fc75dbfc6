"""Tools that come and go: the machine is told with the next sync, and only when something has changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.machine.llm import LlmRequest, TextBlock
from lash_nb.machine.tool_calls import PendingToolCall, ToolCallOutput, ToolSucceeded
from lash_nb.models import ModelTraits
from lash_nb.models.scripted import calling
from lash_nb.toolkits import Tool, ToolSurroundings
from lash_nb.toolkits.catalogue import ToolCatalogue

from .conversations import cell
from .left_sessions import records

SHIPPED = ["run_code", "read_output", "read_file"]


def tool(name: str, description: str = "", *, does: Any = lambda: None) -> Tool:
    async def invoke(call: PendingToolCall, around: ToolSurroundings) -> ToolCallOutput:
        does()
        return ToolCallOutput(outcome=ToolSucceeded(payload="done"))

    return Tool(name=name, description=description, invoke=invoke)


def offered(request: LlmRequest) -> list[str]:
    return [spec.name for spec in request.tools]


def updates(session: Session) -> list[list[str] | None]:
    """What each sync of the session gave the machine: names of tools, or nothing."""
    found: list[list[str] | None] = []
    for record in records(session):
        synced = record.get("response", {}).get("ExecutionEnvironmentSynced") if record["k"] == "answer" else None
        if synced is not None:
            update = synced["result"]["Ok"]
            found.append(None if update is None else [spec["name"] for spec in update["tool_specs"]])
    return found


async def test_a_tool_that_is_added_in_mid_turn_is_offered_with_the_next_step(tmp_path: Path) -> None:
    model = ScriptedModel(
        [calling(("first", {})), calling(("second", {})), calling(("first", {})), "Done."],
        traits=ModelTraits(protocol="tools"),
    )
    async with Session(model, kernel=ScriptedKernel(), state_dir=tmp_path) as session:
        session.add_tool(tool("first", does=lambda: session.tools.add(tool("second"))))
        await session.run("Go.")
        assert [offered(request) for request in model.requests] == [
            [*SHIPPED, "first"],
            [*SHIPPED, "first", "second"],
            [*SHIPPED, "first", "second"],
            [*SHIPPED, "first", "second"],
        ]
        # The second time the same tool was added anew, which is a change only if its description is another one.
        assert updates(session)[:2] == [None, [*SHIPPED, "first", "second"]]


async def test_what_does_not_change_is_told_once_and_the_prompt_stays(tmp_path: Path) -> None:
    model = ScriptedModel(
        [calling(("first", {})), calling(("first", {})), "Done.", "Again."], traits=ModelTraits(protocol="tools")
    )
    async with Session(model, kernel=ScriptedKernel(), tools={"first": tool("first")}, state_dir=tmp_path) as session:
        await session.run("Go.")
        await session.run("And?")
        assert updates(session) == [None] * 4
    assert all(request.tools == model.requests[0].tools for request in model.requests)
    assert len({request.messages[0] for request in model.requests}) == 1


async def test_a_model_that_writes_cells_reads_of_it_in_its_prompt(tmp_path: Path) -> None:
    kernel = ScriptedKernel()
    model = ScriptedModel([cell("1"), cell("2"), "Done."])
    async with Session(model, kernel=kernel, tools={"first": tool("first", "The first.")}, state_dir=tmp_path) as one:

        def add() -> None:
            if "second" not in one.tools.tools:
                one.add_tool(tool("second", "The second."))

        await one.run("Go.", on_activity=lambda activity: add())
    prompts = [str(request.messages[0].blocks[0]) for request in model.requests]
    assert all("- tools.first(**arguments): The first." in prompt for prompt in prompts)
    assert "- tools.second(**arguments): The second." in prompts[-1]
    assert all(request.tools == () for request in model.requests)


class ScriptedSource:
    """A server that says something each time it is refreshed, and has the tools that it is given."""

    name = "shop"
    state = "there"

    def __init__(self, *refreshes: tuple[Sequence[Tool], tuple[str, ...]]) -> None:
        self.tools: Sequence[Tool] = ()
        self.closed = 0
        self._refreshes = list(refreshes)

    async def refresh(self) -> tuple[str, ...]:
        self.tools, told = self._refreshes.pop(0) if self._refreshes else (self.tools, ())
        return told

    async def aclose(self) -> None:
        self.closed += 1


async def test_what_a_server_has_and_says_comes_with_the_sync(tmp_path: Path) -> None:
    source = ScriptedSource(
        ([tool("buy")], ()), ([tool("buy", "Now dearer."), tool("sell")], ("The server shop was started again.",))
    )
    model = ScriptedModel([calling(("buy", {})), "Done."], traits=ModelTraits(protocol="tools"))
    catalogue = ToolCatalogue()
    catalogue.add_source(source)
    async with Session(model, kernel=ScriptedKernel(), tools=catalogue, state_dir=tmp_path) as session:
        turn = await session.run("Buy.")
        assert updates(session) == [[*SHIPPED, "buy"], [*SHIPPED, "buy", "sell"]]
    assert source.closed == 0  # the catalogue stays whose it was
    last = [block.text for block in model.requests[1].messages[-1].blocks if isinstance(block, TextBlock)]
    assert "The server shop was started again." in "\n".join(last)
    assert [note.text for note in turn.picture.notes] == ["The server shop was started again."]


async def test_the_servers_of_a_session_of_its_own_end_with_it(tmp_path: Path) -> None:
    source = ScriptedSource(([tool("buy")], ()))
    async with Session(ScriptedModel(["Yes."]), kernel=ScriptedKernel(), state_dir=tmp_path) as session:
        session.tools.add_source(source)
        await session.run("Are you there?")
        assert source.closed == 0
    assert source.closed == 1
