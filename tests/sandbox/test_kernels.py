"""A sandboxed kernel: what users rely on in it, and what gets out of it, which is nothing."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import numpy
import pandas
import pytest

from lash_nb.errors import InputError, KernelStartError
from lash_nb.kernels import CellTools, ToolOffer
from lash_nb.kernels.guardian import lives, start_time
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.resources import ResourceLimits
from lash_nb.kernels.sandbox import Confinement, Sandbox
from lash_nb.kernels.spares import drop_spare, spare_ready
from lash_nb.machine.execution import CellOutcome, StreamOutput
from lash_nb.machine.tool_calls import PendingToolCall, ToolCallOutput, ToolSucceeded
from lash_nb.stores.blobs import BlobStore
from tests.faults.escapes import ENDS, HOST, begun, judge_cell, judge_end, judge_host, judge_value
from tests.faults.escapes_cases import CELLS, VALUES, Attempt
from tests.faults.escapes_world import World, a_world
from tests.kernels.contract_guard import Deciding
from tests.kernels.hosts import wait_for
from tests.kernels.suite import fresh, texts, until_begun
from tests.kernels.test_limits import BOMB
from tests.kernels.test_spares import waiting

pytestmark = pytest.mark.timeout(120)

HOME = os.path.expanduser("~")
WITH_CHILD = """
import subprocess, sys
child = subprocess.Popen([sys.executable, '-I', '-S', '-c', 'import time; time.sleep(1000)'])
print('begun', flush=True)
"""
HOST_CODE = """
import asyncio, sys, time
from lash_nb.kernels.managed import ManagedKernel

async def main(directory, ttl_s):
    kernel = ManagedKernel(cwd=directory, sandbox=True, orphan_ttl_s=float(ttl_s))
    await kernel.start()
    await kernel.run('one', 'x = 41')
    print(kernel.connection_file, kernel.epoch, kernel.pid, flush=True)
    time.sleep(100)

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.fixture
async def kernel(tmp_path: Path) -> AsyncIterator[ManagedKernel]:
    async with ManagedKernel(cwd=tmp_path, sandbox=True, store=BlobStore(tmp_path / "blobs")) as kernel:
        yield kernel


# -- what users rely on ------------------------------------------------------------------------------------------------


async def test_cells_run_and_say_what_they_say(kernel: ManagedKernel) -> None:
    assert kernel.sandboxed
    assert kernel.missing_features == ()
    assert texts(await kernel.run(fresh(), "print('hello'); 6 * 7")) == ["hello\n", "42"]
    failed = await kernel.run(fresh(), "1 / 0")
    assert failed.error is not None
    assert failed.error.ename == "ZeroDivisionError"


@pytest.mark.parametrize("code", ["while True: pass", "import asyncio; await asyncio.sleep(1000)"])
async def test_an_interrupt_ends_a_cell_and_its_children(kernel: ManagedKernel, code: str) -> None:
    cell = await until_begun(kernel, WITH_CHILD + code)
    assert await kernel.interrupt()
    assert (await cell).outcome is CellOutcome.INTERRUPTED
    await asyncio.sleep(1.5)
    assert texts(await kernel.run(fresh(), "child.poll() is not None")) == ["True"]


async def test_a_cell_has_a_time_limit(kernel: ManagedKernel) -> None:
    result = await kernel.run(fresh(), "while True: pass", timeout_s=0.3)
    assert result.outcome is CellOutcome.TIMEOUT
    assert texts(await kernel.run(fresh(), "1")) == ["1"]


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("import os; os._exit(3)", "exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9 (SIGKILL)"),
        ("import os; os.kill(os.getpid(), 11)", "signal 11 (SIGSEGV)"),
    ],
)
async def test_how_it_died_is_told_and_a_restart_brings_another(kernel: ManagedKernel, code: str, told: str) -> None:
    result = await kernel.run(fresh(), code)
    assert result.outcome is CellOutcome.DEAD
    assert told in result.detail
    await kernel.restart()
    assert texts(await kernel.run(fresh(), "2")) == ["2"]


async def test_a_large_table_goes_there_and_comes_back(kernel: ManagedKernel) -> None:
    table = pandas.DataFrame(
        {"a": numpy.arange(3_000_000), "b": numpy.arange(3_000_000.0), "c": ["x", "y", "z"] * 10**6}
    )
    assert table.memory_usage(index=False).sum() >= 50_000_000
    assert (await kernel.push({"table": table[["a", "b"]]})).failed == {}
    assert texts(await kernel.run(fresh(), "len(table), int(table.a.sum())")) == ["(3000000, 4499998500000)"]
    back = await kernel.value("table")
    assert back.equals(table[["a", "b"]])
    kinds = table.head(1000)
    await kernel.push({"kinds": kinds})
    assert (await kernel.value("kinds")).equals(kinds)


async def test_views_come_as_views(kernel: ManagedKernel) -> None:
    await kernel.run(fresh(), "import numpy; whole = numpy.arange(9000.0); pair = [whole, whole[::2]]")
    whole, part = await kernel.value("pair")
    assert part.base is not None
    whole[2] = -1
    assert part[1] == -1


