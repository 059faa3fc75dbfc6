"""Who writes a session's journal: one process at a time, and never two.

Decided here: the writer holds the `flock` of `lock`, which the system gives back when a process ends however it ends;
what is written in that file is for people, and for `holder`, which looks without taking. Where a file system has no
`flock`, files that are created exclusively stand in for it: `owner` says who holds the journal, and `owner.<its nonce>`
who succeeded it, so that of many who find the last one dead only one can. Of whom it is not known, as of a process of
another machine, is not succeeded: a person has to delete its file. Nothing depends on the order of times.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import JournalError, JournalInUseError
from ..machine.wire import DecodeError, Json, dumps, loads
from ..trust import whole_text
from .durable import write_all
from .processes import fate, this_process
from .segments import inode, journal_errors, open_plain, read_all

if sys.platform != "win32":
    import fcntl

__all__ = ["Ownership", "holder", "take"]

_BUSY = frozenset({errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES})
_PATIENCE_S = 0.5
"""How long a lock is asked for again that nobody living seems to hold: its holder may be ending, or a look at it."""
_PAUSE_S = 0.02
_MOST_TRIES = 100
_NONCE = re.compile("[0-9a-f]{16}")


def _flock(fd: int, operation: int) -> None:
    """The system's `flock`, at once or not at all."""
    if sys.platform == "win32":
        raise OSError(errno.ENOSYS, "there is no flock here")
    fcntl.flock(fd, operation | fcntl.LOCK_NB)


def _read(path: Path) -> dict[str, Any] | None:
    """Who is written there; {} when nobody is, or not wholly; None: there is no such file."""
    try:
        fd = open_plain(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        value = loads(read_all(fd))
    except DecodeError:  # it is being written
        return {}
    finally:
        os.close(fd)
    return value if isinstance(value, dict) else {}


# --------------------------------------------------------------------------------------------------- ownership


class Ownership:
    """The right to write one session's journal, until `release`; a forked child has no part in it."""

    def __init__(self, owner: Mapping[str, Json], *, fd: int | None, files: tuple[Path, ...]) -> None:
        """`fd`: of the locked file, now its own; without one, `files` are the chain, and its end is ours."""
        self.owner = owner
        self._locked = fd is not None
        self._files = files
        # Open as long as it is ours, or another file could come to have the same inode.
        self._fds = [open_plain(path, os.O_RDONLY) for path in files] if fd is None else [fd]
        self._inodes = [inode(path) for path in files]
        self._guard = threading.Lock()
        self._pid = os.getpid()
        _held.add(self)

    def check(self) -> None:
        """See that it has not been taken from us by hand.

        Raises:
            JournalError: the files that say so are gone, so another process may write now; or it was given back.
        """
        if not self._files:
            raise JournalError("this session's journal was given back: open the session again")
        if [inode(path) for path in self._files] != self._inodes:
            raise JournalError(
                f"{self._files[-1]} was removed or replaced, so another process may write this session by now: "
                "open the session again"
            )

    def release(self) -> None:
        """Give it back. A second call does nothing."""
        with self._guard:
            fds, self._fds = self._fds, []
            files, self._files = self._files, ()
            if self._pid != os.getpid() or not files:
                return
            if self._locked:
                _unlock(fds[0])
            else:
                _remove_chain(files, self._inodes)
                for fd in fds:
                    os.close(fd)

    def _forget(self) -> None:
        """In a forked child: neither hold it nor give it back."""
        self._guard = threading.Lock()  # a thread that is not here may have held the old one
        for fd in self._fds:
            os.close(fd)
        self._fds, self._files = [], ()

    def __del__(self) -> None:
        if hasattr(self, "_pid"):
            self.release()


_held: weakref.WeakSet[Ownership] = weakref.WeakSet()


def _forget_in_child() -> None:
    for ownership in list(_held):
        ownership._forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)


def take(directory: Path, *, session: str, owner: Mapping[str, Json] | None = None) -> Ownership:
    """Become the writer of the journal there; `owner` is what to tell others of us (`notebook`).

    Raises:
        JournalInUseError: another process, or this one, has it.
        JournalError: the directory cannot be written.
    """
    us = this_process(owner or {})
    with journal_errors(directory / "lock", "taken"):
        fd = _lock(directory / "lock", us, session)
        if fd is None:
            files = _join_chain(directory, us, session)
            try:
                return Ownership(us, fd=None, files=files)
            except BaseException:
                _remove_chain(files, [inode(path) for path in files])
                raise
        try:
            # Another machine may see this file system without flock.
            for path, other in _chain(directory)[-1:]:
                _refuse(path, other, session)
            return Ownership(us, fd=fd, files=(directory / "lock",))
        except BaseException:
            _unlock(fd)
            raise


def holder(directory: Path) -> dict[str, Any] | None:
    """Who writes the journal there (`pid`, `host`, `since`, …), without taking it; None when nobody does."""
    with journal_errors(directory, "looked into"):
        owner = _read(directory / "lock")
        if owner:
            known = fate(owner)
            if known == "living" or (known == "unknown" and _is_locked(directory / "lock")):
                return owner
        for _, owner in _chain(directory)[-1:]:
            if fate(owner) != "gone":
                return owner
    return None


