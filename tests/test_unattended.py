"""Where the copies of turns are when no frontend is there: nbclient, nbconvert, papermill, our engine, our own runs."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nbclient import NotebookClient

from lash_nb.machine.state import WaitingExec
from lash_nb.runner import run_notebook
from lash_nb.stores.envelopes import checkpoint_text, open_checkpoint, read_envelope
from lash_nb.stores.notebook import interrupted_turn, read_block, verify_chain
from tests.line_notebooks import read, texts, v4, write
from tests.notebook_kernel import is_gone, wait_until_gone

PYTHON: dict[str, Any] = {
    "kernelspec": {"name": "python3", "display_name": "Python 3"},
    "language_info": {"name": "python"},
}
ANSWERS = {"turns": {"1": ["I look.\n<lash-cell>\nprint(6 * 7)\n</lash-cell>", "It is 42."], "2": ["As I said: 42."]}}
FAILING = {"turns": {**ANSWERS["turns"], "2": ["Once more.\n<lash-cell>\nprint(1)\n</lash-cell>"] * 2}}
TURNS = ("%load_ext lash_nb", "%lash model scripted:script.json", "%%lash\nSix times seven?", "%%lash\nAnd again?")


def asking(place: Path, *cells: Any, answers: Any = ANSWERS) -> Path:
    (place / "script.json").write_text(json.dumps(answers))
    return write(place, *(cells or TURNS), **PYTHON)


def finished(*command: str | Path, cwd: Path) -> str:
    """What a command wrote on its error stream."""
    done = subprocess.run([sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


def of_outputs(notebook: Any) -> list[Any]:
    """What outputs carry of turns, in order."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    return [output.metadata.lash_nb for output in outputs if "lash_nb" in output.get("metadata", {})]


def check_outputs_hold_the_turns(notebook: Any) -> None:
    """Each turn's last output has all of it, whole and chained; the notebook itself has nothing."""
    assert "lash_nb" not in notebook.metadata
    first, second = of_outputs(notebook)
    for envelope, number in ((first, 1), (second, 2)):
        assert read_envelope(envelope)["turn"] == number
        assert "ref" not in envelope
        assert "42" in checkpoint_text(envelope)
        open_checkpoint(envelope)
    assert (first["parent"], second["parent"]) == (None, first["sha256"])
    assert first["session"] == second["session"]
    assert "Six times seven?" in checkpoint_text(first)
    assert "And again?" not in checkpoint_text(first)
    assert "And again?" in checkpoint_text(second)


def check_block_holds_the_turns(notebook: Any) -> None:
    """The notebook has both, whole and chained; their outputs only say which they are."""
    block = read_block(notebook.metadata)
    assert block is not None
    verify_chain(block)
    assert (block.head, [turn["turn"] for turn in block.turns]) == (None, [1, 2])
    assert [sorted(copy) for copy in of_outputs(notebook)] == [["session", "sha256", "turn"]] * 2
    assert [dict(copy) for copy in of_outputs(notebook)] == [
        {name: turn[name] for name in ("session", "turn", "sha256")} for turn in block.turns
    ]
    assert "And again?" in checkpoint_text(block.turns[1])


# ------------------------------------------------------------------------------------------- those that know nothing


def test_nbclient(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    notebook = read(asking(tmp_path))
    log = logging.getLogger("test of nbclient")
    with caplog.at_level(logging.WARNING):
        NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}}, log=log).execute()
    assert [record.getMessage() for record in caplog.records] == []
    check_outputs_hold_the_turns(notebook)


def test_nbconvert(tmp_path: Path) -> None:
    asking(tmp_path)
    command = ("-m", "nbconvert", "--to", "notebook", "--execute", "in.ipynb", "--output", "out.ipynb")
    said = finished(*command, cwd=tmp_path)
    assert not re.search(r"\bcomm\b|No handler|Traceback", said), said
    check_outputs_hold_the_turns(read(tmp_path / "out.ipynb"))


def papermill(*options: str) -> tuple[str, ...]:
    return ("-m", "papermill", "in.ipynb", "out.ipynb", "--no-progress-bar", *options)


def test_papermill(tmp_path: Path) -> None:
    asking(tmp_path)
    said = finished(*papermill(), cwd=tmp_path)
    assert not re.search(r"\bcomm\b|No handler|Traceback", said), said
    check_outputs_hold_the_turns(read(tmp_path / "out.ipynb"))


# ------------------------------------------------------------------------------------------- those that hold it for us


def test_a_run(tmp_path: Path) -> None:
    result = run_notebook(asking(tmp_path), tmp_path / "out.ipynb")
    assert result.error == ""
    check_block_holds_the_turns(read(tmp_path / "out.ipynb"))


def test_papermill_with_our_engine(tmp_path: Path) -> None:
    asking(tmp_path)
    said = finished(*papermill("--engine", "lash_nb"), cwd=tmp_path)
    assert not re.search(r"\bcomm\b|No handler|Traceback", said), said
    notebook = read(tmp_path / "out.ipynb")
    check_block_holds_the_turns(notebook)
    assert [cell.metadata.papermill.status for cell in notebook.cells] == ["completed"] * 4


