"""The head of a GGUF file: whether it is one, and how long a text its model was trained to read.

Decided here: only what is needed before a file is given to an engine, which itself says no more than "failed". The
values are a stranger's: nothing is allocated because a number in the file says so, and one budget of bytes and of texts
holds for the whole head, however it is divided. Only regular files are read.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Imports `errors` and `_files` only.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import BinaryIO

from ..errors import WeightsError
from ._files import open_regular

__all__ = ["OTHER_FILE", "trained_context"]

_MAGIC = b"GGUF"
_MAX_PAIRS = 10_000
_MAX_KEY_BYTES = 65_535
_MAX_HEAD_BYTES = 256 * 1024 * 1024
_MAX_TEXTS = 1_500_000
"""Texts in lists, all together: the largest vocabularies have half a million words and as many merges."""
_STRING, _ARRAY = 8, 9
_INTEGERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 10: "<Q", 11: "<q"}
_SIZES = {kind: struct.calcsize(form) for kind, form in _INTEGERS.items()} | {6: 4, 7: 1, 12: 8}

OTHER_FILE = "name another file (`local:PATH.gguf`), or use `local`"
"""What to do about a file that is none."""


def trained_context(path: Path, *, instead: str = OTHER_FILE) -> int | None:
    """How many tokens the model of a file was trained to read at once; None when the file does not say.

    `instead` says what to do about a file that is none. Raises: WeightsError when there is no such file, or when it is
    no GGUF file.
    """
    try:
        with open_regular(path, follow=True) as file:
            return _context(_Head(file))
    except OSError as error:
        raise WeightsError(f"{path}: the model cannot be read ({error.strerror}); {instead}") from error
    except ValueError as error:
        raise WeightsError(f"{path} is not a GGUF file, or is damaged ({error}); {instead}") from error


class _Head:
    """The beginning of a file, read within its budget. Raises: ValueError from every method, in words."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._left = min(self._size, _MAX_HEAD_BYTES)
        self._texts = _MAX_TEXTS

    def take(self, size: int) -> bytes:
        """The next bytes."""
        self._spend(size)
        data = self._file.read(size)
        if len(data) != size:
            raise ValueError("it ends too early")
        return data

    def integer(self, form: str = "<Q") -> int:
        """The next number."""
        value: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return value

    def skip(self, size: int) -> None:
        """Go past so many bytes."""
        self._spend(size)
        self._file.seek(size, 1)

    def skip_texts(self, count: int) -> None:
        """Go past a list of texts."""
        self._texts -= count
        if self._texts < 0:
            raise ValueError(f"a list of {count:,} entries")
        read, seek, unpack = self._file.read, self._file.seek, struct.Struct("<Q").unpack  # a million times over
        for _ in range(count):
            length = read(8)
            if len(length) != 8:
                raise ValueError("it ends too early")
            (size,) = unpack(length)
            self._spend(8 + size)
            if size:
                seek(size, 1)

    def _spend(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise ValueError("it ends too early" if self._size <= _MAX_HEAD_BYTES else "its head is too large")


def _context(head: _Head) -> int | None:
    if head.take(4) != _MAGIC:
        raise ValueError("its first four bytes are not GGUF")
    version = head.integer("<I")
    if version not in (2, 3):
        raise ValueError(f"its version is {version}, 2 and 3 are known")
    head.skip(8)  # the number of tensors
    pairs = head.integer()
    if pairs > _MAX_PAIRS:
        raise ValueError(f"it claims to have {pairs:,} entries")
    for _ in range(pairs):
        size = head.integer()
        if size > _MAX_KEY_BYTES:
            raise ValueError(f"a name of {size:,} bytes")
        key, kind = head.take(size), head.integer("<I")
        if key.endswith(b".context_length") and kind in _INTEGERS:
            length = head.integer(_INTEGERS[kind])
            return length if length > 0 else None
        _skip(head, kind)
    return None


def _skip(head: _Head, kind: int) -> None:
    """Go past one value."""
    if kind in _SIZES:
        head.skip(_SIZES[kind])
    elif kind == _STRING:
        head.skip(head.integer())
    elif kind == _ARRAY:
        item, count = head.integer("<I"), head.integer()
        if item == _STRING:
            head.skip_texts(count)
        elif item in _SIZES:
            head.skip(_SIZES[item] * count)
        else:
            raise ValueError(f"a list of {count:,} entries of the kind {item}")
    else:
        raise ValueError(f"an entry of the unknown kind {kind}")
