"""Cells that are only tried out get new copies each, and leave nothing behind that is taken for the agent's own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import ResultOutput
from lash_nb.sharing import Sharing

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def started() -> AsyncIterator[ManagedKernel]:
    kernel = ManagedKernel()
    await kernel.start()
    yield kernel
    await kernel.shutdown()


@pytest_asyncio.fixture(loop_scope="module")
async def kernel(started: ManagedKernel) -> ManagedKernel:
    await started.run("", "%reset -f")
    return started


async def run(sharing: Sharing, kernel: ManagedKernel, code: str, *, afresh: bool = True) -> tuple[set[str], set[str]]:
    """What went over before a cell, and what of the agent's got another name; then it is run."""
    shared = await sharing.for_cell(code, kernel, afresh=afresh)
    await kernel.run("", code)
    if shared is None:
        return set(), set()
    return {one.name for one in shared.shared}, {one.before for one in shared.shared if one.before}


async def value(kernel: ManagedKernel, code: str) -> str:
    result = await kernel.run("", code)
    (output,) = [output for output in result.outputs if isinstance(output, ResultOutput)]
    return str(output.data["text/plain"])


async def test_each_cell_has_them_as_they_are_here(kernel: ManagedKernel) -> None:
    sharing = Sharing({"x": [1], "y": 2})
    assert await run(sharing, kernel, "x.append(9)") == ({"x"}, set())
    assert await run(sharing, kernel, "x.append(8)") == ({"x"}, set())
    assert await value(kernel, "x") == "[1, 8]"
    assert await run(sharing, kernel, "x = x + [y]") == ({"x", "y"}, set())
    assert await run(sharing, kernel, "del x") == ({"x"}, set())
    assert await run(sharing, kernel, "len(x)") == ({"x"}, set())
    assert await run(sharing, kernel, "len(x)") == (set(), set()), "it is as it was"


async def test_what_is_one_object_here_is_one_there(kernel: ManagedKernel) -> None:
    both = [1]
    sharing = Sharing({"a": both, "b": both})
    await run(sharing, kernel, "len(a)")
    assert await run(sharing, kernel, "a.append(2); b.append(3)") == ({"a", "b"}, set())
    assert await value(kernel, "a, a is b") == "([1, 2, 3], True)"


async def test_the_agents_own_is_kept_once_and_what_is_tried_out_never(kernel: ManagedKernel) -> None:
    namespace: dict[str, Any] = {}
    sharing = Sharing(namespace)
    assert await run(sharing, kernel, "x = 'the agent made it'", afresh=False) == (set(), set())
    await sharing.note_kernels(["x"], kernel.epoch)
    namespace["x"] = "mine"
    sharing.begin_turn()
    assert await run(sharing, kernel, "x = x.upper()") == ({"x"}, {"x_agent"})
    assert await run(sharing, kernel, "x = x.title()") == ({"x"}, set())
    assert await value(kernel, "x, x_agent") == "('Mine', 'the agent made it')"


async def test_the_next_turn_is_told_of_no_change(kernel: ManagedKernel) -> None:
    namespace: dict[str, Any] = {"x": [1]}
    sharing = Sharing(namespace)
    await run(sharing, kernel, "x.append(2)\ntotal = sum(x)")
    await sharing.note_kernels(["x", "total"], kernel.epoch)
    namespace["total"] = 1  # the user ran it, too
    namespace["x"].append(7)
    sharing.begin_turn()
    assert await run(sharing, kernel, "x, total", afresh=False) == ({"x", "total"}, set())
    assert await value(kernel, "x, total") == "([1, 7], 1)"
    # From then on, what the agent makes is its own again.
    assert await run(sharing, kernel, "x.append(3)", afresh=False) == (set(), set())
    namespace["x"] = [5]
    sharing.begin_turn()
    assert await run(sharing, kernel, "len(x)", afresh=False) == ({"x"}, {"x_agent"})


async def test_what_the_next_turn_makes_itself_is_its_own(kernel: ManagedKernel) -> None:
    sharing = Sharing({"x": [1]})
    await run(sharing, kernel, "x.append(2)")
    sharing.begin_turn()
    assert await run(sharing, kernel, "x = 'its own'", afresh=False) == (set(), set())
    assert await run(sharing, kernel, "print(x)", afresh=False) == (set(), set())
    assert await value(kernel, "x") == "'its own'"


async def test_copies_are_refreshed_where_something_is_left(kernel: ManagedKernel) -> None:
    sharing = Sharing({"x": [1], "y": [2]})
    await run(sharing, kernel, "x.append(2)\nz = 3\nlen(y)")
    await sharing.refresh(kernel)
    assert await value(kernel, "x, y, z") == "([1], [2], 3)"
    held = await kernel.held(["x", "y"])
    assert [held["x"].untouched, held["y"].untouched] == [True, True]


async def test_another_life_of_the_kernel_is_a_new_beginning(started: ManagedKernel) -> None:
    sharing = Sharing({"x": [1]})
    await run(sharing, started, "x.append(2)")
    await started.restart()
    assert await run(sharing, started, "x.append(3)") == ({"x"}, set())
    assert await value(started, "x") == "[1, 3]"
