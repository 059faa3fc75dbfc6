"""Whatever a notebook holds, it is judged and drawn: nothing raises, nothing acts, and what is wrong is said.

The same law on ten thousand cases, under an audit hook: `python -m tests.faults.hostile`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lash_nb.carried_words import carried_html, carried_text, verdict_json, verdict_text
from lash_nb.errors import NotebookError
from lash_nb.stores.carried import carried
from lash_nb.stores.notebook import interrupted_turn, read_block
from tests.faults.hostile import unsafe_page
from tests.faults.hostile_parts import EVIL_TEXTS, Place, bases, changed, document, places, sealed

ROOT = Path(__file__).resolve().parents[2]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from(EVIL_TEXTS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
TURNS, HEAD = bases()[0]
WHOLE = document(TURNS, HEAD)
CHECKPOINT = json.loads("".join(TURNS[0]["checkpoint"]))


def check(value: Any) -> None:
    found = carried(value)
    text = verdict_text(found, name="n.ipynb") + carried_text(found, name="n.ipynb")
    assert all(sign.isprintable() or sign in "\n\t\xa0\u3000" or ord(sign) > 0x9F for sign in text)
    assert unsafe_page(carried_html(found, name="n.ipynb")) == ""
    assert json.loads(json.dumps(verdict_json(found)))["valid"] == found.ok
    assert found.ok or any(problem.fatal and problem.sentence.strip() for problem in found.problems)
    metadata = value.get("metadata") if isinstance(value, dict) else None
    if isinstance(metadata, dict):
        interrupted_turn(metadata)
        try:
            read_block(metadata)
        except NotebookError:
            assert not found.ok


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(at=st.sampled_from([place for place in places(WHOLE) if "checkpoint" not in place]), new=JSON)
def test_anything_anywhere_in_a_notebook(at: Place, new: Any) -> None:
    check(changed(WHOLE, at, new))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(at=st.sampled_from(list(places(CHECKPOINT))), new=JSON)
def test_anything_anywhere_behind_a_hash_that_is_right(at: Place, new: Any) -> None:
    check(document([sealed(TURNS[0], changed(CHECKPOINT, at, new)), TURNS[1]], HEAD))


@pytest.mark.parametrize(
    "page",
    [
        "<script>x</script>",
        "<div onclick='x'>",
        '<a href="javascript:x">y</a>',
        "<a href=javascript:x>y</a>",
        '<img src="http://host/x">',
        "a < b",
        "<iframe></iframe>",
    ],
)
def test_the_harness_knows_what_acts(page: str) -> None:
    assert unsafe_page(page)


def test_the_harness_takes_a_page_that_does_not_act() -> None:
    assert unsafe_page('<p class="a"><a href="https://host/x">y</a> &lt;script&gt;<br></p>') == ""


def test_the_harness_runs_and_has_caught_those_that_it_was_to_catch() -> None:
    """Its own self-check comes first, and its exit code is 1 when that fails."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.faults.hostile", "--cases", "200", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert {name: told[name] for name in ("cases", "executed", "crashed", "unclear", "unsafe")} == {
        "cases": 200,
        "executed": 0,
        "crashed": 0,
        "unclear": 0,
        "unsafe": 0,
    }
