"""One connection with a server: from its start to its end, in a task of its own; what is asked over it meanwhile.

Decided here: the handshake that all servers know comes first, the newer one where that is refused. The SDK's context
managers belong to the task that entered them, so one task holds them, and ends when the line does; calls are made from
the tasks of their callers, and one that is cancelled tells the server so and disturbs nobody. Sampling, elicitation and
roots are declined: they are not offered, and the SDK refuses them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from mcp.client._transport import TransportStreams
from mcp.client.session import ClientSession
from mcp.client.subscriptions import Subscription, SubscriptionLost, listen
from mcp.shared.exceptions import MCPError
from mcp_types import (
    CallToolRequest,
    CallToolRequestParams,
    CallToolResult,
    Implementation,
    InputRequiredResult,
    PaginatedRequestParams,
    Tool,
)
from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from pydantic import TypeAdapter, ValidationError

from ..errors import InputError, LashError
from ..version import __version__
from ._mcp_http import http_streams
from ._mcp_line import Line, Sieve, Trouble, trouble_of
from ._mcp_listing import MAX_TOOLS
from ._mcp_stdio import StdioServer
from ._mcp_words import one_line
from .mcp_settings import ServerSettings, filled

__all__ = ["CallFailed", "Connection", "NotThere"]

START_S = 30.0
_LISTEN_S = 5.0
_SHORTEST_SECRET = 6
_MAX_PAGES = 100
_RESULT: TypeAdapter[CallToolResult | InputRequiredResult] = TypeAdapter(CallToolResult | InputRequiredResult)

# What the SDK has to say of a server would be printed in the notebook where no logging is set up.
for _name in ("mcp", "client"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class NotThere(LashError):
    """The server could not be started, or has ended; the message is the predicate of a sentence about it."""


class CallFailed(LashError):
    """A request was answered with an error; `trouble` is what went wrong on our side of the line, else `code` says."""

    def __init__(self, message: str, *, trouble: Trouble | None = None, code: int = 0) -> None:
        self.trouble = trouble
        self.code = code
        super().__init__(message)


class Connection:
    """A line to one server; `start` it, and close it in the end."""

    def __init__(self, settings: ServerSettings, env: Mapping[str, str] | None = None) -> None:
        self.line = Line()
        self._settings = settings
        self._host_env = os.environ if env is None else env
        self._secrets: tuple[str, ...] = ()
        self._session: ClientSession | None = None
        self._server: StdioServer | None = None
        self._ready = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._session is not None and self.line.ended is None

    async def start(self) -> None:
        """Have the server answer. Raises NotThere. Cancelled, it goes on in the background."""
        if self._owner is None:
            self._owner = asyncio.create_task(self._hold(), name=f"lash_nb-mcp-{self._settings.name}")
        await self._ready.wait()
        if not self.alive:
            raise NotThere(await self.why())

    async def _hold(self) -> None:
        """Keep the line open until it is over."""
        start = asyncio.timeout(START_S)
        try:
            async with AsyncExitStack() as stack:
                async with start:
                    read, write = await stack.enter_async_context(self._streams())
                    session = await stack.enter_async_context(
                        ClientSession(
                            Sieve(read, self.line),
                            write,
                            client_info=Implementation(name="lash_nb", version=__version__),
                        )
                    )
                    await _shake_hands(session)
                await self._hear(session, stack)
                self._session = session
                self._ready.set()
                await self.line.over.wait()
        except Exception as error:
            slow = f"it did not answer within {START_S:g} s"
            self.line.end("slow" if start.expired() else "failed", slow if start.expired() else _words(error))
        finally:
            self.line.end("closed")
            self._ready.set()

    @asynccontextmanager
    async def _streams(self) -> AsyncIterator[TransportStreams]:
        settings = self._settings
        place = f"the MCP server {settings.name!r}"
        if settings.url is not None:
            headers = filled(settings.headers, self._host_env, place=f"{place}: headers")
            self._secrets = tuple(headers.values()) + tuple(
                value.split()[-1] for value in headers.values() if value.strip()
            )
            if not all(value.isprintable() and value.isascii() for value in headers.values()):
                raise InputError("a header has a sign in it that HTTP does not take")
            async with http_streams(settings.url, headers, self.line) as streams:
                yield streams
            return
        env = filled(settings.env, self._host_env, place=f"{place}: env")
        self._secrets = tuple(value for key, value in env.items() if value != settings.env[key])
        self._server = StdioServer(settings.command or "", settings.args, env=env, cwd=settings.cwd, line=self.line)
        async with self._server as streams:
            yield streams

    async def _hear(self, session: ClientSession, stack: AsyncExitStack) -> None:
        """Ask for word of changes, where the server's version of the protocol has it so."""
        offered = session.server_capabilities
        announces = offered is not None and offered.tools is not None and bool(offered.tools.list_changed)
        if session.protocol_version not in MODERN_PROTOCOL_VERSIONS or not announces:
            return
        try:
            async with asyncio.timeout(_LISTEN_S):
                subscription = await stack.enter_async_context(listen(session, tools_list_changed=True))
        except (MCPError, SubscriptionLost, TimeoutError):
            self.line.deaf = True
        else:
            stack.callback(asyncio.create_task(self._watch(subscription)).cancel)

    async def _watch(self, subscription: Subscription) -> None:
        """Wait until no more word will come."""
        with contextlib.suppress(SubscriptionLost):
            async for _ in subscription:
                pass
        self.line.deaf = self.line.changed = True

    async def why(self) -> str:
        """How the line ended, once it has been taken down: the predicate of a sentence about the server."""
        if self._owner is not None:
            await asyncio.wait({self._owner})
        ended = self.line.ended
        words = (ended.words if ended is not None else "") or "it ended"
        last = self._server.last_words if self._server is not None else ""
        if last:
            words = last if words == "it ended" else f"{words}; {last}"
        for secret in self._secrets:
            words = words.replace(secret, "[redacted]") if len(secret) >= _SHORTEST_SECRET else words
        return words

    async def tools(self) -> tuple[list[Tool], list[str]]:
        """Its tools, and what was no tool. Raises NotThere, CallFailed."""
        self.line.changed = self.line.deaf
        self.line.left_out.clear()
        found: list[Tool] = []
        cursor: str | None = None
        seen: set[str] = set()
        try:
            async with asyncio.timeout(START_S):
                for _ in range(_MAX_PAGES):
                    page = await self._open().list_tools(params=PaginatedRequestParams(cursor=cursor))
                    found += page.tools
                    cursor = page.next_cursor
                    if cursor is None or cursor in seen or len(found) > MAX_TOOLS:
                        break
                    seen.add(cursor)
        except BaseException as error:
            self.line.changed = True
            if isinstance(error, TimeoutError):
                raise CallFailed(f"it did not list its tools within {START_S:g} s", trouble="unreachable") from None
            if isinstance(error, (MCPError, ValidationError)):
                raise await self._failure(error) from None
            raise
        if len(found) > MAX_TOOLS:
            self.line.leave_out("…", f"there are more than {MAX_TOOLS}")
        return found[:MAX_TOOLS], list(self.line.left_out)

    async def call(self, tool: str, arguments: dict[str, object], timeout_s: float) -> CallToolResult | None:
        """What it gives; None: it asks the user for something first. Raises NotThere, CallFailed, TimeoutError."""
        request = CallToolRequest(params=CallToolRequestParams(name=tool, arguments=arguments))
        try:
            async with asyncio.timeout(timeout_s):
                result = await self._open().send_request(request, _RESULT)
        except (MCPError, ValidationError) as error:
            raise await self._failure(error) from None
        return result if isinstance(result, CallToolResult) else None

    def _open(self) -> ClientSession:
        if self._session is None:
            raise NotThere("it was not started")
        return self._session

    async def _failure(self, error: MCPError | ValidationError) -> NotThere | CallFailed:
        if isinstance(error, ValidationError):
            return CallFailed("its answer is not of the form that the protocol has for it", trouble="unreadable")
        trouble = trouble_of(error.error)
        if trouble is None and self.line.ended is not None:
            return NotThere(await self.why())
        if trouble == "session_lost":
            self.line.end("session_lost", "it did not know the session any more")
        if trouble == "unreachable":
            self.line.changed = True  # whether it is there again shows when it is asked the next time
        return CallFailed(one_line(error.message, 2_000), trouble=trouble, code=error.code)

    async def aclose(self) -> None:
        """End it; what waits for an answer is told so."""
        self.line.end("closed", "it was closed")
        if self._owner is not None:
            if not self._ready.is_set():
                self._owner.cancel()
            await asyncio.wait({self._owner})


async def _shake_hands(session: ClientSession) -> None:
    try:
        await session.initialize()
    except MCPError as error:
        if trouble_of(error.error) is not None:
            raise
        try:
            await session.discover()
        except (MCPError, RuntimeError, ValidationError):
            raise error from None


def _words(error: BaseException) -> str:
    """What an exception says; of a group of them, the first."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, (InputError, MCPError)):
        return one_line(str(error), 500)
    if isinstance(error, ValidationError):
        return "its answer is not of the form that the protocol has for it"
    return f"{type(error).__name__}: {one_line(str(error), 500)}"
