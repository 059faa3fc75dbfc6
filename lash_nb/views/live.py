"""Which view shows a running turn, and the two that need no widgets.

Decided here: what counts as headless (the runner says so, there is no IPython kernel, or the cell's sender cannot
answer `input()`, as with nbclient), and that the widget is used where anywidget is installed. It and IPython are
imported when a view needs them.
"""

from __future__ import annotations

import os
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Literal

from ..machine.attachments import AttachmentStore
from ..machine.picture import TurnPicture
from ..machine.wire import Json
from . import EMPTY_BUNDLE, LiveView, Publish, ViewActions
from .pace import Pace
from .text import picture_markdown, picture_text

__all__ = [
    "DisplayView",
    "Preference",
    "QuietView",
    "Surroundings",
    "choose_view",
    "publish_with_ipython",
    "surroundings",
]

Preference = Literal["auto", "widget", "display", "quiet"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What the place that a cell runs in can do."""

    headless: bool
    widgets: bool


def surroundings() -> Surroundings:
    """Looks at the process and at the request that is being handled."""
    interactive = sys.modules.get("IPython")
    shell = interactive.get_ipython() if interactive is not None else None
    kernel = getattr(shell, "kernel", None)
    headless = "LASH_NB_RUN_OPTIONS" in os.environ or kernel is None or not _can_ask(kernel)
    return Surroundings(headless=headless, widgets=find_spec("anywidget") is not None)


def _can_ask(kernel: Any) -> bool:
    """Whether the sender of the running cell answers `input()`: people's frontends do, executors do not."""
    get_parent = getattr(kernel, "get_parent", None)
    request = get_parent() if get_parent is not None else None
    content = request.get("content") if isinstance(request, Mapping) else None
    return bool(content.get("allow_stdin", True)) if isinstance(content, Mapping) else True


def choose_view(
    *,
    actions: ViewActions,
    prefer: Preference = "auto",
    publish: Publish | None = None,
    store: AttachmentStore | None = None,
    place: Surroundings | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> LiveView:
    """The view for a turn that starts now, in this cell; `actions` are called from any thread.

    `store` is asked for images that were too large to keep inline.
    """
    place = place or surroundings()
    if prefer == "quiet" or (prefer != "display" and place.headless):
        # Also where widgets are preferred: executors save the state of widgets, for nobody.
        return QuietView()
    if place.widgets and prefer != "display":
        from .widget import TurnView

        return TurnView(actions=actions, publish=publish or publish_with_ipython, store=store, clock=clock)
    return DisplayView(publish=publish or publish_with_ipython, clock=clock)


def publish_with_ipython(data: Mapping[str, Json], *, display_id: str, update: bool) -> None:
    """Into the cell that the calling thread works for."""
    display: Any = import_module("IPython.display")
    # The metadata never changes while a display is updated: some frontends replace all outputs of the cell then.
    display.publish_display_data(dict(data), metadata={}, transient={"display_id": display_id}, update=update)


class QuietView:
    """Shows nothing while the turn runs."""

    def show(self, picture: TurnPicture) -> None:
        """Nothing to do."""

    def tick(self, *, now: bool = False) -> None:
        """Nothing to do."""

    def close(self, final: TurnPicture) -> None:
        """Nothing to do."""


class DisplayView:
    """One display that is updated in its place, for frontends without widgets; at the end it is emptied."""

    def __init__(self, *, publish: Publish = publish_with_ipython, clock: Callable[[], float] = time.monotonic) -> None:
        self._publish = publish
        self._display_id = f"lash-nb-{uuid.uuid4().hex}"
        self._displayed = False
        self._pace = Pace(self._draw, clock=clock)

    def show(self, picture: TurnPicture) -> None:
        self._pace.show(picture)

    def tick(self, *, now: bool = False) -> None:
        self._pace.tick(now=now)

    def close(self, final: TurnPicture) -> None:
        if self._pace.end(None) and self._displayed:
            self._publish(EMPTY_BUNDLE, display_id=self._display_id, update=True)

    def _draw(self, picture: TurnPicture, elapsed_s: float) -> None:
        bundle: dict[str, Json] = {
            "text/markdown": picture_markdown(picture),
            "text/plain": picture_text(picture),
        }
        self._publish(bundle, display_id=self._display_id, update=self._displayed)
        self._displayed = True
