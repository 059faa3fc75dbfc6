"""Wrong arguments: told with their place, and never given to the function."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator

from lash_nb.machine.tool_calls import ToolFailureClass
from lash_nb.toolkits.functions import function_tool

from .calls import failed, make, value


class Place(BaseModel):
    city: str


def judged(
    days: int,
    unit: Literal["c", "f"] = "c",
    places: tuple[Place, ...] = (),
    /,
) -> None:
    raise AssertionError("it was called")


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        ({"days": "5"}, ["days: '5' is not of type 'integer'"]),
        ({"days": True}, ["days: True is not of type 'integer'"]),
        ({"days": 1.5}, ["days: Input should be a valid integer, got a number with a fractional part"]),
        ({"days": None}, ["days: Input should be a valid integer"]),
        ({}, ["days: it is missing"]),
        ({"days": 1, "unit": "k"}, ["unit: Input should be 'c' or 'f'"]),
        (
            {"days": 1, "places": [{"city": "x"}, {"city": 3}]},
            ["places[1].city: Input should be a valid string"],
        ),
        ({"days": 1, "day": 2}, ["day: there is no such argument", "the arguments are: days, unit, places"]),
        ({"days": "x", "unit": 3}, ["unit: Input should be 'c' or 'f'"]),
    ],
)
async def test_wrong_arguments_are_told_with_their_place(arguments: dict[str, Any], lines: list[str]) -> None:
    failure = failed(await make(function_tool(None, judged), arguments))
    assert (failure.class_, failure.code) == (ToolFailureClass.INVALID_REQUEST, "bad_arguments")
    told = failure.message.splitlines()
    assert told[0] == "the arguments do not fit, and nothing was done:"
    assert set(lines) <= set(told)


@pytest.mark.parametrize("arguments", [[], "x", 3, None])
async def test_arguments_that_are_no_object_are_refused(arguments: Any) -> None:
    failure = failed(await make(function_tool(None, judged), arguments))
    assert (failure.code, failure.message) == ("bad_arguments", "the arguments are not a JSON object")


async def test_what_is_none_by_default_can_be_given_as_none() -> None:
    def find(most: int = None, since: Annotated[Place, Field(description="x")] = None) -> Any:  # type: ignore[assignment]  # noqa: RUF013
        return [most, since]

    made = function_tool(None, find)
    assert made.signature == "(most: int = None, since: Place = None)"
    assert await value(made, {"most": None, "since": None}) == [None, None]
    assert await value(made, {"most": 3, "since": {"city": "x"}}) == [3, {"city": "x"}]
    assert failed(await make(made, {"most": "3"})).code == "bad_arguments"


async def test_very_many_wrong_arguments_are_told_in_a_few_lines() -> None:
    arguments = {"days": "x" * 10_000, "places": [{"city": 3}] * 5_000}
    message = failed(await make(function_tool(None, judged), arguments)).message
    assert len(message) < 5_000
    assert len(message.splitlines()) == 10
    assert "more" in message.splitlines()[-1]


def nested(levels: int) -> Any:
    value: Any = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize("given", [nested(100_000), float("nan"), "\ud800", 10**400])
async def test_hostile_arguments_are_refused(given: Any) -> None:
    def take(it: list[Any] | float | str) -> None:
        raise AssertionError("it was called")

    failure = failed(await make(function_tool(None, take), {"it": given}))
    assert failure.code == "bad_arguments"


async def test_a_validator_that_breaks_is_a_refusal() -> None:
    class Broken(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def check(cls, n: int) -> int:
            raise KeyError("its own bug")

    def take(it: Broken) -> int:
        return Broken(n=it.n).n

    failure = failed(await make(function_tool(None, take), {"it": {"n": 1}}))
    assert failure.message.endswith("the check of a type failed: KeyError: 'its own bug'")
