"""The calls of a cell to its host: out as a message on IOPub, back on the control channel. Runs in the kernel.

What makes them is `tools` (`tool_proxies`). A call is matched by its id (`c1`, `c2`, … in a cell's order). It may come
from the cell, its tasks and its threads, as many at once as they like. It ends with a value, with `ToolError` at the
call site, or with the cell: then those that still wait get an error. While its host is gone (crashed) a call waits for
the next one; while the host lives it says so every few seconds, and a call that hears nothing of it for long is broken
and says so, instead of hanging. A cell that has made `MAX_CALLS` calls makes none more: a loop without end would fill
its host's records.
`read_output(handle)` reads back what was cut out of an output, the same way.
"""

from __future__ import annotations

import asyncio
import base64
import concurrent.futures
import json
import os
import threading
import time
from collections.abc import Callable
from typing import Any

from .tool_help import Form
from .tool_proxies import Tools
from .tool_values import MAX_CALLS, loaded

SILENCE_S = 60.0
TICK_S = 0.5
READ = "read_output"
READ_BYTES = 1024 * 1024


class ToolError(Exception):
    """A tool call failed. `kind` (invalid_request, unavailable, permission_denied, timeout, execution, external,
    resource_limit, internal, cancelled), `code` (the tool's own word for it), `message`."""

    def __init__(self, message: str, *, kind: str = "internal", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind
        self.code = code


ToolError.__module__ = "builtins"


class Call:
    """One call on its way."""

    def __init__(self, name: str, args: Any, header: dict[str, Any]) -> None:
        self.id = ""
        self.name, self.args, self.header = name, args, header
        self.taken = False
        """A host said that it makes this call: nobody else may."""
        self.future: concurrent.futures.Future[Any] = concurrent.futures.Future()


class Calls:
    """The calls of the running cell, and its questions: those of `guard` go the same way."""

    error = ToolError

    def __init__(self, inside: Any) -> None:
        self.inside = inside
        self.getpid = os.getpid
        self.lock = threading.RLock()  # a finaliser that runs while it is held may ask, too
        self.header: dict[str, Any] | None = None
        self.offers: dict[str, dict[str, Any]] = {}
        self.forms: dict[str, Form] = {}
        self.counts: dict[str, int] = {}
        self.pending: dict[str, Call] = {}
        self.heard = 0.0
        self.records: list[str] = []
        """Of the calls of this cell that are over, as the host tells them."""

    # -- a cell --------------------------------------------------------------------------------------------------------

    def begin(self, header: dict[str, Any], offers: Any) -> None:
        with self.lock:
            self.header = header
            self.counts = {}
            self.records = []
            self.offers, self.forms = {offer["name"]: offer for offer in offers or ()}, {}

    def end(self) -> list[str]:
        """The calls of the cell; what its threads and tasks left waiting is told that it has ended."""
        with self.lock:
            self.header = None
            pending, self.pending = self.pending, {}
            records, self.records = self.records, []
        for call in pending.values():
            message = f"the cell ended before {call.name}() was answered; it may have been carried out"
            self.fail(call, message, "cancelled", "cell_ended")
            if call.taken:
                records.append(self.unanswered(call, message))
        return records

    def unanswered(self, call: Call, message: str) -> str:
        outcome = {"status": "cancelled", "payload": {"message": message, "source": "cancellation"}}
        return json.dumps(
            {"call_id": call.id, "tool": call.name, "args": call.args, "output": {"outcome": outcome}, "duration_ms": 0}
        )

    def outstanding(self) -> list[dict[str, Any]]:
        """For a host that takes over."""
        with self.lock:
            pending = self.pending.values()
            return [{"id": c.id, "name": c.name, "args": json.dumps(c.args), "taken": c.taken} for c in pending]

    def fail(self, call: Call, message: str, kind: str, code: str) -> None:
        if not call.future.done():
            call.future.set_exception(ToolError(message, kind=kind, code=code))

    def form(self, name: str) -> Form | None:
        """How a tool of this cell is called; None: it has no such tool."""
        with self.lock:
            offer = self.offers.get(name)
            if offer is not None and name not in self.forms:
                self.forms[name] = Form(offer)
            return self.forms.get(name)

    # -- a call --------------------------------------------------------------------------------------------------------

    def start(self, name: str, args: Any, series: str = "c") -> Call:
        """Send a call; its id is the next one of its series, of which `c` is that of tools.

        Raises ToolError when the code that makes it belongs to no running cell, or a cell may not make it.
        """
        if self.getpid() != self.inside.pid:  # before the lock, which a fork may have left taken
            raise ToolError(
                f"{name}() was called in a process that was forked: only the kernel's own reaches its host",
                kind="unavailable",
                code="other_process",
            )
        header = self.inside.parent()
        call = Call(name, args, header)
        with self.lock:
            current = self.header
            if current is None or header.get("msg_id") != current["msg_id"]:
                raise ToolError(
                    f"{name}() was called by code whose cell has ended: tools can be called while a cell runs",
                    kind="unavailable",
                    code="no_cell",
                )
            number = self.counts.get(series, 0) + 1
            if series == "c":
                self.require(name, number)
            self.counts[series] = number
            call.id = f"{series}{number}"
            self.pending[call.id] = call
            self.heard = time.monotonic()
            # Under the lock: calls leave in the order of their ids.
            self.inside.publish("lash_call", {"id": call.id, "name": name, "args": json.dumps(args)}, header)
        return call

    def require(self, name: str, number: int) -> None:
        """Raise ToolError if this cell cannot make one more call, or not that one."""
        if name not in self.offers:
            there = ", ".join(sorted(self.offers)) or "none"
            raise ToolError(
                f"there is no tool {name!r} any more; there are: {there}", kind="unavailable", code="unknown_tool"
            )
        if number > MAX_CALLS:
            raise ToolError(
                f"{name}() was not called: this cell has made {MAX_CALLS:,} calls, and none makes more; "
                "go on in another cell",
                kind="resource_limit",
                code="too_many_calls",
            )

    def cancel(self, call: Call) -> None:
        with self.lock:
            known = self.pending.pop(call.id, None)
            if known is not None and known.taken:
                self.records.append(self.unanswered(call, "the code that made the call stopped waiting for it"))
        if known is not None:
            self.inside.publish("lash_call_cancel", {"id": call.id}, call.header)

    def silent(self) -> bool:
        """Whether the host lives and has not been heard for too long."""
        return time.monotonic() - self.heard > SILENCE_S and self.inside.host_lives()

    def broken(self, call: Call) -> ToolError:
        self.cancel(call)
        return ToolError(
            f"{call.name}() was not answered: code in this kernel has broken its line to the host; restart the kernel",
            kind="unavailable",
            code="no_answer",
        )

    def wait(self, call: Call, until: Callable[[], bool] = lambda: False) -> Any:
        """The value, for a thread that can block; `until` is asked now and then, and ends it."""
        try:
            while True:
                try:
                    error = call.future.exception(TICK_S)
                except concurrent.futures.TimeoutError:
                    error = self.broken(call) if self.silent() else None
                    if until():
                        error = ToolError("the cell was interrupted", kind="cancelled", code="interrupted")
                    if error is None:
                        continue
                if error is not None:
                    raise error  # from here, and not from the depths of the future
                return loaded(call.future.result(), self.bytes_of)
        except BaseException:
            self.cancel(call)  # does nothing once it is answered
            raise

    async def wait_async(self, call: Call) -> Any:
        waiter = asyncio.wrap_future(call.future)
        try:
            while not waiter.done():
                await asyncio.wait({waiter}, timeout=TICK_S)
                if not waiter.done() and self.silent():
                    raise self.broken(call)
            error = waiter.exception()
            if error is not None:
                raise error
            return loaded(waiter.result(), self.bytes_of)
        except BaseException:
            waiter.cancel()
            self.cancel(call)
            raise

    def read(self, handle: str, start: int, end: int | None) -> tuple[bytes, str]:
        """What the host keeps under a handle, up to `end`, and its media type."""
        parts, place, kind = [], start, "text/plain"
        while end is None or place < end:
            want = READ_BYTES if end is None else min(READ_BYTES, end - place)
            part = self.wait(self.start(READ, {"handle": handle, "start": place, "size": want}, series="r"))
            data = base64.b64decode(part["data"])
            parts.append(data)
            place, kind = place + len(data), str(part["media_type"])
            if len(data) < want:
                break
        return b"".join(parts), kind

    def bytes_of(self, handle: str) -> bytes:
        return self.read(handle, 0, None)[0]

    # -- from the host, on the control thread --------------------------------------------------------------------------

    def answered(self, content: dict[str, Any], respond: Callable[[dict[str, Any]], None]) -> None:
        """A call is over; the host waits for nothing. Values are JSON in a string, so that no packer changes them."""
        self.heard = time.monotonic()
        if content.get("msg_id") != (self.header or {}).get("msg_id"):
            return
        with self.lock:
            call = self.pending.pop(content["id"], None)
            if call is not None and content.get("record"):
                self.records.append(content["record"])
        if call is None or call.future.done():
            return
        error = content.get("error")
        if error is None:
            call.future.set_result(content["value"])
        else:
            self.fail(call, error["message"], error["kind"], error["code"])

    def take(self, content: dict[str, Any], respond: Callable[[dict[str, Any]], None]) -> None:
        """The host will make this call, once it knows that we know: should it crash then, nobody makes it again."""
        self.heard = time.monotonic()
        with self.lock:
            call = self.pending.get(content.get("id") or "")
            ours = call is not None and content.get("msg_id") == (self.header or {}).get("msg_id")
            if call is not None and ours:
                call.taken = True
        respond({"status": "ok", "taken": ours})

    def beat(self, content: dict[str, Any], respond: Callable[[dict[str, Any]], None]) -> None:
        """The host lives, and knows that somebody waits."""
        self.heard = time.monotonic()


def install(shell: Any, inside: Any) -> None:
    """Put `tools`, `ToolError` and `read_output` beside the builtins."""
    import builtins

    calls = inside.calls = Calls(inside)

    def read_output(handle: str, start: int = 0, size: int | None = None) -> Any:
        """What was cut out of an output, by the handle that is told there (`sha256:…`).

        Text as str, anything else as bytes; `start` and `size` (bytes) read a part.
        """
        first = max(0, int(start))
        whole, kind = calls.read(str(handle), first, None if size is None else first + max(0, int(size)))
        if not kind:  # from an earlier kernel: only its bytes can tell
            try:
                return whole.decode()
            except UnicodeDecodeError:
                return whole
        return whole.decode("utf-8", "replace") if kind.startswith(("text/", "application/x-ndjson")) else whole

    read_output.__module__, read_output.__qualname__ = "builtins", "read_output"
    inside.handlers["lash_call_answer"] = calls.answered
    inside.handlers["lash_call_beat"] = calls.beat
    inside.handlers["lash_call_take_request"] = calls.take
    given: dict[str, Any] = {"tools": Tools(calls), "ToolError": ToolError, "read_output": read_output}
    for name, value in given.items():
        setattr(builtins, name, value)
