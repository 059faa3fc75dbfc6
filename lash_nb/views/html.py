"""A picture as HTML without script: what the static bundle and the live widget show.

Decided here: headings for steps and answer, `<details>` for code and outputs, which of them stand open. No colours and
no fonts of our own, so the page's theme, light or dark, holds. Everything is escaped or made safe (`prose`, `markup`);
images are data URIs. No durations, dates or ids: two replays give the same bytes.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Sequence

from ..machine.attachments import AttachmentStore
from ..machine.execution import CellOutcome
from ..machine.picture import Note, NoteKind, StepPicture, ToolCallPicture, TurnPicture
from ..machine.wire import Json
from .pieces import ImagePiece, MarkupPiece, Piece, clean, cut, pieces, value_text
from .prose import prose_html

__all__ = [
    "answer_html",
    "dollars_text",
    "footer_text",
    "kept_parts",
    "note_text",
    "notes_html",
    "other_errors",
    "picture_html",
    "step_calls",
    "step_html",
    "step_status",
    "tool_call_text",
    "waiting_code",
    "waiting_text",
    "worth_a_look",
]

_OPEN_LINES = 20
"""Outputs of more lines than this are closed at first, unless there is something to look at."""

_BLANK_LINE = re.compile(r"\n(?=[ \t]*\n)")

_ENDS = {
    CellOutcome.ERROR: "an error",
    CellOutcome.INTERRUPTED: "interrupted",
    CellOutcome.TIMEOUT: "out of time",
    CellOutcome.DEAD: "the kernel died",
    CellOutcome.ABORTED: "not run",
    CellOutcome.LOST: "lost",
}


def step_status(step: StepPicture) -> str:
    """How the step's cell ended, when that was not well; empty otherwise."""
    if step.outcome is not None:
        return _ENDS.get(step.outcome, "")
    if step.source is None:
        return ""
    return "not run" if step.effect_id is None else "not ended"


def tool_call_text(call: ToolCallPicture, *, gave: bool = False) -> str:
    """One line about a tool call; `gave`: with what it gave, in short."""
    done = f"done, gave {call.result}" if gave and call.result else "done"
    how = {None: "not ended", True: done, False: f"failed: {call.problem}"}[call.succeeded]
    name = cut(call.name, head_chars=200, tail_chars=0)
    arguments = cut(_in_a_line(call.args), head_chars=300, tail_chars=100)
    return clean(" ".join(f"{name}({arguments}): {cut(how, head_chars=600, tail_chars=200)}".split()))


def _in_a_line(value: Json) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False)
    except RecursionError:
        return "[arguments nested too deeply to be shown]"


def step_calls(step: StepPicture) -> tuple[tuple[ToolCallPicture, ...], tuple[ToolCallPicture, ...]]:
    """The calls of a step that the model made itself, and those that its cell made."""
    # A cell that was not run by a call is that of a model that makes no calls.
    own = step.native_calls if step.call_id or step.source is None else ()
    return own, tuple(call for call in step.tool_calls if call not in own)


def footer_text(picture: TurnPicture) -> str:
    """State, number of cells that were run, tokens, price, model, and what changed beside variables: in one line."""
    parts = [cut(clean(picture.sentence))]
    count = sum(step.code is not None for step in picture.steps)
    if count:
        parts.append(f"{count} cell{'' if count == 1 else 's'}")
    usage = picture.usage + picture.child_usage
    if usage.total:
        read = usage.total - usage.output_tokens
        parts.append(f"{read:,} tokens in, {usage.output_tokens:,} out")
    if picture.dollars is not None:
        parts.append(f"about {dollars_text(picture.dollars)}")
    if picture.model:
        parts.append(cut(clean(picture.model), head_chars=200, tail_chars=0))
    if picture.changes and not picture.goes_on:
        parts.append(cut(clean(picture.changes).replace("\n", " "), head_chars=600, tail_chars=0))
    return " · ".join(parts)


def dollars_text(dollars: float) -> str:
    """An amount with two digits that count: `$1.50`, `$0.0042`."""
    if dollars >= 0.1 or not dollars:
        return f"${dollars:,.2f}"
    return f"${dollars:.{1 - math.floor(math.log10(dollars))}f}"


