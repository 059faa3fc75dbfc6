"""The files of a session's journal: how they are named and read, and what is said when they cannot be.

Decided here: a session is a directory `sessions/<quoted name>`, its journal numbered segments `NNNNNN.journal`, of
which the last is written and the others are archives, `NNNNNN.journal.gz`. No link is followed. How they are written
is in `durable`.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shlex
import stat
import urllib.parse
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ..errors import CorruptJournalError, JournalError
from .frames import Scan

__all__ = [
    "VERSION",
    "archive_of",
    "archives",
    "check_header",
    "damage",
    "inode",
    "journal_errors",
    "leftovers",
    "missing",
    "open_plain",
    "raw_segments",
    "read_all",
    "read_segment",
    "segment_of",
    "segments",
    "session_directory",
    "whole_from_its_start",
]

VERSION = 1
_CHUNK = 1024 * 1024
_LONGEST_NAME = 120
_NAME = re.compile(r"([0-9]{6,})\.journal(\.gz)?")
_LEFTOVER = re.compile(r"[0-9]{6,}\.journal(\.gz)?\.new")


def session_directory(state_dir: Path, session: str) -> Path:
    """Where a session's journal is kept; its name may be any text, and two names never share a directory."""
    name = urllib.parse.quote(session, safe="", errors="surrogatepass").replace("~", "%7E")
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name) > _LONGEST_NAME:
        digest = hashlib.sha256(session.encode("utf-8", "surrogatepass")).hexdigest()
        name = f"{name[: _LONGEST_NAME // 2]}~{digest[:32]}"
    return state_dir / "sessions" / (name or "%")


# ------------------------------------------------------------------------------------------------------- errors


_ADVICE = {
    errno.ENOSPC: "free some space, then go on",
    errno.EDQUOT: "free some space, then go on",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), then go on",
    errno.EACCES: "see to the permissions, or choose another place with --state-dir",
    errno.EPERM: "see to the permissions, or choose another place with --state-dir",
    errno.EROFS: "choose a place that can be written with --state-dir",
    errno.ELOOP: "it is a symbolic link, and none is followed here: put the file itself in its place",
    errno.ENOENT: "it was deleted: start a new session",
    errno.EIO: "the disk reports an error: choose another place with --state-dir",
}


@contextlib.contextmanager
def journal_errors(path: Path, what: str) -> Iterator[None]:
    """Turns what the system reports of a file into a JournalError; `what` could not be done, as in "opened"."""
    try:
        yield
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "see to it, or choose another place with --state-dir")
        raise JournalError(f"{path} cannot be {what} ({error.strerror or error}): {advice}") from error


def damage(path: Path, found: Scan, *, session: str) -> CorruptJournalError:
    """The error of a file that is damaged, or cut off among what it was written with."""
    problem = found.problem or "it is cut off among what it began with"
    return CorruptJournalError(
        f"{path} is damaged at byte {found.end} ({problem}): {len(found.records)} records before it are whole, "
        f"{found.after} after it; {_repair(session)} keeps what is before the damage and sets the damaged file aside"
    )


def missing(directory: Path, *, session: str) -> CorruptJournalError:
    """The error of a journal of which there are archives alone."""
    last = max(archives(directory))
    return CorruptJournalError(
        f"the newest segment in {directory} is missing: the last archive is {archive_of(directory, last).name}, and it "
        f"was not written to any more; {_repair(session)} goes on from there"
    )


def _repair(session: str) -> str:
    return f"`lash-nb sessions repair {shlex.quote(session)}`"


def check_header(path: Path, header: Mapping[str, Any], *, session: str | None) -> None:
    """See that a whole header is one that we can go by, and of that session (None: of whichever).

    Raises:
        JournalError: it is another session's, or of a later version.
    """
    version = header.get("version")
    if not isinstance(version, int) or version > VERSION:
        raise JournalError(
            f"{path} was written by a newer lash_nb (version {version!r} of the journal, this one reads {VERSION}): "
            "upgrade lash_nb to open this session"
        )
    if session is not None and header.get("session") != session:
        raise JournalError(
            f"{path} belongs to the session {header.get('session')!r}, not to {session!r}: "
            "move the directory back to where it was"
        )


def whole_from_its_start(found: Scan) -> bool:
    """Whether nothing is missing of what a segment was written with before it got its name."""
    return found.header is not None and len(found.records) >= found.header.get("compacted", 0)


# -------------------------------------------------------------------------------------------------------- names


def segment_of(directory: Path, number: int) -> Path:
    """Where the segment of that number is written."""
    return directory / f"{number:06d}.journal"


def archive_of(directory: Path, number: int) -> Path:
    """Where it is put away."""
    return directory / f"{number:06d}.journal.gz"


def segments(directory: Path) -> dict[int, Path]:
    """All that there are, by number; the raw file where there are both."""
    return dict(sorted({**archives(directory), **raw_segments(directory)}.items()))


def raw_segments(directory: Path) -> dict[int, Path]:
    """Those that are not put away: usually one."""
    return _numbered(directory, put_away=False)


def archives(directory: Path) -> dict[int, Path]:
    """Those that are."""
    return _numbered(directory, put_away=True)


def leftovers(directory: Path) -> list[Path]:
    """What was being written when its writer ended."""
    return [directory / name for name in _names(directory) if _LEFTOVER.fullmatch(name)]


def _numbered(directory: Path, *, put_away: bool) -> dict[int, Path]:
    matches = (_NAME.fullmatch(name) for name in _names(directory))
    found = {int(match[1]): directory / match[0] for match in matches if match and bool(match[2]) == put_away}
    return dict(sorted(found.items()))


def _names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return []


# ------------------------------------------------------------------------------------------------------ reading


def open_plain(path: Path, flags: int, *, mode: int = 0o600) -> int:
    """A descriptor of a regular file; no link is followed, and nothing is waited for."""
    fd = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no regular file")
    return fd


def read_all(fd: int, *, start: int = 0) -> bytes:
    """What a file holds from byte `start` on."""
    chunks = []
    while chunk := os.pread(fd, _CHUNK, start):
        chunks.append(chunk)
        start += len(chunk)
    return b"".join(chunks)


def read_segment(path: Path) -> bytes:
    """The bytes of a segment, put away or not.

    Raises:
        OSError: the system cannot read it.
        CorruptJournalError: it is an archive, and damaged.
    """
    fd = open_plain(path, os.O_RDONLY)
    try:
        data = read_all(fd)
    finally:
        os.close(fd)
    if path.suffix != ".gz":
        return data
    reader = zlib.decompressobj(wbits=31)
    try:
        data = reader.decompress(data)
    except zlib.error as error:
        raise CorruptJournalError(f"{path} is damaged ({error}): {_WITHOUT_IT}") from error
    if not reader.eof or reader.unused_data:
        raise CorruptJournalError(f"{path} is damaged (it is cut off, or has more at its end): {_WITHOUT_IT}")
    return data


_WITHOUT_IT = "move it away to read the session without this part of its past"


def inode(path: Path) -> tuple[int, int] | None:
    """Which file is at that path; None: none is."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
