"""`lash-nb strip`: what is ours is taken out of a notebook, and nothing else is touched; also as a filter of git."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.errors import InputError, LashError, NotebookError
from lash_nb.stores.closed import ClosedNotebook
from lash_nb.stripping import filtered, stripped

from .plain_notebooks import asked, command, v4, write

ROOT = Path(__file__).resolve().parent.parent
V1 = ROOT / "tests" / "stores" / "v1" / "prices.ipynb"
ENVELOPE = {"session": "s", "turn": 1, "sha256": "0" * 64}


def notebook(place: Path, name: str = "n.ipynb", **metadata: Any) -> Path:
    """One with a turn."""
    block = {"version": 1, "session": "s", "head": None, "turns": [{**ENVELOPE, "checkpoint": ["{}"]}], **metadata}
    cells = [asked("What?", ENVELOPE), v4.new_markdown_cell("mine")]
    return write(place / name, *cells, metadata={"lash_nb": block, "kernelspec": {"name": "k", "display_name": "K"}})


# --------------------------------------------------------------------------------------------------------- what goes


def test_nothing_but_ours_goes_and_the_rest_is_as_nbformat_writes_it() -> None:
    left = nbformat.reads(V1.read_text(encoding="utf-8"), as_version=4)  # type: ignore[no-untyped-call]
    text = v4.writes(left) + "\n"
    made = stripped(text)
    del left.metadata["lash_nb"]
    for one in left.cells:
        for output in one.get("outputs", ()):
            output.metadata.pop("lash_nb", None)
    assert made.text == v4.writes(left) + "\n"
    assert (made.turns, made.size) == (3, len(text.encode()) - len(made.text.encode()))
    assert stripped(made.text).text == made.text
    assert stripped(made.text).sentence == "nothing of lash_nb to take out"


ODD = [
    # What stands where, and what is left of it.
    (
        '{"nbformat":4,"metadata":{"lash_nb":{},"a":1.00e1},"cells":[]}',
        '{"nbformat":4,"metadata":{"a":1.00e1},"cells":[]}',
    ),
    (
        '{"nbformat":4,"metadata":{"a":1, "lash_nb":0 },"x":"\\ud800"}\r\n',
        '{"nbformat":4,"metadata":{"a":1 },"x":"\\ud800"}\r\n',
    ),
    ('{"nbformat":4,"metadata":{"lash_nb":1,"a":2,"lash_nb":3,"b":[]}}', '{"nbformat":4,"metadata":{"a":2,"b":[]}}'),
    ('{"nbformat":4,"metadata":{ "lash_nb" : null }}', '{"nbformat":4,"metadata":{}}'),
    (
        '{"nbformat":3,"worksheets":[{"cells":[{"outputs":[{"metadata":{"lash_nb":1,"z":0}}]},7]}]}',
        '{"nbformat":3,"worksheets":[{"cells":[{"outputs":[{"metadata":{"z":0}}]},7]}]}',
    ),
    ('{"nbformat":4,"metadata":[{"lash_nb":1}],"cells":{"outputs":1}}', None),
    ('{"nbformat":4,"cells":[{"metadata":{"lash_nb":1},"source":"lash_nb"},{"outputs":[[],{"metadata":1}]}]}', None),
    ('\ufeff{"nbformat":4,"lash_nb":{"turns":[]}}', None),
    # Numbers that Python does not convert, and half a surrogate pair: as an escape, and as a character.
    (
        f'{{"nbformat":4,"metadata":{{"lash_nb":{{"model":{"1" * 5000},"turns":[-{"2" * 5000}]}},"a":{"3" * 5000}}}}}',
        f'{{"nbformat":4,"metadata":{{"a":{"3" * 5000}}}}}',
    ),
    (
        '{"nbformat":4,"metadata":{"lash_nb":{"turns":["\ud800"]}},"cells":["\\ud800"]}',
        '{"nbformat":4,"metadata":{},"cells":["\\ud800"]}',
    ),
    (
        '{"nbformat":4,"metadata":{"lash_nb":{"turns":1,"model":"\\ud83d!\ude00"}}}',
        '{"nbformat":4,"metadata":{"lash_nb":{"model": "\\ud83d!\\ude00"}}}',
    ),
]


@pytest.mark.parametrize(("text", "left"), ODD)
def test_odd_and_invalid_notebooks(text: str, left: str | None) -> None:
    expected = text if left is None else left
    assert stripped(text).text == expected
    assert filtered(text.encode("utf-8", "surrogatepass")) == (expected.encode("utf-8", "surrogatepass"), "")


@pytest.mark.parametrize(
    "text",
    ["", "x", "[]", "{}", '{"nbformat":"4"}', '{"nbformat":4', '{"nbformat":4}}', '{"nbformat":4,}', "[" * 99_999],
)
def test_what_is_no_notebook(text: str) -> None:
    with pytest.raises(NotebookError):
        stripped(text)
    made, problem = filtered(text.encode())
    assert made == text.encode()
    assert problem.startswith("it ")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3) | st.just("lash_nb"), inner, max_size=3)
    ),
    max_leaves=8,
)
objects = st.dictionaries(st.sampled_from(["lash_nb", "a", "b", "metadata"]), values, max_size=4)


@given(objects, st.lists(objects, max_size=3), st.integers(-1, 3))
def test_json_is_the_same_but_for_ours(metadata: dict[str, Any], outputs: list[Any], indent: int) -> None:
    whole = {"nbformat": 4, "metadata": metadata, "cells": [{"outputs": [{"metadata": one} for one in outputs]}]}
    text = json.dumps(whole, indent=None if indent < 0 else indent)
    left = {
        "nbformat": 4,
        "metadata": {name: value for name, value in metadata.items() if name != "lash_nb"},
        "cells": [{"outputs": [{"metadata": {n: v for n, v in one.items() if n != "lash_nb"}} for one in outputs]}],
    }
    assert stripped(text, everything=True).text == json.dumps(left, indent=None if indent < 0 else indent)


def test_the_authors_suggestion_stays_unless_all_is_to_go() -> None:
    text = (
        json.dumps({"nbformat": 4, "metadata": {"lash_nb": {"model": "local", "turns": [ENVELOPE]}}}, indent=1) + "\n"
    )
    made = stripped(text)
    assert made.text == '{\n "nbformat": 4,\n "metadata": {\n  "lash_nb": {\n   "model": "local"\n  }\n }\n}\n'
    assert made.turns == 1
    assert stripped(made.text).text == made.text
    assert stripped(made.text, everything=True).text == '{\n "nbformat": 4,\n "metadata": {}\n}\n'


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ('{"model":"m"}', "the suggested model taken out (23 bytes)"),
        (
            '{"model":"m","turns":[{"session":"s","turn":1}]}',
            "1 turn and the suggested model taken out (58 bytes)",
        ),
        ('{"turns":[{"session":"s","turn":1}]}', "1 turn taken out (46 bytes)"),
        ('{"model":7}', "what was left of lash_nb taken out (21 bytes)"),
    ],
)
def test_all_that_was_taken_is_named(value: str, sentence: str) -> None:
    made = stripped(f'{{"nbformat":4,"metadata":{{"lash_nb":{value}}}}}', everything=True)
    assert (made.text, made.sentence) == ('{"nbformat":4,"metadata":{}}', sentence)


def test_a_suggestion_that_would_be_taken_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "n.ipynb"
    path.write_text('{"nbformat":4,"metadata":{"lash_nb":{"model":"m"}}}')
    assert command("strip", "--check", path) == 0
    assert command("strip", "--check", "--all", path) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{path}: nothing of lash_nb to take out",
        f"{path}: the suggested model would be taken out (23 bytes)",
    ]


# ---------------------------------------------------------------------------------------------------------- the command


def test_several_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one, two, none = notebook(tmp_path, "1.ipynb"), write(tmp_path / "2.ipynb", "x"), tmp_path / "3.ipynb"
    before = two.read_bytes(), two.stat().st_mtime_ns
    one.chmod(0o640)
    assert command("strip", "--check", one, two) == 1
    size = len(one.read_bytes())
    assert command("strip", none, one, two) == 2
    printed, told = capsys.readouterr()
    assert told == f"lash-nb: there is no notebook {none}\n"
    gone = size - len(one.read_bytes())
    assert printed.splitlines() == [
        f"{one}: 1 turn would be taken out ({gone:,} bytes)",
        f"{two}: nothing of lash_nb to take out",
        f"{one}: 1 turn taken out ({gone:,} bytes)",
        f"{two}: nothing of lash_nb to take out",
    ]
    assert b"lash_nb" not in one.read_bytes()
    assert one.stat().st_mode & 0o777 == 0o640
    assert (two.read_bytes(), two.stat().st_mtime_ns) == before
    assert command("strip", "--check", one, two) == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.ipynb", "2.ipynb"]


def test_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = notebook(tmp_path), tmp_path / "out.ipynb"
    before = path.read_bytes()
    assert command("strip", path, "-o", out) == 0
    assert path.read_bytes() == before
    assert b"lash_nb" not in out.read_bytes()
    assert command("strip", path, "-o", path) == 2
    assert command("strip", path, path, "-o", out) == 2
    assert command("strip") == 2
    (tmp_path / "dir").mkdir()
    assert command("strip", path, "-o", tmp_path / "dir") == 2
    assert path.read_bytes() == before


def test_a_link_stays_one(tmp_path: Path) -> None:
    path = notebook(tmp_path)
    link = tmp_path / "link.ipynb"
    link.symlink_to(path.name)
    assert command("strip", link) == 0
    assert os.readlink(link) == "n.ipynb"
    assert b"lash_nb" not in path.read_bytes()


def test_a_file_that_was_changed_meanwhile_is_left_as_it_is(tmp_path: Path) -> None:
    path = notebook(tmp_path)
    file = ClosedNotebook(path)
    made = stripped(file.text).text
    path.write_text("another")
    with pytest.raises(LashError, match="was changed meanwhile") as caught:
        file.replace(made)
    assert not isinstance(caught.value, InputError), "the exit code is 1"
    assert path.read_text() == "another"
    assert [one.name for one in tmp_path.iterdir()] == ["n.ipynb"]


# ------------------------------------------------------------------------------------------------------------------ git


class Repository:
    """One with our filter, as `lash-nb strip --help` says."""

    def __init__(self, place: Path, *, options: str = "--git-filter") -> None:
        self.place = place / "repository"
        self.place.mkdir()
        self.notes: list[str] = []
        self.environment = {**os.environ, "HOME": str(place), "GIT_CONFIG_NOSYSTEM": "1"}
        self("init", "-q")
        self("config", "user.name", "t")
        self("config", "user.email", "t@localhost")
        self("config", "filter.lash-nb.clean", f"'{sys.executable}' -m lash_nb.cli strip {options} -- %f")
        (self.place / ".gitattributes").write_text("*.ipynb filter=lash-nb\n")

    def __call__(self, *arguments: str, code: int = 0) -> str:
        command = ["git", *arguments]
        done = subprocess.run(
            command, cwd=self.place, env=self.environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stderr
        self.notes.extend(done.stderr.splitlines())
        return done.stdout


def test_as_a_filter_of_git(tmp_path: Path) -> None:
    git = Repository(tmp_path)
    place, notes = git.place, git.notes
    shutil.copy(V1, place / "n.ipynb")
    (place / "torn.ipynb").write_bytes(b'{"nbformat": 4, \xff')
    before = (place / "n.ipynb").read_bytes()
    notes.clear()
    git("add", ".")
    assert [note for note in notes if "torn" in note] == [
        "lash-nb: torn.ipynb is kept as it is, with all that is in it: it is not UTF-8 text"
    ]
    shown = git("show", ":n.ipynb")
    assert "lash_nb" not in json.dumps(json.loads(shown)["metadata"])
    assert shown == stripped(before.decode()).text
    assert git("cat-file", "-s", ":torn.ipynb") == "17\n"
    assert (place / "n.ipynb").read_bytes() == before, "the working copy keeps its turns"
    assert git("diff") == ""
    git("commit", "-q", "-m", "one")
    assert git("status", "--porcelain") == ""
    assert "turns" in json.loads((place / "n.ipynb").read_text())["metadata"]["lash_nb"]
    (place / "n.ipynb").unlink()
    git("checkout", "n.ipynb")
    assert (place / "n.ipynb").read_text() == shown
    git("add", "n.ipynb")
    assert git("status", "--porcelain") == "", "what is filtered twice is the same"


@pytest.mark.parametrize("options", ["--git-filter", "--git-filter --strict"])
def test_git_names_files_as_it_likes(tmp_path: Path, options: str) -> None:
    names = ["-h.ipynb", "--all.ipynb", "--b.ipynb", "-o.ipynb", "--.ipynb", "c d'e.ipynb", "ä.ipynb"]
    git = Repository(tmp_path, options=options)
    for name in names:
        notebook(git.place, name)
    git("add", "-A")
    assert git.notes == []
    for name in names:
        kept = json.loads(git("show", f":{name}"))
        assert kept["metadata"] == {"kernelspec": {"name": "k", "display_name": "K"}}, name
        assert kept["cells"][0]["outputs"][0]["metadata"] == {}, name


def test_git_refuses_what_is_no_notebook_where_that_is_wanted(tmp_path: Path) -> None:
    git = Repository(tmp_path, options="--git-filter --strict")
    git("config", "filter.lash-nb.required", "true")
    notebook(git.place, "good.ipynb")
    (git.place / "-torn.ipynb").write_bytes(b'{"nbformat": 4, "metadata": {"lash_nb": {')
    git("add", "-A", code=128)
    assert [note for note in git.notes if note.startswith("lash-nb: ")] == [
        "lash-nb: -torn.ipynb is refused: it is not JSON (Expecting property name enclosed in double quotes: line 1 "
        "column 42 (char 41))"
    ]
    git("add", "good.ipynb")
    assert git("ls-files") == "good.ipynb\n"
    assert "lash_nb" not in git("show", ":good.ipynb")


def test_strict_is_for_git(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = notebook(tmp_path)
    before = path.read_bytes()
    assert command("strip", "--strict", path) == 2
    assert capsys.readouterr().err == "lash-nb: --strict goes with --git-filter\n"
    assert path.read_bytes() == before
