"""Cassettes: the contract, what makes an exchange match, recording, and files that are broken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from lash_nb.errors import CassetteError, InputError, ModelCallError
from lash_nb.machine.llm import LlmRequest, LlmResponse, LlmTerminalReason, TextOutput
from lash_nb.models import ModelTraits
from lash_nb.models.choice import open_model
from lash_nb.models.replay import Exchange, Origin, RecordingModel, ReplayModel, read_cassette, write_cassette
from lash_nb.models.scripted import ScriptedModel
from lash_nb.trust import Redactor

from .cases import TOOL_ANSWER, context, request
from .contract import ModelContract

REDACTOR = Redactor({"MY_TOKEN": "gtok-ABCDEF0123456789"})

QUESTION = "How many rows?"


def text_answer(text: str) -> LlmResponse:
    return LlmResponse(full_text=text, parts=(TextOutput(text=text),), terminal_reason=LlmTerminalReason.STOP)


def exchange(answer: LlmResponse, *, turn: int = 1, step: int = 1, user_text: str = QUESTION) -> Exchange:
    return Exchange(
        session="1",
        turn=turn,
        step=step,
        user_text=user_text,
        request_sha256="0" * 64,
        origin=Origin.SCRIPTED,
        model="scripted",
        date="2026-11-22",
        response=answer,
    )


async def record(path: Path, *replies: str, turn: int = 1, text: str = QUESTION) -> None:
    model = RecordingModel(ScriptedModel(replies), path, today=lambda: "2026-11-22")
    for step, _ in enumerate(replies, 1):
        await model.complete(request(text), context=context(text, turn=turn, step=step))
    await model.aclose()


async def ask(path: Path, text: str = QUESTION, *, turn: int = 1, step: int = 1, strict: bool = False) -> str:
    model = ReplayModel(path, strict=strict)
    return (await model.complete(request(text), context=context(text, turn=turn, step=step))).full_text


def names_in(directory: Path) -> list[str]:
    return [entry.name for entry in directory.iterdir()]


class Cassettes:
    def __init__(self, path: Path) -> None:
        self._path = path

    async def open(self, responses: Sequence[LlmResponse]) -> ReplayModel:
        write_cassette(self._path, [exchange(answer, step=step) for step, answer in enumerate(responses, 1)])
        return ReplayModel(self._path, chunk_size=3)


class TestContract(ModelContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Cassettes:
        return Cassettes(tmp_path / "n.cassette.jsonl")


class Recordings:
    def __init__(self, path: Path) -> None:
        self._path = path

    async def open(self, responses: Sequence[LlmResponse]) -> RecordingModel:
        return RecordingModel(ScriptedModel(responses, chunk_size=3), self._path)


class TestRecordingContract(ModelContract):
    @pytest.fixture
    def place(self, tmp_path: Path) -> Recordings:
        return Recordings(tmp_path / "n.cassette.jsonl")


# -- round trip ------------------------------------------------------------------------------------------------------


async def test_what_is_recorded_is_replayed(tmp_path: Path) -> None:
    path = tmp_path / "n.cassette.jsonl"
    model = RecordingModel(ScriptedModel(["one", TOOL_ANSWER]), path, today=lambda: "2026-11-22")
    first = await model.complete(request(), context=context())
    second = await model.complete(request(), context=context(step=2))
    replay = ReplayModel(path)
    assert replay.name == "replay:n.cassette.jsonl"
    assert await replay.complete(request(), context=context()) == first
    assert await replay.complete(request(), context=context(step=2)) == second
    assert second == TOOL_ANSWER
    assert replay.provenance == "answers of scripted recorded 2026-11-22"


async def test_the_file_holds_one_exchange_a_line_and_nothing_that_was_sent(tmp_path: Path) -> None:
    path = tmp_path / "n.cassette.jsonl"
    answer = replace(text_answer("äöü"), request_body="SECRET", http_summary="SECRET")
    model = RecordingModel(ScriptedModel([answer]), path, origin=Origin.SCRIPTED, today=lambda: "2026-11-22")
    await model.complete(request(system="SECRET"), context=context())
    text = path.read_text(encoding="utf-8")
    header, line = (json.loads(line) for line in text.splitlines())
    assert header["lash_nb_cassette"] == 1
    assert list(line) == [
        "session",
        "turn",
        "step",
        "user_text",
        "request_sha256",
        "origin",
        "model",
        "date",
        "response",
    ]
    assert (line["user_text"], line["origin"], line["model"], line["date"]) == (
        QUESTION,
        "scripted",
        "scripted",
        "2026-11-22",
    )
    assert line["response"]["parts"] == [{"Text": {"text": "äöü", "response_meta": None}}]
    assert "äöü" in text
    assert "SECRET" not in text
    assert names_in(tmp_path) == ["n.cassette.jsonl"]


@pytest.mark.parametrize(
    "asked", ["  How  many\n\nrows? ", "How many rows?\r\n", "How\u00a0many rows?", "How many\nrows?"]
)
async def test_whitespace_does_not_make_another_question(tmp_path: Path, asked: str) -> None:
    path = tmp_path / "n.cassette.jsonl"
    await record(path, "12")
    assert await ask(path, asked) == "12"


async def test_the_unicode_form_does_not_make_another_question(tmp_path: Path) -> None:
    path = tmp_path / "n.cassette.jsonl"
    await record(path, "12", text="Die Gr\u00f6\u00dfe in der H\u00f6he?")
    assert await ask(path, "Die Gro\u0308\u00dfe in der Ho\u0308he?") == "12"


async def test_another_prompt_does_not_break_a_cassette_but_a_strict_one(tmp_path: Path) -> None:
    path = tmp_path / "n.cassette.jsonl"
    await record(path, "12")
    other = request(system="pandas 9.9, /home/somebody/else")
    assert (await ReplayModel(path).complete(other, context=context())).full_text == "12"
    with pytest.raises(
        CassetteError, match=r"turn 1, step 1 is recorded for another request; the question is the same"
    ):
        await ReplayModel(path, strict=True).complete(other, context=context())


async def test_strict_lets_the_model_and_the_ids_of_the_run_differ(tmp_path: Path) -> None:
    path = tmp_path / "n.cassette.jsonl"
    await record(path, "12")
    scope = replace(request().scope, session_id="another")
    again: LlmRequest = replace(request(), model="replay:n.cassette.jsonl", scope=scope)
    assert (await ReplayModel(path, strict=True).complete(again, context=context())).full_text == "12"


# -- no match --------------------------------------------------------------------------------------------------------


async def test_another_question_is_shown_with_the_difference(tmp_path: Path) -> None:
    path = tmp_path / "n.cassette.jsonl"
    await record(path, "12")
    with pytest.raises(CassetteError) as caught:
        await ask(path, "How many columns?")
    assert str(caught.value) == (
        f"{path}: turn 1, step 1 is recorded for another question.\n"
        "--- recorded\n"
        "+++ asked\n"
        "@@ -1 +1 @@\n"
        "-How many rows?\n"
        "+How many columns?\n"
        "For a live answer name a model (`%lash model NAME`); "
        "to record the cassette again: `lash-nb run NOTEBOOK -m NAME --record`."
    )
    assert isinstance(caught.value, InputError)
    assert not isinstance(caught.value, ModelCallError)


async def test_a_long_difference_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "n.cassette.jsonl"
    await record(path, "12", text="\n".join(f"old {number}" for number in range(60)))
    with pytest.raises(CassetteError) as caught:
        await ask(path, "\n".join(f"new {number}" for number in range(60)))
    lines = str(caught.value).splitlines()
    assert len(lines) == 1 + 20 + 1 + 1
    assert lines[-2] == "… 103 more lines"


async def test_a_cell_that_ran_twice_is_told_so(tmp_path: Path) -> None:
    path = tmp_path / "n.cassette.jsonl"
    await record(path, "12")
    with pytest.raises(
        CassetteError, match=r"turn 2 is not recorded \(this question is turn 1 there: restart the kernel"
    ):
        await ask(path, turn=2)


async def test_more_steps_than_recorded(tmp_path: Path) -> None:
    path = tmp_path / "n.cassette.jsonl"
    await record(path, "a", "b")
    with pytest.raises(CassetteError, match=r"turn 1 asks for step 3, recorded: 1, 2\. For a live answer"):
        await ask(path, step=3)


async def test_replies_of_one_protocol_are_not_played_to_another(tmp_path: Path) -> None:
    """Under `tools` a cell is prose: the turn would end with code that nobody ran."""
    path = tmp_path / "n.cassette.jsonl"
    await record(path, "<lash-cell>\n12\n</lash-cell>")
    model = ReplayModel(path)
    with pytest.raises(
        CassetteError, match=r"turn 1 is recorded under the protocol 'code', and conducted under 'tools'"
    ):
        await model.complete(request(), context=context(protocol="tools"))


async def test_each_turn_has_the_protocol_that_it_was_recorded_under(tmp_path: Path) -> None:
    path = tmp_path / "n.cassette.jsonl"
    model = RecordingModel(ScriptedModel({1: ["12"], 2: [TOOL_ANSWER], 3: ["13"]}), path)
    for turn, protocol in ((1, "code"), (2, "tools"), (3, "code")):
        await model.complete(request(), context=context(turn=turn, protocol=protocol))
    replayed = ReplayModel(path)
    assert [replayed.traits(session="1", turn=turn).protocol for turn in (1, 2, 3)] == ["code", "tools", "code"]
    answer = await replayed.complete(request(), context=context(turn=2, protocol="tools"))
    assert answer == TOOL_ANSWER


# -- recording -------------------------------------------------------------------------------------------------------


async def test_recording_a_step_again_replaces_it_and_what_followed(tmp_path: Path) -> None:
    path = tmp_path / "n.cassette.jsonl"
    await record(path, "a", "b", turn=1)
    await record(path, "c", "d", turn=2, text="And columns?")
    await record(path, "e", turn=3, text="Sure?")
    await record(path, "C", turn=2, text="And columns?")
    assert [(e.turn, e.step, e.response.full_text) for e in read_cassette(path)] == [
        (1, 1, "a"),
        (1, 2, "b"),
        (2, 1, "C"),
    ]


async def test_failed_calls_are_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "n.cassette.jsonl"
    model = RecordingModel(ScriptedModel(["one"]), path)
    await model.complete(request(), context=context())
    with pytest.raises(ModelCallError):
        await model.complete(request(), context=context(step=2))
    assert [e.step for e in read_cassette(path)] == [1]


async def test_a_broken_cassette_is_not_recorded_over(tmp_path: Path) -> None:
    path = tmp_path / "n.cassette.jsonl"
    path.write_text("not a cassette\n")
    with pytest.raises(CassetteError):
        RecordingModel(ScriptedModel(["one"]), path)
    assert path.read_text() == "not a cassette\n"


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(CassetteError, match="no cassette can be written there"):
        RecordingModel(ScriptedModel(["one"]), tmp_path / "none" / "n.cassette.jsonl")


async def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "n.cassette.jsonl"
    path.mkdir()
    (path / "kept").touch()
    with pytest.raises(CassetteError, match=r"cannot be written \(Is a directory\)"):
        write_cassette(path, [])
    assert names_in(tmp_path) == ["n.cassette.jsonl"]


# -- files -----------------------------------------------------------------------------------------------------------


def broken(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(CassetteError) as caught:
        read_cassette(path)
    assert path.read_bytes() == content
    return str(caught.value).removeprefix(str(path))


def test_broken_cassettes_are_named_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "n.cassette.jsonl"
    write_cassette(path, [exchange(text_answer("a")), exchange(text_answer("b"), step=2)])
    header, first, second = path.read_bytes().splitlines(keepends=True)
    assert broken(path, b"") == ":1: the cassette is empty"
    assert broken(path, b"hello\n").startswith(":1: this is not a cassette's header: this is not JSON")
    assert broken(path, first) == ':1: a cassette begins with {"lash_nb_cassette": 1}'
    assert broken(path, b'{"lash_nb_cassette": 2}\n') == (
        ":1: the cassette is of version 2, this lash_nb reads version 1"
    )
    assert broken(path, header + b"{nonsense\n" + second).startswith(":2: value: this is not JSON")
    assert broken(path, header + first + second[:-20]) == ":3: the cassette is cut off in this line"
    assert broken(path, header + first + second[:-20] + b"\n").startswith(":3: value: this is not JSON")
    assert broken(path, header + first + first) == ":3: turn 1, step 1 is in line 2 already"
    assert broken(path, header + first.replace(b'"turn":1', b'"turn":"1"')) == (
        ":2: turn: expected an integer, found a string"
    )
    assert broken(path, header + first.replace(b'"step":1', b'"step":0')).startswith(":2: step: 0 is outside 1..")
    assert broken(path, header + first.replace(b'"stop"', b'"halted"')).startswith(
        ":2: response.terminal_reason: unknown value 'halted'"
    )
    assert broken(path, header + b"\xff\xfe\n").startswith(":2: value: this is not JSON")


def test_a_missing_last_newline_and_blank_lines_are_no_damage(tmp_path: Path) -> None:
    path = tmp_path / "n.cassette.jsonl"
    write_cassette(path, [exchange(text_answer("a"))])
    path.write_bytes(path.read_bytes().rstrip(b"\n").replace(b"\n", b"\n\n"))
    assert [e.response.full_text for e in read_cassette(path)] == ["a"]
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert [e.response.full_text for e in read_cassette(path)] == ["a"]


def test_opening_by_name(tmp_path: Path) -> None:
    write_cassette(tmp_path / "n.cassette.jsonl", [])
    for name in ("replay:n.cassette.jsonl", "replay:n", f"replay:{tmp_path}/n.cassette.jsonl"):
        model = open_model(name, base_dir=tmp_path)
        assert model.name == name
    with pytest.raises(CassetteError) as caught:
        open_model("replay:m", base_dir=tmp_path)
    assert str(caught.value) == (
        f"there is no cassette m (looked for {tmp_path / 'm'} and {tmp_path / 'm.cassette.jsonl'})"
    )
    with pytest.raises(InputError, match="needs a cassette"):
        open_model("replay:", base_dir=tmp_path)


async def test_what_was_recorded_of_a_model_that_does_not_see_is_replayed_as_such(tmp_path: Path) -> None:
    """The prompt tells it; a strict replay compares prompts."""
    path = tmp_path / "a.cassette.jsonl"
    blind = ScriptedModel(["one"], traits=ModelTraits(vision=False, protocol="snippet"))
    await RecordingModel(blind, path).complete(request(), context=context(protocol="snippet"))
    replayed = ReplayModel(path).traits(session="1", turn=1)
    assert (replayed.vision, replayed.protocol) == (False, "snippet")
    assert ReplayModel(path).traits(session="1", turn=2) == ModelTraits()


async def test_a_recording_keeps_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "a.cassette.jsonl"
    model = RecordingModel(ScriptedModel(["token gtok-ABCDEF0123456789"]), path, redact=REDACTOR.response)
    answer = await model.complete(request(), context=context())
    assert answer.full_text == "token gtok-ABCDEF0123456789", "whoever asked takes it out in its own place"
    assert "gtok" not in path.read_text()
