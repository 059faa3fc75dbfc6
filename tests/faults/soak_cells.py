"""The cells of the soak: what each prints, how it ends when it is left alone, what is done to it, what may come of it.

Every cell first prints the token of its kernel's life and a tag of its own, so that an answer that belongs to another
cell, or to another life, is seen. Everything is drawn from a seed and the number of the cell.
"""

from __future__ import annotations

import itertools
import random
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from lash_nb.machine.execution import CellOutcome, CellResult, StreamOutput

__all__ = ["Act", "Plan", "misfit", "plan"]

_BIG_LINES = 6_000
_SHORT_LIMIT_S = (0.1, 0.4)
_AMPLE_LIMIT_S = 60.0
_LONGEST_DELAY_S = 0.3


class Act(StrEnum):
    """What is done while the cell runs."""

    NOTHING = "nothing"
    INTERRUPT = "interrupt"
    CANCEL = "cancel"
    """Of whoever waits for it: what a session does on Stop."""
    KILL = "kill"
    RESTART = "restart"
    """Or shutdown and start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A kind of cell, for a tag."""

    code: str
    prints: Callable[[str], Iterator[str]] = lambda tag: iter(())
    """The pieces that it prints after its first line; what has no end prints without end."""
    ends: CellOutcome | None = CellOutcome.OK
    """How it ends by itself; None: never."""
    stubborn: bool = False
    """It does not react to an interrupt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One cell and what is done to it."""

    name: str
    tag: str
    code: str
    shape: Shape
    act: Act
    delay_s: float
    limit_s: float | None

    def expected(self, token: str) -> Iterator[str]:
        yield f"begin {token} {self.tag}\n"
        yield from self.shape.prints(self.tag)


def _once(line: str) -> Callable[[str], Iterator[str]]:
    return lambda tag: iter([line.replace("TAG", tag) + "\n"])


def _counted(count: int | None) -> Callable[[str], Iterator[str]]:
    numbers = itertools.count if count is None else lambda: range(count)
    return lambda tag: (f"{tag} {number}\n" for number in numbers())


_SHORT: dict[str, Shape] = {
    "prints": Shape(code="for i in range(200): print('TAG', i)", prints=_counted(200)),
    "computing": Shape(
        code="n = sum(i * i for i in range(20_000))\nprint('TAG', n)", prints=_once("TAG 2666466670000")
    ),
    "await": Shape(
        code="import asyncio\nawait asyncio.gather(*(asyncio.sleep(0.02 * i) for i in range(3)))\nprint('TAG')",
        prints=_once("TAG"),
    ),
    "error": Shape(code="raise ValueError('TAG')", ends=CellOutcome.ERROR),
    "big": Shape(code=f"for i in range({_BIG_LINES}): print('TAG', i)", prints=_counted(_BIG_LINES)),
    "subprocess": Shape(
        code=(
            "import subprocess\n"
            "print(subprocess.run(['sh', '-c', 'echo TAG'], capture_output=True, text=True).stdout.strip())"
        ),
        prints=_once("TAG"),
    ),
    "sleep": Shape(code="import time\ntime.sleep(0.05)\nprint('TAG')", prints=_once("TAG")),
    "thread": Shape(
        code="import threading\nt = threading.Thread(target=print, args=('TAG',))\nt.start()\nt.join()",
        prints=_once("TAG"),
    ),
    "child left": Shape(code="import subprocess\nchild = subprocess.Popen(['sleep', '600'])"),
    "detached child left": Shape(
        code="import subprocess\nfar = subprocess.Popen(['sleep', '600'], start_new_session=True)"
    ),
}
_SHORT_WEIGHTS = (20, 20, 14, 12, 6, 8, 10, 6, 2, 1)
_LONG: dict[str, Shape] = {
    "loop": Shape(code="while True: pass", ends=None),
    "long sleep": Shape(code="import time\ntime.sleep(600)", ends=None),
    "long await": Shape(code="import asyncio\nawait asyncio.sleep(10**6)", ends=None),
    "long gather": Shape(
        code="import asyncio\nawait asyncio.gather(*(asyncio.sleep(10**6) for _ in range(3)))", ends=None
    ),
    "long subprocess": Shape(code="import subprocess\nsubprocess.run(['sleep', '600'])", ends=None),
    "printing": Shape(
        code="import itertools\nfor i in itertools.count(): print('TAG', i)", prints=_counted(None), ends=None
    ),
}
_STUBBORN = Shape(
    code="import time\nwhile True:\n    try: time.sleep(0.01)\n    except BaseException: pass", ends=None, stubborn=True
)
_STUBBORN_SHARE = 0.003
"""Each takes the whole bound of the interrupt, and a new kernel."""
_LIMITED_SHARE = 0.05
_ACTS = {Act.INTERRUPT: 0.23, Act.CANCEL: 0.02, Act.KILL: 0.03, Act.RESTART: 0.02}


