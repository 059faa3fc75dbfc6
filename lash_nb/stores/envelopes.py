"""Envelopes: a TurnCheckpoint as text with its hash and its place in the chain, whole or folded to a reference.

A *reference* has `ref` (how large the text was, the request, how the turn ended) in place of `checkpoint`: it keeps its
place in the chain, and the notebook small. A notebook is untrusted: reading checks versions, types, sizes and hashes,
and never executes, unpickles or calls anything. Every problem is one sentence with the place.

Clock, hash chain and sequence numbers are the caller's: `saved_at`, `parent` and `seq` come in as arguments.
"""

from __future__ import annotations

import base64
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from ..errors import CorruptCheckpointError, DecodeError, NotebookError
from ..machine.state import TurnCheckpoint
from ..machine.wire import Json, dumps, loads
from ..trust import sha256_text
from .bounds import MAX_BYTES, MAX_DEPTH, Allowance, beyond, deeper_than, more_values_than, shown, visible
from .references import MOST_REQUEST, OUTCOMES, asked_text, reference_to

__all__ = [
    "FORMAT_VERSION",
    "INLINE_BYTES",
    "Envelope",
    "check_hash",
    "check_version",
    "checkpoint_text",
    "expect_object",
    "fold_envelope",
    "is_count",
    "is_digest",
    "is_reference",
    "make_envelope",
    "open_checkpoint",
    "open_text",
    "read_envelope",
    "unpacked",
]

FORMAT_VERSION = 1
"""Of envelope and block. What is newer is refused, what is older is read."""

INLINE_BYTES = 64 * 1024
"""Up to here a checkpoint stays text that can be read and diffed."""

ENCODING = "zlib+base64"
_PIECE_BYTES = 4 * 1024 * 1024

_MOST_MARKS = 2_000_000
"""Of `,`, `[` and `{` in a checkpoint, outside of its strings: empty lists take thirty times their text in memory."""

Envelope = dict[str, Any]

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


# ----------------------------------------------------------------------------------------------------------- writing


_MOST_SEQ = 10_000_000
"""Envelopes of one turn."""
_SHORT, _LONG = 100, 2_000
_DEPTH = 5
"""Down to a state's request: its messages stand one a line, as the turn's own do."""


def _pretty(value: Any, *, long: float = _LONG) -> str:
    """JSON for reading and diffing: a field a line down to `_DEPTH`, an entry of a list a line, short ones inline.

    An entry that is longer than `long` is taken apart, too: the effect Done holds the whole conversation. What stands
    on one line is written by the C encoder: json's own `indent` is pure Python, and took most of a step. A lone
    surrogate is replaced: it has no UTF-8, and escaped it would keep the whole turn from being read again.
    """
    return _LONE_SURROGATE.sub("\ufffd", _lines(value, 0, long))


def _lines(value: Any, depth: int, long: float) -> str:
    if not value or depth >= _DEPTH or not isinstance(value, (dict, list)):
        return dumps(value)
    if isinstance(value, list):
        pieces, opening, closing = [dumps(item) for item in value], "[", "]"
        for index, piece in enumerate(pieces):
            if len(piece) > long:
                pieces[index] = _lines(value[index], depth + 1, long)
    else:
        pieces = [f"{dumps(key)}: {_lines(item, depth + 1, long)}" for key, item in value.items()]
        opening, closing = "{", "}"
    if sum(map(len, pieces)) <= _SHORT and not any("\n" in piece for piece in pieces):
        return f"{opening}{', '.join(pieces)}{closing}"
    indent = "\n" + " " * (depth + 1)
    return f"{opening}{indent}{f',{indent}'.join(pieces)}\n{' ' * depth}{closing}"


