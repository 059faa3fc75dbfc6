"""Results of servers as tool values."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from mcp_types import (
    AudioContent,
    BlobResourceContents,
    CallToolResult,
    EmbeddedResource,
    ImageContent,
    ResourceLink,
    TextContent,
)

from lash_nb.machine.tool_calls import ToolFailed, ToolFailureClass, ToolSucceeded
from lash_nb.toolkits import ToolSurroundings
from lash_nb.toolkits._mcp_results import output_of

PIXEL = base64.b64encode(b"pixel").decode()
INLINE = {"source": "inline", "media_type": "image/png", "bytes": list(b"pixel")}
ATTACHED = {"$lash_tool_value": "attachment", "source": INLINE}


def value(*content: Any, **more: Any) -> Any:
    outcome = output_of(CallToolResult(content=list(content), **more), ToolSurroundings()).outcome
    assert isinstance(outcome, ToolSucceeded), outcome
    return outcome.payload


def test_texts_are_one_text() -> None:
    assert value() is None
    assert value(TextContent(text="a")) == "a"
    assert value(TextContent(text="a"), TextContent(text="b")) == "a\nb"


def test_structured_content_is_the_value() -> None:
    assert value(TextContent(text='{"a": 1}'), structured_content={"a": 1}) == {"a": 1}
    assert value(structured_content=[1]) == [1]
    assert value(ImageContent(data=PIXEL, mime_type="image/png"), structured_content={"a": 1}) == [{"a": 1}, ATTACHED]


def test_attachments() -> None:
    assert value(ImageContent(data=PIXEL, mime_type="image/png")) == ATTACHED
    audio = value(AudioContent(data=PIXEL, mime_type="audio/wav; codecs=1"))
    assert audio["source"]["media_type"] == "audio/wav"
    assert value(ImageContent(data=PIXEL, mime_type="no type"))["source"]["media_type"] == "application/octet-stream"
    blob = EmbeddedResource(resource=BlobResourceContents(uri="test://x", blob=PIXEL))
    assert value(blob)["source"]["media_type"] == "application/octet-stream"
    assert value(ImageContent(data="not base64!", mime_type="image/png")) == (
        "[image/png, which the server did not send as base64]"
    )
    big = base64.b64encode(b"x" * 70_000).decode()
    assert value(ImageContent(data=big, mime_type="image/png")) == (
        "[image/png, 70,000 bytes: there is nowhere to keep them]"
    )


def test_a_link_is_text() -> None:
    link = ResourceLink(name="a\x1b[1mb", uri="test://\u202ex", mime_type="text/plain")
    assert value(link) == "[a link to the server's resource ab: test://x, text/plain]"


def test_objects_with_our_own_key_are_escaped() -> None:
    inner = {"$lash_tool_value": "attachment", "source": INLINE}
    assert value(structured_content={"a": [inner]}) == {"a": [{"$lash_tool_value": "object", "entries": inner}]}


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 10**400])
def test_what_cannot_be_kept(bad: Any) -> None:
    outcome = output_of(CallToolResult(content=[], structured_content={"a": bad}), ToolSurroundings()).outcome
    assert isinstance(outcome, ToolFailed)
    assert (outcome.payload.class_, outcome.payload.code) == (ToolFailureClass.EXTERNAL, "bad_result")


def test_errors() -> None:
    link = ResourceLink(name="more", uri="test://more")
    result = CallToolResult(content=[TextContent(text="it \x1b[31mbroke"), link], is_error=True)
    outcome = output_of(result, ToolSurroundings()).outcome
    assert isinstance(outcome, ToolFailed)
    assert outcome.payload.message == "it broke\n[a link to the server's resource more: test://more]"
    silent = output_of(CallToolResult(content=[], is_error=True), ToolSurroundings()).outcome
    assert isinstance(silent, ToolFailed)
    assert silent.payload.message == "the tool failed, and its server does not say why"
