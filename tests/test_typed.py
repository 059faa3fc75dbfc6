"""Values against JSON Schemas, offline, and against Python types."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel

from lash_nb.errors import InputError
from lash_nb.typed import OutputType, schema_validator

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "rows": {"type": "array", "items": {"$ref": "#/$defs/row"}}},
    "required": ["n"],
    "$defs": {"row": {"type": "string"}},
}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"n": 1, "rows": ["a"]}, None),
        ({}, "value: 'n' is a required property"),
        ({"n": "1"}, "value.n: '1' is not of type 'integer'"),
        ({"n": 1, "rows": ["a", 2]}, "value.rows[1]: 2 is not of type 'string'"),
    ],
)
def test_a_value_against_a_schema(value: Any, problem: str | None) -> None:
    assert schema_validator(SCHEMA)(value) == problem


def test_many_problems_are_counted() -> None:
    text = schema_validator({"type": "array", "items": {"type": "string"}})(list(range(12)))
    assert text is not None
    assert text.count("\n") == 8
    assert text.endswith("… and 4 more")


@pytest.mark.parametrize(
    ("schema", "problem"),
    [
        ({"type": "nonsense"}, "not valid"),
        ({"$ref": "https://example.org/s.json"}, "only references within the schema"),
        ({"items": [{"$ref": "other.json"}]}, "not valid|only references"),
        ([1], "is an object, not list"),
    ],
)
def test_schemas_that_are_refused(schema: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        schema_validator(schema)


def test_a_reference_that_leads_nowhere_is_said() -> None:
    text = schema_validator({"$ref": "#/$defs/missing"})(1)
    assert text is not None
    assert "missing" in text


class Row(BaseModel):
    name: str
    size: int = 0


def test_a_python_type() -> None:
    wanted = OutputType(list[Row])
    assert wanted.schema["type"] == "array"  # type: ignore[call-overload,index]
    assert wanted.problem([{"name": "a"}]) is None
    assert wanted.read([{"name": "a"}]) == [Row(name="a")]
    assert "value[0]['name']" in str(wanted.problem([{"size": 1}]))


def test_what_is_no_type_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be the type of an answer"):
        OutputType(object())
