"""An entry's rich bundle as an output holds it: what was moved out is said beside what stayed; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from ..machine.attachments import AttachmentRef
from ..machine.wire import Json

__all__ = ["NOTE_KEY", "BundleLimits", "noted_bundle"]

NOTE_KEY = "lash_nb"
"""Where an output's metadata says what was left out:
`{"spilled": {mime: {id, media_type, byte_len}}, "omitted": {mime: bytes}, "buffers": [{id, …}]}`."""

Resolve = Callable[[Mapping[str, Any] | None], AttachmentRef | None]
"""What a token stands for in the host's store; None while it is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BundleLimits:
    """`text/plain` is cut in the middle; any other representation over a limit is moved out whole."""

    text_head_chars: int = 32 * 1024
    text_tail_chars: int = 32 * 1024
    value_bytes: int = 4 * 1024 * 1024
    cell_bytes: int = 16 * 1024 * 1024


def noted_bundle(entry: Mapping[str, Any], resolve: Resolve) -> tuple[dict[str, Json], dict[str, Json]]:
    """`(data, metadata)` of a display or result."""
    data, metadata = dict(entry["data"]), dict(entry["metadata"])
    spilled: dict[str, Json] = {}
    omitted: dict[str, Json] = {mime: size for mime, size in entry["left"].items()}
    notes = [f"[{mime}, {size:,} bytes: left out, over the limit]" for mime, size in entry["left"].items()]
    for mime, token in entry["kept"].items():
        ref = resolve(token)
        if ref is None:
            omitted[mime] = token["byte_len"]
            notes.append(f"[{mime}, {token['byte_len']:,} bytes: left out, they could not be kept]")
        else:
            spilled[mime] = _named(ref)
            notes.append(f"[{mime}, {ref.byte_len:,} bytes: kept whole in {ref.id}]")
    buffers = [resolve(token) for token in entry["buffers"]]
    note: dict[str, Any] = {
        "spilled": spilled,
        "omitted": omitted,
        "buffers": [_named(ref) if ref is not None else None for ref in buffers],
    }
    if any(note.values()):
        metadata[NOTE_KEY] = cast("Json", {key: value for key, value in note.items() if value})
    if notes:
        plain = data.get("text/plain")
        data["text/plain"] = "\n".join([plain, *notes] if isinstance(plain, str) else notes)
    return data, metadata


def _named(ref: AttachmentRef) -> dict[str, Json]:
    return {"id": ref.id, "media_type": ref.media_type, "byte_len": ref.byte_len}
