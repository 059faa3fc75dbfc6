"""How a session's journal is read by whoever does not write it: nothing is locked, changed or repaired.

Decided here: what a reader sees of a journal that is being written. A torn tail is a record that is being written, or
what a power cut left, which its next writer cuts off. A change of segments never shows: what a new segment begins with
only repeats the past, and is given to those alone who have not seen that.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import JournalError
from .frames import Scan, scan, scan_on, seed
from .ownership import holder
from .segments import (
    archive_of,
    archives,
    check_header,
    damage,
    journal_errors,
    missing,
    open_plain,
    raw_segments,
    read_all,
    read_segment,
    segment_of,
    segments,
    whole_from_its_start,
)

__all__ = ["JournalFollower", "drop_archives", "read_header", "read_records"]

_MOST_LOOKS = 5
_PAUSE_S = 0.01
_LONGEST_HEADER = 1024 * 1024
_START_OF_HEADER = 512


def read_records(directory: Path, *, everything: bool = False) -> Iterator[dict[str, Any]]:
    """The records of the newest segment, or (`everything`) of all that there are, without what repeats the past.

    Raises:
        JournalError: there is no journal, it cannot be read, or a newer version wrote it.
        CorruptJournalError: it is damaged.
    """
    number, newest = _newest(directory)
    first = number
    while everything and first - 1 in segments(directory):
        first -= 1
    for earlier in range(first, number):
        found = _look(directory, earlier)
        if found is None:
            raise JournalError(
                f"{archive_of(directory, earlier)} was removed while it was read: read the journal again"
            )
        yield from found.records[_repeated(found) if earlier > first else 0 :]
    yield from newest.records[_repeated(newest) if number > first else 0 :]


def read_header(directory: Path) -> dict[str, Any]:
    """What the newest segment says of itself (`session`, `engine`, `made`, …); reads no record.

    Raises:
        JournalError: there is no journal, it cannot be read, or a newer version wrote it.
        CorruptJournalError: it is damaged.
    """
    for path in reversed(raw_segments(directory).values()):
        with journal_errors(path, "read"):
            try:
                fd = open_plain(path, os.O_RDONLY)
            except FileNotFoundError:  # put away by now
                break
            try:
                line = os.pread(fd, _LONGEST_HEADER, 0).partition(b"\n")[0] + b"\n"
            finally:
                os.close(fd)
        header = scan(line).header
        if header is not None:
            check_header(path, header, session=None)
            return header
    return _newest(directory)[1].header or {}


def drop_archives(directory: Path) -> int:
    """Forget what the newest segment repeats in fewer words; how many bytes that freed.

    Raises:
        JournalError: it cannot be removed.
    """
    newest = max(raw_segments(directory), default=0)
    freed = 0
    for number, path in archives(directory).items():
        if number < newest:
            with journal_errors(path, "removed"):
                freed += path.stat().st_size
                path.unlink()
    return freed


def _newest(directory: Path) -> tuple[int, Scan]:
    """The newest segment that is whole from its start, and its number."""
    for _ in range(_MOST_LOOKS):
        raw = sorted(raw_segments(directory), reverse=True)
        for number in raw:
            found = _look(directory, number)
            if found is None:  # put away by now: there is a newer one
                break
            if whole_from_its_start(found) or (found.empty and len(segments(directory)) == 1):
                return number, found
            if number == raw[-1]:
                raise damage(segment_of(directory, number), found, session=_session(directory, found))
    if archives(directory):
        raise missing(directory, session=directory.name)
    raise JournalError(f"there is no journal in {directory}: nothing was ever recorded there")


def _look(directory: Path, number: int) -> Scan | None:
    """What is in that segment, put away or not; None: there is none."""
    for path in (segment_of(directory, number), archive_of(directory, number)):
        for last in (False, False, False, True):
            # Looked up before it is read: what is read then is all on the disk when there is a newer one.
            settled = number < max(segments(directory), default=number)
            with journal_errors(path, "read"):
                try:
                    found = scan(read_segment(path), settled=settled)
                except FileNotFoundError:
                    break
            if found.header is not None:
                check_header(path, found.header, session=None)
            if not found.problem and (last or not found.after):
                return found
            if last:
                raise damage(path, found, session=_session(directory, found))
            time.sleep(_PAUSE_S)  # its writer may just have taken back what it could not write whole
    return None


def _session(directory: Path, found: Scan) -> str:
    return str((found.header or {}).get("session") or directory.name)


def _repeated(found: Scan) -> int:
    """How many of its records repeat the past."""
    return int((found.header or {}).get("compacted", 0))


class JournalFollower:
    """Gives what is new in a journal, whoever writes it and whether anybody does; one thread uses it.

    `restarted` says of the last `poll` that it began anew, with the records of the newest segment: it was the first
    one, or what it had not seen yet is gone (the archive was dropped, the file was repaired).
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.restarted = False
        self._number: int | None = None
        self._nonce = ""
        self._at = 0
        self._next = 0

    def owner(self) -> dict[str, Any] | None:
        """Who writes it (`pid`, `host`, `since`, …); None when nobody does."""
        return holder(self.directory)

    def poll(self) -> list[dict[str, Any]]:
        """The records that are new since the last call; at first, those of the newest segment. [] without a journal.

        Raises:
            JournalError: it cannot be read, or a newer version wrote it.
            CorruptJournalError: it is damaged.
        """
        self.restarted = False
        # Looked up before anything is read: when there is a newer segment, what is read of ours is all there will be.
        newest = max(segments(self.directory), default=None)
        if newest is None:
            self._number = None
            return []
        records = self._rest(newest)
        if records is None:
            self.restarted = True
            number, found = _newest(self.directory)
            records = self._stand_after(number, found)
        return records

    def _rest(self, newest: int) -> list[dict[str, Any]] | None:
        """What follows on where we stand; None when that cannot be told any more."""
        records = self._rest_of_ours(newest)
        if records is None or self._number is None:
            return None
        for number in range(self._number + 1, newest + 1):
            found = _look(self.directory, number)
            if found is None:
                return None
            if not whole_from_its_start(found):
                break
            records += self._stand_after(number, found)[_repeated(found) :]
        return records

    def _rest_of_ours(self, newest: int) -> list[dict[str, Any]] | None:
        if self._number is None:
            return None
        path = segment_of(self.directory, self._number)
        with journal_errors(path, "read"):
            try:
                data = self._bytes(path)
            except FileNotFoundError:
                try:
                    data = read_segment(archive_of(self.directory, self._number))[self._at :]
                except FileNotFoundError:
                    return None
        if data is None:
            return None
        settled = self._number < newest
        found = scan_on(data, number=self._next, seed=seed(self._nonce), start=self._at, settled=settled)
        if found.problem:
            return None
        self._at = found.end
        self._next += len(found.records)
        return found.records

    def _bytes(self, path: Path) -> bytes | None:
        """What is new in the file; None when it is another one (an inode would not tell: it is soon used again)."""
        fd = open_plain(path, os.O_RDONLY)
        try:
            same = self._nonce.encode() in os.pread(fd, _START_OF_HEADER, 0)
            return read_all(fd, start=self._at) if same and os.fstat(fd).st_size >= self._at else None
        finally:
            os.close(fd)

    def _stand_after(self, number: int, found: Scan) -> list[dict[str, Any]]:
        """Go on behind what was found there next time; its records."""
        if found.header is None:
            self._number = None
            return []
        self._number = number
        self._nonce = found.header["nonce"]
        self._at = found.end
        self._next = len(found.records) + 1
        return found.records
