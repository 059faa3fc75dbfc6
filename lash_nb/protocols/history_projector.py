"""One request of a conversation: what the projectors of all protocols that keep a history have in common.

Decided here: the order (system prompt, history, one last User message for the moment), where the cache breakpoint is,
and that what a model did and what came of it stand side by side. A projector writes each message once: its next request
holds the same objects, and costs what is new. A step that still waits for a result is written anew each time, as if it
never came. How a message and a step are worded is the protocol's own. Pure; the host's blocks are config, never in a
TurnCheckpoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..machine.attachments import AttachmentSource
from ..machine.llm import LlmMessage, LlmRequest, LlmRole, TextBlock
from ..machine.messages import AppendOnly, Message, MessageRole, MessageSequence, Part, PartKind, PruneMark
from ..machine.projector import Projection, render_message, request_for
from .prompt import Form, fenced, runtime_note, volatile_tail
from .records import CODE_ORIGIN, media_type
from .termination import FinishRequired

__all__ = ["HistoryProjector", "HistoryStep", "WrittenHistory", "headed", "joined", "text_part"]

_NO_OUTPUT = "(no printed output)"


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryStep:
    """A message of the model that asks for something, and the messages with what came of it."""

    message: Message
    answers: tuple[Message, ...]

    @property
    def calls(self) -> tuple[Part, ...]:
        """The tool calls and cells in the model's message."""
        return _asking(self.message)

    def results(self, call: Part) -> tuple[Part, ...]:
        """What came of a tool call: its result and attachments; () for none."""
        return tuple(part for answer in self.answers for part in answer.parts if part.tool_call_id == call.tool_call_id)


class WrittenHistory:
    """A history as the model sees it, as far as it was written."""

    def __init__(self, *, active: frozenset[str] = frozenset()) -> None:
        self.active = active
        """Ids of the causes that the last message tells of."""
        self.source: MessageSequence = AppendOnly()
        """What it was written from."""
        self.messages: list[LlmMessage] = []
        self.attachments: list[AttachmentSource] = []
        self.cells = 0

    def write(self, message: Message) -> None:
        """One more message, worded as the model is to see it; nothing when it has no content."""
        rendered = render_message(message, self.attachments)
        if rendered is not None:
            self.messages.append(rendered)

    def copy(self) -> WrittenHistory:
        """One to write on without a trace in this one."""
        twin = WrittenHistory(active=self.active)
        twin.source, twin.cells = self.source, self.cells
        twin.messages, twin.attachments = list(self.messages), list(self.attachments)
        return twin


class HistoryProjector(ABC):
    """Makes the model requests of a conversation; a protocol says how messages and steps are worded."""

    form: Form = "cell"

    def __init__(self, *, vision: bool = True, run_offset: int = 0) -> None:
        self._vision = vision
        self._run_offset = run_offset
        self._blocks: tuple[str, ...] = ()
        self._written = WrittenHistory()
        self._prompt: tuple[LlmMessage, ...] = ()

    # -- of the protocol -----------------------------------------------------------------------------------------------

    @abstractmethod
    def takes_results(self, message: Message) -> bool:
        """Whether a message of the model is written together with what came of it."""

    @abstractmethod
    def write_message(self, message: Message, written: WrittenHistory) -> None:
        """Write one message that stands for itself."""

    @abstractmethod
    def write_step(self, step: HistoryStep, written: WrittenHistory) -> None:
        """Write a message that takes results, and its results."""

    # -- the request ---------------------------------------------------------------------------------------------------

    def set_volatile(self, blocks: Sequence[str]) -> None:
        """Replace the host's blocks of the last message; they hold until they are replaced again."""
        self._blocks = tuple(blocks)

    def project(self, projection: Projection) -> LlmRequest:
        """One request: system prompt, history, last message."""
        written = self._history(projection.messages, frozenset(cause.id for cause in projection.turn_causes))
        out = [*self._opening(projection.config.system_prompt), *written.messages]
        _mark_last_text(out)
        out.append(LlmMessage(role=LlmRole.USER, blocks=(TextBlock(text=self._tail(projection)),)))
        return request_for(projection, tuple(out), tuple(written.attachments))

    def _opening(self, prompt: str) -> tuple[LlmMessage, ...]:
        blocks = (TextBlock(text=prompt),)
        if not prompt.strip():
            self._prompt = ()
        elif not self._prompt or self._prompt[0].blocks != blocks:
            self._prompt = (LlmMessage(role=LlmRole.SYSTEM, blocks=blocks),)
        return self._prompt

    def _tail(self, projection: Projection) -> str:
        options = projection.config.termination
        required = isinstance(options, FinishRequired)
        limit = projection.config.max_turns
        step = projection.protocol_iteration - self._run_offset + 1
        return volatile_tail(
            step=step,
            max_steps=limit,
            last_reply=limit is not None and step > limit,
            value_required=required,
            schema=options.schema if isinstance(options, FinishRequired) else None,
            causes=projection.turn_causes,
            blocks=self._blocks,
            form=self.form,
        )

    def _history(self, messages: MessageSequence, active: frozenset[str]) -> WrittenHistory:
        """As it was written before, and what came since; from the start when it is not a continuation."""
        # Nothing half-written is kept: until the end there is none.
        written, self._written = self._written, WrittenHistory()
        if written.active != active or messages.shared_with(written.source) < len(written.source):
            written = WrittenHistory(active=active)
        begun = len(written.source)
        new, index = messages[begun:], 0
        while index < len(new):
            message = new[index]
            if not self.takes_results(message):
                self._write_plain(message, written)
                index += 1
                continue
            end, answers, others = _answered(new, index)
            step = HistoryStep(message=message, answers=answers)
            if end is None:
                # What it waits for may still come: this is written on a copy, and what was before is kept.
                written.source = messages.first(begun + index)
                self._written, written = written, written.copy()
                self._write_step(step, others, written)
                return written
            self._write_step(step, others, written)
            index = end
        written.source = messages
        self._written = written
        return written

    def _write_step(self, step: HistoryStep, others: Iterable[Message], written: WrittenHistory) -> None:
        self.write_step(step, written)
        for message in others:
            self._write_plain(message, written)

    def _write_plain(self, message: Message, written: WrittenHistory) -> None:
        if message.role is not MessageRole.EVENT or message.id not in written.active:
            self.write_message(message, written)

    def noted(self, message: Message) -> Message:
        """A System message as it stands in the history: several providers refuse or move one in mid-conversation."""
        parts = joined(text_part(part, runtime_note(part.content)) for part in message.parts)
        return replace(message, role=MessageRole.USER, parts=parts)

    def seen(self, part: Part) -> Part:
        """The part, or what is said of an attachment to a model that cannot see it."""
        if part.kind is not PartKind.ATTACHMENT or self._vision or part.attachment is None:
            return part
        kind = media_type(part.attachment.source)
        return Part(id=part.id, kind=PartKind.TEXT, content=f"[{kind}: not shown, this model cannot see it]")


