"""How each effect of one turn is fulfilled; every await of a turn is here.

The loop: drain the machine's queue, perform the one effect that carries an id, answer it, again. The rules that keep
the machine's hazards out of reach (`reference/turn-machine.md` 1.14): the queue is drained before an answer is given;
only the outstanding id is answered; once the machine is done no id-bearing effect is performed; a driver that only
emits is polled again a bounded number of times; a delivery is filtered before it is made. A checkpoint of the machine
is recorded before every id-bearing effect, and once more when the turn is over, before Done is polled.

When the turn is cancelled (CancelledError, at any await): the model's stream is closed, the kernel's cell is
interrupted and waited for by the kernel itself, the turn ends Stopped(cancelled), is recorded, and the cancellation
goes on.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

from .errors import DriverContractError, InputError, KernelBusyError, KernelDiedError, LashError, ModelCallError
from .kernels import Kernel
from .machine.attachments import AttachmentStore
from .machine.checkpoints import CheckpointDelivery
from .machine.effects import (
    CancelLlm,
    Checkpoint,
    CheckpointResponse,
    Done,
    Emit,
    ExecCode,
    ExecResult,
    ExecutionEnvironmentSynced,
    LlmCall,
    LlmComplete,
    Log,
    LogEvent,
    Progress,
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
    ErrorEnvelope,
    ErrorEvent,
    InjectedInput,
    InjectedTurnInputAccepted,
    ReasoningDelta,
    TextDelta,
    TurnActivity,
    TurnOutcomeEvent,
)
from .machine.execution import CellOutcome, CellResult, NamespaceSummary
from .machine.llm import LlmResponse, LlmTerminalReason, TextOutput
from .machine.messages import Message, MessageRole, Part, PartKind, PluginMessage
from .machine.outcomes import Stopped, TurnOutcome, TurnStopReason
from .machine.state import PrepareIteration, PreparingProtocol, TurnCheckpoint
from .machine.turn import TurnMachine
from .models import CallContext, Delta, Model, ReasoningChunk, Sampling, TextChunk
from .protocols import ModelProtocol, ProseDelta
from .protocols.namespace import lost_names, namespace_block
from .protocols.observations import exec_response, observe
from .toolkits import ToolFunction, call_tools
from .trust import Redactor

__all__ = ["Inbox", "TurnHost", "TurnPorts", "TurnResult"]

_MOST_FRUITLESS_POLLS = 8
"""How often in a row a driver is asked again that only emits."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnResult:
    """What a turn left behind."""

    outcome: TurnOutcome
    done: Done
    checkpoint: TurnCheckpoint
    known_variables: NamespaceSummary


