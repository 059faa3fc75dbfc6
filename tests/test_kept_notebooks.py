"""Notebooks whose cells keep their code, run for real: what answers, what is trusted, and a few nights."""

from __future__ import annotations

import importlib
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from lash_nb import cli
from lash_nb.runner import RunStatus, run_notebook
from lash_nb.stores.kept import KeptCode, KeptStore, carried_kept
from tests.conversations import cell
from tests.faults.nights import Breaks, run
from tests.line_notebooks import read, texts, write

FIRST = [cell("total = sum(map(int, open('n.txt').read().split()))\ntotal"), "It is 6."]


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a notebook that was run once."""
    place = tmp_path_factory.mktemp("once")
    (place / "s.json").write_text(json.dumps(FIRST))
    (place / "n.txt").write_text("1 2 3")
    path = write(place, "%load_ext lash_nb", "%%lash --keep --check 'total > 0'\nSum?", "print(_.text, _.value)")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LASH_NB_STATE_DIR", str(place / "state"))
        result = run_notebook(path, place / "out.ipynb", model="scripted:s.json")
        assert result.error == ""
        assert texts(result.out)[-1] == "It is 6. None\n"
        again = run_notebook(path, place / "again.ipynb", kept="frozen")
        assert again.error == ""
    return place


@pytest.fixture
def notebook(once: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that was run once, with a model that is gone since."""
    monkeypatch.setenv("LASH_NB_STATE_DIR", str(tmp_path / "state"))
    for name in ("n.txt", "in.ipynb", "out.ipynb"):
        shutil.copy(once / name, tmp_path)
    (code,) = carried_kept(read(tmp_path / "out.ipynb").metadata.lash_nb)
    KeptStore(tmp_path / "state").keep(code, place=str(tmp_path / "in.ipynb"))
    return tmp_path / "in.ipynb"


def test_it_runs_again_without_a_model(notebook: Path) -> None:
    result = run_notebook(notebook, kept="frozen")
    assert result.error == ""
    assert texts(result.out)[-1] == "It is 6. None\n"
    (notebook.parent / "n.txt").write_text("1 2 4")
    changed = run_notebook(notebook)
    assert changed.error == ""
    assert "not said again" in texts(changed.out)[-1]


