"""Tools called from inside a real kernel: from threads and tasks, by the hundred, cancelled, refused, broken."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from lash_nb.kernels import CellTools, ToolOffer
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome, CellResult
from lash_nb.machine.tool_calls import PendingToolCall, ToolCallOutput, ToolCancelled, ToolSucceeded

from .suite import fresh, texts


@pytest.fixture(scope="module")
def kernel() -> Iterator[ManagedKernel]:
    kernel = ManagedKernel()
    asyncio.run(kernel.start())
    yield kernel
    asyncio.run(kernel.shutdown())


class Host:
    """Echoes, or waits until it is cancelled."""

    def __init__(self) -> None:
        self.calls: list[PendingToolCall] = []
        self.waiting = asyncio.Event()
        self.cancelled = 0
        offers = (ToolOffer(name="echo", parameters=("x", "y"), doc="Gives x back."), ToolOffer(name="wait"))
        self.tools = CellTools(offers=offers, on_call=self.answer)

    async def answer(self, call: PendingToolCall) -> ToolCallOutput:
        self.calls.append(call)
        if call.tool_name == "wait":
            self.waiting.set()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        assert isinstance(call.args, dict)
        return ToolCallOutput(outcome=ToolSucceeded(payload=call.args["x"]))


@pytest.fixture
def host() -> Host:
    return Host()


async def run(kernel: ManagedKernel, code: str, host: Host) -> CellResult:
    return await kernel.run(fresh(), code, tools=host.tools)


async def prints(kernel: ManagedKernel, code: str, host: Host) -> str:
    result = await run(kernel, code, host)
    assert result.outcome is CellOutcome.OK, result
    return "".join(texts(result))


async def test_two_hundred_at_once_and_fifty_threads(kernel: ManagedKernel, host: Host) -> None:
    code = """
