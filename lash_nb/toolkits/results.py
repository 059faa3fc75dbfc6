"""What a function gives as a tool's output.

Decided here: how a value, the attachments beside it, and the wish to end the turn become one output. What is not JSON
is a failed call that says where and what. How values become JSON is `attaching`'s, what a model is shown `showing`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..errors import LashError, ToolError
from ..machine.attachments import AttachmentStore
from ..machine.tool_calls import (
    TOOL_VALUE,
    FailControl,
    FinishControl,
    ToolCallOutput,
    ToolControl,
    ToolFailureClass,
    ToolSucceeded,
)
from ..machine.wire import DecodeError, Json
from .attaching import Attachment, tool_value
from .outcomes import failure, not_json
from .showing import bounded, model_return

__all__ = ["Attachment", "ToolResult", "bounded", "model_return", "output_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ending:
    """How a result ends the turn."""

    kind: ToolFailureClass | None = None
    """None: with the value."""
    code: str = ""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a function returns that gives attachments beside its value, or ends the turn."""

    value: Any = None
    attachments: tuple[Any, ...] = ()
    """`Attachment`s, bytes, figures, pictures."""
    ending: _Ending | None = field(default=None, repr=False)

    @classmethod
    def finish(cls, value: Any) -> ToolResult:
        """The turn ends with this value."""
        return cls(value, (), _Ending())

    @classmethod
    def fail(cls, message: str, *, kind: str = "execution", code: str = "stopped") -> ToolResult:
        """The turn ends as failed; `kind` is one of those of `ToolError`, which fails a call and nothing more."""
        return cls(str(message), (), _Ending(kind=ToolFailureClass(kind), code=code))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        """It has no JSON Schema: a return annotation says nothing of the value."""
        from pydantic_core import core_schema

        return core_schema.is_instance_schema(cls)


def output_of(value: Any, store: AttachmentStore | None) -> ToolCallOutput:
    """What a function gave as the output of its call; attachments go into the store.

    What the code of a value itself raises passes through, as does ToolError: there is too much of it.
    """
    result = value if isinstance(value, ToolResult) else ToolResult(value)
    try:
        payload = TOOL_VALUE.encode(tool_value(_told(result), store))
    except DecodeError as error:
        return not_json(str(error))
    except ToolError:
        raise
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return not_json(str(error) or type(error).__name__)
    except LashError as error:
        message = f"what the tool gave cannot be kept: {error}"
        return ToolCallOutput(outcome=failure(ToolFailureClass.INTERNAL, "not_stored", message))
    return ToolCallOutput(outcome=ToolSucceeded(payload=payload), control=_control(result, payload))


def _told(result: ToolResult) -> Any:
    attachments = list(result.attachments)
    if not attachments:
        return result.value
    if result.value is None:
        return attachments[0] if len(attachments) == 1 else attachments
    return {"value": result.value, "attachments": attachments}


def _control(result: ToolResult, payload: Json) -> ToolControl | None:
    if result.ending is None:
        return None
    if result.ending.kind is None:
        return FinishControl(value=payload)
    return FailControl(failure=failure(result.ending.kind, result.ending.code, str(result.value)).payload)
