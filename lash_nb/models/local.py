"""A model on this machine: `local` (the pinned small one) and `local:PATH.gguf` (the user's own file).

What is decided here: nothing is loaded before the first call or `warm_up`, and then in the engine's own thread;
sessions share one engine a file (`_engine`). A call that is cancelled or has had enough stops the engine at its next
token, or its next batch of the prompt, and is over only then; one that is cancelled while the weights load is over at
once, and the load goes on without it. `max(1, cores - 1)` threads, because the spin barriers of more collapse as
soon as a kernel is busy beside them (measured: 0.8 tokens a second instead of 11); LASH_NB_THREADS overrides. The
pinned file is hashed each time it is loaded. Nothing leaves this machine. Imports the contract, `weights`, `machine`
and `errors`; xllamacpp only inside functions.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..errors import InputError, LashError, MissingExtraError, ModelCallError
from ..machine.llm import (
    LlmCallError,
    LlmRequest,
    LlmResponse,
    LlmTerminalReason,
    ProviderFailureKind,
    TextOutput,
)
from . import CallContext, ModelTraits, OnDelta, Opening
from ._engine import ENGINES, Chunk, Engine, EnginePool, EngineSpec, Lease
from ._gguf import OTHER_FILE, trained_context
from ._llama_chat import FINISH, Written, failure_of, to_body
from .weights import GGUF_VARIABLE, find_weights, verify

__all__ = ["THREADS_VARIABLE", "LocalModel", "open_local", "own_spec", "threads"]

THREADS_VARIABLE = "LASH_NB_THREADS"
_CONTEXT = 4_096
"""Enough for the snippet protocol, and cheap: 48 MB."""
_MOST_CONTEXT = 16_384
_MAX_TOKENS = 512
_MAX_TOKENS_OWN = 2_048
_WAIT_FOR_END_S = 5.0
"""How long a cancelled call waits for the engine; one batch of the prompt is well below."""


def open_local(opening: Opening) -> LocalModel:
    """The model of `local` or `local:PATH.gguf`; no weights are read yet.

    Raises: MissingExtraError without xllamacpp; WeightsError when there is no file, or when it is no GGUF file;
    InputError for a LASH_NB_THREADS that is no number.
    """
    if find_spec("xllamacpp") is None:
        raise MissingExtraError("`local` needs one more package: pip install 'lash-nb[local]'")
    count = threads(opening.env)
    if opening.argument:
        path = (opening.base_dir / Path(opening.argument).expanduser()).resolve()
        return LocalModel(own_spec(path, count), name=f"local:{opening.argument}", max_tokens=_MAX_TOKENS_OWN)
    weights = find_weights(opening.env)
    if not weights.pinned:
        spec = own_spec(weights.path, count, instead=f"correct {GGUF_VARIABLE}, or unset it")
        return LocalModel(spec, name="local", max_tokens=_MAX_TOKENS_OWN)
    spec = EngineSpec(path=weights.path, n_ctx=_CONTEXT, threads=count, check=verify)
    return LocalModel(spec, name="local")


def own_spec(path: Path, count: int, *, instead: str = OTHER_FILE) -> EngineSpec:
    """How a file of the user's own is loaded; `instead` says what to do about one that cannot be.

    Raises: WeightsError when it is no GGUF file.
    """
    trained = trained_context(path, instead=instead)
    return EngineSpec(path=path, n_ctx=min(trained or _CONTEXT, _MOST_CONTEXT), threads=count)


def threads(env: Mapping[str, str]) -> int:
    """How many threads an engine gets. Raises: InputError when the variable is no positive number."""
    given = env.get(THREADS_VARIABLE, "").strip()
    if given:
        if not (given.isascii() and given.isdigit() and int(given) > 0):
            raise InputError(f"{THREADS_VARIABLE}={given!r} is not a number of threads (1, 2, …)")
        return int(given)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores - 1)


class LocalModel:
    """A GGUF file in this process. Calls queue up; `aclose` unloads it when no other session uses it."""

    def __init__(
        self, spec: EngineSpec, *, name: str = "local", max_tokens: int = _MAX_TOKENS, pool: EnginePool = ENGINES
    ) -> None:
        self.name = name
        self._spec = spec
        self._max_tokens = max_tokens
        self._pool = pool
        self._lease: Lease | None = None
        self._closed = False
        self._guard = threading.Lock()

    def traits(self, *, session: str, turn: int) -> ModelTraits:
        """Small models do one cell a request, and see no images."""
        return ModelTraits(protocol="snippet", vision=False)

    async def complete(
        self, request: LlmRequest, *, context: CallContext, on_delta: OnDelta | None = None
    ) -> LlmResponse:
        """The model's answer.

        Raises: ModelCallError; WeightsError when the file cannot be loaded or is not the pinned one; CancelledError,
        with the engine stopped.
        """
        body = to_body(request, context.sampling, max_tokens=self._max_tokens)
        call = _Call(asyncio.get_running_loop(), on_delta)
        with self._guard:
            work = self._held().run(lambda engine: call.run(engine, body), wanted=lambda: not call.stop.is_set())
        ended = asyncio.wrap_future(work)
        try:
            await asyncio.shield(ended)
        except asyncio.CancelledError:
            call.stop.set()
            await _over(call, work, ended)
            raise
        except LashError:
            raise
        except Exception as error:
            raise ModelCallError(_broken(self.name, str(error) or type(error).__name__, call)) from error
        return call.answer(self.name)

    def warm_up(self) -> None:
        """Begin to load the weights in the background; nothing when they are loaded, or when this model was closed.

        What goes wrong is said by the first call, which tries again.
        """
        with self._guard:
            if not self._closed:
                self._held().warm_up()

    def _held(self) -> Lease:
        """The right to the engine; with the guard held."""
        self._closed = False
        if self._lease is None or self._lease.process != os.getpid():
            self._lease = self._pool.lease(self._spec)
        return self._lease

    async def aclose(self) -> None:
        """Lets go of the engine; the last session to do so waits until its memory is given back."""
        with self._guard:
            lease, self._lease, self._closed = self._lease, None, True
        if lease is None or lease.process != os.getpid():
            return
        gone = lease.close()
        if gone is not None:
            await asyncio.wait([asyncio.wrap_future(gone)], timeout=_WAIT_FOR_END_S)


class _Call:
    """One call: chunks come in the engine's thread, and count once the caller's loop has seen them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, on_delta: OnDelta | None) -> None:
        self.stop = threading.Event()
        self.begun = False
        """The engine has it: it is loaded, and the call's turn has come."""
        self._loop = loop
        self._on_delta = on_delta
        self._written = Written()
        self._enough = False
        self._raised: BaseException | None = None

    def run(self, engine: Engine, body: Mapping[str, Any]) -> None:
        """In the engine's thread."""
        self.begun = True  # before it asks: whoever sets `stop` and sees no beginning knows that there will be none
        if not self.stop.is_set():
            engine.stream(body, self.on_chunk)

    def on_chunk(self, chunk: Chunk) -> bool:
        """In the engine's thread."""
        if not self.stop.is_set():
            try:
                self._loop.call_soon_threadsafe(self._take, chunk)
            except RuntimeError:  # the caller's loop was closed: nobody waits any more
                self.stop.set()
        return self.stop.is_set()

    def _take(self, chunk: Chunk) -> None:
        """On the caller's loop."""
        if self.stop.is_set():
            return
        try:
            for delta in self._written.take(chunk):
                if self._on_delta is not None and self._on_delta(delta):
                    self._enough = True
                    self.stop.set()
                    return
        except BaseException as error:  # raised again by complete(), once the engine has stopped
            self._raised = error
            self.stop.set()

    def answer(self, name: str) -> LlmResponse:
        """What came of it. Raises: what on_delta raised; ModelCallError."""
        if self._raised is not None:
            raise self._raised
        written = self._written
        if self._enough:
            return self.response(LlmTerminalReason.STOP)
        if written.error is not None:
            raise ModelCallError(failure_of(written.error, name))
        if written.finish is None:
            raise ModelCallError(_broken(name, "the engine stopped before the answer's end", self))
        reason = FINISH.get(written.finish, LlmTerminalReason.UNKNOWN)
        return self.response(reason, diagnostic=None if written.finish in FINISH else written.finish)

    def response(self, reason: LlmTerminalReason, *, diagnostic: str | None = None) -> LlmResponse:
        """What was written, as a response."""
        parts = self._written.parts(whole=not self._enough)
        return LlmResponse(
            full_text="".join(part.text for part in parts if isinstance(part, TextOutput)),
            parts=parts,
            usage=self._written.usage,
            terminal_reason=reason,
            terminal_diagnostic=diagnostic,
        )


def _broken(name: str, problem: str, call: _Call) -> LlmCallError:
    partial = call.response(LlmTerminalReason.PROVIDER_ERROR)
    return LlmCallError(
        message=f"{name}: {problem}",
        retryable=False,
        kind=ProviderFailureKind.STREAM,
        terminal_reason=LlmTerminalReason.PROVIDER_ERROR,
        partial_response=partial if partial.parts else None,
    )


async def _over(call: _Call, work: Future[None], ended: asyncio.Future[None]) -> None:
    """Wait, bounded, until the engine is done with a call that was stopped; not for one that it has not begun."""
    if work.cancel():
        return
    try:
        if call.begun:
            await asyncio.wait([ended], timeout=_WAIT_FOR_END_S)
    finally:
        # Nobody asks for its result any more, and its loop may be closed before it comes.
        if not ended.cancel() and not ended.cancelled():
            ended.exception()
