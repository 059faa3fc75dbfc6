"""How a notebook comes to carry its turns while it is open: what whoever holds it is asked to write, when, and again.

Decided here: what the notebook carries already is kept (`stores.notebook.following`), and left alone where it cannot be
read; the block is folded to its budget; in a live frontend the turn in progress is written at most once a second, and
less often when it is large. What nobody has acknowledged is offered again when the next turn begins, or somebody new
says that the notebook is there. Journal and outputs have everything in any case: a copy that fails ends no turn.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from .errors import NotebookError
from .machine.wire import Json
from .stores.copies import Holder, NotebookLine
from .stores.notebook import METADATA_KEY, folded, following, read_block

if TYPE_CHECKING:
    from .conversation import OnHead

__all__ = ["Copying"]

_EXACT = ("papermill", "runner")
"""Kinds of holders that write in process."""
_HEAD_EVERY_S = 1.0
_BYTES_A_SECOND = 250_000
"""A server drops what a kernel sends beyond a megabyte a second; most of that is for outputs."""


class Copying:
    """The copies of one notebook's turns.

    `load` and `begin` are for the kernel's main thread, `keep` and `head` for the sessions' loop.
    """

    def __init__(
        self,
        *,
        attended: bool,
        suggested: Callable[[], str | None] = lambda: None,
        saves: Callable[[], bool] = lambda: False,
    ) -> None:
        """`attended`: a person's frontend; else a runner, which is there, takes every head, and saves by itself.
        `suggested`: the model that the runner's notebook suggests; `saves`: whether a finished turn has it saved.
        """
        self._attended, self._suggested, self._saves = attended, suggested, saves
        self._line = NotebookLine(on_here=self._here, expected=not attended)
        self._lock = threading.RLock()
        self._carried: Mapping[str, Any] | None = None
        """What the notebook holds, as it was told or set last."""
        self._told: Holder | None = None
        self._trouble = ""
        self._block: dict[str, Any] | None = None
        """The newest block of ours; none before the first turn."""
        self._final = False
        self._number: int | None = None
        """Under which it was sent."""
        self._status: dict[str, Json] = {}
        self._publish: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_at = 0.0

    # -- life ----------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Be there for whoever holds the notebook."""
        if not self._attended:
            suggested = self._suggested()
            self._carried = {"model": suggested} if suggested else None
        self._line.open()

    def begin(self) -> None:
        """A turn begins in the cell that is running now; what was not acknowledged is offered again."""
        with self._lock:
            unwritten = self._block is not None and not self.written
            if unwritten and self._attended:
                self._line.forget()  # a page that was closed says nothing of it
        self._line.begin()
        if self._block is None:
            self._line.get()  # it may have been changed since it was told
        if unwritten and not self._attended:
            self._offer()

    def close(self) -> None:
        """Ask for nothing any more."""
        self._line.close()

    @property
    def notebook(self) -> Holder | None:
        """The notebook as its holder told of it last: untrusted. None: nobody did."""
        return self._told

    # -- what is written -----------------------------------------------------------------------------------------------

    @property
    def head(self) -> OnHead:
        """What a session is given as `on_head`."""
        return self._head

    def _head(self, publish: Callable[[], None]) -> None:
        if not self._line.held or self._trouble:
            return
        if not self._attended or (self._told is not None and self._told.kind in _EXACT):
            publish()
            return
        self._publish = publish
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(max(0.0, self._next_at - loop.time()), self._head_is_due)

    def _head_is_due(self) -> None:
        self._timer, publish, self._publish = None, self._publish, None
        if publish is not None:
            publish()

    def keep(self, block: dict[str, Any], final: bool) -> None:
        """The newest block of a session; `final`: no turn of it is in progress."""
        with self._lock:
            self._block, self._final = block, final
            if final:
                self._publish = None
            self._offer()

    def _offer(self) -> None:
        """Have the newest block written."""
        with self._lock:
            self._number = None
            if self._block is None or self._trouble or not self._line.held:
                return
            value = folded(following(self._carried, self._block))
            self._carried = value
            self._number = self._line.set(value, save=self._final and self._attended and self._saves())
            if self._attended:
                self._wait_for(value)

    def _wait_for(self, value: Mapping[str, Any]) -> None:
        try:
            now = asyncio.get_running_loop().time()
        except RuntimeError:  # it was offered again, by the kernel's main thread
            return
        size = len(json.dumps(value))
        self._next_at = now + max(_HEAD_EVERY_S, size / _BYTES_A_SECOND)

    def _here(self, holder: Holder) -> None:
        """Somebody says what the notebook carries; on the main thread."""
        with self._lock:
            self._told = holder
            value = holder.value
            try:
                read_block({} if value is None else {METADATA_KEY: value})
                self._trouble = ""
            except NotebookError as error:
                self._trouble = f"{error}; it is left as it is"
                return
            ours = self._carried if self._block is not None else None
            self._carried = value if isinstance(value, Mapping) else None
            if self._block is not None and (not self.written or _is_behind(value, ours)):
                self._offer()
            if self._status:
                self._line.tell(**self._status)

    @property
    def written(self) -> bool:
        """Whether the newest block has been written into the notebook."""
        return self._line.acknowledged(self._number)

    @property
    def pending(self) -> bool:
        """Whether that may still come."""
        return self._number is not None and not self.written and self._line.refusal(self._number) is None

    # -- what is said --------------------------------------------------------------------------------------------------

    def tell(self, **status: Json) -> None:
        """What may be shown beside the notebook; said when it is news."""
        with self._lock:
            if status != self._status:
                self._status = status
                self._line.tell(**status)

    def status(self) -> str:
        """Where the notebook-level copy is, for `%lash`."""
        if self._trouble:
            return f"✗ ({self._trouble})"
        if not self._line.held:
            return (
                "✗ (nobody here writes it: JupyterLab and Notebook 7 do, where lash_nb is installed beside them, and "
                "`lash-nb run`; `lash-nb embed FILE` does it later)"
            )
        if self._block is None:
            return "– (no turn yet)"
        refusal = self._line.refusal(self._number)
        return "✓" if self.written else f"✗ ({refusal})" if refusal else "✗ (not acknowledged yet)"


def _is_behind(value: Json, ours: Mapping[str, Any] | None) -> bool:
    """Whether it is an earlier state of what we had written: a second page, which was opened before."""
    if not isinstance(value, Mapping) or ours is None or value.get("session") != ours.get("session"):
        return False
    return value != ours and _newest(value) < _newest(ours)


def _newest(block: Mapping[str, Any]) -> int:
    envelopes = [*block["turns"], *([block["head"]] if block["head"] is not None else [])]
    return max((int(envelope["seq"]) for envelope in envelopes), default=-1)
