"""What reading a record refuses, with the name of the field, and what it takes all the same: by hand."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from lash_nb.errors import DecodeError, InputError
from lash_nb.machine.config import UnitTurnProtocol
from lash_nb.machine.effects import EXEC_RESULT
from lash_nb.machine.events import event_record_codec
from lash_nb.machine.execution import EXEC_RESPONSE
from lash_nb.machine.outcomes import TURN_OUTCOME
from lash_nb.machine.state import TurnCheckpoint
from lash_nb.machine.tool_calls import (
    PENDING_TOOL_CALL,
    TOOL_CALL_RECORD,
)
from lash_nb.machine.wire import JSON, STRING, dumps, loads

USAGE = {
    "input_tokens": 0,
    "output_tokens": 0,
    "cache_read_input_tokens": 0,
    "cache_write_input_tokens": 0,
    "reasoning_output_tokens": 0,
}
REQUEST = {
    "model": "m",
    "messages": [{"role": "User", "blocks": [{"Text": {"text": "x", "cache_breakpoint": False}}]}],
    "attachments": [],
    "tools": [],
    "tool_choice": "Auto",
    "model_variant": "provider_default",
    "scope": {"session_id": "s", "agent_frame_id": "f", "request_id": "r"},
}
WHOLE: dict[str, Any] = {
    "state": {"WaitingLlm": {"effect_id": 3, "request": REQUEST}},
    "pending_effects": [{"Emit": {"type": "done"}}],
    "next_effect_id": 4,
    "messages": [
        {"id": "a", "role": "User", "parts": [{"id": "p", "kind": "Text", "content": "x", "prune_state": "Intact"}]}
    ],
    "events": [{"Protocol": {"b": 1, "a": 2}}],
    "protocol_iteration": 0,
    "protocol_run_offset": 0,
    "cumulative_usage": USAGE,
    "termination": {"turn_limit_final_scheduled": False},
}


def changed(path: list[Any], value: Any) -> dict[str, Any]:
    whole = copy.deepcopy(WHOLE)
    box: Any = whole
    for key in path[:-1]:
        box = box[key]
    if value is ...:
        del box[path[-1]]
    else:
        box[path[-1]] = value
    return whole


def test_fields_that_may_be_missing() -> None:
    checkpoint = TurnCheckpoint.from_json(WHOLE)
    assert checkpoint.next_synthetic_message_id == 0
    assert tuple(checkpoint.turn_causes) == ()
    assert checkpoint.progress_event_cursor == 0
    assert checkpoint.synced_protocol_iteration is None
    assert checkpoint.outstanding_effect_id == 3
    assert len(checkpoint.to_json()) == 13


PART = ["messages", 0, "parts", 0]
CALL = ["state", "WaitingLlm"]


@pytest.mark.parametrize(
    ("path", "value", "where"),
    [
        (["state"], ..., "state"),
        (["state"], "Nope", "state"),
        (["state"], "WaitingLlm", "state.WaitingLlm"),
        (["state"], {"Finished": {}}, "state.Finished"),
        (["state"], {"WaitingTools": [1, []]}, "state.WaitingTools"),
        ([*CALL, "effect_id"], "1", "state.WaitingLlm.effect_id"),
        ([*CALL, "effect_id"], -1, "state.WaitingLlm.effect_id"),
        ([*CALL, "effect_id"], 2**64, "state.WaitingLlm.effect_id"),
        ([*CALL, "effect_id"], 1.0, "state.WaitingLlm.effect_id"),
        ([*CALL, "effect_id"], True, "state.WaitingLlm.effect_id"),
        ([*CALL, "request", "generation"], {"more": 1}, "state.WaitingLlm.request.generation"),
        (
            [*CALL, "request", "generation"],
            {"output_token_cap": 0},
            "state.WaitingLlm.request.generation.output_token_cap",
        ),
        ([*CALL, "request", "messages", 0, "role"], "Event", "state.WaitingLlm.request.messages[0].role"),
        ([*CALL, "request", "output_spec"], {"JsonSchema": {"name": "n", "schema": {}, "strict": True}},
         "state.WaitingLlm.request.output_spec.JsonSchema.schema.canonical"),
        ([*CALL, "request", "model_capability"], {"reasoning": {"disable": "maybe"}},
         "state.WaitingLlm.request.model_capability.reasoning.disable"),
        ([*CALL, "request", "model_capability"], {"reasoning": {"encoding": {"budget": {"low": 2**32}}}},
         "state.WaitingLlm.request.model_capability.reasoning.encoding.budget.low"),
        (["pending_effects", 0], {"Emit": {"type": "nope"}}, "pending_effects[0].Emit.type"),
        (["pending_effects", 0], {"Emit": {}}, "pending_effects[0].Emit.type"),
        (["pending_effects", 0], {"Nope": 1}, "pending_effects[0]"),
        (["next_effect_id"], None, "next_effect_id"),
        (["messages"], None, "messages"),
        (["turn_causes"], None, "turn_causes"),
        ([*PART, "kind"], "text", "messages[0].parts[0].kind"),
        ([*PART, "content"], ..., "messages[0].parts[0].content"),
        ([*PART, "prune_state"], {"Deleted": {"breadcrumb": "b"}},
         "messages[0].parts[0].prune_state.Deleted.archive_hash"),
        ([*PART, "response_meta"], {"provider_payload": {}}, "messages[0].parts[0].response_meta.provider_payload"),
        ([*PART, "attachment"], {"source": {"source": "inline", "media_type": "image/png", "bytes": [256]}},
         "messages[0].parts[0].attachment.source.bytes[0]"),
        ([*PART, "attachment"], {"source": {"source": "external_url", "media_type": "a/b; c", "url": ""}},
         "messages[0].parts[0].attachment.source.media_type"),
        ([*PART, "attachment"], {"source": {"source": "external_url", "media_type": "a/b", "url": "", "x": 1}},
         "messages[0].parts[0].attachment.source"),
        (["messages", 0, "origin"], {"kind": "plugin", "plugin_id": "p", "transient": None},
         "messages[0].origin.transient"),
        (["events", 0], {"Conversation": {"id": "a"}}, "events[0].Conversation.role"),
        (["events", 0], "Protocol", "events[0].Protocol"),
        (["cumulative_usage"], {}, "cumulative_usage.input_tokens"),
        (["cumulative_usage", "input_tokens"], 2**63, "cumulative_usage.input_tokens"),
        (["termination"], {}, "termination.turn_limit_final_scheduled"),
        (["synced_protocol_iteration"], False, "synced_protocol_iteration"),
    ],
)  # fmt: skip
def test_refused_with_the_name_of_the_field(path: list[Any], value: Any, where: str) -> None:
    with pytest.raises(DecodeError) as caught:
        TurnCheckpoint.from_json(changed(path, value))
    assert caught.value.path == where
    assert where in str(caught.value)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, InputError)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["more"], {"x": 1}),
        ([*CALL, "request", "more"], 1),
        ([*PART, "more"], 1),
        (["state"], {"Finished": None}),
        ([*PART, "prune_state"], {"Intact": None}),
        ([*PART, "kind"], {"Text": None}),
        ([*PART, "tool_replay"], None),
        ([*PART, "tool_replay"], []),
        ([*PART, "tool_replay"], ["item"]),
        ([*CALL, "driver_state"], None),
        ([*CALL, "request", "scope"], ["s", "f", "r"]),
        (["cumulative_usage"], [0, -1, 0, 0, 2**63 - 1]),
        (["pending_effects", 0], {"Emit": {"type": "done", "more": 1}}),
        (["pending_effects", 0], {"Emit": ["done"]}),
        (["pending_effects", 0], {"Emit": ["text_delta", "x"]}),
    ],
)
def test_accepted_as_serde_accepts_it(path: list[Any], value: Any) -> None:
    checkpoint = TurnCheckpoint.from_json(changed(path, value))
    assert TurnCheckpoint.from_text(checkpoint.to_text()) == checkpoint


@pytest.mark.parametrize("given_usage", [[0, 0, 0, 0], [0, 0, 0, 0, 0, 0]])
def test_a_struct_as_an_array_has_all_its_fields_and_no_more(given_usage: list[int]) -> None:
    with pytest.raises(DecodeError):
        TurnCheckpoint.from_json(changed(["cumulative_usage"], given_usage))


def test_an_option_without_a_default_may_not_be_missing_in_an_array() -> None:
    with pytest.raises(DecodeError, match=r"^replay: "):
        PENDING_TOOL_CALL.decode(["c", "t", {}])
    assert PENDING_TOOL_CALL.decode(["c", "t", {}, None]).replay is None


RESERVED = "$lash_tool_value"
SOURCE = {"source": "external_url", "media_type": " IMAGE/Png ", "url": "u"}


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ({"b": 1, "a": [None]}, {"a": [None], "b": 1}),
        (
            {RESERVED: "attachment", "source": SOURCE},
            {RESERVED: "attachment", "source": SOURCE | {"media_type": "image/png"}},
        ),
        ({RESERVED: "object", "entries": {"a": 1}}, {"a": 1}),
        ({RESERVED: "object", "entries": {RESERVED: "x"}}, {RESERVED: "object", "entries": {RESERVED: "x"}}),
        ({"a": {RESERVED: "object", "entries": {}}}, {"a": {}}),
        (2**64, 18446744073709551616.0),
    ],
)
@pytest.mark.parametrize("where", ["success", "failure", "finish"])
def test_tool_values_are_normalised_everywhere(value: Any, kept: Any, where: str) -> None:
    assert json.dumps(call_with(value, where)[1]) == json.dumps(kept)


@pytest.mark.parametrize(
    "value",
    [
        {RESERVED: "attachment"},
        {RESERVED: "attachment", "source": SOURCE, "more": 1},
        {RESERVED: "attachment", "source": SOURCE | {"more": 1}},
        {RESERVED: "object", "entries": []},
        {RESERVED: "object", "entries": {}, "more": 1},
        {RESERVED: "object", "entries": {"a": {RESERVED: 1}}},
        {RESERVED: None},
        {RESERVED: "zzz"},
        [{RESERVED: "zzz"}],
    ],
)
@pytest.mark.parametrize("where", ["success", "failure", "finish"])
def test_malformed_tool_values_are_refused_everywhere(value: Any, where: str) -> None:
    with pytest.raises(DecodeError):
        call_with(value, where)


def call_with(value: Any, where: str) -> tuple[Any, Any]:
    failure = {"class": "timeout", "code": "c", "message": "m", "source": "tool", "retry": {"type": "never"}}
    outcome: dict[str, Any] = {"status": "success", "payload": value}
    output: dict[str, Any] = {"outcome": outcome}
    if where == "failure":
        outcome |= {"status": "failure", "payload": failure | {"raw": value}}
    elif where == "finish":
        output = {"outcome": {"status": "success", "payload": 1}, "control": {"type": "finish", "value": value}}
    given = {"tool": "t", "args": {RESERVED: "free here"}, "output": output, "duration_ms": 1}
    record = TOOL_CALL_RECORD.decode(given)
    encoded = TOOL_CALL_RECORD.encode(record)["output"]
    found = {"success": lambda: encoded["outcome"]["payload"], "failure": lambda: encoded["outcome"]["payload"]["raw"],
             "finish": lambda: encoded["control"]["value"]}[where]()  # fmt: skip
    return record, found


def test_elsewhere_the_reserved_key_is_a_key_like_any_other() -> None:
    outcome = {"finished": {"tool_value": {"tool_name": "t", "value": {RESERVED: 3}}}}
    assert TURN_OUTCOME.encode(TURN_OUTCOME.decode(outcome)) == outcome


@pytest.mark.parametrize("text", ["image", "/png", "image/", "a/b/c", "text/plain; charset=utf-8", "a b/c", "é/x", ""])
def test_what_is_no_media_type(text: str) -> None:
    with pytest.raises(DecodeError, match=r"^mime: "):
        _image(mime=text)


def _image(**fields: Any) -> Any:
    images = [{"label": "l", "mime": "image/png"} | fields]
    response = {"observations": [], "observation_truncation": [], "tool_calls": [], "images": images}
    rest: dict[str, Any] = {"printed_images": [], "error": None, "duration_ms": 1, "terminal_finish": None}
    try:
        return EXEC_RESPONSE.encode(EXEC_RESPONSE.decode(response | rest))["images"][0]
    except DecodeError as error:
        raise DecodeError(error.problem, path=error.path.removeprefix("images[0].")) from None


def test_images() -> None:
    assert _image(mime=" Image/PNG ", data=[1, 255], width=3) == {
        "mime": "image/png",
        "data": [1, 255],
        "label": "l",
        "width": 3,
    }
    assert _image(data=[]) == {"mime": "image/png", "label": "l"}
    with pytest.raises(DecodeError, match=r"^data: "):
        _image(data=None)
    with pytest.raises(DecodeError, match=r"^width: "):
        _image(width=2**32)


def test_a_failure_is_refused_under_the_name_on_the_wire() -> None:
    for failure in ({}, {"class_": "timeout"}, {"class": "no"}):
        output = {"outcome": {"status": "failure", "payload": failure}}
        with pytest.raises(DecodeError) as caught:
            TOOL_CALL_RECORD.decode({"tool": "t", "args": 1, "output": output, "duration_ms": 1})
        assert caught.value.path == "output.outcome.payload.class"


def test_the_unit_protocol_has_null_events_only() -> None:
    record = event_record_codec(UnitTurnProtocol.event)
    assert record.encode(record.decode({"Protocol": None})) == {"Protocol": None}
    with pytest.raises(DecodeError):
        record.decode({"Protocol": 1})


def test_results() -> None:
    assert EXEC_RESULT.decode({"Err": "x"}) == "x"
    for bad in (None, {}, {"Ok": 1, "Err": "x"}, {"ok": 1}, ["Err", "x"]):
        with pytest.raises(DecodeError):
            EXEC_RESULT.decode(bad)


# -- text --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[1,]",
        "NaN",
        "-Infinity",
        '"\\ud800"',
        '"\ud800"',
        b"\xff",
        b"\xef\xbb\xbf1",
        "[" * 100_000,
        "9" * 5000,
        "'a'",
    ],
)
def test_text_that_is_not_json_is_a_decode_error(text: str | bytes) -> None:
    with pytest.raises(DecodeError):
        loads(text)


def test_text_that_is() -> None:
    assert loads('"\\ud83d\\ude00"') == "\U0001f600"
    assert loads(b'"\xc3\xa9"') == "é"
    assert str(loads("[-0, -0.0, 0, -5e0]")) == "[-0.0, -0.0, 0, -5.0]"
    assert dumps({"a": ["é", 1.5, None]}) == '{"a":["é",1.5,null]}'


def test_free_json() -> None:
    assert dumps(JSON.encode({"b": (1, 2), "a": {"d": 1, "c": -1}})) == '{"a":{"c":-1,"d":1},"b":[1,2]}'
    for bad in (float("nan"), float("inf"), {1: 2}, object(), 10**400, b"x"):
        with pytest.raises(DecodeError):
            JSON.encode(bad)
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(DecodeError):
        JSON.decode(deep)


def test_strings_are_strings() -> None:
    class Text(str):
        pass

    with pytest.raises(DecodeError):
        STRING.decode(Text("x"))
