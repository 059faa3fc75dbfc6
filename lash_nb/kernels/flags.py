"""What crosses threads and event loops: a flag that any loop can await, and a door that one caller passes at a time.

asyncio's own locks and events serve one loop; a kernel is used from several (the session's, a test's, the exit's).
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Callable

__all__ = ["Flag", "Turnstile", "post"]


def post(loop: asyncio.AbstractEventLoop, callback: Callable[..., object], *args: object) -> None:
    """Run `callback` on `loop` soon; nothing when that loop is closed, because then nobody waits there any more."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(callback, *args)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


class Flag:
    """Set once, from any thread; awaited from any event loop."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._event = threading.Event()
        self._waiters: list[asyncio.Future[None]] = []

    def is_set(self) -> bool:
        return self._event.is_set()

    def block(self, timeout_s: float) -> bool:
        """Wait without an event loop; True when it was set in time."""
        return self._event.wait(timeout_s)

    def set(self) -> None:
        with self._guard:
            self._event.set()
            waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            post(waiter.get_loop(), _resolve, waiter)

    async def wait(self, timeout_s: float | None = None) -> bool:
        """True when it was set in time."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._guard:
            if self._event.is_set():
                return True
            self._waiters.append(waiter)
        try:
            await asyncio.wait([waiter], timeout=timeout_s)
        finally:
            with self._guard, contextlib.suppress(ValueError):
                self._waiters.remove(waiter)
        return self._event.is_set()


class Turnstile:
    """`async with turnstile.alone():` one at a time, whatever loop they come from."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._left: Flag | None = None

    @contextlib.asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        left = Flag()
        while (before := self._enter(left)) is not None:
            await before.wait()
        try:
            yield
        finally:
            with self._guard:
                self._left = None
            left.set()

    def _enter(self, left: Flag) -> Flag | None:
        """None when the way was free; else what to wait for before trying again."""
        with self._guard:
            if self._left is None:
                self._left = left
                return None
            return self._left
