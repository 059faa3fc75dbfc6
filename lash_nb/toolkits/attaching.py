"""A function's value as JSON in which attachments stand for bytes and pictures.

Decided here: bytes, figures of matplotlib and whatever shows itself as PNG, JPEG or SVG become attachments, wherever
they stand in lists, dicts and dataclasses: references into the session's store, or inline without one. Everything else
becomes JSON as the value that `finish` gives does (`kernels.inside.json_values`). A dict that holds our reserved key
stays a dict: what a tool has read somewhere cannot name an attachment.
"""

from __future__ import annotations

import binascii
import dataclasses
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import LashError, ToolError
from ..kernels.inside.json_values import MAX_DEPTH, to_json
from ..machine.attachments import (
    ATTACHMENT_SOURCE,
    MEDIA_TYPE,
    AttachmentSource,
    AttachmentStore,
    ExternalUrl,
    InlineAttachment,
    ProviderFile,
    StoredAttachment,
)
from ..machine.tool_calls import RESERVED_KEY
from ..machine.wire import Json

__all__ = ["Attachment", "media_type_of", "tagged", "tool_value"]

_MOST_CONTAINERS = 500_000
"""Lists and dicts in one value: what holds the same twice on each of many levels would fill the memory."""
_MOST_ATTACHMENTS = 100
_MOST_BYTES = 64 * 1024 * 1024
"""Of all attachments of one value."""
_MOST_INLINE_BYTES = 4 * 1024 * 1024
"""Of those that stand in the record itself, without a store."""
_BEGINNINGS = (
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"%PDF-", "application/pdf"),
)
_PICTURES = (("_repr_png_", "image/png"), ("_repr_jpeg_", "image/jpeg"), ("_repr_svg_", "image/svg+xml"))
_SOURCES = (InlineAttachment, StoredAttachment, ExternalUrl, ProviderFile)
_PLAIN = (str, int, float, bool, type(None))


@dataclass(frozen=True, slots=True)
class Attachment:
    """Bytes with their media type (`image/png`), which a function gives beside or within its value, or takes.

    A parameter of this type is given what another tool gave.
    """

    data: bytes
    media_type: str = ""
    """Empty: what the bytes look like."""
    label: str = ""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """Arguments are read by it, with the store as the context's `store`."""
        from pydantic_core import core_schema

        return core_schema.with_info_plain_validator_function(_taken)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict[str, Any]:
        """Its form in values and arguments."""
        properties = {RESERVED_KEY: {"const": "attachment"}, "source": {"type": "object"}}
        return {"type": "object", "properties": properties, "required": [RESERVED_KEY, "source"]}


def _taken(value: Any, info: Any) -> Attachment:
    """An argument as an attachment. Raises ValueError: it is none, or its bytes cannot be had."""
    if not isinstance(value, Mapping) or value.get(RESERVED_KEY) != "attachment":
        raise ValueError("an attachment is wanted, as another tool gave it")
    source = ATTACHMENT_SOURCE.decode(value.get("source"))
    if isinstance(source, InlineAttachment):
        return Attachment(source.bytes, source.media_type)
    store: AttachmentStore | None = (info.context or {}).get("store")
    if not isinstance(source, StoredAttachment) or store is None:
        raise ValueError("the bytes of this attachment are not kept here")
    ref = source.attachment_ref
    try:
        return Attachment(store.get(ref), ref.media_type, ref.label or "")
    except LashError as error:
        raise ValueError(str(error)) from None


def media_type_of(data: bytes) -> str:
    """What the beginning of the bytes looks like."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return next((name for start, name in _BEGINNINGS if data.startswith(start)), "application/octet-stream")


def tagged(source: AttachmentSource) -> dict[str, Json]:
    """An attachment as it stands in a tool's value."""
    return {RESERVED_KEY: "attachment", "source": ATTACHMENT_SOURCE.encode(source)}


