"""The tool calls of one cell, as its host makes them.

Decided here: a call is made once the kernel has confirmed that it knows it as taken, so that no other host ever makes
it again; calls run on the caller's loop, all at once; one whose code stopped waiting is cancelled, and what is left at
the cell's end too; each leaves a `ToolCallRecord`. A cell makes `MAX_CALLS` calls, and is given so much of values: what
is beyond is refused and leaves nothing. Calls of a cell that another host began wait until somebody claims the cell;
those that the other host had taken are answered by `CellTools.on_taken`, or told as lost. `read_output` is answered
from the store, and what a guarded cell asks is decided by its `CellGuard`: these are no tool calls.

`arrived`, `cancelled` and `tick` run on the I/O thread, the rest on the caller's loop.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ..errors import LashError
from ..machine.attachments import AdoptingStore, AttachmentRef
from ..machine.tool_calls import (
    TOOL_CALL_RECORD,
    TOOL_VALUE,
    PendingToolCall,
    ToolCallOutput,
    ToolCallRecord,
    ToolCancelled,
    ToolFailed,
    ToolFailureClass,
    ToolSucceeded,
)
from . import CellGuard, CellTools
from .call_outputs import answered, cancelled, failed
from .flags import post
from .inside.tool_values import MAX_CALLS
from .wishes import ASK, OpenQuestions, decided

__all__ = ["InnerCalls"]

_BEAT_S = 2.0
_CLOSE_S = 2.0
_READ = "read_output"
_MOST_GIVEN_CHARS = 256_000_000
"""Of the JSON of all values of one cell's calls, which both sides hold until its end."""
_MOST_READ_BYTES = 4 * 1024 * 1024
_LOST = "the host that made this call ended before it was answered; it may have been carried out"


Content = Mapping[str, object]


class CallWire(Protocol):
    """What of a kernel's wire the calls use; from any thread."""

    def tell(self, msg_type: str, content: Content) -> None: ...
    def request(
        self, channel: Literal["control"], msg_type: str, content: Content, *, then: Callable[[Content], None]
    ) -> object: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    id: str
    name: str
    args: Any
    taken: bool = False
    """By another host."""

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> _Call:
        return cls(
            id=str(content.get("id")),
            name=str(content.get("name")),
            args=json.loads(str(content.get("args"))),
            taken=bool(content.get("taken")),
        )


