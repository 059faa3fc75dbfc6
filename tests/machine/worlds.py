"""Small worlds for the machine: drivers that say what they are told, one value of each kind, drains, journals."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any

from lash_nb.machine.checkpoints import CheckpointDelivery, CheckpointKind, CheckpointResumeAction
from lash_nb.machine.config import JsonTurnProtocol, TurnMachineConfig, TurnProtocol
from lash_nb.machine.deltas import DeltaReader, DeltaWriter
from lash_nb.machine.driver import DriverAction, DriverContext, WaitingExecView, WaitingLlmView
from lash_nb.machine.effects import CheckpointResponse, Effect, EffectId, Emit, LlmComplete, effect_id_of
from lash_nb.machine.execution import ExecResponse
from lash_nb.machine.llm import (
    LlmMessage,
    LlmRequest,
    LlmRequestScope,
    LlmResponse,
    LlmRole,
    LlmTerminalReason,
    LlmToolSpec,
    LlmUsage,
    TextBlock,
    TokenUsage,
    ToolSchema,
)
from lash_nb.machine.messages import AppendOnly, Message, MessageRole, Part, PartKind
from lash_nb.machine.outcomes import AssistantMessage, Finished, TurnOutcome
from lash_nb.machine.projector import ChatProjector
from lash_nb.machine.state import MachineState, TurnCheckpoint, TurnTerminationPolicyState, WaitingCheckpoint
from lash_nb.machine.tool_calls import CompletedToolCall
from lash_nb.machine.turn import TurnMachine
from lash_nb.machine.wire import dumps, loads

REQUEST = LlmRequest(model="m", messages=(), scope=LlmRequestScope(session_id="s", agent_frame_id="f", request_id="r"))
OUTCOME: TurnOutcome = Finished(finish=AssistantMessage(text="done"))
READ = LlmToolSpec(
    name="read", description="reads", input_schema=ToolSchema(canonical={}), output_schema=ToolSchema(canonical={})
)


class Told:
    """A driver with one queue of action lists for all callbacks; notes which callbacks were called."""

    def __init__(self, *lists: Sequence[DriverAction]) -> None:
        self.lists = deque(lists)
        self.called: list[str] = []

    def _next(self, name: str) -> Sequence[DriverAction]:
        self.called.append(name)
        return self.lists.popleft() if self.lists else ()

    def prepare_protocol_iteration(self, ctx: DriverContext) -> Sequence[DriverAction]:
        return self._next("prepare")

    def handle_llm_success(
        self, ctx: DriverContext, waiting: WaitingLlmView, response: LlmResponse, text_streamed: bool
    ) -> Sequence[DriverAction]:
        return self._next("llm")

    def handle_tool_results(
        self, ctx: DriverContext, completed: tuple[CompletedToolCall, ...]
    ) -> Sequence[DriverAction]:
        return self._next("tools")

    def handle_exec_result(
        self, ctx: DriverContext, waiting: WaitingExecView, result: ExecResponse | str
    ) -> Sequence[DriverAction]:
        return self._next("exec")


def config(driver: Any, **changes: Any) -> TurnMachineConfig[Any, Any, Any]:
    given: dict[str, Any] = {"model": "m", "projector": ChatProjector(), "protocol": JsonTurnProtocol} | changes
    return TurnMachineConfig(driver=driver, **given)


def message(name: str, text: str = "hi", role: MessageRole = MessageRole.USER) -> Message:
    return Message(id=name, role=role, parts=(Part(id=f"{name}.p0", kind=PartKind.TEXT, content=text),))


def at(state: MachineState, **changes: Any) -> TurnCheckpoint:
    """A checkpoint in that state, otherwise new."""
    given: dict[str, Any] = {
        "messages": AppendOnly((message("m0"),)),
        "events": AppendOnly(),
        "turn_causes": AppendOnly(),
        "next_effect_id": 8,
        "cumulative_usage": TokenUsage(),
        "termination": TurnTerminationPolicyState(),
    } | changes
    return TurnCheckpoint(state=state, **given)


def pausing(kind: CheckpointKind, on_empty: CheckpointResumeAction, effect_id: int = 7) -> WaitingCheckpoint:
    return WaitingCheckpoint(effect_id=EffectId(effect_id), checkpoint=kind, on_empty=on_empty)


def drain(machine: TurnMachine) -> list[Effect]:
    effects: list[Effect] = []
    while (effect := machine.poll_effect()) is not None:
        effects.append(effect)
        assert len(effects) < 1000, "this never ends"
    return effects


def names(effects: Iterable[Effect]) -> list[str]:
    """Short names: `Emit token_usage`, `LlmCall 2`, `Progress`."""
    found = []
    for effect in effects:
        text = type(effect).__name__
        if isinstance(effect, Emit):
            text = f"Emit {type(effect.event).__name__}"
        elif (effect_id := effect_id_of(effect)) is not None:
            text = f"{text} {effect_id}"
        found.append(text)
    return found


def through_json(checkpoint: TurnCheckpoint) -> TurnCheckpoint:
    return TurnCheckpoint.from_text(checkpoint.to_text())


def answered(effect_id: int, text: str = "ok", reason: LlmTerminalReason = LlmTerminalReason.STOP) -> LlmComplete:
    usage = LlmUsage(input_tokens=5, output_tokens=2)
    response = LlmResponse(full_text=text, usage=usage, terminal_reason=reason)
    return LlmComplete(id=EffectId(effect_id), result=response, text_streamed=False)


def delivered(effect_id: int, **lists: Any) -> CheckpointResponse:
    return CheckpointResponse(id=EffectId(effect_id), delivery=CheckpointDelivery(**lists))


def said(text: str) -> LlmMessage:
    return LlmMessage(role=LlmRole.USER, blocks=(TextBlock(text=text),))


class Journal:
    """A writer, and a reader that reads each difference as JSON text and compares."""

    def __init__(self) -> None:
        self.writer, self.reader = DeltaWriter(), DeltaReader()

    def add(
        self, checkpoint: TurnCheckpoint, protocol: TurnProtocol[Any, Any, Any] = JsonTurnProtocol
    ) -> tuple[str, TurnCheckpoint]:
        """The difference as text, and the checkpoint as it was read."""
        delta = self.writer.write(checkpoint, protocol)
        assert plain(delta)
        text = dumps(delta)
        read = self.reader.read(loads(text), protocol)
        assert read.to_text(protocol) == checkpoint.to_text(protocol)
        return text, read

    def resumed(self) -> None:
        """Go on as another process would."""
        self.writer = self.reader.writer()


def plain(value: Any) -> bool:
    """Nothing but JSON's own kinds of value."""
    if type(value) is dict:
        return all(type(key) is str and plain(item) for key, item in value.items())
    if type(value) is list:
        return all(map(plain, value))
    return value is None or type(value) in (str, int, float, bool)
