"""Effects out, responses in: the ten things that a turn asks of its host, and the five answers it takes.

Five effects carry an id and wait for a response (`SyncExecutionEnvironment`, `LlmCall`, `ToolCalls`, `ExecCode`,
`Checkpoint`); `CancelLlm` is declared by the reference and never emitted; `Log`, `Emit`, `Progress` and `Done` are
told, not asked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NewType, TypeAlias

from .checkpoints import CHECKPOINT_DELIVERY, CHECKPOINT_KIND, CheckpointDelivery, CheckpointKind
from .events import STREAM_EVENT, SessionEventRecord, SessionStreamEvent
from .execution import EXEC_RESPONSE, ExecResponse
from .llm import (
    LLM_CALL_ERROR,
    LLM_REQUEST,
    LLM_RESPONSE,
    LLM_USAGE,
    TOOL_SPEC,
    LlmCallError,
    LlmRequest,
    LlmResponse,
    LlmTerminalReason,
    LlmToolSpec,
    LlmUsage,
)
from .messages import MESSAGES, MessageSequence
from .tool_calls import COMPLETED_TOOL_CALL, PENDING_TOOL_CALL, CompletedToolCall, PendingToolCall
from .wire import (
    BOOLEAN,
    JSON,
    STRING,
    U64,
    Codec,
    Field,
    Json,
    array,
    enum,
    externally_tagged,
    nullable,
    one_or_other,
    strict_struct,
    struct,
    wrapper,
)

__all__ = [
    "EXEC_RESULT",
    "RESPONSE",
    "CancelLlm",
    "Checkpoint",
    "CheckpointResponse",
    "Done",
    "Effect",
    "EffectId",
    "Emit",
    "ExecCode",
    "ExecResult",
    "ExecutionEnvironmentSync",
    "ExecutionEnvironmentSynced",
    "LlmCall",
    "LlmComplete",
    "LlmDebug",
    "LlmError",
    "Log",
    "LogEvent",
    "Progress",
    "Response",
    "SyncExecutionEnvironment",
    "ToolCalls",
    "ToolResults",
    "WaitingEffect",
    "effect_codec",
    "effect_id_of",
]

EffectId = NewType("EffectId", int)
"""Starts at 1 in each turn, one more for each entry into a waiting state; not unique across turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncExecutionEnvironment:
    """Bring kernel, tools and prompt up to date. The flag says whether a config update is wanted."""

    id: EffectId
    update_machine_config: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmCall:
    """Call the model."""

    id: EffectId
    request: LlmRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelLlm:
    """Cancel a model call (declared; the machine never emits it)."""

    id: EffectId


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCalls:
    """Make these tool calls; one effect, its calls may run in parallel."""

    id: EffectId
    calls: tuple[PendingToolCall, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecCode:
    """Run a cell."""

    id: EffectId
    language: str
    code: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Pause: deliver what is queued, or nothing."""

    id: EffectId
    checkpoint: CheckpointKind


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmDebug:
    """Trace of a model call that succeeded."""

    session_id: str
    protocol_iteration: int
    usage: LlmUsage
    provider_usage: Json = None
    request_body: str | None = None
    response_text: str
    response_parts: Json = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmError:
    """Trace of a model call that failed."""

    session_id: str
    protocol_iteration: int
    request_body: str | None = None
    message: str
    retryable: bool
    raw: str | None = None
    code: str | None = None
    terminal_reason: LlmTerminalReason


LogEvent: TypeAlias = LlmDebug | LlmError


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A trace record."""

    event: LogEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Emit:
    """An event for views."""

    event: SessionStreamEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Semantic history changed; the host may persist."""

    messages: MessageSequence
    event_delta: tuple[SessionEventRecord, ...]
    protocol_iteration: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The turn is over; the messages now belong to the host."""

    messages: MessageSequence
    event_delta: tuple[SessionEventRecord, ...]
    protocol_iteration: int


WaitingEffect: TypeAlias = SyncExecutionEnvironment | LlmCall | ToolCalls | ExecCode | Checkpoint
Effect: TypeAlias = WaitingEffect | CancelLlm | Log | Emit | Progress | Done


def effect_id_of(effect: Effect) -> EffectId | None:
    """The effect's id; None for what is told, not asked."""
    match effect:
        case SyncExecutionEnvironment() | LlmCall() | CancelLlm() | ToolCalls() | ExecCode() | Checkpoint():
            return effect.id
        case _:
            return None


# -- responses ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionEnvironmentSync:
    """A new system prompt and new tools."""

    system_prompt: str
    tool_specs: tuple[LlmToolSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionEnvironmentSynced:
    """Answer to SyncExecutionEnvironment: an update, None (nothing changed), or a string that says what failed."""

    id: EffectId
    result: ExecutionEnvironmentSync | str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmComplete:
    """Answer to LlmCall; `text_streamed` says that views have the text already."""

    id: EffectId
    result: LlmResponse | LlmCallError
    text_streamed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResults:
    """Answer to ToolCalls."""

    id: EffectId
    results: tuple[CompletedToolCall, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """Answer to ExecCode; a string says why the cell has no result."""

    id: EffectId
    result: ExecResponse | str


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointResponse:
    """Answer to Checkpoint (`Checkpoint` on the wire)."""

    id: EffectId
    delivery: CheckpointDelivery


Response: TypeAlias = ExecutionEnvironmentSynced | LlmComplete | ToolResults | ExecResult | CheckpointResponse


# -- tables ------------------------------------------------------------------------------------------------------------

_LOG_EVENT: Codec[LogEvent] = externally_tagged(
    "log event",
    {
        "LlmDebug": (
            LlmDebug,
            struct(
                LlmDebug,
                session_id=STRING,
                protocol_iteration=U64,
                usage=LLM_USAGE,
                provider_usage=nullable(JSON),
                request_body=nullable(STRING),
                response_text=STRING,
                response_parts=nullable(JSON),
            ),
        ),
        "LlmError": (
            LlmError,
            struct(
                LlmError,
                session_id=STRING,
                protocol_iteration=U64,
                request_body=nullable(STRING),
                message=STRING,
                retryable=BOOLEAN,
                raw=nullable(STRING),
                code=nullable(STRING),
                terminal_reason=enum(LlmTerminalReason),
            ),
        ),
    },
)


def effect_codec(
    record: Codec[SessionEventRecord],
    *,
    request: Codec[LlmRequest] = LLM_REQUEST,
    messages: Codec[Any] = MESSAGES,
    event_delta: Codec[Any] | None = None,
) -> Codec[Effect]:
    """The codec of effects for a protocol whose history records are written by `record`.

    The others stand for what grows with the history, in a form other than the reference's (`deltas.py`).
    """
    history: dict[str, Codec[Any] | Field] = {
        "messages": messages,
        "event_delta": array(record) if event_delta is None else event_delta,
        "protocol_iteration": U64,
    }
    return externally_tagged(
        "effect",
        {
            "SyncExecutionEnvironment": (
                SyncExecutionEnvironment,
                struct(SyncExecutionEnvironment, id=U64, update_machine_config=BOOLEAN),
            ),
            "LlmCall": (LlmCall, struct(LlmCall, id=U64, request=request)),
            "CancelLlm": (CancelLlm, struct(CancelLlm, id=U64)),
            "ToolCalls": (ToolCalls, struct(ToolCalls, id=U64, calls=array(PENDING_TOOL_CALL))),
            "ExecCode": (ExecCode, struct(ExecCode, id=U64, language=STRING, code=STRING)),
            "Checkpoint": (Checkpoint, struct(Checkpoint, id=U64, checkpoint=CHECKPOINT_KIND)),
            "Log": (Log, struct(Log, event=_LOG_EVENT)),
            "Emit": (Emit, wrapper(Emit, "event", STREAM_EVENT)),
            "Progress": (Progress, struct(Progress, **history)),
            "Done": (Done, struct(Done, **history)),
        },
    )


def _is_failure_text(value: Any) -> bool:
    return isinstance(value, str)


_SYNC_UPDATE = struct(ExecutionEnvironmentSync, system_prompt=STRING, tool_specs=array(TOOL_SPEC))
_SYNC_RESULT = one_or_other(lambda value: not _is_failure_text(value), nullable(_SYNC_UPDATE).codec, STRING)
_LLM_RESULT = one_or_other(lambda value: isinstance(value, LlmResponse), LLM_RESPONSE, LLM_CALL_ERROR)
EXEC_RESULT = one_or_other(lambda value: not _is_failure_text(value), EXEC_RESPONSE, STRING)
RESPONSE: Codec[Response] = externally_tagged(
    "response",
    {
        "ExecutionEnvironmentSynced": (
            ExecutionEnvironmentSynced,
            strict_struct(ExecutionEnvironmentSynced, id=U64, result=_SYNC_RESULT),
        ),
        "LlmComplete": (LlmComplete, strict_struct(LlmComplete, id=U64, result=_LLM_RESULT, text_streamed=BOOLEAN)),
        "ToolResults": (ToolResults, strict_struct(ToolResults, id=U64, results=array(COMPLETED_TOOL_CALL))),
        "ExecResult": (ExecResult, strict_struct(ExecResult, id=U64, result=EXEC_RESULT)),
        "Checkpoint": (
            CheckpointResponse,
            strict_struct(CheckpointResponse, id=U64, delivery=CHECKPOINT_DELIVERY),
        ),
    },
)
