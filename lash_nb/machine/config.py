"""What the host supplies to a turn and the machine never stores: protocol, driver, projector, model, limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from .effects import ExecutionEnvironmentSync
from .llm import GenerationOptions, LlmToolSpec, ModelCapability, ModelVariant, PlainVariant
from .messages import Message, MessageRole, Part, PartKind
from .wire import JSON, UNIT, Codec

if TYPE_CHECKING:
    from .driver import ProtocolDriver
    from .projector import ContextProjector

_NO_CAPABILITY = ModelCapability()
_NO_OPTIONS = GenerationOptions()

__all__ = ["JsonTurnProtocol", "TurnMachineConfig", "TurnProtocol", "UnitTurnProtocol", "turn_limit_message"]

E = TypeVar("E")
"""A protocol's durable event."""
O = TypeVar("O")  # noqa: E741 - options
"""A protocol's per-turn termination options."""
D = TypeVar("D")
"""A protocol's driver state."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnProtocol(Generic[E, O, D]):
    """The three types that a machine is generic over, as the codecs that write them."""

    name: str
    event: Codec[E]
    """The protocol's durable records (in `events`)."""
    termination: Codec[O]
    """Per-turn options; never in a TurnCheckpoint."""
    driver_state: Codec[D]
    """What a driver keeps beside an outstanding model call or cell."""


UnitTurnProtocol: TurnProtocol[None, None, Any] = TurnProtocol(
    name="unit", event=UNIT, termination=UNIT, driver_state=JSON
)
"""No events, no options, free JSON as driver state: the reference's test protocol."""

JsonTurnProtocol: TurnProtocol[Any, Any, Any] = TurnProtocol(
    name="json", event=JSON, termination=JSON, driver_state=JSON
)
"""Any protocol's records, kept as free JSON: reads a stored turn without knowing who conducted it."""


def turn_limit_message(message_id: str, max_turns: int) -> Message:
    """The System message that grants one last model call. Hosts recognise its first words."""
    text = f"Turn limit reached ({max_turns}). Answer now in words: what is done, what remains, what is next."
    return Message(
        id=message_id,
        role=MessageRole.SYSTEM,
        parts=(Part(id=f"{message_id}.p0", kind=PartKind.ERROR, content=text),),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnMachineConfig(Generic[E, O, D]):
    """Everything a turn needs beside its own state; the host rebuilds it before a restore (Q10)."""

    driver: ProtocolDriver
    projector: ContextProjector
    protocol: TurnProtocol[E, O, D] = UnitTurnProtocol  # type: ignore[assignment]
    model: str
    sync_execution_environment: bool = False
    max_context_tokens: int | None = None
    """Context window in tokens; needed to tell an overflow from an output limit."""
    max_turns: int | None = None
    """How many *iterations* a turn may take (the reference's word); None = no limit."""
    model_variant: ModelVariant = PlainVariant.PROVIDER_DEFAULT
    model_capability: ModelCapability = _NO_CAPABILITY
    generation: GenerationOptions = _NO_OPTIONS
    autonomous: bool = False
    tool_specs: tuple[LlmToolSpec, ...] = ()
    system_prompt: str = ""
    session_id: str = ""
    emit_llm_trace: bool = False
    termination: Any = None
    turn_limit_final_message: Callable[[str, int], Message] = turn_limit_message

    def synced(self, update: ExecutionEnvironmentSync) -> TurnMachineConfig[E, O, D]:
        """This config with the prompt and tools of a sync."""
        return replace(self, system_prompt=update.system_prompt, tool_specs=update.tool_specs)
