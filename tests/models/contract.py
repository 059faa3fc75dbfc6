"""What every model does: one suite, run on each implementation.

A test file of an implementation subclasses ModelContract and gives it a `place` fixture: something whose `open`
makes a model that answers with the given responses, in order, and says whether it was told to stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import pytest

from lash_nb.machine.llm import (
    LlmOutputPart,
    LlmResponse,
    LlmTerminalReason,
    ReasoningOutput,
    TextOutput,
    ToolCallOutputPart,
)
from lash_nb.models import Model

from .cases import TOOL_ANSWER, Listener, context, request, streamed

__all__ = ["PLAIN", "TEXT", "ModelContract", "Place", "plain"]

TEXT = "Für Elise: ½ → done.\n```python\nprint('déjà vu 🎈')\n```\n"
PLAIN = LlmResponse(full_text=TEXT, parts=(TextOutput(text=TEXT),), terminal_reason=LlmTerminalReason.STOP)


def plain(parts: Sequence[LlmOutputPart]) -> tuple[LlmOutputPart, ...]:
    """Parts without what their provider wants back."""
    return tuple(part if isinstance(part, TextOutput) else replace(part, replay=None) for part in parts)


class Place(Protocol):
    """Where models of one implementation come from."""

    async def open(self, responses: Sequence[LlmResponse]) -> Model: ...


class ModelContract:
    """The suite."""

    async def test_answers_in_order(self, place: Place) -> None:
        model = await place.open([PLAIN, TOOL_ANSWER])
        first = await model.complete(request(), context=context(step=1))
        second = await model.complete(request(), context=context(step=2))
        assert first.full_text == TEXT
        assert first.terminal_reason is LlmTerminalReason.STOP
        assert second.terminal_reason is LlmTerminalReason.TOOL_USE

    async def test_what_streams_is_the_answer(self, place: Place) -> None:
        model = await place.open([PLAIN])
        listener = Listener()
        answer = await model.complete(request(), context=context(), on_delta=listener)
        assert len(listener.deltas) > 1
        assert streamed(listener.deltas) == {"text": TEXT, "reasoning": "", "tool": ""}
        assert answer.full_text == TEXT
        assert answer.parts == (TextOutput(text=TEXT),)

    async def test_reasoning_tool_calls_and_usage(self, place: Place) -> None:
        model = await place.open([TOOL_ANSWER])
        listener = Listener()
        answer = await model.complete(request(), context=context(), on_delta=listener)
        assert streamed(listener.deltas) == {
            "text": "I look.",
            "reasoning": "thinking",
            "tool": '{"path": "a.csv"}',
        }
        assert plain(answer.parts) == TOOL_ANSWER.parts
        assert answer.usage == TOOL_ANSWER.usage
        assert answer.full_text == "I look."

    async def test_enough_stops_the_stream(self, place: Place) -> None:
        model = await place.open([PLAIN])
        listener = Listener(lambda text: "print" in text)
        answer = await model.complete(request(), context=context(), on_delta=listener)
        came = streamed(listener.deltas)["text"]
        assert "print" in came
        assert TEXT.startswith(came)
        assert came != TEXT
        assert answer.full_text == came
        assert answer.terminal_reason is LlmTerminalReason.STOP

    async def test_a_tool_call_that_was_stopped_midway_is_left_out(self, place: Place) -> None:
        model = await place.open([TOOL_ANSWER])
        seen = Listener()
        answer = await model.complete(
            request(), context=context(), on_delta=lambda delta: seen(delta) or "{" in streamed(seen.deltas)["tool"]
        )
        assert streamed(seen.deltas)["tool"] != '{"path": "a.csv"}'
        assert [type(part) for part in answer.parts] == [ReasoningOutput, TextOutput]
        assert not any(isinstance(part, ToolCallOutputPart) for part in answer.parts)

    async def test_what_on_delta_raises_reaches_the_caller(self, place: Place) -> None:
        class Odd(Exception):
            pass

        def listener(_: object) -> bool:
            raise Odd

        model = await place.open([PLAIN])
        with pytest.raises(Odd):
            await model.complete(request(), context=context(), on_delta=listener)

    async def test_cancelling_ends_the_call(self, place: Place) -> None:
        model = await place.open([PLAIN])
        begun = asyncio.Event()

        def listener(_: object) -> bool:
            begun.set()
            task.cancel()
            return False

        task = asyncio.create_task(model.complete(request(), context=context(), on_delta=listener))
        with pytest.raises(asyncio.CancelledError):
            await task
        assert begun.is_set()

    async def test_closing_twice_is_once(self, place: Place) -> None:
        model = await place.open([PLAIN])
        await model.complete(request(), context=context())
        await model.aclose()
        await model.aclose()
        assert model.name
