"""A value in a few characters: a repr that never walks more than a few items, whatever it is given.

What the standard library and well-known ones define is shown by its own repr where that is short and computes nothing.
A repr of the user's, or of a library that nobody here knows, is called only through `call`, by whoever sees to it that
it ends; without one it is noted that it was `met`. Never called: that of what is lazy, or may be a proxy.
"""

from __future__ import annotations

import collections
import datetime
import re
import types
from collections.abc import Callable
from itertools import islice
from typing import Any

from .bounded import Late
from .kinds import (
    FUNCTIONS,
    Kinds,
    answers_for_others,
    derives,
    entry,
    fields,
    held,
    is_class,
    is_enum,
    is_what_it_says,
    lookup,
    module_of,
    name_of,
    names_of_module,
    root_of,
)
from .libraries import HEAVY, cut, is_scalar, scalar

HOOK = "_repr_lash_"
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
CONTAINERS: tuple[tuple[type, str, str], ...] = (
    (list, "[", "]"), (tuple, "(", ")"), (dict, "{", "}"), (set, "{", "}"), (frozenset, "frozenset({", "})"),
    (collections.deque, "[", "]"),
)  # fmt: skip
EXACT = {id(kind): (kind, opening, closing) for kind, opening, closing in CONTAINERS[:5]}
ATOMS = frozenset(map(id, (bool, type(None), float, complex, type(Ellipsis), type(NotImplemented))))
TEXTS = frozenset(map(id, (str, bytes, bytearray)))
PLAIN = frozenset({*ATOMS, *TEXTS, *EXACT, id(int)})
"""The ids of types that everything is known of."""
# Short, and of nothing but themselves.
SAFE = frozenset(
    {
        ("builtins", "range"), ("datetime", "date"), ("datetime", "timedelta"), ("datetime", "timezone"),
        ("decimal", "Decimal"), ("fractions", "Fraction"), ("uuid", "UUID"), ("zoneinfo", "ZoneInfo"),
        ("re", "Pattern"), ("re", "Match"), ("time", "struct_time"),
    }
)  # fmt: skip
SAFE_MODULES = frozenset({"ipaddress", "pathlib"})
ZONED = frozenset({id(datetime.datetime), id(datetime.time)})


def is_container(kind: type) -> tuple[type, str, str] | None:
    """What a type of containers derives from, if nothing but that says how it is shown."""
    found = EXACT.get(id(kind))
    if found is not None:
        return found
    base = next((one for one in CONTAINERS if derives(kind, one[0])), None)
    if base is None:
        return None
    shown_by = lookup(kind, "__repr__")
    home = shown_by[0] if shown_by is not None else object
    return base if module_of(home) in ("builtins", "collections") else None


