"""What cells define goes over and comes back; what must not go is said."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import enum
import multiprocessing
import os.path
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from .sharing_suite import Live, defined, frame, living


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with living() as live:
        yield live


# -- functions and classes ---------------------------------------------------------------------------------------------


def test_functions_use_the_variables_that_are_there(live: Live) -> None:
    cells = defined("RATE = 2\ndef times(n):\n    return n * RATE\ndef twice(n):\n    return times(times(n))")
    live.pushes(**{name: cells[name] for name in ("RATE", "times", "twice")})
    assert live.says("twice(1)") == "4"
    assert live.says("RATE = 10; twice(1)") == "100"
    assert live.says("times.__globals__ is globals()") == "True"
    assert live.says("def times(n): return n + 1\ntwice(1)") == "3"
    assert cells["twice"](1) == 4


def test_a_function_alone_brings_no_variable(live: Live) -> None:
    cells = defined("SECRET = 'x'\ndef reads():\n    return SECRET")
    live.pushes(reads=cells["reads"])
    assert live.says("'SECRET' in globals()") == "False"


CLOSURES = """
def make():
    count = [0]
    def step(by=1, *, to=count):
        count[0] += by
        return count[0]
    step.unit = 'm'
    return step
step = make()
def factorial(n):
    'Of n.'
    return 1 if n < 2 else n * factorial(n - 1)
def outer():
    def even(n): return n == 0 or odd(n - 1)
    def odd(n): return n > 0 and even(n - 1)
    return even
even = outer()
square = lambda n: n * n
def counted(n: int) -> str:
    yield from range(n)
async def later(n):
    return n + 1
"""


def test_closures_defaults_recursion_and_attributes(live: Live) -> None:
    cells = defined(CLOSURES)
    names = ("step", "factorial", "even", "square", "counted", "later")
    live.pushes(**{name: cells[name] for name in names})
    assert live.says("step(), step(2), step.unit, step.__kwdefaults__['to'][0]") == "(1, 3, 'm', 3)"
    assert (
        live.says("factorial(5), factorial.__doc__, even(7), even(8), square(7)") == "(120, 'Of n.', False, True, 49)"
    )
    assert live.says("list(counted(3)), counted.__annotations__['n'], await later(1)") == "([0, 1, 2], int, 2)"
    assert cells["step"]() == 1  # it was a copy
    assert live.says("__builtins__.__name__") == "'builtins'"


def test_what_pickle_would_send_by_its_name(live: Live) -> None:
    cells = defined("""
        import functools, typing
        @functools.lru_cache(maxsize=7)
        def slow(n):
            return n * FACTOR
        FACTOR = 3
        slow(1)
        UserId = typing.NewType('UserId', int)
        T = typing.TypeVar('T')
    """)
    live.pushes(slow=cells["slow"], FACTOR=3, UserId=cells["UserId"], T=cells["T"])
    assert live.says("slow(2), slow.cache_info().currsize, slow.cache_info().maxsize, UserId(4)") == "(6, 1, 7, 4)"
    assert live.says("UserId.__supertype__, UserId.__module__, T.__name__") == "(int, '__main__', 'T')"
    assert cells["slow"].cache_info().currsize == 1


CLASSES = """
import abc, dataclasses, enum, functools, typing
RATE = 3
class Base(abc.ABC):
    made = 0
    def __init__(self, n): self.n = n; Base.made += 1
    @abc.abstractmethod
    def size(self): ...
    @property
    def twice(self): return self.n * 2
    @classmethod
    def of(cls, n): return cls(n)
    @staticmethod
    def plus(a, b): return a + b
class Point(Base):
    __slots__ = ('extra',)
    def size(self): return super().twice * RATE
    @functools.cached_property
    def slow(self): return self.n + 100
    def __eq__(self, other): return isinstance(other, Point) and other.n == self.n
    __hash__ = None
@dataclasses.dataclass(order=True)
class Item:
    name: str
    tags: list = dataclasses.field(default_factory=list)
class Color(enum.Enum):
    RED = 1
    BLUE = 'b'
    def loud(self): return self.name + '!'
class Pair(typing.NamedTuple):
    left: int
    right: str = 'r'
class Kept(dict):
    def __missing__(self, key): return key * 2
class Bad(ValueError):
    def __init__(self, code): super().__init__(code); self.code = code
