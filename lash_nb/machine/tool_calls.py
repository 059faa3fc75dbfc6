"""Tool calls on their way out and back: the call, its output, control over the turn, what the model is shown.

A *tool value* is plain JSON in which an attachment may stand for a value: `{"$lash_tool_value": "attachment", "source":
…}`; a user's object that itself holds that key is written as `{"$lash_tool_value": "object", "entries": …}`. It is kept
in memory in that same, checked and normalised form.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from .attachments import ATTACHMENT_SOURCE, AttachmentSource
from .messages import REPLAY_META, ProviderReplayMeta
from .outcomes import SESSION_APPEND_NODE, SessionAppendNode
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
    canonical_json,
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

RESERVED_KEY = "$lash_tool_value"


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


def _tool_value(value: Any) -> Any:
    """Checked and normalised: reserved tags are refused when malformed, an escape that escapes nothing is undone."""
    if isinstance(value, (list, tuple)):
        return [_within(f"[{index}]", _tool_value, item) for index, item in enumerate(value)]
    if not isinstance(value, Mapping):
        return canonical_json(value)
    if RESERVED_KEY not in value:
        return _tool_object(value)
    tag = value[RESERVED_KEY]
    if tag == "attachment" and set(value) == {RESERVED_KEY, "source"}:
        source = _within("source", ATTACHMENT_SOURCE.decode, value["source"])
        return {RESERVED_KEY: "attachment", "source": ATTACHMENT_SOURCE.encode(source)}
    if tag == "object" and set(value) == {RESERVED_KEY, "entries"} and isinstance(value["entries"], Mapping):
        entries = _within("entries", _tool_object, value["entries"])
        return {RESERVED_KEY: "object", "entries": entries} if RESERVED_KEY in entries else entries
    raise DecodeError(f'a tool value with {RESERVED_KEY!r} is {{"attachment", source}} or {{"object", entries}}')


def _tool_object(entries: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _within(key, _tool_value, entries[key]) for key in sorted(entries)}


def _within(step: str, read: Callable[[Any], Any], value: Any) -> Any:
    try:
        return read(value)
    except DecodeError as error:
        raise error.under(step) from None


def _checked_tool_value(value: Any) -> Any:
    try:
        return _tool_value(value)
    except RecursionError:
        raise DecodeError("this JSON is nested too deeply") from None


TOOL_VALUE: Codec[Any] = Codec(_checked_tool_value, _checked_tool_value)

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