def picture_html(
    picture: TurnPicture, *, store: AttachmentStore | None = None, images: bool = True, with_request: bool = False
) -> str:
    """The whole turn; without `images`, a note stands where each would be (`text.figures` has them)."""
    parts: list[str] = []
    if with_request and picture.request:
        parts.append(f"<section><h4>Request</h4>{_pre(clean(picture.request))}</section>")
    parts.append(notes_html(picture.notes, after=0))
    for number, step in enumerate(picture.steps, start=1):
        running = picture.goes_on
        # A small model may be wrong without noticing: its code is to be seen without a click.
        is_open = picture.protocol == "snippet" or (picture.pending is not None and number == len(picture.steps))
        parts.append(step_html(step, number=number, store=store, images=images, running=running, open_code=is_open))
        parts.append(notes_html(picture.notes, after=number))
    parts.append(_waiting_html(picture))
    parts.append(answer_html(picture))
    parts.extend(f"<p><strong>Error:</strong> {_escaped(error)}</p>" for error in other_errors(picture))
    parts.append(f"<p><small>{_escaped(footer_text(picture))}</small></p>")
    # Words that are too long are broken: `anywhere` would break those of narrow cells, too.
    page = '<div style="overflow-wrap: break-word">\n' + "\n".join(part for part in parts if part) + "\n</div>"
    # Where HTML stands in Markdown (nbconvert writes it there), a blank line would end it.
    return _BLANK_LINE.sub("&#10;", page)


def other_errors(picture: TurnPicture) -> Sequence[str]:
    """The errors that the state's sentence does not tell already."""
    return [cut(error) for error in picture.errors if error != picture.why]


def waiting_text(picture: TurnPicture) -> str:
    """What the turn waits for, as a sentence; empty when it waits for nobody."""
    return f"Waiting for you: {cut(clean(picture.pending.question))}" if picture.pending is not None else ""


def waiting_code(picture: TurnPicture) -> str:
    """The code that is to be decided on, where no step shows it; empty otherwise."""
    pending = picture.pending
    if pending is None or (pending.call_id and pending.wish is not None and cut(pending.question) == pending.question):
        return ""  # the question has all of a call
    code = pending.code
    return "" if any(step.source == code for step in picture.steps[-1:]) else clean(code).strip("\n")


def step_html(
    step: StepPicture,
    *,
    number: int,
    store: AttachmentStore | None = None,
    images: bool = True,
    running: bool = False,
    open_code: bool = False,
) -> str:
    """One step: what was said, the code, what came of it. The code stands open while it runs, or with `open_code`."""
    parts = [f"<h4>Step {number}</h4>"]
    if step.reasoning.strip():
        parts.append(f"<details><summary>Reasoning</summary>{prose_html(cut(step.reasoning))}</details>")
    if step.prose.strip():
        # A long text that grows is sent again and again.
        parts.append(prose_html(cut(step.prose) if running else step.prose))
    own, of_cell = step_calls(step)
    parts.append(_calls_html(own, "Calls", gave=True))
    if step.source is not None:
        code = clean(step.source).strip("\n")
        lines = code.count("\n") + 1
        language = _escaped(cut(step.language, head_chars=40, tail_chars=0))
        summary = f"Code ({language}, {lines} line{'' if lines == 1 else 's'})"
        is_open = " open" if open_code or (running and step.outcome is None) else ""
        parts.append(f"<details{is_open}><summary>{summary}</summary>{_inset(_code(code))}</details>")
        parts.append(_outcome_html(step, number=number, store=store, images=images, running=running))
    parts.append(_calls_html(of_cell, "Calls of the cell"))
    return f'<section aria-label="Step {number}">' + "\n".join(part for part in parts if part) + "</section>"


def _calls_html(calls: Sequence[ToolCallPicture], title: str, *, gave: bool = False) -> str:
    listed = "".join(f"<li>{_escaped(tool_call_text(call, gave=gave))}</li>" for call in calls)
    return f"<p>{title}:</p><ul>{listed}</ul>" if calls else ""


