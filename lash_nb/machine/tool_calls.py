"""Tool calls on their way out and back: the call, its output, control over the turn, what the model is shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from .attachments import ATTACHMENT_SOURCE, AttachmentSource
from .messages import REPLAY_META, ProviderReplayMeta
from .outcomes import SESSION_APPEND_NODE, SessionAppendNode
from .tool_values import RESERVED_KEY, TOOL_VALUE
from .wire import (
    JSON,
    STRING,
    U32,
    U64,
    Codec,
    DecodeError,
    Json,
    adjacently_tagged,
    array,
    enum,
    internally_tagged,
    nullable,
    omit_empty,
    omit_none,
    struct,
    wrapper,
)

__all__ = [
    "COMPLETED_TOOL_CALL",
    "PENDING_TOOL_CALL",
    "RESERVED_KEY",
    "TOOL_CALL_OUTPUT",
    "TOOL_CALL_RECORD",
    "TOOL_VALUE",
    "AttachmentReturn",
    "CompletedToolCall",
    "FailControl",
    "FinishControl",
    "ModelReturnPart",
    "ModelToolReturn",
    "PendingToolCall",
    "RetryDisposition",
    "RetryExhausted",
    "RetryNever",
    "RetrySafe",
    "SwitchAgentFrameControl",
    "TextReturn",
    "ToolCallOutput",
    "ToolCallRecord",
    "ToolCancellation",
    "ToolCancelled",
    "ToolControl",
    "ToolFailed",
    "ToolFailure",
    "ToolFailureClass",
    "ToolFailureSource",
    "ToolOutcome",
    "ToolSucceeded",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingToolCall:
    """A tool call that the host is to make."""

    call_id: str
    tool_name: str
    args: Json
    replay: ProviderReplayMeta | None = None


class ToolFailureClass(StrEnum):
    """What kind of failure a tool's is."""

    INVALID_REQUEST = "invalid_request"
    UNAVAILABLE = "unavailable"
    PERMISSION_DENIED = "permission_denied"
    TIMEOUT = "timeout"
    EXECUTION = "execution"
    EXTERNAL = "external"
    RESOURCE_LIMIT = "resource_limit"
    INTERNAL = "internal"


class ToolFailureSource(StrEnum):
    """Who says that a tool failed or was cancelled."""

    RUNTIME = "runtime"
    TOOL = "tool"
    PLUGIN = "plugin"
    POLICY = "policy"
    CANCELLATION = "cancellation"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryNever:
    """The call must not be made again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrySafe:
    """The call may be made again."""

    after_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryExhausted:
    """The call was made again as often as it may."""

    attempts: int


RetryDisposition: TypeAlias = RetryNever | RetrySafe | RetryExhausted


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFailure:
    """A tool call that failed."""

    class_: ToolFailureClass
    """`class` on the wire."""
    code: str
    message: str
    source: ToolFailureSource
    retry: RetryDisposition
    raw: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCancellation:
    """A tool call that was cancelled."""

    message: str
    source: ToolFailureSource
    raw: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSucceeded:
    """The outcome of a call that gave a value."""

    payload: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFailed:
    """The outcome of a call that failed."""

    payload: ToolFailure


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCancelled:
    """The outcome of a call that was cancelled."""

    payload: ToolCancellation


ToolOutcome: TypeAlias = ToolSucceeded | ToolFailed | ToolCancelled


@dataclass(frozen=True, slots=True, kw_only=True)
class SwitchAgentFrameControl:
    """The tool asks for another agent frame."""

    frame_id: str
    initial_nodes: tuple[SessionAppendNode, ...] = ()
    task: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishControl:
    """The tool ends the turn with a value."""

    value: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class FailControl:
    """The tool ends the turn with a failure."""

    failure: ToolFailure


ToolControl: TypeAlias = SwitchAgentFrameControl | FinishControl | FailControl


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallOutput:
    """What came of a tool call."""

    outcome: ToolOutcome
    control: ToolControl | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallRecord:
    """A tool call made from inside a cell."""

    call_id: str | None = None
    tool: str
    args: Json
    output: ToolCallOutput
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TextReturn:
    """Text for the model."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentReturn:
    """An attachment for the model."""

    source: AttachmentSource


