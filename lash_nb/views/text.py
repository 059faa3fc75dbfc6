"""The static bundle: what a turn leaves in the notebook, readable wherever it is shown.

Decided here: the plain and the Markdown form, and which MIME types the bundle has. Plain text is complete on its own;
images are named in it. No durations, dates or ids, and no terminal codes: two replays of a notebook give the same text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..machine.attachments import AttachmentStore
from ..machine.picture import Note, NoteKind, StepPicture, ToolCallPicture, TurnPicture
from ..machine.wire import Json
from .html import (
    footer_text,
    kept_parts,
    other_errors,
    picture_html,
    step_calls,
    step_status,
    tool_call_text,
    waiting_code,
    waiting_text,
)
from .pieces import ImagePiece, Piece, TextPiece, clean, cut, pieces, value_text
from .prose import fenced, inert_markdown

__all__ = ["figures", "picture_markdown", "picture_text", "static_bundle"]


def static_bundle(
    picture: TurnPicture,
    *,
    store: AttachmentStore | None = None,
    images: bool = True,
    with_request: bool = False,
) -> dict[str, Json]:
    """The turn as text/plain, text/markdown and text/html.

    `store` is asked for images that were too large to keep inline. Without `images` the HTML names them only, for when
    `figures` are displayed beside the bundle. The request is left out unless `with_request`: it stands in the cell.
    """
    return {
        "text/html": picture_html(picture, store=store, images=images, with_request=with_request),
        "text/markdown": picture_markdown(picture, with_request=with_request),
        "text/plain": picture_text(picture, with_request=with_request),
    }


def figures(picture: TurnPicture, *, store: AttachmentStore | None = None) -> tuple[dict[str, Json], ...]:
    """The images of the turn as bundles of their own, in order: the native form that every tool knows.

    SVG is not among them: it may hold script, so it is shown only as an image within the HTML.
    """
    found: list[dict[str, Json]] = []
    for number, step in enumerate(picture.steps, start=1):
        for piece in pieces(step.outputs, store=store):
            if isinstance(piece, ImagePiece) and piece.media_type != "image/svg+xml":
                found.append({piece.media_type: piece.data, "text/plain": f"Image of step {number} ({piece.label})"})
    return tuple(found)


# -- plain text --------------------------------------------------------------------------------------------------------


def picture_text(picture: TurnPicture, *, with_request: bool = False) -> str:
    """The turn as plain text."""
    parts: list[str] = []
    if with_request and picture.request:
        parts.append(f"Request:\n{_indented(clean(picture.request))}")
    parts.extend(_notes_text(picture, after=0))
    for number, step in enumerate(picture.steps, start=1):
        parts.extend(_step_text(step, number))
        parts.extend(_notes_text(picture, after=number))
    if picture.pending is not None:
        code = waiting_code(picture)
        parts.append(f"{waiting_text(picture)}\n{_indented(code)}" if code else waiting_text(picture))
    if picture.answer is not None and picture.answer.strip():
        answer = clean(picture.answer).strip()
        parts.extend([_title("Answer"), answer] if picture.steps else [answer])
    if picture.value is not None:
        parts.extend([_title("Result"), value_text(picture.value.value)])
    parts.extend(f"Error: {clean(error)}" for error in other_errors(picture))
    parts.append(f"[{footer_text(picture)}]")
    return "\n\n".join(parts)


def _title(text: str) -> str:
    return f"── {text} ──"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.strip("\n").split("\n"))


def _notes(picture: TurnPicture, *, after: int) -> Iterator[Note]:
    return (note for note in picture.notes if note.after == after and note.kind is not NoteKind.RETRY)


def _notes_text(picture: TurnPicture, *, after: int) -> Iterator[str]:
    for note in _notes(picture, after=after):
        text, diff = kept_parts(note)
        yield f"{clean(text)}\n{_indented(clean(diff))}" if diff else clean(text)


def _notes_markdown(picture: TurnPicture, *, after: int) -> Iterator[str]:
    for note in _notes(picture, after=after):
        text, diff = kept_parts(note)
        yield f"*{_literal(text)}*"
        if diff:
            yield fenced(clean(diff), language="diff")


def _step_text(step: StepPicture, number: int) -> Iterator[str]:
    yield _title(f"Step {number}")
    if step.prose.strip():
        yield clean(step.prose).strip()
    own, of_cell = step_calls(step)
    yield from _calls_text(own, "Calls", gave=True)
    if step.source is not None:
        yield f"Code:\n{_indented(clean(step.source))}"
        status = step_status(step)
        texts = [_indented(_piece_text(piece)) for piece in pieces(step.outputs)]
        if texts:
            yield "\n".join([f"Output ({status}):" if status else "Output:", *texts])
        elif status:
            yield f"Output: {status}"
        if step.detail:
            yield cut(clean(step.detail))
    yield from _calls_text(of_cell, "Calls of the cell")


def _calls_text(calls: Sequence[ToolCallPicture], title: str, *, gave: bool = False) -> Iterator[str]:
    if calls:
        yield "\n".join([f"{title}:", *(f"    {tool_call_text(call, gave=gave)}" for call in calls)])


def _piece_text(piece: Piece) -> str:
    return f"[{piece.label}]" if isinstance(piece, ImagePiece) else piece.text


# -- Markdown ----------------------------------------------------------------------------------------------------------


def picture_markdown(picture: TurnPicture, *, with_request: bool = False) -> str:
    """The turn as Markdown without HTML and without images."""
    parts: list[str] = []
    if with_request and picture.request:
        parts.extend(["#### Request", fenced(clean(picture.request))])
    parts.extend(_notes_markdown(picture, after=0))
    for number, step in enumerate(picture.steps, start=1):
        parts.extend(_step_markdown(step, number))
        parts.extend(_notes_markdown(picture, after=number))
    if picture.pending is not None:
        code = waiting_code(picture)
        language = picture.pending.language
        parts.extend([f"**{_literal(waiting_text(picture))}**", *([fenced(code, language=language)] if code else [])])
    if picture.answer is not None and picture.answer.strip():
        answer = inert_markdown(picture.answer)
        parts.extend(["#### Answer", answer] if picture.steps else [answer])
    if picture.value is not None:
        parts.extend(["#### Result", fenced(value_text(picture.value.value))])
    parts.extend(f"**Error:** {_literal(error)}" for error in other_errors(picture))
    parts.append(f"*{_literal(footer_text(picture))}*")
    return "\n\n".join(parts)


def _step_markdown(step: StepPicture, number: int) -> Iterator[str]:
    yield f"#### Step {number}"
    if step.prose.strip():
        yield inert_markdown(step.prose)
    own, of_cell = step_calls(step)
    yield from _calls_markdown(own, "Calls", gave=True)
    if step.source is not None:
        yield fenced(clean(step.source).strip("\n"), language=step.language)
        status = step_status(step)
        shown = pieces(step.outputs)
        if shown or status:
            yield f"Output ({status}):" if status else "Output:"
        for piece in shown:
            yield fenced(piece.text.strip("\n")) if isinstance(piece, TextPiece) else _rich_markdown(piece)
        if step.detail:
            yield _literal(cut(step.detail))
    yield from _calls_markdown(of_cell, "Calls of the cell")


def _calls_markdown(calls: Sequence[ToolCallPicture], title: str, *, gave: bool = False) -> Iterator[str]:
    if calls:
        yield f"{title}:"
        yield "\n".join(f"- {_literal(tool_call_text(call, gave=gave))}" for call in calls)


def _rich_markdown(piece: Piece) -> str:
    return f"`[{piece.label}]`" if isinstance(piece, ImagePiece) else fenced(piece.text.strip("\n"))


_MARKS = str.maketrans(
    {mark: f"\\{mark}" for mark in "\\`*_[]#|~$!"} | {"<": "&lt;", ">": "&gt;", "&": "&amp;", "\n": " "}
)


def _literal(text: str) -> str:
    """Text that a Markdown reader shows as it is."""
    return clean(text).translate(_MARKS)
