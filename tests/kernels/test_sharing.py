"""Data, arrays and tables that go to a real kernel, and come back from it."""

from __future__ import annotations

import functools
import io
import pickle
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.kernels.inside.parcels import placed

from .sharing_suite import FEW, VALUES, Live, carried, frame, living


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with living() as live:
        yield live


# -- data --------------------------------------------------------------------------------------------------------------
@FEW
@given(value=VALUES)
def test_any_data_goes_and_comes_back(live: Live, value: Any) -> None:
    before = pickle.dumps(value)
    (came,) = live.back(value=value).values()
    assert came == value
    assert type(came) is type(value)
    assert pickle.dumps(value) == before


@FEW
@given(
    parts=st.lists(st.lists(st.integers()), min_size=1, max_size=4),
    picks=st.lists(st.integers(0, 3), min_size=2, max_size=6),
)
def test_what_is_one_stays_one(live: Live, parts: list[list[int]], picks: list[int]) -> None:
    values: dict[str, Any] = {f"v{number}": parts[pick % len(parts)] for number, pick in enumerate(picks)}
    values["held"] = [values["v0"], values["v1"]]
    came = live.back(**values)
    assert came == values
    for left in values:
        for right in values:
            assert (came[left] is came[right]) is (values[left] is values[right])
    assert came["held"][0] is came["v0"]
    assert live.says("v0.append('more'); held[0][-1]") == "'more'"
    assert "more" not in values["v0"]


def test_what_holds_itself(live: Live) -> None:
    circle: list[Any] = [1]
    circle.append(circle)
    tree: dict[str, Any] = {"children": []}
    tree["children"].append({"parent": tree})
    came = live.back(circle=circle, tree=tree)
    assert came["circle"][1] is came["circle"]
    assert came["tree"]["children"][0]["parent"] is came["tree"]


def test_standard_library_objects(live: Live) -> None:
    buffer = io.BytesIO(b"abc")
    buffer.read(1)
    came = live.back(buffer=buffer, error=ValueError("no"), part=functools.partial(int, base=2), place=Path("x"))
    assert came["buffer"].read() == b"bc"
    assert came["part"]("101") == 5
    assert repr(came["error"]) == "ValueError('no')"
    assert buffer.tell() == 1


# -- arrays ------------------------------------------------------------------------------------------------------------

