"""Which model a notebook suggests: `metadata.lash_nb.model` of its file, read as the untrusted text that it is.

Decided here: a file that cannot be found, is too large or is no notebook suggests nothing, silently: the name is a hint
of the frontend and may be stale. Only regular files are read, and only so much of them. What is done with a suggestion
is `models.choice`'s: only `replay:` is followed unasked. Light: `%load_ext` waits for it.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

__all__ = ["suggested_model"]

_MAX_BYTES = 20_000_000
_MAX_NAME = 300


def suggested_model(notebook: Path) -> str | None:
    """The name in the notebook's metadata; None when there is none that could be one."""
    try:
        content = _content(notebook)
        if content is None:
            return None
        document = json.loads(content)
    except (OSError, ValueError, RecursionError):
        return None
    for key in ("metadata", "lash_nb", "model"):
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    if not isinstance(document, str) or not document.strip() or len(document) > _MAX_NAME:
        return None
    # What is shown must not be able to draw over the terminal or hide a part of itself.
    return "".join(sign for sign in document.strip() if sign.isprintable())


def _content(path: Path) -> bytes | None:
    """What a regular file holds; None when it is none, or too large. Raises: OSError."""
    # A pipe would block until somebody writes to it, and the size of a device says nothing.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as file:
        content = file.read(_MAX_BYTES + 1)
    return None if len(content) > _MAX_BYTES else content
