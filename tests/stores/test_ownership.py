"""One writer a journal: with the system's lock and without, between processes, after crashes, and never two."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lash_nb.errors import JournalError, JournalInUseError
from lash_nb.stores import ownership
from lash_nb.stores.ownership import Ownership, holder, take
from lash_nb.stores.processes import this_process
from tests.stores.journals import fork, wait

flock = ownership._flock


def no_flock(fd: int, operation: int) -> None:
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.fixture(params=[flock, no_flock], ids=["flock", "no flock"])
def _either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "_flock", request.param)


@pytest.fixture
def _no_flock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ownership, "_flock", no_flock)


def taken(directory: Path) -> Ownership:
    return take(directory, session="first", owner={"notebook": "a.ipynb"})


def owners(directory: Path) -> list[str]:
    """The files that say who holds it."""
    return sorted(name for name in os.listdir(directory) if name.startswith("owner"))


def dying(directory: Path) -> int:
    """The id of a process that took it and was killed, and is not there any more."""

    def work() -> None:
        _kept.append(taken(directory))
        os.kill(os.getpid(), signal.SIGKILL)

    pid = fork(work)
    assert wait(pid) == -signal.SIGKILL
    return pid


_kept: list[Ownership] = []


# --------------------------------------------------------------------------------------------------- one writer


@pytest.mark.usefixtures("_either")
def test_what_is_given_back_can_be_taken(tmp_path: Path) -> None:
    for _ in range(3):
        assert holder(tmp_path) is None
        ours = taken(tmp_path)
        ours.check()
        owner = holder(tmp_path)
        assert owner is not None
        assert (owner["pid"], owner["host"], owner["notebook"]) == (os.getpid(), os.uname().nodename, "a.ipynb")
        ours.release()
        ours.release()
        assert owners(tmp_path) == []
        with pytest.raises(JournalError, match="given back"):
            ours.check()


@pytest.mark.usefixtures("_either")
def test_a_process_takes_it_once(tmp_path: Path) -> None:
    ours = taken(tmp_path)
    since = ours.owner["since"]
    expected = f"session 'first' is in use by process {os.getpid()} on {os.uname().nodename} since {since} (a.ipynb)"
    for _ in range(2):
        with pytest.raises(JournalInUseError) as caught:
            taken(tmp_path)
        assert expected in str(caught.value)
        assert caught.value.owner["pid"] == os.getpid()
    ours.release()
    taken(tmp_path).release()


@pytest.mark.usefixtures("_either")
def test_another_process_is_refused_while_it_lives(tmp_path: Path) -> None:
    ready, go = os.pipe(), os.pipe()

    def work() -> None:
        ours = taken(tmp_path)
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        ours.release()

    pid = fork(work)
    os.read(ready[0], 1)
    with pytest.raises(JournalInUseError, match=f"process {pid} on"):
        taken(tmp_path)
    owner = holder(tmp_path)
    assert owner is not None
    assert owner["pid"] == pid
    os.write(go[1], b"x")
    assert wait(pid) == 0
    assert holder(tmp_path) is None
    taken(tmp_path).release()
    for fd in (*ready, *go):
        os.close(fd)


@pytest.mark.usefixtures("_either")
def test_a_dead_owner_is_succeeded(tmp_path: Path) -> None:
    for _ in range(3):
        dying(tmp_path)
        assert holder(tmp_path) is None
    ours = taken(tmp_path)
    owner = holder(tmp_path)
    assert owner is not None
    assert owner["pid"] == os.getpid()
    ours.release()
    assert owners(tmp_path) == []


@pytest.mark.usefixtures("_either")
def test_what_was_let_fall_is_given_back(tmp_path: Path) -> None:
    ours = taken(tmp_path)
    del ours
    taken(tmp_path).release()


@pytest.mark.usefixtures("_either")
def test_a_forked_child_neither_keeps_it_nor_gives_it_back(tmp_path: Path) -> None:
    ready, go = os.pipe(), os.pipe()
    ours = taken(tmp_path)

    def work() -> None:
        ours.release()
        with pytest.raises(JournalInUseError):
            taken(tmp_path)
        os.write(ready[1], b"x")
        os.read(go[0], 1)

    pid = fork(work)
    assert os.read(ready[0], 1) == b"x"
    ours.check()
    ours.release()
    taken(tmp_path).release()
    os.write(go[1], b"x")
    assert wait(pid) == 0
    for fd in (*ready, *go):
        os.close(fd)


@pytest.mark.usefixtures("_either")
def test_whoever_was_robbed_notices(tmp_path: Path) -> None:
    ours = taken(tmp_path)
    for path in tmp_path.iterdir():
        path.unlink()
    with pytest.raises(JournalError, match="removed or replaced"):
        ours.check()
    other = taken(tmp_path)
    with pytest.raises(JournalError, match="removed or replaced"):
        ours.check()
    ours.release()
    other.check()
    with pytest.raises(JournalInUseError):
        taken(tmp_path)
    other.release()


@pytest.mark.usefixtures("_either")
def test_files_are_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ours = taken(tmp_path)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir() if path.stat().st_size} == {0o600}
    ours.release()


# -------------------------------------------------------------------------------------------------------- races


def _race(directory: Path, rounds: int, lock: Callable[[int, int], None], crashes: bool) -> None:
    """Take it again and again; whoever has it leaves a mark, and finds none."""
    setattr(ownership, "_flock", lock)  # noqa: B010
    chance = random.Random(os.getpid())
    won = 0
    while won < rounds:
        try:
            ours = taken(directory)
        except JournalInUseError:
            holder(directory)  # looking must not get into anybody's way
            continue
        os.close(os.open(directory / "mark", os.O_CREAT | os.O_EXCL))
        won += 1
        time.sleep(chance.random() * 0.001)
        ours.check()
        os.unlink(directory / "mark")
        if crashes and chance.random() < 0.2:
            os._exit(77)
        ours.release()


@pytest.mark.parametrize("lock", [flock, no_flock], ids=["flock", "no flock"])
def test_of_many_that_want_it_one_has_it(tmp_path: Path, lock: Callable[[int, int], None]) -> None:
    children = [fork(lambda: _race(tmp_path, 60, lock, False)) for _ in range(4)]
    assert [wait(pid) for pid in children] == [0, 0, 0, 0]
    assert holder(tmp_path) is None
    assert owners(tmp_path) == []


@pytest.mark.parametrize("lock", [flock, no_flock], ids=["flock", "no flock"])
def test_of_many_that_find_a_dead_one_one_succeeds(tmp_path: Path, lock: Callable[[int, int], None]) -> None:
    for _ in range(12):
        children = [fork(lambda: _race(tmp_path, 5, lock, True)) for _ in range(3)]
        assert {wait(pid) for pid in children} <= {0, 77}


def test_a_lock_that_was_removed_before_it_was_taken_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    removed: list[Path] = []

    def late(fd: int, operation: int) -> None:
        if not removed:
            removed.append(tmp_path / "lock")
            removed[0].unlink()
        flock(fd, operation)

    monkeypatch.setattr(ownership, "_flock", late)
    ours = taken(tmp_path)
    ours.check()
    with pytest.raises(JournalInUseError):
        taken(tmp_path)
    ours.release()


@pytest.mark.usefixtures("_no_flock")
def test_a_chain_is_given_back_from_its_head_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else somebody could succeed the dead one at its head while another begins a chain."""
    for _ in range(2):
        dying(tmp_path)
    ours = taken(tmp_path)
    left: list[list[str]] = []
    unlink = os.unlink

    def seen(path: Path) -> None:
        unlink(path)
        left.append(owners(tmp_path))

    monkeypatch.setattr(os, "unlink", seen)
    ours.release()
    assert ["owner" in names for names in left] == [False, False, False]
    assert left[-1] == []


