"""A server that we start: its process, its pipes, and one message per line on them.

Decided here: it runs under a guard (`_mcp_guard`), in a session of its own, with a clean environment; of what it writes
to stderr the end is kept, and told when something fails. A line that is too long is thrown away while it comes, and
whoever waited for it is told; what is no message is thrown away. One that does not end when its standard input is
closed gets SIGTERM, then SIGKILL, with all of its group.

The SDK's own transport is not used: it holds a line of any length, and prints what it cannot read.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from types import TracebackType

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.client.stdio import get_default_environment
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCError, JSONRPCMessage, RequestId, jsonrpc_message_adapter

from ..bridge import undisturbed
from ..errors import InputError
from . import _mcp_guard
from ._mcp_line import MAX_MESSAGE_BYTES, Line, our_error
from ._mcp_words import one_line, without_halves

__all__ = ["Lines", "StdioServer", "Torn"]

_OUR_PYTHON = frozenset({"python", f"python{sys.version_info[0]}", "python{}.{}".format(*sys.version_info[:2])})
_CHUNK = 64 * 1024
_STDERR_TAIL = 8 * 1024
_STDERR_PAUSE_S = 0.05
_WRITE_S = 30.0
"""How long a server may not read what it is sent."""
_ENDS_S = 2.0
_TERMINATES_S = 1.0
_DRAINS_S = 0.5
"""How long what a server wrote before it ended is still read."""
_POLL_S = 0.01
_ID = rb'"id"\s*:\s*(?:(\d{1,15})|"([^"\\]{1,64})")'
_ID_FIRST = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?' + _ID)
_ID_LAST = re.compile(_ID + rb'\s*(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*\Z')
_ENDS = 1024
"""How much is kept of both ends of a line that is not."""


class Torn:
    """What is left of a line that was too long."""

    def __init__(self, head: bytes) -> None:
        self.head = head
        self.tail = b""


class Lines:
    """Cuts what comes into lines of a bounded length."""

    def __init__(self, most: int = MAX_MESSAGE_BYTES) -> None:
        self._most = most
        self._begun = bytearray()
        self._torn: Torn | None = None

    def feed(self, chunk: bytes) -> list[bytes | Torn]:
        """The lines that are whole now."""
        found: list[bytes | Torn] = []
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            self._add(piece)
            found.append(self._torn if self._torn is not None else bytes(self._begun))
            self._begun.clear()
            self._torn = None
        self._add(rest)
        return found

    def _add(self, piece: bytes) -> None:
        if self._torn is None and len(self._begun) + len(piece) <= self._most:
            self._begun += piece
            return
        if self._torn is None:
            self._torn = Torn((bytes(self._begun[:_ENDS]) + piece[:_ENDS])[:_ENDS])
            piece = bytes(self._begun[-_ENDS:]) + piece
            self._begun.clear()
        self._torn.tail = (self._torn.tail + piece[-_ENDS:])[-_ENDS:]


def _id_of(head: bytes, tail: bytes) -> RequestId | None:
    """Whose answer a line is, by its ends: servers write the id first or last."""
    match = _ID_FIRST.match(head) or _ID_LAST.search(tail)
    if match is None:
        return None
    return int(match[1]) if match[1] is not None else match[2].decode("utf-8", "replace")


def _message(line: bytes) -> JSONRPCMessage | None:
    """The message that a line is; None: it is none."""
    try:
        return jsonrpc_message_adapter.validate_json(line, by_name=False)
    except ValueError:
        pass
    repaired = without_halves(line)
    if repaired is line:
        return None
    try:
        return jsonrpc_message_adapter.validate_json(repaired, by_name=False)
    except ValueError:
        return None


class _Tail(asyncio.Protocol):
    """The end of what came through a pipe; read slowly, so that a flood of it costs nothing."""

    def __init__(self) -> None:
        self.data = b""
        self._pipe: asyncio.ReadTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.ReadTransport)
        self._pipe = transport

    def data_received(self, data: bytes) -> None:
        self.data = (self.data + data)[-_STDERR_TAIL:]
        if len(data) >= _CHUNK // 4 and self._pipe is not None:
            self._pipe.pause_reading()
            asyncio.get_running_loop().call_later(_STDERR_PAUSE_S, self._go_on)

    def _go_on(self) -> None:
        if self._pipe is not None and not self._pipe.is_closing():
            self._pipe.resume_reading()


class _Writing(asyncio.BaseProtocol):
    """Knows whether the pipe takes more."""

    def __init__(self) -> None:
        self._free = asyncio.Event()
        self._free.set()
        self.lost = False

    def pause_writing(self) -> None:
        self._free.clear()

    def resume_writing(self) -> None:
        self._free.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        self._free.set()

    async def drained(self) -> bool:
        """Wait until it does; False: there is nobody at the other end."""
        await self._free.wait()
        return not self.lost


class StdioServer:
    """One life of a server: entered it runs, left it has ended. As a transport of the SDK's."""

    def __init__(self, command: str, args: tuple[str, ...], *, env: Mapping[str, str], cwd: str | None, line: Line):
        self._argv = (command, *args)
        self._given_env = env
        self._env = {**get_default_environment(), **env}
        self._cwd = cwd
        self._line = line
        self._tasks: list[asyncio.Task[None]] = []
        self._pipes: list[asyncio.BaseTransport] = []
        self._stderr = _Tail()
        self._status: int | None = None

    async def __aenter__(
        self,
    ) -> tuple[MemoryObjectReceiveStream[SessionMessage | Exception], MemoryObjectSendStream[SessionMessage]]:
        """Start it. Raises: InputError, OSError when it cannot be started."""
        self._start()
        try:
            loop = asyncio.get_running_loop()
            reader = asyncio.StreamReader(limit=4 * _CHUNK)
            stdout, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), self._process.stdout)
            stderr, _ = await loop.connect_read_pipe(lambda: self._stderr, self._process.stderr)
            self._stdin, writing = await loop.connect_write_pipe(_Writing, self._process.stdin)
        except BaseException:
            self._kill()
            self._process.wait()
            self._life.close()
            raise
        self._pipes = [stdout, stderr, self._stdin]
        loop.add_reader(self._life, self._guard_spoke)
        into, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
        outgoing, out = anyio.create_memory_object_stream[SessionMessage](0)
        self._streams = (into, incoming, outgoing, out)
        self._tasks = [asyncio.create_task(self._read(reader, into)), asyncio.create_task(self._write(writing, out))]
        return incoming, outgoing

    def _guard_spoke(self) -> None:
        """The server has ended: its pipe may tell that, too, or be held open by who has left its group."""
        self._hear_guard()
        asyncio.get_running_loop().remove_reader(self._life)
        asyncio.get_running_loop().call_later(_DRAINS_S, self._line.end, "died")

    def _hear_guard(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            self._status = int(self._life.recv(16))

    def _start(self) -> None:
        if self._argv[0] in _OUR_PYTHON and "PATH" not in self._given_env:  # the one on the PATH may be another
            self._argv = (sys.executable, *self._argv[1:])
        command = self._argv[0]
        if os.sep in command:
            found = shutil.which(os.path.join(self._cwd or "", command))
        else:
            found = shutil.which(command, path=self._env.get("PATH", os.defpath))
        if found is None:
            raise InputError(f"there is no command {command!r} to run: it is not installed, or not on the PATH")
        self._life, theirs = socket.socketpair()
        self._life.setblocking(False)
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", _mcp_guard.__file__, str(theirs.fileno()), *self._argv],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._env,
                cwd=self._cwd,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except BaseException:
            self._life.close()
            raise
        finally:
            theirs.close()

    async def _read(
        self, reader: asyncio.StreamReader, into: MemoryObjectSendStream[SessionMessage | Exception]
    ) -> None:
        lines = Lines()
        async with into:
            while chunk := await reader.read(_CHUNK):
                found = lines.feed(chunk)
                if not self._line.take(messages=len(found), size=len(chunk)):
                    return
                for line in found:
                    message = self._understood(line)
                    if message is None:
                        continue
                    try:
                        await into.send(SessionMessage(message))
                    except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                        break
                if self._line.over.is_set():
                    break
        while await reader.read(_CHUNK):  # so that it can write its last words, and end
            pass

    def _understood(self, line: bytes | Torn) -> JSONRPCMessage | None:
        if isinstance(line, Torn):
            of, kind = (
                _id_of(line.head, line.tail),
                our_error("flood", f"it is longer than {MAX_MESSAGE_BYTES:,} bytes"),
            )
            return None if of is None else JSONRPCError(jsonrpc="2.0", id=of, error=kind)
        message = _message(line)
        if message is None and (of := _id_of(line[:_ENDS], line[-_ENDS:])) is not None:
            return JSONRPCError(jsonrpc="2.0", id=of, error=our_error("unreadable", "the answer is no message of MCP"))
        return message

    async def _write(self, writing: _Writing, out: MemoryObjectReceiveStream[SessionMessage]) -> None:
        async with out:
            async for item in out:
                text = item.message.model_dump_json(by_alias=True, exclude_unset=True)
                self._stdin.write(text.encode() + b"\n")
                try:
                    async with asyncio.timeout(_WRITE_S):
                        if not await writing.drained():
                            self._line.end("died")
                            return
                except TimeoutError:
                    self._line.end("failed", "it does not read what it is sent")
                    return

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await undisturbed(self._end())

    async def _end(self) -> None:
        """End it, however it takes that; nothing of it is left."""
        if self._line.ended is not None and self._line.ended.how == "flood":
            self._kill()
        self._stdin.abort() if self._stdin.get_write_buffer_size() else self._stdin.close()
        if not await self._gone(_ENDS_S):
            self._signal(signal.SIGTERM)
            if not await self._gone(_TERMINATES_S):
                self._kill()
                await self._gone(_ENDS_S)
        asyncio.get_running_loop().remove_reader(self._life)
        if self._status is None:
            self._hear_guard()
        self._life.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        for pipe in self._pipes:
            pipe.close()
        for stream in self._streams:
            stream.close()

    async def _gone(self, wait_s: float) -> bool:
        deadline = asyncio.get_running_loop().time() + wait_s
        while self._process.poll() is None:
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    def _signal(self, number: signal.Signals) -> None:
        if self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)

    def _kill(self) -> None:
        self._signal(signal.SIGKILL)

    @property
    def last_words(self) -> str:
        """How it ended, as far as is known, and the last line of its stderr; to be asked when it has ended."""
        words = []
        if self._status is not None and self._status < 0:
            words.append(f"it was ended by {_signal_name(-self._status)}")
        elif self._status is not None:
            words.append(f"it ended with exit code {self._status}")
        lines = self._stderr.data.decode("utf-8", "replace").strip().splitlines()
        if lines:
            words.append(f"its last line was: {one_line(lines[-1])}")
        return "; ".join(words)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
