"""What of a state directory is let go, and how: sessions, old archives, blobs that nothing refers to, leftovers.

Decided here: a session is removed by its owner alone, in one step. A blob is referred to by any record of any session
that holds its id, also in archives and in damaged files that were set aside; what refers to it is looked for as text.
As long as one journal cannot be read, every blob is kept. What is young is kept, too: a session may just have stored
it and not have recorded that yet.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..errors import JournalError
from .frames import scan
from .ownership import take
from .segments import archives, check_header, damage, journal_errors, read_segment, segments
from .session_files import session_directories, whole_lines

__all__ = [
    "ARCHIVE_BYTES",
    "DAY_S",
    "Freed",
    "being_removed",
    "collect_blobs",
    "excess_archives",
    "mentioned",
    "remove_files",
    "sweepable",
]

DAY_S = 24 * 3600.0
ARCHIVE_BYTES = 256 * 1024 * 1024
"""As much as one session keeps of archives."""

_REFERENCE = re.compile(rb"sha256:([0-9a-f]{64})")
_BLOB = re.compile(r"[0-9a-f]{64}")
_REMOVED = ".removed-"
_TAKEN = "incoming-removed-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Freed:
    """What was let go."""

    count: int = 0
    size: int = 0
    """Bytes."""

    def __add__(self, other: Freed) -> Freed:
        return Freed(count=self.count + other.count, size=self.size + other.size)


# ---------------------------------------------------------------------------------------------------------- sessions


@contextlib.contextmanager
def being_removed(directory: Path, *, session: str) -> Iterator[None]:
    """Nobody else has that session meanwhile, and behind the block it is gone; an exception leaves it as it is.

    Raises:
        JournalInUseError: somebody writes it.
        JournalError: it cannot be removed.
    """
    ownership = take(directory, session=session)
    try:
        yield
        gone = directory.with_name(f"{_REMOVED}{secrets.token_hex(8)}")
        with journal_errors(directory, "removed"):
            os.rename(directory, gone)  # in one step: half a session would look like a damaged one
    finally:
        ownership.release()
    shutil.rmtree(gone, ignore_errors=True)


def excess_archives(directory: Path, *, most_bytes: int = ARCHIVE_BYTES) -> list[Path]:
    """The oldest archives of a session, as many as it takes for the others to fit."""
    kept = archives(directory)
    sizes = {number: path.stat().st_size for number, path in kept.items()}
    excess = []
    for number in sorted(kept):
        if sum(sizes.values()) <= most_bytes:
            break
        excess.append(kept[number])
        del sizes[number]
    return excess


# ------------------------------------------------------------------------------------------------------------- blobs


def mentioned(directory: Path) -> set[str]:
    """The blobs (hex digests) that the files of a session name, as far as these can be read."""
    return _mentioned(directory, strict=False)


def _mentioned(directory: Path, *, strict: bool) -> set[str]:
    found: set[bytes] = set()
    numbered = segments(directory)
    journal = {*numbered.values(), *archives(directory).values()}
    newest = numbered[max(numbered)] if numbered else None
    for path in journal:
        try:
            found |= set(_REFERENCE.findall(_checked(path, settled=path != newest)))
        except JournalError:
            if strict:
                raise
            found |= set(_REFERENCE.findall(_what_there_is(path)))
    for path in directory.iterdir():
        if path not in journal and path.is_file():
            found |= set(_REFERENCE.findall(_what_there_is(path)))
    return {digest.decode() for digest in found}


def _checked(path: Path, *, settled: bool) -> bytes:
    """The text of a segment. Raises JournalError: it cannot be read as a whole."""
    with journal_errors(path, "read"):
        data = read_segment(path)
    lines = whole_lines(data)
    if lines is not None:
        check_header(path, lines[0], session=None)
        return data
    found = scan(data, settled=settled)
    if found.header is not None:
        check_header(path, found.header, session=None)
    if found.problem:
        raise damage(path, found, session=path.parent.name)
    return data


def _what_there_is(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError:
        return b""
    if ".gz" not in path.suffixes:
        return data
    reader, text = zlib.decompressobj(wbits=31), b""
    with contextlib.suppress(zlib.error):
        for start in range(0, len(data), 4096):
            text += reader.decompress(data[start : start + 4096])
    return text


def collect_blobs(
    state_dir: Path,
    *,
    before: float,
    among: Collection[str] | None = None,
    leaving_out: Collection[Path] = (),
    dry_run: bool = False,
) -> Freed:
    """Remove blobs that no session refers to and that were stored before that time (seconds since 1970).

    `among`: only these (None: all). `leaving_out`: directories of sessions that do not count.

    Raises:
        JournalError: a journal cannot be read, so nobody knows what it refers to; nothing was removed.
    """
    referred: set[str] = set()
    for directory in session_directories(state_dir):
        if directory not in leaving_out:
            try:
                referred |= _mentioned(directory, strict=True)
            except FileNotFoundError:  # removed meanwhile
                continue
    freed = Freed()
    for path in sorted((state_dir / "blobs").glob("??/??/*")):
        if path.name in referred or not _BLOB.fullmatch(path.name) or (among is not None and path.name not in among):
            continue
        size = _let_go(path, before=before, dry_run=dry_run)
        if size is not None:
            freed += Freed(count=1, size=size)
    return freed


def _let_go(path: Path, *, before: float, dry_run: bool) -> int | None:
    """Remove a blob; its bytes, None when it is kept. It is looked at once more when nobody can find it any more:
    the same bytes may just have been stored again."""
    try:
        told = path.stat()
        if told.st_mtime >= before or dry_run:
            return None if told.st_mtime >= before else told.st_size
        aside = path.parents[2] / f"{_TAKEN}{secrets.token_hex(8)}"
        os.rename(path, aside)
        if aside.stat().st_mtime >= before:
            os.rename(aside, path)
            return None
        aside.unlink()
    except OSError:
        return None
    return told.st_size


# --------------------------------------------------------------------------------------------------------- leftovers


def sweepable(state_dir: Path, *, before: float, spills: bool) -> list[Path]:
    """What ended processes left half-done before that time; `spills`: also what kernels had put aside for a session."""
    blobs, sessions = state_dir / "blobs", state_dir / "sessions"
    found = [*blobs.glob("incoming-*"), *(blobs.glob("spill-*") if spills else ()), *sessions.glob(f"{_REMOVED}*")]
    old = []
    for path in found:
        with contextlib.suppress(OSError):
            inside = path.iterdir() if path.is_dir() and not path.is_symlink() else ()
            if max(entry.lstat().st_mtime for entry in (path, *inside)) < before:
                old.append(path)
    return old


def remove_files(paths: Collection[Path], *, dry_run: bool = False) -> Freed:
    """Remove files and directories; what cannot be removed stays and is not counted."""
    freed = Freed()
    for path in paths:
        try:
            directory = path.is_dir() and not path.is_symlink()
            size = sum(entry.lstat().st_size for entry in path.rglob("*")) if directory else path.lstat().st_size
            if not dry_run:
                shutil.rmtree(path) if directory else path.unlink()
        except OSError:
            continue
        freed += Freed(count=1, size=size)
    return freed
