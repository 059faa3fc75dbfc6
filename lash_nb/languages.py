"""A session's kernels: the main one, and one for each other language that its cells are written in.

Decided here: a kernel is made when it is first needed and kept for the session; one of an earlier process is taken over
where it lives. What was given stays the giver's, what was made here ends with the session: in order (`shutdown`), or at
once from any thread (`end_now`).
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from .errors import KernelAttachError, KernelError, UnknownNameError
from .kernels import Kernel, OnInput
from .kernels.changes import Changes
from .kernels.rundir import find_kernel, recorded_as_sandboxed
from .kernels.sandbox import Sandbox
from .kernels.settings import KernelSettings
from .machine.attachments import AdoptingStore
from .recorded import RecordedKernel

__all__ = [
    "CanBeLeft",
    "Confined",
    "EndsNow",
    "MayBeStuck",
    "SessionKernels",
    "TellsChanges",
    "attached_kernel",
    "is_sandboxed",
    "managed_kernel",
]

_log = logging.getLogger("lash_nb")


def managed_kernel(
    language: str | None,
    *,
    cwd: Path,
    store: AdoptingStore,
    on_input: OnInput | None,
    settings: KernelSettings = KernelSettings(),  # noqa: B008 (frozen)
    hide: Collection[Path] = (),
) -> Kernel:
    """A managed kernel for a language; for None, and for Python, of the Python that is set. A sandbox hides `hide`.

    Raises:
        UnknownNameError: no kernelspec for that language, or of that name, is installed.
    """
    managed = import_module("lash_nb.kernels.managed")
    which = _interpreter(settings.python) if language in (None, "python") else {"kernelspec": language}
    kernel: Kernel = managed.ManagedKernel(
        **which, cwd=cwd, store=store, on_input=on_input, **_made(settings, hide), spare=settings.spare and not language
    )
    return kernel


def _made(settings: KernelSettings, hide: Collection[Path]) -> dict[str, Any]:
    hidden = tuple(str(path) for path in hide)
    sandbox = Sandbox(read=settings.sandbox_read, hide=hidden) if settings.sandbox else False
    return {"sandbox": sandbox, "pass_env": settings.pass_env, "resources": settings.resources}


def _interpreter(python: str) -> dict[str, str]:
    """An interpreter's path, or the name of an installed kernel."""
    if not python:
        return {}
    is_path = os.path.basename(python) != python or os.path.isfile(python)
    return {"python": os.path.abspath(python)} if is_path else {"kernelspec": python}


async def attached_kernel(
    kernel: RecordedKernel,
    *,
    owner: str,
    cwd: Path,
    store: AdoptingStore,
    on_input: OnInput | None,
    settings: KernelSettings = KernelSettings(),  # noqa: B008 (frozen)
    hide: Collection[Path] = (),
) -> Kernel:
    """The living kernel of an earlier process, taken over; `owner` is the session whose cells it ran.

    Raises:
        KernelAttachError: it is gone, or cannot be taken over; nothing was changed. One that is not in the sandbox
            that it should be in was ended.
    """
    managed = import_module("lash_nb.kernels.managed")
    file = kernel.file or find_kernel(kernel.epoch, owner=owner)
    if file is None:
        raise KernelAttachError("its process is gone")
    around: dict[str, Any] = {"epoch": kernel.epoch, "cwd": cwd, "store": store, "on_input": on_input}
    which = _interpreter(settings.python) if kernel.language == "python" else {}
    if settings.sandbox and not recorded_as_sandboxed(Path(file)):
        outside = await managed.ManagedKernel.attach(file, **around)
        await outside.shutdown()
        raise KernelAttachError("it ran outside of the sandbox that is asked for, and was ended")
    attached: Kernel = await managed.ManagedKernel.attach(file, **around, **_made(settings, hide), **which)
    return attached


@runtime_checkable
class EndsNow(Protocol):
    """A kernel that can be ended without an event loop."""

    def end_now(self) -> None:
        """Kill its process and leave nothing of it; from any thread, idempotent."""
        ...


@runtime_checkable
class GivesValues(Protocol):
    """A kernel whose variables can be copied into this process."""

    async def value(self, name: str, *, data_only: bool = False) -> Any:
        """A copy of a variable. Raises KernelError: there is none, it cannot be sent, or is more than data."""
        ...


@runtime_checkable
class TellsChanges(Protocol):
    """A kernel that knows what its cells changed outside of variables."""

    @property
    def epoch(self) -> str:
        """See `Kernel.epoch`."""
        ...

    async def mark(self) -> str:
        """A word for how things are now; empty where nobody can tell."""
        ...

    async def changes(self, since: str) -> Changes:
        """What has changed since, as far as it can be told; never fails."""
        ...


