"""Files for what is not kept inline: written by the kernel, taken over by its host. Standard library only.

What does not fit on the disk, or into the limit of all files together, is given up; the label then says "first part".
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import Any

__all__ = ["FileSpill"]


class FileSpill:
    """Files below one directory (made on first use, 0700), `limit_bytes` for all that are there."""

    def __init__(self, directory: str, limit_bytes: int) -> None:
        self._directory = directory
        self._limit = limit_bytes
        self._held: dict[str, int] = {}
        self._count = 0

    def open(self, media_type: str, label: str) -> _File | None:
        if not self._directory:
            return None
        self._count += 1
        name = f"{os.getpid()}-{self._count}"
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            fd = os.open(os.path.join(self._directory, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        except OSError:
            return None
        self._held[name] = 0
        return _File(self, name, fd, media_type, label)

    def forget(self, token: dict[str, Any]) -> None:
        """Remove the file, if it is still ours: a host that took it over has moved it."""
        name = token.get("file")
        if name is not None and self._held.pop(name, None) is not None:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self._directory, name))

    def room(self, name: str, size: int) -> int:
        """How many of `size` bytes may still be written; files that a host took over count no more."""
        if sum(self._held.values()) + size > self._limit:
            for other in list(self._held):
                if other != name and not os.path.exists(os.path.join(self._directory, other)):
                    del self._held[other]
        return max(0, min(size, self._limit - sum(self._held.values())))

    def wrote(self, name: str, size: int) -> None:
        if name in self._held:
            self._held[name] += size


class _File:
    """One file; what fails ends the writing, not the cell."""

    def __init__(self, spill: FileSpill, name: str, fd: int, media_type: str, label: str) -> None:
        self._spill, self._name, self._fd = spill, name, fd
        self._media_type, self._label = media_type, label
        self._hash = hashlib.sha256()
        self._size = 0
        self._full = False

    def write(self, data: bytes) -> None:
        if self._full or self._fd < 0:
            return
        room = self._spill.room(self._name, len(data))
        part = memoryview(data)[:room]
        self._full = room < len(data)
        try:
            while part:
                written = os.write(self._fd, part)
                self._hash.update(part[:written])
                self._size += written
                self._spill.wrote(self._name, written)
                part = part[written:]
        except OSError:  # the disk is full: what is there stays
            self._full = True

    def peek(self) -> dict[str, Any] | None:
        if self._fd < 0:
            return None
        label = f"{self._label}, first part".lstrip(", ")
        return {
            "file": self._name, "byte_len": self._size, "media_type": self._media_type, "label": label, "open": True
        }  # fmt: skip

    def close(self) -> dict[str, Any] | None:
        if self._fd < 0:
            return None
        os.close(self._fd)
        self._fd = -1
        if not self._size:
            self._spill.forget({"file": self._name})
            return None
        return {
            "file": self._name,
            "sha256": self._hash.hexdigest(),
            "byte_len": self._size,
            "media_type": self._media_type,
            "label": f"{self._label}, first part".lstrip(", ") if self._full else self._label or None,
        }

    def discard(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
            self._spill.forget({"file": self._name})
