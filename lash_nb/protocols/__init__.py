"""How a model conducts a turn: the contract of a protocol, and the registry by name.

A protocol is a pure driver over the turn machine, a projector that says what the model sees, and two things beside them
that only the host uses: a reader for the streaming reply and sampling hints. It is made new for each turn, holds no
state of the turn (that is the machine's, so that it survives a restore), and reads no clock, no randomness, no
environment. Implementations are found through `PROTOCOLS`; nothing imports them by name. Imports `machine` only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from ..machine.config import TurnProtocol
from ..machine.driver import ProtocolDriver
from ..machine.execution import NamespaceSummary
from ..machine.messages import Message
from ..machine.projector import ContextProjector
from ..machine.tool_specs import LlmToolSpec
from ..machine.wire import Json
from .observations import ObservationBudget

__all__ = [
    "PROTOCOLS",
    "CellEnded",
    "CellStarted",
    "CodeDelta",
    "ModelProtocol",
    "ProseDelta",
    "ReplyStream",
    "SamplingHint",
    "StreamEvent",
    "ValidateValue",
]

PROTOCOLS: dict[str, str] = {
    "code": "lash_nb.protocols.code:CodeProtocol",
    "snippet": "lash_nb.protocols.snippet:SnippetProtocol",
    "tools": "lash_nb.protocols.tools:ToolsProtocol",
}
"""Name → "module:attribute" of the class that implements it."""

ValidateValue: TypeAlias = Callable[[Json], "str | None"]
"""Says what is wrong with a final value, for the model to read; None when it is right. Must be pure."""


@dataclass(frozen=True, slots=True)
class ProseDelta:
    """More of the visible prose."""

    text: str


@dataclass(frozen=True, slots=True)
class CellStarted:
    """The opening line of a cell was read; what follows is code."""


@dataclass(frozen=True, slots=True)
class CodeDelta:
    """More of the cell, line ends as `\\n`."""

    text: str


@dataclass(frozen=True, slots=True)
class CellEnded:
    """The closing line was read: the provider's stream can be stopped."""


StreamEvent: TypeAlias = ProseDelta | CellStarted | CodeDelta | CellEnded


class ReplyStream(Protocol):
    """Reads one model call's text as it arrives."""

    @property
    def stop(self) -> bool:
        """True when nothing that follows matters: the provider's stream can be stopped."""
        ...

    def feed(self, text: str) -> Sequence[StreamEvent]:
        """What a further piece of text brings to light."""
        ...

    def close(self) -> Sequence[StreamEvent]:
        """What was held back until the end of the stream."""
        ...

    def reset(self) -> None:
        """Forget everything: the call is made anew."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingHint:
    """How the protocol would like this call sampled; None and () leave it to the provider."""

    temperature: float | None = None
    stop: tuple[str, ...] = ()
    seed: int | None = None


class ModelProtocol(Protocol):
    """What a protocol offers the host for one turn."""

    @property
    def name(self) -> str: ...

    @property
    def calls_tools(self) -> bool:
        """Whether the model calls tools natively; else its code does. Also asked of the class."""
        ...

    @property
    def turn_protocol(self) -> TurnProtocol[Any, Any, Any]:
        """For `TurnMachineConfig.protocol` and for reading TurnCheckpoints."""
        ...

    @property
    def driver(self) -> ProtocolDriver: ...

    @property
    def projector(self) -> ContextProjector: ...

    @property
    def system_prompt(self) -> str:
        """The same for every turn of a session."""
        ...

    @property
    def budget(self) -> ObservationBudget:
        """How much of a cell's outputs this protocol's model is shown."""
        ...

    @property
    def vision(self) -> bool:
        """Whether the model is shown images."""
        ...

    @property
    def termination(self) -> object:
        """For `TurnMachineConfig.termination`."""
        ...

    def tool_specs(self, specs: Sequence[LlmToolSpec]) -> tuple[LlmToolSpec, ...]:
        """For `TurnMachineConfig.tool_specs`: what the model is offered, given the tools there are."""
        ...

    def turn_limit_message(self, message_id: str, max_turns: int) -> Message:
        """For `TurnMachineConfig.turn_limit_final_message`."""
        ...

    def set_volatile(self, blocks: Sequence[str], *, namespace: NamespaceSummary | None = None) -> None:
        """What the last message of the next requests is to say of this moment: news, and the kernel's variables.

        The variables come as records, so that each protocol words them as its model reads them best; None when the
        kernel does not say.
        """
        ...

    def open_stream(self) -> ReplyStream:
        """A reader for one model call."""
        ...

    def sampling(self, *, protocol_iteration: int, attempt: int = 1) -> SamplingHint:
        """How this call is to be sampled; a pure function of its arguments, so that a redelivery asks the same."""
        ...
