"""`%%lash` in a real ipykernel with a real managed kernel: what a frontend gets, what Stop does, what is left."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from lash_nb.kernels.guardian import lives
from lash_nb.machine.state import WaitingExec
from lash_nb.runner import RunStatus, run_notebook
from lash_nb.stores.envelopes import checkpoint_text, open_checkpoint
from lash_nb.stores.notebook import read_block, verify_chain

from .notebook_kernel import Cell, NotebookKernel, notebook_kernel, scripted_notebook, wait_until_gone

LASTS = "<lash-cell>\nprint('begun', flush=True)\nimport time\ntime.sleep(600)\n</lash-cell>"
PLOT = "I draw it.\n<lash-cell>\nimport matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n</lash-cell>"
TURNS = {
    "fine": [
        "I look.\n<lash-cell>\nx = 41\nprint(x)\n</lash-cell>",
        "It is 41.",
        "Still 41.",
        "And 41.",
        "Once more 41.",
    ],
    "lasts": [LASTS, "Afterwards."],
    "plot": [PLOT, "There."],
}


directory, kernel, notebook = scripted_notebook(TURNS)


# -------------------------------------------------------------------------------------------------- a cell that awaits


def test_a_cell_leaves_its_bundle_and_is_a_turn(notebook: NotebookKernel) -> None:
    notebook.model("fine")
    cell = notebook.run("%%lash\nWhat is it?")
    assert not cell.error
    assert not cell.of("execute_result")
    assert "It is 41." in cell.bundle_text
    open_checkpoint(cell.bundles[0]["metadata"]["lash_nb"])
    again = notebook.run("print(_.text); _")
    assert again.text == "It is 41.\n"
    assert "It is 41." in again.displays[0]["data"]["text/plain"]


def test_history_shows_what_was_written(notebook: NotebookKernel) -> None:
    notebook.model("fine")
    notebook.run("%%lash\nWhat is it?")
    assert notebook.run("print(_i)").text == "%%lash\nWhat is it?\n"


def test_comments_may_stand_before_it(notebook: NotebookKernel) -> None:
    notebook.model("fine")
    for code in ("\n# A question.\n\n%%lash\nWhat is it?", "%%time\n# A question.\n%%lash\nAgain?"):
        cell = notebook.run(code)
        assert not cell.error
        assert cell.bundles


def test_only_a_cell_that_is_the_whole_request_awaits(notebook: NotebookKernel) -> None:
    """The others are not touched: a top-level await in them would be a syntax error, or never run."""
    notebook.model("fine")
    assert notebook.run("%%lash -q\nWhat is it?").bundles
    assert notebook.run("print(In[-2])").text.startswith("await ")
    for code in ("%%time\n%%lash -q\nWhat?", "get_ipython().run_cell('%%lash -q\\nWhat?');"):
        cell = notebook.run(code)
        assert not cell.error
        assert cell.bundles, code
    notebook.run("%%capture out\n%%lash -q\nWhat?")
    assert notebook.run("print([list(o.metadata) for o in out.outputs][0])").text == "['lash_nb']\n"


def test_the_live_view_is_gone_at_the_end(notebook: NotebookKernel) -> None:
    notebook.model("fine")
    cell = notebook.run("%%lash\nWhat is it?")
    shown = {content["transient"].get("display_id") for content in cell.displays}
    emptied = {content["transient"].get("display_id") for content in cell.of("update_display_data")}
    live = {i for i in shown if i}
    assert live <= emptied
    assert notebook.run("from ipywidgets.widgets import widget; print(len(widget._instances))").text == "0\n"


def test_a_plot_is_an_output_of_the_cell(notebook: NotebookKernel) -> None:
    notebook.model("plot")
    cell = notebook.run("%%lash\nDraw it.")
    assert len([content for content in cell.displays if "image/png" in content["data"]]) == 1


# ---------------------------------------------------------------------------------------------------------------- stop


def started(notebook: NotebookKernel, code: str) -> Cell:
    """A cell whose agent's code runs; the live view has said so."""
    cell = notebook.ask("lasts", code)
    notebook.until(cell, lambda: any("begun\\n" in value for value in cell.drawn))
    return cell


def test_an_interrupt_stops_a_cell_that_awaits(notebook: NotebookKernel) -> None:
    cell = started(notebook, "%%lash\nWait.")
    notebook.interrupt()
    notebook.finish(cell)
    assert cell.error.startswith("CancelledError")
    check_stopped(notebook, cell)


def test_an_interrupt_stops_a_cell_that_blocks(notebook: NotebookKernel) -> None:
    cell = started(notebook, "%%time\n%%lash\nWait.")
    notebook.interrupt()
    notebook.finish(cell)
    assert cell.error.startswith("KeyboardInterrupt")
    check_stopped(notebook, cell)


def test_a_click_on_stop_stops_it_and_fails_the_cell(notebook: NotebookKernel) -> None:
    cell = started(notebook, "%%lash\nWait.")
    notebook.click(cell.widgets["AnyModel"])
    notebook.finish(cell)
    assert cell.error.startswith("TurnFailed: stopped by you")
    check_stopped(notebook, cell)