def _outcome_html(step: StepPicture, *, number: int, store: AttachmentStore | None, images: bool, running: bool) -> str:
    shown = pieces(step.outputs, store=store)
    status = "" if running and step.outcome is None else step_status(step)
    summary = f"Output: {status}" if status else "Output"
    detail = f"<p>{_escaped(cut(step.detail))}</p>" if step.detail else ""
    if not shown:
        return f"<p><em>{summary}</em></p>{detail}" if status else detail
    body = "\n".join(_piece_html(piece, number=number, images=images) for piece in shown)
    is_open = " open" if worth_a_look(shown) and not status else ""
    return f"<details{is_open}><summary>{summary}</summary>{_inset(body)}</details>{detail}"


def worth_a_look(shown: Sequence[Piece]) -> bool:
    """Whether outputs stand open from the start."""
    if any(isinstance(piece, ImagePiece | MarkupPiece) for piece in shown):
        return True
    texts = [piece.text.rstrip("\n") for piece in shown if not isinstance(piece, ImagePiece)]
    return sum(text.count("\n") + 1 for text in texts) <= _OPEN_LINES


def _piece_html(piece: Piece, *, number: int, images: bool) -> str:
    if isinstance(piece, MarkupPiece):
        return f"<div>{piece.markup}</div>"
    if isinstance(piece, ImagePiece):
        label = html.escape(piece.label)
        if not images and piece.media_type != "image/svg+xml":
            return f"<p>[{label}, below]</p>"
        source = f"data:{piece.media_type};base64,{piece.data}"
        return f'<p><img src="{source}" alt="Image of step {number} ({label})" style="max-width: 100%"></p>'
    return _pre(piece.text.rstrip("\n"))


def answer_html(picture: TurnPicture) -> str:
    """The answer in words, the value that `finish` gave; empty when there is neither."""
    parts: list[str] = []
    if picture.answer is not None and picture.answer.strip():
        parts.append("<h4>Answer</h4>" if picture.steps else "")
        parts.append(prose_html(picture.answer))
    if picture.value is not None:
        parts.append(f"<h4>Result</h4>{_pre(value_text(picture.value.value))}")
    return f'<section aria-label="Answer">{"".join(parts)}</section>' if parts else ""


def _waiting_html(picture: TurnPicture) -> str:
    code = waiting_code(picture)
    shown = _inset(_code(code)) if code else ""
    return f"<p><strong>{_escaped(waiting_text(picture))}</strong></p>{shown}" if picture.pending is not None else ""


def notes_html(notes: Sequence[Note], *, after: int) -> str:
    """The notes that stand behind a step; what was only of interest while it happened is left out."""
    shown = [note for note in notes if note.after == after and note.kind is not NoteKind.RETRY]
    return "\n".join(map(_note_html, shown))


def _note_html(note: Note) -> str:
    text, diff = kept_parts(note)
    return f"<p><em>{_escaped(text)}</em></p>{_inset(_pre(clean(diff))) if diff else ''}"


def kept_parts(note: Note) -> tuple[str, str]:
    """A note's sentence, and what was changed in code that is kept."""
    if note.kind is not NoteKind.KEPT:
        return note_text(note), ""
    text, _, diff = note_text(note).partition("\n")
    return text, diff


def note_text(note: Note) -> str:
    """A note as a sentence."""
    text = cut(note.text)
    return f"You said: {text}" if note.kind is NoteKind.SAID else text


def _inset(body: str) -> str:
    """Under its summary; what is too wide scrolls by itself, also with the keyboard, not the whole turn."""
    return f'<div style="margin-left: 1.2em; overflow-x: auto" tabindex="0">{body}</div>'


def _code(code: str) -> str:
    return f"<pre><code>{html.escape(code)}</code></pre>"


def _pre(text: str) -> str:
    return f'<pre style="white-space: pre-wrap">{html.escape(text)}</pre>'


def _escaped(text: str) -> str:
    return html.escape(clean(text)).replace("\n", "<br>")
