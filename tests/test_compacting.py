"""When a journal is written anew in fewer records, and what a copy of one is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.compacting import compacted
from lash_nb.errors import JournalError
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.tool_calls import PendingToolCall, ToolCallOutput, ToolSucceeded
from lash_nb.recorded import RecordedKernel, SessionFold
from lash_nb.recording import SessionRecorder
from lash_nb.stores.journal import Journal, read_records, session_directory

from .conversations import cell
from .left_sessions import CUT, RECORDS, Left, another_kernel, nth

# -- compaction --------------------------------------------------------------------------------------------------------


def archives(state_dir: Path) -> list[Path]:
    """Segments that were written anew."""
    return list(state_dir.rglob("*.gz"))


def always_due(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lash_nb.recording.COMPACT_BYTES", 0)
    monkeypatch.setattr("lash_nb.recording.max", min, raising=False)


@pytest.mark.parametrize("before", [nth("answer", 2), nth("effect ExecCode", 1)])
async def test_a_turn_that_has_not_ended_on_the_disk_is_not_compacted(
    before: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    always_due(monkeypatch)
    left = await Left(tmp_path).after(before)
    assert left.failed == CUT
    assert not archives(tmp_path)
    async with left.resumed() as session:
        assert (await session.resume_turn()).text == "It is 42."
    assert len(left.model.requests) == 2  # the first answer was on record
    assert left.ran == ["x = 41", "x + 1"]
    assert archives(tmp_path)


async def test_nothing_is_compacted_while_a_turn_runs(tmp_path: Path) -> None:
    sessions: list[Session] = []

    def compact(request: Any) -> str:
        sessions[0]._recorder.compact()
        return "Done."

    async with Session(ScriptedModel([compact]), kernel=ScriptedKernel({}), state_dir=tmp_path) as session:
        sessions.append(session)
        assert (await session.run("?")).text == "Done."
        assert not archives(tmp_path)
        session._recorder.compact()
        assert archives(tmp_path)


# -- copies ------------------------------------------------------------------------------------------------------------


def taken_up(state_dir: Path) -> tuple[SessionRecorder, RecordedKernel, bool]:
    """The session there, its kernel, and whether it is said to be a copy."""
    recorder = SessionRecorder(state_dir, "one", label="1")
    session, notes = recorder.take_up()
    return recorder, session.kernels["python"], any("is a copy" in note for note in notes)


@pytest.mark.parametrize("records", [len(RECORDS), nth("kernel", 1)], ids=["ended", "in mid-turn"])
async def test_a_copy_has_the_kernels_that_were_recorded_in_it(records: int, tmp_path: Path) -> None:
    await Left(tmp_path / "original").after(records)
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    for told in (True, records != len(RECORDS)):  # in mid-turn it cannot be written anew, and is a copy still
        recorder, kernel, copy = taken_up(tmp_path / "copy")
        assert (kernel.epoch, kernel.file, kernel.copied) == ("scripted-1", None, True)
        assert copy == told
        recorder.close()
    recorder, _, _ = taken_up(tmp_path / "copy")
    await recorder.uses(await another_kernel())
    recorder.close()
    for _ in range(2):
        recorder, kernel, _ = taken_up(tmp_path / "copy")
        assert (kernel.epoch, kernel.copied) == ("scripted-2", False)
        recorder.close()
    shutil.copytree(tmp_path / "copy", tmp_path / "another")
    for place, epoch, copied in (("another", "scripted-2", True), ("original", "scripted-1", False)):
        recorder, kernel, _ = taken_up(tmp_path / place)
        assert (kernel.epoch, kernel.copied) == (epoch, copied)
        recorder.close()


async def test_a_copy_in_mid_turn_is_written_anew_when_that_has_ended(tmp_path: Path) -> None:
    left = await Left(tmp_path / "original").after(nth("kernel", 1))
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    left.state_dir = tmp_path / "copy"
    async with left.resumed(kernel=await another_kernel()) as session:
        await session.resume_turn(raise_on_failure=False)
    recorder, kernel, copy = taken_up(tmp_path / "copy")
    recorder.close()
    assert (kernel.epoch, kernel.copied, copy) == ("scripted-2", False, False)


class NoNewSegment(Journal):
    """On a disk without room for one."""

    def rotate(self, records: Iterable[Mapping[str, object]]) -> None:
        raise JournalError("no room")


async def test_a_copy_that_cannot_be_written_anew_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await Left(tmp_path / "original").after(len(RECORDS))
    shutil.copytree(tmp_path / "original", tmp_path / "copy")
    with monkeypatch.context() as patch:
        patch.setattr("lash_nb.recording.Journal", NoNewSegment)
        recorder, kernel, copy = taken_up(tmp_path / "copy")
        recorder.said("Go on.")
        await recorder.settle()
        recorder.close()
    assert (kernel.copied, copy) == (True, True)
    assert [record.getMessage().count("no room") for record in caplog.records] == [1, 1]
    recorder, kernel, copy = taken_up(tmp_path / "copy")
    recorder.close()
    assert (kernel.copied, copy, recorder.waiting) == (True, True, ["Go on."])
    recorder, kernel, copy = taken_up(tmp_path / "copy")
    recorder.close()
    assert (kernel.copied, copy, recorder.waiting) == (True, False, ["Go on."])


async def test_records_that_were_read_do_not_stay_in_memory(tmp_path: Path) -> None:
    await Left(tmp_path).after(len(RECORDS))
    recorder, _, _ = taken_up(tmp_path)
    assert recorder._journal is not None
    assert recorder._journal.records == []
    recorder.close()


async def test_what_is_known_of_calls_stays_also_of_those_that_a_cell_made(tmp_path: Path) -> None:
    def pay(amount: int) -> int:
        return amount

    paying = tuple(PendingToolCall(call_id="", tool_name="pay", args={"amount": amount}) for amount in (5, 6))
    left = Left(tmp_path, turns={1: [cell("pay"), "Paid."]})
    left.kernel = ScriptedKernel({"pay": ScriptedCell(calls=paying)})
    await left.after(nth("kernel", 1) + 3, tools={"pay": pay})  # the second call has begun
    fold = SessionFold("one")
    for record in read_records(session_directory(tmp_path, "one"), everything=True):
        fold.take(record)
    again = SessionFold("one")
    for record in compacted(fold.session):
        again.take(json.loads(json.dumps(record)))
    assert again.session.running is not None
    assert again.session.running.calls == {"c1": ToolCallOutput(outcome=ToolSucceeded(payload=5)), "c2": None}
