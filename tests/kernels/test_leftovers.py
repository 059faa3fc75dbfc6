"""What is left of a kernel when it is gone: no process, no file, no descriptor, however it went."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lash_nb.errors import KernelDiedError
from lash_nb.kernels.attached import AttachedProcess
from lash_nb.kernels.managed import ManagedKernel


def children() -> set[int]:
    found = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ends just now
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def descriptors() -> dict[str, str]:
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            found[entry.name] = os.readlink(entry)
        except FileNotFoundError:  # the listing's own
            continue
    return found


def directory_of(kernel: ManagedKernel) -> Path:
    assert kernel._life is not None
    return kernel._life.process.directory


def wait_until_gone(pid: int) -> None:
    """It ended: the entry is gone, or holds a zombie that its new parent has not reaped."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        while "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]:
            time.sleep(0.02)


def test_shutdown_leaves_nothing() -> None:
    before_children, before_fds = children(), descriptors()

    async def life() -> tuple[Path, int]:
        kernel = ManagedKernel()
        await kernel.start()
        directory = directory_of(kernel)
        assert (directory.stat().st_mode & 0o777, (directory / "connection.json").stat().st_mode & 0o777) == (
            0o700,
            0o600,
        )
        result = await kernel.run("k", "import subprocess; p = subprocess.Popen(['sleep', '100']); print(p.pid)")
        await kernel.restart()
        assert not directory.exists()
        directory = directory_of(kernel)
        await kernel.shutdown()
        return directory, int(getattr(result.outputs[0], "head"))  # noqa: B009

    directory, grandchild = asyncio.run(life())
    assert not directory.exists()
    assert children() == before_children
    assert len(descriptors()) == len(before_fds)
    wait_until_gone(grandchild)
    for thread in threading.enumerate():
        if thread.name == "lash_nb kernel I/O":  # it has said that it is done: at most its last lines are left
            thread.join()


def test_a_killed_kernel_leaves_nothing_after_shutdown() -> None:
    before = children()

    async def life() -> Path:
        kernel = ManagedKernel()
        await kernel.start()
        assert kernel.pid is not None
        os.kill(kernel.pid, signal.SIGKILL)
        await asyncio.to_thread(wait_until_gone, kernel.pid)
        directory = directory_of(kernel)
        await kernel.shutdown()
        return directory

    assert not asyncio.run(life()).exists()
    assert children() == before


def test_a_forgotten_kernel_is_reaped() -> None:
    before = children()

    async def life() -> Path:
        kernel = ManagedKernel()
        await kernel.start()
        return directory_of(kernel)

    directory = asyncio.run(life())
    gc.collect()
    assert not directory.exists()
    assert children() == before


@pytest.mark.parametrize("after", [0.0, 0.2, 0.45])
def test_a_cancelled_start_leaves_nothing(after: float) -> None:
    before = children()

    async def life() -> None:
        kernel = ManagedKernel()
        start = asyncio.ensure_future(kernel.start())
        await asyncio.sleep(after)
        start.cancel()
        await asyncio.wait([start])
        await kernel.shutdown()

    asyncio.run(life())
    assert children() == before


HOST = """
import asyncio, sys, time
from lash_nb.kernels.managed import ManagedKernel
BUSY = "import time; open('begun', 'w').close(); time.sleep(1.5); open('done', 'w').close()"
async def main():
    kernel = ManagedKernel(orphan_ttl_s=float(sys.argv[2]))
    await kernel.start()
    result = await kernel.run("k", "import subprocess; p = subprocess.Popen(['sleep', '100']); print(p.pid)")
    print(kernel.pid, result.outputs[0].head.strip(), kernel._life.process.connection_file, flush=True)
    if sys.argv[1] == "exit": sys.exit(0)
    if sys.argv[1] == "busy": await kernel.run("l", BUSY)
    time.sleep(60)
asyncio.run(main())
"""


def end_a_host(how: str, ttl_s: float, *, cwd: Path | None = None) -> tuple[int, int, Path]:
    """The kernel, a child of it, and its connection file."""
    command = [sys.executable, "-c", HOST, how, str(ttl_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=cwd) as host:
        assert host.stdout is not None
        kernel, grandchild, connection_file = host.stdout.readline().split()
        while how == "busy" and cwd is not None and not (cwd / "begun").exists():
            time.sleep(0.02)
        if how != "exit":
            host.kill()
        host.wait()
    return int(kernel), int(grandchild), Path(connection_file)


@pytest.mark.parametrize(("how", "ttl_s"), [("exit", 1800.0), ("killed", 0.0), ("killed", 0.5)])
def test_nothing_is_left_after_its_host(how: str, ttl_s: float) -> None:
    """An orderly exit ends the kernel; after a crash it waits for `orphan_ttl_s`, here in vain."""
    kernel, grandchild, connection_file = end_a_host(how, ttl_s)
    wait_until_gone(kernel)
    wait_until_gone(grandchild)
    while connection_file.parent.exists():
        time.sleep(0.02)


def test_a_cell_that_runs_when_the_host_is_killed_is_left_to_end(tmp_path: Path) -> None:
    kernel, grandchild, connection_file = end_a_host("busy", 0.1, cwd=tmp_path)
    wait_until_gone(kernel)
    wait_until_gone(grandchild)
    assert (tmp_path / "done").exists()
    assert not connection_file.parent.exists()


def test_a_kernel_outlives_a_crash_of_its_host() -> None:
    kernel, grandchild, connection_file = end_a_host("killed", 1800.0)
    time.sleep(1.5)  # by then every watch, ipykernel's own too, has looked
    process = AttachedProcess.take_over(connection_file, epoch=None)
    assert process.pid == kernel
    assert not process.exited()
    process.close()
    wait_until_gone(kernel)
    wait_until_gone(grandchild)
    assert not connection_file.parent.exists()


def test_a_forked_child_neither_uses_nor_ends_the_kernel() -> None:
    async def life() -> None:
        kernel = ManagedKernel()
        await kernel.start()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if not kernel.alive and child_is_refused(kernel) else 2
                del kernel
                gc.collect()
            finally:
                os._exit(code)
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert (await kernel.run("k", "1")).outcome == "ok"
        await kernel.shutdown()

    asyncio.run(life())


def child_is_refused(kernel: ManagedKernel) -> bool:
    try:
        kernel.run("k", "1").send(None)
    except KernelDiedError:
        return True
    return False
