"""The scripted model: the contract, running out, and scripts in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from lash_nb.errors import InputError, ModelCallError
from lash_nb.machine.llm import (
    LlmCallError,
    LlmResponse,
    LlmTerminalReason,
    ProviderFailureKind,
    TextOutput,
    ToolCallOutputPart,
)
from lash_nb.models import ToolCallChunk
from lash_nb.models.choice import open_model
from lash_nb.models.scripted import ScriptedModel, calling

from .cases import Listener, context, request
from .contract import ModelContract

FAILURE = LlmCallError(message="no", retryable=True, terminal_reason=LlmTerminalReason.PROVIDER_ERROR)


class Scripts:
    async def open(self, responses: Sequence[LlmResponse]) -> ScriptedModel:
        return ScriptedModel(responses, chunk_size=3)


class TestContract(ModelContract):
    @pytest.fixture
    def place(self) -> Scripts:
        return Scripts()


async def test_replies_are_texts_responses_failures_and_functions() -> None:
    model = ScriptedModel(["one", FAILURE, lambda asked: f"{len(asked.messages)} messages"])
    assert (await model.complete(request(), context=context())).full_text == "one"
    with pytest.raises(ModelCallError) as caught:
        await model.complete(request(), context=context())
    assert caught.value.error is FAILURE
    assert (await model.complete(request("third"), context=context())).full_text == "2 messages"
    assert model.requests == [request(), request(), request("third")]


async def test_chunks_have_the_size() -> None:
    listener = Listener()
    await ScriptedModel(["abcdefg"], chunk_size=3).complete(request(), context=context(), on_delta=listener)
    assert [getattr(delta, "text", None) for delta in listener.deltas] == ["abc", "def", "g"]


async def test_a_script_that_runs_out_is_a_failed_call() -> None:
    model = ScriptedModel(["one"])
    await model.complete(request(), context=context())
    with pytest.raises(ModelCallError) as caught:
        await model.complete(request(), context=context(turn=2))
    assert str(caught.value) == "the script has 1 reply, and all are used (turn 2, step 1)"
    assert caught.value.error.kind is ProviderFailureKind.VALIDATION
    assert not caught.value.error.retryable


async def test_a_script_by_turn_answers_a_repeated_call_alike() -> None:
    model = ScriptedModel({1: ["a", "b"], 2: ["c"]})
    for _ in range(2):
        assert (await model.complete(request(), context=context(step=2))).full_text == "b"
    assert (await model.complete(request(), context=context(turn=2))).full_text == "c"
    with pytest.raises(ModelCallError, match=r"the script has 2 replies for turn 1, this is step 3"):
        await model.complete(request(), context=context(step=3))


@pytest.mark.parametrize("text", ['["hello"]', '{"turns": {"1": ["hello"]}}'])
async def test_a_script_is_read_from_a_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "script.json").write_text(text)
    model = open_model("scripted:script.json", base_dir=tmp_path)
    assert model.name == "scripted:script.json"
    assert (await model.complete(request(), context=context())).full_text == "hello"


CALLS = """{"protocol": "tools", "turns": {"1": [
  {"text": "I look.", "calls": [{"tool": "search", "args": {"q": "x"}, "id": "a"}, {"tool": "now"}]},
  {"calls": [{"tool": "search", "args": "{"}]},
  "Done."
]}}"""


async def test_a_script_in_a_file_may_call_tools(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text(CALLS)
    model = open_model("scripted:script.json", base_dir=tmp_path)
    assert model.traits(session="1", turn=1).protocol == "tools"
    listener = Listener()
    answers = [await model.complete(request(), context=context(step=step), on_delta=listener) for step in (1, 2, 3)]
    assert answers[0] == LlmResponse(
        full_text="I look.",
        parts=(
            TextOutput(text="I look."),
            ToolCallOutputPart(call_id="a", tool_name="search", input_json='{"q":"x"}'),
            ToolCallOutputPart(call_id="call_2", tool_name="now", input_json="{}"),
        ),
        terminal_reason=LlmTerminalReason.TOOL_USE,
    )
    assert answers[1] == calling(("search", "{"))
    assert answers[2].full_text == "Done."
    assert ToolCallChunk(call_id="a", tool_name="search", input_json_delta='{"q":"x"}') in listener.deltas


def test_a_reply_that_calls_is_written_in_one_line() -> None:
    assert calling(("search", {"q": 1}), ("now", {}, "b"), text="I look.") == LlmResponse(
        full_text="I look.",
        parts=(
            TextOutput(text="I look."),
            ToolCallOutputPart(call_id="call_1", tool_name="search", input_json='{"q":1}'),
            ToolCallOutputPart(call_id="b", tool_name="now", input_json="{}"),
        ),
        terminal_reason=LlmTerminalReason.TOOL_USE,
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[", ":1:2: the script is not JSON (Expecting value)"),
        ('{"turn": {}}', ': a script is a list of replies, or {"turns": {"1": [replies], …}}'),
        ('{"turns": {"one": []}}', ': turns: "one" is not the number of a turn (1, 2, …)'),
        ('{"turns": {"1": "hello"}}', ": turns.1 is not a list of replies"),
        ('["a", 1]', ": the script[1] is not a text, nor an object with calls"),
        ("[{}]", ': the script[0] is not of the form {"text": "…", "calls": [{"tool": …, "args": …}]}'),
        (
            '[{"calls": [{"tool": "a"}], "txt": "b"}]',
            ': the script[0] is not of the form {"text": "…", "calls": [{"tool": …, "args": …}]}',
        ),
        (
            '{"turns": {"2": [{"calls": [{"name": "a"}]}]}}',
            ': turns.2[0].calls[0] is not of the form {"tool": "…", "args": {…}}',
        ),
        (
            '[{"calls": [{"tool": "a"}, {"tool": "a", "args": [1]}]}]',
            ": the script[0].calls[1]: a tool and an id are texts, arguments are an object",
        ),
        ("\udcff", ": the script is not UTF-8 text (byte 0)"),
    ],
)
def test_a_broken_script_is_named_with_the_place(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "script.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError) as caught:
        open_model("scripted:script.json", base_dir=tmp_path)
    assert str(caught.value) == f"{path}{problem}"


def test_a_missing_script(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: the script cannot be read \(No such file or directory\)"):
        open_model("scripted:none.json", base_dir=tmp_path)
    with pytest.raises(InputError, match="needs a file"):
        open_model("scripted", base_dir=tmp_path)
