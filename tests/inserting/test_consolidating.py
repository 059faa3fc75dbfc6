"""A turn's code as ordinary cells: what is taken, in which order, and how it reads. Written by hand."""

from __future__ import annotations

import pytest

from lash_nb.accepted import AcceptedCell
from lash_nb.inserting.consolidating import Consolidated, Way, consolidated, lacking
from lash_nb.inserting.finishes import FINISH, Shown


def cells(*codes: str) -> list[AcceptedCell]:
    return [AcceptedCell(code=code, step=step) for step, code in enumerate(codes)]


def made(
    *own: str,
    earlier: tuple[tuple[str, ...], ...] = (),
    names: tuple[str, ...] = (),
    finished: bool = False,
    way: Way = Way.SLICED,
) -> Consolidated:
    return consolidated([cells(*turn) for turn in earlier], cells(*own), names=names, finished=finished, way=way)


# ------------------------------------------------------------------------------------------------------------- imports

IMPORTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "one cell": (
        ("import json\n# the data\nx = 1\n\nimport os\nprint(os.getcwd())",),
        ("import json\nimport os\n\n# the data\nx = 1\nprint(os.getcwd())",),
    ),
    "several cells, each import once": (
        ("import pandas as pd\ndf = pd.DataFrame()", "import pandas as pd\nimport numpy as np\nnp.mean(df)"),
        ("import pandas as pd\nimport numpy as np", "df = pd.DataFrame()", "np.mean(df)"),
    ),
    "a cell of imports": (
        ("import json", "import os\nprint(json, os)", "1"),
        ("import json\nimport os", "print(json, os)", "1"),
    ),
    "a part of one is there": (
        ("from a import b, c\nb", "from a import c, d as e\nimport x, y\nc", "import y, z\nz"),
        ("from a import b, c\nfrom a import d as e\nimport x, y\nimport z", "b", "c", "z"),
    ),
    "the future first": (
        ("import json", "from __future__ import annotations\njson", "2"),
        ("from __future__ import annotations\nimport json", "json", "2"),
    ),
    "another meaning stays": (
        ("import json\njson", "import orjson as json\njson"),
        ("import json\njson", "import orjson as json\njson"),
    ),
    "a name that is bound otherwise stays": (
        ("date = 3\nprint(date)", "from datetime import date\ndate.today()"),
        ("date = 3\nprint(date)", "from datetime import date\ndate.today()"),
    ),
    "a name that is used before stays": (
        ("print(sum([1]))", "from math import fsum as sum\nsum([1])"),
        ("print(sum([1]))", "from math import fsum as sum\nsum([1])"),
    ),
    "within other code it stays": (
        ("try:\n    import a\nexcept ImportError:\n    a = None", "if a:\n    import b"),
        ("try:\n    import a\nexcept ImportError:\n    a = None", "if a:\n    import b"),
    ),
    "of everything, and beside other code": (
        ("from math import *\nimport os; os.getcwd()\nimport json\njson",),
        ("import json\n\nfrom math import *\nimport os; os.getcwd()\njson",),
    ),
    "what decides on imports": (
        ("import sys\nsys.path.append('lib')\nimport mine\nmine.go()", "!pip install x\nimport x\nx"),
        ("import sys", "sys.path.append('lib')\nimport mine\nmine.go()", "!pip install x\nimport x\nx"),
    ),
    "several lines, and a comment": (
        ("from a import (\n    b,  # why\n    c,\n)\nb", "1"),
        ("from a import (\n    b,  # why\n    c,\n)", "b", "1"),
    ),
    "a part of a module": (
        ("import os.path\nos.path", "import os\nos"),
        ("import os.path\nimport os", "os.path", "os"),
    ),
    "magics and awaits": (
        ("%matplotlib inline\nimport a\n!ls", "%%time\nimport b\nb", "x = await a.b()\ny = !ls\nx?"),
        ("%matplotlib inline\nimport a\n!ls", "%%time\nimport b\nb", "x = await a.b()\ny = !ls\nx?"),
    ),
}


