"""A kernel that plays a script instead of running code: the public double, held to the same contract as the real one.

Decided here: what a script can say. Nothing runs: a script maps code to `ScriptedCell`s, by a function, a mapping, or a
sequence played in order. Slow cells, interrupts, hangs, death and variables are all there, on any event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count

from ..errors import KernelBusyError, KernelDiedError
from ..machine.execution import (
    CellOutcome,
    CellOutput,
    CellResult,
    ErrorOutput,
    FinishValue,
    NamespaceSummary,
    VariableSummary,
)
from . import OutputSink
from .flags import Flag, Turnstile

__all__ = ["Script", "ScriptedCell", "ScriptedKernel"]

_DIED = "The kernel's process was killed by signal 9 (SIGKILL) while the cell ran; its variables are gone."
_KILLED = "The kernel was {} while the cell ran; its variables are gone."


@dataclass(frozen=True, slots=True, kw_only=True)
class ScriptedCell:
    """What one cell does: after `takes_s` its outputs are there, its names bound, and it ends as its fields say."""

    outputs: tuple[CellOutput, ...] = ()
    """An `ErrorOutput` among them makes the cell fail."""
    finish: FinishValue | None = None
    takes_s: float = 0.0
    """How long it runs after its first output (if any) was shown; it can be interrupted all the while."""
    ignores_interrupt: bool = False
    dies: bool = False
    """The process is killed when its time is over."""
    binds: tuple[VariableSummary, ...] = ()
    deletes: tuple[str, ...] = ()


Script = Callable[[str], ScriptedCell] | Mapping[str, ScriptedCell] | Iterable[ScriptedCell]


class _Running:
    """The cell that runs now."""

    def __init__(self, cell: ScriptedCell) -> None:
        self.cell = cell
        self.stopped = Flag()
        """It is to end before its time: interrupted, or its kernel killed."""
        self.ended = Flag()
        self.death = ""


class ScriptedKernel:
    """Plays `script`; without one, every cell ends well with no output.

    A mapping that lacks the code, or a sequence that is used up, answers with an error output that says so.
    """

    language = "python"

    def __init__(self, script: Script | None = None, *, interrupt_timeout_s: float = 0.5) -> None:
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
        self, key: str, code: str, *, on_output: OutputSink | None = None, timeout_s: float | None = None
    ) -> CellResult:
        self._require_life()
        if self._stuck:
            raise KernelBusyError("an earlier cell did not react to its interrupt and still runs")
        async with self._turnstile.alone():
            self._require_life()
            self.ran.append((key, code))
            running = self._running = _Running(self._cell(code))
            try:
                return await self._play(running, on_output, timeout_s)
            except asyncio.CancelledError:
                self._stuck = running.cell.ignores_interrupt
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

    async def _play(self, running: _Running, on_output: OutputSink | None, timeout_s: float | None) -> CellResult:
        cell = running.cell
        self._executions += 1
        loop = asyncio.get_running_loop()
        begun = loop.time()
        if on_output is not None and cell.outputs:
            on_output(cell.outputs[:1])
        limit = cell.takes_s if timeout_s is None else min(cell.takes_s, timeout_s)
        stopped = running.stopped.is_set() or (limit > 0 and await running.stopped.wait(limit))
        timed_out_s = timeout_s if not stopped and limit < cell.takes_s else None
        self._stuck = timed_out_s is not None and cell.ignores_interrupt
        result = self._result(running, stopped=stopped, timed_out_s=timed_out_s)
        result = replace(result, execution_count=self._executions, duration_s=loop.time() - begun)
        if on_output is not None:
            on_output(result.outputs)
        return result

    def _result(self, running: _Running, *, stopped: bool, timed_out_s: float | None) -> CellResult:
        cell, cut = running.cell, stopped or timed_out_s is not None
        if running.death or (cell.dies and not cut):
            self._alive = False
            return CellResult(outcome=CellOutcome.DEAD, outputs=cell.outputs[:1], detail=running.death or _DIED)
        if cut:
            return self._interrupted(cell, timed_out_s)
        for name in cell.deletes:
            self._variables.pop(name, None)
        self._variables |= {variable.name: variable for variable in cell.binds}
        errors = [output for output in cell.outputs if isinstance(output, ErrorOutput)]
        if errors:
            return CellResult(outcome=CellOutcome.ERROR, outputs=cell.outputs, error=errors[-1])
        return CellResult(outcome=CellOutcome.OK, outputs=cell.outputs, finish=cell.finish)

    def _interrupted(self, cell: ScriptedCell, timed_out_s: float | None) -> CellResult:
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
        return CellResult(outcome=outcome, outputs=(*cell.outputs[:1], error), error=error, detail=detail)

    async def interrupt(self) -> bool:
        running = self._running
        if running is None:
            return not self._stuck
        if not running.cell.ignores_interrupt:
            running.stopped.set()
        return await running.ended.wait(self._interrupt_timeout_s)

    async def namespace(self, *, limit: int = 200) -> NamespaceSummary:
        self._require_life()
        names = sorted(self._variables)[:limit]
        shown = tuple(
            replace(self._variables[name], changed=self._known.get(name) != self._variables[name]) for name in names
        )
        removed = tuple(sorted(self._known.keys() - self._variables.keys()))
        self._known = dict(self._variables)
        return NamespaceSummary(variables=shown, omitted=len(self._variables) - len(names), removed=removed)

    def take_background(self) -> tuple[CellOutput, ...]:
        return ()


def _unscripted(problem: str) -> ScriptedCell:
    return ScriptedCell(
        outputs=(ErrorOutput(ename="Unscripted", evalue=problem, traceback=(f"Unscripted: {problem}",)),)
    )
