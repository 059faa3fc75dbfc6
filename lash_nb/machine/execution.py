"""What running a cell gives: the outputs in order, how it ended, and the record that the turn machine takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Literal

from .attachments import ATTACHMENT_REF, INLINE_BYTES, MEDIA_TYPE, AttachmentRef
from .tool_calls import TOOL_CALL_RECORD, ToolCallRecord
from .wire import (
    BOOLEAN,
    JSON,
    STRING,
    U32,
    U64,
    Codec,
    DecodeError,
    Field,
    Json,
    array,
    defaulted,
    internally_tagged,
    mapping,
    nullable,
    omit_empty,
    omit_none,
    refined,
    struct,
)

__all__ = [
    "CELL_OUTPUT",
    "EXEC_RESPONSE",
    "NAMESPACE",
    "CellOutcome",
    "CellOutput",
    "CellResult",
    "DisplayOutput",
    "ErrorOutput",
    "ExecImage",
    "ExecResponse",
    "FinishValue",
    "NamespaceSummary",
    "ResultOutput",
    "StreamOutput",
    "TextProjectionMetadata",
    "VariableSummary",
]


class CellOutcome(StrEnum):
    """How a cell ended (`reference/kernels.md` §5.3)."""

    OK = "ok"
    ERROR = "error"
    INTERRUPTED = "interrupted"
    TIMEOUT = "timeout"
    DEAD = "dead"
    ABORTED = "aborted"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOutput:
    """Text written to stdout or stderr, coalesced; cut in the middle when it passed the cap."""

    name: Literal["stdout", "stderr"]
    head: str
    """The first characters: all of it when nothing was cut."""
    tail: str = ""
    """The last characters, when something was cut."""
    omitted_chars: int = 0
    omitted_lines: int = 0
    spilled: AttachmentRef | None = None
    """The whole text in the blob store, when something was cut and there is a store."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayOutput:
    """`display_data`: a bundle of representations by MIME type, values as in nbformat (binary = base64 text)."""

    data: Mapping[str, Json]
    metadata: Mapping[str, Json]
    display_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultOutput:
    """`execute_result`: the value of the cell's last expression."""

    data: Mapping[str, Json]
    metadata: Mapping[str, Json]
    execution_count: int | None = None
    display_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorOutput:
    """`error`: an exception that left the cell; traceback lines without ANSI codes."""

    ename: str
    evalue: str
    traceback: tuple[str, ...] = ()


CellOutput = StreamOutput | DisplayOutput | ResultOutput | ErrorOutput


