"""When a live view draws: at most ten times a second, always the newest picture, on the thread that made the view."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from ..machine.picture import TurnPicture

__all__ = ["INTERVAL_S", "Pace"]

INTERVAL_S = 0.1


class Pace:
    """Remembers the newest picture from any thread, and calls `draw(picture, elapsed_s)` when it is due.

    With `beat_s` a running turn is also drawn when nothing happened for that long: its clock goes on.
    """

    def __init__(
        self,
        draw: Callable[[TurnPicture, float], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        interval_s: float = INTERVAL_S,
        beat_s: float | None = None,
    ) -> None:
        self._draw, self._clock = draw, clock
        self._interval_s, self._beat_s = interval_s, beat_s
        self._owner = threading.get_ident()
        self._started = clock()
        self._drawn_at: float | None = None
        self._latest: TurnPicture | None = None
        self._drawn: TurnPicture | None = None
        self._closed = False

    def show(self, picture: TurnPicture) -> None:
        """The newest picture. Another thread than the owner's only leaves it here."""
        self._latest = picture
        if threading.get_ident() == self._owner:
            self.tick()

    def tick(self) -> None:
        """Draw when something is new and the last time is long enough ago."""
        latest = self._latest
        if self._closed or latest is None:
            return
        now = self._clock()
        if self._drawn_at is not None:
            waited = now - self._drawn_at
            beat = self._beat_s is not None and latest.goes_on and waited >= self._beat_s
            if waited < self._interval_s or (latest is self._drawn and not beat):
                return
        self._drawn, self._drawn_at = latest, now
        self._draw(latest, now - self._started)

    def end(self, final: TurnPicture | None) -> bool:
        """Draw the last picture, if one is given, and nothing any more; False when it had ended before."""
        if self._closed:
            return False
        self._closed = True
        if final is not None:
            self._draw(final, self._clock() - self._started)
        return True
