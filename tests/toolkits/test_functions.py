"""Python functions as tools: how they are described, and how calls of them are made."""

from __future__ import annotations

import asyncio
import functools
import inspect
import json
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from lash_nb.errors import InputError
from lash_nb.machine.tool_calls import ToolFailureClass
from lash_nb.toolkits import ToolPolicy
from lash_nb.toolkits.functions import function_tool, tool
from lash_nb.toolkits.results import ToolResult

from .calls import failed, make, value

# -- the decorator -----------------------------------------------------------------------------------------------------


def add(a: int, b: int = 2) -> int:
    """The sum.

    Args:
        a: One of them.
    """
    return a + b


def test_a_decorated_function_is_the_function_that_it_was() -> None:
    assert tool(add) is add
    assert add(1) == 3
    assert str(inspect.signature(add)) == "(a: 'int', b: 'int' = 2)" + " -> 'int'"


def test_what_was_said_of_a_function_is_its_policy() -> None:
    @tool(approve="effects", safe=True, retries=2, timeout_s=10, max_chars=500, name="plus", description="Adds.")
    def other(a: int) -> int:
        """Not this."""
        return a

    made = function_tool(None, other)
    assert (made.name, made.description) == ("plus", "Adds.")
    assert made.policy == ToolPolicy(approve="effects", safe=True, retries=2, timeout_s=10, max_chars=500)
    assert function_tool("given", other).name == "given"


def test_what_is_said_passes_through_wrappers_and_to_methods() -> None:
    @tool(approve="all")
    def inner() -> None: ...

    @functools.wraps(inner)
    def outer() -> None: ...

    class Shop:
        @tool(approve="never")
        def buy(self, what: str) -> str:
            return what

        @tool(approve="all")
        @staticmethod
        def sell(what: str) -> str:
            return what

    assert function_tool(None, outer).policy.approve == "all"
    bought = function_tool(None, Shop().buy)
    assert (bought.name, bought.signature, bought.policy.approve) == ("buy", "(what: str) -> str", "never")
    assert function_tool(None, Shop.sell).policy.approve == "all"


def test_what_has_no_attributes_is_wrapped() -> None:
    class Shop:
        def buy(self, what: str) -> str:
            return f"bought {what}"

    method = tool(Shop().buy, safe=True)
    assert method("tea") == "bought tea"
    assert function_tool(None, method).policy.safe
    length: Any = tool(len, approve="never")
    assert length("abc") == 3
    assert function_tool("length", length).policy.approve == "never"


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"approve": "sometimes"}, "'all', 'effects', 'every', 'never'"),
        ({"retries": 2}, "safe=True"),
        ({"safe": True, "retries": -1}, "0 or more"),
        ({"timeout_s": 0}, "seconds"),
        ({"timeout_s": "10"}, "seconds"),
        ({"max_chars": 5}, "100 or more"),
        ({"name": "not a name"}, "tools.not a name"),
        ({"name": "run_code"}, "lash_nb's own"),
    ],
)
def test_what_cannot_be_said(options: dict[str, Any], why: str) -> None:
    with pytest.raises(InputError) as raised:
        tool(**options)
    assert why in str(raised.value)


# -- how they are described --------------------------------------------------------------------------------------------


def test_a_tool_describes_its_function() -> None:
    made = function_tool(None, add)
    assert (made.name, made.description, made.source) == ("add", "The sum.", "function")
    assert made.input_schema == {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "description": "One of them."},
            "b": {"type": "integer", "default": 2},
        },
        "required": ["a"],
        "additionalProperties": False,
    }
    assert made.output_schema == {"type": "integer"}
    assert (made.signature, made.parameters) == ("(a: int, b: int = 2) -> int", ("a", "b"))
    assert made.policy == ToolPolicy()
    assert not made.stoppable


class Place(BaseModel):
    city: str


def many(
    place: Place,
    /,
    unit: Literal["c.d", "f"] = "c.d",
    *,
    days: Annotated[int, Field(ge=1, description="How many.")] = 3,
    since: Place | None = None,
    hook: Any = print,
    **more: float,
) -> dict[str, list[float]]:
    raise AssertionError("it was called")


def test_a_signature_is_written_without_modules() -> None:
    made = function_tool(None, many)
    assert made.signature == (
        "(place: Place, /, unit: Literal['c.d', 'f'] = 'c.d', *, days: int = 3, since: Place | None = None, "
        "hook=..., **more: float) -> dict[str, list[float]]"
    )
    assert made.parameters is None
    schema: Any = made.input_schema
    assert schema["properties"]["days"] == {"type": "integer", "minimum": 1, "default": 3, "description": "How many."}
    assert schema["additionalProperties"] == {"type": "number"}
    assert json.loads(json.dumps(schema)) == schema  # without the default that is no JSON


