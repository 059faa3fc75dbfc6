"""A kernel's process that this one started: its files, its locks, its log, its signals, its failures."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pytest

from lash_nb.errors import KernelStartError
from lash_nb.kernels.attached import AttachedProcess
from lash_nb.kernels.guardian import lives, start_time
from lash_nb.kernels.process import KernelProcess, RunningProcess
from lash_nb.kernels.rundir import RuntimeDirectory, flocked

from .hosts import Host, host, launch, wait_for


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def is_locked(path: Path) -> bool:
    fd = os.open(path, os.O_RDWR)
    try:
        return not flocked(fd)
    finally:
        os.close(fd)


def runtime_directories() -> set[Path]:
    first = RuntimeDirectory.create()
    try:
        return {path for path in first.path.parent.glob("lash-nb-kernel-*") if path != first.path}
    finally:
        first.remove()


def test_the_files_of_a_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LASH_NB_RUNTIME_DIR", raising=False)
    process: RunningProcess = KernelProcess(
        argv=["sleep", "100"], cwd=None, env={**os.environ}, language="sleepish", display_name="Sleep 1"
    )
    try:
        directory = process.directory
        names = {"alive", "connection.json", "host.json", "kernel.json", "lock", "log"}
        assert {path.name for path in directory.iterdir()} == {*names, "spill"}
        assert (mode(directory), mode(directory / "spill")) == (0o700, 0o700)
        assert {mode(directory / name) for name in names} == {0o600}
        assert json.loads((directory / "kernel.json").read_text()) == {
            "epoch": process.epoch,
            "pid": process.pid,
            "started": start_time(process.pid),
            "language": "sleepish",
            "display_name": "Sleep 1",
            "managed": True,
            "sandboxed": False,
            "group": None,
            "limits": [],
            "unmet": [],
            "bounds": {},
            "outer": None,
        }
        own = {"pid": os.getpid(), "started": start_time(os.getpid())}
        assert json.loads((directory / "host.json").read_text()) == own
        info = json.loads(process.connection_file.read_text())
        assert (info["transport"], info["ip"], info["shell_port"]) == ("ipc", f"{directory}/k", 1)
        assert process.endpoints.shell == f"ipc://{directory}/k-1"
        assert process.endpoints.key == info["key"].encode()
    finally:
        process.close()
    assert not directory.exists()


def test_two_kernels_are_two_epochs() -> None:
    first, second = launch("true"), launch("true")
    assert first.epoch != second.epoch
    first.close()
    second.close()


@pytest.mark.parametrize("has_inside", [True, False])
def test_the_kernels_lock_lives_as_long_as_the_kernel(has_inside: bool) -> None:
    process = launch("sleep", "100", has_inside=has_inside)
    try:
        assert is_locked(process.directory / "alive")
        assert is_locked(process.directory / "lock")
        os.kill(process.pid, signal.SIGKILL)
        wait_for(process.exited)
        wait_for(lambda: not is_locked(process.directory / "alive"))
        assert is_locked(process.directory / "lock")
    finally:
        process.close()


def test_how_it_ended() -> None:
    process = launch("sh", "-c", "echo last words >&2; exit 5")
    wait_for(process.exited)
    assert process.ending() == "ended with exit status 5"
    assert process.log_tail() == "last words"
    process.close()
    assert process.log_tail() == "last words"
    assert process.exited()
    process.close()
    process.interrupt()
    process.kill()


def test_an_interrupt_reaches_the_whole_group() -> None:
    process = launch("sh", "-c", "sh -c 'echo $$; exec sleep 100'; exit 3")
    try:
        wait_for(process.log_tail)
        child = int(process.log_tail())
        process.interrupt()
        wait_for(process.exited)
        wait_for(lambda: not lives(child, None))
        assert process.ending() == "was killed by signal 2 (SIGINT)"
    finally:
        process.close()


def test_what_the_kernel_leaves_behind_is_killed() -> None:
    process = launch("sh", "-c", "sleep 100 & echo $!")
    try:
        wait_for(process.exited)
        child = int(process.log_tail())
        assert lives(child, None)
        assert process.ending() == "ended with exit status 0"
        wait_for(lambda: not lives(child, None))
    finally:
        process.close()


def test_what_descends_from_it_ends_with_it_without_its_mark_too() -> None:
    process = launch("sh", "-c", "setsid env -i sh -c 'echo $$; exec sleep 100' & exec sleep 100")
    wait_for(process.log_tail)
    child = int(process.log_tail())
    assert os.getsid(child) != process.pid
    process.kill()
    process.close()
    assert not lives(child, None)


def test_a_kernel_whose_host_runs_in_a_kernel_ends_with_that(monkeypatch: pytest.MonkeyPatch) -> None:
    outer = launch("sleep", "100")
    monkeypatch.setenv("LASH_NB_RUNTIME_DIR", str(outer.directory))
    with host("sleep") as inner:
        assert inner.kernel_lives()
        outer.close()
        assert not inner.kernel_lives()
        assert not lives(inner.pid, None)
        assert inner.swept()


def test_a_kernel_whose_host_ran_in_a_kernel_and_crashed_ends_with_that(monkeypatch: pytest.MonkeyPatch) -> None:
    outer = launch("sleep", "100")
    monkeypatch.setenv("LASH_NB_RUNTIME_DIR", str(outer.directory))
    with host("sleep") as middle:
        monkeypatch.setenv("LASH_NB_RUNTIME_DIR", str(middle.directory))
        with host("sleep") as inner:
            inner.kill()
            middle.kill()
            assert middle.kernel_lives()
            assert inner.kernel_lives()
            outer.close()
            assert not middle.kernel_lives()
            assert not inner.kernel_lives()
            assert middle.swept()
            assert inner.swept()


def test_a_kernel_that_another_host_has_taken_over_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    outer = launch("sleep", "100")
    monkeypatch.setenv("LASH_NB_RUNTIME_DIR", str(outer.directory))
    inner = Host("sleep")
    inner.close()
    ours = AttachedProcess.take_over(inner.connection_file, epoch=inner.epoch)
    try:
        outer.close()
        assert not ours.exited()
    finally:
        ours.close()
    assert inner.nothing_left()


def test_the_log_is_bounded() -> None:
    process = launch("sh", "-c", "yes | head -c 3000000; echo the end")
    try:
        wait_for(process.exited)
        log = process.directory / "log"
        assert log.stat().st_size == 3_000_008
        tail = process.log_tail()
        assert len(tail) == 8191  # without the last newline
        assert tail.endswith("y\nthe end")
        process.trim_log()
        assert log.stat().st_size == 8192
        assert process.log_tail() == tail
        process.trim_log()
        assert log.stat().st_size == 8192
    finally:
        process.close()


@pytest.mark.parametrize(
    ("argv", "cwd", "has_inside", "said"),
    [
        (["no-such-program"], None, True, "no-such-program"),
        (["no-such-program"], None, False, "no-such-program"),
        (["true"], "no/such/directory", True, "no/such/directory"),
        (["true"], "no/such/directory", False, "no/such/directory"),
        (["true", "a\0b"], None, True, "null byte"),
    ],
)
def test_what_cannot_be_launched_leaves_nothing(
    argv: Sequence[str], cwd: str | None, has_inside: bool, said: str
) -> None:
    directories, descriptors = runtime_directories(), len(os.listdir("/proc/self/fd"))
    with pytest.raises(KernelStartError, match=said):
        KernelProcess(argv=argv, cwd=cwd, env={**os.environ}, has_inside=has_inside)
    assert runtime_directories() == directories
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_close_leaves_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    process = launch("sleep", "100")
    process.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_forked_child_can_neither_signal_nor_close_it() -> None:
    process = launch("sleep", "100")
    try:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                process.kill()
                process.close()
                code = 0 if process.directory.exists() and process.log_tail() == "" else 2
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert not process.exited()
        assert is_locked(process.directory / "lock")
    finally:
        process.close()


def test_the_sweep_removes_what_neither_host_nor_kernel_holds(tmp_path: Path) -> None:
    held = RuntimeDirectory.create()
    link = held.path.with_name("lash-nb-kernel-link")
    link.symlink_to(tmp_path)
    with host("sleep") as living, host("sleep") as dead, host("sleep") as young:
        for crashed in (living, dead, young):
            crashed.kill()
        for crashed in (dead, young):
            os.kill(crashed.kernel, signal.SIGKILL)
            wait_for(lambda one=crashed: not one.kernel_lives())  # type: ignore[misc]
        try:
            for path in (held.path, living.directory, dead.directory, link, tmp_path):
                os.utime(path, (0, 0), follow_symlinks=False)
            RuntimeDirectory.sweep()
            left = [path.exists() for path in (held.path, living.directory, dead.directory, young.directory, tmp_path)]
            assert left == [True, True, False, True, True]
        finally:
            link.unlink()
            os.kill(living.kernel, signal.SIGKILL)
            held.remove()
        wait_for(living.swept)
        wait_for(young.swept)
