"""What a long turn costs its live view: `python -m tests.bench.view --json`.

A turn of words, code and a printing cell streams `--mb` megabytes, in deltas as providers and kernels send them,
through a real TurnView. Its comm keeps what would go to the frontend, as JSON. The clock is simulated, the rates are
not: words come 40 times a second, outputs ten times, the view is ticked 20 times.

- updates_per_s: the most messages in any second; updates_per_s_mean: over the whole turn
- bytes_ratio: bytes sent, the widget's opening included, over bytes streamed
- drawn_ok: the differences, applied one after the other, give the document of the last picture
- draw_ms: what one drawing took, in the mean
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

import comm

from lash_nb.machine.activity import CellOutputs, CodeBlockCompleted, CodeBlockStarted, CodeDelta, TurnStarted
from lash_nb.machine.events import LlmRequestEvent, MessageEvent, TextDelta, TurnActivity
from lash_nb.machine.execution import CellOutcome, StreamOutput
from lash_nb.machine.picture import TurnPicture
from lash_nb.views import ViewActions
from lash_nb.views.document import Facts, document
from lash_nb.views.widget import TurnView
from tests.views.replay import Replay

STEPS = 40
TICK_S, WORDS_S, OUTPUT_S = 0.05, 0.025, 0.1
WORD_CHARS, OUTPUT_CHARS = 60, 2_000
HEAD, TAIL = 20_000, 10_000
"""What a kernel keeps of a stream."""

_SENTENCE = "The **north** sells least, by a margin of “12 %”; I look at `sales` next.\n\n"
_CODE = "for name, rows in sales.groupby('region'):  # each of them\n    print(f'{name}: {rows.sold.sum()}')\n"
_LINE = "region {:06} sold 42 of 1000 pieces, é\n"


class Wire(comm.base_comm.BaseComm):  # type: ignore[misc,unused-ignore]
    """A comm that hands on what the kernel sends."""

    heard: Callable[[str, str], None]

    def publish_msg(
        self, msg_type: str, data: Any = None, metadata: Any = None, buffers: Any = None, **keys: Any
    ) -> None:
        size = sum(memoryview(one).nbytes for one in buffers or ())
        assert size == 0  # nothing of ours is binary
        # As jupyter_client packs it.
        type(self).heard(msg_type, json.dumps(data, ensure_ascii=False, allow_nan=False))


class Frontend:
    """What arrives, when, and what is drawn of it."""

    def __init__(self) -> None:
        self.now, self.sent = 0.0, 0
        self.moments: list[float] = []
        self.replay = Replay()

    def hear(self, kind: str, packed: str) -> None:
        self.sent += len(packed.encode())
        data = json.loads(packed)
        if kind == "comm_close" or data.get("state", {}).get("_model_name") == "LayoutModel":
            return
        self.moments.append(self.now)
        if kind == "comm_open" or data["method"] == "update":
            self.replay.take(data["state"]["document"])
        else:
            self.replay.hear(data["content"])

    @property
    def most_in_a_second(self) -> int:
        return max(sum(begin <= one < begin + 1 for one in self.moments) for begin in self.moments)


def streamed(text: str, size: int, chars: int) -> Iterator[str]:
    """A text again and again, up to that many bytes, in deltas of so many characters."""
    source, sent = cycle(text), 0
    while sent < size:
        delta = "".join(next(source) for _ in range(chars))
        sent += len(delta.encode())
        yield delta


def happened(size: int) -> Iterator[tuple[float, int, TurnActivity]]:
    """`(seconds until then, bytes, what happened)`: a third words, a third code, a third outputs."""
    each = size // (3 * STEPS)
    yield 0, 0, TurnStarted(turn=1, request="Which region sells least?", model="none")
    for number in range(1, STEPS + 1):
        yield 1, 0, LlmRequestEvent(protocol_iteration=number, message_count=1, tool_list="")
        for delta in streamed(_SENTENCE, each, WORD_CHARS):
            yield WORDS_S, len(delta.encode()), TextDelta(content=delta)
        code = ""
        for delta in streamed(_CODE, each, WORD_CHARS):
            code += delta
            yield WORDS_S, len(delta.encode()), CodeDelta(content=delta)
        yield 0, 0, MessageEvent(text=code, kind="python_code")
        yield 0, 0, CodeBlockStarted(effect_id=number, language="python", code=code)
        printed = ""
        lines = 0
        while len(printed.encode()) < each:
            before = len(printed.encode())
            for _ in range(OUTPUT_CHARS // len(_LINE)):
                printed += _LINE.format(lines)
                lines += 1
            yield OUTPUT_S, len(printed.encode()) - before, CellOutputs(effect_id=number, outputs=(kept(printed),))
        done = CellOutcome.OK
        yield 0, 0, CodeBlockCompleted(effect_id=number, outcome=done, outputs=(kept(printed),), duration_ms=1)


def kept(printed: str) -> StreamOutput:
    """A stream as it leaves a kernel."""
    if len(printed) <= HEAD + TAIL:
        return StreamOutput(name="stdout", head=printed)
    head, left, tail = printed[:HEAD], printed[HEAD:-TAIL], printed[-TAIL:]
    lines = left.count("\n")
    return StreamOutput(name="stdout", head=head, tail=tail, omitted_chars=len(left), omitted_lines=lines)


def measured(size: int) -> dict[str, Any]:
    """One turn of so many bytes."""
    frontend = Frontend()
    Wire.heard = staticmethod(frontend.hear)
    comm.create_comm = Wire
    actions = ViewActions(stop=lambda: None, decide=lambda key, decision: True, say=lambda text: None)
    view = TurnView(actions=actions, publish=lambda data, *, display_id, update: None, clock=lambda: frontend.now)
    picture, bytes_streamed, ticked, spent = TurnPicture(), 0, 0.0, 0.0
    for waited, size_of, activity in happened(size):
        frontend.now += waited
        bytes_streamed += size_of
        picture = picture.apply(activity)
        begun = time.perf_counter()
        view.show(picture)
        spent += time.perf_counter() - begun
        while ticked + TICK_S <= frontend.now:
            ticked += TICK_S
            view.tick()
    view.finish(picture)
    return {
        "updates_per_s": frontend.most_in_a_second,
        "updates_per_s_mean": round(len(frontend.moments) / frontend.now, 2),
        "bytes_ratio": round(frontend.sent / bytes_streamed, 2),
        "drawn_ok": frontend.replay.flat == list(with_values(picture)),
        "draw_ms": round(spent / len(frontend.moments) * 1000, 2),
        "mb": round(bytes_streamed / 1e6, 2),
        "seconds": round(frontend.now),
    }


def with_values(picture: TurnPicture) -> Iterator[tuple[str, dict[str, Any]]]:
    for key, fields in document(picture, Facts()).items():
        yield key, {name: value for name, value in fields.items() if value is not None}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.view")
    parser.add_argument("--json", action="store_true", help="the figures as the last line")
    parser.add_argument("--mb", type=float, default=1.0, help="how much is streamed (default: 1)")
    given = parser.parse_args(arguments)
    found = measured(round(given.mb * 1_000_000))
    if not given.json:
        for name, value in found.items():
            print(f"{name:20} {value}")
    else:
        print(json.dumps(found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
