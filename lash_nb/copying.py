"""How a notebook comes to carry its turns while it is open: what whoever holds it is asked to write, when, and again.

Decided here: a turn is written into the notebook of its cell and into no other that the kernel may have; what that
notebook carries already is kept (`stores.notebook.following`), and left alone where it cannot be read; the block is
folded to its budget; in a live frontend the turn in progress is written at most once a second, less often when it is
large, and nowhere do copies take more than a share of the time. What nobody has acknowledged is offered again when the
next turn begins; a holder that says that it lacks what was written (a page that was loaded anew, a second tab) is
served at once, and once a block. Journal and outputs have everything in any case: a copy that fails ends no turn.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from .errors import NotebookError
from .machine.wire import Json
from .stores.clicks import OnInsert, OnPull, Spot, Tell
from .stores.copies import IN_PROCESS, Holder, NotebookLine, OnAnswer
from .stores.kept import KeptCode, carried_kept, merged_kept
from .stores.merging import is_behind, merged
from .stores.notebook import METADATA_KEY, MODEL_KEY, fitted, read_block
from .stores.placing import Placing

if TYPE_CHECKING:
    from .conversation import OnHead

__all__ = ["Copying"]

_HEAD_EVERY_S = 1.0
"""In a page."""
_BYTES_A_SECOND = 250_000
"""What copies may take of a page's connection and of the page, which parses each: outputs come the same way."""
_QUICK_S = 0.05
"""A copy that takes no longer may be made after every effect, where the holder is in process."""
_PAUSE = 4
"""Else, so many times as long as the last one took, none is made."""
_MOST_NOTEBOOKS = _MOST_HOLDERS = 16


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
        on_pull: OnPull | None = None,
        on_insert: OnInsert | None = None,
    ) -> None:
        """`attended`: a person's frontend; else a runner, which is there, takes heads when they are made, and saves.
        `suggested`: the model that the runner's notebook suggests; `saves`: whether a finished turn has it saved.
        `on_pull`: brings the variable that a page's user wants into this kernel; `on_insert`: has a turn's code put
        below the cell in which it was clicked. Both are told so on the kernel's main thread.
        """
        self._attended, self._suggested, self._saves = attended, suggested, saves
        self._line = NotebookLine(on_here=self._here, expected=not attended, on_pull=on_pull, on_insert=on_insert)
        self._placing = Placing(self._line, on_placed=self._placed)
        self._lock = threading.RLock()
        self._troubles: dict[str, str] = {}
        """Why nothing is written over what a holder has, by its id."""
        self._written: dict[str, Mapping[str, Any]] = {}
        """What was offered to each notebook last."""
        self._block: dict[str, Any] | None = None
        """The newest block of ours; none before the first turn."""
        self._final = False
        self._number: int | None = None
        """Under which it was sent."""
        self._served: set[str] = set()
        """Holders that were given that block because of what they said."""
        self._kept: list[tuple[str, KeptCode]] = []
        """What was kept here, for which notebook to carry."""
        self._status: dict[str, Json] = {}
        self._opened_during: int | None = None
        """The turn that ran when a page was opened: what was published before is not routed into its cell there."""
        self._publish: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._next_at = 0.0

    # -- life ----------------------------------------------------------------------------------------------------------

    def load(self) -> None:
        """Be there for whoever holds the notebook."""
        self._line.open()

    def begin(self) -> None:
        """A turn begins in the cell that is running now; what was not acknowledged is offered again."""
        with self._lock:
            self._line.begin()
            self._served.clear()
            unwritten = self._block is not None and not self.written
            if unwritten and self._attended:
                self._line.forget()  # a page that was closed says nothing of it
        self._line.look()
        if self._block is None:
            self._line.get()  # it may have been changed since it was told
        if unwritten and not self._attended:
            self._offer()

    def close(self) -> None:
        """Ask for nothing any more; nothing is shown beside the notebook then."""
        if self._status:
            self._line.tell(**dict.fromkeys(self._status))
        self._placing.close()
        self._line.close()

    @property
    def notebook(self) -> Holder | None:
        """The notebook of the cell that runs as its holder told of it last: untrusted. None: nobody did."""
        holders = self._line.holders(self._line.running)
        return holders[0] if holders else None

    # -- code that is kept ---------------------------------------------------------------------------------------------

    def kept(self) -> list[KeptCode]:
        """What the notebook of the cell that runs carries; untrusted."""
        holder = self.notebook
        return [] if holder is None else list(carried_kept(holder.value))

    def carry(self, code: KeptCode) -> None:
        """Have it carry that, from the next copy on."""
        with self._lock:
            self._kept.append((self._place(list(self._line.holders())), code))

    # -- what is written -----------------------------------------------------------------------------------------------

    @property
    def head(self) -> OnHead:
        """What a session is given as `on_head`."""
        return self._head

    def _head(self, publish: Callable[[], None]) -> None:
        if not self._line.held or self._trouble():
            return
        self._publish = publish
        if self._timer is None:
            loop = asyncio.get_running_loop()
            wait = self._next_at - loop.time()
            if wait <= 0 and self._in_process:
                self._head_is_due()
            else:
                self._timer = loop.call_later(max(0.0, wait), self._head_is_due)

    def _head_is_due(self) -> None:
        self._timer, publish, self._publish = None, self._publish, None
        if publish is not None:
            began = time.perf_counter()
            publish()
            took = time.perf_counter() - began
            if took >= _QUICK_S:
                self._wait(_PAUSE * took)

    @property
    def _in_process(self) -> bool:
        return not self._attended or any(holder.kind in IN_PROCESS for holder in self._line.holders()[:1])

    def _wait(self, seconds: float) -> None:
        """The next head comes no earlier; on the sessions' loop."""
        self._next_at = max(self._next_at, asyncio.get_running_loop().time() + seconds)

    def keep(self, block: dict[str, Any], final: bool) -> None:
        """The newest block of a session; `final`: no turn of it is in progress."""
        with self._lock:
            self._block, self._final = block, final
            self._served.clear()
            if final:
                self._publish = None
            size = self._offer()
        if size and not self._in_process:
            self._wait(max(_HEAD_EVERY_S, size / _BYTES_A_SECOND))

    def _offer(self, answering: Holder | None = None) -> int:
        """Have the newest block written, to a holder that has said something or to whoever it falls to; its size."""
        with self._lock:
            self._number = None
            if self._block is None or not self._line.held or self._trouble():
                return 0
            holders = [holder for holder in self._line.holders() if holder.id not in self._troubles]
            place = self._place(holders)
            states = [*self._known(place), *(one.value for one in reversed(holders))]
            kept = merged_kept(states, [code for at, code in self._kept if at == place])
            value, size = fitted({**merged(self._block, states), **kept})
            self._written[place] = value
            if len(self._written) > _MOST_NOTEBOOKS:
                del self._written[next(iter(self._written))]
            save = self._final and self._attended and self._saves()
            # The outputs are where the cell was sent from: another page that saved would write them out of the file.
            away = answering is not None and answering.client != self._line.client
            self._number = self._line.set(value, save=save and not away, answering=answering, but=self._troubles)
            return size

    def _known(self, place: str) -> list[Mapping[str, Any]]:
        """What was written into a notebook last, or what it begins with."""
        if place in self._written:
            return [self._written[place]]
        suggested = None if self._attended else self._suggested()
        return [{MODEL_KEY: suggested}] if suggested else []

    def _place(self, holders: list[Holder]) -> str:
        """Of a notebook, among those of this kernel; a runner has one."""
        return (holders[0].path or holders[0].client) if holders and self._attended else ""

    def _trouble(self, client: str | None = None) -> str:
        """Why nothing is written into this notebook, or into that of a client; empty when something is."""
        client = self._line.client if client is None else client
        holders = self._line.holders(client)
        asked = [holder for holder in holders if holder.client == client] or holders
        return next((self._troubles[holder.id] for holder in asked if holder.id in self._troubles), "")

    def _here(self, holder: Holder) -> None:
        """Somebody says what its notebook carries; on the main thread."""
        with self._lock:
            self._troubles.pop(holder.id, None)
            try:
                read_block({} if holder.value is None else {METADATA_KEY: holder.value})
            except NotebookError as error:
                self._troubles[holder.id] = f"{error}; it is left as it is"
                if len(self._troubles) > _MOST_HOLDERS:
                    del self._troubles[next(iter(self._troubles))]
            if any(one.id == holder.id for one in self._line.holders()):
                self._see(holder)
            if self._status:
                self._line.tell(**self._status)
        self._placing.here(holder)

    def _see(self, holder: Holder) -> None:
        """What a holder of this notebook has is looked at: it may be behind."""
        running = self._status.get("running")
        if isinstance(running, int) and holder.client != self._line.client:
            self._opened_during = running
        if holder.id in self._troubles:
            if self._trouble():
                self._number = None  # whatever was acknowledged before
            return
        place = self._place([holder])
        if holder.was in self._written:
            self._written.setdefault(place, self._written[holder.was])
        lacks = is_behind(holder.value, self._written.get(place))
        if self._block is None or (self.written and not lacks):
            return
        if holder.id not in self._served and len(self._served) < _MOST_HOLDERS:
            self._served.add(holder.id)
            self._offer(holder)
        elif lacks:
            self._number = None  # it was given the block, and says that it has it not

    @property
    def written(self) -> bool:
        """Whether the newest block has been written into this notebook."""
        return self._line.acknowledged(self._number)

    @property
    def pending(self) -> bool:
        """Whether that may still come."""
        return self._number is not None and not self.written and self._line.refusal(self._number) is None

    # -- what cells show ----------------------------------------------------------------------------------------------

    def turn_shown(self, cell_id: str | None, bundle: Mapping[str, Json]) -> None:
        """In the cell of that id, which runs, a live view has begun; `bundle` is its display. No id: nobody is told."""
        if self._attended and cell_id:
            self._placing.shown(cell_id, bundle)

    def turn_left(self, cell_id: str | None, outputs: Sequence[Mapping[str, Json]]) -> None:
        """The turn in that cell has ended with these outputs, as they stand in a notebook, in order."""
        if self._attended and cell_id:
            self._placing.left(cell_id, outputs)

    def _placed(self) -> None:
        self._opened_during = None

    # -- cells that are put in ----------------------------------------------------------------------------------------

    def insert(self, code: str, done: Tell, *, cell_id: str | None = None) -> bool:
        """Have `code` put below a cell, not run; False: nobody here can. `done` is told how it went, once.

        `cell_id`: None is the cell in which a turn began last.
        """
        return self._insert([code], done, after=cell_id, active=False)

    def insert_cells(
        self, cells: Sequence[str], done: Tell, *, cell_id: str | None = None, spot: Spot | None = None
    ) -> bool:
        """Have code cells put below a cell, in order, none run, as one step to undo; the first becomes the active one.

        False and `done` as of `insert`. `cell_id`: None is that of `spot`, where a person clicked; without one the cell
        that runs, on the main thread, or as of `insert`.
        """
        spot = spot or self._line.spot
        return self._insert(cells, done, after=cell_id or (spot.cell if spot else None), active=True, spot=spot)

    def _insert(
        self, cells: Sequence[str], done: Tell, *, after: str | None, active: bool, spot: Spot | None = None
    ) -> bool:
        if not self._attended:
            return False
        made = [{"cell_type": "code", "source": source} for source in cells]
        said = "It is the cell below." if len(cells) == 1 else f"They are the {len(cells)} cells below."
        told = _once(done, said, otherwise="Nothing was inserted")
        after = after or (self._line.cell if spot is None else None)
        return self._line.insert(made, after=after, active=active, spot=spot, on_answer=told) is not None

    def replace(self, source: str, done: Tell, *, cell_id: str, was: str) -> bool:
        """Have the cell of that id given another source, not run, while it still has the one that it had.

        False and `done` as of `insert`. Its outputs stay, and it can be undone.
        """
        told = _once(done, "The cell has its new source.", otherwise="Nothing was replaced")
        return self._attended and self._line.replace(cell_id, source, was=was, on_answer=told) is not None

    # -- what is said --------------------------------------------------------------------------------------------------

    def tell(self, **status: Json) -> None:
        """What may be shown beside the notebook; said when it is news."""
        with self._lock:
            if status != self._status:
                self._status = status
                self._line.tell(**status)

    def outputs(self) -> str:
        """Where the turns are that their cells show, for `%lash`."""
        turn = self._opened_during
        return (
            "✓" if turn is None else f"✓ (but where the page was opened while turn {turn} ran: `%lash history {turn}`)"
        )

    def status(self) -> str:
        """Where the notebook-level copy is, for `%lash`: of the notebook in which that runs."""
        client = self._line.running
        trouble = self._trouble(client)
        if trouble:
            return f"✗ ({trouble})"
        if not self._line.held_for(client):
            return (
                "✗ (nobody here writes it: JupyterLab and Notebook 7 do, where lash_nb is installed beside them, and "
                "`lash-nb run` and `papermill --engine lash_nb`; `lash-nb embed FILE` does it later)"
            )
        if self._block is None:
            return "– (no turn yet)"
        if self._line.acknowledged(self._number, client):
            return "✓"
        return f"✗ ({self._line.refusal(self._number, client) or 'not acknowledged yet'})"


def _once(done: Tell, said: str, *, otherwise: str) -> OnAnswer:
    """Tells `done` of the first answer to a request."""

    def answered(client: str, answer: Mapping[str, Any]) -> None:
        if not told:
            told.append(client)
            done(said if answer.get("ok") is True else f"{otherwise}: {answer.get('error') or 'refused'}.")

    told: list[str] = []
    return answered
