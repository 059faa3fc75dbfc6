"""Python values as JSON, by conversions that lose nothing. Used in the kernel; standard library only."""

from __future__ import annotations

import json
from typing import Any

__all__ = ["MAX_DEPTH", "to_json"]

MAX_DEPTH = 100


def to_json(value: Any, path: str, depth: int = 0) -> Any:
    """`value` as what `json.dumps` takes.

    Raises:
        TypeError: something in it is not JSON; the message says where, what, and what to do.
        ValueError: a number that JSON does not have, or a structure without end.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"{path[:80]}… is nested deeper than {MAX_DEPTH} levels, or contains itself")
    if value is None or isinstance(value, (bool, str)):
        return str(value) if isinstance(value, str) else value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if value != value or value in (float("inf"), float("-inf")):
            raise ValueError(f"{path} is {float(value)}, which JSON does not have; use None or a string")
        return float(value)
    if isinstance(value, (list, tuple)):
        return [to_json(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, dict):
        return _dict(value, path, depth)
    return _other(value, path, depth)


def _dict(value: dict[Any, Any], path: str, depth: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, item in value.items():
        plain = to_json(key, f"{path} key {key!r}"[:120], depth + 1)
        if isinstance(plain, (list, dict, type(None), bool)):
            raise TypeError(f"{path} has the key {plain!r}; JSON keys are strings")
        name = plain if isinstance(plain, str) else json.dumps(plain)
        if name in result:
            raise TypeError(f"{path} has two keys that are both {name!r} in JSON")
        result[name] = to_json(item, f"{path}[{name!r}]", depth + 1)
    return result


def _other(value: Any, path: str, depth: int) -> Any:
    """Sets, dates, paths, dataclasses, models; numpy's and pandas' values by what they can do, not by import."""
    import dataclasses
    import datetime
    import pathlib
    import uuid

    if isinstance(value, (set, frozenset)):
        items = [to_json(item, f"{path} item", depth + 1) for item in value]
        try:
            return sorted(items)
        except TypeError:
            raise TypeError(f"{path} is a set whose items have no order; pass a list") from None
    kind = type(value)
    if kind.__name__ in ("NaTType", "NAType"):
        return None
    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (pathlib.PurePath, uuid.UUID)):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return to_json(fields, path, depth + 1)
    if kind.__module__.partition(".")[0] == "numpy":
        if kind.__name__ == "datetime64":
            return str(value)
        if hasattr(value, "tolist") and getattr(value, "dtype", None) is not None:
            return to_json(value.tolist(), path, depth + 1)
    if callable(getattr(kind, "model_dump", None)):
        return to_json(value.model_dump(mode="json"), path, depth + 1)
    hint = "convert it to numbers, strings, lists and dicts first"
    if hasattr(kind, "to_dict") and hasattr(kind, "iloc"):
        hint = f"use .to_dict({'orient=' + repr('records') if hasattr(kind, 'columns') else ''})"
    raise TypeError(f"{path} is of type {kind.__name__}, which is not JSON; {hint}")
