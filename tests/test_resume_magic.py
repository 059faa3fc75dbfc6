"""`%lash resume` and `%lash history` of what an earlier process left: what is said, asked, done and drawn."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.utils.capture import capture_output

from lash_nb.errors import InputError, UnknownNameError
from lash_nb.stores.journal import holder, session_directory

from .cut_journals import cell_asked, cut, journal, left, left_notebook, recorded
from .notebook_shell import Notebook, bundles

NOTHING_RUN = (
    "nothing was run; the turn stays interrupted: `%lash resume --yes` goes on with it, the next request leaves it"
)


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    with left_notebook(tmp_path, monkeypatch) as made:
        yield made


def test_loading_says_what_there_is_and_touches_nothing(notebook: Notebook, tmp_path: Path) -> None:
    path = journal(tmp_path / "state", left(tmp_path))
    before = path.read_bytes()
    said = notebook.load().splitlines()
    assert said[1:] == [
        "earlier session of this notebook: turn 1 was interrupted: `%lash resume` shows what is outstanding and asks"
    ]
    assert path.read_bytes() == before
    assert holder(path.parent) is None


def test_an_unattended_run_says_nothing_of_it(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(tmp_path)
    options = {"notebook": str(tmp_path / "n.ipynb"), "state_dir": str(tmp_path / "state")}
    monkeypatch.setenv("LASH_NB_RUN_OPTIONS", json.dumps(options))
    assert "earlier" not in notebook.load()
    assert "earlier" not in notebook.run("%lash").stdout


def test_no_opens_the_session_and_its_turn_waits(notebook: Notebook, tmp_path: Path) -> None:
    session = left(tmp_path)
    notebook.load()
    said = notebook.run("%lash resume --no").stdout
    assert said.splitlines()[-1] == NOTHING_RUN
    assert "Turn 1 was interrupted. It was asked:\n\n    Request 1.\n" in said
    assert "\n    kept = 41\n    print(kept)\n" in said
    assert "scripted:s.json, chosen by the session that goes on; nothing leaves this machine" in said
    assert f"session: 1 ({session}), 0 turns; turn 1 was interrupted" in notebook.run("%lash").stdout
    assert not any(kernel.ran for kernel in notebook.kernels)
    captured = notebook.run("turn = get_ipython().run_line_magic('lash', 'resume --yes')")
    assert "It is 41." in bundles(captured)[0].data["text/plain"]
    assert notebook.value("turn").id == f"{session}.1"
    assert "journal ✓ (in state) · outputs ✓" in notebook.run("%lash").stdout


@pytest.mark.parametrize(("answer", "status"), [("y", "done"), (" YES ", "done"), ("", None), ("n", None)])
def test_the_person_is_asked(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, status: str | None
) -> None:
    left(tmp_path)
    notebook.load()
    asked: list[str] = []

    def told(question: str) -> str:
        asked.append(question)
        return answer

    monkeypatch.setattr("builtins.input", told)
    said = notebook.run("turn = get_ipython().run_line_magic('lash', 'resume')")
    turn = notebook.value("turn")
    assert asked == ["Go on with it? [y/N] "]
    assert (turn.status if turn is not None else None) == status
    assert (NOTHING_RUN in said.stdout.splitlines()) == (status is None)


def test_an_interrupt_at_the_question_says_that_nothing_was_run(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left(tmp_path)
    notebook.load()

    def interrupted(question: str) -> str:
        raise KeyboardInterrupt("Interrupted by user")

    monkeypatch.setattr("builtins.input", interrupted)
    with capture_output() as captured:
        result = notebook.shell.run_cell("%lash resume")
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    assert captured.stdout.splitlines()[-1] == f"KeyboardInterrupt: {NOTHING_RUN}"
    assert "0 turns; turn 1 was interrupted" in notebook.run("%lash").stdout


def test_nothing_draws_over_what_is_to_be_agreed_to(notebook: Notebook, tmp_path: Path) -> None:
    hidden = "<lash-cell>\nremove()  # \x1b[2K\x1b]0;\u202e\n\tprint('\u00e4')\n</lash-cell>"
    session = recorded(tmp_path / "state", [hidden, "Done."], notebook=tmp_path / "n.ipynb", base_dir=tmp_path)
    cut(journal(tmp_path / "state", session), behind=cell_asked)
    notebook.load()
    said = notebook.run("%lash resume --no").stdout
    assert "    remove()  # \\x1b[2K\\x1b]0;\\u202e\n    \tprint('ä')\n" in said


def test_a_new_request_ends_the_turn_as_it_stands(notebook: Notebook, tmp_path: Path) -> None:
    left(tmp_path)
    notebook.load()
    notebook.run("%lash resume --no")
    said = notebook.run("%%lash\nSomething else.").stdout
    assert "turn 1, which was interrupted, is ended as it stands" in said
    first, how, second, done = notebook.run("%lash history").stdout.splitlines()
    assert (first, second, done) == ("1. Request 1.", "2. Something else.", "   [done]")
    assert how.startswith("   [stopped by you")


def test_what_a_session_holds_is_told(notebook: Notebook, tmp_path: Path) -> None:
    session = left(tmp_path, interrupted=False, turns=2)
    assert "earlier session of this notebook: 2 turns, `%lash resume` goes on with it" in notebook.load()
    said = notebook.run("%lash resume").stdout.splitlines()
    assert said == [f"session 1 ({session[:8]}): 2 turns; its kernel is gone, and with it: kept (the model is told)"]
    captured = notebook.run("%%lash\nAnd a third?")
    assert "Three." in bundles(captured)[0].data["text/plain"]
    assert bundles(captured)[0].metadata["lash_nb"]["turn"] == 3


def test_the_session_before_it_ends(notebook: Notebook, tmp_path: Path) -> None:
    session = left(tmp_path, interrupted=False)
    notebook.load()
    notebook.run("%lash model scripted:s.json")
    notebook.run("%%lash\nHello?")
    current = notebook.magics.sessions.current
    assert current is not None
    said = notebook.run("%lash resume").stdout
    assert f"session 1 ({current.id[:8]}) and its kernel were ended" in said
    assert f"session 1 ({session[:8]}): 1 turn; " in said
    assert "session 2: empty history" in notebook.run("%lash new").stdout
    assert holder(session_directory(tmp_path / "state", session)) is None


def test_only_what_this_notebook_began_is_found_unasked(notebook: Notebook, tmp_path: Path) -> None:
    other = recorded(tmp_path / "state", ["One."], notebook=tmp_path / "other.ipynb", base_dir=tmp_path)
    assert "earlier" not in notebook.load()
    nothing = "nothing was interrupted, and there is no earlier session of this notebook in "
    notebook.run("nothing = get_ipython().run_line_magic('lash', 'resume')")
    assert notebook.value("nothing") is None
    said = notebook.run("%lash resume").stdout
    assert said.startswith(nothing)
    assert len(said.splitlines()) == 1
    with pytest.raises(UnknownNameError, match="there is no session"):
        notebook.run("%lash resume nowhere")
    assert f"session 1 ({other[:8]}): 1 turn; it had no kernel" in notebook.run(f"%lash resume {other[:6]}").stdout
    assert notebook.run("%lash resume --yes").stdout.startswith(nothing)


def test_the_status_tells_of_what_is_not_gone_on_with_yet(notebook: Notebook, tmp_path: Path) -> None:
    left(tmp_path)
    waits = (
        "earlier session of this notebook: turn 1 was interrupted: `%lash resume` shows what is outstanding and asks"
    )
    notebook.load()
    assert notebook.run("%lash").stdout.splitlines()[1:3] == ["session: 1, no turns yet", waits]
    notebook.run("%lash model scripted:s.json")
    notebook.run("%%lash\nSomething else.")
    assert notebook.run("%lash").stdout.splitlines()[2] == waits
    notebook.run("%lash resume --yes")
    assert "earlier" not in notebook.run("%lash").stdout


def test_the_status_tells_of_an_earlier_session_until_another_has_begun(notebook: Notebook, tmp_path: Path) -> None:
    left(tmp_path, interrupted=False)
    notebook.load()
    goes_on = "earlier session of this notebook: 1 turn, `%lash resume` goes on with it"
    assert notebook.run("%lash").stdout.splitlines()[2] == goes_on
    notebook.run("%lash model scripted:s.json")
    notebook.run("%%lash\nSomething else.")
    assert "earlier" not in notebook.run("%lash").stdout


@pytest.mark.parametrize("line", ["--nonsense", "--yes --no", "-y"])
def test_other_options_are_bad_input(notebook: Notebook, line: str) -> None:
    notebook.load()
    with pytest.raises(InputError, match="it takes a session, and --yes, --no or --follow"):
        notebook.run(f"%lash resume {line}")


# ------------------------------------------------------------------------------------------------------------- history


def test_turns_of_other_sessions_are_drawn_from_their_journals(notebook: Notebook, tmp_path: Path) -> None:
    session = left(tmp_path, interrupted=False, turns=2)
    notebook.load()
    assert notebook.run(f"%lash history {session[:6]}").stdout == (
        f"session 1 ({session})\n1. Request 1.\n   [done]\n2. Request 2.\n   [done]\n"
    )
    (output,) = notebook.run(f"%lash history {session}.1").outputs
    assert "Request 1." in output.data["text/plain"]
    assert "It is 41." in output.data["text/plain"]
    with pytest.raises(InputError, match="there is no turn 3"):
        notebook.run(f"%lash history {session}.3")
    with pytest.raises(UnknownNameError, match="there is no session"):
        notebook.run("%lash history nowhere")
    assert "session: 1, no turns yet" in notebook.run("%lash").stdout


def test_a_turn_that_has_not_ended_is_drawn_too(notebook: Notebook, tmp_path: Path) -> None:
    session = left(tmp_path)
    notebook.load()
    assert "1. Request 1.\n   [has not ended]" in notebook.run(f"%lash history {session}").stdout
    captured = notebook.run(f"%lash history {session}.1")
    assert captured.stdout == "turn 1 has not ended; this is what is recorded of it\n"
    assert "kept = 41" in captured.outputs[0].data["text/plain"]


def test_turns_of_a_session_that_went_on_are_its_own(notebook: Notebook, tmp_path: Path) -> None:
    left(tmp_path, interrupted=False)
    notebook.load()
    notebook.run("%lash resume")
    assert notebook.run("%lash history").stdout == "1. Request 1.\n   [done]\n"
    (output,) = notebook.run("%lash history 1").outputs
    assert "It is 41." in output.data["text/plain"]
