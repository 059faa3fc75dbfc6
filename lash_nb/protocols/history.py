"""What the model sees under the code protocol: prompt, history in emission form, and one last message for the moment.

Decided here: how each message is written. A past step stands exactly as the model must write one (prose, then the cell
between its lines), followed by a User message with what came of it; every output has a heading and a data fence that
its content cannot close. Nothing of the history depends on the iteration, so each request repeats the last one's
prefix; whatever does (steps left, events, the host's blocks) is in the one last User message, and the cache breakpoint
is on the last text before it. A projector writes each message once: its next request holds the same objects, and costs
what is new. Pure; the host's blocks are config, never in a TurnCheckpoint.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ..machine.attachments import AttachmentSource, ExternalUrl, InlineAttachment, ProviderFile, StoredAttachment
from ..machine.llm import LlmMessage, LlmRequest, LlmRole, TextBlock
from ..machine.messages import AppendOnly, Message, MessageRole, MessageSequence, Part, PartKind, PruneMark
from ..machine.projector import Projection, render_message, request_for
from .grammar import Grammar, render_cell
from .prompt import fenced, runtime_note, volatile_tail
from .records import CODE_ORIGIN
from .termination import FinishRequired

__all__ = ["CodeProjector"]

_NO_OUTPUT = "(no printed output)"


class CodeProjector:
    """Makes the model requests of a conversation that the code protocol leads."""

    def __init__(self, *, grammar: Grammar = "tags", vision: bool = True, run_offset: int = 0) -> None:
        self._grammar = grammar
        self._vision = vision
        self._run_offset = run_offset
        self._blocks: tuple[str, ...] = ()
        self._written = _Written()
        self._prompt: tuple[LlmMessage, ...] = ()

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
        )

    def _history(self, messages: MessageSequence, active: frozenset[str]) -> _Written:
        """As it was written before, and what came since; from the start when it is not a continuation."""
        # Nothing half-written is kept: until the end there is none.
        written, self._written = self._written, _Written()
        if written.active != active or messages.shared_with(written.source) < len(written.source):
            written = _Written(active=active)
        for message in messages[len(written.source) :]:
            if message.role is MessageRole.EVENT and message.id in active:
                continue
            code = message.role is MessageRole.ASSISTANT and any(part.kind is PartKind.CODE for part in message.parts)
            written.cells += code
            rendered = render_message(self._in_emission_form(message, written.cells - 1), written.attachments)
            if rendered is not None:
                written.messages.append(rendered)
        written.source = messages
        self._written = written
        return written

    def _in_emission_form(self, message: Message, cell: int) -> Message:
        """The message with its texts as the model is to see them; `cell` numbers the last cell of the conversation."""
        match message.role:
            case MessageRole.ASSISTANT:
                parts = _joined(self._said(part) for part in message.parts)
            case MessageRole.SYSTEM:
                # A System message in mid-conversation is refused or moved by several providers.
                noted = (_text(part, runtime_note(part.content)) for part in message.parts)
                return replace(message, role=MessageRole.USER, parts=_joined(noted))
            case MessageRole.USER if message.origin == CODE_ORIGIN:
                parts = _joined(self._seen(part) for part in _headed(message.parts, cell))
            case _:
                parts = tuple(self._seen(part) for part in message.parts)
        return replace(message, parts=parts)

    def _said(self, part: Part) -> Part:
        if part.kind is PartKind.CODE:
            return _text(part, render_cell(part.content, self._grammar))
        return _text(part, part.content) if part.kind in (PartKind.PROSE, PartKind.TEXT) else part

    def _seen(self, part: Part) -> Part:
        if part.kind is not PartKind.ATTACHMENT or self._vision or part.attachment is None:
            return part
        kind = _media_type(part.attachment.source)
        return Part(id=part.id, kind=PartKind.TEXT, content=f"[{kind}: not shown, this model cannot see it]")


class _Written:
    """A history as the model sees it, as far as it was written."""

    def __init__(self, *, active: frozenset[str] = frozenset()) -> None:
        self.active = active
        """Ids of the causes that the last message tells of."""
        self.source: MessageSequence = AppendOnly()
        """What it was written from."""
        self.messages: list[LlmMessage] = []
        self.attachments: list[AttachmentSource] = []
        self.cells = 0


def _headed(parts: Sequence[Part], cell: int) -> Iterable[Part]:
    """The parts of an observation with their headings, data fenced."""
    output = 0
    for part in parts:
        match part.kind:
            case PartKind.OUTPUT if not part.content.strip():
                yield _text(part, f"history[{cell}] {_NO_OUTPUT}")
            case PartKind.OUTPUT:
                chars, lines = len(part.content), part.content.count("\n") + 1
                counts = f"{chars:,} char{'s' * (chars != 1)}, {lines:,} line{'s' * (lines != 1)}"
                head = f"history[{cell}].output[{output}] ({counts})"
                output += 1
                yield _text(part, f"{head}\n{fenced(part.content)}")
            case PartKind.ERROR:
                label, _, evidence = part.content.partition("\n")
                yield _text(part, f"Error:\n{label}" + (f"\n{fenced(evidence)}" if evidence.strip() else ""))
            case PartKind.TEXT:
                yield _text(part, f"Final output:\n{fenced(part.content)}")
            case _:
                yield part


def _text(part: Part, content: str) -> Part:
    """The part as a text; one that was pruned is left as it is, for the machine's own rendering."""
    if part.prune_state is not PruneMark.INTACT:
        return replace(part, kind=PartKind.TEXT)
    return Part(id=part.id, kind=PartKind.TEXT, content=content)


def _joined(parts: Iterable[Part]) -> tuple[Part, ...]:
    """Neighbouring texts as one: what joins blocks on the way to a provider must not decide where lines begin."""
    out: list[Part] = []
    for part in parts:
        plain = part.kind is PartKind.TEXT and part.prune_state is PruneMark.INTACT
        if plain and not part.content.strip():
            continue
        if plain and out and out[-1].kind is PartKind.TEXT and out[-1].prune_state is PruneMark.INTACT:
            out[-1] = replace(out[-1], content=f"{out[-1].content}\n\n{part.content}")
        else:
            out.append(part)
    return tuple(out)


def _media_type(source: AttachmentSource) -> str:
    match source:
        case StoredAttachment():
            return source.attachment_ref.media_type
        case InlineAttachment() | ExternalUrl():
            return source.media_type
        case ProviderFile():
            return "file"


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
