"""Sessions whose process ends at a record of a test's choice, and sessions that go on with them.

A `Cut` journal keeps so many records and no more: whatever would be written then fails, so nothing that has to be
recorded first is begun. That is what a crash between two records leaves on the disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.errors import JournalError
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.execution import VariableSummary
from lash_nb.stores.journal import Journal, read_records, session_directory

from .conversations import cell, stdout

__all__ = ["CUT", "RECORDS", "TURN", "Cut", "Left", "another_kernel", "cut_after", "kinds", "nth", "records", "script"]

CUT = "the process has ended"


class Cut(Journal):
    """Takes `left` more records."""

    left: ClassVar[int] = 0

    def append_many(self, records: Iterable[Mapping[str, object]], *, durable: bool = True) -> None:
        new = tuple(records)
        if len(new) > Cut.left:
            raise JournalError(CUT)
        super().append_many(new, durable=durable)
        Cut.left -= len(new)


@contextmanager
def cut_after(count: int) -> Iterator[None]:
    """Sessions that are made meanwhile lose everything behind that many records."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Cut, "left", count)
        patch.setattr("lash_nb.recording.Journal", Cut)
        yield


def records(session: Session) -> list[dict[str, Any]]:
    """What is in a session's journal."""
    return list(read_records(session_directory(session.state_dir, session.id), everything=True))


def kinds(session: Session) -> list[str]:
    """Its records in short: `effect LlmCall`, `answer`, …"""
    return [" ".join(filter(None, (record["k"], record.get("kind", "")))) for record in records(session)]


TURN = [cell("x = 41", "First."), cell("x + 1"), "It is 42."]
RECORDS = (
    "session",
    "turn",
    *("effect SyncExecutionEnvironment", "answer", "effect LlmCall", "answer"),
    *("effect ExecCode", "kernel", "answer", "effect Checkpoint", "answer"),
    *("effect SyncExecutionEnvironment", "answer", "effect LlmCall", "answer"),
    *("effect ExecCode", "answer", "effect Checkpoint", "answer"),
    *("effect SyncExecutionEnvironment", "answer", "effect LlmCall", "answer"),
    *("effect Checkpoint", "answer", "end", "closed"),
)
"""What is recorded of a session of that turn, in order."""


def nth(kind: str, number: int) -> int:
    """How many records there are with the `number`th of that kind, from 1."""
    found = [at for at, record in enumerate(RECORDS, 1) if record == kind]
    return found[number - 1]


def script() -> dict[str, ScriptedCell]:
    return {
        "x = 41": ScriptedCell(binds=(VariableSummary(name="x", type="int", preview="41"),)),
        "x + 1": ScriptedCell(outputs=(stdout("42\n"),)),
    }


async def another_kernel() -> ScriptedKernel:
    """One of another life than any that a session began."""
    kernel = ScriptedKernel(script())
    await kernel.start()
    await kernel.restart()
    return kernel


class Left:
    """A session of a process that ended after so many records of a turn; its kernel lives on."""

    def __init__(self, state_dir: Path, *, turns: dict[int, list[Any]] | None = None) -> None:
        self.state_dir = state_dir
        self.replies = turns or {1: TURN, 2: ["And on."]}
        self.kernel = ScriptedKernel(script())
        self.model = ScriptedModel(self.replies)
        self.failed = ""

    async def after(self, count: int, *, asked: str = "Six times seven?", **options: Any) -> Left:
        with cut_after(count):
            async with Session(
                self.model, kernel=self.kernel, state_dir=self.state_dir, session_id="one", **options
            ) as session:
                try:
                    await session.run(asked)
                except JournalError as error:
                    self.failed = str(error)
        return self

    def resumed(self, *, kernel: ScriptedKernel | None = None, **options: Any) -> Session:
        self.model = ScriptedModel(self.replies)
        options = {"state_dir": self.state_dir, "model": self.model, **options}
        return Session.resume("one", kernel=kernel or self.kernel, **options)

    @property
    def ran(self) -> list[str]:
        return [code for _, code in self.kernel.ran]
