"""The line to one server: what is let through of what it sends, how much of it, and how the line ended.

Decided here: how much a server may send before it floods; that notifications stay outside of the SDK (a changed list
of tools is noted, logs and progress are dropped); that of a list of tools what has not even the form of one is left
out, so that one of them does not cost all. What goes wrong on our side of the line reaches the SDK as an error that
only this process can have written. Imports the SDK: itself imported when a server is started.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, TypeAlias

import anyio
from mcp.shared._stream_protocols import ReadStream
from mcp.shared.message import SessionMessage
from mcp_types import ErrorData, JSONRPCError, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from ._mcp_words import one_line

__all__ = ["MAX_MESSAGE_BYTES", "Budget", "Ended", "Line", "Sieve", "Trouble", "our_error", "trouble_of"]

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Of one message; a longer one is never held."""
MAX_BLOCKS = 1_000
"""Of one result."""
_MESSAGES, _MESSAGES_PER_S = 10_000, 1_000
_BYTES, _BYTES_PER_S = 128 * 1024 * 1024, 2 * 1024 * 1024
_REQUEST_COSTS = 10
"""A request of the server's counts as so many messages."""
_MAX_LISTED = 2_000
_MAX_LEFT_OUT = 20

Trouble: TypeAlias = Literal["flood", "unreachable", "denied", "session_lost", "refused", "unreadable"]
"""What goes wrong on our side of the line."""

_OURS_CODE = -32019
_OURS_TOKEN = secrets.token_hex(16)


def our_error(kind: Trouble, message: str) -> ErrorData:
    """Trouble, in the form in which the SDK hands it to whoever waits for the answer."""
    return ErrorData(code=_OURS_CODE, message=message, data={"token": _OURS_TOKEN, "kind": kind})


def trouble_of(error: ErrorData) -> Trouble | None:
    """Its kind; None: the error is the server's."""
    data = error.data
    if error.code != _OURS_CODE or not isinstance(data, dict) or data.get("token") != _OURS_TOKEN:
        return None
    kind: Trouble = data["kind"]
    return kind


class Budget:
    """How much may come: so much at once, and so much in each second afterwards."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at = clock()
        self._messages = float(_MESSAGES)
        self._bytes = float(_BYTES)

    def take(self, *, messages: int = 0, size: int = 0) -> bool:
        """Whether there is as much left."""
        now = self._clock()
        passed_s, self._at = max(now - self._at, 0.0), now
        self._messages = min(self._messages + passed_s * _MESSAGES_PER_S, _MESSAGES) - messages
        self._bytes = min(self._bytes + passed_s * _BYTES_PER_S, _BYTES) - size
        return self._messages >= 0 and self._bytes >= 0


@dataclass(frozen=True, slots=True)
class Ended:
    """How the line ended."""

    how: Literal["closed", "died", "failed", "flood", "session_lost", "slow"]
    words: str = ""


class Line:
    """What is known of the line to one server."""

    def __init__(self, budget: Budget | None = None) -> None:
        self.changed = True
        """The list of tools is not known, or not any more."""
        self.deaf = False
        """The server could announce a change, and is not heard: each refresh has to ask."""
        self.ended: Ended | None = None
        self.over = asyncio.Event()
        self.left_out: list[str] = []
        self._budget = budget or Budget()

    def end(self, how: Literal["closed", "died", "failed", "flood", "session_lost", "slow"], words: str = "") -> None:
        """It is over; the first word counts."""
        if self.ended is None:
            self.ended = Ended(how, words)
        self.over.set()

    def take(self, *, messages: int = 0, size: int = 0) -> bool:
        """Whether that much more may come; else the line is over."""
        if self._budget.take(messages=messages, size=size):
            return True
        self.end("flood", "it sent more than anyone could read")
        return False

    def leave_out(self, name: object, why: str) -> None:
        """Note something of a list of tools that is none."""
        if len(self.left_out) < _MAX_LEFT_OUT:
            self.left_out.append(f"{one_line(name, 80) or '(no name)'!r} ({why})")


class Sieve:
    """The incoming half of a line, as the SDK reads it."""

    def __init__(self, stream: ReadStream[SessionMessage | Exception], line: Line) -> None:
        self._stream = stream
        self._line = line

    async def receive(self) -> SessionMessage:
        """The next message that is let through."""
        while True:
            try:
                item = await self._stream.receive()
            except anyio.EndOfStream:
                self._line.end("died")
                raise
            kept = None if isinstance(item, Exception) else self._kept(item)
            if kept is not None:
                return kept

    def _kept(self, item: SessionMessage) -> SessionMessage | None:
        match item.message:
            case JSONRPCNotification(method="notifications/tools/list_changed"):
                self._line.changed = True
                return None
            case JSONRPCNotification(method=method):
                return item if method.startswith("notifications/subscriptions/") else None
            case JSONRPCRequest():
                # Each is a task of the SDK until its answer is written, which a server need not read.
                return item if self._line.take(messages=_REQUEST_COSTS - 1) else None
            case JSONRPCResponse(id=of, result=result):
                content = result.get("content")
                if isinstance(content, list) and len(content) > MAX_BLOCKS:
                    told = f"the result has {len(content):,} parts, and {MAX_BLOCKS:,} are taken at most"
                    return SessionMessage(JSONRPCError(jsonrpc="2.0", id=of, error=our_error("flood", told)))
                if isinstance(result.get("tools"), list):
                    result["tools"] = self._tools(result["tools"])
        return item

    def _tools(self, announced: list[Any]) -> list[dict[str, Any]]:
        if len(announced) > _MAX_LISTED:
            self._line.leave_out("…", f"{len(announced):,} in one list")
        kept = []
        for tool in announced[:_MAX_LISTED]:
            problem = _problem(tool)
            if problem is None:
                described = tool.get("description")
                made = {"name": tool["name"], "inputSchema": tool["inputSchema"]}
                made |= {"description": described} if isinstance(described, str) else {}
                output = tool.get("outputSchema")
                made |= {"outputSchema": output} if isinstance(output, dict) and _is_object_schema(output) else {}
                kept.append(made)
            else:
                self._line.leave_out(tool.get("name") if isinstance(tool, dict) else "", problem)
        return kept

    async def aclose(self) -> None:
        """Close the stream behind it."""
        await self._stream.aclose()

    def __aiter__(self) -> Sieve:
        return self

    async def __anext__(self) -> SessionMessage:
        try:
            return await self.receive()
        except anyio.EndOfStream:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Sieve:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


def _problem(tool: Any) -> str | None:
    if not isinstance(tool, dict):
        return "it is no object"
    if not isinstance(tool.get("name"), str):
        return "it has no name"
    schema = tool.get("inputSchema")
    if not isinstance(schema, dict) or not _is_object_schema(schema):
        return "its schema is not that of an object"
    return None


def _is_object_schema(schema: dict[str, Any]) -> bool:
    """Whether it has the form that the SDK insists on."""
    properties, required = schema.get("properties"), schema.get("required")
    return (
        schema.get("type") == "object"
        and isinstance(schema.get("$schema", ""), str)
        and (
            properties is None
            or (isinstance(properties, dict) and all(isinstance(item, (dict, bool)) for item in properties.values()))
        )
        and (required is None or (isinstance(required, list) and all(isinstance(item, str) for item in required)))
    )
