"""Wrong arguments: told with their place, and never given to the function."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, field_validator

from lash_nb.machine.tool_calls import ToolFailureClass
from lash_nb.stores.blobs import MemoryBlobStore
from lash_nb.toolkits.functions import function_tool
from lash_nb.toolkits.results import Attachment

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


# -- attachments -------------------------------------------------------------------------------------------------------


def halved(image: Attachment, /) -> Attachment:
    return Attachment(image.data[: len(image.data) // 2], image.media_type, image.label)


def size(images: list[Attachment]) -> int:
    return sum(len(image.data) for image in images)


async def test_what_a_tool_gave_can_be_given_to_another() -> None:
    store = MemoryBlobStore()
    given = await value(function_tool("plot", lambda: Attachment(b"abcdef", "image/png", "a plot")), store=store)
    half = await value(function_tool(None, halved), {"image": given}, store=store)
    about = half["source"]["attachment_ref"]
    assert (about["byte_len"], about["media_type"], about["label"]) == (3, "image/png", "a plot")
    assert await value(function_tool(None, size), {"images": [given, half]}, store=store) == 9


async def test_without_a_store_it_is_given_as_it_stands() -> None:
    given = await value(function_tool("plot", lambda: b"abcdef"))
    assert await value(function_tool(None, size), {"images": [given]}) == 6


async def test_what_is_no_attachment_or_not_here_never_reaches_the_function() -> None:
    stored = await value(function_tool("plot", lambda: b"abcdef"), store=MemoryBlobStore())
    url = {"source": "external_url", "media_type": "image/png", "url": "https://example.org/a.png"}
    for given, store, why in [
        (stored, MemoryBlobStore(), "is not in this store"),
        (stored, None, "are not kept here"),
        ({"$lash_tool_value": "attachment", "source": url}, MemoryBlobStore(), "are not kept here"),
        ({"$lash_tool_value": "attachment", "source": {"source": "of its own"}}, None, "source"),
        ({"$lash_tool_value": "attachment"}, None, "image"),
        ({"source": url}, None, "an attachment is wanted"),
        ("a.png", None, "an attachment is wanted"),
    ]:
        failure = failed(await make(function_tool(None, halved), {"image": given}, store=store))
        assert (failure.code, failure.message.splitlines()[1][:6]) == ("bad_arguments", "image:")
        assert why in failure.message


def test_bytes_promise_nothing() -> None:
    def it() -> dict[str, bytes]:
        return {}

    made = function_tool(None, halved)
    assert function_tool(None, it).output_schema == {}
    assert made.output_schema == {
        "type": "object",
        "properties": {"$lash_tool_value": {"const": "attachment"}, "source": {"type": "object"}},
        "required": ["$lash_tool_value", "source"],
    }
    assert made.signature == "(image: Attachment, /) -> ToolAttachment"
