"""The lives of servers that are started: how they begin, fail, die, flood and end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lash_nb.kernels.guardian import lives
from lash_nb.machine.tool_calls import RetryNever, RetrySafe, ToolFailureClass
from lash_nb.toolkits.mcp import McpServer
from lash_nb.toolkits.mcp_settings import settings_of

from .mcp_servers.starting import HERE, failure, processes, raw, running, until, value

# -- the process -----------------------------------------------------------------------------------------------------


async def test_its_environment_is_clean_but_for_what_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    environment = {"MY_TOKEN": "abc"}
    given = {"TOKEN": "Bearer ${MY_TOKEN}", "OTHER": "${NONE:-x}"}
    server = raw("calls", env=given, cwd=str(tmp_path), environment=environment)
    async with running(server):
        told = await value(server, "where")
        assert told["token"] == "Bearer abc"
        assert told["cwd"] == str(tmp_path)
        assert "OTHER" in told["env"]
        assert "PATH" in told["env"]
        assert not {"OPENAI_API_KEY", "MY_TOKEN", "PYTHONPATH"} & set(told["env"])


async def test_a_variable_that_is_not_set() -> None:
    async with running(raw("calls", env={"TOKEN": "${NONE}"}, environment={}), told=None) as server:
        (said,) = await server.refresh()
        assert "env.TOKEN needs the environment variable NONE, which is not set" in said


async def test_a_command_that_is_not_there() -> None:
    async with running(McpServer(settings_of("x", {"command": "no-such-command"})), told=None) as server:
        (said,) = await server.refresh()
        assert "there is no command 'no-such-command' to run" in said
        assert server.state.startswith("failed: there is no command")


async def test_a_crash_at_the_start_is_told_with_the_last_line() -> None:
    server = raw("crash", env={"TOKEN": "${MY_TOKEN}"}, environment={"MY_TOKEN": "hunter22"})
    async with running(server, told=None):
        assert await server.refresh() == (
            "The MCP server 'raw' is not there: it ended with exit code 3; "
            "its last line was: ValueError: no configuration with [redacted].",
        )
        assert server.tools == ()
        assert server.state.startswith("failed: it ended with exit code 3")
        assert await server.refresh() == ()  # tried again later, and told once


async def test_a_slow_start_is_waited_for() -> None:
    async with running(raw("slow-start")) as server:
        assert await value(server, "echo") == "{}"


async def test_one_that_never_answers_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running(raw("calls")):
        pass  # has the module imported
    monkeypatch.setattr("lash_nb.toolkits._mcp_connection.START_S", 0.5)
    async with running(raw("mute"), told=None) as server:
        (said,) = await server.refresh()
        assert "it did not answer within 0.5 s" in said


async def test_a_refresh_that_is_cancelled_leaves_nothing() -> None:
    async with running(raw("mute"), told=None) as server:
        waiting = asyncio.create_task(server.refresh())
        await asyncio.sleep(0.3)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_one_that_is_closed_while_it_starts() -> None:
    async with running(raw("mute"), told=None) as server:
        starting = asyncio.create_task(server.refresh())
        await asyncio.sleep(0.3)
        await server.aclose()
        await starting
        assert server.state == "not started"


async def test_one_that_hangs_at_its_end_is_killed() -> None:
    async with running(raw("hangs")):
        pass


async def test_a_server_that_dies_during_a_call() -> None:
    async with running(raw("calls", safe=["hang"])) as server:
        waiting = asyncio.create_task(failure(server, "hang"))
        died = await failure(server, "die")
        assert (died.class_, died.code, died.retry) == (ToolFailureClass.UNAVAILABLE, "server_died", RetryNever())
        assert died.message == (
            "the MCP server 'raw' ended during the call: it was ended by SIGKILL; its last line was: my last words; "
            "whether it took effect is not known"
        )
        other = await waiting
        assert (other.code, other.retry) == ("server_died", RetrySafe())
        assert await value(server, "echo") == "{}"  # started again by the call
        (said,) = await server.refresh()
        assert said == (
            "The MCP server 'raw' was not there any more (it was ended by SIGKILL; its last line was: my last words); "
            "it was started again."
        )
        assert await server.refresh() == ()


async def test_a_server_that_dies_while_a_daemon_of_it_holds_its_pipes() -> None:
    async with running(raw("calls")) as server:
        failed = await failure(server, "leave_daemon")
        assert failed.code == "server_died"
        assert "it was ended by SIGKILL" in failed.message
        assert await value(server, "echo") == "{}"


async def test_calls_at_once_start_a_server_once() -> None:
    async with running(raw("calls")) as server:
        children = processes()
        await failure(server, "die")
        sums = await asyncio.gather(*(value(server, "add", a=n, b=1) for n in range(5)))
        assert sums == ["1", "2", "3", "4", "5"]
        assert len(processes()) == len(children)
        assert len(await server.refresh()) == 1


async def test_a_server_that_is_killed_between_calls_is_started_by_the_refresh() -> None:
    async with running(raw("calls")) as server:
        os.kill((await value(server, "where"))["pid"], signal.SIGKILL)
        said: tuple[str, ...] = ()
        while not said:
            said = await server.refresh()
            await asyncio.sleep(0.01)
        assert said == ("The MCP server 'raw' was not there any more (it was ended by SIGKILL); it was started again.",)
        assert await value(server, "add", a=1, b=2) == "3"


HOST = """
import asyncio, sys
sys.path.insert(0, {root!r})
from tests.toolkits.mcp_servers.starting import raw
from lash_nb.kernels.children import descendants
import os
async def main():
    server, hangs = raw("calls"), raw("hangs")
    print(await server.refresh(), await hangs.refresh(), sorted(descendants(os.getpid())), flush=True)
    os.kill(os.getpid(), 9)
