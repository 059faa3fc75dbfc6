"""Turns under the host with a protocol that does what a test tells it, and everything that is seen of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lash_nb import ScriptedKernel, ScriptedModel
from lash_nb.errors import UnknownNameError
from lash_nb.host import TurnHost, TurnResult
from lash_nb.kernels import Kernel
from lash_nb.languages import SessionKernels
from lash_nb.machine.config import JsonTurnProtocol, TurnMachineConfig
from lash_nb.machine.driver import CheckedDriver, DriverAction, DriverContext, Finish
from lash_nb.machine.events import ErrorEvent, TurnActivity
from lash_nb.machine.outcomes import AssistantMessage, Finished, TurnOutcome
from lash_nb.machine.projector import ChatProjector
from lash_nb.machine.state import TurnCheckpoint
from lash_nb.machine.tool_calls import PendingToolCall
from lash_nb.machine.turn import TurnMachine
from lash_nb.models import CallContext
from lash_nb.ports import TurnPorts
from lash_nb.protocols.code import CodeProtocol
from lash_nb.toolkits import Tool
from lash_nb.toolkits.catalogue import catalogue_of
from lash_nb.toolkits.functions import ToolFunction, function_tool
from lash_nb.trust import Redactor

__all__ = ["ANSWER", "SECRET", "Run", "Told", "call", "finish"]

SECRET = "hunter2-hunter2"
ANSWER: TurnOutcome = Finished(finish=AssistantMessage(text="done"))
Step = Callable[[DriverContext], Sequence[DriverAction]]


class Told(CodeProtocol):
    """The code protocol's surroundings around a driver that plays one list of actions for each callback."""

    def __init__(self, *steps: Step) -> None:
        super().__init__(turn_id="t1")
        self.steps = list(steps)
        self.results: list[Any] = []
        self.calls = 0

    def play(self, ctx: DriverContext) -> Sequence[DriverAction]:
        self.calls += 1
        return self.steps.pop(0)(ctx) if self.steps else []

    def prepare_protocol_iteration(self, ctx: DriverContext) -> Sequence[DriverAction]:
        return self.play(ctx)

    def handle_llm_success(self, ctx: DriverContext, *seen: Any) -> Sequence[DriverAction]:
        return self.play(ctx)

    def handle_tool_results(self, ctx: DriverContext, completed: Any) -> Sequence[DriverAction]:
        self.results.append(completed)
        return self.play(ctx)

    def handle_exec_result(self, ctx: DriverContext, waiting: Any, result: Any) -> Sequence[DriverAction]:
        self.results.append(result)
        return self.play(ctx)


class Run:
    """One machine under the host, and everything that was seen of it."""

    def __init__(
        self,
        protocol: Told,
        *,
        checked: bool = False,
        tools: Mapping[str, ToolFunction | Tool] | None = None,
        kernel: ScriptedKernel | None = None,
        kernels: dict[str, Kernel] | None = None,
    ) -> None:
        driver = CheckedDriver(protocol) if checked else protocol
        self.protocol = protocol
        self.activities: list[TurnActivity] = []
        self.records: list[tuple[TurnCheckpoint, bool]] = []
        self.kernel = kernel or ScriptedKernel()
        others = SessionKernels(None, kernels or {}, make=self.make)
        self.made: list[str | None] = []
        self.machine = TurnMachine(
            TurnMachineConfig(driver=driver, projector=ChatProjector(), protocol=JsonTurnProtocol, model="m")
        )
        self.host = TurnHost(
            self.machine,
            TurnPorts(
                protocol=protocol,
                model=ScriptedModel(["answer"] * 3),
                kernel=self.kernel,
                kernels=others.of,
                context=CallContext(session="1", turn=1, step=0, user_text="?"),
                session_id="s",
                tools=catalogue_of(tools, make=function_tool),
                on_activity=self.activities.append,
                redactor=Redactor({"SOME_API_KEY": SECRET}),
                on_record=lambda checkpoint, final: self.records.append((checkpoint, final)),
            ),
        )

    def make(self, language: str | None) -> Kernel:
        self.made.append(language)
        raise UnknownNameError(f"no kernel for {language!r} is installed")

    async def to_the_end(self) -> TurnResult:
        await self.kernel.start()
        return await self.host.run()

    @property
    def errors(self) -> list[str]:
        return [event.message for event in self.activities if isinstance(event, ErrorEvent)]


def finish(ctx: DriverContext) -> Sequence[DriverAction]:
    return [Finish(outcome=ANSWER)]


def call(name: str, call_id: str = "c", **args: Any) -> PendingToolCall:
    return PendingToolCall(call_id=call_id, tool_name=name, args=args)
