"""Turns to look at, as activity."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

from lash_nb.machine.events import (
    CodeBlockCompleted,
    CodeBlockStarted,
    DoneEvent,
    LlmRequestEvent,
    LlmResponseEvent,
    MessageEvent,
    TextDelta,
    TurnActivity,
    TurnOutcomeEvent,
    TurnStarted,
)
from lash_nb.machine.execution import CellOutcome, CellOutput, ErrorOutput, StreamOutput
from lash_nb.machine.outcomes import AssistantMessage, Finished, TurnOutcome
from lash_nb.machine.picture import TurnPicture

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
"""One pixel."""

BEGIN = TurnStarted(turn=1, request="How many rows?", model="scripted")


def asked(iteration: int = 0) -> TurnActivity:
    return LlmRequestEvent(protocol_iteration=iteration, message_count=1, tool_list="")


def step(
    number: int,
    *,
    prose: str = "",
    code: str,
    outputs: tuple[CellOutput, ...] = (),
    outcome: CellOutcome = CellOutcome.OK,
    detail: str = "",
    duration_ms: int = 5,
) -> list[TurnActivity]:
    """All that happens in a step with a cell."""
    return [
        asked(number),
        TextDelta(content=prose),
        LlmResponseEvent(protocol_iteration=number, content=prose, duration_ms=0),
        MessageEvent(text=code, kind="python_code"),
        CodeBlockStarted(effect_id=number, language="python", code=code),
        CodeBlockCompleted(effect_id=number, outcome=outcome, outputs=outputs, duration_ms=duration_ms, detail=detail),
    ]


def answered(text: str) -> list[TurnActivity]:
    """All that happens in a step that ends the turn."""
    return [
        asked(99),
        TextDelta(content=text),
        ended(Finished(finish=AssistantMessage(text=text.strip()))),
        DoneEvent(),
    ]


def ended(outcome: TurnOutcome) -> TurnActivity:
    return TurnOutcomeEvent(outcome=outcome)


def picture(*activity: TurnActivity | Iterable[TurnActivity]) -> TurnPicture:
    """The picture after a turn's beginning and then `activity`, in which lists are flattened."""
    flat: list[TurnActivity] = [BEGIN]
    for one in activity:
        flat.extend(one if isinstance(one, list) else [one])  # type: ignore[list-item]
    return reduce(TurnPicture.apply, flat, TurnPicture())


def stdout(text: str) -> StreamOutput:
    return StreamOutput(name="stdout", head=text)


def whole_turn() -> TurnPicture:
    """An error, a recovery, an answer."""
    failed = ErrorOutput(ename="KeyError", evalue="'profit'", traceback=("Traceback", "KeyError: 'profit'"))
    return picture(
        step(1, prose="I look at it.", code="df['profit']", outputs=(failed,), outcome=CellOutcome.ERROR),
        step(2, prose="So it is called margin.", code="len(df)", outputs=(stdout("3\n"),)),
        answered("There are **3** rows.\n"),
    )
