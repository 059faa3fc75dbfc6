"""Everything outside of the machine that one turn needs: ports, what the user says meanwhile, where it is recorded."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from .calls import RetryPolicy
from .deciding import Decisions, OnApproval
from .errors import UnknownNameError
from .kernels import Kernel
from .machine.activity import VariableSeen
from .machine.approvals import Approval, ApprovalMode, Decision
from .machine.attachments import AdoptingStore
from .machine.effects import EffectId, ExecutionEnvironmentSync, LogEvent, Response, WaitingEffect
from .machine.events import TurnActivity
from .machine.execution import NamespaceSummary
from .machine.picture import TurnPicture
from .machine.state import TurnCheckpoint
from .machine.tool_calls import PendingToolCall, ToolCallOutput
from .models import CallContext, Model
from .previews import Previews
from .protocols import ModelProtocol
from .sharing import Sharing
from .toolkits import Tool
from .toolkits.catalogue import ToldTools, ToolCatalogue, without_secrets
from .trust import Redactor

__all__ = ["Conclude", "Inbox", "Resumed", "TurnLog", "TurnPorts", "Unrecorded", "Verify"]

Verify = Callable[[TurnPicture], Awaitable[str | None]]
"""Looks, on the session's loop, at a turn that wants to end; a text is fed back, None lets it end."""

Conclude = Callable[[TurnPicture], Awaitable[Sequence[TurnActivity]]]
"""Does what is to be done for a turn that may end; what is to be told of it."""


def _no_other(language: str) -> Kernel:
    raise UnknownNameError(f"there is no kernel for {language!r}")


class Inbox:
    """What the user said while a turn runs; delivered at its next checkpoint.

    Each text has a number, by which records know it; what waits here stays until it is `delivered`.
    """

    def __init__(self) -> None:
        self._texts: dict[int, str] = {}

    def say(self, text: str, *, number: int | None = None) -> None:
        """Queue a text; blank ones are dropped, so that an empty delivery stays empty (Q4)."""
        if text.strip():
            self._texts[max(self._texts, default=0) + 1 if number is None else number] = text

    @property
    def waiting(self) -> dict[int, str]:
        """All that is queued, by number, in the order in which it was said."""
        return dict(self._texts)

    def delivered(self, numbers: Iterable[int]) -> None:
        """Drop what has reached its turn."""
        for number in numbers:
            self._texts.pop(number, None)


class TurnLog(Protocol):
    """Where a turn is recorded as it goes; what a method was given is durable when it returns.

    Raises JournalError when it cannot be recorded: then what was to follow must not happen.
    """

    async def asked(self, effect: WaitingEffect, checkpoint: TurnCheckpoint) -> None:
        """Before an effect is performed; `checkpoint` is the machine that waits for it."""
        ...

    async def answered(self, response: Response) -> None:
        """Before an answer is given to the machine."""
        ...

    def looked(self, known: NamespaceSummary) -> None:
        """The kernel's variables as the next answer goes by them."""
        ...

    def delivers(self, numbers: Iterable[int]) -> None:
        """Which queued texts the next record, of an effect or an answer, delivers."""
        ...

    async def uses(self, kernel: Kernel) -> None:
        """Before a cell is given to a kernel: which life of it that is."""
        ...

    async def calling(self, effect_id: EffectId, call: PendingToolCall) -> None:
        """Before a tool is called."""
        ...

    async def called(self, effect_id: EffectId, call_id: str, output: ToolCallOutput) -> None:
        """Before the result of a tool call goes to whoever made it."""
        ...

    async def asking(self, approval: Approval) -> None:
        """Before somebody is asked to decide."""
        ...

    async def decided(self, approval: Approval, decision: Decision) -> None:
        """Before anything follows from what somebody decided."""
        ...


