"""What this host remembers of the cells of a kernel that keeps no ledger itself (other languages than Python).

Decided here: a key runs once here too, as far as this host can know. What another host had started is not known to
anyone: it is told as lost, and never run again.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from ..errors import KernelError
from ..machine.execution import CellOutcome, CellResult
from .flags import Turnstile

__all__ = ["Remembered", "RunMemory"]

_REMEMBERED = 200
_NOT_KNOWN = (
    "The cell had been started before, and this kernel keeps no record: whether it ran to its end is not known. "
    "It was not run again."
)
_CUT_SHORT = "The cell was begun under this key, and its end was not waited for. It was not run again."


@dataclass(slots=True)
class Remembered:
    """A key's result; None: it is to be run, and its result set here."""

    result: CellResult | None = None


class RunMemory:
    """The cells of one life of a kernel."""

    def __init__(self) -> None:
        self._results: dict[str, tuple[str, CellResult]] = {}
        self._doors: dict[str, Turnstile] = {}

    @contextlib.asynccontextmanager
    async def of(self, key: str, digest: str, *, started: bool) -> AsyncIterator[Remembered]:
        """What is known of a key; whoever asks while it runs waits for its end.

        Raises:
            KernelError: the key was used for other code.
        """
        door = self._doors.setdefault(key, Turnstile())
        async with door.alone():
            known = self._results.get(key)
            if known is not None:
                if known[0] != digest:
                    raise KernelError(f"the key {key!r} was used for other code; this cell was not run")
                yield Remembered(replace(known[1], recovered=True))
                return
            if started:
                yield Remembered(CellResult(outcome=CellOutcome.LOST, detail=_NOT_KNOWN))
                return
            remembered = Remembered()
            try:
                yield remembered
            finally:
                cut_short = CellResult(outcome=CellOutcome.LOST, detail=_CUT_SHORT)
                self._keep(key, digest, remembered.result or cut_short)

    def _keep(self, key: str, digest: str, result: CellResult) -> None:
        """That a key ran is kept for good; what it gave, of the last ones."""
        self._results[key] = (digest, result)
        if len(self._results) > _REMEMBERED:
            old = list(self._results)[-_REMEMBERED - 1]
            gone = self._results[old][1]
            short = CellResult(outcome=gone.outcome, detail=f"{gone.detail} Its outputs are no longer kept.".strip())
            self._results[old] = (self._results[old][0], short)
