"""One request: a turn of a session from its text to its `Turn`. Puts machine, protocol, host and recorder together.

A turn that an earlier process began is put together from its record, and goes on at its outstanding effect. A model
call that was outstanding is prepared anew when the kernel of before is gone, so that the model learns of it first.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, TypeVar

from .asked import Asked
from .cell_tools import tools_told
from .conversation import Conversation
from .errors import UnknownNameError
from .host import TurnHost, TurnResult
from .kernels import Kernel
from .languages import is_sandboxed
from .machine.activities import TURN_ACTIVITY
from .machine.config import TurnMachineConfig
from .machine.driver import CheckedDriver
from .machine.effects import EffectId, ExecutionEnvironmentSync
from .machine.events import PluginEvent, StatusRuntimeEvent, TokenUsageEvent, TurnActivity, TurnStarted
from .machine.outcomes import FinalValue, Finished
from .machine.picture import TurnPicture
from .machine.state import PrepareIteration, TurnCheckpoint, WaitingLlm
from .machine.tool_specs import LlmToolSpec
from .machine.turn import TurnMachine
from .models import CallContext, Model, ModelTraits, TakesPart
from .models.prices import call_price
from .ports import Resumed, TurnPorts
from .protocols import PROTOCOLS, ModelProtocol, ValidateValue
from .protocols.termination import CodeTermination, FinishRequired, Natural
from .requested import Interrupted, Request, Surroundings
from .toolkits import Tool
from .toolkits.catalogue import ToldTools, without_secrets
from .turn_recorder import TurnRecorder
from .turns import Turn
from .typed import schema_validator

__all__ = ["RequestRun"]

_log = logging.getLogger("lash_nb")

_REDACTED = "The request held a secret, which was taken out: neither model nor record gets it."


_Given = TypeVar("_Given")


class RequestRun:
    """A request on its way."""

    def __init__(self, request: Request, conversation: Conversation, *, before: Interrupted | None = None) -> None:
        self.request = request
        self.conversation = conversation
        self.number = before.turn.number if before is not None else conversation.next_number
        self.picture = TurnPicture()
        self.turn: Turn | None = None
        """The turn, once it has ended; also when `run` raised."""
        self._before = before
        self._watcher = request.on_activity
        self._recorder: TurnRecorder | None = None
        self._priced_as = ""
        self._partner: TakesPart | None = None
        self._envelope: dict[str, Any] | None = None
        self._told_tools: ToldTools = {}
        self._given: ExecutionEnvironmentSync | None = None
        self._made_for: tuple[tuple[Tool, ...], ExecutionEnvironmentSync] | None = None
        self._over = False
        """Whether its last envelope was made: a head that comes later is none."""

    async def run(self, around: Surroundings) -> Turn:
        """Drive the turn to its end and take it into the conversation; raises as `TurnHost.run` does."""
        traits = around.model.traits(session=around.label, turn=self.number)
        self._priced_as = traits.priced_as
        protocol = self._protocol(around, traits)
        machine = self._machine(around, protocol)
        self._record(around, protocol)
        self._joined(around.model)
        host = TurnHost(machine, self._ports(around, protocol, traits))
        try:
            await host.run()
        finally:
            # Also when it was stopped or failed: the turn has ended in order and is kept.
            if host.ended:
                self.turn = self._ended(host.result(), around)
        assert self.turn is not None
        return self.turn

    def _joined(self, model: Model) -> None:
        if isinstance(model, TakesPart):
            self._partner = model
            model.join(self._partner_tells)

    def _partner_tells(self, activity: TurnActivity) -> None:
        if isinstance(activity, TurnStarted) and self._recorder is not None:
            self._recorder.goes_on_with(activity.model)
        self._saw(activity)

    async def leave(self, around: Surroundings) -> Turn:
        """End a turn that an earlier process began, without doing anything more for it."""
        traits = around.model.traits(session=around.label, turn=self.number)
        protocol = self._protocol(around, traits)
        machine = self._machine(around, protocol)
        self._record(around, protocol)
        host = TurnHost(machine, self._ports(around, protocol, traits))
        try:
            await host.leave()
        finally:
            self.turn = self._ended(host.result(), around)
        return self.turn

    def _record(self, around: Surroundings, protocol: ModelProtocol) -> None:
        """Begin the turn's record, or go on with it; what was to be seen of it so far is shown again."""
        asked = self._asked(around, protocol)
        if self._before is None:
            around.recorder.begin(self.number, asked)
            self._recorder = TurnRecorder(around.recorder, self.number, asked)
        else:
            turn = self._before.turn
            self._recorder = TurnRecorder(around.recorder, self.number, asked, steps=turn.steps, said=turn.said)
            for told in turn.told:
                self._show(TURN_ACTIVITY.decode(told))
        if not self.picture.turn or self.picture.model.rpartition(", then ")[2] != around.model.name:
            started = TurnStarted(
                turn=self.number, request=self.request.text, model=around.model.name, protocol=protocol.name
            )
            self._saw(started)
            if self.request.redacted:
                status = StatusRuntimeEvent(key="redaction", label=_REDACTED)
                self._saw(PluginEvent(plugin_id="redaction", event=status))

    def _asked(self, around: Surroundings, protocol: ModelProtocol) -> Asked:
        request = self.request
        return Asked(
            text=request.text,
            model=around.model.name,
            protocol=protocol.name,
            grammar=around.grammar,
            schema=around.redactor.value(request.must_fit),
            typed=request.typed,
            max_steps=request.max_steps,
            time_limit_s=request.time_limit_s,
            cell_limit_s=request.cell_limit_s,
            instructions=around.instructions,
            approve=request.approve,
            share=request.share,
            sandbox=is_sandboxed(around.kernel),
            results=list(request.results),
            maybe=list(request.maybe),
            checks=list(request.checks),
            afresh=request.afresh,
        )

    def _protocol(self, around: Surroundings, traits: ModelTraits) -> ModelProtocol:
        name = around.protocol or traits.protocol
        if name not in PROTOCOLS:
            known = ", ".join(sorted(PROTOCOLS))
            raise UnknownNameError(f"no protocol is called {name!r}; there are: {known}")
        module, _, attribute = PROTOCOLS[name].partition(":")
        kind = getattr(import_module(module), attribute)
        wanted, schema = self.request.wanted, self.request.schema
        tools = "" if kind.calls_tools else tools_told(self._told(around, around.tools.tools))
        validate: ValidateValue | None = None
        termination: CodeTermination = Natural()
        if wanted is not None:
            validate, termination = wanted.problem, FinishRequired(schema=wanted.schema)
        elif schema is not None:
            validate, termination = schema_validator(schema), FinishRequired(schema=schema)
        protocol: ModelProtocol = kind(
            turn_id=f"t{self.number}",
            run_offset=self.conversation.run_offset,
            termination=termination,
            validate=validate,
            grammar=around.grammar,
            vision=traits.vision,
            instructions="\n\n".join(text for text in (around.instructions, tools, around.about_kernel) if text),
        )
        return protocol

    def _machine(self, around: Surroundings, protocol: ModelProtocol) -> TurnMachine:
        self._given = self._environment_of(around, protocol)
        config = TurnMachineConfig(
            driver=CheckedDriver(protocol.driver),
            projector=protocol.projector,
            protocol=protocol.turn_protocol,
            model=around.model.name,
            sync_execution_environment=True,
            max_turns=self.request.max_steps,
            system_prompt=self._given.system_prompt,
            tool_specs=self._given.tool_specs,
            session_id=self.conversation.session_id,
            emit_llm_trace=True,
            termination=protocol.termination,
            turn_limit_final_message=protocol.turn_limit_message,
        )
        checkpoint = self._checkpoint()
        if checkpoint is not None:
            return TurnMachine.restore(config, checkpoint)
        return TurnMachine(
            config,
            self.conversation.asked(self.number, self.request.text, context=self.request.context),
            self.conversation.events,
            protocol_run_offset=self.conversation.run_offset,
        )

    @staticmethod
    def _shipped(around: Surroundings, protocol: ModelProtocol) -> Mapping[str, Tool]:
        """A model that writes cells reads files by code."""
        return around.shipped_tools() if protocol.calls_tools else {}

    def _told(self, around: Surroundings, tools: Mapping[str, Tool]) -> Mapping[str, Tool]:
        return without_secrets(tools, around.redactor, self._told_tools)

    def _specs(self, around: Surroundings, protocol: ModelProtocol) -> tuple[LlmToolSpec, ...]:
        tools = self._told(around, {**self._shipped(around, protocol), **around.tools.tools})
        return protocol.tool_specs([tool.spec for tool in tools.values()])

    def _environment(self, around: Surroundings, traits: ModelTraits) -> ExecutionEnvironmentSync:
        """The prompt and the tools as they are now; the same object while the tools are the same."""
        tools = tuple(around.tools.tools.values())
        if self._made_for is not None and self._made_for[0] == tools:
            return self._made_for[1]
        protocol = self._protocol(around, traits)
        self._made_for = tools, self._environment_of(around, protocol)
        return self._made_for[1]

    def _environment_of(self, around: Surroundings, protocol: ModelProtocol) -> ExecutionEnvironmentSync:
        return ExecutionEnvironmentSync(system_prompt=protocol.system_prompt, tool_specs=self._specs(around, protocol))

    def _checkpoint(self) -> TurnCheckpoint | None:
        """Where a turn that was begun before goes on."""
        before = self._before
        if before is None or before.turn.checkpoint is None:
            return None
        checkpoint = before.turn.checkpoint
        if before.kernel_lost and before.turn.answer is None and isinstance(checkpoint.state, WaitingLlm):
            # That request says what the kernel held. Nothing has come of it yet, so it is made anew behind a sync.
            return replace(checkpoint, state=PrepareIteration(), synced_protocol_iteration=None)
        return checkpoint

    def _resumed(self) -> Resumed | None:
        if self._before is None:
            return None
        turn = self._before.turn
        asking = turn.asking
        # A cell of a batch asks when its turn comes: others may have begun.
        held = asking is not None and asking.held and not (asking.call_id and asking.wish is None)
        return Resumed(
            effect_id=None if turn.effect is None else EffectId(turn.effect),
            answer=turn.answer,
            epochs={language: kernel.epoch for language, kernel in self._before.kernels.items()},
            calls=turn.calls,
            calls_known=turn.calls_known,
            begun=turn.begun and not held,
            decisions=turn.decisions,
            variables=self.picture.variables,
            steps=turn.steps,
            said=turn.said,
            waiting="" if asking is None else asking.call_id,
        )

    def _ports(self, around: Surroundings, protocol: ModelProtocol, traits: ModelTraits) -> TurnPorts:
        request = self.request
        assert self._recorder is not None
        return TurnPorts(
            protocol=protocol,
            model=around.model,
            kernel=around.kernel,
            kernels=around.kernels,
            context=CallContext(
                session=around.label, turn=self.number, step=0, user_text=request.text, protocol=protocol.name
            ),
            session_id=self.conversation.session_id,
            store=around.store,
            tools=around.tools,
            shipped_tools=self._shipped(around, protocol),
            told_tools=self._told_tools,
            given_environment=self._given,
            environment=partial(self._environment, around, traits),
            inbox=around.inbox,
            redactor=around.redactor,
            known_variables=self.conversation.known_variables,
            known_epoch=self.conversation.known_epoch,
            previews=around.previews,
            sharing=around.sharing if request.share else None,
            inputs=request.inputs,
            afresh=request.afresh,
            checks=request.checks,
            verify=None if request.verify is None else partial(self._with_picture, request.verify),
            conclude=None if request.conclude is None else partial(self._with_picture, request.conclude),
            approve=request.approve,
            decisions=around.decisions,
            on_approval=request.on_approval,
            on_activity=self._saw,
            on_record=lambda checkpoint, final: self._recorded(checkpoint, protocol, final, kernel=around.kernel),
            on_log=around.on_log,
            log=self._recorder,
            resumed=self._resumed(),
            time_limit_s=request.time_limit_s,
            cell_limit_s=request.cell_limit_s,
            retries=around.retries,
        )

    async def _with_picture(self, asks: Callable[[TurnPicture], Awaitable[_Given]]) -> _Given:
        return await asks(self.picture)

    def _saw(self, activity: TurnActivity) -> None:
        if isinstance(activity, TokenUsageEvent) and self._partner is not None and not self._partner.handed_over:
            return  # nobody was asked
        self._tell(activity)
        if isinstance(activity, TokenUsageEvent):
            price = call_price(self._priced_as, activity.usage)
            if price is not None:
                self._tell(price)

    def _tell(self, activity: TurnActivity) -> None:
        if self._recorder is not None:
            self._recorder.told(activity)
        if self._partner is not None:
            self._partner.saw(activity)
        self._show(activity)

    def _show(self, activity: TurnActivity) -> None:
        self.picture = self.picture.apply(activity)
        if self._watcher is None:
            return
        try:
            self._watcher(activity)
        except Exception:
            # What only looks on must not end a turn.
            _log.exception("a watcher of a turn failed and is not told any more")
            self._watcher = None

    def _recorded(self, checkpoint: TurnCheckpoint, protocol: ModelProtocol, final: bool, *, kernel: Kernel) -> None:
        assert self._recorder is not None
        make = partial(
            self.conversation.envelope,
            self.number,
            checkpoint,
            protocol.turn_protocol,
            dollars=self.picture.dollars,
            kept_steps=0 if self._partner is None else self._partner.answered,
            resume=self._recorder.resume_facts(kernel),  # as they are now: the envelope may be made later
        )
        if final:
            self._over = True
            self._envelope = make()
            self._recorder.ended(checkpoint, envelope=self._envelope, dollars=self.picture.dollars)
        else:
            self.conversation.progress(partial(self._publish, make))

    def _publish(self, make: Callable[[], dict[str, Any] | None]) -> None:
        if self._over:
            return
        head = make()
        if head is not None:
            self.conversation.publish(head)

    def _ended(self, result: TurnResult, around: Surroundings) -> Turn:
        turn = Turn(
            session=self.conversation.session_id,
            number=self.number,
            picture=self.picture,
            outcome=result.outcome,
            usage=result.checkpoint.cumulative_usage,
            value=self._value(result),
            typed=self.request.typed,
            schema=self.request.schema,
            results=self.request.results,
            maybe=self.request.maybe,
            afresh=self.request.afresh,
            envelope=self._envelope,
            store=around.store,
        )
        self.conversation.adopt(turn, result)
        return turn

    def _value(self, result: TurnResult) -> Any:
        if not isinstance(result.outcome, Finished) or not isinstance(result.outcome.finish, FinalValue):
            return None
        value, wanted = result.outcome.finish.value, self.request.wanted
        return value if wanted is None else wanted.read(value)