class InnerCalls:
    """The calls of one cell."""

    def __init__(
        self,
        wire: CallWire,
        *,
        msg_id: str = "",
        tools: CellTools | None = None,
        guard: CellGuard | None = None,
        store: AdoptingStore | None = None,
        kept: Mapping[str, AttachmentRef] | None = None,
        held: bool = False,
    ) -> None:
        """`kept`: what outputs of this kernel were kept as, by id. `held`: wait for `claim` before any call is made."""
        self.msg_id = msg_id
        self._wire = wire
        self.questions = OpenQuestions()
        self._tools = tools
        self._cell_guard = guard
        self._store = store
        self._kept = kept or {}
        self._guard = threading.Lock()
        self._waiting: list[_Call] | None = [] if held else None
        self._loop = None if held else asyncio.get_running_loop()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._running: dict[str, _Call] = {}
        self._unanswered: set[str] = set()
        self._records: dict[str, ToolCallRecord] = {}
        self._made = self._given_chars = 0
        self._beat_at = 0.0
        self._closed = False

    def claim(self, tools: CellTools | None, guard: CellGuard | None = None) -> None:
        """Make the calls of a cell that another host began, on the loop that runs now."""
        with self._guard:
            self._tools, self._cell_guard, self._loop = tools, guard, asyncio.get_running_loop()
            waiting, self._waiting = self._waiting or [], None
        for call in waiting:
            self._take(call)

    def inherit(self, content: Mapping[str, Any]) -> None:
        """A call that was waiting when the cell was taken over."""
        self.arrived(content)

    # -- on the I/O thread -------------------------------------------------------------------------------------------

    def arrived(self, content: Mapping[str, Any]) -> None:
        try:
            call = _Call.read(content)
        except (ValueError, RecursionError):
            return  # no proxy of ours writes that; whoever forged it waits for nothing
        with self._guard:
            if call.id in self._unanswered or call.id in self._records:
                return  # told twice: by the record of the cell, and by itself
            self._unanswered.add(call.id)
            if call.name == ASK:
                self.questions.begin()
            if self._waiting is not None:
                self._waiting.append(call)
                return
        self._take(call)

    def _take(self, call: _Call) -> None:
        """Start the call, a tool's only when the kernel has confirmed that it knows it as taken."""
        loop = self._loop
        assert loop is not None
        if call.taken and (self._tools is None or self._tools.on_taken is None):
            self._refuse(call, _LOST, ToolFailureClass.UNAVAILABLE, "lost")
            return
        if self._offered(call):
            self._made += 1
            if self._made > MAX_CALLS:  # the kernel's own bound is in the reach of agent code
                self._turn_away(call, f"has made {MAX_CALLS:,} calls, and none makes more", "too_many_calls")
                return
            if self._given_chars > _MOST_GIVEN_CHARS:
                has = f"has been given {self._given_chars:,} characters of values, over {_MOST_GIVEN_CHARS:,}"
                self._turn_away(call, has, "values_too_long")
                return
        if call.taken or not self._offered(call):
            post(loop, self._start, call)
            return

        def confirmed(reply: Content) -> None:
            if reply.get("taken") is True:
                post(loop, self._start, call)
            else:  # nobody waits for it any more
                self._unanswered.discard(call.id)

        content = {"msg_id": self.msg_id, "id": call.id}
        self._wire.request("control", "lash_call_take_request", content, then=confirmed)

    def _offered(self, call: _Call) -> bool:
        return self._tools is not None and any(offer.name == call.name for offer in self._tools.offers)

    def _turn_away(self, call: _Call, why: str, code: str) -> None:
        """Without a record: records are what is bounded."""
        message = f"{call.name}() was not called: this cell {why}; go on in another cell"
        error = {"message": message, "kind": "resource_limit", "code": code}
        self._unanswered.discard(call.id)
        self._wire.tell("lash_call_answer", {"msg_id": self.msg_id, "id": call.id, "error": error})

    def cancelled(self, content: Mapping[str, Any]) -> None:
        call_id = str(content.get("id"))
        with self._guard:
            for call in [one for one in self._waiting or () if one.id == call_id]:
                assert self._waiting is not None
                self._waiting.remove(call)
                self._over(call)
        if self._loop is not None:
            post(self._loop, self._cancel, call_id)

    def tick(self, now: float) -> float | None:
        """Say now and then that the host lives, while somebody waits; when that is due next."""
        if not self._unanswered or (self._loop is not None and self._loop.is_closed()):
            return None
        if now >= self._beat_at:
            self._beat_at = now + _BEAT_S
            self._wire.tell("lash_call_beat", {"msg_id": self.msg_id})
        return self._beat_at

    # -- on the caller's loop ----------------------------------------------------------------------------------------

    def _start(self, call: _Call) -> None:
        if call.name == ASK:
            task = self._tasks[call.id] = asyncio.ensure_future(self._decide(call))
            task.add_done_callback(lambda _: self._over(call))
        elif self._closed:  # its caller gave up on the cell, which runs on
            self._refuse(call, "nobody waits for this cell any more", ToolFailureClass.UNAVAILABLE, "cell_ended")
        else:
            self._running[call.id] = call
            self._tasks[call.id] = asyncio.ensure_future(self._make(call))

    def _cancel(self, call_id: str) -> None:
        task = self._tasks.get(call_id)
        if task is not None:
            task.cancel()

    async def close(self) -> None:
        """The cell has ended: cancel what is still being made, and wait, bounded, until that has ended."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_CLOSE_S)
        for call in list(self._running.values()):  # it ignores that it was cancelled
            self._record(call, cancelled("the cell ended; the tool does not"), 0)

    def recover(self, records: Iterable[Any]) -> None:
        """The calls as the kernel has recorded them, where the cell had been run before."""
        for encoded in records:
            with contextlib.suppress(ValueError):  # ours are whole; what agent code made of them is not our matter
                record = TOOL_CALL_RECORD.decode(json.loads(str(encoded)))
                self._records.setdefault(str(record.call_id), record)

    def records(self) -> tuple[ToolCallRecord, ...]:
        """The calls so far, in the cell's order."""
        return tuple(self._records[call_id] for call_id in sorted(self._records, key=_number))

    async def _make(self, call: _Call) -> None:
        began = time.monotonic()
        try:
            if call.name == _READ:
                await self._read(call)
                return
            if self._tools is None or not self._offered(call):
                self._refuse(call, f"there is no tool {call.name!r}", ToolFailureClass.INVALID_REQUEST, "unknown_tool")
                return
            pending = PendingToolCall(call_id=call.id, tool_name=call.name, args=call.args)
            begun = self._tools.on_taken if call.taken else None
            output = await answered(begun or self._tools.on_call, pending)
            self._record(call, output, round((time.monotonic() - began) * 1000))
            self._send(call, output)
        except asyncio.CancelledError:
            output = cancelled("the code that made the call stopped waiting for it")
            self._record(call, output, round((time.monotonic() - began) * 1000))
            self._send(call, output)
            raise
        finally:
            self._tasks.pop(call.id, None)
            self._running.pop(call.id, None)
            self._unanswered.discard(call.id)

    async def _decide(self, call: _Call) -> None:
        content: dict[str, Any] = {"msg_id": self.msg_id, "id": call.id}
        try:
            content["value"] = json.dumps(await decided(None if self._closed else self._cell_guard, call.args))
        except asyncio.CancelledError:  # by who decides, too: the code must not wait for ever
            content["error"] = {"message": "the question was withdrawn", "kind": "cancelled", "code": "cancelled"}
            raise
        finally:
            self._wire.tell("lash_call_answer", content)

    def _over(self, call: _Call) -> None:
        """A call that leaves no record is answered, or nobody waits for it."""
        self._tasks.pop(call.id, None)
        self._unanswered.discard(call.id)
        if call.name == ASK:
            self.questions.end()

    def _refuse(self, call: _Call, message: str, kind: ToolFailureClass, code: str) -> None:
        output = failed(message, kind, code)
        self._record(call, output, 0)
        self._send(call, output)
        self._unanswered.discard(call.id)

    def _record(self, call: _Call, output: ToolCallOutput, duration_ms: int) -> None:
        self._records[call.id] = ToolCallRecord(
            call_id=call.id, tool=call.name, args=call.args, output=output, duration_ms=duration_ms
        )

    def _send(self, call: _Call, output: ToolCallOutput) -> None:
        record = json.dumps(TOOL_CALL_RECORD.encode(self._records[call.id]))
        content: dict[str, Any] = {"msg_id": self.msg_id, "id": call.id, "record": record}
        match output.outcome:
            case ToolSucceeded(payload=value):
                content["value"] = json.dumps(TOOL_VALUE.encode(value))
                self._given_chars += len(content["value"])
            case ToolFailed(payload=failure):
                content["error"] = {"message": failure.message, "kind": failure.class_.value, "code": failure.code}
            case ToolCancelled(payload=cancellation):
                content["error"] = {"message": cancellation.message, "kind": "cancelled", "code": "cancelled"}
        self._wire.tell("lash_call_answer", content)

    # -- what was cut out of an output -------------------------------------------------------------------------------

    async def _read(self, call: _Call) -> None:
        content: dict[str, Any] = {"msg_id": self.msg_id, "id": call.id}
        try:
            content["value"] = json.dumps(await asyncio.to_thread(self._part, call.args))
        except (LashError, KeyError, TypeError, ValueError) as error:
            content["error"] = {"message": f"read_output: {error}", "kind": "invalid_request", "code": "no_such_output"}
        self._wire.tell("lash_call_answer", content)

    def _part(self, args: Any) -> dict[str, str]:
        if self._store is None:
            raise ValueError("nothing that is cut out of outputs is kept here: the kernel was given no store")
        handle, start, size = str(args["handle"]), max(0, int(args["start"])), min(int(args["size"]), _MOST_READ_BYTES)
        found = [ref for ref_id, ref in self._kept.items() if ref_id.startswith(handle)]
        if len(found) > 1:
            raise ValueError(f"{handle!r} is the beginning of {len(found)} handles; give more of it")
        ref = found[0] if found else AttachmentRef(id=handle, media_type="", byte_len=0)
        data = self._store.part(ref, start=start, size=size)
        return {"data": base64.b64encode(data).decode(), "media_type": ref.media_type}


def _number(call_id: str) -> int:
    return int(call_id[1:]) if call_id[1:].isdecimal() else 0