@pytest.mark.parametrize(("own", "expected"), IMPORTS.values(), ids=IMPORTS)
def test_imports_stand_once_and_first(own: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert made(*own).cells == expected


def test_as_it_ran_imports_stay_where_they_are() -> None:
    assert made("import a\na", "import a\nb", way=Way.AS_RUN).cells == ("import a\na", "import a\nb")


# ------------------------------------------------------------------------------------------------------------- finishes

FINISHES: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "the last statement": (
        ("a = 1\n\n# that is it\nfinish(a + 1)  # yes",),
        ("a = 1\n\n# that is it\na + 1  # yes",),
        Shown.LAST,
    ),
    "by keyword": (("finish(value={'a': [1, 2]})",), ("{'a': [1, 2]}",), Shown.LAST),
    "over several lines": (
        ("finish({\n    'ä': 1,\n    'b': 2,\n})",),
        ("{\n    'ä': 1,\n    'b': 2,\n}",),
        Shown.LAST,
    ),
    "brackets that it needs": (("finish(\n    a +\n    b\n)",), ("(a +\n    b)",), Shown.LAST),
    "a walrus": (("finish(n := 3)",), ("(n := 3)",), Shown.LAST),
    "behind a semicolon": (("a = 1; finish(a)",), ("a = 1; a",), Shown.LAST),
    "letters of several bytes": (("ä = 'öö'; finish(ä)",), ("ä = 'öö'; ä",), Shown.LAST),
    "nothing": (("a = 1\nfinish()",), ("a = 1",), Shown.NOT),
    "one that was refused, and looks": (("a = 1\nfinish(a)", "finish(str(a))"), ("a = 1", "str(a)"), Shown.LAST),
    "one that was refused, and does something": (
        ("a = [1]\nfinish(a.pop())", "finish(a)"),
        ("a = [1]\na.pop()", "a"),
        Shown.LAST,
    ),
    "nothing else in the cell": (("a = 1", "finish(a)", "finish([a])"), ("a = 1", "[a]"), Shown.LAST),
    "at the end of branches": (
        ("if a:\n    finish(1)\nelif b:\n    c = 2\n    finish(c)\nelse:\n    finish({'x': 3})",),
        ("if a:\n    display(1)\nelif b:\n    c = 2\n    display(c)\nelse:\n    display({'x': 3})",),
        Shown.DISPLAYED,
    ),
    "at the end of a with": (
        ("with open('a') as f:\n    finish(f.read())",),
        ("with open('a') as f:\n    display(f.read())",),
        Shown.DISPLAYED,
    ),
    "in a loop": (
        ("for a in b:\n    if a:\n        finish(a)\nfinish(0)",),
        (
            FINISH,
            "try:\n    for a in b:\n        if a:\n            finish(a)\n    finish(0)\nexcept Finished:\n    pass",
        ),
        Shown.CAUGHT,
    ),
    "in a function": (
        ("import json\ndef end(x):\n    finish(x)\nend(1)",),
        ("import json", FINISH, "try:\n    def end(x):\n        finish(x)\n    end(1)\nexcept Finished:\n    pass"),
        Shown.CAUGHT,
    ),
    "one of its own": (
        ("def finish(x):\n    return x\nfinish(1)",),
        ("def finish(x):\n    return x\nfinish(1)",),
        Shown.NOT,
    ),
}


@pytest.mark.parametrize(("own", "expected", "shown"), FINISHES.values(), ids=FINISHES)
def test_nothing_of_finish_is_left(own: tuple[str, ...], expected: tuple[str, ...], shown: str) -> None:
    found = made(*own, finished=True)
    assert found.cells == expected
    assert found.shown == shown


# ------------------------------------------------------------------------------------------------------- earlier turns

EARLIER: dict[str, tuple[tuple[tuple[str, ...], ...], str, tuple[str, ...], tuple[str, ...]]] = {
    "nothing is needed": ((("a = 1\nprint(a)",),), "b = 2", (), ("b = 2",)),
    "what binds": ((("a = 1\nc = 3\nprint(a)",),), "b = a", (), ("a = 1", "b = a")),
    "over turns": (
        (("import json\na = json.loads('1')",), ("b = a + 1\nb",), ("c = 9",)),
        "print(b)",
        (),
        ("import json", "a = json.loads('1')", "b = a + 1", "print(b)"),
    ),
    "the notebook has it": ((("a = 1",),), "b = a", ("a",), ("b = a",)),
    "the notebook has what that needs": ((("b = a + 1",),), "b", ("a",), ("b = a + 1", "b")),
    "what is made of what the notebook has": ((("df = df.dropna()",),), "df", ("df",), ("df = df.dropna()", "df")),
    "what is changed": ((("df['a'] = 1\nx = 2",),), "df['a']", ("df",), ("df['a'] = 1", "df['a']")),
    "an import, though the notebook has it": (
        (("import numpy as np\nprint(np)",),),
        "np.pi",
        ("np",),
        ("import numpy as np\n\nnp.pi",),
    ),
    "a function and what it reads": (
        (("limit = 3", "def f(x):\n    return x < limit\nfinish(f(1))"),),
        "f(2)",
        (),
        ("limit = 3", "def f(x):\n    return x < limit", "f(2)"),
    ),
    "bound again": ((("a = 1",),), "a = 2\na", (), ("a = 2\na",)),
}


