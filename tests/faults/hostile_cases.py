"""Hand-made families of notebooks that mean harm, or that fate has treated badly."""

from __future__ import annotations

import base64
import copy
import itertools
import json
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from lash_nb.trust import sha256_text
from tests.faults.hostile_parts import (
    EVIL_TEXTS,
    PAYLOAD,
    WRONG,
    Case,
    Place,
    bases,
    case,
    changed,
    document,
    opened,
    places,
    texts_of,
    with_checkpoint,
    without,
)
from tests.stores.envelopes import block, chain, finished, notebook, pointer, running

__all__ = ["few", "many"]


# ---------------------------------------------------------------------------------------------------------- families


Later = Callable[[], Case]
"""A case that is made when it is wanted."""


def wrong_types() -> Iterator[Later]:
    """Another type in every place of a notebook, of its block, and of the checkpoints behind the hashes."""
    for number, (turns, head) in enumerate(bases()):
        whole = document(turns, head)
        # The one that is large in part: all of it would take long.
        step = 5 if number else 1
        for at, new in itertools.islice(itertools.product(places(whole), WRONG), None, None, step):
            yield partial(_case_in, f"type {number}", whole, at, new)
        for at in list(places(whole))[1:]:
            yield partial(_case_without, f"gone {number}", whole, at)
        for envelope in (turns[-1], head):
            checkpoint = opened(envelope)
            for at, new in itertools.islice(itertools.product(places(checkpoint), WRONG), None, None, step):
                yield partial(_case_behind, f"sealed {number}", (turns, head, envelope), checkpoint, at, new)


def evil_texts() -> Iterator[Later]:
    """What wants to be a path, a module, a command or markup, in every text."""
    turns, head = bases()[0]
    whole = document(turns, head)
    for at, new in itertools.product(texts_of(whole), EVIL_TEXTS):
        yield partial(_case_in, "text", whole, at, new)
    for number, (turns, head) in enumerate(bases()):
        for envelope in (turns[-1], head):
            checkpoint = opened(envelope)
            every = itertools.product(texts_of(checkpoint), EVIL_TEXTS)
            for at, new in itertools.islice(every, None, None, 5 if number else 1):
                yield partial(_case_behind, "sealed text", (turns, head, envelope), checkpoint, at, new)


def _case_in(name: str, whole: Any, at: Place, new: Any) -> Case:
    return case(f"{name} {at} {new!r:.20}", changed(whole, at, new))


def _case_without(name: str, whole: Any, at: Place) -> Case:
    return case(f"{name} {at}", without(whole, at))


def _case_behind(name: str, parts: tuple[Any, Any, Any], checkpoint: Any, at: Place, new: Any) -> Case:
    return case(f"{name} {at} {new!r:.20}", with_checkpoint(*parts, changed(checkpoint, at, new)))


def long_texts() -> Iterator[Case]:
    """What takes time that is more than its length."""
    turns, head = bases()[1]
    checkpoint = opened(turns[-1])
    done = next(index for index, effect in enumerate(checkpoint["pending_effects"]) if "Done" in effect)
    messages = checkpoint["pending_effects"][done]["Done"]["messages"]
    own = [index for index, message in enumerate(messages) if message["role"] == "Assistant"][-1]
    for piece in [
        "*",
        "**a",
        "`",
        "``x",
        "[",
        "[a](",
        "|",
        "|-",
        ">",
        "<",
        "<a ",
        "&",
        "\\",
        "#",
        "- ",
        "\n",
        "\0",
        "~~~\n",
    ]:
        long = (piece * 60_000)[:120_000]
        for part in range(len(messages[own]["parts"])):
            at = ("pending_effects", done, "Done", "messages", own, "parts", part, "content")
            yield case(f"long {piece!r}", with_checkpoint(turns, head, turns[-1], changed(checkpoint, at, long)))
        yield case(f"long session {piece!r}", notebook({**block(), "session": long}))


