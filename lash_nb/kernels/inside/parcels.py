"""A parcel: pickled values in one file without a name, as the two sides write and read it; in the kernel as source.

Decided here: how the streams and the buffers lie in the file, where the file is, and how it is digested. It is memory
(`memfd`) while there is room, else a file of the runtime directory that is unlinked as soon as it is there; the other
side opens it by the descriptor of the process that made it. So nothing can stay behind, however either ends. Where a
system has no such thing, the file has a name, and who made it removes it.
The reader maps it privately: buffers are not copied again, and what is written into them is its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import mmap
import os
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["Arrived", "GoneError", "Layout", "Place", "address_of", "digest_of", "fits_in_memory", "opened", "placed"]

HEAD_BYTES = 64
ALIGNED = 64
PAGE = mmap.PAGESIZE
PAGED_BYTES = 64 * 1024
"""Buffers from this size on begin and end with pages of their own."""
PIECE_BYTES = 1024 * 1024
COPIED_BYTES = 4 * 1024 * 1024
"""Files up to this size are read rather than mapped: a mapping holds a descriptor."""
UNCHECKED_BYTES = 1024 * 1024
LEFT_BYTES = 256 * 1024 * 1024
"""What must be left of the memory when a parcel is in it."""
WORKERS = 2


class GoneError(Exception):
    """The file is not there any more, or cannot be opened from here."""


# -- where -------------------------------------------------------------------------------------------------------------


def memory_left() -> int:
    """How many bytes of memory this process may still use, as far as the system says."""
    found = 1 << 62
    with contextlib.suppress(OSError, ValueError, IndexError), open("/proc/meminfo", "rb") as file:
        lines = dict(line.split(b":", 1) for line in file.read().splitlines())
        found = int(lines[b"MemAvailable"].split()[0]) * 1024
    with contextlib.suppress(OSError, ValueError, KeyError):  # version 2 of control groups alone
        group = open_text("/proc/self/cgroup").rpartition("::")[2].strip()
        for place in {f"/sys/fs/cgroup{group.rstrip('/')}", "/sys/fs/cgroup"}:
            limit = int(open_text(f"{place}/memory.max"))  # "max" is a ValueError
            found = min(found, limit - int(open_text(f"{place}/memory.current")))
    return found


def open_text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()


def fits_in_memory(size: int) -> bool:
    return size <= UNCHECKED_BYTES or size + LEFT_BYTES <= memory_left()


class Place:
    """A new file of this process, of this user's alone; `close` when both sides have it open, or have done with it."""

    def __init__(self, fd: int, path: str, *, named: bool) -> None:
        self.fd, self.path, self.named, self.pid = fd, path, named, os.getpid()
        self.token = uuid.uuid4().hex
        """What it begins with."""
        try:
            os.pwrite(fd, self.token.encode(), 0)
        except OSError:
            self.close()
            raise

    def told(self) -> dict[str, Any]:
        """How the other side finds it, and knows that it is this one: a descriptor's number is soon another's."""
        return {"path": self.path, "token": self.token}

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """A second call does nothing."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            if self.named and os.getpid() == self.pid:  # a forked child lets go of it alone
                with contextlib.suppress(OSError):
                    os.unlink(self.path)


def placed(directory: str, *, in_memory: bool, named: bool = False) -> Place:
    """A file in memory, or in a directory; `named` where the other side cannot open it by the descriptor."""
    own = f"/proc/{os.getpid()}/fd"
    by_descriptor = not named and os.path.isdir(own)
    if in_memory and by_descriptor and hasattr(os, "memfd_create"):
        fd = os.memfd_create("lash_nb values", os.MFD_CLOEXEC)
        return Place(fd, f"{own}/{fd}", named=False)
    path = os.path.join(directory, f"values-{uuid.uuid4().hex}")
    fd = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
    if by_descriptor:
        os.unlink(path)
        return Place(fd, f"{own}/{fd}", named=False)
    return Place(fd, path, named=True)


def opened(told: dict[str, Any], flags: int) -> int:
    """The file that the other side told of.

    Raises:
        GoneError: it is not there, or another one is.
    """
    try:
        fd = os.open(told["path"], flags | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise GoneError(f"{type(error).__name__}: {error}") from error
    with contextlib.suppress(OSError):  # it is no file at all
        if os.pread(fd, HEAD_BYTES, 0).startswith(told["token"].encode()):
            return fd
    os.close(fd)
    raise GoneError("its place was taken by another file")


# -- what lies where ---------------------------------------------------------------------------------------------------


class Layout:
    """Where the streams and the buffers of some `Packed` lie, and their digests."""

    def __init__(self, parcels: Sequence[Any]) -> None:
        self.streams: list[tuple[int, int, list[int]]] = []
        """Where each begins, its length, the numbers of its buffers."""
        self.buffers: list[tuple[int, int]] = []
        self.chunks: list[tuple[int, memoryview, bool]] = []
        """What is to be written, where, and whether it is a buffer."""
        self.size = HEAD_BYTES
        for packed in parcels:
            begins, numbers = self.size, []
            for data in packed.stream:
                self.chunks.append((self.size, memoryview(data), False))
                self.size += len(data)
            length = self.size - begins
            for view in packed.buffers:
                numbers.append(len(self.buffers))
                big = view.nbytes >= PAGED_BYTES
                begin = aligned(self.size, PAGE if big else ALIGNED)
                self.buffers.append((begin, view.nbytes))
                self.chunks.append((begin, view, True))
                self.size = aligned(begin + view.nbytes, PAGE) if big else begin + view.nbytes
            self.streams.append((begins, length, numbers))
            self.size = aligned(self.size, ALIGNED)

    def told(self, digests: dict[tuple[int, int], str] | None = None) -> dict[str, Any]:
        """What the reader is to know of it; with the digest of each buffer, if they are known."""
        told: dict[str, Any] = {"size": self.size, "streams": self.streams, "buffers": self.buffers}
        if digests is not None:
            told["digests"] = [digests[key_of(view)] for _, view, is_buffer in self.chunks if is_buffer]
        return told

    def write(self, fd: int, *, stopped: Callable[[], bool], digests: dict[tuple[int, int], str] | None = None) -> None:
        """Write it all, on two threads; `digests` gets that of each memory, by where it is and its length."""
        os.ftruncate(fd, self.size)
        hashed = set() if digests is None else set(digests)
        jobs: list[Callable[[], None]] = []
        pending: dict[tuple[int, int], list[bytes]] = {}
        for begin, view, is_buffer in self.chunks:
            key = key_of(view) if digests is not None and is_buffer else None
            pieces = range(0, view.nbytes, PIECE_BYTES)
            parts: list[bytes] | None = None
            if key is not None and key not in hashed:
                hashed.add(key)
                parts = pending[key] = [b""] * len(pieces)
            jobs += [
                job(fd, begin + at, view[at : at + PIECE_BYTES], parts, number) for number, at in enumerate(pieces)
            ]
        done(jobs, stopped)
        if digests is not None:
            digests.update((key, hashlib.sha256(b"".join(parts)).hexdigest()) for key, parts in pending.items())


def key_of(view: memoryview) -> tuple[int, int]:
    """Where it is, and its length."""
    return address_of(view), view.nbytes


def hashing(view: memoryview, parts: list[bytes], number: int) -> Callable[[], None]:
    piece = view[number * PIECE_BYTES : (number + 1) * PIECE_BYTES]

    def run() -> None:
        parts[number] = hashlib.sha256(piece).digest()

    return run


def job(fd: int, at: int, view: memoryview, parts: list[bytes] | None, number: int) -> Callable[[], None]:
    """Digest a piece, then write it: one that changes between is found to have changed."""

    def run() -> None:
        if parts is not None:
            parts[number] = hashlib.sha256(view).digest()
        left, begin = view, at
        while left:
            wrote = os.pwrite(fd, left, begin)
            left, begin = left[wrote:], begin + wrote

    return run


def done(jobs: Sequence[Callable[[], None]], stopped: Callable[[], bool]) -> None:
    """All of them, by two threads: the calls inside let the interpreter go."""
    errors: list[BaseException] = []
    left: Iterator[Callable[[], None]] = iter(jobs)
    guard = threading.Lock()

    def run() -> None:
        while not errors and not stopped():
            with guard:
                one = next(left, None)
            if one is None:
                return
            try:
                one()
            except BaseException as error:
                errors.append(error)

    others = [threading.Thread(target=run, daemon=True) for _ in range(WORKERS - 1 if len(jobs) > 1 else 0)]
    for thread in others:
        thread.start()
    run()
    for thread in others:
        thread.join()
    if errors:
        raise errors[0]


def aligned(at: int, to: int) -> int:
    return -(-at // to) * to


def digest_of(packed: Any, digests: dict[tuple[int, int], str]) -> str:
    """Of one packed value: its stream, and every buffer; `digests` has some of these already."""
    whole = hashlib.sha256()
    for data in packed.stream:
        whole.update(data)
    for view in packed.buffers:
        key = key_of(view)
        if key not in digests:
            parts = [b""] * len(range(0, view.nbytes, PIECE_BYTES))
            done([hashing(view, parts, number) for number in range(len(parts))], lambda: False)
            digests[key] = hashlib.sha256(b"".join(parts)).hexdigest()
        whole.update(f"{view.nbytes} {digests[key]} ".encode())
    return whole.hexdigest()


# -- what came ---------------------------------------------------------------------------------------------------------


class Arrived:
    """A parcel that the other side wrote, as this process's own memory. `told` is where it is, `size` and `buffers`.

    It is `copied` where the other side is not trusted: memory that is mapped ends this process when who else has the
    file cuts it.

    Raises:
        GoneError: it is not there any more, or there is no room for a copy.
    """

    def __init__(self, told: dict[str, Any], *, fd: int | None = None, copied: bool = False) -> None:
        size = told["size"]
        fd = opened(told, os.O_RDONLY) if fd is None else os.dup(fd)
        try:
            if os.fstat(fd).st_size < size:
                raise GoneError("it is not whole")
            self.mapped = size > COPIED_BYTES and not copied
            if copied and not fits_in_memory(size):
                raise GoneError(f"there is no room for its {size:,} bytes")
            if self.mapped:
                untracked: Any = {"trackfd": False} if sys.version_info >= (3, 13) else {}  # no descriptor of its own
                access = mmap.PROT_READ | mmap.PROT_WRITE
                self.memory = mmap.mmap(fd, size, flags=mmap.MAP_PRIVATE, prot=access, **untracked)
            else:
                self.memory = mmap.mmap(-1, max(size, 1), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
                read(fd, memoryview(self.memory)[:size])
        finally:
            os.close(fd)
        whole = memoryview(self.memory)
        self.buffers = [whole[begin : begin + length] for begin, length in told["buffers"]]

    def stream(self, begin: int) -> Any:
        """A file to read a stream from; one at a time."""
        self.memory.seek(begin)
        return self.memory


def read(fd: int, memory: memoryview) -> None:
    at = 0
    while at < len(memory):
        came = os.preadv(fd, [memory[at:]], at)
        if not came:
            raise GoneError("it is not whole")
        at += came


class _Buffer(ctypes.Structure):
    """`Py_buffer`."""

    _fields_ = [
        ("buf", ctypes.c_void_p),
        ("obj", ctypes.py_object),
        ("len", ctypes.c_ssize_t),
        ("itemsize", ctypes.c_ssize_t),
        ("readonly", ctypes.c_int),
        ("ndim", ctypes.c_int),
        ("rest", ctypes.c_void_p * 6),
    ]


def address_of(view: Any) -> int:
    """Where the memory of a contiguous buffer begins."""
    found = _Buffer()
    ctypes.pythonapi.PyObject_GetBuffer(ctypes.py_object(view), ctypes.byref(found), 0)
    try:
        return int(found.buf or 0)
    finally:
        ctypes.pythonapi.PyBuffer_Release(ctypes.byref(found))


def was_written(begin: int, length: int) -> bool:
    """Whether a part of privately mapped memory may have been written into: a page is this process's own, then.

    Raises:
        OSError: the system does not say.
    """
    if not pages_are_told():
        raise OSError("the page map does not tell which pages were written")
    return own_pages(begin, length)


@functools.lru_cache(maxsize=1)
def pages_are_told() -> bool:
    """Whether it is seen of two pages that the first was written into, and the second read."""
    if not (os.path.exists("/proc/self/pagemap") and hasattr(os, "memfd_create")):
        return False
    place = placed("", in_memory=True)
    try:
        os.pwrite(place.fd, bytes(2 * PAGE), 0)
        memory = mmap.mmap(place.fd, 2 * PAGE, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        memory[0] = memory[PAGE] + 1
        begin = address_of(memory)
        return own_pages(begin, PAGE) and not own_pages(begin + PAGE, PAGE)
    except OSError:
        return False
    finally:
        place.close()


def own_pages(begin: int, length: int) -> bool:
    first, last = begin // PAGE, (begin + length - 1) // PAGE
    fd = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    try:
        entries = os.pread(fd, (last - first + 1) * 8, first * 8)
    finally:
        os.close(fd)
    if len(entries) != (last - first + 1) * 8:
        raise OSError("the page map is not whole")
    heads = set(entries[7::8] if sys.byteorder == "little" else entries[::8])
    # bits 63 and 62: it is in memory, or swapped out; bit 61: it is still the file's
    return any(head & 0xC0 and not head & 0x20 for head in heads)
