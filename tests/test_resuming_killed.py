"""A host that is killed at some points of a whole session (a few of those of `tests.faults.kill`), and resumed."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.timeout(200)  # the first test waits for all that is made for the others

POINTS = (
    "turn 1: write answer 5 torn",  # a model's answer, half on the disk: it is asked again
    "turn 1: cell 7 after",  # a cell has ended, and the journal does not know
    "turn 2: write end before",
    "turn 3: tool look after",  # a tool has run, and the journal does not know: it is not called again
    "turn 4: perform LlmCall 2 before",  # the model knows the kernel's variables
)


@pytest.fixture(scope="module")
def figures() -> dict[str, Any]:
    """Of all variants; in a process of its own, which forks hosts and so must not have threads."""
    command = [sys.executable, "-m", "tests.faults.kill", "--json", "--random", "0"]
    command += [argument for point in POINTS for argument in ("--at", point)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150)
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""  # each problem is a line there
    found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return found


@pytest.mark.parametrize("variant", ["journal", "notebook", "kernel"])
def test_a_killed_host_loses_and_doubles_nothing(figures: dict[str, Any], variant: str) -> None:
    seen = figures["variants"][variant]
    assert (seen["points"], seen["killed"]) == (len(POINTS), len(POINTS))
    assert (seen["lost"], seen["doubled"]) == (0, 0)


@pytest.mark.parametrize("variant", ["journal", "notebook", "kernel"])
def test_of_a_tool_call_that_had_begun_it_is_said_that_nobody_knows(figures: dict[str, Any], variant: str) -> None:
    assert figures["variants"][variant]["unknown_said"] in (1, 2)  # the other call may have begun, too
