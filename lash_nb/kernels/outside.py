"""What a managed kernel says of all that is no variable, and takes over of it: nothing here fails.

Decided here: whom it is compared with, and that a kernel which cannot tell has nothing to tell.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Mapping

from .changes import Changes, changes, mark
from .differences import differences
from .launch import Launch
from .life import Life
from .process import KernelProcess
from .surroundings import Surroundings, take_over

__all__ = ["LooksOutside"]


class LooksOutside:
    """The part of a managed kernel that is about files, directory, environment, packages and settings."""

    _life: Life | None
    _launching: Launch

    @property
    @abstractmethod
    def alive(self) -> bool: ...

    async def take_over_surroundings(self, surroundings: Surroundings) -> None:
        """Have its Python set what the notebook's process has set, as far as it can; never fails."""
        if self.alive and self._life is not None:
            await take_over(self._life, surroundings)

    async def differences(self, packages: Mapping[str, str]) -> tuple[str, ...]:
        """What of another Python keeps values from going over, in sentences; the same one is not asked."""
        life = self._life
        same = self._launching.spec is None and self._launching.python == sys.executable
        if life is None or not self.alive or (same and isinstance(life.process, KernelProcess)):
            return ()
        return await differences(life, packages)

    async def mark(self) -> str:
        """A word for how things outside of variables are now, for `changes`; "" where nobody can tell."""
        return await mark(self._life) if self.alive and self._life is not None else ""

    async def changes(self, since: str) -> Changes:
        """What cells have changed since that mark outside of variables, as far as it can be told."""
        return await changes(self._life, since) if self.alive and self._life is not None else Changes()