import asyncio, threading
found = await asyncio.gather(*(tools.echo.aio(x=n) for n in range(200)))
print(found == list(range(200)))
answers = {}
threads = [threading.Thread(target=lambda n=n: answers.update({n: tools.echo(x=[n])})) for n in range(50)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(answers == {n: [n] for n in range(50)})
"""
    result = await run(kernel, code, host)
    assert texts(result) == ["True\nTrue\n"]
    assert [record.call_id for record in result.tool_calls] == [f"c{n}" for n in range(1, 251)]
    assert len(host.calls) == 250
    for record in result.tool_calls:
        assert isinstance(record.args, dict)
        assert record.output == ToolCallOutput(outcome=ToolSucceeded(payload=record.args["x"]))


async def test_from_an_executor_and_a_function_of_a_module(kernel: ManagedKernel, host: Host) -> None:
    code = """
import asyncio
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(4) as pool:
    print(sorted(pool.map(lambda n: tools.echo(x=n), range(20))) == list(range(20)))
print(await asyncio.to_thread(tools.echo, 5))
"""
    assert await prints(kernel, code, host) == "True\n5\n"


async def test_what_a_tool_looks_like(kernel: ManagedKernel, host: Host) -> None:
    code = "print(dir(tools), tools.echo.__doc__, tools.echo, hasattr(tools, 'nothing'), tools.echo is tools.echo)"
    assert await prints(kernel, code, host) == "['echo', 'wait'] Gives x back. <tool echo(x, y)> False True\n"
    assert await prints(kernel, "print(tools)", host) == (
        "<tools: 2>\n  tools.echo(x, y): Gives x back.\n  tools.wait(**arguments)\n"
    )


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        ("tools.nothing()", "AttributeError", "there is no tool 'nothing'; there are: echo, wait"),
        ("tools.wait(1)", "TypeError", "wait() takes keyword arguments only; 1 given by position"),
        ("tools.echo(1, 2, 3)", "TypeError", "echo() takes at most 2 arguments; 3 given by position"),
        ("tools.echo(1, x=2)", "TypeError", "echo() got 'x' twice"),
        ("tools.echo(z=1)", "TypeError", "echo() has no parameter 'z'; it has: x, y"),
        ("tools.echo(object())", "TypeError", "echo(): x is of type object, which is not JSON"),
        ("tools.echo(x=float('nan'))", "ValueError", "echo(): x is nan"),
        ("tools.echo(x='x' * 9_000_000)", "ValueError", "echo(): the arguments are 9,0"),
        ("tools.echo = 1", "AttributeError", "tools are the host's"),
        ("del tools.echo", "AttributeError", "tools are the host's"),
        ("await tools.nothing.aio()", "AttributeError", "there is no tool 'nothing'"),
    ],
)
async def test_mistakes_are_errors_at_the_call(
    kernel: ManagedKernel, host: Host, call: str, error: str, said: str
) -> None:
    result = await run(kernel, call, host)
    assert result.error is not None
    assert result.error.ename == error
    assert said in result.error.evalue
    assert not host.calls
    traceback = "\n".join(result.error.traceback)
    assert call.split("(")[0] in traceback
    assert "lash_nb" not in traceback
    assert "hidden" not in traceback


async def test_a_failure_shows_the_call_and_nothing_of_ours(kernel: ManagedKernel, host: Host) -> None:
    code = "def f():\n    return tools.echo(y=1)\nf()"
    result = await run(kernel, code, host)
    assert result.error is not None
    assert result.error.ename == "ToolError"
    traceback = "\n".join(result.error.traceback)
    assert "return tools.echo(y=1)" in traceback
    assert not {"lash_nb", "hidden", "concurrent", "asyncio"} & set(
        traceback.replace("/", " ").replace(".", " ").split()
    )
    assert (await run(kernel, "await tools.echo.aio(y=1)", host)).error is not None


@pytest.mark.parametrize("call", ["tools.wait.aio()", "tools.wait()"])
async def test_a_cancelled_task_cancels_its_call(kernel: ManagedKernel, host: Host, call: str) -> None:
    code = """
import asyncio
try:
    await asyncio.wait_for(CALL, 0.2)
except asyncio.TimeoutError:
    print('timed out')
print(tools.echo(x=1))
"""
    result = await run(kernel, code.replace("CALL", call), host)
    assert texts(result) == ["timed out\n1\n"]
    wait, echo = result.tool_calls
    assert isinstance(wait.output.outcome, ToolCancelled)
    assert isinstance(echo.output.outcome, ToolSucceeded)
    assert host.cancelled == 1


@pytest.mark.parametrize(
    "code", ["tools.wait()", "await tools.wait()", "import asyncio\nawait asyncio.gather(tools.wait())"]
)
async def test_an_interrupt_ends_the_waiting(kernel: ManagedKernel, host: Host, code: str) -> None:
    task = asyncio.ensure_future(run(kernel, code, host))
    await asyncio.wait_for(host.waiting.wait(), 20)
    assert await kernel.interrupt()
    result = await task
    assert result.outcome is CellOutcome.INTERRUPTED
    (record,) = result.tool_calls
    assert isinstance(record.output.outcome, ToolCancelled)
    assert host.cancelled == 1


async def test_a_forked_process_is_told_that_it_cannot_call(kernel: ManagedKernel, host: Host) -> None:
    code = """
import os
reading, writing = os.pipe()
child = os.fork()
if not child:
    try: tools.echo(x=1)
    except ToolError as error: os.write(writing, error.code.encode())
    finally: os._exit(0)
os.waitpid(child, 0)
print(os.read(reading, 100), tools.echo(x=2))
"""
    assert await prints(kernel, code, host) == "b'other_process' 2\n"


async def test_what_threads_leave_waiting_ends_with_the_cell(kernel: ManagedKernel, host: Host) -> None:
    code = """
import threading
said = []
def call():
    try: tools.wait()
    except ToolError as error: said.append((error.kind, error.code))
thread = threading.Thread(target=call); thread.start()
"""
    task = asyncio.ensure_future(run(kernel, code + "import time; time.sleep(0.3)", host))
    await host.waiting.wait()
    result = await task
    assert result.outcome is CellOutcome.OK
    assert isinstance(result.tool_calls[0].output.outcome, ToolCancelled)
    assert host.cancelled == 1
    assert await prints(kernel, "thread.join(); print(said)", host) == "[('cancelled', 'cell_ended')]\n"


async def test_code_of_an_earlier_cell_cannot_call(kernel: ManagedKernel, host: Host) -> None:
    code = """
import threading
go, said = threading.Event(), []
def call():
    go.wait()
    try: tools.echo(x=1)
    except ToolError as error: said.append(error.code)
thread = threading.Thread(target=call); thread.start()
"""
    await run(kernel, code, host)
    assert await prints(kernel, "go.set(); thread.join(); print(said)", host) == "['no_cell']\n"
    assert not host.calls


async def test_without_tools_every_call_is_refused(kernel: ManagedKernel) -> None:
    result = await kernel.run(fresh(), "print(dir(tools)); tools.echo(x=1)")
    assert result.error is not None
    assert result.error.evalue == "there is no tool 'echo'; there are: none"


async def test_a_value_that_is_not_json_is_the_tools_mistake(kernel: ManagedKernel) -> None:
    async def answer(call: PendingToolCall) -> ToolCallOutput:
        return ToolCallOutput(outcome=ToolSucceeded(payload={"x": object()}))  # type: ignore[dict-item]

    tools = CellTools(offers=(ToolOffer(name="bad"),), on_call=answer)
    result = await kernel.run(fresh(), "tools.bad()", tools=tools)
    assert result.error is not None
    assert "is not JSON" in result.error.evalue
    assert await kernel.interrupt()


async def test_code_that_breaks_the_line_gets_an_error(host: Host) -> None:
    kernel = ManagedKernel()
    await kernel.start()
    try:
        # A minute is shortened to a second: what is tested is that it ends.
        code = (
            "import builtins, time\n"
            "type(vars(tools)['_calls']).silent.__globals__['SILENCE_S'] = 1.0\n"
            "kernel = get_ipython().kernel\n"
            "kernel.control_thread.io_loop.add_callback(kernel.control_stream.stop_on_recv); time.sleep(0.2)\n"
            "tools.echo(x=1)"
        )
        result = await run(kernel, code, host)
        assert result.error is not None
        assert (result.error.ename, result.outcome) == ("ToolError", CellOutcome.ERROR)
        assert "restart the kernel" in result.error.evalue
        await kernel.restart()
        assert await prints(kernel, "print(tools.echo(x=1))", host) == "1\n"
    finally:
        await kernel.shutdown()


async def test_code_that_deletes_what_is_ours_gets_an_error(host: Host) -> None:
    kernel = ManagedKernel()
    await kernel.start()
    try:
        code = "import builtins\nfor name in ('tools', 'finish', 'ToolError'): delattr(builtins, name)\ntools"
        result = await run(kernel, code, host)
        assert result.error is not None
        assert result.error.evalue == "name 'tools' is not defined"
        broken = "kernel = get_ipython().kernel; kernel.control_handlers.clear(); del kernel._lash_nb; print('on')"
        assert await prints(kernel, broken, host) == "on\n"
        assert [v.name for v in (await kernel.namespace()).variables] == ["builtins", "kernel", "name"]
    finally:
        await kernel.shutdown()


async def test_nothing_of_ours_shows(kernel: ManagedKernel) -> None:
    await kernel.restart()
    code = "import sys; print([n for n in dir() if 'lash' in n.lower()], [m for m in sys.modules if 'lash' in m])"
    assert "".join(texts(await kernel.run(fresh(), code))) == "[] []\n"
