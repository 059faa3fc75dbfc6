"""Values against JSON Schemas, offline, and against Python types."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import time
from typing import Any, Literal

import pandas as pd
import pytest
from pydantic import BaseModel, ConfigDict, field_validator
from typing_extensions import TypedDict

from lash_nb.errors import InputError
from lash_nb.typed import OutputType, answer_type, schema_validator

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
        ({"pattern": "("}, "not valid: value.pattern"),
        ({"city": str}, "is no JSON .*; that of a table is, for example"),
        ({"city": "string"}, "'city': no word of JSON Schema; that of a table is, for example"),
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


class Color(enum.Enum):
    RED = "red"


@dataclasses.dataclass
class Point:
    x: int
    y: float


class Told(TypedDict):
    a: int


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    day: datetime.date


@pytest.mark.parametrize(
    ("wanted", "value", "read"),
    [
        (int, 5, 5),
        (int, 5.0, 5),  # as JSON Schema has it
        (float, 1, 1.0),
        (dict[str, int], {"a": 1}, {"a": 1}),
        (dict[int, str], {"1": "a"}, {1: "a"}),
        (tuple[int, str], [1, "a"], (1, "a")),
        (int | None, None, None),
        (Literal["a", "b"], "a", "a"),
        (Color, "red", Color.RED),
        (Point, {"x": 1, "y": 2}, Point(1, 2.0)),
        (Told, {"a": 1}, {"a": 1}),
        (datetime.date, "2026-01-02", datetime.date(2026, 1, 2)),
        (datetime.datetime, "2026-01-02T03:04:05", datetime.datetime(2026, 1, 2, 3, 4, 5)),
        (datetime.timedelta, "P1DT1.5S", datetime.timedelta(days=1, seconds=1.5)),
        (decimal.Decimal, "1.10", decimal.Decimal("1.10")),
        (Strict, {"day": "2026-01-02"}, Strict(day=datetime.date(2026, 1, 2))),
    ],
    ids=str,
)
def test_what_a_type_takes(wanted: Any, value: Any, read: Any) -> None:
    one = OutputType(wanted)
    assert one.problem(value) is None
    found = one.read(value)
    assert (found, type(found)) == (read, type(read))


@pytest.mark.parametrize(
    ("wanted", "value", "problem"),
    [
        (int, "5", "value: '5' is not of type 'integer'"),
        (int, True, "value: True is not of type 'integer'"),
        (bool, 1, "value: 1 is not of type 'boolean'"),
        (float, "1.5", "value: '1.5' is not of type 'number'"),
        (list[int], [1, "2"], "value[1]: '2' is not of type 'integer'"),
        (set[int], [1, 1], "value[1]: it is the same as [0], and all are to differ"),
        (datetime.datetime, 1577836800, "value: 1577836800 is not of type 'string'"),
        (dict[str, int], {"a b": "1"}, "value['a b']: '1' is not of type 'integer'"),
    ],
    ids=str,
)
def test_nothing_is_taken_for_what_it_is_not(wanted: Any, value: Any, problem: str) -> None:
    assert OutputType(wanted).problem(value) == problem


def test_what_pydantic_and_what_the_schema_says_come_together() -> None:
    told = str(OutputType(list[Row]).problem([{"size": 1}, {"name": "a", "size": "2"}]))
    assert told.splitlines() == ["value[0]['name']: Field required", "value[1]['size']: '2' is not of type 'integer'"]


def test_a_types_own_check_that_fails_is_a_problem() -> None:
    class Checked(BaseModel):
        x: int

        @field_validator("x")
        @classmethod
        def looked_up(cls, x: int) -> int:
            return {1: 2}[x]

    assert OutputType(Checked).problem({"x": 1}) is None
    assert OutputType(Checked).problem({"x": 7}) == "value: the type's own check failed: KeyError: 7"


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (5, "^5 cannot be the type of an answer: give a type such as int"),
        (pd.DataFrame, "^DataFrame cannot be the type of an answer: a table is asked for with a JSON Schema"),
        ({"type": "integer"}, "a JSON Schema is given as `schema`"),
        ("int", "give the type itself"),
        (list["Nowhere"], "cannot be the type of an answer"),  # type: ignore[name-defined]  # noqa: F821
        (print, "cannot be the type of an answer"),
        (Row(name="a"), "cannot be the type of an answer: give a type"),
    ],
    ids=str,
)
def test_what_is_no_type_is_refused_in_a_line(wanted: Any, said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        OutputType(wanted)
    assert "\n" not in str(raised.value)


# -- tables ------------------------------------------------------------------------------------------------------------

TABLE: dict[str, Any] = {
    "type": "array",
    "uniqueItems": True,
    "items": {
        "type": "object",
        "properties": {
            "city": {"enum": ["Oslo", "Rome"]},
            "offset": {"type": "number", "minimum": 0},
            "day": {"type": "string", "format": "date"},
        },
        "required": ["city", "offset", "day"],
        "additionalProperties": False,
    },
}
OSLO = {"city": "Oslo", "offset": 1, "day": "2026-01-02"}


def lines(schema: Any, value: Any) -> list[str]:
    return (schema_validator(schema)(value) or "").splitlines()


def test_problems_of_a_table_are_told_by_row_and_column() -> None:
    assert lines(TABLE, [OSLO, {**OSLO, "day": "2026-01-03"}]) == []
    assert lines(TABLE, [OSLO, {"city": "Bonn", "offset": "x", "day": "2026-02-30"}]) == [
        "value[1].city: 'Bonn' is not one of ['Oslo', 'Rome']",
        "value[1].day: '2026-02-30' is not a 'date'; a date is written like 2026-01-31",
        "value[1].offset: 'x' is not of type 'number'",
    ]
    assert lines(TABLE, [OSLO, {**OSLO, "offset": 1.0}]) == ["value[1]: it is the same as [0], and all are to differ"]


def test_columns_are_named_once() -> None:
    rows = [{"index": n, "city": "Oslo", "day": f"2026-01-{n:02}"} for n in range(1, 21)]
    assert lines(TABLE, rows) == [
        "value: the columns are index, city, day; missing: offset; not in the schema: index",
        "value[0]: 'offset' is a required property",
        "value[0]: Additional properties are not allowed ('index' was unexpected)",
    ]


def test_what_is_wrong_in_many_rows_does_not_hide_what_is_wrong_in_one() -> None:
    rows = [{**OSLO, "offset": -n} for n in range(1, 301)]
    told = lines(TABLE, [*rows, {**OSLO, "city": "Bonn"}])
    assert len(told) == 9
    assert told[0] == "value[0].offset: -1 is less than the minimum of 0"
    assert told[7:] == ["value[300].city: 'Bonn' is not one of ['Oslo', 'Rome']", "… and 293 more"]


def test_problems_are_in_the_order_of_the_rows() -> None:
    told = lines(TABLE, [OSLO if n not in (2, 10) else {**OSLO, "offset": -n} for n in range(11)])
    assert [line.partition(".")[0] for line in told if "offset" in line] == ["value[2]", "value[10]"]


def test_rows_and_columns_are_told_apart() -> None:
    assert lines(TABLE, {"city": ["Oslo"]})[0] == (
        "value: rows are wanted, a list with an object for each, not columns: finish(df) gives them"
    )
    by_column = {"type": "object", "properties": {"city": {"type": "array"}}}
    assert lines(by_column, [{"city": "Oslo"}])[0].startswith(
        "value: columns are wanted, an object with a list for each, not rows: finish({"
    )


def test_a_long_value_is_not_quoted_whole() -> None:
    (line,) = lines({"type": "integer"}, "x" * 10_000)
    assert len(line) < 400
    assert line.endswith("x' is not of type 'integer'")


def test_of_alternatives_each_is_told() -> None:
    told = lines({"anyOf": [{"type": "integer"}, {"type": "null"}]}, "x")
    assert told == [
        "value: 'x' is not valid under any of the given schemas: "
        "'x' is not of type 'integer'; 'x' is not of type 'null'"
    ]


@pytest.mark.parametrize(
    ("form", "text", "fits"),
    [
        ("date-time", "2026-01-02T03:04:05", True),
        ("date-time", "2026-01-02T03:04:05+01:00", True),
        ("date-time", "2026-01-02", False),
        ("date-time", "yesterday", False),
        ("time", "03:04", True),
        ("time", "25:00", False),
        ("date", "2026-01-02T00:00:00", False),
    ],
)
def test_formats_of_dates_and_times(form: str, text: str, fits: bool) -> None:
    assert (schema_validator({"format": form})(text) is None) is fits


def test_that_rows_differ_is_found_out_in_one_pass() -> None:
    schema = {"type": "array", "uniqueItems": True}
    began = time.perf_counter()
    assert lines(schema, [{"n": n} for n in range(20_000)]) == []
    assert time.perf_counter() - began < 5.0, "comparing each with each takes a minute"
    assert lines(schema, [{"n": 1}, {"n": True}, {"n": "1"}, [1], [[1]], 1, None]) == []


def test_a_schema_without_an_end_is_said() -> None:
    assert lines({"$ref": "#"}, 1) == ["value: it is nested too deeply to be checked, or the schema is"]


# -- -t ----------------------------------------------------------------------------------------------------------------


def evaluated(expression: str) -> Any:
    return eval(expression)


def test_an_expression_is_a_type_or_a_schema() -> None:
    assert answer_type("list[str]", evaluated) == {"output_type": list[str]}
    assert answer_type("Row", evaluated) == {"output_type": Row}
    assert answer_type("{'type': 'integer'}", evaluated) == {"schema": {"type": "integer"}}
    assert answer_type('{"type": "array", "uniqueItems": true}', evaluated) == {
        "schema": {"type": "array", "uniqueItems": True}
    }


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        ("None", "-t None: that is what a turn without -t gives"),
        ("[1]", "cannot be the type of an answer"),
        ("{'type': 'nonsense'}", "not valid"),
        ("{'$ref': '#/$defs/missing'}", r"refers to '#/\$defs/missing', which is not in it"),
        ("{'$ref': 'https://example.org/s.json'}", "only references within the schema"),
        ("{'city': str}", "is no JSON"),
    ],
)
def test_expressions_that_are_refused(expression: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        answer_type(expression, evaluated)
