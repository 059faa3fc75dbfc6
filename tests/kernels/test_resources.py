"""What limits may be asked for, and how amounts of memory are read and said."""

from __future__ import annotations

import pytest

from lash_nb.errors import InputError
from lash_nb.kernels.resources import NO_LIMITS, ResourceLimits, memory_size, size_text


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512M", 536_870_912),
        ("4G", 4_294_967_296),
        ("4g", 4_294_967_296),
        ("512 MB", 536_870_912),
        ("1.5GiB", 1_610_612_736),
        (" 2 T ", 2_199_023_255_552),
        ("10k", 10_240),
        ("1000", 1000),
        (1000, 1000),
        (0.5, 0),
        ("7B", 7),
    ],
)
def test_amounts_of_memory_are_read(text: str | float, size: int) -> None:
    assert memory_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1G", "1,5G", "4 GBs", "4X", "1e9", "4G 2G", "nan", "inf"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="512M or 4G"):
        memory_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 bytes"),
        (1023, "1023 bytes"),
        (1024, "1 KB"),
        (1_572_864, "1.5 MB"),
        (4_294_967_296, "4 GB"),
        (2_199_023_255_552, "2 TB"),
        (2_251_799_813_685_248, "2048 TB"),
    ],
)
def test_amounts_of_memory_are_said(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("limits", "least"),
    [
        ({"memory_bytes": 268_435_455}, "the limit of memory: too few for a kernel; give 256 MB"),
        ({"memory_bytes": 0}, "the limit of memory: too few"),
        ({"processes": 31}, "the limit of processes: too few for a kernel; give 32"),
        ({"open_files": 63}, "the limit of open files: too few for a kernel; give 64"),
        ({"cpus": 0.09}, "too few for a kernel; give 0.1"),
        ({"cpus": -1}, "too few"),
        ({"cpus": float("nan")}, "too few"),
    ],
)
def test_limits_that_are_too_low_are_refused(limits: dict[str, float], least: str) -> None:
    with pytest.raises(InputError, match=least):
        ResourceLimits(**limits)  # type: ignore[arg-type]


def test_the_lowest_limits_are_not() -> None:
    lowest = ResourceLimits(memory_bytes=268_435_456, processes=32, open_files=64, cpus=0.1)
    assert lowest.told() == (
        "256 MB of memory",
        "0.1 processors",
        "64 open files in each process",
        "32 processes and threads",
    )


def test_one_processor_is_said_as_one() -> None:
    assert ResourceLimits(cpus=1).told() == ("1 processor",)


def test_no_limits_are_none() -> None:
    assert not NO_LIMITS
    assert NO_LIMITS.told() == ()
    assert ResourceLimits(cpus=2)
