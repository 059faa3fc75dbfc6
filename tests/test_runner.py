"""Runs of small notebooks in real kernels: what is saved when, what ends a run, and what that is called."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import nbformat
import pytest

from lash_nb.errors import CassetteError, InputError, KernelStartError, NotebookError, UnknownModelError
from lash_nb.machine.effects import Emit
from lash_nb.machine.events import TurnOutcomeEvent
from lash_nb.machine.outcomes import Stopped, SubmittedError, TurnStop, TurnStopReason
from lash_nb.machine.state import Finished, TurnCheckpoint
from lash_nb.runner import CellReport, CellState, RunStatus, run_notebook, run_notebook_async
from lash_nb.stores.envelopes import open_checkpoint
from lash_nb.stores.notebook import read_block
from tests.line_notebooks import read, texts

v4: Any = nbformat.v4
CHECKPOINTS = Path(__file__).parent / "conformance" / "raw_checkpoints.jsonl"

COPIES = f"""
import asyncio, json, threading, time
from lash_nb.stores.copies import NotebookLine
from lash_nb.stores.envelopes import make_envelope
from lash_nb.stores.notebook import make_block
STORED = open({str(CHECKPOINTS)!r}, encoding="utf-8").read().splitlines()
copies = NotebookLine(on_here=lambda holder: None, expected=True)
copies.open()
def envelope(turn, seq, text=STORED[0]):
    return make_envelope(text, session="s", turn=turn, seq=seq, parent=None, saved_at="now", engine="test")
def block(head=None, turns=()):
    return make_block(session="s", head=head, turns=turns)
"""
"""A kernel that has copies made; what `%lash` does during a turn."""


def write(place: Path, *cells: Any, name: str = "in.ipynb", **metadata: Any) -> Path:
    """A notebook of these cells (code, or cells made by hand)."""
    made = [v4.new_code_cell(textwrap.dedent(cell)) if isinstance(cell, str) else cell for cell in cells]
    path = place / name
    path.write_text(v4.writes(v4.new_notebook(cells=made, metadata=metadata)))
    return path


def tagged(source: str, *tags: str) -> Any:
    return v4.new_code_cell(source, metadata={"tags": list(tags)})


def kernels() -> set[str]:
    """Kernel processes that this process has started."""
    found = subprocess.run(
        ["pgrep", "-P", str(os.getpid()), "-f", "ipykernel_launcher"], capture_output=True, text=True
    )
    return set(found.stdout.split())


@pytest.fixture(autouse=True)
def _no_kernel_is_left() -> Iterator[None]:
    before = kernels()
    yield
    assert kernels() <= before


# ---------------------------------------------------------------------------------------------------------- whole runs


def test_a_run(tmp_path: Path) -> None:
    """Cells in order, in the notebook's directory, with what lash_nb in the kernel has to know; IN stays as it was."""
    path = write(
        tmp_path,
        tagged("x = 1", "parameters"),
        "import os; print(x, os.getcwd())",
        v4.new_markdown_cell("text"),
        "print(os.environ['LASH_NB_RUN_OPTIONS'])",
        tagged("1/0", "raises-exception"),
        tagged("raise SystemExit('not run')", "skip-execution"),
        "",
        "print(2); 3",
        lash_nb={"stale": True},
    )
    before = path.read_bytes()
    told: list[CellReport] = []
    result = run_notebook(path, parameters={"x": [1, "a"]}, on_progress=told.append, record=True)
    assert (result.status, result.exit_code, result.error) == (RunStatus.DONE, 0, "")
    assert result.out == tmp_path / "in.out.ipynb"
    assert path.read_bytes() == before
    saved = read(result.out)
    assert "lash_nb" not in saved.metadata
    assert saved.metadata.language_info.name == "python"
    _, injected, printed, options, failed, skipped, _, last = (c for c in saved.cells if c.cell_type == "code")
    assert injected.source == "# Parameters\nx = [1, 'a']"
    assert printed.outputs[0].text == f"[1, 'a'] {tmp_path}\n"
    assert failed.outputs[0].ename == "ZeroDivisionError"
    assert skipped.execution_count is None
    assert (last.outputs[0].text, last.outputs[1].data["text/plain"]) == ("2\n", "3")
    assert json.loads(options.outputs[0].text) == {
        "model": None,
        "record": str(tmp_path / "in.cassette.jsonl"),
        "replay": None,
        "notebook": str(path),
        "headless": True,
        "state_dir": os.environ["LASH_NB_STATE_DIR"],
    }
    assert [(report.number, report.total, report.state) for report in told] == [
        *((n, 7, state) for n in (1, 2, 3, 4) for state in (CellState.RUNNING, CellState.DONE)),
        (5, 7, CellState.RUNNING),
        (5, 7, CellState.FAILED_AS_TAGGED),
        (6, 7, CellState.SKIPPED),
        (7, 7, CellState.RUNNING),
        (7, 7, CellState.DONE),
    ]
    assert result.cells == tuple(report for report in told if report.state is not CellState.RUNNING)


