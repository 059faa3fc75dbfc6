"""What the scripted kernel asks its host: tool calls, and the wishes of a guarded cell."""

from __future__ import annotations

from collections.abc import Iterable

from ..machine.approvals import Wish
from ..machine.execution import ErrorOutput
from ..machine.tool_calls import PendingToolCall, ToolCallOutput, ToolFailureClass
from . import CellGuard, CellTools
from .call_outputs import answered, cancelled, failed
from .wishes import OpenQuestions, decided, refused

__all__ = ["CANCELLED_CALL", "asked", "called"]

CANCELLED_CALL = cancelled("the cell was stopped while it waited for the call")


async def called(call: PendingToolCall, tools: CellTools | None) -> ToolCallOutput:
    """One call through the host; whatever goes wrong with it is a failed call."""
    if tools is None or call.tool_name not in {offer.name for offer in tools.offers}:
        return failed(f"there is no tool {call.tool_name!r}", ToolFailureClass.INVALID_REQUEST, "unknown_tool")
    return await answered(tools.on_call, call)


async def asked(wishes: Iterable[Wish], guard: CellGuard | None, questions: OpenQuestions) -> ErrorOutput | None:
    """Ask for each wish that was not allowed yet, in order; the error with which the first refusal ends the cell."""
    allowed: set[Wish] = set()
    for wish in wishes if guard is not None else ():
        if wish in allowed:
            continue
        questions.begin()
        try:
            answer = await decided(guard, {"kind": wish.kind.value, "target": wish.target})
        finally:
            questions.end()
        if answer["allows"] is not True:
            told = refused(wish, answer)
            return ErrorOutput(ename="PermissionError", evalue=told, traceback=(f"PermissionError: {told}",))
        allowed.add(wish)
    return None
