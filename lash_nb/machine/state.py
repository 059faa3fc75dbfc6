"""Where a turn is, and the value that stores it: the eight states and `TurnCheckpoint`.

A state holds what its outstanding effect needs, so that the effect can be rebuilt after a restore. `Checkpoints` of a
machine are values: taking one shares the messages, nothing is copied.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

from .checkpoints import CHECKPOINT_KIND, RESUME_ACTION, CheckpointKind, CheckpointResumeAction
from .config import JsonTurnProtocol, TurnProtocol
from .effects import (
    Checkpoint,
    Effect,
    EffectId,
    ExecCode,
    LlmCall,
    SyncExecutionEnvironment,
    ToolCalls,
    WaitingEffect,
    effect_codec,
    effect_id_of,
)
from .events import SessionEventRecord, event_record_codec
from .llm import LLM_REQUEST, LLM_USAGE, LlmRequest, TokenUsage
from .messages import MESSAGES, TURN_CAUSE, AppendOnly, MessageSequence, TurnCause
from .tool_calls import PENDING_TOOL_CALL, PendingToolCall
from .wire import (
    BOOLEAN,
    STRING,
    U64,
    Codec,
    Json,
    array,
    defaulted,
    dumps,
    externally_tagged,
    loads,
    nullable,
    struct,
)

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "Finished",
    "GrowingForms",
    "MachineState",
    "PrepareIteration",
    "PreparingProtocol",
    "TurnCheckpoint",
    "TurnTerminationPolicyState",
    "WaitingCheckpoint",
    "WaitingExec",
    "WaitingExecutionEnvironment",
    "WaitingLlm",
    "WaitingTools",
    "checkpoint_codec_with",
    "outstanding_effect",
    "turn_checkpoint_codec",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparingProtocol:
    """The turn has not begun; the next poll starts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingExecutionEnvironment:
    """The host brings kernel, tools and prompt up to date."""

    effect_id: EffectId
    update_machine_config: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareIteration:
    """An iteration is about to begin; the next poll starts it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingLlm:
    """A model is being called."""

    effect_id: EffectId
    request: LlmRequest
    driver_state: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingTools:
    """Tools are being called."""

    effect_id: EffectId
    calls: tuple[PendingToolCall, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingExec:
    """A cell is running."""

    effect_id: EffectId
    language: str
    code: str
    driver_state: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingCheckpoint:
    """The host may deliver messages."""

    effect_id: EffectId
    checkpoint: CheckpointKind
    on_empty: CheckpointResumeAction


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The turn is over."""


MachineState: TypeAlias = (
    PreparingProtocol
    | WaitingExecutionEnvironment
    | PrepareIteration
    | WaitingLlm
    | WaitingTools
    | WaitingExec
    | WaitingCheckpoint
    | Finished
)


def outstanding_effect(state: MachineState) -> WaitingEffect | None:
    """The effect that a waiting state waits for, rebuilt from the state; None in the other states."""
    match state:
        case WaitingExecutionEnvironment():
            return SyncExecutionEnvironment(id=state.effect_id, update_machine_config=state.update_machine_config)
        case WaitingLlm():
            return LlmCall(id=state.effect_id, request=state.request)
        case WaitingTools():
            return ToolCalls(id=state.effect_id, calls=state.calls)
        case WaitingExec():
            return ExecCode(id=state.effect_id, language=state.language, code=state.code)
        case WaitingCheckpoint():
            return Checkpoint(id=state.effect_id, checkpoint=state.checkpoint)
        case _:
            return None


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnTerminationPolicyState:
    """Whether the turn-limit message was pushed (one last model call is granted with it)."""

    turn_limit_final_scheduled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnCheckpoint:
    """A turn as a value: store it at any point, restore it with `TurnMachine.restore`.

    The wire form has no schema version (Q8): stored ones are wrapped in a versioned envelope.
    """

    state: MachineState
    pending_effects: tuple[Effect, ...] = ()
    next_effect_id: int = 1
    next_synthetic_message_id: int = 0
    messages: MessageSequence
    events: AppendOnly[SessionEventRecord]
    turn_causes: AppendOnly[TurnCause]
    progress_event_cursor: int = 0
    protocol_iteration: int = 0
    protocol_run_offset: int = 0
    cumulative_usage: TokenUsage
    termination: TurnTerminationPolicyState
    synced_protocol_iteration: int | None = None

    @property
    def outstanding_effect(self) -> WaitingEffect | None:
        """The effect that a restored machine would wait for."""
        return outstanding_effect(self.state)

    @property
    def outstanding_effect_id(self) -> EffectId | None:
        """Its id."""
        effect = self.outstanding_effect
        return None if effect is None else effect_id_of(effect)

    def to_json(self, protocol: TurnProtocol[Any, Any, Any] = JsonTurnProtocol) -> dict[str, Any]:
        """The wire form, fields in the reference's order."""
        out: dict[str, Any] = turn_checkpoint_codec(protocol).encode(self)
        return out

    def to_text(self, protocol: TurnProtocol[Any, Any, Any] = JsonTurnProtocol) -> str:
        """The wire form as compact JSON text, byte for byte as the reference writes it."""
        return dumps(self.to_json(protocol))

    @classmethod
    def from_json(cls, value: Json, protocol: TurnProtocol[Any, Any, Any] = JsonTurnProtocol) -> TurnCheckpoint:
        """Read the wire form.

        Raises:
            DecodeError: naming the field; nothing is half-read.
        """
        return turn_checkpoint_codec(protocol).decode(value)

    @classmethod
    def from_text(cls, text: str, protocol: TurnProtocol[Any, Any, Any] = JsonTurnProtocol) -> TurnCheckpoint:
        """Read JSON text. Raises DecodeError, also for text that is not JSON."""
        return cls.from_json(loads(text), protocol)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: Callable[[Any], Any]) -> dict[str, Any]:
        """Makes `pydantic.TypeAdapter(TurnCheckpoint)` read and write the wire form (any protocol's).

        A core schema is a plain dict, so that this storey needs no import of pydantic.
        """
        codec = turn_checkpoint_codec(JsonTurnProtocol)

        def validate(value: Any) -> TurnCheckpoint:
            return value if isinstance(value, cls) else codec.decode(value)

        return {
            "type": "function-plain",
            "function": {"type": "no-info", "function": validate},
            "serialization": {"type": "function-plain", "function": codec.encode},
            "metadata": {"pydantic_js_functions": [lambda schema, handle: {"type": "object", "title": cls.__name__}]},
        }