"""
NAMES = ("RATE", "Base", "Point", "Item", "Color", "Pair", "Kept", "Bad")


def test_classes_and_what_is_made_of_them(live: Live) -> None:
    cells = defined(CLASSES)
    code = "p = Point(4); p.extra = 'e'; item = Item('a', ['t']); red = Color.RED; pair = Pair(1)"
    made = defined(f"{code}; kept = Kept(a=1); bad = Bad(5)", **{name: cells[name] for name in NAMES})
    live.pushes(**{name: cells[name] for name in NAMES})
    live.pushes(**{name: made[name] for name in ("p", "item", "red", "pair", "kept", "bad")})
    assert (
        live.says("type(p) is Point, isinstance(p, Base), p.size(), p.slow, p.extra, p == Point(4)")
        == "(True, True, 24, 104, 'e', True)"
    )
    assert (
        live.says("item == Item('a', ['t']), red is Color.RED, red.loud(), Color('b')")
        == "(True, True, 'RED!', <Color.BLUE: 'b'>)"
    )
    assert (
        live.says("pair._replace(left=2), kept['x'], bad.code, Point.of(1).n, Base.plus(1, 2)")
        == "(Pair(left=2, right='r'), 'xx', 5, 1, 3)"
    )
    came = live.gives("p", "red", "item", "Point")
    assert type(came["p"]) is cells["Point"]
    assert came["Point"] is cells["Point"]
    assert came["red"] is cells["Color"].RED
    assert came["item"] == made["item"]


def test_an_object_brings_its_class(live: Live) -> None:
    cells = defined(
        "class Alone:\n    def __init__(self): self.n = 1\n    def more(self): return self.n + 1\none = Alone()"
    )
    live.pushes(one=cells["one"])
    assert live.says("one.more(), type(one).__name__, 'Alone' in globals()") == "(2, 'Alone', False)"


def test_a_class_of_the_notebook_is_not_changed_by_what_comes_back(live: Live) -> None:
    cells = defined("class Mine:\n    def size(self): return 1\nmine = Mine()")
    live.pushes(Mine=cells["Mine"], mine=cells["mine"])
    before = cells["Mine"].size
    live.does("Mine.size = lambda self: 2\nMine.more = 3")
    came = live.gives("mine", "Mine")
    assert came["mine"].size() == 1
    assert cells["Mine"].size is before
    assert not hasattr(cells["Mine"], "more")


def test_a_class_that_was_changed_here_is_renewed_there(live: Live) -> None:
    cells = defined("class Grows:\n    def size(self): return 1\ngrown = Grows()")
    live.pushes(Grows=cells["Grows"], grown=cells["grown"])
    cells["Grows"].size = lambda self: 2
    live.pushes(Grows=cells["Grows"])
    assert live.says("grown.size(), type(grown) is Grows") == "(2, True)"


def test_modules_go_as_imports(live: Live) -> None:
    live.pushes(module=np, path=os.path, out=sys.stdout)
    assert (
        live.says("import numpy, posixpath, sys; module is numpy, path is posixpath, out is sys.stdout")
        == "(True, True, True)"
    )


# -- what must not go --------------------------------------------------------------------------------------------------


def test_what_does_not_go_is_said_and_the_rest_goes(live: Live, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("some text")
    reader, writer = multiprocessing.Pipe()
    shared: list[int] = [1]
    generator = (n for n in range(3))
    with (
        (tmp_path / "file").open() as text,
        (tmp_path / "file").open("rb") as data,
        socket.socket() as sock,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
        subprocess.Popen(["true"]) as program,
        reader,
        writer,
    ):
        text.read(3)
        pushed = live.run(
            live.kernel.push(
                {
                    "left": [shared], "right": shared, "text": text, "data": [data], "sock": sock, "reader": reader,
                    "generator": generator, "lock": threading.Lock(), "thread": threading.current_thread(),
                    "pool": pool, "program": program, "frame": sys._getframe(), "main": sys.modules["__main__"],
                }
            )
        )  # fmt: skip
        assert text.tell() == 3
    assert next(generator) == 0
    assert set(pushed.sent) == {"left", "right"}
    assert live.says("left[0] is right") == "True"
    assert pushed.failed == {
        "text": "an open file cannot be sent",
        "data": "an open file cannot be sent",
        "sock": "TypeError: cannot pickle 'socket' object",
        "reader": "a connection cannot be sent",
        "generator": "TypeError: cannot pickle 'generator' object",
        "lock": "TypeError: cannot pickle '_thread.lock' object",
        "thread": "a thread cannot be sent",
        "pool": "a pool of workers cannot be sent",
        "program": "a running program cannot be sent",
        "frame": "TypeError: cannot pickle 'frame' object",
        "main": "the module of the cells themselves cannot be sent",
    }


def test_what_raises_when_it_is_pickled(live: Live) -> None:
    cells = defined(
        "class Rude:\n    def __reduce__(self): raise KeyboardInterrupt('no')\nrude = Rude()\n"
        "class Deep:\n    def __reduce__(self): return (list, ([Deep()],))\ndeep = Deep()\n"
    )
    failed = live.refuses(rude=cells["rude"], deep=cells["deep"])
    assert failed["rude"] == "KeyboardInterrupt: no"
    assert "recursion" in failed["deep"]


def test_a_limit(live: Live) -> None:
    values = {
        "small": [1],
        "large": np.zeros(1_000_000),
        "long": ["text" * 10] * 100 + [str(n) for n in range(100_000)],
    }
    pushed = live.run(live.kernel.push(values, most_bytes=500_000))
    assert set(pushed.sent) == {"small"}
    assert pushed.failed == dict.fromkeys(("large", "long"), "it is over the limit of 500,000 bytes")


def test_what_the_kernel_lacks_is_named_and_the_rest_goes(
    live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "only_here.py").write_text("class Thing: pass\nclass Other: pass")
    monkeypatch.syspath_prepend(str(tmp_path))
    only_here: Any = __import__("only_here")
    shared = [1]
    values = {"left": [shared], "thing": only_here.Thing(), "right": shared}
    python = sys.version.split()[0]
    pushed = live.run(live.kernel.push(values))
    assert pushed.failed == {"thing": f"only_here is not installed in the agent's kernel (Python {python})"}
    assert live.says("left[0] is right, 'thing' in globals()") == "(True, False)"
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "only_here.py").write_text("__version__ = '1.0'\nclass Thing: pass")
    live.does(f"import sys; sys.path.insert(0, {str(tmp_path / 'old')!r})")
    only_here.__version__ = "2.0"
    failed = live.refuses(other=only_here.Other(), left=1)
    assert failed == {
        "other": f"only_here has no Other in the agent's kernel (Python {python}): only_here is 1.0 there, 2.0 here"
    }
    live.does("sys.path.pop(0); del sys.modules['only_here']")
    sys.modules.pop("only_here")


def test_what_raises_when_it_is_loaded(live: Live) -> None:
    cells = defined("class Ends:\n    def __reduce__(self): import sys; return sys.exit, (3,)\nends = Ends()")
    python = sys.version.split()[0]
    assert live.refuses(ends=cells["ends"], x=1) == {
        "ends": f"it cannot be loaded in the agent's kernel (Python {python}): SystemExit: 3"
    }
    assert live.says("x, 'ends' in globals()") == "(1, False)"


def test_without_cloudpickle_there_data_goes(live: Live) -> None:
    cells = defined("def f(): return 1")
    live.does("""
        import sys
        hidden = {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith('cloudpickle')}
        sys.modules['cloudpickle'] = None
    """)
    try:
        pushed = live.run(live.kernel.push({"f": cells["f"], "table": frame(), "module": np}))
        assert set(pushed.sent) == {"table", "module"}
        assert pushed.failed["f"].startswith("cloudpickle")
        live.does("def mine(): return 1\nclass Mine: pass\nobj = Mine()\nplain = [1]")
        fetched = live.run(live.kernel.values(["mine", "obj", "plain"]))
        assert fetched.values == {"plain": [1]}
        assert "cloudpickle is needed, which is not installed" in fetched.failed["mine"]
        assert "Mine is defined in a cell" in fetched.failed["obj"]
    finally:
        live.does("del sys.modules['cloudpickle']; sys.modules.update(hidden)")


# -- back --------------------------------------------------------------------------------------------------------------


def test_functions_that_come_use_the_namespace_they_come_to(live: Live) -> None:
    live.does("SCALE = 4; OFFSET = 1\ndef scaled(n): return n * SCALE + OFFSET")
    namespace: dict[str, Any] = {"__name__": "__main__", "OFFSET": 100}
    fetched = live.run(live.kernel.values(["scaled"], namespace=namespace))
    assert set(fetched.values) == {"scaled"}
    assert fetched.values["scaled"](2) == 108
    assert namespace["OFFSET"] == 100
    namespace["SCALE"] = 0
    assert fetched.values["scaled"](2) == 100


def test_some_that_do_not_come(live: Live) -> None:
    live.does("""
        one = [1]
        two = [one]
        gen = (n for n in one)
        class Ends:
            def __reduce__(self): import sys; return sys.exit, (3,)
        ends = Ends()
    """)
    fetched = live.run(live.kernel.values(["one", "two", "gen", "ends", "absent"]))
    assert fetched.values == {"one": [1], "two": [[1]]}
    assert fetched.values["two"][0] is fetched.values["one"]
    assert fetched.failed == {
        "gen": "TypeError: cannot pickle 'generator' object",
        "ends": "SystemExit: 3",
        "absent": "the agent's kernel has no variable 'absent'",
    }


@dataclasses.dataclass
class Imported:
    """Of a module: it goes by its name."""

    n: int
    many: list[int]


class Kind(enum.Enum):
    ONE = 1


def test_what_a_module_defines_goes_by_its_name(live: Live) -> None:
    live.does(f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})")
    came = live.back(one=Imported(1, [2]), kind=Kind.ONE, fails=len)
    assert came == {"one": Imported(1, [2]), "kind": Kind.ONE, "fails": len}
    assert came["kind"] is Kind.ONE
