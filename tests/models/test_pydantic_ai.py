"""What a request looks like when it reaches an OpenAI-compatible server; `test_wires` has what the others see."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from lash_nb.machine.attachments import AttachmentRef, InlineAttachment, StoredAttachment
from lash_nb.machine.llm import (
    AttachmentBlock,
    GenerationOptions,
    LlmRole,
    LlmToolChoice,
    LlmToolSpec,
    ReasoningBlock,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
    ToolSchema,
)
from lash_nb.models import Sampling

from .cases import Blobs, context, conversation, request
from .openai_server import OpenAIWire
from .place import Place
from .wires import Wire


@pytest.fixture
def wire() -> Wire:
    return OpenAIWire()


async def test_a_request_on_the_wire(place: Place) -> None:
    body = await place.sent(request("How many rows?", system="You are terse."))
    assert body["model"] == "m"
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}
    assert body["messages"] == [
        {"role": "system", "content": "You are terse."},
        {"role": "user", "content": "How many rows?"},
    ]
    assert not {"tools", "temperature", "stop", "seed", "tool_choice"} & set(body)


async def test_a_conversation_on_the_wire(place: Place) -> None:
    user, assistant, system = LlmRole.USER, LlmRole.ASSISTANT, LlmRole.SYSTEM
    asked = conversation(
        (system, (TextBlock(text="s"),)),
        (user, (TextBlock(text="a"), TextBlock(text="b"))),
        (
            assistant,
            (
                ReasoningBlock(text="secret thoughts"),
                TextBlock(text="I look."),
                ToolCallBlock(call_id="t1", tool_name="read", input_json='{"x":1}'),
            ),
        ),
        (user, (ToolResultBlock(call_id="t1", content="12"),)),
        (user, (TextBlock(text="and?"),)),
        (system, (TextBlock(text="note"),)),
    )
    body = await place.sent(asked)
    call = {"id": "t1", "type": "function", "function": {"name": "read", "arguments": '{"x":1}'}}
    assert body["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "a\n\nb"},
        {"role": "assistant", "content": "I look.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "t1", "content": "12"},
        {"role": "user", "content": "and?"},
        {"role": "system", "content": "note"},
    ]


async def test_sampling_and_limits_on_the_wire(place: Place) -> None:
    where = context(sampling=Sampling(temperature=0.2, stop=("</cell>",), seed=7))
    body = await place.sent(request(generation=GenerationOptions(output_token_cap=50)), where)
    assert (body["temperature"], body["stop"], body["seed"]) == (0.2, ["</cell>"], 7)
    assert 50 in (body.get("max_tokens"), body.get("max_completion_tokens"))


@pytest.mark.parametrize(
    ("choice", "expected"),
    [(LlmToolChoice.AUTO, "auto"), (LlmToolChoice.REQUIRED, "required"), (LlmToolChoice.NONE, "none")],
)
async def test_tools_on_the_wire(place: Place, choice: LlmToolChoice, expected: str) -> None:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {"path": {"type": "string", "minLength": 1}},
        "required": ["path"],
    }
    spec = LlmToolSpec(
        name="read",
        description="Reads a file.",
        input_schema=ToolSchema(canonical=schema),
        output_schema=ToolSchema(canonical={}),
    )
    body = await place.sent(request(tools=(spec,), tool_choice=choice))
    function = {"name": "read", "description": "Reads a file.", "parameters": schema}
    assert body["tools"] == [{"type": "function", "function": function}]
    assert body.get("tool_choice", "auto") == expected


async def test_attachments_on_the_wire(place: Place) -> None:
    asked = conversation(
        (LlmRole.USER, (TextBlock(text="look"), *(AttachmentBlock(attachment_idx=index) for index in range(4)))),
        attachments=(
            InlineAttachment(media_type="image/png", bytes=b"inline"),
            StoredAttachment(attachment_ref=AttachmentRef(id="sha256:1", media_type="image/jpeg", byte_len=6)),
            StoredAttachment(attachment_ref=AttachmentRef(id="sha256:2", media_type="image/png", byte_len=6)),
            InlineAttachment(media_type="application/zip", bytes=b"zip"),
        ),
    )
    body = await place.sent(asked, context(attachments=Blobs()), vision=True)

    def image(media_type: str, data: bytes) -> dict[str, Any]:
        url = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
        return {"type": "image_url", "image_url": {"url": url}}

    assert body["messages"][0]["content"] == [
        {"type": "text", "text": "look"},
        image("image/png", b"inline"),
        image("image/jpeg", b"stored"),
        {"type": "text", "text": "[sha256:2: image/png, its bytes are missing]"},
        {"type": "text", "text": "[an attachment: application/zip, 3 bytes, not shown]"},
    ]