def make_envelope(
    checkpoint: str | Mapping[str, Any],
    *,
    session: str,
    turn: int,
    seq: int,
    parent: str | None,
    saved_at: str,
    engine: str,
    dollars: float | None = None,
    kept_steps: int = 0,
    resume: Mapping[str, Json] | None = None,
    before: str | None = None,
) -> Envelope:
    """The envelope of a TurnCheckpoint's wire JSON, given as text or as values.

    `before` is the hash that this checkpoint had when it was saved first: earlier versions broke lines elsewhere.
    `dollars` and `resume` (what going on with the turn needs beside the checkpoint) are left out when None, and
    `kept_steps` (how many of its steps kept code gave, and no model) when 0.

    `parent` is the `sha256` of the envelope of the turn before (None for the first turn), also for a head: heads
    replace each other, so that one of them can be nobody's parent. `seq` counts every envelope of the session.

    Raises:
        DecodeError: the text is not JSON.
        NotebookError: it is larger than any reader takes.
    """
    value = loads(checkpoint) if isinstance(checkpoint, str) else checkpoint
    text = _pretty(value)
    if before is not None and sha256_text(text) != before:
        text = _pretty(value, long=math.inf)
    data = text.encode()
    if len(data) > MAX_BYTES:
        raise NotebookError(f"a turn of {len(data):,} bytes is too large for a notebook (at most {MAX_BYTES:,})")
    envelope: Envelope = {
        "version": FORMAT_VERSION,
        "session": session,
        "turn": turn,
        "seq": seq,
        "parent": parent,
        "sha256": sha256_text(text),
        "engine": engine,
        "saved_at": saved_at,
    }
    about = {"dollars": dollars, "kept_steps": kept_steps or None, "resume": None if resume is None else dict(resume)}
    envelope |= {name: value for name, value in about.items() if value is not None}
    return {**envelope, **_stored(text, data)}


def _stored(text: str, data: bytes) -> Envelope:
    """The text as lines, or, where it is long, compressed."""
    if len(data) > INLINE_BYTES:
        return {"encoding": ENCODING, "checkpoint": base64.b64encode(zlib.compress(data)).decode("ascii")}
    # At "\n" alone: str.splitlines would also break at characters that JSON leaves unescaped.
    *lines, last = text.split("\n")
    return {"checkpoint": [line + "\n" for line in lines] + [last]}


def unpacked(envelope: Mapping[str, Any], *, allowance: Allowance, place: str = "envelope") -> str | None:
    """The text in a whole envelope that `read_envelope` took, its hash not looked at.

    None: it is larger than any checkpoint, or than what is left of the allowance, from which it is taken.

    Raises:
        CorruptCheckpointError: it cannot be unpacked.
    """
    stored = envelope["checkpoint"]
    most_bytes = min(MAX_BYTES, allowance.left)
    if "encoding" not in envelope:
        size = sum(map(len, stored))
        allowance.left -= min(size, most_bytes)
        return None if size > most_bytes else "".join(stored)
    inflater = zlib.decompressobj()
    raw = bytearray()
    try:
        packed = base64.b64decode(stored, validate=True)
        while packed and len(raw) <= most_bytes and not inflater.eof:
            raw += inflater.decompress(packed, _PIECE_BYTES)
            packed = inflater.unconsumed_tail
    except (ValueError, zlib.error):  # not base64, not ASCII
        raise CorruptCheckpointError(f"{place}.checkpoint is damaged: it cannot be decompressed") from None
    finally:
        allowance.left -= min(len(raw), most_bytes)
    if len(raw) > most_bytes:
        return None
    if not inflater.eof or inflater.unused_data:
        raise CorruptCheckpointError(f"{place}.checkpoint is damaged: it was cut off, or something was added")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise CorruptCheckpointError(f"{place}.checkpoint is damaged: it is not text in UTF-8") from None


def check_hash(text: str, envelope: Mapping[str, Any], *, place: str = "envelope") -> None:
    """See that a text is the one that was saved. Raises CorruptCheckpointError: it is not."""
    try:
        found = sha256_text(text)
    except UnicodeEncodeError:
        raise CorruptCheckpointError(f"{place}.checkpoint is damaged: it is not Unicode text") from None
    if found != envelope["sha256"]:
        raise CorruptCheckpointError(
            f"{place}.checkpoint is damaged: its SHA-256 is not the one that was saved with it"
        )


