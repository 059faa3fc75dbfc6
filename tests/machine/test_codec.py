"""Every record of the machine to JSON and back, and what reading refuses."""

from __future__ import annotations

import copy
from typing import Any

import pydantic
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lash_nb.errors import DecodeError
from lash_nb.machine.activities import TURN_ACTIVITY
from lash_nb.machine.checkpoints import CHECKPOINT_DELIVERY, CheckpointDelivery
from lash_nb.machine.config import JsonTurnProtocol, TurnMachineConfig
from lash_nb.machine.effects import RESPONSE, Effect, Response, effect_codec
from lash_nb.machine.events import STREAM_EVENT, SessionStreamEvent, TurnActivity, event_record_codec
from lash_nb.machine.execution import CELL_OUTPUT, EXEC_RESPONSE, NAMESPACE, CellOutput, ExecResponse, NamespaceSummary
from lash_nb.machine.llm import LLM_CALL_ERROR, LLM_REQUEST, LLM_RESPONSE, LlmCallError, LlmRequest, LlmResponse
from lash_nb.machine.messages import MESSAGE, PLUGIN_MESSAGE, TURN_CAUSE, Message, PluginMessage, TurnCause
from lash_nb.machine.outcomes import TURN_OUTCOME, TurnOutcome
from lash_nb.machine.state import TurnCheckpoint, turn_checkpoint_codec
from lash_nb.machine.tool_calls import (
    COMPLETED_TOOL_CALL,
    PENDING_TOOL_CALL,
    TOOL_CALL_RECORD,
    CompletedToolCall,
    PendingToolCall,
    ToolCallRecord,
)
from lash_nb.machine.turn import TurnMachine
from lash_nb.machine.wire import JSON, Codec, dumps, loads

from .values import of
from .worlds import Told, config, message

CHECKPOINT = turn_checkpoint_codec(JsonTurnProtocol)
TABLES: dict[str, tuple[Codec[Any], Any]] = {
    "message": (MESSAGE, Message),
    "plugin message": (PLUGIN_MESSAGE, PluginMessage),
    "turn cause": (TURN_CAUSE, TurnCause),
    "llm request": (LLM_REQUEST, LlmRequest),
    "llm response": (LLM_RESPONSE, LlmResponse),
    "llm error": (LLM_CALL_ERROR, LlmCallError),
    "exec response": (EXEC_RESPONSE, ExecResponse),
    "pending call": (PENDING_TOOL_CALL, PendingToolCall),
    "completed call": (COMPLETED_TOOL_CALL, CompletedToolCall),
    "call record": (TOOL_CALL_RECORD, ToolCallRecord),
    "stream event": (STREAM_EVENT, SessionStreamEvent),
    "activity": (TURN_ACTIVITY, TurnActivity),
    "cell output": (CELL_OUTPUT, CellOutput),
    "namespace": (NAMESPACE, NamespaceSummary),
    "outcome": (TURN_OUTCOME, TurnOutcome),
    "delivery": (CHECKPOINT_DELIVERY, CheckpointDelivery),
    "response": (RESPONSE, Response),
    "effect": (effect_codec(event_record_codec(JSON)), Effect),
    "checkpoint": (CHECKPOINT, TurnCheckpoint),
}
# Values are large: to shrink one that fails would take minutes.
MODEST = settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)


@pytest.mark.parametrize("table", TABLES)
def test_round_trip(table: str) -> None:
    codec, kind = TABLES[table]

    @MODEST
    @given(value=of(kind))
    def check(value: Any) -> None:
        encoded = codec.encode(value)
        text = dumps(encoded)
        assert codec.decode(encoded) == value
        assert codec.decode(loads(text)) == value
        assert dumps(codec.encode(codec.decode(loads(text)))) == text

    check()


def places(value: Any, path: str = "") -> list[tuple[str, list[Any]]]:
    """(path as errors write it, keys that lead there) of everything inside."""
    found: list[tuple[str, list[Any]]] = []
    items: list[tuple[Any, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, item in items:
        step = f"[{key}]" if isinstance(key, int) else f".{key}" if path else str(key)
        found.append((path + step, [key]))
        found += [(inner, [key, *keys]) for inner, keys in places(item, path + step)]
    return found


def refused(codec: Codec[Any], value: Any) -> DecodeError | None:
    """The refusal; what is not refused can be written and read again."""
    try:
        again = codec.decode(value)
    except DecodeError as error:
        return error
    codec.decode(codec.encode(again))
    return None


@pytest.mark.parametrize("table", TABLES)
def test_a_damaged_value_is_refused_where_it_is_damaged(table: str) -> None:
    """Something is replaced or dropped: it reads as another value, or the error names the place."""
    codec, kind = TABLES[table]

    @MODEST
    @given(value=of(kind), data=st.data())
    def check(value: Any, data: st.DataObject) -> None:
        encoded = codec.encode(value)
        options = places(encoded)
        if not options:
            return
        path, (*keys, last) = data.draw(st.sampled_from(options))
        damaged = copy.deepcopy(encoded)
        box = damaged
        for key in keys:
            box = box[key]
        other = data.draw(st.sampled_from(["drop", None, -1, 1.0, True, "?", [], {}, {"?": None}, [["?"]]]))
        if other == "drop":
            del box[last]
        else:
            box[last] = other
        refusal = refused(codec, damaged)
        # When an entry of an array is dropped, those after it move up; there the places no longer fit.
        if refusal is not None and other != "drop":
            assert path.startswith(refusal.path) or refusal.path.startswith(path)

    check()


# -- through pydantic --------------------------------------------------------------------------------------------------


def test_pydantic_reads_and_writes_the_wire_form() -> None:
    adapter = pydantic.TypeAdapter(TurnCheckpoint)
    checkpoint = TurnMachine(config(Told()), [message("m0")]).checkpoint()
    assert adapter.dump_json(checkpoint).decode() == checkpoint.to_text()
    assert adapter.validate_json(checkpoint.to_text()) == checkpoint
    assert adapter.validate_python(checkpoint) is checkpoint
    with pytest.raises(pydantic.ValidationError, match="next_effect_id"):
        adapter.validate_json(checkpoint.to_text().replace('"next_effect_id":1', '"next_effect_id":"1"'))
    assert adapter.json_schema()["title"] == "TurnCheckpoint"


def test_a_config_is_no_part_of_a_checkpoint() -> None:
    """Q10: nothing of the config can be read out of a checkpoint's text."""
    secret = "only in the config"
    settings_: TurnMachineConfig[Any, Any, Any] = config(Told(), system_prompt=secret, session_id=secret, model=secret)
    assert secret not in TurnMachine(settings_).checkpoint().to_text()
