"""Notebooks on the disk, and a kernel's half of the line to who holds them, written out by hand."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import nbformat

__all__ = ["LINE", "block", "read", "texts", "write"]

v4: Any = nbformat.v4

LINE = """
import asyncio, json
from comm import get_comm_manager

class Line:
    comm_id = target_name = "lash_nb.notebook"

    def __init__(self):
        self.came = []
        get_comm_manager().register_comm(self)

    def send(self, data):
        kernel = get_ipython().kernel
        content = {"comm_id": "lash_nb.notebook", "data": data}
        kernel.session.send(kernel.iopub_socket, "comm_msg", content, parent=kernel.get_parent("shell"))

    def handle_msg(self, message):
        self.came.append(message["content"]["data"])

    async def heard(self, count):
        for _ in range(500):
            if len(self.came) >= count:
                return
            await asyncio.sleep(0.02)
        raise TimeoutError(self.came)

line = Line()
"""


def block(seq: int) -> dict[str, Any]:
    """A block with one turn, as far as a holder looks at it."""
    envelope = {
        "version": 1,
        "session": "s",
        "turn": 1,
        "seq": seq,
        "parent": None,
        "sha256": "0" * 64,
        "engine": "test",
        "saved_at": "now",
        "checkpoint": ["{\n", "}"],
    }
    return {"version": 1, "session": "s", "head": None, "turns": [envelope]}


def write(place: Path, *cells: Any, name: str = "in.ipynb", **metadata: Any) -> Path:
    """A notebook of these cells: code, or cells made by hand."""
    made = [v4.new_code_cell(textwrap.dedent(cell)) if isinstance(cell, str) else cell for cell in cells]
    path = place / name
    path.write_text(v4.writes(v4.new_notebook(cells=made, metadata=metadata)))
    return path


def read(path: Path) -> Any:
    """A notebook from the disk; it is valid."""
    loaded = v4.to_notebook(json.loads(path.read_text(encoding="utf-8")))
    nbformat.validate(loaded)
    return loaded


def texts(path: Path) -> list[str]:
    """What each code cell printed."""
    return ["".join(o.get("text", "") for o in cell.outputs) for cell in read(path).cells if cell.cell_type == "code"]