def checkpoint_text(envelope: Mapping[str, Any], *, place: str = "envelope") -> str:
    """The pretty-printed text in an envelope, once its hash has been found right.

    Raises:
        NotebookError: it is not an envelope, one of a newer format, or a reference.
        CorruptCheckpointError: it is one, and damaged.
    """
    checked = read_envelope(envelope, place=place)
    if is_reference(checked):
        raise NotebookError(
            f"{place} only refers to turn {checked['turn']}: its content was folded away to keep the notebook small, "
            "and is in the session's journal alone"
        )
    text = unpacked(checked, allowance=Allowance(), place=place)
    if text is None:
        raise CorruptCheckpointError(f"{place}.checkpoint is refused: it decompresses to more than {MAX_BYTES:,} bytes")
    check_hash(text, checked, place=place)
    return text


def open_checkpoint(envelope: Mapping[str, Any], *, place: str = "envelope") -> TurnCheckpoint:
    """The TurnCheckpoint in an envelope, checked all the way down. Raises as `checkpoint_text` does."""
    return open_text(checkpoint_text(envelope, place=place), place=place)


def open_text(text: str, *, place: str = "envelope") -> TurnCheckpoint:
    """The TurnCheckpoint that is written in a text.

    Raises:
        CorruptCheckpointError: there is none, or it has more values than any conversation, or is nested too deeply.
    """
    if more_values_than(_MOST_MARKS, text):
        raise CorruptCheckpointError(f"{place}.checkpoint is refused: it holds more values than any conversation")
    try:
        value = loads(text)
        if text.count("[") + text.count("{") > 2 * MAX_DEPTH and deeper_than(value, 2 * MAX_DEPTH):
            raise CorruptCheckpointError(f"{place}.checkpoint is refused: it is nested too deeply")
        return TurnCheckpoint.from_json(value)
    except DecodeError as error:
        raise CorruptCheckpointError(f"{place}.checkpoint holds no TurnCheckpoint: {visible(str(error))}") from error


# ---------------------------------------------------------------------------------------------------------- folding


def is_reference(envelope: Mapping[str, Any]) -> bool:
    """Whether an envelope has been folded: it holds no checkpoint."""
    return "ref" in envelope


def fold_envelope(envelope: Mapping[str, Any], *, place: str = "envelope") -> Envelope:
    """The reference in the place of a whole envelope: its fields without checkpoint and `resume`, and `ref`.

    `ref` is the text's size in bytes of UTF-8, the first 200 characters of the request, and the outcome in a word. A
    reference is returned as it is.

    Raises:
        NotebookError: as `open_checkpoint`.
    """
    if is_reference(envelope):
        return read_envelope(envelope, place=place)
    checked = read_envelope(envelope, place=place)
    key = (checked["sha256"], checked["turn"], asked_text(checked)[:MOST_REQUEST])
    ref = _REFERENCES.get(key)
    if ref is None:
        text = checkpoint_text(checked, place=place)
        ref = reference_to(checked, text, open_text(text, place=place))
        if len(_REFERENCES) >= _MOST_REFERENCES:
            _REFERENCES.clear()
        _REFERENCES[key] = ref
    kept = {name: value for name, value in checked.items() if name not in ("checkpoint", "encoding", "resume")}
    return {**kept, "ref": dict(ref)}


_MOST_REFERENCES = 1_000
_REFERENCES: dict[tuple[str, int, str], dict[str, Any]] = {}
"""What was made once: a notebook's kernel folds the same turns at every step, and opening one takes its time. Another
content has another hash."""


# ---------------------------------------------------------------------------------------------------- what is valid


