"""A server at an address, in a thread of the test, which answers calls as badly as the tool's name says."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

__all__ = ["ScriptedHttp", "scripted_http"]

MEGABYTE = "x" * 1024 * 1024


class ScriptedHttp(ThreadingHTTPServer):
    """Counts what it is asked."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, elsewhere: str) -> None:
        self.elsewhere = elsewhere
        self.asked: list[str] = []
        self.headers: list[str | None] = []
        self.session = 0
        self.stopped = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/mcp"


@contextmanager
def scripted_http(elsewhere: str = "http://127.0.0.1:9/") -> Iterator[ScriptedHttp]:
    """Such a server, which ends with the block."""
    server = ScriptedHttp(elsewhere)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    protocol_version = "HTTP/1.1"
    server: ScriptedHttp

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing on stderr."""

    def do_GET(self) -> None:
        self.refuse(405)

    def do_DELETE(self) -> None:
        self.server.asked.append("DELETE")
        self.send(200, b"", "text/plain")

    def do_POST(self) -> None:
        message = json.loads(self.rfile.read(int(self.headers["content-length"])))
        method, of = message.get("method"), message.get("id")
        self.server.headers.append(self.headers.get("authorization"))
        self.server.asked.append(method if method != "tools/call" else message["params"]["name"])
        if method == "initialize":
            self.server.session += 1
            offered: dict[str, Any] = {"tools": {}}
            told = {
                "protocolVersion": "2025-11-25",
                "capabilities": offered,
                "serverInfo": {"name": "s", "version": "1"},
            }
            self.answer(of, told)
        elif method == "tools/list":
            self.answer(of, {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in sorted(CALLS)]})
        elif method == "tools/call":
            CALLS[message["params"]["name"]](self, of)
        else:
            self.send(202, b"", "text/plain")

    def answer(self, of: object, result: dict[str, Any]) -> None:
        body = json.dumps({"jsonrpc": "2.0", "id": of, "result": result}).encode()
        self.send(200, body, "application/json", {"mcp-session-id": f"s{self.server.session}"})

    def refuse(self, status: int) -> None:
        self.send(status, b"<html>no</html>", "text/html")

    def send(self, status: int, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(body)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def begin_events(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True

    def event(self, message: dict[str, Any]) -> None:
        self.wfile.write(b"event: message\ndata: " + json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n\n")


def text(words: str) -> dict[str, Any]:
    return {"content": [{"type": "text", "text": words}]}


def ok(handler: Handler, of: object) -> None:
    handler.answer(of, text("ok"))


def denied(handler: Handler, of: object) -> None:
    handler.refuse(401)


def forbidden(handler: Handler, of: object) -> None:
    handler.refuse(403)


def broken(handler: Handler, of: object) -> None:
    handler.refuse(500)


def forgets_once(handler: Handler, of: object) -> None:
    if handler.headers["mcp-session-id"] == "s1":
        handler.refuse(404)
    else:
        ok(handler, of)


def forgets(handler: Handler, of: object) -> None:
    handler.refuse(404)


def redirects(handler: Handler, of: object) -> None:
    handler.send(307, b"", "text/plain", {"location": handler.server.elsewhere})


def big_json(handler: Handler, of: object) -> None:
    handler.answer(of, text(MEGABYTE * 30))


def big_event(handler: Handler, of: object) -> None:
    handler.begin_events()
    handler.event({"id": of, "result": text(MEGABYTE * 30)})


def events(handler: Handler, of: object) -> None:
    handler.begin_events()
    for number in range(20):
        handler.event({"method": "notifications/progress", "params": {"progressToken": 1, "progress": number}})
    handler.event({"id": of, "result": text("after the events")})


def endless_events(handler: Handler, of: object) -> None:
    handler.begin_events()
    while not handler.server.stopped.is_set():
        handler.event({"method": "notifications/message", "params": {"level": "info", "data": "x"}})


def breaks_off(handler: Handler, of: object) -> None:
    handler.begin_events()
    handler.wfile.write(b'event: message\ndata: {"jsonrpc": "2.0", ')


def cut_body(handler: Handler, of: object) -> None:
    handler.send_response(200)
    handler.send_header("content-type", "application/json")
    handler.send_header("content-length", "1000")
    handler.end_headers()
    handler.wfile.write(b"{")
    handler.close_connection = True


def no_json(handler: Handler, of: object) -> None:
    handler.send(200, b"<html>", "application/json")


def later(handler: Handler, of: object) -> None:
    time.sleep(0.3)
    ok(handler, of)


def never(handler: Handler, of: object) -> None:
    handler.server.stopped.wait(60)


CALLS: dict[str, Callable[[Handler, object], None]] = {
    made.__name__: made
    for made in (
        *(ok, denied, forbidden, broken, forgets_once, forgets, redirects, big_json, big_event, events),
        *(endless_events, breaks_off, cut_body, no_json, later, never),
    )
}
