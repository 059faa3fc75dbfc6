"""Turns that were folded away, found in what a later turn of their session holds."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lash_nb.machine.execution import CellOutcome, StreamOutput
from lash_nb.machine.picture import PictureState
from lash_nb.stores.carried import Carried, CarriedSession, carried
from lash_nb.stores.envelopes import fold_envelope, open_text
from lash_nb.stores.notebook import make_block
from lash_nb.stores.pictures import FoldedTurns, picture_of
from lash_nb.views.html import picture_html
from lash_nb.views.text import picture_markdown, picture_text

from .envelopes import FINISHED, block, chain, envelope, finished, notebook, pointer, running

Part = tuple[str, str]


def message(name: str, role: str, *parts: Part) -> dict[str, Any]:
    made = [
        {"id": f"{name}.p{index}", "kind": kind, "content": content, "prune_state": "Intact"}
        for index, (kind, content) in enumerate(parts)
    ]
    return {"id": name, "role": role, "parts": made}


CONVERSATION = [
    message("m_user_1", "User", ("Text", "One?")),
    message("a", "Assistant", ("Prose", "Look."), ("Code", "slow()")),
    message("a_seen", "User", ("Output", "begun"), ("Error", "stopped")),
    message("b", "Assistant", ("Prose", "It is one.")),
    message("m_user_2", "User", ("Text", "Two?"), ("Text", "Or three?")),
    message("c", "Assistant", ("Code", "finish(None)")),
    message("c_seen", "User", ("Output", "printed"), ("Text", "null")),
    message("m_user_3", "User", ("Text", "Three?")),
    message("d", "Assistant", ("Prose", "three")),
]
ENTRIES: list[Any] = [
    {"CodeTrajectoryEntry": {"observation": "a_seen", "error": "interrupted: by you"}},
    {"CodeTrajectoryEntry": {"observation": "c_seen", "final_output": {"value": None}}},
    {"CodeTrajectoryEntry": {"observation": ["x"]}},
    {"CodeTrajectoryEntry": 3},
    "else",
]


def session(*outcomes: str, conversation: Any = CONVERSATION, entries: Any = ENTRIES) -> CarriedSession:
    """Turns that are references and ended so; behind them one that is whole."""
    checkpoint = json.loads(FINISHED)
    checkpoint["pending_effects"][2]["Done"]["messages"] = conversation
    checkpoint["events"] = [{"Protocol": {"plugin_id": "code", "payload": entry}} for entry in entries]
    turns: list[dict[str, Any]] = []
    for number, outcome in enumerate(outcomes, 1):
        whole = finished(f"{number}", turn=number, parent=turns[-1]["sha256"] if turns else None)
        turns.append(fold_envelope(whole))
        turns[-1]["ref"]["outcome"] = outcome
    last = envelope(json.dumps(checkpoint), turn=len(turns) + 1, parent=turns[-1]["sha256"])
    return found(carried(notebook(make_block(session="s", head=None, turns=[*turns, last]))))


def found(carries: Carried) -> CarriedSession:
    assert carries.problems == ()
    return carries.sessions[0]


def test_a_value_that_was_refused_is_said_behind_its_step() -> None:
    conversation = [
        message("m_user_1", "User", ("Text", "One?")),
        message("a", "Assistant", ("Code", "finish('x')")),
        message("a_seen", "User", ("Output", "printed"), ("Error", "error: the value does not fit")),
        message("b", "Assistant", ("Code", "finish(1)")),
        message("b_seen", "User", ("Text", "1")),
    ]
    about = {"observation": "a_seen", "error": "error: the value does not fit", "refused": "value: 'x' is no number"}
    entries = [{"CodeTrajectoryEntry": about}, {"CodeTrajectoryEntry": {"observation": "b_seen"}}]
    carries = session("done", conversation=conversation, entries=entries)
    picture = FoldedTurns(carries).picture(carries.turns[0])
    assert picture is not None
    assert [step.outcome for step in picture.steps] == [CellOutcome.OK, CellOutcome.OK]
    assert picture.steps[0].outputs == (StreamOutput(name="stdout", head="printed\n"),)
    (note,) = picture.notes
    assert (note.after, note.text) == (1, "the value was refused: value: 'x' is no number")
    told = "\n\nthe value was refused: value: 'x' is no number\n\n── Step 2 ──"
    assert told in picture_text(picture)
    assert "\n\n*the value was refused: value: 'x' is no number*\n\n#### Step 2" in picture_markdown(picture)
    assert "<p><em>the value was refused: value: &#x27;x&#x27; is no number</em></p>" in picture_html(picture)


@pytest.mark.parametrize(
    ("outcome", "checks", "notes"),
    [
        (None, ["total > 0"], ["check held: total > 0"]),
        (None, ["a", "b"], ["checks held: a; b"]),
        (None, [], []),
        (None, "a", []),
        ({"stopped": "max_turns"}, ["total > 0"], []),
    ],
)
def test_checks_held_where_a_turn_ended_well(outcome: Any, checks: Any, notes: list[str]) -> None:
    whole = finished(outcome=outcome, resume={"asked": {"checks": checks}})
    (turn,) = found(carried(notebook(make_block(session="s", head=None, turns=[whole])))).turns
    assert turn.text is not None
    assert [note.text for note in picture_of(turn, open_text(turn.text), None).notes] == notes


def test_request_cells_and_answer_are_there() -> None:
    carries = session("done", "done")
    folded = FoldedTurns(carries)
    first, second = (folded.picture(turn) for turn in carries.turns[:2])
    assert first is not None
    assert second is not None
    assert (first.turn, first.request, first.answer, first.state) == (1, "One?", "It is one.", PictureState.DONE)
    (step,) = first.steps
    assert (step.prose, step.code, step.outcome) == ("Look.", "slow()", CellOutcome.INTERRUPTED)
    assert step.outputs == (
        StreamOutput(name="stdout", head="begun\n"),
        StreamOutput(name="stderr", head="stopped\n"),
    )
    assert (second.request, second.answer) == ("Two?\n\nOr three?", None)
    assert second.value is not None
    assert second.value.value is None
    (step,) = second.steps
    assert step.outputs == (StreamOutput(name="stdout", head="printed\n"),), "the value is not shown twice"


@pytest.mark.parametrize("folded", [True, False])
def test_of_a_cell_that_the_user_changed_the_code_that_ran_is_there(folded: bool) -> None:
    conversation = [
        message("m_user_1", "User", ("Text", "One?")),
        message("a", "Assistant", ("Code", "everything()")),
        message("a_seen", "User", ("Output", "It was changed."), ("Output", "safe")),
        message("b", "Assistant", ("Code", "more()")),
        message("b_seen", "User", ("Error", "aborted: the cell was not run.")),
        message("c", "Assistant", ("Code", "fine()")),
        message("c_seen", "User", ("Output", "fine")),
    ]
    entries: list[Any] = [
        {"CodeTrajectoryEntry": {"observation": "a_seen", "ran": "print('safe')"}},
        {"CodeTrajectoryEntry": {"observation": "b_seen", "error": "aborted: the cell was not run."}},
        {"CodeTrajectoryEntry": {"observation": "c_seen", "ran": ["no code"]}},
    ]
    if folded:
        carries = session("stopped", conversation=conversation, entries=entries)
        picture = FoldedTurns(carries).picture(carries.turns[0])
        assert picture is not None
    else:
        checkpoint = json.loads(FINISHED)
        checkpoint["pending_effects"][2]["Done"]["messages"] = conversation
        checkpoint["events"] = [{"Protocol": {"plugin_id": "code", "payload": entry}} for entry in entries]
        (turn,) = found(
            carried(notebook(make_block(session="s", head=None, turns=[envelope(json.dumps(checkpoint))])))
        ).turns
        assert turn.text is not None
        picture = picture_of(turn, open_text(turn.text), None)
    steps = [
        (step.code, step.outcome, [output.head for output in step.outputs if isinstance(output, StreamOutput)])
        for step in picture.steps
    ]
    assert steps == [
        ("print('safe')", CellOutcome.OK, ["safe\n"]),
        ("more()", CellOutcome.ABORTED, ["aborted: the cell was not run.\n"]),
        ("fine()", CellOutcome.OK, ["fine\n"]),
    ]


@pytest.mark.parametrize(
    ("outcome", "sentence"),
    [("stopped", "stopped"), ("bound", "stopped: a limit was reached"), ("failed", "failed")],
)
def test_one_that_did_not_come_to_its_end_has_no_answer(outcome: str, sentence: str) -> None:
    carries = session(outcome, outcome)
    folded = FoldedTurns(carries)
    for turn in carries.turns[:2]:
        picture = folded.picture(turn)
        assert picture is not None
        assert (picture.sentence, picture.answer, picture.value) == (sentence, None, None)
    first = folded.picture(carries.turns[0])
    assert first is not None
    assert first.steps[-1].prose == "It is one.", "what was said last stays where it was said"


def test_what_no_later_turn_holds_is_nowhere() -> None:
    carries = session("done", "done", conversation=CONVERSATION[4:])
    folded = FoldedTurns(carries)
    assert [folded.holder(turn) for turn in carries.turns] == [None, carries.turns[2], None]
    assert folded.picture(carries.turns[0]) is None
    carries = found(carried(notebook(None, *[fold_envelope(turn) for turn in chain(2)])))
    assert [FoldedTurns(carries).holder(turn) for turn in carries.turns] == [None, None]


def test_a_turn_in_progress_holds_those_before_it() -> None:
    head = running()
    checkpoint = json.loads("".join(head["checkpoint"]))
    checkpoint["messages"] = [*CONVERSATION, message("m_user_4", "User", ("Text", "Four?"))]
    first = chain(1)[0]
    head = envelope(json.dumps(checkpoint), turn=4, parent=first["sha256"])
    value = {**make_block(session="s", head=head, turns=[fold_envelope(first)])}
    carries = found(carried(notebook(value)))
    assert FoldedTurns(carries).holder(carries.turns[0]) is carries.head


def test_requests_are_found_by_their_whole_name() -> None:
    odd = [
        message(name, "User", ("Text", name)) for name in ("m_user_1x", "m_user_01", "m_user_", "m_user_" + "9" * 5_000)
    ]
    carries = session("done", conversation=odd)
    assert FoldedTurns(carries).holder(carries.turns[0]) is None


def test_many_folded_turns_open_what_holds_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def counted(text: str, *, place: str) -> Any:
        opened.append(place)
        return open_text(text, place=place)

    monkeypatch.setattr("lash_nb.stores.pictures.open_text", counted)
    carries = session("done", "done")
    folded = FoldedTurns(carries)
    assert [folded.picture(turn) is not None for turn in carries.turns] == [True, True, False]
    assert opened == ["metadata.lash_nb.turns[2]"]


def test_what_outputs_refer_to_may_be_in_a_branch() -> None:
    turns = chain(2)
    branch = {**make_block(session="t", head=None, turns=[{**turn, "session": "t"} for turn in turns])}
    origin = {"session": "s", "turn": 2, "sha256": turns[1]["sha256"]}
    value = {**branch, "forked_from": origin}
    assert carried(notebook(value, *map(pointer, turns))).problems == ()
    (problem,) = carried(notebook(value, *map(pointer, turns), pointer(block(3)["turns"][2]))).problems
    assert problem.sentence == "cell 3, output 1 shows turn 3 of session 's', whose content is not here"