def test_a_cell_that_fails_ends_the_run(tmp_path: Path) -> None:
    path = write(
        tmp_path, "print('before'); print('more', end=''); raise ValueError('first line\\nsecond')", "print(2)"
    )
    result = run_notebook(path, tmp_path / "out.ipynb")
    assert (result.status, result.exit_code) == (RunStatus.FAILED, 1)
    assert result.error == "cell 1 of 2: ValueError: first line"
    assert [output.output_type for output in read(result.out).cells[0].outputs] == ["stream", "error"]
    assert texts(result.out) == ["before\nmore", ""]


def test_the_kernel_dies(tmp_path: Path) -> None:
    path = write(tmp_path, "print('before', flush=True)", "import os; os.kill(os.getpid(), 9)")
    result = run_notebook(path)
    assert (result.exit_code, result.error) == (1, "cell 2 of 2: the notebook's kernel died")
    assert texts(result.out)[0] == "before\n"


def test_a_cell_that_takes_too_long(tmp_path: Path) -> None:
    path = write(tmp_path, "print('before', flush=True); import time; time.sleep(60)")
    result = run_notebook(path, timeout=1)
    assert (result.exit_code, result.error) == (3, "cell 1 of 1: it did not end within 1 s")
    assert [output.output_type for output in read(result.out).cells[0].outputs] == ["stream", "error"]


async def test_a_run_where_a_loop_is_running(tmp_path: Path) -> None:
    path = write(tmp_path, "print(1)")
    assert run_notebook(path).status is RunStatus.DONE
    assert (await run_notebook_async(path, tmp_path / "other.ipynb")).status is RunStatus.DONE


