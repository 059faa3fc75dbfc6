"""The managed kernel: a Python process of our own, where the agent's code runs.

Decided here: the life of a kernel (start, run, interrupt, restart, shutdown) and what each does when the process
dies, hangs or is left. How it is launched is `process`'s matter, how it is talked to that of `channels` and
`wires`, what runs inside it that of `inside`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ..errors import KernelBusyError, KernelDiedError, KernelError, KernelStartError
from ..machine.attachments import AttachmentStore
from ..machine.execution import CellOutput, CellResult, NamespaceSummary, VariableSummary
from . import OutputSink
from .cells import Cell
from .channels import open_wire
from .environment import kernel_environment
from .flags import Turnstile
from .inside import REQUIRED, bootstrap
from .outputs import OutputFold, OutputLimits
from .process import KernelProcess
from .wires import Wire

__all__ = ["ManagedKernel"]

_OLDEST_IPYKERNEL = (7, 4)
_ASK_AGAIN_S = 0.5
_CANCELLED_WAIT_S = 0.8
"""How long a cancelled caller is kept waiting for its cell to end (design: Stop within a second)."""
_FLAGS = (
    "--HistoryManager.enabled=False",  # no file of the user's, and 2 ms a cell less
    "--IPythonKernel._execute_sleep=0",
)


class _Life:
    """One process and its wire; whoever holds it can end it."""

    def __init__(self, process: KernelProcess, wire: Wire) -> None:
        self.process = process
        self.wire = wire
        self.epoch = uuid.uuid4().hex

    @property
    def alive(self) -> bool:
        mine = self.process.owner_pid == os.getpid()
        return mine and not self.wire.dead.is_set() and not self.process.exited()

    async def close(self, sentence: str) -> None:
        """Kill it and leave nothing; `sentence` is what a running cell is told."""
        self.wire.expected_end = self.wire.expected_end or sentence
        try:
            self.process.kill()
            await self.wire.dead.wait(5.0)
        finally:  # when cancelled too: the thread goes on without us
            await self.wire.close(then=self.process.close).wait(5.0)

    @staticmethod
    def reap(life: _Life) -> None:
        """For a kernel that was forgotten, or at the interpreter's exit: no loop to wait on."""
        if life.process.owner_pid == os.getpid():
            life.process.kill()
            closed = life.wire.close(then=life.process.close)  # its descriptors are being polled until then
            if not life.wire.on_its_thread():  # a garbage collection may run anywhere
                closed.block(5.0)


