"""How a session is recorded: where the disk lets it down, whatever the clock says, and without secrets."""

from __future__ import annotations

import resource
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.errors import CorruptJournalError, JournalError
from lash_nb.following import read_session
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.execution import ErrorOutput, VariableSummary
from lash_nb.machine.state import TurnCheckpoint
from lash_nb.machine.tool_calls import PendingToolCall
from lash_nb.recorded import SessionFold, protocol_of
from lash_nb.recording import SessionRecorder
from lash_nb.stores.journal import read_records

from .conversations import cell, stdout
from .left_sessions import CUT, RECORDS, TURN, Cut, Left, cut_after, kinds, nth, script
from .stores.journals import fork, wait

# -- disks that are full, gone, or no place for a session --------------------------------------------------------------


@pytest.mark.parametrize("place", ["a file", "/proc/lash_nb"], ids=["a file", "read-only"])
async def test_where_nothing_can_be_recorded_nothing_happens(place: str, tmp_path: Path) -> None:
    (tmp_path / "a file").write_text("not a directory")
    model, kernel = ScriptedModel(TURN), ScriptedKernel(script())
    async with Session(model, kernel=kernel, state_dir=tmp_path / place) as session:
        with pytest.raises(JournalError, match="cannot be made"):
            await session.run("?")
        with pytest.raises(JournalError, match="cannot be made"):
            session.say("?")
    assert (model.requests, kernel.ran, session.turns) == ([], [], [])


async def test_a_journal_that_is_removed_in_mid_turn_ends_the_turn_before_the_next_effect(tmp_path: Path) -> None:
    kernel = ScriptedKernel(script())

    def remove(request: Any) -> str:
        shutil.rmtree(tmp_path / "sessions")
        return TURN[0]

    async with Session(ScriptedModel([remove]), kernel=kernel, state_dir=tmp_path) as session:
        with pytest.raises(JournalError, match="removed or replaced"):
            await session.run("?")
        assert [turn.status for turn in session.turns] == ["failed"]
        assert "removed or replaced" in session.turns[0].text
        with pytest.raises(JournalError):
            await session.run("Again?")
    assert kernel.ran == []