def plan(seed: int, number: int) -> Plan:
    """The cell of that number."""
    draw = random.Random(f"{seed} {number}")
    act = draw.choices([*_ACTS, Act.NOTHING], [*_ACTS.values(), 1 - sum(_ACTS.values())])[0]
    limited = draw.random() < _LIMITED_SHARE
    limit_s = draw.uniform(*_SHORT_LIMIT_S) if limited else draw.choice((None, _AMPLE_LIMIT_S))
    if act is Act.NOTHING and draw.random() < _STUBBORN_SHARE:
        name, shape, limit_s = "stubborn", _STUBBORN, draw.uniform(*_SHORT_LIMIT_S)
    elif limited or (act is not Act.NOTHING and draw.random() < 0.7):
        name, shape = draw.choice([*_LONG.items()])
    else:
        name, shape = draw.choices([*_SHORT.items()], _SHORT_WEIGHTS)[0]
    tag = f"t{number}"
    return Plan(
        name=name,
        tag=tag,
        code=f"print('begin', token, '{tag}')\n{textwrap.dedent(shape.code).replace('TAG', tag)}",
        shape=shape,
        act=act,
        delay_s=draw.choice((0.0, draw.uniform(0, 0.03), draw.uniform(0, _LONGEST_DELAY_S))),
        limit_s=limit_s,
    )


def _may_end(plan: Plan) -> set[CellOutcome]:
    outcomes = set() if plan.shape.ends is None else {plan.shape.ends}
    if plan.limit_s is not None and plan.limit_s < _AMPLE_LIMIT_S:
        outcomes.add(CellOutcome.TIMEOUT)
    match plan.act:
        case Act.INTERRUPT:
            outcomes.add(CellOutcome.INTERRUPTED)
        case Act.KILL | Act.RESTART:
            outcomes.add(CellOutcome.DEAD)
        case _:
            pass
    return outcomes


_CUT_TRACEBACK = "\nKeyboardInterrupt\n\n"
"""What IPython says when an interrupt comes while it writes a traceback."""
_TELLS = {Act.KILL: "SIGKILL", Act.RESTART: "The kernel was "}
"""What the sentence about a kernel that died must hold."""


def misfit(plan: Plan, token: str, result: CellResult, whole: Callable[[CellResult], str]) -> str:
    """Why the result cannot be that of the plan; "" when it can. `whole` reads back all that was printed."""
    outcome = result.outcome
    if outcome not in _may_end(plan):
        return f"ended as {outcome}"
    if outcome is plan.shape.ends:
        expected = "".join(plan.expected(token))
        if (text := whole(result)) != expected:
            return f"printed {_ends(text)} instead of {_ends(expected)}"
        noise = "".join(o.head for o in result.outputs if isinstance(o, StreamOutput) and o.name == "stderr")
        if noise and not (outcome is CellOutcome.ERROR and plan.act is not Act.NOTHING and noise == _CUT_TRACEBACK):
            return f"wrote {_ends(noise)} to stderr"
        if outcome is CellOutcome.ERROR and (result.error is None or result.error.evalue != plan.tag):
            return "has another error than the one that it raised"
        if outcome is CellOutcome.OK and (result.error is not None or result.detail):
            return "ended well, but an error or a remark came with it"
        return ""
    head = next((output.head for output in result.outputs if isinstance(output, StreamOutput)), "")
    expected = _start(plan.expected(token), len(head))
    if expected[: len(head)] != head:
        return f"printed {_ends(head)} instead of {_ends(expected)}"
    if outcome is CellOutcome.DEAD and _TELLS[plan.act] not in result.detail:
        return "does not say how its kernel died"
    return "" if result.detail else "does not say how it ended"


def _start(pieces: Iterator[str], length: int) -> str:
    """As many pieces as have that length."""
    taken: list[str] = []
    while length > 0 and (piece := next(pieces, "")):
        taken.append(piece)
        length -= len(piece)
    return "".join(taken)


def _ends(text: str) -> str:
    return repr(text if len(text) < 160 else f"{text[:80]} … {text[-80:]}") + f" ({len(text)} characters)"
