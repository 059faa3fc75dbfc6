"""The local model over a scripted engine: the contract, threads and sharing, stopping, failures.

The real engine is tested by `tests/local/`, where its weights are at hand.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lash_nb.errors import ModelCallError, WeightsError
from lash_nb.machine.llm import (
    GenerationOptions,
    LlmMessage,
    LlmRequest,
    LlmRole,
    LlmTerminalReason,
    LlmUsage,
    ProviderFailureKind,
    TextBlock,
    TextOutput,
    ToolCallBlock,
    ToolResultBlock,
)
from lash_nb.models import ModelTraits, Sampling
from lash_nb.models._engine import EngineSpec, OnChunk
from lash_nb.models._llama_chat import to_body

from .cases import Listener, context, request, streamed
from .contract import ModelContract
from .scripted_engine import Place, spec, text_chunk

END = text_chunk("", finish="stop")


@pytest.fixture
async def place() -> AsyncIterator[Place]:
    place = Place()
    yield place
    await place.close()


class TestContract(ModelContract):
    @pytest.fixture
    async def place(self) -> AsyncIterator[Place]:
        place = Place()
        yield place
        await place.close()


# -- what is asked -----------------------------------------------------------------------------------------------------


def raw(text: str) -> LlmRequest:
    message = LlmMessage(role=LlmRole.ASSISTANT, blocks=(TextBlock(text=text),))
    return request(messages=(message,))


async def test_a_text_of_the_models_own_is_continued_raw(place: Place) -> None:
    model = place.model([text_chunk("len(df)"), END])
    sampling = Sampling(temperature=0.8, stop=("\n\n", "```"), seed=-1)
    answer = await model.complete(raw("# request: rows\n"), context=context(sampling=sampling))
    assert answer.full_text == "len(df)"
    [body] = place.engines[0].bodies
    assert "messages" not in body
    assert {key: body[key] for key in ("prompt", "temperature", "stop", "seed", "max_tokens", "cache_prompt")} == {
        "prompt": "# request: rows\n",
        "temperature": 0.8,
        "stop": ["\n\n", "```"],
        "seed": 4294967295,
        "max_tokens": 512,
        "cache_prompt": True,
    }


def test_a_conversation_becomes_a_chat() -> None:
    call = ToolCallBlock(call_id="c1", tool_name="read", input_json='{"path": "a"}')
    asked = request(
        messages=(
            LlmMessage(role=LlmRole.SYSTEM, blocks=(TextBlock(text="Terse."),)),
            LlmMessage(role=LlmRole.USER, blocks=(TextBlock(text="one"), TextBlock(text="two"))),
            LlmMessage(role=LlmRole.ASSISTANT, blocks=(TextBlock(text="I read."), call)),
            LlmMessage(role=LlmRole.USER, blocks=(ToolResultBlock(call_id="c1", content="7"), TextBlock(text="so?"))),
        ),
        generation=GenerationOptions(output_token_cap=9),
    )
    body = to_body(asked, Sampling(), max_tokens=512)
    assert body["max_tokens"] == 9
    assert not {"temperature", "seed", "stop", "prompt", "tools"} & set(body)
    function = {"name": "read", "arguments": '{"path": "a"}'}
    assert body["messages"] == [
        {"role": "system", "content": "Terse."},
        {"role": "user", "content": "one\n\ntwo"},
        {
            "role": "assistant",
            "content": "I read.",
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "7"},
        {"role": "user", "content": "so?"},
    ]


# -- what comes back ---------------------------------------------------------------------------------------------------


async def test_usage_of_a_stream_that_was_stopped_is_what_the_engine_counted(place: Place) -> None:
    def piece(text: str, count: int) -> dict[str, Any]:
        return {
            "choices": [{"index": 0, "text": text, "finish_reason": None}],
            "timings": {"prompt_n": 40, "cache_n": 160, "predicted_n": count, "predicted_ms": 1.5},
        }

    model = place.model([piece("a", 1), piece("b", 2), piece("c", 3), END])
    listener = Listener(lambda text: "b" in text)
    answer = await model.complete(raw("x"), context=context(), on_delta=listener)
    assert answer.full_text == "ab"
    assert answer.usage == LlmUsage(input_tokens=40, output_tokens=2, cache_read_input_tokens=160)


async def test_the_output_limit_is_told(place: Place) -> None:
    model = place.model([text_chunk("a"), text_chunk("", finish="length")])
    answer = await model.complete(request(), context=context())
    assert (answer.full_text, answer.terminal_reason) == ("a", LlmTerminalReason.OUTPUT_LIMIT)


async def test_half_characters_and_odd_chunks_are_no_harm(place: Place) -> None:
    odd: list[dict[str, Any]] = [
        {},
        {"choices": None},
        {"choices": [None, {"delta": None, "text": 5}]},
        {"usage": {"prompt_tokens": "many", "completion_tokens": True, "prompt_tokens_details": []}},
        {"timings": {"prompt_n": -3}},
    ]
    model = place.model([*odd, text_chunk("é\udce2"), text_chunk("", finish="odd")])
    listener = Listener()
    answer = await model.complete(request(), context=context(), on_delta=listener)
    assert answer.full_text == "é?"
    assert streamed(listener.deltas)["text"] == "é?"
    assert (answer.terminal_reason, answer.terminal_diagnostic) == (LlmTerminalReason.UNKNOWN, "odd")


# -- failures ----------------------------------------------------------------------------------------------------------


async def test_a_prompt_that_is_too_long_is_a_context_overflow(place: Place) -> None:
    error = {"code": 400, "type": "exceed_context_size_error", "message": "request (6001 tokens) exceeds 4096"}
    model = place.model([{"error": error}])
    with pytest.raises(ModelCallError, match="too long for this model") as caught:
        await model.complete(request(), context=context())
    assert caught.value.error.terminal_reason is LlmTerminalReason.CONTEXT_OVERFLOW
    assert caught.value.error.kind is ProviderFailureKind.VALIDATION
    assert not caught.value.error.retryable


async def test_a_refusal_is_typed(place: Place) -> None:
    model = place.model([{"error": {"type": "invalid_request_error", "message": "no\udce2"}}])
    with pytest.raises(ModelCallError, match=r"^local: no\?$") as caught:
        await model.complete(request(), context=context())
    assert (caught.value.error.kind, caught.value.error.code) == (
        ProviderFailureKind.VALIDATION,
        "invalid_request_error",
    )


async def test_a_stream_without_an_end_is_a_failure(place: Place) -> None:
    model = place.model([text_chunk("half")])
    with pytest.raises(ModelCallError, match="stopped before the answer's end") as caught:
        await model.complete(request(), context=context())
    assert caught.value.error.kind is ProviderFailureKind.STREAM
    assert caught.value.error.partial_response is not None
    assert caught.value.error.partial_response.parts == (TextOutput(text="half"),)


async def test_what_the_engine_raises_is_typed_and_the_next_call_goes_on(place: Place) -> None:
    def breaks(on_chunk: OnChunk) -> None:
        raise RuntimeError("slot 0 is gone")

    model = place.model(breaks, [text_chunk("fine"), END])
    with pytest.raises(ModelCallError, match=r"^local: slot 0 is gone$"):
        await model.complete(request(), context=context())
    assert (await model.complete(request(), context=context())).full_text == "fine"


async def test_a_file_that_is_not_the_pinned_one_is_refused_at_the_first_call(place: Place) -> None:
    def check(path: Path) -> None:
        raise WeightsError(f"{path} is damaged")

    wanted = EngineSpec(path=Path("x.gguf"), n_ctx=4096, threads=1, check=check)
    model = place.model([END], wanted=wanted)
    for _ in range(2):
        with pytest.raises(WeightsError, match=r"x\.gguf is damaged"):
            await model.complete(request(), context=context())
    assert place.engines == []


# -- threads and sharing -----------------------------------------------------------------------------------------------


async def test_sessions_share_one_engine_and_the_last_one_unloads_it(place: Place) -> None:
    first = place.model([text_chunk("1"), END], [text_chunk("2"), END], [text_chunk("3"), END])
    second = place.model()
    answers = await asyncio.gather(*(model.complete(request(), context=context()) for model in (first, second)))
    assert sorted(answer.full_text for answer in answers) == ["1", "2"]
    [engine] = place.engines
    assert len(set(engine.threads)) == 1
    assert engine.threads[0] != threading.current_thread().name
    await first.aclose()
    await first.aclose()
    assert engine.closed == 0
    assert (await second.complete(request(), context=context())).full_text == "3"
    await second.aclose()
    assert engine.closed == 1


async def test_a_closed_model_opens_again(place: Place) -> None:
    model = place.model([text_chunk("1"), END], [text_chunk("2"), END])
    await model.complete(request(), context=context())
    await model.aclose()
    place.streams = [[text_chunk("again"), END]]
    assert (await model.complete(request(), context=context())).full_text == "again"
    assert [engine.closed for engine in place.engines] == [1, 0]


async def test_other_files_have_other_engines(place: Place) -> None:
    one, other = place.model([END], [END], wanted=spec(Path("a.gguf"))), place.model(wanted=spec(Path("b.gguf")))
    await one.complete(request(), context=context())
    await other.complete(request(), context=context())
    assert [loaded.path.name for loaded in place.specs] == ["a.gguf", "b.gguf"]


async def test_a_cancelled_call_waits_until_the_engine_has_stopped(place: Place) -> None:
    begun, ended = threading.Event(), threading.Event()

    def endless(on_chunk: OnChunk) -> None:
        begun.set()
        while not on_chunk(text_chunk("x")):
            pass
        ended.set()

    model = place.model(endless, [text_chunk("next"), END])
    task = asyncio.create_task(model.complete(request(), context=context()))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()
    assert (await model.complete(request(), context=context())).full_text == "next"


async def test_a_call_that_is_cancelled_in_the_queue_is_never_made(place: Place) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slow(on_chunk: OnChunk) -> None:
        begun.set()
        go_on.wait()
        on_chunk(text_chunk("1", finish="stop"))

    model = place.model(slow, [text_chunk("never"), END])
    first = asyncio.create_task(model.complete(request(), context=context()))
    await asyncio.to_thread(begun.wait)
    second = asyncio.create_task(model.complete(request(), context=context()))
    await asyncio.sleep(0)
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    go_on.set()
    assert (await first).full_text == "1"
    assert len(place.engines[0].bodies) == 1


async def test_nothing_is_loaded_before_the_first_call(place: Place) -> None:
    model = place.model([END])
    assert (model.name, place.engines) == ("local", [])
    assert model.traits(session="1", turn=1) == ModelTraits(protocol="snippet", vision=False)
    await model.aclose()
    assert place.engines == []
