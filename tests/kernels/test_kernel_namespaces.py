"""A real kernel's variables: "same" where nothing changed, and reprs that neither print nor ask nor hold it up."""

from __future__ import annotations

import asyncio
import textwrap
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lash_nb.kernels.inside.describer import BUDGET_S
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.summaries import Summaries
from lash_nb.machine.execution import CellOutcome, NamespaceSummary

from .contract_guard import Deciding
from .suite import fresh, texts


@pytest.fixture(scope="module")
def shared() -> Iterator[ManagedKernel]:
    kernel = ManagedKernel()
    yield kernel
    asyncio.run(kernel.shutdown())


@pytest.fixture
async def kernel(shared: ManagedKernel) -> ManagedKernel:
    await shared.restart()
    return shared


async def run(kernel: ManagedKernel, code: str, **options: Any) -> str:
    result = await kernel.run(fresh(), textwrap.dedent(code), **options)
    assert result.outcome is CellOutcome.OK, result.error
    return "".join(texts(result))


def replies(kernel: ManagedKernel, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the kernel answers from here on."""
    seen: list[Any] = []
    original = Summaries.take

    def take(self: Summaries, asked: Any, reply: Any) -> NamespaceSummary:
        seen.append("same" if "same" in reply else "told")
        return original(self, asked, reply)

    monkeypatch.setattr(Summaries, "take", take)
    return seen


async def settled(kernel: ManagedKernel) -> NamespaceSummary:
    """What is told once the kernel has nothing more to do after a cell."""
    await kernel.namespace()
    await asyncio.sleep(0.2)
    return await kernel.namespace()


async def test_a_kernel_says_that_nothing_changed(kernel: ManagedKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    await run(kernel, "x = [1]; import threading, asyncio, time")
    first = await kernel.namespace()
    seen = replies(kernel, monkeypatch)
    assert [v.changed for v in first.variables] == [True] * 4
    for _ in range(3):
        told = await kernel.namespace()
        assert [(v.name, v.preview, v.changed) for v in told.variables if v.name == "x"] == [("x", "[1]", False)]
    assert seen == ["same"] * 3
    await run(kernel, "x.append(2)")
    assert [v.preview for v in (await kernel.namespace()).variables if v.changed] == ["[1, 2]"]
    await run(kernel, "None")
    await kernel.namespace()
    assert seen == ["same", "same", "same", "told", "same"]
    assert (await kernel.namespace(previews="schema")).variables[-1].preview == ""
    assert seen[-1] == "told"


@pytest.mark.parametrize(
    "later",
    [
        "threading.Thread(target=lambda: (time.sleep(0.5), x.append(2))).start()",
        "_task = asyncio.get_running_loop().create_task(change())",
        "_timer = asyncio.get_running_loop().call_later(0.5, x.append, 2)",
        "import signal\n_old = signal.signal(signal.SIGALRM, lambda *_: x.append(2)); _t = signal.setitimer(0, 0.5)",
    ],
    ids=["thread", "task", "callback", "signal"],
)
async def test_what_changes_while_no_cell_runs_is_seen(kernel: ManagedKernel, later: str) -> None:
    await run(
        kernel,
        "import threading, asyncio, time\nx = [1]\nasync def change():\n    await asyncio.sleep(0.5)\n    x.append(2)",
    )
    await run(kernel, later)
    assert [v.preview for v in (await settled(kernel)).variables if v.name == "x"] == ["[1]"]
    deadline = time.monotonic() + 10
    while "[1, 2]" not in [v.preview for v in (await kernel.namespace()).variables]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_what_changes_in_a_running_cell_is_seen(kernel: ManagedKernel) -> None:
    await run(kernel, "x = [1]; import time")
    await settled(kernel)
    running = asyncio.ensure_future(run(kernel, "time.sleep(0.3); x.append(2); time.sleep(1)"))
    deadline = time.monotonic() + 10
    while [v.preview for v in (await kernel.namespace()).variables if v.name == "x"] != ["[1, 2]"]:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    assert not running.done()
    await running


HOSTILE = """
import time, sys
class Prints:
    def __repr__(self):
        print("NOISE"); print("NOISE", file=sys.stderr); display("NOISE")
        return "Prints()"
class Writes:
    def __repr__(self):
        open("/nowhere/at/all", "w")
class Sleeps:
    def __repr__(self): time.sleep(3)
class Loops:
    def __repr__(self):
        while True: pass
a_prints, b_writes, c_sleeps, d_loops, e_text = Prints(), Writes(), Sleeps(), Loops(), "text"
"""


async def test_reprs_neither_print_nor_ask_nor_hold_the_kernel_up(kernel: ManagedKernel) -> None:
    host = Deciding()
    running = asyncio.ensure_future(run(kernel, HOSTILE + "time.sleep(2)", guard=host.guard()))
    for _ in range(20):
        await kernel.namespace()
        await asyncio.sleep(0.05)
    assert not running.done()
    await running
    for _ in range(3):
        begun = time.monotonic()
        told = await kernel.namespace()
        assert time.monotonic() - begun < BUDGET_S + 1
    previews = {v.name: v.preview for v in told.variables}
    assert previews["a_prints"] == "Prints()"
    assert previews["e_text"] == "'text'"
    assert previews["b_writes"] == "<Writes: its repr raises FileNotFoundError>"
    assert (previews["c_sleeps"], previews["d_loops"]) == ("<Sleeps>", "<Loops>")
    assert host.wishes == []
    result = await kernel.run(fresh(), "print('mine')")
    assert texts(result) == ["mine\n"]
    assert kernel.take_background() == ()


async def test_a_repr_in_the_middle_of_a_printing_cell_prints_nothing(kernel: ManagedKernel) -> None:
    await run(kernel, HOSTILE)
    cell = "for n in range(200):\n    print(n)\n    time.sleep(0.002)"
    running = asyncio.ensure_future(run(kernel, cell))
    while not running.done():
        await kernel.namespace()
        await asyncio.sleep(0.01)
    assert await running == "".join(f"{n}\n" for n in range(200))
