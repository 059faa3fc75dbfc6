"""Servers at an address: the SDK's own, and a scripted one that misbehaves."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from lash_nb.machine.tool_calls import RetryNever, ToolFailureClass
from lash_nb.toolkits.mcp import McpServer
from lash_nb.toolkits.mcp_settings import settings_of

from .mcp_servers.scripted import scripted_http
from .mcp_servers.starting import call, failure, reads, running, sdk_over_http, until, value


def at(url: str, *, environment: dict[str, str] | None = None, **more: Any) -> McpServer:
    return McpServer(settings_of("web", {"url": url, **more}), env=environment)


@pytest.mark.parametrize("words", [(), ("json",)], ids=["events", "json"])
async def test_tools_are_listed_called_cancelled_and_changed(tmp_path: Path, words: tuple[str, ...]) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with sdk_over_http(*words) as (url, _):
        async with running(at(url)) as server:
            assert server.state == "7 tools"
            sums = await asyncio.gather(*(value(server, "add", a=n, b=n) for n in range(20)))
            assert sums == [{"result": 2 * n} for n in range(20)]
            cancelled = asyncio.create_task(call(server, "slow", place=str(one), seconds=600))
            kept = asyncio.create_task(value(server, "slow", place=str(other), seconds=1.5))
            await until(lambda: reads(one, "begun") and reads(other, "begun"))
            cancelled.cancel()
            with pytest.raises(asyncio.CancelledError):
                await cancelled
            await until(lambda: reads(one, "cancelled"))
            assert await kept == {"result": "done"}
            before = server.tools
            await call(server, "grow", name="another")
            while len(server.tools) == 7:
                assert await server.refresh() == ()
                await asyncio.sleep(0.01)
            assert server.tools[:7] == before
            assert await value(server, "another", text="hi") == {"result": "hi"}


async def test_a_server_that_goes_away() -> None:
    with sdk_over_http() as (url, process):
        async with running(at(url)) as server:
            process.kill()
            process.wait()
            gone = await failure(server, "add", a=1)
            assert (gone.class_, gone.code) == (ToolFailureClass.UNAVAILABLE, "unreachable")
            assert gone.message.startswith("the MCP server 'web': it cannot be reached (ConnectError")
            (said,) = await server.refresh()
            assert said.startswith("The MCP server 'web' is not there: it cannot be reached (ConnectError")
            assert server.tools == ()
            assert server.state.startswith("failed: it cannot be reached")


async def test_a_server_that_was_started_anew_does_not_know_the_session() -> None:
    with sdk_over_http() as (url, process):
        async with running(at(url)) as server:
            assert await value(server, "add", a=1) == {"result": 2}
            process.kill()
            process.wait()
            with sdk_over_http(port=urlsplit(url).port or 0):
                assert await value(server, "add", a=2) == {"result": 3}
                (said,) = await server.refresh()
                assert "it did not know the session any more" in said
                await server.aclose()


async def test_nobody_listens() -> None:
    async with running(at("http://127.0.0.1:9/mcp"), told=None) as server:
        (said,) = await server.refresh()
        assert said.startswith("The MCP server 'web' is not there: it cannot be reached (ConnectError")


async def test_headers_are_filled_in_from_the_environment() -> None:
    headers = {"Authorization": "Bearer ${BOARD}"}
    with scripted_http() as web:
        async with running(at(web.url, headers=headers, environment={"BOARD": "abc"})) as server:
            assert await value(server, "ok") == "ok"
        assert set(web.headers) == {"Bearer abc"}
        assert web.asked == ["initialize", "notifications/initialized", "tools/list", "ok", "DELETE"]


@pytest.mark.parametrize(
    ("name", "kind", "code", "words"),
    [
        ("denied", ToolFailureClass.PERMISSION_DENIED, "refused", "it refuses us (HTTP 401): are its headers right?"),
        ("forbidden", ToolFailureClass.PERMISSION_DENIED, "refused", "it refuses us (HTTP 403)"),
        ("broken", ToolFailureClass.UNAVAILABLE, "refused", "it answered with HTTP 500"),
        ("big_json", ToolFailureClass.RESOURCE_LIMIT, "flooded", "its answer is longer than 8,388,608 bytes"),
        ("big_event", ToolFailureClass.RESOURCE_LIMIT, "flooded", "it is longer than 8,388,608 bytes"),
        ("cut_body", ToolFailureClass.UNAVAILABLE, "unreachable", "it cannot be reached (RemoteProtocolError"),
        ("breaks_off", ToolFailureClass.UNAVAILABLE, "connection_lost", "SSE stream ended without a response"),
        ("no_json", ToolFailureClass.EXTERNAL, "jsonrpc_-32700", "Failed to parse JSON response"),
    ],
)
async def test_what_goes_wrong_costs_only_its_call(
    name: str, kind: ToolFailureClass, code: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.CRITICAL), scripted_http() as web:
        async with running(at(web.url)) as server:
            other = asyncio.create_task(value(server, "later"))
            failed = await failure(server, name)
            assert (failed.class_, failed.code, failed.retry) == (kind, code, RetryNever())
            assert failed.message.startswith(f"the MCP server 'web': {words}")
            assert await other == "ok"
        assert web.session == 1


async def test_a_session_that_was_forgotten_is_begun_again() -> None:
    with scripted_http() as web:
        async with running(at(web.url)) as server:
            assert await value(server, "forgets_once") == "ok"
            (said,) = await server.refresh()
            assert said == (
                "The MCP server 'web' was not there any more (it did not know the session any more); "
                "it was connected to again."
            )
            failed = await failure(server, "forgets")
            assert (failed.class_, failed.code) == (ToolFailureClass.UNAVAILABLE, "session_lost")
            assert web.asked.count("forgets") == 2


async def test_a_redirect_to_another_host_is_not_followed() -> None:
    with scripted_http() as elsewhere, scripted_http(elsewhere.url) as web:
        async with running(at(web.url)) as server:
            failed = await failure(server, "redirects")
            assert failed.class_ is ToolFailureClass.EXTERNAL
            assert "not followed" in failed.message
            assert elsewhere.asked == []


async def test_events_before_a_result() -> None:
    with scripted_http() as web:
        async with running(at(web.url)) as server:
            assert await value(server, "events") == "after the events"


async def test_a_flood_of_events_ends_the_connection() -> None:
    with scripted_http() as web:
        async with running(at(web.url)) as server:
            failed = await failure(server, "endless_events")
            assert (failed.class_, failed.code) == (ToolFailureClass.RESOURCE_LIMIT, "flooded")
            assert await value(server, "ok") == "ok"
            (said,) = await server.refresh()
            assert said.startswith("The MCP server 'web' was not there any more (it sent more than anyone could read)")


async def test_a_call_that_is_never_answered() -> None:
    with scripted_http() as web:
        async with running(at(web.url, timeout_s=0.3)) as server:
            failed = await failure(server, "never")
            assert (failed.class_, failed.code) == (ToolFailureClass.TIMEOUT, "timeout")
            await until(lambda: "notifications/cancelled" in web.asked)
            assert await value(server, "ok") == "ok"
