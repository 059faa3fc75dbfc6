"""`lash-nb eject`: what cannot be made plain is said, its code is kept, and nothing gives another result in silence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedKernel
from lash_nb.ejecting import ejected
from lash_nb.ejecting.sources import asks_person, read_cell, uses_us
from lash_nb.stores.closed import ClosedNotebook

from .conversations import cell
from .plain_notebooks import answered, asked, command, last_text, read, run_without_us, sources, texts, write

REPLIES = {1: [cell("a = 1"), "One."], 2: [cell("b = 2"), "Two."], 3: [cell("c = 3"), "Three."]}
STOP = 'raise NotImplementedError("this request cannot be made plain")'
WHY = "(lash_nb is not here)"
ALL = ["> go", "a = 1", "One.", "> go", "b = 2", "Two.", "> go", "c = 3", "Three."]
TAGGED = {"tags": ["raises-exception"]}


@pytest.fixture(autouse=True)
def _no_other_sessions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASH_NB_STATE_DIR", str(tmp_path / "elsewhere"))


def showing(source: str, turns: list[dict[str, Any]]) -> Any:
    """A cell with this source that shows these turns."""
    made = asked("", *turns)
    made.source = source
    return made


async def ejection(place: Path, *cells: tuple[str, int]) -> tuple[tuple[str, ...], tuple[str, ...], Any]:
    """What is left out, the notes, and the plain notebook; of each cell, its source and how many turns it shows."""
    count = sum(many for _, many in cells)
    block = await answered(place / "n.lash", REPLIES, requests=["go"] * count)
    turns = list(block["turns"])
    made = [showing(source, [turns.pop(0) for _ in range(many)]) for source, many in cells]
    path = write(place / "n.ipynb", *made, metadata={"lash_nb": block})
    result = ejected(ClosedNotebook(path))
    out = place / "plain.ipynb"
    out.write_text(result.text, encoding="utf-8")
    return result.left_out, result.notes, read(out, as_version=4)


# ----------------------------------------------------------------------------------------- what cannot be made plain


async def test_a_loop(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The code of all its turns is there, in order; the loop itself fails rather than give something else."""
    loop = "got = []\nfor i in range(3):\n    t = %lash ask go\n    got.append(t.text)\nprint(got)"
    left_out, notes, made = await ejection(tmp_path, (loop, 3), ("print(len(got))", 0))
    said = "cell 1 asks within other code: it cannot be made plain; the code of 3 turns stands before it"
    assert (left_out, notes) == ((said,), ())
    assert f"- {said}" in sources(made)[0]
    rest = f"got = []\nfor i in range(3):\n    {STOP}  # t = %lash ask go {WHY}\n    got.append(t.text)\nprint(got)"
    assert sources(made)[1:] == [*ALL, rest, "print(len(got))"]
    assert made.cells[-2].metadata == TAGGED
    done = run_without_us(tmp_path / "plain.ipynb")
    assert texts(done.cells[-2]) == ["NotImplementedError"]
    assert last_text(done, "print(len") == "0\n"
    assert command("eject", tmp_path / "n.ipynb") == 1
    assert capsys.readouterr().err == f"lash-nb: {said}\n"


async def test_a_function_that_is_called_elsewhere(tmp_path: Path) -> None:
    asking = "def ask():\n    %lash ask go\n    return 1"
    left_out, notes, made = await ejection(tmp_path, (asking, 0), ("print(ask() + ask())", 2), ("x = 1", 0))
    assert left_out == (
        "cell 1 asks within other code: it cannot be made plain",
        "cell 2 shows 2 turns and has no request: it cannot be made plain; the code of 2 turns stands before it",
    )
    assert notes == ()
    assert sources(made)[1:] == [
        f"def ask():\n    {STOP}  # %lash ask go {WHY}\n    return 1",
        *ALL[:6],
        "print(ask() + ask())",
        "x = 1",
    ]
    done = run_without_us(tmp_path / "plain.ipynb")
    assert last_text(done, "print(ask") == "NotImplementedError"


async def test_more_turns_than_requests_in_one_cell(tmp_path: Path) -> None:
    left_out, _, made = await ejection(tmp_path, ("%%timeit -n1 -r3\nt = %lash ask go\nt.text", 3))
    assert left_out == (
        "cell 1 shows 3 turns and has 1 request: it cannot be made plain; the code of 3 turns stands before it",
    )
    # No turn stands for another: what takes one fails.
    assert sources(made)[1:] == [*ALL, f"%%timeit -n1 -r3\n# t = %lash ask go {WHY}\nt.text"]
    assert made.cells[-1].metadata == TAGGED


async def test_as_many_turns_as_requests_are_made_plain(tmp_path: Path) -> None:
    """Also where all of the cell is indented, and where a turn is gone on with in another cell."""
    cells = ("    t = %lash ask go\n    u = %lash ask go\n    print(t.text, u.text)", 2), ("%lash resume --yes", 1)
    left_out, _, made = await ejection(tmp_path, *cells)
    assert left_out == ()
    assert [one for one in sources(made) if one.startswith("# the Turn")] == [
        "# the Turn, for the cells below\nt = Turn(text='One.', code=(\n    'a = 1',\n), value=None, ok=True)",
        "# the Turn, for the cells below\nu = Turn(text='Two.', code=(\n    'b = 2',\n), value=None, ok=True)",
    ]
    assert last_text(run_without_us(tmp_path / "plain.ipynb"), "    pass") == "One. Two.\n"


