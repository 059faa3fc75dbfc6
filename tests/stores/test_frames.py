"""A journal's lines: what was written is read, what was not is never read, and a torn end is told from damage."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lash_nb.stores.frames import Scan, frame, header_frame, scan, scan_on, seed

NONCE = "00112233445566778899aabbccddeeff"
OTHER = "ffeeddccbbaa99887766554433221100"
RECORDS: list[dict[str, Any]] = [
    {"kind": "begun", "text": "héllo\nworld"},
    {},
    {"n": 17, "list": [1, 2.5, None, True]},
    {"text": "0 2 00000000 {}"},
    {"kind": "ended", "nested": {"a": {"b": "c"}}},
]


def line(number: int, payload: str, nonce: str | None, synced: int = 0) -> bytes:
    """A line as the module's docstring has it, put together by other means."""
    data = payload.encode()
    start = zlib.crc32(nonce.encode()) if nonce else 0
    place = f"{number:x} {len(data):x}" + (f" {synced:x}" if nonce else "")
    return f"{place} {zlib.crc32(f'{place} '.encode() + data, start):08x} ".encode() + data + b"\n"


def lines(nonce: str = NONCE, records: list[dict[str, Any]] = RECORDS, *, synced: int | None = None) -> list[bytes]:
    """A file; each record says that all before it was `synced` (None), or so many bytes."""
    header = line(0, json.dumps({"version": 1, "nonce": nonce}, separators=(",", ":")), None)
    texts = (json.dumps(record, separators=(",", ":"), ensure_ascii=False) for record in records)
    made = [header]
    for number, text in enumerate(texts, 1):
        start = len(b"".join(made))
        made.append(line(number, text, nonce, start if synced is None else synced))
    return made


WHOLE = b"".join(lines())
HEADER = len(lines()[0])


def is_right(found: Scan) -> bool:
    """Nothing but a beginning of what was written."""
    return found.records == RECORDS[: len(found.records)]


# --------------------------------------------------------------------------------------------- what is written


def test_a_line_is_what_it_is_said_to_be() -> None:
    # printf '1 9 1f {"sum":3}' | gzip -c | tail -c 8 | od -A n -t x4
    assert frame({"sum": 3}, number=1, seed=0, synced=31) == b'1 9 1f 2230c621 {"sum":3}\n'
    # printf '0 9 {"sum":3}' | …
    assert header_frame({"sum": 3}) == b'0 9 db36b445 {"sum":3}\n'


def test_what_is_written_is_read() -> None:
    written = [header_frame({"version": 1, "nonce": NONCE})]
    for number, record in enumerate(RECORDS, 1):
        written.append(frame(record, number=number, seed=seed(NONCE), synced=len(b"".join(written))))
    assert written == lines()
    found = scan(WHOLE)
    assert found.header == {"version": 1, "nonce": NONCE}
    assert (found.records, found.end, found.size, found.torn, found.problem) == (RECORDS, len(WHOLE), len(WHOLE), 0, "")


def test_it_can_be_read_on_from_the_end_of_any_line() -> None:
    start = len(b"".join(lines()[:3]))
    found = scan_on(WHOLE[start:], number=3, seed=seed(NONCE), start=start)
    assert (found.records, found.end, found.size) == (RECORDS[2:], len(WHOLE), len(WHOLE))


def test_halves_of_surrogate_pairs_break_no_line() -> None:
    data = lines()[0] + frame({"a": "x\ud800", "\udc80": "\ud83d\ude00"}, number=1, seed=seed(NONCE), synced=HEADER)
    assert scan(data).records == [{"a": "x\ufffd", "\ufffd": "\U0001f600"}]


