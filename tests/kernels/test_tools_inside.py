"""The same tool called in every way that code has: what comes of it and its records are the same."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from lash_nb.errors import ToolError
from lash_nb.kernels import CellTools, Kernel, ToolOffer
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.kernels.scripted import ScriptedCell, ScriptedKernel
from lash_nb.machine.execution import CellOutcome, CellResult
from lash_nb.machine.tool_calls import (
    PendingToolCall,
    RetryNever,
    RetrySafe,
    ToolCallOutput,
    ToolCallRecord,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
    ToolSucceeded,
)
from lash_nb.machine.wire import Json

from .suite import fresh, texts

FORECAST = ToolOffer(
    name="forecast",
    parameters=("city", "days"),
    signature="(city: str, days: int = 3) -> dict[str, object]",
    doc="What the weather will be.\n\nOf a city.",
)
MODULE = """
import functools

def sync(tools):
    return tools.forecast("Ulm")

async def awaits(tools):
    return await tools.forecast("Ulm")

class Client:
    def __init__(self, tools):
        self.get = functools.partial(tools.forecast, city="Ulm")

    async def both(self):
        return [await self.get(), self.get()]
"""
ONE = [
    "tools.forecast('Ulm')",
    "tools.forecast(city='Ulm')",
    "await tools.forecast('Ulm')",
    "await tools.forecast(city='Ulm')",
    "await tools.forecast(**{'city': 'Ulm'})",
    "await tools.forecast(*['Ulm'])",
    "await tools.forecast.aio('Ulm')",
    "await (tools.forecast('Ulm') if tools else None)",
    "(lambda city: tools.forecast(city))('Ulm')",
    "await (lambda city: tools.forecast(city))('Ulm')",
    "eval(\"tools.forecast('Ulm')\")",
    "await eval(\"tools.forecast('Ulm')\")",
    "weather.sync(tools)",
    "await weather.sync(tools)",
    "await weather.awaits(tools)",
    "await asyncio.wait_for(tools.forecast('Ulm'), 20)",
    "await asyncio.create_task(tools.forecast('Ulm'))",
    "await asyncio.ensure_future(tools.forecast('Ulm'))",
    "await asyncio.shield(tools.forecast('Ulm'))",
    "await asyncio.to_thread(tools.forecast, 'Ulm')",
    "await asyncio.to_thread(lambda: tools.forecast('Ulm'))",
    "await asyncio.to_thread(lambda: asyncio.run(tools.forecast('Ulm')))",
]
MANY = [
    "await asyncio.gather(*[tools.forecast('Ulm') for _ in range(20)])",
    "await asyncio.gather(*(tools.forecast('Ulm') for _ in range(20)))",
    "await asyncio.gather(*map(tools.forecast, ['Ulm'] * 20))",
    "await asyncio.gather(*map(lambda city: tools.forecast(city), ['Ulm'] * 20))",
    "await gather(*(tools.forecast.aio('Ulm') for _ in range(20)))",
    "await gather(*[weather.awaits(tools) for _ in range(20)])",
    "[task.result() for task in await in_a_group()]",
    "[await tools.forecast('Ulm') for _ in range(20)]",
    "[tools.forecast('Ulm') for _ in range(20)]",
    "[one for _ in range(10) for one in await weather.Client(tools).both()]",
    "list(ThreadPoolExecutor(20).map(tools.forecast, ['Ulm'] * 20))",
    "in_threads()",
]
SETUP = """
import asyncio, sys
from asyncio import gather
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

sys.path.insert(0, DIRECTORY)
import weather

async def in_a_group():
    async with asyncio.TaskGroup() as group:
        return [group.create_task(tools.forecast('Ulm')) for _ in range(20)]

