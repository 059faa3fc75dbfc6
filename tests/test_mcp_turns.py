"""Turns whose tools come from two real servers that die, flood and change: each is told, and the turn goes on."""

from __future__ import annotations

from pathlib import Path

from lash_nb import ScriptedKernel, Session, ToolCatalogue
from lash_nb.machine.llm import LlmResponse, ToolResultBlock
from lash_nb.machine.tool_calls import TOOL_CALL_OUTPUT, ToolCallOutput, ToolFailed
from lash_nb.models import ModelTraits
from lash_nb.models.scripted import ScriptedModel, calling
from lash_nb.toolkits.mcp import McpServer
from lash_nb.toolkits.mcp_settings import settings_of

from .left_sessions import records
from .toolkits.mcp_servers.starting import processes, raw, sdk_over_http


def scripted(*replies: LlmResponse | str) -> ScriptedModel:
    return ScriptedModel(replies, traits=ModelTraits(protocol="tools"))


def told(model: ScriptedModel) -> dict[str, str]:
    """What the model was told of each call, by its id."""
    blocks = [block for message in model.requests[-1].messages for block in message.blocks]
    return {block.call_id: block.content for block in blocks if isinstance(block, ToolResultBlock)}


def codes(session: Session) -> dict[str, str]:
    """How each call ended, as the journal has it."""
    found = {}
    for record in records(session):
        if record["k"] == "called":
            output: ToolCallOutput = TOOL_CALL_OUTPUT.decode(record["output"])
            failed = output.outcome.payload if isinstance(output.outcome, ToolFailed) else None
            found[record["call"]] = "ok" if failed is None else f"{failed.class_.value}/{failed.code}"
    return found


async def test_a_server_that_dies_and_floods_costs_its_own_calls_alone(tmp_path: Path) -> None:
    before = processes()
    model = scripted(
        calling(("die", {}, "dies"), ("add", {"a": 1, "b": 2}, "other")),
        calling(("garbage", {}, "floods"), ("say", {"text": "still here"}, "there")),
        calling(("num_add", {"a": 3, "b": 4}, "again")),
        "All told.",
    )
    with sdk_over_http() as (address, _):
        catalogue = ToolCatalogue()
        catalogue.add_source(McpServer(settings_of("good", {"url": address, "approve": "never"})))
        catalogue.add_source(raw("plain", name="bad", approve="never"))
        try:
            async with Session(model, kernel=ScriptedKernel(), tools=catalogue, state_dir=tmp_path) as session:
                turn = await session.run("Go.")
                ended = codes(session)
        finally:
            await catalogue.aclose()
    assert turn.text == "All told."
    assert ended["dies"] == "unavailable/server_died"
    assert ended["other"] == "ok"
    assert ended["floods"] == "resource_limit/flooded"
    assert ended["there"] == "ok"
    results = told(model)
    assert "still here" in results["there"]
    assert "whether it took effect is not known" in results["dies"]
    assert "No tool is called 'num_add'" in results["again"]
    notes = "\n".join(note.text for note in turn.picture.notes)
    assert "'bad' was not there any more" in notes
    assert processes() <= before


async def test_a_tool_that_a_server_gets_in_mid_turn_can_be_called_in_the_next_step(tmp_path: Path) -> None:
    model = scripted(calling(("grow", {"name": "louder"}, "a")), calling(("louder", {"text": "ha"}, "b")), "It grew.")
    with sdk_over_http() as (address, _):
        catalogue = ToolCatalogue()
        catalogue.add_source(McpServer(settings_of("good", {"url": address, "approve": "never"})))
        try:
            async with Session(model, kernel=ScriptedKernel(), tools=catalogue, state_dir=tmp_path) as session:
                turn = await session.run("Grow.")
        finally:
            await catalogue.aclose()
    assert turn.text == "It grew."
    assert "louder" not in [spec.name for spec in model.requests[0].tools]
    assert "louder" in [spec.name for spec in model.requests[1].tools]
    assert [spec for spec in model.requests[1].tools if spec.name != "louder"] == list(model.requests[0].tools)
    assert "ha" in told(model)["b"]