# ------------------------------------------------------------------------------------- what is written there


def written(**changes: Any) -> dict[str, Any]:
    """A process as it describes itself, but for the changes."""
    return {**this_process({}), **changes}


GONE = [
    pytest.param({"started": 1}, id="another process has its id"),
    pytest.param({"boot": "2f0f3c4e-0000-0000-0000-000000000000"}, id="before the last boot"),
]
UNKNOWN = [
    pytest.param({"host": "elsewhere", "boot": "2f0f3c4e-0000-0000-0000-000000000000"}, id="another machine"),
    pytest.param({"machine": "00", "boot": "2f0f3c4e-0000-0000-0000-000000000000"}, id="another of that name"),
    pytest.param({"space": 1, "started": 1}, id="another container"),
    pytest.param({"boot": ""}, id="of no boot"),
    pytest.param({"pid": "x"}, id="no process id"),
]


@pytest.mark.parametrize("changes", [*GONE, *UNKNOWN])
def test_whoever_has_the_lock_has_it_whatever_is_written(tmp_path: Path, changes: dict[str, Any]) -> None:
    for text in (json.dumps(written(**changes)), json.dumps(written()), "{", "[]", "\0" * 50):
        (tmp_path / "lock").write_text(text)
        taken(tmp_path).release()
        assert (tmp_path / "lock").read_bytes() == b""


