"""`lash-nb trace`: every effect of a session as it was recorded, also of one that is damaged, compacted or in use."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lash_nb import ScriptedKernel, ScriptedModel, Session
from lash_nb.asked import Asked
from lash_nb.calls import RetryPolicy
from lash_nb.cli import main
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.effects import EffectId
from lash_nb.machine.llm import LlmCallError, LlmResponse, LlmTerminalReason, LlmUsage, TextOutput
from lash_nb.machine.state import WaitingTools
from lash_nb.machine.tool_calls import PendingToolCall
from lash_nb.models import ModelTraits
from lash_nb.models.scripted import Reply
from lash_nb.recorded import RecordedTurn, protocol_of
from lash_nb.stores.envelopes import make_envelope
from lash_nb.stores.journal import drop_archives, session_directory
from lash_nb.stores.notebook import make_block
from lash_nb.tracing import TracedEffect, TracedTurn, Tracer

from .conversations import Blocks, cell, stdout
from .left_sessions import Left, nth

SECRET = "correct-horse-battery"


def trace(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> tuple[Any, str]:
    """What `lash-nb trace --json` prints, and what it says."""
    assert main(["trace", *arguments, "--json"]) == code
    printed, told = capsys.readouterr()
    assert printed.count("\n") == 1
    return json.loads(printed), told


def kinds(turn: dict[str, Any]) -> list[tuple[int, str]]:
    return [(effect["id"], effect["kind"]) for effect in turn["effects"]]


def answer(text: str, *, read: int, written: int) -> LlmResponse:
    return LlmResponse(
        full_text=text,
        parts=(TextOutput(text=text),),
        usage=LlmUsage(input_tokens=read, output_tokens=written),
        terminal_reason=LlmTerminalReason.STOP,
    )


FAILS = LlmCallError(message="too busy", retryable=True, terminal_reason=LlmTerminalReason.PROVIDER_ERROR)
SYNC, LLM, EXEC, PAUSE = "SyncExecutionEnvironment", "LlmCall", "ExecCode", "Checkpoint"


async def test_every_effect_with_what_was_sent_and_what_came(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = {"print(1)": ScriptedCell(outputs=(stdout("1\n"),))}
    replies: list[Reply] = [
        FAILS,
        answer(cell("print(1)", "Look."), read=100, written=7),
        answer("One.", read=130, written=2),
    ]
    session = Session(
        ScriptedModel(replies, traits=ModelTraits(priced_as="openai/gpt-5-mini")),
        kernel=ScriptedKernel(script),
        state_dir=tmp_path,
        session_id="s1",
        notebook=tmp_path / "n.ipynb",
        label="2",
        retries=RetryPolicy(first_s=0.0),
    )
    async with session:
        await session.run("Which number?")
    told, _ = trace(capsys, "s1", "--state-dir", str(tmp_path))
    assert (told["session"], told["label"], told["notebook"]) == ("s1", "2", str(tmp_path / "n.ipynb"))
    assert (told["incomplete"], told["damaged"]) == (False, None)
    assert [kernel["language"] for kernel in told["kernels"]] == ["python"]
    (turn,) = told["turns"]
    assert (turn["turn"], turn["request"], turn["model"], turn["status"]) == (1, "Which number?", "scripted", "done")
    assert turn["outcome"] == {"finished": {"assistant_message": {"text": "One."}}}
    assert (turn["usage"]["input_tokens"], turn["usage"]["output_tokens"]) == (230, 9)
    assert turn["dollars"] == pytest.approx(0.0000755)  # 230 tokens at 0.25, 9 at 2, by the million
    assert kinds(turn) == [(1, SYNC), (2, LLM), (3, EXEC), (4, PAUSE), (5, SYNC), (6, LLM), (7, PAUSE)]
    assert not any(effect["redelivered"] for effect in turn["effects"])
    assert all(effect["duration_ms"] >= 0 and effect["answered_at"] for effect in turn["effects"])
    first, ran, last = turn["effects"][1], turn["effects"][2], turn["effects"][5]
    assert [retry["reason"] for retry in first["retries"]] == ["too busy"]
    assert (first["usage"]["input_tokens"], first["usage"]["output_tokens"]) == (100, 7)
    assert first["dollars"] == pytest.approx(0.000039)
    assert first["got"]["LlmComplete"]["result"]["Ok"]["full_text"] == "Look.\n<lash-cell>\nprint(1)\n</lash-cell>"
    assert ran["sent"] == {"language": "python", "code": "print(1)"}
    assert "1" in ran["got"]["ExecResult"]["result"]["Ok"]["observations"][0]
    request = last["sent"]["request"]
    assert request["messages"][0]["role"] == "System"
    assert "Which number?" in json.dumps(request["messages"][1])
    assert "Look." in json.dumps(request["messages"][2]), "what was said before is sent again, and shown whole"
    assert turn["effects"][3]["sent"] == {"checkpoint": "after_work"}


async def test_a_line_an_effect(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = {"print(1)": ScriptedCell(outputs=(stdout("1\n"),))}
    model = ScriptedModel([answer(cell("print(1)", "Look."), read=1000, written=7), "One."])
    async with Session(model, kernel=ScriptedKernel(script), state_dir=tmp_path, session_id="s1") as session:
        await session.run("Which\nnumber?")
    assert main(["trace", "s1", "--state-dir", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "  asked: Which number?"
    effects = lines[2:9]
    assert [line.split()[:2] for line in effects] == [
        [str(number), kind] for number, kind in enumerate((SYNC, LLM, EXEC, PAUSE, SYNC, LLM, PAUSE), 1)
    ]
    assert " messages, 1,000 tokens in, 7 out: Look. <lash-cell>" in effects[1]
    assert "python: print(1) → " in effects[2]
    assert lines[9] == "  [done] 1,000 tokens in, 7 out"


async def test_one_turn_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ScriptedModel(["One.", "Two."])
    async with Session(model, kernel=ScriptedKernel(), state_dir=tmp_path, session_id="s1") as session:
        await session.run("First?")
        await session.run("Second?")
        told, _ = trace(capsys, "s1", "--state-dir", str(tmp_path), "--turn", "2")
    assert [(turn["turn"], turn["request"]) for turn in told["turns"]] == [(2, "Second?")]
    none, _ = trace(capsys, "s1", "--state-dir", str(tmp_path), "--turn", "3")
    assert none["turns"] == []


async def test_tool_calls_of_a_cell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = PendingToolCall(call_id="c1", tool_name="add", args={"a": 1, "b": 2})
    kernel = ScriptedKernel({"tools.add(1, 2)": ScriptedCell(calls=(call,))})
    model = ScriptedModel([cell("tools.add(1, 2)"), "Three."])
    tools = {"add": lambda a, b: a + b}
    async with Session(model, kernel=kernel, tools=tools, state_dir=tmp_path, session_id="s1") as session:
        await session.run("Add.")
    told, _ = trace(capsys, "s1", "--state-dir", str(tmp_path))
    (made,) = told["turns"][0]["effects"][2]["calls"]
    assert (made["call"], made["name"], made["args"]) == ("c1", "add", {"a": 1, "b": 2})
    assert made["output"]["outcome"]["status"] == "success"
    assert made["begun_at"] <= made["ended_at"]


async def test_tool_calls_that_only_a_notebook_tells_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = Blocks()
    left = await Left(tmp_path / "there").after(nth("effect ExecCode", 1), on_block=blocks)
    async with left.resumed() as session:
        turn = session._past.interrupted
    assert turn is not None
    assert turn.checkpoint is not None
    call = PendingToolCall(call_id="c1", tool_name="add", args={"a": 1})
    checkpoint = replace(turn.checkpoint, state=WaitingTools(effect_id=EffectId(3), calls=(call,)))
    carried = next(block["head"] for block in reversed(blocks.blocks) if block["head"] is not None)
    head = make_envelope(
        checkpoint.to_json(protocol_of("code")),
        session="one",
        turn=1,
        seq=3,
        parent=None,
        saved_at="2025-01-01T00:00:00+00:00",
        engine="lash_nb",
        resume=carried["resume"],
    )
    path, here = tmp_path / "n.ipynb", tmp_path / "here"
    block = make_block(session="one", head=head, turns=[])
    path.write_text(json.dumps({"cells": [], "metadata": {"lash_nb": block}, "nbformat": 4, "nbformat_minor": 5}))
    async with Session.resume(path, kernel=left.kernel, state_dir=here) as session:
        session.past.record()
    told, _ = trace(capsys, "one", "--state-dir", str(here))
    (effect,) = told["turns"][0]["effects"]
    assert (effect["kind"], effect["sent"]) == (
        "ToolCalls",
        {"calls": [{"call": "c1", "name": "add", "args": {"a": 1}}]},
    )
    assert [made["call"] for made in effect["calls"]] == ["c1"]
    assert main(["trace", "one", "--state-dir", str(here)]) == 0


def test_a_call_without_its_name(tmp_path: Path) -> None:
    """As segments of an earlier version say it again."""
    tracer = Tracer("one")
    tracer._turn = TracedTurn(turn=1, request="", model="", protocol="code", began_at="")
    tracer._turn.effects.append(TracedEffect(id=3, kind="ExecCode", asked_at="", sent=None))
    tracer._fold.session.running = RecordedTurn(number=1, asked=Asked(text="", model="", protocol="code"))
    tracer._take({"k": "call", "turn": 1, "effect": 3, "call": "c1"}, in_fewer_words=False)
    assert [(made["call"], made["name"], made["args"]) for made in tracer._turn.effects[0].calls] == [("c1", "", None)]


async def test_what_was_said_and_to_which_turn_it_came(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ScriptedModel({1: ["One.", "One, then."], 2: ["Two."]})
    async with Session(model, kernel=ScriptedKernel(), state_dir=tmp_path, session_id="s1") as session:
        session.say("And quickly.")
        await session.run("First?")
        session.say("Never heard.")
    told, _ = trace(capsys, "s1", "--state-dir", str(tmp_path))
    assert [(said["text"], said["delivered_to"]) for said in told["said"]] == [
        ("And quickly.", 1),
        ("Never heard.", None),
    ]


# ------------------------------------------------------------------------------------------------- after a crash


async def test_an_effect_that_was_asked_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = await Left(tmp_path).after(nth("effect LlmCall", 2))
    told, _ = trace(capsys, "one", "--state-dir", str(tmp_path))
    (turn,) = told["turns"]
    assert (turn["status"], turn["ended_at"]) == ("interrupted", None)
    assert kinds(turn)[-1] == (6, LLM)
    assert turn["effects"][-1]["answered_at"] is None
    async with left.resumed() as session:
        await session.resume_turn()
    told, _ = trace(capsys, "one", "--state-dir", str(tmp_path))
    (turn,) = told["turns"]
    assert turn["status"] == "done"
    assert [e["redelivered"] for e in turn["effects"] if e["id"] == 6] == [False, True]
    assert sum(e["redelivered"] for e in turn["effects"]) == 1
    assert len(turn["resumptions"]) == 1
    assert len(told["processes"]) == 2
    assert told["processes"][0]["closed_at"] is None
    assert told["processes"][1]["closed_at"] is not None


async def test_up_to_the_damage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = ScriptedModel(["One.", "Two."])
    async with Session(model, kernel=ScriptedKernel(), state_dir=tmp_path, session_id="s1") as session:
        await session.run("First?")
        await session.run("Second?")
    file = session_directory(tmp_path, "s1") / "000001.journal"
    lines = file.read_bytes().split(b"\n")
    second = next(index for index, line in enumerate(lines) if b"Second?" in line)
    lines[second] = lines[second].replace(b"Second?", b"Secand?")
    file.write_bytes(b"\n".join(lines))
    told, said = trace(capsys, "s1", "--state-dir", str(tmp_path), code=1)
    assert [turn["request"] for turn in told["turns"]] == ["First?"]
    assert "is damaged at byte" in told["damaged"]
    assert said == f"lash-nb: {told['damaged']}\n"
    assert main(["trace", "s1", "--state-dir", str(tmp_path)]) == 1
    printed, said = capsys.readouterr()
    assert "First?" in printed
    assert "is damaged at byte" in said


async def test_over_segments_and_what_is_left_without_the_archives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("lash_nb.recording.COMPACT_BYTES", 1)
    script = {"print(1)": ScriptedCell(outputs=(stdout("1\n"),))}
    model = ScriptedModel({number: [cell("print(1)", f"Look {number}."), "One."] for number in range(1, 6)})
    async with Session(model, kernel=ScriptedKernel(script), state_dir=tmp_path, session_id="s1") as session:
        for number in range(1, 6):
            await session.run(f"Question {number}?")
    directory = session_directory(tmp_path, "s1")
    assert len(list(directory.glob("*.journal.gz"))) >= 1
    told, _ = trace(capsys, "s1", "--state-dir", str(tmp_path))
    assert not told["incomplete"]
    for number, turn in enumerate(told["turns"], 1):
        assert (turn["turn"], turn["incomplete"], len(turn["effects"])) == (number, False, 7)
        sent = json.dumps(turn["effects"][5]["sent"]["request"])
        assert [f"Question {known}?" in sent for known in range(1, 6)] == [known <= number for known in range(1, 6)]
        assert f"Look {number}." in sent
    drop_archives(directory)
    rest, _ = trace(capsys, "s1", "--state-dir", str(tmp_path))
    assert rest["incomplete"]
    assert [turn["turn"] for turn in rest["turns"]] == [1, 2, 3, 4, 5]
    assert rest["turns"][0]["incomplete"]
    assert rest["turns"][0]["effects"] == []
    assert rest["turns"][0]["outcome"] == told["turns"][0]["outcome"]
    assert main(["trace", "s1", "--state-dir", str(tmp_path)]) == 0
    assert "the archives with its effects were let go" in capsys.readouterr().out


def test_what_is_not_there_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["trace", "nobody", "--state-dir", str(tmp_path)]) == 2
    printed, told = capsys.readouterr()
    assert printed == ""
    assert told.startswith("lash-nb: there is no session 'nobody'")


# ---------------------------------------------------------------------------------------------------------- secrets


async def test_no_secret_is_in_any_file_or_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SOME_API_KEY", SECRET)
    call = PendingToolCall(call_id="c1", tool_name="echo", args={"text": SECRET})
    script = {"x": ScriptedCell(outputs=(stdout(f"it is {SECRET}\n"),), calls=(call,))}
    model = ScriptedModel([cell("x", f"I use {SECRET}."), "Done.", f"Again {SECRET}."])
    tools = {"echo": lambda text: f"echo {text}"}
    async with Session(
        model, kernel=ScriptedKernel(script), tools=tools, state_dir=tmp_path / "state", session_id="s1"
    ) as session:
        session.say(f"Say {SECRET}.")
        await session.run(f"Why {SECRET}?")
        session.say(f"Later {SECRET}.")
    texts = [path.read_text(errors="replace") for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert texts
    commands: list[list[str]] = [["trace", "s1"], ["sessions", "show", "s1"], ["sessions", "list"]]
    for command in commands:
        for more in ([], ["--json"]):
            assert main([*command, *more, "--state-dir", str(tmp_path / "state")]) == 0
            texts.append("".join(capsys.readouterr()))
    assert not [text for text in texts if SECRET in text]
    assert all("[redacted]" in text for text in texts[-6:])
