"""One cell as the I/O thread sees it.

Decided here: when a cell is over (`Cell`: idle and reply, a bounded wait for the second, death), and how its end
becomes a typed `CellResult`. A cell belongs to the I/O thread until `ended` is set, and to its caller from then on.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Mapping, Sequence
from typing import cast

from ..machine.execution import CellOutcome, CellOutput, CellResult, ErrorOutput, FinishValue
from ..machine.wire import Json
from . import OutputSink
from .flags import Flag, post
from .inner_calls import InnerCalls
from .inputs import OpenInputs
from .numbering import Numbering
from .outputs import OutputFold

_log = logging.getLogger(__name__)

__all__ = ["EXECUTE", "FINISH", "KEY_USED", "Cell", "followed_cell"]

FINISH = "LashFinish"
"""The name of the exception with which `finish()` ends a cell, and of the reply's payload that holds the value."""
KEY_USED = "LashKeyUsed"
"""The name of the error with which a kernel refuses a key that it knows from other code."""
EXECUTE = {
    "silent": False,
    "store_history": True,
    "user_expressions": {},
    "stop_on_error": False,  # the queue is ours: an error aborts nothing
}
"""What every execute request of ours says."""
_INTERRUPTS = ("KeyboardInterrupt", "CancelledError")
_SECOND_HALF_S = 2.0
_AFTER_INTERRUPT_S = 0.3
_EMIT_EVERY_S = 0.1
_NO_LONGER_KEPT = "The cell ran to its end earlier; its outputs are no longer kept by the kernel."
_NO_IDLE = "The kernel's idle status did not come; the last outputs may be missing."
_LOST_MESSAGES = (
    "{:,} messages of the kernel were lost on their way, outputs of this cell among them: it sends faster than its "
    "socket takes."
)

Content = Mapping[str, object]


