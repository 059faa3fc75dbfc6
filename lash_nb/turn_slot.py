"""Where the one turn of a session runs: how it is waited for, and how it is stopped from wherever that is wished.

A caller that is cancelled stops its turn and waits for it; a turn that was stopped by `request_stop` is, for its
caller, a turn without an answer. Everything but `request_stop` is called on the session's loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any

from .bridge import LoopThread
from .errors import TurnFailed
from .turns import Turn

__all__ = ["TurnSlot"]


class TurnSlot:
    """Has room for one turn."""

    def __init__(self, loop: LoopThread) -> None:
        self._loop = loop
        self._running: asyncio.Task[Turn] | None = None

    @property
    def taken(self) -> bool:
        """Whether a turn runs."""
        return self._running is not None and not self._running.done()

    async def run(self, work: Coroutine[Any, Any, Turn], *, turns: Sequence[Turn], raise_on_failure: bool) -> Turn:
        """Run a turn to its end; it is the last of `turns` afterwards, also when it was stopped.

        Raises:
            TurnFailed: it ended without an answer (with `raise_on_failure`), or was stopped before it began.
            CancelledError: the caller was cancelled; the turn was stopped.
        """
        self._running = asyncio.ensure_future(work)
        known = len(turns)
        try:
            turn = await self._running
        except asyncio.CancelledError:
            if not self._running.done():  # our own caller was cancelled: the turn is stopped and waited for
                await self.stop()
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            if len(turns) == known:
                raise TurnFailed("stopped by you, before the turn began") from None
            turn = turns[-1]
        if raise_on_failure and not turn.ok:
            raise TurnFailed(turn.text, turn=turn)
        return turn

    def request_stop(self) -> None:
        """Stop the running turn, from any thread, without waiting; nothing happens when none runs."""
        if self._loop.is_current:
            self._stop_soon(0)  # asked by who watches the turn: it has begun, and is to go no further
        else:
            self._loop.loop.call_soon_threadsafe(self._stop_soon, 2)

    def _stop_soon(self, rounds: int) -> None:
        """Two rounds of the loop later, so that a turn that was asked for just before has begun and can be kept."""
        if rounds:
            self._loop.loop.call_soon(self._stop_soon, rounds - 1)
        else:
            self.cancel()

    def cancel(self) -> None:
        """Stop the running turn, without waiting."""
        if self._running is not None:
            self._running.cancel()

    async def stop(self) -> None:
        """Stop the running turn and wait for its end."""
        if self._running is not None and not self._running.done():
            self._running.cancel()
            await asyncio.wait({self._running})