def _state_codec(protocol: TurnProtocol[Any, Any, Any], request: Codec[LlmRequest]) -> Codec[MachineState]:
    return externally_tagged(
        "machine state",
        {
            "PreparingProtocol": (PreparingProtocol, None),
            "WaitingExecutionEnvironment": (
                WaitingExecutionEnvironment,
                struct(WaitingExecutionEnvironment, effect_id=U64, update_machine_config=BOOLEAN),
            ),
            "PrepareIteration": (PrepareIteration, None),
            "WaitingLlm": (
                WaitingLlm,
                struct(
                    WaitingLlm,
                    effect_id=U64,
                    request=request,
                    driver_state=nullable(protocol.driver_state),
                ),
            ),
            "WaitingTools": (
                WaitingTools,
                struct(WaitingTools, effect_id=U64, calls=array(PENDING_TOOL_CALL)),
            ),
            "WaitingExec": (
                WaitingExec,
                struct(
                    WaitingExec,
                    effect_id=U64,
                    language=STRING,
                    code=STRING,
                    driver_state=protocol.driver_state,
                ),
            ),
            "WaitingCheckpoint": (
                WaitingCheckpoint,
                struct(WaitingCheckpoint, effect_id=U64, checkpoint=CHECKPOINT_KIND, on_empty=RESUME_ACTION),
            ),
            "Finished": (Finished, None),
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowingForms:
    """How the parts of a checkpoint that grow with the history are written; the rest has one form only."""

    request: Codec[LlmRequest]
    messages: Codec[Any]
    """Also those of Progress and Done."""
    events: Codec[Any]
    event_delta: Codec[Any]
    turn_causes: Codec[Any]


@lru_cache(maxsize=32)
def turn_checkpoint_codec(protocol: TurnProtocol[Any, Any, Any]) -> Codec[TurnCheckpoint]:
    """The codec of turn checkpoints under a protocol."""
    record = event_record_codec(protocol.event)
    whole = GrowingForms(
        request=LLM_REQUEST,
        messages=MESSAGES,
        events=array(record, AppendOnly),
        event_delta=array(record),
        turn_causes=array(TURN_CAUSE, AppendOnly),
    )
    return checkpoint_codec_with(protocol, whole)


def checkpoint_codec_with(protocol: TurnProtocol[Any, Any, Any], forms: GrowingForms) -> Codec[TurnCheckpoint]:
    """The codec of turn checkpoints under a protocol, with these forms of what grows."""
    record = event_record_codec(protocol.event)
    effect = effect_codec(record, request=forms.request, messages=forms.messages, event_delta=forms.event_delta)
    return struct(
        TurnCheckpoint,
        state=_state_codec(protocol, forms.request),
        pending_effects=array(effect),
        next_effect_id=U64,
        next_synthetic_message_id=defaulted(U64, 0),
        messages=forms.messages,
        events=forms.events,
        turn_causes=defaulted(forms.turn_causes, AppendOnly()),
        progress_event_cursor=defaulted(U64, 0),
        protocol_iteration=U64,
        protocol_run_offset=U64,
        cumulative_usage=LLM_USAGE,
        termination=struct(TurnTerminationPolicyState, turn_limit_final_scheduled=BOOLEAN),
        synced_protocol_iteration=nullable(U64),
    )
