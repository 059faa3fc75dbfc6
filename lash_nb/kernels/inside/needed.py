"""Which variables of its cells a value needs to work: the globals that its functions read. Used on both sides.

Decided here: one step alone, and without running any code of the value: functions (also those in closures, defaults,
wrappers and containers), and methods of classes of `__main__`, also of an instance's. What a function reads is told by
its code; a name that is not bound where it was defined (a builtin) is not needed, nor is the class of an instance,
which goes with it.
"""

from __future__ import annotations

import dis
import functools
import types
from collections.abc import Iterator
from typing import Any

from .reducing import LIVE

__all__ = ["closed", "needs"]

MOST_ITEMS = 1_000
READING = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS", "DELETE_GLOBAL"})


def needs(value: object) -> frozenset[str]:
    """The names of the variables, of where it was defined, that a value reads when it is used."""
    found: set[str] = set()
    seen: set[int] = set()
    left: list[Any] = [value]
    while left and len(seen) < MOST_ITEMS:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        kind = type(one)
        if kind is types.FunctionType:
            if one.__globals__.get("__name__") == LIVE:
                found.update(name for name in read_by(one.__code__) if name in one.__globals__)
                left.extend(held_by_function(one))
        elif issubclass(kind, type):
            if type.__getattribute__(one, "__module__") == LIVE:
                left.extend(held_by_class(one))
        else:
            left += [kind, *parts_of(one, kind)]
    return frozenset(found)


def read_by(code: types.CodeType) -> Iterator[str]:
    """The global names that code reads, and that of the functions in it."""
    for step in dis.get_instructions(code):
        if step.opname in READING:
            yield step.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from read_by(constant)


def held_by_function(function: types.FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # it is empty
            continue
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    yield from function.__dict__.values()  # `__wrapped__` is there


def held_by_class(kind: type) -> Iterator[Any]:
    attributes: dict[str, Any] = type.__dict__["__dict__"].__get__(kind)
    yield from list(attributes.values())[:MOST_ITEMS]
    yield from type.__dict__["__bases__"].__get__(kind)


def parts_of(value: Any, kind: type) -> Any:
    """What is in a value that holds others, as far as that is known without running its code."""
    if kind in (list, tuple, set, frozenset):
        return list(value)[:MOST_ITEMS]
    if kind is dict:
        return list(value.values())[:MOST_ITEMS]
    if kind in (staticmethod, classmethod):
        return [value.__func__]
    if kind is types.MethodType:
        return [value.__func__, value.__self__]
    if kind is property:
        return [value.fget, value.fset, value.fdel]
    if kind is functools.cached_property:
        return [value.func]
    if kind is functools.partial:
        return [value.func, *value.args, *value.keywords.values()]
    if kind is functools._lru_cache_wrapper:
        return [value.__wrapped__]
    return []


def closed(names: list[str], namespace: dict[str, Any]) -> list[str]:
    """What the variables of these names need of the same namespace, and what that needs; without them themselves."""
    found: list[str] = []
    left = [namespace[name] for name in names if name in namespace]
    while left:
        for name in sorted(needs(left.pop())):
            if name in namespace and name not in names and name not in found:
                found.append(name)
                left.append(namespace[name])
    return found
