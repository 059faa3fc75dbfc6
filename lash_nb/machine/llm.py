"""What goes to a model and what comes back: request, response, failure, usage, terminal reasons.

Wire layout: `reference/turn-machine.md` 1.15. Streaming is the host's business; nothing here is partial.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from .attachments import ATTACHMENT_SOURCE, AttachmentSource
from .capability import (
    MODEL_CAPABILITY,
    MODEL_VARIANT,
    BudgetEncoding,
    CacheControl,
    DisableEncoding,
    DisableWithBudget,
    DisableWithEffort,
    Effort,
    EffortEncoding,
    ModelCapability,
    ModelVariant,
    PlainDisable,
    PlainVariant,
    ReasoningCapability,
    StreamTermination,
)
from .llm_content import (
    CONTENT_BLOCK,
    OUTPUT_PART,
    AttachmentBlock,
    LlmContentBlock,
    LlmOutputPart,
    ReasoningBlock,
    ReasoningOutput,
    TextBlock,
    TextOutput,
    ToolCallBlock,
    ToolCallOutputPart,
    ToolResultBlock,
)
from .tool_specs import (
    TOOL_SCHEMA,
    TOOL_SPEC,
    LlmToolSpec,
    ProjectionMode,
    SchemaOverride,
    SchemaProjection,
    ToolSchema,
)
from .wire import (
    BOOLEAN,
    I64,
    JSON,
    STRING,
    U64,
    Codec,
    Json,
    array,
    bounded_integer,
    defaulted,
    enum,
    externally_tagged,
    mapping,
    nullable,
    omit_empty,
    omit_none,
    refined,
    strict_struct,
    struct,
)

__all__ = [
    "LLM_CALL_ERROR",
    "LLM_REQUEST",
    "LLM_RESPONSE",
    "LLM_USAGE",
    "MODEL_CAPABILITY",
    "MODEL_VARIANT",
    "TOOL_SPEC",
    "AttachmentBlock",
    "BudgetEncoding",
    "CacheControl",
    "DisableEncoding",
    "DisableWithBudget",
    "DisableWithEffort",
    "Effort",
    "EffortEncoding",
    "ExecutionEvidence",
    "GenerationOptions",
    "JsonSchemaSpec",
    "LlmCallError",
    "LlmContentBlock",
    "LlmMessage",
    "LlmOutputPart",
    "LlmRequest",
    "LlmRequestScope",
    "LlmResponse",
    "LlmRole",
    "LlmTerminalReason",
    "LlmToolChoice",
    "LlmToolSpec",
    "LlmUsage",
    "ModelCapability",
    "ModelVariant",
    "OutputMode",
    "OutputSpec",
    "PlainDisable",
    "PlainVariant",
    "ProjectionMode",
    "ProviderFailureKind",
    "ReasoningBlock",
    "ReasoningCapability",
    "ReasoningOutput",
    "SchemaOverride",
    "SchemaProjection",
    "StreamTermination",
    "TextBlock",
    "TextOutput",
    "TokenUsage",
    "ToolCallBlock",
    "ToolCallOutputPart",
    "ToolResultBlock",
    "ToolSchema",
]


class LlmRole(StrEnum):
    """Roles on the model's side; events have become User messages."""

    USER = "User"
    ASSISTANT = "Assistant"
    SYSTEM = "System"


class LlmToolChoice(StrEnum):
    """Whether the model may, must or must not call a tool."""

    AUTO = "Auto"
    NONE = "None"
    REQUIRED = "Required"


