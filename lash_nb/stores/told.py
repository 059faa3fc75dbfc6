"""What was to be seen of a turn, made from its checkpoint alone: for turns that came without a record of it.

Decided here: prose, cells, calls and the texts of their results are shown as the model saw them, but for a cell that
the user had changed: of that, the code that ran is shown. How a cell or a call ended is what its record says: the
conversation alone only tells success from failure, and of calls not even that. Of a reply the calls come before its
cells, each in their order. A call that is still outstanding is not told: whoever goes on with the turn tells it. Times,
images and the calls that cells made are not in a checkpoint. Reads the machine's records only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..machine.activities import TURN_ACTIVITY
from ..machine.activity import CodeBlockCompleted, CodeBlockStarted, TurnStarted
from ..machine.effects import ExecCode, ToolCalls
from ..machine.events import (
    LlmRequestEvent,
    PluginEvent,
    StatusRuntimeEvent,
    TextDelta,
    ToolCallEvent,
    ToolCallStart,
    TurnActivity,
)
from ..machine.execution import CellOutput, FinishValue, StreamOutput
from ..machine.messages import Message, MessageRole, Part, PartKind
from ..machine.picture import TurnPicture
from ..machine.state import TurnCheckpoint
from ..machine.tool_calls import (
    PendingToolCall,
    RetryNever,
    ToolCallOutput,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
    ToolSucceeded,
)
from ..machine.tool_specs import RUN_CODE
from ..machine.wire import Json
from .summaries import own_messages
from .told_records import CellRecord, TurnRecords, arguments_of, called_code, records_of, results_of
from .told_results import cell_texts, plain_result

__all__ = ["outstanding_told", "told_of", "told_stream", "with_answer", "without_values"]


def told_of(
    checkpoint: TurnCheckpoint,
    before: TurnCheckpoint | None,
    *,
    turn: int,
    request: str,
    model: str,
    protocol: str,
    records: TurnRecords | None = None,
) -> list[Json]:
    """The activities (`TURN_ACTIVITY`) of a turn; `before` is the last checkpoint of the turn before it.

    `records` are the checkpoint's `records_of`, for whoever has them already.
    """
    own = own_messages(checkpoint, before, turn=turn)
    waits = checkpoint.outstanding_effect
    steps = _Steps(
        records=records_of(checkpoint) if records is None else records,
        results=results_of(own),
        waits=frozenset(call.call_id for call in waits.calls) if isinstance(waits, ToolCalls) else frozenset(),
    )
    told: list[TurnActivity] = [TurnStarted(turn=turn, request=request, model=model, protocol=protocol)]
    for number, message in enumerate(own):
        if message.role is MessageRole.ASSISTANT:
            told += steps.step(message, own[number + 1] if number + 1 < len(own) else None, number)
    return [TURN_ACTIVITY.encode(activity) for activity in told]


def outstanding_told(checkpoint: TurnCheckpoint) -> list[TurnActivity]:
    """That the cell or the calls began which are outstanding, as far as anybody knows."""
    match checkpoint.outstanding_effect:
        case ExecCode(id=effect_id, language=language, code=code):
            return [CodeBlockStarted(effect_id=effect_id, language=language, code=code)]
        case ToolCalls(id=effect_id, calls=calls):
            in_order = sorted(calls, key=lambda call: call.tool_name == RUN_CODE)
            return [_begun(effect_id, call) for call in in_order]
        case _:
            return []


def _begun(effect_id: int, call: PendingToolCall) -> TurnActivity:
    code = called_code(call)
    if code is not None:
        return CodeBlockStarted(effect_id=effect_id, call_id=call.call_id, language="python", code=code)
    return ToolCallStart(call_id=call.call_id, name=call.tool_name, args=call.args)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Steps:
    """Tells the replies of one turn. A cell's number is that of its reply among the turn's messages."""

    records: TurnRecords
    results: Mapping[str, tuple[Message, Part]]
    waits: frozenset[str]
    """The calls that are outstanding."""

    def step(self, message: Message, following: Message | None, number: int) -> list[TurnActivity]:
        told: list[TurnActivity] = [LlmRequestEvent(protocol_iteration=number, message_count=0, tool_list="")]
        texts = [part.content for part in message.parts if part.kind in (PartKind.PROSE, PartKind.TEXT)]
        told += [TextDelta(content=f"\n\n{text}" if place else text) for place, text in enumerate(texts)]
        for part in message.parts:
            if part.kind is PartKind.CODE:
                told += self._cell(part, following, number)
        calls = [part for part in message.parts if part.kind is PartKind.TOOL_CALL and part.tool_call_id]
        calls = [part for part in calls if part.tool_call_id not in self.waits]
        cells = [(part, code) for part in calls if (code := self.records.code_of(part)) is not None]
        for part in calls:
            told += self._call(part) if self.records.code_of(part) is None else ()
        for part, code in cells:
            told += self._called_cell(part, code, number)
        return told

    def _cell(self, part: Part, following: Message | None, number: int) -> Iterator[TurnActivity]:
        seen = following is not None and following.role is MessageRole.USER
        outputs = _outputs(following) if following is not None and seen else ()
        failed = following is not None and any(part.kind is PartKind.ERROR for part in following.parts)
        record = CellRecord() if following is None else self.records.cells.get((following.id, ""), CellRecord())
        if record.refused:  # the text in the place of an error was for the model
            outputs = outputs[:-1]
        yield from _told_cell(record, part.content, number=number, call_id="", outputs=outputs, failed=failed)

    def _call(self, part: Part) -> Iterator[TurnActivity]:
        call_id, name, args = part.tool_call_id or "", part.tool_name or "", arguments_of(part)
        yield ToolCallStart(call_id=call_id, name=name, args=args)
        text = self.results[call_id][1].content if call_id in self.results else self.records.refused.get(call_id)
        if text is not None:
            failed = call_id in self.records.failed or call_id in self.records.refused
            output = _output(plain_result(text), failed=failed)
            yield ToolCallEvent(call_id=call_id, name=name, args=args, output=output, duration_ms=0)

    def _called_cell(self, part: Part, code: str, number: int) -> Iterator[TurnActivity]:
        call_id = part.tool_call_id or ""
        if call_id not in self.results:
            yield CodeBlockStarted(effect_id=number, call_id=call_id, language="python", code=code)
            return
        seen, result = self.results[call_id]
        record = self.records.cells.get((seen.id, call_id), CellRecord())
        found = cell_texts(result.content)
        texts = [("stdout", text) for text in found.outputs]
        if not record.refused:
            texts += [("stderr", found.error), ("stdout", found.rest)]
        outputs = tuple(told_stream(name, text) for name, text in texts if text.strip())
        failed = bool(found.error) or call_id in self.records.failed
        yield from _told_cell(record, code, number=number, call_id=call_id, outputs=outputs, failed=failed)


def _told_cell(
    record: CellRecord, code: str, *, number: int, call_id: str, outputs: tuple[CellOutput, ...], failed: bool
) -> Iterator[TurnActivity]:
    if record.ran is not None:
        code, outputs = record.ran, outputs[1:]  # the first says to the model what ran
    yield CodeBlockStarted(effect_id=number, call_id=call_id, language="python", code=code)
    yield CodeBlockCompleted(
        effect_id=number, call_id=call_id, outcome=record.ended(failed=failed), outputs=outputs, duration_ms=0
    )
    if record.refused:
        status = StatusRuntimeEvent(key="value", label="the value was refused", detail=record.refused)
        yield PluginEvent(plugin_id="code", event=status)


def _output(text: str, *, failed: bool) -> ToolCallOutput:
    """Of a call: whether it failed, and what the model was told; more is not known."""
    if not failed:
        return ToolCallOutput(outcome=ToolSucceeded(payload=text))
    failure = ToolFailure(
        class_=ToolFailureClass.EXECUTION,
        code="",
        message=text,
        source=ToolFailureSource.RUNTIME,
        retry=RetryNever(),
    )
    return ToolCallOutput(outcome=ToolFailed(payload=failure))


def _outputs(message: Message) -> tuple[CellOutput, ...]:
    return tuple(
        told_stream("stderr" if part.kind is PartKind.ERROR else "stdout", part.content)
        for part in message.parts
        if part.kind in (PartKind.OUTPUT, PartKind.ERROR, PartKind.TEXT) and part.content.strip()
    )


def told_stream(name: str, text: str) -> StreamOutput:
    """A text that the model saw, as an output."""
    return StreamOutput(name="stderr" if name == "stderr" else "stdout", head=text.rstrip("\n") + "\n")


# ------------------------------------------------------------------------------------------- pictures of what was told


def without_values(picture: TurnPicture, own: Sequence[Message], records: TurnRecords) -> TurnPicture:
    """Without what the model saw of a value that ended the turn: the turn has that, too. `own` are its messages."""
    finals = _finals(own, records)
    steps = tuple(
        replace(step, outputs=step.outputs[:-1]) if (step.effect_id, step.call_id) in finals else step
        for step in picture.steps
    )
    return replace(picture, steps=steps)


def with_answer(picture: TurnPicture, own: Sequence[Message], records: TurnRecords) -> TurnPicture:
    """With the value that the turn ended with, or with the words that came last."""
    finals = list(_finals(own, records).values())
    if finals:
        return replace(picture, value=FinishValue(value=finals[-1]))
    last = picture.steps[-1] if picture.steps else None
    if own[-1].role is MessageRole.ASSISTANT and last is not None and last.code is None and not last.tool_calls:
        return replace(picture, answer=last.prose, steps=picture.steps[:-1])
    return picture


def _finals(own: Sequence[Message], records: TurnRecords) -> dict[tuple[int | None, str], Any]:
    """The values that cells gave to end the turn, by the number and the call of each cell."""
    results = results_of(own)
    found: dict[tuple[int | None, str], Any] = {}
    for number, message in enumerate(own):
        for part in message.parts if message.role is MessageRole.ASSISTANT else ():
            call_id = part.tool_call_id or ""
            if part.kind is PartKind.TOOL_CALL:
                seen = results[call_id][0] if call_id in results else None
            else:
                call_id, seen = "", own[number + 1] if number + 1 < len(own) else None
            record = records.cells.get((seen.id, call_id)) if seen is not None else None
            if record is not None and record.final:
                found[number, call_id] = record.final[0]
    return found
