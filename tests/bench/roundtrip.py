"""What a cell costs: `python -m tests.bench.roundtrip --json`.

`round_trip_ratio`: median of `1+1` through `ManagedKernel.run` over the median of the same through a raw blocking
`jupyter_client` on a kernel with default settings; both in this process, in interleaved batches.
`overhead_step_p95_ms`: everything of a step but the model and the user's code; see `overhead_step_p95_ms()`.

The last line is one JSON object that holds only what was measured.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.execution import CellOutcome
from lash_nb.machine.llm import LlmRequest, LlmResponse
from lash_nb.models import CallContext, ModelTraits, OnDelta
from lash_nb.models.scripted import ScriptedModel
from lash_nb.session import Limits, Session

CODE = "1+1"
WARM_UP = 20


@contextmanager
def raw_kernel() -> Iterator[BlockingKernelClient]:
    """A kernel as jupyter_client starts it, and its blocking client."""
    manager: Any = KernelManager()
    manager.start_kernel()
    client: Any = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run_raw(client: Any) -> None:
    """Execute, and read both channels until idle and reply are in."""
    msg_id = client.execute(CODE)
    while True:
        message = client.get_iopub_msg(timeout=30)
        mine = message["parent_header"].get("msg_id") == msg_id
        if mine and message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
            break
    while client.get_shell_msg(timeout=30)["parent_header"].get("msg_id") != msg_id:
        pass


_KEYS = itertools.count()


async def run_managed(kernel: ManagedKernel) -> None:
    result = await kernel.run(f"bench {next(_KEYS)}", CODE)
    assert result.outcome is CellOutcome.OK


async def round_trips(*, rounds: int, batch: int) -> tuple[list[float], list[float]]:
    """Seconds of each run: ours, and raw."""
    ours: list[float] = []
    raw: list[float] = []
    kernel = ManagedKernel()
    await kernel.start()
    try:
        with raw_kernel() as client:
            for _ in range(WARM_UP):
                await run_managed(kernel)
                run_raw(client)
            for _ in range(rounds):
                for _ in range(batch):
                    begun = time.perf_counter()
                    await run_managed(kernel)
                    ours.append(time.perf_counter() - begun)
                for _ in range(batch):
                    begun = time.perf_counter()
                    run_raw(client)
                    raw.append(time.perf_counter() - begun)
    finally:
        await kernel.shutdown()
    return ours, raw


class ClockedModel:
    """A scripted model that notes when each of its calls begins and ends."""

    name = "clocked"

    def __init__(self, replies: list[str]) -> None:
        self._inner = ScriptedModel(replies)
        self.began: list[float] = []
        self.ended: list[float] = []

    def traits(self, *, session: str, turn: int) -> ModelTraits:
        return ModelTraits()

    async def complete(
        self, request: LlmRequest, *, context: CallContext, on_delta: OnDelta | None = None
    ) -> LlmResponse:
        self.began.append(time.perf_counter())
        response = await self._inner.complete(request, context=context, on_delta=on_delta)
        self.ended.append(time.perf_counter())
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


async def overhead_steps(*, turns: int = 4, steps: int = 25) -> list[float]:
    """Seconds between the end of one model call and the beginning of the next, over turns of a growing session.

    The cell is `x = 1`: what is measured is parsing, the kernel's round trip, the sync, the record of the turn after
    every effect, and the projection of the next request.
    """
    reply = "One more.\n<lash-cell>\nx = 1\n</lash-cell>"
    model = ClockedModel(([reply] * steps + ["Done."]) * turns)
    gaps: list[float] = []
    async with Session(model, limits=Limits(max_steps=None), on_block=lambda block, final: None) as session:
        for _ in range(turns):
            first = len(model.began)
            await session.run("Count.")
            gaps += [
                began - ended for ended, began in zip(model.ended[first:-1], model.began[first + 1 :], strict=True)
            ]
    return gaps


def overhead_step_p95_ms() -> float:
    """The 95th percentile over the steps of scripted turns, in milliseconds."""
    gaps = asyncio.run(overhead_steps())
    return statistics.quantiles(gaps, n=20)[-1] * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--batch", type=int, default=25)
    options = parser.parse_args()
    ours, raw = asyncio.run(round_trips(rounds=options.rounds, batch=options.batch))
    figures = {
        "round_trip_ratio": round(statistics.median(ours) / statistics.median(raw), 3),
        "round_trip_ms": round(statistics.median(ours) * 1e3, 3),
        "raw_round_trip_ms": round(statistics.median(raw) * 1e3, 3),
        "overhead_step_p95_ms": round(overhead_step_p95_ms(), 3),
    }
    if not options.json:
        print(f"{len(ours)} cells each; medians {figures['round_trip_ms']} ms, raw {figures['raw_round_trip_ms']} ms")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
