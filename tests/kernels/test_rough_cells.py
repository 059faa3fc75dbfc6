"""Cells that do what reviews have found to break things: signals at odd moments, wrapped streams, odd values."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import lash_nb
from lash_nb.errors import KernelBusyError
from lash_nb.kernels import CellTools, InputRequest, ToolOffer
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome, CellResult, DisplayOutput, FinishValue, StreamOutput
from lash_nb.machine.tool_calls import PendingToolCall, ToolCallOutput, ToolCancelled, ToolSucceeded
from lash_nb.machine.wire import Json

from .suite import fresh, texts


@pytest.fixture(scope="module")
def kernel() -> Iterator[ManagedKernel]:
    kernel = ManagedKernel()
    asyncio.run(kernel.start())
    yield kernel
    asyncio.run(kernel.shutdown())


async def ok(kernel: ManagedKernel, code: str, tools: CellTools | None = None) -> CellResult:
    result = await kernel.run(fresh(), code, tools=tools)
    assert result.outcome is CellOutcome.OK, result
    return result


def answering(*names: str, value: Json = None) -> CellTools:
    async def answer(call: PendingToolCall) -> ToolCallOutput | Json:
        assert isinstance(call.args, dict)
        return value if value is not None else call.args.get("x")

    return CellTools(offers=tuple(ToolOffer(name=name) for name in names), on_call=answer)


# ----------------------------------------------------------------------------------------------- signals

AT_THE_END_OF_AN_AWAIT = """
import os, asyncio
trap = get_ipython().builtin_trap; original = trap.deactivate
def deactivate(): trap.deactivate = original; original(); os.kill(os.getpid(), 2)
trap.deactivate = deactivate
await asyncio.sleep(.01)
"""
BEHIND_THE_CELL = """
import os
kernel = get_ipython().kernel; original = kernel.post_handler_hook
def hook(): kernel.post_handler_hook = original; os.kill(os.getpid(), 2); original()
kernel.post_handler_hook = hook
"""


@pytest.mark.parametrize("code", [AT_THE_END_OF_AN_AWAIT, BEHIND_THE_CELL])
async def test_a_signal_between_cells_and_kernel_does_not_end_the_kernel(kernel: ManagedKernel, code: str) -> None:
    before = kernel.epoch
    await kernel.run(fresh(), code)
    assert texts(await ok(kernel, "print('alive')")) == ["alive\n"]
    assert kernel.epoch == before


async def test_interrupts_at_any_moment_leave_a_kernel_that_works(kernel: ManagedKernel) -> None:
    before = kernel.epoch
    for moment in range(60):
        code = "import asyncio; await asyncio.sleep(.01)" if moment % 2 else "import time; time.sleep(.01); print(1)"
        task = asyncio.ensure_future(kernel.run(fresh(), code))
        await asyncio.sleep(moment / 2500)
        await kernel.interrupt()
        assert (await task).outcome in (CellOutcome.OK, CellOutcome.INTERRUPTED)
    assert texts(await ok(kernel, "print('alive')")) == ["alive\n"]
    assert kernel.epoch == before


async def test_an_interrupt_in_the_middle_of_sending_does_not_mute_the_kernel(kernel: ManagedKernel) -> None:
    code = """
import sys
def trace(frame, event, arg):
    if frame.f_code.co_name == 'schedule' and frame.f_code.co_filename == '<lash_nb outlet>':
        def line(frame, event, arg):
            if event == 'line' and frame.f_locals['self'].woken:
                sys.settrace(None)
                raise KeyboardInterrupt
            return line
        return line
sys.settrace(trace)
print('x', flush=True)
"""
    await kernel.run(fresh(), code)
    result = await ok(kernel, "print('heard')")
    assert (texts(result), result.detail) == (["heard\n"], "")


async def test_signal_handlers_may_print(kernel: ManagedKernel) -> None:
    code = """
import signal
count = 0
def handler(*args):
    global count
    count += 1
    print('S')
signal.signal(signal.SIGALRM, handler); signal.setitimer(signal.ITIMER_REAL, .0005, .0005)
for n in range(3000): print('m')
signal.setitimer(signal.ITIMER_REAL, 0)
print(count)
"""
    text = "".join(texts(await ok(kernel, code)))
    assert text.count("m") == 3000
    assert text.count("S") == int(text.split()[-1]) > 0


# ------------------------------------------------------------------------------------------- a cell's end


async def test_a_cell_that_ends_well_when_it_is_stopped_is_told_so(kernel: ManagedKernel) -> None:
    key = fresh()
    code = "import time\ntry: time.sleep(60)\nexcept KeyboardInterrupt: finish('done')"
    result = await kernel.run(key, code, timeout_s=0.3)
    assert (result.outcome, result.finish) == (CellOutcome.OK, FinishValue(value="done"))
    assert "longer than 0.3 s" in result.detail
    again = await kernel.run(key, code)
    assert (again.outcome, again.finish) == (CellOutcome.OK, FinishValue(value="done"))


async def test_a_call_of_a_cell_that_was_given_up_is_answered(kernel: ManagedKernel) -> None:
    code = """