def in_threads():
    found = []
    threads = [Thread(target=lambda: found.append(tools.forecast('Ulm'))) for _ in range(20)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    return found
"""
ULM: Json = {"city": "Ulm", "celsius": [1.5, -2.0, None]}
RECORD = ToolCallRecord(
    call_id="",
    tool="forecast",
    args={"city": "Ulm"},
    output=ToolCallOutput(outcome=ToolSucceeded(payload={"city": "Ulm", "celsius": [1.5, -2.0, None]})),
    duration_ms=0,
)


async def forecast(call: PendingToolCall) -> ToolCallOutput:
    assert call == PendingToolCall(call_id=call.call_id, tool_name="forecast", args={"city": "Ulm"})
    await asyncio.sleep(0)
    return ToolCallOutput(outcome=ToolSucceeded(payload=ULM))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("modules")
    (directory / "weather.py").write_text(MODULE)
    return directory


@pytest.fixture
async def kernel(directory: Path) -> AsyncIterator[ManagedKernel]:
    kernel = ManagedKernel()
    await kernel.start()
    result = await kernel.run(fresh(), SETUP.replace("DIRECTORY", repr(str(directory))))
    assert result.outcome is CellOutcome.OK
    yield kernel
    await kernel.shutdown()


def apart_from_ids(result: CellResult) -> list[ToolCallRecord]:
    return [replace(record, call_id="", duration_ms=0) for record in result.tool_calls]


async def test_however_it_is_called_results_and_records_are_equal(kernel: ManagedKernel) -> None:
    tools = CellTools(offers=(FORECAST,), on_call=forecast)
    for code in ONE:
        result = await kernel.run(fresh(), f"print({code})", tools=tools)
        assert (code, texts(result)) == (code, ["{'celsius': [1.5, -2.0, None], 'city': 'Ulm'}\n"])
        assert (code, apart_from_ids(result)) == (code, [RECORD])
    for code in MANY:
        result = await kernel.run(fresh(), f"print({code} == [{ULM!r}] * 20)", tools=tools)
        assert (code, texts(result)) == (code, ["True\n"])
        assert (code, apart_from_ids(result)) == (code, [RECORD] * 20)
        assert [record.call_id for record in result.tool_calls] == [f"c{n}" for n in range(1, 21)]


async def test_a_scripted_kernel_keeps_the_same_records() -> None:
    calls = tuple(PendingToolCall(call_id="", tool_name="forecast", args={"city": "Ulm"}) for _ in range(20))
    kernel: Kernel = ScriptedKernel({"twenty": ScriptedCell(calls=calls)})
    await kernel.start()
    result = await kernel.run(fresh(), "twenty", tools=CellTools(offers=(FORECAST,), on_call=forecast))
    assert apart_from_ids(result) == [RECORD] * 20


# ------------------------------------------------------------------------------------------------- at the same time

MEETING = [
    "await asyncio.gather(tools.meet(n=1), tools.meet(n=2))",
    "await gather(*[tools.meet(n=n) for n in (1, 2)])",
    "await gather(*map(lambda n: tools.meet(n=n), (1, 2)))",
    "[await one for one in [asyncio.ensure_future(tools.meet(n=n)) for n in (1, 2)]]",
    "[await one for one in asyncio.as_completed([tools.meet(n=1), tools.meet(n=2)])]",
    "await gather(asyncio.to_thread(tools.meet, n=1), weather_of(2))",
]


@pytest.mark.parametrize("code", MEETING)
async def test_calls_that_are_awaited_wait_together(kernel: ManagedKernel, code: str) -> None:
    """Each is answered only when both were made: one that blocked its loop would be the last."""
    here: list[PendingToolCall] = []
    both = asyncio.Event()

    async def meet(call: PendingToolCall) -> Json:
        here.append(call)
        if len(here) == 2:
            both.set()
        await both.wait()
        return None

    tools = CellTools(offers=(ToolOffer(name="meet", signature="(*, n: int)"),), on_call=meet)
    setup = "async def weather_of(n): return await tools.meet(n=n)\n"
    result = await kernel.run(fresh(), f"{setup}print({code})", tools=tools, timeout_s=20)
    assert texts(result) == ["[None, None]\n"]


async def test_a_call_whose_value_is_used_waits_where_it_is(kernel: ManagedKernel) -> None:
    code = """
async def same(value, *more): return value
def wraps(city):
    found = tools.forecast(city)
    return found
class gathering:
    @staticmethod
    async def gather(*values): return values
values = [await same(tools.forecast('Ulm')), await same(*[tools.forecast('Ulm')]), wraps('Ulm')]
values += await gathering.gather(tools.forecast('Ulm')), await gather(same(tools.forecast('Ulm')))
values += [x for x in await gather(*[same(tools.forecast('Ulm')) for _ in range(2)])]
print([type(value).__name__ for value in values])
"""
    result = await kernel.run(fresh(), code, tools=CellTools(offers=(FORECAST,), on_call=forecast))
    assert texts(result) == ["['dict', 'dict', 'dict', 'tuple', 'list', 'dict', 'dict']\n"]


# ------------------------------------------------------------------------------------------------------- between cells


async def test_tools_come_and_go_between_cells(kernel: ManagedKernel) -> None:
    seen: list[PendingToolCall] = []

    async def answer(call: PendingToolCall) -> Json:
        seen.append(call)
        return call.args

    def with_offers(*offers: ToolOffer) -> CellTools:
        return CellTools(offers=offers, on_call=answer)

    async def said(code: str, *offers: ToolOffer) -> str:
        result = await kernel.run(fresh(), code, tools=with_offers(*offers))
        return "".join(texts(result)) if result.error is None else f"{result.error.ename}: {result.error.evalue}"

    old, new = ToolOffer(name="a", signature="(x)"), ToolOffer(name="a", signature="(y, z=1)")
    other = ToolOffer(name="b", signature="()")
    assert await said("kept = tools.a; print(kept(1), dir(tools))", old) == "{'x': 1} ['a']\n"
    assert await said("print(kept(1), tools.a(2), dir(tools))", new, other) == "{'y': 1} {'y': 2} ['a', 'b']\n"
    assert len(seen) == 3
    gone = "ToolError: there is no tool 'a' any more; there are: b"
    assert await said("kept(1)", other) == gone
    assert await said("await kept(1)", other) == gone
    assert await said("tools.a", other) == "AttributeError: there is no tool 'a'; there are: b"
    assert len(seen) == 3


# ------------------------------------------------------------------------------------------------------------ failures


@pytest.mark.parametrize("scripted", [True, False])
async def test_a_tool_error_keeps_what_it_says(kernel: ManagedKernel, scripted: bool) -> None:
    async def answer(call: PendingToolCall) -> Json:
        raise ToolError("come back tomorrow", kind="unavailable", code="closed", passing=True)

    code = "try: await tools.shop()\nexcept ToolError as error: print(error.kind, error.code, error.message)"
    call = PendingToolCall(call_id="", tool_name="shop", args={})
    used: Kernel = ScriptedKernel([ScriptedCell(calls=(call,))]) if scripted else kernel
    await used.start()
    result = await used.run(fresh(), code, tools=CellTools(offers=(ToolOffer(name="shop"),), on_call=answer))
    assert result.outcome is CellOutcome.OK
    assert scripted or texts(result) == ["unavailable closed come back tomorrow\n"]
    failure = ToolFailure(
        class_=ToolFailureClass.UNAVAILABLE,
        code="closed",
        message="come back tomorrow",
        source=ToolFailureSource.TOOL,
        retry=RetrySafe(),
    )
    assert result.tool_calls[0].output == ToolCallOutput(outcome=ToolFailed(payload=failure))


@pytest.mark.parametrize("scripted", [True, False])
async def test_a_value_that_is_too_long_is_a_failed_call(kernel: ManagedKernel, scripted: bool) -> None:
    async def answer(call: PendingToolCall) -> Json:
        return "x" * 8_000_000

    call = PendingToolCall(call_id="", tool_name="long", args={})
    used: Kernel = ScriptedKernel([ScriptedCell(calls=(call,))]) if scripted else kernel
    await used.start()
    code = "try: tools.long()\nexcept ToolError as error: print(error.kind, error.code, error.message)"
    result = await used.run(fresh(), code, tools=CellTools(offers=(ToolOffer(name="long"),), on_call=answer))
    message = "the tool's value is 8,000,002 characters of JSON, over 8,000,000; ask for less of it"
    assert scripted or texts(result) == [f"resource_limit value_too_long {message}\n"]
    failure = ToolFailure(
        class_=ToolFailureClass.RESOURCE_LIMIT,
        code="value_too_long",
        message=message,
        source=ToolFailureSource.TOOL,
        retry=RetryNever(),
    )
    assert result.tool_calls[0].output == ToolCallOutput(outcome=ToolFailed(payload=failure))
