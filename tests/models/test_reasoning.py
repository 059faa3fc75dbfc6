"""Reasoning that a provider wants back: kept, sent to that provider again, and to no other."""

from __future__ import annotations

from typing import Any

import pytest

from lash_nb.errors import InputError
from lash_nb.machine.llm import (
    LLM_RESPONSE,
    Effort,
    LlmMessage,
    LlmRequest,
    LlmResponse,
    LlmRole,
    LlmTerminalReason,
    ModelVariant,
    PlainVariant,
    ProviderFailureKind,
    ReasoningBlock,
    ReasoningOutput,
    TextBlock,
    TextOutput,
    ToolCallBlock,
    ToolCallOutputPart,
    ToolResultBlock,
)
from lash_nb.machine.messages import ResponseTextMeta
from lash_nb.models import Sampling
from lash_nb.models.providers import ProviderModel

from .anthropic_server import AnthropicWire, block, ending, opening, stopped
from .cases import Listener, context, request, streamed
from .dialects import WIRES
from .google_server import GoogleWire, piece
from .http_server import Answer, ModelServer, refused, sse
from .openai_server import OpenAIWire, chunk, events, finish, tool_delta
from .place import Place
from .wires import SIGNATURE, Wire

CALL = {"type": "tool_use", "id": "t1", "name": "read", "input": {}}
ARGUMENTS = {"type": "input_json_delta", "partial_json": '{"a": 1}'}


def thinking(word: str) -> Answer:
    """Reasoning, what is wanted back of it, and a tool call."""
    match word:
        case "anthropic":
            deltas = [
                {"type": "thinking_delta", "thinking": "I "},
                {"type": "thinking_delta", "thinking": "think."},
                {"type": "signature_delta", "signature": SIGNATURE},
            ]
            thought = block(0, {"type": "thinking", "thinking": "", "signature": ""}, deltas)
            hidden = block(1, {"type": "redacted_thinking", "data": "hidden"}, [])
            call = block(2, CALL, [ARGUMENTS])
            pieces = [*thought, stopped(0), *hidden, stopped(1), *call, stopped(2), *ending("tool_use")]
            return Answer(pieces=[*opening(), *pieces])
        case "google":
            call_part = {
                "functionCall": {"id": "t1", "name": "read", "args": {"a": 1}},
                "thoughtSignature": SIGNATURE,
            }
            thoughts = [piece([{"text": text, "thought": True}]) for text in ("I ", "think.")]
            return Answer(pieces=[*thoughts, piece([call_part], "STOP")])
    items = [
        chunk({"reasoning_content": "I "}),
        chunk({"reasoning_content": "think."}),
        tool_delta(0, '{"a": 1}', call_id="t1", name="read"),
        *finish("tool_calls"),
    ]
    return Answer(pieces=events(items))


def again(answer: LlmResponse) -> LlmRequest:
    """The next request: the answer as the history keeps it, and the tool's result."""
    stored = LLM_RESPONSE.decode(LLM_RESPONSE.encode(answer))
    blocks: list[Any] = []
    for part in stored.parts:
        match part:
            case TextOutput(text=text, response_meta=meta):
                blocks.append(TextBlock(text=text, response_meta=meta))
            case ReasoningOutput(text=text, replay=replay) if replay is not None:
                blocks.append(ReasoningBlock(text=text, replay=replay))
            case ToolCallOutputPart(call_id=call_id, tool_name=name, input_json=arguments, replay=replay):
                blocks.append(ToolCallBlock(call_id=call_id, tool_name=name, input_json=arguments, replay=replay))
    messages = (
        LlmMessage(role=LlmRole.USER, blocks=(TextBlock(text="How many?"),)),
        LlmMessage(role=LlmRole.ASSISTANT, blocks=tuple(blocks)),
        LlmMessage(role=LlmRole.USER, blocks=(ToolResultBlock(call_id="t1", content="12"),)),
    )
    return request(messages=messages)


