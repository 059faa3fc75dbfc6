"""Which variables go over when, with a real kernel: steps in the notebook and cells of the agent, in turn.

Expectations are written by hand: what goes before each cell, and what the cell then sees.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import pytest_asyncio

from lash_nb.errors import InputError
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome, ResultOutput
from lash_nb.sharing import Sharing, TakesValues


@dataclass(frozen=True)
class Mine:
    """A cell of the notebook; each begins another turn."""

    code: str


@dataclass(frozen=True)
class Theirs:
    """A cell of the agent: what goes before it runs, what its last expression is, what could not go."""

    code: str
    goes: set[str] = field(default_factory=set)
    gives: str | None = None
    keeps: dict[str, str] = field(default_factory=dict)
    """What of the agent's got another name."""
    refused: set[str] = field(default_factory=set)


CASES: dict[str, list[Mine | Theirs]] = {
    # -- what is used goes, once
    "a name that is read": [Mine("x = 20"), Theirs("x + 1", goes={"x"}, gives="21")],
    "and no other": [Mine("x = 1; y = 2"), Theirs("x", goes={"x"}, gives="1")],
    "nothing for a cell that uses nothing": [Mine("x = 1"), Theirs("y = 2; y", gives="2")],
    "once": [Mine("x = [1]"), Theirs("x", goes={"x"}, gives="[1]"), Theirs("x", gives="[1]")],
    "once over turns": [Mine("x = [1]"), Theirs("x", goes={"x"}), Mine("y = 3"), Theirs("x", gives="[1]")],
    "a name that the cell binds first": [Mine("x = 1"), Theirs("x = 5\nx", gives="5")],
    "a name that it may have bound": [Mine("x = 1; c = 0"), Theirs("if c: x = 5\nx", goes={"x", "c"}, gives="1")],
    "a name that it changes": [Mine("x = 1"), Theirs("x += 1\nx", goes={"x"}, gives="2")],
    "a name in an f-string": [Mine("x = 1"), Theirs("f'<{x}>'", goes={"x"}, gives="'<1>'")],
    "a name in a magic": [Mine("x = [1]"), Theirs("%time y = x\ny", goes={"x"}, gives="[1]")],
    "a name in a query": [
        Mine("import pandas as pd; df = pd.DataFrame({'a': [1, 2]}); least = 2"),
        Theirs("df.query('a >= @least').a.tolist()", goes={"df", "least"}, gives="[2]"),
    ],
    "an attribute is no name": [Mine("x = 1; real = 2"), Theirs("x.real", goes={"x"}, gives="1")],
    "a keyword argument is no name": [Mine("end = 1; x = 2"), Theirs("print(x, end='')", goes={"x"})],
    "a key of a dict is no name": [Mine("a = 1; d = {'a': 2}"), Theirs("d['a']", goes={"d"}, gives="2")],
    # -- comprehensions, functions, classes
    "the variable of a comprehension": [Mine("i = 7; xs = [1]"), Theirs("[i for i in xs]", goes={"xs"}, gives="[1]")],
    "a name inside of a comprehension": [Mine("k = 2"), Theirs("[k * i for i in (1, 2)]", goes={"k"}, gives="[2, 4]")],
    "a parameter": [Mine("x = 1"), Theirs("(lambda x: x)(3)", gives="3")],
    "a name that a function reads": [Mine("x = 4"), Theirs("def f():\n    return x\nf()", goes={"x"}, gives="4")],
    "a closure's name": [
        Mine("n = 1"),
        Theirs("def f():\n    n = 2\n    def g():\n        return n\n    return g\nf()()", gives="2"),
    ],
    "a local of a function": [Mine("n = 1"), Theirs("def f():\n    n = 2\n    return n\nf()", gives="2")],
    "a global of a function that sets it": [Mine("n = 1"), 
        Theirs("def f():\n    global n\n    n = 2\nf()\nn", goes={"n"}, gives="2"),
    ],
    "a default value": [Mine("n = 3"), Theirs("def f(a=n):\n    return a\nf()", goes={"n"}, gives="3")],
    "a class of the notebook": [
        Mine("class P:\n    def __init__(self, a): self.a = a\n    def twice(self): return self.a * 2"),
        Theirs("P(2).twice()", goes={"P"}, gives="4"),
    ],
    "an object with its class": [
        Mine("class P:\n    a = 1\np = P()"),
        Theirs("p.a", goes={"p"}, gives="1"),
    ],
    "a function with what it needs": [
        Mine("RATE = 2\ndef inner(v): return v * RATE\ndef outer(v): return inner(v) + 1"),
        Theirs("outer(3)", goes={"outer", "inner", "RATE"}, gives="7"),
    ],
    "a function reads what the agent sets": [
        Mine("RATE = 2\ndef f(v): return v * RATE"),
        Theirs("f(3)", goes={"f", "RATE"}, gives="6"),
        Theirs("RATE = 10\nf(3)", gives="30"),
    ],
    "an import": [Mine("import math as m"), Theirs("m.floor(2.5)", goes={"m"}, gives="2")],
    # -- names of Python's own
    "a builtin that is hidden here": [Mine("len = lambda v: 99"), Theirs("len([1])", goes={"len"}, gives="99")],
    "a builtin that is not": [Mine("x = [1]"), Theirs("len(x)", goes={"x"}, gives="1")],
    "a star import may bind it": [
        Mine("floor = 'mine'"),
        Theirs("from math import *\nfloor(1.5)", goes={"floor"}, gives="1"),
    ],
    # -- changes on either side
    "changed here: it is refreshed": [
        Mine("x = [1]"),
        Theirs("x", goes={"x"}),
        Mine("x = [2]"),
        Theirs("x", goes={"x"}, gives="[2]"),
    ],
    "changed here in place": [
        Mine("x = [1]"),
        Theirs("x", goes={"x"}),
        Mine("x.append(2)"),
        Theirs("x", goes={"x"}, gives="[1, 2]"),
    ],
    "bound anew here to what is equal": [
        Mine("x = [1]"),
        Theirs("x", goes={"x"}),
        Mine("x = [1]"),
        Theirs("x", gives="[1]"),
    ],
    "changed there: it is kept": [
        Mine("x = [1]"),
        Theirs("x.append(9); x", goes={"x"}, gives="[1, 9]"),
        Mine("y = 1"),
        Theirs("x", gives="[1, 9]"),
    ],
    "bound anew there: it is kept": [
        Mine("x = [1]"),
        Theirs("x = sorted(x) + [5]", goes={"x"}),
        Mine("y = 1"),
        Theirs("x", gives="[1, 5]"),
    ],
    "changed on both sides": [
        Mine("x = [1]"),
        Theirs("x.append(9)", goes={"x"}),
        Mine("x = [2]"),
        Theirs("x, x_agent", goes={"x"}, keeps={"x": "x_agent"}, gives="([2], [1, 9])"),
    ],
    "changed on both sides, twice": [
        Mine("x = [1]"),
        Theirs("x.append(9)", goes={"x"}),
        Mine("x = [2]"),
        Theirs("x.append(8)", goes={"x"}, keeps={"x": "x_agent"}),
        Mine("x = [3]"),
        Theirs("x, x_agent, x_agent_2", goes={"x"}, keeps={"x": "x_agent_2"}, gives="([3], [1, 9], [2, 8])"),
    ],
    "a frame that both changed": [
        Mine("import pandas as pd; df = pd.DataFrame({'a': [1]})"),
        Theirs("df['b'] = 2", goes={"df"}),
        Mine("df['c'] = 3"),
        Theirs("list(df), list(df_agent)", goes={"df"}, keeps={"df": "df_agent"}, gives="(['a', 'c'], ['a', 'b'])"),
    ],
    "the agent's own name is the agent's": [
        Mine("own = 'mine'"),
        Theirs("own = 'theirs'"),
        Theirs("own", gives="'theirs'"),
        Mine("y = 1"),
        Theirs("own", gives="'theirs'"),
    ],
    "until ours is bound anew": [
        Mine("anew = ['mine']"),
        Theirs("anew = ['theirs']"),
        Theirs("anew", gives="['theirs']"),
        Mine("anew = ['new']"),
        Theirs("anew, anew_agent", goes={"anew"}, keeps={"anew": "anew_agent"}, gives="(['new'], ['theirs'])"),
    ],
    "the agent's own name, ours changed in place": [
        Mine("placed = ['mine']"),
        Theirs("placed = ['theirs']"),
        Theirs("placed", gives="['theirs']"),
        Mine("placed.append(1)"),
        Theirs("placed", goes={"placed"}, keeps={"placed": "placed_agent"}, gives="['mine', 1]"),
    ],
    "what the agent's own function reads": [
        Mine("def helper(v): return 'old'"),
        Theirs("def clean(v):\n    return helper(v)\nclean(1)", goes={"helper"}, gives="'old'"),
        Mine("def helper(v): return 'new'"),
        Theirs("clean(1)", goes={"helper"}, gives="'new'"),
    ],
    # -- names come and go
    "deleted here": [Mine("x = 1"), Theirs("x", goes={"x"}), Mine("del x"), Theirs("x", gives="1")],
    "deleted there, and used again": [
        Mine("x = 1"),
        Theirs("del x", goes={"x"}),
        Theirs("x", goes={"x"}, gives="1"),
    ],
    "renamed here": [
        Mine("x = [1]"),
        Theirs("x", goes={"x"}),
        Mine("y = x; del x"),
        Theirs("y", goes={"y"}, gives="[1]"),
    ],
    "renamed there": [Mine("x = [1]"), Theirs("y = x; del x", goes={"x"}), Theirs("y", gives="[1]")],
    "defined later": [Mine("a = 1"), Theirs("b = 2"), Mine("x = 3"), Theirs("x", goes={"x"}, gives="3")],
    "two names of one thing": [
        Mine("x = []; y = x"),
        Theirs("x.append(1); y", goes={"x", "y"}, gives="[1]"),
    ],
    "what the agent does stays there": [
        Mine("x = [1]"),
        Theirs("x.clear(); x", goes={"x"}, gives="[]"),
        Mine("assert x == [1]"),
    ],
    # -- what cannot go
    "a generator that is not used": [Mine("g = (i for i in range(3))"), Theirs("1", gives="1")],
    "a generator that is used": [
        Mine("g = (i for i in range(3)); x = 1"),
        Theirs("try:\n    g\nexcept NameError:\n    pass\nx", goes={"x"}, refused={"g"}, gives="1"),
        Mine("assert list(g) == [0, 1, 2]"),
    ],
    "what IPython keeps": [Mine("Out = {1: 2}; _ = 3; _i1 = 'x'"), Theirs("type(Out).__name__", gives="'dict'")],
    "a private name of the user's": [Mine("_rate = 2"), Theirs("_rate", goes={"_rate"}, gives="2")],
}  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def kernel() -> AsyncIterator[ManagedKernel]:
    kernel = ManagedKernel()
    await kernel.start()
    yield kernel
    await kernel.shutdown()


