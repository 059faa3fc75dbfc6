"""Limits of a kernel, as its cells meet them; the groups that serve them, made and removed."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lash_nb.kernels import limiting
from lash_nb.kernels.cgroups import Group, make_group, removed
from lash_nb.kernels.guardian import lives
from lash_nb.kernels.limiting import Limiting
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.resources import ResourceLimits
from lash_nb.machine.execution import CellOutcome

from .hosts import wait_for
from .suite import fresh, texts

pytestmark = pytest.mark.timeout(90)

GB = 1 << 30
BOMB = """
import os, time
made = 0
try:
    while made < 400:
        if os.fork() == 0: time.sleep(1000)
        made += 1
except OSError as error: print(type(error).__name__, error.errno == 11, made < 400)
"""
BUSY = """
import subprocess, sys, time, resource
began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
code = 'import time; ends = time.monotonic() + 2.0\\nwhile time.monotonic() < ends: pass'
some = [subprocess.Popen([sys.executable, '-I', '-S', '-c', code]) for _ in range(2)]
for one in some: one.wait()
after = resource.getrusage(resource.RUSAGE_CHILDREN)
used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
print(used / (time.monotonic() - began))
"""
CHILDREN = """
import os
for _ in range(6):
    if os.fork() == 0:
        held = bytearray(400 << 20)
        for at in range(0, len(held), 4096): held[at] = 1
        import time; time.sleep(1000)
import time; time.sleep(20)
"""
MANY_FILES = """
files = []
try:
    while len(files) < 1000: files.append(open('/dev/null'))
finally:
    n = len(files)
    files.clear()
"""
HOST_CODE = """
import asyncio, json, sys, time
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.resources import ResourceLimits

async def main(directory):
    kernel = ManagedKernel(cwd=directory, resources=ResourceLimits(processes=64), orphan_ttl_s=0.2)
    await kernel.start()
    groups = json.loads(kernel.connection_file.with_name('kernel.json').read_text())['limits']
    print(json.dumps([kernel.pid, groups]), flush=True)
    time.sleep(100)

