"""Which variables a request is to leave."""

from __future__ import annotations

import pytest

from lash_nb.errors import InputError
from lash_nb.wanted import checked_names, context_text, names_of, wanted_names


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Clean `sales` and call it `tidy`.", ("tidy",)),
        ("Make `a`, `b` and `a` again", ("a", "b")),
        ("What does `len` do with `None`, `sales` and `for`?", ()),
        ("Use `sales.groupby` and `x y`, not `1x`", ()),
        ("A double ``tidy`` and a fence:\n```\n`inside`\n```\nthen `after`", ("after",)),
        ("~~~\n`inside` without an end", ()),
        ("no names at all", ()),
        ("`größe` in other alphabets", ("größe",)),
    ],
)
def test_names_in_backticks_that_nothing_has_are_wanted(text: str, wanted: tuple[str, ...]) -> None:
    assert wanted_names(text, known={"sales": 1}) == wanted


def test_an_option_names_variables_between_commas_or_spaces() -> None:
    assert names_of(" a,b  c, d ") == ("a", "b", "c", "d")
    assert names_of("  ") == names_of(",") == ()


@pytest.mark.parametrize("name", ["1x", "a.b", "for", "", "a b"])
def test_what_is_no_name_is_an_error_that_says_where_it_stands(name: str) -> None:
    with pytest.raises(InputError, match=r"^-o: .* is not the name of a variable$"):
        checked_names(["fine", name], what="-o")


def test_names_are_taken_once_and_in_order() -> None:
    assert checked_names(["b", "a", "b"], what="-i") == ("b", "a")


def test_the_model_is_told_what_to_leave_beside_what_else_it_is_told() -> None:
    assert context_text("", ()) == ""
    assert context_text("cells", ()) == "cells"
    told = context_text("cells", ("a", "b"))
    assert told.startswith("cells\n\n")
    assert told.count("a, b.") == 1


def test_of_a_typed_turn_the_first_result_is_its_value() -> None:
    told = context_text("", ("n", "a"), typed=True)
    assert told.startswith("The value that you give to finish(…) becomes the user's variable n; you need not leave ")
    assert told.count("under just these names: a.") == 1
    assert "variables" not in context_text("", ("n",), typed=True)
