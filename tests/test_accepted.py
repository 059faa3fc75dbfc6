"""Which cells of a turn make its result, and what of those that failed: all expectations are written by hand."""

from __future__ import annotations

from typing import Any

import pytest

from lash_nb.accepted import AcceptedCell, accepted_cells, empties, failing_line
from lash_nb.accepted.statements import indented, statements
from lash_nb.machine.execution import CellOutcome, ErrorOutput, StreamOutput
from lash_nb.machine.picture import StepPicture, TurnPicture

TRIED = "    pass  # so it failed when the agent ran it; what it had done by then is used below"


def ok(code: str, language: str = "python") -> StepPicture:
    return StepPicture(code=code, language=language, outcome=CellOutcome.OK)


def ended(code: str, outcome: CellOutcome) -> StepPicture:
    return StepPicture(code=code, outcome=outcome)


def failed(
    code: str, line: int | None, name: str = "KeyError", outcome: CellOutcome = CellOutcome.ERROR
) -> StepPicture:
    """A cell that failed at a line of its own; None: the traceback does not say where."""
    rule = "-" * 75
    head = f"{name}{'Traceback (most recent call last)':>60}"
    frame = "File <string>:1" if line is None else f"Cell In[7], line {line}\n----> {line} whatever stands there"
    error = ErrorOutput(ename=name, evalue="'x'", traceback=(rule, head, frame, f"{name}: 'x'"))
    return StepPicture(code=code, outcome=outcome, outputs=(StreamOutput(name="stdout", head="x"), error))


def wrong_syntax(code: str) -> StepPicture:
    error = ErrorOutput(
        ename="SyntaxError",
        evalue="invalid syntax (288.py, line 2)",
        traceback=("  Cell In[4], line 2\n    x = = 2\n        ^\nSyntaxError: invalid syntax\n",),
    )
    return StepPicture(code=code, outcome=CellOutcome.ERROR, outputs=(error,))


def codes(*steps: StepPicture, needed: tuple[str, ...] = ()) -> list[str]:
    return [one.code for one in accepted_cells(TurnPicture(steps=steps), needed=needed)]


def test_what_ran_is_taken_as_it_is_and_knows_its_step() -> None:
    steps = (StepPicture(), ok("a = 1  # one\n\n"), ok("print(a)"), StepPicture())
    assert accepted_cells(TurnPicture(steps=steps)) == (
        AcceptedCell(code="a = 1  # one\n\n", step=1),
        AcceptedCell(code="print(a)", step=2),
    )


DROPPED: dict[str, StepPicture] = {
    "a syntax error": wrong_syntax("x = 1\nx = = 2"),
    "nothing before it": failed("df['nope']", 1),
    "looks": failed("print(len(df))\ndf.head()\ndf\ndf.info()\ndf.describe().round(2)\ndf['nope']", 6),
    "what is bound again": failed("import json\nx = json.loads('1')\nx['a']", 3),
    "a name that nobody uses": failed("tmp = df.mean()\ntmp['a']", 2),
    "a figure": failed("fig, ax = plt.subplots()\nax.plot(df['a'])\nax.set_title('A')\nplt.title('x')\ndf['b']", 5),
    "a loop that binds nothing of use": failed("for c in df:\n    print(df[c].mean())\n", 2),
    "a file that was only read": failed("with open('a.json') as f:\n    data = json.load(f)\ndata['b']", 3),
    "a library's failing method": failed("df.frobnicate(1)", 1, "AttributeError"),
    "a look by the shell": failed("!ls -l\n%pwd\ndf['nope']", 3),
    "a function that only computes": failed(
        "def twice(d):\n    e = d.copy()\n    e['k'] = 2\n    return e\ntwice(df)", 3
    ),
    "an assertion": failed("n = len(df)\nassert n > 9", 2, "AssertionError"),
    "one that was not run": ended("df['a'] = 1", CellOutcome.ABORTED),
    "one that was interrupted": ended("df['a'] = 1", CellOutcome.INTERRUPTED),
}


