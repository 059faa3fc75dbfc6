"""How a function and a class are told, from what their code says: no decorator, default or annotation is asked.

`inspect.signature` follows attributes that anyone may set, and shows defaults by their own repr.
"""

from __future__ import annotations

import inspect
import sys
import types
from typing import Any

from .kinds import FUNCTIONS, bases_of, derives, entries_of, entry, fields, held, is_class, module_of, name_of, slot
from .libraries import cut

MAX_WRAPPERS = 8
MAX_PARAMETERS = 30
MAX_ARGUMENTS = 6
LAZY_ANNOTATIONS = sys.version_info >= (3, 14)
"""From there on they are code, which runs when they are asked for."""


def innermost(function: Any) -> Any:
    """The function itself: of a method, of a wrapper that says whose it is, of a cached function."""
    for _ in range(MAX_WRAPPERS):
        kind = type(function)
        if kind is types.MethodType:
            function = function.__func__
            continue
        inner = held(function, kind).get("__wrapped__") if kind is types.FunctionType or is_cache(kind) else None
        if type(inner) is not types.FunctionType and type(inner) is not types.MethodType:
            return function
        function = inner
    return function


def is_cache(kind: type) -> bool:
    return module_of(kind) == "functools" and name_of(kind) == "_lru_cache_wrapper"


def signature(function: Any, show: Any, values: bool) -> str:
    """Parameters and result; without `values` no default (a value) and no annotation (which may hold one)."""
    bound = type(function) is types.MethodType
    inner = innermost(function)
    if type(inner) is not types.FunctionType:
        text = getattr(inner, "__text_signature__", None) if type(inner) is types.BuiltinFunctionType else None
        if type(text) is not str or (not values and "=" in text):
            return ""
        for implied in ("($module, /, ", "($module, ", "($module, /", "($self, /, ", "($self, "):
            if text.startswith(implied):
                return "(" + text[len(implied) :]
        return text
    code = inner.__code__
    hints = hints_of(inner) if values else {}
    parameters = with_defaults(inner, show, hints, values)
    if bound:
        parameters = parameters[1:]
    if code.co_posonlyargcount - bound > 0:
        parameters.insert(code.co_posonlyargcount - bound, "/")
    if len(parameters) > MAX_PARAMETERS:
        parameters = [*parameters[:MAX_PARAMETERS], "…"]
    result = f" -> {hint_text(hints['return'], show)}" if "return" in hints else ""
    return f"({', '.join(parameters)}){result}"


def with_defaults(function: Any, show: Any, hints: dict[str, Any], values: bool) -> list[str]:
    code = function.__code__
    names, count = code.co_varnames, code.co_argcount
    keywords = names[count : count + code.co_kwonlyargcount]
    given: dict[str, Any] = {}
    if values:
        positional = function.__defaults__ or ()
        given = dict(zip(names[count - len(positional) : count], positional, strict=False))
        given.update(function.__kwdefaults__ or {})

    def one(name: str, star: str = "") -> str:
        hint = f": {hint_text(hints[name], show)}" if name in hints else ""
        default = f"{' = ' if hint else '='}{show.short(given[name], 1)}" if name in given else ""
        return star + name + hint + default

    parts = [one(name) for name in names[:count]]
    rest = len(names[:count]) + len(keywords)
    if code.co_flags & inspect.CO_VARARGS:
        parts.append(one(names[rest], "*"))
        rest += 1
    elif keywords:
        parts.append("*")
    parts += [one(name) for name in keywords]
    if code.co_flags & inspect.CO_VARKEYWORDS:
        parts.append(one(names[rest], "**"))
    return parts


def hints_of(function: Any) -> dict[str, Any]:
    found = {} if LAZY_ANNOTATIONS else function.__annotations__
    return found if type(found) is dict else {}


def hint_text(hint: Any, show: Any, level: int = 3) -> str:
    kind = type(hint)
    if kind is str:
        return cut(str(hint), 40)
    if hint is None or hint is type(None):
        return "None"
    if is_class(kind):
        return name_of(hint)
    own: dict[str, Any] = held(hint, kind) if module_of(kind) == "typing" else {}
    args: Any
    origin: Any
    if kind is types.UnionType or kind is types.GenericAlias:
        args, origin = hint.__args__, hint.__origin__ if kind is types.GenericAlias else None
    else:
        args, origin = own.get("__args__", ()), own.get("__origin__")
    name = own.get("_name") or next(iter(slot(hint, kind, "_name") or slot(origin, type(origin), "_name")), None)
    name = name if type(name) is str else name_of(origin) if is_class(type(origin)) else ""
    if type(args) is not tuple or level <= 0:
        return name or "…"
    if name == "Literal":
        inner = [show.short(one, 0) for one in args[:MAX_ARGUMENTS]]
    else:
        inner = [hint_text(one, show, level - 1) for one in args[:MAX_ARGUMENTS]]
    if kind is types.UnionType or name == "Union" or name == "Optional":
        return " | ".join(inner)
    if name == "Callable" and inner:
        inner = [f"[{', '.join(inner[:-1])}]", inner[-1]]
    return f"{name}[{', '.join(inner)}]" if inner else name or f"<{name_of(kind)}>"


def class_detail(value: Any) -> str:
    """Its bases, and the fields that it declares."""
    bases = [name_of(base) for base in bases_of(value) if base is not object]
    declared = entry(value, "__dataclass_fields__")
    if type(declared) is not dict:
        declared = entry(value, "__pydantic_fields__")
    names = [name for name in declared if type(name) is str][:12] if type(declared) is dict else []
    return "; ".join(part for part in (", ".join(bases), f"fields {', '.join(names)}" if names else "") if part)


def first_line(value: Any, kind: type) -> str:
    """Of the docstring of a function or class."""
    if is_class(kind):
        text = entries_of(value).get("__doc__")
    else:
        inner = innermost(value)
        text = inner.__doc__ if id(type(inner)) in FUNCTIONS else None
    lines = text[:2000].strip().splitlines() if type(text) is str else []
    return lines[0].strip() if lines else ""


def fields_detail(value: Any, kind: type) -> str | None:
    """Names and types of what an object of declared fields holds; None for any other."""
    found = fields(value, kind)
    if found is None or (not found and not derives(kind, types.SimpleNamespace)):
        return None
    shown = ", ".join(f"{name} {name_of(type(item))}" for name, item, _ in found[:12])
    return f"fields {shown}{f', … {len(found) - 12} more' if len(found) > 12 else ''}" if shown else ""
