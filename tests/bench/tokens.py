"""How much of each request a provider's prompt cache can serve: `python -m tests.bench.tokens --json`.

A scripted model conducts one turn of 20 iterations on a real kernel: every cell makes variables, changes one and prints
some 2 KB. What the model was asked is then sent, request by request, to a server on loopback in each provider's own
form, and compared there, in blocks: tools, the system prompt, the texts of the messages.

A provider's cache keeps the beginning of a request and serves the next one as far as that begins alike, byte for byte
(OpenAI's and Google's by themselves, Anthropic's up to the last block that is marked). The last message is new each
time and meant to be: what is true now stands there. So what can be cached of a request is what comes before its last
block, and for each pair of neighbouring requests it is measured how much of that the later one repeats:

- cacheable_share: bytes that are repeated, over bytes before the last block, summed over the pairs; the worst dialect
- prefix_broken: pairs, of all dialects, in which not all of it is repeated, or another block than the last but one is
  marked
- read_share: bytes that are repeated, over all bytes that are sent from the second request on: what the cache is worth
- tail_kb, request_kb: the last block, and the last request (the first dialect)

The last line is one JSON object that holds only what was measured.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.llm import LlmRequest, LlmResponse, LlmTerminalReason, TextOutput
from lash_nb.models import CallContext
from lash_nb.models.providers import ProviderModel
from lash_nb.models.scripted import ScriptedModel
from lash_nb.session import Limits, Session
from tests.models.dialects import WIRES
from tests.models.http_server import ModelServer
from tests.models.wires import Wire

ITERATIONS = 20
KEYS = ("ANTHROPIC_API_KEY", "GOOGLE_API_KEY", "OPENAI_API_KEY")
CELL = """Step {n}.
<lash-cell>
step_{n} = list(range({n} * 100))
table_{n} = {{"rows": {n} * 1000, "name": "part {n}", "seen": [k * {n} for k in range(30)]}}
total = sum(len(globals()[f"step_{{k}}"]) for k in range(1, {n} + 1))
for k in range(40):
    print(f"row {{k:3d}}  key {{k * {n}:7d}}  value {{(k + 1) / {n}:12.6f}}  part {n}")
total
</lash-cell>"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One block of a request as it was sent."""

    data: bytes
    marked: bool


async def asked(iterations: int) -> list[tuple[LlmRequest, CallContext]]:
    """What a model is asked in one turn: cells, and an answer at the end."""
    replies = [CELL.format(n=n) for n in range(1, iterations)]
    model = ScriptedModel([*replies, "All parts are there."])
    with tempfile.TemporaryDirectory() as place:
        async with ManagedKernel(cwd=place) as kernel:
            limits = Limits(max_steps=iterations)
            async with Session(model, kernel=kernel, limits=limits, state_dir=place) as session:
                turn = await session.run("Make the parts, and say when all are there.")
    assert turn.ok, turn
    assert len(model.requests) == iterations
    return list(zip(model.requests, model.contexts, strict=True))


async def sent(wire: Wire, requests: Sequence[tuple[LlmRequest, CallContext]]) -> list[list[Block]]:
    """The same as they arrive at a provider."""
    ok = LlmResponse(full_text="ok", parts=(TextOutput(text="ok"),), terminal_reason=LlmTerminalReason.STOP)
    async with ModelServer([wire.answer(ok) for _ in requests]) as server:
        model = ProviderModel(wire.word, "m", base_url=wire.address(server.root))
        try:
            for request, context in requests:
                await model.complete(request, context=context)
        finally:
            await model.aclose()
        return [list(blocks(body)) for body in server.requests]


def blocks(body: Mapping[str, Any]) -> Iterator[Block]:
    """The blocks of a request in the order in which a provider reads them, whatever its dialect."""
    yield from (_block("tool", tool) for tool in body.get("tools", []))
    system = body.get("system") or body.get("systemInstruction", {}).get("parts", [])
    yield from (_block("system", part) for part in system)
    for message in body.get("messages") or body.get("contents") or ():
        content = message.get("content") or message.get("parts")
        parts = content if isinstance(content, list) else [content]
        rest = {name: value for name, value in message.items() if name not in ("content", "parts", "role")}
        yield from (_block(message["role"], part, rest) for part in parts)


def _block(role: str, part: Any, rest: Mapping[str, Any] | None = None) -> Block:
    """A mark is no part of what is compared: it says how far to keep, and is not kept itself."""
    bare = {name: value for name, value in part.items() if name != "cache_control"} if isinstance(part, dict) else part
    data = json.dumps([role, bare, rest or {}], ensure_ascii=False).encode()
    return Block(data=data, marked=isinstance(part, dict) and "cache_control" in part)


def common_bytes(before: Sequence[bytes], after: Sequence[bytes]) -> int:
    """How many bytes two requests have in common at their beginning; within a block, too."""
    left, right = b"\n".join(before), b"\n".join(after)
    if right.startswith(left):
        return len(left)
    differing = (place for place, (one, other) in enumerate(zip(left, right, strict=False)) if one != other)
    return next(differing, len(right))


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Of one dialect, in bytes, summed over the pairs."""

    stable: int
    repeated: int
    sent: int
    broken: int


def measured(requests: Sequence[Sequence[Block]]) -> Measured:
    stable = repeated = total = broken = 0
    for before, after in pairwise(requests):
        kept = [block.data for block in before[:-1]]
        size = len(b"\n".join(kept))
        same = common_bytes(kept, [block.data for block in after])
        marks = [place for place, block in enumerate(before) if block.marked]
        stable, repeated, total = stable + size, repeated + same, total + len(b"\n".join(b.data for b in after))
        broken += same < size or (bool(marks) and marks[-1] != len(before) - 2)
    return Measured(stable=stable, repeated=repeated, sent=total, broken=broken)


def measure(iterations: int) -> dict[str, float]:
    requests = asyncio.run(asked(iterations))
    arrived = {wire.word: asyncio.run(sent(wire, requests)) for wire in WIRES}
    found = {word: measured(bodies) for word, bodies in arrived.items()}
    first = next(iter(arrived.values()))
    return {
        "cacheable_share": round(min(one.repeated / one.stable for one in found.values()), 4),
        "prefix_broken": sum(one.broken for one in found.values()),
        "read_share": round(min(one.repeated / one.sent for one in found.values()), 4),
        "requests": len(requests),
        "tail_kb": round(statistics.median(len(body[-1].data) for body in first) / 1000, 2),
        "request_kb": round(sum(len(block.data) for block in first[-1]) / 1000, 2),
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.tokens", description="What a prompt cache can serve.")
    parser.add_argument("--json", action="store_true", help="print only the JSON line")
    parser.add_argument("--iterations", type=int, default=ITERATIONS, help="default: %(default)s")
    options = parser.parse_args()
    os.environ.update(dict.fromkeys(KEYS, "none"))  # the server takes any
    found = measure(max(2, options.iterations))
    if not options.json:
        for name, value in found.items():
            print(f"{name:<28} {value:>10}")
    print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
