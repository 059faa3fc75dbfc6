"""Memory that a cell has used up to its last byte: the kernel tells so, and the next cells work with what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.resources import ResourceLimits
from lash_nb.machine.execution import CellOutcome

from .suite import fresh, texts

pytestmark = pytest.mark.timeout(120)

SMALL = "z = []\nwhile True: z.append(object())"
ROWS = "rows = []\nfor i in range(10**9): rows.append({'id': i, 'name': str(i)})"
SWALLOWED = """
kept = []
try:
    while True: kept.append(object())
except MemoryError:
    pass
await_me = 1
"""


@pytest.mark.parametrize("code", [SMALL, ROWS], ids=["objects", "rows"])
async def test_small_things_that_fill_the_memory(tmp_path: Path, code: str) -> None:
    async with ManagedKernel(cwd=tmp_path, resources=ResourceLimits(memory_bytes=300 << 20)) as kernel:
        before = kernel.epoch
        result = await kernel.run(fresh(), code, timeout_s=60)
        assert result.outcome is CellOutcome.ERROR, result
        assert result.error is not None
        assert result.error.ename == "MemoryError"
        assert texts(await kernel.run(fresh(), "6 * 7")) == ["42"]
        assert {one.name for one in (await kernel.namespace()).variables} >= {code[: code.index(" ")]}
        assert (await kernel.run(fresh(), f"del {code[: code.index(' ')]}")).outcome is CellOutcome.OK
        assert texts(await kernel.run(fresh(), "len(bytearray(100 << 20))")) == ["104857600"]
        assert kernel.epoch == before


async def test_a_cell_that_goes_on_at_the_bound(tmp_path: Path) -> None:
    async with ManagedKernel(cwd=tmp_path, resources=ResourceLimits(memory_bytes=300 << 20)) as kernel:
        assert (await kernel.run(fresh(), SWALLOWED, timeout_s=60)).outcome is CellOutcome.OK
        assert texts(await kernel.run(fresh(), "await_me")) == ["1"]


async def test_code_may_bound_itself_more_closely(tmp_path: Path) -> None:
    async with ManagedKernel(cwd=tmp_path, resources=ResourceLimits(memory_bytes=1 << 30)) as kernel:
        code = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (512 << 20, 512 << 20))"
        assert (await kernel.run(fresh(), code)).outcome is CellOutcome.OK
        assert texts(await kernel.run(fresh(), "6 * 7")) == ["42"]


async def test_nothing_is_bounded_where_nothing_was_asked(tmp_path: Path) -> None:
    async with ManagedKernel(cwd=tmp_path) as kernel:
        code = "import resource; resource.getrlimit(resource.RLIMIT_DATA) == (resource.RLIM_INFINITY,) * 2"
        assert texts(await kernel.run(fresh(), code)) == ["True"]
        assert kernel.missing_features == ()