async def test_reasoning_streams(place: Place) -> None:
    listener = Listener()
    place.server.answers.append(thinking(place.wire.word))
    await place.model().complete(request(), context=context(), on_delta=listener)
    assert streamed(listener.deltas) == {"text": "", "reasoning": "I think.", "tool": '{"a": 1}'}


async def test_reasoning_goes_back_to_where_it_came_from(place: Place) -> None:
    answer = await place.complete(thinking(place.wire.word))
    body = await place.sent(again(answer))
    match place.wire.word:
        case "anthropic":
            assert body["messages"][1]["content"] == [
                {"type": "thinking", "thinking": "I think.", "signature": SIGNATURE},
                {"type": "redacted_thinking", "data": "hidden"},
                {"type": "tool_use", "id": "t1", "name": "read", "input": {"a": 1}},
            ]
        case "google":
            assert body["contents"][1]["parts"] == [
                {"functionCall": {"id": "t1", "name": "read", "args": {"a": 1}}, "thoughtSignature": SIGNATURE}
            ]
        case "openai":
            assert body["messages"][1]["reasoning_content"] == "I think."
            assert body["messages"][1]["tool_calls"][0]["id"] == "t1"


async def test_reasoning_goes_to_no_other_provider(place: Place) -> None:
    for wire in WIRES:
        if wire.word == place.wire.word:
            continue
        async with ModelServer() as server:
            other = Place(server, wire)
            answer = await other.complete(thinking(wire.word))
            await other.models[0].aclose()
        body = str(await place.sent(again(answer)))
        assert "t1" in body
        assert "think" not in body
        assert SIGNATURE not in body
        assert "hidden" not in body


async def test_reasoning_goes_to_no_other_host_of_its_dialect(place: Place) -> None:
    answer = await place.complete(thinking(place.wire.word))
    place.server.answers.append(place.text("ok"))
    elsewhere = ProviderModel(place.wire.word, "m", base_url=place.url.replace("127.0.0.1", "localhost"))
    place.models.append(elsewhere)
    await elsewhere.complete(again(answer), context=context())
    body = str(place.server.requests[-1])
    assert "think" not in body
    assert SIGNATURE not in body


class TestOpenAI:
    """Reasoning as plain text."""

    @pytest.fixture
    def wire(self) -> Wire:
        return OpenAIWire()

    async def test_the_field_it_came_in(self, place: Place) -> None:
        items = [chunk({"reasoning": "hm"}), tool_delta(0, "{}", call_id="t1", name="read"), *finish("tool_calls")]
        answer = await place.complete(Answer(pieces=events(items)))
        body = await place.sent(again(answer))
        assert body["messages"][1]["reasoning"] == "hm"
        assert "reasoning_content" not in body["messages"][1]

    async def test_it_goes_back_beside_tool_calls_only(self, place: Place) -> None:
        """Some servers refuse it elsewhere."""
        items = [chunk({"reasoning_content": "hm"}), chunk({"content": "12"}), *finish()]
        answer = await place.complete(Answer(pieces=events(items)))
        body = await place.sent(again(answer))
        assert body["messages"][1] == {"role": "assistant", "content": "12"}

    async def test_reasoning_that_was_cut_out_of_the_text_stays_here(self, place: Place) -> None:
        items = [
            chunk({"content": "<think>"}),
            chunk({"content": "hm"}),
            chunk({"content": "</think>"}),
            chunk({"content": "12"}),
            tool_delta(0, "{}", call_id="t1", name="read"),
            *finish("tool_calls"),
        ]
        answer = await place.complete(Answer(pieces=events(items)))
        assert answer.parts[0] == ReasoningOutput(text="hm")
        assert answer.full_text == "12"
        assert "hm" not in str(await place.sent(again(answer)))


