"""What the player answers to input that the scenarios leave alone (FORMAT.md, "Errors" and "Encodings")."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from .play import read
from .player import Player

USAGE = {
    "input_tokens": 1,
    "output_tokens": 1,
    "cache_read_input_tokens": 0,
    "cache_write_input_tokens": 0,
    "reasoning_output_tokens": 0,
}
DONE = {"finished": {"assistant_message": {"text": "ok"}}}
EMPTY: dict[str, Any] = {
    "state": "PrepareIteration",
    "pending_effects": [],
    "next_effect_id": 1,
    "messages": [],
    "events": [],
    "protocol_iteration": 0,
    "protocol_run_offset": 0,
    "cumulative_usage": USAGE,
    "termination": {"turn_limit_final_scheduled": False},
}


def response(**fields: Any) -> dict[str, Any]:
    return {"full_text": "ok", "parts": [], "usage": USAGE, "terminal_reason": "stop"} | fields


def asked(*operations: Any) -> list[dict[str, Any]]:
    player = Player()
    return [json.loads(json.dumps(player.play(operation))) for operation in operations]


@pytest.mark.parametrize(
    ("operation", "code"),
    [
        (None, "bad_input"),
        ([], "bad_input"),
        ({}, "bad_input"),
        ({"op": "dance"}, "bad_input"),
        ({"op": ["poll"]}, "bad_input"),
        ({"op": "poll"}, "no_machine"),
        ({"op": "drain"}, "no_machine"),
        ({"op": "checkpoint"}, "no_machine"),
        ({"op": "inspect"}, "no_machine"),
        ({"op": "respond", "response": {"ExecResult": {"id": 1, "result": {"Err": "x"}}}}, "no_machine"),
        ({"op": "respond"}, "bad_response"),
        ({"op": "apply", "actions": []}, "no_machine"),
        ({"op": "apply", "actions": [{"StartLlm": {"request": "project"}}]}, "bad_actions"),
        ({"op": "apply", "actions": [{"StartLlm": {"request": {"project": None}}}]}, "bad_actions"),
        ({"op": "apply"}, "bad_actions"),
        ({"op": "fail_turn", "event": {"type": "done"}}, "no_machine"),
        ({"op": "fail_turn", "event": "done"}, "bad_event"),
        ({"op": "finish", "outcome": DONE}, "no_machine"),
        ({"op": "finish", "outcome": {**DONE, "stopped": "cancelled"}}, "bad_outcome"),
        ({"op": "restore"}, "no_checkpoint"),
        ({"op": "restore", "from": "nowhere", "config": 3}, "no_checkpoint"),
        ({"op": "restore", "from": ["a"]}, "no_checkpoint"),
        ({"op": "restore", "checkpoint": 3, "config": {"model": 3}}, "bad_config"),
        ({"op": "restore", "checkpoint": 3}, "bad_checkpoint"),
        ({"op": "init", "config": None}, "bad_config"),
        ({"op": "init", "config": 0}, "bad_config"),
        ({"op": "init", "config": {"colour": "red"}}, "bad_config"),
        ({"op": "init", "config": {"max_turns": 1.0}}, "bad_config"),
        ({"op": "init", "config": {"output_token_cap": 0}}, "bad_config"),
        ({"op": "init", "script": {"prepare": [{"Emit": {"type": "done"}}]}}, "bad_script"),
        ({"op": "init", "script": None}, "bad_script"),
        ({"op": "init", "messages": None}, "bad_input"),
        ({"op": "init", "protocol_run_offset": True}, "bad_input"),
        ({"op": "script", "prepare": None}, "bad_script"),
    ],
)
def test_error_codes_without_a_machine(operation: Any, code: str) -> None:
    assert asked(operation) == [{"error": code}]


def test_a_failed_init_leaves_nothing() -> None:
    checkpoint = {"op": "checkpoint", "save": "a"}
    answers = asked({"op": "init"}, checkpoint, {"op": "init", "config": {"x": 1}}, {"op": "poll"}, {"op": "restore"})
    assert [answer.get("error") for answer in answers] == [None, None, "bad_config", "no_machine", "no_checkpoint"]


def test_an_error_changes_nothing_and_says_where_the_machine_is() -> None:
    answers = asked({"op": "init", "protocol_run_offset": 4}, {"op": "respond", "response": {}})
    assert answers[1] == {"error": "bad_response", "done": False, "iter": 4}


def test_a_script_is_kept_over_a_restore_and_ignores_other_keys() -> None:
    finish = [{"Finish": DONE}]
    answers = asked(
        {"op": "script", "prepare": [finish], "colour": "red"},
        {"op": "restore", "checkpoint": EMPTY},
        {"op": "drain"},
    )
    assert answers[0] == {}
    assert answers[1] == {"done": False, "iter": 0}
    assert answers[2]["done"] is True
    assert [call["cb"] for call in answers[2]["calls"]] == ["prepare"]


def test_overrides_of_a_restore_hold_for_it_alone() -> None:
    prepare = [[{"StartLlm": {"request": "project"}}]] * 2
    answers = asked(
        {"op": "init", "config": {"model": "first"}, "script": {"prepare": prepare}},
        {"op": "checkpoint", "save": "a"},
        {"op": "restore", "config": {"model": "second"}},
        {"op": "drain"},
        {"op": "restore", "from": "a"},
        {"op": "drain"},
    )
    models = [answers[n]["effects"][1]["LlmCall"]["request"]["model"] for n in (3, 5)]
    assert models == ["second", "first"]


@pytest.mark.parametrize(
    "wrapped",
    [
        {"LlmComplete": {"id": 1, "result": {"Ok": response()}, "text_streamed": False, "more": 1}},
        {"LlmComplete": {"id": 1, "result": {"Ok": response()}}},
        {"LlmComplete": [1, {"Ok": response()}, False]},
        {"LlmComplete": {"id": -0.0, "result": {"Ok": response()}, "text_streamed": False}},
        {"LlmComplete": {"id": 1, "result": {"Ok": response(execution_evidence=[])}, "text_streamed": 0}},
        {"LlmComplete": {"id": 1, "result": {"Ok": response(execution_evidence="x")}, "text_streamed": False}},
        {"LlmComplete": {"id": 1, "result": {"Ok": response(response_metadata=None)}, "text_streamed": False}},
        {"ExecutionEnvironmentSynced": {"id": 1, "result": {"Ok": None, "Err": "x"}}},
        {"ExecutionEnvironmentSynced": {"id": 1, "result": None}},
        {"Checkpoint": {"id": 1, "delivery": None}},
    ],
)
def test_response_wrappers_are_strict(wrapped: Any) -> None:
    assert asked({"op": "init"}, {"op": "respond", "response": wrapped})[1]["error"] == "bad_response"


def test_what_a_driver_is_given_is_the_whole_typed_response() -> None:
    given = response(execution_evidence={"served_model": "m", "more": 1}, response_metadata={"b": 1, "a": 2})
    answers = asked(
        {"op": "init", "script": {"prepare": [[{"StartLlm": {"request": "project"}}]]}},
        {"op": "drain"},
        {"op": "respond", "response": {"LlmComplete": {"id": 1, "result": {"Ok": given}, "text_streamed": True}}},
    )
    seen = answers[2]["calls"][0]["response"]
    assert seen["execution_evidence"] == {
        "served_model": "m",
        "provider_response_id": None,
        "provider_request_id": None,
        "reasoning_output_tokens": None,
        "provider_finish_reason": None,
    }
    assert list(seen["response_metadata"]) == ["a", "b"]


@pytest.mark.parametrize(
    "line",
    [
        b"[",
        b'{"op": "poll", "x": NaN}',
        b'{"op": "poll", "x": 1e400}',
        b'{"op": "poll", "x": ' + b"9" * 400 + b"}",
        b'{"op": "poll", "x": "\\ud800"}',
        b'{"op": "poll", "x": "\xff"}',
        b'{"op": "poll", "x": ' + b"[" * 127 + b"]" * 127 + b"}",
        b'{"op": "poll", "x": ' + b"9" * 5000 + b"}",
    ],
)
def test_lines_that_the_reference_cannot_parse(line: bytes) -> None:
    assert read(line) is None


def test_lines_that_it_can() -> None:
    deep = b'{"x": ' + b"[" * 126 + b"]" * 126 + b"}"
    assert read(deep) is not None
    assert read(b'{"x": "\\ud83d\\ude00", "y": -0}') == {"x": "\U0001f600", "y": 0}
    assert isinstance(read(b'{"y": -0}')["y"], float)
    assert read(b'{"y": 12345678901234567890123}') == {"y": 12345678901234567890123}


def test_the_program_answers_each_line_at_once() -> None:
    lines = ['{"op": "init", "config": {"system_prompt": "a\u2028b"}}', "", "nonsense", '{"op": "drain"}']
    done = subprocess.run(
        [sys.executable, "-m", "tests.conformance.play"],
        input="\n".join(lines).encode(),
        capture_output=True,
        check=True,
    )
    answers = [json.loads(line) for line in done.stdout.decode().split("\n") if line]
    assert answers == [
        {"done": False, "iter": 0},
        {"error": "bad_input", "done": False, "iter": 0},
        {"effects": [], "done": False, "iter": 0, "calls": answers[2]["calls"]},
    ]
