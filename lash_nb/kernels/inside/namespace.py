"""Describes the user's variables on the control channel, also while a cell runs. Runs on the kernel's control thread.

Bounded in count, in time and in what it touches: no `repr` of anything big, no deep memory, no lazy object evaluated.
Whatever a user's class does when it is described (raise, be slow) costs at most its preview. How much of a value is
told is the host's to say: `schema` (nothing of it), `sample` (some dozen characters) or `full` (a page).
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
MAX_FULL = 2000
MAX_ALL_FULL = 24_000
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


def is_scalar(value: Any, kind: type) -> bool:
    module, name = root(kind), kind.__name__
    if module == "numpy":
        return getattr(value, "shape", None) == () and name != "ndarray" and hasattr(value, "item")
    return module == "pandas" and name in ("Timestamp", "Timedelta", "Period", "Interval", "NAType", "NaTType")


class Sampler:
    """Shows a value in at most `limit` characters; `slow`: the classes whose repr was found to take too long."""

    def __init__(self, slow: set[type], *, limit: int, text: int, items: int, levels: int, elements: int, rows: int):
        self.slow = slow
        self.limit = limit
        self.text = text
        self.items = items
        self.levels = levels
        self.elements = elements
        self.rows = rows

    def preview(self, value: Any) -> str:
        kind = type(value)
        if isinstance(value, (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, types.MethodType, type)):
            return ""
        if root(kind) in SHAPED and not is_scalar(value, kind):
            return self.sample(value, kind)
        return shorten(self.short(value), self.limit)

    def short(self, value: Any, level: int | None = None) -> str:
        """A repr that never walks more than a few items."""
        level = self.levels if level is None else level
        kind = type(value)
        if kind in (bool, type(None), float, complex):
            return repr(value)
        if kind is int:
            return repr(value) if value.bit_length() < 256 else f"<int of {value.bit_length()} bits>"
        if kind in (str, bytes, bytearray):
            text = repr(value[: self.text])
            return text if len(value) <= self.text else text + "…"
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
        few = islice(value.items() if kind is dict else value, self.items if size > 64 or kind is not set else size)
        parts: list[str] = []
        room = self.limit
        for item in list(few):
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

    def short_object(self, value: Any, kind: type) -> str:
        plain = f"<{kind.__name__}>"
        if root(kind) in HEAVY and not is_scalar(value, kind):
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
        return shorten(text, self.limit)

    def short_fields(self, value: Any, kind: type) -> str:
        """A generated repr walks everything it holds: this one does not."""
        fields = getattr(kind, "__dataclass_fields__", None)
        if fields is None:
            names = getattr(kind, "_fields", ())
            if not (isinstance(value, tuple) and names):
                return f"<{kind.__name__}>"
            pairs = list(zip(names, tuple.__iter__(value), strict=False))[: self.items]
        else:
            held = getattr(value, "__dict__", {})
            pairs = [(name, held[name]) for name in islice(fields, self.items) if name in held]
            names = fields
        shown = ", ".join(f"{name}={self.short(item, 0)}" for name, item in pairs)
        return f"{kind.__name__}({shown}{', …' if len(names) > self.items else ''})"

    def sample(self, value: Any, kind: type) -> str:
        """The first values, read one by one; nothing where a read may compute or wait for a device."""
        module = root(kind)
        if module == "numpy" and kind.__name__ == "ndarray" and value.size:
            items = [self.short(value.flat[i].item()) for i in range(min(self.elements, value.size))]
            return self.listed(items, value.size)
        if module in ("pandas", "geopandas") and hasattr(value, "iat") and len(value):
            if hasattr(kind, "columns"):
                columns = range(min(8, len(value.columns)))
                return self.table(len(value), lambda row: [value.iat[row, column] for column in columns])
            items = [self.short(value.iat[row], 0) for row in range(min(self.elements, len(value)))]
            return self.listed(items, len(value))
        if module == "polars" and kind.__name__ == "DataFrame" and len(value):
            return self.table(len(value), lambda row: list(value.row(row)[:8]))
        return ""

    def listed(self, items: list[str], size: int) -> str:
        return shorten(f"[{', '.join(items)}{', …' if size > len(items) else ''}]", self.limit)

    def table(self, size: int, row: Callable[[int], list[Any]]) -> str:
        rows = [", ".join(self.short(item, 0) for item in row(number)) for number in range(min(self.rows, size))]
        return shorten(f"first row: {rows[0]}" if self.rows == 1 else f"first rows: {' | '.join(rows)}", self.limit)


class Describer:
    """What is remembered between two summaries: fingerprints of what was described, and which classes are slow."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[Any, ...]] = {}
        slow: set[type] = set()
        self.sampler = Sampler(slow, limit=MAX_PREVIEW, text=60, items=4, levels=2, elements=5, rows=1)
        self.pager = Sampler(slow, limit=MAX_FULL, text=1500, items=50, levels=3, elements=100, rows=10)

    # -- one value -------------------------------------------------------------------------------------------------

    def describe(self, value: Any, values: bool = True) -> tuple[str, str, str]:
        """`(type, detail, preview)` of one variable; without `values` nothing in them is one."""
        kind, detail = self.detail(value, values)
        return kind, detail, self.sampler.preview(value) if values else ""

    def detail(self, value: Any, values: bool) -> tuple[str, str]:
        kind = type(value)
        if isinstance(value, types.ModuleType):
            return "module", str(value.__name__)
        if isinstance(value, (types.FunctionType, types.BuiltinFunctionType, types.MethodType)):
            return "function", self.signature(value, values)
        if isinstance(value, type):
            bases = ", ".join(base.__name__ for base in type.__getattribute__(value, "__bases__"))
            return "class", bases if bases != "object" else ""
        if root(kind) in SHAPED and not is_scalar(value, kind):
            return kind.__name__, shorten(self.shaped(value, kind, values), MAX_DETAIL)
        detail = ""
        if isinstance(value, BUILT_IN):
            base = next(b for b in BUILT_IN if isinstance(value, b))
            detail = f"length {base.__len__(value)}"
        return kind.__name__, detail

    def signature(self, function: Any, values: bool) -> str:
        import inspect

        try:
            signature = inspect.signature(function)
            if not values:  # a default is one, and an annotation may hold one
                bare = [p.replace(default=p.empty, annotation=p.empty) for p in signature.parameters.values()]
                signature = inspect.Signature(bare)
            return shorten(ADDRESS.sub("", str(signature)), MAX_PREVIEW)
        except (ValueError, TypeError):
            return ""

    def shaped(self, value: Any, kind: type, values: bool) -> str:
        if kind.__name__.startswith("Lazy"):
            return "lazy"
        parts = []
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple):
            parts.append("shape (" + ", ".join(str(int(n)) for n in shape) + ("," if len(shape) == 1 else "") + ")")
        dtype = getattr(value, "dtype", None)
        if dtype is not None and not callable(dtype) and not hasattr(dtype, "__array__"):  # a column may be called so
            parts.append(f"dtype {self.dtype(dtype, values)}")
        name = getattr(value, "name", None)
        if values and isinstance(name, str) and hasattr(kind, "dtype"):  # that of a row is a value
            parts.append(f"name {name!r}")
        columns = self.columns(value, values)
        if columns:
            parts.append("columns " + columns)
        return "; ".join(parts)

    def dtype(self, dtype: Any, values: bool) -> str:
        """Its name; some list what is in the column (`Enum(categories=…)`), and a user's class says what it likes."""
        if values or type(dtype).__module__ == "builtins":
            return str(dtype)
        plain = root(type(dtype)) in SHAPED and not type(dtype).__name__.startswith(("Enum", "Sparse"))
        return str(dtype) if plain else type(dtype).__name__

    def columns(self, value: Any, values: bool) -> str:
        """Names and types of the first columns, as text."""
        total, pairs = self.first_columns(value, MAX_COLUMNS)
        shown = ", ".join(f"{shorten(str(name), 40)} {self.dtype(dtype, values)}" for name, dtype in pairs)
        return shown + (f", … {total - len(pairs)} more" if total > len(pairs) else "")

    def named_columns(self, value: Any, values: bool = True) -> list[list[str]]:
        """Names and types of the first columns, as data: those that can be asked for by a string of some length."""
        if root(type(value)) not in SHAPED or type(value).__name__.startswith("Lazy"):
            return []
        pairs = self.first_columns(value, MAX_NAMED_COLUMNS)[1]
        return [
            [name, shorten(self.dtype(dtype, values), 40)]
            for name, dtype in pairs
            if isinstance(name, str) and len(name) <= MAX_COLUMN_CHARS
        ]

    def first_columns(self, value: Any, count: int) -> tuple[int, list[tuple[Any, Any]]]:
        """How many columns there are, and the first of them: pandas and polars frames, pyarrow tables."""
        kind = type(value)  # its attributes: those of a value may be a column, or a row
        if hasattr(kind, "column_names") and hasattr(kind, "schema"):
            names, types_ = value.column_names, value.schema.types
            return len(names), list(zip(islice(names, count), islice(types_, count), strict=False))
        if hasattr(kind, "columns") and hasattr(kind, "dtypes"):
            pairs = zip(islice(value.columns, count), islice(value.dtypes, count), strict=False)
            return len(value.columns), list(pairs)
        return 0, []

    def fingerprint(self, value: Any, described: tuple[str, str, str]) -> tuple[Any, ...]:
        """What changes when the value does; of a big array that is changed in place, a sample of 32 elements."""
        extra: Any = None
        plain = type(value).__name__ == "ndarray" and root(type(value)) == "numpy"
        if plain and value.size and not value.dtype.hasobject:
            step = max(1, value.size // 32)
            extra = tuple(value.flat[i].tobytes() for i in range(0, value.size, step))[:33]
        return (id(value), *described, extra)

    # -- all of them -----------------------------------------------------------------------------------------------

    def summary(
        self, namespace: dict[str, Any], hidden: dict[str, Any], limit: int, previews: str = "sample"
    ) -> dict[str, Any]:
        end = time.perf_counter() + BUDGET_S
        current = self.visible(namespace, hidden)
        removed = sorted(name for name in self.known if name not in current)
        for name in removed:
            del self.known[name]
        # New and rebound first, so that a cap leaves out what was seen before.
        order = sorted(current, key=lambda name: self.known.get(name, (None,))[0] == id(current[name]))
        variables: list[list[Any]] = []
        room = MAX_ALL_FULL if previews == "full" else 0
        for name in order[: max(0, limit)]:
            left = end - time.perf_counter()
            if left < 0:
                break
            told, columns, mark = self.told(current[name], previews, room if left > BUDGET_S / 2 else 0)
            room -= len(told[2]) if previews == "full" else 0
            changed = self.known.get(name) != mark
            self.known[name] = mark
            variables.append([name, *told, changed, columns])
        variables.sort()
        omitted = len(current) - len(variables)
        return {"variables": variables, "omitted": omitted, "removed": removed, "previews": previews}

    def told(self, value: Any, previews: str, room: int) -> tuple[tuple[str, str, str], list[list[str]], Any]:
        """What is told of a variable, its columns, and what it is known again by; `room` is for a long preview."""
        values = previews in ("sample", "full")
        try:
            described = told = self.describe(value)
            mark = self.fingerprint(value, described)  # what is not told is a change, too
            columns = self.named_columns(value, values)
            if not values:
                told = self.describe(value, values)
            elif room > 0:
                longer = self.pager.preview(value)
                told = (*described[:2], longer) if len(longer) <= room else described
        except BaseException as error:  # the user's own code, on a thread that must go on
            said = f"<cannot be described: {type(error).__name__}>" if values else ""
            return (type(value).__name__, "", said), [], (id(value), said, None)
        return told, columns, mark

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
        limit, previews = int(content.get("limit", 200)), str(content.get("previews", "sample"))
        respond(describer.summary(shell.user_ns, shell.user_ns_hidden, limit, previews))

    inside.handlers["lash_ns_request"] = lash_ns_request
