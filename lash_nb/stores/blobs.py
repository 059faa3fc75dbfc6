"""Content-addressed bytes: `AttachmentStore` on disk (`BlobStore`) and in memory (`MemoryBlobStore`).

Decided here: a blob's id is `sha256:<hex>`; it lies at `ab/cd/<hex>`, 0600 under 0700; it appears whole or not at all
(written aside, fsynced, renamed); what is read is checked against its name. The same bytes are stored once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
from pathlib import Path
from typing import BinaryIO

from ..errors import BlobError
from ..machine.attachments import AttachmentRef

__all__ = ["BlobStore", "MemoryBlobStore"]

_CHUNK = 1024 * 1024
_ID = re.compile(r"sha256:([0-9a-f]{64})")


def _digest(ref: AttachmentRef) -> str:
    match = _ID.fullmatch(ref.id)
    if match is None:
        raise BlobError(f"{ref.id[:100]!r} is no id of a stored blob (sha256:<64 hex digits>)")
    return match[1]


def _ref(hexdigest: str, size: int, media_type: str, label: str | None) -> AttachmentRef:
    return AttachmentRef(id=f"sha256:{hexdigest}", media_type=media_type, byte_len=size, label=label)


class BlobStore:
    """Blobs below one directory, made on first use. Safe for several processes at once."""

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)

    def put(self, data: bytes, *, media_type: str, label: str | None = None) -> AttachmentRef:
        """Store bytes; durable when it returns."""
        writer = self.writer(media_type=media_type, label=label)
        try:
            writer.write(data)
        except BaseException:
            writer.discard()
            raise
        return writer.close()

    def get(self, ref: AttachmentRef) -> bytes:
        """The bytes of a reference.

        Raises:
            BlobError: they are not here, or they are not what was stored.
        """
        hexdigest = _digest(ref)
        try:
            data = self.path(hexdigest).read_bytes()
        except FileNotFoundError:
            raise BlobError(f"blob {ref.id} is not in {self.directory}") from None
        except OSError as error:
            raise BlobError(f"blob {ref.id} cannot be read: {error.strerror}") from error
        if hashlib.sha256(data).hexdigest() != hexdigest:
            raise BlobError(f"blob {ref.id} in {self.directory} is damaged: its bytes do not hash to its name")
        return data

    def part(self, ref: AttachmentRef, *, start: int, size: int) -> bytes:
        """Up to `size` bytes of a blob from `start` on.

        Raises:
            BlobError: it is not here, or cannot be read.
        """
        try:
            with open(self.path(_digest(ref)), "rb") as file:
                file.seek(start)
                return file.read(size)
        except FileNotFoundError:
            raise BlobError(f"blob {ref.id} is not in {self.directory}") from None
        except OSError as error:
            raise BlobError(f"blob {ref.id} cannot be read: {error.strerror}") from error

    @property
    def staging(self) -> str | None:
        """Below the store itself, so that adopting is a rename."""
        return str(self.directory)

    def adopt(self, path: str, *, sha256: str, media_type: str, label: str | None = None) -> AttachmentRef:
        """Take over a regular file of this user's, which is gone from `path` afterwards; durable when it returns.

        Raises:
            BlobError: there is neither the file nor a blob of that hash, or it is no plain file of ours.
        """
        try:
            descriptor = _open_plain(path)
        except FileNotFoundError:
            known = AttachmentRef(id=f"sha256:{sha256}", media_type=media_type, byte_len=0, label=label)
            try:
                size = self.path(_digest(known)).stat().st_size
            except OSError:
                raise BlobError(f"what was to be stored is gone: {os.path.basename(path)}") from None
            return _ref(sha256, size, media_type, label)
        except OSError as error:
            raise BlobError(f"what was to be stored cannot be read: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            writer = self.writer(media_type=media_type, label=label)
            try:
                return writer.take_over(path, file)
            except BaseException:
                writer.discard()
                raise

    def writer(self, *, media_type: str, label: str | None = None) -> _FileWriter:
        """A place to write bytes whose hash is not known yet."""
        return _FileWriter(self, media_type, label)

    def path(self, hexdigest: str) -> Path:
        return self.directory / hexdigest[:2] / hexdigest[2:4] / hexdigest


class _FileWriter:
    """Bytes aside, until `close` gives them their name. Left without either call, the file is swept with the object."""

    def __init__(self, store: BlobStore, media_type: str, label: str | None) -> None:
        self._store = store
        self._media_type = media_type
        self._label = label
        self._hash = hashlib.sha256()
        self._size = 0
        try:
            _make(store.directory)
            descriptor, name = tempfile.mkstemp(prefix="incoming-", dir=store.directory)
        except OSError as error:
            raise BlobError(f"nothing can be stored in {store.directory}: {error.strerror}") from error
        self._file = os.fdopen(descriptor, "wb")
        self._path: Path | None = Path(name)

    def write(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise BlobError(f"a blob cannot be written to {self._store.directory}: {error.strerror}") from error
        self._hash.update(data)
        self._size += len(data)

    def close(self) -> AttachmentRef:
        """Durable under its name when it returns. A second call is a mistake."""
        if self._path is None:
            raise BlobError("this blob was closed or discarded already")
        hexdigest = self._hash.hexdigest()
        target = self._store.path(hexdigest)
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            _make(target.parent.parent)
            _make(target.parent)
            # Replaces an equal blob by itself, and a damaged one by a whole one.
            os.replace(self._path, target)
            _sync(target.parent)
        except OSError as error:
            self.discard()
            raise BlobError(f"a blob cannot be written to {self._store.directory}: {error.strerror}") from error
        self._path = None
        return _ref(hexdigest, self._size, self._media_type, self._label)

    def take_over(self, path: str, file: BinaryIO) -> AttachmentRef:
        """Instead of `write` and `close`: the bytes of the open file at `path`, moved where that is possible."""
        try:
            moved = os.fstat(file.fileno()).st_dev == os.fstat(self._file.fileno()).st_dev
            while chunk := file.read(_CHUNK):
                self._hash.update(chunk)
                self._size += len(chunk)
                if not moved:
                    self._file.write(chunk)
            if moved and self._path is not None:
                os.replace(path, self._path)
                os.fsync(file.fileno())
            ref = self.close()
            if not moved:
                os.unlink(path)
        except OSError as error:
            raise BlobError(f"a blob cannot be written to {self._store.directory}: {error.strerror}") from error
        return ref

    def discard(self) -> None:
        path, self._path = self._path, None
        with contextlib.suppress(OSError):
            self._file.close()
        if path is not None:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def __del__(self) -> None:
        if getattr(self, "_path", None) is not None:
            self.discard()


def _open_plain(path: str) -> int:
    """A descriptor of a regular file of this user's; no link is followed, nothing is waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    told = os.fstat(descriptor)
    if not stat.S_ISREG(told.st_mode) or told.st_uid != os.getuid():
        os.close(descriptor)
        raise BlobError(f"what was to be stored is no plain file of ours: {os.path.basename(path)}")
    return descriptor


