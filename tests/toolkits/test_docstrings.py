"""Docstrings: what is said of parameters, and the text without it."""

from __future__ import annotations

import pytest

from lash_nb.toolkits.docstrings import described

GOOGLE = """The weather of a city.

    It is looked up anew each time.

    Args:
        city: Its name,
            in English.
        days (int, optional): How many: 1 to 14.
        **more: Passed on.

    Returns:
        One number a day.
    """

NUMPY = """The weather of a city.

    It is looked up anew each time.

    Parameters
    ----------
    city : str
        Its name,
        in English.
    days, hours : int, optional
        How many: 1 to 14.

    Returns
    -------
    list
        One number a day.
    """

SPHINX = """The weather of a city.

    :param city: Its name,
        in English.
    :type city: str
    :param int days: How many: 1 to 14.
    :returns: One number a day.
    """


def test_google() -> None:
    found = described(GOOGLE)
    assert found.parameters == {
        "city": "Its name, in English.",
        "days": "How many: 1 to 14.",
        "more": "Passed on.",
    }
    assert found.text == (
        "The weather of a city.\n\nIt is looked up anew each time.\n\nReturns:\n    One number a day."
    )


def test_numpy() -> None:
    found = described(NUMPY)
    assert found.parameters == {
        "city": "Its name, in English.",
        "days": "How many: 1 to 14.",
        "hours": "How many: 1 to 14.",
    }
    assert found.text == (
        "The weather of a city.\n\nIt is looked up anew each time.\n\nReturns\n-------\nlist\n    One number a day."
    )


def test_sphinx() -> None:
    found = described(SPHINX)
    assert found.parameters == {"city": "Its name, in English.", "days": "How many: 1 to 14."}
    assert found.text == "The weather of a city.\n\n:returns: One number a day."


@pytest.mark.parametrize("docstring", [None, "", "   \n  "])
def test_nothing(docstring: str | None) -> None:
    found = described(docstring)
    assert (found.text, found.parameters) == ("", {})


def test_text_that_only_looks_like_a_section_stays() -> None:
    text = "Do it.\n\nArgs:\n\nParameters: none are needed.\n\nparameters"
    found = described(text)
    assert (found.text, found.parameters) == (text, {})


def test_a_numpy_section_ends_where_text_begins() -> None:
    found = described("It.\n\nParameters\n----------\ncity : str\n    Where.\n\nIt is slow, be patient.")
    assert found.parameters == {"city": "Where."}
    assert found.text == "It.\n\nIt is slow, be patient."


def test_the_first_description_counts() -> None:
    found = described(":param a: one\n:param a: two\n:param b:\n")
    assert found.parameters == {"a": "one"}
