"""One life of a kernel: its process and its wire, from the launch or the take-over to its end.

Decided here: how a kernel becomes ready (its welcome, our code inside it), and that whoever holds a life can end it,
whatever went wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import KernelAttachError, KernelDiedError, KernelStartError, LashError
from ..machine.attachments import AdoptingStore, AttachmentRef
from . import OnInput
from .cells import Cell
from .channels import open_wire
from .inner_calls import InnerCalls
from .inside import REQUIRED, VERSION, bootstrap, compiled
from .outputs import OutputFold
from .process import COMPILED, RunningProcess, spill_place
from .wires import Wire

__all__ = ["Life"]

_OLDEST_IPYKERNEL = (7, 4)
_ASK_AGAIN_S = 0.5
_CLOSE_S = 5.0
_SPILL = "spill-"
_STALE_S = 2 * 24 * 3600.0
"""Longer than any kernel lives without a host."""

Content = Mapping[str, object]


class Life:
    """One process and its wire, and the store that takes what it does not keep inline."""

    def __init__(self, process: RunningProcess, *, on_input: OnInput | None, store: AdoptingStore | None) -> None:
        self.process = process
        self.wire: Wire = open_wire(process, on_input=on_input)
        self.epoch = process.epoch
        self._store = store
        self.spill_dir = ""
        """Where a Python kernel writes that; "" for nowhere."""
        if store is not None and process.has_inside:
            own = spill_place(store.staging, process.epoch, process.shared)
            self.spill_dir = str(own)
            _sweep(own.parent)
        self.missing_features: tuple[str, ...] = ()
        self.unmet_limits: tuple[str, ...] = ()
        self.stays = False
        """Whether it is left, and not ended, when it is forgotten or the interpreter exits."""

    def belong_to(self, *, store: AdoptingStore | None, on_input: OnInput | None) -> None:
        """Work for someone else from now on, whose store has the same place."""
        self._store = store
        self.wire.answer_input_with(on_input)

    @property
    def alive(self) -> bool:
        """Whether the process runs, and is ours."""
        mine = self.process.owner_pid == os.getpid()
        return mine and not self.wire.dead.is_set() and not self.process.exited()

    # -- the beginning -------------------------------------------------------------------------------------------------

    def hand_over(self) -> None:
        """Put our code where the kernel finds it, compiled; one that does not is sent the sources."""
        with contextlib.suppress(OSError):
            (self.process.directory / COMPILED).write_bytes(compiled())

    async def greet(self) -> None:
        """Wait until our subscription is in force: its welcome, else whatever our own questions make it say.

        Raises:
            KernelDiedError: it ended before.
        """
        wire = self.wire
        while not await wire.greeted.wait(_ASK_AGAIN_S):
            if wire.dead.is_set():
                raise KernelDiedError(f"the kernel's process {wire.ending} before it was ready")
            wire.request("shell", "kernel_info_request", {})

    async def answer(self) -> None:
        """Wait until a kernel without our code inside answers: a welcome says no more than that its sockets are bound.

        Raises:
            KernelDiedError: it ended before.
        """
        request = self.wire.request("shell", "kernel_info_request", {})
        await request.done.wait()
        if request.reply is None:
            raise KernelDiedError(f"the kernel's process {self.wire.ending} before it was ready")

    async def settle(self) -> None:
        """Put the limits in force."""
        self.unmet_limits = await asyncio.to_thread(self.process.settle)

    async def set_up(self, options: Mapping[str, object]) -> None:
        """Install our code inside a Python kernel.

        Raises:
            KernelStartError: it cannot be; says what is missing.
        """
        report = await self._boot(bootstrap(options=options, file=str(self.process.directory / COMPILED)))
        if report is None:
            report = await self._boot(bootstrap(options=options))
        if report is None:
            raise KernelStartError("the kernel could not be set up: no report")
        version = str(report["ipykernel"])
        if tuple(int(part) for part in version.split(".")[:2]) < _OLDEST_IPYKERNEL:
            raise KernelStartError(f"the kernel has ipykernel {version}; 7.4 or newer is needed")
        failed = report["failed"]
        assert isinstance(failed, dict)
        if REQUIRED & failed.keys():
            raise KernelStartError(f"the kernel could not be set up: {json.dumps(failed)}")
        self.missing_features = tuple(sorted(failed))

    async def _boot(self, code: str) -> Content | None:
        cell = self._silent(code)
        self.wire.submit(cell)
        await cell.ended.wait()
        for payload in cell.payloads():
            if payload.get("source") == "LashBoot":
                report = payload.get("report")
                return report if isinstance(report, Mapping) else None
        result = cell.result()
        told = result.detail or (f"{result.error.ename}: {result.error.evalue}" if result.error else "no report")
        raise KernelStartError(f"the kernel could not be set up: {told}")

    def _silent(self, code: str) -> Cell:
        content = {"code": code, "silent": True, "store_history": False, "user_expressions": {}, "allow_stdin": False}
        msg_id, frames = self.wire.pack("execute_request", content)
        calls = InnerCalls(self.wire, msg_id=msg_id)
        return Cell(msg_id=msg_id, key="", frames=frames, fold=OutputFold(), calls=calls)

    async def resume(self, *, within_s: float) -> Content:
        """What a kernel that was taken over says of itself; from then on its running cell is told in snapshots.

        Raises:
            KernelAttachError: it does not answer, or has another version of our code inside.
        """
        request = self.wire.request("control", "lash_attach_request", {})
        if not await request.done.wait(within_s):
            raise KernelAttachError(
                f"the kernel did not answer within {within_s:g} s; code that holds its interpreter may be running: "
                "try again, or end it"
            )
        if request.reply is None:
            raise KernelAttachError(f"the kernel's process {self.wire.ending}; its variables are gone: start a new one")
        version = request.reply.get("version")
        if version != VERSION:
            raise KernelAttachError(
                f"the kernel was started by another version of lash_nb (inside: {version}, here: {VERSION}): "
                "go on with that version, or start a new kernel"
            )
        return request.reply

    # -- the end -------------------------------------------------------------------------------------------------------

    async def close(self, sentence: str) -> None:
        """Kill it and leave nothing; `sentence` is what a running cell is told."""
        self.wire.expected_end = self.wire.expected_end or sentence
        try:
            self.process.kill()
            await self.wire.dead.wait(_CLOSE_S)
        finally:  # when cancelled too: the thread goes on without us
            await self.wire.close(then=self._remove).wait(_CLOSE_S)

    async def leave(self) -> None:
        """Let it go on without us, as after a crash; nothing of it stays open here."""
        await self.wire.close(then=self.process.let_go).wait(_CLOSE_S)

    @staticmethod
    def reap(life: Life) -> None:
        """For a kernel that was forgotten, or at the interpreter's exit: no loop to wait on."""
        if life.process.owner_pid == os.getpid():
            stays = life.stays and not life.process.exited()
            if not stays:
                life.process.kill()
            then = life.process.let_go if stays else life._remove
            closed = life.wire.close(then=then)  # its descriptors are being polled until then
            if not life.wire.on_its_thread():  # a garbage collection may run anywhere
                closed.block(_CLOSE_S)

    def _remove(self) -> None:
        """Nothing of it is left when this returns."""
        self.process.close()
        if self.spill_dir:
            shutil.rmtree(self.spill_dir, ignore_errors=True)

    # -- what it did not keep inline -----------------------------------------------------------------------------------

    def adopt(self, token: Mapping[str, Any]) -> AttachmentRef | None:
        """Take a file that the kernel spilled into the store; None when it cannot be had. Reads the whole file."""
        if self._store is None or not self.spill_dir:
            return None
        label = token.get("label")
        try:
            return self._store.adopt(
                # The token is the kernel's word: its name is held to be no more than a name.
                str(Path(self.spill_dir) / Path(str(token["file"])).name),
                sha256=str(token.get("sha256")),
                media_type=str(token["media_type"]),
                label=None if label is None else str(label),
            )
        except (LashError, OSError):
            return None


def _sweep(parent: Path) -> None:
    """Remove what kernels left that were killed together with their hosts, long ago."""
    before = time.time() - _STALE_S
    for path in parent.glob(f"{_SPILL}*"):
        with contextlib.suppress(OSError):
            if path.stat().st_mtime < before:
                shutil.rmtree(path, ignore_errors=True)
