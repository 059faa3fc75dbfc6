"""What it costs to record a session, and whether that grows with history: `python -m tests.bench.journal --json`.

A durable step is all that is recorded of one iteration: the effects SyncExecutionEnvironment, LlmCall, ExecCode and
Checkpoint, each asked and answered, by the recorder of a session into its journal, synced to the disk. The machine and
the code protocol play a real turn beside it; they, the projection, the model and the kernel are not in the times.

- step_time_ratio_10k, step_bytes_ratio_10k: a step at 10,000 messages over one at 10; step_ratio_10k is the larger
- step_cpu_ratio_10k: the same without the time that is spent in fdatasync
- step_ms_10, step_ms_10k, step_bytes_10, step_bytes_10k: what a step takes, and adds to the file
- fsync_share: the part of a step at 10,000 messages that is spent in fdatasync
- vs_full_checkpoint: encoding the TurnCheckpoint of 10,000 messages (nothing is written) over recording one effect
  there, with its sync; vs_full_checkpoint_cpu: without it

The sizes take turns, so that a busy machine and a slow disk disturb both alike; all are medians. The file is below the
temporary directory (`TMPDIR`): on one that is in memory, the ratios are those of the work alone.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lash_nb.asked import Asked
from lash_nb.machine.checkpoints import CheckpointDelivery
from lash_nb.machine.config import TurnMachineConfig
from lash_nb.machine.driver import CheckedDriver
from lash_nb.machine.effects import (
    Checkpoint,
    CheckpointResponse,
    Emit,
    ExecCode,
    ExecResult,
    ExecutionEnvironmentSynced,
    LlmCall,
    LlmComplete,
    Response,
    SyncExecutionEnvironment,
    WaitingEffect,
)
from lash_nb.machine.execution import ExecResponse, NamespaceSummary, VariableSummary
from lash_nb.machine.llm import LlmResponse, LlmTerminalReason
from lash_nb.machine.messages import AppendOnly, Message, MessageRole, Part, PartKind
from lash_nb.machine.state import TurnCheckpoint
from lash_nb.machine.turn import TurnMachine
from lash_nb.protocols.code import CODE_TURN_PROTOCOL, CodeProtocol
from lash_nb.recording import SessionRecorder
from lash_nb.turn_recorder import TurnRecorder

SMALL, LARGE = 10, 10_000
STEPS = 10
"""Of one turn: at the small size the history must stay small."""
KINDS = (SyncExecutionEnvironment, LlmCall, ExecCode, Checkpoint)

_KNOWN = NamespaceSummary(variables=tuple(VariableSummary(name=f"table_{n}", type="DataFrame") for n in range(5)))
_CODE = "print(table_0.head(), table_0.isna().sum())"
_REPLY = f"I look at the first rows, and count what is missing.\n<lash-cell>\n{_CODE}\n</lash-cell>"
_OUTPUT = "".join(f"{row}  zone-{row}  {row * 7 % 24}\n" for row in range(40))


class Syncs:
    """How long this process has spent in fdatasync; seconds."""

    def __init__(self) -> None:
        self.spent = 0.0
        self._sync = os.fdatasync

    def __enter__(self) -> Syncs:
        os.fdatasync = self._timed
        return self

    def __exit__(self, *exc: object) -> None:
        os.fdatasync = self._sync

    def _timed(self, fd: Any) -> None:
        begun = time.perf_counter()
        self._sync(fd)
        self.spent += time.perf_counter() - begun


@dataclass(slots=True)
class Taken:
    """What was measured at one size."""

    steps: list[float] = field(default_factory=list)
    synced: list[float] = field(default_factory=list)
    size: list[int] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)
    asked_synced: list[float] = field(default_factory=list)


class RecordedTurnOf:
    """A turn behind that many messages, with the recorder of its session."""

    def __init__(self, state_dir: Path, count: int, syncs: Syncs, taken: Taken) -> None:
        self._syncs = syncs
        self._taken = taken
        self._session = SessionRecorder(state_dir, f"of-{count}-{len(taken.steps)}", label="1")
        asked = Asked(text="What is missing?", model="none", protocol="code")
        self._session.open()
        self._session.begin(1, asked)
        self._log = TurnRecorder(self._session, 1, asked)
        self._protocol = CodeProtocol(turn_id="t1")
        config = TurnMachineConfig(
            driver=CheckedDriver(self._protocol.driver),
            projector=self._protocol.projector,
            protocol=CODE_TURN_PROTOCOL,
            model="none",
            sync_execution_environment=True,
            system_prompt=self._protocol.system_prompt,
            session_id="bench",
            emit_llm_trace=True,
            termination=self._protocol.termination,
            turn_limit_final_message=self._protocol.turn_limit_message,
        )
        self._machine = TurnMachine(config, history(count))

    async def step(self) -> None:
        """One iteration; what is recorded of it is measured."""
        spent, synced, before = 0.0, self._syncs.spent, self._size()
        for kind in KINDS:
            effect = self._next()
            assert isinstance(effect, kind)
            checkpoint = self._machine.checkpoint()
            before_asked = self._syncs.spent
            took = await timed(self._log.asked(effect, checkpoint))
            if kind is ExecCode:
                self._taken.asked.append(took)
                self._taken.asked_synced.append(self._syncs.spent - before_asked)
            response = self._response(effect)
            spent += took + await timed(self._log.answered(response))
            self._machine.handle_response(response)
        self._taken.steps.append(spent)
        self._taken.synced.append(self._syncs.spent - synced)
        self._taken.size.append(self._size() - before)

    @property
    def checkpoint(self) -> TurnCheckpoint:
        return self._machine.checkpoint()

    def close(self) -> None:
        self._session.close()

    def _size(self) -> int:
        return sum(file.stat().st_size for file in self._session.directory.glob("*.journal"))

    def _next(self) -> WaitingEffect:
        waiting: WaitingEffect | None = None
        while (effect := self._machine.poll_effect()) is not None:
            if isinstance(effect, Emit):
                self._log.told(effect.event)
            elif isinstance(effect, KINDS):
                waiting = effect
        assert waiting is not None
        return waiting

    def _response(self, effect: WaitingEffect) -> Response:
        match effect:
            case SyncExecutionEnvironment():
                self._log.looked(_KNOWN)
                self._protocol.set_volatile([], namespace=_KNOWN)
                return ExecutionEnvironmentSynced(id=effect.id, result=None)
            case LlmCall():
                reply = LlmResponse(full_text=_REPLY, terminal_reason=LlmTerminalReason.STOP)
                return LlmComplete(id=effect.id, result=reply, text_streamed=True)
            case ExecCode():
                return ExecResult(id=effect.id, result=ExecResponse(observations=(_OUTPUT,)))
            case _:
                return CheckpointResponse(id=effect.id, delivery=CheckpointDelivery())


async def timed(work: Awaitable[None]) -> float:
    """Seconds that it takes."""
    begun = time.perf_counter()
    await work
    return time.perf_counter() - begun


def history(count: int) -> AppendOnly[Message]:
    """A conversation of that many messages."""
    roles = (MessageRole.USER, MessageRole.ASSISTANT)
    return AppendOnly(
        Message(
            id=f"m{i}",
            role=roles[i % 2],
            parts=(Part(id=f"m{i}.p0", kind=PartKind.TEXT, content=f"Message {i}: some words of ordinary length."),),
        )
        for i in range(count)
    )


async def measure(rounds: int) -> dict[str, float]:
    small, large = Taken(), Taken()
    full: list[float] = []
    with tempfile.TemporaryDirectory(prefix="lash-nb-bench-") as directory, Syncs() as syncs:
        for number in range(rounds):
            state_dir = Path(directory) / str(number)
            turns = [RecordedTurnOf(state_dir, size, syncs, taken) for size, taken in ((SMALL, small), (LARGE, large))]
            for step in range(STEPS + 1):
                for turn, taken in zip(turns, (small, large), strict=True):
                    await turn.step()
                    if step == 0:  # the first one brings the history itself
                        for values in (taken.steps, taken.synced, taken.size, taken.asked, taken.asked_synced):
                            values.pop()
            begun = time.perf_counter()
            turns[1].checkpoint.to_text(CODE_TURN_PROTOCOL)
            full.append(time.perf_counter() - begun)
            for turn in turns:
                turn.close()
    return figures(small, large, statistics.median(full))


def figures(small: Taken, large: Taken, full: float) -> dict[str, float]:
    time_ratio = statistics.median(large.steps) / statistics.median(small.steps)
    bytes_ratio = statistics.median(large.size) / statistics.median(small.size)
    cpu = [
        statistics.median(spent - synced for spent, synced in zip(taken.steps, taken.synced, strict=True))
        for taken in (small, large)
    ]
    asked = statistics.median(large.asked)
    asked_cpu = statistics.median(spent - synced for spent, synced in zip(large.asked, large.asked_synced, strict=True))
    return {
        "step_ratio_10k": round(max(time_ratio, bytes_ratio), 3),
        "step_time_ratio_10k": round(time_ratio, 3),
        "step_bytes_ratio_10k": round(bytes_ratio, 3),
        "step_cpu_ratio_10k": round(cpu[1] / cpu[0], 3),
        "step_ms_10": round(statistics.median(small.steps) * 1000, 3),
        "step_ms_10k": round(statistics.median(large.steps) * 1000, 3),
        "step_bytes_10": statistics.median(small.size),
        "step_bytes_10k": statistics.median(large.size),
        "fsync_share": round(sum(large.synced) / sum(large.steps), 3),
        "vs_full_checkpoint": round(full / asked, 3),
        "vs_full_checkpoint_cpu": round(full / asked_cpu, 3),
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.journal", description="What recording a session costs, step by step."
    )
    parser.add_argument("--json", action="store_true", help="end with one line of JSON")
    parser.add_argument("--rounds", type=int, default=20, help=f"turns of {STEPS} steps at each size; default: 20")
    options = parser.parse_args()
    found = asyncio.run(measure(max(1, options.rounds)))
    for name, value in found.items():
        print(f"{name:<28} {value:>10.3f}")
    if options.json:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
