"""Opening files of which somebody else may have decided what they are: regular files only, and nothing waits.

Decided here: a pipe, a device, a directory or (where that matters) a symbolic link under a file's name is refused
before a byte of it is read; what is looked at is what was opened, not what has the name. Imports nothing of the
package.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO, Literal

__all__ = ["kind_of", "open_regular"]

_NONBLOCK: int = getattr(os, "O_NONBLOCK", 0)
_NOFOLLOW: int = getattr(os, "O_NOFOLLOW", 0)
_BINARY: int = getattr(os, "O_BINARY", 0)


def open_regular(path: Path, mode: Literal["rb", "a+b"] = "rb", *, follow: bool = False) -> BinaryIO:
    """The regular file of that name; a symbolic link is one only when it is to be followed.

    `a+b` makes the file when there is none, for this user alone. Raises: OSError, also for what is no such file.
    """
    flags = os.O_RDONLY if mode == "rb" else os.O_RDWR | os.O_CREAT | os.O_APPEND
    # A pipe would block until somebody writes to it.
    flags |= _NONBLOCK | _BINARY | (0 if follow else _NOFOLLOW)
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise OSError(errno.ELOOP, "it is a symbolic link", str(path)) from error
        raise
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, f"it is {kind_of(found)}", str(path))
        return open(descriptor, mode)
    except BaseException:
        os.close(descriptor)
        raise


def kind_of(found: os.stat_result) -> str:
    """What it is, in words."""
    if stat.S_ISREG(found.st_mode):
        return "a file"
    if stat.S_ISDIR(found.st_mode):
        return "a directory"
    if stat.S_ISLNK(found.st_mode):
        return "a symbolic link"
    return "no regular file"
