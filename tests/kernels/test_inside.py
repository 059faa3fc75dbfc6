"""What is sent into the kernel, run here directly: descriptions of variables, and what `finish` takes."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import pathlib
import sys
import traceback
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pytest

from lash_nb.kernels.inside import FEATURES, REQUIRED, bootstrap
from lash_nb.kernels.inside.describer import Describer
from lash_nb.kernels.inside.json_values import to_json
from lash_nb.kernels.inside.tracebacks import without_ours
from lash_nb.kernels.summaries import namespace_summary


@dataclasses.dataclass
class Point:
    x: int
    many: list[int]


class Pair(NamedTuple):
    left: int
    right: list[int]


class Color(enum.StrEnum):
    RED = "red"


class Rude:
    def __repr__(self) -> str:
        raise RuntimeError("no")


class Chatty:
    def __repr__(self) -> str:
        return "<Chatty at 0x7f00 " + "x" * 1000


class Plain:
    pass


def small(a: int, *, b: str = "") -> None: ...


def test_the_bootstrap_is_one_expression_that_binds_nothing() -> None:
    assert set(FEATURES) >= REQUIRED
    code = bootstrap(options={"orphan_ttl_s": 1.0})
    assert code.startswith("exec(")
    compile(code, "<cell>", "eval")


@pytest.mark.parametrize(
    ("value", "described"),
    [
        (3, ("int", "", "3")),
        (10**100, ("int", "", "<int of 333 bits>")),
        ("a" * 100, ("str", "length 100", "'" + "a" * 60 + "'…")),
        (list(range(1000)), ("list", "length 1000 of int", "[0, 1, 2, 3, …]")),
        ((1,), ("tuple", "length 1 of int", "(1,)")),
        ({"b", "a"}, ("set", "length 2 of str", "{'a', 'b'}")),
        ({"k": {"n": [1]}}, ("dict", "length 1 of str to dict", "{'k': {'n': […]}}")),
        (small, ("function", "(a: int, *, b: str = '') -> None", "")),
        (Plain, ("class", "", "")),
        (pathlib, ("module", "pathlib", "")),
        (Plain(), ("Plain", "", "<Plain>")),
        (Rude(), ("Rude", "", "<Rude: its repr raises RuntimeError>")),
        (Point(1, [1] * 10**6), ("Point", "fields x int, many list", "Point(x=1, many=[…])")),
        (Pair(1, [2]), ("Pair", "fields left int, right list", "Pair(left=1, right=[…])")),
        (datetime.date(2026, 1, 2), ("date", "", "datetime.date(2026, 1, 2)")),
        (np.float64(1.5), ("float64", "", "1.5")),
        (np.arange(6).reshape(2, 3), ("ndarray", "shape (2, 3); dtype int64", "[0, 1, 2, 3, 4, …]")),
        (pd.Series([1, 2], name="n"), ("Series", "shape (2,); dtype int64; name 'n'", "[1, 2]")),
        (
            pd.DataFrame({"a": [1], "b": [2.5]}),
            ("DataFrame", "shape (1, 2); columns a int64, b float64", "first row: 1, 2.5"),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_descriptions(value: Any, described: tuple[str, str, str]) -> None:
    assert Describer().describe(value) == described


def test_a_preview_is_bounded_and_without_addresses() -> None:
    _, _, preview = Describer().describe(Chatty())
    assert preview.startswith("<Chatty xxx")
    assert len(preview) == 120


def default(a: str = "secret", *rest: Literal["secret"], b: int = 7) -> None: ...


ROW = pd.DataFrame({"a": [1]}, index=["secret"]).loc["secret"]
NAMED = pd.DataFrame({"dtype": ["secret"], "columns": ["secret"], "name": ["secret"]}, dtype=object)


@pytest.mark.parametrize(
    ("value", "described"),
    [
        (7, ("int", "", "")),
        ("secret", ("str", "length 6", "")),
        (["secret"], ("list", "length 1 of str", "")),
        ({"secret": 7}, ("dict", "length 1 of str to int", "")),
        (Pair(7, [7]), ("Pair", "fields left int, right list", "")),
        (Point(7, [7]), ("Point", "fields x int, many list", "")),
        (Chatty(), ("Chatty", "", "")),
        (Rude(), ("Rude", "", "")),
        (default, ("function", "(a, *rest, b)", "")),
        (np.float64(1.5), ("float64", "", "")),
        (np.array([7]), ("ndarray", "shape (1,); dtype int64", "")),
        (ROW, ("Series", "shape (1,); dtype int64", "")),
        (
            pd.Series({"columns": "secret", "schema": "secret"}, dtype=object),
            ("Series", "shape (2,); dtype object", ""),
        ),
        (pd.Series(pd.arrays.SparseArray([7], fill_value=7)), ("Series", "shape (1,); dtype SparseDtype", "")),
        (pd.Series(["secret"], dtype="category"), ("Series", "shape (1,); dtype category", "")),
        (NAMED, ("DataFrame", "shape (1, 3); columns dtype object, columns object, name object", "")),
        (pd.Timestamp(7), ("Timestamp", "", "")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_descriptions_without_values(value: Any, described: tuple[str, str, str]) -> None:
    [[_, *told, changed, columns]] = Describer().summary({"x": value}, {}, 10, "schema")["variables"]
    assert (tuple(told), changed) == (described, True)
    assert "secret" not in str(columns)


@pytest.mark.parametrize(
    ("value", "preview"),
    [
        (7, "7"),
        (["x" * 70, 2], f"['{'x' * 70}', 2]"),
        ([[[[1]]]], "[[[[…]]]]"),
        (pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}), "first rows: 1, 'x' | 2, 'y'"),
        (np.arange(7), "[0, 1, 2, 3, 4, 5, 6]"),
        (small, ""),
    ],
    ids=lambda value: type(value).__name__,
)
def test_long_previews(value: Any, preview: str) -> None:
    [[_, _, _, told, _, _]] = Describer().summary({"x": value}, {}, 10, "full")["variables"]
    assert told == preview


def test_long_previews_are_bounded_one_by_one_and_together() -> None:
    """What finds no room any more has its short one."""
    wide = {f"v{number:02}": [[["x" * 100] * 100] * 100] * 100 for number in range(40)}
    found = Describer().summary({**wide, "text": "y" * 10_000}, {}, 100, "full")["variables"]
    lengths = [len(told) for _, _, _, told, _, _ in found]
    assert len(lengths) == 41
    assert max(lengths) == 2000
    assert sum(length for length in lengths if length > 120) <= 24_000
    assert sum(length <= 120 for length in lengths) > 20


def test_a_kernel_that_knows_of_no_previews_tells_none() -> None:
    """One that an earlier version started, and that was taken over."""
    described = [
        ["f", "function", "(key='secret')", "", True, []],
        ["frame", "DataFrame", "shape (1, 1); columns who str", "first row: 'secret'", True, [["who", "str"]]],
        ["items", "list", "length 1", "['secret']", True, []],
    ]
    reply = {"variables": described, "omitted": 0, "removed": []}
    told = namespace_summary(reply, previews="schema").variables
    assert [(v.name, v.detail, v.preview) for v in told] == [
        ("f", "", ""),
        ("frame", "shape (1, 1)", ""),
        ("items", "length 1", ""),
    ]
    assert told[1].columns == (("who", "str"),)
    assert namespace_summary(reply, previews="sample").variables[2].preview == "['secret']"


def test_columns_are_told_as_data_where_they_can_be_asked_for_by_name() -> None:
    frame = pd.DataFrame({"a b": [1], 7: [2], "x" * 81: [3], "line\nbreak": [2.5]})
    wide = pd.DataFrame({f"c{number}": [number] for number in range(150)})
    found = Describer().summary({"frame": frame, "items": [1], "wide": wide}, {}, 10)["variables"]
    assert [variable[5] for variable in found[:2]] == [[["a b", "int64"], ["line\nbreak", "float64"]], []]
    assert len(found[2][5]) == 100


def names(summary: dict[str, Any]) -> list[tuple[str, bool]]:
    return [(name, changed) for name, _, _, _, changed, _ in summary["variables"]]


def test_changes_in_place_are_seen() -> None:
    describer = Describer()
    array, items = np.zeros(1000), [1, 2]
    namespace = {"array": array, "items": items, "same": "s", "_hidden": 1, "In": []}
    hidden = {"In": namespace["In"]}
    assert names(describer.summary(namespace, hidden, 10)) == [("array", True), ("items", True), ("same", True)]
    array[31 * 7] = 1
    items.append(3)
    assert names(describer.summary(namespace, hidden, 10)) == [("array", True), ("items", True), ("same", False)]
    del namespace["items"]
    summary = describer.summary(namespace, hidden, 10)
    assert summary["removed"] == ["items"]
    assert names(summary) == [("array", False), ("same", False)]


def test_a_cap_leaves_out_what_was_seen_before() -> None:
    describer = Describer()
    namespace: dict[str, Any] = {f"v{n}": n for n in range(5)}
    assert describer.summary(namespace, {}, 5)["omitted"] == 0
    namespace["z"] = "new"
    summary = describer.summary(namespace, {}, 2)
    assert summary["omitted"] == 4
    assert ("z", True) in names(summary)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, [2.5, None, True]), [1, [2.5, None, True]]),
        ({2020: "a", Color.RED: 1}, {"2020": "a", "red": 1}),
        ({"b", "a"}, ["a", "b"]),
        (np.int64(3), 3),
        (np.array([[1, 2]]), [[1, 2]]),
        (pd.Timestamp("2026-01-02"), "2026-01-02T00:00:00"),
        (pd.NaT, None),
        (pathlib.PurePosixPath("/a"), "/a"),
        (Point(1, [2]), {"x": 1, "many": [2]}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_finish_converts_what_loses_nothing(value: Any, expected: Any) -> None:
    assert to_json(value, "value") == expected


def cycle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


@pytest.mark.parametrize(
    ("value", "error", "said"),
    [
        (object(), TypeError, "value is of type object"),
        ({"a": [1, b"x"]}, TypeError, r"value\['a'\]\[1\] is of type bytes"),
        (float("nan"), ValueError, "nan"),
        ({1: "a", "1": "b"}, TypeError, "two keys"),
        ({None: 1}, TypeError, "keys are strings"),
        ({1, "a"}, TypeError, "no order"),
        (cycle(), ValueError, "contains itself"),
        (pd.DataFrame({"a": [1]}).groupby("a"), TypeError, "DataFrameGroupBy, which is not JSON; convert it"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_finish_refuses_what_does_and_says_where(value: Any, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        to_json(value, "value")


def test_frames_of_ours_are_taken_out_of_a_traceback() -> None:
    def theirs() -> None:
        ours: dict[str, Any] = {}
        exec(compile("def ours(f):\n    f()", "<lash_nb test>", "exec"), ours)
        ours["ours"](lambda: 1 / 0)

    try:
        theirs()
    except ZeroDivisionError as error:
        names = [frame.name for frame in traceback.extract_tb(without_ours(error.__traceback__))]
        assert names == ["test_frames_of_ours_are_taken_out_of_a_traceback", "theirs", "<lambda>"]


def test_a_frame_at_no_line_is_no_error() -> None:
    frame = sys._getframe()
    nowhere: Any = SimpleNamespace(tb_frame=frame, tb_lasti=0, tb_lineno=None, tb_next=None)
    with pytest.raises(ZeroDivisionError) as caught:
        exec(compile("1 / 0", "<lash_nb test>", "exec"))
    nowhere.tb_next = caught.tb
    cleaned = without_ours(nowhere)
    assert cleaned is not None
    assert cleaned.tb_lineno == frame.f_code.co_firstlineno