@pytest.mark.parametrize("step", DROPPED.values(), ids=DROPPED)
def test_a_dead_attempt_goes_with_all_that_nobody_needs(step: StepPicture) -> None:
    later = "import json\nx = 1\nprint(df, x)"
    assert codes(step, ok(later)) == [later]


def test_a_failed_cell_at_the_end_goes() -> None:
    assert codes(ok("a = 1"), failed("b = a\nb['x']", 2)) == ["a = 1"]
    assert codes(ok("a = 1"), failed("b = a\nb['x']", 2), needed=("b",)) == ["a = 1", "b = a"]


KEPT: dict[str, tuple[str, int, str]] = {
    "what binds": (
        "# read it\ndf = load()\n\nprint(df)\ndf['nope']\ntotal = 1",
        5,
        "# read it\ndf = load()",
    ),
    "what that needs in turn": ("a = 1\nb = 2\ndf = a + 1\nb['x']", 4, "a = 1\ndf = a + 1"),
    "an import": ("import pandas as pd\nimport json\npd.nope()", 3, "import pandas as pd"),
    "a function": ("@cached\ndef f():\n    return 1\nf['x']", 4, "@cached\ndef f():\n    return 1"),
    "a place in it": ("df['a'] = 1\ndf['nope']", 2, "df['a'] = 1"),
    "an attribute of it": ("df.columns = ['a']\ndf['nope']", 2, "df.columns = ['a']"),
    "a change in place": (
        "df.dropna(inplace=True)\nx = df.pop('a')\nx['k']",
        3,
        "df.dropna(inplace=True)\nx = df.pop('a')",
    ),
    "a change of the same by another name": ("d = df\nd['a'] = 1\nd['nope']", 3, "d = df\nd['a'] = 1"),
    "a change in a loop": ("for r in df:\n    r['a'] = 1\ndf['nope']", 3, "for r in df:\n    r['a'] = 1"),
    "an unknown function of it": ("clean(df)\ndf['nope']", 2, "clean(df)"),
    "an unknown method": ("x = df.frobnicate()\nx['k']", 2, "x = df.frobnicate()"),
    "a file": ("open('a', 'w').write('x')\ndf['nope']", 2, "open('a', 'w').write('x')"),
    "a directory": ("import os\nos.makedirs('out')\ndf['nope']", 3, "import os\nos.makedirs('out')"),
    "a seed": ("np.random.seed(0)\ndf['nope']", 2, "np.random.seed(0)"),
    "a setting": (
        "pd.options.display.width = 9\npd.set_option('a', 1)\ndf['nope']",
        3,
        "pd.options.display.width = 9\npd.set_option('a', 1)",
    ),
    "a style": ("plt.style.use('ggplot')\nplt.plot(1)\ndf['nope']", 3, "plt.style.use('ggplot')"),
    "a magic": ("%cd data\n!touch x\ndf['nope']", 3, "%cd data\n!touch x"),
    "a magic of a name": ("df = !ls\ndf['nope']", 2, "df = !ls"),
    "an await": ("df = await fetch()\ndf['nope']", 2, "df = await fetch()"),
    "several in a line": ("df = 1; x = 2\nx['nope']", 2, "df = 1; x = 2"),
    "a global of a function": (
        "def f():\n    global df\n    df = 2\nf()\nf['x']",
        5,
        "def f():\n    global df\n    df = 2\nf()",
    ),
}


@pytest.mark.parametrize(("code", "line", "kept"), KEPT.values(), ids=KEPT)
def test_what_it_had_done_by_then_stays_where_it_is_needed(code: str, line: int, kept: str) -> None:
    later = "print(df, pd, f)"
    assert codes(failed(code, line), ok(later)) == [kept, later]


def test_what_a_later_cell_does_again_is_done_once() -> None:
    attempt = "import os\nos.makedirs('out', exist_ok=True)\ndf.to_csv('out/a.csv')\ndf['nope']"
    again = "import os\nos.makedirs('out', exist_ok=True)\ndf.to_csv('out/a.csv')\ndf['a']"
    assert codes(failed(attempt, 4), ok(again)) == [again]


