"""The notebooks that are answered from a cassette: they run as they are, and again where no model may be asked."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from lash_nb.runner import RunResult, run_notebook
from tests.line_notebooks import read

ROOT = Path(__file__).resolve().parent.parent
TUTORIALS = ("01_quickstart", "03_kept_turns", "04_fix_a_cell", "05_typed_results", "06_tools")

pytestmark = pytest.mark.timeout(300)

_WHO = re.compile(r"^\[done · (\d+ cells?) · [^\]]*\]$", re.MULTILINE)
_KEPT = re.compile(r"^(?:kept: |the outputs are those of ).*\n\n", re.MULTILINE)


def run(path: Path, **options: Any) -> RunResult:
    result = run_notebook(path, **options)
    assert (result.status, result.error) == ("done", ""), path
    return result


def shown(path: Path) -> list[list[str]]:
    """What each cell shows as text; but not who gave the code, and that it was kept."""
    return [[_plain(output) for output in cell.outputs] for cell in read(path).cells if cell.cell_type == "code"]


def _plain(output: Any) -> str:
    text = output.get("text") or output.get("evalue") or output.get("data", {}).get("text/plain", "")
    return _KEPT.sub("", _WHO.sub(r"[done · \1]", text))


@pytest.mark.parametrize("name", TUTORIALS)
def test_a_tutorial_runs_and_runs_again_without_a_model(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "GEMINI_API_KEY", "GOOGLE_API_KEY", "LASH_NB_MODEL"):
        monkeypatch.delenv(variable, raising=False)
    shutil.copytree(ROOT / "notebooks", tmp_path / "n")
    path = tmp_path / "n" / f"{name}.ipynb"
    assert all(not cell.get("outputs") for cell in read(path).cells)
    first = shown(run(path).out)
    assert shown(run(path, kept="frozen").out) == first
    # The first cell says who was chosen by whom.
    assert shown(run(path, replay="strict", kept="refresh").out)[1:] == first[1:]