def tool_value(value: Any, store: AttachmentStore | None) -> Json:
    """The value as `TOOL_VALUE` takes it.

    Raises:
        TypeError: something in it is not JSON; the message says where, and what to do.
        ValueError: a number that JSON does not have, a structure without end, or one that is too big.
        ToolError: its attachments are too big, or too many.
        LashError: the store does not take them.
    """
    result: Json = to_json(_Values(store).plain(value, 0), "value")
    return result


class _Values:
    """One value on its way; counts what is in it."""

    def __init__(self, store: AttachmentStore | None) -> None:
        self._store = store
        self._containers = self._attachments = self._bytes = 0

    def plain(self, value: Any, depth: int) -> Any:
        """The value with its attachments tagged; what else is no JSON is as it was."""
        if type(value) in _PLAIN:
            return value
        if depth > MAX_DEPTH:
            raise ValueError(f"the value is nested deeper than {MAX_DEPTH} levels, or contains itself")
        source = self._source(value)
        if source is not None:
            return tagged(source)
        if isinstance(value, dict):
            self._count()
            entries = {key: self.plain(item, depth + 1) for key, item in value.items()}
            return {RESERVED_KEY: "object", "entries": entries} if RESERVED_KEY in entries else entries
        if isinstance(value, (list, tuple)):
            self._count()
            return [self.plain(item, depth + 1) for item in value]
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return self.plain({one.name: getattr(value, one.name) for one in dataclasses.fields(value)}, depth)
        return value

    def _count(self) -> None:
        self._containers += 1
        if self._containers > _MOST_CONTAINERS:
            raise ValueError(
                f"the value has more than {_MOST_CONTAINERS:,} lists and dicts; give a summary, or save it to a file"
            )

    def _source(self, value: Any) -> AttachmentSource | None:
        """The value as an attachment, if it is to be one."""
        if isinstance(value, _SOURCES):
            return value
        if isinstance(value, Attachment):
            return self._kept(bytes(value.data), value.media_type, value.label)
        if isinstance(value, (bytes, bytearray, memoryview)):
            return self._kept(bytes(value), "", "")
        picture = _picture(value)
        return None if picture is None else self._kept(picture[0], picture[1], "")

    def _kept(self, data: bytes, media_type: str, label: str) -> AttachmentSource:
        self._attachments, self._bytes = self._attachments + 1, self._bytes + len(data)
        most = _MOST_BYTES if self._store is not None else _MOST_INLINE_BYTES
        if self._bytes > most or self._attachments > _MOST_ATTACHMENTS:
            raise ToolError(
                f"the tool gave more than {_MOST_ATTACHMENTS} attachments, or more than {most:,} bytes of them",
                kind="resource_limit",
                code="attachments_too_big",
            )
        media_type = MEDIA_TYPE.decode(media_type or media_type_of(data))
        if self._store is None:
            return InlineAttachment(media_type=media_type, bytes=data)
        return StoredAttachment(attachment_ref=self._store.put(data, media_type=media_type, label=label or None))


def _picture(value: Any) -> tuple[bytes, str] | None:
    """What shows itself as a picture, as bytes. By what it can do, not by import."""
    kind = type(value)
    if isinstance(value, (type, Mapping, list, tuple)):
        return None
    for method, media_type in _PICTURES:
        if callable(getattr(kind, method, None)):
            shown = getattr(value, method)()
            shown = shown[0] if isinstance(shown, tuple) and shown else shown  # with metadata
            if isinstance(shown, str):  # IPython.display.Image gives base64
                shown = shown.encode() if media_type == "image/svg+xml" else binascii.a2b_base64(shown)
            if isinstance(shown, bytes) and shown:
                return shown, media_type
    figure = _figure(value)
    if figure is None:
        return None
    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    return file.getvalue(), "image/png"


def _figure(value: Any) -> Any:
    """A figure of matplotlib, or that of its axes."""
    for kind in type(value).__mro__:
        if kind.__module__ == "matplotlib.figure" and kind.__name__ == "Figure":
            return value
        if kind.__module__.startswith("matplotlib.axes") and kind.__name__ == "Axes":
            return value.figure
    return None
