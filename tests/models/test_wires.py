"""What a request looks like when it reaches Anthropic or Google, and images at all three."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from lash_nb.machine.attachments import (
    AttachmentRef,
    ExternalUrl,
    InlineAttachment,
    ProviderFile,
    ProviderFileScope,
    StoredAttachment,
)
from lash_nb.machine.llm import (
    AttachmentBlock,
    GenerationOptions,
    JsonSchemaSpec,
    LlmRequest,
    LlmRole,
    LlmToolChoice,
    LlmToolSpec,
    LlmUsage,
    TextBlock,
    ToolCallBlock,
    ToolResultBlock,
    ToolSchema,
)
from lash_nb.models import Sampling

from .anthropic_server import AnthropicWire, ending, opening
from .cases import Blobs, context, conversation, request
from .google_server import GoogleWire
from .http_server import Answer
from .place import Place
from .wires import Wire

USER, ASSISTANT, SYSTEM = LlmRole.USER, LlmRole.ASSISTANT, LlmRole.SYSTEM
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"path": {"type": "string"}},
    "required": ["path"],
}
READ = LlmToolSpec(
    name="read",
    description="Reads a file.",
    input_schema=ToolSchema(canonical=SCHEMA),
    output_schema=ToolSchema(canonical={}),
)
CACHED = {"type": "ephemeral", "ttl": "5m"}


def talk(**marked: bool) -> LlmRequest:
    """A conversation with a tool, a note of the system, and breakpoints where `marked` says."""
    return conversation(
        (SYSTEM, (TextBlock(text="s"),)),
        (USER, (TextBlock(text="a"), TextBlock(text="b", cache_breakpoint=marked.get("user", False)))),
        (
            ASSISTANT,
            (
                TextBlock(text="I look.", cache_breakpoint=marked.get("assistant", False)),
                ToolCallBlock(call_id="t1", tool_name="read", input_json='{"x":1}'),
            ),
        ),
        (USER, (ToolResultBlock(call_id="t1", content="12"),)),
        (USER, (TextBlock(text="and?"),)),
        (SYSTEM, (TextBlock(text="note"),)),
    )


class TestAnthropic:
    @pytest.fixture
    def wire(self) -> Wire:
        return AnthropicWire()

    async def test_a_request(self, place: Place) -> None:
        body = await place.sent(request("How many rows?", system="You are terse."))
        assert body["model"] == "m"
        assert body["stream"] is True
        assert body["max_tokens"] >= 8192
        assert body["system"] == [{"type": "text", "text": "You are terse.", "cache_control": CACHED}]
        assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "How many rows?"}]}]
        assert not {"tools", "temperature", "stop_sequences", "seed", "tool_choice", "thinking"} & set(body)

    async def test_a_known_model_may_write_as_much_as_it_can(self, place: Place) -> None:
        assert (await place.sent(request(), name="claude-haiku-5-5"))["max_tokens"] >= 32_000
        asked = request(generation=GenerationOptions(output_token_cap=50))
        assert (await place.sent(asked, name="claude-haiku-5-5"))["max_tokens"] == 50

    async def test_a_conversation(self, place: Place) -> None:
        body = await place.sent(talk())
        assert body["system"] == [{"type": "text", "text": "s", "cache_control": CACHED}]
        first, second, third = body["messages"]
        assert first == {"role": "user", "content": [{"type": "text", "text": "a\n\nb"}]}
        assert second == {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "t1", "name": "read", "input": {"x": 1}},
            ],
        }
        assert third["content"][0]["tool_use_id"] == "t1"
        assert third["content"][1] == {"type": "text", "text": "and?"}
        note = {"type": "text", "text": "<system>\nnote\n</system>"}  # the cached system prompt stays as it is
        assert third["content"][2] == note

    async def test_breakpoints(self, place: Place) -> None:
        body = await place.sent(talk(user=True))
        assert body["messages"][0]["content"] == [
            {"type": "text", "text": "a"},
            {"type": "text", "text": "b", "cache_control": CACHED},
        ]
        body = await place.sent(talk(assistant=True))
        assert body["messages"][1]["content"][-1]["cache_control"] == CACHED

    async def test_tools(self, place: Place) -> None:
        body = await place.sent(request(tools=(READ,), tool_choice=LlmToolChoice.REQUIRED))
        assert body["tools"] == [
            {"name": "read", "description": "Reads a file.", "input_schema": SCHEMA, "cache_control": CACHED}
        ]
        assert body["tool_choice"] == {"type": "any"}

    async def test_arguments_that_are_no_json(self, place: Place) -> None:
        broken = ToolCallBlock(call_id="t1", tool_name="read", input_json='{"x":')
        asked = conversation(
            (USER, (TextBlock(text="a"),)),
            (ASSISTANT, (broken,)),
            (USER, (ToolResultBlock(call_id="t1", content="no"),)),
        )
        body = await place.sent(asked)
        assert body["messages"][1]["content"][0]["name"] == "read"

    async def test_sampling(self, place: Place) -> None:
        where = context(sampling=Sampling(temperature=1.5, stop=("</cell>", "\n"), seed=7))
        body = await place.sent(request(), where)
        assert (body["temperature"], body["stop_sequences"]) == (1.0, ["</cell>"])
        assert "seed" not in body

    async def test_a_model_that_takes_no_temperature_is_not_given_one(self, place: Place) -> None:
        where = context(sampling=Sampling(temperature=0.2))
        assert "temperature" not in await place.sent(request(), where, name="claude-opus-5-5")

    async def test_usage_with_what_was_written_to_the_cache(self, place: Place) -> None:
        usage = b'"cache_creation_input_tokens": 0'
        begun = [item.replace(usage, b'"cache_creation_input_tokens": 25') for item in opening()]
        answer = await place.complete(Answer(pieces=[*begun, *ending()]))
        assert answer.usage == LlmUsage(
            input_tokens=70,
            output_tokens=70,
            cache_read_input_tokens=40,
            cache_write_input_tokens=25,
            reasoning_output_tokens=30,
        )

    async def test_a_refusal_in_words(self, place: Place) -> None:
        told = {"stop_details": {"type": "refusal", "category": "cyber", "explanation": "I will not."}}
        answer = await place.complete(Answer(pieces=[*opening(), *ending("refusal", **told)]))
        assert answer.terminal_diagnostic == "I will not."


class TestGoogle:
    @pytest.fixture
    def wire(self) -> Wire:
        return GoogleWire()

    async def test_a_request(self, place: Place) -> None:
        where = context(sampling=Sampling(temperature=0.2, stop=("</cell>",), seed=7))
        asked = request("How many rows?", system="You are terse.", generation=GenerationOptions(output_token_cap=50))
        body = await place.sent(asked, where)
        assert body["systemInstruction"]["parts"] == [{"text": "You are terse."}]
        assert body["contents"] == [{"role": "user", "parts": [{"text": "How many rows?"}]}]
        config = body["generationConfig"]
        assert (config["temperature"], config["stopSequences"], config["seed"]) == (0.2, ["</cell>"], 7)
        assert config["maxOutputTokens"] == 50
        assert "tools" not in body

    async def test_a_conversation(self, place: Place) -> None:
        body = await place.sent(talk(user=True, assistant=True))
        assert body["systemInstruction"]["parts"] == [{"text": "s"}]
        assert body["contents"][0] == {"role": "user", "parts": [{"text": "a\n\nb"}]}
        said = body["contents"][1]
        assert said["role"] == "model"
        assert said["parts"][0] == {"text": "I look."}
        assert said["parts"][1]["functionCall"] == {"id": "t1", "name": "read", "args": {"x": 1}}
        rest = [part for content in body["contents"][2:] for part in content["parts"]]
        assert rest[0]["functionResponse"]["id"] == "t1"
        assert rest[1:] == [{"text": "and?"}, {"text": "<system>\nnote\n</system>"}]

    async def test_tools(self, place: Place) -> None:
        body = await place.sent(request(tools=(READ,), tool_choice=LlmToolChoice.REQUIRED))
        (declared,) = body["tools"][0]["functionDeclarations"]
        assert (declared["name"], declared["description"]) == ("read", "Reads a file.")
        assert "path" in str(declared)
        assert "ANY" in str(body["toolConfig"])

    async def test_an_image_by_address_is_not_fetched(self, place: Place) -> None:
        asked = conversation(
            (USER, (AttachmentBlock(attachment_idx=0),)),
            attachments=(ExternalUrl(media_type="image/png", url="https://h.example/a.png"),),
        )
        body = await place.sent(asked, vision=True)
        assert body["contents"][0]["parts"] == [{"text": "[https://h.example/a.png: image/png, not shown]"}]


# -- images ----------------------------------------------------------------------------------------------------------

PLOT = AttachmentRef(id="sha256:1", media_type="image/jpeg", byte_len=6, label="plot")
PICTURES = conversation(
    (USER, (TextBlock(text="look"), *(AttachmentBlock(attachment_idx=index) for index in range(6)))),
    attachments=(
        InlineAttachment(media_type="image/png", bytes=b"inline"),
        StoredAttachment(
            attachment_ref=AttachmentRef(id="sha256:1", media_type="image/jpeg", byte_len=6, label="plot")
        ),
        StoredAttachment(attachment_ref=AttachmentRef(id="sha256:2", media_type="image/png", byte_len=6)),
        InlineAttachment(media_type="application/zip", bytes=b"zip"),
        InlineAttachment(media_type="image/svg+xml", bytes=b"<svg/>"),
        ProviderFile(id="file-1", provider_scope=ProviderFileScope(provider="other", credential_scope="c")),
    ),
)
NOTES = [
    "[sha256:2: image/png, its bytes are missing]",
    "[an attachment: application/zip, 3 bytes, not shown]",
    "[an attachment: image/svg+xml, 6 bytes, not shown]",
    "[file-1: a file of another provider]",
]


async def test_a_model_that_sees(place: Place) -> None:
    sent = str(await place.sent(PICTURES, context(attachments=Blobs()), vision=True))
    for data in (b"inline", b"stored"):
        assert base64.b64encode(data).decode() in sent
    for note in ["look", *NOTES]:
        assert note in sent


async def test_a_model_that_does_not_see(place: Place) -> None:
    body = await place.sent(PICTURES, context(attachments=Blobs()))
    blind = "not shown: this model takes no images]"
    assert place.wire.texts(body) == [
        "\n\n".join(
            [
                "look",
                f"[an attachment: image/png, {blind}",
                f"[plot: image/jpeg, {blind}",
                f"[sha256:2: image/png, {blind}",
                *NOTES[1:],
            ]
        )
    ]


async def test_no_store(place: Place) -> None:
    body = str(await place.sent(PICTURES, vision=True))
    assert "[plot: image/jpeg, not at hand]" in body


# -- the rest --------------------------------------------------------------------------------------------------------


async def test_an_answer_in_a_shape(place: Place) -> None:
    shape: dict[str, Any] = {**SCHEMA, "additionalProperties": False}
    spec = JsonSchemaSpec(name="file", schema=ToolSchema(canonical=shape), strict=True)
    name = {"anthropic": "claude-haiku-5-5", "google": "gemini-3.8-flash", "openai": "m"}[place.wire.word]
    body = await place.sent(request(output_spec=spec), name=name)
    asked = {
        "anthropic": body.get("output_config"),
        "google": body.get("generationConfig"),
        "openai": body.get("response_format"),
    }[place.wire.word]
    assert "path" in str(asked)


async def test_a_request_that_cannot_be_translated_is_a_failed_call(place: Place) -> None:
    asked = conversation((USER, (AttachmentBlock(attachment_idx=3),)))
    caught = await place.refused(place.text("never"), asked=asked)
    assert not caught.error.retryable
    assert place.server.requests == []