async def test_a_run_that_is_cancelled(tmp_path: Path) -> None:
    path = write(tmp_path, "import time\ntry:\n    time.sleep(60)\nfinally:\n    print('cleaned up')")
    running = asyncio.Event()
    task = asyncio.ensure_future(run_notebook_async(path, on_progress=lambda report: running.set()))
    await running.wait()
    await asyncio.sleep(0.5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert texts(tmp_path / "in.out.ipynb") == ["cleaned up\n"]


# ------------------------------------------------------------------------------------------------------------ copies


@pytest.mark.parametrize("where", ["main", "thread"])
def test_copies_are_made_while_the_cell_runs(tmp_path: Path, where: str) -> None:
    """From the main thread and from another; acknowledged while the cell awaits, when the file holds them."""
    turn = f"""
    copies.begin()
    numbers = []
    def tell(head, turns=()):
        numbers.append(copies.set(block(head, turns)))
    def work():
        tell(envelope(1, 0))
        tell(envelope(1, 1))
        tell(None, [envelope(1, 2)])
    if {where!r} == "main":
        work()
    else:
        thread = threading.Thread(target=work)
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0.02)
    for _ in range(500):
        if copies.acknowledged(numbers[-1]):
            break
        await asyncio.sleep(0.02)
    saved = json.load(open("in.out.ipynb"))["metadata"]["lash_nb"]
    print([copies.acknowledged(n) for n in numbers], copies.held, [t["seq"] for t in saved["turns"]])
    """
    refused = """
    number = copies.set({"version": 1})
    for _ in range(500):
        if copies.refusal(number):
            break
        await asyncio.sleep(0.02)
    print(copies.refusal(number), copies.acknowledged(number))
    copies.close()
    print(copies.set(block()), copies.held)
    """
    result = run_notebook(write(tmp_path, COPIES, turn, "copies.begin()" + textwrap.dedent(refused)))
    assert result.error == ""
    assert texts(result.out)[1:] == [
        "[True, True, True] True [2]\n",
        "metadata.lash_nb.session is None, not the name of a session False\nNone False\n",
    ]
    block = read_block(read(result.out).metadata)
    assert block is not None
    assert block.head is None
    assert open_checkpoint(block.turns[0]).to_text() == CHECKPOINTS.read_text(encoding="utf-8").splitlines()[0]
    assert [turn.id for turn in result.turns] == ["s.1"]
    assert result.cells[1].steps == 1


def play(path: Path, *arguments: str) -> subprocess.Popen[str]:
    """A run in a process of its own, as `lash-nb run`."""
    code = "import sys; from lash_nb.runner import run_notebook; sys.exit(run_notebook(sys.argv[1]).exit_code)"
    return subprocess.Popen([sys.executable, "-c", code, str(path), *arguments], stderr=subprocess.PIPE, text=True)


def wait_for(path: Path) -> None:
    """Until the cell has said that it is where it shall be hit."""
    for _ in range(400):
        if path.exists() and path.stat().st_size:  # it is made before it is written
            return
        time.sleep(0.05)
    raise AssertionError(f"{path} did not appear")


def ended(path: Path) -> bool:
    """Whether the process whose id is in the file is gone, or goes within a while."""
    pid = int(path.read_text())
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


MIDWAY = """
import os, pathlib
copies.begin()
number = copies.set(block(envelope(2, 7), [envelope(1, 3)]))
try:
    while True:
        await asyncio.sleep(0.05)
        if copies.acknowledged(number):
            pathlib.Path("kernel").write_text(str(os.getpid()))
finally:
    copies.set(block(None, [envelope(1, 3), envelope(2, 8)]))
"""


def test_a_run_that_is_killed_in_mid_turn_leaves_its_head(tmp_path: Path) -> None:
    run = play(write(tmp_path, COPIES, MIDWAY))
    wait_for(tmp_path / "kernel")
    run.kill()
    run.communicate()
    saved = read(tmp_path / "in.out.ipynb")
    block = read_block(saved.metadata)
    assert block is not None
    assert block.head is not None
    assert (block.head["seq"], [turn["seq"] for turn in block.turns]) == (7, [3])
    open_checkpoint(block.head)
    assert ended(tmp_path / "kernel")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_saves_what_was_done(tmp_path: Path, number: signal.Signals) -> None:
    run = play(write(tmp_path, COPIES, MIDWAY, "print('not run')"))
    wait_for(tmp_path / "kernel")
    run.send_signal(number)
    _, said = run.communicate()
    assert (run.returncode, said) == (5, "")
    block = read_block(read(tmp_path / "in.out.ipynb").metadata)
    assert block is not None
    assert (block.head, [turn["seq"] for turn in block.turns]) == (None, [3, 8])
    assert texts(tmp_path / "in.out.ipynb")[2] == ""
    assert ended(tmp_path / "kernel")


# --------------------------------------------------------------------------------------------- how a turn's end is told


def stopped_turn(stop: TurnStop) -> str:
    """A turn that ended so, as it is stored."""
    stored = TurnCheckpoint.from_text(CHECKPOINTS.read_text(encoding="utf-8").splitlines()[0])
    told = Emit(event=TurnOutcomeEvent(outcome=Stopped(stop=stop)))
    return replace(stored, state=Finished(), pending_effects=(told,)).to_text()


@pytest.mark.parametrize(
    ("stop", "error", "status"),
    [
        (TurnStopReason.MAX_TURNS, "TurnFailed", RunStatus.BOUND),
        (TurnStopReason.CANCELLED, "TurnFailed", RunStatus.STOPPED),
        (SubmittedError(value={"a": 1}), "TurnFailed", RunStatus.FAILED),
        (TurnStopReason.PROVIDER_ERROR, "CassetteError", RunStatus.BAD_INPUT),
    ],
)
def test_why_a_request_failed(tmp_path: Path, stop: TurnStop, error: str, status: RunStatus) -> None:
    cell = f"""
    copies.begin()
    copies.set(block(None, [envelope(1, 1, {stopped_turn(stop)!r})]))
    import lash_nb.errors
    raise lash_nb.errors.{error}("the reason")
    """
    result = run_notebook(write(tmp_path, COPIES, cell))
    assert (result.status, result.error) == (status, "cell 2 of 2: the reason")


# ---------------------------------------------------------------------------------------------- found before it is run


def test_what_is_wrong_is_found_beforehand(tmp_path: Path) -> None:
    path = write(tmp_path, tagged("x = 1", "parameters"), "print(x)")
    other = write(tmp_path, "1", name="other.ipynb", kernelspec={"name": "cobol", "display_name": "COBOL"})
    cases: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (NotebookError, "there is no notebook", {"in_": tmp_path / "none.ipynb"}),
        (InputError, "never overwrites its input", {"out": path}),
        (NotebookError, "there is no directory", {"out": tmp_path / "none" / "out.ipynb"}),
        (InputError, "no parameter y; its parameters: x", {"parameters": {"y": 1}}),
        (InputError, "wants the kernel 'cobol', which is not installed; there are: .*python3", {"in_": other}),
        (InputError, "wants the kernel 'fortran'", {"kernel_name": "fortran"}),
        (UnknownModelError, "there is no model 'opnai:x'; did you mean", {"model": "opnai:x"}),
        (CassetteError, "there is no cassette none.cassette.jsonl", {"model": "replay:none.cassette.jsonl"}),
        (InputError, "the script cannot be read", {"model": "scripted:none.json"}),
        (InputError, "one of them", {"model": "openai:gpt-5", "replay": "loose"}),
        (InputError, "one of them", {"record": True, "replay": "loose"}),
        (InputError, "there is no directory", {"cwd": tmp_path / "none"}),
    ]
    for kind, problem, options in cases:
        with pytest.raises(kind, match=problem):
            run_notebook(**{"in_": path, **options})
    assert sorted(os.listdir(tmp_path)) == ["in.ipynb", "other.ipynb"]


