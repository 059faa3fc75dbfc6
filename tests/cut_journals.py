"""Sessions as a crash left them: they are run to their end, then their journals are cut behind a record."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.execution import StreamOutput, VariableSummary
from lash_nb.stores.segments import session_directory

from .notebook_shell import Notebook, notebook_shell

__all__ = ["CELL", "cell_asked", "cut", "journal", "left", "left_notebook", "recorded"]

CELL = "I look.\n<lash-cell>\nkept = 41\nprint(kept)\n</lash-cell>"

ANSWERS = [[CELL, "It is 41."], ["Two."], ["Three."]]
"""By turn."""

Record = dict[str, Any]


def cell_asked(record: Record) -> bool:
    """Whether it says that a cell is to be run."""
    return record.get("kind") == "ExecCode"


def recorded(state_dir: Path, *turns: Sequence[str], **options: Any) -> str:
    """The id of a session whose model answered each request with one of `turns`, and that was closed."""
    cell = ScriptedCell(
        outputs=(StreamOutput(name="stdout", head="41\n"),),
        binds=(VariableSummary(name="kept", type="int"),),
    )
    model = ScriptedModel(
        {number: list(replies) for number, replies in enumerate(turns, start=1)}, name="scripted:s.json"
    )
    with Session(model, kernel=ScriptedKernel(lambda code: cell), state_dir=state_dir, **options) as session:
        for number, _ in enumerate(turns, start=1):
            session.run_sync(f"Request {number}.")
    return session.id


def journal(state_dir: Path, session: str) -> Path:
    """The one file of that session's journal."""
    (found,) = session_directory(state_dir, session).glob("*.journal")
    return found


def cut(path: Path, *, behind: Callable[[Record], bool], nth: int = 1) -> list[bytes]:
    """Cut a journal behind the nth record of a kind; the lines that are gone."""
    lines = path.read_bytes().splitlines(keepends=True)
    for number, line in enumerate(lines):
        if behind(json.loads(line[line.index(b"{") :])):
            nth -= 1
            if not nth:
                path.write_bytes(b"".join(lines[: number + 1]))
                return lines[number + 1 :]
    raise AssertionError("there is no such record")


def left(place: Path, *, interrupted: bool = True, turns: int = 1) -> str:
    """A session of this notebook; the cell of its first turn may still have to run."""
    session = recorded(place / "state", *ANSWERS[:turns], notebook=place / "n.ipynb", base_dir=place)
    if interrupted:
        cut(journal(place / "state", session), behind=cell_asked)
    return session


@contextmanager
def left_notebook(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """A shell of the notebook `n.ipynb` in `place`, as it is told; `s.json` there is the script of what was left."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("LASH_NB_STATE_DIR", str(place / "state"))
    monkeypatch.setenv("JPY_SESSION_NAME", str(place / "n.ipynb"))
    turns = {str(number): answers for number, answers in enumerate(ANSWERS, start=1)}
    (place / "s.json").write_text(json.dumps({"turns": turns}))
    with notebook_shell() as made:
        yield made
