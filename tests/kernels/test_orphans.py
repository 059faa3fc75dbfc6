"""A Python kernel whose host crashed: how long it lives on, and that nothing of it is left then."""

from __future__ import annotations

import os
import signal

import pytest

from lash_nb.kernels.attached import AttachedProcess
from lash_nb.kernels.guardian import lives
from lash_nb.kernels.rundir import flocked

from .hosts import execute, host, talking_to, wait_for

CHILD = "import subprocess; p = subprocess.Popen(['sleep', '100']); print(p.pid)"


def test_a_kernel_lives_on_when_its_host_is_killed() -> None:
    with host("python") as crashed:
        with talking_to(crashed.connection_file) as client:
            execute(client, "answer = 42")
        crashed.kill()
        with talking_to(crashed.connection_file) as client:  # ipykernel's own poller would end it in a second
            assert execute(client, "import time; time.sleep(1.5); print(answer)") == "42"
        process = AttachedProcess.take_over(crashed.connection_file, epoch=crashed.epoch)
        with talking_to(process.connection_file) as client:
            assert execute(client, "print(answer)") == "42"
        process.close()
        assert crashed.nothing_left()


@pytest.mark.parametrize("ttl_s", [0.0, 0.7])
def test_nothing_is_left_when_nobody_comes(ttl_s: float) -> None:
    with host("python", ttl_s=ttl_s) as crashed:
        with talking_to(crashed.connection_file) as client:
            child = int(execute(client, CHILD))
        crashed.kill()
        wait_for(crashed.nothing_left)
        wait_for(lambda: not lives(child, None))


def test_with_another_host_it_goes_on_until_that_one_goes() -> None:
    with host("python", ttl_s=1.5) as crashed:
        crashed.kill()
        process = AttachedProcess.take_over(crashed.connection_file, epoch=crashed.epoch)
        with talking_to(process.connection_file) as client:
            assert execute(client, "import time; time.sleep(2.5); print('here')") == "here"
        assert not process.exited()
        process.close()
        assert crashed.nothing_left()


def test_while_somebody_takes_it_over_it_does_not_end() -> None:
    """The lock is taken before `host.json` is written."""
    with host("python", ttl_s=1.0) as crashed:
        lock = os.open(crashed.directory / "lock", os.O_RDWR)
        try:
            crashed.kill()
            assert flocked(lock)
            with talking_to(crashed.connection_file) as client:
                assert execute(client, "import time; time.sleep(2); print('here')") == "here"
        finally:
            os.close(lock)
        wait_for(crashed.nothing_left)


def test_a_running_cell_is_left_to_end() -> None:
    with host("python", ttl_s=0.1) as crashed:
        with talking_to(crashed.connection_file) as client:
            execute(client, "ledger.running = 'a cell'")
            crashed.kill()
            assert execute(client, "import time; time.sleep(1); print(inside.host_lives())") == "False"
            client.execute("ledger.running = None")
        wait_for(crashed.nothing_left)


def test_time_counts_from_the_last_cells_end() -> None:
    with host("python", ttl_s=1.0) as crashed:
        with talking_to(crashed.connection_file) as client:
            execute(client, "import time\nledger.idle_since = time.monotonic() + 1.5")
            crashed.kill()
            assert execute(client, "time.sleep(2); print('here')") == "here"
        wait_for(crashed.nothing_left)


def test_agent_code_cannot_stop_the_watch() -> None:
    hostile = (
        "import os, shutil, threading, ctypes\n"
        "def refuse(*args, **kwargs): raise OSError('no')\n"
        "os.kill = os.killpg = os._exit = os.getpgrp = shutil.rmtree = refuse\n"
        "del os.environ['LASH_NB_RUNTIME_DIR']\n"
        "watch = next(t for t in threading.enumerate() if t.name == 'lash_nb watchdog')\n"
        "ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(watch.ident), ctypes.py_object(SystemExit))\n"
        "os.chdir('/')\n"
    )
    with host("python", ttl_s=0.0) as crashed:
        with talking_to(crashed.connection_file) as client:
            execute(client, hostile)
        crashed.kill()
        wait_for(crashed.nothing_left)


def test_what_the_agent_forks_neither_ends_the_kernel_nor_holds_its_lock() -> None:
    fork = (
        "import os, time\npid = os.fork()\nif pid == 0:\n    os.setsid()\n    time.sleep(100)\n    os._exit(0)\n"
        "import subprocess\n"
        "other = subprocess.Popen(['sleep', '100'], close_fds=False, start_new_session=True)\nprint(pid, other.pid)"
    )
    with host("python") as crashed:
        with talking_to(crashed.connection_file) as client:
            children = [int(pid) for pid in execute(client, fork).split()]
        try:
            crashed.kill()
            os.kill(crashed.kernel, signal.SIGKILL)
            wait_for(lambda: not crashed.kernel_lives())
            wait_for(crashed.swept)
            assert all(lives(pid, None) for pid in children)
        finally:
            for pid in children:
                os.kill(pid, signal.SIGKILL)


def test_a_host_that_crashes_before_the_set_up_leaves_no_kernel() -> None:
    with host("starting") as crashed:
        crashed.kill()
        wait_for(lambda: not crashed.kernel_lives())
        wait_for(crashed.swept)


def test_the_watchdog_keeps_the_log_bounded() -> None:
    with host("python") as crashed:
        log = crashed.directory / "log"
        with log.open("a") as file:
            file.write("x" * 2_000_000 + "the end")
        wait_for(lambda: log.stat().st_size == 8192)
        assert log.read_text().endswith("xthe end")
        crashed.kill()
        AttachedProcess.take_over(crashed.connection_file, epoch=None).close()