def is_count(value: object) -> TypeGuard[int]:
    """Whether it is a whole number that anybody's software can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def is_digest(value: object) -> TypeGuard[str]:
    """Whether it is a SHA-256 in hex."""
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def expect_object(value: object, place: str) -> Mapping[str, Any]:
    """The value, which is a JSON object. Raises NotebookError: it is none."""
    if not isinstance(value, Mapping):
        raise NotebookError(f"{place} is {shown(value)}, not an object")
    return value


def check_version(value: Mapping[str, Any], place: str) -> None:
    """See that the format is one that is read here. Raises NotebookError: it is not, or newer."""
    version = value.get("version")
    if not is_count(version) or version == 0:
        raise NotebookError(f"{place}.version is {shown(version)}, not a format version")
    if version > FORMAT_VERSION:
        raise NotebookError(
            f"{place} was written by a newer lash_nb (format {version}; this one reads up to {FORMAT_VERSION}): "
            "upgrade lash_nb to read it"
        )


def read_envelope(value: object, *, place: str = "envelope") -> Envelope:
    """An envelope, whole or a reference, whose fields have the right types; its hash is not looked at.

    Unknown fields are kept.

    Raises:
        NotebookError: naming the field.
    """
    envelope = expect_object(value, place)
    check_version(envelope, place)

    def expect(field: str, right: bool, wanted: str) -> None:
        if not right:
            raise NotebookError(f"{place}.{field} is {shown(envelope.get(field))}, not {wanted}")

    for field in ("session", "engine", "saved_at"):
        expect(field, isinstance(envelope.get(field), str), "text")
    expect("session", envelope["session"] != "", "the name of a session")
    expect("turn", is_count(envelope.get("turn")) and envelope["turn"] > 0, "the number of a turn")
    expect("seq", is_count(envelope.get("seq")), "a whole number")
    # Whoever goes on counts on from it: one that no number of effects explains would leave no room.
    expect("seq", envelope["seq"] <= envelope["turn"] * _MOST_SEQ, "a number that so many turns could have come to")
    parent = envelope.get("parent", "missing")
    expect("parent", parent is None or is_digest(parent), "a SHA-256 or null")
    expect("sha256", is_digest(envelope.get("sha256")), "a SHA-256")
    if "dollars" in envelope:
        paid = envelope["dollars"]
        counts = isinstance(paid, (int, float)) and not isinstance(paid, bool)
        expect("dollars", counts and paid >= 0, "an amount")
    expect("kept_steps", is_count(envelope.get("kept_steps", 0)), "a whole number")
    expect("resume", isinstance(envelope.get("resume", {}), Mapping), "an object")
    problem = beyond({name: field for name, field in envelope.items() if name != "checkpoint"})
    if problem:
        raise NotebookError(f"{place} {problem}")
    if is_reference(envelope):
        expect("checkpoint", "checkpoint" not in envelope, "missing, as it is beside `ref`")
        _check_ref(envelope["ref"], f"{place}.ref")
        return dict(envelope)
    stored = envelope.get("checkpoint")
    if "encoding" in envelope:
        expect("encoding", envelope["encoding"] == ENCODING, repr(ENCODING))
        expect("checkpoint", isinstance(stored, str), "base64 text")
    else:
        lines = isinstance(stored, Sequence) and not isinstance(stored, str)
        expect("checkpoint", lines and all(isinstance(line, str) for line in stored or ()), "a list of lines")
    return dict(envelope)


def _check_ref(value: object, place: str) -> None:
    ref = expect_object(value, place)
    wanted = {
        "bytes": (is_count(ref.get("bytes")), "a whole number"),
        "request": (isinstance(ref.get("request"), str), "text"),
        "outcome": (ref.get("outcome") in OUTCOMES if isinstance(ref.get("outcome"), str) else False, "an outcome"),
    }
    for field, (right, what) in wanted.items():
        if not right:
            raise NotebookError(f"{place}.{field} is {shown(ref.get(field))}, not {what}")
