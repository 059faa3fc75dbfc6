"""A running turn as one widget, drawn by `static/turn.js`: what is sent to it, and what it may ask for.

Rules of this file: importing it loads neither ipywidgets nor anywidget; what the frontend sends is checked like any
foreign data, may come on any thread, and only calls the actions; no Output widget, which captures what is not meant for
it. A drawing sends the difference to the one before, numbered. The whole document is a trait that never changes by
itself: whoever asks for the widget's state (a page that was loaded again, a frontend that missed a number) gets it as
it is then. At the end the widget is closed and its place emptied: a saved notebook holds no view of a model that is
gone. The bundle has a sentence for frontends that show no widgets.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from importlib.resources import files
from typing import Any

from ..machine.approvals import Approval, Decision
from ..machine.attachments import AttachmentStore
from ..machine.picture import NoteKind, TurnPicture
from ..machine.wire import Json
from . import EMPTY_BUNDLE, Publish, ViewActions
from .document import Document, Facts, Memo, document, variable_key
from .pace import Pace
from .patches import difference

__all__ = ["TurnView"]

_FALLBACK = (
    "lash_nb: this turn was running when this was saved, or its live view needs widgets. What came of it is shown at "
    "its end, and `lash-nb show` reads it from the file."
)
_VIEW = "application/vnd.jupyter.widget-view+json"
_MOST_SAID = 100_000
"""Characters of one thing that is said."""


class TurnView:
    """The live view with a widget. Raises ImportError when anywidget is missing."""

    def __init__(
        self,
        *,
        actions: ViewActions,
        publish: Publish,
        store: AttachmentStore | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make = _model_class()
        self._actions, self._publish, self._store = actions, publish, store
        self.drawn = False
        """Whether a frontend was seen to show it, so that its buttons are there."""
        self._display_id = f"lash-nb-{uuid.uuid4().hex}"
        self.model: Any = None
        """The widget; None before something was drawn and after the end."""
        # Reentrant: an action may tell how it went before it returns.
        self._lock = threading.RLock()
        self._memo: Memo = {}
        self._document: Document = {}
        self._number = 0
        self._stopping = False
        self._decided = ""
        self._said: list[tuple[str, int]] = []
        self._told: dict[str, str] = {}
        self._pace = Pace(self._draw, clock=clock)

    def show(self, picture: TurnPicture) -> None:
        self._pace.show(picture)

    def tick(self, *, now: bool = False) -> None:
        self._pace.tick(now=now)

    def finish(self, final: TurnPicture) -> bool:
        """Draw the end, with nothing left to click; the widget stays. False when it had ended before."""
        return self._pace.end(final)

    def close(self, final: TurnPicture) -> None:
        # What was never shown must leave no empty output either.
        self._pace.end(final if self.model is not None else None)
        with self._lock:
            model, self.model = self.model, None
        if model is None:
            return
        # Before the widget: a frontend that finds the place of a closed model says that the model is missing.
        self._publish(EMPTY_BUNDLE, display_id=self._display_id, update=True)
        model.layout.close()
        model.close()

    # -- drawing -------------------------------------------------------------------------------------------------------

    def _draw(self, picture: TurnPicture, _elapsed_s: float) -> None:
        drawn = document(picture, self._facts(picture), memo=self._memo)
        with self._lock:
            operations = difference(self._document, drawn)
            self._document = drawn
            if self.model is not None:
                if operations:
                    self._number += 1
                    self.model.send({"number": self._number, "operations": operations})
                return
            self.model = self._make(whole=self._whole, lock=self._lock)
            self.model.on_msg(self._heard)
            _answer_on_the_usual_thread(self.model)
        self._publish(self._bundle(), display_id=self._display_id, update=False)

    def _facts(self, picture: TurnPicture) -> Facts:
        with self._lock:
            waiting = tuple(text for text, before in self._said if _times_said(picture, text) <= before)
            return Facts(
                stopping=self._stopping,
                decided=self._decided,
                waiting=waiting,
                told=dict(self._told),
                can_decide=self._actions.decide is not None,
                can_say=self._actions.say is not None,
                can_insert=self._actions.insert is not None,
                can_pull=self._actions.pull is not None,
                store=self._store,
            )

    def _whole(self) -> Json:
        """The document as it is now: `[ID, FIELDS]` in order, the number of the last difference, the clock."""
        with self._lock:
            blocks: list[Json] = [[key, dict(fields)] for key, fields in self._document.items()]
            return {"number": self._number, "elapsed_s": round(self._pace.elapsed_s, 1), "blocks": blocks}

    def _bundle(self) -> dict[str, Json]:
        view: dict[str, Json] = {"version_major": 2, "version_minor": 0, "model_id": self.model.model_id}
        return {_VIEW: view, "text/plain": _FALLBACK}

    # -- what the frontend asks for ------------------------------------------------------------------------------------

    def _heard(self, model: Any, content: object, _buffers: object) -> None:
        """One message, whatever it is; what makes no sense (any more) is passed over."""
        if not isinstance(content, Mapping):
            return
        if content.get("do") == "whole":
            model.send_state("document")
            return
        if content.get("do") == "drawn":
            self.drawn = True
            return
        picture = self._pace.latest
        if picture is None or not picture.goes_on:
            return
        match content:
            case {"do": "stop"}:
                self._stopping = True
                self._actions.stop()
            case {"do": "say", "text": str(text)} if text.strip() and len(text) <= _MOST_SAID:
                self._say(picture, text.strip())
            case {"do": "decide", "approval": str(key)}:
                self._decide(picture.pending, key, content)
            case {"do": "insert", "step": int(number)}:
                self._insert(picture, number)
            case {"do": "pull", "variable": str(key)}:
                self._pull(picture, key)
            case _:
                return
        self._pace.renew()

    def _decide(self, asked: Approval | None, key: str, content: Mapping[str, object]) -> None:
        """Once: a second click on the same question changes nothing."""
        decision = _decision(asked, content)
        with self._lock:
            decide = self._actions.decide
            if decide is None or asked is None or decision is None or asked.id != key or self._decided == key:
                return
            self._decided = key
        if not decide(key, decision):
            self._undecided()

    def _undecided(self) -> None:
        """It came to nothing: the buttons, which a click switches off at once, are drawn anew."""
        with self._lock:
            self._decided = ""
            if self.model is not None:
                self._number += 1  # what a frontend has by this number it does not draw again
                self.model.send_state("document")

    def _say(self, picture: TurnPicture, text: str) -> None:
        if self._actions.say is not None:
            with self._lock:
                self._said.append((text, _times_said(picture, text)))
            self._actions.say(text)

    def _insert(self, picture: TurnPicture, number: int) -> None:
        insert = self._actions.insert
        code = picture.steps[number - 1].code if 0 < number <= len(picture.steps) else None
        if insert is not None and code is not None:
            insert(code, self._teller(f"s{number}.c"))

    def _pull(self, picture: TurnPicture, key: str) -> None:
        pull = self._actions.pull
        name = next((one.name for one in picture.variables if variable_key(one.name) == key), None)
        if pull is not None and name is not None:
            pull(name, self._teller(key))

    def _teller(self, key: str) -> Callable[[str], None]:
        def tell(sentence: str) -> None:
            with self._lock:
                self._told[key] = sentence
            self._pace.renew()

        return tell


def _decision(asked: Approval | None, content: Mapping[str, object]) -> Decision | None:
    """What was decided; None: it is none, or none that fits the question."""
    match content:
        case {"verdict": "approved"}:
            return Decision.approve(alike=content.get("alike") is True and asked is not None and asked.wish is not None)
        case {"verdict": "rejected"}:
            why = content.get("why")
            return Decision.reject(why.strip() if isinstance(why, str) else "")
        case {"verdict": "edited", "code": str(code)} if asked is not None and asked.wish is None and code.strip():
            if code == asked.code:
                return Decision.approve()
            return Decision.edit(code)
        case _:
            return None


def _times_said(picture: TurnPicture, text: str) -> int:
    wanted = text.strip()
    return sum(note.kind is NoteKind.SAID and note.text.strip() == wanted for note in picture.notes)


@cache
def _model_class() -> Callable[..., Any]:
    """The widget's class: its frontend is read from the package, once."""
    anywidget: Any = import_module("anywidget")
    traitlets: Any = import_module("traitlets")

    def __init__(self: Any, *, whole: Callable[[], Json], lock: threading.RLock) -> None:
        self._whole, self._sending = whole, lock
        anywidget.AnyWidget.__init__(self)

    def send_state(self: Any, key: object = None) -> None:
        # In one go with its number: a difference must not overtake the document that it comes after.
        with self._sending:
            anywidget.AnyWidget.send_state(self, key)

    body = {
        "__init__": __init__,
        "__module__": __name__,
        "_css": _static("turn.css"),
        "_esm": _static("turn.js"),
        "document": traitlets.Any().tag(sync=True, to_json=lambda _value, model: model._whole()),
        "send_state": send_state,
    }
    made: Callable[..., Any] = type("TurnModel", (anywidget.AnyWidget,), body)
    return made


def _static(name: str) -> str:
    return (files(__package__) / "static" / name).read_text(encoding="utf-8")


def _answer_on_the_usual_thread(widget: Any) -> None:
    """Let the frontend choose where clicks are handled.

    ipykernel 7.4 sends a click to the shell that last published on the widget's comm, which is the busy one of the cell
    that waits for the turn; clicks would come after it.
    """
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = lambda data, default: default
