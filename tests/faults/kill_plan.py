"""The session of `tests.faults.kill`: five turns that use every kind of effect, and what is kept count of in them.

Every cell and every tool appends its own line to the file `runs` when it runs. The turns: cells with displays, an
error, a correction and a long text, in which the user says something; a value that must be given, from a cell that
calls tools; tools that the model calls; a value made of what earlier turns left in the kernel; words. Replies beyond
those of an undisturbed turn are for turns that lost a cell.

A result that a tool call gives stands in brackets with a name, wherever it is printed: `[add=5]`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lash_nb.machine.checkpoints import CheckpointKind, ResumeAction
from lash_nb.machine.driver import (
    AdvanceProtocolIteration,
    AppendEvents,
    DriverAction,
    DriverContext,
    StartCheckpoint,
    StartTools,
    WaitingLlmView,
)
from lash_nb.machine.events import Conversation
from lash_nb.machine.llm import LlmResponse
from lash_nb.machine.tool_calls import CompletedToolCall, PendingToolCall, TextReturn
from lash_nb.protocols import PROTOCOLS
from lash_nb.protocols.code import CodeDriver, CodeProtocol
from lash_nb.protocols.records import assistant_message, note_message, record_id
from tests.conversations import cell
from tests.faults.kill_points import Points

__all__ = [
    "CELLS",
    "PROTOCOL",
    "SAID",
    "SAID_AFTER",
    "SCRIPT",
    "TOOLS",
    "TOOLS_OF_TURN",
    "TURNS",
    "Asks",
    "register",
    "session_tools",
]

PROTOCOL = "tests.tools_first"
SAID = "Say also what the ratio is."
SAID_AFTER = "cell 1.1"
"""The user says it when that cell has ended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asks:
    """What the user asks for in a turn."""

    text: str
    schema: Any = None
    protocol: str = "code"


TURNS = (
    Asks(text="Count the numbers, then print them."),
    Asks(text="Add two and three with the tools; give the sum.", schema={"type": "integer"}),
    Asks(text="Look around and note what you see.", protocol=PROTOCOL),
    Asks(text="Give everything that you know as one value."),
    Asks(text="Is that all?"),
)


def _counted(name: str, code: str, prose: str = "") -> str:
    return cell(f"print('cell {name}', file=open('runs', 'a'))\n{code}", prose)


_TOOLS_CODE = """
def told(call):
    try:
        return call()
    except ToolError as error:
        return error.message

async def told_later(call):
    try:
        return await call
    except ToolError as error:
        return error.message

print(f"[add={told(lambda: tools.add(a=2, b=3))}]")
print(f"[double={await told_later(tools.double.aio(n=5))}]")
total = 5
"""
SCRIPT: dict[int, Sequence[str]] = {
    1: (
        _counted("1.1", "numbers = list(range(40))\nprint('made')\ndisplay('shown')\nlen(numbers)", "I count them."),
        _counted("1.2", "print('before')\nratio = len(numbers) / 0", "And a ratio."),
        _counted("1.3", "ratio = 0.5\nfor n in range(6000): print(f'{n:019d}')", "That was wrong."),
        "There are 40, and the ratio is 0.5.",
        *["I say it again: 40."] * 4,
    ),
    2: (
        _counted("2.1", _TOOLS_CODE, "I ask the tools."),
        _counted("2.2", "finish('five')"),
        _counted("2.3", "finish(total)"),
        *[_counted(f"2.{step}", "finish(5)") for step in range(4, 9)],
    ),
    3: ("I ask both tools.", "I looked and noted it.", *["I say it again: noted."] * 4),
    4: (
        _counted("4.1", "finish({'numbers': len(numbers), 'ratio': ratio, 'total': total})"),
        *["The rest is gone."] * 5,
    ),
    5: ("That is all.",),
}  # fmt: skip
CELLS = ("1.1", "1.2", "1.3", "2.1", "2.2", "2.3", "4.1")
"""Those of an undisturbed session, each to run once."""
TOOLS_OF_TURN = {2: ("add", "double"), 3: ("look", "note")}
TOOLS = ("add", "double", "look", "note")
"""Each is called once."""

_GIVE: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "double": lambda n: 2 * n,
    "look": lambda place: f"a table in the {place}",
    "note": lambda text: True,
}


def session_tools(points: Points) -> dict[str, Callable[..., Any]]:
    """The session's tools, which count themselves."""
    return {name: _tool(name, points) for name in TOOLS}


def _tool(name: str, points: Points) -> Callable[..., Any]:
    def tool(**args: Any) -> Any:
        points.reached(f"tool {name} before")
        points.ran(f"tool {name}")
        points.reached(f"tool {name} after")
        return _GIVE[name](**args)

    return tool


# ------------------------------------------------------------------------------ a protocol whose model calls tools


class ToolsFirstDriver(CodeDriver):
    """After the first reply of a turn two tools are called; then it goes on as the code protocol does."""

    def handle_llm_success(
        self, ctx: DriverContext, waiting: WaitingLlmView, response: LlmResponse, text_streamed: bool
    ) -> Sequence[DriverAction]:
        if ctx.protocol_iteration != ctx.protocol_run_offset:
            return super().handle_llm_success(ctx, waiting, response, text_streamed)
        message_id = record_id(self._turn_id, ctx.protocol_iteration, "reply")
        said = assistant_message(message_id, reasoning=(), prose=response.full_text)
        calls = (
            PendingToolCall(call_id="look", tool_name="look", args={"place": "corner"}),
            PendingToolCall(call_id="note", tool_name="note", args={"text": "a table"}),
        )
        return [AppendEvents(records=(Conversation(message=said),)), StartTools(calls=calls)]

    def handle_tool_results(
        self, ctx: DriverContext, completed: tuple[CompletedToolCall, ...]
    ) -> Sequence[DriverAction]:
        told = "\n".join(f"[{call.tool_name}={_text(call)}]" for call in completed)
        message = note_message(record_id(self._turn_id, ctx.protocol_iteration, "results"), told)
        return [
            AppendEvents(records=(Conversation(message=message),)),
            AdvanceProtocolIteration(),
            StartCheckpoint(checkpoint=CheckpointKind.AFTER_WORK, on_empty=ResumeAction.PREPARE_ITERATION),
        ]


def _text(call: CompletedToolCall) -> str:
    return "".join(part.text for part in call.model_return.parts if isinstance(part, TextReturn))


class ToolsFirst(CodeProtocol):
    """The code protocol, but that its model calls tools first."""

    name = PROTOCOL

    def __init__(self, *, turn_id: str, run_offset: int = 0, **options: Any) -> None:
        super().__init__(turn_id=turn_id, run_offset=run_offset, **options)
        self.driver = ToolsFirstDriver(turn_id=turn_id, run_offset=run_offset)


def register() -> None:
    """Make the protocol known to this process."""
    PROTOCOLS[PROTOCOL] = f"{__name__}:ToolsFirst"
