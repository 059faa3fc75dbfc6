"""Model calls that fail and are made again: what is tried, how long is waited, what is taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from lash_nb import RetryPolicy, ScriptedKernel, ScriptedModel, Session
from lash_nb.calls import ModelCall
from lash_nb.errors import ModelCallError, TurnFailed
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.events import CodeBlockStarted, RetryStatus, TextDelta, TurnActivity
from lash_nb.machine.llm import (
    LlmCallError,
    LlmResponse,
    LlmTerminalReason,
    LlmUsage,
    ProviderFailureKind,
    ReasoningOutput,
    TextOutput,
)
from lash_nb.machine.messages import ResponseTextMeta
from lash_nb.machine.picture import NoteKind
from lash_nb.protocols.code import CodeProtocol
from lash_nb.trust import Redactor

from .conversations import cell
from .models.cases import context, request


def failure(
    message: str = "overloaded",
    *,
    kind: ProviderFailureKind = ProviderFailureKind.HTTP,
    retryable: bool = True,
    retry_after_s: float | None = None,
    said: str = "",
) -> ModelCallError:
    partial = LlmResponse(
        full_text=said, parts=(TextOutput(text=said),), terminal_reason=LlmTerminalReason.PROVIDER_ERROR
    )
    error = LlmCallError(
        message=message,
        retryable=retryable,
        kind=kind,
        terminal_reason=LlmTerminalReason.PROVIDER_ERROR,
        partial_response=partial if said else None,
    )
    return ModelCallError(error, retry_after_s=retry_after_s)


class Waits:
    """A sleep that only notes for how long it was asked to wait."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def policy(waits: Waits, **fields: Any) -> RetryPolicy:
    return RetryPolicy(draw=lambda: 1.0, sleep=waits, **fields)


async def run(replies: Sequence[Any], retries: RetryPolicy) -> tuple[Any, list[TurnActivity], ScriptedModel]:
    model, seen = ScriptedModel(replies), list[TurnActivity]()
    async with Session(model, kernel=ScriptedKernel(), retries=retries) as session:
        turn = await session.run("Go.", on_activity=seen.append, raise_on_failure=False)
    return turn, seen, model


async def test_a_passing_failure_is_tried_again_with_growing_waits() -> None:
    waits = Waits()
    turn, seen, model = await run([failure(), failure(), failure("busy"), "Here."], policy(waits))
    assert (turn.text, turn.status) == ("Here.", "done")
    assert waits.seconds == [1.0, 2.0, 4.0]
    told = [activity for activity in seen if isinstance(activity, RetryStatus)]
    assert [(one.attempt, one.max_attempts, one.wait_seconds, one.reason) for one in told] == [
        (2, 5, 1, "overloaded"),
        (3, 5, 2, "overloaded"),
        (4, 5, 4, "busy"),
    ]
    assert len({id(request) for request in model.requests}) == 1, "the same request is sent again"


async def test_what_a_failed_attempt_said_is_taken_back() -> None:
    turn, seen, _ = await run([failure(said="Half an ans"), "A whole answer."], policy(Waits()))
    assert "".join(one.content for one in seen if isinstance(one, TextDelta)) == "Half an ansA whole answer."
    assert turn.text == "A whole answer."
    assert "Half" not in turn.bundle()["text/plain"]
    assert [note.kind for note in turn.picture.notes] == [NoteKind.RETRY]


async def test_half_a_cell_is_forgotten_by_the_reader() -> None:
    replies = [failure(said="Look.\n<lash-cell>\nx = "), cell("y = 2"), "Done."]
    turn, _, _ = await run(replies, policy(Waits()))
    assert turn.code == ("y = 2",)


async def test_after_the_last_attempt_the_failure_says_how_many_there_were() -> None:
    waits = Waits()
    turn, _, model = await run([failure()] * 9, policy(waits, attempts=3))
    assert (turn.status, len(model.requests), waits.seconds) == ("failed", 3, [1.0, 2.0])
    assert "overloaded (the last of 3 attempts)" in turn.text


async def test_what_will_not_pass_is_not_tried_again() -> None:
    waits = Waits()
    turn, _, model = await run([failure("no such key", retryable=False), "never"], policy(waits))
    assert (turn.status, len(model.requests), waits.seconds) == ("failed", 1, [])
    assert "attempts" not in turn.text


async def test_a_time_out_is_tried_once_more_only() -> None:
    turn, _, model = await run([failure(kind=ProviderFailureKind.TIMEOUT)] * 9, policy(Waits()))
    assert (turn.status, len(model.requests)) == ("failed", 2)


@pytest.mark.parametrize(("asked", "waited"), [(7.0, 7.0), (0.0, 1.0), (0.25, 1.0), (120.0, 120.0)])
async def test_retry_after_is_kept_to(asked: float, waited: float) -> None:
    waits = Waits()
    turn, _, _ = await run([failure(retry_after_s=asked), "Here."], policy(waits))
    assert (turn.text, waits.seconds) == ("Here.", [waited])


