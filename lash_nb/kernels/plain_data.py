"""Which values come back without anybody having asked for their class: data, whose making runs nothing of the sender's.

Decided here: objects of Python's own plain types and of libraries for data, made by their classes or by the private
functions that those libraries pickle them with. Code of the sender (functions, classes of its cells) and anything else
that a pickle can call is refused; `%lash pull` is for that. It keeps what a turn gives back from running unasked here;
like all of approval it stops accidents and honest code, and is no sandbox. What comes out of a sandbox is held to a
list of what may be called, by its full name.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from .inside.unpickling import CannotBeMadeError, Unpickler

__all__ = ["DataUnpickler", "SandboxedUnpickler"]

_BUILTINS = frozenset(
    {"bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list", "object", "range", "set"}
    | {"slice", "str", "tuple", "Ellipsis", "NotImplemented"}
)
_ROOTS = frozenset(
    {
        "PIL",
        "altair",
        "array",
        "collections",
        "datetime",
        "decimal",
        "fractions",
        "geopandas",
        "ipaddress",
        "matplotlib",
    }
    | {
        "networkx",
        "numpy",
        "pandas",
        "pathlib",
        "polars",
        "pyarrow",
        "pyproj",
        "scipy",
        "shapely",
        "sklearn",
        "statsmodels",
    }
    | {"uuid", "xarray", "zoneinfo"}
)
_OTHERS = frozenset({("copyreg", "_reconstructor"), ("copyreg", "__newobj__"), ("types", "SimpleNamespace")})
_FUNCTIONS = frozenset({"as_strided", "frombuffer", "ravel", "scalar", "setflags", "type_for_alias"})
"""Public ones that arrays and tables are made with; all others begin with an underscore."""
_NOT_DATA = frozenset({"DataSource", "memmap", "open_memmap"})
_GOT = frozenset({"__new__", "_unpickle", "view"})
"""What our own pickling gets of arrays and their classes, and `zoneinfo` of its own."""
_LISTED = {
    "builtins": _BUILTINS,
    "collections": {"Counter", "OrderedDict", "defaultdict", "deque"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "decimal": {"Decimal"},
    "fractions": {"Fraction"},
    "numpy": {"dtype", "ndarray"},
    "numpy._core.multiarray": {"_reconstruct", "scalar"},
    "numpy._core.numeric": {"_frombuffer"},
    "numpy.core.multiarray": {"_reconstruct", "scalar"},
    "numpy.core.numeric": {"_frombuffer"},
    "numpy.ma": {"MaskedArray"},
    "numpy.ma.core": {"MaskedArray", "_mareconstruct"},
    "pandas": {
        *("BooleanDtype", "Categorical", "CategoricalDtype", "CategoricalIndex", "DataFrame", "DateOffset", "NA"),
        *("DatetimeIndex", "DatetimeTZDtype", "Float32Dtype", "Float64Dtype", "Index", "Int16Dtype", "Int32Dtype"),
        *("Int64Dtype", "Int8Dtype", "Interval", "IntervalDtype", "IntervalIndex", "MultiIndex", "NaT", "Period"),
        *("PeriodDtype", "PeriodIndex", "RangeIndex", "Series", "SparseDtype", "StringDtype", "Timedelta"),
        *("TimedeltaIndex", "Timestamp", "UInt16Dtype", "UInt32Dtype", "UInt64Dtype", "UInt8Dtype"),
    },
    "pandas._libs.arrays": {"__pyx_unpickle_NDArrayBacked"},
    "pandas._libs.internals": {"_unpickle_block"},
    "pandas._libs.sparse": {"BlockIndex", "IntIndex"},
    "pandas._libs.tslibs.nattype": {"_nat_unpickle"},
    "pandas._libs.tslibs.timedeltas": {"_timedelta_unpickle"},
    "pandas._libs.tslibs.timestamps": {"_unpickle_timestamp"},
    "pandas.arrays": {
        *("BooleanArray", "DatetimeArray", "FloatingArray", "IntegerArray", "IntervalArray", "PeriodArray"),
        *("SparseArray", "StringArray", "TimedeltaArray"),
    },
    "pandas.core.indexes.base": {"_new_Index"},
    "pandas.core.indexes.datetimes": {"_new_DatetimeIndex"},
    "pandas.core.indexes.interval": {"_new_IntervalIndex"},
    "pandas.core.indexes.period": {"_new_PeriodIndex"},
    "pandas.core.indexes.timedeltas": {"_new_TimedeltaIndex"},
    "pandas.core.internals.managers": {"BlockManager", "SingleBlockManager"},
    "pathlib": {"PosixPath", "PurePosixPath", "PureWindowsPath"},
    "types": {"SimpleNamespace"},
    "uuid": {"SafeUUID", "UUID"},
    "zoneinfo": {"ZoneInfo"},
}
"""What values of Python, numpy and pandas name when they are pickled, looked at one by one: it runs nothing."""
_OFFSETS = "pandas._libs.tslibs.offsets"


class DataUnpickler(Unpickler):
    """Makes data alone; what is more is a CannotBeMadeError."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _got
        root = module.partition(".")[0]
        known = name in _BUILTINS if module == "builtins" else root in _ROOTS or (module, name) in _OTHERS
        found = super().find_class(module, name) if known else None
        if found is None or not _makes_data(found, name):
            raise CannotBeMadeError(
                kind="error",
                message=f"it is, or holds, more than data ({module}.{name}): `%lash pull` takes it all the same, and "
                "runs here what it wants run",
            )
        return found


class SandboxedUnpickler(Unpickler):
    """Makes what is listed here alone: who sends it is not trusted at all. What is more is a CannotBeMadeError."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("builtins", "getattr"):
            return _got
        offset = module == _OFFSETS and name.isalpha() and name[:1].isupper()
        if not offset and name not in _LISTED.get(module, ()):
            raise CannotBeMadeError(
                kind="error",
                message=f"it is, or holds, more than plain data ({module}.{name}), and the agent's kernel is in a "
                "sandbox: have it made into a table, an array or a dict, or written to a file",
            )
        return super().find_class(module, name)


def _makes_data(found: Any, name: str) -> bool:
    last = name.rpartition(".")[2]
    home = str(getattr(found, "__module__", ""))
    if last in _NOT_DATA or ".io" in home:
        return False
    if not callable(found):  # a constant, like `pandas.NA`
        return not isinstance(found, ModuleType)
    return isinstance(found, type) or last.startswith("_") or last in _FUNCTIONS or last in _BUILTINS


def _got(value: Any, name: str) -> Callable[..., Any]:
    if name not in _GOT:
        raise CannotBeMadeError(kind="error", message=f"it is, or holds, more than data (an attribute {name!r})")
    got: Callable[..., Any] = getattr(value, name)
    return got