def test_attempts_need_each_other() -> None:
    first, second = failed("a = 1\na['x']", 2), failed("b = a + 1\nb['x']", 2)
    assert codes(first, second, ok("print(b)")) == ["a = 1", "b = a + 1", "print(b)"]
    assert codes(first, second, ok("a = 2\nprint(a)")) == ["a = 2\nprint(a)"]


def test_what_a_function_reads_is_needed_by_whoever_calls_it() -> None:
    define, call = ok("def f():\n    return g()\n\ng = lambda: limit + 1"), ok("print(f())")
    assert codes(define, failed("limit = 3\nlimit['x']", 2), call) == [define.code, "limit = 3", call.code]


def test_as_it_ran_everything_stays_that_had_run() -> None:
    steps = (wrong_syntax("a = = 1"), failed("import json\nprint(1)\nx['a']\nb = 2", 3), ok("c = 3"))
    assert [one.code for one in accepted_cells(TurnPicture(steps=steps), whole=True)] == [
        f"import json\nprint(1)\ntry:\n    x['a']\nexcept KeyError:\n{TRIED}",
        "c = 3",
    ]


SUPERSEDED: dict[str, tuple[str, str]] = {
    "a name": ("top = 3", "top = 2\nprint(top)"),
    "a name that is shown": ("top = 3\nprint(top)\ntop", "top = 2"),
    "a value that was refused": ("top = 3\nfinish(top)", "top = 2\nfinish(top)"),
    "an import that is made again": ("import json\ntext = json.dumps(1)", "import json\ntext = json.dumps(2)"),
    "a function": ("def f(x):\n    return x", "def f(x):\n    return x + 1\nprint(f(1))"),
    "a file that was read": ("with open('a') as f:\n    d = f.read()", "with open('a') as f:\n    d = f.readline()"),
    "a loop": (
        "n = 0\nfor r in rows:\n    n += r",
        "n = 1\nfor r in rows:\n    n += r",
    ),
}


@pytest.mark.parametrize(("code", "again"), SUPERSEDED.values(), ids=SUPERSEDED)
def test_a_try_goes_when_all_that_it_bound_is_bound_again(code: str, again: str) -> None:
    assert codes(ok("a = 1"), ok(code), ok(again), ok("print(a)")) == ["a = 1", again, "print(a)"]
    steps = TurnPicture(steps=(ok(code), ok(again)))
    assert [one.code for one in accepted_cells(steps, whole=True)] == [code, again]


def test_of_three_tries_the_last_one_stays() -> None:
    assert codes(ok("x = 1\nfinish(x)"), ok("x = 2\nfinish(x)"), ok("x = 3\nfinish(x)")) == ["x = 3\nfinish(x)"]


def test_of_a_try_the_imports_stay_that_are_not_made_again() -> None:
    first, second = (
        "from heapq import nlargest\nimport json\ntop = nlargest(3, rows)",
        "import json\ntop = nlargest(2, rows)",
    )
    assert accepted_cells(TurnPicture(steps=(ok(first), ok(second)))) == (
        AcceptedCell(code="from heapq import nlargest", step=0, part=True),
        AcceptedCell(code=second, step=1),
    )


STAYS: dict[str, tuple[str, ...]] = {
    "it is read": ("top = 3", "low = top - 1\ntop = 2"),
    "it is read by what binds it": ("top = 3", "top = top - 1"),
    "it may be read by what binds it": ("top = 3", "top = eval('top - 1')"),
    "it is bound again perhaps": ("top = 3", "if rows:\n    top = 2"),
    "a value may have ended the cell before": ("top = 3", "if rows:\n    finish(1)\ntop = 2", "print(top)"),
    "a function may have ended it": ("def end():\n    finish(1)\n", "top = 3", "end()\ntop = 2", "print(top)"),
    "a part of it is not bound again": ("top, low = 3, 1", "top = 2"),
    "it changed something": ("top = 3\nrows.append(top)", "top = 2"),
    "it changed something by another name": ("mine = rows\nmine.append(3)", "mine = 2"),
    "it wrote a file": ("top = 3\nopen('a', 'w').write('3')", "top = 2"),
    "it ran a command": ("top = 3\n!touch a", "top = 2"),
    "a function reads it": ("def f():\n    return top", "top = 3", "low = f()", "top = 2"),
    "a function of a value reads it": (
        "class K:\n    def go(self):\n        return top\n\nk = K()",
        "top = 3",
        "low = k.go()",
        "top = 2",
    ),
    "a loop leaves what is read": ("for r in rows:\n    pass", "for r in rows:\n    pass\nprint(r)", "r"),
    "a look": ("print(rows)", "top = 2"),
    "the last": ("top = 3",),
}


