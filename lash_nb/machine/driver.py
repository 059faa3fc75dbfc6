"""Protocol drivers: four pure callbacks that say, as data, what a turn does next.

A driver gets a read-only context and returns a list of driver actions; the machine applies them in order
(`reference/turn-machine.md` 1.6). `CheckedDriver` holds a driver to the contract that keeps the reference's hazards
Q2 and Q3 out of reach: after a response exactly one action that moves the turn on, and nothing after `Finish`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ..errors import DriverContractError
from .checkpoints import CheckpointKind, CheckpointResumeAction
from .config import TurnMachineConfig
from .effects import Emit
from .events import SessionEventRecord
from .execution import ExecResponse
from .llm import LlmRequest, LlmResponse
from .messages import AppendOnly, Message, MessageSequence, TurnCause
from .outcomes import TurnOutcome
from .projector import Projection
from .tool_calls import CompletedToolCall, PendingToolCall

__all__ = [
    "AdvanceProtocolIteration",
    "AppendEvents",
    "CheckedDriver",
    "DriverAction",
    "DriverContext",
    "Emit",
    "Finish",
    "ProtocolDriver",
    "ScheduleTurnLimitFinal",
    "StartCheckpoint",
    "StartExec",
    "StartLlm",
    "StartTools",
    "WaitingExecView",
    "WaitingLlmView",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendEvents:
    """Append to durable history; Conversation records also become messages."""

    records: tuple[SessionEventRecord, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartLlm:
    """Call the model."""

    request: LlmRequest
    driver_state: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTools:
    """Make tool calls."""

    calls: tuple[PendingToolCall, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartExec:
    """Run a cell."""

    language: str
    code: str
    driver_state: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartCheckpoint:
    """Pause for the host."""

    checkpoint: CheckpointKind
    on_empty: CheckpointResumeAction


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvanceProtocolIteration:
    """The next model call is another iteration; the environment is synced again before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleTurnLimitFinal:
    """Push the turn-limit message and grant one last model call, if the policy allows it."""

    message: Message


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """End the turn; the rest of the list is dropped."""

    outcome: TurnOutcome


DriverAction: TypeAlias = (
    Emit
    | AppendEvents
    | StartLlm
    | StartTools
    | StartExec
    | StartCheckpoint
    | AdvanceProtocolIteration
    | ScheduleTurnLimitFinal
    | Finish
)
_MOVES_ON = (StartLlm, StartTools, StartExec, StartCheckpoint, Finish)


@dataclass(frozen=True, slots=True, kw_only=True)
class DriverContext:
    """What a driver may see of the machine."""

    config: TurnMachineConfig[Any, Any, Any]
    messages: MessageSequence
    events: AppendOnly[SessionEventRecord]
    turn_causes: AppendOnly[TurnCause]
    protocol_iteration: int
    protocol_run_offset: int
    turn_limit_final_scheduled: bool

    @property
    def max_turns(self) -> int | None:
        """How many iterations the turn may take."""
        return self.config.max_turns

    @property
    def termination(self) -> Any:
        """The protocol's per-turn options."""
        return self.config.termination

    @property
    def autonomous(self) -> bool:
        """Whether nobody is there to be asked."""
        return self.config.autonomous

    def project_llm_request(self, use_tools: bool) -> LlmRequest:
        """The request that the projector makes of the conversation as it is now."""
        return self.config.projector.project(
            Projection(
                config=self.config,
                messages=self.messages,
                turn_causes=self.turn_causes,
                protocol_iteration=self.protocol_iteration,
                use_tools=use_tools,
            )
        )

    def should_force_exit_after_grace_turn(self) -> bool:
        """True once the turn-limit message was pushed: what comes now was the last call."""
        return self.turn_limit_final_scheduled

    def turn_limit_final_to_schedule(self) -> int | None:
        """`max_turns` when the turn-limit message is due, else None."""
        limit = self.max_turns
        if self.turn_limit_final_scheduled or limit is None:
            return None
        return limit if self.protocol_iteration >= self.protocol_run_offset + limit else None


