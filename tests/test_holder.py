"""The line from a kernel to who holds its notebook, spoken word by word, in a run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lash_nb.runner import run_notebook
from tests.line_notebooks import LINE, block, read, texts, write

WORDS = f"""
sent = [
    ("set", dict(key="lash_nb", value={block(1)!r})),
    ("get", dict(key="lash_nb")),
    ("save", dict()),
    ("set", dict(key="lash_nb", value={{"version": 1}})),
    ("set", dict(key="lash_nb", value=None)),
    ("set", dict(key="other", value=1)),
    ("get", dict(key="other")),
    ("insert", dict(cells=[dict(cell_type="code", source="1")], after=None)),
    ("status", dict(session="s", label="1", model="m", running=None, interrupted=None)),
    ("open", dict()),
    (["set"], dict()),
    ("get", dict(key="lash_nb")),
]
line.send({{"op": "who"}})
line.send("not an object")
for number, (op, values) in enumerate(sent):
    line.send({{"op": op, "id": number, **values}})
await line.heard(len(sent))
holder = line.came[0].pop("holder")
assert len(holder) == 32
for data in line.came[1:]:
    assert data.pop("holder") == holder
print(json.dumps(line.came))
"""
NO_BLOCK = "metadata.lash_nb.session is None, not the name of a session"
ONLY = "only lash_nb can be got and set"
UNKNOWN = "who holds this notebook does not know how to do that"


def answers(kind: str, path: str) -> list[dict[str, Any]]:
    """What the holder says to WORDS."""
    return [
        {"op": "here", "kind": kind, "path": path, "value": None},
        {"id": 0, "ok": True},
        {"id": 1, "ok": True, "value": block(1), "path": path},
        {"id": 2, "ok": True},
        {"id": 3, "ok": False, "error": NO_BLOCK},
        {"id": 4, "ok": False, "error": "metadata.lash_nb is None, not an object"},
        {"id": 5, "ok": False, "error": ONLY},
        {"id": 6, "ok": False, "error": ONLY},
        {"id": 7, "ok": False, "error": "cells cannot be put into a notebook while it is run from its file"},
        {"id": 9, "ok": False, "error": UNKNOWN},
        {"id": 10, "ok": False, "error": UNKNOWN},
        {"id": 11, "ok": True, "value": block(1), "path": path},
    ]


def test_a_run_answers_each_word(tmp_path: Path) -> None:
    result = run_notebook(write(tmp_path, LINE, WORDS))
    assert result.error == ""
    assert json.loads(texts(result.out)[1]) == answers("runner", str(tmp_path / "in.out.ipynb"))
    assert read(result.out).metadata.lash_nb == block(1)


@pytest.mark.parametrize("carried", [{}, {"lash_nb": {"model": "local"}}])
def test_what_the_notebook_carries_is_told_and_replaced_as_a_whole(tmp_path: Path, carried: dict[str, Any]) -> None:
    """The kernel has merged what was there: the holder puts nothing back."""
    asked = f"""
    line.send({{"op": "who"}})
    await line.heard(1)
    print(json.dumps(line.came[0]["value"]))
    for number in (1, 2):
        line.send({{"op": "set", "key": "lash_nb", "value": dict({block(1)!r}, turns=[]), "id": number}})
    await line.heard(3)
    print([data["ok"] for data in line.came[1:]])
    """
    result = run_notebook(write(tmp_path, LINE, asked, **carried))
    assert texts(result.out)[1] == f"{json.dumps(carried.get('lash_nb'))}\n[True, True]\n"
    assert read(result.out).metadata.lash_nb == {**block(1), "turns": []}


def test_what_is_set_is_on_the_disk_before_it_is_acknowledged(tmp_path: Path) -> None:
    asked = f"""
    line.send({{"op": "set", "key": "lash_nb", "value": {block(7)!r}, "id": 1}})
    await line.heard(1)
    print(json.load(open("in.out.ipynb"))["metadata"]["lash_nb"]["turns"][0]["seq"], line.came[0]["ok"])
    """
    assert texts(run_notebook(write(tmp_path, LINE, asked)).out)[1] == "7 True\n"


def test_a_disk_that_takes_nothing_is_said(tmp_path: Path) -> None:
    """The directory is gone in the meantime; the run ends at its next save, with the same sentence."""
    gone = f"""
    import os, shutil
    shutil.move("there", "moved")
    line.send({{"op": "set", "key": "lash_nb", "value": {block(1)!r}, "id": 1}})
    await line.heard(1)
    shutil.move("moved", "there")
    print(line.came[0]["ok"], line.came[0]["error"].replace(os.getcwd(), "."))
    """
    (tmp_path / "there").mkdir()
    result = run_notebook(write(tmp_path, LINE, gone), tmp_path / "there" / "out.ipynb")
    assert texts(result.out)[1] == ("False the output ./there/out.ipynb cannot be written: no such file or directory\n")


def test_another_comm_is_nbclients(tmp_path: Path) -> None:
    """Widgets go on working: their state is kept in the notebook."""
    result = run_notebook(write(tmp_path, LINE, "import ipywidgets; ipywidgets.IntSlider(3)"))
    assert [state["model_name"] for state in widgets(result.out) if "Slider" in state["model_name"]] == [
        "IntSliderModel",
        "SliderStyleModel",
    ]


def widgets(path: Path) -> list[dict[str, Any]]:
    states = read(path).metadata.widgets["application/vnd.jupyter.widget-state+json"]["state"]
    return sorted(states.values(), key=lambda state: str(state["model_name"]))
