"""What tests of sessions share: replies with a cell, what was sent to the model, what a session publishes."""

from __future__ import annotations

from typing import Any

from lash_nb import ScriptedModel
from lash_nb.machine.execution import StreamOutput
from lash_nb.machine.llm import TextBlock

__all__ = ["Blocks", "cell", "history", "last_message", "stdout"]


def cell(code: str, prose: str = "") -> str:
    return f"{prose}\n<lash-cell>\n{code}\n</lash-cell>"


def stdout(text: str) -> StreamOutput:
    return StreamOutput(name="stdout", head=text)


class Blocks:
    """Keeps what a session publishes."""

    def __init__(self) -> None:
        self.blocks: list[dict[str, Any]] = []

    def __call__(self, block: dict[str, Any], final: bool) -> None:
        self.blocks.append({**block, "turns": list(block["turns"])})


def last_message(model: ScriptedModel, request: int) -> str:
    block = model.requests[request].messages[-1].blocks[0]
    assert isinstance(block, TextBlock)
    return block.text


def history(model: ScriptedModel, request: int) -> list[str]:
    return [
        "\n".join(block.text for block in message.blocks if isinstance(block, TextBlock))
        for message in model.requests[request].messages[1:-1]
    ]