class TestGoogle:
    """Signatures of parts that are no reasoning."""

    @pytest.fixture
    def wire(self) -> Wire:
        return GoogleWire()

    async def test_a_signature_on_text(self, place: Place) -> None:
        signed = {"text": "look.", "thoughtSignature": SIGNATURE}
        answer = await place.complete(Answer(pieces=[piece([{"text": "I "}]), piece([signed], "STOP")]))
        meta = ResponseTextMeta(origin_provider="google@127.0.0.1", provider_payload=SIGNATURE)
        assert answer.parts == (TextOutput(text="I look.", response_meta=meta),)
        body = await place.sent(again(answer))
        assert body["contents"][1]["parts"] == [{"text": "I look.", "thoughtSignature": SIGNATURE}]

    async def test_a_prompt_that_was_blocked(self, place: Place) -> None:
        blocked = sse({"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}, "responseId": "r1"})
        answer = await place.complete(Answer(pieces=[blocked]))
        assert answer.terminal_reason is LlmTerminalReason.CONTENT_FILTER
        assert answer.terminal_diagnostic == "PROHIBITED_CONTENT"

    async def test_a_daily_quota_and_how_long_to_wait(self, place: Place) -> None:
        info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "14.5s"}
        error = {"code": 429, "message": "slow down", "status": "RESOURCE_EXHAUSTED", "details": [info]}
        caught = await place.refused(refused(429, {"error": error}))
        assert (caught.retry_after_s, caught.error.retryable) == (14.5, True)
        quota = {
            "@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}],
        }
        failure = await place.failure(refused(429, {"error": {**error, "details": [info, quota]}}))
        assert (failure.kind, failure.retryable) == (ProviderFailureKind.QUOTA, False)


@pytest.mark.parametrize(
    ("model", "variant", "expected"),
    [
        ("claude-sonnet-4-6", PlainVariant.PROVIDER_DEFAULT, None),
        ("claude-sonnet-4-6", PlainVariant.DISABLED, None),
        ("claude-sonnet-4-6", Effort(effort="high"), "adaptive"),
        ("claude-haiku-4-5", Effort(effort="high"), "enabled"),
    ],
)
async def test_how_much_claude_is_to_think(model: str, variant: ModelVariant, expected: str | None) -> None:
    async with ModelServer() as server:
        place = Place(server, AnthropicWire())
        where = context(sampling=Sampling(temperature=0.3))
        body = await place.sent(request(model_variant=variant), where, name=model)
        await place.models[0].aclose()
    assert (body.get("thinking") or {}).get("type") == expected
    assert body.get("temperature") == (None if expected else 0.3)  # a model that thinks takes none


@pytest.mark.parametrize(
    ("model", "variant", "expected"),
    [
        ("gemini-3.8-flash", PlainVariant.PROVIDER_DEFAULT, None),
        ("gemini-3.8-flash", Effort(effort="low"), {"includethoughts": True, "thinkinglevel": "LOW"}),
        ("gemini-2.5-flash", Effort(effort="low"), {"includethoughts": True, "thinkingbudget": 2048}),
        ("gemini-2.5-flash", PlainVariant.DISABLED, {"thinkingbudget": 0}),
    ],
)
async def test_how_much_gemini_is_to_think(model: str, variant: ModelVariant, expected: object) -> None:
    async with ModelServer() as server:
        place = Place(server, GoogleWire())
        body = await place.sent(request(model_variant=variant), name=model)
        await place.models[0].aclose()
    sent = body["generationConfig"].get("thinkingConfig")  # the client writes its names in either way
    assert (sent and {name.replace("_", "").lower(): value for name, value in sent.items()}) == expected


async def test_an_effort_that_is_none(place: Place) -> None:
    asked = request(model_variant=Effort(effort="heroic"))
    if place.wire.word == "openai":  # servers have words of their own
        assert (await place.sent(asked))["reasoning_effort"] == "heroic"
        return
    with pytest.raises(InputError, match="'heroic' is no reasoning effort: none, off, minimal, low"):
        await place.sent(asked)
    assert place.server.requests == []
