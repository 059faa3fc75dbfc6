"""Which names of the notebook a cell uses: held against what Python reads when programs run.

The programs are drawn: statements, loops, functions, classes and comprehensions over the names a, b and c, with chance,
exceptions and calls in them. What they read is told by the mapping that they have for their globals.
"""

from __future__ import annotations

import ast
import builtins
import random
import textwrap
from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lash_nb.used_names import used_names


class _Unknown:
    """What a variable of the notebook holds in these programs: anything can be done with it."""

    def __call__(self, *args: object) -> _Unknown:
        for one in args:
            if callable(one) and not isinstance(one, _Unknown):
                one()
        return self

    def __iter__(self) -> Iterator[int]:
        return iter((1, 2))

    def __add__(self, other: object) -> _Unknown:
        return self

    __radd__ = __getitem__ = __iadd__ = __add__

    def __setitem__(self, key: object, value: object) -> None:
        """Takes anything."""


class _Globals(dict[str, Any]):
    """Globals that note whether the value from before the cell is read: a subclass is asked also by functions."""

    def __init__(self, before: dict[str, object]) -> None:
        super().__init__(before)
        self._before = before
        self.seen: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        value = super().__getitem__(name)
        if name in self._before and self._before[name] is value:
            self.seen.add(name)
        return value


class _Program:
    """Draws programs over the names a, b and c."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def name(self) -> str:
        return self._chance.choice("abc")

    def value(self, depth: int = 2) -> str:
        if depth == 0 or self._chance.random() < 0.3:
            return self._chance.choice([self.name(), "1", "coin()"])
        name, one, other = self.name(), self.value(depth - 1), self.value(depth - 1)
        forms = [f"({one} + {other})", f"call({one})", f"({name} := {one})", f"({one} if coin() else {other})"]
        forms += [
            f"(coin() and {one})",
            f"(coin() or {one} or {other})",
            f"[{one} for {name} in many({other}) if coin()]",
        ]
        forms += [f"call(lambda {name}: {one})", f"call(lambda: {one})", f"list({one} for {name} in many({other}))"]
        forms += [f"call({{{one}: {other}}})", f"f'{{{name}}}'", f"(1 < {one} < {other})", f"({one})[{other}]"]
        return self._chance.choice(forms)

    def block(self, depth: int, *, loop: bool = False, function: bool = False, indent: bool = True) -> str:
        lines = [self._statement(depth, loop, function) for _ in range(self._chance.choice([1, 2, 2, 3]))]
        return textwrap.indent("\n".join(lines), "    " if indent else "")

    def _statement(self, depth: int, loop: bool, function: bool) -> str:
        if depth and self._chance.random() < 0.6:
            return self._definition(depth) if self._chance.random() < 0.3 else self._compound(depth, loop, function)
        name, other, value = self.name(), self.name(), self.value()
        forms = [f"{name} = {value}"] * 3 + [
            value,
            f"{name} += {value}",
            f"del {name}",
            f"{name}, {other} = many({value})",
        ]
        forms += [f"import sys as {name}", f"{name}: {other} = {value}", f"{name}[{value}] = 1", "boom()", "call_all()"]
        forms += ["break", "continue"] if loop else []
        forms += ["return"] if function else []
        return self._chance.choice(forms)

    def _compound(self, depth: int, loop: bool, function: bool) -> str:
        name, other, value = self.name(), self.name(), self.value()
        body, orelse = (self.block(depth - 1, loop=loop, function=function) for _ in range(2))
        looped = self.block(depth - 1, loop=True, function=function)
        case = f"match many({value}):\n    case [{name}, *_] if coin():\n{textwrap.indent(body, '    ')}"
        forms = [
            f"if {value}:\n{body}\nelse:\n{orelse}",
            f"if coin():\n{body}\nelif {value}:\n{orelse}",
            f"for {name} in many({value}):\n{looped}\nelse:\n{orelse}",
            f"for {name} in [1]:\n{looped}",
            f"while coin():\n{looped}\nelse:\n{orelse}",
            f"while True:\n    coin()\n{looped}\n    if coin(): break",
            f"try:\n{body}\nexcept Exception as {name}:\n{orelse}",
            f"try:\n{body}\nexcept E:\n{orelse}\nelse:\n    {name} = 1\nfinally:\n    call({other})",
            f"try:\n{body}\nfinally:\n{self.block(depth - 1)}",  # a jump would hold up what ends a program
            f"with hush() as {name}:\n{body}",
            f"{case}\n    case {other}:\n        {value}",
        ]
        return self._chance.choice(forms)

    def _definition(self, depth: int) -> str:
        name, other, value = self.name(), self.name(), self.value()
        body = self._chance.choice(["", "", f"    global {name}\n"]) + self.block(depth - 1, function=True)
        forms = [
            f"def {name}():\n{body}\n{value}",
            f"def {name}():\n{body}\nkeep({name})",
            f"@call\ndef {name}():\n{body}",
            f"def {name}(z={value}):\n    {other} = z\n{body}",
            f"class {name}:\n{self.block(depth - 1)}",
            f"class {name}:\n    global {other}\n{self.block(depth - 1)}",
        ]
        return self._chance.choice(forms)


class _Hush:
    def __enter__(self) -> int:
        return 1

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        return kind is not KeyboardInterrupt


class _World:
    """What the programs call: chance, exceptions, and whatever else calls what they defined."""

    def __init__(self, chance: random.Random) -> None:
        self._chance, self._kept, self._steps = chance, list[Any](), 0

    def names(self) -> dict[str, object]:
        return {
            **vars(builtins),
            **{"coin": self.coin, "boom": self.boom, "call": self.call, "many": self.many, "hush": _Hush},
            **{"keep": self._kept.append, "call_all": self.call_all, "E": ValueError},
        }

    def _step(self) -> None:
        self._steps += 1
        if self._steps > 200:
            raise KeyboardInterrupt

    def coin(self) -> bool:
        self._step()
        return self._chance.random() < 0.5

    def boom(self) -> None:
        if self.coin():
            raise self._chance.choice([ValueError, KeyError])

    def many(self, value: object) -> list[object]:
        return [value, _Unknown()][: self._chance.choice([0, 2, 2])]

    def call(self, value: object, *_: object) -> object:
        self._step()
        if callable(value) and self.coin():
            try:
                value()
            except (TypeError, RecursionError):
                return value
        return value

    def call_all(self) -> None:
        for value in [*self._kept]:
            self.call(value)


@settings(max_examples=300)
@given(st.integers(0, 2**64))
def test_what_a_program_reads_from_before_it_is_among_the_used(seed: int) -> None:
    code = _Program(random.Random(seed)).block(3, indent=False)
    try:
        compiled = compile(code, "cell", "exec")
    except SyntaxError:
        ast.parse(code)  # only the compiler may object: a name is bound before its `global`, a walrus binds a target
        return
    told = used_names(code)
    for turn in range(6):
        world = _World(random.Random(seed + turn))
        run = _Globals({**dict.fromkeys("abc"), "a": _Unknown(), "b": _Unknown(), "c": _Unknown()})
        run["__builtins__"] = world.names()
        run["__name__"] = "cell"
        try:
            exec(compiled, run)
            world.call_all()
        except (Exception, KeyboardInterrupt):
            pass  # what was read until then was read
        assert run.seen <= told, f"{run.seen - told} is read from before:\n{code}"
