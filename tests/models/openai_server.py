"""An OpenAI-compatible chat server on loopback, for tests: it answers requests with what it was given, in order.

    async with OpenAIServer([text_stream("hello")]) as server:
        …  # server.url, server.requests, server.client_left

It runs on the test's own event loop and is gone when the block ends.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

__all__ = ["USAGE", "Answer", "OpenAIServer", "chunk", "error", "events", "finish", "text_stream"]

USAGE: Mapping[str, Any] = {
    "prompt_tokens": 110,
    "completion_tokens": 70,
    "total_tokens": 180,
    "prompt_tokens_details": {"cached_tokens": 40},
    "completion_tokens_details": {"reasoning_tokens": 30},
}


@dataclass
class Answer:
    """What is written to one request, piece by piece, each flushed by itself."""

    pieces: Sequence[bytes] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=lambda: {"content-type": "text/event-stream"})
    wait: bool = False
    """Sends the status line only after the client left: a first byte that never comes."""
    hang: bool = False
    """Keeps the connection open after the last piece, until the client leaves."""
    cut: bool = False
    """Drops the connection after the last piece, in the middle of the body."""


def chunk(delta: Mapping[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    """One event of a stream."""
    choice = {"index": 0, "delta": dict(delta), "finish_reason": finish_reason}
    return {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}


def finish(reason: str = "stop") -> list[dict[str, Any]]:
    """The events at the end of a stream: why it ended, and what it cost."""
    return [chunk({}, reason), {**chunk({}), "choices": [], "usage": dict(USAGE)}]


def events(items: Iterable[Mapping[str, Any]], *, done: bool = True) -> list[bytes]:
    """Server-sent events, one piece each."""
    lines = [b"data: " + json.dumps(item, ensure_ascii=False).encode() + b"\n\n" for item in items]
    return [*lines, b"data: [DONE]\n\n"] if done else lines


def text_stream(*texts: str) -> Answer:
    """A whole answer of text."""
    return Answer(pieces=events([*(chunk({"content": text}) for text in texts), *finish()]))


def error(status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None) -> Answer:
    """A refusal as providers send it."""
    body = json.dumps({"error": {"message": message, "type": "test", "code": code}}).encode()
    length = {"content-type": "application/json", "content-length": str(len(body))}
    return Answer(pieces=[body], status=status, headers={**length, **(headers or {})})


class OpenAIServer:
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

    async def __aenter__(self) -> OpenAIServer:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
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
        except ConnectionError:
            self.client_left.set()
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _answer(self, answer: Answer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer.wait:
            await self._until_the_client_leaves(reader)
            return
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
