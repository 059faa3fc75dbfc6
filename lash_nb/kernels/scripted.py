"""A kernel that plays a script instead of running code: the public double, held to the same contract as the real one.

Decided here: what a script can say. Nothing runs: a script maps code to `ScriptedCell`s, by a function, a mapping, or a
sequence played in order. Slow cells, interrupts, hangs, death, variables, tool calls, wishes and the ledger of keys are
all there, on any event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

from ..errors import KernelBusyError, KernelDiedError, KernelError
from ..machine.approvals import Wish
from ..machine.execution import (
    CellOutcome,
    CellOutput,
    CellResult,
    ErrorOutput,
    FinishValue,
    NamespaceSummary,
    VariableSummary,
)
from ..machine.tool_calls import PendingToolCall, ToolCallRecord
from ..previews import Previews
from . import CellGuard, CellTools, Kernel, OutputSink
from .flags import Flag, Turnstile
from .scripted_calls import CANCELLED_CALL, asked, called
from .scripted_values import ScriptedValues
from .summaries import without_values
from .wishes import OpenQuestions

__all__ = ["Script", "ScriptedCell", "ScriptedKernel"]

_DIED = "The kernel's process was killed by signal 9 (SIGKILL) while the cell ran; its variables are gone."
_KILLED = "The kernel was {} while the cell ran; its variables are gone."
_LOOK_AGAIN_S = 0.05
_LOST = "The cell was started before, and this kernel keeps no record of what it ran."


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedCell:
    """What one cell does: after `takes_s` its outputs are there, its names bound, and it ends as its fields say."""

    outputs: tuple[CellOutput, ...] = ()
    """An `ErrorOutput` among them makes the cell fail."""
    finish: FinishValue | None = None
    takes_s: float = 0.0
    """How long it runs after its first output (if any) was shown; it can be interrupted all the while."""
    calls: tuple[PendingToolCall, ...] = ()
    """Tool calls that it makes before that, one after the other; their ids become `c1`, `c2`, …"""
    wishes: tuple[Wish, ...] = ()
    """Effects that it asks for first, if it is guarded, one after the other; a refusal ends it with an error."""
    ignores_interrupt: bool = False
    dies: bool = False
    """The process is killed when its time is over."""
    binds: tuple[VariableSummary, ...] = ()
    deletes: tuple[str, ...] = ()


_Asking = tuple[CellTools | None, CellGuard | None]
Script = Callable[[str], ScriptedCell] | Mapping[str, ScriptedCell] | Iterable[ScriptedCell]


class _Running:
    """The cell that runs now."""

    def __init__(self, cell: ScriptedCell) -> None:
        self.cell = cell
        self.stopped = Flag()
        """It is to end before its time: interrupted, or its kernel killed."""
        self.ended = Flag()
        self.death = ""
        self.calls: list[ToolCallRecord] = []
        """The tool calls it has made."""
        self.shown: tuple[CellOutput, ...] = ()
        """Its first output, once it was allowed what it asked for."""
        self.questions = OpenQuestions()
        self.refused: ErrorOutput | None = None
        """Of a wish."""


class _Entry:
    """What the ledger holds of one key."""

    def __init__(self, code: str) -> None:
        self.code = code
        self.ended = Flag()
        self.result: CellResult | None = None
        """None while it is queued or runs, and when it never ran."""


class ScriptedKernel(ScriptedValues, Kernel):
    """Plays `script`; without one, every cell ends well with no output.

    A mapping that lacks the code, or a sequence that is used up, answers with an error output that says so. Without
    `has_ledger` it is like a kernel that cannot tell what ran before: a `started` key that it has not seen is lost.
    In another `language` than Python there is no way to look at variables. `values` are variables
    that have values, of which there are copies.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        language: str = "python",
        has_ledger: bool = True,
        values: Mapping[str, Any] | None = None,
        interrupt_timeout_s: float = 0.5,
    ) -> None:
        self.language = language
        self._has_ledger = has_ledger
        super().__init__(values or {})
        self._script = script if script is None or callable(script) or isinstance(script, Mapping) else iter(script)
        self._interrupt_timeout_s = interrupt_timeout_s
        self._turnstile = Turnstile()
        self._running: _Running | None = None
        self._stuck = False
        self._epochs = count(1)
        self._epoch = ""
        self._alive = False
        self._variables: dict[str, VariableSummary] = {}
        self._known: dict[str, VariableSummary] = {}
        self._executions = 0
        self._ledger: dict[str, _Entry] = {}
        self.ran: list[tuple[str, str]] = []
        """`(key, code)` of every cell that was run, in order; across restarts."""

    @property
    def epoch(self) -> str:
        return self._epoch

    @property
    def alive(self) -> bool:
        return self._alive

    async def start(self) -> None:
        if not self._alive:
            self._epoch = f"scripted-{next(self._epochs)}"
            self._alive = True
            self._stuck = False
            self._executions = 0
            self._variables, self._known = {}, {}
            self._forget_values()
            self._ledger = {}

    async def restart(self) -> None:
        await self._kill(_KILLED.format("restarted"))
        await self.start()

    async def shutdown(self) -> None:
        await self._kill(_KILLED.format("shut down"))

    async def kill(self) -> None:
        """What `kill -9` does to a real one: it is dead, and so is the cell that runs."""
        await self._kill(_DIED)

    async def _kill(self, sentence: str) -> None:
        self._alive = False
        running = self._running
        if running is not None:
            running.death = sentence
            running.stopped.set()
            await running.ended.wait()

    async def run(
        self,
        key: str,
        code: str,
        *,
        on_output: OutputSink | None = None,
        tools: CellTools | None = None,
        guard: CellGuard | None = None,
        timeout_s: float | None = None,
        started: bool = False,
    ) -> CellResult:
        self._require_life()
        if not key:
            return await self._run(_Entry(code), key, on_output, (tools, guard), timeout_s)
        while (entry := self._ledger.get(key)) is not None:
            if entry.code != code:
                raise KernelError(f"the key {key!r} was used for other code; the cell was not run")
            if (result := await self._recorded(entry)) is not None:
                if on_output is not None:
                    on_output(result.outputs)
                return result
        if started and not self._has_ledger:
            return CellResult(outcome=CellOutcome.LOST, detail=_LOST)
        entry = self._ledger[key] = _Entry(code)
        try:
            return await self._run(entry, key, on_output, (tools, guard), timeout_s)
        finally:
            if entry.result is None and self._ledger.get(key) is entry:
                del self._ledger[key]  # it never ran
            entry.ended.set()

    async def _recorded(self, entry: _Entry) -> CellResult | None:
        """What came of a cell that ran, or runs now; None when it was queued and never ran."""
        try:
            await entry.ended.wait()
        except asyncio.CancelledError:
            await self.interrupt()
            raise
        return None if entry.result is None else replace(entry.result, recovered=True)

    async def _run(
        self,
        entry: _Entry,
        key: str,
        on_output: OutputSink | None,
        asking: _Asking,
        timeout_s: float | None,
    ) -> CellResult:
        if self._stuck:
            raise KernelBusyError("an earlier cell did not react to its interrupt and still runs")
        async with self._turnstile.alone():
            self._require_life()
            self.ran.append((key, entry.code))
            running = self._running = _Running(self._cell(entry.code))
            try:
                entry.result = await self._play(running, on_output, asking, timeout_s)
                return entry.result
            except asyncio.CancelledError:
                self._stuck = running.cell.ignores_interrupt
                entry.result = self._interrupted(running, None)
                raise
            finally:
                self._running = None
                running.ended.set()

    def _require_life(self) -> None:
        if not self._alive:
            raise KernelDiedError("the kernel is not running: start or restart it")

    def _cell(self, code: str) -> ScriptedCell:
        script = self._script
        if callable(script):
            return script(code)
        if isinstance(script, Mapping):
            return script.get(code) or _unscripted(f"the script has no cell for this code: {code!r}")
        if script is None:
            return ScriptedCell()
        return next(script, None) or _unscripted("the script is used up")

    async def _play(
        self, running: _Running, on_output: OutputSink | None, asking: _Asking, timeout_s: float | None
    ) -> CellResult:
        cell = running.cell
        self._executions += 1
        begun = time.monotonic()
        work = asyncio.ensure_future(self._work(running, on_output, *asking))
        stop = asyncio.ensure_future(running.stopped.wait())
        try:
            await _first(work, stop, timeout_s=timeout_s, questions=running.questions)
            ended, stopped = work.done(), running.stopped.is_set()
        finally:
            for task in (work, stop):
                task.cancel()
            await asyncio.wait({work, stop})
        timed_out_s = timeout_s if not stopped and not ended else None
        self._stuck = timed_out_s is not None and cell.ignores_interrupt
        result = self._result(running, stopped=stopped and not ended, timed_out_s=timed_out_s)
        result = replace(result, execution_count=self._executions, duration_s=time.monotonic() - begun)
        if on_output is not None:
            on_output(result.outputs)
        return result

    async def _work(
        self, running: _Running, on_output: OutputSink | None, tools: CellTools | None, guard: CellGuard | None
    ) -> None:
        running.refused = await asked(running.cell.wishes, guard, running.questions)
        if running.refused is not None:
            return
        running.shown = running.cell.outputs[:1]
        if on_output is not None and running.shown:
            on_output(running.shown)
        for number, scripted in enumerate(running.cell.calls, start=1):
            call = replace(scripted, call_id=f"c{number}")
            begun = time.monotonic()
            output = CANCELLED_CALL
            try:
                output = await called(call, tools)
            finally:
                record = ToolCallRecord(
                    call_id=call.call_id,
                    tool=call.tool_name,
                    args=call.args,
                    output=output,
                    duration_ms=round((time.monotonic() - begun) * 1000),
                )
                running.calls.append(record)
        if running.cell.takes_s:
            await asyncio.sleep(running.cell.takes_s)

    def _result(self, running: _Running, *, stopped: bool, timed_out_s: float | None) -> CellResult:
        cell, cut = running.cell, stopped or timed_out_s is not None
        calls = tuple(running.calls)
        if running.death or (cell.dies and not cut):
            self._alive = False
            detail = running.death or _DIED
            return CellResult(outcome=CellOutcome.DEAD, outputs=running.shown, detail=detail, tool_calls=calls)
        if cut:
            return self._interrupted(running, timed_out_s)
        if running.refused is not None:
            told = (running.refused,)
            return CellResult(outcome=CellOutcome.ERROR, outputs=told, error=running.refused, tool_calls=calls)
        for name in cell.deletes:
            self._variables.pop(name, None)
        self._variables |= {variable.name: variable for variable in cell.binds}
        errors = [output for output in cell.outputs if isinstance(output, ErrorOutput)]
        if errors:
            return CellResult(outcome=CellOutcome.ERROR, outputs=cell.outputs, error=errors[-1], tool_calls=calls)
        return CellResult(outcome=CellOutcome.OK, outputs=cell.outputs, finish=cell.finish, tool_calls=calls)

    def _interrupted(self, running: _Running, timed_out_s: float | None) -> CellResult:
        error = ErrorOutput(ename="KeyboardInterrupt", evalue="", traceback=("KeyboardInterrupt: ",))
        outcome, detail = CellOutcome.INTERRUPTED, "The cell was interrupted."
        if timed_out_s is not None:
            left = (
                " It did not react to the interrupt and still runs; the next cell needs a new kernel."
                if self._stuck
                else ""
            )
            outcome = CellOutcome.TIMEOUT
            detail = f"The cell ran longer than {timed_out_s:g} s and was interrupted.{left}"
        outputs = (*running.shown, error)
        return CellResult(outcome=outcome, outputs=outputs, error=error, detail=detail, tool_calls=tuple(running.calls))

    async def interrupt(self) -> bool:
        running = self._running
        if running is None:
            return not self._stuck
        if not running.cell.ignores_interrupt:
            running.stopped.set()
        return await running.ended.wait(self._interrupt_timeout_s)

    async def namespace(self, *, limit: int = 200, previews: Previews = "sample") -> NamespaceSummary:
        self._require_life()
        if self.language != "python":
            return NamespaceSummary()
        names = sorted(self._variables)[:limit]
        shown = tuple(
            replace(self._variables[name], changed=self._known.get(name) != self._variables[name]) for name in names
        )
        removed = tuple(sorted(self._known.keys() - self._variables.keys()))
        self._known = dict(self._variables)
        summary = NamespaceSummary(variables=shown, omitted=len(self._variables) - len(names), removed=removed)
        return without_values(summary) if previews == "schema" else summary

    def take_background(self) -> tuple[CellOutput, ...]:
        return ()


async def _first(*tasks: asyncio.Future[Any], timeout_s: float | None, questions: OpenQuestions) -> None:
    """Until the first has ended, or the time is over; that of a question which waits does not count."""
    began, left_s = time.monotonic(), timeout_s
    while not (await asyncio.wait(tasks, timeout=left_s, return_when=asyncio.FIRST_COMPLETED))[0]:
        assert timeout_s is not None
        left_s = began + timeout_s + questions.waited_s - time.monotonic()
        if left_s <= 0:
            return
        left_s = max(left_s, _LOOK_AGAIN_S)


def _unscripted(problem: str) -> ScriptedCell:
    return ScriptedCell(
        outputs=(ErrorOutput(ename="Unscripted", evalue=problem, traceback=(f"Unscripted: {problem}",)),)
    )
