"""How a cell is asked for on a kernel's wire, and what comes back of it.

Decided here: what goes with an execute request, what becomes of a cell that an earlier host began, and that what a cell
spilled is in the store before its result is given.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import KernelDiedError, KernelError
from ..machine.attachments import AdoptingStore, AttachmentRef
from ..machine.execution import CellResult
from . import CellGuard, CellTools, OutputSink
from .cells import EXECUTE, Cell, followed_cell
from .inner_calls import InnerCalls
from .life import Life
from .outputs import OutputFold, OutputLimits

__all__ = ["CellRequest", "CellRequests"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CellRequest:
    """What `Kernel.run` was given."""

    key: str
    code: str
    on_output: OutputSink | None = None
    tools: CellTools | None = None
    guard: CellGuard | None = None
    timeout_s: float | None = None

    @property
    def digest(self) -> str:
        """What the code is known by."""
        return hashlib.sha256(self.code.encode("utf-8", "backslashreplace")).hexdigest()


class CellRequests:
    """Those of one kernel, through all its lives."""

    def __init__(self, *, store: AdoptingStore | None, limits: OutputLimits | None, allow_stdin: bool) -> None:
        self.followed: Cell | None = None
        """The cell that an earlier host began, until it is claimed."""
        self._store = store
        self._limits = limits
        self._allow_stdin = allow_stdin
        self._kept: dict[str, AttachmentRef] = {}

    def cell(self, life: Life, request: CellRequest) -> Cell:
        """A cell that is ready to be sent."""
        content = {**EXECUTE, "code": request.code, "allow_stdin": self._allow_stdin}
        tools, guard = request.tools, request.guard
        ours: dict[str, object] = {
            "key": request.key,
            "tools": [asdict(offer) for offer in tools.offers] if tools is not None else [],
            "guard": {"free": list(guard.free)} if guard is not None else None,
        }
        msg_id, frames = life.wire.pack("execute_request", content, metadata={"lash_nb": ours})
        calls = InnerCalls(life.wire, msg_id=msg_id, tools=tools, guard=guard, store=self._store, kept=self._kept)
        return Cell(
            msg_id=msg_id, key=request.key, frames=frames, fold=self._fold(), calls=calls, on_output=request.on_output
        )

    def follow(self, life: Life, running: Mapping[str, Any], calls: object) -> None:
        """Wait for the end of the cell that an earlier host began."""
        msg_id = str(running["msg_id"])
        inner = InnerCalls(life.wire, msg_id=msg_id, store=self._store, kept=self._kept, held=True)
        cell = followed_cell(running, calls, fold=self._fold(), inner=inner)
        life.wire.follow(cell)
        self.followed = cell

    def claim(self, request: CellRequest) -> Cell | None:
        """The cell that an earlier host began under this key, if it was still running when we took over.

        Raises:
            KernelError: the key was used for other code.
        """
        cell = self.followed
        if cell is None or not request.key or cell.key != request.key:
            return None
        if cell.digest != request.digest:
            raise _other_code(request.key)
        self.followed = None
        cell.calls.claim(request.tools, request.guard)
        if request.on_output is not None:
            cell.listen(request.on_output)
        return cell

    async def result(self, life: Life, cell: Cell, timed_out_s: float | None) -> CellResult:
        """The result of a cell that has ended, or is given up on (`timed_out_s`).

        Raises:
            KernelDiedError: it was never run.
            KernelError: the key was used for other code.
        """
        await cell.calls.close()
        if cell.withdrawn and cell.death:
            raise KernelDiedError(cell.death)
        if cell.refused:
            raise _other_code(cell.key)
        for token in cell.fold.spilled_files(of_the_dead=bool(cell.death)):
            ref = await asyncio.to_thread(life.adopt, token)
            if ref is not None:
                cell.fold.adopt(token, ref)
        result = cell.result(timed_out_s=timed_out_s)
        self._kept |= cell.fold.refs()
        return result

    def _fold(self) -> OutputFold:
        return OutputFold(limits=self._limits, store=self._store)


def _other_code(key: str) -> KernelError:
    return KernelError(f"the key {key!r} was used for other code; this cell was not run")
