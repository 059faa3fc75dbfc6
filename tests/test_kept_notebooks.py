"""Notebooks whose cells keep their code, run for real: what answers, what is trusted, and a few nights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lash_nb.runner import RunStatus, run_notebook
from tests.faults.nights import Breaks, run
from tests.line_notebooks import read, texts, write

FIRST = ["<lash-cell>\ntotal = sum(map(int, open('n.txt').read().split()))\ntotal\n</lash-cell>", "It is 6."]


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """One that was run once, with a model that is gone since."""
    monkeypatch.setenv("LASH_NB_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "s.json").write_text(json.dumps(FIRST))
    (tmp_path / "n.txt").write_text("1 2 3")
    path = write(tmp_path, "%load_ext lash_nb", "%%lash --keep --check 'total > 0'\nSum?", "print(_.text, _.value)")
    result = run_notebook(path, tmp_path / "out.ipynb", model="scripted:s.json")
    assert result.error == ""
    assert texts(result.out)[-1] == "It is 6. None\n"
    (tmp_path / "s.json").unlink()
    return path


def test_it_runs_again_without_a_model(notebook: Path) -> None:
    result = run_notebook(notebook, kept="frozen")
    assert result.error == ""
    assert texts(result.out)[-1] == "It is 6. None\n"
    (notebook.parent / "n.txt").write_text("1 2 4")
    changed = run_notebook(notebook)
    assert changed.error == ""
    assert "The results are not those of then" in texts(changed.out)[-1]


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


def test_forged_code_does_not_run(notebook: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.ipynb"
    out.write_text(out.read_text().replace("open('n.txt')", "open('m.txt')"))
    (tmp_path / "m.txt").write_text("100")
    result = run_notebook(out, tmp_path / "forged.ipynb", kept="frozen")
    assert "100" not in "".join(texts(result.out))
    assert "lash_nb" in read(out).metadata


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