@pytest.mark.parametrize("changes", [*GONE, *UNKNOWN])
def test_looking_tells_who_has_the_lock(
    tmp_path: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ownership, "_PATIENCE_S", 0.05)
    (tmp_path / "lock").write_text(json.dumps(written(**changes)))
    assert holder(tmp_path) is None
    ours = taken(tmp_path)
    (tmp_path / "lock").write_text(json.dumps(written(space=1, notebook="b.ipynb")))
    owner = holder(tmp_path)
    assert owner is not None
    assert owner["notebook"] == "b.ipynb"
    with pytest.raises(JournalInUseError, match=r"b\.ipynb"):
        taken(tmp_path)
    ours.release()


@pytest.mark.usefixtures("_no_flock")
@pytest.mark.parametrize("changes", GONE)
def test_without_a_lock_whoever_is_gone_is_succeeded(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "owner").write_text(json.dumps(written(**changes, nonce="0123456789abcdef")))
    assert holder(tmp_path) is None
    ours = taken(tmp_path)
    assert owners(tmp_path) == ["owner", "owner.0123456789abcdef"]
    ours.release()
    assert owners(tmp_path) == []


@pytest.mark.usefixtures("_no_flock")
@pytest.mark.parametrize("changes", UNKNOWN)
def test_without_a_lock_whoever_may_live_is_not_succeeded(tmp_path: Path, changes: dict[str, Any]) -> None:
    (tmp_path / "owner").write_text(json.dumps(written(**changes)))
    assert holder(tmp_path) is not None
    with pytest.raises(JournalInUseError, match=f"if not, delete {tmp_path / 'owner'}"):
        taken(tmp_path)
    (tmp_path / "owner").unlink()
    taken(tmp_path).release()


@pytest.mark.usefixtures("_no_flock")
@pytest.mark.parametrize("text", ["", "{", "[]", '{"nonce":"../../x"}'])
def test_what_cannot_be_read_may_be_somebody(tmp_path: Path, text: str) -> None:
    (tmp_path / "owner").write_text(text)
    with pytest.raises(JournalInUseError, match="does not say who"):
        taken(tmp_path)
    assert owners(tmp_path) == ["owner"]


@pytest.mark.usefixtures("_no_flock")
def test_what_leads_nowhere_is_swept(tmp_path: Path) -> None:
    (tmp_path / "owner.0123456789abcdef").write_text(json.dumps(written()))
    ours = taken(tmp_path)
    assert owners(tmp_path) == ["owner"]
    ours.release()


def test_both_ways_know_of_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when two machines see one file system, of which only one knows the lock there."""
    for first, second in ((flock, no_flock), (no_flock, flock)):
        monkeypatch.setattr(ownership, "_flock", first)
        ours = taken(tmp_path)
        monkeypatch.setattr(ownership, "_flock", second)
        with pytest.raises(JournalInUseError):
            taken(tmp_path)
        monkeypatch.setattr(ownership, "_flock", first)
        ours.check()
        ours.release()
        assert owners(tmp_path) == []
