"""Envelopes and the block: what is written is read back, and what is damaged is refused in one sentence."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import zlib
from collections.abc import Callable
from typing import Any

import jsonschema
import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.errors import CorruptCheckpointError, DecodeError, NotebookError
from lash_nb.machine.state import TurnCheckpoint
from lash_nb.stores.copies import NotebookLine
from lash_nb.stores.envelopes import (
    INLINE_BYTES,
    checkpoint_text,
    make_envelope,
    open_checkpoint,
)
from lash_nb.stores.notebook import make_block, read_block, schema, verify_chain

from .envelopes import STORED


def envelope(text: str = STORED[0], **changes: Any) -> dict[str, Any]:
    place = {"session": "s", "turn": 1, "seq": 0, "parent": None, "saved_at": "2026-11-22T17:00:00Z"}
    return make_envelope(text, engine="lash_nb 0.1.0", **{**place, **changes})


def large() -> dict[str, Any]:
    """One that is stored compressed."""
    checkpoint = json.loads(STORED[0])
    checkpoint["messages"][0]["parts"][0]["content"] = "ä" * INLINE_BYTES
    return envelope(json.dumps(checkpoint, ensure_ascii=False))


def block() -> dict[str, Any]:
    first = envelope()
    second = envelope(STORED[1], turn=2, seq=3, parent=first["sha256"])
    head = envelope(STORED[2], turn=3, seq=4, parent=second["sha256"])
    return dict(make_block(session="s", head=head, turns=[first, second]))


# ------------------------------------------------------------------------------------------------------ round trips


@pytest.mark.parametrize("text", STORED)
def test_a_checkpoint_comes_back_byte_for_byte(text: str) -> None:
    assert open_checkpoint(envelope(text)).to_text() == text


def test_a_small_checkpoint_is_lines_as_nbformat_keeps_source() -> None:
    stored = envelope()
    lines = stored["checkpoint"]
    assert all(line.endswith("\n") for line in lines[:-1])
    assert not lines[-1].endswith("\n")
    assert json.loads("".join(lines)) == json.loads(STORED[0])
    assert stored["sha256"] == hashlib.sha256("".join(lines).encode()).hexdigest()


def test_a_large_checkpoint_is_one_compressed_text() -> None:
    stored = large()
    assert stored["encoding"] == "zlib+base64"
    text = zlib.decompress(base64.b64decode(stored["checkpoint"])).decode()
    assert stored["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert open_checkpoint(stored).messages[0].parts[0].content == "ä" * INLINE_BYTES


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_any_text_in_a_checkpoint_survives_a_notebook_file(content: str) -> None:
    """Line separators and control characters, too."""
    text = json.dumps({"a": content}, ensure_ascii=False)
    notebook = nbformat.v4.new_notebook(
        metadata={"lash_nb": dict(make_block(session="s", head=envelope(text), turns=[]))}
    )  # type: ignore[no-untyped-call]
    saved = nbformat.v4.writes(notebook).encode("utf-8")  # type: ignore[no-untyped-call]
    found = read_block(json.loads(saved)["metadata"])
    assert found is not None
    assert found.head is not None
    assert json.loads(checkpoint_text(found.head)) == {"a": content}


def test_half_a_surrogate_pair_keeps_no_checkpoint_from_being_read() -> None:
    checkpoint = json.loads(STORED[0])
    checkpoint["messages"][0]["parts"][0]["content"] = "a\ud800b"
    stored = make_envelope(
        checkpoint, session="s", turn=1, seq=0, parent=None, saved_at="2026-11-22T17:00:00Z", engine="lash_nb 0.1.0"
    )
    assert open_checkpoint(stored).messages[0].parts[0].content == "a\ufffdb"


def test_text_that_is_not_json_gets_no_envelope() -> None:
    with pytest.raises(DecodeError):
        envelope("{")


def test_the_block_is_what_its_schema_says() -> None:
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(block(), schema())
    jsonschema.validate(dict(make_block(session="s", head=None, turns=[large()])), schema())


def test_reading_a_block() -> None:
    found = read_block({"kernelspec": {}, "lash_nb": block()})
    assert found is not None
    assert (found.session, [turn["turn"] for turn in found.turns]) == ("s", [1, 2])
    assert found.head is not None
    assert isinstance(open_checkpoint(found.head), TurnCheckpoint)
    verify_chain(found)


def test_a_notebook_without_a_block() -> None:
    assert read_block({"kernelspec": {}}) is None


def test_what_a_later_minor_version_adds_is_ignored() -> None:
    value = block()
    value["later"] = value["turns"][0]["later"] = 1
    jsonschema.validate(value, schema())
    found = read_block({"lash_nb": value})
    assert found is not None
    verify_chain(found)


# --------------------------------------------------------------------------------------------------------- structure

Change = Callable[[dict[str, Any]], object]


def put(*path: Any) -> Change:
    """Sets what the path leads to: the last argument is the value."""
    *steps, last, value = path

    def change(target: Any) -> None:
        for step in steps:
            target = target[step]
        target[last] = value

    return change


def drop(*path: Any) -> Change:
    *steps, last = path

    def change(target: Any) -> None:
        for step in steps:
            target = target[step]
        del target[last]

    return change


REF = {"bytes": 3, "request": "", "outcome": "done"}


def reference(**changes: Any) -> dict[str, Any]:
    return {**{name: value for name, value in envelope().items() if name != "checkpoint"}, "ref": REF, **changes}


WRONG: list[tuple[str, Change]] = [
    ("version", put("version", "1")),
    ("version", put("version", True)),
    ("version", drop("version")),
    ("session", put("session", 7)),
    ("session", put("session", "")),
    ("turns", put("turns", {})),
    ("turns", drop("turns")),
    ("head", put("head", [])),
    ("head", drop("head")),
    ("turns[1]", put("turns", 1, "text")),
    ("turns[0].turn", put("turns", 0, "turn", 0)),
    ("turns[0].turn", put("turns", 0, "turn", 1.5)),
    ("turns[0].seq", put("turns", 0, "seq", -1)),
    ("turns[1].parent", put("turns", 1, "parent", "abc")),
    ("turns[1].parent", drop("turns", 1, "parent")),
    ("turns[0].sha256", put("turns", 0, "sha256", "G" * 64)),
    ("turns[0].engine", drop("turns", 0, "engine")),
    ("turns[0].saved_at", put("turns", 0, "saved_at", None)),
    ("turns[0].session", put("turns", 0, "session", "")),
    ("head.checkpoint", put("head", "checkpoint", "text")),
    ("head.checkpoint", put("head", "checkpoint", ["{", 1])),
    ("head.checkpoint", drop("head", "checkpoint")),
    ("head.checkpoint", put("head", "encoding", "zlib+base64")),
    ("head.encoding", put("head", "encoding", "pickle")),
    ("head.checkpoint", put("head", "ref", REF)),
    ("turns[0].ref", put("turns", 0, reference(ref=1))),
    ("turns[0].ref.bytes", put("turns", 0, reference(ref={**REF, "bytes": -1}))),
    ("turns[0].ref.request", put("turns", 0, reference(ref={**REF, "request": None}))),
    ("turns[0].ref.outcome", put("turns", 0, reference(ref={**REF, "outcome": "odd"}))),
    ("turns[0].ref.outcome", put("turns", 0, reference(ref={**REF, "outcome": []}))),
    ("turns[0].seq", put("turns", 0, "seq", 2**63)),
    ("forked_from", put("forked_from", "s")),
    ("forked_from.session", put("forked_from", {"session": "", "turn": 1, "sha256": None})),
    ("forked_from.turn", put("forked_from", {"session": "r", "turn": -1, "sha256": None})),
    ("forked_from.sha256", put("forked_from", {"session": "r", "turn": 1, "sha256": "a"})),
]


@pytest.mark.parametrize(("place", "change"), WRONG, ids=[f"{i}-{place}" for i, (place, _) in enumerate(WRONG)])
def test_a_block_of_another_structure_is_refused(place: str, change: Change) -> None:
    value = copy.deepcopy(block())
    change(value)
    with pytest.raises(NotebookError) as refused:
        read_block({"lash_nb": value})
    assert f"metadata.lash_nb.{place}" in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, schema())


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_a_block_that_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(NotebookError, match=r"metadata\.lash_nb is"):
        read_block({"lash_nb": value})


@pytest.mark.parametrize("change", [put("version", 2), put("head", "version", 2)])
def test_a_newer_version_is_refused(change: Change) -> None:
    value = copy.deepcopy(block())
    change(value)
    with pytest.raises(NotebookError, match=r"newer lash_nb \(format 2; this one reads up to 1\)"):
        read_block({"lash_nb": value})


def test_a_long_value_is_not_repeated_in_full() -> None:
    with pytest.raises(NotebookError) as refused:
        read_block({"lash_nb": "x" * 10_000})
    assert len(str(refused.value)) < 200


# ------------------------------------------------------------------------------------------------------------ damage


def test_a_changed_digit_is_noticed() -> None:
    stored = envelope()
    stored["checkpoint"][-2] = stored["checkpoint"][-2].replace("null", "1")
    with pytest.raises(CorruptCheckpointError, match="SHA-256"):
        checkpoint_text(stored)


def test_every_flipped_byte_of_a_compressed_one_is_noticed() -> None:
    stored = large()
    data = base64.b64decode(stored["checkpoint"])
    for index in range(0, len(data), max(1, len(data) // 50)):
        flipped = data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]
        with pytest.raises(CorruptCheckpointError, match="damaged"):
            checkpoint_text({**stored, "checkpoint": base64.b64encode(flipped).decode()})


@pytest.mark.parametrize(
    "packed",
    [
        large()["checkpoint"][:-5],
        large()["checkpoint"][:-8],
        "not base64!",
        "ümlaut",
        "",
        base64.b64encode(b"not zlib").decode(),
        base64.b64encode(zlib.compress(b"\xff\xfe")).decode(),
        base64.b64encode(zlib.compress(b"{}") + b"more").decode(),
    ],
)
def test_a_broken_compressed_one_is_refused(packed: str) -> None:
    with pytest.raises(CorruptCheckpointError, match="damaged"):
        checkpoint_text({**large(), "checkpoint": packed})


def test_a_decompression_bomb_is_refused_before_it_unpacks() -> None:
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    with pytest.raises(CorruptCheckpointError, match="more than 67,108,864 bytes"):
        checkpoint_text({**large(), "checkpoint": base64.b64encode(bomb).decode()})


@pytest.mark.parametrize("text", ["[]", '{"state": "Elsewhere"}', "\ud800", "[" * 100_000])
def test_an_intact_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    digest = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    with pytest.raises(CorruptCheckpointError) as refused:
        open_checkpoint({**envelope(), "checkpoint": [text], "sha256": digest})
    assert "\n" not in str(refused.value)


# ------------------------------------------------------------------------------------------------------------- chain


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (put("turns", 0, "parent", "0" * 64), r"turns\[0\] does not follow"),
        (put("turns", 1, "parent", None), r"turns\[1\] does not follow"),
        (put("head", "parent", "0" * 64), "head does not follow"),
        (put("turns", 1, "seq", 0), r"turns\[1\] is out of order"),
        (put("head", "turn", 2), "head is out of order"),
        (put("turns", 1, "session", "other"), r"turns\[1\] is of session 'other'"),
        (put("turns", 0, "checkpoint", 0, "["), r"turns\[0\]\.checkpoint is damaged"),
        (drop("turns", 0), r"turns\[0\] does not follow"),
    ],
)
def test_a_broken_chain_is_noticed(change: Change, why: str) -> None:
    value = copy.deepcopy(block())
    change(value)
    found = read_block({"lash_nb": value})
    assert found is not None
    with pytest.raises(CorruptCheckpointError, match=why):
        verify_chain(found)


# ---------------------------------------------------------------------------------------------------- from the kernel


def test_where_there_is_no_notebook_nothing_is_sent() -> None:
    line = NotebookLine(on_here=lambda holder: pytest.fail("nobody is there"))
    line.open()
    line.begin()
    number = line.set(make_block(session="s", head=None, turns=[]))
    assert number is None
    assert not line.acknowledged(number)
    line.close()
