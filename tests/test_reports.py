"""What `%lash usage` and `%lash history` say."""

from __future__ import annotations

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.errors import InputError
from lash_nb.machine.llm import LlmResponse, LlmTerminalReason, LlmUsage, TextOutput
from lash_nb.models import ModelTraits
from lash_nb.reports import history_text, usage_text

from .conversations import cell

HAIKU = "anthropic/claude-haiku-4-5"
"""1 dollar a million tokens in, 0.1 from the cache, 5 out."""


def reply(text: str, **usage: int) -> LlmResponse:
    return LlmResponse(
        full_text=text,
        parts=(TextOutput(text=text),),
        usage=LlmUsage(**usage),
        terminal_reason=LlmTerminalReason.STOP,
    )


def priced(*replies: LlmResponse) -> ScriptedModel:
    return ScriptedModel(list(replies), traits=ModelTraits(priced_as=HAIKU))


FIRST = reply(cell("1 + 1"), input_tokens=100_000, output_tokens=2_000)
SECOND = reply("Two.", input_tokens=1_000, cache_read_input_tokens=100_000, output_tokens=1_000)
THIRD = reply("Yes.", input_tokens=50_000, output_tokens=200, reasoning_output_tokens=100)


async def test_the_session_its_turns_and_their_calls() -> None:
    async with Session(priced(FIRST, SECOND, THIRD), kernel=ScriptedKernel()) as session:
        assert usage_text(session) == "no turns yet"
        turn = await session.run("Add.")
        await session.run("Sure?")
        assert turn.dollars == pytest.approx(0.126)
        assert session.dollars == pytest.approx(0.177)
        assert usage_text(session).splitlines() == [
            "2 turns: 251,000 tokens in (100,000 of them cached), 3,200 out (100 of them reasoning), about $0.18 "
            f"(prices of {turn.picture.priced_as_of})",
            "  turn 1: 201,000 tokens in (100,000 of them cached), 3,000 out, about $0.13, 2 calls",
            "  turn 2: 50,000 tokens in, 200 out (100 of them reasoning), about $0.051, 1 call",
        ]
        assert usage_text(session, "1").splitlines() == [
            "turn 1, scripted: 201,000 tokens in (100,000 of them cached), 3,000 out, about $0.13 "
            f"(prices of {turn.picture.priced_as_of})",
            "  call 1: 100,000 tokens in, 2,000 out, about $0.11",
            "  call 2: 101,000 tokens in (100,000 of them cached), 1,000 out, about $0.016",
        ]
        assert turn.picture.calls[0].dollars == pytest.approx(0.11)
        assert "about $0.13" in turn.bundle()["text/plain"]
        assert turn.envelope is not None
        assert turn.envelope["dollars"] == pytest.approx(0.126)


async def test_without_a_known_price_none_is_shown() -> None:
    async with Session(ScriptedModel([FIRST, SECOND]), kernel=ScriptedKernel()) as session:
        turn = await session.run("Add.")
        assert turn.dollars is None
        assert session.dollars is None
        assert "$" not in usage_text(session) + usage_text(session, "1") + turn.bundle()["text/html"]
        assert turn.envelope is not None
        assert "dollars" not in turn.envelope


async def test_a_sum_with_holes_is_not_shown() -> None:
    async with Session(priced(FIRST, SECOND), kernel=ScriptedKernel()) as session:
        await session.run("Add.")
        await session.run("Sure?", model=ScriptedModel([THIRD]))
        assert session.dollars is None
        first, one, two = usage_text(session).splitlines()
        assert ("$" in first, "$" in one, "$" in two) == (False, True, False)


async def test_history_and_turns_that_are_not_there() -> None:
    assert history_text(None) == "no turns yet"
    async with Session(ScriptedModel(["x" * 3, "y"]), kernel=ScriptedKernel()) as session:
        await session.run("First\n  request " + "a" * 200)
        await session.run("Second")
        assert history_text(session).splitlines() == [
            "1. First request " + "a" * 86 + "…",
            "   [done]",
            "2. Second",
            "   [done]",
        ]
        with pytest.raises(InputError, match="there is no turn 3; this session has 2"):
            usage_text(session, "3")
        with pytest.raises(InputError, match=r"`%lash usage two`: which turn\? a number, as `%lash history` has them"):
            usage_text(session, "two")
