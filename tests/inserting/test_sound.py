"""Programs at random, with failing attempts: what is accepted of them gives the same as all of them gave."""

from __future__ import annotations

import ast
import contextlib
import io
import random
from typing import Any

import pytest

from lash_nb.accepted import accepted_cells
from lash_nb.machine.execution import CellOutcome, ErrorOutput
from lash_nb.machine.picture import StepPicture, TurnPicture

_BEGIN = "a = 1; b = 2; p = [1]; q = [2, 0]; d = {'k': 1}; e = {'k': [5]}"
_SIMPLE = (
    *("a = a + 1", "b += a", "a = len(p)", "a, b = b, 7", "b = q.pop() if len(q) > 1 else 0", "a = h(a)", "b = k()"),
    *("p.append(b)", "p = q", "q = list(p)", "q.extend(p[:2])", "p[0] = a", "q = [x + a for x in q]", "q += [a]"),
    *("d['k'] = p", "d['m'] = a", "d.update(z=b)", "del d['k']", "d = dict(e)", "d.setdefault('k', q).append(1)"),
    *("f()", "g(p)", "[p.append(x) for x in (1, 2)]", "k = lambda: b + 1", "print(a, p)", "tmp = q", "tmp.append(b)"),
)
_COMPOUND = (
    "for x in list(q):\n    p.append(6 // x)",
    "if a > 3:\n    p.append(a)\nelse:\n    b = 5",
    "def f():\n    global b\n    p.append(9)\n    b = a",
    "def g(xs):\n    xs.append(b)\n    return 1 // (a - 3)",
    "def h(n):\n    return n + b",
    "try:\n    tmp.append(a)\n    d = dict(d)\nexcept NameError:\n    q.append(4)",
)
_FAILS = ("1 / 0", "a.nope()", "nobody", "p[99]", "d['nope']")


def _cell(chance: random.Random) -> str:
    parts = [chance.choice(_COMPOUND if chance.random() < 0.25 else _SIMPLE) for _ in range(chance.randint(1, 6))]
    if chance.random() < 0.6:
        parts.insert(chance.randint(0, len(parts)), chance.choice(_FAILS))
    return "\n".join(parts)


def _ran(code: str, namespace: dict[str, Any]) -> tuple[StepPicture, str]:
    """A cell run by Python itself: its step, and what it printed."""
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(ast.parse(code), "<cell>", "exec"), namespace)
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != "<cell>":
            trace = trace.tb_next
        assert trace is not None
        name = type(error).__name__
        told = (f"{name}   Traceback (most recent call last)", f"Cell In[3], line {trace.tb_lineno}\n", f"{name}: ")
        failed = ErrorOutput(ename=name, evalue="", traceback=told)
        return StepPicture(code=code, outcome=CellOutcome.ERROR, outputs=(failed,)), printed.getvalue()
    return StepPicture(code=code, outcome=CellOutcome.OK), printed.getvalue()


@pytest.mark.parametrize("seed", range(150))
def test_what_is_accepted_gives_what_all_of_it_gave(seed: int) -> None:
    chance = random.Random(seed)
    shown = f"print({', '.join(chance.sample(['a', 'b', 'p', 'q', 'd', 'e'], 3))})"
    namespace: dict[str, Any] = {}
    exec(_BEGIN, namespace)
    ran = [_ran(code, namespace) for code in (*(_cell(chance) for _ in range(chance.randint(2, 6))), shown)]
    again: dict[str, Any] = {}
    exec(_BEGIN, again)
    said = ""
    for one in accepted_cells(TurnPicture(steps=tuple(step for step, _ in ran))):
        step, said = _ran(one.code, again)
        assert step.outcome is CellOutcome.OK, one.code
    assert said == ran[-1][1]
