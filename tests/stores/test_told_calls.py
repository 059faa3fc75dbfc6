"""Turns of a model that calls tools itself, drawn from their checkpoint alone, also from a damaged one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.machine.activities import TURN_ACTIVITY
from lash_nb.machine.execution import CellOutcome, CellOutput, StreamOutput
from lash_nb.machine.picture import TurnPicture
from lash_nb.protocols.records import CodeDriverState, FinalOutput
from lash_nb.protocols.run_code import cell_text
from lash_nb.stores.envelopes import open_text
from lash_nb.stores.summaries import summarize
from lash_nb.stores.told import told_of
from lash_nb.stores.told_results import cell_texts, plain_result

from .envelopes import FINISHED
from .test_pictures import message


def call(call_id: Any, name: Any, args: str) -> dict[str, Any]:
    return {"kind": "ToolCall", "content": args, "tool_call_id": call_id, "tool_name": name}


def result(call_id: Any, name: Any, text: str) -> dict[str, Any]:
    return {"kind": "ToolResult", "content": text, "tool_call_id": call_id, "tool_name": name}


def said(name: str, role: str, *parts: dict[str, Any]) -> dict[str, Any]:
    made = [{"id": f"{name}.p{at}", "prune_state": "Intact", **part} for at, part in enumerate(parts)]
    return {"id": name, "role": role, "parts": made}


def told(*messages: dict[str, Any], entries: Any = ()) -> tuple[TurnPicture, tuple[str, ...]]:
    """What is to be seen of the turn, and the code that it has in short."""
    checkpoint = json.loads(FINISHED)
    checkpoint["pending_effects"][2]["Done"]["messages"] = [message("m_user_1", "User", ("Text", "Go.")), *messages]
    checkpoint["events"] = [{"Protocol": {"plugin_id": "code", "payload": entry}} for entry in entries]
    opened = open_text(json.dumps(checkpoint), place="x")
    picture = TurnPicture()
    for activity in told_of(opened, None, turn=1, request="Go.", model="m", protocol="tools"):
        picture = picture.apply(TURN_ACTIVITY.decode(activity))
    return picture, summarize(opened, session="s", turn=1, before=None).code


def cells(picture: TurnPicture) -> list[tuple[str, str | None, CellOutcome | None, tuple[CellOutput, ...]]]:
    return [(step.call_id, step.code, step.outcome, step.outputs) for step in picture.steps]


def out(text: str) -> StreamOutput:
    return StreamOutput(name="stdout", head=text)


def err(text: str) -> StreamOutput:
    return StreamOutput(name="stderr", head=text)


def diagnostic(phase: str, **payload: Any) -> dict[str, Any]:
    return {"CodeDiagnostic": {"id": phase, "protocol_iteration": 0, "phase": phase, "payload": payload}}


BATCH = [
    said(
        "r",
        "Assistant",
        {"kind": "Prose", "content": "First."},
        {"kind": "Prose", "content": "Second."},
        call("x", "run_code", '{"code": "a = 1\\nprint(a)\\na"}'),
        call("n", "look", '{"city": "Bern"}'),
        call("f", "look", '{"city": "Rome"}'),
        call("y", "run_code", '{"code": "b()"}'),
        call("z", "run_code", '{"code": "all()"}'),
        call("w", "run_code", '{"code": "late()"}'),
    ),
    said(
        "seen",
        "User",
        result(
            "x",
            "run_code",
            "output[0] (1 char, 1 line)\n~~~\n1\n~~~\n\noutput[1] (5 chars, 2 lines)\n~~~~\n~~~\n1\n~~~~",
        ),
        result("n", "look", "~~~\n17.5\n~~~"),
        result("f", "look", "The call failed:\n~~~\nno such city\n~~~"),
        result("y", "run_code", "Error:\nerror: b failed\n~~~\nNameError: b\n~~~"),
        result(
            "z",
            "run_code",
            "output[0] (9 chars, 1 line)\n~~~\nwas other\n~~~\n\noutput[1] (4 chars, 1 line)\n~~~\nsafe\n~~~",
        ),
        result("w", "run_code", "policy: this call was not made."),
    ),
]
ENTRIES = [
    diagnostic("tool_reply", refused=[{"call_id": "w", "code": "turn_limit", "text": "policy: …"}]),
    diagnostic("tool_results", results=6, succeeded=3, failed=["f", "y", "w"]),
    {"CodeTrajectoryEntry": {"observation": "seen", "call_id": "x"}},
    {"CodeTrajectoryEntry": {"observation": "seen", "call_id": "y", "error": "error: b failed"}},
    {"CodeTrajectoryEntry": {"observation": "seen", "call_id": "z", "ran": "some()"}},
]


def test_calls_and_cells_of_a_batch_are_told_apart() -> None:
    picture, code = told(*BATCH, entries=ENTRIES)
    assert picture.steps[0].prose == "First.\n\nSecond."
    assert cells(picture) == [
        ("x", "a = 1\nprint(a)\na", CellOutcome.OK, (out("1\n"), out("~~~\n1\n"))),
        ("y", "b()", CellOutcome.ERROR, (err("error: b failed\nNameError: b\n"),)),
        ("z", "some()", CellOutcome.OK, (out("safe\n"),)),
    ]
    assert [(one.call_id, one.name, one.args, one.succeeded, one.problem) for one in picture.steps[0].tool_calls] == [
        ("n", "look", {"city": "Bern"}, True, ""),
        ("f", "look", {"city": "Rome"}, False, "no such city"),
        ("w", "run_code", {"code": "late()"}, False, "policy: this call was not made."),
    ]
    assert code == ("a = 1\nprint(a)\na", "b()", "all()")


def test_a_value_that_was_refused_is_said_and_what_the_model_was_told_of_it_is_not() -> None:
    text = (
        "output[0] (1 char, 1 line)\n~~~\n7\n~~~\n\nError:\nerror: the value.\n\nYour value was refused.\n~~~\nx\n~~~"
    )
    about = {"observation": "seen", "call_id": "x", "error": "error: the value.", "refused": "no number"}
    picture, _ = told(
        said("r", "Assistant", call("x", "run_code", '{"code": "finish(1)"}')),
        said("seen", "User", result("x", "run_code", text)),
        entries=[{"CodeTrajectoryEntry": about}, diagnostic("tool_results", results=1, succeeded=0, failed=["x"])],
    )
    assert cells(picture) == [("x", "finish(1)", CellOutcome.OK, (out("7\n"),))]
    assert [note.text for note in picture.notes] == ["the value was refused: no number"]


@pytest.mark.parametrize(
    ("label", "outcome"),
    [
        ("interrupted", CellOutcome.INTERRUPTED),
        ("timeout", CellOutcome.TIMEOUT),
        ("kernel", CellOutcome.DEAD),
        ("policy", CellOutcome.ABORTED),
        ("lost", CellOutcome.LOST),
    ],
)
def test_how_a_cell_ended_is_what_its_record_says(label: str, outcome: CellOutcome) -> None:
    entry = {"observation": "seen", "call_id": "x", "error": f"{label}: so it was"}
    picture, _ = told(
        said("r", "Assistant", call("x", "run_code", '{"code": "1"}')),
        said("seen", "User", result("x", "run_code", f"Error:\n{label}: so it was")),
        entries=[{"CodeTrajectoryEntry": entry}],
    )
    assert cells(picture) == [("x", "1", outcome, (err(f"{label}: so it was\n"),))]


def test_what_has_no_result_had_not_ended() -> None:
    picture, _ = told(
        said("r", "Assistant", call("x", "run_code", '{"code": "1"}'), call("n", "look", "{}")),
        said("more", "User", {"kind": "Text", "content": "Well?"}),
    )
    assert cells(picture) == [("x", "1", None, ())]
    assert [(one.call_id, one.succeeded) for one in picture.steps[0].tool_calls] == [("n", None)]


@pytest.mark.parametrize(
    "args",
    ["", "{", "[1]", '{"code": 3}', '{"other": "x"}', '"text"', "NaN", '{"a": ' * 5_000 + "1" + "}" * 5_000],
    ids=["nothing", "half", "list", "number", "other", "text", "NaN", "deep"],
)
def test_arguments_that_are_none_are_shown_as_they_are(args: str) -> None:
    picture, code = told(
        said("r", "Assistant", call("x", "run_code", args), call("n", "look", args)),
        said("seen", "User", result("x", "run_code", "~~~\none\n~~~"), result("n", "look", "other")),
    )
    assert code == ()
    (step,) = picture.steps
    assert [(one.call_id, one.succeeded) for one in step.tool_calls] == [("x", True), ("n", True)]
    shown = step.tool_calls[0].args
    assert shown == (args if args in ("", "{", "NaN") or len(args) > 1_000 else json.loads(args))


@pytest.mark.parametrize(
    "entries",
    [
        [{"CodeDiagnostic": 3}, "else", {"CodeTrajectoryEntry": None}],
        [diagnostic("tool_results", failed="x"), diagnostic("tool_reply", refused={"call_id": "x"})],
        [diagnostic("tool_results", failed=[["x"], 3, None]), diagnostic("tool_reply", refused=["x", {"call_id": 3}])],
        [
            {"CodeDiagnostic": {"payload": ["failed"]}},
            {"CodeTrajectoryEntry": {"observation": "seen", "call_id": ["x"]}},
        ],
        [{"CodeTrajectoryEntry": {"observation": ["seen"], "call_id": "x", "error": "kernel: gone"}}],
    ],
)
def test_records_of_another_form_count_for_nothing(entries: Any) -> None:
    picture, code = told(
        said("r", "Assistant", call("x", "run_code", '{"code": "1"}')),
        said("seen", "User", result("x", "run_code", "output[0] (1 char, 1 line)\n~~~\n1\n~~~")),
        entries=entries,
    )
    assert cells(picture) == [("x", "1", CellOutcome.OK, (out("1\n"),))]
    assert code == ("1",)


def test_calls_without_a_name_or_an_id_are_shown_as_far_as_they_can_be() -> None:
    picture, _ = told(
        said("r", "Assistant", call("", "run_code", '{"code": "1"}'), {"kind": "ToolCall", "content": "{}"}),
        said("seen", "User", {"kind": "ToolResult", "content": "1"}),
        said("s", "Assistant", {"kind": "ToolCall", "content": "{}", "tool_call_id": "n"}),
    )
    assert cells(picture) == [("", None, None, ())]
    assert [(one.call_id, one.name) for one in picture.steps[0].tool_calls] == [("n", "")]


# -- the texts of results ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("~~~\n17.5\n~~~", "17.5"),
        ("The call failed:\n~~~~\n~~~\n~~~~", "~~~"),
        ("~~~\n\n~~~", ""),
        ("(an empty result)", "(an empty result)"),
        ("~~~\nnever ends", "~~~\nnever ends"),
        ("~~~\none\n~~~\nmore", "~~~\none\n~~~\nmore"),
        ("a\nb\n~~~\nc\n~~~", "a\nb\n~~~\nc\n~~~"),
        ("", ""),
    ],
)
def test_a_result_without_what_stands_around_it(content: str, text: str) -> None:
    assert plain_result(content) == text


@pytest.mark.parametrize(
    "content",
    [
        "output[0] (1 char, 1 line)\n1",
        "output[0] (1 char, 1 line)\n~~~\n1\n~~~~~",
        "Done.",
        "Final output:\n~~~",
        "~~~\n1\n~~~",
    ],
)
def test_a_text_of_another_form_is_left_whole(content: str) -> None:
    found = cell_texts(content)
    assert (found.outputs, found.error, found.rest) == ([], "", content)


TEXTS = st.text(alphabet="~ab(\n)[]01:", min_size=1, max_size=30).filter(lambda text: bool(text.strip()))


@given(outputs=st.lists(TEXTS, max_size=4), error=st.none() | TEXTS, final=st.none() | st.integers() | TEXTS)
def test_what_was_written_for_the_model_is_read_as_it_was(
    outputs: list[str], error: str | None, final: int | str | None
) -> None:
    error = None if error is None else f"error: it failed\n{error}"
    step = CodeDriverState(
        output=tuple(outputs), exec_error=error, finish=None if final is None else FinalOutput(value=final)
    )
    found = cell_texts(cell_text(step))
    value = [] if final is None else [json.dumps(final)]
    assert (found.outputs, found.error, found.rest) == ([*outputs, *value], error or "", "")


@given(st.text(alphabet="~ab(\n)[]0 :outpErFinal", max_size=60))
def test_whatever_stands_there_is_read(content: str) -> None:
    cell_texts(content)
    plain_result(content)
