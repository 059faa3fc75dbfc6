"""What of a call's output a model is shown.

Decided here: a success is its text, or its JSON around its attachments (`reference/turn-machine.md` 1.15); a failure
says of what kind it is and whether the same call may be made again. What is longer than the tool's policy allows is
kept whole in the store and shown cut in the middle, with how to read the rest; never within a long run of base64. Pure,
but for the store.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace

from ..errors import LashError
from ..machine.attachments import ATTACHMENT_SOURCE, AttachmentSource, AttachmentStore
from ..machine.tool_calls import (
    RESERVED_KEY,
    AttachmentReturn,
    ModelReturnPart,
    ModelToolReturn,
    PendingToolCall,
    RetryDisposition,
    RetryExhausted,
    RetryNever,
    RetrySafe,
    TextReturn,
    ToolCallOutput,
    ToolCancelled,
    ToolFailed,
    ToolSucceeded,
)
from ..machine.wire import Json, dumps
from ..trust import whole_text
from . import ToolPolicy
from .outcomes import MOST_CHARS, too_long

__all__ = ["bounded", "model_return"]

_FRONT_SHARE = 0.6
_BASE64_RUN = 128
"""Signs in a row that are taken for base64."""
_BASE64 = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=_-")

_Piece = str | AttachmentSource


def bounded(output: ToolCallOutput, *, policy: ToolPolicy, store: AttachmentStore | None) -> ToolCallOutput:
    """The output as a model can be shown it: what is longer than the policy allows is cut, and kept whole in the store.

    After redaction: a model can read what is stored here. Attachments stay.
    """
    match output.outcome:
        case ToolFailed(payload=failed) if len(failed.message) > policy.max_chars:
            message = _cut(failed.message, policy.max_chars, "")
            return replace(output, outcome=ToolFailed(payload=replace(failed, message=message)))
        case ToolSucceeded(payload=payload):
            pieces = _all_pieces(payload)
            size = sum(len(piece) for piece in pieces if isinstance(piece, str))
            if size > MOST_CHARS:
                return too_long(size, MOST_CHARS)
            if size > policy.max_chars:
                return replace(output, outcome=ToolSucceeded(payload=_shown(payload, pieces, policy.max_chars, store)))
    return output


def model_return(call: PendingToolCall, output: ToolCallOutput) -> ModelToolReturn:
    """What a model is shown of a call. Pure."""
    match output.outcome:
        case ToolSucceeded(payload=payload):
            pieces = _all_pieces(payload)
        case ToolFailed(payload=failed):
            how = f"({failed.class_.value}, code {failed.code}; {_again(failed.retry)})"
            pieces = [f"[Tool execution failed]\n{failed.message}\n{how}", *_attachments(failed.raw)]
        case ToolCancelled(payload=cancellation):
            pieces = [f"[Tool call cancelled]\n{cancellation.message}", *_attachments(cancellation.raw)]
    return ModelToolReturn(call_id=call.call_id, tool_name=call.tool_name, parts=tuple(map(_part, pieces)))


def _part(piece: _Piece) -> ModelReturnPart:
    return TextReturn(text=piece) if isinstance(piece, str) else AttachmentReturn(source=piece)


def _again(retry: RetryDisposition) -> str:
    match retry:
        case RetrySafe(after_ms=None):
            return "the same call may be made again"
        case RetrySafe(after_ms=wait):
            return f"the same call may be made again in {wait} ms"
        case RetryExhausted(attempts=attempts):
            return f"it was tried {attempts} times"
        case RetryNever():
            return "do not repeat the same call"


# -- text around attachments -------------------------------------------------------------------------------------------


def _all_pieces(payload: Json) -> list[_Piece]:
    """A bare string as it is; anything else as compact JSON with the attachments in their places."""
    if isinstance(payload, str):
        return [payload]
    joined: list[_Piece] = []
    for is_text, run in itertools.groupby(_pieces(payload), key=lambda piece: isinstance(piece, str)):
        neighbours = list(run)
        joined += ["".join(map(str, neighbours))] if is_text else neighbours
    return joined


def _pieces(value: Json) -> Iterator[_Piece]:
    if not _holds_attachment(value):
        yield dumps(_plain(value))
    elif isinstance(value, Mapping) and value.get(RESERVED_KEY) == "attachment":
        yield ATTACHMENT_SOURCE.decode(value["source"])
    elif isinstance(value, Mapping):
        for number, (key, item) in enumerate(_entries(value).items()):
            yield f"{',' if number else '{'}{dumps(key)}:"
            yield from _pieces(item)
        yield "}"
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            yield "," if number else "["
            yield from _pieces(item)
        yield "]"


def _entries(value: Mapping[str, Json]) -> Mapping[str, Json]:
    """What is in an object; that of an escaped one is within."""
    entries = value.get("entries")
    return entries if value.get(RESERVED_KEY) == "object" and isinstance(entries, Mapping) else value


def _plain(value: Json) -> Json:
    """Without escapes: a model is shown what the tool gave."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in _entries(value).items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _holds_attachment(value: Json) -> bool:
    if isinstance(value, Mapping):
        return value.get(RESERVED_KEY) == "attachment" or any(map(_holds_attachment, _entries(value).values()))
    return isinstance(value, (list, tuple)) and any(map(_holds_attachment, value))


def _attachments(value: Json) -> list[AttachmentSource]:
    return [piece for piece in _pieces(value) if not isinstance(piece, str)] if _holds_attachment(value) else []


# -- cutting -----------------------------------------------------------------------------------------------------------


def _shown(payload: Json, pieces: list[_Piece], max_chars: int, store: AttachmentStore | None) -> Json:
    """Cut text in place of the value; attachments stand beside it, in order."""
    attachments = [piece for piece in pieces if not isinstance(piece, str)]
    numbers = iter(range(1, len(attachments) + 1))
    text = "".join(piece if isinstance(piece, str) else f'"[attachment {next(numbers)}]"' for piece in pieces)
    shown = _cut(text, max_chars, _where(text, "text/plain" if isinstance(payload, str) else "application/json", store))
    if not attachments:
        return shown
    tags = [{RESERVED_KEY: "attachment", "source": ATTACHMENT_SOURCE.encode(one)} for one in attachments]
    return {"attachments": tags, "value": shown}


def _where(text: str, media_type: str, store: AttachmentStore | None) -> str:
    """Keep the whole text; where it can be read."""
    if store is None:
        return " The rest is lost: nothing is kept here."
    try:
        kept = store.put(whole_text(text).encode(), media_type=media_type, label="a tool's result")
    except LashError as error:  # a full disk costs the rest, not the call
        return f" The rest is lost: it could not be kept ({error})."
    return f" The whole is kept: read_output({kept.id!r}) gives it."


def _cut(text: str, max_chars: int, where: str) -> str:
    """Head and tail, with a line between them that counts what is left out."""
    front = int(max_chars * _FRONT_SHARE)
    end, start = _run(text, front)[0], _run(text, len(text) - (max_chars - front))[1]
    count = f"{start - end:,} of {len(text):,} characters"
    return f"{text[:end]}\n[… {count} are left out here.{where}]\n{text[start:]}"


def _run(text: str, at: int) -> tuple[int, int]:
    """Where the run of base64 begins and ends that would be cut here; twice the place itself when there is none."""
    begin = end = at
    while begin > 0 and text[begin - 1] in _BASE64:
        begin -= 1
    while end < len(text) and text[end] in _BASE64:
        end += 1
    return (begin, end) if end - begin >= _BASE64_RUN else (at, at)