def test_it_runs_without_the_key_of_its_model(notebook: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody asks that model."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    result = run_notebook(notebook, model="openai:m@http://127.0.0.1:9/v1")
    assert result.error == ""


def test_frozen_code_that_fails_is_not_repaired(notebook: Path) -> None:
    (notebook.parent / "n.txt").unlink()
    result = run_notebook(notebook, kept="frozen")
    assert result.status is RunStatus.FAILED
    assert "--frozen" in result.error


def test_code_of_another_machine_runs_when_somebody_agrees(
    notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.ipynb"
    monkeypatch.setenv("LASH_NB_STATE_DIR", str(tmp_path / "elsewhere"))
    refused = run_notebook(out, tmp_path / "refused.ipynb", kept="frozen")
    assert refused.status is not RunStatus.DONE
    assert "it is not run" in "".join(texts(refused.out))
    agreed = run_notebook(out, tmp_path / "agreed.ipynb", kept="frozen", trust_kept=True)
    assert agreed.error == ""
    again = run_notebook(out, tmp_path / "again.ipynb", kept="frozen")
    assert again.error == ""


EVIL = KeptCode(request="Sum?", cells=("open('made', 'w').close()\ntotal = 1\ntotal",), answer="1", at="2099-01-01")
FORGED: dict[str, dict[str, Any]] = {
    "by somebody else": {},
    "changed": {"cells": [["open('made', 'w').close()\n", "total = 2"]]},
    "with our hash": {"sha256": "ours"},
    "of a newer version": {"version": 2},
    "with no hash": {"sha256": None},
}


def forged(out: Path, **changes: Any) -> Path:
    """The notebook with other code for its cell."""
    document = json.loads(out.read_text())
    carried = document["metadata"]["lash_nb"]["kept"]
    ours = {"sha256": carried[0]["sha256"]} if changes.get("sha256") == "ours" else {}
    document["metadata"]["lash_nb"]["kept"] = [*carried, {**EVIL.to_json(), **changes, **ours}]
    out.write_text(json.dumps(document))
    return out


@pytest.mark.parametrize("changes", FORGED.values(), ids=FORGED)
def test_forged_code_does_not_run(changes: dict[str, Any], notebook: Path, tmp_path: Path) -> None:
    """It is newer, and nobody here has kept it: what this user has kept runs instead."""
    out = forged(tmp_path / "out.ipynb", **changes)
    result = run_notebook(out, tmp_path / "forged.ipynb", approve="all", kept="frozen")
    assert texts(result.out)[-1] == "It is 6. None\n"
    assert not (tmp_path / "made").exists()
    assert ("it is not run" in texts(result.out)[1]) == (not changes)


def test_forged_code_runs_when_it_is_trusted_but_not_when_it_is_damaged(notebook: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ipynb"
    whole = out.read_text()
    run_notebook(forged(out, **FORGED["changed"]), tmp_path / "changed.ipynb", approve="all", trust_kept=True)
    assert not (tmp_path / "made").exists()
    out.write_text(whole)
    run_notebook(forged(out), tmp_path / "trusted.ipynb", approve="all", trust_kept=True)
    assert (tmp_path / "made").exists()


# -- who is asked ------------------------------------------------------------------------------------------------------


def test_a_model_is_asked_anew_when_that_is_wanted(notebook: Path, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps([cell("total = 60\ntotal"), "It is 60."]))
    kept = run_notebook(notebook, model="scripted:s.json")
    assert texts(kept.out)[-1] == "It is 6. None\n"
    anew = run_notebook(notebook, model="scripted:s.json", kept="refresh")
    assert texts(anew.out)[-1] == "It is 60. None\n"
    again = run_notebook(notebook, kept="frozen")
    assert texts(again.out)[-1] == "It is 60. None\n"


def test_what_was_asked_anew_in_vain_leaves_what_was_kept(notebook: Path) -> None:
    (notebook.parent / "s.json").write_text(json.dumps([cell("total = 1 / 0")]))
    anew = run_notebook(notebook, model="scripted:s.json", kept="refresh")
    assert anew.status is RunStatus.FAILED
    again = run_notebook(notebook, kept="frozen")
    assert texts(again.out)[-1] == "It is 6. None\n"


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """The name of a model on loopback, and what was asked of it; it never answers well."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_error(400)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: `asked` has it."""

    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"openai:m@http://127.0.0.1:{server.server_port}/v1", asked
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("recorded", [False, True])
def test_no_real_model_is_asked_by_a_frozen_run(
    recorded: bool, notebook: Path, server: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether or not what was recorded does: the data has changed, so the kept code does not."""
    monkeypatch.setenv("OPENAI_API_KEY", "test")
    name, asked = server
    (notebook.parent / "n.txt").unlink()
    if recorded:
        (notebook.parent / "s.json").write_text(json.dumps([cell("total = 5"), "It is 5."]))
        made = run_notebook(notebook, model="scripted:s.json", record=True, kept="refresh")
        assert made.error == ""
        (notebook.parent / "state").rename(notebook.parent / "forgotten")
    frozen = run_notebook(notebook, model=name, kept="frozen")
    assert asked == []
    assert (frozen.error == "") == recorded
    assert run_notebook(notebook, model=name, kept=None if not recorded else "refresh").error
    assert asked != []  # it would have heard


def test_a_frozen_run_repairs_by_what_was_recorded(notebook: Path) -> None:
    """Recorded answers are no model: what they repaired once they repair again."""
    (notebook.parent / "n.txt").write_text("1 2 three")
    (notebook.parent / "s.json").write_text(json.dumps([cell("total = 6"), "It is 6, in words."]))
    before = shutil.copytree(notebook.parent / "state", notebook.parent / "before")
    repaired = run_notebook(notebook, model="scripted:s.json", record=True)
    assert texts(repaired.out)[-1] == "It is 6, in words. None\n"
    shutil.rmtree(notebook.parent / "state")
    before.rename(notebook.parent / "state")
    frozen = run_notebook(notebook, kept="frozen")
    assert (frozen.error, texts(frozen.out)[-1]) == ("", "It is 6, in words. None\n")


# -- which cell it is for ----------------------------------------------------------------------------------------------


def test_two_cells_with_the_same_request_keep_apart(notebook: Path, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps([cell("a = 1\na"), "One.", cell("a = a + 1\na"), "Two."]))
    asking = "%%lash --keep\nAdd one."
    path = write(tmp_path, "%load_ext lash_nb", asking, "print(_.text)", asking, "print(_.text)", name="two.ipynb")
    run_notebook(path, model="scripted:s.json")
    again = run_notebook(path, kept="frozen")
    assert again.error == ""
    assert [texts(again.out)[at] for at in (2, 4)] == ["One.\n", "Two.\n"]
    kept = read(again.out).metadata.lash_nb.kept
    cells = [one for one in read(again.out).cells if one.source == asking]
    assert [(one.cell, one.cells) for one in kept] == [
        (cells[0].id, [["a = 1\n", "a"]]),
        (cells[1].id, [["a = a + 1\n", "a"]]),
    ]


def test_a_notebook_without_cell_ids(notebook: Path, tmp_path: Path) -> None:
    """Its cells are told apart by where they stand."""
    document = json.loads(notebook.read_text())
    for one in document["cells"]:
        del one["id"]
    old = tmp_path / "old.ipynb"
    old.write_text(json.dumps({**document, "nbformat_minor": 4}))
    (tmp_path / "s.json").write_text(json.dumps(FIRST))
    run_notebook(old, model="scripted:s.json")
    again = run_notebook(old, kept="frozen")
    assert (again.error, texts(again.out)[-1]) == ("", "It is 6. None\n")
    assert [one.get("cell") for one in read(again.out).metadata.lash_nb.kept] == ["cell 2"]


def test_a_renamed_notebook_has_its_code(notebook: Path, tmp_path: Path) -> None:
    """By its own copy, and by the ids of its cells; one that was made anew has none."""
    moved = (tmp_path / "out.ipynb").rename(tmp_path / "moved.ipynb")
    result = run_notebook(moved, kept="frozen")
    assert (result.error, texts(result.out)[-1]) == ("", "It is 6. None\n")
    plain = notebook.rename(tmp_path / "plain.ipynb")
    assert run_notebook(plain, kept="frozen").status is RunStatus.DONE
    document = json.loads(plain.read_text())
    for number, one in enumerate(document["cells"]):
        one["id"] = f"other-{number}"
    (tmp_path / "anew.ipynb").write_text(json.dumps(document))
    assert run_notebook(tmp_path / "anew.ipynb", kept="frozen").status is not RunStatus.DONE


def test_papermill(notebook: Path, tmp_path: Path) -> None:
    papermill: Any = importlib.import_module("papermill")
    for source in ("in.ipynb", "out.ipynb"):
        out = tmp_path / f"papermill-{source}"
        options = {"engine_name": "lash_nb", "progress_bar": False, "kernel_name": "python3", "cwd": str(tmp_path)}
        papermill.execute_notebook(str(tmp_path / source), str(out), **options)
        assert texts(out)[-1] == "It is 6. None\n"
        assert [list(one.cells) for one in read(out).metadata.lash_nb.kept] == [
            [["total = sum(map(int, open('n.txt').read().split()))\n", "total"]]
        ]


# -- what becomes of it in the file ------------------------------------------------------------------------------------


def test_it_is_verified_embedded_and_stripped_with_the_rest(
    notebook: Path, once: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.ipynb"
    kept = json.loads(out.read_text())["metadata"]["lash_nb"]["kept"]
    assert cli.main(["verify", str(out)]) == 0
    assert cli.main(["embed", str(out), "--state-dir", str(once / "state")]) == 0
    assert json.loads(out.read_text())["metadata"]["lash_nb"]["kept"] == kept
    assert cli.main(["verify", str(out)]) == 0
    assert cli.main(["strip", str(out)]) == 0
    left = json.loads(out.read_text())
    assert "lash_nb" not in left["metadata"]
    assert "sha256" not in out.read_text()
    capsys.readouterr()


@pytest.mark.timeout(240)
def test_four_nights(tmp_path: Path) -> None:
    """The long version is `python -m tests.faults.nights`."""
    found = run(tmp_path, nights=4, breaks=Breaks(value=3))
    assert found.told == []
    assert found.as_json() == {
        "nights": 4,
        "breaks": 1,
        "model_calls": 7,
        "model_calls_first": 5,
        "model_calls_elsewhere": 0,
        "repairs_kept": 1,
        "checks_held": 12,
        "wrong": 0,
    }
