"""The process's one event loop, in one daemon thread, and the one way from synchronous code onto it.

Everything of a session runs on this loop; the notebook's cells, a user's own loop and plain scripts hop onto it.
Waiting for it is done in ticks: SIGINT does not wake a quiet wait (ipykernel's idle loop is never interrupted by a
quiet await, with ticks of 0.1 s it takes 0.07 to 0.2 s; design §8). Standard library only.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

__all__ = ["LoopThread", "OnTick", "shared_loop"]

T = TypeVar("T")
OnTick = Callable[[], None]
"""Called in the waiting thread, some ten times a second."""

TICK_S = 0.1
STOP_WAIT_S = 10.0
"""How long an interrupted caller waits for its coroutine to clean up."""


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    """A coroutine on its way, and whether it has really ended."""

    future: concurrent.futures.Future[T]
    ended: threading.Event


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

    def run(self, work: Coroutine[Any, Any, T], *, on_tick: OnTick | None = None) -> T:
        """Run a coroutine to its end from synchronous code.

        KeyboardInterrupt cancels it, waits (bounded) until it has cleaned up, and goes on; so does what `on_tick`
        raises, which is called in the waiting thread.
        """
        if self.is_current:
            work.close()
            raise RuntimeError("this is the event loop's own thread: await the asynchronous method instead")
        job = self._submit(work)
        try:
            while True:
                done, _ = concurrent.futures.wait([job.future], timeout=TICK_S)
                if done:
                    return job.future.result()
                if on_tick is not None:
                    on_tick()
        except BaseException:
            job.future.cancel()
            job.ended.wait(STOP_WAIT_S)
            raise

    async def wait(self, work: Coroutine[Any, Any, T], *, on_tick: OnTick | None = None) -> T:
        """Await a coroutine from another loop, in ticks; cancelling the caller cancels it and waits (bounded).

        `on_tick` is called in the caller's thread; what it raises ends the waiting in the same way.
        """
        if self.is_current:
            return await work
        job = self._submit(work)
        try:
            waiter = asyncio.wrap_future(job.future)
            while not waiter.done():
                await asyncio.wait({waiter}, timeout=TICK_S)
                if on_tick is not None:
                    on_tick()
            return waiter.result()
        except BaseException:
            job.future.cancel()
            # A concurrent future that is cancelled counts as done at once; the coroutine's own end is what matters.
            waited = 0.0
            while not job.ended.is_set() and waited < STOP_WAIT_S:
                await asyncio.sleep(TICK_S / 4)
                waited += TICK_S / 4
            raise

    def _submit(self, work: Coroutine[Any, Any, T]) -> _Job[T]:
        ended = threading.Event()

        async def tracked() -> T:
            try:
                return await work
            finally:
                ended.set()

        return _Job(asyncio.run_coroutine_threadsafe(tracked(), self.loop), ended)


_lock = threading.Lock()
_shared: LoopThread | None = None


def shared_loop() -> LoopThread:
    """The process's loop; made on first use, and made anew in a forked child."""
    global _shared
    with _lock:
        if _shared is None or _shared.pid != os.getpid():
            _shared = LoopThread()
        return _shared
