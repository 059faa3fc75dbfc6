"""One variable as `(type, detail, preview)`: `detail` says what its type calls for, `preview` a part of its value.

`describe` calls nothing of the user's; where there is something to call it says so, and `describe_with_calls` does it,
on a thread that is watched (`bounded.py`).
"""

from __future__ import annotations

import types
from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

from .bounded import Late
from .kinds import FUNCTIONS, derives, is_class, is_enum, name_of, names_of_module
from .libraries import MAX_NAMED_COLUMNS, Library, cut, is_scalar, library_of, named_columns
from .libraries import detail as library_detail
from .showing import EXACT, PLAIN, TEXTS, Sampler, is_container
from .signatures import class_detail, fields_detail, first_line, is_cache, signature

MAX_PREVIEW = 120
MAX_DETAIL = 400
MAX_FULL = 2000
LOOKED_AT = 8


class Told(NamedTuple):
    """What is told of a variable."""

    type: str
    detail: str
    preview: str
    columns: list[list[str]]
    met: bool = False
    """Code of the user's would tell more."""
    late: bool = False


def clean(text: str) -> str:
    """Text that can be sent: no halves of surrogate pairs."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode()


def told_type(kind: type) -> str:
    if id(kind) in PLAIN:
        return kind.__name__
    if derives(kind, types.ModuleType):
        return "module"
    if id(kind) in FUNCTIONS or is_cache(kind):
        return "function"
    return "class" if is_class(kind) else name_of(kind)


def describe(value: Any, show: Sampler, *, values: bool) -> Told:
    """Everything that can be told without calling anything of the user's; without `values` nothing in them is one."""
    kind = type(value)
    show.met, show.complaint = False, ""
    columns: list[list[str]] = []
    found = None if id(kind) in PLAIN or is_scalar(kind) else library_of(kind)
    if found is None:
        detail = plain_detail(value, kind, show, values)
        preview = plain_preview(value, kind, show) if values else ""
    elif found[1] or not found[0].plain(value):
        show.met, detail, preview = True, "", f"<{name_of(kind)}>" if values else ""
    else:
        library = found[0]
        found_columns = library.columns(value, MAX_NAMED_COLUMNS)
        detail = library_detail(value, kind, library, found_columns, values)
        preview = library_preview(value, kind, library, show) if values else ""
        columns = named_columns(found_columns, values)
    return told(kind, detail, preview, columns, show)


def describe_with_calls(value: Any, show: Sampler) -> Told:
    """The same with the user's own code, through `show.call`."""
    kind = type(value)
    show.late, show.complaint = False, ""
    found, call = None if is_scalar(kind) else library_of(kind), show.call
    columns: list[list[str]] = []
    if found is None or call is None:
        detail, preview = plain_detail(value, kind, show, True), plain_preview(value, kind, show)
    else:
        try:
            found_columns = call(kind, found[0].columns, value, MAX_NAMED_COLUMNS)
            detail = call(kind, library_detail, value, kind, found[0], found_columns, True)
            columns = call(kind, named_columns, found_columns, True)
            preview = call(kind, library_preview, value, kind, found[0], show)
        except Late:
            raise
        except BaseException as error:  # the user's own code, on a thread that must go on
            detail, preview = "", f"<{name_of(kind)}: cannot be described ({name_of(type(error))})>"
    return told(kind, detail, preview, columns, show)._replace(met=True, late=show.late)


def told(kind: type, detail: str, preview: str, columns: list[list[str]], show: Sampler) -> Told:
    detail = "; ".join(part for part in (cut(detail, MAX_DETAIL), show.complaint) if part)
    named = [[clean(name), clean(dtype)] for name, dtype in columns]
    return Told(clean(told_type(kind)), clean(detail), clean(preview), named, show.met)


def library_preview(value: Any, kind: type, library: Library, show: Sampler) -> str:
    hooked = show.hooked(value, kind)
    return hooked if hooked is not None else library.sample(value, show)


def plain_preview(value: Any, kind: type, show: Sampler) -> str:
    if id(kind) in PLAIN:
        return cut(show.short(value), show.limit)
    if derives(kind, types.ModuleType):
        return ""
    if id(kind) in FUNCTIONS or is_cache(kind) or is_class(kind):
        return cut(first_line(value, kind), show.limit) if show.limit > MAX_PREVIEW else ""
    return cut(show.short(value), show.limit)


def plain_detail(value: Any, kind: type, show: Sampler, values: bool) -> str:
    if id(kind) in EXACT:
        return contents(value, EXACT[id(kind)])
    if id(kind) in PLAIN:
        return f"length {len(value)}" if id(kind) in TEXTS else ""
    if derives(kind, types.ModuleType):
        names = names_of_module(value)
        told = [part for part in (names.get("__name__"), names.get("__version__")) if type(part) is str]
        return cut(" ".join(told), MAX_PREVIEW)
    if id(kind) in FUNCTIONS or is_cache(kind):
        return cut(signature(value, show, values), MAX_DETAIL)
    if is_class(kind):
        return cut(class_detail(value), MAX_DETAIL)
    if is_enum(kind):
        return ""
    declared = fields_detail(value, kind)
    if declared is not None:
        return cut(declared, MAX_DETAIL)
    base = is_container(kind) or derived_container(kind)
    if base is not None:
        return contents(value, base)
    for text in (str, bytes, bytearray):
        if derives(kind, text):
            return f"length {text.__len__(value)}"
    return ""


def derived_container(kind: type) -> type | None:
    """What a class derives from that shows itself in its own way: its length is told all the same."""
    return next((base for base in (list, tuple, dict, set, frozenset) if derives(kind, base)), None)


def contents(value: Any, base: Any) -> str:
    """How much it holds, and of what: `length 3 of dict`, `length 2 of str to int`."""
    kind: Any = base if type(base) is type else base[0]
    size = kind.__len__(value)
    walk: Callable[[Any], Any] = dict.items if kind is dict else kind.__iter__
    few = list(islice(walk(value), LOOKED_AT))
    if not few:
        return f"length {size}"
    if kind is not dict:
        return f"length {size} of {kinds_of(few)}"
    return f"length {size} of {kinds_of([key for key, _ in few])} to {kinds_of([item for _, item in few])}"


def kinds_of(items: list[Any]) -> str:
    names = sorted({told_type(type(item)) if item is not None else "None" for item in items})
    return ", ".join(names) if len(names) <= 3 else ", ".join([*names[:3], "…"])
