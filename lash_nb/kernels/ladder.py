"""How a cell's end is waited for, and how it is brought about when it does not come by itself."""

from __future__ import annotations

import asyncio
import contextlib
import time

from .cells import Cell
from .wires import Wire

__all__ = ["stop", "until_ended"]

_CANCELLED_WAIT_S = 0.8
"""How long a cancelled caller is kept waiting for its cell to end (design: Stop within a second)."""
_LOOK_AGAIN_S = 0.05


async def until_ended(wire: Wire, cell: Cell, *, timeout_s: float | None, stop_within_s: float) -> bool:
    """Wait for the cell's end, `timeout_s` from when it was sent; False when it had to be stopped then.

    When it is cancelled, the cell is stopped and waited for (bounded, shielded), then CancelledError goes on.
    """
    try:
        if timeout_s is not None:
            await _until_sent(cell)
        if await _ended_within(cell, timeout_s):
            return True
        await stop(wire, cell, within_s=stop_within_s)
        return False
    except asyncio.CancelledError:
        await _stop_shielded(wire, cell, within_s=min(stop_within_s, _CANCELLED_WAIT_S))
        await cell.calls.close()
        raise


async def _ended_within(cell: Cell, timeout_s: float | None) -> bool:
    """Whether it ended in time; while it waits for a decision, or for what a person types, no time counts."""
    began = time.monotonic()
    left_s = timeout_s
    while not await cell.ended.wait(left_s):
        assert timeout_s is not None
        left_s = began + timeout_s + cell.calls.questions.waited_s - time.monotonic()
        if left_s <= 0:
            return False
        left_s = max(left_s, _LOOK_AGAIN_S)
    return True


async def stop(wire: Wire, cell: Cell, *, within_s: float) -> bool:
    """The ladder: SIGINT, then by all means for a cell that swallowed it; True when the cell ended in time.

    One that did not is given up (`abandoned`): the next cell needs a new kernel, and that is the caller's to say.
    """
    first_s = min(1.0, within_s / 2)
    wire.stop(cell, insist=False)
    ended = await cell.ended.wait(first_s)
    if not ended:
        wire.stop(cell, insist=True)
        ended = await cell.ended.wait(within_s - first_s)
    cell.abandoned = not ended
    return ended


async def _until_sent(cell: Cell) -> None:
    """While it is queued no time counts; a cell that ends in the queue was never sent."""
    waits = [asyncio.ensure_future(flag.wait()) for flag in (cell.sent, cell.ended)]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


async def _stop_shielded(wire: Wire, cell: Cell, *, within_s: float) -> None:
    """Stop the cell though we are being cancelled: further cancellations do not cut the bounded wait short.

    A person waits: what does not end at once (C code that checks no signals) is left behind as abandoned, and the
    next cell finds the kernel busy, or free when it ended in the meantime.
    """
    stopping = asyncio.ensure_future(stop(wire, cell, within_s=within_s))
    while not stopping.done():
        with contextlib.suppress(asyncio.CancelledError):  # the caller re-raises the first one
            await asyncio.shield(stopping)
    if cell.ended.is_set():
        cell.fold.close()
