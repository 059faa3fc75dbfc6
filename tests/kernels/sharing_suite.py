"""What the tests of sharing have in common: a kernel that takes and gives values, and values of many kinds."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
from collections import OrderedDict, defaultdict, deque
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np
import pandas as pd
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from lash_nb.kernels.inside.parcels import Arrived, Layout, Place
from lash_nb.kernels.inside.pickling import packed
from lash_nb.kernels.inside.unpickling import Unpickler
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.sharing import digests
from lash_nb.machine.execution import CellOutcome, ResultOutput

from .suite import fresh

FEW = settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))


class Live:
    """A kernel on a loop of its own, for tests that are no coroutines."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()
        self.kernel = ManagedKernel()
        self.run(self.kernel.start())

    def run(self, awaitable: Any) -> Any:
        return self.runner.run(awaitable)

    def says(self, code: str) -> str:
        """What the last expression of a cell gives."""
        result = self.run(self.kernel.run(fresh(), dedent(code)))
        assert result.outcome is CellOutcome.OK, result.error
        last = result.outputs[-1]
        assert isinstance(last, ResultOutput)
        return str(last.data["text/plain"])

    def does(self, code: str) -> None:
        assert self.run(self.kernel.run(fresh(), dedent(code))).outcome is CellOutcome.OK

    def pushes(self, **values: Any) -> None:
        """And nothing is changed by it."""
        before = digests(values)
        pushed = self.run(self.kernel.push(values))
        assert pushed.failed == {}
        assert {name: sent.digest for name, sent in pushed.sent.items()} == before == digests(values)

    def refuses(self, **values: Any) -> dict[str, str]:
        return dict(self.run(self.kernel.push(values)).failed)

    def gives(self, *names: str) -> dict[str, Any]:
        fetched = self.run(self.kernel.values(names))
        assert fetched.failed == {}
        return dict(fetched.values)

    def back(self, **values: Any) -> dict[str, Any]:
        """There and back."""
        self.pushes(**values)
        return self.gives(*values)


@contextlib.contextmanager
def living() -> Iterator[Live]:
    """A kernel; when it ends, no file of a value is left in its directory."""
    live = Live()
    try:
        yield live
        assert live.kernel.connection_file is not None
        assert list(live.kernel.connection_file.parent.glob("values-*")) == []
    finally:
        live.run(live.kernel.shutdown())
        live.runner.close()


def defined(code: str, **given: Any) -> dict[str, Any]:
    """What a notebook's cells would have defined."""
    namespace: dict[str, Any] = {"__name__": "__main__", "__builtins__": builtins, **given}
    exec(compile(dedent(code), "<cell>", "exec", dont_inherit=True), namespace)
    return namespace


def carried(value: Any, place: Place) -> Any:
    """What is made of a value in this process, by way of a file."""
    one = packed(value)
    layout = Layout([one])
    layout.write(place.fd, stopped=lambda: False)
    one.release()
    arrived = Arrived({**place.told(), **layout.told()})
    place.close()
    ((begin, _, numbers),) = layout.streams
    buffers = [arrived.buffers[number] for number in numbers]
    return Unpickler(arrived.stream(begin), buffers=buffers, live={}).load()


def frame() -> Any:
    size = 6_000
    return pd.DataFrame(
        {
            "n": np.arange(size),
            "x": np.arange(size) / 2,
            "y": np.arange(size) / 3,
            "s": ["a", None, "ccc"] * (size // 3),
            "o": [[1], "b", 3] * (size // 3),
            "day": pd.date_range("2020", periods=size, freq="h", tz="Europe/Berlin"),
            "kind": pd.Categorical(["u", "v"] * (size // 2)),
            "whole": pd.array([1, None] * (size // 2), dtype="Int64"),
            "yes": pd.array([True, None] * (size // 2), dtype="boolean"),
            "span": pd.interval_range(0, size),
            "gap": pd.arrays.SparseArray([0, 1] * (size // 2)),
            "month": pd.period_range("2020", periods=size, freq="D"),
        }
    )


ATOMS: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.complex_numbers(allow_nan=False),
    st.dates(),
    st.datetimes(),
    st.timedeltas(),
    st.decimals(allow_nan=False),
    st.fractions(),
    st.uuids(),
    st.just(Ellipsis),
    st.just(Path("a/b")),
    st.just(range(3, 9)),
    st.just(OrderedDict(a=1)),
    st.just(np.float32(1.5)),
    st.just(pd.Timestamp("2024-02-29", tz="UTC")),
)
HASHABLE = st.one_of(st.integers(), st.text(), st.booleans(), st.tuples(st.integers(), st.text()))
VALUES = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.tuples(inner, inner),
        st.dictionaries(HASHABLE, inner, max_size=4),
        st.sets(HASHABLE, max_size=4),
        st.frozensets(HASHABLE, max_size=4),
        st.lists(inner, max_size=3).map(deque),
        st.dictionaries(HASHABLE, inner, max_size=3).map(lambda d: defaultdict(list, d)),
    ),
    max_leaves=12,
)