def test_a_kernel_that_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = tmp_path / "jupyter" / "kernels" / "broken"
    spec.mkdir(parents=True)
    argv = [sys.executable, "-c", "import sys; sys.exit('ImportError: no such thing')", "{connection_file}"]
    (spec / "kernel.json").write_text(json.dumps({"argv": argv, "display_name": "Broken", "language": "python"}))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    path = write(tmp_path, "1", kernelspec={"name": "broken", "display_name": "Broken"})
    with pytest.raises(KernelStartError, match="'broken' did not start: ImportError: no such thing"):
        run_notebook(path)
    assert not (tmp_path / "in.out.ipynb").exists()


def test_a_new_session_loses_nothing_of_the_one_before(tmp_path: Path) -> None:
    """The outputs of acknowledged turns only refer to the notebook's metadata: all of them are to be found there."""
    (tmp_path / "s.json").write_text('{"turns": {"1": ["One."], "2": ["Two."]}}')
    ask = "%%lash\nWhich?"
    load = "%load_ext lash_nb\n%lash model scripted:s.json"
    out = read(run_notebook(write(tmp_path, load, ask, ask, "%lash new", ask)).out)
    block = read_block(out.metadata)
    assert block is not None
    kept = {envelope["sha256"] for envelope in (*block.earlier, *block.turns)}
    shown = [
        o.metadata["lash_nb"]["sha256"]
        for cell in out.cells
        for o in cell.outputs
        if "lash_nb" in o.get("metadata", {})
    ]
    assert len(shown) == 3
    assert set(shown) == kept


def test_a_request_imports_little_into_the_kernel_of_the_notebook(tmp_path: Path) -> None:
    """Some of it takes seconds, beside JupyterLab; the cell would wait for it."""
    (tmp_path / "s.json").write_text('["Hi."]')
    heavy = ["jsonschema", "mcp", "nbclient", "nbformat", "openai", "pydantic_ai"]
    asked = f"import sys; print([name for name in {heavy} if name in sys.modules])"
    path = write(tmp_path, "%load_ext lash_nb", "%%lash\nHello.", asked)
    result = run_notebook(path, model="scripted:s.json")
    assert texts(result.out)[-1] == "[]\n"
