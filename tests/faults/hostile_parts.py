"""What hostile notebooks are made of: real ones, the places in them, what is put there, and mutations at random.

`sealed` envelopes have their hashes made right again after a change, so that what lies behind the hash is reached, too.
Nothing here is harmful by itself: what would run only asks for a number.
"""

from __future__ import annotations

import base64
import copy
import itertools
import json
import os
import pickle
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lash_nb.trust import sha256_text
from tests.stores.envelopes import finished, notebook, running

__all__ = [
    "EVIL_TEXTS",
    "PAYLOAD",
    "WRONG",
    "Case",
    "Place",
    "bases",
    "case",
    "changed",
    "document",
    "mutations",
    "opened",
    "places",
    "sealed",
    "texts_of",
    "with_checkpoint",
    "without",
]

V1 = Path(__file__).parent.parent / "stores" / "v1" / "prices.ipynb"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One notebook, as the bytes of its file; `document` is what is not JSON that Python can write."""

    name: str
    raw: bytes
    document: object = None


def case(name: str, document: object) -> Case:
    return Case(name=name, raw=json.dumps(document).encode())


class _Payload:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.getpid, ()


PAYLOAD = base64.b64encode(pickle.dumps(_Payload())).decode()
"""A pickle that calls something when it is loaded."""


# --------------------------------------------------------------------------------------------------- what is mutated

Place = tuple[Any, ...]


def places(value: Any, at: Place = ()) -> Iterator[Place]:
    """Every place in a JSON value, the whole first."""
    yield at
    entries: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, list):
        entries = itertools.islice(enumerate(value), 4)
    for step, entry in entries:
        yield from places(entry, (*at, step))


def changed(value: Any, at: Place, new: Any) -> Any:
    """A copy with another value in a place."""
    if not at:
        return new
    target = whole = copy.deepcopy(value)
    for step in at[:-1]:
        target = target[step]
    target[at[-1]] = new
    return whole


def without(value: Any, at: Place) -> Any:
    target = whole = copy.deepcopy(value)
    for step in at[:-1]:
        target = target[step]
    del target[at[-1]]
    return whole


def opened(envelope: dict[str, Any]) -> Any:
    return json.loads("".join(envelope["checkpoint"]))


def sealed(envelope: dict[str, Any], checkpoint: Any) -> dict[str, Any]:
    """The envelope with another checkpoint, whose hash is right."""
    try:
        text = json.dumps(checkpoint, ensure_ascii=False)
        digest = sha256_text(text)
    except UnicodeEncodeError:
        text = json.dumps(checkpoint)
        digest = sha256_text(text)
    return {**envelope, "checkpoint": [text], "sha256": digest}


def document(turns: list[dict[str, Any]], head: dict[str, Any] | None = None) -> dict[str, Any]:
    """A notebook whose chain is right again."""
    before = None
    linked = []
    for envelope in [*turns, *([head] if head is not None else [])]:
        linked.append({**envelope, "parent": before})
        before = envelope["sha256"]
    value = {"version": 1, "session": "s", "head": linked.pop() if head is not None else None, "turns": linked}
    return notebook(value, *linked[:1])


RESUME = {
    "asked": {"text": "Why?", "model": "replay:a.jsonl", "protocol": "code", "schema": {"type": "object"}},
    "label": "1",
    "kernels": {"python": "0" * 32},
    "known": ["a"],
    "steps": 1,
    "said": 0,
    "waiting": ["more"],
}


def bases() -> list[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Finished turns and a head: made by hand, and by version 1."""
    value = json.loads(V1.read_text(encoding="utf-8"))["metadata"]["lash_nb"]
    ours = [finished(turn=1, resume=RESUME, dollars=0.5), finished("And?", turn=2, resume=RESUME)]
    return [(ours, running("now", turn=3, resume=RESUME)), (value["turns"], value["head"])]


WRONG: list[Any] = [None, True, -1, 2**63, 1.5, "", "x", [], {}, [[]], {"a": None}, 10**30, float("nan"), float("inf")]


def texts_of(value: Any) -> list[Place]:
    """The places where a text stands."""

    def at(place: Place) -> Any:
        target = value
        for step in place:
            target = target[step]
        return target

    return [place for place in places(value) if isinstance(at(place), str)]


