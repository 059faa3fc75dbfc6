"""What a type says of itself, and what an object holds, read without running any code of the user's; pure.

Only `type(value)` is asked, never `value.__class__` or an attribute: no proxy, property or metaclass hears of it. Types
are read through the slots of `type` itself, and told apart by identity: a metaclass may have an `__eq__` and a
`__hash__` of its own.
"""

from __future__ import annotations

import dataclasses
import enum
import sys
import types
import weakref
from itertools import islice
from typing import Any

MAX_ATTRIBUTES = 100
FUNCTIONS = frozenset({id(types.FunctionType), id(types.BuiltinFunctionType), id(types.MethodType)})
_name: Any = type.__dict__["__name__"].__get__
_module: Any = type.__dict__["__module__"].__get__
_mro: Any = type.__dict__["__mro__"].__get__
_bases: Any = type.__dict__["__bases__"].__get__
_entries: Any = type.__dict__["__dict__"].__get__
_module_dict: Any = vars(types.ModuleType)["__dict__"].__get__
SLOTS = frozenset({id(types.MemberDescriptorType), id(types.GetSetDescriptorType)})


def name_of(kind: type) -> str:
    return str.__str__(_name(kind))


def module_of(kind: type) -> str:
    try:
        module = _module(kind)
    except AttributeError:
        return ""
    return module if type(module) is str else ""


def root_of(kind: type) -> str:
    return module_of(kind).partition(".")[0]


def bases_of(kind: type) -> tuple[type, ...]:
    found: tuple[type, ...] = _bases(kind)
    return found


def entries_of(kind: type) -> Any:
    """What stands in the type itself."""
    return _entries(kind)


def mro_of(kind: type) -> tuple[type, ...]:
    found: tuple[type, ...] = _mro(kind)
    return found


def derives(kind: type, base: type) -> bool:
    for one in _mro(kind):  # noqa: SIM110 (this is called more than anything else here)
        if one is base:
            return True
    return False


def is_class(kind: type) -> bool:
    """Whether the objects of a type are classes."""
    return derives(kind, type)


def lookup(kind: type, name: str) -> tuple[type, Any] | None:
    """The class that gives objects of a type this attribute, and what stands there."""
    for base in _mro(kind):
        entries = _entries(base)
        if name in entries:
            return base, entries[name]
    return None


def entry(kind: type, name: str) -> Any:
    """What stands in a type under that name; None where nothing does."""
    found = lookup(kind, name)
    return None if found is None else found[1]


def module_entries(name: str) -> Any:
    """What a loaded module holds; a lazy one is not loaded by it."""
    module = sys.modules.get(name)
    return _module_dict(module) if module is not None and derives(type(module), types.ModuleType) else {}


def names_of_module(module: types.ModuleType) -> Any:
    return _module_dict(module)


def is_what_it_says(kind: type) -> bool:
    """Whether the module that a type names has this very type: anyone can call a class `numpy.ndarray`."""
    return module_entries(module_of(kind)).get(name_of(kind)) is kind


def answers_for_others(kind: type) -> bool:
    """Whether it may be a proxy: it computes attributes, or says that it is of another class."""
    for base in _mro(kind):
        entries = _entries(base)
        if base is object or base is type:
            continue
        if "__getattr__" in entries or "__class__" in entries:
            return True
        # That of C code is nearly always the plain one.
        if type(entries.get("__getattribute__", object.__getattribute__)) is not types.WrapperDescriptorType:
            return True
    return False


def held(value: Any, kind: type) -> dict[str, Any]:
    """The attributes that an object holds itself; empty where it has no plain dictionary of them."""
    slot = entry(kind, "__dict__")
    if id(type(slot)) not in SLOTS:
        return {}
    try:
        found = slot.__get__(value)
    except (AttributeError, TypeError):
        return {}
    return found if type(found) is dict else {}


def slot(value: Any, kind: type, name: str) -> tuple[Any, ...]:
    """What lies in a slot of an object: one thing or nothing."""
    found = entry(kind, name)
    if type(found) is not types.MemberDescriptorType:
        return ()
    try:
        return (found.__get__(value),)
    except AttributeError:
        return ()


def fields(value: Any, kind: type) -> list[tuple[str, Any, bool]] | None:
    """Name, value and whether it is to be shown, of what has fields: named tuples, dataclasses, pydantic's models."""
    if derives(kind, tuple):
        names = entry(kind, "_fields")
        if type(names) is tuple and names and all(type(name) is str for name in names):
            return [(name, item, True) for name, item in zip(names, tuple.__iter__(value), strict=False)]
        return None
    if kind is types.SimpleNamespace:
        few = list(islice(held(value, kind).items(), MAX_ATTRIBUTES))
        return [(name, item, True) for name, item in few if type(name) is str]
    declared = entry(kind, "__dataclass_fields__")
    if type(declared) is not dict:
        is_model = any(name_of(base) == "BaseModel" and root_of(base) == "pydantic" for base in mro_of(kind))
        declared = entry(kind, "__pydantic_fields__") if is_model else None
    if type(declared) is not dict:
        return None
    own = held(value, kind)
    found: list[tuple[str, Any, bool]] = []
    for name, field in list(declared.items()):
        items = (own[name],) if name in own else slot(value, kind, name)
        plain = type(field) is dataclasses.Field or root_of(type(field)) == "pydantic"
        found.extend((name, item, not plain or field.repr is not False) for item in items)
    return found


def is_enum(kind: type) -> bool:
    return derives(kind, enum.Enum)


class Kinds:
    """A set of types that keeps none of them alive."""

    def __init__(self) -> None:
        self.by_id: dict[int, weakref.ref[type]] = {}

    def __contains__(self, kind: type) -> bool:
        known = self.by_id.get(id(kind))
        return known is not None and known() is kind

    def add(self, kind: type) -> None:
        self.by_id[id(kind)] = weakref.ref(kind)
