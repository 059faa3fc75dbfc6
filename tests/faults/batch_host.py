"""A host whose model makes five calls at once, killed from outside: `python -m tests.faults.batch_host LOG STATE`.

Each tool writes its name to LOG when it begins. Two end at once; the others never do.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable
from pathlib import Path

from lash_nb import ScriptedKernel, Session
from lash_nb.models import ModelTraits
from lash_nb.models.scripted import ScriptedModel, calling
from lash_nb.toolkits import Tool
from lash_nb.toolkits.functions import function_tool, tool

__all__ = ["NAMES", "model", "tools_of"]

NAMES = ("one", "pay", "look", "two", "send")
_END_AT_ONCE = ("one", "two")
_SAFE = ("look",)


def model() -> ScriptedModel:
    """Makes the five calls, then answers."""
    calls = calling(*((name, {}, f"id_{name}") for name in NAMES))
    return ScriptedModel({1: [calls, "All told."]}, traits=ModelTraits(protocol="tools"))


def tools_of(log: Path, *, hang: bool) -> dict[str, Tool]:
    """The five; with `hang`, those that do not end at once do not end at all."""
    return {name: function_tool(name, tool(_tool(name, log, hang), safe=name in _SAFE)) for name in NAMES}


def _tool(name: str, log: Path, hang: bool) -> Callable[[], object]:
    async def call() -> str:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(descriptor, f"{name}\n".encode())
        os.close(descriptor)
        if hang and name not in _END_AT_ONCE:
            await asyncio.Event().wait()
        return name

    return call


async def _run(log: Path, state: Path) -> None:
    tools = tools_of(log, hang=True)
    async with Session(
        model(), kernel=ScriptedKernel(), tools=tools, state_dir=state, session_id="batch", protocol="tools"
    ) as session:
        await session.run("All five.")


if __name__ == "__main__":
    asyncio.run(_run(Path(sys.argv[1]), Path(sys.argv[2])))
