"""One kernel's wire: its sockets, the cells queued for it, the requests it has not answered.

Decided here: what each message means to us, the order in which cells are sent (one at a time, the queue is ours),
and what ends everything that waits when the process dies. All of it runs on the I/O thread of `channels`, whose
rules hold here.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from hmac import compare_digest
from typing import Literal, Protocol

import zmq
from jupyter_client.session import DELIM, Session

from ..machine.execution import CellOutput
from . import InputRequest, OnInput
from .bundles import BundleLimits
from .cells import Cell
from .children import CellChildren
from .flags import Flag
from .inputs import ask
from .numbering import Numbering
from .outputs import OutputFold, OutputLimits
from .process import RunningProcess
from .requests import Request

__all__ = ["IoThread", "Wire"]

Content = Mapping[str, object]
Channel = Literal["shell", "control", "stdin"]

_BATCH = 500
"""Messages taken from one socket before the others have their turn."""
_LAST_WORDS_S = 0.05
"""How long outputs of a dead kernel may still arrive."""
_LOOK_S = 1.0
_OUTPUT_TYPES = frozenset({"stream", "display_data", "update_display_data", "execute_result", "error"})
_BACKGROUND = OutputLimits(
    stream_head_chars=8 * 1024,
    stream_tail_chars=8 * 1024,
    head_outputs=25,
    tail_outputs=25,
    bundles=BundleLimits(
        text_head_chars=4 * 1024, text_tail_chars=4 * 1024, value_bytes=256 * 1024, cell_bytes=1024 * 1024
    ),
)


class IoThread(Protocol):
    """The thread that a wire lives on."""

    @property
    def thread(self) -> threading.Thread: ...
    def post(self, command: Callable[[], None]) -> None: ...
    def remove(self, wire: Wire, then: Callable[[], None] | None) -> Flag: ...


class Wire:
    """One kernel's channels. Public methods may be called from any thread; the rest runs on the I/O thread."""

    def __init__(self, process: RunningProcess, thread: IoThread, *, on_input: OnInput | None = None) -> None:
        self.process = process
        self.greeted = Flag()
        """Something came on IOPub: our subscription is in force."""
        self.dead = Flag()
        self.ending = ""
        """How the process ended, as the predicate of a sentence."""
        self.expected_end = ""
        """The sentence for a cell that we end ourselves by killing the kernel."""
        self.by_message = False
        """The kernel wants to be interrupted by a message instead of a signal."""
        self._thread = thread
        self._on_input = on_input
        self._session = Session(key=process.endpoints.key, session=uuid.uuid4().hex, username="lash_nb")
        self._numbers = itertools.count()
        self._guard = threading.Lock()
        self._background = OutputFold(limits=_BACKGROUND)
        self._closed: Flag | None = None
        self._submitted: deque[Cell] = deque()
        self._queue: deque[Cell] = deque()
        self._current: Cell | None = None
        self._requests: dict[str, Request] = {}
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self._look_at = 0.0
        self._numbering = Numbering() if not process.has_inside else None
        self._dead_at: float | None = None
        self._children = CellChildren(process.pid)

    # -- from any thread -------------------------------------------------------------------------------------------

    @property
    def current(self) -> Cell | None:
        """The cell that runs, or that is the next to; also while it is still on its way to the I/O thread."""
        with self._guard:
            while self._submitted and self._submitted[0].ended.is_set():
                self._submitted.popleft()
            return next((cell for cell in self._submitted if not cell.ended.is_set()), None)

    def pack(
        self, msg_type: str, content: Content, *, metadata: Content | None = None, parent: Content | None = None
    ) -> tuple[str, list[bytes]]:
        """The message's id and its signed frames."""
        msg_id = f"{self._session.session}_{next(self._numbers)}"
        header = {
            "msg_id": msg_id,
            "msg_type": msg_type,
            "username": self._session.username,
            "session": self._session.session,
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "version": "5.4",
        }
        message = {"header": header, "parent_header": parent or {}, "metadata": metadata or {}, "content": content}
        return msg_id, self._session.serialize(message)

    def submit(self, cell: Cell) -> None:
        """Queue a cell; it is sent when those before it have ended."""
        with self._guard:
            while self._submitted and self._submitted[0].ended.is_set():
                self._submitted.popleft()
            self._submitted.append(cell)
        self._thread.post(lambda: self._enqueue(cell))

    def request(
        self, channel: Channel, msg_type: str, content: Content, *, then: Callable[[Content], None] | None = None
    ) -> Request:
        """Send a request; its reply is matched by id."""
        msg_id, frames = self.pack(msg_type, content)
        request = Request(msg_id, then)
        self._thread.post(lambda: self._ask(request, channel, frames))
        return request

    def tell(self, msg_type: str, content: Content) -> None:
        """Send a message on the control channel that is not answered."""
        _, frames = self.pack(msg_type, content)
        self._thread.post(lambda: self._send("control", frames))

    def follow(self, cell: Cell) -> None:
        """Take a cell that another host began for the one that runs, and wait for its record."""
        with self._guard:
            self._submitted.appendleft(cell)
        msg_id, frames = self.pack("lash_result_request", {"key": cell.key, "msg_id": cell.msg_id})
        self._thread.post(lambda: self._follow(cell, msg_id, frames))

    def stop(self, cell: Cell, *, insist: bool) -> None:
        """Withdraw the cell if it is queued, interrupt it if it runs (`insist`: once more, by all means)."""
        self._thread.post(lambda: self._stop(cell, insist=insist))

    def answer_input_with(self, on_input: OnInput | None) -> None:
        """Who answers `input()` from now on."""
        self._on_input = on_input

    def take_background(self) -> tuple[CellOutput, ...]:
        with self._guard:
            full, self._background = self._background, OutputFold(limits=_BACKGROUND)
        return full.close()

    def close(self, *, then: Callable[[], None] | None = None) -> Flag:
        """Close the sockets, then call `then` there; the flag is set when that is done (and the thread has ended, if
        this was its last kernel)."""
        with self._guard:
            if self._closed is None:
                self._closed = self._thread.remove(self, then)
            return self._closed

    def on_its_thread(self) -> bool:
        return threading.current_thread() is self._thread.thread

    # -- on the I/O thread -----------------------------------------------------------------------------------------

    def open(self, context: zmq.Context[zmq.Socket[bytes]], poller: zmq.Poller) -> None:
        identity = self._session.bsession
        endpoints = self.process.endpoints
        for name, kind, url in (
            ("iopub", zmq.SUB, endpoints.iopub),
            ("shell", zmq.DEALER, endpoints.shell),
            ("control", zmq.DEALER, endpoints.control),
            ("stdin", zmq.DEALER, endpoints.stdin),
        ):
            sock = self._sockets[name] = context.socket(kind)
            sock.setsockopt(zmq.LINGER, 0)
            sock.setsockopt(zmq.RCVHWM, 0)
            sock.setsockopt(zmq.SNDHWM, 0)
            sock.setsockopt(zmq.RECONNECT_IVL, 10)  # the kernel binds a second after we connect
            if kind == zmq.SUB:
                sock.setsockopt(zmq.SUBSCRIBE, b"")
            else:
                sock.setsockopt(zmq.ROUTING_ID, identity)  # one id on all: input requests are routed by shell's
            sock.connect(url)
            poller.register(sock, zmq.POLLIN)
        if self.process.pidfd is not None:
            poller.register(self.process.pidfd, zmq.POLLIN)

    def release(self, poller: zmq.Poller) -> None:
        """Give every socket back and end what still waits."""
        for sock in self._sockets.values():
            if sock in poller:  # else it is the one that could not be connected
                poller.unregister(sock)
            sock.close()
        self._sockets.clear()
        self._forget_pidfd(poller)
        if not self.dead.is_set():
            self._declare_dead(time.monotonic())

    def _forget_pidfd(self, poller: zmq.Poller) -> None:
        fd = self.process.pidfd
        if fd is not None and fd in poller:
            poller.unregister(fd)

    def pump(self, now: float, poller: zmq.Poller) -> float | None:
        """Take what has come; the time at which something is due, or None."""
        more = False
        for name in ("iopub", "shell", "control", "stdin"):
            more = self._drain(name, now) or more
        if now >= self._look_at:
            self._look_at = now + _LOOK_S
            self.process.trim_log()
        due = self._watch(now, poller)
        if self._current is not None:
            cell_due = self._current.tick(now)
            if self._current.ended.is_set():
                self._current = None
                self._children.ended(now)
            elif cell_due is not None:
                due = cell_due if due is None else min(due, cell_due)
        children_due = self._children.tick(now)
        if children_due is not None:
            due = children_due if due is None else min(due, children_due)
        if self._current is None and self._queue and self._dead_at is None:
            self._send_next(now)
        return now if more else due

    def _watch(self, now: float, poller: zmq.Poller) -> float | None:
        if self.dead.is_set():
            return None
        if self._dead_at is None:
            if not self.process.exited():
                return None
            self._forget_pidfd(poller)
            self._dead_at = now + _LAST_WORDS_S
        if now < self._dead_at:
            return self._dead_at
        self._declare_dead(now)
        return None

    def _declare_dead(self, now: float) -> None:
        self._dead_at = now
        self.ending = self.process.ending() if self.process.exited() else "was left"
        sentence = (
            self.expected_end or f"The kernel's process {self.ending} while the cell ran; its variables are gone."
        )
        if self._current is not None:
            self._current.end(now, death=sentence)
            self._current = None
        for cell in self._queue:
            cell.withdrawn = True
            cell.end(now, death=sentence)
        self._queue.clear()
        for request in self._requests.values():
            request.done.set()
        self._requests.clear()
        self.dead.set()

    def _drain(self, name: str, now: float) -> bool:
        """Take up to a batch of messages; True when there may be more."""
        sock = self._sockets.get(name)
        if sock is None:
            return False
        for _ in range(_BATCH):
            try:
                frames = sock.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False
            with contextlib.suppress(ValueError, KeyError, TypeError):  # not a signed message of the protocol
                self._take(name, frames, now)
        return True

    def _take(self, name: str, frames: list[bytes], now: float) -> None:
        start = frames.index(DELIM) + 1
        signature, header, parent, metadata, content = frames[start : start + 5]
        buffers = frames[start + 5 :]
        if not compare_digest(signature, self._session.sign([header, parent, metadata, content])):
            return
        unpack = self._session.unpack
        head = unpack(header)
        if self._numbering is not None:
            self._numbering.take(str(head.get("msg_id")))
        parent_id = unpack(parent).get("msg_id", "")
        if name == "stdin":
            self._refuse_or_ask(head, unpack(content))
        elif name == "iopub":
            if not self.greeted.is_set():
                self.greeted.set()
            self._take_iopub(head["msg_type"], parent_id, content, buffers, now)
        elif self._current is not None and parent_id == self._current.msg_id:
            self._current.take_reply(unpack(content), now)
        elif (request := self._requests.pop(parent_id, None)) is not None:
            request.reply = unpack(content)
            if request.then is not None:
                request.then(request.reply)
            request.done.set()

    def _take_iopub(self, msg_type: str, parent_id: str, content: bytes, buffers: list[bytes], now: float) -> None:
        cell = self._current
        if cell is not None and parent_id == cell.msg_id:
            cell.take_iopub(msg_type, self._session.unpack(content), buffers, now)
            if cell.begun and cell.interrupt_wanted:
                cell.interrupt_wanted = False
                self._interrupt(now)
        elif msg_type in _OUTPUT_TYPES:
            with self._guard:
                self._background.apply(msg_type, self._session.unpack(content), buffers)

    def _refuse_or_ask(self, head: Content, content: Content) -> None:
        """Answer `input()`: the end of the file, unless a handler was given."""
        request = InputRequest(prompt=str(content.get("prompt", "")), password=content.get("password") is True)

        def reply(value: str) -> None:
            _, frames = self.pack("input_reply", {"value": value}, parent=head)
            self._thread.post(lambda: self._send("stdin", frames))

        ask(request, self._on_input, inputs=self._current.inputs if self._current is not None else None, then=reply)

    def _send(self, channel: str, frames: list[bytes]) -> None:
        sock = self._sockets.get(channel)
        if sock is not None:
            sock.send_multipart(frames)

    def _ask(self, request: Request, channel: Channel, frames: list[bytes]) -> None:
        if self._dead_at is not None or not self._sockets:
            request.done.set()
            return
        self._requests[request.msg_id] = request
        self._send(channel, frames)

    def _follow(self, cell: Cell, msg_id: str, frames: list[bytes]) -> None:
        if self._dead_at is not None or not self._sockets:
            self._enqueue(cell)
            return
        self._current = cell
        self._children.sent()  # those from before may be others'
        cell.mark_sent(time.monotonic())
        self._ask(Request(msg_id, lambda reply: cell.take_record(reply, time.monotonic())), "control", frames)

    def _enqueue(self, cell: Cell) -> None:
        if self._dead_at is not None or not self._sockets:
            cell.withdrawn = True
            cell.end(time.monotonic(), death="The kernel had ended before the cell could run.")
            return
        self._queue.append(cell)
        if self._current is None:
            self._send_next(time.monotonic())

    def _send_next(self, now: float) -> None:
        self._current = self._queue.popleft()
        self._current.numbering = self._numbering
        if self._numbering is not None:
            self._numbering.missing = 0
        self._children.sent()
        self._send("shell", self._current.frames)
        self._current.mark_sent(now)

    def _stop(self, cell: Cell, *, insist: bool) -> None:
        if cell in self._queue:
            self._queue.remove(cell)
            cell.withdrawn = cell.interrupted = True
            cell.end(time.monotonic())
        elif cell is self._current:
            cell.interrupted = True
            cell.insisted = cell.insisted or insist
            if cell.begun or insist:
                self._interrupt(time.monotonic())
            else:
                # Before the cell begins the kernel ignores SIGINT: it would be lost.
                cell.interrupt_wanted = True
            if insist and self.process.has_inside:
                self.tell("lash_stop_request", {"msg_id": cell.msg_id})

    def _interrupt(self, now: float) -> None:
        """SIGINT, and a message behind it: an event loop parked in `select` is not woken by the signal alone."""
        self._children.interrupting(now)
        if self._current is not None:
            self._current.inputs.withdraw()
        if self.by_message:
            self.tell("interrupt_request", {})
            return
        self.process.interrupt()
        if self._current is not None and self._current.insisted:
            self._children.wake()
        _, frames = self.pack("kernel_info_request", {})
        self._send("shell", frames)
