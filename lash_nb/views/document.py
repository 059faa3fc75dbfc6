"""A picture as a document: flat blocks of plain data, in order, which the live view's frontend draws.

Decided here: which blocks there are, what each holds, how much of a long text, and what of it is HTML. A field called
`html` is made by this package, out of text that it escaped or markup that it rewrote; `srcdoc` is for a frame without
scripts; every other field is text, whatever stands in it. Pure: the same picture and facts give the same document.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from ..machine.approvals import Approval, EffectKind, Wish
from ..machine.attachments import AttachmentStore
from ..machine.execution import CellOutput, DisplayOutput, ResultOutput, StreamOutput
from ..machine.picture import NoteKind, Phase, StepPicture, ToolCallPicture, TurnPicture
from ..machine.wire import Json
from .html import (
    answer_html,
    footer_text,
    note_text,
    other_errors,
    step_calls,
    step_status,
    tool_call_text,
    worth_a_look,
)
from .markup import safe_markup
from .pieces import ImagePiece, MarkupPiece, Piece, clean, cut, left_out, pieces
from .prose import prose_html

__all__ = ["Document", "Facts", "Fields", "Memo", "document", "variable_key", "visible"]

Fields: TypeAlias = dict[str, Json]
"""Of one block: `kind`, `in` (the id of the block that holds it, or empty), and what its kind has."""

Document: TypeAlias = dict[str, Fields]
"""Blocks by id, in order; one that holds others comes before them."""

_HEAD_CHARS, _TAIL_CHARS = 7_000, 3_000
_SHOWN_VARIABLES = 6
_MOST_VARIABLES = 200
_FRAME_CHARS = 200_000
_SENTENCE_CHARS = 200
"""What is asked about stands in the question itself up to this length."""
_MOST_MARKS = 8
"""On one letter; more would be painted over what stands around, and no line can be broken between them."""
_FRAME_HEAD = (
    '<!doctype html><html><head><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="default-src '
    "'none'; img-src data:; style-src 'unsafe-inline'\"><style>html{color-scheme:light}body{background:#fff;"
    "color:#111;font:13px sans-serif;margin:6px}</style></head><body>"
)
_NOUNS = {
    EffectKind.WRITE: "path",
    EffectKind.DELETE: "path",
    EffectKind.PROCESS: "command",
    EffectKind.CONNECT: "host",
}
_SCRIPT = re.compile(r"<script\b.*?(?:</script\s*>|\Z)", re.DOTALL | re.IGNORECASE)
_HIDDEN = frozenset({"Cc", "Cf", "Co", "Cs", "Zl", "Zp"})
_MARKS = frozenset({"Mn", "Me"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What is shown and is not in the picture."""

    stopping: bool = False
    decided: str = ""
    """The id of the approval that was just answered here."""
    waiting: tuple[str, ...] = ()
    """What was said here and is not delivered."""
    told: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """How inserting and pulling went, by the id of the block."""
    can_decide: bool = True
    can_say: bool = True
    can_insert: bool = False
    can_pull: bool = False
    store: AttachmentStore | None = None
    """Asked for images that were too large to keep inline."""


Memo: TypeAlias = dict[int, tuple[StepPicture, object, Document]]
"""What was made of steps before; a step that did not change is not made again."""


def document(picture: TurnPicture, facts: Facts | None = None, *, memo: Memo | None = None) -> Document:
    """The blocks of a picture. `memo` is written to: one for each turn."""
    facts = facts or Facts()
    made: Document = {"head": _head(picture, facts)}
    made.update(_notes(picture, after=0))
    for number, step in enumerate(picture.steps, start=1):
        made.update(_step_known(picture, step, number, facts, {} if memo is None else memo))
        made.update(_notes(picture, after=number))
    if picture.pending is not None:
        made["ask"] = _ask(picture.pending, facts)
    if not picture.goes_on and (answer := answer_html(picture)):
        made["answer"] = {"kind": "answer", "in": "", "html": answer}
    for number, error in enumerate(other_errors(picture)):
        made[f"e{number}"] = {"kind": "error", "in": "", **_texts(error)}
    if picture.goes_on:
        for number, said in enumerate(facts.waiting):
            made[f"w{number}"] = {"kind": "waiting", "in": "", **_texts(said)}
    made.update(_variables(picture, facts))
    return made


def visible(text: str) -> str:
    """The text with every character that cannot be seen, or is one mark too many, as an escape; lines and tabs stay."""
    if _plain(text):
        return text
    seen, marks = [], 0
    for char in text.replace("\r\n", "\n"):
        category = unicodedata.category(char)
        marks = marks + 1 if category in _MARKS else 0
        hidden = category in _HIDDEN or _selects(char) or marks > _MOST_MARKS
        seen.append(_escape(char) if hidden and char not in "\n\t" else char)
    return "".join(seen)


def variable_key(name: str) -> str:
    """The id of a variable's block."""
    return f"v.{visible(name)}"


def _plain(text: str) -> bool:
    return text.isascii() and text.replace("\n", "").replace("\t", "").isprintable()