def deep(depth: int = 100_000) -> Iterator[Case]:
    """Nested without end: in the block, in an envelope, in what it goes on with, behind a hash."""
    text = "[" * depth + "]" * depth
    mapped = '{"a":' * depth + "1" + "}" * depth
    nested: Any = []
    for _ in range(depth):
        nested = [nested]
    whole = document(*bases()[0])
    for at in [*places(whole)][:60]:
        marked = json.dumps(changed(whole, at, "HERE"))
        for filling in (text, mapped):
            raw = marked.replace('"HERE"', filling, 1).encode()
            yield Case(
                name=f"deep {at}", raw=raw, document=changed(whole, at, None) if not at else _put(whole, at, nested)
            )
    turns, head = bases()[0]
    for size in (100, 150, 250, 400, 900, 3_000, depth):
        opening, closing = "[" * size, "]" * size
        for field in ("resume", "dollars", "extra"):
            marked = json.dumps(changed(whole, ("metadata", "lash_nb", "head", field), "HERE"))
            yield Case(name=f"deep {size} {field}", raw=marked.replace('"HERE"', opening + closing, 1).encode())
        lines = "".join(turns[0]["checkpoint"]).replace('"ok"', opening + closing, 1)
        for packed in (lines, opening + closing, mapped):
            sound = {**turns[0], "checkpoint": [packed], "sha256": sha256_text(packed)}
            yield case(f"deep {size} sealed", document([sound, turns[1]], head))


def _put(whole: Any, at: Place, new: Any) -> Any:
    """As `changed`, for a value that nothing can copy."""
    target = outer = copy.deepcopy(whole)
    for step in at[:-1]:
        target = target[step]
    target[at[-1]] = new
    return outer


def games() -> Iterator[Case]:
    """With sessions, sequence numbers, parents, versions and places."""
    turns, other = chain(5), chain(5, session="t")
    head = running(turn=6, parent=turns[-1]["sha256"])
    value = {"version": 1, "session": "s", "head": head, "turns": turns}
    lists: dict[str, list[Any]] = {
        "reversed": turns[::-1],
        "replayed": [*turns, *turns],
        "foreign": [*turns[:2], *other[2:]],
        "one session as the other": [{**turn, "session": "t"} for turn in turns],
        "parents swapped": [{**turn, "parent": before["parent"]} for turn, before in itertools.pairwise(turns)],
        "its own parent": [{**turn, "parent": turn["sha256"]} for turn in turns],
        "in a circle": [{**turn, "parent": turns[index - 1]["sha256"]} for index, turn in enumerate(turns)],
        "one seq": [{**turn, "seq": 1} for turn in turns],
        "seq falls": [{**turn, "seq": 9 - turn["seq"]} for turn in turns],
        "one number": [{**turn, "turn": 1} for turn in turns],
        "one content": [{**turns[0], "turn": index, "seq": index} for index in range(1, 6)],
        "newer": [{**turn, "version": 2} for turn in turns],
        "older": [{**turn, "version": 0} for turn in turns],
        "references without content": [_reference(turn) for turn in turns],
        "both": [{**turn, "ref": _reference(turn)["ref"]} for turn in turns],
        "texts": ["x"] * 5,
        "nothing": [],
    }
    for name, entries in lists.items():
        for top in (head, None, turns[-1], other[-1], running(turn=2, seq=99, parent=turns[0]["sha256"])):
            yield case(
                f"game {name}", notebook({**value, "turns": entries, "head": top}, *turns[:2], pointer(turns[4]))
            )
        yield case(f"game {name} in outputs", notebook(None, *entries))
        yield case(f"game {name} earlier", notebook({**value, "earlier": entries}, *other))
    for version in (2, 99, 2**62, 2**64, "2", 1.0, None):
        yield case(f"version {version}", notebook({**value, "version": version}))
    origins: list[Any] = [
        {},
        {"session": "s", "turn": 1, "sha256": "0" * 64},
        {"session": "../..", "turn": -1},
        7,
        [[]],
    ]
    for origin in origins:
        yield case(f"origin {origin}", notebook({**value, "forked_from": origin}))


def _reference(turn: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in turn.items() if name != "checkpoint"}
    return {**kept, "ref": {"bytes": 7, "request": "<b>\x1b[2J", "outcome": "done"}}


def packed(data: bytes, times: int = 1) -> str:
    for _ in range(times):
        data = zlib.compress(data, 1)
    return base64.b64encode(data).decode()


