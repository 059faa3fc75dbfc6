"""How a journal's records lie in a file: one line a record, which fits in its own place of its own file alone.

Decided here: the form of a line, `<number> <length> <synced> <crc32> <JSON>\\n` (numbers in hex, the length that of the
JSON in bytes), and what damage is. The numbers rise by one; number 0 is the header, whose line has no `synced`, and
whose `nonce` seeds the checksums of the records after it (a later version may change those, the header's line never).
Compact JSON has no raw line break, so no text inside a record looks like one.

`synced` says up to which byte of the file everything was known to be on the disk when the record was written. A disk
may keep what comes after that in any order, so when the power fails whole records may lie behind one that is not.

- What is not whole is a torn tail, a write that a crash cut off, when nothing whole after it says that more than what
  comes before was synced: nobody was promised any of it.
- Else it is damage, and so is a file without a whole header, unless there is nothing but that.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..machine.wire import DecodeError, dumps, loads
from ..trust import whole_text

__all__ = ["Scan", "frame", "header_frame", "scan", "scan_on", "seed"]

# A number is written without leading zeros: no bit of a line may change without a trace.
_NUMBER = rb"[1-9a-f][0-9a-f]{0,15}"
_START = re.compile(rb"(0|%b) (%b)(?: (%b))? ([0-9a-f]{8}) (?=\{)" % (_NUMBER, _NUMBER, _NUMBER))
_ANYWHERE = re.compile(rb"(?=" + _START.pattern + rb")")
_NONCE = re.compile(rb'"nonce":"([0-9a-f]{32})"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What is in a file, or in the part of it that was looked at.

    `records` are the whole ones up to the first that is not, `end` is where the last of them ends (in bytes of the
    file), `size` where the file does, and `after` says how many whole ones follow on what is not whole. `problem` says
    why a file is damaged; "" when it is not, which may mean a torn tail (`end < size`), with those `after` in it.
    """

    header: dict[str, Any] | None
    records: list[dict[str, Any]]
    end: int
    size: int
    after: int = 0
    problem: str = ""

    @property
    def torn(self) -> int:
        """How many bytes at the end begin with what is no whole record, and were never known to be on the disk."""
        return 0 if self.problem else self.size - self.end

    @property
    def empty(self) -> bool:
        """There is not even a whole header, and nothing else: a file that was never written, or torn at once."""
        return self.header is None and not self.problem


def seed(nonce: str) -> int:
    """What the checksums of a file's records start from."""
    return zlib.crc32(nonce.encode())


def frame(record: Mapping[str, object], *, number: int, seed: int, synced: int) -> bytes:
    """The line of a record (1 or later); halves of surrogate pairs become U+FFFD, for no JSON could hold them.

    `synced`: how many bytes of the file are on the disk for sure, its header at least.

    Raises:
        TypeError, ValueError: the record is no JSON object.
    """
    payload = _json(record)
    return _line(b"%x %x %x" % (number, len(payload), synced), payload, seed)


def header_frame(header: Mapping[str, object]) -> bytes:
    """The first line of a file. Raises as `frame` does."""
    payload = _json(header)
    return _line(b"0 %x" % len(payload), payload, 0)


def _json(record: Mapping[str, object]) -> bytes:
    return whole_text(dumps(dict(record))).encode()


def _line(place: bytes, payload: bytes, seed: int) -> bytes:
    return b"%s %08x %s\n" % (place, _checksum(place, payload, seed), payload)


def scan(data: bytes, *, settled: bool = False) -> Scan:
    """Look at a whole file; `settled`: all of it was on the disk once, for a newer one was begun."""
    found = _frame_at(data, 0, 0)
    header = _payload(found.payload) if found is not None and found.number == 0 else None
    if found is None or header is None or not isinstance(header.get("nonce"), str):
        return _without_header(data)
    first = found.end
    return scan_on(data[first:], number=1, seed=seed(header["nonce"]), start=first, header=header, settled=settled)


def scan_on(
    data: bytes,
    *,
    number: int,
    seed: int,
    start: int = 0,
    header: dict[str, Any] | None = None,
    settled: bool = False,
) -> Scan:
    """Look at what follows on byte `start` of a file, where record `number` begins; `settled` as with `scan`."""
    records: list[dict[str, Any]] = []
    at, problem = 0, ""
    while (found := _frame_at(data, at, seed)) is not None and found.number == number:
        record = _payload(found.payload)
        if record is None:  # its checksum fits, so this is what was written: nothing may be cut off here
            problem = "a whole record that is no JSON to us"
            break
        records.append(record)
        number, at = number + 1, found.end
    behind = _whole_ones(data, at, seed) if at < len(data) else []
    promised = settled or any(found.synced > start + at for found in behind)
    if behind and promised and not problem:
        problem = "bytes that are no record"
    size = start + len(data)
    return Scan(header=header, records=records, end=start + at, size=size, after=len(behind), problem=problem)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A whole line: what it says, and where it ends."""

    number: int
    synced: int
    payload: bytes
    end: int


def _checksum(place: bytes, payload: bytes, seed: int) -> int:
    return zlib.crc32(payload, zlib.crc32(place + b" ", seed))


def _frame_at(data: bytes, at: int, seed: int) -> _Line | None:
    """The whole line there."""
    match = _START.match(data, at)
    if match is None or (match[1] == b"0") != (match[3] is None):
        return None
    end = match.end() + int(match[2], 16)
    if data[end : end + 1] != b"\n":
        return None
    payload = data[match.end() : end]
    if _checksum(data[at : match.start(4) - 1], payload, seed) != int(match[4], 16):
        return None
    return _Line(number=int(match[1], 16), synced=int(match[3] or b"0", 16), payload=payload, end=end + 1)


def _payload(payload: bytes) -> dict[str, Any] | None:
    try:
        record = loads(payload)
    except DecodeError:
        return None
    return record if isinstance(record, dict) else None


def _whole_ones(data: bytes, at: int, seed: int) -> list[_Line]:
    """The whole lines from `at` on, wherever they begin: the break before one may be what is damaged."""
    lines: list[_Line] = []
    for match in _ANYWHERE.finditer(data, at):
        if match.start() >= at and (found := _frame_at(data, match.start(), seed)) is not None:
            lines.append(found)
            at = found.end
    return lines


def _without_header(data: bytes) -> Scan:
    """A file without a whole header: damaged when it may ever have held a record."""
    nonce = _NONCE.search(data)
    after = len(_whole_ones(data, 0, seed(nonce[1].decode()))) if nonce else 0
    written = data.rstrip(b"\0")
    more = b"\n" in written.rstrip(b"\n") or any(
        match.start() or match[1] != b"0" for match in _ANYWHERE.finditer(written)
    )
    problem = "no whole header" if after or more else ""
    return Scan(header=None, records=[], end=0, size=len(data), after=after, problem=problem)
