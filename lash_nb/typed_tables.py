"""Tables among the types that a turn can give: what a JSON Schema says of their columns, and a value as a DataFrame.

Decided here: an array of objects is a table, by rows; an object of which every property is an array is one, by columns.
Whoever wants a table wants a DataFrame: it has the schema's columns in the schema's order, dates as dates, and whole
numbers stay whole where some are missing. May import pandas (on use, if it is installed).
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .machine.wire import Json

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Columns", "columns_of", "pointed_at", "table_frame"]

_MOST_NAMES = 20
_MOST_STEPS = 20
"""From one reference to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What a schema says of the columns of a table."""

    schemas: Mapping[str, Any]
    """Of a column's entries, by its name; in the schema's order."""
    required: tuple[str, ...] = ()
    closed: bool = False
    """Whether there may be no others."""
    by_row: bool = True
    """An array of objects; else an object of arrays."""

    def astray(self, value: Json) -> tuple[frozenset[str], frozenset[str]]:
        """Which columns a table by rows lacks in every row, and which ones it has that the schema does not."""
        rows = [row for row in value if isinstance(row, dict)] if isinstance(value, list) and self.by_row else []
        given = {name for row in rows for name in row}
        missing = frozenset(self.required) - given if rows else frozenset()
        return missing, frozenset(given - set(self.schemas)) if self.closed else frozenset()

    def hint(self, value: Json) -> str | None:
        """What is wrong with the table as a whole, in a line; None when it is its entries."""
        if self.by_row and isinstance(value, dict) and value and all(isinstance(item, list) for item in value.values()):
            return "value: rows are wanted, a list with an object for each, not columns: finish(df) gives them"
        if not self.by_row and isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            said = "value: columns are wanted, an object with a list for each, not rows"
            return f"{said}: finish({{name: df[name].tolist() for name in df}}) gives them"
        missing, extra = self.astray(value)
        if not missing and not extra:
            return None
        assert isinstance(value, list)
        given = dict.fromkeys(name for row in value if isinstance(row, dict) for name in row)
        said = f"value: the columns are {_listed(given)}"
        if missing:
            said += f"; missing: {_listed(name for name in self.required if name in missing)}"
        if extra:
            said += f"; not in the schema: {_listed(name for name in given if name in extra)}"
        return said


def columns_of(schema: Json) -> Columns | None:
    """What the schema of a table says of its columns; None when it is that of something else."""
    whole = _followed(schema, schema)
    if _is(whole, "array"):
        row = _followed(whole.get("items"), schema)
        if not _is(row, "object"):
            return None
        return Columns(
            schemas={name: _followed(about, schema) for name, about in _properties(row).items()},
            required=_required(row),
            closed=row.get("additionalProperties") is False,
        )
    lists = {name: _followed(about, schema) for name, about in _properties(whole).items()}
    if not lists or not _is(whole, "object") or not all(_is(about, "array") for about in lists.values()):
        return None
    return Columns(
        schemas={name: _followed(about.get("items"), schema) for name, about in lists.items()},
        required=_required(whole),
        closed=whole.get("additionalProperties") is False,
        by_row=False,
    )


def pointed_at(reference: str, root: Json) -> Json:
    """What a reference of the form `#/…` leads to.

    Raises LookupError: it leads nowhere.
    """
    found: Any = root
    for step in reference.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found[name]
        elif isinstance(found, list) and name.isdecimal():
            found = found[int(name)]
        else:
            raise LookupError(reference)
    result: Json = found
    return result


def table_frame(value: Json, columns: Columns) -> pd.DataFrame | None:
    """A table as a DataFrame; None without pandas, or when it cannot be made one."""
    if importlib.util.find_spec("pandas") is None or not isinstance(value, list if columns.by_row else dict):
        return None
    try:
        import pandas as pd

        given = value if isinstance(value, dict) else dict.fromkeys(name for row in _rows(value) for name in row)
        names = [name for name in columns.schemas if name in given or name in columns.required or not value]
        names.extend(name for name in given if name not in names)
        frame = pd.DataFrame(value, columns=names)
    except (ImportError, ValueError, TypeError):
        return None
    for name in names:
        frame[name] = _as_told(frame[name], columns.schemas.get(name, {}))
    return frame


def _as_told(column: pd.Series[Any], schema: Any) -> pd.Series[Any]:
    """A column with the type that its schema has for it, where its entries can be of that."""
    import pandas as pd

    missing = bool(column.isna().any())
    whole, truth = ("Int64", "boolean") if missing else ("int64", "bool")
    kinds: dict[str, Any] = {"integer": whole, "number": "float64", "boolean": truth}
    try:
        if _is(schema, "string") and schema.get("format") in ("date", "date-time"):
            return pd.to_datetime(column, format="ISO8601")
        return next((column.astype(kinds[kind]) for kind in kinds if _is(schema, kind)), column)
    except (ValueError, TypeError, OverflowError):  # pandas' own errors of dates are ValueErrors
        return column


def _rows(value: list[Any]) -> list[dict[str, Any]]:
    if not all(isinstance(row, dict) for row in value):
        raise TypeError("not all rows are objects")
    return value


def _followed(schema: Any, root: Json) -> dict[str, Any]:
    """The schema, or what it refers to; empty when that is none that says something."""
    for _ in range(_MOST_STEPS):
        if not isinstance(schema, dict):
            return {}
        reference = schema.get("$ref")
        if not isinstance(reference, str):
            return schema
        try:
            schema = pointed_at(reference, root)
        except LookupError:
            return {}
    return {}


def _is(schema: Mapping[str, Any], kind: str) -> bool:
    """Whether it is that of a value of this type, or of null beside it."""
    told = schema.get("type")
    if told is None and isinstance(either := schema.get("anyOf"), list):  # as pydantic says it
        told = [one.get("type") for one in either if isinstance(one, dict)]
    kinds = [one for one in (told if isinstance(told, list) else [told]) if one != "null"]
    return kinds == [kind] or (told is None and kind == "object" and isinstance(schema.get("properties"), dict))


def _properties(schema: Mapping[str, Any]) -> dict[str, Any]:
    found = schema.get("properties")
    return found if isinstance(found, dict) else {}


def _required(schema: Mapping[str, Any]) -> tuple[str, ...]:
    found = schema.get("required")
    return tuple(name for name in found if isinstance(name, str)) if isinstance(found, list) else ()


def _listed(names: Iterable[str]) -> str:
    found = [name if len(name) <= 60 else f"{name[:59]}…" for name in names]
    more = f" and {len(found) - _MOST_NAMES} more" if len(found) > _MOST_NAMES else ""
    return ", ".join(found[:_MOST_NAMES]) + more
