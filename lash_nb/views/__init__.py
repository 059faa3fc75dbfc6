"""What people see of a turn: the contract of live views, and of the function that puts a bundle on the page.

A view reads nothing but the `TurnPicture` (`machine.picture`). `text` makes the static bundle that every turn leaves;
`widget` and `live` draw a turn while it runs; `live.choose_view` decides which. Imports `machine` and `errors` only.

Threads: `show` may be called from any thread and remembers the newest picture. Drawing happens on the thread that made
the view, in `show` or in `tick`, so outputs go to the cell that waits for the turn. Whoever waits calls `tick` about
ten times a second; more costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from ..machine.picture import TurnPicture
from ..machine.wire import Json

__all__ = ["EMPTY_BUNDLE", "LiveView", "Publish"]

EMPTY_BUNDLE: Mapping[str, Json] = {"text/html": "", "text/plain": ""}
"""What a live view leaves in its place at the end: nothing to see, and a MIME type that every converter knows."""


class Publish(Protocol):
    """Puts a bundle on the page: a new display, or (`update`) the one that `display_id` names, in its place."""

    def __call__(self, data: Mapping[str, Json], *, display_id: str, update: bool) -> None: ...


class LiveView(Protocol):
    """A turn while it runs."""

    def show(self, picture: TurnPicture) -> None:
        """The newest picture; drawn at once or with a later `tick`."""

    def tick(self) -> None:
        """Draw what is due. To be called by the thread that made the view."""

    def close(self, final: TurnPicture) -> None:
        """The end: draw the last picture and leave nothing useless in the notebook. Idempotent."""