class Cell:
    """A cell from its submission to its end.

    `frames` is its signed request; a cell that an earlier host began (`begun`) has none: it is only followed.
    """

    def __init__(
        self,
        *,
        msg_id: str,
        key: str,
        frames: list[bytes],
        fold: OutputFold,
        calls: InnerCalls,
        on_output: OutputSink | None = None,
        begun: bool = False,
    ) -> None:
        self.msg_id = msg_id
        self.key = key
        self.frames = frames
        self.fold = fold
        self.calls = calls
        self.inputs = OpenInputs(calls.questions)
        self.sent = Flag()
        self.ended = Flag()
        self.begun = begun
        """The kernel reached the user's code: from here on SIGINT is not ignored."""
        self.interrupted = False
        """We sent SIGINT while it ran."""
        self.insisted = False
        """It did not react to that, and was interrupted again."""
        self.interrupt_wanted = False
        self.withdrawn = False
        """It ended before it was sent; it never ran."""
        self.abandoned = False
        """Its caller gave up waiting; it still runs."""
        self.death = ""
        self.numbering: Numbering | None = None
        """Counts messages that were lost, for kernels without our code inside."""
        self.digest = ""
        """SHA-256 of the code of a cell that is only followed."""
        self._on_output: OutputSink | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._reply: Content | None = None
        self._idle = False
        self._sent_at = self._ended_at = 0.0
        self._deadline: float | None = None
        self._dirty = False
        self._in_flight = False
        self._emitted_at = 0.0
        if on_output is not None:
            self.listen(on_output)

    def listen(self, on_output: OutputSink) -> None:
        """Tell the outputs to `on_output`, on the loop that runs now."""
        self._loop = asyncio.get_running_loop()
        self._on_output = on_output
        self._dirty = self.begun

    # -- on the I/O thread -----------------------------------------------------------------------------------------

    def mark_sent(self, now: float) -> None:
        self._sent_at = now
        self.sent.set()

    def take_iopub(self, msg_type: str, content: Content, buffers: Sequence[bytes], now: float) -> None:
        match msg_type:
            case "status":
                if content.get("execution_state") == "idle":
                    self._idle = True
                    self._half(now)
            case "execute_input":
                self.begun = True
            case "lash_outputs":
                entries = content.get("entries")
                if isinstance(entries, list):
                    self.fold.load(entries)
                    self._dirty = True
            case "lash_call":
                self.calls.arrived(content)
            case "lash_call_cancel":
                self.calls.cancelled(content)
            case _:
                if self.fold.apply(msg_type, content, buffers):
                    self._dirty = True

    def take_reply(self, content: Content, now: float) -> None:
        self._reply = content
        self._half(now)

    def take_record(self, content: Content, now: float) -> None:
        """The kernel's own record of a cell that was only followed: outputs and reply in one."""
        if self.ended.is_set():
            return
        entries, reply = content.get("entries"), content.get("reply")
        if isinstance(entries, list):
            self.fold.load(entries)
        self._reply = reply if isinstance(reply, dict) else {}
        self.end(now)

    def _half(self, now: float) -> None:
        if self._idle and self._reply is not None:
            self.end(now)
        else:
            quick = self._idle and self.interrupted  # an interrupt between the cell and its reply loses the reply
            self._deadline = now + (_AFTER_INTERRUPT_S if quick else _SECOND_HALF_S)

    def end(self, now: float, *, death: str = "") -> None:
        if not self.ended.is_set():
            self.death = death
            self._ended_at = now
            self.ended.set()

    def tick(self, now: float) -> float | None:
        """Do what is due; the time of the next thing that will be, if any."""
        if self._deadline is not None and now >= self._deadline:
            self.end(now)
            return None
        due = self._deadline
        if self._dirty and self._loop is not None and not self._in_flight:
            emit_at = self._emitted_at + _EMIT_EVERY_S
            if now >= emit_at:
                self._dirty, self._in_flight, self._emitted_at = False, True, now
                post(self._loop, self._emit, self.fold.outputs())
            else:
                due = emit_at if due is None else min(due, emit_at)
        beat = self.calls.tick(now)
        return beat if due is None else due if beat is None else min(due, beat)

    # -- on the caller's loop --------------------------------------------------------------------------------------

    def _emit(self, outputs: tuple[CellOutput, ...]) -> None:
        self._in_flight = False
        if not self.ended.is_set():
            self._tell(outputs)

    def emit_final(self, outputs: tuple[CellOutput, ...]) -> None:
        self._tell(outputs)
        self._on_output = None

    def _tell(self, outputs: tuple[CellOutput, ...]) -> None:
        if self._on_output is None:
            return
        try:
            self._on_output(outputs)
        except Exception:
            # What only looks on must not cost the result.
            _log.exception("who watches the outputs of a cell failed and is not told any more")
            self._on_output = None

    def payloads(self) -> list[Content]:
        """What the kernel's side of lash_nb attached to the reply."""
        found = self._reply.get("payload") if self._reply is not None else None
        return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []

    @property
    def refused(self) -> bool:
        """The kernel knows the key from other code, and ran nothing."""
        return self._reply is not None and self._reply.get("ename") == KEY_USED

    def result(self, *, timed_out_s: float | None = None) -> CellResult:
        """The typed end; call after `ended`, or to give up on a cell that still runs."""
        running = not self.ended.is_set()
        outputs = self.fold.outputs() if running else self.fold.close()
        outputs = tuple(o for o in outputs if not (isinstance(o, ErrorOutput) and o.ename == FINISH))
        errors = [output for output in outputs if isinstance(output, ErrorOutput)]
        reply = self._reply or {}
        note = reply.get("lash_nb")
        noted: Content = note if isinstance(note, Mapping) else {}
        self.interrupted = self.interrupted or noted.get("interrupted") is True
        calls = noted.get("calls")
        self.calls.recover(calls if isinstance(calls, list) else ())
        outcome, detail = self._outcome(reply, errors, timed_out_s=timed_out_s, running=running)
        if self.numbering is not None and self.numbering.missing > 0:
            detail = f"{detail} {_LOST_MESSAGES.format(self.numbering.missing)}".strip()
        if noted.get("outputs") is False:
            detail = f"{detail} {_NO_LONGER_KEPT}".strip()
        until = self._ended_at if self.ended.is_set() else time.monotonic()
        took = noted.get("seconds") if noted.get("recovered") is True else None
        finish = self._finish() if outcome is CellOutcome.OK else None
        count = reply.get("execution_count")
        return CellResult(
            outcome=outcome,
            outputs=outputs,
            error=errors[-1] if errors and outcome is not CellOutcome.OK else None,
            finish=finish,
            execution_count=count if isinstance(count, int) else None,
            duration_s=took if isinstance(took, float) else max(0.0, until - self._sent_at),
            detail=detail,
            tool_calls=self.calls.records(),
            recovered=noted.get("recovered") is True,
        )

    def _outcome(
        self, reply: Content, errors: list[ErrorOutput], *, timed_out_s: float | None, running: bool
    ) -> tuple[CellOutcome, str]:
        if self.death:
            return CellOutcome.DEAD, self.death
        status, name = reply.get("status"), reply.get("ename")
        late = " It reacted only to the second interrupt." if self.insisted else ""
        if timed_out_s is not None and not running and status is not None and name not in _INTERRUPTS:
            ended = CellOutcome.OK if status == "ok" or name == FINISH else CellOutcome.ERROR
            return ended, f"The cell ran longer than {timed_out_s:g} s and was interrupted, but went on to its end."
        if timed_out_s is not None:
            left = (
                " It did not react to the interrupt and still runs; the next cell needs a new kernel."
                if running
                else ""
            )
            return CellOutcome.TIMEOUT, f"The cell ran longer than {timed_out_s:g} s and was interrupted.{left or late}"
        if status is None and self.interrupted:
            return CellOutcome.INTERRUPTED, f"The cell was interrupted.{late}"
        if status is None:
            if errors:
                return CellOutcome.ERROR, ""
            return CellOutcome.LOST, "The kernel became idle, but its reply to the cell did not come."
        if status == "ok" or name == FINISH:
            whole = self._idle or not self.frames
            return CellOutcome.OK, "" if whole else _NO_IDLE
        if status in ("aborted", "abort"):
            if self.begun and self.interrupted:  # as some kernels say it
                return CellOutcome.INTERRUPTED, f"The cell was interrupted.{late}"
            return CellOutcome.ABORTED, "The kernel refused the cell because an earlier one failed."
        if name in _INTERRUPTS and (self.interrupted or not errors):
            return CellOutcome.INTERRUPTED, f"The cell was interrupted.{late}"
        return CellOutcome.ERROR, ""

    def _finish(self) -> FinishValue | None:
        for payload in self.payloads():
            if payload.get("source") == FINISH:
                return FinishValue(value=cast("Json", json.loads(str(payload.get("value")))))
        return None


def followed_cell(running: Mapping[str, object], calls: object, *, fold: OutputFold, inner: InnerCalls) -> Cell:
    """The cell that an earlier host began, with what its kernel says of it: outputs so far, calls without an answer."""
    cell = Cell(msg_id=str(running["msg_id"]), key=str(running["key"]), frames=[], fold=fold, calls=inner, begun=True)
    cell.digest = str(running["digest"])
    if isinstance(entries := running.get("entries"), list):
        fold.load(entries)
    for call in calls if isinstance(calls, list) else ():
        inner.inherit(call)
    return cell
