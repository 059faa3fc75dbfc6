"""What is told of the values of well-known libraries: a small table, type → a few short functions.

Attributes alone, and only those that cost nothing: no `len(repr())`, no deep memory, nothing that computes, waits for a
device or reads a file. A type is in the table when the library itself has it under that name. What a user's class adds
(a subclass, an extension type) is code of the user's and never reached from here on its own: see `describing.py`.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, NamedTuple

from .kinds import derives, entry, is_what_it_says, module_entries, mro_of, name_of, root_of

MAX_COLUMNS = 12
MAX_NAMED_COLUMNS = 100
MAX_COLUMN_CHARS = 80
MAX_BLOCKS = 500
SAMPLED = 32
BIG = 1_000_000
# Their values are described by attributes only: a repr may be long to make, or compute.
HEAVY = frozenset(
    {
        "cudf", "cupy", "dask", "datasets", "django", "duckdb", "geopandas", "ibis", "jax", "jaxlib", "matplotlib",
        "modin", "networkx", "numpy", "pandas", "peewee", "polars", "pyarrow", "pyspark", "ray", "scipy", "seaborn",
        "sqlalchemy", "tensorflow", "torch", "vaex", "xarray",
    }
)  # fmt: skip
SHAPED = frozenset({"cupy", "geopandas", "jax", "jaxlib", "numpy", "pandas", "polars", "pyarrow", "scipy", "torch",
                    "xarray"})  # fmt: skip
LAZY = frozenset({"dask", "ibis", "pyspark", "vaex"})
LAZY_NAMES = ("Array", "Bag", "Column", "DataFrame", "Delayed", "Index", "Series", "Table")
MAX_DTYPES = 500
DTYPES: dict[Any, str] = {}
"""Texts of numpy's, which are long in the making."""
TIMES = frozenset({"Interval", "NAType", "NaTType", "Period", "Timedelta", "Timestamp"})


def human(size: int) -> str:
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6)):
        if size >= factor:
            return f"{size / factor:.{1 if size < 10 * factor else 0}f} {unit}"
    return f"{size / 1000:.0f} kB"


def cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def title(name: Any) -> str:
    """A column's name; that of a user's class is not asked for its own."""
    kind = type(name)
    if kind is str:
        return cut(name, 40)
    if kind is tuple:
        return cut("(" + ", ".join(title(part) for part in name[:4]) + ")", 40)
    if kind is int or kind is float or kind is bool or name is None:
        return str(name)
    return str(name)[:40] if is_scalar(kind) else f"<{name_of(kind)}>"


def dtype_text(dtype: Any, values: bool) -> str:
    """Its name; some list what is in the column (`Enum(categories=…)`), and a user's class says what it likes."""
    kind = type(dtype)
    if root_of(kind) == "numpy":
        known = DTYPES.get(dtype)
        if known is None:
            known = cut(str(dtype), MAX_COLUMN_CHARS)
            if len(DTYPES) < MAX_DTYPES:
                DTYPES[dtype] = known
        return known
    if dtype is None or kind is str:
        return str(dtype)
    if derives(kind, type):
        return name_of(dtype)
    if root_of(kind) not in SHAPED or name_of(kind).startswith("Enum") or (not values and "Sparse" in name_of(kind)):
        return name_of(kind)
    return cut(str(dtype).removeprefix("torch."), MAX_COLUMN_CHARS)


def is_scalar(kind: type) -> bool:
    """Whether it is of a library's scalars, whose repr is short."""
    if root_of(kind) == "numpy":
        generic = module_entries("numpy").get("generic")
        return generic is not None and derives(kind, generic) and is_what_it_says(kind)
    return root_of(kind) == "pandas" and name_of(kind) in TIMES


def scalar(value: Any, kind: type, show: Any) -> str | None:
    """How a library's scalar is shown; None when it could run code of the user's."""
    if root_of(kind) == "numpy":
        if derives(kind, module_entries("numpy")["void"]):
            return str(show.short(value.item(), 1)) if not value.dtype.hasobject else None
        item = value.item()
        return repr(value) if type(item) is kind or name_of(kind) == "object_" else str(show.short(item))
    zone = getattr(value, "tzinfo", None)
    return repr(value) if zone is None or root_of(type(zone)) in ("datetime", "zoneinfo", "pytz", "dateutil") else None


class Columns(NamedTuple):
    """How many there are, and the first of them: name, type."""

    total: int
    first: list[tuple[Any, Any]]


NO_COLUMNS = Columns(0, [])


class Library(NamedTuple):
    """How values of one type are told."""

    size: Callable[[Any], int] = lambda value: 0
    """In bytes, where that is known without a walk."""
    sample: Callable[[Any, Any], str] = lambda value, show: ""
    """The first values, for whoever shows them (`Sampler`)."""
    columns: Callable[[Any, int], Columns] = lambda value, count: NO_COLUMNS
    mark: Callable[[Any], Any] = lambda value: None
    """What changes when the value does, had more cheaply than its description, and the part of it that is content.

    None: it cannot be had. Identity alone may change when the value does not.
    """
    more: Callable[[Any], str] = lambda value: ""
    plain: Callable[[Any], bool] = lambda value: True
    """Whether nothing in it is of a user's type that is asked for what it holds."""
    lazy: bool = False


