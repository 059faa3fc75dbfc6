"""How a session is written down: one journal, opened when there is something to record, its records in their order.

Decided here: what goes into which record, which records have to be on the disk before anything goes on, and when the
journal is compacted. A difference that could not be written is kept and written before the next record, so that the
journal never has a hole: until then nothing that would have to be recorded can happen. The forms are `recorded.py`'s.

Writing is done by the caller's thread (order is the order of the calls), waiting for the disk by another.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .errors import InputError, JournalError
from .kernels import Kernel
from .machine.config import TurnProtocol
from .machine.deltas import DeltaWriter
from .machine.state import TurnCheckpoint
from .machine.wire import Json
from .recorded import Asked, RecordedSession, SessionFold, compacted
from .stores.journal import Journal, read_records, session_directory
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
        self._session = session
        self._label = label
        self._facts = facts
        self.redactor = redactor or Redactor(os.environ)
        self._journal: Journal | None = None
        self._deltas = DeltaWriter()
        self._unwritten: list[dict[str, Json]] = []
        self._kernels: dict[str, str] = {}
        self._said = 0
        self._waiting: dict[int, str] = {}
        self._past_bytes = 0
        self._closed = False
        self._lock = threading.RLock()

    # -- life ----------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Make the journal, if it is not open yet.

        Raises:
            InputError: there is a session of that id already.
            JournalInUseError: another process writes it.
            JournalError: it cannot be written.
        """
        with self._lock:
            if self._journal is not None:
                return
            if self._closed:
                raise JournalError(f"the session {self._session!r} was closed, and nothing more of it is recorded")
            journal = Journal.open(self.directory, session=self._session, create=True, owner=self._owner())
            if journal.records:
                journal.close()
                raise InputError(
                    f"there is a session {self._session!r} already: Session.resume({self._session!r}) goes on with it, "
                    f"`lash-nb sessions rm {self._session}` forgets it"
                )
            self._journal = journal
            self._write(self._opening())

    def take_up(self) -> tuple[RecordedSession, tuple[str, ...]]:
        """Open the journal of an earlier process; what it says, and what has to be told of its state.

        Raises:
            InputError: there is no such session.
            JournalInUseError: another process writes it.
            CorruptJournalError: it is damaged in its midst.
            JournalError: it cannot be read or written.
        """
        with self._lock:
            journal = Journal.open(self.directory, session=self._session, create=False, owner=self._owner())
            try:
                fold = SessionFold(self._session)
                for record in journal.records:
                    fold.take(record)
                self._journal = journal
                self._go_on(fold)
                self._label = fold.session.label
                told = {name: value for name, value in self._opening().items() if value is not None}
                self._write({**fold.session.facts, **told})
            except BaseException:
                self._journal = None
                journal.close()
                raise
            return fold.session, journal.notes

    def bring_in(self, session: RecordedSession) -> None:
        """Make the journal of a session that came from somewhere else. Raises as `open` does."""
        with self._lock:
            self._label = session.label
            self.open()
            assert self._journal is not None
            records = [*compacted(session), self._opening()]
            self._journal.append_many(records)
            fold = SessionFold(self._session)
            for record in records:
                fold.take(record)
            self._go_on(fold)

    def _go_on(self, fold: SessionFold) -> None:
        self._deltas = fold.writer()
        self._kernels = {name: kernel.epoch for name, kernel in fold.session.kernels.items()}
        self._said, self._waiting = fold.session.last_said, dict(fold.session.said)

    def close(self) -> None:
        """Let go of the journal; idempotent."""
        with self._lock:
            journal, self._journal, self._closed = self._journal, None, True
            if journal is None:
                return
            try:
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
        facts = {name: value for name, value in told.items() if value is not None}  # an earlier process may know it
        return {"k": "session", "at": now_text(), "label": self._label, **facts}

    @property
    def copied(self) -> bool:
        """Whether the journal that was taken up is a copy: another process may go on with the original."""
        return self._journal is not None and self._journal.copied

    # -- records -------------------------------------------------------------------------------------------------------

    def _write(self, record: dict[str, Json], *, durable: bool = True, keep: bool = False) -> None:
        """Write a record behind those that could not be written before.

        Raises:
            JournalError: it could not be written; with `keep` it is when the next one is (what a delta says is taken
                for granted by those that follow), else it is as if it had never been.
        """
        with self._lock:
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

    async def write(self, record: dict[str, Json], *, keep: bool = False) -> None:
        """Write a record now (as `_write` does), and wait until it is on the disk."""
        self._write(record, durable=False, keep=keep)
        await self._synced()

    def write_soon(self, record: dict[str, Json]) -> None:
        """Write a record that need not be on the disk before the next one is."""
        self._write(record, durable=False)

    def write_now(self, record: dict[str, Json]) -> None:
        """Write a record that has to be; it is on the disk when this returns. It is kept as `_write` says."""
        self._write(record, keep=True)

    async def _synced(self) -> None:
        journal = self._journal
        if journal is not None:
            await asyncio.to_thread(journal.sync)

    def said(self, text: str) -> int:
        """Record what the user says; its number. From any thread. Raises JournalError: it was not said."""
        with self._lock:
            self.open()
            number = self._said + 1
            self._write({"k": "said", "at": now_text(), "n": number, "text": text})
            self._said = number
            self._waiting[number] = text
            return number

    @property
    def waiting(self) -> list[Json]:
        """What was said and is not delivered."""
        with self._lock:
            return list(self._waiting.values())

    def delivered(self, numbers: Iterable[int]) -> None:
        """What is in the answer that is recorded next does not wait any more."""
        with self._lock:
            for number in numbers:
                self._waiting.pop(number, None)

    async def uses(self, kernel: Kernel) -> None:
        """Record which life of a kernel gets cells from now on."""
        if self._kernels.get(kernel.language) == kernel.epoch:
            return
        file = getattr(kernel, "connection_file", None)
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
        self._write({"k": "turn", "turn": number, "at": now_text(), "asked": asked.to_json()})

    @property
    def label(self) -> str:
        """Which session of its notebook it is."""
        return self._label

    @property
    def kernels(self) -> dict[str, Json]:
        """The ids of the kernels that have had cells, by language."""
        return dict(self._kernels)

    def delta(self, checkpoint: TurnCheckpoint, protocol: TurnProtocol[Any, Any, Any]) -> dict[str, Json]:
        """A checkpoint as its difference to the one before; every call must be recorded."""
        return self._deltas.write(checkpoint, protocol)

    # -- compaction ----------------------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Compact the journal when it has grown enough; between two turns. What fails is tried again another time."""
        journal = self._journal
        if journal is None or journal.size - self._past_bytes < max(COMPACT_BYTES, self._past_bytes):
            return
        try:
            await asyncio.to_thread(self.compact)
        except JournalError as error:
            _log.warning("the journal of session %s could not be compacted: %s", self._session, error)

    def compact(self) -> None:
        """Begin a new segment that says the same in fewer records. Raises JournalError: the old one goes on."""
        with self._lock:
            assert self._journal is not None
            past = list(read_records(self.directory))
            if len(past) != self._journal.count:
                raise JournalError(
                    f"the journal in {self.directory} was damaged while it was written: it is kept as it is"
                )
            fold = SessionFold(self._session)
            for record in past:
                fold.take(record)
            records = list(compacted(fold.session))
            self._journal.rotate(records)
            self._past_bytes = self._journal.size
            again = SessionFold(self._session)
            for record in records:
                again.take(record)
            self._deltas = again.writer()
