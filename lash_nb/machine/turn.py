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

from collections.abc import Sequence
from typing import assert_never

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
    Emit,
    ExecResult,
    ExecutionEnvironmentSynced,
    LlmComplete,
    Log,
    Response,
    ToolResults,
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
from .llm import LlmCallError, LlmResponse
from .messages import AppendOnly
from .outcomes import Stopped, TurnOutcome, TurnStopReason
from .state import (
    Finished,
    PrepareIteration,
    PreparingProtocol,
    WaitingCheckpoint,
    WaitingExec,
    WaitingExecutionEnvironment,
    WaitingLlm,
    WaitingTools,
)
from .turn_record import TurnRecord

__all__ = ["TurnMachine", "TurnMachineConfig", "TurnProtocol", "UnitTurnProtocol"]


class TurnMachine(TurnRecord):
    """One turn.

    `messages` and `events` given at construction are history: they are never reported again, and initial `turn_causes`
    are not appended to the messages.
    """

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
