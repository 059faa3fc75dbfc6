"""A pull that is not complete: one file that is always a beginning of the pinned one, as far as can be known.

Decided here: whoever delivers appends to the same file, so that what came from one source is kept when the next goes
on; whole parts are checked by their own hashes when they are found again, and the file is cut back before the first
that is wrong; only the whole file, hashed and on disk, gets the final name. What is written to is a regular file with
one name in a directory that nobody else may write to, and both are this user's: anything else that is found there may
lead elsewhere, and is refused as it is. Imports `errors`, `weights` and `_files` alone.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ..errors import WeightsError
from ._files import kind_of, open_regular
from .weights import CACHE_VARIABLE, Weights, sha256_of

__all__ = [
    "ELSEWHERE",
    "OnProgress",
    "Partial",
    "Progress",
    "SourceError",
    "Stop",
    "Stopped",
    "kept_in",
    "on_disk",
    "refuse_strangers",
    "remove_tree",
]

ELSEWHERE = f"{CACHE_VARIABLE}=DIRECTORY keeps the model elsewhere"

_FILE = "weights.part"


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a pull is."""

    done_bytes: int
    """Of the model's file, on this machine."""
    total_bytes: int
    note: str = ""
    """Something to say on a line of its own; most often empty."""


OnProgress: TypeAlias = Callable[[Progress], None]
Stop: TypeAlias = Callable[[], bool]
"""True = end the pull now; asked several times a second."""


class SourceError(WeightsError):
    """A source does not deliver; another may."""


class Stopped(WeightsError):
    """The pull was told to stop."""

    def __init__(self) -> None:
        super().__init__("the pull was stopped; the next one goes on from what is kept of it")


class Partial:
    """The growing file, and the directory that is scratch until it is whole. One process at a time (the caller locks).

    Raises: WeightsError from every method when the disk does not take part.
    """

    def __init__(self, directory: Path, *, weights: Weights, on_progress: OnProgress) -> None:
        self.directory = directory
        self.weights = weights
        self._path = directory / _FILE
        self._on_progress = on_progress
        with on_disk(directory):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            refuse_strangers(directory)
            for scratch in directory.glob("*.scratch"):
                remove_tree(scratch)
            self._file = open_regular(self._path, "a+b")
        self.whole_parts = 0
        """How many parts, from the first, are there and right."""
        self.check()

    @property
    def size(self) -> int:
        return self._file.seek(0, os.SEEK_END)

    def report(self, *, ahead_bytes: int = 0, note: str = "") -> None:
        """Tell how far it is; `ahead_bytes` are here but not in the file yet."""
        total = self.weights.size_bytes
        self._on_progress(Progress(done_bytes=min(self.size + ahead_bytes, total), total_bytes=total, note=note))

    def scratch(self, name: str) -> Path:
        """An empty directory that the next pull sweeps away, should this one not."""
        path = self.directory / f"{name}.scratch"
        with on_disk(self.directory):
            remove_tree(path)
            path.mkdir()
        return path

    def write(self, data: bytes) -> None:
        with on_disk(self.directory):
            self._file.write(data)
            self._file.flush()

    def cut(self, size: int) -> None:
        with on_disk(self.directory):
            self._file.flush()
            self._file.truncate(size)

    def cut_to_whole_parts(self) -> None:
        self.cut(sum(part.size_bytes for part in self.weights.parts[: self.whole_parts]))

    def is_right(self) -> bool:
        """Whether it is the pinned file, by every byte of it."""
        return self.size == self.weights.size_bytes and self._hash() == self.weights.sha256

    def refuse_unless_right(self) -> None:
        """After a source delivered.

        Raises: SourceError when the file is not the pinned one; it is cut back to what is right of it.
        """
        if self.is_right():
            return
        size, found = self.size, self._hash()
        self.check()
        self.cut_to_whole_parts()
        raise SourceError(
            f"what came is not {self.weights.name}: {size:,} bytes with SHA-256 {found[:16]}… instead of "
            f"{self.weights.size_bytes:,} with {self.weights.sha256[:16]}…; it is refused and deleted"
        )

    def install(self, target: Path) -> None:
        """Give the right file its name; the directory is gone then."""
        with on_disk(target.parent):
            os.fsync(self._file.fileno())
            if not os.path.samestat(os.fstat(self._file.fileno()), os.lstat(self._path)):
                raise WeightsError(f"{self._path} is not the file any more that was checked; pull again")
            os.replace(self._path, target)
            _sync(target.parent)
        self.close()
        remove_tree(self.directory)

    def close(self) -> None:
        """Let go of it; a directory in which nothing came together is not left behind."""
        if self._file.closed:
            return
        empty = self.size == 0
        self._file.close()
        if empty:
            remove_tree(self.directory)

    def check(self) -> None:
        """Count the parts that are right, and cut the file before the first that is not."""
        size, self.whole_parts, position = self.size, 0, 0
        self._file.seek(0)
        for part in self.weights.parts:
            end = position + part.size_bytes
            if end > size:
                break
            with on_disk(self.directory):
                found = sha256_of(self._file, size_bytes=part.size_bytes)
            if found != part.sha256:
                self.cut(position)
                self.report(note=f"What is kept is wrong after {position:,} bytes; it is cut off there")
                break
            self.whole_parts, position = self.whole_parts + 1, end
        if self.size > self.weights.size_bytes:
            self.cut(self.weights.size_bytes)

    def _hash(self) -> str:
        self._file.seek(0)
        with on_disk(self.directory):
            return sha256_of(self._file)


@contextmanager
def on_disk(directory: Path) -> Iterator[None]:
    """What goes wrong with files in the block becomes a sentence.

    Raises: WeightsError.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            problem = "the disk is full; what came so far is kept: make room, and pull again"
        else:
            problem = f"cannot be written or read ({(error.strerror or str(error)).lower()})"
        raise WeightsError(f"{directory}: {problem}; {ELSEWHERE}") from error


def refuse_strangers(directory: Path) -> None:
    """Look at what an earlier pull left, if anything did, without changing it.

    Raises: WeightsError for what no pull of this user leaves; OSError.
    """
    for path, is_right in ((directory, stat.S_ISDIR), (directory / _FILE, stat.S_ISREG)):
        try:
            found = os.lstat(path)
        except FileNotFoundError:
            return
        if not is_right(found.st_mode):
            problem = f"is {kind_of(found)}"
        elif os.name != "posix":
            continue
        elif found.st_uid != os.geteuid():
            problem = "belongs to somebody else"
        elif found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            problem = "may be written to by others"
        elif stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            problem = "has another name, too"
        else:
            continue
        raise WeightsError(f"{path} {problem}, so it is not used: delete it; or {ELSEWHERE}")


def kept_in(directory: Path, *, weights: Weights, whole_parts: bool) -> int:
    """How many bytes an earlier pull left that the next can use, unchecked; only parts that are whole, if so asked."""
    try:
        size = min(os.lstat(directory / _FILE).st_size, weights.size_bytes)
    except OSError:
        return 0
    if not whole_parts:
        return size
    whole = 0
    for part in weights.parts:
        if whole + part.size_bytes > size:
            break
        whole += part.size_bytes
    return whole


def remove_tree(directory: Path) -> None:
    """Gone as far as it can be; what is left is swept by the next pull."""
    shutil.rmtree(directory, ignore_errors=True)


def _sync(directory: Path) -> None:
    """Make a rename durable."""
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
