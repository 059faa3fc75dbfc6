"""Which sessions earlier processes left for a notebook, and what they hold, told from a look at their journals' ends.

Decided here: a session is a notebook's if its journal names the notebook's file; where the frontend tells none, if it
names none either, was begun in the same directory, and was used within a day. The newest are looked at first, within a
bound of time, because `%load_ext` waits for it. Nothing is opened for writing, locked, or repaired; what cannot be
read is passed over.
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import JournalError
from .machine.wire import DecodeError, loads
from .stores.ownership import holder
from .stores.segments import open_plain, raw_segments

__all__ = ["EarlierSession", "earlier_sessions"]

_RECENT_S = 24 * 3600.0
_WHOLE = 2 * 1024 * 1024
"""Bytes of a journal that are looked at as a whole; of a longer one its ends."""
_HEAD = 256 * 1024
_TAIL = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierSession:
    """A session that an earlier process began."""

    session: str
    by_name: bool
    """Whether its journal names the notebook; else only the directory is the same."""
    turns: int
    """Those that have ended."""
    interrupted: bool
    """Whether one more has not."""
    owner: Mapping[str, Any] | None = None
    """Who writes it now (`pid`, `host`, `since`); None: nobody does."""
    used_at: float = 0.0
    """When it was written to last, in seconds since 1970."""

    @property
    def sentence(self) -> str:
        """What `%load_ext` says of it."""
        of = " of this notebook" if self.by_name else ""
        plural = "" if self.turns == 1 else "s"
        holds = [f"{self.turns} turn{plural}"] if self.turns else []
        if self.owner is not None:
            who = f"in use by process {self.owner.get('pid', '?')}"
            return f"earlier session{of}: {'; '.join([*holds, who])} (its turn can be followed: `%lash resume`)"
        if self.interrupted:
            what = f"turn {self.turns + 1} was interrupted: `%lash resume` shows what is outstanding and asks"
            return f"earlier session{of}: {'; '.join([*holds, what])}"
        return f"earlier session{of}: {holds[0]}, `%lash resume` goes on with it"


def earlier_sessions(
    state_dir: Path,
    *,
    notebook: Path | None,
    directory: Path,
    but: Collection[str] = (),
    most: int | None = None,
    within_s: float | None = None,
) -> list[EarlierSession]:
    """The sessions of that notebook in `state_dir`, the one that was used last first; without those named in `but`.

    Args:
        notebook: the notebook's file; None: nobody knows, and `directory` has to do.
        directory: where the notebook's kernel was started.
        most: how many are enough.
        within_s: after how long the rest, which are older, are not looked at; None: all are.
    """
    gives_up_at = None if within_s is None else time.monotonic() + within_s
    found: list[EarlierSession] = []
    for used_at, path in _newest_segments(state_dir):
        if len(found) == most or (gives_up_at is not None and time.monotonic() > gives_up_at):
            break
        try:
            glance = _Glance.at(path)
            if glance.session in but or not _is_of(glance.facts, used_at, notebook=notebook, directory=directory):
                continue
            earlier = _earlier(glance, path, by_name=notebook is not None, used_at=used_at)
        except (OSError, JournalError, DecodeError):
            continue
        if earlier is not None:
            found.append(earlier)
    return found


def _newest_segments(state_dir: Path) -> list[tuple[float, Path]]:
    """When each session was written to last, and its file; the newest first."""
    found = []
    for directory in (state_dir / "sessions").glob("*"):
        segments = raw_segments(directory)
        if segments:
            path = segments[max(segments)]
            try:
                found.append((path.lstat().st_mtime, path))
            except OSError:
                continue
    return sorted(found, reverse=True)


def _is_of(facts: Mapping[str, Any], used_at: float, *, notebook: Path | None, directory: Path) -> bool:
    theirs = facts.get("notebook")
    if notebook is not None:
        return isinstance(theirs, str) and _is_same(notebook, theirs)
    return theirs is None and facts.get("directory") == str(directory) and time.time() - used_at < _RECENT_S


def _is_same(ours: Path, theirs: str) -> bool:
    if str(ours) == theirs:
        return True
    try:
        return os.path.samefile(ours, theirs)
    except (OSError, ValueError):
        return False


def _earlier(glance: _Glance, path: Path, *, by_name: bool, used_at: float) -> EarlierSession | None:
    """None: there is nothing in it, or this very process writes it."""
    owner = holder(path.parent)
    last = glance.last_of_a_turn()
    if last is None or (owner is not None and owner.get("pid") == os.getpid()):
        return None
    ended = last.get("k") == "end"
    return EarlierSession(
        session=glance.session,
        by_name=by_name,
        turns=int(last["turn"]) - (not ended),
        interrupted=not ended,
        owner=owner,
        used_at=used_at,
    )


class _Glance:
    """The ends of one segment; its middle is read only where they do not tell. Checksums are not looked at."""

    def __init__(self, path: Path, head: bytes, tail: bytes) -> None:
        """`tail` is the whole where it is not longer than that; else it begins anywhere in a line."""
        self._path, self._head, self._tail = path, head, tail
        header = _record(head[: head.find(b"\n") + 1])
        self.session = str(header.get("session", ""))
        self.facts = self._newest_facts(tail) or self._newest_facts(head) or {}
        """What the process said of itself that wrote last."""
        if not self.session or not self.facts:
            raise DecodeError("it does not say of which session it is")

    @classmethod
    def at(cls, path: Path) -> _Glance:
        """Raises: OSError; DecodeError: what is there is none."""
        fd = open_plain(path, os.O_RDONLY)
        try:
            size = os.fstat(fd).st_size
            if size <= _WHOLE:
                whole = os.pread(fd, _WHOLE, 0)
                return cls(path, whole, whole)
            return cls(path, os.pread(fd, _HEAD, 0), os.pread(fd, _TAIL, size - _TAIL))
        finally:
            os.close(fd)

    @staticmethod
    def _newest_facts(data: bytes) -> dict[str, Any] | None:
        end = len(data)
        while (at := data.rfind(b'"k":"session"', 0, end)) >= 0:
            start = data.rfind(b"\n", 0, at) + 1
            record = _record(data[start : data.find(b"\n", at) + 1])
            if record.get("k") == "session":
                return record
            end = start
        return None

    def last_of_a_turn(self) -> dict[str, Any] | None:
        """The last record that belongs to a turn; None when there is none. Raises OSError."""
        for data in (self._tail, None):
            for record in _backwards(self._path.read_bytes() if data is None else data):
                if type(record.get("turn")) is int:
                    return record
            if self._tail is self._head:
                break
        return None


def _backwards(data: bytes) -> Iterator[dict[str, Any]]:
    """The records, the last one first; a torn one at the end is none."""
    end = data.rfind(b"\n") + 1
    while end > 0:
        start = data.rfind(b"\n", 0, end - 1) + 1
        yield _record(data[start:end])
        end = start


def _record(line: bytes) -> dict[str, Any]:
    """What a line of a journal holds; {} when that cannot be told."""
    try:
        record = loads(line[line.find(b"{") :])
    except DecodeError:
        return {}
    return record if isinstance(record, dict) else {}
