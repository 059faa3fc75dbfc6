"""What is told of values by their types: the standard library's, well-known libraries', functions, declared fields."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import functools
import ipaddress
import pathlib
import pickle
import re
import sys
import time
import types
import uuid
import zoneinfo
from collections.abc import Callable
from typing import Any, Literal, Optional

import numpy as np
import pandas as pd
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lash_nb.kernels.inside.describer import Describer
from lash_nb.kernels.inside.libraries import human


def described(value: Any, previews: str = "sample") -> tuple[str, str, str]:
    [[_, *told]] = Describer().summary({"x": value}, {}, 10, previews)["variables"]
    return (told[0], told[1], told[2])


class Color(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@dataclasses.dataclass(slots=True)
class Slotted:
    one: int
    secret: str = dataclasses.field(default="hidden", repr=False)


class Model(pydantic.BaseModel):
    name: str
    tags: list[str] = []


class Words(dict[str, int]):
    pass


class Name(str):
    __slots__ = ()


class Masked(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return "Masked('***')"


UTC_PLUS_ONE = datetime.timezone(datetime.timedelta(hours=1))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (decimal.Decimal("1.50"), ("Decimal", "", "Decimal('1.50')")),
        (fractions.Fraction(1, 3), ("Fraction", "", "Fraction(1, 3)")),
        (pathlib.PurePosixPath("/a/b"), ("PurePosixPath", "", "PurePosixPath('/a/b')")),
        (datetime.timedelta(days=1), ("timedelta", "", "datetime.timedelta(days=1)")),
        (
            datetime.datetime(2026, 1, 2, tzinfo=UTC_PLUS_ONE),
            (
                "datetime",
                "",
                "datetime.datetime(2026, 1, 2, 0, 0, tzinfo=datetime.timezone(datetime.timedelta(seconds=3600)))",
            ),
        ),
        (zoneinfo.ZoneInfo("UTC"), ("ZoneInfo", "", "zoneinfo.ZoneInfo(key='UTC')")),
        (uuid.UUID(int=1), ("UUID", "", "UUID('00000000-0000-0000-0000-000000000001')")),
        (ipaddress.ip_address("127.0.0.1"), ("IPv4Address", "", "IPv4Address('127.0.0.1')")),
        (range(3), ("range", "", "range(0, 3)")),
        (re.compile("a+"), ("Pattern", "", "re.compile('a+')")),
        (Color.RED, ("Color", "", "<Color.RED: 'red'>")),
        (Level.LOW, ("Level", "", "<Level.LOW: 1>")),
        (ValueError("no"), ("ValueError", "", "ValueError('no')")),
        (KeyError(), ("KeyError", "", "KeyError()")),
        (types.SimpleNamespace(a=1), ("SimpleNamespace", "fields a int", "SimpleNamespace(a=1)")),
        (collections.Counter("aab"), ("Counter", "length 2 of str to int", "Counter({'a': 2, 'b': 1})")),
        (collections.deque([1, 2], 5), ("deque", "length 2 of int", "deque([1, 2])")),
        (collections.defaultdict(list), ("defaultdict", "length 0", "defaultdict({})")),
        (Words(a=1), ("Words", "length 1 of str to int", "Words({'a': 1})")),
        (Name("n"), ("Name", "length 1", "Name('n')")),
        (Masked("secret"), ("Masked", "length 6", "Masked('***')")),
        (Slotted(1), ("Slotted", "fields one int, secret str", "Slotted(one=1)")),
        (Model(name="n"), ("Model", "fields name str, tags list", "Model(name='n', tags=[])")),
        ([{}, {}, {}], ("list", "length 3 of dict", "[{}, {}, {}]")),
        ([1, "a", None], ("list", "length 3 of None, int, str", "[1, 'a', None]")),
        ({"a": [1], "b": None}, ("dict", "length 2 of str to None, list", "{'a': [1], 'b': None}")),
        ([], ("list", "length 0", "[]")),
        (bytearray(b"ab"), ("bytearray", "length 2", "bytearray(b'ab')")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values(value: Any, told: tuple[str, str, str]) -> None:
    assert described(value) == told


def documented(
    a: int, /, b: str | None = None, *rest: Any, c: Literal["x"] = "x", **more: list[dict[str, int]]
) -> "int | None":  # noqa: UP037
    """The first line.

    And another.
    """
    return None


documented.__annotations__ = {
    "a": int,
    "b": Optional[str],  # noqa: UP045
    "rest": Any,
    "c": Literal["x"],
    "more": list[dict[str, int]],
    "return": int | None,
}


@functools.lru_cache
def cached(a: int) -> None:
    """Kept."""


@functools.wraps(documented)
def wrapper(*args: Any, **kwargs: Any) -> None: ...


class Service:
    """What it is for."""

    def call(self, key: str, /, *, deep: bool = False) -> None: ...


SIGNATURE = (
    "(a: int, /, b: str | None = None, *rest: Any, c: Literal['x'] = 'x', **more: list[dict[str, int]]) -> int | None"
)


@pytest.mark.parametrize(
    ("value", "detail", "long"),
    [
        (documented, SIGNATURE, "The first line."),
        (wrapper, SIGNATURE, "The first line."),
        (cached, "(a: int) -> None", "Kept."),
        (Service().call, "(key: str, /, *, deep: bool = False) -> None", ""),
        (lambda x, y=1: x, "(x, y=1)", ""),
        (len, "(obj, /)", "Return the number of items in a container."),
    ],
    ids=["plain", "wrapped", "cached", "method", "lambda", "built in"],
)
def test_functions(value: Any, detail: str, long: str) -> None:
    assert described(value) == ("function", detail, "")
    assert described(value, "full") == ("function", detail, long)


def test_classes_and_modules() -> None:
    assert described(Service, "full") == ("class", "", "What it is for.")
    assert described(Slotted) == ("class", "fields one, secret", "")
    assert described(Model) == ("class", "BaseModel; fields name, tags", "")
    assert described(Level)[:2] == ("class", "IntEnum")
    assert described(np) == ("module", f"numpy {np.__version__}", "")


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (
            np.zeros((1000, 1000)),
            ("ndarray", "shape (1000, 1000); dtype float64; 8.0 MB", "[0.0, 0.0, 0.0, 0.0, 0.0, …]"),
        ),
        (np.array([{"a": 1}, None]), ("ndarray", "shape (2,); dtype object", "[{'a': 1}, None]")),
        (np.array([(1, "a")], dtype=[("n", int), ("s", "U1")])[0], ("void", "", "(1, 'a')")),
        (np.array(3), ("ndarray", "shape (); dtype int64", "[3]")),
        (np.datetime64("NaT"), ("datetime64", "", "None")),
        (np.ma.masked_array([1], mask=[True]), ("MaskedArray", "shape (1,); dtype int64", "")),
        (pd.RangeIndex(3), ("RangeIndex", "shape (3,); dtype int64", "[0, 1, 2]")),
        (pd.Timestamp("2026-01-02"), ("Timestamp", "", "Timestamp('2026-01-02 00:00:00')")),
        (pd.Series(["a"], name="n"), ("Series", "shape (1,); dtype str; name 'n'", "['a']")),
        (pd.Series([], dtype=float), ("Series", "shape (0,); dtype float64", "")),
        (
            pd.DataFrame(np.zeros((200_000, 9))),
            (
                "DataFrame",
                "shape (200000, 9); 14 MB; columns 0 float64, 1 float64, 2 float64, 3 float64, 4 float64, 5 float64, "
                "6 float64, 7 float64, 8 float64",
                "first row: 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0",
            ),
        ),
        (
            pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", 1), ("a", 2)])),
            ("DataFrame", "shape (1, 2); columns (a, 1) int64, (a, 2) int64", "first row: 1, 2"),
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_numpy_and_pandas(value: Any, told: tuple[str, str, str]) -> None:
    assert described(value) == told


def test_a_wide_frame_is_not_walked() -> None:
    wide = pd.DataFrame(np.zeros((2, 200_000)))
    describer = Describer()
    begun = time.monotonic()
    [[_, kind, detail, *_]] = describer.summary({"x": wide}, {}, 10)["variables"]
    assert time.monotonic() - begun < 1
    assert (kind, detail.endswith("… 199988 more")) == ("DataFrame", True)


@pytest.mark.parametrize(
    ("size", "text"), [(999_999, "1000 kB"), (1_400_000, "1.4 MB"), (14_400_000, "14 MB"), (2_500_000_000, "2.5 GB")]
)
def test_sizes_are_told_as_people_tell_them(size: int, text: str) -> None:
    assert human(size) == text


ATOMS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.decimals()
KEYS = st.text() | st.integers() | st.tuples(st.text(), st.booleans())
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(KEYS, inner)
        | st.sets(KEYS)
        | st.tuples(inner, inner)
        | st.builds(lambda items: np.array([*items, None], dtype=object), st.lists(ATOMS))
        | st.builds(lambda items: pd.DataFrame({"a": items}, dtype=object), st.lists(ATOMS))
    ),
    max_leaves=30,
)


@given(VALUES)
@settings(max_examples=200, deadline=None)
def test_whatever_it_is_the_text_is_bounded_and_the_value_stays_as_it_was(value: Any) -> None:
    before = pickle.dumps(value)
    for previews, limit in (("schema", 0), ("sample", 120), ("full", 2000)):
        kind, detail, preview = described(value, previews)
        assert kind == type(value).__name__
        assert len(detail) <= 400
        assert len(preview) <= limit
        assert "cannot be described" not in preview
        (kind + detail + preview).encode()
    assert pickle.dumps(value) == before


# ---------------------------------------------------------------------------- libraries that need not be installed here


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, name: str, **members: Any) -> Any:
    """An object of a class that a library has under that name: the describers know libraries by nothing else."""
    made = type(name, (), {"__module__": module, **members})
    package = sys.modules.get(module) or types.ModuleType(module)
    monkeypatch.setattr(package, name, made, raising=False)
    monkeypatch.setitem(sys.modules, module, package)
    return made()


def forbidden(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("this would compute")


def test_polars(monkeypatch: pytest.MonkeyPatch) -> None:
    dtype = stand_in(monkeypatch, "polars.datatypes", "Int64", __str__=lambda self: "Int64")
    listing = stand_in(monkeypatch, "polars.datatypes", "Enum", __str__=forbidden)
    frame = stand_in(
        monkeypatch,
        "polars.dataframe.frame",
        "DataFrame",
        shape=(2, 2),
        columns=["a", "b"],
        dtypes=[dtype, listing],
        estimated_size=lambda self: 3_000_000,
        row=lambda self, number: (number, "x"),
        __len__=lambda self: 2,
    )
    lazy = stand_in(monkeypatch, "polars.lazyframe.frame", "LazyFrame", collect=forbidden, columns=property(forbidden))
    assert described(frame) == ("DataFrame", "shape (2, 2); 3.0 MB; columns a Int64, b Enum", "first row: 0, 'x'")
    assert described(lazy) == ("LazyFrame", "lazy", "")


def test_pyarrow(monkeypatch: pytest.MonkeyPatch) -> None:
    dtype = stand_in(monkeypatch, "pyarrow.lib", "DataType", __str__=lambda self: "int64")
    field = types.SimpleNamespace(name="a", type=dtype)
    schema = stand_in(monkeypatch, "pyarrow.lib", "Schema", field=lambda self, n: field, __len__=lambda self: 1)
    table = stand_in(monkeypatch, "pyarrow.lib", "Table", shape=(5, 1), schema=schema, nbytes=40, to_pandas=forbidden)
    assert described(table) == ("Table", "shape (5, 1); columns a int64", "")
    [[*_, columns]] = Describer().summary({"x": table}, {}, 10)["variables"]
    assert columns == [["a", "int64"]]


def test_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    dtype = stand_in(monkeypatch, "torch", "dtype", __str__=lambda self: "torch.float32")
    tensor = stand_in(
        monkeypatch,
        "torch",
        "Tensor",
        shape=(1000, 1000),
        dtype=dtype,
        device="cuda:0",
        _version=0,
        element_size=lambda self: 4,
        nelement=lambda self: 1_000_000,
        item=forbidden,
        tolist=forbidden,
        __repr__=forbidden,
    )
    describer = Describer()
    told = ["x", "Tensor", "shape (1000, 1000); dtype float32; device cuda:0; 4.0 MB", "", True, []]
    assert describer.summary({"x": tensor}, {}, 10)["variables"] == [told]
    assert describer.summary({"x": tensor}, {}, 10)["variables"][0][4] is False
    tensor._version = 1
    assert describer.summary({"x": tensor}, {}, 10)["variables"][0][4] is True


@pytest.mark.parametrize(
    ("module", "name", "detail", "preview"),
    [
        ("dask.dataframe.core", "DataFrame", "lazy", ""),
        ("sqlalchemy.sql.selectable", "Select", "", "<Select>"),
        ("django.db.models.query", "QuerySet", "", "<QuerySet>"),
    ],
)
def test_what_would_compute_is_not_looked_into(
    monkeypatch: pytest.MonkeyPatch, module: str, name: str, detail: str, preview: str
) -> None:
    members: dict[str, Callable[..., Any]] = {
        word: forbidden for word in ("__repr__", "__len__", "__iter__", "__getitem__")
    }
    lazy = stand_in(monkeypatch, module, name, columns=property(forbidden), shape=property(forbidden), **members)
    assert described(lazy) == (name, detail, preview)