asyncio.run(main(sys.argv[1]))
"""


def groups_of(kernel: ManagedKernel) -> list[Path]:

    assert kernel.connection_file is not None
    return [Path(path) for path in json.loads(kernel.connection_file.with_name("kernel.json").read_text())["limits"]]


def can_make(controller: str) -> bool:
    groups, missing = make_group([controller])
    removed(str(group.path) for group in groups)
    return not missing


def needs(controller: str) -> pytest.MarkDecorator:
    """Once where a control group for it can be made, which few containers allow."""
    return pytest.mark.parametrize("controller", [controller] if can_make(controller) else [])


# -- in cells ----------------------------------------------------------------------------------------------------------


async def test_one_that_takes_too_much_memory_gets_an_error_and_lives(tmp_path: Path) -> None:
    limits = ResourceLimits(memory_bytes=GB)
    async with ManagedKernel(cwd=tmp_path, resources=limits) as kernel:
        assert kernel.unmet_limits == ()
        epoch = kernel.epoch
        result = await kernel.run(fresh(), "kept = 1; held = bytearray(3 << 30)")
        assert result.error is not None
        assert result.error.ename == "MemoryError"
        assert texts(await kernel.run(fresh(), "kept")) == ["1"]
        assert kernel.epoch == epoch


@needs("memory")
async def test_several_that_take_too_much_together_are_killed(tmp_path: Path, controller: str) -> None:
    async with ManagedKernel(cwd=tmp_path, resources=ResourceLimits(memory_bytes=GB)) as kernel:
        (group,) = [Group(path, version=1 if (path / "tasks").exists() else 2) for path in groups_of(kernel)]
        result = await kernel.run(fresh(), CHILDREN, timeout_s=15)
        if result.outcome is CellOutcome.DEAD:
            assert "what it may use of the memory was used up" in result.detail
        else:
            assert group.oom_kills() > 0
        await kernel.restart()
        assert texts(await kernel.run(fresh(), "1")) == ["1"]


@needs("pids")
async def test_a_fork_bomb_ends_and_the_kernel_lives(tmp_path: Path, controller: str) -> None:
    async with ManagedKernel(cwd=tmp_path, resources=ResourceLimits(processes=64)) as kernel:
        assert texts(await kernel.run(fresh(), BOMB, timeout_s=20)) == ["BlockingIOError True True\n"]
        assert texts(await kernel.run(fresh(), "1 + 1")) == ["2"]


@needs("cpu")
async def test_processes_share_the_processors_they_may_use(tmp_path: Path, controller: str) -> None:
    async with ManagedKernel(cwd=tmp_path, resources=ResourceLimits(cpus=1)) as kernel:
        (used,) = texts(await kernel.run(fresh(), BUSY))
        assert float(used) <= 1.2


async def test_files_are_open_up_to_a_number(tmp_path: Path) -> None:
    async with ManagedKernel(cwd=tmp_path, resources=ResourceLimits(open_files=256)) as kernel:
        result = await kernel.run(fresh(), MANY_FILES)
        assert result.error is not None
        assert result.error.ename == "OSError"
        assert "Too many open files" in result.error.evalue
        assert texts(await kernel.run(fresh(), "100 < n < 256")) == ["True"]


async def test_they_hold_after_a_restart(tmp_path: Path) -> None:
    async with ManagedKernel(cwd=tmp_path, resources=ResourceLimits(open_files=256)) as kernel:
        await kernel.restart()
        code = "import resource; resource.getrlimit(resource.RLIMIT_NOFILE)"
        assert texts(await kernel.run(fresh(), code)) == ["(256, 256)"]


# -- groups ------------------------------------------------------------------------------------------------------------


@needs("pids")
async def test_groups_are_removed_at_the_end(tmp_path: Path, controller: str) -> None:
    kernel = ManagedKernel(cwd=tmp_path, resources=ResourceLimits(processes=64))
    await kernel.start()
    first = groups_of(kernel)
    assert first
    assert all(path.exists() for path in first)
    await kernel.restart()
    second = groups_of(kernel)
    assert not any(path.exists() for path in first)
    assert all(path.exists() for path in second)
    await kernel.shutdown()
    assert not any(path.exists() for path in second)


@needs("pids")
def test_groups_of_a_host_that_was_killed_are_swept_when_they_are_old(
    tmp_path: Path, controller: str, monkeypatch: pytest.MonkeyPatch
) -> None:

    with subprocess.Popen([sys.executable, "-c", HOST_CODE, str(tmp_path)], stdout=subprocess.PIPE, text=True) as host:
        try:
            assert host.stdout is not None
            pid, paths = json.loads(host.stdout.readline())
        finally:
            host.kill()
    wait_for(lambda: not lives(pid, None))
    left = [Path(path) for path in paths]
    removed(str(group.path) for group in make_group(["pids"])[0])
    assert all(path.exists() for path in left)  # young: a host may be about to fill it
    monkeypatch.setattr("lash_nb.kernels.cgroups._STALE_S", -1.0)

    def swept() -> bool:
        removed(str(group.path) for group in make_group(["pids"])[0])
        return not any(path.exists() for path in left)

    wait_for(swept)  # a thread of the kernel may be ending still


# -- where groups cannot be made, or of another version ----------------------------------------------------------------


@pytest.fixture
def made_up(tmp_path: Path) -> tuple[Path, Path]:
    """A `/proc/self` and the place where its version 2 hierarchy is mounted, both of ordinary files."""
    proc, mount = tmp_path / "proc", tmp_path / "cgroup"
    (mount / "mine").mkdir(parents=True)
    proc.mkdir()
    (proc / "cgroup").write_text("0::/mine\n")
    (proc / "mountinfo").write_text(f"31 23 0:28 / {mount} rw,relatime - cgroup2 cgroup2 rw\n")
    return proc, mount


def with_files(monkeypatch: pytest.MonkeyPatch, *names: str, below: str) -> None:
    """Directories made in a directory of that name get files, as those of control groups do."""
    plain = Path.mkdir

    def mkdir(path: Path, *args: Any, **kwargs: Any) -> None:
        plain(path, *args, **kwargs)
        if path.parent.name == below:
            for name in names:
                (path / name).write_text("")

    monkeypatch.setattr(Path, "mkdir", mkdir)


def test_in_version_2_one_group_serves_all(made_up: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    proc, mount = made_up
    with_files(monkeypatch, "memory.max", "pids.max", "cpu.max", "cgroup.procs", below="mine")
    (group,), missing = make_group(["memory", "pids", "cpu"], proc=proc)
    assert missing == []
    assert group.version == 2
    assert group.path.parent == mount / "mine"
    group.limit_memory(GB)
    group.limit_processes(64)
    group.limit_cpus(1.5)
    assert (group.path / "memory.max").read_text() == "1073741824"
    assert (group.path / "pids.max").read_text() == "64"
    assert (group.path / "cpu.max").read_text() == "150000 100000"


def test_in_version_2_a_group_is_made_beside_when_none_can_be_below(
    made_up: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    proc, mount = made_up
    with_files(monkeypatch, "memory.max", below="cgroup")
    (group,), missing = make_group(["memory"], proc=proc)
    assert missing == []
    assert group.path.parent == mount
    assert list((mount / "mine").iterdir()) == []


def test_where_none_has_the_controller_nothing_is_left(made_up: tuple[Path, Path]) -> None:
    proc, mount = made_up
    assert make_group(["memory"], proc=proc) == ([], ["memory"])
    assert sorted(path.name for path in mount.rglob("*")) == ["mine"]


def test_without_a_record_of_groups_there_are_none(tmp_path: Path) -> None:
    assert make_group(["memory", "cpu"], proc=tmp_path) == ([], ["memory", "cpu"])


def test_kills_are_counted(tmp_path: Path) -> None:
    (tmp_path / "memory.events").write_text("low 0\nhigh 0\noom 3\noom_kill 2\n")
    assert Group(tmp_path, version=2).oom_kills() == 2
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n")
    assert Group(tmp_path, version=1).oom_kills() == 5


@pytest.fixture
def asleep() -> Iterator[int]:
    with subprocess.Popen(["sleep", "100"]) as popen:
        yield popen.pid
        popen.kill()


def test_without_groups_each_process_is_bounded_and_it_is_said(asleep: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "make_group", lambda controllers: ([], list(controllers)))
    put = Limiting.of(ResourceLimits(memory_bytes=GB, open_files=100, cpus=1), [asleep])
    soft, hard = resource.prlimit(asleep, resource.RLIMIT_DATA)
    assert (hard - soft, soft >= GB) == (64 << 20, True)  # which is the kernel's own
    assert resource.prlimit(asleep, resource.RLIMIT_NOFILE) == (100, 100)
    assert len(os.sched_getaffinity(asleep)) == 1
    assert put.unmet == (
        "It is held to 1 of the processors: no control group can be made here.",
        "The limit of memory holds for each of its processes alone: no control group can be made here.",
    )


def test_what_cannot_be_bounded_for_root_is_said(asleep: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "make_group", lambda controllers: ([], list(controllers)))
    monkeypatch.setattr(os, "getuid", lambda: 0)
    put = Limiting.of(ResourceLimits(processes=64), [asleep])
    assert put.unmet == ("There is no means here to bound its processes.",)


async def test_limits_of_one_are_not_those_of_another(tmp_path: Path) -> None:
    code = "import resource; resource.getrlimit(resource.RLIMIT_NOFILE)[0]"
    first = ManagedKernel(cwd=tmp_path, resources=ResourceLimits(open_files=256))
    second = ManagedKernel(cwd=tmp_path)
    await asyncio.gather(first.start(), second.start())
    try:
        assert texts(await first.run(fresh(), code)) == ["256"]
        assert texts(await second.run(fresh(), code)) != ["256"]
    finally:
        await asyncio.gather(first.shutdown(), second.shutdown())
