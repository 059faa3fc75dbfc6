"""A model provider on loopback whose words come when the test says so.

with Provider() as provider:
    hold = Hold()
    provider.answers.append(["First ", hold, "and last."])
    …  # the client sees "First "
    hold.release()
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import TypeAlias

from tests.models.openai_server import chunk, events, finish

__all__ = ["Hold", "Provider", "Said"]


class Hold:
    """A place where a stream is quiet until it is released; `reached` says that it is."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._released = threading.Event()

    def release(self) -> None:
        self._released.set()

    def wait(self) -> None:
        self.reached.set()
        self._released.wait()


Said: TypeAlias = Sequence[str | Hold]
"""One answer: its pieces in order."""


class Provider:
    """An OpenAI-compatible server with answers in order; `model` is the name that opens it."""

    def __init__(self) -> None:
        self.answers: list[Said] = []
        self.asked: list[str] = []
        """The requests, as they came over the wire."""
        self._holds: list[Hold] = []

    def __enter__(self) -> Provider:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="provider")
        self._thread.start()
        self.model = f"openai:m@http://127.0.0.1:{self._server.server_port}/v1"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for hold in self._holds:
            hold.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def write(self, request: BaseHTTPRequestHandler) -> None:
        """The next answer, piece by piece."""
        said = self.answers.pop(0)
        self._holds += [piece for piece in said if isinstance(piece, Hold)]
        for piece in said:
            if isinstance(piece, Hold):
                piece.wait()
                continue
            request.wfile.write(events([chunk({"content": piece})], done=False)[0])
        request.wfile.write(b"".join(events(finish())))


def _handler(provider: Provider) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            provider.asked.append(self.rfile.read(int(self.headers["content-length"])).decode())
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.end_headers()
            try:
                provider.write(self)
            except ConnectionError:
                pass  # the client left: its turn was stopped

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: what matters is seen on the page."""

    return Handler
