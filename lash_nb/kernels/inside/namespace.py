"""Describes the user's variables on the control channel, also while a cell runs. Runs on the kernel's control thread.

Bounded in count, in time and in what it touches: no `repr` of anything big, no deep memory, no lazy object evaluated.
Whatever a user's class does when it is described (raise, be slow) costs at most its preview.
"""

from __future__ import annotations

import re
import time
import types
from collections.abc import Callable
from itertools import islice
from typing import Any

BUDGET_S = 0.05
SLOW_S = 0.01
MAX_PREVIEW = 120
MAX_DETAIL = 400
MAX_COLUMNS = 12
MAX_NAMED_COLUMNS = 100
MAX_COLUMN_CHARS = 80
ITEMS = 4
LEVELS = 2
ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")
# Their own repr may be long to make or may compute: described by attributes only.
HEAVY = {
    "cudf", "cupy", "dask", "datasets", "duckdb", "ibis", "jax", "jaxlib", "matplotlib", "modin", "numpy", "pandas",
    "polars", "pyarrow", "pyspark", "ray", "scipy", "seaborn", "sqlalchemy", "tensorflow", "torch", "vaex", "xarray",
}  # fmt: skip
BRACKETS: dict[Any, tuple[str, str]] = {
    list: ("[", "]"), tuple: ("(", ")"), dict: ("{", "}"), set: ("{", "}"), frozenset: ("frozenset({", "})"),
}  # fmt: skip
BUILT_IN: Any = (list, tuple, set, frozenset, dict, str, bytes, bytearray)
SHAPED = {"cupy", "geopandas", "jax", "jaxlib", "numpy", "pandas", "polars", "pyarrow", "scipy", "torch", "xarray"}


def shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def root(kind: type) -> str:
    return str(getattr(kind, "__module__", "")).partition(".")[0]


