"""What a call cost: the server's last word, in each of the three dialects, whatever its form."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest

from lash_nb.machine.llm import LLM_RESPONSE, LlmUsage
from lash_nb.models._usage import Tally

from .anthropic_server import AnthropicWire, block, event, opening, stopped
from .cases import context, request
from .google_server import GoogleWire
from .http_server import Answer, ModelServer, sse
from .openai_server import OpenAIWire, chunk, events
from .place import Place
from .wires import Wire

MOST = 2**63 - 1


def tally(*reports: object, name: str = "usage") -> LlmUsage:
    """What a stream of these reports comes to."""
    found = Tally()
    for report in reports:
        assert b"usage" not in found.without(sse({name: report, "id": "x"}))
    return found.total()


@pytest.mark.parametrize(
    ("name", "report", "wanted"),
    [
        ("usage", {"prompt_tokens": 5, "completion_tokens": 3}, LlmUsage(input_tokens=5, output_tokens=3)),
        (
            "usage",
            {"prompt_tokens": 9, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}},
            LlmUsage(input_tokens=5, output_tokens=3, cache_read_input_tokens=4),
        ),
        (
            "usage",
            {"prompt_tokens": 9, "prompt_cache_hit_tokens": 4, "prompt_tokens_details": None},
            LlmUsage(input_tokens=5, cache_read_input_tokens=4),
        ),
        (
            "usage",
            {"completion_tokens": 9, "completion_tokens_details": {"reasoning_tokens": 8}},
            LlmUsage(output_tokens=9, reasoning_output_tokens=8),
        ),
        (
            "usage",
            {"input_tokens": 5, "cache_read_input_tokens": 6, "cache_creation_input_tokens": 7, "output_tokens": 3},
            LlmUsage(input_tokens=5, output_tokens=3, cache_read_input_tokens=6, cache_write_input_tokens=7),
        ),
        (
            "usageMetadata",
            {"promptTokenCount": 9, "toolUsePromptTokenCount": 2, "cachedContentTokenCount": 4},
            LlmUsage(input_tokens=7, cache_read_input_tokens=4),
        ),
        (
            "usageMetadata",
            {"candidatesTokenCount": 2, "thoughtsTokenCount": 3},
            LlmUsage(output_tokens=5, reasoning_output_tokens=3),
        ),
    ],
)
def test_a_report(name: str, report: object, wanted: LlmUsage) -> None:
    assert tally(report, name=name) == wanted


@pytest.mark.parametrize(
    ("odd", "wanted"),
    [
        (7, 7),
        ("7", 7),
        (1.5, 1),
        (MOST, MOST),
        (MOST + 1, 0),
        (10**30, 0),
        (-1, 0),
        (None, 0),
        (True, 0),
        ([], 0),
        ({}, 0),
        ("many", 0),
        ("٣", 0),
        ("9" * 5000, 0),
        (float("inf"), 0),
        (float("nan"), 0),
    ],
)
def test_a_number_that_is_odd(odd: object, wanted: int) -> None:
    assert tally({"prompt_tokens": odd}) == LlmUsage(input_tokens=wanted)


@pytest.mark.parametrize("odd", [[], 7, "x", True, [[]]])
def test_a_report_that_is_odd(odd: object) -> None:
    assert tally({"prompt_tokens": 5}, odd) == LlmUsage(input_tokens=5)


def test_the_last_word_counts() -> None:
    reports = [{"prompt_tokens": 1000, "completion_tokens": count} for count in (1, 2, 20)]
    assert tally(*reports) == LlmUsage(input_tokens=1000, output_tokens=20)
    assert tally(*reports, {"prompt_tokens": 0, "completion_tokens": None}) == LlmUsage(
        input_tokens=1000, output_tokens=20
    )


def test_sums_are_bounded() -> None:
    wanted = LlmUsage(output_tokens=MOST, reasoning_output_tokens=MOST)
    assert tally({"candidatesTokenCount": MOST, "thoughtsTokenCount": MOST}, name="usageMetadata") == wanted


@pytest.mark.parametrize(
    "line",
    [
        b'data: {"text": "the \\"usage\\": 7"}\n',
        b'data: {"usage": null}\n',
        b'data: {"usage": 7\n',
        b'data: {"usage": ' + b"[" * 100_000 + b"\n",
        b'event: "usage": 7\n',
        b"data: \xff\n",
    ],
)
def test_other_lines_stay_as_they_are(line: bytes) -> None:
    found = Tally()
    assert found.without(line) == line
    assert found.total() == LlmUsage()


# -- over HTTP -------------------------------------------------------------------------------------------------------


def cumulative(word: str) -> Answer:
    """An answer that tells with each event what it has cost so far: at the end 100 in and 7 out."""
    counts = (1, 2, 7)
    match word:
        case "openai":
            usage = [
                {"prompt_tokens": 100, "completion_tokens": count, "total_tokens": 100 + count} for count in counts
            ]
            items: list[dict[str, Any]] = [{**chunk({"content": "w"}), "usage": report} for report in usage]
            return Answer(pieces=events([*items, {**chunk({}, "stop"), "usage": usage[-1]}]))
        case "google":
            pieces = []
            for count in counts:
                candidate: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": [{"text": "w"}]}}
                if count == 7:
                    candidate["finishReason"] = "STOP"
                report = {"promptTokenCount": 100, "candidatesTokenCount": count, "totalTokenCount": 100 + count}
                pieces.append(sse({"candidates": [candidate], "usageMetadata": report}))
            return Answer(pieces=pieces)
    begun = [item.replace(b"70", b"100").replace(b"40", b"0") for item in opening()]
    text = block(0, {"type": "text", "text": ""}, [{"type": "text_delta", "text": "www"}])
    said = [
        event(
            "message_delta",
            delta={"stop_reason": "end_turn", "stop_sequence": None},
            usage={"input_tokens": 100, "output_tokens": count},
        )
        for count in counts
    ]
    return Answer(pieces=[*begun, *text, stopped(0), *said, event("message_stop")])


async def test_a_server_that_reports_with_each_event(place: Place) -> None:
    answer = await place.complete(cumulative(place.wire.word))
    assert (answer.full_text, answer.usage) == ("www", LlmUsage(input_tokens=100, output_tokens=7))


async def test_what_had_been_told_when_an_answer_broke_off(place: Place) -> None:
    whole = cumulative(place.wire.word).pieces
    failure = await place.failure(Answer(pieces=whole[:2], cut=True))
    if place.wire.word == "anthropic":  # only the beginning of the message has come
        assert failure.partial_response is None
        return
    assert failure.partial_response is not None
    assert failure.partial_response.usage == LlmUsage(input_tokens=100, output_tokens=2)


@pytest.mark.parametrize("odd", ['"many"', "null", "-1", "[]", "{}", "1.5", "1e99", "1" + "0" * 30, "true"])
async def test_an_odd_number_does_not_throw_an_answer_away(place: Place, odd: str) -> None:
    whole = b"".join(place.text("ok").pieces)
    for number in (b"110", b"70", b"40", b"30"):
        whole = whole.replace(b": " + number, b": " + odd.encode())
    await answers_without_a_word(place, whole)


@pytest.mark.parametrize("odd", ["[]", "7", '"x"', "[null]", "-1.5"])
async def test_an_odd_report_does_not_throw_an_answer_away(place: Place, odd: str) -> None:
    items = []
    for piece in place.text("ok").pieces:
        for line in piece.splitlines(keepends=True):
            if not line.startswith(b"data: {"):
                items.append(line)
                continue
            told = json.loads(line[6:])
            for holder in (told, told.get("message", {})):
                for name in ("usage", "usageMetadata"):
                    if name in holder:
                        holder[name] = json.loads(odd)
            items.append(b"data: " + json.dumps(told).encode() + b"\n")
    await answers_without_a_word(place, b"".join(items))


async def answers_without_a_word(place: Place, whole: bytes) -> None:
    """The answer is kept, and nothing foreign is printed."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        answer = await place.complete(Answer(pieces=[whole]))
    assert answer.full_text == "ok"
    assert LLM_RESPONSE.decode(LLM_RESPONSE.encode(answer)) == answer
    assert [str(item.message) for item in told if issubclass(item.category, UserWarning)] == []


@pytest.mark.parametrize("wire", [OpenAIWire(), AnthropicWire(), GoogleWire()], ids=lambda wire: wire.word)
async def test_lines_that_end_in_carriage_returns_only_are_passed_on_at_once(wire: Wire) -> None:
    async with ModelServer() as server:
        place = Place(server, wire)
        pieces = [piece.replace(b"\n", b"\r") for piece in wire.half("now")]
        server.answers.append(Answer(pieces=pieces, hang=True))
        model = place.model(usage_wait_s=0.05)
        if wire.word != "google":  # its client knows no such lines
            answer = await model.complete(request(), context=context(), on_delta=lambda _: True)
            assert answer.full_text == "now"
        await model.aclose()
