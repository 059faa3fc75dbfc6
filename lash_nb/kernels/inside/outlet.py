"""What leaves the kernel on IOPub: each cell's outputs are recorded here, and sent only within bounds. In the kernel.

A cell's messages pass as they are while nothing of its outputs had to be cut and they are few. From then on they stop,
and snapshots of the record take their place: at most four a second, fewer when they are big, the last one at the cell's
end. So what a cell costs the kernel, the wire and the host is bounded whatever it prints, and the last snapshot is
exact. The record stays for the ledger. What is written by nothing that runs (threads of ended cells) passes within a
budget that refills; the rest is counted, and told when it does.

Also closed: a host that is behind (the mark at which libzmq drops messages is raised), and halves of surrogate pairs,
which would take the message around them along.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from .record import Record
from .spill import FileSpill

MARK_MESSAGES = 1_000_000
PASS_MESSAGES = 1_000
SNAPSHOT_S = 0.25
WAKE_AGAIN_S = 0.2
"""What failed on the publishing thread for a broken builtin, say, is tried again."""
SNAPSHOT_BYTES_PER_S = 4 * 1024 * 1024
BACKGROUND_MESSAGES = 100
BACKGROUND_CHARS = 64 * 1024
BACKGROUND_REFILL_S = 10.0
OUTPUTS = frozenset({"stream", "display_data", "update_display_data", "execute_result", "error", "clear_output"})


def whole(value: Any) -> Any:
    """JSON's kinds of value with `\\udc80` spelled out for each half of a surrogate pair."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, dict):
        return {whole(key): whole(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [whole(item) for item in value]
    return value


class CellOutputs:
    """The outputs of the cell that runs."""

    def __init__(self, header: dict[str, Any], record: Record) -> None:
        self.header = header
        self.msg_id = header["msg_id"]
        self.record = record
        self.messages = 0
        self.errors = 0
        self.snapshots = False
        """Its messages have stopped, snapshots take their place."""
        self.dirty = False
        self.timed = False
        self.due = 0.0


class Background:
    """What is written while nothing that wrote it runs: passes while the budget lasts."""

    def __init__(self) -> None:
        self.messages = self.chars = self.left_out = 0
        self.since = time.monotonic()

    def passes(self, content: dict[str, Any]) -> str | None:
        """None: it does not pass. Else what is to be said before it, as a rule nothing."""
        said, now = "", time.monotonic()
        if now - self.since > BACKGROUND_REFILL_S:
            if self.left_out:
                said = f"[… {self.left_out:,} characters written in the background left out …]\n"
            self.messages = self.chars = self.left_out = 0
            self.since = now
        size = len(str(content.get("text", ""))) or sum(len(str(v)) for v in dict(content.get("data") or {}).values())
        if self.messages >= BACKGROUND_MESSAGES or self.chars + size > BACKGROUND_CHARS:
            self.left_out += size
            return None
        self.messages += 1
        self.chars += size
        return said


class Outlet:
    """Records and sends."""

    def __init__(self, kernel: Any, inside: Any, send: Any) -> None:
        self.kernel, self.inside, self.original = kernel, inside, send
        options = inside.options
        self.limits = options.get("limits") or {}
        self.spill = FileSpill(options.get("spill_dir") or "", int(options.get("spill_bytes") or 0))
        self.socket, self.thread = kernel.iopub_socket, kernel.iopub_thread
        self.cell: CellOutputs | None = None
        self.background = Background()
        self.queue: Queue

    # -- a cell --------------------------------------------------------------------------------------------------------

    def begin(self, header: dict[str, Any]) -> CellOutputs:
        with self.inside.guard:
            self.cell = CellOutputs(header, Record(self.limits, self.spill))
            return self.cell

    def end(self) -> tuple[list[dict[str, Any]], int]:
        """The final entries of the cell, and about how many bytes they take; its last snapshot is on the way."""
        with self.inside.guard:
            cell, self.cell = self.cell, None
            if cell is None:
                return [], 0
            entries = cell.record.close()
            if cell.snapshots or cell.record.cut:
                self.publish("lash_outputs", {"entries": entries}, cell.header)
            return entries, cell.record.weight

    def snapshots_only(self) -> list[dict[str, Any]]:
        """The outputs so far; from now on the cell is told in snapshots alone, to a host that missed its beginning."""
        with self.inside.guard:
            if self.cell is None:
                return []
            self.cell.snapshots = True
            return self.cell.record.entries()

    def snapshot(self, cell: CellOutputs) -> None:
        cell.dirty = False
        entries = cell.record.entries()
        cell.due = time.monotonic() + max(SNAPSHOT_S, cell.record.weight / SNAPSHOT_BYTES_PER_S)
        self.publish("lash_outputs", {"entries": entries}, cell.header)

    def touch(self, cell: CellOutputs) -> None:
        """The record changed: a snapshot now, or when one is due."""
        if time.monotonic() >= cell.due:
            self.snapshot(cell)
            return
        cell.dirty = True
        if not cell.timed:
            delay = max(0.01, cell.due - time.monotonic())
            self.thread.schedule(lambda: self.thread.io_loop.call_later(delay, self.late, cell))
            cell.timed = True  # after it: an interrupt in between costs a timer too many, and not all of them

    def late(self, cell: CellOutputs) -> None:
        with self.inside.guard:
            cell.timed = False
            if cell is self.cell and cell.dirty:
                self.snapshot(cell)

    # -- sending -------------------------------------------------------------------------------------------------------

    def publish(self, kind: str, content: dict[str, Any], header: dict[str, Any]) -> None:
        self.original(self.socket, kind, content, parent=header, ident=b"lash_nb." + kind.encode())

    def take(self, kind: str, message: Any, content: Any, parent: Any, buffers: Any) -> bool:
        """Record an output; whether the message itself is to be sent."""
        if isinstance(message, dict):
            content, parent = message["content"], message["parent_header"]
        parent = parent or {}
        msg_id = parent.get("msg_id") or parent.get("header", {}).get("msg_id")
        cell = self.cell
        if cell is None or cell.msg_id != msg_id:
            said = self.background.passes(content)
            if said:
                self.publish("stream", {"name": "stderr", "text": said}, parent.get("header", parent))
            return said is not None
        cell.errors += kind == "error"
        changed = cell.record.apply(kind, content, buffers or ())
        if not cell.snapshots and (cell.record.cut or cell.messages >= PASS_MESSAGES):
            cell.snapshots = True
        if cell.snapshots:
            if changed:
                self.touch(cell)
            return False
        cell.messages += 1
        return True


class Queue:
    """The way to the publishing thread, instead of ipykernel's own `schedule`.

    It never blocks: a full pipe is full of wake-ups, each of which handles all events, and whoever waits there with the
    guard held would wait for ever. It wakes the thread once for all that comes until it has looked; and not at all for
    messages that others follow at once, because each wake-up costs the cell two changes of thread.
    """

    def __init__(self, thread: Any) -> None:
        self.thread, self.events = thread, thread._events
        self.woken = False
        self.woken_at = 0.0
        self.monotonic = time.monotonic
        self.quiet = 0
        """The thread whose messages can wait for the next one's wake-up."""

    def schedule(self, callback: Any) -> None:
        import zmq

        if not self.thread.thread.is_alive():
            callback()
            return
        self.events.append(callback)
        now = self.monotonic()
        if (self.woken and now < self.woken_at + WAKE_AGAIN_S) or self.quiet == threading.get_ident():
            return
        try:
            self.woken, self.woken_at = True, now
            self.thread._event_pipe.send(b"", zmq.NOBLOCK)
        except zmq.Again:
            pass
        except BaseException:  # an interrupt: nobody was woken
            self.woken = False
            raise

    def handle(self, message: Any) -> None:
        self.woken = False
        for _ in range(len(self.events)):
            self.events.popleft()()

    def take_over(self) -> None:
        def handle_from_now_on() -> None:
            self.thread._event_puller.on_recv(self.handle)
            self.woken = False  # the old handler, which does not know of it, was called for this one

        self.thread.schedule = self.schedule
        self.schedule(handle_from_now_on)


def waits(kind: str, content: Any) -> bool:
    """Whether the next message follows at once: the cell's input after "busy", "idle" after its value."""
    return kind == "execute_result" or (kind == "status" and content.get("execution_state") == "busy")


def install(shell: Any, inside: Any) -> None:
    """Wrap `Session.send` where it serves IOPub; the feature test is that there is a publishing thread."""
    import zmq

    kernel = shell.kernel
    session, thread, socket = kernel.session, kernel.iopub_thread, kernel.iopub_socket
    original_pack, original = session.pack, session.send
    guard, pid, getpid = inside.guard, os.getpid(), os.getpid
    thread.socket.getsockopt(zmq.SNDHWM)
    outlet, queue = Outlet(kernel, inside, original), Queue(thread)

    def pack(message: Any) -> bytes:
        try:
            packed = bytes(original_pack(message))
            packed.isascii() or packed.decode()
        except UnicodeError:  # some packers refuse them, some write bytes that nobody can read
            packed = bytes(original_pack(whole(message)))
        return packed

    def send(
        stream: Any, msg_or_type: Any, content: Any = None, parent: Any = None, ident_: Any = None,
        buffers: Any = None, *args: Any, ident: Any = None, **kwargs: Any,
    ) -> Any:  # fmt: skip
        where = ident_ if ident is None else ident
        if (stream is not socket and stream is not thread) or getpid() != pid:
            return original(stream, msg_or_type, content, parent, where, buffers, *args, **kwargs)
        kind = msg_or_type if isinstance(msg_or_type, str) else msg_or_type["header"]["msg_type"]
        with guard:
            if kind in OUTPUTS and kind != "stream":
                inside.send_written()
            if kind in OUTPUTS and not outlet.take(kind, msg_or_type, content, parent, buffers):
                return msg_or_type
            queue.quiet = own_ident() if waits(kind, content) else 0
            try:
                return original(stream, msg_or_type, content, parent, where, buffers, *args, **kwargs)
            finally:
                queue.quiet = 0

    own_ident = threading.get_ident
    session.pack, session.send = pack, send
    outlet.queue = queue
    inside.outlet, inside.publish = outlet, outlet.publish
    queue.take_over()
    queue.schedule(lambda: thread.socket.setsockopt(zmq.SNDHWM, MARK_MESSAGES))
