"""What the host does for each effect of a turn: sync the kernel, call the model, call tools, deliver input.

One `Fulfilment` serves one turn. It knows the ports, not the machine: an effect comes in, a response goes out. Nothing
here swallows a cancellation. Cells are `cell_runs.py`'s matter.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, assert_never

from .approving import called_by, mode_text
from .batches import Batches
from .calls import ModelCall
from .cell_runs import CellRuns
from .checks import checks_told
from .errors import KernelBusyError, KernelDiedError, KernelError, LashError, UnknownNameError
from .kernels.changes import changes_text
from .kernels.summaries import without_values
from .languages import Confined, MayBeStuck, TellsChanges
from .machine.activity import ChangesSeen, VariableSeen, VariablesSeen
from .machine.checkpoints import CheckpointDelivery, CheckpointKind
from .machine.effects import (
    Checkpoint,
    CheckpointResponse,
    ExecCode,
    ExecutionEnvironmentSync,
    ExecutionEnvironmentSynced,
    LlmCall,
    LlmComplete,
    Response,
    SyncExecutionEnvironment,
    ToolCalls,
    ToolResults,
    WaitingEffect,
)
from .machine.events import (
    CodeBlockCompleted,
    CodeBlockStarted,
    InjectedInput,
    InjectedTurnInputAccepted,
    PluginEvent,
    StatusRuntimeEvent,
    ToolCallEvent,
)
from .machine.execution import CellOutcome, ExecResponse, NamespaceSummary
from .machine.messages import Message, MessageRole, Part, PartKind, PluginMessage
from .models import Sampling
from .ports import TurnPorts
from .protocols.namespace import lost_names, notebook_block
from .protocols.observations import observe
from .tool_runs import ToolRuns, tool_notice
from .verifying import Verifying

__all__ = ["Fulfilment"]


_LEFT = "The turn was left while this cell was outstanding: it may have run, or a part of it."
_NOT_BEGUN = "It waited for approval, and was not run."
_SHOWN = 2_000
"""Characters of background output that a reader is shown; the model gets more."""


class Fulfilment:
    """Performs the effects of one turn."""

    def __init__(self, ports: TurnPorts) -> None:
        self.ports = ports
        self.known = ports.known_variables
        """The kernel's variables as last seen."""
        self.known_epoch = ports.known_epoch
        """In which life of it; empty: in none."""
        self._untold: tuple[NamespaceSummary, str] | None = None
        """What was known of a kernel that is gone, while the model has not been told so."""
        self._step = ports.resumed.steps if ports.resumed is not None else 0
        self._said = ports.resumed.said if ports.resumed is not None else 0
        self._notices: list[str] = []
        self._delivered: tuple[int, ...] = ()
        self._tools = ToolRuns(ports)
        self._cells = CellRuns(ports, tools=self._tools, tell=self._tell, note=self._notices.append)
        self.approvals = self._cells.approvals
        self._batches = Batches(ports, tools=self._tools, cells=self._cells, finished=self._look_back)
        self._environment = ports.given_environment
        """The prompt and the tools that the machine has."""
        self._verifying = Verifying(ports, self._cells)
        self._inputs = ports.inputs
        if ports.sharing is not None:
            ports.sharing.begin_turn()
        self._mine: dict[str, tuple[str, str]] = {}
        """Type and shape of the notebook's variables: a copy of one that is as it was is nothing new."""
        self._mark = "", ""
        """In which life of the kernel how things outside of variables were remembered, and by which word."""
        self._changes = ""
        self._names_before: frozenset[str] | None = None
        """The variables that were there when the turn began, once they are known."""
        resumed = ports.resumed.variables if ports.resumed is not None else ()
        self._seen = {variable.name: variable for variable in resumed}

    async def perform(self, effect: WaitingEffect, *, protocol_iteration: int) -> Response:
        """The response to one effect."""
        match effect:
            case SyncExecutionEnvironment():
                return await self._sync(effect)
            case LlmCall():
                return await self._call_model(effect, protocol_iteration)
            case ToolCalls():
                return await self._call_tools(effect)
            case ExecCode():
                return await self._run(effect)
            case Checkpoint():
                return await self._deliver(effect)
            case _:
                assert_never(effect)

    async def rehydrate(self) -> None:
        """For a turn that goes on without a sync: a kernel is there, and what is not in it any more is told.

        Its servers are there, too; the machine is told of their tools with the next sync.
        """
        await self._ensure_kernel()
        await self._refresh_tools()

    async def leave(self, effect: WaitingEffect) -> None:
        """An earlier host began this, and nobody takes its answer any more: a cell that runs on is interrupted."""
        if isinstance(effect, ToolCalls):
            for cell in self._batches.begun_cells(effect):
                await self._leave_cell(cell)
        elif isinstance(effect, ExecCode):
            await self._leave_cell(effect)

    async def _leave_cell(self, effect: ExecCode) -> None:
        ports = self.ports
        if ports.resumed is None:
            return
        told: dict[str, Any] = {"effect_id": effect.id, "call_id": called_by(effect)}
        ports.on_activity(CodeBlockStarted(**told, language=effect.language, code=effect.code))
        try:
            kernel = ports.kernel
            if effect.language.casefold() != kernel.language.casefold() and ports.resumed.epochs:
                kernel = ports.kernels(effect.language)
            if kernel.alive and ports.resumed.epochs.get(kernel.language) == kernel.epoch:
                await kernel.interrupt()
        except UnknownNameError:
            pass  # there is no kernel in which it could run
        finally:
            begun = ports.resumed.begun or bool(called_by(effect))
            outcome, detail = (CellOutcome.INTERRUPTED, _LEFT) if begun else (CellOutcome.ABORTED, _NOT_BEGUN)
            left = CodeBlockCompleted(**told, outcome=outcome, outputs=(), duration_ms=0, detail=detail)
            ports.on_activity(left)

    @property
    def told(self) -> tuple[NamespaceSummary, str]:
        """What the model takes the kernel to hold, and which life of it: what is lost of that has to be told."""
        return self._untold or (self.known, self.known_epoch)

    def settle(self) -> None:
        """What was delivered is recorded, with an effect or an answer, and is not delivered again."""
        self.ports.inbox.delivered(self._delivered)
        self._delivered = ()

    async def _call_tools(self, effect: ToolCalls) -> ToolResults:
        before = self.ports.kernel.epoch
        results = await self._batches.run(effect, known=self.known)
        self._note_replaced(before)
        return ToolResults(id=effect.id, results=results)

    def so_far(self, effect: ToolCalls) -> ToolResults:
        """What there is of a batch that is stopped."""
        return ToolResults(id=effect.id, results=self._batches.so_far(effect))

    def was_told(self, event: object) -> bool:
        """Whether the machine tells what was shown already: how a call of a batch ended."""
        return isinstance(event, ToolCallEvent) and self._batches.was_told(event.call_id)

    def _note_replaced(self, before: str) -> None:
        """A kernel that was replaced: what it held was told with its cell's end."""
        if self.ports.kernel.epoch != before == self.known_epoch:
            self.known_epoch = self.ports.kernel.epoch

    async def _refresh_tools(self) -> None:
        for sentence in await self.ports.tools.refresh():
            self._notices.append(sentence)
            self.ports.on_activity(tool_notice(self.ports.redactor.text(sentence)))

    def _changed_environment(self) -> ExecutionEnvironmentSync | None:
        """The prompt and the tools, where they are not those that the machine has."""
        now = self.ports.environment()
        if now == self._environment:
            return None
        self._environment = now
        return now

    async def _run(self, effect: ExecCode) -> Response:
        before = self.ports.kernel.epoch
        response = await self._cells.run(effect, known=self.known)
        self._note_replaced(before)
        result = response.result
        if isinstance(result, ExecResponse) and result.terminal_finish is not None:
            await self._look_back()
        return response

    async def _look_back(self) -> None:
        """The turn ends with this cell, and no sync will see what it made."""
        try:
            known = await self.ports.kernel.namespace(previews="schema")
            known = known if self.ports.sharing is None else self.ports.sharing.visible(known)
            self._saw(self.ports.redactor.namespace(known))
            await self._look_outside()
        except KernelError:
            pass  # only a view misses it

    async def _look_outside(self) -> None:
        """Tell what cells have changed that is no variable, since the turn began or its kernel did."""
        kernel: object = self.ports.kernel
        if not isinstance(kernel, TellsChanges):
            return
        epoch, mark = self._mark
        if epoch != kernel.epoch:
            self._mark = kernel.epoch, await kernel.mark()
            return
        text = self.ports.redactor.text(changes_text(await kernel.changes(mark)))
        if text != self._changes:
            self._changes = text
            self.ports.on_activity(ChangesSeen(text=text))

    def _saw(self, known: NamespaceSummary) -> None:
        """Tell which variables the turn has made or changed: this stays in the notebook, so nothing of their values."""
        known = without_values(known)
        names = frozenset(variable.name for variable in known.variables)
        if self._names_before is None:
            self._names_before = names - self._seen.keys()
            return
        before = dict(self._seen)
        for variable in known.variables:
            if variable.type == "module" or self._mine.get(variable.name) == (variable.type, variable.detail):
                continue  # nothing that anybody would take over
            if variable.changed or variable.name not in self._names_before:
                new = variable.name not in self._names_before and variable.name not in self._mine
                self._seen[variable.name] = VariableSeen(
                    name=variable.name, type=variable.type, detail=variable.detail, new=new
                )
        for name in self._seen.keys() - names:
            del self._seen[name]
        if self._seen != before:
            seen = tuple(self._seen[name] for name in sorted(self._seen))
            self.ports.on_activity(VariablesSeen(variables=seen))

    async def _sync(self, effect: SyncExecutionEnvironment) -> ExecutionEnvironmentSynced:
        """Kernel alive, its variables described: the volatile blocks of the next request."""
        ports = self.ports
        try:
            await self._ensure_kernel()
            for kernel in (self.ports.kernel, *self._cells.others):
                background = kernel.take_background()
                if background:
                    seen = observe(self.ports.redactor.outputs(background))
                    written = "Written by code that ran on after its cell:\n" + "\n".join(seen.texts)
                    self._tell(written, shown=written if len(written) <= _SHOWN else f"{written[:_SHOWN]}…")
            await self._prepare()
            await self._refresh_tools()
            variables = await self._described()
            if ports.sharing is not None and variables is not None:
                names = [variable.name for variable in variables.variables]
                await ports.sharing.note_kernels(names, ports.kernel.epoch)
        except LashError as error:
            return ExecutionEnvironmentSynced(id=effect.id, result=str(error))
        if variables is not None:
            self._saw(self.ports.redactor.namespace(variables))
        await self._look_outside()
        notices = [*self._notices]
        self._notices.clear()
        standing = mode_text(self.ports.approve), checks_told(self.ports.checks)
        notices = [text for text in (*standing, *notices) if text]
        redactor = self.ports.redactor
        if self._untold is None:  # else it is to be known by the next host, too, until the model is told
            self.ports.log.looked(redactor.namespace(self.known))
        self.ports.protocol.set_volatile(
            [*self._notebook(variables), *(redactor.text(text) for text in notices)],
            namespace=None if variables is None else redactor.namespace(variables),
        )
        return ExecutionEnvironmentSynced(id=effect.id, result=self._changed_environment())

    async def _prepare(self) -> None:
        """The kernel is made like the notebook's process, and gets what was given with the request, once."""
        if self.ports.sharing is not None:
            for difference in await self.ports.sharing.prepare(self.ports.kernel):
                self._tell(difference)
        inputs, self._inputs = self._inputs, {}
        if inputs:
            await self._cells.share(inputs)

    def _notebook(self, variables: NamespaceSummary | None) -> list[str]:
        """The block that tells of the notebook's variables, if there are any to tell of."""
        ports = self.ports
        if ports.sharing is None:
            return []
        mine = ports.redactor.namespace(ports.sharing.describe(previews=ports.previews))
        bare = without_values(mine).variables
        self._mine = {variable.name: (variable.type, variable.detail) for variable in bare}
        there = variables.variables if variables is not None else ()
        told = {(variable.name, variable.type, variable.detail, variable.preview) for variable in there}
        # What only has the same name is told twice.
        same = (one.name for one in mine.variables if (one.name, one.type, one.detail, one.preview) in told)
        here = frozenset(same)
        block = notebook_block(mine, here=here)
        return [block] if block else []

    async def _described(self) -> NamespaceSummary | None:
        """The kernel's variables; a kernel that dies at this very moment is replaced first. None: it does not say."""
        kernel, previews = self.ports.kernel, self.ports.previews
        try:
            try:
                self.known = await kernel.namespace(previews=previews)
            except KernelDiedError:
                await self._ensure_kernel()
                self.known = await kernel.namespace(previews=previews)
            if self.ports.sharing is not None:
                self.known = self.ports.sharing.visible(self.known)
            self.known_epoch = kernel.epoch
            return self.known
        except KernelBusyError as error:
            self._notices.append(f"The kernel's variables could not be read just now: {error}")
            return None

    async def _ensure_kernel(self) -> None:
        """A kernel is there; when it is not the one that was last looked at, what that held is told to be lost."""
        kernel = self.ports.kernel
        why = "The kernel's process had ended"
        if not kernel.alive:
            await (kernel.restart() if kernel.epoch else kernel.start())
        elif isinstance(kernel, MayBeStuck) and await kernel.is_stuck():
            why = "The kernel was still busy with a cell that does not react to interrupts, and was ended"
            await kernel.restart()
        if self.known_epoch not in ("", kernel.epoch):
            self._tell(f"{why}; a new one was started. {lost_names(self.known)}")
            self._untold = self._untold or (self.known, self.known_epoch)
            self.known = NamespaceSummary()
        if self.known_epoch != kernel.epoch and isinstance(kernel, Confined):
            for sentence in kernel.unmet_limits:
                self._tell(sentence)
        self.known_epoch = kernel.epoch

    def _tell(self, sentence: str, *, shown: str = "") -> None:
        """What became of a kernel: to the user now (or `shown`), to the model with its next request."""
        self._notices.append(sentence)
        event = StatusRuntimeEvent(key="kernel", label=shown or sentence)
        self.ports.on_activity(PluginEvent(plugin_id="kernel", event=event))

    async def _call_model(self, effect: LlmCall, protocol_iteration: int) -> LlmComplete:
        self._step += 1
        self._untold = None  # the request says it
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

    async def _deliver(self, effect: Checkpoint) -> CheckpointResponse:
        """What the user said meanwhile; else, where the turn is to end, what does not hold."""
        messages = self._take_inbox(effect.checkpoint)
        delivery = CheckpointDelivery(committed_user_messages=messages)
        if not messages and effect.checkpoint is CheckpointKind.BEFORE_COMPLETION:
            problem = await self._verifying.problem(effect)
            delivery = CheckpointDelivery(messages=() if problem is None else (problem,))
        return CheckpointResponse(id=effect.id, delivery=delivery)

    def said_ahead(self) -> tuple[Message, ...]:
        """What the user said before the first model call, once; it is recorded with the effect that comes next."""
        return self._take_inbox(CheckpointKind.AFTER_WORK) if self._step == 0 else ()

    def _take_inbox(self, checkpoint: CheckpointKind) -> tuple[Message, ...]:
        """What waits, as messages of the user's own."""
        waiting = {number: text for number, text in self.ports.inbox.waiting.items() if number not in self._delivered}
        self._delivered = (*self._delivered, *waiting)
        self.ports.log.delivers(self._delivered)
        texts = [self.ports.redactor.text(text) for text in waiting.values()]
        messages = []
        for text in texts:
            self._said += 1
            message_id = f"m_user_{self.ports.context.turn}_{self._said}"
            part = Part(id=f"{message_id}.p0", kind=PartKind.TEXT, content=text)
            messages.append(Message(id=message_id, role=MessageRole.USER, parts=(part,)))
        if texts:
            inputs = tuple(InjectedInput(message=PluginMessage(role=MessageRole.USER, content=text)) for text in texts)
            self.ports.on_activity(InjectedTurnInputAccepted(inputs=inputs, checkpoint=checkpoint))
        return tuple(messages)
