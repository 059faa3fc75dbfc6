"""Reading from something that may block, in a thread of its own, so that whoever waits for it can be told to stop.

Decided here: the reader's thread is left to itself when nobody waits any more; it ends at the next item, or when its
own time limit runs out, and keeps no process alive. Imports `_partial` alone.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from typing import TypeAlias, TypeVar

from ._partial import Stop, Stopped

__all__ = ["Give", "watched"]

T = TypeVar("T")
Give: TypeAlias = Callable[[T], None]
"""Hands an item over; blocks while the other side is behind, and raises when it is gone."""

_TICK_S = 0.2
_AHEAD = 8
"""Items that may wait to be taken."""


class _Left(Exception):
    """Nobody waits any more."""


def watched(read: Callable[[Give[T]], None], *, stop: Stop) -> Generator[T, None, None]:
    """What `read` gives, item by item; close it when you leave early.

    Raises: what `read` raises; Stopped.
    """
    items: queue.Queue[tuple[T] | BaseException | None] = queue.Queue(_AHEAD)
    left = threading.Event()

    def put(entry: tuple[T] | BaseException | None) -> None:
        while not left.is_set():
            try:
                items.put(entry, timeout=_TICK_S)
                return
            except queue.Full:
                pass
        raise _Left

    def run() -> None:
        try:
            try:
                read(lambda item: put((item,)))
            except _Left:
                raise
            except BaseException as error:
                put(error)
            else:
                put(None)
        except _Left:
            pass

    threading.Thread(target=run, name="lash_nb-reader", daemon=True).start()
    try:
        while True:
            if stop():
                raise Stopped
            try:
                entry = items.get(timeout=_TICK_S)
            except queue.Empty:
                continue
            if entry is None:
                return
            if isinstance(entry, BaseException):
                raise entry
            yield entry[0]
    finally:
        left.set()
