"""Sessions: whole turns over the scripted kernel, and over a real one where only a real one can show it."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from pydantic import BaseModel

from lash_nb import ManagedKernel, ScriptedKernel, ScriptedModel, Session
from lash_nb.bridge import shared_loop
from lash_nb.errors import (
    CassetteError,
    InputError,
    LashError,
    SessionClosedError,
    TurnFailed,
    UnknownModelError,
    UnknownNameError,
)
from lash_nb.kernels.scripted import ScriptedCell
from lash_nb.machine.events import CodeBlockStarted, TurnActivity
from lash_nb.machine.execution import ErrorOutput, FinishValue, VariableSummary
from lash_nb.machine.llm import LlmCallError, LlmTerminalReason, ProviderFailureKind
from lash_nb.machine.outcomes import Stopped, TurnStopReason
from lash_nb.models.replay import ReplayModel
from lash_nb.session import Limits
from lash_nb.stores.envelopes import open_checkpoint
from lash_nb.stores.notebook import read_block, verify_chain

from .conversations import Blocks, cell, history, last_message, stdout


@pytest.fixture(scope="module")
def kernel() -> Iterator[ManagedKernel]:
    kernel = ManagedKernel()
    yield kernel
    shared_loop().run(kernel.shutdown())


# -- whole turns -------------------------------------------------------------------------------------------------------


async def test_a_turn_with_an_error_and_a_recovery(kernel: ManagedKernel) -> None:
    model = ScriptedModel(
        [cell("print('one')\n1/0", "First."), cell("total = 40 + 2\ntotal"), "It is **42**."], name="scripted"
    )
    async with Session(model, kernel=kernel) as session:
        turn = await session.run("Add up.")
    assert turn.text == "It is **42**."
    assert turn.status == "done"
    assert turn.code == ("print('one')\n1/0", "total = 40 + 2\ntotal")
    kinds = [(output["output_type"], output.get("text") or output.get("ename")) for output in turn.outputs]
    assert kinds == [("stream", "one\n"), ("error", "ZeroDivisionError"), ("execute_result", None)]
    assert turn.outputs[2]["data"]["text/plain"] == "42"
    assert turn.value is None
    assert "ZeroDivisionError" in history(model, 1)[-1]
    assert "total: int = 42" in last_message(model, 2)


async def test_a_follow_up_uses_earlier_variables(kernel: ManagedKernel) -> None:
    model = ScriptedModel([cell("kept = 7"), "ok", cell("finish(kept * 6)")])
    async with Session(model, kernel=kernel) as session:
        await session.run("Keep seven.")
        turn = await session.run("Six times that?")
        assert [one.number for one in session.turns] == [1, 2]
    assert turn.value == 42
    assert turn.text == "42"


async def test_a_typed_answer_is_asked_for_until_it_fits(kernel: ManagedKernel) -> None:
    class Point(BaseModel):
        x: int
        label: str

    model = ScriptedModel([cell("finish({'x': 'one'})"), "It is one.", cell("finish({'x': 1, 'label': 'a'})")])
    async with Session(model, kernel=kernel) as session:
        turn = await session.run("Where?", output_type=Point)
    assert turn.value == Point(x=1, label="a")
    assert "label" in history(model, 1)[-1]  # what was missing is named
    assert "finish(value)" in history(model, 2)[-1]  # prose does not end a turn that must give a value


async def test_the_kernel_is_killed_in_mid_cell(kernel: ManagedKernel) -> None:
    model = ScriptedModel([cell("precious = 1"), cell("import time; time.sleep(30)"), "It died.", cell("1"), "on"])

    def kill(activity: TurnActivity) -> None:
        if isinstance(activity, CodeBlockStarted) and "sleep" in activity.code:
            assert kernel.pid is not None
            threading.Timer(0.3, os.kill, (kernel.pid, signal.SIGKILL)).start()

    async with Session(model, kernel=kernel) as session:
        epoch = kernel.epoch
        turn = await session.run("Go.", on_activity=kill)
        assert turn.ok
        assert turn.picture.steps[1].outcome == "dead"
        told = history(model, 2)[-1]
        assert "SIGKILL" in told
        assert "precious" in told
        assert kernel.epoch != epoch
        assert (await session.run("And now?")).ok


# -- bounds ------------------------------------------------------------------------------------------------------------


async def test_the_step_limit_is_stated() -> None:
    model = ScriptedModel([cell("1")] * 9)
    async with Session(model, kernel=ScriptedKernel()) as session:
        turn = await session.run("Count.", max_steps=2, raise_on_failure=False)
    assert turn.status == "bound"
    assert turn.outcome == Stopped(stop=TurnStopReason.MAX_TURNS)
    assert "limit of steps" in turn.text
    assert len(model.requests) == 3  # two steps, and the one that is granted to answer


async def test_the_time_limit_is_stated() -> None:
    kernel = ScriptedKernel([ScriptedCell(takes_s=60.0)])
    limits = Limits(max_minutes=0.2 / 60)
    async with Session(ScriptedModel([cell("1")]), kernel=kernel, limits=limits) as session:
        with pytest.raises(TurnFailed, match="longer than its limit"):
            await session.run("Wait.")
        assert session.turns[-1].status == "bound"


async def test_a_cell_limit_interrupts_and_goes_on() -> None:
    kernel = ScriptedKernel([ScriptedCell(takes_s=60.0), ScriptedCell()])
    model = ScriptedModel([cell("slow"), "Too slow."])
    async with Session(model, kernel=kernel, limits=Limits(cell_seconds=0.1)) as session:
        turn = await session.run("Wait.")
    assert turn.picture.steps[0].outcome == "timeout"
    assert "timeout:" in history(model, 1)[-1]


# -- steering, secrets, failures ---------------------------------------------------------------------------------------


async def test_what_is_said_meanwhile_is_delivered_at_the_next_pause() -> None:
    kernel = ScriptedKernel([ScriptedCell(takes_s=0.3)])
    model = ScriptedModel([cell("1"), "Blue, then."])
    async with Session(model, kernel=kernel) as session:

        def say(activity: TurnActivity) -> None:
            if isinstance(activity, CodeBlockStarted):
                session.say("   ")
                session.say("Make it blue.")

        turn = await session.run("Paint.", on_activity=say)
    assert history(model, 1)[-1] == "Make it blue."
    assert turn.text == "Blue, then."


async def test_secrets_of_the_environment_reach_neither_model_nor_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "hunter2-hunter2")
    kernel = ScriptedKernel([ScriptedCell(outputs=(stdout("key is hunter2-hunter2\n"),))])
    model, blocks = ScriptedModel([cell("show()"), "done"]), Blocks()
    async with Session(model, kernel=kernel, on_block=blocks) as session:
        turn = await session.run("Show.")
    assert turn.outputs[0]["text"] == "key is [redacted]\n"
    assert "hunter2" not in str(model.requests)
    assert "hunter2" not in str(blocks.blocks)


async def test_a_failed_model_call_fails_the_turn_and_not_the_session() -> None:
    error = LlmCallError(
        message="overloaded",
        retryable=False,
        kind=ProviderFailureKind.HTTP,
        terminal_reason=LlmTerminalReason.PROVIDER_ERROR,
    )
    async with Session(ScriptedModel([error, "fine"]), kernel=ScriptedKernel()) as session:
        with pytest.raises(TurnFailed, match="overloaded") as failure:
            await session.run("Go.")
        assert failure.value.turn is session.turns[0]
        assert session.turns[0].status == "failed"
        assert (await session.run("Again.")).text == "fine"


async def test_a_cassette_for_another_question_reaches_the_user(tmp_path: Any) -> None:
    path = tmp_path / "a.cassette.jsonl"
    path.write_text('{"lash_nb_cassette": 1}\n')
    async with Session(ReplayModel(path), kernel=ScriptedKernel()) as session:
        with pytest.raises(CassetteError):
            await session.run("Anything.")
        assert session.turns[0].status == "failed"


async def test_bad_input_changes_nothing() -> None:
    async with Session(ScriptedModel(["x"]), kernel=ScriptedKernel()) as session:
        with pytest.raises(InputError, match="empty"):
            await session.run("  \n")
        with pytest.raises(InputError, match="not valid"):
            await session.run("Give.", schema={"type": 3})
        assert session.turns == []
        assert (await session.run("Go.")).text == "x"
    with pytest.raises(SessionClosedError):
        await session.run("More.")
    async with Session("nonsense:model", kernel=ScriptedKernel()) as session:
        with pytest.raises(UnknownModelError):
            await session.run("Go.")


async def test_one_turn_at_a_time() -> None:
    kernel = ScriptedKernel([ScriptedCell(takes_s=0.5)])
    async with Session(ScriptedModel([cell("1"), "one"]), kernel=kernel) as session:
        first = asyncio.create_task(session.run("One."))
        await asyncio.sleep(0.2)
        with pytest.raises(LashError, match="a turn is running"):
            await session.run("Two.")
        assert (await first).text == "one"


async def test_a_watcher_that_fails_does_not_end_the_turn(caplog: pytest.LogCaptureFixture) -> None:
    def broken(activity: TurnActivity) -> None:
        raise RuntimeError("no screen")

    async with Session(ScriptedModel(["fine"]), kernel=ScriptedKernel()) as session:
        assert (await session.run("Go.", on_activity=broken)).text == "fine"
    assert "not told any more" in caplog.text


# -- copies ------------------------------------------------------------------------------------------------------------


async def test_the_block_has_a_head_at_every_effect_and_a_chain_of_turns() -> None:
    blocks = Blocks()
    kernel = ScriptedKernel([ScriptedCell(outputs=(ErrorOutput(ename="E", evalue="v"),)), ScriptedCell()])
    model = ScriptedModel([cell("a"), cell("b"), "one", "two"])
    async with Session(model, kernel=kernel, on_block=blocks, session_id="s") as session:
        await session.run("First.")
        await session.run("Second.")
    waiting = [type(open_checkpoint(block["head"]).state).__name__ if block["head"] else "-" for block in blocks.blocks]
    step = ["WaitingExecutionEnvironment", "WaitingLlm", "WaitingExec", "WaitingCheckpoint"]
    answer = ["WaitingExecutionEnvironment", "WaitingLlm", "WaitingCheckpoint", "-"]
    assert waiting == [*step, *step, *answer, *answer]
    last = read_block({"lash_nb": blocks.blocks[-1]})
    assert last is not None
    verify_chain(last)
    assert [turn["turn"] for turn in last.turns] == [1, 2]
    assert type(open_checkpoint(last.turns[1]).state).__name__ == "Finished"


async def test_finish_none_is_a_value() -> None:
    kernel = ScriptedKernel([ScriptedCell(finish=FinishValue(value=None))])
    async with Session(ScriptedModel([cell("finish(None)")]), kernel=kernel) as session:
        turn = await session.run("Nothing?")
    assert turn.ok
    assert turn.value is None
    assert turn.text == "None"


async def test_the_prompt_prefix_is_stable_while_variables_change() -> None:
    binds = (VariableSummary(name="df", type="DataFrame", detail="(3, 2)", changed=True),)
    kernel = ScriptedKernel([ScriptedCell(binds=binds), ScriptedCell()])
    model = ScriptedModel([cell("a"), cell("b"), "end"])
    async with Session(model, kernel=kernel) as session:
        await session.run("Go.")
    texts = [[str(message) for message in request.messages[:-1]] for request in model.requests]
    for before, after in pairwise(texts):
        unmarked = [text.replace("cache_breakpoint=True", "cache_breakpoint=False") for text in before]
        later = [text.replace("cache_breakpoint=True", "cache_breakpoint=False") for text in after]
        assert later[: len(unmarked)] == unmarked
    assert "* df: DataFrame (3, 2)" in last_message(model, 1)
    assert "  df: DataFrame (3, 2)" in last_message(model, 2)


async def test_a_model_that_insists_on_fences() -> None:
    model = ScriptedModel(["Look.\n\n```python\nfinish(1)\n```"])
    kernel = ScriptedKernel({"finish(1)": ScriptedCell(finish=FinishValue(value=1))})
    async with Session(model, kernel=kernel, grammar="fence") as session:
        turn = await session.run("Go.")
    assert turn.value == 1
    assert turn.code == ("finish(1)",)


@pytest.mark.parametrize("option", ["protocol", "grammar"])
def test_what_does_not_exist_is_refused_at_once(option: str) -> None:
    options: dict[str, Any] = {option: "none"}
    with pytest.raises(UnknownNameError, match="there are: "):
        Session(ScriptedModel([]), **options)