@contextmanager
def room_for(count: int, directory: Path) -> Iterator[None]:
    """No file of this process grows meanwhile by more than so many bytes above the largest in `directory`."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    largest = max((path.stat().st_size for path in directory.rglob("*.journal")), default=0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest + count, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [10, 400, 2_000, 6_000, 7_000, 8_000, 10_000, 12_000, 14_000, 16_000])
async def test_a_full_disk_ends_a_turn_in_order_and_leaves_no_hole(room: int, tmp_path: Path) -> None:
    """Wherever it is full: what follows is recorded when there is room, and is read as it was."""
    kernel = ScriptedKernel(script())
    model = ScriptedModel({number: TURN for number in (1, 2, 3)})
    async with Session(model, kernel=kernel, state_dir=tmp_path, session_id="one") as session:
        await session.run("First?")
        with room_for(room, tmp_path), pytest.raises(JournalError, match="ulimit -f"):
            await session.run("Full?")
        # Where not even its first record found room, it was never begun.
        assert [turn.status for turn in session.turns] == (["done"] if room == 10 else ["done", "failed"])
        number = len(session.turns) + 1
        model = ScriptedModel({number: TURN})
        await session.set_model(model)
        assert (await session.run("Room again?")).text == "It is 42."
        told = [(turn.number, turn.request, turn.status, turn.text) for turn in session.turns]
    async with Session.resume("one", model=model, kernel=kernel, state_dir=tmp_path) as session:
        assert not session.interrupted
        assert [(turn.number, turn.request, turn.status, turn.text) for turn in session.turns] == told


@pytest.mark.parametrize("again", ["the same", "another"])
@pytest.mark.parametrize("room", range(0, 700, 100))
def test_a_session_that_could_not_be_begun_can_be_begun_later(room: int, again: str, tmp_path: Path) -> None:
    recorder = SessionRecorder(tmp_path, "one", label="1", facts=lambda: {"directory": "x" * 500})
    with room_for(room, tmp_path), pytest.raises(JournalError):
        recorder.open()
    if again == "another":
        recorder = SessionRecorder(tmp_path, "one", label="1")
    recorder.said("Go on.")
    recorder.close()
    assert [record["k"] for record in read_records(recorder.directory)] == ["session", "said", "closed"]


async def failed_at(count: int, state_dir: Path, *, room: int) -> Session:
    """A session whose first turn could not be recorded behind so many records; then there is room, and it is closed."""
    with cut_after(count):
        async with Session(
            ScriptedModel({1: TURN}), kernel=ScriptedKernel(script()), state_dir=state_dir, session_id="one"
        ) as session:
            with pytest.raises(JournalError, match=CUT):
                await session.run("?")
            Cut.left = room
    return session


async def test_what_could_not_be_written_is_when_the_session_is_closed(tmp_path: Path) -> None:
    before = nth("answer", 2)
    session = await failed_at(before, tmp_path, room=10)
    assert kinds(session)[before:] == ["effect ExecCode", "end", "closed"]
    assert [turn.status for turn in session.turns] == ["failed"]
    (turn,) = read_session(tmp_path, "one").turns
    assert turn.picture().errors == (CUT,)


async def test_what_was_shown_with_an_answer_that_could_not_be_written_is_in_the_record(tmp_path: Path) -> None:
    before = nth("answer", 3) - 1
    session = await failed_at(before, tmp_path, room=10)
    assert kinds(session)[before:] == ["end", "closed"]
    shown, kept = session.turns[0].picture, read_session(tmp_path, "one").turns[0].picture()
    for picture in (shown, kept):
        assert [(step.prose, step.code, step.outcome) for step in picture.steps] == [("First.\n", "x = 41", "ok")]


async def test_what_waits_goes_on_waiting_when_its_delivery_could_not_be_written(tmp_path: Path) -> None:
    sessions: list[Session] = []

    def speak(request: Any) -> str:
        sessions[0].say("In euros.")
        return TURN[0]

    model = ScriptedModel({1: [speak, *TURN[1:]]})
    with cut_after(nth("answer", 4)):  # with what is said one record more: the pause has no answer
        async with Session(model, kernel=ScriptedKernel(script()), state_dir=tmp_path, session_id="one") as session:
            sessions.append(session)
            with pytest.raises(JournalError, match=CUT):
                await session.run("?")
            assert session._recorder.waiting == ["In euros."]
            Cut.left = 10
    assert kinds(session)[-3:] == ["effect Checkpoint", "end", "closed"]
    assert read_session(tmp_path, "one").said == {1: "In euros."}


# -- the clock ---------------------------------------------------------------------------------------------------------


def backwards() -> Callable[[], str]:
    seconds: Iterator[int] = iter(range(59, 0, -1))
    return lambda: f"2026-01-01T00:00:{next(seconds):02}.000+00:00"


async def test_a_clock_that_goes_back_changes_the_times_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = backwards()
    monkeypatch.setattr("lash_nb.recording.now_text", now)
    monkeypatch.setattr("lash_nb.turn_recorder.now_text", now)
    left = await Left(tmp_path).after(nth("effect ExecCode", 2))
    async with left.resumed() as session:
        assert (await session.resume_turn()).text == "It is 42."
    assert left.ran == ["x = 41", "x + 1"]


# -- secrets -----------------------------------------------------------------------------------------------------------

SECRET = "correct-horse-battery"


def files_with(secret: str, directory: Path) -> list[str]:
    found = [path for path in directory.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]
    return [str(path.relative_to(directory)) for path in found]


async def test_no_secret_is_kept_in_a_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the request, what is said, a reply, a tool's arguments and result, outputs, a traceback, a variable."""
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    error = ErrorOutput(ename="KeyError", evalue=SECRET, traceback=(f"KeyError: '{SECRET}'",))
    asking = PendingToolCall(call_id="", tool_name="look", args={"at": SECRET})
    kernel = ScriptedKernel(
        {
            # As the model's code is kept, so it is run.
            "key = '[redacted]'": ScriptedCell(
                outputs=(stdout(f"{SECRET}\n"),),
                calls=(asking,),
                binds=(VariableSummary(name="key", type="str", preview=f"'{SECRET}'"),),
            ),
            "key[0]": ScriptedCell(outputs=(stdout("before\n"), error)),
        }
    )
    sessions: list[Session] = []

    def speak(request: Any) -> str:
        sessions[0].say(f"It is {SECRET}.")
        return cell(f"key = '{SECRET}'", f"I use {SECRET}.")

    model = ScriptedModel([speak, cell("key[0]"), f"It was {SECRET}."])
    async with Session(
        model, kernel=kernel, state_dir=tmp_path, tools={"look": lambda at: at}, instructions=f"Use {SECRET}."
    ) as session:
        sessions.append(session)
        turn = await session.run(f"What is {SECRET}?")
    assert turn.text == "It was [redacted]."
    assert "call" in kinds(session)
    assert files_with(SECRET, tmp_path) == []


