"""Tools of MCP servers: programs that are started, or addresses; through the official SDK (the extra `mcp`).

    catalogue.add_source(server_of("files", {"command": "files-server", "args": ["."]}))

Decided here: a server is started by the first refresh, or by the first call after it ended; one that cannot be started
is tried again later, and later still. Its tools are listed when it is started and when it says that they have changed,
else a refresh asks it nothing. A call that was under way when a server ended is a failed one, and is not made again
here: nobody knows whether it took effect. Everything foreign stays in this file's private siblings: `_mcp_connection`
(one connection), `_mcp_line`, `_mcp_stdio`, `_mcp_guard`, `_mcp_http` (how it is reached, and bounded), `_mcp_listing`,
`_mcp_schemas` (tools), `_mcp_results` (results), `_mcp_words` (texts of strangers). The SDK is imported when a server
is started.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import InputError, LashError, MissingExtraError
from ..machine.tool_calls import PendingToolCall, ToolCallOutput, ToolFailureClass, ToolFailureSource
from . import Tool, ToolPolicy, ToolSurroundings
from ._mcp_listing import ListedTool, listed
from ._mcp_results import failed, output_of
from .mcp_settings import ServerSettings, settings_of

if TYPE_CHECKING:
    from ._mcp_connection import Connection

__all__ = ["McpServer", "server_of", "servers_of"]

_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
_TIMES_AS_LONG = 4.0
_TROUBLES = {
    "flood": (ToolFailureClass.RESOURCE_LIMIT, "flooded"),
    "unreachable": (ToolFailureClass.UNAVAILABLE, "unreachable"),
    "denied": (ToolFailureClass.PERMISSION_DENIED, "refused"),
    "session_lost": (ToolFailureClass.UNAVAILABLE, "session_lost"),
    "refused": (ToolFailureClass.UNAVAILABLE, "refused"),
    "unreadable": (ToolFailureClass.EXTERNAL, "bad_result"),
}
_CODES = {
    -32602: (ToolFailureClass.INVALID_REQUEST, "invalid_params"),
    -32601: (ToolFailureClass.UNAVAILABLE, "method_not_found"),
    -32000: (ToolFailureClass.UNAVAILABLE, "connection_lost"),
}


def server_of(name: str, settings: Mapping[str, Any], *, base_dir: str | Path | None = None) -> McpServer:
    """The server of these settings, not started yet. Raises InputError, MissingExtraError."""
    read = settings_of(name, settings, base_dir=base_dir)
    _check_installed()
    return McpServer(read)


def servers_of(settings: Mapping[str, Any], *, base_dir: str | Path | None = None) -> tuple[McpServer, ...]:
    """The servers by name, or what stands under `mcpServers`. Raises InputError, MissingExtraError."""
    if not isinstance(settings, Mapping):
        raise InputError("MCP servers are given by name: {'files': {'command': …}}")
    inner = settings.get("mcpServers")
    if isinstance(inner, Mapping) and len(settings) == 1:
        settings = inner
    return tuple(server_of(name, given, base_dir=base_dir) for name, given in settings.items())


def _check_installed() -> None:
    if find_spec("mcp") is None:
        raise MissingExtraError("MCP servers need a package that is not installed: pip install 'lash-nb[mcp]'")


def _foreign() -> Any:
    """The part that imports the SDK. Raises MissingExtraError."""
    _check_installed()
    try:
        return import_module(f"{__package__}._mcp_connection")
    except ImportError as error:
        what = f"the package mcp that is installed cannot be used ({error})"
        raise MissingExtraError(f"{what}: pip install 'lash-nb[mcp]'") from error


class McpServer:
    """A source of tools (see `ToolSource`). Everything but `name`, `state` and `tools` runs on one loop."""

    def __init__(self, settings: ServerSettings, *, env: Mapping[str, str] | None = None) -> None:
        self.settings = settings
        self._env = env
        self._tools: tuple[Tool, ...] = ()
        self._listed: dict[str, ListedTool] = {}
        self._untold: tuple[str, ...] = ()
        """What came to light during calls."""
        self._failure = ""
        self._connection: Connection | None = None
        self._lock = asyncio.Lock()
        self._wanted = False
        """It was refreshed, and not closed since."""
        self._wait_s = _FIRST_WAIT_S
        self._not_before = 0.0

    @property
    def name(self) -> str:
        """What it is removed by."""
        return self.settings.name

    @property
    def state(self) -> str:
        """In a word or two: `3 tools`, `not started`, `failed: …`."""
        if self._failure:
            return f"failed: {self._failure}"
        if self._connection is None:
            return "not started"
        return f"{len(self._tools)} tool{'' if len(self._tools) == 1 else 's'}"

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Those that it has now."""
        return self._tools

    async def refresh(self) -> tuple[str, ...]:
        """Be there, with the current tools; what is to be told of it, in sentences."""
        self._wanted = True
        untold, self._untold = self._untold, ()
        if self._connection is not None and self._connection.alive and not self._connection.line.changed:
            return untold
        async with self._lock:
            return (*untold, *await self._refreshed())

    async def _refreshed(self) -> tuple[str, ...]:
        if self._failure and time.monotonic() < self._not_before:
            return ()
        before, began = self._failure, time.monotonic()
        told: list[str] = []
        for attempt in (1, 2):
            was_there = self._connection is not None
            try:
                await self._connect(told)
                told += await self._list()
            except LashError as error:
                failure = str(error)
                await self._disconnect()
                if attempt == 1 and was_there and self._wanted:
                    continue  # a line may have been dead for long, and only now it shows
                self._tools, self._listed = (), {}
                self._failure = failure
                now = time.monotonic()  # one that takes long to fail is to cost turns little
                self._not_before = now + max(self._wait_s, _TIMES_AS_LONG * (now - began))
                self._wait_s = min(self._wait_s * 2, _LONGEST_WAIT_S)
                if failure == before:  # it was told already
                    return ()
                return (f"The MCP server {self.name!r} is not there: {failure}.",)
            break
        self._failure, self._wait_s = "", _FIRST_WAIT_S
        return tuple(told)

    async def _connect(self, told: list[str]) -> None:
        """Have a connection that lives. Raises NotThere, MissingExtraError."""
        if self._connection is not None and self._connection.line.ended is not None:
            why = await self._connection.why()
            verb = "connected to" if self.settings.url is not None else "started"
            told.append(f"The MCP server {self.name!r} was not there any more ({why}); it was {verb} again.")
            await self._disconnect()
        if self._connection is None:
            module = await asyncio.to_thread(_foreign)  # which takes a second or two
            if not self._wanted:
                raise LashError("it was closed")
            self._connection = module.Connection(self.settings, self._env)
        await self._connection.start()

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.aclose()

    async def _list(self) -> tuple[str, ...]:
        """List its tools, where they are not known. Raises NotThere, CallFailed."""
        connection = self._connection
        if connection is None or not connection.line.changed:
            return ()
        announced, left_out = await connection.tools()
        try:  # many and long schemas take their time to be checked
            found = await asyncio.to_thread(listed, self.settings, announced, left_out)
        except BaseException:
            connection.line.changed = True
            raise
        known = {tool.name: tool for tool in self._tools}
        places = {name: place for place, name in enumerate(known)}  # an order of its own would change the prompt
        self._tools = tuple(
            known[tool.name] if _same(self._listed.get(tool.name), tool) else self._tool(tool)
            for tool in sorted(found.tools, key=lambda one: places.get(one.name, len(places)))
        )
        self._listed = {tool.name: tool for tool in found.tools}
        return found.told

    def _tool(self, tool: ListedTool) -> Tool:
        async def invoke(call: PendingToolCall, around: ToolSurroundings) -> ToolCallOutput:
            return judge(call, around) or await self._call(tool, call, around)

        def judge(call: PendingToolCall, around: ToolSurroundings) -> ToolCallOutput | None:
            problem, source = tool.check.problem(call.args), ToolFailureSource.RUNTIME
            if problem is None:
                return None
            return failed(ToolFailureClass.INVALID_REQUEST, "bad_arguments", problem, source=source)

        settings = self.settings
        return Tool(
            name=tool.name,
            description=tool.description,
            input_schema=tool.input_schema,
            output_schema=tool.output_schema,
            signature=tool.signature,
            policy=ToolPolicy(
                approve=settings.approve, safe=tool.remote in settings.safe, timeout_s=settings.timeout_s
            ),
            source=f"mcp:{settings.name}",
            invoke=invoke,
            judge=judge,
        )

    # -- calls -------------------------------------------------------------------------------------------------------

    async def _call(self, tool: ListedTool, call: PendingToolCall, around: ToolSurroundings) -> ToolCallOutput:
        output = await self._asked(tool, call.args, around)
        if output is None:  # the server had forgotten us, and has not seen the call
            output = await self._asked(tool, call.args, around)
        if output is None:
            message = f"the MCP server {self.name!r} forgets its sessions"
            return failed(ToolFailureClass.UNAVAILABLE, "session_lost", message, again=self._safe(tool))
        return output

    def _safe(self, tool: ListedTool) -> bool:
        return tool.remote in self.settings.safe

    async def _asked(self, tool: ListedTool, arguments: Any, around: ToolSurroundings) -> ToolCallOutput | None:
        """One attempt; None: the session is lost, and the call was not made."""
        from ._mcp_connection import CallFailed, NotThere

        server, again = f"the MCP server {self.name!r}", self._safe(tool)
        connection = await self._living()
        if connection is None:
            message = f"{server} is not there: {self._failure or 'it was closed'}"
            return failed(ToolFailureClass.UNAVAILABLE, "not_started", message, again=again)
        try:
            result = await connection.call(tool.remote, arguments, self.settings.timeout_s)
        except TimeoutError:
            message = f"{server} did not answer within {self.settings.timeout_s:g} s; the call was cancelled"
            return failed(ToolFailureClass.TIMEOUT, "timeout", message, again=again)
        except NotThere as error:
            ended = connection.line.ended
            if ended is not None and ended.how == "session_lost":
                return failed(ToolFailureClass.UNAVAILABLE, "session_lost", f"{server}: {error}", again=again)
            if ended is not None and ended.how == "flood":
                message = f"{server} was ended: {error}"
                return failed(ToolFailureClass.RESOURCE_LIMIT, "flooded", message)
            message = f"{server} ended during the call: {error}; whether it took effect is not known"
            return failed(ToolFailureClass.UNAVAILABLE, "server_died", message, again=again)
        except CallFailed as error:
            if error.trouble == "session_lost":
                return None
            kind, code = _TROUBLES[error.trouble] if error.trouble else _CODES.get(error.code, _other(error.code))
            again = again and kind is ToolFailureClass.UNAVAILABLE
            return failed(kind, code, f"{server}: {error}", again=again)
        if result is None:
            message = f"{server} asks the user for something before it goes on; that is declined here"
            return failed(ToolFailureClass.EXTERNAL, "input_required", message)
        return output_of(result, around)

    async def _living(self) -> Connection | None:
        """The connection, where need be a new one; None: there is none to be had now."""
        if self._connection is None or not self._connection.alive:
            async with self._lock:
                if self._wanted and (self._connection is None or not self._connection.alive):
                    self._untold += await self._refreshed()
        connection = self._connection
        return connection if connection is not None and connection.alive else None

    async def aclose(self) -> None:
        """End the server; a refresh starts it again. A second call does nothing."""
        self._wanted = False
        await self._disconnect()  # who waits for it to start does so under the lock
        async with self._lock:
            await self._disconnect()
            self._tools, self._listed, self._untold = (), {}, ()
            self._failure, self._wait_s, self._not_before = "", _FIRST_WAIT_S, 0.0


def _other(code: int) -> tuple[ToolFailureClass, str]:
    return ToolFailureClass.EXTERNAL, f"jsonrpc_{code}"


def _same(before: ListedTool | None, now: ListedTool) -> bool:
    """Whether calls of both are the same, and a model would be told the same of them."""
    return before is not None and replace(before, check=now.check) == now
