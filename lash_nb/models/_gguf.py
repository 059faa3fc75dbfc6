"""The head of a GGUF file: whether it is one, and how long a text its model was trained to read.

Decided here: only what is needed before a file is given to an engine, which itself says no more than "failed". The
values are a stranger's: every length is bounded, nothing is allocated because a number in the file says so.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. Imports `errors` only.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from ..errors import WeightsError

__all__ = ["trained_context"]

_MAGIC = b"GGUF"
_MAX_PAIRS = 10_000
_MAX_KEY_BYTES = 65_535
_MAX_ITEMS = 10_000_000
_STRING, _ARRAY = 8, 9
_INTEGERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 10: "<Q", 11: "<q"}
_SIZES = {kind: struct.calcsize(form) for kind, form in _INTEGERS.items()} | {6: 4, 7: 1, 12: 8}
_WHAT_TO_DO = "name another file (`local:PATH.gguf`), or use `local`"


def trained_context(path: Path) -> int | None:
    """How many tokens the model of a file was trained to read at once; None when the file does not say.

    Raises: WeightsError when there is no such file, or when it is no GGUF file.
    """
    try:
        with path.open("rb") as file:
            return _context(file)
    except OSError as error:
        raise WeightsError(f"{path}: the model cannot be read ({error.strerror}); {_WHAT_TO_DO}") from error
    except (ValueError, struct.error) as error:
        raise WeightsError(f"{path} is not a GGUF file, or is damaged ({error}); {_WHAT_TO_DO}") from error


def _context(file: BinaryIO) -> int | None:
    if file.read(4) != _MAGIC:
        raise ValueError("its first four bytes are not GGUF")
    (version,) = struct.unpack("<I", file.read(4))
    if version not in (2, 3):
        raise ValueError(f"its version is {version}, 2 and 3 are known")
    _, pairs = struct.unpack("<QQ", file.read(16))
    if pairs > _MAX_PAIRS:
        raise ValueError(f"it claims to have {pairs:,} entries")
    for _ in range(pairs):
        key = _text(file)
        (kind,) = struct.unpack("<I", file.read(4))
        if key.endswith(b".context_length") and kind in _INTEGERS:
            (length,) = struct.unpack(_INTEGERS[kind], file.read(_SIZES[kind]))
            return int(length) if length > 0 else None
        _skip(file, kind)
    return None


def _text(file: BinaryIO) -> bytes:
    (size,) = struct.unpack("<Q", file.read(8))
    if size > _MAX_KEY_BYTES:
        raise ValueError(f"a name of {size:,} bytes")
    return file.read(size)


def _skip(file: BinaryIO, kind: int) -> None:
    """Go past one value; seeking beyond the end is seen at the next read."""
    if kind in _SIZES:
        file.seek(_SIZES[kind], 1)
    elif kind == _STRING:
        (size,) = struct.unpack("<Q", file.read(8))
        file.seek(min(size, 2**40), 1)
    elif kind == _ARRAY:
        (item, count) = struct.unpack("<IQ", file.read(12))
        if count > _MAX_ITEMS or item == _ARRAY:
            raise ValueError(f"a list of {count:,} entries")
        if item in _SIZES:
            file.seek(_SIZES[item] * count, 1)
            return
        for _ in range(count):
            _skip(file, item)
    else:
        raise ValueError(f"an entry of the unknown kind {kind}")
