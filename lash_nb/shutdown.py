"""The notebook's kernel is told to end or to restart: what runs for the notebook ends first, whatever the cell does.

A frontend asks for it on the control channel, which ipykernel serves on a thread of its own, while the main thread may
be busy for minutes; an `atexit` function would come too late, or never, because frontends kill what does not end soon.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

__all__ = ["ShutdownHook"]

_log = logging.getLogger("lash_nb")


class ShutdownHook:
    """Stands in for `kernel.do_shutdown`: calls `before` (which must be quick), then what it stands for."""

    def __init__(self, kernel: Any, before: Callable[[], None]) -> None:
        self._kernel = kernel
        self._before: Callable[[], None] | None = before
        self._shut_down = kernel.do_shutdown
        kernel.do_shutdown = self

    def __call__(self, restart: bool) -> Any:
        """What `do_shutdown` gives, which may be awaitable."""
        if self._before is not None:
            try:
                self._before()
            except Exception:
                _log.exception("what runs for the notebook could not be ended before its kernel")
        return self._shut_down(restart)

    def remove(self) -> None:
        """Undo it; under somebody else's hook it stays and does nothing more."""
        self._before = None
        if self._kernel.__dict__.get("do_shutdown") is self:
            if getattr(self._shut_down, "__func__", None) is getattr(type(self._kernel), "do_shutdown", None):
                del self._kernel.do_shutdown
            else:
                self._kernel.do_shutdown = self._shut_down
