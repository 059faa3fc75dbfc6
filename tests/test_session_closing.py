"""The end of a session: each part of it is let go of, whatever becomes of the others and of whoever closes it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session


class Ending(ScriptedKernel):
    """Takes its time to end, or does not at first."""

    def __init__(self, *, fails: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.fails = fails
        self.ended = 0

    async def shutdown(self) -> None:
        await asyncio.sleep(0.2)
        if self.fails:
            self.fails -= 1
            raise RuntimeError("it lives on")
        await super().shutdown()
        self.ended += 1


class Closing(ScriptedModel):
    closes = 0
    fails = False

    async def aclose(self) -> None:
        self.closes += 1
        if self.fails:
            raise RuntimeError("the pool is stuck")
        await super().aclose()


class Opened:
    """A session that had a turn, with a kernel and a model of its own."""

    def __init__(self, state_dir: Path, kernel: Ending, patch: pytest.MonkeyPatch) -> None:
        self.kernel, self.state_dir = kernel, state_dir
        self.model = Closing(["Yes."])
        patch.setattr("lash_nb.session_parts.managed_kernel", lambda language, **around: kernel)
        self.session = Session(self.model, state_dir=state_dir, session_id="one")

    async def asked(self) -> Session:
        await self.session.run("Can you?")
        return self.session

    async def taken_up(self) -> int:
        """How many turns another session finds, which gets the journal."""
        async with Session.resume("one", kernel=ScriptedKernel(), state_dir=self.state_dir) as again:
            return len(again.turns)


async def test_a_close_that_is_cancelled_goes_on_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Opened(tmp_path, Ending(), monkeypatch)
    session = await opened.asked()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(session.aclose(), 0.05)
    assert (opened.kernel.ended, opened.kernel.alive, opened.model.closes) == (1, False, 1)
    assert await opened.taken_up() == 1
    await session.aclose()
    assert (opened.kernel.ended, opened.model.closes) == (1, 1)


async def test_two_who_close_at_once_wait_for_the_same_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Opened(tmp_path, Ending(), monkeypatch)
    session = await opened.asked()
    await asyncio.gather(session.aclose(), session.aclose())
    assert (opened.kernel.ended, opened.model.closes) == (1, 1)


async def test_a_model_that_cannot_be_closed_holds_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Opened(tmp_path, Ending(), monkeypatch)
    opened.model.fails = True
    session = await opened.asked()
    with pytest.raises(RuntimeError, match="stuck"):
        await session.aclose()
    assert opened.kernel.ended == 1
    await session.aclose()  # it is not asked twice
    assert opened.model.closes == 1
    assert await opened.taken_up() == 1


async def test_a_kernel_that_does_not_end_is_ended_by_the_next_close(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = Opened(tmp_path, Ending(fails=1), monkeypatch)
    session = await opened.asked()
    with pytest.raises(RuntimeError, match="lives on"):
        await session.aclose()
    assert (opened.kernel.ended, opened.model.closes) == (0, 1)
    assert await opened.taken_up() == 1  # the journal was let go of nevertheless
    await session.aclose()
    assert opened.kernel.ended == 1
