"""What a failed call says: words for people, bounded, without keys or signs that a terminal obeys."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import httpx2
import pytest

from lash_nb.errors import ModelCallError
from lash_nb.machine.llm import (
    LLM_CALL_ERROR,
    LLM_RESPONSE,
    LlmCallError,
    LlmTerminalReason,
    ProviderFailureKind,
    ToolCallOutputPart,
)
from lash_nb.models import Opening
from lash_nb.models._dialects import Line
from lash_nb.models._failures import Verdict, chain, gist, printable, reason_of, verdict_of
from lash_nb.models._names import Endpoint
from lash_nb.models.providers import ProviderModel

from .cases import Listener, context, request
from .http_server import Answer, refused, sse
from .place import Place
from .wires import Wire

KEY = "sk-secret-0123456789"


def whole(failure: LlmCallError) -> str:
    """All texts of a failure; they can be stored and sent."""
    assert LLM_CALL_ERROR.decode(LLM_CALL_ERROR.encode(failure)) == failure
    text = "\n".join([failure.message, failure.raw or "", failure.code or ""])
    assert text.encode().decode() == text
    return text


# -- signs -----------------------------------------------------------------------------------------------------------


async def test_halves_of_a_character_in_a_refusal(place: Place) -> None:
    failure = await place.failure(place.wire.refusal(400, "so \ud83d no", code="bad\udc00code"))
    assert "so \ufffd no" in failure.message
    whole(failure)
    failure = await place.failure(refused(400, '"plain \\ud800"'))
    assert "plain \ufffd" in whole(failure)


async def test_halves_of_a_character_within_a_stream(place: Place) -> None:
    event = place.wire.broken("so HIGH no", code="LOW").replace(b"HIGH", rb"\ud83d").replace(b"LOW", rb"bad\udc00")
    failure = await place.failure(Answer(pieces=[event]))
    assert "so \ufffd no" in failure.message
    whole(failure)


async def test_halves_of_a_character_in_why_an_answer_ended(place: Place) -> None:
    ended = b"".join(place.wire.ended("a", "ODD").pieces).replace(b'"ODD"', rb'"o\ud800dd"')
    if place.wire.word == "google":  # its client knows which reasons there are
        whole(await place.failure(Answer(pieces=[ended])))
        return
    answer = await place.complete(Answer(pieces=[ended]))
    assert (answer.full_text, answer.terminal_reason) == ("a", LlmTerminalReason.UNKNOWN)
    assert answer.terminal_diagnostic == "o\ufffddd"


async def test_halves_of_a_character_in_a_call_of_a_tool(place: Place) -> None:
    calls = b"".join(place.wire.two_calls().pieces).replace(b'"t1"', rb'"t\ud8001"').replace(b'"read"', rb'"r\udc00"')
    listener = Listener()
    place.server.answers.append(Answer(pieces=[calls]))
    answer = await place.model().complete(request(), context=context(), on_delta=listener)
    first = answer.parts[0]
    assert isinstance(first, ToolCallOutputPart)
    assert (first.call_id, first.tool_name, first.input_json) == ("t\ufffd1", "r\ufffd", '{"a": 1}')
    assert LLM_RESPONSE.decode(LLM_RESPONSE.encode(answer)) == answer
    assert {getattr(delta, "call_id", "") for delta in listener.deltas} == {"t\ufffd1", "t2"}


async def test_signs_that_a_terminal_obeys(place: Place) -> None:
    failure = await place.failure(place.wire.refusal(400, "\x1b[2Jgone\x07\r\nback\u202ewards\u2028"))
    assert "\ufffd[2Jgone\ufffd  back\ufffdwards" in failure.message
    assert all(sign.isprintable() for sign in failure.message + (failure.raw or ""))


def test_printable() -> None:
    assert printable(" a\tb\n", 10) == "a b"
    assert printable("Grüße 🎈", 10) == "Grüße 🎈"
    assert printable("0123456789", 10) == "0123456789"
    assert printable("0123456789a", 10) == "012345678…"


# -- length ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 401, 404, 502])
async def test_a_message_is_bounded(place: Place, status: int) -> None:
    error = {"error": {"message": "word " * 5000, "code": "c" * 5000}}
    failure = await place.failure(refused(status, error), name="m" * 200)
    assert len(failure.message) <= 500
    assert len(failure.raw or "") <= 2000
    assert len(failure.code or "") <= 250


async def test_a_long_error_within_a_stream_is_bounded(place: Place) -> None:
    failure = await place.failure(Answer(pieces=[place.wire.broken("word " * 50_000, code="c" * 5000)]))
    assert len(failure.message) <= 500
    assert len(failure.code or "") <= 250


async def test_a_refusal_is_not_read_to_its_end(place: Place) -> None:
    """Of one that never ends the beginning is told."""
    for pieces in ([b"<html><title>Busy</title>"], [b"<html><title>Busy</title>", *[b"x" * 10_000] * 20]):
        place.server.client_left.clear()
        answer = Answer(pieces=pieces, status=502, headers={"content-type": "text/html"}, hang=True)
        failure = await place.failure(answer, stall_s=1.0)
        assert (failure.kind, failure.retryable) == (ProviderFailureKind.HTTP, True)
        assert failure.message.endswith("the provider answered 502: Busy")
        await place.server.client_left.wait()


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("<html>" + "<title>" * 100_000, "a page without words"),
        ("<html>" + "<script>" * 100_000, "a page without words"),
        ("<html>" + "<title " * 100_000, "<title <title"),
        ("<html>" + "<" * 1_000_000, "<<<<"),
        ("<html><style>x</style >Now<script>let a</script> then", "Now then"),
        ("<html><body>" + "<p>word</p>" * 100_000, "word word"),
    ],
)
def test_a_page_is_read_once(page: str, told: str) -> None:
    """None of these would come to an end if each beginning were followed up."""
    assert gist(page).startswith(told)


# -- answers that are no stream --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "retryable"),
    [
        ({"message": "busy", "code": "rate_limit_exceeded"}, ProviderFailureKind.QUOTA, True),
        ({"message": "busy", "type": "overloaded_error"}, ProviderFailureKind.HTTP, True),
        ({"message": "busy", "status": "UNAVAILABLE", "code": 503}, ProviderFailureKind.HTTP, True),
        ({"message": "busy", "code": 429}, ProviderFailureKind.QUOTA, True),
        ({"message": "busy", "type": "insufficient_quota"}, ProviderFailureKind.QUOTA, False),
        ({"message": "busy", "code": "invalid_api_key"}, ProviderFailureKind.AUTH, False),
        ({"message": "busy", "type": "x"}, ProviderFailureKind.STREAM, False),
        ({"message": "busy", "code": [], "type": {}}, ProviderFailureKind.STREAM, False),
    ],
)
async def test_an_error_with_a_status_of_success(
    place: Place, error: dict[str, object], kind: ProviderFailureKind, retryable: bool
) -> None:
    failure = await place.failure(refused(200, {"error": error}))
    assert (failure.kind, failure.retryable) == (kind, retryable)
    assert ": the server answered with an error: busy" in failure.message
    failure = await place.failure(refused(200, [{"error": error}]))
    assert (failure.kind, failure.retryable) == (kind, retryable)
    assert len(place.server.requests) == 2


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (
            "<html><head><title>Log in</title></head></html>",
            "the server answered with a page and not as a model (Log in); is the address right?",
        ),
        ('{"hello": "world"}', '({"hello": "world"})'),
        ("[]", "(nothing)"),
        ('"busy"', "(busy)"),
        ('{"choices": [{"message": {"content": "hi"}}]}', "the server does not stream: it sent a whole answer at once"),
        ('{"candidates": [{"content": {}}]}', "the server does not stream: it sent a whole answer at once"),
        ('{"type": "message", "content": []}', "the server does not stream: it sent a whole answer at once"),
    ],
)
async def test_an_answer_that_is_no_stream(place: Place, body: str, told: str) -> None:
    failure = await place.failure(refused(200, body))
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.STREAM, False)
    assert told in failure.message
    assert failure.partial_response is None


async def test_a_page_without_an_end(place: Place) -> None:
    pieces = [b" \n", b"<html><title>Log in</title>"]
    answer = Answer(pieces=pieces, headers={"content-type": "text/html"}, hang=True)
    failure = await place.failure(answer, stall_s=1.0)
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.STREAM, False)
    assert "(Log in)" in failure.message
    await place.server.client_left.wait()


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "text/event-stream; charset=utf-8"])
async def test_a_stream_under_another_name(place: Place, kind: str) -> None:
    pieces = [b"\n", *place.text("12 rows.").pieces]
    answer = await place.complete(Answer(pieces=pieces, headers={"content-type": kind}))
    assert answer.full_text == "12 rows."


# -- keys ------------------------------------------------------------------------------------------------------------


async def quoting(place: Place) -> AsyncIterator[ModelCallError]:
    """Failures of servers that quote the key."""
    for answer in (
        place.wire.refusal(401, f"bad key {KEY}", headers={"x-echo": KEY}),
        refused(500, f"<html><p>{KEY.replace('-', '&#45;')}</p></html>"),
        refused(200, {"error": {"message": KEY}}),
        Answer(pieces=[*place.wire.half(), place.wire.broken(f"bad key {KEY}", code=KEY)]),
        Answer(pieces=[*place.wire.half(), sse(f"odd {KEY}")]),
    ):
        yield await place.refused(answer, api_key=KEY)


async def test_a_key_is_nowhere_in_what_is_raised(place: Place) -> None:
    async for error in quoting(place):
        assert [*chain(error)] == [error]
        assert KEY not in repr(error) + str(error) + repr(error.error)


async def test_a_short_key_is_a_part_of_words(place: Place) -> None:
    failure = await place.failure(place.wire.refusal(400, "look here"), api_key="k")
    assert "look here" in failure.message


def test_a_key_is_in_no_repr() -> None:
    assert KEY not in repr(Endpoint(model="m", url=None, key=KEY))
    assert KEY not in repr(Opening(argument="m", base_dir=Path("."), strict=False, env={"OPENAI_API_KEY": KEY}))
    assert "key" not in {name for name, field in Line.__dataclass_fields__.items() if field.repr}


# -- no connection ---------------------------------------------------------------------------------------------------


def caused(*causes: BaseException) -> BaseException:
    """The first one, caused by the second, and so on."""
    for above, below in pairwise(causes):
        above.__cause__ = below
    return causes[0]


@pytest.mark.parametrize(
    ("causes", "told"),
    [
        ([socket.gaierror(-2, "Name or service not known")], "its name was not found: Name or service not known"),
        ([OSError("all failed"), ConnectionRefusedError(111, "x")], "the connection was refused"),
        ([ExceptionGroup("several", [ConnectionRefusedError(111, "x")])], "the connection was refused"),
        ([ConnectionResetError(104, "Connection reset by peer")], "the connection broke"),
        ([OSError(101, "Network is unreachable")], "Network is unreachable"),
        ([ssl.SSLError(1, "odd")], "TLS failed: "),
        ([ValueError("odd"), ValueError()], "odd"),
        ([ValueError()], "RuntimeError"),
    ],
)
def test_the_innermost_cause_is_told(causes: list[BaseException], told: str) -> None:
    words = "" if told == "RuntimeError" else "Connection error."
    error = caused(RuntimeError(words), *causes)
    if told == "RuntimeError":
        assert reason_of(error) == told
    else:
        assert reason_of(error).startswith(told)


def test_a_clients_own_timeout_is_a_timeout() -> None:
    """It runs beside the call's own, and either may be the first."""
    error = caused(RuntimeError("odd"), httpx2.ReadTimeout(""))
    for status in (None, 200):
        assert verdict_of(error, status=status, sent_bytes=10) == Verdict(ProviderFailureKind.TIMEOUT, True)


