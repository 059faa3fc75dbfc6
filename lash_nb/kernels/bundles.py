"""Rich bundles within limits: which representations stay inline, which go to the store, and what is said; pure."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from ..errors import LashError
from ..machine.messages import AttachmentRef, AttachmentStore
from ..machine.wire import Json

__all__ = ["NOTE_KEY", "BundleLimits", "Bundler", "clip"]

NOTE_KEY = "lash_nb"
"""Where an output's metadata says what was left out:
`{"spilled": {mime: {id, media_type, byte_len}}, "omitted": {mime: bytes}}`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleLimits:
    """`text/plain` is cut in the middle; any other representation over a limit is moved out whole."""

    text_head_chars: int = 32 * 1024
    text_tail_chars: int = 32 * 1024
    value_bytes: int = 4 * 1024 * 1024
    cell_bytes: int = 16 * 1024 * 1024


class Bundler:
    """Applies the limits to the `data` and `metadata` of one message after another."""

    def __init__(self, limits: BundleLimits, store: AttachmentStore | None) -> None:
        self._limits = limits
        self._store = store

    def bundle(
        self, content: Mapping[str, object], *, inline_so_far: int
    ) -> tuple[dict[str, Json], dict[str, Json], int]:
        """`(data, metadata, bytes kept inline)`; `inline_so_far` is what the cell's other bundles hold."""
        raw, raw_metadata = content.get("data"), content.get("metadata")
        metadata = cast("dict[str, Json]", dict(raw_metadata)) if isinstance(raw_metadata, Mapping) else {}
        data: dict[str, Json] = {}
        spilled: dict[str, Json] = {}
        omitted: dict[str, Json] = {}
        notes: list[str] = []
        used = 0
        for mime, value in raw.items() if isinstance(raw, Mapping) else ():
            mime, value = str(mime), cast("Json", value)
            size = _size(value)
            if mime == "text/plain" and isinstance(value, str):
                kept = clip(value, self._limits.text_head_chars, self._limits.text_tail_chars)
                data[mime] = kept
                used += len(kept)
                if kept is value:
                    continue
            elif size <= self._limits.value_bytes and inline_so_far + used + size <= self._limits.cell_bytes:
                data[mime] = value
                used += size
                continue
            ref = self._spill(mime, value)
            if ref is None:
                omitted[mime] = size
                notes.append(f"[{mime}, {size:,} bytes: left out, over the limit]")
            else:
                spilled[mime] = {"id": ref.id, "media_type": ref.media_type, "byte_len": ref.byte_len}
                notes.append(f"[{mime}, {ref.byte_len:,} bytes: kept whole in {ref.id}]")
        if notes:
            note = {"spilled": spilled, "omitted": omitted}
            metadata[NOTE_KEY] = cast("Json", {key: value for key, value in note.items() if value})
            plain = data.get("text/plain")
            data["text/plain"] = "\n".join([plain, *notes] if isinstance(plain, str) else notes)
        return data, metadata, used

    def _spill(self, mime: str, value: Json) -> AttachmentRef | None:
        if self._store is None:
            return None
        try:
            return self._store.put(_bytes(mime, value), media_type=mime)
        except (LashError, OSError):
            return None


def clip(text: str, head_chars: int, tail_chars: int) -> str:
    """The text itself when it fits, else its head and tail around a line that counts what is missing."""
    cut = len(text) - head_chars - tail_chars
    if cut <= 0:
        return text
    lines = text.count("\n", head_chars, head_chars + cut)
    marker = f"\n[… {cut:,} characters ({lines:,} lines) left out …]\n"
    return text[:head_chars] + marker + text[head_chars + cut :]


def _size(value: Json) -> int:
    return len(value) if isinstance(value, str) else len(json.dumps(value))


def _bytes(mime: str, value: Json) -> bytes:
    """The representation as a file of its type would hold it."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).encode()
    binary = mime.split("/")[0] in {"image", "audio", "video"} and not mime.endswith("+xml")
    if binary or mime == "application/pdf":
        try:
            return base64.b64decode(value.replace("\n", ""), validate=True)
        except (binascii.Error, ValueError):
            pass
    return value.encode("utf-8", "backslashreplace")
