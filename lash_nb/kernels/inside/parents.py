"""Whose output it is: what a thread writes belongs to the cell that started the thread. Runs in the kernel.

ipykernel finds the parent in a context variable, which new threads do not have, and falls back to the newest cell: what
a thread of an earlier cell writes would be told as that of the cell which runs now. Tasks copy their context and need
nothing. Workers of a pool outlive the cell that happened to start them, and serve whoever uses the pool: for them the
newest cell is the better guess.
"""

from __future__ import annotations

import threading
import weakref
from typing import Any


def install(shell: Any, inside: Any) -> None:
    """Replace two properties and wrap `Thread.start`; the feature test is the properties' private parts."""
    from ipykernel.iostream import OutStream

    publisher = shell.display_pub
    owners: weakref.WeakKeyDictionary[threading.Thread, dict[str, Any]] = weakref.WeakKeyDictionary()
    current_thread, main_thread = threading.current_thread, threading.main_thread()
    publisher._parent_header, publisher._parent_header_global  # noqa: B018 (a feature test)

    def parent_of(holder: Any) -> dict[str, Any]:
        try:
            found: dict[str, Any] = holder._parent_header.get()
            return found
        except LookupError:
            pass
        thread = current_thread()
        owned = owners.get(thread) if thread is not main_thread else None
        return owned if owned is not None else holder._parent_header_global

    def set_parent(holder: Any, value: dict[str, Any]) -> None:
        holder._parent_header.set(value)
        holder._parent_header_global = value

    original_start = threading.Thread.start

    def start(self: threading.Thread) -> None:
        target = getattr(self, "_target", None)
        pooled = getattr(target, "__module__", "") in ("concurrent.futures.thread", "multiprocessing.pool")
        if not pooled:
            owners[self] = parent_of(publisher)
        original_start(self)

    inside.parent = lambda: parent_of(publisher)
    for kind in (OutStream, type(publisher)):
        setattr(kind, "parent_header", property(parent_of, set_parent))  # noqa: B010
    threading.Thread.start = start  # type: ignore[method-assign]
