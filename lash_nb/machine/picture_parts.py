"""What a `TurnPicture` consists of: steps, tool calls, notes, and the words for states. Pure records."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from .execution import CellOutcome, CellOutput
from .llm import LlmUsage
from .sequences import GrowingText
from .tool_values import RESERVED_KEY
from .wire import Json, dumps

__all__ = [
    "CallPicture",
    "Note",
    "NoteKind",
    "Phase",
    "PictureState",
    "StepPicture",
    "ToolCallPicture",
    "placed",
    "result_in_short",
]

_NOTHING = GrowingText()
_RESULT_CHARS = 200


class PictureState(StrEnum):
    """Whether a turn goes on, and how it ended."""

    RUNNING = "running"
    WAITING = "waiting for you"
    """To decide on something: `TurnPicture.pending`."""
    DONE = "done"
    STOPPED = "stopped"
    FAILED = "failed"


class Phase(StrEnum):
    """What a running turn is doing; the value is the sentence that is shown."""

    STARTING = "starting"
    WAITING = "waiting for the model"
    ANSWERING = "the model is answering"
    CELL = "running a cell"
    TOOLS = "running tools"
    BETWEEN = "preparing the next step"


class NoteKind(StrEnum):
    """What a note is about."""

    SAID = "said"
    """The user said something while the turn ran."""
    STATUS = "status"
    NOTICE = "notice"
    DECISION = "decision"
    """What was decided on something that the agent's code was to do."""
    SHARED = "shared"
    """Copies of the notebook's variables went over to the agent's kernel."""
    KEPT = "kept"
    """Its code is kept: a sentence, and behind the first line what was changed in it, as a diff."""
    RETRY = "retry"
    """A model call is made again: of interest only while it happens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something beside the steps."""

    kind: NoteKind
    text: str
    after: int
    """How many steps there were: the note stands behind them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallPicture:
    """One tool call; `succeeded` is None while it runs."""

    call_id: str | None
    name: str
    args: Json
    succeeded: bool | None = None
    problem: str = ""
    result: str = ""
    """What it gave, in one line and not all of it; empty: nothing, or it is not known."""


def result_in_short(payload: Json) -> str:
    """What a call gave, for people: one line, cut."""
    text = payload if isinstance(payload, str) else _json(payload)
    line = " ".join(text[: 4 * _RESULT_CHARS].split())
    if len(line) <= _RESULT_CHARS and len(text) <= 4 * _RESULT_CHARS:
        return line
    return f"{line[:_RESULT_CHARS].rstrip()} … ({len(text):,} characters)"


def _json(payload: Json) -> str:
    try:
        return "" if payload is None else dumps(_with_named_attachments(payload))
    except RecursionError:
        return "…"


def _with_named_attachments(value: Json) -> Json:
    """An attachment is not shown as its record."""
    if isinstance(value, Mapping):
        if value.get(RESERVED_KEY) == "attachment":
            return "[attachment]"
        entries = value["entries"] if value.get(RESERVED_KEY) == "object" else value
        return (
            {key: _with_named_attachments(one) for key, one in entries.items()}
            if isinstance(entries, Mapping)
            else None
        )
    return [_with_named_attachments(one) for one in value] if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class CallPicture:
    """What one model call took."""

    usage: LlmUsage
    dollars: float | None = None
    """US dollars; None when its price is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepPicture:
    """One model call and what followed from it."""

    said: GrowingText = _NOTHING
    thought: GrowingText = _NOTHING
    draft: GrowingText = _NOTHING
    """The code as it is written; `code` is what is run."""
    code: str | None = None
    language: str = "python"
    effect_id: int | None = None
    """None until the code is run."""
    call_id: str = ""
    """Of the tool call by which the model ran it; empty: it ran it as a cell."""
    outputs: tuple[CellOutput, ...] = ()
    outcome: CellOutcome | None = None
    """None while the cell runs, or when there is none."""
    duration_ms: int | None = None
    detail: str = ""
    tool_calls: tuple[ToolCallPicture, ...] = ()

    @property
    def native_calls(self) -> tuple[ToolCallPicture, ...]:
        """Of a model that calls tools itself: those that no cell made."""
        within = f"{self.call_id}/"
        return tuple(one for one in self.tool_calls if not (self.call_id and (one.call_id or "").startswith(within)))

    @property
    def prose(self) -> str:
        return str(self.said)

    @property
    def reasoning(self) -> str:
        return str(self.thought)

    @property
    def source(self) -> str | None:
        """The code, or what there is of it."""
        return self.code if self.code is not None else str(self.draft) or None

    @property
    def running(self) -> bool:
        return self.effect_id is not None and self.outcome is None

    @property
    def empty(self) -> bool:
        return not (self.said or self.thought or self.draft or self.tool_calls) and self.code is None


_OF_A_CELL = re.compile(r"(.*?)c(\d+)", re.DOTALL)


def placed(calls: tuple[ToolCallPicture, ...], new: ToolCallPicture) -> tuple[ToolCallPicture, ...]:
    """With one more call; those of a cell in the order in which it made them, however they began."""
    found = _OF_A_CELL.fullmatch(new.call_id or "")
    at = len(calls)
    while found is not None and at > 0:
        before = _OF_A_CELL.fullmatch(calls[at - 1].call_id or "")
        if before is None or before[1] != found[1] or int(before[2]) < int(found[2]):
            break
        at -= 1
    return (*calls[:at], new, *calls[at:])
