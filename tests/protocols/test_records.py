"""The wire form of what the code protocol writes down, tool events within bounds, and the registry."""

from __future__ import annotations

import importlib

import pytest

from lash_nb.errors import DecodeError
from lash_nb.machine.attachments import (
    AttachmentRef,
    AttachmentSource,
    ExternalUrl,
    InlineAttachment,
    ProviderFile,
    ProviderFileScope,
    StoredAttachment,
)
from lash_nb.machine.llm import ReasoningOutput
from lash_nb.machine.messages import ProviderReasoningReplay
from lash_nb.machine.outcomes import AgentFrameSwitch, Stopped, ToolError
from lash_nb.machine.tool_calls import (
    FailControl,
    RetryNever,
    SwitchAgentFrameControl,
    ToolCallOutput,
    ToolCallRecord,
    ToolControl,
    ToolFailed,
    ToolFailure,
    ToolFailureClass,
    ToolFailureSource,
    ToolOutcome,
    ToolSucceeded,
)
from lash_nb.machine.wire import Json, dumps, loads
from lash_nb.protocols import PROTOCOLS, ModelProtocol
from lash_nb.protocols.code import CodeProtocol
from lash_nb.protocols.grammar import ReplyProblem
from lash_nb.protocols.observations import ObservationBudget
from lash_nb.protocols.records import (
    CODE_DRIVER_STATE,
    CODE_EVENT,
    CodeAssistantContent,
    CodeDiagnostic,
    CodeDriverState,
    CodeEvent,
    CodeTrajectoryEntry,
    FinalOutput,
    media_type,
)
from lash_nb.protocols.snippet import SnippetProtocol
from lash_nb.protocols.termination import CODE_TERMINATION, CodeTermination, FinishRequired, Natural
from lash_nb.protocols.tool_events import terminal_outcome, tool_call_events
from lash_nb.protocols.tools import ToolsProtocol

PLOT = AttachmentRef(id="sha256:ab", media_type="image/png", byte_len=4)
FAILURE = ToolFailure(
    class_=ToolFailureClass.EXECUTION, code="c", message="m", source=ToolFailureSource.TOOL, retry=RetryNever()
)


def hosted(payload: str) -> str:
    """As the reference's host keeps the records of a protocol."""
    return f'{{"plugin_id":"code","payload":{payload}}}'


def test_records_of_another_protocol_are_refused() -> None:
    with pytest.raises(DecodeError, match="a record of 'rlm'"):
        CODE_EVENT.decode({"plugin_id": "rlm", "payload": {}})


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (CodeAssistantContent(id="i", prose="p"), '{"CodeAssistantContent":{"id":"i","prose":"p"}}'),
        (
            CodeTrajectoryEntry(id="i", protocol_iteration=1, code="x", observation="o"),
            '{"CodeTrajectoryEntry":{"id":"i","protocol_iteration":1,"code":"x","observation":"o"}}',
        ),
        (
            CodeTrajectoryEntry(
                id="i",
                protocol_iteration=1,
                code="x",
                observation="o",
                output_chars=(3, 4),
                images=(PLOT,),
                error="error: e",
                final_output=FinalOutput(value=None),
            ),
            '{"CodeTrajectoryEntry":{"id":"i","protocol_iteration":1,"code":"x","observation":"o","output_chars":[3,4],'
            '"images":[{"id":"sha256:ab","media_type":"image/png","byte_len":4}],"error":"error: e",'
            '"final_output":{"value":null}}}',
        ),
        (
            CodeTrajectoryEntry(id="i", protocol_iteration=1, code="x", observation="o", ran="y"),
            '{"CodeTrajectoryEntry":{"id":"i","protocol_iteration":1,"code":"x","observation":"o","ran":"y"}}',
        ),
        (
            CodeTrajectoryEntry(id="i", protocol_iteration=1, code="x", observation="o", refused="no"),
            '{"CodeTrajectoryEntry":{"id":"i","protocol_iteration":1,"code":"x","observation":"o","refused":"no"}}',
        ),
        (
            CodeTrajectoryEntry(id="i", protocol_iteration=1, code="x", observation="o", call_id="c1"),
            '{"CodeTrajectoryEntry":{"id":"i","protocol_iteration":1,"code":"x","observation":"o","call_id":"c1"}}',
        ),
        (
            CodeDiagnostic(id="i", protocol_iteration=0, phase="llm_extraction", payload={"decision": "answer"}),
            '{"CodeDiagnostic":{"id":"i","protocol_iteration":0,"phase":"llm_extraction","payload":{"decision":"answer"}}}',
        ),
    ],
)
def test_events_are_written_and_read_back(event: CodeEvent, text: str) -> None:
    assert dumps(CODE_EVENT.encode(event)) == hosted(text)
    assert CODE_EVENT.decode(loads(hosted(text))) == event


def test_a_driver_state_is_written_and_read_back() -> None:
    state = CodeDriverState(
        reasoning=(ReasoningOutput(text="t", replay=ProviderReasoningReplay(signature="s")),),
        prose="p",
        executed_code="x",
        problem=ReplyProblem.SEVERAL_CELLS,
        finish=FinalOutput(value=None),
        ran="y",
    )
    text = dumps(CODE_DRIVER_STATE.encode(state))
    assert text == hosted(
        '{"reasoning":[{"text":"t","replay":{"signature":"s"}}],"prose":"p","executed_code":"x",'
        '"problem":"several_cells","finish":{"value":null},"ran":"y"}'
    )
    assert CODE_DRIVER_STATE.decode(loads(text)) == state
    assert dumps(CODE_DRIVER_STATE.encode(CodeDriverState())) == hosted("{}")
    assert CODE_DRIVER_STATE.decode(loads(hosted("{}"))) == CodeDriverState()


