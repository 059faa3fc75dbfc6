"""A journal whose process is killed, or whose machine loses power, at any step: nothing that was promised is lost.

A record here is a letter, the compacted past all letters so far; so what a journal holds is one text, however it lies
in segments. `acknowledged` of them must be there after a crash, and nothing that was never written.
"""

from __future__ import annotations

import os
import random
import signal
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from lash_nb.stores.journal import Journal, read_records, session_directory
from tests.stores.journals import NAME, fork, opened, wait

STEPS = (
    "chmod",
    "close",
    "fchmod",
    "fdatasync",
    "fsync",
    "ftruncate",
    "mkdir",
    "open",
    "pwrite",
    "rename",
    "replace",
    "unlink",
    "write",
)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return session_directory(tmp_path / "state", NAME)


def text(records: list[dict[str, Any]]) -> str:
    return "".join(record["t"] for record in records)


@dataclass
class Story:
    """Writes a journal over two lives; `told` is called with what is durable by then, and what may be there."""

    directory: Path
    told: Callable[[str, str], object] = lambda durable, written: None
    written: str = ""

    def add(self, journal: Journal, letters: str) -> None:
        before, self.written = self.written, self.written + letters
        self.told(before, self.written)
        journal.append_many([{"t": letter} for letter in letters])
        self.told(self.written, self.written)

    def tell(self) -> None:
        for letters in ("abc", "def"):
            with opened(self.directory) as journal:
                self.written = text(journal.records)
                for letter in letters[:-1]:
                    self.add(journal, letter)
                journal.rotate([{"t": self.written}])
                self.add(journal, letters[-1] + "." * 20)
                journal.rotate([{"t": letter} for letter in self.written])


WHOLE = "abc" + "." * 20 + "def" + "." * 20


# ------------------------------------------------------------------------------------------- a process that ends


