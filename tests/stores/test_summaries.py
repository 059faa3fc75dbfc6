"""What a stored turn says about itself, read from the copies that a session makes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.execution import FinishValue
from lash_nb.machine.outcomes import Finished, TurnStopReason
from lash_nb.machine.state import TurnCheckpoint
from lash_nb.session import Limits
from lash_nb.stores.envelopes import open_checkpoint
from lash_nb.stores.notebook import read_block, verify_chain
from lash_nb.stores.summaries import TurnSummary, summarize


def cell(code: str, prose: str = "I try.") -> str:
    return f"{prose}\n<lash-cell>\n{code}\n</lash-cell>"


async def blocks_of(place: Path, replies: list[str], *requests: str, **options: Any) -> list[dict[str, Any]]:
    """Every block that a session hands out while it answers the requests."""
    blocks: list[dict[str, Any]] = []
    kernel = ScriptedKernel(lambda code: ScriptedCell(finish=FinishValue(value=[1]) if "finish" in code else None))
    async with Session(
        model=ScriptedModel(replies),
        kernel=kernel,
        session_id="s",
        state_dir=place,
        on_block=lambda block, final: blocks.append(block),
        **options,
    ) as session:
        for request in requests:
            await session.run(request, raise_on_failure=False)
    return blocks


def summaries(block: dict[str, Any]) -> list[TurnSummary]:
    found = read_block({"lash_nb": block})
    assert found is not None
    verify_chain(found)
    out: list[TurnSummary] = []
    before: TurnCheckpoint | None = None
    for place, envelope in found.placed():
        checkpoint = open_checkpoint(envelope, place=place)
        out.append(summarize(checkpoint, session=envelope["session"], turn=envelope["turn"], before=before))
        before = checkpoint
    return out


async def test_finished_turns(tmp_path: Path) -> None:
    replies = [cell("a = 1"), cell("b = 2"), "It is 3.", cell("finish([1])"), "Nothing to do."]
    blocks = await blocks_of(tmp_path, replies, "Add them.", "As a list.", "Thanks.")
    first, second, third = summaries(blocks[-1])
    assert (first.id, first.request, first.text) == ("s.1", "Add them.", "It is 3.")
    assert [code.strip() for code in first.code] == ["a = 1", "b = 2"]
    assert (first.value, first.steps, first.stop) == (None, 3, None)
    assert isinstance(first.outcome, Finished)
    assert (second.id, second.request, second.value, second.text) == ("s.2", "As a list.", [1], "[1]")
    assert ([code.strip() for code in second.code], second.steps) == (["finish([1])"], 1)
    assert (third.request, third.text, third.code, third.steps) == ("Thanks.", "Nothing to do.", (), 1)


async def test_a_turn_in_progress_is_the_head(tmp_path: Path) -> None:
    blocks = await blocks_of(tmp_path, [cell("a = 1"), "Done.", cell("b = 2"), "Done."], "One.", "Two.")
    midway = [summaries(block) for block in blocks if block["head"] and block["turns"]]
    assert midway
    assert all(turns[-1].outcome is None and turns[-1].request == "Two." for turns in midway)
    assert any([code.strip() for code in turns[-1].code] == ["b = 2"] for turns in midway)


async def test_a_turn_that_hit_a_bound(tmp_path: Path) -> None:
    blocks = await blocks_of(tmp_path, [cell("a = 1"), cell("b = 2")] * 2, "Go on.", limits=Limits(max_steps=1))
    (turn,) = summaries(blocks[-1])
    assert turn.stop is TurnStopReason.MAX_TURNS
    assert turn.text == "I try."
    assert turn.steps == 2
