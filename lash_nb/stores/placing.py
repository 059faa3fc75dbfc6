"""Turns shown in their cells by pages to which nothing of them is routed: those loaded in mid-turn, and second tabs.

A frontend puts outputs only into a cell that it has run itself. Decided here: the others are told of the live view when
it begins and of the final outputs when the turn ends, and so is a page that comes later. What is final is kept until
the page that ran the cell says that it has it, or another page of the notebook has had it for a minute (a third may
just be loading), or the next turn begins in that cell. Of long-closed pages nobody says anything: so many are kept.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..machine.wire import Json
from .copies import Holder, NotebookLine

__all__ = ["WIDGET_MIME", "Placing"]

WIDGET_MIME = "application/vnd.jupyter.widget-view+json"
_KEPT_S = 60.0
_MOST_CELLS = 16


@dataclass(slots=True, kw_only=True)
class _Place:
    """What one cell shows of its turn."""

    cell: str
    client: str
    """From which the cell was sent."""
    view: str | None
    """The model of its live view."""
    shown: dict[str, Json]
    """`live` or `outputs`."""
    done: set[str] = field(default_factory=set)
    """The holders that have answered, by their ids."""
    kept_until: float | None = None

    @property
    def ended(self) -> bool:
        return "outputs" in self.shown


class Placing:
    """The turns whose cells are shown by pages; from any thread."""

    def __init__(self, line: NotebookLine, *, on_placed: Callable[[], None] = lambda: None) -> None:
        """`on_placed` is told when a page has put a turn's end into its cell, on the kernel's main thread."""
        self._line = line
        self._on_placed = on_placed
        self._lock = threading.Lock()
        self._places: dict[str, _Place] = {}
        """By the id of the cell."""

    def shown(self, cell: str, bundle: Mapping[str, Json]) -> None:
        """In the cell that runs, the live view of a turn begins; `bundle` is its display."""
        view = bundle.get(WIDGET_MIME)
        model = view.get("model_id") if isinstance(view, Mapping) else None
        if isinstance(model, str):
            live = dict(bundle)
            self._put(_Place(cell=cell, client=self._line.running, view=model, shown={"live": live}))
        else:
            with self._lock:
                self._places.pop(cell, None)

    def left(self, cell: str, outputs: Sequence[Mapping[str, Json]]) -> None:
        """In that cell, a turn ends and leaves these outputs, as they stand in a notebook."""
        with self._lock:
            before = self._places.get(cell)
        live = before if before is not None and not before.ended else None
        client = self._line.running if live is None else live.client
        final: list[Json] = [dict(output) for output in outputs]
        view = None if live is None else live.view
        self._put(_Place(cell=cell, client=client, view=view, shown={"outputs": final}))

    def here(self, holder: Holder) -> None:
        """A page says that it is here: it is told of what it was not told yet."""
        now = time.monotonic()
        with self._lock:
            places = list(self._places.values())
        for place in places:
            over = place.kept_until is not None and now >= place.kept_until
            known = holder.client == place.client or holder.id in place.done
            if over:
                self._drop(place)
            elif not known and holder in self._line.holders(place.client):
                self._tell(place)

    def close(self) -> None:
        """Forget them all."""
        with self._lock:
            self._places.clear()

    def _put(self, place: _Place) -> None:
        with self._lock:
            self._places.pop(place.cell, None)
            self._places[place.cell] = place
            while len(self._places) > _MOST_CELLS:
                del self._places[next(iter(self._places))]
        self._tell(place)

    def _tell(self, place: _Place) -> None:
        self._line.place(
            place.cell,
            client=place.client,
            view=place.view,
            but=place.done,
            on_answer=lambda client, answer: self._answered(place, client, answer),
            **place.shown,
        )

    def _answered(self, place: _Place, client: str, answer: Mapping[str, Any]) -> None:
        if client == place.client:
            if place.ended:
                self._drop(place)
            return
        with self._lock:
            place.done.add(str(answer.get("holder")))
            if answer.get("ok") is True and place.ended and place.kept_until is None:
                place.kept_until = time.monotonic() + _KEPT_S
        if answer.get("ok") is True and place.ended:
            self._on_placed()

    def _drop(self, place: _Place) -> None:
        with self._lock:
            if self._places.get(place.cell) is place:
                del self._places[place.cell]
