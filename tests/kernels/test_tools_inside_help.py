"""What code and people are shown of tools in a kernel: signatures, docstrings, completions; and wrong calls."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.asynchronous.client import AsyncKernelClient

from lash_nb.kernels import CellTools, ToolOffer
from lash_nb.kernels.inside.completing import open_call
from lash_nb.kernels.inside.tool_help import Form, Written, parsed
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import DisplayOutput
from lash_nb.machine.tool_calls import PendingToolCall
from lash_nb.machine.wire import Json

from .suite import fresh, texts

SIGNATURE = "(city: str, days: int = 3, *, unit: Unit = Unit.CELSIUS) -> list[float]"
OFFERS = (
    ToolOffer(
        name="forecast",
        parameters=("city", "days"),
        doc="What the weather will be.\n\nArgs:\n    city: Its name, as people write it there.",
        signature=SIGNATURE,
    ),
    ToolOffer(name="search", parameters=("query",)),
    ToolOffer(name="anything"),
)


class Host:
    """Gives back what it was called with, and remembers it."""

    def __init__(self) -> None:
        self.calls: list[PendingToolCall] = []
        self.tools = CellTools(offers=OFFERS, on_call=self.answer)

    async def answer(self, call: PendingToolCall) -> Json:
        self.calls.append(call)
        return call.args


@pytest.fixture(scope="module")
def kernel() -> Iterator[ManagedKernel]:
    kernel = ManagedKernel()
    asyncio.run(kernel.start())
    yield kernel
    asyncio.run(kernel.shutdown())


@pytest.fixture
def host() -> Host:
    return Host()


async def prints(kernel: ManagedKernel, code: str, host: Host) -> str:
    result = await kernel.run(fresh(), code, tools=host.tools)
    assert result.error is None, result.error
    return "".join(texts(result))


async def test_the_signature_is_there_for_code(kernel: ManagedKernel, host: Host) -> None:
    code = (
        "import inspect\nsignature = inspect.signature(tools.forecast)\n"
        "print(signature, list(signature.parameters), signature.parameters['days'].default + 1)\n"
        "print(signature.parameters['unit'].kind.name, tools.forecast, tools.forecast.__name__)\n"
        "print(inspect.signature(tools.search), inspect.signature(tools.anything), inspect.getdoc(tools.search))"
    )
    assert await prints(kernel, code, host) == (
        f"{SIGNATURE} ['city', 'days', 'unit'] 4\n"
        f"KEYWORD_ONLY <tool forecast{SIGNATURE}> forecast\n"
        "(query) (**arguments) A tool of the host's, which says no more of it.\n"
    )


async def test_the_tools_are_listed(kernel: ManagedKernel, host: Host) -> None:
    listed = f"<tools: 3>\n  tools.anything(**arguments)\n  tools.forecast{SIGNATURE}: What the weather will be.\n"
    listed += "  tools.search(query)"
    assert await prints(kernel, "print(tools, dir(tools))", host) == f"{listed} ['anything', 'forecast', 'search']\n"
    assert await prints(kernel, "tools", host) == listed


async def test_help_shows_signature_and_docstring(kernel: ManagedKernel, host: Host) -> None:
    (shown,) = (await kernel.run(fresh(), "tools.forecast?", tools=host.tools)).outputs
    assert isinstance(shown, DisplayOutput)
    text = str(shown.data["text/plain"])
    assert "tools.forecast(city: str, days: int =" in text
    assert "city: Its name, as people write it there." in text
    assert "Call signature" not in text
    assert "Class docstring" not in text
    said = await prints(kernel, "help(tools.forecast)", host)
    assert f"forecast{SIGNATURE}" in said
    assert "city: Its name, as people write it there." in said


async def test_a_client_is_told_and_completes(kernel: ManagedKernel, host: Host) -> None:
    await kernel.run(fresh(), "1", tools=host.tools)
    client = AsyncKernelClient(connection_file=str(kernel.connection_file))
    client.load_connection_file()
    client.start_channels()
    try:
        code = "x = tools.forecast("
        inspected = (await client.inspect(code, len(code), reply=True, timeout=30))["content"]
        completed: dict[str, set[str]] = {}
        for code in ("tools.", "tools.fo", "y = tools.forecast('Ulm', da", "tools.forecast(days=1, ", "print(da"):
            content: Any = (await client.complete(code, len(code), reply=True, timeout=30))["content"]
            before = code[: content["cursor_start"]]
            completed[code] = {before + match for match in content["matches"]}
    finally:
        client.stop_channels()
    assert inspected["found"] is True
    assert "tools.forecast(city: str, days: int =" in inspected["data"]["text/plain"]
    assert completed["tools."] == {"tools.anything", "tools.forecast", "tools.search"}
    assert completed["tools.fo"] == {"tools.forecast"}
    assert "y = tools.forecast('Ulm', days=" in completed["y = tools.forecast('Ulm', da"]
    unused = completed["tools.forecast(days=1, "]
    assert {"tools.forecast(days=1, city=", "tools.forecast(days=1, unit="} <= unused
    assert "tools.forecast(days=1, days=" not in unused
    assert not [match for match in completed["print(da"] if match.endswith("=")]
    assert not host.calls


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("tools.forecast()", "forecast() is missing 'city'"),
        ("tools.forecast(days=1)", "forecast() is missing 'city'"),
        ("await tools.forecast()", "forecast() is missing 'city'"),
        ("await tools.forecast.aio()", "forecast() is missing 'city'"),
        ("tools.forecast('Ulm', 1, 'C')", "forecast() takes at most 2 arguments; 3 given by position"),
        ("tools.forecast('Ulm', city='Bonn')", "forecast() got 'city' twice"),
        ("tools.forecast('Ulm', day=1)", "forecast() has no parameter 'day'; it has: city, days, unit"),
    ],
)
async def test_a_wrong_call_is_told_the_right_one(kernel: ManagedKernel, host: Host, call: str, said: str) -> None:
    result = await kernel.run(fresh(), call, tools=host.tools)
    assert result.error is not None
    assert (result.error.ename, result.error.evalue) == (
        "TypeError",
        f"{said}. It is called as forecast{SIGNATURE}",
    )
    assert not host.calls
    assert not result.tool_calls


async def test_only_what_was_given_is_sent(kernel: ManagedKernel, host: Host) -> None:
    code = (
        "print(tools.forecast('Ulm', unit='F'), tools.anything(**{'a-b': 1, 'class': 2, 'self': 3}), tools.search(), "
        "tools.search('x'))"
    )
    assert await prints(kernel, code, host) == (
        "{'city': 'Ulm', 'unit': 'F'} {'a-b': 1, 'class': 2, 'self': 3} {} {'query': 'x'}\n"
    )


# --------------------------------------------------------------------------------------------------------- signatures


@pytest.mark.parametrize(
    "text",
    [
        "()",
        "(a, /, b, *rest, c, d=1, **more)",
        "(a: int = -1, b: list[str] | None = None, *, c: 'Later' = ('x', 1)) -> dict[str, float]",
        "(a: Annotated[int, Field(gt=0)] = open('/nowhere'))",
    ],
)
def test_a_signature_is_shown_as_it_is_written(text: str) -> None:
    assert str(parsed(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no signature",
        "(",
        "(a, a)",
        "(a=1, b)",
        "(a b)",
        "(class)",
        "(a): pass\nimport os\ndef other()",
        "(): print(1); x = 1\ndef other()",
        "(a=" + "(" * 5000 + ")" * 5000 + ")",
        "(" + ", ".join(f"a{n}" for n in range(10_000)) + ")",
        "(a\0)",
    ],
)
def test_what_is_no_signature_is_none(text: str) -> None:
    assert parsed(text) is None
    form = Form({"name": "t", "parameters": ["x"], "signature": text})
    assert (str(form), form.arguments((1,), {})) == ("t(x)", {"x": 1})


def test_nothing_of_a_signature_is_run() -> None:
    found = parsed("(a=print('run'), b: print('run') = [n for n in 1/0]) -> 1/0")
    assert found is not None
    assert found.parameters["a"].default == Written("print('run')")
    assert str(found) == "(a=print('run'), b: print('run') = [n for n in 1 / 0]) -> 1 / 0"


KINDS = [inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY]


@st.composite
def signatures(draw: st.DrawFn) -> inspect.Signature:
    """Of parameters with and without defaults, in an order that Python takes."""
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=5))
    kinds = sorted((draw(st.sampled_from(KINDS)) for _ in names), key=KINDS.index)
    parameters = []
    optional = False
    for name, kind in zip(names, kinds, strict=True):
        positional = kind is inspect.Parameter.POSITIONAL_OR_KEYWORD
        optional = draw(st.booleans()) or (optional and positional)
        default = draw(st.integers() | st.text() | st.none()) if optional else inspect.Parameter.empty
        parameters.append(inspect.Parameter(name, kind, default=default))
    if draw(st.booleans()):
        parameters.append(inspect.Parameter("more", inspect.Parameter.VAR_KEYWORD))
    return inspect.Signature(parameters)


@given(
    signature=signatures(),
    args=st.lists(st.integers(), max_size=4),
    kwargs=st.dictionaries(st.sampled_from("abcdefg"), st.integers(), max_size=4),
)
def test_what_a_form_takes_is_what_python_takes(
    signature: inspect.Signature, args: list[int], kwargs: dict[str, int]
) -> None:
    form = Form({"name": "t", "signature": str(signature)})
    assert form.signature == signature
    try:
        bound = signature.bind(*args, **kwargs).arguments
    except TypeError:
        with pytest.raises(TypeError, match="It is called as t"):
            form.arguments(tuple(args), kwargs)
    else:
        more = bound.pop("more", {})
        assert form.arguments(tuple(args), kwargs) == {**bound, **more}


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ("tools.f(", ("f", "")),
        ("print(tools.f(a=1, ", ("f", "a=1, ")),
        ("await tools.f.aio(\n  x, ", ("f", "\n  x, ")),
        ("tools.f(g(1), '(', [2], ", ("f", "g(1), '', [2], ")),
        ("tools.f(g(", None),
        ("tools.f([", None),
        ("tools.f(1)", None),
        ("f(", None),
        ("", None),
    ],
)
def test_the_call_around_the_cursor(before: str, expected: tuple[str, str] | None) -> None:
    assert open_call(before) == expected
