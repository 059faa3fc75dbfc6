"""How a turn ends, and the nodes that a new agent frame may start with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from .messages import CAUSAL_REF, PLUGIN_MESSAGE, CausalRef, PluginMessage
from .wire import (
    JSON,
    STRING,
    Codec,
    Json,
    array,
    canonical_json,
    defaulted,
    dumps,
    externally_tagged,
    internally_tagged,
    omit_empty,
    omit_none,
    struct,
    wrapper,
)

__all__ = [
    "SESSION_APPEND_NODE",
    "TURN_OUTCOME",
    "AgentFrameSwitch",
    "AssistantMessage",
    "FinalValue",
    "Finished",
    "MessageNode",
    "PluginNode",
    "ProtocolEvent",
    "ProtocolEventNode",
    "SessionAppendNode",
    "Stopped",
    "SubmittedError",
    "ToolError",
    "ToolValueFinish",
    "TurnFinish",
    "TurnOutcome",
    "TurnStop",
    "TurnStopReason",
    "value_text",
]


def value_text(value: Json) -> str:
    """A value that ended a turn, in a sentence: the same whether it was recorded meanwhile or not."""
    return value if isinstance(value, str) else dumps(canonical_json(value))


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageNode:
    """A message to start a frame with."""

    message: PluginMessage
    caused_by: CausalRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolEvent:
    """A protocol's durable record, under the name of who writes it."""

    plugin_id: str
    payload: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtocolEventNode:
    """A protocol event to start a frame with."""

    event: ProtocolEvent
    caused_by: CausalRef | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PluginNode:
    """A plugin's own record to start a frame with."""

    plugin_type: str
    body: Json = None
    caused_by: CausalRef | None = None


SessionAppendNode: TypeAlias = MessageNode | ProtocolEventNode | PluginNode


@dataclass(frozen=True, slots=True, kw_only=True)
class AssistantMessage:
    """The turn ended with an answer in words."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalValue:
    """The turn ended with a value from the code (`finish(value)`)."""

    value: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolValueFinish:
    """The turn ended with a value from a tool."""

    tool_name: str
    value: Json


TurnFinish: TypeAlias = AssistantMessage | FinalValue | ToolValueFinish


class TurnStopReason(StrEnum):
    """Why a turn stopped without an answer."""

    CANCELLED = "cancelled"
    INCOMPLETE = "incomplete"
    INVALID_INPUT = "invalid_input"
    MAX_TURNS = "max_turns"
    TOOL_FAILURE = "tool_failure"
    PROVIDER_ERROR = "provider_error"
    PLUGIN_ABORT = "plugin_abort"
    RUNTIME_ERROR = "runtime_error"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmittedError:
    """The agent itself submitted an error as the turn's result."""

    value: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolError:
    """A tool ended the turn with a failure."""

    tool_name: str
    value: Json


TurnStop: TypeAlias = TurnStopReason | SubmittedError | ToolError


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """The turn has a result."""

    finish: TurnFinish


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentFrameSwitch:
    """The turn hands over to another agent frame."""

    frame_id: str
    task: str
    initial_nodes: tuple[SessionAppendNode, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The turn ended without a result."""

    stop: TurnStop


TurnOutcome: TypeAlias = Finished | AgentFrameSwitch | Stopped

_CAUSED_BY = omit_none(CAUSAL_REF)
_EVENT = struct(ProtocolEvent, plugin_id=STRING, payload=JSON)
SESSION_APPEND_NODE: Codec[SessionAppendNode] = internally_tagged(
    "append node",
    "kind",
    {
        "message": (MessageNode, struct(MessageNode, message=PLUGIN_MESSAGE, caused_by=_CAUSED_BY)),
        "protocol_event": (ProtocolEventNode, struct(ProtocolEventNode, event=_EVENT, caused_by=_CAUSED_BY)),
        "plugin": (
            PluginNode,
            struct(PluginNode, plugin_type=STRING, body=defaulted(JSON, None), caused_by=_CAUSED_BY),
        ),
    },
)
_FINISH: Codec[TurnFinish] = externally_tagged(
    "turn finish",
    {
        "assistant_message": (AssistantMessage, struct(AssistantMessage, text=STRING)),
        "final_value": (FinalValue, struct(FinalValue, value=JSON)),
        "tool_value": (ToolValueFinish, struct(ToolValueFinish, tool_name=STRING, value=JSON)),
    },
)
_STOP_VARIANTS: dict[str, tuple[Any, Codec[Any] | None]] = {reason.value: (reason, None) for reason in TurnStopReason}
_STOP: Codec[TurnStop] = externally_tagged(
    "turn stop",
    {
        **_STOP_VARIANTS,
        "submitted_error": (SubmittedError, struct(SubmittedError, value=JSON)),
        "tool_error": (ToolError, struct(ToolError, tool_name=STRING, value=JSON)),
    },
)
TURN_OUTCOME: Codec[TurnOutcome] = externally_tagged(
    "turn outcome",
    {
        "finished": (Finished, wrapper(Finished, "finish", _FINISH)),
        "agent_frame_switch": (
            AgentFrameSwitch,
            struct(
                AgentFrameSwitch,
                frame_id=STRING,
                task=STRING,
                initial_nodes=omit_empty(array(SESSION_APPEND_NODE)),
            ),
        ),
        "stopped": (Stopped, wrapper(Stopped, "stop", _STOP)),
    },
)
