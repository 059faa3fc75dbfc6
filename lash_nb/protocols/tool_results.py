"""The results of a batch of tool calls: what the history keeps of them, and whether one of them ends the turn.

Decided here: every call of the reply gets one result, in call order, also one that was refused or has none. The first
successful call that carries a control, or a cell whose `finish(value)` is right, ends the turn; a value that is wrong
makes its call a failed one. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from ..machine.attachments import AttachmentSource
from ..machine.messages import Message, MessageRole, Part, PartAttachment, PartKind
from ..machine.outcomes import FinalValue, Finished, TurnOutcome
from ..machine.tool_calls import CompletedToolCall, TextReturn, ToolSucceeded
from ..machine.tool_specs import RUN_CODE
from . import ValidateValue
from .prompt import invalid_value_error, invalid_value_note
from .records import CODE_ORIGIN, CodeDriverState, CodeTrajectoryEntry, FinalOutput, media_type, record_id
from .run_code import cell_text, ended_by, read_cell_output
from .steps import trajectory_entry
from .tool_events import value_of
from .tool_prompt import NO_RESULT, result_text
from .whole_numbers import value_read

__all__ = ["Batch", "read_batch"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What came of the calls of one reply."""

    message: Message
    """With the results, for the model."""
    entries: tuple[CodeTrajectoryEntry, ...]
    """Of the cells that ran."""
    outcome: TurnOutcome | None
    """How the turn ends, if a call ends it."""
    problems: tuple[str, ...]
    """What was wrong with the final values that were refused."""
    results: int
    failed: tuple[str, ...]
    """The calls that did not succeed, those that were not made among them: their ids, in call order."""

    @property
    def succeeded(self) -> int:
        """How many calls did."""
        return self.results - len(self.failed)


@dataclass(slots=True)
class _Result:
    """One call's, on its way into the history."""

    call_id: str
    text: str
    attachments: tuple[AttachmentSource, ...] = ()
    succeeded: bool = False
    outcome: TurnOutcome | None = None
    problem: str | None = None
    cell: CodeDriverState | None = None


def read_batch(
    said: Message,
    refused: Mapping[str, str],
    completed: Sequence[CompletedToolCall],
    *,
    turn_id: str,
    iteration: int,
    validate: ValidateValue | None,
    termination: object,
) -> Batch:
    """Judge the results of the calls in `said`; `refused` are the texts for those that were not made, by id."""
    by_id = {call.call_id: call for call in completed}
    message_id = record_id(turn_id, iteration, "observation")
    parts: list[Part] = []
    entries: list[CodeTrajectoryEntry] = []
    results: list[_Result] = []
    for call in (part for part in said.parts if part.kind is PartKind.TOOL_CALL):
        call_id = call.tool_call_id or ""
        done = by_id.get(call_id)
        text = refused.get(call_id, NO_RESULT)
        result = _Result(call_id, text) if done is None else _result(done, validate, termination)
        if result.cell is not None:
            entry_id = record_id(turn_id, iteration, f"step{len(entries)}")
            entry = trajectory_entry(
                result.cell,
                entry_id=entry_id,
                iteration=iteration,
                observation=message_id,
                call_id=call_id,
                refused=result.problem,
            )
            entries.append(entry)
        results.append(result)
        parts += _parts(call, result)
    numbered = tuple(replace(part, id=f"{message_id}.p{index}") for index, part in enumerate(parts))
    return Batch(
        message=Message(id=message_id, role=MessageRole.USER, parts=numbered, origin=CODE_ORIGIN),
        entries=tuple(entries),
        outcome=next((result.outcome for result in results if result.outcome is not None), None),
        problems=tuple(result.problem for result in results if result.problem is not None),
        results=len(results),
        failed=tuple(result.call_id for result in results if not result.succeeded),
    )


def _result(done: CompletedToolCall, validate: ValidateValue | None, termination: object) -> _Result:
    succeeded = isinstance(done.output.outcome, ToolSucceeded)
    outcome = ended_by(done)
    if done.tool_name != RUN_CODE:
        text, attachments = _told(done)
        result = _Result(done.call_id, result_text(done.output.outcome, text), attachments, succeeded, outcome)
        return _judged(result, value_of(outcome, termination), validate, termination)
    step = read_cell_output(done.output)
    text, attachments = _told(done, marked=False)
    result = _Result(done.call_id, text, attachments, succeeded, outcome)
    if step is None:
        return result
    code = done.args.get("code") if isinstance(done.args, Mapping) else None
    given = value_of(outcome, termination)  # by a tool that the cell has called
    if given is not None:
        step, outcome, result.outcome = replace(step, finish=given), None, None
    result.cell = step = replace(step, executed_code=code if isinstance(code, str) else "")
    if outcome is not None or step.finish is None:
        return result
    problem = None if validate is None else validate(step.finish.value)
    if problem is None:
        result.outcome = Finished(finish=FinalValue(value=value_read(step.finish.value, termination)))
        return result
    result.cell = replace(step, finish=None, exec_error=invalid_value_error())
    result.text = f"{cell_text(result.cell)}\n\n{invalid_value_note(problem)}"
    result.succeeded, result.problem = False, problem
    return result


def _judged(result: _Result, given: FinalOutput | None, validate: ValidateValue | None, termination: object) -> _Result:
    """With the value that a tool gives to a turn that must end with one, if it is right."""
    if given is None:
        return result
    problem = None if validate is None else validate(given.value)
    if problem is None:
        result.outcome = Finished(finish=FinalValue(value=value_read(given.value, termination)))
    else:
        result.text, result.outcome = f"{result.text}\n\n{invalid_value_note(problem)}", None
        result.succeeded, result.problem = False, problem
    return result


def _told(done: CompletedToolCall, *, marked: bool = True) -> tuple[str, tuple[AttachmentSource, ...]]:
    """The text and the attachments of a result; `marked`: the text says where each of them stood."""
    text = ""
    attachments: list[AttachmentSource] = []
    for part in done.model_return.parts:
        if isinstance(part, TextReturn):
            text += part.text
        else:
            attachments.append(part.source)
            text += f"[attachment {len(attachments)}: {media_type(part.source)}]" if marked else ""
    return text, tuple(attachments)


def _parts(call: Part, result: _Result) -> list[Part]:
    """A result as parts of a message; its attachments name their call, too."""
    named = Part(
        id="",
        kind=PartKind.TOOL_RESULT,
        content=result.text,
        tool_call_id=call.tool_call_id,
        tool_name=call.tool_name,
    )
    attached = [
        replace(named, kind=PartKind.ATTACHMENT, content="", attachment=PartAttachment(source=source))
        for source in result.attachments
    ]
    return [named, *attached]
