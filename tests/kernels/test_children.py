"""The processes that a kernel's code started: found by descent and by mark, ended for good, and no stranger is."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lash_nb.kernels import children
from lash_nb.kernels.children import CellChildren, begun_since, descendants, marked, signal_all, ticks

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[subprocess.Popen[str]] = []

    def start(code: str, **env: str) -> subprocess.Popen[str]:
        popen = subprocess.Popen(
            [sys.executable, "-I", "-c", code], text=True, stdout=subprocess.PIPE, env={**os.environ, **env}
        )
        started.append(popen)
        return popen

    yield start
    for popen in started:
        popen.kill()
        popen.communicate()


def line(popen: subprocess.Popen[str]) -> str:
    assert popen.stdout is not None
    return popen.stdout.readline().strip()


SLEEPS = "import time; print('up', flush=True); time.sleep(60)"
STARTS_ONE = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-I', '-c', 'import time; time.sleep(60)'])
print(child.pid, flush=True)
time.sleep(60)
"""
FROM_A_THREAD = """
import subprocess, sys, threading, time
def run():
    print(subprocess.Popen([sys.executable, '-I', '-c', 'import time; time.sleep(60)']).pid, flush=True)
    time.sleep(60)
threading.Thread(target=run).start()
"""
DEAF = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)
"""
DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    os.environ.clear()
    print(os.getpid(), flush=True); os.close(1); time.sleep(60)
os.wait(); time.sleep(60)
"""


@pytest.mark.parametrize("code", [STARTS_ONE, FROM_A_THREAD])
def test_children_of_children_are_found(start: Start, code: str) -> None:
    popen = start(code)
    child = int(line(popen))
    assert child in descendants(popen.pid)
    assert {popen.pid, child} <= descendants(os.getpid()).keys()
    assert os.getpid() not in descendants(popen.pid)
    os.kill(child, signal.SIGKILL)


def test_where_linux_does_not_list_children_their_parents_are_asked(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = start(STARTS_ONE)
    child = int(line(popen))
    monkeypatch.setattr(children, "_children", lambda pid: None)
    assert descendants(popen.pid).keys() == {child}
    os.kill(child, signal.SIGKILL)


def test_a_process_that_has_ended_has_none(start: Start) -> None:
    popen = start("pass")
    popen.wait()
    assert descendants(popen.pid) == {}


def test_only_what_began_later_is_a_cells(start: Start) -> None:
    early = start(SLEEPS)
    line(early)
    time.sleep(0.03)
    sent = ticks()
    late = start(SLEEPS)
    line(late)
    found = begun_since(os.getpid(), sent)
    assert late.pid in found
    assert early.pid not in found


def test_the_deaf_are_killed_and_those_of_another_start_are_not(start: Start) -> None:
    deaf, other = start(DEAF), start(SLEEPS)
    assert (line(deaf), line(other)) == ("up", "up")
    found = {pid: started for pid, started in descendants(os.getpid()).items() if pid in (deaf.pid, other.pid)}
    found[other.pid] += 1  # as if its id had been used again
    assert signal_all(found, signal.SIGTERM).keys() == {deaf.pid}
    time.sleep(0.1)
    assert signal_all(found, signal.SIGKILL).keys() == {deaf.pid}
    assert deaf.wait(5) == -signal.SIGKILL
    assert signal_all(found, signal.SIGKILL) == {}
    assert other.poll() is None


def test_what_an_interrupted_cell_started_ends_and_what_earlier_ones_did_stays(start: Start) -> None:
    cells = CellChildren(os.getpid())
    cells.sent()
    early = start(SLEEPS)
    line(early)
    cells.ended(1.0)
    assert cells.tick(1.0) is None
    cells.sent()
    quick, deaf = start(SLEEPS), start(DEAF)
    assert (line(quick), line(deaf)) == ("up", "up")
    cells.interrupting(10.0)
    late = start(SLEEPS)  # while it comes to its end
    line(late)
    cells.ended(10.1)
    cells.sent()
    following = start(SLEEPS)
    line(following)
    assert cells.tick(10.4) == 10.5
    assert cells.tick(10.5) == 11.0
    assert (quick.wait(5), late.wait(5), deaf.poll()) == (-signal.SIGTERM, -signal.SIGTERM, None)
    assert cells.tick(11.0) is None
    assert deaf.wait(5) == -signal.SIGKILL
    assert (early.poll(), following.poll()) == (None, None)


def test_what_was_stopped_goes_on(start: Start) -> None:
    popen = start("import time\nwhile True: print('x', flush=True); time.sleep(.05)")
    line(popen)
    os.kill(popen.pid, signal.SIGSTOP)
    assert os.WIFSTOPPED(os.waitpid(popen.pid, os.WUNTRACED)[1])
    CellChildren(popen.pid).wake()
    assert os.WIFCONTINUED(os.waitpid(popen.pid, os.WCONTINUED)[1])


def test_a_daemon_is_known_by_its_mark(start: Start, tmp_path: Path) -> None:
    popen = start(DAEMON, LASH_NB_RUNTIME_DIR=str(tmp_path))
    daemon = int(line(popen))
    other = start(SLEEPS, LASH_NB_RUNTIME_DIR=f"{tmp_path}-2", OTHER=f"LASH_NB_RUNTIME_DIR={tmp_path}")
    line(other)
    try:
        assert daemon not in descendants(popen.pid)
        assert marked(str(tmp_path)) == sorted([popen.pid, daemon])
        assert marked(f"{tmp_path}-2") == [other.pid]
        assert marked(str(tmp_path / "nobody")) == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(daemon, signal.SIGKILL)
