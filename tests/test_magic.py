"""`%lash` in a real InteractiveShell, which has no kernel: the plain magic serves, and blocks."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import CapturedIO, capture_output
from traitlets.config import Config

from lash_nb import magic
from lash_nb.errors import InputError, SessionClosedError, TurnFailed, UnknownModelError, UnknownNameError
from lash_nb.kernels.scripted import ScriptedCell, ScriptedKernel
from lash_nb.machine.execution import DisplayOutput, StreamOutput
from lash_nb.models.replay import Origin, read_cassette
from lash_nb.sessions import RUN_OPTIONS, notebook_stem
from lash_nb.stores.notebook import open_checkpoint
from lash_nb.turns import Turn

CELL = "I look.\n<lash-cell>\nprint(41)\n</lash-cell>"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PLOT = DisplayOutput(data={"image/png": PNG, "text/plain": "<Figure>"}, metadata={})
LASTS = 600.0
"""Seconds that a cell lasts which is to be stopped."""


class Notebook:
    """A shell with lash_nb in it."""

    def __init__(self, shell: InteractiveShell) -> None:
        self.shell: Any = shell
        self.kernels: list[ScriptedKernel] = []
        self.cell = ScriptedCell(outputs=(StreamOutput(name="stdout", head="41\n"), PLOT))

    def load(self, **traits: Any) -> str:
        said = self.run("%load_ext lash_nb").stdout
        self.magics.sessions.make_kernel = self._kernel
        for name, value in traits.items():
            setattr(self.magics, name, value)
        return said

    def _kernel(self) -> ScriptedKernel:
        self.kernels.append(ScriptedKernel(lambda code: self.cell))
        return self.kernels[-1]

    @property
    def magics(self) -> magic.Lash:
        found: magic.Lash = self.shell.magics_manager.registry["Lash"]
        return found

    def run(self, code: str) -> CapturedIO:
        """A cell; what it raises is raised here."""
        with capture_output() as captured:
            result = self.shell.run_cell(code, store_history=True)
        result.raise_error()
        return captured

    def value(self, name: str = "_") -> Any:
        return self.shell.user_ns[name]


def bundles(captured: CapturedIO) -> list[Any]:
    return [output for output in captured.outputs if "lash_nb" in (output.metadata or {})]


@pytest.fixture
def write_script(tmp_path: Path) -> Callable[..., str]:
    def write(*replies: str, name: str = "s") -> str:
        (tmp_path / f"{name}.json").write_text(json.dumps(list(replies)))
        return f"scripted:{name}.json"

    return write


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    monkeypatch.chdir(tmp_path)
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    shell = InteractiveShell.instance(config=config)
    try:
        yield Notebook(shell)
    finally:
        magic.unload(shell)
        InteractiveShell.clear_instance()


# --------------------------------------------------------------------------------------------- loading and unloading


def test_loading_says_in_one_line_how_to_choose_a_model(notebook: Notebook) -> None:
    said = notebook.load()
    assert said.count("\n") == 1
    assert "%lash model NAME" in said
    assert "%lash?" in said


def test_loading_says_which_model_answers_and_why(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, write_script: Callable[..., str]
) -> None:
    monkeypatch.setenv("LASH_NB_MODEL", write_script("Yes."))
    said = notebook.load()
    assert said.count("\n") == 1
    assert "scripted:s.json, chosen by LASH_NB_MODEL; nothing leaves this machine" in said


def test_loading_twice_is_loading_once(notebook: Notebook) -> None:
    notebook.load()
    before, transformers = notebook.magics, list(notebook.shell.input_transformers_cleanup)
    magic.load(notebook.shell)
    assert notebook.magics is before
    assert notebook.shell.input_transformers_cleanup == transformers


def test_unloading_undoes_all_of_it(notebook: Notebook, write_script: Callable[..., str]) -> None:
    def traces() -> list[Any]:
        shell = notebook.shell
        magics = shell.magics_manager
        return [
            list(shell.input_transformers_cleanup),
            {kind: set(names) for kind, names in magics.magics.items()},
            set(magics.registry),
            list(shell.configurables),
            list(shell.events.callbacks["post_run_cell"]),
            {name for name in shell.user_ns if not name.startswith("_")},
        ]

    before = traces()
    notebook.load()
    notebook.run(f"%lash model {write_script(CELL, 'Yes.')}")
    notebook.run("%%lash\nIs it?")
    (kernel,) = notebook.kernels
    session = notebook.magics.sessions.current
    assert kernel.alive
    assert session is not None
    notebook.run("%unload_ext lash_nb")
    assert traces() == before
    assert not kernel.alive
    with pytest.raises(SessionClosedError):
        session.run_sync("Are you there?")


def test_help_lists_words_and_options(notebook: Notebook) -> None:
    notebook.load()
    text = notebook.magics.lash.__doc__ or ""
    for word in ("ask TEXT", "model [NAME]", "new", "history", "usage", "--no-raise", "--max-steps", "-q"):
        assert word in text


# ---------------------------------------------------------------------------------------------------------- requests


def test_a_request_leaves_one_final_display_with_its_record(
    notebook: Notebook, write_script: Callable[..., str]
) -> None:
    notebook.load()
    notebook.run(f"%lash model {write_script(CELL, 'It is 41.')}")
    captured = notebook.run("%%lash\nWhat is it?")
    (bundle,) = bundles(captured)
    assert {"text/plain", "text/markdown", "text/html"} <= set(bundle.data)
    assert "It is 41." in bundle.data["text/plain"]
    checkpoint = open_checkpoint(bundle.metadata["lash_nb"])
    assert "What is it?" in checkpoint.messages[0].parts[0].content


def test_a_figure_is_displayed_once_and_natively(notebook: Notebook, write_script: Callable[..., str]) -> None:
    notebook.load()
    notebook.run(f"%lash model {write_script(CELL, 'It is 41.')}")
    captured = notebook.run("%%lash\nWhat is it?")
    (bundle,) = bundles(captured)
    assert "<img" not in bundle.data["text/html"]
    assert [output.data["image/png"] for output in captured.outputs if "image/png" in output.data] == [PNG]


def test_the_value_is_a_turn_that_is_not_displayed_twice(notebook: Notebook, write_script: Callable[..., str]) -> None:
    notebook.load()
    notebook.run(f"%lash model {write_script(CELL, 'It is 41.')}")
    captured = notebook.run("turn = get_ipython().run_cell_magic('lash', '', 'What is it?')\nturn")
    assert len([output for output in captured.outputs if "text/html" in output.data]) == 1
    turn = notebook.value("turn")
    assert isinstance(turn, Turn)
    assert (turn.text, turn.code, turn.request) == ("It is 41.", ("print(41)",), "What is it?")
    assert "It is 41." in notebook.run("turn").outputs[0].data["text/plain"]


@pytest.mark.parametrize("code", ["%%time\n%%lash\nIs it?", "%%capture out\n%%lash\nIs it?", "%lash ask Is it?"])
def test_it_works_under_other_magics_and_in_one_line(
    notebook: Notebook, write_script: Callable[..., str], code: str
) -> None:
    notebook.load()
    notebook.run(f"%lash model {write_script('Yes.')}")
    captured = notebook.run(code)
    outputs = notebook.value("out").outputs if "capture" in code else captured.outputs
    assert "Yes." in next(o.data["text/plain"] for o in outputs if "lash_nb" in (o.metadata or {}))
    current = notebook.magics.sessions.current
    assert current is not None
    assert [turn.request for turn in current.turns] == ["Is it?"]


def test_an_answer_can_be_assigned(notebook: Notebook, write_script: Callable[..., str]) -> None:
    """IPython takes a line that ends with a question mark for a request for help."""
    notebook.load()
    notebook.run(f"%lash model {write_script('Yes.')}")
    notebook.run("answer = %lash ask Is it?")
    assert notebook.value("answer").text == "Yes."


def test_braces_and_dollars_are_left_alone(notebook: Notebook, write_script: Callable[..., str]) -> None:
    notebook.load()
    notebook.run(f"%lash model {write_script('Yes.')}")
    notebook.run("x = 1\nanswer = get_ipython().run_line_magic('lash', 'ask {x} and $x')")
    assert notebook.value("answer").request == "{x} and $x"


def test_quiet_leaves_one_line_and_the_record(notebook: Notebook, write_script: Callable[..., str]) -> None:
    notebook.load()
    notebook.run(f"%lash model {write_script(CELL, 'It is 41.')}")
    captured = notebook.run("%%lash -q\nWhat is it?")
    (bundle,) = bundles(captured)
    assert bundle.data == {"text/plain": "[done · 1 step · scripted:s.json]"}
    assert not [output for output in captured.outputs if "image/png" in output.data]
    open_checkpoint(bundle.metadata["lash_nb"])


def test_a_type_is_a_python_expression_of_the_notebook(notebook: Notebook, write_script: Callable[..., str]) -> None:
    notebook.load()
    notebook.cell = ScriptedCell()
    notebook.run(f"%lash model {write_script('No value.')}")
    notebook.run("wanted = dict[str, int]")
    with pytest.raises(TurnFailed):
        notebook.run("%%lash -t wanted --max-steps 1\nWhat is it?")
    with pytest.raises(InputError, match="nowhere"):
        notebook.run("%%lash -t nowhere\nWhat is it?")


# ---------------------------------------------------------------------------------------------------------- failures


def test_a_failed_turn_raises_after_it_was_shown(notebook: Notebook, write_script: Callable[..., str]) -> None:
    notebook.load()
    notebook.run(f"%lash model {write_script(CELL)}")
    with capture_output() as captured:
        result = notebook.shell.run_cell("%%lash\nWhat is it?", store_history=True)
    assert isinstance(result.error_in_exec, TurnFailed)
    (bundle,) = bundles(captured)
    assert "print(41)" in bundle.data["text/plain"]
    open_checkpoint(bundle.metadata["lash_nb"])


def test_no_raise_returns_the_failed_turn(notebook: Notebook, write_script: Callable[..., str]) -> None:
    notebook.load()
    notebook.run(f"%lash model {write_script()}")
    notebook.run("turn = get_ipython().run_cell_magic('lash', '--no-raise', 'Is it?')")
    assert notebook.value("turn").status == "failed"


def test_a_bound_is_a_failure_that_says_so(notebook: Notebook, write_script: Callable[..., str]) -> None:
    notebook.load(max_steps=1)
    notebook.run(f"%lash model {write_script(CELL, CELL, CELL)}")
    with pytest.raises(TurnFailed, match="limit of steps"):
        notebook.run("%%lash\nWhat is it?")


def test_what_goes_wrong_is_one_sentence(notebook: Notebook) -> None:
    notebook.load()
    with capture_output() as captured:
        result = notebook.shell.run_cell("%lash nothing")
    assert isinstance(result.error_in_exec, UnknownNameError)
    (line,) = (captured.stdout + captured.stderr).strip().splitlines()
    assert line.startswith("UnknownNameError: there is no `%lash nothing`")


def test_a_word_that_is_not_known_is_never_guessed_at(notebook: Notebook) -> None:
    notebook.load()
    with pytest.raises(UnknownNameError, match=r"did you mean `%lash history`.*requests go under `%%lash`"):
        notebook.run("%lash histroy")
    with pytest.raises(UnknownNameError, match="options go on `%%lash`"):
        notebook.run("%lash -m x")


@pytest.mark.parametrize("word", magic.WORDS_NOT_BUILT)
def test_words_that_are_not_built_say_so(notebook: Notebook, word: str) -> None:
    notebook.load()
    with pytest.raises(InputError, match=f"`%lash {word}` is not built yet"):
        notebook.run(f"%lash {word} x")


@pytest.mark.parametrize("option", magic.OPTIONS_NOT_BUILT)
def test_options_that_are_not_built_say_so(notebook: Notebook, option: str) -> None:
    notebook.load()
    with pytest.raises(InputError, match=f"^{option} is not built yet"):
        notebook.run(f"%%lash {option} x\nWhat is it?")


@pytest.mark.parametrize("line", ["--nonsense", "what is it", "--max-steps none", "--max-steps 0"])
def test_other_options_are_bad_input(notebook: Notebook, line: str) -> None:
    notebook.load()
    with pytest.raises(InputError):
        notebook.run(f"%%lash {line}\nWhat is it?")


def test_an_empty_request_is_bad_input(notebook: Notebook) -> None:
    notebook.load()
    for code in ("%%lash\n  \n", "%lash ask"):
        with pytest.raises(InputError, match="empty"):
            notebook.run(code)


def test_without_a_model_a_request_says_what_to_do(notebook: Notebook) -> None:
    notebook.load()
    with pytest.raises(UnknownModelError, match="%lash model NAME"):
        notebook.run("%%lash\nWhat is it?")


# ------------------------------------------------------------------------------------------------------------ models


def test_a_model_for_one_cell_alone(notebook: Notebook, write_script: Callable[..., str]) -> None:
    notebook.load()
    notebook.run(f"%lash model {write_script('One.', 'Two.')}")
    other = write_script("Other.", name="other")
    texts = []
    for line in ("", f"-m {other}", ""):
        captured = notebook.run(f"%%lash {line}\nWho?")
        texts.append(bundles(captured)[0].data["text/plain"].partition("\n")[0])
        if line:
            assert "scripted:other.json, chosen by -m" in captured.stdout
    assert texts == ["One.", "Other.", "Two."]


def test_a_model_that_cannot_be_opened_changes_nothing(notebook: Notebook, write_script: Callable[..., str]) -> None:
    notebook.load()
    notebook.run(f"%lash model {write_script('Yes.')}")
    with pytest.raises(InputError):
        notebook.run("%lash model scripted:missing.json")
    assert "scripted:s.json, chosen by %lash model" in notebook.run("%lash model").stdout


def test_the_trait_chooses_where_nothing_nearer_does(notebook: Notebook, write_script: Callable[..., str]) -> None:
    notebook.load(model=write_script("Yes."))
    assert "chosen by the configuration" in notebook.run("%lash model").stdout
    assert "Yes." in bundles(notebook.run("%%lash\nIs it?"))[0].data["text/plain"]


def run_as(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **options: Any) -> None:
    told = {"notebook": str(tmp_path / "n.ipynb"), "headless": True, **options}
    monkeypatch.setenv(RUN_OPTIONS, json.dumps(told))


def test_a_run_records_and_its_cassette_replays(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, write_script: Callable[..., str]
) -> None:
    cassette = tmp_path / "n.cassette.jsonl"
    run_as(monkeypatch, tmp_path, model=write_script("Yes.", "No."), record=str(cassette))
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
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, write_script: Callable[..., str]
) -> None:
    run_as(monkeypatch, tmp_path, model=write_script("Of the run."))
    assert "chosen by -m of the run" in notebook.load()
    said = notebook.run("%lash model replay:missing.cassette.jsonl").stdout
    assert "kept for later" in said
    captured = notebook.run(f"%%lash -m {write_script('Of the cell.', name='other')}\nWho?")
    assert "Of the run." in bundles(captured)[0].data["text/plain"]


def test_the_notebook_s_own_cassette_is_the_last_resort(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "n.cassette.jsonl").write_text('{"lash_nb_cassette": 1}\n')
    run_as(monkeypatch, tmp_path)
    assert "replay:n.cassette.jsonl, chosen by the cassette beside the notebook" in notebook.load()


def test_options_of_a_run_that_no_runner_wrote_are_refused(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("{", "[]", '{"model": 1}'):
        monkeypatch.setenv(RUN_OPTIONS, text)
        with pytest.raises(InputError, match=RUN_OPTIONS):
            magic.load(notebook.shell)


def test_where_the_notebook_s_name_comes_from() -> None:
    assert notebook_stem({"__vsc_ipynb_file__": "/a/b.ipynb"}, {}) == "b"
    assert notebook_stem({}, {"JPY_SESSION_NAME": "/a/c.ipynb"}) == "c"
    assert notebook_stem({"__session__": "3f2a"}, {"JPY_SESSION_NAME": "3f2a"}) is None


# ------------------------------------------------------------------------------------------------------- other words


def test_new_ends_the_kernel_and_forgets(notebook: Notebook, write_script: Callable[..., str]) -> None:
    notebook.load()
    notebook.run(f"%lash model {write_script('One.', 'Two.')}")
    notebook.run("%%lash\nFirst?")
    notebook.run("%lash new")
    assert not notebook.kernels[0].alive
    assert "no turns yet" in notebook.run("%lash history").stdout
    notebook.run("%%lash\nSecond?")
    assert notebook.run("%lash").stdout.splitlines()[1].startswith("session: 2 (")


def test_new_before_the_first_turn_changes_no_label(notebook: Notebook, write_script: Callable[..., str]) -> None:
    notebook.load()
    notebook.run(f"%lash model {write_script('One.')}")
    notebook.run("%lash new")
    notebook.run("%%lash --new\nFirst?")
    assert notebook.run("%lash").stdout.splitlines()[1].startswith("session: 1 (")


def test_status_history_and_usage(notebook: Notebook, write_script: Callable[..., str]) -> None:
    notebook.load()
    assert "kernel: not started yet" in notebook.run("%lash").stdout
    assert "no turns yet" in notebook.run("%lash usage").stdout
    notebook.run(f"%lash model {write_script(CELL, 'It is 41.')}")
    notebook.run("%%lash\nWhat is it?")
    status = notebook.run("%lash").stdout
    assert "kernel: python, alive" in status
    assert "outputs ✓ · notebook metadata ✗" in status
    assert notebook.run("%lash usage").stdout == "1 turn: 0 tokens in, 0 out\n"
    assert notebook.run("%lash history").stdout == "1. What is it?\n   [done]\n"
    shown = notebook.run("%lash history 1").outputs[0].data["text/plain"]
    assert "What is it?" in shown
    assert "It is 41." in shown
    for which in ("2", "0", "x"):
        with pytest.raises(InputError):
            notebook.run(f"%lash history {which}")


# ------------------------------------------------------------------------------------------------------------- stop


def test_a_click_on_stop_fails_the_turn_and_keeps_it(notebook: Notebook, write_script: Callable[..., str]) -> None:
    notebook.load()
    notebook.run(f"%lash model {write_script(CELL, 'Afterwards.')}")
    notebook.cell = ScriptedCell(outputs=(StreamOutput(name="stdout", head="begun\n"),), takes_s=LASTS)
    session = notebook.magics.sessions.session()
    clicker = threading.Thread(target=_stop_when_it_runs, args=(notebook,))
    clicker.start()
    with capture_output() as captured:
        result = notebook.shell.run_cell("%%lash\nWhat is it?")
    clicker.join()
    assert isinstance(result.error_in_exec, TurnFailed)
    assert "stopped by you" in bundles(captured)[0].data["text/plain"]
    assert "begun" in bundles(captured)[0].data["text/plain"]
    assert [turn.status for turn in session.turns] == ["stopped"]
    notebook.run("%%lash\nGo on.")


def _stop_when_it_runs(notebook: Notebook) -> None:
    tick = threading.Event()
    while not any(kernel.ran for kernel in notebook.kernels):
        tick.wait(0.01)
    session = notebook.magics.sessions.current
    assert session is not None
    session.request_stop()
