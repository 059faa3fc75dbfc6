"""Notebook files: what is accepted, where the result goes, how it is saved, how parameters get in."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lash_nb.errors import InputError, MissingExtraError, NotebookError
from lash_nb.stores.documents import (
    Output,
    load_notebook,
    parse_value,
    place_output,
    read_parameters,
    with_parameters,
)

v4: Any = nbformat.v4


def notebook(*sources: str, tags: tuple[str, ...] = ()) -> Any:
    """One code cell for each source; the tags are the first one's."""
    made = v4.new_notebook(cells=[v4.new_code_cell(source) for source in sources])
    if tags:
        made.cells[0].metadata["tags"] = list(tags)
    return made


def raw(**changes: Any) -> dict[str, Any]:
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [], **changes}


# ---------------------------------------------------------------------------------------------------------- reading


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("", "it is not JSON"),
        ("{'a': 1}", "it is not JSON"),
        ("\x00\x01", "it is not JSON"),
        ("[" * 100_000, "it is not JSON"),
        ("[]", "without `nbformat`"),
        ("{}", "without `nbformat`"),
        (json.dumps(raw(nbformat=99)), "nbformat 99"),
        (json.dumps(raw(cells=None)), "no list of cells"),
        (json.dumps(raw(cells=[{"cell_type": "code"}])), "not a valid notebook"),
        (json.dumps(raw(cells=[3])), "not a valid notebook"),
        (json.dumps(raw(metadata=[])), "not a valid notebook"),
        (json.dumps(raw(nbformat_minor="x")), "not a valid notebook"),
        (json.dumps({"nbformat": 3, "nbformat_minor": 0, "worksheets": 1}), "not a valid notebook"),
    ],
)
def test_what_is_no_notebook_is_refused(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "in.ipynb"
    path.write_text(content)
    with pytest.raises(NotebookError) as refused:
        load_notebook(path)
    assert problem in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_notebook(tmp_path: Path) -> None:
    with pytest.raises(NotebookError, match="there is no notebook"):
        load_notebook(tmp_path / "in.ipynb")
    with pytest.raises(NotebookError, match="cannot be read: is a directory"):
        load_notebook(tmp_path)


def test_cells_without_ids_or_with_the_same_get_some(tmp_path: Path) -> None:
    cell = {"cell_type": "markdown", "metadata": {}, "source": ["a\n", "b"]}
    path = tmp_path / "in.ipynb"
    path.write_text(json.dumps(raw(cells=[{**cell, "id": "x"}, {**cell, "id": "x"}, cell])))
    loaded = load_notebook(path)
    assert len({found.id for found in loaded.cells}) == 3
    assert loaded.cells[0].source == "a\nb"


def test_an_old_notebook_is_converted(tmp_path: Path) -> None:
    cell = {
        "cell_type": "code",
        "language": "python",
        "input": ["1"],
        "outputs": [],
        "metadata": {},
        "collapsed": False,
    }
    old = {
        "nbformat": 3,
        "nbformat_minor": 0,
        "metadata": {"name": ""},
        "worksheets": [{"cells": [cell], "metadata": {}}],
    }
    path = tmp_path / "in.ipynb"
    path.write_text(json.dumps(old))
    assert load_notebook(path).cells[0].source == "1"


# ---------------------------------------------------------------------------------------------------------- writing


def test_the_default_output_is_beside_the_input(tmp_path: Path) -> None:
    assert place_output(tmp_path / "a.b.ipynb", None) == tmp_path / "a.b.out.ipynb"


def test_an_output_is_never_its_input(tmp_path: Path) -> None:
    path = tmp_path / "in.ipynb"
    path.write_text("{}")
    (tmp_path / "soft.ipynb").symlink_to(path)
    (tmp_path / "hard.ipynb").hardlink_to(path)
    (tmp_path / "in.out.ipynb").symlink_to(path)
    for out in (path, tmp_path / "x" / ".." / "in.ipynb", tmp_path / "soft.ipynb", tmp_path / "hard.ipynb", None):
        with pytest.raises(InputError, match="never overwrites its input"):
            place_output(path, out)
    with pytest.raises(InputError, match="never overwrites its input"):
        place_output(tmp_path / "soft.ipynb", path)


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "out.ipynb"
    path.write_text("old")
    path.chmod(0o640)
    output = Output(path)
    output.probe()
    assert path.read_text() == "old"
    output.save(notebook("1"))
    assert load_notebook(path).cells[0].source == "1"
    assert path.stat().st_mode & 0o777 == 0o640
    assert os.listdir(tmp_path) == ["out.ipynb"]


def test_neighbouring_pieces_of_a_stream_are_saved_as_one(tmp_path: Path) -> None:
    made = notebook("1")
    pieces = [("stdout", "a"), ("stdout", "b\n"), ("stderr", "c"), ("stdout", "d"), ("stdout", "e")]
    made.cells[0].outputs = [v4.new_output("stream", name=name, text=text) for name, text in pieces]
    Output(tmp_path / "out.ipynb").save(made)
    saved = load_notebook(tmp_path / "out.ipynb").cells[0].outputs
    assert [(output.name, output.text) for output in saved] == [("stdout", "ab\n"), ("stderr", "c"), ("stdout", "de")]
    assert len(made.cells[0].outputs) == 5


def test_an_output_that_cannot_be_written_is_found_beforehand(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path, problem in (
        (tmp_path, "it is a directory"),
        (tmp_path / "none" / "out.ipynb", "there is no directory"),
        (tmp_path / "file" / "out.ipynb", "there is no directory"),
        (Path("/proc/out.ipynb"), "cannot be written"),
        (Path(os.devnull), "it is no file"),
    ):
        with pytest.raises(NotebookError, match=problem):
            Output(path).probe()


def test_a_save_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "out.ipynb"
    path.mkdir()
    with pytest.raises(NotebookError, match="cannot be written"):
        Output(path).save(notebook("1"))
    assert os.listdir(tmp_path) == ["out.ipynb"]


# ------------------------------------------------------------------------------------------------------- parameters


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-5", -5),
        ("1e3", 1000.0),
        ("true", True),
        ("True", True),
        ("null", None),
        ("None", None),
        ('"3"', "3"),
        ("[1, 2]", [1, 2]),
        ('{"a": 1}', {"a": 1}),
        ("007", "007"),
        ("NaN", "NaN"),
        ("north", "north"),
        ("a: b", "a: b"),
        ("", ""),
        ("2026-11-22", "2026-11-22"),
    ],
)
def test_values_on_a_command_line(text: str, value: object) -> None:
    parsed = parse_value(text)
    assert (parsed, type(parsed)) == (value, type(value))


