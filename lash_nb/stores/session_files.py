"""The sessions below a state directory, as files: which there are, what a glance at them tells, their segments.

Decided here: a glance decodes no checkpoint. It sees that every line of the newest segment is whole and reads the few
that say what a list of sessions shows; where anything is not as usual, `read_records` has the word. A session that
cannot be read is told like the others, with the sentence that says why, and named by its directory.
"""

from __future__ import annotations

import os
import time
import urllib.parse
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import CorruptJournalError, JournalError
from ..machine.wire import DecodeError, loads
from .frames import scan, seed
from .journal import holder, read_header, read_records, session_directory
from .segments import (
    archive_of,
    check_header,
    damage,
    journal_errors,
    missing,
    raw_segments,
    read_segment,
    segment_of,
    segments,
    whole_from_its_start,
)

__all__ = [
    "ReadSegment",
    "SessionGlance",
    "glance",
    "glances",
    "is_copy",
    "read_segments",
    "session_directories",
    "sessions_in",
    "whole_lines",
]

_MOST_LOOKS = 4
_PAUSE_S = 0.01
_PASSED_OVER = frozenset({b"effect", b"answer", b"call", b"called", b"kernel", b"said", b"closed"})
"""Kinds of records that a glance does not decode."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionGlance:
    """What a list shows of a session."""

    session: str
    directory: Path
    used: float
    """The newest of the times of its files, in seconds since 1970."""
    size: int
    """Bytes of its files."""
    owner: Mapping[str, Any] | None = None
    """Who writes it now."""
    problem: str = ""
    """Why it cannot be read; the fields below are empty then."""
    damaged: bool = False
    label: str = ""
    notebook: str | None = None
    place: str | None = None
    """The directory in which it worked."""
    turns: int = 0
    interrupted: int | None = None
    """The turn that has not ended."""
    request: str = ""
    """The first one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSegment:
    """One segment; the first `repeated` of its records say again what came before. `problem` follows on the records."""

    number: int
    records: list[dict[str, Any]]
    repeated: int = 0
    problem: JournalError | None = None


# -------------------------------------------------------------------------------------------------- which there are


def session_directories(state_dir: Path) -> list[Path]:
    """The directories of all sessions, whatever is in them."""
    found = [path for path in (state_dir / "sessions").glob("*") if not path.name.startswith(".")]
    return sorted(path for path in found if path.is_dir() and not path.is_symlink())


def sessions_in(state_dir: Path) -> list[str]:
    """The ids of the sessions that have a journal in `state_dir`, also of those that cannot be read."""
    return [name for name in map(_name, session_directories(state_dir)) if name]


def _name(directory: Path) -> str:
    try:
        return str(read_header(directory)["session"])
    except (JournalError, KeyError):
        return _name_of_directory(directory) if segments(directory) else ""


def _name_of_directory(directory: Path) -> str:
    name = urllib.parse.unquote(directory.name, errors="surrogateescape")
    return name if session_directory(directory.parent.parent, name) == directory else directory.name


def is_copy(directory: Path) -> bool:
    """Whether its newest file is not the one that was written: the session was copied or restored.

    Raises:
        JournalError: its header cannot be read.
    """
    newest = max(raw_segments(directory).items(), default=None)
    return newest is None or read_header(directory).get("inode") != newest[1].stat().st_ino


# ------------------------------------------------------------------------------------------------------- at a glance


def glances(state_dir: Path) -> list[SessionGlance]:
    """All sessions there, the one used last first."""
    found = [glance(directory) for directory in session_directories(state_dir)]
    return sorted(found, key=lambda seen: seen.used, reverse=True)


def glance(directory: Path) -> SessionGlance:
    """What a list shows of one session."""
    used, size = _used_and_size(directory)
    seen = SessionGlance(session=_name_of_directory(directory), directory=directory, used=used, size=size)
    try:
        seen = replace(seen, owner=holder(directory))
        lines = _quick_lines(directory)
        if lines is None:
            seen = replace(seen, session=str(read_header(directory).get("session") or seen.session))
            return _folded(seen, read_records(directory))
        header, payloads = lines
        return _folded(replace(seen, session=str(header["session"])), _worth_reading(payloads))
    except (JournalError, OSError, DecodeError, KeyError, TypeError, ValueError) as error:
        problem = str(error) if isinstance(error, JournalError) else f"{directory} cannot be read: {error}"
        return replace(seen, problem=problem, damaged=isinstance(error, CorruptJournalError))


def _used_and_size(directory: Path) -> tuple[float, int]:
    used, size = 0.0, 0
    for entry in os.scandir(directory) if directory.is_dir() else ():
        try:
            told = entry.stat(follow_symlinks=False)
        except FileNotFoundError:  # put away meanwhile
            continue
        used, size = max(used, told.st_mtime), size + told.st_size
    return used or _time_of(directory), size


