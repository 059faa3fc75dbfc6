"""Makes every top-level `await` interruptible by one SIGINT. Runs in the kernel.

ipykernel hands the signal to its event loop in a way that does not wake a loop parked in `select`, so a quiet await
never hears of it. This handler looks at where the signal landed: in the loop, the cell's task is cancelled and the loop
woken; in the cell's own code, KeyboardInterrupt is raised there; in another task's code, CancelledError, because a
KeyboardInterrupt that leaves a task tears the kernel's loop down. Source: `reference/kernels.md` §2.4. A signal that
comes when no code of a cell runs (before it, after it) is ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import selectors
import signal
from collections.abc import Iterator
from typing import Any


class Interrupts:
    """Where a signal landed, and what is to be done about it."""

    def __init__(self, shell: Any, inside: Any) -> None:
        import ipykernel
        import IPython
        import jupyter_client
        import tornado
        import zmq

        self.shell, self.inside = shell, inside
        packages = (asyncio, tornado, zmq, ipykernel, jupyter_client, IPython)
        homes = (os.path.dirname(str(package.__file__)) + os.sep for package in packages)
        self.machinery = (selectors.__file__, *homes)

    def in_cell(self, frame: Any) -> bool:
        """Whether code of a cell is on the stack: then what is raised here ends in IPython's own hands."""
        while frame is not None:
            if frame.f_globals is self.shell.user_ns:
                return True
            frame = frame.f_back
        return False

    def theirs(self, task: Any) -> bool:
        """Whether a task is user code's, and none of the kernel's own."""
        code = getattr(task.get_coro(), "cr_code", None)
        return code is not None and not code.co_filename.startswith(self.machinery)

    def of_sync_cell(self, signum: int, frame: Any) -> None:
        """Outside of a cell's code there is nothing to interrupt, and an exception would end the kernel."""
        if self.inside.ledger.interrupted():
            raise KeyboardInterrupt

    def of_async_cell(self, future: asyncio.Future[Any], frame: Any) -> None:
        """Only CancelledError may leave a task: asyncio takes KeyboardInterrupt out of the loop, which ends it."""
        self.inside.ledger.interrupted()
        loop = future.get_loop()
        current = asyncio.current_task(loop)
        if frame is not None and current is future and self.in_cell(frame):
            if not frame.f_code.co_filename.startswith(self.machinery):
                raise KeyboardInterrupt
        elif frame is not None and current is not None and current is not future and self.theirs(current):
            raise asyncio.CancelledError("interrupted")
        future.cancel()
        loop.call_soon_threadsafe(lambda: None)


def install(shell: Any, inside: Any) -> None:
    """Replace the kernel's own handlers; the feature test is that it has them."""
    kernel = shell.kernel
    if not callable(getattr(kernel, "_cancel_on_sigint", None)):
        raise RuntimeError("this ipykernel has no _cancel_on_sigint")
    interrupts = Interrupts(shell, inside)
    original_hook = kernel.pre_handler_hook

    @contextlib.contextmanager
    def cancel_on_sigint(future: asyncio.Future[Any]) -> Iterator[None]:
        def handler(signum: int, frame: Any) -> None:
            interrupts.of_async_cell(future, frame)

        previous = signal.signal(signal.SIGINT, handler)
        try:
            yield
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None  # told as such, like in every other cell
        finally:
            signal.signal(signal.SIGINT, previous)

    def pre_handler_hook() -> None:
        original_hook()
        signal.signal(signal.SIGINT, interrupts.of_sync_cell)

    original_run = shell.run_cell_async

    @functools.wraps(original_run)
    async def run_cell_async(*args: Any, **kwargs: Any) -> Any:
        try:
            return await original_run(*args, **kwargs)
        except KeyboardInterrupt:  # in a hook of the user's, say, which runs outside of IPython's own hands
            raise asyncio.CancelledError("interrupted") from None

    run_cell_async.__signature__ = inspect.signature(original_run)  # type: ignore[attr-defined]  # asked for by each cell
    shell.run_cell_async = run_cell_async
    kernel._cancel_on_sigint = cancel_on_sigint
    kernel.pre_handler_hook = pre_handler_hook