@pytest.mark.parametrize(("record", "error"), [({"a": float("nan")}, ValueError), ({"a": object()}, TypeError)])
def test_what_is_no_json_is_refused(record: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        frame(record, number=1, seed=0, synced=1)


def test_no_text_in_a_record_looks_like_one() -> None:
    stolen = line(2, "{}", NONCE, HEADER).decode()
    data = b"".join(lines(records=[{"text": stolen}, {"text": "\n" + stolen + "\n"}, {"a": 1}]))
    assert scan(data).records == [{"text": stolen}, {"text": "\n" + stolen + "\n"}, {"a": 1}]
    torn = scan(data[: data.rindex(b'{"a"')])
    assert (len(torn.records), torn.problem) == (2, "")
    cut = data[: data.rindex(stolen.encode()[:-1]) + len(stolen)]
    assert (len(scan(cut).records), scan(cut).problem) == (1, "")


# ------------------------------------------------------------------------------------------------------- torn


@pytest.mark.parametrize(
    "garbage", [b"", b"\0" * 5, b"\0" * 5000, b"6 ", b"6 5 00000000 {}\n", b"\xff\n\n{", b"6 f" * 99]
)
def test_a_file_may_be_cut_off_anywhere(garbage: bytes) -> None:
    ends = [len(b"".join(lines()[: count + 1])) for count in range(1, len(RECORDS) + 1)]
    for cut in range(ends[0], len(WHOLE) + 1):
        found = scan(WHOLE[:cut] + garbage)
        whole = sum(end <= cut for end in ends)
        assert (found.records, found.end, found.problem) == (RECORDS[:whole], ends[whole - 1], "")
        assert found.torn == cut + len(garbage) - ends[whole - 1]


def test_without_its_line_break_a_record_is_torn() -> None:
    found = scan(WHOLE[:-1])
    assert (found.records, found.torn) == (RECORDS[:-1], len(lines()[-1]) - 1)


@pytest.mark.parametrize("data", [b"", b"\0", b"\0" * 4096, *(lines()[0][:cut] for cut in range(1, len(lines()[0])))])
def test_a_file_that_never_held_a_record_is_empty(data: bytes) -> None:
    for tail in (b"", b"\0" * 100):
        found = scan(data + tail)
        assert (found.empty, found.records, found.problem) == (True, [], "")


def starts(made: list[bytes]) -> list[int]:
    """Where each line begins, and where the last ends."""
    return [len(b"".join(made[:count])) for count in range(len(made) + 1)]


@pytest.mark.parametrize("broken", range(1, len(RECORDS)))
def test_what_lies_behind_a_broken_record_says_whether_that_was_promised(broken: int) -> None:
    """Records that say nothing of bytes behind its beginning go with it; one that does makes it damage."""
    for known in range(1, len(RECORDS) + 1):
        made = lines(synced=starts(lines())[1])
        for number in range(1, len(made)):  # one after the other: the place of each tells how long a number is
            synced = starts(made)[min(number, known)]
            payload = json.dumps(RECORDS[number - 1], separators=(",", ":"), ensure_ascii=False)
            made[number] = line(number, payload, NONCE, synced)
        start, end = starts(made)[broken : broken + 2]
        whole = b"".join(made)
        for damaged in (
            whole[:start] + b"\0" * (end - start) + whole[end:],
            whole[: end - 2] + b"\0" + whole[end - 1 :],
        ):
            found = scan(damaged)
            assert (found.records, found.end, found.after) == (RECORDS[: broken - 1], start, len(RECORDS) - broken)
            assert found.problem == ("bytes that are no record" if known > broken else "")
            assert found.torn == (0 if known > broken else len(whole) - start)
            assert scan(damaged, settled=True).problem == "bytes that are no record"
            on = scan_on(damaged[HEADER:], number=1, seed=seed(NONCE), start=HEADER)
            assert (on.end, on.after, on.problem) == (found.end, found.after, found.problem)


def test_the_end_of_a_settled_file_may_be_torn() -> None:
    found = scan(WHOLE[:-1], settled=True)
    assert (found.records, found.after, found.problem) == (RECORDS[:-1], 0, "")


def test_only_the_header_says_nothing_of_what_was_synced() -> None:
    header = lines()[0]
    for other in (line(1, "{}", NONCE, 0), b"1 2 " + line(1, "{}", NONCE, HEADER).split(b" ", 3)[3]):
        assert scan(header + other).records == []
    data = header[4:].partition(b" ")[2].rstrip(b"\n")
    place = b"0 %x 1 " % len(data)
    assert scan(place + b"%08x %s\n" % (zlib.crc32(place + data), data)).header is None


# ----------------------------------------------------------------------------------------------------- damage


def flips() -> Iterator[tuple[int, bytes]]:
    for place in range(len(WHOLE)):
        for bit in range(8):
            damaged = bytearray(WHOLE)
            damaged[place] ^= 1 << bit
            yield place, bytes(damaged)


def test_every_flipped_bit_is_noticed() -> None:
    last = len(WHOLE) - len(lines()[-1])
    for place, damaged in flips():
        found = scan(damaged)
        assert is_right(found), place
        # Behind the damage there are whole records, unless it is in the last one.
        assert (bool(found.problem), len(found.records)) == (
            (False, len(RECORDS) - 1) if place >= last else (True, _before(place))
        ), place


def _before(place: int) -> int:
    ends = [len(b"".join(lines()[: count + 1])) for count in range(len(lines()))]
    return max(0, sum(end <= place for end in ends) - 1)


def test_every_value_of_every_byte_of_a_record_is_noticed() -> None:
    start = len(b"".join(lines()[:3]))
    for place in range(start, start + len(lines()[3])):
        for value in range(256):
            damaged = WHOLE[:place] + bytes([value]) + WHOLE[place + 1 :]
            if damaged != WHOLE:
                found = scan(damaged)
                assert (found.records, found.end) == (RECORDS[:2], start)
                assert found.after in (1, 2), "the record itself and, with its line break, none of those after it"


def test_what_is_before_and_after_the_damage_is_counted() -> None:
    damaged = WHOLE.replace(b'"n":17', b'"n":18')
    found = scan(damaged)
    assert (len(found.records), found.after, found.problem) == (2, 2, "bytes that are no record")
    assert found.end == len(b"".join(lines()[:3]))


@pytest.mark.parametrize(
    "order",
    [
        pytest.param([0, 1, 2, 2, 3, 4, 5], id="twice"),
        pytest.param([0, 1, 3, 4, 5], id="one is missing"),
        pytest.param([0, 1, 2, 4, 3, 5], id="swapped"),
        pytest.param([0, 1, 2, 0, 1, 2, 3, 4], id="begun again"),
        pytest.param([1, 2, 3], id="no header"),
        pytest.param([5], id="one alone"),
    ],
)
def test_a_record_fits_in_its_own_place_alone(order: list[int]) -> None:
    found = scan(b"".join(lines()[index] for index in order))
    assert is_right(found)
    assert found.problem == ("bytes that are no record" if order[0] == 0 else "no whole header")


def test_a_record_of_another_file_never_fits() -> None:
    others = lines(OTHER)
    found = scan(b"".join([*lines()[:3], *others[3:]]))
    assert (found.records, found.after, found.problem) == (RECORDS[:2], 0, "")
    found = scan(b"".join([*lines()[:2], others[2], *lines()[3:]]))
    assert (found.records, found.after) == (RECORDS[:1], 3)
    assert scan(b"".join([others[0], *lines()[1:]])).records == []


def test_a_damaged_header_is_no_empty_file() -> None:
    (header, first, *_) = lines()
    for damaged in (b"\0" * len(header), header[:-1] + b"\0", header.replace(b'"version"', b'"Version"'), b""):
        for rest in (first, WHOLE[len(header) :]):
            found = scan(damaged + rest)
            assert (found.records, found.header) == ([], None)
            assert found.problem == "no whole header"


def test_a_whole_record_that_is_no_json_is_never_cut_off() -> None:
    found = scan(b"".join([*lines()[:2], line(2, '{"a":NaN}', NONCE, HEADER)]))
    assert (found.records, found.torn) == (RECORDS[:1], 0)
    assert found.problem == "a whole record that is no JSON to us"


@given(st.data())
def test_whatever_is_spliced_in_nothing_wrong_is_read(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(WHOLE)))
    end = data.draw(st.integers(start, len(WHOLE)))
    pieces = st.sampled_from([*lines(), *lines(OTHER)])
    middle = data.draw(st.binary(max_size=60) | st.lists(pieces, max_size=3).map(b"".join))
    found = scan(WHOLE[:start] + middle + WHOLE[end:])
    assert is_right(found)
    assert found.header in (None, {"version": 1, "nonce": NONCE}) or not found.records
    assert 0 <= found.end <= found.size == start + len(middle) + len(WHOLE) - end
