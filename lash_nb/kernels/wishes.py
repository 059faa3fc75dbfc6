"""What a guarded cell asks before it has an effect, as its host decides it; and how long a cell has waited with that.

Decided here: whatever goes wrong with a decision refuses the effect, and time in which a question waits is not the
cell's. The way of a question is that of a tool call (`inner_calls`), and leaves no record.
"""

from __future__ import annotations

import threading
import time

from ..machine.approvals import EffectKind, Wish
from ..machine.wire import Json
from . import CellGuard
from .inside.effects import refusal

__all__ = ["ASK", "OpenQuestions", "decided", "refused"]

ASK = "effect?"
"""The name under which the question comes; no tool can have it."""
_NOBODY_WATCHES = "nobody who could be asked watches over this cell"


class OpenQuestions:
    """How long at least one question of a cell has been waiting; from any thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._open = 0
        self._since = 0.0
        self._waited_s = 0.0

    def begin(self) -> None:
        """One more waits."""
        with self._guard:
            self._open += 1
            if self._open == 1:
                self._since = time.monotonic()

    def end(self) -> None:
        """One less."""
        with self._guard:
            self._open -= 1
            if self._open == 0:
                self._waited_s += time.monotonic() - self._since

    @property
    def waited_s(self) -> float:
        """The whole time, up to now."""
        with self._guard:
            return self._waited_s + (time.monotonic() - self._since if self._open else 0.0)


async def decided(guard: CellGuard | None, args: Json) -> dict[str, Json]:
    """The answer to a question, as the kernel takes it."""
    if guard is None or not isinstance(args, dict):
        return {"allows": False, "why": _NOBODY_WATCHES, "by_policy": True}
    try:
        decision = await guard.on_effect(Wish(kind=EffectKind(str(args["kind"])), target=str(args["target"])))
    except Exception as error:
        return {"allows": False, "why": f"{type(error).__name__}: {error}", "by_policy": True}
    return {"allows": decision.allows, "why": decision.why, "by_policy": decision.by_policy}


def refused(wish: Wish, answer: dict[str, Json]) -> str:
    """What the code is told of a wish that was refused; the same words as in a real kernel."""
    return refusal(wish.kind, wish.target, why=str(answer["why"]), by_policy=answer["by_policy"] is True)