def test_a_cell_that_fails_under_our_engine(tmp_path: Path) -> None:
    """What was done by then is there, and so is the turn that failed."""
    asking(tmp_path, *TURNS[:3], "%%lash --max-steps 1\nAnd again?", "print('not run')", answers=FAILING)
    command = [sys.executable, *papermill("--engine", "lash_nb")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "TurnFailed" in done.stderr
    notebook = read(tmp_path / "out.ipynb")
    block = read_block(notebook.metadata)
    assert block is not None
    verify_chain(block)
    assert (block.head, [turn["turn"] for turn in block.turns]) == (None, [1, 2])
    # papermill puts a cell of its own above the one that failed, and at the top.
    assert [cell.metadata.papermill.status for cell in notebook.cells if "papermill" in cell.metadata] == [
        *("completed",) * 3,
        "failed",
        "pending",
    ]


def test_what_an_earlier_run_left_is_not_this_ones(tmp_path: Path) -> None:
    """Of the input's own block the author's suggestion is kept, in a run and under our engine."""
    path = asking(tmp_path, "print(1)")
    notebook = read(path)
    notebook.metadata.lash_nb = {"version": 1, "session": "old", "head": None, "turns": [], "model": "local"}
    path.write_text(v4.writes(notebook))
    run_notebook(path, tmp_path / "run.ipynb")
    finished(*papermill("--engine", "lash_nb"), cwd=tmp_path)
    for out in ("run.ipynb", "out.ipynb"):
        assert read(tmp_path / out).metadata.lash_nb == {"model": "local"}


def test_our_engine_says_which_notebook_it_is(tmp_path: Path) -> None:
    """From another directory, too: a cassette lies beside the notebook, and the journal goes beside the output."""
    (tmp_path / "elsewhere").mkdir()
    asking(tmp_path, "import os; print(os.environ['LASH_NB_RUN_OPTIONS'], os.getcwd())")
    finished(*papermill("--engine", "lash_nb", "--cwd", "elsewhere"), cwd=tmp_path)
    told, where = texts(tmp_path / "out.ipynb")[0].rsplit(maxsplit=1)
    assert where == str(tmp_path / "elsewhere")
    assert json.loads(told) == {
        "headless": True,
        "notebook": str(tmp_path / "in.ipynb"),
        "state_dir": os.environ["LASH_NB_STATE_DIR"],
    }


def test_our_engine_without_papermill(tmp_path: Path) -> None:
    """The module is importable, and what is called says what to install."""
    code = (
        "import sys; sys.modules['papermill'] = None\n"
        "from lash_nb.papermill_engine import LashEngine\n"
        "try: LashEngine.nb_language(None)\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "MissingExtraError papermill is not installed: pip install 'lash-nb[papermill]'\n"


# ------------------------------------------------------------------------------------------------- killed in mid-turn

ENDLESS = {
    "turns": {
        "1": ["It is 42."],
        "2": [
            "I wait.\n<lash-cell>\nimport os, pathlib, time\npathlib.Path('pid').write_text(str(os.getpid()))\n"
            "time.sleep(600)\n</lash-cell>"
        ],
    }
}


HOST = "import os, pathlib; pathlib.Path('host').write_text(str(os.getpid()))"


@contextmanager
def in_mid_turn(command: list[str], place: Path) -> Iterator[int]:
    """The process group of a runner whose second turn runs a cell; what the test leaves of all that is ended."""
    asking(place, HOST, *TURNS, answers=ENDLESS)
    pid, said = place / "pid", place / "stderr"
    with said.open("w") as errors:
        runner = subprocess.Popen(command, cwd=place, stderr=errors, start_new_session=True)
    try:
        wait_for(lambda: runner.poll() is not None or (pid.exists() and bool(pid.read_text())))
        assert runner.poll() is None, said.read_text()
        yield runner.pid
    finally:
        if runner.poll() is None:
            os.killpg(runner.pid, signal.SIGKILL)
        runner.wait()
        # The notebook's kernel first: it would replace the agent's.
        for left in (place / "host", pid):
            if left.exists() and not is_gone(int(left.read_text())):
                os.kill(int(left.read_text()), signal.SIGKILL)
                wait_until_gone(int(left.read_text()))


def wait_for(condition: Callable[[], bool]) -> None:
    for _ in range(800):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError("it did not happen")


RUNNERS = {
    "run": [sys.executable, "-m", "lash_nb.cli", "run", "in.ipynb", "out.ipynb"],
    "papermill": [sys.executable, *papermill("--engine", "lash_nb")],
}


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_runner_that_is_killed_in_mid_turn(tmp_path: Path, runner: str) -> None:
    """What was last saved has the turn at the effect that was outstanding."""
    out = tmp_path / "out.ipynb"
    with in_mid_turn(RUNNERS[runner], tmp_path) as group:
        wait_for(lambda: interrupted_turn(read(out).metadata) is not None and "I wait." in head_text(out))
        os.killpg(group, signal.SIGKILL)
    metadata = read(out).metadata
    block = read_block(metadata)
    assert block is not None
    assert block.head is not None
    verify_chain(block)
    assert interrupted_turn(metadata) == (block.session, 2)
    assert [turn["turn"] for turn in block.turns] == [1]
    assert isinstance(open_checkpoint(block.head).state, WaitingExec)


def head_text(path: Path) -> str:
    block = read_block(read(path).metadata)
    return checkpoint_text(block.head) if block is not None and block.head is not None else ""
