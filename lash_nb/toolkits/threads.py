"""Functions in threads of their own, awaited: each call has one, which nobody waits for once the call is given up.

Decided here: threads are daemons, so that a function that hangs keeps neither other calls nor the end of the process.
A thread cannot be stopped; so many that were let go of may still run, then no call is begun.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ..errors import ToolError

__all__ = ["MOST_LEFT", "in_thread"]

T = TypeVar("T")

MOST_LEFT = 64
"""Threads of this process that were let go of and still run."""


class _Left:
    """How many there are."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self.count = 0

    def add(self, number: int) -> None:
        with self._guard:
            self.count += number


_LEFT = _Left()


async def in_thread(work: Callable[[], T]) -> T:
    """What the function gives or raises, called in a thread with the caller's context variables.

    Cancelled, it is let go of. Raises ToolError: too many that were let go of still run.
    """
    if _LEFT.count >= MOST_LEFT:
        raise ToolError(
            f"{_LEFT.count} calls that were given up still run in threads, which cannot be stopped; restart the kernel "
            "of the notebook, or wait for their end",
            kind="resource_limit",
            code="threads",
        )
    loop, context = asyncio.get_running_loop(), contextvars.copy_context()
    ended: asyncio.Future[tuple[Any, BaseException | None]] = loop.create_future()
    guard, left, over = threading.Lock(), False, False

    def run() -> None:
        nonlocal over
        outcome: tuple[Any, BaseException | None]
        try:
            outcome = context.run(work), None
        except BaseException as error:
            outcome = None, error
        with guard:
            over = True
            if left:
                _LEFT.add(-1)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(_settle, ended, outcome)

    threading.Thread(target=run, name="lash_nb-tool", daemon=True).start()
    try:
        value, error = await ended
    except asyncio.CancelledError:
        with guard:
            if not over:
                left = True
                _LEFT.add(1)
        raise
    if error is not None:
        raise error
    result: T = value
    return result


def _settle(ended: asyncio.Future[Any], outcome: object) -> None:
    if not ended.done():
        ended.set_result(outcome)
