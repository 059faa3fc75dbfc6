"""Hosts that can be killed: each starts one kernel, says where it is, and waits. And how to talk to such a kernel."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient

from lash_nb.kernels.environment import kernel_environment
from lash_nb.kernels.guardian import lives
from lash_nb.kernels.process import KernelProcess
from lash_nb.kernels.rundir import RuntimeDirectory

IPYKERNEL = (sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}", "--HistoryManager.enabled=False")
BASH = (sys.executable, "-m", "bash_kernel", "-f", "{connection_file}")


def environment() -> dict[str, str]:
    return kernel_environment(os.environ, parent_pid=os.getpid())


def launch(*argv: str, has_inside: bool = True, ttl_s: float = 1800.0) -> KernelProcess:
    return KernelProcess(
        argv=argv, cwd=None, env=environment(), has_inside=has_inside, orphan_ttl_s=ttl_s, language="python"
    )


@contextlib.contextmanager
def talking_to(connection_file: Path) -> Iterator[BlockingKernelClient]:
    client = BlockingKernelClient()
    client.load_connection_file(str(connection_file))
    client.start_channels()
    try:
        client.wait_for_ready(timeout=50)
        yield client
    finally:
        client.stop_channels()


def execute(client: BlockingKernelClient, code: str) -> str:
    """What the cell prints; AssertionError when it fails."""
    said: list[str] = []

    def take(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            said.append(message["content"]["text"])

    reply = client.execute_interactive(code, output_hook=take, timeout=50)
    assert reply["content"]["status"] == "ok", reply["content"]
    return "".join(said).strip()


def install_watchdog(client: BlockingKernelClient, ttl_s: float) -> None:
    """Alone, as the bootstrap would: `inside` is what it is given."""
    source = (files("lash_nb.kernels.inside") / "watchdog.py").read_text("utf-8")
    execute(
        client,
        "from types import SimpleNamespace\n"
        "ledger = SimpleNamespace(running=None, idle_since=0.0)\n"
        f"inside = SimpleNamespace(options={{'orphan_ttl_s': {ttl_s}}}, ledger=ledger)\n"
        f"m = {{'__name__': 'lash_nb_watchdog'}}\nexec(compile({source!r}, '<watchdog>', 'exec'), m)\n"
        "m['install'](get_ipython(), inside)\nassert inside.host_lives()",
    )


class Host:
    """A process that has started a kernel; `kill` crashes it."""

    def __init__(self, kind: str, *, ttl_s: float = 1800.0) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "tests.kernels.hosts", kind, str(ttl_s)], stdout=subprocess.PIPE, text=True
        )
        assert self.popen.stdout is not None
        told = json.loads(self.popen.stdout.readline())
        self.pid = self.popen.pid
        self.kernel: int = told["pid"]
        self.started: int = told["started"]
        self.epoch: str = told["epoch"]
        self.child: int = told["child"]
        self.connection_file = Path(told["connection_file"])
        self.directory = self.connection_file.parent

    def kill(self) -> None:
        self.popen.kill()
        self.popen.wait()

    def kernel_lives(self) -> bool:
        return lives(self.kernel, self.started)

    def nothing_left(self) -> bool:
        return not self.kernel_lives() and not self.directory.exists()

    def swept(self) -> bool:
        """Whether a sweep removes it; a dead process's last thread may hold its locks for a moment longer."""
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.directory, (0, 0))
        RuntimeDirectory.sweep()
        return self.nothing_left()

    def close(self) -> None:
        self.kill()
        assert self.popen.stdout is not None
        self.popen.stdout.close()


@contextlib.contextmanager
def host(kind: str, *, ttl_s: float = 1800.0) -> Iterator[Host]:
    started = Host(kind, ttl_s=ttl_s)
    try:
        yield started
    finally:
        started.close()


def wait_for(true: Callable[[], object]) -> None:
    """Bounded by the test's own timeout."""
    while not true():
        time.sleep(0.02)


def main(kind: str, ttl_s: float) -> None:
    child = 0
    match kind:
        case "sleep":  # a kernel only by its files
            process = launch("sleep", "100")
        case "forked":  # with a child of its own that lives on
            process = launch("sleep", "100")
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                os.write(writer, b"here")
            else:
                os.read(reader, 4)
        case "family":
            process = launch("sh", "-c", "sleep 100 & echo $!; exec sleep 100")
            wait_for(process.log_tail)
            child = int(process.log_tail())
        case "starting":  # not yet watched from inside
            process = launch(*IPYKERNEL)
            with talking_to(process.connection_file):
                pass
        case "python":
            process = launch(*IPYKERNEL)
            with talking_to(process.connection_file) as client:
                install_watchdog(client, ttl_s)
        case "guarded":
            process = launch("sleep", "100", has_inside=False, ttl_s=ttl_s)
        case "bash":
            process = launch(*BASH, has_inside=False, ttl_s=ttl_s)
        case _:
            raise ValueError(kind)
    if kind != "forked" or child:
        record = json.loads((process.directory / "kernel.json").read_text())
        told = {"connection_file": str(process.connection_file), "child": child, **record}
        print(json.dumps(told), flush=True)
    time.sleep(100)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