import time
print('begun', flush=True)
end = time.time() + 1.5
while time.time() < end:
    try: time.sleep(.1)
    except KeyboardInterrupt: pass
print(tools.t(x=1))
"""
    begun = asyncio.Event()
    task = asyncio.ensure_future(kernel.run(fresh(), code, tools=answering("t"), on_output=lambda outputs: begun.set()))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(200):
        try:
            assert texts(await ok(kernel, "print('free')")) == ["free\n"]
            return
        except KernelBusyError:
            await asyncio.sleep(0.05)
    raise AssertionError("it waits for an answer")


async def test_a_tool_that_ignores_its_cancellation_is_recorded(kernel: ManagedKernel) -> None:
    async def answer(call: PendingToolCall) -> Json:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            try:
                await asyncio.sleep(0.1)
            except asyncio.CancelledError:
                continue
        return 1

    tools = CellTools(offers=(ToolOffer(name="deaf"),), on_call=answer)
    result = await kernel.run(fresh(), "tools.deaf()", tools=tools, timeout_s=0.3)
    assert result.outcome is CellOutcome.TIMEOUT
    (record,) = result.tool_calls
    assert isinstance(record.output.outcome, ToolCancelled)


# ---------------------------------------------------------------------------------------------- streams

TEE = """
import os, sys
class Tee:
    def __init__(self, stream): self.stream = stream
    def write(self, text): return self.stream.write(text)
    def flush(self): self.stream.flush()
original = sys.stdout
sys.stdout = Tee(sys.stdout)
print('first')
"""


async def test_a_wrapped_stdout_still_writes_to_its_cell(kernel: ManagedKernel) -> None:
    kernel.take_background()
    assert texts(await ok(kernel, TEE)) == ["first\n"]
    assert texts(await ok(kernel, "print('second')")) == ["second\n"]
    assert texts(await ok(kernel, "os.system('echo child'); print(3); sys.stdout = original")) == ["child\n3\n"]
    assert kernel.take_background() == ()


async def test_subclasses_of_str_keep_their_place(kernel: ManagedKernel) -> None:
    code = "class S(str): pass\nprint('a'); sys.stdout.write(S('s\\n')); print('b')"
    assert texts(await ok(kernel, f"import sys\n{code}")) == ["a\ns\nb\n"]


async def test_what_forked_children_print_is_recorded_in_its_place(kernel: ManagedKernel) -> None:
    code = """
import os, sys
print('before')
pid = os.fork()
if pid == 0:
    print('in child'); sys.stdout.flush(); os._exit(0)
os.waitpid(pid, 0)
print('after')
"""
    key = fresh()
    first, again = await kernel.run(key, code), await kernel.run(key, code)
    assert texts(first) == texts(again) == ["before\nin child\nafter\n"]
    pool = (
        "import multiprocessing\nwith multiprocessing.get_context('fork').Pool(2) as pool: pool.map(print, ['p'] * 4)"
    )
    assert sorted("".join(texts(await ok(kernel, pool))).split()) == ["p"] * 4


async def test_commands_with_many_small_writes_are_whole(kernel: ManagedKernel) -> None:
    (stream,) = (await ok(kernel, "!yes 2>/dev/null | head -n 300000")).outputs
    assert isinstance(stream, StreamOutput)
    assert len(stream.head) + stream.omitted_chars + len(stream.tail) in (600_000, 900_000)  # with a terminal's \r


async def test_displays_stand_behind_what_was_printed_before_them(kernel: ManagedKernel) -> None:
    code = "for n in range(40_000): print(n)\nprint('last', flush=True)\ndisplay('shown')\nprint('end')"
    stream, shown, end = (await ok(kernel, code)).outputs
    assert isinstance(stream, StreamOutput)
    assert stream.tail.endswith("last\n")
    assert isinstance(shown, DisplayOutput)
    assert end == StreamOutput(name="stdout", head="end\n")


async def test_help_is_shown(kernel: ManagedKernel) -> None:
    (shown,) = (await ok(kernel, "?len")).outputs
    assert isinstance(shown, DisplayOutput)
    assert "number of items" in str(shown.data["text/plain"])


# ------------------------------------------------------------------------------------------------ values


async def test_values_that_json_does_not_have_are_displayed(kernel: ManagedKernel) -> None:
    code = """
