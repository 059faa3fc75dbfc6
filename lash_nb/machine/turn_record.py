"""What a turn machine holds, and how that becomes a checkpoint and comes back.

`TurnMachine` (turn.py) is this plus behaviour: here nothing decides what a turn does next. Messages and events are
shared views, so a checkpoint costs the same at ten messages and at ten thousand.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any, TypeVar

from .config import TurnMachineConfig
from .driver import DriverContext
from .effects import Effect, EffectId, Emit, Progress, WaitingEffect, effect_id_of
from .events import SessionEventRecord, SessionStreamEvent
from .llm import TokenUsage
from .messages import AppendOnly, Message, MessageSequence, TurnCause
from .state import (
    Finished,
    MachineState,
    PreparingProtocol,
    TurnCheckpoint,
    TurnTerminationPolicyState,
    outstanding_effect,
)

__all__ = ["TurnRecord"]

Self = TypeVar("Self", bound="TurnRecord")


class TurnRecord:
    """The state of one turn."""

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
    def restore(cls: type[Self], config: TurnMachineConfig[Any, Any, Any], checkpoint: TurnCheckpoint) -> Self:
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
