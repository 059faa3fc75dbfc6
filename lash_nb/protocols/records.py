"""What the code protocol writes down: its own events, the state it carries from reply to result, and message ids.

Decided here: names and wire form. An event is durable history beside the messages; it refers to them and does not
repeat long texts. `finish(None)` and "did not finish" are different things, so a final value is always wrapped
(`FinalOutput`). Ids are made of the turn, the iteration and a purpose: no clock, no randomness. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from ..machine.attachments import (
    ATTACHMENT_REF,
    AttachmentRef,
    AttachmentSource,
    ExternalUrl,
    InlineAttachment,
    ProviderFile,
    StoredAttachment,
)
from ..machine.llm import ReasoningOutput
from ..machine.messages import (
    REASONING_REPLAY,
    Message,
    MessageRole,
    Part,
    PartAttachment,
    PartKind,
    PluginOrigin,
    ProviderReasoningReplay,
)
from ..machine.wire import (
    JSON,
    STRING,
    U64,
    Codec,
    DecodeError,
    Json,
    array,
    enum,
    externally_tagged,
    nullable,
    omit_empty,
    omit_none,
    struct,
)
from .grammar import ReplyProblem

__all__ = [
    "CODE_DRIVER_STATE",
    "CODE_EVENT",
    "CODE_ORIGIN",
    "CodeAssistantContent",
    "CodeDiagnostic",
    "CodeDriverState",
    "CodeEvent",
    "CodeTrajectoryEntry",
    "FinalOutput",
    "assistant_message",
    "media_type",
    "note_message",
    "observation_message",
    "record_id",
    "runtime_message",
]

T = TypeVar("T")

CODE_ORIGIN = PluginOrigin(plugin_id="code")
"""Origin of the messages that the protocol itself writes: observations and notes. The user's own have none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FinalOutput:
    """A value given to `finish`; the presence of this object is the marker."""

    value: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeAssistantContent:
    """What the model said in one reply, beside its cell."""

    id: str
    reasoning: str | None = None
    prose: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeTrajectoryEntry:
    """One cell and what came of it; the texts are in the message named `observation`."""

    id: str
    protocol_iteration: int
    code: str
    observation: str
    output_chars: tuple[int, ...] = ()
    images: tuple[AttachmentRef, ...] = ()
    error: str | None = None
    """First line of the error, with its label."""
    final_output: FinalOutput | None = None
    ran: str | None = None
    """The code that ran in its place, where the user had changed it; the first output says so, too."""
    refused: str | None = None
    """What was wrong with its final value, which then did not end the turn; for the reader."""
    call_id: str | None = None
    """Of the tool call that ran it, where the model calls tools; `observation` is then that of all the calls beside
    it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeDiagnostic:
    """What the protocol made of a reply of the model, one for each, and of each batch of its tool calls."""

    id: str
    protocol_iteration: int
    phase: str
    payload: Json


CodeEvent: TypeAlias = CodeAssistantContent | CodeTrajectoryEntry | CodeDiagnostic


@dataclass(frozen=True, slots=True, kw_only=True)
class CodeDriverState:
    """One step on its way: the reply while the cell runs, then what running it gave."""

    reasoning: tuple[ReasoningOutput, ...] = ()
    prose: str = ""
    executed_code: str | None = None
    problem: ReplyProblem | None = None
    """What was wrong with the form of the reply whose (first) cell runs."""
    output: tuple[str, ...] = ()
    images: tuple[AttachmentRef, ...] = ()
    exec_error: str | None = None
    finish: FinalOutput | None = None
    ran: str | None = None


def record_id(turn_id: str, iteration: int, purpose: str) -> str:
    """`m_code_<turn_id>_<iteration>_<purpose>`, the id of every message and event of this protocol."""
    return f"m_code_{turn_id}_{iteration}_{purpose}"


def assistant_message(
    message_id: str, *, reasoning: Sequence[ReasoningOutput], prose: str, code: str | None = None
) -> Message:
    """A reply of the model as the history keeps it: reasoning that its provider wants back, prose, cell."""
    parts: list[tuple[PartKind, str, ProviderReasoningReplay | None]] = [
        (PartKind.REASONING, item.text, item.replay) for item in reasoning if item.replay is not None
    ]
    if prose:
        parts.append((PartKind.PROSE, prose, None))
    if code is not None:
        parts.append((PartKind.CODE, code, None))
    return Message(
        id=message_id,
        role=MessageRole.ASSISTANT,
        parts=tuple(
            Part(id=f"{message_id}.p{index}", kind=kind, content=content, reasoning_meta=replay)
            for index, (kind, content, replay) in enumerate(parts)
        ),
    )


def observation_message(
    message_id: str,
    *,
    output: Sequence[str],
    images: Sequence[AttachmentRef] = (),
    error: str | None = None,
    final: str | None = None,
) -> Message:
    """What a cell gave, as a User message: outputs, images, error, final value. A cell that gave nothing has one
    empty output, because a message without parts would vanish."""
    parts = [Part(id="", kind=PartKind.OUTPUT, content=text) for text in output]
    parts += [
        Part(
            id="",
            kind=PartKind.ATTACHMENT,
            content="",
            attachment=PartAttachment(source=StoredAttachment(attachment_ref=image)),
        )
        for image in images
    ]
    if error is not None:
        parts.append(Part(id="", kind=PartKind.ERROR, content=error))
    if final is not None:
        parts.append(Part(id="", kind=PartKind.TEXT, content=final))
    if not parts:
        parts.append(Part(id="", kind=PartKind.OUTPUT, content=""))
    return _message(message_id, MessageRole.USER, parts)


def note_message(message_id: str, text: str) -> Message:
    """A note of the runtime to the model."""
    return runtime_message(message_id, PartKind.TEXT, text)


def runtime_message(message_id: str, kind: PartKind, text: str) -> Message:
    """A text of the runtime to the model, of whatever kind."""
    return _message(message_id, MessageRole.SYSTEM, [Part(id="", kind=kind, content=text)])


def _message(message_id: str, role: MessageRole, parts: Sequence[Part]) -> Message:
    numbered = tuple(
        Part(id=f"{message_id}.p{index}", kind=part.kind, content=part.content, attachment=part.attachment)
        for index, part in enumerate(parts)
    )
    return Message(id=message_id, role=role, parts=numbered, origin=CODE_ORIGIN)


def media_type(source: AttachmentSource) -> str:
    """What kind of thing an attachment is, in a word."""
    match source:
        case StoredAttachment():
            return source.attachment_ref.media_type
        case InlineAttachment() | ExternalUrl():
            return source.media_type
        case ProviderFile():
            return "file"


# -- tables ------------------------------------------------------------------------------------------------------------

_FINAL: Codec[FinalOutput] = struct(FinalOutput, value=JSON)
_REASONING: Codec[ReasoningOutput] = struct(ReasoningOutput, text=STRING, replay=nullable(REASONING_REPLAY))


def _hosted(content: Codec[T]) -> Codec[T]:
    """`{plugin_id, payload}`: the form in which the reference's host keeps the records of any protocol."""

    def decode(value: object) -> T:
        record = _HOSTED.decode(value)
        if record["plugin_id"] != CODE_ORIGIN.plugin_id:
            raise DecodeError(
                f"this is a record of {record['plugin_id']!r}, not of the code protocol", path="plugin_id"
            )
        try:
            return content.decode(record["payload"])
        except DecodeError as error:
            raise error.under("payload") from None

    return Codec(lambda value: {"plugin_id": CODE_ORIGIN.plugin_id, "payload": content.encode(value)}, decode)


