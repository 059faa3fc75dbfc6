"""How fast the turn machine is, and whether its cost grows with history.

`python -m tests.bench.machine` prints a table for people, `--json` ends with one line of JSON:

- step_us: one response and the drain after it, at 10 messages, without projection and without Progress
- step_ratio_10k: the same at 10,000 messages, divided by that at 10
- checkpoint_value_ratio_10k: taking a TurnCheckpoint value at 10,000 messages, divided by that at 10
- encode_10k_ms, decode_10k_ms: a whole TurnCheckpoint of 10,000 messages to JSON text, and back

The two sizes are measured in turns within the same loop, so that a busy machine disturbs both alike; all are medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence

from lash_nb.machine.checkpoints import CheckpointDelivery, CheckpointKind, ResumeAction
from lash_nb.machine.config import TurnMachineConfig
from lash_nb.machine.driver import (
    DriverAction,
    DriverContext,
    StartCheckpoint,
    StartExec,
    WaitingExecView,
    WaitingLlmView,
)
from lash_nb.machine.effects import CheckpointResponse, EffectId, ExecResult
from lash_nb.machine.execution import ExecResponse
from lash_nb.machine.llm import LlmResponse
from lash_nb.machine.messages import Message, MessageRole, Part, PartKind
from lash_nb.machine.projector import ChatProjector
from lash_nb.machine.state import TurnCheckpoint
from lash_nb.machine.tool_calls import CompletedToolCall
from lash_nb.machine.turn import TurnMachine

SMALL, LARGE = 10, 10_000


class Cells:
    """Runs one cell after another; every second step is an empty pause for the host."""

    def prepare_protocol_iteration(self, ctx: DriverContext) -> Sequence[DriverAction]:
        return [StartExec(language="python", code="1 + 1")]

    def handle_llm_success(
        self, ctx: DriverContext, waiting: WaitingLlmView, response: LlmResponse, text_streamed: bool
    ) -> Sequence[DriverAction]:
        raise NotImplementedError("no model is called here")

    def handle_tool_results(
        self, ctx: DriverContext, completed: tuple[CompletedToolCall, ...]
    ) -> Sequence[DriverAction]:
        raise NotImplementedError("no tool is called here")

    def handle_exec_result(
        self, ctx: DriverContext, waiting: WaitingExecView, result: ExecResponse | str
    ) -> Sequence[DriverAction]:
        return [StartCheckpoint(checkpoint=CheckpointKind.AFTER_WORK, on_empty=ResumeAction.PREPARE_ITERATION)]


def machine_with(count: int) -> TurnMachine:
    """A machine in mid-turn with that many messages."""
    roles = (MessageRole.USER, MessageRole.ASSISTANT)
    messages = [
        Message(
            id=f"m{i}",
            role=roles[i % 2],
            parts=(Part(id=f"m{i}.p0", kind=PartKind.TEXT, content=f"Message {i}: some words of ordinary length."),),
        )
        for i in range(count)
    ]
    machine = TurnMachine(TurnMachineConfig(driver=Cells(), projector=ChatProjector(), model="none"), messages)
    drain(machine)
    return machine


def drain(machine: TurnMachine) -> None:
    while machine.poll_effect() is not None:
        pass


def step(machine: TurnMachine) -> None:
    """One response and the drain after it."""
    effect_id = machine.outstanding_effect_id or EffectId(0)
    if effect_id % 2:
        machine.handle_response(ExecResult(id=effect_id, result=ExecResponse()))
    else:
        machine.handle_response(CheckpointResponse(id=effect_id, delivery=CheckpointDelivery()))
    drain(machine)


def medians_us(*actions: Callable[[], object], rounds: int, batch: int) -> list[float]:
    """The median time of one call of each action; the actions take turns."""
    times: list[list[float]] = [[] for _ in actions]
    for _ in range(rounds):
        for action, taken in zip(actions, times, strict=True):
            begun = time.perf_counter_ns()
            for _ in range(batch):
                action()
            taken.append((time.perf_counter_ns() - begun) / batch / 1000)
    return [statistics.median(taken) for taken in times]


def measure(rounds: int) -> dict[str, float]:
    small, large = machine_with(SMALL), machine_with(LARGE)
    step_small, step_large = medians_us(lambda: step(small), lambda: step(large), rounds=rounds * 20, batch=20)
    value_small, value_large = medians_us(small.checkpoint, large.checkpoint, rounds=rounds * 20, batch=50)
    checkpoint = large.checkpoint()
    text = checkpoint.to_text()
    encode_us, decode_us = medians_us(
        checkpoint.to_text, lambda: TurnCheckpoint.from_text(text), rounds=rounds, batch=1
    )
    return {
        "step_us": round(step_small, 3),
        "step_ratio_10k": round(step_large / step_small, 3),
        "checkpoint_value_ratio_10k": round(value_large / value_small, 3),
        "encode_10k_ms": round(encode_us / 1000, 3),
        "decode_10k_ms": round(decode_us / 1000, 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.machine", description="How fast the turn machine is.")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--rounds", type=int, default=25, help="how often to measure; default: %(default)s")
    options = parser.parse_args()
    found = measure(max(1, options.rounds))
    for name, value in found.items():
        print(f"{name:<28} {value:>10.3f}")
    if options.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