@pytest.mark.parametrize("cells", STAYS.values(), ids=STAYS)
def test_what_ran_stays_where_it_may_matter(cells: tuple[str, ...]) -> None:
    assert codes(*map(ok, cells)) == list(cells)


def test_whether_a_turn_emptied_the_kernel() -> None:
    assert not empties(TurnPicture(steps=(ok("a = 1"), failed("a['x']", 1))))
    assert empties(TurnPicture(steps=(ok("a = 1"), ended("b", CellOutcome.DEAD), ok("c"))))


TRIED_OUT: dict[str, tuple[StepPicture, str]] = {
    "a loop": (
        failed("n = 2\nfor c in cols:\n    df[c] = df[c] / n\nprint(1)", 3),
        f"n = 2\ntry:\n    for c in cols:\n        df[c] = df[c] / n\nexcept KeyError:\n{TRIED}",
    ),
    "an exception of a library": (
        failed("for c in cols:\n    df[c] = parse(c)\n", 2, "ParserError"),
        f"try:\n    for c in cols:\n        df[c] = parse(c)\nexcept Exception:\n{TRIED}",
    ),
    "a function of the turn": (
        failed("def fix(d):\n    d['a'] = 1\n    d['nope']\nfix(df)", 4),
        f"def fix(d):\n    d['a'] = 1\n    d['nope']\ntry:\n    fix(df)\nexcept KeyError:\n{TRIED}",
    ),
    "a comprehension": (
        failed("[df.append(int(x)) for x in xs]", 1, "ValueError"),
        f"try:\n    [df.append(int(x)) for x in xs]\nexcept ValueError:\n{TRIED}",
    ),
    "nobody knows where": (
        failed("df['a'] = 1\ndf['b']", None),
        f"try:\n    df['a'] = 1\n    df['b']\nexcept KeyError:\n{TRIED}",
    ),
    "a text of several lines": (
        failed('for c in cols:\n    df[c] = """a\nb\n  c"""\n    df[c][9]', 5, "IndexError"),
        f'try:\n    for c in cols:\n        df[c] = """a\nb\n  c"""\n        df[c][9]\nexcept IndexError:\n{TRIED}',
    ),
    "a cell that is timed": (
        failed("%%time\ndf['a'] = 1\ndf['b']", 1),
        f"try:\n    get_ipython().run_cell_magic('time', '', \"df['a'] = 1\\ndf['b']\\n\")\nexcept KeyError:\n{TRIED}",
    ),
}


@pytest.mark.parametrize(("step", "kept"), TRIED_OUT.values(), ids=TRIED_OUT)
def test_what_may_have_run_in_part_is_tried_again(step: StepPicture, kept: str) -> None:
    assert codes(step, ok("print(df)")) == [kept, "print(df)"]


def test_what_ran_out_of_time_is_not_tried_again() -> None:
    code = "n = 1\nwhile True:\n    df['a'] = n"
    assert codes(failed(code, 3, "KeyboardInterrupt", CellOutcome.TIMEOUT), ok("print(n, df)")) == [
        "n = 1",
        "print(n, df)",
    ]


@pytest.mark.parametrize("outcome", [CellOutcome.DEAD, CellOutcome.LOST])
def test_with_a_kernel_goes_what_was_in_it(outcome: CellOutcome) -> None:
    assert codes(ok("a = 1"), ended("b = a", outcome), ok("a = 2"), ok("print(a)")) == ["a = 2", "print(a)"]


def test_other_languages_are_not_taken() -> None:
    assert codes(ok("a = 1"), ok("a <- 1", "R"), ok("ls", "bash"), ok("a")) == ["a = 1", "a"]
    died = StepPicture(code="x", language="R", outcome=CellOutcome.DEAD)
    assert codes(ok("a = 1"), died, ok("a")) == ["a = 1", "a"]


