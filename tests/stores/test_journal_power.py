"""A journal whose machine loses power: a disk keeps what was not synced in any order, a page of it and not the next.

A story is what is done to a journal, its records told apart by their letters: `a50` appends one with so long a text,
`a50+b9` two in one write, a capital letter one that fails in its midst, `|` is a sync. What may be found afterwards is
made from the file as it was at each step since the last sync: each page as it was at one of them, cut at any size.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lash_nb.errors import CorruptJournalError, JournalError
from lash_nb.stores.frames import Scan, scan
from lash_nb.stores.journal import Journal, JournalFollower, read_records, repair, session_directory
from tests.stores.journals import NAME, opened, reopened

PAGE = 512


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return session_directory(tmp_path / "state", NAME)


def record(word: str) -> dict[str, Any]:
    return {"text": word[0] * int(word[1:])}


@dataclass
class Window:
    """What a file was like from a sync (the first of `states`) to the next one."""

    states: list[bytes]

    @property
    def longest(self) -> bytes:
        return max(self.states, key=len)

    def images(self) -> Iterator[bytes]:
        """All that a disk may hold."""
        states = list(dict.fromkeys(self.states))
        last = len(self.longest)
        pages = [
            list(dict.fromkeys(state[at : at + PAGE].ljust(PAGE, b"\0") for state in states))
            for at in range(0, last, PAGE)
        ]
        sizes = sorted({*map(len, states), *range(-(-len(self.states[0]) // PAGE) * PAGE, last, PAGE)})
        yield from {b"".join(held)[:size]: None for held in itertools.product(*pages) for size in sizes}


@dataclass
class Power:
    """Looks on while a story is told of a journal; `halves`: every write is cut in two."""

    path: Path
    halves: bool = False
    windows: list[Window] = field(default_factory=list)
    failing: bool = False
    halfway: bool = False

    def tell(self, journal: Journal, story: str, patch: pytest.MonkeyPatch) -> list[Window]:
        """The windows of that story."""
        self.windows = [Window([self.path.read_bytes()])]
        with patch.context() as patched:
            for name in ("write", "ftruncate", "fdatasync"):
                patched.setattr(os, name, self._watched(name, getattr(os, name)))
            for words in story.split():
                if words == "|":
                    journal.sync()
                elif words[0].isupper():
                    self.failing = True
                    with pytest.raises(JournalError, match="No space"):
                        journal.append_many(map(record, words.split("+")), durable=False)
                    self.failing = False
                else:
                    journal.append_many(map(record, words.split("+")), durable=False)
        return self.windows

    def _watched(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def watched(fd: int, *arguments: Any) -> Any:
            if name == "write" and self.failing and len(arguments[0]) < 20:
                raise OSError(errno.ENOSPC, "No space left on device")
            if name == "write" and self.failing:
                arguments = (bytes(arguments[0])[:-19],)
            elif name == "write" and self.halves and not self.halfway:
                arguments = (bytes(arguments[0])[: len(arguments[0]) // 2],)
            result = call(fd, *arguments)
            self.halfway = name == "write" and not self.halfway
            if name == "fdatasync":
                self.windows.append(Window([]))
            self.windows[-1].states.append(self.path.read_bytes())
            return result

        return watched


def _is_right(found: Scan, window: Window, image: bytes) -> None:
    """Exactly what is whole from the start, never less than was synced, never refused."""
    lines = window.longest.splitlines(keepends=True)
    ends = list(itertools.accumulate(map(len, lines)))
    whole = [image[end - len(line) : end] == line for line, end in zip(lines, ends, strict=True)]
    if not lines[-1].endswith(b"\n"):
        whole[-1] = False
    count = whole.index(False) if False in whole else len(whole)
    assert found.problem == ""
    assert count >= window.states[0].count(b"\n"), "what was synced is there"
    assert [line[line.index(b"{") :] for line in lines[1:count]] == [
        b'{"text":"%s"}\n' % each["text"].encode() for each in found.records
    ]
    assert (found.end, found.size) == (ends[count - 1], len(image))
    assert found.after == sum(whole[count:])


STORIES = [
    "a60 b60 c60 d60 e1",
    "a600 b20 c1200",
    "a40 b600 c600 d30 e300",
    "a900 | b300 c10+d700+e10 f400",
    "a1 | b500 | c900 d20 e20 f20",
    "a10 b1500 c5 | d5 e5 f1500 g30",
    "a100+b100+c900 d5",
    "a100 B300+C400 d300 e400",
    "a100 b700 C30 d2 | e1 F900 f900 g10",
    *(f"a{length} | b473 c474 d475 e1" for length in range(180, 240, 12)),
]


@pytest.mark.parametrize("halves", [False, True])
@pytest.mark.parametrize("story", STORIES)
def test_pages_may_be_kept_in_any_order(
    directory: Path, story: str, halves: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(directory) as journal:
        windows = Power(directory / "000001.journal", halves).tell(journal, story, monkeypatch)
    behind = 0
    for window in windows:
        assert all(window.longest.startswith(state) for state in window.states), "what failed is gone, on the disk too"
        for image in window.images():
            found = scan(image)
            _is_right(found, window, image)
            behind += found.after > 0
    assert behind, "the story has what this is about"


def test_what_is_found_is_gone_on_with_and_may_lose_its_power_again(
    directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(directory) as journal:
        (*_, window) = Power(directory / "000001.journal").tell(journal, "a90 | b300 c700 d20 e40", monkeypatch)
    images = list(window.images())
    cut = again = 0
    for number, image in enumerate(random.Random(1).sample(images, 40)):
        place = session_directory(tmp_path / str(number), NAME)
        path = place / "000001.journal"
        place.mkdir(parents=True)
        path.write_bytes(image)
        found = scan(image)
        with opened(place) as journal:
            assert journal.records == found.records
            said = [note for note in journal.notes if "cut off" in note]
            assert len(said) == (found.torn > 0)
            assert path.read_bytes() == image[: found.end]
            if found.after:
                cut += 1
                assert f"from byte {found.end} on, were no whole record, with {found.after} whole " in said[0]
            windows = Power(path).tell(journal, "f200 g600 h30", monkeypatch)
        for later in windows[0].images():
            result = scan(later)
            _is_right(result, windows[0], later)
            assert result.records[: len(found.records)] == found.records
            again += result.after > 0
    assert cut > 5
    assert again > 100


# -------------------------------------------------------------------------------------------------- what is said


def _synced(path: Path) -> list[int]:
    """What each record says of how much is on the disk."""
    return [int(line.split(b" ")[2], 16) for line in path.read_bytes().splitlines()[1:]]


def test_a_record_says_what_was_synced_before_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = directory / "000001.journal"
    with opened(directory) as journal:
        sizes = [journal.size]
        for durable in (False, False, True, True):
            journal.append({"text": "x"}, durable=durable)
            sizes.append(journal.size)
        journal.append_many([{}, {}], durable=False)
        assert _synced(path) == [*[sizes[0]] * 3, sizes[3], sizes[4], sizes[4]]
        size = journal.size
        journal.sync()
        with pytest.raises(TypeError):
            journal.append({"a": {1}})
        journal.append({})
        assert _synced(path)[-1] == size
        raw = path.with_name("000002.journal")
        journal.append({}, durable=False)
        journal.rotate([{"a": 1}, {"b": 2}])
        lines = raw.read_bytes().splitlines(keepends=True)
        journal.append({}, durable=False)
        assert _synced(raw) == [len(lines[0]), len(lines[0] + lines[1]), len(b"".join(lines))]
    with opened(directory) as journal:
        size = journal.size
        journal.append({}, durable=False)
        assert _synced(raw)[-1] == size, "what was found is on the disk"
        monkeypatch.setattr(os, "fdatasync", _fail)
        with pytest.raises(JournalError, match="sync"):
            journal.sync()
        with pytest.raises(JournalError, match="open the session again"):
            journal.append({})
    assert _synced(raw)[-1] == size


def _fail(*arguments: object) -> None:
    raise OSError(errno.EIO, "Input/output error")


def test_what_was_synced_is_damage_when_it_is_broken(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = directory / "000001.journal"
    with opened(directory) as journal:
        Power(path).tell(journal, "a20 | b9 c5 d3 | e7 f2", monkeypatch)
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    ends = list(itertools.accumulate(map(len, lines)))
    for place in range(ends[0], len(whole)):
        line = sum(end <= place for end in ends)
        for bit in range(8):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << bit
            found = scan(bytes(damaged))
            # a to d were synced, as e says; that e was, nobody says.
            assert bool(found.problem) == (line <= 4)
            assert (len(found.records), found.end) == (line - 1, ends[line - 1])
    path.write_bytes(whole.replace(b"ccccc", b"ccxcc"))
    with pytest.raises(CorruptJournalError, match="2 records before it are whole, 3 after it"):
        opened(directory)
    path.write_bytes(whole.replace(b"eeeeeee", b"eeexeee"))
    records, notes = reopened(directory)
    assert len(records) == 4
    assert f"its last {len(lines[5] + lines[6])} bytes" in notes[0]
    assert "with 1 whole one behind it that nobody had been promised" in notes[0]


@pytest.fixture
def unsynced(directory: Path) -> Path:
    """The file of a journal whose second record of four is not on the disk, and none of the last three was synced."""
    with opened(directory) as journal:
        journal.append({"n": 1})
        for n in (2, 3, 4):
            journal.append({"n": n}, durable=False)
    path = directory / "000001.journal"
    path.write_bytes(path.read_bytes().replace(b'{"n":2}', b"\0\0\0\0\0\0\0"))
    return path


def test_readers_see_what_its_next_writer_will(directory: Path, unsynced: Path) -> None:
    held = unsynced.read_bytes()
    follower = JournalFollower(directory)
    assert list(read_records(directory)) == [{"n": 1}]
    assert (follower.poll(), follower.restarted) == ([{"n": 1}], True)
    assert (follower.poll(), follower.restarted) == ([], False)
    assert repair(directory, session=NAME) == ()
    assert unsynced.read_bytes() == held
    with opened(directory) as journal:
        journal.append({"n": 5})
        assert (follower.poll(), follower.restarted) == ([{"n": 5}], False)
    assert reopened(directory) == ([{"n": 1}, {"n": 5}], ())


def test_of_a_segment_that_was_not_the_last_everything_was_synced(directory: Path, unsynced: Path) -> None:
    """Whatever its records say: the next one was begun after that."""
    follower = JournalFollower(directory)
    assert follower.poll() == [{"n": 1}]
    next_one = directory / "000002.journal"
    next_one.write_bytes(b"")
    for use in (lambda: opened(directory), lambda: list(read_records(directory)), follower.poll):
        with pytest.raises(CorruptJournalError, match="1 records before it are whole, 2 after it"):
            use()
    next_one.unlink()
    other = session_directory(directory.parent, NAME)
    with opened(other) as journal:
        journal.rotate([])
    (other / next_one.name).rename(next_one)
    assert list(read_records(directory)) == []
    with pytest.raises(CorruptJournalError, match=unsynced.name):
        list(read_records(directory, everything=True))
    assert (follower.poll(), follower.restarted) == ([], True)
    (note,) = repair(directory, session=NAME)
    assert f"{unsynced.name} is damaged: it is kept as {unsynced.name}.damaged-1" in note
