"""A session that another process writes: what `%lash resume` says of it, and how its running turn is followed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from IPython.utils.capture import capture_output

from lash_nb.compacting import compacted
from lash_nb.errors import CorruptJournalError, JournalError
from lash_nb.following import Following, read_session
from lash_nb.live import InCell
from lash_nb.machine.effects import EffectId
from lash_nb.machine.state import TurnCheckpoint, WaitingTools
from lash_nb.recorded import RecordedTurn
from lash_nb.resume_magic import ResumeWord
from lash_nb.stores.journal import Journal, JournalFollower, holder, session_directory
from lash_nb.views import ViewActions
from lash_nb.views.live import QuietView

from .cut_journals import cell_asked, cut, journal, left, left_notebook
from .notebook_shell import Notebook
from .stores.journals import fork, wait
from .told_turns import call


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    with left_notebook(tmp_path, monkeypatch) as made:
        yield made


@dataclass
class Used:
    """A session that another process has, in the midst of its first turn."""

    session: str
    pid: int
    path: Path
    rest: bytes
    """What is still to be written."""


@pytest.fixture
def used(tmp_path: Path) -> Iterator[Used]:
    session = left(tmp_path, interrupted=False)
    path = journal(tmp_path / "state", session)
    rest = cut(path, behind=cell_asked)

    def hold() -> None:
        with Journal.open(path.parent, session=session, create=False):
            signal.pause()

    pid = fork(hold)
    while holder(path.parent) is None:
        time.sleep(0.02)
    yield Used(session, pid, path, b"".join(rest))
    end(pid)


def end(pid: int) -> None:
    with suppress(ProcessLookupError, ChildProcessError):
        os.kill(pid, signal.SIGKILL)
        wait(pid)


def test_a_session_in_use_is_told_and_left_alone(notebook: Notebook, used: Used) -> None:
    assert f"in use by process {used.pid} (its turn can be followed: `%lash resume`)" in notebook.load()
    said = notebook.run("%lash resume").stdout
    assert f"the session '{used.session}' is in use by process {used.pid}" in said
    assert f"`%lash resume {used.session} --follow` shows its turn" in said
    assert "session: 1, no turns yet" in notebook.run("%lash").stdout


def when_followed(monkeypatch: pytest.MonkeyPatch, then: Callable[[], object]) -> None:
    """Do something once, after the first look."""
    done: list[object] = []

    class Watched(JournalFollower):
        def poll(self) -> list[dict[str, Any]]:
            records = super().poll()
            if not done:
                done.append(then())
            return records

    monkeypatch.setattr("lash_nb.following.JournalFollower", Watched)


def append(used: Used) -> None:
    with used.path.open("ab") as file:
        file.write(used.rest)


def test_its_turn_is_followed_to_its_end(notebook: Notebook, used: Used, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook.load()
    monkeypatch.setattr("builtins.input", lambda question: "y")
    when_followed(monkeypatch, lambda: append(used))
    captured = notebook.run("%lash resume")
    *_, runs, ended = captured.stdout.splitlines()
    assert runs == (
        f"turn 1 of session {used.session[:8]} runs in another process: Stop, or an interrupt of this cell, ends the "
        "watching; the turn goes on"
    )
    assert ended == f"turn 1 of session {used.session[:8]} has ended there"
    (output,) = captured.outputs
    assert [text in output.data["text/plain"] for text in ("Request 1.", "kept = 41", "It is 41.")] == [True] * 3
    assert not output.metadata
    assert not notebook.magics.sessions.session().turns


def test_the_process_that_is_followed_may_be_killed(
    notebook: Notebook, used: Used, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook.load()
    when_followed(monkeypatch, lambda: end(used.pid))
    captured = notebook.run("%lash resume --follow")
    assert "the process that ran turn 1 is gone: `%lash resume" in captured.stdout
    assert "kept = 41" in captured.outputs[0].data["text/plain"]
    assert "Turn 1 was interrupted" in notebook.run("%lash resume --no").stdout


def test_an_interrupt_ends_the_following_alone(notebook: Notebook, used: Used, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook.load()
    interrupt = partial(signal.raise_signal, signal.SIGINT)
    when_followed(monkeypatch, lambda: threading.Timer(0.2, interrupt).start())
    with capture_output() as captured:
        result = notebook.shell.run_cell("%lash resume --follow")
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    told = f"KeyboardInterrupt: turn 1 of session {used.session[:8]} goes on there, and is not followed any more"
    assert captured.stdout.splitlines()[-1] == told
    assert "kept = 41" in captured.outputs[0].data["text/plain"]
    owner = holder(used.path.parent)
    assert owner is not None
    assert owner["pid"] == used.pid


def test_a_click_ends_the_following_alone(notebook: Notebook, used: Used, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook.load()
    clicks: list[Callable[[], None]] = []

    def view(*, actions: ViewActions) -> QuietView:
        clicks.append(actions.stop)
        assert (actions.decide, actions.say) == (None, None), "the turn is another process's"
        return QuietView()

    monkeypatch.setattr("lash_nb.views.live.choose_view", view)
    when_followed(monkeypatch, lambda: threading.Timer(0.2, lambda: clicks[0]()).start())
    here = InCell(
        sessions=notebook.magics.sessions,
        shell=notebook.shell,
        live=True,
        announce=lambda _: None,
        on_shown=lambda _: None,
    )
    resume = ResumeWord(here)
    with capture_output() as captured:
        assert resume("--follow") is None
    assert f"turn 1 of session {used.session[:8]} goes on there, and is not followed any more" in captured.stdout
    assert "kept = 41" in captured.outputs[0].data["text/plain"]


# --------------------------------------------------------------------------------------------------- without a notebook


def test_a_turn_is_seen_as_far_as_it_is_recorded(tmp_path: Path, used: Used) -> None:
    following = Following(tmp_path / "state", used.session)
    assert following.look()
    (step,) = following.picture.steps
    assert (step.prose, step.outcome, following.picture.request) == ("I look.\n", None, "Request 1.")
    assert (step.running, following.picture.sentence) == (True, "running a cell")
    lines = used.rest.splitlines(keepends=True)
    seen = []
    doing = ["running a cell"]
    for line in lines:
        with used.path.open("ab") as file:
            file.write(line)
        goes_on = following.look()
        seen.append((goes_on, len(following.picture.steps), following.picture.answer))
        if following.picture.sentence != doing[-1]:
            doing.append(following.picture.sentence)
    assert doing == [
        "running a cell",
        "preparing the next step",
        "waiting for the model",
        "the model is answering",
        "preparing the next step",
        "done",
    ]
    assert seen[0] == (True, 1, None)
    assert seen[-1] == (False, 1, "It is 41.")
    assert following.turn is not None
    assert following.turn.ended
    assert not following.abandoned


@contextmanager
def rewritten(
    place: Path, change: Callable[[RecordedTurn, TurnCheckpoint], None]
) -> Iterator[tuple[Journal, Following]]:
    """A running turn that is not what was left, and that this process has."""
    session = read_session(place / "state", left(place))
    assert session.running is not None
    assert session.running.checkpoint is not None
    change(session.running, session.running.checkpoint)
    with Journal.open(session_directory(place / "new", session.id), session=session.id, create=True) as written:
        written.append_many(compacted(session))
        yield written, Following(place / "new", session.id)


def test_a_turn_that_came_without_its_activities_waits_for_the_model(tmp_path: Path) -> None:
    session = left(tmp_path, interrupted=False)
    cut(journal(tmp_path / "state", session), behind=lambda record: record.get("kind") == "LlmCall")
    asking = read_session(tmp_path / "state", session).running
    assert asking is not None

    def ask(turn: RecordedTurn, checkpoint: TurnCheckpoint) -> None:
        turn.checkpoint, turn.effect = asking.checkpoint, asking.effect
        turn.told.clear()

    with rewritten(tmp_path, ask) as (_, following):
        assert following.look()
        assert following.picture.sentence == "waiting for the model"


def test_tools_are_shown_while_they_run(tmp_path: Path) -> None:
    calls = (call("pay", "a", to="x"), call("pay", "b", to="y"))

    def pay(turn: RecordedTurn, checkpoint: TurnCheckpoint) -> None:
        turn.checkpoint = replace(checkpoint, state=WaitingTools(effect_id=EffectId(3), calls=calls))
        turn.calls = {"a": None, "b": None}

    with rewritten(tmp_path, pay) as (written, following):
        assert following.look()
        assert following.picture.sentence == "running tools"
        output = {"outcome": {"status": "success", "payload": "paid"}}
        written.append({"k": "called", "turn": 1, "effect": 3, "call": "a", "output": output})
        assert following.look()
        shown = [(one.args, one.succeeded) for one in following.picture.steps[-1].tool_calls]
        assert shown == [({"to": "x"}, True), ({"to": "y"}, None)]


def test_nobody_writes_it(tmp_path: Path) -> None:
    session = left(tmp_path)
    following = Following(tmp_path / "state", session)
    assert not following.look()
    assert following.abandoned
    assert following.turn is not None
    assert not following.turn.ended
    assert following.picture.sentence != "running a cell"


def test_no_turn_runs(tmp_path: Path) -> None:
    session = left(tmp_path, interrupted=False)
    following = Following(tmp_path / "state", session)
    assert not following.look()
    assert following.turn is None


def test_what_comes_after_the_turn_is_not_looked_at(tmp_path: Path) -> None:
    session = left(tmp_path, interrupted=False, turns=2)
    path = journal(tmp_path / "state", session)
    rest = cut(path, behind=cell_asked)
    following = Following(tmp_path / "state", session)
    following.look()
    with path.open("ab") as file:
        file.write(b"".join(rest))
    assert not following.look()
    assert following.turn is not None
    assert (following.turn.number, following.picture.answer) == (1, "It is 41.")


def test_a_session_is_read_without_being_opened(tmp_path: Path, used: Used) -> None:
    session = read_session(tmp_path / "state", used.session)
    assert session.turns == []
    assert session.running is not None
    assert session.running.asked.text == "Request 1."
    with pytest.raises(JournalError):
        read_session(tmp_path / "state", "nowhere")


def test_damage_is_told(tmp_path: Path) -> None:
    path = journal(tmp_path / "state", session := left(tmp_path))
    data = path.read_bytes()
    path.write_bytes(data.replace(b'"label":"1"', b'"label":"2"', 1))
    with pytest.raises(CorruptJournalError):
        Following(tmp_path / "state", session).look()
