"""What is held of what was delivered, what a value needs, and values while cells run."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from lash_nb.kernels.shared_values import Held
from lash_nb.kernels.sharing import digests, needs
from lash_nb.machine.execution import CellOutcome

from .sharing_suite import FEW, VALUES, Live, defined, frame, living
from .suite import until_begun


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with living() as live:
        yield live


# -- is it still what was delivered? -----------------------------------------------------------------------------------


def test_what_is_held(live: Live) -> None:
    values = {"table": frame(), "array": np.zeros(2_000_000), "items": [1, {"a": [2]}], "number": 7, "text": "t"}
    live.pushes(**values)
    here = digests(values)
    live.does("own = 1")
    held = live.run(live.kernel.held([*values, "own", "absent"]))
    assert held == {**{name: Held(sha256=here[name], same=True) for name in values}, "own": Held()}
    assert not any(one.same for one in live.run(live.kernel.held([*values], look=False)).values())
    live.says("table.describe(); table.sort_values('x'); array.sum(); items[1]['a']; str(table)")
    assert all(one.same for name, one in live.run(live.kernel.held(list(values))).items())


CHANGES = {
    "a value of an array": ("array", "array[1_500_000] = 1"),
    "a value of a table": ("table", "table.loc[3, 'x'] = 77.0"),
    "a text of a table": ("table", "table.loc[3, 's'] = 'zz'"),
    "a new column": ("table", "table['new'] = 1"),
    "something deep in it": ("items", "items[1]['a'].append(3)"),
    "another object": ("items", "items = [2]"),
    "an equal object": ("table", "table = table.copy()"),
    "its class": ("thing", "type(thing).size = 5"),
    "its attribute": ("thing", "thing.n = 2"),
    "its order": ("array", "array[:2] = [9, 8]"),
    "nothing of its own any more": ("items", "del items"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_was_changed_is_told(live: Live, name: str) -> None:
    thing = defined("class Thing:\n    n = 1\nthing = Thing()")["thing"]
    live.pushes(table=frame(), array=np.zeros(2_000_000), items=[1, {"a": [2]}], thing=thing)
    changed, code = CHANGES[name]
    live.does(code)
    held = live.run(live.kernel.held(["table", "array", "items", "thing"]))
    assert [one for one in ("table", "array", "items", "thing") if one not in held or not held[one].same] == [changed]


def test_where_pages_are_not_told_the_bytes_are_read(live: Live) -> None:
    live.does("""
        import os
        opening = os.open
        def refuse(path, *args, **kwargs):
            if 'pagemap' in str(path): raise OSError('no')
            return opening(path, *args, **kwargs)
        os.open = refuse
    """)
    try:
        live.pushes(array=np.ones(2_000_000))
        assert live.run(live.kernel.held(["array"]))["array"].same
        live.does("array[-1] = 2")
        assert not live.run(live.kernel.held(["array"]))["array"].same
    finally:
        live.does("os.open = opening")


def test_what_is_too_long_to_look_at_counts_as_changed(live: Live) -> None:
    live.pushes(long=[f"{number:>200}" for number in range(200_000)])
    assert not live.run(live.kernel.held(["long"]))["long"].same


def test_what_is_kept_goes_on_under_another_name(live: Live) -> None:
    live.does("mine = 'agent'; mine_agent = 0")
    pushed = live.run(live.kernel.push({"mine": 1, "new": 2}, keep=["mine", "new"]))
    assert pushed.kept == {"mine": "mine_agent_2"}
    assert live.says("mine, mine_agent, mine_agent_2, new") == "(1, 0, 'agent', 2)"


@FEW
@given(value=VALUES)
def test_digests_do_not_change_by_themselves(live: Live, value: Any) -> None:
    live.pushes(value=value)
    first = digests({"value": value})
    assert repr(value) is not None
    assert digests({"value": value, "other": [value]})["value"] == first["value"]
    assert live.run(live.kernel.held(["value"]))["value"] == Held(sha256=first["value"], same=True)


# -- what is needed ----------------------------------------------------------------------------------------------------

NEEDS: dict[str, tuple[str, set[str]]] = {
    "a function": ("A = 1\ndef value(): return A + len([])", {"A"}),
    "what it writes is not read": ("A = 1\ndef value():\n    global B\n    B = A", {"A"}),
    "one step": ("A = 1\ndef g(): return A\ndef value(): return g()", {"g"}),
    "inner functions": (
        "A = B = 1\ndef value():\n    def inner(): return [A for _ in B]\n    return inner",
        {"A", "B"},
    ),
    "a default": ("A = 1\ndef g(): return A\ndef value(f=g, *, k=[g]): pass", {"A"}),
    "a cache": ("import functools\nA = 1\n@functools.cache\ndef value(): return A", {"A"}),
    "a partial": ("import functools\nA = 1\ndef g(x): return A\nvalue = functools.partial(g, 1)", {"A"}),
    "a class's bases": ("A = 1\nclass Base:\n    def f(self): return A\nclass value(Base): pass", {"A"}),
    "an object": ("A = 1\nclass K:\n    def f(self): return A\nvalue = K()", {"A"}),
    "a method": ("A = 1\nclass K:\n    def f(self): return A\nvalue = K().f", {"A"}),
    "in a container": ("A = 1\nvalue = {'k': [lambda: A]}", {"A"}),
    "a module that it uses": ("import math\ndef value(): return math.pi", {"math"}),
    "data": ("A = 1\nvalue = [1, 'A', {'A': 2}]", set()),
    "a name that is not there": ("def value(): return absent", set()),
    "itself": ("def value(n): return value(n - 1)", {"value"}),
    "a generator function": ("A = [1]\ndef value(): yield from A", {"A"}),
    "a closure": (
        """
        A = 1
        def make():
            def held(): return A
            def value(): return held()
            return value
        value = make()
        """,
        {"A"},
    ),
    "a wrapper": (
        """
        import functools
        A = 1
        def deco(f):
            @functools.wraps(f)
            def wrapper(*a): return f(*a)
            return wrapper
        @deco
        def value(): return A
        """,
        {"A"},
    ),
    "a class": (
        """
        A = B = C = D = 1
        class value:
            def f(self): return A
            @property
            def p(self): return B
            @classmethod
            def c(cls): return C
            @staticmethod
            def s(): return D
        """,
        {"A", "B", "C", "D"},
    ),
}


@pytest.mark.parametrize("name", NEEDS)
def test_needs(name: str) -> None:
    code, expected = NEEDS[name]
    assert needs(defined(code)["value"]) == expected


def test_needs_runs_no_code() -> None:
    ran: list[str] = []
    code = """
        class Meta(type):
            def __getattribute__(cls, name):
                ran.append(name)
                return super().__getattribute__(name)
        class Rude(metaclass=Meta):
            def __getattribute__(self, name): ran.append(name); raise RuntimeError
            def __iter__(self): ran.append('iter'); yield
            __eq__ = __hash__ = None
        rude = Rude()
    """
    cells = defined(code, ran=ran)
    ran.clear()
    needs(cells["rude"])
    needs([cells["rude"], types.SimpleNamespace(a=cells["rude"])])
    assert ran == []


# -- while cells run ---------------------------------------------------------------------------------------------------


BUSY = ["import time; print(1, flush=True); time.sleep(60)", "print(1, flush=True)\nwhile True: pass"]


@pytest.mark.parametrize("code", BUSY)
def test_while_a_cell_runs(live: Live, code: str) -> None:
    async def steps() -> list[Any]:
        task = await until_begun(live.kernel, code)
        pushed = await live.kernel.push({"during": frame(), "n": 5})
        held = await live.kernel.held(["during"])
        back = await live.kernel.value("n")
        await live.kernel.interrupt()
        assert (await task).outcome is CellOutcome.INTERRUPTED
        return [set(pushed.sent), held["during"].same, back]

    assert live.run(steps()) == [{"during", "n"}, True, 5]


def test_many_at_once(live: Live) -> None:
    async def steps() -> list[Any]:
        pushes = [live.kernel.push({f"many{n}": np.full(100_000, n)}) for n in range(12)]
        await asyncio.gather(*pushes)
        return await asyncio.gather(*(live.kernel.value(f"many{n}") for n in range(12)))

    assert [int(one[-1]) for one in live.run(steps())] == list(range(12))
