"""1,000 random signatures: what fits the schema reaches the function as equal values, and what does not never does."""

from __future__ import annotations

import asyncio
import datetime
import enum
import uuid
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal, Optional

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from lash_nb.machine.tool_calls import CompletedToolCall
from lash_nb.toolkits import Tool
from lash_nb.toolkits.functions import function_tool

from .calls import failed, make, result


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True)
class Point:
    x: int
    y: float = 0.0


class Item(BaseModel, frozen=True):
    name: str
    when: datetime.date
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A type, with JSON that is of it (and the value that is meant), and JSON that is not."""

    annotation: Any
    good: st.SearchStrategy[tuple[Any, Any]]
    bad: st.SearchStrategy[Any]
    can_be_in_a_set: bool = True


def same(values: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, Any]]:
    return values.map(lambda value: (value, value))


def written(values: st.SearchStrategy[Any], write: Callable[[Any], Any] = str) -> st.SearchStrategy[tuple[Any, Any]]:
    return values.map(lambda value: (write(value), value))


TEXT = st.text(st.characters(codec="utf-8"), max_size=8)
WHOLE = st.integers(-(2**63), 2**63 - 1)
OTHERS: tuple[Any, ...] = (None, True, 7, 1.5, "x", [], ["x", 1], {"y": 1})


def but(*good: type) -> st.SearchStrategy[Any]:
    """JSON of other types than these."""
    return st.sampled_from([one for one in OTHERS if type(one) not in good])


SCALARS = [
    Kind(int, st.one_of(same(WHOLE), st.integers(-99, 99).map(lambda n: (float(n), n))), but(int)),
    Kind(bool, same(st.booleans()), but(bool)),
    Kind(str, same(TEXT), but(str)),
    Kind(
        float, st.one_of(same(st.floats(-1e9, 1e9)), st.integers(-99, 99).map(lambda n: (n, float(n)))), but(int, float)
    ),
    Kind(Literal["a", "b", 3], same(st.sampled_from(["a", "b", 3])), but()),
    Kind(Colour, written(st.sampled_from(Colour), lambda one: one.value), but()),
    Kind(Level, written(st.sampled_from(Level), lambda one: one.value), but()),
    Kind(datetime.date, written(st.dates(), datetime.date.isoformat), but()),
    Kind(datetime.datetime, written(st.datetimes(), datetime.datetime.isoformat), but()),
    Kind(uuid.UUID, written(st.uuids()), but()),
    Kind(Decimal, written(st.decimals(-1000, 1000, places=2)), but(int, float)),
    Kind(Path, written(st.sampled_from([Path("a/b.csv"), Path("c")])), but(str)),
    Kind(bytes, TEXT.map(lambda text: (text, text.encode())), but(str)),
    Kind(
        Point,
        st.tuples(st.integers(-9, 9), st.integers(-9, 9)).map(
            lambda p: ({"x": p[0], "y": p[1]}, Point(p[0], float(p[1])))
        ),
        st.one_of(but(), st.just({"x": "1"}), st.just({"y": 1.0})),
    ),
    Kind(
        Item,
        st.tuples(TEXT, st.dates()).map(
            lambda p: ({"name": p[0], "when": p[1].isoformat(), "tags": ["t"]}, Item(name=p[0], when=p[1], tags=("t",)))
        ),
        st.one_of(but(), st.just({"name": "n"}), st.just({"name": "n", "when": "soon"})),
    ),
]


def list_of(kind: Kind) -> Kind:
    return Kind(
        list[kind.annotation],  # type: ignore[name-defined]
        st.lists(kind.good, max_size=3).map(lambda items: ([j for j, _ in items], [p for _, p in items])),
        st.one_of(but(list), kind.bad.map(lambda item: [item])),
        can_be_in_a_set=False,
    )


def pair_of(kind: Kind) -> Kind:
    return Kind(
        tuple[int, kind.annotation],  # type: ignore[name-defined]
        st.tuples(st.integers(0, 9), kind.good).map(lambda pair: ([pair[0], pair[1][0]], (pair[0], pair[1][1]))),
        st.one_of(but(list), kind.bad.map(lambda item: [1, item]), st.just([1])),
        can_be_in_a_set=kind.can_be_in_a_set,
    )


def dict_of(kind: Kind) -> Kind:
    return Kind(
        dict[str, kind.annotation],  # type: ignore[name-defined]
        st.dictionaries(TEXT, kind.good, max_size=2).map(
            lambda items: ({k: j for k, (j, _) in items.items()}, {k: p for k, (_, p) in items.items()})
        ),
        st.one_of(but(dict), kind.bad.map(lambda item: {"k": item})),
        can_be_in_a_set=False,
    )


def set_of(kind: Kind) -> Kind:
    if not kind.can_be_in_a_set:
        return list_of(kind)
    return Kind(
        set[kind.annotation],  # type: ignore[name-defined]
        st.lists(kind.good, max_size=3, unique_by=lambda pair: pair[1]).map(
            lambda items: ([j for j, _ in items], {p for _, p in items})
        ),
        st.one_of(but(list), kind.bad.map(lambda item: [item])),
        can_be_in_a_set=False,
    )


def optional(kind: Kind) -> Kind:
    return Kind(
        Optional[kind.annotation],  # noqa: UP045 (made of a value)
        st.one_of(kind.good, st.just((None, None))),
        kind.bad.filter(lambda item: item is not None),
        can_be_in_a_set=kind.can_be_in_a_set,
    )


def composed(kinds: st.SearchStrategy[Kind]) -> st.SearchStrategy[Kind]:
    makers = st.sampled_from([list_of, pair_of, dict_of, set_of, optional])
    return st.builds(lambda make, kind: make(kind), makers, kinds)


SCALAR = st.sampled_from(SCALARS)
KINDS = st.one_of(SCALAR, composed(SCALAR), composed(composed(SCALAR)))
NAMES = (
    *("city", "days", "self", "cls", "model_config", "model_fields", "schema", "json", "copy", "dict", "_x", "__y"),
    *("p0", "p1", "arguments", "function", "call", "around", "validate", "name", "handler", "Überschrift", "kwargs"),
)
PLACES = ("positional", "either", "keyword")


@dataclass(frozen=True)
class Parameter:
    name: str
    kind: Kind
    place: str
    has_default: bool


class Default:
    """A value that is no JSON, and no Python that could be written down."""


DEFAULT = Default()


@st.composite
def signatures(draw: st.DrawFn) -> tuple[list[Parameter], Kind | None]:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=5))
    places = sorted((draw(st.sampled_from(PLACES)) for _ in names), key=PLACES.index)
    parameters, has_default = [], False
    for name, place in zip(names, places, strict=True):
        wanted = draw(st.booleans())
        has_default = wanted or (has_default and place != "keyword")
        parameters.append(Parameter(name, draw(KINDS), place, has_default))
    return parameters, draw(st.one_of(st.none(), KINDS))


def written_function(parameters: list[Parameter], rest: Kind | None, seen: list[dict[str, Any]]) -> Callable[..., Any]:
    parts: list[str] = []
    for number, one in enumerate(parameters):
        if one.place == "keyword" and "*" not in parts:
            parts.append("*")
        parts.append(f"{one.name} = DEFAULT_" if one.has_default else one.name)
        following = parameters[number + 1].place if number + 1 < len(parameters) else ""
        if one.place == "positional" and following != "positional":
            parts.append("/")
    if rest is not None:
        parts.append("**rest_")
    gives = "{" + "".join(f"{one.name!r}: {one.name}, " for one in parameters) + ("**rest_}" if rest else "}")
    space: dict[str, Any] = {"DEFAULT_": DEFAULT, "seen_": seen}
    exec(f"def made({', '.join(parts)}):\n    seen_.append({gives})", space)
    function: Callable[..., Any] = space["made"]
    function.__annotations__ = {one.name: one.kind.annotation for one in parameters}
    if rest is not None:
        function.__annotations__["rest_"] = rest.annotation
    return function


LOOP = asyncio.new_event_loop()
"""One for all calls: a thousand signatures make some thousands of them."""


@pytest.fixture(autouse=True, scope="module")
def closed_loop() -> Iterator[None]:
    yield
    LOOP.close()


def run(call: Coroutine[Any, Any, CompletedToolCall]) -> CompletedToolCall:
    return LOOP.run_until_complete(call)


def reaches(tool: Tool, arguments: dict[str, Any], seen: list[dict[str, Any]], expected: dict[str, Any]) -> None:
    schema: Any = tool.input_schema
    jsonschema.Draft202012Validator(schema).validate(arguments)
    seen.clear()
    assert result(run(make(tool, arguments)).output) is None
    (got,) = seen
    assert got == expected
    assert {name: type(item) for name, item in got.items()} == {name: type(item) for name, item in expected.items()}


def never_reaches(tool: Tool, arguments: dict[str, Any], seen: list[dict[str, Any]], named: str) -> None:
    seen.clear()
    failure = failed(run(make(tool, arguments)))
    assert (failure.class_, failure.code, seen) == ("invalid_request", "bad_arguments", [])
    assert any(line.startswith(named) for line in failure.message.splitlines())


@pytest.mark.timeout(300)
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(signature=signatures(), data=st.data())
def test_arguments_fit_or_never_reach_the_function(
    signature: tuple[list[Parameter], Kind | None], data: st.DataObject
) -> None:
    parameters, rest = signature
    seen: list[dict[str, Any]] = []
    tool = function_tool("made", written_function(parameters, rest, seen))
    arguments: dict[str, Any] = {}
    expected: dict[str, Any] = {}
    for one in parameters:
        if one.has_default and data.draw(st.booleans()):
            expected[one.name] = DEFAULT
        else:
            arguments[one.name], expected[one.name] = data.draw(one.kind.good)
    if rest is not None and data.draw(st.booleans()):
        arguments["one_more"], expected["one_more"] = data.draw(rest.good)
    reaches(tool, arguments, seen, expected)

    if arguments:
        name = data.draw(st.sampled_from(sorted(arguments)))
        kind = next((one.kind for one in parameters if one.name == name), rest)
        assert kind is not None
        never_reaches(tool, {**arguments, name: data.draw(kind.bad)}, seen, name)
    for one in parameters:
        if not one.has_default:
            without = {name: item for name, item in arguments.items() if name != one.name}
            never_reaches(tool, without, seen, f"{one.name}: it is missing")
    if rest is None:
        never_reaches(tool, {**arguments, "unheard_of": 1}, seen, "unheard_of: there is no such argument")