asyncio.run(main())
"""


async def test_no_server_outlives_its_host() -> None:
    code = HOST.format(root=str(HERE.parents[2]))
    host = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True)
    assert host.stdout.startswith("() () ["), host.stderr
    left = [int(pid) for pid in host.stdout.partition("[")[2].strip(" ]\n").split(", ")]
    assert len(left) == 4  # two servers, each with its guard
    await until(lambda: not any(lives(pid, None) for pid in left))


async def test_a_cwd_that_is_not_there(tmp_path: Path) -> None:
    async with running(raw("calls", cwd=str(tmp_path / "none")), told=None) as server:
        (said,) = await server.refresh()
        assert "FileNotFoundError" in said


# -- floods ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["long_line", "long_line_id_last", "many_blocks"])
async def test_a_result_that_is_too_big_costs_only_its_call(name: str) -> None:
    async with running(raw("calls")) as server:
        children = processes()
        failed = await failure(server, name)
        assert (failed.class_, failed.code) == (ToolFailureClass.RESOURCE_LIMIT, "flooded")
        assert await value(server, "echo") == "{}"
        assert processes() == children
        assert await server.refresh() == ()


@pytest.mark.parametrize("name", ["endless_line", "garbage", "logs", "progress", "questions"])
async def test_a_flood_without_end_ends_the_server(name: str) -> None:
    async with running(raw("calls")) as server:
        failed = await failure(server, name)
        assert (failed.class_, failed.code) == (ToolFailureClass.RESOURCE_LIMIT, "flooded")
        assert failed.message.startswith("the MCP server 'raw' was ended: it sent more than anyone could read")
        assert await value(server, "echo") == "{}"
        (said,) = await server.refresh()
        assert said.startswith("The MCP server 'raw' was not there any more (it sent more than anyone could read")


async def test_some_noise_is_no_flood() -> None:
    async with running(raw("calls")) as server:
        assert await value(server, "some_logs") == "after the logs"
        assert await value(server, "stderr") == "after stderr"
        assert await server.refresh() == ()
