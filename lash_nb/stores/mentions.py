"""Which turns a notebook's outputs show, as their metadata says, and where the journals of its sessions may be.

Decided here: a mention is believed as a name alone: whoever uses it looks whether there is such a turn. Of a notebook
that nothing names, the only session in `NAME.lash` beside it is taken: `lash-nb run` keeps them there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .notebook import METADATA_KEY
from .segments import segments, session_directory
from .session_files import sessions_in
from .state_dir import default_state_dir

__all__ = ["Beside", "Mention", "journal_place", "journal_places", "mentions", "session_beside"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """An output says that it shows a turn."""

    cell: int
    """Its index among all cells."""
    output: int
    session: str
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """The only session that is kept beside a notebook."""

    session: str
    place: Path

    @property
    def sentence(self) -> str:
        """That it is taken."""
        return f"no journal names this file; session {self.session} is taken, the only one in {self.place}"


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


def session_beside(notebook: Path, places: list[Path]) -> Beside | None:
    """The only session in the directory of the notebook's name, if that is one of these places; None: there are none
    or several."""
    beside = notebook.with_suffix(".lash").resolve()
    for place in places:
        if place.resolve() == beside:
            names = sessions_in(place)
            return Beside(session=names[0], place=place) if len(names) == 1 else None
    return None
