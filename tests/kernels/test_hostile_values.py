"""Values that would do something when they are looked at: nothing is forced, nothing waits, nothing floods."""

from __future__ import annotations

import collections
import dataclasses
import enum
import functools
import itertools
import types
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lash_nb.kernels.inside.describer import Describer

from .descriptions import described

LOG: list[str] = []
"""What was called of the classes below."""
WORDS = """
abs add and array array_interface await bool bytes call ceil complex contains delattr delitem dir divmod enter eq exit
float floor format fspath ge get getattr getattribute getitem getstate gt hash index instancecheck int invert iter le
len length_hint lt missing mod mul ne neg next or pos pow reduce reduce_ex repr reversed round rshift sizeof str sub
subclasscheck trunc xor
"""
DUNDERS = WORDS.split()


def recorded(name: str) -> Callable[..., Any]:
    def method(*args: Any, **kwargs: Any) -> Any:
        LOG.append(name)
        raise RuntimeError(f"{name} was called")

    return method


def said(name: str) -> Any:
    return property(recorded(name))


METHODS = {f"__{name}__": recorded(f"__{name}__") for name in DUNDERS}
ATTRIBUTES = {name: said(name) for name in ("__class__", "__dict__", "shape", "dtype", "columns", "nbytes", "name")}
Meta = type("Meta", (type,), METHODS | {"__name__": said("Meta.__name__"), "__module__": said("Meta.__module__")})
Trap = type.__call__(Meta, "Trap", (), METHODS | ATTRIBUTES | {"__qualname__": "Trap"})
"""Records whatever is asked of it or of its class."""
TrapFrame = types.new_class(
    "DataFrame", (), {}, lambda body: body.update(METHODS | ATTRIBUTES | {"__module__": "pandas"})
)


@pytest.fixture(autouse=True)
def nothing_called() -> Iterator[None]:
    LOG.clear()
    yield
    LOG.clear()


def trap() -> Any:
    return object.__new__(Trap)


@dataclasses.dataclass(eq=False)
class Holder:
    one: Any
    two: Any = None


class Kind(enum.Enum):
    TRAP = [trap()]  # noqa: RUF012


class Holding(list[Any]):
    """Shown as a list is."""


def with_default(a: Any = trap()) -> None: ...  # noqa: B008


def annotated(a: Any) -> None: ...


annotated.__annotations__["a"] = trap()


def places() -> dict[str, Any]:
    """Where such an object can lie."""
    cells, array = pd.DataFrame({"a": [None]}, dtype=object), np.empty(2, dtype=object)
    cells._mgr.blocks[0].values[0, 0] = array[0] = trap()  # past every look at it
    wrapper = functools.partial(print)
    wrapped = functools.wraps(print)(lambda: None)
    wrapped.__wrapped__ = trap()
    return {
        "itself": trap(),
        "its class": Trap,
        "list": [trap()],
        "dict": {"k": trap()},
        "tuple": ((trap(),),),
        "deque": collections.deque([trap()]),
        "default": collections.defaultdict(list, k=trap()),
        "derived": Holding([trap()]),
        "field": Holder(trap(), [trap()]),
        "space": types.SimpleNamespace(a=trap()),
        "member": Kind.TRAP,
        "function": with_default,
        "hint": annotated,
        "wrapper": wrapper,
        "wrapped": wrapped,
        "method": types.MethodType(recorded("method"), trap()),
        "error": ValueError(trap()),
        "cell": cells,
        "array": array,
        "proxy": weakref.proxy(Plain()),
        "lie": object.__new__(TrapFrame),
    }


class Plain:
    pass


@pytest.mark.parametrize("previews", ["schema", "sample", "full"])
@pytest.mark.parametrize("place", list(places()))
def test_nothing_is_asked_of_what_may_be_a_proxy(place: str, previews: str) -> None:
    value = places()[place]
    LOG.clear()
    describer = Describer()
    for _ in range(2):
        described(value, previews, describer)
    assert LOG == []


def test_a_lie_about_the_class_is_not_believed() -> None:
    assert described(trap())[:4] == ["x", "Trap", "", "<Trap>"]
    assert described(object.__new__(TrapFrame))[:4] == ["x", "DataFrame", "", "<DataFrame>"]


def test_what_is_lazy_is_not_begun() -> None:
    def counting() -> Iterator[int]:
        LOG.append("a step")
        yield 1

    steps = counting()
    lazy = {
        "generator": steps,
        "mapped": map(recorded("mapped"), [1]),
        "filtered": filter(recorded("filtered"), [1]),
        "chained": itertools.chain(counting()),
        "zipped": zip(counting(), counting(), strict=False),
        "cached": functools.cached_property(recorded("cached")),
    }
    found = Describer().summary(lazy, {}, 10, "full")["variables"]
    assert {name: (kind, preview) for name, kind, _, preview, _, _ in found if name != "cached"} == {
        "chained": ("chain", "<chain>"),
        "filtered": ("filter", "<filter>"),
        "generator": ("generator", "<generator>"),
        "mapped": ("map", "<map>"),
        "zipped": ("zip", "<zip>"),
    }
    assert LOG == []
    assert next(steps) == 1


class Module(types.ModuleType):
    """Loads when it is looked at."""

    def __getattribute__(self, name: str) -> Any:
        LOG.append(name)
        raise RuntimeError


def test_a_lazy_module_is_not_loaded() -> None:
    assert described(Module("lazy"))[:4] == ["x", "module", "lazy", ""]
    assert LOG == []
