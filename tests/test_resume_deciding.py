"""`lash-nb resume` of a turn that waits for a decision: agreed to, or rejected."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from lash_nb import Session
from lash_nb.cli import main
from lash_nb.errors import ApprovalNeeded
from lash_nb.following import read_session
from lash_nb.machine.picture import NoteKind

from .approvers import YES, Person, Ran
from .conversations import Blocks, cell
from .test_resume_words import Resume, Terminal, read, script, v4

WAITS = [cell("x = 1", "I count."), "It is one."]
STARTS = "import subprocess\nprint('ended', subprocess.run(['true']).returncode)"


class Waiting:
    """A session `one`, a cell of whose turn waits: the first one, or that behind `approved` ones."""

    def __init__(
        self, place: Path, capsys: pytest.CaptureFixture[str], *replies: str, approved: int = 0, **options: Any
    ) -> None:
        self.resume = Resume(place, capsys)
        self.resume.model = script(place, *(replies or WAITS))
        ran = Ran()
        with (
            Session(
                self.resume.model,
                kernel=ran.kernel,
                state_dir=self.resume.state_dir,
                approve="every",
                session_id="one",
                on_approval=Person(*[YES] * approved, None),
                **options,
            ) as session,
            pytest.raises(ApprovalNeeded),
        ):
            session.run_sync("One?")
        assert len(ran.codes) == approved


@pytest.fixture
def resume(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Resume:
    return Waiting(tmp_path, capsys).resume


def decisions(resume: Resume) -> list[str]:
    """What stands beside the steps of the turn that has ended of what was decided."""
    (turn,) = read_session(resume.state_dir, "one").turns
    return [note.text for note in turn.picture().notes if note.kind is NoteKind.DECISION]


def test_a_rejected_cell_is_not_run_and_the_turn_goes_on(resume: Resume) -> None:
    printed, told = resume("one", "--reject", "not today", code=0)
    assert printed == "It is one.\n"
    assert told.count("waits for your approval") == 1, "it is decided once"
    assert "It has come otherwise" not in told
    assert resume.states() == {"one": ""}
    assert decisions(resume) == ["You rejected this cell: not today"]


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


@pytest.mark.parametrize("typed", ["n not today", "no: not today", "N  not today"])
def test_a_reason_that_is_typed_behind_no_rejects_as_the_option_does(
    typed: str, resume: Resume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    printed, told = resume("one", code=0)
    assert printed == "It is one.\n"
    assert "Go on? [y/N, or n WHY] " in told
    assert decisions(resume) == ["You rejected this cell: not today"]


@pytest.mark.parametrize("typed", ["n", "", "yes please", "later"])
def test_without_a_reason_it_goes_on_waiting(typed: str, resume: Resume, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Terminal(typed))
    _, told = resume("one", code=5)
    assert "`lash-nb resume one --reject WHY` goes on without what waits" in told
    assert resume.states() == {"one": "turn 1 interrupted"}


def test_without_a_terminal_both_ways_are_said(resume: Resume) -> None:
    _, told = resume("one", code=5)
    assert (
        "there is no terminal to ask at; `lash-nb resume one --yes` agrees; `lash-nb resume one --reject WHY`" in told
    )


def test_what_led_to_the_question_is_shown_before_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = [cell("a = 1", "First I look."), cell("del everything", "So I delete."), "Done."]
    resume = Waiting(tmp_path, capsys, *replies, approved=1).resume
    monkeypatch.setattr(sys, "stdin", Terminal("n"))
    _, told = resume("one", code=5)
    led, _, question = told.partition("Turn 1 was interrupted.")
    parts = ["did this:", "First I look.", "    a = 1", "    ran 1", "So I delete."]
    places = [led.find(part) for part in parts]
    assert -1 not in places
    assert places == sorted(places)
    assert "del everything" not in led, "it is shown once, with the question"
    assert "    del everything\n" in question
    assert "waiting for you" not in led
    _, told = resume("one", "--reject", "no", code=0)
    assert "did this" not in told, "nobody is asked"


def test_the_next_question_shows_what_came_since(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    replies = [cell("a = 1", "First I look."), cell("print('seen', a)", "Then I print."), cell("b = 1"), "Done."]
    resume = Waiting(tmp_path, capsys, *replies, approved=1).resume
    monkeypatch.setattr(sys, "stdin", Terminal("y", "no that is enough"))
    printed, told = resume("one", code=0)
    assert printed == "Done.\n"
    first, second = told.split("Until then, the turn did this:")[1:]
    assert "First I look." in first
    assert "First I look." in second
    led, _, question = second.partition("The agent wants to run this cell.")
    assert "Then I print." in led
    assert "b = 1" not in led
    assert "    b = 1\n" in question
    assert decisions(resume)[-1] == "You rejected this cell: that is enough"


def test_what_led_there_is_shown_in_short_and_cannot_rule_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replies = [cell("a = 1", "\x1b[2JFirst." + "x" * 50_000 + "Last."), cell("b = 1"), "Done."]
    _, told = Waiting(tmp_path, capsys, *replies, approved=1).resume("one", code=5)
    assert "First." in told
    assert "Last." in told
    assert "\x1b" not in told
    assert len(told) < 6_000


def test_where_nothing_led_there_nothing_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, told = Waiting(tmp_path, capsys, cell("x = 1"), "Done.").resume("one", code=5)
    assert told.startswith("Turn 1 was interrupted.")


def test_an_effect_cannot_be_left_for_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resume = Waiting(tmp_path, capsys, cell(STARTS), "It has ended.").resume
    monkeypatch.setattr(sys, "stdin", Terminal("y", "later", "yes"))
    printed, told = resume("one", "--approve", "effects", code=0)
    assert printed == "It has ended.\n"
    assert "This cannot wait: the cell runs already." in told
    assert decisions(resume) == ["You allowed: start true"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (["--approve", "all"], "approve plan, not all: LASH_NB_APPROVE=plan in the environment"),
        ([], "approve plan, not every: LASH_NB_APPROVE=plan in the environment"),
        (["--approve", "plan"], ""),
    ],
)
def test_a_mode_that_the_environment_tightens_is_said(
    wanted: list[str], said: str, resume: Resume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LASH_NB_APPROVE", "plan")
    _, told = resume("one", *wanted, code=5)
    assert said in told
    assert ("LASH_NB_APPROVE" in told) == bool(said)


@pytest.mark.parametrize(
    ("below", "said"),
    [
        (["a = 1", "", "b = 1"], "2 cells below it were not run; `lash-nb run IN` runs all cells"),
        (["a = 1"], "1 cell below it was not run; `lash-nb run IN`"),
        ([], ""),
    ],
)
def test_cells_below_the_turn_are_not_run_and_that_is_said(
    below: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = Blocks()
    resume = Waiting(tmp_path, capsys, on_block=blocks).resume
    block = next(block for block in reversed(blocks.blocks) if block["head"] is not None)
    skipped = v4.new_code_cell("c = 1", metadata={"tags": ["skip-execution"]})
    ran = v4.new_code_cell("d = 1", execution_count=7)
    code = [v4.new_code_cell(source) for source in ("above = 1", "%%lash\nOne?", *below)]
    path = tmp_path / "n.ipynb"
    notebook = v4.new_notebook(cells=[*code, skipped, v4.new_markdown_cell("text"), ran], metadata={"lash_nb": block})
    path.write_text(v4.writes(notebook))
    _, told = resume(str(path), "--reject", "no", code=0)
    assert f"the turn is shown in cell 2 of {path}" in told
    assert said in told
    assert ("below it" in told) == bool(said)
    assert [one.source for one in read(path, as_version=4).cells if one.get("outputs")] == ["%%lash\nOne?"]
