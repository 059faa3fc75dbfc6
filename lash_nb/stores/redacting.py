"""A store that keeps no secret in a text: what goes in is redacted on its way.

Decided here: what counts as text is said by the media type; bytes of other kinds go in as they are. A text may be
larger than memory, so it is read in pieces that overlap by more than any secret is long. One that holds no secret is
taken over as the file that it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..errors import BlobError
from ..machine.attachments import AdoptingStore, AttachmentRef, AttachmentWriter
from ..trust import Redactor

__all__ = ["RedactingStore"]

_PIECE = 4 * 1024 * 1024
_OVERLAP = 8 * 1024
"""Bytes; no secret that is looked for is longer."""


class RedactingStore:
    """`store` behind a `redactor`."""

    def __init__(self, store: AdoptingStore, redactor: Redactor) -> None:
        self._store = store
        self._redactor = redactor

    def put(self, data: bytes, *, media_type: str, label: str | None = None) -> AttachmentRef:
        kept = self._redactor.data(data) if _is_text(media_type) else data
        return self._store.put(kept, media_type=media_type, label=label)

    def get(self, ref: AttachmentRef) -> bytes:
        return self._store.get(ref)

    def part(self, ref: AttachmentRef, *, start: int, size: int) -> bytes:
        return self._store.part(ref, start=start, size=size)

    @property
    def staging(self) -> str | None:
        return self._store.staging

    def writer(self, *, media_type: str, label: str | None = None) -> AttachmentWriter:
        writer = self._store.writer(media_type=media_type, label=label)
        return _RedactingWriter(writer, self._redactor) if _is_text(media_type) else writer

    def adopt(self, path: str, *, sha256: str, media_type: str, label: str | None = None) -> AttachmentRef:
        if not _is_text(media_type) or not self._holds_secret(path):
            return self._store.adopt(path, sha256=sha256, media_type=media_type, label=label)
        writer = self.writer(media_type=media_type, label=label)
        try:
            for piece in _pieces(path):
                writer.write(piece)
            ref = writer.close()
            os.unlink(path)
        except OSError as error:
            writer.discard()
            raise BlobError(f"what was to be stored cannot be read: {error.strerror}") from error
        except BaseException:
            writer.discard()
            raise
        return ref

    def _holds_secret(self, path: str) -> bool:
        """Whether the file holds one; what cannot be read is the store's affair."""
        before = b""
        try:
            for piece in _pieces(path):
                if self._redactor.holds_secret(before + piece):
                    return True
                before = piece[-_OVERLAP:]
        except OSError:
            pass
        return False


class _RedactingWriter:
    """Holds back what may be the beginning of a secret."""

    def __init__(self, writer: AttachmentWriter, redactor: Redactor) -> None:
        self._writer = writer
        self._redactor = redactor
        self._held = b""

    def write(self, data: bytes) -> None:
        held = self._held + data
        cut = self._redactor.boundary(held, len(held) - _OVERLAP)
        if cut > 0:
            self._writer.write(self._redactor.data(held[:cut]))
            held = held[cut:]
        self._held = held

    def close(self) -> AttachmentRef:
        held, self._held = self._held, b""
        if held:
            self._writer.write(self._redactor.data(held))
        return self._writer.close()

    def discard(self) -> None:
        self._held = b""
        self._writer.discard()


def _is_text(media_type: str) -> bool:
    return media_type.startswith("text/") or media_type.endswith(("json", "xml", "javascript"))


def _pieces(path: str) -> Iterator[bytes]:
    """The bytes of a plain file; no link is followed, nothing is waited for."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
        while piece := file.read(_PIECE):
            yield piece
