"""What the host does for each effect of a turn: sync the kernel, call the model, run a cell, call tools, deliver input.

One `Fulfilment` serves one turn. It knows the ports, not the machine: an effect comes in, a response goes out. Nothing
here swallows a cancellation; a kernel that is cancelled interrupts its cell and waits for it by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import assert_never

from .calls import ModelCall, RetryPolicy
from .errors import KernelBusyError, KernelDiedError, LashError
from .kernels import Kernel
from .machine.attachments import AttachmentStore
from .machine.checkpoints import CheckpointDelivery
from .machine.effects import (
    Checkpoint,
    CheckpointResponse,
    ExecCode,
    ExecResult,
    ExecutionEnvironmentSynced,
    LlmCall,
    LlmComplete,
    LogEvent,
    Response,
    SyncExecutionEnvironment,
    ToolCalls,
    ToolResults,
    WaitingEffect,
)
from .machine.events import (
    CellOutputs,
    CodeBlockCompleted,
    CodeBlockStarted,
    InjectedInput,
    InjectedTurnInputAccepted,
    PluginEvent,
    StatusRuntimeEvent,
    TurnActivity,
)
from .machine.execution import CellOutcome, CellOutput, CellResult, NamespaceSummary
from .machine.messages import Message, MessageRole, Part, PartKind, PluginMessage
from .machine.state import TurnCheckpoint
from .models import CallContext, Model, Sampling
from .protocols import ModelProtocol
from .protocols.namespace import lost_names
from .protocols.observations import exec_response, observe
from .toolkits import ToolFunction, call_tools
from .trust import Redactor

__all__ = ["Fulfilment", "Inbox", "TurnPorts"]


class Inbox:
    """What the user said while a turn runs; delivered at its next checkpoint."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def say(self, text: str) -> None:
        """Queue a text; blank ones are dropped, so that an empty delivery stays empty (Q4)."""
        if text.strip():
            self._texts.append(text)

    def drain(self) -> list[str]:
        """All that is queued, once."""
        texts, self._texts = self._texts, []
        return texts


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPorts:
    """Everything outside of the machine that one turn needs."""

    protocol: ModelProtocol
    model: Model
    kernel: Kernel
    context: CallContext
    """Session label, turn number and the user's text; the step is counted here."""
    session_id: str
    store: AttachmentStore | None = None
    tools: Mapping[str, ToolFunction] = field(default_factory=dict)
    inbox: Inbox = field(default_factory=Inbox)
    redactor: Redactor = field(default_factory=lambda: Redactor({}))
    known_variables: NamespaceSummary = field(default_factory=NamespaceSummary)
    """What the kernel held when it was last looked at; names what is lost when it dies."""
    on_activity: Callable[[TurnActivity], None] = lambda activity: None
    on_record: Callable[[TurnCheckpoint, bool], None] = lambda checkpoint, final: None
    """Called with each checkpoint to be kept; True for the last one of the turn."""
    on_log: Callable[[LogEvent], None] = lambda event: None
    time_limit_s: float | None = None
    cell_limit_s: float | None = None
    retries: RetryPolicy = field(default_factory=RetryPolicy)


