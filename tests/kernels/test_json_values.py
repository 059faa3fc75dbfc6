"""What `finish` makes of tables: rows, what of an index stays, what is missing, what is refused. Run here directly."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lash_nb.kernels.inside.json_values import to_json

TABLE = pd.DataFrame(
    {
        "zone": ["Oslo", "Rome", None],
        "changes": [2, 0, 1],
        "offset": [1.5, math.nan, 0.0],
        "last": pd.to_datetime(["2026-03-29 02:00", None, "2025-01-01"], format="ISO8601"),
    }
)
ROWS: list[dict[str, Any]] = [
    {"zone": "Oslo", "changes": 2, "offset": 1.5, "last": "2026-03-29T02:00:00"},
    {"zone": "Rome", "changes": 0, "offset": None, "last": None},
    {"zone": None, "changes": 1, "offset": 0.0, "last": "2025-01-01T00:00:00"},
]


def test_a_frame_gives_its_rows() -> None:
    assert to_json(TABLE, "value") == ROWS
    assert to_json({"of": [TABLE]}, "value") == {"of": [ROWS]}
    assert to_json(TABLE.iloc[:0], "value") == []


def test_row_numbers_go_also_with_gaps() -> None:
    assert to_json(TABLE[TABLE["changes"] > 0], "value") == [ROWS[0], ROWS[2]]
    assert to_json(TABLE.sort_values("changes"), "value") == [ROWS[1], ROWS[2], ROWS[0]]


def test_an_index_that_says_something_makes_columns() -> None:
    assert to_json(TABLE.set_index("changes")[["offset"]], "value") == [
        {"changes": 2, "offset": 1.5},
        {"changes": 0, "offset": None},
        {"changes": 1, "offset": 0.0},
    ]
    assert to_json(pd.DataFrame({"n": [1]}, index=["a"]), "value") == [{"index": "a", "n": 1}]
    levels = pd.MultiIndex.from_tuples([("a", 1)], names=["name", None])
    assert to_json(pd.DataFrame({"n": [1]}, index=levels), "value") == [{"name": "a", "level_1": 1, "n": 1}]


def test_what_is_missing_is_null_and_what_is_numpys_is_plain() -> None:
    frame = pd.DataFrame(
        {
            "whole": pd.array([1, None], dtype="Int64"),
            "truth": pd.array([None, True], dtype="boolean"),
            "kind": pd.Categorical(["u", None]),
            "any": [np.float32("nan"), np.int8(3)],
            "time": [np.datetime64("NaT"), datetime.date(2026, 1, 2)],
        }
    )
    assert to_json(frame, "value") == [
        {"whole": 1, "truth": None, "kind": "u", "any": None, "time": None},
        {"whole": None, "truth": True, "kind": None, "any": 3, "time": "2026-01-02"},
    ]


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        (pd.Series([1, 2]), [1, 2]),
        (pd.Series(["a", "b", "c"])[[2, 0]], ["c", "a"]),
        (pd.Series([1.5, math.nan], index=["a", "b"]), {"a": 1.5, "b": None}),
        (pd.Series([3], index=pd.Index([2026], name="year")), {"2026": 3}),
        (pd.Series([3], index=pd.to_datetime(["2026-01-02"])), {"2026-01-02T00:00:00": 3}),
        (
            pd.Series([3], index=pd.MultiIndex.from_tuples([("a", 1)], names=["k", "n"]), name="size"),
            [{"k": "a", "n": 1, "size": 3}],
        ),
        (pd.Series(["a", None]).unique(), ["a", None]),
        (TABLE.columns, ["zone", "changes", "offset", "last"]),
        (pd.Series(pd.period_range("2026-01", periods=1, freq="M")), ["2026-01"]),
    ],
)
def test_a_series_gives_a_list_or_what_its_labels_say(series: Any, expected: Any) -> None:
    assert to_json(series, "value") == expected


def test_a_frame_of_another_class_is_one() -> None:
    class Mine(pd.DataFrame):  # type: ignore[misc]
        pass

    assert to_json(Mine({"a": [1]}), "value") == [{"a": 1}]


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), TypeError, "two columns that are both 'a'"),
        (pd.DataFrame([[1]], columns=pd.MultiIndex.from_tuples([("a", "b")])), TypeError, r"the column \('a', 'b'\)"),
        (pd.DataFrame({"a": [math.inf]}), ValueError, r"value\[0\]\['a'\] is inf"),
        (pd.DataFrame({"a": [1, object()]}), TypeError, r"value\[1\]\['a'\] is of type object"),
        (pd.Series([1, 2], index=["a", "a"]), TypeError, r"two values under 'a'; `.reset_index\(\)`"),
        (pd.DataFrame({"a": range(1_100_000)}), ValueError, "1,100,000 rows, more than fit"),
        (pd.Series(range(3_000_000)), ValueError, "3,000,000 rows, more than fit"),
    ],
)
def test_what_is_refused(value: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        to_json(value, "value")


class Polars:
    """What polars' classes have that counts here; their module says whose they are."""

    def __init__(self, name: str, items: list[Any]) -> None:
        self.name, self._items = name, items

    def __len__(self) -> int:
        return len(self._items)

    def get_columns(self) -> list[Any]:
        return self._items

    def to_list(self) -> list[Any]:
        return self._items


def polars(name: str, **more: Any) -> Any:
    return type(name, (Polars,), {"__module__": "polars.internals", **more})


def test_polars_is_known_by_name() -> None:
    series, frame = polars("Series"), polars("DataFrame", __len__=lambda self: 2)
    table = frame("", [series("a", [1, None]), series("b", [math.nan, {"x": 1}])])
    assert to_json(table, "value") == [{"a": 1, "b": None}, {"a": None, "b": {"x": 1}}]
    assert to_json(series("a", [1, None]), "value") == [1, None]
    lazy = polars("LazyFrame", collect=lambda self: table)
    with pytest.raises(TypeError, match=r"LazyFrame, which is not JSON; `.collect\(\)` it first"):
        to_json(lazy("", []), "value")


class Named(str, enum.Enum):  # noqa: UP042 (as many notebooks have it)
    RED = "red"


class Plain(enum.Enum):
    PAIR = (1, 2)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Named.RED, "red"),
        (Plain.PAIR, [1, 2]),
        (decimal.Decimal("1.10"), "1.10"),
        (datetime.timedelta(days=1, seconds=1, milliseconds=500), "P1DT1.5S"),
        (-datetime.timedelta(hours=1), "-P0DT3600S"),
        (np.datetime64("NaT"), None),
    ],
    ids=str,
)
def test_values_of_the_standard_library(value: Any, expected: Any) -> None:
    assert to_json(value, "value") == expected


def test_a_decimal_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="value is NaN, which JSON does not have"):
        to_json(decimal.Decimal("NaN"), "value")
