"""How tests start these servers, call their tools, and see that nothing of them is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from lash_nb.kernels.children import descendants
from lash_nb.machine.attachments import AttachmentStore
from lash_nb.machine.tool_calls import PendingToolCall, ToolFailed, ToolFailure, ToolSucceeded
from lash_nb.toolkits import Tool, ToolSurroundings
from lash_nb.toolkits.mcp import McpServer
from lash_nb.toolkits.mcp_settings import settings_of

__all__ = ["call", "failure", "processes", "raw", "reads", "running", "sdk", "sdk_over_http", "tool", "until", "value"]

HERE = Path(__file__).parent


def raw(mode: str, *, name: str = "raw", environment: Mapping[str, str] | None = None, **more: Any) -> McpServer:
    """The server that misbehaves in that mode. `environment` is the host's."""
    given = {"command": sys.executable, "args": [str(HERE / "raw.py"), mode], **more}
    return McpServer(settings_of(name, given), env=environment)


def sdk(*, name: str = "good", environment: Mapping[str, str] | None = None, **more: Any) -> McpServer:
    """The server of the SDK, over stdio."""
    given = {"command": sys.executable, "args": [str(HERE / "sdk.py"), "stdio"], **more}
    return McpServer(settings_of(name, given), env=environment)


@contextmanager
def sdk_over_http(*words: str, port: int = 0) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The server of the SDK at an address, which it gives; it ends with the block."""
    command = [sys.executable, str(HERE / "sdk.py"), "http", str(port), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        yield f"http://127.0.0.1:{port}/mcp", process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def processes() -> set[int]:
    """What descends from this process now."""
    return set(descendants(os.getpid()))


@asynccontextmanager
async def running(server: McpServer, *, told: tuple[str, ...] | None = ()) -> AsyncIterator[McpServer]:
    """Started, told of nothing, and closed in the end; no process or task of it is left then.

    `told` None: what a first refresh says is for the test.
    """
    before, tasks = processes(), asyncio.all_tasks()
    try:
        if told is not None:
            assert await server.refresh() == told
        yield server
    finally:
        with contextlib.suppress(asyncio.CancelledError):
            await server.aclose()
        assert processes() <= before
        assert asyncio.all_tasks() <= tasks


def reads(place: Path, text: str) -> bool:
    """Whether that stands in the file."""
    return place.exists() and place.read_text() == text


async def until(holds: Callable[[], bool]) -> None:
    """Wait until it does."""
    while True:
        if holds():
            return
        await asyncio.sleep(0.01)


def tool(server: McpServer, name: str) -> Tool:
    """Its tool of that name."""
    return {tool.name: tool for tool in server.tools}[name]


async def call(
    server: McpServer, name: str, /, _store: AttachmentStore | None = None, **arguments: Any
) -> ToolSucceeded | ToolFailed:
    """What comes of a call."""
    pending = PendingToolCall(call_id="call-1", tool_name=name, args=arguments)
    output = await tool(server, name).invoke(pending, ToolSurroundings(store=_store))
    assert isinstance(output.outcome, ToolSucceeded | ToolFailed)
    return output.outcome


async def value(server: McpServer, name: str, /, **arguments: Any) -> Any:
    """What a call gives."""
    outcome = await call(server, name, **arguments)
    assert isinstance(outcome, ToolSucceeded), outcome
    return outcome.payload


async def failure(server: McpServer, name: str, /, **arguments: Any) -> ToolFailure:
    """How a call fails."""
    outcome = await call(server, name, **arguments)
    assert isinstance(outcome, ToolFailed), outcome
    return outcome.payload
