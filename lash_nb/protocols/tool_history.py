"""What the model sees under the tool protocol: prompt, history with calls and results, one last message for the moment.

Decided here: every call has exactly one result, which follows it directly, because providers refuse anything else; what
the user said meanwhile comes behind the results, and a call that never got a result is told so. Cells of other turns
stand as calls of `run_code`. Attachments come behind all results of their batch, then one text, the same each time, so
that the cache breakpoint reaches over the results. Nothing of the history depends on the iteration. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from ..machine.llm import TextBlock
from ..machine.messages import Message, MessageRole, Part, PartKind
from ..machine.projector import render_message
from ..machine.tool_specs import RUN_CODE
from ..machine.wire import dumps
from .call_words import without_orphans
from .history_projector import HistoryProjector, HistoryStep, WrittenHistory, headed, joined, text_part
from .prompt import Form
from .records import CODE_ORIGIN
from .tool_prompt import DATA_NOTE, NO_RESULT, attachments_note

__all__ = ["CELL_CALL", "ToolsProjector"]

CELL_CALL = "cell_"
"""With which the ids of calls begin that stand for cells of other turns; a call that a model makes has another one."""


class ToolsProjector(HistoryProjector):
    """Makes the model requests of a conversation that the tool protocol leads."""

    form: Form = "calls"

    def takes_results(self, message: Message) -> bool:
        """Calls do, and cells, which stand as calls."""
        asking = (PartKind.TOOL_CALL, PartKind.CODE)
        return message.role is MessageRole.ASSISTANT and any(part.kind in asking for part in message.parts)

    def write_message(self, message: Message, written: WrittenHistory) -> None:
        """A message that neither makes calls nor answers them."""
        match message.role:
            case MessageRole.SYSTEM:
                written.write(self.noted(message))
            case MessageRole.ASSISTANT:
                written.write(replace(message, parts=joined(map(_prose, message.parts))))
            case MessageRole.USER if any(part.kind is PartKind.TOOL_RESULT for part in message.parts):
                parts = joined(map(self.seen, without_orphans(message).parts))
                written.write(replace(message, parts=parts))
            case MessageRole.USER if message.origin == CODE_ORIGIN:
                written.write(replace(message, parts=joined(map(self.seen, headed(message.parts)))))
            case _:
                written.write(replace(message, parts=tuple(map(self.seen, message.parts))))

    def write_step(self, step: HistoryStep, written: WrittenHistory) -> None:
        """Calls and their results, as two messages."""
        message = step.message
        calls = {id(part): _as_call(message.id, place, part) for place, part in enumerate(step.calls)}
        parts = joined(calls.get(id(part)) or _prose(part) for part in message.parts)
        written.write(replace(message, parts=parts))
        results: list[Part] = []
        beside: list[Part] = []
        for part in step.calls:
            call = calls[id(part)]
            result, attachments = self._given(step, part)
            results.append(replace(call, kind=PartKind.TOOL_RESULT, content=result, tool_replay=None))
            if attachments:
                beside += [_text(attachments_note(call.tool_name or "", call.tool_call_id or "")), *attachments]
        parts = (*results, *joined(map(self.seen, [*beside, _text(DATA_NOTE)])))
        written.write(Message(id=f"{message.id}_results", role=MessageRole.USER, parts=parts, origin=CODE_ORIGIN))

    def _given(self, step: HistoryStep, call: Part) -> tuple[str, list[Part]]:
        """The text of a call's result, and its attachments."""
        if call.kind is PartKind.CODE:
            parts: Iterable[Part] = (part for answer in step.answers for part in headed(answer.parts))
        else:
            parts = step.results(call)
        texts: list[str] = []
        attachments: list[Part] = []
        for part in parts:
            if part.kind is PartKind.ATTACHMENT:
                attachments.append(part)
            elif part.kind is not PartKind.TOOL_RESULT or not texts:
                texts.extend(_rendered(part))
        return "\n\n".join(texts) if texts else NO_RESULT, attachments


def _as_call(message_id: str, place: int, part: Part) -> Part:
    """The part as a tool call; a cell as one of the tool that runs cells."""
    if part.kind is PartKind.TOOL_CALL:
        return part
    call_id = CELL_CALL + re.sub(r"[^A-Za-z0-9_-]", "_", message_id) + (f"_{place}" if place else "")
    return Part(
        id=part.id,
        kind=PartKind.TOOL_CALL,
        content=dumps({"code": "\n".join(_rendered(part))}),
        tool_call_id=call_id,
        tool_name=RUN_CODE,
    )


def _prose(part: Part) -> Part:
    """Prose as a text, with what its provider wants back."""
    if part.kind is not PartKind.PROSE:
        return part
    return replace(text_part(part, part.content), response_meta=part.response_meta)


def _rendered(part: Part) -> Iterator[str]:
    """The part's content, or the machine's words where it was pruned."""
    text = Message(id="", role=MessageRole.USER, parts=(replace(part, kind=PartKind.TEXT),))
    rendered = render_message(text, [])
    for block in rendered.blocks if rendered is not None else ():
        if isinstance(block, TextBlock):
            yield block.text


def _text(content: str) -> Part:
    return Part(id="", kind=PartKind.TEXT, content=content)