class LlmTerminalReason(StrEnum):
    """Why a model call ended."""

    STOP = "stop"
    TOOL_USE = "tool_use"
    OUTPUT_LIMIT = "output_limit"
    CONTEXT_OVERFLOW = "context_overflow"
    CONTENT_FILTER = "content_filter"
    PROVIDER_ERROR = "provider_error"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class ProviderFailureKind(StrEnum):
    """What kind of failure a provider's error is; a kind this version does not know reads as unknown."""

    TRANSPORT = "transport"
    TIMEOUT = "timeout"
    HTTP = "http"
    STREAM = "stream"
    AUTH = "auth"
    VALIDATION = "validation"
    QUOTA = "quota"
    UNSUPPORTED = "unsupported"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmUsage:
    """Tokens of one call, or summed up. Reasoning tokens are a part of the output tokens."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_input_tokens: int = 0
    reasoning_output_tokens: int = 0

    def __add__(self, other: LlmUsage) -> LlmUsage:
        return LlmUsage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cache_read_input_tokens=self.cache_read_input_tokens + other.cache_read_input_tokens,
            cache_write_input_tokens=self.cache_write_input_tokens + other.cache_write_input_tokens,
            reasoning_output_tokens=self.reasoning_output_tokens + other.reasoning_output_tokens,
        )

    @property
    def total(self) -> int:
        """All tokens; reasoning is a subset of output and not counted twice."""
        return self.input_tokens + self.output_tokens + self.cache_read_input_tokens + self.cache_write_input_tokens


TokenUsage: TypeAlias = LlmUsage


# -- request -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmMessage:
    """One message of a request."""

    role: LlmRole
    blocks: tuple[LlmContentBlock, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOptions:
    """Limits on what the model writes."""

    output_token_cap: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmRequestScope:
    """Whose request it is."""

    session_id: str
    agent_frame_id: str
    request_id: str


class OutputMode(StrEnum):
    """Free-form JSON is asked for."""

    JSON_OBJECT = "JsonObject"


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonSchemaSpec:
    """JSON of this schema is asked for."""

    name: str
    schema: ToolSchema
    strict: bool


OutputSpec: TypeAlias = OutputMode | JsonSchemaSpec

_NO_CAPABILITY = ModelCapability()

_NO_CAPABILITY = ModelCapability()


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmRequest:
    """One call of a model, complete."""

    model: str
    messages: tuple[LlmMessage, ...]
    attachments: tuple[AttachmentSource, ...] = ()
    tools: tuple[LlmToolSpec, ...] = ()
    tool_choice: LlmToolChoice = LlmToolChoice.NONE
    model_variant: ModelVariant = PlainVariant.PROVIDER_DEFAULT
    model_capability: ModelCapability = _NO_CAPABILITY
    generation: GenerationOptions = GenerationOptions()
    scope: LlmRequestScope
    output_spec: OutputSpec | None = None


# -- response ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionEvidence:
    """What the provider itself said of the run; never filled in from the request."""

    served_model: str | None = None
    provider_response_id: str | None = None
    provider_request_id: str | None = None
    reasoning_output_tokens: int | None = None
    provider_finish_reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmResponse:
    """One answer of a model, complete."""

    full_text: str
    parts: tuple[LlmOutputPart, ...] = ()
    usage: LlmUsage = LlmUsage()
    terminal_reason: LlmTerminalReason
    terminal_diagnostic: str | None = None
    provider_usage: Json = None
    request_body: str | None = None
    http_summary: str | None = None
    execution_evidence: ExecutionEvidence | None = None
    response_metadata: Mapping[str, Json] = field(default_factory=dict)
    """What the provider's adapter was told to keep of headers and bodies."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LlmCallError:
    """A failed call of a model."""

    message: str
    retryable: bool
    kind: ProviderFailureKind = ProviderFailureKind.UNKNOWN
    raw: str | None = None
    code: str | None = None
    terminal_reason: LlmTerminalReason
    request_body: str | None = None
    partial_response: LlmResponse | None = None
    """What had come before the failure; for diagnosis only."""


# -- tables ------------------------------------------------------------------------------------------------------------

LLM_USAGE: Codec[LlmUsage] = struct(
    LlmUsage,
    input_tokens=I64,
    output_tokens=I64,
    cache_read_input_tokens=I64,
    cache_write_input_tokens=I64,
    reasoning_output_tokens=I64,
)
_JSON_SCHEMA: Codec[JsonSchemaSpec] = struct(JsonSchemaSpec, name=STRING, schema=TOOL_SCHEMA, strict=BOOLEAN)
_OUTPUT_SPEC: Codec[OutputSpec] = externally_tagged(
    "output spec",
    {
        "JsonObject": (OutputMode.JSON_OBJECT, None),
        "JsonSchema": (JsonSchemaSpec, refined(_JSON_SCHEMA, lambda spec: spec)),
    },
)
_NONZERO = bounded_integer(1, 2**64 - 1)
LLM_REQUEST: Codec[LlmRequest] = struct(
    LlmRequest,
    model=STRING,
    messages=array(struct(LlmMessage, role=enum(LlmRole), blocks=array(CONTENT_BLOCK))),
    attachments=array(ATTACHMENT_SOURCE),
    tools=array(TOOL_SPEC),
    tool_choice=enum(LlmToolChoice),
    model_variant=MODEL_VARIANT,
    model_capability=defaulted(MODEL_CAPABILITY, ModelCapability()),
    generation=defaulted(strict_struct(GenerationOptions, output_token_cap=omit_none(_NONZERO)), GenerationOptions()),
    scope=struct(LlmRequestScope, session_id=STRING, agent_frame_id=STRING, request_id=STRING),
    output_spec=nullable(_OUTPUT_SPEC),
)
_EVIDENCE: Codec[ExecutionEvidence] = struct(
    ExecutionEvidence,
    served_model=nullable(STRING, positional=False),
    provider_response_id=nullable(STRING, positional=False),
    provider_request_id=nullable(STRING, positional=False),
    reasoning_output_tokens=nullable(U64, positional=False),
    provider_finish_reason=nullable(STRING, positional=False),
)
LLM_RESPONSE: Codec[LlmResponse] = struct(
    LlmResponse,
    full_text=STRING,
    parts=array(OUTPUT_PART),
    usage=LLM_USAGE,
    terminal_reason=enum(LlmTerminalReason),
    terminal_diagnostic=nullable(STRING),
    provider_usage=nullable(JSON),
    request_body=nullable(STRING),
    http_summary=nullable(STRING),
    execution_evidence=nullable(_EVIDENCE, positional=False),
    response_metadata=omit_empty(mapping(JSON), {}),
)
LLM_CALL_ERROR: Codec[LlmCallError] = struct(
    LlmCallError,
    message=STRING,
    retryable=BOOLEAN,
    kind=defaulted(enum(ProviderFailureKind, unknown=ProviderFailureKind.UNKNOWN), ProviderFailureKind.UNKNOWN),
    raw=nullable(STRING),
    code=nullable(STRING),
    terminal_reason=enum(LlmTerminalReason),
    request_body=nullable(STRING),
    partial_response=omit_none(LLM_RESPONSE),
)
