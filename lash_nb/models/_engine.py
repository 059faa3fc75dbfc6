"""The engine of local models: llama.cpp in this process through xllamacpp, one for each file, shared by sessions.

What is decided here: an engine is loaded at its first call, or when it is warmed up, by the one thread that all its
calls run in, so calls queue up; it is not loaded for a task that nobody waits for any more; it is given back when
nobody holds it any more, and the memory with it. xllamacpp always brings up its HTTP
server: it listens on a Unix socket whose name is removed at once, so nobody can reach it (where there are no Unix
sockets: on the loopback address, with a random key). Everything that xllamacpp raises leaves here as a WeightsError.
Nothing is printed. Imports `errors` only; xllamacpp only inside functions.
"""

from __future__ import annotations

import ctypes
import gc
import os
import secrets
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, TypeVar

from ..errors import WeightsError

__all__ = ["ENGINES", "Chunk", "Engine", "EnginePool", "EngineSpec", "Lease", "OnChunk", "XllamaEngine"]

T = TypeVar("T")

Chunk: TypeAlias = Mapping[str, Any]
"""One event of a stream, in the form of OpenAI's endpoints, as llama.cpp sends it."""
OnChunk: TypeAlias = Callable[[Chunk], bool]
"""Called in the engine's thread; True = stop."""

_MAX_SOCKET_PATH = 100
"""The kernel allows 108 bytes on Linux, 104 on macOS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSpec:
    """What an engine is loaded with; equal specs share one engine."""

    path: Path
    n_ctx: int
    """Tokens of prompt and answer together."""
    threads: int
    n_batch: int = 64
    """Prompt tokens read at once: between two batches a call can be stopped."""
    check: Callable[[Path], object] | None = None
    """Called with the path before it is loaded; raises when the file is not what it should be."""


class Engine(Protocol):
    """Answers one call at a time, blocking its thread."""

    def stream(self, body: Mapping[str, Any], on_chunk: OnChunk) -> None:
        """Run one request (`prompt` or `messages`, and sampling) until its end, or until on_chunk says stop."""

    def close(self) -> None:
        """Give the memory back."""


class XllamaEngine:
    """llama.cpp on one GGUF file. Raises: WeightsError when the file cannot be loaded."""

    def __init__(self, spec: EngineSpec) -> None:
        try:
            import xllamacpp
        except ImportError as error:
            raise WeightsError(
                f"xllamacpp, which runs local models, cannot be imported ({error}): "
                "pip install --force-reinstall xllamacpp"
            ) from error

        params = xllamacpp.CommonParams()
        params.model.path = str(spec.path)
        params.n_ctx = spec.n_ctx
        params.n_batch = params.n_ubatch = spec.n_batch
        params.n_parallel = 1
        params.n_threads_http = 1
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = spec.threads
        params.warmup = False
        params.verbosity = 0
        params.cache_ram_mib = 0  # else it keeps prompts of up to 8 GB
        params.api_keys = [secrets.token_urlsafe(32)]
        params.endpoint_slots = params.endpoint_metrics = False
        with _private_socket() as address:
            if address is not None:
                params.hostnames = [address]
            try:
                self._server: Any = xllamacpp.Server(params)
            except Exception as error:
                raise WeightsError(
                    f"{spec.path} could not be loaded ({error}): is it a whole GGUF file of a text model, and is there "
                    f"memory for it ({spec.path.stat().st_size / 1e6:,.0f} MB)?"
                ) from error
        self.address: str = self._server.listening_address
        """Where the engine's own server listens: `unix://…` (a name that is gone), or `http://127.0.0.1:PORT`."""

    def stream(self, body: Mapping[str, Any], on_chunk: OnChunk) -> None:
        """Run one request; what on_chunk gets is what llama.cpp's server would send as events."""
        raw = "prompt" in body
        handle = self._server.handle_completions if raw else self._server.handle_chat_completions
        handle({**body, "stream": True}, on_chunk)

    def close(self) -> None:
        """Unload the model; what the C library keeps for later is given back to the system too (on Linux)."""
        self._server = None
        gc.collect()
        if sys.platform == "linux":
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
            if trim is not None:
                trim(0)