@pytest.mark.parametrize(("earlier", "own", "names", "expected"), EARLIER.values(), ids=EARLIER)
def test_of_earlier_turns_what_is_needed(
    earlier: tuple[tuple[str, ...], ...], own: str, names: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    assert made(own, earlier=earlier, names=names).cells == expected


def test_what_earlier_turns_bound_and_did_though_the_notebook_has_it() -> None:
    earlier = (("import json\na = 1\nfinish(a)",), ("print(a)\nimport os\nos.makedirs('out')",))
    found = made("b = a", earlier=earlier, names=("a",), way=Way.NEEDED)
    assert found.cells == ("import os", "a = 1", "os.makedirs('out')", "b = a")
    assert found.steps == (None, None, None, 0)


ACTS: dict[str, tuple[str, bool]] = {
    "a file that goes": ("import os\nos.remove('a')", True),
    "a file in a loop": ("import glob, os\nfor p in glob.glob('*'):\n    os.remove(p)", True),
    "a file that is renamed": ("from pathlib import Path\nPath('a').rename('b')", True),
    "a file that is written": ("with open('a', 'a') as f:\n    f.write('x')", True),
    "a command": ("!touch a", True),
    "a function that nobody knows": ("x = book(100)", True),
    "a method that nobody knows": ("x = client.book(100)", True),
    "a module that nobody knows": ("import shop\nx = shop.book(100)", True),
    "a function of its own": ("import os\ndef f(p):\n    os.remove(p)\nf('a')", True),
    "one that is not called": ("import os\ndef f(p):\n    os.remove(p)", False),
    "a seed": ("import random\nrandom.seed(3)", False),
    "a setting": ("import warnings\nwarnings.simplefilter('ignore')\n%matplotlib inline", False),
    "a look": ("print(len(df.head()), df.rename(columns={'a': 'b'}))", False),
    "what is computed": ("import numpy as np\nx = np.mean([1])\nrows.append(x)", False),
}


@pytest.mark.parametrize(("code", "acts"), ACTS.values(), ids=ACTS)
def test_what_may_stay_of_a_cell_when_its_kernel_is_gone(code: str, acts: bool) -> None:
    assert any(made(code).acting) is acts
    found = made("1", earlier=((code,),), way=Way.AS_RUN)
    assert bool(found.acts_before) is acts
    assert any(found.acting) is acts


def test_what_cells_bind() -> None:
    found = made("import json as j\nfrom os import path\nrows = [x for x in ()]\nfor a, b in rows:\n    c = a")
    assert found.bound == ("a", "b", "c", "rows")
    assert found.imported == (("j", "json"), ("path", "os:path"))


def test_all_that_ran_stays_where_it_ran() -> None:
    earlier = (("import json\na = 1\nfinish(a)",), ("print(a)",))
    found = made("import os\nb = 2", earlier=earlier, way=Way.AS_RUN)
    assert found.cells == ("import json\na = 1", "print(a)", "import os\nb = 2")


def test_a_cell_knows_its_step() -> None:
    own = [AcceptedCell(code="import os", step=1), AcceptedCell(code="os", step=4), AcceptedCell(code="1", step=6)]
    assert consolidated([], own, names=(), finished=False).steps == (None, 4, 6)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("tools.search(q='x')", "`tools`"),
        ("try:\n    x = read_output(1)\nexcept ToolError: pass", "`read_output` and `ToolError`"),
        ("import lash_nb", "lash_nb itself"),
        ("name = input('Who? ')", "asks whoever runs it"),
        ("tools = 1\nprint(tools)", ""),
        ("a = 1", ""),
    ],
)
def test_what_cannot_run_in_a_notebook_is_said(code: str, words: str) -> None:
    found = lacking(code)
    assert words in found
    assert bool(found) == bool(words)
