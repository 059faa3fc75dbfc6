"""How values are pickled to go from one process to the other; used on both sides, in the kernel as source.

Decided here: what `__main__` defines goes by value, if cloudpickle is there; its functions go without their globals,
and use those of where they come to (`unpickling`). Larger buffers go beside the stream. A value that changes at that
moment is tried again; one that gets too big, or that nobody waits for any more, is given up.
"""

from __future__ import annotations

import functools
import importlib
import pickle
import sys
import types
from collections.abc import Callable, Iterable
from typing import Any

from .reducing import LIVE, Going, NotSentError, Rules, views

__all__ = ["LIVE_MARK", "Packed", "StoppedError", "packed", "packed_together"]

PROTOCOL = 5
TRIES = 3
IN_BAND_BYTES = 16 * 1024
"""Smaller buffers go in the stream."""
CACHES = frozenset({"__slotnames__", "__annotations_cache__"})
LIVE_MARK = "__lash_nb_live__"
"""A key of the globals of a function that is to use the namespace it comes to."""


class StoppedError(BaseException):
    """It got too big, or nobody wants it any more."""


class Packed:
    """One stream, and the memory beside it; `release` when it was written."""

    def __init__(self, most_bytes: int | None, stopped: Callable[[], bool]) -> None:
        self.stream: list[bytes] = []
        self.buffers: list[memoryview] = []
        self.size = 0
        self.most_bytes, self.stopped = most_bytes, stopped

    def write(self, data: Any) -> int:
        """What a pickler writes to."""
        self.grow(len(data))
        self.stream.append(bytes(data))
        return len(data)

    def take(self, buffer: pickle.PickleBuffer) -> bool:
        """A pickler's `buffer_callback`; True: it goes in the stream."""
        try:
            view = buffer.raw()
        except BufferError:  # not contiguous: the pickler says so
            return True
        if view.nbytes < IN_BAND_BYTES:
            view.release()
            return True
        self.grow(view.nbytes)
        self.buffers.append(view)
        return False

    def grow(self, size: int) -> None:
        self.size += size
        self.check()

    def check(self) -> None:
        if self.stopped():
            raise StoppedError("nobody waits for it any more")
        if self.most_bytes is not None and self.size > self.most_bytes:
            raise StoppedError(f"it is over the limit of {self.most_bytes:,} bytes")

    def release(self) -> None:
        """Let the memory go: what has its buffer out cannot be resized."""
        for view in self.buffers:
            view.release()
        self.buffers, self.stream = [], []


def is_live(function: types.FunctionType) -> bool:
    """Whether it was defined where the user's cells run."""
    return function.__globals__.get("__name__") == LIVE


# -- picklers ----------------------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=1)
def by_value(cloudpickle: Any) -> Callable[..., Any]:
    """A pickler that sends what `__main__` defines whole."""

    class ByValue(cloudpickle.Pickler):  # type: ignore[misc]
        def __init__(self, packed: Packed, rules: Rules) -> None:
            super().__init__(packed, PROTOCOL, buffer_callback=packed.take)
            self.rules = rules
            self.live_globals = {LIVE_MARK: True}

        def reducer_override(self, value: Any) -> Any:
            found = self.rules.reduced(value)
            if found is NotImplemented:
                found = super().reducer_override(value)
                if issubclass(type(value), type):
                    without_caches(found)
            return found

        def _dynamic_function_reduce(self, function: Any) -> Any:
            """A function of `__main__` leaves its globals behind; if cloudpickle's form is another, it keeps them."""
            reduced = super()._dynamic_function_reduce(function)
            match reduced:
                case (make, (code, dict(), *rest), (state, {"__globals__": dict(), **slots}), None, None, set_state):
                    if is_live(function):
                        args = (code, self.live_globals, *rest)
                        return make, args, (state, {**slots, "__globals__": {}}), None, None, set_state
            return reduced

    return ByValue


def without_caches(reduced: Any) -> None:
    """Take out of the form of a class what Python keeps in it once it was used."""
    match reduced:
        case (_, _, (dict() as attributes, _), *_):
            for name in CACHES & attributes.keys():
                del attributes[name]


class ByName(pickle.Pickler):
    """Where there is no cloudpickle: what `__main__` defines cannot go, and is not sent by its name either."""

    def __init__(self, packed: Packed, rules: Rules) -> None:
        super().__init__(packed, PROTOCOL, buffer_callback=packed.take)
        self.rules = rules

    def reducer_override(self, value: Any) -> Any:
        kind = type(value)
        if issubclass(kind, (type, types.FunctionType)) and value.__module__ == LIVE:
            raise NotSentError(
                f"{value.__qualname__} is defined in a cell, and to send that cloudpickle is needed, which is not "
                f"installed (Python {sys.version.split()[0]})"
            )
        return self.rules.reduced(value)


def pickler(packed: Packed, rules: Rules) -> Any:
    try:
        return by_value(importlib.import_module("cloudpickle"))(packed, rules)
    except ImportError:
        return ByName(packed, rules)


# -- values ------------------------------------------------------------------------------------------------------------


def never() -> bool:
    return False


def packed(value: Any, *, most_bytes: int | None = None, stopped: Callable[[], bool] = never) -> Packed:
    """One value, or StoppedError; raises whatever its own code does, too."""
    found, arrays = tried(value, {}, most_bytes, stopped)
    going = views(arrays.values())
    if going:  # once more, as views of what goes, too; `arrays` keeps them, and so their ids
        found.release()
        found, _ = tried(value, going, most_bytes, stopped)
    return found


def tried(
    value: Any, going: Going, most_bytes: int | None, stopped: Callable[[], bool], left: int = TRIES
) -> tuple[Packed, dict[int, Any]]:
    """And the arrays that were met, by id."""
    found = Packed(most_bytes, stopped)
    rules = Rules(going, found.check)
    try:
        pickler(found, rules).dump(value)
    except BaseException as error:
        found.release()
        if left == 1 or not isinstance(error, RuntimeError) or isinstance(error, RecursionError):
            raise
    else:
        return found, rules.arrays
    finally:
        rules.kept.clear()
        rules.by_kind.clear()  # refers to `rules`: nothing of the value is kept by that
    return tried(value, going, most_bytes, stopped, left - 1)  # it changed while it was walked


def packed_together(values: Iterable[Any], *, stopped: Callable[[], bool] = never) -> Packed:
    """Several values in one stream, a tuple: what is one object in two of them stays one."""
    return packed(tuple(values), stopped=stopped)
