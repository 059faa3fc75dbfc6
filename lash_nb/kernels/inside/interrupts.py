"""Makes every top-level `await` interruptible by one SIGINT. Runs in the kernel.

ipykernel hands the signal to its event loop in a way that does not wake a loop parked in `select`, so a quiet await
never hears of it. This handler looks at where the signal landed: in the loop, the cell's task is cancelled and the loop
woken; in the cell's own code, KeyboardInterrupt is raised there; in another task's code, CancelledError, because a
KeyboardInterrupt that leaves another task tears the kernel's loop down. Source: `reference/kernels.md` §2.4.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import selectors
import signal
from collections.abc import Iterator
from typing import Any


def install(shell: Any, inside: Any) -> None:
    """Replace the kernel's own handler; the feature test is that it has one."""
    import ipykernel
    import tornado
    import zmq

    kernel = shell.kernel
    if not callable(getattr(kernel, "_cancel_on_sigint", None)):
        raise RuntimeError("this ipykernel has no _cancel_on_sigint")
    packages = (asyncio, tornado, zmq, ipykernel)
    machinery = (selectors.__file__, *(os.path.dirname(str(package.__file__)) + os.sep for package in packages))

    @contextlib.contextmanager
    def cancel_on_sigint(future: asyncio.Future[Any]) -> Iterator[None]:
        loop = future.get_loop()

        def handler(signum: int, frame: Any) -> None:
            if inside.ledger is not None:
                inside.ledger.interrupted()
            current = asyncio.current_task(loop)
            if frame is None or current is None or frame.f_code.co_filename.startswith(machinery):
                future.cancel()
                loop.call_soon_threadsafe(lambda: None)
            elif current is future:
                raise KeyboardInterrupt
            else:
                raise asyncio.CancelledError("interrupted")

        previous = signal.signal(signal.SIGINT, handler)
        try:
            yield
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None  # the kernel's dispatcher survives this one, and says idle
        finally:
            signal.signal(signal.SIGINT, previous)

    kernel._cancel_on_sigint = cancel_on_sigint
    original_hook = kernel.pre_handler_hook

    def interrupted(signum: int, frame: Any) -> None:
        if inside.ledger is not None:
            inside.ledger.interrupted()
        raise KeyboardInterrupt

    def pre_handler_hook() -> None:
        original_hook()
        signal.signal(signal.SIGINT, interrupted)

    kernel.pre_handler_hook = pre_handler_hook