def _in_use(owner: Mapping[str, Any], session: str, hint: str = "") -> JournalInUseError:
    if owner.get("pid"):
        who = f"process {owner['pid']} on {owner.get('host')} since {owner.get('since')}"
    else:
        who = "another process, which does not say who it is"
    notebook = f" ({owner['notebook']})" if owner.get("notebook") else ""
    return JournalInUseError(f"the session {session!r} is in use by {who}{notebook}{hint}", owner=owner)


def _encoded(owner: Mapping[str, Json]) -> bytes:
    return whole_text(dumps(dict(owner))).encode()


# ------------------------------------------------------------------------------------------------- with a flock


def _lock(path: Path, us: Mapping[str, Json], session: str) -> int | None:
    """A descriptor that holds the lock, with us written there; None where the file system knows no such lock."""
    give_up_at = time.monotonic() + _PATIENCE_S
    while True:
        fd = open_plain(path, os.O_RDWR | os.O_CREAT)
        try:
            _flock(fd, fcntl.LOCK_EX)
            if inode(path) == (os.fstat(fd).st_dev, os.fstat(fd).st_ino):
                _sign(fd, us)
                return fd
            os.close(fd)  # it was removed in between: there is another, or none
        except OSError as error:
            os.close(fd)
            if error.errno not in _BUSY:
                return None
            owner = _read(path) or {}
            if time.monotonic() >= give_up_at or (owner and fate(owner) == "living"):
                raise _in_use(owner, session) from None
            time.sleep(_PAUSE_S)
        except BaseException:
            os.close(fd)
            raise


def _sign(fd: int, us: Mapping[str, Json]) -> None:
    """Say who holds the lock, if there is room to."""
    with contextlib.suppress(OSError):
        os.fchmod(fd, 0o600)
        os.ftruncate(fd, 0)
        os.pwrite(fd, _encoded(us), 0)


def _unlock(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(fd, 0)
    with contextlib.suppress(OSError):
        # A process that was forked behind Python's back has this lock, too, until it is given back in words.
        _flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def _is_locked(path: Path) -> bool:
    """Whether somebody holds the lock. To others we seem to, for a moment: they try again."""
    fd = open_plain(path, os.O_RDONLY)
    try:
        _flock(fd, fcntl.LOCK_SH)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


# ---------------------------------------------------------------------------------------------- without a flock


def _chain(directory: Path) -> list[tuple[Path, dict[str, Any]]]:
    """From `owner` on to whoever has the journal, each with its file."""
    found: dict[Path, dict[str, Any]] = {}
    path = directory / "owner"
    while path not in found and (owner := _read(path)) is not None:
        found[path] = owner
        nonce = owner.get("nonce")
        if not isinstance(nonce, str) or not _NONCE.fullmatch(nonce):
            break
        path = directory / f"owner.{nonce}"
    return list(found.items())


def _refuse(path: Path, owner: Mapping[str, Any], session: str) -> None:
    """Raises JournalInUseError unless that owner is known to be gone."""
    known = fate(owner)
    if known == "unknown":
        raise _in_use(owner, session, f"; whether it still runs cannot be told from here: if not, delete {path}")
    if known == "living":
        raise _in_use(owner, session)


def _join_chain(directory: Path, us: Mapping[str, Json], session: str) -> tuple[Path, ...]:
    """Become the end of the chain; the files of it."""
    for _ in range(_MOST_TRIES):
        target = directory / "owner"
        for path, owner in _chain(directory)[-1:]:
            _refuse(path, owner, session)
            target = directory / f"owner.{owner['nonce']}"
        if not _create(target, us):  # somebody was faster
            continue
        try:
            chain = _chain(directory)
            # The chain may have been given back while we looked at it: what we joined then leads nowhere.
            if chain and chain[-1][1].get("nonce") == us["nonce"]:
                # Another machine may see this file system with flock.
                other = _read(directory / "lock")
                if other:
                    _refuse(directory / "lock", other, session)
                files = tuple(path for path, _ in chain)
                _sweep(directory, files)
                return files
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        target.unlink(missing_ok=True)
    raise _in_use({}, session)


def _create(path: Path, us: Mapping[str, Json]) -> bool:
    """Make that file ours; False when there is one already."""
    try:
        fd = open_plain(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return False
    try:
        os.fchmod(fd, 0o600)
        write_all(fd, _encoded(us))
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)
    return True


def _sweep(directory: Path, chain: tuple[Path, ...]) -> None:
    """Remove what leads nowhere; only for whoever holds the journal."""
    for name in os.listdir(directory):
        if name.startswith("owner.") and directory / name not in chain:
            (directory / name).unlink(missing_ok=True)


def _remove_chain(files: tuple[Path, ...], inodes: list[tuple[int, int] | None]) -> None:
    """Remove it from its head on: once that is gone, nobody can join what is left."""
    for path, known in zip(files, inodes, strict=True):
        with contextlib.suppress(OSError):
            if inode(path) == known:
                path.unlink()
