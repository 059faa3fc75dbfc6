"""Copies of turns in a notebook: the envelope, and the block `metadata.lash_nb`.

An envelope holds one TurnCheckpoint as text with its hash and its place in the chain; the block holds the envelopes of
a session: `turns`, oldest first, and `head`, the turn in progress. A notebook is untrusted: reading checks versions,
types, sizes and hashes, and never executes, unpickles or calls anything. Every problem is one sentence with the place.

The notebook file is never written from here; `copies.py` has whoever holds it do that.

Clock, hash chain and sequence numbers are the caller's: `saved_at`, `parent` and `seq` come in as arguments.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, cast

from ..errors import CorruptCheckpointError, DecodeError, NotebookError
from ..machine.state import TurnCheckpoint
from ..machine.wire import Json, dumps, loads
from ..trust import sha256_text

__all__ = [
    "COMM_TARGET",
    "FORMAT_VERSION",
    "INLINE_BYTES",
    "METADATA_KEY",
    "MODEL_KEY",
    "Block",
    "checkpoint_text",
    "following",
    "interrupted_turn",
    "make_block",
    "make_envelope",
    "open_checkpoint",
    "read_block",
    "read_envelope",
    "schema",
    "verify_chain",
]

FORMAT_VERSION = 1
"""Of envelope and block. What is newer is refused, what is older is read."""

METADATA_KEY = "lash_nb"
MODEL_KEY = "model"
"""In it, the model that the notebook's author suggests: the one thing here that a person writes."""
COMM_TARGET = "lash_nb.notebook"
INLINE_BYTES = 64 * 1024
"""Up to here a checkpoint stays text that can be read and diffed."""

MAX_BYTES = 64 * 1024 * 1024
"""No conversation comes near this; what claims to is meant to exhaust memory."""

ENCODING = "zlib+base64"

Envelope = dict[str, Any]

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


# ------------------------------------------------------------------------------------------------------- envelopes


_SHORT = 100
_DEPTH = 5
"""Down to a state's request: its messages stand one a line, as the turn's own do."""


def _pretty(value: Any) -> str:
    """JSON for reading and diffing: a field a line down to `_DEPTH`, an entry of a list a line, short ones inline.

    What stands on one line is written by the C encoder: json's own `indent` is pure Python, and took most of a step.
    A lone surrogate is replaced: it has no UTF-8, and escaped it would keep the whole turn from being read again.
    """
    return _LONE_SURROGATE.sub("\ufffd", _lines(value, 0))


def _lines(value: Any, depth: int) -> str:
    if not value or depth >= _DEPTH or not isinstance(value, (dict, list)):
        return dumps(value)
    if isinstance(value, list):
        pieces, opening, closing = [dumps(item) for item in value], "[", "]"
    else:
        pieces = [f"{dumps(key)}: {_lines(item, depth + 1)}" for key, item in value.items()]
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
    resume: Mapping[str, Json] | None = None,
) -> Envelope:
    """The envelope of a TurnCheckpoint's wire JSON, given as text or as values.

    `dollars` and `resume` (what going on with the turn needs beside the checkpoint) are left out when None.

    `parent` is the `sha256` of the envelope of the turn before (None for the first turn), also for a head: heads
    replace each other, so that one of them can be nobody's parent. `seq` counts every envelope of the session.

    Raises:
        DecodeError: the text is not JSON.
        NotebookError: it is larger than any reader takes.
    """
    text = _pretty(loads(checkpoint) if isinstance(checkpoint, str) else checkpoint)
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
    if dollars is not None:
        envelope["dollars"] = dollars
    if resume is not None:
        envelope["resume"] = dict(resume)
    if len(data) <= INLINE_BYTES:
        # At "\n" alone: str.splitlines would also break at characters that JSON leaves unescaped.
        *lines, last = text.split("\n")
        envelope["checkpoint"] = [line + "\n" for line in lines] + [last]
    else:
        envelope["encoding"] = ENCODING
        envelope["checkpoint"] = base64.b64encode(zlib.compress(data)).decode("ascii")
    return envelope


