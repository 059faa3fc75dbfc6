"""How a journal's records lie in a file: one line a record, which fits in its own place of its own file alone.

Decided here: the form of a line, `<number> <length> <crc32> <JSON>\\n` (numbers in hex, the length that of the JSON in
bytes), and what damage is. The numbers rise by one; number 0 is the header, whose `nonce` seeds the checksums of the
records after it. Compact JSON has no raw line break, so no text inside a record looks like one.

- What is not whole and has nothing whole after it is a torn tail: a write that a crash cut off.
- Whole records after it mean damage, and so does a file without a whole header, unless there is nothing but that.
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
_START = re.compile(rb"(0|[1-9a-f][0-9a-f]{0,15}) ([1-9a-f][0-9a-f]{0,15}) ([0-9a-f]{8}) (?=\{)")
_ANYWHERE = re.compile(rb"(?=" + _START.pattern + rb")")
_NONCE = re.compile(rb'"nonce":"([0-9a-f]{32})"')


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What is in a file, or in the part of it that was looked at.

    `records` are the whole ones up to the first that is not, `end` is where the last of them ends (in bytes of the
    file), `size` where the file does, and `after` says how many whole ones follow on what is not whole. `problem` says
    why a file is damaged; "" when it is not, which may mean a torn tail (`end < size`).
    """

    header: dict[str, Any] | None
    records: list[dict[str, Any]]
    end: int
    size: int
    after: int = 0
    problem: str = ""

    @property
    def torn(self) -> int:
        """How many bytes at the end are not a whole record, with nothing whole after them."""
        return 0 if self.problem else self.size - self.end

    @property
    def empty(self) -> bool:
        """There is not even a whole header, and nothing else: a file that was never written, or torn at once."""
        return self.header is None and not self.problem


def seed(nonce: str) -> int:
    """What the checksums of a file's records start from."""
    return zlib.crc32(nonce.encode())


def frame(record: Mapping[str, object], *, number: int, seed: int) -> bytes:
    """The line of a record; halves of surrogate pairs become U+FFFD, for no JSON could hold them.

    Raises:
        TypeError, ValueError: the record is no JSON object.
    """
    payload = whole_text(dumps(dict(record))).encode()
    place = b"%x %x" % (number, len(payload))
    return b"%s %08x %s\n" % (place, _checksum(place, payload, seed), payload)


def header_frame(header: Mapping[str, object]) -> bytes:
    """The first line of a file."""
    return frame(header, number=0, seed=0)


def scan(data: bytes) -> Scan:
    """Look at a whole file."""
    found = _frame_at(data, 0, 0)
    header = _payload(found[1]) if found is not None and found[0] == 0 else None
    if found is None or header is None or not isinstance(header.get("nonce"), str):
        return _without_header(data)
    return scan_on(data[found[2] :], number=1, seed=seed(header["nonce"]), start=found[2], header=header)


def scan_on(data: bytes, *, number: int, seed: int, start: int = 0, header: dict[str, Any] | None = None) -> Scan:
    """Look at what follows on byte `start` of a file, where record `number` begins."""
    records: list[dict[str, Any]] = []
    at, problem = 0, ""
    while (found := _frame_at(data, at, seed)) is not None and found[0] == number:
        record = _payload(found[1])
        if record is None:  # its checksum fits, so this is what was written: nothing may be cut off here
            problem = "a whole record that is no JSON to us"
            break
        records.append(record)
        number, at = number + 1, found[2]
    after = _whole_ones(data, at, seed) if at < len(data) else 0
    if after and not problem:
        problem = "bytes that are no record"
    return Scan(header=header, records=records, end=start + at, size=start + len(data), after=after, problem=problem)


def _checksum(place: bytes, payload: bytes, seed: int) -> int:
    return zlib.crc32(payload, zlib.crc32(place + b" ", seed))


def _frame_at(data: bytes, at: int, seed: int) -> tuple[int, bytes, int] | None:
    """The number and the JSON of the whole line there, and where it ends."""
    match = _START.match(data, at)
    if match is None:
        return None
    end = match.end() + int(match[2], 16)
    if data[end : end + 1] != b"\n":
        return None
    payload = data[match.end() : end]
    if _checksum(match[1] + b" " + match[2], payload, seed) != int(match[3], 16):
        return None
    return int(match[1], 16), payload, end + 1


def _payload(payload: bytes) -> dict[str, Any] | None:
    try:
        record = loads(payload)
    except DecodeError:
        return None
    return record if isinstance(record, dict) else None


def _whole_ones(data: bytes, at: int, seed: int) -> int:
    """How many whole lines there are from `at` on, wherever they begin: the break before one may be what is damaged."""
    count, end = 0, at
    for match in _ANYWHERE.finditer(data, at):
        if match.start() >= end and (found := _frame_at(data, match.start(), seed)) is not None:
            count, end = count + 1, found[2]
    return count


def _without_header(data: bytes) -> Scan:
    """A file without a whole header: damaged when it may ever have held a record."""
    nonce = _NONCE.search(data)
    after = _whole_ones(data, 0, seed(nonce[1].decode())) if nonce else 0
    written = data.rstrip(b"\0")
    more = b"\n" in written.rstrip(b"\n") or any(
        match.start() or match[1] != b"0" for match in _ANYWHERE.finditer(written)
    )
    problem = "no whole header" if after or more else ""
    return Scan(header=None, records=[], end=0, size=len(data), after=after, problem=problem)
