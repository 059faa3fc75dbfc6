"""A host that is killed in the middle of a batch of five: two calls have ended, three are being made."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from lash_nb import Session
from lash_nb.machine.llm import ToolResultBlock
from lash_nb.models.scripted import ScriptedModel
from tests.conftest import ROOT
from tests.faults.batch_host import NAMES, model, tools_of

pytestmark = pytest.mark.timeout(120)


def made(log: Path) -> list[str]:
    return log.read_text(encoding="utf-8").split() if log.exists() else []


def journaled(state: Path) -> int:
    """How many calls the journal holds the end of."""
    return sum(path.read_bytes().count(b'"k":"called"') for path in state.rglob("*") if path.is_file())


def killed(tmp_path: Path) -> tuple[Path, Path]:
    """The log and the state directory of a host that was killed once two of its five calls were recorded."""
    log, state = tmp_path / "calls.log", tmp_path / "state"
    command = [sys.executable, "-m", "tests.faults.batch_host", str(log), str(state)]
    host = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        gives_up_at = time.monotonic() + 60
        while len(made(log)) < 5 or journaled(state) < 2:
            assert host.poll() is None, host.stderr and host.stderr.read()
            assert time.monotonic() < gives_up_at
            time.sleep(0.02)
    finally:
        os.kill(host.pid, signal.SIGKILL)
        host.communicate()
    return log, state


def results(answers: ScriptedModel) -> dict[str, str]:
    """What the model was told of each call."""
    told = [block for message in answers.requests[0].messages for block in message.blocks]
    return {str(block.tool_name): block.content for block in told if isinstance(block, ToolResultBlock)}


async def test_the_two_that_ended_are_not_made_again_and_of_the_rest_only_the_safe_one(tmp_path: Path) -> None:
    log, state = killed(tmp_path)
    assert Counter(made(log)) == dict.fromkeys(NAMES, 1)
    answers = ScriptedModel({1: ["", "All told."]})
    async with Session.resume("batch", model=answers, state_dir=state, tools=tools_of(log, hang=False)) as session:
        outstanding = await session.outstanding()
        assert outstanding is not None
        assert "safe" in outstanding.sentence
        turn = await session.resume_turn()
    assert Counter(made(log)) == {**dict.fromkeys(NAMES, 1), "look": 2}
    assert turn.text == "All told."
    told = results(answers)
    assert [told[name] for name in ("one", "two", "look")] == [f"~~~\n{name}\n~~~" for name in ("one", "two", "look")]
    for name in ("pay", "send"):
        assert "whether it took effect is not known, and it was not made again" in told[name]


async def test_what_was_recorded_answers_again_after_a_second_resume(tmp_path: Path) -> None:
    log, state = killed(tmp_path)
    async with Session.resume("batch", model=model(), state_dir=state, tools=tools_of(log, hang=False)) as session:
        await session.resume_turn()
    assert json.dumps(sorted(Counter(made(log)).items())) == json.dumps(
        [["look", 2], ["one", 1], ["pay", 1], ["send", 1], ["two", 1]]
    )
    async with Session.resume("batch", model=model(), state_dir=state, tools=tools_of(log, hang=False)) as session:
        assert await session.outstanding() is None
        assert session.turns[0].text == "All told."