def test_causes_that_go_in_a_circle() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert reason_of(first) in ("a", "b")


@asynccontextmanager
async def rude(answer: Callable[[asyncio.StreamWriter], None]) -> AsyncIterator[list[int]]:
    """A server that answers a head at once and closes, without reading the body; the port, then one 1 a request."""
    hits: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hits.append(1)
        try:
            await reader.read(10)
            answer(writer)
            writer.close()
        except ConnectionError:
            pass

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    hits.append(server.sockets[0].getsockname()[1])
    yield hits
    server.close()


async def asked(wire: Wire, url: str, size: int) -> LlmCallError:
    model = ProviderModel(wire.word, "m", base_url=url)
    with pytest.raises(ModelCallError) as caught:
        await model.complete(request("x" * size), context=context())
    await model.aclose()
    return caught.value.error


async def test_a_large_request_that_broke_on_the_way_is_not_sent_again(wire: Wire) -> None:
    async with rude(lambda writer: writer.transport.abort()) as hits:
        url = f"http://127.0.0.1:{hits[0]}"
        small = await asked(wire, url, 10)
        large = await asked(wire, url, 5_000_000)
    assert (small.kind, small.retryable) == (ProviderFailureKind.TRANSPORT, True)
    assert (large.kind, large.retryable) == (ProviderFailureKind.TRANSPORT, False)
    assert "closed the connection while a request of 5.0 MB was sent" in large.message
    assert len(hits) == 3


async def test_a_large_request_that_is_refused_before_it_is_read_is_not_sent_again(wire: Wire) -> None:
    head = b"HTTP/1.1 413 x\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
    async with rude(lambda writer: writer.write(head)) as hits:
        failure = await asked(wire, f"http://127.0.0.1:{hits[0]}", 5_000_000)
    assert not failure.retryable
    assert len(hits) == 2


async def test_a_large_request_to_nobody_may_be_tried_again(wire: Wire) -> None:
    async with rude(lambda writer: None) as hits:
        pass
    failure = await asked(wire, f"http://127.0.0.1:{hits[0]}", 5_000_000)
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.TRANSPORT, True)


async def test_a_server_without_tls(wire: Wire) -> None:
    async with rude(lambda writer: writer.write(b"hello, this is no TLS at all\r\n")) as hits:
        failure = await asked(wire, f"https://127.0.0.1:{hits[0]}", 10)
    assert (failure.kind, failure.retryable) == (ProviderFailureKind.TRANSPORT, True)
    assert "the server cannot be reached (TLS failed: " in failure.message
