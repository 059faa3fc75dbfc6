"""The process's one event loop, in one daemon thread, and the one way from synchronous code onto it.

Everything of a session runs on this loop; the notebook's cells, a user's own loop and plain scripts hop onto it.
Waiting for it is done in ticks: SIGINT does not wake a quiet wait (ipykernel's idle loop is never interrupted by a
quiet await, with ticks of 0.1 s it takes 0.07 to 0.2 s; design §8). What cannot wait for the next tick asks for one
(`LoopThread.tick_now`). Imports the standard library and `errors`.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Generic, TypeVar

from .errors import LashError

__all__ = ["LoopThread", "OnTick", "shared_loop", "undisturbed"]

T = TypeVar("T")
OnTick = Callable[[], None]
"""Called in the waiting thread, some ten times a second, and when somebody asks for it."""

TICK_S = 0.1
STOP_WAIT_S = 10.0
"""How long an interrupted caller waits for its coroutine to clean up."""


async def undisturbed(work: Coroutine[Any, Any, None]) -> None:
    """Have `work` done although the task is cancelled meanwhile: the cancellation comes with its next await."""
    task = asyncio.current_task()
    done = asyncio.ensure_future(work)
    cancelled = False
    while not done.done():
        try:
            await asyncio.wait({done})
        except asyncio.CancelledError:
            cancelled = True
            if task is not None:
                task.uncancel()  # it is counted once, below: a time limit must know its own
    if cancelled and task is not None:
        task.cancel()
    done.result()


class _Job(Generic[T]):
    """A coroutine on its way to the loop. `future` is done when the coroutine has really ended, cancelled or not.

    `run_coroutine_threadsafe` is not used: its future counts as done as soon as it is cancelled, while the coroutine
    still cleans up.
    """

    def __init__(self, work: Coroutine[Any, Any, T], loop: asyncio.AbstractEventLoop) -> None:
        self.future: concurrent.futures.Future[T] = concurrent.futures.Future()
        self.future.set_running_or_notify_cancel()  # from now on only the coroutine's end decides
        self._loop = loop
        self._work = work
        self._task: asyncio.Task[T] | None = None
        loop.call_soon_threadsafe(self._start)

    def _start(self) -> None:
        self._task = self._loop.create_task(self._work)
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.future.set_exception(asyncio.CancelledError())
        elif (error := task.exception()) is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(task.result())

    def cancel(self) -> None:
        """Cancel the coroutine, from any thread."""
        # Queued behind `_start`, so the task is there.
        self._loop.call_soon_threadsafe(lambda: self._task is not None and self._task.cancel())

    def ended(self, timeout_s: float) -> bool:
        """Wait for its end."""
        return bool(concurrent.futures.wait([self.future], timeout=timeout_s).done)


class _Alarm:
    """Ends the pause of a caller that awaits on a loop of its own; rings from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.rung: asyncio.Future[None] = self._loop.create_future()

    def ring(self) -> None:
        with suppress(RuntimeError):  # that loop was closed under a caller that never came to its end
            self._loop.call_soon_threadsafe(self._ring)

    def _ring(self) -> None:
        if not self.rung.done():
            self.rung.set_result(None)

    async def pause(self, waiter: asyncio.Future[Any]) -> None:
        """Until it rings, `waiter` is done, or the next tick is due."""
        await asyncio.wait({waiter, self.rung}, timeout=TICK_S, return_when=asyncio.FIRST_COMPLETED)
        if self.rung.done():
            self.rung = self._loop.create_future()


class LoopThread:
    """An event loop in a daemon thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.pid = os.getpid()
        self._guard = threading.Lock()
        self._alarms: dict[object, Callable[[], None]] = {}
        """How callers that wait are woken."""
        self._thread = threading.Thread(target=self._serve, name="lash_nb-loop", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()

    def close(self) -> None:
        """End the thread; what runs on the loop is abandoned. The shared loop lives as long as its process."""
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    @property
    def is_ours(self) -> bool:
        """False in a forked child: a thread does not survive a fork."""
        return self.pid == os.getpid()

    @property
    def is_current(self) -> bool:
        """Whether the caller runs on this loop's thread."""
        return threading.current_thread() is self._thread

    def tick_now(self) -> None:
        """Have all who wait call their `on_tick` at once, from any thread."""
        with self._guard:
            alarms = list(self._alarms.values())
        for ring in alarms:
            ring()

    @contextmanager
    def _woken(self, ring: Callable[[], None]) -> Iterator[None]:
        """Meanwhile `ring` is called for every tick that is asked for."""
        key = object()
        with self._guard:
            self._alarms[key] = ring
        try:
            yield
        finally:
            with self._guard:
                del self._alarms[key]

    def run(self, work: Coroutine[Any, Any, T], *, on_tick: OnTick | None = None) -> T:
        """Run a coroutine to its end from synchronous code.

        KeyboardInterrupt cancels it, waits (bounded) until it has cleaned up, and goes on; so does what `on_tick`
        raises, which is called in the waiting thread.
        """
        if self.is_current:
            work.close()
            raise RuntimeError("this is the event loop's own thread: await the asynchronous method instead")
        self._check(work)
        alarm = threading.Event()
        with self._woken(alarm.set):  # first: the work may ask for a tick at once
            job = _Job(work, self.loop)
            job.future.add_done_callback(lambda future: alarm.set())
            try:
                while not job.future.done():
                    alarm.wait(TICK_S)
                    alarm.clear()  # before the tick: what is asked for meanwhile brings another one
                    if on_tick is not None and not job.future.done():
                        on_tick()
            except BaseException:
                job.cancel()
                job.ended(STOP_WAIT_S)
                raise
        return job.future.result()

    def _check(self, work: Coroutine[Any, Any, Any]) -> None:
        """In a forked child it would be waited for for ever."""
        if not self.is_ours:
            work.close()
            raise LashError("this belongs to the process that was forked: make a new session in this one")

    async def wait(self, work: Coroutine[Any, Any, T], *, on_tick: OnTick | None = None) -> T:
        """Await a coroutine from another loop, in ticks; cancelling the caller cancels it and waits (bounded).

        `on_tick` is called in the caller's thread; what it raises ends the waiting in the same way.
        """
        if self.is_current:
            return await work
        self._check(work)
        alarm = _Alarm()
        with self._woken(alarm.ring):
            job = _Job(work, self.loop)
            waiter = asyncio.wrap_future(job.future)
            waiter.add_done_callback(_read)
            try:
                while not waiter.done():
                    await alarm.pause(waiter)
                    if on_tick is not None:
                        on_tick()
            except BaseException:
                job.cancel()
                waited = 0.0
                while not job.future.done() and waited < STOP_WAIT_S:
                    await asyncio.sleep(TICK_S / 4)
                    waited += TICK_S / 4
                raise
        return waiter.result()


def _read(future: asyncio.Future[Any]) -> None:
    """Look at its exception, or asyncio reports it as lost when the waiting was given up."""
    if not future.cancelled():
        future.exception()


_lock = threading.Lock()
_shared: LoopThread | None = None


def shared_loop() -> LoopThread:
    """The process's loop; made on first use, and made anew in a forked child."""
    global _shared
    with _lock:
        if _shared is None or not _shared.is_ours:
            _shared = LoopThread()
        return _shared
