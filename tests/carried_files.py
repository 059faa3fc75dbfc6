"""A notebook's file and the sessions that are had in it, on one machine or on several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.stores.notebook import METADATA_KEY, following, read_block, verify_chain

from .left_sessions import script

__all__ = ["REPLIES", "File", "begun", "gone_on", "options", "texts"]

REPLIES = {1: ["One."], 2: ["Two."], 3: ["Three."], 4: ["Four."], 5: ["Five."]}


class File:
    """A notebook's file that takes whatever block a session gives."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.block: dict[str, Any] | None = None

    def take(self, block: dict[str, Any], final: bool) -> None:
        self.block = following(self.block, block)
        metadata = {METADATA_KEY: self.block}
        self.path.write_text(json.dumps({"cells": [], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))

    def take_head(self, block: dict[str, Any], final: bool) -> None:
        """As of a process that ended before its turn did."""
        if not final:
            self.take(block, final)

    def copied(self, path: Path) -> File:
        """Another file of the same content."""
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(self.path.read_bytes())
        copy = File(path)
        copy.block = json.loads(path.read_text())["metadata"][METADATA_KEY]
        return copy

    @property
    def turns(self) -> list[int]:
        block = read_block({METADATA_KEY: self.block} if self.block is not None else {})
        assert block is not None
        verify_chain(block)
        return [envelope["turn"] for envelope in block.turns]


def options(file: File, state_dir: Path) -> dict[str, Any]:
    return {
        "model": ScriptedModel(REPLIES),
        "kernel": ScriptedKernel(script()),
        "state_dir": state_dir,
        "notebook": file.path,
        "on_block": file.take,
    }


async def begun(file: File, state_dir: Path, *requests: str) -> str:
    """A session in that notebook; its id."""
    async with Session(session_id="one", **options(file, state_dir)) as session:
        for request in requests:
            await session.run(request)
        return session.id


async def gone_on(file: File, state_dir: Path, *requests: str) -> Session:
    async with Session.resume(file.path, **options(file, state_dir)) as session:
        for request in requests:
            await session.run(request)
    return session


def texts(session: Session) -> list[str]:
    return [turn.text for turn in session.turns]
