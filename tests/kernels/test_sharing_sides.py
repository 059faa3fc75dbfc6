"""Sharing where the other side is another one: another Python, another cloudpickle, another host, a guarded cell."""

from __future__ import annotations

import asyncio
import importlib
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lash_nb.errors import ValueNotSentError
from lash_nb.kernels import sharing
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.scripted import ScriptedKernel
from lash_nb.kernels.shared_values import Held, Pushed

from .contract_guard import Deciding
from .sharing_suite import Live, defined, frame, living
from .suite import fresh


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with living() as live:
        yield live


def test_code_of_another_python_does_not_go(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would crash the interpreter there."""
    cells = defined("def f(): return 1\nclass Empty: pass\nclass Full:\n    def f(self): return 1")
    monkeypatch.setattr(sharing, "CODE_FORM", "00000000")
    python = sys.version.split()[0]
    pushed = live.run(
        live.kernel.push({"f": cells["f"], "Full": cells["Full"], "table": frame(), "Empty": cells["Empty"]})
    )
    why = f"it is, or holds, code of Python {python}, which cannot run in the agent's kernel (Python {python})"
    assert pushed.failed == {"f": why, "Full": why}
    assert set(pushed.sent) == {"table", "Empty"}


def test_where_cloudpickle_has_another_form_it_does_as_it_does(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function has globals of its own, then."""
    cloudpickle: Any = importlib.import_module("cloudpickle")

    theirs = cloudpickle.Pickler._dynamic_function_reduce
    monkeypatch.setattr(cloudpickle.Pickler, "_dynamic_function_reduce", lambda self, f: (*theirs(self, f)[:6],))
    original = cloudpickle.cloudpickle._function_getstate

    def other(function: Any) -> Any:
        state, slots = original(function)
        return {**state}, {**slots, "__globals__": types.MappingProxyType(slots["__globals__"])}

    monkeypatch.setattr(cloudpickle.cloudpickle, "_function_getstate", other)
    cells = defined("STEP = 5\ndef f(n): return n + STEP")
    live.pushes(f=cells["f"])
    assert live.says("f(1), f.__globals__ is globals(), 'STEP' in globals()") == "(6, False, False)"


SUBCLASS = """
import pandas as pd
class Sales(pd.DataFrame):
    _metadata = ['unit']
    @property
    def _constructor(self): return Sales
    def total(self): return self['n'].sum()
sales = Sales({'n': range(5000)})
sales.unit = 'EUR'
"""


def test_a_table_of_a_class_of_the_notebook(live: Live) -> None:
    cells = defined(SUBCLASS)
    assert sharing.needs(cells["sales"]) == {"Sales"}
    live.pushes(sales=cells["sales"], Sales=cells["Sales"])
    assert live.says("int(sales.total()), sales.unit, type(sales[:3]).__name__") == "(12497500, 'EUR', 'Sales')"


def test_an_array_that_is_a_file(live: Live, tmp_path: Path) -> None:
    mapped: Any = np.memmap(tmp_path / "numbers", dtype="f8", mode="w+", shape=(100, 100))
    mapped[:] = 3.0
    live.pushes(mapped=mapped)
    live.does("mapped[0] = 4.0")
    assert live.says("float(mapped.sum())") == "30100.0"
    assert float(mapped.sum()) == 30_000.0


def test_what_a_guarded_cell_is_not_asked_for() -> None:
    """What a value does when it is loaded is the user's own doing."""
    host = Deciding()
    code = "class Asks:\n    def __reduce__(self): import os; return os.system, ('true',)\nasks = Asks()"

    async def steps() -> None:
        async with ManagedKernel() as kernel:
            begun = asyncio.Event()
            slow = "import time; print('begun', flush=True); time.sleep(60)"
            running = kernel.run(fresh(), slow, guard=host.guard(), on_output=lambda outputs: begun.set())
            task = asyncio.ensure_future(running)
            await asyncio.wait_for(begun.wait(), 20)
            assert set((await kernel.push({"asks": defined(code)["asks"], "big": np.zeros(3_000_000)})).sent) == {
                "asks",
                "big",
            }
            await kernel.value("big")
            await kernel.interrupt()
            await task

    asyncio.run(steps())
    assert host.wishes == []


def test_another_host_learns_what_went_over() -> None:
    async def steps() -> None:
        first = ManagedKernel()
        await first.start()
        pushed = await first.push({"x": [1], "big": np.zeros(3_000_000)})
        file, epoch = first.connection_file, first.epoch
        assert file is not None
        await first.leave()
        second = await ManagedKernel.attach(file, epoch=epoch)
        held = await second.held(["x", "big"])
        assert held == {name: Held(sha256=pushed.sent[name].digest, same=True) for name in ("x", "big")}
        await second.shutdown()

    asyncio.run(steps())


def test_a_kernel_of_another_language_takes_and_gives_none(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live.kernel._require_life().process, "has_inside", False)
    monkeypatch.setattr(live.kernel, "language", "bash")
    assert live.run(live.kernel.push({"x": 1})) == Pushed(failed={"x": "a bash kernel takes no values"})
    assert live.run(live.kernel.held(["x"])) == {}
    gives_none = "a bash kernel gives no values: have it write a file"
    assert live.run(live.kernel.values(["x"])).failed == {"x": gives_none}
    with pytest.raises(ValueNotSentError, match=gives_none):
        live.run(live.kernel.value("x"))


async def test_the_double_does_the_same() -> None:
    kernel = ScriptedKernel(values={"own": [1]})
    await kernel.start()
    cells = defined("RATE = 2\ndef f(n): return n * RATE")
    value = {"array": np.arange(30_000.0), "deep": [[1]]}
    pushed = await kernel.push(
        {"value": value, "own": 5, "f": cells["f"], "RATE": 3, "generator": (n for n in [1])}, keep=["own", "value"]
    )
    assert pushed.kept == {"own": "own_agent"}
    assert pushed.failed == {"generator": "TypeError: cannot pickle 'generator' object"}
    held = await kernel.held(["value", "own", "own_agent", "absent"])
    assert held["value"] == Held(sha256=pushed.sent["value"].digest, same=True)
    assert held["own_agent"] == Held()
    assert set(held) == {"value", "own", "own_agent"}
    assert pushed.sent["value"].digest == sharing.digests({"value": value})["value"]
    fetched = await kernel.values(["value", "own_agent", "f", "absent"])
    assert fetched.values["own_agent"] == [1]
    assert fetched.values["f"](2) == 6
    assert fetched.values["value"]["deep"] == [[1]]
    assert fetched.values["value"]["array"] is not value["array"]
    assert fetched.failed == {"absent": "the agent's kernel has no variable 'absent'"}
    await kernel.restart()
    assert await kernel.held(["value"]) == {}
    assert await kernel.value("own") == [1]
