"""The sessions below a state directory, as files: which there are."""

from __future__ import annotations

from pathlib import Path

from ..errors import JournalError
from .journal import read_header

__all__ = ["sessions_in"]


def sessions_in(state_dir: Path) -> list[str]:
    """The ids of the sessions that have a journal in `state_dir`; one that cannot be read is left out."""
    found = []
    for directory in sorted((state_dir / "sessions").glob("*")):
        try:
            found.append(str(read_header(directory)["session"]))
        except (JournalError, KeyError):
            continue
    return found
