"""Python values as JSON, by conversions that lose nothing. Used in the kernel; standard library only.

Decided here: a table gives its rows, as objects from column to value, and what is missing in it is null. An index that
says something is in it: a named one, or one of anything but whole numbers, makes columns (called `index` or `level_N`
when unnamed). Unnamed whole numbers are row numbers, whole or with gaps from a filter, and go. A Series with an index
that says something gives an object from label to value (one of several levels: rows), any other a list. pandas and
polars are known by the names of their classes, not by import.
"""

from __future__ import annotations

import json
from typing import Any

__all__ = ["MAX_CHARS", "MAX_DEPTH", "to_json"]

MAX_CHARS = 8_000_000
"""Of the JSON of one value; a table that cannot fit is refused before it is converted."""
MAX_DEPTH = 100
_TABLES = ("pandas", "polars")


def to_json(value: Any, path: str, depth: int = 0) -> Any:
    """`value` as what `json.dumps` takes.

    Raises:
        TypeError: something in it is not JSON; the message says where, what, and what to do.
        ValueError: a number that JSON does not have, a structure without end, or a table that is too long.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"{path[:80]}… is nested deeper than {MAX_DEPTH} levels, or contains itself")
    if value is None or isinstance(value, (bool, str)):
        return str.__str__(value) if isinstance(value, str) else value  # an Enum's own __str__ says something else
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
        name = _key(key, path, depth)
        if name in result:
            raise TypeError(f"{path} has two keys that are both {name!r} in JSON")
        result[name] = to_json(item, f"{path}[{name!r}]", depth + 1)
    return result


def _key(key: Any, path: str, depth: int) -> str:
    plain = to_json(key, f"{path} key {key!r}"[:120], depth + 1)
    if isinstance(plain, (list, dict, type(None), bool)):
        raise TypeError(f"{path} has the key {plain!r}; JSON keys are strings")
    return plain if isinstance(plain, str) else json.dumps(plain)


def _other(value: Any, path: str, depth: int) -> Any:
    """Sets, dates, paths, dataclasses, models; numpy's and pandas' values by what they can do, not by import."""
    import dataclasses
    import enum

    if isinstance(value, (set, frozenset)):
        items = [to_json(item, f"{path} item", depth + 1) for item in value]
        try:
            return sorted(items)
        except TypeError:
            raise TypeError(f"{path} is a set whose items have no order; pass a list") from None
    kind = type(value)
    if kind.__name__ in ("NaTType", "NAType"):
        return None
    written = _written(value, path)
    if written is not None:
        return written
    if isinstance(value, enum.Enum):
        return to_json(value.value, path, depth + 1)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return to_json(fields, path, depth + 1)
    if kind.__module__.partition(".")[0] == "numpy":
        if kind.__name__ == "datetime64":
            return None if str(value) == "NaT" else str(value)
        if hasattr(value, "tolist") and getattr(value, "dtype", None) is not None:
            return to_json(value.tolist(), path, depth + 1)
    if callable(getattr(kind, "model_dump", None)):
        return to_json(value.model_dump(mode="json"), path, depth + 1)
    names = {one.__name__ for one in kind.__mro__ if one.__module__.partition(".")[0] in _TABLES}
    if names:
        return _of_tables(value, names, path, depth)
    raise TypeError(f"{path} is of type {kind.__name__}, which is not JSON; convert it to {_PLAIN} first")


_PLAIN = "numbers, strings, lists and dicts"


def _written(value: Any, path: str) -> str | None:
    """What is written as a string: dates and times as ISO 8601 has them."""
    import datetime
    import decimal
    import pathlib
    import uuid

    if isinstance(value, (datetime.datetime, datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        sign, whole = ("-", -value) if value < datetime.timedelta(0) else ("", value)
        part = f".{whole.microseconds:06}".rstrip("0") if whole.microseconds else ""
        return f"{sign}P{whole.days}DT{whole.seconds}{part}S"
    if isinstance(value, decimal.Decimal):
        if not value.is_finite():
            raise ValueError(f"{path} is {value}, which JSON does not have; use None or a string")
        return str(value)
    return str(value) if isinstance(value, (pathlib.PurePath, uuid.UUID)) else None


# -- tables ------------------------------------------------------------------------------------------------------------


def _of_tables(value: Any, names: set[str], path: str, depth: int) -> Any:
    """What pandas or polars made; `names` are those of its classes."""
    if "DataFrame" in names:
        return _rows(value, path, depth)
    if names & {"Period", "Interval"}:
        return str(value)
    if "Series" in names and hasattr(value, "iloc"):
        if getattr(value.index, "nlevels", 1) > 1:
            return _rows(value.to_frame(), path, depth)
        return _labelled(value, path, depth) if _says_something(value.index) else _listed(value, path, depth)
    if names & {"Series", "Index", "ExtensionArray"}:
        return _listed(value, path, depth)
    hint = "`.collect()` it first" if hasattr(value, "collect") else f"convert it to {_PLAIN} first"
    raise TypeError(f"{path} is of type {type(value).__name__}, which is not JSON; {hint}")


def _says_something(index: Any) -> bool:
    return index.name is not None or getattr(index.dtype, "kind", "O") not in "iu"


def _listed(value: Any, path: str, depth: int) -> list[Any]:
    _bounded(len(value), 3, path)
    return [_entry(item, f"{path}[{number}]", depth + 1) for number, item in enumerate(_items(value))]


def _labelled(value: Any, path: str, depth: int) -> dict[str, Any]:
    _bounded(len(value), 7, path)
    result: dict[str, Any] = {}
    for label, item in zip(_items(value.index), _items(value), strict=True):
        name = _key(label, path, depth)
        if name in result:
            raise TypeError(f"{path} has two values under {name!r}; `.reset_index()` makes rows of them")
        result[name] = _entry(item, f"{path}[{name!r}]", depth + 1)
    return result


def _rows(frame: Any, path: str, depth: int) -> list[dict[str, Any]]:
    """One object for each row."""
    found: dict[str, Any] = {}
    for label, column in _columns(frame):
        if isinstance(label, tuple):
            raise TypeError(f"{path} has the column {label!r}; give its columns names that are strings")
        name = _key(label, f"{path} column", depth)
        if name in found:
            raise TypeError(f"{path} has two columns that are both {name!r} in JSON; rename one, or leave it out")
        found[name] = column
    _bounded(len(frame), sum(len(name) + 7 for name in found), path)
    lists = [_items(column) for column in found.values()]
    return [
        {name: _entry(item, f"{path}[{number}][{name!r}]", depth + 2) for name, item in zip(found, row, strict=True)}
        for number, row in enumerate(zip(*lists, strict=True))
    ]


def _columns(frame: Any) -> list[tuple[Any, Any]]:
    """Names and columns, with those that the index makes."""
    if not hasattr(frame, "iloc"):
        return [(column.name, column) for column in frame.get_columns()]
    columns = [(label, frame.iloc[:, place]) for place, label in enumerate(frame.columns)]
    index = frame.index
    if index.nlevels == 1:
        if not _says_something(index):
            return columns
        return [("index" if index.name is None else index.name, index), *columns]
    levels = [
        (f"level_{place}" if name is None else name, index.get_level_values(place))
        for place, name in enumerate(index.names)
    ]
    return [*levels, *columns]


def _items(column: Any) -> list[Any]:
    items: list[Any] = column.to_list() if hasattr(column, "to_list") else column.tolist()
    return items


def _entry(item: Any, path: str, depth: int) -> Any:
    """What stands in a table: NaN is how a missing one is written there."""
    if type(item).__module__ == "numpy" and type(item).__name__ != "datetime64" and getattr(item, "shape", None) == ():
        item = item.item()
    return None if isinstance(item, float) and item != item else to_json(item, path, depth)


def _bounded(rows: int, least: int, path: str) -> None:
    """`least`: characters that a row takes at least. Raises ValueError: it cannot fit."""
    if rows * least > MAX_CHARS:
        raise ValueError(
            f"{path} has {rows:,} rows, more than fit into the limit of {MAX_CHARS:,} characters of JSON; "
            "give a summary, or save it to a file and give its path"
        )
