"""Envelopes and notebooks for tests, out of checkpoints that the reference wrote."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lash_nb.stores.envelopes import make_envelope
from lash_nb.stores.notebook import make_block

__all__ = ["FINISHED", "RUNNING", "STORED", "block", "chain", "envelope", "finished", "notebook", "pointer", "running"]

STORED = (
    (Path(__file__).parent.parent / "conformance" / "raw_checkpoints.jsonl").read_text(encoding="utf-8").splitlines()
)
RUNNING, FINISHED = STORED[2], STORED[6]
DONE: dict[str, Any] = {"finished": {"assistant_message": {"text": "ok"}}}


def envelope(text: str, **changes: Any) -> dict[str, Any]:
    """One of turn 1 of session `s`, whose sequence number is that of the turn unless it is said."""
    place = {"session": "s", "turn": 1, "parent": None, "saved_at": "2026-11-22T17:00:00Z", **changes}
    return make_envelope(text, engine="lash_nb 0.1.0", **{"seq": place["turn"], **place})


def finished(request: str = "Why?", outcome: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """The envelope of a turn that has ended."""
    checkpoint = json.loads(FINISHED)
    checkpoint["pending_effects"][0]["Emit"]["outcome"] = outcome or DONE
    asked = checkpoint["pending_effects"][2]["Done"]["messages"][0]
    asked["id"], asked["parts"][0]["content"] = f"m_user_{changes.get('turn', 1)}", request
    return envelope(json.dumps(checkpoint, ensure_ascii=False), **changes)


def running(request: str = "Why?", **changes: Any) -> dict[str, Any]:
    """The envelope of a turn that has not."""
    checkpoint = json.loads(RUNNING)
    checkpoint["messages"][0]["parts"][0]["content"] = request
    return envelope(json.dumps(checkpoint, ensure_ascii=False), **changes)


def chain(count: int, *, size: int = 1, session: str = "s") -> list[dict[str, Any]]:
    """The envelopes of so many finished turns; the request of turn 3 is `3`, so many times."""
    turns: list[dict[str, Any]] = []
    for turn in range(1, count + 1):
        parent = turns[-1]["sha256"] if turns else None
        turns.append(finished(f"{turn}" * size, turn=turn, parent=parent, session=session))
    return turns


def block(count: int = 2) -> dict[str, Any]:
    """Of so many finished turns, and one in progress."""
    turns = chain(count)
    head = running("now", turn=count + 1, parent=turns[-1]["sha256"] if turns else None)
    return dict(make_block(session="s", head=head, turns=turns))


def pointer(turn: dict[str, Any]) -> dict[str, Any]:
    """What an output says of a turn that the notebook's own metadata holds."""
    return {name: turn[name] for name in ("session", "turn", "sha256")}


def notebook(value: object = None, *outputs: object) -> dict[str, Any]:
    """One with this block (None: with none), and a cell for each output's metadata."""
    display = {"output_type": "display_data", "data": {"text/plain": "shown"}}
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {} if value is None else {"lash_nb": value},
        "cells": [
            {
                "cell_type": "code",
                "id": f"cell-{number}",
                "source": "%%lash\nWhy?",
                "metadata": {},
                "execution_count": None,
                "outputs": [{**display, "metadata": {"lash_nb": metadata}}],
            }
            for number, metadata in enumerate(outputs)
        ],
    }