@runtime_checkable
class Confined(Protocol):
    """A kernel that may be held to something."""

    @property
    def sandboxed(self) -> bool:
        """Whether nothing that its cells do can get out of its directory."""
        ...

    @property
    def unmet_limits(self) -> tuple[str, ...]:
        """Which limits could not be put in force in this life, in sentences."""
        ...


@runtime_checkable
class MayBeStuck(Protocol):
    """A kernel whose cell may not react to its interrupt."""

    async def is_stuck(self) -> bool:
        """Whether it can take no cell, because one that was given up still runs."""
        ...


def is_sandboxed(kernel: object) -> bool:
    """Whether what its cells do beyond computing needs nobody's leave."""
    return isinstance(kernel, Confined) and kernel.sandboxed


@runtime_checkable
class CanBeLeft(Protocol):
    """A kernel that can go on without us."""

    async def leave(self) -> None:
        """Leave it to whoever takes it over next."""
        ...

    def leave_at_exit(self) -> None:
        """Leave it also where nobody does before this process exits; until it runs a cell."""
        ...


class SessionKernels:
    """`make` takes a language, or None for the main kernel; it may raise UnknownNameError."""

    def __init__(
        self, main: Kernel | None, others: Mapping[str, Kernel], *, make: Callable[[str | None], Kernel]
    ) -> None:
        self._given: dict[str | None, Kernel] = {name.casefold(): kernel for name, kernel in others.items()}
        if main is not None:
            self._given[None] = main
        self._make = make
        self._made: dict[str | None, Kernel] = {}
        self._taken_over: list[Kernel] = []
        self.leaving: Callable[[], bool] = lambda: False
        """Whether those that were taken over are left, when this ends, to whoever comes next."""

    def leave_what_was_made(self) -> None:
        """Treat the kernels that were made here as those that were taken over: their turn waits for somebody."""
        self._taken_over = list(self._made.values())
        for kernel in self._left:
            kernel.leave_at_exit()

    @property
    def main(self) -> Kernel | None:
        """The main kernel; None before it was needed."""
        return self._given.get(None) or self._made.get(None)

    def the_main(self) -> Kernel:
        """The main kernel; made when there is none. Raises UnknownNameError."""
        return self._kernel(None)

    def living(self, language: str) -> Kernel | None:
        """The kernel that runs the cells of a language, made or not; None when none is installed for it."""
        main = self.the_main()
        if main.language.casefold() == language.casefold():
            return main
        try:
            return self.of(language)
        except UnknownNameError:
            return None

    def of(self, language: str) -> Kernel:
        """The kernel for cells of another language than the main one's.

        Raises:
            UnknownNameError: none is installed.
        """
        return self._kernel(language.casefold())

    def _kernel(self, language: str | None) -> Kernel:
        kernel = self._given.get(language) or self._made.get(language)
        if kernel is None:
            kernel = self._made[language] = self._make(language)
        return kernel

    async def recover(
        self, kernels: Iterable[RecordedKernel], attach: Callable[[RecordedKernel], Awaitable[Kernel]]
    ) -> None:
        """Take over those of an earlier process that still live; not in the place of one that was given."""
        for recorded in kernels:
            language = None if recorded.language == "python" else recorded.language.casefold()
            if language in self._given or language in self._made:
                continue
            try:
                self._made[language] = kernel = await attach(recorded)
                self._taken_over.append(kernel)
                if isinstance(kernel, CanBeLeft) and self.leaving():
                    kernel.leave_at_exit()
            except KernelError as error:
                _log.info("the %s kernel of before: %s", recorded.language, error)

    @property
    def _left(self) -> list[CanBeLeft]:
        return [kernel for kernel in self._taken_over if isinstance(kernel, CanBeLeft)] if self.leaving() else []

    async def shutdown(self) -> None:
        """End what was made here, or leave it."""
        leaving = self._left
        ends = [
            kernel.leave() if isinstance(kernel, CanBeLeft) and kernel in leaving else kernel.shutdown()
            for kernel in self._made.values()
        ]
        ended = await asyncio.gather(*ends, return_exceptions=True)
        for problem in ended:
            if isinstance(problem, BaseException):
                raise problem

    def end_now(self) -> None:
        """Kill what was made here, from any thread, without waiting for an event loop; what is left lives on."""
        left: Collection[object] = self._left
        for kernel in list(self._made.values()):
            if isinstance(kernel, EndsNow) and kernel not in left:
                kernel.end_now()
