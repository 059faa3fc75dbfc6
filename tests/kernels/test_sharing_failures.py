"""What goes wrong while values go over: no room, a kernel that is killed, nobody who waits. Nothing is left behind."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import resource
import signal
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from lash_nb.errors import KernelBusyError, KernelDiedError, ValueNotSentError
from lash_nb.kernels import sharing, value_requests
from lash_nb.kernels.inside import parcels
from lash_nb.kernels.inside.parcels import Arrived, GoneError, Layout, Place, placed, was_written
from lash_nb.kernels.inside.pickling import StoppedError, packed
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome

from .sharing_suite import carried
from .suite import fresh


def descriptors() -> int:
    """How many this process has open."""
    return len(os.listdir("/proc/self/fd"))


def ours_in_memory() -> set[str]:
    """The parcels in memory that this process has open."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        if "lash_nb values" in target or "values-" in target:
            found.add(target)
    return found


@pytest_asyncio.fixture
async def kernel() -> AsyncIterator[ManagedKernel]:
    async with ManagedKernel(value_timeout_s=20.0) as kernel:
        yield kernel


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = set(os.listdir("/dev/shm")) if os.path.isdir("/dev/shm") else set()
    yield
    gc.collect()
    deadline = time.monotonic() + 10
    while ours_in_memory() and time.monotonic() < deadline:  # a thread that was left behind lets go soon
        time.sleep(0.02)
    assert ours_in_memory() == set()
    if os.path.isdir("/dev/shm"):
        assert set(os.listdir("/dev/shm")) <= before


# -- the file ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, 10_000, 3_000_000])
@pytest.mark.parametrize("kind", ["memory", "directory", "named"])
def test_every_place(tmp_path: Path, kind: str, size: int) -> None:
    place = placed(str(tmp_path), in_memory=kind == "memory", named=kind == "named")
    assert [path.name.partition("-")[0] for path in tmp_path.iterdir()] == (["values"] if kind == "named" else [])
    if kind == "named":
        assert os.stat(place.path).st_mode & 0o777 == 0o600
    value = {"array": np.arange(float(size)), "text": "t" * size}
    came = carried(value, place)
    np.testing.assert_array_equal(came["array"], value["array"])
    assert came["text"] == value["text"]
    came["array"][0] = 5
    assert list(tmp_path.iterdir()) == []


def test_large_buffers_are_mapped_and_lie_well() -> None:
    arrays = [np.arange(1_000_000.0), np.arange(3_000.0), np.ones(2_100, dtype="i8"), np.zeros(500_000)]
    came = carried(arrays, placed("", in_memory=True))
    addresses = [array.__array_interface__["data"][0] for array in came]
    assert [address % 64 for address in addresses] == [0, 0, 0, 0]
    assert [addresses[0] % 4096, addresses[3] % 4096] == [0, 0]
    assert not was_written(addresses[0], arrays[0].nbytes)
    came[3][0] = 1.0
    assert not was_written(addresses[0], arrays[0].nbytes)
    assert was_written(addresses[3], arrays[3].nbytes)


def test_many_that_live_hold_no_descriptors() -> None:
    before = descriptors()
    held = [carried(np.arange(20_000.0), placed("", in_memory=True)) for _ in range(50)]
    assert descriptors() == before
    assert len(held) == 50


def test_another_file_in_its_place_is_not_taken(tmp_path: Path) -> None:
    place = placed(str(tmp_path), in_memory=False, named=True)
    told = place.told()
    place.close()
    with pytest.raises(GoneError):
        Arrived({**told, "size": 0, "buffers": []})
    Path(told["path"]).write_bytes(b"cos\nsystem\n")
    with pytest.raises(GoneError, match="another file"):
        Arrived({**told, "size": 0, "buffers": []})
    Path(told["path"]).unlink()


def test_one_that_is_not_whole_is_not_taken() -> None:
    place = placed("", in_memory=True)
    with pytest.raises(GoneError, match="whole"):
        Arrived({**place.told(), "size": 1_000, "buffers": []})
    place.close()


def test_what_is_sent_is_not_locked_afterwards() -> None:
    array = bytearray(100_000)
    value = np.frombuffer(array, dtype="u1")
    one = packed(value)
    with pytest.raises(BufferError):
        array.append(1)
    one.release()
    del value
    array.append(1)


# -- room --------------------------------------------------------------------------------------------------------------


