"""Taking a kernel over whose host crashed: what is refused, and why; then it is as one's own."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lash_nb.errors import KernelAttachError
from lash_nb.kernels.attached import AttachedProcess
from lash_nb.kernels.guardian import lives, start_time
from lash_nb.kernels.process import RunningProcess
from lash_nb.kernels.resources import ResourceLimits
from lash_nb.kernels.rundir import flocked

from .hosts import Host, host, launch, wait_for


@pytest.fixture
def crashed() -> Iterator[Host]:
    """A kernel (by its files; its process sleeps) whose host was killed. Ended by taking it over."""
    with host("sleep") as one:
        one.kill()
        yield one
        if one.directory.exists():
            AttachedProcess.take_over(one.connection_file, epoch=None).close()


Undo = Callable[[], object]


def rewritten(path: Path, **changes: object) -> Undo:
    before = path.read_text()
    path.write_text(json.dumps({**json.loads(before), **changes}))
    return lambda: path.write_text(before)


def moved(path: Path) -> Undo:
    other = path.rename(path.with_name("elsewhere"))
    return lambda: other.rename(path)


def linked(path: Path) -> Undo:
    other = path.rename(path.with_name("elsewhere"))
    path.symlink_to(other)
    return lambda: other.rename(path)


def opened(path: Path) -> Undo:
    before = stat.S_IMODE(path.stat().st_mode)
    path.chmod(before | 0o040)
    return lambda: path.chmod(before)


def replaced(path: Path, data: bytes) -> Undo:
    before = path.read_bytes()
    path.write_bytes(data)
    return lambda: path.write_bytes(before)


def a_fifo(path: Path) -> Undo:
    other = path.rename(path.with_name("elsewhere"))
    os.mkfifo(path, 0o600)
    return lambda: other.rename(path)


CONNECTION, KERNEL = "connection.json", "kernel.json"


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        (CONNECTION, moved, r"there is no .*connection\.json: the kernel has ended"),
        (CONNECTION, linked, r"connection\.json is a symbolic link"),
        (CONNECTION, opened, r"connection\.json is open to other users \(mode 0640\)"),
        (CONNECTION, a_fifo, r"connection\.json is no regular file"),
        (CONNECTION, lambda path: replaced(path, b"{"), "not of the form"),
        (CONNECTION, lambda path: replaced(path, b"[" * 60_000), "not of the form"),
        (CONNECTION, lambda path: replaced(path, b" " * 70_000 + b"{}"), "not of the form"),
        (CONNECTION, lambda path: replaced(path, b"[]"), "not of the form"),
        (CONNECTION, lambda path: rewritten(path, transport="tcp", ip="127.0.0.1"), "not on ipc"),
        (CONNECTION, lambda path: rewritten(path, key="f" * 63), "not of the form"),
        (CONNECTION, lambda path: rewritten(path, key="F" * 64), "not of the form"),
        (CONNECTION, lambda path: rewritten(path, key=""), "not of the form"),
        (CONNECTION, lambda path: rewritten(path, signature_scheme=""), "not of the form"),
        (CONNECTION, lambda path: rewritten(path, shell_port="1"), "not of the form"),
        (CONNECTION, lambda path: rewritten(path, ip="/tmp/k"), r"outside of its directory \(/tmp/k\)"),
        (CONNECTION, lambda path: rewritten(path, ip="k"), "outside of its directory"),
        (CONNECTION, lambda path: rewritten(path, ip=f"{path.parent}/spill/k"), "outside of its directory"),
        (CONNECTION, lambda path: rewritten(path, ip=f"{path.parent}/.."), "not of the form"),
        (KERNEL, moved, r"there is no .*kernel\.json"),
        (KERNEL, linked, r"kernel\.json is a symbolic link"),
        (KERNEL, opened, r"kernel\.json is open to other users"),
        (KERNEL, lambda path: rewritten(path, pid="1"), "not of the form"),
        (KERNEL, lambda path: rewritten(path, pid=1), "not of the form"),
        (KERNEL, lambda path: rewritten(path, pid=-1), "not of the form"),
        (KERNEL, lambda path: rewritten(path, started="x"), "not of the form"),
        (KERNEL, lambda path: rewritten(path, started=1), r"has ended; its variables are gone"),
        ("host.json", moved, r"there is no .*host\.json"),
        ("lock", opened, r"lock is open to other users"),
        ("", opened, r"is open to other users \(mode 0740\)"),
    ],
)
def test_what_is_refused(crashed: Host, name: str, spoil: Callable[[Path], Undo], said: str) -> None:
    record = crashed.directory / "host.json"
    before = record.read_text()
    undo = spoil(crashed.directory / name)
    descriptors = len(os.listdir("/proc/self/fd"))
    try:
        with pytest.raises(KernelAttachError, match=said) as caught:
            AttachedProcess.take_over(crashed.connection_file, epoch=crashed.epoch)
        assert "start a new kernel" in str(caught.value)
        del caught
    finally:
        undo()
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert record.read_text() == before
    assert crashed.kernel_lives()


def test_a_directory_that_is_a_link_is_refused(crashed: Host, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(crashed.directory)
    with pytest.raises(KernelAttachError, match="is a symbolic link"):
        AttachedProcess.take_over(tmp_path / "link" / "connection.json", epoch=crashed.epoch)


def test_a_directory_that_is_gone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KernelAttachError, match=r"there is no .*gone: the kernel has ended"):
        AttachedProcess.take_over(tmp_path / "gone" / "connection.json", epoch=None)


def test_another_epoch_is_another_kernel(crashed: Host) -> None:
    with pytest.raises(
        KernelAttachError, match=f"another kernel .epoch {crashed.epoch}, wanted abc.*variables"
    ) as caught:
        AttachedProcess.take_over(crashed.connection_file, epoch="abc")
    assert "start a new kernel" in str(caught.value)


def test_a_kernel_that_died_is_refused_and_left_for_the_sweep(crashed: Host) -> None:
    os.kill(crashed.kernel, signal.SIGKILL)
    wait_for(lambda: not crashed.kernel_lives())
    with pytest.raises(KernelAttachError, match=rf"process {crashed.kernel}\) has ended; its variables are gone"):
        AttachedProcess.take_over(crashed.connection_file, epoch=crashed.epoch)
    fd = os.open(crashed.directory / "lock", os.O_RDWR)
    assert flocked(fd)
    os.close(fd)
    for path in crashed.directory.iterdir():
        path.rmdir() if path.is_dir() else path.unlink()
    crashed.directory.rmdir()


def test_a_kernel_with_a_host_is_refused() -> None:
    with host("sleep") as living:
        with pytest.raises(KernelAttachError, match=f"in use by process {living.pid}: a kernel has one host"):
            AttachedProcess.take_over(living.connection_file, epoch=living.epoch)
        assert living.kernel_lives()
        living.kill()
        AttachedProcess.take_over(living.connection_file, epoch=living.epoch).close()


def test_ones_own_kernel_is_refused() -> None:
    process = launch("sleep", "100")
    try:
        with pytest.raises(KernelAttachError, match=rf"in use by process {os.getpid()} \(this one\)"):
            AttachedProcess.take_over(process.connection_file, epoch=process.epoch)
    finally:
        process.close()


def test_a_child_that_the_host_forked_does_not_keep_the_kernel() -> None:
    with host("forked") as forked:
        forked.kill()
        try:
            assert lives(forked.child, None)
            AttachedProcess.take_over(forked.connection_file, epoch=forked.epoch).close()
        finally:
            os.kill(forked.child, signal.SIGKILL)
        assert forked.nothing_left()


def test_a_kernel_that_was_taken_over(crashed: Host) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    process: RunningProcess = AttachedProcess.take_over(crashed.connection_file, epoch=crashed.epoch)
    own = {"pid": os.getpid(), "started": start_time(os.getpid())}
    assert json.loads((crashed.directory / "host.json").read_text()) == own
    assert (process.pid, process.epoch, process.directory) == (crashed.kernel, crashed.epoch, crashed.directory)
    assert (process.language, process.display_name, process.has_inside) == ("python", "", True)
    assert process.endpoints.shell == f"ipc://{crashed.directory}/k-1"
    assert process.endpoints.key.decode() == json.loads(process.connection_file.read_text())["key"]
    assert not process.exited()
    with pytest.raises(KernelAttachError, match=f"in use by process {os.getpid()}"):
        AttachedProcess.take_over(crashed.connection_file, epoch=None)
    (crashed.directory / "log").write_text("said\n")
    process.interrupt()
    wait_for(process.exited)
    assert process.ending() == "ended (how is not known: this process did not start it)"
    assert process.log_tail() == "said"
    process.close()
    assert process.log_tail() == "said"
    process.close()
    process.interrupt()
    process.kill()
    assert process.exited()
    assert crashed.nothing_left()
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_what_is_not_in_force_is_said_by_who_takes_over(crashed: Host) -> None:
    rewritten(crashed.directory / "kernel.json", unmet=["There is no means here."], bounds={"processes": 64})
    process = AttachedProcess.take_over(crashed.connection_file, epoch=None)
    assert process.settle() == ("There is no means here.",)
    assert process.settle(ResourceLimits(processes=64)) == ("There is no means here.",)
    process.close()


def test_what_the_new_host_asks_for_is_put_in_force_where_it_is_stricter(crashed: Host) -> None:
    record = crashed.directory / "kernel.json"
    process = AttachedProcess.take_over(crashed.connection_file, epoch=None)
    assert process.settle(ResourceLimits(open_files=100)) == ()
    assert resource.prlimit(crashed.kernel, resource.RLIMIT_NOFILE) == (100, 100)
    assert json.loads(record.read_text())["bounds"] == {"open_files": 100}
    process.let_go()
    process = AttachedProcess.take_over(crashed.connection_file, epoch=crashed.epoch)
    assert process.settle(ResourceLimits(open_files=200)) == ()
    assert resource.prlimit(crashed.kernel, resource.RLIMIT_NOFILE) == (100, 100)
    assert json.loads(record.read_text())["bounds"] == {"open_files": 100}
    process.close()
    assert process.settle(ResourceLimits(open_files=64)) == ()


@pytest.mark.parametrize(
    ("kills", "said"),
    [
        (1, "ended (how is not known: this process did not start it)"),
        (2, "ended, it seems because what it may use of the memory was used up (this process did not start it)"),
    ],
)
def test_it_is_said_when_it_ends_because_its_memory_is_used_up(
    crashed: Host, tmp_path: Path, kills: int, said: str
) -> None:
    group = tmp_path / "lash-nb-made-up"
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text("1000000000")
    (group / "memory.oom_control").write_text("oom_kill 1\n")
    rewritten(crashed.directory / "kernel.json", limits=[str(group)])
    process = AttachedProcess.take_over(crashed.connection_file, epoch=None)
    (group / "memory.oom_control").write_text(f"oom_kill {kills}\n")
    os.kill(crashed.kernel, signal.SIGKILL)
    wait_for(process.exited)
    process.look()  # too late to take it as known
    assert process.ending() == said
    process.close()


def test_a_kernel_that_is_let_go_is_as_it_was(crashed: Host) -> None:
    record, descriptors = (crashed.directory / "host.json").read_text(), len(os.listdir("/proc/self/fd"))
    process = AttachedProcess.take_over(crashed.connection_file, epoch=None)
    process.let_go()
    process.close()
    process.let_go()
    assert (crashed.directory / "host.json").read_text() == record
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert crashed.kernel_lives()


def test_its_end_makes_the_pidfd_readable(crashed: Host) -> None:
    import select

    process = AttachedProcess.take_over(crashed.connection_file, epoch=None)
    assert process.pidfd is not None
    poll = select.poll()
    poll.register(process.pidfd, select.POLLIN)
    assert poll.poll(0) == []
    os.kill(process.pid, signal.SIGKILL)
    assert [fd for fd, _ in poll.poll()] == [process.pidfd]
    assert process.exited()
    process.close()


ALONE = """
import os, sys
if sys.argv[1] == "no pidfd": del os.pidfd_open
if sys.argv[1] == "no group": import lash_nb.kernels.attached as module; module._WHOLE_GROUP = 1 << 30
from pathlib import Path
from lash_nb.kernels.attached import AttachedProcess
process = AttachedProcess.take_over(Path(sys.argv[2]), epoch=None)
assert (process.pidfd is None) == (sys.argv[1] == "no pidfd")
assert not process.exited()
process.interrupt()
while not process.exited(): pass
process.close()
"""


@pytest.mark.parametrize("system", ["no pidfd", "no group", "this one"])
def test_on_systems_with_less(crashed: Host, system: str) -> None:
    subprocess.run([sys.executable, "-c", ALONE, system, str(crashed.connection_file)], check=True)
    assert crashed.nothing_left()


@pytest.mark.parametrize("leader_first", [True, False])
def test_close_kills_the_kernels_children_too(leader_first: bool) -> None:
    with host("family") as family:
        family.kill()
        process = AttachedProcess.take_over(family.connection_file, epoch=None)
        if leader_first:
            os.kill(family.kernel, signal.SIGKILL)
            wait_for(process.exited)
            assert lives(family.child, None)
        process.close()
        wait_for(lambda: not lives(family.child, None))
        assert family.nothing_left()


def test_a_forked_child_can_neither_signal_nor_close_it(crashed: Host) -> None:
    process = AttachedProcess.take_over(crashed.connection_file, epoch=None)
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            process.kill()
            process.close()
        os._exit(0)
    os.waitpid(pid, 0)
    assert not process.exited()
    assert crashed.directory.exists()
    process.close()
    assert crashed.nothing_left()
