"""Outputs beside the records of their turns: what was changed by hand is named, and nothing that we left ourselves."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lash_nb.carried_words import verdict_json, verdict_text
from lash_nb.runner import run_notebook
from lash_nb.stores.carried import carried
from lash_nb.stores.raw_documents import read_document
from lash_nb.stores.shown_answers import shown_answers
from tests.notebook_kernel import Cell, Page, notebook_kernel
from tests.stores.envelopes import chain, finished, notebook, pointer

v4: Any = nbformat.v4

LOAD = "%load_ext lash_nb\n%lash model scripted:model.json"
CODE = "I look.\n<lash-cell>\n{}\n</lash-cell>"
LONG = "\n\n".join(f"Line {number} of **many**,\twith <b>marks</b> & `code`." for number in range(300))
ODD = "\x1b[31mred\x1b[0m, bell \x07, turned \u202eround\u202c, a\u00a0space, \u2028 line, \r\n line\x85 and \U0001f600"
SECRET = "sk-thisIsNoRealSecret4815162342"
TURNS = {
    "1": [CODE.format("print(6 * 7)"), "It is **42**."],
    "2": ["Line 1\n\n- **a** <b>\n- `b` & c\n\n| x | y |\n|---|---|\n| 1 | 2 |"],
    "3": [ODD],
    "4": ["Nobody sees this."],
    "5": [CODE.format("finish({'b': 1.0, 'a': [None, 'x']})")],
    "6": [CODE.format("1 / 0"), CODE.format("2 / 0"), "Now it is at its limit."],
    "7": [f"The key is {SECRET}, keep it."],
    "8": ["\n\n  Asked by line.  \n\n"],
    "9": [CODE.format("finish('text')")],
    "10": [CODE.format("raise KeyboardInterrupt"), "Whatever."],
    "11": [CODE.format("1 / 0")] * 2 + ["<lash-cell>\nnot closed"],
    "12": [LONG],
}
CELLS = (
    LOAD,
    "%%lash\none",
    "%%lash\ntwo",
    "%%lash\nthree",
    "%%lash -q\nfour",
    "%%lash -t dict\nfive",
    "%%lash --max-steps 2 --no-raise\nsix",
    "%%lash\nseven",
    "%lash ask eight",
    "%%lash\nnine",
    "%%lash --no-raise\nten",
    "%%lash --max-steps 2 --no-raise\neleven",
    "%%lash\ntwelve",
)


def differing(document: Any) -> list[str]:
    """What `verify` says of outputs."""
    found = carried(document)
    assert found.ok
    told = verdict_json(found, document=document)["problems"]
    assert isinstance(told, list)
    return [str(one["sentence"]) for one in told if isinstance(one, dict) and one["trouble"] == "differs"]


def compared(document: Any) -> list[int]:
    """The turns of which an output is compared."""
    return [one.turn for one in shown_answers(document, carried(document))]


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebook with every kind of turn, and where it is to be run."""
    (tmp_path / "model.json").write_text(json.dumps({"turns": TURNS}))
    monkeypatch.setenv("LASH_NB_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    path = tmp_path / "in.ipynb"
    cells = [v4.new_code_cell(source) for source in CELLS]
    path.write_text(v4.writes(v4.new_notebook(cells=cells, metadata=kernel)))
    return path


def run_by_us(source: Path, out: Path) -> None:
    run_notebook(source, out)


def run_by_papermill(source: Path, out: Path, *options: str) -> None:
    papermill: Any = importlib.import_module("papermill")
    name = options[0] if options else None
    papermill.execute_notebook(str(source), str(out), engine_name=name, cwd=str(source.parent), progress_bar=False)


def run_by_papermill_and_us(source: Path, out: Path) -> None:
    run_by_papermill(source, out, "lash_nb")


@pytest.mark.parametrize("run", [run_by_us, run_by_papermill, run_by_papermill_and_us])
def test_what_a_run_leaves_is_never_said_to_differ(source: Path, run: Callable[[Path, Path], None]) -> None:
    out = source.with_name("out.ipynb")
    run(source, out)
    document = read_document(out)
    errors = [
        output["evalue"] for cell in document["cells"] for output in cell.get("outputs", ()) if "evalue" in output
    ]
    assert errors == []
    assert differing(document) == []
    assert compared(document) == [1, 2, 3, 6, 8, 10, 12]
    for cell in document["cells"]:
        for output in cell.get("outputs", ()):
            if "data" in output:
                output["data"]["text/plain"] = ["It is 43.\n", "[done]"]
    assert len(differing(document)) == 7


def test_an_output_that_was_changed_is_named() -> None:
    turns = chain(2)
    document = notebook({"version": 1, "session": "s", "head": None, "turns": turns}, *map(pointer, turns))
    first, second = (cell["outputs"][0] for cell in document["cells"])
    first["data"] = {"text/html": "ok", "text/plain": "The answer:\n ok\n\n[done]"}
    second["data"] = {"text/html": "bad", "text/plain": ["The answer: ", "bad"]}
    assert differing(document) == ["cell 2, output 1 does not show the answer that turn 2's record has"]
    lines = verdict_text(carried(document), name="n.ipynb", document=document).splitlines()
    assert lines[:2] == [
        "n.ipynb: valid; it carries 2 turns (their records; what cells show is not checked against them)",
        "  differs: cell 2, output 1 does not show the answer that turn 2's record has",
    ]


def test_an_answer_of_several_lines_is_its_words() -> None:
    answer = {"finished": {"assistant_message": {"text": "One\n\n  two\tthree"}}}
    document = notebook(None, finished(outcome=answer))
    data = document["cells"][0]["outputs"][0]["data"]
    data.update({"text/html": "", "text/plain": ["── Answer ──\n", "\n", "One\n", "two three\n", "[done]"]})
    assert differing(document) == []
    data["text/plain"] = "One two"
    assert differing(document) == ["cell 1, output 1 does not show the answer that turn 1's record has"]
    del data["text/html"]
    assert differing(document) == [], "a quiet cell has one line, and no HTML"


@pytest.mark.parametrize("value", [None, 3, {}, [1], [None, "x"], "x" * 100_000])
def test_whatever_an_output_holds(value: Any) -> None:
    document = notebook(None, finished())
    output = document["cells"][0]["outputs"][0]
    output["data"].update({"text/html": value, "text/plain": value})
    assert len(differing(document)) == (1 if isinstance(value, str) else 0)
    for part in ("data", "metadata"):
        assert list(shown_answers(notebook(None, {}), carried({}))) == []
        output[part] = value
        assert compared(document) == []
    document["cells"] = value
    assert compared(document) == []


def test_an_interrupted_turn_that_went_on_elsewhere(tmp_path: Path) -> None:
    replies = {
        "1": ["The first."],
        "2": [CODE.format("import os, time\nos.path.exists('go') or time.sleep(600)"), "The second."],
    }
    (tmp_path / "model.json").write_text(json.dumps({"turns": replies}))
    page, cells = Page(), []

    def kept(code: str, ran: Cell) -> None:
        outputs = [{**one, "output_type": one["msg_type"]} for one in ran.outputs if one["msg_type"] == "display_data"]
        cells.append({"cell_type": "code", "source": code, "outputs": outputs})

    def environment(name: str) -> dict[str, str]:
        return {"LASH_NB_STATE_DIR": str(tmp_path / name), "JPY_SESSION_NAME": str(tmp_path / "notebook.ipynb")}

    with notebook_kernel(tmp_path, **environment("here")) as kernel:
        kernel.opened(page)
        kernel.run(LOAD)
        kept("one", kernel.run("%%lash\none"))
        ran = kernel.start("%%lash\ntwo")
        kernel.until(ran, lambda: "time.sleep(600)" in json.dumps((page.value["head"] or {}).get("checkpoint")))
        page.there = False  # it is reloaded before anything of what follows is saved
        kernel.interrupt()
        kernel.finish(ran)
    page.there = True
    (tmp_path / "go").touch()
    with notebook_kernel(tmp_path, **environment("there")) as kernel:
        kernel.opened(page)
        kernel.run(LOAD)
        ran = kernel.start("%lash resume")
        assert "y" in kernel.question()["prompt"]
        kernel.answer("y")
        kept("resume", kernel.finish(ran))
    document = {"nbformat": 4, "metadata": {"lash_nb": page.value}, "cells": cells}
    assert differing(document) == []
    assert compared(document) == [1, 2]


def test_what_verify_needs_is_quick_to_import(tmp_path: Path) -> None:
    """jsonschema builds a grammar when it is imported, where all that it can check is installed."""
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps(notebook(None, finished())))
    code = (
        "import sys; from lash_nb.cli import main; main(['verify', sys.argv[1]]); main(['show', sys.argv[1]]); "
        "print([name for name in ('nbformat', 'jsonschema') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[-1] == "[]"
