"""`%lash` in a real InteractiveShell, which has no kernel: the plain magic serves, and blocks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.utils.capture import capture_output

from lash_nb import magic
from lash_nb.errors import InputError, SessionClosedError, TurnFailed, UnknownModelError, UnknownNameError
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.execution import StreamOutput
from lash_nb.magic_options import OPTIONS_NOT_BUILT
from lash_nb.stores.envelopes import checkpoint_text, open_checkpoint
from lash_nb.turns import Turn

from .notebook_shell import CELL, PNG, Notebook, bundles, notebook_shell

LASTS = 600.0
"""Seconds that a cell lasts which is to be stopped."""


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    monkeypatch.chdir(tmp_path)
    with notebook_shell() as made:
        yield made


# --------------------------------------------------------------------------------------------- loading and unloading


def test_loading_says_in_one_line_how_to_choose_a_model(notebook: Notebook) -> None:
    said = notebook.load()
    assert said.count("\n") == 1
    assert "%lash model NAME" in said
    assert "%lash?" in said


def test_loading_says_which_model_answers_and_why(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LASH_NB_MODEL", notebook.script("Yes."))
    said = notebook.load()
    assert said.count("\n") == 1
    assert "scripted:s.json, chosen by LASH_NB_MODEL; nothing leaves this machine" in said


def test_loading_twice_is_loading_once(notebook: Notebook) -> None:
    notebook.load()
    before, transformers = notebook.magics, list(notebook.shell.input_transformers_cleanup)
    magic.load(notebook.shell)
    assert notebook.magics is before
    assert notebook.shell.input_transformers_cleanup == transformers


def test_unloading_undoes_all_of_it(notebook: Notebook) -> None:
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

    notebook.load()
    notebook.run("%unload_ext lash_nb")  # IPython registers these two magics of its own when they are first used
    before = traces()
    notebook.load()
    notebook.answers(CELL, "Yes.")
    notebook.run("%%lash\nIs it?")
    session = notebook.magics.sessions.current
    assert session is not None
    assert [kernel.alive for kernel in notebook.kernels] == [True]
    notebook.run("%unload_ext lash_nb")
    assert traces() == before
    assert [kernel.alive for kernel in notebook.kernels] == [False]
    with pytest.raises(SessionClosedError):
        session.run_sync("Are you there?")


def test_help_lists_words_and_options(notebook: Notebook) -> None:
    notebook.load()
    text = notebook.magics.lash.__doc__ or ""
    for word in (
        "ask TEXT",
        "model NAME",
        "model test",
        "new",
        "history [N]",
        "resume  ",
        "resume SESSION",
        "tools [NAME]",
        "usage [N]",
        "--no-raise",
        "--max-steps",
        "-q",
    ):
        assert word in text


# ---------------------------------------------------------------------------------------------------------- requests


def test_a_request_leaves_one_final_display_with_its_record(notebook: Notebook) -> None:
    notebook.load()
    notebook.answers(CELL, "It is 41.")
    captured = notebook.run("%%lash\nWhat is it?")
    (bundle,) = bundles(captured)
    assert {"text/plain", "text/markdown", "text/html"} <= set(bundle.data)
    assert "It is 41." in bundle.data["text/plain"]
    open_checkpoint(bundle.metadata["lash_nb"])
    assert '"What is it?"' in checkpoint_text(bundle.metadata["lash_nb"])


def test_a_figure_is_displayed_once_and_natively(notebook: Notebook) -> None:
    notebook.load()
    notebook.answers(CELL, "It is 41.")
    captured = notebook.run("%%lash\nWhat is it?")
    (bundle,) = bundles(captured)
    assert "<img" not in bundle.data["text/html"]
    assert [output.data["image/png"] for output in captured.outputs if "image/png" in output.data] == [PNG]


def test_the_value_is_a_turn_that_is_not_displayed_twice(notebook: Notebook) -> None:
    notebook.load()
    notebook.answers(CELL, "It is 41.")
    captured = notebook.run("turn = get_ipython().run_cell_magic('lash', '', 'What is it?')\nturn")
    assert len([output for output in captured.outputs if "text/html" in output.data]) == 1
    turn = notebook.value("turn")
    assert isinstance(turn, Turn)
    assert (turn.text, turn.code, turn.request) == ("It is 41.", ("print(41)",), "What is it?")
    assert "It is 41." in notebook.run("turn").outputs[0].data["text/plain"]


@pytest.mark.parametrize("code", ["%%time\n%%lash\nIs it?", "%%capture out\n%%lash\nIs it?", "%lash ask Is it?"])
def test_it_works_under_other_magics_and_in_one_line(notebook: Notebook, code: str) -> None:
    notebook.load()
    notebook.answers("Yes.")
    captured = notebook.run(code)
    outputs = notebook.value("out").outputs if "capture" in code else captured.outputs
    assert "Yes." in next(o.data["text/plain"] for o in outputs if "lash_nb" in (o.metadata or {}))
    current = notebook.magics.sessions.current
    assert current is not None
    assert [turn.request for turn in current.turns] == ["Is it?"]


def test_an_answer_can_be_assigned(notebook: Notebook) -> None:
    """IPython takes a line that ends with a question mark for a request for help."""
    notebook.load()
    notebook.answers("Yes.")
    notebook.run("answer = %lash ask Is it?")
    assert notebook.value("answer").text == "Yes."


def test_braces_and_dollars_are_left_alone(notebook: Notebook) -> None:
    notebook.load()
    notebook.answers("Yes.")
    notebook.run("x = 1\nanswer = get_ipython().run_line_magic('lash', 'ask {x} and $x')")
    assert notebook.value("answer").request == "{x} and $x"


def test_quiet_leaves_one_line_and_the_record(notebook: Notebook) -> None:
    notebook.load()
    notebook.answers(CELL, "It is 41.")
    captured = notebook.run("%%lash -q\nWhat is it?")
    (bundle,) = bundles(captured)
    assert bundle.data == {"text/plain": "[done · 1 cell · scripted:s.json]"}
    assert not [output for output in captured.outputs if "image/png" in output.data]
    open_checkpoint(bundle.metadata["lash_nb"])


def test_a_type_is_a_python_expression_of_the_notebook(notebook: Notebook) -> None:
    notebook.load()
    notebook.cell = ScriptedCell()
    notebook.answers("No value.")
    notebook.run("wanted = dict[str, int]")
    with pytest.raises(TurnFailed):
        notebook.run("%%lash -t wanted --max-steps 1\nWhat is it?")
    with pytest.raises(InputError, match="nowhere"):
        notebook.run("%%lash -t nowhere\nWhat is it?")


# ---------------------------------------------------------------------------------------------------------- failures


def test_a_failed_turn_raises_after_it_was_shown(notebook: Notebook) -> None:
    notebook.load()
    notebook.answers(CELL)
    with capture_output() as captured:
        result = notebook.shell.run_cell("%%lash\nWhat is it?", store_history=True)
    assert isinstance(result.error_in_exec, TurnFailed)
    (bundle,) = bundles(captured)
    assert "print(41)" in bundle.data["text/plain"]
    open_checkpoint(bundle.metadata["lash_nb"])


def test_no_raise_returns_the_failed_turn(notebook: Notebook) -> None:
    notebook.load()
    notebook.answers()
    notebook.run("turn = get_ipython().run_cell_magic('lash', '--no-raise', 'Is it?')")
    assert notebook.value("turn").status == "failed"


def test_a_bound_is_a_failure_that_says_so(notebook: Notebook) -> None:
    notebook.load(max_steps=1)
    notebook.answers(CELL, CELL, CELL)
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


@pytest.mark.parametrize("option", OPTIONS_NOT_BUILT)
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


# ------------------------------------------------------------------------------------------------------- other words


def test_new_ends_the_kernel_and_forgets(notebook: Notebook) -> None:
    notebook.load()
    notebook.answers("One.", "Two.")
    notebook.run("%%lash\nFirst?")
    notebook.run("%lash new")
    assert not notebook.kernels[0].alive
    assert "no turns yet" in notebook.run("%lash history").stdout
    notebook.run("%%lash\nSecond?")
    assert notebook.run("%lash").stdout.splitlines()[1].startswith("session: 2 (")


def test_new_before_the_first_turn_changes_no_label(notebook: Notebook) -> None:
    notebook.load()
    notebook.answers("One.")
    notebook.run("%lash new")
    notebook.run("%%lash --new\nFirst?")
    assert notebook.run("%lash").stdout.splitlines()[1].startswith("session: 1 (")


def test_status_history_and_usage(notebook: Notebook) -> None:
    notebook.load()
    status = notebook.run("%lash").stdout
    assert "kernel: not started yet" in status
    assert "copies: journal – (no turn yet) · outputs ✓" in status
    assert "no turns yet" in notebook.run("%lash usage").stdout
    notebook.answers(CELL, "It is 41.")
    notebook.run("%%lash\nWhat is it?")
    status = notebook.run("%lash").stdout
    assert "kernel: python, alive" in status
    assert "copies: journal ✓ (in state) · outputs ✓ · notebook metadata ✗" in status
    assert notebook.run("%lash usage").stdout == "1 turn: 0 tokens in, 0 out\n"
    assert notebook.run("%lash history").stdout == "1. What is it?\n   [done]\n"
    shown = notebook.run("%lash history 1").outputs[0].data["text/plain"]
    assert "What is it?" in shown
    assert "It is 41." in shown
    for which in ("2", "0", "x"):
        with pytest.raises(InputError):
            notebook.run(f"%lash history {which}")


# ------------------------------------------------------------------------------------------------------------- stop


def test_a_click_on_stop_fails_the_turn_and_keeps_it(notebook: Notebook) -> None:
    notebook.load()
    notebook.answers(CELL, "Afterwards.")
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
