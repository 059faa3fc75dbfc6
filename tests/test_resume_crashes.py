"""`%lash resume` in real kernels: after a crash of the notebook's kernel in mid-turn, and after its orderly end."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from .notebook_kernel import NotebookKernel, notebook_kernel, wait_until_gone

SLOW = """It takes a while.
<lash-cell>
import pathlib, time
with open('ran', 'a') as file:
    file.write('once ')
kept = 41
while not pathlib.Path('go').exists():
    time.sleep(0.02)
print('and on')
</lash-cell>"""
SETUP = "%load_ext lash_nb\n%lash model scripted:s.json"
PID = "print('pid', get_ipython().magics_manager.registry['Lash'].sessions.current.kernel.pid)"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where a notebook is; its kernels are told so as JupyterLab tells them."""
    script = {"turns": {"1": ["Hello."], "2": [SLOW, "<lash-cell>\nprint(kept + 1)\n</lash-cell>", "It is 42."]}}
    (tmp_path / "s.json").write_text(json.dumps(script))
    monkeypatch.setenv("LASH_NB_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("JPY_SESSION_NAME", str(tmp_path / "n.ipynb"))
    return tmp_path


def crash(kernel: NotebookKernel) -> None:
    provisioner: Any = kernel.manager.provisioner
    with suppress(ProcessLookupError):
        os.kill(provisioner.pid, signal.SIGKILL)
    while kernel.manager.is_alive():
        time.sleep(0.02)


def crashed(place: Path) -> int:
    """A notebook whose kernel is killed while the second turn's cell runs; the process of its managed kernel."""
    with notebook_kernel(place) as kernel:
        kernel.run(SETUP)
        assert not kernel.run("%%lash\nHello?").error
        kernel.run("get_ipython().magics_manager.registry['Lash'].sessions.session().warm_up()")
        kernel.start("%%lash\nTake your time.")
        while not (place / "ran").exists():
            time.sleep(0.02)
        (record,) = [
            json.loads(line[line.index("{") :])
            for journal in (place / "state").rglob("*.journal")
            for line in journal.read_text().splitlines()
            if '"k":"kernel"' in line
        ]
        crash(kernel)
    found: int = json.loads((Path(record["file"]).parent / "kernel.json").read_text())["pid"]
    return found


def test_a_turn_goes_on_after_its_notebook_s_kernel_was_killed(place: Path) -> None:
    pid = crashed(place)
    with notebook_kernel(place) as kernel:
        loaded = kernel.run("%load_ext lash_nb").text
        assert "earlier session of this notebook: 1 turn; turn 2 was interrupted: `%lash resume` shows" in loaded
        kernel.run("%lash model scripted:s.json")
        cell = kernel.start("turn = %lash resume")
        assert kernel.question()["prompt"] == "Go on with it? [y/N] "
        (place / "go").touch()
        kernel.answer("y")
        kernel.finish(cell)
        assert not cell.error
        assert "Turn 2 was interrupted. It was asked:\n\n    Take your time." in cell.text
        assert "    kept = 41\n" in cell.text
        (bundle,) = cell.bundles
        shown = bundle["data"]["text/plain"]
        assert "Request:\n    Take your time." in shown
        assert [text in shown for text in ("It takes a while.", "and on", "    42", "It is 42.")] == [True] * 4
        assert (place / "ran").read_text() == "once "
        assert kernel.run(PID).text.split() == ["pid", str(pid)]
        assert kernel.run("print(turn.text)").text == "It is 42.\n"
        assert "2. Take your time.\n   [done]" in kernel.run("%lash history").text
    wait_until_gone(pid)


def test_where_nobody_can_be_asked_it_waits_for_a_yes(place: Path) -> None:
    pid = crashed(place)
    with notebook_kernel(place) as kernel:
        kernel.run(SETUP)
        cell = kernel.finish(kernel.start("%lash resume", allow_stdin=False))
        assert "nothing was run; the turn stays interrupted: `%lash resume --yes` goes on with it" in cell.text
        assert not cell.error
        assert not cell.bundles
        assert "1 turn; turn 2 was interrupted (`%lash resume`)" in kernel.run("%lash").text
        (place / "go").touch()
        cell = kernel.finish(kernel.start("%lash resume --yes", allow_stdin=False))
        assert "It is 42." in cell.bundles[0]["data"]["text/plain"]
        assert (place / "ran").read_text() == "once "
    wait_until_gone(pid)


def test_an_interrupt_of_a_turn_that_goes_on_ends_it_in_order(place: Path) -> None:
    pid = crashed(place)
    with notebook_kernel(place) as kernel:
        kernel.run(SETUP)
        cell = kernel.start("%lash resume --yes")
        kernel.until(cell, lambda: any("It takes a while." in value for value in cell.drawn))
        kernel.interrupt()
        kernel.finish(cell)
        assert cell.error.startswith("CancelledError")  # the cell awaits
        assert "stopped by you" in cell.bundles[0]["data"]["text/plain"]
        assert "2. Take your time.\n   [stopped by you" in kernel.run("%lash history").text
    wait_until_gone(pid)


def wait_until_closed(place: Path) -> None:
    (path,) = (place / "state").rglob("*.journal")
    while '"k":"closed"' not in path.read_text().splitlines()[-1]:
        time.sleep(0.02)


def test_an_orderly_end_records_how_the_running_turn_was_stopped(place: Path) -> None:
    with notebook_kernel(place) as kernel:
        kernel.run(SETUP)
        kernel.run("%%lash\nHello?")
        kernel.start("%%time\n%%lash\nTake your time.")
        while not (place / "ran").exists():
            time.sleep(0.02)
        kernel.client.shutdown(restart=True)
        wait_until_closed(place)
        crash(kernel)
    with notebook_kernel(place) as kernel:
        assert "earlier session of this notebook: 2 turns, `%lash resume`" in kernel.run("%load_ext lash_nb").text
        said = kernel.run("%lash resume").text
        assert "2 turns; its kernel is gone, and with it: " not in said  # it was never looked at
        assert "2 turns; its kernel is gone" in said
        assert "2. Take your time.\n   [stopped by you: a cell was running]" in kernel.run("%lash history").text


def test_an_orderly_restart_ends_the_kernel_and_is_told(place: Path) -> None:
    with notebook_kernel(place) as kernel:
        kernel.run(SETUP)
        kernel.run("%%lash\nHello?")
        pid = int(kernel.run("%lash\n" + PID).text.split()[-1])
        kernel.client.shutdown(restart=True)
        wait_until_gone(pid)
        wait_until_closed(place)
        crash(kernel)
    with notebook_kernel(place) as kernel:
        said = kernel.run("%load_ext lash_nb").text.splitlines()[-1]
        assert said == "earlier session of this notebook: 1 turn, `%lash resume` goes on with it"
        assert "1 turn; it had no kernel" in kernel.run("%lash resume").text