async def test_what_is_long_arrives_in_the_store(kernel: ManagedKernel, tmp_path: Path) -> None:
    result = await kernel.run(fresh(), "for n in range(20_000): print('line', n)")
    (spilled,) = [output.spilled for output in result.outputs if isinstance(output, StreamOutput) and output.spilled]
    data = BlobStore(tmp_path / "blobs").get(spilled)
    assert data.startswith(b"line 0\nline 1\n")
    assert data.endswith(b"line 19999\n")


async def test_tools_are_called(kernel: ManagedKernel) -> None:
    async def on_call(call: PendingToolCall) -> ToolCallOutput:
        return ToolCallOutput(outcome=ToolSucceeded(payload=7))

    tools = CellTools(offers=(ToolOffer(name="seven"),), on_call=on_call)
    assert texts(await kernel.run(fresh(), "print(tools.seven())", tools=tools)) == ["7\n"]


async def test_effects_are_asked_about(kernel: ManagedKernel) -> None:
    deciding = Deciding()
    await kernel.run(fresh(), "import subprocess; subprocess.run(['true'])", guard=deciding.guard())
    assert len(deciding.wishes) == 1


async def test_it_writes_in_its_directory_and_nowhere_else(kernel: ManagedKernel, tmp_path: Path) -> None:
    result = await kernel.run(fresh(), "open('made', 'w').write('x')\nopen('/etc/made', 'w')")
    assert result.error is not None
    assert result.error.ename == "OSError"
    assert "Read-only" in result.error.evalue
    assert (tmp_path / "made").read_text() == "x"
    beside = tmp_path.parent / "beside"
    await kernel.run(
        fresh(), f"import os; os.makedirs({str(beside.parent)!r}, exist_ok=True); open({str(beside)!r}, 'w')"
    )
    assert not beside.exists()


async def test_there_is_a_home_for_matplotlib(kernel: ManagedKernel) -> None:
    code = (
        "import os, matplotlib.pyplot as plt; plt.plot([1]); plt.savefig('p.png'); open(os.path.expanduser('~/x'), 'w')"
    )
    result = await kernel.run(fresh(), code)
    assert result.outcome is CellOutcome.OK, result


async def test_its_limits_hold(tmp_path: Path) -> None:
    limits = ResourceLimits(memory_bytes=1 << 30, processes=64)
    async with ManagedKernel(cwd=tmp_path, resources=limits, sandbox=True) as kernel:
        epoch = kernel.epoch
        result = await kernel.run(fresh(), "kept = 1; held = bytearray(3 << 30)")
        assert result.error is not None
        assert result.error.ename == "MemoryError"
        if kernel.unmet_limits == ():
            assert texts(await kernel.run(fresh(), BOMB, timeout_s=20)) == ["BlockingIOError True True\n"]
        assert texts(await kernel.run(fresh(), "kept")) == ["1"]
        assert kernel.epoch == epoch


async def test_a_spare_one_is_taken(tmp_path: Path) -> None:
    try:
        async with ManagedKernel(cwd=tmp_path, spare=True, sandbox=True):
            assert await spare_ready(30.0)
            spare = waiting()
            async with ManagedKernel(cwd=tmp_path, spare=True, sandbox=True) as kernel:
                assert kernel.pid == spare
                assert kernel.sandboxed
            async with ManagedKernel(cwd=tmp_path, spare=True) as plain:
                assert plain.pid != spare
                assert not plain.sandboxed
    finally:
        drop_spare()


# -- the host ends -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def crashed(directory: Path, ttl_s: float) -> Iterator[tuple[str, str, int]]:
    """The kernel of a host that was killed: its connection file, epoch and process."""
    command = [sys.executable, "-c", HOST_CODE, str(directory), str(ttl_s)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as host:
        try:
            assert host.stdout is not None
            file, epoch, pid = host.stdout.readline().split()
        finally:
            host.kill()
    started = start_time(int(pid))
    try:
        yield file, epoch, int(pid)
    finally:
        if started is not None and lives(int(pid), started):
            os.killpg(int(pid), signal.SIGKILL)


async def test_another_process_takes_it_over(tmp_path: Path) -> None:
    with crashed(tmp_path, 60.0) as (file, epoch, _):
        kernel = await ManagedKernel.attach(file, epoch=epoch, cwd=tmp_path, sandbox=True)
        try:
            assert kernel.sandboxed
            assert texts(await kernel.run(fresh(), "x + 1")) == ["42"]
            cell = await until_begun(kernel)
            assert await kernel.interrupt()
            assert (await cell).outcome is CellOutcome.INTERRUPTED
        finally:
            await kernel.shutdown()
        assert not Path(file).parent.exists()


def test_it_ends_when_nobody_takes_it_over(tmp_path: Path) -> None:
    with crashed(tmp_path, 0.3) as (file, _, pid):
        wait_for(lambda: not lives(pid, None) and not Path(file).parent.exists())


# -- where there can be none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("directory", [HOME, "/", "/tmp", "/etc", "/var"])
async def test_directories_that_hold_what_is_hidden_are_refused(directory: str) -> None:
    kernel = ManagedKernel(cwd=directory, sandbox=True)
    with pytest.raises(InputError, match="directory of its own"):
        await kernel.start()
    assert not kernel.alive


async def test_without_bubblewrap_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KernelStartError, match="apt install bubblewrap"):
        await ManagedKernel(cwd=tmp_path, sandbox=True).start()


