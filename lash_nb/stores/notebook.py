"""The block `metadata.lash_nb`: the envelopes of a session in a notebook.

`turns` are the finished turns, oldest first, `head` the turn in progress, `earlier` what sessions before this one left.
A block that has grown large is folded: old turns become references (`envelopes.py`), never the head or the last turn. A
notebook is untrusted: reading checks versions, types, sizes and hashes, and never executes or unpickles anything.

The notebook file is never written from here; `copies.py` has whoever holds it do that.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, cast

from ..errors import CorruptCheckpointError, NotebookError
from ..machine.wire import Json
from .bounds import beyond, shown
from .envelopes import (
    FORMAT_VERSION,
    Envelope,
    check_version,
    checkpoint_text,
    expect_object,
    fold_envelope,
    is_count,
    is_digest,
    is_reference,
    read_envelope,
)
from .kept import KEPT_KEY

__all__ = [
    "BLOCK_BYTES",
    "COMM_TARGET",
    "METADATA_KEY",
    "MODEL_KEY",
    "Block",
    "check_own_fields",
    "fitted",
    "folded",
    "following",
    "interrupted_turn",
    "is_lasting_alone",
    "lasting",
    "make_block",
    "read_block",
    "read_origin",
    "schema",
    "verify_chain",
]

METADATA_KEY = "lash_nb"
MODEL_KEY = "model"
"""In it, the model that the notebook's author suggests: the one thing here that a person writes."""
_LASTING = (MODEL_KEY, KEPT_KEY)
COMM_TARGET = "lash_nb.notebook"
BLOCK_BYTES = 256 * 1024
"""Of compact JSON: beyond it, old turns are folded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What `metadata.lash_nb` holds, its structure checked; the checkpoints in it are not opened yet."""

    session: str
    head: Envelope | None
    turns: tuple[Envelope, ...]
    earlier: tuple[Envelope, ...] = ()
    """What sessions before this one left in the notebook (`%lash new`), oldest first."""
    forked_from: Mapping[str, Any] | None = None
    """The `session`, the `turn` and its `sha256` of which this session began as a branch."""

    def placed(self) -> tuple[tuple[str, Envelope], ...]:
        """Every envelope in order, with the words that name its place."""
        turns = [(f"metadata.{METADATA_KEY}.turns[{index}]", turn) for index, turn in enumerate(self.turns)]
        return (*turns, *([(f"metadata.{METADATA_KEY}.head", self.head)] if self.head else []))


def make_block(
    *, session: str, head: Envelope | None, turns: Sequence[Envelope], forked_from: Mapping[str, Json] | None = None
) -> dict[str, Json]:
    """The value of `metadata.lash_nb`; `forked_from` is left out when None."""
    block: dict[str, Json] = {"version": FORMAT_VERSION, "session": session, "head": head, "turns": list(turns)}
    return block if forked_from is None else {**block, "forked_from": dict(forked_from)}


def lasting(block: object) -> dict[str, Any]:
    """What of a block is of no session, and outlives all of them: the suggested model, code that is kept."""
    return {name: block[name] for name in _LASTING if name in block} if isinstance(block, Mapping) else {}


def is_lasting_alone(block: Mapping[str, Any]) -> bool:
    """Whether there is nothing else in it."""
    return bool(block) and set(block) <= {*_LASTING}