class Sampler:
    """Shows a value in at most `limit` characters."""

    def __init__(self, *, limit: int, text: int, items: int, levels: int, elements: int, rows: int, plugins: Any):
        self.limit = limit
        self.text = text
        self.items = items
        self.levels = levels
        self.elements = elements
        self.rows = rows
        self.plugins = plugins
        self.slow = Kinds()
        """Classes whose code is not called any more."""
        self.call: Callable[..., Any] | None = None
        """`call(kind, function, value)`: runs code of the user's."""
        self.met = False
        """There was code of the user's, and no way to call it."""
        self.late = False
        """There was some that took too long."""
        self.complaint = ""
        """What is wrong with a way of showing that was made for us."""

    def with_calls(self, call: Callable[..., Any]) -> Sampler:
        made = Sampler(
            limit=self.limit, text=self.text, items=self.items, levels=self.levels, elements=self.elements,
            rows=self.rows, plugins=self.plugins,
        )  # fmt: skip
        made.slow, made.call = self.slow, call
        return made

    def short(self, value: Any, level: int | None = None) -> str:
        """A repr that never walks more than a few items."""
        level = self.levels if level is None else level
        kind = type(value)
        number = id(kind)
        if number in ATOMS:
            return repr(value)
        if kind is int:
            return repr(value) if value.bit_length() < 256 else f"<int of {value.bit_length()} bits>"
        if number in TEXTS:
            text = repr(value[: self.text])
            return text if len(value) <= self.text else text + "…"
        if number in EXACT:
            return self.container(value, EXACT[number], level)
        if number in FUNCTIONS:
            inner = value.__func__ if kind is types.MethodType else value
            return f"<function {inner.__name__}>" if id(type(inner)) in FUNCTIONS else "<function>"
        if derives(kind, types.ModuleType):
            name = names_of_module(value).get("__name__")
            return f"<module {name}>" if type(name) is str else "<module>"
        if is_class(kind):
            return f"<class {name_of(value)}>"
        return cut(self.other(value, kind, level), self.limit)

    # -- containers ------------------------------------------------------------------------------------------------

    def container(self, value: Any, base: tuple[type, str, str], level: int) -> str:
        kind, opening, closing = base
        size = kind.__len__(value)  # type: ignore[attr-defined]
        if not size:
            return kind.__name__ + "()" if kind in (set, frozenset) else opening + closing
        if level <= 0:
            return f"{opening}…{closing}"
        walked = self.items if size > 64 or kind is not set else size
        few = list(islice(dict.items(value) if kind is dict else kind.__iter__(value), walked))  # type: ignore[attr-defined]
        parts: list[str] = []
        room = self.limit
        for item in few:
            pair = item if kind is dict else (item,)
            parts.append(": ".join(self.short(one, level - 1) for one in pair))
            room -= len(parts[-1])
            if room < 0 and kind not in (set, frozenset):
                break
        if kind in (set, frozenset):  # their order changes from process to process
            parts = sorted(parts)[: self.items]
        if kind is tuple and size == 1:
            parts[-1] += ","
        return f"{opening}{', '.join(parts)}{', …' if size > len(parts) else ''}{closing}"

    def of_fields(self, kind: type, found: list[tuple[str, Any, bool]]) -> str:
        """A generated repr walks everything that the object holds: this one does not."""
        pairs = [(name, item) for name, item, told in found[: self.items] if told]
        told = ", ".join(f"{name}={self.short(item, 0)}" for name, item in pairs)
        return f"{name_of(kind)}({told}{', …' if len(found) > self.items else ''})"

    # -- everything else -------------------------------------------------------------------------------------------

    def other(self, value: Any, kind: type, level: int) -> str:
        if is_scalar(kind):
            return scalar(value, kind, self) or f"<{name_of(kind)}>"
        hooked = self.hooked(value, kind)
        if hooked is not None:
            return hooked
        known = self.well_known(value, kind, level)
        if known is not None:
            return known
        name = name_of(kind)
        shown_by = lookup(kind, "__repr__")
        home = root_of(shown_by[0]) if shown_by is not None else "builtins"
        if home == "builtins":
            return self.built_in(value, kind)
        if home in HEAVY or answers_for_others(kind):
            return f"<{name}>"
        return self.called(value, kind, repr, "its repr")

    def well_known(self, value: Any, kind: type, level: int) -> str | None:
        """Of the standard library, of a library that we know, or of declared fields."""
        name = name_of(kind)
        if is_enum(kind):
            own = held(value, kind)
            member, inner = own.get("_name_"), own.get("_value_")
            return f"<{name}.{member}: {self.short(inner, 0)}>" if type(member) is str else f"<{name}>"
        found = fields(value, kind)
        if found is not None:
            return self.of_fields(kind, found)
        base = is_container(kind)
        if base is not None:
            return f"{name}({self.container(value, base, level)})"
        module = module_of(kind)
        safe = (module, name) in SAFE or module.partition(".")[0] in SAFE_MODULES
        if safe and is_what_it_says(kind):
            return plain_repr(value, name)
        if id(kind) in ZONED:
            zone = kind.__dict__["tzinfo"].__get__(value)
            known = zone is None or type(zone) is datetime.timezone or module_of(type(zone)) == "zoneinfo"
            return plain_repr(value, name) if known else f"<{name}>"
        return None

    def built_in(self, value: Any, kind: type) -> str:
        """Shown as the type that it derives from would be, which computes nothing: a text, a number, an exception."""
        name, inner = name_of(kind), ""
        if derives(kind, BaseException):
            arguments = BaseException.__dict__["args"].__get__(value)
            inner = self.short(arguments, 1)[1:-1].removesuffix(",") if arguments else " "
        elif derives(kind, str):
            inner = self.short(str.__str__(value), 0)
        elif derives(kind, bytes):
            inner = self.short(bytes.__getitem__(value, slice(0, self.text + 1)), 0)
        elif derives(kind, int):
            inner = self.short(int.__pos__(value), 0)
        elif derives(kind, float):
            inner = self.short(float.__pos__(value), 0)
        return f"{name}({inner.strip()})" if inner else f"<{name}>"

    # -- code of the user's ----------------------------------------------------------------------------------------

    def hooked(self, value: Any, kind: type) -> str | None:
        """What a class, or a package for it, says for a model alone; None where nobody does, or it cannot."""
        own = entry(kind, HOOK)
        if own is not None:
            return self.called(value, kind, lambda one: own.__get__(one, kind)(), HOOK)
        made = self.plugins.of(kind) if self.plugins is not None and module_of(kind) != "builtins" else None
        if made is None:
            return None
        if isinstance(made, str):
            self.complaint = made
            return None
        return self.called(value, kind, made, "its describer")

    def called(self, value: Any, kind: type, function: Callable[[Any], Any], what: str) -> str:
        name = name_of(kind)
        if kind in self.slow:
            return f"<{name}>"
        if self.call is None:
            self.met = True
            return f"<{name}>"
        try:
            text = self.call(kind, function, value)
        except Late:
            self.late = True
            return f"<{name}: {what} takes too long>"
        except BaseException as error:  # the user's own code, on a thread that must go on
            problem = f"{what} raises {name_of(type(error))}"
            self.complaint = problem if what != "its repr" else self.complaint
            return f"<{name}: {problem}>"
        if not derives(type(text), str):
            self.complaint = problem = f"{what} gives no str"
            return f"<{name}: {problem}>"
        few = str.__getitem__(text, slice(0, 4 * self.limit))
        return cut(ADDRESS.sub("", few), self.limit)

    # -- rows and elements -----------------------------------------------------------------------------------------

    def listed(self, items: list[str], size: int) -> str:
        return cut(f"[{', '.join(items)}{', …' if size > len(items) else ''}]", self.limit)

    def table(self, size: int, row: Callable[[int], list[Any]]) -> str:
        rows = [", ".join(self.short(item, 0) for item in row(number)) for number in range(min(self.rows, size))]
        return cut(f"first row: {rows[0]}" if self.rows == 1 else f"first rows: {' | '.join(rows)}", self.limit)


def plain_repr(value: Any, name: str) -> str:
    try:
        return repr(value)
    except Exception as error:  # an int with too many digits for one, say
        return f"<{name}: its repr raises {name_of(type(error))}>"
