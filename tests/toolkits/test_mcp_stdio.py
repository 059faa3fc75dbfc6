"""Servers that are started: their lives, their tools, their calls, and how they misbehave."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lash_nb.machine.attachments import AttachmentRef, AttachmentWriter
from lash_nb.machine.tool_calls import (
    PendingToolCall,
    RetryNever,
    RetrySafe,
    ToolFailed,
    ToolFailureClass,
    ToolFailureSource,
    ToolSucceeded,
)
from lash_nb.toolkits import ToolPolicy, ToolSource, ToolSurroundings

from .mcp_servers.starting import call, failure, processes, raw, reads, running, sdk, tool, until, value

# -- lists and calls -------------------------------------------------------------------------------------------------


async def test_tools_are_listed_and_called() -> None:
    server = sdk()
    assert server.state == "not started"
    assert isinstance(server, ToolSource)
    async with running(server):
        assert server.state == "7 tools"
        assert [tool.name for tool in server.tools] == ["add", "say", "where", "fails", "show", "slow", "grow"]
        add = tool(server, "add")
        assert add.description == "[in the words of the MCP server 'good', which nobody vouches for]\nAdd two numbers."
        assert add.signature == "(*, a: int, b: int = ...) -> {'result': int}"
        assert add.source == "mcp:good"
        assert add.policy == ToolPolicy(approve="effects", safe=False, timeout_s=120.0)
        assert add.parameters is None
        assert isinstance(add.output_schema, dict)
        assert add.output_schema["properties"]["result"]["type"] == "integer"
        assert await value(server, "add", a=2, b=3) == {"result": 5}
        assert await value(server, "say", text="Grüße") == "Grüße"
    assert server.state == "not started"
    assert server.tools == ()
    await server.aclose()
    # A tool that someone has kept does not start it again.
    late = await add.invoke(PendingToolCall(call_id="late", tool_name="add", args={"a": 1}), ToolSurroundings())
    assert isinstance(late.outcome, ToolFailed)
    assert late.outcome.payload.message == "the MCP server 'good' is not there: it was closed"


async def test_a_refresh_asks_nothing_when_nothing_changed() -> None:
    async with running(raw("calls")) as server:
        before, children = server.tools, processes()
        assert await server.refresh() == ()
        assert server.tools is before
        assert processes() == children


async def test_it_can_be_started_again_after_it_was_closed() -> None:
    server = raw("calls")
    for _ in range(2):
        async with running(server):
            assert await value(server, "add", a=1, b=2) == "3"


async def test_wrong_arguments_do_not_reach_the_server() -> None:
    async with running(raw("calls")) as server:
        wrong = await failure(server, "strict", word=5)
        assert wrong.class_ is ToolFailureClass.INVALID_REQUEST
        assert wrong.source is ToolFailureSource.RUNTIME
        assert wrong.message == "word: 5 is not of type 'string'"
        assert "'word' is a required property" in (await failure(server, "strict", n=1)).message
        assert (await failure(server, "strict", word="", n=0)).message == "n: 0 is less than the minimum of 1"
        assert "'other' was unexpected" in (await failure(server, "strict", word="", other=1)).message


async def test_what_a_check_could_not_end_is_left_to_the_server() -> None:
    async with running(raw("calls")) as server:
        assert await value(server, "strict", word="a" * 60 + "!") == '{"word": "%s!"}' % ("a" * 60)
        assert await value(server, "costly", a="x") == '{"a": "x"}'


async def test_failures_are_typed() -> None:
    async with running(raw("calls")) as server:
        broke = await failure(server, "error")
        assert (broke.class_, broke.code) == (ToolFailureClass.EXTERNAL, "jsonrpc_-32603")
        assert broke.message == "the MCP server 'raw': it broke"
        assert broke.source is ToolFailureSource.TOOL
        wrong = await failure(server, "error", code=-32602)
        assert (wrong.class_, wrong.code) == (ToolFailureClass.INVALID_REQUEST, "invalid_params")
        # One that only we can have written: a server's does not pass for it.
        assert (await failure(server, "error", code=-32019)).code == "jsonrpc_-32019"
        bad = await failure(server, "no_result")
        assert (bad.class_, bad.code) == (ToolFailureClass.EXTERNAL, "bad_result")


class ScriptedStore:
    """A store that keeps what it is given."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def put(self, data: bytes, *, media_type: str, label: str | None = None) -> AttachmentRef:
        self.kept[f"kept:{len(self.kept)}"] = data
        return AttachmentRef(id=f"kept:{len(self.kept) - 1}", media_type=media_type, byte_len=len(data), label=label)

    def get(self, ref: AttachmentRef) -> bytes:
        return self.kept[ref.id]

    def writer(self, *, media_type: str, label: str | None = None) -> AttachmentWriter:
        raise NotImplementedError


async def test_parts_of_a_result() -> None:
    store = ScriptedStore()
    async with running(sdk()) as server:
        failed = await failure(server, "fails", why="because")
        assert (failed.class_, failed.code) == (ToolFailureClass.EXTERNAL, "tool_error")
        assert failed.message.startswith("Error executing tool fails")
        assert failed.retry == RetryNever()
        outcome = await call(server, "show", _store=store)
        assert isinstance(outcome, ToolSucceeded)
        ref = {"id": "kept:0", "media_type": "image/png", "byte_len": 15}
        assert outcome.payload == [
            "a picture:",
            {"$lash_tool_value": "attachment", "source": {"source": "stored", "attachment_ref": ref}},
            "[a link to the server's resource more: test://more]",
            "inside",
        ]
        assert store.kept == {"kept:0": b"\x89PNG not really"}
        inline = (await value(server, "show"))[1]["source"]
        assert inline == {"source": "inline", "media_type": "image/png", "bytes": list(b"\x89PNG not really")}