def following(before: Mapping[str, Any] | None, value: Mapping[str, Any]) -> dict[str, Any]:
    """The block `value` in the place of `before`, with what that holds of other sessions: outputs only refer to it.
    The model that an author suggested stays, too; of a session that `value` branched off, what is not in `value`.

    Both must be ones that `read_block` takes.
    """
    if before is None:
        return dict(value)
    kept = {name: part for name, part in lasting(before).items() if name not in value}
    if "session" not in before:
        return {**kept, **value}
    own = {envelope["sha256"] for envelope in value["turns"]}
    earlier = [
        envelope
        for envelope in before.get("earlier", ())
        if envelope["session"] != value["session"] or envelope["sha256"] not in own
    ]
    ours = [*value["turns"], *([value["head"]] if value["head"] is not None else [])]
    copied = {envelope["sha256"] for envelope in ours}
    left = list(before["turns"])
    if before["session"] == value["session"]:
        # What another machine made of the same session is not to be lost: a fork, which `carried` names.
        left = [envelope for envelope in left if envelope["sha256"] not in copied]
    else:
        left += [before["head"]] if before["head"] is not None else []
        if (value.get("forked_from") or {}).get("session") == before["session"]:
            # The turn that was in progress goes on in the branch, too.
            begun = {envelope["turn"] for envelope in ours} if before["head"] is not None else set()
            left = [
                envelope
                for envelope in left
                if envelope["sha256"] not in copied and not (envelope is before["head"] and envelope["turn"] in begun)
            ]
    earlier += left
    return {**kept, **value, **({"earlier": earlier} if earlier else {})}


def folded(block_value: Mapping[str, Any], *, most_bytes: int = BLOCK_BYTES) -> dict[str, Any]:
    """The block in at most so many bytes of compact JSON, as far as references in the place of old turns make it so.

    `earlier` goes first, then `turns`, each from its oldest, and at the very end the last ones of earlier sessions,
    with which these can be gone on with; never the head, nor the last of `turns`. What cannot be opened, or would not
    become smaller, stays as it is. It must be a block that `read_block` takes.
    """
    return fitted(block_value, most_bytes=most_bytes)[0]


def fitted(block_value: Mapping[str, Any], *, most_bytes: int = BLOCK_BYTES) -> tuple[dict[str, Any], int]:
    """What `folded` makes of the block, and how many bytes of compact JSON that has."""
    value = {**block_value, "turns": list(block_value["turns"])}
    if "earlier" in value:
        value["earlier"] = list(value["earlier"])
    size = _block_size(value)
    for field, index in _foldable(value) if size > most_bytes else ():
        if size <= most_bytes:
            break
        envelope = value[field][index]
        reference = _reference(envelope)
        saved = 0 if reference is None else _envelope_size(envelope) - _size(reference)
        if saved > 0:
            value[field][index] = reference
            size -= saved
    return value, size


def _foldable(value: Mapping[str, Any]) -> Iterator[tuple[str, int]]:
    """Where what may be folded stands, in that order."""
    earlier = value.get("earlier", ())
    last = {envelope["session"]: index for index, envelope in enumerate(earlier)}
    yield from (("earlier", index) for index, envelope in enumerate(earlier) if index != last[envelope["session"]])
    yield from (("turns", index) for index in range(len(value["turns"]) - 1))
    yield from (("earlier", index) for index in sorted(last.values()))


def _block_size(value: Mapping[str, Any]) -> int:
    """As `_size`; the envelopes are the most of it."""
    lists = [value[field] for field in ("turns", "earlier") if field in value]
    head = value.get("head")
    size = _size({**value, "turns": [], **({"earlier": []} if "earlier" in value else {}), "head": head and 0})
    commas = sum(max(0, len(envelopes) - 1) for envelopes in lists)
    size += commas + sum(_envelope_size(envelope) for envelopes in lists for envelope in envelopes)
    return size + (_envelope_size(head) - 1 if head else 0)


def _envelope_size(envelope: Mapping[str, Any]) -> int:
    """As `_size`; a text of base64 is as long as it is."""
    text = envelope.get("checkpoint")
    if isinstance(text, str) and text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return _size({**envelope, "checkpoint": ""}) + len(text)
    return _size(envelope)


