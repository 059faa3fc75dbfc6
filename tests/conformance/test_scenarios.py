"""The reference's scenarios, compared strictly: `1` is not `1.0`, null is not absent, arrays keep their order."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lash_nb.machine.state import TurnCheckpoint

from .player import Player

HERE = Path(__file__).parent
SCENARIOS = sorted((HERE / "scenarios").glob("*.json"))
RAW_CHECKPOINTS = (HERE / "raw_checkpoints.jsonl").read_text(encoding="utf-8").split("\n")


def strict(value: Any) -> Any:
    """The value with every scalar's type beside it, so that `==` tells 1, 1.0 and True apart."""
    if isinstance(value, dict):
        return {key: strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [strict(item) for item in value]
    return (type(value).__name__, value)


def test_there_are_scenarios() -> None:
    assert len(SCENARIOS) == 95


@pytest.mark.parametrize("path", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(path: Path) -> None:
    golden = json.loads(path.read_text(encoding="utf-8"))
    player = Player()
    for index, (operation, expected) in enumerate(zip(golden["scenario"], golden["transcript"], strict=True)):
        answer = json.loads(json.dumps(player.play(operation)))
        assert strict(answer) == strict(expected), f"operation {index}: {operation['op']}"


@pytest.mark.parametrize("text", [line for line in RAW_CHECKPOINTS if line])
def test_raw_checkpoint_byte_for_byte(text: str) -> None:
    assert TurnCheckpoint.from_text(text).to_text() == text