async def test_without_room_in_memory_it_goes_over_the_disk(
    kernel: ManagedKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    places: list[str] = []

    def noted(directory: str, *, in_memory: bool, named: bool = False) -> Place:
        place = placed(directory, in_memory=in_memory, named=named)
        places.append(os.readlink(f"/proc/self/fd/{place.fd}"))
        return place

    monkeypatch.setattr(sharing, "placed", noted)
    monkeypatch.setattr(sharing, "fits_in_memory", lambda size: False)
    value = np.arange(1_000_000.0)
    pushed = await kernel.push({"value": value})
    assert set(pushed.sent) == {"value"}
    assert len(places) == 1
    assert kernel.connection_file is not None
    assert places[0].startswith(str(kernel.connection_file.parent))
    np.testing.assert_array_equal(await kernel.value("value"), value)
    assert (await kernel.held(["value"]))["value"].same


async def test_where_both_are_full_it_is_said(kernel: ManagedKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(ValueNotSentError, match="there is no room to send 8,0"):
            await kernel.push({"value": np.arange(1_000_000.0)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert await kernel.held(["value"]) == {}


async def test_where_descriptors_cannot_be_opened_the_file_has_a_name(kernel: ManagedKernel) -> None:
    """As where the kernel may not look into this process."""
    refuse = (
        "import os; opening = os.open\n"
        "def refuse(path, *args, **kwargs):\n"
        "    if str(path).startswith('/proc/') and '/fd/' in str(path): raise PermissionError(13, 'no')\n"
        "    return opening(path, *args, **kwargs)\n"
        "os.open = refuse"
    )
    assert (await kernel.run(fresh(), refuse)).outcome is CellOutcome.OK
    value = np.arange(1_000_000.0)
    pushed = await kernel.push({"value": value, "other": [1]})
    assert set(pushed.sent) == {"value", "other"}
    np.testing.assert_array_equal(await kernel.value("value"), value)
    assert kernel.connection_file is not None
    assert list(kernel.connection_file.parent.glob("values-*")) == []


def test_what_may_be_used_of_the_memory() -> None:
    assert parcels.fits_in_memory(1000)
    assert not parcels.fits_in_memory(1 << 50)
    assert parcels.memory_left() > 0


# -- who does not wait -------------------------------------------------------------------------------------------------


class Slow:
    """Takes its time to be pickled."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.begun = seconds, threading.Event()

    def __reduce__(self) -> tuple[Any, ...]:
        self.begun.set()
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            time.sleep(0.01)
        return (int, ())


async def test_a_push_that_is_cancelled(kernel: ManagedKernel) -> None:
    slow = Slow(1.0)
    task = asyncio.ensure_future(kernel.push({"big": np.zeros(1_000_000), "slow": slow}))
    assert await asyncio.to_thread(slow.begun.wait, 20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await kernel.held(["big", "slow"]) == {}
    await asyncio.sleep(1.2)
    assert await kernel.held(["big", "slow"]) == {}


async def test_pickling_that_does_not_end_is_left_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    async with ManagedKernel(value_timeout_s=0.5) as kernel:
        begun = time.monotonic()
        with pytest.raises(KernelBusyError, match="not pickled or loaded here within"):
            await kernel.push({"slow": Slow(5.0)})
        assert time.monotonic() - begun < 4
        assert (await kernel.run(fresh(), "1")).outcome is CellOutcome.OK


async def test_an_endless_structure_is_given_up(kernel: ManagedKernel) -> None:
    class Endless:
        def __reduce__(self) -> tuple[Any, ...]:
            return (list, (), None, iter(lambda: "more text" * 100, None))

    pushed = await kernel.push({"endless": Endless(), "x": 1}, most_bytes=10_000_000)
    assert set(pushed.sent) == {"x"}
    assert pushed.failed == {"endless": "it is over the limit of 10,000,000 bytes"}
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(StoppedError):
        packed(Endless(), stopped=stop.is_set)


async def test_loading_that_does_not_end(tmp_path: Path) -> None:
    async with ManagedKernel(value_timeout_s=1.0) as kernel:
        code = "import time\nclass Slow:\n    def __reduce__(self): return (time.sleep, (30,))\nslow = Slow()"
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(code, namespace)
        with pytest.raises(KernelBusyError, match="was not done with the values within 1 s"):
            await kernel.push({"slow": namespace["slow"], "x": 1})
        assert await kernel.held(["slow", "x"]) == {}
        assert (await kernel.run(fresh(), code + "\n1")).outcome is CellOutcome.OK
        with pytest.raises(KernelBusyError, match="within 1 s"):
            await kernel.value("slow")


async def test_a_kernel_that_is_killed_in_the_middle(kernel: ManagedKernel) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(
        "import os, signal\nclass Kills:\n    def __reduce__(self): return (os.kill, (PID, signal.SIGKILL))", namespace
    )
    namespace["PID"] = kernel.pid
    assert kernel.connection_file is not None
    with pytest.raises(KernelDiedError, match="its variables are gone"):
        await kernel.push({"big": np.zeros(2_000_000), "kills": namespace["Kills"]()})
    with pytest.raises(KernelDiedError):
        await kernel.push({"x": 1})


async def test_a_kernel_that_is_killed_while_it_sends(kernel: ManagedKernel) -> None:
    code = "import os\nclass Kills:\n    def __reduce__(self): os.kill(os.getpid(), 9)\nkills = [b'x' * 1000, Kills()]"
    assert (await kernel.run(fresh(), code)).outcome is CellOutcome.OK
    with pytest.raises(KernelDiedError, match="its variables are gone"):
        await kernel.value("kills")


async def test_a_reply_of_another_form(kernel: ManagedKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    life = kernel._require_life()
    with pytest.raises(Exception, match="could not deal with the values"):
        await value_requests.asked(life, "lash_push_request", {"path": "/dev/null"}, 5.0)

    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(Layout, "write", full)
    with pytest.raises(ValueNotSentError, match="there is no room"):
        await kernel.push({"x": 1})