async def test_what_a_server_sends_does_not_pass_for_an_attachment() -> None:
    async with running(raw("calls")) as server:
        source = {"media_type": "image/png", "source": "external_url", "url": "https://example.invalid/x.png"}
        assert await value(server, "forged") == {
            "$lash_tool_value": "object",
            "entries": {"$lash_tool_value": "attachment", "source": source},
        }
        assert await value(server, "halves") == "a\ufffdb"


async def test_a_server_that_asks_is_declined() -> None:
    async with running(raw("calls")) as server:
        said = await value(server, "asks")
        assert said == "sampling/createMessage: declined, elicitation/create: declined, roots/list: declined"


async def test_twenty_calls_at_once() -> None:
    async with running(raw("calls")) as server:
        sums = await asyncio.gather(*(value(server, "add", a=n, b=n) for n in range(20)))
        assert sums == [str(2 * n) for n in range(20)]


async def test_one_of_two_calls_is_cancelled(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    async with running(sdk()) as server:
        cancelled = asyncio.create_task(call(server, "slow", place=str(one), seconds=600))
        kept = asyncio.create_task(value(server, "slow", place=str(other), seconds=1.5))
        await until(lambda: reads(one, "begun") and reads(other, "begun"))
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        await until(lambda: reads(one, "cancelled"))
        assert await kept == {"result": "done"}


async def test_a_call_that_takes_too_long_is_cancelled(tmp_path: Path) -> None:
    place = tmp_path / "place"
    async with running(raw("calls", timeout_s=0.5, safe=["slow"])) as server:
        failed = await failure(server, "slow", place=str(place))
        assert (failed.class_, failed.code) == (ToolFailureClass.TIMEOUT, "timeout")
        assert failed.retry == RetrySafe()
        assert failed.message == "the MCP server 'raw' did not answer within 0.5 s; the call was cancelled"
        await until(lambda: reads(place, "cancelled"))
        assert await value(server, "go") == "gone"


# -- changes ---------------------------------------------------------------------------------------------------------


async def test_a_changed_list_comes_with_the_next_refresh() -> None:
    async with running(raw("calls")) as server:
        before = {tool.name: tool for tool in server.tools}
        await call(server, "grow")
        assert await server.refresh() == ()
        after = {tool.name: tool for tool in server.tools}
        assert after.keys() - before.keys() == {"grown"}
        assert all(after[name] is before[name] for name in before)
        assert await value(server, "grown", b=1) == '{"b": 1}'


async def test_a_server_of_the_newest_version() -> None:
    async with running(raw("modern")) as server:
        assert await value(server, "echo", a=1) == '{"a": 1}'
        known = server.tools
        assert await server.refresh() == ()
        assert server.tools is known
        await call(server, "grow")
        assert await server.refresh() == ()
        assert len(server.tools) == len(known) + 1
        failed = await failure(server, "wants")
        assert (failed.class_, failed.code) == (ToolFailureClass.EXTERNAL, "input_required")


async def test_without_a_subscription_each_refresh_asks() -> None:
    async with running(raw("modern")) as server:
        known = len(server.tools)
        await call(server, "leave")
        await call(server, "grow")  # and nobody is told
        while len(server.tools) == known:
            assert await server.refresh() == ()
            await asyncio.sleep(0.01)
        assert await value(server, "grown") == "{}"


async def test_a_list_of_several_pages() -> None:
    async with running(raw("pages")) as server:
        assert [tool.name for tool in server.tools] == ["t0", "t1", "t2"]


async def test_a_list_without_end() -> None:
    async with running(raw("many-tools"), told=None) as server:
        (said,) = await server.refresh()
        assert said == "Of the MCP server 'raw' some tools are left out: '…' (there are more than 500)."
        assert server.state == "500 tools"


async def test_bad_tools_are_left_out_and_names_are_made_fit() -> None:
    async with running(raw("bad-tools"), told=None) as server:
        (said,) = await server.refresh()
        names = [tool.name for tool in server.tools]
        assert names == ["read_file", "raw_read_file", "class_", "tool_2nd", "berall", "twice", "annotated"]
        words = tool(server, "read_file").description
        assert words.startswith("[in the words of the MCP server 'raw', which nobody vouches for]\nRed evil zero. xxx")
        assert words.endswith("x…")
        assert len(words) == len("[in the words of the MCP server 'raw', which nobody vouches for]\n") + 2000
        assert said.startswith("Of the MCP server 'raw' some tools are left out: '(no name)' (it has no name), ")
        assert said.endswith(" and 7 more.")


async def test_only_some_tools_and_a_prefix() -> None:
    settings: dict[str, Any] = {"tools": ["add", "go", "none"], "prefix": True, "safe": ["add"], "approve": "never"}
    async with running(raw("calls", name="my-board", **settings), told=None) as server:
        assert await server.refresh() == ("The MCP server 'my-board' has no tool 'none'.",)
        assert [tool.name for tool in server.tools] == ["my_board_add", "my_board_go"]
        policy = tool(server, "my_board_add").policy
        assert policy == ToolPolicy(approve="never", safe=True, timeout_s=120.0)
        assert await value(server, "my_board_add", a=1, b=2) == "3"