@pytest.mark.parametrize(
    ("source", "nested"),
    [
        ("%lash ask go", False),
        ("\n  %lash ask go\n  x = 1", False),
        ("%%time\n  %lash ask go", False),
        ("if x:\n    %lash ask go", True),
        ("if x:\n    %lash new\n%lash ask go", False),
        ("with x:\n\tt = %lash ask go", True),
        ("  if x:\n    %lash ask go", True),
        ("%%lash\n    go\n    %lash ask go", False),
        ('x = """\n    %lash ask go\n"""', False),
    ],
)
def test_requests_within_other_code(source: str, nested: bool) -> None:
    assert read_cell(source).nested is nested


# ------------------------------------------------------------------------------------------------------- other means


@pytest.mark.parametrize(
    "source",
    [
        "import lash_nb",
        "import os, lash_nb.models as m",
        "from lash_nb.session import Session",
        "def f():\n    return get_ipython().run_line_magic('lash', q)",
        'ip.run_cell_magic("lash", "-m x", "go")',
        "get_ipython().run_line_magic(line='ask go', magic_name='lash')",
        "ip.magic('lash ask go')",
        "d['t'] = %lash ask go",
        "a.b = %lash ask go",
        "get_ipython().run_line_magic('load_ext', 'lash_nb')",
        "ip.extension_manager.load_extension('lash_nb')",
        "m = importlib.import_module('lash_nb.session')",
        "__import__('lash_nb')",
        "!lash-nb run x.ipynb",
        "files = !lash-nb sessions",
        "%%time\nimport lash_nb",
    ],
)
def test_what_uses_lash_nb_by_other_means(source: str) -> None:
    assert uses_us(source)


@pytest.mark.parametrize(
    "source",
    [
        "# import lash_nb",
        "print('lash_nb', 'lash')",
        "run('lash')",
        "%run lash.py",
        "!cat eye-lash.txt",
        "ip.run_line_magic('time', 'eyelash()')",
        "ip.run_cell_magic('writefile', 'x.py', 'import lash_nb')",
        f"%%time\n# %lash ask go {WHY}",
        "%%bash\necho lash",
        "from . import lash_nb",
        "import lash_nb_tools",
        "def (:",
    ],
)
def test_what_does_not(source: str) -> None:
    assert not uses_us(source)


async def test_other_means_are_said_and_left_as_they_are(tmp_path: Path) -> None:
    first, second = "import lash_nb\nx = 1", "ask = get_ipython().run_line_magic\nget_ipython().magic('lash')"
    left_out, notes, made = await ejection(tmp_path, (first, 0), (second, 0), ("%%lash\ngo", 1))
    said = "uses lash_nb in other ways, and is left as it is: it fails without it"
    assert (left_out, notes) == ((), (f"cell 1 {said}", f"cell 2 {said}"))
    assert [(one.source, one.metadata) for one in made.cells[1:3]] == [(first, TAGGED), (second, TAGGED)]


# ------------------------------------------------------------------------------------------------- what the agent asks


@pytest.mark.parametrize(
    ("source", "asks"),
    [
        ("who = input('Who? ')", True),
        ("list(map(input, questions))", True),
        ("import getpass\ngetpass.getpass()", True),
        ("from getpass import getpass as secret\nsecret()", True),
        ("key = getpass('Key: ')", True),
        ("getpass.getuser()", False),
        ("def input(text): ...\ninput('x')", False),
        ("def f(input):\n    return input", False),
        ("model.input = 3\nmodel.input", False),
        ("# input()", False),
        ("def (:", False),
    ],
)
def test_cells_that_ask_a_person(source: str, asks: bool) -> None:
    assert asks_person(source) is asks


async def test_what_the_agents_cells_ask_and_use_is_said(tmp_path: Path) -> None:
    replies = {1: [cell("who = input('Who? ')"), cell("import lash_nb"), cell("print(who)"), "Done."]}
    block = await answered(tmp_path / "state", replies, requests=["go"], kernel=ScriptedKernel())
    path = write(tmp_path / "n.ipynb", asked("go", *block["turns"]), metadata={"lash_nb": block})
    made = ejected(ClosedNotebook(path), state_dir=tmp_path / "state")
    assert made.left_out == ()
    assert made.notes == (
        "step 1 of turn 1 asks for input: whoever runs it is asked, and it fails where nobody can answer",
        "step 2 of turn 1 uses lash_nb, and is left as it is: it fails without it",
    )
    (tmp_path / "plain.ipynb").write_text(made.text, encoding="utf-8")
    code = [one for one in read(tmp_path / "plain.ipynb", as_version=4).cells if one.cell_type == "code"]
    assert [one.metadata for one in code] == [TAGGED, TAGGED, {}]