class Fulfilment:
    """Performs the effects of one turn."""

    def __init__(self, ports: TurnPorts) -> None:
        self.ports = ports
        self.known = ports.known_variables
        """The kernel's variables as last seen."""
        self._step = 0
        self._said = 0
        self._notices: list[str] = []

    async def perform(self, effect: WaitingEffect, *, protocol_iteration: int) -> Response:
        """The response to one effect."""
        match effect:
            case SyncExecutionEnvironment():
                return await self._sync(effect)
            case LlmCall():
                return await self._call_model(effect, protocol_iteration)
            case ToolCalls():
                results = await call_tools(effect.calls, self.ports.tools, on_activity=self.ports.on_activity)
                return ToolResults(id=effect.id, results=results)
            case ExecCode():
                return await self._execute(effect)
            case Checkpoint():
                return self._deliver(effect)
            case _:
                assert_never(effect)

    async def _sync(self, effect: SyncExecutionEnvironment) -> ExecutionEnvironmentSynced:
        """Kernel alive, its variables described: the volatile blocks of the next request."""
        try:
            await self._ensure_kernel()
            background = self.ports.kernel.take_background()
            if background:
                seen = observe(self.ports.redactor.outputs(background))
                self._notices.append("Written by code that ran on after its cell:\n" + "\n".join(seen.texts))
            variables = await self._described()
        except LashError as error:
            return ExecutionEnvironmentSynced(id=effect.id, result=str(error))
        notices, self._notices = self._notices, []
        redactor = self.ports.redactor
        self.ports.protocol.set_volatile(
            [redactor.text(text) for text in notices],
            namespace=None if variables is None else redactor.namespace(variables),
        )
        return ExecutionEnvironmentSynced(id=effect.id, result=None)

    async def _described(self) -> NamespaceSummary | None:
        """The kernel's variables; a kernel that dies at this very moment is replaced first. None: it does not say."""
        kernel = self.ports.kernel
        try:
            try:
                self.known = await kernel.namespace()
            except KernelDiedError:
                await self._ensure_kernel()
                self.known = await kernel.namespace()
            return self.known
        except KernelBusyError as error:
            self._notices.append(f"The kernel's variables could not be read just now: {error}")
            return None

    async def _ensure_kernel(self) -> None:
        kernel = self.ports.kernel
        if kernel.alive:
            return
        began = bool(kernel.epoch or self.known.variables)  # no epoch, but variables: its restart was stopped half-way
        await (kernel.restart() if kernel.epoch else kernel.start())
        if began:
            told = f"The kernel's process had ended; a new one was started. {lost_names(self.known)}"
            self._notices.append(told)
            self.ports.on_activity(PluginEvent(plugin_id="kernel", event=StatusRuntimeEvent(key="kernel", label=told)))

    async def _call_model(self, effect: LlmCall, protocol_iteration: int) -> LlmComplete:
        self._step += 1
        ports = self.ports
        hint = ports.protocol.sampling(protocol_iteration=protocol_iteration)
        context = replace(
            ports.context,
            step=self._step,
            attachments=ports.store,
            sampling=Sampling(temperature=hint.temperature, stop=hint.stop, seed=hint.seed),
        )
        call = ModelCall(
            ports.model,
            ports.protocol,
            policy=ports.retries,
            redactor=ports.redactor,
            on_activity=ports.on_activity,
        )
        made = await call.make(effect.request, context=context)
        return LlmComplete(id=effect.id, result=made.result, text_streamed=made.text_streamed)

    async def _execute(self, effect: ExecCode) -> ExecResult:
        ports, kernel = self.ports, self.ports.kernel
        redactor = ports.redactor
        ports.on_activity(CodeBlockStarted(effect_id=effect.id, language=effect.language, code=effect.code))
        started = time.monotonic()

        shown: tuple[CellOutput, ...] = ()

        def on_output(outputs: tuple[CellOutput, ...]) -> None:
            nonlocal shown
            shown = redactor.outputs(outputs)
            ports.on_activity(CellOutputs(effect_id=effect.id, outputs=shown))

        if effect.language != kernel.language:
            result = _not_run(f"This kernel speaks {kernel.language}, not {effect.language}; the cell was not run.")
        else:
            key = f"{kernel.epoch}:{ports.session_id}:{ports.context.turn}:{effect.id}"
            try:
                result = await kernel.run(key, effect.code, on_output=on_output, timeout_s=ports.cell_limit_s)
            except asyncio.CancelledError:
                self._completed(effect, CellResult(outcome=CellOutcome.INTERRUPTED, outputs=shown), started)
                raise
            except KernelDiedError as error:
                result = _not_run(f"The cell was not run: {error}")
            except KernelBusyError as error:
                # Whoever stopped that cell wanted its end, and nothing else ends it.
                result = _not_run(f"The cell was not run: {error}. {await self._replaced()}")
        result = redactor.result(result)
        if not kernel.alive:
            result = replace(result, detail=f"{result.detail} {await self._replaced()}".strip())
        self._completed(effect, result, started)
        return ExecResult(
            id=effect.id,
            result=exec_response(
                result, attachments=ports.store, budget=ports.protocol.budget, vision=ports.protocol.vision
            ),
        )

    async def _replaced(self) -> str:
        """A new kernel in place of the dead one, and the sentence that says so."""
        lost = lost_names(self.known)
        try:
            await self.ports.kernel.restart()
        except LashError as error:
            return f"No new kernel could be started: {error}"
        return f"A new kernel was started; it is empty. {lost}"

    def _completed(self, effect: ExecCode, result: CellResult, started: float) -> None:
        self.ports.on_activity(
            CodeBlockCompleted(
                effect_id=effect.id,
                outcome=result.outcome,
                outputs=result.outputs,
                duration_ms=round((time.monotonic() - started) * 1000),
                detail=result.detail,
            )
        )

    def _deliver(self, effect: Checkpoint) -> CheckpointResponse:
        """What the user said meanwhile, as messages of the user's own."""
        texts = self.ports.inbox.drain()
        messages = []
        for text in texts:
            self._said += 1
            message_id = f"m_user_{self.ports.context.turn}_{self._said}"
            part = Part(id=f"{message_id}.p0", kind=PartKind.TEXT, content=text)
            messages.append(Message(id=message_id, role=MessageRole.USER, parts=(part,)))
        if texts:
            inputs = tuple(InjectedInput(message=PluginMessage(role=MessageRole.USER, content=text)) for text in texts)
            self.ports.on_activity(InjectedTurnInputAccepted(inputs=inputs, checkpoint=effect.checkpoint))
        return CheckpointResponse(id=effect.id, delivery=CheckpointDelivery(committed_user_messages=tuple(messages)))


def _not_run(detail: str) -> CellResult:
    return CellResult(outcome=CellOutcome.ABORTED, detail=detail)
