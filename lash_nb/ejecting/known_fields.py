"""Cells with the fields that nbformat knows, and no others."""

from __future__ import annotations

import json
from typing import Any

from nbformat import NotebookNode

__all__ = ["known_fields"]

_FIELDS = {
    "code": ("cell_type", "execution_count", "metadata", "outputs", "source"),
    "stream": ("output_type", "name", "text"),
    "display_data": ("output_type", "data", "metadata"),
    "execute_result": ("output_type", "data", "execution_count", "metadata"),
    "error": ("output_type", "ename", "evalue", "traceback"),
}


def known_fields(cell: NotebookNode) -> dict[str, Any]:
    """A copy of a cell with what nbformat knows: what reads a notebook leniently writes a valid one."""
    whole = json.loads(json.dumps(cell))
    names = _FIELDS.get(whole["cell_type"], ("attachments", "cell_type", "metadata", "source"))
    kept: dict[str, Any] = {name: whole[name] for name in names if name in whole}
    if "outputs" in kept:
        kept["outputs"] = [
            {name: value for name, value in output.items() if name in _FIELDS.get(output["output_type"], ())}
            for output in kept["outputs"]
        ]
    return kept
