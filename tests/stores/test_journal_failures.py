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
from lash_nb.stores.journal import session_directory
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
        with pytest.raises(JournalError, match="open the session again"):
            use()
    journal.close()
    records, notes = reopened(directory)
    assert (records[0], notes) == ({"a": 1}, ())