def _selects(char: str) -> bool:
    """Whether it selects a variant: a mark that is drawn with nothing; whole texts have been hidden in them."""
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0100" <= char <= "\U000e01ef"


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


# -- head, notes, variables --------------------------------------------------------------------------------------------


def _head(picture: TurnPicture, facts: Facts) -> Fields:
    sentence = cut(clean(picture.sentence))
    usage = footer_text(picture).removeprefix(sentence).removeprefix(" · ")
    running = picture.goes_on
    stopping = facts.stopping and running
    shown = "stopping" if stopping else sentence
    can = {"running": running, "stopping": stopping, "say": running and facts.can_say}
    return {"kind": "head", "in": "", "sentence": shown, "usage": usage, **can}


def _notes(picture: TurnPicture, *, after: int) -> Iterator[tuple[str, Fields]]:
    for number, note in enumerate(picture.notes):
        # A note behind a step that a failed attempt took back stands at the end.
        place = min(note.after, len(picture.steps))
        if place == after and note.kind is not NoteKind.RETRY:
            yield f"n{number}", {"kind": "note", "in": "", **_texts(note_text(note))}


def _variables(picture: TurnPicture, facts: Facts) -> Iterator[tuple[str, Fields]]:
    if not picture.variables:
        return
    more = len(picture.variables) - _MOST_VARIABLES
    count = len(picture.variables)
    # A long list is not to push the answer away.
    yield "vars", {"kind": "vars", "in": "", "count": count, "open": count <= _SHOWN_VARIABLES, "more": max(more, 0)}
    for variable in picture.variables[:_MOST_VARIABLES]:
        key = variable_key(variable.name)
        yield (
            key,
            {
                "kind": "var",
                "in": "vars",
                "name": cut(visible(variable.name), head_chars=200, tail_chars=50),
                "type": cut(visible(variable.type), head_chars=200, tail_chars=50),
                "detail": cut(visible(variable.detail), head_chars=400, tail_chars=100),
                "new": variable.new,
                "pull": facts.can_pull,
                "told": clean(facts.told.get(key, "")),
            },
        )


def _ask(approval: Approval, facts: Facts) -> Fields:
    code = visible(approval.code) if approval.wish is None else ""
    raw = approval.code.encode("utf-8", "replace").decode() if approval.wish is None else ""
    return {
        "kind": "ask",
        "in": "",
        "approval": approval.id,
        **_asked_about(approval),
        "of_cell": approval.wish is None,
        **_covered(approval.wish),
        "language": approval.language,
        "code": code,
        # Only where it differs: what is edited is the code itself.
        "raw": raw if raw != code else None,
        "here": facts.can_decide,
        "decided": facts.decided == approval.id,
    }


def _asked_about(approval: Approval) -> Fields:
    """The question, and apart from it what is too long for a sentence: in short and whole."""
    wish = approval.wish
    target = visible(wish.target) if wish is not None else ""
    if wish is None or (len(target) <= _SENTENCE_CHARS and "\n" not in target):
        return {"question": visible(approval.question), "target": "", "brief": ""}
    what = "make this call" if wish.kind is EffectKind.CALL else f"{wish.kind} this {_NOUNS[wish.kind]}"
    who = "The agent" if approval.call_id else "The agent's code"
    question = f"{who} wants to {what} ({len(wish.target):,} characters):"
    return {"question": question, "target": target, "brief": cut(target, head_chars=150, tail_chars=50)}


def _covered(wish: Wish | None) -> Fields:
    """What a decision covers beyond the one effect, and whether there is a button for more of its kind."""
    if wish is None:
        return {"alike": False, "covers": ""}
    if wish.kind is EffectKind.CONNECT:
        # What is allowed of a host is all of it.
        host = _in_a_sentence(wish.host)
        return {"alike": False, "covers": f"“Approve” is for {host} on every port, as long as this session lasts."}
    if wish.alike is None:
        return {"alike": False, "covers": ""}
    more = f"lets this turn also {wish.kind} {_in_a_sentence(wish.alike)}."
    return {"alike": True, "covers": f"“Approve all like it” {more}"}


def _in_a_sentence(text: str) -> str:
    return cut(visible(text), head_chars=150, tail_chars=50)


# -- steps -------------------------------------------------------------------------------------------------------------


def _step_known(picture: TurnPicture, step: StepPicture, number: int, facts: Facts, memo: Memo) -> Document:
    last = number == len(picture.steps)
    running = picture.goes_on
    asked = picture.pending is not None and picture.pending.wish is None and last and step.effect_id is None
    writing = running and last and picture.phase is Phase.ANSWERING and not step.draft and step.code is None
    told = facts.told.get(f"s{number}.c", "")
    state = (running, asked, writing, told, facts.can_insert, picture.protocol)
    before = memo.get(number)
    if before is not None and before[0] is step and before[1] == state:
        return before[2]
    made: Document = {f"s{number}": {"kind": "step", "in": "", "number": number}}
    made |= _words(step, f"s{number}", writing=writing)
    own, of_cell = step_calls(step)
    made |= _calls(own, f"s{number}", "m", running=running, gave=True)
    if step.source is not None:
        if not asked:  # then the question has the code
            made[f"s{number}.c"] = {
                "kind": "code",
                "in": f"s{number}",
                "language": step.language,
                "open": picture.protocol == "snippet" or (running and step.outcome is None),
                "insert": facts.can_insert and step.code is not None,
                "told": clean(told),
                **_texts(step.source.strip("\n")),
            }
        status = "" if running and step.outcome is None else step_status(step)
        made |= _outputs(step, f"s{number}", status=status, store=facts.store)
    made |= _calls(of_cell, f"s{number}", "k", running=running)
    memo[number] = (step, state, made)
    return made