def _make(directory: Path) -> None:
    """For the user's eyes alone, with every missing directory above it: `parents=True` leaves those to the umask."""
    if not directory.is_dir():
        _make(directory.parent)
        directory.mkdir(mode=0o700, exist_ok=True)


def _sync(directory: Path) -> None:
    """Make a rename durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class MemoryBlobStore:
    """The same contract, for tests and for sessions that keep nothing."""

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._blobs)

    def put(self, data: bytes, *, media_type: str, label: str | None = None) -> AttachmentRef:
        hexdigest = hashlib.sha256(data).hexdigest()
        self._blobs[hexdigest] = bytes(data)
        return _ref(hexdigest, len(data), media_type, label)

    def get(self, ref: AttachmentRef) -> bytes:
        try:
            return self._blobs[_digest(ref)]
        except KeyError:
            raise BlobError(f"blob {ref.id} is not in this store") from None

    def part(self, ref: AttachmentRef, *, start: int, size: int) -> bytes:
        return self.get(ref)[start : start + size]

    @property
    def staging(self) -> str | None:
        return None

    def adopt(self, path: str, *, sha256: str, media_type: str, label: str | None = None) -> AttachmentRef:
        try:
            with os.fdopen(_open_plain(path), "rb") as file:
                data = file.read()
            os.unlink(path)
        except FileNotFoundError:
            if sha256 not in self._blobs:
                raise BlobError(f"what was to be stored is gone: {os.path.basename(path)}") from None
            data = self._blobs[sha256]
        except OSError as error:
            raise BlobError(f"what was to be stored cannot be read: {error.strerror}") from error
        return self.put(data, media_type=media_type, label=label)

    def writer(self, *, media_type: str, label: str | None = None) -> _MemoryWriter:
        return _MemoryWriter(self, media_type, label)


class _MemoryWriter:
    def __init__(self, store: MemoryBlobStore, media_type: str, label: str | None) -> None:
        self._store = store
        self._media_type = media_type
        self._label = label
        self._chunks: list[bytes] | None = []

    def write(self, data: bytes) -> None:
        if self._chunks is None:
            raise BlobError("this blob was closed or discarded already")
        self._chunks.append(bytes(data))

    def close(self) -> AttachmentRef:
        if self._chunks is None:
            raise BlobError("this blob was closed or discarded already")
        chunks, self._chunks = self._chunks, None
        return self._store.put(b"".join(chunks), media_type=self._media_type, label=self._label)

    def discard(self) -> None:
        self._chunks = None
