"""What the tests of the journal do alike: open it, and let other processes do things."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lash_nb.stores.journal import Journal

__all__ = ["NAME", "fork", "opened", "reopened", "uses", "wait"]

NAME = "first"


def opened(directory: Path, *, create: bool = True) -> Journal:
    return Journal.open(directory, session=NAME, create=create)


def uses(journal: Journal) -> list[Callable[[], object]]:
    """Whatever writes."""
    return [
        lambda: journal.append({}),
        lambda: journal.append({}, durable=False),
        journal.sync,
        lambda: journal.rotate([]),
    ]


def reopened(directory: Path) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The records and the notes of a journal that is there."""
    with opened(directory, create=False) as journal:
        return journal.records, journal.notes


def fork(work: Callable[[], object]) -> int:
    """The id of a forked child that does it, and then ends with 0."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(50)
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return pid


def wait(pid: int) -> int:
    """How that child ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
