"""Our engine of papermill: what it answers a kernel, and where it saves what papermill is to write elsewhere."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.line_notebooks import LINE, block, read, texts, write

papermill: Any = importlib.import_module("papermill")
storage: Any = importlib.import_module("papermill.iorw")

PYTHON: dict[str, Any] = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
SET = f"""
line.send({{"op": "who"}})
line.send({{"op": "set", "key": "lash_nb", "value": {block(3)!r}, "id": 1}})
line.send({{"op": "insert", "cells": [], "after": None, "id": 2}})
await line.heard(3)
for data in line.came:
    data.pop("holder")
print(json.dumps(line.came))
"""
REFUSED = {"id": 2, "ok": False, "error": "cells cannot be put into a notebook while it is run from its file"}


def here(path: str) -> dict[str, Any]:
    return {"op": "here", "kind": "papermill", "path": path, "value": None}


def executed(source: Path, out: str | None) -> Any:
    return papermill.execute_notebook(str(source), out, engine_name="lash_nb", progress_bar=False)


class Storage:
    """A place that papermill writes to by an address of its own."""

    def __init__(self) -> None:
        self.written: list[Any] = []
        self.closed_from = 1000

    def write(self, text: str, path: str) -> None:
        if len(self.written) >= self.closed_from:
            self.closed_from = 1000
            raise ConnectionError("the storage is closed")
        self.written.append(json.loads(text))

    def pretty_path(self, path: str) -> str:
        return path


@pytest.fixture
def elsewhere() -> Iterator[Storage]:
    place = Storage()
    storage.papermill_io.register("mem://", place)
    yield place
    storage.papermill_io._handlers.remove(("mem://", place))


def test_a_file(tmp_path: Path) -> None:
    """What is set is on the disk when it is acknowledged; a link stays one."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "real.ipynb").write_text("")
    (tmp_path / "out.ipynb").symlink_to("there/real.ipynb")
    look = "print(json.load(open('there/real.ipynb'))['metadata']['lash_nb']['turns'][0]['seq'])"
    source = write(tmp_path, LINE, f"import os; os.chdir({str(tmp_path)!r})" + SET + look, **PYTHON)
    executed(source, str(tmp_path / "out.ipynb"))
    said, seq = texts(tmp_path / "out.ipynb")[1].splitlines()
    assert json.loads(said) == [here(str(tmp_path / "there" / "real.ipynb")), {"id": 1, "ok": True}, REFUSED]
    assert seq == "3"
    assert (tmp_path / "out.ipynb").is_symlink()
    assert read(tmp_path / "out.ipynb").metadata.lash_nb == block(3)


def test_no_output(tmp_path: Path) -> None:
    notebook = executed(write(tmp_path, LINE, SET, **PYTHON), None)
    assert json.loads(notebook.cells[1].outputs[0].text) == [here(""), {"id": 1, "ok": True}, REFUSED]
    assert notebook.metadata.lash_nb == block(3)


def test_another_storage(tmp_path: Path, elsewhere: Storage) -> None:
    notebook = executed(write(tmp_path, LINE, SET, **PYTHON), "mem://out.ipynb")
    assert json.loads(notebook.cells[1].outputs[0].text) == [here("mem://out.ipynb"), {"id": 1, "ok": True}, REFUSED]
    saved = [written["metadata"].get("lash_nb") for written in elsewhere.written]
    # Before the first cell, at the start and the end of each, and in between when the kernel asked.
    assert saved == [None, None, None, None, *[block(3)] * 4]


def test_a_storage_that_takes_nothing_is_said(tmp_path: Path, elsewhere: Storage) -> None:
    elsewhere.closed_from = 4
    notebook = executed(write(tmp_path, LINE, SET, **PYTHON), "mem://out.ipynb")
    assert json.loads(notebook.cells[1].outputs[0].text)[1] == {
        "id": 1,
        "ok": False,
        "error": "the output mem://out.ipynb cannot be written: the storage is closed",
    }