def test_a_default_of_pydantic_is_one() -> None:
    def find(text: str = Field(min_length=1, description="What."), most: int = Field(default=5)) -> list[Any]:
        return [text, most]

    made = function_tool(None, find)
    assert made.signature == "(text: str = ..., most: int = 5) -> list[Any]"
    assert asyncio.run(value(made, {"text": "x"})) == ["x", 5]
    assert "text: " in failed(asyncio.run(make(made, {"text": ""}))).message
    assert failed(asyncio.run(make(made, {}))).message.endswith("\ntext: it is missing")


@dataclass
class Adder:
    """Not the description: that is of the class."""

    start: int

    def __call__(self, n: int) -> int:
        """Adds to the start."""
        return self.start + n


class AsyncAdder(Adder):
    async def __call__(self, n: int) -> int:  # type: ignore[override]
        return self.start + n


async def async_add(a: int, b: int = 2) -> int:
    return a + b


class Bound:
    def plus(self, n: int) -> int:
        return 10 + n

    @classmethod
    def of_class(cls, n: int) -> str:
        return f"{cls.__name__} {n}"


@pytest.mark.parametrize(
    ("function", "arguments", "given"),
    [
        (add, {"a": 1}, 3),
        (async_add, {"a": 1, "b": 5}, 6),
        (functools.partial(add, 5), {"b": 1}, 6),
        (functools.partial(async_add, b=7), {"a": 1}, 8),
        (Adder(10), {"n": 1}, 11),
        (AsyncAdder(20), {"n": 1}, 21),
        (Bound().plus, {"n": 1}, 11),
        (Bound.of_class, {"n": 1}, "Bound 1"),
        (lambda n=4: n, {}, 4),
        (lambda: async_add(1, 1), {}, 2),
        (divmod, {"x": 7, "y": 2}, [3, 1]),
        (Place, {"city": "Rome"}, {"city": "Rome"}),
    ],
)
async def test_whatever_can_be_called(function: Callable[..., Any], arguments: dict[str, Any], given: Any) -> None:
    assert await value(function_tool("it", function), arguments) == given


def test_the_docstring_of_an_object_is_that_of_its_call() -> None:
    made = function_tool("it", Adder(1))
    assert (made.description, made.signature) == ("Adds to the start.", "(n: int) -> int")


async def test_a_function_that_does_not_say_what_it_takes_is_called_by_keyword() -> None:
    made = function_tool("largest", max)
    assert (made.signature, made.parameters) == ("(**arguments)", None)
    assert made.input_schema == {"type": "object", "properties": {}}
    failure = failed(await make(made, {"key": None}))
    assert failure.class_ is ToolFailureClass.EXECUTION


def star(*names: str) -> None: ...


def unknown(a: int, b: Missing) -> None: ...  # type: ignore[name-defined]  # noqa: F821


def no_json(a: int, b: threading.Lock) -> None: ...


def callback(then: Callable[[int], int]) -> None: ...


@pytest.mark.parametrize(
    ("name", "function", "why"),
    [
        ("it", star, "takes *names"),
        ("it", unknown, "'Missing' of its parameter 'b'"),
        ("it", no_json, "parameter 'b'"),
        ("it", callback, "parameter 'then'"),
        ("it", 3, "is of type int, which cannot be called"),
        ("two words", add, "cannot be called 'two words'"),
        ("_it", add, "cannot be called '_it'"),
        (None, lambda: 1, "give the tool a name"),
        (None, Adder(1), "give the tool a name"),
    ],
)
def test_what_is_no_tool_is_told(name: str | None, function: Any, why: str) -> None:
    with pytest.raises(InputError) as raised:
        function_tool(name, function)
    assert why in str(raised.value)


def test_a_local_class_that_a_function_closes_over_is_found() -> None:
    class Local(BaseModel):
        n: int

    def take(it: Local) -> int:
        return Local(n=it.n + 1).n

    assert asyncio.run(value(function_tool(None, take), {"it": {"n": 1}})) == 2


@pytest.mark.parametrize("gives", [Any, ToolResult, threading.Lock, "Nowhere", None])
def test_what_has_no_schema_promises_nothing(gives: Any) -> None:
    def it() -> Any: ...

    it.__annotations__ = {"return": gives}
    assert function_tool(None, it).output_schema == ({"type": "null"} if gives is None else {})
