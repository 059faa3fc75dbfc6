"""Tool calls in words other than the provider's: as Python that would make them, and as text where the call is gone.

Decided here: code that a model ran by a call stands as it is; any other call is `print(tools.NAME(x=1, ...))`, valid
Python whatever names and values there are. Pure.
"""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from dataclasses import replace

from ..machine.messages import Message, Part, PartKind
from ..machine.tool_specs import RUN_CODE
from ..machine.wire import DecodeError, Json, loads
from .tool_prompt import ORPHANED_RESULT

__all__ = ["calling_code", "without_orphans"]


def calling_code(call: Part) -> str:
    """The cell that would do what the call did; the code of a cell is that."""
    if call.kind is PartKind.CODE:
        return call.content
    args = _arguments(call.content)
    code = args.get("code")
    if call.tool_name == RUN_CODE and isinstance(code, str):
        return code
    name = call.tool_name or ""
    function = f"tools.{name}" if _is_name(name) else f"getattr(tools, {name!r})"
    return f"print({function}({_written(args)}))"


def _arguments(text: str) -> Mapping[str, Json]:
    try:
        args = loads(text)
    except DecodeError:
        return {}
    return args if isinstance(args, dict) else {}


def _written(args: Mapping[str, Json]) -> str:
    """JSON as Python literals: `repr` is that for all that JSON has."""
    if not all(map(_is_name, args)):
        return f"**{dict(args)!r}"
    return ", ".join(f"{name}={value!r}" for name, value in args.items())


def _is_name(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name)


def without_orphans(message: Message) -> Message:
    """The message, its results as texts: for results whose calls are gone, as providers refuse one without a call."""
    parts = [
        Part(id=part.id, kind=PartKind.TEXT, content=f"{ORPHANED_RESULT}\n{part.content}")
        if part.kind is PartKind.TOOL_RESULT
        else part
        for part in message.parts
    ]
    return replace(message, parts=tuple(parts))
