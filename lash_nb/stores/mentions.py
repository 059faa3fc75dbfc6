"""Which turns a notebook's outputs show, as their metadata says, and where the journals of its sessions may be.

Decided here: a mention is believed as a name alone: whoever uses it looks whether there is such a turn.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .notebook import METADATA_KEY
from .segments import segments, session_directory
from .state_dir import default_state_dir

__all__ = ["Mention", "journal_place", "journal_places", "mentions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """An output says that it shows a turn."""

    cell: int
    """Its index among all cells."""
    output: int
    session: str
    turn: int


def mentions(document: Mapping[str, Any]) -> Iterator[Mention]:
    """Those of a notebook (the whole document), in order; what is none is passed over."""
    for cell_at, cell in enumerate(_list(document, "cells")):
        for output_at, output in enumerate(_list(cell, "outputs")):
            metadata = output.get("metadata") if isinstance(output, Mapping) else None
            ours = metadata.get(METADATA_KEY) if isinstance(metadata, Mapping) else None
            if isinstance(ours, Mapping):
                session, turn = ours.get("session"), ours.get("turn")
                if isinstance(session, str) and session and type(turn) is int:
                    yield Mention(cell=cell_at, output=output_at, session=session, turn=turn)


def _list(value: object, name: str) -> list[Any]:
    found = value.get(name) if isinstance(value, Mapping) else None
    return found if isinstance(found, list) else []


def journal_places(notebook: Path, state_dir: Path | None) -> list[Path]:
    """Where the journals of a notebook's sessions may be, the likeliest first."""
    return [state_dir] if state_dir is not None else [notebook.with_suffix(".lash"), default_state_dir()]


def journal_place(session: str, places: list[Path]) -> Path | None:
    """Which of these has the session's journal; None: none has."""
    return next((place for place in places if segments(session_directory(place, session))), None)
