"""The turn machine: effects out, responses in, nothing else.

One machine is one turn, from a request to its outcome. The host polls until nothing comes, performs the one effect that
carries an id, answers it, and polls again; it may take a checkpoint between any two calls and restore it later. The
behaviour is the reference's, hazards included (`reference/turn-machine.md`); what makes the hazards unreachable is
`CheckedDriver` and the host. Rules of this file: no clock, no randomness, no IO; every state change is here; what a
stale or mismatched response does to the state is nothing.

    poll_effect:      queued effect → redelivered effect → (PreparingProtocol | PrepareIteration) → None
    handle_response:  matching state and id → the machine moves on; anything else → ignored
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, assert_never

from .checkpoints import CheckpointDelivery, CheckpointKind, FinishWith
from .completion import (
    llm_debug,
    llm_error_log,
    llm_failed,
    outcome_of_reason,
    refined,
    reported_reason,
    sync_failed,
)
from .config import TurnMachineConfig, TurnProtocol, UnitTurnProtocol
from .delivery import cause_message, delivered_message, wanted
from .driver import (
    AdvanceProtocolIteration,
    AppendEvents,
    DriverAction,
    DriverContext,
    Finish,
    ScheduleTurnLimitFinal,
    StartCheckpoint,
    StartExec,
    StartLlm,
    StartTools,
    WaitingExecView,
    WaitingLlmView,
)
from .effects import (
    CheckpointResponse,
    Done,
    Effect,
    EffectId,
    Emit,
    ExecResult,
    ExecutionEnvironmentSynced,
    LlmComplete,
    Log,
    Progress,
    Response,
    ToolResults,
    WaitingEffect,
    effect_id_of,
)
from .events import (
    Conversation,
    DoneEvent,
    LlmRequestEvent,
    SessionEventRecord,
    SessionStreamEvent,
    TokenUsageEvent,
    ToolCallEvent,
    TurnOutcomeEvent,
)
from .llm import LlmCallError, LlmResponse, TokenUsage
from .messages import AppendOnly, Message, MessageSequence, TurnCause
from .outcomes import Stopped, TurnOutcome, TurnStopReason
from .state import (
    Finished,
    MachineState,
    PrepareIteration,
    PreparingProtocol,
    TurnCheckpoint,
    TurnTerminationPolicyState,
    WaitingCheckpoint,
    WaitingExec,
    WaitingExecutionEnvironment,
    WaitingLlm,
    WaitingTools,
    outstanding_effect,
)

__all__ = ["TurnMachine", "TurnMachineConfig", "TurnProtocol", "UnitTurnProtocol"]


class TurnMachine:
    """One turn.

    `messages` and `events` given at construction are history: they are never reported again, and initial `turn_causes`
    are not appended to the messages.
    """

    def __init__(
        self,
        config: TurnMachineConfig[Any, Any, Any],
        messages: Iterable[Message] = (),
        events: Iterable[SessionEventRecord] = (),
        *,
        protocol_run_offset: int = 0,
        turn_causes: Iterable[TurnCause] = (),
    ) -> None:
        self.config = config
        self._state: MachineState = PreparingProtocol()
        self._pending: deque[Effect] = deque()
        self._redeliver = False
        self._next_effect_id = 1
        self._messages = messages if isinstance(messages, AppendOnly) else AppendOnly(messages)
        self._next_synthetic_message_id = len(self._messages)
        self._events = events if isinstance(events, AppendOnly) else AppendOnly(events)
        self._progress_event_cursor = len(self._events)
        self._turn_causes = turn_causes if isinstance(turn_causes, AppendOnly) else AppendOnly(turn_causes)
        self._protocol_run_offset = protocol_run_offset
        self._protocol_iteration = protocol_run_offset
        self._cumulative_usage = TokenUsage()
        self._limit_scheduled = False
        self._synced_protocol_iteration: int | None = None

    # -- what can be seen ----------------------------------------------------------------------------------------------

    @property
    def state(self) -> MachineState:
        """Where the turn is."""
        return self._state

    @property
    def messages(self) -> MessageSequence:
        """The conversation; empty once the turn is finished (they have moved into Done)."""
        return self._messages

    @property
    def events(self) -> AppendOnly[SessionEventRecord]:
        """Durable history, old and new."""
        return self._events

    @property
    def turn_causes(self) -> AppendOnly[TurnCause]:
        """What this turn reacts to."""
        return self._turn_causes

    @property
    def protocol_iteration(self) -> int:
        """The running number of the iteration, counted over the run."""
        return self._protocol_iteration

    @property
    def cumulative_usage(self) -> TokenUsage:
        """Tokens of this turn so far."""
        return self._cumulative_usage

    def is_done(self) -> bool:
        """True when the turn is over; Done may still be queued."""
        return isinstance(self._state, Finished)

    @property
    def queued(self) -> int:
        """How many effects the next polls will give before the machine has to think."""
        return len(self._pending)

    @property
    def outstanding_effect(self) -> WaitingEffect | None:
        """The effect that the machine waits for an answer to, rebuilt from its state."""
        return outstanding_effect(self._state)

    @property
    def outstanding_effect_id(self) -> EffectId | None:
        """The id of the effect that the machine waits for an answer to."""
        effect = self.outstanding_effect
        return None if effect is None else effect_id_of(effect)

    # -- checkpoint and restore ----------------------------------------------------------------------------------------

    def checkpoint(self) -> TurnCheckpoint:
        """The turn as a value, O(1) in the number of messages: they are shared, not copied.

        A queued effect that carries the outstanding id is left out (it is rebuilt from the state); all others stay.
        """
        outstanding = self.outstanding_effect_id
        return TurnCheckpoint(
            state=self._state,
            pending_effects=tuple(
                effect for effect in self._pending if outstanding is None or effect_id_of(effect) != outstanding
            ),
            next_effect_id=self._next_effect_id,
            next_synthetic_message_id=self._next_synthetic_message_id,
            messages=self._messages,
            events=self._events,
            turn_causes=self._turn_causes,
            progress_event_cursor=self._progress_event_cursor,
            protocol_iteration=self._protocol_iteration,
            protocol_run_offset=self._protocol_run_offset,
            cumulative_usage=self._cumulative_usage,
            termination=TurnTerminationPolicyState(turn_limit_final_scheduled=self._limit_scheduled),
            synced_protocol_iteration=self._synced_protocol_iteration,
        )

    @classmethod
    def restore(cls, config: TurnMachineConfig[Any, Any, Any], checkpoint: TurnCheckpoint) -> TurnMachine:
        """A machine that goes on where the checkpoint was taken.

        Queued effects come out first, the outstanding one last, with its old id and request. Nothing is synced: the
        host rebuilds the config and rehydrates the kernel before the first poll (Q10).
        """
        machine = cls(config, checkpoint.messages, checkpoint.events, turn_causes=checkpoint.turn_causes)
        machine._state = checkpoint.state
        machine._pending = deque(checkpoint.pending_effects)
        machine._next_effect_id = checkpoint.next_effect_id
        machine._next_synthetic_message_id = checkpoint.next_synthetic_message_id
        machine._progress_event_cursor = checkpoint.progress_event_cursor
        machine._protocol_iteration = checkpoint.protocol_iteration
        machine._protocol_run_offset = checkpoint.protocol_run_offset
        machine._cumulative_usage = checkpoint.cumulative_usage
        machine._limit_scheduled = checkpoint.termination.turn_limit_final_scheduled
        machine._synced_protocol_iteration = checkpoint.synced_protocol_iteration
        outstanding = checkpoint.outstanding_effect_id
        machine._redeliver = outstanding is not None and all(
            effect_id_of(effect) != outstanding for effect in checkpoint.pending_effects
        )
        return machine

    # -- effects out ---------------------------------------------------------------------------------------------------

    def poll_effect(self) -> Effect | None:
        """The next effect, or None: answer the outstanding one, or the turn is over.

        Raises:
            DriverContractError: from a CheckedDriver; the state is then unchanged.
        """
        if self._pending:
            return self._pending.popleft()
        if self._redeliver:
            self._redeliver = False
            return self.outstanding_effect
        match self._state:
            case PreparingProtocol():
                self._prepare_protocol()
            case PrepareIteration():
                self._prepare_iteration()
        return self._pending.popleft() if self._pending else None

    def _prepare_protocol(self) -> None:
        if self.config.sync_execution_environment:
            self._start_sync(update_machine_config=False)
        else:
            self._prepare_iteration()

    def _prepare_iteration(self) -> None:
        unsynced = self._synced_protocol_iteration != self._protocol_iteration
        if self.config.sync_execution_environment and unsynced:
            self._start_sync(update_machine_config=True)
        else:
            self.apply_actions(self.config.driver.prepare_protocol_iteration(self._context()))

    def _start_sync(self, *, update_machine_config: bool) -> None:
        self._wait(
            WaitingExecutionEnvironment(effect_id=self._allocate_id(), update_machine_config=update_machine_config)
        )

    # -- responses in --------------------------------------------------------------------------------------------------

    def handle_response(self, response: Response) -> None:
        """Take an answer; one that does not fit the state and the outstanding id is ignored.

        Any call, also an ignored one, ends a pending redelivery (Q1): hosts drain the queue before they answer.

        Raises:
            DriverContractError: from a CheckedDriver; the state is then Finished with no outcome queued, and the host
                ends the turn with `fail_turn`.
        """
        self._redeliver = False
        state = self._state
        match response:
            case ExecutionEnvironmentSynced():
                if isinstance(state, WaitingExecutionEnvironment) and state.effect_id == response.id:
                    self._synced(response)
            case LlmComplete():
                if isinstance(state, WaitingLlm) and state.effect_id == response.id:
                    self._llm_completed(state, response)
            case ToolResults():
                if isinstance(state, WaitingTools) and state.effect_id == response.id:
                    self._tools_completed(response)
            case ExecResult():
                if isinstance(state, WaitingExec) and state.effect_id == response.id:
                    self._state = Finished()
                    view = WaitingExecView(language=state.language, code=state.code, driver_state=state.driver_state)
                    driver = self.config.driver
                    self.apply_actions(driver.handle_exec_result(self._context(), view, response.result))
            case CheckpointResponse():
                if isinstance(state, WaitingCheckpoint) and state.effect_id == response.id:
                    self._delivered(state, response.delivery)
            case _:
                assert_never(response)

    def _synced(self, response: ExecutionEnvironmentSynced) -> None:
        result = response.result
        if isinstance(result, str):
            self.fail_turn(sync_failed(result))
            return
        if result is not None:
            self.config = self.config.synced(result)
        self._synced_protocol_iteration = self._protocol_iteration
        self._state = PrepareIteration()

    def _llm_completed(self, state: WaitingLlm, response: LlmComplete) -> None:
        config, result = self.config, response.result
        if isinstance(result, LlmCallError):
            if config.emit_llm_trace:
                self._queue(Log(event=llm_error_log(config.session_id, self._protocol_iteration, result)))
            self._emit(llm_failed(result))
            self.finish_with_outcome(Stopped(stop=TurnStopReason.PROVIDER_ERROR))
            return
        result = refined(result, config.max_context_tokens)
        self._cumulative_usage = self._cumulative_usage + result.usage
        self._emit(
            TokenUsageEvent(
                protocol_iteration=self._protocol_iteration,
                usage=result.usage,
                cumulative=self._cumulative_usage,
            )
        )
        if config.emit_llm_trace:
            self._queue(Log(event=llm_debug(config.session_id, self._protocol_iteration, result)))
        if (outcome := outcome_of_reason(result.terminal_reason)) is not None:
            for event in reported_reason(result, self._protocol_iteration, response.text_streamed):
                self._emit(event)
            self.finish_with_outcome(outcome)
            return
        self._llm_succeeded(state, result, response.text_streamed)

    def _llm_succeeded(self, state: WaitingLlm, result: LlmResponse, text_streamed: bool) -> None:
        self._state = Finished()
        view = WaitingLlmView(state.request, state.driver_state)
        self.apply_actions(self.config.driver.handle_llm_success(self._context(), view, result, text_streamed))

    def _tools_completed(self, response: ToolResults) -> None:
        for completed in response.results:
            self._emit(
                ToolCallEvent(
                    call_id=completed.call_id,
                    name=completed.tool_name,
                    args=completed.args,
                    output=completed.output,
                    duration_ms=completed.duration_ms,
                )
            )
        self._state = Finished()
        self.apply_actions(self.config.driver.handle_tool_results(self._context(), response.results))

    def _delivered(self, state: WaitingCheckpoint, delivery: CheckpointDelivery) -> None:
        if not delivery:
            if isinstance(state.on_empty, FinishWith):
                self.finish_with_outcome(state.on_empty.outcome)
            else:
                self._state = PrepareIteration()
            return
        self._messages = self._messages.appended(delivery.committed_user_messages)
        for transient, messages in ((False, delivery.messages), (True, delivery.transient_messages)):
            for message in filter(wanted, messages):
                message_id = self._synthetic_id("checkpoint")
                self._append_message(delivered_message(message, message_id, transient=transient))
        known = {cause.id for cause in self._turn_causes}
        for cause in delivery.turn_causes:
            if cause.id not in known:
                known.add(cause.id)
                self._turn_causes = self._turn_causes.appended((cause,))
                self._append_message(cause_message(cause))
        if state.checkpoint is CheckpointKind.BEFORE_COMPLETION:
            self._protocol_iteration += 1
            if self._limit_scheduled:
                self._queue_progress()
                self.finish_with_outcome(Stopped(stop=TurnStopReason.MAX_TURNS))
                return
            self._schedule_due_limit()
        self._state = PrepareIteration()
        self._queue_progress()

    def _schedule_due_limit(self) -> None:
        limit = self._context().turn_limit_final_to_schedule()
        if limit is not None:
            message_id = self._synthetic_id("turn_limit")
            self._limit_scheduled = True
            self._append_message(self.config.turn_limit_final_message(message_id, limit))

    # -- driver actions ------------------------------------------------------------------------------------------------

    def apply_actions(self, actions: Sequence[DriverAction]) -> None:
        """Apply driver actions in order; at most one Progress follows, after what the actions started."""
        dirty = False
        for action in actions:
            match action:
                case Finish():
                    if dirty:
                        self._queue_progress()
                    self.finish_with_outcome(action.outcome)
                    return
                case AppendEvents():
                    dirty |= self._append_records(action.records)
                case AdvanceProtocolIteration():
                    self._protocol_iteration += 1
                    self._synced_protocol_iteration = None
                    dirty = True
                case ScheduleTurnLimitFinal():
                    if self._context().turn_limit_final_to_schedule() is not None:
                        self._limit_scheduled = True
                        self._append_message(action.message)
                        dirty = True
                case Emit():
                    self._queue(action)
                case StartLlm() | StartTools() | StartExec() | StartCheckpoint():
                    self._start(action)
                case _:
                    assert_never(action)
        if dirty:
            self._queue_progress()

    def _start(self, action: StartLlm | StartTools | StartExec | StartCheckpoint) -> None:
        match action:
            case StartLlm():
                self._emit(
                    LlmRequestEvent(
                        protocol_iteration=self._protocol_iteration,
                        message_count=len(self._messages),
                        tool_list=", ".join(spec.name for spec in self.config.tool_specs),
                    )
                )
                self._wait(
                    WaitingLlm(
                        effect_id=self._allocate_id(),
                        request=action.request,
                        driver_state=action.driver_state,
                    )
                )
            case StartTools():
                self._wait(WaitingTools(effect_id=self._allocate_id(), calls=action.calls))
            case StartExec():
                self._wait(
                    WaitingExec(
                        effect_id=self._allocate_id(),
                        language=action.language,
                        code=action.code,
                        driver_state=action.driver_state,
                    )
                )
            case StartCheckpoint():
                self._wait(
                    WaitingCheckpoint(
                        effect_id=self._allocate_id(), checkpoint=action.checkpoint, on_empty=action.on_empty
                    )
                )

    def _append_records(self, records: Sequence[SessionEventRecord]) -> bool:
        self._events = self._events.appended(records)
        self._messages = self._messages.appended(
            record.message for record in records if isinstance(record, Conversation)
        )
        return bool(records)

    # -- the end -------------------------------------------------------------------------------------------------------

    def fail_turn(self, event: SessionStreamEvent) -> None:
        """Emit the event (an error, as a rule) and end the turn as a runtime error.

        Not idempotent, and what is queued stays (Q3).
        """
        self._emit(event)
        self.finish_with_outcome(Stopped(stop=TurnStopReason.RUNTIME_ERROR))

    def finish_with_outcome(self, outcome: TurnOutcome) -> None:
        """End the turn: outcome, done, Done; the messages move into Done. Not idempotent (Q3)."""
        self._emit(TurnOutcomeEvent(outcome=outcome))
        self._emit(DoneEvent())
        messages, self._messages = self._messages, AppendOnly()
        self._state = Finished()
        self._queue(
            Done(
                messages=messages,
                event_delta=self._take_event_delta(),
                protocol_iteration=self._protocol_iteration,
            )
        )

    # -- small parts ---------------------------------------------------------------------------------------------------

    def _context(self) -> DriverContext:
        return DriverContext(
            config=self.config,
            messages=self._messages,
            events=self._events,
            turn_causes=self._turn_causes,
            protocol_iteration=self._protocol_iteration,
            protocol_run_offset=self._protocol_run_offset,
            turn_limit_final_scheduled=self._limit_scheduled,
        )

    def _allocate_id(self) -> EffectId:
        effect_id = EffectId(self._next_effect_id)
        self._next_effect_id += 1
        return effect_id

    def _wait(self, state: MachineState) -> None:
        """Enter a waiting state and queue its effect."""
        self._state = state
        effect = outstanding_effect(state)
        assert effect is not None
        self._queue(effect)

    def _synthetic_id(self, scope: str) -> str:
        number = self._next_synthetic_message_id
        self._next_synthetic_message_id += 1
        return f"m_sansio_{self._protocol_run_offset}_{scope}_{number}"

    def _append_message(self, message: Message) -> None:
        self._messages = self._messages.appended((message,))

    def _queue(self, effect: Effect) -> None:
        self._pending.append(effect)

    def _emit(self, event: SessionStreamEvent) -> None:
        self._pending.append(Emit(event=event))

    def _queue_progress(self) -> None:
        self._queue(
            Progress(
                messages=self._messages,
                event_delta=self._take_event_delta(),
                protocol_iteration=self._protocol_iteration,
            )
        )

    def _take_event_delta(self) -> tuple[SessionEventRecord, ...]:
        delta = self._events[self._progress_event_cursor :]
        self._progress_event_cursor = len(self._events)
        return delta
