"""What of a conversation reaches the model: part by part, by hand (reference 1.13)."""

from __future__ import annotations

from typing import Any

import pytest

from lash_nb.machine.attachments import ExternalUrl
from lash_nb.machine.llm import (
    AttachmentBlock,
    LlmMessage,
    LlmRole,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_nb.machine.messages import (
    Deleted,
    Message,
    MessageOrigin,
    MessageRole,
    Part,
    PartAttachment,
    PartKind,
    PluginOrigin,
    ProcessOrigin,
    ProviderReasoningReplay,
    PruneMark,
    ResponseTextMeta,
    Summarized,
    TurnCause,
)
from lash_nb.machine.projector import render_causes, render_message

USER, ASSISTANT, SYSTEM, EVENT = MessageRole.USER, MessageRole.ASSISTANT, MessageRole.SYSTEM, MessageRole.EVENT
SOURCE = ExternalUrl(media_type="image/png", url="u")
HERE = PartAttachment(source=SOURCE)
META = ResponseTextMeta(id="x")
REPLAY = ProviderReasoningReplay(item_id="r")
DELETED = Deleted(breadcrumb="b", archive_hash="h")
SUMMARY = Summarized(summary="short", archive_hash="h")


def rendered(role: MessageRole, kind: str, content: str = "t", **fields: Any) -> Any:
    part = Part(id="p", kind=PartKind(kind), content=content, **fields)
    attachments: list[Any] = []
    found = render_message(Message(id="m", role=role, parts=(part,)), attachments)
    if found is None:
        return None
    (block,) = found.blocks
    assert bool(attachments) == isinstance(block, AttachmentBlock)
    return block


def text(content: str, meta: ResponseTextMeta | None = None) -> TextBlock:
    return TextBlock(text=content, response_meta=meta)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (rendered(USER, "Text"), text("t")),
        (rendered(USER, "Text", " \u3000\n"), None),
        (rendered(USER, "Text", "\x1f"), text("\x1f")),
        (rendered(ASSISTANT, "Prose", response_meta=META), text("t", META)),
        (rendered(USER, "Text", response_meta=META), text("t", META)),
        (rendered(ASSISTANT, "Code", response_meta=META), text("t")),
        (rendered(SYSTEM, "Text"), text("Runtime note:\nt")),
        (rendered(SYSTEM, "Output"), text("Runtime note:\n<output>\nt\n</output>")),
        (rendered(SYSTEM, "Output", ""), text("Runtime note:\n<output>\n\n</output>")),
        (rendered(SYSTEM, "Error"), text("Runtime note:\n<error>\nt\n</error>")),
        (rendered(SYSTEM, "Text", ""), None),
        (rendered(USER, "Output"), text("t")),
        (rendered(USER, "Output", ""), None),
        (rendered(EVENT, "Error"), text("Runtime event:\nt")),
        (rendered(USER, "Text", prune_state=PruneMark.CLEARED), text("[Old tool result content cleared]")),
        (rendered(USER, "Text", prune_state=DELETED), text("[pruned:h — b]")),
        (rendered(USER, "Text", prune_state=SUMMARY), text("[SUMMARY of original h]\nshort")),
        (rendered(USER, "Attachment", attachment=HERE), AttachmentBlock(attachment_idx=0)),
        (rendered(ASSISTANT, "Attachment", attachment=HERE), text("[Attachment]")),
        (rendered(SYSTEM, "Attachment", attachment=HERE), text("Runtime note:\n[Attachment]")),
        (rendered(USER, "Attachment"), text("t")),
        (rendered(USER, "Attachment", " "), text("[Attachment]")),
        (rendered(USER, "Attachment", prune_state=DELETED), text("t")),
        (rendered(ASSISTANT, "Reasoning"), None),
        (rendered(ASSISTANT, "Reasoning", reasoning_meta=ProviderReasoningReplay()), None),
        (rendered(ASSISTANT, "Reasoning", reasoning_meta=REPLAY), ReasoningBlock(text="t", replay=REPLAY)),
        (
            rendered(ASSISTANT, "Reasoning", reasoning_meta=REPLAY, prune_state=DELETED),
            ReasoningBlock(text="t", replay=REPLAY),
        ),
        (
            rendered(ASSISTANT, "ToolCall", "{}", tool_call_id="c", tool_name="n", prune_state=DELETED),
            ToolCallBlock(call_id="c", tool_name="n", input_json="{}"),
        ),
        (rendered(USER, "ToolResult", ""), ToolResultBlock(call_id="", content="")),
        (
            rendered(USER, "ToolResult", tool_call_id="c", tool_name="n", prune_state=PruneMark.CLEARED),
            ToolResultBlock(call_id="c", content="[Old tool result content cleared]", tool_name="n"),
        ),
    ],
)
def test_parts(block: Any, expected: Any) -> None:
    assert block == expected


def test_a_message_without_blocks_vanishes_and_an_event_is_a_user() -> None:
    assert render_message(Message(id="m", role=USER, parts=()), []) is None
    part = Part(id="p", kind=PartKind.TEXT, content="t")
    found = render_message(Message(id="m", role=EVENT, parts=(part,)), [])
    assert found == LlmMessage(role=LlmRole.USER, blocks=(text("Runtime event:\nt"),))


def test_origins_of_causes() -> None:
    origins: list[MessageOrigin] = [
        PluginOrigin(plugin_id="p"),
        PluginOrigin(plugin_id="p", transient=True),
        ProcessOrigin(process_id="x", event_type="e", sequence=2),
        ProcessOrigin(process_id="x", event_type="e", sequence=2, wake_id=""),
    ]
    causes = [TurnCause(id=str(n), event_type="e", origin=origin, text=" t ") for n, origin in enumerate(origins)]
    lines = render_causes(causes).split("\n")
    assert [line for line in lines if line.startswith("Origin: ")] == [
        "Origin: plugin p",
        "Origin: plugin p (transient)",
        "Origin: process x e #2",
        "Origin: process x e #2 ()",
    ]
    assert lines[-1] == "t"
