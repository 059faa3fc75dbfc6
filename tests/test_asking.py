"""`input()` of the agent's code: the person in the notebook is asked by the cell that waits; or it is refused."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest

from lash_nb.asking import Desk
from lash_nb.kernels import InputRequest
from lash_nb.runner import RunStatus, run_notebook

from .notebook_kernel import NotebookKernel, scripted_notebook
from .notebook_shell import bundles, notebook_shell

ASKS = "<lash-cell>\nname = input('Your name? ')\nprint('hello', name)\n</lash-cell>"
HIDES = "<lash-cell>\nimport getpass\nprint(len(getpass.getpass('Key: ')))\n</lash-cell>"
NO_PROMPT = "<lash-cell>\nprint(input())\n</lash-cell>"
TWICE = "<lash-cell>\nprint(input('a? ') + input('b? '))\n</lash-cell>"
REQUEST = "%%lash\nAsk me."
CODES = {"asks": ASKS, "hides": HIDES, "bare": NO_PROMPT, "twice": TWICE}
MANAGED = "get_ipython().magics_manager.registry['Lash'].sessions.current.kernel"


SCRIPTS = {
    **{name: [code, "Done.", "And on."] for name, code in CODES.items()},
    "again": [ASKS, "Done.", ASKS, "Done."],
}

directory, kernel, notebook = scripted_notebook(SCRIPTS)


# -- in the notebook ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["%%lash\nAsk me.", "%%time\n%%lash\nAsk me.", "%lash ask Ask me"])
def test_the_person_is_asked_by_the_cell_that_waits(notebook: NotebookKernel, code: str) -> None:
    cell = notebook.ask("asks", code)
    assert notebook.question() == {"prompt": "The agent's code asks: Your name? ", "password": False}
    notebook.answer("Ada")
    notebook.finish(cell)
    assert not cell.error
    assert "hello Ada" in cell.bundle_text


def test_a_password_is_not_shown_and_no_prompt_is_said_to_be_the_agents(notebook: NotebookKernel) -> None:
    cell = notebook.ask("hides", REQUEST)
    assert notebook.question() == {"prompt": "The agent's code asks: Key: ", "password": True}
    notebook.answer("12345")
    assert "5" in notebook.finish(cell).bundle_text
    cell = notebook.ask("bare", REQUEST)
    assert notebook.question()["prompt"] == "The agent's code asks for input: "
    notebook.answer("fine")
    assert "fine" in notebook.finish(cell).bundle_text


def test_one_question_after_the_other(notebook: NotebookKernel) -> None:
    cell = notebook.ask("twice", REQUEST)
    for prompt, answer in (("a? ", "4"), ("b? ", "2")):
        assert notebook.question()["prompt"].endswith(prompt)
        notebook.answer(answer)
    assert "42" in notebook.finish(cell).bundle_text


def test_a_frontend_that_takes_no_input_is_not_asked(notebook: NotebookKernel) -> None:
    cell = notebook.finish(notebook.ask("asks", REQUEST, allow_stdin=False))
    assert not cell.error
    assert "EOFError" in cell.bundle_text
    assert "Done." in cell.bundle_text


@pytest.mark.parametrize("code", ["%%lash\nAsk me.", "%%time\n%%lash\nAsk me."])
def test_an_interrupt_instead_of_an_answer_stops_the_turn(notebook: NotebookKernel, code: str) -> None:
    cell = notebook.ask("asks", code)
    notebook.question()
    notebook.interrupt()
    notebook.finish(cell)
    assert cell.error.startswith("KeyboardInterrupt")
    assert "stopped by you" in cell.bundle_text
    assert "Done." in notebook.run("%%lash\nAnd now?").bundle_text


def test_a_question_whose_asker_died_is_withdrawn(notebook: NotebookKernel) -> None:
    cell = notebook.ask("again", REQUEST)
    notebook.question()
    notebook.answer("Ada")
    notebook.finish(cell)
    pid = int(notebook.run(f"print({MANAGED}.pid)").text)
    cell = notebook.start("%%lash\nAsk me.")
    notebook.question()
    os.kill(pid, signal.SIGKILL)
    notebook.finish(cell)
    assert not cell.error
    assert "Done." in cell.bundle_text


# -- elsewhere ---------------------------------------------------------------------------------------------------------


def test_a_run_without_a_person_refuses(directory: Path) -> None:
    source = directory / "run.ipynb"
    codes = ("%load_ext lash_nb\n%lash model scripted:asks.json", "%%lash\nAsk me.")
    cells = [nbformat.v4.new_code_cell(code) for code in codes]  # type: ignore[no-untyped-call]
    source.write_text(json.dumps(nbformat.v4.new_notebook(cells=cells)))  # type: ignore[no-untyped-call]
    result = run_notebook(source, directory / "run.out.ipynb")
    assert result.status is RunStatus.DONE, result.error
    output = json.loads(result.out.read_text())["cells"][1]["outputs"][0]
    shown = "".join(output["data"]["text/plain"])
    assert "nobody can answer input() here" in shown
    assert "Done." in shown


def test_in_a_terminal_the_person_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.StringIO("Ada\n"))
    with notebook_shell() as notebook:
        notebook.load()
        notebook.magics.sessions.make_kernel = None
        notebook.answers(ASKS, "Done.")
        shown = notebook.run("%%lash\nAsk me.")
    assert "The agent's code asks: Your name? " in shown.stdout
    assert "hello Ada" in bundles(shown)[0].data["text/plain"]


# -- the desk ----------------------------------------------------------------------------------------------------------


class Asker(threading.Thread):
    """The kernel's thread: asks, and keeps what came."""

    def __init__(self, desk: Desk, prompt: str = "? ") -> None:
        super().__init__()
        self.desk, self.prompt = desk, prompt
        self.came = ""
        self.start()

    def run(self) -> None:
        try:
            self.came = self.desk.ask(InputRequest(prompt=self.prompt))
        except EOFError as error:
            self.came = f"EOFError: {error}"

    def end(self) -> str:
        self.join(20)
        assert not self.is_alive()
        return self.came


def test_without_a_cell_that_waits_nobody_is_asked() -> None:
    desk = Desk()
    assert Asker(desk).end().startswith("EOFError: nobody can be asked here")
    desk.open()
    desk.close()
    assert Asker(desk).end().startswith("EOFError: nobody can be asked here")


@pytest.mark.parametrize("how", ["withdraw", "close"])
def test_who_waits_is_let_go(how: str) -> None:
    desk = Desk()
    desk.open()
    askers = [Asker(desk) for _ in range(3)]
    while desk.waiting < 3:
        time.sleep(0.001)
    getattr(desk, how)()
    for asker in askers:
        assert asker.end().startswith("EOFError: there was no answer")
    desk.tick()


def test_the_end_of_the_input_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    desk = Desk()
    desk.open()
    asker = Asker(desk)
    while not asker.came:
        desk.tick()
        time.sleep(0.001)
    assert asker.end().startswith("EOFError: there was no answer")


def test_a_prompt_cannot_rule_the_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("yes\n"))
    desk = Desk()
    desk.open()
    asker = Asker(desk, "\x1b[2Jsure?\x07 ")
    while not asker.came:
        desk.tick()
        time.sleep(0.001)
    assert asker.end() == "yes"
    assert capsys.readouterr().out == "The agent's code asks: sure? "
