"""`finish(value)`: ends the cell and hands a JSON value to the host. Runs in the kernel.

The value travels in the payload of the cell's reply, never through stdout. The exception is a `BaseException`, so that
`except Exception` does not swallow it; when something did, and the cell then ended well, the value counts all the same.
Conversions are only those that lose nothing.
"""

from __future__ import annotations

import json
import threading
from typing import Any

NAME = "LashFinish"
MAX_CHARS = 8_000_000
MAX_DEPTH = 100


class LashFinish(BaseException):
    """Ends the cell; it is no error."""


def convert(value: Any, path: str = "value", depth: int = 0) -> Any:
    """`value` as what `json.dumps` takes.

    Raises:
        TypeError: something in it is not JSON; the message says where, what, and what to do.
        ValueError: a number that JSON does not have, or a structure without end.
    """
    __tracebackhide__ = True
    if depth > MAX_DEPTH:
        raise ValueError(f"finish(): {path[:80]}… is nested deeper than {MAX_DEPTH} levels, or contains itself")
    if value is None or isinstance(value, (bool, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"finish(): {path} is {float(value)}, which JSON does not have; use None or a string")
        return float(value)
    if isinstance(value, (list, tuple)):
        return [convert(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return convert_dict(value, path, depth)
    return convert_other(value, path, depth)


def convert_dict(value: dict[Any, Any], path: str, depth: int) -> dict[str, Any]:
    __tracebackhide__ = True
    result: dict[str, Any] = {}
    for key, item in value.items():
        plain = convert(key, f"{path} key {key!r}"[:120], depth + 1)
        if isinstance(plain, (list, dict, type(None), bool)):
            raise TypeError(f"finish(): {path} has the key {plain!r}; JSON keys are strings")
        name = plain if isinstance(plain, str) else json.dumps(plain)
        if name in result:
            raise TypeError(f"finish(): {path} has two keys that are both {name!r} in JSON")
        result[name] = convert(item, f"{path}[{name!r}]", depth + 1)
    return result


def convert_other(value: Any, path: str, depth: int) -> Any:
    """Sets, dates, paths, dataclasses, models; numpy's and pandas' values by what they can do, not by import."""
    __tracebackhide__ = True
    import dataclasses
    import datetime
    import pathlib
    import uuid

    if isinstance(value, (set, frozenset)):
        items = [convert(item, f"{path} item", depth + 1) for item in value]
        try:
            return sorted(items)
        except TypeError:
            raise TypeError(f"finish(): {path} is a set whose items have no order; pass a list") from None
    kind = type(value)
    if kind.__name__ in ("NaTType", "NAType"):
        return None
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (pathlib.PurePath, uuid.UUID)):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return convert(fields, path, depth + 1)
    if kind.__module__.partition(".")[0] == "numpy":
        if kind.__name__ == "datetime64":
            return str(value)
        if hasattr(value, "tolist") and getattr(value, "dtype", None) is not None:
            return convert(value.tolist(), path, depth + 1)
    if callable(getattr(kind, "model_dump", None)):
        return convert(value.model_dump(mode="json"), path, depth + 1)
    hint = "convert it to numbers, strings, lists and dicts first"
    if hasattr(kind, "to_dict") and hasattr(kind, "iloc"):
        hint = f"use .to_dict({'orient=' + repr('records') if hasattr(kind, 'columns') else ''})"
    raise TypeError(f"finish(): {path} is of type {kind.__name__}, which is not JSON; {hint}")


def install(shell: Any) -> None:
    """Put `finish` beside the builtins, and make its exception end a cell in silence."""
    import builtins

    def finish(value: Any = None) -> None:
        """End this cell and the task, and return `value` (anything JSON can hold) to whoever asked."""
        __tracebackhide__ = True
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("finish() must be called by the cell itself, not by a thread of it")
        try:
            text = json.dumps(convert(value), allow_nan=False)
        except (TypeError, ValueError) as error:
            raise type(error)(str(error)) from None  # without our own frames
        if len(text) > MAX_CHARS:
            raise ValueError(
                f"finish(): the value is {len(text):,} characters of JSON, over the limit of {MAX_CHARS:,}; "
                "give a summary, or save it to a file and give its path"
            )
        shell.payload_manager.write_payload({"source": NAME, "value": text})
        raise LashFinish

    def silent(shell: Any, etype: Any, value: Any, tb: Any, tb_offset: Any = None) -> list[str]:
        return []

    shell.payload_manager.write_payload  # noqa: B018 (a feature test)
    shell.set_custom_exc((LashFinish,), silent)
    finish.__module__ = "builtins"
    builtins.finish = finish  # type: ignore[attr-defined]
