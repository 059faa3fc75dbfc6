"""What a turn is made of before it runs: the request, its bounds, what all turns of a session share. Records only."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypedDict, Unpack

from .calls import RetryPolicy
from .checks import checked_expressions
from .deciding import Decisions, OnApproval, allowed_mode, known_mode
from .errors import InputError
from .kernels import Kernel
from .machine.approvals import ApprovalMode
from .machine.attachments import AdoptingStore
from .machine.effects import LogEvent
from .machine.events import TurnActivity
from .machine.wire import Json
from .models import Model
from .ports import Conclude, Inbox, Verify
from .previews import Previews
from .protocols.grammar import Grammar
from .recorded import RecordedKernel, RecordedTurn
from .recording import SessionRecorder
from .sharing import Sharing
from .toolkits import Tool
from .toolkits.catalogue import ToolCatalogue
from .trust import Redactor, whole_text
from .typed import OutputType, schema_validator
from .wanted import checked_names, context_text

__all__ = ["Interrupted", "Limits", "Request", "Surroundings", "TurnOptions", "requested"]


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

    @property
    def typed(self) -> bool:
        """Whether it must end with a value."""
        return self.wanted is not None or self.schema is not None

    @property
    def must_fit(self) -> Json:
        """The JSON Schema of that value."""
        return self.schema if self.wanted is None else self.wanted.schema


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What all turns of a session share."""

    label: str
    model: Model
    kernel: Kernel
    kernels: Callable[[str], Kernel]
    """That of another language."""
    store: AdoptingStore
    inbox: Inbox
    redactor: Redactor
    recorder: SessionRecorder
    protocol: str | None = None
    """None: the one that suits the model."""
    grammar: Grammar = "tags"
    instructions: str = ""
    about_kernel: str = ""
    """What the model has to know of how its kernel runs, for all turns."""
    tools: ToolCatalogue = field(default_factory=ToolCatalogue)
    shipped_tools: Callable[[], Mapping[str, Tool]] = dict
    """What a model that calls tools has beside them."""
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


class TurnOptions(TypedDict, total=False):
    """What `Session.run` can be told of a turn, all of it optional."""

    output_type: Any
    """A Python type that the turn must give as its value (`turn.value` is of it)."""
    schema: Any
    """A JSON Schema instead of a type."""
    inputs: Mapping[str, Any] | None
    """Values of which the kernel gets copies, by name, before the model is asked."""
    results: Sequence[str]
    """Names of variables that the turn is told to leave in the kernel (`session.kernel.value`); with a type, the
    first is what its value is called."""
    maybe: Sequence[str]
    """Names of variables that it may leave there."""
    share: bool
    """False keeps the variables of the session's `Sharing` from this turn."""
    afresh: bool
    """True gives each cell new copies of what it uses of those."""
    context: str
    """What the model is told with the request, beside the user's own words."""
    check: str | Sequence[str]
    """Expressions that must hold in the main kernel before the turn may end; what does not hold is fed back to the
    model, three times at most, then the turn fails."""
    verify: Verify | None
    """Looks at the turn's picture when it wants to end; what it gives is fed back likewise."""
    conclude: Conclude | None
    """Called with the picture of a turn that may end; gives what is to be told of it."""
    max_steps: int | None
    """Another bound than the session's."""
    approve: ApprovalMode | str | None
    """What is asked about, if not as in the session."""
    on_approval: OnApproval | None
    """Who is asked, if not as in the session."""
    on_activity: Callable[[TurnActivity], None] | None
    """Told everything that happens, in order, on the session's loop; must not block."""


def requested(
    text: str, *, redactor: Redactor, limits: Limits, mode: ApprovalMode, **options: Unpack[TurnOptions]
) -> Request:
    """A request, with `limits` and `mode` where it has none of its own.

    Raises InputError: something of it cannot be used.
    """
    if not text.strip():
        raise InputError("the request is empty: write what you want under `%%lash`, or after `%lash ask`")
    kept, minutes = redactor.text(text), limits.max_minutes
    wanted, steps, approve = options.get("output_type"), options.get("max_steps"), options.get("approve")
    inputs = options.get("inputs") or {}
    results = checked_names(options.get("results", ()), what="results")
    maybe = checked_names(options.get("maybe", ()), what="maybe")
    schema = options.get("schema")
    if schema is not None:
        schema_validator(schema)  # refused before anything happens
    typed = wanted is not None or schema is not None
    return Request(
        text=kept,
        redacted=kept != whole_text(text),
        wanted=OutputType(wanted) if wanted is not None else None,
        schema=schema,
        context=redactor.text(context_text(options.get("context", ""), results, maybe, typed=typed)),
        inputs={name: inputs[name] for name in checked_names(inputs, what="inputs")},
        results=results,
        maybe=maybe,
        share=options.get("share", True),
        afresh=options.get("afresh", False),
        checks=checked_expressions(options.get("check")),
        verify=options.get("verify"),
        conclude=options.get("conclude"),
        max_steps=steps if steps is not None else limits.max_steps,
        time_limit_s=None if minutes is None else minutes * 60,
        cell_limit_s=limits.cell_seconds,
        approve=mode if approve is None else allowed_mode(known_mode(approve), env=os.environ),
        on_activity=options.get("on_activity"),
        on_approval=options.get("on_approval"),
    )
