"""The OpenAI-compatible adapter, over real HTTP on loopback."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from lash_nb.errors import ModelCallError
from lash_nb.machine.llm import (
    LlmResponse,
    LlmTerminalReason,
    LlmUsage,
    ProviderFailureKind,
    TextOutput,
    ToolCallOutputPart,
)
from lash_nb.models.choice import open_model
from lash_nb.models.providers import OpenAIModel

from .cases import Listener, context, request, streamed
from .contract import ModelContract
from .openai_place import Providers, tool_delta
from .openai_server import Answer, OpenAIServer, chunk, error, events, finish, text_stream

STOP, PROVIDER_ERROR = LlmTerminalReason.STOP, LlmTerminalReason.PROVIDER_ERROR
USAGE = LlmUsage(
    input_tokens=70,
    output_tokens=70,
    cache_read_input_tokens=40,
    cache_write_input_tokens=0,
    reasoning_output_tokens=30,
)


class TestContract(ModelContract):
    """On the loopback server of conftest.py."""


# -- answers ---------------------------------------------------------------------------------------------------------


async def test_a_plain_answer(place: Providers) -> None:
    answer = await place.complete(text_stream("12 ", "rows."))
    assert answer == LlmResponse(
        full_text="12 rows.", parts=(TextOutput(text="12 rows."),), usage=USAGE, terminal_reason=STOP
    )


async def test_bytes_that_come_one_at_a_time(place: Providers) -> None:
    text = "naïve 🎈\n\n日本"
    whole = b"".join(text_stream(*text).pieces)
    place.server.answers.append(Answer(pieces=[bytes([byte]) for byte in whole]))
    listener = Listener()
    answer = await place.model().complete(request(), context=context(), on_delta=listener)
    assert answer.full_text == text
    assert streamed(listener.deltas)["text"] == text


async def test_everything_in_one_piece(place: Providers) -> None:
    answer = await place.complete(Answer(pieces=[b"".join(text_stream("a", "b").pieces).replace(b"\n\n", b"\r\n\r\n")]))
    assert answer.full_text == "ab"


async def test_parallel_tool_calls_with_interleaved_arguments(place: Providers) -> None:
    items = [
        tool_delta(0, "", call_id="t1", name="read"),
        tool_delta(1, '{"b"', call_id="t2", name="write"),
        tool_delta(0, '{"a": 1'),
        tool_delta(1, ": 2}"),
        tool_delta(0, "}"),
        *finish("tool_calls"),
    ]
    answer = await place.complete(Answer(pieces=events(items)))
    assert answer.parts == (
        ToolCallOutputPart(call_id="t1", tool_name="read", input_json='{"a": 1}'),
        ToolCallOutputPart(call_id="t2", tool_name="write", input_json='{"b": 2}'),
    )
    assert answer.terminal_reason is LlmTerminalReason.TOOL_USE
    assert answer.full_text == ""


@pytest.mark.parametrize(
    ("finish_reason", "expected", "diagnostic"),
    [
        ("stop", LlmTerminalReason.STOP, None),
        ("length", LlmTerminalReason.OUTPUT_LIMIT, None),
        ("content_filter", LlmTerminalReason.CONTENT_FILTER, None),
        ("eos", LlmTerminalReason.UNKNOWN, "eos"),
    ],
)
async def test_why_it_ended(
    place: Providers, finish_reason: str, expected: LlmTerminalReason, diagnostic: str | None
) -> None:
    answer = await place.complete(Answer(pieces=events([chunk({"content": "a"}), *finish(finish_reason)])))
    assert (answer.terminal_reason, answer.terminal_diagnostic) == (expected, diagnostic)
    assert answer.full_text == "a"


async def test_a_tool_call_that_ends_with_stop_is_a_tool_call(place: Providers) -> None:
    items = [tool_delta(0, "{}", call_id="t1", name="read"), *finish("stop")]
    answer = await place.complete(Answer(pieces=events(items)))
    assert answer.terminal_reason is LlmTerminalReason.TOOL_USE


async def test_a_refusal(place: Providers) -> None:
    answer = await place.complete(Answer(pieces=events([chunk({"refusal": "I will not."}), *finish("stop")])))
    assert answer.terminal_reason is LlmTerminalReason.CONTENT_FILTER
    assert answer.terminal_diagnostic == "I will not."


# -- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (400, ProviderFailureKind.VALIDATION, False),
        (401, ProviderFailureKind.AUTH, False),
        (402, ProviderFailureKind.QUOTA, False),
        (403, ProviderFailureKind.AUTH, False),
        (404, ProviderFailureKind.VALIDATION, False),
        (408, ProviderFailureKind.TIMEOUT, True),
        (422, ProviderFailureKind.VALIDATION, False),
        (429, ProviderFailureKind.QUOTA, True),
        (500, ProviderFailureKind.HTTP, True),
        (503, ProviderFailureKind.HTTP, True),
        (529, ProviderFailureKind.HTTP, True),
    ],
)
async def test_refusals_are_typed_and_tried_once(
    place: Providers, status: int, kind: ProviderFailureKind, retryable: bool
) -> None:
    failure = await place.failure(error(status, "because"), text_stream("second try"))
    assert (failure.kind, failure.retryable) == (kind, retryable)
    assert failure.terminal_reason is PROVIDER_ERROR
    assert failure.code == str(status)
    assert failure.message.startswith(f"openai:m@{place.server.url}: the provider answered {status}: because")
    assert len(place.server.requests) == 1


async def test_a_context_that_is_too_long(place: Providers) -> None:
    failure = await place.failure(error(400, "too long", code="context_length_exceeded"))
    assert failure.terminal_reason is LlmTerminalReason.CONTEXT_OVERFLOW
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.VALIDATION, False)
    assert failure.code == "context_length_exceeded"


async def test_a_used_up_account_is_not_worth_another_try(place: Providers) -> None:
    failure = await place.failure(error(429, "no money", code="insufficient_quota"))
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.QUOTA, False)


async def test_the_key_is_not_repeated(place: Providers) -> None:
    failure = await place.failure(error(401, "Incorrect API key: sk-secret"), api_key="sk-secret")
    assert place.server.headers[0]["authorization"] == "Bearer sk-secret"
    assert "Incorrect API key: [key]" in failure.message
    assert "sk-secret" not in repr(failure)


@pytest.mark.parametrize(
    "answer",
    [
        Answer(pieces=events([chunk({"content": "half"})], done=False)),
        Answer(pieces=events([chunk({"content": "half"})], done=True)),
        Answer(pieces=events([chunk({"content": "half"})], done=False), cut=True),
        Answer(pieces=[*events([chunk({"content": "half"})], done=False), b'data: {"choices": [{"del']),
        Answer(pieces=[*events([chunk({"content": "half"})], done=False), b"data: \xff\xfe{\n\n"]),
        Answer(pieces=[*events([chunk({"content": "half"})], done=False), b'data: {"choices": 7}\n\n']),
        Answer(pieces=[*events([chunk({"content": "half"})], done=False), b"data: 7\n\n"]),
        Answer(pieces=[*events([chunk({"content": "half"})], done=False), b'data: {"error": {"message": "x"}}\n\n']),
    ],
    ids=["ended", "done", "cut", "half a line", "no utf-8", "odd choices", "a number", "an error"],
)
async def test_an_answer_that_broke_off_is_a_failure(place: Providers, answer: Answer) -> None:
    failure = await place.failure(answer)
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.STREAM, True)
    assert failure.terminal_reason is PROVIDER_ERROR
    assert failure.partial_response is not None
    assert failure.partial_response.full_text == "half"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(pieces=[b"<html>hello</html>"], headers={"content-type": "text/html"}),
        Answer(pieces=[b"garbage \x00\xff\n\n" * 20]),
        Answer(pieces=[b"data: nonsense\n\n"]),
        Answer(pieces=[b"data: [1, 2]\n\n"]),
        Answer(),
    ],
    ids=["html", "bytes", "no json", "a list", "nothing"],
)
async def test_garbage_is_a_failure(place: Providers, answer: Answer) -> None:
    failure = await place.failure(answer)
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.STREAM, True)
    assert failure.partial_response is None or failure.partial_response.full_text == ""


async def test_nobody_listens(place: Providers) -> None:
    async with OpenAIServer() as gone:
        url = gone.url
    model = OpenAIModel("m", base_url=url)
    place.models.append(model)
    with pytest.raises(ModelCallError) as caught:
        await model.complete(request(), context=context())
    assert (caught.value.error.kind, caught.value.error.retryable) == (ProviderFailureKind.TRANSPORT, True)
    assert f"{url} cannot be reached" in str(caught.value)


@pytest.mark.parametrize("bound", [{"stall_s": 0.2}, {"timeout_s": 0.2}], ids=["stall", "whole"])
@pytest.mark.parametrize(
    "answer",
    [Answer(wait=True), Answer(pieces=events([chunk({"content": "half"})], done=False), hang=True)],
    ids=["first byte", "middle"],
)
async def test_silence_is_a_timeout(place: Providers, bound: dict[str, float], answer: Answer) -> None:
    await place.complete(text_stream("the imports are not what is slow"))
    failure = await place.failure(answer, **bound)
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.TIMEOUT, True)
    await place.server.client_left.wait()


# -- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [Answer(wait=True), Answer(pieces=events([chunk({"content": "half"})], done=False), hang=True)],
    ids=["first byte", "middle"],
)
async def test_cancelling_closes_the_connection(place: Providers, answer: Answer) -> None:
    place.server.answers.append(answer)
    begun = asyncio.Event()

    def listener(_: object) -> bool:
        begun.set()
        return False

    task = asyncio.create_task(place.model().complete(request(), context=context(), on_delta=listener))
    await (place.server.asked if answer.wait else begun).wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await place.server.client_left.wait()


async def test_enough_closes_the_connection_when_no_end_comes(place: Providers) -> None:
    items = [chunk({"content": "enough"}), chunk({"content": " and more"})]
    place.server.answers.append(Answer(pieces=events(items, done=False), hang=True))
    model = place.model(usage_wait_s=0.05)
    answer = await model.complete(request(), context=context(), on_delta=lambda _: True)
    assert answer == LlmResponse(full_text="enough", parts=(TextOutput(text="enough"),), terminal_reason=STOP)
    await place.server.client_left.wait()


async def test_enough_gets_the_usage_when_the_end_comes_at_once(place: Providers) -> None:
    place.server.answers.append(text_stream("enough", " and more"))
    answer = await place.model(usage_wait_s=10).complete(request(), context=context(), on_delta=lambda _: True)
    assert answer == LlmResponse(
        full_text="enough", parts=(TextOutput(text="enough"),), usage=USAGE, terminal_reason=STOP
    )


async def test_one_model_answers_again_after_it_was_closed(place: Providers) -> None:
    place.server.answers += [text_stream("one"), text_stream("two")]
    model = place.model()
    assert (await model.complete(request(), context=context())).full_text == "one"
    await model.aclose()
    assert (await model.complete(request(), context=context())).full_text == "two"


# -- names -----------------------------------------------------------------------------------------------------------


async def test_keys_and_addresses(place: Providers, tmp_path: Path) -> None:
    """By name: an address of its own needs no key; one in the environment goes to loopback."""
    cases = [
        (f"openai:m@{place.server.url}", {}, "Bearer none"),
        (f"openai:m@{place.server.url}", {"OPENAI_API_KEY": "k"}, "Bearer k"),
        ("openai:m", {"OPENAI_BASE_URL": place.server.url}, "Bearer none"),
        ("openai:m", {"OPENAI_BASE_URL": place.server.url, "OPENAI_API_KEY": "k"}, "Bearer k"),
    ]
    for name, env, expected in cases:
        place.server.answers.append(text_stream("ok"))
        model = open_model(name, base_dir=tmp_path, env=env)
        assert model.name == name
        assert (await model.complete(request(), context=context())).full_text == "ok"
        await model.aclose()
        assert place.server.headers[-1]["authorization"] == expected
        assert place.server.headers[-1]["request-line"] == "POST /v1/chat/completions HTTP/1.1"


def test_a_key_does_not_go_over_plain_http_to_a_host_in_a_name(tmp_path: Path) -> None:
    model = open_model("openai:m@http://models.example/v1", base_dir=tmp_path, env={"OPENAI_API_KEY": "sk-1"})
    assert "sk-1" not in json.dumps({name: str(value) for name, value in vars(model).items()})


async def test_certificates_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    model = OpenAIModel("m", base_url="https://models.example/v1")
    with pytest.raises(ModelCallError):
        await model.complete(request(), context=context())
    await model.aclose()
