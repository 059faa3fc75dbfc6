"""The guardian of a kernel of another language: it passes signals and the end on, and the crash of a host is no end."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from lash_nb.kernels.attached import AttachedProcess
from lash_nb.kernels.guardian import lives, start_time

from .hosts import BASH, execute, host, launch, talking_to, wait_for


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(
    ("script", "ending"),
    [
        ("exit 0", "ended with exit status 0"),
        ("exit 3", "ended with exit status 3"),
        ("kill -TERM $$", "was killed by signal 15 (SIGTERM)"),
        ("kill -SEGV $$", "was killed by signal 11 (SIGSEGV)"),
        ("kill -KILL $$", "was killed by signal 9 (SIGKILL)"),
    ],
)
def test_it_ends_as_the_kernel_does(script: str, ending: str) -> None:
    process = launch("sh", "-c", script, has_inside=False)
    try:
        wait_for(process.exited)
        assert process.ending() == ending
    finally:
        process.close()


def test_an_interrupt_is_the_kernels() -> None:
    script = "trap 'echo caught; exit 7' INT; echo ready; while :; do sleep 0.05; done"
    process = launch("sh", "-c", script, has_inside=False)
    try:
        wait_for(process.log_tail)
        process.interrupt()
        wait_for(process.exited)
        assert process.ending() == "ended with exit status 7"
        assert process.log_tail() == "ready\ncaught"
    finally:
        process.close()


def test_the_kernel_starts_with_the_signals_and_files_of_a_new_process() -> None:
    script = "grep -E 'Sig(Blk|Ign)' /proc/self/status; readlink /proc/$$/fd/*"
    process = launch("sh", "-c", script, has_inside=False)
    try:
        wait_for(process.exited)
        log = str(process.directory / "log")
        none = "0000000000000000"
        assert process.log_tail().split() == ["SigBlk:", none, "SigIgn:", none, "/dev/null", log, log]
    finally:
        process.close()


def test_killed_alone_it_takes_the_kernel_with_it() -> None:
    process = launch("sleep", "100", has_inside=False)
    try:
        wait_for(lambda: children_of(process.pid))
        (kernel,) = children_of(process.pid)
        wait_for(lambda: b"sleep" in Path(f"/proc/{kernel}/cmdline").read_bytes())
        os.kill(process.pid, signal.SIGKILL)
        wait_for(lambda: not lives(kernel, None))
    finally:
        process.close()


@pytest.mark.parametrize("ttl_s", [0.0, 0.6])
def test_without_a_host_it_ends_everything_in_time(ttl_s: float) -> None:
    with host("guarded", ttl_s=ttl_s) as crashed:
        wait_for(lambda: children_of(crashed.kernel))
        (kernel,) = children_of(crashed.kernel)
        crashed.kill()
        wait_for(crashed.nothing_left)
        wait_for(lambda: not lives(kernel, None))


def test_another_host_keeps_the_kernel() -> None:
    with host("guarded", ttl_s=2.0) as crashed:
        crashed.kill()
        process = AttachedProcess.take_over(crashed.connection_file, epoch=crashed.epoch)
        assert not process.has_inside
        wait_for(lambda: children_of(process.pid))
        os.kill(children_of(process.pid)[0], signal.SIGTERM)  # it ends as before
        wait_for(process.exited)
        process.close()
        assert crashed.nothing_left()


def test_the_second_host_may_crash_too() -> None:
    with host("guarded", ttl_s=0.0) as first, host("sleep") as second:
        try:
            # the second host as far as the records say: the guardian goes by them alone
            record = {"pid": second.pid, "started": start_time(second.pid)}
            (first.directory / "host.json").write_text(json.dumps(record))
            first.kill()
            time.sleep(0.6)  # a few looks at the records
            assert first.kernel_lives()
            second.kill()
            wait_for(first.nothing_left)
        finally:
            second.kill()
            AttachedProcess.take_over(second.connection_file, epoch=None).close()


def test_a_kernel_that_ends_without_a_host_leaves_nothing() -> None:
    with host("guarded") as crashed:
        wait_for(lambda: children_of(crashed.kernel))
        crashed.kill()
        os.kill(children_of(crashed.kernel)[0], signal.SIGTERM)
        wait_for(crashed.nothing_left)


def test_a_real_kernel_outlives_its_host() -> None:
    with host("bash") as crashed:
        with talking_to(crashed.connection_file) as client:
            assert execute(client, "answer=42; echo set") == "set"
        crashed.kill()
        process = AttachedProcess.take_over(crashed.connection_file, epoch=crashed.epoch)
        try:
            with talking_to(process.connection_file) as client:
                assert execute(client, "echo $answer") == "42"
        finally:
            process.close()
        assert crashed.nothing_left()


def test_a_real_kernel_is_interrupted() -> None:
    process = launch(*BASH, has_inside=False)
    try:
        with talking_to(process.connection_file) as client:
            message = client.execute("echo begun; sleep 100")
            while client.get_iopub_msg(timeout=50)["msg_type"] != "stream":
                pass
            process.interrupt()
            while client.get_shell_msg(timeout=50)["parent_header"]["msg_id"] != message:
                pass
            assert execute(client, "echo still here") == "still here"
        assert not process.exited()
    finally:
        process.close()
