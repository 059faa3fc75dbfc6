"""A client that can be stopped: `python -m tests.bench.stalled` says `running`, then how many lines it lost.

`tests.bench.alone` runs it and stops its whole process while the cell prints.
"""

from __future__ import annotations

import asyncio
import json

from lash_nb.machine.execution import CellOutcome
from lash_nb.stores.blobs import MemoryBlobStore

from .ours import fresh_kernel, text_of, until_it_prints

__all__ = ["LINES", "PRINTING", "lost_lines"]

LINES = 20_000
PRINTING = f"for i in range({LINES}): print(i, flush=True)"


def lost_lines(text: str) -> int:
    """How many of the lines of `PRINTING` did not come; AssertionError when all came but not as they were printed."""
    expected = [str(number) for number in range(LINES)]
    lost = len(set(expected) - set(text.splitlines()))
    assert lost or text.splitlines() == expected, "the lines came twice or out of order"
    return lost


async def main() -> None:
    store = MemoryBlobStore()
    async with asyncio.timeout(90), fresh_kernel(store=store) as kernel:
        task = await until_it_prints(kernel, PRINTING)
        print("running", flush=True)
        result = await task
        assert result.outcome is CellOutcome.OK, result.detail
        print(json.dumps(lost_lines(text_of(result.outputs, store))), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
