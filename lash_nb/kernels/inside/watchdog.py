"""Ends the kernel, its children and its files when the host that started it is gone. Runs in the kernel.

ipykernel's own poller ends the process alone, and leaves the rest.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

POLL_S = 0.25


def install(shell: Any) -> None:
    """Watch the parent from a daemon thread. Option `parent`: the host's process id."""
    parent = globals()["OPTIONS"].get("parent")
    if os.getppid() != parent:
        raise RuntimeError("the kernel is not a child of its host")
    pid, directory = os.getpid(), os.environ.get("LASH_NB_RUNTIME_DIR")

    def watch() -> None:
        import shutil
        import signal

        while os.getppid() == parent:
            time.sleep(POLL_S)
        if os.getpid() == pid:
            if directory:
                shutil.rmtree(directory, ignore_errors=True)
            if os.getpgrp() == pid:
                os.killpg(pid, signal.SIGKILL)
            os._exit(1)

    threading.Thread(target=watch, name="lash_nb watchdog", daemon=True).start()
