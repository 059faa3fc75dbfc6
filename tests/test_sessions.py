"""Which model answers in a notebook, and what an unattended run decides about that."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.utils.capture import capture_output

from lash_nb import magic
from lash_nb.errors import CassetteError, InputError, SessionClosedError, TurnFailed
from lash_nb.kernels.scripted import ScriptedCell, ScriptedKernel
from lash_nb.live import CellRequest, CellTurn
from lash_nb.models.replay import Origin, read_cassette
from lash_nb.run_settings import RUN_OPTIONS, notebook_file
from lash_nb.sessions import NotebookSessions
from lash_nb.stores.journal import holder, read_records, session_directory

from .notebook_shell import CELL, Notebook, bundles, notebook_shell


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    monkeypatch.chdir(tmp_path)
    with notebook_shell() as made:
        yield made


def test_a_model_for_one_cell_alone(notebook: Notebook) -> None:
    notebook.load()
    notebook.answers("One.", "Two.")
    other = notebook.script("Other.", name="other")
    texts = []
    for line in ("", f"-m {other}", ""):
        captured = notebook.run(f"%%lash {line}\nWho?")
        texts.append(bundles(captured)[0].data["text/plain"].partition("\n")[0])
        if line:
            assert "scripted:other.json, chosen by -m" in captured.stdout
    assert texts == ["One.", "Other.", "Two."]


def test_a_model_that_cannot_be_opened_changes_nothing(notebook: Notebook) -> None:
    notebook.load()
    notebook.answers("Yes.")
    with pytest.raises(InputError):
        notebook.run("%lash model scripted:missing.json")
    assert "scripted:s.json, chosen by %lash model" in notebook.run("%lash model").stdout


def test_the_trait_chooses_where_nothing_nearer_does(notebook: Notebook) -> None:
    notebook.load(model=notebook.script("Yes."))
    assert "chosen by the configuration" in notebook.run("%lash model").stdout
    assert "Yes." in bundles(notebook.run("%%lash\nIs it?"))[0].data["text/plain"]


def run_as(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **options: Any) -> None:
    told = {"notebook": str(tmp_path / "n.ipynb"), "headless": True, **options}
    monkeypatch.setenv(RUN_OPTIONS, json.dumps(told))


def test_a_run_records_and_its_cassette_replays(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cassette = tmp_path / "n.cassette.jsonl"
    run_as(monkeypatch, tmp_path, model=notebook.script("Yes.", "No."), record=str(cassette))
    notebook.load()
    notebook.run("%%lash\nIs it?")
    notebook.run("%lash new")
    notebook.run("%%lash\nIs it not?")
    kept = [(one.session, one.turn, one.user_text, one.origin) for one in read_cassette(cassette)]
    assert kept == [("1", 1, "Is it?", Origin.SCRIPTED), ("2", 1, "Is it not?", Origin.SCRIPTED)]
    notebook.run("%unload_ext lash_nb")
    monkeypatch.delenv(RUN_OPTIONS)
    notebook.load()
    said = notebook.run("%lash model replay:n").stdout
    assert "scripted answers" in said
    assert "Yes." in bundles(notebook.run("%%lash\nIs it?"))[0].data["text/plain"]
    assert "No." in bundles(notebook.run("%%lash --new\nIs it not?"))[0].data["text/plain"]
    with capture_output() as captured:
        result = notebook.shell.run_cell("%%lash\nSomething else?")
    assert isinstance(result.error_in_exec, InputError)
    assert len(bundles(captured)) == 1


def test_the_model_of_a_run_wins_over_the_notebook(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    run_as(monkeypatch, tmp_path, model=notebook.script("Of the run."))
    assert "chosen by -m of the run" in notebook.load()
    said = notebook.run("%lash model replay:missing.cassette.jsonl").stdout
    assert "kept for later" in said
    captured = notebook.run(f"%%lash -m {notebook.script('Of the cell.', name='other')}\nWho?")
    assert "Of the run." in bundles(captured)[0].data["text/plain"]


def test_the_notebook_s_own_cassette_is_the_last_resort(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "n.cassette.jsonl").write_text('{"lash_nb_cassette": 1}\n')
    run_as(monkeypatch, tmp_path)
    assert "replay:n.cassette.jsonl, chosen by the cassette beside the notebook" in notebook.load()


def test_a_replay_never_asks_a_real_model(notebook: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    run_as(monkeypatch, tmp_path, replay="loose")
    assert "there is no n.cassette.jsonl to replay" in notebook.load()
    for cell in ("%%lash\nWho?", "%%lash -m openai:m\nWho?"):
        with pytest.raises(CassetteError):
            notebook.run(cell)
    (tmp_path / "other.cassette.jsonl").write_text('{"lash_nb_cassette": 1}\n')
    assert "replay:other, chosen by the notebook" in notebook.run("%lash model replay:other").stdout


def test_options_of_a_run_that_no_runner_wrote_are_refused(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("{", "[]", '{"model": 1}'):
        monkeypatch.setenv(RUN_OPTIONS, text)
        with pytest.raises(InputError, match=RUN_OPTIONS):
            magic.load(notebook.shell)


def test_where_the_notebook_s_name_comes_from() -> None:
    assert notebook_file({"__vsc_ipynb_file__": "/a/b.ipynb"}, {}) == Path("/a/b.ipynb")
    assert notebook_file({}, {"JPY_SESSION_NAME": "/a/c.ipynb"}) == Path("/a/c.ipynb")
    assert notebook_file({"__session__": "3f2a"}, {"JPY_SESSION_NAME": "3f2a"}) is None


def test_a_session_says_which_notebook_it_is_of(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("JPY_SESSION_NAME", "of_lab.ipynb")
    notebook.load()
    assert notebook.magics.sessions.session().notebook == tmp_path / "of_lab.ipynb"
    notebook.run("%unload_ext lash_nb")
    run_as(monkeypatch, tmp_path)
    notebook.load()
    assert notebook.magics.sessions.session().notebook == tmp_path / "n.ipynb"


def test_the_model_of_a_session_that_goes_on_is_the_last_resort(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook.load()
    sessions = notebook.magics.sessions
    sessions.resumed_model = "scripted:s.json"
    assert sessions.choose().announcement == (
        "scripted:s.json, chosen by the session that goes on; nothing leaves this machine"
    )
    with pytest.raises(InputError):
        sessions.choose("nonsense")
    monkeypatch.setenv("LASH_NB_MODEL", "scripted:other.json")
    assert sessions.choose().name == "scripted:other.json"


def test_an_end_at_once_closes_the_journal(notebook: Notebook) -> None:
    notebook.load()
    notebook.answers("One.")
    notebook.run("%%lash\nWho?")
    session = notebook.magics.sessions.session()
    directory = session_directory(session.state_dir, session.id)
    assert holder(directory) is not None
    notebook.magics.sessions.end_now()
    assert holder(directory) is None
    assert list(read_records(directory))[-1]["k"] == "closed"


def test_a_forked_child_ends_nothing_of_its_parent(notebook: Notebook) -> None:
    """Its `atexit` runs what the parent registered."""
    notebook.load()
    lash = notebook.magics
    notebook.answers("One.", "Two.")
    notebook.run("%%lash\nWho?")
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        lash.close()
        os._exit(0 if lash.sessions.current is not None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert "Two." in bundles(notebook.run("%%lash\nAgain?"))[0].data["text/plain"]


def test_stop_before_the_turn_has_begun_stops_it(notebook: Notebook) -> None:
    """The button is there a little earlier than the turn."""
    notebook.load()
    lash = notebook.magics
    notebook.answers("One.")
    model = lash.sessions.open("scripted:s.json")
    turn = CellTurn(CellRequest(text="Who?", model=model), lash.sessions)
    turn._stop()
    with pytest.raises(TurnFailed, match="stopped by you"):
        turn.block()


class _EndsNow(ScriptedKernel):
    """A scripted kernel that is killed from outside of any event loop, as a managed one can be."""

    ends = 0

    def end_now(self) -> None:
        self.ends += 1
        self._alive = False


def test_ending_at_once_ends_the_kernel_and_stops_the_turn(notebook: Notebook) -> None:
    notebook.load()
    kernels: list[_EndsNow] = []

    def make() -> _EndsNow:
        kernels.append(_EndsNow([ScriptedCell(takes_s=600.0)]))
        return kernels[-1]

    sessions = notebook.magics.sessions
    sessions.make_kernel = make
    notebook.answers(CELL, "Never.")
    threading.Thread(target=_end_when_it_runs, args=(kernels, sessions)).start()
    with pytest.raises(TurnFailed, match="stopped"):
        notebook.run("%%lash\nWait.")
    assert [(one.ends, one.epoch, one.alive) for one in kernels] == [(1, "scripted-1", False)]
    with pytest.raises(SessionClosedError):
        notebook.run("%%lash\nMore?")


def _end_when_it_runs(kernels: list[_EndsNow], sessions: NotebookSessions) -> None:
    while not (kernels and kernels[0].ran):
        time.sleep(0.01)
    sessions.end_now()
