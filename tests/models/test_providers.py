"""The adapter of real providers, in each of its three dialects, over real HTTP on loopback."""

from __future__ import annotations

import asyncio

import pytest

from lash_nb.machine.llm import (
    LlmResponse,
    LlmTerminalReason,
    LlmUsage,
    TextOutput,
    ToolCallOutputPart,
)
from lash_nb.models import ModelTraits
from lash_nb.models.providers import ProviderModel

from .cases import TOOL_ANSWER, Listener, context, request, streamed
from .contract import PLAIN, TEXT, ModelContract
from .http_server import Answer
from .place import Place
from .wires import Wire

STOP, PROVIDER_ERROR = LlmTerminalReason.STOP, LlmTerminalReason.PROVIDER_ERROR
USAGE = LlmUsage(
    input_tokens=70,
    output_tokens=70,
    cache_read_input_tokens=40,
    cache_write_input_tokens=0,
    reasoning_output_tokens=30,
)


class TestContract(ModelContract):
    """On the loopback servers of conftest.py."""

    async def test_a_tool_call_that_was_stopped_midway_is_left_out(self, place: Place) -> None:  # type: ignore[override]
        if place.wire.word != "google":
            await super().test_a_tool_call_that_was_stopped_midway_is_left_out(place)
            return
        model = await place.open([TOOL_ANSWER])  # a call comes whole there, so it is never stopped midway
        seen = Listener()
        answer = await model.complete(
            request(), context=context(), on_delta=lambda delta: seen(delta) or "{" in streamed(seen.deltas)["tool"]
        )
        assert streamed(seen.deltas)["tool"] == '{"path": "a.csv"}'
        assert answer.parts[-1:] == TOOL_ANSWER.parts[-1:]


# -- answers ---------------------------------------------------------------------------------------------------------


async def test_a_plain_answer(place: Place) -> None:
    answer = await place.complete(place.text("12 rows."))
    assert answer == LlmResponse(
        full_text="12 rows.", parts=(TextOutput(text="12 rows."),), usage=USAGE, terminal_reason=STOP
    )


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"], ids=["lf", "crlf"])
async def test_pieces_of_any_size(place: Place, size: int, newline: bytes) -> None:
    """Cut within characters, within JSON and between the signs of a line's end."""
    whole = b"".join(place.wire.answer(PLAIN).pieces).replace(b"\n", newline)
    place.server.answers.append(Answer(pieces=[whole[at : at + size] for at in range(0, len(whole), size)]))
    listener = Listener()
    answer = await place.model().complete(request(), context=context(), on_delta=listener)
    assert answer.full_text == TEXT
    assert streamed(listener.deltas)["text"] == TEXT


async def test_two_calls_of_tools_at_once(place: Place) -> None:
    listener = Listener()
    place.server.answers.append(place.wire.two_calls())
    answer = await place.model().complete(request(), context=context(), on_delta=listener)
    calls = [(p.call_id, p.tool_name, p.input_json) for p in answer.parts if isinstance(p, ToolCallOutputPart)]
    assert calls == [("t1", "read", '{"a": 1}'), ("t2", "write", '{"b": 2}')]
    assert answer.terminal_reason is LlmTerminalReason.TOOL_USE
    assert answer.full_text == ""
    assert {getattr(delta, "call_id", None) for delta in listener.deltas} == {"t1", "t2"}


ENDINGS = {
    "openai": [
        ("stop", LlmTerminalReason.STOP, None),
        ("length", LlmTerminalReason.OUTPUT_LIMIT, None),
        ("content_filter", LlmTerminalReason.CONTENT_FILTER, "content_filter"),
        ("eos", LlmTerminalReason.UNKNOWN, "eos"),
    ],
    "anthropic": [
        ("end_turn", LlmTerminalReason.STOP, None),
        ("stop_sequence", LlmTerminalReason.STOP, None),
        ("max_tokens", LlmTerminalReason.OUTPUT_LIMIT, None),
        ("refusal", LlmTerminalReason.CONTENT_FILTER, "refusal"),
        ("model_context_window_exceeded", LlmTerminalReason.CONTEXT_OVERFLOW, "model_context_window_exceeded"),
        ("pause_turn", LlmTerminalReason.UNKNOWN, "pause_turn"),
    ],
    "google": [
        ("STOP", LlmTerminalReason.STOP, None),
        ("MAX_TOKENS", LlmTerminalReason.OUTPUT_LIMIT, None),
        ("SAFETY", LlmTerminalReason.CONTENT_FILTER, "SAFETY"),
        ("RECITATION", LlmTerminalReason.CONTENT_FILTER, "RECITATION"),
        ("MALFORMED_FUNCTION_CALL", LlmTerminalReason.UNKNOWN, "MALFORMED_FUNCTION_CALL"),
    ],
}


async def test_why_it_ended(place: Place) -> None:
    for reason, expected, diagnostic in ENDINGS[place.wire.word]:
        answer = await place.complete(place.wire.ended("a", reason))
        assert (reason, answer.terminal_reason, answer.terminal_diagnostic) == (reason, expected, diagnostic)
        assert answer.full_text == "a"


# -- stopping --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("begun", [False, True], ids=["first byte", "middle"])
async def test_cancelling_closes_the_connection(place: Place, begun: bool) -> None:
    place.server.answers.append(Answer(pieces=place.wire.half(), hang=True) if begun else Answer(wait=True))
    streaming = asyncio.Event()

    def listener(_: object) -> bool:
        streaming.set()
        return False

    task = asyncio.create_task(place.model().complete(request(), context=context(), on_delta=listener))
    await (streaming if begun else place.server.asked).wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await place.server.client_left.wait()


async def test_what_on_delta_raises_closes_the_connection(place: Place) -> None:
    class Odd(Exception):
        pass

    def listener(_: object) -> bool:
        raise Odd

    place.server.answers.append(Answer(pieces=place.wire.half(), hang=True))
    with pytest.raises(Odd):
        await place.model().complete(request(), context=context(), on_delta=listener)
    await place.server.client_left.wait()


async def test_enough_closes_the_connection_when_no_end_comes(place: Place) -> None:
    place.server.answers.append(Answer(pieces=place.wire.half("enough"), hang=True))
    model = place.model(usage_wait_s=0.05)
    answer = await model.complete(request(), context=context(), on_delta=lambda _: True)
    assert (answer.full_text, answer.terminal_reason) == ("enough", STOP)
    assert answer.parts == (TextOutput(text="enough"),)
    await place.server.client_left.wait()


async def test_enough_gets_the_usage_when_the_end_comes_at_once(place: Place) -> None:
    place.server.answers.append(place.text("enough and more"))
    answer = await place.model(usage_wait_s=10).complete(request(), context=context(), on_delta=lambda _: True)
    assert answer == LlmResponse(full_text="eno", parts=(TextOutput(text="eno"),), usage=USAGE, terminal_reason=STOP)


async def test_calls_may_overlap(place: Place) -> None:
    place.server.answers += [place.text("same")] * 3
    model = place.model()
    answers = await asyncio.gather(*(model.complete(request(), context=context()) for _ in range(3)))
    assert [answer.full_text for answer in answers] == ["same"] * 3


# -- traits ----------------------------------------------------------------------------------------------------------


def test_traits(wire: Wire) -> None:
    wanted = ModelTraits(protocol="code", vision=False, priced_as=f"{wire.word}/m")
    assert ProviderModel(wire.word, "m").traits(session="1", turn=1) == wanted
    assert ProviderModel(wire.word, "m", vision=True).traits(session="1", turn=1).vision
