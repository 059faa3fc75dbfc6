"""The closed notebook of a turn that `lash-nb resume` went on with: its copy, and the cell that asked for it.

Decided here: the file is written once, as a whole, when the turn has ended, and only if it is still the one that was
read. A turn is shown in the one cell whose request it answers and that shows no turn yet; where that is not plain, the
metadata alone has it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import nbformat
from nbformat import NotebookNode

from .errors import NotebookError
from .machine.attachments import AttachmentStore
from .stores.documents import Output, load_notebook
from .stores.notebook import METADATA_KEY, folded, following, read_block
from .turns import Turn
from .views.text import figures, static_bundle

__all__ = ["NotebookFile"]

_nbformat: Any = nbformat
"""Its functions carry no annotations."""


class NotebookFile:
    """A closed notebook into which the turn goes when it has ended. Raises NotebookError: it cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = Path(os.path.realpath(path))
        self._bytes = self._read()
        self._output = Output(self._path)
        self._output.probe()
        self.refusal = self._cannot_take()
        """Why the turn cannot be put in; empty: it can."""
        self._block: dict[str, Any] | None = None
        self._shown: tuple[Turn, AttachmentStore] | None = None
        self.cell: int | None = None
        """The number of the cell that shows the turn, from 1, once it is saved."""
        self.below = 0
        """How many cells below that one have not been run, as the file says."""

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError as error:
            raise NotebookError(f"the notebook {self._path} cannot be read: {error.strerror}") from None

    def _cannot_take(self) -> str:
        try:
            read_block(load_notebook(self._path).metadata)
        except NotebookError as error:
            return f"{error}; {self._path} is left as it is, and what the turn gives is in its session"
        return ""

    def take(self, block: dict[str, Any], final: bool) -> None:
        """What the session says its block is; only one without a turn in progress is kept."""
        if final and not self.refusal:
            self._block = block

    def check(self) -> None:
        """See that it is still the file that was read. Raises NotebookError."""
        if self._read() != self._bytes:
            raise NotebookError(
                f"{self._path} was changed meanwhile (is it open somewhere?), and is left as it is: what the turn gave "
                "is in its session (`lash-nb sessions show`)"
            )

    def show(self, turn: Turn, store: AttachmentStore) -> None:
        """The turn is to be seen in the cell that asked for it, when it is plain which that is."""
        self._shown = turn, store

    def save(self) -> None:
        """Put the block in, and the turn into its cell.

        Raises:
            NotebookError: the file is another one by now, or cannot be written.
        """
        if self._block is None:
            return
        self.check()
        notebook = load_notebook(self._path)
        self.check()
        before = cast("Mapping[str, Any] | None", notebook.metadata.get(METADATA_KEY))
        notebook.metadata[METADATA_KEY] = folded(following(before, self._block))
        if self._shown is not None:
            self.cell = _put_in(notebook, *self._shown)
            self.below = sum(map(_waits_to_run, notebook.cells[self.cell :])) if self.cell is not None else 0
        self._output.save(notebook)


def _put_in(notebook: NotebookNode, turn: Turn, store: AttachmentStore) -> int | None:
    """Show the turn in its cell, as the cell itself would have; the cell's number."""
    waiting = [(number, cell) for number, cell in enumerate(notebook.cells, 1) if _asks_for(cell, turn.request)]
    if len(waiting) != 1:
        return None
    number, cell = waiting[0]
    copy = {} if turn.envelope is None else {name: turn.envelope[name] for name in ("session", "turn", "sha256")}
    bundle = static_bundle(turn.picture, store=store, images=False)
    shown = [
        (bundle, {METADATA_KEY: copy} if copy else {}),
        *((figure, {}) for figure in figures(turn.picture, store=store)),
    ]
    cell.outputs = [_nbformat.v4.new_output("display_data", data=data, metadata=told) for data, told in shown]
    return number


def _asks_for(cell: NotebookNode, request: str) -> bool:
    """Whether it is a `%%lash` cell of that request that shows no turn."""
    if cell.cell_type != "code" or not cell.source.startswith("%%lash"):
        return False
    return cell.source.partition("\n")[2].strip("\n") == request and not any(
        METADATA_KEY in output.get("metadata", {}) for output in cell.outputs
    )


def _waits_to_run(cell: NotebookNode) -> bool:
    """Whether it is a cell to be run that nothing has run since the notebook was made or cleared."""
    if cell.cell_type != "code" or not cell.source.strip() or "skip-execution" in cell.metadata.get("tags", []):
        return False
    return cell.get("execution_count") is None and not cell.outputs
