"""What earlier processes left for the notebook of this kernel: by journals that name its file, or by what it carries.

Light to import: `%load_ext` asks.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .suggestion import carried_sentence, read_document

if TYPE_CHECKING:
    from .earlier import EarlierSession
    from .finding import Found
    from .stores.copies import Holder

__all__ = ["NotebookPast"]


class NotebookPast:
    """The sessions of one notebook that this process did not begin."""

    def __init__(
        self,
        *,
        file: Path | None,
        home: Path,
        state_dir: Callable[[], Path],
        told_state_dir: Callable[[], Path | None],
        notebook: Callable[[], Holder | None],
        mine: Callable[[], Collection[str]],
    ) -> None:
        """`notebook` is what its holder told last, `mine` are the sessions of this process."""
        self._file, self._home = file, home
        self._state_dir, self._told_state_dir = state_dir, told_state_dir
        self._notebook, self._mine = notebook, mine

    def earlier(self, *, most: int | None = None, within_s: float | None = None) -> list[EarlierSession]:
        """Those whose journals name the notebook, newest first; arguments as `earlier_sessions`."""
        from .earlier import earlier_sessions

        return earlier_sessions(
            self._state_dir(), notebook=self._file, directory=self._home, but=self._mine(), most=most, within_s=within_s
        )

    def sentence(self, *, within_s: float, attended: bool) -> str:
        """What `%load_ext` says of the newest of them; empty when there seems to be none.

        One that may be another notebook's, of the same directory, is of no interest where nobody is there.
        """
        found = self.earlier(most=1, within_s=within_s)
        if found:
            return found[0].sentence if attended or found[0].by_name else ""
        return (carried_sentence(self._file) if self._file is not None else None) or ""

    def left(self) -> Found | None:
        """What is to be gone on with here.

        Raises NotebookError: what the notebook carries cannot be read, and there is nothing else.
        """
        from .finding import find_left

        earlier = self.earlier(most=1)
        return find_left(
            earlier[0] if earlier else None,
            self._document(),
            path=self.place,
            told_state_dir=self._told_state_dir(),
            but=self._mine(),
        )

    @property
    def place(self) -> Path | None:
        """The notebook's file, as far as that is known: its name may have been changed since the kernel was started."""
        told = self._notebook()
        renamed = self._home / Path(told.path).name if told is not None and told.path else None
        return renamed if renamed is not None and renamed.is_file() else self._file

    def _document(self) -> dict[str, Any]:
        """The notebook, as far as it can be had: its metadata from the frontend, which may be ahead of the file."""
        document = read_document(self.place) if self.place is not None else None
        told = self._notebook()
        if told is None:
            return document or {}
        metadata = {} if told.value is None else {"lash_nb": told.value}
        return {"cells": (document or {}).get("cells", []), "metadata": metadata}
