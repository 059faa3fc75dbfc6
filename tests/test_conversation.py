"""What a session hands on to its notebook of turns that an earlier process finished."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.conversation import Conversation
from lash_nb.following import read_session
from lash_nb.recorded import RecordedSession, protocol_of
from lash_nb.stores.blobs import MemoryBlobStore
from lash_nb.stores.notebook import read_block, verify_chain

from .conversations import Blocks


async def session_of_three(state_dir: Path, *, other: int | None) -> RecordedSession:
    """Three turns; the envelope of the one at `other` cannot be made as it was."""
    model = ScriptedModel({number: ["Done."] for number in (1, 2, 3)})
    async with Session(model, kernel=ScriptedKernel({}), state_dir=state_dir, session_id="one") as session:
        for _ in range(3):
            await session.run("?")
    recorded = read_session(state_dir, "one")
    for at, turn in enumerate(recorded.turns):
        assert turn.chain is not None
        if at == other:
            recorded.turns[at] = replace(turn, chain={**turn.chain, "sha256": "0" * 64})
        elif at - 1 == other:
            recorded.turns[at] = replace(turn, chain={**turn.chain, "parent": "0" * 64})
    return recorded


@pytest.mark.parametrize(
    ("other", "referred"), [(None, []), (0, [1]), (1, [2]), (2, [3])], ids=["none", "first", "second", "last"]
)
async def test_the_chain_that_is_handed_on_is_whole(other: int | None, referred: list[int], tmp_path: Path) -> None:
    """What cannot be made again as it was is referred to, in its place."""
    recorded = await session_of_three(tmp_path, other=other)
    blocks = Blocks()
    conversation = Conversation("one", engine="test", on_block=blocks)
    conversation.restore(recorded, store=MemoryBlobStore())
    checkpoint = recorded.turns[-1].checkpoint
    assert checkpoint is not None
    for number in (4, 4):  # the second one is made when it is known what could not be
        head = conversation.envelope(number, checkpoint, protocol_of("code"))
        assert head is not None
        conversation.publish(head)
        block = read_block({"lash_nb": blocks.blocks[-1]})
        assert block is not None
        verify_chain(block)
        assert [envelope["turn"] for envelope in block.turns] == [1, 2, 3]
        assert [envelope["turn"] for envelope in block.turns if "ref" in envelope] == referred
        assert block.head is not None
        assert block.head["parent"] == block.turns[-1]["sha256"]
    conversation.publish(None)
    block = read_block({"lash_nb": blocks.blocks[-1]})
    assert block is not None
    verify_chain(block)
    assert [envelope["turn"] for envelope in block.turns] == [1, 2, 3]
    assert block.head is None
