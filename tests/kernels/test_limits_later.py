"""Limits of a kernel later: in kernels that it starts, when it ends, and when another host takes it over."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from lash_nb.kernels.attached import AttachedProcess
from lash_nb.kernels.cgroups import Group, KillCount, make_group, removed
from lash_nb.kernels.guardian import lives
from lash_nb.kernels.limiting import Limiting
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.process import KernelProcess
from lash_nb.kernels.resources import ResourceLimits

from .hosts import environment, host
from .suite import fresh, texts
from .test_limits import GB, groups_of, needs

pytestmark = pytest.mark.timeout(90)

REPOSITORY = Path(__file__).parents[2]
NESTED = """
import os, subprocess, sys
code = '''
import asyncio, os
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.resources import ResourceLimits
async def main():
    async with ManagedKernel(resources=ResourceLimits(processes=64, memory_bytes=1 << 30)) as kernel:
        print(os.getpid(), kernel.pid, kernel.connection_file, flush=True)
        await asyncio.sleep(100)
asyncio.run(main())
'''
host = subprocess.Popen([sys.executable, '-c', code], stdout=subprocess.PIPE, text=True)
print(host.stdout.readline())
"""
TOGETHER = """
import subprocess, sys
code = 'held = bytearray(180 << 20)\\nfor at in range(0, len(held), 4096): held[at] = 1\\nimport time; time.sleep(2)'
some = [subprocess.Popen([sys.executable, '-c', code]) for _ in range(3)]
print(sum(one.wait() == -9 for one in some) > 0)
"""


@pytest.fixture
def asleep() -> Iterator[int]:
    with subprocess.Popen(["sleep", "100"]) as popen:
        yield popen.pid
        popen.kill()


# -- groups in groups, kernels in kernels ------------------------------------------------------------------------------


@needs("pids")
def test_a_group_is_removed_with_the_groups_in_it(asleep: int, controller: str) -> None:
    ((outer,), _) = make_group([controller])
    inner = outer.path / "middle" / "inner"
    inner.mkdir(parents=True)
    Group(inner, version=outer.version).take([asleep])
    assert removed([str(outer.path)])
    assert not outer.path.exists()
    assert not lives(asleep, None)


@needs("pids")
def test_groups_in_groups_are_swept_when_all_are_old(controller: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ((outer,), _) = make_group([controller])
    (outer.path / "inner").mkdir()
    removed(str(group.path) for group in make_group([controller])[0])
    assert (outer.path / "inner").exists()
    monkeypatch.setattr("lash_nb.kernels.cgroups._STALE_S", -1.0)
    removed(str(group.path) for group in make_group([controller])[0])
    assert not outer.path.exists()


@pytest.mark.parametrize("bounded", [False, True])
@pytest.mark.parametrize("killed", [False, True])
async def test_a_kernel_in_a_kernel_ends_with_it(tmp_path: Path, bounded: bool, killed: bool) -> None:
    limits = ResourceLimits(processes=128, memory_bytes=2 * GB) if bounded else None
    kernel = ManagedKernel(cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPOSITORY)}, resources=limits)
    await kernel.start()
    (line,) = texts(await kernel.run(fresh(), NESTED))
    inner_host, inner, inner_file = line.split()
    groups = [
        *groups_of(kernel),
        *map(Path, json.loads(Path(inner_file).with_name("kernel.json").read_text())["limits"]),
    ]
    assert lives(int(inner), None)
    if killed:
        assert kernel.pid is not None
        os.kill(kernel.pid, 9)
    await kernel.shutdown()
    assert not lives(int(inner), None)
    assert not lives(int(inner_host), None)
    assert [path for path in groups if path.exists()] == []


def test_what_is_closed_meanwhile_gets_no_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*args: object, **how: object) -> Limiting:
        raise AssertionError("limits for a process that is gone")

    monkeypatch.setattr(Limiting, "of", refused)
    process = KernelProcess(
        argv=["sleep", "100"], cwd=None, env=environment(), limits=ResourceLimits(processes=64, memory_bytes=GB)
    )
    process.close()
    assert process.settle() == ()


# -- why it was killed -------------------------------------------------------------------------------------------------


def test_only_what_was_killed_since_the_last_look_counts(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000000000")
    (tmp_path / "memory.events").write_text("oom 3\noom_kill 2\n")
    put = Limiting(kills=KillCount([Group(tmp_path, version=2)]))
    assert put.why_killed() == ""
    (tmp_path / "memory.events").write_text("oom 4\noom_kill 3\n")
    assert put.why_killed() == " because what it may use of the memory was used up"
    put.kills.look()
    assert put.why_killed() == ""


@needs("memory")
async def test_that_its_children_were_killed_earlier_is_not_why(tmp_path: Path, controller: str) -> None:
    async with ManagedKernel(cwd=tmp_path, resources=ResourceLimits(memory_bytes=256 << 20)) as kernel:
        assert texts(await kernel.run(fresh(), TOGETHER)) == ["True\n"]
        assert kernel._life is not None
        kernel._life.process.look()
        result = await kernel.run(fresh(), "import os; os.kill(os.getpid(), 9)")
        assert result.detail.startswith("The kernel's process was killed by signal 9 (SIGKILL) while the cell ran;")


# -- one that is taken over --------------------------------------------------------------------------------------------


@needs("pids")
def test_a_stricter_bound_goes_to_the_group_that_is_there(controller: str) -> None:
    with host("sleep") as crashed:
        crashed.kill()
        process = AttachedProcess.take_over(crashed.connection_file, epoch=None)
        try:
            assert process.settle(ResourceLimits(processes=64)) == ()
            (first,) = json.loads((crashed.directory / "kernel.json").read_text())["limits"]
            assert str(crashed.kernel) in (Path(first) / "cgroup.procs").read_text().split()
            process.let_go()
            process = AttachedProcess.take_over(crashed.connection_file, epoch=None)
            assert process.settle(ResourceLimits(processes=48)) == ()
            record = json.loads((crashed.directory / "kernel.json").read_text())
            assert (record["limits"], record["bounds"], record["unmet"]) == ([first], {"processes": 48}, [])
            assert (Path(first) / "pids.max").read_text() == "48\n"
        finally:
            process.close()
        assert not Path(first).exists()


def test_memory_that_is_in_use_is_not_taken_away(asleep: int, tmp_path: Path) -> None:
    group = tmp_path / "lash-nb-made-up"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text("2147483648")
    (group / "memory.usage_in_bytes").write_text("1610612736\n")
    before = Limiting.found({"limits": [str(group)], "unmet": [], "bounds": {"memory_bytes": 2 * GB}})
    put = before.tightened(ResourceLimits(memory_bytes=GB), [asleep])
    assert put.unmet == ("It uses more of the memory already than it is to have: that is as it was.",)
    assert put.bounds == ResourceLimits(memory_bytes=2 * GB)
    assert (group / "memory.limit_in_bytes").read_text() == "2147483648"
    assert resource.prlimit(asleep, resource.RLIMIT_DATA) == resource.prlimit(0, resource.RLIMIT_DATA)


@pytest.mark.parametrize(
    "bounds", [None, [], "64", {"processes": 1}, {"processes": "64"}, {"cpus": "many"}, {"open_files": None}]
)
def test_a_record_without_bounds_has_none(bounds: object) -> None:
    assert Limiting.found({"bounds": bounds}).bounds == ResourceLimits()
