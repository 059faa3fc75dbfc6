"""What one output of a cell shows: text, an image, or safe markup; all of it cleaned and cut.

Decided here: which representation of a bundle is shown (images, then tables and the like, then text), how text is
cleaned (no terminal codes, no control characters, no invisible change of reading direction), and how much of it. What
is cut is counted. Nothing here depends on the time or on ids, so that two replays of a notebook look the same.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, cast

from ..errors import LashError
from ..machine.attachments import AttachmentRef, AttachmentStore
from ..machine.execution import CellOutput, ErrorOutput, StreamOutput
from ..machine.tracebacks import traceback_text
from ..machine.wire import Json
from .markup import safe_markup

__all__ = [
    "ImagePiece",
    "MarkupPiece",
    "Piece",
    "TextPiece",
    "clean",
    "cut",
    "left_out",
    "pieces",
    "size_text",
    "value_text",
]

_HEAD_CHARS, _TAIL_CHARS = 7_000, 3_000
_MARKUP_CHARS = 200_000
_IMAGE_BYTES = 8 * 1024 * 1024
"""The largest image that is brought back from the store to be shown."""

_RASTER = ("image/png", "image/jpeg", "image/gif", "image/webp")
_SVG = "image/svg+xml"
_TEXTS = ("text/plain", "text/markdown", "text/latex", "application/json")

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\^_])")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_BIDI = re.compile(r"[\u202a-\u202e\u2066-\u2069]")
_MARKS = (
    r"[\u0300-\u036f\u0483-\u0489\u0591-\u05bd\u0610-\u061a\u064b-\u065f\u0e31\u0e34-\u0e3a\u0e47-\u0e4e"
    r"\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
)
_FLOOD = re.compile(rf"({_MARKS}{{8}}){_MARKS}+")
"""More marks on one letter than any language has: they would be painted over the lines around."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextPiece:
    """Text; not escaped for anything yet."""

    name: Literal["stdout", "stderr", "text", "error"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImagePiece:
    """An image; `data` is base64, also of an SVG."""

    media_type: str
    data: str
    size: int

    @property
    def label(self) -> str:
        return f"{self.media_type} {size_text(self.size)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkupPiece:
    """HTML that is safe to show, and the same as text."""

    markup: str
    text: str


Piece: TypeAlias = TextPiece | ImagePiece | MarkupPiece


def clean(text: str) -> str:
    """The text without terminal codes, control characters and floods of marks; changes of direction become visible."""
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    text = _CONTROL.sub("", text.replace("\r\n", "\n"))
    if text.isascii():
        return text
    return _BIDI.sub(lambda found: f"\\u{ord(found[0]):04x}", _FLOOD.sub(r"\1", text))


def cut(text: str, *, head_chars: int = _HEAD_CHARS, tail_chars: int = _TAIL_CHARS) -> str:
    """The text itself when it fits, else its head and tail around a line that counts what is missing."""
    missing = len(text) - head_chars - tail_chars
    if missing <= 0:
        return text
    lines = text.count("\n", head_chars, head_chars + missing)
    return f"{text[:head_chars]}\n{left_out(missing, lines)}\n{text[head_chars + missing :]}"


def left_out(chars: int, lines: int) -> str:
    """What stands where a text was cut."""
    return f"[… {chars:,} characters ({lines:,} lines) left out …]"


def size_text(size: int) -> str:
    """A number of bytes for people."""
    if size < 1024:
        return f"{size} bytes"
    return f"{size / 1024:.0f} KB" if size < 1024 * 1024 else f"{size / 1024 / 1024:.1f} MB"


def value_text(value: Json) -> str:
    """A JSON value for people: a text as itself, anything else indented."""
    return cut(clean(value if isinstance(value, str) else _json_text(value)))


def _json_text(value: Json) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, indent=2)
    except RecursionError:
        return "[a value nested too deeply to be shown]"


def pieces(outputs: Iterable[CellOutput], *, store: AttachmentStore | None = None) -> tuple[Piece, ...]:
    """What the outputs of a cell show, in order; `store` is asked for images that were too large to keep inline."""
    return tuple(piece for output in outputs if (piece := _piece(output, store)) is not None)


def _piece(output: CellOutput, store: AttachmentStore | None) -> Piece | None:
    if isinstance(output, StreamOutput):
        head = clean(output.head)
        if output.omitted_chars:
            # Both ends are cut by themselves, or the count in the middle would be of the wrong text.
            head = cut(head, head_chars=_HEAD_CHARS, tail_chars=0)
            tail = cut(clean(output.tail), head_chars=0, tail_chars=_TAIL_CHARS)
            head = f"{head}\n{left_out(output.omitted_chars, output.omitted_lines)}\n{tail}"
        else:
            head = cut(head)
        return TextPiece(name=output.name, text=head) if head.strip("\n") else None
    if isinstance(output, ErrorOutput):
        text = traceback_text(output)
        return TextPiece(name="error", text=cut(clean(text)))
    return _bundle(output.data, output.metadata, store)


def _bundle(data: Mapping[str, Json], metadata: Mapping[str, Json], store: AttachmentStore | None) -> Piece | None:
    image = _image(data) or _stored_image(metadata, store)
    if image is not None:
        return image
    plain = next((_joined(data[mime]) for mime in _TEXTS if mime in data), None)
    text = None if plain is None else cut(clean(plain))
    markup = _joined(data["text/html"]) if "text/html" in data else ""
    if 0 < len(markup) <= _MARKUP_CHARS:
        safe = safe_markup(clean(markup))
        if safe.whole or (text is None and safe.markup):
            return MarkupPiece(markup=safe.markup, text=text or cut(safe.text))
    if text is not None:
        return TextPiece(name="text", text=text) if text.strip() else None
    known = ", ".join(f"{clean(mime)[:100]} {size_text(len(_joined(value)))}" for mime, value in data.items())
    return TextPiece(name="text", text=f"[{known}]") if known else None


def _image(data: Mapping[str, Json]) -> ImagePiece | None:
    for mime in _RASTER:
        if mime in data:
            encoded = "".join(_joined(data[mime]).split())
            try:
                size = len(base64.b64decode(encoded, validate=True))
            except (binascii.Error, ValueError):
                continue
            return ImagePiece(media_type=mime, data=encoded, size=size)
    if _SVG in data:
        raw = _joined(data[_SVG]).encode("utf-8", "replace")
        return ImagePiece(media_type=_SVG, data=base64.b64encode(raw).decode("ascii"), size=len(raw))
    return None


def _stored_image(metadata: Mapping[str, Json], store: AttachmentStore | None) -> ImagePiece | None:
    """An image that the kernel's fold moved into the store; a store that lacks it costs the image only."""
    note = metadata.get("lash_nb")
    spilled = note.get("spilled") if isinstance(note, Mapping) else None
    if store is None or not isinstance(spilled, Mapping):
        return None
    for mime in _RASTER:
        found = spilled.get(mime)
        if not isinstance(found, Mapping):
            continue
        name, size = found.get("id"), found.get("byte_len")
        if not isinstance(name, str) or not isinstance(size, int) or size > _IMAGE_BYTES:
            continue
        try:
            raw = store.get(AttachmentRef(id=name, media_type=mime, byte_len=size))
        except (LashError, OSError):
            continue
        return ImagePiece(media_type=mime, data=base64.b64encode(raw).decode("ascii"), size=len(raw))
    return None


def _joined(value: Json) -> str:
    """A representation as text; on disk, long ones are lists of lines."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(line, str) for line in value):
        return "".join(cast("Iterable[str]", value))
    return _json_text(value)
