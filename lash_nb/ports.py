"""Everything outside of the machine that one turn needs, and what the user says while it runs. Data only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .calls import RetryPolicy
from .errors import UnknownNameError
from .kernels import Kernel
from .machine.attachments import AttachmentStore
from .machine.effects import LogEvent
from .machine.events import TurnActivity
from .machine.execution import NamespaceSummary
from .machine.state import TurnCheckpoint
from .models import CallContext, Model
from .protocols import ModelProtocol
from .toolkits import ToolFunction
from .trust import Redactor

__all__ = ["Inbox", "TurnPorts"]


def _no_other(language: str) -> Kernel:
    raise UnknownNameError(f"there is no kernel for {language!r}")


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
    """The main one, whose variables are described to the model."""
    context: CallContext
    """Session label, turn number and the user's text; the step is counted here."""
    session_id: str
    kernels: Callable[[str], Kernel] = _no_other
    """The kernel of another language than the main one's; raises UnknownNameError when there is none."""
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
    retries: RetryPolicy = field(default_factory=RetryPolicy)
