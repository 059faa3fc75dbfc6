"""Notebooks without a frontend: every cell is executed, and the result is on disk all the while.

What is decided here:
- What is wrong with notebook, parameters, kernel, model or paths is found before anything runs or is written.
- OUT is saved before the first cell, after each cell, and when the kernel asks for `metadata.lash_nb` to be set,
  before that is acknowledged: a run killed at any moment leaves the last of these. IN is never written.
- A cell that fails ends the run; tags `raises-exception` and `skip-execution` hold. SIGINT and SIGTERM interrupt the
  cell, wait for it, save; a second one does not wait. No process is left behind.
- The status, and with it the exit code (design §10), follows from the error that ended the run and from the outcome
  in the newest envelope. Which effects were refused is in the sessions' journals; where none can be read, nothing is
  said of it.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Unpack

from nbformat import NotebookNode

from . import errors
from .deciding import known_mode
from .errors import DecodeError, InputError, JournalError, KernelDiedError, NotebookError
from .following import read_session
from .headless import CellError, HeadlessKernel, kernel_for
from .kernels.settings import Managed, checked_settings
from .machine.activities import TURN_ACTIVITY
from .machine.activity import ApprovalDecided
from .machine.approvals import ApprovalMode
from .machine.llm import LlmUsage
from .machine.outcomes import TurnStopReason
from .machine.state import TurnCheckpoint
from .recorded import RecordedTurn
from .run_checks import check_directory, check_model, check_options, forget_the_last_run
from .run_results import CellReport, CellState, RefusedEffect, RunResult, RunStatus
from .stores.documents import Output, error_output, load_notebook, place_output, with_parameters
from .stores.envelopes import is_reference, open_checkpoint
from .stores.notebook import interrupted_turn, read_block
from .stores.summaries import TurnSummary, summarize

__all__ = [
    "CellReport",
    "CellState",
    "RefusedEffect",
    "RunOptions",
    "RunResult",
    "RunStatus",
    "run_notebook",
    "run_notebook_async",
]

STOP_GRACE_S = 20.0
"""How long an interrupted cell may take to end; a turn needs its own bounded waits inside this."""


OnProgress = Callable[[CellReport], None]


class RunOptions(Managed, total=False):
    """What a run can be told, all of it optional; `Managed` is about the agent's kernel."""

    parameters: Mapping[str, Any]
    """For the cell tagged `parameters`."""
    model: str | None
    record: str | Path | bool | None
    """A cassette to write; True: the notebook's own."""
    replay: Literal["loose", "strict"] | None
    """Play the notebook's own cassette."""
    approve: ApprovalMode | str | None
    """What is asked about first; nobody is there to answer: effects are refused, a cell leaves the run waiting."""
    cell_seconds: float | None
    """Seconds that a cell of the agent's may take; default: no bound."""
    kept: Literal["refresh", "frozen"] | None
    """`refresh` asks models anew for what cells have kept, `frozen` has no model asked at all (recorded answers may be
    played); default: kept code runs, and is repaired where it fails."""
    trust_kept: bool
    """Whether code runs that the notebook brings along, and that was not kept here."""
    on_progress: OnProgress | None
    kernel_name: str | None
    """Default: what the notebook says."""
    timeout: float | None
    """Seconds that a cell may take; default: no bound."""
    cwd: str | Path | None
    """The kernel's directory; default: the notebook's."""


def run_notebook(in_: str | Path, out: str | Path | None = None, **options: Unpack[RunOptions]) -> RunResult:
    """Execute a notebook into `out` (default: `IN.out.ipynb` beside it); a cell's failure is in the result.

    Works where an event loop is running, too (it waits in another thread); signals are heeded in the main thread only.

    Raises:
        InputError: something that was given cannot be used; nothing was run or written.
        KernelStartError: the notebook's kernel did not come up; nothing was written.
        NotebookError: `out` cannot be written any more.
    """
    run = _Run(in_, out, **options)
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run.play())
    with ThreadPoolExecutor(1, thread_name_prefix="lash-nb-run") as thread:
        return thread.submit(asyncio.run, run.play()).result()


async def run_notebook_async(
    in_: str | Path, out: str | Path | None = None, **options: Unpack[RunOptions]
) -> RunResult:
    """`run_notebook`, awaited. Cancelled, it interrupts the cell, saves, and is cancelled."""
    return await _Run(in_, out, **options).play()


# ------------------------------------------------------------------------------------------------ before it is run


def _label(cell: NotebookNode) -> str:
    """The first line; a cell magic is told apart by what it is given, so that comes with it."""
    first, *rest = cell.source.strip().split("\n")
    given = next((line.strip() for line in rest if line.strip()), "")
    return f"{first.strip()} {given}".strip() if first.startswith("%%") else first


def _has_tag(cell: NotebookNode, tag: str) -> bool:
    return tag in cell.metadata.get("tags", [])