def _answered(messages: Sequence[Message], index: int) -> tuple[int | None, tuple[Message, ...], list[Message]]:
    """Where the step at `index` ends (None: it may still go on), what answers it, and what else was said meanwhile."""
    waits = {part.tool_call_id for part in _asking(messages[index])}
    answers: list[Message] = []
    others: list[Message] = []
    for place in range(index + 1, len(messages)):
        if not waits:
            return place, tuple(answers), others
        message = messages[place]
        if message.role is MessageRole.ASSISTANT:
            return place, tuple(answers), others
        found = waits & _answers(message)
        waits -= found
        (answers if found else others).append(message)
    return None if waits else len(messages), tuple(answers), others


def _asking(message: Message) -> tuple[Part, ...]:
    return tuple(part for part in message.parts if part.kind in (PartKind.TOOL_CALL, PartKind.CODE))


def _answers(message: Message) -> set[str | None]:
    """The calls that a message answers; None stands for the cell of a reply, which has no id."""
    if message.role is not MessageRole.USER:
        return set()
    found: set[str | None] = {part.tool_call_id for part in message.parts if part.kind is PartKind.TOOL_RESULT}
    return found or ({None} if message.origin == CODE_ORIGIN else set())


# -- wording -----------------------------------------------------------------------------------------------------------


def headed(parts: Sequence[Part], *, history: str = "") -> Iterable[Part]:
    """The parts of an observation with their headings, data fenced; `history` names its cell, as in `history[3]`."""
    output = 0
    for part in parts:
        match part.kind:
            case PartKind.OUTPUT if not part.content.strip():
                yield text_part(part, f"{history} {_NO_OUTPUT}".lstrip())
            case PartKind.OUTPUT:
                chars, lines = len(part.content), part.content.count("\n") + 1
                counts = f"{chars:,} char{'s' * (chars != 1)}, {lines:,} line{'s' * (lines != 1)}"
                head = f"{history}.output[{output}] ({counts})".lstrip(".")
                output += 1
                yield text_part(part, f"{head}\n{fenced(part.content)}")
            case PartKind.ERROR:
                label, _, evidence = part.content.partition("\n")
                yield text_part(part, f"Error:\n{label}" + (f"\n{fenced(evidence)}" if evidence.strip() else ""))
            case PartKind.TEXT:
                yield text_part(part, f"Final output:\n{fenced(part.content)}")
            case _:
                yield part


def text_part(part: Part, content: str) -> Part:
    """The part as a text; one that was pruned is left as it is, for the machine's own rendering."""
    if part.prune_state is not PruneMark.INTACT:
        return replace(part, kind=PartKind.TEXT)
    return Part(id=part.id, kind=PartKind.TEXT, content=content)


def joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Neighbouring texts as one: what joins blocks on the way to a provider must not decide where lines begin."""
    out: list[Part] = []
    for part in parts:
        plain = _is_plain(part)
        if plain and not part.content.strip():
            continue
        if plain and out and _is_plain(out[-1]):
            out[-1] = replace(out[-1], content=f"{out[-1].content}\n\n{part.content}")
        else:
            out.append(part)
    return tuple(out)


def _is_plain(part: Part) -> bool:
    """A text of which nothing is lost when it is joined with another."""
    return part.kind is PartKind.TEXT and part.prune_state is PruneMark.INTACT and part.response_meta is None


def _mark_last_text(messages: list[LlmMessage]) -> None:
    """Put the cache breakpoint on the last text block there is."""
    for index in range(len(messages) - 1, -1, -1):
        blocks = messages[index].blocks
        for place in range(len(blocks) - 1, -1, -1):
            block = blocks[place]
            if isinstance(block, TextBlock):
                marked = (*blocks[:place], replace(block, cache_breakpoint=True), *blocks[place + 1 :])
                messages[index] = replace(messages[index], blocks=marked)
                return
