"""What ran in this kernel, by the key of its effect: a key runs once. Runs in the kernel.

An entry is started when its request is taken, running until its code has ended, done with its reply and its capped
outputs, of which the last cells' are kept; that a key ran, and how it ended, is kept for good. A request with a key
that is done is answered from here; requests are taken one after the other, so one that comes while its key runs finds
it done. So a host that lost its connection, or took over from one that crashed, learns the outcome of a cell whose
messages it never saw, and a redelivery never runs twice.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

RECORDED = 200
RECORDED_BYTES = 64 * 1024 * 1024
MAX_EVALUE = 64 * 1024
MAX_PAYLOAD = 64 * 1024
CUT_SHORT = {"status": "error", "ename": "KeyboardInterrupt", "evalue": "", "traceback": []}
FINISH = "LashFinish"
"""Ends a cell in silence."""
SHORT = ("status", "ename", "execution_count")
"""What stays of the reply of a cell whose outputs are no longer kept."""


class Entry:
    """One cell."""

    def __init__(self, key: str, header: dict[str, Any], code: str) -> None:
        self.key = key
        self.header = header
        self.msg_id = header["msg_id"]
        self.digest = hashlib.sha256(code.encode("utf-8", "backslashreplace")).hexdigest()
        self.began = time.monotonic()
        self.seconds = 0.0
        self.reply: dict[str, Any] | None = None
        self.entries: list[dict[str, Any]] | None = None
        """Its outputs; None once they are no longer kept."""
        self.weight = 0
        self.calls: list[str] = []
        self.interrupted = False
        """SIGINT came while it ran."""
        self.interrupts = 0
        """How often."""
        self.waiting: list[Callable[[dict[str, Any]], None]] = []

    def note(self, *, recovered: bool) -> dict[str, Any]:
        """What goes with the reply."""
        found: dict[str, Any] = {"interrupted": self.interrupted, "seconds": self.seconds}
        if recovered:
            found |= {"recovered": True, "outputs": self.entries is not None, "calls": self.calls}
        return found

    def told(self) -> dict[str, Any]:
        """What a host is told of it."""
        state = "running" if self.reply is None else "done"
        content: dict[str, Any] = {
            "status": "ok",
            "state": state,
            "key": self.key,
            "msg_id": self.msg_id,
            "digest": self.digest,
        }
        if self.reply is not None:
            content |= {"reply": {**self.reply, "lash_nb": self.note(recovered=True)}, "entries": self.entries}
        return content


class Ledger:
    """All cells of this kernel's life that its hosts ran."""

    def __init__(self, inside: Any) -> None:
        self.inside = inside
        self.by_key: dict[str, Entry] = {}
        self.recorded: list[Entry] = []
        self.most = int(inside.options.get("recorded") or RECORDED)
        self.recorded_bytes = 0
        self.running: Entry | None = None
        self.in_code = False
        """Code of a cell runs, and not the kernel's own before and after it."""
        self.idle_since = time.monotonic()
        self.repair: Callable[[], None] = lambda: None
        """Called when a cell's code has ended, before anything else is done: it may have left nothing that works."""
        self.at_code: list[Callable[[], None]] = []
        """Called when a cell's code is about to begin."""
        self.at_end: list[Callable[[], None]] = []
        """Called when it has ended, behind `repair`, while SIGINT is ignored."""

    def interrupted(self) -> bool:
        """SIGINT came; whether there is code of a cell to interrupt."""
        if self.running is not None:
            self.running.interrupted = self.running.interrupted or self.in_code
            self.running.interrupts += 1  # also one that comes too early: see `do_execute`
        return self.in_code

    def begin(self, key: str, header: dict[str, Any], code: str) -> Entry:
        while self.inside.at_first_cell:
            self.inside.at_first_cell.pop()()
        entry = Entry(key, header, code)
        with self.inside.guard:
            if key:
                self.by_key[key] = entry
            self.running = entry
        return entry

    def end(self, entry: Entry, reply: dict[str, Any], entries: list[dict[str, Any]], weight: int) -> None:
        with self.inside.guard:
            self.running = None
            self.idle_since = time.monotonic()
            entry.seconds = time.monotonic() - entry.began
            entry.reply, entry.entries, entry.weight = reply, entries, weight
            waiting, entry.waiting = entry.waiting, []
            self.recorded.append(entry)
            self.recorded_bytes += weight
            while len(self.recorded) > self.most or (self.recorded_bytes > RECORDED_BYTES and len(self.recorded) > 1):
                oldest = self.recorded.pop(0)
                self.recorded_bytes -= oldest.weight
                self.drop(oldest)
        for respond in waiting:
            respond(entry.told())

    def drop(self, entry: Entry) -> None:
        """Its outputs are no longer kept, nor are their files."""
        for output in entry.entries or ():
            kept = output.get("kept")
            tokens = list(kept.values()) if output["t"] in ("display", "result") and kept else [kept]
            for token in (*tokens, *output.get("buffers", ())):
                if isinstance(token, dict):
                    self.inside.outlet.spill.forget(token)
        entry.entries, entry.calls, entry.header = None, [], {}
        if entry.reply is not None:
            entry.reply = {name: entry.reply[name] for name in SHORT if name in entry.reply}

    # -- requests on the control channel -------------------------------------------------------------------------------

    def attach(self, content: dict[str, Any], respond: Callable[[dict[str, Any]], None]) -> None:
        """Who this is and what it does; the running cell is told in snapshots from here on."""
        running = self.running
        entries = self.inside.outlet.snapshots_only()
        if self.inside.calls is not None:
            self.inside.calls.heard = time.monotonic()
        respond(
            {
                "status": "ok",
                "version": self.inside.options.get("version"),
                "running": {**running.told(), "entries": entries} if running is not None else None,
                "calls": self.inside.calls.outstanding() if self.inside.calls is not None else [],
            }
        )

    def result(self, content: dict[str, Any], respond: Callable[[dict[str, Any]], None]) -> None:
        """How a cell ended; answered when it has. By `key`, or by `msg_id` for the one that runs."""
        with self.inside.guard:
            entry = self.by_key.get(content.get("key") or "")
            if entry is None and self.running is not None and self.running.msg_id == content.get("msg_id"):
                entry = self.running
            if entry is not None and entry.reply is None:
                entry.waiting.append(respond)
                return
        respond(entry.told() if entry is not None else {"status": "ok", "state": "unknown"})