def _size(value: object) -> int:
    """As compact JSON, in bytes of UTF-8."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return len(text.encode("utf-8", "surrogatepass"))


def _reference(envelope: Mapping[str, Any]) -> Envelope | None:
    try:
        return None if is_reference(envelope) else fold_envelope(envelope)
    except NotebookError:
        return None  # what is damaged is evidence


def read_block(metadata: Mapping[str, Any]) -> Block | None:
    """The block in a notebook's metadata; None when there is none. Opens no checkpoint.

    Raises:
        NotebookError: the block is not of the format, or of a newer one; names the field.
    """
    if METADATA_KEY not in metadata:
        return None
    place = f"metadata.{METADATA_KEY}"
    value = expect_object(metadata[METADATA_KEY], place)
    if is_lasting_alone(value):
        return None
    check_version(value, place)
    check_own_fields(value)
    session, head, turns = value.get("session"), value.get("head", "missing"), value.get("turns")
    earlier = value.get("earlier", ())
    if not isinstance(session, str) or not session:
        raise NotebookError(f"{place}.session is {shown(session)}, not the name of a session")
    if not isinstance(turns, Sequence) or isinstance(turns, str):
        raise NotebookError(f"{place}.turns is {shown(turns)}, not a list")
    if not isinstance(earlier, Sequence) or isinstance(earlier, str):
        raise NotebookError(f"{place}.earlier is {shown(earlier)}, not a list")
    return Block(
        forked_from=read_origin(value),
        session=session,
        head=None if head is None else read_envelope(head, place=f"{place}.head"),
        turns=tuple(read_envelope(turn, place=f"{place}.turns[{index}]") for index, turn in enumerate(turns)),
        earlier=tuple(read_envelope(turn, place=f"{place}.earlier[{index}]") for index, turn in enumerate(earlier)),
    )


def check_own_fields(block: Mapping[str, Any]) -> None:
    """See that all but the envelopes is plain and small. Raises NotebookError: it is not."""
    for name, value in block.items():
        problem = "" if name in ("turns", "head", "earlier") else beyond([name, value])
        if problem:
            raise NotebookError(f"metadata.{METADATA_KEY}: the field {shown(name)} {problem}")


def read_origin(block: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Where a block's session branched off another one; None: it did not. Raises NotebookError, naming the field."""
    place, value = f"metadata.{METADATA_KEY}.forked_from", block.get("forked_from")
    if value is None:
        return None
    origin = expect_object(value, place)
    session, turn, digest = (origin.get(field) for field in ("session", "turn", "sha256"))
    if not isinstance(session, str) or not session:
        raise NotebookError(f"{place}.session is {shown(session)}, not the name of a session")
    if not is_count(turn):
        raise NotebookError(f"{place}.turn is {shown(turn)}, not the number of a turn")
    if digest is not None and not is_digest(digest):
        raise NotebookError(f"{place}.sha256 is {shown(digest)}, not a SHA-256")
    return origin


def interrupted_turn(metadata: Mapping[str, Any]) -> tuple[str, int] | None:
    """Session and number of the turn that was in progress when it was saved; None also when that cannot be read."""
    try:
        block = read_block(metadata)
    except NotebookError:
        return None
    return (block.session, int(block.head["turn"])) if block is not None and block.head is not None else None


def verify_chain(block: Block) -> None:
    """Every hash is right, each envelope names the turn before it as its parent, and numbers only rise.

    A reference takes part by the hash that it was saved with.

    Raises:
        CorruptCheckpointError: naming the first envelope that is not as it should be.
    """
    before: Envelope | None = None
    for place, envelope in block.placed():
        if not is_reference(envelope):
            checkpoint_text(envelope, place=place)
        if envelope["session"] != block.session:
            raise CorruptCheckpointError(
                f"{place} is of session {shown(envelope['session'])}, not {shown(block.session)}"
            )
        if envelope.get("parent") != (before["sha256"] if before else None):
            raise CorruptCheckpointError(f"{place} does not follow the turn before it: `parent` is another hash")
        if before and (envelope["seq"] <= before["seq"] or envelope["turn"] <= before["turn"]):
            raise CorruptCheckpointError(f"{place} is out of order: `turn` and `seq` must rise")
        before = envelope


def schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of `metadata.lash_nb`."""
    text = resources.files(__package__).joinpath("notebook.schema.json").read_text(encoding="utf-8")
    return cast("dict[str, Any]", json.loads(text))
