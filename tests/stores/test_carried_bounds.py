"""What is too deep, too large or too many, what wants to be seen as something else, and what a frontend saved."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from lash_nb.stores import bounds
from lash_nb.stores.carried import Carried, CarriedSession, carried
from lash_nb.stores.notebook import make_block

from .envelopes import block, chain, envelope, finished, notebook, pointer, running


def numbers(found: Carried) -> list[int]:
    session = found.session("s")
    return [] if session is None else [turn.number for turn in session.turns]


def troubles(found: Carried) -> list[tuple[str, str]]:
    return [(problem.trouble.value, problem.place) for problem in found.problems]


def sentences(found: Carried) -> list[str]:
    return [problem.sentence for problem in found.problems]


@pytest.mark.parametrize("depth", [100_000])
def test_what_is_nested_deeply_is_refused(depth: int) -> None:
    nested: Any = []
    for _ in range(depth):
        nested = [nested]
    text = "[" * depth + "]" * depth
    deep = [
        notebook(nested),
        notebook({**block(), "turns": nested}),
        notebook({**block(), "head": {**block()["head"], "resume": {"asked": nested}}}),
        notebook(None, nested),
        notebook(None, {**finished(), "dollars": nested}),
        notebook({**block(), "extra": nested}),
        {"cells": nested, "metadata": nested},
        notebook({**block(), "head": {**block()["head"], "checkpoint": [text]}}),
    ]
    for document in deep:
        found = carried(document)
        assert found.ok == (document is deep[6])
        assert all(len(sentence) <= 400 and "\n" not in sentence for sentence in sentences(found))


def deep_value(depth: int) -> dict[str, Any]:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return finished(outcome={"finished": {"final_value": {"value": value}}})


def test_a_value_that_a_kernel_let_through_is_not_too_deep() -> None:
    """Those end at 100 levels (kernels/inside/json_values.py)."""
    assert carried(notebook(None, deep_value(101))).ok
    assert not carried(notebook(None, deep_value(300))).ok


def test_bounds_of_number_and_size(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = chain(6)
    monkeypatch.setattr("lash_nb.stores.carried.MAX_ENVELOPES", 4)
    found = carried(notebook(None, *turns))
    assert numbers(found) == [1, 2, 3, 4]
    assert troubles(found) == [("too large", "cell 5, output 1")]
    assert not found.ok
    monkeypatch.undo()
    assert bounds.Allowance().left == 256 * 1024 * 1024
    monkeypatch.setattr("lash_nb.stores.carried.Allowance", lambda: bounds.Allowance(left=560_000))
    found = carried(notebook(None, *chain(6, size=100_000)))
    assert numbers(found) == [1, 2, 3, 4, 5]
    assert sentences(found) == [
        "cell 6, output 1.checkpoint is not read: all together hold more than 268,435,456 bytes"
    ]


def test_a_text_may_hold_as_many_marks_as_it_likes() -> None:
    """Numbers that were printed are one value, not two million."""
    printed = "[" + "1," * 2_100_000 + "1]"
    found = carried(notebook(None, finished(printed)))
    assert found.problems == ()
    assert numbers(found) == [1]


def test_more_values_than_any_conversation_has_are_refused() -> None:
    found = carried(notebook(None, finished(outcome={"finished": {"final_value": {"value": [[]] * 1_000_100}}})))
    place = "cell 1, output 1.checkpoint"
    assert sentences(found) == [f"{place} is refused: it holds more values than any conversation"]


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("[]", 1),
        ("[1, 2, {}]", 4),
        ('[",,,", "[{"]', 2),
        (r'["\\", ",,"]', 2),
        (r'["\",,", 1]', 2),
        (r'["\\\",,", {"a,\\": "\\\\"}]', 3),
        ('"' + "," * 2_500_000 + '", [' + '",", ' * 1_000_000 + "1]", 1_000_002),
        ("[" * 1_048_575 + '",,,,"' + "[", 1_048_576),
    ],
)
def test_only_structure_counts(text: str, marks: int) -> None:
    assert not bounds.more_values_than(marks, text)
    assert bounds.more_values_than(marks - 1, text)


def test_a_multitude_of_problems_is_counted() -> None:
    value = {**block(), "turns": [7] * 3_000}
    found = carried(notebook(value))
    assert len(found.problems) == 1_001
    assert found.problems[-1].sentence == "2,001 more problems are not listed"


def test_what_is_shown_of_it_neither_hides_nor_moves_anything() -> None:
    name = "\u202eabc\x1b[31m\n\x00" + "x" * 100_000
    dirty = finished(session=name, saved_at="\u202e\x07" + "e" + "\u0301" * 50)
    found = carried(
        notebook(None, dirty, {**dirty, "turn": 7}, {**dirty, "sha256": "0" * 64}, pointer({**dirty, "turn": 8}))
    )
    assert found.problems
    for sentence in sentences(found):
        assert len(sentence) <= 1_000
        assert all(sign.isprintable() for sign in sentence)
        assert not re.search("\u0301{5}", sentence)


# ---------------------------------------------------------------------------------------------------------- JavaScript


def as_javascript_would(value: Any) -> Any:
    """Whole floats become integers; keys that look like numbers come first."""
    if isinstance(value, dict):
        ordered = sorted(value, key=lambda key: (not key.isdigit(), int(key) if key.isdigit() else 0))
        return {key: as_javascript_would(value[key]) for key in ordered}
    if isinstance(value, list):
        return [as_javascript_would(item) for item in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e21:
        return int(value)
    return value


def through_python(text: str) -> str:
    document = as_javascript_would(json.loads(text))
    return json.dumps(dict(reversed(document.items())), ensure_ascii=True, separators=(",", ":"))


def through_node(text: str) -> str:
    program = (
        "let t='';process.stdin.on('data',d=>t+=d).on('end',()=>process.stdout.write(JSON.stringify(JSON.parse(t))))"
    )
    return subprocess.run(
        ["node", "-e", program], input=text.encode(), capture_output=True, check=True, timeout=30
    ).stdout.decode()


THROUGH = [through_python, *([through_node] if shutil.which("node") else [])]


@pytest.mark.parametrize("save", THROUGH)
def test_a_notebook_that_a_frontend_saved_is_valid(save: Callable[[str], str]) -> None:
    """Numbers in other words, keys in another order, escapes: `seq` is a whole number and checkpoints are texts."""
    numbers_of = {"1": 1.0, "a": [1e21, 1e-7, 0.1, -0.0, 2**53, 12345678901234567890], "é\u2028": "\u0000\u001f"}
    asked = "Why, \u2028 é \U0001f600 \\u0041?"
    first = finished(
        asked,
        {"finished": {"final_value": {"value": numbers_of}}},
        dollars=1.0,
        resume={"asked": {"text": asked, "time_limit_s": 1800.0}, "10": 1, "9": 2},
    )
    second = finished("x" * 100_000, turn=2, parent=first["sha256"])
    value = {**make_block(session="s", head=running(turn=3, parent=second["sha256"]), turns=[first, second])}
    saved = json.loads(save(json.dumps(notebook(value, first), ensure_ascii=False)))
    found = carried(saved)
    assert found.problems == ()
    assert numbers(found) == [1, 2]
    before = carried(notebook(value, first)).session("s")
    after = found.session("s")
    assert isinstance(before, CarriedSession)
    assert isinstance(after, CarriedSession)
    assert [turn.text for turn in after.turns] == [turn.text for turn in before.turns]
    assert after.head is not None


def test_whole_numbers_that_were_written_as_floats_are_not_taken_for_damage_of_content() -> None:
    """What JavaScript cannot do; somebody's script that writes 1.0 for 1 is told where."""
    found = carried(notebook(None, {**envelope(finished_text()), "seq": 1.0}))
    assert sentences(found) == ["cell 1, output 1.seq is 1.0, not a whole number"]


def finished_text() -> str:
    return "".join(finished()["checkpoint"])
