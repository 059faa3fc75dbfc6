"""What a JSON Schema says of a table's columns, and tables as DataFrames."""

from __future__ import annotations

import importlib.util
from typing import Any

import pandas as pd
import pytest
from pydantic import BaseModel

from lash_nb.typed import OutputType
from lash_nb.typed_tables import columns_of, pointed_at, table_frame

ROWS: dict[str, Any] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": {
            "zone": {"type": "string"},
            "changes": {"type": ["integer", "null"]},
            "offset": {"type": "number"},
            "last": {"type": "string", "format": "date"},
            "still": {"type": "boolean"},
        },
        "required": ["zone", "changes"],
        "additionalProperties": False,
    },
}
LISTS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "zone": {"type": "array", "items": {"type": "string"}},
        "changes": {"$ref": "#/$defs/whole"},
    },
    "required": ["zone"],
    "$defs": {"whole": {"type": "array", "items": {"type": "integer"}}},
}


class Row(BaseModel):
    name: str
    size: int | None = None


def test_the_columns_of_rows() -> None:
    columns = columns_of(ROWS)
    assert columns is not None
    assert list(columns.schemas) == ["zone", "changes", "offset", "last", "still"]
    assert (columns.required, columns.closed, columns.by_row) == (("zone", "changes"), True, True)


def test_the_columns_of_lists() -> None:
    columns = columns_of(LISTS)
    assert columns is not None
    assert dict(columns.schemas) == {"zone": {"type": "string"}, "changes": {"type": "integer"}}
    assert (columns.required, columns.closed, columns.by_row) == (("zone",), False, False)


def test_references_are_followed() -> None:
    columns = columns_of(OutputType(list[Row]).schema)
    assert columns is not None
    assert list(columns.schemas) == ["name", "size"]
    assert columns.required == ("name",)


@pytest.mark.parametrize(
    "schema",
    [
        None,
        True,
        {"type": "integer"},
        {"type": "array", "items": {"type": "string"}},
        {"type": "object"},
        {"type": "object", "properties": {"a": {"type": "array"}, "b": {"type": "string"}}},
        {"$ref": "#"},
        {"$ref": "#/nowhere"},
        {"type": "array", "items": {"$ref": "other.json"}},
    ],
    ids=str,
)
def test_what_is_no_table(schema: Any) -> None:
    assert columns_of(schema) is None


def test_where_a_reference_leads() -> None:
    root: Any = {"$defs": {"a/b": [{"type": "string"}]}}
    assert pointed_at("#/$defs/a~1b/0", root) == {"type": "string"}
    for nowhere in ("#/$defs/c", "#/$defs/a~1b/1", "#/$defs/a~1b/0/type/x"):
        with pytest.raises(LookupError):
            pointed_at(nowhere, root)


def test_rows_as_a_frame_have_the_schemas_columns_and_types() -> None:
    columns = columns_of(ROWS)
    assert columns is not None
    frame = table_frame(
        [
            {"last": "2026-03-29", "changes": 2, "zone": "Oslo", "still": True, "offset": 1},
            {"last": "2025-01-01", "changes": None, "zone": "Rome", "still": False, "offset": 2.5},
        ],
        columns,
    )
    assert frame is not None
    assert list(frame.columns) == ["zone", "changes", "offset", "last", "still"]
    kinds = [str(kind) for kind in frame.dtypes[1:]]
    assert kinds[:2] + kinds[3:] == ["Int64", "float64", "bool"]
    assert frame["last"].dt.year.tolist() == [2026, 2025]
    assert frame["changes"].isna().tolist() == [False, True]


def test_a_column_that_no_row_has_is_there_when_it_is_required() -> None:
    schema: Any = {"type": "array", "items": {"type": "object", "properties": {"a": {}, "b": {}}, "required": ["b"]}}
    columns = columns_of(schema)
    assert columns is not None
    frame = table_frame([{"c": 1}], columns)
    assert frame is not None
    assert list(frame.columns) == ["b", "c"]
    empty = table_frame([], columns)
    assert empty is not None
    assert (list(empty.columns), len(empty)) == (["a", "b"], 0)


def test_what_cannot_be_of_its_type_stays_as_it_came() -> None:
    schema: Any = {"type": "array", "items": {"type": "object", "properties": {"n": {"type": "integer"}, "d": {}}}}
    columns = columns_of(schema)
    assert columns is not None
    frame = table_frame([{"n": 2**70, "d": [1, 2]}], columns)
    assert frame is not None
    assert frame["n"].tolist() == [2**70]
    assert frame["d"].tolist() == [[1, 2]]


def test_lists_as_a_frame() -> None:
    columns = columns_of(LISTS)
    assert columns is not None
    frame = table_frame({"changes": [1, 2], "zone": ["a", "b"]}, columns)
    assert frame is not None
    assert frame.to_dict("list") == {"zone": ["a", "b"], "changes": [1, 2]}
    assert table_frame({"changes": [1], "zone": ["a", "b"]}, columns) is None, "they are not equally long"
    assert table_frame([1], columns) is None


def test_no_frame_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    columns = columns_of(ROWS)
    assert columns is not None
    assert isinstance(table_frame([], columns), pd.DataFrame)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert table_frame([], columns) is None
