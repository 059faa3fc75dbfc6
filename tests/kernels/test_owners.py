"""Whose a kernel is that is only known by its id: ids stand in notebooks, and notebooks are passed on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lash_nb.kernels.rundir import RuntimeDirectory, find_kernel, own, write_record

EPOCH = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def place() -> Iterator[Path]:
    directory = RuntimeDirectory.create()
    write_record(directory.path / "kernel.json", {"epoch": EPOCH})
    try:
        yield directory.path
    finally:
        directory.remove()


def test_a_kernel_is_found_by_its_id_for_the_session_that_had_it_alone(place: Path) -> None:
    file = place / "connection.json"
    assert find_kernel(EPOCH, owner="one") is None, "nobody has said whose it is"
    own(file, "one")
    assert find_kernel(EPOCH, owner="one") == file
    assert find_kernel(EPOCH, owner="mailed") is None
    assert find_kernel("f" * 32, owner="one") is None


@pytest.mark.parametrize("told", ["", "[]", '{"session": 1}', '{"session": null}'])
def test_what_does_not_say_whose_it_is_is_nobodys(place: Path, told: str) -> None:
    (place / "owner.json").write_text(told)
    for owner in ("one", "", "None"):
        assert find_kernel(EPOCH, owner=owner) is None
