"""The contract of a kernel: where `ExecCode` runs. Implementations are found by name and imported on demand.

Decided here: what a host may ask of a kernel, and which kinds there are. Imports `machine` and `errors` only, so that
reading the contract never loads zmq.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, runtime_checkable

from ..errors import UnknownNameError
from ..machine.approvals import Decision, Wish
from ..machine.execution import CellOutput, CellResult, NamespaceSummary
from ..machine.tool_calls import PendingToolCall, ToolCallOutput
from ..machine.wire import Json
from ..previews import Previews

__all__ = [
    "KERNELS",
    "CellGuard",
    "CellTools",
    "InputRequest",
    "Kernel",
    "OnEffect",
    "OnInput",
    "OnToolCall",
    "OutputSink",
    "ToolOffer",
    "resolve",
]

OutputSink = Callable[[tuple[CellOutput, ...]], None]
"""Called on the caller's event loop with the whole ordered outputs so far: some ten times a second, once at the end."""

OnToolCall = Callable[[PendingToolCall], Awaitable["ToolCallOutput | Json"]]
"""Answers one tool call that a running cell makes; awaited on the caller's event loop, many at once.

A plain JSON value is a success. It is cancelled when the code that waits for it is. What it raises is a failed call to
the cell (`ToolFailureClass.EXECUTION`), and nothing more. `call_id` is `c1`, `c2`, … in the order in which the cell
made its calls.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolOffer:
    """A tool as the code of a cell sees it: `tools.NAME(...)`, or `await tools.NAME(...)`."""

    name: str
    parameters: tuple[str, ...] | None = None
    """Names of the parameters in order, for positional arguments; None: by keyword only, any names."""
    doc: str = ""
    """Its whole docstring."""
    signature: str = ""
    """As Python writes it, with the names of types: `(city: str, days: int = 3) -> list[float]`; empty: not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellTools:
    """What a cell can call, and who answers."""

    offers: tuple[ToolOffer, ...]
    on_call: OnToolCall
    on_taken: OnToolCall | None = None
    """Answers a call that another host had taken, and may have begun; None: the code is told that nobody knows."""


OnEffect = Callable[[Wish], Awaitable[Decision]]
"""Decides on one effect that a running cell is about to have; awaited on the caller's event loop, may take for ever.

It is cancelled when the code that waits for it is interrupted. What it raises refuses the effect.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class CellGuard:
    """Has a cell ask before it does more than compute: a courtesy of the kernel's own process, not a sandbox."""

    on_effect: OnEffect
    free: tuple[str, ...] = ()
    """Directories in which it may write and delete, beside the working directory and those for temporary files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRequest:
    """What a cell asks with `input(prompt)` or, for a password, `getpass`."""

    prompt: str
    password: bool = False


OnInput = Callable[[InputRequest], str]
"""Answers it; called on a thread of its own, may block. EOFError becomes an EOFError in the cell."""


KERNELS: dict[str, str] = {
    "managed": "lash_nb.kernels.managed:ManagedKernel",
    "scripted": "lash_nb.kernels.scripted:ScriptedKernel",
}


@runtime_checkable
class Kernel(Protocol):
    """One life after another of a process (or something like it) that runs cells and keeps variables between them.

    Every method may be called from any event loop; cells are queued on our side and run one at a time.
    """

    language: str

    @property
    def epoch(self) -> str:
        """The id of this life of the kernel: another one after `restart()`, empty before `start()`."""
        ...

    @property
    def alive(self) -> bool:
        """Whether the kernel's process runs and can take a cell."""
        ...

    async def start(self) -> None:
        """Ready when it returns; does nothing when the kernel is alive.

        Raises:
            KernelStartError: it did not come up; nothing of it is left.
        """
        ...

    async def run(
        self,
        key: str,
        code: str,
        *,
        on_output: OutputSink | None = None,
        tools: CellTools | None = None,
        guard: CellGuard | None = None,
        timeout_s: float | None = None,
        started: bool = False,
    ) -> CellResult:
        """Run one cell, once; whatever the cell does is told by the result's typed outcome.

        `key` names the effect: a key runs once in a kernel's life. Given again (by this host, or by one that attached
        after a crash) it is waited for if it runs, and answered with the recorded result if it ran (`recovered` says
        so). `""` is no key: nothing is recorded. `started` says that the caller's records hold the cell as started
        already: a kernel that cannot know whether it ran then answers `lost` instead of running it.
        With `guard` the cell asks before it writes elsewhere, starts programs, or connects to hosts; what is refused
        is a PermissionError to its code. A kernel that cannot ask (of another language) runs it without.
        `timeout_s` counts from when the cell starts, not while it is queued. When it is cancelled, the cell is
        interrupted, waited for (bounded, shielded), then `CancelledError` goes on.

        Raises:
            KernelDiedError: there is no live kernel to run it; the cell was not run.
            KernelBusyError: an earlier cell, given up on, still runs; this one was not run.
            KernelError: the key was used for other code; this one was not run.
        """
        ...

    async def interrupt(self) -> bool:
        """Interrupt the running cell and wait, bounded, for its end: True when it ended, or when nothing ran."""
        ...

    async def restart(self) -> None:
        """Kill the kernel and start a fresh one: a new epoch, no variables. A running cell ends as dead.

        Raises:
            KernelStartError: the new one did not come up; `alive` is False.
        """
        ...

    async def shutdown(self) -> None:
        """End the kernel; no process, socket or file of it is left. A second call does nothing."""
        ...

    async def namespace(self, *, limit: int = 200, previews: Previews = "sample") -> NamespaceSummary:
        """Describe the variables, also while a cell runs; changes are marked against the previous call.

        `previews` is how much of their values leaves the kernel; with `schema` nothing of them does.
        Empty where the kernel's language gives no way to look (`Kernel.language` is not Python).

        Raises:
            KernelDiedError: there is no live kernel.
            KernelBusyError: it did not answer in time (C code may hold the interpreter).
        """
        ...

    def take_background(self) -> tuple[CellOutput, ...]:
        """What was written since the last call by nothing that is running (threads of ended cells); bounded."""
        ...


def resolve(name: str) -> type[Kernel]:
    """The implementation registered under `name`.

    Raises:
        UnknownNameError: no kernel of that name.
    """
    try:
        module, _, attribute = KERNELS[name].partition(":")
    except KeyError:
        raise UnknownNameError(f"no kernel is called {name!r}; there are: {', '.join(sorted(KERNELS))}") from None
    found: type[Kernel] = getattr(import_module(module), attribute)
    return found