class Describer:
    """What is remembered between two summaries: fingerprints of what was described, and which classes are slow."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[Any, ...]] = {}
        self.slow: set[type] = set()

    # -- one value -------------------------------------------------------------------------------------------------

    def short(self, value: Any, level: int = LEVELS) -> str:
        """A repr of at most some dozen characters that never walks more than a few items."""
        kind = type(value)
        if kind in (bool, type(None), float, complex):
            return repr(value)
        if kind is int:
            return repr(value) if value.bit_length() < 256 else f"<int of {value.bit_length()} bits>"
        if kind in (str, bytes, bytearray):
            text = repr(value[:60])
            return text if len(value) <= 60 else text + "…"
        if kind in (list, tuple, set, frozenset, dict):
            return self.short_container(value, kind, level)
        if isinstance(value, type):
            return f"<class {value.__name__}>"
        if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
            return f"<function {getattr(value, '__name__', '?')}>"
        return self.short_object(value, kind)

    def short_container(self, value: Any, kind: type, level: int) -> str:
        size = len(value)
        opening, closing = BRACKETS[kind]
        if not size:
            return kind.__name__ + "()" if kind in (set, frozenset) else opening + closing
        if level <= 0:
            return f"{opening}…{closing}"
        few = list(islice(value.items() if kind is dict else value, ITEMS if size > 64 or kind is not set else size))
        if kind is dict:
            parts = [f"{self.short(key, level - 1)}: {self.short(item, level - 1)}" for key, item in few]
        else:
            parts = [self.short(item, level - 1) for item in few]
            if kind in (set, frozenset):  # their order changes from process to process
                parts = sorted(parts)[:ITEMS]
        if kind is tuple and size == 1:
            parts[-1] += ","
        return f"{opening}{', '.join(parts)}{', …' if size > ITEMS else ''}{closing}"

    def short_object(self, value: Any, kind: type) -> str:
        plain = f"<{kind.__name__}>"
        if root(kind) in HEAVY and not self.is_scalar(value, kind):
            return plain
        if root(kind) == "numpy" and type(value.item()) in (bool, int, float, complex, str, bytes):
            return self.short(value.item())
        if kind in self.slow or getattr(kind, "__repr__", None) is object.__repr__:
            return plain
        if isinstance(value, BUILT_IN) or hasattr(kind, "__dataclass_fields__"):
            return self.short_fields(value, kind)
        start = time.perf_counter()
        try:
            text = ADDRESS.sub("", repr(value))
        except BaseException as error:  # the user's own code, on a thread that must go on
            return f"<{kind.__name__}: its repr raises {type(error).__name__}>"
        if time.perf_counter() - start > SLOW_S:
            self.slow.add(kind)
        return shorten(text, MAX_PREVIEW)

    def short_fields(self, value: Any, kind: type) -> str:
        """A generated repr walks everything it holds: this one does not."""
        fields = getattr(kind, "__dataclass_fields__", None)
        if fields is None:
            names = getattr(kind, "_fields", ())
            if not (isinstance(value, tuple) and names):
                return f"<{kind.__name__}>"
            pairs = list(zip(names, tuple.__iter__(value), strict=False))[:ITEMS]
        else:
            held = getattr(value, "__dict__", {})
            pairs = [(name, held[name]) for name in islice(fields, ITEMS) if name in held]
            names = fields
        shown = ", ".join(f"{name}={self.short(item, 0)}" for name, item in pairs)
        return f"{kind.__name__}({shown}{', …' if len(names) > ITEMS else ''})"

    def is_scalar(self, value: Any, kind: type) -> bool:
        module, name = root(kind), kind.__name__
        if module == "numpy":
            return getattr(value, "shape", None) == () and name != "ndarray" and hasattr(value, "item")
        return module == "pandas" and name in ("Timestamp", "Timedelta", "Period", "Interval", "NAType", "NaTType")

    def describe(self, value: Any) -> tuple[str, str, str]:
        """`(type, detail, preview)` of one variable."""
        kind = type(value)
        if isinstance(value, types.ModuleType):
            return "module", str(value.__name__), ""
        if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
            return "function", self.signature(value), ""
        if isinstance(value, type):
            bases = ", ".join(base.__name__ for base in type.__getattribute__(value, "__bases__"))
            return "class", bases if bases != "object" else "", ""
        if root(kind) in SHAPED and not self.is_scalar(value, kind):
            return kind.__name__, shorten(self.shaped(value, kind), MAX_DETAIL), self.sample(value, kind)
        detail = ""
        if isinstance(value, BUILT_IN):
            base = next(b for b in BUILT_IN if isinstance(value, b))
            detail = f"length {base.__len__(value)}"
        return kind.__name__, detail, shorten(self.short(value), MAX_PREVIEW)

    def signature(self, function: Any) -> str:
        import inspect

        try:
            return shorten(ADDRESS.sub("", str(inspect.signature(function))), MAX_PREVIEW)
        except (ValueError, TypeError):
            return ""

    def shaped(self, value: Any, kind: type) -> str:
        if kind.__name__.startswith("Lazy"):
            return "lazy"
        parts = []
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple):
            parts.append("shape (" + ", ".join(str(int(n)) for n in shape) + ("," if len(shape) == 1 else "") + ")")
        dtype = getattr(value, "dtype", None)
        if dtype is not None and not callable(dtype):
            parts.append(f"dtype {dtype}")
        name = getattr(value, "name", None)
        if isinstance(name, str) and hasattr(kind, "dtype"):
            parts.append(f"name {name!r}")
        columns = self.columns(value)
        if columns:
            parts.append("columns " + columns)
        return "; ".join(parts)

    def columns(self, value: Any) -> str:
        """Names and types of the first columns, as text."""
        total, pairs = self.first_columns(value, MAX_COLUMNS)
        shown = ", ".join(f"{shorten(str(name), 40)} {dtype}" for name, dtype in pairs)
        return shown + (f", … {total - len(pairs)} more" if total > len(pairs) else "")

    def named_columns(self, value: Any) -> list[list[str]]:
        """Names and types of the first columns, as data: those that can be asked for by a string of some length."""
        if root(type(value)) not in SHAPED or type(value).__name__.startswith("Lazy"):
            return []
        pairs = self.first_columns(value, MAX_NAMED_COLUMNS)[1]
        return [
            [name, shorten(str(dtype), 40)]
            for name, dtype in pairs
            if isinstance(name, str) and len(name) <= MAX_COLUMN_CHARS
        ]

    def first_columns(self, value: Any, count: int) -> tuple[int, list[tuple[Any, Any]]]:
        """How many columns there are, and the first of them: pandas and polars frames, pyarrow tables."""
        schema = getattr(value, "schema", None)
        names = getattr(value, "column_names", None)
        if names is not None and schema is not None and hasattr(schema, "types"):
            return len(names), list(zip(islice(names, count), islice(schema.types, count), strict=False))
        if hasattr(value, "columns") and hasattr(value, "dtypes"):
            pairs = zip(islice(value.columns, count), islice(value.dtypes, count), strict=False)
            return len(value.columns), list(pairs)
        return 0, []

    def sample(self, value: Any, kind: type) -> str:
        """The first values, read one by one; nothing where a read may compute or wait for a device."""
        module = root(kind)
        if module == "numpy" and kind.__name__ == "ndarray" and value.size:
            items = [self.short(value.flat[i].item()) for i in range(min(5, value.size))]
            return shorten("[" + ", ".join(items) + (", …" if value.size > 5 else "") + "]", MAX_PREVIEW)
        if module in ("pandas", "geopandas") and hasattr(value, "iat") and len(value):
            if hasattr(kind, "columns") or hasattr(value, "columns"):
                items = [self.short(value.iat[0, column], 0) for column in range(min(8, len(value.columns)))]
                return shorten("first row: " + ", ".join(items), MAX_PREVIEW)
            items = [self.short(value.iat[row], 0) for row in range(min(5, len(value)))]
            return shorten("[" + ", ".join(items) + (", …" if len(value) > 5 else "") + "]", MAX_PREVIEW)
        if module == "polars" and kind.__name__ == "DataFrame" and len(value):
            return shorten("first row: " + ", ".join(self.short(item, 0) for item in value.row(0)[:8]), MAX_PREVIEW)
        return ""

    def fingerprint(self, value: Any, described: tuple[str, str, str]) -> tuple[Any, ...]:
        """What changes when the value does; of a big array that is changed in place, a sample of 32 elements."""
        extra: Any = None
        plain = type(value).__name__ == "ndarray" and root(type(value)) == "numpy"
        if plain and value.size and not value.dtype.hasobject:
            step = max(1, value.size // 32)
            extra = tuple(value.flat[i].tobytes() for i in range(0, value.size, step))[:33]
        return (id(value), *described, extra)

    # -- all of them -----------------------------------------------------------------------------------------------

    def summary(self, namespace: dict[str, Any], hidden: dict[str, Any], limit: int) -> dict[str, Any]:
        end = time.perf_counter() + BUDGET_S
        current = self.visible(namespace, hidden)
        removed = sorted(name for name in self.known if name not in current)
        for name in removed:
            del self.known[name]
        # New and rebound first, so that a cap leaves out what was seen before.
        order = sorted(current, key=lambda name: self.known.get(name, (None,))[0] == id(current[name]))
        variables = []
        for name in order[: max(0, limit)]:
            if time.perf_counter() > end:
                break
            try:
                described = self.describe(current[name])
                columns = self.named_columns(current[name])
                mark = self.fingerprint(current[name], described)
            except BaseException as error:  # the user's own code, on a thread that must go on
                described = (type(current[name]).__name__, "", f"<cannot be described: {type(error).__name__}>")
                mark, columns = (id(current[name]), *described, None), []
            changed = self.known.get(name) != mark
            self.known[name] = mark
            variables.append([name, *described, changed, columns])
        variables.sort()
        return {"variables": variables, "omitted": len(current) - len(variables), "removed": removed}

    def visible(self, namespace: dict[Any, Any], hidden: dict[str, Any]) -> dict[str, Any]:
        for _ in range(5):
            try:
                items = list(namespace.items())
                break
            except RuntimeError:  # the cell binds a name at this moment
                continue
        else:
            items = []
        absent = object()
        return {
            name: value
            for name, value in items
            if isinstance(name, str) and name[:1] != "_" and hidden.get(name, absent) is not value
        }


def install(shell: Any, inside: Any) -> None:
    """Answer `lash_ns_request` on the control channel."""
    describer = Describer()

    def lash_ns_request(content: dict[str, Any], respond: Callable[[dict[str, Any]], None]) -> None:
        respond(describer.summary(shell.user_ns, shell.user_ns_hidden, int(content.get("limit", 200))))

    inside.handlers["lash_ns_request"] = lash_ns_request
