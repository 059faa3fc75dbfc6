"""What a notebook's file says of itself at first sight: which model it suggests, which session it seems to carry.

All of it is read as the untrusted text that it is. Decided here: a file that cannot be found, is too large or is no
notebook says nothing, silently: its name is a hint of the frontend and may be stale. Only regular files are read, and
only so much of them. What is done with a suggestion is `models.choice`'s: only `replay:` is followed unasked. Light:
`%load_ext` waits for it.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

__all__ = ["carried_sentence", "read_content", "read_document", "suggested_model"]

_MAX_BYTES = 20_000_000
_MAX_NAME = 300


def suggested_model(notebook: Path) -> str | None:
    """The name in the notebook's metadata; None when there is none that could be one."""
    document: object = read_document(notebook)
    for key in ("metadata", "lash_nb", "model"):
        if not isinstance(document, dict):
            return None
        document = document.get(key)
    if not isinstance(document, str) or not document.strip() or len(document) > _MAX_NAME:
        return None
    # What is shown must not be able to draw over the terminal or hide a part of itself.
    return "".join(sign for sign in document.strip() if sign.isprintable())


def carried_sentence(notebook: Path) -> str | None:
    """What `%load_ext` says of the turns that the notebook's file seems to carry: nothing of them is checked yet."""
    document = read_document(notebook) or {}
    metadata = document.get("metadata")
    block = metadata.get("lash_nb") if isinstance(metadata, dict) else None
    fields = (block.get(name) for name in ("session", "turns", "head")) if isinstance(block, dict) else _NO
    session, turns, head = fields
    if not isinstance(session, str) or not session or not isinstance(turns, list):
        return None
    name = "".join(sign for sign in session[:8] if sign.isprintable())
    left = ", and one that was interrupted" if isinstance(head, dict) else ""
    plural = "" if len(turns) == 1 else "s"
    return f"this notebook carries session {name}: {len(turns)} turn{plural}{left} (`%lash resume` goes on with it)"


_NO = (None, None, None)


def read_document(notebook: Path) -> dict[str, Any] | None:
    """What a notebook's file holds, unchecked; None where that cannot be had."""
    try:
        content = read_content(notebook)
        document = None if content is None else json.loads(content)
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def read_content(path: Path) -> bytes | None:
    """What a regular file holds; None when it is none, or too large. Raises: OSError."""
    # A pipe would block until somebody writes to it, and the size of a device says nothing.
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        return None
    with open(descriptor, "rb") as file:
        content = file.read(_MAX_BYTES + 1)
    return None if len(content) > _MAX_BYTES else content
