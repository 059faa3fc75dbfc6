"""Functions of a notebook as tools, in a real ipykernel with a real managed kernel: thread, loop, output, questions."""

from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from lash_nb.runner import RunStatus, run_notebook

from .notebook_kernel import NotebookKernel, scripted_notebook


def cell(code: str) -> str:
    return f"I call it.\n<lash-cell>\n{code}\n</lash-cell>"


TURNS = {
    "calls": [cell("print('got', tools.where())"), "Done."],
    "asks": [cell("print('got', tools.ask(prompt='Name? '))"), "Done."],
    "many": [cell("print('got', sum(tools.one() for _ in range(50)))"), "Done."],
    "gathers": [cell("import asyncio\nprint('got', await asyncio.gather(tools.meet(), tools.meet()))"), "Done."],
    "lasts": [cell("tools.lasts()"), "Afterwards."],
    "natively": {
        "protocol": "tools",
        "turns": {"1": [{"calls": [{"tool": "where", "args": {}, "id": f"c{n}"} for n in range(3)]}, "Done."]},
    },
}
WHERE = """
import threading
def where():
    print('in the cell')
    display('shown')
    return threading.current_thread() is threading.main_thread()
"""
BOTH = pytest.mark.parametrize("before", ["", "%%time\n"], ids=["awaits", "blocks"])
"""A cell that awaits its turn, and one that blocks."""

directory, kernel, notebook = scripted_notebook(TURNS)


def added(notebook: NotebookKernel, code: str, name: str) -> None:
    """A cell that defines a function, and one that makes it a tool."""
    assert not notebook.run(code).error
    assert not notebook.run(f"%lash tools add {name}").error


@BOTH
def test_a_function_runs_on_the_main_thread_and_in_the_cell(notebook: NotebookKernel, before: str) -> None:
    added(notebook, WHERE, "where")
    asked = notebook.ask("calls", f"{before}%%lash\nGo.")
    notebook.finish(asked)
    assert not asked.error
    assert "got True" in asked.bundle_text
    assert "in the cell\n" in asked.text
    assert "'shown'" in [content["data"].get("text/plain") for content in asked.displays]


@BOTH
def test_native_calls_run_there_too(notebook: NotebookKernel, before: str) -> None:
    added(notebook, "import threading\ndef where(): print(threading.current_thread().name)", "where")
    asked = notebook.ask("natively", f"{before}%%lash\nGo.")
    notebook.finish(asked)
    assert "Done." in asked.bundle_text
    assert asked.text.count("MainThread\n") == 3


@BOTH
def test_it_may_ask_the_person(notebook: NotebookKernel, before: str) -> None:
    added(notebook, "def ask(prompt): return input(prompt)", "ask")
    asked = notebook.ask("asks", f"{before}%%lash\nGo.")
    assert notebook.question()["prompt"] == "Name? "
    notebook.answer("Ada")
    notebook.finish(asked)
    assert "got Ada" in asked.bundle_text


@BOTH
def test_many_calls_are_not_a_matter_of_ticks(notebook: NotebookKernel, before: str) -> None:
    added(notebook, "def one() -> int: return 1", "one")
    asked = notebook.ask("many", f"{before}%%lash\nGo.")
    notebook.finish(asked)
    assert "got 50" in asked.bundle_text


def test_asynchronous_functions_share_the_notebook_s_loop(notebook: NotebookKernel) -> None:
    """What is bound to that loop, as many clients are, works in them."""
    code = (
        "import asyncio\nbarrier = asyncio.Barrier(2)\nloop = asyncio.get_running_loop()\n"
        "async def meet():\n    await barrier.wait()\n    print('met')\n    return asyncio.get_running_loop() is loop"
    )
    added(notebook, code, "meet")
    asked = notebook.ask("gathers", "%%lash\nGo.")
    notebook.finish(asked)
    assert "got [True, True]" in asked.bundle_text
    assert asked.text.count("met") == 2


def test_in_a_cell_that_blocks_they_run_elsewhere(notebook: NotebookKernel) -> None:
    code = (
        "import asyncio\nloop = asyncio.get_running_loop()\n"
        "async def meet():\n    await asyncio.sleep(0)\n    return asyncio.get_running_loop() is loop"
    )
    added(notebook, code, "meet")
    asked = notebook.ask("gathers", "%%time\n%%lash\nGo.")
    notebook.finish(asked)
    assert "got [False, False]" in asked.bundle_text


@BOTH
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_stop_ends_function_and_turn(notebook: NotebookKernel, before: str, kind: str) -> None:
    added(notebook, f"import time\n{kind} lasts():\n    print('begun', flush=True)\n    time.sleep(600)", "lasts")
    if kind == "async def" and before:
        notebook.run("import asyncio\nasync def lasts():\n    print('begun', flush=True)\n    await asyncio.sleep(600)")
    asked = notebook.ask("lasts", f"{before}%%lash\nGo.")
    notebook.until(asked, lambda: "begun" in asked.text)
    notebook.interrupt()
    notebook.finish(asked)
    assert asked.error.startswith("KeyboardInterrupt")
    assert "stopped by you" in asked.bundle_text
    assert "Afterwards." in notebook.run("%%lash\nAnd now?").bundle_text


def test_a_run_serves_them_too(directory: Path) -> None:
    """Nobody is there, and nothing is drawn; the thread is the same."""
    codes = (
        "%load_ext lash_nb\n%lash model scripted:calls.json",
        WHERE,
        "%lash tools add where",
        "%%lash\nGo.",
    )
    cells = [nbformat.v4.new_code_cell(code) for code in codes]  # type: ignore[no-untyped-call]
    source = directory / "tools.ipynb"
    source.write_text(json.dumps(nbformat.v4.new_notebook(cells=cells)))  # type: ignore[no-untyped-call]
    result = run_notebook(source, directory / "tools.out.ipynb")
    assert result.status is RunStatus.DONE, result.error
    assert "got True" in result.out.read_text()