class WaitingLlmView:
    """The model call that was answered."""

    __slots__ = ("_driver_state", "request")

    def __init__(self, request: LlmRequest, driver_state: Any) -> None:
        self.request = request
        self._driver_state = driver_state

    def take_driver_state(self) -> Any:
        """The driver's state, once; None afterwards."""
        state, self._driver_state = self._driver_state, None
        return state


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingExecView:
    """The cell that was answered."""

    language: str
    code: str
    driver_state: Any


class ProtocolDriver(Protocol):
    """How a protocol conducts a turn. Pure: no clock, no randomness, no state of its own between callbacks."""

    def prepare_protocol_iteration(self, ctx: DriverContext) -> Sequence[DriverAction]:
        """A new iteration begins."""
        ...

    def handle_llm_success(
        self, ctx: DriverContext, waiting: WaitingLlmView, response: LlmResponse, text_streamed: bool
    ) -> Sequence[DriverAction]:
        """The model answered (stop, tool_use or unknown; other endings never reach a driver)."""
        ...

    def handle_tool_results(
        self, ctx: DriverContext, completed: tuple[CompletedToolCall, ...]
    ) -> Sequence[DriverAction]:
        """All calls of a batch came back."""
        ...

    def handle_exec_result(
        self, ctx: DriverContext, waiting: WaitingExecView, result: ExecResponse | str
    ) -> Sequence[DriverAction]:
        """The cell ended; a string says why it has no result."""
        ...


class CheckedDriver:
    """A driver held to its contract.

    Raises:
        DriverContractError: naming driver and callback. The machine's state has then been moved to Finished for a
            response callback (as the reference does); the host ends the turn with `fail_turn`.
    """

    def __init__(self, driver: ProtocolDriver) -> None:
        self.driver = driver

    def prepare_protocol_iteration(self, ctx: DriverContext) -> Sequence[DriverAction]:
        actions = self.driver.prepare_protocol_iteration(ctx)
        return self._check("prepare_protocol_iteration", actions, moves_on=False)

    def handle_llm_success(
        self, ctx: DriverContext, waiting: WaitingLlmView, response: LlmResponse, text_streamed: bool
    ) -> Sequence[DriverAction]:
        actions = self.driver.handle_llm_success(ctx, waiting, response, text_streamed)
        return self._check("handle_llm_success", actions)

    def handle_tool_results(
        self, ctx: DriverContext, completed: tuple[CompletedToolCall, ...]
    ) -> Sequence[DriverAction]:
        return self._check("handle_tool_results", self.driver.handle_tool_results(ctx, completed))

    def handle_exec_result(
        self, ctx: DriverContext, waiting: WaitingExecView, result: ExecResponse | str
    ) -> Sequence[DriverAction]:
        return self._check("handle_exec_result", self.driver.handle_exec_result(ctx, waiting, result))

    def _check(
        self, callback: str, actions: Sequence[DriverAction], *, moves_on: bool = True
    ) -> Sequence[DriverAction]:
        moves = [action for action in actions if isinstance(action, _MOVES_ON)]
        names = ", ".join(type(move).__name__ for move in moves)
        if len(moves) > 1:
            raise self._broken(callback, f"returned {len(moves)} actions that move the turn on ({names})")
        if moves_on and not moves:
            raise self._broken(callback, "returned no action that moves the turn on")
        if moves and isinstance(moves[0], Finish) and actions[-1] is not moves[0]:
            raise self._broken(callback, "returned actions after Finish, which would be dropped")
        return actions

    def _broken(self, callback: str, problem: str) -> DriverContractError:
        name = type(self.driver).__name__
        return DriverContractError(
            f"{name}.{callback} {problem}. After a response a driver returns exactly one of StartLlm, StartTools, "
            "StartExec, StartCheckpoint or Finish, and nothing after Finish."
        )
