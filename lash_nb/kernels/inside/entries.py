"""An output as an entry of a `Record`, and what else it can be written as; pure. Used in the kernel and by its host."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from typing import Any

__all__ = ["Entry", "Token", "as_bytes", "cut_line", "nbformat_output"]

Entry = dict[str, Any]
"""One output, JSON; `Record.entries` lists its forms."""
Token = dict[str, Any]
"""Where spilled bytes are, JSON: `{file, sha256, byte_len, media_type, label}` as the kernel wrote them, or
`{id, byte_len, media_type, label}` once they are in the host's store."""


def cut_line(chars: int, lines: int, where: str = "") -> str:
    """The line that stands for what was left out."""
    return f"\n[… {chars:,} characters ({lines:,} lines) left out{where} …]\n"


def nbformat_output(entry: Mapping[str, Any]) -> dict[str, Any]:
    """An entry as an output of nbformat 4; what was cut is said inside the text."""
    match entry["t"]:
        case "stream" | "error":
            text = entry["head"] + (cut_line(entry["chars"], entry["lines"]) + entry["tail"] if entry["chars"] else "")
            if entry["t"] == "stream":
                return {"output_type": "stream", "name": entry["name"], "text": text}
            return {
                "output_type": "error",
                "ename": entry["ename"],
                "evalue": entry["evalue"],
                "traceback": text.split("\n") if text else [],
            }
        case "result":
            return {
                "output_type": "execute_result",
                "data": entry["data"],
                "metadata": entry["metadata"],
                "execution_count": entry["count"],
            }
        case "display":
            return {"output_type": "display_data", "data": entry["data"], "metadata": entry["metadata"]}
        case _:
            text = f"[{entry['n']:,} outputs left out here]"
            return {"output_type": "display_data", "data": {"text/plain": text}, "metadata": {}}


def as_bytes(mime: str, value: Any) -> bytes:
    """The representation as a file of its type would hold it."""
    if not isinstance(value, str):
        return json.dumps(value, ensure_ascii=False, default=str).encode("utf-8", "backslashreplace")
    binary = mime.split("/")[0] in {"image", "audio", "video"} and not mime.endswith("+xml")
    if binary or mime == "application/pdf":
        try:
            return base64.b64decode(value.replace("\n", ""), validate=True)
        except (binascii.Error, ValueError):
            pass
    return value.encode("utf-8", "backslashreplace")