@dataclass(frozen=True, slots=True, kw_only=True)
class FinishValue:
    """What `finish(value)` gave inside the kernel; its presence is the marker (`finish(None)` is a finish too)."""

    value: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class CellResult:
    """One cell's end: outcome, ordered outputs, and what the user and the model must be told."""

    outcome: CellOutcome
    outputs: tuple[CellOutput, ...] = ()
    error: ErrorOutput | None = None
    finish: FinishValue | None = None
    execution_count: int | None = None
    duration_s: float = 0.0
    detail: str = ""
    """One sentence when the outcome is neither ok nor error ("The kernel's process was killed by SIGKILL…")."""
    tool_calls: tuple[ToolCallRecord, ...] = ()
    """The tool calls that the cell made, in the order in which it made them."""
    recovered: bool = False
    """The cell had been run before, under the same key: this is what the kernel recorded, nothing was run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariableSummary:
    """One variable of a kernel's namespace, described without touching its whole value."""

    name: str
    type: str
    """Short type name, e.g. `DataFrame`."""
    detail: str = ""
    """Shape, length, columns and dtypes, signature: what the type calls for."""
    preview: str = ""
    """A bounded repr."""
    changed: bool = False
    """New or changed since the last summary that was asked for."""
    columns: tuple[tuple[str, str], ...] = ()
    """Name and dtype of a frame's first columns, those whose names are strings; a bounded number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamespaceSummary:
    """A capped view of a kernel's variables, sorted by name."""

    variables: tuple[VariableSummary, ...] = ()
    omitted: int = 0
    """How many variables were left out by the cap or the time budget."""
    about: bool = False
    """`omitted` is not exact: there are too many to be counted."""
    removed: tuple[str, ...] = ()
    """Names of the last summary that are gone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextProjectionMetadata:
    """How an observation was cut for the model."""

    truncated: bool
    original_chars: int
    projected_chars: int
    original_lines: int
    projected_lines: int
    limit: int
    limit_mode: str
    max_lines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecImage:
    """An image that a cell made; `reference` where the bytes are stored, `data` where they are inline."""

    mime: str
    reference: AttachmentRef | None = None
    data: bytes = b""
    label: str
    width: int | None = None
    height: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResponse:
    """What the turn machine is told of an executed cell (`reference/turn-machine.md` 1.15)."""

    observations: tuple[str, ...] = ()
    observation_truncation: tuple[TextProjectionMetadata, ...] = ()
    tool_calls: tuple[ToolCallRecord, ...] = ()
    images: tuple[ExecImage, ...] = ()
    printed_images: tuple[AttachmentRef, ...] = ()
    error: str | None = None
    duration_ms: int = 0
    terminal_finish: Json = None
    ran: str | None = None
    """The code that ran, where the user had changed the cell; the first observation says the same to the model."""


# -- tables ------------------------------------------------------------------------------------------------------------


EXEC_RESPONSE: Codec[ExecResponse] = struct(
    ExecResponse,
    observations=array(STRING),
    observation_truncation=array(
        struct(
            TextProjectionMetadata,
            truncated=BOOLEAN,
            original_chars=U64,
            projected_chars=U64,
            original_lines=U64,
            projected_lines=U64,
            limit=U64,
            limit_mode=STRING,
            max_lines=U64,
        )
    ),
    tool_calls=array(TOOL_CALL_RECORD),
    images=array(
        struct(
            ExecImage,
            mime=MEDIA_TYPE,
            reference=omit_none(ATTACHMENT_REF),
            data=omit_empty(INLINE_BYTES, b""),
            label=STRING,
            width=omit_none(U32),
            height=omit_none(U32),
        )
    ),
    printed_images=array(ATTACHMENT_REF),
    error=nullable(STRING),
    duration_ms=U64,
    terminal_finish=nullable(JSON),
    ran=omit_none(STRING),
)


def _stream_name(name: str) -> str:
    if name not in ("stdout", "stderr"):
        raise DecodeError(f"unknown stream {name!r}, expected one of stdout, stderr")
    return name


def _pair(texts: tuple[str, ...]) -> tuple[str, ...]:
    if len(texts) != 2:
        raise DecodeError(f"expected two strings, found {len(texts)}")
    return texts


_BUNDLE: dict[str, Codec[Any] | Field] = {"data": mapping(JSON), "metadata": defaulted(mapping(JSON), {})}
CELL_OUTPUT: Codec[CellOutput] = internally_tagged(
    "cell output",
    "type",
    {
        "stream": (
            StreamOutput,
            struct(
                StreamOutput,
                name=refined(STRING, _stream_name),
                head=STRING,
                tail=omit_empty(STRING, ""),
                omitted_chars=omit_empty(U64, 0),
                omitted_lines=omit_empty(U64, 0),
                spilled=omit_none(ATTACHMENT_REF),
            ),
        ),
        "display_data": (DisplayOutput, struct(DisplayOutput, **_BUNDLE, display_id=omit_none(STRING))),
        "execute_result": (
            ResultOutput,
            struct(ResultOutput, **_BUNDLE, execution_count=omit_none(U64), display_id=omit_none(STRING)),
        ),
        "error": (
            ErrorOutput,
            struct(ErrorOutput, ename=STRING, evalue=STRING, traceback=omit_empty(array(STRING))),
        ),
    },
)
"""Ours, with the notebook format's names; bundles with sorted keys."""
NAMESPACE: Codec[NamespaceSummary] = struct(
    NamespaceSummary,
    variables=array(
        struct(
            VariableSummary,
            name=STRING,
            type=STRING,
            detail=omit_empty(STRING, ""),
            preview=omit_empty(STRING, ""),
            changed=omit_empty(BOOLEAN, False),
            columns=omit_empty(array(refined(array(STRING), _pair))),
        )
    ),
    omitted=omit_empty(U64, 0),
    about=omit_empty(BOOLEAN, False),
    removed=omit_empty(array(STRING)),
)
