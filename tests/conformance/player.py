"""Plays the operations of a scenario, one answer each (FORMAT.md)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lash_nb.errors import DecodeError
from lash_nb.machine.config import JsonTurnProtocol, TurnMachineConfig
from lash_nb.machine.effects import RESPONSE, effect_codec
from lash_nb.machine.events import STREAM_EVENT
from lash_nb.machine.llm import (
    MODEL_CAPABILITY,
    MODEL_VARIANT,
    TOOL_SPEC,
    GenerationOptions,
)
from lash_nb.machine.messages import MESSAGES, TURN_CAUSE, Message, MessageRole, Part, PartKind
from lash_nb.machine.outcomes import TURN_OUTCOME
from lash_nb.machine.projector import ChatProjector
from lash_nb.machine.state import TurnCheckpoint, turn_checkpoint_codec
from lash_nb.machine.turn import TurnMachine
from lash_nb.machine.wire import (
    BOOLEAN,
    STRING,
    U64,
    Codec,
    Field,
    array,
    bounded_integer,
    nullable,
    omit_empty,
    strict_struct,
    struct,
)

from .puppet import ACTIONS, CALLBACKS, RECORD, Puppet, given_start

EFFECT = effect_codec(RECORD)
CHECKPOINT = turn_checkpoint_codec(JsonTurnProtocol)

_CONFIG_FIELDS: dict[str, Field] = {
    "sync_execution_environment": omit_empty(BOOLEAN, False),
    "model": omit_empty(STRING, "test-model"),
    "max_context_tokens": nullable(U64),
    "max_turns": nullable(U64),
    "model_variant": omit_empty(MODEL_VARIANT, MODEL_VARIANT.decode("provider_default")),
    "model_capability": omit_empty(MODEL_CAPABILITY, MODEL_CAPABILITY.decode({})),
    "output_token_cap": nullable(bounded_integer(1, 2**64 - 1)),
    "autonomous": omit_empty(BOOLEAN, False),
    "tool_specs": omit_empty(array(TOOL_SPEC)),
    "system_prompt": omit_empty(STRING, ""),
    "session_id": omit_empty(STRING, "test"),
    "emit_llm_trace": omit_empty(BOOLEAN, False),
    "turn_limit_text": omit_empty(STRING, "Turn limit reached ({max_turns})."),
}
_CONFIG: Codec[dict[str, Any]] = strict_struct(dict, **_CONFIG_FIELDS)
_SCRIPT: Codec[dict[str, Any]] = struct(dict, **{name: omit_empty(array(ACTIONS)) for name in CALLBACKS})
_INIT: Codec[dict[str, Any]] = struct(
    dict,
    messages=omit_empty(MESSAGES),
    events=omit_empty(array(RECORD)),
    turn_causes=omit_empty(array(TURN_CAUSE)),
    protocol_run_offset=omit_empty(U64, 0),
)


class Refused(Exception):
    """An operation that is answered with an error code."""


class Player:
    """One harness: a machine (or none), its puppet, the checkpoints taken."""

    def __init__(self) -> None:
        self.machine: TurnMachine | None = None
        self.puppet = Puppet()
        self.config: dict[str, Any] = _CONFIG.decode({})
        """The config of the last init that was not refused."""
        self.last: TurnCheckpoint | None = None
        self.saved: dict[str, TurnCheckpoint] = {}

    def play(self, operation: Any) -> dict[str, Any]:
        """Answer one operation."""
        self.puppet.calls = []
        try:
            handler = self._handler(operation)
            answer = handler(operation)
        except Refused as refusal:
            answer = {"error": str(refusal)}
        if self.machine is not None:
            answer["done"] = self.machine.is_done()
            answer["iter"] = self.machine.protocol_iteration
            if self.puppet.calls:
                answer["calls"] = self.puppet.calls
        return answer

    def _handler(self, operation: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
        handlers = {
            "init": self._init,
            "script": self._script,
            "poll": self._poll,
            "drain": self._drain,
            "respond": self._respond,
            "checkpoint": self._checkpoint,
            "restore": self._restore,
            "apply": self._apply,
            "fail_turn": self._fail_turn,
            "finish": self._finish,
            "inspect": self._inspect,
        }
        name = operation.get("op") if isinstance(operation, dict) else None
        handler = handlers.get(name) if isinstance(name, str) else None
        if handler is None:
            raise Refused("bad_input")
        return handler

    def _init(self, operation: dict[str, Any]) -> dict[str, Any]:
        self.machine, self.puppet, self.config, self.last, self.saved = None, Puppet(), _CONFIG.decode({}), None, {}
        config = _config(operation)
        script = _decoded(_SCRIPT, operation.get("script", {}), "bad_script")
        body = _decoded(_INIT, operation, "bad_input")
        self._extend(script)
        self.config = config
        self.machine = TurnMachine(
            self._machine_config(config),
            body["messages"],
            body["events"],
            protocol_run_offset=body["protocol_run_offset"],
            turn_causes=body["turn_causes"],
        )
        return {}

    def _script(self, operation: dict[str, Any]) -> dict[str, Any]:
        self._extend(_decoded(_SCRIPT, operation, "bad_script"))
        return {}

    def _extend(self, script: dict[str, Any]) -> None:
        for name in CALLBACKS:
            self.puppet.queues[name].extend(script[name])

    def _poll(self, operation: dict[str, Any]) -> dict[str, Any]:
        effect = self._living().poll_effect()
        return {"effect": None if effect is None else EFFECT.encode(effect)}

    def _drain(self, operation: dict[str, Any]) -> dict[str, Any]:
        machine, effects = self._living(), []
        while (effect := machine.poll_effect()) is not None:
            effects.append(EFFECT.encode(effect))
        return {"effects": effects}

    def _respond(self, operation: dict[str, Any]) -> dict[str, Any]:
        response = _decoded(RESPONSE, operation.get("response"), "bad_response")
        self._living().handle_response(response)
        return {}

    def _checkpoint(self, operation: dict[str, Any]) -> dict[str, Any]:
        checkpoint = self._living().checkpoint()
        self.last = checkpoint
        if isinstance(operation.get("save"), str):
            self.saved[operation["save"]] = checkpoint
        return {"checkpoint": CHECKPOINT.encode(checkpoint)}

    def _restore(self, operation: dict[str, Any]) -> dict[str, Any]:
        given = "checkpoint" in operation
        stored: TurnCheckpoint | None = None
        if not given:
            name = operation.get("from")
            stored = self.last if name is None else self.saved.get(name) if isinstance(name, str) else None
            if stored is None:
                raise Refused("no_checkpoint")
        overrides = _config(operation)
        config = self.config | {name: overrides[name] for name in operation.get("config", {})}
        if given:
            stored = _decoded(CHECKPOINT, operation["checkpoint"], "bad_checkpoint")
        assert stored is not None
        self.machine = TurnMachine.restore(self._machine_config(config), stored)
        return {}

    def _apply(self, operation: dict[str, Any]) -> dict[str, Any]:
        actions = _decoded(ACTIONS, operation.get("actions"), "bad_actions")
        # Nothing is projected from outside a callback. What asks for it is refused before a machine is looked for.
        ready = [given_start(action) for action in actions]
        if None in ready:
            raise Refused("bad_actions")
        self._living().apply_actions([action for action in ready if action is not None])
        return {}

    def _fail_turn(self, operation: dict[str, Any]) -> dict[str, Any]:
        event = _decoded(STREAM_EVENT, operation.get("event"), "bad_event")
        self._living().fail_turn(event)
        return {}

    def _finish(self, operation: dict[str, Any]) -> dict[str, Any]:
        outcome = _decoded(TURN_OUTCOME, operation.get("outcome"), "bad_outcome")
        self._living().finish_with_outcome(outcome)
        return {}

    def _inspect(self, operation: dict[str, Any]) -> dict[str, Any]:
        machine = self._living()
        return {
            "messages": MESSAGES.encode(machine.messages),
            "events": array(RECORD).encode(machine.events),
        }

    def _living(self) -> TurnMachine:
        if self.machine is None:
            raise Refused("no_machine")
        return self.machine

    def _machine_config(self, given: dict[str, Any]) -> TurnMachineConfig[Any, Any, Any]:
        config = dict(given)
        text = config.pop("turn_limit_text")
        cap = config.pop("output_token_cap")
        return TurnMachineConfig(
            driver=self.puppet,
            projector=ChatProjector(),
            protocol=JsonTurnProtocol,
            generation=GenerationOptions(output_token_cap=cap),
            turn_limit_final_message=lambda message_id, limit: _limit_message(message_id, text, limit),
            **config,
        )


def _limit_message(message_id: str, text: str, limit: int) -> Message:
    content = text.replace("{max_turns}", str(limit))
    part = Part(id=f"{message_id}.p0", kind=PartKind.ERROR, content=content)
    return Message(id=message_id, role=MessageRole.SYSTEM, parts=(part,))


def _config(operation: dict[str, Any]) -> dict[str, Any]:
    given = operation.get("config", {})
    if not isinstance(given, dict):
        raise Refused("bad_config")
    config: dict[str, Any] = _decoded(_CONFIG, given, "bad_config")
    return config


def _decoded(codec: Codec[Any], value: Any, code: str) -> Any:
    try:
        return codec.decode(value)
    except DecodeError as error:
        raise Refused(code) from error