async def test_no_secret_is_kept_of_a_long_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which is written aside by the kernel's process."""
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    code = "for n in range(30_000): print('correct-horse' + '-battery', n)"
    async with Session(ScriptedModel([cell(code), "Printed."]), state_dir=tmp_path) as session:
        await session.run("Print.")
    whole = [path.read_text() for path in (tmp_path / "blobs").rglob("*") if path.is_file()]
    assert any(text.startswith("[redacted] 0\n") and text.endswith("[redacted] 29999\n") for text in whole)
    assert files_with(SECRET, tmp_path) == []


def test_what_is_said_is_numbered_on_and_needs_no_loop(tmp_path: Path) -> None:
    recorder = SessionRecorder(tmp_path, "one", label="1")
    numbers: list[int] = []
    threads = [threading.Thread(target=lambda: numbers.append(recorder.said("Go on."))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6, 7, 8]
    again = SessionRecorder(tmp_path, "one", label="1")
    session, notes = again.take_up()
    assert (sorted(session.said), notes) == ([1, 2, 3, 4, 5, 6, 7, 8], ())
    assert again.said("And on.") == 9
    again.close()


def test_a_forked_child_is_refused_whatever_its_parent_was_about(tmp_path: Path) -> None:
    recorder = SessionRecorder(tmp_path, "one", label="1")
    recorder.open()
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with recorder._lock:
            held.set()
            free.wait(30)

    def refused() -> None:
        with pytest.raises(JournalError, match="forked child"):
            recorder.said("Go on.")
        recorder.close()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(30)
    child = fork(refused)
    free.set()
    thread.join()
    assert wait(child) == 0
    assert recorder.said("Go on.") == 1
    recorder.close()


async def test_what_is_written_by_a_session_that_is_closed_meanwhile_is_not_taken_for_granted(tmp_path: Path) -> None:
    recorder = SessionRecorder(tmp_path, "one", label="1")
    recorder.open()
    recorder.close()
    for refused in (recorder.synced(), recorder.write({"k": "of tomorrow"})):
        with pytest.raises(JournalError, match="was closed"):
            await refused
    with pytest.raises(JournalError, match="was closed"):
        recorder.compact()


@pytest.mark.parametrize("place", ["delta", "told"])
@pytest.mark.parametrize("bad", [1, 2, 5])
async def test_behind_a_record_that_is_no_json_the_next_difference_is_whole(
    bad: int, place: str, tmp_path: Path
) -> None:
    """Which of a turn's records it is, and where in it: the checkpoints behind it are read as they were."""
    await Left(tmp_path / "first").after(len(RECORDS))
    fold = SessionFold("one")
    checkpoints: list[tuple[int, TurnCheckpoint]] = []
    for record in read_records(tmp_path / "first" / "sessions" / "one"):
        fold.take(record)
        if record["k"] == "effect":
            assert fold.session.running is not None
            assert fold.session.running.checkpoint is not None
            checkpoints.append((record["id"], fold.session.running.checkpoint))
    protocol, asked = protocol_of("code"), fold.session.turns[0].asked
    recorder = SessionRecorder(tmp_path / "second", "one", label="1")
    recorder.begin(1, asked)
    for number, (effect, checkpoint) in enumerate(checkpoints):
        if (number, place) == (bad, "delta"):
            unusable: Any = object()
            with pytest.raises(AttributeError):
                recorder.delta(replace(checkpoint, cumulative_usage=unusable), protocol)
            continue
        record = {"k": "effect", "turn": 1, "id": effect, "delta": recorder.delta(checkpoint, protocol)}
        if number == bad:
            with pytest.raises(TypeError):
                await recorder.write({**record, "told": [object()]}, keep=True)  # type: ignore[list-item]
        else:
            await recorder.write(record, keep=True)
    recorder.close()
    running = read_session(tmp_path / "second", "one").running
    assert running is not None
    assert running.checkpoint is not None
    assert running.checkpoint.to_text(protocol) == checkpoints[-1][1].to_text(protocol)


def test_a_journal_that_cannot_be_understood_is_let_go_again(tmp_path: Path) -> None:
    recorder = SessionRecorder(tmp_path, "one", label="1")
    recorder.open()
    recorder.write_soon({"k": "end", "turn": 1})
    recorder.close()
    for _ in range(2):  # the second time is as the first: nobody holds it
        with pytest.raises(CorruptJournalError, match=r"record 2 \(end\)"):
            SessionRecorder(tmp_path, "one", label="1").take_up()