def check_stopped(notebook: NotebookKernel, cell: Cell) -> None:
    """What was done is kept and marked, and the session goes on with the same kernel."""
    assert "begun" in cell.bundle_text
    assert "stopped by you" in cell.bundle_text
    open_checkpoint(cell.bundles[0]["metadata"]["lash_nb"])
    assert len(cell.of("error")[0]["traceback"]) == 1
    assert "Afterwards." in notebook.run("%%lash\nAnd now?").bundle_text
    assert "[stopped by you: a cell was running]\n2." in notebook.run("%lash history").text


def test_an_interrupt_before_the_first_step_stops_too(notebook: NotebookKernel) -> None:
    """The managed kernel may still be starting, and nothing is drawn yet."""
    cell = notebook.ask("lasts", "%%lash\nWait.")
    notebook.until(cell, lambda: "AnyModel" in cell.widgets)
    notebook.interrupt()
    notebook.finish(cell)
    assert cell.error.startswith("CancelledError")


# -------------------------------------------------------------------------------------------------- without a frontend


def test_any_executor_keeps_the_copies_in_the_outputs(directory: Path) -> None:
    """As `jupyter nbconvert --execute` does: nobody answers the comm, no widget is shown."""
    notebook = written("%load_ext lash_nb\n%lash model scripted:fine.json", "%%lash\nWhat is it?", "%%lash\nAgain?")
    NotebookClient(notebook, timeout=50, resources={"metadata": {"path": str(directory)}}).execute()
    nbformat.validate(notebook)
    seen = []
    for cell in notebook.cells[1:]:
        (output,) = cell.outputs
        seen.append(open_checkpoint(output.metadata["lash_nb"]))
    assert len(seen) == 2
    assert "lash_nb" not in notebook.metadata


def test_the_runner_keeps_them_in_the_notebook(directory: Path) -> None:
    source = directory / "run.ipynb"
    codes = ("%load_ext lash_nb\n%lash model scripted:fine.json", "%%lash\nWhat is it?", "%%time\n%%lash\nAgain?")
    source.write_text(json.dumps(written(*codes)))
    result = run_notebook(source, directory / "run.out.ipynb")
    assert result.status is RunStatus.DONE, result.error
    done = nbformat.from_dict(json.loads(result.out.read_text()))  # type: ignore[no-untyped-call]
    block = read_block(done.metadata)
    assert block is not None
    verify_chain(block)
    assert len(block.turns) == 2
    assert "What is it?" in checkpoint_text(block.turns[0])
    awaited, blocked = ([o for o in cell.outputs if "lash_nb" in o.get("metadata", {})][-1] for cell in done.cells[1:])
    assert awaited.metadata["lash_nb"] == {name: block.turns[0][name] for name in ("session", "turn", "sha256")}
    open_checkpoint(blocked.metadata["lash_nb"])  # no answer can come in while the cell blocks


def test_a_run_that_is_killed_leaves_the_turn_in_progress(directory: Path) -> None:
    source, out = directory / "killed.ipynb", directory / "killed.out.ipynb"
    source.write_text(json.dumps(written("%load_ext lash_nb\n%lash model scripted:lasts.json", "%%lash\nWait.")))
    command = [sys.executable, "-m", "lash_nb.cli", "run", str(source), str(out)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as run:
        envelope = None
        while envelope is None or not isinstance(open_checkpoint(envelope).state, WaitingExec):
            assert run.poll() is None
            time.sleep(0.05)
            block = read_block(json.loads(out.read_text())["metadata"]) if out.exists() else None
            envelope = block.head if block else None
        run.kill()
    block = read_block(json.loads(out.read_text())["metadata"])
    assert block is not None
    assert block.head is not None
    assert "Wait." in checkpoint_text(block.head)
    assert "time.sleep(600)" in checkpoint_text(block.head)
    end_the_orphan(directory)


def end_the_orphan(directory: Path) -> None:
    """The agent's kernel has outlived the crash, as it is meant to: it is found by its files, and ended."""
    roots = {Path(root) for root in (os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp") if root}
    while True:
        for record in (found for root in roots for found in root.glob("lash-nb-kernel-*/kernel.json")):
            kernel, host = json.loads(record.read_text()), json.loads((record.parent / "host.json").read_text())
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                ours = Path(f"/proc/{kernel['pid']}/cwd").readlink() == directory
                if ours and not lives(host["pid"], host["started"]):
                    os.killpg(kernel["pid"], signal.SIGKILL)
                    return
        time.sleep(0.05)


def written(*codes: str) -> nbformat.NotebookNode:
    cells = [nbformat.v4.new_code_cell(code) for code in codes]  # type: ignore[no-untyped-call]
    made: nbformat.NotebookNode = nbformat.v4.new_notebook(cells=cells)  # type: ignore[no-untyped-call]
    return made


# --------------------------------------------------------------------------------------------------------- the process


def test_with_the_notebook_s_kernel_the_managed_one_ends(directory: Path) -> None:
    with notebook_kernel(directory) as own:
        own.run("%load_ext lash_nb\n%lash model scripted:fine.json")
        own.run("%%lash\nWhat is it?")
        told = own.run(
            "import pathlib\nfor t in pathlib.Path('/proc/self/task').iterdir(): print((t / 'children').read_text())"
        )
        children = [int(number) for number in told.text.split()]
        assert children
    for pid in children:
        wait_until_gone(pid)
