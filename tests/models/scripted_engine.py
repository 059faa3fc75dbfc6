"""An engine that says what it was told to say, in the chunks that llama.cpp would send."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from lash_nb.machine.llm import LlmResponse, LlmTerminalReason, ReasoningOutput, TextOutput
from lash_nb.models._engine import Chunk, EnginePool, EngineSpec, OnChunk
from lash_nb.models.local import LocalModel

__all__ = ["Place", "ScriptedEngine", "chunks_of", "spec", "text_chunk"]

Stream = Sequence[Chunk] | Callable[[OnChunk], None]
_FINISH = {LlmTerminalReason.TOOL_USE: "tool_calls", LlmTerminalReason.OUTPUT_LIMIT: "length"}


def spec(path: Path = Path("model.gguf")) -> EngineSpec:
    return EngineSpec(path=path, n_ctx=4096, threads=1)


class ScriptedEngine:
    """Answers from a script, one entry a call; an entry may be a function that is given on_chunk."""

    def __init__(self, streams: Sequence[Stream]) -> None:
        self.bodies: list[Mapping[str, Any]] = []
        self.threads: list[str] = []
        self.stopped = 0
        self.closed = 0
        self._streams = list(streams)

    def stream(self, body: Mapping[str, Any], on_chunk: OnChunk) -> None:
        self.bodies.append(body)
        self.threads.append(threading.current_thread().name)
        stream = self._streams.pop(0)
        if callable(stream):
            stream(on_chunk)
            return
        for chunk in stream:
            if on_chunk(chunk):
                self.stopped += 1
                return

    def close(self) -> None:
        self.closed += 1


class Place:
    """Models over scripted engines; `engines` and `specs` hold what was loaded."""

    def __init__(self) -> None:
        self.engines: list[ScriptedEngine] = []
        self.specs: list[EngineSpec] = []
        self.models: list[LocalModel] = []
        self.streams: list[Stream] = []
        self.loading = threading.Event()
        """A load has begun."""
        self.go_on = threading.Event()
        """A load may end; set unless `hold_load` was called."""
        self.go_on.set()
        self.pool = EnginePool(self._load)

    def _load(self, wanted: EngineSpec) -> ScriptedEngine:
        self.specs.append(wanted)
        self.loading.set()
        self.go_on.wait()
        engine = ScriptedEngine(self.streams)
        self.engines.append(engine)
        return engine

    def hold_load(self) -> None:
        """From now on an engine is loaded only when `go_on` is set."""
        self.go_on.clear()

    def model(self, *streams: Stream, wanted: EngineSpec | None = None) -> LocalModel:
        if streams:
            self.streams = list(streams)
        model = LocalModel(wanted or spec(), pool=self.pool)
        self.models.append(model)
        return model

    async def open(self, responses: Sequence[LlmResponse]) -> LocalModel:
        return self.model(*(tuple(chunks_of(response)) for response in responses))

    async def close(self) -> None:
        self.go_on.set()
        for model in self.models:
            await model.aclose()


def text_chunk(text: str, *, finish: str | None = None) -> Chunk:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": finish}]}


def chunks_of(response: LlmResponse) -> Iterator[Chunk]:
    """A response as chunks of three characters, its usage at the end."""
    yield {"choices": [{"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}]}
    for index, part in enumerate(response.parts):
        text = part.text if isinstance(part, (TextOutput, ReasoningOutput)) else part.input_json
        for start in range(0, len(text), 3):
            new = text[start : start + 3]
            delta: dict[str, Any]
            if isinstance(part, TextOutput):
                delta = {"content": new}
            elif isinstance(part, ReasoningOutput):
                delta = {"reasoning_content": new}
            else:
                function = {"arguments": new} | ({} if start else {"name": part.tool_name})
                delta = {
                    "tool_calls": [{"index": index, "function": function} | ({} if start else {"id": part.call_id})]
                }
            yield {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    finish = _FINISH.get(response.terminal_reason, "stop")
    yield {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]}
    usage = response.usage
    yield {
        "choices": [],
        "usage": {
            "prompt_tokens": usage.input_tokens + usage.cache_read_input_tokens,
            "completion_tokens": usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cache_read_input_tokens},
            "completion_tokens_details": {"reasoning_tokens": usage.reasoning_output_tokens},
        },
    }