def _time_of(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # removed meanwhile
        return 0.0


def _quick_lines(directory: Path) -> tuple[dict[str, Any], list[bytes]] | None:
    newest = max(raw_segments(directory).items(), default=None)
    if newest is None:
        return None
    with journal_errors(newest[1], "read"):
        lines = whole_lines(read_segment(newest[1]))
    if lines is not None:
        check_header(newest[1], lines[0], session=None)
    return lines


def whole_lines(data: bytes) -> tuple[dict[str, Any], list[bytes]] | None:
    """Header and records of a segment as their JSON, if every line is whole; None leaves the word to `frames.scan`."""
    lines = data.split(b"\n")
    if lines.pop() or not lines:
        return None
    header: dict[str, Any] = {}
    payloads: list[bytes] = []
    start = 0
    for number, line in enumerate(lines):
        brace = line.find(b"{")
        payload, (place, _, checksum) = line[brace:], line[: brace - 1].rpartition(b" ")
        known = zlib.crc32(payload, zlib.crc32(place + b" ", start))
        if place.split(b" ")[:2] != [b"%x" % number, b"%x" % len(payload)] or checksum != b"%08x" % known:
            return None
        if number:
            payloads.append(payload)
            continue
        found = loads(payload)
        if not isinstance(found, dict) or not isinstance(found.get("nonce"), str):
            return None
        header, start = found, seed(found["nonce"])
    return (header, payloads) if len(payloads) >= header.get("compacted", 0) else None


def _worth_reading(payloads: Iterable[bytes]) -> Iterator[Mapping[str, Any]]:
    for payload in payloads:
        kind = payload[6 : payload.find(b'"', 6)] if payload.startswith(b'{"k":"') else b""
        if kind == b"end":
            yield {"k": "end"}
        elif kind not in _PASSED_OVER:
            yield loads(payload)


def _folded(seen: SessionGlance, records: Iterable[Mapping[str, Any]]) -> SessionGlance:
    facts: Mapping[str, Any] = {}
    turns, running, request = 0, None, ""
    for record in records:
        kind = record.get("k")
        if kind == "session":
            facts = record
        elif kind == "turn":
            turns, running = turns + 1, int(record["turn"])
            request = request or str(record["asked"]["text"])
        elif kind == "end":
            running = None
    notebook, place = facts.get("notebook"), facts.get("directory")
    return replace(
        seen,
        label=str(facts.get("label", "")),
        notebook=None if notebook is None else str(notebook),
        place=None if place is None else str(place),
        turns=turns,
        interrupted=running,
        request=request,
    )


# ---------------------------------------------------------------------------------------------------------- segments


def read_segments(directory: Path) -> Iterator[ReadSegment]:
    """The segments in their order, as far as they follow on each other, up to the first that is damaged.

    Its `problem` says so then, and what is whole before the damage is among its records. Nothing is locked or changed.

    Raises:
        JournalError: there is no journal, it cannot be read, or a newer version wrote it.
    """
    known = segments(directory)
    if not known:
        raise JournalError(f"there is no journal in {directory}: nothing was ever recorded there")
    last = first = max(known)
    while first - 1 in known:
        first -= 1
    for number in range(first, last + 1):
        found = _segment(directory, number, last=number == last, alone=first == last)
        if found is not None:
            yield found
            if found.problem is not None:
                return
    if not raw_segments(directory):
        yield ReadSegment(number=last + 1, records=[], problem=missing(directory, session=_name(directory)))


def _segment(directory: Path, number: int, *, last: bool, alone: bool) -> ReadSegment | None:
    """What is in one segment; None for a newest one that a crash left unfinished."""
    for look in range(1, _MOST_LOOKS + 1):
        for path in (segment_of(directory, number), archive_of(directory, number)):
            try:
                with journal_errors(path, "read"):
                    try:
                        found = scan(read_segment(path), settled=not last)
                    except FileNotFoundError:  # put away, perhaps this moment
                        continue
            except CorruptJournalError as error:
                return ReadSegment(number=number, records=[], problem=error)
            if found.header is not None:
                check_header(path, found.header, session=None)
            cut_off = not whole_from_its_start(found)
            if not found.problem and cut_off and last:
                return ReadSegment(number=number, records=[]) if alone and found.empty else None
            if not found.problem and not cut_off:
                repeated = int((found.header or {}).get("compacted", 0))
                return ReadSegment(number=number, records=found.records, repeated=repeated)
            if look == _MOST_LOOKS:
                name = str((found.header or {}).get("session") or _name_of_directory(directory))
                return ReadSegment(number=number, records=found.records, problem=damage(path, found, session=name))
        time.sleep(_PAUSE_S)  # its writer may just have taken back what it could not write whole
    raise JournalError(f"{archive_of(directory, number)} was removed while it was read: read the journal again")
