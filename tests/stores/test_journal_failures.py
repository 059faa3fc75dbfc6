"""A journal whose file, disk or process fails while it is written: it is said, and what was recorded is there."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lash_nb.errors import JournalError, JournalInUseError
from lash_nb.stores.journal import read_records, session_directory
from tests.stores.journals import NAME, fork, opened, reopened, uses, wait


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return session_directory(tmp_path / "state", NAME)


# -------------------------------------------------------------------------------------------- while it is written


def _delete(path: Path) -> None:
    path.unlink()


def _replace(path: Path) -> None:
    shutil.copy(path, path.with_name("x"))
    os.replace(path.with_name("x"), path)


def _delete_all(path: Path) -> None:
    shutil.rmtree(path.parent)


def _truncate(path: Path) -> None:
    os.truncate(path, 10)


def _write(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"x")


@pytest.mark.parametrize("change", [_delete, _replace, _delete_all, _truncate, _write])
def test_what_is_done_to_the_file_meanwhile_is_noticed(directory: Path, change: Callable[[Path], None]) -> None:
    journal = opened(directory)
    journal.append({"a": 1})
    change(directory / "000001.journal")
    for use in uses(journal):
        with pytest.raises(JournalError, match=r"deleted|removed|changed"):
            use()
    journal.close()


def test_a_forked_child_neither_writes_nor_keeps_it(directory: Path) -> None:
    journal = opened(directory)
    journal.append({"a": 1})
    ready, go = os.pipe(), os.pipe()

    def child() -> None:
        for use in uses(journal):
            with pytest.raises(JournalError, match="forked"):
                use()
        journal.close()
        with pytest.raises(JournalInUseError):
            opened(directory)
        os.write(ready[1], b"x")
        os.read(go[0], 1)

    pid = fork(child)
    assert os.read(ready[0], 1) == b"x"
    journal.append({"c": 1})
    journal.close()
    assert reopened(directory) == ([{"a": 1}, {"c": 1}], ())
    os.write(go[1], b"x")
    assert wait(pid) == 0
    for fd in (*ready, *go):
        os.close(fd)


# --------------------------------------------------------------------------------------------- a disk that fails


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """No file may grow beyond it: writes fail with EFBIG, the last one that fits in part is short."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_record_that_does_not_fit_is_not_there_and_a_later_one_is(directory: Path) -> None:
    with opened(directory) as journal:
        journal.append({"a": 1})
        with file_limit(journal.size + 100):
            for _ in range(2):
                with pytest.raises(JournalError, match=r"File too large.*ulimit"):
                    journal.append({"text": "x" * 1000})
                assert (directory / "000001.journal").stat().st_size == journal.size
            with pytest.raises(JournalError, match="begun"):
                journal.rotate([{"text": "x" * 1000}])
            journal.append({"b": 1})
        journal.append({"c": 1})
    assert sorted(os.listdir(directory)) == ["000001.journal", "lock"]
    assert reopened(directory) == ([{"a": 1}, {"b": 1}, {"c": 1}], ())


def test_a_segment_that_cannot_be_put_away_is_kept_as_it_is(directory: Path) -> None:
    with opened(directory) as journal:
        journal.append({"text": os.urandom(5000).hex()})
        with file_limit(1000):
            journal.rotate([{"a": 1}])
        (note,) = journal.notes
        assert "000001.journal could not be compressed (File too large)" in note
        journal.append({"b": 1})
        assert len(list(read_records(directory, everything=True))) == 2
    assert sorted(os.listdir(directory)) == ["000001.journal", "000002.journal", "lock"]
    assert reopened(directory) == ([{"a": 1}, {"b": 1}], ())
    assert sorted(os.listdir(directory)) == ["000001.journal.gz", "000002.journal", "lock"]


