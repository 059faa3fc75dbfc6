"""A session's journal: what is appended is there again, and what cannot be gone on with is refused."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import pytest

from lash_nb.errors import CorruptJournalError, JournalError
from lash_nb.stores.journal import Journal, read_records, session_directory
from tests.stores.journals import NAME, opened, reopened, uses


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return session_directory(tmp_path / "state", NAME)


# ------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("session", "name"),
    [
        ("2026-11-26-a1", "2026-11-26-a1"),
        ("My notebook.ipynb", "My%20notebook.ipynb"),
        ("../../etc", "%2E.%2F..%2Fetc"),
        (".", "%2E"),
        ("..", "%2E."),
        ("", "%"),
        ("%", "%25"),
        ("é\0\n~", "%C3%A9%00%0A%7E"),
        ("\ud800", "%ED%A0%80"),
    ],
)
def test_any_text_names_a_directory_of_its_own(tmp_path: Path, session: str, name: str) -> None:
    assert session_directory(tmp_path, session) == tmp_path / "sessions" / name


def test_long_names_are_cut_and_stay_different(tmp_path: Path) -> None:
    names = {session_directory(tmp_path, "x" * 5000 + end).name for end in ("", "a", "b", "é")}
    assert len(names) == 4
    assert max(map(len, names)) <= 120


# -------------------------------------------------------------------------------------------- the ordinary way


def test_what_is_appended_is_there_again(directory: Path) -> None:
    with opened(directory) as journal:
        assert (journal.records, journal.notes, journal.copied, journal.segment) == ([], (), False, 1)
        journal.append({"a": 1})
        journal.append({"text": "é\n\ud800"}, durable=False)
        journal.append_many([{"b": n} for n in range(3)])
        journal.append_many([])
        assert journal.size == (directory / "000001.journal").stat().st_size
    journal.close()
    records = [{"a": 1}, {"text": "é\n\ufffd"}, {"b": 0}, {"b": 1}, {"b": 2}]
    with opened(directory, create=False) as journal:
        assert (journal.records, journal.notes, journal.copied) == (records, (), False)
        journal.append({"c": 1})
    assert reopened(directory) == ([*records, {"c": 1}], ())


def test_a_closed_journal_takes_nothing(directory: Path) -> None:
    journal = opened(directory)
    journal.close()
    for use in uses(journal):
        with pytest.raises(JournalError, match="closed"):
            use()


def test_there_has_to_be_one_unless_it_is_to_be_made(directory: Path) -> None:
    with pytest.raises(JournalError, match="no journal"):
        opened(directory, create=False)
    assert not directory.exists()
    directory.mkdir(parents=True)
    with pytest.raises(JournalError, match="no journal"):
        opened(directory, create=False)


def test_what_is_no_json_is_refused_and_leaves_nothing(directory: Path) -> None:
    with opened(directory) as journal:
        with pytest.raises(ValueError, match="JSON"):
            journal.append_many([{"a": 1}, {"a": float("inf")}])
        with pytest.raises(TypeError):
            journal.rotate([{"a": {1}}])
        journal.append({"b": 1})
    assert reopened(directory) == ([{"b": 1}], ())


def test_a_rotated_journal_begins_with_what_it_was_given(directory: Path) -> None:
    with opened(directory) as journal:
        for n in range(3):
            journal.append({"n": n})
        journal.rotate({"sum": n} for n in (3,))
        journal.append({"n": 3})
        assert (journal.segment, journal.size) == (2, (directory / "000002.journal").stat().st_size)
        journal.rotate([])
        journal.append({"n": 4})
    assert sorted(os.listdir(directory)) == ["000001.journal.gz", "000002.journal.gz", "000003.journal", "lock"]
    assert reopened(directory) == ([{"n": 4}], ())


def test_threads_append_one_after_the_other(directory: Path) -> None:
    with opened(directory) as journal:

        def work(name: int) -> None:
            for n in range(50):
                journal.append({"thread": name, "n": n}, durable=n % 10 == 0)
                if n % 20 == 19:
                    journal.rotate([])

        threads = [threading.Thread(target=work, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    records = list(read_records(directory, everything=True))
    for name in range(4):
        assert [record["n"] for record in records if record["thread"] == name] == list(range(50))


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_files_are_private_whatever_the_umask(directory: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with opened(directory) as journal:
            journal.rotate([])
            files = {path.stat().st_mode & 0o777 for path in directory.iterdir()}
    finally:
        os.umask(before)
    assert files == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (directory, *directory.parents[:2])} == {0o700}


# ---------------------------------------------------------------------------------------------- what is refused


def test_another_session_or_a_newer_version_is_refused_and_left_alone(directory: Path) -> None:
    with opened(directory) as journal:
        journal.append({"a": 1})
    with pytest.raises(JournalError, match="'first', not to 'second'"):
        Journal.open(directory, session="second", create=True)
    path = directory / "000001.journal"
    # printf '0 38 {"version":2,…' | gzip -c | tail -c 8 | od -A n -t x4
    newer = b'0 38 665cdf68 {"version":2,"nonce":"00112233445566778899aabbccddeeff"}\n'
    path.write_bytes(newer + b"whatever comes then")
    for create in (True, False):
        with pytest.raises(JournalError, match=r"newer lash_nb .* upgrade"):
            opened(directory, create=create)
    with pytest.raises(JournalError, match="upgrade"):
        list(read_records(directory))
    assert path.read_bytes() == newer + b"whatever comes then"


def test_no_link_and_nothing_but_a_file_is_opened(directory: Path, tmp_path: Path) -> None:
    with opened(directory) as journal:
        journal.append({"a": 1})
    path, elsewhere = directory / "000001.journal", tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    for use in (lambda: opened(directory), lambda: list(read_records(directory))):
        with pytest.raises(JournalError, match="symbolic link"):
            use()
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(JournalError, match="no regular file"):
        opened(directory)
    path.unlink()
    (directory / "lock").unlink()
    (directory / "lock").symlink_to(elsewhere)
    with pytest.raises(JournalError, match="symbolic link"):
        opened(directory)
    assert elsewhere.read_bytes().endswith(b'{"a":1}\n')


def test_damage_is_refused_and_nothing_is_changed(directory: Path) -> None:
    with opened(directory) as journal:
        for n in range(5):
            journal.append({"n": n})
    path = directory / "000001.journal"
    damaged = path.read_bytes().replace(b'{"n":1}', b'{"n":7}')
    path.write_bytes(damaged)
    (directory / "000002.journal.new").write_bytes(b"left")
    place = damaged.index(b"\n2 ") + 1
    with pytest.raises(CorruptJournalError) as caught:
        opened(directory)
    assert f"{path} is damaged at byte {place} " in str(caught.value)
    assert "1 records before it are whole, 3 after it" in str(caught.value)
    assert "`lash-nb sessions repair first`" in str(caught.value)
    assert path.read_bytes() == damaged
    assert sorted(os.listdir(directory)) == ["000001.journal", "000002.journal.new", "lock"]


def test_a_torn_tail_is_cut_off_and_said(directory: Path) -> None:
    with opened(directory) as journal:
        journal.append_many([{"n": n} for n in range(3)])
    path = directory / "000001.journal"
    whole = path.read_bytes()
    path.write_bytes(whole + b"4 7 0000")
    records, notes = reopened(directory)
    assert records == [{"n": 0}, {"n": 1}, {"n": 2}]
    (note,) = notes
    assert f"its last 8 bytes, from byte {len(whole)} on" in note
    assert "3 records are whole" in note
    assert path.read_bytes() == whole
    assert reopened(directory) == (records, ())


@pytest.mark.parametrize("held", [b"", b"\0" * 100, b'0 38 665cdf68 {"version'])
def test_an_empty_file_is_begun_again_unless_there_is_a_past(directory: Path, held: bytes) -> None:
    directory.mkdir(parents=True)
    (directory / "000001.journal").write_bytes(held)
    with opened(directory, create=False) as journal:
        assert journal.records == []
        assert len(journal.notes) == 1
        journal.append({"a": 1})
        journal.rotate([])
    (directory / "000002.journal").write_bytes(held)
    with pytest.raises(CorruptJournalError):
        opened(directory)
    (directory / "000002.journal").unlink()
    with pytest.raises(CorruptJournalError, match="missing"):
        opened(directory)


def test_a_copy_is_told_from_the_original(directory: Path, tmp_path: Path) -> None:
    with opened(directory) as journal:
        journal.append({"a": 1})
    shutil.copytree(directory, tmp_path / "copy")
    directory.rename(tmp_path / "moved")
    with opened(tmp_path / "moved") as journal:
        assert (journal.copied, journal.notes) == (False, ())
    for _ in range(2):
        with opened(tmp_path / "copy") as journal:
            assert (journal.records, journal.copied, len(journal.notes)) == ([{"a": 1}], True, 1)
    with opened(tmp_path / "copy") as journal:
        journal.rotate([{"a": 1}])
        assert journal.copied is False
    with opened(tmp_path / "copy") as journal:
        assert (journal.copied, journal.notes) == (False, ())