# ------------------------------------------------------------------------------------------------------- the traceback


def _error(name: str, *traceback: str) -> ErrorOutput:
    return ErrorOutput(ename=name, evalue="", traceback=traceback)


HEAD = "                      Traceback (most recent call last)"
LINES: dict[str, tuple[ErrorOutput, int | None]] = {
    "a function of the same cell": (
        _error(
            "ValueError",
            f"ValueError{HEAD}",
            "Cell In[3], line 5\n----> 5 f(1)",
            "Cell In[3], line 2, in f(a)\n      2 x",
        ),
        5,
    ),
    "while another was handled": (
        _error(
            "KeyError",
            f"ZeroDivisionError{HEAD}",
            "Cell In[3], line 3\n",
            "\nDuring handling of the above exception, another exception occurred:\n",
            f"KeyError{HEAD}",
            "Cell In[3], line 5\n",
        ),
        5,
    ),
    "a cause within a library": (
        _error(
            "KeyError",
            f"KeyError{HEAD}",
            "File ~/x.py:3, in f()",
            "\nThe above …\n",
            f"KeyError{HEAD}",
            "Cell In[3], line 4",
        ),
        4,
    ),
    "a message that looks like one": (
        _error("E", f"E{HEAD}", "Cell In[3], line 2\n----> 2 raise E", "E: Cell In[1], line 9"),
        2,
    ),
    "an older IPython": (_error("E", f"E{HEAD}", "Input In [3], in <cell line: 4>()\n      1 a"), 4),
    "a syntax error when it ran": (_error("SyntaxError", "  Cell In[3], line 2\n    return 1\n    ^\n"), 2),
    "no frame of the cell": (_error("E", f"E{HEAD}", "File <string>:1"), None),
    "nothing": (_error("E"), None),
}


@pytest.mark.parametrize(("error", "line"), LINES.values(), ids=LINES)
def test_the_line_at_which_a_cell_failed(error: ErrorOutput, line: int | None) -> None:
    assert failing_line(error) == line


# ------------------------------------------------------------------------------------------------------- the statements


def sources(code: str) -> list[str]:
    return [one.source for one in statements(code) or ()]


PARTS: dict[str, tuple[str, list[str]]] = {
    "comments": (
        "# a\na = 1  # one\n\n# b\nb = (\n    2,  # two\n)\n# end\n",
        ["# a\na = 1  # one", "\n# b\nb = (\n    2,  # two\n)\n# end"],
    ),
    "one line": ("a = 1; b = 2\nc = 3", ["a = 1; b = 2", "c = 3"]),
    "a decorator": ("a = 1\n@x\n@y\ndef f(): ...", ["a = 1", "@x\n@y\ndef f(): ..."]),
    "blank lines above": ("\n\na = 1\n!ls\n", ["a = 1", "!ls"]),
    "an indented cell": ("    a = 1\n    %time b = 2", ["a = 1", "%time b = 2"]),
    "a cell magic": ("%%time\na = 1\nb = 2\n", ["%%time\na = 1\nb = 2"]),
    "help": ("a?\nb = 1", ["a?", "b = 1"]),
    "a shell command of two lines": ("!echo a \\\n  b\nc = 1", ["get_ipython().system('echo a    b')", "c = 1"]),
    "nothing": ("# a\n", []),
    "no Python": ("a = = 1", []),
}


@pytest.mark.parametrize(("code", "parts"), PARTS.values(), ids=PARTS)
def test_a_cell_as_its_statements(code: str, parts: list[str]) -> None:
    assert sources(code) == parts


def test_what_is_in_strings_is_not_indented() -> None:
    code = 'a = """x\n  y\nz"""\nb = f"""{a}\nw"""\n\nif a:\n    b'
    assert indented(code) == '    a = """x\n  y\nz"""\n    b = f"""{a}\nw"""\n\n    if a:\n        b'
    before: dict[str, Any] = {}
    after: dict[str, Any] = {}
    exec(code, before)
    exec(f"if True:\n{indented(code)}", after)
    assert (before["a"], before["b"]) == (after["a"], after["b"])
