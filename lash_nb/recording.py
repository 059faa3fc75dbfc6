"""How a session is written down: one journal, opened when there is something to record, its records in their order.

Decided here: what goes into which record, which records have to be on the disk before anything goes on, and when the
journal is compacted. A difference that could not be written is kept and written before the next record, or at the end,
so that the journal never has a hole: until then nothing that would have to be recorded can happen. Of a copy, the
kernels that were recorded before are the original's. The forms are `recorded.py`'s. Writing is done by the caller's
thread (order is the order of the calls), waiting for the disk by another.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .asked import Asked
from .compacting import compacted, extension
from .errors import InputError, JournalError
from .kernels import Kernel
from .kernels.rundir import own
from .machine.config import TurnProtocol
from .machine.deltas import DeltaWriter
from .machine.state import TurnCheckpoint
from .machine.wire import Json
from .recorded import RecordedSession, SessionFold
from .stores.journal import Journal, read_records, session_directory
from .stores.segments import inode, segment_of
from .trust import Redactor
from .version import __version__

__all__ = ["SessionRecorder", "now_text"]

_log = logging.getLogger("lash_nb")

COMPACT_BYTES = 4 * 1024 * 1024
"""A journal that has grown by this much, and by as much as its compacted past, is compacted at a turn's end."""


