"""A kernel that is left by the host that started it: it lives on as after a crash, and can be taken over."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lash_nb.errors import KernelAttachError, KernelDiedError
from lash_nb.kernels.guardian import lives
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.rundir import find_kernel, own

from .hosts import wait_for
from .suite import fresh, texts
from .test_leftovers import children, descriptors

LEAVER = """
import asyncio, sys
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.rundir import own

async def main(how, ttl_s):
    kernel = ManagedKernel(orphan_ttl_s=float(ttl_s))
    await kernel.start()
    await kernel.run("first", "x = 41")
    own(kernel.connection_file, "one")
    print(kernel.connection_file, kernel.epoch, kernel.pid, flush=True)
    kernel.leave_at_exit()
    if how == "leave":
        await kernel.leave()
    elif how == "end":
        kernel.end_now()
    elif how == "run":
        await kernel.run("second", "1")

asyncio.run(main(*sys.argv[1:]))
"""


def left(how: str, ttl_s: float = 1800.0) -> tuple[Path, str, int]:
    """The connection file, the epoch and the process of a kernel that a process which has ended left."""
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", LEAVER, how, str(ttl_s)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    file, epoch, pid = done.stdout.split()
    return Path(file), epoch, int(pid)


async def started(ttl_s: float = 1800.0) -> ManagedKernel:
    kernel = ManagedKernel(orphan_ttl_s=ttl_s)
    await kernel.start()
    await kernel.run("first", "x = 41")
    return kernel


async def test_it_can_be_taken_over_in_the_same_process() -> None:
    before_children, before_fds = children(), len(descriptors())
    kernel = await started()
    file, epoch, pid = kernel.connection_file, kernel.epoch, kernel.pid
    assert file is not None
    assert pid is not None
    files = sorted(path.name for path in file.parent.iterdir())
    await kernel.leave()
    await kernel.leave()
    assert (kernel.alive, kernel.pid) == (False, None)
    assert len(descriptors()) == before_fds
    with pytest.raises(KernelDiedError):
        await kernel.run(fresh(), "x")
    del kernel
    gc.collect()
    assert sorted(path.name for path in file.parent.iterdir()) == files
    again = await ManagedKernel.attach(file, epoch=epoch)
    assert again.pid == pid
    assert texts(await again.run(fresh(), "x + 1")) == ["42"]
    assert (await again.run("first", "x = 41", started=True)).recovered
    await again.leave()
    again = await ManagedKernel.attach(file, epoch=epoch)
    assert texts(await again.run(fresh(), "x + 2")) == ["43"]
    await again.shutdown()
    assert not file.parent.exists()
    await asyncio.to_thread(wait_for, lambda: children() == before_children)


@pytest.mark.parametrize("how", ["leave", "exit"])
async def test_it_can_be_taken_over_in_another_process(how: str) -> None:
    file, epoch, pid = await asyncio.to_thread(left, how)
    await asyncio.sleep(1.5)  # by then every watch, ipykernel's own too, has looked
    assert find_kernel(epoch, owner="one") == file
    kernel = await ManagedKernel.attach(file, epoch=epoch)
    assert kernel.pid == pid
    assert texts(await kernel.run(fresh(), "x + 1")) == ["42"]
    await kernel.shutdown()
    assert not file.parent.exists()


@pytest.mark.parametrize("how", ["end", "run"])
def test_one_that_is_ended_or_runs_again_does_not_stay(how: str) -> None:
    file, _, pid = left(how)
    wait_for(lambda: not lives(pid, None))
    assert not file.parent.exists()


def test_nothing_is_left_when_nobody_comes() -> None:
    file, epoch, pid = left("leave", 0.7)
    wait_for(lambda: not lives(pid, None) and not file.parent.exists())
    assert find_kernel(epoch, owner="one") is None


async def test_while_its_first_host_lives_its_time_counts_and_it_is_reaped() -> None:
    before = children()
    kernel = await started(1.0)
    file, pid = kernel.connection_file, kernel.pid
    assert file is not None
    assert pid is not None
    own(file, "one")
    await kernel.leave()
    left_at = time.monotonic()
    assert lives(pid, None)
    await asyncio.to_thread(wait_for, lambda: children() == before)
    assert time.monotonic() - left_at > 0.5
    assert not file.parent.exists()
    with pytest.raises(KernelAttachError):
        await ManagedKernel.attach(file)


async def test_one_that_has_ended_leaves_nothing() -> None:
    before = children()
    kernel = await started()
    file, pid = kernel.connection_file, kernel.pid
    assert file is not None
    assert pid is not None
    os.kill(pid, 9)
    await asyncio.to_thread(wait_for, lambda: not kernel.alive)
    await kernel.leave()
    assert not file.parent.exists()
    assert children() == before