def with_checkpoint(
    turns: list[dict[str, Any]], head: dict[str, Any], envelope: dict[str, Any], checkpoint: Any
) -> Any:
    new = sealed(envelope, checkpoint)
    return document([new if turn is envelope else turn for turn in turns], new if envelope is head else head)


EVIL_TEXTS = [
    "../../../../etc/passwd",
    "/dev/zero",
    "C:\\Windows\\win.ini",
    "\\\\host\\share\\x",
    "a\0b",
    "~root/.ssh",
    "replay:../../x.jsonl",
    "replay:/etc/passwd",
    "os:system",
    "__import__('os').getpid()",
    "{0.__class__.__mro__}",
    "%(x)s %s %n",
    "\ud800",
    "\udc00x",
    "\u202egnp.exe\u2066",
    "\x1b]0;title\x07\x1b[2J\x9b31m\r\x08\x7f",
    "\0\ufeff\u2028\u2029\x85",
    "e" + "\u0301" * 5_000,
    "\U000e0041\u200b\u200f\u061c",
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "</pre></code></details><iframe src=javascript:alert(1)>",
    "[x](javascript:alert(1)) ![y](http://host/z) <http://host>",
    "<svg onload=alert(1)><style>*{display:none}</style>",
    "&lt;script&gt;&#60;",
    "```\n</code><b onclick=x>\n```",
    PAYLOAD,
    base64.b64decode(PAYLOAD).decode("latin-1"),
]


# ---------------------------------------------------------------------------------------------------------- mutations


def mutations(seed: int) -> Iterator[Case]:
    """Without end: one to four things happen to a real notebook, before its hashes are made right, or after."""
    luck = random.Random(seed)
    small, large = bases()
    known = [small, small, large]
    for number in itertools.count():
        turns, head = copy.deepcopy(luck.choice(known))
        if luck.random() < 0.5:
            envelope = luck.choice([*turns, head])
            value = opened(envelope)
            for _ in range(luck.randint(1, 3)):
                value = happened(value, luck)
            whole: Any = with_checkpoint(turns, head, envelope, value)
        else:
            whole = document(turns, head)
            for _ in range(luck.randint(1, 4)):
                whole["metadata"] = happened(whole["metadata"], luck)
        raw = json.dumps(whole).encode()
        if luck.random() < 0.1:
            raw = flipped(raw, luck)
        yield Case(name=f"mutation {seed}.{number}", raw=raw)


def flipped(raw: bytes, luck: random.Random) -> bytes:
    data = bytearray(raw)
    for _ in range(luck.randint(1, 3)):
        data[luck.randrange(len(data))] ^= 1 << luck.randrange(8)
    return bytes(data)


def happened(value: Any, luck: random.Random) -> Any:
    """A value in one place of which something has happened; it need not be a place of a mapping any more."""
    every = list(places(value))
    at = luck.choice(every[1:] or every)
    if not at:
        return luck.choice(WRONG)
    target = value
    for step in at[:-1]:
        target = target[step]
    step, other = at[-1], luck.choice(every)
    happen: list[Callable[[], Any]] = [
        lambda: target.__delitem__(step),
        lambda: target.__setitem__(step, luck.choice(WRONG)),
        lambda: target.__setitem__(step, luck.choice(EVIL_TEXTS)),
        lambda: target.__setitem__(step, copy.deepcopy(_at(value, other))),
        lambda: target.__setitem__(step, _garbled(target[step], luck)),
    ]
    luck.choice(happen)()
    return value


def _at(value: Any, at: Place) -> Any:
    for step in at:
        value = value[step]
    return value


def _garbled(value: Any, luck: random.Random) -> Any:
    if isinstance(value, str) and value:
        at = luck.randrange(len(value))
        return value[:at] + luck.choice(["", "0", "\0", "é", "\ud800", value]) + value[at + 1 :]
    if isinstance(value, list):
        return [*value, *value] if luck.random() < 0.5 else luck.sample(value, len(value))
    if isinstance(value, dict):
        items = list(value.items())
        luck.shuffle(items)
        return dict(items)
    if isinstance(value, int):
        return value + luck.choice([-1, 1, 2**31, 2**53])
    return value