def now_text() -> str:
    """The time as it stands in records: UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class SessionRecorder:
    """Writes one session's journal below `state_dir`.

    `facts` says who writes (`notebook`, `directory`); it is asked when the journal is opened. `redactor` takes secrets
    out of what was shown: of a stream they are found when it is whole (None: those of the environment).
    """

    def __init__(
        self,
        state_dir: Path,
        session: str,
        *,
        label: str,
        facts: Callable[[], Mapping[str, Json]] = dict,
        redactor: Redactor | None = None,
    ) -> None:
        self.directory = session_directory(state_dir, session)
        self.session = session
        self._label = label
        self._facts = facts
        self.on_taken: Callable[[RecordedSession], None] = lambda session: None  # told it before more is recorded
        self.redactor = redactor or Redactor(os.environ)
        self._journal: Journal | None = None
        self._deltas = DeltaWriter()
        self._unwritten: list[dict[str, Json]] = []
        self._kernels: dict[str, str] = {}
        self._said = 0
        self._waiting: dict[int, str] = {}
        self._past_bytes = 0
        self._notebook: Json = None  # as the newest record says
        self._closed = False
        self._turn: int | None = None
        """The turn that has not ended in the journal."""
        self._pid = os.getpid()
        self._lock = threading.RLock()

    # -- life ----------------------------------------------------------------------------------------------------------

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """For one thread at a time; a forked child is refused, where the lock may be held by a thread that is not."""
        if self._pid != os.getpid():
            raise JournalError("a forked child cannot record its parent's session: open a session of its own")
        with self._lock:
            yield

    def open(self) -> None:
        """Make the journal, if it is not open yet.

        Raises:
            InputError: there is a session of that id already.
            JournalInUseError: another process writes it.
            JournalError: it cannot be written.
        """
        with self._locked():
            if self._journal is not None:
                return
            if self._closed:
                raise self._was_closed()
            journal = Journal.open(self.directory, session=self.session, create=True, owner=self._owner())
            try:
                if journal.records:
                    raise InputError(
                        f"there is a session {self.session!r} already: Session.resume({self.session!r}) goes on with "
                        f"it, `lash-nb sessions rm {self.session}` forgets it"
                    )
                journal.append(self._opening())
            except BaseException:
                _let_go(journal)
                raise
            self._journal = journal

    def _was_closed(self) -> JournalError:
        return JournalError(f"the session {self.session!r} was closed, and nothing more of it is recorded")

    def take_up(self) -> tuple[RecordedSession, tuple[str, ...]]:
        """Open the journal of an earlier process; what it says, and what has to be told of its state.

        Raises:
            InputError: there is no such session.
            JournalInUseError: another process writes it.
            CorruptJournalError: it is damaged in its midst.
            JournalError: it cannot be read or written.
        """
        with self._locked():
            journal = Journal.open(self.directory, session=self.session, create=False, owner=self._owner())
            try:
                fold = SessionFold(self.session)
                for record in journal.records:
                    fold.take(record)
                journal.records.clear()  # all that is needed of them is in the session
                self.on_taken(fold.session)
                self._label = fold.session.label
                opening = {**fold.session.facts, **self._opening(), **self._copy(journal, fold.session)}
                journal.append(opening)
                fold.take(opening)
                self._go_on(fold)
                self._journal = journal
                if journal.copied:
                    self._try_to_compact()
            except BaseException:
                self._journal = None
                _let_go(journal)
                raise
            return fold.session, journal.notes

    def _copy(self, journal: Journal, session: RecordedSession) -> dict[str, Json]:
        """What is to be recorded of a copy that was not taken up before: kernels of until then are the original's."""
        if not journal.copied:
            return {}
        file = inode(segment_of(self.directory, journal.segment))
        return {} if file is None or file[1] == session.copied else {"copied": file[1]}

    def bring_in(self, session: RecordedSession) -> None:
        """Make the journal of a session that came from somewhere else. Raises as `open` does."""
        with self._locked():
            self._label = session.label
            self.open()
            assert self._journal is not None
            records = [*compacted(session), self._opening()]
            self._journal.append_many(records)
            fold = SessionFold(self.session)
            for record in records:
                fold.take(record)
            self._go_on(fold)

    def extend(self, told: RecordedSession) -> None:
        """Record what a notebook carries of the session beyond its journal, which was taken up and has no running turn.

        Raises JournalError: nothing was recorded.
        """
        with self._locked():
            if self._journal is None:
                raise self._was_closed()
            fold = SessionFold(self.session)
            for record in read_records(self.directory):
                fold.take(record)
            records = list(extension(fold.session, told, deltas=fold.writer(), opening=self._opening()))
            self._journal.append_many(records)
            for record in records:
                fold.take(record)
            self._go_on(fold)

    def _go_on(self, fold: SessionFold) -> None:
        self._deltas = fold.writer()
        self._kernels = {name: kernel.epoch for name, kernel in fold.session.kernels.items()}
        self._said, self._waiting = fold.session.last_said, dict(fold.session.said)
        self._turn = fold.session.running.number if fold.session.running is not None else None

    def close(self) -> None:
        """Let go of the journal; idempotent. What could not be written before is, if it can be now."""
        if self._pid != os.getpid():
            return  # it is the parent's, and closed here since the fork
        with self._locked():
            journal, self._journal, self._closed = self._journal, None, True
            if journal is None:
                return
            try:
                for record in self._unwritten:
                    journal.append(record, durable=False)
                journal.append({"k": "closed", "at": now_text()}, durable=False)
            except JournalError as error:
                _log.warning("%s", error)
            finally:
                journal.close()

    def _owner(self) -> dict[str, Json]:
        notebook = self._facts().get("notebook")
        return {} if notebook is None else {"notebook": notebook}

    def _opening(self) -> dict[str, Json]:
        told = {**self._facts(), "engine": f"lash_nb {__version__}"}
        self._notebook = told.get("notebook")
        facts = {name: value for name, value in told.items() if value is not None}  # an earlier process may know it
        return {"k": "session", "at": now_text(), "label": self._label, **facts}

    # -- records -------------------------------------------------------------------------------------------------------

    def _write(self, record: dict[str, Json], *, durable: bool = True, keep: bool = False) -> None:
        """Write a record behind those that could not be written before.

        Raises:
            JournalError: it could not be written; with `keep` it is when the next one is (what a delta says is taken
                for granted by those that follow), else it is as if it had never been.
        """
        with self._locked():
            if self._journal is None:
                self.open()
            assert self._journal is not None
            try:
                while self._unwritten:
                    self._journal.append(self._unwritten[0], durable=False)
                    del self._unwritten[0]
                self._journal.append(record, durable=durable)
            except JournalError:
                if keep:
                    self._unwritten.append(record)
                raise
            except BaseException:
                # It is no JSON, or this was interrupted: it is not there, and no delta must take it for granted.
                self._deltas = DeltaWriter()
                raise

    async def write(self, record: dict[str, Json], *, keep: bool = False) -> None:
        """Write a record now (as `_write` does), and wait until it is on the disk."""
        self._write(record, durable=False, keep=keep)
        await self.synced()

    def write_soon(self, record: dict[str, Json]) -> None:
        """Write a record that need not be on the disk before the next one is."""
        self._write(record, durable=False)

    def write_now(self, record: dict[str, Json]) -> None:
        """Write a record that has to be; it is on the disk when this returns. It is kept as `_write` says."""
        self._write(record, keep=True)

    async def synced(self) -> None:
        """Wait until everything that was written is on the disk. Raises JournalError: nobody knows whether it is."""
        journal = self._journal
        if journal is None:
            raise self._was_closed()
        await asyncio.to_thread(journal.sync)

    def said(self, text: str) -> int:
        """Record what the user says; its number. From any thread. Raises JournalError: it was not said."""
        with self._locked():
            self.open()
            number = self._said + 1
            self._write({"k": "said", "at": now_text(), "n": number, "text": text})
            self._said = number
            self._waiting[number] = text
            return number

    @property
    def waiting(self) -> list[Json]:
        """What was said and is not delivered."""
        with self._locked():
            return list(self._waiting.values())

    def delivered(self, numbers: Iterable[int]) -> None:
        """What is in the answer that is recorded next does not wait any more."""
        with self._locked():
            for number in numbers:
                self._waiting.pop(number, None)

    async def uses(self, kernel: Kernel) -> None:
        """Record which life of a kernel gets cells from now on."""
        if self._kernels.get(kernel.language) == kernel.epoch:
            return
        file = getattr(kernel, "connection_file", None)
        own(file, self.session)
        await self.write(
            {
                "k": "kernel",
                "at": now_text(),
                "language": kernel.language,
                "epoch": kernel.epoch,
                "file": None if file is None else str(file),
            }
        )
        self._kernels[kernel.language] = kernel.epoch

    def begin(self, number: int, asked: Asked) -> None:
        """Record that a turn begins. Raises JournalError: it must not."""
        if self._turn is not None:
            raise JournalError(
                f"turn {self._turn} of session {self.session!r} has not ended in its journal: close the session, and "
                "go on with it by Session.resume"
            )
        if self._journal is not None and self._facts().get("notebook") != self._notebook:  # it was renamed
            self._write(self._opening(), durable=False)
        self._write({"k": "turn", "turn": number, "at": now_text(), "asked": asked.to_json()})
        self._turn = number

    def end(self, record: dict[str, Json]) -> None:
        """Write a turn's last record, as `write_now` does."""
        self._turn = None  # also when it has to wait: nothing is written before it
        self.write_now(record)

    @property
    def label(self) -> str:
        """Which session of its notebook it is; as the journal says, once that was taken up."""
        return self._label

    @label.setter
    def label(self, label: str) -> None:
        self._label = label

    @property
    def kernels(self) -> dict[str, Json]:
        """The ids of the kernels that have had cells, by language."""
        return dict(self._kernels)

    def delta(self, checkpoint: TurnCheckpoint, protocol: TurnProtocol[Any, Any, Any]) -> dict[str, Json]:
        """A checkpoint as its difference to the one before; every call must be recorded."""
        try:
            return self._deltas.write(checkpoint, protocol)
        except BaseException:
            self._deltas = DeltaWriter()  # it may know by now what is in no record
            raise

    # -- compaction ----------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Compact the journal when it has grown enough; between two turns. What fails is tried again another time."""
        journal = self._journal
        if journal is None or self._unwritten:
            return
        if journal.copied or journal.size - self._past_bytes >= max(COMPACT_BYTES, self._past_bytes):
            await asyncio.to_thread(self._try_to_compact)

    def _try_to_compact(self) -> None:
        try:
            self.compact()
        except JournalError as error:
            _log.warning("the journal of session %s could not be compacted: %s", self.session, error)

    def compact(self) -> None:
        """Begin a new segment that says the same in fewer records; not in the midst of a turn, whose answers it loses.

        Raises:
            JournalError: the old one goes on.
        """
        with self._locked():
            if self._journal is None:
                raise self._was_closed()
            if self._unwritten:
                return  # a turn's end may be among them
            past = list(read_records(self.directory))
            if len(past) != self._journal.count:
                raise JournalError(
                    f"the journal in {self.directory} was damaged while it was written: it is kept as it is"
                )
            fold = SessionFold(self.session)
            for record in past:
                fold.take(record)
            if fold.session.running is not None:
                return
            records = list(compacted(fold.session))
            self._journal.rotate(records)
            self._past_bytes = self._journal.size
            again = SessionFold(self.session)
            for record in records:
                again.take(record)
            self._deltas = again.writer()


def _let_go(journal: Journal) -> None:
    """Close it because something else failed, which is what has to be told."""
    with suppress(JournalError):
        journal.close()
