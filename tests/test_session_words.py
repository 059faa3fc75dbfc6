"""`lash-nb sessions`: what is listed and shown, and what is removed, repaired or left alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.cli import main
from lash_nb.kernels.guardian import lives
from lash_nb.removing import find_garbage, remove_garbage
from lash_nb.stores.blobs import BlobStore
from lash_nb.stores.frames import header_frame
from lash_nb.stores.journal import session_directory
from lash_nb.stores.retention import excess_archives
from lash_nb.stores.session_files import glance

from .kernels.hosts import wait_for
from .left_sessions import Left, nth

DAY_S = 24 * 3600


async def session(state_dir: Path, name: str, *requests: str, **options: Any) -> Path:
    """A session that had these turns and was closed; its directory."""
    model = ScriptedModel({number: [f"Answer {number}."] for number in range(1, len(requests) + 1)})
    async with Session(model, kernel=ScriptedKernel(), state_dir=state_dir, session_id=name, **options) as made:
        for request in requests:
            await made.run(request)
    return session_directory(state_dir, name)


def aged(directory: Path, *, days: float) -> None:
    """As if nobody had used it for so long."""
    then = time.time() - days * DAY_S
    for path in directory.iterdir():
        os.utime(path, (then, then))


def damage(directory: Path) -> None:
    """A byte in the midst of its journal is another one."""
    file = directory / "000001.journal"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def from_the_future(directory: Path) -> None:
    """A journal as a later version may write it."""
    directory.mkdir(parents=True)
    header = {"lash_nb": "journal", "version": 2, "session": directory.name, "nonce": "0" * 32, "compacted": 0}
    (directory / "000001.journal").write_bytes(header_frame(header))


class Words:
    """`lash-nb sessions` of one state directory."""

    def __init__(self, state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.state_dir = state_dir
        self._capsys = capsys

    def __call__(self, *words: str, code: int = 0) -> tuple[str, str]:
        assert main(["sessions", *words, "--state-dir", str(self.state_dir)]) == code
        printed, told = self._capsys.readouterr()
        return printed, told

    def json(self, *words: str, code: int = 0) -> Any:
        printed, _ = self(*words, "--json", code=code)
        assert printed.count("\n") == 1
        return json.loads(printed)

    def names(self) -> list[str]:
        return [known["session"] for known in self.json("list")["sessions"]]


@pytest.fixture
def words(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Words:
    return Words(tmp_path, capsys)


# -------------------------------------------------------------------------------------------------------------- list


async def test_the_list_is_newest_first_and_hides_nothing(words: Words) -> None:
    aged(await session(words.state_dir, "old", "Oldest\nquestion?"), days=3)
    aged(await session(words.state_dir, "broken", "First?", "Second?"), days=2)
    damage(session_directory(words.state_dir, "broken"))
    aged(session_directory(words.state_dir, "broken"), days=2)
    from_the_future(session_directory(words.state_dir, "newer"))
    aged(session_directory(words.state_dir, "newer"), days=1)
    await session(words.state_dir, "fresh", "First?", "Second?", notebook=words.state_dir / "n.ipynb")
    told = words.json("list")
    assert [known["session"] for known in told["sessions"]] == ["fresh", "newer", "broken", "old"]
    fresh, newer, broken, old = told["sessions"]
    assert (fresh["turns"], fresh["state"], fresh["request"]) == (2, "", "First?")
    assert fresh["notebook"] == str(words.state_dir / "n.ipynb")
    assert fresh["bytes"] == sum(p.stat().st_size for p in session_directory(words.state_dir, "fresh").iterdir())
    assert "upgrade lash_nb" in newer["problem"]
    assert broken["state"].startswith("damaged: ")
    assert "`lash-nb sessions repair broken`" in broken["problem"]
    assert (old["turns"], old["label"], old["interrupted"]) == (1, "1", None)
    printed, _ = words("list")
    assert [line.split()[0] for line in printed.splitlines() if not line.startswith(" ")] == [
        "fresh",
        "newer",
        "broken",
        "old",
    ]
    assert f"    {Path.cwd()}: Oldest question?" in printed.splitlines()


async def test_the_list_says_what_is_in_use_or_interrupted(words: Words) -> None:
    await Left(words.state_dir).after(nth("effect ExecCode", 2))
    async with Session(
        ScriptedModel(["One."]), kernel=ScriptedKernel(), state_dir=words.state_dir, session_id="mine"
    ) as mine:
        await mine.run("First?")
        states = {known["session"]: known["state"] for known in words.json("list")["sessions"]}
    assert states == {"one": "turn 1 interrupted", "mine": f"in use by {os.getpid()}"}


def test_no_sessions(words: Words) -> None:
    assert words("list") == ("", f"no sessions in {words.state_dir}\n")
    assert words.json("list")["sessions"] == []


async def test_a_torn_tail_is_no_damage(words: Words) -> None:
    directory = await session(words.state_dir, "torn", "First?")
    file = directory / "000001.journal"
    file.write_bytes(file.read_bytes()[:-5])
    seen = glance(directory)
    assert (seen.problem, seen.turns, seen.request) == ("", 1, "First?")


# -------------------------------------------------------------------------------------------------------------- show


async def test_show(words: Words) -> None:
    await session(words.state_dir, "abc1", "First?", "Second?", label="3")
    told = words.json("show", "abc")
    assert (told["session"], told["label"], told["models"]) == ("abc1", "3", ["scripted"])
    assert [(turn["turn"], turn["request"], turn["sentence"], turn["text"]) for turn in told["turns"]] == [
        (1, "First?", "done", "Answer 1."),
        (2, "Second?", "done", "Answer 2."),
    ]
    assert (told["outstanding"], told["undelivered"], told["in_use_by"]) == (None, [], None)
    assert {file["name"] for file in told["files"]} == {"000001.journal", "lock"}
    printed, _ = words("show", "abc1")
    assert "turn 2: Second?\n   [done]\n   Answer 2." in printed


async def test_show_of_an_interrupted_turn(words: Words) -> None:
    left = await Left(words.state_dir).after(nth("effect ExecCode", 2))
    async with left.resumed() as resumed:
        resumed.say("Be quick.")
    told = words.json("show", "one")
    assert [(turn["turn"], turn["status"]) for turn in told["turns"]] == [(1, "interrupted")]
    assert told["undelivered"] == ["Be quick."]
    assert "This cell was outstanding, and its kernel is gone." in told["outstanding"]
    assert "x + 1" in told["outstanding"]
    assert [(kernel["language"], kernel["living"]) for kernel in told["kernels"]] == [("python", False)]
    assert "said, not delivered yet: Be quick." in words("show", "one")[0]


def test_show_of_nothing(words: Words) -> None:
    assert words("show", "nobody", code=2)[1].startswith("lash-nb: there is no session 'nobody'")


# ---------------------------------------------------------------------------------------------------------------- rm


async def test_rm_takes_what_only_that_session_has(words: Words) -> None:
    store = BlobStore(words.state_dir / "blobs")
    own, shared, other = (store.put(data, media_type="text/plain").id for data in (b"own", b"shared", b"other"))
    await session(words.state_dir, "one", f"See {own} and {shared}.")
    await session(words.state_dir, "two", f"See {shared}.")
    told = words.json("rm", "one", "--yes")
    assert (told["sessions"], told["blobs"]) == (["one"], 1)
    assert words.names() == ["two"]
    there = {f"sha256:{path.name}" for path in (words.state_dir / "blobs").glob("??/??/*")}
    assert there == {shared, other}
    assert not list((words.state_dir / "sessions").glob(".*"))


async def test_rm_asks_and_without_a_terminal_refuses(words: Words, monkeypatch: pytest.MonkeyPatch) -> None:
    await session(words.state_dir, "one", "First?")
    assert "`lash-nb sessions rm one --yes` agrees" in words("rm", "one", code=2)[1]
    monkeypatch.setattr(sys, "stdin", Terminal("n"))
    assert "Nothing was removed." in words("rm", "one", code=5)[1]
    assert words.names() == ["one"]
    monkeypatch.setattr(sys, "stdin", Terminal("y"))
    printed, told = words("rm", "one")
    assert told.startswith("Remove 1 session (")
    assert printed.startswith("Removed session one (")
    assert words.names() == []


class Terminal:
    """Somebody at a terminal who types this."""

    def __init__(self, line: str) -> None:
        self._line = line

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return f"{self._line}\n"


async def test_rm_leaves_what_is_in_use(words: Words) -> None:
    await session(words.state_dir, "idle", "First?")
    async with Session(
        ScriptedModel(["One."]), kernel=ScriptedKernel(), state_dir=words.state_dir, session_id="mine"
    ) as mine:
        await mine.run("First?")
        _, told = words("rm", "idle", "mine", "--yes", code=2)
        assert f"session mine is in use by process {os.getpid()}" in told
        assert sorted(words.names()) == ["idle", "mine"]


async def test_rm_of_a_damaged_session_and_blobs_beside_one(words: Words) -> None:
    blob = BlobStore(words.state_dir / "blobs").put(b"own", media_type="text/plain").id
    await session(words.state_dir, "one", f"See {blob}.")
    damage(await session(words.state_dir, "two", "First?", "Second?"))
    told = words.json("rm", "one", "--yes")
    assert (told["sessions"], told["blobs"]) == (["one"], 0)
    assert "stored files are kept, because not every session can be read" in told["notes"][0]
    assert words.json("rm", "two", "--yes")["sessions"] == ["two"]
    assert words.names() == []


HOST = """
import sys
from lash_nb import ScriptedModel, Session
cell = "<lash-cell>\\nimport os; open('pid', 'w').write(str(os.getpid()))\\n</lash-cell>"
place = sys.argv[1]
session = Session(ScriptedModel([cell, "Done."]), state_dir=place, session_id="orphaned", base_dir=place)
session.run_sync("Go.")
print("ready", flush=True)
import time; time.sleep(100)
"""


def test_rm_ends_the_kernel_that_was_left(words: Words) -> None:
    host = subprocess.Popen(
        [sys.executable, "-c", HOST, str(words.state_dir)], stdout=subprocess.PIPE, text=True, cwd=words.state_dir
    )
    assert host.stdout is not None
    assert host.stdout.readline() == "ready\n"
    kernel = int((words.state_dir / "pid").read_text())
    assert f"in use by process {host.pid}" in words("rm", "orphaned", "--yes", code=2)[1]
    host.kill()
    host.wait()
    host.stdout.close()
    assert lives(kernel, None)
    assert words.json("show", "orphaned")["kernels"][0]["living"] is True
    told = words.json("rm", "orphaned", "--yes")
    assert told["notes"] == ["the python kernel that session orphaned had left was ended"]
    wait_for(lambda: not lives(kernel, None))


# ---------------------------------------------------------------------------------------------------------------- gc


async def test_gc_takes_what_nobody_has_used_for_long(words: Words) -> None:
    aged(await session(words.state_dir, "old", "First?"), days=91)
    aged(await session(words.state_dir, "younger", "First?"), days=89)
    await Left(words.state_dir).after(nth("effect ExecCode", 2))
    aged(session_directory(words.state_dir, "one"), days=200)
    damage(await session(words.state_dir, "broken", "First?", "Second?"))
    aged(session_directory(words.state_dir, "broken"), days=200)
    would = words.json("gc", "--dry-run")
    assert (would["sessions"], would["dry_run"]) == (["old"], True)
    assert sorted(words.names()) == ["broken", "old", "one", "younger"]
    assert "`lash-nb sessions gc --yes` agrees" in words("gc", code=2)[1]
    told = words.json("gc", "--yes")
    assert told["sessions"] == ["old"]
    assert any("session one is kept, because its turn 1 was interrupted" in note for note in told["notes"])
    assert any("session broken is kept, because it cannot be read" in note for note in told["notes"])
    assert words.json("gc", "--yes", "--interrupted", "--older-than", "10")["sessions"] == ["younger", "one"]
    assert words.names() == ["broken"]


async def test_gc_goes_by_the_newest_file_and_spares_what_is_in_use(words: Words) -> None:
    directory = await session(words.state_dir, "touched", "First?")
    aged(directory, days=200)
    os.utime(directory / "lock")
    async with Session(
        ScriptedModel(["One."]), kernel=ScriptedKernel(), state_dir=words.state_dir, session_id="mine"
    ) as mine:
        await mine.run("First?")
        aged(session_directory(words.state_dir, "mine"), days=200)
        assert words.json("gc", "--yes")["sessions"] == []
    assert words("gc", "--yes")[0] == "Removed nothing (0 bytes).\n"


async def test_gc_leaves_what_was_used_since_it_looked(words: Words) -> None:
    directory = await session(words.state_dir, "one", "First?")
    aged(directory, days=200)
    garbage = find_garbage(words.state_dir, older_than_days=90, interrupted=False)
    assert [seen.session for seen in garbage.sessions] == ["one"]
    os.utime(directory / "lock")
    assert remove_garbage(garbage, state_dir=words.state_dir).sessions == ()
    assert words.names() == ["one"]


async def test_gc_takes_old_blobs_that_nobody_refers_to(words: Words) -> None:
    store = BlobStore(words.state_dir / "blobs")
    named, unnamed, young = (store.put(data, media_type="text/plain").id for data in (b"named", b"unnamed", b"young"))
    await session(words.state_dir, "one", f"See {named}.")
    for leftover in ("incoming-a", "incoming-young"):
        (words.state_dir / "blobs" / leftover).write_bytes(b"x")
    spill = words.state_dir / "blobs" / "spill-abc"
    spill.mkdir()
    (spill / "1").write_bytes(b"x")
    old = time.time() - 2 * DAY_S
    blobs = {f"sha256:{path.name}": path for path in (words.state_dir / "blobs").glob("??/??/*")}
    for path in (blobs[named], blobs[unnamed], words.state_dir / "blobs/incoming-a", spill / "1", spill):
        os.utime(path, (old, old))
    assert words.json("gc", "--dry-run")["blobs"] == 1
    assert blobs[unnamed].exists()
    told = words.json("gc", "--yes")
    assert (told["blobs"], told["leftovers"]) == (1, 2)
    assert told["freed_bytes"] == len(b"unnamed") + 1 + 1
    assert [blobs[name].exists() for name in (named, unnamed, young)] == [True, False, True]
    assert not spill.exists()


@pytest.mark.parametrize("what", ["damaged", "newer", "archive"])
async def test_gc_keeps_every_blob_while_a_journal_cannot_be_read(words: Words, what: str) -> None:
    blob = BlobStore(words.state_dir / "blobs").put(b"unnamed", media_type="text/plain").id
    (path,) = (words.state_dir / "blobs").glob("??/??/*")
    assert path.name in blob
    os.utime(path, (time.time() - 2 * DAY_S,) * 2)
    directory = await session(words.state_dir, "one", "First?", "Second?")
    match what:
        case "damaged":
            damage(directory)
        case "newer":
            from_the_future(session_directory(words.state_dir, "later"))
        case "archive":
            (directory / "000000.journal.gz").write_bytes(b"no archive")
    told = words.json("gc", "--yes")
    assert told["blobs"] == 0
    assert "stored files are kept, because not every session can be read" in told["notes"][-1]
    assert path.exists()


def test_the_oldest_archives_go_first(tmp_path: Path) -> None:
    for number, size in ((1, 40), (2, 30), (3, 30)):
        (tmp_path / f"{number:06d}.journal.gz").write_bytes(b"x" * size)
    assert excess_archives(tmp_path, most_bytes=100) == []
    assert [path.name for path in excess_archives(tmp_path, most_bytes=99)] == ["000001.journal.gz"]
    assert [path.name for path in excess_archives(tmp_path, most_bytes=59)] == [
        "000001.journal.gz",
        "000002.journal.gz",
    ]


@pytest.mark.parametrize("days", ["x", "-1", "nan", "inf"])
def test_days_are_a_number(words: Words, days: str) -> None:
    assert "is no number of days" in words("gc", f"--older-than={days}", code=2)[1]


# ------------------------------------------------------------------------------------------------------------ repair


async def test_repair_keeps_what_is_before_the_damage(words: Words) -> None:
    directory = await session(words.state_dir, "one", "First?", "Second?")
    file = directory / "000001.journal"
    lines = file.read_bytes().split(b"\n")
    second = next(index for index, line in enumerate(lines) if b"Second?" in line)
    lines[second] = lines[second].replace(b"Second?", b"Secand?")
    file.write_bytes(b"\n".join(lines))
    assert words("show", "one", code=1)[1].startswith(f"lash-nb: {file} is damaged at byte")
    notes = words.json("repair", "one")["notes"]
    assert notes[0].startswith("000001.journal was damaged at byte")
    assert notes[0].endswith("it is kept as 000001.journal.damaged-1")
    assert [turn["request"] for turn in words.json("show", "one")["turns"]] == ["First?"]
    assert words("repair", "one")[0] == "session one is not damaged; nothing was done\n"


async def test_a_session_without_a_header_can_still_be_named(words: Words) -> None:
    directory = await session(words.state_dir, "a b", "First?")
    file = directory / "000001.journal"
    file.write_bytes(b"#" + file.read_bytes())
    assert words.names() == ["a b"]
    assert words.json("list")["sessions"][0]["state"].startswith("damaged: ")
    assert words("repair", "a b")[0]
