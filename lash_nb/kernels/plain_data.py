"""Which values come back without anybody having asked for their class: data, whose making runs nothing of the sender's.

Decided here: objects of Python's own plain types and of libraries for data, made by their classes or by the private
functions that those libraries pickle them with. Code of the sender (functions, classes of its cells) and anything else
that a pickle can call is refused; `%lash pull` is for that. It keeps what a turn gives back from running unasked here;
like all of approval it stops accidents and honest code, and is no sandbox.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from .inside.unpickling import CannotBeMadeError, Unpickler

__all__ = ["DataUnpickler"]

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