def test_parameters_go_in_after_the_tagged_cell() -> None:
    made = notebook("x = 1\nname: str = ''", "print(x)", tags=("parameters",))
    with_parameters(made, {"x": 2, "name": "it's"})
    assert [cell.source for cell in made.cells] == [
        "x = 1\nname: str = ''",
        '# Parameters\nx = 2\nname = "it\'s"',
        "print(x)",
    ]
    assert made.cells[1].metadata.tags == ["injected-parameters"]
    nbformat.validate(made)


def test_parameters_of_an_earlier_run_are_replaced() -> None:
    made = notebook("x = 1", tags=("parameters",))
    with_parameters(made, {"x": 2})
    with_parameters(made, {"x": 3})
    assert [cell.source for cell in made.cells] == ["x = 1", "# Parameters\nx = 3"]


def test_without_a_tagged_cell_they_go_to_the_top() -> None:
    made = notebook("print(x)")
    made.nbformat_minor = 4
    del made.cells[0]["id"]
    with_parameters(made, {"x": 2})
    assert [cell.source for cell in made.cells] == ["# Parameters\nx = 2", "print(x)"]
    nbformat.validate(made)


def test_without_a_tagged_cell_some_cell_has_to_read_them() -> None:
    made = notebook("print(xy)")
    with pytest.raises(InputError, match="nothing in the notebook reads x: name the parameters in a cell with the tag"):
        with_parameters(made, {"x": 2})
    assert len(made.cells) == 1


def test_no_parameters_no_cell() -> None:
    made = notebook("1")
    with_parameters(made, {})
    assert len(made.cells) == 1


def test_what_is_written_is_python() -> None:
    made = notebook("print(a, b, c, d)")
    values = {"a": [1, {"k": None}], "b": float("inf"), "c": float("-inf"), "d": (True, "x\ny")}
    with_parameters(made, values)
    names: dict[str, Any] = {}
    exec(made.cells[0].source, names)
    assert {name: names[name] for name in values} == {**values, "d": [True, "x\ny"]}


@pytest.mark.parametrize(
    ("parameters", "problem"),
    [
        ({"y": 1}, "no parameter y; its parameters: a, x, z"),
        ({"x y": 1}, "not a name in Python"),
        ({"class": 1}, "not a name in Python"),
        ({"x": object()}, "the parameter x is a object"),
        ({"x": {1: 2}}, "the parameter x is a dict"),
    ],
)
def test_a_wrong_parameter(parameters: dict[str, Any], problem: str) -> None:
    made = notebook("%matplotlib inline\nx = a = 1\nz: int = 0", tags=("parameters",))
    with pytest.raises(InputError, match=problem):
        with_parameters(made, parameters)
    assert len(made.cells) == 1


def test_a_tagged_cell_that_is_not_python_is_not_compared() -> None:
    made = notebook("x <- = 1", "print(y)", tags=("parameters",))
    with_parameters(made, {"y": 1})
    assert made.cells[1].source == "# Parameters\ny = 1"


def test_a_file_of_parameters(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{"x": [1, null]}')
    assert read_parameters(path) == {"x": [1, None]}


@pytest.mark.parametrize(("content", "problem"), [("[1]", "no object"), ("{", "not JSON"), ("\udcff", "not UTF-8")])
def test_a_broken_file_of_parameters(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(content.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match=problem):
        read_parameters(path)


def test_a_missing_file_of_parameters(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no parameter file"):
        read_parameters(tmp_path / "p.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_parameters(tmp_path)


def test_yaml_needs_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("x: 1")
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(MissingExtraError, match="pip install pyyaml"):
        read_parameters(path)


def test_a_cell_that_is_not_unicode_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.ipynb"
    Output(path).save(notebook("1", "x = '\ud800'"))
    with pytest.raises(NotebookError, match=r"cell 2 holds '\\ud800', half of a surrogate pair"):
        load_notebook(path)


def test_metadata_nested_too_deeply_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "in.ipynb"
    Output(path).save(notebook("1"))
    deep = '{"a":' * 600 + "1" + "}" * 600
    path.write_text(path.read_text().replace('"metadata": {}', f'"metadata": {deep}', 1))
    with pytest.raises(NotebookError, match="not a valid notebook"):
        load_notebook(path)
