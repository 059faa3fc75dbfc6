"""What the host does for each effect of a turn: sync the kernel, call the model, run a cell, call tools, deliver input.

One `Fulfilment` serves one turn. It knows the ports, not the machine: an effect comes in, a response goes out. Nothing
here swallows a cancellation; a kernel that is cancelled interrupts its cell and waits for it by itself.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from .errors import KernelBusyError, KernelDiedError, LashError, ModelCallError
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
    CodeDelta,
    InjectedInput,
    InjectedTurnInputAccepted,
    PluginEvent,
    ReasoningDelta,
    StatusRuntimeEvent,
    TextDelta,
    TurnActivity,
)
from .machine.execution import CellOutcome, CellOutput, CellResult, NamespaceSummary
from .machine.llm import LlmResponse, LlmTerminalReason, TextOutput, ToolCallOutputPart
from .machine.messages import Message, MessageRole, Part, PartKind, PluginMessage
from .machine.state import TurnCheckpoint
from .models import CallContext, Delta, Model, ReasoningChunk, Sampling, TextChunk
from .protocols import CodeDelta as WrittenCode
from .protocols import ModelProtocol, ProseDelta
from .protocols.namespace import lost_names, namespace_block
from .protocols.observations import exec_response, observe
from .toolkits import ToolFunction, call_tools
from .trust import Redactor, whole_text

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
            block = await self._described()
        except LashError as error:
            return ExecutionEnvironmentSynced(id=effect.id, result=str(error))
        notices, self._notices = self._notices, []
        self.ports.protocol.set_volatile([self.ports.redactor.text(text) for text in (*notices, block)])
        return ExecutionEnvironmentSynced(id=effect.id, result=None)

    async def _described(self) -> str:
        """The kernel's variables for the model; a kernel that dies at this very moment is replaced first."""
        kernel = self.ports.kernel
        try:
            try:
                self.known = await kernel.namespace()
            except KernelDiedError:
                await self._ensure_kernel()
                self.known = await kernel.namespace()
            return namespace_block(self.known)
        except KernelBusyError as error:
            return f"The kernel's variables could not be read just now: {error}"

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
        stream = ports.protocol.open_stream()
        streamed = False

        def show(events: Any) -> None:
            for event in events:
                if isinstance(event, ProseDelta):
                    ports.on_activity(TextDelta(content=event.text))
                elif isinstance(event, WrittenCode):
                    ports.on_activity(CodeDelta(content=event.text))

        def on_delta(delta: Delta) -> bool:
            nonlocal streamed
            streamed = True
            if isinstance(delta, TextChunk):
                show(stream.feed(delta.text))
            elif isinstance(delta, ReasoningChunk):
                ports.on_activity(ReasoningDelta(content=delta.text))
            return stream.stop

        hint = ports.protocol.sampling(protocol_iteration=protocol_iteration)
        context = replace(
            ports.context,
            step=self._step,
            attachments=ports.store,
            sampling=Sampling(temperature=hint.temperature, stop=hint.stop, seed=hint.seed),
        )
        try:
            response = await ports.model.complete(effect.request, context=context, on_delta=on_delta)
        except ModelCallError as error:
            return LlmComplete(id=effect.id, result=error.error, text_streamed=streamed)
        response = _whole(response)
        if stream.stop:
            response = self._spliced(response)
        else:
            show(stream.close())
        return LlmComplete(id=effect.id, result=response, text_streamed=streamed)

    def _spliced(self, response: LlmResponse) -> LlmResponse:
        """The response up to where its stream was stopped: what a chunk held beyond that is as if never written."""
        stream, kept = self.ports.protocol.open_stream(), []
        for line in response.full_text.split("\n"):
            kept.append(line)
            stream.feed(line + "\n")
            if stream.stop:
                break
        text = "\n".join(kept)
        others = tuple(part for part in response.parts if not isinstance(part, TextOutput))
        return replace(
            response,
            full_text=text,
            parts=(*others, TextOutput(text=text)) if response.parts else (),
            terminal_reason=LlmTerminalReason.STOP,
        )

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


def _whole(response: LlmResponse) -> LlmResponse:
    """The response as text that a kernel and a record can take."""
    parts = tuple(
        replace(part, input_json=whole_text(part.input_json))
        if isinstance(part, ToolCallOutputPart)
        else replace(part, text=whole_text(part.text))
        for part in response.parts
    )
    return replace(response, full_text=whole_text(response.full_text), parts=parts)


def _not_run(detail: str) -> CellResult:
    return CellResult(outcome=CellOutcome.ABORTED, detail=detail)
