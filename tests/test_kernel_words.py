"""What `lash-nb run` is told of the agent's kernel: what is wrong is found before anything is run, the rest arrives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lash_nb.cli import main
from lash_nb.kernels.resources import ResourceLimits
from lash_nb.kernels.settings import KernelSettings
from lash_nb.run_settings import RUN_OPTIONS, RunSettings

v4: Any = nbformat.v4
SHOW = f"import json, os; print(json.dumps(json.loads(os.environ[{RUN_OPTIONS!r}]).get('kernel')))"


def write(place: Path, *sources: str) -> Path:
    path = place / "in.ipynb"
    path.write_text(v4.writes(v4.new_notebook(cells=[v4.new_code_cell(source) for source in sources])))
    return path


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--memory", "much"], "'much' is no amount of memory: write it as 512M or 4G"),
        (["--memory", "1M"], "the limit of memory: too few for a kernel; give 256 MB or more, or none"),
        (["--processes", "3"], "the limit of processes: too few"),
        (["--open-files", "3"], "the limit of open files: too few"),
        (["--cpus", "0"], "the limit of processors (cpus): too few"),
        (["--cpus", "nan"], "the limit of processors (cpus): too few"),
        (["--cpus", "inf"], "the limit of processors (cpus): give a number, or none, and not inf"),
        (["--cell-seconds", "0"], "give a number over 0"),
        (["--cell-seconds", "inf"], "give a number over 0"),
        (["--pass-env", "A=B"], "'A=B' is none"),
        (["--python", "/nowhere/python"], "there is no Python /nowhere/python"),
    ],
)
def test_bounds_that_are_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["run", str(write(tmp_path, "1")), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "in.out.ipynb").exists()


def test_no_sandbox_without_bubblewrap(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["run", str(write(tmp_path, "1")), "--sandbox"]) == 2
    assert "the sandbox needs bubblewrap, and there is no bwrap on the PATH: install it" in capsys.readouterr().err
    assert not (tmp_path / "in.out.ipynb").exists()


def test_what_is_told_arrives(tmp_path: Path) -> None:
    path = write(tmp_path, SHOW)
    given = ["--memory", "2G", "--cpus", "1.5", "--processes", "100", "--pass-env", "A_TOKEN", "--pass-env", "B"]
    assert main(["run", str(path), *given]) == 0
    out = v4.reads((tmp_path / "in.out.ipynb").read_text())
    assert json.loads(out.cells[0].outputs[0].text) == {
        "memory_bytes": 2147483648,
        "cpus": 1.5,
        "processes": 100,
        "pass_env": ["A_TOKEN", "B"],
    }


def test_a_run_goes_before_the_configuration() -> None:
    told = {RUN_OPTIONS: json.dumps({"kernel": {"processes": 100, "python": "python3.12"}, "cell_seconds": 5})}
    settings = RunSettings.from_env(told)
    assert settings is not None
    assert settings.cell_seconds == 5
    configured = KernelSettings(python="python3.11", resources=ResourceLimits(processes=50, cpus=1.0), spare=True)
    assert settings.kernel_over(configured) == KernelSettings(
        python="python3.12", resources=ResourceLimits(processes=100, cpus=1.0), spare=True
    )
    assert RunSettings().kernel_over(configured) == configured
