"""A running turn on plain ipywidgets: steps, state in words, a clock, and a Stop button.

Rules of this file: importing it loads no ipywidgets; the Stop button's handler only calls the callback it was given and
sets a flag (it may run on any thread); no Output widget, which captures what is not meant for it. Each step is one HTML
widget and is sent only when it changed. At the end all widgets are closed and their place is emptied: a saved notebook
holds no view of a model that is gone. The bundle has a sentence for frontends that show no widgets.
"""

from __future__ import annotations

import html
import time
import uuid
from collections.abc import Callable
from typing import Any

from ..machine.picture import Note, StepPicture, TurnPicture
from ..machine.wire import Json
from . import EMPTY_BUNDLE, Publish
from .html import answer_html, footer_text, notes_html, step_html
from .pace import Pace
from .pieces import clean

__all__ = ["TurnView"]

_BEAT_S = 1.0
_FITTING = "width: 0; min-width: 100%"
_FALLBACK = (
    "lash_nb: this turn was running when this was saved, or its live view needs widgets. What came of it is shown at "
    "its end, and `lash-nb show` reads it from the file."
)
_VIEW = "application/vnd.jupyter.widget-view+json"

_Drawn = tuple[StepPicture, tuple[Note, ...], bool]


class TurnView:
    """The live view with widgets. Raises ImportError when ipywidgets is missing."""

    def __init__(
        self, *, on_stop: Callable[[], None], publish: Publish, clock: Callable[[], float] = time.monotonic
    ) -> None:
        import ipywidgets

        self._widgets: Any = ipywidgets
        self._on_stop, self._publish = on_stop, publish
        self._display_id = f"lash-nb-{uuid.uuid4().hex}"
        self._displayed = False
        self._stop_asked = False
        self._drawn: list[_Drawn] = []
        self.stop_button = ipywidgets.Button(
            description="Stop",
            icon="stop",
            tooltip="Stop this turn",
            layout={"width": "auto", "min_width": "5em", "flex": "0 0 auto"},
        )
        self.stop_button.on_click(self._stop_clicked)
        _answer_on_the_usual_thread(self.stop_button)
        self.state = ipywidgets.HTML()
        self.steps = ipywidgets.VBox()
        self.end = ipywidgets.HTML()
        self.bar = ipywidgets.HBox([self.stop_button, self.state])
        self.root = ipywidgets.VBox([self.bar, self.steps, self.end])
        self._pace = Pace(self._draw, clock=clock, beat_s=_BEAT_S)

    def show(self, picture: TurnPicture) -> None:
        self._pace.show(picture)

    def tick(self) -> None:
        self._pace.tick()

    def finish(self, final: TurnPicture) -> bool:
        """Draw the end, with nothing left to click; the widgets stay. False when it had ended before."""
        return self._pace.end(final)

    def close(self, final: TurnPicture) -> None:
        if self.root.comm is None:
            return
        # What was never shown must leave no empty output either.
        self._pace.end(final if self._displayed else None)
        if self._displayed:
            # Before the widgets: a frontend that finds the place of a closed model says that the model is missing.
            self._publish(EMPTY_BUNDLE, display_id=self._display_id, update=True)
        for widget in (self.root, self.bar, self.steps, self.end, self.state, self.stop_button, *self.steps.children):
            _close(widget)

    # -- drawing -------------------------------------------------------------------------------------------------------

    def _draw(self, picture: TurnPicture, elapsed_s: float) -> None:
        running = picture.goes_on
        self._draw_steps(picture, running=running)
        _set(self.state, "value", self._state_html(picture, elapsed_s if running else None))
        _set(self.end, "value", "" if running else _as_outputs(answer_html(picture)))
        _set(self.stop_button, "disabled", not running or self._stop_asked)
        if not self._displayed:
            self._displayed = True
            self._publish(self._bundle(), display_id=self._display_id, update=False)

    def _draw_steps(self, picture: TurnPicture, *, running: bool) -> None:
        wanted: list[_Drawn] = []
        for number, step in enumerate(picture.steps, start=1):
            notes = tuple(note for note in picture.notes if note.after == number or (number == 1 and note.after == 0))
            wanted.append((step, notes, running and number == len(picture.steps)))
        children = list(self.steps.children)
        for surplus in children[len(wanted) :]:
            _close(surplus)
        children = children[: len(wanted)]
        for index, drawn in enumerate(wanted):
            if index == len(children):
                children.append(self._widgets.HTML())
            before = self._drawn[index] if index < len(self._drawn) else None
            if before is None or before[0] is not drawn[0] or before[1:] != drawn[1:]:
                _set(children[index], "value", _step_html(drawn, index + 1))
        self._drawn = wanted
        if tuple(children) != tuple(self.steps.children):
            self.steps.children = tuple(children)

    def _state_html(self, picture: TurnPicture, elapsed_s: float | None) -> str:
        if elapsed_s is None:
            sentence, clock = footer_text(picture), ""
        else:
            sentence = "stopping" if self._stop_asked else clean(picture.sentence)
            # Outside of the live region: a screen reader is not to be told every second.
            clock = f' <span aria-hidden="true">· {int(elapsed_s)} s</span>'
        return f'<span role="status" aria-live="polite">{html.escape(sentence)}</span>{clock}'

    def _bundle(self) -> dict[str, Json]:
        view: dict[str, Json] = {"version_major": 2, "version_minor": 0, "model_id": self.root.model_id}
        return {_VIEW: view, "text/plain": _FALLBACK}

    # -- clicks --------------------------------------------------------------------------------------------------------

    def _stop_clicked(self, _button: object) -> None:
        self._stop_asked = True
        self._on_stop()


def _step_html(drawn: _Drawn, number: int) -> str:
    step, notes, running = drawn
    before = notes_html(notes, after=0) if number == 1 else ""
    return _as_outputs(before + step_html(step, number=number, running=running) + notes_html(notes, after=number))


def _as_outputs(markup: str) -> str:
    """With the typography of outputs, where frontends have that class: nothing jumps when the bundle takes over.

    The widths: as wide as the place, never as wide as what is in it.
    """
    return f'<div class="jp-RenderedHTMLCommon" style="{_FITTING}">{markup}</div>' if markup else ""


def _answer_on_the_usual_thread(widget: Any) -> None:
    """Let the frontend choose where clicks are handled.

    ipykernel 7.4 sends a click to the shell that last published on the widget's comm, which is the busy one of the cell
    that waits for the turn; clicks would come after it.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = lambda data, default: default


def _set(widget: Any, name: str, value: object) -> None:
    if getattr(widget, name) != value:
        setattr(widget, name, value)


def _close(widget: Any) -> None:
    for part in (getattr(widget, "layout", None), getattr(widget, "style", None), widget):
        if part is not None:
            part.close()
