"""What a provider refuses and what breaks on the way, in each of the three dialects: typed, said, and tried once."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from lash_nb.errors import ModelCallError
from lash_nb.machine.llm import LLM_CALL_ERROR, LLM_RESPONSE, LlmTerminalReason, ProviderFailureKind
from lash_nb.models.providers import ProviderModel

from .cases import TOOL_ANSWER, Listener, context, request, streamed
from .http_server import Answer, ModelServer, refused
from .place import Place
from .wires import Wire

PROVIDER_ERROR = LlmTerminalReason.PROVIDER_ERROR


# -- refusals --------------------------------------------------------------------------------------------------------


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
    place: Place, status: int, kind: ProviderFailureKind, retryable: bool
) -> None:
    code = "" if place.wire.word == "anthropic" and status in (408, 422, 503) else None
    failure = await place.failure(place.wire.refusal(status, "because", code=code), place.text("second try"))
    assert (failure.kind, failure.retryable) == (kind, retryable)
    assert failure.terminal_reason is PROVIDER_ERROR
    assert failure.message.startswith(f"{place.wire.word}:m@{place.url}: the provider answered {status}: because")
    assert failure.code
    assert len(place.server.requests) == 1


async def test_a_model_that_is_not_there(place: Place) -> None:
    failure = await place.failure(place.wire.refusal(404, "not found"))
    assert failure.message.endswith(f"not found (there is no model 'm' at {place.url})")


async def test_a_request_that_is_too_large(place: Place) -> None:
    failure = await place.failure(place.wire.refusal(413, "too large"))
    assert failure.terminal_reason is LlmTerminalReason.CONTEXT_OVERFLOW
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.VALIDATION, False)


OVERFLOWS = {
    "openai": ("too long", "context_length_exceeded"),
    "anthropic": ("prompt is too long: 210000 tokens > 200000 maximum", None),
    "google": ("The input token count (9) exceeds the maximum number of tokens allowed (8).", None),
}


async def test_a_context_that_is_too_long(place: Place) -> None:
    message, code = OVERFLOWS[place.wire.word]
    failure = await place.failure(place.wire.refusal(400, message, code=code))
    assert failure.terminal_reason is LlmTerminalReason.CONTEXT_OVERFLOW
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.VALIDATION, False)


@pytest.mark.parametrize(
    ("headers", "low", "high"),
    [
        ({}, None, None),
        ({"retry-after": "17"}, 17, 17),
        ({"retry-after": "0.25"}, 0.25, 0.25),
        ({"retry-after-ms": "250"}, 0.25, 0.25),
        ({"retry-after": "soon"}, None, None),
        ({"retry-after": "nan"}, None, None),
        ({"retry-after": "-1"}, None, None),
        ({"retry-after": timedelta(hours=1)}, 3000, 3600),
        ({"retry-after": timedelta(hours=-1)}, 0, 0),
    ],
)
async def test_how_long_to_wait(
    place: Place, headers: dict[str, str | timedelta], low: float | None, high: float | None
) -> None:
    """A time from now is from when the test runs, which may be long after it was collected."""
    now = datetime.now(UTC)
    said = {
        name: value if isinstance(value, str) else format_datetime(now + value, usegmt=True)
        for name, value in headers.items()
    }
    for status in (429, 529):
        wait = (await place.refused(place.wire.refusal(status, "busy", headers=said))).retry_after_s
        if low is None or high is None:
            assert wait is None
        else:
            assert wait is not None
            assert low <= wait <= high


async def test_a_provider_that_says_not_to_try_again(place: Place) -> None:
    failure = await place.failure(place.wire.refusal(429, "no", headers={"x-should-retry": "false"}))
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.QUOTA, False)


PAGE = (
    "<!DOCTYPE html>\n<html><head><style>x{}</style><title>502 Bad &amp; Gateway</title></head><body>long</body></html>"
)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (PAGE, "502 Bad & Gateway"),
        ("<html><body><script>let x = 1</script><p>Please <b>log in</b></p></body></html>", "Please log in"),
        ("upstream connect error", "upstream connect error"),
        ("", "without a reason"),
        ("[]", "without a reason"),
        ('"busy"', "busy"),
        ('{"detail": [{"msg": "wrong"}]}', "wrong"),
        ('[{"error": {"message": "in a list"}}]', "in a list"),
        ('{"error": "plain"}', "plain"),
    ],
)
async def test_a_refusal_in_any_form(place: Place, body: str, told: str) -> None:
    failure = await place.failure(refused(502, body))
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.HTTP, True)
    assert "the provider answered 502" in failure.message
    assert "<" not in failure.message
    assert told in failure.message
    assert len(place.server.requests) == 1


async def test_another_address_is_not_followed(place: Place) -> None:
    async with ModelServer() as other:
        answer = refused(307, {}, {"location": f"{other.root}/v1/chat/completions"})
        failure = await place.failure(answer, api_key="sk-secret")
        assert other.requests == []
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.VALIDATION, False)
    assert "the provider answered 307" in failure.message
    assert "points to another address, which is not followed" in failure.message


async def test_the_key_is_not_repeated(place: Place) -> None:
    error = await place.refused(place.wire.refusal(401, "Incorrect API key: sk-secret"), api_key="sk-secret")
    assert place.wire.key(place.server.headers[0]) == "sk-secret"
    assert "Incorrect API key: [key]" in error.error.message
    assert "sk-secret" not in repr(error.error)
    assert "[key]" in (error.error.raw or "")
    assert error.__cause__ is None
    assert error.__context__ is None


# -- broken answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rest",
    [
        [],
        [b"data: [DONE]\n\n"],
        [b'data: {"choices": [{"del'],
        [b"data: \xff\xfe{\n\n"],
        [b"data: 7\n\n"],
        [b"data: nonsense\n\n"],
        [b'data: {"choices": 7, "candidates": 7, "type": "content_block_delta"}\n\n'],
        [b'data: {"choices": [{"delta": 7}], "candidates": [7], "type": "message_delta"}\n\n'],
        [b"<html>hello</html>\n\n"],
        [b"event: news\ndata: {}\n\n"],
    ],
    ids=["ended", "done", "half a line", "no utf-8", "a number", "no json", "odd", "odder", "html", "unknown event"],
)
@pytest.mark.parametrize("cut", [False, True], ids=["closed", "cut"])
async def test_an_answer_that_broke_off_is_a_failure(place: Place, rest: list[bytes], cut: bool) -> None:
    failure = await place.failure(Answer(pieces=[*place.wire.half(), *rest], cut=cut))
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.STREAM, True)
    assert failure.terminal_reason is PROVIDER_ERROR
    assert failure.partial_response is not None
    assert failure.partial_response.full_text == "half"


@pytest.mark.parametrize(
    "answer",
    [
        Answer(pieces=[b"garbage \x00\xff\n\n" * 20]),
        Answer(pieces=[b"data: nonsense\n\n"]),
        Answer(pieces=[b"data: [1, 2]\n\n"]),
        Answer(pieces=[b"data: null\n\n"]),
        Answer(pieces=[b'data: {"type": "message_start"}\n\n']),
        Answer(pieces=[b'event: message_start\ndata: {"type": "message_start", "message": {"usage": 7}}\n\n']),
        Answer(pieces=[b'data: {"candidates": [{"content": {"parts": [{"text": 7}]}}]}\n\n']),
        Answer(pieces=[b'data: {"choices": [{"index": 0, "delta": {"tool_calls": [{}]}}]}\n\n']),
        Answer(),
        Answer(cut=True),
    ],
    ids=[
        "bytes",
        "no json",
        "a list",
        "null",
        "no message",
        "odd message",
        "odd part",
        "odd call",
        "nothing",
        "cut",
    ],
)
async def test_garbage_is_a_failure(place: Place, answer: Answer) -> None:
    failure = await place.failure(answer)
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.STREAM, True)
    assert failure.partial_response is None or failure.partial_response.full_text == ""


OVERLOADS = {"openai": "server_is_overloaded", "anthropic": "overloaded_error", "google": "UNAVAILABLE"}


@pytest.mark.parametrize("begun", [False, True], ids=["at once", "midway"])
async def test_an_overload_within_a_stream(place: Place, begun: bool) -> None:
    event = place.wire.broken("busy", code=OVERLOADS[place.wire.word])
    failure = await place.failure(Answer(pieces=[*(place.wire.half() if begun else []), event]))
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.HTTP, True)
    assert failure.code == OVERLOADS[place.wire.word]
    assert "busy" in failure.message
    assert (failure.partial_response is not None) is begun
    assert len(place.server.requests) == 1


async def test_nobody_listens(wire: Wire) -> None:
    async with ModelServer() as gone:
        url = wire.address(gone.root)
    model = ProviderModel(wire.word, "m", base_url=url)
    with pytest.raises(ModelCallError) as caught:
        await model.complete(request(), context=context())
    await model.aclose()
    assert (caught.value.error.kind, caught.value.error.retryable) == (ProviderFailureKind.TRANSPORT, True)
    assert str(caught.value) == (
        f"{wire.word}:m@{url}: the server cannot be reached (the connection was refused); is it running?"
    )


@pytest.mark.parametrize("bound", [{"stall_s": 0.2}, {"timeout_s": 0.2}], ids=["stall", "whole"])
@pytest.mark.parametrize("begun", [False, True], ids=["first byte", "middle"])
async def test_silence_is_a_timeout(place: Place, bound: dict[str, float], begun: bool) -> None:
    await place.complete(place.text("the imports are not what is slow"))
    answer = Answer(pieces=place.wire.half(), hang=True) if begun else Answer(wait=True)
    failure = await place.failure(answer, **bound)
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.TIMEOUT, True)
    await place.server.client_left.wait()


async def test_a_first_byte_that_takes_its_time(place: Place) -> None:
    begin = asyncio.Event()
    whole = place.text("at last")
    place.server.answers.append(Answer(pieces=whole.pieces, begin=begin))
    task = asyncio.create_task(place.model().complete(request(), context=context()))
    await place.server.asked.wait()
    begin.set()
    assert (await task).full_text == "at last"


async def test_certificates_that_cannot_be_read(wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    model = ProviderModel(wire.word, "m", base_url="https://models.example/v1")
    with pytest.raises(ModelCallError):
        await model.complete(request(), context=context())
    await model.aclose()


async def test_a_key_is_hidden_before_a_long_refusal_is_cut(place: Place) -> None:
    key = "sk-" + "k" * 40
    for before in range(270, 300, 5):
        failure = await place.failure(refused(401, f"<html><body>{'x' * before} {key}</body></html>"), api_key=key)
        assert "kk" not in repr(failure)


# -- odd values ------------------------------------------------------------------------------------------------------

ODD = ("null", "7", '"x"', "[]", "{}", "[null]", "true", "-1", "1e400", '{"error": 7}', '{"error": [7]}')
SCALAR = re.compile(rb'(?<=: )("(?:[^"\\]|\\.)*"|\d+|null|true|false)')


@pytest.mark.parametrize("odd", ODD)
async def test_any_value_of_a_stream_may_be_odd(place: Place, odd: str) -> None:
    """What comes out is an answer that can be stored, or a failed call; each value of a whole stream in turn."""
    whole = b"".join(place.wire.answer(TOOL_ANSWER).pieces)
    model = place.model()
    for found in SCALAR.finditer(whole):
        pieces = [whole[: found.start()], odd.encode(), whole[found.end() :]]
        outcome = await place.outcome(Answer(pieces=pieces), of=model)
        if isinstance(outcome, ModelCallError):
            assert outcome.error.kind in (ProviderFailureKind.STREAM, ProviderFailureKind.HTTP)
            assert LLM_CALL_ERROR.decode(LLM_CALL_ERROR.encode(outcome.error)) == outcome.error
        else:
            assert LLM_RESPONSE.decode(LLM_RESPONSE.encode(outcome)) == outcome


@pytest.mark.parametrize("odd", [*ODD, '{"error": {"message": 7, "code": [], "type": {}, "status": 1, "details": 7}}'])
async def test_any_refusal_may_be_odd(place: Place, odd: str) -> None:
    for status, kind in (
        (400, ProviderFailureKind.VALIDATION),
        (429, ProviderFailureKind.QUOTA),
        (500, ProviderFailureKind.HTTP),
    ):
        failure = await place.failure(refused(status, odd))
        assert failure.kind is kind
        assert failure.message.startswith(f"{place.wire.word}:m@{place.url}: the provider answered {status}: ")
        assert LLM_CALL_ERROR.decode(LLM_CALL_ERROR.encode(failure)) == failure


async def test_halves_of_a_character_become_the_sign_for_none(place: Place) -> None:
    whole = b"".join(place.text("abc").pieces).replace(b'"abc"', rb'"a\ud83dc"')
    listener = Listener()
    place.server.answers.append(Answer(pieces=[whole]))
    answer = await place.model().complete(request(), context=context(), on_delta=listener)
    assert answer.full_text == "a\ufffdc"
    assert streamed(listener.deltas)["text"] == "a\ufffdc"
