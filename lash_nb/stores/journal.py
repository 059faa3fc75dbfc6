"""A session's journal: records (JSON objects) that are there again after a crash, in the order they were appended.

Decided here: how one is written. One process writes, into the newest of numbered segments; `append` is one write and
one sync, and returns when the record is durable. A record is there whole or not at all, also when the disk is full;
each says what is on the disk for sure before it, so that what a power cut left of those that were not is told from
damage. After a sync that failed nothing more is written: nobody knows then what is on the disk. Records mean nothing
here. `segments` has the files, `frames` their lines, `ownership` who may write, `recovery` what is done after a crash.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from ..errors import JournalError
from ..machine.wire import Json
from .durable import NewSegment, archive_all, make_private, sync_file, write_all
from .frames import frame
from .journal_reading import JournalFollower, drop_archives, read_header, read_records
from .ownership import Ownership, holder, take
from .recovery import Found, recover, repair
from .segments import inode, journal_errors, segment_of, session_directory

__all__ = [
    "Journal",
    "JournalFollower",
    "drop_archives",
    "holder",
    "read_header",
    "read_records",
    "repair",
    "session_directory",
]

_SYNC_FAILED = (
    "a sync of {path} failed ({reason}), so what was written last may not be on the disk, and nothing more is "
    "written: see to the disk, then open the session again"
)
_HALFWAY = "the change to the segment {path} stopped halfway: open the session again"


class Journal:
    """The journal of one session, which this process alone writes until `close`; any thread may.

    `records` is what the newest segment held when it was opened, `notes` says what was cut off, repaired or left, for
    people. `copied`: its file is not the one that was written, so the directory was copied or restored; this stays so
    until the next `rotate`.
    """

    def __init__(self, directory: Path, *, session: str, ownership: Ownership, found: Found) -> None:
        """Use `open`."""
        self.directory = directory
        self.session = session
        self.records: list[dict[str, Any]] = found.records
        self.copied = found.copied
        self._notes = list(found.notes)
        self._ownership = ownership
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._useless = ""
        """Why nothing more is written; "" while all is well."""
        self._partial = False
        """Bytes after `size` were of records that could not be written: to be gone before others come there."""
        self._write_on(found, next_number=len(found.records) + 1)
        _open.add(self)

    def _write_on(self, segment: Found | NewSegment, *, next_number: int) -> None:
        self._segment = segment.number
        self._path = segment_of(self.directory, segment.number)
        self._inode = inode(self._path)
        self._size = segment.size
        self._seed = segment.seed
        self._next = next_number
        self._fd = segment.fd
        self._synced = segment.size

    @classmethod
    def open(cls, directory: Path, *, session: str, create: bool, owner: Mapping[str, Json] | None = None) -> Journal:
        """Become the writer of that directory's journal, put right what a crash left, and read it.

        `create`: begin one where there is none. `owner`: what to tell others of us (`notebook`).

        Raises:
            JournalInUseError: another process, or this one, writes it.
            CorruptJournalError: it is damaged; nothing was changed.
            JournalError: there is none, it cannot be read or written, or is of another session or a newer version.
        """
        if create:
            with journal_errors(directory, "made"):
                make_private(directory)
        elif not directory.is_dir():
            raise JournalError(f"there is no journal in {directory}: the session {session!r} was never recorded there")
        ownership = take(directory, session=session, owner=owner)
        try:
            with journal_errors(directory, "opened"):
                found = recover(directory, session=session, create=create)
            return cls(directory, session=session, ownership=ownership, found=found)
        except BaseException:
            ownership.release()
            raise

    # ------------------------------------------------------------------------------------------------- writing

    def append(self, record: Mapping[str, object], *, durable: bool = True) -> None:
        """Add a record; on the disk when this returns, or (not `durable`) with the next one that is, or `sync`.

        Raises:
            JournalError: it could not be written, and what was before it is as it was; or it could not be synced, or
                the file is not ours any more, and nothing more can be written.
        """
        self.append_many((record,), durable=durable)

    def append_many(self, records: Iterable[Mapping[str, object]], *, durable: bool = True) -> None:
        """Add records in one write and one sync.

        Raises:
            JournalError: as with `append`; none of them is there.
        """
        with self._lock:
            fd = self._writable()
            lines = [
                frame(record, number=number, seed=self._seed, synced=self._synced)
                for number, record in enumerate(records, self._next)
            ]
            data = b"".join(lines)
            self._partial = True
            try:
                with journal_errors(self._path, "written"):
                    write_all(fd, data)
            except BaseException:
                self._cut_back(fd)
                raise
            self._size += len(data)
            self._next += len(lines)
            self._partial = False
            if durable:
                self._sync(fd)

    def sync(self) -> None:
        """Have everything on the disk that was appended.

        Raises:
            JournalError: that failed; nothing more can be written.
        """
        with self._lock:
            self._sync(self._writable())

    def rotate(self, records: Iterable[Mapping[str, object]]) -> None:
        """Begin the next segment with these records, which repeat the past in fewer words; the old one is archived.

        Raises:
            JournalError: it could not be begun, and the old segment is written on; or that stopped halfway, and nothing
                more can be written.
        """
        with self._lock:
            old = self._writable()
            self._sync(old)
            path = segment_of(self.directory, self._segment + 1)
            with journal_errors(path, "begun"):
                new = NewSegment.write(self.directory, records, session=self.session, number=self._segment + 1)
                try:
                    # From here on the old segment must not be written any more: the new one may be the newest.
                    self._useless = _HALFWAY.format(path=path)
                    new.place()
                    self._write_on(new, next_number=new.count + 1)
                except BaseException:
                    if not new.placed:
                        self._useless = ""
                    if self._fd != new.fd:
                        new.discard()
                    raise
            self._useless = ""
            self.copied = False
            os.close(old)
            self._notes += archive_all(self.directory, before=self._segment)

    def _writable(self) -> int:
        """The descriptor to write to, after a look at whether that is still what it was."""
        if self._pid != os.getpid():
            raise JournalError("a forked child cannot write its parent's journal: open a session of its own")
        if self._fd is None:
            raise JournalError(f"the journal of the session {self.session!r} is closed: open the session again")
        if self._useless:
            raise JournalError(self._useless)
        self._ownership.check()
        with journal_errors(self._path, "written"):
            if inode(self._path) != self._inode:
                raise JournalError(
                    f"{self._path} was deleted or replaced while this session wrote it: "
                    "put it back, or start a new session"
                )
            if self._partial:
                os.ftruncate(self._fd, self._size)
                # On the disk, too: or pages of those records would be found among the ones of the next.
                self._sync(self._fd)
                self._partial = False
            if os.fstat(self._fd).st_size != self._size:
                raise JournalError(
                    f"{self._path} was changed by something else while this session wrote it: open the session again"
                )
        return self._fd

    def _cut_back(self, fd: int) -> None:
        """Remove what was written of records that could not be; `_writable` sees to it that they are gone."""
        with contextlib.suppress(OSError):
            os.ftruncate(fd, self._size)

    def _sync(self, fd: int) -> None:
        try:
            sync_file(fd)
        except OSError as error:
            # The system may have dropped what it could not write, and would say next time that all is well.
            self._useless = _SYNC_FAILED.format(path=self._path, reason=error.strerror or error)
            raise JournalError(self._useless) from error
        self._synced = self._size

    # -------------------------------------------------------------------------------------------------- ending

    @property
    def notes(self) -> tuple[str, ...]:
        """What was cut off, repaired, copied, or could not be put away: sentences for people."""
        return tuple(self._notes)

    @property
    def size(self) -> int:
        """Bytes of the current segment."""
        return self._size

    @property
    def count(self) -> int:
        """Records in the current segment, without its header."""
        return self._next - 1

    @property
    def segment(self) -> int:
        """The number of the current segment."""
        return self._segment

    def close(self) -> None:
        """Have everything on the disk, and let others write. A second call does nothing.

        Raises:
            JournalError: what was appended last could not be synced; it is closed nevertheless.
        """
        with self._lock:
            fd, self._fd = self._fd, None
            if fd is None:
                return
            try:
                if (self._partial or self._synced < self._size) and not self._useless:
                    self._sync(fd)
            finally:
                os.close(fd)
                self._ownership.release()

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_synced"):
            with contextlib.suppress(JournalError, OSError):
                self.close()

    def _forget(self) -> None:
        """In a forked child: leave the file to the parent."""
        self._lock = threading.Lock()  # a thread that is not here may have held the old one
        fd, self._fd = self._fd, None
        if fd is not None:
            os.close(fd)


_open: weakref.WeakSet[Journal] = weakref.WeakSet()


def _forget_in_child() -> None:
    for journal in list(_open):
        journal._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
