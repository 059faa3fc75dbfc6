"""Histories of calls, results and cells, and the requests that are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from lash_nb.machine.attachments import AttachmentRef, StoredAttachment
from lash_nb.machine.config import TurnMachineConfig
from lash_nb.machine.llm import (
    LlmRequest,
)
from lash_nb.machine.messages import (
    AppendOnly,
    Message,
    MessageRole,
    Part,
    PartAttachment,
    PartKind,
    TurnCause,
)
from lash_nb.machine.projector import Projection
from lash_nb.protocols import ModelProtocol
from lash_nb.protocols.code import CodeProtocol
from lash_nb.protocols.records import CODE_ORIGIN
from lash_nb.protocols.tools import ToolsProtocol

from .tool_talk import SPECS

PLOT = AttachmentRef(id="sha256:ab", media_type="image/png", byte_len=4)


def project(
    *messages: Message,
    protocol: ModelProtocol,
    view: AppendOnly[Message] | None = None,
    causes: tuple[TurnCause, ...] = (),
    iteration: int = 0,
) -> LlmRequest:
    config: TurnMachineConfig[Any, Any, Any] = TurnMachineConfig(
        driver=protocol.driver,
        projector=protocol.projector,
        protocol=protocol.turn_protocol,
        model="m",
        max_turns=30,
        system_prompt="SYSTEM",
        session_id="s1",
        termination=protocol.termination,
        tool_specs=protocol.tool_specs(SPECS),
    )
    return protocol.projector.project(
        Projection(
            config=config,
            messages=AppendOnly(messages) if view is None else view,
            turn_causes=causes,
            protocol_iteration=iteration,
            use_tools=protocol.calls_tools,
        )
    )


def called(number: int, *calls: tuple[str, str, str], prose: str = "") -> Message:
    """A reply with calls as (id, tool, arguments)."""
    parts = [Part(id="", kind=PartKind.PROSE, content=prose)] if prose else []
    parts += [
        Part(id="", kind=PartKind.TOOL_CALL, content=args, tool_call_id=call_id, tool_name=tool)
        for call_id, tool, args in calls
    ]
    return _numbered(Message(id=f"a{number}", role=MessageRole.ASSISTANT, parts=tuple(parts)))


def resulted(number: int, *results: tuple[str, str, str], images: Sequence[str] = ()) -> Message:
    """Results as (id, tool, text); `images` are ids of calls that gave one."""
    parts = []
    for call_id, tool, text in results:
        part = Part(id="", kind=PartKind.TOOL_RESULT, content=text, tool_call_id=call_id, tool_name=tool)
        parts.append(part)
        if call_id in images:
            source = PartAttachment(source=StoredAttachment(attachment_ref=PLOT))
            parts.append(replace(part, kind=PartKind.ATTACHMENT, content="", attachment=source))
    return _numbered(Message(id=f"r{number}", role=MessageRole.USER, parts=tuple(parts), origin=CODE_ORIGIN))


def _numbered(message: Message) -> Message:
    parts = (replace(part, id=f"{message.id}.p{place}") for place, part in enumerate(message.parts))
    return replace(message, parts=tuple(parts))


def tools() -> ToolsProtocol:
    return ToolsProtocol(turn_id="t1")


def code() -> CodeProtocol:
    return CodeProtocol(turn_id="t1")
