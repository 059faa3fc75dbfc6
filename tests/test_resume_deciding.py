"""`lash-nb resume` of a turn that waits for a decision: agreed to, or rejected."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lash_nb import Session
from lash_nb.cli import main
from lash_nb.errors import ApprovalNeeded
from lash_nb.following import read_session

from .approvers import Ran
from .conversations import cell
from .test_resume_words import Resume, Terminal, script

WAITS = [cell("x = 1", "I count."), "It is one."]


class Waiting:
    """A session `one`, the cell of whose turn waits."""

    def __init__(self, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.resume = Resume(place, capsys)
        self.resume.model = script(place, *WAITS)
        ran = Ran()
        with (
            Session(
                self.resume.model,
                kernel=ran.kernel,
                state_dir=self.resume.state_dir,
                approve="every",
                session_id="one",
            ) as session,
            pytest.raises(ApprovalNeeded),
        ):
            session.run_sync("One?")
        assert ran.codes == []


@pytest.fixture
def resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Resume:
    return Waiting(tmp_path, capsys).resume


def test_a_rejected_cell_is_not_run_and_the_turn_goes_on(resume: Resume) -> None:
    printed, told = resume("one", "--reject", "not today", code=0)
    assert printed == "It is one.\n"
    assert told.count("waits for your approval") == 1, "it is decided once"
    assert "It has come otherwise" not in told
    assert resume.states() == {"one": ""}
    (turn,) = read_session(resume.state_dir, "one").turns
    assert [note.text for note in turn.picture().notes] == ["You rejected this cell: not today"]


def test_where_nothing_waits_nothing_is_rejected(resume: Resume) -> None:
    resume("one", "--reject", "no", code=0)
    _, told = resume("one", "--reject", "no", code=0)
    assert "there is nothing to do" in told


def test_yes_and_reject_exclude_each_other(resume: Resume, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resume", "one", "--yes", "--reject", "no", "--state-dir", str(resume.state_dir)]) == 2
    assert "not allowed with argument" in capsys.readouterr().err
    assert resume.states() == {"one": "turn 1 interrupted"}


@pytest.mark.parametrize("typed", [None, "y"])
def test_to_go_on_is_to_approve_the_cell_that_waits(
    typed: str | None, resume: Resume, monkeypatch: pytest.MonkeyPatch
) -> None:
    if typed is not None:
        monkeypatch.setattr(sys, "stdin", Terminal(typed))
    printed, told = resume("one", *([] if typed else ["--yes"]), code=0)
    assert printed == "It is one.\n"
    assert told.count("waits for your approval") == 1
    assert "[step 1] cell: ok" in told
