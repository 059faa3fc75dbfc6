"""What must not be pickled to go to another process, and what pickle would not keep; used on both sides.

Decided here: what is refused though it could be pickled (open files, what holds a descriptor), and how it goes what
pickle sends by its name, without its aliases, or with aliases that nobody was to see. A numpy view whose base goes too
stays one. Pandas objects that share memory behind the user's back (copy on write) do not share it there. Nothing is
called on a value but what pickling calls. What is made here names nothing of ours, so that any unpickler reads it.
"""

from __future__ import annotations

import functools
import importlib
import io
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["LIVE", "Going", "NotSentError", "Rules", "views"]

PROTOCOL = 5
MOST_ITEMS = 100
CACHE = "_cache"
"""Where pandas keeps what was asked for once: it does not go."""
Going = Mapping[int, Any]
"""By the id of an array: the one that goes as well, of which it is a view."""
LIVE = "__main__"
NOT_SENT = {
    ("multiprocessing.connection", "Listener"): "a connection",
    ("multiprocessing.connection", "_ConnectionBase"): "a connection",
    ("multiprocessing.shared_memory", "SharedMemory"): "shared memory",
    ("multiprocessing.shared_memory", "ShareableList"): "shared memory",
    ("concurrent.futures._base", "Executor"): "a pool of workers",
    ("subprocess", "Popen"): "a running program",
    ("threading", "Thread"): "a thread",
    ("weakref", "finalize"): "a finalizer",
}
"""By a class of its bases: what it is called. Some of these do pickle, and harm where they come to."""


class NotSentError(Exception):
    """Something that must not go; the message says what."""


class Made:
    """An object that goes in another one's place, as what its form (what a `__reduce__` gives) makes."""

    def __init__(self, reduced: Any) -> None:
        self.reduced = reduced

    def __call__(self, *args: Any) -> Any:
        raise AssertionError("only pickled, as what is called")


def call(function: Any, *args: Any) -> Made:
    return Made((function, args))


def refused_as(kind: type) -> str:
    """What a value of that class is called, if none may go; else ""."""
    for base in kind.__mro__:
        found = NOT_SENT.get((base.__module__, base.__name__))
        if found is not None:
            return found
        if base.__module__ == "_io" and base.__name__ == "_IOBase":
            return "" if io.BytesIO in kind.__mro__ or io.StringIO in kind.__mro__ else "an open file"
    return ""


def root_of(array: Any) -> Any:
    """The array that owns the memory of a view, as far as it is one; itself, if there is none."""
    found, numpy = array, sys.modules["numpy"]
    while type(found.base) is numpy.ndarray:
        found = found.base
    return found


def span(array: Any) -> tuple[int, int]:
    """Where its memory begins and ends."""
    start = end = array.__array_interface__["data"][0]
    for length, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            start += (length - 1) * stride
        else:
            end += (length - 1) * stride
    return start, end + array.itemsize


def views(arrays: Iterable[Any]) -> dict[int, Any]:
    """Which arrays can go as views of another that goes: by their ids."""
    families: dict[int, list[Any]] = {}
    for array in arrays:
        if array.nbytes and not array.dtype.hasobject:
            families.setdefault(id(root_of(array)), []).append(array)
    found = {}
    for family in families.values():
        writable = [one for one in family if one.flags.writeable] or family
        whole = [one for one in writable if one.flags.c_contiguous or one.flags.f_contiguous]
        if len(family) == 1 or not whole:
            continue
        largest = max(whole, key=lambda one: one.nbytes)
        start, end = span(largest)
        for one in family:
            if one is not largest and start <= span(one)[0] and span(one)[1] <= end:
                found[id(one)] = largest
    return found


def as_view(array: Any, whole: Any) -> Any:
    """How an array is made of another that has all of its memory."""
    numpy = sys.modules["numpy"]
    offset = array.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    flat = call(getattr, call(numpy.ravel, whole, "K"), "view")
    made = (numpy.ndarray, (array.shape, array.dtype, call(flat, "u1"), offset, array.strides))
    return made if array.flags.writeable else (*made, False, None, None, numpy.ndarray.setflags)


def without_class(reduced: Any) -> Any:
    """The form of an object for another in its place: pickle checks that `__newobj__` is of the object's class."""
    match reduced:
        case (function, (kind, *args), *rest) if getattr(function, "__name__", "") == "__newobj__":
            return call(getattr, kind, "__new__"), (kind, *args), *rest
    return reduced


def is_array_of_pandas(kind: type) -> bool:
    return is_of_pandas(kind) and any(base.__name__ == "ExtensionArray" for base in kind.__mro__)