async def result_of(kernel: ManagedKernel, code: str) -> str | None:
    result = await kernel.run("", code)
    assert result.outcome is CellOutcome.OK, result
    texts = [output.data["text/plain"] for output in result.outputs if isinstance(output, ResultOutput)]
    return str(texts[-1]) if texts else None


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", CASES, ids=lambda name: name.replace(" ", "-"))
async def test_what_goes_when(kernel: ManagedKernel, case: str) -> None:
    await kernel.run("", "%reset -f")
    assert isinstance(kernel, TakesValues)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    sharing = Sharing(namespace)
    for step in CASES[case]:
        if isinstance(step, Mine):
            exec(step.code, namespace)
            sharing.begin_turn()
            continue
        shared = await sharing.for_cell(step.code, kernel)
        went = {one.name for one in shared.shared} if shared is not None else set()
        kept = {one.name: one.before for one in shared.shared if one.before} if shared is not None else {}
        refused = {one.name for one in shared.refused} if shared is not None else set()
        assert (went, kept, refused) == (step.goes, step.keeps, step.refused), step
        if step.gives is not None:
            assert await result_of(kernel, step.code) == step.gives, step
        else:
            await kernel.run("", step.code)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_hidden_is_neither_described_nor_sent(kernel: ManagedKernel) -> None:
    await kernel.run("", "%reset -f")
    sharing = Sharing({"secret_key": 1, "open_key": 2})
    sharing.patterns.append("secret_*")
    assert [variable.name for variable in sharing.describe().variables] == ["open_key"]
    shared = await sharing.for_cell("secret_key, open_key", kernel)
    assert shared is not None
    assert [one.name for one in shared.shared] == ["open_key"]
    with pytest.raises(InputError, match="no variable 'secret_key'"):
        sharing.value("secret_key")


