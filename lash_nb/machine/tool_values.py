"""Tool values: plain JSON in which an attachment may stand for a value.

`{"$lash_tool_value": "attachment", "source": …}` is an attachment; a user's object that itself holds that key is
written as `{"$lash_tool_value": "object", "entries": …}`. Kept in memory in that same, checked and normalised form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .attachments import ATTACHMENT_SOURCE
from .wire import Codec, DecodeError, canonical_json

__all__ = ["RESERVED_KEY", "TOOL_VALUE"]

RESERVED_KEY = "$lash_tool_value"


def _tool_value(value: Any) -> Any:
    """Checked and normalised: reserved tags are refused when malformed, an escape that escapes nothing is undone."""
    if isinstance(value, (list, tuple)):
        return [_within(f"[{index}]", _tool_value, item) for index, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return canonical_json(value)
    if RESERVED_KEY not in value:
        return _tool_object(value)
    tag = value[RESERVED_KEY]
    if tag == "attachment" and set(value) == {RESERVED_KEY, "source"}:
        source = _within("source", ATTACHMENT_SOURCE.decode, value["source"])
        return {RESERVED_KEY: "attachment", "source": ATTACHMENT_SOURCE.encode(source)}
    if tag == "object" and set(value) == {RESERVED_KEY, "entries"} and isinstance(value["entries"], Mapping):
        entries = _within("entries", _tool_object, value["entries"])
        return {RESERVED_KEY: "object", "entries": entries} if RESERVED_KEY in entries else entries
    raise DecodeError(f'a tool value with {RESERVED_KEY!r} is {{"attachment", source}} or {{"object", entries}}')


def _tool_object(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _within(key, _tool_value, entries[key]) for key in sorted(entries)}


def _within(step: str, read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except DecodeError as error:
        raise error.under(step) from None


def _checked_tool_value(value: Any) -> Any:
    try:
        return _tool_value(value)
    except RecursionError:
        raise DecodeError("this JSON is nested too deeply") from None


TOOL_VALUE: Codec[Any] = Codec(_checked_tool_value, _checked_tool_value)
