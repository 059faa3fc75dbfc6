"""The cells of a turn: which kernel, under which key, what is said when one is gone, and the tools that they call."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any

import pytest

from lash_nb import ScriptedKernel
from lash_nb.cell_runs import CellRuns
from lash_nb.errors import JournalError, KernelStartError
from lash_nb.host import TurnHost
from lash_nb.kernels import CellTools, ToolOffer
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.driver import StartExec
from lash_nb.machine.effects import EffectId, ExecCode
from lash_nb.machine.events import CodeBlockCompleted, PluginEvent, StatusRuntimeEvent, ToolCallStart
from lash_nb.machine.execution import CellOutcome, CellResult, ExecResponse, FinishValue, NamespaceSummary
from lash_nb.machine.tool_calls import ToolCallOutput, ToolFailed, ToolFailureClass, ToolSucceeded
from lash_nb.ports import Resumed, Unrecorded
from lash_nb.tool_runs import ToolRuns
from lash_nb.toolkits import Tool
from lash_nb.toolkits.functions import ToolFunction

from .conversations import stdout
from .told_turns import SECRET, Run, Told, call, finish


def executing(*codes: tuple[str, str]) -> Told:
    """A turn that runs these cells, `(language, code)` each, then ends."""
    return Told(*(_start(language, code) for language, code in codes), finish)


def _start(language: str, code: str) -> Any:
    return lambda ctx: [StartExec(language=language, code=code)]


def completed(run: Run) -> list[CodeBlockCompleted]:
    return [one for one in run.activities if isinstance(one, CodeBlockCompleted)]


# -- which kernel ------------------------------------------------------------------------------------------------------


async def test_a_cell_has_a_key_of_epoch_session_turn_and_effect() -> None:
    run = Run(executing(("python", "1")))
    await run.to_the_end()
    assert run.kernel.ran == [(f"{run.kernel.epoch}:s:1:1", "1")]


async def test_the_language_picks_the_kernel_and_the_kernel_is_kept() -> None:
    bash = ScriptedKernel(language="bash")
    run = Run(executing(("bash", "x=1"), ("Python", "1"), ("bash", "echo $x")), kernels={"bash": bash})
    await run.to_the_end()
    assert bash.epoch == "scripted-1"
    assert bash.ran == [("scripted-1:s:1:1", "x=1"), ("scripted-1:s:1:3", "echo $x")]
    assert run.kernel.ran == [("scripted-1:s:1:2", "1")]
    assert [one.outcome for one in completed(run)] == [CellOutcome.OK] * 3


async def test_a_language_without_a_kernel_is_told_to_the_model() -> None:
    run = Run(executing(("cobol", "1")))
    await run.to_the_end()
    assert (
        "aborted: the cell was not run.\nThe cell was not run: no kernel for 'cobol'" in run.protocol.results[0].error
    )
    assert run.made == ["cobol"]
    assert run.kernel.ran == []
    assert run.errors == []


class _NotComingUp(ScriptedKernel):
    async def start(self) -> None:
        raise KernelStartError("no interpreter")


async def test_a_kernel_that_does_not_come_up_is_told_to_the_model() -> None:
    run = Run(executing(("bash", "1"), ("python", "1")), kernels={"bash": _NotComingUp(language="bash")})
    await run.to_the_end()
    assert "not run: no interpreter" in run.protocol.results[0].error
    assert run.protocol.results[1].error is None


async def test_another_kernel_that_dies_is_replaced_and_the_main_one_is_left_alone() -> None:
    bash = ScriptedKernel([ScriptedCell(dies=True), ScriptedCell()], language="bash")
    run = Run(executing(("bash", "exit"), ("bash", "echo")), kernels={"bash": bash})
    await run.to_the_end()
    assert (
        "A new kernel was started; it is empty. What earlier cells defined in it is gone."
        in run.protocol.results[0].error
    )
    assert [key for key, _ in bash.ran] == ["scripted-1:s:1:1", "scripted-2:s:1:2"]
    assert run.protocol.results[1].error is None
    assert run.kernel.epoch == "scripted-1"


async def test_another_kernel_that_died_between_cells_is_started_again_and_that_is_said() -> None:
    bash = ScriptedKernel(language="bash")
    await bash.start()
    await bash.kill()
    run = Run(executing(("bash", "echo")), kernels={"bash": bash})
    await run.to_the_end()
    assert run.protocol.results[0].error is None
    (label,) = [
        one.event.label
        for one in run.activities
        if isinstance(one, PluginEvent) and isinstance(one.event, StatusRuntimeEvent)
    ]
    assert "bash kernel had ended" in label


async def test_what_a_kernel_recorded_is_said_to_be_recorded() -> None:
    kernel = ScriptedKernel([ScriptedCell(outputs=(stdout("once\n"),))])
    await kernel.start()
    await kernel.run("scripted-1:s:1:1", "1")
    run = Run(executing(("python", "1")), kernel=kernel)
    await run.to_the_end()
    assert len(kernel.ran) == 1
    assert run.protocol.results[0].observations == ("once",)
    assert completed(run)[0].detail == ""  # for the model it is as if nothing had happened
    notes = [one.event for one in run.activities if isinstance(one, PluginEvent)]
    assert len(notes) == 1
    assert isinstance(notes[0], StatusRuntimeEvent)
    assert "it was not run again" in notes[0].label


async def test_a_key_of_other_code_is_not_run_and_ends_no_turn() -> None:
    kernel = ScriptedKernel()
    await kernel.start()
    await kernel.run("scripted-1:s:1:1", "something else")
    run = Run(executing(("python", "1")), kernel=kernel)
    await run.to_the_end()
    assert "used for other code" in run.protocol.results[0].error
    assert run.errors == []


@pytest.mark.parametrize(
    ("language", "epochs", "outcome"),
    [
        ("bash", {}, "ok"),
        ("bash", {"python": "gone"}, "ok"),
        ("bash", {"bash": "scripted-1"}, "ok"),
        ("bash", {"bash": "gone"}, "lost"),
        ("Bash", {"BASH": "gone"}, "lost"),
        ("cobol", {}, "aborted"),
        ("cobol", {"cobol": "gone"}, "lost"),
    ],
)
async def test_a_cell_of_an_earlier_host_is_lost_with_the_kernel_of_its_language(
    language: str, epochs: dict[str, str], outcome: str
) -> None:
    bash = ScriptedKernel(language="bash")
    await bash.start()
    run = Run(Told(), kernels={"bash": bash})
    ports = replace(run.host.ports, resumed=Resumed(effect_id=EffectId(1), epochs=epochs))
    cells = CellRuns(ports, tools=ToolRuns(ports), tell=lambda sentence: None)
    await cells.run(ExecCode(id=EffectId(1), language=language, code="ls"), known=NamespaceSummary())
    assert [one.outcome for one in completed(run)] == [outcome]
    assert bash.ran == ([("scripted-1:s:1:1", "ls")] if outcome == "ok" else [])


async def test_a_cell_whose_kernel_died_before_it_went_on_is_lost_and_no_new_one_is_started_for_it() -> None:
    bash = ScriptedKernel(language="bash")
    await bash.start()
    await bash.kill()
    run = Run(Told(), kernels={"bash": bash})
    ports = replace(run.host.ports, resumed=Resumed(effect_id=EffectId(1), epochs={"bash": "scripted-1"}))
    cells = CellRuns(ports, tools=ToolRuns(ports), tell=lambda sentence: None)
    await cells.run(ExecCode(id=EffectId(1), language="bash", code="ls"), known=NamespaceSummary())
    assert [one.outcome for one in completed(run)] == [CellOutcome.LOST]
    assert (bash.ran, bash.epoch) == ([], "scripted-1")


# -- tools -------------------------------------------------------------------------------------------------------------


def calling(*calls: Any, **cell: Any) -> ScriptedKernel:
    return ScriptedKernel([ScriptedCell(calls=calls, **cell)])


async def test_a_cell_calls_the_tools_of_the_session() -> None:
    async def double(n: int) -> int:
        return 2 * n

    def where() -> str:
        return threading.current_thread().name

    def broken() -> None:
        raise ValueError("no such row")

    kernel = calling(call("double", n=4), call("where"), call("broken"), call("missing"), outputs=(stdout("8\n"),))
    tools: dict[str, ToolFunction | Tool] = {"double": double, "where": where, "broken": broken}
    run = Run(executing(("python", "tools.double(4)")), kernel=kernel, tools=tools)
    await run.to_the_end()
    (result,) = run.protocol.results
    assert isinstance(result, ExecResponse)
    assert [(one.call_id, one.tool, one.args) for one in result.tool_calls] == [
        ("c1", "double", {"n": 4}),
        ("c2", "where", {}),
        ("c3", "broken", {}),
        ("c4", "missing", {}),
    ]
    one, two, three, four = (record.output.outcome for record in result.tool_calls)
    assert one == ToolSucceeded(payload=8)
    assert isinstance(two, ToolSucceeded)
    assert str(two.payload).startswith("lash_nb-tool")
    assert isinstance(three, ToolFailed)
    assert three.payload.message.startswith("ValueError: no such row (line ")
    assert isinstance(four, ToolFailed)
    assert four.payload.class_ is ToolFailureClass.INVALID_REQUEST
    begun = [(one.call_id, one.name) for one in run.activities if isinstance(one, ToolCallStart)]
    assert begun == [("c1", "double"), ("c2", "where"), ("c3", "broken")]


class _Asked(ScriptedKernel):
    """A kernel that keeps what it was offered, and makes all calls of its cell at once."""

    offered: CellTools | None = None
    at_once = 0

    async def run(self, key: str, code: str, *, tools: CellTools | None = None, **options: Any) -> CellResult:
        self.offered = tools
        if tools is not None and self.at_once:
            calls = (call("meet", f"c{n}", n=n) for n in range(1, self.at_once + 1))
            outputs = await asyncio.gather(*(tools.on_call(one) for one in calls))
            value: Any = [one.outcome.payload for one in outputs if isinstance(one, ToolCallOutput)]
            return CellResult(outcome=CellOutcome.OK, finish=FinishValue(value=value))
        return await super().run(key, code, tools=tools, **options)


async def test_hundreds_of_calls_at_once_are_bounded_and_all_are_answered() -> None:
    running, most = 0, 0

    async def meet(n: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return n

    kernel = _Asked()
    kernel.at_once = 300
    run = Run(executing(("python", "1")), kernel=kernel, tools={"meet": meet})
    await run.to_the_end()
    assert run.protocol.results[0].terminal_finish == {"value": list(range(1, 301))}
    assert most == 32
    assert len([one for one in run.activities if isinstance(one, ToolCallStart)]) == 128


async def test_synchronous_tools_meet_in_threads() -> None:
    meeting = threading.Barrier(20)

    def meet(n: int) -> int:
        meeting.wait(20)  # ends only if twenty calls run at the same time
        return n

    kernel = _Asked()
    kernel.at_once = 20
    run = Run(executing(("python", "1")), kernel=kernel, tools={"meet": meet})
    await run.to_the_end()
    assert run.protocol.results[0].terminal_finish == {"value": list(range(1, 21))}


async def test_tools_are_offered_with_what_their_signature_says() -> None:
    def plain(a: int, b: int = 2) -> int:
        """Adds.

        At length.
        """
        return a + b

    async def keyed(*, key: str) -> str:
        return key

    kernel = _Asked()
    tools: dict[str, ToolFunction | Tool] = {"plain": plain, "keyed": keyed}
    await Run(executing(("python", "1")), kernel=kernel, tools=tools).to_the_end()
    assert kernel.offered is not None
    assert kernel.offered.offers == (
        ToolOffer(
            name="plain", parameters=("a", "b"), doc="Adds.\n\nAt length.", signature="(a: int, b: int = 2) -> int"
        ),
        ToolOffer(name="keyed", signature="(*, key: str) -> str"),
    )
    await Run(executing(("python", "1")), kernel=kernel).to_the_end()
    assert kernel.offered is None


async def test_secrets_in_calls_reach_neither_views_nor_the_record() -> None:
    seen: list[str] = []

    def send(text: str) -> str:
        seen.append(text)
        return f"sent {text}"

    def refuse(text: str) -> None:
        raise ValueError(text)

    kernel = calling(call("send", text=SECRET), call("refuse", text=SECRET))
    run = Run(executing(("python", "1")), kernel=kernel, tools={"send": send, "refuse": refuse})
    await run.to_the_end()
    assert seen == [SECRET]
    assert SECRET not in str(run.protocol.results)
    assert SECRET not in str(run.activities)
    assert "sent [redacted]" in str(run.protocol.results)


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_turn_that_is_stopped_lets_go_of_the_call_it_waits_for(kind: str) -> None:
    begun, left = threading.Event(), threading.Event()

    async def waits() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            left.set()

    def blocks() -> None:
        begun.set()
        left.wait(20)

    tools = {"hang": waits if kind == "async" else blocks}
    run = Run(executing(("python", "1")), kernel=calling(call("hang")), tools=tools)
    turn = asyncio.ensure_future(run.to_the_end())
    assert await asyncio.to_thread(begun.wait, 20)
    turn.cancel()
    with pytest.raises(asyncio.CancelledError):
        await turn
    assert left.is_set() is (kind == "async")
    left.set()
    assert completed(run)[0].outcome is CellOutcome.INTERRUPTED


class _Full(Unrecorded):
    """A log that has no room for one kind of record."""

    def __init__(self, kind: str) -> None:
        self.kind = kind

    async def calling(self, *record: Any) -> None:
        self._write("calling")

    async def called(self, *record: Any) -> None:
        self._write("called")

    def _write(self, kind: str) -> None:
        if kind == self.kind:
            raise JournalError("the disk is full")


@pytest.mark.parametrize(("kind", "paid"), [("calling", []), ("called", ["x"])])
async def test_when_a_call_cannot_be_recorded_the_cell_is_stopped_and_the_turn_ends_by_it(
    kind: str, paid: list[str]
) -> None:
    """The cell would go on to the next call whatever the first one came to."""
    made: list[str] = []
    run = Run(
        executing(("python", "1"), ("python", "2")),
        kernel=calling(call("pay", to="x"), call("pay", to="y")),
        tools={"pay": lambda to: made.append(to)},
    )
    await run.kernel.start()
    host = TurnHost(run.machine, replace(run.host.ports, log=_Full(kind)))
    with pytest.raises(JournalError, match="the disk is full"):
        await host.run()
    assert made == paid
    assert [code for _, code in run.kernel.ran] == ["1"]
    assert [one.outcome for one in completed(run)] == [CellOutcome.INTERRUPTED]
    assert run.errors == ["the disk is full"]
    assert (await run.kernel.run("", "free")).outcome is not CellOutcome.INTERRUPTED