async def test_a_wait_that_nobody_wants_is_said_instead() -> None:
    waits = Waits()
    turn, _, model = await run([failure(retry_after_s=3600.0), "never"], policy(waits))
    assert (turn.status, len(model.requests), waits.seconds) == ("failed", 1, [])
    assert "the provider asks to wait 3,600 s" in turn.text


def test_waits_are_drawn_from_the_upper_half_and_bounded() -> None:
    low, high = RetryPolicy(draw=lambda: 0.0), RetryPolicy(draw=lambda: 1.0)
    assert [low.wait_s(n, None) for n in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert [high.wait_s(n, None) for n in (1, 6, 60)] == [1.0, 30.0, 30.0]


async def test_a_stop_while_waiting_is_a_stop() -> None:
    async def stop(seconds: float) -> None:
        session.request_stop()
        await asyncio.sleep(60)

    session = Session(ScriptedModel([failure(), "never"]), kernel=ScriptedKernel(), retries=RetryPolicy(sleep=stop))
    async with session:
        with pytest.raises(TurnFailed):
            await session.run("Go.")
        assert session.turns[0].status == "stopped"


# -- what is kept ----------------------------------------------------------------------------------------------------

SECRET = "gtok-ABCDEF0123456789"


async def test_tokens_of_failed_attempts_are_counted() -> None:
    cut = failure(said="Half")
    assert cut.error.partial_response is not None
    spent = replace(cut.error.partial_response, usage=LlmUsage(input_tokens=1000, output_tokens=5))
    cut = ModelCallError(replace(cut.error, partial_response=spent))
    whole = LlmResponse(
        full_text="Whole.",
        parts=(TextOutput(text="Whole."),),
        usage=LlmUsage(input_tokens=1000, output_tokens=20),
        terminal_reason=LlmTerminalReason.STOP,
    )
    turn, _, _ = await run([cut, cut, whole], policy(Waits()))
    assert turn.usage == LlmUsage(input_tokens=3000, output_tokens=30)


async def test_a_secret_in_a_failure_is_kept_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_GATEWAY_TOKEN", SECRET)
    turn, seen, _ = await run([failure(f"bad token {SECRET}", retryable=False)], policy(Waits()))
    assert "bad token [redacted]" in turn.text
    assert SECRET not in repr(seen) + repr(turn.bundle()) + repr(turn.envelope)


async def test_a_secret_in_an_answer_is_taken_back_and_kept_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_GATEWAY_TOKEN", SECRET)
    turn, _, _ = await run([f"Invalid token: {SECRET}. Sorry."], policy(Waits()))
    assert turn.text == "Invalid token: [redacted]. Sorry."
    assert SECRET not in repr(turn.bundle()) + repr(turn.envelope) + repr(turn.picture)


async def test_a_secret_in_a_cell_is_not_run_with(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_GATEWAY_TOKEN", SECRET)
    turn, _, _ = await run([cell(f"use('{SECRET}')"), "Done."], policy(Waits()))
    assert turn.code == ("use('[redacted]')",)
    assert SECRET not in repr(turn.picture) + repr(turn.envelope)


async def test_a_model_that_is_replaced_during_a_turn_is_closed_after_it() -> None:
    first, second = ScriptedModel([cell("1"), "One."]), ScriptedModel(["Two."])
    kernel = ScriptedKernel([ScriptedCell()])
    session = Session(first, kernel=kernel)
    closed: list[bool] = []

    def watch(activity: TurnActivity) -> None:
        if isinstance(activity, CodeBlockStarted):
            asyncio.get_running_loop().create_task(session.set_model(second))
        closed.append(first.closed)

    async with session:
        assert (await session.run("First.", on_activity=watch)).text == "One."
        assert not any(closed)
        assert first.closed
        assert (await session.run("Second.")).text == "Two."


async def test_where_a_stream_is_stopped_what_its_provider_signed_is_kept() -> None:
    signed = ResponseTextMeta(id="signed", origin_provider="google")
    reply = LlmResponse(
        full_text="Look.\n<lash-cell>\n1\n</lash-cell>\nand more",
        parts=(
            TextOutput(text="Look.\n", response_meta=signed),
            ReasoningOutput(text="hm"),
            TextOutput(text="<lash-cell>\n1\n</lash-cell>\nand more"),
        ),
        terminal_reason=LlmTerminalReason.STOP,
    )
    protocol = CodeProtocol(turn_id="t1")
    made = ModelCall(
        ScriptedModel([reply], chunk_size=400),
        protocol,
        policy=RetryPolicy(),
        redactor=Redactor({}),
        on_activity=lambda activity: None,
    )
    result = (await made.make(request(), context=context())).result
    assert isinstance(result, LlmResponse)
    assert result.full_text == "Look.\n<lash-cell>\n1\n</lash-cell>"
    assert result.parts == (
        TextOutput(text="Look.\n", response_meta=signed),
        ReasoningOutput(text="hm"),
        TextOutput(text="<lash-cell>\n1\n</lash-cell>"),
    )
