"""How a session's journal is found again after a crash, and repaired when a person asks for it.

Decided here: what is done without asking, which is what loses nothing. A torn tail is cut off, also when whole records
lie in it (the disk kept those and not the one before them, and none had been promised); an unfinished change of
segments is finished, or undone when the new segment is not whole; each is said in a note. Damage is refused: of a
segment that was not the last one everything had been on the disk. Only the holder of the journal may do any of it. What
is found is made durable before anybody builds upon it: its writer may have ended before that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import CorruptJournalError, JournalError
from ..machine.wire import Json
from .durable import NewSegment, archive_all, copy_aside, set_aside, sync_directory
from .frames import Scan, scan, seed
from .ownership import take
from .segments import (
    archives,
    check_header,
    damage,
    journal_errors,
    leftovers,
    missing,
    open_plain,
    raw_segments,
    read_all,
    read_segment,
    segment_of,
    segments,
    whole_from_its_start,
)

__all__ = ["Found", "recover", "repair"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A segment to write on: what it holds, where it ends (bytes), what seeds its checksums; `fd` is the caller's."""

    number: int
    fd: int
    records: list[dict[str, Any]]
    size: int
    seed: int
    notes: tuple[str, ...] = ()
    copied: bool = False


def recover(directory: Path, *, session: str, create: bool) -> Found:
    """Find the newest whole segment, or begin the first one.

    Raises:
        OSError: the system does not let us.
        JournalError: there is none and none is to be made, or it is another session's or version's.
        CorruptJournalError: it is damaged; nothing was changed.
    """
    raw = raw_segments(directory)
    if not raw and archives(directory):
        raise missing(directory, session=session)
    if not raw and not create:
        raise JournalError(f"there is no journal in {directory}: the session {session!r} was never recorded there")
    unfinished: list[Path] = []
    for number in sorted(raw, reverse=True):
        path = raw[number]
        fd = open_plain(path, os.O_RDWR | os.O_APPEND)
        try:
            found = scan(read_all(fd), settled=bool(unfinished))
            _refuse(path, found, session)
            if whole_from_its_start(found):
                return _go_on(directory, number, fd, found, unfinished)
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        unfinished.append(path)
        if number == min(raw) and (len(raw) > 1 or archives(directory) or not found.empty):
            raise damage(path, found, session=session)
    _remove_leftovers(directory)
    new = NewSegment.write(directory, (), session=session, number=max(raw, default=1))
    try:
        new.place()
    except BaseException:
        new.discard()
        raise
    notes = tuple(f"{path.name} held not even a whole first line, and was begun again" for path in unfinished)
    return Found(number=new.number, fd=new.fd, records=[], size=new.size, seed=new.seed, notes=notes)


def _refuse(path: Path, found: Scan, session: str) -> None:
    if found.header is not None:
        check_header(path, found.header, session=session)
    if found.problem:
        raise damage(path, found, session=session)


def _go_on(directory: Path, number: int, fd: int, found: Scan, unfinished: list[Path]) -> Found:
    """Finish or undo what a crash left, and make durable what there is."""
    assert found.header is not None
    path = segment_of(directory, number)
    notes = []
    for later in unfinished:
        kept = set_aside(later)
        notes.append(f"{later.name} is not whole, so {path.name} is gone on with; it is kept as {kept.name}")
    _remove_leftovers(directory)
    if found.torn:
        os.ftruncate(fd, found.end)
        notes.append(
            f"the end of {path.name} was cut off, by a crash while it was written: its last {found.torn} bytes, from "
            f"byte {found.end} on, were no whole record{_behind(found)} and are gone; "
            f"{len(found.records)} records are whole"
        )
    os.fsync(fd)
    sync_directory(directory)
    notes += archive_all(directory, before=number)
    copied = found.header.get("inode") != os.fstat(fd).st_ino
    if copied:
        notes.append(f"{path.name} is a copy: it was not written where it lies now")
    return Found(
        number=number,
        fd=fd,
        records=found.records,
        size=found.end,
        seed=seed(found.header["nonce"]),
        notes=tuple(notes),
        copied=copied,
    )


def _behind(found: Scan) -> str:
    """What was whole in a torn tail."""
    if not found.after:
        return ""
    return (
        f", with {found.after} whole {'one' if found.after == 1 else 'ones'} behind it that nobody had been promised,"
    )


def _remove_leftovers(directory: Path) -> None:
    for path in leftovers(directory):
        path.unlink(missing_ok=True)


def repair(directory: Path, *, session: str, owner: Mapping[str, Json] | None = None) -> tuple[str, ...]:
    """Make a damaged journal one that opens, from what is whole before the damage; sentences on what was done.

    What is damaged is kept beside it under another name. Nothing is done to a journal that opens as it is.

    Raises:
        JournalInUseError: somebody writes it.
        JournalError: it cannot be written, or it is another session's or version's.
    """
    ownership = take(directory, session=session, owner=owner)
    try:
        with journal_errors(directory, "repaired"):
            return (*_repair_past(directory), *_repair_newest(directory, session))
    finally:
        ownership.release()


def _repair_past(directory: Path) -> list[str]:
    """Set aside what is damaged before the newest segment."""
    notes = []
    newest = max(raw_segments(directory), default=None)
    for number, path in segments(directory).items():
        if number == newest:
            continue
        try:
            found = scan(read_segment(path), settled=True)
            whole = found.header is not None and not found.problem
        except CorruptJournalError:
            whole = False
        if not whole:
            notes.append(f"{path.name} is damaged: it is kept as {set_aside(path).name}, and its records are left out")
    return notes


def _repair_newest(directory: Path, session: str) -> list[str]:
    """Write the newest segment again, with what is whole of it or, when its start is not, with what came before."""
    known = segments(directory)
    raw = raw_segments(directory)
    if not known:
        return []
    number = max(known) if max(known) in raw else max(known) + 1
    path = segment_of(directory, number)
    found = Scan(header=None, records=[], end=0, size=0, problem="missing")
    if number in known:
        found = scan(read_segment(path))
        if found.header is not None:
            check_header(path, found.header, session=session)
    whole = whole_from_its_start(found)
    if whole and not found.problem:
        return []
    records, compacted = found.records, (found.header or {}).get("compacted", 0)
    earlier = [known[other] for other in known if other < number]
    if not whole and earlier:
        # All that the archive holds is what this segment began with, in other words.
        records = scan(read_segment(earlier[-1])).records
        compacted = len(records)
    new = NewSegment.write(directory, records, session=session, number=number, compacted=min(compacted, len(records)))
    try:
        notes = (
            [f"{path.name} was damaged at byte {found.end}: it is kept as {copy_aside(path).name}"]
            if number in known
            else []
        )
        new.place()
    finally:
        new.discard()
    return [*notes, f"{path.name} now holds {len(records)} records"]
