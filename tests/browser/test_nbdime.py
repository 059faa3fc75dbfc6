"""What nbdime shows of a notebook's turns: the lines that changed, one below the other, and not one giant string."""

from __future__ import annotations

import asyncio
import io
import re
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from nbdime import diff_notebooks
from nbdime.prettyprint import PrettyPrintConfig, pretty_print_notebook_diff

from lash_nb import ScriptedKernel, ScriptedModel, Session

from ..conversations import Blocks, cell
from ..plain_notebooks import read, v4, write

pytestmark = pytest.mark.browser

REPLIES = {1: [cell("total = sum(prices)", "I add them."), cell("total / len(prices)", "And the mean."), "It is 2.5."]}


async def blocks_of(place: Path) -> list[dict[str, Any]]:
    """What the notebook carried, from effect to effect of a turn."""
    blocks = Blocks()
    async with Session(
        ScriptedModel(REPLIES), kernel=ScriptedKernel(), state_dir=place, session_id="prices", on_block=blocks
    ) as session:
        await session.run("What is the mean?")
    return blocks.blocks


def apart(work: Coroutine[Any, Any, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """On a thread of its own: the other tests' browser keeps an event loop running on this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def difference(place: Path, before: dict[str, Any], after: dict[str, Any]) -> str:
    """What nbdime prints of two versions of a notebook that carry these blocks."""
    versions = []
    for name, block in (("before", before), ("after", after)):
        path = write(place / f"{name}.ipynb", v4.new_markdown_cell("mine", id="mine"), metadata={"lash_nb": block})
        versions.append(read(path, as_version=4))
    told = io.StringIO()
    config = PrettyPrintConfig(out=told, use_color=False)
    pretty_print_notebook_diff("before", "after", versions[0], diff_notebooks(*versions), config)
    return told.getvalue()


def places(told: str) -> list[str]:
    """The parts of the notebook that are shown to differ."""
    return sorted(
        {re.sub(r"/[\d-]+:$", "", line.split()[-1]).rstrip(":") for line in told.splitlines() if line[:2] == "##"}
    )


def test_a_turn_that_went_on_is_shown_by_the_lines_that_changed(tmp_path: Path) -> None:
    blocks = apart(blocks_of(tmp_path / "state"))
    early, late = (next(block for block in blocks if (block["head"] or {}).get("seq") == seq) for seq in (5, 9))
    told = difference(tmp_path, early, late)
    head = "/metadata/lash_nb/head"
    changed = [place for place in places(told) if place != f"{head}/saved_at"]  # in whole seconds
    assert changed == [f"{head}/checkpoint", f"{head}/resume/steps", f"{head}/seq", f"{head}/sha256"]
    shown = [line[1:].strip() for line in told.splitlines() if line[:1] in "+-" and "item[" not in line]
    lines = {line.strip() for block in (early, late) for line in block["head"]["checkpoint"]}
    same = {line.strip() for line in early["head"]["checkpoint"]} & {
        line.strip() for line in late["head"]["checkpoint"]
    }
    of_checkpoint = [line for line in shown if line in lines]
    assert len(of_checkpoint) > 8
    assert not [line for line in of_checkpoint if line in same and len(line) > 2], "what did not change is not shown"
    assert any('"kind":"Code","content":"total / len(prices)"' in line for line in of_checkpoint)
    assert max(map(len, told.splitlines())) < 400


def test_a_finished_turn_is_shown_line_by_line(tmp_path: Path) -> None:
    blocks = apart(blocks_of(tmp_path / "state"))
    before, after = {**blocks[0], "head": None}, blocks[-1]
    told = difference(tmp_path, before, after)
    assert places(told) == ["/metadata/lash_nb/turns"]
    checkpoint = after["turns"][0]["checkpoint"]
    shown = [re.sub(r"^item\[\d+\]: ", "", line[1:].strip()) for line in told.splitlines()]
    assert [line for line in checkpoint if line.strip() not in shown] == []
    assert len(told) < 2 * sum(map(len, checkpoint))