FULL_DISK = """
import errno, os, sys
from pathlib import Path
from lash_nb.errors import JournalError
from lash_nb.stores.journal import Journal
disk = Path(sys.argv[1])
directory = disk / "sessions" / "first"
with Journal.open(directory, session="first", create=True) as journal:
    expected = [{"a": 1}]
    journal.append(expected[0])
    for _ in range(3):
        (disk / "ballast").write_bytes(b"x" * 16384)
        try:
            for n in range(1000):
                journal.append({"n": n, "text": "x" * 1000})
                expected.append({"n": n, "text": "x" * 1000})
        except JournalError as error:
            assert error.__cause__.errno == errno.ENOSPC, error
            assert "free some space" in str(error)
        else:
            raise AssertionError("there was room for everything")
        try:
            journal.rotate(expected)
        except JournalError as error:
            assert error.__cause__.errno == errno.ENOSPC, error
        else:
            raise AssertionError("there was room for everything")
        os.unlink(disk / "ballast")
        journal.append({"later": 1})
        expected.append({"later": 1})
assert sorted(os.listdir(directory)) == ["000001.journal", "lock"]
with Journal.open(directory, session="first", create=False) as journal:
    assert (journal.records, journal.notes) == (expected, ())
print("nothing was lost")
"""


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    """On a real one where one may be mounted; elsewhere the limit above has to do."""
    mounted = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec"]
    mount = f'mount -t tmpfs -o size=64k none "{tmp_path}"'
    allowed = shutil.which("unshare") and subprocess.run([*mounted, mount], capture_output=True, check=False)
    if allowed and allowed.returncode == 0:
        script = f'{mount}; exec "{sys.executable}" -c "$0" "{tmp_path}"'
        done = subprocess.run([*mounted, script, FULL_DISK], capture_output=True, text=True, check=False)
        assert (done.stdout, done.stderr) == ("nothing was lost\n", "")


def test_a_directory_that_may_not_be_written_is_a_clear_error(tmp_path: Path) -> None:
    os.chmod(tmp_path, 0o500)
    if os.getuid() == 0:
        os.chown(tmp_path, 65534, 65534)

    def work() -> None:
        os.chdir(tmp_path)  # what is above it is not for others to see
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        with pytest.raises(JournalError, match=r"Permission denied.*--state-dir"):
            opened(session_directory(Path("state"), NAME))

    try:
        assert wait(fork(work)) == 0
    finally:
        os.chmod(tmp_path, 0o700)


def test_nothing_is_written_after_a_sync_that_failed(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(directory)
    journal.append({"a": 1})
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", _fail)
        journal.append({"b": 1}, durable=False)
        with pytest.raises(JournalError, match="sync"):
            journal.append({"c": 1})
    for use in uses(journal):
        with pytest.raises(JournalError, match="open the session again"):
            use()
    journal.close()
    records, notes = reopened(directory)
    assert (records[0], notes) == ({"a": 1}, ())


def test_what_could_not_be_synced_at_the_end_is_said(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = opened(directory)
    journal.append({"a": 1}, durable=False)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fdatasync", _fail)
        with pytest.raises(JournalError, match="sync"):
            journal.close()
    journal.close()
    assert reopened(directory) == ([{"a": 1}], ())


def test_a_change_of_segments_that_stops_halfway_stops_the_journal(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The new segment has its name, but perhaps not after a power cut: neither may be written on."""
    journal = opened(directory)
    journal.append({"a": 1})
    with monkeypatch.context() as patched:
        patched.setattr("lash_nb.stores.durable.sync_directory", _fail)
        with pytest.raises(JournalError, match="begun"):
            journal.rotate([{"b": 1}])
    for use in uses(journal):
        with pytest.raises(JournalError, match="halfway"):
            use()
    journal.close()
    assert reopened(directory) == ([{"b": 1}], ())
    assert [record for record in read_records(directory, everything=True)] == [{"a": 1}]


def test_an_interrupted_append_leaves_no_part_of_a_record(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def interrupted(fd: int, data: bytes) -> int:
        write(fd, data[:5])
        raise KeyboardInterrupt

    def stuck(fd: int, size: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with opened(directory) as journal:
        for failing in ({"write": interrupted}, {"write": interrupted, "ftruncate": stuck}):
            with monkeypatch.context() as patched:
                for name, function in failing.items():
                    patched.setattr(os, name, function)
                with pytest.raises(KeyboardInterrupt):
                    journal.append({"a": 1})
            journal.append({"b": 1})
    assert reopened(directory) == ([{"b": 1}, {"b": 1}], ())


def _fail(*arguments: object) -> None:
    raise OSError(errno.EIO, "Input/output error")
