"""Reading a journal that others write, following it, forgetting its past, and repairing it."""

from __future__ import annotations

import gzip
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from lash_nb.errors import CorruptJournalError, JournalError, JournalInUseError
from lash_nb.stores.journal import (
    JournalFollower,
    drop_archives,
    read_header,
    read_records,
    repair,
    session_directory,
)
from tests.stores.journals import NAME, fork, opened, reopened, wait


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return session_directory(tmp_path / "state", NAME)


@pytest.fixture
def rotated(directory: Path) -> Path:
    """1 2 | 12, 3 | 123, 4: three segments, each of which begins with the past as one record."""
    with opened(directory) as journal:
        journal.append_many([{"n": 1}, {"n": 2}])
        journal.rotate([{"past": [1, 2]}])
        journal.append({"n": 3})
        journal.rotate([{"past": [1, 2, 3]}])
        journal.append({"n": 4})
    return directory


def everything(directory: Path) -> list[dict[str, Any]]:
    return list(read_records(directory, everything=True))


def spoil(path: Path, old: bytes, new: bytes) -> None:
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


# ----------------------------------------------------------------------------------------------------- reading


def test_the_newest_segment_or_everything(rotated: Path) -> None:
    assert list(read_records(rotated)) == [{"past": [1, 2, 3]}, {"n": 4}]
    assert everything(rotated) == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]


def test_an_archive_is_the_segment_as_it_was(directory: Path) -> None:
    with opened(directory) as journal:
        journal.append({"n": 1})
        raw = (directory / "000001.journal").read_bytes()
        journal.rotate([])
    assert gzip.decompress((directory / "000001.journal.gz").read_bytes()) == raw


def test_what_was_forgotten_is_told_in_fewer_words(rotated: Path) -> None:
    size = sum((rotated / f"00000{number}.journal.gz").stat().st_size for number in (1, 2))
    assert drop_archives(rotated) == size
    assert sorted(os.listdir(rotated)) == ["000003.journal", "lock"]
    assert everything(rotated) == [{"past": [1, 2, 3]}, {"n": 4}]
    assert drop_archives(rotated) == 0


def test_a_gap_in_the_past_is_not_read_over(rotated: Path) -> None:
    (rotated / "000002.journal.gz").unlink()
    assert everything(rotated) == [{"past": [1, 2, 3]}, {"n": 4}]


def test_the_last_copy_is_never_forgotten(rotated: Path) -> None:
    (rotated / "000003.journal").unlink()
    assert drop_archives(rotated) == 0
    with pytest.raises(CorruptJournalError, match="missing"):
        list(read_records(rotated))


def test_reading_needs_a_journal(directory: Path) -> None:
    for _ in range(2):
        with pytest.raises(JournalError, match="no journal"):
            list(read_records(directory))
        with pytest.raises(JournalError, match="no journal"):
            read_header(directory)
        assert drop_archives(directory) == 0
        directory.mkdir(parents=True, exist_ok=True)


def test_a_header_says_whose_journal_it_is(rotated: Path) -> None:
    header = read_header(rotated)
    assert (header["session"], header["segment"], header["compacted"], header["version"]) == (NAME, 3, 1, 1)


def test_reading_changes_nothing_and_waits_for_nobody(directory: Path) -> None:
    with opened(directory) as journal:
        journal.append({"n": 1})
        path = directory / "000001.journal"
        held = path.read_bytes() + b"2 7 0000"
        path.write_bytes(held)
        assert list(read_records(directory)) == [{"n": 1}]
        assert path.read_bytes() == held
        assert sorted(os.listdir(directory)) == ["000001.journal", "lock"]


def test_damage_is_not_read_over(rotated: Path) -> None:
    spoil(rotated / "000003.journal", b"[1,2,3]", b"[1,2,4]")
    with pytest.raises(CorruptJournalError, match="sessions repair first"):
        list(read_records(rotated))
    spoil(rotated / "000003.journal", b"[1,2,4]", b"[1,2,3]")
    archive = rotated / "000002.journal.gz"
    data = archive.read_bytes()
    for damaged in (data[:-9], data[:40] + b"\0" + data[41:], data + b"x", b""):
        archive.write_bytes(damaged)
        records = read_records(rotated, everything=True)
        assert [next(records), next(records)] == [{"n": 1}, {"n": 2}]
        with pytest.raises(CorruptJournalError, match=r"000002\.journal\.gz"):
            next(records)


# --------------------------------------------------------------------------------------------------- following


def test_a_follower_gets_each_record_once(directory: Path) -> None:
    follower = JournalFollower(directory)
    assert (follower.poll(), follower.owner()) == ([], None)
    with opened(directory) as journal:
        assert follower.poll() == []
        journal.append({"n": 1})
        assert (follower.poll(), follower.poll()) == ([{"n": 1}], [])
        owner = follower.owner()
        assert owner is not None
        assert owner["pid"] == os.getpid()
        journal.append({"n": 2})
        journal.rotate([{"past": [1, 2]}])
        journal.append({"n": 3})
        assert (follower.poll(), follower.restarted) == ([{"n": 2}, {"n": 3}], False)
        for n in range(4, 7):
            journal.append({"n": n})
            journal.rotate([{"past": list(range(n))}])
        assert (follower.poll(), follower.restarted) == ([{"n": 4}, {"n": 5}, {"n": 6}], False)
        assert follower.poll() == []
    assert (follower.poll(), follower.owner()) == ([], None)


