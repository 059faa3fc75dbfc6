"""Tools: what a model may call beside code, natively or from a cell. The contract of a tool, and of their sources.

A tool is a record (`Tool`); what makes them is beside this file: Python functions (`functions.py`), MCP servers
(`mcp.py`), and those that ship (`shipped.py`), which do not know each other. How calls are made is decided in
`calling.py`; calls and their outputs are the records of `machine.tool_calls`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeAlias, runtime_checkable

from ..machine.approvals import ApprovalMode
from ..machine.attachments import AttachmentStore
from ..machine.tool_calls import PendingToolCall, ToolCallOutput
from ..machine.tool_specs import LlmToolSpec, ToolSchema
from ..machine.wire import Json

__all__ = [
    "MAX_CHARS",
    "AskedFrom",
    "Invoke",
    "Judge",
    "MainThread",
    "Tool",
    "ToolPolicy",
    "ToolSource",
    "ToolSurroundings",
]

AskedFrom: TypeAlias = Literal["all", "effects", "every", "never"]
"""The loosest way to approve in which a person is asked about a call: "all" is always, "never" not even in `every`."""

MAX_CHARS = 50 * 1024
"""Characters of one result that a model is shown; as of one cell's output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolPolicy:
    """How calls of a tool are made."""

    approve: AskedFrom = "every"
    safe: bool = False
    """A call may be made again: after a passing failure, and when a crash left open whether it took effect."""
    retries: int = 0
    """How often a call is made again after a passing failure; only where it is `safe`."""
    timeout_s: float | None = None
    """How long one attempt may take; None: no bound but the turn's."""
    max_chars: int = MAX_CHARS
    """Of a result, for the model; the rest is kept, and the result says how to read it."""

    def asks(self, mode: ApprovalMode) -> bool:
        """Whether a person is asked about a call in that mode; in the mode `plan` nothing is asked, nor made."""
        if self.approve == "never" or mode is ApprovalMode.PLAN:
            return False
        return mode.strictness >= ApprovalMode(self.approve).strictness

    def refuses(self, mode: ApprovalMode) -> bool:
        """Whether a call is not made at all in that mode."""
        return mode is ApprovalMode.PLAN and self.approve != "never"


class MainThread(Protocol):
    """The thread that waits for a turn in the user's notebook, which runs what was defined there."""

    @property
    def serving(self) -> bool:
        """Whether it takes work now; else functions run in threads of their own."""
        ...

    async def run(self, function: Any, arguments: Mapping[str, Any]) -> Any:
        """What the function gives, called there with these keywords; awaited where it is a coroutine function.

        Awaited on the session's loop. Cancelled: what has not begun is not run any more, what runs is let go of.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolSurroundings:
    """What a tool may use beside its arguments."""

    store: AttachmentStore | None = None
    """Where what a model is not shown whole is kept."""
    main: MainThread | None = None


class Invoke(Protocol):
    """Makes one call, on the session's loop; many at once.

    A failure is an outcome. What it raises all the same is told as one: `errors.ToolError` with its kind, anything else
    as `execution`. Arguments come as the model or a cell wrote them: whoever implements this judges them first, and a
    wrong one never reaches what does the work.
    """

    async def __call__(self, call: PendingToolCall, around: ToolSurroundings) -> ToolCallOutput: ...


Judge: TypeAlias = Callable[[PendingToolCall, ToolSurroundings], ToolCallOutput | None]
"""What is wrong with a call's arguments, before anybody is asked about it; None: nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool: how it is described, how calls of it are made."""

    name: str
    """As code writes it: `tools.NAME(...)`."""
    description: str = ""
    """For the model, whole. Of a server that is not the user's own: text that nobody vouches for."""
    input_schema: Json = field(default_factory=lambda: dict[str, Json](type="object", properties={}))
    output_schema: Json = field(default_factory=dict)
    signature: str = "(**arguments)"
    """As Python writes it, for help in cells: `(city: str, days: int = 3) -> list[float]`."""
    parameters: tuple[str, ...] | None = None
    """In order, those that can be given by position; None: by keyword only, any names."""
    policy: ToolPolicy = field(default_factory=ToolPolicy)
    source: str = "function"
    """Where it comes from: `function`, `lash_nb`, `mcp:NAME`."""
    judge: Judge = lambda call, around: None
    stoppable: bool = True
    """Whether a call that is cancelled ends; a function in a thread goes on, and is let go of."""
    invoke: Invoke

    @property
    def spec(self) -> LlmToolSpec:
        """As a model is told of it."""
        return LlmToolSpec(
            name=self.name,
            description=self.description,
            input_schema=ToolSchema(canonical=self.input_schema),
            output_schema=ToolSchema(canonical=self.output_schema),
        )


@runtime_checkable
class ToolSource(Protocol):
    """Something whose tools come and go: an MCP server. Everything but `name`, `tools`, `state` runs on one loop."""

    @property
    def name(self) -> str:
        """What it is removed by."""
        ...

    @property
    def state(self) -> str:
        """In a word or two, for a list: `3 tools`, `not started`, `failed: …`."""
        ...

    @property
    def tools(self) -> Sequence[Tool]:
        """Those that it has now."""
        ...

    async def refresh(self) -> tuple[str, ...]:
        """Be there, with the current tools: start or restart what has died, list anew what has changed.

        Gives what the user and the model have to know of it, in sentences. A failure is such a sentence, too.
        """
        ...

    async def aclose(self) -> None:
        """End what it started; a second call does nothing."""
        ...
