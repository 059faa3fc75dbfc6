"""How the files of a session's journal are written, so that they are whole whenever a process or a machine stops.

Decided here: a file appears whole or not at all (written aside, synced, renamed, its directory synced); files are 0600
and directories 0700 whatever the umask. A segment's header says of which session it is, in which file it was written
(`inode`, which tells a copy), and how many of its first records repeat the past (`compacted`).
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ..version import __version__
from .frames import frame, header_frame, seed
from .segments import VERSION, archive_of, inode, open_plain, raw_segments, read_all, segment_of

__all__ = [
    "NewSegment",
    "archive_all",
    "copy_aside",
    "make_private",
    "set_aside",
    "sync_directory",
    "sync_file",
    "write_all",
]

_CHUNK = 1024 * 1024


def make_private(directory: Path) -> None:
    """Make a directory for the user's eyes alone, with every missing one above it; durable when it returns."""
    if directory.is_dir():
        return
    make_private(directory.parent)
    try:
        directory.mkdir(mode=0o700)
    except FileExistsError:
        if not directory.is_dir():
            raise
        return
    directory.chmod(0o700)
    sync_directory(directory.parent)


def sync_directory(directory: Path) -> None:
    """Make durable which files are in it; a file system that has no such thing is taken at its word."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(fd)


def sync_file(fd: int) -> None:
    """Make durable what was added to a file."""
    if hasattr(os, "fdatasync"):
        os.fdatasync(fd)
    else:
        os.fsync(fd)


def write_all(fd: int, data: bytes | bytearray) -> None:
    """Write it, in as few calls as it takes."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _write_aside(path: Path) -> tuple[int, Path]:
    """A descriptor of a new file that is to become `path`, and where it is until then."""
    aside = path.with_name(path.name + ".new")
    aside.unlink(missing_ok=True)
    fd = open_plain(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND)
    os.fchmod(fd, 0o600)
    return fd, aside


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSegment:
    """A segment that is written and synced, aside from its place; its bytes, its records, what seeds its checksums."""

    number: int
    path: Path
    aside: Path
    fd: int
    size: int
    count: int
    seed: int

    @classmethod
    def write(
        cls,
        directory: Path,
        records: Iterable[Mapping[str, object]],
        *,
        session: str,
        number: int,
        compacted: int | None = None,
    ) -> NewSegment:
        """Write it; `compacted` of the records repeat the past (None: all of them do).

        Raises:
            OSError, TypeError, ValueError: it cannot be written, or a record is no JSON; nothing is left.
        """
        nonce = secrets.token_hex(16)
        past = list(records)
        path = segment_of(directory, number)
        fd, aside = _write_aside(path)
        try:
            header = {
                "lash_nb": "journal",
                "version": VERSION,
                "nonce": nonce,  # among the first bytes: followers look for it there
                "segment": number,
                "inode": os.fstat(fd).st_ino,
                "compacted": len(past) if compacted is None else compacted,
                "session": session,
                "engine": __version__,
                "made": datetime.now(UTC).isoformat(timespec="seconds"),
            }
            data = bytearray(header_frame(header))
            for index, record in enumerate(past, 1):
                # Nobody finds the file before all of it is on the disk: what comes before a record always is.
                data += frame(record, number=index, seed=seed(nonce), synced=len(data))
            write_all(fd, data)
            os.fsync(fd)
        except BaseException:
            os.close(fd)
            aside.unlink(missing_ok=True)
            raise
        return cls(number=number, path=path, aside=aside, fd=fd, size=len(data), count=len(past), seed=seed(nonce))

    @property
    def placed(self) -> bool:
        """Whether it may have got its place: it is not aside any more."""
        return inode(self.aside) is None

    def place(self) -> None:
        """Give it its name, durably."""
        os.replace(self.aside, self.path)
        sync_directory(self.path.parent)

    def discard(self) -> None:
        """Close it, and remove it if it is aside still."""
        os.close(self.fd)
        with contextlib.suppress(OSError):
            self.aside.unlink(missing_ok=True)


def _archive(directory: Path, number: int) -> None:
    """Put a segment away that is no longer written."""
    source, target = segment_of(directory, number), archive_of(directory, number)
    packer = zlib.compressobj(wbits=31)
    reader = open_plain(source, os.O_RDONLY)
    try:
        fd, aside = _write_aside(target)
        try:
            start = 0
            while chunk := os.pread(reader, _CHUNK, start):
                start += len(chunk)
                write_all(fd, packer.compress(chunk))
            write_all(fd, packer.flush())
            os.fsync(fd)
            os.replace(aside, target)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        finally:
            os.close(fd)
    finally:
        os.close(reader)
    sync_directory(directory)
    source.unlink()


def archive_all(directory: Path, *, before: int) -> list[str]:
    """Put every segment away that comes before that one; sentences on those that could not be."""
    notes = []
    for number in raw_segments(directory):
        if number < before:
            try:
                _archive(directory, number)
            except OSError as error:
                path = segment_of(directory, number)
                notes.append(f"{path.name} could not be compressed ({error.strerror}), and is kept as it is")
    return notes


def set_aside(path: Path) -> Path:
    """Give a damaged file a name under which nothing looks for it; the name."""
    target = _free_name(path)
    os.rename(path, target)
    sync_directory(path.parent)
    return target


def copy_aside(path: Path) -> Path:
    """Keep what a damaged file holds under a name under which nothing looks for it; the name."""
    target = _free_name(path)
    reader = open_plain(path, os.O_RDONLY)
    try:
        writer = open_plain(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            os.fchmod(writer, 0o600)
            write_all(writer, read_all(reader))
            os.fsync(writer)
        finally:
            os.close(writer)
    finally:
        os.close(reader)
    sync_directory(path.parent)
    return target


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.damaged-{count}") for count in itertools.count(1))
    return next(name for name in names if inode(name) is None)
