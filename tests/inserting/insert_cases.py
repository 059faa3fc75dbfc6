"""Scripted turns of many kinds, for `%lash insert`: the cells that the agent runs, and what the inserted ones give."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CASES", "Case"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One session; the last of its turns is inserted."""

    turns: tuple[tuple[str, ...], ...]
    """Of each turn the model's cells; an answer in words ends it, when none of them finishes it."""
    shows: str
    """What the inserted cells show last, as text."""
    value: bool = False
    """Whether that is the turn's value."""
    variables: str = ""
    """The notebook's own, as code."""
    has: tuple[str, ...] = ()
    """What must be in the inserted code."""
    lacks: tuple[str, ...] = ()
    """What must not."""
    count: int | None = None
    """How many cells it is."""


_SALES = "import pandas as pd\nsales = pd.DataFrame({'region': ['N', 'S', 'N'], 'units': [2, 3, 5]})"

CASES: dict[str, Case] = {
    "one cell": Case(turns=(("print(1 + 1)",),), shows="2", count=1),
    "a value": Case(turns=(("a = [1, 2]", "finish(sum(a))"),), shows="3", value=True, lacks=("finish",)),
    "a value of words and lists": Case(
        turns=(("d = {'b': [1, 2.5], 'a': None}\nfinish(d)",),), shows="{'b': [1, 2.5], 'a': None}", value=True, count=1
    ),
    "a dead attempt": Case(
        turns=(("rows = [1, 2]\nprint(rows)", "print(rows.total())", "print(sum(rows))"),),
        shows="3",
        lacks=("total()",),
        count=2,
    ),
    "an attempt whose beginning is needed": Case(
        turns=(("base = 10\nprint('looking')\nbase.nope", "print(base + 1)"),),
        shows="11",
        has=("base = 10",),
        lacks=("looking", "nope"),
    ),
    "an attempt that changed something": Case(
        turns=(("rows = [3]", "rows.append(4)\nrows.total()", "print(rows)"),),
        shows="[3, 4]",
        has=("rows.append(4)",),
        lacks=("total()",),
    ),
    "a loop that failed in its middle": Case(
        turns=(("done = []", "for x in [1, 2, 0, 4]:\n    done.append(8 // x)", "print(done)"),),
        shows="[8, 4]",
        has=("except ZeroDivisionError",),
    ),
    "a syntax error": Case(turns=(("x = = 1", "x = 1\nprint(x)"),), shows="1", lacks=("= =",), count=1),
    "scattered imports": Case(
        turns=(
            (
                "import json\nx = json.loads('[1, 2]')",
                "import math\nimport json\nfrom statistics import mean",
                "import math\nfinish([mean(x), math.floor(2.5), json.dumps(x)])",
            ),
        ),
        shows="[1.5, 2, '[1, 2]']",
        value=True,
        count=3,
    ),
    "helper functions": Case(
        turns=(
            (
                "def square(x):\n    # of a number\n    return x * x",
                "def total(xs):\n    return sum(square(x) for x in xs)",
                "print(total([1, 2, 3]))",
            ),
        ),
        shows="14",
        has=("    # of a number",),
    ),
    "a class and a dataclass": Case(
        turns=(
            (
                "from dataclasses import dataclass\n\n@dataclass\nclass P:\n    x: int\n\np = P(3)",
                "print(p)",
            ),
        ),
        shows="P(x=3)",
    ),
    "of an earlier turn": Case(
        turns=(
            ("import json\nnoise = 1\ndata = json.loads('{\"a\": 5}')\nprint(noise)",),
            ("unrelated = 2",),
            ("finish(data['a'] * 2)",),
        ),
        shows="10",
        value=True,
        lacks=("noise", "unrelated"),
    ),
    "over three turns": Case(
        turns=(("limit = 3",), ("def below(x):\n    return x < limit",), ("print([below(x) for x in (1, 5)])",)),
        shows="[True, False]",
        has=("limit = 3",),
    ),
    "an earlier turn that changed a copy": Case(
        turns=(("sales['price'] = sales.units * 2",), ("print(int(sales.price.sum()))",)),
        variables=_SALES,
        shows="20",
        has=("sales['price'] = sales.units * 2",),
    ),
    "the user's variables": Case(
        turns=(("by = sales.groupby('region').units.sum()", "finish(by.to_dict())"),),
        variables=_SALES,
        shows="{'N': 7, 'S': 3}",
        value=True,
    ),
    "the user's function": Case(
        turns=(("print(twice(4))",),), variables="factor = 2\ndef twice(x):\n    return x * factor", shows="8"
    ),
    "a column that is wrong at first": Case(
        turns=(
            (
                "import pandas as pd\nsales.groupby('area').units.sum()",
                "import pandas as pd\nbest = sales.groupby('region').units.sum().idxmax()\nfinish(best)",
            ),
        ),
        variables=_SALES,
        shows="'N'",
        value=True,
        lacks=("area",),
        count=1,
    ),
    "a frame": Case(
        turns=(("import pandas as pd\ndf = pd.DataFrame({'a': [1, 2]})\ndf",),),
        shows="a\n0  1\n1  2",
        lacks=("finish",),
    ),
    "a plot": Case(
        turns=(
            (
                "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nax.plot(sales.profit)",
                "fig, ax = plt.subplots()\nax.bar(sales.region, sales.units)\nax.set_title('Units')\nplt.show()",
            ),
        ),
        variables=_SALES,
        shows="<Figure size 640x480 with 1 Axes>",
        lacks=("profit",),
        has=("import matplotlib.pyplot as plt",),
    ),
    "magics": Case(
        turns=(("%env GREETING=hello\nout = !echo $GREETING", "print(out[0])"),), shows="hello", has=("!echo",)
    ),
    "a cell that is timed": Case(
        turns=(("%%capture caught\nn = 4\nprint(n)", "print(n, repr(caught.stdout))"),), shows="4 '4\\n'"
    ),
    "an await at the top": Case(
        turns=(("import asyncio\nasync def f(x):\n    return x + 1", "await asyncio.sleep(0)\nprint(await f(1))"),),
        shows="2",
    ),
    "a kernel that died": Case(
        turns=(("x = 1\nimport os\nos._exit(1)", "x = 2", "print(x)"),), shows="2", lacks=("_exit",), count=2
    ),
    "a file that it wrote": Case(
        turns=(
            (
                "from pathlib import Path\nPath('a.json').write_text('[1, 2]')",
                "import json\nfinish(json.loads(Path('a.json').read_text()))",
            ),
        ),
        shows="[1, 2]",
        value=True,
    ),
    "a seed in an attempt": Case(
        turns=(("import random\nrandom.seed(4)\nrandom.nope()", "print(random.randint(1, 10**9))"),),
        shows="253454710",
        has=("random.seed(4)",),
    ),
    "objects that show their place": Case(
        turns=(("class Thing:\n    pass\n\nthing = Thing()", "print(len(repr(thing)) > 9)\nprint('ok')"),),
        shows="True\nok",
    ),
    "a value at the end of a branch": Case(
        turns=(("n = 5\nif n > 3:\n    finish({'n': n})\nelse:\n    finish(0)",),),
        shows="{'n': 5}",
        value=True,
        lacks=("finish",),
    ),
    "a value within a loop": Case(
        turns=(("for n in range(9):\n    if n * n > 20:\n        finish(n)",),),
        shows="5",
        value=True,
        has=("except Finished",),
    ),
    "a text of several lines": Case(
        turns=(('text = """a\n  b\n"""\ntext.nope()', "print(repr(text))"),), shows="'a\\n  b\\n'"
    ),
    "a name that is deleted": Case(turns=(("a = 1\nb = a + 1\ndel a", "print(b)"),), shows="2"),
    "a warning that is silenced": Case(
        turns=(("import warnings\nwarnings.filterwarnings('ignore')\nimport json\nprint(json.dumps(1))",),), shows="1"
    ),
}