def test_not_finished_and_finished_with_none_differ_on_the_wire() -> None:
    assert CODE_DRIVER_STATE.decode(loads(hosted('{"finish":null}'))).finish is None
    assert CODE_DRIVER_STATE.decode(loads(hosted('{"finish":{"value":null}}'))).finish == FinalOutput(value=None)
    with pytest.raises(DecodeError) as caught:
        CODE_DRIVER_STATE.decode(loads(hosted('{"finish":{}}')))
    assert caught.value.path == "payload.finish.value"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (Natural(), '{"kind":"natural"}'),
        (FinishRequired(), '{"kind":"finish_required"}'),
        (FinishRequired(schema={"type": "string"}), '{"kind":"finish_required","schema":{"type":"string"}}'),
    ],
)
def test_termination_options_are_written_and_read_back(options: CodeTermination, text: str) -> None:
    assert dumps(CODE_TERMINATION.encode(options)) == text
    assert CODE_TERMINATION.decode(loads(text)) == options


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (StoredAttachment(attachment_ref=PLOT), "image/png"),
        (InlineAttachment(media_type="image/gif", bytes=b"x"), "image/gif"),
        (ExternalUrl(media_type="text/csv", url="x"), "text/csv"),
        (ProviderFile(provider_scope=ProviderFileScope(provider="p", credential_scope="c"), id="f"), "file"),
    ],
)
def test_an_attachment_is_named_by_its_kind(source: AttachmentSource, named: str) -> None:
    assert media_type(source) == named


@pytest.mark.parametrize(
    ("name", "kind", "calls_tools"),
    [("code", CodeProtocol, False), ("snippet", SnippetProtocol, False), ("tools", ToolsProtocol, True)],
)
def test_the_registry_names_a_class_that_keeps_the_contract(name: str, kind: type, calls_tools: bool) -> None:
    module, _, attribute = PROTOCOLS[name].partition(":")
    named = getattr(importlib.import_module(module), attribute)
    assert named.calls_tools is calls_tools
    assert named is kind
    protocol: ModelProtocol = named(
        turn_id="t",
        run_offset=0,
        termination=Natural(),
        validate=None,
        grammar="tags",
        vision=False,
        budget=ObservationBudget(),
        no_progress_limit=3,
        instructions="",
    )
    assert (protocol.name, protocol.turn_protocol.name) == (name, name)
    assert bool(protocol.tool_specs([])) is calls_tools
    assert protocol.sampling(protocol_iteration=0) == protocol.sampling(protocol_iteration=0)


def test_every_protocol_of_the_registry_is_tested_for_it() -> None:
    assert sorted(PROTOCOLS) == ["code", "snippet", "tools"]


# -- tool calls of a cell ----------------------------------------------------------------------------------------------


def call(
    value: Json = None, *, outcome: ToolOutcome | None = None, control: ToolControl | None = None, args: Json = None
) -> ToolCallRecord:
    output = ToolCallOutput(outcome=outcome or ToolSucceeded(payload=value), control=control)
    return ToolCallRecord(call_id="c", tool="t", args=args, output=output, duration_ms=2)


def test_long_strings_are_replaced_by_their_size_and_attachments_stay() -> None:
    attachment: dict[str, Json] = {"$lash_tool_value": "attachment", "source": {"type": "x", "data": "y" * 70_000}}
    [event] = tool_call_events([call({"long": "é" * 40_000, "short": "s", "plot": attachment}, args=["a" * 65_537])])
    assert event.args == [{"omitted_bytes": 65_537}]
    assert event.output.outcome == ToolSucceeded(
        payload={"long": {"omitted_bytes": 80_000}, "short": "s", "plot": attachment}
    )


def test_calls_beyond_the_limit_are_summed_up() -> None:
    attachment: dict[str, Json] = {"$lash_tool_value": "attachment", "source": {}}
    calls = [call(1)] * 128 + [call([attachment]), call(2)]
    assert len(tool_call_events(calls[:128])) == 128
    *_, last = tool_call_events(calls)
    assert last.name == "omitted_tool_calls"
    assert last.duration_ms == 4
    assert last.output.outcome == ToolSucceeded(payload={"omitted_calls": 2, "failed": 0, "attachments": [attachment]})
    *_, last = tool_call_events([*calls, call(outcome=ToolFailed(payload=FAILURE))])
    assert isinstance(last.output.outcome, ToolFailed)
    assert last.output.outcome.payload.raw == {"omitted_calls": 3, "failed": 1, "attachments": [attachment]}


def test_the_first_successful_call_with_a_control_ends_the_turn() -> None:
    fail, switch = FailControl(failure=FAILURE), SwitchAgentFrameControl(frame_id="f", task="do")
    stays = SwitchAgentFrameControl(frame_id="f")
    assert terminal_outcome([call(1), call(2, control=stays)]) is None
    assert terminal_outcome([call(outcome=ToolFailed(payload=FAILURE), control=fail)]) is None
    assert terminal_outcome([call(control=switch), call(control=fail)]) == AgentFrameSwitch(frame_id="f", task="do")
    assert terminal_outcome([call(1), call(control=fail)]) == Stopped(
        stop=ToolError(
            tool_name="t",
            value={"class": "execution", "code": "c", "message": "m", "source": "tool", "retry": {"type": "never"}},
        )
    )