def bombs() -> Iterator[Case]:
    """What grows when it is unpacked, and what only claims to be packed."""
    zeros = bytes(70_000_000)
    contents = {
        "zeros": packed(zeros),
        "zeros of zeros": packed(zeros, 2),
        "lists": packed(b"[" + b"[]," * 10_000_000 + b"[]]"),
        "numbers": packed(b"[" + b"1," * 20_000_000 + b"1]"),
        "cut": packed(zeros)[:-40],
        "pickle": PAYLOAD,
        "packed pickle": packed(base64.b64decode(PAYLOAD)),
        "none": "",
        "no zlib": base64.b64encode(b"x" * 100).decode(),
        "with more": packed(b"{}") + packed(b"{}"),
    }
    for name, content in contents.items():
        value = {**finished(), "encoding": "zlib+base64", "checkpoint": content}
        try:
            value["sha256"] = sha256_text(zlib.decompress(base64.b64decode(content)).decode())
        except (ValueError, zlib.error):
            pass
        yield case(f"bomb {name}", notebook({"version": 1, "session": "s", "head": None, "turns": [value]}))
        times = 5 if name == "zeros" else 2  # five are more than all together may be
        yield case(f"bomb {name}, again", notebook(None, *[{**value, "turn": turn + 1} for turn in range(times)]))
    for encoding in ("pickle", "gzip", "zlib+base64 ", None, 7, ["zlib+base64"]):
        yield case(f"encoding {encoding}", notebook(None, {**finished(), "encoding": encoding, "checkpoint": PAYLOAD}))


def huge() -> Iterator[Case]:
    """Many, and long."""
    turn = finished()
    yield case("many turns", notebook({**block(0), "head": None, "turns": [turn] * 12_000}))
    yield case("many outputs", notebook(None, *[{**turn, "turn": number + 1} for number in range(1_200)]))
    yield case("many sessions", notebook(None, *[{**turn, "session": str(number)} for number in range(600)]))
    yield case("many references", notebook(None, *[{**_reference(turn), "turn": n + 1} for n in range(2_000)]))
    yield case("many pointers", notebook(None, *[{**pointer(turn), "turn": number} for number in range(8_000)]))
    yield case("many values", notebook({**block(), "extra": [0] * 500_000}))
    yield case("many fields", notebook({**block(), **{str(number): 0 for number in range(50_000)}}))
    yield case("many lines", notebook({**block(), "head": {**turn, "checkpoint": [""] * 1_000_000}}))
    yield case("a long text", notebook({**block(), "session": "x" * 3_000_000}))
    for literal in ("9" * 4_000, "9" * 5_000, "1e400", "-1e400", "NaN", "-Infinity", "1" + "0" * 308 + ".5"):
        for at in ("turn", "seq", "dollars", "version", "extra"):
            raw = json.dumps(notebook({**block(), "head": {**turn, at: "HERE"}})).replace('"HERE"', literal)
            yield Case(name=f"number {literal[:9]} {at}", raw=raw.encode())
            sound = "".join(turn["checkpoint"]).replace('"ok"', literal)
            yield case(
                f"number {literal[:9]} sealed",
                notebook(None, {**turn, "checkpoint": [sound], "sha256": sha256_text(sound)}),
            )


def no_notebooks() -> Iterator[Case]:
    """Files that are none."""
    whole = json.dumps(document(*bases()[0])).encode()
    for raw in (
        b"",
        b"{",
        b"\xff\xfe\x00",
        b"\0" * 100,
        b"[]",
        b"null",
        b'"x"',
        PAYLOAD.encode(),
        base64.b64decode(PAYLOAD),
    ):
        yield Case(name=f"no notebook {raw[:9]!r}", raw=raw)
    for end in range(0, len(whole), len(whole) // 40):
        yield Case(name=f"cut at {end}", raw=whole[:end])
    for version, minor in itertools.product((-1, 0, 1, 2, 3, 4, 5, 99), (-1, 0, 4, 5, 9, "5", None)):
        yield case(f"format {version} {minor}", {**document(*bases()[0]), "nbformat": version, "nbformat_minor": minor})


def few() -> Iterator[Case]:
    """The families that are small, and slow in part."""
    return itertools.chain(games(), deep(), bombs(), huge(), no_notebooks(), long_texts())


def many() -> list[Later]:
    """Those that put everything everywhere."""
    return [*evil_texts(), *wrong_types()]
