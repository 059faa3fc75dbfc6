"""Where tests pull weights to: a cache of their own, and an environment that names nothing but loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from lash_nb.models.fetching import Progress

from .made_up import TRACE_VARIABLE

__all__ = ["Notes", "files_below", "pull_in_a_process", "surroundings"]

ENDED_BY = {signal.SIGINT: -2, signal.SIGKILL: -9, signal.SIGTERM: -15}

_PULL = """
import sys
from lash_nb.models.fetching import pull
from tests.models.made_up import WEIGHTS
print(pull(WEIGHTS, source=sys.argv[1]))
"""


def surroundings(directory: Path, *, index: str = "", hub: str = "") -> dict[str, str]:
    """An environment; the index and the hub that it does not get answer nobody (port 9 of loopback)."""
    unwanted = ("PIP_", "HF_", "LASH_NB_", "HUGGING")
    env = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return env | {
        "LASH_NB_CACHE_DIR": str(directory),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": f"{index or 'http://127.0.0.1:9'}/simple/",
        "HF_ENDPOINT": hub or "http://127.0.0.1:9",
        "HF_HOME": str(directory / "of-the-hub"),
        TRACE_VARIABLE: str(directory / "trace"),
    }


def pull_in_a_process(source: str, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """A pull of the made-up weights, to be interrupted."""
    return subprocess.Popen(
        [sys.executable, "-c", _PULL, source], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def files_below(directory: Path) -> set[str]:
    """Every file, relative to the directory."""
    return {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}


class Notes:
    """An `on_progress` that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.done: list[int] = []

    def __call__(self, progress: Progress) -> None:
        if progress.note:
            self.said.append(progress.note)
        else:
            self.done.append(progress.done_bytes)