def _inflated(packed: str, place: str) -> str:
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(base64.b64decode(packed, validate=True), MAX_BYTES + 1)
        text = raw.decode()
    except (ValueError, zlib.error):  # not base64, not ASCII, not UTF-8
        raise CorruptCheckpointError(f"{place}.checkpoint is damaged: it cannot be decompressed") from None
    if len(raw) > MAX_BYTES:
        raise CorruptCheckpointError(f"{place}.checkpoint is refused: it decompresses to more than {MAX_BYTES:,} bytes")
    if not inflater.eof or inflater.unused_data:
        raise CorruptCheckpointError(f"{place}.checkpoint is damaged: it was cut off, or something was added")
    return text


def checkpoint_text(envelope: Mapping[str, Any], *, place: str = "envelope") -> str:
    """The pretty-printed text in an envelope, once its hash has been found right.

    Raises:
        NotebookError: it is not an envelope, or one of a newer format.
        CorruptCheckpointError: it is one, and damaged.
    """
    checked = read_envelope(envelope, place=place)
    stored = checked["checkpoint"]
    text = _inflated(stored, place) if "encoding" in checked else "".join(stored)
    try:
        found = sha256_text(text)
    except UnicodeEncodeError:
        raise CorruptCheckpointError(f"{place}.checkpoint is damaged: it is not Unicode text") from None
    if found != checked["sha256"]:
        raise CorruptCheckpointError(
            f"{place}.checkpoint is damaged: its SHA-256 is not the one that was saved with it"
        )
    return text


def open_checkpoint(envelope: Mapping[str, Any], *, place: str = "envelope") -> TurnCheckpoint:
    """The TurnCheckpoint in an envelope, checked all the way down. Raises as `checkpoint_text` does."""
    text = checkpoint_text(envelope, place=place)
    try:
        return TurnCheckpoint.from_text(text)
    except DecodeError as error:
        raise CorruptCheckpointError(f"{place}.checkpoint holds no TurnCheckpoint: {error}") from error


# ---------------------------------------------------------------------------------------------------- what is valid


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_digest(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) is not None


