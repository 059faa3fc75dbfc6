"""What a turn is made of before it runs: the request, its bounds, what all turns of a session share. Records only."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .calls import RetryPolicy
from .checks import checked_expressions
from .deciding import Decisions, OnApproval, allowed_mode, known_mode
from .errors import InputError
from .kernels import Kernel
from .machine.approvals import ApprovalMode
from .machine.attachments import AttachmentStore
from .machine.effects import LogEvent
from .machine.events import TurnActivity
from .models import Model
from .ports import Conclude, Inbox, Verify
from .previews import Previews
from .protocols.grammar import Grammar
from .recorded import RecordedKernel, RecordedTurn
from .recording import SessionRecorder
from .sharing import Sharing
from .toolkits import ToolFunction
from .trust import Redactor, whole_text
from .typed import OutputType
from .wanted import checked_names, context_text

__all__ = ["Interrupted", "Limits", "Request", "Surroundings", "requested"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The bounds of a turn; a bound that is hit is stated as the reason of its end."""

    max_steps: int | None = 30
    """Model calls (the reference's `max_turns`); one more is granted to say what was done."""
    max_minutes: float | None = 30.0
    cell_seconds: float | None = None
    """User code has no time limit of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is asked, and within which bounds."""

    text: str
    redacted: bool = False
    """Whether a secret was taken out of it."""
    wanted: OutputType | None = None
    schema: Any = None
    max_steps: int | None = None
    time_limit_s: float | None = None
    cell_limit_s: float | None = None
    approve: ApprovalMode = ApprovalMode.EFFECTS
    context: str = ""
    """What the model is told with it, beside the user's words; empty: nothing."""
    inputs: Mapping[str, Any] = field(default_factory=dict)
    """Values that the kernel gets, by name."""
    results: tuple[str, ...] = ()
    """Variables that the turn is to leave in the kernel."""
    maybe: tuple[str, ...] = ()
    """Names under which it may leave some."""
    share: bool = True
    """Whether it sees and uses the variables of the session's `Sharing`."""
    checks: tuple[str, ...] = ()
    """Expressions that must hold in the kernel before the turn may end."""
    verify: Verify | None = None
    conclude: Conclude | None = None
    afresh: bool = False
    """Whether each cell gets new copies of the variables that it uses, whatever became of those before."""
    on_activity: Callable[[TurnActivity], None] | None = None
    on_approval: OnApproval | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all turns of a session share."""

    label: str
    model: Model
    kernel: Kernel
    kernels: Callable[[str], Kernel]
    """That of another language."""
    store: AttachmentStore
    inbox: Inbox
    redactor: Redactor
    recorder: SessionRecorder
    protocol: str | None = None
    """None: the one that suits the model."""
    grammar: Grammar = "tags"
    instructions: str = ""
    about_kernel: str = ""
    """What the model has to know of how its kernel runs, for all turns."""
    tools: Mapping[str, ToolFunction] = field(default_factory=dict)
    on_log: Callable[[LogEvent], None] = lambda event: None
    retries: RetryPolicy = field(default_factory=RetryPolicy)
    previews: Previews = "sample"
    sharing: Sharing | None = None
    decisions: Decisions = field(default_factory=Decisions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Interrupted:
    """A turn that an earlier process began, and what has become of its kernels."""

    turn: RecordedTurn
    kernels: Mapping[str, RecordedKernel]
    """Those that had its cells, by language."""
    kernel_lost: bool = False
    """Whether the main one is gone."""


def requested(
    text: str,
    *,
    redactor: Redactor,
    limits: Limits,
    mode: ApprovalMode,
    output_type: Any = None,
    schema: Any = None,
    inputs: Mapping[str, Any] | None = None,
    results: Sequence[str] = (),
    maybe: Sequence[str] = (),
    share: bool = True,
    context: str = "",
    check: str | Sequence[str] = (),
    verify: Verify | None = None,
    conclude: Conclude | None = None,
    afresh: bool = False,
    max_steps: int | None = None,
    approve: ApprovalMode | str | None = None,
    on_activity: Callable[[TurnActivity], None] | None = None,
    on_approval: OnApproval | None = None,
) -> Request:
    """A request, with `limits` and `mode` where it has none of its own; the rest is as for `Session.run`.

    Raises InputError: something of it cannot be used.
    """
    if not text.strip():
        raise InputError("the request is empty: write what you want under `%%lash`, or after `%lash ask`")
    minutes = limits.max_minutes
    kept = redactor.text(text)
    return Request(
        text=kept,
        redacted=kept != whole_text(text),
        wanted=OutputType(output_type) if output_type is not None else None,
        schema=schema,
        context=redactor.text(context_text(context, results, maybe)),
        inputs={name: (inputs or {})[name] for name in checked_names(inputs or {}, what="inputs")},
        results=checked_names(results, what="results"),
        maybe=checked_names(maybe, what="maybe"),
        share=share,
        checks=checked_expressions(check),
        verify=verify,
        conclude=conclude,
        afresh=afresh,
        max_steps=max_steps if max_steps is not None else limits.max_steps,
        time_limit_s=None if minutes is None else minutes * 60,
        cell_limit_s=limits.cell_seconds,
        approve=mode if approve is None else allowed_mode(known_mode(approve), env=os.environ),
        on_activity=on_activity,
        on_approval=on_approval,
    )
