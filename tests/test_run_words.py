"""What `lash-nb run` says of decisions that nobody is there to make: which mode is used, what was refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lash_nb.cli import main
from lash_nb.deciding import tightened
from lash_nb.errors import InputError
from lash_nb.machine.approvals import ApprovalMode, EffectKind, Wish
from lash_nb.run_results import RefusedEffect
from lash_nb.run_words import say_refused
from tests.line_notebooks import write

TRIES = """<lash-cell>
import subprocess
for word in ("one", "one", "two"):
    try:
        print(subprocess.run(["echo", word], capture_output=True).stdout)
    except PermissionError:
        print("not", word)
</lash-cell>"""
ANSWERS = {"turns": {"1": [TRIES, "Done."], "2": ["Nothing to do."]}}
TURNS = ("%load_ext lash_nb\n%lash model scripted:script.json", "%%lash\nGo.", "%%lash\nAnd now?")


@pytest.fixture
def notebook(tmp_path: Path) -> Path:
    (tmp_path / "script.json").write_text(json.dumps(ANSWERS))
    return write(tmp_path, *TURNS)


class Run:
    """`lash-nb run` of a notebook, to its end."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, notebook: Path, *more: str, code: int) -> tuple[Any, list[str]]:
        assert main(["run", str(notebook), "--json", *more]) == code
        printed, told = self._capsys.readouterr()
        return json.loads(printed), told.splitlines()


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    return Run(capsys)


def test_refused_effects_are_named(notebook: Path, run: Run) -> None:
    summary, told = run(notebook, code=0)
    assert told[-1] == "lash-nb: 2 effects were refused: start echo one, start echo two; `--approve all` allows them"
    turn = summary["turns"][0]["id"]
    assert summary["refused"] == [
        {"turn": turn, "kind": "start", "target": "echo one"},
        {"turn": turn, "kind": "start", "target": "echo two"},
    ]


def test_where_nothing_is_refused_nothing_is_said(notebook: Path, run: Run) -> None:
    summary, told = run(notebook, "--approve", "all", code=0)
    assert summary["refused"] == []
    assert told[-1] == f"lash-nb: done; {notebook.with_suffix('.out.ipynb')}"
    assert told[0].startswith("[1/3]")


def test_a_mode_that_the_environment_tightens_is_said(
    notebook: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASH_NB_APPROVE", "effects")
    summary, told = run(notebook, "--approve", "all", code=0)
    said = "approve effects, not all: LASH_NB_APPROVE=effects in the environment allows nothing looser"
    assert told[0] == f"lash-nb: {said}"
    assert told[-1].endswith(f"start echo two; `--approve all` would not help ({said})")
    assert len(summary["refused"]) == 2


def test_a_mode_of_the_environment_that_is_none_stops_the_run_before_it_begins(
    notebook: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASH_NB_APPROVE", "sometimes")
    assert main(["run", str(notebook)]) == 2
    assert "there is no way to approve called 'sometimes'" in capsys.readouterr().err
    assert not notebook.with_suffix(".out.ipynb").exists()


@pytest.mark.parametrize(
    ("wanted", "pinned", "said"),
    [
        ("all", "", ""),
        ("all", "all", ""),
        ("plan", "every", ""),
        ("every", "every", ""),
        ("effects", "plan", "approve plan, not effects: LASH_NB_APPROVE=plan"),
        (None, "effects", ""),
        (None, "every", "approve every at least: LASH_NB_APPROVE=every"),
    ],
)
def test_what_is_said_of_a_mode(wanted: str | None, pinned: str, said: str) -> None:
    told = tightened(None if wanted is None else ApprovalMode(wanted), env={"LASH_NB_APPROVE": pinned})
    assert told.startswith(said)
    assert bool(told) == bool(said)


def test_a_mode_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="never"):
        tightened(None, env={"LASH_NB_APPROVE": "never"})


def test_what_was_refused_is_told_on_one_line_whatever_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    long = Wish(kind=EffectKind.PROCESS, target="sh -c '\x1b[2J\n" + "x" * 5_000)
    others = [Wish(kind=EffectKind.WRITE, target=f"/data/{number}") for number in range(6)]
    say_refused([RefusedEffect(turn=f"s.{number}", wish=wish) for number, wish in enumerate([long, *others], 1)])
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "\x1b" not in told
    assert told.startswith("lash-nb: 7 effects were refused: start sh -c '\\x1b[2J xxx")
    assert "write /data/3 (turn 5), and 2 more; `--approve all` allows them" in told
    assert len(told) < 600
    say_refused([])
    assert capsys.readouterr().err == ""
