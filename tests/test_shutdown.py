"""The notebook's kernel ends or restarts: the managed kernel goes with it, also when the main thread is busy."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ManagedKernel
from lash_nb.machine.execution import ResultOutput
from lash_nb.shutdown import ShutdownHook

from .notebook_kernel import Cell, NotebookKernel, is_gone, notebook_kernel, wait_until_gone

CELL = "<lash-cell>\nx = 41\nprint(x)\n</lash-cell>"
LASTS = "<lash-cell>\nprint('begun', flush=True)\nimport time\ntime.sleep(600)\n</lash-cell>"
PID = "print('pid', get_ipython().magics_manager.registry['Lash'].sessions.current.kernel.pid)"


@pytest.fixture
def notebook(tmp_path: Path) -> Iterator[NotebookKernel]:
    (tmp_path / "fine.json").write_text(json.dumps([CELL, "It is 41."]))
    (tmp_path / "lasts.json").write_text(json.dumps([LASTS, "Afterwards."]))
    with notebook_kernel(tmp_path) as kernel:
        yield kernel


def managed_pid(notebook: NotebookKernel) -> int:
    """Of a kernel that a turn has used."""
    notebook.run("%load_ext lash_nb\n%lash model scripted:fine.json")
    assert not notebook.run("%%lash\nWhat is it?").error
    return int(notebook.run(PID).text.split()[-1])


def begun(notebook: NotebookKernel, code: str) -> Cell:
    """A cell that is in its first statement after `print('busy')`."""
    cell = notebook.start(code)
    notebook.until(cell, lambda: "busy" in cell.text)
    return cell


@pytest.mark.parametrize("restart", [True, False])
@pytest.mark.parametrize("busy", [True, False])
def test_an_orderly_end_takes_the_managed_kernel_along(notebook: NotebookKernel, restart: bool, busy: bool) -> None:
    pid = managed_pid(notebook)
    if busy:
        begun(notebook, "import time; print('busy', flush=True); time.sleep(600)")
    # Asked as a frontend asks, without the kill that would follow: the hook alone has to do it.
    notebook.client.shutdown(restart=restart)
    wait_until_gone(pid)
    end_notebook(notebook)


def test_a_turn_that_runs_is_not_given_another_kernel(notebook: NotebookKernel) -> None:
    notebook.run("%load_ext lash_nb\n%lash model scripted:lasts.json")
    cell = notebook.start("%%time\n%%lash\nWait.")
    notebook.until(cell, lambda: any("begun\\n" in value for value in cell.drawn))
    pids = children(notebook)
    assert pids
    notebook.client.shutdown(restart=False)
    for pid in pids:
        wait_until_gone(pid)
    while notebook.manager.is_alive():
        assert not children(notebook)
        time.sleep(0.02)


def test_a_managed_kernel_that_is_just_starting_does_not_outlive_the_end(notebook: NotebookKernel) -> None:
    code = "%load_ext lash_nb\n%lash model scripted:fine.json\nprint('busy', flush=True)\nimport time; time.sleep(600)"
    begun(notebook, code)
    while not (pids := children(notebook)):
        time.sleep(0.01)
    notebook.client.shutdown(restart=True)
    for pid in pids:
        wait_until_gone(pid)
    assert not children(notebook)
    end_notebook(notebook)


def children(notebook: NotebookKernel) -> list[int]:
    """Of the notebook's kernel, those that live."""
    provisioner: Any = notebook.manager.provisioner
    found = []
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{provisioner.pid}/task").iterdir():
            found += [int(pid) for pid in (task / "children").read_text().split()]
    return [pid for pid in found if not is_gone(pid)]


def end_notebook(notebook: NotebookKernel) -> None:
    """As a crash does."""
    provisioner: Any = notebook.manager.provisioner
    with suppress(ProcessLookupError):
        os.kill(provisioner.pid, signal.SIGKILL)
    while notebook.manager.is_alive():
        time.sleep(0.02)


async def test_a_crash_leaves_the_managed_kernel_alive_and_it_can_be_taken_over(notebook: NotebookKernel) -> None:
    pid = managed_pid(notebook)
    connection_file = notebook.run(PID.replace(".pid", ".connection_file")).text.split()[-1]
    end_notebook(notebook)
    kernel = await ManagedKernel.attach(connection_file)
    try:
        assert kernel.pid == pid
        (output,) = (await kernel.run("after", "x")).outputs
        assert isinstance(output, ResultOutput)
        assert output.data["text/plain"] == "41"
    finally:
        await kernel.shutdown()
    wait_until_gone(pid)


def test_unloading_takes_the_hook_away(notebook: NotebookKernel) -> None:
    hooked = "print('do_shutdown' in vars(get_ipython().kernel))"
    notebook.run("%load_ext lash_nb")
    assert notebook.run(hooked).text == "True\n"
    notebook.run("%unload_ext lash_nb")
    assert notebook.run(hooked).text == "False\n"


# -- the hook ----------------------------------------------------------------------------------------------------------


class Kernel:
    """As much of an ipykernel as the hook touches."""

    def do_shutdown(self, restart: bool) -> dict[str, Any]:
        return {"status": "ok", "restart": restart}


def test_the_hook_is_called_first_and_leaves_no_trace() -> None:
    kernel: Any = Kernel()
    called: list[int] = []
    hook = ShutdownHook(kernel, partial(called.append, 1))
    assert kernel.do_shutdown(True) == {"status": "ok", "restart": True}
    assert called == [1]
    hook.remove()
    assert vars(kernel) == {}
    assert kernel.do_shutdown(False) == {"status": "ok", "restart": False}
    assert called == [1]


def test_what_fails_before_the_shutdown_does_not_prevent_it(caplog: pytest.LogCaptureFixture) -> None:
    kernel: Any = Kernel()
    ShutdownHook(kernel, lambda: print(1 // 0))
    assert kernel.do_shutdown(False) == {"status": "ok", "restart": False}
    assert "could not be ended" in caplog.text


def test_under_another_hook_it_only_falls_silent() -> None:
    kernel: Any = Kernel()
    called: list[int] = []
    hook = ShutdownHook(kernel, partial(called.append, 1))
    other = ShutdownHook(kernel, partial(called.append, 2))
    hook.remove()
    assert kernel.do_shutdown is other
    kernel.do_shutdown(True)
    assert called == [2]
    other.remove()
    assert kernel.do_shutdown is hook
