"""Our kernel as the benchmarks use it: behind the protocol of the peers, and what came of a cell read back whole."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from lash_nb.kernels.bundles import NOTE_KEY
from lash_nb.kernels.managed import ManagedKernel
from lash_nb.machine.attachments import AdoptingStore, AttachmentRef, AttachmentStore
from lash_nb.machine.execution import CellOutcome, CellOutput, CellResult, DisplayOutput, ResultOutput, StreamOutput
from lash_nb.stores.blobs import MemoryBlobStore

from .peers import QuietLoop, Received, WrongAnswerError

__all__ = ["Ours", "fresh_kernel", "next_key", "png_of", "text_of", "until_it_prints"]

_keys = itertools.count()


def next_key() -> str:
    """A key that no other cell of this process has."""
    return f"bench-{next(_keys)}"


def text_of(outputs: tuple[CellOutput, ...], store: AttachmentStore, *, name: str = "stdout") -> str:
    """Everything that was printed: from the store where it was cut.

    Raises:
        WrongAnswerError: something was cut and not stored.
    """
    text: list[str] = []
    for output in outputs:
        match output:
            case StreamOutput() if output.name == name:
                if output.spilled is not None:
                    text.append(store.get(output.spilled).decode())
                elif output.omitted_chars:
                    raise WrongAnswerError(f"{output.omitted_chars} characters of {name} are gone")
                else:
                    text.append(output.head + output.tail)
            case ResultOutput():
                text.append(str(output.data.get("text/plain", "")))
            case _:
                pass
    return "".join(text)


def png_of(outputs: tuple[CellOutput, ...], store: AttachmentStore) -> str | bytes:
    """The last `image/png`: base64 text where it is inline, bytes where it is stored."""
    for output in reversed(outputs):
        if isinstance(output, DisplayOutput | ResultOutput):
            inline = output.data.get("image/png")
            if isinstance(inline, str):
                return inline
            note = output.metadata.get(NOTE_KEY)
            spilled: Any = note.get("spilled") if isinstance(note, Mapping) else None
            if isinstance(spilled, Mapping) and "image/png" in spilled:
                return store.get(AttachmentRef(**spilled["image/png"]))
    return b""


@asynccontextmanager
async def fresh_kernel(*, store: AdoptingStore | None = None) -> AsyncIterator[ManagedKernel]:
    """A kernel that is up, and gone at the end."""
    kernel = ManagedKernel(store=store)
    await kernel.start()
    try:
        yield kernel
    finally:
        await kernel.shutdown()


async def until_it_prints(kernel: ManagedKernel, code: str) -> asyncio.Task[CellResult]:
    """Run a cell, and come back once its first output is here."""
    printed = asyncio.Event()
    task = asyncio.create_task(kernel.run(next_key(), code, on_output=lambda outputs: printed.set()))
    waiting = asyncio.create_task(printed.wait())
    await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    return task


class Ours:
    """`ManagedKernel`, started and asked like a peer."""

    name = "ours"
    has_kernel = True

    def __init__(self) -> None:
        self._loop = QuietLoop()
        self._store = MemoryBlobStore()
        self._kernel = ManagedKernel(store=self._store)

    def start(self) -> None:
        self._loop.run_until_complete(self._kernel.start())

    def run(self, code: str, *, bound_s: float = 120.0) -> Received:
        result = self._loop.run_until_complete(self._kernel.run(next_key(), code, timeout_s=bound_s))
        if result.outcome is not CellOutcome.OK:
            raise WrongAnswerError(f"{result.outcome}: {result.detail or result.error}")
        return Received(
            text=text_of(result.outputs, self._store),
            png=png_of(result.outputs, self._store),
            count=result.execution_count,
        )

    def close(self) -> None:
        self._loop.run_until_complete(self._kernel.shutdown())
        self._loop.close()