ModelReturnPart: TypeAlias = TextReturn | AttachmentReturn


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelToolReturn:
    """What of a tool's output the model is shown."""

    call_id: str
    tool_name: str
    parts: tuple[ModelReturnPart, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletedToolCall:
    """A tool call with its output."""

    call_id: str
    tool_name: str
    args: Json
    output: ToolCallOutput
    model_return: ModelToolReturn
    duration_ms: int
    replay: ProviderReplayMeta | None = None


# -- tables ------------------------------------------------------------------------------------------------------------


_RETRY: Codec[RetryDisposition] = internally_tagged(
    "retry disposition",
    "type",
    {
        "never": (RetryNever, None),
        "safe": (RetrySafe, struct(RetrySafe, after_ms=omit_none(U64))),
        "exhausted": (RetryExhausted, struct(RetryExhausted, attempts=U32)),
    },
)


def _renamed(codec: Codec[Any]) -> Codec[Any]:
    """`class` is a Python keyword: `class_` in memory."""

    def encode(value: ToolFailure) -> dict[str, Any]:
        return {("class" if key == "class_" else key): item for key, item in codec.encode(value).items()}

    def decode(value: Any) -> Any:
        if type(value) is dict:
            value = {("class_" if key == "class" else key): item for key, item in value.items() if key != "class_"}
        try:
            return codec.decode(value)
        except DecodeError as error:
            step, dot, rest = error.path.partition(".")
            raise DecodeError(error.problem, path=f"{'class' if step == 'class_' else step}{dot}{rest}") from None

    return Codec(encode, decode, fields=codec.fields)


_FAILURE: Codec[ToolFailure] = _renamed(
    struct(
        ToolFailure,
        class_=enum(ToolFailureClass),
        code=STRING,
        message=STRING,
        source=enum(ToolFailureSource),
        retry=_RETRY,
        raw=omit_none(TOOL_VALUE),
    )
)
_CANCELLATION: Codec[ToolCancellation] = struct(
    ToolCancellation, message=STRING, source=enum(ToolFailureSource), raw=omit_none(TOOL_VALUE)
)
_OUTCOME: Codec[ToolOutcome] = adjacently_tagged(
    "tool outcome",
    "status",
    "payload",
    {
        "success": (ToolSucceeded, wrapper(ToolSucceeded, "payload", TOOL_VALUE)),
        "failure": (ToolFailed, wrapper(ToolFailed, "payload", _FAILURE)),
        "cancelled": (ToolCancelled, wrapper(ToolCancelled, "payload", _CANCELLATION)),
    },
)
_CONTROL: Codec[ToolControl] = internally_tagged(
    "tool control",
    "type",
    {
        "switch_agent_frame": (
            SwitchAgentFrameControl,
            struct(
                SwitchAgentFrameControl,
                frame_id=STRING,
                initial_nodes=omit_empty(array(SESSION_APPEND_NODE)),
                task=omit_none(STRING),
            ),
        ),
        "finish": (FinishControl, struct(FinishControl, value=TOOL_VALUE)),
        "fail": (FailControl, struct(FailControl, failure=_FAILURE)),
    },
)
TOOL_CALL_OUTPUT: Codec[ToolCallOutput] = struct(ToolCallOutput, outcome=_OUTCOME, control=omit_none(_CONTROL))
TOOL_CALL_RECORD: Codec[ToolCallRecord] = struct(
    ToolCallRecord,
    call_id=omit_none(STRING),
    tool=STRING,
    args=JSON,
    output=TOOL_CALL_OUTPUT,
    duration_ms=U64,
)
_RETURN_PART: Codec[ModelReturnPart] = internally_tagged(
    "model return part",
    "type",
    {
        "text": (TextReturn, struct(TextReturn, text=STRING)),
        "attachment": (AttachmentReturn, wrapper(AttachmentReturn, "source", ATTACHMENT_SOURCE)),
    },
)
_MODEL_RETURN: Codec[ModelToolReturn] = struct(
    ModelToolReturn, call_id=STRING, tool_name=STRING, parts=array(_RETURN_PART)
)
PENDING_TOOL_CALL: Codec[PendingToolCall] = struct(
    PendingToolCall, call_id=STRING, tool_name=STRING, args=JSON, replay=nullable(REPLAY_META)
)
COMPLETED_TOOL_CALL: Codec[CompletedToolCall] = struct(
    CompletedToolCall,
    call_id=STRING,
    tool_name=STRING,
    args=JSON,
    output=TOOL_CALL_OUTPUT,
    model_return=_MODEL_RETURN,
    duration_ms=U64,
    replay=nullable(REPLAY_META),
)
