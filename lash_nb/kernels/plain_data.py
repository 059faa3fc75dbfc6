"""Which values come back without anybody having asked for their class: data, whose making runs nothing of the sender's.

Decided here: objects of Python's own plain types and of libraries for data, made by their classes or by the private
functions that those libraries pickle them with. Code of the sender (functions, classes of its cells) and anything else
that a pickle can call is refused; `%lash pull` is for that. It keeps what a turn gives back from running unasked here;
like all of approval it stops accidents and honest code, and is no sandbox.

What comes out of a sandbox is held to a list of names (`SandboxedUnpickler`), and to what pickles of data do with them:
a name that pickle looked up is never changed; a dtype is what its description says, as numpy reads memory by it; no
array of objects is made over bytes; nothing is made that is larger than what came. C's unpickler checks none of this,
so these are read by Python's own, some ten times slower; large buffers lie beside the stream and cost nothing.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any, ClassVar

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
    "numpy": {"dtype", "ndarray", "ndarray.setflags", "ravel"},
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
_CALLED = frozenset({"bytearray", "complex", "frozenset", "range", "set", "slice"})
"""Of Python's own types: those that pickle calls. The others are named where a class is a value."""
_FLAGS = 0x3F
"""Those of a dtype that say how memory is read: that it holds pointers, above all (`numpy/ndarraytypes.h`)."""


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

    def __init__(self, file: Any, *, buffers: Sequence[Any], **options: Any) -> None:
        super().__init__(file, buffers=buffers, **options)
        self._careful = _Careful(file, buffers=buffers, find=self.find_class)

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

    def load(self) -> Any:
        return self._careful.load()


class _Careful(pickle._Unpickler):
    """Python's own unpickler, whose steps can be looked at; `find` gives what a name stands for."""

    dispatch: ClassVar[dict[int, Callable[..., None]]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]
    metastack: list[list[Any]]

    def __init__(self, file: Any, *, buffers: Sequence[Any], find: Callable[[str, str], Any]) -> None:
        super().__init__(file, buffers=buffers)
        self._find = find
        self._named: dict[int, Any] = {}
        """What a name stands for, by its id: kept, so that no other object gets that id."""

    def find_class(self, module: str, name: str) -> Any:
        found = self._find(module, name)
        self._named[id(found)] = found
        return found

    def _reduce(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = _called(self.stack[-1], args)

    def _new(self) -> None:
        args = self.stack.pop()
        self.stack[-1] = _new(self.stack[-1], args, {})

    def _new_with_names(self) -> None:
        named = self.stack.pop()
        args = self.stack.pop()
        self.stack[-1] = _new(self.stack[-1], args, named)

    def _build(self) -> None:
        made = self.stack[-2]
        self._check(made)
        if callable(made):
            raise _more("it changes what can be called")
        pickle._Unpickler.dispatch[pickle.BUILD[0]](self)  # type: ignore[arg-type]
        if _is_dtype(made) and not _sound(made):
            raise _more("a dtype that is not what it says")

    def _check(self, made: Any) -> None:
        if id(made) in self._named:
            raise _more("it changes what it only names")

    def _old_form(self) -> None:
        raise _more("an instance in the form of Python 2")

    dispatch[pickle.REDUCE[0]] = _reduce
    dispatch[pickle.NEWOBJ[0]] = _new
    dispatch[pickle.NEWOBJ_EX[0]] = _new_with_names
    dispatch[pickle.BUILD[0]] = _build
    for _code in (pickle.INST, pickle.OBJ):
        dispatch[_code[0]] = _old_form


def _filling(which: int, load: Callable[..., None], marked: bool) -> Callable[[_Careful], None]:
    """A step that puts something into what lies on the stack, or below the mark: never into what was only named."""

    def step(unpickler: _Careful) -> None:
        unpickler._check(unpickler.metastack[-1][-1] if marked else unpickler.stack[which])
        load(unpickler)

    return step


for _code, _which, _marked in (
    (pickle.APPEND, -2, False),
    (pickle.SETITEM, -3, False),
    (pickle.APPENDS, 0, True),
    (pickle.SETITEMS, 0, True),
    (pickle.ADDITEMS, 0, True),
):
    _Careful.dispatch[_code[0]] = _filling(_which, _Careful.dispatch[_code[0]], _marked)


def _more(what: str) -> CannotBeMadeError:
    return CannotBeMadeError(
        kind="error",
        message=f"it is, or holds, more than plain data ({what}), and the agent's kernel is in a sandbox: have it made "
        "into a table, an array or a dict, or written to a file",
    )


def _called(function: Any, args: tuple[Any, ...]) -> Any:
    """What REDUCE makes, where pickles of data call that with such arguments."""
    numpy = sys.modules.get("numpy")
    if any(isinstance(arg, range) for arg in args):
        raise _more("it makes of a few bytes more than came")
    if isinstance(function, type) and function.__module__ == "builtins":
        numbers = function in (complex, range, slice)
        plain = all(isinstance(arg, (int, float, complex, type(None)) if numbers else (bytes, list)) for arg in args)
        if function.__name__ not in _CALLED or not plain:
            raise _more(f"a call of {function.__name__}")
    if getattr(function, "__module__", "") == "fractions" and not all(type(arg) is int for arg in args):
        raise _more("a Fraction of text")
    if numpy is not None:
        if function is numpy.dtype:
            if not (args and type(args[0]) is str):
                raise _more("a dtype of something else than its name")
            return numpy.dtype(args[0], align=False, copy=True)  # never one that all of this process uses
        if function is numpy.ndarray and not (len(args) == 5 and _holds_no_objects(args[1]) and _is_plain(args[2])):
            raise _more("an array over memory")
        if getattr(function, "__self__", None) is not None and function.__name__ == "__new__":
            raise _more("an array over memory")
    return function(*args)


def _new(kind: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What NEWOBJ makes: Python's own types and arrays come otherwise."""
    numpy = sys.modules.get("numpy")
    whole = kind is not object and getattr(kind, "__module__", "") == "builtins"
    if not isinstance(kind, type) or whole or (numpy is not None and issubclass(kind, (numpy.ndarray, numpy.dtype))):
        raise _more("an object of Python's own or of numpy in an unknown form")
    if any(isinstance(arg, range) for arg in args):
        raise _more("it makes of a few bytes more than came")
    return kind.__new__(kind, *args, **named)


def _is_dtype(made: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(made, numpy.dtype)


def _is_plain(made: Any) -> bool:
    """Whether it is an array without objects."""
    return type(made) is sys.modules["numpy"].ndarray and not made.dtype.hasobject


def _holds_no_objects(dtype: Any) -> bool:
    return _is_dtype(dtype) and not dtype.hasobject


def _sound(dtype: Any) -> bool:
    """Whether numpy, told only its parts, reads memory as this dtype does."""
    numpy = sys.modules["numpy"]
    if dtype.names is not None:
        parts = [dtype.fields[name][:2] for name in dtype.names]
        if not all(_sound(part) and 0 <= at <= dtype.itemsize - part.itemsize for part, at in parts):
            return False
        names, formats, offsets = list(dtype.names), [part for part, _ in parts], [at for _, at in parts]
        told = {"names": names, "formats": formats, "offsets": offsets, "itemsize": dtype.itemsize}
        again = numpy.dtype(told)
    elif dtype.subdtype is not None:
        part, shape = dtype.subdtype
        if not _sound(part):
            return False
        again = numpy.dtype((part, shape))
    else:
        again = numpy.dtype(dtype.str)
    return bool(again.itemsize == dtype.itemsize and again.flags & _FLAGS == dtype.flags & _FLAGS)


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
