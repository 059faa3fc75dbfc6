"""When a live view draws: at most ten times a second, always the newest picture, on the thread that made the view."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..machine.picture import TurnPicture

__all__ = ["INTERVAL_S", "Pace"]

INTERVAL_S = 0.1


class Pace:
    """Remembers the newest picture from any thread, and calls `draw(picture, elapsed_s)` when it is due."""

    def __init__(
        self,
        draw: Callable[[TurnPicture, float], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        interval_s: float = INTERVAL_S,
    ) -> None:
        self._draw, self._clock = draw, clock
        self._interval_s = interval_s
        self._owner = threading.get_ident()
        self._started = clock()
        self._drawn_at: float | None = None
        self._latest: TurnPicture | None = None
        self._drawn: TurnPicture | None = None
        self._stale = False
        self._closed = False

    @property
    def elapsed_s(self) -> float:
        """How long ago the view was made."""
        return self._clock() - self._started

    @property
    def latest(self) -> TurnPicture | None:
        """The newest picture, drawn or not."""
        return self._latest

    def show(self, picture: TurnPicture) -> None:
        """The newest picture. Another thread than the owner's only leaves it here."""
        self._latest = picture
        self._tick_here()

    def renew(self) -> None:
        """Something beside the picture is to be drawn anew; from any thread, like `show`."""
        self._stale = True
        self._tick_here()

    def _tick_here(self) -> None:
        if threading.get_ident() == self._owner:
            self.tick()

    def tick(self, *, now: bool = False) -> None:
        """Draw when something is new and the last time is long enough ago; `now`: whenever that was."""
        latest = self._latest
        if self._closed or latest is None or (latest is self._drawn and not self._stale):
            return
        at = self._clock()
        if not now and self._drawn_at is not None and at - self._drawn_at < self._interval_s:
            return
        self._stale = False
        self._drawn, self._drawn_at = latest, at
        self._draw(latest, at - self._started)

    def end(self, final: TurnPicture | None) -> bool:
        """Draw the last picture, if one is given, and nothing any more; False when it had ended before."""
        if self._closed:
            return False
        self._closed = True
        if final is not None:
            self._latest = final
            self._draw(final, self._clock() - self._started)
        return True
