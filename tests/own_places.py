"""A place of its own for everything that a bench or a fault run leaves on the disk, and a mark for its processes."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

__all__ = ["own_place"]


@contextlib.contextmanager
def own_place(prefix: str, mark: str) -> Iterator[Path]:
    """A directory for runtime directories and temporary files; the variable `mark` of what is started names it."""
    names = ("XDG_RUNTIME_DIR", "TMPDIR", mark)
    before = {name: os.environ.get(name) for name in names}
    with tempfile.TemporaryDirectory(prefix=prefix) as directory:
        os.environ |= dict.fromkeys(names, directory)
        tempfile.tempdir = None  # read anew
        try:
            yield Path(directory)
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
            tempfile.tempdir = None