def _end_at(step: int, halves: bool) -> None:
    """End this process at that call of the system's, or in the midst of it when it writes (`halves`)."""
    left = step

    def wrapped(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            left -= 1
            if left == 0:
                if halves and name == "write":
                    call(arguments[0], bytes(arguments[1])[: len(arguments[1]) // 2])
                os._exit(99)
            return call(*arguments, **options)

        return counted

    for name in STEPS:
        setattr(os, name, wrapped(name, getattr(os, name)))


@pytest.mark.parametrize("halves", [False, True])
def test_a_process_may_end_at_any_step(tmp_path: Path, halves: bool) -> None:
    step, ended = 0, 99
    while ended == 99:
        step += 1
        directory = session_directory(tmp_path / str(step), NAME)
        reader, writer = os.pipe()

        def told(durable: str, written: str, writer: int = writer) -> None:
            os.writev(writer, [f"{durable} {written}\n".encode()])

        def work(directory: Path = directory, step: int = step, told: Callable[[str, str], None] = told) -> None:
            story = Story(directory, told)
            _end_at(step, halves)
            story.tell()

        ended = wait(fork(work))
        os.close(writer)
        with os.fdopen(reader) as file:
            durable, written = (file.read().splitlines() or [" "])[-1].split(" ")
        _check(directory, durable, written)
    assert ended == 0
    assert step > 100, "the story has that many steps"


def _check(directory: Path, durable: str, written: str) -> None:
    for _ in range(2):
        with opened(directory) as journal:
            found = text(journal.records)
            assert written.startswith(found)
            assert found.startswith(durable)
        assert text(list(read_records(directory, everything=True))) == found
        names = set(os.listdir(directory)) - {"lock"}
        raw = {name for name in names if name.endswith(".journal")}
        assert len(raw) == 1, "the others are put away"
        assert all(name.endswith(".journal.gz") for name in names - raw)
    with opened(directory) as journal:
        journal.append({"t": "!"})
        journal.rotate([{"t": found + "!"}])
    assert text(list(read_records(directory))) == found + "!"


def test_a_process_may_be_killed_whatever_it_does(directory: Path) -> None:
    sure = 0
    for _ in range(25):
        reader, writer = os.pipe()

        def work(writer: int = writer) -> None:
            with opened(directory) as journal:
                count = int(journal.records[-1]["n"]) if journal.records else 0
                while True:
                    count += 1
                    journal.append({"n": count, "text": "x" * (count % 7) * 1000}, durable=count % 3 == 0)
                    os.write(writer, b"%d\n" % count)
                    if count % 40 == 0:
                        journal.rotate([{"n": count}])

        pid = fork(work)
        os.close(writer)
        with os.fdopen(reader, "rb") as file:
            for _ in range(random.randint(1, 120)):
                sure = int(file.readline())
            os.kill(pid, signal.SIGKILL)
            assert wait(pid) == -signal.SIGKILL
            sure = max([sure, *(int(line) for line in file.read().split())])
        numbers = [record["n"] for record in read_records(directory, everything=True)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) in (sure, sure + 1)


# ---------------------------------------------------------------------------------------- a machine without power


@dataclass
class Disk:
    """What a disk holds of a directory: all of it, or what was synced.

    A file's bytes are on the disk when it was synced, a name when its directory was.
    """

    directory: Path
    bytes_: dict[int, bytes] = field(default_factory=dict)
    names: dict[str, int] = field(default_factory=dict)
    open_: list[int] = field(default_factory=list)
    """Of every file, so that no inode is used twice."""

    def current(self) -> dict[str, int]:
        try:
            return {name: os.lstat(self.directory / name).st_ino for name in os.listdir(self.directory)}
        except FileNotFoundError:
            return {}

    def synced(self, fd: int) -> None:
        told = os.fstat(fd)
        if self.directory.exists() and os.path.samestat(told, os.stat(self.directory)):
            self.names = self.current()
        elif stat.S_ISREG(told.st_mode):
            self.bytes_[told.st_ino] = os.pread(fd, told.st_size, 0)

    def images(self) -> Iterator[dict[str, bytes]]:
        """What may be found after a cut: the synced and the new names, with the synced and the new bytes."""
        current = self.current()
        new = {inode: (self.directory / name).read_bytes() for name, inode in current.items()}
        for names in (self.names, current):
            for held in (self.bytes_, {**self.bytes_, **new}):
                yield {name: held.get(inode, b"") for name, inode in names.items()}


@contextmanager
def recorded(disk: Disk, images: Callable[[], None]) -> Iterator[list[str]]:
    """Calls `images` before each step that writes; gives the names of the steps."""
    steps: list[str] = []
    kept = {name: getattr(os, name) for name in STEPS}

    def wrapped(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **options: Any) -> Any:
            if name not in ("open", "close"):
                images()
                path = arguments[1] if name in ("replace", "rename") else arguments[0]
                told = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else path
                steps.append(f"{name} {os.path.basename(told)}")
            result = call(*arguments, **options)
            if name == "open":
                disk.open_.append(os.dup(result))
            elif name in ("fsync", "fdatasync"):
                disk.synced(arguments[0])
            return result

        return counted

    for name in STEPS:
        setattr(os, name, wrapped(name, kept[name]))
    try:
        yield steps
    finally:
        for name in STEPS:
            setattr(os, name, kept[name])
        for fd in disk.open_:
            os.close(fd)


def test_a_machine_may_lose_its_power_at_any_step(directory: Path, tmp_path: Path) -> None:
    disk = Disk(directory)
    cuts: dict[tuple[tuple[str, bytes], ...], tuple[str, str]] = {}
    durable = written = ""

    def told(*now: str) -> None:
        nonlocal durable, written
        durable, written = now

    def images() -> None:
        for image in disk.images():
            cuts[tuple(sorted(image.items()))] = durable, written

    with recorded(disk, images):
        story = Story(directory, told)
        story.tell()
    assert story.written == WHOLE
    assert len(cuts) > 60
    for number, (image, (sure, possible)) in enumerate(cuts.items()):
        place = session_directory(tmp_path / f"cut{number}", NAME)
        place.mkdir(parents=True)
        for name, data in image:
            (place / name).write_bytes(data)
        _check(place, sure, possible)


def test_what_a_name_leads_to_is_synced_before_and_the_name_after(directory: Path) -> None:
    with recorded(Disk(directory), lambda: None) as steps:
        journal = opened(directory)
        assert _without_modes(steps) == [
            "mkdir state",
            "fsync " + directory.parents[2].name,
            "mkdir sessions",
            "fsync state",
            "mkdir first",
            "fsync sessions",
            "ftruncate lock",
            "pwrite lock",
            "write 000001.journal.new",
            "fsync 000001.journal.new",
            "replace 000001.journal",
            "fsync first",
        ]
        steps.clear()
        journal.append({"a": 1}, durable=False)
        journal.append({"a": 1})
        journal.append_many([{"b": 1}, {"c": 1}])
        assert steps == ["write 000001.journal"] + 2 * ["write 000001.journal", "fdatasync 000001.journal"]
        steps.clear()
        journal.rotate([{"a": 1}])
        assert _without_modes(steps) == [
            "fdatasync 000001.journal",
            "write 000002.journal.new",
            "fsync 000002.journal.new",
            "replace 000002.journal",
            "fsync first",
            "write 000001.journal.gz.new",
            "write 000001.journal.gz.new",
            "fsync 000001.journal.gz.new",
            "replace 000001.journal.gz",
            "fsync first",
            "unlink 000001.journal",
        ]
        journal.append({"d": 1}, durable=False)
        steps.clear()
        journal.close()
        assert steps == ["fdatasync 000002.journal", "ftruncate lock"]
        steps.clear()
        opened(directory).close()
        assert _without_modes(steps)[2:4] == ["fsync 000002.journal", "fsync first"], "before anybody builds upon it"


def _without_modes(steps: list[str]) -> list[str]:
    return [step for step in steps if "chmod" not in step and not (step.startswith("unlink") and "new" in step)]
