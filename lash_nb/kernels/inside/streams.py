"""stdout and stderr: in the order they were written, cheap, and never more than a chunk in memory. Runs in the kernel.

ipykernel buffers the two apart, so that what was written in turns arrives sorted by stream: here the one is sent when
the other is written to. It flushes by asking another thread and waiting for it, twice a cell even when nothing was
written: here whoever flushes records and sends by itself. It buffers without a bound: here a full chunk goes at once.

What child processes and C code write to the real file descriptors comes through a pipe. ipykernel reads it on a thread,
in pieces of 1,000 bytes, whenever that gets its turn. Here it is read under the same lock that everything is recorded
under: by a thread, and by whoever writes or flushes next, so that it stands where it was written. IPython keeps every
character printed for its history, which is off here: that copy is not made.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import select
import sys
import threading
from collections.abc import Iterator
from typing import Any

INTERVAL_S = 0.2
CHUNK_CHARS = 64 * 1024
MOST_DRAINED = 64
"""Chunks that are read in one go: a child that never stops must not keep its parent from writing."""


class ChildPipe:
    """The real file descriptor of a stream, turned into a pipe that is read here."""

    def __init__(self, fd: int) -> None:
        self.reader, writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.dup2(writer, fd)
        os.close(writer)
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.ended = False
        """Nobody can write to it any more: code has closed the descriptor."""

    def read(self) -> str:
        """A chunk of what is there; empty when nothing is."""
        try:
            data = os.read(self.reader, CHUNK_CHARS)
        except BlockingIOError:
            return ""
        self.ended = not data
        return self.decoder.decode(data)


class Buffer:
    """What one stream holds back for a moment, all of it of one parent. Everything here is done with the guard held."""

    def __init__(self, stream: Any, session: Any, guard: Any) -> None:
        self.stream, self.session, self.guard = stream, session, guard
        self.pieces: list[str] = []
        self.chars = 0
        self.parent: dict[str, Any] = {}
        self.timed = False
        self.pipe: ChildPipe | None = None
        self.other: Buffer

    def write(self, text: str, parent: dict[str, Any]) -> None:
        if self.other.pieces:
            self.other.send()
        if parent is not self.parent and self.pieces:
            self.send()
        self.parent = parent
        size = len(text)
        if size > CHUNK_CHARS:
            self.send()
            for start in range(0, size, CHUNK_CHARS):
                self.pieces.append(text[start : start + CHUNK_CHARS])
                self.send()
            return
        self.pieces.append(text)
        self.chars += size
        if self.chars >= CHUNK_CHARS:
            self.send()
        elif not self.timed:
            thread = self.stream.pub_thread
            thread.schedule(lambda: thread.io_loop.call_later(INTERVAL_S, self.late))
            self.timed = True  # after it: an interrupt in between costs a timer too many, and not all of them

    def drain(self) -> None:
        """Take what children have written by now, as output of the newest cell: nothing says whose they are."""
        pipe, parent = self.pipe, self.stream._parent_header_global
        for _ in range(MOST_DRAINED if pipe is not None else 0):
            assert pipe is not None
            text = pipe.read()
            if not text:
                return
            self.write(text, parent)

    def late(self) -> None:
        with self.guard:
            self.timed = False
            self.send()

    def send(self) -> None:
        if not self.pieces:
            return
        text = self.pieces[0] if len(self.pieces) == 1 else "".join(self.pieces)
        self.pieces, self.chars = [], 0
        content = {"name": self.stream.name, "text": text}
        message = self.session.msg("stream", content, parent=self.parent)
        for hook in self.stream._hooks:
            message = hook(message)
            if message is None:
                return
        self.session.send(self.stream.pub_thread, message, ident=self.stream.topic)


class Streams:
    """The two of them."""

    def __init__(self, streams: Any, session: Any, guard: Any) -> None:
        self.streams, self.guard = streams, guard
        self.by_id = {id(stream): Buffer(stream, session, guard) for stream in streams}
        first, second = self.buffers = tuple(self.by_id.values())
        first.other, second.other = second, first
        self.poller = select.poll()
        self.fds: dict[int, int] = {}
        self.writing = False
        self.nested: list[tuple[Buffer, str, dict[str, Any]]] = []
        """What a signal handler or a finaliser writes in the middle of a write of the same thread."""

    def write(self, buffer: Buffer, text: str, parent: dict[str, Any]) -> None:
        """With the guard held."""
        if self.writing:
            self.nested.append((buffer, text, parent))
            return
        self.writing = True
        try:
            self.drain_now()
            buffer.write(text, parent)
            while self.nested:
                later, more, whose = self.nested.pop(0)
                later.write(more, whose)
        finally:
            self.writing = False

    def drain(self) -> None:
        """Take what children and C code have written by now; half a microsecond when there is nothing."""
        if not self.writing:
            self.writing = True
            try:
                self.drain_now()
            finally:
                self.writing = False

    def drain_now(self) -> None:
        if self.poller.poll(0):
            for buffer in self.buffers:
                buffer.drain()
                if buffer.pipe is not None and buffer.pipe.ended:  # else it would be found readable for ever
                    self.poller.unregister(buffer.pipe.reader)
                    buffer.pipe = None

    def begin(self, parent: dict[str, Any]) -> None:
        """A cell begins: also for streams that are no longer `sys.stdout` and `sys.stderr`."""
        for stream in self.streams:
            stream.set_parent(parent)

    def flush(self) -> None:
        """Everything that was written is recorded."""
        with self.guard:
            self.drain()
            self.send()

    def send(self) -> None:
        for buffer in self.buffers:
            buffer.send()

    def take_pipes(self) -> None:
        """Read the file descriptors ourselves, where ipykernel did."""
        for stream, buffer in zip(self.streams, self.buffers, strict=True):
            if stream._should_watch:
                fd = stream._original_stdstream_fd
                buffer.pipe = ChildPipe(fd)
                self.fds[id(stream)] = fd
                stream._should_watch = False  # its own reader waits for ever on a pipe that nobody writes to
                stream.fileno = lambda fd=fd: fd  # what a child is to write to
                self.poller.register(buffer.pipe.reader, select.POLLIN)
        threading.Thread(target=self.read_pipes, name="lash_nb child output", daemon=True).start()

    def read_pipes(self) -> None:
        poller = select.poll()
        pipes = {buffer.pipe.reader: buffer.pipe for buffer in self.buffers if buffer.pipe is not None}
        for reader in pipes:
            poller.register(reader, select.POLLIN)
        while pipes:
            ready = poller.poll()
            with self.guard:
                self.drain()
            for reader, _ in ready:
                if pipes[reader].ended:
                    poller.unregister(reader)
                    del pipes[reader]

    def uncover(self) -> None:
        """IPython's copying, still on for the bootstrap's cell, has put the old method back after it."""
        for stream in self.streams:
            stream.__dict__.pop("write", None)


class ChildWriter:
    """What a forked child writes goes where its C code writes to, by lines: into the pipe that its parent reads."""

    def __init__(self, fds: dict[int, int]) -> None:
        self.fds = fds
        self.held: dict[int, str] = {}

    def write(self, stream: int, text: str) -> None:
        lines, newline, rest = (self.held.pop(stream, "") + text).rpartition("\n")
        self.held[stream] = rest
        self.send(stream, lines + newline)

    def flush(self, stream: int) -> None:
        self.send(stream, self.held.pop(stream, ""))

    def send(self, stream: int, text: str) -> None:
        data, fd = text.encode("utf-8", "backslashreplace"), self.fds.get(stream)
        while data and fd is not None:
            data = data[os.write(fd, data) :]


def replace_methods(streams: Streams, kind: Any, outlet: Any) -> None:
    """`write` and `flush` of `OutStream`."""
    original_write, original_flush = kind.write, kind.flush
    by_id, guard, pid, getpid = streams.by_id, streams.guard, os.getpid(), os.getpid
    child = ChildWriter(streams.fds)

    def write(self: Any, string: Any) -> int:
        buffer = by_id.get(id(self))
        if buffer is None or not isinstance(string, str) or self.pub_thread is None:
            written: int = original_write(self, string)
            return written
        if type(string) is not str:
            string = str.__str__(string)
        if getpid() != pid:
            child.write(id(self), string)
        else:
            with guard:
                streams.write(buffer, string, self.parent_header)
        return len(string)

    def flush(self: Any) -> None:
        buffer = by_id.get(id(self))
        if buffer is None or self.pub_thread is None:
            original_flush(self)
            return
        if getpid() != pid:
            child.flush(id(self))
            return
        with guard:
            streams.drain()
            cell = outlet.cell
            if cell is None or not cell.snapshots or buffer.parent.get("msg_id") != cell.msg_id:
                buffer.send()  # else the next snapshot tells it; whatever is recorded before takes it along

    kind.write, kind.flush = write, flush


def install(shell: Any, inside: Any) -> None:
    """Take over both streams; the feature test is their private parts."""
    from ipykernel.iostream import OutStream

    streams: Any = (sys.stdout, sys.stderr)
    parts = ("_hooks", "_is_master_process", "_parent_header_global", "_should_watch", "pub_thread")
    for stream in streams:
        if not isinstance(stream, OutStream) or not all(hasattr(stream, part) for part in parts):
            raise RuntimeError("this ipykernel has other streams")
    both = Streams(streams, shell.kernel.session, inside.guard)
    replace_methods(both, OutStream, inside.outlet)
    both.take_pipes()
    inside.flush, inside.send_written, inside.begin_streams = both.flush, both.send, both.begin
    inside.at_first_cell.append(both.uncover)

    @contextlib.contextmanager
    def no_copy(channel: str) -> Iterator[None]:
        yield

    if callable(getattr(shell, "_tee", None)):
        shell._tee = no_copy
