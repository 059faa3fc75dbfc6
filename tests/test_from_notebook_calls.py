"""A batch that waits for approval, carried by a notebook alone: exact where its checkpoint bears out what is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedKernel, Session
from lash_nb.embedding import block_of
from lash_nb.errors import ApprovalNeeded
from lash_nb.following import read_session
from lash_nb.from_notebook import session_of_notebook
from lash_nb.machine.approvals import Decision, EffectKind
from lash_nb.machine.llm import LlmResponse
from lash_nb.machine.picture import PictureState
from lash_nb.models import ModelTraits
from lash_nb.models.scripted import ScriptedModel, calling

from .carried_files import File
from .test_batches import Desk, run_code, told

BATCH = calling(("look", {}, "a"), run_code("x = 1", "b"), ("pay", {"n": 1}, "c"), run_code("y = 2", "d"))


def scripted(batch: LlmResponse) -> ScriptedModel:
    return ScriptedModel({1: [batch, "Done."]}, traits=ModelTraits(protocol="tools"))


class Place:
    """A notebook whose turn was left waiting on one machine, and that is gone on with on another."""

    def __init__(self, place: Path, batch: LlmResponse = BATCH, *, source: str = "function") -> None:
        self.place, self.batch, self.source = place, batch, source
        self.file = File(place / "n.ipynb")
        self.there, self.here = Desk(), Desk()
        self.kernel_there, self.kernel_here = ScriptedKernel(), ScriptedKernel()

    async def left(self, *, approve: str = "effects") -> None:
        """The turn waits, and its notebook is all that is left of it."""
        async with Session(
            scripted(self.batch),
            kernel=self.kernel_there,
            tools=self._tools(self.there),
            state_dir=self.place / "there",
            session_id="one",
            approve=approve,
            notebook=self.file.path,
        ) as session:
            with pytest.raises(ApprovalNeeded):
                await session.run("Pay.")
        block = block_of(read_session(self.place / "there", "one"))
        assert block is not None
        self.file.take(block, True)

    def says(self, **asking: Any) -> None:
        """The notebook says something else of what waits."""
        block = self.file.block
        assert block is not None
        head = block["head"]
        # Its kernel had cells before, and is gone.
        resume = {
            **head["resume"],
            "kernels": {"python": "abcdef012345"},
            "asking": {**head["resume"]["asking"], **asking},
        }
        self.file.block = {**block, "head": {**head, "resume": resume}}
        metadata = {"lash_nb": self.file.block}
        self.file.path.write_text(json.dumps({"cells": [], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))

    def gone_on(self, model: ScriptedModel | None = None) -> Session:
        return Session.resume(
            self.file.path,
            model=model or scripted(self.batch),
            kernel=self.kernel_here,
            tools=self._tools(self.here),
            state_dir=self.place / "here",
        )

    def _tools(self, desk: Desk) -> dict[str, Any]:
        return {"look": desk.tool("look", "never"), "pay": replace(desk.tool("pay", "effects"), source=self.source)}


@pytest.mark.parametrize("source", ["function", "mcp:shop"])
async def test_before_a_call_of_the_models_own_nothing_had_begun(source: str, tmp_path: Path) -> None:
    place, model = Place(tmp_path, source=source), scripted(BATCH)
    await place.left()
    assert (place.there.made, place.kernel_there.ran) == ([], [])
    async with place.gone_on(model) as session:
        approval = session.pending
        assert approval is not None
        assert approval.wish is not None
        assert (approval.call_id, approval.wish.kind, approval.wish.target) == ("c", EffectKind.CALL, 'pay({"n":1})')
        recorded = session_of_notebook(place.file.path).running
        assert recorded is not None
        assert recorded.picture().state is PictureState.WAITING
        outstanding = await session.outstanding()
        assert outstanding is not None
        assert 'pay({"n":1})  # waits for your approval' in outstanding.detail
        assert "had begun" not in outstanding.detail
        assert session.decide(Decision.approve())
        turn = await session.resume_turn()
    assert sorted(place.here.made) == ["look[]", "pay[('n', 1)]"]
    assert [code for _, code in place.kernel_here.ran] == ["x = 1", "y = 2"]
    assert turn.text == "Done."
    assert "look done" in told(model)["a"]


async def test_a_call_that_was_rejected_is_not_made(tmp_path: Path) -> None:
    place, model = Place(tmp_path), scripted(BATCH)
    await place.left()
    async with place.gone_on(model) as session:
        assert session.decide(Decision.reject("too dear"))
        await session.resume_turn()
    assert place.here.made == ["look[]"]
    assert "They said: too dear" in told(model)["c"]


@pytest.mark.parametrize("decision", [Decision.approve(), Decision.edit("z = 3"), Decision.reject("no")])
async def test_of_what_ran_beside_a_cell_that_waits_nobody_knows(tmp_path: Path, decision: Decision) -> None:
    batch = calling(("look", {}, "a"), run_code("x = 1", "b"), run_code("y = 2", "d"))
    place, model = Place(tmp_path, batch), scripted(batch)
    await place.left(approve="every")
    assert (place.there.made, place.kernel_there.ran) == (["look[]"], [])
    async with place.gone_on(model) as session:
        approval = session.pending
        assert approval is not None
        assert (approval.call_id, approval.code, approval.wish) == ("b", "x = 1", None)
        assert session.decide(decision)
        with pytest.raises(ApprovalNeeded) as waits:
            await session.resume_turn()
        assert waits.value.approval.call_id == "d", "the cell behind it waited with it, and had not begun"
        assert session.decide(Decision.approve())
        await session.resume_turn()
    ran = {"approved": ["x = 1", "y = 2"], "edited": ["z = 3", "y = 2"], "rejected": ["y = 2"]}
    assert [code for _, code in place.kernel_here.ran] == ran[decision.verdict]
    assert place.here.made == []
    assert "whether it took effect is not known, and it was not made again" in told(model)["a"]


async def test_a_secret_in_a_call_does_not_keep_it_from_waiting(tmp_path: Path) -> None:
    place = Place(tmp_path)
    await place.left()
    place.says(code="pay([redacted])", wish={"kind": "call", "target": "pay([redacted])"})
    async with place.gone_on() as session:
        assert session.pending is not None
        assert session.pending.code == 'pay({"n":1})', "what is agreed to is what the checkpoint has"


@pytest.mark.parametrize(
    "change",
    [
        {"call_id": "a"},
        {"call_id": "nothing"},
        {"call_id": ""},
        {"id": "call-999-c"},
        {"effect_id": 999},
        {"wish": None},
        {"wish": {"kind": "write", "target": "/tmp/x"}},
        {"call_id": "b", "wish": None},
        {"language": "bash"},
    ],
)
async def test_what_says_anything_else_of_what_waits_is_passed_over(tmp_path: Path, change: dict[str, Any]) -> None:
    place, model = Place(tmp_path), scripted(BATCH)
    await place.left()
    place.says(**change)
    recorded = session_of_notebook(place.file.path).running
    assert recorded is not None
    assert (recorded.asking, recorded.calls) == (None, dict.fromkeys("abcd"))
    async with place.gone_on(model) as session:
        assert session.pending is None
        await session.resume_turn()
    assert place.here.made == []
    assert place.kernel_here.ran == []