# -- numpy -------------------------------------------------------------------------------------------------------------


def array_sample(value: Any, show: Any) -> str:
    if not value.size:
        return ""
    flat, plain = value.flat, not value.dtype.hasobject
    items = [show.short(flat[i].item() if plain else flat[i], 1) for i in range(min(show.elements, value.size))]
    return str(show.listed(items, value.size))


def array_mark(value: Any) -> Any:
    """Of a big array that is changed in place, a sample of some elements."""
    if value.dtype.hasobject:
        return None
    flat = value.reshape(-1) if value.flags.c_contiguous else value.flat
    step = max(1, value.size // SAMPLED)
    mark = (value.shape, value.dtype.str, flat[:5].tobytes(), flat[::step].tobytes())
    return mark, mark


# -- pandas ------------------------------------------------------------------------------------------------------------


def blocks(value: Any) -> Any:
    """What a frame or series keeps its values in, or nothing where pandas does it in another way."""
    found = getattr(getattr(value, "_mgr", None), "blocks", ())
    return found if len(found) <= MAX_BLOCKS else ()


def pandas_plain(value: Any) -> bool:
    """An extension type of the user's computes what lies in a column."""
    parts = getattr(getattr(value, "_mgr", None), "blocks", ())
    return all(root_of(type(block.values)) in SHAPED for block in islice(parts, MAX_BLOCKS))


def index_plain(value: Any) -> bool:
    return root_of(type(getattr(value, "_data", None))) in SHAPED or name_of(type(value)) in (
        "MultiIndex",
        "RangeIndex",
    )


def pandas_size(value: Any) -> int:
    return sum(int(block.values.nbytes) for block in blocks(value))


def pandas_sample(value: Any, show: Any) -> str:
    rows = len(value)
    if not rows:
        return ""
    items = [show.short(value.iat[row], 0) for row in range(min(show.elements, rows))]
    return str(show.listed(items, rows))


def pandas_rows(value: Any, show: Any) -> str:
    rows, columns = len(value), range(min(8, len(value.columns)))
    return str(show.table(rows, lambda row: [value.iat[row, column] for column in columns])) if rows else ""


def index_sample(value: Any, show: Any) -> str:
    size = len(value)
    return str(show.listed([show.short(value[i], 1) for i in range(min(show.elements, size))], size)) if size else ""


def pandas_columns(value: Any, count: int) -> Columns:
    names, manager = value.columns, value._mgr
    few = range(min(count, len(names)))
    try:
        types_ = [manager.blocks[manager.blknos[i]].dtype for i in few]
    except (AttributeError, IndexError):
        types_ = list(islice(value.dtypes, count))
    return Columns(len(names), [(names[i], types_[i]) for i in few])


def pandas_mark(value: Any) -> Any:
    """Its parts by identity, and of each a few elements."""
    manager, parts = value._mgr, blocks(value)
    if not parts:
        return None
    taken: list[Any] = [id(manager), tuple(id(axis) for axis in manager.axes), getattr(value, "name", None)]
    if taken[-1] is not None and type(taken[-1]) is not str and type(taken[-1]) is not int:
        return None
    for block in parts:
        values = block.values
        if derives(type(values), module_entries("pandas.arrays").get("DatetimeArray", Kindless)):
            values = values._ndarray
        if name_of(type(values)) != "ndarray" or root_of(type(values)) != "numpy" or values.dtype.hasobject:
            return None
        first = values[:8, 0] if values.ndim == 2 and values.size else values[:1]
        taken.append((id(block.values), values.shape, first.tobytes(), array_mark(values)[1]))
    return tuple(taken), None


class Kindless:
    """Of which nothing is."""


# -- the others --------------------------------------------------------------------------------------------------------


def arrow_columns(value: Any, count: int) -> Columns:
    schema = value.schema
    return Columns(len(schema), [(schema.field(i).name, schema.field(i).type) for i in range(min(count, len(schema)))])


def arrow_more(value: Any) -> str:
    return f"length {len(value)}; type {dtype_text(value.type, False)}"


def polars_columns(value: Any, count: int) -> Columns:
    names, types_ = value.columns, value.dtypes
    return Columns(len(names), list(zip(islice(names, count), islice(types_, count), strict=False)))


def polars_rows(value: Any, show: Any) -> str:
    return str(show.table(len(value), lambda row: list(value.row(row)[:8]))) if len(value) else ""


def polars_sample(value: Any, show: Any) -> str:
    size = len(value)
    return str(show.listed([show.short(value[i], 0) for i in range(min(show.elements, size))], size)) if size else ""


def tensor_size(value: Any) -> int:
    return int(value.element_size()) * int(value.nelement())


def tensor_more(value: Any) -> str:
    return f"device {value.device}"


def tensor_mark(value: Any) -> Any:
    """Its own count of changes in place."""
    mark = (value._version, tuple(value.shape), str(value.device))
    return mark, mark


def identity(value: Any) -> Any:
    """For what never changes."""
    return id(value), None


def nbytes(value: Any) -> int:
    return int(value.nbytes)


def dimensions(value: Any) -> str:
    sizes = ", ".join(f"{title(name)} {size}" for name, size in islice(value.sizes.items(), MAX_COLUMNS))
    return f"dimensions {sizes}" if sizes else ""


TABLE: dict[tuple[str, str], Library] = {
    ("numpy", "ndarray"): Library(nbytes, array_sample, mark=array_mark),
    ("numpy", "memmap"): Library(nbytes, array_sample),
    ("numpy", "MaskedArray"): Library(nbytes),
    ("pandas", "DataFrame"): Library(pandas_size, pandas_rows, pandas_columns, pandas_mark, plain=pandas_plain),
    ("pandas", "Series"): Library(pandas_size, pandas_sample, mark=pandas_mark, plain=pandas_plain),
    ("pandas", "Index"): Library(sample=index_sample, plain=index_plain),
    ("geopandas", "GeoDataFrame"): Library(columns=pandas_columns),
    ("geopandas", "GeoSeries"): Library(),
    ("polars", "DataFrame"): Library(lambda value: int(value.estimated_size()), polars_rows, polars_columns),
    ("polars", "Series"): Library(lambda value: int(value.estimated_size()), polars_sample),
    ("polars", "LazyFrame"): Library(lazy=True),
    ("pyarrow", "Table"): Library(nbytes, columns=arrow_columns, mark=identity),
    ("pyarrow", "RecordBatch"): Library(nbytes, columns=arrow_columns, mark=identity),
    ("pyarrow", "Array"): Library(nbytes, mark=identity, more=arrow_more),
    ("pyarrow", "ChunkedArray"): Library(nbytes, mark=identity, more=arrow_more),
    ("torch", "Tensor"): Library(tensor_size, mark=tensor_mark, more=tensor_more),
    ("xarray", "Dataset"): Library(more=dimensions),
}


def library_of(kind: type) -> tuple[Library, bool] | None:
    """How values of a type are told, and whether code of the user's may run when they are (a class derived by them)."""
    bases = mro_of(kind)
    if len(bases) == 2 and root_of(kind) not in SHAPED and root_of(kind) not in LAZY:
        return None  # the usual case
    for base in bases:
        root = root_of(base)
        if root in LAZY and is_what_it_says(base) and name_of(base).startswith(LAZY_NAMES):
            return Library(lazy=True), False
        if root not in SHAPED or not is_what_it_says(base):
            continue
        found = TABLE.get((root, name_of(base)))
        if found is not None or base is kind:
            ours = root_of(kind) in SHAPED and is_what_it_says(kind)
            return found or inherited(kind) or Library(), not ours
    return None


def inherited(kind: type) -> Library | None:
    """That of the nearest base in the table: `RangeIndex` is an `Index`."""
    found = (TABLE.get((root_of(base), name_of(base))) for base in mro_of(kind))
    return next((one for one in found if one is not None), None)


def detail(value: Any, kind: type, library: Library, columns: Columns, values: bool) -> str:
    """Shape, types, size, columns."""
    if library.lazy or name_of(kind).startswith("Lazy"):
        return "lazy"
    parts = []
    shape = getattr(value, "shape", None)
    if shape is not None and derives(type(shape), tuple):
        sizes = [int(n) for n in tuple.__iter__(shape)]
        parts.append("shape (" + ", ".join(map(str, sizes)) + ("," if len(sizes) == 1 else "") + ")")
    dtype = getattr(value, "dtype", None) if entry(kind, "columns") is None else None
    if dtype is not None and not callable(dtype) and not hasattr(dtype, "__array__"):  # a column may be called so
        parts.append(f"dtype {dtype_text(dtype, values)}")
    name = getattr(value, "name", None)
    if values and type(name) is str and hasattr(kind, "dtype"):  # that of a row is a value
        parts.append(f"name {cut(name, 40)!r}")
    parts.append(library.more(value))
    size = library.size(value)
    parts.append(human(size) if size >= BIG else "")
    first = columns.first[:MAX_COLUMNS]
    shown = ", ".join(f"{title(name)} {dtype_text(dtype, values)}" for name, dtype in first)
    more = f", … {columns.total - len(first)} more" if columns.total > len(first) else ""
    parts.append(f"columns {shown}{more}" if shown else "")
    return "; ".join(part for part in parts if part)


def named_columns(columns: Columns, values: bool) -> list[list[str]]:
    """Names and types of the first columns, as data: those that can be asked for by a string of some length."""
    return [
        [name, cut(dtype_text(dtype, values), 40)]
        for name, dtype in columns.first
        if type(name) is str and len(name) <= MAX_COLUMN_CHARS
    ]
