"""What a message can carry beside text: references to stored bytes, and the contract of the store that holds them.

Records hold references, never bytes (`reference/turn-machine.md` Q9); inline bytes exist on the wire because the
reference has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Protocol, TypeAlias

from .wire import (
    STRING,
    U32,
    U64,
    Codec,
    DecodeError,
    array,
    bounded_integer,
    internally_tagged,
    omit_none,
    refined,
    strict_struct,
    struct,
    trimmed,
)

__all__ = [
    "ATTACHMENT_REF",
    "ATTACHMENT_SOURCE",
    "INLINE_BYTES",
    "MEDIA_TYPE",
    "AdoptingStore",
    "AttachmentRef",
    "AttachmentSource",
    "AttachmentStore",
    "AttachmentWriter",
    "ExternalUrl",
    "ImageMetadata",
    "InlineAttachment",
    "ProviderFile",
    "ProviderFileScope",
    "StoredAttachment",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageMetadata:
    """Size of an image in pixels, where it is known."""

    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentRef:
    """A reference to stored bytes."""

    id: str
    """The store's name of the bytes; ours are `sha256:<hex>`."""
    media_type: str
    byte_len: int
    type_metadata: ImageMetadata | None = None
    label: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InlineAttachment:
    """Bytes in the record itself (on the wire an array of integers)."""

    media_type: str
    bytes: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredAttachment:
    """Bytes in a store, by reference."""

    attachment_ref: AttachmentRef


@dataclass(frozen=True, slots=True, kw_only=True)
class ExternalUrl:
    """Bytes elsewhere; nothing of lash_nb fetches them."""

    media_type: str
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFileScope:
    """Whose file a provider file is."""

    provider: str
    credential_scope: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderFile:
    """A file that a model provider holds."""

    provider_scope: ProviderFileScope
    id: str


AttachmentSource: TypeAlias = InlineAttachment | StoredAttachment | ExternalUrl | ProviderFile


class AttachmentWriter(Protocol):
    """Bytes on their way into a store; `close` or `discard` ends it."""

    def write(self, data: bytes) -> None: ...
    def close(self) -> AttachmentRef: ...
    def discard(self) -> None: ...


class AttachmentStore(Protocol):
    """Where attachments live. What reads raises LashError when the bytes are missing or damaged."""

    def put(self, data: bytes, *, media_type: str, label: str | None = None) -> AttachmentRef: ...
    def get(self, ref: AttachmentRef) -> bytes: ...
    def writer(self, *, media_type: str, label: str | None = None) -> AttachmentWriter: ...


class AdoptingStore(AttachmentStore, Protocol):
    """A store that takes over files which others wrote, and gives parts of what is too big to be read at once."""

    def part(self, ref: AttachmentRef, *, start: int, size: int) -> bytes:
        """Up to `size` bytes from `start` on; not checked against the hash, which only the whole can be."""
        ...

    @property
    def staging(self) -> str | None:
        """A directory from which `adopt` costs no copy, if there is one."""
        ...

    def adopt(self, path: str, *, sha256: str, media_type: str, label: str | None = None) -> AttachmentRef:
        """Take over the file that someone else wrote, which is gone from there afterwards; its own hash names it.

        `sha256` is what it is said to hold: where there is no file but a blob of that name, that is the answer.
        """
        ...


_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)
_TOKEN = frozenset(ascii_lowercase + digits + "!#$%&'*+-.^_`|~")


def _media_type(text: str) -> str:
    """Trimmed and lower-cased `type/subtype`, both MIME tokens; anything else (parameters, blanks) is refused."""
    normal = trimmed(text).translate(_LOWER)
    names = normal.split("/")
    if len(names) != 2 or not all(name and _TOKEN.issuperset(name) for name in names):
        raise DecodeError(f"{text!r} is not a media type (type/subtype, no parameters)")
    return normal


MEDIA_TYPE: Codec[str] = refined(STRING, _media_type)
INLINE_BYTES: Codec[bytes] = Codec(list, array(bounded_integer(0, 255), bytes).decode)

_TYPE_METADATA: Codec[ImageMetadata] = internally_tagged(
    "attachment metadata",
    "type",
    {"image": (ImageMetadata, strict_struct(ImageMetadata, width=omit_none(U32), height=omit_none(U32)))},
)
ATTACHMENT_REF: Codec[AttachmentRef] = struct(
    AttachmentRef,
    id=STRING,
    media_type=MEDIA_TYPE,
    byte_len=U64,
    type_metadata=omit_none(_TYPE_METADATA),
    label=omit_none(STRING),
)
_PROVIDER_SCOPE = strict_struct(ProviderFileScope, provider=STRING, credential_scope=STRING)
ATTACHMENT_SOURCE: Codec[AttachmentSource] = internally_tagged(
    "attachment source",
    "source",
    {
        "inline": (
            InlineAttachment,
            strict_struct(InlineAttachment, media_type=MEDIA_TYPE, bytes=INLINE_BYTES),
        ),
        "stored": (StoredAttachment, strict_struct(StoredAttachment, attachment_ref=ATTACHMENT_REF)),
        "external_url": (ExternalUrl, strict_struct(ExternalUrl, media_type=MEDIA_TYPE, url=STRING)),
        "provider_file": (
            ProviderFile,
            strict_struct(ProviderFile, provider_scope=_PROVIDER_SCOPE, id=STRING),
        ),
    },
)