class ManagedKernel:
    """A Python kernel in a process of its own (see `Kernel` for the contract).

    `env` is taken as it is; None means the host's environment without what looks like a secret, `pass_env` names the
    exceptions. `store` keeps what is too long or too big to keep inline. `on_input` answers `input()` (called on a
    thread, may block); without it `input()` raises in the cell.
    """

    language = "python"

    def __init__(
        self,
        *,
        python: str | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        pass_env: Iterable[str] = (),
        store: AttachmentStore | None = None,
        limits: OutputLimits | None = None,
        on_input: Callable[[str], str] | None = None,
        start_timeout_s: float = 60.0,
        interrupt_timeout_s: float = 5.0,
        shutdown_timeout_s: float = 1.5,
        namespace_timeout_s: float = 2.0,
    ) -> None:
        self._python = python or sys.executable
        self._cwd = str(Path(cwd)) if cwd is not None else None
        self._env = env
        self._pass_env = tuple(pass_env)
        self._store = store
        self._limits = limits
        self._on_input = on_input
        self._start_timeout_s = start_timeout_s
        self._interrupt_timeout_s = interrupt_timeout_s
        self._shutdown_timeout_s = shutdown_timeout_s
        self._namespace_timeout_s = namespace_timeout_s
        self._life: _Life | None = None
        self._finalizer: weakref.finalize[..., ManagedKernel] | None = None
        self._turnstile = Turnstile()
        self.missing_features: tuple[str, ...] = ()
        """What of `inside` could not be installed in this kernel; it works without."""

    @property
    def epoch(self) -> str:
        return self._life.epoch if self._life is not None else ""

    @property
    def alive(self) -> bool:
        return self._life is not None and self._life.alive

    @property
    def pid(self) -> int | None:
        """The process id of this life, if there is one."""
        return self._life.process.pid if self._life is not None else None

    # -- start and end ---------------------------------------------------------------------------------------------

    async def start(self) -> None:
        async with self._turnstile.alone():
            if not self.alive:
                await self._drop("The kernel was started again.")
                await self._launch()

    async def restart(self) -> None:
        async with self._turnstile.alone():
            await self._drop("The kernel was restarted while the cell ran; its variables are gone.")
            await self._launch()

    async def shutdown(self) -> None:
        async with self._turnstile.alone():
            life = self._life
            if life is not None and life.alive and life.wire.current is None:
                life.wire.request("control", "shutdown_request", {"restart": False})
                await life.wire.dead.wait(self._shutdown_timeout_s)
            await self._drop("The kernel was shut down while the cell ran; its variables are gone.")

    async def _drop(self, sentence: str) -> None:
        life, self._life = self._life, None
        if life is None:
            return
        try:
            await life.close(sentence)
        finally:
            if self._finalizer is not None:
                self._finalizer.detach()

    async def _launch(self) -> None:
        env = kernel_environment(
            os.environ if self._env is None else self._env,
            pass_env=self._pass_env,
            parent_pid=os.getpid(),
            scrub=self._env is None,
        )
        argv = [self._python, "-m", "ipykernel_launcher", "-f", "{connection_file}", *_FLAGS]
        process = KernelProcess(argv=argv, cwd=self._cwd, env=env)
        life = _Life(process, open_wire(process, on_input=self._on_input))
        self._finalizer = weakref.finalize(self, _Life.reap, life)
        try:
            async with asyncio.timeout(self._start_timeout_s):
                await self._greet(life)
                await self._bootstrap(life)
        except TimeoutError as error:
            problem = f"the kernel did not come up within {self._start_timeout_s:g} s"
            await self._fail(life, problem, error)
        except (KernelStartError, KernelDiedError) as error:
            await self._fail(life, str(error), error)
        except BaseException:
            self._finalizer.detach()
            _Life.reap(life)
            raise
        self._life = life

    async def _fail(self, life: _Life, problem: str, cause: BaseException) -> None:
        log = life.wire.log_tail()
        await life.close("The kernel did not come up.")
        if self._finalizer is not None:
            self._finalizer.detach()
        last = log.splitlines()[-1] if log else ""
        raise KernelStartError(f"{problem}{': ' + last if last else ''} ({self._python})") from cause

    async def _greet(self, life: _Life) -> None:
        """Wait until our subscription is in force: its welcome, else whatever our own questions make it say."""
        wire = life.wire
        while not await wire.greeted.wait(_ASK_AGAIN_S):
            if wire.dead.is_set():
                raise KernelDiedError(f"the kernel's process {wire.ending} before it was ready")
            wire.request("shell", "kernel_info_request", {})

    async def _bootstrap(self, life: _Life) -> None:
        cell = self._cell(life, bootstrap(options={"parent": os.getpid()}), OutputFold(), silent=True)
        life.wire.submit(cell)
        await cell.ended.wait()
        report = next((p.get("report") for p in cell.payloads() if p.get("source") == "LashBoot"), None)
        if not isinstance(report, Mapping):
            result = cell.result()
            told = result.detail or (f"{result.error.ename}: {result.error.evalue}" if result.error else "no report")
            raise KernelStartError(f"the kernel could not be set up: {told}")
        version = str(report["ipykernel"])
        if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_IPYKERNEL:
            raise KernelStartError(f"the kernel has ipykernel {version}; 7.4 or newer is needed")
        failed = dict(report["failed"])
        if REQUIRED & failed.keys():
            raise KernelStartError(f"the kernel could not be set up: {json.dumps(failed)}")
        self.missing_features = tuple(sorted(failed))

    # -- cells -----------------------------------------------------------------------------------------------------

    async def run(
        self, key: str, code: str, *, on_output: OutputSink | None = None, timeout_s: float | None = None
    ) -> CellResult:
        life = self._require_life()
        current = life.wire.current
        if current is not None and current.abandoned and not current.ended.is_set():
            raise KernelBusyError("an earlier cell did not react to its interrupt and still runs")
        fold = OutputFold(limits=self._limits, store=self._store)
        cell = self._cell(life, code, fold, key=key, on_output=on_output)
        life.wire.submit(cell)
        timed_out = False
        try:
            await self._until_sent(cell)
            if not await cell.ended.wait(timeout_s):
                timed_out = True
                await self._stop(life, cell)
        except asyncio.CancelledError:
            await self._stop_shielded(life, cell)
            raise
        if cell.withdrawn and cell.death:
            raise KernelDiedError(cell.death)
        result = cell.result(timed_out_s=timeout_s if timed_out else None)
        cell.emit_final(result.outputs)
        return result

    async def _until_sent(self, cell: Cell) -> None:
        """While it is queued no time counts; a cell that ends in the queue was never sent."""
        waits = [asyncio.ensure_future(flag.wait()) for flag in (cell.sent, cell.ended)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def interrupt(self) -> bool:
        life = self._life
        cell = life.wire.current if life is not None else None
        if life is None or cell is None:
            return True
        return await self._stop(life, cell)

    async def _stop(self, life: _Life, cell: Cell, *, within_s: float | None = None) -> bool:
        """The ladder: SIGINT, then again for a cell that swallowed it; True when the cell ended in time."""
        bound_s = self._interrupt_timeout_s if within_s is None else min(within_s, self._interrupt_timeout_s)
        first_s = min(1.0, bound_s / 2)
        life.wire.stop(cell, insist=False)
        ended = await cell.ended.wait(first_s)
        if not ended:
            life.wire.stop(cell, insist=True)
            ended = await cell.ended.wait(bound_s - first_s)
        cell.abandoned = not ended
        return ended

    async def _stop_shielded(self, life: _Life, cell: Cell) -> None:
        """Stop the cell though we are being cancelled: further cancellations do not cut the bounded wait short.

        A person waits: what does not end at once (C code that checks no signals) is left behind as abandoned, and the
        next cell finds the kernel busy, or free when it ended in the meantime.
        """
        stopping = asyncio.ensure_future(self._stop(life, cell, within_s=_CANCELLED_WAIT_S))
        while not stopping.done():
            with contextlib.suppress(asyncio.CancelledError):  # the caller re-raises the first one
                await asyncio.shield(stopping)
        if cell.ended.is_set():
            cell.fold.close()

    def _cell(
        self,
        life: _Life,
        code: str,
        fold: OutputFold,
        *,
        key: str = "",
        silent: bool = False,
        on_output: OutputSink | None = None,
    ) -> Cell:
        content = {
            "code": code,
            "silent": silent,
            "store_history": not silent,
            "user_expressions": {},
            "allow_stdin": self._on_input is not None and not silent,
            "stop_on_error": False,  # the queue is ours: an error aborts nothing
        }
        metadata = {"lash_nb": {"key": key}} if key else {}
        msg_id, frames = life.wire.pack("execute_request", content, metadata=metadata)
        return Cell(msg_id=msg_id, frames=frames, fold=fold, on_output=on_output)

    # -- the rest --------------------------------------------------------------------------------------------------

    async def namespace(self, *, limit: int = 200) -> NamespaceSummary:
        life = self._require_life()
        request = life.wire.request("control", "lash_ns_request", {"limit": limit})
        if not await request.done.wait(self._namespace_timeout_s):
            raise KernelBusyError(
                f"the kernel did not describe its variables within {self._namespace_timeout_s:g} s; "
                "code that holds the interpreter may be running"
            )
        if request.reply is None:
            raise KernelDiedError(f"the kernel's process {life.wire.ending}; its variables are gone")
        return _summary(request.reply)

    def take_background(self) -> tuple[CellOutput, ...]:
        return self._life.wire.take_background() if self._life is not None else ()

    def _require_life(self) -> _Life:
        if self._life is None:
            raise KernelDiedError("the kernel is not running: start it first")
        if not self._life.alive:
            raise KernelDiedError("the kernel's process ended; its variables are gone: restart it")
        return self._life


def _summary(reply: Mapping[str, object]) -> NamespaceSummary:
    variables, omitted, removed = reply.get("variables"), reply.get("omitted"), reply.get("removed")
    if not (isinstance(variables, list) and isinstance(omitted, int) and isinstance(removed, list)):
        raise KernelError("the kernel described its variables in a form that is not ours")
    return NamespaceSummary(
        variables=tuple(
            VariableSummary(
                name=name,
                type=kind,
                detail=detail,
                preview=preview,
                changed=changed,
                columns=tuple((title, dtype) for title, dtype in columns),
            )
            for name, kind, detail, preview, changed, columns in variables
        ),
        omitted=omitted,
        removed=tuple(removed),
    )
