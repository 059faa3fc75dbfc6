"""Which earlier sessions a notebook has, and what is said of them; nothing is opened by that."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.earlier import EarlierSession, earlier_sessions

from .cut_journals import ANSWERS, cell_asked, cut, journal, left, recorded


def found(state_dir: Path, notebook: Path | None, **options: object) -> list[EarlierSession]:
    given = {"directory": state_dir.parent, **options}
    return earlier_sessions(state_dir, notebook=notebook, **given)  # type: ignore[arg-type]


def sentences(sessions: Sequence[EarlierSession]) -> list[str]:
    return [one.sentence for one in sessions]


def test_those_that_name_the_notebook_the_newest_first(tmp_path: Path) -> None:
    state, notebook = tmp_path / "state", tmp_path / "n.ipynb"
    ids = [recorded(state, *ANSWERS[:turns], notebook=notebook) for turns in (1, 2)]
    recorded(state, *ANSWERS[:1], notebook=tmp_path / "other.ipynb")
    recorded(state, *ANSWERS[:1])
    os.utime(journal(state, ids[1]), (1_000_000.0, 1_000_000.0))
    assert [(one.session, one.turns, one.interrupted) for one in found(state, notebook)] == [
        (ids[0], 1, False),
        (ids[1], 2, False),
    ]
    assert [one.session for one in found(state, notebook, most=1)] == [ids[0]]
    assert [one.session for one in found(state, notebook, but={ids[0]})] == [ids[1]]
    assert found(state, notebook, within_s=-1.0) == []
    assert found(tmp_path / "nowhere", notebook) == []


def test_what_is_said(tmp_path: Path) -> None:
    state, notebook = tmp_path / "state", tmp_path / "n.ipynb"
    of = "earlier session of this notebook"
    session = left(tmp_path, interrupted=False, turns=2)
    assert sentences(found(state, notebook)) == [f"{of}: 2 turns, `%lash resume` goes on with it"]
    path = journal(state, session)
    cut(path, behind=lambda record: record.get("k") == "turn", nth=2)
    shows = "`%lash resume` shows what is outstanding and asks"
    assert sentences(found(state, notebook)) == [f"{of}: 1 turn; turn 2 was interrupted: {shows}"]
    cut(path, behind=cell_asked)
    assert sentences(found(state, notebook)) == [f"{of}: turn 1 was interrupted: {shows}"]
    with path.open("ab") as file:
        file.write(b'1f 4000 0a0b0c0d {"k":"end","turn":1,"at":"2026')  # torn
    assert sentences(found(state, notebook)) == [f"{of}: turn 1 was interrupted: {shows}"]


def test_where_no_path_is_told_the_directory_has_to_do(tmp_path: Path) -> None:
    state = tmp_path / "state"
    here = recorded(state, *ANSWERS[:1], base_dir=tmp_path)
    recorded(state, *ANSWERS[:1], base_dir=tmp_path, notebook=tmp_path / "n.ipynb")
    recorded(state, *ANSWERS[:1], base_dir=state)
    assert [one.session for one in found(state, None)] == [here]
    assert sentences(found(state, None)) == ["earlier session: 1 turn, `%lash resume` goes on with it"]
    two_days_ago = time.time() - 48 * 3600
    os.utime(journal(state, here), (two_days_ago, two_days_ago))
    assert found(state, None) == []


def test_the_same_file_by_another_path(tmp_path: Path) -> None:
    notebook, link = tmp_path / "n.ipynb", tmp_path / "link.ipynb"
    notebook.write_text("{}")
    link.symlink_to(notebook)
    session = left(tmp_path)
    assert [one.session for one in found(tmp_path / "state", link)] == [session]


def test_a_notebook_that_was_renamed_since_the_session_was_taken_up(tmp_path: Path) -> None:
    state = tmp_path / "state"
    session = left(tmp_path, interrupted=False)
    with Session.resume(session, state_dir=state, kernel=ScriptedKernel(), notebook=tmp_path / "renamed.ipynb"):
        pass
    assert [one.session for one in found(state, tmp_path / "renamed.ipynb")] == [session]
    assert found(state, tmp_path / "n.ipynb") == []


def test_a_session_of_this_process_is_no_earlier_one(tmp_path: Path) -> None:
    with Session(
        ScriptedModel(["One."]), kernel=ScriptedKernel(), state_dir=tmp_path, notebook=tmp_path / "n.ipynb"
    ) as session:
        session.run_sync("Who?")
        assert found(tmp_path, tmp_path / "n.ipynb") == []
    assert [one.session for one in found(tmp_path, tmp_path / "n.ipynb")] == [session.id]


def test_what_cannot_be_read_is_passed_over(tmp_path: Path) -> None:
    state, notebook = tmp_path / "state", tmp_path / "n.ipynb"
    good = left(tmp_path)
    for name, data in {"empty": b"", "noise": b"\0\xff" * 500, "text": b"no record\n", "json": b"0 2 0 {}\n"}.items():
        (state / "sessions" / name).mkdir()
        (state / "sessions" / name / "000001.journal").write_bytes(data)
    (state / "sessions" / "link").mkdir()
    (state / "sessions" / "link" / "000001.journal").symlink_to(journal(state, good))
    (state / "sessions" / "file").write_text("")
    assert [one.session for one in found(state, notebook)] == [good]


@pytest.mark.parametrize(
    ("record", "turns"), [({"k": "end", "turn": 7}, 7), ({"k": "said", "n": 1}, 1)], ids=["of a turn", "of none"]
)
def test_of_a_long_journal_the_ends_are_looked_at(tmp_path: Path, record: dict[str, object], turns: int) -> None:
    """Also where the last record is longer than what is looked at first."""
    state, notebook = tmp_path / "state", tmp_path / "n.ipynb"
    session = recorded(state, *ANSWERS[:1], notebook=notebook)
    long = json.dumps({**record, "text": "word " * 600_000})
    with journal(state, session).open("a") as file:
        file.write(f"20 {len(long):x} 0a0b0c0d {long}\n")
    assert [(one.turns, one.interrupted) for one in found(state, notebook)] == [(turns, False)]