def is_of_pandas(kind: type) -> bool:
    return str(kind.__module__).partition(".")[0] == "pandas" and not issubclass(kind, type)


def holds_arrays(kind: type) -> bool:
    """Whether it is a class of pandas that has arrays itself."""
    return is_of_pandas(kind) and any(
        base.__name__ in ("Block", "ExtensionArray", "Index") and is_of_pandas(base) for base in kind.__mro__
    )


def reduced_module(module: types.ModuleType) -> Any:
    name = module.__name__
    if name == LIVE:
        raise NotSentError("the module of the cells themselves cannot be sent")
    if sys.modules.get(name) is not module:
        return NotImplemented
    return importlib.import_module, (name,)


def reduced_cache(function: Any) -> Any:
    """Of `functools.lru_cache`: pickle sends its name alone. What is cached does not go."""
    if function.__dict__.get("__module__") != LIVE:
        return NotImplemented
    parameters = function.cache_parameters()
    made = call(functools.lru_cache, parameters["maxsize"], parameters["typed"])
    return made, (function.__wrapped__,), dict(function.__dict__)


def reduced_property(found: Any) -> Any:
    """Of `functools.cached_property`: before Python 3.12 it has a lock."""
    return functools.cached_property, (found.func,), {"attrname": found.attrname, "__doc__": found.__doc__}


def reduced_type(found: Any) -> Any:
    """Of `typing.NewType`: pickle sends its name alone."""
    if found.__module__ != LIVE:
        return NotImplemented
    return typing.NewType, (found.__name__, found.__supertype__), {"__module__": LIVE}


def reduced_stream(value: Any, called: str) -> Any:
    for name in ("stdout", "stderr"):
        if value is getattr(sys, name):
            return getattr, (sys, name)
    raise NotSentError(f"{called} cannot be sent")


RULES: Mapping[type, Callable[[Any], Any]] = {
    Made: lambda made: made.reduced,
    functools._lru_cache_wrapper: reduced_cache,
    functools.cached_property: reduced_property,
    typing.NewType: reduced_type,
}


class Rules:
    """What a pickler does first with every object that is not of a basic type; `check` may end it."""

    def __init__(self, going: Going, check: Callable[[], None]) -> None:
        self.going, self.check = going, check
        self.by_kind: dict[type, Callable[[Any], Any] | None] = {}
        self.arrays: dict[int, Any] = {}
        """Every array that was met, by id; not those of pandas."""
        self.private: set[int] = set()
        """The ids of pandas' arrays."""
        self.kept: list[Any] = []
        """What is made here keeps its id until the end."""

    def reduced(self, value: Any) -> Any:
        """What a `reducer_override` gives; NotImplemented where there is no rule."""
        self.check()
        kind = type(value)
        try:
            rule = self.by_kind[kind]
        except KeyError:
            rule = self.by_kind[kind] = self.rule_for(kind)
        if rule is None:
            return NotImplemented
        found = rule(value)
        self.kept.append(found)
        return found

    def rule_for(self, kind: type) -> Callable[[Any], Any] | None:
        """How values of exactly that class are reduced; None: as they would be."""
        refused = refused_as(kind)
        if refused:
            return lambda value: reduced_stream(value, refused)
        if issubclass(kind, types.ModuleType):
            return reduced_module
        if holds_arrays(kind):
            return self.of_pandas
        if (kind.__module__, kind.__name__) == ("numpy", "ndarray"):
            return self.array
        return RULES.get(kind)

    def array(self, array: Any) -> Any:
        if id(array) in self.private:
            return NotImplemented
        self.arrays[id(array)] = array
        whole = self.going.get(id(array))
        return NotImplemented if whole is None else as_view(array, whole)

    def of_pandas(self, value: Any) -> Any:
        """As it would be, but its arrays are no other object's: who shares them to copy on write is not known there."""
        numpy = sys.modules["numpy"]

        def own(part: Any) -> Any:
            kind = type(part)
            if kind is tuple and part and type(part[-1]) is dict and part[-1].keys() == {CACHE}:
                part = part[:-1]
            if kind in (tuple, list):
                return kind(map(own, part)) if len(part) <= MOST_ITEMS else part
            if kind is dict:
                return {key: own(one) for key, one in part.items() if key != CACHE}
            if kind is numpy.ndarray:
                part = part.view()
                self.private.add(id(part))
                self.kept.append(part)
            elif is_array_of_pandas(kind):
                return Made(without_class(self.of_pandas(part)))
            return part

        found = value.__reduce_ex__(PROTOCOL)
        return own(found) if isinstance(found, tuple) else found
