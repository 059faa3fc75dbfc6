"""The process's one event loop, in one daemon thread, and the one way from synchronous code onto it.

Everything of a session runs on this loop; the notebook's cells, a user's own loop and plain scripts hop onto it.
Waiting for it is done in ticks: SIGINT does not wake a quiet wait (ipykernel's idle loop is never interrupted by a quiet await,
with ticks of 0.1 s it takes 0.07 to 0.2 s; `reference/stack.md` §3.1 and design §8). Standard library only.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["LoopThread", "shared_loop"]

T = TypeVar("T")

TICK_S = 0.1
STOP_WAIT_S = 10.0
"""How long an interrupted caller waits for its coroutine to clean up."""


class LoopThread:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.pid = os.getpid()
        self._thread = threading.Thread(target=self._serve, name="lash_nb-loop", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on this loop's thread."""
        return threading.current_thread() is self._thread

    def submit(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end from synchronous code.

        KeyboardInterrupt cancels it, waits (bounded) until it has cleaned up, and goes on.
        """
        if self.is_current:
            work.close()
            raise RuntimeError("this is the event loop's own thread: await the asynchronous method instead")
        future = self.submit(work)
        try:
            while True:
                done, _ = concurrent.futures.wait([future], timeout=TICK_S)
                if done:
                    return future.result()
        except KeyboardInterrupt:
            future.cancel()
            concurrent.futures.wait([future], timeout=STOP_WAIT_S)
            raise

    async def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine from another loop, in ticks; cancelling the caller cancels it and waits (bounded)."""
        if self.is_current:
            return await work
        future = self.submit(work)
        try:
            waiter = asyncio.wrap_future(future)
            while not waiter.done():
                await asyncio.wait({waiter}, timeout=TICK_S)
            return waiter.result()
        except (asyncio.CancelledError, KeyboardInterrupt):
            await _cleaned_up(future)
            raise


async def _cleaned_up(future: concurrent.futures.Future[Any]) -> None:
    future.cancel()
    waited = 0.0
    while not future.done() and waited < STOP_WAIT_S:
        await asyncio.sleep(TICK_S / 2)
        waited += TICK_S / 2


_lock = threading.Lock()
_shared: LoopThread | None = None


def shared_loop() -> LoopThread:
    """The process's loop; made on first use, and made anew in a forked child."""
    global _shared
    with _lock:
        if _shared is None or _shared.pid != os.getpid():
            _shared = LoopThread()
        return _shared