class TurnHost:
    """Runs one machine to its end."""

    def __init__(self, machine: TurnMachine, ports: TurnPorts) -> None:
        self.machine = machine
        self.ports = ports
        self._step = 0
        self._said = 0
        self._outcome: TurnOutcome | None = None
        self._done: Done | None = None
        self._final: TurnCheckpoint | None = None
        self._known = ports.known_variables
        self._notices: list[str] = []

    async def run(self) -> TurnResult:
        """Drive the turn to its outcome.

        Raises:
            InputError: what only the user can put right (a cassette for another question, a missing key).
            CancelledError: the turn was stopped. In both cases it has ended and is recorded.
        """
        try:
            async with asyncio.timeout(self.ports.time_limit_s):
                await self._drive()
        except TimeoutError:
            self._bound_hit()
        except asyncio.CancelledError:
            self._end(Stopped(stop=TurnStopReason.CANCELLED))
            raise
        except InputError as error:
            self._fail("input", str(error))
            raise
        except DriverContractError as error:
            self._fail("driver_contract", str(error))
        except LashError as error:
            self._fail("host", str(error))
        except Exception as error:
            # A bug of ours or of a tool's: the turn is kept and ends in order before the exception goes on.
            self._fail("host", f"{type(error).__name__}: {error}")
            raise
        return self.result()

    def result(self) -> TurnResult:
        """What the turn left behind; only after `run`, also after it raised."""
        assert self._outcome is not None
        assert self._done is not None
        assert self._final is not None
        return TurnResult(outcome=self._outcome, done=self._done, checkpoint=self._final, known_variables=self._known)

    # -- the loop ------------------------------------------------------------------------------------------------------

    async def _drive(self) -> None:
        while self._done is None:
            effect = self._drain()
            if effect is not None and not self.machine.is_done():
                self._record()
                self._answer(await self._perform(effect))
            elif self._done is None:
                raise self._broken("started nothing and left the turn without an end")

    def _drain(self) -> WaitingEffect | None:
        """Take everything that is queued: told effects are passed on, the one that waits is returned."""
        waiting: WaitingEffect | None = None
        fruitless = 0
        while True:
            if self.machine.is_done() and self._final is None:
                self._record_final()
            asked = not self.machine.queued and self._preparing()
            effect = self.machine.poll_effect()
            if asked and self._preparing():
                fruitless += 1
                if fruitless > _MOST_FRUITLESS_POLLS:
                    raise self._broken(f"emitted {fruitless} times in a row and started nothing")
            match effect:
                case None:
                    return waiting
                case Emit(event=event):
                    if isinstance(event, TurnOutcomeEvent):
                        self._outcome = event.outcome
                    self.ports.on_activity(event)
                case Done():
                    self._done = effect
                case Log(event=log_event):
                    self.ports.on_log(log_event)
                case Progress() | CancelLlm():
                    pass  # the record is the checkpoint; the machine never emits CancelLlm
                case _:
                    waiting = effect

    def _preparing(self) -> bool:
        return isinstance(self.machine.state, (PreparingProtocol, PrepareIteration))

    def _broken(self, problem: str) -> DriverContractError:
        return DriverContractError(f"the protocol {self.ports.protocol.name!r} {problem}")

    def _answer(self, response: Response) -> None:
        if response.id != self.machine.outstanding_effect_id:
            return  # the turn moved on without it (Q1)
        self.machine.handle_response(response)

    def _record(self) -> None:
        self.ports.on_record(self.machine.checkpoint(), False)

    def _record_final(self) -> None:
        self._final = self.machine.checkpoint()
        self.ports.on_record(self._final, True)

    # -- the end by other ways -----------------------------------------------------------------------------------------

    def _bound_hit(self) -> None:
        limit = self.ports.time_limit_s or 0.0
        message = f"Stopped: the turn took longer than its limit of {limit / 60:g} minutes."
        self.ports.on_activity(ErrorEvent(message=message, envelope=_envelope("bound", "time_limit", message)))
        self._end(Stopped(stop=TurnStopReason.INCOMPLETE))

    def _fail(self, kind: str, message: str) -> None:
        if self._done is None:
            self._quiet()
            self.machine.fail_turn(ErrorEvent(message=message, envelope=_envelope("host", kind, message)))
            self._drain()

    def _end(self, outcome: TurnOutcome) -> None:
        if self._done is None:
            self._quiet()
            self.machine.finish_with_outcome(outcome)
            self._drain()

    def _quiet(self) -> None:
        """Drain what is queued without performing it, so that nothing of it stands behind the end (Q3).

        A machine that a driver left Finished without an end has nothing queued and gives no final record here.
        """
        if not self.machine.is_done():
            self._drain()

    # -- effects -------------------------------------------------------------------------------------------------------

    async def _perform(self, effect: WaitingEffect) -> Response:
        match effect:
            case SyncExecutionEnvironment():
                return await self._sync(effect)
            case LlmCall():
                return await self._call_model(effect)
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
            try:
                self._known = await self.ports.kernel.namespace()
                block = namespace_block(self._known)
            except KernelBusyError as error:
                block = f"The kernel's variables could not be read just now: {error}"
        except LashError as error:
            return ExecutionEnvironmentSynced(id=effect.id, result=str(error))
        notices, self._notices = self._notices, []
        self.ports.protocol.set_volatile([self.ports.redactor.text(text) for text in (*notices, block)])
        return ExecutionEnvironmentSynced(id=effect.id, result=None)

    async def _ensure_kernel(self) -> None:
        kernel = self.ports.kernel
        if kernel.alive:
            return
        if not kernel.epoch:
            await kernel.start()
            return
        await kernel.restart()
        self._notices.append(f"The kernel's process had ended; a new one was started. {lost_names(self._known)}")

    async def _call_model(self, effect: LlmCall) -> LlmComplete:
        self._step += 1
        ports = self.ports
        stream = ports.protocol.open_stream()
        streamed = False

        def show(events: Any) -> None:
            for event in events:
                if isinstance(event, ProseDelta):
                    ports.on_activity(TextDelta(content=event.text))

        def on_delta(delta: Delta) -> bool:
            nonlocal streamed
            streamed = True
            if isinstance(delta, TextChunk):
                show(stream.feed(delta.text))
            elif isinstance(delta, ReasoningChunk):
                ports.on_activity(ReasoningDelta(content=delta.text))
            return stream.stop

        hint = ports.protocol.sampling(protocol_iteration=self.machine.protocol_iteration)
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

        def on_output(outputs: Any) -> None:
            ports.on_activity(CellOutputs(effect_id=effect.id, outputs=redactor.outputs(outputs)))

        if effect.language != kernel.language:
            result = _not_run(f"This kernel speaks {kernel.language}, not {effect.language}; the cell was not run.")
        else:
            key = f"{kernel.epoch}:{ports.session_id}:{ports.context.turn}:{effect.id}"
            try:
                result = await kernel.run(key, effect.code, on_output=on_output, timeout_s=ports.cell_limit_s)
            except asyncio.CancelledError:
                self._completed(effect, CellResult(outcome=CellOutcome.INTERRUPTED), started)
                raise
            except (KernelDiedError, KernelBusyError) as error:
                result = _not_run(f"The cell was not run: {error}")
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
        lost = lost_names(self._known)
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


def _envelope(kind: str, code: str, message: str) -> ErrorEnvelope:
    return ErrorEnvelope(kind=kind, code=code, user_message=message)