def _words(step: StepPicture, key: str, *, writing: bool) -> Document:
    made: Document = {}
    for name, kind, text in (("t", "thought", step.reasoning), ("p", "prose", step.prose)):
        if not text.strip():
            continue
        growing = writing and (kind == "prose" or not step.said)
        shown = _texts(text) if growing else {"html": prose_html(cut(text))}
        made[f"{key}.{name}"] = {"kind": kind, "in": key, **shown}
    return made


def _calls(calls: Sequence[ToolCallPicture], key: str, group: str, *, running: bool, gave: bool = False) -> Document:
    if not calls:
        return {}
    made: Document = {f"{key}.{group}": {"kind": "calls", "in": key}}
    for number, call in enumerate(calls):
        state = {None: "running" if running else "", True: "done", False: "failed"}[call.succeeded]
        block: Fields = {
            "kind": "call",
            "in": f"{key}.{group}",
            "state": state,
            "head": tool_call_text(call, gave=gave),
        }
        made[f"{key}.{group}{number}"] = block
    return made


def _outputs(step: StepPicture, key: str, *, status: str, store: AttachmentStore | None) -> Document:
    blocks: list[Fields] = []
    shown: list[Piece] = []
    for output in step.outputs:
        for piece in pieces((output,), store=store):
            shown.append(piece)
            blocks.append(_output(output, piece))
    if not blocks and not status and not step.detail:
        return {}
    framed = any(block["kind"] == "frame" for block in blocks)
    is_open = (framed or worth_a_look(shown)) and not status
    summary = f"Output: {status}" if status else "Output"
    head: Fields = {"kind": "output", "in": key, "summary": summary, "open": is_open, "detail": clean(step.detail)}
    made: Document = {f"{key}.o": {**head, "empty": not blocks}}
    for number, block in enumerate(blocks):
        made[f"{key}.o{number}"] = {"in": f"{key}.o", **block}
    return made


def _output(output: CellOutput, piece: Piece) -> Fields:
    if isinstance(piece, ImagePiece):
        return {"kind": "image", "src": f"data:{piece.media_type};base64,{piece.data}", "alt": piece.label}
    if isinstance(piece, MarkupPiece):
        return {"kind": "markup", "html": piece.markup}
    if isinstance(output, StreamOutput):
        return {"kind": "text", "name": piece.name, **_stream_texts(output)}
    if isinstance(output, DisplayOutput | ResultOutput) and (frame := _frame(output.data)):
        return frame
    return {"kind": "text", "name": piece.name, "head": piece.text.rstrip("\n"), "gap": "", "tail": ""}


def _frame(data: Mapping[str, Json]) -> Fields | None:
    """HTML that is not shown as our own, when there is something to see without its scripts."""
    source = data.get("text/html")
    if isinstance(source, list | tuple):
        source = "".join(line for line in source if isinstance(line, str))
    if not isinstance(source, str) or not 0 < len(source) <= _FRAME_CHARS:
        return None
    safe = safe_markup(source)
    if not safe.text and "<svg" not in source and "data:image/" not in source:
        return None
    rows = safe.text.count("\n") + 1
    # They would not run anyhow: this saves the bytes, and a complaint in the console for each.
    source = _SCRIPT.sub("", clean(source))
    return {"kind": "frame", "srcdoc": _FRAME_HEAD + source, "height": min(60 + 24 * rows, 400)}


# -- texts -------------------------------------------------------------------------------------------------------------


def _texts(text: str) -> Fields:
    """A text that may be long or grow: its head, what is left out, and its tail."""
    missing = len(text) - _HEAD_CHARS - _TAIL_CHARS
    if missing <= 0:
        return {"head": clean(text), "gap": "", "tail": ""}
    tail_at = len(text) - _TAIL_CHARS
    gap = left_out(missing, text.count("\n", _HEAD_CHARS, tail_at))
    return {"head": clean(text[:_HEAD_CHARS]), "gap": gap, "tail": clean(text[tail_at:])}


def _stream_texts(output: StreamOutput) -> Fields:
    if not output.omitted_chars:
        return _texts(output.head)
    head, tail = output.head[:_HEAD_CHARS], output.tail[-_TAIL_CHARS:]
    dropped: Sequence[str] = (output.head[len(head) :], output.tail[: len(output.tail) - len(tail)])
    chars = output.omitted_chars + sum(map(len, dropped))
    gap = left_out(chars, output.omitted_lines + sum(text.count("\n") for text in dropped))
    return {"head": clean(head), "gap": gap, "tail": clean(tail)}