class Unrecorded(TurnLog):
    """The log of a turn that nobody will resume."""

    async def asked(self, effect: WaitingEffect, checkpoint: TurnCheckpoint) -> None: ...

    async def answered(self, response: Response) -> None: ...

    def looked(self, known: NamespaceSummary) -> None: ...

    def delivers(self, numbers: Iterable[int]) -> None: ...

    async def uses(self, kernel: Kernel) -> None: ...

    async def calling(self, effect_id: EffectId, call: PendingToolCall) -> None: ...

    async def called(self, effect_id: EffectId, call_id: str, output: ToolCallOutput) -> None: ...

    async def asking(self, approval: Approval) -> None: ...

    async def decided(self, approval: Approval, decision: Decision) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What the records say of a turn that an earlier host began."""

    effect_id: EffectId | None = None
    """The effect that was outstanding."""
    answer: Response | None = None
    """Its answer, where one was recorded: it is not performed again."""
    epochs: Mapping[str, str] = field(default_factory=dict)
    """The last kernel of each language that cells were given to; one that is not named never had a cell."""
    calls: Mapping[str, ToolCallOutput | None] = field(default_factory=dict)
    """The tool calls of that effect that were begun, by id, and what they gave; None: it is not known."""
    calls_known: bool = True
    """Whether those are all that were begun."""
    begun: bool = True
    """Whether that effect may have begun; not while it waited for approval."""
    decisions: Mapping[str, Decision] = field(default_factory=dict)
    """What was decided on that effect, by the id of the approval."""
    variables: tuple[VariableSeen, ...] = ()
    """Those that the turn had made or changed."""
    steps: int = 0
    """Model calls that were answered."""
    said: int = 0
    """Texts that were delivered to the turn."""
    waiting: str = ""
    """The call of its batch that waits for approval, and has not begun."""

    def may_have_begun(self, effect_id: EffectId, call_id: str) -> bool:
        """Whether a call of that effect had begun, as far as anybody knows."""
        if self.effect_id != effect_id or call_id == self.waiting:
            return False
        return call_id in self.calls or (self.begun and not self.calls_known)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnPorts:
    """Everything outside of the machine that one turn needs."""

    protocol: ModelProtocol
    model: Model
    kernel: Kernel
    """The main one, whose variables are described to the model."""
    context: CallContext
    """Session label, turn number and the user's text; the step is counted here."""
    session_id: str
    kernels: Callable[[str], Kernel] = _no_other
    """The kernel of another language than the main one's; raises UnknownNameError when there is none."""
    store: AdoptingStore | None = None
    tools: ToolCatalogue = field(default_factory=ToolCatalogue)
    """The session's."""
    shipped_tools: Mapping[str, Tool] = field(default_factory=dict)
    """Those that the turn has beside them."""
    told_tools: ToldTools = field(default_factory=dict)
    """What is told of them, as far as that was looked at."""
    given_environment: ExecutionEnvironmentSync | None = None
    """The prompt and the tools that the machine was made with."""
    environment: Callable[[], ExecutionEnvironmentSync | None] = lambda: None
    """These as they are now; None: they never change."""
    inbox: Inbox = field(default_factory=Inbox)
    redactor: Redactor = field(default_factory=lambda: Redactor({}))
    known_variables: NamespaceSummary = field(default_factory=NamespaceSummary)
    """What the kernel held when it was last looked at; names what is lost when it dies."""
    known_epoch: str = ""
    """In which life of it that was."""
    previews: Previews = "sample"
    """How much of their values is told."""
    sharing: Sharing | None = None
    """Whose variables the turn sees and uses; None: nobody's."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Values that go over before the first model call."""
    afresh: bool = False
    """Whether each cell gets new copies of what it uses of those."""
    checks: tuple[str, ...] = ()
    """Expressions that must hold in the main kernel before the turn may end."""
    verify: Callable[[], Awaitable[str | None]] | None = None
    """Looks at the turn when it wants to end; what it gives is fed back."""
    conclude: Callable[[], Awaitable[Sequence[TurnActivity]]] | None = None
    """Called once it may end."""
    approve: ApprovalMode = ApprovalMode.ALL
    decisions: Decisions = field(default_factory=Decisions)
    on_approval: OnApproval | None = None
    """Asks a person; None: nobody is there."""
    on_activity: Callable[[TurnActivity], None] = lambda activity: None
    on_record: Callable[[TurnCheckpoint, bool], None] = lambda checkpoint, final: None
    """Called with each checkpoint to be kept; True for the last one of the turn."""
    on_log: Callable[[LogEvent], None] = lambda event: None
    log: TurnLog = field(default_factory=Unrecorded)
    resumed: Resumed | None = None
    """None: the turn begins here."""
    time_limit_s: float | None = None
    cell_limit_s: float | None = None
    retries: RetryPolicy = field(default_factory=RetryPolicy)

    @property
    def callable_tools(self) -> Mapping[str, Tool]:
        """What can be called now, by name; the session's own go before those that ship."""
        return without_secrets({**self.shipped_tools, **self.tools.tools}, self.redactor, self.told_tools)
