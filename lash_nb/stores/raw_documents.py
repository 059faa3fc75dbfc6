"""A notebook's file as it stands: JSON of the form of a notebook, no cell looked at.

Decided here: what a notebook carries is told without nbformat, which takes long to import where all that it can check
is installed, and refuses notebooks whose cells are wrong: what they carry may be whole.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..errors import NotebookError

__all__ = ["read_document"]

_NEWEST = 4
"""The nbformat that can be read."""


def read_document(path: Path) -> dict[str, Any]:
    """The notebook at `path`, which may be of an older nbformat, and not valid.

    Raises:
        NotebookError: there is none, or it is not one.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise NotebookError(f"there is no notebook {path}") from None
    except OSError as error:
        raise NotebookError(
            f"the notebook {path} cannot be read: {(error.strerror or type(error).__name__).lower()}"
        ) from None
    try:
        data = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise NotebookError(f"{path} is not a notebook: it is not JSON ({error})") from None
    if not isinstance(data, dict) or not isinstance(data.get("nbformat"), int):
        raise NotebookError(f"{path} is not a notebook: it is JSON without `nbformat`")
    if data["nbformat"] > _NEWEST:
        raise NotebookError(f"{path} is of nbformat {data['nbformat']}; at most {_NEWEST} can be read")
    if data["nbformat"] == _NEWEST and not isinstance(data.get("cells"), list):
        raise NotebookError(f"{path} is not a valid notebook: it has no list of cells")
    return data
