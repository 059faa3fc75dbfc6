"""The managed kernel: a process of our own, where the agent's code runs.

Decided here: what each call of the contract does when the kernel's process dies, hangs, was taken over or is left.
How a kernel becomes ready and ends is `life`'s matter, how it is launched that of `process`, how it is talked to that
of `channels` and `wires`, what runs inside it that of `inside`. In a Python kernel the ledger inside says whether a key
ran; in others nothing does, so this host's own memory of it counts, and what another host had begun is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import weakref
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import KernelAttachError, KernelBusyError, KernelDiedError, LashError
from ..machine.attachments import AdoptingStore
from ..machine.execution import CellOutput, CellResult, NamespaceSummary
from ..previews import Previews
from . import CellGuard, CellTools, Kernel, OnInput, OutputSink
from .attached import AttachedProcess
from .cell_requests import CellRequest, CellRequests
from .cells import Cell
from .flags import Turnstile
from .ladder import stop, until_ended
from .launch import Launch
from .life import Life
from .memory import RunMemory
from .outputs import OutputLimits
from .outside import LooksOutside
from .resources import NO_LIMITS, ResourceLimits
from .sandbox import Sandbox
from .sharing import SharesValues
from .spares import prepare_spare, take_spare
from .specs import FoundSpec, find_spec
from .starting import Start, started
from .summaries import Summaries

__all__ = ["ManagedKernel"]


class ManagedKernel(SharesValues, LooksOutside, Kernel):
    """A kernel in a process of its own (see `Kernel` for the contract).

    Args:
        python: the interpreter of a Python kernel; default: this one.
        kernelspec: an installed kernel instead, by its name or its language. Python ones need ipykernel >= 7.4.
        cwd: its directory; default: the host's.
        env: its environment, taken as it is; None means the host's without what looks like a secret.
        pass_env: names of variables that are passed on though they look like one.
        sandbox: run it without network, with the files read-only but for `cwd` (Linux, needs bubblewrap).
        resources: how much of the machine it may use; what cannot be held to is in `unmet_limits`.
        spare: keep another one ready in this process (some 60 MB), which the next start of the same kind takes.
        debugger: load ipykernel's debugger, for who attaches one; it is a third of the start.
        store: keeps what is too long or too big to keep inline; without one it is only counted.
        limits: how much of a cell's outputs is kept inline; spill_bytes: how much on the disk, beside the store.
        on_input: answers `input()` of a cell; without it that is refused, with an error that says so.
        orphan_ttl_s: how long it waits for another host, idle, when this one crashed; 0: it ends at once.

    Raises:
        UnknownNameError: no such kernelspec is installed.
    """

    _memory: RunMemory | None = None
    _ends = 0
    """How often `end_now` was called."""

    def __init__(
        self,
        *,
        python: str | None = None,
        kernelspec: str | None = None,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
        pass_env: Iterable[str] = (),
        sandbox: Sandbox | bool = False,
        resources: ResourceLimits | None = None,
        debugger: bool = False,
        spare: bool = False,
        store: AdoptingStore | None = None,
        limits: OutputLimits | None = None,
        spill_bytes: int = 2 * 1024**3,
        on_input: OnInput | None = None,
        orphan_ttl_s: float = 1800.0,
        start_timeout_s: float = 60.0,
        interrupt_timeout_s: float = 5.0,
        shutdown_timeout_s: float = 1.5,
        namespace_timeout_s: float = 2.0,
        value_timeout_s: float = 120.0,
    ) -> None:
        self._spec: FoundSpec | None = find_spec(kernelspec) if kernelspec is not None else None
        self.language = self._spec.language if self._spec is not None else "python"
        self._launching = Launch(
            spec=self._spec,
            python=python or sys.executable,
            cwd=str(Path(cwd)) if cwd is not None else None,
            env=env,
            pass_env=tuple(pass_env),
            debugger=debugger,
            limits=resources or NO_LIMITS,
            sandbox=Sandbox() if sandbox is True else sandbox or None,
            staging=os.path.abspath(store.staging) if store is not None and store.staging else None,
            orphan_ttl_s=orphan_ttl_s,
        ).bounded()
        bounds: dict[str, Any] = {"outputs": limits or OutputLimits(), "spill_bytes": spill_bytes}
        self._start = partial(Start, within_s=start_timeout_s, **bounds)
        self._spare, self._store, self._on_input = spare, store, on_input
        self._start_timeout_s = start_timeout_s
        self._interrupt_timeout_s, self._last_try_s = interrupt_timeout_s, min(2.0, interrupt_timeout_s)
        self._shutdown_timeout_s = shutdown_timeout_s
        self._namespace_timeout_s = namespace_timeout_s
        self._value_timeout_s = value_timeout_s
        self._life: Life | None = None
        self._finalizer: weakref.finalize[..., ManagedKernel] | None = None
        self._turnstile = Turnstile()
        self._summaries = Summaries()
        self._requests = CellRequests(store=store, limits=limits, allow_stdin=on_input is not None)

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

    @property
    def connection_file(self) -> Path | None:
        """With this file (and `epoch`) another process can `attach` when this one has crashed."""
        return self._life.process.connection_file if self._life is not None else None

    @property
    def following(self) -> str | None:
        """The key of the cell that ran when the kernel was taken over, until it ends or `run` is called with it."""
        cell = self._requests.followed
        return cell.key if cell is not None and not cell.ended.is_set() else None

    @property
    def missing_features(self) -> tuple[str, ...]:
        """What of `inside` could not be installed in this kernel; it works without."""
        return self._life.missing_features if self._life is not None else ()

    @property
    def sandboxed(self) -> bool:
        """Whether its cells run in a sandbox."""
        return self._life.process.sandboxed if self._life is not None else self._launching.sandbox is not None

    @property
    def unmet_limits(self) -> tuple[str, ...]:
        """Which limits could not be put in force in this life, in sentences."""
        return self._life.unmet_limits if self._life is not None else ()

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

    async def leave(self) -> None:
        """Leave it to whoever takes it over: it goes on, and waits as after a crash; one that has ended is removed."""
        if not self.alive:
            await self.shutdown()
            return
        async with self._turnstile.alone():
            life, self._life = self._life, None
            if life is not None:
                self._forget()
                await life.leave()

    def leave_at_exit(self) -> None:
        """Leave it, and do not end it, where nobody says which before this process exits; until it runs a cell."""
        if self._life is not None:
            self._life.stays = True

    def end_now(self) -> None:
        """Kill the kernel, started or starting, and leave nothing of it; from any thread, idempotent."""
        self._ends += 1
        if self._life is not None:
            self._life.stays = False
        finalizer, self._finalizer, self._life = self._finalizer, None, None
        if finalizer is not None:
            finalizer()

    async def _drop(self, sentence: str) -> None:
        life, self._life = self._life, None
        if life is None:
            return
        try:
            await life.close(sentence)
        finally:
            self._forget()

    def _forget(self) -> None:
        finalizer, self._finalizer = self._finalizer, None
        if finalizer is not None:
            finalizer.detach()
        self._requests.followed = self._memory = None

    async def _launch(self) -> None:
        start = self._start(launch=self._launching, variables=self._launching.variables())
        hold = partial(self._hold, ends=self._ends)
        try:
            life = take_spare(start) if self._spare else None
            if life is None:
                how: dict[str, Any] = {"store": self._store, "on_input": self._on_input, "opened": hold}
                life = await started(start, **how)
            else:
                hold(life)
                life.belong_to(store=self._store, on_input=self._on_input)
        except BaseException:
            self._forget()
            raise
        self._life = life
        if self._spare:
            prepare_spare(start, store=self._store)

    def _hold(self, life: Life, *, ends: int | None = None) -> None:
        self._memory = None if life.process.has_inside else RunMemory()
        self._finalizer = finalizer = weakref.finalize(self, Life.reap, life)
        if ends not in (None, self._ends):  # `end_now` came while there was no process yet
            finalizer()

    async def __aenter__(self) -> ManagedKernel:
        await self.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.shutdown()

    # -- taking over ---------------------------------------------------------------------------------------------------

    @classmethod
    async def attach(
        cls, connection_file: str | os.PathLike[str], *, epoch: str | None = None, **options: Any
    ) -> ManagedKernel:
        """Take over the running kernel of a host that crashed; `options` are the constructor's.

        A cell that still runs there goes on: `run` with its key follows it and gives its result, as it does for cells
        that ended meanwhile. The kernel ends with this process from now on.

        Raises:
            KernelAttachError: its files are not private, it is another life (`epoch`), it is gone, another host has it,
                or it does not answer; nothing was changed.
        """
        kernel = cls(**options)
        process = await asyncio.to_thread(AttachedProcess.take_over, Path(connection_file), epoch=epoch)
        try:
            if kernel._launching.sandbox is not None and not process.sandboxed:
                raise KernelAttachError("the kernel is not in a sandbox, as it should be: start a new one")
            await kernel._take_over(process)
        except BaseException:
            process.let_go()
            raise
        return kernel

    async def _take_over(self, process: AttachedProcess) -> None:
        self.language = process.language
        if not process.has_inside and self._spec is None:
            with contextlib.suppress(LashError):  # needed for `restart` alone
                self._spec = find_spec(process.display_name or process.language)
                self._launching = replace(self._launching, spec=self._spec)
        life = Life(process, on_input=self._on_input, store=self._store)
        life.wire.by_message = self._spec is not None and self._spec.interrupt_mode == "message"
        self._hold(life)
        try:
            if process.has_inside:
                told = await life.resume(within_s=self._start_timeout_s)
                if isinstance(running := told.get("running"), Mapping):
                    self._requests.follow(life, running, told.get("calls"))
            elif process.exited():
                raise KernelAttachError("the kernel's process has ended; its variables are gone: start a new one")
            life.unmet_limits = await asyncio.to_thread(process.settle, self._launching.limits)
        except BaseException:
            self._forget()
            await life.wire.close().wait(5.0)
            raise
        self._life = life

    # -- cells -----------------------------------------------------------------------------------------------------

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
        life = self._require_life()
        life.stays = False
        if await self.is_stuck():
            raise KernelBusyError("an earlier cell did not react to its interrupt and still runs")
        request = CellRequest(key=key, code=code, on_output=on_output, tools=tools, guard=guard, timeout_s=timeout_s)
        cell = self._requests.claim(request)
        if cell is None and key and self._memory is not None:
            async with self._memory.of(key, request.digest, started=started) as remembered:
                if remembered.result is None:
                    remembered.result = await self._run(life, request)
                return remembered.result
        return await self._run(life, request, cell=cell)

    async def _run(self, life: Life, request: CellRequest, *, cell: Cell | None = None) -> CellResult:
        """Run a cell, or follow the one given, which runs already."""
        if cell is None:
            cell = self._requests.cell(life, request)
            life.process.look()
            life.wire.submit(cell)
        limit_s, stop_s = request.timeout_s, self._interrupt_timeout_s
        timed_out = not await until_ended(life.wire, cell, timeout_s=limit_s, stop_within_s=stop_s)
        result = await self._requests.result(life, cell, limit_s if timed_out else None)
        cell.emit_final(result.outputs)
        return result

    async def is_stuck(self) -> bool:
        """Whether a cell that was given up still runs, also after one more try to end it."""
        current = self._life.wire.current if self._life is not None else None
        if self._life is None or current is None or not current.abandoned:
            return False
        return not await stop(self._life.wire, current, within_s=self._last_try_s)

    async def interrupt(self) -> bool:
        life = self._life
        cell = life.wire.current if life is not None else None
        if life is None or cell is None:
            return True
        return await stop(life.wire, cell, within_s=self._interrupt_timeout_s)

    # -- the rest --------------------------------------------------------------------------------------------------

    async def namespace(self, *, limit: int = 200, previews: Previews = "sample") -> NamespaceSummary:
        life = self._require_life()
        if not life.process.has_inside:
            return NamespaceSummary()
        asked = self._summaries.ask(limit=limit, previews=previews)
        request = life.wire.request("control", "lash_ns_request", asked.content)
        if not await request.done.wait(self._namespace_timeout_s):
            raise KernelBusyError(
                f"the kernel did not describe its variables within {self._namespace_timeout_s:g} s; "
                "code that holds the interpreter may be running"
            )
        if request.reply is None:
            raise KernelDiedError(f"the kernel's process {life.wire.ending}; its variables are gone")
        return self._summaries.take(asked, request.reply)

    def take_background(self) -> tuple[CellOutput, ...]:
        return self._life.wire.take_background() if self._life is not None else ()

    def _require_life(self) -> Life:
        if self._life is None:
            raise KernelDiedError("the kernel is not running: start it first")
        if not self._life.alive:
            raise KernelDiedError("the kernel's process ended; its variables are gone: restart it")
        return self._life