def _refused_in(turn: RecordedTurn, *, name: str) -> Iterator[RefusedEffect]:
    """The effects that were refused because nobody was there; what code tries again and again is one."""
    known = set()
    for told in turn.told:
        if isinstance(told, dict) and told.get("type") == "approval_decided":
            activity = TURN_ACTIVITY.decode(told)
            assert isinstance(activity, ApprovalDecided)
            wish, decision = activity.approval.wish, activity.decision
            if wish is not None and decision.by_policy and not decision.allows and wish not in known:
                known.add(wish)
                yield RefusedEffect(turn=name, wish=wish)


# ---------------------------------------------------------------------------------------------------- while it runs


class _Run:
    """One run: everything that can be known beforehand is checked when it is made."""

    def __init__(
        self,
        in_: str | Path,
        out: str | Path | None,
        *,
        parameters: Mapping[str, Any] | None = None,
        model: str | None = None,
        record: str | Path | bool | None = None,
        replay: Literal["loose", "strict"] | None = None,
        approve: ApprovalMode | str | None = None,
        cell_seconds: float | None = None,
        kept: Literal["refresh", "frozen"] | None = None,
        trust_kept: bool = False,
        on_progress: OnProgress | None = None,
        kernel_name: str | None = None,
        timeout: float | None = None,
        cwd: str | Path | None = None,
        **managed: Unpack[Managed],
    ) -> None:
        path = Path(in_)
        self._notebook = load_notebook(path)
        self._output = Output(place_output(path, Path(out) if out is not None else None))
        self._home = path.resolve().parent
        with_parameters(self._notebook, parameters or {})
        self._kernel_name = kernel_for(self._notebook, named=kernel_name, path=path)
        if model is not None:
            check_model(model, self._home, replay)
        check_options(record, replay, cell_seconds, kept)
        self._cwd = check_directory(cwd) if cwd is not None else self._home
        kernel = checked_settings(managed, self._cwd)
        self._output.probe()
        cassette = self._home / f"{path.stem}.cassette.jsonl" if record is True else record
        told = {"approve": approve and str(known_mode(approve)), "kernel": kernel, "cell_seconds": cell_seconds}
        told |= {"kept": kept, "trust_kept": trust_kept}
        self._options = {
            "model": model,
            "record": str(Path(cassette).resolve()) if cassette else None,
            "replay": replay,
            **{name: value for name, value in told.items() if value},
            "notebook": str(path.resolve()),
            "headless": True,
            "state_dir": os.environ.get("LASH_NB_STATE_DIR") or str(self._output.path.with_suffix(".lash")),
        }
        forget_the_last_run(self._notebook)
        self._tell, self._timeout = on_progress or (lambda report: None), timeout
        self._signals, self._stop = 0, asyncio.Event()
        self._cells: list[CellReport] = []
        self._turns: dict[tuple[str, int], TurnSummary] = {}
        self._opened: dict[str, TurnCheckpoint] = {}

    async def play(self) -> RunResult:
        """The run itself."""
        kernel = HeadlessKernel(self._notebook, output=self._output, name=self._kernel_name)
        with self._heeding_signals():
            try:
                await kernel.start(cwd=self._cwd, options=self._options)
                self._output.save(self._notebook)
                status, error = await self._execute(kernel)
            finally:
                await asyncio.shield(kernel.shut_down(now=self._signals > 1))
        kernel.keep_widgets()
        self._output.save(self._notebook)
        turns = tuple(self._turns.values())
        usage = sum((turn.usage for turn in turns), LlmUsage())
        interrupted = interrupted_turn(self._notebook.metadata)
        return RunResult(
            status=status,
            error=error,
            out=self._output.path,
            cells=tuple(self._cells),
            turns=turns,
            usage=usage,
            interrupted=None if interrupted is None else interrupted[1],
            refused=tuple(self._refused()),
        )

    async def _execute(self, kernel: HeadlessKernel) -> tuple[RunStatus, str]:
        """All cells in order, up to the first that fails."""
        cells = [(i, c) for i, c in enumerate(self._notebook.cells) if c.cell_type == "code" and c.source.strip()]
        for number, (index, cell) in enumerate(cells, 1):
            report = CellReport(number=number, total=len(cells), label=_label(cell), state=CellState.RUNNING)
            if _has_tag(cell, "skip-execution"):
                self._report(replace(report, state=CellState.SKIPPED))
                continue
            if self._signals:
                return RunStatus.STOPPED, f"stopped before cell {number} of {len(cells)}"
            self._tell(report)
            try:
                known, told = self._steps(), len(self._turns)
                status, error = await self._cell(kernel, cell, index)
            finally:
                self._output.save(self._notebook)
                self._read_turns()
            state = _CELL_STATES.get(status, CellState.FAILED)
            if state is CellState.DONE and any(output.output_type == "error" for output in cell.outputs):
                state = CellState.FAILED_AS_TAGGED
            kept = ", ".join(dict.fromkeys(turn.kept for turn in list(self._turns.values())[told:] if turn.kept))
            self._report(replace(report, state=state, steps=self._steps() - known, kept=kept, error=error))
            if status is not RunStatus.DONE:
                return status, f"cell {number} of {len(cells)}: {error}"
        return RunStatus.DONE, ""

    def _report(self, report: CellReport) -> None:
        self._cells.append(report)
        self._tell(report)

    async def _cell(self, kernel: HeadlessKernel, cell: NotebookNode, index: int) -> tuple[RunStatus, str]:
        task = asyncio.ensure_future(kernel.execute(cell, index=index))
        try:
            await self._ended(task, self._timeout)
            if not task.done():
                await self._interrupt(kernel, task)
                stopped = self._signals > 0
                bound = f"it did not end within {self._timeout} s"
                return (RunStatus.STOPPED, "stopped") if stopped else (RunStatus.BOUND, bound)
        except asyncio.CancelledError:
            await asyncio.shield(self._interrupt(kernel, task))
            raise
        match task.exception():
            case None:
                return RunStatus.DONE, ""
            case CellError() as error:
                return self._blame(error, cell)
            case KernelDiedError() as error:
                # Nothing of the cell would be seen else: neither that it began nor why it has no outputs.
                cell.outputs.append(error_output(error))
                return RunStatus.FAILED, str(error)
            case error:
                raise error

    async def _ended(self, task: asyncio.Future[Any], timeout_s: float | None) -> None:
        """Waits until the cell has ended, a signal came, or time is up."""
        self._stop.clear()
        signalled = asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait({task, signalled}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        finally:
            signalled.cancel()

    async def _interrupt(self, kernel: HeadlessKernel, task: asyncio.Future[Any]) -> None:
        await kernel.interrupt()
        await self._ended(task, STOP_GRACE_S)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            task.exception()  # read, so that asyncio does not report it as lost

    def _blame(self, error: CellError, cell: NotebookNode) -> tuple[RunStatus, str]:
        """Whose fault it was. What lash_nb raises on purpose is a sentence already; of the rest, the first line."""
        if error.name not in _ERRORS or "lash" not in cell.source:
            return RunStatus.FAILED, f"{error.name}: {error.message}".strip().partition("\n")[0]
        if issubclass(_ERRORS[error.name], InputError):
            return RunStatus.BAD_INPUT, error.message
        if error.name == errors.ApprovalNeeded.__name__:
            return RunStatus.WAITING, f"{error.message}, in a terminal `lash-nb resume {self._output.path}`"
        self._read_turns()
        stop = next((turn.stop for turn in reversed(self._turns.values())), None)
        failed_turn = error.name == errors.TurnFailed.__name__ and isinstance(stop, TurnStopReason)
        return _STOPS.get(stop, RunStatus.FAILED) if failed_turn else RunStatus.FAILED, error.message

    def _steps(self) -> int:
        return sum(turn.steps for turn in self._turns.values())

    def _read_turns(self) -> None:
        """Learn what the block says; one that is broken is the kernel's affair."""
        try:
            block = read_block(self._notebook.metadata)
            before = None
            for place, envelope in block.placed() if block else ():
                key = (envelope["session"], envelope["turn"])
                known = self._opened.get(envelope["sha256"])
                if known is None and is_reference(envelope):  # it was folded before anybody could look at it
                    continue
                checkpoint = known or open_checkpoint(envelope, place=place)
                self._opened[envelope["sha256"]] = checkpoint
                summary = summarize(checkpoint, session=key[0], turn=key[1], before=before)
                kept = min(summary.steps, envelope.get("kept_steps", 0))
                about = {"dollars": envelope.get("dollars"), "kept_steps": kept}
                self._turns[key] = replace(summary, steps=summary.steps - kept, **about)
                before = checkpoint
        except NotebookError:
            pass

    def _refused(self) -> Iterator[RefusedEffect]:
        """What the turns' code was not allowed to do; told by their records alone, and not by what they carry."""
        for session in dict.fromkeys(session for session, _ in self._turns):
            # Another machine may have the journal, or it is damaged, which is told to whoever goes on with it.
            with suppress(JournalError, DecodeError):
                recorded = read_session(Path(str(self._options["state_dir"])), session)
                for turn in (*recorded.turns, *([recorded.running] if recorded.running is not None else [])):
                    if (session, turn.number) in self._turns:
                        yield from _refused_in(turn, name=f"{session}.{turn.number}")

    @contextmanager
    def _heeding_signals(self) -> Iterator[None]:
        loop, heeded = asyncio.get_running_loop(), []
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            try:
                loop.add_signal_handler(number, self._on_signal)
            except (RuntimeError, ValueError):  # not the main thread
                continue
            heeded.append(number)
        try:
            yield
        finally:
            for number in heeded:
                loop.remove_signal_handler(number)

    def _on_signal(self) -> None:
        self._signals += 1
        self._stop.set()


_CELL_STATES = {
    RunStatus.DONE: CellState.DONE,
    RunStatus.STOPPED: CellState.STOPPED,
    RunStatus.WAITING: CellState.WAITING,
}
_ERRORS: Mapping[str, type[BaseException]] = {
    **{name: getattr(errors, name) for name in errors.__all__},
    "UsageError": InputError,  # how IPython says that a magic was used wrongly
}
_STOPS: Mapping[object, RunStatus] = {
    TurnStopReason.MAX_TURNS: RunStatus.BOUND,
    TurnStopReason.INCOMPLETE: RunStatus.BOUND,
    TurnStopReason.CANCELLED: RunStatus.STOPPED,
}
