"""A server at an address, by streamable HTTP: the SDK's transport over a connection pool of ours.

Decided here: what fails below the protocol (no connection, a refusal, an answer that is too long or cannot be read)
comes to the call that it belongs to, as an error with a kind, and costs no other call. Redirects are followed within
the server's own origin alone, as the SDK does: headers with keys go nowhere else. No proxy is taken to this machine.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx2
from mcp.client._transport import TransportStreams
from mcp.client.streamable_http import MCP_SESSION_ID, streamable_http_client
from mcp_types import JSONRPCError, jsonrpc_message_adapter

from ..version import __version__
from ._mcp_line import MAX_MESSAGE_BYTES, Line, Trouble, our_error
from ._mcp_words import one_line, without_halves

__all__ = ["http_streams"]

_CONNECT_S = 15.0
_GOODBYE_S = 3.0
_NOTIFIES_S = 15.0
_OF_THE_BODY = frozenset({"content-encoding", "content-length", "transfer-encoding"})
_EVENT_ENDS = (b"\n\n", b"\r\n\r\n", b"\r\r")


@asynccontextmanager
async def http_streams(url: str, headers: Mapping[str, str], line: Line) -> AsyncIterator[TransportStreams]:
    """The two halves of the line, as the SDK has them."""
    client = _Pool(
        line,
        headers={"user-agent": f"lash-nb/{__version__}", "accept-encoding": "identity", **headers},
        timeout=httpx2.Timeout(None, connect=_CONNECT_S),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=10),
        trust_env=not _is_loopback(url),
        follow_redirects=False,
    )
    async with (
        client,
        streamable_http_client(url, http_client=client, max_sse_event_size=2 * MAX_MESSAGE_BYTES) as streams,
    ):
        yield streams


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class _Pool(httpx2.AsyncClient):
    """Turns whatever goes wrong into an answer that the SDK hands to the one who waits for it."""

    def __init__(self, line: Line, **options: Any) -> None:
        super().__init__(**options)
        self._line = line

    async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
        try:
            async with asyncio.timeout(_patience(request)):
                came = await super().send(request, stream=True, **options)
                try:
                    return await self._tidied(request, came)
                except BaseException:
                    await came.aclose()
                    raise
        except httpx2.TransportError as error:
            words = f"{type(error).__name__}: {one_line(str(error))}" if str(error) else type(error).__name__
            return _instead(request, 503, "unreachable", f"it cannot be reached ({words})")
        except TimeoutError:
            return _instead(request, 504, "unreachable", "it does not answer")

    async def _tidied(self, request: httpx2.Request, came: httpx2.Response) -> httpx2.Response:
        headers = [(name, value) for name, value in came.headers.multi_items() if name not in _OF_THE_BODY]
        if came.status_code < 300 and came.headers.get("content-type", "").lower().startswith("text/event-stream"):
            return httpx2.Response(
                came.status_code,
                headers=headers,
                stream=_Events(came, self._line),
                request=request,
                extensions=came.extensions,
            )
        body = await self._body(came)
        await came.aclose()
        if body is None:
            most = f"its answer is longer than {MAX_MESSAGE_BYTES:,} bytes"
            return _instead(request, 502, "flood", most)
        if came.status_code >= 400 and (refusal := _refusal(request, came.status_code, body)) is not None:
            return refusal
        made = httpx2.Response(came.status_code, headers=headers, content=without_halves(body), request=request)
        made.next_request = came.next_request
        return made

    async def _body(self, came: httpx2.Response) -> bytes | None:
        body = bytearray()
        async for piece in came.aiter_bytes():
            body += piece
            if len(body) > MAX_MESSAGE_BYTES or not self._line.take(size=len(piece)):
                return None
        self._line.take(messages=1)
        return bytes(body)


class _Events(httpx2.AsyncByteStream):
    """A stream of events, whole ones alone, and bounded: one that is too long ends it, with an error in its place."""

    def __init__(self, came: httpx2.Response, line: Line) -> None:
        self._came = came
        self._line = line

    async def __aiter__(self) -> AsyncIterator[bytes]:
        held = bytearray()
        async for piece in self._came.aiter_bytes():
            seen = max(len(held) - 3, 0)
            held += piece
            cut = max(held.rfind(end, seen) + len(end) if held.rfind(end, seen) >= 0 else 0 for end in _EVENT_ENDS)
            if not self._line.take(messages=sum(piece.count(end) for end in _EVENT_ENDS), size=len(piece)):
                yield _last_event("it sent more than anyone could read")
                return
            if cut:
                yield b"\n".join(map(_without_halves, bytes(held[:cut]).split(b"\n")))
                del held[:cut]
            if len(held) > MAX_MESSAGE_BYTES:
                yield _last_event(f"it is longer than {MAX_MESSAGE_BYTES:,} bytes")
                return
        yield bytes(held)

    async def aclose(self) -> None:
        await self._came.aclose()


def _patience(request: httpx2.Request) -> float | None:
    """How long an answer is waited for here; None: whoever made the request knows."""
    if request.method == "DELETE":
        return _GOODBYE_S
    # What needs no answer is sent one after the other: one that hung would stop all that come after it.
    waited_for = request.method == "GET" or {"id", "method"} <= json.loads(request.content).keys()
    return None if waited_for else _NOTIFIES_S


def _without_halves(line: bytes) -> bytes:
    if not line.startswith(b"data:"):
        return line
    return b"data:" + without_halves(line.removeprefix(b"data:"))


def _last_event(words: str) -> bytes:
    # The SDK puts the id of the request in whose stream it came.
    error = JSONRPCError(jsonrpc="2.0", id=0, error=our_error("flood", words))
    return b"event: message\ndata: " + error.model_dump_json().encode() + b"\n\n"


def _is_error(body: bytes) -> bool:
    """Whether a refusal says in the protocol's own words what is wrong."""
    try:
        return isinstance(jsonrpc_message_adapter.validate_json(body, by_name=False), JSONRPCError)
    except ValueError:
        return False


def _refusal(request: httpx2.Request, status: int, body: bytes) -> httpx2.Response | None:
    """What a refusal means; None: its own words are the protocol's."""
    if status in (401, 403):
        return _instead(request, status, "denied", f"it refuses us (HTTP {status}): are its headers right?")
    if status == 404 and MCP_SESSION_ID in request.headers:
        return _instead(request, status, "session_lost", "it does not know the session any more")
    return None if _is_error(body) else _instead(request, status, "refused", f"it answered with HTTP {status}")


def _instead(request: httpx2.Request, status: int, kind: Trouble, words: str) -> httpx2.Response:
    error = JSONRPCError(jsonrpc="2.0", id=None, error=our_error(kind, words))
    headers = {"content-type": "application/json"}
    return httpx2.Response(status, headers=headers, content=error.model_dump_json().encode(), request=request)