def _object(value: object, place: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise NotebookError(f"{place} is {_shown(value)}, not an object")
    return value


def _check_version(value: Mapping[str, Any], place: str) -> None:
    version = value.get("version")
    if not _is_count(version) or version == 0:
        raise NotebookError(f"{place}.version is {_shown(version)}, not a format version")
    if cast("int", version) > FORMAT_VERSION:
        raise NotebookError(
            f"{place} was written by a newer lash_nb (format {version}; this one reads up to {FORMAT_VERSION}): "
            "upgrade lash_nb to read it"
        )


def read_envelope(value: object, *, place: str = "envelope") -> Envelope:
    """An envelope whose fields have the right types; its hash is not looked at. Unknown fields are kept.

    Raises:
        NotebookError: naming the field.
    """
    envelope = _object(value, place)
    _check_version(envelope, place)

    def expect(field: str, right: bool, wanted: str) -> None:
        if not right:
            raise NotebookError(f"{place}.{field} is {_shown(envelope.get(field))}, not {wanted}")

    for field in ("session", "engine", "saved_at"):
        expect(field, isinstance(envelope.get(field), str), "text")
    expect("session", envelope["session"] != "", "the name of a session")
    expect("turn", _is_count(envelope.get("turn")) and envelope["turn"] > 0, "the number of a turn")
    expect("seq", _is_count(envelope.get("seq")), "a whole number")
    parent = envelope.get("parent", "missing")
    expect("parent", parent is None or _is_digest(parent), "a SHA-256 or null")
    expect("sha256", _is_digest(envelope.get("sha256")), "a SHA-256")
    expect("resume", isinstance(envelope.get("resume", {}), Mapping), "an object")
    stored = envelope.get("checkpoint")
    if "encoding" in envelope:
        expect("encoding", envelope["encoding"] == ENCODING, repr(ENCODING))
        expect("checkpoint", isinstance(stored, str), "base64 text")
    else:
        lines = isinstance(stored, Sequence) and not isinstance(stored, str)
        expect("checkpoint", lines and all(isinstance(line, str) for line in stored or ()), "a list of lines")
    return dict(envelope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What `metadata.lash_nb` holds, its structure checked; the checkpoints in it are not opened yet."""

    session: str
    head: Envelope | None
    turns: tuple[Envelope, ...]
    earlier: tuple[Envelope, ...] = ()
    """What sessions before this one left in the notebook (`%lash new`), oldest first."""

    def placed(self) -> tuple[tuple[str, Envelope], ...]:
        """Every envelope in order, with the words that name its place."""
        turns = [(f"metadata.{METADATA_KEY}.turns[{index}]", turn) for index, turn in enumerate(self.turns)]
        return (*turns, *([(f"metadata.{METADATA_KEY}.head", self.head)] if self.head else []))


def make_block(*, session: str, head: Envelope | None, turns: Sequence[Envelope]) -> dict[str, Json]:
    """The value of `metadata.lash_nb`."""
    return {"version": FORMAT_VERSION, "session": session, "head": head, "turns": list(turns)}


def following(before: Mapping[str, Any] | None, value: Mapping[str, Any]) -> dict[str, Any]:
    """The block `value` in the place of `before`, with what that holds of other sessions: outputs only refer to it.
    The model that an author suggested stays, too.

    Both must be ones that `read_block` takes.
    """
    if before is None:
        return dict(value)
    kept = {MODEL_KEY: before[MODEL_KEY]} if MODEL_KEY in before and MODEL_KEY not in value else {}
    if "session" not in before:
        return {**kept, **value}
    earlier = list(before.get("earlier", ()))
    if before["session"] != value["session"]:
        earlier += [*before["turns"], *([before["head"]] if before["head"] is not None else [])]
    return {**kept, **value, **({"earlier": earlier} if earlier else {})}


def read_block(metadata: Mapping[str, Any]) -> Block | None:
    """The block in a notebook's metadata; None when there is none. Opens no checkpoint.

    Raises:
        NotebookError: the block is not of the format, or of a newer one; names the field.
    """
    if METADATA_KEY not in metadata:
        return None
    place = f"metadata.{METADATA_KEY}"
    value = _object(metadata[METADATA_KEY], place)
    if set(value) == {MODEL_KEY}:
        return None
    _check_version(value, place)
    session, head, turns = value.get("session"), value.get("head", "missing"), value.get("turns")
    earlier = value.get("earlier", ())
    if not isinstance(session, str) or not session:
        raise NotebookError(f"{place}.session is {_shown(session)}, not the name of a session")
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        raise NotebookError(f"{place}.turns is {_shown(turns)}, not a list")
    if not isinstance(earlier, Sequence) or isinstance(earlier, str):
        raise NotebookError(f"{place}.earlier is {_shown(earlier)}, not a list")
    return Block(
        session=session,
        head=None if head is None else read_envelope(head, place=f"{place}.head"),
        turns=tuple(read_envelope(turn, place=f"{place}.turns[{index}]") for index, turn in enumerate(turns)),
        earlier=tuple(read_envelope(turn, place=f"{place}.earlier[{index}]") for index, turn in enumerate(earlier)),
    )


def interrupted_turn(metadata: Mapping[str, Any]) -> tuple[str, int] | None:
    """Session and number of the turn that was in progress when it was saved; None also when that cannot be read."""
    try:
        block = read_block(metadata)
    except NotebookError:
        return None
    return (block.session, int(block.head["turn"])) if block is not None and block.head is not None else None


def verify_chain(block: Block) -> None:
    """Every hash is right, each envelope names the turn before it as its parent, and numbers only rise.

    Raises:
        CorruptCheckpointError: naming the first envelope that is not as it should be.
    """
    before: Envelope | None = None
    for place, envelope in block.placed():
        checkpoint_text(envelope, place=place)
        if envelope["session"] != block.session:
            raise CorruptCheckpointError(f"{place} is of session {_shown(envelope['session'])}, not {block.session!r}")
        if envelope.get("parent") != (before["sha256"] if before else None):
            raise CorruptCheckpointError(f"{place} does not follow the turn before it: `parent` is another hash")
        if before and (envelope["seq"] <= before["seq"] or envelope["turn"] <= before["turn"]):
            raise CorruptCheckpointError(f"{place} is out of order: `turn` and `seq` must rise")
        before = envelope


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `metadata.lash_nb`."""
    text = resources.files(__package__).joinpath("notebook.schema.json").read_text(encoding="utf-8")
    return cast("dict[str, Any]", json.loads(text))