def test_a_follower_that_is_too_late_begins_anew(directory: Path) -> None:
    follower = JournalFollower(directory)
    with opened(directory) as journal:
        journal.append({"n": 1})
        assert (follower.poll(), follower.restarted) == ([{"n": 1}], True)
        journal.append({"n": 2})
        journal.rotate([{"past": [1, 2]}])
        drop_archives(directory)
        assert (follower.poll(), follower.restarted) == ([{"past": [1, 2]}], True)
        journal.append({"n": 3})
        assert (follower.poll(), follower.restarted) == ([{"n": 3}], False)


def test_a_follower_is_not_taken_in_by_a_session_of_the_same_name(directory: Path) -> None:
    follower = JournalFollower(directory)
    for session in range(3):  # the files often have the inodes of those before
        with opened(directory) as journal:
            journal.append_many([{"session": session, "n": n} for n in range(3)])
            assert (len(follower.poll()), follower.restarted) == (3, True)
            journal.append({"session": session, "n": 3})
            assert (follower.poll(), follower.restarted) == ([{"session": session, "n": 3}], False)
        shutil.rmtree(directory)


def test_a_follower_waits_for_the_end_of_a_record(directory: Path) -> None:
    follower = JournalFollower(directory)
    with opened(directory) as journal:
        journal.append({"n": 1})
        follower.poll()
        journal.append({"n": 2})
    path = directory / "000001.journal"
    data = path.read_bytes()
    found = []
    for cut in range(data.rindex(b"2 7 "), len(data) + 1):
        os.truncate(path, cut)
        with path.open("r+b") as file:
            file.write(data[:cut])
        found.append(follower.poll())
    assert found == [[]] * (len(found) - 1) + [[{"n": 2}]]


def test_a_follower_reads_along_while_another_process_writes(directory: Path) -> None:
    count = 3000

    def write() -> None:
        with opened(directory) as journal:
            for n in range(count):
                journal.append({"n": n, "text": "x" * (n % 50) * 100}, durable=False)
                if n % 37 == 0:
                    journal.rotate([{"past": n}])

    pid = fork(write)
    follower = JournalFollower(directory)
    numbers: list[int] = []
    restarts = 0
    while not numbers or numbers[-1] < count - 1:
        records = follower.poll()
        if follower.restarted:
            # Whoever begins in the midst is told what was before.
            restarts += 1
            numbers = list(range(records[0]["past"] + 1)) if records and "past" in records[0] else []
        numbers += [record["n"] for record in records if "n" in record]
        time.sleep(0.001)
    assert wait(pid) == 0
    assert numbers == list(range(count))
    assert restarts == 1
    assert follower.owner() is None
    assert [record["n"] for record in everything(directory)] == numbers


# --------------------------------------------------------------------------------------------------- repairing


def test_a_whole_journal_is_left_alone(rotated: Path) -> None:
    before = {path.name: path.read_bytes() for path in rotated.iterdir()}
    assert repair(rotated, session=NAME) == ()
    assert {path.name: path.read_bytes() for path in rotated.iterdir()} == before
    with opened(rotated), pytest.raises(JournalInUseError):
        repair(rotated, session=NAME)
    with pytest.raises(JournalError, match="not to"):
        repair(rotated, session="second")


def test_what_is_before_the_damage_is_kept(rotated: Path) -> None:
    with opened(rotated) as journal:
        for n in (5, 6, 7):
            journal.append({"n": n})
    path = rotated / "000003.journal"
    spoil(path, b'{"n":5}', b'{"n":8}')
    damaged = path.read_bytes()
    notes = repair(rotated, session=NAME)
    assert len(notes) == 2
    assert "000003.journal.damaged-1" in notes[0]
    assert (rotated / "000003.journal.damaged-1").read_bytes() == damaged
    assert reopened(rotated) == ([{"past": [1, 2, 3]}, {"n": 4}], ())
    assert everything(rotated) == [{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}]


@pytest.mark.parametrize("lost", ["header", "past", "file"])
def test_when_its_start_is_damaged_the_segment_before_it_is_gone_on_with(rotated: Path, lost: str) -> None:
    path = rotated / "000003.journal"
    match lost:
        case "header":
            spoil(path, b'"session"', b'"Session"')
        case "past":
            spoil(path, b"[1,2,3]", b"[1,2,4]")
        case "file":
            path.unlink()
    with pytest.raises(CorruptJournalError):
        opened(rotated)
    assert repair(rotated, session=NAME)
    assert reopened(rotated) == ([{"past": [1, 2]}, {"n": 3}], ())
    assert everything(rotated) == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_a_damaged_archive_is_set_aside(rotated: Path) -> None:
    spoil(rotated / "000002.journal.gz", b"\x1f\x8b", b"\x1f\x8c")
    assert len(repair(rotated, session=NAME)) == 1
    assert sorted(os.listdir(rotated)) == [
        "000001.journal.gz",
        "000002.journal.gz.damaged-1",
        "000003.journal",
        "lock",
    ]
    assert everything(rotated) == [{"past": [1, 2, 3]}, {"n": 4}]
