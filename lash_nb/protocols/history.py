"""What the model sees under the code protocol: prompt, history in emission form, and one last message for the moment.

Decided here: how each message is written. A past step stands exactly as the model must write one (prose, then the cell
between its lines), followed by a User message with what came of it; every output has a heading and a data fence that
its content cannot close. Tool calls of other turns stand as the cell that would have made them. Nothing of the history
depends on the iteration, so each request repeats the last one's prefix. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from ..machine.messages import Message, MessageRole, Part, PartKind
from .call_words import calling_code, without_orphans
from .grammar import Grammar, render_cell
from .history_projector import HistoryProjector, HistoryStep, WrittenHistory, headed, joined, text_part
from .records import CODE_ORIGIN
from .tool_prompt import NO_RESULT

__all__ = ["CodeProjector"]


class CodeProjector(HistoryProjector):
    """Makes the model requests of a conversation that the code protocol leads."""

    def __init__(self, *, grammar: Grammar = "tags", vision: bool = True, run_offset: int = 0) -> None:
        super().__init__(vision=vision, run_offset=run_offset)
        self._grammar: Grammar = grammar

    def takes_results(self, message: Message) -> bool:
        """Tool calls do; a cell's outputs follow it anyway."""
        return message.role is MessageRole.ASSISTANT and any(part.kind is PartKind.TOOL_CALL for part in message.parts)

    def write_message(self, message: Message, written: WrittenHistory) -> None:
        """A message of another turn's form, or one of this protocol's."""
        code = message.role is MessageRole.ASSISTANT and any(part.kind is PartKind.CODE for part in message.parts)
        written.cells += code
        written.write(self._in_emission_form(message, written.cells - 1))

    def write_step(self, step: HistoryStep, written: WrittenHistory) -> None:
        """A batch of calls as one cell, its results as that cell's outputs."""
        kept = [part for part in step.message.parts if part.kind is PartKind.REASONING]
        texts = [part for part in step.message.parts if part.kind in (PartKind.PROSE, PartKind.TEXT)]
        prose = [text_part(part, part.content) for part in texts]
        code = "\n\n".join(calling_code(call) for call in step.calls)
        cell = Part(id="", kind=PartKind.TEXT, content=render_cell(code, self._grammar))
        written.write(replace(step.message, parts=(*kept, *joined([*prose, cell]))))
        history = f"history[{written.cells}]"
        written.cells += 1
        parts = [part for place, call in enumerate(step.calls) for part in self._given(step, call, history, place)]
        seen = Message(id=f"{step.message.id}_seen", role=MessageRole.USER, parts=joined(parts), origin=CODE_ORIGIN)
        written.write(seen)

    def _given(self, step: HistoryStep, call: Part, history: str, place: int) -> Iterable[Part]:
        """What a call gave, under its heading."""
        heading = f"{history}.output[{place}] of {call.tool_name or call.kind.value}:"
        results = step.results(call)
        result = next((part for part in results if part.kind is PartKind.TOOL_RESULT), None)
        if result is None:
            yield Part(id="", kind=PartKind.TEXT, content=f"{heading}\n{NO_RESULT}")
        else:
            yield Part(id="", kind=PartKind.TEXT, content=heading)
            yield text_part(result, result.content)
        yield from (self.seen(part) for part in results if part.kind is PartKind.ATTACHMENT)

    def _in_emission_form(self, message: Message, cell: int) -> Message:
        """The message with its texts as the model is to see them; `cell` numbers the last cell of the conversation."""
        match message.role:
            case MessageRole.ASSISTANT:
                parts = joined(self._said(part) for part in message.parts)
            case MessageRole.SYSTEM:
                return self.noted(message)
            case MessageRole.USER if any(part.kind is PartKind.TOOL_RESULT for part in message.parts):
                parts = joined(self.seen(part) for part in without_orphans(message).parts)
            case MessageRole.USER if message.origin == CODE_ORIGIN:
                parts = joined(self.seen(part) for part in headed(message.parts, history=f"history[{cell}]"))
            case _:
                parts = tuple(self.seen(part) for part in message.parts)
        return replace(message, parts=parts)

    def _said(self, part: Part) -> Part:
        if part.kind is PartKind.CODE:
            return text_part(part, render_cell(part.content, self._grammar))
        return text_part(part, part.content) if part.kind in (PartKind.PROSE, PartKind.TEXT) else part
