"""What is let go of a state directory: sessions with all that only they have, and what nobody needs any more.

Decided here: what may go. A session that is in use stays, one whose turn was interrupted stays unless that is asked
for, and one that cannot be read is removed by name alone. How long a session was not used goes by the newest of the
times of its files, because what a record says of the time may come from a clock that was wrong. Blobs stay, and that
is told, as long as any journal cannot be read. Asks nobody.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from .bridge import shared_loop
from .errors import JournalError, LashError
from .orphans import end_orphans
from .recorded import RecordedKernel
from .stores.journal import read_records
from .stores.retention import (
    DAY_S,
    Freed,
    being_removed,
    collect_blobs,
    excess_archives,
    mentioned,
    remove_files,
    sweepable,
)
from .stores.session_files import SessionGlance, glance, glances, is_copy

__all__ = ["Garbage", "Removed", "find_garbage", "remove_garbage", "remove_sessions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """What was let go."""

    sessions: tuple[str, ...] = ()
    archives: Freed = field(default_factory=Freed)
    leftovers: Freed = field(default_factory=Freed)
    blobs: Freed = field(default_factory=Freed)
    size: int = 0
    """Bytes, of all of it."""
    notes: tuple[str, ...] = ()
    """What stayed and why, and which kernels were ended: sentences."""

    def __add__(self, other: Removed) -> Removed:
        return Removed(
            sessions=(*self.sessions, *other.sessions),
            archives=self.archives + other.archives,
            leftovers=self.leftovers + other.leftovers,
            blobs=self.blobs + other.blobs,
            size=self.size + other.size,
            notes=(*self.notes, *other.notes),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Garbage:
    """What can be let go."""

    sessions: tuple[SessionGlance, ...] = ()
    archives: tuple[Path, ...] = ()
    leftovers: tuple[Path, ...] = ()
    expected: Removed = field(default_factory=Removed)
    """What `remove_garbage` will have done."""

    @property
    def empty(self) -> bool:
        return not (self.sessions or self.archives or self.leftovers or self.expected.blobs.count)


# ----------------------------------------------------------------------------------------------------------- by name


def remove_sessions(sessions: Sequence[SessionGlance], *, state_dir: Path) -> Removed:
    """Remove these, the blobs that no other session refers to, and their kernels that no process has."""
    removed = Removed()
    for seen in sessions:
        blobs: set[str] = set()
        try:
            blobs = mentioned(seen.directory)
            notes = _remove(seen, state_dir)
        except (LashError, OSError) as error:
            removed = _noted(removed, f"session {seen.session} was not removed: {error}")
            continue
        removed = replace(
            removed,
            sessions=(*removed.sessions, seen.session),
            size=removed.size + seen.size,
            notes=(*removed.notes, *notes),
        )
        # What a session that is being written has just stored may not be in its record yet.
        busy = any(other.owner is not None for other in glances(state_dir))
        removed = _collected(removed, state_dir, before=time.time() + (-DAY_S if busy else 1.0), among=blobs)
    return removed


def _remove(seen: SessionGlance, state_dir: Path) -> list[str]:
    with being_removed(seen.directory, session=seen.session):
        try:
            kernels = _kernels(seen.directory)
        except (JournalError, KeyError):  # nothing of a damaged one is believed
            kernels = []
        ended = shared_loop().run(end_orphans(kernels, owner=seen.session, state_dir=state_dir)) if kernels else ()
    return [f"the {language} kernel that session {seen.session} had left was ended" for language in ended]


def _kernels(directory: Path) -> list[RecordedKernel]:
    """The last life of each kernel that got cells; those of a copy are the original's."""
    if is_copy(directory):
        return []
    found: dict[str, RecordedKernel] = {}
    for record in read_records(directory):
        if record.get("k") == "kernel":
            file = record.get("file")
            language, epoch = str(record["language"]), str(record["epoch"])
            found[language] = RecordedKernel(language=language, epoch=epoch, file=None if file is None else str(file))
    return list(found.values())


def _collected(
    removed: Removed,
    state_dir: Path,
    *,
    before: float,
    among: set[str] | None = None,
    leaving_out: Sequence[Path] = (),
    dry_run: bool = False,
) -> Removed:
    try:
        blobs = collect_blobs(state_dir, before=before, among=among, leaving_out=leaving_out, dry_run=dry_run)
    except JournalError as error:
        return _noted(removed, f"stored files are kept, because not every session can be read: {error}")
    return replace(removed, blobs=removed.blobs + blobs, size=removed.size + blobs.size)


def _noted(removed: Removed, note: str) -> Removed:
    return removed if note in removed.notes else replace(removed, notes=(*removed.notes, note))


# -------------------------------------------------------------------------------------------------------- by its age


def find_garbage(state_dir: Path, *, older_than_days: float, interrupted: bool) -> Garbage:
    """What nobody has used for so many days, and what is left over; `interrupted`: also sessions with such a turn."""
    since, yesterday = time.time() - older_than_days * DAY_S, time.time() - DAY_S
    known = glances(state_dir)
    old = [seen for seen in known if seen.used < since and seen.owner is None]
    notes = [
        f"session {seen.session} is kept, because it cannot be read: {seen.problem}" for seen in old if seen.problem
    ]
    waiting = [seen for seen in old if not seen.problem and seen.interrupted is not None and not interrupted]
    notes += [
        f"session {seen.session} is kept, because its turn {seen.interrupted} was interrupted (--interrupted takes it)"
        for seen in waiting
    ]
    going = tuple(seen for seen in old if not seen.problem and seen not in waiting)
    staying = [seen for seen in known if seen not in going and seen.owner is None and not seen.problem]
    archives = tuple(path for seen in staying for path in excess_archives(seen.directory))
    quiet = all(seen.owner is None for seen in known)
    leftovers = tuple(sweepable(state_dir, before=yesterday, spills=quiet))
    expected = Removed(
        sessions=tuple(seen.session for seen in going),
        archives=remove_files(archives, dry_run=True),
        leftovers=remove_files(leftovers, dry_run=True),
        notes=tuple(notes),
    )
    size = sum(seen.size for seen in going) + expected.archives.size + expected.leftovers.size
    expected = _collected(
        replace(expected, size=size),
        state_dir,
        before=yesterday,
        leaving_out=[seen.directory for seen in going],
        dry_run=True,
    )
    return Garbage(sessions=going, archives=archives, leftovers=leftovers, expected=expected)


def remove_garbage(garbage: Garbage, *, state_dir: Path) -> Removed:
    """Remove it; what is used again by now stays."""
    removed = Removed(notes=garbage.expected.notes)
    for seen in garbage.sessions:
        if glance(seen.directory).used != seen.used:
            continue
        try:
            notes = _remove(seen, state_dir)
        except (LashError, OSError) as error:
            removed = _noted(removed, f"session {seen.session} was not removed: {error}")
            continue
        sessions = (*removed.sessions, seen.session)
        removed = replace(removed, sessions=sessions, size=removed.size + seen.size, notes=(*removed.notes, *notes))
    archives, leftovers = remove_files(garbage.archives), remove_files(garbage.leftovers)
    size = removed.size + archives.size + leftovers.size
    removed = replace(removed, archives=archives, leftovers=leftovers, size=size)
    return _collected(removed, state_dir, before=time.time() - DAY_S)