async def test_a_bubblewrap_in_the_working_directory_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "bwrap").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    async with ManagedKernel(cwd=tmp_path, sandbox=True) as kernel:
        assert texts(await kernel.run(fresh(), "1")) == ["1"]
    assert not (tmp_path / "ran").exists()


def environment_of(pid: int | None) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()


async def test_libraries_are_not_looked_for_in_the_working_directory_outside(tmp_path: Path) -> None:
    env = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    async with ManagedKernel(cwd=tmp_path, sandbox=True, env=env) as kernel:
        assert texts(await kernel.run(fresh(), "import os; os.environ['LD_LIBRARY_PATH']")) == [repr(str(tmp_path))]
        assert b"LD_LIBRARY_PATH=" not in environment_of(kernel.pid)


# -- the working directory ---------------------------------------------------------------------------------------------


def opened(cwd: Path, *, hide: tuple[str, ...] = (), python: str | None = None) -> list[str]:
    confinement = Confinement(sandbox=Sandbox(hide=hide), python=python, staging=None)
    return confinement.around(["true"], cwd=str(cwd), env=dict(os.environ), own={}, seccomp_fd=None)


def inside(cwd: Path, code: str, **given: tuple[str, ...]) -> str:
    """What a shell says in a sandbox there."""
    command = opened(cwd, **given)  # type: ignore[arg-type]
    return subprocess.run([*command[:-1], "sh", "-c", code], capture_output=True, text=True, check=False).stdout


def test_a_directory_with_spaces_and_one_that_is_a_link(tmp_path: Path) -> None:
    real = tmp_path / "with spaces 'and' ü"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    inside(tmp_path / "link", "echo x > made")
    assert (real / "made").read_text() == "x\n"


def test_a_hidden_directory_in_it_is_made_before_it_can_be_forged(tmp_path: Path) -> None:
    state = tmp_path / "notes" / "state"
    inside(
        tmp_path,
        "echo x > notes/state/forged; mv notes other; mkdir -p notes/state; echo x > notes/state/forged",
        hide=(str(state),),
    )
    assert list(state.iterdir()) == []


def test_a_hidden_directory_behind_a_link_in_it_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "state").symlink_to(tmp_path / "real")
    with pytest.raises(InputError, match="symbolic link"):
        opened(tmp_path, hide=(str(tmp_path / "state"),))


def test_nested_environments_cannot_be_moved_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "env" / "bin").mkdir(parents=True)
    monkeypatch.setattr("lash_nb.kernels.sandbox._OWN", (str(tmp_path / "a" / "env"),) * 3 + ("/nowhere",))
    inside(tmp_path, "mv a b; touch a/env/bin/made; mv a/env a/old")
    assert (tmp_path / "a" / "env" / "bin").is_dir()
    assert list((tmp_path / "a" / "env" / "bin").iterdir()) == []


def test_an_interpreter_is_not_asked_where_cells_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    opened(tmp_path, python=sys.executable)
    assert not (tmp_path / "ran").exists()


def test_nothing_that_is_the_machines_is_writable(tmp_path: Path) -> None:
    code = "for f in core_pattern hostname; do test -w /proc/sys/kernel/$f && echo $f; done; test -w /sys && echo sys"
    assert inside(tmp_path, code) == ""


# -- what comes out of it ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def attacked(loop: asyncio.Runner) -> Iterator[tuple[World, ManagedKernel]]:
    with a_world() as world:
        kernel = loop.run(begun(world))
        yield world, kernel
        loop.run(kernel.shutdown())


@pytest.mark.parametrize("attempt", [*CELLS, *VALUES], ids=lambda attempt: attempt.name)
def test_nothing_gets_out(attempt: Attempt, attacked: tuple[World, ManagedKernel], loop: asyncio.Runner) -> None:
    judge = judge_value if attempt in VALUES else judge_cell
    assert loop.run(judge(attempt, *attacked)) == ""


@pytest.mark.parametrize("name", HOST)
def test_the_host_is_not_deceived(name: str, attacked: tuple[World, ManagedKernel], loop: asyncio.Runner) -> None:
    assert loop.run(judge_host(name, *attacked)) == ""


@pytest.mark.parametrize("name", ENDS)
def test_nothing_outlives_it(name: str, attacked: tuple[World, ManagedKernel], loop: asyncio.Runner) -> None:
    assert loop.run(judge_end(name, attacked[0])) == ""


def test_the_last_line_is_json(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.faults import escapes

    monkeypatch.setattr(escapes, "CELLS", CELLS[:1])
    monkeypatch.setattr(escapes, "VALUES", ())
    monkeypatch.setattr(escapes, "HOST", {})
    monkeypatch.setattr(escapes, "ENDS", {})
    assert escapes.main(["--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1]) == {"attempts": 1, "succeeded": []}
