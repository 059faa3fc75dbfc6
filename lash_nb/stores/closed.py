"""A notebook file that nobody has open: read once, replaced as a whole, and only if it is still what was read.

Decided here: what is written goes aside first and takes the file's place in one step, with its mode; a symbolic link
stays one, and the file that it leads to is replaced. A file that was changed meanwhile is left as it is.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from ..errors import InputError, LashError, NotebookError
from .documents import Output
from .durable import sync_directory

__all__ = ["ClosedNotebook"]


class ClosedNotebook:
    """The bytes of a notebook file, and how others take their place. Raises NotebookError: it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = _read(path)

    @property
    def text(self) -> str:
        """Raises NotebookError: it is not text."""
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError:
            raise NotebookError(f"{self.path} is not a notebook: it is not UTF-8 text") from None

    def check(self) -> None:
        """See that the file is still what was read. Raises LashError."""
        try:
            same = _read(self.path) == self.data
        except NotebookError:
            same = False
        if not same:
            raise LashError(
                f"{self.path} was changed meanwhile (is it open?), and is left as it is; close it, and try again"
            )

    def replace(self, text: str) -> None:
        """Write the file anew, unless that would change nothing; on the disk when this returns.

        Raises:
            LashError: it is not what was read any more.
            NotebookError: it cannot be written; it is as it was.
        """
        if (data := _encoded(text)) != self.data:
            _write(Path(os.path.realpath(self.path)), data, before=self.check)

    def write_to(self, out: Path, text: str, *, force: bool = True) -> None:
        """Write another file, in the place of what is there when `force` allows that.

        Raises:
            InputError: it is this one (also by another name), or there is one.
            NotebookError: it cannot be written.
        """
        placed = Path(os.path.realpath(out))
        if placed.exists() and placed.samefile(self.path):
            raise InputError(f"{out} is the notebook {self.path} itself; name another file")
        if placed.exists() and not force:
            raise InputError(f"{out} is there already, and is not overwritten (`--force` does that)")
        _write(placed, _encoded(text))


def _encoded(text: str) -> bytes:
    """Half a surrogate pair has no UTF-8, but JSON has a form for it."""
    return text.encode("utf-8", "backslashreplace")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotebookError(f"there is no notebook {path}") from None
    except OSError as error:
        raise NotebookError(f"the notebook {path} cannot be read: {_reason(error)}") from None


def _reason(error: OSError) -> str:
    return (error.strerror or type(error).__name__).lower()


def _write(path: Path, data: bytes, *, before: Callable[[], None] | None = None) -> None:
    Output(path).probe()
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        mode = path.stat().st_mode & 0o7777 if path.exists() else None
        try:
            with open(aside, "xb") as file:
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if before is not None:
                before()
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)
        sync_directory(path.parent)
    except OSError as error:
        raise NotebookError(f"{path} cannot be written: {_reason(error)}") from None