import datetime
from fractions import Fraction
from IPython.display import JSON
display({'application/json': {'a': datetime.datetime(2026, 1, 2), 'b': 1}, 'text/plain': 'p'}, raw=True)
"""
    (shown,) = (await ok(kernel, code)).outputs
    assert isinstance(shown, DisplayOutput)
    assert "2026-01-02" in str(shown.data["application/json"])


@pytest.mark.parametrize("value", ["x\udce9", "\ud800", 2**63, -(2**63), 1.5, {"a": [None, True]}])
async def test_values_pass_unchanged_through_tools(kernel: ManagedKernel, value: Json) -> None:
    tools = answering("echo")
    key, code = fresh(), f"print(tools.echo(x={value!r}) == {value!r})"
    first, again = await kernel.run(key, code, tools=tools), await kernel.run(key, code, tools=tools)
    assert texts(first) == ["True\n"]
    for result in (first, again):
        (record,) = result.tool_calls
        assert record.args == {"x": value}
        assert record.output == ToolCallOutput(outcome=ToolSucceeded(payload=value))


async def test_who_watches_costs_nobody_the_result(kernel: ManagedKernel) -> None:
    def sink(outputs: object) -> None:
        raise ValueError("a bug of the watcher's")

    assert texts(await kernel.run(fresh(), "print(1)", on_output=sink)) == ["1\n"]


async def test_of_long_gone_cells_it_is_known_that_they_ran(kernel: ManagedKernel) -> None:
    key, code = fresh(), "print('once'); finish('x' * 1000)"
    first = await kernel.run(key, code)
    assert first.finish == FinishValue(value="x" * 1000)
    for _ in range(201):
        await ok(kernel, "1")
    again = await kernel.run(key, code)
    assert (again.outcome, again.recovered, again.outputs, again.finish) == (CellOutcome.OK, True, (), None)
    assert "no longer kept" in again.detail


# ------------------------------------------------------------------------------------ parts and servers


async def test_a_part_that_was_replaced_by_one_that_works_stays(kernel: ManagedKernel) -> None:
    code = """
from ipykernel.zmqshell import ZMQDisplayPublisher
class Mine(ZMQDisplayPublisher): pass
ip = get_ipython(); kept = ip.display_pub
ip.display_pub = Mine(parent=ip, session=kept.session, pub_socket=kept.pub_socket)
"""
    assert (await ok(kernel, code)).outputs == ()
    assert texts(await ok(kernel, "type(ip.display_pub).__name__")) == ["'Mine'"]
    (shown,) = (await ok(kernel, "display('shown')")).outputs
    assert isinstance(shown, DisplayOutput)
    result = await ok(kernel, "ip.display_pub = object()")
    assert texts(result) == ["[put back, because the kernel cannot work without: get_ipython().display_pub]\n"]
    await ok(kernel, "ip.display_pub = kept")


async def test_an_interrupt_spares_the_servers_of_multiprocessing(kernel: ManagedKernel) -> None:
    code = """
import multiprocessing, os, time
from multiprocessing import resource_tracker, shared_memory
memory = shared_memory.SharedMemory(create=True, size=10)
context = multiprocessing.get_context('forkserver')
process = context.Process(target=os.system, args=('trap "" INT; sleep 60',)); process.start()
tracker = resource_tracker._resource_tracker._pid
server = multiprocessing.forkserver._forkserver._forkserver_pid
while True: pass
"""
    assert (await kernel.run(fresh(), code, timeout_s=2)).outcome is CellOutcome.TIMEOUT
    code = "process.join(5); os.kill(tracker, 0); os.kill(server, 0); process.exitcode"
    assert texts(await ok(kernel, code)) == ["-15"]
    code = "process = context.Process(target=abs, args=(1,)); process.start(); process.join(); process.exitcode"
    assert texts(await ok(kernel, f"memory.close(); memory.unlink(); {code}")) == ["0"]


async def test_the_time_in_which_a_person_types_does_not_count() -> None:
    def slow(request: InputRequest) -> str:
        time.sleep(1)
        return "typed"

    async with ManagedKernel(on_input=slow) as kernel:
        assert texts(await kernel.run(fresh(), "input('who? ')", timeout_s=0.5)) == ["'typed'"]
        result = await kernel.run(fresh(), "input('who? ')\nwhile True: pass", timeout_s=0.5)
        assert result.outcome is CellOutcome.TIMEOUT
        code = "try: input('who? ')\nexcept KeyboardInterrupt: pass\nwhile True: pass"  # what is typed comes too late
        task = asyncio.ensure_future(kernel.run(fresh(), code, timeout_s=0.5))
        await asyncio.sleep(0.2)
        await kernel.interrupt()
        began = time.monotonic()
        assert (await task).outcome is CellOutcome.TIMEOUT
        assert time.monotonic() - began < 0.9


def test_a_newer_lash_nb_on_the_disk_is_not_mixed_with_this_one(tmp_path: Path) -> None:
    copy = tmp_path / "lash_nb"
    shutil.copytree(Path(lash_nb.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    code = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from pathlib import Path
from lash_nb.kernels.inside import __file__ as file, bootstrap, compiled
here = Path(file).parent
assert here.is_relative_to({str(tmp_path)!r})
first = bootstrap(file="parts"), compiled()
(here / "loading.py").write_text("raise ValueError")
(here / "finish.py").rename(here / "ending.py")
assert (bootstrap(file="parts"), compiled()) == first
bootstrap()
"""
    subprocess.run([sys.executable, "-I", "-c", code], check=True, timeout=20)