ARRAYS: dict[str, Any] = {
    "floats": np.arange(1e5).reshape(100, 1000),
    "fortran": np.asfortranarray(np.arange(1e5).reshape(100, 1000)),
    "strided": np.arange(1e5)[::3],
    "backwards": np.arange(1e5)[::-1],
    "empty": np.zeros((0, 4)),
    "scalar": np.array(3.5),
    "structured": np.array([(1, "a", 2.5)] * 9000, dtype=[("n", "i4"), ("s", "U3"), ("f", "f8")]),
    "objects": np.array([{"a": 1}, None, "x"], dtype=object),
    "masked": np.ma.masked_greater(np.arange(20_000), 5),
    "times": np.arange("2020-01-01", "2060-01-01", dtype="M8[D]"),
    "booleans": np.arange(50_000) % 2 == 0,
    "texts": np.array(["ab", "c"] * 20_000),
    "matrix of complex": np.ones((50, 300), dtype=complex),
    "record": np.rec.array([(1, 2.0)], dtype=[("a", "i8"), ("b", "f8")]),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(live: Live, name: str) -> None:
    array = ARRAYS[name]
    before = array.copy()
    came = live.back(array=array)["array"]
    assert type(came) is type(array)
    assert came.dtype == array.dtype
    assert came.shape == array.shape
    np.testing.assert_array_equal(came, array)
    assert came.flags.writeable
    if name == "fortran":
        assert came.flags.f_contiguous
    if name == "masked":
        np.testing.assert_array_equal(came.mask, array.mask)
    if array.size and name not in ("scalar", "record"):
        live.says("array[-1] = array[0]; 1")
    np.testing.assert_array_equal(array, before)


def test_an_array_that_is_read_only_stays_so(live: Live) -> None:
    array = np.arange(50_000)
    array.flags.writeable = False
    assert not live.back(array=array)["array"].flags.writeable
    assert live.says("array.flags.writeable") == "False"


VIEWS: dict[str, Callable[[Any], Any]] = {
    "a row": lambda a: a[3],
    "a part": lambda a: a[10:20],
    "a column": lambda a: a[:, 7],
    "every third": lambda a: a[::3, ::5],
    "backwards": lambda a: a[::-1],
    "the transpose": lambda a: a.T,
    "another shape": lambda a: a.reshape(-1),
    "another type": lambda a: a.view("i8"),
    "what is read only": lambda a: np.broadcast_to(a[:, :1], (200, 5)),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("owns", [True, False])
def test_views_stay_views(live: Live, name: str, owns: bool) -> None:
    whole = np.arange(60_000.0).reshape(200, 300)  # a view itself, of what no name has
    whole = whole.copy() if owns else whole
    view = VIEWS[name](whole)
    came = live.back(view=view, nested={"whole": [whole]})
    np.testing.assert_array_equal(came["view"], view)
    assert np.shares_memory(came["view"], came["nested"]["whole"][0])
    assert live.says("import numpy; numpy.shares_memory(view, nested['whole'][0])") == "True"
    assert came["view"].flags.writeable == view.flags.writeable
    live.does("nested['whole'][0][:] = 5.0; seen = view.view('f8') if view.dtype == 'i8' else view")
    assert live.says("bool((seen == 5.0).all())") == "True"
    assert whole[0, 1] == 1.0


PARTS = st.one_of(
    st.builds(slice, st.integers(0, 6), st.integers(0, 20), st.sampled_from([1, 2, 3])),
    st.builds(slice, st.integers(6, 20), st.integers(0, 5), st.sampled_from([-1, -2])),
    st.just(slice(None)),
)
STEPS = st.tuples(st.integers(0, 9), st.one_of(PARTS, st.tuples(PARTS, PARTS), st.just("T")))


@FEW
@given(steps=st.lists(STEPS, max_size=6), fortran=st.booleans(), last=st.booleans(), frozen=st.booleans())
def test_any_views(steps: list[tuple[int, Any]], fortran: bool, last: bool, frozen: bool) -> None:
    whole: Any = np.arange(400.0).reshape(20, 20)
    arrays = [np.asfortranarray(whole) if fortran else whole]
    for number, part in steps:
        of = arrays[number % len(arrays)]
        arrays.append(of.T if part == "T" else of[part])
    if frozen and len(arrays) > 1:
        arrays[-1].flags.writeable = False
    arrays = arrays[::-1] if last else arrays
    came = carried(arrays, placed("", in_memory=True))
    for left, copied in zip(arrays, came, strict=True):
        np.testing.assert_array_equal(copied, left)
        assert (copied.dtype, copied.shape) == (left.dtype, left.shape)
        for right, other in zip(arrays, came, strict=True):
            assert np.shares_memory(copied, other) is np.shares_memory(left, right)
        assert not np.shares_memory(copied, left)


def test_a_view_alone_does_not_bring_the_rest(live: Live) -> None:
    whole = np.arange(10_000_000.0)
    pushed = live.run(live.kernel.push({"part": whole[100:200]}))
    assert pushed.sent["part"].bytes < 10_000


# -- tables ------------------------------------------------------------------------------------------------------------


TABLES: dict[str, Any] = {
    "frame": frame(),
    "series": frame()["x"],
    "categories": frame()["kind"],
    "many levels": frame().set_index(["kind", "n"]),
    "named": frame().rename_axis("row"),
    "some rows": frame().iloc[::7],
    "some columns": frame()[["y", "n"]],
    "no rows": frame().iloc[:0],
    "turned": frame()[["x", "y"]].T,
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(live: Live, name: str) -> None:
    table, before = TABLES[name], TABLES[name].copy()
    same = pd.testing.assert_frame_equal if isinstance(table, pd.DataFrame) else pd.testing.assert_series_equal
    same(live.back(table=table)["table"], table)
    live.says("table.iloc[0:1] = table.iloc[1:2].values; 1" if len(table) and name == "series" else "1")
    same(table, before)


def test_attributes_of_a_table(live: Live) -> None:
    table = frame()
    table.attrs["unit"] = "m"
    table.flags.allows_duplicate_labels = False
    came = live.back(table=table)["table"]
    assert came.attrs == {"unit": "m"}
    assert not came.flags.allows_duplicate_labels


def test_tables_that_share_memory_here_are_two_there(live: Live) -> None:
    """pandas copies on write, and knows who shares; once pickled it would not, and one would change with the other."""
    one = frame()
    live.pushes(one=one, two=one.rename(columns={"x": "z"}), three=one.copy(deep=False), held={"one": one})
    live.does("""
        one.loc[0, ['x', 'y']] = 99.0
        one.loc[0, 'kind'] = 'v'
        one.loc[0, 'whole'] = 7
        one.loc[0, 'day'] = one.day[5]
    """)
    assert (
        live.says("float(two.z[0]), two.kind[0], int(two.whole[0]), two.day[0] == three.day[0]")
        == "(0.0, 'u', 1, True)"
    )
    assert live.says("float(three.x[0]), three.kind[0], float(held['one'].x[0])") == "(0.0, 'u', 99.0)"
    assert live.says("held['one'] is one") == "True"


def test_tables_of_other_libraries(live: Live) -> None:
    """Those that happen to be installed; the tests ask for none of them."""
    columns = {"a": list(range(5000)), "b": ["x"] * 5000}
    makers = {"polars": "DataFrame", "pyarrow": "table"}
    for library, maker in makers.items():
        if find_spec(library) is not None:
            table = getattr(import_module(library), maker)(columns)
            assert live.back(table=table)["table"].equals(table)