_HOSTED: Codec[dict[str, Any]] = struct(dict, plugin_id=STRING, payload=JSON)

CODE_EVENT: Codec[CodeEvent] = _hosted(
    externally_tagged(
        "event of the code protocol",
        {
            "CodeAssistantContent": (
                CodeAssistantContent,
                struct(CodeAssistantContent, id=STRING, reasoning=omit_none(STRING), prose=omit_none(STRING)),
            ),
            "CodeTrajectoryEntry": (
                CodeTrajectoryEntry,
                struct(
                    CodeTrajectoryEntry,
                    id=STRING,
                    protocol_iteration=U64,
                    code=STRING,
                    observation=STRING,
                    output_chars=omit_empty(array(U64)),
                    images=omit_empty(array(ATTACHMENT_REF)),
                    error=omit_none(STRING),
                    final_output=omit_none(_FINAL),
                    ran=omit_none(STRING),
                    refused=omit_none(STRING),
                    call_id=omit_none(STRING),
                ),
            ),
            "CodeDiagnostic": (
                CodeDiagnostic,
                struct(CodeDiagnostic, id=STRING, protocol_iteration=U64, phase=STRING, payload=JSON),
            ),
        },
    )
)

CODE_DRIVER_STATE: Codec[CodeDriverState] = _hosted(
    struct(
        CodeDriverState,
        reasoning=omit_empty(array(_REASONING)),
        prose=omit_empty(STRING, ""),
        executed_code=omit_none(STRING),
        problem=omit_none(enum(ReplyProblem)),
        output=omit_empty(array(STRING)),
        images=omit_empty(array(ATTACHMENT_REF)),
        exec_error=omit_none(STRING),
        finish=omit_none(_FINAL),
        ran=omit_none(STRING),
    )
)
