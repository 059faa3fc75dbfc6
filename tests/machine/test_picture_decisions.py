"""What a picture shows of decisions and of variables: the fold of the host's activities, by hand."""

from __future__ import annotations

import pytest

from lash_nb.machine.activity import (
    ApprovalAsked,
    ApprovalDecided,
    CodeBlockCompleted,
    CodeBlockStarted,
    TurnStarted,
    VariableSeen,
    VariablesSeen,
)
from lash_nb.machine.approvals import Approval, ApprovalMode, Decision, EffectKind, Verdict, Wish
from lash_nb.machine.events import LlmRequestEvent, TextDelta, TurnActivity, TurnOutcomeEvent
from lash_nb.machine.execution import CellOutcome
from lash_nb.machine.outcomes import AssistantMessage, Finished, Stopped, TurnStopReason
from lash_nb.machine.picture import PictureState, TurnPicture
from lash_nb.machine.picture_parts import NoteKind

CELL = Approval(id="cell-3", effect_id=3, code="x = 1")
WRITE = Wish(kind=EffectKind.WRITE, target="/etc/x")
EFFECT = Approval(id="effect-3-1", effect_id=3, code="x = 1", wish=WRITE)
BEGUN = (
    TurnStarted(turn=1, request="r", model="m"),
    LlmRequestEvent(protocol_iteration=0, message_count=1, tool_list=""),
    TextDelta(content="I look."),
)
STARTED = CodeBlockStarted(effect_id=3, language="python", code="x = 1")
COMPLETED = CodeBlockCompleted(effect_id=3, outcome=CellOutcome.OK, outputs=(), duration_ms=1)


def folded(*activities: TurnActivity) -> TurnPicture:
    picture = TurnPicture()
    for activity in activities:
        picture = picture.apply(activity)
    return picture


def test_a_cell_that_waits_is_shown_with_its_code() -> None:
    picture = folded(*BEGUN, ApprovalAsked(approval=CELL))
    assert picture.state is PictureState.WAITING
    assert picture.goes_on
    assert picture.sentence == "waiting for you"
    assert picture.pending == CELL
    (step,) = picture.steps
    assert (step.prose, step.source, step.running) == ("I look.", "x = 1", False)


def test_an_effect_that_waits_belongs_to_its_running_cell() -> None:
    picture = folded(*BEGUN, STARTED, ApprovalAsked(approval=EFFECT))
    assert (picture.state, picture.pending) == (PictureState.WAITING, EFFECT)
    assert [step.running for step in picture.steps] == [True]


@pytest.mark.parametrize(
    "then",
    [
        ApprovalDecided(approval=CELL, decision=Decision.approve()),
        STARTED,
        LlmRequestEvent(protocol_iteration=1, message_count=2, tool_list=""),
    ],
    ids=lambda activity: type(activity).__name__,
)
def test_what_goes_on_waits_no_more(then: TurnActivity) -> None:
    picture = folded(*BEGUN, ApprovalAsked(approval=CELL), then)
    assert (picture.state, picture.pending) == (PictureState.RUNNING, None)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Stopped(stop=TurnStopReason.CANCELLED), PictureState.STOPPED),
        (Finished(finish=AssistantMessage(text="Done.")), PictureState.DONE),
    ],
)
def test_nothing_waits_after_the_end(outcome: Stopped | Finished, state: PictureState) -> None:
    ended = folded(*BEGUN, ApprovalAsked(approval=CELL), TurnOutcomeEvent(outcome=outcome))
    assert (ended.state, ended.pending, ended.goes_on) == (state, None, False)
    assert ended.apply(ApprovalAsked(approval=CELL)) == ended


@pytest.mark.parametrize(
    ("approval", "decision", "said"),
    [
        (CELL, Decision.approve(), []),
        (CELL, Decision.reject(), ["You rejected this cell."]),
        (CELL, Decision.reject("too slow"), ["You rejected this cell: too slow"]),
        (CELL, Decision.edit("y"), ["You edited this cell before it ran."]),
        (EFFECT, Decision.approve(), ["You allowed: write /etc/x"]),
        (EFFECT, Decision.reject("no"), ["You rejected: write /etc/x: no"]),
        (
            EFFECT,
            Decision(verdict=Verdict.REJECTED, why="nobody is here", by_policy=True),
            ["Not allowed: write /etc/x: nobody is here"],
        ),
        (EFFECT, Decision(verdict=Verdict.APPROVED, by_policy=True), []),
    ],
)
def test_what_was_decided_is_noted_behind_its_step(approval: Approval, decision: Decision, said: list[str]) -> None:
    picture = folded(*BEGUN, ApprovalDecided(approval=approval, decision=decision), STARTED, COMPLETED)
    assert [note.text for note in picture.notes] == said
    assert all((note.kind, note.after) == (NoteKind.DECISION, 1) for note in picture.notes)


def test_variables_are_those_that_were_seen_last() -> None:
    one, two = VariableSeen(name="a", type="int"), VariableSeen(name="b", type="DataFrame", detail="3 rows", new=False)
    picture = folded(*BEGUN, VariablesSeen(variables=(one,)), VariablesSeen(variables=(one, two)))
    assert picture.variables == (one, two)


def test_modes_are_ordered_by_what_they_hold_back() -> None:
    order = sorted(ApprovalMode, key=lambda mode: mode.strictness)
    assert order == ["all", "effects", "every", "plan"]


@pytest.mark.parametrize("verdict", ["rejected", "REJECTED", ""])
def test_a_verdict_that_is_said_as_a_text_is_that_verdict_or_an_error(verdict: str) -> None:
    try:
        decision = Decision(verdict=verdict)  # type: ignore[arg-type]
    except ValueError:
        assert verdict != "rejected"
    else:
        assert not decision.allows