@contextmanager
def _private_socket() -> Iterator[str | None]:
    """A name for a socket that only this user could reach, and nobody any more when the context ends; None where
    there are no such sockets."""
    if sys.platform == "win32":
        yield None
        return
    with tempfile.TemporaryDirectory(prefix="lash_nb-", ignore_cleanup_errors=True) as directory:
        address = f"{directory}/engine.sock"
        yield address if len(os.fsencode(address)) <= _MAX_SOCKET_PATH else None


class _Shared:
    """One engine, or the place for it."""

    def __init__(self, spec: EngineSpec, load: Callable[[EngineSpec], Engine]) -> None:
        self.users = 0
        self.executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="lash_nb-local")
        self._spec = spec
        self._load = load
        self._engine: Engine | None = None

    def run(self, task: Callable[[Engine], T], wanted: Callable[[], bool]) -> T | None:
        """In the engine's thread: load if need be, then the task; None once it is not wanted any more."""
        if self._engine is None and wanted() and self._spec.check is not None:
            self._spec.check(self._spec.path)
        if not wanted():
            return None
        if self._engine is None:
            self._engine = self._load(self._spec)
        return task(self._engine)

    def unload(self) -> None:
        """In the engine's thread, as its last task."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()


class Lease:
    """The right to use a shared engine, until it is closed."""

    def __init__(self, pool: EnginePool, spec: EngineSpec, shared: _Shared) -> None:
        self.process = os.getpid()
        """Threads do not survive a fork: a lease serves the process that took it only."""
        self._pool = pool
        self._spec = spec
        self._shared: _Shared | None = shared

    def run(self, task: Callable[[Engine], T], *, wanted: Callable[[], bool]) -> Future[T | None]:
        """Queue a task for the engine's thread; the first one loads the engine. `wanted` is asked before each step."""
        shared = self._shared
        if shared is None:
            raise WeightsError("the local model was closed; open it again")
        return shared.executor.submit(shared.run, task, wanted)

    def warm_up(self) -> None:
        """Load the engine, unless it is or this lease is closed before; whoever runs a task next is told what fails."""
        self.run(_nothing, wanted=lambda: self._shared is not None)

    def close(self) -> Future[None] | None:
        """Let go; the last one to do so gets the unloading to wait for. Idempotent."""
        shared, self._shared = self._shared, None
        return None if shared is None else self._pool.give_back(self._spec, shared)


def _nothing(engine: Engine) -> None:
    """The task of which only the loading counts."""


class EnginePool:
    """The engines of this process."""

    def __init__(self, load: Callable[[EngineSpec], Engine] = XllamaEngine) -> None:
        self._load = load
        self._guard = threading.Lock()
        self._engines: dict[EngineSpec, _Shared] = {}
        self._of_parent: list[object] = []
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def lease(self, spec: EngineSpec) -> Lease:
        """A share in the engine of that spec; nothing is loaded yet."""
        with self._guard:
            shared = self._engines.get(spec)
            if shared is None:
                shared = self._engines[spec] = _Shared(spec, self._load)
            shared.users += 1
        return Lease(self, spec, shared)

    def give_back(self, spec: EngineSpec, shared: _Shared) -> Future[None] | None:
        """One user less; without any the engine is unloaded."""
        with self._guard:
            shared.users -= 1
            if shared.users or self._engines.get(spec) is not shared:
                return None
            del self._engines[spec]
        gone = shared.executor.submit(shared.unload)
        shared.executor.shutdown(wait=False)
        return gone

    def _forked(self) -> None:
        """In a forked child: the engines' threads are not there, so the engines can be neither used nor closed."""
        self._of_parent.append(self._engines)
        self._guard = threading.Lock()
        self._engines = {}


ENGINES = EnginePool()
"""All sessions of a process take their engines from here."""
