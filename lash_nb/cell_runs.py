"""How a turn's cells are run: which kernel, under which key, with which tools, and what is said when a kernel is gone.

Decided here: the language of an `ExecCode` picks the kernel; that of another language is started when it is first
needed. A kernel that died is replaced at once, and the model is told what it held. A cell that an earlier host had
begun is not run again: the kernel's own record answers, and when that kernel is gone, the cell is lost. The tools of
the session can be called from a cell; all calls of one cell share one bound. When a call cannot be recorded, the cell
is stopped before it learns anything, and the turn ends by that. Nothing here swallows a cancellation: a kernel that is
cancelled interrupts its cell and waits for it by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

from .approving import Approvals, called_by, edited_text, rejected_text
from .cell_tools import CellToolbox, within
from .errors import JournalError, KernelBusyError, KernelDiedError, KernelError, LashError, UnknownNameError
from .kernels import CellGuard, Kernel, OutputSink
from .languages import is_sandboxed
from .machine.activity import VariablesShared
from .machine.approvals import ApprovalMode, Decision, Wish
from .machine.effects import ExecCode, ExecResult
from .machine.events import (
    CellOutputs,
    CodeBlockCompleted,
    CodeBlockStarted,
    PluginEvent,
    StatusRuntimeEvent,
)
from .machine.execution import CellOutcome, CellOutput, CellResult, NamespaceSummary
from .machine.shared_words import told_of_shared
from .ports import Resumed, TurnPorts
from .protocols.namespace import lost_names
from .protocols.observations import exec_response
from .protocols.tool_events import tool_call_events
from .sharing import Sharing, TakesValues
from .tool_runs import ToolRuns
from .views.pieces import cut

__all__ = ["CellRuns"]

_WHY_CHARS = 300
_RECOVERED = "The cell had been begun before this process took over; it was not run again."
_UNKNOWN = "Whether this cell ran is not known: the host ended while it was outstanding, and its kernel is gone."


class CellRuns:
    """Runs the cells of one turn.

    `tell` takes what the user and the model must know of a kernel, `note` what the model must know with its next step.
    """

    def __init__(
        self,
        ports: TurnPorts,
        *,
        tools: ToolRuns,
        tell: Callable[[str], None],
        note: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._ports, self._note = ports, note
        self._tool_runs = tools
        self._tell = tell
        self.approvals = Approvals(ports)
        self._toolbox = CellToolbox(ports, runs=tools, approvals=self.approvals, stop=self._stop_running)
        self.others: list[Kernel] = []
        """The kernels of other languages that this turn has used."""
        self._running: asyncio.Task[CellResult] | None = None
        self._failure: Exception | None = None
        """Why the running cell was stopped by us."""

    async def run(self, effect: ExecCode, *, known: NamespaceSummary) -> ExecResult:
        """The response to one ExecCode; `known` is what the main kernel held when it was last looked at."""
        return await self.run_decided(effect, await self.decide(effect), known=known)

    async def decide(self, effect: ExecCode) -> Decision:
        """Whether a cell may run. Raises ApprovalNeeded, JournalError."""
        guarded = self._guards(effect.language)
        if self.approvals.asks_cells(guarded=guarded):
            await self._note_kernel(effect.language)
            # Whoever goes on with a turn that is left waiting has not these variables.
            await self.share_used(effect)
        return await self.approvals.cell(effect, guarded=guarded)

    async def run_decided(self, effect: ExecCode, decision: Decision, *, known: NamespaceSummary) -> ExecResult:
        """The response to a cell on which somebody has decided."""
        ports, call_id = self._ports, called_by(effect)
        asked, effect = effect, replace(effect, code=decision.code) if decision.code is not None else effect
        shown_code = ports.redactor.text(effect.code) if asked is not effect else effect.code
        begun = CodeBlockStarted(effect_id=effect.id, call_id=call_id, language=effect.language, code=shown_code)
        ports.on_activity(begun)
        started = time.monotonic()
        shown: tuple[CellOutput, ...] = ()

        def on_output(outputs: tuple[CellOutput, ...]) -> None:
            nonlocal shown
            shown = ports.redactor.outputs(outputs, go_on=True)
            ports.on_activity(CellOutputs(effect_id=effect.id, call_id=call_id, outputs=shown))

        try:
            if decision.allows:
                await self.share_used(effect)
                result = await self._run_in(self._kernel(effect.language), effect, on_output, known)
            else:
                result = _not_run(rejected_text(decision))
        except (asyncio.CancelledError, JournalError):
            self._completed(effect, CellResult(outcome=CellOutcome.INTERRUPTED, outputs=shown), started)
            raise
        except UnknownNameError as error:
            lost = self._outstanding(effect) and self._epoch_before(effect.language) is not None
            result = _lost() if lost else _not_run(f"The cell was not run: {error}")
        result = ports.redactor.result(result)
        if result.recovered:  # the reader's business alone: for the model it is as if nothing had happened
            event = StatusRuntimeEvent(key="kernel", label=_RECOVERED)
            ports.on_activity(PluginEvent(plugin_id="kernel", event=event))
        # Why it was rejected is said by the decision.
        self._completed(effect, result if decision.allows else replace(result, detail=""), started)
        if call_id:  # of an effect of its own the protocol tells them
            for called in tool_call_events(within(result.tool_calls, call_id)):
                ports.on_activity(called)
        response = exec_response(
            result,
            first="" if asked is effect else edited_text(shown_code),
            ran=None if asked is effect else shown_code,
            attachments=ports.store,
            tool_calls=result.tool_calls,
            budget=ports.protocol.budget,
            vision=ports.protocol.vision,
        )
        return ExecResult(id=effect.id, result=response)

    # -- the kernel ----------------------------------------------------------------------------------------------------

    def _kernel(self, language: str) -> Kernel:
        if language.casefold() == self._ports.kernel.language.casefold():
            return self._ports.kernel
        kernel = self._ports.kernels(language)
        if kernel not in self.others:
            self.others.append(kernel)
        return kernel

    async def _note_kernel(self, language: str) -> None:
        """A turn may be left while its cell waits: whoever goes on with it takes over the kernel as it is then."""
        try:
            kernel = self._kernel(language)
        except UnknownNameError:
            return  # the cell says so
        if kernel.alive:
            await self._ports.log.uses(kernel)

    async def _run_in(
        self, kernel: Kernel, effect: ExecCode, on_output: OutputSink, known: NamespaceSummary
    ) -> CellResult:
        lost = lost_names(known) if kernel is self._ports.kernel else "What earlier cells defined in it is gone."
        try:
            if self._is_lost(kernel, effect):
                return _lost()
            if kernel is not self._ports.kernel:  # that one was looked after by the sync
                await self._ensure(kernel, effect.language, lost)
            await self._ports.log.uses(kernel)
            result = await self._run_alive(kernel, effect, on_output)
        except KernelBusyError as error:
            # Whoever stopped that cell wanted its end, and nothing else ends it.
            return _not_run(f"The cell was not run: {error}. {await _replaced(kernel, lost)}")
        except KernelDiedError as error:
            result = _not_run(f"The cell was not run: {error}")
        except KernelError as error:
            return _not_run(f"The cell was not run: {error}")
        if not kernel.alive:
            result = replace(result, detail=f"{result.detail} {await _replaced(kernel, lost)}".strip())
        return result

    def _outstanding(self, effect: ExecCode) -> bool:
        """Whether an earlier host may have given this cell to a kernel."""
        resumed, call_id = self._ports.resumed, called_by(effect)
        if resumed is None or resumed.effect_id != effect.id:
            return False
        return resumed.may_have_begun(effect.id, call_id) if call_id else resumed.begun

    def _is_lost(self, kernel: Kernel, effect: ExecCode) -> bool:
        """Whether that kernel was another life than this one. Without any, the cell cannot have run."""
        epoch = self._epoch_before(kernel.language)
        gone = epoch != kernel.epoch or not kernel.alive
        return self._outstanding(effect) and epoch is not None and gone

    def _epoch_before(self, language: str) -> str | None:
        """The kernel that an earlier host gave cells of that language to."""
        epochs, folded = (self._ports.resumed or Resumed()).epochs, language.casefold()
        return next((epoch for name, epoch in epochs.items() if name.casefold() == folded), None)

    async def _ensure(self, kernel: Kernel, language: str, lost: str) -> None:
        if kernel.alive:
            return
        began = bool(kernel.epoch)
        await (kernel.restart() if began else kernel.start())
        if began:
            self._tell(f"The process of the {language} kernel had ended; a new one was started. {lost}")

    async def _run_alive(self, kernel: Kernel, effect: ExecCode, on_output: OutputSink) -> CellResult:
        ports = self._ports
        key = f"{kernel.epoch}:{ports.session_id}:{ports.context.turn}:{effect.id}"
        key = f"{key}:{called_by(effect)}" if called_by(effect) else key
        started = self._outstanding(effect) and self._epoch_before(kernel.language) is not None
        with self._toolbox.offered(effect) as tools:
            self._running = asyncio.ensure_future(
                kernel.run(
                    key,
                    effect.code,
                    on_output=on_output,
                    tools=tools,
                    guard=self._guard(kernel, effect),
                    timeout_s=ports.cell_limit_s,
                    started=started,
                )
            )
            try:
                result = await self._running
            except asyncio.CancelledError:
                task = asyncio.current_task()
                failure = self._tool_runs.unrecorded or self._failure
                if failure is None or (task is not None and task.cancelling()):
                    raise
                raise failure from None  # the cell was stopped by us
        if (failure := self._tool_runs.unrecorded or self._failure) is not None:
            raise failure
        return result

    def _completed(self, effect: ExecCode, result: CellResult, started: float) -> None:
        self._ports.on_activity(
            CodeBlockCompleted(
                effect_id=effect.id,
                call_id=called_by(effect),
                outcome=result.outcome,
                outputs=result.outputs,
                duration_ms=round((time.monotonic() - started) * 1000),
                detail=result.detail,
            )
        )

    # -- the notebook's variables --------------------------------------------------------------------------------------

    async def share(self, values: Mapping[str, Any]) -> None:
        """Send values to the main kernel. Raises KernelError."""
        kernel, sharing = self._ports.kernel, self._ports.sharing or Sharing({})
        if isinstance(kernel, TakesValues):
            self._shared(await sharing.push(values, kernel))

    async def share_used(self, effect: ExecCode) -> None:
        """Before a cell runs, what it uses goes over; one that may have begun had it already."""
        kernel, sharing = self._ports.kernel, self._ports.sharing
        if sharing is None or self._outstanding(effect) or effect.language.casefold() != kernel.language.casefold():
            return
        if not (isinstance(kernel, TakesValues) and kernel.alive):
            return
        try:
            self._shared(await sharing.for_cell(effect.code, kernel, afresh=self._ports.afresh))
        except KernelDiedError:
            pass  # the cell says so
        except KernelError as error:
            self._tell(f"Nothing could be copied from the user's notebook: {self._why(str(error))}")
        except Exception as error:  # what a class of the user's does when it is looked at
            self._note(f"Nothing could be copied from the user's notebook: {type(error).__name__}")

    def _shared(self, shared: VariablesShared | None) -> None:
        if shared is None:
            return
        refused = tuple(replace(one, why=self._why(one.why)) for one in shared.refused)
        shared = replace(shared, refused=refused)
        self._ports.on_activity(shared)
        told = told_of_shared(shared)
        if told:
            self._note(told)

    def _why(self, text: str) -> str:
        """Why a variable cannot go, in one line; what its class says of it may be a value."""
        if self._ports.previews == "schema":
            text = text.partition(":")[0]
        return cut(" ".join(self._ports.redactor.text(text).split()), head_chars=_WHY_CHARS, tail_chars=0)

    # -- approval ------------------------------------------------------------------------------------------------------

    def _guards(self, language: str) -> bool:
        """Whether the kernel of a language asks by itself what its cells may do, where that is wanted, or need not."""
        if self._ports.approve is not ApprovalMode.EFFECTS:
            return False
        try:
            kernel = self._kernel(language)
            return is_sandboxed(kernel) or kernel.language.casefold().startswith("python")
        except UnknownNameError:
            return True  # the cell cannot run, and nobody need be asked

    def _guard(self, kernel: Kernel, effect: ExecCode) -> CellGuard | None:
        if self._ports.approve is not ApprovalMode.EFFECTS and not self._outstanding(effect):
            return None  # but a cell that an earlier host ran may wait with a question
        if is_sandboxed(kernel):
            return None
        return CellGuard(on_effect=partial(self._effect, effect))

    async def _effect(self, effect: ExecCode, wish: Wish) -> Decision:
        try:
            return await self.approvals.effect(effect, wish)
        except Exception as error:
            # It cannot be recorded, or whoever is asked failed: the turn's end, of which the code must learn nothing.
            self._failure = error
            await self._stop_running()
            raise

    async def _stop_running(self) -> None:
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait({self._running})


async def _replaced(kernel: Kernel, lost: str) -> str:
    """A new process in place of the dead one, and the sentence that says so."""
    try:
        await kernel.restart()
    except LashError as error:
        return f"No new kernel could be started: {error}"
    return f"A new kernel was started; it is empty. {lost}"


def _lost() -> CellResult:
    return CellResult(outcome=CellOutcome.LOST, detail=f"{_UNKNOWN} It was not run again.")


def _not_run(detail: str) -> CellResult:
    return CellResult(outcome=CellOutcome.ABORTED, detail=detail)
