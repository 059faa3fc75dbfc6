"""What a tool gives and takes, in Python: JSON in which an attachment may stand for a value. Standard library only.

Decided here: an attachment is an object that knows its bytes' place and fetches them when they are first asked for. It
shows itself as what it is, where that is an image; given to another tool it is the reference that it came as. It stays
in this kernel. A dict that only looks like one comes as the dict that it is.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from typing import Any

__all__ = ["MAX_CALLS", "RESERVED_KEY", "ToolAttachment", "loaded", "referenced"]

MAX_CALLS = 10_000
"""Of one cell."""
RESERVED_KEY = "$lash_tool_value"
MAX_BYTES = 256 * 1024 * 1024
"""Of an attachment that is read at once."""
MAX_SHOWN_BYTES = 16 * 1024 * 1024
MAX_DEPTH = 200
SHOWN = frozenset({"image/gif", "image/jpeg", "image/png", "image/webp"})
"""Nothing that could run in a page: it comes from a tool, for which nobody vouches."""

Fetch = Callable[[str], bytes]
"""The bytes of a handle, from the host."""


class ToolAttachment:
    """Bytes that a tool gave: `media_type`, `size`, `label`, `handle`, `url`, and `data`, which fetches them."""

    __slots__ = ("_data", "_fetch", "_source")

    def __init__(self, source: dict[str, Any], fetch: Fetch) -> None:
        self._source = source
        self._fetch = fetch
        self._data = bytes(source["bytes"]) if source.get("source") == "inline" else None

    @property
    def reference(self) -> dict[str, Any]:
        """As it is written in JSON."""
        return {RESERVED_KEY: "attachment", "source": self._source}

    @property
    def _stored(self) -> dict[str, Any]:
        return self._source.get("attachment_ref") or {}

    @property
    def media_type(self) -> str:
        """Empty where it is not known."""
        return str(self._source.get("media_type") or self._stored.get("media_type") or "")

    @property
    def label(self) -> str:
        """What its tool calls it; may be empty."""
        return str(self._stored.get("label") or "")

    @property
    def handle(self) -> str:
        """By which `read_output` reads a part of it; empty where the host does not keep it."""
        return str(self._stored.get("id") or "")

    @property
    def url(self) -> str:
        """Where it lies, if that is elsewhere; else empty."""
        return str(self._source.get("url") or "")

    @property
    def size(self) -> int | None:
        """In bytes; None where it is not known."""
        return len(self._data) if self._data is not None else self._stored.get("byte_len")

    @property
    def data(self) -> bytes:
        """The bytes; fetched once.

        Raises:
            ToolError: they are not there any more, or no cell runs.
            ValueError: they are too many to be read at once, lie elsewhere, or are damaged.
        """
        if self._data is None:
            if not self.handle:
                raise ValueError(f"{self!r} is not kept by the host, so its bytes cannot be had from there")
            if (self.size or 0) > MAX_BYTES:
                part = f"read_output({self.handle!r}, start, size)"
                raise ValueError(f"{self!r} is over {MAX_BYTES:,} bytes: {part} reads a part of it")
            data = self._fetch(self.handle)
            name, _, digest = self.handle.partition(":")
            if name == "sha256" and hashlib.sha256(data).hexdigest() != digest:
                raise ValueError(f"the bytes of {self!r} are damaged where the host keeps them")
            self._data = data
        return self._data

    def __bytes__(self) -> bytes:
        return self.data

    def __repr__(self) -> str:
        size = f", {self.size:,} bytes" if self.size is not None else ""
        place = f", {self.label or self.url}" if self.label or self.url else ""
        return f"<attachment {self.media_type or 'of unknown type'}{size}{place[:200]}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        bundle = {"text/plain": repr(self)}
        if self.media_type in SHOWN and (self.handle or self._data is not None) and (self.size or 0) <= MAX_SHOWN_BYTES:
            try:
                bundle[self.media_type] = base64.b64encode(self.data).decode()
            except Exception as error:  # it is shown by name
                bundle["text/plain"] += f" ({error})"
        return bundle

    def __copy__(self) -> ToolAttachment:
        return self

    def __deepcopy__(self, memo: Any) -> ToolAttachment:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("an attachment of a tool stays in this kernel; take its bytes: .data")


ToolAttachment.__module__ = "tools"  # not the builtins: then it would be described as one


def loaded(text: str, fetch: Fetch) -> Any:
    """The value of a call, from its JSON."""
    value = json.loads(text)
    return _read(value, fetch) if RESERVED_KEY in text else value


def _read(value: Any, fetch: Fetch) -> Any:
    if isinstance(value, list):
        return [_read(item, fetch) for item in value]
    if not isinstance(value, dict):
        return value
    if value.get(RESERVED_KEY) == "attachment":
        return ToolAttachment(value["source"], fetch)
    entries = value["entries"] if value.get(RESERVED_KEY) == "object" else value
    return {name: _read(item, fetch) for name, item in entries.items()}


def referenced(value: Any, depth: int = 0) -> Any:
    """An argument with the references of attachments in their place; everything else as it is."""
    kind = type(value)
    if kind is ToolAttachment:
        return value.reference
    if depth > MAX_DEPTH:
        return value  # what comes next says so
    if kind is dict:
        return {name: referenced(item, depth + 1) for name, item in value.items()}
    return [referenced(item, depth + 1) for item in value] if kind in (list, tuple) else value
