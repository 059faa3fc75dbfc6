"""The notebook's kernel where there is no frontend: nbclient, started, asked, interrupted and ended our way.

Decided here: which kernel a notebook gets, and what lash_nb in that kernel learns of the run (`LASH_NB_RUN_OPTIONS`).
The notebook is held for it: what it asks to be set is on the disk before it is acknowledged. What the process says
outside of cells is kept for the message when it does not start. nbclient's own `async_execute` is not used: it takes a
cancelled task for a dead kernel, and signals for its own.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, DeadKernelError
from nbformat import NotebookNode

from .errors import InputError, KernelDiedError, KernelStartError
from .holder import NotebookHolder
from .models.choice import FROZEN_VARIABLE
from .stores.documents import Output

__all__ = ["RUN_OPTIONS", "CellError", "HeadlessKernel", "kernel_for"]

RUN_OPTIONS = "LASH_NB_RUN_OPTIONS"


def kernel_for(notebook: NotebookNode, *, named: str | None, path: Path) -> str:
    """The name of the kernel that runs this notebook: `named`, what its metadata says, or this Python.

    Raises:
        InputError: it is not installed; says which are.
    """
    spec = notebook.metadata.get("kernelspec")
    wanted = named or (spec.get("name") if isinstance(spec, Mapping) else None) or NATIVE_KERNEL_NAME
    known = KernelSpecManager().find_kernel_specs()
    if wanted not in known:
        names = ", ".join(sorted(known)) or "none"
        raise InputError(f"{path} wants the kernel {wanted!r}, which is not installed; there are: {names}")
    return str(wanted)


class CellError(Exception):
    """A cell raised; `name` is the class of the exception. Never leaves the runner."""

    def __init__(self, name: str, message: str) -> None:
        self.name = name
        self.message = message
        super().__init__(name, message)


class _Client(NotebookClient):
    """nbclient that holds the notebook for its kernel."""

    def __init__(self, notebook: NotebookNode, *, output: Output, **options: Any) -> None:
        super().__init__(notebook, **options)
        self.holder = NotebookHolder(self, kind="runner", path=str(output.path), save=lambda: output.save(self.nb))

    def handle_comm_msg(self, outs: list[NotebookNode], msg: dict[str, Any], cell_index: int) -> None:
        if not self.holder.take(msg):
            super().handle_comm_msg(outs, msg, cell_index)


class HeadlessKernel:
    """The kernel of one notebook that is being run."""

    def __init__(self, notebook: NotebookNode, *, output: Output, name: str) -> None:
        self._client = _Client(notebook, output=output, kernel_name=name, iopub_timeout=30)
        self._name = name
        self._has_ids = notebook.nbformat_minor >= 5
        """Else each that is there was made up for this run."""

    async def start(self, *, cwd: Path, options: Mapping[str, Any]) -> None:
        """Start it in `cwd`.

        Raises:
            KernelStartError: it did not come up; `shut_down` clears away what there is of it.
        """
        client = self._client
        client.create_kernel_manager()
        env = {**os.environ, RUN_OPTIONS: json.dumps(options)}
        if options.get("kept") == "frozen":
            env[FROZEN_VARIABLE] = "1"
        with tempfile.TemporaryFile() as noise:
            try:
                await client.async_start_new_kernel(env=env, cwd=str(cwd), stdout=noise, stderr=noise)
                kc: Any = await client.async_start_new_kernel_client()
                reply = await client.async_wait_for_reply(kc.kernel_info())
            except (RuntimeError, OSError) as error:
                noise.seek(0)
                said = noise.read().decode(errors="replace").strip().rpartition("\n")[2] or str(error)
                raise KernelStartError(f"the kernel {self._name!r} did not start: {said}") from error
        if reply is not None:
            client.nb.metadata["language_info"] = reply["content"].get("language_info", {})

    async def execute(self, cell: NotebookNode, *, index: int) -> None:
        """Run a cell of the notebook; its outputs are in the cell as they come.

        Raises:
            CellError: it raised, and no tag allows that.
            KernelDiedError: the kernel is gone, or the task was cancelled.
        """
        client: Any = self._client.kc
        # As pages do: lash_nb in the kernel tells cells apart by it.
        client.session.metadata = {"cellId": cell.id if self._has_ids and "id" in cell else f"cell {index + 1}"}
        try:
            await self._client.async_execute_cell(cell, index)
        except CellExecutionError as error:
            raise CellError(error.ename, error.evalue) from None
        except DeadKernelError as error:
            raise KernelDiedError("the notebook's kernel died") from error

    async def interrupt(self) -> None:
        """Interrupt the cell that runs; does not wait for its end."""
        manager: Any = self._client.km
        try:
            await manager.interrupt_kernel()
        except RuntimeError:  # the kernel ended by itself in the meantime
            pass

    def keep_widgets(self) -> None:
        """Store the state of widgets in the notebook, where frontends look for it."""
        self._client.set_widgets_metadata()

    async def shut_down(self, *, now: bool) -> None:
        """End the kernel's process and close its channels; `now` does not let it clean up. Not to be cancelled."""
        manager: Any = self._client.km
        if manager is None:
            return
        try:
            if await manager.is_alive():
                await manager.shutdown_kernel(now=now)
        except RuntimeError:  # it ended by itself in the meantime
            pass
        finally:
            self._client.holder.close()
            await manager.cleanup_resources()
            if self._client.kc is not None:
                self._client.kc.stop_channels()
