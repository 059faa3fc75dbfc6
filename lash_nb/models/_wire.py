"""The connection pool of the providers' clients, and what of an answer reaches them.

What is decided here: no redirect is followed (keys travel in headers that a redirect would carry along), no proxy of
the environment is taken to this machine; headers that the environment adds for the user's own gateway go to no other
host. Of a refusal the beginning is read, for a bounded time. An answer that is no stream of events is not passed on:
its beginning is noted with the call. Reports of usage are taken out of a stream. Foreign modules only inside
functions; imports `_call` and `_usage`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from ._call import current_call
from ._usage import Tally

if TYPE_CHECKING:
    import httpx2

__all__ = ["http_client"]

_CONNECT_S = 15.0
_ENVIRONMENT_HEADERS = ("OPENAI_CUSTOM_HEADERS", "ANTHROPIC_CUSTOM_HEADERS")
_ACCOUNT_HEADERS = frozenset({"openai-organization", "openai-project"})
_MAX_REFUSAL_BYTES = 64 * 1024
_REFUSAL_S = 5.0
_NO_EVENTS = (b"{", b"[", b"<", b'"')
"""How an answer begins that is no stream of events, whatever its server calls it."""
_OF_THE_BODY = frozenset({"content-encoding", "content-length", "transfer-encoding"})


class _NoStreamError(Exception):
    """An answer is no stream of events; the call knows what it is."""


def http_client(*, stall_s: float, direct: bool, stranger: bool, env: Mapping[str, str]) -> httpx2.AsyncClient:
    """A connection pool. `direct`: no proxy of the environment; `stranger`: a host that only a name gave."""
    import httpx2

    added = {
        line.partition(":")[0].strip().lower()
        for variable in _ENVIRONMENT_HEADERS
        for line in env.get(variable, "").splitlines()
    }
    connect_s = min(_CONNECT_S, stall_s)

    async def before(request: httpx2.Request) -> None:
        if stranger:
            for header in (added | _ACCOUNT_HEADERS) & set(request.headers):
                del request.headers[header]
        timeout = request.extensions.get("timeout")
        if isinstance(timeout, dict):  # one of the clients sets a single number for every phase
            request.extensions["timeout"] = {**timeout, "connect": connect_s}
        if (call := current_call()) is not None:
            call.sent_bytes = int(request.headers.get("content-length", 0))

    async def after(response: httpx2.Response) -> None:
        if (call := current_call()) is not None:
            call.responses.append(response)

    class Pool(httpx2.AsyncClient):
        """Passes on what `_tidied` makes of an answer."""

        async def send(self, request: httpx2.Request, *, stream: bool = False, **options: Any) -> httpx2.Response:
            came = await super().send(request, stream=True, **options)
            try:
                response = await _tidied(came, wait_s=min(_REFUSAL_S, stall_s / 2))
                if not stream:
                    await response.aread()
            except BaseException:
                await came.aclose()
                raise
            return response

    hooks: dict[str, list[Callable[[Any], Awaitable[None]]]] = {"request": [before], "response": [after]}
    return Pool(
        timeout=httpx2.Timeout(stall_s, connect=connect_s, pool=None),
        limits=httpx2.Limits(max_connections=100, max_keepalive_connections=10),
        trust_env=not direct,
        follow_redirects=False,
        event_hooks=hooks,
    )


async def _tidied(came: httpx2.Response, *, wait_s: float) -> httpx2.Response:
    """The answer as the client gets it. Raises: _NoStreamError when it is no stream."""
    import httpx2

    headers = [(name, value) for name, value in came.headers.multi_items() if name not in _OF_THE_BODY]
    call = current_call()
    pieces = came.aiter_bytes()
    if came.status_code >= 300:
        body = await _beginning(b"", pieces, wait_s)
        await came.aclose()
        if call is not None:
            call.refused = body
        return httpx2.Response(
            came.status_code, headers=headers, content=body, request=came.request, extensions=came.extensions
        )
    begun = b""
    if "event-stream" not in came.headers.get("content-type", "").lower():
        async for piece in pieces:
            begun += piece
            if begun.strip() or len(begun) > _MAX_REFUSAL_BYTES:
                break
        if begun.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(_NO_EVENTS):
            body = await _beginning(begun, pieces, wait_s)
            if call is not None:
                call.no_stream = body
            raise _NoStreamError
    tally = Tally() if call is None else call.tally
    return httpx2.Response(
        came.status_code,
        headers=headers,
        content=_events(begun, pieces, tally),
        request=came.request,
        extensions=came.extensions,
    )


async def _beginning(begun: bytes, pieces: AsyncIterator[bytes], wait_s: float) -> bytes:
    """As much of a body as anybody reads, of what comes in the time."""
    import httpx2

    try:
        async with asyncio.timeout(wait_s):
            while len(begun) < _MAX_REFUSAL_BYTES:
                begun += await anext(pieces)
    except (httpx2.HTTPError, StopAsyncIteration, TimeoutError):
        pass  # what came says what there is to say
    return begun[:_MAX_REFUSAL_BYTES]


async def _events(begun: bytes, pieces: AsyncIterator[bytes], tally: Tally) -> AsyncIterator[bytes]:
    """A stream in whole lines, without its reports of usage; they go to `tally`."""
    held = bytearray()
    piece = begun
    while True:
        end = max(piece.rfind(b"\n"), piece.rfind(b"\r")) + 1
        if end:
            lines = bytes(held) + piece[:end]
            held = bytearray(piece[end:])
            yield tally.without(lines)
        else:
            held += piece
        try:
            piece = await anext(pieces)
        except StopAsyncIteration:
            break
    if held:
        yield tally.without(bytes(held))
