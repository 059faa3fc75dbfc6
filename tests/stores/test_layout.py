"""How a checkpoint's lines are broken in an envelope: for people and diffs, and the same ones again."""

from __future__ import annotations

from typing import Any

from lash_nb.stores.envelopes import checkpoint_text, make_envelope

CALLED: dict[str, Any] = {"session": "s", "turn": 1, "seq": 1, "parent": None, "saved_at": "", "engine": ""}


def lines(value: Any, **more: Any) -> list[str]:
    return checkpoint_text(make_envelope(value, **CALLED, **more)).split("\n")


def test_short_values_stay_on_a_line_and_fields_get_one_each() -> None:
    assert lines({"a": 1, "b": {"c": [1, 2]}}) == ['{"a": 1, "b": {"c": [1, 2]}}']
    long = "x" * 100
    assert lines({"a": [{"b": long, "c": 1}]}) == ["{", ' "a": [', f'  {{"b":"{long}","c":1}}', " ]", "}"]


def test_a_long_entry_of_a_list_is_taken_apart() -> None:
    """The effect Done of a finished turn holds the whole conversation."""
    said = ["x" * 1_500, "y" * 1_500]
    assert lines([{"Done": {"messages": said}}]) == [
        *("[", " {", '  "Done": {', '   "messages": ['),
        f'    "{said[0]}",',
        f'    "{said[1]}"',
        *("   ]", "  }", " }", "]"),
    ]


def test_an_entry_that_was_saved_on_one_line_is_saved_so_again() -> None:
    """Earlier versions did not take long entries apart; the hash is over the text."""
    value: Any = [{"Done": {"messages": ["x" * 1_500, "y" * 1_500]}}]
    old = "c8d9b7ce5d7b13c7f7ab1d0fb8fd9ee9"  # any other hash than that of the new layout
    assert len(lines(value, before=old)) == 3
    new = make_envelope(value, **CALLED)
    assert make_envelope(value, **CALLED, before=new["sha256"]) == new
