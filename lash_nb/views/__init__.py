"""What people see of a turn: the contract of live views, and of the function that puts a bundle on the page.

A view reads nothing but the `TurnPicture` (`machine.picture`). `text` makes the static bundle that every turn leaves;
`widget` and `live` draw a turn while it runs; `live.choose_view` decides which. Imports `machine` and `errors` only.

Threads: `show` may be called from any thread and remembers the newest picture. Drawing happens on the thread that made
the view, in `show` or in `tick`, so outputs go to the cell that waits for the turn. Whoever waits calls `tick` about
ten times a second; more costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from ..machine.approvals import Decision
from ..machine.picture import TurnPicture
from ..machine.wire import Json

__all__ = ["EMPTY_BUNDLE", "LiveView", "Publish", "ViewActions"]

EMPTY_BUNDLE: Mapping[str, Json] = {"text/html": "", "text/plain": ""}
"""What a live view leaves in its place at the end: nothing to see, and a MIME type that every converter knows."""


class Publish(Protocol):
    """Puts a bundle on the page: a new display, or (`update`) the one that `display_id` names, in its place."""

    def __call__(self, data: Mapping[str, Json], *, display_id: str, update: bool) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewActions:
    """What a person can have done from a view; each may be called from any thread, returns at once, raises nothing.

    What cannot be done is said by the next picture, or by the sentence that `insert` and `pull` hand to their callback.
    """

    stop: Callable[[], None]
    decide: Callable[[str, Decision], bool] | None = None
    """By the id of the approval; False: that one does not wait (any more). None: it is not for this page to decide."""
    say: Callable[[str], None] | None = None
    insert: Callable[[str, Callable[[str], None]], None] | None = None
    """Code that is to become a cell below the asking one; told how that went. None: nobody here can insert cells."""
    pull: Callable[[str, Callable[[str], None]], None] | None = None
    """The name of a variable that is to come into the notebook's kernel; told how that went."""


class LiveView(Protocol):
    """A turn while it runs."""

    def show(self, picture: TurnPicture) -> None:
        """The newest picture; drawn at once or with a later `tick`."""

    def tick(self, *, now: bool = False) -> None:
        """Draw what is due, or `now` whatever is new. To be called by the thread that made the view."""

    def close(self, final: TurnPicture) -> None:
        """The end: draw the last picture and leave nothing useless in the notebook. Idempotent."""
