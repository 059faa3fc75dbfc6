"""How the tests of this directory make calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lash_nb.machine.attachments import AttachmentStore
from lash_nb.machine.tool_calls import (
    CompletedToolCall,
    PendingToolCall,
    TextReturn,
    ToolCallOutput,
    ToolFailed,
    ToolFailure,
    ToolSucceeded,
)
from lash_nb.toolkits import MainThread, Tool, ToolSurroundings
from lash_nb.toolkits.calling import ToolCaller

__all__ = ["failed", "make", "pending", "result", "text", "value"]


def pending(name: str, args: Any, call_id: str = "a") -> PendingToolCall:
    return PendingToolCall(call_id=call_id, tool_name=name, args=args)


async def make(
    tool: Tool, args: Any, *, store: AttachmentStore | None = None, main: MainThread | None = None
) -> CompletedToolCall:
    """One call, as a turn makes it."""
    with ToolCaller({tool.name: tool}, ToolSurroundings(store=store, main=main)) as caller:
        return await caller.call(pending(tool.name, args))


async def value(tool: Tool, args: Mapping[str, Any] | None = None, **surroundings: Any) -> Any:
    """What a call gave, which has to succeed."""
    return result((await make(tool, args or {}, **surroundings)).output)


def result(output: ToolCallOutput) -> Any:
    assert isinstance(output.outcome, ToolSucceeded), output
    return output.outcome.payload


def failed(done: CompletedToolCall | ToolCallOutput) -> ToolFailure:
    """How it failed, which it has to."""
    output = done.output if isinstance(done, CompletedToolCall) else done
    assert isinstance(output.outcome, ToolFailed), output
    return output.outcome.payload


def text(done: CompletedToolCall) -> str:
    (part,) = done.model_return.parts
    assert isinstance(part, TextReturn)
    return part.text
