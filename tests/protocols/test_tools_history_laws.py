"""Laws of histories under both protocols: written once as anew, and always as providers take them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from lash_nb.machine.llm import (
    ToolCallBlock,
    ToolResultBlock,
)
from lash_nb.machine.messages import (
    AppendOnly,
    Message,
    MessageRole,
    Part,
    PartKind,
    PluginOrigin,
    TurnCause,
)
from lash_nb.protocols.code import CodeProtocol
from lash_nb.protocols.records import assistant_message, note_message, observation_message
from lash_nb.protocols.tools import ToolsProtocol

from .loop import user_message
from .projecting import PLOT, called, code, project, resulted, tools
from .tool_talk import provider_problems

KINDS = [
    assistant_message("a0", reasoning=(), prose="I look.", code="x"),
    assistant_message("a1", reasoning=(), prose="It is 3."),
    observation_message("o", output=["one"], images=[PLOT]),
    observation_message("p", output=[], error="error: x\ny"),
    called(2, ("c1", "search", "{}"), ("c2", "run_code", '{"code":"x"}'), prose="Both."),
    resulted(2, ("c1", "search", "~~~\n1\n~~~"), ("c2", "run_code", "(no printed output)"), images=["c2"]),
    resulted(3, ("c1", "search", "~~~\n1\n~~~")),
    resulted(4, ("c2", "run_code", "(no printed output)")),
    note_message("n", "Do it so."),
    user_message("u", "And now?"),
    Message(id="c1", role=MessageRole.EVENT, parts=(Part(id="c1.p0", kind=PartKind.TEXT, content="a.csv"),)),
    Message(id="e", role=MessageRole.ASSISTANT, parts=()),
]
CAUSE = TurnCause(id="c1", event_type="e", origin=PluginOrigin(plugin_id="watch"), text="a.csv")
MOVES = st.tuples(
    st.lists(st.sampled_from(KINDS), max_size=4),
    st.sampled_from(["on", "on", "on", "back", "branch", "copy"]),
    st.booleans(),
)


@settings(max_examples=200, deadline=None)
@given(moves=st.lists(MOVES, max_size=8), vision=st.booleans(), form=st.sampled_from([ToolsProtocol, CodeProtocol]))
def test_it_writes_what_a_new_projector_would(
    moves: Sequence[tuple[list[Message], str, bool]], vision: bool, form: type[ToolsProtocol] | type[CodeProtocol]
) -> None:
    """Whether the conversation goes on, is taken back, or branches, and whatever still waits for a result."""
    kept = form(turn_id="t1", vision=vision)
    views: list[AppendOnly[Message]] = [AppendOnly()]
    for number, (added, move, caused) in enumerate(moves):
        match move:
            case "on":
                views.append(views[-1].appended(added))
            case "back":
                views.append(views[-1].first(len(views[-1]) // 2))
            case "branch":
                views.append(views[len(views) // 2].appended(added))
            case "copy":
                views.append(AppendOnly(views[-1]).appended(added))
        causes = (CAUSE,) if caused else ()
        requests = [
            project(view=views[-1], protocol=protocol, causes=causes, iteration=number)
            for protocol in (kept, form(turn_id="t1", vision=vision))
        ]
        assert requests[0] == requests[1]


@settings(max_examples=200, deadline=None)
@given(messages=st.lists(st.sampled_from(KINDS), max_size=12))
def test_results_follow_their_calls_whatever_the_history_is(messages: list[Message]) -> None:
    """Also one that was cut, so that calls or results are missing."""
    own = [
        replace(
            message,
            id=f"{message.id}_{place}",
            parts=tuple(
                replace(part, tool_call_id=f"{part.tool_call_id}_{place // 4}") if part.tool_call_id else part
                for part in message.parts
            ),
        )
        for place, message in enumerate(messages)
    ]
    seen: set[str] = set()
    unique = []
    for message in own:
        ids = {part.tool_call_id or "" for part in message.parts if part.kind is PartKind.TOOL_CALL}
        if not ids & seen:
            unique.append(message)
        seen |= ids
    assert provider_problems(project(*unique, protocol=tools())) == []
    in_cells = project(*unique, protocol=code())
    blocks = [block for message in in_cells.messages for block in message.blocks]
    assert not [block for block in blocks if isinstance(block, (ToolCallBlock, ToolResultBlock))]