class Requests:
    """Execute requests of ours on their way through the kernel."""

    def __init__(self, shell: Any, inside: Any, ledger: Ledger) -> None:
        self.shell, self.inside, self.ledger = shell, inside, ledger
        kernel = shell.kernel
        self.kernel = kernel
        # Bound before code can change them.
        self.getpid, self.leave = os.getpid, os._exit
        self.handle, self.current_thread, self.main = signal.signal, threading.current_thread, threading.main_thread()
        self.original_request, self.original_do = kernel.shell_handlers["execute_request"], kernel.do_execute
        self.send = kernel.session.send

    def answer_again(self, stream: Any, ident: Any, parent: Any, entry: Entry) -> None:
        digest = hashlib.sha256(parent["content"]["code"].encode("utf-8", "backslashreplace")).hexdigest()
        if digest != entry.digest:
            reply: dict[str, Any] = {"status": "error", "ename": "LashKeyUsed", "evalue": entry.key, "traceback": []}
        else:
            self.inside.publish("lash_outputs", {"entries": entry.entries or []}, parent["header"])
            reply = {**(entry.reply or CUT_SHORT), "lash_nb": entry.note(recovered=True)}
        self.send(stream, "execute_reply", reply, parent, ident=ident)

    async def execute_request(self, stream: Any, ident: Any, parent: Any) -> None:
        ours = parent["metadata"].get("lash_nb")
        if not isinstance(ours, dict):
            await self.original_request(stream, ident, parent)
            return
        key = str(ours.get("key") or "")
        known = self.ledger.by_key.get(key)
        if known is not None:
            self.answer_again(stream, ident, parent, known)
            return
        entry = self.ledger.begin(key, parent["header"], parent["content"]["code"])
        try:
            self.inside.outlet.begin(entry.header)
            self.inside.begin_streams(parent)
            if self.inside.calls is not None:
                self.inside.calls.begin(entry.header, ours.get("tools"))
            if self.inside.watch is not None:
                self.inside.watch.begin(entry.header, ours.get("guard"))
            await self.original_request(stream, ident, parent)
        except Exception as error:  # what it did to the kernel itself
            reply = self.failed(entry, error)
            if entry.reply is None:
                self.settle(entry, reply)
            self.send(stream, "execute_reply", {**reply, "lash_nb": entry.note(recovered=False)}, parent, ident=ident)
        finally:
            if entry.reply is None:  # an interrupt between its parts; what it did is done
                self.settle(entry, CUT_SHORT)

    async def do_execute(self, code: str, silent: bool, *args: Any, **kwargs: Any) -> dict[str, Any]:
        entry = self.ledger.running
        reply: dict[str, Any] | None = None
        try:
            self.ledger.in_code = True
            try:
                for call in self.ledger.at_code:
                    call()
                if entry is not None and entry.interrupts:  # the host saw it begin, and its code had not
                    self.ledger.interrupted()
                    raise KeyboardInterrupt
                reply = await self.original_do(code, silent, *args, **kwargs)
            finally:
                self.ledger.in_code = False
                if self.getpid() != self.inside.pid:
                    self.end_child(reply)
                self.after_code()
            if entry is None:
                return reply
            self.tell_error(entry, reply)
        except KeyboardInterrupt:
            if entry is None:
                raise
            reply = {"status": "error", "ename": "KeyboardInterrupt", "evalue": "", "payload": []}
            reply["execution_count"] = self.shell.execution_count
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # in a hook of the cell's, or of what it did to the kernel
            if entry is None:
                raise
            reply = self.failed(entry, error)
        kept = {name: bounded(name, value) for name, value in reply.items() if name != "engine_info"}
        self.settle(entry, kept)
        return {**kept, "lash_nb": entry.note(recovered=False)}

    def end_child(self, reply: dict[str, Any] | None) -> None:
        """Code has forked, and its child has come to the cell's end: as a second kernel it would take our messages.

        It ends as Python would have ended there; without `reply` for the error that is being handled.
        """
        status = 1
        try:
            sys.stdout.flush()
            status = 0 if reply is not None and reply["status"] == "ok" else self.error_status(sys.exc_info()[1])
            sys.stderr.flush()
        finally:
            self.leave(status)

    def error_status(self, error: BaseException | None) -> int:
        """Tell the error (None: the cell's) on stderr, unless it only says how to exit; the exit status."""
        if error is None:
            result = self.shell.last_execution_result
            error = result.error_in_exec if result.error_before_exec is None else result.error_before_exec
        if isinstance(error, SystemExit):
            if error.code is None or isinstance(error.code, int):
                return (error.code or 0) & 0xFF
            print(error.code, file=sys.stderr)
        elif error is not None:
            place = error.__traceback__
            while place is not None and place.tb_frame.f_globals is not self.shell.user_ns:
                place = place.tb_next  # the frames of the kernel
            traceback.print_exception(error.with_traceback(place))
        return 1

    def after_code(self) -> None:
        """The kernel's own code goes on, with what the cell has left of it."""
        try:
            self.ledger.repair()
        finally:  # a handler of the cell's may raise until `at_end` has been called
            in_main = self.current_thread() is self.main
            before = self.handle(signal.SIGINT, signal.SIG_IGN) if in_main else None
            try:
                for call in self.ledger.at_end:
                    call()
            finally:
                if in_main:
                    self.handle(signal.SIGINT, before)

    def tell(self, entry: Entry, kind: str, content: dict[str, Any]) -> None:
        """As an output of the cell."""
        self.send(self.inside.outlet.socket, kind, content, parent=entry.header, ident=f"kernel.{kind}".encode())

    def tell_error(self, entry: Entry, reply: dict[str, Any]) -> None:
        """Where IPython could not: showing a traceback takes file descriptors, say, and the cell has used them up."""
        cell, name = self.inside.outlet.cell, reply.get("ename")
        if reply["status"] == "error" and name != FINISH and cell is not None and not cell.errors:
            shown = {"ename": name, "evalue": str(reply.get("evalue"))}
            self.tell(entry, "error", {**shown, "traceback": [f"{name}: {shown['evalue']}"]})

    def failed(self, entry: Entry, error: BaseException) -> dict[str, Any]:
        """The reply to a cell whose error IPython did not handle; the error is an output like any other."""
        evalue = ""
        with contextlib.suppress(Exception):
            evalue = str(error)
        shown = {"ename": type(error).__name__, "evalue": evalue, "traceback": [f"{type(error).__name__}: {evalue}"]}
        self.tell(entry, "error", shown)
        reply = {**shown, "status": "error", "traceback": [], "payload": []}
        with contextlib.suppress(Exception):
            reply["execution_count"] = self.kernel.execution_count
            self.shell.payload_manager.clear_payload()
        return reply

    def settle(self, entry: Entry, reply: dict[str, Any]) -> None:
        """The cell's code has ended."""
        in_main = self.current_thread() is self.main
        # An interrupt that comes now has nothing to interrupt, and must not cut this short.
        before = self.handle(signal.SIGINT, signal.SIG_IGN) if in_main else None
        try:
            self.inside.flush()
            if self.inside.watch is not None:
                self.inside.watch.end()
            if self.inside.calls is not None:
                entry.calls = self.inside.calls.end()
            entries, weight = self.inside.outlet.end()
            said = sum(len(str(one.get("value", ""))) for one in reply.get("payload") or ())
            self.ledger.end(entry, reply, entries, weight + said + sum(map(len, entry.calls)))
        finally:
            if in_main:
                self.handle(signal.SIGINT, before)


def bounded(name: str, value: Any) -> Any:
    """A part of a reply, of a size that can be sent and kept whatever the cell did."""
    if name == "traceback":
        return []  # it is among the outputs
    if name == "evalue":
        return str(value)[:MAX_EVALUE]
    if name == "payload":  # of ours, `finish` has a limit of its own; others may hold anything
        return [one for one in value if one.get("source", "").startswith("Lash") or len(str(one)) <= MAX_PAYLOAD]
    return value


def install(shell: Any, inside: Any) -> None:
    """Take over `execute_request` and `do_execute` for cells of ours; the feature test is that they are there."""
    ledger = inside.ledger = Ledger(inside)
    requests = Requests(shell, inside, ledger)
    inside.handlers["lash_attach_request"] = ledger.attach
    inside.handlers["lash_result_request"] = ledger.result
    shell.kernel.shell_handlers["execute_request"] = requests.execute_request
    shell.kernel.do_execute = requests.do_execute
