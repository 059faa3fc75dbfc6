"""A model server on loopback, for tests: it answers requests with what it was given, in order.

    async with ModelServer([wire.text("hello")]) as server:
        …  # server.root, server.requests, server.client_left

It knows HTTP and no dialect; those are `openai_server`, `anthropic_server` and `google_server`. It runs on the test's
own event loop and is gone when the block ends.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

__all__ = ["Answer", "ModelServer", "refused", "sse"]


@dataclass
class Answer:
    """What is written to one request, piece by piece, each flushed by itself."""

    pieces: Sequence[bytes] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    wait: bool = False
    """Sends the status line only after the client left: a first byte that never comes."""
    begin: asyncio.Event | None = None
    """Sends the status line only when this is set: a first byte that takes its time."""
    hang: bool = False
    """Keeps the connection open after the last piece, until the client leaves."""
    cut: bool = False
    """Drops the connection after the last piece, in the middle of the body."""


def sse(item: object, *, event: str | None = None) -> bytes:
    """One server-sent event."""
    head = b"" if event is None else f"event: {event}\n".encode()
    return head + b"data: " + json.dumps(item, ensure_ascii=False).encode() + b"\n\n"


def refused(status: int, body: object, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer that is no stream: JSON, or text as it is."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    kind = "text/html" if isinstance(body, str) else "application/json"
    length = {"content-type": kind, "content-length": str(len(data))}
    return Answer(pieces=[data], status=status, headers={**length, **(headers or {})})


class ModelServer:
    """Listens on a free port of 127.0.0.1 while its block runs."""

    def __init__(self, answers: Iterable[Answer] = ()) -> None:
        self.answers = list(answers)
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.asked = asyncio.Event()
        """A request has been read."""
        self.client_left = asyncio.Event()
        """A client closed its connection before its answer was complete."""
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> ModelServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.root = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
            headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
            self.requests.append(json.loads(await reader.readexactly(int(headers["content-length"]))))
            self.headers.append({**headers, "request-line": head[0]})
            self.asked.set()
            await self._answer(self.answers.pop(0), reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            self.client_left.set()
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _answer(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer.wait:
            await self._until_the_client_leaves(reader)
            return
        if answer.begin is not None:
            await answer.begin.wait()
        headers = {"connection": "close", **answer.headers}
        if answer.cut:
            headers["content-length"] = "1000000"
        lines = [f"HTTP/1.1 {answer.status} status", *(f"{name}: {value}" for name, value in headers.items())]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        for piece in answer.pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if answer.hang:
            await self._until_the_client_leaves(reader)

    async def _until_the_client_leaves(self, reader: asyncio.StreamReader) -> None:
        await reader.read()
        self.client_left.set()