@pytest.mark.asyncio(loop_scope="module")
async def test_what_is_pushed_by_name_goes_whatever_the_agent_has(kernel: ManagedKernel) -> None:
    await kernel.run("", "%reset -f")
    await kernel.run("", "x = 'theirs'")
    sharing = Sharing({})
    shared = await sharing.push({"x": "mine"}, kernel)
    assert [(one.name, one.before) for one in shared.shared] == [("x", "x_agent")]
    assert await result_of(kernel, "x, x_agent") == "('mine', 'theirs')"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_cannot_go_is_said_once_a_turn(kernel: ManagedKernel) -> None:
    await kernel.run("", "%reset -f")
    sharing = Sharing({"g": (number for number in range(3))})
    first = await sharing.for_cell("g", kernel)
    assert first is not None
    assert [one.name for one in first.refused] == ["g"]
    assert first.refused[0].why
    assert await sharing.for_cell("g", kernel) is None
    sharing.begin_turn()
    again = await sharing.for_cell("g", kernel)
    assert again is not None
    assert [one.name for one in again.refused] == ["g"]


@pytest.mark.asyncio(loop_scope="module")
async def test_what_came_back_and_was_changed_here_goes_over_again(kernel: ManagedKernel) -> None:
    await kernel.run("", "came = [1]")
    namespace: dict[str, Any] = {"came": await kernel.value("came")}
    sharing = Sharing(namespace)
    await sharing.came("came", kernel.epoch)
    assert await sharing.for_cell("came", kernel) is None
    namespace["came"].append(2)
    sharing.begin_turn()
    shared = await sharing.for_cell("came", kernel)
    assert shared is not None
    assert [(one.name, one.before) for one in shared.shared] == [("came", "")]
    assert await result_of(kernel, "came") == "[1, 2]"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_came_back_and_was_changed_on_both_sides_is_there_twice(kernel: ManagedKernel) -> None:
    await kernel.run("", "both = [1]")
    namespace: dict[str, Any] = {"both": await kernel.value("both")}
    sharing = Sharing(namespace)
    await sharing.came("both", kernel.epoch)
    await kernel.run("", "both.append('theirs')")
    namespace["both"].append("mine")
    sharing.begin_turn()
    shared = await sharing.for_cell("both", kernel)
    assert shared is not None
    assert [(one.name, one.before) for one in shared.shared] == [("both", "both_agent")]
    assert await result_of(kernel, "both, both_agent") == "([1, 'mine'], [1, 'theirs'])"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_does_not_end_being_looked_at_is_said_and_the_others_go(kernel: ManagedKernel) -> None:
    class Slow:
        def __reduce__(self) -> Any:
            time.sleep(3)
            return (int, ())

    await kernel.run("", "slow = 'theirs'")
    sharing = Sharing({"slow": Slow(), "quick": 1}, look_s=0.3)
    shared = await sharing.for_cell("slow, quick", kernel)
    assert shared is not None
    assert [one.name for one in shared.shared] == ["quick"]
    assert [one.name for one in shared.refused] == ["slow"]
    assert await sharing.for_cell("slow, quick", kernel) is None, "it is said once"


@pytest.mark.asyncio(loop_scope="module")
async def test_what_was_fetched_and_is_as_it_was_is_not_kept_beside_what_is_pushed(kernel: ManagedKernel) -> None:
    await kernel.run("", "back = [1]")
    namespace: dict[str, Any] = {"back": await kernel.value("back")}
    sharing = Sharing(namespace)
    await sharing.came("back", kernel.epoch)
    shared = await sharing.push(namespace, kernel)
    assert [(one.name, one.before) for one in shared.shared] == [("back", "")]
